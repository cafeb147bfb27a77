"""Maps: reproducible, honest about what they keep, and never a traceback from inside UMAP."""

import hashlib
import shutil
import signal
import subprocess
import sys
import warnings
from collections import deque

import numba
import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

import vizkit as vk
from vizkit.alignment import drift, turned
from vizkit.embeddings import Embeddings
from vizkit.errors import InputError, StoreError
from vizkit.faithfulness import share_kept
from vizkit.graph import neighbor_graph
from vizkit.layout import Layout
from vizkit.projection import as_layout, unfolding


def embeddings_of(vectors, **columns):
    vectors = np.asarray(vectors, np.float32)
    return Embeddings.from_frame(pd.DataFrame({"embedding": list(vectors), **columns}))


def kept_by_scikit_learn(vectors, xy, k, metric):
    """The same share, counted set by set with another library's neighbors; for sets without ties."""
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
    made = {name: value for name, value in layout.provenance.items() if name not in ("versions", "epochs")}
    assert made == {
        "method": "umap", "n_neighbors": 15, "min_dist": 0.1, "metric": "cosine", "densmap": False, "seed": 0, "k": 15,
        "stopped": None, "start": "PCA", "aligned_to": None,
    }  # fmt: skip
    assert layout.provenance["epochs"] >= 100
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
    assert layout.k == layout.provenance["k"] == 15  # whatever n_neighbors is: so maps can be compared
    expected = kept_by_scikit_learn(vectors, layout.xy, 15, metric)
    np.testing.assert_allclose(layout.kept, expected, atol=1e-6)
    assert layout.check(k=4, sample=None).kept == pytest.approx(
        kept_by_scikit_learn(vectors, layout.xy, 4, metric).mean(), abs=1e-6
    )
    assert "of the 15 nearest" in layout.summary
    assert 0.05 < layout.kept.mean() < 0.9


def test_kept_of_umap_is_the_share_that_scikit_learn_counts(digits, layout):
    expected = kept_by_scikit_learn(digits.vectors, layout.xy, 15, "cosine")
    assert layout.kept.mean() == pytest.approx(expected.mean(), abs=1e-3)
    assert layout.kept.mean() > 0.4


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
    "fewer than neighbors": RANDOM.random((14, 6)),
    "as many as neighbors": RANDOM.random((15, 6)),
    "one more than neighbors": RANDOM.random((16, 6)),
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
        np.testing.assert_array_equal(layout.kept, 1)  # everybody is everybody's neighbor


def test_equal_vectors_share_one_place_and_say_that_no_umap_ran():
    layout = vk.project(embeddings_of(np.ones((30, 4))))
    np.testing.assert_array_equal(layout.xy, 0)
    np.testing.assert_array_equal(layout.kept, 1)
    assert layout.provenance["method"] == "pca"


def test_umap_leaves_the_shared_graph_and_the_threads_as_they_were(digits, layout):
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
        ({"metric": "inner_product"}, "an inner product is none.*Use metric='cosine' or metric='euclidean'"),
        ({"method": "tsne"}, "No method 'tsne'; choose 'umap' or 'pca'"),
        ({"densmap": 1}, "densmap is 1; expected True or False"),
        ({"densmap": True, "method": "pca"}, "densmap=True is UMAP's, and method is 'pca'"),
        ({"align_to": np.zeros((5, 2))}, "align_to is a ndarray; expected a Layout"),
    ],
)
def test_a_wrong_argument_says_what_is_right(arguments, message):
    with pytest.raises(InputError, match=message):
        vk.project(embeddings_of(np.eye(5)), **arguments)
    with pytest.raises(InputError, match=message):
        next(unfolding(embeddings_of(np.eye(5)), **arguments))


def test_no_vectors_have_no_map():
    with pytest.raises(InputError, match="no vectors to project"):
        vk.project(embeddings_of(np.zeros((0, 4))))


def test_own_columns_called_x_or_kept_stay_beside_ours():
    layout = vk.project(embeddings_of(np.eye(4), x=list("abcd"), kept=[1, 2, 3, 4]), method="pca")
    assert list(layout.frame.columns) == ["x", "y", "kept", "x_", "kept_"]
    assert layout.frame["x_"].tolist() == list("abcd")


