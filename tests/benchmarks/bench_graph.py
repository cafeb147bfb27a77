"""How long the neighbor graph and one query take, beside FAISS, torch and scikit-learn: bench_graph.py [--large]

Vectors are generated: 50 groups in 512 dimensions that vary in 8 ways, cut off at zero as by a ReLU. All ways work on
the same vectors in one process, in turn, after one warming run of each on few; the median of three rounds counts.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from bench_map import D, K, embeddings, goal, vectors

from vizkit.graph import nearest_rows, neighbor_graph

ROUNDS = 3
QUICK_AMONG = 100_000  # as many as are searched exactly


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def by_vizkit(x: np.ndarray) -> np.ndarray:
    return neighbor_graph(embeddings(x), K).indices


def by_faiss(x: np.ndarray) -> np.ndarray:
    import faiss

    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    index = faiss.IndexFlatIP(x.shape[1])
    index.add(unit)
    return index.search(unit, K + 1)[1]


def by_torch(x: np.ndarray) -> np.ndarray:
    import torch

    unit = torch.nn.functional.normalize(torch.from_numpy(x))
    return np.concatenate([(part @ unit.T).topk(K + 1).indices.numpy() for part in unit.split(1024)])


def by_sklearn(x: np.ndarray) -> np.ndarray:
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=K, metric="cosine", algorithm="brute").fit(x).kneighbors()[1]


WAYS = {"vizkit": by_vizkit, "FAISS, flat": by_faiss, "torch, float32": by_torch, "scikit-learn": by_sklearn}


def graph_table(n: int) -> None:
    """Print the time of the whole graph, each way."""
    x = vectors(n)
    for way in WAYS.values():
        way(x[:2000])
    taken = {name: [] for name in WAYS}
    for _ in range(ROUNDS):
        for name, way in WAYS.items():
            taken[name].append(seconds(lambda way=way: way(x)))
    median = {name: statistics.median(times) for name, times in taken.items()}
    print(f"\nGraph of {n:,} x {D}, k = {K}, preparing included; median of {ROUNDS} and range")
    ratios = {
        name: statistics.median(ours / t for ours, t in zip(taken["vizkit"], times, strict=True))
        for name, times in taken.items()
    }
    for name, times in taken.items():
        print(
            f"  {name:16}{median[name]:8.2f} s   {min(times):6.2f} to {max(times):6.2f}"
            f"   vizkit takes {ratios[name]:5.2f} of it"
        )
    print(goal("graph, of the time of FAISS", ratios["FAISS, flat"], 1))


def query_table(n: int) -> None:
    """Print the time of one query, once the search is prepared."""
    import vizkit as vk

    mine = embeddings(vectors(n))
    first = seconds(lambda: vk.neighbors(mine, 0))
    later = [seconds(lambda row=row: vk.neighbors(mine, row)) for row in range(1, 30)]
    median = 1e3 * statistics.median(later)
    print(
        f"  one query of 12 among {n:7,}: {median:6.1f} ms, "
        f"{1e3 * min(later):.1f} to {1e3 * max(later):.1f}; the first, with preparing, {first:.2f} s"
    )
    if n == QUICK_AMONG:
        print(goal(f"one query among {n:,}, ms", median, 20))


def large_table(n: int) -> None:
    """Print what the graph of more vectors takes from the index, what it finds, and what exact search takes."""
    x = vectors(n)
    mine = embeddings(x)
    nearest_rows(mine)
    taken = seconds(lambda: neighbor_graph(mine, K))
    print(f"\nGraph of {n:,} x {D} from the index: {taken:.1f} s; {neighbor_graph(mine, K)!r}")
    print(f"  exact: {seconds(lambda: nearest_rows(mine).graph(K)):.1f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graph-rows", type=int, default=20_000)
    parser.add_argument("--large", action="store_true", help="also more vectors than are searched exactly")
    parser.add_argument("--large-rows", type=int, default=120_000)
    arguments = parser.parse_args()
    import torch  # noqa: F401  (whoever made vectors has it loaded)

    graph_table(arguments.graph_rows)
    print()
    for n in (20_000, QUICK_AMONG):
        query_table(n)
    if arguments.large:
        large_table(arguments.large_rows)
