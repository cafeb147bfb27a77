"""Who is near whom: `neighbors` of a query.

The module is not called `neighbors`, because importing it would then hide the function `vizkit.neighbors`.
"""

from typing import Any

import numpy as np
import pandas as pd

from .embeddings import Embeddings
from .graph import count, nearest_rows
from .nearest import Metric
from .queries import Query, resolved


def neighbors(embeddings: Embeddings, query: Any, k: int = 12, *, metric: Metric = "cosine") -> pd.DataFrame:
    """Return the k images nearest to a query, exactly.

    Parameters
    ----------
    embeddings
        The images to search among.
    query
        An id, a row, an image (PIL, path or array (h, w, 3) or (h, w)), a float vector (d,), or a list of these; an
        array (m, d) of floats is m vectors. A member of the set is left out of its own neighbors by its id, never by
        its value: a copy of it is found, with similarity 1.
    k
        Neighbors a query, 1 or more; where there are fewer, all of them.
    metric
        "cosine", "euclidean" or "inner_product".

    Returns
    -------
    pandas.DataFrame
        One row a neighbor: query (the id; else the path, "image" or "vector", numbered where that is taken: "vector
        (2)"), rank from 1, id, similarity (the cosine in [-1, 1] or the inner product, float64; with "euclidean" in its
        place distance, 0 or more), then the columns of `embeddings.frame` (with a "_" appended to a name that is
        already taken). Equally near images come in the order of the set. A zero vector has cosine 0 to everything.

    Raises
    ------
    InputError
        The query is unknown, is none of these kinds, or has another length than the vectors; k is below 1; the metric
        is unknown; or the encoder, asked for an image, is no longer the one that made the vectors.
    MissingEncoderError
        The query is an image and the embeddings have no encoder.
    ImageReadError
        The query is a file that is no readable image.
    """
    nearest_rows(embeddings, metric)  # says what is wrong with the set before any image is read
    count(k, "k")
    return neighbors_of(embeddings, resolved(embeddings, query), k, metric=metric)


def neighbors_of(
    embeddings: Embeddings, queries: list[Query], k: int = 12, *, metric: Metric = "cosine"
) -> pd.DataFrame:
    """Return what `neighbors` returns, for queries that are vectors already."""
    searcher = nearest_rows(embeddings, metric)
    k = count(k, "k")
    rows, scores = searcher.search(np.stack([q.vector for q in queries]), k + 1, progress=True)
    others = rows != np.array([q.row for q in queries])[:, None]
    others &= np.cumsum(others, axis=1) <= k
    counts = others.sum(axis=1)
    name = "distance" if metric == "euclidean" else "similarity"
    table = pd.DataFrame(
        {
            "query": np.repeat(np.array([q.name for q in queries], dtype=object), counts),
            "rank": np.cumsum(others, axis=1)[others],
            "id": embeddings.frame.index[rows[others]],
            name: np.abs(scores[others]) if metric == "euclidean" else scores[others],
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
