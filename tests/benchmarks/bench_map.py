"""How long a map takes and how good it is, beside the usual way, in one run: python tests/benchmarks/bench_map.py

The usual way is `umap.UMAP().fit_transform` plus scikit-learn's neighbors. Vectors are generated: 50 groups in 512
dimensions that vary in 8 ways, cut off at zero as by a ReLU. Every run has a process of its own, torch imported, and
counts from there: imports and what a process compiles are in the time. With numba's cache filled (the second of two
runs each) and with it empty.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

D, K = 512, 15


def vectors(n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((50, D))[rng.integers(0, 50, n)]
    within = rng.standard_normal((n, 8)) @ rng.standard_normal((8, D))
    return np.maximum(0, centers + 0.3 * within).astype(np.float32)


def another_layer(x: np.ndarray) -> np.ndarray:
    """The same images as a further layer might see them: mixed, and cut off at zero."""
    mixed = x @ np.random.default_rng(1).standard_normal((D, D)).astype(np.float32)
    return np.maximum(0, mixed - mixed.mean(axis=0))


def embeddings(x: np.ndarray):
    import pandas as pd

    from vizkit.embeddings import Embeddings

    return Embeddings(x, pd.DataFrame(index=pd.Index([str(i) for i in range(len(x))], name="id")))


def quality(mine: Any, xy: np.ndarray) -> dict[str, float]:
    from vizkit.faithfulness import check_map, share_kept

    measured = check_map(mine, xy, K, sample=2000)
    return {"kept": float(share_kept(mine, xy, K).mean()), "trustworthiness": measured.trustworthiness}


def ours(n: int) -> dict[str, float]:
    x = vectors(n)
    start, cpu = time.perf_counter(), time.process_time()
    import vizkit as vk

    mine = embeddings(x)
    vk.neighbor_graph(mine, K)
    vk.neighbors(mine, 0)
    result = {"neighbors": time.perf_counter() - start}
    vk.project(mine, method="pca")
    result["PCA"] = time.perf_counter() - start
    layout = vk.project(mine)
    result["map"] = time.perf_counter() - start
    result["CPU"] = time.process_time() - cpu
    return result | quality(mine, layout.xy)


def usual(n: int) -> dict[str, float]:
    x = vectors(n)
    start, cpu = time.perf_counter(), time.process_time()
    import umap
    from sklearn.neighbors import NearestNeighbors

    NearestNeighbors(n_neighbors=K, metric="cosine").fit(x).kneighbors()
    result = {"neighbors": time.perf_counter() - start}
    xy = umap.UMAP(metric="cosine").fit_transform(x)
    result["map"] = time.perf_counter() - start
    result["CPU"] = time.process_time() - cpu
    return result | quality(embeddings(x), xy)


def honesty(n: int) -> dict[str, float]:
    """Seconds of a map, and of what says how far it can be believed: `kept` of every point, and `check`."""
    import vizkit as vk
    from vizkit.faithfulness import share_kept
    from vizkit.umap_layout import warm_up

    warm_up()
    mine = embeddings(vectors(n))
    start = time.perf_counter()
    layout = vk.project(mine)
    result = {"map": time.perf_counter() - start}
    start = time.perf_counter()
    share_kept(mine, layout.xy, K)
    result["kept"] = time.perf_counter() - start
    start = time.perf_counter()
    layout.check()
    return result | {"check": time.perf_counter() - start}


def aligned(n: int) -> dict[str, float]:
    """Processor seconds and drift of a second map: of another seed, and of other vectors of the same images."""
    import vizkit as vk
    from vizkit.alignment import drift
    from vizkit.umap_layout import warm_up

    warm_up()
    x = vectors(n)
    vk.project(embeddings(x[:500]))
    start = time.process_time()
    first = vk.project(embeddings(x))
    result = {"first CPU": time.process_time() - start}
    for name, other in (("seed", x), ("layer", another_layer(x))):
        fresh = vk.project(embeddings(other), seed=1)
        mine = embeddings(other)
        start = time.process_time()
        second = vk.project(mine, seed=1, align_to=first)
        result |= {
            f"{name} CPU": time.process_time() - start,
            f"{name} drift": drift(first.xy, second.xy),
            f"{name} drift of two fits": drift(first.xy, fresh.xy),
            f"{name} kept": float(second.kept.mean()),
            f"{name} kept by its own fit": float(fresh.kept.mean()),
        }
    return result


def in_fresh_process(part: str, n: int, cache: str | None = None) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", __file__, "--child", part, "--rows", str(n)]
    environment = os.environ | ({"NUMBA_CACHE_DIR": cache} if cache else {})
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def goal(name: str, value: float, limit: float) -> str:
    return f"  {name:72}{value:8.3f}   goal {limit:.3f}: {'met' if value <= limit else 'MISSED'}"


def map_table(n: int) -> None:
    """Print neighbors plus map, ours and the usual way, with numba's cache filled and with it empty."""
    filled = {way: [in_fresh_process(way, n) for _ in range(2)][1] for way in ("ours", "usual")}
    empty = {}
    for way in filled:
        with tempfile.TemporaryDirectory() as cache:
            empty[way] = in_fresh_process(way, n, cache)
    print(f"\nNeighbors and map of {n:,} x {D}; seconds from the start, and what the map keeps")
    for title, runs in (("numba's cache filled", filled), ("numba's cache empty", empty)):
        print(f"  {title}")
        for way, result in runs.items():
            print(f"    {way:8}" + "   ".join(f"{name} {value:.3f}" for name, value in result.items()))
    whole = filled["usual"]["map"]
    print(f"  kept by chance {K / (n - 1):.4f}, trustworthiness by chance 0.5")
    print(goal("neighbors and PCA, of the usual way's time", filled["ours"]["PCA"] / whole, 1 / 20))
    print(goal("map, of the usual way's time", filled["ours"]["map"] / whole, 1 / 3))
    print(goal("map with numba's cache empty for both", empty["ours"]["map"] / empty["usual"]["map"], 1 / 2))
    for name, limit in (("trustworthiness", 0.005), ("kept", 0.01)):
        print(goal(f"{name} below the usual way's by", filled["usual"][name] - filled["ours"][name], limit))


