"""Maps: reproducible, honest about what they keep, and never a traceback from inside UMAP."""

import hashlib
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

import vizkit as vk
from vizkit.embeddings import Embeddings
from vizkit.errors import InputError
from vizkit.knn import neighbor_graph
from vizkit.projection import share_kept


def embeddings_of(vectors, **columns):
    vectors = np.asarray(vectors, np.float32)
    return Embeddings.from_frame(pd.DataFrame({"embedding": list(vectors), **columns}))


def kept_by_scikit_learn(vectors, xy, k, metric):
    """The same share, counted set by set with another library's neighbours; for sets without ties."""
    true = NearestNeighbors(n_neighbors=k, metric=metric, algorithm="brute").fit(vectors.astype(np.float64))
    near = NearestNeighbors(n_neighbors=k).fit(xy.astype(np.float64))
    pairs = zip(true.kneighbors(return_distance=False), near.kneighbors(return_distance=False), strict=True)
    return np.array([len(set(a) & set(b)) / k for a, b in pairs])


def planted(n=150, d=20, seed=0):
    """Three groups far apart."""
    rng = np.random.default_rng(seed)
    groups = np.arange(n) % 3
    return (8 * np.eye(3, d)[groups] + rng.standard_normal((n, d)) * 0.5).astype(np.float32), groups


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    return embeddings_of(images[:600], label=labels[:600].astype(str))


@pytest.fixture(scope="module")
def layout(digits):
    return vk.project(digits)


def test_layout_has_a_place_and_a_share_for_every_vector(digits, layout):
    assert layout.xy.shape == (600, 2)
    assert (layout.xy.dtype, layout.kept.dtype) == (np.float32, np.float32)
    assert np.isfinite(layout.xy).all()
    assert layout.ids == digits.ids
    assert list(layout.frame.columns) == ["x", "y", "kept", "label"]
    assert layout.frame.index.name == "id"
    np.testing.assert_array_equal(layout.frame[["x", "y"]].to_numpy(), layout.xy)
    np.testing.assert_array_equal(layout.frame["kept"], layout.kept)
    assert layout.frame["label"].tolist() == digits.frame["label"].tolist()


def test_layout_says_how_it_was_made_and_what_chance_is(layout):
    made = {name: layout.provenance[name] for name in ("method", "n_neighbors", "min_dist", "metric", "seed", "k")}
    assert made == {"method": "umap", "n_neighbors": 15, "min_dist": 0.1, "metric": "cosine", "seed": 0, "k": 15}
    assert "umap-learn" in layout.provenance["versions"]
    assert layout.chance == pytest.approx(15 / 599)
    for text in (repr(layout), layout._repr_html_()):
        assert "UMAP, seed 0: 600 points" in text
        assert f"keeps {layout.kept.mean():.0%} (chance 2.5%)" in text


def test_layout_draws_itself_as_a_plotly_figure(layout):
    figure = layout.figure(color="kept")
    assert type(figure).__module__.startswith("plotly")
    assert sum(len(trace.x) for trace in figure.data) == 600


def test_the_same_seed_gives_the_same_bytes_in_another_process(tmp_path):
    vectors, _ = planted()
    np.save(tmp_path / "vectors.npy", vectors)
    program = (
        "import sys, hashlib, numpy as np, pandas as pd, vizkit as vk\n"
        "from vizkit.embeddings import Embeddings\n"
        "e = Embeddings.from_frame(pd.DataFrame({'embedding': list(np.load(sys.argv[1]))}))\n"
        "for method in ('umap', 'pca'):\n"
        "    layout = vk.project(e, seed=5, method=method)\n"
        "    print(hashlib.sha256(layout.xy.tobytes() + layout.kept.tobytes()).hexdigest())\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "vectors.npy")]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    here = [vk.project(embeddings_of(vectors), seed=5, method=method) for method in ("umap", "pca")]
    assert there == [hashlib.sha256(x.xy.tobytes() + x.kept.tobytes()).hexdigest() for x in here]
    assert not np.array_equal(vk.project(embeddings_of(vectors), seed=6).xy, here[0].xy)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [15, 4])
