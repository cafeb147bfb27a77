"""Does the evidence for "alike" lie on the object? Each method on real photos and scenes, beside maps that do not look.

A query and its neighbor are of one class: the image of that class whose vector is nearest. Explained is the query's
cosine to it; measured is how much of the map's positive part lies in the query's object (energy), and whether its
highest cell does (pointing game). Photos are those of coco128_seg with one dominant object of a class that two photos
at least have: 33 photos, 9 classes; this needs the folder that VIZKIT_SHARED names. Scenes are held out, ten shapes.

Figures are means over classes, so that twelve photos of people count as much as two of pizza. Intervals are of 95% by
drawing classes anew, 2,000 times; with 9 classes they are wide, and too narrow if anything. "over random" is the
paired difference to the same method on the same network with random, calibrated weights, on the same neighbors. Nothing
says that a network should look at the labelled object alone: a table may stand for a pizza.
"""

import argparse
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from contenders import (
    NETWORKS,
    SHARED,
    center,
    class_cam,
    encoder_of,
    faster,
    mean_interval,
    methods,
    noise,
    side_by_side,
    words,
)
from PIL import Image, ImageDraw

import vizkit as vk
from vizkit.allocator import kept_pages
from vizkit.errors import MethodNotApplicableError
from vizkit.saliency.localization import energy, pointing
from vizkit.saliency.methods import attribute
from vizkit.saliency.targets import vector_target

COCO = SHARED / "images" / "coco128_seg"
SCENES_A_SHAPE = 5


@dataclass(frozen=True)
class Case:
    """Images with masks over what the network sees, and each one's neighbor of the same class."""

    name: str
    images: vk.ImageSet
    tensors: torch.Tensor  # (n, 3, h, w)
    masks: np.ndarray  # (n, h, w) bool
    kinds: np.ndarray  # (n,)
    neighbors: np.ndarray  # (n,) rows


def drawn_mask(encoder: vk.Encoder, mask: Image.Image) -> np.ndarray:
    """Send a mask, white on black, through the geometry of a preprocess; return (h, w) bool."""
    return encoder.seen(encoder.preprocess(mask.convert("RGB")))[..., 0] >= 128


def photos(encoder: vk.Encoder, *, quick: bool) -> Case:
    table = pd.read_csv(COCO / "objects.csv", dtype={"file": str})
    table = table[table["single_dominant"] == 1]
    table = table[table.groupby("class_name")["file"].transform("size") >= 2].sort_values(["class_name", "file"])
    if quick:
        table = table.groupby("class_name").head(2)
    masks = []
    for row in table.itertuples():
        line = (COCO / "labels" / row.file).with_suffix(".txt").read_text().splitlines()[row.line_in_label]
        corners = np.array(line.split()[1:], float).reshape(-1, 2) * (row.width, row.height)
        mask = Image.new("L", (row.width, row.height))
        ImageDraw.Draw(mask).polygon([tuple(corner) for corner in corners], fill=255)
        masks.append(drawn_mask(encoder, mask))
    everything = vk.ImageSet.from_folder(COCO / "images")
    images = everything.subset(list(table["file"]))
    return case("coco128_seg", encoder, images, np.stack(masks), table["class_name"].to_numpy())


def scenes(encoder: vk.Encoder, *, quick: bool) -> Case:
    held_out = vk.scenes("held-out")
    rows = held_out.frame.reset_index().groupby("shape").head(2 if quick else SCENES_A_SHAPE).index
    images = held_out.subset(list(rows))
    masks = [drawn_mask(encoder, Image.fromarray(images.mask(row))) for row in range(len(images))]
    return case("scenes", encoder, images, np.stack(masks), images.frame["shape"].to_numpy())


def case(name: str, encoder: vk.Encoder, images: vk.ImageSet, masks: np.ndarray, kinds: np.ndarray) -> Case:
    tensors = torch.stack([encoder.preprocess(image) for image in images])
    vectors = vectors_of(encoder, tensors)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = units @ units.T
    cosines[kinds[:, None] != kinds] = -np.inf
    np.fill_diagonal(cosines, -np.inf)
    return Case(name, images, tensors, masks, kinds, cosines.argmax(axis=1))


