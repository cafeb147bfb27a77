"""Small pictures for the map: one WebP file an image, made a few at a time by whichever thread asks."""

import io
import threading
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from itertools import islice
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from PIL.Image import Resampling

from ..errors import ImageReadError
from ..synthetic import Scenes

if TYPE_CHECKING:
    from PIL import Image

    from ..embeddings import Embeddings
    from ..images import ImageSet

# Pixels of the longer side, by how many there are: about 1 kB a point at most, decoded in the browser when hovered.
_SIDES = ((10_000, 64), (50_000, 48))
_SMALLEST = 32
_AT_ONCE = 16  # large photos take some 20 ms each, and a thread that is told to end finishes these first
_WORKERS = 2

_kept: "WeakKeyDictionary[Embeddings, Thumbnails]" = WeakKeyDictionary()


class Step(NamedTuple):
    """A few thumbnails more: `done` is the share of all, 0 to 1."""

    done: float


class Thumbnails:
    """The thumbnails of one set of images, each made once, whoever asks and in whatever thread.

    Rows come in a seeded random order, so that early ones lie all over the map; those asked for by `first` come before.

    Parameters
    ----------
    images
        Where the pictures come from; None: there are none.
    ids
        n ids, in the order of the embeddings. One that the images do not have gets an empty file.

    Attributes
    ----------
    log : list of int
        Rows that are made, in the order in which they were; it only grows.
    """

    def __init__(self, images: "ImageSet | None", ids: list[str]) -> None:
        self._images, self._ids = images, ids
        self._known = set() if images is None else set(images.ids)
        self._files: list[bytes | None] = [None] * (len(ids) if images is not None else 0)
        self.log: list[int] = []
        self._side = next((s for most, s in _SIDES if len(ids) <= most), _SMALLEST)
        self._order: list[int] = np.random.default_rng(0).permutation(len(self._files)).tolist()
        self._at = 0  # all before it in the order are made
        self._wanted: list[int] = []
        self._one_batch = threading.Lock()

    def __len__(self) -> int:
        return len(self._files)

    @property
    def complete(self) -> bool:
        """Whether all are made."""
        return len(self.log) == len(self)

    @property
    def in_threads(self) -> bool:
        """Whether images may be read while the user's own code reads others.

        Files that vizkit reads and scenes that it draws may. A user's dataset may hold one open file that all its items
        come from: read at two places at once it would give wrong pictures, or vectors of wrong pictures.
        """
        return self._images is not None and (self._images.whole_files or isinstance(self._images, Scenes))

    def first(self, rows: Iterable[int]) -> None:
        """Make these before the others."""
        self._wanted = [int(row) for row in rows]

    def steps(self) -> Iterator[Step]:
        """Make what is missing, some at a time; another thread that does the same takes other rows."""
        # Not a ThreadPoolExecutor: it refuses work as soon as the interpreter begins to end, as an error in our thread.
        with ThreadPool(_WORKERS) if self.in_threads else nullcontext() as pool:
            while not self.complete:
                with self._one_batch:
                    rows = self._next_rows()
                    for row, file in zip(rows, (pool.map if pool else map)(self._small, rows), strict=True):
                        self._files[row] = file
                    self.log += rows
                yield Step(len(self.log) / len(self))
        yield Step(1.0)

    def finish(self) -> None:
        """Make all that are missing, with a bar."""
        from tqdm.auto import tqdm

        if self.complete:
            return
        with tqdm(total=len(self), initial=len(self.log), desc="thumbnails", delay=2, leave=False) as bar:
            for _ in self.steps():
                bar.update(len(self.log) - bar.n)

    def part(self, rows: list[int]) -> list[bytes]:
        """Return rows (uint32), offsets (uint32, one more) and the files one after the other; none that is not made."""
        files = [self._files[row] or b"" for row in rows]
        return [np.asarray(rows, "<u4").tobytes(), _offsets(files), b"".join(files)]

    def all(self) -> tuple[bytes, bytes]:
        """Return the files one after the other, and n + 1 offsets (uint32) into them; both empty without images.

        An image that cannot be read, or is not made yet, has an empty file.
        """
        if not len(self):
            return b"", b""
        files = [file or b"" for file in self._files]
        return b"".join(files), _offsets(files)

    def _next_rows(self) -> list[int]:
        wanted, self._wanted = self._wanted, []
        rows = [row for row in dict.fromkeys(wanted) if self._files[row] is None]
        while self._at < len(self) and self._files[self._order[self._at]] is not None:
            self._at += 1
        for row in islice(self._order, self._at, None):
            if len(rows) >= _AT_ONCE:
                break
            if self._files[row] is None and row not in rows:
                rows.append(row)
        return rows

    def _small(self, row: int) -> bytes:
        images, id = self._images, self._ids[row]
        if images is None or id not in self._known:
            return b""
        try:
            # Three times as large is where `webp` would begin to make it smaller in any case.
            return webp(images.read(images.row(id), at_least=3 * self._side), self._side, quality=75)
        except ImageReadError:
            return b""  # the map shows its point without a picture


def thumbnails_of(embeddings: "Embeddings") -> Thumbnails:
    """Return the thumbnails of embeddings, kept for as long as these live; where no thread may, they are made now."""
    if embeddings not in _kept:
        _kept[embeddings] = Thumbnails(embeddings.images, list(embeddings.ids))
    found = _kept[embeddings]
    if not found.in_threads:
        found.finish()
    return found


def _offsets(files: list[bytes]) -> bytes:
    return np.cumsum([0, *(len(file) for file in files)]).astype("<u4").tobytes()


def webp(image: "Image.Image", side: int, *, quality: int = 85) -> bytes:
    """Return an image as a WebP file whose longer side has at most `side` pixels."""
    longer = max(image.size)
    if longer > side:  # not `thumbnail`, which would need a copy of the whole first
        size = [max(1, round(length * side / longer)) for length in image.size]
        image = image.resize((size[0], size[1]), Resampling.BICUBIC, reducing_gap=3.0)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=2)
    return buffer.getvalue()
