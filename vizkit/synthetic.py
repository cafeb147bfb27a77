"""The embedded default: small generated scenes whose every factor is known.

A scene is a sheet of patterned paper with one shape cut out of another patterned paper, and a few confetti chips strewn
over both. The shape is the label. Everything else is drawn without looking at it: hue, texture, size, rotation, place,
background and light. Object and background share one lightness, one contrast and one saturation in every scene, are
patterned from the same six textures, and have edges of the same sharpness, so that nothing but the outline gives the
object away and a map of saturation, edges or the centre does not find it.

The factors are read from a committed table and are exact; the pixels are drawn when asked for, and may differ by a
level or two between versions of Pillow and numpy.
"""

import hashlib
import json
import math
import operator
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .errors import InputError, closest
from .images import ImageSet

RENDERER = 1  # raise it when the same factors give other pixels: it is part of every scene's fingerprint
SCENE_SIZE = 64  # pixels a side
SCENE_MEAN = (0.5, 0.5, 0.5)  # of RGB in [0, 1], what the scenes network was trained with
SCENE_STD = (0.25, 0.25, 0.25)

SHAPES = ("arrow", "bolt", "crescent", "cross", "disc", "heart", "ring", "square", "star", "triangle")
TEXTURES = ("blobs", "checks", "dots", "stripes", "waves", "zigzag")
SPLITS = ("train", "held-out")

_SUPERSAMPLING = 4
_N_CHIPS = 7


class _Range(NamedTuple):
    low: float
    high: float
    meaning: str


RANGES: Mapping[str, _Range] = {
    "hue": _Range(0, 1, "hue of the object on the OKLCH circle, in turns"),
    "texture_scale": _Range(4, 16, "period of the object's texture, in pixels"),
    "texture_angle": _Range(0, 360, "direction of the object's texture, in degrees"),
    "size": _Range(0.1, 0.9, "side of a square of the object's area, as a share of the image's side"),
    "rotation": _Range(-360, 360, "of the object, in degrees, counter-clockwise"),
    "x": _Range(0, 1, "of the object's centroid from the left, as a share of the image's side"),
    "y": _Range(0, 1, "of the object's centroid from the top, as a share of the image's side"),
    "background_hue": _Range(0, 1, "hue of the background on the OKLCH circle, in turns"),
    "background_scale": _Range(4, 16, "period of the background's texture, in pixels"),
    "background_angle": _Range(0, 360, "direction of the background's texture, in degrees"),
    "lighting": _Range(0.3, 1.3, "brightness of the light on the whole scene; 1 leaves colors as they are"),
    "light_angle": _Range(0, 360, "direction the light comes from, in degrees"),
    "lightness": _Range(0.5, 0.85, "mean OKLCH lightness of both papers"),
    "contrast": _Range(0, 0.3, "difference of OKLCH lightness between the two tones of both papers"),
}
_CHOICES: Mapping[str, tuple[str, ...]] = {"shape": SHAPES, "texture": TEXTURES, "background": TEXTURES}
FACTORS = ("shape", "hue", "texture", "size", "rotation", "x", "y", "background", "background_hue", "lighting")
_DETAILS = ("texture_scale", "texture_angle", "background_scale", "background_angle", "light_angle", "lightness")
COLUMNS = (*FACTORS, *_DETAILS, "contrast", "seed")


def data_file(name: str) -> Path:
    """Find a file of the embedded default, in an installed package or in a checkout.

    Parameters
    ----------
    name
        File name, such as ``"scenes.parquet"``.

    Raises
    ------
    InputError
        There is no such file in either place.
    """
    here = Path(__file__).resolve().parent
    folders = (here / "data", here.parent / "data")
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise InputError(
        f"the embedded default has no file {name!r} (looked in {folders[0]} and {folders[1]}); "
        "reinstall vizkit, or run `make scenes` in a checkout to build it"
    )


