"""Maps that unfold behind an explorer: in one thread, by turns, those on the screen first."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Condition, RLock
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from ..projection import Frame, as_layout
from .maps import Map
from .stream import Stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..layout import Layout

_IDLE = 0.02  # seconds between two looks whether a map's delay is over, or the thread was told to end


@dataclass(eq=False)
class _Task:
    """A map on its way: how its frames are made, and how far they are."""

    at: int
    frames: Callable[[], Iterator[Frame]]
    parameters: dict[str, Any]
    hold: float
    begins: float  # of the monotonic clock
    done: float = 0.0
    shown: Frame | None = None  # the last that views have seen


class _Step(NamedTuple):
    """What one step brought: a frame of a map, or nothing to tell; `done` is 1 when all maps stand."""

    done: float
    task: _Task | None = None
    frame: Frame | None = None


class Movement:
    """Unfolds maps in a thread of its own, and says when each stands.

    A map on the screen is carried on before the others, however far these are: what was begun waits for its turn.

    Parameters
    ----------
    maps
        All maps. Their `moving` says which of them unfold or wait; nobody else sets it.
    first
        Returns the indices of those on the screen.
    begin
        Called with a map's index when another is to unfold over it.
    tell
        Called in the thread with a map's index, the share of the work that is done, 0 to 1, and positions (n, 2) where
        they are to be shown, at most some ten times a second.
    stand
        Called with a map's index and its layout when it is finished, stopped or failed; the map holds both already.
    fail
        Called with what a map's frames raised; `stand` follows, with the layout before.
    """

    def __init__(
        self,
        maps: Sequence[Map],
        *,
        first: Callable[[], list[int]],
        begin: Callable[[int], None],
        tell: Callable[[int, float, "NDArray[Any] | None"], None],
        stand: Callable[[int, "Layout"], None],
        fail: Callable[[Exception], None],
    ) -> None:
        self._maps, self._first = maps, first
        self._begin, self._tell_views, self._stand, self._fail = begin, tell, stand, fail
        self._lock = RLock()  # a map that ends and the next that begins do not mix what they say
        self._changed = Condition(self._lock)
        self._tasks: dict[int, _Task] = {}  # by map; who takes one out of here ends it
        self._run: object | None = None  # the thread that may take steps: one that was told to end takes no more
        self._stream: Stream[_Step] | None = None

    def follow(
        self,
        at: int,
        frames: Callable[[], Iterator[Frame]],
        parameters: dict[str, Any],
        *,
        delay: float = 0.0,
        hold: float = 0.0,
    ) -> None:
        """Unfold a map; whatever unfolded there ends. The rest is as of `Explorer.follow`."""
        with self._changed:
            self._tasks[at] = _Task(at, frames, parameters, hold, monotonic() + delay)
            self._maps[at].moving = True
            self._begin(at)
            if self._run is None:
                self._run = run = object()
                self._stream = Stream(
                    lambda: self._steps(run),
                    name="map",
                    tell=self._tell,
                    end=lambda _: None,
                    fail=self._broken,
                    interrupted=self.stop,
                )
                self._stream.start()
            self._changed.notify_all()

    def stop(self, at: int | None = None) -> None:
        """End the unfolding of one map, or of all, and keep what is shown of it."""
        with self._changed:
            mine = [task for task in self._tasks.values() if at in (None, task.at)]
            for task in mine:
                del self._tasks[task.at]
            stream = None if self._tasks else self._end()
        if stream is not None:
            stream.stop()
        for task in mine:
            layout = self._maps[task.at].layout
            if task.shown is not None:
                frame = task.shown
                layout = as_layout(layout.embeddings, frame.xy, **task.parameters, stopped=frame.done)
            with self._lock:
                if task.at not in self._tasks:  # else another map has begun there meanwhile
                    self._settle(task, layout)

    def close(self) -> None:
        """End everything; nothing more is said."""
        with self._changed:
            self._tasks.clear()
            stream = self._end()
        if stream is not None:
            stream.stop()
        for one in self._maps:
            one.moving = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all maps stand, at most so many seconds; return whether they do. An interrupt stops them."""
        end = None if timeout is None else monotonic() + timeout
        try:
            while (stream := self._stream) is not None:
                if not stream.join(None if end is None else max(0.0, end - monotonic())):
                    return False
                if stream is self._stream:
                    break
        except KeyboardInterrupt:
            self.stop()
            raise
        return True

    def under_way(self) -> "list[tuple[int, float, NDArray[Any] | None]]":
        """Return of each map that moves what `tell` was told last."""
        with self._lock:
            return [(t.at, t.done, None if t.shown is None else t.shown.xy) for t in self._tasks.values()]

    def _end(self) -> Stream[_Step] | None:
        self._run = None
        self._changed.notify_all()
        return self._stream

    def _steps(self, run: object) -> Iterator[_Step]:
        """Carry the maps on by turns until none is left; the thread's work."""
        begun: dict[_Task, Iterator[Frame]] = {}
        try:
            while self._run is run:
                task = self._next(run)
                for other in [one for one in begun if not self._current(one)]:
                    _close(begun.pop(other))
                if task is None:
                    yield _Step(0.0)  # so that the stream can end
                elif (frame := self._advance(task, begun)) is not None:
                    yield _Step(0.0, task, frame)
        finally:
            for frames in begun.values():
                _close(frames)
        yield _Step(1.0)

    def _next(self, run: object) -> _Task | None:
        """Return the task whose turn it is; none where all wait for their moment, or none is left."""
        with self._changed:
            if not self._tasks and self._run is run:
                self._run = None
            now = monotonic()
            ready = [task for task in self._tasks.values() if task.begins <= now]
            if not ready and self._run is run:
                self._changed.wait(_IDLE)
            if not ready or self._run is not run:
                return None
            first = self._first()
            return min(ready, key=lambda task: first.index(task.at) if task.at in first else len(first) + task.at)

    def _advance(self, task: _Task, begun: "dict[_Task, Iterator[Frame]]") -> Frame | None:
        """Make a map's next frame; where it was the last, or making it failed, the map stands."""
        layout = self._maps[task.at].layout
        try:
            if task not in begun:
                begun[task] = task.frames()
            frame = next(begun[task])
            if frame.done < 1 or not self._current(task):
                return frame
            layout = as_layout(layout.embeddings, frame.xy, **task.parameters)
        except Exception as error:  # the edge of the thread: nobody else would see it, and the other maps go on
            with self._lock:
                if self._current(task):
                    self._fail(error)
        with self._lock:
            if self._current(task):
                del self._tasks[task.at]
                try:
                    self._settle(task, layout)
                except Exception as error:  # as above: whoever observes the explorer may raise anything
                    self._fail(error)
        return None

    def _broken(self, error: Exception) -> None:
        """End all maps, as they were, after an error that is no map's own: the views cannot be told."""
        with self._changed:
            self._fail(error)
            tasks = list(self._tasks.values())
            self._tasks.clear()
            self._end()
            for task in tasks:
                self._settle(task, self._maps[task.at].layout)

    def _settle(self, task: _Task, layout: "Layout") -> None:
        self._maps[task.at].layout, self._maps[task.at].moving = layout, False
        self._stand(task.at, layout)

    def _current(self, task: _Task) -> bool:
        return self._tasks.get(task.at) is task

    def _tell(self, step: _Step) -> int:
        task, frame = step.task, step.frame
        with self._lock:
            if task is None or frame is None or not self._current(task):
                return 0
            task.done = frame.done
            if frame.done < task.hold:
                self._tell_views(task.at, frame.done, None)
                return 0
            task.shown = frame
            self._tell_views(task.at, frame.done, frame.xy)
            return frame.xy.nbytes


def _close(frames: Iterator[Frame]) -> None:
    getattr(frames, "close", lambda: None)()  # a generator is not left half-way until it is collected
