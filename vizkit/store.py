"""The store on disk: a folder of Parquet shards and a small manifest, which other programs can open without vizkit.

    <store>/manifest.json            what made the vectors: schema version, encoder, library versions
    <store>/shard-<name>.parquet     rows of vectors; every shard is written whole, then renamed into place
    <store>/failures.parquet         images that could not be read (saved results only)

The cache of `vizkit.embed` and the folder that `Embeddings.save` writes have this same form. In a cache, a row is
keyed by the hash of the image's content; path, size and modification time stand beside it, so that an unchanged file
is not hashed again.
"""

import contextlib
import json
import os
import time
import uuid
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .errors import StoreError

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

SCHEMA = 1
_SHARD_SECONDS = 1.0


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
            return cls(str(path.absolute()), status.st_size, status.st_mtime_ns)
        except OSError:
            return None


def default_cache() -> Path:
    """Return the user's cache folder for vizkit (the place that the operating system gives)."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("vizkit", appauthor=False)) / "embeddings"


class Cache:
    """The vectors of one encoder, by content of the image; what is added is on disk about a second later.

    Parameters
    ----------
    folder
        Parent of all caches; this encoder's shards lie in the subfolder named after its fingerprint.
    fingerprint
        `Encoder.fingerprint`: vectors of another network, layer, pooling or preprocess are never mixed in.
    provenance
        What the manifest records.

    Raises
    ------
    StoreError
        The folder cannot be made or written.
    """

    def __init__(self, folder: Path, fingerprint: str, provenance: dict[str, Any]) -> None:
        self.folder = folder / fingerprint
        self._vectors: dict[str, NDArray[np.float32]] = {}
        self._keys: dict[str, tuple[Stamp, str]] = {}
        self._pending: list[tuple[str, Stamp | None, NDArray[np.float32]]] = []
        self._last_write = time.monotonic()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / "manifest.json").exists():
                write_manifest(self.folder, provenance)
        except OSError as error:
            raise StoreError(
                f"The cache folder {str(self.folder)!r} cannot be written ({error}). Give another with cache=FOLDER."
            ) from error
        for shard in shards(self.folder):
            self._read(shard)

    def key_of(self, stamp: Stamp | None) -> str | None:
        """Return the content key of a file that has not changed since it was stored, else None."""
        known = self._keys.get(stamp.path) if stamp else None
        return known[1] if known and known[0] == stamp else None

    def get(self, key: str) -> "NDArray[np.float32] | None":
        """Return the stored vector, (d,) float32, or None."""
        return self._vectors.get(key)

    def add(self, key: str, stamp: Stamp | None, vector: "NDArray[np.float32]") -> None:
        """Keep a vector, (d,) float32; it reaches the disk at the next write."""
        self._vectors[key] = vector
        if stamp:
            self._keys[stamp.path] = (stamp, key)
        self._pending.append((key, stamp, vector))
        if time.monotonic() - self._last_write > _SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is pending as one shard."""
        if not self._pending:
            return
        import pyarrow as pa

        keys, stamps, vectors = zip(*self._pending, strict=True)
        table = pa.table(
            {
                "key": pa.array(keys, pa.string()),
                "path": pa.array([s.path if s else None for s in stamps], pa.string()),
                "size": pa.array([s.size if s else None for s in stamps], pa.int64()),
                "mtime_ns": pa.array([s.mtime_ns if s else None for s in stamps], pa.int64()),
                "vector": vector_column(np.stack(vectors)),
            }
        )
        write_shard(self.folder, table)
        self._pending.clear()
        self._last_write = time.monotonic()

    def _read(self, shard: Path) -> None:
        try:
            table = read_shard(shard)
            vectors = vectors_of(table)
            columns = [table[name].to_pylist() for name in ("key", "path", "size", "mtime_ns")]
        except (StoreError, KeyError) as error:
            warnings.warn(f"{error} Its images are computed again.", stacklevel=2)
            # Without this the warning would come back at every run: its vectors are written anew elsewhere.
            with contextlib.suppress(OSError):
                shard.rename(shard.with_suffix(".damaged"))
            return
        for key, path, size, mtime_ns, vector in zip(*columns, vectors, strict=True):
            self._vectors[key] = vector
            if path is not None:
                self._keys[path] = (Stamp(path, size, mtime_ns), key)


def shards(folder: Path) -> list[Path]:
    """Return the shards of a store, oldest first."""
    return sorted(folder.glob("shard-*.parquet"))


def vector_column(vectors: "NDArray[np.float32]") -> "pa.FixedSizeListArray":
    """Return vectors (n, d) as a plain fixed-size list column, which every Parquet reader opens."""
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(vectors, np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])


def vectors_of(table: "pa.Table") -> "NDArray[np.float32]":
    """Return the column `vector` of a shard as (n, d) float32."""
    column = table["vector"].combine_chunks()
    return np.asarray(column.flatten(), np.float32).reshape(len(column), column.type.list_size)


def write_shard(folder: Path, table: "pa.Table") -> Path:
    """Write one shard whole, then rename it into place; a reader never sees half of it."""
    import pyarrow.parquet as pq

    # Names sort by time; the random part keeps two processes apart.
    name = f"shard-{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.parquet"
    temporary = folder / f".{name}.tmp"
    try:
        pq.write_table(table, temporary, write_page_checksum=True)
        _into_place(temporary, folder / name)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StoreError(
            f"The store {str(folder)!r} cannot be written ({error}). What was written before is kept: "
            "free some space or choose another folder, then run again."
        ) from error
    return folder / name


def read_shard(path: Path) -> "pa.Table":
    """Read one shard and verify its checksums; StoreError names a shard that is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, page_checksum_verification=True, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"The shard {str(path)!r} is damaged ({str(error).splitlines()[0]}).") from error


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    """Write manifest.json whole, then rename it into place."""
    temporary = folder / f".manifest-{uuid.uuid4().hex[:8]}.tmp"
    temporary.write_text(json.dumps({"schema": SCHEMA, **content}, indent=2, default=str), encoding="utf-8")
    _into_place(temporary, folder / "manifest.json")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read manifest.json; StoreError says what is wrong with the folder."""
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StoreError(
            f"{str(folder)!r} is no vizkit store: it has no manifest.json. Save one with .save()."
        ) from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{str(path)!r} cannot be read ({error}).") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        found = manifest.get("schema") if isinstance(manifest, dict) else None
        raise StoreError(f"{str(path)!r} has schema {found!r}; this vizkit reads schema {SCHEMA}.")
    return manifest


def _into_place(temporary: Path, target: Path) -> None:
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(target)
