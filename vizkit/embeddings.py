"""Images and an encoder in, vectors out: `embed`, and the `Embeddings` that map, search and studies work on."""

import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .errors import ImageReadError, InputError, MissingEncoderError, closest
from .images import ImageSet
from .sources import path_text
from .store import Cache, Missing, Stamp, default_cache, read_result, versions, write_result

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from .encoders import Encoder

_FAILURE_COLUMNS = ["id", "path", "reason"]


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
        The network that made the vectors, or None: map and neighbours then work, evidence cannot.
    provenance
        How the vectors were made: encoder card, fingerprint, kind of device, versions, batch size.

    Raises
    ------
    InputError
        Shapes do not match, values are no finite numbers, or ids are not unique strings.
    """

    vectors: "NDArray[np.float32]"
    frame: pd.DataFrame
    failures: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=_FAILURE_COLUMNS))
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
        bad = np.atleast_1d(~np.isfinite(vectors).all(axis=1))
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
        return list(self.frame.index)

    def __len__(self) -> int:
        return len(self.vectors)

    def row(self, id: str) -> int:
        """Return the row of an id; InputError names the closest ids where there is none."""
        try:
            return int(self.frame.index.get_loc(id))  # ty: ignore[invalid-argument-type]
        except KeyError:
            raise InputError(f"No image has the id {id!r} here.{closest(str(id), self.ids)}") from None

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, *, embedding: str = "embedding", id: str | None = None) -> "Embeddings":
        """Take vectors that were made elsewhere.

        Parameters
        ----------
        frame
            One row an image. A column `path` that points at files that exist gives hover images too.
        embedding
            Column of vectors: each a sequence of d numbers.
        id
            Column of unique ids; by default "id" where there is one, else the index.

        Returns
        -------
        Embeddings
            Without an encoder: map, neighbours and studies work, evidence says what it lacks.

        Raises
        ------
        InputError
            A column is missing, vectors differ in length or hold NaN, or ids repeat.
        """
        if not isinstance(frame, pd.DataFrame):
            raise InputError(f"The table was given as {type(frame).__name__}; expected a pandas DataFrame.")
        for name, what, keyword in ((embedding, "vectors", "embedding="), (id, "ids", "id=")):
            if name is not None and name not in frame.columns:
                known = [str(column) for column in frame.columns]
                raise InputError(
                    f"No column {name!r} of {what}; the table has {', '.join(map(repr, known))}."
                    f"{closest(str(name), known)} Name it with {keyword}"
                )
        lengths = {np.shape(v) for v in frame[embedding]}
        if len(lengths) > 1 or any(len(shape) != 1 for shape in lengths):
            shapes = ", ".join(str(s) for s in sorted(lengths, key=str)[:4])
            raise InputError(f"Column {embedding!r} must hold vectors of one length; found shapes {shapes}.")
        vectors = np.stack([_as_float32(v) for v in frame[embedding]]) if len(frame) else np.zeros((0, 0), np.float32)
        column = "id" if id is None and "id" in frame.columns else id
        ids = frame.index if column is None else frame[column]
        meta = frame.drop(columns=[embedding] if column is None else [embedding, column])
        meta.index = pd.Index([str(i) for i in ids], name="id")
        return cls(vectors, meta, images=_images_of(meta), provenance={"source": "vectors given in a table"})

    def save(self, folder: str | Path) -> Path:
        """Write everything but pixels and weights into a folder: Parquet and JSON, readable without vizkit.

        An earlier result in that folder is replaced, and only once the new one is complete; any other folder that is
        not empty is refused (StoreError). InputError says which column cannot be written.
        """
        target = Path(folder).absolute()
        write_result(target, self.frame, self.vectors, self.failures, self.provenance)
        return target

    @classmethod
    def load(
        cls, folder: str | Path, *, images: ImageSet | None = None, encoder: "Encoder | None" = None
    ) -> "Embeddings":
        """Read what `save` wrote.

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
            The folder is no store, is damaged, or has another schema.
        InputError
            The encoder is not the one that made these vectors.
        """
        frame, vectors, failures, provenance = read_result(Path(folder))
        recorded = provenance.get("fingerprint")
        if encoder is not None and not hasattr(encoder, "fingerprint"):
            raise InputError(f"encoder must be a vizkit.Encoder, not {type(encoder).__name__}: vk.Encoder(...).")
        if encoder is not None and recorded is not None and encoder.fingerprint != recorded:
            raise InputError(
                f"These vectors were made by the encoder {recorded}, the one given is {encoder.fingerprint}: "
                "another network, weights, layer, pooling or preprocess. Build it as the manifest's card says."
            )
        return cls(vectors, frame, failures, images or _images_of(frame), encoder, provenance)

    def __repr__(self) -> str:
        n, d = self.vectors.shape
        failed = f", {len(self.failures)} failed" if len(self.failures) else ""
        by = f", by {self.encoder.name}" if self.encoder else ""
        return f"<Embeddings: {n} vectors of {d} dimensions{by}{failed}>"


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


def embed(
    images: ImageSet,
    encoder: "Encoder",
    *,
    cache: str | Path | None = None,
    batch_size: int = 16,
    progress: bool = True,
) -> Embeddings:
    """Compute one vector an image; what was computed before is read from the cache.

    A run that was stopped goes on where it was. The image in row r always sits in slot r % batch_size of a batch of
    fixed size, because the last bits of a vector depend on both: so a resumed run equals an undisturbed one bit by bit.

    Parameters
    ----------
    images
        The images.
    encoder
        The network.
    cache
        Folder of the cache; by default vizkit's folder in the user's cache. Vectors are keyed by the encoder's
        fingerprint, the kind of device, the versions of torch, torchvision and pillow, and the image's content.
    batch_size
        Images a forward pass.
    progress
        Show a progress bar.

    Returns
    -------
    Embeddings
        `vectors` (n, d) float32 in the order of `images`. Every image is in exactly one of `vectors` and `failures`;
        where none gave a vector, a warning says why.

    Raises
    ------
    InputError
        There are no images, `encoder` is no `vizkit.Encoder`, or `batch_size` is no whole number from 1.
    StoreError
        The cache cannot be written.
    """
    _check(images, encoder, batch_size)
    machinery = {"device": _device_type(encoder), "versions": versions("torch", "torchvision", "pillow")}
    card = {"card": {str(name): str(value) for name, value in encoder.card()["value"].items()}}
    store = Cache(Path(cache) if cache else default_cache(), encoder.fingerprint, machinery, card)
    vectors = np.full((len(images), encoder.dim), np.nan, np.float32)
    failures: dict[int, str] = {}
    todo = store.recall(images, vectors, failures)
    try:
        _compute(images, encoder, store, todo, vectors, failures, batch_size, progress)
    finally:
        store.flush()  # also after Ctrl-C: what is done is kept
    good = np.array([row not in failures for row in range(len(images))])
    if not good.any():
        warnings.warn(
            f"None of the {len(images)} images gave a vector; `failures` has every reason. The first: {failures[0]}",
            stacklevel=2,
        )
    places = [path_text(path) if path else "" for path in images.paths]
    failed = pd.DataFrame([(images.ids[r], places[r], failures[r]) for r in sorted(failures)], columns=_FAILURE_COLUMNS)
    provenance = {"fingerprint": encoder.fingerprint, **machinery, **card, "batch_size": int(batch_size)}
    return Embeddings(vectors[good], images.frame[good], failed, images, encoder, provenance)


def _check(images: Any, encoder: Any, batch_size: Any) -> None:
    from .encoders import Encoder

    if not isinstance(images, ImageSet):
        raise InputError(f"images must be an ImageSet, not {type(images).__name__}: use vk.ImageSet.from_folder(...).")
    if not isinstance(encoder, Encoder):
        made = repr(encoder) if isinstance(encoder, str) else "module, preprocess=..."
        raise InputError(f"encoder must be an Encoder, not {type(encoder).__name__}: wrap it in vk.Encoder({made}).")
    if len(images) == 0:
        raise InputError("There are no images to embed: the ImageSet is empty.")
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise InputError(f"batch_size is {batch_size!r}; expected a whole number of images, 1 or more.")


def _device_type(encoder: "Encoder") -> str:
    """Return "cpu", "cuda", ...: vectors of one network differ in their last bits from kind to kind."""
    if encoder.device is not None:
        return str(encoder.device).split(":")[0]
    return next((parameter.device.type for parameter in encoder.module.parameters()), "cpu")


def _compute(
    images: ImageSet,
    encoder: "Encoder",
    store: Cache,
    todo: list[Missing],
    vectors: "NDArray[np.float32]",
    failures: dict[int, str],
    batch_size: int,
    progress: bool,
) -> None:
    from tqdm.auto import tqdm

    n = len(images)
    bar = tqdm(total=n, initial=n - len(todo), desc=encoder.name, unit="image", disable=not progress)
    with bar, ThreadPoolExecutor(1) as pool:
        for read in _ahead(pool, images, encoder, _batches(todo, batch_size)):
            fine = [(m, t) for m, t in read if not isinstance(t, str)]
            failures |= {m.row: t for m, t in read if isinstance(t, str)}
            if fine:
                first = read[0][0].row // batch_size * batch_size
                result = _forward(encoder, fine, first, min(batch_size, n - first))
                for missing, vector in zip((m for m, _ in fine), result, strict=True):
                    if np.isfinite(vector).all():
                        vectors[missing.row] = vector
                        if missing.key is not None:
                            store.add(missing.key, missing.stamp, vector)
                    else:
                        failures[missing.row] = f"{images.ids[missing.row]}: the network gave NaN or infinity for it."
            bar.update(len(read))
            if failures:
                bar.set_postfix(failed=len(failures))


def _forward(
    encoder: "Encoder", fine: "list[tuple[Missing, torch.Tensor]]", first: int, size: int
) -> "NDArray[np.float32]":
    """Run one batch of fixed size, every image in its own slot; the slots of stored and failed images stay zero."""
    import torch

    example = fine[0][1]
    full = torch.zeros((size, *example.shape), dtype=example.dtype)
    slots = [missing.row - first for missing, _ in fine]
    for slot, (_, tensor) in zip(slots, fine, strict=True):
        full[slot] = tensor
    return encoder.encode(full)[slots]


def _batches(todo: list[Missing], batch_size: int) -> Iterator[list[Missing]]:
    return (list(batch) for _, batch in groupby(todo, key=lambda missing: missing.row // batch_size))


def _ahead(
    pool: ThreadPoolExecutor, images: ImageSet, encoder: "Encoder", batches: Iterator[list[Missing]]
) -> "Iterator[list[tuple[Missing, torch.Tensor | str]]]":
    """Decode the next batch while the network works on this one.

    One thread, and nobody else reads images meanwhile: a user's dataset may not bear two at once.
    """
    waiting: list[Future] = []
    for batch in batches:
        waiting.append(pool.submit(_read, images, encoder, batch))
        if len(waiting) > 1:
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()


def _read(images: ImageSet, encoder: "Encoder", batch: list[Missing]) -> "list[tuple[Missing, torch.Tensor | str]]":
    """Return a tensor (3, h, w) an image, or the reason why there is none."""
    results: list[tuple[Missing, torch.Tensor | str]] = []
    for missing in batch:
        try:
            image = images[missing.row]
        except ImageReadError as error:
            results.append((missing, str(error)))
            continue
        path = images.paths[missing.row]
        if missing.stamp and path and Stamp.of(path) != missing.stamp:
            missing = missing._replace(key=None)  # the file is no longer the one that was hashed
        try:
            results.append((missing, encoder.preprocess(image)))
        except Exception as error:  # a user's callable may raise anything; one image must not stop the run
            reason = f"{images.ids[missing.row]}: preprocess failed with {type(error).__name__}: {error}"
            results.append((missing, reason))
    return results


def _as_float32(vectors: Any) -> "NDArray[np.float32]":
    """Return numbers as float32 in C order; what float32 cannot hold becomes infinity."""
    try:
        array = np.asarray(vectors)
        if array.dtype.kind in "biufO":
            with np.errstate(over="ignore"):
                return np.asarray(array, np.float32, order="C")
        found = str(array.dtype)
    except (TypeError, ValueError, RuntimeError) as error:  # a RuntimeError: a tensor on a GPU, or with gradients
        found = f"{type(vectors).__name__} ({error})"
    raise InputError(f"Vectors are given as {found}; expected real numbers, d in each row: an array (n, d).")


def _images_of(frame: pd.DataFrame) -> ImageSet | None:
    """Return the images that a frame's paths point at, or None where no file is there."""
    if "path" not in frame.columns:
        return None
    there = frame[[isinstance(p, str) and Path(p).is_file() for p in frame["path"]]]
    # The index holds the ids; a column called "id" would be taken before it.
    return ImageSet.from_frame(there.drop(columns="id", errors="ignore")) if len(there) else None
