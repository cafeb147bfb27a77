"""What an encoder is: a card in words, and a fingerprint that follows all that makes its vectors.

Encoders stand above this and ask it about themselves, so it knows them only by what they have.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from .capture import INPUT
from .fingerprints import attribute_hashes, code_hash, preprocess_hash, state_hash
from .preprocess import described


class Identity(NamedTuple):
    """Hashes of an encoder, 16 hex digits each: of its weights, and of everything that makes its vectors."""

    weights: str
    fingerprint: str


def identify(encoders: Sequence[Any]) -> list[Identity]:
    """Return the identity of encoders that share one network and preprocess; what is shared is hashed once."""
    first = encoders[0]
    weights = state_hash(first.module)
    found = attribute_hashes(first.module)
    attributes = [f"{name} {found[name]}" for name in sorted(found) if name not in first.written]
    network = (weights, code_hash(first.module), *attributes)
    pixels = preprocess_hash(first.preprocess)
    identities = []
    for encoder in encoders:
        digest = hashlib.sha256()
        for part in (*network, encoder.layer, encoder.pool, encoder.precision, pixels):
            digest.update(f"{part}|".encode())
        identities.append(Identity(weights, digest.hexdigest()[:16]))
    return identities


def card(encoder: Any, identity: Identity) -> pd.DataFrame:
    """Return what stands between an image and its vector: one row a property, column "value"."""
    vector = len(encoder.shape) == 1 and encoder.layer_shape == encoder.shape
    rows = {
        "network": encoder.name,
        "weights": encoder.weights,
        "weights hash": identity.weights,
        "layer": f"{encoder.layer}" + (" (what goes into it)" if encoder.layer.startswith(INPUT) else ""),
        "pooling": "none needed: the layer gives a vector" if vector else encoder.pool,
        "dimensions": encoder.dim,
        "preprocess": encoder.transforms,
        **described(encoder.input.function),
        "input": " x ".join(map(str, encoder.input_shape)),
        "device": encoder.device,
        "precision": encoder.precision_in_words,
        "fingerprint": identity.fingerprint,
    }
    return pd.DataFrame({"value": pd.Series(rows, dtype=object)})
