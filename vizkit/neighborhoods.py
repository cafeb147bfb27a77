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
        (m, k) bool: which of the listed are true neighbors. Of several that are as near in truth as the k-th as many
        count as `true` has, whichever they are. The others are false.
    missing
        (m, k) bool: which of `true` the list should have and has not: as many as are false.
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
        (m, min(k, n - 1)) int64, rows of `xy`, nearest first, ties by row.
    """
    from scipy.spatial import KDTree

    n = len(xy)
    rows = np.arange(n) if rows is None else np.asarray(rows)
    k = min(k, n - 1)
    if k < 1:
        return np.empty((len(rows), 0), np.int64)
    xy = np.array(xy, np.float64)
    # The tree names ties in any order, and rounds in its own way; the squares decide, as in `map_ranks`.
    found, near = KDTree(xy).query(xy[rows], k=min(k + 2, n))
    near = near.astype(np.int64)
    order = np.lexsort((near, _squares(xy[near], xy[rows][:, None])))
    near = np.take_along_axis(near, order, axis=1)[:, : k + 1]
    if k + 2 <= n:
        tied = np.flatnonzero(found[:, -1] <= found[:, -2] * (1 + 1e-12))
        places, of = np.unique(xy[rows[tied]], axis=0, return_inverse=True)
        near[tied] = np.array([_first(xy, place, k + 1) for place in places], np.int64).reshape(-1, k + 1)[of.ravel()]
    own = near == rows[:, None]
    own[~own.any(axis=1), -1] = True  # more than k points lie on this one: one of them goes in its stead
    return near[~own].reshape(len(rows), k)


def map_ranks(
    xy: "NDArray[np.floating]", rows: "NDArray[np.integer]", others: "NDArray[np.integer]"
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

    Returns
    -------
    NDArray
        (m, l) int64, from 1, the nearest, to n - 1; ties go by row: the places of `map_neighbors`.
    """
    places = np.zeros(others.shape, np.int64)
    x, y = np.array(xy, np.float64).T.copy()
    for i, row in enumerate(rows):
        squares = np.square(x - x[row]) + np.square(y - y[row])
        squares[row] = np.inf
        mine = squares[others[i]]
        ordered = np.sort(squares[squares <= mine.max(initial=0)])  # the others are farther than all that are asked for
        before = np.searchsorted(ordered, mine)
        places[i] = before + 1
        for column in np.flatnonzero(np.searchsorted(ordered, mine, side="right") > before + 1):
            j = others[i, column]
            places[i, column] += np.count_nonzero(squares[:j] == squares[j])
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
    kept, absent = among(listed, true), ~among(true, listed)
    # At the edge any may stand for any other, up to as many as there are places for them.
    stand_in, free = (of_listed == edge) & ~kept, (of_true == edge) & absent
    counted = np.minimum(stand_in.sum(axis=1), free.sum(axis=1))[:, None]
    kept |= stand_in & (np.cumsum(stand_in, axis=1) <= counted)
    return kept, absent & ~(free & (np.cumsum(free, axis=1) <= counted))


def _squares(xy: "NDArray[np.float64]", place: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """Return the squared distances of points (..., 2) to a place."""
    away = xy - place
    return np.square(away[..., 0]) + np.square(away[..., 1])


def _first(xy: "NDArray[np.float64]", place: "NDArray[np.float64]", k: int) -> "NDArray[np.int64]":
    """Return the k points nearest to a place, nearest first, ties by row."""
    squares = _squares(xy, place)
    edge = np.partition(squares, k - 1)[k - 1]
    nearer = np.flatnonzero(squares < edge)
    nearer = nearer[np.argsort(squares[nearer], kind="stable")]
    return np.concatenate([nearer, np.flatnonzero(squares == edge)[: k - len(nearer)]])
