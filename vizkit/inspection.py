"""What a store on disk holds, how it was made, and whether it is whole; told without loading torch."""

import contextlib
import os
import re
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import StoreError
from .index import INDEX_COLUMNS, open_shard
from .results import read_failures
from .shards import SCHEMA, DamagedError, kind_of, read_manifest, read_parquet, shards, stores_inside

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

# What the manifest keeps for itself; everything else of it is how the vectors were made.
_OWN = {"schema", "kind", "n", "dim", "dtype", "renamed", "files", "card", "fingerprint", "versions"}
_OWN |= {"saved_at", "saved_by"}


def stores_in(folder: Path) -> list[Path]:
    """Return the folder where it is a store, else the stores right inside it, by name.

    Raises
    ------
    StoreError
        There is no folder, or no store in it.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "is not there"
        raise StoreError(f"{str(folder)!r} {what}; expected a store, which is a folder.")
    if kind_of(folder) == "map":
        raise StoreError(f"{str(folder)!r} is a saved map; vk.Layout.load({str(folder)!r}, embeddings) opens it.")
    if kind_of(folder):
        return [folder]
    found = [path for path in stores_inside(folder) if kind_of(path) != "map"]
    if not found:
        raise StoreError(
            f"{str(folder)!r} is no vizkit store and holds none. Give a folder that `vizkit embed --out` or "
            "Embeddings.save wrote, or a cache."
        )
    return found


def inspect_store(folder: Path, *, verify: bool = True) -> dict[str, Any]:
    """Return what a store is, in values that JSON can hold.

    Parameters
    ----------
    folder
        A saved result or a cache.
    verify
        Read all vectors and verify the checksums that were written with them; else only what the files say they hold.

    Returns
    -------
    dict
        `store` (path), `kind` ("result", "cache" or None where that cannot be told) and `problems` (list of str, empty
        where it is whole). Where the kind is known also `schema`, `n` vectors, `dim` numbers each, `dtype`,
        `bytes` of its sound files, `failed` (images without a vector; None in a cache) and `failures` (list of reason,
        n and example), `fingerprint` and `card` of the encoder, `made_with` (what else decided them), `versions`,
        `written` (when it was saved, or else the last of its files: ISO 8601, UTC) and `verified`.
    """
    problems: list[str] = []
    about: dict[str, Any] = {"store": str(folder), "kind": None, "problems": problems}
    try:
        manifest = read_manifest(folder)
    except StoreError as error:
        problems.append(str(error))
        return about
    kind = kind_of(folder)
    look = _look_at_result if kind == "result" else _look_at_cache
    files = _files(folder)
    card = manifest.get("card") or {}
    # Weights that were loaded or given owe nothing to a seed.
    unused = set() if str(card.get("weights", "random")).startswith("random") else {"seed"}
    return about | {
        "kind": kind,
        "schema": manifest["schema"],
        **look(folder, manifest, verify, problems),
        "bytes": sum(file.st_size for file in files),
        "fingerprint": manifest.get("fingerprint"),
        "card": card,
        "made_with": {name: value for name, value in manifest.items() if name not in _OWN | unused},
        "versions": {**(manifest.get("versions") or {}), **(manifest.get("saved_by") or {})},
        "written": manifest.get("saved_at") or _time(max((file.st_mtime for file in files), default=0)),
        "verified": verify,
    }


def grouped(failures: "pd.DataFrame") -> list[dict[str, Any]]:
    """Group failures (columns id, path, reason) by reason, names and numbers aside, the most frequent first."""
    groups: dict[str, dict[str, Any]] = {}
    for id, path, reason in failures[["id", "path", "reason"]].itertuples(index=False):
        words = _without_names(str(reason), (str(path), str(id)))
        group = groups.setdefault(re.sub(r"\d+", "0", words), {"reason": words, "n": 0, "example": str(id)})
        group["n"] += 1
    return sorted(groups.values(), key=lambda group: -group["n"])


def _without_names(reason: str, names: tuple[str, ...]) -> str:
    for name in names:
        for form in (repr(name), name):
            reason = reason.replace(form, "…") if name else reason
    return re.sub(r"^(Image …( \(file …\))?: )?(Image file … )?(cannot be read: )?", "", reason)


def _look_at_result(folder: Path, manifest: dict[str, Any], verify: bool, problems: list[str]) -> dict[str, Any]:
    """Return what a saved result holds; what is wrong with it joins the problems."""
    n = 0
    about: dict[str, Any] = {"dim": manifest.get("dim"), "dtype": manifest.get("dtype", "float32")}
    if manifest["schema"] != SCHEMA:
        n = manifest.get("n", 0)
    else:
        for name in (name for name in manifest["files"] if name.startswith("shard-")):
            try:
                sha256, columns = (manifest["files"][name], None) if verify else (None, ["id"])
                n += len(_read(folder / name, columns, sha256=sha256))
            except StoreError as error:
                problems.append(str(error))
        if not problems and n != manifest["n"]:
            problems.append(f"{str(folder)!r} holds {n} vectors; its manifest tells of {manifest['n']}.")
    about |= {"n": n, "failed": None, "failures": []}
    try:
        failures = read_failures(folder)
        about |= {"failed": len(failures), "failures": grouped(failures)}
    except StoreError as error:
        problems.append(str(error))
    return about


def _look_at_cache(folder: Path, manifest: dict[str, Any], verify: bool, problems: list[str]) -> dict[str, Any]:
    """Return what a cache holds; what is wrong with it joins the problems."""
    keys, kinds, seen = set(), set(), set()
    # Shards may go into a merged one meanwhile, which the next listing shows.
    while fresh := sorted(set(shards(folder)) - seen):
        seen.update(fresh)
        for path in fresh:
            try:
                found, kind = _keys_in(path, verify)
                keys.update(found)
                kinds.add(kind)
            except FileNotFoundError:
                continue
            except StoreError as error:
                problems.append(str(error))
    if len(kinds) > 1:
        problems.append(f"{str(folder)!r} mixes vectors of {' and '.join(f'{d} {t}' for d, t in sorted(kinds))}.")
    # Of a run that was stopped before its first vector the card tells how long they were to be.
    words = str((manifest.get("card") or {}).get("dimensions", ""))
    dim, dtype = max(kinds, default=(int(words) if words.isdecimal() else None, "float32"))
    return {"n": len(keys), "dim": dim, "dtype": dtype, "failed": None, "failures": []}


def _keys_in(path: Path, verify: bool) -> tuple[list[str], tuple[int, str]]:
    """Return the keys in a shard of a cache, and dimensions and dtype of its vectors; DamagedError where it is."""
    import numpy as np
    import pyarrow.parquet as pq

    keys = open_shard(path, None if verify else INDEX_COLUMNS, cache=path.parent.name).keys
    try:
        kind = pq.read_schema(path).field("vector").type
        return keys, (kind.list_size, np.dtype(kind.value_type.to_pandas_dtype()).name)
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged shard may hold anything, under any name
        raise DamagedError(f"The file {str(path)!r} is damaged ({type(error).__name__}: {error}).") from error


def _read(path: Path, columns: list[str] | None = None, *, sha256: str | None = None) -> "pa.Table":
    """Read a file that must be there."""
    try:
        return read_parquet(path, columns, sha256=sha256)
    except FileNotFoundError as error:
        raise StoreError(f"The file {str(path)!r} is missing.") from error


def _files(folder: Path) -> list[os.stat_result]:
    """Return the sizes and times of a store's files: without the lock, half-written files and what was set aside."""
    found = []
    for path in folder.rglob("*"):
        if path.name != "_lock" and path.suffix not in (".damaged", ".tmp"):
            with contextlib.suppress(FileNotFoundError):  # merged meanwhile
                status = path.stat()
                if stat.S_ISREG(status.st_mode):
                    found.append(status)
    return found


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