def test_the_last_frame_is_the_map(digits, layout):
    frames = list(unfolding(digits))
    assert frames[-1].xy.tobytes() == layout.xy.tobytes()
    assert [frames[0].done, frames[-1].done] == [0, 1]
    done = [frame.done for frame in frames]
    assert done == sorted(set(done))
    assert all(frame.xy.shape == (600, 2) and np.isfinite(frame.xy).all() for frame in frames)
    same = as_layout(digits, frames[-1].xy)
    np.testing.assert_array_equal(same.kept, layout.kept)
    pd.testing.assert_frame_equal(same.frame, layout.frame)
    assert same.provenance == layout.provenance


def test_the_first_frame_is_pca_and_no_frame_changes_afterwards(digits):
    frames = unfolding(digits)
    first = next(frames)
    pca = vk.project(digits, method="pca").xy
    np.testing.assert_allclose(first.xy, pca / np.abs(pca).max() * 10, rtol=1e-5)
    before = first.xy.copy()
    later = next(frames)
    np.testing.assert_array_equal(first.xy, before)
    assert not np.array_equal(later.xy, before)
    before = later.xy.copy()
    final = deque(frames, maxlen=1).pop()
    np.testing.assert_array_equal(later.xy, before)
    assert not np.array_equal(final.xy, before)


@pytest.mark.parametrize("arguments", [{"method": "pca"}, {"method": "pca", "align_to": True}])
def test_pca_unfolds_at_once(digits, layout, arguments):
    arguments = {name: layout if name == "align_to" else value for name, value in arguments.items()}
    frames = list(unfolding(digits, **arguments))
    assert [frame.done for frame in frames] == [0, 1]
    np.testing.assert_array_equal(frames[1].xy, vk.project(digits, **arguments).xy)


def test_a_frame_on_the_way_becomes_a_layout_that_says_so(digits):
    frames = unfolding(digits, seed=4)
    frame = next(frames)
    stopped = as_layout(digits, frame.xy, seed=4, stopped=0.43)
    assert stopped.provenance["stopped"] == 0.43
    assert "UMAP, seed 4, stopped at 43%: 600 points" in stopped.summary
    np.testing.assert_allclose(stopped.kept, share_kept(digits, frame.xy))
    with pytest.raises(InputError, match=r"expected \(600, 2\)"):
        as_layout(digits, frame.xy[1:])


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs an alarm that interrupts")
def test_ctrl_c_loses_nothing_but_the_map(monkeypatch):
    vectors = np.random.default_rng(0).standard_normal((1000, 8))
    mine = embeddings_of(vectors)
    whole, threads = vk.project(mine, seed=1), numba.get_num_threads()
    monkeypatch.setattr("vizkit.nearest.NearestRows.graph", None)  # a second graph would fail

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyboardInterrupt):
            [vk.project(mine, seed=seed) for seed in range(100)]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert numba.get_num_threads() == threads
    again = vk.project(mine, seed=1)
    assert again.xy.tobytes() == whole.xy.tobytes()
    np.testing.assert_array_equal(again.kept, whole.kept)


def widths(xy, groups):
    """How wide each group lies: the median distance from its middle."""
    return np.array([np.median(np.linalg.norm(xy[groups == g] - xy[groups == g].mean(axis=0), axis=1)) for g in (0, 1)])


def test_densmap_draws_a_wide_group_wide():
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1], 150)
    vectors = rng.standard_normal((300, 10)) * np.where(groups, 3, 0.3)[:, None] + 50 * groups[:, None]
    mine = embeddings_of(vectors)
    ratio = {}
    for densmap in (False, True):
        layout = vk.project(mine, metric="euclidean", densmap=densmap)
        narrow, wide = widths(layout.xy, groups)
        ratio[densmap] = wide / narrow
        assert layout.provenance["densmap"] is densmap
        assert ("densities as in truth (densMAP)" in layout.summary) is densmap
    assert ratio[False] < 1.3
    assert ratio[True] > 2


def another_layer(vectors, seed=3):
    """The same images as another layer might see them: mixed, and cut off at zero."""
    rng = np.random.default_rng(seed)
    d = vectors.shape[1]
    return np.maximum(0, vectors @ rng.standard_normal((d, 2 * d)) / np.sqrt(d))


