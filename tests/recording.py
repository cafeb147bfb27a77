"""An explorer that keeps what it sends, and what tests ask of it."""

import threading
import time

import numpy as np

from vizkit.widgets.explorer import Explorer
from vizkit.widgets.maps import Maps


class Recording(Explorer):
    """Keeps what is sent to the browser; arguments are those of `explore`."""

    def __init__(self, *args):
        super().__init__(args[0] if isinstance(args[0], Maps) else Maps(*args))

    def send(self, content, buffers=None):
        self.__dict__.setdefault("sent", []).append((content, buffers or []))

    def maps(self, at=0):
        """Return what was said of a map: how far it is, and positions."""
        told = [(content, buffers) for content, buffers in self.sent if content["type"] == "map"]
        return [(content["done"], buffers) for content, buffers in told if content["map"] == at]

    @property
    def done(self):
        """How far the first map is that moves; 0 where none does."""
        return next((done for _, done, _ in self._movement.under_way()), 0)

    @property
    def on_screen(self):
        """The last positions told of the first map that moves."""
        return next((xy for _, _, xy in self._movement.under_way()), None)


def browser(explorer, buffers=(), **content):
    """Say something as a view does."""
    explorer._receive(explorer, {"view": "v1", **content}, [memoryview(b) for b in buffers])


def threads():
    """Return the names of vizkit's threads."""
    return [t.name for t in threading.enumerate() if t.name.startswith("vizkit-")]


def until(condition):
    """Wait for something that must come."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def rows_of(buffers):
    return np.frombuffer(buffers[0], "<u4").tolist()


def positions(buffers):
    return np.frombuffer(buffers[0], "<f4").reshape(-1, 2)


def column(explorer, name):
    """Return a column as it travels."""
    return next(c for c in explorer._columns if c["name"] == name)


def words(found):
    """Return what a column of categories says of every image; None where it says nothing."""
    return [None if code < 0 else found["categories"][code] for code in np.frombuffer(found["codes"], "<i4")]
