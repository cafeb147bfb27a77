"""Which method finds planted evidence, and which badge does it get? Every method, the bad ones too, on three networks.

One photo, made smaller, is put into two others (18 or 20% of the area, 50 pairs), and the method is asked why the two
are alike: `vk.trust` measures and judges, and this table is what it says. Energy is the share of the map's positive
part in what was planted, the map as it is. "+-" is half of the 95% interval over pairs; differences are paired:

- over area: energy above the planted part's share of the area, which a map of noise gets;
- over center: above a map that looks at the middle of any image;
- over random: above the same method on the same network with random, calibrated weights;
- deletion, insertion: area under the curve of the cosine, better than random order by so much;
- rank: Spearman's correlation with the maps of random weights.

Ordinary class CAM is Grad-CAM for the class that the network itself gives the image; it is asked about no pair and gets
no badge. MobileNetV2 and SqueezeNet need real weights and photos, in the folder that VIZKIT_SHARED names.
"""

import argparse
import os
import tempfile
import time
from typing import Any

import numpy as np
import torch
from contenders import NETWORKS, SHARED, class_cam, encoder_of, faster, methods, side_by_side, words

import vizkit as vk
from vizkit.allocator import kept_pages
from vizkit.errors import MethodNotApplicableError
from vizkit.saliency.badges import Trust
from vizkit.saliency.judging import interval
from vizkit.saliency.localization import center_prior, energy
from vizkit.saliency.planted import Planted, planted_pairs
from vizkit.saliency.targets import vector_target
from vizkit.saliency.trust import trust

PHOTOS = SHARED / "images" / "imagenet_sample"
LIFT = {"scenes": 1.5}  # planted energy as a multiple of the area share, lower end of the interval
PHOTO_LIFT, ABOVE_RANDOM = 2.3, 0.1
RED = {
    ("squeezenet1_0", "integrated_gradients"),
    *((name, blind) for name in NETWORKS for blind in ("noise", "center")),
}
OTHER_SEED = 11  # of random weights that are judged as a network of their own
HEAD = ("energy", "over area", "over center", "over random", "IoU", "deletion", "insertion", "rank")


def images_of(name: str, *, quick: bool) -> vk.ImageSet:
    if name == "scenes":
        return vk.scenes("held-out").subset(range(300))
    photos = vk.ImageSet.from_folder(PHOTOS)
    return photos.subset(range(0, len(photos), 5)) if quick else photos


def plus_minus(value: float, low: float, high: float) -> str:
    return f"{value:.2f} +-{(high - low) / 2:.2f}"


def figures(badge: Trust) -> list[str]:
    rows = badge.frame.drop_duplicates("measure").set_index("measure")
    own = {name: plus_minus(rows.value[name], rows.value_low[name], rows.value_high[name]) for name in rows.index}
    return [
        own["energy"],
        *(plus_minus(*badge.gain("energy", against)) for against in ("area share", "center prior", "random weights")),
        own["IoU"],
        *(plus_minus(*badge.gain(measure, "random order")) for measure in ("deletion", "insertion")),
        own["rank correlation"],
    ]


def line(name: str, columns: list[str], end: str) -> str:
    return f"{name:38}" + "".join(f"{text:>14}" for text in columns) + f"  {end}"


def badges(encoder: vk.Encoder, images: vk.ImageSet, *, quick: bool) -> dict[str, Trust]:
    """Print a row a method, as it comes; return the badges by the rows' names."""
    found: dict[str, Trust] = {}
    rows: list[tuple[str, Any, bool]] = [(words(method), method, False) for method in methods()]
    rows.append((f"{words('contribution')}, centered", "contribution", True))  # last: it is another case, made anew
    center = vk.embed(images, encoder, cache=os.environ["XDG_CACHE_HOME"], progress=False)
    for name, method, centered in rows:
        start = time.perf_counter()
        try:
            badge = trust(encoder, images, method, center=center if centered else None, quick=quick, progress=False)
        except MethodNotApplicableError as error:
            print(f"{name:38}refused: {error}", flush=True)
            continue
        found[name] = badge
        expected = (encoder.name, getattr(method, "__name__", method)) in RED
        said = f"   goal: red: {in_words(badge.verdict == 'red')}" if expected else ""
        print(line(name, figures(badge), f"{badge.verdict:6}{time.perf_counter() - start:7.0f}{said}"), flush=True)
    return found