def test_an_aligned_map_drifts_at_most_a_quarter_as_far_and_is_as_faithful(digits, layout):
    second = embeddings_of(another_layer(digits.vectors))
    fresh = vk.project(second, seed=1)
    aligned = vk.project(second, seed=1, align_to=layout)
    assert drift(layout.xy, aligned.xy) < drift(layout.xy, fresh.xy) / 4
    assert aligned.kept.mean() > fresh.kept.mean() - 0.01
    # Turned already: no further turn brings it nearer.
    np.testing.assert_allclose(turned(aligned.xy, layout.xy), aligned.xy, atol=1e-3)
    assert aligned.provenance["epochs"] <= fresh.provenance["epochs"] / 2
    assert aligned.provenance["start"] == "another map"
    assert aligned.provenance["aligned_to"]["summary"] == layout.summary
    assert aligned.provenance["aligned_to"]["sha256"] == hashlib.sha256(layout.xy.tobytes()).hexdigest()
    assert "UMAP, seed 1, aligned to another map: 600 points" in aligned.summary
    frames = list(unfolding(second, seed=1, align_to=layout))
    np.testing.assert_allclose(frames[0].xy, layout.xy, atol=1e-4)
    assert frames[-1].xy.tobytes() == aligned.xy.tobytes()
    made = as_layout(second, frames[-1].xy, seed=1, align_to=layout)
    assert made.provenance == aligned.provenance


def test_points_are_aligned_by_id_not_by_row(digits, layout):
    order = np.random.default_rng(0).permutation(600)
    mixed = Embeddings(digits.vectors[order], digits.frame.iloc[order])
    aligned = vk.project(mixed, align_to=layout)
    assert aligned.ids == mixed.ids
    assert drift(layout.xy[order], aligned.xy) < 0.05


def test_a_map_can_be_aligned_to_pca_and_pca_to_a_map(digits, layout):
    pca = vk.project(digits, method="pca")
    on_pca = vk.project(digits, align_to=pca)
    assert on_pca.provenance["epochs"] == layout.provenance["epochs"]  # PCA is no arrangement that epochs are saved by
    assert on_pca.kept.mean() > layout.kept.mean() - 0.02
    turned_pca = vk.project(digits, method="pca", align_to=layout)
    np.testing.assert_allclose(turned_pca.xy, turned(pca.xy, layout.xy), rtol=1e-4, atol=1e-4)


def test_a_map_of_other_images_is_nothing_to_align_to(digits, layout):
    part = Embeddings(digits.vectors[:400], digits.frame.iloc[:400])
    with pytest.raises(InputError, match="align_to has 600 points, 400 of them among these 400 images; expected"):
        vk.project(part, align_to=layout)
    renamed = Embeddings(digits.vectors, digits.frame.set_axis([f"other {i}" for i in range(600)]))
    with pytest.raises(InputError, match="align_to has 600 points, 0 of them among these 600 images"):
        vk.project(renamed, align_to=layout)


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_sets_have_an_aligned_layout_and_one_with_densities(name):
    mine = embeddings_of(DEGENERATE[name])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = vk.project(mine, densmap=True)
        layouts = [first, vk.project(mine, align_to=first), vk.project(mine, align_to=vk.project(mine, method="pca"))]
    for layout in layouts:
        assert layout.xy.shape == (len(mine), 2)
        assert np.isfinite(layout.xy).all()
        assert layout.summary


