"""Images and an encoder in, vectors out: `embed`."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd

from .cards import card, identify
from .embeddings import FAILURE_COLUMNS, Embeddings
from .encoders import Encoder, encode_layers
from .errors import ImageReadError, InputError
from .fusion import folded_encoders
from .images import ImageSet
from .sources import path_text
from .store import Cache, Missing, Stamp, default_cache, versions

# Raised when vizkit comes to compute other vectors from the same network: what an earlier one stored is then not used.
_RECIPE = 2

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray


@overload
def embed(
    images: ImageSet,
    encoder: Encoder,
    *,
    layers: None = None,
    cache: str | Path | None = None,
    batch_size: int = 16,
    progress: bool = True,
) -> Embeddings: ...


@overload
def embed(
    images: ImageSet,
    encoder: Encoder,
    *,
    layers: Iterable[str],
    cache: str | Path | None = None,
    batch_size: int = 16,
    progress: bool = True,
) -> dict[str, Embeddings]: ...


def embed(
    images: ImageSet,
    encoder: Encoder,
    *,
    layers: Iterable[str] | None = None,
    cache: str | Path | None = None,
    batch_size: int = 16,
    progress: bool = True,
) -> Embeddings | dict[str, Embeddings]:
    """Compute one vector an image, at one layer or at several in one pass; what was computed before is read.

    A run that was stopped goes on where it was. The image in row r always sits in slot r % batch_size of a batch of
    fixed size, because the last bits of a vector depend on both: so a resumed run equals an undisturbed one bit by bit.
    A layer among several equals that layer alone, bit by bit too unless the own output of a convolution is among them.

    On a CPU in float32 a twin of the network runs, with BatchNorm folded into the convolutions, where its vectors are
    within 1e-4 of their norm of the network's own; the network itself stays as it is.

    Parameters
    ----------
    images
        The images.
    encoder
        The network.
    layers
        Names out of `encoder.layers` (or "input:NAME"), which all come from one forward pass an image, pooled as the
        encoder pools. By default the encoder's own layer alone.
    cache
        Folder of the cache; by default vizkit's folder in the user's cache. Vectors are keyed by the encoder's
        fingerprint, the kind of device, the versions of torch, torchvision and pillow, and the image's content.
    batch_size
        Images a forward pass.
    progress
        Show a progress bar.

    Returns
    -------
    Embeddings, or dict of name to Embeddings where layers are named
        `vectors` (n, d) float32 in the order of `images`; with pool "none", d numbers in the order of `encoder.shape`.
        Every image is in exactly one of `vectors` and `failures`; where none gave a vector, a warning says why.

    Raises
    ------
    InputError
        There are no images, `encoder` is no `vizkit.Encoder`, `batch_size` is no whole number from 1, or `layers` is no
        list of different names.
    LayerNotFoundError
        The network has no such layer.
    StoreError
        The cache cannot be written.
    """
    layers = None if layers is None else _names(layers)
    _check(images, encoder, batch_size)
    encoders = [encoder] if layers is None else [encoder.at(layer) for layer in layers]
    machinery = {
        "device": _device_type(encoder),
        "recipe": _RECIPE,
        "versions": versions("torch", "torchvision", "pillow"),
    }
    jobs: list[_Job] = []
    hashed: dict[int, str] = {}
    for each, identity in zip(encoders, identify(encoders), strict=True):
        words = {str(name): str(value) for name, value in card(each, identity)["value"].items()}
        store = Cache(Path(cache or default_cache()), identity.fingerprint, machinery, {"card": words})
        jobs.append(
            _Job(each, images, store, hashed, {"fingerprint": identity.fingerprint, **machinery, "card": words})
        )
    try:
        _compute(images, jobs, batch_size, progress)
    finally:
        for job in jobs:
            job.store.flush()  # also after Ctrl-C: what is done is kept
    results = [job.result(batch_size) for job in jobs]
    for each, result in zip(encoders, results, strict=True):
        where = "" if layers is None else f" at {each.layer!r}"
        if not len(result):
            warnings.warn(
                f"None of the {len(images)} images gave a vector{where}; `failures` has every reason. "
                f"The first: {result.failures['reason'].iloc[0]}",
                stacklevel=2,
            )
        elif len(result) > 1 and not np.ptp(result.vectors, axis=0).any():
            warnings.warn(
                f"All {len(result)} images have one and the same vector{where}: neighbors and map mean nothing. "
                "Has the network weights, and does it get the pixels it wants?",
                stacklevel=2,
            )
    return results[0] if layers is None else dict(zip(layers, results, strict=True))


class _Job:
    """One layer's part of a run: its cache, and what is known of every image so far."""

    def __init__(
        self, encoder: Encoder, images: ImageSet, store: Cache, hashed: dict[int, str], provenance: dict[str, Any]
    ) -> None:
        self.encoder, self.images, self.store, self.provenance = encoder, images, store, provenance
        self.vectors = np.full((len(images), encoder.dim), np.nan, np.float32)
        self.failures: dict[int, str] = {}
        self.todo = {missing.row: missing for missing in store.recall(images, self.vectors, self.failures, hashed)}

    def keep(self, missing: Missing, vector: "NDArray[np.float32]") -> None:
        """Keep the vector of an image, or that it is none; a row that was known stays as it was."""
        if missing.row not in self.todo:
            return
        if np.isfinite(vector).all():
            self.vectors[missing.row] = vector
            if missing.key is not None:
                self.store.add(missing.key, missing.stamp, vector)
        else:
            self.failures[missing.row] = f"{self.images.ids[missing.row]}: the network gave NaN or infinity for it."

    def result(self, batch_size: int) -> Embeddings:
        """Return what has come of every image."""
        images, failures = self.images, self.failures
        good = np.array([row not in failures for row in range(len(images))])
        places = [path_text(path) if path else "" for path in images.paths]
        failed = [(images.ids[row], places[row], failures[row]) for row in sorted(failures)]
        return Embeddings(
            self.vectors[good],
            images.frame[good],
            pd.DataFrame(failed, columns=FAILURE_COLUMNS),
            images,
            self.encoder,
            {**self.provenance, "batch_size": int(batch_size)},
        )


