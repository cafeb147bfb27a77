"""The neighbor graph of more vectors than are compared one by one: from an index, with the recall that it reaches."""

import warnings
from typing import TYPE_CHECKING

import numpy as np

from .nearest import NearestRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SAMPLE = 1000  # rows on which recall is measured
_SPARE = 2  # times as many neighbors are sought as are wanted: the nearest of them are then found more surely


def indexed_graph(
    searcher: NearestRows, k: int, *, seed: int = 0
) -> "tuple[NDArray[np.int64], NDArray[np.float64], float, tuple[float, float]]":
    """Return the k nearest others of every row as an index finds them, ranked by exact scores, and its recall.

    The index is pynndescent's (Dong, Moses and Li, Efficient k-nearest neighbor graph construction for generic
    similarity measures, WWW 2011). The same seed gives the same bytes.

    Returns
    -------
    rows, scores
        (n, min(k, n - 1)) int64 and float64, best first, ties by row; "cosine" and "euclidean" alone.
    recall, interval
        The share of the true k nearest, found by exact search, that are listed, over 1,000 rows drawn with the seed;
        and its 95% interval by Wilson, where each row counts as one draw.
    """
    n, m = len(searcher), len(searcher.distinct)
    if searcher.metric == "inner_product" or m <= 4 * k:
        # pynndescent's inner products are for vectors of unit length; and among few distinct rows it cannot descend.
        return *searcher.graph(k, progress=True), 1.0, (1.0, 1.0)
    rows, scores = searcher.graph_among(_candidates(searcher.distinct, k + 1, seed), k)
    sample = np.sort(np.random.default_rng(seed).choice(n, min(_SAMPLE, n), replace=False))
    _, true = searcher.graph_of(sample, k, progress=True)
    recall = float((scores[sample] >= true[:, -1:]).mean())
    return rows, scores, recall, wilson(recall, len(sample))


def wilson(share: float, n: int) -> tuple[float, float]:
    """Return the 95% interval of a share of n draws (Wilson 1927).

    By formula, as the share is a mean of shares: scipy's takes whole counts alone.
    """
    z = 1.959963984540054
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def _candidates(vectors: "NDArray[np.float32]", k: int, seed: int) -> "NDArray[np.int32]":
    """Return of each row k different rows (m, k) that are near by Euclidean distance, the row itself among them."""
    from tqdm.auto import tqdm

    with (
        tqdm(desc=f"index of {len(vectors):,} vectors: minutes", bar_format="{desc}", delay=0, leave=False),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="Failed to correctly find n_neighbors", category=UserWarning)
        from pynndescent import NNDescent

        # Unit vectors are as near by Euclidean distance as by cosine, and all were moved by the same center.
        index = NNDescent(vectors, metric="euclidean", n_neighbors=_SPARE * k, random_state=seed, low_memory=True)
        found = np.array(index.neighbor_graph[0][:, :k])
    own = np.arange(len(found), dtype=found.dtype)
    missing = ~(found == own[:, None]).any(axis=1)
    found[missing, -1] = own[missing]
    for row in np.flatnonzero((found < 0).any(axis=1)):
        spare = np.setdiff1d(np.arange(2 * k), found[row])
        holes = found[row] < 0
        found[row, holes] = spare[: holes.sum()]
    return found
