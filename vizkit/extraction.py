"""Images and an encoder in, vectors out: `embed`."""

import os
import random
import sys
import time
import warnings
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd

from .cards import card, identify
from .embeddings import FAILURE_COLUMNS, Embeddings
from .encoders import Encoder
from .errors import InputError
from .fusion import side_by_side
from .images import ImageSet
from .pipeline import computed, fitting_batch, usable_cores
from .progress import progress_bar
from .room import room
from .sources import path_text
from .store import Cache, Missing, default_cache, versions
from .umap_layout import warm_up_behind

# Raised when vizkit comes to compute other vectors from the same network: what an earlier one stored is then not used.
_RECIPE = 3
_COMPARED = 100  # images that say how many nearest neighbors a faster way keeps

if TYPE_CHECKING:
    from numpy.typing import NDArray


@overload
def embed(
    images: ImageSet,
    encoder: Encoder,
    *,
    layers: None = None,
    cache: str | Path | None = None,
    batch_size: int | None = None,
    reduced: bool = False,
    progress: bool = True,
) -> Embeddings: ...


@overload
def embed(
    images: ImageSet,
    encoder: Encoder,
    *,
    layers: Iterable[str],
    cache: str | Path | None = None,
    batch_size: int | None = None,
    reduced: bool = False,
    progress: bool = True,
) -> dict[str, Embeddings]: ...


