"""Small pictures for the map: one WebP file an image, all in one buffer."""

import io
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ImageReadError

if TYPE_CHECKING:
    from PIL import Image

    from ..embeddings import Embeddings

# Pixels of the longer side, by how many there are: about 1 kB a point at most, decoded in the browser when hovered.
_SIDES = ((10_000, 64), (50_000, 48))
_SMALLEST = 32


def thumbnails(embeddings: "Embeddings") -> tuple[bytes, bytes]:
    """Return every image as a small WebP file.

    Returns
    -------
    tuple of bytes
        The files one after the other, and n + 1 offsets (uint32, little endian) into them. An image that cannot be read
        has an empty file. Both are empty where the embeddings have no images.
    """
    images = embeddings.images
    if images is None or len(embeddings) == 0:
        return b"", b""
    from tqdm.auto import tqdm

    side = next((s for most, s in _SIDES if len(embeddings) <= most), _SMALLEST)
    known = set(images.ids)

    def small(id: str) -> bytes:
        if id not in known:
            return b""
        try:
            return webp(images[images.row(id)], side, quality=75)
        except ImageReadError:
            return b""  # the map shows its point without a picture

    # vizkit reads files in any thread; a user's dataset may hold one open file that all its items come from.
    with ThreadPoolExecutor(2) if images.whole_files else nullcontext() as pool:
        made = (pool.map if pool else map)(small, embeddings.ids)
        files = list(tqdm(made, total=len(embeddings), desc="thumbnails", delay=2, leave=False))
    offsets = np.concatenate([[0], np.cumsum([len(f) for f in files])]).astype("<u4")
    return b"".join(files), offsets.tobytes()


def webp(image: "Image.Image", side: int, *, quality: int = 85) -> bytes:
    """Return an image as a WebP file whose longer side has at most `side` pixels."""
    small = image.copy()
    small.thumbnail((side, side), reducing_gap=3.0)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=quality, method=2)
    return buffer.getvalue()
