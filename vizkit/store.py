"""The cache of `vizkit.embed`: vectors by what is in an image, in a folder that several processes may fill at once.

    <cache>/shard-<name>.parquet          rows of key, path, size, mtime_ns and vector
    <cache>/_stamps/shard-<name>.stamps   the same without vectors: files whose content was known by another stamp
    <cache>/_manifest.json                what made the vectors
    <cache>/_lock                         held by the process that came first

A row is keyed by the hash of the image's content; path, size and modification time stand beside it, so that an
unchanged file is not hashed again. Memory holds an index of the shards, never all vectors.
"""

import contextlib
import hashlib
import json
import time
import warnings
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .errors import ImageReadError, StoreError
from .index import Index, Stamp
from .shards import (
    MANIFEST,
    SCHEMA,
    DamagedError,
    read_manifest,
    release_memory,
    versions,
    write_manifest,
)

if TYPE_CHECKING:
    import filelock
    from numpy.typing import NDArray

    from .images import ImageSet

__all__ = ["Cache", "Missing", "Stamp", "default_cache", "versions"]

_SHARD_SECONDS = 1.0


class Missing(NamedTuple):
    """An image that has no stored vector: its row, the key to store it by (None: not at all), and its file's stamp."""

    row: int
    key: str | None
    stamp: Stamp | None


