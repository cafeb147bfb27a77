"""Work behind a widget: steps taken from an iterator in a thread of its own, some told to whoever shows them."""

import atexit
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakSet

_SHORTEST_PAUSE = 0.1  # seconds between two steps: points glide over it, and more would only fill the line
_BYTES_A_SECOND = 4e6  # what a notebook's connection carries beside everything else
_PATIENCE = 2.0  # seconds to wait for a thread that was told to end; compiling cannot be interrupted
_PATIENCE_AT_EXIT = 10.0

_running: "WeakSet[Stream[Any]]" = WeakSet()


class Step(Protocol):
    """What an iterator yields: `done` is the share of the work, and 1 at the last."""

    @property
    def done(self) -> float:
        """As above."""
        ...


S = TypeVar("S", bound=Step)


class Stream(Generic[S]):
    """Takes steps in a thread of its own until the last one, an error, or `stop`.

    Exactly one of these three ends it: `end` is called with the last step, `fail` with the error, both in the thread;
    after `stop` has returned True neither is. An interrupted notebook cell calls `interrupted`, and the end of the
    interpreter ends the thread.

    Parameters
    ----------
    steps
        Makes the iterator; called in the thread. The iterator is closed in any case.
    name
        The thread's, after "vizkit-".
    tell
        Called with a step, at most some ten times a second; returns how many bytes it has sent.
    end, fail
        As above. What `end` raises goes to `fail`.
    interrupted
        Called in the main thread when a cell of the notebook was interrupted meanwhile.
    """

    def __init__(
        self,
        steps: Callable[[], Iterator[S]],
        *,
        name: str,
        tell: Callable[[S], int],
        end: Callable[[S], None],
        fail: Callable[[Exception], None],
        interrupted: Callable[[], None],
    ) -> None:
        self._steps = steps
        self._tell, self._end, self._fail, self._interrupted = tell, end, fail, interrupted
        self._stopped, self._over = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._claimed = False
        # A thread that is no daemon would hold up the end of the interpreter before atexit could stop it.
        self._thread = threading.Thread(target=self._run, name=f"vizkit-{name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        if not _running:
            atexit.unregister(_stop_all)
            atexit.register(_stop_all)
        _running.add(self)
        self._watch_cells(True)
        self._thread.start()

    def stop(self, patience: float = _PATIENCE) -> bool:
        """Tell the thread to end, and wait for it a moment; return whether this ended it, and not an end of its own."""
        first = self._claim()
        self._stopped.set()
        self.join(patience)
        return first

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the thread has ended; return whether it has. In the thread itself it does not wait."""
        if threading.current_thread() is self._thread:
            return False
        # Not Thread.join at once: in Python 3.11 one that is interrupted takes the thread for ended.
        if not self._over.wait(timeout):
            return False
        self._thread.join()
        return True

    def _claim(self) -> bool:
        with self._lock:
            first, self._claimed = not self._claimed, True
        return first

    def _run(self) -> None:
        try:
            self._take()
        except Exception as error:  # the edge of the thread: nobody else would see it
            if self._claim():
                self._fail(error)
        finally:
            self._watch_cells(False)
            _running.discard(self)
            self._over.set()

    def _take(self) -> None:
        steps, next_tell = self._steps(), 0.0
        try:
            for step in steps:
                if self._stopped.is_set():
                    return
                if step.done >= 1:
                    if self._claim():
                        self._finish(step)
                    return
                if time.monotonic() >= next_tell:
                    sent = self._tell(step)
                    next_tell = time.monotonic() + max(_SHORTEST_PAUSE, sent / _BYTES_A_SECOND)
        finally:
            getattr(steps, "close", lambda: None)()  # a generator is not left half-way until it is collected

    def _finish(self, step: S) -> None:
        try:
            self._end(step)
        except Exception as error:  # as in _run; the claim is ours already
            self._fail(error)

    def _watch_cells(self, on: bool) -> None:
        """Hear of interrupted cells where there is a notebook: the signal itself reaches the main thread alone."""
        shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
        if shell is None:
            return
        if on:
            shell.events.register("post_run_cell", self._after_cell)
        elif self._after_cell in shell.events.callbacks["post_run_cell"]:
            shell.events.unregister("post_run_cell", self._after_cell)

    def _after_cell(self, result: Any) -> None:
        if isinstance(result.error_in_exec, KeyboardInterrupt):
            self._interrupted()


def _stop_all() -> None:
    """End every thread before the interpreter takes itself apart under it."""
    streams = list(_running)
    for stream in streams:
        stream.stop(0)
    for stream in streams:
        stream.join(_PATIENCE_AT_EXIT)
