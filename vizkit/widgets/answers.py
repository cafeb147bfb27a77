"""What the explorer answers a view that asks: a picture, evidence, a contrast, or matching patches."""

from collections.abc import Callable, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..embeddings import Embeddings, require_encoder
from ..errors import InputError
from .thumbnails import webp

# Saliency is imported where it is used: it needs torch, and an explorer of vectors alone opens seconds sooner without.
if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..encoders import Encoder
    from ..saliency.evidence import Evidence, PairEvidence
    from ..saliency.methods import Given
    from ..saliency.spatial import Seen
    from .guests import Guests

_PICTURE = 320  # pixels of the longer side of a sharp picture
_KEPT = 64  # images that went through a network and may be asked about again
_MOST_PAIRS = 1 << 22  # of patches: 16 MB of matches, as maps of 45 x 45 have them


class Answers:
    """Pictures and evidence for embeddings of the same images.

    A question is a message of type "request"; `name` says what is asked, `graph` (by default 0) in which of the
    embeddings. Ids may be those of guests. Maps and matrices are float32, little-endian, row by row; pictures are WebP.

    picture {id}
        [picture]
    evidence {query, neighbors, method}
        method, title, unit, signed, limit, reason, layer; trust {verdict, reason}; verdicts, by name, of every method
        that was measured on this network; better, a slower method that was found green, where contribution answered
        because nobody named a method; pending, the neighbors that are not answered for yet; pairs {id, similarity,
        shape_a, shape_b}. [what the network saw of the query; for each pair map of the query, map of the neighbor,
        what the network saw of it]
    contrast {query, near, far, method}
        As for evidence, and value, headline, similarities (to near, to far); panels {name, shape, residual} of query,
        near and far. [map, what the network saw] of each
    matches {query, neighbor}
        similarity, shape_a, shape_b; best [cell of a, cell of b, points of cosine], mutual best matches, most first;
        the share of the cosine that they carry, and of shuffled patches chance, low and high (null where the cosine is
        not above 0); trust. [matrix (cells of a, cells of b) in points of cosine, what the network saw of a, of b]

    Parameters
    ----------
    spaces
        The embeddings, one a graph, all of the same ids.
    guests
        Images that were added.
    measured
        Called when a method was measured on some network: the same question may have another answer now.
    """

    def __init__(
        self, spaces: Sequence[Embeddings], guests: "Guests | None" = None, measured: Callable[[], None] | None = None
    ) -> None:
        self._spaces = list(spaces)
        self._guests = guests
        self._measured = measured
        self._seen: dict[tuple[int, str], Seen] = {}  # by graph and id, the latest last
        self._keeping = Lock()  # views may be answered while a cell of the notebook runs, in another thread
        self._explains = any(space.encoder is not None for space in self._spaces)
        if self._explains:
            from ..saliency.badges import listen

            listen(self._hear)

    def _hear(self) -> None:
        if self._measured is not None:
            self._measured()

    def describe(self) -> dict[str, Any]:
        """Return what can be asked for, as fields of the explorer's `_info`."""
        methods: list[dict[str, str]] = []
        if self._explains:
            from ..saliency.methods import METHODS

            methods = [{"name": method.name, "title": method.title} for method in METHODS.values()]
        return {
            "methods": methods,
            "has_pictures": self._spaces[0].images is not None,
        }

    def why_not(self, graph: int) -> str:
        """Return why there is no evidence in one of the embeddings; "" where there is."""
        space = self._spaces[graph]
        if space.encoder is None:
            return "No evidence: these vectors came without the network that made them."
        return "No evidence: these vectors came without their images." if space.images is None else ""

    def answer(self, question: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        """Answer a question: the fields of the reply, and its buffers.

        Raises
        ------
        InputError, MissingEncoderError, MethodNotApplicableError, ImageReadError
            It cannot be answered.
        """
        name, graph = question["name"], question.get("graph", 0)
        if name == "picture":
            return {}, [self._sharp(graph, question["id"])]
        if name == "evidence":
            fields, found = self.evidence(graph, question["query"], question["neighbors"], question.get("method"))
            blobs = [_picture(found[0].seen_a)]
            for e in found:
                blobs += [_floats(e.map_a), _floats(e.map_b), _picture(e.seen_b)]
            return fields, blobs
        if name == "contrast":
            ids = [question[which] for which in ("query", "near", "far")]
            return self._contrast(graph, ids, question.get("method"))
        if name == "matches":
            fields, matrix, pair = self.matches(graph, question["query"], question["neighbor"])
            return fields, [_floats(matrix), _picture(pair.seen_a), _picture(pair.seen_b)]
        raise InputError(f"The view asked for {name!r}, which this explorer does not know.")

    def evidence(
        self, graph: int, query: str, others: list[str], method: str | None
    ) -> "tuple[dict[str, Any], list[PairEvidence]]":
        """Return the fields of evidence, and what they are of."""
        from ..saliency.questions import explain_many

        encoder = require_encoder(self._spaces[graph], "Evidence")
        if not others:
            raise InputError("There is no neighbor to compare with.")
        seen = self._see(graph, [query, *others] if method in (None, "contribution") else [query, others[0]])
        given, reason, better = _chosen(encoder, method, seen)
        # Contribution costs one forward pass for all. Others answer for one neighbor and name the rest: the view then
        # asks on, shows each as it comes, and leaves off for a newer query.
        now, pending = (others, []) if given == "contribution" else (others[:1], others[1:])
        found = explain_many(encoder, seen[0], seen[1 : 1 + len(now)], given)
        fields = _fields(encoder, found, reason) | {
            "pending": pending,
            "better": better,
            "pairs": [_pair_fields(id, e) for id, e in zip(now, found, strict=True)],
        }
        return fields, found

    def _contrast(self, graph: int, ids: list[str], method: str | None) -> tuple[dict[str, Any], list[bytes]]:
        from ..saliency.questions import explain_contrast
        from ..saliency.targets import units_of

        encoder = require_encoder(self._spaces[graph], "A contrast")
        seen = self._see(graph, ids)
        given, reason, _ = _chosen(encoder, method, seen)
        found = explain_contrast(encoder, *seen, given)
        units = units_of(encoder, [each.vector for each in seen], None)
        near, far = float(units[0] @ units[1]), float(units[0] @ units[2])
        fields = _fields(encoder, [found], reason) | {
            "value": found.value,
            "headline": _headline(near, far),
            "similarities": [near, far],
            "panels": [
                {"name": panel.name, "shape": list(panel.map.shape), "residual": panel.residual}
                for panel in found.panels
            ],
        }
        blobs = []
        for panel in found.panels:
            blobs += [_floats(panel.map), _picture(panel.seen)]
        return fields, blobs

    def matches(
        self, graph: int, query: str, neighbor: str
    ) -> "tuple[dict[str, Any], NDArray[np.float32], PairEvidence]":
        """Return the fields of matching patches, the matrix, and the pair that they are of."""
        from ..saliency.questions import explain_pair

        encoder = require_encoder(self._spaces[graph], "Matching patches")
        found = explain_pair(encoder, *self._see(graph, [query, neighbor]), "contribution")
        (h, w), (height, width) = found.map_a.shape, found.map_b.shape
        cells = h * w * height * width
        if cells > _MOST_PAIRS:
            raise InputError(
                f"Maps of {h} x {w} and {height} x {width} make {cells / 1e6:,.0f} million pairs of patches, more than "
                "a browser holds. vk.explain_pair(...).matches() finds the best ones."
            )
        matches, matrix = found.matches(n=h * w), found.matrix
        assert matrix is not None, "contribution splits a cosine, or has raised"
        every = matches.carried.loc["all"]
        frame = matches.frame
        best = zip(
            frame["row_a"] * w + frame["column_a"], frame["row_b"] * width + frame["column_b"], frame["carried"],
            strict=True,
        )  # fmt: skip
        fields = {
            "similarity": found.similarity,
            "shape_a": [h, w],
            "shape_b": [height, width],
            "best": [[int(a), int(b), round(float(carried), 6)] for a, b, carried in best],
            "carried": _number(every["share"]),
            **{name: _number(every[name]) for name in ("chance", "low", "high")},
            "trust": _trust(encoder, "contribution"),
        }
        return fields, matrix, found

    def _see(self, graph: int, ids: list[str]) -> "list[Seen]":
        """Run images through a network, but for those that went through it lately."""
        from ..saliency.spatial import see, weights_of

        encoder = require_encoder(self._spaces[graph], "Evidence")
        weights = weights_of(encoder)
        with self._keeping:
            kept = {id: seen for (at, id), seen in self._seen.items() if at == graph and seen.weights == weights}
        found = see(encoder, [kept.get(id) or self._image(graph, id) for id in ids])
        with self._keeping:
            for id, seen in zip(ids, found, strict=True):
                self._seen.pop((graph, id), None)
                self._seen[graph, id] = seen
            for key in list(self._seen)[:-_KEPT]:
                del self._seen[key]
        return found

    def _sharp(self, graph: int, id: str) -> bytes:
        if self._guests is not None and id in self._guests:
            return self._guests[id].picture
        return webp(self._image(graph, id), _PICTURE)

    def _image(self, graph: int, id: str) -> Image.Image:
        if self._guests is not None and id in self._guests:
            return self._guests[id].image
        images = self._spaces[graph].images
        if images is None:
            raise InputError("These vectors came without images.")
        return images[images.row(id)]


def _chosen(encoder: "Encoder", name: str | None, seen: "list[Seen]") -> "tuple[Given, str, str | None]":
    """Return the method for a name that a view gave, why it was taken, and the better one that may follow it.

    Where nobody named one and a slower one is known to be better, contribution answers at once where it is exact.
    """
    from ..saliency.answering import choose
    from ..saliency.badges import best_of
    from ..saliency.evidence import method_name
    from ..saliency.methods import method_of

    best = best_of(encoder)
    if name is not None and (best is None or best.method == "contribution" or method_name(best.method) != name):
        given, reason, _ = choose(encoder, name, None, seen)
        return given, reason, None
    given, reason, _ = choose(encoder, None, None, seen)
    if name is None and given != "contribution" and all(each.maps is not None for each in seen):
        return "contribution", f"at once, before {method_of(given).title}, which was found green", method_name(given)
    return given, reason, None


def _fields(encoder: "Encoder", found: "Sequence[Evidence]", reason: str) -> dict[str, Any]:
    """Return what every answer with maps says of them."""
    from ..saliency.badges import badge_of, best_of
    from ..saliency.evidence import method_name
    from ..saliency.methods import METHODS

    first = found[0]
    known = {name: badge_of(encoder, name) for name in METHODS}
    best = best_of(encoder)
    if best is not None:  # it may have been measured with parameters of its own
        known[method_name(best.method)] = best
    return {
        "method": method_name(first.method),
        "title": first.title,
        "unit": first.unit,
        "signed": any(e.signed for e in found),
        "limit": max(float(np.abs(panel.map).max()) for e in found for panel in e.panels),
        "reason": reason,
        "layer": first.layer,
        "trust": _trust(encoder, first.method),
        "verdicts": {name: badge.verdict for name, badge in known.items() if badge is not None},
    }


def _trust(encoder: "Encoder", method: "Given") -> dict[str, Any]:
    """Return what was measured of a method on a network: its verdict, None where nothing was, and the reason."""
    from ..saliency.badges import badge_of
    from ..saliency.evidence import method_name

    badge = badge_of(encoder, method)
    if badge is None:
        name = method_name(method)
        return {
            "verdict": None,
            "reason": f"Nobody has measured yet how far this method can be trusted on this network: "
            f"vk.trust(encoder, images, {name!r}) does.",
        }
    return {"verdict": badge.verdict, "reason": badge.reason}


def _headline(near: float, far: float) -> str:
    """Say which of two images is nearer, and by how much."""
    by = f"cosine {near:.3f} to this one, {far:.3f} to that one".replace("-", "−")
    if f"{near:.3f}" == f"{far:.3f}":
        return f"Both are equally near: {by}."
    return f"Nearer to {'this' if near > far else 'that'} one by {abs(near - far):.3f}: {by}."


def _pair_fields(id: str, evidence: "PairEvidence") -> dict[str, Any]:
    return {
        "id": id,
        "similarity": evidence.similarity,
        "shape_a": list(evidence.map_a.shape),
        "shape_b": list(evidence.map_b.shape),
    }


def _number(value: Any) -> float | None:
    """Return a number as JSON knows it: NaN is None."""
    return float(value) if np.isfinite(value) else None


def _floats(values: "NDArray[np.float32]") -> bytes:
    return np.ascontiguousarray(values, "<f4").tobytes()


def _picture(pixels: Any) -> bytes:
    return webp(Image.fromarray(pixels), max(pixels.shape[:2]))