def scenes(split: str | None = None) -> "Scenes":
    """Return the embedded default: 3,000 generated scenes of ten shapes, with factors, masks and boxes.

    Parameters
    ----------
    split
        ``"train"``: 1,000 of the scenes that the network of ``Encoder("scenes")`` was trained on;
        ``"held-out"``: 2,000 that it never saw; None: both, in this order.

    Raises
    ------
    InputError
        There is no such split.

    Examples
    --------
    >>> images = scenes("held-out")
    >>> images.frame.loc["held-out/0000", "shape"] in SHAPES
    True
    """
    if split is not None and split not in SPLITS:
        raise InputError(f"there is no split {split!r}; choose 'train', 'held-out' or None for both")
    table = pd.read_parquet(data_file("scenes.parquet"))
    return Scenes(table if split is None else table[table["split"] == split])


class Scenes(ImageSet):
    """Generated scenes: an ImageSet that also knows where the object is, and can draw a scene again with a change.

    Parameters
    ----------
    table
        One row a scene, indexed by id, with the columns of `COLUMNS`; further columns are kept.

    Raises
    ------
    InputError
        A column is missing.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        missing = [name for name in COLUMNS if name not in table.columns]
        if missing:
            raise InputError(f"a table of scenes needs the columns {', '.join(COLUMNS)}; missing: {', '.join(missing)}")
        frame = table.rename_axis("id")
        rest = [name for name in frame.columns if name not in ("path", "label")]
        frame = frame[rest]
        frame.insert(0, "path", pd.Series([None] * len(frame), index=frame.index, dtype=object))
        frame.insert(1, "label", frame["shape"])
        self._factors: list[dict[str, Any]] = frame[list(COLUMNS)].to_dict("records")
        super().__init__(
            [str(id) for id in frame.index],
            frame,
            lambda row: draw(self.factors(row)),
            fingerprint=lambda row: scene_fingerprint(self.factors(row)),
        )

    def factors(self, row: int) -> dict[str, Any]:
        """Return everything that defines one scene, by name.

        Parameters
        ----------
        row
            Position in the set.

        Raises
        ------
        InputError
            There is no such row.
        """
        try:
            position = operator.index(row)
        except TypeError:
            raise InputError(
                f"a scene is named by its row, an integer; got {row!r}. For an id, use images.row(id)"
            ) from None
        if not -len(self._factors) <= position < len(self._factors):
            raise InputError(f"there is no row {row}: the set has {len(self._factors)} scenes")
        return dict(self._factors[position])

    def render(self, row: int, **changes: Any) -> Image.Image:
        """Draw one scene again, with some of its factors changed and the rest as they were.

        Parameters
        ----------
        row
            Position in the set.
        **changes
            New values of factors, such as ``background_hue=0.3`` or ``shape="star"``. In the table the two hues are at
            least 0.2 turns apart; closer ones are drawn as asked and make the object hard to see.

        Returns
        -------
        PIL.Image.Image
            RGB, 64 x 64 pixels.

        Raises
        ------
        InputError
            There is no such row or factor, or the factor cannot have that value.
        """
        return draw(self.factors(row) | changes)

    def mask(self, row: int, **changes: Any) -> NDArray[np.bool_]:
        """Return where the object is: the pixels of which it covers at least half.

        Parameters
        ----------
        row
            Position in the set.
        **changes
            New values of factors, as in `render`.

        Returns
        -------
        NDArray[np.bool_]
            (64, 64), rows from the top.
        """
        factors = self.factors(row) | changes
        check(factors)
        return _coverage(factors) >= 0.5

    def box(self, row: int, **changes: Any) -> tuple[int, int, int, int]:
        """Return the smallest box around the object's mask.

        Parameters
        ----------
        row
            Position in the set.
        **changes
            New values of factors, as in `render`.

        Returns
        -------
        tuple[int, int, int, int]
            Left, top, right, bottom in pixels; right and bottom are just outside the mask, as in PIL.
        """
        mask = self.mask(row, **changes)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not rows.size:
            return (0, 0, 0, 0)
        return (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def scene_fingerprint(factors: Mapping[str, Any]) -> str:
    """Return the hex SHA-256 of what defines a scene: its factors and the renderer's version."""
    plain = {name: value if isinstance(value, str) else float(value) for name, value in factors.items()}
    text = json.dumps({"renderer": RENDERER, **plain}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def check(factors: Mapping[str, Any]) -> None:
    """Raise an InputError if a factor is unknown or has a value that cannot be drawn."""
    for name, value in factors.items():
        if name in _CHOICES:
            if value not in _CHOICES[name]:
                raise InputError(f"{name} cannot be {value!r}; choose one of {', '.join(_CHOICES[name])}")
        elif name in RANGES:
            low, high, meaning = RANGES[name]
            number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
            if not (number and low <= value <= high):
                raise InputError(f"{name} cannot be {value!r}; give a number from {low} to {high} ({meaning})")
        elif name == "seed":
            if not isinstance(value, int | np.integer) or isinstance(value, bool) or not 0 <= value < 2**32:
                raise InputError(f"seed cannot be {value!r}; give an integer from 0 to 2**32 - 1")
        else:
            raise InputError(
                f"a scene has no factor {name!r}; it has {', '.join(COLUMNS)}.{closest(name, COLUMNS)}"
            )


def draw(factors: Mapping[str, Any]) -> Image.Image:
    """Draw a scene from its factors.

    Parameters
    ----------
    factors
        A value for each of `COLUMNS`.

    Returns
    -------
    PIL.Image.Image
        RGB, 64 x 64 pixels.

    Raises
    ------
    InputError
        A factor is unknown or has a value that cannot be drawn.
    """
    check(factors)
    # Four independent streams, so that changing what one part needs cannot move another part.
    chance = _uniform(int(factors["seed"]), 4096 + 64)
    papers = []
    for part, start in (("background", 0), ("texture", 16)):
        hue = factors["background_hue" if part == "background" else "hue"]
        pattern = _PATTERNS[factors[part]](*_grid(factors, part, chance[start : start + 2]), chance[start + 2 : start + 14])
        low, high = _tones(hue, factors["lightness"], factors["contrast"])
        papers.append(low + (high - low) * pattern[..., None])
    image = papers[0] + (papers[1] - papers[0]) * _coverage(factors)[..., None]
    image = _strew_chips(image, int(factors["seed"]) ^ 0x5EED)
    grain = 1 + 0.03 * (chance[64:].reshape(SCENE_SIZE, SCENE_SIZE) - 0.5)
    angle = math.radians(factors["light_angle"])
    slope = math.cos(angle) * _XX - math.sin(angle) * _YY
    light = factors["lighting"] * (1 + 0.16 * slope) * grain
    pixels = np.clip(image * light[..., None], 0, 1)
    return Image.fromarray((pixels * 255 + 0.5).astype(np.uint8))


# --------------------------------------------------------------------------- parts
_XX, _YY = np.meshgrid((np.arange(SCENE_SIZE) + 0.5) / SCENE_SIZE - 0.5, (np.arange(SCENE_SIZE) + 0.5) / SCENE_SIZE - 0.5)


def _uniform(seed: int, n: int) -> NDArray[np.float64]:
    """Return n numbers in [0, 1) that are the same in every version of numpy (SplitMix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)) * 2.0**-53


def oklch_to_srgb(lightness: Any, chroma: Any, hue: Any) -> NDArray[np.float64]:
    """Turn OKLCH colors (hue in turns) into sRGB in [0, 1], clipped; Ottosson, "A perceptual color space", 2020."""
    lightness, chroma, hue = np.broadcast_arrays(*(np.asarray(v, float) for v in (lightness, chroma, hue)))
    lab = np.stack([lightness, chroma * np.cos(2 * np.pi * hue), chroma * np.sin(2 * np.pi * hue)], -1)
    linear = ((lab @ _LAB_TO_LMS.T) ** 3) @ _LMS_TO_RGB.T
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


_LAB_TO_LMS = np.array(
    [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
)
_LMS_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)
_CHROMA = 0.1


def _tones(hue: float, lightness: float, contrast: float) -> NDArray[np.float64]:
    """Return the dark and the light tone of a paper, (2, 3) sRGB."""
    return oklch_to_srgb([lightness - contrast / 2, lightness + contrast / 2], _CHROMA, hue)


def _grid(
    factors: Mapping[str, Any], part: str, phase: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return pixel coordinates turned into the texture's frame, in periods, and the period in pixels."""
    period = factors[f"{part}_scale"]
    angle = math.radians(factors[f"{part}_angle"])
    cos, sin = math.cos(angle) * SCENE_SIZE / period, math.sin(angle) * SCENE_SIZE / period
    return cos * _XX + sin * _YY + phase[0], -sin * _XX + cos * _YY + phase[1], period


def _edge(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn a signed distance in pixels into coverage: one pixel wide, as sharp as the outline of the object."""
    return np.clip(distance + 0.5, 0, 1)


def _band(u: NDArray[np.float64], pixels: float) -> NDArray[np.float64]:
    """Return coverage of bands that fill half of every period of u."""
    return _edge((0.25 - np.abs(u - np.floor(u) - 0.5)) * pixels)


def _stripes(u: Any, v: Any, period: float, _: Any) -> NDArray[np.float64]:
    return _band(u, period)


def _checks(u: Any, v: Any, period: float, _: Any) -> NDArray[np.float64]:
    # Two bands to a square: the squares are half a period wide, so a longer period keeps them visible.
    a, b = _band(u / 1.5, 1.5 * period), _band(v / 1.5, 1.5 * period)
    return a + b - 2 * a * b


def _dots(u: Any, v: Any, period: float, _: Any) -> NDArray[np.float64]:
    radius = math.sqrt(0.5 / math.pi)  # half of the paper is dots
    u = u + 0.5 * (np.floor(v) % 2)
    return _edge((radius - np.hypot(u - np.floor(u) - 0.5, v - np.floor(v) - 0.5)) * period)


def _waves(u: Any, v: Any, period: float, _: Any) -> NDArray[np.float64]:
    return _band(u + 0.3 * np.sin(np.pi * v), period)


def _zigzag(u: Any, v: Any, period: float, _: Any) -> NDArray[np.float64]:
    # A chevron of slope 1 narrows the bands by sqrt(2) across.
    return _band(u + np.abs(v / 2 - np.floor(v / 2) - 0.5) * 2, period / math.sqrt(2))


def _blobs(u: Any, v: Any, period: float, chance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Threshold a sum of six plane waves at zero: blots that fill half of the paper."""
    total, slope_u, slope_v = (np.zeros_like(u) for _ in range(3))
    for k in range(6):
        angle = math.pi * (k + chance[k]) / 6
        cu, cv = 2 * math.pi * 0.7 * math.cos(angle), 2 * math.pi * 0.7 * math.sin(angle)
        wave = cu * u + cv * v + 2 * math.pi * chance[6 + k]
        sine = np.sin(wave)
        total += np.cos(wave)
        slope_u -= cu * sine
        slope_v -= cv * sine
    return _edge(total / np.maximum(np.hypot(slope_u, slope_v), 1e-6) * period)


_PATTERNS: Mapping[str, Callable[..., NDArray[np.float64]]] = {
    "blobs": _blobs,
    "checks": _checks,
    "dots": _dots,
    "stripes": _stripes,
    "waves": _waves,
    "zigzag": _zigzag,
}


def _arc(radius: float, start: float, stop: float, n: int = 48) -> NDArray[np.float64]:
    angle = np.radians(np.linspace(start, stop, n))
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def _outline(shape: str) -> NDArray[np.float64]:
    """Return a family's outline in coordinates of its own, y down; the ring's hole is its second half, run backwards."""
    if shape == "disc":
        return _arc(1, 0, 360)
    if shape == "ring":
        return np.concatenate([_arc(1, 0, 360), _arc(0.58, 360, 0)])
    if shape == "crescent":
        # The outer circle around 0 and a smaller one shifted to the right, cut where they meet.
        shift, inner = 0.45, 0.8
        x = (1 - inner**2 + shift**2) / (2 * shift)
        outer = math.degrees(math.acos(x))
        inside = math.degrees(math.atan2(math.sqrt(1 - x * x), x - shift))
        return np.concatenate([_arc(1, outer, 360 - outer), _arc(inner, 360 - inside, inside) + [shift, 0]])
    if shape == "heart":
        t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        return np.stack([16 * np.sin(t) ** 3, -y], axis=-1)
    if shape == "star":
        radius = np.where(np.arange(10) % 2, 0.42, 1.0)[:, None]
        return radius * _arc(1, -90, 234, 10)
    if shape == "triangle":
        return _arc(1, -90, 150, 3)
    if shape == "square":
        return _arc(1, -45, 225, 4)
    corners = {
        "cross": [(1, 3), (-1, 3), (-1, 1), (-3, 1), (-3, -1), (-1, -1), (-1, -3), (1, -3), (1, -1), (3, -1), (3, 1), (1, 1)],
        "arrow": [(0, -3.2), (2.6, 0), (1, 0), (1, 3), (-1, 3), (-1, 0), (-2.6, 0)],
        "bolt": [(1.2, -3.6), (-1.9, 0.5), (-0.1, 0.5), (-1.2, 3.6), (1.9, -0.7), (0.1, -0.7)],
    }
    return np.array(corners[shape], float)


def _normalized(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move a polygon's centroid to zero and scale its area to one, so that size says nothing about the shape."""
    x, y = points.T
    cross = x * np.roll(y, -1) - np.roll(x, -1) * y
    area = cross.sum() / 2
    center = np.array([((x + np.roll(x, -1)) * cross).sum(), ((y + np.roll(y, -1)) * cross).sum()]) / (6 * area)
    return (points - center) / math.sqrt(abs(area))


_OUTLINES = {shape: _normalized(_outline(shape)) for shape in SHAPES}


def outline(factors: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the corners of a scene's object, (n, 2) x and y as shares of the image's side, y down."""
    angle = math.radians(factors["rotation"])
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return _OUTLINES[factors["shape"]] @ turn * factors["size"] + [factors["x"], factors["y"]]


def _fill(polygons: list[NDArray[np.float64]], values: list[int]) -> NDArray[np.float32]:
    """Return how much of each pixel the polygons cover, (64, 64) in [0, 1]; later polygons paint over earlier ones."""
    canvas = Image.new("L", (SCENE_SIZE * _SUPERSAMPLING,) * 2)
    pen = ImageDraw.Draw(canvas)
    for points, value in zip(polygons, values, strict=True):
        # Pillow's coordinates name the middle of a pixel.
        pen.polygon((points * SCENE_SIZE * _SUPERSAMPLING - 0.5).ravel().tolist(), fill=value)
    return np.asarray(canvas.reduce(_SUPERSAMPLING), np.float32) / 255


def _coverage(factors: Mapping[str, Any]) -> NDArray[np.float32]:
    """Return how much of each pixel the object covers, (64, 64) in [0, 1]."""
    points = outline(factors)
    if factors["shape"] == "ring":
        half = len(points) // 2
        return _fill([points[:half], points[half:]], [255, 0])
    return _fill([points], [255])


def _strew_chips(image: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Lay small chips of saturated paper anywhere on the scene, object and background alike."""
    chance = _uniform(seed, _N_CHIPS * 12).reshape(_N_CHIPS, 12)
    for place in chance:
        n = 3 + int(place[0] * 3)
        angle = 2 * np.pi * (np.arange(n) + 0.5 * place[6 : 6 + n]) / n + 2 * np.pi * place[1]
        radius = (1.6 + 1.2 * place[2]) / SCENE_SIZE
        points = np.stack([np.cos(angle), np.sin(angle)], -1) * radius + place[3:5]
        color = oklch_to_srgb(0.62 + 0.2 * round(place[11]), 0.16, place[5])
        image = image + (color - image) * _fill([points], [255])[..., None]
    return image