def embed(
    images: ImageSet,
    encoder: Encoder,
    *,
    layers: Iterable[str] | None = None,
    cache: str | Path | None = None,
    batch_size: int | None = None,
    reduced: bool = False,
    progress: bool = True,
) -> Embeddings | dict[str, Embeddings]:
    """Compute one vector an image, at one layer or at several in one pass; what was computed before is read.

    A run that was stopped goes on where it was, and so does one that another process on the same cache has begun. The
    image in row r always sits in slot r % batch_size of a batch of fixed size, because the last bits of a vector depend
    on both: so a resumed run equals an undisturbed one bit by bit. A layer among several equals that layer alone, bit
    by bit too unless the own output of a convolution is among them. Images of equal content are computed once.

    On a CPU every core decodes images and runs a twin of the network, with BatchNorm folded into the convolutions,
    where the vectors of two drawn images are within 1e-4 of their norm of the network's own; the network itself stays
    as it is. `torch.set_num_threads` says how many cores.

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
        Images a forward pass. By default 32 on a GPU, and on a CPU from 4 to 32, by the size of what the network makes
        of them: larger batches are slower there.
    reduced
        Decode JPEGs much larger than the network's input at 1/2, 1/4 or 1/8 of their size, to no less than twice the
        pixels that the shorter side is then resized to. Faster on photos of many megapixels, and not exact.
    progress
        Show a progress bar with images a second, the time left and how many failed. With precision "half" or `reduced`
        also the line that says how many nearest neighbors are kept.

    Returns
    -------
    Embeddings, or dict of name to Embeddings where layers are named
        `vectors` (n, d) float32 in the order of `images`; with pool "none", d numbers in the order of `encoder.shape`.
        Every image is in exactly one of `vectors` and `failures`; where none gave a vector, a warning says why.
        With precision "half" or `reduced`, `provenance["exactness"]` says, for up to 100 of the images, the share whose
        nearest neighbor among them is that of exact vectors. Vectors that would not fit into memory lie in a temporary
        file, and are mapped.

    Raises
    ------
    InputError
        There are no images, `encoder` is no `vizkit.Encoder`, `batch_size` is no whole number from 1, `layers` is no
        list of different names, or `reduced` is asked for and the images are not files.
    LayerNotFoundError
        The network has no such layer.
    StoreError
        The cache cannot be written.
    """
    layers = None if layers is None else _names(layers)
    _check(images, encoder, batch_size, reduced)
    encoders = [encoder] if layers is None else [encoder.at(layer) for layer in layers]
    machinery = {
        "device": _device_type(encoder),
        "recipe": _RECIPE,
        "versions": versions("torch", "torchvision", "pillow"),
    }
    at_least = 2 * encoder.input.shorter if reduced else None
    if reduced:
        machinery["decoding"] = f"JPEGs at reduced scale, the shorter side at least {at_least} pixels"
    batch_size = batch_size or fitting_batch(encoder)
    jobs: list[_Job] = []
    hashed: dict[int, Any] = {}
    with ExitStack() as stack:
        for each, identity in zip(encoders, identify(encoders), strict=True):
            words = {str(name): str(value) for name, value in card(each, identity)["value"].items()}
            store = Cache(Path(cache or default_cache()), identity.fingerprint, machinery, {"card": words})
            stack.callback(store.close)  # also after Ctrl-C: what is done is kept
            provenance = {"fingerprint": identity.fingerprint, **machinery, "card": words, "seed": encoder.seed}
            if images.unlisted:
                provenance["folders that could not be listed"] = images.unlisted
            jobs.append(_Job(each, images, store, provenance, len(encoders)))
            jobs[-1].recall(hashed, progress)
        try:
            _compute(images, jobs, batch_size, at_least, progress)
        except KeyboardInterrupt as stop:
            unknown = set().union(*(job.open.keys() | job.failures.keys() for job in jobs))
            stop.add_note(f"{len(images) - len(unknown):,} of {len(images):,} images are stored.")
            raise
    warm_up_behind()  # the map is what most ask for next
    results = [job.result(batch_size) for job in jobs]
    if reduced or encoder.precision != "float32":
        _compare(results, encoders, layers, cache, progress)
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
        self, encoder: Encoder, images: ImageSet, store: Cache, provenance: dict[str, Any], among: int
    ) -> None:
        self.encoder, self.images, self.store, self.provenance = encoder, images, store, provenance
        self.vectors = room((len(images), encoder.dim), among=among)
        self.failures: dict[int, str] = {}
        self.open: dict[int, Missing] = {}
        self._twins: dict[str, list[int]] = {}

    def recall(self, hashed: dict[int, Any], progress: bool) -> None:
        """Take over what is stored, and note the rest as open; layers share what they learn of an image's content."""
        missing = self.store.recall(self.images, self.vectors, self.failures, hashed, progress=progress)
        self.open = {one.row: one for one in missing}
        for row in sorted(self.open):
            if key := self.open[row].key:
                self._twins.setdefault(key, []).append(row)

    def first(self, row: int) -> bool:
        """Say whether an open row is the first of those whose images are the same: the others get its vector."""
        key = self.open[row].key
        return key is None or self._twins[key][0] == row

    def keep(self, missing: Missing, outcome: "NDArray[np.float32] | str") -> None:
        """Keep the vector of an image, or the reason why it has none; a row that was known stays as it was."""
        if missing.row not in self.open:
            return
        if isinstance(outcome, str):
            self._fail(missing.row, outcome)
        elif not np.isfinite(outcome).all():
            self._fail(
                missing.row,
                f"Image {self.images.ids[missing.row]!r}: the network gave NaN or infinity for it. "
                "Look at the image and at the network's weights; with precision='half', try 'float32'.",
            )
        elif missing.key is None:
            self._settle(missing.row, outcome)
        else:
            for row in self._twins[missing.key]:  # of an image that is known, the store notes the file alone
                self.store.add(missing.key, missing.stamp if row == missing.row else self.open[row].stamp, outcome)
            self._settle_all(missing.key, outcome)

    def catch_up(self) -> None:
        """Take over what other processes have stored meanwhile."""
        for key, vector in self.store.news().items():
            self._settle_all(key, vector)

    def _settle_all(self, key: str, vector: "NDArray[np.float32]") -> None:
        for row in self._twins.get(key, [])[:]:
            self._settle(row, vector)

    def _settle(self, row: int, vector: "NDArray[np.float32]") -> None:
        self.vectors[row] = vector
        self._close(row)

    def _fail(self, row: int, reason: str) -> None:
        self.failures[row] = reason
        self._close(row)

    def _close(self, row: int) -> None:
        key = self.open.pop(row).key
        if key:
            self._twins[key].remove(row)

    def result(self, batch_size: int) -> Embeddings:
        """Return what has come of every image."""
        images, failures = self.images, self.failures
        good = np.flatnonzero([row not in failures for row in range(len(images))])
        places = [path_text(path) if path else "" for path in images.paths]
        failed = [(images.ids[row], places[row], failures[row]) for row in sorted(failures)]
        return Embeddings(
            _front(self.vectors, good),
            images.frame.iloc[good],
            pd.DataFrame(failed, columns=FAILURE_COLUMNS),
            images,
            self.encoder,
            {**self.provenance, "batch_size": int(batch_size)},
        )


def _front(vectors: "NDArray[np.float32]", rows: "NDArray[np.int64]") -> "NDArray[np.float32]":
    """Move rows, in rising order, to the front, in place: there may be no memory for a second array."""
    if len(rows) < len(vectors):
        for start in range(0, len(rows), 4096):
            block = rows[start : start + 4096]
            vectors[start : start + len(block)] = vectors[block]
    return vectors[: len(rows)]


def _check(images: Any, encoder: Any, batch_size: Any, reduced: Any) -> None:
    if not isinstance(images, ImageSet):
        raise InputError(f"images must be an ImageSet, not {type(images).__name__}: use vk.ImageSet.from_folder(...).")
    if not isinstance(encoder, Encoder):
        made = repr(encoder) if isinstance(encoder, str) else "module, preprocess=..."
        raise InputError(f"encoder must be an Encoder, not {type(encoder).__name__}: wrap it in vk.Encoder({made}).")
    if len(images) == 0:
        raise InputError("There are no images to embed: the ImageSet is empty.")
    whole = isinstance(batch_size, int | np.integer) and not isinstance(batch_size, bool)
    if batch_size is not None and not (whole and batch_size >= 1):
        raise InputError(f"batch_size is {batch_size!r}; expected a whole number of images, 1 or more.")
    if not isinstance(reduced, bool):
        raise InputError(f"reduced is {reduced!r}; expected True or False.")
    if reduced and not images.whole_files:
        raise InputError(
            "reduced=True decodes JPEG files at a fraction of their size, and these images are not plain files: "
            "expected an ImageSet of files, as from_folder gives. Leave reduced= out."
        )


