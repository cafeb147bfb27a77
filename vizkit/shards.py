"""Files of a store: Parquet shards and a manifest, written whole, and checked when they are read.

    <store>/_manifest.json           what made the vectors: schema version, encoder, library versions
    <store>/shard-<name>.parquet     rows of vectors
    <store>/_*                       what else there is: the failures of a result, the stamps and the lock of a cache

pandas and pyarrow pass over names that begin with "_", and DuckDB over those that do not end in ".parquet", so that
each of them takes the folder for one table of vectors.
Every file is written under another name and then renamed, so that nobody sees half of it.
"""

import contextlib
import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .errors import StoreError

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

SCHEMA = 2
MANIFEST = "_manifest.json"
SHARD_BYTES = 64 * 2**20
_GROUP_NUMBERS = 2**21
_LEFT_OVER_SECONDS = 3600.0


class DamagedError(StoreError):
    """What a file of the store holds is not what was written."""


def versions(*names: str) -> dict[str, str]:
    """Return the versions of installed libraries, by name."""
    from importlib.metadata import version

    return {name: version(name) for name in names}


def shards(folder: Path) -> list[Path]:
    """Return the shards of a store, oldest first."""
    return sorted(folder.glob("shard-*.parquet"))


def vector_column(vectors: "NDArray[np.floating]") -> "pa.FixedSizeListArray":
    """Return vectors (n, d), float32 or float16, as a plain fixed-size list column, which every reader opens."""
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(vectors).ravel()), vectors.shape[1])


def vector_field(dim: int) -> "pa.Field":
    """Return the name and type of such a column of float32 vectors (n, dim)."""
    import pyarrow as pa

    return pa.field("vector", pa.list_(pa.float32(), dim))


def vector_parts(table: "pa.Table") -> "Iterator[NDArray[np.floating]]":
    """Yield the column `vector` of a shard in parts (n, d), in the type it was written in."""
    for part in table["vector"].chunks:
        yield part.flatten().to_numpy(zero_copy_only=False).reshape(len(part), part.type.list_size)