def default_cache() -> Path:
    """Return the user's cache folder for vizkit (the place that the operating system gives)."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("vizkit", appauthor=False)) / "embeddings"


class Cache:
    """The vectors of one encoder, by content of the image; what is added is on disk about a second later.

    Several processes may work on one cache at once.

    Parameters
    ----------
    folder
        Parent of all caches; this encoder's shards lie in the subfolder named after its fingerprint and machinery.
    fingerprint
        `Encoder.fingerprint`: vectors of another network, layer, pooling or preprocess are never mixed in.
    machinery
        What else decides a vector's last bits: kind of device, versions of libraries. Of another one, none are used.
    provenance
        What the manifest records beside these two.

    Attributes
    ----------
    folder : Path
    alone : bool
        Whether this process came first, of those that work on this cache now.

    Raises
    ------
    StoreError
        The folder cannot be made, listed or read; or it cannot be written, and nothing is stored in it.
    """

    def __init__(self, folder: Path, fingerprint: str, machinery: dict[str, Any], provenance: dict[str, Any]) -> None:
        mark = hashlib.sha256(json.dumps({"schema": SCHEMA, **machinery}, sort_keys=True).encode()).hexdigest()[:8]
        self.folder = folder / f"{fingerprint}-{mark}"
        self._own = {"kind": "cache", "fingerprint": fingerprint, **machinery}
        self._further = provenance
        self._pending: dict[str, tuple[Stamp | None, NDArray[np.float32]]] = {}
        self._notes: list[tuple[str, Stamp]] = []
        self._last_write = self._last_look = time.monotonic()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error
        self._lock, self.alone = _lock(self.folder / "_lock")
        self._index = Index(self.folder)
        self._check_manifest()
        if self.alone:
            self._index.tidy()

    def recall(
        self,
        images: "ImageSet",
        vectors: "NDArray[np.float32]",
        failures: dict[int, str],
        hashed: dict[int, Any],
        *,
        progress: bool = True,
    ) -> list[Missing]:
        """Fill in stored vectors; return what must be computed. An image that cannot be read joins the failures.

        Parameters
        ----------
        images
            The images.
        vectors
            (n, d) float32; the rows of stored images are written.
        failures
            Reason by row; gets the images that cannot be read.
        hashed
            What other layers' caches have found out about the content of rows; gets what is found here.
        progress
            Show a progress bar where this takes longer than two seconds.

        Returns
        -------
        list of Missing
            In the order of the rows. Of several rows with one key, each.
        """
        from tqdm.auto import tqdm

        self._index.catch_up()
        todo: list[Missing] = []
        waiting = tqdm(range(len(images)), desc="look up", unit="image", delay=2, leave=False, disable=not progress)
        while True:
            rows, places = array("q"), array("q")
            for row in waiting:
                try:
                    missing, place = self._look_up(images, row, hashed)
                except ImageReadError as error:
                    failures[row] = str(error)
                    continue
                if place is not None:
                    rows.append(row)
                    places.append(place)
                elif missing.key in self._pending:
                    vectors[row] = self._pending[missing.key][1]
                else:
                    todo.append(missing)
            lost = self._index.fill(vectors, np.asarray(rows, np.int64), np.asarray(places, np.int64))
            if not lost:
                release_memory()
                return sorted(todo, key=lambda missing: missing.row)
            # Their shard was damaged, or has gone into a merged one: a fresh look finds what there is elsewhere.
            self._refresh()
            for row in lost:
                hashed.pop(row, None)
            waiting = [*lost, *(missing.row for missing in todo)]
            todo.clear()

    def add(self, key: str, stamp: Stamp | None, vector: "NDArray[np.float32]") -> None:
        """Keep a vector, (d,) float32, or of one that is stored the stamp; it reaches the disk at the next write.

        Raises
        ------
        StoreError
            It was time to write, and the folder cannot be written: what is pending stays pending.
        """
        if key in self._index or key in self._pending:
            self._note(key, stamp)
        else:
            self._pending[key] = (stamp, np.array(vector, np.float32))
            if stamp:
                self._index.remember(stamp, key)
        if time.monotonic() - self._last_write > _SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is pending as one shard.

        Raises
        ------
        StoreError
            The folder cannot be written: what is pending stays pending, and what was written before is kept.
        """
        if self._pending:
            try:
                self._settle()
            except OSError as error:
                raise self._unwritable(error) from error
            stamps, vectors = zip(*self._pending.values(), strict=True)
            self._index.write(list(self._pending), stamps, np.stack(vectors))
            self._pending.clear()
        if self._notes:
            # Where these cannot be written, the files are hashed again next time, and nothing is lost.
            with contextlib.suppress(StoreError, OSError):
                (self.folder / "_stamps").mkdir(exist_ok=True)
                self._index.write([key for key, _ in self._notes], [stamp for _, stamp in self._notes])
            self._notes.clear()
        self._last_write = time.monotonic()
        self._index.merge()

    def news(self) -> "dict[str, NDArray[np.float32]]":
        """Return the vectors, (d,) float32 by key, that other processes have stored since the last call.

        The folder is listed at most about once a second; in between the answer is empty.
        """
        if time.monotonic() - self._last_look < _SHARD_SECONDS:
            return {}
        found = {key: vector for key, vector in self._index.news().items() if key not in self._pending}
        self._last_look = time.monotonic()
        return found

    def close(self) -> None:
        """Write what is pending, and let another process be the first one; StoreError as `flush` raises it."""
        try:
            self.flush()
        finally:
            if self._lock is not None:
                self._lock.release()
                self._lock = None

    def _look_up(self, images: "ImageSet", row: int, hashed: dict[int, Any]) -> tuple[Missing, int | None]:
        """Return the key and stamp of an image, and the place of its vector; ImageReadError where it has no key."""
        path = images.paths[row]
        # An unchanged file says that the image is unchanged only where the file alone decides what is seen.
        stamp = Stamp.of(path) if path and images.whole_files else None
        known = self._index.key_of(stamp)
        mark = stamp and stamp.mark
        before = hashed.get(row)
        # What was found out earlier is of use only while the file is the same: its stamp goes with it.
        key = known or (before[0] if before and before[1] == mark else images.fingerprint(row))
        hashed[row] = (key, mark)
        place = self._index.place(key)
        if known is None and place is not None:
            self._note(key, stamp)  # moved or touched: not hashed again next time
        return Missing(row, key, stamp), place

    def _note(self, key: str, stamp: Stamp | None) -> None:
        if stamp and self._index.key_of(stamp) != key:
            self._index.remember(stamp, key)
            self._notes.append((key, stamp))

    def _refresh(self) -> None:
        self._index.refresh()
        for key, (stamp, _) in self._pending.items():
            if stamp:
                self._index.remember(stamp, key)
        for key, stamp in self._notes:
            self._index.remember(stamp, key)

    def _check_manifest(self) -> None:
        """Write the manifest where there is none, or none that is right: what belongs into it is known."""
        try:
            if (self.folder / MANIFEST).exists():
                found = read_manifest(self.folder)
                if any(found.get(name) != value for name, value in json.loads(json.dumps(self._own)).items()):
                    raise DamagedError(f"The manifest {str(self.folder / MANIFEST)!r} tells of another cache.")
        except DamagedError as error:
            warnings.warn(f"{error} It is written anew; every shard has a checksum of its own.", stacklevel=3)
            with contextlib.suppress(OSError):
                (self.folder / MANIFEST).unlink()
        try:
            self._settle()
        except OSError as error:
            if not len(self._index):
                raise self._unwritable(error) from error

    def _settle(self) -> None:
        """Make the folder and its manifest where they are missing, at first or because somebody deleted them."""
        if not (self.folder / MANIFEST).exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_manifest(self.folder, {**self._further, **self._own})

    def _unwritable(self, error: OSError) -> StoreError:
        return StoreError(
            f"The cache folder {str(self.folder)!r} cannot be written ({error}). What was written before is kept: "
            "give another with cache=FOLDER, or free some space, then run again."
        )


def _lock(path: Path) -> "tuple[filelock.BaseFileLock | None, bool]":
    """Return a lock that this process holds, if it got it, and whether it is the first one here."""
    import filelock

    lock = filelock.FileLock(path)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        return None, False
    except (OSError, NotImplementedError):  # a folder that cannot be written, or a file system without locks
        return None, True
    return lock, True