def test_lines_lead_from_a_point_to_its_true_neighbors(digits, layout):
    row = 17
    drawn = layout.figure(neighbors_of=digits.ids[row]).data
    by_name = {trace.name: trace for trace in drawn if trace.mode == "lines"}
    ends = {}
    for name, trace in by_name.items():
        path = np.c_[trace.x, trace.y].reshape(-1, 3, 2)
        np.testing.assert_array_equal(path[:, 0], np.repeat(layout.xy[row][None], len(path), axis=0))
        ends[name] = {tuple(end) for end in path[:, 1]}
    true = NearestNeighbors(n_neighbors=15, metric="cosine").fit(digits.vectors)
    others = true.kneighbors(return_distance=False)[row]
    assert ends["true neighbor, kept"] | ends["true neighbor, missing"] == {tuple(xy) for xy in layout.xy[others]}
    near = NearestNeighbors(n_neighbors=15).fit(layout.xy).kneighbors(return_distance=False)[row]
    assert ends["true neighbor, kept"] == {tuple(xy) for xy in layout.xy[np.intersect1d(near, others)]}
    assert all(trace.hoverinfo == "skip" for trace in by_name.values())
    assert min(trace.line.width for trace in by_name.values()) >= 2
    assert by_name["true neighbor, kept"].legend == "legend2"
    assert layout.figure(neighbors_of=row).layout.legend2.itemsizing == "trace"  # as thick there as on the map
    rings = next(trace for trace in drawn if trace.name == "false neighbor, near on the map only")
    assert {(x, y) for x, y in zip(rings.x, rings.y, strict=True)} == {
        tuple(xy) for xy in layout.xy[np.setdiff1d(near, others)].astype(float)
    }
    hovered = [trace for trace in drawn if trace.hovertemplate]
    assert sum(len(trace.text) for trace in hovered) == 600
    with pytest.raises(InputError, match="No image has the id 'nobody' here"):
        layout.figure(neighbors_of="nobody")
    with pytest.raises(InputError, match=f"Closest: '{digits.ids[17]}'"):
        layout.figure(neighbors_of=digits.ids[17] + "x")
    assert layout.figure(neighbors_of=np.int64(row)) == layout.figure(neighbors_of=digits.ids[row])
    with pytest.raises(InputError, match=r"given as \[.*expected its id, a string, or its row"):
        layout.figure(neighbors_of=[digits.ids[row]])
    with pytest.raises(InputError, match="There is no row 600: rows go from 0 to 599"):
        layout.figure(neighbors_of=600)


def test_what_a_check_measured_colors_the_map(layout):
    missing = layout.check(sample=None).frame["missing"]
    figure = layout.figure(missing)
    np.testing.assert_array_equal(figure.data[0].marker.color, missing)
    some = layout.check(sample=50).frame["missing"]
    assert [(trace.name, len(trace.x)) for trace in layout.figure(some).data] == [("no value", 550), ("", 50)]


def test_a_shuffled_maps_share_stands_on_the_scale(layout):
    figure = layout.figure("kept")
    assert f"{layout.chance:.1%}<br>by chance" in figure.layout.coloraxis.colorbar.ticktext


def test_a_layout_checks_itself(digits, layout):
    whole = layout.check(sample=None)
    assert whole.kept == pytest.approx(layout.kept.mean(), abs=1e-6)
    some = layout.check(digits.ids[3])
    np.testing.assert_allclose(some.frame["kept"], layout.kept[3:4])
    assert layout.embeddings is digits
    assert len(vk.project(embeddings_of(np.eye(1))).check()) == 1


def test_a_layout_cannot_be_changed_and_keeps_nothing_of_the_callers(digits, layout):
    xy = layout.xy.copy()
    mine = as_layout(digits, xy)
    xy[:] = 0
    np.testing.assert_array_equal(mine.xy, layout.xy)
    for array in (mine.xy, mine.kept, layout.xy, layout.kept):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize("stopped", [7.0, "a", -0.1, float("nan"), True])
def test_a_share_of_the_epochs_is_from_0_to_1(digits, layout, stopped):
    with pytest.raises(InputError, match=r"stopped is .*; expected the `done` of the frame, from 0 to 1"):
        as_layout(digits, layout.xy, stopped=stopped)


def test_positions_of_strings_are_no_layout(digits):
    with pytest.raises(InputError, match="xy holds <U1"):
        as_layout(digits, np.full((600, 2), "a"))


def test_a_map_that_was_stopped_says_so_and_is_not_resumed(digits, layout):
    assert as_layout(digits, layout.xy, stopped=1.0).provenance == layout.provenance
    first = as_layout(digits, next(unfolding(digits)).xy, stopped=0.0)
    assert "PCA, from which UMAP, seed 0 was to start: 600 points" in first.summary
    again = vk.project(digits, align_to=first)
    assert again.provenance["epochs"] == layout.provenance["epochs"]
    assert again.kept.mean() > layout.kept.mean() - 0.02
    on = as_layout(digits, layout.xy, align_to=layout, stopped=0.0)
    assert "Another map, from which UMAP, seed 0, aligned to another map was to start" in on.summary