def vectors_of(encoder: vk.Encoder, tensors: torch.Tensor) -> np.ndarray:
    return np.concatenate([encoder.encode(batch) for batch in tensors.split(16)]).astype(np.float64)


def found(encoder: vk.Encoder, case: Case, method: Any, mean: np.ndarray | None) -> np.ndarray:
    """Return (n, 2): energy and pointing of every query's map."""
    vectors = vectors_of(encoder, case.tensors)
    values = []
    for row, neighbor in enumerate(case.neighbors):
        target = vector_target(encoder, vectors[neighbor], mean)
        x = case.tensors[row : row + 1]
        map_ = attribute(encoder, target, x, method).values
        values.append((energy(map_, case.masks[row]), pointing(map_, case.masks[row])))
    return np.array(values)


def over_classes(values: np.ndarray, kinds: np.ndarray) -> str:
    mean, low, high = mean_interval(pd.Series(values).groupby(kinds).mean().to_numpy())
    return f"{mean:.2f} ({low:.2f} to {high:.2f})"


def row(name: str, ours: np.ndarray, baselines: list[np.ndarray | None], kinds: np.ndarray) -> str:
    columns = [over_classes(ours, kinds)]
    columns += ["" if b is None else over_classes(ours - b, kinds) for b in baselines]
    return f"{name:38}" + "".join(f"{text:>24}" for text in columns)


def asked(encoder: vk.Encoder, random: vk.Encoder, *, quick: bool) -> list[tuple[str, Any, Any, bool]]:
    """Return (words, method, method for random weights, whether the cosine is centered)."""
    rows: list[tuple[str, Any, Any, bool]] = [(words(m), m, m, False) for m in methods(quick=quick)]
    at = 1 + [method for _, method, _, _ in rows].index("contribution")
    rows.insert(at, (f"{rows[at - 1][0]}, centered", "contribution", "contribution", True))
    return [*rows, ("ordinary class CAM", class_cam(encoder), class_cam(random), False)]


def table(encoder: vk.Encoder, case: Case, *, quick: bool) -> None:
    """Print a row of energy a method, as it comes, and the pointing game at the end."""
    random = faster(encoder.randomized(case.images))
    area = case.masks.mean(axis=(1, 2))
    mean = {e: vectors_of(e, case.tensors).mean(axis=0) for e in (encoder, random)}
    prior = found(encoder, case, center, None)
    head = "".join(f"{text:>24}" for text in ("over area share", "over center prior", "over random weights"))
    print(
        f"{encoder.name}, {case.name}: {len(area)} queries, {len(set(case.kinds))} classes; the object covers "
        f"{over_classes(area, case.kinds)} of what the network sees\n{'':38}{'energy':>24}{head}{'seconds':>9}"
    )
    pointing_rows = []
    for name, method, again, centered in asked(encoder, random, quick=quick):
        start = time.perf_counter()
        try:
            ours = found(encoder, case, method, mean[encoder] if centered else None)
            theirs = found(random, case, again, mean[random] if centered else None)
        except MethodNotApplicableError as error:
            print(f"{name:38}refused: {error}", flush=True)
            continue
        blind = method in (noise, center)
        rows = [row(name, ours[:, k], [area, prior[:, k], None if blind else theirs[:, k]], case.kinds) for k in (0, 1)]
        print(f"{rows[0]}{time.perf_counter() - start:9.1f}", flush=True)
        pointing_rows.append(rows[1])
    print(f"{'':38}{'pointing game':>24}{head}", *pointing_rows, sep="\n", flush=True)


def measure(name: str, *, quick: bool) -> None:
    if name != "scenes" and not COCO.is_dir():
        print(f"{name}: skipped, no {COCO}; name the folder with VIZKIT_SHARED.")
        return
    encoder = encoder_of(name)
    if encoder is not None:
        with kept_pages():
            table(encoder, (scenes if name == "scenes" else photos)(encoder, quick=quick), quick=quick)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two images a class, cheap methods: shows that it runs")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--child", choices=NETWORKS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        measure(arguments.child, quick=arguments.quick)
    else:
        side_by_side(__file__, arguments.networks, *(["--quick"] if arguments.quick else []))


if __name__ == "__main__":
    main()
