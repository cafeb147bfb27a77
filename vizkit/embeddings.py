"""Images and an encoder in, vectors out: `embed`, and the `Embeddings` that map, search and studies work on."""

import json
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from .errors import ImageReadError, InputError, MissingEncoderError, StoreError, closest
from .images import ImageSet
from .store import (
    Cache,
    Stamp,
    default_cache,
    read_manifest,
    read_shard,
    shards,
    vector_column,
    vectors_of,
    write_manifest,
    write_shard,
)

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
        (n, d) float32, finite, one row an image, not normalised.
    frame
        One row a vector; index "id" (unique strings), columns path, label and whatever else is known.
    failures
        Images that gave no vector: columns id, path, reason. No image is in both.
    images
        The images, or None for vectors that came without; find a row with `images.row(id)`.
    encoder
        The network that made the vectors, or None: map and neighbours then work, evidence cannot.
    provenance
        How the vectors were made: encoder card, fingerprint, batch size, versions.

    Raises
    ------
    InputError
        Shapes do not match, values are not finite, or ids are not unique.
    """

    vectors: "NDArray[np.float32]"
    frame: pd.DataFrame
    failures: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=_FAILURE_COLUMNS))
    images: ImageSet | None = None
    encoder: "Encoder | None" = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.frame):
            raise InputError(
                f"vectors have shape {self.vectors.shape}, the frame {len(self.frame)} rows; "
                "expected (n, d) vectors and n rows."
            )
        bad = np.atleast_1d(~np.isfinite(self.vectors).all(axis=1))
        if bad.any():
            names = ", ".join(repr(x) for x in self.frame.index[bad][:3])
            raise InputError(f"{bad.sum()} of {len(bad)} vectors hold NaN or infinity ({names}). Drop or repair them.")
        if not self.frame.index.is_unique:
            twice = self.frame.index[self.frame.index.duplicated()].unique()[:3]
            raise InputError(f"ids must be unique; given more than once: {', '.join(repr(x) for x in twice)}.")

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
    def from_frame(cls, frame: pd.DataFrame, *, embedding: str = "embedding", id: str = "id") -> "Embeddings":
        """Take vectors that were made elsewhere.

        Parameters
        ----------
        frame
            One row an image. A column `path` that points at files that exist gives hover images too.
        embedding
            Column of vectors: each a sequence of d numbers.
        id
            Column of unique ids; without it the index is used.

        Returns
        -------
        Embeddings
            Without an encoder: map, neighbours and studies work, evidence says what it lacks.

        Raises
        ------
        InputError
            The column is missing, vectors differ in length or hold NaN, or ids repeat.
        """
        if embedding not in frame.columns:
            raise InputError(
                f"No column {embedding!r} of vectors; the table has {', '.join(map(repr, frame.columns))}. "
                "Name it with embedding=."
            )
        lengths = {np.shape(v) for v in frame[embedding]}
        if len(lengths) > 1 or any(len(shape) != 1 for shape in lengths):
            shapes = ", ".join(str(s) for s in sorted(lengths, key=str)[:4])
            raise InputError(f"Column {embedding!r} must hold vectors of one length; found shapes {shapes}.")
        vectors = np.stack([np.asarray(v, np.float32) for v in frame[embedding]]) if len(frame) else np.zeros((0, 0))
        ids = frame[id] if id in frame.columns else frame.index
        meta = frame.drop(columns=[c for c in (embedding, id) if c in frame.columns]).copy()
        meta.index = pd.Index([str(i) for i in ids], name="id")
        return cls(
            np.ascontiguousarray(vectors, np.float32),
            meta,
            images=_images_of(meta),
            provenance={"source": "vectors given in a table"},
        )

    def save(self, folder: str | Path) -> Path:
        """Write everything but pixels and weights into a folder: Parquet and JSON, readable without vizkit.

        An earlier result in that folder is replaced, and only once the new one is complete; any other folder that is
        not empty is refused (StoreError).
        """
        import pyarrow as pa

        target = Path(folder).absolute()
        if target.exists() and (not target.is_dir() or any(target.iterdir())) and not _is_result(target):
            raise StoreError(
                f"{str(target)!r} exists and holds no saved embeddings; it is left alone. Choose another name."
            )
        fresh = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}.tmp")
        fresh.mkdir(parents=True)
        try:
            meta = pa.Table.from_pandas(self.frame.reset_index(), preserve_index=False)
            write_shard(fresh, meta.append_column("vector", vector_column(self.vectors)))
            self.failures.astype(str).to_parquet(fresh / "failures.parquet", index=False)
            write_manifest(fresh, {"kind": "result", "n": len(self), "dim": self.vectors.shape[1], **self.provenance})
            old = None
            if target.exists():
                old = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}.old")
                target.rename(old)
            fresh.rename(target)
            if old:
                shutil.rmtree(old)
        except (pa.ArrowException, OSError) as error:
            raise StoreError(f"The embeddings cannot be saved in {str(target)!r}: {error}") from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
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
        import pyarrow as pa

        folder = Path(folder)
        manifest = read_manifest(folder)
        if manifest.pop("kind", None) != "result":
            raise StoreError(f"{str(folder)!r} is a cache, not a saved result. Point embed(cache=...) at its parent.")
        recorded = manifest.get("fingerprint")
        if encoder is not None and recorded is not None and encoder.fingerprint != recorded:
            raise InputError(
                f"These vectors were made by the encoder {recorded}, the one given is {encoder.fingerprint}: "
                "another network, weights, layer, pooling or preprocess. Build it as the manifest's card says."
            )
        table = pa.concat_tables([read_shard(path) for path in shards(folder)])
        vectors = vectors_of(table).copy()
        if vectors.shape != (manifest.pop("n"), manifest.pop("dim")):
            raise StoreError(
                f"{str(folder)!r} is incomplete: {len(vectors)} vectors, the manifest counts another number."
            )
        frame = table.drop_columns("vector").to_pandas().set_index("id")
        failures = pd.read_parquet(folder / "failures.parquet")
        manifest.pop("schema")
        return cls(vectors, frame, failures, images or _images_of(frame), encoder, manifest)

    def __repr__(self) -> str:
        n, d = self.vectors.shape
        failed = f", {len(self.failures)} failed" if len(self.failures) else ""
        by = f", by {self.encoder.name}" if self.encoder else ""
        return f"<Embeddings: {n} vectors of {d} dimensions{by}{failed}>"


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
        fingerprint and the image's content.
    batch_size
        Images a forward pass.
    progress
        Show a progress bar.

    Returns
    -------
    Embeddings
        `vectors` (n, d) float32 in the order of `images`. Every image is in exactly one of `vectors` and `failures`.

    Raises
    ------
    InputError
        There are no images, or `batch_size` is below 1.
    StoreError
        The cache cannot be written.
    """
    if not isinstance(images, ImageSet):
        raise InputError(f"images must be an ImageSet, not {type(images).__name__}: use vk.ImageSet.from_folder(...).")
    if len(images) == 0:
        raise InputError("There are no images to embed: the ImageSet is empty.")
    if batch_size < 1:
        raise InputError(f"batch_size must be 1 or more, not {batch_size}.")
    provenance = {"fingerprint": encoder.fingerprint, "card": _plain(encoder.card()), "versions": versions()}
    store = Cache(Path(cache) if cache else default_cache(), encoder.fingerprint, {"kind": "cache", **provenance})
    vectors = np.full((len(images), encoder.dim), np.nan, np.float32)
    failures: dict[int, str] = {}
    todo = _recall(images, store, vectors, failures)
    try:
        _compute(images, encoder, store, todo, vectors, failures, batch_size, progress)
    finally:
        store.flush()  # also after Ctrl-C: what is done is kept
    good = np.array([row not in failures for row in range(len(images))])
    failed = pd.DataFrame(
        [(images.ids[r], str(images.paths[r] or ""), reason) for r, reason in sorted(failures.items())],
        columns=_FAILURE_COLUMNS,
    )
    provenance["batch_size"] = batch_size
    return Embeddings(vectors[good], images.frame[good], failed, images, encoder, provenance)


