"""What a user may ask with, an id, a row, a path, an image or a vector, turned into vectors."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from .embeddings import Embeddings, require_encoder
from .errors import InputError, closest

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Query(NamedTuple):
    """What is asked: the name it goes by in tables, its vector (d,) float32, and its own row in the set."""

    name: str
    vector: "NDArray[np.float32]"
    row: int = -1  # the query's own row; -1 for one from outside


def resolved(embeddings: Embeddings, query: Any) -> list[Query]:
    """Turn one query, or a list of them, into vectors; a list stays in order.

    Parameters
    ----------
    embeddings
        The set that is asked; images from outside go through its encoder.
    query
        An id, a row, an image (PIL, path or array (h, w, 3) or (h, w)), a float vector (d,), or a list of these; an
        array (m, d) of floats is m vectors.

    Raises
    ------
    InputError
        A query is unknown, is none of these kinds, or has another length than the vectors; or the list is empty.
    MissingEncoderError
        A query is an image and the embeddings have no encoder.
    ImageReadError
        A query is a file that is no readable image.
    """
    several = _is_several(query, embeddings.vectors.shape[1])
    queries = [_resolve(embeddings, one) for one in (query if several else [query])]
    if not queries:
        raise InputError("The list of queries is empty; give ids, rows, images or vectors.")
    return queries


def _resolve(embeddings: Embeddings, query: Any) -> Query:
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
        return Query(str(query), _of_image(embeddings, query))
    if _is_vector(query):
        return Query("vector", _checked(embeddings, query))
    if hasattr(query, "convert") or getattr(query, "ndim", 0) in (2, 3):
        return Query("image", _of_image(embeddings, query))
    if getattr(query, "ndim", 0) == 1:
        raise InputError(
            f"The query is an array of shape {tuple(query.shape)} and {query.dtype}, which may mean rows or a vector. "
            "Give rows as a list, a vector as floats."
        )
    given = repr(query) if isinstance(query, bool | float | None) else f"a {type(query).__name__}"
    raise InputError(f"The query is {given}; expected an id, row, image, path or vector (d,), or a list of these.")


def _member(embeddings: Embeddings, row: int) -> Query:
    return Query(embeddings.frame.index[row], embeddings.vectors[row], row)


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
