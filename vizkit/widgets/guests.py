"""Images that were added to an explorer: where each lies on every map, who is near, and how unusual it is."""

import io
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from ..embeddings import require_encoder
from ..errors import ImageReadError, InputError
from ..knn import neighbors_of
from ..pixels import as_image
from ..queries import resolved
from .thumbnails import webp
from .wire import json_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .maps import Maps, Space

_PICTURE = 320  # pixels of the longer side of the picture that views get
_LARGEST = 8_000_000  # bytes of a file that a view may send: Jupyter ends a connection that brings 10 MiB at once
_MOST_PIXELS = 50_000_000  # of such a file: a small one may hold a picture that takes all memory
_UNUSUAL = 95  # percentile from which an image is called unusual: of images like the others 5% are beyond it
_ALMOST_ALL = 99.9  # percentile beyond which one digit would round to all
_SAME = 1e-7  # 1 - cosine up to which two images are one to the network

Send = Callable[[dict[str, Any], list[bytes]], None]


class Near(NamedTuple):
    """A guest in one space: its vector (d,) float32; its nearest images, best first: rows (k,) int64, cosines (k,)."""

    vector: "NDArray[np.float32]"
    rows: "NDArray[np.int64]"
    similarities: "NDArray[np.float64]"


@dataclass(eq=False)
class Guest:
    """An image that was added.

    Attributes
    ----------
    id
        Its name, numbered where that was taken.
    source
        Where its pixels come from: a PIL image, or the bytes of its file.
    picture
        A WebP file of 320 pixels at most.
    near
        Its neighbors, one for each space.
    xy
        For each map (x, y) in the map's own units.
    unusualness
        For each map a percentile in [0, 100], as of `vizkit.place`; None where there is nothing to compare with.
    note
        The unusualness in words.
    """

    id: str
    source: "Image.Image | bytes"
    picture: bytes
    near: list[Near]
    xy: list[tuple[float, float]]
    unusualness: list[float | None]
    note: str

    @property
    def image(self) -> Image.Image:
        """Its pixels, upright RGB."""
        return as_image(self.source)


class Guests:
    """The images that were added to an explorer, by id, in the order in which they came.

    Parameters
    ----------
    maps
        The spaces, all of the same ids, and the maps. What stands on these is looked up when an image is added and when
        `stand` is called.
    send
        Sends a message and its buffers to the views.
    """

    def __init__(self, maps: "Maps", send: Send) -> None:
        self._spaces, self._maps, self._send = maps.spaces, maps.maps, send
        self._guests: dict[str, Guest] = {}
        self._one = RLock()  # an image that is added and a map that changes meanwhile

    def __contains__(self, id: object) -> bool:
        return id in self._guests

    def __getitem__(self, id: str) -> Guest:
        return self._guests[id]

    def __iter__(self) -> Iterator[Guest]:
        return iter(list(self._guests.values()))

    def neighbors(self, id: str, graph: int) -> "NDArray[np.int64]":
        """Return the rows of a guest's nearest images, best first."""
        return self._guests[id].near[graph].rows

    def vector(self, id: str, graph: int) -> "NDArray[np.float32]":
        """Return a guest's vector (d,) float32."""
        return self._guests[id].near[graph].vector

    def add(self, image: Any, name: str | None = None) -> str:
        """Place an image on every map, keep it, and tell the views; return its id.

        Where a map is unfolding it lies for now where the one before has it; `stand` puts it right.
        Takes and raises what `Explorer.add` does.
        """
        if name is not None and not isinstance(name, str):
            raise InputError(f"The name is {name!r}; expected text, such as name='cat.jpg'.")
        for space in self._spaces:
            require_encoder(space.embeddings, "Adding an image")
        source, pixels = self._read(image)
        name = name if name is not None else _name_of(image)
        with self._one:
            near = [_near(space, pixels) for space in self._spaces]
            guest = Guest(self._free(name), source, webp(pixels, _PICTURE), near, [], [], "")
            for at in range(len(self._maps)):
                self._put(guest, at)
            self._describe(guest)
            self._guests[guest.id] = guest
            self._tell(guest, None)
        return guest.id

    def stand(self, at: int) -> None:
        """Place every guest anew on a map whose layout has changed, and tell the views."""
        with self._one:
            for guest in self:
                self._put(guest, at)
                self._describe(guest)
                self._tell(guest, None)

    def tell(self, view: str | None) -> None:
        """Tell a view that has just been opened of every guest."""
        with self._one:
            for guest in self:
                self._tell(guest, view)

    def messages(self) -> list[tuple[dict[str, Any], bytes]]:
        """Return what the views are told of every guest: a message and a picture each."""
        return [(_message(guest), guest.picture) for guest in self]

    def _tell(self, guest: Guest, view: str | None) -> None:
        self._send({**_message(guest), "view": view}, [guest.picture])

    def _read(self, image: Any) -> "tuple[Image.Image | bytes, Image.Image]":
        """Return what an image's pixels can be had from later, its file's bytes or the pixels, and the pixels."""
        if isinstance(image, str) and image in self._spaces[0].embeddings.frame.index and not Path(image).is_file():
            raise InputError(f"{image!r} is among the images already: set the explorer's query to it.")
        if isinstance(image, str | os.PathLike):
            pixels = as_image(image)  # says what is wrong with the file by its name
            return Path(image).read_bytes(), pixels
        if not isinstance(image, bytes | bytearray | memoryview):
            pixels = as_image(image)
            return pixels, pixels
        content = bytes(image)
        try:
            return content, as_image(content)
        except ImageReadError as error:
            raise ImageReadError(f"This file is no image that can be read. {error}") from error

    def _free(self, name: str) -> str:
        """Return a name that no image has: the second "cat.jpg" is "cat.jpg (2)"."""
        name = json_text(name.strip()) or "image"
        taken, found, number = self._spaces[0].embeddings.frame.index, name, 1
        while found in taken or found in self._guests:
            number += 1
            found = f"{name} ({number})"
        return found

    def _put(self, guest: Guest, at: int) -> None:
        """Place a guest on a map."""
        from ..placing import place  # loads torch, which an explorer of vectors alone does without

        which = self._maps[at]
        placed = place(which.layout, guest.near[which.graph].vector)
        found = float(placed.frame["unusualness"].iloc[0])
        guest.xy[at:] = [(float(placed.xy[0, 0]), float(placed.xy[0, 1])), *guest.xy[at + 1 :]]
        guest.unusualness[at:] = [found if np.isfinite(found) else None, *guest.unusualness[at + 1 :]]

    def _describe(self, guest: Guest) -> None:
        """Say how unusual a guest is; by every map for itself where they differ."""
        found = {}  # maps of one graph and metric agree
        for which, value in zip(self._maps, guest.unusualness, strict=True):
            if value is not None:
                found.setdefault((which.graph, value), (which.name, value))
        n = len(self._spaces[0].embeddings)
        words = [_words(value, n) for _, value in found.values()]
        if len(words) > 1:
            words = [
                f"By {name}: {text[0].lower()}{text[1:]}" for (name, _), text in zip(found.values(), words, strict=True)
            ]
        first = guest.near[0]
        if len(first.rows) and first.similarities[0] > 1 - _SAME:
            same = self._spaces[0].embeddings.ids[first.rows[0]]
            words = [f"To the network it is the same image as {same}, which is here already."]
        guest.note = " ".join(words) or "There is nothing to compare it with."


