"""Why this one and not that one: signs on composites with two planted objects, and sums by hand."""

import numpy as np
import pytest
import torch
from PIL import Image

import vizkit as vk
from vizkit.errors import InputError, MethodNotApplicableError
from vizkit.saliency.questions import explain_contrast


def composites(scenes, n):
    """Yield (query, near, far, where near's object is in the query, where far's is).

    Near has its object on the left, far another shape on the right; the query is the left half of near and the right
    half of far.
    """
    rng = np.random.default_rng(0)
    while n:
        i, j = rng.integers(0, len(scenes), 2)
        both = scenes.frame.iloc[[i, j]]
        if both["shape"].nunique() == 1 or both["size"].max() > 0.45:
            continue
        near, far = np.asarray(scenes.render(i, x=0.25)), np.asarray(scenes.render(j, x=0.75))
        left = np.arange(64) < 32
        query = np.where(left[None, :, None], near, far)
        yield (
            *(Image.fromarray(pixels) for pixels in (query, near, far)),
            scenes.mask(i, x=0.25) & left,
            scenes.mask(j, x=0.75) & ~left,
        )
        n -= 1


def inside(values, mask):
    """Return the mean of a map in a region, cell by cell of the mask."""
    cell = len(mask) // len(values)
    return np.kron(values, np.ones((cell, cell)))[mask].mean()


@pytest.mark.parametrize(("method", "n"), [("contribution", 12), ("gradcam", 4), ("occlusion", 2)])
def test_on_composites_the_map_is_higher_on_the_nears_object_than_on_the_fars(encoder, scenes, method, n):
    signs = []
    for query, near, far, on_near, on_far in composites(scenes, n):
        why = explain_contrast(encoder, query, near, far, method)
        assert inside(why.map_query, on_near) > inside(why.map_query, on_far)
        signs += [inside(why.map_query, on_near) > 0, inside(why.map_query, on_far) < 0]
        assert why.signed
    assert np.mean(signs) > 0.9


def test_the_maps_and_residuals_are_those_made_by_hand(encoder, scenes):
    images = [scenes[i] for i in (0, 4, 2)]
    center = np.stack([encoder.embed_image(scenes[i]) for i in range(12)]).mean(axis=0)
    for mean in (np.zeros(encoder.dim), center):
        vectors = np.stack([encoder.embed_image(image) for image in images]) - mean
        q, n, f = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        why = explain_contrast(encoder, *images, center=mean if mean.any() else None)
        assert why.method == "contribution"
        assert why.value == pytest.approx(q @ n - q @ f, abs=1e-6)
        to_near = vk.explain_pair(encoder, images[0], images[1], "contribution", center=mean)
        to_far = vk.explain_pair(encoder, images[0], images[2], "contribution", center=mean)
        np.testing.assert_allclose(why.map_query, to_near.map_a - to_far.map_a, atol=1e-6)
        np.testing.assert_allclose(why.map_near, to_near.map_b, atol=1e-6)
        np.testing.assert_allclose(why.map_far, -to_far.map_b, atol=1e-6)
        assert why.map_query.sum() == pytest.approx(q @ n - q @ f, abs=1e-5)
        assert why.map_near.sum() == pytest.approx(q @ n, abs=1e-5)
        assert why.map_far.sum() == pytest.approx(-q @ f, abs=1e-5)
        assert np.abs(why.residuals).max() < 1e-6
        back = explain_contrast(encoder, images[0], images[2], images[1], center=mean if mean.any() else None)
        np.testing.assert_allclose(back.map_query, -why.map_query, atol=1e-7)
    assert why.kind == "difference of centered cosines"


def test_the_drop_when_a_window_is_hidden_is_that_of_the_difference(encoder, scenes):
    """Occlusion is linear in what is explained, so the contrast is the difference of the two pairs."""
    images = [scenes[i] for i in (0, 4, 2)]
    why = explain_contrast(encoder, *images, "occlusion")
    to_near, to_far = (vk.explain_pair(encoder, images[0], other, "occlusion") for other in images[1:])
    np.testing.assert_allclose(why.map_query, to_near.map_a - to_far.map_a, atol=1e-5)
    np.testing.assert_allclose(why.map_near, to_near.map_b, atol=1e-5)
    np.testing.assert_allclose(why.map_far, -to_far.map_b, atol=1e-5)
    assert why.residuals == (None, None, None)


def test_integrated_gradients_start_on_every_panel_from_that_images_own_plain_color(encoder, scenes):
    images = [scenes[i] for i in (0, 4, 2)]
    why = explain_contrast(encoder, *images, "integrated_gradients")
    x = torch.stack([encoder.preprocess(image) for image in images])
    plain = encoder.encode(x.mean((2, 3), keepdim=True).expand_as(x))
    q, n, f = (v / np.linalg.norm(v) for v in encoder.encode(x))
    starts = [p @ to / np.linalg.norm(p) for p, to in zip(plain, (n - f, q, -q), strict=True)]
    assert [panel.baseline for panel in why.panels] == pytest.approx(starts, abs=1e-5)
    for panel, end, start in zip(why.panels, (q @ (n - f), q @ n, -q @ f), starts, strict=True):
        assert panel.map.sum() == pytest.approx(end - start, abs=0.05)
        assert panel.residual == pytest.approx(end - start - panel.map.sum(), abs=1e-4)


def test_an_image_against_itself_gives_nothing_and_what_is_wrong_is_said(encoder, scenes):
    same = explain_contrast(encoder, scenes[0], scenes[1], scenes[1])
    assert same.value == 0
    assert not same.map_query.any()
    assert not same.figure().layout.title.text.startswith("None")
    with pytest.raises(InputError, match="must be a vizkit Encoder, not str"):
        explain_contrast("scenes", scenes[0], scenes[1], scenes[2])
    with pytest.raises(InputError, match="vector is zero"):
        explain_contrast(encoder, scenes[0], scenes[1], scenes[2], center=encoder.embed_image(scenes[2]))
    classifier = encoder.at("output")
    with pytest.raises(MethodNotApplicableError, match="cannot be split into"):
        explain_contrast(classifier, scenes[0], scenes[1], scenes[2], "contribution")


def test_the_note_says_what_the_colors_speak_for_and_where_both_are_equally_near(encoder, scenes):
    why = vk.explain_contrast(encoder, scenes[0], scenes[1], scenes[2])
    assert why.signed
    assert why.note.startswith("Red speaks for near, blue for far; the map on far is of minus its cosine. Exact here")
    equal = vk.explain_contrast(encoder, scenes[0], scenes[1], scenes[1])
    assert "Near and far are equally near." in equal.note
    assert "equally" not in why.note
