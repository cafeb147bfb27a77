"""Exact search on plain arrays: against NumPy, SciPy and exact integers in place of our own arithmetic."""

import tracemalloc
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

import vizkit as vk
from vizkit import candidates, nearest, products
from vizkit.nearest import METRICS, NearestRows
from vizkit.room import room


def true_scores(queries, rows, metric):
    """Scores of all pairs in double precision, by other libraries' arithmetic."""
    queries, rows = queries.astype(np.float64), rows.astype(np.float64)
    if metric == "euclidean":
        return -cdist(queries, rows)
    if metric == "inner_product":
        return queries @ rows.T
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


def with_copies_and_zeros(vectors):
    vectors = vectors.copy()
    vectors[[40, 7, len(vectors) - 1]] = vectors[100]
    vectors[[3, 60]] = 0
    return vectors


@pytest.fixture(scope="module")
def scene_vectors():
    """Real vectors, of the embedded network's first pictures, some of them twice."""
    images = vk.scenes()
    vectors = np.stack([vk.Encoder("scenes").embed_image(images[row]).ravel() for row in range(110)])
    return with_copies_and_zeros(vectors)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("n", "d"), [(1500, 64), (300, 1280)])
def test_graph_equals_brute_force_in_double_precision(n, d, metric, half):
    vectors = clustered(n, d)
    rows, scores = NearestRows(vectors, metric).graph(15, half=half)
    truth = without_own(true_scores(vectors, vectors, metric))
    assert assert_k_best(rows, scores, truth, 15).mean() > 0.99


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("metric", METRICS)
def test_graph_of_real_vectors_equals_brute_force(scene_vectors, metric, half):
    rows, scores = NearestRows(scene_vectors, metric).graph(20, half=half)
    truth = np.round(without_own(true_scores(scene_vectors, scene_vectors, metric)), 10)
    assert_k_best(rows, scores, truth, 20, tolerance=1e-9)
    expected = [7, 40, len(rows) - 1]
    assert expected == [row for row in rows[100].tolist() if row in expected]
    zero = [0, 1, 2, 4, 5] if metric == "inner_product" else [60, *rows[3, 1:5]]
    if metric == "cosine":
        zero = [0, 1, 2, 4, 5]  # a zero vector is similar to nothing, not even to another
    assert rows[3, :5].tolist() == list(zero)


