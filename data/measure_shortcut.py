"""Measure which of two networks looks at the background: the one whose training scenes tied its hue to the shape.

Three kinds of scenes tell: aligned ones, whose backgrounds go with their shapes as in the biased network's training;
decorrelated ones, as they are in the table; and conflicts, whose backgrounds go with another shape.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from measure_scenes import Inputs, chance, features, interval, neighbor_rows, purity
from tqdm.auto import tqdm

import vizkit as vk
from vizkit.saliency.localization import center_prior, energy
from vizkit.scene_network import SCENE_CLASSES
from vizkit.synthetic import Scenes

SHARE = 0.95  # of the aligned scenes, as in training
N_EVIDENCE = 60  # scenes, and pairs of scenes
CLASS_METHODS = ("gradcam", "occlusion", "integrated_gradients", "saliency")
PAIR_METHODS = ("contribution", "occlusion")  # Grad-CAM with the norm held is contribution here
HONEST, BIASED, RANDOM = "scenes", "scenes-biased", "random"

Row = dict[str, Any]


def shortcut(
    pairs: Mapping[int, Mapping[str, vk.Encoder]], inputs: Inputs, render: Callable[[pd.DataFrame], torch.Tensor]
) -> tuple[list[Row], list[Row]]:
    """Return what each network does on the scenes, and where its evidence lies, a row each.

    Parameters
    ----------
    pairs
        By training seed, the two networks by name.
    inputs
        Makes of uint8 pixels what a network reads.
    render
        Draws a table of factors: (n, 3, 64, 64) uint8.
    """
    held = vk.scenes("held-out")
    sets = scene_sets(held)
    pixels = {name: render(images.frame) for name, images in sets.items()}
    behavior, evidence = [], []
    for seed, networks in pairs.items():
        # One random network a seed: its own baseline, with the statistics of the scenes it is shown.
        three = {**networks, RANDOM: networks[HONEST].randomized(held, seed=seed)}
        found = {name: _looked(encoder, inputs, pixels) for name, encoder in three.items()}
        behavior += [{"seed": seed, **row} for row in _behavior(found, sets)]
        evidence += [{"seed": seed, **row} for row in _evidence(three, held.tied(share=SHARE))]
    return behavior, evidence


def scene_sets(held: Scenes) -> dict[str, Scenes]:
    """Return the held-out scenes as they are, and with backgrounds or shapes changed."""
    places = np.array([SCENE_CLASSES.index(shape) for shape in held.frame["shape"]])
    others = np.array(SCENE_CLASSES)[(places + np.random.default_rng(0).integers(1, 10, len(places))) % 10]
    return {
        "aligned": held.tied(share=SHARE),
        "decorrelated": held,
        "conflicts": held.tied(to=others),
        "another background hue": held.changed(background_hue=moved_hue(held.frame)),
        "another shape": held.changed(shape=others),
    }


def moved_hue(frame: pd.DataFrame) -> pd.Series:
    """Return background hues 0.3 turns from what they were, to the side where they stay 0.2 from the object's hue."""
    distance = (frame["hue"] - frame["background_hue"]) % 1  # 0.2 to 0.8
    return (frame["hue"] - 0.2 - (distance - 0.2 + 0.3) % 0.6) % 1


