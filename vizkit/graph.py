"""The one neighbor graph that search, map and studies share, and what it says: mutual neighbors and hubs."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd

from .embeddings import Embeddings, require_embeddings, row_of
from .errors import InputError, closest
from .large_graph import indexed_graph
from .nearest import METRICS, Metric, NearestRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXACT_UP_TO = 100_000  # vectors; an exact graph of more takes minutes

# Search asks for 12, a map with its defaults for 16: whoever comes first computes enough for both, at no further cost.
_SHARED_K = 16
_LONGEST = 1e30  # a map sums distances in float32, which ends at 3.4e38

_searchers: "WeakKeyDictionary[Embeddings, dict[str, NearestRows]]" = WeakKeyDictionary()
_graphs: "WeakKeyDictionary[Embeddings, dict[str, NeighborGraph]]" = WeakKeyDictionary()


@dataclass(frozen=True, eq=False, repr=False)
class NeighborGraph:
    """The k nearest others of every image, and who is a neighbor of many or of nobody.

    Attributes
    ----------
    indices
        (n, k) int32, rows, best first, ties by row. A row is left out of its own list by position: its copies stay in.
    similarities
        (n, k) float32: the cosine in [-1, 1], the inner product, or minus the Euclidean distance.
    metric
        "cosine", "euclidean" or "inner_product".
    ids
        The ids of the images, in the order of the rows.
    recall
        The share of the true k nearest that are listed: 1.0 for an exact graph; above 100,000 images measured against
        exact search, on images drawn with a seed.
    recall_interval
        The 95% interval of `recall`; (1.0, 1.0) for an exact graph.
    """

    indices: "NDArray[np.int32]"
    similarities: "NDArray[np.float32]"
    metric: Metric
    ids: pd.Index
    recall: float = 1.0
    recall_interval: tuple[float, float] = (1.0, 1.0)

    @property
    def k(self) -> int:
        """How many neighbors each row has."""
        return self.indices.shape[1]

    @property
    def distances(self) -> "NDArray[np.float32]":
        """(n, k) float32, 0 or more: 1 - cosine, or the Euclidean distance.

        Raises
        ------
        InputError
            The metric is the inner product, which has no distance.
        """
        return distances_of(self.similarities, self.metric)

    @cached_property
    def mutual(self) -> "NDArray[np.bool_]":
        """(n, k): whether a neighbor lists the row, too."""
        n = len(self)
        own, other = np.arange(n, dtype=np.int64)[:, None], self.indices.astype(np.int64)
        # Pairs as single numbers: one sorted look-up in place of n small ones.
        return np.isin(other * n + own, own * n + other)

    @cached_property
    def occurrences(self) -> "NDArray[np.int64]":
        """(n,) the k-occurrence: how many others list an image among their k nearest. It is k on average."""
        return np.bincount(self.indices.ravel(), minlength=len(self))

    @property
    def skewness(self) -> float:
        """Skewness of the k-occurrence, the measure of hubness; 0 where all images are listed equally often.

        The third central moment over the cubed standard deviation: Radovanovic, Nanopoulos and Ivanovic, Hubs in Space,
        Journal of Machine Learning Research 11 (2010), section 2.2. Far above `skewness_chance`, few images, the hubs,
        are neighbors of many, and many are nobody's.
        """
        return float(_skewness(self.occurrences[None])[0])

    @property
    def skewness_chance(self) -> float:
        """The skewness where every image lists k others at random: of a binomial count, n - 1 times k / (n - 1)."""
        others = len(self) - 1
        if self.k == 0 or self.k == others:
            return 0.0
        p = self.k / others
        return (1 - 2 * p) / (others * p * (1 - p)) ** 0.5

    @property
    def skewness_interval(self) -> tuple[float, float]:
        """The 95% interval of the skewness, by 1,000 bootstrap samples of images, with a fixed seed."""
        values, counts = np.unique(self.occurrences, return_counts=True)
        drawn = np.random.default_rng(0).multinomial(len(self), counts / len(self), size=1000)
        low, high = np.quantile(_skewness(values[None], drawn), [0.025, 0.975])
        return float(low), float(high)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row an image, index "id".

        occurrences: how many others list it; mutual: how many of its neighbors do; nearest: the id of its nearest;
        similarity or, for "euclidean", distance: of the nearest. Hubs first:
        frame.sort_values("occurrences", ascending=False).
        """
        index = self.ids.rename("id")
        table = {"occurrences": self.occurrences, "mutual": self.mutual.sum(axis=1)}
        if self.k:
            table |= {"nearest": self.ids[self.indices[:, 0]], **_shown(self.similarities[:, 0], self.metric)}
        return pd.DataFrame(table, index=index)

    def listed_by(self, image: str | int) -> pd.DataFrame:
        """Return who lists an image among their k nearest: its reverse neighbors.

        Parameters
        ----------
        image
            An id or a row.

        Returns
        -------
        pandas.DataFrame
            One row an image that lists it, most similar first, ties by row: id, rank (its place in that image's list,
            from 1), similarity or, for "euclidean", distance, and mutual (whether it lists that image, too).

        Raises
        ------
        InputError
            There is no such image.
        """
        row = row_of(self.ids, image)
        at, place = np.nonzero(self.indices == row)
        scores = self.similarities[at, place]
        order = np.lexsort((at, -scores))
        at, place, scores = at[order], place[order], scores[order]
        listed = np.isin(at, self.indices[row])
        return pd.DataFrame({"id": self.ids[at], "rank": place + 1, **_shown(scores, self.metric), "mutual": listed})

    def first(self, k: int) -> "NeighborGraph":
        """Return the graph of the k nearest; k at most this graph's. An estimated recall stays that of the whole."""
        if k == self.k:
            return self
        indices, similarities = self.indices[:, :k], self.similarities[:, :k]
        return NeighborGraph(indices, similarities, self.metric, self.ids, self.recall, self.recall_interval)

    def __len__(self) -> int:
        """Count the images."""
        return len(self.indices)

    def __repr__(self) -> str:
        low, high = self.recall_interval
        exact = (
            "exact"
            if self.recall_interval == (1.0, 1.0) and self.recall == 1
            else (f"recall {self.recall:.4f} (95% interval {low:.4f} to {high:.4f})")
        )
        text = f"<NeighborGraph: {len(self):,} images, {self.k} nearest each by {self.metric}, {exact}"
        if self.k == 0:
            return f"{text}>"
        low, high = self.skewness_interval
        return (
            f"{text}; {self.mutual.mean():.0%} mutual (chance {self.k / (len(self) - 1):.1%}); "
            f"hubness {self.skewness:.2f} "
            f"(95% interval {low:.2f} to {high:.2f}, chance {self.skewness_chance:.2f})>"
        )