def test_kept_is_the_share_that_scikit_learn_counts(metric, k):
    vectors = np.random.default_rng(1).standard_normal((300, 10)).astype(np.float32)
    layout = vk.project(embeddings_of(vectors), method="pca", metric=metric, n_neighbors=k)
    assert layout.k == k
    expected = kept_by_scikit_learn(vectors, layout.xy, k, metric)
    np.testing.assert_allclose(layout.kept, expected, atol=1e-6)
    assert 0.05 < layout.kept.mean() < 0.9


def test_kept_of_umap_is_the_share_that_scikit_learn_counts(digits, layout):
    expected = kept_by_scikit_learn(digits.vectors, layout.xy, 15, "cosine")
    assert layout.kept.mean() == pytest.approx(expected.mean(), abs=1e-3)
    assert layout.kept.mean() > 0.4


def test_a_shuffled_map_keeps_what_chance_keeps(digits, layout):
    shuffled = layout.xy[np.random.default_rng(0).permutation(600)]
    assert share_kept(digits, shuffled).mean() == pytest.approx(layout.chance, abs=0.005)
    assert share_kept(digits, layout.xy) == pytest.approx(layout.kept)


def test_a_map_that_is_the_truth_keeps_everything():
    vectors = np.random.default_rng(0).standard_normal((80, 2)).astype(np.float32)
    assert (share_kept(embeddings_of(vectors), 5 * vectors + 3, 7, metric="euclidean") == 1).all()


def test_neighbors_that_are_equally_near_count_as_kept():
    # 30 copies each of two vectors: any copy is as true a neighbour as any other.
    vectors = np.repeat(np.eye(2, 5), 30, axis=0)
    rng = np.random.default_rng(0)
    xy = np.repeat([[0.0, 0.0], [9.0, 9.0]], 30, axis=0) + rng.random((60, 2))
    assert (share_kept(embeddings_of(vectors), xy, 6) == 1).all()
    swapped = xy.copy()
    swapped[0] = [9.5, 9.5]  # one lies among the others
    assert share_kept(embeddings_of(vectors), swapped, 6)[0] == 0


def test_umap_on_our_graph_keeps_as_much_as_umap_alone(digits, layout):
    umap = pytest.importorskip("umap")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = umap.UMAP(metric="cosine", random_state=0).fit_transform(digits.vectors)
    assert layout.kept.mean() == pytest.approx(share_kept(digits, alone).mean(), abs=0.02)


@pytest.mark.parametrize("method", ["umap", "pca"])
def test_planted_groups_stay_together_and_apart(method):
    vectors, groups = planted()
    xy = vk.project(embeddings_of(vectors), method=method).xy
    near = NearestNeighbors(n_neighbors=10).fit(xy).kneighbors(return_distance=False)
    assert (groups[near] == groups[:, None]).mean() > 0.99


@pytest.mark.parametrize(("n", "d"), [(120, 7), (510, 30), (60, 600)])
def test_pca_is_the_exact_one(n, d):
    vectors = np.random.default_rng(0).standard_normal((n, d)).astype(np.float32) * np.linspace(1, 2, d) + 5
    vectors = vectors.astype(np.float32)
    found = vk.project(embeddings_of(vectors), method="pca")
    exact = PCA(2, svd_solver="full").fit_transform(vectors.astype(np.float64))
    np.testing.assert_allclose(found.xy, exact, atol=1e-3 * np.abs(exact).max())
    assert found.provenance["method"] == "pca"
    np.testing.assert_array_equal(found.xy, vk.project(embeddings_of(vectors), method="pca", seed=9).xy)


RANDOM = np.random.default_rng(0)
DEGENERATE = {
    "one": np.ones((1, 4)),
    "two": np.eye(2),
    "two equal": np.ones((2, 3)),
    "three": np.eye(3),
    "four": RANDOM.random((4, 3)),
    "fewer than neighbours": RANDOM.random((14, 6)),
    "as many as neighbours": RANDOM.random((15, 6)),
    "one more than neighbours": RANDOM.random((16, 6)),
    "all zero": np.zeros((40, 4)),
    "two values": np.repeat(np.eye(2), 20, axis=0),
    "one dimension": RANDOM.standard_normal((40, 1)),
    "a constant dimension": np.c_[np.ones(40), RANDOM.random((40, 2))],
    "on one line": np.outer(np.arange(1, 41), [1.0, 2.0, 3.0]),
    "opposites": np.repeat([[1.0, 0.0], [-1.0, 0.0]], 20, axis=0),
    "all at right angles": np.eye(40),
    "tiny": 1e-40 * RANDOM.standard_normal((40, 5)),
    "huge": 1e28 * RANDOM.standard_normal((40, 5)),
}


