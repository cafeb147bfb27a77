"""The explorer: map, neighbors and evidence in one linked widget.

What the user does in the browser comes as messages, one an act, and never as traits: traits may be merged on their way.
Bulk data goes the other way once, as bytes. While a map unfolds only its positions travel, as messages, and so do
thumbnails while they are made; the traits follow when the map stands and when no more thumbnails come. Many thumbnails
that are made already follow when the first view is there. Messages (JSON, then buffers):

    from a view   {type: "ready", view}
                  {type: "query", view, act, id | null}                      act: a number, of each view's acts
                  {type: "select", view, act}                                [uint32 rows]
                  {type: "show", view, act, maps: [index]}                   one map, or two side by side
                  {type: "stop", view, map?: index}                          that map, or all, shall stay as now
                  {type: "request", view, serial, name, ...}                 [...]  `answers` tells most; here answered:
                        name "similarities" {graph, query} -> [float32 (n,)] cosine of the query to every image
                        name "change" {a, b} -> {text} [float32 (n,)] share of the neighbors that differ on two maps
                        name "place" {file} [bytes of an image file] -> {id}: it was added, and is the query
                        name "name" {text} -> {column}: the selection has a name, and is a column of the map
    to the views  {type: "state", origin: view | null, query?, shown?}       [uint32 rows]?  what changed, and by whom
                  {type: "state", view, act?, query?, shown?}                [uint32 rows]?  to one view: how things
                        stand, to one that is new; act: that one was heard, and what stands if that is something else
                  {type: "guest", view: view | null, id, ...}                [WebP file]  an image that was added
                  {type: "map", map, done, view: view | null}                [float32 x, y]? where the points are now;
                        done: share of UMAP's epochs, null: the map stands
                  {type: "thumbnails", view: view | null, done}              [uint32 rows] [uint32 offsets] [WebP files]
                        those made since the last part; to a view that is new, all so far. An empty file: there is none.
                        done: share of all that are made. After the last of them the trait `_coming` is false
                  {type: "measured"}                                         evidence may be answered otherwise now
                  {type: "problem", error}                                   what went wrong outside of any question
                  {type: "reply", view, serial, ok, error | fields}          [...]

Positions travel in the unit they have. The browser centers every frame and scales its longer side to one length, so
that PCA and UMAP fill the same place and neither the zoom nor the points jump from one to the other.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets as t

from ..embeddings import Embeddings
from ..errors import VizkitError
from ..layout import Layout
from ..projection import Frame
from .answers import Answers
from .bundle import bundle, styles
from .export import Study, chosen_queries, write_study
from .feed import ThumbnailFeed
from .guests import Guests, sent_file
from .maps import Maps
from .movement import Movement
from .page import page_file
from .selections import Selections
from .thumbnails import thumbnails_of
from .wire import columns_of, graph_fields, positions_of, shares_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BULK = ("ids", "_maps", "_graphs", "_columns", "_k", "_info")


class Explorer(Selections):
    """A linked view of embeddings: hover the map, click an image, see its neighbors and why they are near.

    Attributes
    ----------
    query : str or None
        Id of the image whose neighbors are shown. Set it, or observe it.
    selection : list of str
        Ids that are selected on the map, in the order of the embeddings. Set it, or observe it.
    neighbors : list of str
        Ids of the query's nearest neighbors by the first map shown, best first; follows `query` and `shown`.
    shown : list of str
        The name of the map on the screen, or of two side by side. Set it, or observe it.
    named : dict of str to list of str
        Ids of the selections that were given a name, by `name_selection` or in the browser. Observe it.
    moving : bool
        Whether a map is unfolding, or waits for its turn. Observers are called in its thread.
    errors : list of str
        What went wrong while answering the browser or unfolding a map, oldest first; each was shown in the widget too.
    """

    moving = t.Bool(False, read_only=True)

    _esm = t.Unicode(bundle()).tag(sync=True)
    _css = t.Unicode(styles()).tag(sync=True)
    _maps = t.List().tag(sync=True)
    _graphs = t.List().tag(sync=True)
    _thumbnails = t.Bytes().tag(sync=True)
    _offsets = t.Bytes().tag(sync=True)
    _coming = t.Bool(False).tag(sync=True)  # whether thumbnails are still being made, or sent
    _k = t.Int().tag(sync=True)
    _info = t.Dict().tag(sync=True)

    _feed: ThumbnailFeed | None = None

    def __init__(self, maps: Maps) -> None:
        self._atlas = atlas = maps
        self.errors: list[str] = []
        self._guests = Guests(atlas, send=self.send)
        spaces = [space.embeddings for space in atlas.spaces]
        self._answers = Answers(spaces, self._guests, measured=lambda: self.send({"type": "measured"}))
        self._movement = Movement(
            atlas.maps,
            first=lambda: [atlas.index(name) for name in self.shown],
            begin=self._begin,
            tell=self._send_map,
            stand=self._stand,
            fail=self._show_error,
        )
        self._rows = {id: row for row, id in enumerate(atlas.embeddings.ids)}
        self._own_columns = columns_of(atlas.embeddings.frame.drop(columns="path", errors="ignore"))
        self._thumbs = thumbnails_of(atlas.embeddings)
        self._feed = ThumbnailFeed(self._thumbs, send=self.send, over=self._pictures_stand, fail=self._show_error)
        small, offsets = self._feed.first
        for one in atlas.maps:
            one.moving = one.frames is not None
        super().__init__(
            _maps=[one.fields() for one in atlas.maps],
            _graphs=[self._graph_fields(i) for i in range(len(atlas.spaces))],
            _columns=self._own_columns,
            _thumbnails=small,
            _offsets=offsets,
            _coming=self._feed.coming,
            _k=atlas.spaces[0].graph.k,
            _info=self._answers.describe(),
        )
        self.set_trait("ids", atlas.embeddings.ids)
        self.on_msg(self._receive)
        self._feed.start()
        for at, one in enumerate(atlas.maps):
            if one.frames is not None:
                self._movement.follow(at, one.unfolds, atlas.parameters)

    def add(self, image: Any, name: str | None = None) -> str:
        """Place another image on every map, and make it the query.

        Parameters
        ----------
        image
            A PIL image, a path, the bytes of an image file, or an array (h, w, 3) or (h, w).
        name
            What it shall be called; by default the name of its file, or "image". One that is taken is numbered.

        Returns
        -------
        str
            Its id: what to set `query` to.

        Raises
        ------
        InputError
            It is none of these, or a network is not the one that made the vectors.
        ImageReadError
            It cannot be read as an image.
        MissingEncoderError
            Vectors came without the network that made them.
        """
        id = self._guests.add(image, name)
        self.query = id
        return id

    @t.observe("query")
    def _need_pictures(self, change: Mapping[str, Any]) -> None:
        if change["new"] is not None:
            own = [self._rows[change["new"]]] if change["new"] in self._rows else []
            self._thumbs.first([*own, *self._neighbor_rows(change["new"])])

    def _receive(self, _: Any, content: dict[str, Any], buffers: list[Any]) -> None:
        """Take one message of a view; what goes wrong is shown there and kept in `errors`."""
        kind, view = content.get("type"), content.get("view")
        try:
            if kind == "ready":
                self._catch_up(view)
            elif kind == "query":
                self._act(content, "query", content.get("id"))
            elif kind == "select":
                rows, ids = np.frombuffer(buffers[0], "<u4"), self.ids  # added images have the rows after the last
                self._act(content, "selection", [ids[row] for row in rows if row < len(ids)])
            elif kind == "show":
                self._act(content, "shown", [self._atlas.names[at] for at in content["maps"]])
            elif kind == "stop":
                self._movement.stop(content.get("map"))
            elif kind == "request":
                fields, blobs = self._answer(content, buffers)
                self.send({"type": "reply", "view": view, "serial": content["serial"], "ok": True, **fields}, blobs)
        except Exception as error:  # the edge of the kernel: an observer of the user's may raise anything too
            text = self._note_error(error)
            self.send({"type": "reply", "view": view, "serial": content.get("serial"), "ok": False, "error": text})

    def _catch_up(self, view: str | None) -> None:
        """Tell a view that has just been opened how things stand."""
        self._guests.tell(view)
        self._send_state("query", "selection", "shown", view=view)
        for at, done, xy in self._movement.under_way():
            self._send_map(at, done, xy, view)
        if self._feed is not None and self._coming:
            self._feed.catch_up(view)

    def _answer(self, question: dict[str, Any], buffers: list[Any]) -> tuple[dict[str, Any], list[bytes]]:
        """Answer a question of a view: the fields of the reply, and its buffers."""
        name = question["name"]
        if name == "similarities":
            graph, query = question["graph"], question["query"]
            asked = self._guests.vector(query, graph) if query in self._guests else self._atlas.embeddings.row(query)
            return {}, [shares_of(self._atlas.spaces[graph].similarities(asked))]
        if name == "change":
            text, changed = self._atlas.change(question["a"], question["b"])
            return {"text": text}, [shares_of(changed)]
        if name == "place":
            return {"id": self.add(sent_file(buffers[0]), question.get("file"))}, []
        if name == "name":
            return {"column": self.name_selection(question["text"])}, []
        return self._answers.answer(question)

    def stop(self) -> None:
        """End the unfolding and keep what is shown as the map, with its own kept shares; its provenance says so.

        Maps that wait for their turn stay as PCA has them.
        """
        self._movement.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until every map stands: it is finished, stopped, or failed, which `errors` tells.

        Parameters
        ----------
        timeout
            Seconds; None waits as long as it takes. An interrupt stops the maps, as `stop` does.

        Returns
        -------
        bool
            Whether they stand.
        """
        return self._movement.wait(timeout)

    def close(self) -> None:
        """Close the widget and end the unfolding, and the making of thumbnails."""
        if self._feed is not None:
            self._feed.stop()
        self._movement.close()
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
        """Show the frames of a map as they come, in the background; the last becomes the layout of the map shown.

        What unfolded there before ends.

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
        self._movement.follow(self._atlas.index(self.shown[0]), frames, parameters, delay=delay, hold=hold)

    def _begin(self, at: int) -> None:
        """Say that a map moves, and take away what was measured on the one before."""
        self._show(at)
        self._send_map(at, 0.0)
        self.set_trait("moving", True)

    def _stand(self, at: int, layout: Layout) -> None:
        """Show a layout and what was measured on it, and say that it stands."""
        before = self._maps[at]["xy"]
        self._show(at)
        same = before == self._maps[at]["xy"]  # then no positions change: a message must put back what frames moved
        self._send_map(at, None, layout.xy if same else None)
        try:
            self._guests.stand(at)
        except Exception as error:  # the edge of the thread: the map stands whatever its guests do
            self._show_error(error)
        self.set_trait("moving", any(one.moving for one in self._atlas.maps))

    def _show(self, at: int) -> None:
        self._maps = [*self._maps[:at], self._atlas.maps[at].fields(), *self._maps[at + 1 :]]

    def _pictures_stand(self) -> None:
        """Put the thumbnails that are there where a view opened later, or a saved notebook, finds them."""
        with self.hold_sync():
            self._thumbnails, self._offsets = self._thumbs.all()
            self._coming = False

    def _graph_fields(self, at: int) -> dict[str, Any]:
        space, why_not = self._atlas.spaces[at], self._answers.why_not(at)
        return graph_fields(space.graph, space.embeddings) | {"can_explain": not why_not, "why_not": why_not}

    def _send_map(
        self, at: int, done: float | None, xy: "NDArray[np.float32] | None" = None, view: str | None = None
    ) -> None:
        moved = {"type": "map", "map": at, "done": done, "view": view}
        self.send(moved, [] if xy is None else [positions_of(xy)])

    def _show_error(self, error: Exception) -> None:
        self.send({"type": "problem", "error": self._note_error(error)})

    def _note_error(self, error: Exception) -> str:
        text = str(error) if isinstance(error, VizkitError) else f"{type(error).__name__}: {error}"
        self.errors.append(text)
        return text

    def to_html(self, path: str | Path, *, queries: Sequence[str] | None = None) -> Path:
        """Write the explorer, its query and selection into one HTML file that needs no kernel and makes no request.

        Maps that are unfolding are waited for, and so are thumbnails, so that the file does not depend on the moment;
        `stop` them first to write what is shown.

        Parameters
        ----------
        path
            The file; one that exists is replaced once the new one is complete.
        queries
            Ids whose evidence, matching patches and similarities the file shall hold, computed now by the method that
            counts, about 100 kB each; of added images, too. By default the query and the selection, 20 at most. Where
            there is no encoder, or no images, the page says so. Maps, hover and neighbors are there for every image.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        InputError
            An id is unknown, or the folder does not exist.
        """
        target = page_file(path)
        shown = [*filter(None, [self.query]), *self.selection]
        wanted = chosen_queries(queries, shown, self._atlas, self._guests)
        self.wait()
        self._thumbs.finish()
        small, offsets = self._thumbs.all()
        traits = {name: getattr(self, name) for name in _BULK} | {"_thumbnails": small, "_offsets": offsets}
        study = Study(
            traits,
            self._atlas,
            self._answers,
            self._guests,
            query=self.query,
            selection=[self._rows[id] for id in self.selection],
            shown=[self._atlas.index(name) for name in self.shown],
        )
        return write_study(target, study, wanted)


def explore(
    embeddings: Embeddings | Mapping[str, Embeddings],
    layout: Layout | Mapping[str, Layout] | None = None,
    *,
    k: int = 12,
) -> Explorer:
    """Open the linked view: maps, neighbors and evidence.

    Without a layout it opens on the PCA picture, and UMAP unfolds over it in the background: the map that
    `vizkit.project(embeddings)` gives, to the byte. Of several maps those on the screen come first. `stop()`, or the
    button, keeps a map as it is by then; `wait()` waits for all; an interrupted cell, `close()` and the end of the
    interpreter end them. An idle kernel does not hear an interrupt: use the button.

    Parameters
    ----------
    embeddings
        What to look at; or, by name, embeddings of the same images in the same order: layers, as
        `vizkit.embed(images, encoder, layers=...)` gives them, or encoders. Each gets a map, and neighbors of its own;
        columns and pictures are those of the first.
    layout
        The map; or, by name, several of the same embeddings; of embeddings by name, a map for each name. By default
        those of `vizkit.project`, shown as they unfold.
    k
        Neighbors to show, 1 or more.

    Returns
    -------
    Explorer
        A widget: show it as the last line of a cell. `query`, `selection` and `neighbors` are its traits.

    Raises
    ------
    InputError
        There are no vectors, `k` is below 1, a layout is of other images or other vectors of them, or the embeddings
        are not of the same images in the same order; the message says what differs.
    """
    return Explorer(Maps(embeddings, layout, k))
