"""The questions and their answers: which method is taken and why, many at once and as they come, and what is said."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from drawn import photo, tiny_network, to_tensor_32

import vizkit as vk
from vizkit.errors import ImageReadError, InputError, MethodNotApplicableError
from vizkit.saliency import badges
from vizkit.saliency.methods import METHODS, Occlusion
from vizkit.saliency.questions import explain_many, explaining
from vizkit.saliency.spatial import Seen, see, spatial_layer


@pytest.fixture
def forget():
    """Start and end with no badge in this process."""
    badges.forget()
    yield
    badges.forget()


@pytest.fixture
def counted():
    """Give a small encoder, and a list that gets the size of every batch that runs through it."""
    module = tiny_network()
    encoder = vk.Encoder(module, preprocess=to_tensor_32)
    sizes = []
    module.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    return encoder, sizes


def badge(encoder, method, verdict, energy):
    """Make a badge as `trust` does, of figures that are made up."""
    frame = pd.DataFrame({"measure": ["energy"], "against": ["area share"], "value_low": [energy]})
    provenance = {"fingerprint": encoder.fingerprint, "center": "none", "encoder": encoder.name}
    return badges.Trust(verdict, f"energy {energy}", method, frame, provenance)


def test_without_a_badge_the_default_is_contribution_and_says_that_nothing_was_measured(encoder, scenes, forget):
    why = vk.explain_pair(encoder, scenes[0], scenes[1])
    assert why.method == "contribution"
    assert why.trust == "not measured"
    assert why.reason == "exact here: the vector is the mean of a feature map of 8 x 8"
    assert "not measured" in why.headline
    assert "Contribution" in why.headline
    assert "exact here" in why.note.lower()
    assert why.layer == "input:fc"
    assert why.seen_a.shape == (64, 64, 3)


def test_with_badges_the_default_is_the_best_green_method_and_the_reason_says_so(forget):
    encoder = vk.Encoder(tiny_network(), preprocess=to_tensor_32)
    a, b = photo(0), photo(1)
    for method, verdict, energy in (
        ("contribution", "amber", 0.9),
        ("occlusion", "green", 0.4),
        (Occlusion(window=3), "green", 0.5),
        ("gradcam", "red", 0.8),
    ):
        badges.remember(badge(encoder, method, verdict, energy))
    why = vk.explain_pair(encoder, a, b)
    assert why.method == Occlusion(window=3)
    assert why.trust == "green"
    assert "found green" in why.reason
    red = vk.explain_pair(encoder, a, b, "gradcam")
    assert red.trust == "red"
    assert red.reason == "chosen by the caller; red: energy 0.8"
    assert "trust: red" in red.headline
    # A badge is of one network, one method and one center.
    assert vk.explain_pair(encoder, a, b, "sensitivity").trust == "not measured"
    assert vk.explain_pair(encoder, a, b, "gradcam", center=encoder.embed_image(photo(2))).trust == "not measured"
    other = vk.Encoder(tiny_network(seed=1), preprocess=to_tensor_32)
    assert vk.explain_pair(other, a, b).method == "contribution"
    assert vk.explain(encoder, a, target=0, method="gradcam").trust == "not measured"  # badges are of similarities
    assert vk.explain(encoder, a, target=np.ones(16), method="gradcam").trust == "red"


def test_a_default_that_was_found_amber_is_kept_where_nothing_is_green_and_says_what_was_found(forget):
    encoder = vk.Encoder(tiny_network(), preprocess=to_tensor_32)
    badges.remember(badge(encoder, "contribution", "amber", 0.2))
    why = vk.explain_pair(encoder, photo(0), photo(1))
    assert (why.method, why.trust) == ("contribution", "amber")
    assert why.reason.endswith("; amber: energy 0.2")


def test_many_at_once_equal_one_by_one(encoder, scenes):
    many = explain_many(encoder, scenes[0], [scenes[i] for i in range(1, 20)])
    for i in (1, 7, 19):
        alone = vk.explain_pair(encoder, scenes[0], scenes[i])
        np.testing.assert_allclose(many[i - 1].map_a, alone.map_a, atol=1e-6)
        np.testing.assert_allclose(many[i - 1].map_b, alone.map_b, atol=1e-6)
        assert many[i - 1].row == i - 1


def test_many_draw_themselves_together_on_one_scale_and_name_their_similarities(encoder, scenes):
    many = explain_many(encoder, scenes[0], [scenes[1], scenes[4]])
    figure = many.figure()
    heat = [trace.z for trace in figure.data if trace.type == "heatmap"]
    for why in many:
        for values in (why.map_a, why.map_b):
            assert any(np.array_equal(z, values) for z in heat)
        assert f"{why.similarity:.3f}" in str(figure.layout.annotations)
    assert "2 images" in figure.layout.title.text
    with pytest.raises(InputError, match="nothing to draw"):
        explain_many(encoder, scenes[0], []).figure()


def test_every_image_runs_once_and_hidden_parts_of_the_query_are_not_computed_again(counted):
    encoder, sizes = counted
    images = [photo(i) for i in range(4)]
    explain_many(encoder, images[0], images[1:], "contribution")
    assert sizes == [4]
    sizes.clear()
    one = vk.explain_pair(encoder, images[0], images[1], "occlusion")
    of_a_pair = sum(sizes) - 2  # 49 windows and the image itself, on each of two images
    sizes.clear()
    many = explain_many(encoder, images[0], images[1:], "occlusion")
    assert sum(sizes) - 4 <= 4 * of_a_pair / 2  # four images, not three times two
    np.testing.assert_allclose(many[0].map_a, one.map_a, atol=1e-6)
    assert np.abs(many[1].map_a - many[0].map_a).max() > 1e-4
    sizes.clear()
    explain_many(encoder, *(lambda seen: (seen[0], seen[1:]))(see(encoder, images)), "contribution")
    assert sizes == [4]  # by `see` alone


def test_what_was_seen_stands_for_its_image_in_every_question_but_for_its_own_encoder_only(encoder, scenes):
    seen = see(encoder, [scenes[0], scenes[1]])
    assert isinstance(seen[0], Seen)
    assert see(encoder, seen)[1] is seen[1]
    why, expected = (vk.explain_pair(encoder, *images) for images in (seen, [scenes[0], scenes[1]]))
    np.testing.assert_array_equal(why.map_a, expected.map_a)
    np.testing.assert_array_equal(why.seen_b, expected.seen_b)
    with pytest.raises(InputError, match="see it again"):
        vk.explain_pair(encoder.at("layer3"), *seen)


def test_pairs_come_one_by_one_and_what_came_is_kept_when_the_rest_is_left(counted):
    encoder, sizes = counted
    images = [photo(i) for i in range(4)]
    coming = explaining(encoder, images[0], images[1:], "occlusion")
    first = next(coming)
    so_far = sum(sizes)
    assert (first.row, first.method) == (0, "occlusion")
    assert next(coming).row == 1
    assert sum(sizes) > so_far
    coming.close()
    with pytest.raises(InputError, match="No method 'grad-cam'"):
        explaining(encoder, images[0], images[1:], "grad-cam")  # at the call, before any pair is asked for


def test_contribution_comes_at_once_and_the_green_slower_method_after_it(forget, counted):
    encoder, _ = counted
    images = [photo(i) for i in range(3)]
    badges.remember(badge(encoder, "occlusion", "green", 0.4))
    came = [(why.method, why.row, why.trust) for why in explaining(encoder, images[0], images[1:])]
    assert came == [
        ("contribution", 0, "not measured"), ("contribution", 1, "not measured"),
        ("occlusion", 0, "green"), ("occlusion", 1, "green"),
    ]  # fmt: skip
    assert [why.method for why in explain_many(encoder, images[0], images[1:])] == ["occlusion"] * 2


def test_explaining_a_vector_gives_the_cosine_to_it(encoder, scenes):
    target = encoder.embed_image(scenes[2])
    found = vk.explain(encoder, scenes[1], target=target, method="contribution")
    pair = vk.explain_pair(encoder, scenes[1], scenes[2], "contribution")
    assert found.value == pytest.approx(pair.similarity, abs=1e-5)
    assert found.kind == "cosine"
    np.testing.assert_allclose(found.map, pair.map_a, atol=1e-6)
    tensor = torch.tensor(target, requires_grad=True)
    np.testing.assert_array_equal(vk.explain(encoder, scenes[1], target=tensor, method="contribution").map, found.map)
    scores = encoder.module(encoder.preprocess(scenes[1])[None])
    of_class = vk.explain(encoder, scenes[1], target=scores.argmax())
    assert of_class.value == pytest.approx(scores.max().item(), abs=1e-5)
    assert of_class.kind == "logit"


def test_explaining_a_cluster_gives_the_cosine_to_the_mean_of_its_vectors(encoder, scenes):
    vectors = np.stack([encoder.embed_image(scenes[i]) for i in range(2, 8)])
    mean = vectors.astype(float).mean(0)
    expected = vk.explain(encoder, scenes[1], target=mean, method="contribution")
    cluster = vk.Embeddings(vectors, scenes.frame[2:8], provenance={"fingerprint": encoder.fingerprint})
    for target in (vectors, torch.from_numpy(vectors), cluster):
        found = vk.explain(encoder, scenes[1], target=target, method="contribution")
        np.testing.assert_allclose(found.map, expected.map, atol=1e-7)
        assert found.target == "the center of 6 vectors"
    off = np.stack([encoder.embed_image(scenes[i]) for i in range(20, 30)]).mean(0)
    centered = vk.explain(encoder, scenes[1], target=vectors, method="contribution", center=off)
    z, m = encoder.embed_image(scenes[1]) - off, mean - off
    assert centered.value == pytest.approx(z @ m / np.linalg.norm(z) / np.linalg.norm(m), abs=1e-5)
    assert centered.kind == "centered cosine"
    assert centered.map.sum() == pytest.approx(centered.value, abs=1e-5)
    with pytest.raises(InputError, match="target= are embeddings by the encoder"):
        vk.explain(vk.Encoder("scenes", weights=None), scenes[1], target=cluster)
    with pytest.raises(InputError, match=r"target must be a finite vector of 128 dimensions; it has shape \(3,\)"):
        vk.explain(encoder, scenes[1], target=vectors[:, :3])
    with pytest.raises(InputError, match=r"center= goes with a vector as target; target=1 is a class"):
        vk.explain(encoder, scenes[1], target=1, center=off)


def test_a_callable_gets_the_similarity_and_the_image(encoder, scenes):
    seen = []

    def corner(similarity, x):
        seen.append((float(similarity(x)[0].detach()), tuple(x.shape)))
        return np.eye(3)

    why = vk.explain_pair(encoder, scenes[0], scenes[1], corner)
    assert [s for _, s in seen] == [(1, 3, 64, 64)] * 2
    assert seen[0][0] == pytest.approx(why.similarity, abs=1e-5)
    assert seen[1][0] == pytest.approx(why.similarity, abs=1e-5)
    np.testing.assert_array_equal(why.map_a, np.eye(3))
    assert why.method is corner
    assert "corner" in why.headline


def test_every_answer_says_what_repeats_it(encoder, scenes):
    why = vk.explain_pair(encoder, scenes[0], scenes[1], Occlusion(window=4))
    assert why.provenance["fingerprint"] == encoder.fingerprint
    assert why.provenance["method"] == "occlusion"
    assert why.provenance["parameters"] == {"window": 4, "grid": 8}
    assert why.provenance["vizkit"] == vk.__version__
    assert why.provenance["torch"] == torch.__version__.split("+")[0]
    assert {"captum", "layer", "pool", "precision"} <= set(why.provenance)
    assert why.baseline == METHODS["occlusion"].baseline
    assert "window 4" in why.title
    again = vk.explain_pair(encoder, scenes[0], scenes[1], why.method)
    np.testing.assert_array_equal(again.map_a, why.map_a)


def test_the_fingerprint_follows_the_weights_though_it_is_remembered():
    module = tiny_network()
    encoder = vk.Encoder(module, preprocess=to_tensor_32)
    before = vk.explain_pair(encoder, photo(0), photo(1)).provenance["fingerprint"]
    with torch.no_grad():
        module[0].weight.mul_(1.5)
    after = vk.explain_pair(encoder, photo(0), photo(1)).provenance["fingerprint"]
    assert after == encoder.fingerprint != before


def test_gradcam_for_a_class_looks_at_the_last_feature_map_whatever_the_encoders_layer_is():
    module = tiny_network()
    early, late = (vk.Encoder(module, layer=layer, preprocess=to_tensor_32) for layer in ("1", "input:6"))
    found = vk.explain(early, photo(6), target=1)
    np.testing.assert_array_equal(found.map, vk.explain(late, photo(6), target=1).map)
    assert found.map.shape == (8, 8)
    assert found.layer == "3"
    assert vk.explain(early, photo(6), target=np.ones(8)).layer == "1"
    assert vk.explain(early, photo(6), target=1, method="saliency").layer == "output"
    assert vk.explain_pair(late, photo(6), photo(7), "gradcam").layer == "3"
    assert vk.explain_pair(late, photo(6), photo(7), "sensitivity").layer == "3"
    assert vk.explain_pair(late, photo(6), photo(7), "occlusion").layer == "input:6"


def test_gradcam_takes_the_center_off_the_number_and_not_off_the_map_and_says_so():
    encoder = vk.Encoder(tiny_network(), preprocess=to_tensor_32)
    z, other, mean = (encoder.embed_image(photo(i)).astype(float) for i in range(3))
    why = vk.explain_pair(encoder, photo(0), photo(1), "gradcam", center=mean)
    u = (other - mean) / np.linalg.norm(other - mean)
    assert why.map_a.sum() == pytest.approx(z @ u / np.linalg.norm(z - mean), rel=1e-4)
    assert abs(why.map_a.sum() - why.similarity) > 0.05
    assert "not taken off the map" in METHODS["gradcam"].says


def test_gradcam_looks_before_a_container_whose_input_is_the_vector():
    module = torch.nn.Sequential(tiny_network()[:4], torch.nn.Sequential(torch.nn.Conv2d(16, 4, 3)))
    encoder = vk.Encoder(module, layer="input:1", preprocess=to_tensor_32)
    assert spatial_layer(encoder) == "0"
    why = vk.explain_pair(encoder, photo(0), photo(1), "gradcam")
    np.testing.assert_allclose(why.map_a, vk.explain_pair(encoder, photo(0), photo(1)).map_a, atol=1e-6)


def test_the_figure_shows_the_maps_as_they_are_on_one_scale(encoder, scenes):
    why = vk.explain_pair(encoder, scenes[0], scenes[1])
    figure = why.figure()
    heat = [trace for trace in figure.data if trace.type == "heatmap"]
    np.testing.assert_array_equal(heat[0].z, why.map_a)
    np.testing.assert_array_equal(heat[1].z, why.map_b)
    assert {trace.coloraxis for trace in heat} == {"coloraxis"}
    assert figure.layout.coloraxis.cmax == pytest.approx(max(why.map_a.max(), why.map_b.max()))
    assert figure.layout.coloraxis.cmin == 0
    assert "Contribution" in figure.layout.title.text
    sensitivity = vk.explain_pair(encoder, scenes[0], scenes[1], "sensitivity").figure()
    assert sensitivity.layout.coloraxis.cmin == -sensitivity.layout.coloraxis.cmax < 0


def test_an_answer_can_be_saved_as_it_is_drawn(encoder, scenes, tmp_path):
    from PIL import Image

    why = vk.explain_pair(encoder, scenes[0], scenes[1])
    with Image.open(why.save(tmp_path / "why.png")) as picture:
        assert picture.width > picture.height > 100
    many = explain_many(encoder, scenes[0], [scenes[1], scenes[2]])
    with Image.open(many.save(tmp_path / "many.png", grid=True)) as picture:
        assert picture.width > 100


def test_what_cannot_be_explained_says_so(encoder, scenes):
    a, b = scenes[0], scenes[1]
    with pytest.raises(InputError, match="No method 'grad-cam': choose one of 'contribution', 'occlusion'"):
        vk.explain_pair(encoder, a, b, "grad-cam")
    with pytest.raises(InputError, match=r"target=10 is no class of scenes, whose output has shape \(1, 10\)"):
        vk.explain(encoder, a, target=10)
    with pytest.raises(InputError, match="target must be a finite vector of"):
        vk.explain(encoder, a, target=np.zeros(3))
    for target in ("star", None, True):
        with pytest.raises(InputError, match=f"must be a class index, a vector .* not {target!r}"):
            vk.explain(encoder, a, target=target)
    with pytest.raises(InputError, match="target must be a vector of"):
        vk.explain(encoder, a, target=["star"])
    with pytest.raises(InputError, match="must be a vizkit Encoder, not Sequential"):
        vk.explain_pair(tiny_network(), a, b)
    with pytest.raises(InputError, match="must be a vizkit Encoder, not str"):
        vk.explain("scenes", a, target=1)
    with pytest.raises(InputError, match="zero"):
        vk.explain(encoder, a, target=np.zeros(encoder.dim))
    with pytest.raises(MethodNotApplicableError, match="contribution splits a similarity"):
        vk.explain(encoder, a, target=1, method="contribution")
    with pytest.raises(InputError, match=r"must return finite values \(h, w\); it gave shape \(4,\)"):
        vk.explain_pair(encoder, a, b, lambda f, x: np.zeros(4))
    with pytest.raises(InputError, match="vector is zero"):
        vk.explain_pair(encoder, a, b, center=encoder.embed_image(a))


@pytest.mark.parametrize("asked", [explain_many, explaining])
def test_others_are_several_images_and_may_come_as_a_generator(asked, counted):
    encoder, _ = counted
    for one in ("photo.jpg", Path("photo.jpg"), photo(1), np.asarray(photo(1)), np.asarray(photo(1))[..., 0], None, 3):
        with pytest.raises(InputError, match=r"others must be several images, .* put one image in a list"):
            asked(encoder, photo(0), one)
    with pytest.raises(InputError, match=r"others must be several images, .* not Seen"):
        asked(encoder, photo(0), see(encoder, [photo(1)])[0])
    found = list(asked(encoder, photo(0), (photo(i) for i in (1, 2)), "gradcam"))
    assert [why.similarity for why in found] == [
        why.similarity for why in asked(encoder, photo(0), [photo(1), photo(2)])
    ]
    assert len(list(asked(encoder, photo(0), np.stack([np.asarray(photo(i)) for i in (1, 2, 3)]), "gradcam"))) == 3


def test_a_slice_of_many_draws_itself_too(counted):
    encoder, _ = counted
    many = explain_many(encoder, photo(0), [photo(1), photo(2), photo(3)])
    part = many[1:]
    assert [why.row for why in part] == [1, 2]
    assert "to 2 images" in part.figure().layout.title.text
    assert many[0] is many[:1][0]


def test_a_callable_may_return_a_tensor_that_wants_a_gradient(encoder, scenes):
    x = []

    def weighed(similarity, image):
        x.append(image.requires_grad_())
        return (torch.autograd.grad(similarity(image).sum(), image, create_graph=True)[0] * image)[0].sum(0).bfloat16()

    why = vk.explain_pair(encoder, scenes[0], scenes[1], weighed)
    assert why.map_a.shape == (64, 64)
    assert why.map_a.any()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((0, 4)), r"shape \(0, 4\)"), ("no map", "str"), ([[1], [1, 2]], "list"), (None, r"shape \(\)"),
        (np.array([[1, np.nan, np.inf]]), "2 of 3 that are NaN or infinite"),
    ],
)  # fmt: skip
def test_what_is_no_map_is_refused_with_what_came(encoder, scenes, given, said):
    with pytest.raises(InputError, match=rf"must return finite values \(h, w\); it gave {said}\."):
        vk.explain_pair(encoder, scenes[0], scenes[1], lambda f, x: given)


def test_titles_and_ids_that_are_given_for_names_and_images_are_told_what_to_give(encoder, scenes):
    for title, name in (("Grad-CAM", "gradcam"), ("Grad-CAM, norm held", "gradcam"), ("DeepLift", "deeplift")):
        with pytest.raises(InputError, match=rf"No method '{title}': .* Closest: '{name}'\."):
            vk.explain_pair(encoder, scenes[0], scenes[1], title)
    with pytest.raises(ImageReadError, match=r"'held-out/0005' .* give images\[images.row\(id\)\]"):
        explain_many(encoder, scenes[0], ["held-out/0005"])


def test_a_class_score_has_no_norm_to_hold_and_the_default_is_not_the_callers(encoder, scenes):
    why = vk.explain(encoder, scenes[0], target=3)
    assert (why.title, why.reason) == ("Grad-CAM", "the default for one image")
    why = vk.explain(encoder, scenes[0], target=encoder.embed_image(scenes[1]), method="gradcam")
    assert (why.title, why.reason) == ("Grad-CAM, norm held", "chosen by the caller")


def test_what_was_seen_before_the_weights_changed_is_refused():
    module = tiny_network()
    encoder = vk.Encoder(module, preprocess=to_tensor_32)
    seen = see(encoder, [photo(0), photo(1)])
    vk.explain_pair(encoder, *seen)
    # The second leaves no mark but the values, the third none in a sum.
    for change in (lambda w: w.mul_(1.5), lambda w: w.data.mul_(1.5), lambda w: w[0, 0, 0, 0].add_(1e-12)):
        with torch.no_grad():
            change(module[0].weight)
        with pytest.raises(InputError, match=r"weights have changed since .* see it again"):
            vk.explain_pair(encoder, *seen)
        seen = see(encoder, [photo(0), photo(1)])
        assert vk.explain_pair(encoder, *seen).similarity == vk.explain_pair(encoder, photo(0), photo(1)).similarity


def test_rounding_below_zero_is_no_sign(encoder, scenes):
    for least, signed in ((-1e-5, False), (-0.1, True)):
        values = np.full((2, 2), 1, np.float32)
        values[0, 0] = least
        assert vk.explain_pair(encoder, scenes[0], scenes[1], lambda f, x, values=values: values).signed is signed