def distances_of(similarities: "NDArray[np.floating]", metric: Metric) -> "NDArray[np.float32]":
    """Return similarities as distances, float32, 0 or more; InputError for an inner product, which has none."""
    if metric == "inner_product":
        raise InputError("An inner product is no distance. Use similarities, or metric='cosine' or 'euclidean'.")
    similarities = similarities.astype(np.float32, copy=False)
    return -similarities if metric == "euclidean" else np.maximum(np.float32(1) - similarities, np.float32(0))


def neighbor_graph(embeddings: Embeddings, k: int = 15, *, metric: Metric = "cosine") -> NeighborGraph:
    """Return the k nearest others of every vector: exactly up to 100,000 vectors, above it from an index.

    The graph is kept for as long as the embeddings live, so that search, map and studies share it; a smaller k is a
    slice of a larger one. The arrays are read-only.

    Parameters
    ----------
    embeddings
        n vectors; they must not be changed in place afterwards.
    k
        Neighbors a row, 1 or more; where there are fewer others, all of them.
    metric
        "cosine" (0 to everything for a zero vector), "euclidean" or "inner_product".

    Returns
    -------
    NeighborGraph
        Its `recall` says what share of the true neighbors it lists; 1.0 where it is exact.

    Raises
    ------
    InputError
        There are no vectors, k is below 1, the metric is unknown, or scores are beyond 1e30.
    """
    searcher = nearest_rows(embeddings, metric)
    k = min(count(k, "k"), len(embeddings.vectors) - 1)
    known = _graphs.setdefault(embeddings, {})
    if metric not in known or known[metric].k < k:
        known[metric] = computed_graph(searcher, embeddings.frame.index, max(k, _SHARED_K))
    return known[metric].first(k)


def computed_graph(searcher: NearestRows, ids: pd.Index, k: int, *, exact_up_to: int = EXACT_UP_TO) -> NeighborGraph:
    """Compute a graph, exactly where there are at most so many vectors."""
    quality = {}
    if len(searcher) <= exact_up_to:
        rows, scores = searcher.graph(k, progress=True)
    else:
        rows, scores, quality["recall"], quality["recall_interval"] = indexed_graph(searcher, k)
    if scores.size and np.abs(scores).max() > _LONGEST:
        kind = "Distances" if searcher.metric == "euclidean" else "Inner products"
        raise InputError(
            f"{kind} between these vectors reach {np.abs(scores).max():.1g}, beyond what float32 can add up. "
            "Divide the vectors by a constant, or use metric='cosine'."
        )
    graph = NeighborGraph(rows.astype(np.int32), scores.astype(np.float32), searcher.metric, ids, **quality)
    graph.indices.flags.writeable = graph.similarities.flags.writeable = False
    return graph


def nearest_rows(embeddings: Embeddings, metric: Metric = "cosine") -> NearestRows:
    """Return the exact search among the vectors, prepared once for each embeddings object and metric."""
    require_embeddings(embeddings, "Neighbors are searched among")
    if metric not in METRICS:
        known = ", ".join(map(repr, METRICS[:-1]))
        raise InputError(f"No metric {metric!r}. Choose {known} or {METRICS[-1]!r}.{closest(str(metric), METRICS)}")
    if len(embeddings.vectors) == 0:
        raise InputError("There are no vectors, so nothing has neighbors. embeddings.failures lists what failed.")
    known_searchers = _searchers.setdefault(embeddings, {})
    if metric not in known_searchers:
        known_searchers[metric] = NearestRows(embeddings.vectors, metric)
    return known_searchers[metric]


def count(value: object, name: str) -> int:
    """Return a count of neighbors as int; InputError where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{name} is {value!r}; expected a whole number of neighbors, 1 or more.")
    return int(value)


def require_seed(seed: object) -> None:
    """Raise InputError where a seed is no whole number, 0 or more."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"seed is {seed!r}; expected a whole number, 0 or more.")


def _shown(scores: "NDArray[np.float32]", metric: Metric) -> "dict[str, NDArray[np.float32]]":
    return {"distance": np.abs(scores)} if metric == "euclidean" else {"similarity": scores}


def _skewness(values: "NDArray[np.integer]", weights: "NDArray[np.integer] | None" = None) -> "NDArray[np.float64]":
    """Return the skewness of each row of values, which count so many times; 0 where they do not vary."""
    weights = np.ones_like(values) if weights is None else weights
    total = weights.sum(axis=1, keepdims=True)
    off = values - (values * weights).sum(axis=1, keepdims=True) / total
    second, third = ((off**power * weights).sum(axis=1) / total[:, 0] for power in (2, 3))
    return np.where(second > 0, third / np.where(second > 0, second, 1) ** 1.5, 0.0)
