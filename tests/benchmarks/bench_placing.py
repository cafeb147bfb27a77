"""Where new images land and how unusual they are, beside umap's transform: python tests/benchmarks/bench_placing.py

Needs the folder of real photos and weights (VIZKIT_SHARED). Clothes are split in two halves, five times, and each half
is in turn the map and the new images. "+-" is twice the standard error over images (a photo's values over the splits
are averaged first); shares have Wilson's interval.
"""

import argparse
import dataclasses
import io
import os
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.spatial import KDTree
from scipy.stats import binomtest, ks_2samp

import vizkit as vk

K = 15
SPLITS = 5
SHARED = Path(os.environ.get("VIZKIT_SHARED", Path(__file__).resolve().parents[3] / "shared"))


def read_sets() -> dict[str, vk.ImageSet]:
    photos = SHARED / "images"
    return {
        "clothes": vk.ImageSet.from_folder(photos / "clothing10"),
        "faces": vk.ImageSet.from_folder(photos / "faces15"),
        "scenes": vk.scenes("held-out").subset(range(300)),
        "mixed photos": vk.ImageSet.from_folder(photos / "imagenet_sample"),
    }


def raw_pixels(images: vk.ImageSet) -> vk.Embeddings:
    vectors = [np.asarray(image.resize((32, 32)), np.float32).ravel() for image in images]
    return vk.Embeddings(np.stack(vectors), images.frame)


def part(embeddings: vk.Embeddings, rows: np.ndarray) -> vk.Embeddings:
    return vk.Embeddings(
        embeddings.vectors[rows], embeddings.frame.iloc[rows], encoder=embeddings.encoder,
        provenance=embeddings.provenance,
    )  # fmt: skip


