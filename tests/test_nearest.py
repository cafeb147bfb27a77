"""Exact search on plain arrays: against NumPy, SciPy and exact integers in place of our own arithmetic."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from vizkit import nearest
from vizkit.nearest import NearestRows


def true_scores(queries, rows, metric):
    """Scores of all pairs in double precision, by other libraries' arithmetic."""
    queries, rows = queries.astype(np.float64), rows.astype(np.float64)
    if metric == "euclidean":
        return -cdist(queries, rows)
    lengths = [np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, rows)]
    unit = [x / np.where(length > 0, length, 1) for x, length in zip((queries, rows), lengths, strict=True)]
    return unit[0] @ unit[1].T


def assert_k_best(rows, scores, truth, k, tolerance=1e-12):
    """The rows are k best ones of `truth`, in order; where it tells them apart, exactly those that a sort finds."""
    best = -np.sort(-truth, axis=1)[:, : k + 1]
    assert rows.shape == (len(truth), min(k, truth.shape[1]))
    assert all(len(set(row)) == len(row) for row in rows.tolist())
    size = np.abs(best[:, :1]) + 1
    np.testing.assert_array_less(np.abs(scores - best[:, :k]), np.broadcast_to(tolerance * size, scores.shape))
    np.testing.assert_array_less(
        np.abs(np.take_along_axis(truth, rows, 1) - scores), np.broadcast_to(tolerance * size, scores.shape)
    )
    clear = (np.diff(best, axis=1) < -tolerance * size).all(axis=1)
    np.testing.assert_array_equal(rows[clear], np.argsort(-truth[clear], axis=1, kind="stable")[:, :k])
    return clear


def without_own(truth):
    truth = truth.copy()
    np.fill_diagonal(truth, -np.inf)
    return truth


def clustered(n, d, seed=0):
    rng = np.random.default_rng(seed)
    centers = 3 * rng.standard_normal((20, d))
    return np.maximum(0, centers[rng.integers(0, 20, n)] + rng.standard_normal((n, d))).astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(("n", "d"), [(1500, 64), (300, 1280)])
def test_graph_equals_brute_force_in_double_precision(n, d, metric):
    vectors = clustered(n, d)
    rows, scores = NearestRows(vectors, metric).graph(15)
    truth = without_own(true_scores(vectors, vectors, metric))
    assert assert_k_best(rows, scores, truth, 15).mean() > 0.99


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_search_of_outside_vectors_equals_brute_force(metric):
    vectors, queries = clustered(1200, 32), clustered(40, 32, seed=1)
    rows, scores = NearestRows(vectors, metric).search(queries, 12)
    assert assert_k_best(rows, scores, true_scores(queries, vectors, metric), 12).all()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_vectors_that_single_precision_cannot_tell_apart_are_still_ranked_right(metric):
    # As an untrained network's: cosines differ by 1e-8, which float32 products round away.
    rng = np.random.default_rng(0)
    vectors = (100 + 1e-2 * rng.standard_normal((1400, 24))).astype(np.float32)
    truth = without_own(true_scores(vectors, vectors, metric))
    if metric == "cosine":
        single = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        naive = np.argsort(-(without_own(single @ single.T)), axis=1)[:, :10]
        assert (naive != np.argsort(-truth, axis=1)[:, :10]).mean() > 0.5  # the case is hard
    rows, scores = NearestRows(vectors, metric).graph(10)
    clear = assert_k_best(rows, scores, truth, 10, tolerance=1e-14 if metric == "cosine" else 1e-12)
    assert clear.mean() > 0.97


def test_many_vectors_at_exactly_the_same_similarity_go_by_row():
    # All basis vectors are orthogonal: every similarity is 0, so row order alone decides.
    rows, scores = NearestRows(np.eye(400, dtype=np.float32)).graph(3)
    np.testing.assert_array_equal(scores, 0)
    np.testing.assert_array_equal(rows[:5], [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2], [0, 1, 2]])
    np.testing.assert_array_equal(rows[-1], [0, 1, 2])


@settings(max_examples=60, deadline=None)
@given(data=st.data(), n=st.integers(1, 30), d=st.integers(1, 4), k=st.integers(1, 32))
def test_ties_copies_and_zero_vectors_go_by_row_in_cosine(data, n, d, k):
    # Entries of -1 and 1, or all 0: equal lengths, so that integer products decide exactly, ties included.
    signs = st.lists(st.sampled_from([-1, 1]), min_size=d, max_size=d)
    integers = np.array(data.draw(st.lists(signs | st.just([0] * d), min_size=n, max_size=n)))
    rows, scores = NearestRows(integers.astype(np.float32)).graph(k)
    for row in range(n):
        products = integers @ integers[row]
        expected = [j for j in np.lexsort((np.arange(n), -products)) if j != row][:k]
        assert rows[row].tolist() == expected
        np.testing.assert_allclose(scores[row], products[expected] / d, rtol=1e-15)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), n=st.integers(1, 30), d=st.integers(1, 3), k=st.integers(1, 32))
