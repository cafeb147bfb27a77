"""Two maps side by side: what changed is what changed, in any order of the images, beside chance."""

import html
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

import vizkit as vk
from vizkit.alignment import drift
from vizkit.embeddings import Embeddings
from vizkit.errors import InputError
from vizkit.figures import maps_figure

HOSTILE = "<img src=x onerror=alert(1)>"
N, K = 240, 15


def embeddings_of(vectors, ids, **columns):
    columns = {"embedding": list(np.asarray(vectors, np.float32)), **columns}
    return Embeddings.from_frame(pd.DataFrame(columns, index=list(ids)))


@pytest.fixture(scope="module")
def vectors():
    """Two spaces of the same images: all pixels, and the upper half; noise parts ties."""
    images = load_digits().data[:N] + np.random.default_rng(0).random((N, 64)) / 10
    return images, images[:, :32]


@pytest.fixture(scope="module")
def ids():
    return [f"image {i}" for i in range(N)]


@pytest.fixture(scope="module")
def layouts(vectors, ids):
    labels = [HOSTILE if t == 3 else str(t) for t in load_digits().target[:N]]
    return [vk.project(embeddings_of(v, ids, label=labels), method="pca") for v in vectors]


@pytest.fixture(scope="module")
def comparison(layouts):
    return vk.compare_maps(*layouts)


def lists(points, metric="euclidean"):
    return NearestNeighbors(n_neighbors=K, metric=metric).fit(points).kneighbors(return_distance=False)


def changed(a, b):
    return np.array([1 - len(set(x) & set(y)) / K for x, y in zip(a, b, strict=True)])


def test_change_is_what_scikit_learn_counts_on_the_maps_and_in_truth(comparison, layouts, vectors):
    on_maps = changed(*(lists(layout.xy.astype(float)) for layout in layouts))
    in_truth = changed(*(lists(v.astype(np.float32).astype(float), "cosine") for v in vectors))
    np.testing.assert_allclose(comparison.frame["map_change"], on_maps, atol=1e-9)
    np.testing.assert_allclose(comparison.frame["true_change"], in_truth, atol=1e-9)
    assert comparison.agreement == pytest.approx(1 - on_maps.mean())
    assert comparison.overall.loc["true_agreement", "value"] == pytest.approx(1 - in_truth.mean())
    assert 0.1 < on_maps.mean() < 0.95
    assert 0.1 < in_truth.mean() < 0.95


def test_a_turned_mirrored_and_moved_map_has_not_changed(layouts):
    a = layouts[0]
    away = a.xy @ np.array([[0, -1], [1, 0]]) * [-1, 1] + 30
    found = vk.compare_maps(a, replace(a, xy=away.astype(np.float32)))
    assert found.agreement == 1
    assert found.drift == pytest.approx(0, abs=1e-9)
    assert (found.frame[["map_change", "true_change"]] == 0).all(axis=None)
    np.testing.assert_allclose(found.frame[["x_b", "y_b"]], a.xy, atol=1e-3)
    assert "the maps show the same vectors" in found.summary


def test_one_planted_move_is_the_largest_change(layouts):
    a = layouts[0]
    xy = a.xy.copy()
    far = int(np.argmax(np.square(xy - xy[9]).sum(axis=1)))
    xy[9] = xy[far] + 0.01
    found = vk.compare_maps(a, replace(a, xy=xy))
    assert found.most_changed[0] == a.ids[9]
    assert found.frame["map_change"].iloc[9] == 1
    assert (np.diff(found.frame["map_change"][found.most_changed]) <= 0).all()
    assert found.agreement > 0.9


def test_the_order_of_the_images_does_not_matter(comparison, layouts, vectors, ids):
    order = np.random.default_rng(1).permutation(N)
    shuffled = vk.project(embeddings_of(vectors[1][order], [ids[i] for i in order]), method="pca")
    found = vk.compare_maps(layouts[0], shuffled)
    pd.testing.assert_frame_equal(found.frame, comparison.frame, atol=1e-3)
    pd.testing.assert_frame_equal(found.neighbors(ids[7]), comparison.neighbors(ids[7]), atol=1e-5)
    again = vk.project(embeddings_of(vectors[0][order], [ids[i] for i in order]), method="pca")
    assert vk.compare_maps(layouts[0], again).provenance["same vectors"]


