"""The explorer: map, neighbors and evidence in one linked widget.

What the user does in the browser comes as messages, one an act, and never as traits: traits may be merged on their way.
Bulk data goes the other way once, as bytes. While a map unfolds only its positions travel, as messages, and so do
thumbnails while they are made; the traits follow when the map stands and when no more thumbnails come. Messages (JSON,
then buffers):

    from a view   {type: "ready", view}
                  {type: "query", view, id | null}
                  {type: "select", view}                                     [uint32 rows]
                  {type: "stop", view}                                       the map shall stay as it is now
                  {type: "request", view, serial, name: "evidence", query, neighbors, method}
                  {type: "request", view, serial, name: "picture", id}
    to the views  {type: "state", origin: view | null, query?}               [uint32 rows]?  what changed
                  {type: "map", done}                                        [float32 x, y]? where the points are now;
                        done: share of UMAP's epochs, null: the map stands
                  {type: "thumbnails", view: view | null, done}              [uint32 rows] [uint32 offsets] [WebP files]
                        those made since the last part; to a view that is new, all so far. An empty file: there is none.
                        done: share of all that are made. After the last of them the trait `_coming` is false
                  {type: "problem", error}                                   what went wrong outside of any question
                  {type: "reply", view, serial, ok, error | fields}          [...]

Positions travel in the unit they have. The browser centers every frame and scales its longer side to one length, so
that PCA and UMAP fill the same place and neither the zoom nor the points jump from one to the other.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import RLock
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets as t

from ..embeddings import Embeddings
from ..errors import InputError, VizkitError
from ..graph import neighbor_graph
from ..projection import Frame, Layout, as_layout, unfolding
from .answers import Answers
from .bundle import bundle, styles
from .feed import ThumbnailFeed
from .linked import Linked
from .page import page, page_file, write_page
from .stream import Stream
from .thumbnails import thumbnails_of
from .wire import columns_of, moving_note, positions_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BULK = ("ids", "_xy", "_columns", "_thumbnails", "_offsets", "_graph", "_similarities", "_k")


class Explorer(Linked):
    """A linked view of embeddings: hover the map, click an image, see its neighbors and why they are near.

    Attributes
    ----------
    query : str or None
        Id of the image whose neighbors are shown. Set it, or observe it.
    selection : list of str
        Ids that are selected on the map, in the order of the embeddings. Set it, or observe it.
    neighbors : list of str
        Ids of the query's nearest neighbors, best first; follows `query`.
    layout_of_points : Layout
        The map that is shown. While another unfolds over it, still the one before.
    moving : bool
        Whether a map is unfolding. Observers are called in its thread.
    errors : list of str
        What went wrong while answering the browser or unfolding a map, oldest first; each was shown in the widget too.
    """

    moving = t.Bool(False, read_only=True)

    ids = t.List(t.Unicode(), read_only=True).tag(sync=True)
    _esm = t.Unicode(bundle()).tag(sync=True)
    _css = t.Unicode(styles()).tag(sync=True)
    _xy = t.Bytes().tag(sync=True)
    _columns = t.List().tag(sync=True)
    _thumbnails = t.Bytes().tag(sync=True)
    _offsets = t.Bytes().tag(sync=True)
    _coming = t.Bool(False).tag(sync=True)  # whether thumbnails are still being made
    _graph = t.Bytes().tag(sync=True)
    _similarities = t.Bytes().tag(sync=True)
    _k = t.Int().tag(sync=True)
    _info = t.Dict().tag(sync=True)

    _feed: ThumbnailFeed | None = None  # where thumbnails had to be made

    def __init__(self, embeddings: Embeddings, layout: Layout, k: int) -> None:
        self.embeddings = embeddings
        self.layout_of_points = layout
        self.errors: list[str] = []
        self._answers = Answers(embeddings)
        self._stream: Stream[Frame] | None = None
        self._shown: tuple[Frame, dict[str, Any]] | None = None  # the frame on the screen, and how it is drawn
        self._done = 0.0
        self._one_map = RLock()  # a map that ends and the next that begins do not mix what they say
        self._rows = {id: row for row, id in enumerate(embeddings.ids)}
        graph = neighbor_graph(embeddings, k)
        self._thumbs = thumbnails_of(embeddings)
        small, offsets = self._thumbs.all()
        super().__init__(
            _xy=positions_of(layout.xy),
            _columns=columns_of(embeddings.frame, layout.kept),
            _thumbnails=small,
            _offsets=offsets,
            _coming=not self._thumbs.complete,
            _graph=np.ascontiguousarray(graph.indices, "<i4").tobytes(),
            _similarities=np.ascontiguousarray(graph.similarities, "<f4").tobytes(),
            _k=graph.k,
            _info=self._answers.describe() | {"note": layout.summary},
        )
        self.set_trait("ids", embeddings.ids)
        self._neighbor_rows = graph.indices
        self.on_msg(self._receive)
        if self._coming:
            self._feed = ThumbnailFeed(self._thumbs, send=self.send, over=self._pictures_stand, fail=self._show_error)
            self._feed.start()

    @t.observe("query")
    def _need_pictures(self, change: Mapping[str, Any]) -> None:
        if change["new"] is not None:
            row = self._rows[change["new"]]
            self._thumbs.first([row, *self._neighbor_rows[row]])

    def _receive(self, _: Any, content: dict[str, Any], buffers: list[Any]) -> None:
        """Take one message of a view; what goes wrong is shown there and kept in `errors`."""
        kind, view = content.get("type"), content.get("view")
        try:
            if kind == "ready":
                self._send_state(None, "query", "selection")
                if self.moving:
                    self._send_map(self._done, self._shown[0].xy if self._shown else None)
                if self._feed is not None and self._coming:
                    self._feed.catch_up(view)
            elif kind == "query":
                self._cause = (view, "query")
                self.query = content.get("id")
            elif kind == "select":
                self._cause = (view, "selection")
                ids = self.embeddings.ids
                self.selection = [ids[row] for row in np.frombuffer(buffers[0], "<u4")]
            elif kind == "stop":
                self.stop()
            elif kind == "request":
                fields, blobs = self._answers.answer(content)
                self.send({"type": "reply", "view": view, "serial": content["serial"], "ok": True, **fields}, blobs)
        except Exception as error:  # the edge of the kernel: an observer of the user's may raise anything too
            text = self._note_error(error)
            reply = {"type": "reply", "view": view, "serial": content.get("serial"), "ok": False, "error": text}
            self.send(reply)
        finally:
            self._cause = (None, None)

    def stop(self) -> None:
        """End the unfolding and keep what is shown as the map, with its own kept shares; its provenance says so."""
        stream = self._stream
        if stream is None or not stream.stop():
            return
        with self._one_map:
            if stream is not self._stream:
                return
            layout = self.layout_of_points
            if self._shown is not None:
                frame, parameters = self._shown
                layout = as_layout(self.embeddings, frame.xy, **parameters, stopped=frame.done)
            self._stand(layout)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the map stands: it is finished, stopped, or failed, which `errors` tells.

        Parameters
        ----------
        timeout
            Seconds; None waits as long as it takes. An interrupt stops the map, as `stop` does.

        Returns
        -------
        bool
            Whether it stands.
        """
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

    def close(self) -> None:
        """Close the widget and end the unfolding, and the making of thumbnails."""
        if self._feed is not None:
            self._feed.stop()
        if self._stream is not None:
            self._stream.stop()
            self.set_trait("moving", False)
        super().close()

    def follow(
        self,
        frames: Callable[[], Iterator[Frame]],
        parameters: dict[str, Any],
        *,
        delay: float = 0.0,
        hold: float = 0.0,
    ) -> None:
        """Show the frames of a map as they come, in the background; the last becomes the layout. An earlier map ends.

        Parameters
        ----------
        frames
            Makes the iterator, as `projection.unfolding` does; called in the thread. What it raises is shown in the
            widget and kept in `errors`.
        parameters
            Keywords of `vizkit.project` that the frames are made with.
        delay
            Seconds to wait before it begins: another call within them replaces this one.
        hold
            Share of the epochs, 0 to 1, before the points move: until then the map before stays on the screen.
        """

        def tell(frame: Frame) -> int:
            if stream is not self._stream:
                return 0
            self._done = frame.done
            if frame.done < hold:
                self._send_map(frame.done)
                return 0
            self._shown = (frame, parameters)
            self._send_map(frame.done, frame.xy)
            return frame.xy.nbytes

        def end(frame: Frame) -> None:
            layout = as_layout(self.embeddings, frame.xy, **parameters)
            with self._one_map:
                if stream is self._stream:
                    self._stand(layout)

        def fail(error: Exception) -> None:
            with self._one_map:
                self._show_error(error)
                if stream is self._stream:
                    self._stand(self.layout_of_points)

        with self._one_map:
            if self._stream is not None:
                self._stream.stop(0)
            self._stream = stream = Stream(
                frames, name="map", tell=tell, end=end, fail=fail, interrupted=self.stop, delay=delay
            )
            self._done = 0.0
            self._begin()
            stream.start()

    def _begin(self) -> None:
        """Say that the map moves, and take away what was measured on the one before."""
        if not self.moving:
            unknown = np.full(len(self.embeddings), np.nan, np.float32)
            with self.hold_sync():
                self._columns = columns_of(self.embeddings.frame, unknown)
                self._info = self._info | {"note": moving_note(self.layout_of_points)}
            self.set_trait("moving", True)
        self._send_map(0.0)

    def _stand(self, layout: Layout) -> None:
        """Show a layout and what was measured on it, and say that it stands."""
        positions, self._shown, self.layout_of_points = positions_of(layout.xy), None, layout
        same = positions == self._xy  # then no trait changes: what frames have moved must be put back by a message
        with self.hold_sync():
            self._xy = positions
            self._columns = columns_of(self.embeddings.frame, layout.kept)
            self._info = self._info | {"note": layout.summary}
        self._send_map(None, layout.xy if same else None)
        self.set_trait("moving", False)

    def _pictures_stand(self) -> None:
        """Put the thumbnails that are there where a view opened later, or a saved notebook, finds them."""
        with self._one_map, self.hold_sync():
            self._thumbnails, self._offsets = self._thumbs.all()
            self._coming = False

    def _send_map(self, done: float | None, xy: "NDArray[np.float32] | None" = None) -> None:
        self.send({"type": "map", "done": done}, [] if xy is None else [positions_of(xy)])

    def _show_error(self, error: Exception) -> None:
        self.send({"type": "problem", "error": self._note_error(error)})

    def _note_error(self, error: Exception) -> str:
        text = str(error) if isinstance(error, VizkitError) else f"{type(error).__name__}: {error}"
        self.errors.append(text)
        return text

    def to_html(self, path: str | Path, *, queries: Sequence[str] | None = None) -> Path:
        """Write the explorer, its query and selection into one HTML file that needs no kernel and makes no request.

        A map that is unfolding is waited for, and so are thumbnails, so that the file does not depend on the moment;
        `stop` the map first to write what is shown.

        Parameters
        ----------
        path
            The file; one that exists is replaced once the new one is complete.
        queries
            Ids whose evidence the file shall hold, computed now by the default method, about 60 kB each. By default the
            query and the selection. Map, hover and neighbors are there for every image.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        InputError
            An id is unknown, or the folder does not exist.
        MissingEncoderError
            Evidence is asked for and there is no encoder.
        """
        from tqdm.auto import tqdm

        target = page_file(path)
        if isinstance(queries, str):
            raise InputError(f"queries must be a list of ids, not one string: [{queries!r}].")
        wanted = list(queries) if queries is not None else self._shown_queries()
        self.wait()
        self._thumbs.finish()
        evidence = {}
        for id in tqdm(wanted, desc="evidence", unit="query", delay=2, leave=False):
            ids = self.embeddings.ids
            others = [ids[row] for row in self._neighbor_rows[self.embeddings.row(id)]]
            evidence[id] = self._answers.whole_evidence(id, others)
        small, offsets = self._thumbs.all()
        used = {answer["fields"]["method"] for answer in evidence.values()}
        methods = [m for m in self._info["methods"] if m["name"] in used]
        info = {**self._info, "has_pictures": False, "methods": methods}
        traits = {name: getattr(self, name) for name in _BULK}
        traits |= {"_info": info, "_thumbnails": small, "_offsets": offsets}
        state = {"query": self.query, "selection": [self._rows[id] for id in self.selection]}
        provenance = {"vectors": self.embeddings.provenance, "map": self.layout_of_points.provenance}
        text = page(str(info["title"] or "vizkit"), traits, evidence, state=state, provenance=provenance)
        return write_page(target, text)

    def _shown_queries(self) -> list[str]:
        shown = [*([self.query] if self.query is not None else []), *self.selection]
        return list(dict.fromkeys(shown)) if self._info["can_explain"] else []