def class_cam_row(encoder: vk.Encoder, images: vk.ImageSet, pairs: list[Planted]) -> None:
    """Print what Grad-CAM of the network's own class for each image finds, beside random weights (one network)."""
    energies = []
    for network in (encoder, faster(encoder.randomized(images))):
        cam = class_cam(network)
        target = vector_target(network, np.ones(network.dim), None)  # which it does not look at
        maps = [(cam(target.value, x[None]), mask) for p in pairs for x, mask in ((p.x_a, p.mask_a), (p.x_b, p.mask_b))]
        energies.append(np.reshape([energy(values, mask) for values, mask in maps], (-1, 2)).mean(axis=1))
    prior = center_prior(maps[0][0].shape)
    middle = np.reshape([[energy(prior, p.mask_a), energy(prior, p.mask_b)] for p in pairs], (-1, 2)).mean(axis=1)
    areas = np.array([p.area for p in pairs])
    own, random = energies
    columns = [plus_minus(*interval(values)) for values in (own, own - areas, own - middle, own - random)]
    print(line("ordinary class CAM", [*columns, *[""] * 4], "no badge"), flush=True)


def in_words(met: bool) -> str:
    return "met" if met else "MISSED"


def goals(encoder: vk.Encoder, images: vk.ImageSet, *, quick: bool) -> None:
    """Print what the badge picks, and whether it reaches what it should; then the same on random weights."""
    best = trust(encoder, images, quick=quick, progress=False)
    rows = best.frame.drop_duplicates("measure").set_index("measure")
    lift = rows.value_low["energy"] / rows.baseline["energy"]
    gain, low, high = best.gain("energy", "random weights")
    deletion, insertion = (best.gain(measure, "random order") for measure in ("deletion", "insertion"))
    wanted = LIFT.get(encoder.name, PHOTO_LIFT)
    print(
        f"the badge picks {words(best.method)}, {best.badge}\n"
        f"  goal: green: {in_words(best.verdict == 'green')}\n"
        f"  energy, lower end over area share {lift:.2f}   goal: at least {wanted}: {in_words(lift >= wanted)}\n"
        f"  above random weights {gain:.2f} ({low:.2f} to {high:.2f})   goal: at least {ABOVE_RANDOM}: "
        f"{in_words(gain >= ABOVE_RANDOM)}; its lower end too: {in_words(low >= ABOVE_RANDOM)}\n"
        f"  deletion and insertion better than random order: {deletion[0]:.3f} ({deletion[1]:.3f} to {deletion[2]:.3f})"
        f" and {insertion[0]:.3f} ({insertion[1]:.3f} to {insertion[2]:.3f})   goal: both: "
        f"{in_words(min(deletion[0], insertion[0]) > 0)}"
    )
    random = faster(encoder.randomized(images, seed=OTHER_SEED))
    judged = trust(random, images, best.method, quick=True, progress=False)
    print(
        f"  it on random weights, 12 pairs: {judged.badge}   goal: red: {in_words(judged.verdict == 'red')}", flush=True
    )


def measure(name: str, *, quick: bool) -> None:
    if name != "scenes" and not PHOTOS.is_dir():
        print(f"{name}: skipped, no {PHOTOS}; name the folder with VIZKIT_SHARED.")
        return
    encoder = encoder_of(name)
    if encoder is None:
        return
    torch.manual_seed(0)
    images = images_of(name, quick=quick)
    start = time.perf_counter()
    with kept_pages():
        pairs = planted_pairs(encoder, images, 12 if quick else 50)
        area = np.mean([pair.area for pair in pairs])
        print(f"{name}, {len(pairs)} planted pairs on {len(images)} images, area share {area:.3f}")
        print(line("", list(HEAD), f"{'badge':6}seconds"))
        badges(encoder, images, quick=quick)
        class_cam_row(encoder, images, pairs)
        goals(encoder, images, quick=quick)
    print(f"  {time.perf_counter() - start:.0f} seconds in all", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="12 pairs: shows that it runs")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--cache", help="folder that keeps what is measured, so that a run can go on where it was")
    parser.add_argument("--child", choices=NETWORKS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        measure(arguments.child, quick=arguments.quick)
        return
    with tempfile.TemporaryDirectory() as place:
        os.environ["XDG_CACHE_HOME"] = arguments.cache or place  # where `trust` keeps its records
        side_by_side(__file__, arguments.networks, *(["--quick"] if arguments.quick else []))


if __name__ == "__main__":
    main()
