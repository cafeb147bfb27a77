"""`neighbors` and the shared graph: against scikit-learn in double precision, and against planted answers."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics.pairwise import cosine_similarity, euclidean_distances, linear_kernel

import vizkit as vk
from vizkit.embeddings import Embeddings
from vizkit.errors import ImageReadError, InputError, MissingEncoderError
from vizkit.graph import neighbor_graph
from vizkit.images import as_image


def embeddings_of(vectors, **columns):
    vectors = np.asarray(vectors, np.float32)
    ids = [f"image-{i:03}" for i in range(len(vectors))]
    return Embeddings.from_frame(pd.DataFrame({"id": ids, "embedding": list(vectors), **columns}))


@pytest.fixture
def random_set():
    vectors = np.random.default_rng(3).standard_normal((200, 24))
    return embeddings_of(vectors, label=[f"class {i % 4}" for i in range(200)], size=np.arange(200))


class MeanColor:
    """Stands for an encoder: the vector of an image is its mean color."""

    name = "mean color"

    def embed_image(self, image):
        return np.asarray(as_image(image), np.float32).reshape(-1, 3).mean(axis=0)


@pytest.fixture
def colors():
    frame = pd.DataFrame(index=pd.Index(["red", "green", "blue"], name="id"))
    return Embeddings(np.array([[255, 9, 9], [9, 255, 9], [9, 9, 255]], np.float32), frame, encoder=MeanColor())


def test_neighbors_are_those_of_scikit_learn_in_double_precision(random_set):
    truth = cosine_similarity(random_set.vectors.astype(np.float64))
    np.fill_diagonal(truth, -np.inf)
    found = vk.neighbors(random_set, random_set.ids, k=12)
    best = np.argsort(-truth, axis=1)[:, :12]
    assert found["query"].tolist() == [i for i in random_set.ids for _ in range(12)]
    assert found["rank"].tolist() == list(range(1, 13)) * 200
    assert found["id"].tolist() == [random_set.ids[row] for row in best.ravel()]
    np.testing.assert_allclose(found["similarity"], np.take_along_axis(truth, best, 1).ravel(), atol=1e-12)


def test_neighbors_carry_the_columns_of_the_frame(random_set):
    found = vk.neighbors(random_set, "image-005", k=3)
    assert list(found.columns) == ["query", "rank", "id", "similarity", "label", "size"]
    assert found.index.tolist() == [0, 1, 2]
    rows = [random_set.row(i) for i in found["id"]]
    assert found["size"].tolist() == rows
    assert found["label"].tolist() == [f"class {row % 4}" for row in rows]


def test_a_column_of_the_same_name_is_kept_beside_ours():
    found = vk.neighbors(embeddings_of(np.eye(3), rank=[7, 8, 9], similarity=["a", "b", "c"]), "image-000", k=1)
    assert list(found.columns) == ["query", "rank", "id", "similarity", "rank_", "similarity_"]
    assert found.loc[0, ["rank", "id", "rank_", "similarity_"]].tolist() == [1, "image-001", 8, "b"]


@pytest.mark.parametrize("ask", [17, np.int64(17), "image-017", ["image-017"], (17,), pd.Index(["image-017"])])
def test_row_and_id_ask_for_the_same(random_set, ask):
    expected = vk.neighbors(random_set, "image-017", k=5)
    pd.testing.assert_frame_equal(vk.neighbors(random_set, ask, k=5), expected)
    assert set(expected["query"]) == {"image-017"}


def test_a_member_leaves_itself_out_and_finds_its_copy():
    vectors = np.random.default_rng(0).standard_normal((30, 8)).astype(np.float32)
    vectors[20] = vectors[4]
    found = vk.neighbors(embeddings_of(vectors), 4, k=3)
    assert found["id"][0] == "image-020"
    assert found["similarity"][0] == 1.0
    assert "image-004" not in set(found["id"])


def test_a_vector_from_outside_finds_the_member_that_equals_it(random_set):
    found = vk.neighbors(random_set, 3.0 * random_set.vectors[8].astype(np.float64), k=2)
    assert found.loc[0, ["query", "id"]].tolist() == ["vector", "image-008"]
    assert found["similarity"][0] == pytest.approx(1, abs=1e-12)
    as_list = vk.neighbors(random_set, [float(x) for x in random_set.vectors[8]], k=2)
    assert as_list["id"].tolist() == found["id"].tolist()


@pytest.mark.parametrize("kind", [np.float32, np.float64, "torch"])
def test_rows_of_an_array_of_floats_are_vectors(random_set, kind):
    rows = random_set.vectors[[8, 3, 5]]
    asked = torch.from_numpy(rows) if kind == "torch" else rows.astype(kind)
    found = vk.neighbors(random_set, asked, k=1)
    assert found["query"].tolist() == ["vector", "vector (2)", "vector (3)"]
    assert found["id"].tolist() == ["image-008", "image-003", "image-005"]


def test_what_is_no_embeddings_is_refused_in_words():
    for ask in (vk.neighbors, lambda vectors, row: vk.project(vectors)):
        with pytest.raises(InputError, match=r"Embeddings, not ndarray: .*vk\.Embeddings\.from_frame\(table\)"):
            ask(np.eye(4), 0)


def test_equally_similar_images_come_in_the_order_of_the_set():
    vectors = np.array([[1, 0], [0, 1], [0, -1], [0, 1], [1, 0]], np.float32)
    found = vk.neighbors(embeddings_of(vectors), 0, k=4)
    assert found["id"].tolist() == ["image-004", "image-001", "image-002", "image-003"]
    assert found["similarity"].tolist() == [1, 0, 0, 0]


def test_a_zero_vector_is_similar_to_nothing():
    vectors = np.array([[0, 0], [1, 1], [0, 0], [-1, 0]], np.float32)
    assert vk.neighbors(embeddings_of(vectors), 0)["similarity"].tolist() == [0, 0, 0]
    found = vk.neighbors(embeddings_of(vectors), 1)
    assert found["id"].tolist() == ["image-000", "image-002", "image-003"]


@pytest.mark.parametrize(("n", "k"), [(1, 5), (2, 5), (5, 5), (6, 5), (7, 5)])
def test_where_there_are_fewer_all_others_are_neighbors(n, k):
    found = vk.neighbors(embeddings_of(np.random.default_rng(n).standard_normal((n, 4))), 0, k=k)
    assert len(found) == min(k, n - 1)
    assert found["rank"].tolist() == list(range(1, min(k, n - 1) + 1))
    assert list(found.columns) == ["query", "rank", "id", "similarity"]
    assert "image-000" not in set(found["id"])


def test_an_image_is_asked_through_the_encoder(colors, tmp_path):
    blue = Image.new("RGB", (8, 8), (0, 0, 255))
    blue.save(tmp_path / "new.png")
    for ask, name in [(blue, "image"), (np.asarray(blue), "image"), (tmp_path / "new.png", str(tmp_path / "new.png"))]:
        found = vk.neighbors(colors, ask, k=2)
        assert found["id"][0] == "blue"
        assert found["query"].tolist() == [name, name]
    both = vk.neighbors(colors, [str(tmp_path / "new.png"), "red"], k=1)
    assert both["id"].tolist() == ["blue", "green"]


def test_an_id_goes_before_a_file_of_that_name(colors, tmp_path, monkeypatch):
    Image.new("RGB", (8, 8), (0, 0, 255)).save(tmp_path / "red", format="png")
    monkeypatch.chdir(tmp_path)
    assert vk.neighbors(colors, "red")["id"].tolist() == ["green", "blue"]


def test_an_image_without_an_encoder_says_what_is_missing(random_set):
    with pytest.raises(MissingEncoderError, match="needs the network behind the vectors"):
        vk.neighbors(random_set, Image.new("RGB", (4, 4)))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        ("image-01x", r"'image-01x' is neither an id of this set nor a file.*Closest: 'image-"),
        (200, r"no row 200: rows go from 0 to 199"),
        (-1, r"no row -1: rows go from 0 to 199"),
        (np.zeros(23), r"shape \(23,\); these embeddings have vectors \(24,\)"),
        (np.full(24, np.nan), r"NaN or infinity in 24 of 24"),
        (np.full(24, 1e300), r"NaN or infinity"),
        (np.arange(24), r"may mean rows or a vector"),
        (True, r"query is True"),
        (None, r"query is None"),
        ({"id": 3}, r"query is of type dict; expected an id"),
        ("a" * 5000, r"query 'a{200}\.\.\.' is neither an id of this set nor a file"),
        ("a\0b", r"neither an id of this set nor a file"),
        (pd.DataFrame({"id": ["image-001"]}), r"of type DataFrame; .*Give one of its columns, ids or paths"),
        (embeddings_of(np.eye(24)), r"of type Embeddings; .*Give its vectors: embeddings\.vectors"),
        (vk.scenes("held-out").subset([0]), r"of type Scenes; .*Give its images: list\(images\)"),
        (pd.Series([0.5, None] * 12, dtype="Float64"), r"NaN or infinity in 12 of 24"),
        ([], r"list of queries is empty"),
        (["image-001", "nobody"], r"'nobody' is neither an id"),
    ],
)
def test_a_query_that_cannot_be_asked_says_why(random_set, ask, message):
    with pytest.raises(InputError, match=message):
        vk.neighbors(random_set, ask)


def test_a_folder_is_no_query_and_the_message_says_what_takes_it(random_set, tmp_path):
    with pytest.raises(InputError, match=r"is a folder; expected a file.*images = vk\.ImageSet\.from_folder\('"):
        vk.neighbors(random_set, tmp_path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_tensors_of_any_float_are_vectors(random_set, dtype):
    asked = torch.from_numpy(random_set.vectors[8]).to(dtype)
    found = vk.neighbors(random_set, asked, k=1)
    assert found["id"].tolist() == ["image-008"]
    expected = cosine_similarity(asked.double().numpy()[None], random_set.vectors[8:9].astype(float))
    assert found["similarity"].tolist() == pytest.approx(expected[0], abs=1e-6)


def test_one_bad_image_in_a_list_is_named(colors, tmp_path):
    good, broken = tmp_path / "good.png", tmp_path / "broken.png"
    Image.new("RGB", (64, 64), (0, 0, 255)).save(good)
    broken.write_bytes(good.read_bytes()[:60])
    with pytest.raises(ImageReadError, match=r"broken\.png"):
        vk.neighbors(colors, [good, "red", broken])
    with pytest.raises(ImageReadError, match=r"broken\.png: "):
        vk.neighbors(colors, [good, Image.open(broken)])
    with pytest.raises(InputError, match=r"^image \(2\): .*\(4, 4, 7\)"):
        vk.neighbors(colors, [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 7), np.uint8)])


def test_all_queries_are_understood_before_an_image_is_read(colors, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.raises(InputError, match="'nobody' is neither"):
        vk.neighbors(colors, [broken, "nobody"])


def test_a_file_that_is_called_as_a_member_has_a_name_of_its_own(colors, tmp_path, monkeypatch):
    Image.new("RGB", (8, 8), (0, 0, 255)).save(tmp_path / "red", format="png")
    monkeypatch.chdir(tmp_path)
    found = vk.neighbors(colors, ["red", Path("red")], k=1)
    assert found[["query", "id"]].values.tolist() == [["red", "green"], ["red (2)", "blue"]]


def test_an_encoder_that_was_trained_on_since_is_refused():
    images = vk.scenes("held-out").subset(range(4))
    encoder = vk.Encoder("scenes", weights=None)
    embeddings = vk.embed(images, encoder, progress=False)
    assert vk.neighbors(embeddings, images[0], k=1)["id"].tolist() == images.ids[:1]
    with torch.no_grad():
        next(encoder.module.parameters()).mul_(2)
    with pytest.raises(InputError, match=r"made by the encoder \w+, those of the images by \w+"):
        vk.neighbors(embeddings, images[0])


@pytest.mark.parametrize("k", [0, -3, 2.5, True, "5"])
def test_k_must_be_a_count(random_set, k):
    with pytest.raises(InputError, match="expected a whole number of neighbors, 1 or more"):
        vk.neighbors(random_set, 0, k=k)
    with pytest.raises(InputError, match="expected a whole number of neighbors, 1 or more"):
        neighbor_graph(random_set, k)


def test_no_vectors_have_no_neighbors():
    with pytest.raises(InputError, match="no vectors"):
        vk.neighbors(embeddings_of(np.zeros((0, 4))), np.zeros(4))


@pytest.mark.parametrize("metric", ["euclidean", "inner_product"])
def test_neighbors_by_distance_and_by_inner_product_are_those_of_scikit_learn(random_set, metric):
    wide = random_set.vectors.astype(np.float64)
    truth = -euclidean_distances(wide) if metric == "euclidean" else linear_kernel(wide)
    np.fill_diagonal(truth, -np.inf)
    best = np.argsort(-truth, axis=1)[:, :5]
    found = vk.neighbors(random_set, random_set.ids, k=5, metric=metric)
    name, sign = ("distance", -1) if metric == "euclidean" else ("similarity", 1)
    assert list(found.columns) == ["query", "rank", "id", name, "label", "size"]
    assert found["id"].tolist() == [random_set.ids[row] for row in best.ravel()]
    np.testing.assert_allclose(found[name], sign * np.take_along_axis(truth, best, 1).ravel(), rtol=1e-9)
    assert (found.groupby("query")[name].diff().dropna() * sign <= 0).all()


def test_a_copy_lies_at_distance_zero():
    found = vk.neighbors(embeddings_of([[1, 2], [3, 4], [1, 2]]), 0, k=1, metric="euclidean")
    assert found.loc[0, ["id", "distance"]].tolist() == ["image-002", 0.0]
    assert not np.signbit(found.loc[0, "distance"])


def test_graph_and_search_give_the_same_rows_and_scores(random_set):
    graph = neighbor_graph(random_set, 10)
    found = vk.neighbors(random_set, random_set.ids, k=10)
    assert (graph.indices.dtype, graph.similarities.dtype, graph.k) == (np.int32, np.float32, 10)
    assert [random_set.ids[row] for row in graph.indices.ravel()] == found["id"].tolist()
    np.testing.assert_array_equal(graph.similarities.ravel(), found["similarity"].to_numpy(np.float32))
    np.testing.assert_allclose(graph.distances, 1 - graph.similarities, atol=1e-7)


def test_neighbors_of_real_photos_equal_brute_force(shared):
    """Real vectors (MobileNetV2), with copies of photos and a zero vector among them."""
    weights = sorted((shared / "torch" / "converted").glob("mobilenet_v2*.pth"))
    photos = sorted((shared / "images" / "clothing10" / "dress").glob("*.jpg"))[:6]
    if not weights or not photos:
        pytest.skip("MobileNetV2's weights or the photos are not there")
    encoder = vk.Encoder("mobilenet_v2", weights=weights[0])
    vectors = np.stack([encoder.embed_image(path) for path in photos])
    vectors = np.concatenate([vectors, vectors[:3], np.zeros((1, vectors.shape[1]), np.float32)])
    truth = np.round(cosine_similarity(vectors.astype(np.float64)), 12)  # scikit-learn's copies differ in the last bits
    np.fill_diagonal(truth, -np.inf)
    graph = neighbor_graph(embeddings_of(vectors), 5)
    np.testing.assert_array_equal(graph.indices, np.argsort(-truth, axis=1, kind="stable")[:, :5])
    assert graph.indices[:3, 0].tolist() == [6, 7, 8]
    np.testing.assert_array_equal(graph.similarities[:3, 0], 1)
    np.testing.assert_array_equal(graph.similarities[-1], 0)
