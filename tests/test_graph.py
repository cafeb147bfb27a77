"""The neighbor graph: kept and shared, and what it says of hubs and mutual neighbors, against planted answers."""

import gc
import weakref

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, skew

from vizkit.embeddings import Embeddings
from vizkit.errors import InputError
from vizkit.graph import computed_graph, distances_of, nearest_rows, neighbor_graph
from vizkit.nearest import NearestRows


def embeddings_of(vectors):
    index = pd.Index([f"image-{i:03}" for i in range(len(vectors))], name="id")
    return Embeddings(np.asarray(vectors, np.float32), pd.DataFrame(index=index))


@pytest.fixture
def random_set():
    return embeddings_of(np.random.default_rng(3).standard_normal((200, 24)))


@pytest.fixture
def line():
    """Give five points on a line, at 0, 1, 3, 6 and 10: each but the first is nearest to the one before it."""
    return neighbor_graph(embeddings_of([[0], [1], [3], [6], [10]]), 1, metric="euclidean")


@pytest.fixture
def star():
    """Give twelve unit vectors that are nearest to a thirteenth, in the middle, and that one to the first."""
    around = np.eye(12)
    around[0, 1] = 0.1
    return neighbor_graph(embeddings_of(np.concatenate([around, np.ones((1, 12))])), 1)


def test_on_a_line_everybody_lists_the_point_before(line):
    assert line.indices.ravel().tolist() == [1, 0, 1, 2, 3]
    assert line.mutual.ravel().tolist() == [True, True, False, False, False]
    assert line.occurrences.tolist() == [1, 2, 1, 1, 0]
    np.testing.assert_array_equal(line.distances.ravel(), [1, 1, 2, 3, 4])


def test_reverse_neighbors_come_nearest_first_with_the_place_they_give(line):
    found = line.listed_by("image-001")
    assert found["id"].tolist() == ["image-000", "image-002"]
    assert found["rank"].tolist() == [1, 1]
    assert found["distance"].tolist() == [1, 2]
    assert found["mutual"].tolist() == [True, False]
    pd.testing.assert_frame_equal(line.listed_by(1), found)
    assert line.listed_by(4).empty


def test_reverse_neighbors_are_as_many_as_the_occurrences(random_set):
    graph = neighbor_graph(random_set, 7)
    for row in (0, 50, 199):
        found = graph.listed_by(row)
        assert len(found) == graph.occurrences[row]
        for id, rank, similarity in zip(found["id"], found["rank"], found["similarity"], strict=True):
            lister = random_set.row(id)
            assert graph.indices[lister, rank - 1] == row
            assert graph.similarities[lister, rank - 1] == similarity
        assert found["similarity"].is_monotonic_decreasing


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("image-00x", "No image has the id 'image-00x' here. Closest: 'image-"),
        (200, "no row 200: rows go from 0 to 199"),
        (-1, "no row -1"),
        (True, "An image is given as True; expected its id, a string, or its row"),
    ],
)
def test_reverse_neighbors_of_no_image_are_refused_in_words(random_set, image, message):
    with pytest.raises(InputError, match=message):
        neighbor_graph(random_set).listed_by(image)


def test_the_middle_of_a_star_is_the_hub(star):
    assert star.occurrences.tolist() == [1, *[0] * 11, 12]
    assert star.frame["occurrences"].idxmax() == "image-012"
    assert star.frame.loc["image-005", ["mutual", "nearest"]].tolist() == [0, "image-012"]
    assert star.frame.loc["image-000", "mutual"] == 1
    assert star.skewness == pytest.approx(skew(star.occurrences), rel=1e-12)
    assert star.skewness > 3
    assert star.skewness_interval[0] < star.skewness


def test_skewness_is_that_of_scipy_and_zero_where_all_are_listed_equally_often(random_set):
    graph = neighbor_graph(random_set, 10)
    np.testing.assert_array_equal(graph.occurrences, [(graph.indices == row).sum() for row in range(200)])
    assert graph.skewness == pytest.approx(skew(graph.occurrences), rel=1e-12)
    low, high = graph.skewness_interval
    assert low < graph.skewness < high
    ring = np.exp(2j * np.pi * np.arange(9) / 9)
    assert neighbor_graph(embeddings_of(np.stack([ring.real, ring.imag], axis=1)), 8).skewness == 0


def test_centering_lowers_the_skewness_of_a_set_with_a_planted_hub():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((400, 30)) + 2
    vectors[0] = vectors.mean(axis=0)
    hub = neighbor_graph(embeddings_of(vectors), 10)
    assert hub.frame["occurrences"].idxmax() == "image-000"
    assert hub.skewness > 2 * neighbor_graph(embeddings_of(vectors - vectors.mean(axis=0)), 10).skewness


def test_neighbors_drawn_at_random_are_as_skewed_as_chance_says(random_set):
    rng = np.random.default_rng(1)
    graph = neighbor_graph(random_set, 3)
    drawn = [np.stack([rng.choice(199, 3, replace=False) for _ in range(200)]).ravel() for _ in range(100)]
    skews = [skew(np.bincount(one, minlength=199)) for one in drawn]
    assert graph.skewness_chance == pytest.approx(np.mean(skews), abs=4 * np.std(skews) / 10)


def test_mutual_neighbors_are_those_that_list_each_other(random_set):
    graph = neighbor_graph(random_set, 6)
    lists = [set(row) for row in graph.indices.tolist()]
    expected = [[row in lists[other] for other in graph.indices[row]] for row in range(200)]
    np.testing.assert_array_equal(graph.mutual, expected)
    np.testing.assert_array_equal(graph.frame["mutual"], np.sum(expected, axis=1))


