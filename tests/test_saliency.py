"""Evidence: the exact split checked by hand, Captum's methods against closed forms, and nothing left behind."""

import copy

import numpy as np
import pytest
import torch
from drawn import photo, tiny_network, to_tensor_32

import vizkit as vk
from vizkit.capture import calibrate
from vizkit.errors import InputError, MethodNotApplicableError
from vizkit.figures import is_signed
from vizkit.saliency.questions import PAIR_METHODS, explain_many
from vizkit.saliency.spatial import spatial_layer


@pytest.fixture(scope="module")
def scenes():
    return vk.scenes("held-out")


@pytest.fixture(scope="module")
def encoder():
    return vk.Encoder("scenes")


@pytest.fixture(scope="module")
def mobilenet(shared):
    return vk.Encoder("mobilenet_v2", weights=shared / "torch/converted/mobilenet_v2_tf2-fe1e9c5f.pth")


@pytest.fixture(scope="module")
def coats(shared):
    images = vk.ImageSet.from_folder(shared / "images/clothing10/dress")
    return images[0], images[1]


def by_hand(encoder, layer, a, b, after):
    """Return maps (c, h, w) and vectors (c,) of both images, read with a hook of the test's own."""
    seen = []
    handle = encoder.module.get_submodule(layer).register_forward_hook(lambda _, __, out: seen.append(out.clone()))
    with torch.no_grad():
        encoder.module(torch.stack([encoder.preprocess(a), encoder.preprocess(b)]))
    handle.remove()
    maps = after(seen[0]).double().numpy()
    return maps[0], maps[1], maps[0].mean((1, 2)), maps[1].mean((1, 2))


def check_contribution(encoder, layer, a, b, after=torch.clone):
    why = vk.explain_pair(encoder, a, b, method="contribution")
    map_a, map_b, z_a, z_b = by_hand(encoder, layer, a, b, after)
    norms = np.linalg.norm(z_a) * np.linalg.norm(z_b)
    positions = map_a.shape[1] * map_a.shape[2]
    for i in range(map_a.shape[1]):
        for j in range(map_a.shape[2]):
            assert why.map_a[i, j] == pytest.approx(map_a[:, i, j] @ z_b / (positions * norms), abs=1e-6)
            assert why.map_b[i, j] == pytest.approx(map_b[:, i, j] @ z_a / (positions * norms), abs=1e-6)
    cosine = z_a @ z_b / norms
    assert why.similarity == pytest.approx(cosine, abs=1e-6)
    assert why.map_a.sum() + why.residual_a == pytest.approx(cosine, abs=1e-6)
    assert abs(why.residual_a) < 1e-6
    assert abs(why.residual_b) < 1e-6
    assert why.matrix.shape == (positions, positions)
    assert why.matrix.sum() == pytest.approx(cosine, abs=1e-5)
    np.testing.assert_allclose(why.matrix.sum(1).reshape(why.map_a.shape), why.map_a, atol=1e-6)
    np.testing.assert_allclose(why.matrix.sum(0).reshape(why.map_b.shape), why.map_b, atol=1e-6)
    # Without one cell, norms held, the projection is lower by exactly that cell.
    cut = map_a.copy()
    cut[:, 2, 3] = 0
    assert cosine - cut.mean((1, 2)) @ z_b / norms == pytest.approx(why.map_a[2, 3], abs=1e-6)


def test_contribution_is_the_hand_computed_split_of_the_cosine(encoder, scenes):
    check_contribution(encoder, "layer4", scenes[3], scenes[8])


def test_contribution_is_the_hand_computed_split_on_real_weights(mobilenet, coats):
    check_contribution(mobilenet, "features", *coats)


POOLINGS = {
    "avg_pool2d": lambda x: torch.nn.functional.avg_pool2d(x, x.size(3)).view(x.size(0), -1),
    "flattened": lambda x: x.flatten(2).mean(-1),
    "viewed": lambda x: x.view(x.size(0), x.size(1), -1).mean(dim=2),
    "strided": lambda x: x.to(memory_format=torch.channels_last).flatten(2).mean(2),
    "one by one": lambda x: x.mean(3).mean(2),
    "channels last": lambda x: x.permute(0, 2, 3, 1).mean((1, 2)),
}


@pytest.mark.parametrize("form", POOLINGS)
def test_contribution_sees_the_pooling_however_it_is_written(form):
    """The hook of `by_hand` sits on "body": its output is what is pooled."""

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = tiny_network()[:4]
            self.fc = torch.nn.Linear(16, 5)

        def forward(self, x):
            return self.fc(POOLINGS[form](self.body(x)))

    check_contribution(vk.Encoder(Net(), preprocess=to_tensor_32), "body", photo(1), photo(2))


