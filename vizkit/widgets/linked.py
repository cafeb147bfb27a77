"""What the user asks for and selects, kept in step between Python and the views."""

from collections.abc import Mapping
from typing import Any

import anywidget
import numpy as np
import traitlets as t

from ..embeddings import Embeddings


class Linked(anywidget.AnyWidget):
    """Query and selection over embeddings; `Explorer` says what each of its traits is."""

    query = t.Unicode(None, allow_none=True)
    selection = t.List(t.Unicode())
    neighbors = t.List(t.Unicode(), read_only=True)

    embeddings: Embeddings
    _rows: dict[str, int]  # by id
    _neighbor_rows: Any  # (n, k) rows, best first
    _cause: tuple[str | None, str | None] = (None, None)  # the view and the trait it is changing

    @t.validate("query")
    def _known_query(self, proposal: Mapping[str, Any]) -> str | None:
        if proposal["value"] is not None:
            self.embeddings.row(proposal["value"])
        return proposal["value"]

    @t.validate("selection")
    def _known_selection(self, proposal: Mapping[str, Any]) -> list[str]:
        rows = {self.embeddings.row(id) for id in proposal["value"]}
        ids = self.embeddings.ids
        return [ids[row] for row in sorted(rows)]

    @t.observe("query")
    def _follow_query(self, change: Mapping[str, Any]) -> None:
        ids = self.embeddings.ids
        rows = [] if change["new"] is None else self._neighbor_rows[self._rows[change["new"]]]
        self.set_trait("neighbors", [ids[row] for row in rows])

    @t.observe("query", "selection")
    def _tell_views(self, change: Mapping[str, Any]) -> None:
        """Tell the views what changed, and that alone: the other trait may have moved on in the browser meanwhile."""
        # The view that caused the change has it already. What an observer changes on top of that is news to it too.
        view, name = self._cause
        self._cause = (None, None) if name == change["name"] else self._cause
        self._send_state(view if name == change["name"] else None, change["name"])

    def _send_state(self, origin: str | None, *names: str) -> None:
        state: dict[str, Any] = {"type": "state", "origin": origin}
        buffers = []
        if "query" in names:
            state["query"] = self.query
        if "selection" in names:
            buffers = [np.array([self._rows[id] for id in self.selection], "<u4").tobytes()]
        self.send(state, buffers)
