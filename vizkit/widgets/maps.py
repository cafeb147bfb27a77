"""The maps of an explorer, by name, and the spaces behind them: what was given to `explore`, checked and made ready."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..embeddings import Embeddings
from ..errors import InputError, closest
from ..graph import NeighborGraph, nearest_rows, neighbor_graph
from ..layout import Layout
from ..neighborhoods import Neighborhoods, among, map_neighbors
from ..projection import Frame, as_layout, unfolding
from .wire import json_text, moving_note, positions_of, shares_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ONLY = "map"  # the name of a map that was given none


class Space:
    """Vectors and who is near whom among them.

    Attributes
    ----------
    embeddings
        n vectors.
    graph
        The k nearest others of each, by the cosine.
    """

    def __init__(self, embeddings: Embeddings, k: int) -> None:
        self.embeddings = embeddings
        self.graph: NeighborGraph = neighbor_graph(embeddings, k)

    def similarities(self, query: "int | NDArray[np.float32]") -> "NDArray[np.float32]":
        """Return the cosine of every vector with a query, a row or a vector (d,): (n,) in [-1, 1]."""
        searcher, n = nearest_rows(self.embeddings), len(self.embeddings)
        if isinstance(query, int):
            return searcher.scores(np.full(n, query), np.arange(n)).astype(np.float32)
        rows, scores = searcher.search(query[None], n)
        found = np.empty(n, np.float32)
        found[rows[0]] = scores[0]
        return found


@dataclass(eq=False)
class Map:
    """One map: its name, which space it shows, and the layout that stands.

    Attributes
    ----------
    name
        Unique among the maps.
    graph
        Index of its space.
    layout
        The layout that stands: while another unfolds over it, still the one before.
    moving
        Whether another unfolds over it, or waits for its turn.
    frames
        What is to unfold over it from the beginning, if anything is.
    """

    name: str
    graph: int
    layout: Layout
    moving: bool = False
    frames: Iterator[Frame] | None = None

    def unfolds(self) -> Iterator[Frame]:
        """Return what is to unfold from the beginning, once."""
        frames, self.frames = self.frames, None
        return iter(()) if frames is None else frames

    def fields(self) -> dict[str, Any]:
        """Return the map as it travels; shares are NaN of one image, and while it moves: not measured."""
        layout, encoder = self.layout, self.layout.embeddings.encoder
        unmeasured = self.moving or layout.k == 0
        kept = np.full(len(layout), np.nan, np.float32) if unmeasured else layout.kept
        return {
            "name": json_text(self.name),
            "xy": positions_of(layout.xy),
            "kept": shares_of(kept),
            "graph": self.graph,
            "note": moving_note(layout) if self.moving else layout.summary,
            "title": f"{encoder.name}, {encoder.layer}" if encoder else "",
        }


class Maps:
    """The maps of one explorer, in order, of the same images.

    Parameters
    ----------
    embeddings, layout, k
        As of `explore`.
    parameters
        Keywords of `project` for maps without a layout.

    Attributes
    ----------
    parameters : dict
        As above.
    spaces : list of Space
        Each of the embeddings once.
    maps : list of Map
        At least one. Those without a layout lie as PCA has them, and `frames` go on from there.

    Raises
    ------
    InputError
        As `explore`.
    """

    def __init__(
        self, embeddings: Any, layout: Any = None, k: int = 12, parameters: Mapping[str, Any] | None = None
    ) -> None:
        self.parameters = dict(parameters or {})
        given = _named_spaces(embeddings)
        layouts = _named_layouts(layout, given, single=isinstance(embeddings, Embeddings))
        if isinstance(layout, Mapping) and isinstance(embeddings, Embeddings):
            given = dict.fromkeys(layouts, embeddings)
        distinct = list({id(one): one for one in given.values()}.values())
        self.spaces = [Space(one, k) for one in distinct]
        self.maps: list[Map] = []
        for name, one in given.items():
            graph, found = next(i for i, other in enumerate(distinct) if other is one), layouts.get(name)
            if found is not None:
                self.maps.append(Map(name, graph, found))
                continue
            frames = unfolding(one, **self.parameters)
            start = as_layout(one, next(frames).xy, **self.parameters, method="pca")
            self.maps.append(Map(name, graph, start, frames=frames))

    @property
    def embeddings(self) -> Embeddings:
        """What tells of the images: ids, columns and pictures. Those of the first map."""
        return self.spaces[0].embeddings

    @property
    def names(self) -> list[str]:
        """The names of the maps, in order."""
        return [one.name for one in self.maps]

    def index(self, name: str) -> int:
        """Return which map has a name; InputError where none has."""
        names = self.names
        if name not in names:
            raise InputError(
                f"There is no map {name!r}; there {'are' if len(names) > 1 else 'is'} {', '.join(map(repr, names))}."
                f"{closest(str(name), names)}"
            )
        return names.index(name)

    def change(self, a: int, b: int) -> "tuple[str, NDArray[np.float32]]":
        """Return how much the neighbors of every image differ between two maps: a sentence, and shares (n,) in [0, 1].

        Where they show different vectors, their true neighbors are compared, of which any that are equally near count
        as common; else the neighbors on the maps as they stand. They are as many as the explorer shows.
        """
        one, other = self.maps[a], self.maps[b]
        first, second = self.spaces[one.graph], self.spaces[other.graph]
        n, k = len(first.graph), first.graph.k
        if k == 0:
            return "One image has no neighbors that could change.", np.zeros(n, np.float32)
        if one.graph == other.graph:
            near = [map_neighbors(np.asarray(x.layout.xy), k) for x in (one, other)]
            common, where = among(*near).mean(axis=1), "on the map"
        else:
            rows = np.arange(n)
            shares = [
                Neighborhoods.of(mine.embeddings, rows, theirs.graph.indices.astype(np.int64), metric="cosine").hits
                for mine, theirs in ((first, second), (second, first))
            ]
            common, where = np.maximum(*(hits.mean(axis=1) for hits in shares)), "in truth"
        changed = (1 - common).astype(np.float32)
        chance = 1 - k / (n - 1)
        text = f"{changed.mean():.0%} of the {k} nearest neighbors {where} changed (chance {chance:.1%})."
        return text, changed


def _named_spaces(embeddings: Any) -> dict[str, Embeddings]:
    """Return embeddings by the names of their maps, all of the same images."""
    if isinstance(embeddings, Embeddings):
        return {_ONLY: embeddings}
    if not isinstance(embeddings, Mapping):
        raise InputError(
            f"explore takes Embeddings, not {type(embeddings).__name__}: vk.embed(images, encoder), or a mapping of "
            "names to Embeddings of the same images."
        )
    if not embeddings:
        raise InputError("The mapping of embeddings is empty; give at least one: {'layer4': embeddings}.")
    for name, one in embeddings.items():
        _check_name(name)
        if not isinstance(one, Embeddings):
            raise InputError(f"{name!r} is a {type(one).__name__}; expected Embeddings: vk.embed(images, encoder).")
    (first, of_first), *others = embeddings.items()
    for name, one in others:
        if not one.frame.index.equals(of_first.frame.index):
            raise InputError(_difference(first, of_first, name, one))
    return dict(embeddings)


def _named_layouts(layout: Any, given: dict[str, Embeddings], *, single: bool) -> dict[str, Layout]:
    """Return layouts by name, each of its embeddings; none where they are to be made."""
    if layout is None:
        return {}
    if not isinstance(layout, Mapping):
        if len(given) > 1 or not single:
            raise InputError(
                f"One layout, a {type(layout).__name__}, does not fit a mapping of embeddings; give a mapping of the "
                f"same names to layouts: {', '.join(map(repr, given))}. Or leave it out."
            )
        layout = dict.fromkeys(given, layout)
    elif not layout:
        raise InputError("The mapping of layouts is empty; give at least one, or leave it out.")
    elif not single and set(layout) != set(given):
        raise InputError(
            f"The layouts are named {', '.join(map(repr, layout))}, the embeddings {', '.join(map(repr, given))}; "
            "expected the same names."
        )
    for name, one in layout.items():
        _check_name(name)
        if not isinstance(one, Layout):
            raise InputError(f"The layout {name!r} is a {type(one).__name__}; expected a Layout: vk.project(...).")
        of = next(iter(given.values())) if single else given[name]
        if not one.frame.index.equals(of.frame.index):
            raise InputError("The layout is of other images than the embeddings: project these, or leave layout out.")
        if not _same_vectors(one.embeddings, of):
            raise InputError(
                f"The layout {name!r} is of other vectors of these images than the embeddings (another encoder or "
                "layer, or saved as float16). Give the embeddings that were mapped (layout.embeddings), or leave "
                "layout out."
            )
    return dict(layout)


def _same_vectors(one: Embeddings, other: Embeddings) -> bool:
    mine, theirs = one.vectors, other.vectors
    return one is other or (mine.shape == theirs.shape and np.array_equal(mine, theirs))


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"A map is named {name!r}; expected a text that is not empty.")


def _difference(first: str, one: Embeddings, second: str, other: Embeddings) -> str:
    """Say in what the images of two embeddings differ."""
    mine, theirs = one.frame.index, other.frame.index
    alone = [(name, a.difference(b, sort=False)) for name, a, b in ((first, mine, theirs), (second, theirs, mine))]
    told = [f"{len(ids)} only in {name!r} ({', '.join(map(repr, ids[:3]))})" for name, ids in alone if len(ids)]
    if not told:
        at = int(np.flatnonzero(np.asarray(mine != theirs))[0])
        told = [f"their order differs from row {at} on ({mine[at]!r} and {theirs[at]!r})"]
    return (
        f"{first!r} and {second!r} are not of the same images in the same order: {'; '.join(told)}. Embed the same set "
        "with both, or bring them into one order with embeddings.subset(ids)."
    )
