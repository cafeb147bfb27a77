"""Layers: which there are to choose, which one is taken by default, and many of them from one forward pass."""

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from drawn import photo, tiny_network, to_tensor_32
from torch import nn

import vizkit as vk
from vizkit.errors import InputError, LayerNotFoundError
from vizkit.pooling import pooled


@pytest.fixture(scope="module")
def images():
    return vk.ImageSet.from_frame(pd.DataFrame({"path": [photo(i) for i in range(9)]}))


def batch_of(images):
    return torch.stack([to_tensor_32(images[i]) for i in range(len(images))])


def test_layers_say_shape_and_depth_in_running_order():
    encoder = vk.Encoder("resnet18", weights=None)
    layers = encoder.layers
    names = list(layers)
    order = ["conv1", "layer1", "layer2.0.conv1", "layer3", "layer4", "avgpool", "input:fc", "fc", "output"]
    assert [name for name in names if name in order] == order
    assert layers["layer3"].shape == (256, 14, 14)
    assert layers["input:fc"].shape == (512,)
    depths = [layers[name].depth for name in ("conv1", "layer1", "layer3", "input:fc", "fc", "output")]
    assert depths == ["early", "early", "late", "late", "head", "head"]
    # ResNet-18 has 20 convolutions and one Linear: the stem is one of 21, layer1 ends after five.
    assert layers["conv1"].share == pytest.approx(1 / 21)
    assert layers["layer1"].share == pytest.approx(5 / 21)
    assert layers["output"].share == 1
    assert "layer1.0.relu" not in layers  # it runs twice
    frame = layers.frame
    assert frame.loc["layer3", "shape"] == "256 x 14 x 14"
    assert list(frame.index) == names
    assert "layer3" in repr(layers)
    assert "256 x 14 x 14" in layers._repr_html_()
    with pytest.raises(LayerNotFoundError, match=r"no layer 'layr3' to choose.*'layer3'"):
        _ = layers["layr3"]
    assert layers.get("layr3") is None


def test_every_layer_that_is_listed_can_be_taken():
    for encoder in (vk.Encoder("squeezenet1_1", weights=None), vk.Encoder(tiny_network(), preprocess=to_tensor_32)):
        batch = torch.stack([encoder.preprocess(photo(i)) for i in range(2)])
        for name, layer in encoder.layers.items():
            there = encoder.at(name, pool="none")
            assert there.encode(batch).shape == (2, *layer.shape)
            assert there.dim == np.prod(layer.shape)


class Headless(nn.Module):
    """A network whose classifier was taken off: its last Linear sits inside a block."""

    def __init__(self, ending):
        super().__init__()
        self.stem, self.gate, self.ending = nn.Conv2d(3, 8, 3, stride=4), nn.Linear(8, 8), ending

    def forward(self, x):
        x = self.stem(x)
        x = x * torch.sigmoid(self.gate(x.mean((2, 3))))[:, :, None, None]
        return self.ending(x)


class Mean(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


ENDINGS = [nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Identity(), Mean(), lambda x: x.mean((2, 3))]


@pytest.mark.parametrize("ending", ENDINGS)
def test_without_a_classifier_what_the_network_returns_is_the_vector(images, ending):
    """The gate's Linear is the last one that runs, and its input would be a vector of the wrong thing."""
    encoder = vk.Encoder(Headless(ending), preprocess=to_tensor_32)
    with torch.no_grad():
        expected = encoder.module(batch_of(images)).reshape(9, 8, -1).mean(2)
    assert encoder.layer == "output"
    np.testing.assert_allclose(encoder.encode(batch_of(images)), expected, rtol=1e-5, atol=1e-7)


def test_a_vision_transformer_without_its_head_gives_its_class_token():
    module = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5).eval()
    module.heads = nn.Identity()
    encoder = vk.Encoder(module, preprocess=to_tensor_32)
    assert (encoder.layer, encoder.dim) == ("output", 16)
    headed = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5)
    assert vk.Encoder(headed, preprocess=to_tensor_32).layer == "input:heads.head"


@pytest.mark.parametrize("ending", [[], [nn.Dropout(0.5), nn.LogSoftmax(1)]])
def test_dropout_and_softmax_after_the_classifier_leave_it_one(ending):
    module = nn.Sequential(*tiny_network(), *ending)
    assert vk.Encoder(module, preprocess=to_tensor_32).layer == "input:6"


