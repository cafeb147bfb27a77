"""An explorer as one file: what its views would ask for is computed now, made small, and put into a page.

Maps of evidence, cosines and matrices travel as whole numbers of two bytes with a scale; pictures once each. A study of
2,000 images with evidence for 20 queries stays below 6 MB.
"""

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..errors import ImageReadError, InputError, MethodNotApplicableError
from .page import page, write_page
from .thumbnails import webp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .answers import Answers
    from .guests import Guests
    from .maps import Maps

_BY_DEFAULT = 20  # queries of a page that nobody names any for
_QUERY = 224  # pixels of the longer side of a query's picture
_NEIGHBOR = 168  # of a neighbor's: twice what its tile shows
_MATCHES = 1_200_000  # entries of all matrices together, about a byte each: of maps of 8 x 8, those of 290 pairs
_LEVELS = 1023  # of a matrix, from 0 to its largest: what a patch carries in all is then right to three digits

Reply = tuple[dict[str, Any], list[Any]]  # fields, and references to what lies in the file


@dataclass
class Study:
    """What an explorer is at a moment.

    Attributes
    ----------
    traits
        What the browser is given, by name.
    maps, answers, guests
        The explorer's own.
    query, selection, shown
        Where to begin: an id or None, rows, and which maps.
    """

    traits: dict[str, Any]
    maps: "Maps"
    answers: "Answers"
    guests: "Guests"
    query: str | None
    selection: list[int]
    shown: list[int]


@dataclass
class Packed:
    """Bytes that a page holds, each once, and what refers to them.

    A reference is {"$": [kind, start, length, scale?]}. Kinds "bytes" and "numbers" are bytes as they are. Of kind "i2"
    are signed whole numbers of two bytes, all the low ones first, which are to be multiplied by `scale`, to become
    float32. Of kind "bytes" are pictures, which do not get smaller; all others lie together and are compressed.
    """

    pictures: bytearray = field(default_factory=bytearray)
    numbers: bytearray = field(default_factory=bytearray)
    _known: dict[bytes, dict[str, Any]] = field(default_factory=dict)

    def picture(self, file: bytes) -> dict[str, Any]:
        """Keep a picture, or several in one."""
        if file not in self._known:
            self._known[file] = {"$": ["bytes", len(self.pictures), len(file)]}
            self.pictures += file
        return self._known[file]

    def exact(self, content: bytes) -> dict[str, Any]:
        """Keep numbers as they are."""
        self.numbers += content
        return {"$": ["numbers", len(self.numbers) - len(content), len(content)]}

    def scaled(self, values: "NDArray[np.float32]", levels: int = 32767) -> dict[str, Any]:
        """Keep numbers as multiples of the largest by 1 / `levels`."""
        scale = float(np.abs(values).max(initial=0.0)) / levels or 1.0
        whole = np.round(np.asarray(values, np.float64).ravel() / scale).astype("<i2")
        # Apart, the high bytes, nearly all of them alike, get much smaller.
        found = self.exact(whole.view(np.uint8).reshape(-1, 2).T.tobytes())["$"]
        return {"$": ["i2", *found[1:], scale]}


def chosen_queries(queries: Sequence[str] | None, shown: Iterable[str], maps: "Maps", guests: "Guests") -> list[str]:
    """Return the ids whose evidence a file shall hold.

    Parameters
    ----------
    queries
        Ids, or None: the first 20 of those that are shown.
    shown
        The query and the selection.
    maps, guests
        Where ids must be known.

    Raises
    ------
    InputError
        It is one string, or an id is unknown.
    """
    if queries is None:
        return list(dict.fromkeys(shown))[:_BY_DEFAULT]
    if isinstance(queries, str):
        raise InputError(f"queries must be a list of ids, not one string: [{queries!r}].")
    wanted = list(dict.fromkeys(queries))
    for id in wanted:
        if id not in guests:
            maps.embeddings.row(id)
    return wanted


def write_study(target: Path, study: Study, queries: list[str]) -> Path:
    """Write an explorer into one HTML file, with evidence, matches and similarities for some queries; return its path.

    Where a space cannot be explained the page says why. How neighbors change is told from the maps that are shown to
    every other one, not for all pairs.

    Parameters
    ----------
    target
        The file; one that exists is replaced once the new one is complete.
    study
        What to write.
    queries
        Ids as of `chosen_queries`.
    """
    from tqdm.auto import tqdm

    packed, answers, used = Packed(), [], set()
    gathered = _Gathered(study, packed, queries)
    jobs = [(graph, id) for graph in range(len(study.maps.spaces)) for id in queries]
    for graph, id in tqdm(jobs, desc="evidence", unit="query", delay=2, leave=False):
        for asked, (fields, buffers) in gathered.answers_for(graph, id):
            answers.append([asked, fields, buffers])
            used.add(fields.get("method"))
    for a, b in combinations(range(len(study.maps.maps)), 2):
        if not {a, b} & set(study.shown):
            continue
        said, changed = study.maps.change(a, b)
        answers.append([["change", a, b], {"text": said}, [packed.scaled(changed)]])
    info = study.traits["_info"]
    info = info | {"has_pictures": False, "methods": [m for m in info["methods"] if m["name"] in used]}
    content = {
        "traits": _traits(study.traits | {"_info": info}, packed),
        "answers": answers,
        "guests": [[message, packed.picture(picture)] for message, picture in study.guests.messages()],
        "state": {"query": study.query, "selection": study.selection, "shown": study.shown},
    }
    provenance = {
        "vectors": [space.embeddings.provenance for space in study.maps.spaces],
        "maps": {one.name: one.layout.provenance for one in study.maps.maps},
    }
    text = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    parts = {"study": _gzip(text), "numbers": _gzip(bytes(packed.numbers)), "pictures": bytes(packed.pictures)}
    title = study.maps.maps[study.shown[0]].fields()["title"]
    return write_page(target, page(title or "vizkit", parts, provenance=provenance))