def test_it_is_the_same_whichever_map_comes_first(comparison, layouts):
    back = vk.compare_maps(*layouts[::-1])
    for name in ("map_change", "true_change"):
        np.testing.assert_array_equal(back.frame[name], comparison.frame[name])
    np.testing.assert_allclose(back.overall, comparison.overall, atol=1e-9)  # intervals and chance as well


def test_a_shuffled_map_agrees_as_chance_does(layouts):
    a = layouts[0]
    found = vk.compare_maps(a, replace(a, xy=np.random.default_rng(0).permutation(a.xy)))
    row = found.overall.loc["map_agreement"]
    assert row["chance"] == K / (N - 1)
    assert row["value"] == pytest.approx(row["chance"], abs=0.015)
    assert found.drift > 0.95
    assert found.overall.loc["drift", "chance"] == pytest.approx(found.drift, abs=0.05)


def test_intervals_are_those_of_a_plain_bootstrap(comparison, layouts):
    for name, column in (("map_agreement", "map_change"), ("true_agreement", "true_change")):
        values = (1 - comparison.frame[column].to_numpy(),)
        plain = bootstrap(values, np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(5))
        ends = plain.confidence_interval
        np.testing.assert_allclose(comparison.overall.loc[name, ["low", "high"]].astype(float), ends, atol=0.004)
    rng, (a, b) = np.random.default_rng(5), (layout.xy for layout in layouts)
    resampled = [drift(a[rows], b[rows]) for rows in rng.integers(N, size=(1000, N))]
    found = comparison.overall.loc["drift", ["low", "high"]].astype(float)
    np.testing.assert_allclose(found, np.quantile(resampled, [0.025, 0.975]), atol=0.02)
    pd.testing.assert_frame_equal(vk.compare_maps(*layouts).overall, comparison.overall)
    assert not vk.compare_maps(*layouts, seed=1).overall.equals(comparison.overall)


def test_of_equally_near_true_neighbors_any_is_common():
    rng = np.random.default_rng(0)
    copies = np.repeat(rng.normal(size=(3, 6)), 30, axis=0)
    parted = copies + rng.normal(size=copies.shape) / 100  # who is nearest in a group is settled here, and only here
    names = [f"{i:02d}" for i in range(90)]
    a, b = (vk.project(embeddings_of(v, names), method="pca") for v in (copies, parted))
    backwards = vk.project(embeddings_of(np.c_[copies, copies][::-1], names[::-1]), method="pca")
    for pair in ((a, b), (b, a), (a, backwards)):
        found = vk.compare_maps(*pair, k=5)
        assert not found.provenance["same vectors"]
        assert (found.frame["true_change"] == 0).all()


def test_neighbors_of_an_image_stayed_left_came_or_are_near_in_truth_only(comparison, layouts, vectors, ids):
    for row in (0, 100, N - 1):
        found = comparison.neighbors(ids[row])
        near = [set(lists(layout.xy.astype(float))[row]) for layout in layouts]
        true = [set(lists(v.astype(np.float32).astype(float), "cosine")[row]) for v in vectors]
        expected = {
            "stayed": near[0] & near[1],
            "left": near[0] - near[1],
            "came": near[1] - near[0],
            "neither": (true[0] | true[1]) - near[0] - near[1],
        }
        for kind, rows in expected.items():
            assert set(found.index[found["kind"] == kind]) == {ids[i] for i in rows}
        for name, neighbors in zip("ab", true, strict=True):
            assert set(found.index[found[f"true_rank_{name}"] <= K]) == {ids[i] for i in neighbors}
        assert len(expected["stayed"]) / K == pytest.approx(1 - comparison.frame["map_change"].iloc[row])
        assert (found["label"] == layouts[0].frame["label"][found.index]).all()
        a = layouts[0].embeddings
        cosine = vk.neighbors(a, ids[row], k=N - 1).set_index("id")["similarity"]
        np.testing.assert_allclose(found["similarity_a"], cosine[found.index], atol=1e-12)