class _Missing(NamedTuple):
    """An image that has no stored vector."""

    row: int
    key: str
    stamp: Stamp | None


def _recall(images: ImageSet, store: Cache, vectors: "NDArray[np.float32]", failures: dict[int, str]) -> list[_Missing]:
    """Fill in stored vectors; return what must be computed. A file that cannot be read joins the failures."""
    from tqdm.auto import tqdm

    todo = []
    for row in tqdm(range(len(images)), desc="look up", unit="image", delay=2, leave=False):
        path = images.paths[row]
        stamp = Stamp.of(path) if path else None
        try:
            known = store.key_of(stamp)
            key = known or images.fingerprint(row)
        except ImageReadError as error:
            failures[row] = str(error)
            continue
        vector = store.get(key)
        if vector is None:
            todo.append(_Missing(row, key, stamp))
            continue
        vectors[row] = vector
        if known is None and stamp is not None:
            store.add(key, stamp, vector)  # moved or touched: remember it, so that it is not hashed again
    return todo


def _compute(
    images: ImageSet,
    encoder: "Encoder",
    store: Cache,
    todo: list[_Missing],
    vectors: "NDArray[np.float32]",
    failures: dict[int, str],
    batch_size: int,
    progress: bool,
) -> None:
    from tqdm.auto import tqdm

    bar = tqdm(
        total=len(images), initial=len(images) - len(todo), desc=encoder.name, unit="image", disable=not progress
    )
    with bar, ThreadPoolExecutor(1) as pool:
        for batch, tensors in _ahead(pool, images, encoder, _batches(todo, batch_size)):
            fine = [(m, t) for m, t in zip(batch, tensors, strict=True) if not isinstance(t, str)]
            failures |= {m.row: t for m, t in zip(batch, tensors, strict=True) if isinstance(t, str)}
            if fine:
                first = batch[0].row // batch_size * batch_size
                size = min(batch_size, len(images) - first)
                result = _forward(encoder, fine, first, size)
                for missing, vector in zip((m for m, _ in fine), result, strict=True):
                    if np.isfinite(vector).all():
                        vectors[missing.row] = vector
                        store.add(missing.key, missing.stamp, vector)
                    else:
                        failures[missing.row] = f"{images.ids[missing.row]}: the network gave NaN or infinity for it."
            bar.update(len(batch))
            if failures:
                bar.set_postfix(failed=len(failures))