def vectors_of(table: "pa.Table") -> "NDArray[np.floating]":
    """Return the column `vector` of a shard as (n, d) in the type it was written in."""
    parts = list(vector_parts(table)) or [np.zeros((0, table["vector"].type.list_size), np.float32)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def release_memory() -> None:
    """Give back what reading has taken and no longer needs; Arrow would keep some hundred MiB for itself."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()


def write_parquet(table: "pa.Table", path: Path) -> None:
    """Write one Parquet file whole, then rename it into place.

    Raises
    ------
    StoreError
        The disk is full, or the folder cannot be written.
    """
    write_parts([table], table.schema, path)


def write_parts(parts: "Iterable[pa.Table]", schema: "pa.Schema", path: Path) -> None:
    """Write one Parquet file from tables that are made one after another, then rename it into place.

    Raises
    ------
    StoreError
        The disk is full, or the folder cannot be written; or making a part raised it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = schema.field("vector").type if "vector" in schema.names else None
    # The bytes of floats compress where those of like weight lie together.
    encoding: Any = {"vector.list.element": "BYTE_STREAM_SPLIT"} if kind and kind.value_type == pa.float32() else None
    # Writing and reading take several times the memory of a row group.
    group = max(1, _GROUP_NUMBERS // max(1, kind.list_size)) if kind else None
    temporary = path.with_name(f".{path.name}.tmp")
    options: Any = {"compression": "zstd", "use_dictionary": False, "write_page_checksum": True}
    try:
        with pq.ParquetWriter(temporary, schema, column_encoding=encoding, **options) as writer:
            for part in parts:
                writer.write_table(part, row_group_size=group)
        _into_place(temporary, path)
    except StoreError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StoreError(
            f"The store {str(path.parent)!r} cannot be written ({error}). What was written before is kept: "
            "free some space or choose another folder, then run again."
        ) from error


def read_parquet(path: Path, columns: Sequence[str] | None = None, *, sha256: str | None = None) -> "pa.Table":
    """Read one Parquet file, or some of its columns, and verify the checksums of what is read.

    Parameters
    ----------
    path
        The file.
    columns
        The columns to read, in this order; by default all.
    sha256
        What the bytes of the whole file must hash to, in hex.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    DamagedError
        The file holds something else than was written.
    StoreError
        The file is out of reach.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as file:
            source: Any = file
            if sha256 is not None:
                content = file.read()
                if hashlib.sha256(content).hexdigest() != sha256:
                    raise DamagedError(f"The file {str(path)!r} is damaged (its checksum differs).")
                source = pa.BufferReader(content)
            parquet = pq.ParquetFile(source, page_checksum_verification=True)
            groups = [parquet.read_row_group(i, columns) for i in range(parquet.num_row_groups)]
            table = pa.concat_tables(groups) if groups else parquet.read(columns)
            return table if columns is None else table.select(list(columns))
    except (FileNotFoundError, DamagedError):
        raise
    except Exception as error:  # a damaged file may raise anything
        if isinstance(error, pa.ArrowNotImplementedError) and not pa.Codec.is_available("zstd"):
            raise StoreError(
                f"The file {str(path)!r} cannot be read: this pyarrow has no zstd ({error}). It is left as it is; "
                "install pyarrow from PyPI or conda-forge."
            ) from error
        # The system's errors carry a number (no permission, too many open files): they say nothing about the content.
        if getattr(error, "errno", None) is not None or (isinstance(error, MemoryError) and _is_short(path)):
            raise StoreError(f"The file {str(path)!r} cannot be read ({error}). It is left as it is.") from error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DamagedError(f"The file {str(path)!r} is damaged ({reason}).") from error


def _is_short(path: Path) -> bool:
    """Say whether memory may really be too small for a file; a damaged one may ask for any amount."""
    import psutil

    return psutil.virtual_memory().available < 16 * path.stat().st_size + SHARD_BYTES


def shard_name(suffix: str = ".parquet") -> str:
    """Return a new name for a shard: names sort by time, and the random part keeps two processes apart."""
    return f"shard-{time.time_ns():020d}-{uuid.uuid4().hex[:8]}{suffix}"


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    """Write the manifest whole, then rename it into place; OSError says why it cannot be."""
    plain = json.loads(json.dumps({"schema": SCHEMA, **content}, default=str))
    write_json({**plain, "digest": _digest(plain)}, folder / MANIFEST)


def write_json(content: Any, path: Path) -> None:
    """Write one JSON file whole, in UTF-8, then rename it into place; OSError says why it cannot be."""
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        # Half a pair of surrogates, which UTF-8 has no bytes for, becomes the escape that JSON knows.
        text = json.dumps(content, indent=2, ensure_ascii=False)
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))
        _into_place(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a store, also of the first schema.

    Raises
    ------
    DamagedError
        The manifest holds something else than was written.
    StoreError
        The folder has no manifest, or one of another schema, or it is out of reach.
    """
    path = folder / MANIFEST
    try:
        if not path.exists() and (folder / "manifest.json").exists():
            path = folder / "manifest.json"
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(manifest, dict):
            raise ValueError("it holds no table of names and values")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(f"{str(folder)!r} is no vizkit store: it has no {MANIFEST}. Save one with .save().") from error
    except OSError as error:
        raise StoreError(f"{str(path)!r} cannot be read ({error}).") from error
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"The manifest {str(path)!r} is damaged ({error}).") from error
    whole = manifest.pop("digest", None) == _digest(manifest)
    schema = manifest.pop("schema", None)
    if schema == SCHEMA - 1 and path.name != MANIFEST:
        return {"schema": schema, **manifest}
    if whole and schema != SCHEMA:
        raise StoreError(
            f"{str(path)!r} has schema {schema}; this vizkit reads schema {SCHEMA} and older. Install a newer vizkit."
        )
    if not whole:
        raise DamagedError(f"The manifest {str(path)!r} is damaged (its checksum differs; it was cut, or edited).")
    return {"schema": schema, **manifest}


def kind_of(folder: Path) -> Literal["result", "map", "cache", "unreadable"] | None:
    """Return what a folder is: a store of a kind, one whose manifest cannot be read, or (None) no store."""
    try:
        kind = read_manifest(folder).get("kind")
        return kind if kind in ("result", "map") else "cache"
    except DamagedError:
        return "unreadable"
    except StoreError:
        return "unreadable" if shards(folder) else None


def stores_inside(folder: Path) -> list[Path]:
    """Return the stores right inside a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and kind_of(path))


def left_over(folder: Path, pattern: str) -> list[Path]:
    """Return what killed runs left half written: files and folders of a pattern that nobody has touched for an hour."""
    now, found = time.time(), []
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):
            if now - path.stat().st_mtime > _LEFT_OVER_SECONDS:
                found.append(path)
    return found


def sync_folder(folder: Path) -> None:
    """Bring renames in a folder to the disk, before what they replace is deleted; where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _into_place(temporary: Path, target: Path) -> None:
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(target)