def test_contribution_on_densenet_starts_behind_its_last_relu():
    encoder = vk.Encoder("densenet121", weights=None)
    a, b = photo(1, (256, 256)), photo(2, (256, 256))
    calibrate(encoder.module, torch.stack([encoder.preprocess(a), encoder.preprocess(b)]))
    check_contribution(encoder, "features", a, b, after=torch.relu)


def test_contribution_of_the_centered_cosine_adds_up_too(encoder, scenes):
    vectors = np.stack([encoder.embed_image(scenes[i]) for i in range(12)])
    center = vectors.mean(axis=0)
    why = vk.explain_pair(encoder, scenes[0], scenes[1], "contribution", center=center)
    a, b = vectors[0] - center, vectors[1] - center
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert why.similarity == pytest.approx(cosine, abs=1e-5)
    assert why.map_a.sum() == pytest.approx(cosine, abs=1e-5)
    assert why.map_b.sum() == pytest.approx(cosine, abs=1e-5)
    embeddings = vk.Embeddings(vectors, scenes.frame[:12], provenance={"fingerprint": encoder.fingerprint})
    by_embeddings = vk.explain_pair(encoder, scenes[0], scenes[1], center=embeddings)
    np.testing.assert_allclose(by_embeddings.map_a, why.map_a, atol=1e-7)
    other = vk.Encoder("scenes", weights=None)
    with pytest.raises(InputError, match=rf"by the encoder {encoder.fingerprint}, and this encoder is"):
        vk.explain_pair(other, scenes[0], scenes[1], center=embeddings)
    assert why.centered
    assert why.headline.startswith("centered cosine")


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "googlenet", "efficientnet_b0"])
def test_gradcam_with_the_norm_held_equals_contribution_at_the_pooled_layer(name):
    encoder = vk.Encoder(name, weights=None)
    a, b = photo(1, (256, 256)), photo(2, (256, 256))
    calibrate(encoder.module, torch.stack([encoder.preprocess(photo(i, (256, 256))) for i in range(4)]))
    exact = vk.explain_pair(encoder, a, b, "contribution")
    gradcam = vk.explain_pair(encoder, a, b, "gradcam")
    scale = np.abs(exact.map_a).max()
    np.testing.assert_allclose(gradcam.map_a, exact.map_a, atol=1e-4 * scale)
    np.testing.assert_allclose(gradcam.map_b, exact.map_b, atol=1e-4 * scale)
    # The plain cosine does not change along z, so its map adds up to nothing and speaks against as much as for.
    sensitivity = vk.explain_pair(encoder, a, b, "sensitivity")
    assert abs(sensitivity.map_a.sum()) < 1e-3 * np.abs(sensitivity.map_a).sum()
    assert sensitivity.signed


def test_a_class_token_and_a_classifier_layer_refuse_contribution_and_get_occlusion(scenes):
    class Tokens(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.patch = torch.nn.Conv2d(3, 8, 8, 8)
            self.head = torch.nn.Linear(8, 4)

        def forward(self, x):
            tokens = torch.relu(self.patch(x)).flatten(2).transpose(1, 2)
            return self.head(tokens[:, 0])

    unseen, other = "comes from no averaging of a known form", "is not the mean of a feature map over its positions"
    for encoder, message in (
        (vk.Encoder(Tokens(), preprocess=to_tensor_32), unseen),
        (vk.Encoder(tiny_network(), layer="6", preprocess=to_tensor_32), unseen),
        (vk.Encoder(tiny_network(), layer="3", pool="max", preprocess=to_tensor_32), other),
    ):
        with pytest.raises(MethodNotApplicableError, match=message):
            vk.explain_pair(encoder, photo(0), photo(1), "contribution")
        why = vk.explain_pair(encoder, photo(0), photo(1))
        assert why.method == "occlusion"
        assert "no mean over positions was seen" in why.reason
        assert why.residual_a is None
        assert why.matrix is None
    assert vk.explain_pair(vk.Encoder("scenes"), scenes[0], scenes[1]).method == "contribution"


def test_occlusion_is_the_drop_of_the_true_cosine_averaged_over_the_windows_on_a_cell(encoder, scenes):
    a, b = scenes[5], scenes[9]
    why = vk.explain_pair(encoder, a, b, "occlusion")
    x = encoder.preprocess(a)[None]
    z = encoder.encode(encoder.preprocess(b)[None])[0]

    def cosine(batch):
        v = encoder.encode(batch)
        return v @ z / (np.linalg.norm(v, axis=1) * np.linalg.norm(z))

    windows = [(i, j) for i in range(7) for j in range(7)]
    painted = x.repeat(49, 1, 1, 1)
    for image, (i, j) in zip(painted, windows, strict=True):
        image[:, 8 * i : 8 * i + 16, 8 * j : 8 * j + 16] = x[0].mean((1, 2))[:, None, None]
    drops = cosine(x)[0] - cosine(painted)
    expected = np.zeros((8, 8))
    for row, column in np.ndindex(8, 8):
        covering = [d for d, (i, j) in zip(drops, windows, strict=True) if row - i in (0, 1) and column - j in (0, 1)]
        expected[row, column] = np.mean(covering)
    np.testing.assert_allclose(why.map_a, expected, atol=1e-5)
    assert np.abs(expected).max() > 0.01


@pytest.fixture
def linear():
    """A linear classifier on 32 x 32 pixels: every method has a closed form."""
    torch.manual_seed(4)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 6))
    return module, vk.Encoder(module, layer="1", preprocess=to_tensor_32)


