"""What the explorer answers a view: the method that was measured best, and no image through the network twice."""

import numpy as np
import pandas as pd
import pytest
import torch
from drawn import photo, tiny_network, to_tensor_32

import vizkit as vk
from vizkit.saliency import badges
from vizkit.saliency.methods import METHODS
from vizkit.widgets.answers import Answers


@pytest.fixture
def asked():
    """Give answers over four drawn images, their ids, and the sizes of the batches that run."""
    badges.forget()
    images = vk.ImageSet.from_frame(pd.DataFrame({"path": [photo(i) for i in range(4)]}))
    module = tiny_network()
    embeddings = vk.embed(images, vk.Encoder(module, preprocess=to_tensor_32), progress=False)
    sizes = []
    module.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    yield Answers(embeddings), embeddings.ids, sizes, embeddings.encoder
    badges.forget()


def question(ids, **fields):
    return {"name": "evidence", "query": ids[0], "neighbors": ids[1:], **fields}


def test_images_that_went_through_the_network_lately_do_not_again(asked):
    answers, ids, sizes, _ = asked
    first, blobs = answers.answer(question(ids))
    assert sizes == [4]
    second, again = answers.answer(question(ids))
    assert sizes == [4]
    assert blobs == again
    assert first == second
    answers.answer({"name": "evidence", "query": ids[1], "neighbors": [ids[0]]})
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


def test_the_method_that_was_found_green_answers_and_the_view_is_told_the_verdict(asked):
    answers, ids, _, encoder = asked
    frame = pd.DataFrame({"measure": ["energy"], "against": ["area share"], "value_low": [0.5]})
    made = {"fingerprint": encoder.fingerprint, "center": "none", "encoder": encoder.name}
    badges.remember(badges.Trust("green", "energy 0.5", "occlusion", frame, made))
    fields, blobs = answers.answer(question(ids))
    assert (fields["method"], fields["measured"], fields["title"]) == ("occlusion", "green", "Occlusion")
    assert "found green" in fields["reason"]
    assert fields["pending"] == ids[2:]
    whole = answers.whole_evidence(ids[0], ids[1:])
    assert [pair["id"] for pair in whole["fields"]["pairs"]] == ids[1:]
    expected = vk.explain_pair(encoder, photo(0), photo(3), "occlusion")
    np.testing.assert_allclose(np.frombuffer(whole["buffers"][7], "<f4"), expected.map_a.ravel(), atol=1e-6)
    assert blobs[1] == whole["buffers"][1]


def test_every_method_can_be_asked_for_by_name(asked):
    answers, *_ = asked
    assert [m["name"] for m in answers.describe()["methods"]] == list(METHODS)
