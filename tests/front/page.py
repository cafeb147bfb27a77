"""Write a page that opens the explorer from disk with made-up data: no kernel, no server."""

import base64
import io
import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vizkit.widgets.bundle import bundle, styles

HERE = Path(__file__).parent
SHAPES = ("disc", "square", "triangle", "ring", "cross", "bar", "diamond", "star")
# A chip in each picture says its row in base 4, so that a test can read from the screen which picture it sees.
CHIP_COLORS = ((230, 30, 30), (30, 200, 30), (40, 60, 240), (240, 220, 40))


def picture(row: int, size: int) -> Image.Image:
    """Draw the picture of a row: a shape on a soft ground, with the row's number as colored chips along the top."""
    rng = np.random.default_rng(row)
    ground = Image.new("RGB", (size * 4, size * 4), tuple(int(v) for v in rng.integers(120, 226, 3)))
    draw = ImageDraw.Draw(ground)
    middle, radius = size * 2 + rng.integers(-size // 2, size // 2, 2), size * rng.uniform(0.8, 1.3)
    sides = (40, 4, 3, 40, 8, 2, 4, 5)[row % 8]
    turns = rng.uniform(0, 2 * np.pi) + np.linspace(0, 2 * np.pi, sides, endpoint=False)
    corners = [tuple(middle + radius * np.array([np.cos(t), np.sin(t)])) for t in turns]
    ink = tuple(int(v) for v in rng.integers(20, 140, 3))
    draw.polygon(corners, fill=ink) if sides > 2 else draw.line(corners, fill=ink, width=size // 2)
    small = ground.resize((size, size), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(small)
    for place in range(8):
        left = place * size // 8
        draw.rectangle([left, 0, left + size // 8 - 1, size // 8 - 1], fill=CHIP_COLORS[row // 4**place % 4])
    return small


def read_row(image: Image.Image) -> int:
    """Read back the row that `picture` wrote into the chips."""
    pixels, size = np.asarray(image.convert("RGB"), dtype=int), image.width
    row = 0
    for place in range(8):
        chip = pixels[size // 16, int((place + 0.5) * size / 8)]
        row += 4**place * int(np.argmin([np.abs(chip - color).sum() for color in CHIP_COLORS]))
    return row


def webp(image: Image.Image) -> bytes:
    """Encode a picture as the explorer's thumbnails are encoded."""
    file = io.BytesIO()
    image.save(file, "WEBP", quality=80)
    return file.getvalue()


def fixture(n: int, *, k: int = 12, thumbnail: int = 48, distinct: int | None = None, seed: int = 0) -> dict:
    """Make clusters on a map with labels, numbers, thumbnails and the true nearest neighbors on the map.

    With `distinct`, only so many pictures are drawn and used again and again.
    """
    rng = np.random.default_rng(seed)
    codes = np.sort(rng.integers(0, len(SHAPES), n)).astype(np.int32)
    centers = 6 * np.stack([np.cos(np.arange(8) * 2.4), np.sin(np.arange(8) * 1.7)], 1)
    xy = (centers[codes] + rng.normal(0, 0.9, (n, 2)) * (1 + codes[:, None] % 3)).astype(np.float32)
    graph, similarities = _neighbors(xy, min(k, n - 1))
    files = [webp(picture(row, thumbnail)) for row in range(min(n, distinct or n))]
    files = [files[row % len(files)] for row in range(n)]
    labels = [SHAPES[code] for code in codes]
    kept = rng.beta(5, 2, n).astype(np.float32)
    angle = rng.uniform(-180, 180, n).astype(np.float32)
    angle[::17] = np.nan
    return {
        "ids": [f"{label}/{row:05d}.png" for row, label in enumerate(labels)],
        "name": "UMAP",
        "xy": xy,
        "kept": kept,
        "columns": [
            {"name": "label", "kind": "category", "codes": codes, "categories": list(SHAPES)},
            {"name": "rotation", "kind": "number", "values": angle},
        ],
        "thumbnails": b"".join(files),
        "offsets": np.cumsum([0, *map(len, files)]).astype(np.uint32),
        "graph": graph,
        "similarities": similarities,
        "randoms": _random_similarities(xy),
        "k": min(k, n - 1),
        "title": f"{n:,} images",
        "note": f"UMAP, seed 0: 71% of the {k} true neighbors kept on this map",
        "pictures": None,
        "maps": [],
        "graphs": [],
    }


def second_map(data: dict, *, seed: int = 1, same_vectors: bool = False) -> dict:
    """Return the data with one more map, "layer3": points elsewhere; with neighbors of its own, or not."""
    rng = np.random.default_rng(seed)
    xy = (data["xy"][:, ::-1] * [1, -0.5] + rng.normal(0, 0.6, data["xy"].shape)).astype(np.float32)
    more = {
        "name": "layer3",
        "title": "",
        "note": "layer3, PCA",
        "graph": 0,
        "xy": xy,
        "kept": data["kept"][::-1].copy(),
    }
    if same_vectors:
        return dict(data, maps=[more])
    graph, similarities = _neighbors(xy, data["k"])
    space = {"indices": graph, "similarities": similarities, "randoms": _random_similarities(xy)}
    return dict(data, maps=[more | {"graph": 1}], graphs=[space])


def _random_similarities(xy: np.ndarray) -> np.ndarray:
    """Return the quantiles, 0 to 1 in steps of 0.001, of the similarity of random pairs."""
    a, b = np.random.default_rng(5).integers(0, len(xy), (2, 5000))
    return np.quantile(np.exp(-np.hypot(*(xy[a] - xy[b]).T)), np.linspace(0, 1, 1001)).astype(np.float32)


def _neighbors(xy: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest rows of each row on the map, itself left out, and a similarity falling with distance."""
    from scipy.spatial import cKDTree

    distance, rows = cKDTree(xy).query(xy, k + 1)
    return rows[:, 1:].astype(np.int32), np.exp(-distance[:, 1:]).astype(np.float32)


def _encode(value: object) -> object:
    if isinstance(value, np.ndarray):
        value = value.tobytes()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {key: _encode(part) for key, part in value.items()}
    return [_encode(part) for part in value] if isinstance(value, list) else value


def write_page(folder: Path, data: dict, *, head: str = "") -> str:
    """Write the harness, its data and its host into a folder, and return the page's file:// address."""
    html = (HERE / "harness.html").read_text(encoding="utf-8")
    html = html.replace("/*STYLES*/", styles()).replace(
        "/*BUNDLE*/", bundle("core.js").replace("</script", "<\\/script")
    )
    (folder / "index.html").write_text(html.replace("</head>", f"{head}</head>"), encoding="utf-8")
    (folder / "data.js").write_text(f"globalThis.fixture = {json.dumps(_encode(data))};", encoding="utf-8")
    for file in HERE.glob("fake_*.js"):
        shutil.copy(file, folder / file.name)
    return (folder / "index.html").as_uri()
