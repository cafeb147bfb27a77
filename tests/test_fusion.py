"""The faster twin: the same vectors from folded BatchNorms, and the module as it is wherever that would not hold."""

import numpy as np
import pandas as pd
import pytest
import torch
from drawn import photo, to_tensor_32
from torch import nn

import vizkit as vk
from vizkit.fusion import folded_encoders


@pytest.fixture(scope="module")
def images():
    return vk.ImageSet.from_frame(pd.DataFrame({"path": [photo(i, (260, 240)) for i in range(6)]}))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "densenet121"])
def test_the_twin_gives_the_same_vectors_and_leaves_the_network(images, name):
    encoder = vk.Encoder(name, weights=None).randomized(images)
    first = next(layer for layer in encoder.layers if encoder.layers[layer].kind == "Conv2d")
    encoders = [encoder, encoder.at(first), encoder.at("output")]
    state = {key: value.clone() for key, value in encoder.module.state_dict().items()}
    twins = folded_encoders(encoders)
    batch = torch.stack([encoder.preprocess(image) for image in images])
    for ours, theirs in zip(twins, encoders, strict=True):
        x, y = ours.encode(batch), theirs.encode(batch)
        assert (np.linalg.norm(x - y, axis=1) <= 1e-4 * np.linalg.norm(y, axis=1)).all()
    assert sum(isinstance(m, nn.BatchNorm2d) for m in twins[0].module.modules()) < sum(
        isinstance(m, nn.BatchNorm2d) for m in encoder.module.modules()
    )
    assert all(torch.equal(value, state[key]) for key, value in encoder.module.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in encoder.module.modules())


class Planted(nn.Module):
    """What a convolution gives is read by its BatchNorm, and in some kinds by something else as well."""

    def __init__(self, kind):
        super().__init__()
        self.conv, self.norm, self.kind = nn.Conv2d(3, 8, 3, stride=4), nn.BatchNorm2d(8), kind
        self.norm.running_mean.uniform_(-1, 1)
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        x = self.conv(x)
        y = self.norm(x)
        return (y + x if self.kind == "read twice" else y).mean((2, 3))

    def __deepcopy__(self, memo):
        if self.kind == "not copied":
            raise TypeError("no copies")
        twin = Planted.__new__(Planted)
        nn.Module.__init__(twin)
        twin.kind = self.kind
        for name, part in self.named_children():
            setattr(twin, name, __import__("copy").deepcopy(part, memo))
        return twin


@pytest.mark.parametrize(("kind", "folds"), [("plain", True), ("read twice", False), ("not copied", False)])
def test_a_twin_is_used_only_where_it_gives_the_same(images, tmp_path, kind, folds):
    encoder = vk.Encoder(Planted(kind), preprocess=to_tensor_32)
    assert (folded_encoders([encoder]) is not None) == folds
    found = vk.embed(images, encoder, cache=tmp_path, progress=False)
    expected = encoder.encode(torch.stack([encoder.preprocess(image) for image in images]))
    np.testing.assert_allclose(found.vectors, expected, rtol=1e-4, atol=1e-5)
    assert found.encoder.module is encoder.module


def test_what_a_convolution_gives_by_itself_is_read_from_a_convolution_that_is_not_folded(images):
    encoder = vk.Encoder(Planted("plain"), layer="conv", preprocess=to_tensor_32)
    assert folded_encoders([encoder]) is None
    assert folded_encoders([encoder.at("input:norm")]) is None
    assert folded_encoders([encoder.at("norm")]) is not None


def test_half_precision_and_networks_without_batchnorm_run_as_they_are():
    assert folded_encoders([vk.Encoder("vit_b_32", weights=None)]) is None
    assert folded_encoders([vk.Encoder("scenes", precision="half", device="cpu")]) is None
    assert folded_encoders([vk.Encoder("scenes", device="cpu")]) is not None
