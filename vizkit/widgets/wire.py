"""What travels to the browser about maps: positions, neighbors, columns, and a word on a map that still moves."""

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..figures.colors import is_category, named, natural
from ..graph import nearest_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..embeddings import Embeddings
    from ..graph import NeighborGraph
    from ..projection import Layout

_MOST_CATEGORIES = 200
_MOST_TEXT = 4_000_000  # bytes of all columns of texts
_AROUND = 4  # bytes around a text in a list of JSON
_PAIRS = 50_000  # random pairs: 50 of them lie above the last of a thousand quantiles
_QUANTILES = 1001


def positions_of(xy: "NDArray[np.float32]") -> bytes:
    """Return positions (n, 2) as float32, x and y of one point after the other."""
    return np.ascontiguousarray(xy, "<f4").tobytes()


def moving_note(before: "Layout") -> str:
    """Say what is known of a map while the next one unfolds over it."""
    unmoved = before.provenance["epochs"] == 0 or before.provenance["stopped"] == 0
    if not unmoved or before.k == 0:
        return "The map is being drawn anew; what it keeps is measured when it stands."
    near = f"{before.k} nearest neighbors ({before.provenance['metric']}, chance {before.chance:.1%})"
    return f"PCA keeps {before.kept.mean():.0%} of the {near}; UMAP unfolds from it and is measured when it stands."


def shares_of(kept: Any) -> bytes:
    """Return shares kept (n,) in [0, 1] as float32; NaN where nothing is measured."""
    return np.ascontiguousarray(kept, "<f4").tobytes()


def graph_fields(graph: "NeighborGraph", embeddings: "Embeddings") -> dict[str, bytes]:
    """Return the true neighbors of one space, and what the cosine of random pairs is there.

    Returns
    -------
    dict
        indices (n, k) int32 and similarities (n, k) float32; randoms (1001,) float32, the quantiles from 0 to 1 of the
        cosine of 50,000 pairs drawn with a seed, or of all where there are no more; empty for a single image.
    """
    n = len(graph)
    if n * (n - 1) // 2 <= _PAIRS:
        one, other = np.triu_indices(n, 1)
    else:
        rng = np.random.default_rng(0)
        one = rng.integers(n, size=_PAIRS)
        other = (one + rng.integers(1, n, size=_PAIRS)) % n
    scores = nearest_rows(embeddings).scores(one, other)
    quantiles = np.quantile(scores, np.linspace(0, 1, _QUANTILES)) if len(scores) else scores
    return {
        "indices": np.ascontiguousarray(graph.indices, "<i4").tobytes(),
        "similarities": np.ascontiguousarray(graph.similarities, "<f4").tobytes(),
        "randoms": quantiles.astype("<f4").tobytes(),
    }


def columns_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return what is told of the images: categories as codes, numbers and texts as values, in the frame's order.

    Parameters
    ----------
    frame
        n rows. Of more than 200 kinds a column is no category but texts, to search in and to read; of these 4 MB travel
        at most, and those beyond are left out, with a warning.
    """
    columns: list[dict[str, Any]] = []
    room, left_out = _MOST_TEXT, []
    for name in frame.columns:
        values = frame[name]
        if values.isna().all():
            continue
        # The figures' rule, so that a label has one color in both.
        if not is_category(values, name) and pd.api.types.is_numeric_dtype(values):
            numbers = np.ascontiguousarray(values.to_numpy(np.float32, na_value=np.nan), "<f4").tobytes()
            columns.append({"name": str(name), "kind": "number", "values": numbers})
            continue
        texts = named(values)
        kinds = list(texts.dropna().unique())
        if len(kinds) <= _MOST_CATEGORIES:
            categories = natural(kinds)
            codes = pd.Categorical(texts, categories=categories).codes.astype("<i4").tobytes()
            columns.append(
                {
                    "name": str(name),
                    "kind": "category",
                    "codes": codes,
                    "categories": categories,
                }
            )
            continue
        words = texts.fillna("").tolist()
        size = sum(len(word.encode()) + _AROUND for word in words)
        if size <= room:
            room -= size
            columns.append({"name": str(name), "kind": "text", "values": words})
        else:
            left_out.append(str(name))
    if left_out:
        warnings.warn(
            f"Too long for the explorer, which takes {_MOST_TEXT / 1e6:.0f} MB of texts: "
            f"{', '.join(map(repr, left_out))}. It shows and searches the other columns; explorer.frame has all.",
            stacklevel=4,  # whoever opens the explorer
        )
    return columns


def json_text(text: str) -> str:
    """Return a name as JSON and pandas can hold it: half a character is written out."""
    return text.encode("utf-8", "backslashreplace").decode()
