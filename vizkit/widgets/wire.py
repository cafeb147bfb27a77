"""What travels to the browser about a map: positions, columns to colour by, and a word on one that still moves."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..figures.colors import is_category, named, natural

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..projection import Layout

_MOST_CATEGORIES = 200


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


def columns_of(frame: pd.DataFrame, kept: Any) -> list[dict[str, Any]]:
    """Return what the map can be coloured by: categories as codes, numbers as values, in the frame's order.

    Parameters
    ----------
    frame
        n rows. Paths and texts of more than 200 kinds are left out.
    kept
        (n,) in [0, 1]: share of the true neighbors kept; NaN where it is not measured. The last column.
    """
    columns: list[dict[str, Any]] = []
    for name in frame.columns:
        values = frame[name]
        if name == "path" or values.isna().all():
            continue
        # The figures' rule, so that a label has one color in both.
        if not is_category(values, name) and pd.api.types.is_numeric_dtype(values):
            columns.append(_number(str(name), values.to_numpy(np.float32, na_value=np.nan)))
            continue
        texts = named(values)
        categories = natural(list(texts.dropna().unique()))
        if len(categories) <= _MOST_CATEGORIES:
            codes = pd.Categorical(texts, categories=categories).codes.astype("<i4").tobytes()
            columns.append({"name": str(name), "kind": "category", "codes": codes, "categories": categories})
    columns.append(_number("neighbors kept", kept))
    return columns


def _number(name: str, values: Any) -> dict[str, Any]:
    return {"name": name, "kind": "number", "values": np.ascontiguousarray(values, "<f4").tobytes()}