def explore(embeddings: Embeddings, layout: Layout | None = None, *, k: int = 12) -> Explorer:
    """Open the linked view: map, neighbors and evidence.

    Without a layout it opens on the PCA picture, and UMAP unfolds over it in the background: the map that
    `vizkit.project(embeddings)` gives, to the byte. `stop()`, or the button, keeps it as it is by then; `wait()` waits
    for it; an interrupted cell, `close()` and the end of the interpreter end it. An idle kernel does not hear an
    interrupt: use the button.

    Parameters
    ----------
    embeddings
        What to look at.
    layout
        The map; by default the one of `vizkit.project(embeddings)`, shown as it unfolds.
    k
        Neighbors to show, 1 or more.

    Returns
    -------
    Explorer
        A widget: show it as the last line of a cell. `query`, `selection` and `neighbors` are its traits.

    Raises
    ------
    InputError
        There are no vectors, `k` is below 1, or the layout is of other images.
    """
    if not isinstance(embeddings, Embeddings):
        raise InputError(f"explore takes Embeddings, not {type(embeddings).__name__}: vk.embed(images, encoder).")
    if layout is None:
        return opened(embeddings, k, {})
    if list(layout.ids) != embeddings.ids:
        raise InputError("The layout is of other images than the embeddings: project these, or leave layout out.")
    return Explorer(embeddings, layout, k)


def opened(embeddings: Embeddings, k: int, parameters: dict[str, Any]) -> Explorer:
    """Return an explorer on the PCA picture, with UMAP unfolding over it; `parameters` are keywords of `project`."""
    frames = unfolding(embeddings, **parameters)
    layout = as_layout(embeddings, next(frames).xy, **parameters, method="pca")
    explorer = Explorer(embeddings, layout, k)
    explorer.follow(lambda: frames, parameters)
    return explorer
