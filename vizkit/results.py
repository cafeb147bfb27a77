"""Saved results, what `Embeddings.save` writes and `Embeddings.load` reads, and saved maps, `Layout.save` and `load`.

<folder>/shard-00000.parquet, ...        one row a vector: id, further columns of the frame, vector
<folder>/_failures.json                  images that gave no vector: a list of id, path and reason
<folder>/_manifest.json                  how the vectors were made, and the checksum of every file

<folder>/map.parquet                     of a map: one row a point: id, x, y, kept
<folder>/_manifest.json                  of a map: how it was made, and the checksums of the vectors and of the file
"""

import contextlib
import glob
import hashlib
import json
import shutil
import uuid
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .errors import InputError, StoreError
from .room import room
from .shards import (
    SCHEMA,
    SHARD_BYTES,
    DamagedError,
    kind_of,
    left_over,
    read_manifest,
    read_parquet,
    release_memory,
    shards,
    stores_inside,
    vector_column,
    vector_parts,
    versions,
    write_json,
    write_manifest,
    write_parquet,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

_DTYPES = ("float32", "float16")
_FAILURES = "_failures.json"
_FIRST_FAILURES = "failures.parquet"
_MAP = "map.parquet"
_KINDS = {
    "result": "saved embeddings: open it with vk.Embeddings.load(folder).",
    "map": "a saved map: open it with vk.Layout.load(folder, embeddings).",
    None: "a cache, not a saved result. Point embed(cache=...) at its parent.",
}


def write_result(
    target: Path,
    frame: pd.DataFrame,
    vectors: "NDArray[np.float32]",
    failures: pd.DataFrame,
    provenance: dict[str, Any],
    *,
    dtype: str = "float32",
) -> None:
    """Write a result into a folder of its own; an earlier result there is replaced, once this one is complete.

    Needs memory for the frame and for one shard beside the vectors.

    Raises
    ------
    InputError
        A column of the frame cannot be written, or the vectors do not fit the dtype.
    StoreError
        The folder holds something else, or cannot be written.
    """
    import pyarrow as pa

    if dtype not in _DTYPES:
        raise InputError(f"dtype is {dtype!r}; expected {' or '.join(map(repr, _DTYPES))}.")
    _require_free(target, "result", "embeddings")
    rows = max(1, SHARD_BYTES // max(1, vectors.shape[1] * np.dtype(dtype).itemsize))
    if dtype == "float16":
        few = max(1, rows // 32)
        for start in range(0, len(vectors), few):
            _check_range(vectors[start : start + few], frame.index[start : start + few])
    frame, renamed = _storable(frame)
    try:
        table = pa.Table.from_pandas(frame.reset_index(), preserve_index=False)
    except (pa.ArrowException, UnicodeError) as error:
        raise InputError(
            f"The frame cannot be saved: {error}. Give each column values of one kind, or leave the column out."
        ) from error
    own = {"kind": "result", "n": len(vectors), "dim": vectors.shape[1], "dtype": dtype, "renamed": renamed}
    with _replacing(target, "embeddings") as fresh:
        files = {}
        for number, start in enumerate(range(0, max(1, len(vectors)), rows)):
            part = vectors[start : start + rows].astype(dtype, copy=False)
            name = f"shard-{number:05d}.parquet"
            write_parquet(table.slice(start, rows).append_column("vector", vector_column(part)), fresh / name)
            files[name] = _sha256(fresh / name)
        write_json(failures.map(_plain_text).to_dict("records"), fresh / _FAILURES)
        files[_FAILURES] = _sha256(fresh / _FAILURES)
        write_manifest(fresh, {**provenance, **own, "files": files, **_saved()})


def write_map(target: Path, ids: list[str], columns: "dict[str, NDArray[np.float32]]", about: dict[str, Any]) -> None:
    """Write a map's columns (n,) and what is known of it into a folder of its own, as `write_result` does.

    Raises
    ------
    InputError
        The ids are no text that can be written.
    StoreError
        The folder holds something else, or cannot be written.
    """
    import pyarrow as pa

    _require_free(target, "map", "map")
    try:
        table = pa.table({"id": pa.array(ids, pa.string()), **columns})
    except (pa.ArrowException, UnicodeError) as error:
        raise InputError(f"The ids cannot be saved: {error}. Give ids that are text.") from error
    with _replacing(target, "map") as fresh:
        write_parquet(table, fresh / _MAP)
        write_manifest(fresh, {**about, "kind": "map", "files": {_MAP: _sha256(fresh / _MAP)}, **_saved()})


def read_map(folder: Path) -> "tuple[list[str], dict[str, NDArray[np.float32]], dict[str, Any]]":
    """Return what `write_map` wrote: ids, columns, what is known; StoreError as `read_result`."""
    manifest, files = _manifest(folder, "map")
    table = _read(folder, _MAP, files)
    columns = {name: table[name].to_numpy() for name in table.column_names if name != "id"}
    return table["id"].to_pylist(), columns, manifest


def read_result(folder: Path) -> "tuple[pd.DataFrame, NDArray[np.float32], pd.DataFrame, dict[str, Any]]":
    """Return what `write_result` wrote, in this schema or the first: frame, vectors, failures, provenance.

    Vectors come as (n, d) float32, in a temporary file where they are larger than half of the free memory.

    Raises
    ------
    StoreError
        The folder is no saved result, or is damaged; the message names the file.
    """
    import pyarrow as pa

    manifest, files = _manifest(folder)
    try:
        shape = (int(manifest.pop("n")), int(manifest.pop("dim")))
        vectors, done, parts = room(shape), 0, []
        for name in [name for name in files if name.startswith("shard-")]:
            table = _read(folder, name, files)
            for found in vector_parts(table):
                if found.shape[1] != shape[1] or done + len(found) > len(vectors):
                    raise _incomplete(folder, shape)
                vectors[done : done + len(found)] = found
                done += len(found)
            parts.append(table.drop_columns("vector"))
        if done != len(vectors) or not parts:
            raise _incomplete(folder, shape)
        frame = pa.concat_tables(parts).to_pandas().set_index("id").rename(columns=manifest.pop("renamed", {}))
    except (KeyError, TypeError, ValueError, pa.ArrowException) as error:  # of the first schema, without checksums
        raise DamagedError(f"{str(folder)!r} is damaged ({type(error).__name__}: {error}).") from error
    del table
    release_memory()
    failures = read_failures(folder)
    if (dtype := manifest.pop("dtype", "float32")) != "float32":
        manifest["rounded_to"] = dtype
    for name in ("schema", "saved_at", "saved_by"):
        manifest.pop(name, None)
    return frame, vectors, failures, manifest


def read_failures(folder: Path) -> pd.DataFrame:
    """Return the images without a vector in a saved result: columns id, path, reason; StoreError as `read_result`."""
    _, files = _manifest(folder)
    if _FIRST_FAILURES in files:
        return _read(folder, _FIRST_FAILURES, files).to_pandas()
    try:
        content = (folder / _FAILURES).read_bytes()
    except FileNotFoundError as error:
        raise _lacks(folder, _FAILURES) from error
    except OSError as error:
        raise StoreError(f"The file {str(folder / _FAILURES)!r} cannot be read ({error}).") from error
    if hashlib.sha256(content).hexdigest() != files[_FAILURES]:
        raise DamagedError(f"The file {str(folder / _FAILURES)!r} is damaged (its checksum differs).")
    records = json.loads(content)
    return pd.DataFrame(records, columns=None if records else ["id", "path", "reason"])


def _require_free(target: Path, kind: str, what: str) -> None:
    """Raise StoreError where a folder holds something else than an earlier one of the kind."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())) and kind_of(target) != kind:
        raise StoreError(f"{str(target)!r} exists and holds no saved {what}; it is left alone. Choose another name.")


@contextlib.contextmanager
def _replacing(target: Path, what: str) -> Generator[Path]:
    """Give a new folder to write into, which takes the place of another once it is written."""
    import pyarrow as pa

    fresh = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        fresh.mkdir(parents=True)
        yield fresh
        _replace(target, fresh)
        for rest in left_over(target.parent, f".{glob.escape(target.name)}-*.tmp"):
            shutil.rmtree(rest, ignore_errors=True)
    except StoreError as error:
        raise StoreError(str(error).replace(fresh.name, target.name)) from error
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"The {what} cannot be saved in {str(target)!r}: {error}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _saved() -> dict[str, Any]:
    return {"saved_at": datetime.now(UTC).isoformat(timespec="seconds"), "saved_by": versions("vizkit")}


def _replace(target: Path, fresh: Path) -> None:
    """Put a folder in the place of another; where that is interrupted, the earlier one stays or the new one stands."""
    old = fresh.with_suffix(".old")
    try:
        if target.exists():
            target.rename(old)
        fresh.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    finally:
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)


def _manifest(folder: Path, wanted: str = "result") -> tuple[dict[str, Any], dict[str, str | None]]:
    """Return the manifest of a result or a map, and its files with their checksums, which the first schema had not."""
    if not folder.exists() and (left := sorted(folder.parent.glob(f".{glob.escape(folder.name)}-*.old"))):
        raise StoreError(
            f"{str(folder)!r} does not exist: a process was killed while it replaced it. Its earlier content lies in "
            f"{str(left[-1])!r}; rename that."
        )
    if folder.is_dir() and kind_of(folder) is None and (inside := stores_inside(folder)):
        raise _several(folder, inside)
    manifest = read_manifest(folder)
    if (kind := manifest.pop("kind", None)) != wanted:
        raise StoreError(f"{str(folder)!r} is {_KINDS.get(kind, _KINDS[None])}")
    if manifest["schema"] == SCHEMA:
        return manifest, manifest.pop("files")
    return manifest, dict.fromkeys([*(path.name for path in shards(folder)), _FIRST_FAILURES])


def _read(folder: Path, name: str, files: dict[str, str | None]) -> "pa.Table":
    try:
        return read_parquet(folder / name, sha256=files[name])
    except FileNotFoundError as error:
        raise _lacks(folder, name) from error


def _several(folder: Path, inside: list[Path]) -> StoreError:
    """Say that a folder is no store but holds some, and which of them can be loaded."""
    kinds = {path.name: kind_of(path) for path in inside}
    results = [name for name, kind in kinds.items() if kind == "result"]
    names = ", ".join(map(repr, (results or list(kinds))[:8])) + (", ..." if len(results or kinds) > 8 else "")
    if results:
        return StoreError(f"{str(folder)!r} is no store but holds {len(results)}: {names}. Give one of these folders.")
    return StoreError(
        f"{str(folder)!r} holds no saved result, but what embed(cache=...) keeps for itself: {names}. "
        "Run embed with this cache, then save what it gives."
    )


def _lacks(folder: Path, name: str) -> StoreError:
    return StoreError(f"{str(folder)!r} is incomplete: {name} is missing. Save it again.")


def _incomplete(folder: Path, shape: tuple[int, int]) -> StoreError:
    return StoreError(
        f"{str(folder)!r} is incomplete: its shards do not hold the {shape[0]} vectors of {shape[1]} dimensions that "
        "the manifest tells of. Save the embeddings again."
    )


def _check_range(vectors: "NDArray[np.float32]", ids: pd.Index) -> None:
    """Raise InputError where float16 cannot hold vectors (n, d): too large, or so small that they vanish."""
    limit = float(np.finfo(np.float16).max)
    sizes = np.abs(vectors).max(axis=1, initial=0)
    row = int(sizes.argmax())
    if sizes[row] > limit:
        raise InputError(
            f"float16 ends at {limit:.0f}, and the vector of {ids[row]!r} reaches {sizes[row]:g}. "
            "Save as float32, or scale the vectors first."
        )
    rounded = vectors.astype(np.float16).astype(np.float32)
    before, after = np.linalg.norm(vectors, axis=1), np.linalg.norm(rounded, axis=1)
    lost = np.abs(after - before) > 0.01 * before
    if lost.any():
        row = int(np.flatnonzero(lost)[0])
        raise InputError(
            f"float16 loses digits of values under 6e-5, and the vector of {ids[row]!r} has none above "
            f"{sizes[row]:g}. Save as float32, or scale the vectors first."
        )


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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