def test_integrated_gradients_and_saliency_equal_their_closed_form_on_a_linear_network(linear):
    module, encoder = linear
    image = photo(3)
    x = to_tensor_32(image)
    weight = module[1].weight[2].detach().reshape(3, 32, 32)
    found = vk.explain(encoder, image, target=2, method="integrated_gradients")
    expected = (weight * (x - x.mean((1, 2), keepdim=True))).sum(0)
    np.testing.assert_allclose(found.map, expected, atol=1e-5)
    assert abs(found.residual) < 1e-4
    assert found.value == pytest.approx(module(x[None])[0, 2].item(), abs=1e-4)
    assert found.unit == "logit"
    saliency = vk.explain(encoder, image, target=2, method="saliency")
    np.testing.assert_allclose(saliency.map, weight.abs().amax(0), rtol=1e-5)


def test_gradcam_for_a_class_is_the_class_activation_map():
    """Averaged and read by one Linear, Grad-CAM is CAM over hw (Selvaraju et al. 2017, section 3.1)."""
    module = tiny_network()
    encoder = vk.Encoder(module, preprocess=to_tensor_32)
    image = photo(6)
    with torch.no_grad():
        maps = module[:4](to_tensor_32(image)[None])[0]
    weights = module[6].weight[1].detach()
    expected = (weights[:, None, None] * maps).sum(0) / (maps.shape[1] * maps.shape[2])
    found = vk.explain(encoder, image, target=1, method="gradcam")
    np.testing.assert_allclose(found.map, expected, atol=1e-6)


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


def test_gradcam_looks_before_a_container_whose_input_is_the_vector():
    module = torch.nn.Sequential(tiny_network()[:4], torch.nn.Sequential(torch.nn.Conv2d(16, 4, 3)))
    encoder = vk.Encoder(module, layer="input:1", preprocess=to_tensor_32)
    assert spatial_layer(encoder) == "0"
    why = vk.explain_pair(encoder, photo(0), photo(1), "gradcam")
    np.testing.assert_allclose(why.map_a, vk.explain_pair(encoder, photo(0), photo(1)).map_a, atol=1e-6)


def test_the_matrix_of_patches_is_computed_only_when_asked_for(encoder, scenes):
    why = vk.explain_pair(encoder, scenes[0], scenes[1], "contribution")
    why.figure()
    assert "matrix" not in vars(why)
    assert why.matrix is why.matrix
    assert why.matrix.shape == (64, 64)


def test_explaining_a_vector_gives_the_cosine_to_it(encoder, scenes):
    target = encoder.embed_image(scenes[2])
    found = vk.explain(encoder, scenes[1], target=target, method="contribution")
    pair = vk.explain_pair(encoder, scenes[1], scenes[2], "contribution")
    assert found.value == pytest.approx(pair.similarity, abs=1e-5)
    np.testing.assert_allclose(found.map, pair.map_a, atol=1e-6)
    tensor = torch.tensor(target, requires_grad=True)
    np.testing.assert_array_equal(vk.explain(encoder, scenes[1], target=tensor, method="contribution").map, found.map)
    scores = encoder.module(encoder.preprocess(scenes[1])[None])
    of_class = vk.explain(encoder, scenes[1], target=scores.argmax())
    assert of_class.value == pytest.approx(scores.max().item(), abs=1e-5)


