"""What a user may ask with, an id, a row, a path, an image or a vector, turned into vectors."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from .embeddings import Embeddings, require_encoder
from .errors import ImageReadError, InputError, closest
from .images import ImageSet
from .sources import path_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SHOWN = 200  # characters of a wrong query that a message repeats


class Query(NamedTuple):
    """What is asked: the name it goes by in tables, its vector (d,) float32, and its own row in the set."""

    name: str
    vector: "NDArray[np.float32]"
    row: int = -1  # the query's own row; -1 for one from outside
    bare: bool = False  # whether the vector came as numbers: nothing says which encoder made it


class _Picture(NamedTuple):
    """An image from outside that has not been read yet; its file, where that is known."""

    name: str
    image: Any
    path: str


def resolved(embeddings: Embeddings, query: Any, *, unread: list[tuple[str, str, str]] | None = None) -> list[Query]:
    """Turn one query, or a list of them, into vectors; a list stays in order.

    Images are read after all else has been understood. Names from outside are unique, and no id of the set: the second
    "vector" is "vector (2)".

    Parameters
    ----------
    embeddings
        The set that is asked; images from outside go through its encoder.
    query
        An id, a row, an image (PIL, path or array (h, w, 3) or (h, w)), a float vector (d,), or a list of these; an
        array (m, d) of floats is m vectors.
    unread
        Gets name, path and reason of each image of a list that cannot be read, which is then left out; without it, the
        first one raises.

    Raises
    ------
    InputError
        A query is unknown, is none of these kinds, or has another length than the vectors; the list is empty; or the
        set's encoder is no longer the one that made its vectors.
    MissingEncoderError
        A query is an image and the embeddings have no encoder.
    ImageReadError
        A query is a file that is no readable image.
    """
    several = _is_several(query, embeddings.vectors.shape[1])
    asked = [_resolve(embeddings, one) for one in (query if several else [query])]
    if not asked:
        raise InputError("The list of queries is empty; give ids, rows, images or vectors.")
    return list(_read(embeddings, _named(asked, embeddings.frame.index), several, unread))


def _read(
    embeddings: Embeddings,
    asked: "list[Query | _Picture]",
    several: bool,
    unread: list[tuple[str, str, str]] | None,
) -> Iterator[Query]:
    """Yield what is asked in order, images as their vectors."""
    from tqdm.auto import tqdm

    pictures = sum(isinstance(one, _Picture) for one in asked)
    if pictures:
        encoder = require_encoder(embeddings, "Searching with an image that is not in the set")
        if embeddings.provenance.get("fingerprint") is not None:
            require_same(embeddings, encoder.fingerprint)
    for one in tqdm(asked, desc="images", unit="image", delay=2, leave=False, disable=not pictures):
        if isinstance(one, Query):
            yield one
            continue
        try:
            vector = encoder.embed_image(one.image)
        except (ImageReadError, InputError) as error:
            if unread is not None and several and isinstance(error, ImageReadError):
                unread.append((one.name, one.path, str(error)))
                continue
            known = one.path or one.name
            if not several or known in str(error):
                raise
            raise type(error)(f"{known}: {error}") from error
        yield Query(one.name, _checked(embeddings, vector.ravel()))


def require_same(embeddings: Embeddings, fingerprint: str | None) -> None:
    """Raise InputError where the set's vectors are known to be of another encoder than this fingerprint's."""
    recorded = embeddings.provenance.get("fingerprint")
    if recorded is not None and fingerprint is not None and recorded != fingerprint:
        raise InputError(
            f"The vectors of the set were made by the encoder {recorded}, those of the images by {fingerprint}: their "
            "distances to each other mean nothing. Use the same weights, layer, pooling and preprocess for both "
            "(encoder.card() names them), or embed the old images anew."
        )


def _resolve(embeddings: Embeddings, query: Any) -> "Query | _Picture":
    """Turn what a user may ask with into a vector and, for a member of the set, its row; or into an image to read."""
    if isinstance(query, str) and query in embeddings.frame.index:
        return _member(embeddings, embeddings.row(query))
    if isinstance(query, int | np.integer) and not isinstance(query, bool):
        n = len(embeddings.vectors)
        if not 0 <= query < n:
            raise InputError(f"There is no row {query}: rows go from 0 to {n - 1}.")
        return _member(embeddings, int(query))
    if isinstance(query, str | os.PathLike):
        return _file(embeddings, query)
    if _is_vector(query):
        return Query("vector", _checked(embeddings, query), bare=True)
    if hasattr(query, "convert") or (getattr(query, "ndim", 0) in (2, 3) and not isinstance(query, pd.DataFrame)):
        return _Picture("image", query, str(getattr(query, "filename", "") or ""))
    if getattr(query, "ndim", 0) == 1:
        raise InputError(
            f"The query is an array of shape {tuple(query.shape)} and {query.dtype}, which may mean rows or a vector. "
            "Give rows as a list, a vector as floats."
        )
    given = repr(query) if isinstance(query, bool | float | None) else f"of type {type(query).__name__}"
    raise InputError(
        f"The query is {given}; expected an id, row, image, path or vector (d,), or a list of these.{_instead(query)}"
    )


def _instead(query: Any) -> str:
    """Say what to give in place of a table or a set: a sentence, or nothing."""
    if isinstance(query, pd.DataFrame):
        return (
            " Give one of its columns, ids or paths: list(table['path']); or vectors: np.stack(list(table['vector']))."
        )
    if isinstance(query, ImageSet):
        return " Give its images: list(images)."
    return " Give its vectors: embeddings.vectors." if isinstance(query, Embeddings) else ""


def _file(embeddings: Embeddings, query: "str | os.PathLike[Any]") -> _Picture:
    text = os.fsdecode(query)
    if not os.path.isfile(text):  # noqa: PTH113 - Path.is_file raises where a name is too long
        shown = repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
        if os.path.isdir(text):  # noqa: PTH112
            raise InputError(
                f"The query {shown} is a folder; expected a file. Take the images in it with images = "
                f"vk.ImageSet.from_folder({shown}), then vk.place(layout, images) or vk.neighbors(e, list(images))."
            )
        near = closest(text, embeddings.ids) if len(text) <= _SHOWN else ""
        raise InputError(f"The query {shown} is neither an id of this set nor a file.{near}")
    name = path_text(Path(text))
    return _Picture(name, text, name)


def _member(embeddings: Embeddings, row: int) -> Query:
    return Query(embeddings.frame.index[row], embeddings.vectors[row], row)


def _named(asked: "list[Query | _Picture]", ids: pd.Index) -> "list[Query | _Picture]":
    """Give what comes from outside names of its own: the second "vector" is "vector (2)"; an id is a member's."""
    seen: set[str] = set()
    numbers: dict[str, int] = {}
    result = []
    for one in asked:
        name = one.name
        if isinstance(one, _Picture) or one.row < 0:
            while name in seen or name in ids:
                numbers[one.name] = numbers.get(one.name, 1) + 1
                name = f"{one.name} ({numbers[one.name]})"
            seen.add(name)
        result.append(one._replace(name=name))
    return result


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
        vector = vector.detach().cpu().double().numpy()  # NumPy has no bfloat16
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