def halves(n: int):
    """Yield (mapped rows, new rows)."""
    for split in range(SPLITS):
        order = np.random.default_rng(split).permutation(n)
        yield split, order[: n // 2], order[n // 2 :]
        yield split, order[n // 2 :], order[: n // 2]


def nearest(queries: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return the K nearest members (m, K) by cosine, in double precision, by code that is not vizkit's."""
    a, b = (x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1)[:, None] for x in (queries, members))
    return np.argsort(-(a @ b.T), axis=1, kind="stable")[:, :K]


def kept(xy: np.ndarray, positions: np.ndarray, true: np.ndarray) -> np.ndarray:
    near = KDTree(xy).query(positions, k=K)[1]
    return np.array([len(set(a) & set(b)) / K for a, b in zip(near, true, strict=True)])


def in_words(values: np.ndarray) -> str:
    return f"{values.mean():.3f} +- {2 * values.std(ddof=1) / np.sqrt(len(values)):.3f}"


def verdict(met: bool) -> str:
    return "met" if met else "MISSED"


def median_interval(values: np.ndarray) -> tuple[float, float]:
    draws = np.random.default_rng(0).choice(values, (2000, len(values)))
    return tuple(np.quantile(np.median(draws, axis=1), [0.025, 0.975]))


def own_table(clothes: vk.Embeddings, images: vk.ImageSet) -> None:
    """Print where images lie that the map has already, as vectors and as JPEGs compressed once more."""
    layout = vk.project(clothes)
    print(f"\nImages of the map placed anew, {len(clothes)} clothes: rank of the own point among the points of the map")
    rng = np.random.default_rng(0)
    again = np.sort(rng.permutation(len(images))[:100])
    cases = {"the same vectors": (layout.xy, vk.place(layout, clothes.vectors).xy)}
    for quality in (50, 10):
        pictures = []
        for row in again:
            file = io.BytesIO()
            images[row].save(file, "JPEG", quality=quality)
            pictures.append(Image.open(file))
        cases[f"100 as JPEG, quality {quality}"] = (layout.xy[again], vk.place(layout, pictures).xy)
    for name, (own, xy) in cases.items():
        apart = np.linalg.norm(xy[:, None] - layout.xy[None], axis=2)
        ranks = (apart <= np.linalg.norm(xy - own, axis=1)[:, None]).sum(axis=1)
        low, high = median_interval(ranks)
        said = f"   goal: at most 5: {verdict(np.median(ranks) <= 5)}" if name == "the same vectors" else ""
        print(
            f"  {name:28} median {np.median(ranks):5.0f} ({low:.0f} to {high:.0f}), chance {len(clothes) / 2:.0f}{said}"
        )


def kept_table(sets: dict[str, vk.Embeddings]) -> None:
    """Print which share of their true neighbors new clothes keep, on umap's own map and on ours."""
    import umap

    print(f"\nNew clothes on a map of half of them: share of the {K} true neighbors among the {K} nearest map points")
    for name, clothes in sets.items():
        n = len(clothes)
        ways = ("transform", "ours, on its map", "ours, on our map", "members of our map", "chance")
        values = {way: np.zeros((SPLITS, n)) for way in ways}
        for split, old, new in halves(n):
            a, b = part(clothes, old), part(clothes, new)
            true = nearest(b.vectors, a.vectors)
            reducer = umap.UMAP(n_neighbors=K, metric="cosine", random_state=split).fit(a.vectors)
            layout = vk.project(a, seed=split)
            theirs = dataclasses.replace(layout, xy=reducer.embedding_)
            values["transform"][split, new] = kept(theirs.xy, reducer.transform(b.vectors), true)
            values["ours, on its map"][split, new] = kept(theirs.xy, vk.place(theirs, b).xy, true)
            values["ours, on our map"][split, new] = kept(layout.xy, vk.place(layout, b).xy, true)
            values["members of our map"][split, old] = layout.kept
            shuffled = np.random.default_rng(split).permutation(len(true))
            values["chance"][split, new] = kept(layout.xy, vk.place(layout, b).xy[shuffled], true)
        means = {way: values[way].mean(axis=0) for way in ways}
        print(f"  {name:16}" + "   ".join(f"{way} {in_words(means[way])}" for way in ways))
        for way in ways[1:3]:
            gap = means[way] - means["transform"]
            goal = f"   goal: -0.02 or more: {verdict(gap.mean() >= -0.02)}" if name == "trained" else ""
            print(f"  {'':16}{way} less transform: {gap.mean():+.3f} +- {2 * gap.std() / np.sqrt(n):.3f}{goal}")


def unusual_table(sets: dict[str, dict[str, vk.Embeddings]]) -> None:
    """Print how unusual other kinds are among half of the clothes, and how uniform the other half is."""
    print("\nUnusualness among half of the clothes, over all splits (nearest member, cosine)")
    for network, kinds in sets.items():
        runs = {kind: np.full((2 * SPLITS, len(embeddings)), np.nan) for kind, embeddings in kinds.items()}
        same = []
        for i, (_, old, new) in enumerate(halves(len(kinds["clothes"]))):
            layout = vk.project(part(kinds["clothes"], old), method="pca")
            for kind, embeddings in kinds.items():
                rows = new if kind == "clothes" else np.arange(len(embeddings))
                placed = vk.place(layout, part(embeddings, rows)).frame
                runs[kind][i, rows] = placed["unusualness"]
                if kind == "clothes":
                    same.append(ks_2samp(placed["distance"], vk.place(layout, layout.ids).frame["distance"]))
        for kind, values in runs.items():
            n = values.shape[1]
            low, high = median_interval(np.nanmean(values, axis=0))
            share = np.nanmean(np.where(np.isnan(values), np.nan, values > 95))
            wilson = binomtest(round(share * n), n).proportion_ci(method="wilson")
            goal = network == "trained" and kind in ("faces", "scenes")
            print(
                f"  {network:16}{kind:14}median {np.nanmedian(values):5.1f} ({low:.1f} to {high:.1f})   beyond 95: "
                f"{share:.2f} ({wilson.low:.2f} to {wilson.high:.2f})"
                + (f"   goal: median above 95: {verdict(np.nanmedian(values) > 95)}" if goal else "")
            )
        distances, odds = [x.statistic for x in same], np.array([x.pvalue for x in same])
        print(
            f"  {'':16}new clothes against uniform: Kolmogorov-Smirnov distance {np.mean(distances):.3f} (largest "
            f"{max(distances):.3f}); as two sets of one kind 95 times in 100: {(odds > 0.05).mean():.0%} of splits"
        )


def time_table() -> None:
    """Print how long it takes to place many on a large map."""
    rng = np.random.default_rng(0)
    vectors = np.maximum(
        0, rng.standard_normal((50, 512))[rng.integers(0, 50, 21_000)] + rng.standard_normal((21_000, 512))
    )
    frame = pd.DataFrame(index=pd.Index([str(i) for i in range(20_000)], name="id"))
    layout = vk.project(vk.Embeddings(vectors[:20_000].astype(np.float32), frame), method="pca")
    vk.place(layout, vectors[20_000].astype(np.float32))
    print("\nPlacing on a map of 20,000 x 512, its graph at hand")
    for m in (1, 100, 1000):
        asked = vectors[20_000 : 20_000 + m].astype(np.float32)
        taken = []
        for _ in range(3):
            start = time.perf_counter()
            vk.place(layout, asked)
            taken.append(time.perf_counter() - start)
        print(f"  {m:5} vectors: {1e3 * np.median(taken):8.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", help="folder of vectors computed before")
    arguments = parser.parse_args()
    weights = sorted((SHARED / "torch" / "converted").glob("mobilenet_v2*.pth"))
    if not weights:
        raise SystemExit(f"No photos and weights in {SHARED}; name the folder with VIZKIT_SHARED.")
    images = read_sets()
    trained = vk.Encoder("mobilenet_v2", weights=weights[0])
    networks = {"trained": trained, "random weights": trained.randomized(images["clothes"])}
    sets = {
        name: {kind: vk.embed(x, encoder, cache=arguments.cache, progress=False) for kind, x in images.items()}
        for name, encoder in networks.items()
    }
    sets["raw pixels"] = {kind: raw_pixels(x) for kind, x in images.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # umap's: that a seed means one thread
        own_table(sets["trained"]["clothes"], images["clothes"])
        kept_table({name: kinds["clothes"] for name, kinds in sets.items()})
        unusual_table(sets)
    time_table()


if __name__ == "__main__":
    main()
