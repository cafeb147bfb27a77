"""Who is near whom: `neighbors` of a query, and the one neighbour graph that search, map and widget share.

The module is not called `neighbors`, because importing it would then hide the function `vizkit.neighbors`.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd

from .embeddings import Embeddings, require_embeddings, require_encoder
from .errors import InputError, closest
from .nearest import METRICS, Metric, NearestRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Search asks for 12, a map with its defaults for 16: whoever comes first computes enough for both, at no further cost.
_SHARED_K = 16
_LONGEST = 1e30  # a map sums distances in float32, which ends at 3.4e38

_searchers: "WeakKeyDictionary[Embeddings, dict[str, NearestRows]]" = WeakKeyDictionary()
_graphs: "WeakKeyDictionary[Embeddings, dict[str, Graph]]" = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Graph:
    """The k nearest others of every row.

    Attributes
    ----------
    indices
        (n, k) int32, rows, best first, ties by row. A row is left out of its own list by position: its copies stay in.
    similarities
        (n, k) float32: the cosine in [-1, 1], or minus the Euclidean distance.
    metric
        "cosine" or "euclidean".
    """

    indices: "NDArray[np.int32]"
    similarities: "NDArray[np.float32]"
    metric: Metric

    @property
    def k(self) -> int:
        """How many neighbours each row has."""
        return self.indices.shape[1]

    @property
    def distances(self) -> "NDArray[np.float32]":
        """(n, k) float32, 0 or more: 1 - cosine, or the Euclidean distance."""
        if self.metric == "euclidean":
            return -self.similarities
        return np.maximum(np.float32(1) - self.similarities, np.float32(0))

    def first(self, k: int) -> "Graph":
        """Return the graph of the k nearest; k at most this graph's."""
        return Graph(self.indices[:, :k], self.similarities[:, :k], self.metric)


def neighbor_graph(embeddings: Embeddings, k: int = 15, *, metric: Metric = "cosine") -> Graph:
    """Return the k nearest others of every vector, exactly.

    The graph is kept for as long as the embeddings live, so that search, map and widget share it; a smaller k is a
    slice of a larger one. The arrays are read-only.

    Parameters
    ----------
    embeddings
        n vectors; they must not be changed in place afterwards.
    k
        Neighbours a row, 1 or more; where there are fewer others, all of them.
    metric
        "cosine" (0 to everything for a zero vector) or "euclidean".

    Raises
    ------
    InputError
        There are no vectors, k is below 1, the metric is unknown, or distances are beyond 1e30.
    """
    searcher = nearest_rows(embeddings, metric)
    k = min(_count(k, "k"), len(embeddings.vectors) - 1)
    known = _graphs.setdefault(embeddings, {})
    if metric not in known or known[metric].k < k:
        rows, scores = searcher.graph(max(k, _SHARED_K), progress=True)
        if scores.size and -scores.min() > _LONGEST:
            raise InputError(
                f"Distances between these vectors reach {-scores.min():.1g}, beyond what float32 can add up. "
                "Divide the vectors by a constant, or use metric='cosine'."
            )
        graph = Graph(rows.astype(np.int32), scores.astype(np.float32), metric)
        graph.indices.flags.writeable = graph.similarities.flags.writeable = False
        known[metric] = graph
    return known[metric].first(k)


def nearest_rows(embeddings: Embeddings, metric: Metric = "cosine") -> NearestRows:
    """Return the exact search among the vectors, prepared once for each embeddings object and metric."""
    require_embeddings(embeddings, "Neighbours are searched among")
    if metric not in METRICS:
        raise InputError(f"No metric {metric!r}. Choose {' or '.join(map(repr, METRICS))}.")
    if len(embeddings.vectors) == 0:
        raise InputError("There are no vectors, so nothing has neighbours. embeddings.failures lists what failed.")
    known = _searchers.setdefault(embeddings, {})
    if metric not in known:
        known[metric] = NearestRows(embeddings.vectors, metric)
    return known[metric]


def neighbors(embeddings: Embeddings, query: Any, k: int = 12) -> pd.DataFrame:
    """Return the k images most similar to a query, by cosine, exactly.

    Parameters
    ----------
    embeddings
        The images to search among.
    query
        An id, a row, an image (PIL, path or array (h, w, 3) or (h, w)), a float vector (d,), or a list of these; an
        array (m, d) of floats is m vectors. A member of the set is left out of its own neighbours by its id, never by
        its value: a copy of it is found, with similarity 1.
    k
        Neighbours a query, 1 or more; where there are fewer, all of them.

    Returns
    -------
    pandas.DataFrame
        One row a neighbour: query (the id; else the path, "image" or "vector"), rank from 1, id, similarity (cosine in
        [-1, 1], float64), then the columns of `embeddings.frame` (with a "_" appended to a name that is already taken).
        Equally similar images come in the order of the set. A zero vector has similarity 0 to everything.

    Raises
    ------
    InputError
        The query is unknown, is none of these kinds, or has another length than the vectors; or k is below 1.
    MissingEncoderError
        The query is an image and the embeddings have no encoder.
    ImageReadError
        The query is a file that is no readable image.
    """
    searcher = nearest_rows(embeddings)
    k = _count(k, "k")
    d = embeddings.vectors.shape[1]
    queries = [_resolve(embeddings, q) for q in (query if _is_several(query, d) else [query])]
    if not queries:
        raise InputError("The list of queries is empty; give ids, rows, images or vectors.")
    rows, scores = searcher.search(np.stack([q.vector for q in queries]), k + 1, progress=True)
    others = rows != np.array([q.row for q in queries])[:, None]
    others &= np.cumsum(others, axis=1) <= k
    counts = others.sum(axis=1)
    table = pd.DataFrame(
        {
            "query": np.repeat(np.array([q.name for q in queries], dtype=object), counts),
            "rank": np.cumsum(others, axis=1)[others],
            "id": embeddings.frame.index[rows[others]],
            "similarity": scores[others],
        }
    ).astype({"query": embeddings.frame.index.dtype})
    return beside(table, embeddings.frame.iloc[rows[others]])


