"""What a preprocess does, measured on drawn images: to colors, and to sizes. So it is known for any callable."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PRIMARIES = ("red", "green", "blue")
_DARK = 64  # of 255; not the middle, where a curve that is symmetric about it would pass for a straight line
_SIZES = ((360, 480), (480, 360))  # (h, w) of drawn images: both shapes, and larger than most networks want
_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow and torchvision make gray
_ALIKE = 0.02  # how far a channel's share of red, green or blue may be from 0, 1 or another channel's


@dataclass(frozen=True)
class Colors:
    """What a preprocess makes of colors, measured on images of one color.

    Attributes
    ----------
    shares
        For each input channel how much of red, green and blue it holds, or None: ((1, 0, 0), ...) for RGB.
    mean, std
        One a channel: value in [0, 1] = input * std + mean. None where this is not what the preprocess does.
    range
        Lowest and highest input that black and white give, over the channels; or None.
    reason
        Why something is None, in words; else "".
    """

    shares: tuple[tuple[float, ...], ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    range: tuple[float, float] | None = None
    reason: str = ""

    @property
    def channels(self) -> tuple[int, ...] | None:
        """Where each input channel is one of red (0), green (1), blue (2), none twice: which; else None."""
        if self.shares is None or len(self.shares) != 3:
            return None
        found = tuple(int(np.argmax(row)) for row in self.shares)
        pure = np.allclose(self.shares, np.eye(3)[list(found)], atol=_ALIKE)
        return found if pure and len(set(found)) == 3 else None

    @property
    def order(self) -> str | None:
        """The order in words, "red, green, blue" for example, or "gray in three channels"; None if there is none."""
        if self.channels is not None:
            return ", ".join(_PRIMARIES[c] for c in self.channels)
        if self.shares is None or not np.allclose(self.shares, self.shares[0], atol=_ALIKE):
            return None
        return {1: "gray in one channel", 3: "gray in three channels"}.get(len(self.shares))


def measured_colors(preprocess: Any) -> Colors:
    """Measure what a preprocess makes of colors, at the middle of its output; never raises for what it does.

    Costs seven calls. Black and white give mean, standard deviation and range, a dark gray shows whether the way
    between them is straight, red, green and blue show what each channel holds, and a gray square on a darker ground
    whether a value depends on the rest of the image.
    """
    plain = [(0, 0, 0), (255, 255, 255), (_DARK,) * 3, (255, 0, 0), (0, 255, 0), (0, 0, 255)]
    try:
        images = [*(np.full((*_SIZES[0], 3), rgb, np.uint8) for rgb in plain), _square_on_darker_ground()]
        values = np.stack([_middle(_run(preprocess, image)) for image in images])
    except Exception as error:  # a user's callable may raise anything, and one that does is only not known
        return Colors(reason=f"it fails on an image of one color ({type(error).__name__})")
    black, white, dark, *pure, among_others = values
    if not np.isfinite(values).all():
        return Colors(reason="an image of one color gives values that are no numbers")
    spread = white - black
    if (np.abs(spread) <= 1e-5 * np.maximum(np.abs(white), 1e-3)).any():
        return Colors(reason="black and white give the same values, as when each image is standardized by itself")
    shares = tuple(tuple(float(s) for s in row) for row in ((np.array(pure) - black) / spread).T)
    span = (float(min(black.min(), white.min())), float(max(black.max(), white.max())))
    measured = Colors(shares, range=span)
    if (np.abs(dark - black - spread * _DARK / 255) > 2e-3 * np.abs(spread)).any():
        return replace(measured, reason="the way from black to white is no straight line")
    low, high = black + spread * (_DARK - 3) / 255, black + spread * (_DARK + 35) / 255
    if ((among_others - low) * (among_others - high) > 0).any():
        return replace(measured, range=None, reason="a pixel's value depends on the rest of the image")
    if measured.order is None:
        return replace(measured, reason="channels mix colors")
    # Adding 0 turns -0.0 into 0.0, which is what a reader of the card expects.
    mean = np.round(-black / spread, 7) + 0.0
    return replace(measured, mean=tuple(mean.tolist()), std=tuple((1 / spread).tolist()))


def picture(values: "NDArray[np.float32]", colors: Colors | None) -> "NDArray[np.uint8]":
    """Return a network's input (c, h, w) as a picture (h, w, 3) uint8 RGB.

    By the mean, standard deviation and channel order of `colors`; where they are not known, values outside [0, 1] are
    stretched to it.
    """
    if colors is not None and colors.mean is not None and colors.std is not None:
        values = values * np.reshape(colors.std, (-1, 1, 1)) + np.reshape(colors.mean, (-1, 1, 1))
        if colors.channels is not None:
            values = values[np.argsort(colors.channels)]
    elif values.min() < 0 or values.max() > 1:
        values = (values - values.min()) / max(float(np.ptp(values)), 1e-12)
    values = np.repeat(values, 3, axis=0) if len(values) == 1 else values[:3]
    return (values.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)


def _run(preprocess: Any, pixels: "NDArray[np.uint8]") -> "NDArray[np.float32]":
    """Return what a preprocess makes of an image (h, w, 3), as (c, h, w); a plain image may make it warn."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensor = preprocess(Image.fromarray(np.ascontiguousarray(pixels)))
    values = tensor.detach().cpu().float().numpy()
    if values.ndim != 3:
        raise ValueError(f"expected (c, h, w), not {values.shape}")
    return values


