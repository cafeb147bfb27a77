"""Where in a cache's folder the vector of each image lies: an index of shards, which other processes add to as well.

A shard never changes. Small ones are merged into a larger one, which is complete before they go; whoever misses a shard
lists the folder again. Parquet's checksums cover the data but neither the page headers nor the footer, so every shard
also says what its values hash to.
"""

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .errors import StoreError
from .shards import (
    DamagedError,
    left_over,
    read_parquet,
    release_memory,
    shard_name,
    sync_folder,
    vector_column,
    vector_field,
    vectors_of,
    write_parts,
)
from .sources import path_text

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

_MANY_SHARDS = 32
# Smaller than a result's shards: merging goes on beside the network, in memory that the network could use.
_MERGED_BYTES = 8 * 2**20
_SMALL_BYTES = 4 * 2**20
INDEX_COLUMNS = ["key", "path", "size", "mtime_ns"]
_STAMPS = "_stamps/"
_ROWS = 1 << 32  # more than a shard can have


class Stamp(NamedTuple):
    """A file as the file system describes it: absolute path, size in bytes, modification time in nanoseconds."""

    path: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> "Stamp | None":
        """Return the stamp of a file, or None where the file system cannot tell (the reader will then say why)."""
        try:
            status = path.stat()
            return cls(path_text(path.absolute()), status.st_size, status.st_mtime_ns)
        except OSError:
            return None

    @property
    def mark(self) -> bytes:
        """16 bytes that stand for this stamp, at a third of the memory."""
        return hashlib.blake2b(f"{self.size} {self.mtime_ns} {self.path}".encode(), digest_size=16).digest()


class Shard(NamedTuple):
    """What a shard holds; lists are empty, and the vectors (n, d) of no rows, where they were not asked for."""

    keys: list[str]
    stamps: list[Stamp | None]
    vectors: "NDArray[np.float32]"