def _compare(
    results: Sequence[Embeddings],
    encoders: Sequence[Encoder],
    layers: list[str] | None,
    cache: str | Path | None,
    progress: bool,
) -> None:
    """Say in the provenance of each result how many nearest neighbors are those of exact vectors."""
    from scipy.stats import binomtest
    from tqdm.auto import tqdm

    images, encoder = results[0].images, encoders[0]
    both = [id for id in results[0].ids if all(id in result.frame.index for result in results)]
    some = [both[i] for i in np.unique(np.linspace(0, max(len(both) - 1, 0), min(_COMPARED, len(both))).astype(int))]
    unknown = "not measured: it takes three images"
    if images is None or len(some) < 3:
        for result in results:
            result.provenance["exactness"] = unknown
        return
    if progress:
        tqdm.write(f"{encoder.name}: {len(some)} of them once more, exactly, to compare", file=sys.stderr)
    start = time.perf_counter()
    exact = embed(images.subset(some), encoder.exact(), layers=layers, cache=cache, progress=progress)
    for each, result in zip(encoders, results, strict=True):
        wanted = exact if isinstance(exact, Embeddings) else exact[each.layer]
        ours = result.vectors[[result.row(id) for id in wanted.ids]]
        n = len(ours)
        if n < 3:  # files went meanwhile
            result.provenance["exactness"] = unknown
            continue
        same = int((_nearest(ours) == _nearest(wanted.vectors)).sum())
        low, high = binomtest(same, n).proportion_ci(method="wilson")
        result.provenance["exactness"] = {
            "nearest kept": same / n,
            "95% interval": [float(low), float(high)],
            "chance": 1 / (n - 1),
            "images": n,
            "seconds": time.perf_counter() - start,
        }
        if progress:
            where = "" if layers is None else f" at {each.layer}"
            tqdm.write(
                f"{each.name}{where}: {same} of {n} images ({len(result):,} in all) keep the nearest neighbor of exact "
                f"vectors: {same / n:.2f} (95% interval {low:.2f} to {high:.2f}, chance {1 / (n - 1):.2f}).",
                file=sys.stderr,
            )


def _nearest(vectors: "NDArray[np.float32]") -> "NDArray[np.int64]":
    """Return, for each of a few vectors, the row of the one that is nearest by cosine."""
    unit = vectors / np.maximum(np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True), 1e-30)
    similarities = unit @ unit.T
    np.fill_diagonal(similarities, -np.inf)
    return similarities.argmax(axis=1)


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


def _compute(images: ImageSet, jobs: list[_Job], batch_size: int, at_least: int | None, progress: bool) -> None:
    def left() -> int:
        return max(len(job.open) for job in jobs)

    n, encoders = len(images), [job.encoder for job in jobs]
    failed = set().union(*(job.failures for job in jobs))
    with progress_bar(n, done=n - left(), name=encoders[0].name, shown=progress) as bar:
        crews = side_by_side(encoders, usable_cores()) if left() else []
        # Of equal images the first is computed. Where that gave nothing, its file changed or gone, each is for itself.
        for once in (True, False) if left() else ():
            batches = _batches(jobs, batch_size, once)
            with closing(computed(images, crews, batches, batch_size=batch_size, at_least=at_least)) as found:
                for outcomes in found:
                    for missing, outcome in outcomes:
                        for i, job in enumerate(jobs):
                            job.keep(missing, outcome if isinstance(outcome, str) else outcome[i])
                            failed |= job.failures.keys() & {missing.row}
                    for job in jobs:
                        job.catch_up()
                    if failed:
                        bar.set_postfix(failed=len(failed), refresh=False)
                    bar.update(n - left() - bar.n)


def _batches(jobs: list[_Job], batch_size: int, once: bool) -> Iterator[list[Missing]]:
    """Yield the images to compute, batch by batch; what is known by the time that its batch comes is left out.

    The first process on a cache begins at the front; any other takes batches as they fall, so that no two of them go
    through the images in step and compute the same.
    """
    rows = sorted({row for job in jobs for row in job.open if not once or job.first(row)})
    starts = sorted({row // batch_size for row in rows})
    if not jobs[0].store.alone:
        random.Random(os.getpid()).shuffle(starts)
    for start in starts:
        some = rows[bisect_left(rows, start * batch_size) : bisect_left(rows, (start + 1) * batch_size)]
        wanted = [next((job.open[row] for job in jobs if row in job.open), None) for row in some]
        if found := [missing for missing in wanted if missing]:
            yield found
