"""The store on disk: a folder of Parquet shards and a small manifest, which other programs can open without vizkit.

    <store>/manifest.json            what made the vectors: schema version, encoder, library versions
    <store>/shard-<name>.parquet     rows of vectors; every shard is written whole, then renamed into place
    <store>/failures.parquet         images that could not be read (saved results only)

The cache of `vizkit.embed` and the folder that `Embeddings.save` writes have this same form. In a cache, a row is
keyed by the hash of the image's content; path, size and modification time stand beside it, so that an unchanged file
is not hashed again.
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from .errors import ImageReadError, InputError, StoreError
from .sources import path_text

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from .images import ImageSet

SCHEMA = 1
_SHARD_SECONDS = 1.0


class _DamagedError(StoreError):
    """What a file of the store holds is not what was written."""


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


class Missing(NamedTuple):
    """An image that has no stored vector: its row, the key to store it by (None: not at all), and its file's stamp."""

    row: int
    key: str | None
    stamp: Stamp | None


def default_cache() -> Path:
    """Return the user's cache folder for vizkit (the place that the operating system gives)."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("vizkit", appauthor=False)) / "embeddings"


def versions(*names: str) -> dict[str, str]:
    """Return the versions of installed libraries, by name."""
    from importlib.metadata import version

    return {name: version(name) for name in names}


class Cache:
    """The vectors of one encoder, by content of the image; what is added is on disk about a second later.

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

    Raises
    ------
    StoreError
        The folder cannot be made or written.
    """

    def __init__(self, folder: Path, fingerprint: str, machinery: dict[str, Any], provenance: dict[str, Any]) -> None:
        mark = hashlib.sha256(json.dumps(machinery, sort_keys=True).encode()).hexdigest()[:8]
        self.folder = folder / f"{fingerprint}-{mark}"
        self._vectors: dict[str, NDArray[np.float32]] = {}
        self._keys: dict[str, tuple[Stamp, str]] = {}
        self._pending: list[tuple[str, Stamp | None, NDArray[np.float32]]] = []
        self._last_write = time.monotonic()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / "manifest.json").exists():
                write_manifest(self.folder, {"kind": "cache", "fingerprint": fingerprint, **machinery, **provenance})
        except OSError as error:
            raise StoreError(
                f"The cache folder {str(self.folder)!r} cannot be written ({error}). Give another with cache=FOLDER."
            ) from error
        for shard in shards(self.folder):
            self._read(shard)

    def recall(
        self, images: "ImageSet", vectors: "NDArray[np.float32]", failures: dict[int, str], hashed: dict[int, str]
    ) -> list[Missing]:
        """Fill in stored vectors; return what must be computed. An image that cannot be read joins the failures.

        `hashed` holds the content hashes of rows that another layer's cache has asked for, and gets those found here.
        """
        from tqdm.auto import tqdm

        todo = []
        for row in tqdm(range(len(images)), desc="look up", unit="image", delay=2, leave=False):
            path = images.paths[row]
            # An unchanged file says that the image is unchanged only where the file alone decides what is seen.
            stamp = Stamp.of(path) if path and images.whole_files else None
            try:
                known = self.key_of(stamp)
                key = known or hashed.get(row) or images.fingerprint(row)
            except ImageReadError as error:
                failures[row] = str(error)
                continue
            hashed[row] = key
            vector = self.get(key)
            if vector is None:
                todo.append(Missing(row, key, stamp))
                continue
            vectors[row] = vector
            if known is None and stamp is not None:
                self.add(key, stamp, vector)  # moved or touched: remember it, so that it is not hashed again
        return todo

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
        except (_DamagedError, KeyError) as error:
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
    """Read one Parquet file and verify its checksums; StoreError says whether it is damaged or out of reach."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as file:
            return pq.read_table(file, page_checksum_verification=True, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        # The system's errors carry a number (no permission, too many open files): they say nothing about the content.
        if isinstance(error, pa.ArrowMemoryError) or getattr(error, "errno", None) is not None:
            raise StoreError(f"The file {str(path)!r} cannot be read ({error}). It is left as it is.") from error
        raise _DamagedError(f"The file {str(path)!r} is damaged ({str(error).splitlines()[0]}).") from error


def write_result(
    target: Path,
    frame: pd.DataFrame,
    vectors: "NDArray[np.float32]",
    failures: pd.DataFrame,
    provenance: dict[str, Any],
) -> None:
    """Write a result into a folder of its own; an earlier result there is replaced, once this one is complete.

    Raises
    ------
    InputError
        A column of the frame cannot be written.
    StoreError
        The folder holds something else, or cannot be written.
    """
    import pyarrow as pa

    if target.exists() and (not target.is_dir() or any(target.iterdir())) and not _is_result(target):
        raise StoreError(
            f"{str(target)!r} exists and holds no saved embeddings; it is left alone. Choose another name."
        )
    frame, renamed = _storable(frame)
    try:
        table = pa.Table.from_pandas(frame.reset_index(), preserve_index=False)
    except (pa.ArrowException, UnicodeError) as error:
        raise InputError(
            f"The frame cannot be saved: {error}. Give each column values of one kind, or leave the column out."
        ) from error
    table = table.append_column("vector", vector_column(vectors))
    own = {
        "kind": "result",
        "n": len(vectors),
        "dim": vectors.shape[1],
        "renamed": renamed,
        "saved_by": versions("vizkit"),
    }
    fresh, old = (target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}.{end}") for end in ("tmp", "old"))
    try:
        fresh.mkdir(parents=True)
        write_shard(fresh, table)
        failures.map(_plain_text).to_parquet(fresh / "failures.parquet", index=False)
        write_manifest(fresh, {**provenance, **own})
        if target.exists():
            target.rename(old)
        fresh.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"The embeddings cannot be saved in {str(target)!r}: {error}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def read_result(folder: Path) -> "tuple[pd.DataFrame, NDArray[np.float32], pd.DataFrame, dict[str, Any]]":
    """Return what `write_result` wrote: frame, vectors, failures, provenance; StoreError says what is wrong."""
    import pyarrow as pa

    manifest = read_manifest(folder)
    if manifest.pop("kind", None) != "result":
        raise StoreError(f"{str(folder)!r} is a cache, not a saved result. Point embed(cache=...) at its parent.")
    tables = [read_shard(path) for path in shards(folder)]
    table = pa.concat_tables(tables) if tables else None
    shape = (manifest.pop("n"), manifest.pop("dim"))
    if table is None or (vectors := vectors_of(table)).shape != shape:
        raise StoreError(
            f"{str(folder)!r} is incomplete: its shards do not hold the {shape[0]} vectors of the manifest."
        )
    failures = read_shard(folder / "failures.parquet").to_pandas()
    frame = table.drop_columns("vector").to_pandas().set_index("id").rename(columns=manifest.pop("renamed", {}))
    for name in ("schema", "saved_by"):
        manifest.pop(name, None)
    return frame, vectors.copy(), failures, manifest


def _storable(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Rename columns whose names the store needs itself; return the new names with the old ones."""
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()].unique()[:3]
        raise InputError(f"Columns must have names of their own to be saved; more than once: {list(twice)}.")
    taken = {"id", "vector", *frame.columns}
    renamed: dict[str, Any] = {}
    for name in ("id", "vector"):
        if name in frame.columns:
            new = f"{name}_"
            while new in taken:
                new += "_"
            taken.add(new)
            renamed[new] = name
    return frame.rename(columns={old: new for new, old in renamed.items()}), renamed


def _plain_text(value: Any) -> str:
    """Return a string that Parquet can hold, whatever a stranger's message says."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def _is_result(folder: Path) -> bool:
    try:
        return json.loads((folder / "manifest.json").read_text(encoding="utf-8")).get("kind") == "result"
    except (OSError, ValueError, AttributeError):
        return False


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
