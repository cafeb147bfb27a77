"""The command `vizkit`, for jobs too long for a notebook: a thin shell over ImageSet, Encoder, embed and Embeddings.

Results go to stdout, progress and complaints to stderr. Names of files come from strangers, and a terminal obeys
control characters, so whatever is printed passes `printable` first.
"""

import argparse
import contextlib
import errno
import hashlib
import json
import os
import re
import shlex
import signal
import sys
import tempfile
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from .errors import StoreError, VizkitError
from .stopping import go_on_to_the_end, stoppable
from .usage import parser

if TYPE_CHECKING:
    from .embeddings import Embeddings

OK, FAILED, SOME_FAILED, INTERRUPTED = 0, 1, 3, 130  # argparse itself exits with 2
_SHOWN = 5  # failures listed at the end of a run
_SHOWN_REASONS = 20  # kinds of failures, where nothing is written that would hold them

# What the library advises in words of Python, and what does the same here.
_SHELL_WORDS = {
    "weights= takes 'DEFAULT'": "--weights takes 'DEFAULT'",
    "None (random) or the path of a checkpoint": "random, or the path of a checkpoint",
    "See encoder.layers.": "`vizkit layers {model}` lists them.",
    "Leave pool= out, or choose a layer with positions; encoder.layers shows":
        "Leave --pool out, or choose a layer with positions; `vizkit layers {model}` shows",
    "give another with cache=FOLDER": "give another with --cache FOLDER",
    "Subfolders were not looked into: recursive=True does": "Subfolders were not looked into: leave out --no-recursive",
    "raise PIL.Image.MAX_IMAGE_PIXELS and read it again": "scale it down to fewer pixels",
}  # fmt: skip