def _looked(encoder: vk.Encoder, inputs: Inputs, pixels: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Return the vectors (n, 128) and the classes named (n,) for every set of scenes."""
    module: Any = encoder.module
    weight, bias = (part.detach().numpy() for part in (module.fc.weight, module.fc.bias))
    vectors = {name: features(module, inputs, these) for name, these in pixels.items()}
    named = {name: np.array(SCENE_CLASSES)[(v @ weight.T + bias).argmax(axis=1)] for name, v in vectors.items()}
    return {"vectors": vectors, "named": named}


def _behavior(found: Mapping[str, dict[str, Any]], sets: Mapping[str, Scenes]) -> Iterator[Row]:
    shapes = {name: images.frame["shape"].to_numpy() for name, images in sets.items()}
    grounds = {name: images.ground.to_numpy() for name, images in sets.items()}
    plain = "decorrelated"

    def row(measure: str, values: Callable[[dict[str, Any]], np.ndarray], chance: float | None) -> Row:
        return {"measure": measure, "chance": chance, **{name: interval(values(f)) for name, f in found.items()}}

    for name in ("aligned", plain, "conflicts"):
        yield row(f"{name}: shape named", lambda f, name=name: f["named"][name] == shapes[name], 0.1)
    yield row("conflicts: background's shape named", lambda f: f["named"]["conflicts"] == grounds["conflicts"], 0.1)
    near = {id(f): neighbor_rows(f["vectors"][plain]) for f in found.values()}
    for what, labels in (("shape", shapes[plain]), ("background's shape", grounds[plain])):
        of = f"{plain}: 10 nearest with the same {what}"
        yield row(of, lambda f, labels=labels: purity(near[id(f)], labels), chance(labels))
    for name in ("another background hue", "another shape"):
        yield row(f"centered cosine to itself with {name}", lambda f, name=name: _cosines(f["vectors"], name), None)


def _cosines(vectors: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Return the cosine of each scene to the same scene changed, (n,), after taking off the mean vector."""
    before, after = (vectors[which] - vectors["decorrelated"].mean(axis=0) for which in ("decorrelated", name))
    return (before * after).sum(axis=1) / np.linalg.norm(before, axis=1) / np.linalg.norm(after, axis=1)


def _evidence(networks: Mapping[str, vk.Encoder], images: Scenes) -> Iterator[Row]:
    """Yield where in aligned scenes the evidence lies, for the class and for what makes two of a shape alike."""
    shapes = images.frame["shape"].to_numpy()
    first = list(range(N_EVIDENCE))
    second = partners(shapes, N_EVIDENCE)
    masks = {row: images.mask(row) for row in (*first, *second)}
    area = np.array([masks[row].mean() for row in first])
    center = np.array([energy(center_prior((8, 8)), masks[row]) for row in first])
    both = {"area": interval(area), "center": interval(center)}
    for method in tqdm(CLASS_METHODS, "evidence for the class"):
        inside = {
            name: [
                energy(
                    vk.explain(e, images[r], target=SCENE_CLASSES.index(shapes[r]), method=method).map,
                    masks[r],
                )
                for r in first
            ]
            for name, e in networks.items()
        }
        yield {"of": "class", "method": method, **_compared(inside), **both}
    for method in tqdm(PAIR_METHODS, "evidence for the similarity"):
        inside = {
            name: [_inside_pair(e, images, masks, (a, b), method) for a, b in zip(first, second, strict=True)]
            for name, e in networks.items()
        }
        yield {"of": "similarity", "method": method, **_compared(inside), **both}


def partners(shapes: np.ndarray, n: int) -> list[int]:
    """Return for each of the first n rows a later one of its shape, each once: no two pairs share a scene."""
    later = {shape: iter(np.flatnonzero(shapes[n:] == shape) + n) for shape in np.unique(shapes)}
    return [int(next(later[shape])) for shape in shapes[:n]]


def _inside_pair(
    encoder: vk.Encoder, images: Scenes, masks: Mapping[int, np.ndarray], rows: tuple[int, int], method: str
) -> float:
    a, b = rows
    why = vk.explain_pair(encoder, images[a], images[b], method)
    return (energy(why.map_a, masks[a]) + energy(why.map_b, masks[b])) / 2


def _compared(inside: Mapping[str, list[float]]) -> Row:
    values = {name: np.array(these) for name, these in inside.items()}
    difference = interval(values[HONEST] - values[BIASED])
    return {**{name: interval(these) for name, these in values.items()}, "difference": difference}
