"""Thumbnails sent to the views as they are made, or once a view is there, so that a map need not wait for them."""

from collections.abc import Callable
from typing import Any

from .stream import Stream
from .thumbnails import Step, Thumbnails

_AT_ONCE = 1_000_000  # bytes of thumbnails that go with the map: the points would have to wait for more


class ThumbnailFeed:
    """Makes the missing thumbnails behind an explorer, in a thread of its own, and sends them in parts.

    Many that are made already are not sent with the map, but to the first view that has shown it.

    Parameters
    ----------
    thumbnails
        What to make.
    send
        Sends a message and its buffers to the views.
    over
        Called once when no more come: all are made and a view is there, or making them was interrupted. In the thread,
        or in the main one.
    fail
        Called with an error, in the thread; `over` follows.

    Attributes
    ----------
    first : tuple of bytes
        What a map opens with, as `Thumbnails.all` gives it; empty where that would be much.
    coming : bool
        Whether more follows.
    """

    def __init__(
        self,
        thumbnails: Thumbnails,
        *,
        send: Callable[[dict[str, Any], list[bytes]], None],
        over: Callable[[], None],
        fail: Callable[[Exception], None],
    ) -> None:
        self._thumbnails, self._send, self._over, self._fail = thumbnails, send, over, fail
        # Asked before they are taken, and once: another explorer may make the last of them at any moment.
        self._making = not thumbnails.complete
        small, offsets = thumbnails.all()
        self._later = len(small) > _AT_ONCE
        self.first = (b"", b"") if self._later else (small, offsets)
        self.coming = self._later or self._making
        self._told = 0 if self._later else len(thumbnails.log)  # of the log: what is first came with the traits
        self._stream = Stream(
            thumbnails.steps,
            name="thumbnails",
            tell=self._tell,
            end=lambda _: self._over(),  # with all of them, so that the last part needs no message of its own
            fail=self._broken,
            interrupted=self._interrupted,
        )

    def start(self) -> None:
        """Begin, where something was missing."""
        if self._making:
            self._stream.start()

    def stop(self) -> None:
        """End it, after the few that are under way; nothing more is sent."""
        if self._making:
            self._stream.stop()

    def catch_up(self, view: str | None) -> None:
        """Send a view that has just been opened what the others have been sent, or all that was held back."""
        if self._later and not self._making:
            self._over()
        elif self._told:
            self._send_part(view, self._thumbnails.log[: self._told])

    def _tell(self, step: Step) -> int:
        begin, self._told = self._told, len(self._thumbnails.log)
        return self._send_part(None, self._thumbnails.log[begin : self._told])

    def _send_part(self, view: str | None, rows: list[int]) -> int:
        buffers = self._thumbnails.part(rows)
        done = len(self._thumbnails.log) / len(self._thumbnails)
        self._send({"type": "thumbnails", "view": view, "done": done}, buffers)
        return sum(len(buffer) for buffer in buffers)

    def _interrupted(self) -> None:
        if self._stream.stop():
            self._over()

    def _broken(self, error: Exception) -> None:
        self._fail(error)
        self._over()
