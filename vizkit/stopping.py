"""How the command `vizkit` is stopped, and from when on it is not."""

import atexit
import contextlib
import signal
from collections.abc import Generator
from types import FrameType


class _StopRequest(KeyboardInterrupt):
    """A signal that asks to stop: what Ctrl-C would do is done."""


@contextlib.contextmanager
def stoppable() -> Generator[list[int]]:
    """Treat SIGTERM (batch systems) and SIGHUP (the terminal is closed) as Ctrl-C; yield the signals received."""
    received: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        received.append(number)
        raise _StopRequest

    # A signal that is ignored stays so: `nohup` means it.
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in [signal.SIGINT, *numbers]}
    for number in numbers:
        if before[number] == signal.SIG_DFL:
            signal.signal(number, stop)
    try:
        yield received
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: not set from Python, so nothing that could be put back
                signal.signal(number, handler)


def go_on_to_the_end() -> None:
    """Ignore what would stop the run, to the end of the process: the result is written."""

    def ignore() -> None:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)

    ignore()
    atexit.register(ignore)  # `stoppable` has put back by then what was there before