_KINDS = {"result": "the vectors of a set of images", "cache": "a cache of vizkit.embed"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; wrong usage raises SystemExit(2), --help SystemExit(0).

    Parameters
    ----------
    argv
        Arguments; by default those of the process.
    """
    understood = parser()
    options = understood.parse_args(argv)
    if options.command is None:
        understood.print_help(sys.stderr)
        raise SystemExit(2)
    run = {"embed": _embed, "info": _info, "layers": _layers}[options.command]
    with _complaints(), stoppable() as received:
        try:
            return run(options)
        except VizkitError as error:
            _complain(f"vizkit: error: {_in_shell_words(error, getattr(options, 'model', 'MODEL'))}")
            return FAILED
        except (KeyboardInterrupt, OSError) as error:
            # A closed terminal also fails what is written to it, and that error then hides the signal.
            if isinstance(error, KeyboardInterrupt) or received:
                return _stopped(error, received)
            _complain(f"vizkit: error: {error}")
            return FAILED


def printable(text: Any) -> str:
    """Return text in which every character that a terminal may obey, or that hides, is written as its escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def _in_shell_words(text: Any, model: str = "MODEL") -> str:
    """Return a message of the library with the advice that a reader at a shell can follow."""
    text = str(text)
    for python, shell in _SHELL_WORDS.items():
        text = text.replace(python, shell.replace("{model}", shlex.quote(model)))
    return text


# ---------------------------------------------------------------------- embed


def _embed(options: argparse.Namespace) -> int:
    layers, out = options.layer or [], options.out.absolute()
    targets = _targets(out, layers)
    _refuse_unwritable(out, several=len(layers) > 1)

    from .encoders import Encoder
    from .extraction import embed
    from .images import ImageSet
    from .sources import count

    images = ImageSet.from_folder(options.folder, recursive=options.recursive)
    encoder = Encoder(
        options.model,
        weights=_weights(options.weights),
        layer=layers[0] if layers else None,
        pool=options.pool,
        preprocess=options.preprocess,
        device=options.device,
        precision=options.precision,
        seed=options.seed,
    )
    if not options.quiet:
        _complain(f"{options.folder}: {repr(images).removeprefix('ImageSet: ')}")
        where = ", ".join(layers) or encoder.layer
        _complain(f"{encoder.name} ({encoder.weights}) at {where}, on {encoder.device}")
    settings: dict[str, Any] = {
        "cache": options.cache,
        "progress": not options.quiet,
        **({} if options.batch_size is None else {"batch_size": options.batch_size}),
        **({"reduced": True} if options.reduced else {}),
    }
    found = embed(images, encoder, layers=layers, **settings) if layers[1:] else embed(images, encoder, **settings)
    results = found if isinstance(found, dict) else {layer: found for layer in targets}
    code = _write(results, targets, options)
    if not images.unlisted:
        return code
    shown = ", ".join(map(repr, images.unlisted[:_SHOWN])) + (", ..." if images.unlisted[_SHOWN:] else "")
    _complain(f"{count(len(images.unlisted), 'folder')} could not be listed, so images are missing: {shown}")
    return SOME_FAILED if code == OK else code


def _write(results: "Mapping[str, Embeddings]", targets: Mapping[str, Path], options: argparse.Namespace) -> int:
    """Save the results that have vectors, say where, and list failures; none replaces an earlier store by nothing."""
    from .sources import count

    codes = []
    written = [targets[layer] for layer, embeddings in results.items() if len(embeddings)]
    for layer, embeddings in results.items():
        target, failed = targets[layer], len(embeddings.failures)
        n, d = embeddings.vectors.shape
        if n:
            _save(embeddings, target, options.dtype, last=target == written[-1])
            if not options.quiet:
                _say(f"{count(n, 'vector')} of {count(d, 'dimension')} in {printable(target)}")
        if failed:
            _complain(f"{failed:,} of {count(failed + n, 'image')} gave no vector:")
            _list_failures(embeddings, target if n else None)
        if not n:
            _complain(f"vizkit: error: no image gave a vector; nothing is written to {str(target)!r}.")
        codes.append(FAILED if not n else SOME_FAILED if failed else OK)
    _name_left_over(options.out.absolute(), written, several=len(targets) > 1)
    return codes[0] if len(set(codes)) == 1 else SOME_FAILED


def _save(embeddings: "Embeddings", target: Path, dtype: Literal["float32", "float16"], *, last: bool) -> None:
    """Save a result; once the last one of a run is written, nothing stops the run any more: its own code counts."""
    before = _inode(target)
    try:
        embeddings.save(target, dtype=dtype)
    except KeyboardInterrupt:  # it may come when the store is in place, and what it took the place of is cleared away
        if not last or _inode(target) in (None, before):
            raise
    if last:
        go_on_to_the_end()


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _list_failures(embeddings: "Embeddings", target: Path | None) -> None:
    """Print the first reasons, and where all of them are; where nothing is written, every kind of reason."""
    from .inspection import grouped

    reasons, failed = embeddings.failures["reason"], len(embeddings.failures)
    if target is None:
        groups = grouped(embeddings.failures)
        for group in groups[:_SHOWN_REASONS]:
            _complain(f"    {group['n']:,} x {_in_shell_words(group['reason'])} (first: {group['example']})")
        if more := sum(group["n"] for group in groups[_SHOWN_REASONS:]):
            _complain(f"    and {more:,} more")
        return
    for reason in reasons.head(_SHOWN):
        _complain(f"    {_in_shell_words(reason)}")
    more = f"and {failed - _SHOWN:,} more " if failed > _SHOWN else ""
    _complain(f"    {more}(all: vizkit info {shlex.quote(str(target))} --failures)")


def _name_left_over(out: Path, written: Sequence[Path], *, several: bool) -> None:
    """Say which stores of an earlier run lie beside the layers of this one: they look as if they belonged to it."""
    for path in sorted(out.iterdir()) if several and out.is_dir() else []:
        if path not in written and _kind(path) == "result":
            _complain(f"vizkit: warning: {path.name!r} in {str(out)!r} is left from an earlier run.")


def _targets(out: Path, layers: Sequence[str]) -> dict[str, Path]:
    """Return the folder of every layer's store, by layer; `out` itself where none or one is named."""
    if len(layers) < 2:
        return {layers[0] if layers else "": out}
    taken: set[str] = set()
    targets = {}
    for layer in dict.fromkeys(layers):
        name = re.sub(r"[^\w.-]", "_", layer, flags=re.ASCII)
        if name.casefold() in taken:  # "input:a" and "input_a"; and some file systems know no capitals
            name += "-" + hashlib.sha256(layer.encode()).hexdigest()[:6]
        taken.add(name.casefold())
        targets[layer] = out / name
    return targets


def _refuse_unwritable(out: Path, *, several: bool) -> None:
    """Raise StoreError where results could not be saved in the end: better now than after hours."""
    known = _kind(out) == "result"
    if (out.exists() or out.is_symlink()) and not out.is_dir():
        raise StoreError(f"--out {str(out)!r} is a file; it is left alone. Choose another name.")
    inside = [path for path in out.iterdir() if not path.name.startswith(".")] if out.is_dir() else []
    if several and (known or (others := [path.name for path in inside if _kind(path) != "result"])):
        what = "is a store" if known else f"holds {others[0]!r}"
        raise StoreError(
            f"--out {str(out)!r} {what}; for several layers it must be a folder of stores and of nothing else. It is "
            "left alone: choose another name."
        )
    if not several and not known and out.is_dir() and any(out.iterdir()):
        if _is_damaged(out):
            raise StoreError(f"--out {str(out)!r} is a damaged store; delete it or choose another name.")
        raise StoreError(
            f"--out {str(out)!r} exists and is neither empty nor a store of vectors; it is left alone. "
            "Choose another name."
        )
    above = out if several and out.is_dir() else out.parent
    try:
        above.mkdir(parents=True, exist_ok=True)
        # As long a name as that under which a store is first written, in the folder where that is.
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", suffix=".tmp", dir=above):
            pass
    except OSError as error:
        raise StoreError(f"--out {str(out)!r} cannot be written ({error}). Choose another folder.") from error


def _kind(folder: Path) -> str | None:
    from .shards import read_manifest

    try:
        return read_manifest(folder).get("kind")
    except StoreError:
        return None


def _is_damaged(folder: Path) -> bool:
    from .shards import MANIFEST, DamagedError, read_manifest

    try:
        read_manifest(folder)
    except DamagedError:
        return True
    except StoreError:
        return any(folder.glob("shard-*.parquet")) and not (folder / MANIFEST).exists()
    return False


def _weights(given: str) -> str | None:
    return None if given == "random" else os.path.expanduser(given)  # noqa: PTH111  (a tag is no path)


# ---------------------------------------------------------------------- layers


def _layers(options: argparse.Namespace) -> int:
    from .encoders import Encoder

    # The layers are the same whatever the weights, and random ones need no network.
    encoder = Encoder(options.model, weights=None)
    frame = encoder.layers.frame.reset_index()
    frame["share"] = frame["share"].map("{:.2f}".format)
    rows = [list(frame.columns), *frame.to_numpy().tolist()]
    widths = [max(len(printable(row[i])) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        _say("  ".join(printable(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    _complain(f"Without --layer, {options.model} gives the vector of {encoder.layer!r}.")
    return OK


# ---------------------------------------------------------------------- info


def _info(options: argparse.Namespace) -> int:
    from .inspection import inspect_store, read_failures, stores_in

    folders = stores_in(options.store)
    if options.failures:
        for folder in folders:
            for id, reason in read_failures(folder)[["id", "reason"]].itertuples(index=False):
                _say(f"{printable(id)}\t{printable(reason)}")
        return OK
    found = [inspect_store(folder, verify=not options.quick) for folder in folders]
    if options.json:
        # ensure_ascii: no character of a name reaches the terminal as itself.
        _say(json.dumps(found[0] if folders == [options.store] else found, indent=2))
    else:
        _say("\n\n".join("\n".join(printable(line) for line in _lines(about)) for about in found))
    for problem in (problem for about in found for problem in about["problems"]):
        _complain(f"vizkit: error: {problem}")
    return FAILED if any(about["problems"] for about in found) else OK


def _lines(about: dict[str, Any]) -> Iterator[str]:
    """Write what `inspect_store` found, a property a line."""
    rows: list[tuple[str, Any]] = []
    if about["kind"] is not None:
        groups = [(group["n"], _in_shell_words(group["reason"]), group["example"]) for group in about["failures"]]
        failures = [f"{n:,} x {reason} ({example})" for n, reason, example in groups]
        card = {name: value for name, value in about["card"].items() if name != "fingerprint"}
        rows = [
            ("vectors", f"{about['n']:,} of {about['dim'] or 0:,} dimensions, {about['dtype']}"),
            ("on disk", f"{_size(about['bytes'])}, schema {about['schema']}"),
            *([] if about["failed"] is None else [("failures", f"{about['failed']:,}")]),
            *(("", line) for line in failures),
            *card.items(),
            ("fingerprint", about["fingerprint"]),
            *((name.replace("_", " "), _words(x)) for name, x in about["made_with"].items() if name not in card),
            ("versions", _words(about["versions"])),
            ("written", about["written"]),
        ]
    whole = "yes, every checksum is right" if about.get("verified") else "its outline is; checksums are not verified"
    rows += [("whole", "NO" if about["problems"] else whole), *(("", problem) for problem in about["problems"])]
    yield f"{about['store']}: {_KINDS.get(about['kind'], 'a damaged store')}"
    for name, value in rows:
        yield f"  {name:<14}{value}"


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(x)}" for name, x in value.items())
    if isinstance(value, list):
        return " to ".join(map(_words, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _size(n: float) -> str:
    for unit in ("bytes", "KB", "MB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "bytes" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} GB"


# ---------------------------------------------------------------------- printing and stopping


def _say(line: str, file: TextIO | None = None) -> None:
    """Print a printable line to stdout, whatever its encoding; where the reader has gone, nothing."""
    stream = file or sys.stdout
    encoding = stream.encoding or "utf-8"
    try:
        print(line.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise
        # The reader of a pipe has gone, as `head` does, or the terminal is closed: the work is not in vain for that.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # or the flush at exit would complain


def _complain(text: str) -> None:
    """Print to stderr, in one line whatever a library's message looks like."""
    _say(printable(" ".join(text.splitlines())), sys.stderr)


@contextlib.contextmanager
def _complaints() -> Generator[None]:
    """Show vizkit's warnings as lines of their own."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        with tqdm.external_write_mode(sys.stderr):  # above a progress bar, not into it
            _complain(f"vizkit: warning: {_in_shell_words(message)}")

    from tqdm import tqdm

    with warnings.catch_warnings():
        warnings.filterwarnings("always", category=UserWarning, module="vizkit")
        warnings.filterwarnings("ignore", message="None of the .* images gave a vector")  # `_write` says it
        warnings.showwarning = show  # ty: ignore[invalid-assignment]
        yield


def _stopped(error: BaseException, received: Sequence[int]) -> int:
    """Say that the run was stopped and what is kept; return the exit code."""
    code = 128 + received[0] if received else INTERRUPTED
    notes = [note for e in (error, error.__context__) for note in getattr(e, "__notes__", [])]
    kept = f": {notes[0]}" if notes else ". What was done is stored."
    by = signal.Signals(received[0]).name if received else "Ctrl-C"
    _complain(f"Stopped by {by}{kept} The same command goes on from there.")
    return code
