"""How far a long run has come: a bar in a terminal or a notebook, a line now and then in a log."""

import os
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

    Where stderr is neither a terminal that has a width nor a notebook's, the state is written at the beginning, every
    30 seconds and at the end, in lines of their own. Images a second and the time left are told once they are known.
    Failures are told with `bar.set_postfix(failed=n, refresh=False)`: refreshed, every call would be a line.
    """
    from tqdm.auto import tqdm
    from tqdm.std import tqdm as plain

    class Bar(plain):
        head = "{l_bar}{bar}| {n_fmt} of {total_fmt}"

        @property
        def format_dict(self) -> dict[str, Any]:
            state = super().format_dict
            here, elapsed = state["n"] - state["initial"], state["elapsed"]
            rate = state["rate"] or (here / elapsed if elapsed else 0)
            speed = f", {rate:,.{0 if rate >= 100 else 1 if rate >= 1 else 3}f} images/s" if rate else ""
            left = ", {remaining} left" if rate and state["n"] < total else ""
            return {**state, "bar_format": f"{self.head}{speed}{left}{{postfix}}"}

    class Log(Bar):
        head = f"{{desc}}: {{n:,}} of {{total:,}} {'image' if total == 1 else 'images'}"

    options = {"total": total, "initial": done, "desc": name, "unit": " images", "disable": not shown}
    if tqdm.status_printer is not plain.status_printer:
        return tqdm(**options)
    if _has_width(sys.stderr):
        return Bar(**options)
    return Log(**options, file=_Lines(sys.stderr), mininterval=_LOG_SECONDS, maxinterval=_LOG_SECONDS, miniters=1)


def _has_width(stream: TextIO) -> bool:
    """Say whether a stream is a terminal with columns; some, as that of `script` in a job, have none."""
    if not stream.isatty():
        return False
    try:
        return os.get_terminal_size(stream.fileno()).columns > 0
    except (OSError, ValueError):
        return False
