"""`place`: positions against umap's own transform, unusualness against scikit-learn and SciPy in double precision."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist
from scipy.stats import kstest, percentileofscore
from sklearn.neighbors import NearestNeighbors

import vizkit as vk
from vizkit.embeddings import Embeddings
from vizkit.errors import ImageReadError, InputError, MissingEncoderError

K = 15


def embeddings_of(vectors, **columns):
    vectors = np.asarray(vectors, np.float32)
    ids = [f"image-{i:03}" for i in range(len(vectors))]
    return Embeddings.from_frame(pd.DataFrame({"id": ids, "embedding": list(vectors), **columns}))


def distances(vectors, members=None, *, metric="cosine"):
    """Return the distance (m,) to the nearest member, or of members to the nearest other: by scikit-learn."""
    near = NearestNeighbors(metric=metric, algorithm="brute").fit(
        (vectors if members is None else members).astype(float)
    )
    # Without vectors, scikit-learn leaves each member out of its own list.
    asked = {} if members is None else {"X": vectors.astype(float)}
    return near.kneighbors(n_neighbors=1, **asked)[0][:, 0]


def kept(xy, positions, true):
    """Return the share (m,) of true neighbors, rows (m, k), that are among the k map points nearest to a position."""
    near = KDTree(xy).query(positions, k=true.shape[1])[1]
    return np.array([len(set(a) & set(b)) / len(b) for a, b in zip(near, true, strict=True)])


def rank_of_own(xy, positions):
    """Return how many points of the map are as near to a position as its own point, itself included."""
    own = np.linalg.norm(positions - xy, axis=1)
    return (np.linalg.norm(positions[:, None] - xy[None], axis=2) <= own[:, None]).sum(axis=1)


@pytest.fixture(scope="module")
def gaussian():
    """400 of one cloud, flat in 6 of 12 dimensions, mapped by PCA; and 400 new ones of the same cloud."""
    vectors = np.random.default_rng(5).standard_normal((800, 12)) * np.repeat([1, 0.2], 6) + 0.5
    vectors = vectors.astype(np.float32)
    layout = vk.project(embeddings_of(vectors[:400], label=[f"class {i % 3}" for i in range(400)]), method="pca")
    return layout, vectors[:400], vectors[400:]


@pytest.fixture(scope="module")
def scenes(own_cache_folder):
    """A UMAP of 300 scenes, and 100 others as embeddings."""
    images, encoder = vk.scenes("held-out"), vk.Encoder("scenes")
    layout = vk.project(vk.embed(images.subset(range(300)), encoder, progress=False))
    return layout, vk.embed(images.subset(range(300, 400)), encoder, progress=False)


@pytest.mark.parametrize(("metric", "k"), [("cosine", 15), ("euclidean", 15), ("cosine", 4)])
def test_unusualness_is_the_percentile_that_scikit_learn_and_scipy_count(gaussian, metric, k):
    _, members, new = gaussian
    layout = vk.project(embeddings_of(members), method="pca", metric=metric, n_neighbors=k)
    placed = vk.place(layout, new[:60])
    asked = distances(new[:60], members, metric=metric)
    np.testing.assert_allclose(placed.frame["distance"], asked, rtol=1e-9)
    expected = percentileofscore(distances(members, metric=metric), asked, kind="mean")
    np.testing.assert_allclose(placed.frame["unusualness"], expected, atol=1e-9)
    assert np.ptp(placed.frame["unusualness"]) > 50


def test_a_member_asked_by_id_is_judged_among_the_others_and_lies_where_it_lay(gaussian):
    layout, members, _ = gaussian
    placed = vk.place(layout, layout.ids[:50])
    own = distances(members)
    expected = [percentileofscore(np.delete(own, i), own[i], kind="mean") for i in range(50)]
    np.testing.assert_allclose(placed.frame["unusualness"], expected, atol=1e-9)
    np.testing.assert_allclose(placed.frame["distance"], own[:50], rtol=1e-9)
    np.testing.assert_array_equal(placed.xy, layout.xy[:50])
    assert not (placed.neighbors["query"] == placed.neighbors["id"]).any()
    by_row = vk.place(layout, [3])
    assert by_row.frame.iloc[0].equals(vk.place(layout, layout.ids[3]).frame.iloc[0])


def test_all_members_together_have_mean_unusualness_50_and_median_spread_1(gaussian):
    layout, _, _ = gaussian
    frame = vk.place(layout, layout.ids).frame
    assert frame["unusualness"].mean() == pytest.approx(50)
    assert frame["spread"].median() == pytest.approx(1)


def test_ties_count_by_half():
    # Ten vectors twice each: every member's distance is 0, and so is that of a copy.
    members = embeddings_of(np.repeat(np.random.default_rng(0).random((10, 4)), 2, axis=0))
    layout = vk.project(members, method="pca", n_neighbors=2)
    placed = vk.place(layout, [members.vectors[4], members.vectors[4] * [1, 1, 1, 9]])
    assert placed.frame["unusualness"].tolist() == [50, 100]
    by_id = vk.place(layout, members.ids)
    assert by_id.frame["unusualness"].tolist() == [50] * 20
    assert "equal" not in by_id.summary


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_farther_out_the_more_unusual(metric):
    rng = np.random.default_rng(0)
    members, new = 5 + rng.standard_normal((400, 512)), rng.standard_normal((40, 512))
    layout = vk.project(embeddings_of(members), method="pca", metric=metric)
    found = [vk.place(layout, (5 + far * new).astype(np.float32)).frame["unusualness"] for far in (0.3, 1, 2, 3)]
    medians = [values.median() for values in found]
    assert medians == sorted(medians)
    assert found[0].max() < 5 < 25 < medians[1] < 75 < 99 < found[2].min() <= found[3].min()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_nearly_parallel_vectors_are_told_apart_as_in_double_precision(metric):
    vectors = (1 + 1e-4 * np.random.default_rng(0).standard_normal((350, 64))).astype(np.float32)
    members, new = vectors[:300].astype(float), vectors[300:].astype(float)
    if metric == "cosine":  # |u - v|**2 / 2 of unit vectors: 1 - cosine without the loss of digits
        members, new = (x / np.linalg.norm(x, axis=1)[:, None] for x in (members, new))
    own, far = cdist(members, members), cdist(new, members).min(axis=1)
    np.fill_diagonal(own, np.inf)
    placed = vk.place(vk.project(embeddings_of(vectors[:300]), method="pca", metric=metric), vectors[300:])
    expected = percentileofscore(own.min(axis=1), far, kind="mean")
    np.testing.assert_allclose(placed.frame["unusualness"], expected, atol=1e-9)
    assert "equal" not in placed.summary
    assert len(np.unique(placed.xy, axis=0)) == 50


def test_a_member_that_is_far_off_blinds_no_other():
    vectors = np.random.default_rng(0).standard_normal((400, 20)).astype(np.float32)
    vectors[0] *= 1e9
    layout = vk.project(embeddings_of(vectors[:300]), method="pca", metric="euclidean")
    own = cdist(vectors[:300].astype(float), vectors[:300].astype(float))
    np.fill_diagonal(own, np.inf)
    far = cdist(vectors[300:].astype(float), vectors[:300].astype(float)).min(axis=1)
    found = vk.place(layout, vectors[300:]).frame["unusualness"]
    assert found.std() > 20
    np.testing.assert_allclose(found, percentileofscore(own.min(axis=1), far, kind="mean"), atol=1e-9)


def test_new_images_of_the_same_kind_are_uniform_and_others_are_not(gaussian):
    layout, _, new = gaussian
    same = vk.place(layout, new).frame["unusualness"]
    assert kstest(same / 100, "uniform").statistic < 0.1  # two sets of 400 of one kind: below 0.096 in 95 of 100
    assert (same > 95).mean() == pytest.approx(0.05, abs=0.04)
    other = vk.place(layout, new[:50, ::-1]).frame["unusualness"]  # spread where the members are not
    assert (other > 95).mean() > 0.8
    # Pulled towards the middle, an image is nearer to its neighbors than members are: most usual by Euclid.
    by_euclid = vk.project(layout.embeddings, method="pca", metric="euclidean")
    assert vk.place(by_euclid, 0.2 * new[:50] + 0.4).frame["unusualness"].median() < 15


def test_neighbors_are_those_of_vk_neighbors(gaussian):
    layout, _, new = gaussian
    placed = vk.place(layout, new[:7])
    pd.testing.assert_frame_equal(
        placed.neighbors.drop(columns="query"),
        vk.neighbors(layout.embeddings, new[:7], k=K).drop(columns="query"),
    )
    first = placed.neighbors[placed.neighbors["rank"] == 1]
    assert placed.frame["nearest"].tolist() == first["id"].tolist()
    assert placed.frame["similarity"].tolist() == first["similarity"].tolist()
    assert first["query"].tolist() == placed.frame["query"].tolist()


def test_many_at_once_are_each_as_alone(gaussian):
    layout, _, new = gaussian
    together = vk.place(layout, new)
    for i in (0, 17, 399):
        alone = vk.place(layout, new[i])
        np.testing.assert_array_equal(alone.xy[0], together.xy[i])
        assert alone.frame.iloc[0].drop("query").equals(together.frame.iloc[i].drop("query"))


def test_images_that_share_a_name_are_numbered(gaussian):
    layout, _, new = gaussian
    placed = vk.place(layout, [new[0], layout.ids[2], new[1], layout.ids[2]])
    assert placed.frame["query"].tolist() == ["vector", layout.ids[2], "vector (2)", layout.ids[2]]


def test_members_that_are_called_vector_are_not_mixed_up_with_vectors():
    vectors = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)
    ids = ["vector", "vector (2)", "image", *(str(i) for i in range(37))]
    members = Embeddings(vectors, pd.DataFrame(index=ids))
    layout = vk.project(members, method="pca", n_neighbors=6)
    asked = ["vector", -vectors[0], -vectors[3], "vector (2)"]
    placed = vk.place(layout, asked)
    assert placed.frame["query"].tolist() == ["vector", "vector (3)", "vector (4)", "vector (2)"]
    for table in (placed.neighbors, vk.neighbors(members, asked, k=6)):
        for one, (name, near) in zip(asked, table.groupby("query", sort=False)["id"], strict=True):
            assert near.tolist() == vk.neighbors(members, one, k=len(near))["id"].tolist(), name
    # A new set may have the ids of members: its neighbors are its own all the same.
    turned = vk.place(layout, Embeddings(-vectors, pd.DataFrame(index=ids)))
    assert turned.frame["query"].tolist() == ids
    drawn = [trace for trace in turned.figure(neighbors_of="image").data if trace.mode == "lines"]
    ends = np.concatenate([np.c_[trace.x, trace.y].reshape(-1, 3, 2)[:, 1] for trace in drawn])
    true = NearestNeighbors(n_neighbors=layout.k, metric="cosine").fit(vectors).kneighbors(-vectors[2:3])[1][0]
    assert {tuple(end) for end in ends} == {tuple(layout.xy[row]) for row in true}


def test_mapped_vectors_land_on_themselves_and_near_copies_close_by(scenes):
    layout, _ = scenes
    vectors = layout.embeddings.vectors
    assert np.median(rank_of_own(layout.xy, vk.place(layout, vectors).xy)) <= 5
    noise = np.random.default_rng(0).standard_normal(vectors.shape)
    near = vectors + 0.02 * noise * np.linalg.norm(vectors, axis=1)[:, None] / np.sqrt(vectors.shape[1])
    found = rank_of_own(layout.xy, vk.place(layout, near.astype(np.float32)).xy)
    shuffled = rank_of_own(layout.xy, vk.place(layout, np.roll(near, 1, axis=0).astype(np.float32)).xy)
    assert np.median(found) <= 20 < 100 < np.median(shuffled)


@pytest.mark.filterwarnings("ignore")  # umap's own: that a seed means one thread
def test_new_images_keep_the_neighbors_that_umaps_own_transform_keeps(scenes):
    import umap

    layout, new = scenes
    reducer = umap.UMAP(n_neighbors=K, metric="cosine", random_state=0).fit(layout.embeddings.vectors)
    theirs = replace(layout, xy=reducer.embedding_)
    near = NearestNeighbors(n_neighbors=K, metric="cosine", algorithm="brute").fit(layout.embeddings.vectors)
    true = near.kneighbors(new.vectors, return_distance=False)
    ours = kept(theirs.xy, vk.place(theirs, new).xy, true).mean()
    assert ours > kept(theirs.xy, reducer.transform(new.vectors), true).mean() - 0.02
    assert ours > 5 * K / 300


def test_an_image_between_two_islands_lies_on_one_of_them_and_its_spread_says_so():
    rng = np.random.default_rng(0)
    centers = np.repeat(np.eye(2, 20) * 6, 40, axis=0)
    members = embeddings_of(centers + 0.5 * rng.standard_normal((80, 20)))
    islands = np.repeat([[0.0, 0.0], [50.0, 0.0]], 40, axis=0) + rng.standard_normal((80, 2))
    layout = replace(vk.project(members, method="pca"), xy=islands.astype(np.float32))
    between = np.eye(2, 20).sum(axis=0) * 3 + 0.1 * rng.standard_normal((30, 20))
    placed = vk.place(layout, between.astype(np.float32))
    first = placed.neighbors["id"] < "image-040"
    of_both = first.groupby(placed.neighbors["query"]).mean().between(0.2, 0.8)
    assert of_both.mean() > 0.8  # their neighbors do lie on both
    assert KDTree(islands).query(placed.xy)[0].max() < 2
    assert placed.frame["spread"].median() > 5
    assert vk.place(layout, members.vectors + 0.01).frame["spread"].max() < 3


def test_a_set_of_images_goes_through_the_maps_encoder_and_failures_are_listed(scenes, tmp_path):
    layout, new = scenes
    folder = tmp_path / "new"
    folder.mkdir()
    images = vk.scenes("held-out")
    for row in (300, 301):
        images[row].save(folder / f"{row}.png")
    (folder / "broken.png").write_bytes(b"no image")
    placed = vk.place(layout, vk.ImageSet.from_folder(folder))
    assert placed.frame["query"].tolist() == ["300.png", "301.png"]
    assert placed.failures["id"].tolist() == ["broken.png"]
    assert "1 gave no vector" in placed.summary
    expected = vk.place(layout, new)
    np.testing.assert_allclose(placed.xy, expected.xy[:2], atol=1e-3)
    assert placed.frame["nearest"].tolist() == expected.frame["nearest"][:2].tolist()
    assert placed.frame["path"].tolist() == [str(folder / "300.png"), str(folder / "301.png")]
    alone = vk.place(layout, folder / "300.png")
    assert alone.frame["nearest"].tolist() == expected.frame["nearest"][:1].tolist()
    listed = vk.place(layout, [folder / "300.png", folder / "broken.png", layout.ids[0]])
    assert listed.frame["query"].tolist() == [str(folder / "300.png"), layout.ids[0]]
    assert listed.failures[["id", "path"]].values.tolist() == [[str(folder / "broken.png")] * 2]
    assert listed.failures["reason"][0] in placed.failures["reason"][0]
    assert "broken.png' cannot be read" in listed.failures["reason"][0]
    assert "1 gave no vector: see failures." in listed.summary
    with pytest.raises(ImageReadError, match=r"broken\.png"):
        vk.place(layout, folder / "broken.png")
    with pytest.raises(InputError, match=r"None of the images gave a vector.*broken\.png"):
        vk.place(layout, [folder / "broken.png"])
    (folder / "300.png").unlink()
    (folder / "301.png").unlink()
    with pytest.warns(UserWarning, match="None of the 1 images"), pytest.raises(InputError, match="None of the images"):
        vk.place(layout, vk.ImageSet.from_folder(folder))


def test_a_new_scene_is_usual_and_a_blank_picture_is_not(scenes):
    layout, new = scenes
    assert 30 < vk.place(layout, new).frame["unusualness"].median() < 70
    placed = vk.place(layout, [Image.new("RGB", (64, 64), color) for color in ("red", "gray", "navy", "white", "tan")])
    assert placed.frame["query"].tolist() == ["image", *(f"image ({i})" for i in range(2, 6))]
    assert placed.frame["unusualness"].min() > 95
    assert "100% are beyond 95 (5% expected; 95% interval 57% to 100%)" in placed.summary


def test_columns_of_the_new_set_stand_beside(scenes):
    layout, new = scenes
    frame = vk.place(layout, new).frame
    assert list(frame)[:8] == ["query", "x", "y", "unusualness", "distance", "nearest", "similarity", "spread"]
    np.testing.assert_array_equal(frame["distance"], 1 - frame["similarity"])
    assert frame["shape"].tolist() == new.frame["shape"].tolist()
    assert "x_" in frame  # the scenes have a column x of their own


def test_vectors_of_another_encoder_are_refused(scenes):
    layout, _ = scenes
    images = vk.scenes("held-out").subset(range(3))
    other = vk.embed(images, vk.Encoder("scenes", weights=None, seed=1), progress=False)
    with pytest.raises(
        InputError, match=r"made by the encoder \w+, those of the images by \w+: .*Use the same weights"
    ):
        vk.place(layout, other)
    mine = embeddings_of(other.vectors)  # nobody knows whose: the length is all that can be compared
    assert len(vk.place(layout, mine)) == 3
    with pytest.raises(InputError, match=r"vectors \(5,\), the map's \(128,\)"):
        vk.place(layout, embeddings_of(np.eye(5)))
    retrained = vk.Encoder("scenes", weights=None, seed=1)
    changed = Embeddings(
        layout.embeddings.vectors, layout.embeddings.frame, encoder=retrained, provenance=layout.embeddings.provenance
    )
    with pytest.raises(InputError, match="made by the encoder"):
        vk.place(replace(layout, embeddings=changed), images)


def test_what_cannot_be_placed_is_refused_in_words(gaussian):
    layout, _, new = gaussian
    with pytest.raises(InputError, match="map is given as Embeddings; expected a Layout"):
        vk.place(layout.embeddings, new)
    with pytest.raises(MissingEncoderError, match="Placing images that are not on the map needs the network"):
        vk.place(layout, vk.scenes("held-out").subset([0]))
    with pytest.raises(InputError, match="neither an id of this set nor a file"):
        vk.place(layout, "image-9999")
    with pytest.raises(InputError, match="shape"):
        vk.place(layout, new[0, :5])
    with pytest.raises(InputError, match="NaN"):
        vk.place(layout, np.full(12, np.nan, np.float32))
    with pytest.raises(InputError, match="list of queries is empty"):
        vk.place(layout, [])
    with pytest.raises(InputError, match="None of the images gave a vector"):
        vk.place(layout, embeddings_of(np.zeros((0, 12))))


@pytest.mark.parametrize("vectors", [np.ones((1, 4)), np.eye(2, 4), np.ones((30, 4)), np.zeros((20, 4)), np.eye(4)])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_degenerate_maps_place_what_they_can(vectors, metric):
    members = embeddings_of(vectors)
    layout = vk.project(members, metric=metric)
    placed = vk.place(layout, [np.full(4, 0.3), members.vectors[0], members.ids[0]])
    assert np.isfinite(placed.xy).all()
    low, high = layout.xy.min(axis=0), layout.xy.max(axis=0)
    assert ((placed.xy >= low - 1e-6) & (placed.xy <= high + 1e-6)).all()
    np.testing.assert_array_equal(placed.xy[2], layout.xy[0])
    values = placed.frame["unusualness"]
    assert values.isna().all() if len(members) == 1 else values.between(0, 100).all()
    assert f"3 images placed among {len(members)}" in placed.summary


def test_a_map_of_one_says_what_is_near_and_judges_nothing():
    layout = vk.project(embeddings_of(np.ones((1, 4))))
    placed = vk.place(layout, [layout.ids[0], np.arange(4.0)])
    assert placed.frame["nearest"].tolist() == [None, "image-000"]
    assert placed.neighbors["query"].tolist() == ["vector"]
    assert placed.frame["distance"].tolist() == pytest.approx([np.nan, 1 - 3 / np.sqrt(14)], nan_ok=True)
    assert placed.frame[["unusualness", "spread"]].isna().all(axis=None)


def test_the_figure_marks_the_new_ones_on_the_map(gaussian):
    layout, _, new = gaussian
    placed = vk.place(layout, np.concatenate([new[:5], -new[:5]]))
    figure = placed.figure()
    marks = {trace.name: trace for trace in figure.data if trace.name and trace.name.startswith("new")}
    beyond = (placed.frame["unusualness"] > 95).to_numpy()
    assert 0 < beyond.sum() < 10
    filled = marks["new, unusualness beyond 95"]
    np.testing.assert_array_equal(np.c_[filled.x, filled.y], placed.xy[beyond])
    hollow = marks["new, up to 95"]
    np.testing.assert_array_equal(np.c_[hollow.x, hollow.y], placed.xy[~beyond])
    assert filled.marker.size > 10
    assert filled.marker.line.width == 2
    assert filled.marker.color != hollow.marker.color
    assert "unusualness" in filled.text[0]
    assert sum(len(trace.x) for trace in figure.data if trace.mode == "markers") == 410
    colors = {trace.marker.color for trace in figure.data if trace.name and trace.name.startswith("class")}
    assert len(colors) == 3
    with pytest.raises(InputError, match="No column 'nothing' to color by"):
        placed.figure("nothing")


def test_without_labels_the_map_is_gray_and_lines_go_to_the_neighbors():
    layout = vk.project(embeddings_of(np.random.default_rng(0).random((40, 5))), method="pca", n_neighbors=6)
    placed = vk.place(layout, [np.ones(5), np.zeros(5)])
    figure = placed.figure(neighbors_of="vector (2)")
    assert figure.data[0].marker.color == "#B0B0B0"
    lines = {trace.name: np.c_[trace.x, trace.y].reshape(-1, 3, 2) for trace in figure.data if trace.mode == "lines"}
    drawn = np.concatenate([lines["true neighbor, kept"], lines["true neighbor, missing"]])
    np.testing.assert_array_equal(drawn[:, 0], np.tile(placed.xy[1], (layout.k, 1)))
    ids = placed.neighbors.loc[placed.neighbors["query"] == "vector (2)", "id"]
    ends = layout.frame.loc[ids, ["x", "y"]].to_numpy()
    assert {tuple(end) for end in drawn[:, 1]} == {tuple(end) for end in ends}
    nearest = np.sort(np.linalg.norm(layout.xy - placed.xy[1], axis=1))[layout.k - 1]
    np.testing.assert_array_equal(
        np.linalg.norm(ends - placed.xy[1], axis=1) <= nearest,
        [tuple(end) in {tuple(one) for one in lines["true neighbor, kept"][:, 1]} for end in ends],
    )
    false = next(trace for trace in figure.data if trace.name == "false neighbor, near on the map only")
    near = np.argsort(np.linalg.norm(layout.xy - placed.xy[1], axis=1))[: layout.k]
    assert set(layout.frame.index[near]) - set(ids) == {
        layout.frame.index[np.hypot(layout.xy[:, 0] - x, layout.xy[:, 1] - y).argmin()]
        for x, y in zip(false.x, false.y, strict=True)
    }
    assert placed.figure(neighbors_of=1) == figure
    with pytest.raises(InputError, match="No query 'else' was placed; there are 'vector', 'vector \\(2\\)'"):
        placed.figure(neighbors_of="else")
    with pytest.raises(InputError, match="There is no row 2: rows go from 0 to 1"):
        placed.figure(neighbors_of=2)
    with pytest.raises(InputError, match="neighbors_of is of type list; expected one query or one row"):
        placed.figure(neighbors_of=[0])


def test_members_have_a_mark_of_their_own_and_unusualness_colors_the_new_ones(gaussian):
    layout, _, new = gaussian
    placed = vk.place(layout, [layout.ids[3], *new[:4], layout.ids[8]])
    marks = {trace.name: len(trace.x) for trace in placed.figure().data if trace.legend == "legend2"}
    assert marks["member"] == 2
    assert sum(marks.values()) == 6
    colored = {trace.name: trace for trace in placed.figure("unusualness").data}
    np.testing.assert_array_equal(colored["new"].marker.color, placed.frame["unusualness"][1:5])
    np.testing.assert_array_equal(colored["member"].marker.color, placed.frame["unusualness"][[0, 5]])
    assert placed.figure("kept").layout.coloraxis.colorbar.title.text == "neighbors kept"  # the map's own


def test_names_of_strangers_are_text_wherever_they_are_shown():
    hostile = "<img src=x onerror=alert(1)>"
    layout = vk.project(embeddings_of(np.random.default_rng(0).random((20, 5)), label=[hostile] * 20), method="pca")
    new = Embeddings(np.ones((1, 5), np.float32), pd.DataFrame({"label": [hostile]}, index=[hostile]))
    placed = vk.place(layout, new)
    shown = placed._repr_html_()
    assert hostile not in shown
    assert "&lt;img" in shown
    for trace in placed.figure().data:
        assert not any("<img" in text for text in (trace.text if trace.text is not None else []))
        assert "<img" not in (trace.name or "")


def test_the_summary_says_what_is_expected_beside(gaussian):
    layout, _, new = gaussian
    one = vk.place(layout, new[0, ::-1])
    assert repr(one) == (
        "<Placement: 1 image placed among 400, 100.0% of which lie nearer to their own nearest (of an image like them "
        "50% is expected). Nothing says that the vectors are of the map's encoder.>"
    )
    text = vk.place(layout, new).summary
    assert text.startswith("400 images placed among 400: median unusualness ")
    assert "5% expected; 95% interval" in text


def test_new_images_that_equal_a_member_are_counted(scenes, tmp_path):
    layout, new = scenes
    images = vk.scenes("held-out")
    files = []
    for row in (3, 8):
        files.append(tmp_path / f"{row}.png")
        images[row].save(files[-1])
    images[350].save(tmp_path / "new.png")
    # Alone, an image's vector differs in the last bits from that out of a batch.
    placed = vk.place(layout, [*files, tmp_path / "new.png", layout.ids[3]])
    assert placed.frame["nearest"][:2].tolist() == [layout.ids[3], layout.ids[8]]
    assert placed.frame["unusualness"][:2].max() < 1
    np.testing.assert_array_equal(placed.xy[:2], layout.xy[[3, 8]])
    words = "of these equal a member: ask by id to judge members among the others."
    assert f"2 {words}" in placed.summary
    assert f"2 {words}" in repr(placed)
    assert "1 of these equals a member:" in vk.place(layout, files[0]).summary
    assert f"300 {words}" in vk.place(layout, layout.embeddings).summary
    assert f"300 {words}" in vk.place(layout, images.subset(range(300))).summary
    for asked in (new, layout.ids, images.subset(range(300, 310))):
        summary = vk.place(layout, asked).summary
        assert "a member" not in summary
        assert "Nothing says" not in summary


@pytest.mark.parametrize(("metric", "factor", "count"), [("cosine", 2, 3), ("euclidean", 2, 0), ("euclidean", 1, 3)])
def test_a_vector_equals_a_member_by_the_metric_of_the_map(gaussian, metric, factor, count):
    layout = vk.project(gaussian[0].embeddings, method="pca", metric=metric)
    asked = np.concatenate([factor * layout.embeddings.vectors[:3], 1.001 * layout.embeddings.vectors[3:6, ::-1]])
    assert (f"{count} of these equal a member" in vk.place(layout, asked).summary) == (count > 0)
    assert ("equal" in vk.place(layout, asked).summary) == (count > 0)


def test_what_a_vector_lacks_is_said(gaussian):
    layout, members, new = gaussian
    unknown = "Nothing says that the vectors are of the map's encoder."
    assert unknown in vk.place(layout, new[0]).summary
    assert unknown in vk.place(layout, embeddings_of(new)).summary
    assert unknown not in vk.place(layout, layout.ids).summary
    zero = np.zeros((2, 12), np.float32)
    assert "2 of these are zero: no direction, cosine 0 to all." in vk.place(layout, [*zero, new[0]]).summary
    assert "1 of these is zero" in vk.place(layout, zero[0]).summary
    by_euclid = vk.project(embeddings_of(members), method="pca", metric="euclidean")
    assert "zero" not in vk.place(by_euclid, zero).summary


def test_what_is_kept_of_a_map_is_not_used_for_another(gaussian):
    layout, _, new = gaussian
    before = vk.place(layout, new[:20]).frame
    after = vk.place(replace(layout, xy=10 * layout.xy), new[:20]).frame
    np.testing.assert_allclose(after["spread"], before["spread"], rtol=1e-4)
    assert after["unusualness"].tolist() == before["unusualness"].tolist()


def test_on_photos_faces_are_unusual_among_clothes_and_new_clothes_are_not(shared, own_cache_folder):
    """Real photos through a trained MobileNetV2."""
    weights = sorted((shared / "torch" / "converted").glob("mobilenet_v2*.pth"))
    if not weights:
        pytest.skip("MobileNetV2's weights are not there")
    encoder = vk.Encoder("mobilenet_v2", weights=weights[0])
    clothes = vk.ImageSet.from_folder(shared / "images" / "clothing10")
    layout = vk.project(vk.embed(clothes.subset(range(0, 600, 8)), encoder, progress=False), method="pca")
    same = vk.place(layout, clothes.subset(range(3, 600, 30)))
    faces = vk.place(layout, vk.ImageSet.from_folder(shared / "images" / "faces15").subset(range(0, 150, 19)))
    assert same.frame["unusualness"].median() < 80
    assert faces.frame["unusualness"].median() > 95
    assert len(same) == 20