def _middle(values: "NDArray[np.float32]") -> "NDArray[np.float64]":
    """Return the pixel in the middle (c,): a crop of a small image is padded at its borders."""
    return values[:, values.shape[1] // 2, values.shape[2] // 2].astype(np.float64)


def _square_on_darker_ground() -> "NDArray[np.uint8]":
    h, w = _SIZES[0]
    pixels = np.full((h, w, 3), _DARK, np.uint8)
    pixels[h // 3 : -h // 3, w // 3 : -w // 3] = _DARK + 32
    return pixels


def measured_sizes(preprocess: Any, colors: Colors) -> tuple[str, str]:
    """Measure resize and crop, in words; never raises for what a preprocess does.

    On ramps, red from left to right and green from top to bottom, in both orientations, a level says where in the image
    a pixel came from. Right to the pixel where levels are measured to a few thousandths; "not known" where the output
    is no even part of the image (padded, turned, mirrored, bent, not from the middle) or colors are not known.
    """
    unknown = ("not known", "not known")
    try:
        ramps = [_run(preprocess, _ramps(h, w)) for h, w in _SIZES]
    except Exception:  # as for colors: a callable that raises is only not known
        return unknown
    wide, tall = (_extent(values, colors) for values in ramps)
    if wide is None or tall is None or ramps[0].shape != ramps[1].shape:
        return unknown
    out = ramps[0].shape[1:]
    whole = False
    if _near(wide, tall):
        whole = _near(wide, out)
        h, w = out if whole else (round((a + b) / 2) for a, b in zip(wide, tall, strict=True))
        resize = f"squashed to {h} x {w} pixels"
    elif _near(wide, _SIZES[0]) and _near(tall, _SIZES[1]):
        resize = "none"
    elif _near(wide, tall[::-1]) and _near(wide, (wide[0], wide[0] * _SIZES[0][1] / _SIZES[0][0])):
        resize = f"{round((wide[0] + tall[1]) / 2)} pixels"
    else:
        return unknown
    crop = "none" if whole else f"{out[0]} pixels" if out[0] == out[1] else f"{out[0]} x {out[1]} pixels"
    return f"{resize} (measured)", f"{crop} (measured)"


def _ramps(h: int, w: int) -> "NDArray[np.uint8]":
    y, x = np.mgrid[0:h, 0:w]
    # Rounded up or down in turn: rounding to nearest beats with the output's grid, which cost up to 1 pixel in 256.
    turn = (0.7549 * x + 0.5698 * y) % 1
    ramps = [(x + 0.5) * 255 / w, (y + 0.5) * 255 / h, 0 * x]
    return np.stack([np.floor(ramp + turn) for ramp in ramps], axis=2).clip(0, 255).astype(np.uint8)


def _extent(values: "NDArray[np.float32]", colors: Colors) -> tuple[float, float] | None:
    """Return height and width of the resized image that the middle of which was cut out, in pixels of the output.

    None where the output is not such a part: turned, mirrored, padded, bent, or not from the middle.
    """
    if colors.mean is None or colors.std is None or colors.shares is None or not np.isfinite(values).all():
        return None
    shares = np.array(colors.shares)
    if np.allclose(shares, _LUMA, atol=2 / 255):
        shares[:] = _LUMA  # 8-bit gray gives them to 1% only
    _, h, w = values.shape
    y, x = np.mgrid[0:h, 0:w] - np.reshape([(h - 1) / 2, (w - 1) / 2], (2, 1, 1))
    inner = (np.abs(y) < 0.45 * h) & (np.abs(x) < 0.45 * w)  # a filter that meets the border bends the ramp there
    terms = np.stack([np.ones(inner.sum()), y[inner], x[inner]], axis=1)
    steps = np.empty((len(values), 2))
    for c, channel in enumerate(values):
        level = channel[inner] * colors.std[c] + colors.mean[c]
        fit, *_ = np.linalg.lstsq(terms, level, rcond=None)
        if np.abs(terms @ fit - level).max() > 0.02 or abs(fit[0] - shares[c, :2].sum() / 2) > 0.5 / min(h, w) + 0.004:
            return None
        steps[c] = fit[1:]
    # Each channel rises by its share of green / height downwards, and by its share of red / width to the right.
    rise = [steps[shares[:, k].argmax(), axis] / shares[:, k].max() for axis, k in ((0, 1), (1, 0))]
    if min(rise) <= 0 or np.abs(steps - shares[:, [1, 0]] * rise).max() * max(h, w) > 0.02:
        return None
    return 1 / rise[0], 1 / rise[1]


def _near(a: Sequence[float], b: Sequence[float]) -> bool:
    # A resize that keeps proportions rounds the longer side to a whole pixel.
    return all(abs(x - y) <= max(1.5, 0.005 * y) for x, y in zip(a, b, strict=True))
