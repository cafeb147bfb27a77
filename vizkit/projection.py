"""Vectors to a map: `project`, and the `Layout` that says of every point how far the map can be believed there."""

import html
import sys
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from .embeddings import Embeddings, require_embeddings
from .errors import InputError, closest
from .figures import layout_figure
from .knn import Graph, beside, nearest_rows, neighbor_graph
from .nearest import METRICS, Metric
from .store import versions

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from numpy.typing import NDArray

METHODS = ("umap", "pca")


@dataclass(frozen=True, eq=False, repr=False)
class Layout:
    """A map of points, one a vector.

    Attributes
    ----------
    xy
        (n, 2) float32. Axes have no unit; only which points are near means anything.
    kept
        (n,) float32 in [0, 1]: the share of a point's `k` true nearest neighbours, over all dimensions, that are among
        its k nearest on the map. A neighbour on the map that is as near in truth as the k-th counts as kept.
    frame
        One row a point: index "id", columns x, y, kept and the columns of the embeddings (a name that is taken gets a
        "_").
    provenance
        method, n_neighbors, min_dist, metric and seed as they were used, `k`, and the versions of the libraries.
    """

    xy: "NDArray[np.float32]"
    kept: "NDArray[np.float32]"
    frame: pd.DataFrame
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def ids(self) -> list[str]:
        """The ids, in the order of the points."""
        return list(self.frame.index)

    @property
    def k(self) -> int:
        """Of how many true neighbours `kept` is a share: n_neighbors, or all others where there are fewer."""
        return self.provenance["k"]

    @property
    def chance(self) -> float:
        """The share of true neighbours that a shuffled map would keep: k / (n - 1)."""
        return self.k / (len(self) - 1) if len(self) > 1 else 1.0

    @property
    def summary(self) -> str:
        """One sentence: how the map was made, and how much of the neighbourhoods it keeps, beside chance."""
        made = {"umap": f"UMAP, seed {self.provenance['seed']}", "pca": "PCA"}[self.provenance["method"]]
        points = f"{len(self)} point{'s' if len(self) != 1 else ''}"
        if self.k == 0:
            return f"{made}: {points}."
        return (
            f"{made}: {points}; of the {self.k} nearest neighbours ({self.provenance['metric']}) the map keeps "
            f"{self.kept.mean():.0%} (chance {self.chance:.1%})."
        )

    def figure(self, color: str | None = None) -> "go.Figure":
        """Return the map as a plain plotly figure (WebGL; hover shows id and columns).

        Parameters
        ----------
        color
            A column of `frame`; by default the label where there is one, else `kept`.
        """
        return layout_figure(self.frame, self.summary, color)

    def __len__(self) -> int:
        return len(self.xy)

    def __repr__(self) -> str:
        return f"<Layout: {self.summary}>"

    def _repr_html_(self) -> str:
        return f"<p><b>Layout.</b> {html.escape(self.summary)}</p>"


