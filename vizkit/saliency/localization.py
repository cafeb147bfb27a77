"""How well a map finds a region that is known: energy, overlap and pointing game, beside a map that looks at nothing.

A map of any grid is laid evenly over the image; each of its cells counts by how much of it the region covers. No map is
sharpened, blurred or cut off first.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SPREAD = 0.25  # standard deviation of the center prior, as a share of the image's side


def energy(values: "NDArray[Any]", mask: "NDArray[np.bool_]") -> float:
    """Return the share of the positive part of a map that lies inside a region.

    The energy-based pointing game of Wang et al. 2020 ("Score-CAM", section 4.3), with cells counted by the part of
    them that the region covers. A map without any position preferred gets the region's share of the area, and so does
    one without a positive cell: it says nothing about where. So it is for a method and for its baselines alike.

    Parameters
    ----------
    values
        (h, w) map on its own grid, any unit; what is negative counts as 0.
    mask
        (H, W) bool, True inside the region; any size.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    InputError
        The map or the mask is not two-dimensional, empty, or the map is not finite.
    """
    values, covered = _checked(values, mask)
    positive = np.maximum(values, 0)
    total = positive.sum()
    return float((positive * covered).sum() / total if total > 0 else covered.mean())


def iou(values: "NDArray[Any]", mask: "NDArray[np.bool_]") -> float:
    """Return the overlap of a region with the highest cells of a map, as many as fill the region's area.

    Intersection over union (Jaccard), in the area of the image: so no threshold is chosen. The last cell is taken in
    part; cells of one value share what is left of the area evenly. A map of one value, or of noise on average, gets
    s / (2 - s) for a region of share s.

    Parameters
    ----------
    values, mask
        As for `energy`; signs do not matter, only the order.

    Returns
    -------
    float
        In [0, 1]; 0 for an empty region.

    Raises
    ------
    InputError
        As for `energy`.
    """
    values, covered = _checked(values, mask)
    left = covered.sum()
    taken = np.zeros(values.size)
    flat = values.ravel()
    levels, inverse, counts = np.unique(flat, return_inverse=True, return_counts=True)
    for level in range(len(levels) - 1, -1, -1):
        part = min(1.0, left / counts[level])
        taken[inverse.ravel() == level] = part
        left -= part * counts[level]
        if left <= 0:
            break
    both = float((taken * covered.ravel()).sum())
    either = float(taken.sum() + covered.sum()) - both
    return both / either if either > 0 else 0.0


def pointing(values: "NDArray[Any]", mask: "NDArray[np.bool_]") -> float:
    """Return whether the highest cell of a map lies in a region: the pointing game, without a margin.

    Zhang et al. 2018 ("Top-down neural attention by excitation backprop", section 4.1) allow 15 pixels around the
    region; none are allowed here. A cell that lies inside in part counts by that part, and several of the highest value
    by their mean, so a map of one value gets the region's share of the area.

    Parameters
    ----------
    values, mask
        As for `energy`.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    InputError
        As for `energy`.
    """
    values, covered = _checked(values, mask)
    return float(covered[values == values.max()].mean())


def center_prior(shape: tuple[int, int]) -> "NDArray[np.float32]":
    """Return a map that looks at the middle of any image: a Gaussian, its standard deviation a quarter of each side.

    Photographers put things there, so every localization score stands beside this one's.

    Parameters
    ----------
    shape
        (h, w) of the map.

    Returns
    -------
    NDArray[np.float32]
        (h, w), 1 in the middle at most, positive.
    """
    h, w = shape
    y, x = (((np.arange(n) + 0.5) / n - 0.5) / _SPREAD for n in (h, w))
    return np.exp(-(y[:, None] ** 2 + x[None] ** 2) / 2).astype(np.float32)


def covered_by(mask: "NDArray[np.bool_]", shape: tuple[int, int]) -> "NDArray[np.float64]":
    """Return how much of each cell of an even grid (h, w) a region (H, W) covers, in [0, 1]; exact for any sizes."""
    return resampled(mask, shape)


def resampled(values: "NDArray[Any]", shape: tuple[int, int]) -> "NDArray[np.float64]":
    """Return the mean of a map (H, W) over each cell of an even grid (h, w), finer or coarser; cells count by area."""
    h, w = values.shape
    return _averaging(h, shape[0]) @ values.astype(np.float64) @ _averaging(w, shape[1]).T


def _averaging(pixels: int, cells: int) -> "NDArray[np.float64]":
    """Return (cells, pixels) weights that average pixels over even cells; a pixel on a border counts by its parts."""
    edges = np.arange(cells + 1) * pixels / cells
    low, high = edges[:-1, None], edges[1:, None]
    at = np.arange(pixels)[None]
    return np.clip(np.minimum(high, at + 1) - np.maximum(low, at), 0, None) * (cells / pixels)


def _checked(values: Any, mask: Any) -> "tuple[NDArray[np.float64], NDArray[np.float64]]":
    """Return a map (h, w) float64 and how much of each cell the region covers."""
    values, mask = np.asarray(values, np.float64), np.asarray(mask)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise InputError(f"A map must be finite values (h, w); this one has shape {values.shape}.")
    if mask.ndim != 2 or not mask.size or mask.dtype != bool:
        raise InputError(f"A region must be True and False (h, w), not {mask.dtype} of shape {mask.shape}.")
    return values, covered_by(mask, values.shape)