def _near(space: "Space", pixels: Image.Image) -> Near:
    """Run an image through a space's network, and find its neighbors."""
    embeddings = space.embeddings
    (query,) = resolved(embeddings, pixels)
    table = neighbors_of(embeddings, [query], max(space.graph.k, 1))
    rows = embeddings.frame.index.get_indexer(table["id"])
    return Near(query.vector, rows.astype(np.int64), table["similarity"].to_numpy(np.float64))


def sent_file(content: Any) -> bytes:
    """Return the bytes of a file that a view has sent; InputError where it is too large, in bytes or in pixels."""
    content = bytes(content)
    more = "Make it smaller, or add it in the notebook by its path: explorer.add(path) takes larger ones."
    if len(content) > _LARGEST:
        raise InputError(
            f"The file has {len(content) / 1e6:.1f} MB; {_LARGEST / 1e6:.1f} MB are the most that a view can send. "
            f"{more}"
        )
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content)) as file:  # reads its head alone
            width, height = file.size
    except Image.DecompressionBombError as error:
        raise InputError(f"The image has far too many pixels for a view to send. {more}") from error
    except Exception:  # damaged bytes raise nearly anything: who decodes them says what is wrong
        return content
    if width * height > _MOST_PIXELS:
        raise InputError(
            f"The image has {width:,} x {height:,} pixels, {width * height / 1e6:.1f} million; "
            f"{_MOST_PIXELS / 1e6:.0f} million are the most in a file that a view sends. {more}"
        )
    return content


def _words(percentile: float, n: int) -> str:
    """Say how unusual an image is among n."""
    if percentile > _UNUSUAL:
        usual = f"Unusual, as {100 - _UNUSUAL}% of images like these are: its"
        return f"{usual} nearest image is farther away than those of {_share(percentile)} of the {n:,} images here."
    of = f"{_share(percentile)} of the {n:,} images here"
    return f"Its nearest image is farther away than those of {of}; about 50% is usual."


def _share(percentile: float) -> str:
    """Return a percentile in words: only what is all, or none, is called so."""
    if percentile in (0, 100):
        return "all" if percentile else "none"
    if percentile > _ALMOST_ALL:
        return f"more than {_ALMOST_ALL}%"
    return f"{percentile:.1f}%" if percentile >= 100 - _ALMOST_ALL else f"less than {100 - _ALMOST_ALL:.1f}%"


def _name_of(image: Any) -> str:
    """Return what an image is called by its file; "image" where there is none."""
    path = image if isinstance(image, str | os.PathLike) else getattr(image, "filename", "")
    return Path(os.fsdecode(path)).name if path else "image"


def _message(guest: Guest) -> dict[str, Any]:
    return {
        "type": "guest",
        "id": guest.id,
        "note": guest.note,
        "maps": [list(xy) for xy in guest.xy],
        "graphs": [{"rows": near.rows.tolist(), "similarities": near.similarities.tolist()} for near in guest.near],
    }
