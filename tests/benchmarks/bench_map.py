"""How long neighbours and map take, beside the usual way, in one run: python tests/benchmarks/bench_map.py

Vectors are generated: 50 groups in 512 dimensions that vary in 8 ways, cut off at zero as by a ReLU. The map is timed
in fresh processes, torch imported, the second of two runs each, so that numba's files are there; what a process still
compiles counts.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

D, K = 512, 15


def vectors(n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((50, D))[rng.integers(0, 50, n)]
    within = rng.standard_normal((n, 8)) @ rng.standard_normal((8, D))
    return np.maximum(0, centers + 0.3 * within).astype(np.float32)


def embeddings(x: np.ndarray):
    import pandas as pd

    from vizkit.embeddings import Embeddings

    return Embeddings(x, pd.DataFrame(index=pd.Index([str(i) for i in range(len(x))], name="id")))


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def graph_table(n: int) -> None:
    """Print the time of the whole graph, each way on the same vectors in this process."""
    import torch
    from sklearn.neighbors import NearestNeighbors

    from vizkit.knn import neighbor_graph

    x = vectors(n)
    neighbor_graph(embeddings(x[:500]), K)

    def by_torch() -> None:
        unit = torch.nn.functional.normalize(torch.from_numpy(x))
        for start in range(0, n, 1024):
            (unit[start : start + 1024] @ unit.T).topk(K + 1)

    def by_sklearn() -> None:
        NearestNeighbors(n_neighbors=K, metric="cosine", algorithm="brute").fit(x).kneighbors()

    ways = {
        "vizkit, exact": lambda: neighbor_graph(embeddings(x), K),
        "torch float32, not exact": by_torch,
        "scikit-learn, cosine": by_sklearn,
    }
    taken = {name: seconds(run) for name, run in ways.items()}
    print(f"\nGraph of {n:,} x {D}, k = {K}")
    for name, t in taken.items():
        print(f"  {name:28}{t:8.2f} s   {t / taken['vizkit, exact']:6.2f} x vizkit")
    mine = embeddings(x)
    neighbor_graph(mine, K)
    import vizkit as vk

    vk.neighbors(mine, 0)
    print(f"  {'one query of 12':28}{1e3 * min(seconds(lambda: vk.neighbors(mine, 7)) for _ in range(5)):8.1f} ms")


def ours(x: np.ndarray) -> dict[str, float]:
    import vizkit as vk
    from vizkit.knn import neighbor_graph

    start = time.perf_counter()
    mine = embeddings(x)
    neighbor_graph(mine, K)
    vk.neighbors(mine, 0)
    result = {"neighbours": time.perf_counter() - start}
    vk.project(mine, method="pca")
    result["PCA"] = time.perf_counter() - start
    layout = vk.project(mine)
    result["map"] = time.perf_counter() - start
    return result | {"kept": float(layout.kept.mean())}


def usual(x: np.ndarray) -> dict[str, float]:
    from vizkit.projection import share_kept

    start = time.perf_counter()
    import umap
    from sklearn.neighbors import NearestNeighbors

    NearestNeighbors(n_neighbors=K, metric="cosine").fit(x).kneighbors()
    result = {"neighbours": time.perf_counter() - start}
    xy = umap.UMAP(metric="cosine").fit_transform(x)
    result["map"] = time.perf_counter() - start
    return result | {"kept": float(share_kept(embeddings(x), xy).mean())}


def in_fresh_process(way: str, n: int) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", __file__, "--child", way, "--map-rows", str(n)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def map_table(n: int) -> None:
    """Print neighbours plus map, ours and the usual way, each in a process of its own."""
    runs = {way: [in_fresh_process(way, n) for _ in range(2)][1] for way in ("ours", "usual")}
    reference = runs["usual"]["map"]
    print(f"\nNeighbours and map of {n:,} x {D}; seconds from the start (share of the usual way's whole time)")
    for way, result in runs.items():
        times = "   ".join(f"{name} {t:6.2f} ({t / reference:5.2f})" for name, t in result.items() if name != "kept")
        print(f"  {way:8}{times}   of true neighbours kept {result['kept']:.3f} (chance {K / (n - 1):.4f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graph-rows", type=int, default=20_000)
    parser.add_argument("--map-rows", type=int, default=10_000)
    parser.add_argument("--child", choices=["ours", "usual"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        import torch  # noqa: F401  (whoever made vectors has it loaded)

        print(json.dumps({"ours": ours, "usual": usual}[arguments.child](vectors(arguments.map_rows))))
    else:
        graph_table(arguments.graph_rows)
        map_table(arguments.map_rows)
