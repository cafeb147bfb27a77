"""Folders of drawn photos for the benchmarks, which cost a JPEG decoder what real photos cost it.

Smooth drawings compress to almost nothing and decode fast. So texture with the spectrum of natural images is laid over
them (amplitude falling as 1 / frequency), as much as brings a file to about a quarter of a byte a pixel; photos from
cameras and from the web have 0.1 to 0.5.
"""

import io
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from drawn import photo

_TEXTURE = 12.0  # standard deviation of the texture's brightness, of 255
_DRAWN = 12  # different large photos; the others are these, turned and shifted
_QUALITY = 90


def texture(seed: int, size: tuple[int, int]) -> np.ndarray:
    """Return (h, w) float32 noise with mean 0 and standard deviation 1, whose amplitude falls as 1 / frequency."""
    w, h = size
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(rng.standard_normal((h, w), np.float32))
    frequency = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None])
    frequency[0, 0] = np.inf
    values = np.fft.irfft2(spectrum / frequency, (h, w))
    return (values / values.std()).astype(np.float32)


def textured(seed: int, size: tuple[int, int]) -> Image.Image:
    """Draw a photo of (w, h) pixels with texture."""
    w, h = size
    small = photo(seed, (max(w // 4, 16), max(h // 4, 12)))  # smooth, so that enlarging it loses nothing
    pixels = np.asarray(small.resize(size, Image.Resampling.BICUBIC), np.float32)
    light = texture(seed, size)[..., None] * np.array([1.0, 0.9, 0.8], np.float32)
    return Image.fromarray((pixels + _TEXTURE * light).clip(0, 255).astype(np.uint8))


def write_photos(folder: Path, n: int, size: tuple[int, int]) -> None:
    """Write n JPEGs of (w, h) pixels into folder/a and folder/b: half each, so that loaders find two classes."""
    drawn: list[np.ndarray] = []
    large = size[0] * size[1] > 1_000_000
    for i in range(n):
        if large and i >= _DRAWN:
            turned = drawn[i % _DRAWN][:, :: -1 if i // _DRAWN % 2 else 1]
            pixels = np.roll(turned, (i * 97 % size[1], i * 131 % size[0]), (0, 1))
        else:
            pixels = np.asarray(textured(i, size))
            drawn += [pixels] if large else []
        place = folder / ("a" if i < n // 2 else "b")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{i:05d}.jpg", quality=_QUALITY)


def write_small(folder: Path, n: int, side: int, distinct: int = 64) -> None:
    """Write n small JPEGs, each with bytes of its own: `distinct` pictures, and a number after the end of the file.

    A decoder passes over what follows a JPEG's end; a cache by content sees another file.
    """
    contents = []
    for seed in range(distinct):
        file = io.BytesIO()
        textured(seed, (side, side)).save(file, "JPEG", quality=_QUALITY)
        contents.append(file.getvalue())
    for i in range(n):
        place = folder / f"{i // 1000:03d}"
        if i % 1000 == 0:
            place.mkdir(parents=True, exist_ok=True)
        (place / f"{i:06d}.jpg").write_bytes(contents[i % distinct] + f" {i}".encode())


def cost(paths: list[Path]) -> tuple[float, float]:
    """Return bytes a pixel and nanoseconds that Pillow takes to decode a pixel, over all of these files."""
    pixels = taken = size = 0.0
    for path in paths:
        content = path.read_bytes()
        start = time.perf_counter()
        with Image.open(io.BytesIO(content)) as image:
            image.load()
        taken += time.perf_counter() - start
        pixels += image.width * image.height
        size += len(content)
    return size / pixels, 1e9 * taken / pixels