@pytest.mark.parametrize("method", ["umap", "pca"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_sets_have_a_layout(name, metric, method):
    vectors = DEGENERATE[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layout = vk.project(embeddings_of(vectors), method=method, metric=metric)
    assert layout.xy.shape == (len(vectors), 2)
    assert np.isfinite(layout.xy).all()
    assert ((layout.kept >= 0) & (layout.kept <= 1)).all()
    assert layout.k == min(15, len(vectors) - 1)
    assert str(len(vectors)) in layout.summary
    if len(vectors) <= 16:
        np.testing.assert_array_equal(layout.kept, 1)  # everybody is everybody's neighbour


def test_equal_vectors_share_one_place_and_say_that_no_umap_ran():
    layout = vk.project(embeddings_of(np.ones((30, 4))))
    np.testing.assert_array_equal(layout.xy, 0)
    np.testing.assert_array_equal(layout.kept, 1)
    assert layout.provenance["method"] == "pca"


def test_umap_leaves_the_shared_graph_and_the_threads_as_they_were(digits, layout):
    import numba

    graph = neighbor_graph(digits, 15)
    before = graph.indices.copy(), graph.similarities.copy(), numba.get_num_threads()
    vk.project(digits, n_neighbors=5)
    np.testing.assert_array_equal(graph.indices, before[0])
    np.testing.assert_array_equal(graph.similarities, before[1])
    assert numba.get_num_threads() == before[2]


def test_the_graph_of_search_serves_the_map(monkeypatch):
    vectors, _ = planted()
    mine = embeddings_of(vectors)
    neighbor_graph(mine, 12)
    monkeypatch.setattr("vizkit.nearest.NearestRows.graph", None)  # a second graph would fail
    assert len(vk.project(mine, method="pca")) == len(vectors)


def test_parameters_reach_the_map():
    vectors, _ = planted()
    mine = embeddings_of(vectors)
    base = vk.project(mine).xy
    for change in ({"n_neighbors": 5}, {"min_dist": 0.8}, {"metric": "euclidean"}):
        assert not np.array_equal(vk.project(mine, **change).xy, base)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_neighbors": 1}, "n_neighbors is 1; expected a whole number, 2 or more"),
        ({"n_neighbors": 5.5}, "n_neighbors is 5.5"),
        ({"min_dist": -0.1}, r"min_dist is -0.1; expected a number from 0 \(packed\) to 1"),
        ({"min_dist": float("nan")}, "min_dist is nan"),
        ({"seed": None}, "seed is None.*Every map has a seed"),
        ({"seed": -1}, "seed is -1"),
        ({"metric": "cosinus"}, "No metric 'cosinus'; choose 'cosine' or 'euclidean'.*Closest: 'cosine'"),
        ({"method": "tsne"}, "No method 'tsne'; choose 'umap' or 'pca'"),
    ],
)
def test_a_wrong_argument_says_what_is_right(arguments, message):
    with pytest.raises(InputError, match=message):
        vk.project(embeddings_of(np.eye(5)), **arguments)


def test_no_vectors_have_no_map():
    with pytest.raises(InputError, match="no vectors to project"):
        vk.project(embeddings_of(np.zeros((0, 4))))


@pytest.mark.parametrize("xy", [np.zeros((4, 2)), np.zeros((5, 3)), np.full((5, 2), np.nan)])
def test_a_map_of_something_else_is_refused(xy):
    with pytest.raises(InputError, match=r"expected \(5, 2\) finite positions"):
        share_kept(embeddings_of(np.eye(5)), xy)


def test_own_columns_called_x_or_kept_stay_beside_ours():
    layout = vk.project(embeddings_of(np.eye(4), x=list("abcd"), kept=[1, 2, 3, 4]), method="pca")
    assert list(layout.frame.columns) == ["x", "y", "kept", "x_", "kept_"]
    assert layout.frame["x_"].tolist() == list("abcd")
