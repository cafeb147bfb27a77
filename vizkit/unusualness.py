"""How unusual an image is in a set: its distance to its nearest members, as a percentile of the members' own."""

from typing import TYPE_CHECKING

import numpy as np

from .embeddings import Embeddings
from .graph import neighbor_graph
from .nearest import Metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK_BYTES = 2**24  # of vectors in double precision at a time
_NOTHING = 1e-6  # squared length, of 1, that float32 cosines cannot tell from 0
_DECIMALS = 6  # of distances: what lies beyond is rounding


class OwnDistances:
    """The mean distance of each member of a set to its k nearest others, which that of a new image is compared with.

    "euclidean": the mean of the Euclidean distances, the score of Angiulli and Pizzuti (Fast outlier detection in high
    dimensional spaces, PKDD 2002) up to the factor k.

    "cosine": the neighbors are those by cosine; the distance of a pair is 1 - the cosine of their unit vectors less the
    mean unit vector, of all members for a new image and of the n - 1 others for a member, so that both are judged by
    what they had no part in. All images of a network share a direction; what lies near it is near to everything, and
    would pass for usual whatever it shows (Suzuki et al., Centering similarity measures to reduce hubs, EMNLP 2013).

    Parameters
    ----------
    embeddings
        n vectors, 2 or more.
    k
        Neighbors, 1 to n - 1.
    metric
        "cosine" or "euclidean".

    Attributes
    ----------
    k
        Neighbors.
    members
        (n,) float64: the mean distances, rounded to six decimals of the largest.
    """

    def __init__(self, embeddings: Embeddings, k: int, metric: Metric) -> None:
        graph = neighbor_graph(embeddings, k, metric=metric)
        self.k, self._metric = k, metric
        if metric == "cosine":
            self._mean = _mean_direction(embeddings.vectors)
            self._shared, self._lengths = self._against_mean(embeddings.vectors)
            found = self._centered(self._shared, self._lengths, graph.indices, graph.similarities, own=True)
        else:
            found = np.ascontiguousarray(graph.distances, np.float64).mean(axis=1)
        self._unit = 1.0 if metric == "cosine" else float(found.max()) or 1.0
        self.members = self._rounded(found)

    def of(
        self, vectors: "NDArray[np.float32]", rows: "NDArray[np.integer]", scores: "NDArray[np.float32]"
    ) -> "NDArray[np.float64]":
        """Return the mean distance (m,) of new vectors (m, d) to their k nearest members.

        Parameters
        ----------
        vectors
            (m, d) float32.
        rows
            (m, k): their nearest members.
        scores
            (m, k) float32: how near these are, the cosine or the Euclidean distance.
        """
        if self._metric == "cosine":
            return self._rounded(self._centered(*self._against_mean(vectors), rows, scores, own=False))
        return self._rounded(np.ascontiguousarray(scores, np.float64).mean(axis=1))

    def percentiles(self, distances: "NDArray[np.float64]", is_member: "NDArray[np.bool_]") -> "NDArray[np.float64]":
        """Return which percentage (m,) of the members' distances is smaller, in [0, 100]; equal ones count by half.

        A member is compared with the n - 1 others.
        """
        ordered = np.sort(self.members)
        below = np.searchsorted(ordered, distances, side="left")
        up_to = np.searchsorted(ordered, distances, side="right")
        return 50 * (below + up_to - is_member) / (len(ordered) - is_member)

    def _rounded(self, distances: "NDArray[np.float64]") -> "NDArray[np.float64]":
        return np.round(distances / self._unit, _DECIMALS) * self._unit + 0.0  # no -0.0

    def _against_mean(self, vectors: "NDArray[np.float32]") -> "tuple[NDArray[np.float64], NDArray[np.float64]]":
        """Return of the unit vectors their product with the mean, and their squared length without it: both (m,)."""
        shared, lengths = np.empty(len(vectors)), np.empty(len(vectors))
        for part in _parts(vectors):
            units = _units(vectors[part])
            shared[part] = (units * self._mean).sum(axis=1)
            units -= self._mean
            lengths[part] = np.square(units, out=units).sum(axis=1)
        return shared, np.where(lengths > _NOTHING, lengths, 0)

    def _centered(
        self,
        shared: "NDArray[np.float64]",
        lengths: "NDArray[np.float64]",
        rows: "NDArray[np.integer]",
        cosines: "NDArray[np.float32]",
        *,
        own: bool,
    ) -> "NDArray[np.float64]":
        """Return the mean (m,) of 1 - the cosine without the mean direction, from the cosines (m, k) with it."""
        # (u - c)(v - c) = uv - uc - vc + cc: what is at hand suffices, no vector is read again.
        products = cosines - shared[:, None] - self._shared[rows] + (self._mean * self._mean).sum()
        a, b = lengths[:, None], self._lengths[rows]
        if own:
            # The mean of the others is c - (u - c) / (n - 1): u keeps its direction, and v moves.
            step = 1 / (len(self._shared) - 1)
            products, b = products + step * a, b + 2 * step * products + step**2 * a
        both = np.sqrt(a * np.maximum(b, 0))
        alike = np.divide(products, both, out=np.zeros_like(products), where=both > _NOTHING)
        alike = np.where((a <= _NOTHING) & (b <= _NOTHING), 1, alike)  # nothing but what all share, both of them
        return (1 - np.clip(alike, -1, 1)).mean(axis=1)


def _mean_direction(vectors: "NDArray[np.float32]") -> "NDArray[np.float64]":
    return np.sum([_units(vectors[part]).sum(axis=0) for part in _parts(vectors)], axis=0) / len(vectors)


def _units(vectors: "NDArray[np.float32]") -> "NDArray[np.float64]":
    """Return vectors of length 1 in double precision; zero stays zero."""
    wide = vectors.astype(np.float64)
    largest = np.abs(wide).max(axis=1, initial=0)[:, None]
    wide /= np.where(largest > 0, largest, 1)  # squares of very small values would vanish
    lengths = np.sqrt(np.square(wide).sum(axis=1))[:, None]
    wide /= np.where(lengths > 0, lengths, 1)
    return wide


def _parts(vectors: "NDArray[np.float32]") -> list[slice]:
    step = max(1, _BLOCK_BYTES // (8 * max(1, vectors.shape[1])))
    return [slice(start, start + step) for start in range(0, len(vectors), step)]
