"""The explorer: map, neighbours and evidence in one linked widget.

What the user does in the browser comes as messages, one an act, and never as traits: traits may be merged on their way.
Bulk data goes the other way once, as bytes. Messages (JSON, then buffers):

    from a view   {type: "ready", view}
                  {type: "query", view, id | null}
                  {type: "select", view}                                     [uint32 rows]
                  {type: "request", view, serial, name: "evidence", query, neighbors, method}
                  {type: "request", view, serial, name: "picture", id}
    to the views  {type: "state", origin: view | null, query?}               [uint32 rows]?  what changed
                  {type: "reply", view, serial, ok, error | fields}          [...]
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import numpy as np
import pandas as pd
import traitlets as t
from PIL import Image

from ..embeddings import Embeddings, require_encoder
from ..errors import InputError, VizkitError
from ..knn import neighbor_graph
from ..projection import Layout, project
from ..saliency import PAIR_METHODS, default_method, explain_many
from .bundle import bundle, styles
from .page import page
from .thumbnails import thumbnails, webp

if TYPE_CHECKING:
    from ..evidence import PairEvidence

_BULK = ("ids", "_xy", "_columns", "_thumbnails", "_offsets", "_graph", "_similarities", "_k")
_PICTURE = 320  # pixels of the longer side of a sharp picture
_MOST_CATEGORIES = 200
_TITLES = {
    "contribution": "Contribution (exact)",
    "occlusion": "Occlusion",
    "gradcam": "Grad-CAM, norm held",
    "sensitivity": "Sensitivity (plain Grad-CAM)",
}


class Explorer(anywidget.AnyWidget):
    """A linked view of embeddings: hover the map, click an image, see its neighbours and why they are near.

    Attributes
    ----------
    query : str or None
        Id of the image whose neighbours are shown. Set it, or observe it.
    selection : list of str
        Ids that are selected on the map, in the order of the embeddings. Set it, or observe it.
    neighbors : list of str
        Ids of the query's nearest neighbours, best first; follows `query`.
    errors : list of str
        What went wrong while answering the browser, oldest first; each was shown in the widget too.
    """

    query = t.Unicode(None, allow_none=True)
    selection = t.List(t.Unicode())
    neighbors = t.List(t.Unicode(), read_only=True)

    ids = t.List(t.Unicode(), read_only=True).tag(sync=True)
    _esm = t.Unicode(bundle()).tag(sync=True)
    _css = t.Unicode(styles()).tag(sync=True)
    _xy = t.Bytes().tag(sync=True)
    _columns = t.List().tag(sync=True)
    _thumbnails = t.Bytes().tag(sync=True)
    _offsets = t.Bytes().tag(sync=True)
    _graph = t.Bytes().tag(sync=True)
    _similarities = t.Bytes().tag(sync=True)
    _k = t.Int().tag(sync=True)
    _info = t.Dict().tag(sync=True)

    def __init__(self, embeddings: Embeddings, layout: Layout, k: int) -> None:
        self.embeddings = embeddings
        self.layout_of_points = layout
        self.errors: list[str] = []
        self._default: tuple[str, str] | None = None  # the method that fits this encoder, and why
        self._cause: tuple[str | None, str | None] = (None, None)  # the view and the trait it is changing
        self._rows = {id: row for row, id in enumerate(embeddings.ids)}
        graph = neighbor_graph(embeddings, k)
        small, offsets = thumbnails(embeddings)
        super().__init__(
            _xy=np.ascontiguousarray(layout.xy, "<f4").tobytes(),
            _columns=_columns_of(embeddings.frame, layout),
            _thumbnails=small,
            _offsets=offsets,
            _graph=np.ascontiguousarray(graph.indices, "<i4").tobytes(),
            _similarities=np.ascontiguousarray(graph.similarities, "<f4").tobytes(),
            _k=graph.k,
            _info=self._describe(layout),
        )
        self.set_trait("ids", embeddings.ids)
        self._neighbor_rows = graph.indices
        self.on_msg(self._receive)

    def _describe(self, layout: Layout) -> dict[str, Any]:
        encoder = self.embeddings.encoder
        images = self.embeddings.images
        why_not = ""
        if encoder is None:
            why_not = "No evidence: these vectors came without the network that made them."
        elif images is None:
            why_not = "No evidence: these vectors came without their images."
        return {
            "methods": [{"name": name, "title": _TITLES[name]} for name in PAIR_METHODS],
            "can_explain": not why_not,
            "why_not": why_not,
            "has_pictures": images is not None,
            "title": f"{encoder.name}, {encoder.layer}" if encoder else "",
            "note": layout.summary,
        }

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

    def _receive(self, _: Any, content: dict[str, Any], buffers: list[Any]) -> None:
        """Take one message of a view; what goes wrong is shown there and kept in `errors`."""
        kind, view = content.get("type"), content.get("view")
        try:
            if kind == "ready":
                self._send_state(None, "query", "selection")
            elif kind == "query":
                self._cause = (view, "query")
                self.query = content.get("id")
            elif kind == "select":
                self._cause = (view, "selection")
                ids = self.embeddings.ids
                self.selection = [ids[row] for row in np.frombuffer(buffers[0], "<u4")]
            elif kind == "request":
                fields, blobs = self._answer(content)
                self.send({"type": "reply", "view": view, "serial": content["serial"], "ok": True, **fields}, blobs)
        except Exception as error:  # the edge of the kernel: an observer of the user's may raise anything too
            text = str(error) if isinstance(error, VizkitError) else f"{type(error).__name__}: {error}"
            self.errors.append(text)
            reply = {"type": "reply", "view": view, "serial": content.get("serial"), "ok": False, "error": text}
            self.send(reply)
        finally:
            self._cause = (None, None)

    def _answer(self, content: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        if content["name"] == "picture":
            return {}, [webp(self._image(content["id"]), _PICTURE)]
        if content["name"] == "evidence":
            return self._evidence(content["query"], content["neighbors"], content.get("method"))
        raise InputError(f"The view asked for {content['name']!r}, which this explorer does not know.")

    def _evidence(self, query: str, others: list[str], method: str | None) -> tuple[dict[str, Any], list[bytes]]:
        encoder = require_encoder(self.embeddings, "Evidence")
        if not others:
            raise InputError("There is no neighbour to compare with.")
        reason = None
        if method is None:
            self._default = self._default or default_method(encoder, self._image(query))
            method, reason = self._default
        # Contribution costs one forward pass for all. Others answer for one neighbour and name the rest: the view then
        # asks on, shows each as it comes, and leaves off for a newer query.
        now, pending = (others, []) if method == "contribution" else (others[:1], others[1:])
        found = explain_many(encoder, self._image(query), [self._image(id) for id in now], method)
        largest = max(float(np.abs(m).max()) for e in found for m in (e.map_a, e.map_b))
        first = found[0]
        fields = {
            "method": first.method,
            "title": _TITLES[first.method],
            "unit": first.unit,
            "signed": any(e.signed for e in found),
            "limit": largest,
            "reason": reason or first.reason,
            "pending": pending,
            "measured": first.trust,
            "layer": first.layer,
            "pairs": [_pair_fields(id, e) for id, e in zip(now, found, strict=True)],
        }
        blobs = [_seen(first.seen_a)]
        for e in found:
            blobs += [e.map_a.astype("<f4").tobytes(), e.map_b.astype("<f4").tobytes(), _seen(e.seen_b)]
        return fields, blobs

    def to_html(self, path: str | Path, *, queries: Sequence[str] | None = None) -> Path:
        """Write the explorer, its query and selection into one HTML file that needs no kernel and makes no request.

        Parameters
        ----------
        path
            The file; one that exists is replaced once the new one is complete.
        queries
            Ids whose evidence the file shall hold, computed now by the default method, about 60 kB each. By default the
            query and the selection. Map, hover and neighbours are there for every image.

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

        target = Path(path).absolute()
        if target.is_dir():
            raise InputError(f"{str(target)!r} is a folder: name a file in it, like {str(target / 'study.html')!r}.")
        if not target.parent.is_dir():
            raise InputError(f"There is no folder {str(target.parent)!r} to write {target.name!r} into: make it first.")
        if isinstance(queries, str):
            raise InputError(f"queries must be a list of ids, not one string: [{queries!r}].")
        wanted = list(queries) if queries is not None else self._shown_queries()
        evidence = {}
        for id in tqdm(wanted, desc="evidence", unit="query", delay=2, leave=False):
            ids = self.embeddings.ids
            others = [ids[row] for row in self._neighbor_rows[self.embeddings.row(id)]]
            evidence[id] = self._whole_evidence(id, others)
        used = {answer["fields"]["method"] for answer in evidence.values()}
        methods = [m for m in self._info["methods"] if m["name"] in used]
        info = {**self._info, "has_pictures": False, "methods": methods}
        traits = {name: getattr(self, name) for name in _BULK} | {"_info": info}
        state = {"query": self.query, "selection": [self._rows[id] for id in self.selection]}
        provenance = {"vectors": self.embeddings.provenance, "map": self.layout_of_points.provenance}
        text = page(str(info["title"] or "vizkit"), traits, evidence, state=state, provenance=provenance)
        temporary = target.with_name(f".{target.name}.tmp")
        temporary.write_text(text, encoding="utf-8")
        return temporary.replace(target)

    def _shown_queries(self) -> list[str]:
        shown = [*([self.query] if self.query is not None else []), *self.selection]
        return list(dict.fromkeys(shown)) if self._info["can_explain"] else []

    def _whole_evidence(self, query: str, others: list[str]) -> dict[str, Any]:
        """Answer for all neighbours at once, whatever it takes."""
        fields, buffers = self._evidence(query, others, None)
        while fields["pending"]:
            more, blobs = self._evidence(query, fields["pending"], fields["method"])
            fields["pairs"] += more["pairs"]
            fields |= {
                "pending": more["pending"],
                "limit": max(fields["limit"], more["limit"]),
                "signed": fields["signed"] or more["signed"],
            }
            buffers += blobs[1:]
        return {"fields": fields, "buffers": buffers}

    def _image(self, id: str) -> Image.Image:
        images = self.embeddings.images
        if images is None:
            raise InputError("These vectors came without images.")
        return images[images.row(id)]