def test_the_frame_has_the_ids_and_the_nearest(random_set):
    graph = neighbor_graph(random_set, 4, metric="euclidean")
    assert graph.frame.index.tolist() == random_set.ids
    assert graph.frame.index.name == "id"
    assert list(graph.frame.columns) == ["occurrences", "mutual", "nearest", "distance"]
    assert graph.frame["nearest"].tolist() == [random_set.ids[row] for row in graph.indices[:, 0]]
    np.testing.assert_array_equal(graph.frame["distance"], graph.distances[:, 0])


@pytest.mark.parametrize("n", [1, 2, 3])
def test_sets_of_few_images_have_a_graph_that_can_be_told(n):
    graph = neighbor_graph(embeddings_of(np.eye(3)[:n]), 5)
    assert graph.k == n - 1
    assert graph.skewness == 0
    assert len(graph.frame) == n
    assert repr(graph).startswith(f"<NeighborGraph: {n} images, {n - 1} nearest each by cosine, exact")


def test_what_the_graph_says_of_itself_has_chance_and_interval_beside_it(random_set):
    said = repr(neighbor_graph(random_set, 10))
    assert "200 images, 10 nearest each by cosine, exact" in said
    assert "mutual (chance 5.0%)" in said
    assert "95% interval" in said


def test_an_inner_product_has_no_distances(random_set):
    with pytest.raises(InputError, match=r"An inner product is no distance\. Use similarities"):
        _ = neighbor_graph(random_set, metric="inner_product").distances


def test_distances_are_never_negative():
    over = np.array([[1.0000001, 0.5]], np.float32)
    np.testing.assert_array_equal(distances_of(over, "cosine"), [[0, 0.5]])
    np.testing.assert_array_equal(distances_of(-over, "euclidean"), over)


def test_inner_products_beyond_single_precision_are_refused_in_words():
    with pytest.raises(InputError, match=r"Inner products .*Divide the vectors by a constant"):
        neighbor_graph(embeddings_of(1e18 * np.ones((4, 3)) + np.eye(4, 3)), 2, metric="inner_product")


def test_an_unknown_metric_names_the_known_ones(random_set):
    with pytest.raises(InputError, match=r"No metric 'dot'\. Choose 'cosine', 'euclidean' or 'inner_product'"):
        neighbor_graph(random_set, metric="dot")


def test_distances_beyond_single_precision_are_refused_in_words():
    with pytest.raises(InputError, match="Divide the vectors by a constant"):
        neighbor_graph(embeddings_of(1e35 * np.eye(4)), 2, metric="euclidean")


def test_graph_is_computed_once_and_smaller_ones_are_slices_of_it(random_set, monkeypatch):
    large = neighbor_graph(random_set, 40)
    monkeypatch.setattr(type(nearest_rows(random_set)), "graph", None)  # a second search would fail
    small = neighbor_graph(random_set, 7)
    assert np.shares_memory(small.indices, large.indices)
    np.testing.assert_array_equal(small.indices, large.indices[:, :7])


def test_a_larger_graph_begins_with_the_smaller_one(random_set):
    small, large = neighbor_graph(random_set, 5), neighbor_graph(random_set, 60)
    np.testing.assert_array_equal(large.indices[:, :5], small.indices)
    assert neighbor_graph(random_set, 1000).k == 199


def test_nobody_can_write_into_the_shared_graph(random_set):
    with pytest.raises(ValueError, match="read-only"):
        neighbor_graph(random_set).indices[0, 0] = 3


def test_the_graph_goes_with_its_embeddings(random_set):
    mine = embeddings_of(np.eye(5))
    graph = weakref.ref(neighbor_graph(mine, 2).indices.base)
    gone = weakref.ref(mine)
    del mine
    gc.collect()
    assert gone() is None
    assert graph() is None


def test_a_graph_from_the_index_says_its_recall_and_ranks_by_exact_scores():
    vectors = np.random.default_rng(0).standard_normal((900, 16)).astype(np.float32)
    vectors[[3, 500]] = vectors[7]
    searcher = NearestRows(vectors)
    ids = pd.Index([f"image-{i:03}" for i in range(900)])
    graph = computed_graph(searcher, ids, 10, exact_up_to=899)
    true = computed_graph(searcher, ids, 10, exact_up_to=900)
    assert (true.recall, true.recall_interval) == (1.0, (1.0, 1.0))
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(graph.indices, true.indices, strict=True)]
    assert graph.recall == pytest.approx(np.mean(shared), abs=1e-9)
    low, high = graph.recall_interval
    wilson = binomtest(round(graph.recall * 900), 900).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx(wilson, abs=1e-3)
    assert low > 0.9
    assert f"recall {graph.recall:.4f} (95% interval" in repr(graph)
    assert "exact" in repr(true)
    own = np.repeat(np.arange(900), 10)
    np.testing.assert_array_equal(
        graph.similarities.ravel(), searcher.scores(own, graph.indices.ravel()).astype(np.float32)
    )
    assert graph.indices[7, :2].tolist() == [3, 500]
    assert not (graph.indices == np.arange(900)[:, None]).any()
    again = computed_graph(NearestRows(vectors), ids, 10, exact_up_to=899)
    np.testing.assert_array_equal(again.indices, graph.indices)


def test_what_the_index_cannot_do_is_searched_exactly():
    few = NearestRows(np.repeat(np.eye(5, dtype=np.float32), 40, axis=0))
    for searcher in (few, NearestRows(np.random.default_rng(0).standard_normal((60, 4), np.float32), "inner_product")):
        ids = pd.Index([str(i) for i in range(len(searcher))])
        graph, true = (computed_graph(searcher, ids, 6, exact_up_to=most) for most in (50, 1000))
        assert graph.recall == 1
        np.testing.assert_array_equal(graph.indices, true.indices)
