"""The neighbors of points in truth, over all dimensions, and on a map, and what one list has of the other."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .embeddings import Embeddings
from .graph import EXACT_UP_TO, nearest_rows, neighbor_graph
from .nearest import Metric, NearestRows

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Neighborhoods(NamedTuple):
    """The true neighbors of m points, over all dimensions, beside lists of neighbors from elsewhere.

    Attributes
    ----------
    true
        (m, k) rows, best first.
    hits
        (m, k) bool: which of the listed are true neighbors, or as near in truth as the k-th. The others are false.
    missing
        (m, k) bool: which of `true` the list should have and has not. Of several that are as near in truth as the k-th
        it needs as many as `true` has, whichever they are.
    """

    true: "NDArray[np.int64]"
    hits: "NDArray[np.bool_]"
    missing: "NDArray[np.bool_]"

    @classmethod
    def of(
        cls,
        embeddings: Embeddings,
        rows: "NDArray[np.integer]",
        listed: "NDArray[np.integer]",
        *,
        metric: Metric,
        exact: bool = False,
    ) -> "Neighborhoods":
        """Compare lists (m, k) of rows (m,), 1 <= k < n, with the neighbor graph; if `exact` with no index between."""
        k = listed.shape[1]
        # One column more than asked for shows where others are as near as the k-th.
        if exact and len(embeddings.vectors) > EXACT_UP_TO:
            true, scores = nearest_rows(embeddings, metric).graph_of(rows, k + 1, progress=True)
        else:
            graph = neighbor_graph(embeddings, k + 1, metric=metric)
            true, scores = graph.indices[rows].astype(np.int64), graph.similarities[rows]
        true, others = true[:, :k], true[:, k:]
        hits, missing = among(listed, true), ~among(true, listed)
        if others.size:
            tied = np.flatnonzero(scores[:, k] == scores[:, k - 1])
            if len(tied):
                searcher = nearest_rows(embeddings, metric)
                hits[tied], missing[tied] = _with_ties(searcher, rows[tied], true[tied], listed[tied])
        return cls(true, hits, missing)


def map_neighbors(
    xy: "NDArray[np.floating]", k: int = 15, *, rows: "NDArray[np.integer] | None" = None
) -> "NDArray[np.int64]":
    """Return the k nearest other points on a map.

    Parameters
    ----------
    xy
        (n, 2), finite.
    k
        Neighbors a point, 1 or more; where there are fewer others, all of them.
    rows
        (m,) the points to ask for; by default all.

    Returns
    -------
    NDArray
        (m, min(k, n - 1)) int64, rows of `xy`, nearest first.
    """
    from scipy.spatial import KDTree

    n = len(xy)
    rows = np.arange(n) if rows is None else rows
    k = min(k, n - 1)
    if k < 1:
        return np.empty((len(rows), 0), np.int64)
    _, near = KDTree(xy).query(xy[rows], k=k + 1)
    own = near == rows[:, None]
    own[~own.any(axis=1), -1] = True  # more than k points lie on this one: one of them goes in its stead
    return near[~own].reshape(len(rows), k).astype(np.int64)


def map_ranks(
    xy: "NDArray[np.floating]",
    rows: "NDArray[np.integer]",
    others: "NDArray[np.integer]",
    *,
    near: "NDArray[np.integer]",
    wanted: "NDArray[np.bool_] | None" = None,
) -> "NDArray[np.int64]":
    """Return which places, from 1, some points have among all others of a map, as seen from another point.

    Parameters
    ----------
    xy
        (n, 2), finite.
    rows
        (m,) the points that look.
    others
        (m, l) the points they look at, never themselves.
    near
        (m, k) what `map_neighbors` says of the rows: these have the first k places, in its order. Behind them ties go
        by row.
    wanted
        (m, l) bool: which places are asked for; the others are 0. By default all.

    Returns
    -------
    NDArray
        (m, l) int64.
    """
    places = np.zeros(others.shape, np.int64)
    x, y = np.array(xy, np.float64).T.copy()
    for i, row in enumerate(rows):
        squares = np.square(x - x[row]) + np.square(y - y[row])
        squares[row] = np.inf
        first = {int(j): place for place, j in enumerate(near[i], 1)}
        for column in range(others.shape[1]) if wanted is None else np.flatnonzero(wanted[i]):
            j = int(others[i, column])
            nearer = np.count_nonzero(squares < squares[j]) + np.count_nonzero(squares[:j] == squares[j])
            places[i, column] = first.get(j, 1 + max(nearer, len(first)))
    return places


def among(a: "NDArray[np.integer]", b: "NDArray[np.integer]") -> "NDArray[np.bool_]":
    """Return for each entry of a (m, k) whether the same row of b (m, l) has it."""
    found = np.zeros(a.shape, bool)
    for column in b.T:  # sixty times as fast as one np.isin over all pairs, for lists as short as these
        found |= a == column[:, None]
    return found


def _with_ties(
    searcher: NearestRows,
    rows: "NDArray[np.integer]",
    true: "NDArray[np.int64]",
    listed: "NDArray[np.integer]",
) -> "tuple[NDArray[np.bool_], NDArray[np.bool_]]":
    """Return hits and missing where others may be as near as the k-th."""
    k = true.shape[1]

    def scores(others: "NDArray[np.integer]") -> "NDArray[np.float64]":
        # The graph's float32 cannot say whether they are really equal; the scores behind it can.
        return searcher.scores(np.repeat(rows, k), others.ravel()).reshape(-1, k)

    of_true, of_listed = scores(true), scores(listed)
    edge = of_true[:, -1:]
    tied, absent = of_true == edge, ~among(true, listed)
    short = np.maximum(tied.sum(axis=1) - (of_listed == edge).sum(axis=1), 0)
    free = tied & absent
    return of_listed >= edge, absent & ~(free & (np.cumsum(free, axis=1) > short[:, None]))