def explore(embeddings: Embeddings, layout: Layout | None = None, *, k: int = 12) -> Explorer:
    """Open the linked view: map, neighbours and evidence.

    Parameters
    ----------
    embeddings
        What to look at.
    layout
        The map; by default `vizkit.project(embeddings)`.
    k
        Neighbours to show, 1 or more.

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
        layout = project(embeddings)
    if list(layout.ids) != embeddings.ids:
        raise InputError("The layout is of other images than the embeddings: project these, or leave layout out.")
    return Explorer(embeddings, layout, k)


def _columns_of(frame: pd.DataFrame, layout: Layout) -> list[dict[str, Any]]:
    """Return what the map can be coloured by: categories as codes, numbers as values, in the frame's order."""
    columns: list[dict[str, Any]] = []
    for name in frame.columns:
        values = frame[name]
        if name == "path" or values.isna().all():
            continue
        if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            columns.append(_number(str(name), values.to_numpy(np.float32, na_value=np.nan)))
        elif 0 < values.astype(str).nunique() <= _MOST_CATEGORIES:
            codes, categories = pd.factorize(values.map(str, na_action="ignore"), sort=True)
            bytes_ = codes.astype("<i4").tobytes()
            columns.append(
                {"name": str(name), "kind": "category", "codes": bytes_, "categories": [str(c) for c in categories]}
            )
    columns.append(_number("neighbors kept", layout.kept))
    return columns


def _number(name: str, values: Any) -> dict[str, Any]:
    return {"name": name, "kind": "number", "values": np.ascontiguousarray(values, "<f4").tobytes()}


def _pair_fields(id: str, evidence: "PairEvidence") -> dict[str, Any]:
    return {
        "id": id,
        "similarity": evidence.similarity,
        "shape_a": list(evidence.map_a.shape),
        "shape_b": list(evidence.map_b.shape),
    }


def _seen(pixels: Any) -> bytes:
    return webp(Image.fromarray(pixels), max(pixels.shape[:2]))
