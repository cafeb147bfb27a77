"""What the explorer answers a view that asks: a picture, or evidence for the neighbors of a query."""

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..embeddings import Embeddings, require_encoder
from ..errors import InputError
from ..saliency.questions import PAIR_METHODS, default_method, explain_many
from .thumbnails import webp

if TYPE_CHECKING:
    from ..saliency.evidence import PairEvidence

_PICTURE = 320  # pixels of the longer side of a sharp picture
_TITLES = {
    "contribution": "Contribution (exact)",
    "occlusion": "Occlusion",
    "gradcam": "Grad-CAM, norm held",
    "sensitivity": "Sensitivity (plain Grad-CAM)",
}


class Answers:
    """Pictures and evidence for a set of embeddings."""

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings = embeddings
        self._default: tuple[str, str] | None = None  # the method that fits this encoder, and why

    def describe(self) -> dict[str, Any]:
        """Return what can be asked for, as fields of the explorer's `_info`."""
        encoder, images = self._embeddings.encoder, self._embeddings.images
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
        reason = None
        if method is None:
            self._default = self._default or default_method(encoder, self._image(query))
            method, reason = self._default
        # Contribution costs one forward pass for all. Others answer for one neighbor and name the rest: the view then
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
