"""What the explorer answers a view that asks: a picture, or evidence for the neighbors of a query."""

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..embeddings import Embeddings, require_encoder
from ..errors import InputError
from ..saliency.answering import choose
from ..saliency.methods import METHODS
from ..saliency.questions import explain_many
from ..saliency.spatial import Seen, see, weights_of
from .thumbnails import webp

if TYPE_CHECKING:
    from ..saliency.evidence import PairEvidence

_PICTURE = 320  # pixels of the longer side of a sharp picture
_KEPT = 64  # images that went through the network and may be asked about again


class Answers:
    """Pictures and evidence for a set of embeddings."""

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings = embeddings
        self._seen: dict[str, Seen] = {}  # by id, the latest last

    def describe(self) -> dict[str, Any]:
        """Return what can be asked for, as fields of the explorer's `_info`."""
        encoder, images = self._embeddings.encoder, self._embeddings.images
        why_not = ""
        if encoder is None:
            why_not = "No evidence: these vectors came without the network that made them."
        elif images is None:
            why_not = "No evidence: these vectors came without their images."
        return {
            "methods": [{"name": method.name, "title": method.title} for method in METHODS.values()],
            "can_explain": not why_not,
            "why_not": why_not,
            "has_pictures": images is not None,
            "title": f"{encoder.name}, {encoder.layer}" if encoder else "",
        }

    def answer(self, question: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        """Answer a message of type "request": the fields of the reply, and its buffers."""
        if question["name"] == "picture":
            return {}, [webp(self._image(question["id"]), _PICTURE)]
        if question["name"] == "evidence":
            return self._evidence(question["query"], question["neighbors"], question.get("method"))
        raise InputError(f"The view asked for {question['name']!r}, which this explorer does not know.")

    def whole_evidence(self, query: str, others: list[str]) -> dict[str, Any]:
        """Answer for all neighbors at once, whatever it takes."""
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

    def _evidence(self, query: str, others: list[str], method: str | None) -> tuple[dict[str, Any], list[bytes]]:
        encoder = require_encoder(self._embeddings, "Evidence")
        if not others:
            raise InputError("There is no neighbor to compare with.")
        seen = self._see([query, *others] if method in (None, "contribution") else [query, others[0]])
        given, reason, _ = choose(encoder, method, None, seen)
        # Contribution costs one forward pass for all. Others answer for one neighbor and name the rest: the view then
        # asks on, shows each as it comes, and leaves off for a newer query.
        now, pending = (others, []) if given == "contribution" else (others[:1], others[1:])
        found = explain_many(encoder, seen[0], seen[1 : 1 + len(now)], given)
        largest = max(float(np.abs(m).max()) for e in found for m in (e.map_a, e.map_b))
        first = found[0]
        fields = {
            "method": first.method,
            "title": first.title,
            "unit": first.unit,
            "signed": any(e.signed for e in found),
            "limit": largest,
            "reason": reason,
            "pending": pending,
            "measured": first.trust,
            "layer": first.layer,
            "pairs": [_pair_fields(id, e) for id, e in zip(now, found, strict=True)],
        }
        blobs = [_seen(first.seen_a)]
        for e in found:
            blobs += [e.map_a.astype("<f4").tobytes(), e.map_b.astype("<f4").tobytes(), _seen(e.seen_b)]
        return fields, blobs

    def _see(self, ids: list[str]) -> list[Seen]:
        """Run images through the network, but for those that went through it lately."""
        encoder = require_encoder(self._embeddings, "Evidence")
        weights = weights_of(encoder)
        kept = {id: seen for id, seen in self._seen.items() if seen.weights == weights}
        found = see(encoder, [kept.get(id) or self._image(id) for id in ids])
        for id, seen in zip(ids, found, strict=True):
            self._seen.pop(id, None)
            self._seen[id] = seen
        for id in list(self._seen)[:-_KEPT]:
            del self._seen[id]
        return found

    def _image(self, id: str) -> Image.Image:
        images = self._embeddings.images
        if images is None:
            raise InputError("These vectors came without images.")
        return images[images.row(id)]


def _pair_fields(id: str, evidence: "PairEvidence") -> dict[str, Any]:
    return {
        "id": id,
        "similarity": evidence.similarity,
        "shape_a": list(evidence.map_a.shape),
        "shape_b": list(evidence.map_b.shape),
    }


def _seen(pixels: Any) -> bytes:
    return webp(Image.fromarray(pixels), max(pixels.shape[:2]))
