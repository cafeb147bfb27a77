"""Images through a network with all cores: every thread decodes a batch, then runs it on a twin of its own.

So no core waits for another, as a network on all cores waits for its slowest thread and for decoding. Where the network
cannot have twins, as on a GPU, the threads take turns at it, and decode meanwhile.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import islice
from queue import SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from .allocator import kept_pages
from .encoders import Encoder, encode_layers
from .errors import ImageReadError
from .images import ImageSet
from .store import Missing, Stamp

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Outcome = tuple[Missing, list[NDArray[np.float32]] | str]

# What a batch's largest output may take: above some 30 MB glibc's allocator gives memory back to the system each time
# and has it zeroed anew, page by page.
_LARGEST_OUTPUT = 20e6
_LEAST, _MOST = 4, 32  # fewer, and reading the weights of a large classifier costs more than the pages


def fitting_batch(encoder: Encoder) -> int:
    """Return how many images a forward pass should take: from 4 to 32, by the largest output inside the network."""
    if encoder.device != "cpu":
        return _MOST
    numbers = max(np.prod(call.shape[1:]) for call in encoder.calls)
    return int(np.clip(_LARGEST_OUTPUT / (4 * numbers), _LEAST, _MOST))


def computed(
    images: ImageSet,
    crews: Sequence[list[Encoder]],
    batches: Iterator[list[Missing]],
    *,
    batch_size: int,
    at_least: int | None,
) -> "Generator[list[Outcome]]":
    """Yield, a batch at a time and as they finish, what has come of each image.

    Batches are taken from the iterator as threads become free, in the thread that asks for results. When the generator
    is closed or stopped, the batches that are under way end and no other begins.

    Parameters
    ----------
    images
        The images.
    crews
        What may run at the same time, as `side_by_side` gives it: each is one network at its layers.
    batches
        Of images whose rows have the same row // batch_size: the image in row r sits in slot r % batch_size of a
        forward pass of always the same size, because a vector's last bits depend on both.
    batch_size
        Images a forward pass, the last one of a set excepted. Slots of images that are known are computed as well.
    at_least
        Pixels that the shorter side of an image must keep where a JPEG may be decoded at reduced scale; None: no image
        may.

    Yields
    ------
    list of (Missing, list of NDArray or str)
        A vector (d,) float32 for each encoder of a crew, or the reason why there is none. The key is None where the
        file was no longer what had been hashed.
    """
    from PIL import Image

    first_crew = crews[0][0]
    idle: SimpleQueue[list[Encoder]] = SimpleQueue()
    for crew in crews:
        idle.put(crew)
    # A user's dataset or preprocess may not bear two threads at once.
    reading = nullcontext() if images.whole_files else Lock()
    seeing = nullcontext() if first_crew.input.known else Lock()
    Image.init()  # Pillow loads its plug-ins at first use, and threads should not meet there

    def work(batch: list[Missing]) -> "list[Outcome]":
        read = [_read(images, first_crew, missing, at_least, (reading, seeing)) for missing in batch]
        fine = [(missing, pixels) for missing, pixels in read if not isinstance(pixels, str)]
        found: list[Outcome] = [(missing, reason) for missing, reason in read if isinstance(reason, str)]
        if fine:
            first = batch[0].row // batch_size * batch_size
            crew = idle.get()
            try:
                vectors = _forward(crew, fine, first, min(batch_size, len(images) - first))
            except Exception as error:
                names = ", ".join(repr(images.ids[missing.row]) for missing, _ in fine[:3])
                error.add_note(
                    f"{first_crew.name} failed on a batch of {len(fine)} images ({names}{', ...' * (len(fine) > 3)}). "
                    "What was done before is stored. Where memory was short, give a smaller batch_size=."
                )
                raise
            finally:
                idle.put(crew)
            found += [(missing, [layer[i] for layer in vectors]) for i, (missing, _) in enumerate(fine)]
        return found

    with kept_pages(), _cores_shared_by(len(crews)) as (cores, initializer):
        threads = max(cores, 2)  # beside one network, one decodes at least
        with ThreadPoolExecutor(threads, initializer=initializer) as pool:
            yield from _in_turn(pool, work, batches, threads + 1)


_running = Lock()
_runs: list[int] = []  # the cores of each run that is under way


def usable_cores() -> int:
    """Return how many cores torch may use, `torch.set_num_threads` or by default all, also while other runs go on."""
    import torch

    return _runs[0] if _runs else torch.get_num_threads()


@contextmanager
def _cores_shared_by(n: int) -> "Generator[tuple[int, Callable[[], None]]]":
    """Give the number of cores, and what makes a thread take its share of them.

    torch.set_num_threads is for the thread that calls it, and for threads to come: so the number comes back only when
    no other run is under way.
    """
    import torch

    with _running:
        cores = usable_cores()
        _runs.append(cores)
    try:
        yield cores, partial(torch.set_num_threads, max(cores // n, 1))
    finally:
        with _running:
            _runs.pop()
            if not _runs:
                torch.set_num_threads(cores)


def _in_turn(
    pool: ThreadPoolExecutor,
    work: "Callable[[list[Missing]], list[Outcome]]",
    batches: Iterator[list[Missing]],
    most: int,
) -> "Generator[list[Outcome]]":
    """Keep the pool busy with at most so many batches at once, and yield what is done."""
    running: set[Future[list[Outcome]]] = set()
    try:
        while True:
            for batch in islice(batches, most - len(running)):
                running.add(pool.submit(work, batch))
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                found = future.result()
                running.remove(future)
                yield found
    except GeneratorExit:
        raise
    except BaseException:  # Ctrl-C, or what a network raised: the batches that are under way are kept nonetheless
        for future in running:
            future.cancel()
        for future in wait(running).done:
            if not future.cancelled() and not future.exception():
                yield future.result()
        raise
    finally:
        for future in running:
            future.cancel()


def _read(
    images: ImageSet,
    encoder: Encoder,
    missing: Missing,
    at_least: int | None,
    locks: Sequence[AbstractContextManager],
) -> "tuple[Missing, Tensor | str]":
    """Return an image's pixels (3, h, w), or the reason why there are none."""
    reading, seeing = locks
    try:
        with reading:
            image = images.read(missing.row, at_least=at_least)
    except ImageReadError as error:
        return missing, str(error)
    path = images.paths[missing.row]
    if missing.stamp and path and Stamp.of(path) != missing.stamp:
        missing = missing._replace(key=None)  # the file is no longer the one that was hashed
    try:
        with seeing:
            return missing, encoder.input.pixels(image)
    except Exception as error:  # a user's callable may raise anything; one image must not stop the run
        return missing, (
            f"Image {images.ids[missing.row]!r}: preprocess failed with {type(error).__name__}: {error}. "
            "Leave the image out, or let the preprocess take it."
        )


def _forward(
    encoders: Sequence[Encoder], fine: "Sequence[tuple[Missing, Tensor]]", first: int, size: int
) -> "list[NDArray[np.float32]]":
    """Run one batch of fixed size, every image in its own slot; the slots of stored and failed images stay zero."""
    import torch

    example = fine[0][1]
    full = torch.zeros((size, *example.shape), dtype=example.dtype)
    slots = [missing.row - first for missing, _ in fine]
    for slot, (_, pixels) in zip(slots, fine, strict=True):
        full[slot] = pixels
    batch = encoders[0].input.values(full.to(encoders[0].device))
    return [vectors[slots] for vectors in encode_layers(encoders, batch)]
