"""How unusual an image is in a set: its distance to the nearest member, as a percentile of the members' own."""

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from .embeddings import Embeddings
from .graph import nearest_rows, neighbor_graph
from .nearest import Metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

_own: "WeakKeyDictionary[Embeddings, dict[str, NDArray[np.float64]]]" = WeakKeyDictionary()


def own_distances(embeddings: Embeddings, metric: Metric) -> "NDArray[np.float64]":
    """Return how far each member is from its nearest other one, (n,) float64, smallest first; kept with the embeddings.

    In double precision: members that are nearly alike keep their order, and one that is far off blurs no other's.

    Parameters
    ----------
    embeddings
        n vectors, 2 or more.
    metric
        "cosine" or "euclidean".
    """
    known = _own.setdefault(embeddings, {})
    if metric not in known:
        nearest = neighbor_graph(embeddings, 1, metric=metric).indices[:, 0]
        scores = nearest_rows(embeddings, metric).scores(np.arange(len(nearest)), nearest)
        known[metric] = np.sort(far(scores, metric))
    return known[metric]


def far(scores: "NDArray[np.float64]", metric: Metric) -> "NDArray[np.float64]":
    """Return scores of `NearestRows` as distances: 1 - cosine, or the Euclidean distance."""
    return np.abs(scores) if metric == "euclidean" else 1 - scores


def percentiles(
    distances: "NDArray[np.float64]", own: "NDArray[np.float64]", is_member: "NDArray[np.bool_]"
) -> "NDArray[np.float64]":
    """Return which percentage (m,) of the members' own distances is smaller, in [0, 100]; equal ones count by half.

    Parameters
    ----------
    distances
        (m,) to the nearest member.
    own
        (n,) what `own_distances` returns.
    is_member
        (m,) whether a distance is a member's own: it is compared with the n - 1 others.
    """
    below = np.searchsorted(own, distances, side="left")
    up_to = np.searchsorted(own, distances, side="right")
    return 50 * (below + up_to - is_member) / (len(own) - is_member)