class _Gathered:
    """What is computed for the queries of a study."""

    def __init__(self, study: Study, packed: Packed, queries: list[str]) -> None:
        self._study, self._packed, self._queries = study, packed, set(queries)
        self._pictures: dict[tuple[int, str], dict[str, Any]] = {}  # by graph and id
        self._each: dict[int, int] = {}  # of how many neighbors a query has matches, by graph
        self._explained = [at for at in range(len(study.maps.spaces)) if not study.answers.why_not(at)]
        self._count = len(queries) * len(self._explained)

    def answers_for(self, graph: int, query: str) -> Iterator[tuple[list[Any], Reply]]:
        """Yield what is asked, a list of a request's name and payload, and the answer."""
        study = self._study
        ids = study.maps.embeddings.ids
        inside = query not in study.guests
        space = study.maps.spaces[graph]
        row = study.maps.embeddings.row(query) if inside else -1
        near = space.graph.indices[row] if inside else study.guests.neighbors(query, graph)
        others = [ids[at] for at in near]
        similarities = space.similarities(row if inside else study.guests.vector(query, graph))
        yield ["similarities", graph, query], ({}, [self._packed.scaled(similarities)])
        if not others or graph not in self._explained:
            return
        try:
            yield ["evidence", graph, query], self._evidence(graph, query, others)
            for rank, neighbor in enumerate(others):
                if rank >= self._each.get(graph, len(others)):
                    break
                answer = self._matches(graph, query, neighbor)
                if answer is not None:
                    yield ["matches", graph, query, neighbor], answer
        except ImageReadError as error:  # one file that is gone does not keep the others out
            yield ["evidence", graph, query], ({"error": str(error)}, [])

    def _evidence(self, graph: int, query: str, others: list[str]) -> Reply:
        """Return evidence by the method that counts, for all neighbors."""
        answers = self._study.answers
        fields, found = answers.evidence(graph, query, others, None)
        if fields["better"]:
            fields, found = answers.evidence(graph, query, others, fields["better"])
        while fields["pending"]:
            more, pairs = answers.evidence(graph, query, fields["pending"], fields["method"])
            found = [*found, *pairs]
            fields |= {
                "pairs": fields["pairs"] + more["pairs"],
                "pending": more["pending"],
                "limit": max(fields["limit"], more["limit"]),
                "signed": fields["signed"] or more["signed"],
            }
        buffers = [self._picture(graph, query, found[0].seen_a)]
        for id, e in zip(others, found, strict=True):
            maps = [self._packed.scaled(each) for each in (e.map_a, e.map_b)]
            buffers += [*maps, self._picture(graph, id, e.seen_b)]
        return fields | {"better": None}, buffers

    def _matches(self, graph: int, query: str, neighbor: str) -> Reply | None:
        """Return matching patches; None where there can be none, or there is no room for them."""
        try:
            fields, matrix, pair = self._study.answers.matches(graph, query, neighbor)
        except (MethodNotApplicableError, InputError):  # not exact here, or too many patches
            self._each[graph] = 0
            return None
        if graph not in self._each:
            self._each[graph] = _MATCHES // (matrix.size * self._count)
        if not self._each[graph]:
            return None
        pictures = [self._picture(graph, query, pair.seen_a), self._picture(graph, neighbor, pair.seen_b)]
        return fields, [self._packed.scaled(matrix, _LEVELS), *pictures]

    def _picture(self, graph: int, id: str, seen: "NDArray[np.uint8]") -> dict[str, Any]:
        """Keep what a network saw, once: in full for a query, small for an image that is only a neighbor."""
        if (graph, id) not in self._pictures:
            side, quality = (_QUERY, 85) if id in self._queries else (_NEIGHBOR, 75)
            self._pictures[graph, id] = self._packed.picture(webp(Image.fromarray(seen), side, quality=quality))
        return self._pictures[graph, id]


def _traits(traits: dict[str, Any], packed: Packed) -> dict[str, Any]:
    """Return what the browser is given, with references in place of bytes."""
    graphs = [
        graph | {"similarities": packed.scaled(np.frombuffer(graph["similarities"], "<f4"))}
        for graph in traits["_graphs"]
    ]
    small = packed.picture(traits["_thumbnails"])
    return {name: _exact(value, packed) for name, value in (traits | {"_graphs": graphs, "_thumbnails": small}).items()}


def _exact(value: Any, packed: Packed) -> Any:
    """Return a value with references in place of the bytes in it."""
    if isinstance(value, bytes):
        return packed.exact(value)
    if isinstance(value, dict):
        return {name: _exact(inner, packed) for name, inner in value.items()}
    return [_exact(inner, packed) for inner in value] if isinstance(value, list | tuple) else value


def _gzip(content: bytes) -> bytes:
    """Compress, to the same bytes each time."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(content) + packer.flush()
