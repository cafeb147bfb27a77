"""Measure the embedded default: how well the network knows the shapes, and how little anything else gives them away.

Every function takes pixels (n, 3, 64, 64) uint8 or vectors (n, d), and returns plain rows for the tables in README.md.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from torch import nn

from vizkit.scene_drawing import coverage
from vizkit.scene_network import scene_network

K = 10
HUE_BINS = 8
N_FLOORS = 1_000
BATCH = 250

Inputs = Callable[[torch.Tensor], torch.Tensor]  # from uint8 pixels to what a network reads


def interval(values: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Return the mean and the 95% bootstrap interval over scenes (percentiles of 1,000 resamples)."""
    values = np.asarray(values, np.float64)
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(1_000, len(values)))].mean(axis=1)
    return float(values.mean()), *(float(edge) for edge in np.percentile(means, [2.5, 97.5]))


def neighbor_rows(vectors: np.ndarray, metric: str = "cosine") -> np.ndarray:
    """Return the rows of the K nearest others of each vector, (n, K)."""
    vectors = np.asarray(vectors, np.float64)
    if metric == "cosine":
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        near = unit @ unit.T
    else:
        squares = (vectors**2).sum(axis=1)
        near = 2 * vectors @ vectors.T - squares[:, None] - squares[None]
    np.fill_diagonal(near, -np.inf)
    return np.argpartition(-near, K, axis=1)[:, :K]


