"""Deletion and insertion: what becomes of a number as an image is hidden, or shown, in the order that a map gives."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .localization import resampled
from .spatial import FORWARD
from .targets import plain_image

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

GRID = 8  # cells a side, for every map: an order of single pixels is destructive whatever the order
STEPS = 8  # of equally many cells each


class Curves(NamedTuple):
    """The number along the way, (steps + 1,) float64 each: from nothing hidden, and from nothing shown."""

    deletion: "NDArray[np.float64]"
    insertion: "NDArray[np.float64]"

    @property
    def areas(self) -> tuple[float, float]:
        """Area under both curves, over the share hidden or shown in [0, 1] (trapezoids)."""
        return _area(self.deletion), _area(self.insertion)


def order_of(values: "NDArray[Any]", seed: int) -> "NDArray[np.int64]":
    """Return the cells of an 8 x 8 grid (row-major), from the highest mean of a map (h, w) to the lowest.

    Parameters
    ----------
    values
        A map on its own grid.
    seed
        Of the order among equals: a map of one value gives the random order itself.
    """
    cells = resampled(values, (GRID, GRID)).ravel()
    cells = np.round(cells / (np.abs(cells).max() or 1), 12)  # equal but for rounding, whatever the unit
    shuffled = random_order(seed)
    return shuffled[np.argsort(-cells[shuffled], kind="stable")]


def random_order(seed: int) -> "NDArray[np.int64]":
    """Return the same cells in an order drawn at random: what every map must beat."""
    return np.random.default_rng(seed).permutation(GRID * GRID)


def curves(value: "Callable[[Tensor], Tensor]", x: "Tensor", order: "NDArray[np.int64]") -> Curves:
    """Hide, and show, more and more of an image, an eighth of it at a time.

    Petsiuk et al. 2018 ("RISE", section 4.2), for any number: deletion paints over the image in its mean color,
    insertion starts from the blurred image, since sharp borders on a plain ground would be seen as things. Departures:
    the blur is the image averaged over the cells and stretched again (bilinear), so that nothing smaller than a cell is
    left, and what is hidden are whole cells of one 8 x 8 grid, so that maps of all grids, and random order, are alike.

    Parameters
    ----------
    value
        Takes a preprocessed batch (n, 3, h, w), returns (n,).
    x
        (3, h, w) float32, preprocessed.
    order
        The cells, first those that go first: of `order_of` or `random_order`.
    """
    import torch
    from torch.nn.functional import interpolate

    h, w = x.shape[1:]
    x = x[None]
    plain = plain_image(x)
    coarse = interpolate(x, (GRID, GRID), mode="area")
    blurred = interpolate(coarse, (h, w), mode="bilinear", align_corners=False)
    # The cell of every pixel, by the pixel's middle, so cells are even under any size.
    rows, columns = (((torch.arange(n) + 0.5) * GRID / n).long() for n in (h, w))
    cell = (rows[:, None] * GRID + columns[None]).to(x.device)
    rank = torch.empty(GRID * GRID, dtype=torch.long)
    rank[torch.as_tensor(order)] = torch.arange(GRID * GRID)
    when = rank.to(x.device)[cell]
    taken = [when < GRID * GRID * k // STEPS for k in range(STEPS + 1)]
    # Hiding nothing is showing everything: one image less.
    batch = torch.cat(
        [torch.where(gone, plain, x) for gone in taken] + [torch.where(t, x, blurred) for t in taken[:-1]]
    )
    with torch.no_grad():
        found = [value(part).double().cpu().numpy() for part in batch.split(FORWARD)]
    numbers = np.concatenate(found)
    return Curves(numbers[: STEPS + 1], np.append(numbers[STEPS + 1 :], numbers[0]))


def _area(values: "NDArray[np.float64]") -> float:
    return float(((values[:-1] + values[1:]) / 2).mean())