def beside(table: pd.DataFrame, metadata: pd.DataFrame) -> pd.DataFrame:
    """Put metadata (the same rows) to the right of a table; a name that is taken gets a "_" appended."""
    taken = set(table.columns)
    names = []
    for name in metadata.columns:
        while name in taken:
            name = f"{name}_"
        names.append(name)
        taken.add(name)
    return pd.concat([table, metadata.set_axis(names, axis=1).set_axis(table.index, axis=0)], axis=1)


class _Query(NamedTuple):
    name: str
    vector: "NDArray[np.float32]"
    row: int = -1  # the query's own row; -1 for one from outside


def _resolve(embeddings: Embeddings, query: Any) -> _Query:
    """Turn what a user may ask with into a vector and, for a member of the set, its row."""
    if isinstance(query, str) and query in embeddings.frame.index:
        return _member(embeddings, embeddings.row(query))
    if isinstance(query, int | np.integer) and not isinstance(query, bool):
        n = len(embeddings.vectors)
        if not 0 <= query < n:
            raise InputError(f"There is no row {query}: rows go from 0 to {n - 1}.")
        return _member(embeddings, int(query))
    if isinstance(query, str | os.PathLike):
        path = Path(query)
        if not path.is_file():
            near = closest(str(query), embeddings.ids)
            raise InputError(f"The query {str(query)!r} is neither an id of this set nor a file.{near}")
        return _Query(str(query), _of_image(embeddings, query))
    if _is_vector(query):
        return _Query("vector", _checked(embeddings, query))
    if hasattr(query, "convert") or getattr(query, "ndim", 0) in (2, 3):
        return _Query("image", _of_image(embeddings, query))
    if getattr(query, "ndim", 0) == 1:
        raise InputError(
            f"The query is an array of shape {tuple(query.shape)} and {query.dtype}, which may mean rows or a vector. "
            "Give rows as a list, a vector as floats."
        )
    given = repr(query) if isinstance(query, bool | float | None) else f"a {type(query).__name__}"
    raise InputError(f"The query is {given}; expected an id, row, image, path or vector (d,), or a list of these.")


def _member(embeddings: Embeddings, row: int) -> _Query:
    return _Query(embeddings.frame.index[row], embeddings.vectors[row], row)


def _of_image(embeddings: Embeddings, image: Any) -> "NDArray[np.float32]":
    encoder = require_encoder(embeddings, "Searching with an image that is not in the set")
    return _checked(embeddings, encoder.embed_image(image).ravel())


def _is_vector(query: Any) -> bool:
    """Tell a vector, 1-d floats, from a list of queries."""
    if hasattr(query, "dtype"):
        return query.ndim == 1 and _is_float(query)
    return isinstance(query, list | tuple) and len(query) > 0 and all(isinstance(x, float | np.floating) for x in query)


def _is_several(query: Any, d: int) -> bool:
    if getattr(query, "ndim", 0) == 2 and _is_float(query) and query.shape[1] == d:
        return True  # rows of vectors; an image as wide as vectors are long goes in as uint8 or PIL
    if isinstance(query, np.ndarray):
        return query.ndim == 1 and query.dtype.kind in "OUT"  # ids
    return isinstance(query, list | tuple | pd.Index | pd.Series) and not _is_vector(query)


def _is_float(array: Any) -> bool:
    """Whether an array or a tensor holds floats."""
    if hasattr(array, "detach"):  # a torch tensor, known without importing torch
        return array.is_floating_point()
    return isinstance(array, np.ndarray | pd.Series) and array.dtype.kind == "f"


def _checked(embeddings: Embeddings, vector: Any) -> "NDArray[np.float32]":
    if hasattr(vector, "detach"):  # a torch tensor, known without importing torch
        vector = vector.detach().cpu().numpy()
    with np.errstate(over="ignore"):
        vector = np.asarray(vector).astype(np.float32)
    d = embeddings.vectors.shape[1]
    if vector.shape != (d,):
        raise InputError(
            f"The query vector has shape {vector.shape}; these embeddings have vectors ({d},). "
            "Use the same encoder and layer; give several queries as a list."
        )
    if not np.isfinite(vector).all():
        raise InputError(f"The query vector holds NaN or infinity in {(~np.isfinite(vector)).sum()} of {d} places.")
    return vector


def _count(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{name} is {value!r}; expected a whole number of neighbours, 1 or more.")
    return int(value)
