"""What all explorers are given to show: pictures that carry their row, vectors, a layout and thumbnails, made once."""

import io
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from tests.front.page import CHIP_COLORS, SHAPES, picture

if TYPE_CHECKING:
    from vizkit import Embeddings, ImageSet, Layout

_SIDE = 96  # pixels of the original pictures, the thumbnails are made from them
_DRAWN = 200  # so many are drawn, the others are copies with chips of their own
_CHIPS = 8  # in a line; two lines hold 16 digits in base 4


class Points:
    """So many points with a layout, labels, pictures and their thumbnails; the same for every tool.

    Parameters
    ----------
    n
        How many.
    folder
        Where thumbnails and layout are kept from one run to the next.
    """

    def __init__(self, n: int, folder: Path) -> None:
        self.n, self._file = n, folder / f"points-{n}.npz"
        rng = np.random.default_rng(0)
        self.codes = np.sort(rng.integers(0, len(SHAPES), n)).astype(np.int32)
        centers = 6 * np.stack([np.cos(np.arange(8) * 2.4), np.sin(np.arange(8) * 1.7)], 1)
        self.xy = (centers[self.codes] + rng.normal(0, 0.9, (n, 2)) * (1 + self.codes[:, None] % 3)).astype(np.float32)
        noise = rng.normal(0, 0.05, (n, 14))
        self.vectors = np.concatenate([self.xy, noise], axis=1).astype(np.float32)
        self.labels = [SHAPES[code] for code in self.codes]
        self.ids = [f"{label}/{row:06d}.png" for row, label in enumerate(self.labels)]

    @property
    def frame(self) -> pd.DataFrame:
        """One row an image: index id, column label."""
        return pd.DataFrame({"label": self.labels}, index=pd.Index(self.ids, name="id"))

    @property
    def images(self) -> "ImageSet":
        """The pictures, drawn when they are asked for: no folder of files is needed."""
        import vizkit as vk

        return vk.ImageSet(self.ids, self.frame, drawn)

    def opened(self) -> "tuple[Embeddings, Layout]":
        """Return embeddings with pictures, and the layout; thumbnails and the neighbor graph are made."""
        import vizkit as vk
        from vizkit.projection import as_layout
        from vizkit.widgets.thumbnails import thumbnails_of

        embeddings = vk.Embeddings(self.vectors, self.frame, images=self.images)
        thumbnails_of(embeddings).finish()
        return embeddings, as_layout(embeddings, self.xy, method="pca")

    @cached_property
    def thumbnails(self) -> list[bytes]:
        """The WebP files that vizkit makes and every other tool is given."""
        if not self._file.exists():
            self.prepare()
        with np.load(self._file) as kept:
            joined, offsets = kept["joined"].tobytes(), kept["offsets"]
        return [joined[a:b] for a, b in pairwise(offsets)]

    def thumbnail_size(self) -> tuple[int, float]:
        """Return the longer side, in pixels, of the smallest of 500 thumbnails, and the mean number of bytes."""
        some = [Image.open(io.BytesIO(file)) for file in self.thumbnails[:: max(1, self.n // 500)]]
        return min(max(one.size) for one in some), sum(map(len, self.thumbnails)) / self.n

    @property
    def addresses(self) -> list[str]:
        """The thumbnails as data URIs."""
        import base64

        return ["data:image/webp;base64," + base64.b64encode(file).decode() for file in self.thumbnails]

    def prepare(self) -> None:
        """Make the thumbnails if they are not there, and see that rows can be read from them."""
        from vizkit.widgets.thumbnails import Thumbnails

        if self._file.exists():
            return
        made = Thumbnails(self.images, self.ids)
        made.finish()
        joined, offsets = made.all()
        offsets = np.frombuffer(offsets, "<u4")
        for row in range(0, self.n, max(1, self.n // 500)):
            small = Image.open(io.BytesIO(joined[offsets[row] : offsets[row + 1]]))
            if (found := read_row(small)) != row:
                raise RuntimeError(f"The thumbnail of row {row} reads as {found}: its chips are too small.")
        part = self._file.with_suffix(".part.npz")
        np.savez(part, joined=np.frombuffer(joined, np.uint8), offsets=offsets)
        part.replace(self._file)


_bases: dict[int, Image.Image] = {}


def drawn(row: int) -> Image.Image:
    """Return the picture of a row, with the row's number as two lines of colored chips."""
    if row % _DRAWN not in _bases:
        _bases[row % _DRAWN] = picture(row % _DRAWN, _SIDE)
    image = _bases[row % _DRAWN].copy()
    draw, chip = ImageDraw.Draw(image), _SIDE // _CHIPS
    for digit in range(2 * _CHIPS):
        line, place = divmod(digit, _CHIPS)
        left, top = place * chip, line * chip
        draw.rectangle([left, top, left + chip - 1, top + chip - 1], fill=CHIP_COLORS[row // 4**digit % 4])
    return image


def read_row(image: Image.Image) -> int:
    """Read back the row that `drawn` wrote into the chips."""
    pixels, chip = np.asarray(image.convert("RGB"), dtype=int), image.width / _CHIPS
    row = 0
    for digit in range(2 * _CHIPS):
        line, place = divmod(digit, _CHIPS)
        color = pixels[int((line + 0.5) * chip), int((place + 0.5) * chip)]
        row += 4**digit * int(np.argmin([np.abs(color - known).sum() for known in CHIP_COLORS]))
    return row
