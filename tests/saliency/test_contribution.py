"""The exact split of a cosine: cell by cell against products made by hand, on every family that it claims."""

import numpy as np
import pytest
import torch
from drawn import photo, tiny_network, to_tensor_32

import vizkit as vk
from vizkit.capture import calibrate
from vizkit.errors import InputError, MethodNotApplicableError

SIDE = 128


def to_tensor(image):
    """Squash to 128 x 128, values in [-1, 1]: smaller than usual, for a quick test."""
    pixels = np.asarray(image.resize((SIDE, SIDE)), np.float32)
    return torch.from_numpy(pixels.transpose(2, 0, 1) / 127.5 - 1)


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
    assert why.map_a.shape == map_a.shape[1:]
    for i, j in np.ndindex(why.map_a.shape):
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
    cut[:, 1, -1] = 0
    assert cosine - cut.mean((1, 2)) @ z_b / norms == pytest.approx(why.map_a[1, -1], abs=1e-6)
    return why


def test_contribution_is_the_hand_computed_split_of_the_cosine(encoder, scenes):
    check_contribution(encoder, "layer4", scenes[3], scenes[8])


def test_contribution_is_the_hand_computed_split_on_real_weights(shared):
    weights = shared / "torch/converted/mobilenet_v2_tf2-fe1e9c5f.pth"
    coats = vk.ImageSet.from_folder(shared / "images/clothing10/dress")
    check_contribution(vk.Encoder("mobilenet_v2", weights=weights), "features", coats[0], coats[1])


def small(family):
    """Build a family's own code with fewer channels, or without its slow way to draw weights."""
    torch.manual_seed(0)
    if family == "vgg":
        from torchvision.models.vgg import VGG, cfgs, make_layers

        steps = make_layers([c if c == "M" else c // 4 for c in cfgs["A"]], batch_norm=True)
        module = VGG(steps, init_weights=False)
        module.classifier = torch.nn.Linear(128 * 49, 5)
        return module
    if family == "swin":
        from torchvision.models.swin_transformer import SwinTransformer

        return SwinTransformer([4, 4], 24, [1, 1], [2, 4], [4, 4], num_classes=5)
    if family == "convnext":
        from torchvision.models.convnext import CNBlockConfig, ConvNeXt

        return ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], num_classes=5)
    import torchvision

    return torchvision.models.get_model(family, weights=None, init_weights=False, num_classes=5)