def project(
    embeddings: Embeddings,
    *,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    metric: Metric = "cosine",
    seed: int = 0,
    method: Literal["umap", "pca"] = "umap",
) -> Layout:
    """Place every vector on a plane, near what it is near to.

    The same vectors, arguments, seed, library versions and processor give the same bytes. The first UMAP in a process
    waits for its kernels to compile (seconds; on a fresh install up to a minute).

    Parameters
    ----------
    embeddings
        n vectors, 1 or more.
    n_neighbors
        Size of the neighbourhoods that UMAP draws, the point itself included, 2 or more; few show detail, many the
        whole. Also how many true neighbours `kept` asks for. Where there are fewer other points, all of them.
    min_dist
        How close UMAP may pack points, in [0, 1] units of the map.
    metric
        "cosine" or "euclidean": what near means, for UMAP and for `kept`.
    seed
        Seed of UMAP, 0 to 2^32 - 1. PCA has no random choice.
    method
        "umap", on the exact neighbour graph that `neighbors` shares, starting from PCA; or "pca" alone: at once, but it
        keeps few neighbourhoods.

    Returns
    -------
    Layout
        Where all vectors are equal, all points are at the origin. Up to three points, and equal ones, are placed by PCA
        whatever the method, and `provenance` says so.

    Raises
    ------
    InputError
        There are no vectors, or an argument is none of the above.

    References
    ----------
    McInnes, Healy and Melville, UMAP: Uniform Manifold Approximation and Projection, arXiv:1802.03426.
    """
    require_embeddings(embeddings, "A map is made of")
    _check(embeddings, n_neighbors, min_dist, seed)
    _choose("metric", metric, METRICS)
    _choose("method", method, METHODS)
    n = len(embeddings.vectors)
    start = _pca(embeddings.vectors)
    # Up to three points there is nothing for UMAP to weigh: every neighbourhood is everything.
    if method == "pca" or n <= 3 or not start.any():
        method, xy = "pca", start
    else:
        graph = neighbor_graph(embeddings, n_neighbors + 1, metric=metric)  # as many as `kept` asks for: computed once
        xy = _umap(graph, start, n_neighbors=min(n_neighbors, n - 1), min_dist=min_dist, seed=seed)
    kept = share_kept(embeddings, xy, n_neighbors, metric=metric)
    frame = pd.DataFrame({"x": xy[:, 0], "y": xy[:, 1], "kept": kept}, index=embeddings.frame.index)
    provenance = {
        "method": method,
        "n_neighbors": int(n_neighbors),
        "min_dist": float(min_dist),
        "metric": metric,
        "seed": int(seed),
        "k": min(int(n_neighbors), n - 1),
        "versions": versions("vizkit", "umap-learn", "scikit-learn", "numba", "numpy"),
    }
    return Layout(xy, kept, beside(frame, embeddings.frame), provenance)


def _check(embeddings: Embeddings, n_neighbors: int, min_dist: float, seed: int) -> None:
    if len(embeddings.vectors) == 0:
        raise InputError("There are no vectors to project; embeddings.failures lists what failed.")
    if isinstance(n_neighbors, bool) or not isinstance(n_neighbors, int | np.integer) or n_neighbors < 2:
        raise InputError(f"n_neighbors is {n_neighbors!r}; expected a whole number, 2 or more.")
    if isinstance(min_dist, bool) or not isinstance(min_dist, int | float | np.number) or not 0 <= min_dist <= 1:
        raise InputError(f"min_dist is {min_dist!r}; expected a number from 0 (packed) to 1 (spread).")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise InputError(f"seed is {seed!r}; expected a whole number from 0 to 2^32 - 1. Every map has a seed.")


def _choose(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"No {name} {value!r}; choose {' or '.join(map(repr, known))}.{closest(str(value), known)}")