def _check(images: Any, encoder: Any, batch_size: Any) -> None:
    if not isinstance(images, ImageSet):
        raise InputError(f"images must be an ImageSet, not {type(images).__name__}: use vk.ImageSet.from_folder(...).")
    if not isinstance(encoder, Encoder):
        made = repr(encoder) if isinstance(encoder, str) else "module, preprocess=..."
        raise InputError(f"encoder must be an Encoder, not {type(encoder).__name__}: wrap it in vk.Encoder({made}).")
    if len(images) == 0:
        raise InputError("There are no images to embed: the ImageSet is empty.")
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise InputError(f"batch_size is {batch_size!r}; expected a whole number of images, 1 or more.")


def _names(layers: Any) -> list[str]:
    """Return names of layers as a list; InputError where they are none."""
    names = [] if isinstance(layers, str) or not isinstance(layers, Iterable) else list(layers)
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"layers must be names out of encoder.layers, as in layers=['layer1'], not {layers!r:.80}.")
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise InputError(f"layers must name different layers; given more than once: {', '.join(map(repr, twice))}.")
    return names


def _device_type(encoder: Encoder) -> str:
    """Return "cpu", "cuda", ...: vectors of one network differ in their last bits from kind to kind."""
    return encoder.device.split(":")[0]


def _compute(images: ImageSet, jobs: list[_Job], batch_size: int, progress: bool) -> None:
    from tqdm.auto import tqdm

    n, encoders = len(images), [job.encoder for job in jobs]
    todo = {row: missing for job in jobs for row, missing in job.todo.items()}
    waiting = [todo[row] for row in sorted(todo)]
    if waiting:
        encoders = folded_encoders(encoders) or encoders
    bar = tqdm(total=n, initial=n - len(waiting), desc=encoders[0].name, unit="image", disable=not progress)
    with bar, ThreadPoolExecutor(1) as pool:
        for read in _ahead(pool, images, encoders[0], _batches(waiting, batch_size)):
            fine = [(m, t) for m, t in read if not isinstance(t, str)]
            for job in jobs:
                job.failures |= {m.row: t for m, t in read if isinstance(t, str) and m.row in job.todo}
            if fine:
                first = read[0][0].row // batch_size * batch_size
                found = _forward(encoders, fine, first, min(batch_size, n - first))
                for job, vectors in zip(jobs, found, strict=True):
                    for missing, vector in zip((m for m, _ in fine), vectors, strict=True):
                        job.keep(missing, vector)
            bar.update(len(read))
            if failed := len(set().union(*(job.failures for job in jobs))):
                bar.set_postfix(failed=failed)


def _forward(
    encoders: Sequence[Encoder], fine: "list[tuple[Missing, torch.Tensor]]", first: int, size: int
) -> "list[NDArray[np.float32]]":
    """Run one batch of fixed size, every image in its own slot; the slots of stored and failed images stay zero."""
    import torch

    example = fine[0][1]
    full = torch.zeros((size, *example.shape), dtype=example.dtype)
    slots = [missing.row - first for missing, _ in fine]
    for slot, (_, tensor) in zip(slots, fine, strict=True):
        full[slot] = tensor
    return [vectors[slots] for vectors in encode_layers(encoders, full)]


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