class Index:
    """The shards of one cache: which keys and stamps they hold, and in memory nothing else.

    Parameters
    ----------
    folder
        The cache's folder; its name tells its shards from those of another cache.

    Raises
    ------
    StoreError
        The folder cannot be listed, or a shard cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._own: dict[str, int] = {}
        self._useless: set[str] = set()
        self.refresh()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def place(self, key: str) -> int | None:
        """Return where a key's vector is, as a number that `fill` understands, or None."""
        return self._places.get(key)

    def key_of(self, stamp: Stamp | None) -> str | None:
        """Return the content key of a file that has not changed since it was stored, else None."""
        return self._stamps.get(stamp.mark) if stamp else None

    def remember(self, stamp: Stamp, key: str) -> None:
        """Note the content key of a file, in memory."""
        self._stamps[stamp.mark] = key

    def fill(self, vectors: "NDArray[np.float32]", rows: "NDArray[np.int64]", places: "NDArray[np.int64]") -> list[int]:
        """Read vectors into rows of (n, d) from their places, shard by shard; return rows whose shard is no use."""
        lost: list[int] = []
        order = np.argsort(places, kind="stable")
        rows, numbers, places = rows[order], places[order] // _ROWS, places[order] % _ROWS
        for number in np.unique(numbers):
            mine = slice(*np.searchsorted(numbers, [number, number + 1]))
            shard = self._read(self._names[number], ["vector"], vectors.shape[1])
            if shard is None:
                lost += rows[mine].tolist()
            else:
                vectors[rows[mine]] = shard.vectors[places[mine]]
        return lost

    def refresh(self) -> None:
        """Read the index of every shard anew."""
        self._names: list[str] = []
        self._known: set[str] = set()
        self._places: dict[str, int] = {}  # number of the shard times _ROWS, plus the row in it
        self._stamps: dict[bytes, str] = {}
        self.catch_up()

    def catch_up(self) -> list[str]:
        """Enter the shards that are new; return the keys that were not known before."""
        found: list[str] = []
        gone: set[str] = set()
        while True:
            missed = set()
            for name in self._listed():
                shard = self._read(name, INDEX_COLUMNS)
                if shard is None:
                    missed.add(name)
                    continue
                keys = [] if name.startswith(_STAMPS) else shard.keys
                found += dict.fromkeys(key for key in keys if key not in self._places)
                self._enter(name, keys)
                for key, stamp in zip(shard.keys, shard.stamps, strict=True):
                    if stamp:
                        self.remember(stamp, key)
            # What went between the listing and the reading went into a merged shard, which the next listing shows.
            if missed <= gone | self._useless:
                return found
            gone |= missed

    def news(self) -> "dict[str, NDArray[np.float32]]":
        """Return vectors, (d,) float32, of keys that others have stored since the folder was last listed."""
        where: dict[int, list[str]] = {}
        for key in self.catch_up():
            where.setdefault(self._places[key] // _ROWS, []).append(key)
        found: dict[str, NDArray[np.float32]] = {}
        for number, keys in where.items():
            shard = self._read(self._names[number], ["vector"])
            for key in keys:
                if shard is None:  # gone since, into a merged shard, which comes with the next news
                    self._places.pop(key)
                else:
                    found[key] = shard.vectors[self._places[key] % _ROWS].copy()
        return found

    def write(
        self, keys: Sequence[str], stamps: Sequence[Stamp | None], vectors: "NDArray[np.float32] | None" = None
    ) -> str:
        """Write a shard of vectors (n, d), or of stamps alone, and return its name; StoreError where it cannot be."""
        if vectors is None:
            return self._write(keys, stamps, None)
        return self._write(keys, stamps, lambda: iter([vectors]))

    def _write(
        self,
        keys: Sequence[str],
        stamps: Sequence[Stamp | None],
        vectors: "Callable[[], Iterator[NDArray[np.float32]]] | None",
    ) -> str:
        """Write a shard whose vectors come in parts, twice: once to be hashed, once to be written."""
        import pyarrow as pa

        seal = {"cache": self.folder.name, "index": _index_digest(keys, stamps)}
        columns: dict[str, Any] = {"key": pa.array(keys, pa.string())}
        for name, kind in (("path", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64())):
            columns[name] = pa.array([getattr(stamp, name, None) for stamp in stamps], kind)
        table = pa.table(columns)
        # Stamps are Parquet too, but called otherwise: DuckDB looks into folders for "*.parquet".
        name = shard_name() if vectors is not None else f"{_STAMPS}{shard_name('.stamps')}"
        schema, parts = table.schema, iter([table])
        if vectors is not None:
            seal["vectors"], dim = _vector_digest(vectors(), len(keys))
            schema, parts = schema.append(vector_field(dim)), _with_vectors(table, vectors())
        write_parts(parts, schema.with_metadata({"vizkit": json.dumps(seal)}), self.folder / name)
        self._enter(name, keys if vectors is not None else [])
        with contextlib.suppress(OSError):
            self._own[name] = (self.folder / name).stat().st_size
        return name

    # ------------------------------------------------------------------ few shards rather than many

    def merge(self) -> None:
        """Merge small shards that this process wrote, once there are many; others' are left to them."""
        self._merge_small(self._own)

    def tidy(self) -> None:
        """Merge the small shards of earlier runs, once there are many, and delete what those left half written."""
        sizes = {}
        for name in self._names:
            with contextlib.suppress(OSError):
                sizes[name] = (self.folder / name).stat().st_size
        self._merge_small(sizes)
        for path in left_over(self.folder, "**/.*.tmp"):
            with contextlib.suppress(OSError):
                path.unlink()

    def _merge_small(self, sizes: dict[str, int]) -> None:
        for below in ("", _STAMPS):
            while True:
                small = [n for n in sorted(sizes) if n.startswith(_STAMPS) == bool(below) and sizes[n] < _SMALL_BYTES]
                if len(small) < _MANY_SHARDS:
                    break
                total = np.cumsum([sizes[name] for name in small])
                group = small[: max(2, int(np.searchsorted(total, _MERGED_BYTES)))]
                # Shards are merged for speed alone: where there is no room to do it, they stay.
                with contextlib.suppress(StoreError):
                    self._merge(group, sizes)
                release_memory()
                for name in group:
                    sizes.pop(name, None)

    def _merge(self, group: list[str], sizes: dict[str, int]) -> None:
        # One shard's vectors are in memory at a time: a merge goes on beside a network that needs it all.
        read = {name: self._read(name, INDEX_COLUMNS) for name in group}
        parts = {name: shard for name, shard in read.items() if shard is not None}
        if len(parts) < 2:
            return
        rows = [pair for part in parts.values() for pair in zip(part.keys, part.stamps, strict=True)]
        last = sorted({pair: i for i, pair in enumerate(rows)}.values())  # a pair that is there twice is kept once
        keys, stamps = zip(*(rows[i] for i in last), strict=True)

        def vectors() -> "Iterator[NDArray[np.float32]]":
            start, kept = 0, np.array(last)
            for name, part in parts.items():
                shard = self._read(name, ["vector"])
                if shard is None:
                    raise StoreError(f"The shard {name!r} went while it was merged.")
                here = kept[(kept >= start) & (kept < start + len(part.keys))] - start
                yield shard.vectors[here]
                start += len(part.keys)

        name = self._write(keys, stamps, None if group[0].startswith(_STAMPS) else vectors)
        sync_folder((self.folder / name).parent)
        for old, shard in read.items():
            if shard is not None:
                with contextlib.suppress(OSError):
                    (self.folder / old).unlink()
        if name in self._own:
            sizes[name] = self._own[name]

    # ------------------------------------------------------------------ files

    def _enter(self, name: str, keys: Sequence[str]) -> None:
        first = len(self._names) * _ROWS
        self._names.append(name)
        self._known.add(name)
        self._places.update(zip(keys, range(first, first + len(keys)), strict=True))

    def _listed(self) -> list[str]:
        """Return the names of shards that are not entered yet, oldest first."""
        try:
            names = [entry.name for entry in os.scandir(self.folder)]
            if _STAMPS.rstrip("/") in names:
                names += [f"{_STAMPS}{entry.name}" for entry in os.scandir(self.folder / _STAMPS)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"The cache folder {str(self.folder)!r} cannot be listed ({error}).") from error
        shards = {n for n in names if n.startswith("shard-") and n.endswith(".parquet")}
        shards |= {n for n in names if n.startswith(f"{_STAMPS}shard-") and n.endswith(".stamps")}
        return sorted(shards - self._known - self._useless)

    def _read(self, name: str, columns: list[str] | None = None, dim: int | None = None) -> Shard | None:
        """Return a shard, or what was asked of it; None of one that is gone, or damaged and now set aside."""
        path = self.folder / name
        try:
            return open_shard(path, columns, cache=self.folder.name, dim=dim)
        except FileNotFoundError:
            return None
        except DamagedError as error:
            warnings.warn(f"{error} Its images are computed again.", stacklevel=2)
        self._useless.add(name)
        # Without this the warning would come back at every run: its vectors are written anew elsewhere.
        with contextlib.suppress(OSError):
            path.rename(path.with_suffix(".damaged"))
        return None


def open_shard(path: Path, columns: Sequence[str] | None = None, *, cache: str, dim: int | None = None) -> Shard:
    """Read a shard of a cache, or some of its columns, and verify every checksum of what is read.

    Parameters
    ----------
    path
        The shard.
    columns
        `INDEX_COLUMNS`, "vector", or both; by default all.
    cache
        The name of the cache's folder, which the shard was written for.
    dim
        How many numbers a vector must have.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    DamagedError
        The file holds something else than was written.
    StoreError
        The file is out of reach.
    """
    try:
        return _opened(read_parquet(path, columns), cache, dim)
    except (FileNotFoundError, StoreError):
        raise
    except Exception as error:  # a damaged file may hold anything, under any name
        raise DamagedError(f"The file {str(path)!r} is damaged ({type(error).__name__}: {error}).") from error


def _opened(table: "pa.Table", cache: str, dim: int | None) -> Shard:
    """Return the values of a shard, or of those columns of it that were read; ValueError where they are not right."""
    seal = json.loads(table.schema.metadata[b"vizkit"])
    if seal["cache"] != cache:
        raise ValueError(f"it belongs to the cache {seal['cache']!r}")
    keys, stamps, vectors = [], [], np.zeros((0, 0), np.float32)
    names = table.column_names
    if "key" in names:
        keys, *rest = (table[name].to_pylist() for name in INDEX_COLUMNS)
        stamps = [None if path is None else Stamp(path, size, time) for path, size, time in zip(*rest, strict=True)]
        if seal["index"] != _index_digest(keys, stamps):
            raise ValueError("its index is not what was written")
    if "vector" in names:
        vectors = vectors_of(table)
        if seal["vectors"] != _vector_digest([vectors], len(vectors))[0] or (
            dim is not None and vectors.shape[1] != dim
        ):
            raise ValueError("its vectors are not what was written")
    return Shard(keys, stamps, vectors)


def _index_digest(keys: Sequence[str], stamps: Sequence[Stamp | None]) -> str:
    return hashlib.sha256(json.dumps([list(keys), list(stamps)]).encode()).hexdigest()


def _vector_digest(parts: "Iterable[NDArray[np.float32]]", n: int) -> tuple[str, int]:
    """Return the digest of vectors (n, d) that come in parts, and d."""
    digest, dim = None, 0
    for part in parts:
        if digest is None:
            dim = part.shape[1]
            digest = hashlib.sha256(json.dumps([n, dim, part.dtype.str]).encode())
        digest.update(np.ascontiguousarray(part).ravel().data)
    return (digest or hashlib.sha256()).hexdigest(), dim


def _with_vectors(table: "pa.Table", parts: "Iterable[NDArray[np.float32]]") -> "Iterator[pa.Table]":
    """Yield the rows of a table with their vectors, which come in parts."""
    start = 0
    for part in parts:
        yield table.slice(start, len(part)).append_column(vector_field(part.shape[1]), vector_column(part))
        start += len(part)