def test_the_figure_shows_both_maps_on_one_scale_with_texts_of_strangers_as_text(comparison):
    figure = comparison.figure()
    left, right = figure.data
    frame = comparison.frame
    for trace, name in ((left, "a"), (right, "b")):
        drawn = pd.DataFrame({"x": trace.x, "y": trace.y, "change": trace.marker.color, "text": trace.text})
        expected = frame.iloc[np.argsort(frame["map_change"], kind="stable")]
        np.testing.assert_array_equal(drawn["x"], expected[f"x_{name}"])
        np.testing.assert_array_equal(drawn["change"], expected["map_change"])
        assert all(text.startswith(f"<b>{id}</b>") for text, id in zip(drawn["text"], expected.index, strict=True))
    assert f"map neighbors changed: {left.marker.color[0]:.0%}" in left.text[0]
    numbered = maps_figure(frame.assign(label=7), ("", ""), "").data[0].text[0]
    assert "label: 7<br>" in numbered
    assert f"label: {frame['label'][expected.index[5]]}".replace(HOSTILE, "&lt;img") in left.text[5]
    layout = figure.layout
    for one, other in ((layout.xaxis, layout.xaxis2), (layout.yaxis, layout.yaxis2)):
        assert one.range == other.range
    for axis, columns in ((layout.xaxis, ["x_a", "x_b"]), (layout.yaxis, ["y_a", "y_b"])):
        assert axis.range[0] < frame[columns].min(axis=None)
        assert axis.range[1] > frame[columns].max(axis=None)
    assert (layout.xaxis.range[1] - layout.xaxis.range[0]) == pytest.approx(
        layout.yaxis.range[1] - layout.yaxis.range[0]
    )
    assert "<img" not in figure.to_json().replace("\\u003c", "<")
    assert "&lt;img" in figure.to_json().replace("\\u0026", "&")


def test_both_maps_take_any_color_on_one_scale_or_one_legend(comparison, layouts):
    frame = comparison.frame
    by_number = comparison.figure("true_change")
    axis = by_number.layout.coloraxis
    assert (axis.cmin, axis.cmax, axis.colorbar.title.text) == (0, 1, "true neighbors changed")
    assert f"{1 - K / (N - 1):.1%}<br>by chance" in axis.colorbar.ticktext
    assert sorted(by_number.data[0].marker.color) == sorted(frame["true_change"])
    by_label = comparison.figure("label").data
    left, right = ([trace for trace in by_label if trace.xaxis == axis] for axis in ("x", "x2"))
    assert [trace.name for trace in left] == [trace.name for trace in right]
    assert all(trace.showlegend for trace in left)
    assert not any(trace.showlegend for trace in right)
    for one, other in zip(left, right, strict=True):
        assert one.marker.color == other.marker.color
        assert one.legendgroup == other.legendgroup
        rows = frame["label"] == html.unescape(one.name)
        assert sorted(one.x) == sorted(frame.loc[rows, "x_a"])
        assert sorted(other.x) == sorted(frame.loc[rows, "x_b"])
    kept = comparison.figure(layouts[0].frame["kept"].iloc[:100])
    assert [len(trace.x) for trace in kept.data] == [140, 100] * 2
    with pytest.raises(InputError, match="No column 'labl' to color by"):
        comparison.figure("labl")


def test_a_long_name_of_a_map_loses_its_middle(comparison):
    drawn = maps_figure(comparison.frame, ("features.18.0." * 9 + "end", "b"), "")
    assert re.fullmatch(r"a: features.*….*end", drawn.layout.annotations[0].text)
    assert len(drawn.layout.annotations[0].text) < 60


def test_a_map_of_another_width_is_drawn_at_its_own_scale_and_the_figure_says_so(layouts):
    a = layouts[0]
    figure = vk.compare_maps(a, replace(a, xy=a.xy / 100)).figure()
    assert figure.layout.xaxis.range[1] > 50 * figure.layout.xaxis2.range[1]
    assert all("(at its own scale)" in note.text for note in figure.layout.annotations)


