"""Two maps of the same points, laid one onto the other: `turned`, and how far apart they stay then, `drift`."""

from typing import TYPE_CHECKING

import numpy as np

from .errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def turned(xy: "NDArray[np.floating]", onto: "NDArray[np.floating]") -> "NDArray[np.float32]":
    """Return a map turned onto another: rotated or mirrored, and moved, so that points lie as near as they can.

    Least squares over all rotations and reflections about the center (Schönemann, A generalized solution of the
    orthogonal Procrustes problem, Psychometrika 31, 1966). Nothing is scaled: distances within the map stay.

    Parameters
    ----------
    xy
        (n, 2), finite.
    onto
        (n, 2), finite: another map of the same points, in the same order.

    Returns
    -------
    NDArray
        (n, 2) float32.

    Raises
    ------
    InputError
        The maps do not have the same shape (n, 2), or hold NaN or infinity.
    """
    from scipy.linalg import orthogonal_procrustes

    mine, theirs = _pair(xy, onto)
    if len(mine) == 0:
        return mine.astype(np.float32)
    center = theirs.mean(axis=0)
    mine -= mine.mean(axis=0)
    rotation, _ = orthogonal_procrustes(mine, theirs - center)
    return (mine @ rotation + center).astype(np.float32)


def drift(a: "NDArray[np.floating]", b: "NDArray[np.floating]") -> float:
    """Return the Procrustes disparity of two maps: the share of one's spread that the other does not explain.

    0 where the maps are the same up to rotation, reflection, scale and place, near 1 where they have nothing in common
    (Gower, Generalized Procrustes analysis, Psychometrika 40, 1975; `scipy.spatial.procrustes`). It is the same either
    way around.

    Parameters
    ----------
    a, b
        (n, 2), finite: maps of the same points, in the same order.

    Returns
    -------
    float
        In [0, 1]. A map with all points in one place explains nothing (1), except another such map (0).

    Raises
    ------
    InputError
        As `turned`.
    """
    from scipy.spatial import procrustes

    first, second = _pair(a, b)
    flat = [bool((xy == xy[:1]).all()) for xy in (first, second)]
    if any(flat):
        return float(flat[0] != flat[1])
    return float(np.clip(procrustes(first, second)[2], 0, 1))


def _pair(a: "NDArray[np.floating]", b: "NDArray[np.floating]") -> "tuple[NDArray[np.float64], NDArray[np.float64]]":
    """Return copies in double precision, which squares of float32 cannot leave."""
    if np.shape(a) != np.shape(b) or np.ndim(a) != 2 or np.shape(a)[1] != 2:
        raise InputError(
            f"The maps have shapes {np.shape(a)} and {np.shape(b)}; expected (n, 2) twice, one order of points."
        )
    first, second = np.array(a, np.float64), np.array(b, np.float64)
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InputError("A map holds NaN or infinity; expected finite positions (n, 2). Drop those points from both.")
    return first, second
