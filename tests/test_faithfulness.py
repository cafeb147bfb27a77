"""What a map keeps, what is false and what is missing: by definition, for one point, for a sample and for all."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from vizkit.embeddings import Embeddings
from vizkit.errors import InputError
from vizkit.faithfulness import check_map, share_kept
from vizkit.neighborhoods import map_neighbors, map_ranks


def embeddings_of(vectors, **columns):
    vectors = np.asarray(vectors, np.float32)
    return Embeddings.from_frame(pd.DataFrame({"embedding": list(vectors), **columns}))


@pytest.fixture(scope="module")
def vectors():
    """Real ones, without ties."""
    images = load_digits().data[:300]
    return (images + np.random.default_rng(0).random(images.shape) / 10).astype(np.float32)


@pytest.fixture(scope="module")
def xy(vectors):
    return PCA(2).fit_transform(vectors).astype(np.float32)


@pytest.fixture(scope="module")
def digits(vectors):
    return embeddings_of(vectors, kind=load_digits().target[:300])


@pytest.fixture(scope="module")
def everything(digits, xy):
    return check_map(digits, xy, metric="euclidean", sample=None)


def by_definition(vectors, xy, k, metric):
    """Both sums for every point, from full rank matrices: another way than ours, for sets without ties."""
    n = len(vectors)
    far = cdist(vectors.astype(np.float64), vectors.astype(np.float64), metric)
    near = cdist(xy.astype(np.float64), xy.astype(np.float64))
    ranks = []
    for distances in (far, near):
        np.fill_diagonal(distances, -1)
        ranks.append(distances.argsort(axis=1).argsort(axis=1))
    truth, there = ranks
    scale = 2 / (k * (2 * n - 3 * k - 1))
    mine = (there >= 1) & (there <= k)
    true = (truth >= 1) & (truth <= k)
    return {
        "kept": (mine & true).sum(axis=1) / k,
        "false": (mine & ~true).sum(axis=1),
        "missing": (true & ~mine).sum(axis=1),
        "trustworthiness": 1 - scale * np.where(mine & ~true, truth - k, 0).sum(axis=1),
        "continuity": 1 - scale * np.where(true & ~mine, there - k, 0).sum(axis=1),
    }, ranks


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("k", [1, 5, 15, 149])
def test_trustworthiness_is_scikit_learns_and_so_is_continuity_with_the_spaces_swapped(digits, vectors, xy, k, metric):
    found = check_map(digits, xy, k, metric=metric, sample=None)
    wide, flat = vectors.astype(np.float64), xy.astype(np.float64)
    theirs = trustworthiness(wide, flat, n_neighbors=k, metric=metric)
    assert found.trustworthiness == pytest.approx(theirs, abs=1e-6)
    if metric == "euclidean":
        assert found.continuity == pytest.approx(trustworthiness(flat, wide, n_neighbors=k), abs=1e-6)
    assert 0.5 < found.trustworthiness < 0.999


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("k", [1, 15, 149])
def test_every_point_has_the_value_that_full_rank_matrices_give(digits, vectors, xy, k, metric):
    expected, _ = by_definition(vectors, xy, k, metric)
    found = check_map(digits, xy, k, metric=metric, sample=None).frame
    assert list(found.columns) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-9, err_msg=name)
    assert expected["continuity"].std() > 0.001


def test_over_all_are_the_means_of_the_points(everything):
    for name in ("kept", "trustworthiness", "continuity"):
        row = everything.overall.loc[name]
        assert row["value"] == everything.frame[name].mean() == row["low"] == row["high"] == getattr(everything, name)


def test_a_selection_has_the_same_values_as_all(digits, xy, everything):
    ids = [digits.ids[i] for i in (250, 3, 77)]
    found = check_map(digits, xy, metric="euclidean", ids=ids)
    pd.testing.assert_frame_equal(found.frame, everything.frame.loc[[digits.ids[i] for i in (3, 77, 250)]])
    assert found.provenance["checked"] == "selection"
    assert check_map(digits, xy, ids=digits.ids[4]).frame.index.tolist() == [digits.ids[4]]


def test_a_sample_has_the_same_values_as_all_and_repeats_with_its_seed(digits, xy, everything):
    found = check_map(digits, xy, metric="euclidean", sample=40, seed=3)
    pd.testing.assert_frame_equal(found.frame, everything.frame.loc[found.frame.index])
    assert len(found) == found.frame.index.nunique() == 40
    pd.testing.assert_frame_equal(check_map(digits, xy, metric="euclidean", sample=40, seed=3).overall, found.overall)
    assert set(check_map(digits, xy, sample=40, seed=4).frame.index) != set(found.frame.index)
    assert check_map(digits, xy, sample=300).provenance["checked"] == "all"


def test_the_interval_of_a_sample_covers_the_truth_about_95_times_in_100(vectors, xy):
    mine, few = embeddings_of(vectors[:90]), xy[:90]
    truth = check_map(mine, few, 5, metric="euclidean", sample=None).overall["value"]
    hits = pd.DataFrame(
        found["low"].le(truth) & found["high"].ge(truth)
        for found in (check_map(mine, few, 5, metric="euclidean", sample=70, seed=s).overall for s in range(200))
    )
    # 200 fair draws at 95% lie between 178 and 199 with probability 0.9999; an interval that forgets that most of the
    # points were drawn covers all 200.
    assert hits.sum().between(178, 199).all(), hits.sum()


def test_a_map_that_is_the_truth_is_perfect():
    vectors = np.random.default_rng(0).standard_normal((80, 2)).astype(np.float32)
    mine = embeddings_of(vectors)
    found = check_map(mine, 5 * vectors[:, ::-1] + 3, 7, metric="euclidean", sample=None)
    np.testing.assert_array_equal(found.frame[["kept", "trustworthiness", "continuity"]], 1)
    np.testing.assert_array_equal(found.frame[["false", "missing"]], 0)
    assert (share_kept(mine, 5 * vectors + 3, 7, metric="euclidean") == 1).all()


def test_a_shuffled_map_shows_chance(digits, xy):
    shuffled = xy[np.random.default_rng(0).permutation(300)]
    found = check_map(digits, shuffled, sample=None)
    assert found.overall.loc["kept", "chance"] == 15 / 299
    assert found.kept == pytest.approx(15 / 299, abs=0.01)
    for name in ("trustworthiness", "continuity"):
        assert found.overall.loc[name, "chance"] == pytest.approx(0.5, abs=0.02)
        assert found.overall.loc[name, "value"] == pytest.approx(found.overall.loc[name, "chance"], abs=0.02)
    np.testing.assert_array_equal(share_kept(digits, shuffled), found.frame["kept"].astype(np.float32))


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_chance_is_the_mean_over_every_shuffle_there_is(k):
    rng = np.random.default_rng(0)
    mine, xy = embeddings_of(rng.random((5, 3))), rng.random((5, 2))
    found = [check_map(mine, xy[list(order)], k, sample=None).overall for order in itertools.permutations(range(5))]
    for name in ("kept", "trustworthiness", "continuity"):
        assert np.mean([f.loc[name, "value"] for f in found]) == pytest.approx(found[0].loc[name, "chance"], abs=1e-12)


@pytest.mark.parametrize(("n", "k"), [(9, 2), (9, 4), (9, 5), (10, 5), (9, 7), (12, 10)])
def test_the_worst_map_there_can_be_is_zero_whatever_the_sizes(n, k):
    # On a line of powers every point's truth is known: from the first one, nearest first, in order. A map that
    # reverses this order puts the farthest first.
    truth = np.r_[0, 2.0 ** np.arange(n - 1)]
    places = np.r_[0, 2.0 ** np.arange(n - 1)[::-1]]
    mine = embeddings_of(truth[:, None])
    point = check_map(mine, np.c_[places, np.zeros(n)], k, metric="euclidean", ids=mine.ids[0]).frame.iloc[0]
    assert point["trustworthiness"] == pytest.approx(0, abs=1e-12)
    assert point["continuity"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 15, 16, 17, 31])
def test_small_sets_have_values_in_range(n):
    rng = np.random.default_rng(n)
    found = check_map(embeddings_of(rng.random((n, 4))), rng.random((n, 2)))
    assert found.k == min(15, n - 1)
    numbers = found.frame[["kept", "trustworthiness", "continuity"]].to_numpy()
    assert ((numbers >= 0) & (numbers <= 1)).all()
    assert found.overall.notna().all(axis=None)
    if n <= 16:
        assert (numbers == 1).all()  # everybody is everybody's neighbor
    assert str(n) in found.summary or n == 1


def test_neighbors_of_a_point_are_kept_false_or_missing_with_their_ranks(digits, vectors, xy, everything):
    _, (truth, there) = by_definition(vectors, xy, 15, "euclidean")
    for row in (0, 120, 299):
        found = everything.neighbors(digits.ids[row])
        others = [digits.row(id) for id in found.index]
        np.testing.assert_array_equal(found["true_rank"], truth[row, others])
        np.testing.assert_array_equal(found["map_rank"], there[row, others])
        on = (truth[row] <= 15, there[row] <= 15)
        kinds = {"kept": on[0] & on[1], "missing": on[0] & ~on[1], "false": ~on[0] & on[1]}
        for kind, expected in kinds.items():
            expected[row] = False
            assert {digits.row(id) for id in found.index[found["kind"] == kind]} == set(np.flatnonzero(expected))
        counts = found["kind"].value_counts()
        assert counts["kept"] / 15 == everything.frame["kept"].iloc[row]
        assert counts["false"] == everything.frame["false"].iloc[row]
        distances = cdist(vectors[[row]].astype(float), vectors[others].astype(float))[0]
        np.testing.assert_allclose(found["similarity"], -distances, rtol=1e-6)
        np.testing.assert_array_equal(found["kind_"], digits.frame["kind"].iloc[others])


def test_where_the_graph_is_made_by_an_index_a_check_asks_the_vectors_themselves(digits, xy, everything, monkeypatch):
    monkeypatch.setattr("vizkit.neighborhoods.EXACT_UP_TO", 100)
    monkeypatch.setattr("vizkit.neighborhoods.neighbor_graph", None)  # asking it would fail
    found = check_map(digits, xy, metric="euclidean", sample=50)
    pd.testing.assert_frame_equal(found.frame, everything.frame.loc[found.frame.index])
    pd.testing.assert_frame_equal(found.neighbors("7"), everything.neighbors("7"))


def test_the_worst_points_come_first(everything):
    lower = everything.worst[["trustworthiness", "continuity"]].min(axis=1)
    assert (np.diff(lower) >= 0).all()
    assert lower.iloc[0] == everything.frame[["trustworthiness", "continuity"]].min(axis=None)


def test_neighbors_that_are_equally_near_count_as_kept():
    # 30 copies each of two vectors: any copy is as true a neighbor as any other.
    vectors = np.repeat(np.eye(2, 5), 30, axis=0)
    rng = np.random.default_rng(0)
    xy = np.repeat([[0.0, 0.0], [9.0, 9.0]], 30, axis=0) + rng.random((60, 2))
    mine = embeddings_of(vectors)
    assert (share_kept(mine, xy, 6) == 1).all()
    found = check_map(mine, xy, 6, sample=None)
    np.testing.assert_array_equal(found.frame[["kept", "trustworthiness", "continuity"]], 1)
    np.testing.assert_array_equal(found.frame[["false", "missing"]], 0)
    swapped = xy.copy()
    swapped[0] = [9.5, 9.5]  # one lies among the others
    assert share_kept(mine, swapped, 6)[0] == 0
    stray = check_map(mine, swapped, 6, sample=None)
    assert stray.frame.iloc[0][["kept", "false", "missing"]].tolist() == [0, 6, 6]
    assert set(stray.neighbors(mine.ids[0])["kind"]) == {"false", "missing"}


def test_of_equally_near_ones_only_as_many_as_are_lacking_are_missing():
    # As seen from the first: one neighbor nearer than the rest, then ten alike, then one far away.
    angles = np.radians([0, 10, *[40] * 10, 90])
    vectors = np.c_[np.cos(angles), np.sin(angles)]
    places = np.array([0, 1, *range(19, 9, -1), 2])
    mine = embeddings_of(vectors)
    xy = np.c_[places, np.zeros(13)].astype(float)
    # On the map: the nearer one, the far one, and the last of the ten. The list wants two of the ten, whichever.
    point = check_map(mine, xy, 3, ids=mine.ids[0])
    assert point.frame.iloc[0][["false", "missing"]].tolist() == [1, 1]
    assert point.neighbors(mine.ids[0])["kind"].value_counts().to_dict() == {"kept": 2, "false": 1, "missing": 1}
    # Three of the ten, and there is place for two: the third is false, and the nearer one missing.
    xy[1] = xy[12] = [99, 0]
    point = check_map(mine, xy, 3, ids=mine.ids[0])
    assert point.frame.iloc[0][["kept", "false", "missing"]].tolist() == [pytest.approx(2 / 3), 1, 1]
    assert share_kept(mine, xy, 3)[0] == pytest.approx(2 / 3)
    assert point.trustworthiness == pytest.approx(1 - (9 - 3) / 24)  # the third on the map is the ninth in truth
    assert point.continuity == pytest.approx(1 - (11 - 3) / 24)  # place 11 in place of 3 or better; 24 is the worst


def test_a_map_in_one_place_is_not_praised(digits):
    found = check_map(digits, np.zeros((300, 2)), sample=None)
    assert found.kept < 0.15
    assert found.continuity < 0.65


def test_points_at_one_place_leave_themselves_out():
    near = map_neighbors(np.zeros((40, 2)), 5)
    assert near.shape == (40, 5)
    assert (near != np.arange(40)[:, None]).all()
    assert all(len(set(row)) == 5 for row in near)
    np.testing.assert_array_equal(map_neighbors(np.zeros((40, 2)), 5, rows=np.array([7])).shape, (1, 5))
    assert map_neighbors(np.zeros((1, 2)), 5).shape == (1, 0)


def test_the_words_say_the_numbers_their_chance_and_their_sample(digits, xy):
    text = check_map(digits, xy, sample=100, seed=2).summary
    assert "Of the 15 nearest neighbors (cosine) the map keeps" in text
    assert "by chance 5.0%" in text
    assert "Measured on 100 of 300 points, drawn with seed 2; in brackets 95% intervals." in text
    found = check_map(digits, xy, sample=None)
    assert f"trustworthiness {found.trustworthiness:.3f}, continuity {found.continuity:.3f}" in found.summary
    assert "all 300 points, exact" in repr(found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k is 0; expected a whole number of neighbors, 1 or more"),
        ({"sample": 1}, "sample is 1; expected a whole number of points, 2 or more, or None for all"),
        ({"sample": 0.5}, "sample is 0.5"),
        ({"seed": -1}, "seed is -1; expected a whole number, 0 or more"),
        ({"ids": []}, "ids is empty; give the ids"),
        ({"ids": ["nobody"]}, "No image has the id 'nobody'"),
        ({"ids": 300}, "no row 300: rows go from 0 to 299"),
        ({"ids": True}, "An image is given as True"),
        ({"ids": [["a"]]}, r"An image is given as \['a'\]"),
        ({"ids": 2.0}, "An image is given as 2.0"),
        ({"metric": "cosinus"}, "No metric 'cosinus'"),
    ],
)
def test_a_wrong_argument_says_what_is_right(digits, xy, arguments, message):
    with pytest.raises(InputError, match=message):
        check_map(digits, xy, **arguments)


@pytest.mark.parametrize("measure", [share_kept, check_map])
@pytest.mark.parametrize("xy", [np.zeros((4, 2)), np.zeros((5, 3)), np.full((5, 2), np.nan)])
def test_a_map_of_something_else_is_refused(xy, measure):
    with pytest.raises(InputError, match=r"expected \(5, 2\) finite positions"):
        measure(embeddings_of(np.eye(5)), xy)


def test_no_vectors_have_no_map_to_check():
    with pytest.raises(InputError, match="no vectors, so no map"):
        check_map(embeddings_of(np.zeros((0, 4))), np.zeros((0, 2)))


def test_what_is_kept_is_what_is_not_missing_whatever_ties():
    vectors = np.zeros((30, 30))
    vectors[1, 1] = 1
    vectors[range(2, 30), range(2, 30)] = 2  # equally far from the first
    xy = np.random.default_rng(0).standard_normal((30, 2)) * 0.1
    xy[1] = 100  # the nearest of all is the farthest on the map
    found = check_map(embeddings_of(vectors), xy, 5, metric="euclidean", sample=None)
    np.testing.assert_allclose(found.frame["kept"], 1 - found.frame["missing"] / 5)
    np.testing.assert_array_equal(found.frame["false"], found.frame["missing"])
    assert found.frame["kept"].iloc[0] == 0.8
    assert (found.neighbors(0)["true_rank"][found.neighbors(0)["kind"] == "false"] > 5).all()


@pytest.fixture(scope="module")
def grid():
    """Points on a grid in any order, and the others of each in the order of distance and row, by a full sort."""
    order = np.random.default_rng(0).permutation(144)
    xy = np.stack(np.meshgrid(range(12), range(12)), -1).reshape(-1, 2)[order].astype(float)
    squares = cdist(xy, xy, "sqeuclidean")
    np.fill_diagonal(squares, np.inf)
    return xy, squares.argsort(axis=1, kind="stable")[:, :-1]


@pytest.mark.parametrize("k", [1, 5, 15, 142, 143])
def test_on_a_grid_neighbors_and_ranks_are_those_of_a_full_sort(grid, k):
    xy, others = grid
    np.testing.assert_array_equal(map_neighbors(xy, k), others[:, :k])
    np.testing.assert_array_equal(map_neighbors(xy, k, rows=np.array([9, 3])), others[[9, 3], :k])
    np.testing.assert_array_equal(map_ranks(xy, np.arange(144), others), np.tile(np.arange(1, 144), (144, 1)))


def test_continuity_on_a_grid_is_that_of_ranks_in_row_order(grid):
    xy, others = grid
    vectors = np.random.default_rng(1).standard_normal((144, 6)).astype(np.float32)
    places = np.empty((144, 144), int)
    np.put_along_axis(places, others, np.arange(1, 144)[None], axis=1)
    true = cdist(vectors.astype(float), vectors.astype(float)).argsort(axis=1)[:, 1:11]
    lost = np.maximum(np.take_along_axis(places, true, axis=1) - 10, 0).sum(axis=1)
    found = check_map(embeddings_of(vectors), xy, 10, metric="euclidean", sample=None)
    np.testing.assert_allclose(found.frame["continuity"], 1 - 2 * lost / (10 * (2 * 144 - 3 * 10 - 1)))


def test_points_are_asked_by_id_or_by_row(digits, xy, everything):
    by_row = check_map(digits, xy, metric="euclidean", ids=[0, np.int64(1)])
    pd.testing.assert_frame_equal(by_row.frame, everything.frame.iloc[:2])
    assert len(check_map(digits, xy, ids=5)) == 1
    pd.testing.assert_frame_equal(everything.neighbors(3), everything.neighbors("3"))
    for wrong in (["a"], True, None):
        with pytest.raises(InputError, match="expected its id, a string, or its row, a whole number"):
            everything.neighbors(wrong)


def test_a_map_may_be_a_table_in_any_order(digits, xy, everything):
    table = pd.DataFrame(xy, index=digits.ids)
    for asked in (table, table.iloc[::-1], table.reset_index(drop=True)):
        pd.testing.assert_frame_equal(check_map(digits, asked, metric="euclidean", sample=None).frame, everything.frame)
    with pytest.raises(InputError, match="xy has 299 points, 299 of them among these 300 images"):
        check_map(digits, table.iloc[1:])


@pytest.mark.parametrize(
    ("xy", "message"),
    [
        ([[0, 1], [2]], "xy is no array of numbers"),
        ([["a", "b"]] * 5, "xy holds <U1; expected"),
        (np.zeros((5, 2), complex), "xy holds complex128; expected"),
        (pd.DataFrame({"x": list("abcde"), "y": list("abcde")}), "xy is no array of numbers|xy holds"),
        (None, "xy is no array of numbers|xy has shape"),
    ],
)
def test_what_is_no_map_is_refused_in_words(xy, message):
    with pytest.raises(InputError, match=message):
        check_map(embeddings_of(np.eye(5)), xy)
