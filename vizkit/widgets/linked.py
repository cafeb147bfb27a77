"""What the user asks for, selects and looks at, kept in step between Python and the views."""

from collections.abc import Iterable, Mapping
from threading import RLock
from typing import TYPE_CHECKING, Any

import anywidget
import numpy as np
import traitlets as t

from ..embeddings import Embeddings
from ..errors import InputError
from ..layout import Layout
from .maps import Maps

if TYPE_CHECKING:
    from .guests import Guests

_MOST_SHOWN = 2  # maps side by side


class Linked(anywidget.AnyWidget):
    """Query, selection and maps on the screen; `Explorer` says what each of its traits is."""

    query = t.Unicode(None, allow_none=True)
    selection = t.List(t.Unicode())
    neighbors = t.List(t.Unicode(), read_only=True)
    shown = t.List(t.Unicode())
    ids = t.List(read_only=True).tag(sync=True)  # of str: not looked at one by one, which takes long for many

    _atlas: Maps
    _guests: "Guests"
    _rows: dict[str, int]  # by id
    _cause: tuple[str | None, str | None] = (None, None)  # the view and the trait it is changing

    def __init__(self, **traits: Any) -> None:
        # JupyterLab may answer views in another thread while a cell runs: what stands, and telling it, belong together.
        self._telling = RLock()
        super().__init__(**traits)

    @property
    def embeddings(self) -> Embeddings:
        """What the map shows; of two maps, the first."""
        return self._atlas.spaces[self._graph_shown].embeddings

    @property
    def layouts(self) -> dict[str, Layout]:
        """The maps by name: the layouts that stand."""
        return {one.name: one.layout for one in self._atlas.maps}

    @property
    def layout_of_points(self) -> Layout:
        """The map that is shown, of two the first. While another unfolds over it, still the one before."""
        return self._atlas.maps[self._atlas.index(self.shown[0])].layout

    @property
    def _graph_shown(self) -> int:
        """The graph of the map that is shown, of two the first's."""
        return self._atlas.maps[self._atlas.index(self.shown[0])].graph

    @t.default("shown")
    def _first_map(self) -> list[str]:
        return self._atlas.names[:1]

    @t.validate("query")
    def _known_query(self, proposal: Mapping[str, Any]) -> str | None:
        if proposal["value"] is not None and proposal["value"] not in self._guests:
            self._atlas.embeddings.row(proposal["value"])
        return proposal["value"]

    @t.validate("selection")
    def _known_selection(self, proposal: Mapping[str, Any]) -> list[str]:
        return self._in_order(proposal["value"])

    @t.validate("shown")
    def _known_maps(self, proposal: Mapping[str, Any]) -> list[str]:
        names = list(proposal["value"])
        for name in names:
            self._atlas.index(name)
        if not 1 <= len(set(names)) == len(names) <= _MOST_SHOWN:
            raise InputError(f"shown is {names!r}; expected the name of one map, or of two different ones.")
        return names

    @t.observe("query", "shown")
    def _follow_query(self, _: Mapping[str, Any]) -> None:
        self.set_trait("neighbors", [self.ids[row] for row in self._neighbor_rows(self.query)])

    @t.observe("query", "selection", "shown")
    def _tell_views(self, change: Mapping[str, Any]) -> None:
        """Tell the views what changed, and that alone: the other traits may have moved on in the browser meanwhile."""
        # The view that caused the change has it already. What an observer changes on top of that is news to it too.
        view, name = self._cause
        self._cause = (None, None) if name == change["name"] else self._cause
        self._send_state(change["name"], origin=view if name == change["name"] else None)

    def _act(self, content: Mapping[str, Any], name: str, wanted: Any) -> None:
        """Take what a view did to a trait, and tell it when: from then on it listens to others again.

        Until then it ignores what others did to the trait: that came before its own act, which was still on its way.
        What stands in the end is told only where it is not what the view shows already.
        """
        view, act = content.get("view"), content.get("act")
        self._cause = (view, name)
        try:
            setattr(self, name, wanted)
        finally:
            self._cause = (None, None)
            if act is not None:
                with self._telling:
                    self._send_state(*([] if getattr(self, name) == wanted else [name]), view=view, act=act)

    def _in_order(self, ids: Iterable[str]) -> list[str]:
        """Return ids in the order of the images, each once; InputError where one is unknown."""
        known, everything = self._rows, self.ids
        rows = {known[id] if id in known else self._atlas.embeddings.row(id) for id in ids}
        return [everything[row] for row in sorted(rows)]

    def _neighbor_rows(self, query: str | None) -> Any:
        """Return the rows of a query's neighbors (k,) by the map that is shown, best first."""
        if query is None:
            return []
        if query in self._guests:
            return self._guests.neighbors(query, self._graph_shown)
        return self._atlas.spaces[self._graph_shown].graph.indices[self._rows[query]]

    def _send_state(self, *names: str, **to: Any) -> None:
        state: dict[str, Any] = {"type": "state", **to}
        buffers = []
        with self._telling:
            if "query" in names:
                state["query"] = self.query
            if "shown" in names:
                state["shown"] = [self._atlas.index(name) for name in self.shown]
            if "selection" in names:
                buffers = [np.array([self._rows[id] for id in self.selection], "<u4").tobytes()]
            self.send(state, buffers)
