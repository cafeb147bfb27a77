"""What evidence costs, in forward passes of the same eager module: python tests/benchmarks/bench_evidence_speed.py

One query and 8 neighbors, evidence on both images of every pair, drawn photos of 500 x 375 on random weights (time does
not depend on them). Everything runs in one process, in turn, after one warming round; ratios are of medians over the
rounds, and the range is of the ratios round by round. vizkit starts from the images: preprocess and the pictures for
the figures are in its time, and not in that of the bare forward. Captum gets the preprocessed images.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from photos import textured
from torch.nn.functional import normalize

import vizkit as vk
from vizkit.saliency.methods import MultiscaleOcclusion, Occlusion
from vizkit.saliency.questions import explain_many
from vizkit.saliency.spatial import see

NEIGHBORS = 8
NETWORKS = {"mobilenet_v2": "features", "resnet18": "layer4"}
GOALS = {  # name: (of, limit, whether the ratio is to be at most or at least that)
    "contribution, from images": ("bare forward of the 9", 1.3, "at most"),
    "contribution, from cached maps": ("bare forward of the 9", 0.2, "at most"),
    "Captum's LayerGradCam, pair by pair": ("contribution, from images", 1.6, "at least"),
    "Captum's LayerGradCam, 8 in a batch": ("contribution, from images", None, ""),
    "occlusion of a pair": ("its bare forwards", 1.2, "at most"),
    "occlusion of a pair, window 4": ("its bare forwards", 1.2, "at most"),
    "occlusion at two scales of a pair": ("its bare forwards", 1.2, "at most"),
    "occlusion of 3 pairs in one call": ("3 calls", 1.0, "at most"),
}


def captum_loop(encoder: vk.Encoder, layer: torch.nn.Module, x: torch.Tensor, *, batched: bool) -> None:
    """Explain all pairs on both sides with the norm held, as a careful user of Captum would."""
    from captum.attr import LayerGradCam

    def held(batch: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        z = encoder.vectors(batch)
        return (z * targets).sum(1) / z.norm(dim=1).detach()

    with torch.no_grad():
        units = normalize(encoder.vectors(x))
    cam = LayerGradCam(held, layer)
    query, others = x[:1].expand(NEIGHBORS, -1, -1, -1), x[1:]
    to_query, to_others = units[:1].expand(NEIGHBORS, -1), units[1:]
    step = NEIGHBORS if batched else 1
    for start in range(0, NEIGHBORS, step):
        part = slice(start, start + step)
        cam.attribute(query[part].clone(), additional_forward_args=(to_others[part],))
        cam.attribute(others[part].clone(), additional_forward_args=(to_query[part],))


def batches_of(module: torch.nn.Module, run: Callable[[], object]) -> list[int]:
    """Return how many images each forward pass of a run takes."""
    sizes: list[int] = []
    hook = module.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    try:
        run()
    finally:
        hook.remove()
    return sizes


def bare(module: torch.nn.Module, x: torch.Tensor, sizes: list[int]) -> None:
    with torch.no_grad():
        for n in sizes:
            module(x[:1].expand(n, -1, -1, -1).contiguous() if n > len(x) else x[:n])


def timed(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each run in each round, in turn, after one round that warms up."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(-1, rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn >= 0:
                found[name].append(time.perf_counter() - start)
    return found


def report(seconds: dict[str, list[float]], name: str, of: str, reference: list[float]) -> None:
    _, limit, sense = GOALS[name]
    ratio = statistics.median(seconds[name]) / statistics.median(reference)
    each = [a / b for a, b in zip(seconds[name], reference, strict=True)]
    words = ""
    if limit is not None:
        met = ratio <= limit if sense == "at most" else ratio >= limit
        words = f"   goal {sense} {limit:.1f}: {'met' if met else 'MISSED'}"
    print(
        f"  {name:38}{statistics.median(seconds[name]):8.3f} s = {ratio:6.2f} x {of}"
        f" ({min(each):.2f} to {max(each):.2f}){words}"
    )


def table(name: str, rounds: int) -> None:
    """Print what evidence costs on one network."""
    encoder = vk.Encoder(name, weights=None)
    module, layer = encoder.module.eval(), encoder.module.get_submodule(NETWORKS[name])
    images = [textured(seed, (500, 375)) for seed in range(NEIGHBORS + 1)]
    x = torch.stack([encoder.preprocess(image) for image in images])
    seen = see(encoder, images)
    hiding = {
        "occlusion of a pair": "occlusion",
        "occlusion of a pair, window 4": Occlusion(window=4),
        "occlusion at two scales of a pair": MultiscaleOcclusion(),
    }
    runs: dict[str, Callable[[], object]] = {
        "bare forward of the 9": lambda: bare(module, x, [len(x)]),
        "preprocess alone": lambda: [encoder.preprocess(image) for image in images],
        "contribution, from images": lambda: explain_many(encoder, images[0], images[1:], "contribution"),
        "contribution, from cached maps": lambda: explain_many(encoder, seen[0], seen[1:], "contribution"),
        "Captum's LayerGradCam, pair by pair": lambda: captum_loop(encoder, layer, x, batched=False),
        "Captum's LayerGradCam, 8 in a batch": lambda: captum_loop(encoder, layer, x, batched=True),
    }
    for words, method in hiding.items():
        run = lambda method=method: explain_many(encoder, seen[0], seen[1:2], method)  # noqa: E731
        sizes = batches_of(module, run)
        runs[words] = run
        runs[f"forwards: {words}"] = lambda sizes=sizes: bare(module, x, sizes)
    runs["occlusion of 3 pairs in one call"] = lambda: explain_many(encoder, seen[0], seen[1:4], "occlusion")
    seconds = timed(runs, rounds)
    print(f"\n{name}, {torch.get_num_threads()} threads, query + {NEIGHBORS}; median of {rounds}")
    forward = statistics.median(seconds["bare forward of the 9"])
    print(f"  bare forward of the 9 {forward:.3f} s, preprocess {statistics.median(seconds['preprocess alone']):.3f} s")
    for words, (of, _, _) in GOALS.items():
        reference = seconds.get(of) or seconds.get(f"forwards: {words}")
        if reference is None:
            reference = [3 * t for t in seconds["occlusion of a pair"]]
        report(seconds, words, of, reference)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--network", choices=NETWORKS, action="append")
    arguments = parser.parse_args()
    for network in arguments.network or NETWORKS:
        table(network, arguments.rounds)