def test_maps_of_far_vectors_are_drawn_as_those_of_near_ones():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((300, 10)) * np.where(np.arange(300) < 150, 1, 9)[:, None]
    near, far = (
        vk.project(embeddings_of(scale * vectors), metric="euclidean", densmap=True) for scale in (2.0**30, 2.0**80)
    )
    ratios = [np.divide(*widths(x.xy, (np.arange(300) >= 150).astype(int))) for x in (near, far)]
    assert ratios[0] == pytest.approx(ratios[1], rel=0.3)
    assert ratios[0] < 0.7  # densities are drawn at all


def test_a_saved_map_comes_back_byte_for_byte(digits, layout, tmp_path):
    folder = layout.save(tmp_path / "map")
    again = Layout.load(folder, digits)
    assert again.xy.tobytes() == layout.xy.tobytes()
    assert again.kept.tobytes() == layout.kept.tobytes()
    assert again.provenance == layout.provenance
    pd.testing.assert_frame_equal(again.frame, layout.frame)
    assert again.summary == layout.summary
    pd.testing.assert_frame_equal(again.check(sample=50).frame, layout.check(sample=50).frame)
    assert vk.compare_maps(again, layout).agreement == 1
    assert vk.place(again, digits.ids[3]).frame["x"].iloc[0] == layout.xy[3, 0]
    table = pd.read_parquet(folder)  # readable without vizkit
    assert table.columns.tolist() == ["id", "x", "y", "kept"]
    np.testing.assert_array_equal(table[["x", "y"]], layout.xy)
    vk.project(digits, method="pca").save(folder)  # replaced as a whole
    assert Layout.load(folder, digits).provenance["method"] == "pca"
    assert [path.name for path in tmp_path.iterdir()] == ["map"]


def test_a_saved_map_is_of_its_own_vectors(digits, layout, tmp_path):
    folder = layout.save(tmp_path / "map")
    with pytest.raises(InputError, match="has 600 points, 100 of them among these 100 images"):
        Layout.load(folder, digits.subset(range(100)))
    with pytest.raises(InputError, match="600 of them among these 600 images; expected the same ids in the same order"):
        Layout.load(folder, digits.subset(range(599, -1, -1)))
    with pytest.raises(InputError, match="is of other vectors of these images"):
        Layout.load(folder, Embeddings(digits.vectors + 1, digits.frame))
    with pytest.raises(InputError, match="A map is loaded with its Embeddings, not ndarray"):
        Layout.load(folder, digits.vectors)


def test_a_damaged_map_is_refused_and_nothing_else_is_overwritten(digits, layout, tmp_path):
    folder = layout.save(tmp_path / "map")
    content = (folder / "map.parquet").read_bytes()
    (folder / "map.parquet").write_bytes(content[:200] + bytes([content[200] ^ 255]) + content[201:])
    with pytest.raises(StoreError, match=r"map.parquet' is damaged"):
        Layout.load(folder, digits)
    other = vk.project(digits, method="pca").save(tmp_path / "pca")
    shutil.copy(other / "map.parquet", folder)  # whole, but of another map
    with pytest.raises(StoreError, match=r"map.parquet' is damaged"):
        Layout.load(folder, digits)
    (folder / "map.parquet").unlink()
    with pytest.raises(StoreError, match=r"map.parquet is missing"):
        Layout.load(folder, digits)
    layout.save(folder)
    manifest = folder / "_manifest.json"
    manifest.write_text(manifest.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(StoreError, match=r"manifest .* is damaged"):
        Layout.load(folder, digits)
    with pytest.raises(StoreError, match="no vizkit store"):
        Layout.load(tmp_path / "nothing", digits)
    saved = digits.save(tmp_path / "vectors")
    with pytest.raises(StoreError, match="exists and holds no saved map; it is left alone"):
        layout.save(saved)
    with pytest.raises(StoreError, match=r"is saved embeddings: open it with vk.Embeddings.load"):
        Layout.load(saved, digits)
    with pytest.raises(StoreError, match=r"is a saved map: open it with vk.Layout.load"):
        Embeddings.load(layout.save(tmp_path / "other"))