def test_ties_and_copies_go_by_row_in_euclidean_distance(data, n, d, k):
    point = st.lists(st.integers(-2, 2), min_size=d, max_size=d)
    integers = np.array(data.draw(st.lists(point, min_size=n, max_size=n)))
    rows, scores = NearestRows(integers.astype(np.float32), "euclidean").graph(k)
    for row in range(n):
        squared = ((integers - integers[row]) ** 2).sum(axis=1)
        expected = [j for j in np.lexsort((np.arange(n), squared)) if j != row][:k]
        assert rows[row].tolist() == expected
        np.testing.assert_allclose(scores[row], -np.sqrt(squared[expected]), rtol=1e-15)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("n", [1, 2, 12, 13])
def test_sets_of_one_two_k_and_k_plus_one_vectors(n, metric):
    vectors = clustered(n, 6)
    rows, scores = NearestRows(vectors, metric).graph(12)
    assert rows.shape == scores.shape == (n, min(12, n - 1))
    if n > 1:
        assert_k_best(rows, scores, without_own(true_scores(vectors, vectors, metric)), min(12, n - 1))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_copies_have_exactly_equal_scores_and_one_to_each_other(metric):
    vectors = clustered(300, 64)
    vectors[[40, 7, 299]] = vectors[100]
    rows, scores = NearestRows(vectors, metric).graph(5)
    assert rows[100, :3].tolist() == [7, 40, 299]
    assert rows[40, :3].tolist() == [7, 100, 299]
    assert (scores[100, :3] == (1.0 if metric == "cosine" else 0.0)).all()
    assert scores[7, 3] == scores[299, 3]
    assert rows[7, 3] == rows[299, 3]


def test_minus_zero_is_zero():
    vectors = np.array([[0.0, 1.0], [-0.0, 1.0], [1.0, 1.0]], np.float32)
    rows, scores = NearestRows(vectors, "euclidean").graph(1)
    assert rows[:2].ravel().tolist() == [1, 0]
    np.testing.assert_array_equal(scores[:2], 0)


def test_a_thousand_copies_of_few_vectors_are_quick_and_right():
    vectors = np.repeat(clustered(4, 16), 500, axis=0)
    rows, scores = NearestRows(vectors).graph(6)
    np.testing.assert_array_equal(scores, 1.0)
    assert rows[0].tolist() == [1, 2, 3, 4, 5, 6]
    assert rows[3].tolist() == [0, 1, 2, 4, 5, 6]
    assert rows[1999].tolist() == [1500, 1501, 1502, 1503, 1504, 1505]


@pytest.mark.parametrize("power", [-120, 60, 100])
def test_lengths_far_from_one_change_nothing(power):
    vectors = clustered(400, 16)
    expected = NearestRows(vectors).graph(8)
    found = NearestRows(np.ldexp(vectors, power)).graph(8)
    np.testing.assert_array_equal(found[0], expected[0])
    if power > 0:
        np.testing.assert_array_equal(found[1], expected[1])


def test_distances_far_from_the_origin_and_queries_far_from_the_set_are_right():
    vectors = clustered(600, 8) + np.float32(4096)
    searcher = NearestRows(vectors, "euclidean")
    rows, scores = searcher.graph(9)
    assert_k_best(rows, scores, without_own(true_scores(vectors, vectors, "euclidean")), 9)
    small = np.ldexp(vectors, -60)
    for near_origin, far in ((vectors, [[3e37], [-5e8]]), (small, [[3e37], [-1e-9]])):
        queries = np.broadcast_to(np.array(far, np.float32), (2, 8))
        rows, scores = NearestRows(near_origin, "euclidean").search(queries, 3)
        truth = np.sort(cdist(queries.astype(float), near_origin.astype(float)))[:, :3]
        np.testing.assert_allclose(scores, -truth, rtol=1e-12)


def test_blocks_and_chunks_leave_no_trace(monkeypatch):
    vectors = clustered(1500, 40)
    vectors[:700] = (50 + 1e-3 * vectors[:700]).astype(np.float32)  # a crowd, for which double precision is needed
    whole = NearestRows(vectors).graph(7)
    monkeypatch.setattr(nearest, "_BLOCK_BYTES", 50_000)
    monkeypatch.setattr(nearest, "_CHUNK_BYTES", 3_000)
    for found, expected in zip(NearestRows(vectors).graph(7), whole, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_scores_of_pairs_are_the_ones_that_the_graph_ranks_by():
    vectors = clustered(200, 33)
    for metric in nearest.METRICS:
        searcher = NearestRows(vectors, metric)
        rows, scores = searcher.graph(4)
        own = np.repeat(np.arange(200), 4)
        np.testing.assert_array_equal(searcher.scores(own, rows.ravel()), scores.ravel())


def test_vectors_are_left_as_they_are():
    vectors = clustered(100, 5)
    before = vectors.copy()
    NearestRows(vectors, "euclidean").graph(3)
    np.testing.assert_array_equal(vectors, before)
