"""Extraction against a bare forward on preloaded tensors: what do decoding, the store and the bookkeeping cost?

Everything is measured in one process, in turn, so that ratios hold while the machine's speed drifts; the median of
three rounds is shown. Photos of 500 x 375 are drawn here.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import vizkit as vk

sys.path.insert(0, str(Path(__file__).parents[1]))
from drawn import photo

N = 128
BATCH = 16
ROUNDS = 3
COLUMNS = ("bare forward", "decode alone", "vizkit", "of forward", "of serial", "cached")


def seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(name: str, images: vk.ImageSet, folder: Path) -> list[float]:
    """Return images a second: bare forward, decoding, vizkit, vizkit from its cache."""
    encoder = vk.Encoder(name, weights=None)
    tensors = [encoder.preprocess(image) for image in images]
    batches = [torch.stack(tensors[i : i + BATCH]) for i in range(0, N, BATCH)]
    encoder.encode(batches[0])
    rounds = []
    for turn in range(ROUNDS):
        cache = folder / f"{name}-{turn}"

        def run(cache: Path = cache) -> vk.Embeddings:
            return vk.embed(images, encoder, cache=cache, progress=False)

        forward = seconds(lambda: [encoder.encode(batch) for batch in batches])
        decode = seconds(lambda: [encoder.preprocess(image) for image in images])
        rounds.append((forward, decode, seconds(run), seconds(run)))
    return [N / statistics.median(column) for column in zip(*rounds, strict=True)]


def main() -> None:
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {N} photos, batches of {BATCH}")
    print(f"{'images a second':<20}" + "".join(f"{c:>14}" for c in COLUMNS))
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        photos.mkdir()
        for i in range(N):
            photo(i, (500, 375)).save(photos / f"{i:03d}.jpg", quality=90)
        images = vk.ImageSet.from_folder(photos)
        for name in ("resnet18", "mobilenet_v2", "scenes"):
            forward, decode, ours, cached = measure(name, images, Path(folder))
            serial = 1 / (1 / forward + 1 / decode)
            figures = (forward, decode, ours, ours / forward, ours / serial, cached)
            print(f"{name:<20}" + "".join(f"{figure:>14.2f}" for figure in figures))
    print(
        "serial = one after the other, 1 / (1 / forward + 1 / decode); cached = a second run of embed; eager PyTorch."
    )


if __name__ == "__main__":
    main()
