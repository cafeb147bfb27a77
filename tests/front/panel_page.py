"""Write a page with the explorer's panel alone, opened from disk: pictures and answers are made up."""

import json
from pathlib import Path

import numpy as np
from front.page import SHAPES, _encode, picture, webp

from vizkit.widgets.bundle import bundle, styles

HERE = Path(__file__).parent


def panel_data(n: int = 24, *, k: int = 12, size: int = 64, seed: int = 0) -> dict:
    """Make pictures, and neighbors with falling similarities; the first image is a query that is unusual."""
    rng = np.random.default_rng(seed)
    indices = np.array([rng.permutation(np.delete(np.arange(n), row))[:k] for row in range(n)], np.int32)
    return {
        "ids": [f"{SHAPES[row % 8]}/{row:05d}.png" for row in range(n)],
        "labels": [SHAPES[row % 8] for row in range(n)],
        "note": "More unusual than 97% of the images.",
        "k": k,
        "indices": indices,
        "similarities": -np.sort(-rng.uniform(0.55, 0.93, (n, k)), axis=1).astype(np.float32),
        "pictures": [webp(picture(row, size)) for row in range(n)],
    }


def write_panel_page(folder: Path, data: dict) -> str:
    """Write the page, and return its file:// address."""
    parts = {
        "/*STYLES*/": styles.__wrapped__(),
        "/*DATA*/": f"globalThis.fixture = {json.dumps(_encode(data))};".replace("<", "\\u003c"),
        "/*ANSWERS*/": (HERE / "fake_answers.js").read_text(encoding="utf-8"),
        "/*BUNDLE*/": (bundle("panel.js") + "\n" + _theme()).replace("</script", "<\\/script"),
    }
    html = (HERE / "panel.html").read_text(encoding="utf-8")
    for place, text in parts.items():
        html = html.replace(place, text)
    (folder / "panel.html").write_text(html, encoding="utf-8")
    return (folder / "panel.html").as_uri()


def _theme() -> str:
    """Return the one module that the panel does not need itself, but whose marks its style sheet reads."""
    return bundle("theme.js").replace("export function", "function")