def test_maps_are_named_by_what_they_differ_in(layouts, comparison):
    a = layouts[0]
    assert comparison.names == ("PCA", "PCA")
    other = replace(a, provenance=a.provenance | {"seed": 4, "metric": "euclidean"})
    assert vk.compare_maps(a, other).names == ("PCA, metric cosine", "PCA, metric euclidean")  # PCA has no seed
    one, two = (replace(a, provenance=a.provenance | {"method": "umap", "seed": seed}) for seed in (0, 5))
    assert vk.compare_maps(one, two).names == ("UMAP, seed 0", "UMAP, seed 5")
    assert vk.compare_maps(one, a).names == ("UMAP", "PCA")
    turned = replace(two, provenance=two.provenance | {"aligned_to": {"summary": "", "sha256": ""}, "stopped": 0.25})
    assert vk.compare_maps(one, turned).names == ("UMAP, seed 0", "UMAP, seed 5, aligned, stopped at 25%")
    cards = [{"network": "resnet18", "weights": HOSTILE, "layer": layer} for layer in ("layer1", "layer4")]
    spaces = [replace(a.embeddings, provenance={"card": card}) for card in cards]
    found = vk.compare_maps(*(replace(a, embeddings=space) for space in spaces))
    assert found.names == ("layer1, PCA", "layer4, PCA")
    assert found.provenance["same vectors"]
    named = replace(a.embeddings, provenance={"card": {"network": HOSTILE}})
    hostile = vk.compare_maps(a, replace(a, embeddings=named))
    assert "<img" not in hostile._repr_html_()
    assert "<img" not in hostile.figure().to_json().replace("\\u003c", "<")


def test_the_words_give_chance_and_interval(comparison):
    row = comparison.overall.loc["map_agreement"]
    said = f"{row['value']:.1%} (95% interval {row['low']:.1%} to {row['high']:.1%}, by chance {row['chance']:.1%})"
    assert f"Of the 15 nearest neighbors on one map the other has {said}" in comparison.summary
    assert f"Drift {comparison.drift:.3f}" in repr(comparison)
    assert row["low"] < row["value"] < row["high"]


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_small_sets_are_compared_too(n):
    rng = np.random.default_rng(n)
    a, b = (vk.project(embeddings_of(rng.random((n, 4)), "abcde"[:n]), method="pca") for _ in range(2))
    found = vk.compare_maps(a, b)
    assert found.agreement == 1  # everybody is everybody's neighbor
    assert found.overall.notna().all(axis=None)
    assert 0 <= found.drift <= 1
    assert len(found.neighbors("a")) == n - 1
    assert len(found.figure().data) == 2
    assert found.summary


def test_maps_of_other_images_are_refused(layouts, ids):
    few = vk.project(embeddings_of(np.eye(5), [*ids[:3], "extra", HOSTILE]), method="pca")
    said = r"237 of 240 images are on map a alone \('image 3'.*; 2 of 5 images are on map b alone \('extra'"
    with pytest.raises(InputError, match=said):
        vk.compare_maps(layouts[0], few)
    with pytest.raises(InputError, match="b is of type Embeddings; expected a Layout, what `project` returns"):
        vk.compare_maps(layouts[0], layouts[0].embeddings)
    with pytest.raises(InputError, match="k is 0; expected a whole number"):
        vk.compare_maps(*layouts, k=0)
    with pytest.raises(InputError, match="seed is -1"):
        vk.compare_maps(*layouts, seed=-1)
    with pytest.raises(InputError, match="No image has the id 'nobody'"):
        vk.compare_maps(*layouts).neighbors("nobody")
    with pytest.raises(InputError, match=r"An image is given as \['a'\]; expected its id"):
        vk.compare_maps(*layouts).neighbors(["a"])


def test_images_in_another_order_give_the_same_both_ways(layouts, vectors, ids):
    order = np.random.default_rng(1).permutation(N)
    shuffled = vk.project(embeddings_of(vectors[1][order], [ids[i] for i in order]), method="pca")
    there, back = vk.compare_maps(layouts[0], shuffled), vk.compare_maps(shuffled, layouts[0])
    np.testing.assert_allclose(back.overall, there.overall, atol=1e-9)
    pd.testing.assert_frame_equal(there.neighbors(7), there.neighbors(ids[7]))
