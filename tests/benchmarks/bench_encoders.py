"""Encoders: what do five layers cost in one pass, and what does half precision gain and lose?

Both sides of each ratio are measured in one process, in turn; the median of the rounds is shown. Photos of 500 x 375
are drawn here. Weights are random, with BatchNorm calibrated where they are compared; where the folder that
VIZKIT_SHARED names is there, half precision is also compared on real MobileNetV2 weights and real photos.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vizkit as vk
from vizkit.graph import neighbor_graph

sys.path.insert(0, str(Path(__file__).parents[1]))
from drawn import photo

N = 64
ROUNDS = 3
K = 10
LAYERS = {
    "resnet18": ["layer1", "layer2", "layer3", "layer4", "input:fc"],
    "resnet50": ["layer1", "layer2", "layer3", "layer4", "input:fc"],
    "mobilenet_v2": ["features.3", "features.6", "features.13", "features.18", "input:classifier.1"],
    "vit_b_16": [f"encoder.layers.encoder_layer_{i}" for i in (1, 4, 7, 10)] + ["input:heads.head"],
}


def seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def layers_in_one_pass(name: str, images: vk.ImageSet, folder: Path) -> None:
    """Print seconds for the last layer alone, five layers in one pass, and five passes, store included."""
    layers = LAYERS[name]
    encoder = vk.Encoder(name, weights=None)
    rounds = []
    for turn in range(ROUNDS):

        def cache(kind: str, turn: int = turn) -> dict[str, Any]:
            return {"cache": folder / f"{name}-{turn}-{kind}", "progress": False}

        rounds.append(
            (
                seconds(lambda cache=cache: vk.embed(images, encoder.at(layers[-1]), **cache("one"))),
                seconds(lambda cache=cache: vk.embed(images, encoder, layers=layers, **cache("five"))),
                seconds(lambda cache=cache: [vk.embed(images, encoder.at(x), **cache("passes")) for x in layers]),
            )
        )
    one, five, passes = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratio = statistics.median(r[1] / r[0] for r in rounds)
    print(f"{name:<14}{len(images):>8}{one:>8.2f}{five:>8.2f}{passes:>8.2f}{ratio:>10.2f}{passes / one:>12.2f}")


def half_precision(name: str, images: vk.ImageSet, weights: Path | None, folder: Path) -> None:
    """Print the speed of float32 and half precision, and how far their vectors and neighbors agree."""
    exact = vk.Encoder(name, weights=weights)
    exact = exact if weights else exact.randomized(images)
    half = vk.Encoder(name, weights=weights, precision="half")
    half.module.load_state_dict(exact.module.state_dict())
    rounds, found = [], []
    for turn in range(3):
        pair = []
        for encoder in (exact, half):
            start = time.perf_counter()
            found.append(vk.embed(images, encoder, cache=folder / f"{name}-{len(images)}-{turn}", progress=False))
            pair.append(time.perf_counter() - start)
        rounds.append(pair)
    slow, fast = (len(images) / statistics.median(column) for column in zip(*rounds, strict=True))
    a, b = (vectors.vectors.astype(np.float64) for vectors in found[-2:])
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    first, second = (neighbor_graph(vectors, K).indices for vectors in found[-2:])
    kept = np.mean([len(set(p) & set(q)) / K for p, q in zip(first, second, strict=True)])
    label = f"{name}, {'real' if weights else 'random'} weights"
    print(
        f"{label:<30}{slow:>9.1f}{fast:>8.1f}{fast / slow:>10.2f}{cosines.mean():>10.5f}{cosines.min():>9.5f}"
        f"{kept:>8.3f}{(first[:, 0] == second[:, 0]).mean():>9.3f}"
    )


def main() -> None:
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, device {vk.Encoder('scenes').device}")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "photos").mkdir()
        for i in range(N):
            photo(i, (500, 375)).save(folder / "photos" / f"{i:03d}.jpg", quality=90)
        images = vk.ImageSet.from_folder(folder / "photos")
        print("\nSeconds, store included: the last layer alone, five layers in one pass, five passes")
        print(f"{'':<14}{'photos':>8}{'one':>8}{'five':>8}{'passes':>8}{'five/one':>10}{'passes/one':>12}")
        for name in LAYERS:
            layers_in_one_pass(name, images.subset(range(32)) if name == "vit_b_16" else images, folder)
        print(
            "\nHalf precision against float32: images a second, cosine of an image's two vectors, and the shares of its"
        )
        print(f"{K} nearest neighbors, and of its nearest one, that stay")
        print(
            f"{'':<30}{'float32':>9}{'half':>8}{'half/f32':>10}{'mean cos':>10}{'min cos':>9}{'kept':>8}{'nearest':>9}"
        )
        for name in ("resnet18", "resnet50", "mobilenet_v2"):
            half_precision(name, images, None, folder)
        shared = Path(os.environ.get("VIZKIT_SHARED", Path(__file__).resolve().parents[3] / "shared"))
        weights = shared / "torch/converted/mobilenet_v2_tf2-fe1e9c5f.pth"
        if weights.exists():
            photos = vk.ImageSet.from_folder(shared / "images/clothing10")
            half_precision("mobilenet_v2", photos.subset(range(0, len(photos), 2)), weights, folder)
        else:
            print(f"(no real weights and photos in {shared})")


if __name__ == "__main__":
    main()
