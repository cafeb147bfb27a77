"""`Embeddings`: the vectors of a set of images, which map, search and studies work on."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from .errors import InputError, MissingEncoderError, closest
from .images import ImageSet
from .results import read_result, write_result
from .room import room
from .umap_layout import warm_up_behind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .encoders import Encoder

FAILURE_COLUMNS = ["id", "path", "reason"]
_GATHER = "Columns of numbers become one with df.assign(embedding=list(df[columns].to_numpy()))."


@dataclass(frozen=True, eq=False, repr=False)
class Embeddings:
    """The vectors of a set of images, with what is known of each image and of how the vectors were made.

    Attributes
    ----------
    vectors
        (n, d), finite, one row an image, not normalised. Numbers of another kind are cast to float32.
    frame
        One row a vector; the index, unique strings, is named "id"; columns path, label and whatever else is known.
    failures
        Images that gave no vector: columns id, path, reason. No image is in both.
    images
        The images, or None for vectors that came without; find a row with `images.row(id)`.
    encoder
        The network that made the vectors, or None: map and neighbors then work, evidence cannot.
    provenance
        How the vectors were made: encoder card, fingerprint, kind of device, versions, batch size.

    Raises
    ------
    InputError
        Shapes do not match, values are no finite numbers, or ids are not unique strings.
    """

    vectors: "NDArray[np.float32]"
    frame: pd.DataFrame
    failures: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=FAILURE_COLUMNS))
    images: ImageSet | None = None
    encoder: "Encoder | None" = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.frame, pd.DataFrame):
            raise InputError(f"The frame is a {type(self.frame).__name__}; expected a DataFrame, one row a vector.")
        vectors, index = _as_float32(self.vectors), self.frame.index
        if vectors.ndim != 2 or len(vectors) != len(index):
            raise InputError(
                f"vectors have shape {vectors.shape}, the frame {len(index)} rows; expected (n, d) vectors and n rows."
            )
        bad = ~_finite(vectors)
        if bad.any():
            names = ", ".join(repr(x) for x in index[bad][:3])
            raise InputError(f"{bad.sum()} of {len(bad)} vectors hold NaN or infinity ({names}). Drop or repair them.")
        if wrong := [id for id in index if not isinstance(id, str)]:
            raise InputError(
                f"Ids, the frame's index, are strings; {wrong[0]!r} is {type(wrong[0]).__name__}. "
                "Convert them with frame.index.astype(str)."
            )
        if not index.is_unique:
            twice = index[index.duplicated()].unique()[:3]
            raise InputError(f"ids must be unique; given more than once: {', '.join(repr(x) for x in twice)}.")
        object.__setattr__(self, "vectors", vectors)
        if index.name != "id":
            object.__setattr__(self, "frame", self.frame.rename_axis(index="id"))

    @property
    def ids(self) -> list[str]:
        """The ids, in the order of the vectors."""
        return self.frame.index.tolist()

    def __len__(self) -> int:
        return len(self.vectors)

    def row(self, image: str | int) -> int:
        """Return the row of an id, or a row as it is; InputError names the closest ids where there is none."""
        return row_of(self.frame.index, image)

    def rows(self, images: str | int | Iterable[str | int]) -> list[int]:
        """Return the rows of one image or several, each an id or a row, in their order; InputError as `row`."""
        several = isinstance(images, Iterable) and not isinstance(images, str | bytes)
        asked: Any = images if several else [images]
        return [self.row(image) for image in asked]

    def subset(self, images: str | int | Iterable[str | int]) -> "Embeddings":
        """Return the vectors of some images, in the order asked for.

        Parameters
        ----------
        images
            One image or several, each an id or a row.

        Returns
        -------
        Embeddings
            A copy of their vectors and rows of the frame. Encoder, provenance, images (all of them: they are found
            by id) and failures (of the run that made the vectors) are those of the whole.

        Raises
        ------
        InputError
            There is no such image, or one is asked for more than once.
        """
        rows = self.rows(images)
        frame = self.frame.iloc[rows]
        if (again := frame.index[frame.index.duplicated()]).size:
            raise InputError(f"{again[0]!r} is asked for more than once; ids are unique. Name every image once.")
        return replace(self, vectors=self.vectors[rows], frame=frame)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, *, embedding: str = "embedding", id: str | None = None) -> "Embeddings":
        """Take vectors that were made elsewhere.

        Parameters
        ----------
        frame
            One row an image. A column `path` that points at files that exist gives hover images too; a column `label`
            becomes strings.
        embedding
            Column of vectors: each a sequence of d numbers. Numbers in columns of their own become one with
            `df.assign(embedding=list(df[columns].to_numpy()))`.
        id
            Column of unique ids; by default "id" where there is one, else the index.

        Returns
        -------
        Embeddings
            Without an encoder: map, neighbors and studies work, evidence says what it lacks.

        Raises
        ------
        InputError
            A column is missing, a row holds no vector, vectors differ in length or hold NaN, or ids repeat.
        """
        if not isinstance(frame, pd.DataFrame):
            raise InputError(f"The table was given as {type(frame).__name__}; expected a pandas DataFrame.")
        if isinstance(embedding, list | tuple | pd.Index):
            raise InputError(f"embedding names {len(embedding)} columns; expected one that holds vectors. {_GATHER}")
        for name, what, keyword in ((embedding, "vectors", "embedding="), (id, "ids", "id=")):
            if name is not None and name not in frame.columns:
                known = [str(column) for column in frame.columns]
                raise InputError(
                    f"No column {name!r} of {what}; the table has {', '.join(map(repr, known))}."
                    f"{closest(str(name), known)} Name it with {keyword}"
                )
        column = "id" if id is None and "id" in frame.columns else id
        ids = [str(i) for i in (frame.index if column is None else frame[column])]
        vectors = _stacked(frame[embedding], ids, embedding)
        meta = frame.drop(columns=[embedding] if column is None else [embedding, column])
        meta.index = pd.Index(ids, name="id")
        if "label" in meta.columns:
            meta["label"] = pd.Series([None if pd.isna(x) else str(x) for x in meta["label"]], meta.index, dtype=object)
        made = cls(vectors, meta, images=_images_of(meta), provenance={"source": "vectors given in a table"})
        warm_up_behind()  # the map is what most ask for next
        return made

    def save(self, folder: str | Path, *, dtype: Literal["float32", "float16"] = "float32") -> Path:
        """Write everything but pixels and weights into a folder: Parquet and JSON, readable without vizkit.

        pandas, pyarrow and DuckDB open the folder as one table: id, columns of the frame, vector.

        Parameters
        ----------
        folder
            An earlier result in it is replaced, and only once the new one is complete.
        dtype
            "float16" halves the size and keeps about three digits of every number; `load` gives float32 again.

        Returns
        -------
        Path
            The folder, absolute.

        Raises
        ------
        InputError
            A column cannot be written, or the vectors are too large or too small for float16.
        StoreError
            The folder holds something else, or cannot be written.
        """
        target = Path(folder).absolute()
        write_result(target, self.frame, self.vectors, self.failures, self.provenance, dtype=dtype)
        return target

    @classmethod
    def load(
        cls, folder: str | Path, *, images: ImageSet | None = None, encoder: "Encoder | None" = None
    ) -> "Embeddings":
        """Read what `save` wrote. Vectors larger than half of the free memory lie in a temporary file, mapped.

        Parameters
        ----------
        folder
            The saved folder.
        images
            The images; by default those files of the column `path` that are still there.
        encoder
            The network that made the vectors, for evidence and new images. Its fingerprint must be the recorded one.

        Raises
        ------
        StoreError
            The folder is no saved result (the message names those inside it), is damaged, or has another schema.
        InputError
            The encoder is not the one that made these vectors; the message says what differs.
        """
        frame, vectors, failures, provenance = read_result(Path(folder))
        recorded = provenance.get("fingerprint")
        if encoder is not None and not hasattr(encoder, "fingerprint"):
            raise InputError(f"encoder must be a vizkit.Encoder, not {type(encoder).__name__}: vk.Encoder(...).")
        if encoder is not None and recorded is not None and encoder.fingerprint != recorded:
            raise InputError(
                f"These vectors were made by the encoder {recorded}, the one given is {encoder.fingerprint}. "
                f"{_difference(provenance.get('card'), encoder)} Make the encoder as it was, or leave encoder= out."
            )
        loaded = cls(vectors, frame, failures, images or _images_of(frame), encoder, provenance)
        warm_up_behind()  # the map is what most ask for next
        return loaded

    def __repr__(self) -> str:
        n, d = self.vectors.shape
        failed = f", {len(self.failures)} failed" if len(self.failures) else ""
        by = f", by {self.encoder.name}" if self.encoder else ""
        exactness = self.provenance.get("exactness")
        share = exactness.get("nearest kept") if isinstance(exactness, dict) else None
        kept = f", {share:.2f} of nearest neighbors kept" if isinstance(share, float) else ""
        return f"<Embeddings: {n} vectors of {d} dimensions{by}{failed}{kept}>"


def row_of(ids: pd.Index, image: Any) -> int:
    """Return the row of an image among ids: of an id, or a row as it is; InputError where there is none."""
    if isinstance(image, str) and image in ids:
        return int(ids.get_loc(image))  # ty: ignore[invalid-argument-type]
    if isinstance(image, int | np.integer) and not isinstance(image, bool):
        if 0 <= image < len(ids):
            return int(image)
        near = f"rows go from 0 to {len(ids) - 1}" if len(ids) else "there are no images here"
        raise InputError(f"There is no row {image}: {near}. An id is a string.")
    if not isinstance(image, str):
        raise InputError(f"An image is given as {image!r}; expected its id, a string, or its row, a whole number.")
    raise InputError(f"No image has the id {image!r} here.{closest(image, list(ids))}")


def require_embeddings(value: Any, purpose: str) -> None:
    """Raise InputError, beginning with the purpose, where the value is no Embeddings."""
    if not isinstance(value, Embeddings):
        raise InputError(
            f"{purpose} Embeddings, not {type(value).__name__}: make them with vk.embed(images, encoder), or of "
            "vectors of your own with vk.Embeddings.from_frame(table)."
        )


def require_encoder(embeddings: Embeddings, question: str) -> "Encoder":
    """Return the encoder, or raise MissingEncoderError saying which question needs it."""
    if embeddings.encoder is None:
        raise MissingEncoderError(
            f"{question} needs the network behind the vectors, and these embeddings have none. "
            "Make them with vk.embed(images, encoder), or Embeddings.load(folder, encoder=...)."
        )
    return embeddings.encoder


def _difference(recorded: Any, encoder: "Encoder") -> str:
    """Say in which rows of its card an encoder differs from the recorded one: a sentence."""
    here = {str(name): str(value) for name, value in encoder.card()["value"].items()}
    # Neither decides the vectors' fingerprint, and the fingerprint itself is told already.
    rows = [name for name in here if name not in ("fingerprint", "device")]
    before = recorded if isinstance(recorded, dict) else {}
    words = [
        f"{name}: {before[name]}, here {here[name]}" for name in rows if before.get(name, here[name]) != here[name]
    ]
    if words:
        return f"What differs is {'; '.join(words)}."
    return "Their cards are alike, so it is the code or an attribute of the network or of the preprocess that differs."


def _as_float32(vectors: Any) -> "NDArray[np.float32]":
    """Return numbers as float32 in C order; what float32 cannot hold becomes infinity."""
    try:
        array = np.asarray(vectors)
        if array.dtype.kind in "biufO":
            with np.errstate(over="ignore"):
                if array.ndim != 2 or array.dtype.kind == "O" or array.dtype == np.float32:
                    return np.asarray(array, np.float32, order="C")
                wide = room(array.shape)  # vectors that lie on disk in another type may be larger than memory
                step = max(1, 2**22 // max(1, array.shape[1]))
                for start in range(0, len(array), step):
                    wide[start : start + step] = array[start : start + step]
                return wide
        found = str(array.dtype)
    except (TypeError, ValueError, RuntimeError) as error:  # a RuntimeError: a tensor on a GPU, or with gradients
        found = f"{type(vectors).__name__} ({error})"
    raise InputError(f"Vectors are given as {found}; expected real numbers, d in each row: an array (n, d).")


def _stacked(column: pd.Series, ids: list[str], name: str) -> "NDArray[np.float32]":
    """Return a column of vectors as (n, d); InputError names the first row that is none, or of another length."""
    rows = []
    for id, value in zip(ids, column, strict=True):
        try:
            array = np.asarray(value)
            if array.ndim == 1 and array.dtype.kind not in "USc":
                rows.append(_as_float32(value))
                continue
        except (TypeError, ValueError, RuntimeError, InputError):
            pass
        given = f"{type(value).__name__} {value!r}" if np.ndim(value) == 0 else type(value).__name__
        raise InputError(
            f"{id!r} has {given[:60]} in column {name!r}; expected a vector, a sequence of d numbers. {_GATHER}"
        )
    lengths = [len(row) for row in rows]
    if len(set(lengths)) > 1:
        other = next(i for i, length in enumerate(lengths) if length != lengths[0])
        raise InputError(
            f"Column {name!r} must hold vectors of one length; {ids[0]!r} has {lengths[0]} numbers, {ids[other]!r} "
            f"{lengths[other]}."
        )
    return np.stack(rows) if rows else np.zeros((0, 0), np.float32)


def _finite(vectors: "NDArray[np.float32]") -> "NDArray[np.bool_]":
    """Return which of the vectors (n, d) hold finite numbers alone, with little memory beside them."""
    step = max(1, 2**22 // max(1, vectors.shape[1]))
    parts = [np.isfinite(vectors[i : i + step]).all(axis=1) for i in range(0, len(vectors), step)]
    return np.concatenate(parts) if parts else np.zeros(0, bool)


def _images_of(frame: pd.DataFrame) -> ImageSet | None:
    """Return the images that a frame's paths point at, or None where no file is there."""
    if "path" not in frame.columns:
        return None
    there = frame[[isinstance(p, str) and Path(p).is_file() for p in frame["path"]]]
    # The index holds the ids; a column called "id" would be taken before it.
    return ImageSet.from_frame(there.drop(columns="id", errors="ignore")) if len(there) else None