def test_many_at_once_equal_one_by_one(encoder, scenes):
    many = explain_many(encoder, scenes[0], [scenes[i] for i in range(1, 20)])
    for i in (1, 7, 19):
        alone = vk.explain_pair(encoder, scenes[0], scenes[i])
        np.testing.assert_allclose(many[i - 1].map_a, alone.map_a, atol=1e-6)
        np.testing.assert_allclose(many[i - 1].map_b, alone.map_b, atol=1e-6)


def test_a_callable_gets_the_similarity_and_the_image(encoder, scenes):
    seen = []

    def corner(similarity, x):
        seen.append((float(similarity(x)[0]), tuple(x.shape)))
        return np.eye(3)

    why = vk.explain_pair(encoder, scenes[0], scenes[1], corner)
    assert [s for _, s in seen] == [(1, 3, 64, 64)] * 2
    assert seen[0][0] == pytest.approx(why.similarity, abs=1e-5)
    assert seen[1][0] == pytest.approx(why.similarity, abs=1e-5)
    np.testing.assert_array_equal(why.map_a, np.eye(3))
    assert why.method is corner
    assert "corner" in why.headline


def test_evidence_says_what_was_not_measured_and_where_it_comes_from(encoder, scenes):
    why = vk.explain_pair(encoder, scenes[0], scenes[1])
    assert why.trust == "not measured"
    assert why.reason == "exact here: the vector is the mean of a feature map of 8 x 8"
    assert "not measured" in why.headline
    assert why.layer == "input:fc"
    assert why.seen_a.shape == (64, 64, 3)
    assert why.method == "contribution"


def test_the_figure_has_one_scale_and_the_maps_as_they_are(encoder, scenes):
    why = vk.explain_pair(encoder, scenes[0], scenes[1])
    figure = why.figure()
    heat = [trace for trace in figure.data if trace.type == "heatmap"]
    np.testing.assert_array_equal(heat[0].z, why.map_a)
    np.testing.assert_array_equal(heat[1].z, why.map_b)
    assert {trace.coloraxis for trace in heat} == {"coloraxis"}
    assert figure.layout.coloraxis.cmax == pytest.approx(max(why.map_a.max(), why.map_b.max()))
    assert figure.layout.coloraxis.cmin == 0
    assert figure.layout.coloraxis.colorbar.title.text == "points of cosine"
    assert "contribution" in figure.layout.title.text
    sensitivity = vk.explain_pair(encoder, scenes[0], scenes[1], "sensitivity").figure()
    assert sensitivity.layout.coloraxis.cmin == -sensitivity.layout.coloraxis.cmax < 0


def test_rounding_below_zero_is_no_sign():
    assert not is_signed(np.float32([[1, -1e-5]]))
    assert is_signed(np.float32([[1, -0.1]]))


def state_of(module):
    return [
        (m.training, len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks), sorted(vars(m)))
        for m in module.modules()
    ], [(p.requires_grad, p.grad is None) for p in module.parameters()]


@pytest.mark.parametrize("method", [*PAIR_METHODS, "failing"])
def test_nothing_is_left_on_the_users_module(method):
    module = tiny_network().train()
    encoder = vk.Encoder(module, preprocess=to_tensor_32)
    weights = copy.deepcopy(module.state_dict())
    before = state_of(module)

    def failing(similarity, x):
        similarity(x)
        raise RuntimeError("stop")

    if method == "failing":
        with pytest.raises(RuntimeError, match="stop"):
            vk.explain_pair(encoder, photo(0), photo(1), failing)
    else:
        vk.explain_pair(encoder, photo(0), photo(1), method)
    for name in ("gradcam", "integrated_gradients", "occlusion", "saliency"):
        vk.explain(encoder, photo(0), target=1, method=name)
    assert state_of(module) == before
    assert all(torch.equal(v, weights[k]) for k, v in module.state_dict().items())


def test_what_cannot_be_explained_says_so(encoder, scenes):
    a, b = scenes[0], scenes[1]
    with pytest.raises(InputError, match="No method 'grad-cam' here: choose one of 'contribution', 'occlusion'"):
        vk.explain_pair(encoder, a, b, "grad-cam")
    with pytest.raises(InputError, match=r"target=10 is no class of scenes, whose output has shape \(1, 10\)"):
        vk.explain(encoder, a, target=10)
    with pytest.raises(InputError, match="target must be a finite vector of"):
        vk.explain(encoder, a, target=np.zeros(3))
    for target in ("star", None, True):
        with pytest.raises(InputError, match=f"must be a class index or a vector .* not {target!r}"):
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
