"""The networks and the methods that the benchmarks of evidence compare, the bad ones too."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vizkit as vk
from vizkit.saliency.localization import center_prior
from vizkit.saliency.methods import METHODS, attribute, method_of
from vizkit.saliency.perturbation import Occlusion
from vizkit.saliency.targets import class_target

SHARED = Path(os.environ.get("VIZKIT_SHARED", Path(__file__).resolve().parents[3] / "shared"))
NETWORKS = ("squeezenet1_0", "mobilenet_v2", "scenes")  # those that take longest first
# A window near the size of what was planted (0.43 of a side) flatters occlusion: these are 1/4 and 1/8 of a side.
SMALL = Occlusion(window=1)
QUICK = ("contribution", "gradcam", "sensitivity", "saliency", "occlusion")


def encoder_of(name: str) -> vk.Encoder | None:
    """Return a network with real weights, or print why there is none."""
    if name == "scenes":
        return vk.Encoder(name)
    files = sorted((SHARED / "torch" / "converted").glob(f"{name}*.pth"))
    if not files:
        print(f"{name}: skipped, no weights in {SHARED}; name the folder with VIZKIT_SHARED.")
        return None
    return faster(vk.Encoder(name, weights=files[0]))


def faster(encoder: vk.Encoder) -> vk.Encoder:
    """Lay the weights out channels last: the same numbers but for rounding, on a CPU in two thirds of the time."""
    encoder.module.to(memory_format=torch.channels_last)
    return encoder


def methods(*, quick: bool = False) -> list[Any]:
    """Return every method, occlusion with two windows, and two that look at nothing of the pair."""
    known = [name for name in METHODS if not quick or name in QUICK]
    at = known.index("occlusion") + 1
    return [*known[:at], *([] if quick else [SMALL]), *known[at:], noise, center]


def words(method: Any) -> str:
    """Return a method's title, with its parameters where they are not the usual ones."""
    return {noise: "noise", center: "center prior"}.get(method) or method_of(method).words


def noise(f: Callable[..., Any], x: torch.Tensor) -> np.ndarray:
    """Return another map of noise for every image."""
    return np.random.default_rng(int(abs(float(x.double().sum())) * 1e6)).random((8, 8))


def center(f: Callable[..., Any], x: torch.Tensor) -> np.ndarray:
    """Return the middle of any image."""
    return center_prior((32, 32))


def class_cam(encoder: vk.Encoder) -> Callable[..., np.ndarray]:
    """Return Grad-CAM for the class that the network itself gives an image: it knows nothing of the other one."""

    def ordinary_class_cam(f: Callable[..., Any], x: torch.Tensor) -> np.ndarray:
        with torch.no_grad():
            index = int(encoder.scores(x)[0].argmax())
        return attribute(encoder, class_target(encoder, x, index), x, "gradcam").values

    return ordinary_class_cam


def mean_interval(values: np.ndarray, *, seed: int = 0) -> tuple[float, float, float]:
    """Return the mean of (n,) values and its 95% interval, by 2,000 bootstrap samples (Efron 1979, percentiles)."""
    draws = np.random.default_rng(seed).choice(values, (2000, len(values))).mean(axis=1)
    return (float(values.mean()), *map(float, np.quantile(draws, [0.025, 0.975])))


def side_by_side(script: str, networks: Sequence[str], *rest: str) -> None:
    """Run a script once a network, as many at once as there are cores, and print each one's lines together.

    On a CPU a network a core is faster than one network on all of them. What comes meanwhile is shown on stderr.
    """
    at_once = min(len(networks), os.cpu_count() or 1)
    threads = str(max(1, (os.cpu_count() or 1) // at_once))

    def run(name: str) -> tuple[int, list[str]]:
        command = [sys.executable, "-W", "ignore", script, "--child", name, *rest]
        environment = {**os.environ, "OMP_NUM_THREADS": threads}
        lines = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
            for line in child.stdout or ():
                lines.append(line)
                sys.stderr.write(f"[{name}] {line}")
        return child.returncode, lines

    with ThreadPoolExecutor(at_once) as pool:
        for name, (code, lines) in zip(networks, pool.map(run, networks), strict=True):
            print("".join(lines), flush=True)
            if code:
                raise SystemExit(f"{name} failed with exit code {code}.")