def _forward(
    encoder: "Encoder", fine: "list[tuple[_Missing, torch.Tensor]]", first: int, size: int
) -> "NDArray[np.float32]":
    """Run one batch of fixed size, every image in its own slot; the slots of stored and failed images stay zero."""
    import torch

    example = fine[0][1]
    full = torch.zeros((size, *example.shape), dtype=example.dtype)
    slots = [missing.row - first for missing, _ in fine]
    for slot, (_, tensor) in zip(slots, fine, strict=True):
        full[slot] = tensor
    return encoder.encode(full)[slots]


def _batches(todo: list[_Missing], batch_size: int) -> Iterator[list[_Missing]]:
    batch: list[_Missing] = []
    for missing in todo:
        if batch and missing.row // batch_size != batch[0].row // batch_size:
            yield batch
            batch = []
        batch.append(missing)
    if batch:
        yield batch


def _ahead(
    pool: ThreadPoolExecutor, images: ImageSet, encoder: "Encoder", batches: Iterator[list[_Missing]]
) -> "Iterator[tuple[list[_Missing], list[torch.Tensor | str]]]":
    """Decode the next batch while the network works on this one."""
    waiting: list[tuple[list[_Missing], Future]] = []
    for batch in batches:
        waiting.append((batch, pool.submit(_read, images, encoder, batch)))
        if len(waiting) > 1:
            ready, future = waiting.pop(0)
            yield ready, future.result()
    for ready, future in waiting:
        yield ready, future.result()


def _read(images: ImageSet, encoder: "Encoder", batch: list[_Missing]) -> "list[torch.Tensor | str]":
    """Return a tensor (3, h, w) an image, or the reason why there is none."""
    results: list[torch.Tensor | str] = []
    for missing in batch:
        try:
            image = images[missing.row]
        except ImageReadError as error:
            results.append(str(error))
            continue
        try:
            results.append(encoder.preprocess(image))
        except Exception as error:  # a user's callable may raise anything; one image must not stop the run
            results.append(f"{images.ids[missing.row]}: preprocess failed with {type(error).__name__}: {error}")
    return results


def versions() -> dict[str, str]:
    """Return the versions of the libraries that decide what a vector is."""
    from importlib.metadata import version

    return {name: version(name) for name in ("vizkit", "torch", "torchvision", "pillow", "numpy")}


def _plain(card: pd.DataFrame) -> dict[str, str]:
    return {str(k): str(v) for k, v in card["value"].items()}


def _is_result(folder: Path) -> bool:
    try:
        return json.loads((folder / "manifest.json").read_text(encoding="utf-8")).get("kind") == "result"
    except (OSError, ValueError, AttributeError):
        return False


def _images_of(frame: pd.DataFrame) -> ImageSet | None:
    """Return the images that a frame's paths point at, or None where no file is there."""
    if "path" not in frame.columns:
        return None
    there = np.array([isinstance(p, str) and Path(p).is_file() for p in frame["path"]], bool)
    return ImageSet.from_frame(frame[there]) if there.any() else None