def purity(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the share of each scene's neighbors that have its label, (n,)."""
    return (labels[rows] == labels[:, None]).mean(axis=1)


def chance(labels: np.ndarray) -> float:
    """Return the share of pairs of different scenes that have one label: what purity is for any shuffled labels."""
    counts = np.unique(labels, return_counts=True)[1]
    return float((counts * (counts - 1)).sum() / (len(labels) * (len(labels) - 1)))


def map_rows(vectors: np.ndarray) -> np.ndarray:
    """Return the rows of the K nearest on a UMAP of the vectors (cosine, 15 neighbors, seed 0)."""
    import umap

    xy = umap.UMAP(n_neighbors=15, metric="cosine", random_state=0, n_jobs=1).fit_transform(vectors)
    return neighbor_rows(xy, "euclidean")


def features(module: nn.Module, inputs: Inputs, pixels: torch.Tensor) -> np.ndarray:
    """Return what the last layer reads, (n, 128) float32."""
    seen: list[torch.Tensor] = []
    hook = module.fc.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.inference_mode():
        for batch in pixels.split(BATCH):
            module(inputs(batch))
    hook.remove()
    return torch.cat(seen).numpy()


def random_network(seed: int, inputs: Inputs, pixels: torch.Tensor) -> nn.Module:
    """Return the architecture with random weights, its BatchNorm statistics taken from the pixels in one pass."""
    torch.manual_seed(seed)
    module = scene_network()
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the plain mean over all batches
    with torch.no_grad():
        for batch in pixels.split(BATCH):
            module(inputs(batch))
    return module.eval()


def knowledge(
    networks: dict[str, nn.Module], inputs: Inputs, pixels: torch.Tensor, table: pd.DataFrame
) -> list[dict[str, Any]]:
    """Return neighbor and map purities of the networks, of a random one and of raw pixels, a row each."""
    modules = {**networks, "random weights, calibrated": random_network(0, inputs, pixels)}
    vectors = {name: features(module, inputs, pixels) for name, module in modules.items()}
    vectors["raw pixels, 32 x 32"] = nn.functional.avg_pool2d(pixels.float(), 2).flatten(1).numpy()
    shape = table["shape"].to_numpy()
    hue = np.floor(table["background_hue"].to_numpy() * HUE_BINS).astype(int) % HUE_BINS
    found = []
    for name, these in vectors.items():
        rows = neighbor_rows(these)
        found.append(_purity("kNN@10 purity of shape", name, rows, shape))
        found.append(_purity(f"kNN@10 purity of background hue, {HUE_BINS} bins", name, rows, hue))
        found.append(_purity("UMAP, 10 nearest on the map, purity of shape", name, map_rows(these), shape))
    return sorted(found, key=lambda row: row["measure"])


def _purity(measure: str, name: str, rows: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    value, low, high = interval(purity(rows, labels))
    return {"measure": measure, "of": name, "value": value, "low": low, "high": high, "chance": chance(labels)}


def saliency_of_pixels(pixels: np.ndarray) -> Iterable[tuple[str, np.ndarray]]:
    """Yield maps (n, 64, 64) that know no network: (n, 64, 64, 3) uint8 in, bright where something stands out."""
    colors = pixels.astype(np.float64) / 255
    high, low = colors.max(axis=-1), colors.min(axis=-1)
    yield "saturation (HSV)", (high - low) / np.maximum(high, 1e-9)
    yield "chroma (max - min)", high - low
    gray = colors @ [0.299, 0.587, 0.114]
    yield "brightness", gray
    edges = np.hypot(ndimage.sobel(gray, axis=1), ndimage.sobel(gray, axis=2))
    yield "edges", edges
    yield "edges, blurred (3 pixels)", ndimage.gaussian_filter(edges, (0, 3, 3))
    steps = (ndimage.sobel(colors, axis=axis) for axis in (1, 2))
    color_edges = np.sqrt(sum((step**2).sum(axis=-1) for step in steps))
    yield "color edges", color_edges
    yield "color edges, blurred (3 pixels)", ndimage.gaussian_filter(color_edges, (0, 3, 3))
    mean = colors.mean(axis=(1, 2), keepdims=True)
    distance = np.linalg.norm(colors - mean, axis=-1)
    yield "distance from the mean color", distance
    yield "distance from the mean color, blurred (3 pixels)", ndimage.gaussian_filter(distance, (0, 3, 3))
    place = np.indices((64, 64)) - 31.5
    yield "centre", np.broadcast_to(-np.hypot(*place), gray.shape)


def saliency_of_random(
    inputs: Inputs, pixels: torch.Tensor, calibration: torch.Tensor
) -> Iterable[tuple[str, np.ndarray]]:
    """Yield gradient and integrated-gradient maps of a calibrated random network, for the class it names."""
    from captum.attr import IntegratedGradients, Saliency

    module = random_network(0, inputs, calibration)
    for name, method in (("gradient", Saliency(module)), ("integrated gradients", IntegratedGradients(module))):
        maps = []
        for batch in pixels.split(50):
            x = inputs(batch)
            target = module(x).argmax(dim=1)
            options = {"n_steps": 16, "internal_batch_size": 100} if name != "gradient" else {}
            maps.append(method.attribute(x.requires_grad_(), target=target, **options).abs().sum(dim=1).detach())
        found = torch.cat(maps).numpy()
        yield f"random network, {name}", found
        yield f"random network, {name}, blurred (3 pixels)", ndimage.gaussian_filter(found, (0, 3, 3))


def hits(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return whether each map's largest value lies in the mask, (n,); ties are broken at random."""
    noise = np.random.default_rng(0).random(maps[0].shape)
    found = []
    for one, mask in zip(maps, masks, strict=True):
        best = np.flatnonzero(one == one.max())
        found.append(mask.flat[best[np.argmax(noise.flat[best])]])
    return np.array(found, np.float64)


def floors(
    inputs: Inputs, pixels: torch.Tensor, table: pd.DataFrame
) -> tuple[list[dict[str, Any]], tuple[float, float, float], int]:
    """Return how often each map points into the object, the share of the image it covers, and over how many scenes."""
    pixels, table = pixels[:N_FLOORS], table.head(N_FLOORS)
    masks = np.stack([coverage(factors) >= 0.5 for factors in table.to_dict("records")])
    plain = pixels.permute(0, 2, 3, 1).numpy()
    rows = []
    for name, maps in (*saliency_of_pixels(plain), *saliency_of_random(inputs, pixels, pixels)):
        value, low, high = interval(hits(maps, masks))
        rows.append({"map": name, "value": value, "low": low, "high": high})
    return rows, interval(masks.mean(axis=(1, 2))), len(masks)