@pytest.mark.parametrize("metric", METRICS)
def test_half_single_and_double_precision_give_the_same_bytes(metric):
    # Groups of vectors that differ less and less: half precision settles some, single some, double the rest.
    rng = np.random.default_rng(2)
    spread = np.repeat([1.0, 1e-2, 1e-4, 1e-6], 400)[:, None]
    vectors = (10 * np.repeat(np.eye(4, 48), 400, axis=0) + spread * rng.standard_normal((1600, 48))).astype(np.float32)
    searcher = NearestRows(with_copies_and_zeros(vectors), metric)
    searcher_products = searcher._products
    settled = {
        kind: sum(len(index) for index, _, _ in candidates._settle(kind(searcher_products, 8), None, all_rows, 8))
        for kind, all_rows in [(candidates.Half, np.arange(1590)), (candidates.Single, np.arange(1590))]
    }
    assert 0 < settled[candidates.Half] < settled[candidates.Single] < 1590  # the case goes all three ways
    for found, expected in zip(searcher.graph(8, half=True), searcher.graph(8, half=False), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n", [1, 2, 6, 7])
def test_sets_of_few_rows_list_all_others(n, metric, half):
    vectors = clustered(n, 9)
    rows, scores = NearestRows(vectors, metric).graph(6, half=half)
    assert rows.shape == scores.shape == (n, min(6, n - 1))
    if n > 1:
        assert_k_best(rows, scores, without_own(true_scores(vectors, vectors, metric)), min(6, n - 1))


@pytest.mark.parametrize("metric", METRICS)
def test_search_of_outside_vectors_equals_brute_force(metric):
    vectors, queries = clustered(1200, 32), clustered(40, 32, seed=1)
    rows, scores = NearestRows(vectors, metric).search(queries, 12)
    assert assert_k_best(rows, scores, true_scores(queries, vectors, metric), 12).all()


@pytest.mark.parametrize("metric", METRICS)
def test_half_precision_vectors_in_a_mapped_file_are_searched_as_their_values_in_memory(metric, tmp_path):
    halves = with_copies_and_zeros(clustered(900, 30)).astype(np.float16)
    mapped = np.memmap(tmp_path / "vectors", np.float16, "w+", shape=halves.shape)
    mapped[:] = halves
    mapped = np.memmap(tmp_path / "vectors", np.float16, "r", shape=halves.shape)
    expected = NearestRows(halves.astype(np.float32), metric)
    for vectors in (halves, mapped):
        searcher = NearestRows(vectors, metric)
        for found, wanted in zip(searcher.graph(9), expected.graph(9), strict=True):
            np.testing.assert_array_equal(found, wanted)
        for found, wanted in zip(searcher.search(mapped[:5], 9), expected.search(halves[:5], 9), strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_where_memory_is_short_no_copy_of_the_vectors_is_held_in_it(tmp_path, monkeypatch):
    monkeypatch.setattr(products, "room", partial(room, limit=0))  # as if there were none to spare
    for module in (products, candidates, nearest):
        monkeypatch.setattr(module, "BLOCK_BYTES", 2**20)
    vectors = np.memmap(tmp_path / "vectors", np.float16, "w+", shape=(20_000, 256))
    vectors[:] = np.random.default_rng(0).standard_normal(vectors.shape, np.float32)
    tracemalloc.start()
    try:
        searcher = NearestRows(vectors)
        rows, _ = searcher.search(vectors[:300], 3)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(rows[:, 0], np.arange(300))
    assert peak < 20_000 * 256 * 4 / 2


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_vectors_that_single_precision_cannot_tell_apart_are_still_ranked_right(metric):
    # As an untrained network's: cosines differ by 1e-8, which float32 products round away.
    rng = np.random.default_rng(0)
    vectors = (100 + 1e-2 * rng.standard_normal((1400, 24))).astype(np.float32)
    vectors[700:, :12] *= -1  # two such groups: there is no center from which all are short
    truth = without_own(true_scores(vectors, vectors, metric))
    if metric == "cosine":
        single = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        naive = np.argsort(-(without_own(single @ single.T)), axis=1)[:, :10]
        assert (naive != np.argsort(-truth, axis=1)[:, :10]).mean() > 0.5  # the case is hard
    rows, scores = NearestRows(vectors, metric).graph(10)
    clear = assert_k_best(rows, scores, truth, 10, tolerance=1e-14 if metric == "cosine" else 1e-12)
    assert clear.mean() > 0.95


def true_ranks(truth, rows, others):
    """Ranks among all others by a stable sort of true scores, which puts ties in the order of rows."""
    found = []
    for row, some in zip(rows, others, strict=True):
        order = [j for j in np.argsort(-truth[row], kind="stable") if j != row]
        found.append([order.index(other) + 1 for other in some])
    return np.array(found)


def drawn_pairs(n, m, k):
    rng = np.random.default_rng(5)
    rows = rng.integers(0, n, m)
    return rows, np.array([rng.choice(np.delete(np.arange(n), row), k, replace=False) for row in rows])


@pytest.mark.parametrize("metric", METRICS)
def test_ranks_are_those_of_a_sort_in_double_precision(scene_vectors, metric):
    vectors = clustered(1300, 20)
    vectors[300:600] = (50 + 1e-2 * vectors[300:600]).astype(np.float32)  # single precision is in doubt about these
    for some in (with_copies_and_zeros(vectors), scene_vectors):
        rows, others = drawn_pairs(len(some), 120, 7)
        rows[:4], others[:4, 0] = [100, 3, 60, 40], [7, 60, 3, len(some) - 1]
        truth = np.round(true_scores(some, some, metric), 13 if metric == "cosine" else 10)
        np.testing.assert_array_equal(NearestRows(some, metric).ranks(rows, others), true_ranks(truth, rows, others))


@pytest.mark.parametrize("metric", METRICS)
def test_the_neighbors_in_the_graph_have_the_ranks_one_to_k(metric):
    searcher = NearestRows(with_copies_and_zeros(clustered(400, 33)), metric)
    rows, _ = searcher.graph(8)
    ranks = searcher.ranks(np.arange(400), rows)
    np.testing.assert_array_equal(ranks, np.broadcast_to(np.arange(1, 9), (400, 8)))


def test_ranks_of_rows_that_are_all_alike_go_by_row():
    ranks = NearestRows(np.ones((6, 3), np.float32)).ranks(np.array([2, 0]), np.array([[0, 1, 3, 5], [1, 2, 4, 5]]))
    np.testing.assert_array_equal(ranks, [[1, 2, 3, 5], [1, 2, 4, 5]])
    zeros = np.array([[0.0, 0], [1, 0], [0, 0], [0, 1]], np.float32)
    np.testing.assert_array_equal(NearestRows(zeros).ranks(np.array([2]), np.array([[0, 1, 3]])), [[1, 2, 3]])


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
    for module in (products, candidates, nearest):
        monkeypatch.setattr(module, "BLOCK_BYTES", 50_000)
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


def test_one_long_vector_does_not_spoil_the_bound_of_the_others():
    vectors = clustered(500, 24)
    vectors[17] *= 1e6
    for metric in METRICS:
        for half in (False, True):
            rows, scores = NearestRows(vectors, metric).graph(6, half=half)
            truth = without_own(true_scores(vectors, vectors, metric))
            assert_k_best(rows, scores, truth, 6)


def test_products_stay_within_the_bound_that_completeness_rests_on():
    vectors = clustered(1100, 96)
    for metric in METRICS:
        rows = products.Products(vectors, np.arange(1100), metric)
        wide = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if metric == "cosine" else vectors).astype(
            float
        )
        u = (wide - rows.center) * rows.scale
        exact = u @ u.T + rows.bias[:1100]
        for kind in (candidates.Half, candidates.Single):
            scores = kind(rows, 5)
            scores.group = 1
            for start in range(0, 1100, scores.step):
                block = np.arange(start, min(start + scores.step, 1100))
                values, bound = scores.load(None, block, 0)
                off = np.abs(scores.groups(values)[:, :1100] - exact[block])
                if scores.half:
                    off -= 2.0**-8 * 1.02 * np.abs(exact[block])
                assert (off.max(axis=1) < bound).all()
                assert (off.max(axis=1) > bound / 1000).any()  # and it is not idle


def test_half_precision_is_as_exact_as_the_bound_supposes_and_no_more(monkeypatch):
    few, many = candidates.drawn_halves()
    assert candidates.half_is_sound(few, many)
    monkeypatch.setattr(candidates, "_WRITTEN", 2.0**-9)
    assert not candidates.half_is_sound(few, many)