class Returns(nn.Module):
    """Two heads on one stem; `give` makes of their outputs what the network returns."""

    def __init__(self, give):
        super().__init__()
        self.stem, self.fc, self.aux, self.give = nn.Conv2d(3, 8, 8, stride=8), nn.Linear(8, 5), nn.Linear(8, 5), give

    def forward(self, x):
        z = self.stem(x).mean((2, 3))
        return self.give(self.fc(z), self.aux(z))

    def output(self):
        """Bear the name of no layer."""


@pytest.mark.parametrize(
    ("give", "layer"),
    [
        (lambda fc, aux: fc, "input:fc"),
        (lambda fc, aux: (fc, aux), "input:fc"),
        (lambda fc, aux: {"logits": aux, "other": fc}, "input:aux"),
        (lambda fc, aux: fc.softmax(1), "input:fc"),
        (lambda fc, aux: torch.nn.functional.normalize(aux), "output"),
        (lambda fc, aux: (fc + aux) / 2, "output"),
    ],
)
def test_the_default_is_what_goes_into_the_linear_that_gives_what_is_returned(give, layer):
    assert vk.Encoder(Returns(give), preprocess=to_tensor_32).layer == layer


def test_a_network_that_returns_no_tensor_and_ends_in_no_linear_asks_for_a_layer():
    class Tuple(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.mix = nn.Conv2d(3, 8, 8, stride=8), nn.Linear(8, 8)

        def forward(self, x):
            tokens = self.mix(self.stem(x).flatten(2).transpose(1, 2))
            return tokens, None

    with pytest.raises(LayerNotFoundError, match=r"Which layer of Tuple gives the vector cannot be told.*layer="):
        vk.Encoder(Tuple(), preprocess=to_tensor_32)
    named = vk.Encoder(Tuple(), layer="mix", preprocess=to_tensor_32)
    assert named.dim == 8
    assert list(named.layers) == ["stem", "mix"]
    with pytest.raises(LayerNotFoundError, match="returns no single tensor, so 'output' is no layer"):
        named.at("output")


def test_a_submodule_called_output_keeps_its_name(images):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.output = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.output(x).relu()

    encoder = vk.Encoder(Named(), layer="output", preprocess=to_tensor_32)
    with torch.no_grad():
        expected = encoder.module.output(batch_of(images)).mean((2, 3))
    np.testing.assert_allclose(encoder.encode(batch_of(images)), expected, rtol=1e-5, atol=1e-6)


def test_pools_of_maps_and_tokens(images):
    module = nn.Sequential(nn.Conv2d(3, 4, 8, stride=8), nn.Flatten(2), nn.Linear(16, 5), nn.Flatten())
    batch = batch_of(images)
    with torch.no_grad():
        maps, tokens = module[0](batch), module[:3](batch)

    def gem(x, axes):  # Radenovic et al. 2018, equation 3, p = 3
        return x.clamp(min=1e-6).double().pow(3).mean(axes).pow(1 / 3)

    for layer, x, axes in (("0", maps, (2, 3)), ("2", tokens, (1,))):
        expected = {
            "gap": x.mean(axes),
            "gem": gem(x, axes),
            "max": x.amax(axes),
            "flatten": x.flatten(1),
            "none": x,
        }
        for pool, values in expected.items():
            encoder = vk.Encoder(module, layer=layer, pool=pool, preprocess=to_tensor_32)
            np.testing.assert_allclose(encoder.encode(batch), values, rtol=1e-5, atol=1e-7)
            assert encoder.shape == tuple(values.shape[1:])
    cls = vk.Encoder(module, layer="2", pool="cls", preprocess=to_tensor_32)
    np.testing.assert_allclose(cls.encode(batch), tokens[:, 0], rtol=1e-5, atol=1e-7)
    with pytest.raises(InputError, match=r"pool='cls' needs tokens \(n, t, c\); '0' gives"):
        cls.at("0")
    with pytest.raises(InputError, match=r"pool must be one of .*, not 'mean'"):
        cls.at("0", pool="mean")
    with pytest.raises(InputError, match=r"pool='max' has nothing to pool: '3' gives a vector already, 20 numbers"):
        cls.at("3", pool="max")
    assert cls.at("3").pool == "gap"


def test_gem_lies_between_mean_and_maximum(images):
    encoder = vk.Encoder(tiny_network(), layer="3", preprocess=to_tensor_32)
    mean, gem, top = (encoder.at("3", pool=pool).encode(batch_of(images)) for pool in ("gap", "gem", "max"))
    assert (mean <= gem + 1e-6).all()
    assert (gem <= top + 1e-6).all()
    assert (mean + 1e-3 < gem).any()
    assert (gem + 1e-3 < top).any()


def test_unpooled_maps_are_rows_that_take_their_shape_again(images, tmp_path):
    encoder = vk.Encoder(tiny_network(), layer="3", pool="none", preprocess=to_tensor_32)
    found = vk.embed(images, encoder, cache=tmp_path, progress=False)
    assert found.vectors.shape == (9, 16 * 8 * 8)
    with torch.no_grad():
        expected = encoder.module[:4](batch_of(images))
    np.testing.assert_allclose(found.vectors.reshape(-1, *encoder.shape), expected, rtol=1e-5, atol=1e-6)
    assert vk.neighbors(found, images[3], k=2)["id"].iloc[0] == found.ids[3]
    assert vk.explain_pair(encoder, images[0], images[1]).method == "occlusion"


class Counted(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.seen = tiny_network(), 0

    def forward(self, x):
        self.seen += len(x)
        return self.net(x)


def test_many_layers_come_from_one_pass_and_equal_each_alone(images, tmp_path):
    encoder = vk.Encoder(Counted(), preprocess=to_tensor_32)
    names = ["net.0", "net.3", "input:net.6", "output"]
    encoder.module.seen = 0
    found = vk.embed(images, encoder, layers=names, cache=tmp_path / "many", batch_size=4, progress=False)
    assert encoder.module.seen == 9
    assert list(found) == names
    alone = vk.Encoder(Counted(), preprocess=to_tensor_32)
    for name in names:
        one = vk.embed(images, alone.at(name), cache=tmp_path / "one", batch_size=4, progress=False)
        np.testing.assert_array_equal(found[name].vectors, one.vectors)
        assert found[name].encoder.layer == name
        assert found[name].provenance == one.provenance
        assert (
            found[name].provenance["fingerprint"]
            == vk.Encoder(Counted(), layer=name, preprocess=to_tensor_32).fingerprint
        )
    assert len({result.provenance["fingerprint"] for result in found.values()}) == 4


def test_a_layer_that_is_asked_for_later_joins_those_that_are_cached(images, tmp_path):
    encoder = vk.Encoder(Counted(), preprocess=to_tensor_32)
    first = vk.embed(images.subset(range(5)), encoder, layers=["net.0"], cache=tmp_path, batch_size=4, progress=False)
    encoder.module.seen = 0
    both = vk.embed(images, encoder, layers=["net.0", "net.3"], cache=tmp_path, batch_size=4, progress=False)
    assert encoder.module.seen == 9
    np.testing.assert_array_equal(both["net.0"].vectors[:5], first["net.0"].vectors)
    encoder.module.seen = 0
    vk.embed(images, encoder.at("net.3"), cache=tmp_path, batch_size=4, progress=False)
    assert encoder.module.seen == 0


def test_an_image_that_fails_at_one_layer_is_kept_at_the_others(tmp_path):
    """At the planted image the second step divides by zero; the first does not."""

    class Planted(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1), nn.Identity()

        def forward(self, x):
            found = self.first(x)
            return self.second(found / (x.amax((1, 2, 3), keepdim=True) > -0.9))

    dark = photo(1).point(lambda _: 0)
    images = vk.ImageSet.from_frame(pd.DataFrame({"path": [photo(0), dark, photo(2)]}))
    encoder = vk.Encoder(Planted(), preprocess=to_tensor_32)
    found = vk.embed(images, encoder, layers=["first", "second"], cache=tmp_path, progress=False)
    assert (len(found["first"]), len(found["second"])) == (3, 2)
    assert list(found["second"].failures["id"]) == [images.ids[1]]
    assert "NaN or infinity" in found["second"].failures["reason"].iloc[0]


@pytest.mark.parametrize("layers", ["net.0", [], ["net.0", "net.0"], [3], None])
def test_layers_that_are_no_list_of_names_are_refused_in_words(images, tmp_path, layers):
    encoder = vk.Encoder(Counted(), preprocess=to_tensor_32)
    if layers is None:
        with pytest.raises(LayerNotFoundError, match=r"no layer 'net.9'"):
            vk.embed(images, encoder, layers=["net.9"], cache=tmp_path)
    else:
        with pytest.raises(InputError, match="layers must"):
            vk.embed(images, encoder, layers=layers, cache=tmp_path)


def test_at_and_with_preprocess_share_the_module_and_leave_the_encoder_as_it_was(images):
    encoder = vk.Encoder(tiny_network(), preprocess=to_tensor_32)
    before = (encoder.layer, encoder.dim, encoder.fingerprint, encoder.transforms)
    early = encoder.at("0")
    darker = encoder.with_preprocess(lambda image: to_tensor_32(image) * 0.5)
    assert early.module is encoder.module is darker.module
    assert (early.layer, early.dim) == ("0", 8)
    np.testing.assert_array_equal(darker.preprocess(images[0]), encoder.preprocess(images[0]) * 0.5)
    assert darker.layer == encoder.layer
    assert before == (encoder.layer, encoder.dim, encoder.fingerprint, encoder.transforms)
    assert len({encoder.fingerprint, early.fingerprint, darker.fingerprint}) == 3
    with pytest.raises(InputError, match="cannot run on preprocessed images"):
        encoder.with_preprocess(lambda image: to_tensor_32(image)[:2])
    assert encoder.input_shape == (3, 32, 32)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_on_the_module_when_a_pass_over_many_layers_stops(images, tmp_path, error):
    module = Counted().train()
    encoder = vk.Encoder(module, preprocess=to_tensor_32)

    def state():
        return [(m.training, dict(m._forward_hooks), dict(m._forward_pre_hooks)) for m in module.modules()]

    def stop(*_):
        if module.seen > 4:
            raise error("stop")

    handle = module.net[3].register_forward_hook(stop)
    before = state()
    module.seen = 0
    with pytest.raises(error, match="stop"):
        vk.embed(images, encoder, layers=["net.0", "net.4"], cache=tmp_path, batch_size=4, progress=False)
    assert state() == before
    handle.remove()
    module.seen = 0
    vk.embed(images, encoder, layers=["net.0", "net.4"], cache=tmp_path, batch_size=4, progress=False)
    assert module.seen == 5  # the first batch was kept


def test_layers_may_be_given_as_any_collection_of_names(images, tmp_path):
    encoder = vk.Encoder(tiny_network(), preprocess=to_tensor_32)
    names = list(encoder.layers)
    for given in (encoder.layers, encoder.layers.frame.index, (name for name in names)):
        assert list(vk.embed(images, encoder, layers=given, cache=tmp_path, progress=False)) == names


class Odd(nn.Module):
    """Made to break one promise at a time."""

    def __init__(self, kind):
        super().__init__()
        self.conv, self.fc, self.kind, self.kept = nn.Conv2d(3, 8, 8, stride=8), nn.Linear(8, 5), kind, None
        self.norm = nn.BatchNorm2d(8, track_running_stats=kind != "batch")
        self.register_buffer("count", torch.zeros(1))
        self.register_buffer("mask", None, persistent=False)

    def forward(self, x):
        z = self.norm(self.conv(x))
        if self.kind == "counts":
            self.count += len(x)
        if self.kind == "replaces":
            self.count = self.count + len(x)
        if self.kind == "keeps":
            self.kept = z.mean((2, 3))
        if self.kind == "masks":
            if self.mask is None:
                self.mask = torch.rand(1, 8, 4, 4)
            z = z * self.mask
        if self.kind == "draws":
            z = torch.nn.functional.dropout(z, 0.5)
        return self.fc(z.mean((2, 3)))


@pytest.mark.parametrize("kind", ["batch", "draws"])
def test_a_vector_that_depends_on_the_batch_or_on_chance_is_refused_in_words(kind):
    with pytest.raises(InputError, match="is another alone than in a batch, or at a second call"):
        vk.Encoder(Odd(kind), preprocess=to_tensor_32)
    assert vk.Encoder(Odd(kind), layer="conv", preprocess=to_tensor_32).dim == 8


@pytest.mark.parametrize("kind", ["counts", "replaces", "keeps"])
def test_what_a_pass_writes_is_undone_or_left_out_of_the_fingerprint(images, tmp_path, kind):
    module = Odd(kind)
    count = module.count
    encoders = [vk.Encoder(module, preprocess=to_tensor_32) for _ in range(2)]
    prints = [encoder.fingerprint for encoder in encoders]
    for encoder in encoders:
        encoder.embed_image(images[0])
        vk.embed(images, encoder, cache=tmp_path, progress=False)
        encoder.with_preprocess(to_tensor_32)
    prints += [encoder.fingerprint for encoder in encoders]
    assert len(set(prints)) == 1
    assert module.count is count
    assert float(count) == 0


def test_a_network_can_be_trained_after_it_was_looked_at(images):
    module = Odd("masks")
    vk.Encoder(module, preprocess=to_tensor_32).embed_image(images[0])
    module(batch_of(images)).sum().backward()
    assert module.conv.weight.grad is not None


def test_a_network_that_changed_under_its_encoder_says_so(images, tmp_path):
    module = tiny_network()
    encoder = vk.Encoder(module, layer="output", preprocess=to_tensor_32)
    for size in (1, 7):
        module[6] = nn.Linear(16, size)
        with pytest.raises(InputError, match=rf"gave \(2, {size}\) for 2 images, expected \(2, 5\).*changed since"):
            encoder.encode(batch_of(images)[:2])


def test_the_class_of_a_layer_decides_where_its_channels_are():
    """A strided convolution gives (32, 32, 16): read by proportions alone it would be 16 channels last."""
    module = nn.Sequential(nn.Conv2d(3, 32, 3, stride=(1, 2), padding=1), nn.ReLU())
    for layer in ("0", "1"):
        assert vk.Encoder(module, layer=layer, preprocess=to_tensor_32).dim == 32


def test_one_vector_for_all_images_is_said_aloud(images, tmp_path):
    module = tiny_network()
    module[2].weight.data.zero_()
    encoder = vk.Encoder(module, preprocess=to_tensor_32)
    with pytest.warns(UserWarning, match="All 9 images have one and the same vector at 'input:6'"):
        vk.embed(images, encoder, layers=["0", "input:6"], cache=tmp_path, progress=False)


@pytest.mark.parametrize("layer", [3, ["0"], b"0"])
def test_a_layer_that_is_no_name_is_refused_in_words(layer):
    with pytest.raises(InputError, match=r"layer must be a name out of encoder\.layers, not"):
        vk.Encoder(tiny_network(), layer=layer, preprocess=to_tensor_32)


@pytest.mark.parametrize("preprocess", [123, torchvision.models.ResNet18_Weights.DEFAULT, nn.Identity])
def test_a_preprocess_that_cannot_be_called_is_refused_in_words(preprocess):
    with pytest.raises(InputError, match=r"preprocess must be a name or a callable .* with parentheses"):
        vk.Encoder(tiny_network(), preprocess=preprocess)


@pytest.mark.parametrize("pool", ["max", "gem", "gap"])
def test_gradients_pass_through_a_layer_that_is_changed_in_place_afterwards(images, pool):
    module = nn.Sequential(nn.Conv2d(3, 4, 8, stride=8), nn.ReLU(inplace=True), nn.Flatten())
    encoder = vk.Encoder(module, layer="0", pool=pool, preprocess=to_tensor_32)
    batch = batch_of(images).requires_grad_()
    encoder.vectors(batch).sum().backward()
    plain = vk.Encoder(module[:1], pool=pool, preprocess=to_tensor_32)
    again = batch.detach().clone().requires_grad_()
    plain.vectors(again).sum().backward()
    torch.testing.assert_close(batch.grad, again.grad)


def test_means_of_half_precision_maps_are_taken_in_float32():
    """In bfloat16 256 + 1 is 256, so a running sum of ones would stop there."""
    x = torch.ones(1, 1, 64, 64, dtype=torch.bfloat16)
    x[0, 0, 0, 0] = 3
    mean = pooled(x, "gap", channels_last=False, layer="x")
    assert mean.dtype == torch.float32
    assert float(mean[0, 0]) == pytest.approx(1 + 2 / 4096, rel=1e-6)


def test_a_known_vector_does_not_join_the_failures_of_another_layer(images, tmp_path):
    """The preprocess fails on one image when the second layer is asked for: the first layer has its vector already."""
    broken = []

    def preprocess(image):
        if broken and image.size == images[0].size and np.array_equal(np.asarray(image), broken[0]):
            raise ValueError("planted")
        return to_tensor_32(image)

    encoder = vk.Encoder(tiny_network(), preprocess=preprocess)
    vk.embed(images, encoder, layers=["0"], cache=tmp_path, progress=False)
    broken.append(np.asarray(images[4]))
    found = vk.embed(images, encoder, layers=["0", "3"], cache=tmp_path, progress=False)
    assert (len(found["0"]), len(found["3"])) == (9, 8)
    assert found["0"].failures.empty
    assert list(found["3"].failures["id"]) == [images.ids[4]]
