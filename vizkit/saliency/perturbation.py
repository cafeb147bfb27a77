"""Methods that hide parts of an image and see what the number loses."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..errors import InputError
from .spatial import FORWARD
from .targets import Map, Target, plain_image

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Occlusion:
    """Occlusion with a window of another size: give it as `method=`.

    Attributes
    ----------
    window
        Side of the window that is painted over, in cells, 1 to `grid`.
    grid
        Cells a side, at most; windows move by one cell.

    Raises
    ------
    InputError
        A number is not whole or out of range.
    """

    name: ClassVar[str] = "occlusion"
    window: int = 2
    grid: int = 8

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", _whole("grid", self.grid, 2, 64))
        object.__setattr__(self, "window", _whole("window", self.window, 1, self.grid))

    def images(self, h: int, w: int) -> int:
        """Return how many images go through the network, all in all, for one of h x w pixels."""
        windows = 1
        for side in (h, w):
            cells = min(self.grid, side)
            windows *= cells - min(self.window, cells) + 1
        return windows + 1


@dataclass(frozen=True)
class MultiscaleOcclusion:
    """Occlusion with windows of several sizes, with other sizes: give it as `method=`.

    Attributes
    ----------
    windows
        Sides of the windows, in cells, each from 1 to `grid` and given once; two or more, in any order.
    grid
        Cells a side; windows move by one cell.

    Raises
    ------
    InputError
        A number is not whole or out of range, or there is one window only.
    """

    name: ClassVar[str] = "multiscale_occlusion"
    windows: tuple[int, ...] = (2, 4)
    grid: int = 8

    def __post_init__(self) -> None:
        sizes = [s.window for s in self.scales()] if isinstance(self.windows, tuple) else []
        if len(sizes) < 2 or len(set(sizes)) < len(sizes):
            raise InputError(
                f"windows must be a tuple of two or more sizes, each once, not {self.windows!r}; or use Occlusion."
            )
        # The order says nothing, so one method has one form.
        object.__setattr__(self, "windows", tuple(sorted(sizes)))
        object.__setattr__(self, "grid", int(self.grid))

    def scales(self) -> list[Occlusion]:
        """Return the occlusions it is made of."""
        return [Occlusion(window, self.grid) for window in self.windows]

    def images(self, h: int, w: int) -> int:
        """Return how many images go through the network, all in all, for one of h x w pixels."""
        return sum(scale.images(h, w) for scale in self.scales())


def occlusion(target: Target, x: "Tensor", form: Occlusion) -> Map:
    """Return how much the number drops when windows are painted in the mean color, averaged over those on a cell.

    Zeiler and Fergus 2014 (section 4.2), one value a cell. Captum's Occlusion moves windows by a whole number of
    pixels, so that its cells are uneven where the side is no multiple of the grid; here borders are rounded to pixels.
    """
    import torch

    rows, columns = (_borders(side, form.grid) for side in x.shape[2:])
    height, width = (min(form.window, len(borders) - 1) for borders in (rows, columns))
    windows = list(np.ndindex(len(rows) - height, len(columns) - width))
    plain, drops = plain_image(x), []
    with torch.no_grad():
        whole = target.value(x).double()
        for start in range(0, len(windows), FORWARD):
            some = windows[start : start + FORWARD]
            batch = x.repeat(len(some), 1, 1, 1)
            for image, (i, j) in zip(batch, some, strict=True):
                here = (slice(None), slice(rows[i], rows[i + height]), slice(columns[j], columns[j + width]))
                image[here] = plain[0][here]
            drops.append((whole - target.value(batch).double()).cpu().numpy())
    total, covered = np.zeros((2, len(rows) - 1, len(columns) - 1))
    for drop, (i, j) in zip(np.concatenate(drops), windows, strict=True):
        total[i : i + height, j : j + width] += drop
        covered[i : i + height, j : j + width] += 1
    return Map((total / covered).astype(np.float32))


def _borders(side: int, grid: int) -> list[int]:
    """Return where cells begin and end, in pixels: even but for rounding, and none empty."""
    return np.linspace(0, side, min(grid, side) + 1).round().astype(int).tolist()


def multiscale_occlusion(target: Target, x: "Tensor", form: MultiscaleOcclusion) -> Map:
    """Return the drop that every window size agrees on: the smallest in size where all have one sign, else 0.

    A small window alone is noisy, a large one smears over what lies beside. On 50 planted pairs (tests/benchmarks) the
    share of the map on the planted part was that of windows of 2 alone (MobileNetV2 0.65 and 0.65, scenes 0.43 and
    0.42); on the scenes it stood further above random weights (0.14, 0.10). The slope on 300 to 400 random masks (RISE,
    Petsiuk et al. 2018), at four times the passes, found less on the few pairs that were tried.
    """
    drops = np.stack([occlusion(target, x, scale).values for scale in form.scales()])
    least = np.abs(drops).min(axis=0)  # NaN where one of them is: no number, and not no evidence
    agreed = (drops > 0).all(axis=0) | (drops < 0).all(axis=0) | np.isnan(least)
    return Map(np.where(agreed, np.sign(drops[0]) * least, 0).astype(np.float32))


def _whole(name: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
        raise InputError(f"{name} must be a whole number from {low} to {high}, not {value!r}.")
    return int(value)
