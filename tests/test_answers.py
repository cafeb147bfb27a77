"""What the explorer answers a view: by the method that was measured best, and no image through the network twice."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
from drawn import photo, tiny_network, to_tensor_32
from PIL import Image

import vizkit as vk
from vizkit.errors import InputError, MethodNotApplicableError, MissingEncoderError
from vizkit.saliency import badges
from vizkit.saliency.methods import METHODS, Occlusion
from vizkit.widgets import answers as module
from vizkit.widgets.answers import Answers


@pytest.fixture
def asked():
    """Give answers over four drawn images, their ids, and the sizes of the batches that run."""
    badges.forget()
    network = tiny_network()
    embeddings = drawn(network)
    sizes = []
    network.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    yield Answers([embeddings]), embeddings.ids, sizes, embeddings.encoder
    badges.forget()


def drawn(network, **how):
    images = vk.ImageSet.from_frame(pd.DataFrame({"path": [photo(i) for i in range(4)]}))
    return vk.embed(images, vk.Encoder(network, preprocess=to_tensor_32, **how), progress=False)


def question(ids, **fields):
    return {"name": "evidence", "graph": 0, "query": ids[0], "neighbors": ids[1:], **fields}


def found_green(encoder, method, verdict="green"):
    frame = pd.DataFrame({"measure": ["energy"], "against": ["area share"], "value_low": [0.5]})
    made = {"fingerprint": encoder.fingerprint, "center": "none", "encoder": encoder.name}
    badges.remember(badges.Trust(verdict, "energy 0.5", method, frame, made))


def floats(blob):
    return np.frombuffer(blob, "<f4")


def pixels(blob):
    return np.asarray(Image.open(io.BytesIO(blob)).convert("RGB"), float)


def test_images_that_went_through_the_network_lately_do_not_again(asked):
    answers, ids, sizes, _ = asked
    first, blobs = answers.answer(question(ids))
    assert sizes == [4]
    second, again = answers.answer(question(ids))
    assert sizes == [4]
    assert blobs == again
    assert first == second
    answers.answer({"name": "matches", "graph": 0, "query": ids[1], "neighbor": ids[0]})
    assert sizes == [4]


def test_images_go_through_the_network_again_once_its_weights_have_changed(asked):
    answers, ids, sizes, encoder = asked
    first, _ = answers.answer(question(ids))
    with torch.no_grad():
        encoder.module[0].weight.mul_(-1)
    second, _ = answers.answer(question(ids))
    assert sizes == [4, 4]
    fresh = vk.explain_pair(encoder, photo(0), photo(1), "contribution").similarity
    assert second["pairs"][0]["similarity"] == pytest.approx(fresh, abs=1e-6)
    assert abs(first["pairs"][0]["similarity"] - fresh) > 1e-3


def test_contribution_answers_at_once_and_names_the_method_that_was_found_green(asked):
    answers, ids, _, encoder = asked
    found_green(encoder, "occlusion")
    fields, blobs = answers.answer(question(ids))
    assert (fields["method"], fields["better"], fields["pending"]) == ("contribution", "occlusion", [])
    assert fields["trust"]["verdict"] is None
    assert "vk.trust(encoder, images, 'contribution')" in fields["trust"]["reason"]
    assert fields["verdicts"] == {"occlusion": "green"}
    for i, e in enumerate(vk.explain_many(encoder, photo(0), [photo(j) for j in (1, 2, 3)], "contribution")):
        np.testing.assert_allclose(floats(blobs[1 + 3 * i]), e.map_a.ravel(), atol=1e-6)
        np.testing.assert_allclose(floats(blobs[2 + 3 * i]), e.map_b.ravel(), atol=1e-6)


def test_the_better_method_answers_for_one_neighbor_and_names_the_rest(asked):
    answers, ids, _, encoder = asked
    found_green(encoder, "occlusion")
    fields, blobs = answers.answer(question(ids, method="occlusion"))
    assert (fields["method"], fields["better"], fields["title"]) == ("occlusion", None, "Occlusion")
    assert fields["trust"] == {"verdict": "green", "reason": "energy 0.5"}
    assert "found green" in fields["reason"]
    assert fields["pending"] == ids[2:]
    expected = vk.explain_pair(encoder, photo(0), photo(1), "occlusion")
    np.testing.assert_allclose(floats(blobs[1]), expected.map_a.ravel(), atol=1e-6)


def test_a_method_that_was_measured_with_numbers_of_its_own_answers_with_these(asked):
    answers, ids, _, encoder = asked
    method = Occlusion(window=4, grid=8)
    found_green(encoder, method)
    fields, _ = answers.answer(question(ids))
    assert (fields["better"], fields["verdicts"]) == ("occlusion", {"occlusion": "green"})
    _, blobs = answers.answer(question(ids, method="occlusion"))
    expected = vk.explain_pair(encoder, photo(0), photo(1), method)
    np.testing.assert_allclose(floats(blobs[1]), expected.map_a.ravel(), atol=1e-6)
    usual = vk.explain_pair(encoder, photo(0), photo(1), "occlusion")
    assert np.abs(usual.map_a.ravel() - floats(blobs[1])).max() > 1e-3


def test_where_contribution_is_best_or_red_methods_are_known_nothing_follows(asked):
    answers, ids, _, encoder = asked
    found_green(encoder, "contribution")
    found_green(encoder, "gradcam", "red")
    fields, _ = answers.answer(question(ids))
    assert (fields["method"], fields["better"]) == ("contribution", None)
    assert fields["trust"]["verdict"] == "green"
    assert fields["verdicts"] == {"contribution": "green", "gradcam": "red"}
    chosen, _ = answers.answer(question(ids, method="gradcam"))
    assert chosen["trust"] == {"verdict": "red", "reason": "energy 0.5"}


def test_a_contrast_is_what_the_package_computes(asked):
    answers, ids, _, encoder = asked
    fields, blobs = answers.answer({"name": "contrast", "graph": 0, "query": ids[0], "near": ids[2], "far": ids[1]})
    expected = vk.explain_contrast(encoder, photo(0), photo(2), photo(1))
    assert [panel["name"] for panel in fields["panels"]] == ["query", "near", "far"]
    for i, panel in enumerate(expected.panels):
        np.testing.assert_allclose(floats(blobs[2 * i]), panel.map.ravel(), atol=1e-6)
        assert np.abs(pixels(blobs[2 * i + 1]) - panel.seen).mean() < 12
        assert fields["panels"][i]["shape"] == list(panel.map.shape)
        assert fields["panels"][i]["residual"] == pytest.approx(panel.residual, abs=1e-6)
    assert fields["value"] == pytest.approx(expected.value, abs=1e-6)
    near, far = (vk.explain_pair(encoder, photo(0), photo(j)).similarity for j in (2, 1))
    np.testing.assert_allclose(fields["similarities"], [near, far], atol=1e-6)
    assert fields["limit"] == pytest.approx(max(np.abs(panel.map).max() for panel in expected.panels), abs=1e-6)
    assert fields["headline"].startswith(f"Nearer to {'this' if near > far else 'that'} one by {abs(near - far):.3f}")
    other, _ = answers.answer({"name": "contrast", "graph": 0, "query": ids[0], "near": ids[1], "far": ids[2]})
    assert other["headline"].startswith(f"Nearer to {'that' if near > far else 'this'} one by")
    same, _ = answers.answer({"name": "contrast", "graph": 0, "query": ids[0], "near": ids[1], "far": ids[1]})
    assert same["headline"].startswith("Both are equally near")


def test_matches_are_what_the_package_finds_and_the_matrix_adds_up_to_the_cosine(asked):
    answers, ids, _, encoder = asked
    fields, blobs = answers.answer({"name": "matches", "graph": 0, "query": ids[0], "neighbor": ids[3]})
    pair = vk.explain_pair(encoder, photo(0), photo(3), "contribution")
    matrix = floats(blobs[0]).reshape(pair.matrix.shape)
    np.testing.assert_allclose(matrix, pair.matrix, atol=1e-6)
    assert matrix.sum() == pytest.approx(fields["similarity"], abs=1e-5)
    (h, w), expected = fields["shape_a"], pair.matches(n=1000)
    assert (h, w) == pair.map_a.shape
    cells = [[a // w, a % w, b // w, b % w] for a, b, _ in fields["best"]]
    assert cells == expected.frame[["row_a", "column_a", "row_b", "column_b"]].to_numpy().tolist()
    for a, b, carried in fields["best"]:
        assert matrix[a, b] == pytest.approx(carried, abs=1e-6)
    every = expected.carried.loc["all"]
    assert fields["carried"] == pytest.approx(every["share"])
    assert (fields["low"], fields["chance"], fields["high"]) == tuple(every[["low", "chance", "high"]])
    for blob, seen in zip(blobs[1:], (pair.seen_a, pair.seen_b), strict=True):
        assert np.abs(pixels(blob) - seen).mean() < 12


def test_where_the_cosine_is_no_sum_over_patches_matches_say_why():
    network = tiny_network()
    embeddings = drawn(
        torch.nn.Sequential(*list(network.children())[:4], torch.nn.AdaptiveMaxPool2d(1), torch.nn.Flatten())
    )
    answers, ids = Answers([embeddings]), embeddings.ids
    with pytest.raises(MethodNotApplicableError, match="cannot be split into contributions of patches"):
        answers.answer({"name": "matches", "graph": 0, "query": ids[0], "neighbor": ids[1]})
    assert answers.answer(question(ids))[0]["method"] == "occlusion"


def test_more_pairs_of_patches_than_a_browser_holds_are_refused(asked, monkeypatch):
    answers, ids, *_ = asked
    monkeypatch.setattr(module, "_MOST_PAIRS", 100)
    with pytest.raises(InputError, match="Maps of 8 x 8 and 8 x 8 make 0 million pairs of patches"):
        answers.answer({"name": "matches", "graph": 0, "query": ids[0], "neighbor": ids[1]})


def test_each_graph_is_answered_for_by_its_own_network_and_layer():
    network = tiny_network()
    spaces = [drawn(tiny_network(1)), drawn(network, layer="1", pool="gap"), drawn(network, layer="3", pool="gap")]
    answers, ids = Answers(spaces), spaces[0].ids
    found = set()
    for _ in range(2):  # what was seen for one graph is not taken for another's, of the same weights even
        for graph, embeddings in enumerate(spaces):
            fields, _ = answers.answer(question(ids, graph=graph))
            expected = vk.explain_pair(embeddings.encoder, photo(0), photo(1)).similarity
            assert fields["pairs"][0]["similarity"] == pytest.approx(expected, abs=1e-6)
            found.add(round(expected, 4))
    assert len(found) == 3


def test_what_cannot_be_answered_says_why(asked):
    answers, ids, *_ = asked
    with pytest.raises(InputError, match="no neighbor to compare with"):
        answers.answer(question(ids, neighbors=[]))
    with pytest.raises(InputError, match="No image with id 'nobody'"):
        answers.answer({"name": "picture", "graph": 0, "id": "nobody"})
    with pytest.raises(InputError, match="asked for 'tea'"):
        answers.answer({"name": "tea"})
    bare = vk.Embeddings.from_frame(pd.DataFrame({"id": ["a", "b"], "embedding": [[1.0, 2.0], [2.0, 1.0]]}))
    without = Answers([bare])
    assert "without the network" in without.why_not(0)
    with pytest.raises(MissingEncoderError, match="Evidence needs the network behind the vectors"):
        without.answer(question(["a", "b"]))


def test_every_method_can_be_asked_for_by_name(asked):
    answers, *_ = asked
    assert [m["name"] for m in answers.describe()["methods"]] == list(METHODS)