FAMILIES = {  # the encoder's layer, and whose output is averaged
    "resnet18": (None, "layer4"),
    "regnet_y_400mf": (None, "trunk_output"),
    "googlenet": (None, "inception5b"),
    "inception_v3": (None, "Mixed_7c"),
    "densenet121": (None, "features"),
    "mobilenet_v2": (None, "features"),
    "mobilenet_v3_small": ("avgpool", "features"),
    "efficientnet_b0": (None, "features"),
    "shufflenet_v2_x0_5": (None, "conv5"),
    "mnasnet0_5": (None, "layers"),
    "swin": (None, "permute"),
    "squeezenet1_1": (None, "features"),
    "vgg": ("features", "features"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_contribution_is_exact_on_every_family_it_claims_and_equals_gradcam_with_the_norm_held(family):
    at, layer = FAMILIES[family]
    if family in ("vgg", "swin", "googlenet", "inception_v3"):
        built = vk.Encoder(small(family), layer=at, preprocess=to_tensor)
    else:
        built = vk.Encoder(family, weights=None, layer=at, preprocess=to_tensor)
    a, b, *more = (photo(i, (SIDE, SIDE)) for i in range(1, 5))
    # As initialised, two images have nearly the same vector, and any split of their cosine would pass.
    calibrate(built.module, torch.stack([built.preprocess(image) for image in (a, b, *more)]))
    functional = family == "densenet121"  # its last ReLU is no module
    exact = check_contribution(built, layer, a, b, after=torch.relu if functional else torch.clone)
    assert abs(exact.similarity) < 0.9999
    if not functional:
        gradcam = vk.explain_pair(built, a, b, "gradcam")
        scale = np.abs(exact.map_a).max()
        np.testing.assert_allclose(gradcam.map_a, exact.map_a, atol=1e-5 * scale)
        np.testing.assert_allclose(gradcam.map_b, exact.map_b, atol=1e-5 * scale)


def test_the_plain_cosine_gives_a_map_that_adds_up_to_nothing(encoder, scenes):
    """A cosine does not change when its vector is scaled (Euler's theorem on homogeneous functions)."""
    sensitivity = vk.explain_pair(encoder, scenes[0], scenes[1], "sensitivity")
    assert abs(sensitivity.map_a.sum()) < 1e-3 * np.abs(sensitivity.map_a).sum()
    assert sensitivity.signed


POOLINGS = {
    "avg_pool2d": lambda x: torch.nn.functional.avg_pool2d(x, x.size(3)).view(x.size(0), -1),
    "flattened": lambda x: x.flatten(2).mean(-1),
    "viewed": lambda x: x.view(x.size(0), x.size(1), -1).mean(dim=2),
    "strided": lambda x: x.to(memory_format=torch.channels_last).flatten(2).mean(2),
    "one by one": lambda x: x.mean(3).mean(2),
    "channels last": lambda x: x.permute(0, 2, 3, 1).mean((1, 2)),
}


class Net(torch.nn.Module):
    """A small network whose head, from a feature map to a vector, is a function."""

    def __init__(self, head):
        super().__init__()
        self.body = tiny_network()[:4]
        self.head = head
        self.fc = torch.nn.Linear(16, 5)

    def forward(self, x):
        return self.fc(self.head(self.body(x)))


@pytest.mark.parametrize("form", POOLINGS)
def test_contribution_sees_the_pooling_however_it_is_written(form):
    check_contribution(vk.Encoder(Net(POOLINGS[form]), preprocess=to_tensor_32), "body", photo(1), photo(2))


class Tokens(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patch = torch.nn.Conv2d(3, 8, 8, 8)
        self.head = torch.nn.Linear(8, 4)

    def forward(self, x):
        tokens = torch.relu(self.patch(x)).flatten(2).transpose(1, 2)
        return self.head(tokens[:, 0])


UNSEEN = "comes from no averaging of a known form"
NOT_THE_MEAN = "is not the mean of a feature map over its positions"
REFUSED = {
    "a class token": (lambda: vk.Encoder(Tokens(), preprocess=to_tensor_32), UNSEEN),
    "a classifier": (lambda: vk.Encoder(tiny_network(), layer="6", preprocess=to_tensor_32), UNSEEN),
    "max pooling": (lambda: vk.Encoder(tiny_network(), layer="3", pool="max", preprocess=to_tensor_32), NOT_THE_MEAN),
    "gem pooling": (lambda: vk.Encoder(tiny_network(), layer="3", pool="gem", preprocess=to_tensor_32), NOT_THE_MEAN),
    "a vector of length 1": (
        lambda: vk.Encoder(Net(lambda x: torch.nn.functional.normalize(x.mean((2, 3)))), preprocess=to_tensor_32),
        NOT_THE_MEAN,
    ),
    "MobileNetV3 after its Hardswish": (
        lambda: vk.Encoder("mobilenet_v3_small", weights=None, preprocess=to_tensor),
        UNSEEN,
    ),
    "ConvNeXt after its LayerNorm": (lambda: vk.Encoder(small("convnext"), preprocess=to_tensor), NOT_THE_MEAN),
}


@pytest.mark.parametrize("case", REFUSED)
def test_where_the_vector_is_no_mean_contribution_is_refused_and_occlusion_the_default(case):
    build, message = REFUSED[case]
    encoder = build()
    with pytest.raises(MethodNotApplicableError, match=message):
        vk.explain_pair(encoder, photo(0), photo(1), "contribution")
    why = vk.explain_pair(encoder, photo(0), photo(1))
    assert why.method == "occlusion"
    assert "no mean over positions was seen" in why.reason
    assert why.residual_a is None
    assert why.matrix is None
    with pytest.raises(MethodNotApplicableError, match="Occlusion gives no pairs of patches"):
        why.matches()


def test_at_half_precision_sums_are_not_exact_and_the_reason_says_so():
    encoder = vk.Encoder(tiny_network(), preprocess=to_tensor_32, precision="half")
    with pytest.raises(MethodNotApplicableError, match="try precision='float32'"):
        vk.explain_pair(encoder, photo(0), photo(1), "contribution")
    why = vk.explain_pair(encoder, photo(0), photo(1))
    assert why.method == "occlusion"
    assert "at half precision" in why.reason


def test_contribution_of_the_centered_cosine_adds_up_too(encoder, scenes):
    vectors = np.stack([encoder.embed_image(scenes[i]) for i in range(12)])
    center = vectors.mean(axis=0)
    why = vk.explain_pair(encoder, scenes[0], scenes[1], "contribution", center=center)
    a, b = vectors[0] - center, vectors[1] - center
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert why.similarity == pytest.approx(cosine, abs=1e-5)
    assert why.map_a.sum() == pytest.approx(cosine, abs=1e-5)
    assert why.map_b.sum() == pytest.approx(cosine, abs=1e-5)
    map_a, _, _, z_b = by_hand(encoder, "layer4", scenes[0], scenes[1], torch.clone)
    unit = (z_b - center) / np.linalg.norm(z_b - center)
    expected = np.tensordot(unit, map_a - center[:, None, None], 1) / (64 * np.linalg.norm(a))
    np.testing.assert_allclose(why.map_a, expected, atol=1e-6)
    embeddings = vk.Embeddings(vectors, scenes.frame[:12], provenance={"fingerprint": encoder.fingerprint})
    by_embeddings = vk.explain_pair(encoder, scenes[0], scenes[1], center=embeddings)
    np.testing.assert_allclose(by_embeddings.map_a, why.map_a, atol=1e-7)
    other = vk.Encoder("scenes", weights=None)
    with pytest.raises(InputError, match=rf"by the encoder {encoder.fingerprint}, and this encoder is"):
        vk.explain_pair(other, scenes[0], scenes[1], center=embeddings)
    assert why.centered
    assert why.headline.startswith("centered cosine")


def test_the_matrix_of_patches_is_computed_only_when_asked_for(encoder, scenes):
    why = vk.explain_pair(encoder, scenes[0], scenes[1], "contribution")
    why.figure()
    assert "matrix" not in vars(why)
    assert why.matrix is why.matrix
    assert why.matrix.shape == (64, 64)


def test_the_matches_are_those_of_this_pair(encoder, scenes):
    why = vk.explain_pair(encoder, scenes[0], scenes[4], "contribution")
    match = why.matches(3).frame.iloc[0]
    entry = why.matrix[int(8 * match["row_a"] + match["column_a"]), int(8 * match["row_b"] + match["column_b"])]
    assert match["carried"] == pytest.approx(entry, rel=1e-4)
    assert entry > 1 / 64**2  # more than its share