def honesty_table(n: int) -> None:
    result = in_fresh_process("honesty", n)
    print(f"\nWhat the honesty scores cost, {n:,} x {D}: " + "   ".join(f"{k} {v:.2f} s" for k, v in result.items()))
    rest = result["map"] - result["kept"]
    print(
        goal(
            "kept of all points plus check(), of the time of a map without",
            (result["kept"] + result["check"]) / rest,
            0.05,
        )
    )


def aligned_table(n: int) -> None:
    result = in_fresh_process("aligned", n)
    print(f"\nA second map aligned to the first, {n:,} x {D}, compiled; the first took {result['first CPU']:.2f} CPU-s")
    for name in ("seed", "layer"):
        part = {key.removeprefix(f"{name} "): value for key, value in result.items() if key.startswith(f"{name} ")}
        print(f"  another {name}: " + "   ".join(f"{key} {value:.4f}" for key, value in part.items()))
        print(goal("CPU time, of the first map's", part["CPU"] / result["first CPU"], 1 / 2))
        print(goal("drift, of that of two fits, turned", part["drift"] / part["drift of two fits"], 1 / 4))
        print(goal("kept below its own fit's by", part["kept by its own fit"] - part["kept"], 0.01))


if __name__ == "__main__":
    parts = {"ours": ours, "usual": usual, "honesty": honesty, "aligned": aligned}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--honesty-rows", type=int, default=20_000)
    parser.add_argument("--child", choices=parts, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        import torch  # noqa: F401  (whoever made vectors has it loaded)

        print(json.dumps(parts[arguments.child](arguments.rows)))
    else:
        map_table(arguments.rows)
        honesty_table(arguments.honesty_rows)
        aligned_table(arguments.rows)