def _pca(vectors: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """Return the first two principal components (n, 2), in the vectors' unit; a missing one is 0."""
    from sklearn.decomposition import PCA

    n, d = vectors.shape
    xy = np.zeros((n, 2), np.float32)
    if d == 0 or (vectors == vectors[0]).all():
        return xy
    exponent = int(np.frexp(np.abs(vectors).max())[1])
    scaled = np.ldexp(vectors, -exponent)  # squares of very large or small values would leave float32
    scaled -= scaled.mean(axis=0, dtype=np.float64).astype(np.float32)
    # Arpack is exact; what scikit-learn takes by default for large data lost 4% of the variance on 20,000 x 2,048 and
    # turns with its seed. The signs are scikit-learn's (svd_flip), so they do not depend on the solver's luck.
    solver = "arpack" if min(n, d) > 2 and max(n, d) > 500 else "full"
    columns = min(2, n, d)
    found = PCA(columns, svd_solver=solver, random_state=0).fit_transform(scaled)
    room = int(np.finfo(np.float32).maxexp - np.frexp(np.abs(found).max())[1])  # values near float32's end stay scaled
    xy[:, :columns] = np.ldexp(found, min(exponent, room))
    return xy


def _umap(
    graph: Graph, start: "NDArray[np.float32]", *, n_neighbors: int, min_dist: float, seed: int
) -> "NDArray[np.float32]":
    """Return UMAP's layout (n, 2) of a neighbour graph, from a start (n, 2)."""
    from tqdm.auto import tqdm

    cold = "umap" not in sys.modules
    with (
        tqdm(desc="UMAP compiles, once a session", bar_format="{desc}", leave=False, disable=not cold),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="Tensorflow not installed", category=ImportWarning)
        # That `transform` is unavailable concerns nobody: the map is all that leaves this function.
        warnings.filterwarnings("ignore", message=r"precomputed_knn\[2\]", category=UserWarning)
        import numba
        import umap

        # UMAP counts a point as its own first neighbour, wants exactly n_neighbors columns, and changes the arrays.
        own = np.arange(len(start), dtype=np.int32)[:, None]
        indices = np.hstack([own, graph.indices[:, : n_neighbors - 1]])
        distances = np.hstack([np.zeros_like(own, np.float32), graph.distances[:, : n_neighbors - 1]])
        noise = np.random.default_rng(seed).normal(scale=1e-4, size=start.shape)  # as UMAP's own init="pca" adds
        init = (start / np.abs(start).max() * 10 + noise).astype(np.float32)
        reducer = umap.UMAP(
            n_neighbors=n_neighbors,
            min_dist=min_dist,
            # The distances come with the graph: of the metric and the data below only the number of points is used.
            metric="euclidean",
            precomputed_knn=(indices, distances),
            init=init,
            random_state=seed,
            n_jobs=1,  # what a seed means to UMAP; said, it does not warn
            tqdm_kwds={"desc": "map", "unit": "epoch", "disable": False, "delay": 2, "leave": False},
        )
        threads = numba.get_num_threads()
        try:
            return np.asarray(reducer.fit_transform(init), np.float32)
        finally:
            numba.set_num_threads(threads)  # UMAP does not put it back when it is interrupted


def share_kept(
    embeddings: Embeddings, xy: "NDArray[np.floating]", k: int = 15, *, metric: Metric = "cosine"
) -> "NDArray[np.float32]":
    """Return the share of each point's k true nearest neighbours that are among its k nearest on a map.

    Parameters
    ----------
    embeddings
        n vectors.
    xy
        (n, 2), finite: any map of them, in their order.
    k
        Neighbours asked for, 1 or more; where there are fewer other points, all of them.
    metric
        "cosine" or "euclidean": what near means in truth. On the map it is the Euclidean distance.

    Returns
    -------
    NDArray
        (n,) float32 in [0, 1]. A neighbour on the map that is as near in truth as the k-th counts as kept. A shuffled
        map keeps k / (n - 1) on average.

    Raises
    ------
    InputError
        `xy` does not fit the embeddings, or as `neighbor_graph`.
    """
    n = len(embeddings.vectors)
    if np.shape(xy) != (n, 2) or not np.isfinite(xy).all():
        raise InputError(f"xy has shape {np.shape(xy)}; expected ({n}, 2) finite positions, one for every vector.")
    # One column more than asked for shows where others are as near as the k-th.
    graph = neighbor_graph(embeddings, k + 1, metric=metric)
    true = neighbor_graph(embeddings, k, metric=metric).indices
    k = true.shape[1]
    if k == 0:
        return np.ones(n, np.float32)
    near = _nearest_on_map(xy, k)
    # Pairs as single numbers: one sorted look-up in place of n small ones.
    own = np.arange(n, dtype=np.int64)[:, None] * n
    hits = np.isin(own + near, own + true)
    if graph.k > k:
        similarities = graph.similarities
        tied = np.flatnonzero(similarities[:, k] == similarities[:, k - 1])
        if len(tied):
            # float32 cannot say whether they are really equal; the scores behind the graph can.
            searcher = nearest_rows(embeddings, graph.metric)
            edge = searcher.scores(tied, true[tied, k - 1])
            found = searcher.scores(np.repeat(tied, k), near[tied].ravel()).reshape(-1, k)
            hits[tied] |= found >= edge[:, None]
    return hits.mean(axis=1, dtype=np.float32)


def _nearest_on_map(xy: "NDArray[np.float32]", k: int) -> "NDArray[np.int64]":
    """Return the rows (n, k) of the k nearest other points on the map."""
    from scipy.spatial import KDTree

    n = len(xy)
    _, rows = KDTree(xy).query(xy, k=k + 1)
    own = rows == np.arange(n)[:, None]
    own[~own.any(axis=1), -1] = True  # more than k points lie on this one: one of them goes in its stead
    return rows[~own].reshape(n, k).astype(np.int64)
