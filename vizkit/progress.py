"""How far a long run has come: a bar in a terminal or a notebook, a line now and then in a log."""

import sys
from typing import Any, TextIO

_LOG_SECONDS = 30.0


class _Lines:
    """A file in which every state of a bar is a line of its own, where no terminal writes it over the last."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        if line := text.strip("\r\n "):
            self._file.write(f"{line}\n")

    def flush(self) -> None:
        self._file.flush()


def progress_bar(total: int, *, done: int = 0, name: str = "", shown: bool = True) -> Any:
    """Return a tqdm bar of `total` images, of which `done` were done before.

    Where stderr is neither a terminal nor a notebook's, the state is written at the beginning, every 30 seconds and at
    the end, in lines of their own. Failures are told with `bar.set_postfix(failed=n, refresh=False)`: refreshed, every
    call would be a line.
    """
    from tqdm.auto import tqdm
    from tqdm.std import tqdm as plain

    options = {"total": total, "initial": done, "desc": name, "unit": " images", "disable": not shown}
    notebook = tqdm.status_printer is not plain.status_printer
    if notebook or sys.stderr.isatty():
        return tqdm(**options)
    return plain(
        **options,
        file=_Lines(sys.stderr),
        mininterval=_LOG_SECONDS,
        maxinterval=_LOG_SECONDS,
        miniters=1,
        bar_format="{desc}: {n:,} of {total:,} images, {rate_fmt}, {remaining} left{postfix}",
    )
