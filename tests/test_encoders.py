"""The encoder: the right vector, the right pixels, and nothing left behind."""

import copy
import functools
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from drawn import photo, tiny_network, to_tensor_32
from safetensors.torch import save_file
from torchvision.ops import FrozenBatchNorm2d

import vizkit as vk
from vizkit.capture import Call, calibrate
from vizkit.checkpoints import redrawn
from vizkit.errors import (
    ImageReadError,
    InputError,
    LayerNotFoundError,
    MethodNotApplicableError,
    ModelNotFoundError,
    WeightsError,
)
from vizkit.layers import channels_last
from vizkit.saliency.spatial import feature_maps, spatial_layer


def test_a_named_layer_is_its_output_pooled():
    module = tiny_network()
    batch = torch.stack([to_tensor_32(photo(i)) for i in range(3)])
    with torch.no_grad():
        maps = module[:4](batch)
    for pool, expected in {
        "gap": maps.mean((2, 3)),
        "max": maps.amax((2, 3)),
        "flatten": maps.flatten(1),
    }.items():
        encoder = vk.Encoder(module, layer="3", pool=pool, preprocess=to_tensor_32)
        np.testing.assert_allclose(encoder.encode(batch), expected, rtol=1e-6)


def test_a_layer_is_read_before_a_later_in_place_change():
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.ReLU(inplace=True), torch.nn.Flatten())
    encoder = vk.Encoder(module, layer="0", pool="flatten", preprocess=to_tensor_32)
    batch = to_tensor_32(photo(0))[None]
    with torch.no_grad():
        expected = module[0](batch).flatten(1)
    assert (expected < 0).any()
    np.testing.assert_array_equal(encoder.encode(batch), expected)


def flags_and_hooks(module):
    return [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks), sorted(vars(m))) for m in module.modules()]


def test_the_users_module_comes_back_as_it_was():
    module = tiny_network().train()
    module[2].eval()
    module[0].weight.requires_grad_(False)
    state = copy.deepcopy(module.state_dict())
    before = flags_and_hooks(module)
    grads = [p.requires_grad for p in module.parameters()]
    encoder = vk.Encoder(module, preprocess=to_tensor_32)
    encoder.embed_image(photo(1))
    encoder.card()
    with pytest.raises(LayerNotFoundError):
        vk.Encoder(module, layer="nope", preprocess=to_tensor_32)
    assert flags_and_hooks(module) == before
    assert [p.requires_grad for p in module.parameters()] == grads
    assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())


def test_the_module_comes_back_after_an_exception_and_an_interrupt():
    module = tiny_network().train()
    encoder = vk.Encoder(module, preprocess=to_tensor_32)
    before = flags_and_hooks(module)
    for error in (RuntimeError, KeyboardInterrupt):

        def fail(*_, error=error):
            raise error("stop")

        handle = module[3].register_forward_hook(fail)
        with pytest.raises(error, match="stop"):
            encoder.embed_image(photo(1))
        handle.remove()
        assert flags_and_hooks(module) == before


def test_random_weights_follow_the_seed_and_leave_the_global_state():
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    a, b, c = (vk.Encoder("shufflenet_v2_x0_5", weights=None, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert a.fingerprint == b.fingerprint != c.fingerprint


def test_a_checkpoint_is_loaded_without_touching_the_global_random_state(tmp_path):
    torch.save(torchvision.models.shufflenet_v2_x0_5().state_dict(), tmp_path / "w.pth")
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    vk.Encoder("shufflenet_v2_x0_5", weights=tmp_path / "w.pth")
    assert torch.equal(torch.rand(1), expected)


def test_the_fingerprint_follows_everything_that_makes_the_vector():
    def make(**options):
        return vk.Encoder(tiny_network(options.pop("seed", 0)), **{"preprocess": to_tensor_32, **options}).fingerprint

    base = make()
    assert make() == base
    others = [
        make(seed=1),
        make(layer="3"),
        make(layer="3", pool="max"),
        make(preprocess=lambda image: to_tensor_32(image).flip(0)),
        make(preprocess=lambda image: to_tensor_32(image) * 1.01),
    ]
    assert len({base, *others}) == 6


def test_the_fingerprint_tells_every_resize_from_every_other():
    from torchvision.transforms import InterpolationMode, v2

    def make(*resize):
        steps = [*resize, v2.CenterCrop(128), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
        return vk.Encoder(tiny_network(), preprocess=v2.Compose(steps)).fingerprint

    modes = (InterpolationMode.NEAREST, InterpolationMode.BILINEAR, InterpolationMode.BICUBIC)
    prints = [make(), *(make(v2.Resize(size, mode)) for size in (130, 256, 389) for mode in modes)]
    assert make(v2.Resize(256)) == prints[5]
    assert len(set(prints)) >= len(prints) - 1  # at 130 and 389 one of the images is left as it is, never both
    assert len({*prints[:1], *prints[4:7]}) == 4


def test_the_fingerprint_sees_a_module_that_was_changed():
    module = tiny_network()
    module.register_buffer("gain", torch.ones(2), persistent=False)
    module.scale = 2.0
    module.mean = torch.tensor([0.5])
    encoder = vk.Encoder(module, preprocess=to_tensor_32)
    seen = [encoder.fingerprint]
    assert encoder.fingerprint == seen[0]
    for change in (
        lambda: module[0].weight.data.add_(1e-3),
        lambda: module.gain.mul_(3),
        lambda: setattr(module, "scale", 3.0),
        lambda: module.mean.add_(1),
        lambda: setattr(module, "act", torch.relu),
        lambda: setattr(module, "act", torch.sin),
        lambda: setattr(module, "act", functools.partial(torch.nn.functional.leaky_relu, negative_slope=0.2)),
        lambda: setattr(module, "table", (1, np.arange(3), None)),
        lambda: module.table[1].__setitem__(0, 7),
        lambda: setattr(encoder, "pool", "max"),
    ):
        change()
        seen.append(encoder.fingerprint)
        assert encoder.fingerprint == seen[-1]
    assert len(set(seen)) == 11
    module.train()
    assert encoder.fingerprint == seen[-1]


def test_what_a_forward_pass_writes_onto_the_module_is_no_part_of_its_fingerprint():
    class Counting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.calls, self.last = tiny_network(), 0, None

        def forward(self, x):
            self.calls += 1
            self.last = self.net(x)
            return self.last

    encoder = vk.Encoder(Counting(), preprocess=to_tensor_32)
    before = encoder.fingerprint
    encoder.embed_image(photo(2))
    assert encoder.fingerprint == before


TYPED = """
import torch
class Typed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(3072, 4)
    def forward(self, x, power=POWER):
        return self.fc((lambda y: torch.ACT(y) * SCALE)(x.flatten(1)) ** power)
"""


def test_the_fingerprint_reads_the_code_of_classes_typed_into_a_notebook():
    def make(**words):
        source = TYPED
        for word, value in {"POWER": "1", "ACT": "relu", "SCALE": "1.0", **words}.items():
            source = source.replace(word, value)
        space = {"__name__": "__main__"}
        exec(source, space)
        torch.manual_seed(0)
        return vk.Encoder(space["Typed"](), layer="fc", preprocess=to_tensor_32).fingerprint

    assert make() == make()
    assert len({make(), make(ACT="sin"), make(SCALE="2.0"), make(POWER="2")}) == 4


@pytest.mark.parametrize("form", ["plain", "nested and prefixed", "safetensors"])
def test_checkpoints_are_found_in_the_forms_that_training_writes(tmp_path, form):
    torch.manual_seed(5)
    source = torchvision.models.resnet18(num_classes=7).eval()
    state = source.state_dict()
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.th")
    if form == "safetensors":
        save_file(state, path)
    elif form == "plain":
        torch.save(state, path)
    else:
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    encoder = vk.Encoder("resnet18", weights=path)
    batch = torch.stack([encoder.preprocess(photo(i)) for i in range(2)])
    with torch.no_grad():
        np.testing.assert_allclose(encoder.module(batch), source(batch), rtol=1e-5, atol=1e-6)
    assert encoder.module.fc.out_features == 7
    assert "IMAGENET1K_V1" in str(encoder.card().loc["preprocess", "value"])


def test_a_checkpoint_of_googlenet_gets_the_inputs_that_its_weights_were_trained_on(tmp_path):
    torch.manual_seed(0)
    reference = torchvision.models.googlenet(weights=None, aux_logits=True, transform_input=True, init_weights=False)
    reference.eval()
    torch.save(reference.state_dict(), tmp_path / "g.pth")
    encoder = vk.Encoder("googlenet", weights=tmp_path / "g.pth")
    batch = encoder.preprocess(photo(2))[None]
    calibrate(reference, batch.repeat(2, 1, 1, 1) + torch.rand(2, 3, 224, 224))
    encoder.module.load_state_dict(reference.state_dict())
    with torch.no_grad():
        expected = reference(batch)
        np.testing.assert_allclose(encoder.module(batch), expected, rtol=1e-4, atol=1e-6)
        reference.transform_input = False  # the control: without it the same weights answer something else
        assert not np.allclose(reference(batch), expected, rtol=1e-3)


class Evil:
    def __reduce__(self):
        return (eval, ("__import__('pathlib').Path('evil').touch()",))


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open("bad.pth", "wb") as file:  # noqa: PTH123
        pickle.dump(Evil(), file)
    with pytest.raises(WeightsError, match="cannot be read as plain weights"):
        vk.Encoder("resnet18", weights="bad.pth")
    assert not (tmp_path / "evil").exists()


def test_wrong_names_say_what_is_near(tmp_path):
    with pytest.raises(ModelNotFoundError, match=r"'resnt18'.*Closest: 'resnet18'"):
        vk.Encoder("resnt18")
    with pytest.raises(LayerNotFoundError, match=r"no layer 'layr3'.*'layer3'"):
        vk.Encoder("resnet18", weights=None, layer="layr3")
    with pytest.raises(LayerNotFoundError, match=r"runs 2 times in one forward pass.*'layer1.0'"):
        vk.Encoder("resnet18", weights=None, layer="layer1.0.relu")
    (tmp_path / "resnet18.pth").touch()
    with pytest.raises(WeightsError, match=r"No checkpoint file .*Closest: 'resnet18.pth'"):
        vk.Encoder("resnet18", weights=tmp_path / "resnet81.pth")
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "18.pth")
    with pytest.raises(WeightsError, match=r"does not fit resnet34: .* missing \(layer1.2.conv1.weight"):
        vk.Encoder("resnet34", weights=tmp_path / "18.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match=r"holds no state dict .* but a list"):
        vk.Encoder("resnet18", weights=tmp_path / "list.pth")


def test_impossible_requests_are_refused_in_words():
    with pytest.raises(InputError, match="How does an image become the input of this Sequential"):
        vk.Encoder(tiny_network())
    with pytest.raises(InputError, match="two different tensors for one image"):
        vk.Encoder(tiny_network(), preprocess=lambda image: to_tensor_32(image) + torch.rand(1))
    with pytest.raises(InputError, match=r"must give a float tensor \(3, h, w\); it gave ndarray"):
        vk.Encoder(tiny_network(), preprocess=np.asarray)
    with pytest.raises(InputError, match="pool must be one of"):
        vk.Encoder("scenes", pool="mean")
    with pytest.raises(InputError, match=r"must be a name or a torch\.nn.Module, not int"):
        vk.Encoder(18)
    with pytest.raises(InputError, match="Sequential cannot run on preprocessed images of shape"):
        vk.Encoder(tiny_network(), preprocess=lambda image: to_tensor_32(image)[:2])
    with pytest.raises(InputError, match="resize and crop to one size"):
        vk.Encoder(
            tiny_network(), preprocess=lambda image: torch.from_numpy(np.asarray(image, np.float32).transpose(2, 0, 1))
        )


def test_weights_and_devices_that_mean_nothing_are_refused_in_words():
    resnet34 = torchvision.models.ResNet34_Weights.DEFAULT
    with pytest.raises(InputError, match="or the path of a checkpoint, not True"):
        vk.Encoder("resnet18", weights=True)
    with pytest.raises(WeightsError, match=r"ResNet34_Weights.IMAGENET1K_V1 are weights of another network; resnet18"):
        vk.Encoder("resnet18", weights=resnet34)
    with pytest.raises(WeightsError, match="are weights of another network; scenes takes"):
        vk.Encoder("scenes", weights=resnet34)
    with pytest.raises(WeightsError, match=r"has no weights 'IMAGENET1K_V3'.*Closest: 'IMAGENET1K_V1'"):
        vk.Encoder("resnet18", weights="IMAGENET1K_V3")
    with pytest.raises(InputError, match="no device 'gpu' here; there is 'cpu'"):
        vk.Encoder("scenes", device="gpu")
    with pytest.raises(InputError, match="no device 'cuda:99' here; there is 'cpu'"):
        vk.Encoder("scenes", device="cuda:99")
    with pytest.raises(InputError, match="no device 'meta' here"):
        vk.Encoder(tiny_network(), device="meta", preprocess=to_tensor_32)
    with pytest.raises(InputError, match=r"The module lies on 'meta', and device='cpu'.*module.to\('cpu'\)"):
        vk.Encoder(tiny_network().to("meta"), device="cpu", preprocess=to_tensor_32)
    assert vk.Encoder(tiny_network(), device=torch.device("cpu"), preprocess=to_tensor_32).device == "cpu"


@pytest.mark.parametrize("weights", ["IMAGENET1K_V1", "ResNet18_Weights.IMAGENET1K_V1", "DEFAULT", "member"])
def test_torchvisions_weights_go_by_name_and_by_member(weights, monkeypatch):
    enum = torchvision.models.ResNet18_Weights
    asked = []

    def fetch(entry, **_):
        asked.append(entry)
        return torchvision.models.resnet18().state_dict()

    monkeypatch.setattr(enum, "get_state_dict", fetch)
    encoder = vk.Encoder("resnet18", weights=enum.IMAGENET1K_V1 if weights == "member" else weights)
    assert asked == [enum.IMAGENET1K_V1]
    assert encoder.weights == "ResNet18_Weights.IMAGENET1K_V1"


@pytest.mark.parametrize(
    ("name", "layer", "axes"),
    [
        ("swin_t", "features.7", (1, 2)),
        ("convnext_tiny", "features.5.0.block.3", (1, 2)),
        ("convnext_tiny", "features.7", (2, 3)),
    ],
)
def test_channels_are_found_where_a_layer_has_them(name, layer, axes):
    encoder = vk.Encoder(name, weights=None, layer=layer)
    batch = torch.stack([encoder.preprocess(photo(i)) for i in range(2)])
    seen = []
    handle = encoder.module.get_submodule(layer).register_forward_hook(lambda _, __, out: seen.append(out.clone()))
    ours = encoder.encode(batch)
    maps, vectors = feature_maps(encoder, batch)
    handle.remove()
    np.testing.assert_allclose(ours, seen[0].mean(axes), rtol=1e-5, atol=1e-6)
    assert encoder.dim == (1536 if layer.endswith("block.3") else 768) == vectors.shape[1]
    expected = seen[0].permute(0, 3, 1, 2) if axes == (1, 2) else seen[0]
    np.testing.assert_array_equal(maps, expected)
    if axes == (1, 2):
        with pytest.raises(MethodNotApplicableError, match=rf"gives \(h, w, c\) at '{layer}'.* Use method='occlusion'"):
            spatial_layer(encoder)
    else:
        assert spatial_layer(encoder) == layer


def test_channels_are_found_in_oblong_and_in_undecided_shapes():
    conv, linear, unknown = (Call("x", "", (), (1, 8, 8, 8), axis, False, False) for axis in (1, 3, None))
    gate = Call("x", "Linear", (), (1, 8), 3, True, True)  # of vectors: it says nothing of maps
    assert not channels_last((1, 64, 7, 9), (200, 266), [linear])
    assert channels_last((1, 7, 9, 64), (200, 266), [conv])
    assert not channels_last((1, 8, 8, 8), (64, 64), [linear, conv, unknown])
    assert channels_last((1, 8, 8, 8), (64, 64), [conv, linear, unknown])
    assert not channels_last((1, 8, 8, 8), (64, 64), [conv, gate])
    assert not channels_last((1, 8, 8, 8), (64, 64), [unknown])


def test_a_layer_of_another_form_is_refused_in_words():
    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.volume, self.line, self.split = (torch.nn.Identity() for _ in range(3))

        def forward(self, x):
            self.line(x.mean((1, 2, 3)))
            self.split(x.reshape(4 * len(x), 3, -1))
            return self.volume(x[:, :, None]).flatten(1)

    def make(layer, pool="gap"):
        return vk.Encoder(Odd(), layer=layer, pool=pool, preprocess=to_tensor_32)

    with pytest.raises(InputError, match=r"needs tokens .* 'volume' gives \(1, 3, 1, 32, 32\)"):
        make("volume")
    assert make("volume", "flatten").dim == 3072
    with pytest.raises(InputError, match=r"'line' has shape \(2,\) for 2 images"):
        make("line")
    with pytest.raises(InputError, match=r"'split' has shape \(8, 3, 256\) for 2 images"):
        make("split")


def test_without_network_and_cache_one_sentence_says_what_to_do(tmp_path, monkeypatch, no_network):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(WeightsError, match=r"cannot be downloaded .* Put resnet18-f37072fd.pth there"):
        vk.Encoder("resnet18")


def test_the_random_baseline_tells_images_apart():
    """As initialised, this network finds any two photos all but equal; calibrated on images, it does not."""
    images = vk.ImageSet.from_frame(pd.DataFrame({"path": [photo(i, (96, 96)) for i in range(8)]}))
    plain = vk.Encoder("mobilenet_v3_small", weights=None, seed=2)
    baseline = plain.randomized(images, seed=2)

    def cosine(encoder):
        a, b = (encoder.embed_image(images[i]).astype(float) for i in (0, 1))
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    assert 1 - cosine(baseline) > 4 * (1 - cosine(plain))
    # Every channel behind a calibrated BatchNorm has mean 0 and variance v / (v + eps) over those images.
    norm = baseline.module.features[0][1]
    seen = []
    handle = norm.register_forward_hook(lambda _, __, out: seen.append(out.clone()))
    baseline.encode(torch.stack([baseline.preprocess(image) for image in images]))
    handle.remove()
    np.testing.assert_allclose(seen[0].mean((0, 2, 3)), 0, atol=1e-4)
    assert ((seen[0].var((0, 2, 3)) > 0.9) & (seen[0].var((0, 2, 3)) < 1.001)).all()
    assert "calibrated on 8 images" in baseline.weights
    assert baseline.layer == plain.layer

    def load(row):
        if row < 5:
            raise ImageReadError(f"image {row} is broken")
        return photo(row, (96, 96))

    frame = pd.DataFrame({"path": None}, index=pd.Index([str(i) for i in range(8)], name="id"))
    broken = vk.ImageSet(list(frame.index), frame, load)
    assert "calibrated on 3 images" in plain.randomized(broken).weights
    with pytest.raises(InputError, match=r"none can be read: .*image 4 is broken"):
        plain.randomized(broken.subset(range(5)))
    assert vk.Encoder("alexnet", weights=None).randomized(broken, seed=4).weights == "random, seed 4"


class OwnParts(torch.nn.Module):
    """A network with a parameter that nothing initializes, a normalization, and a part that resets with arguments."""

    class Scale(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.linspace(1, 3, 8))

        def reset_parameters(self, to):
            raise AssertionError("cannot be called")

        def forward(self, x):
            return x * self.weight.view(-1, 1, 1)

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3)
        self.norm = torch.nn.BatchNorm2d(8)
        self.scale = self.Scale()
        self.place = torch.nn.Parameter(torch.randn(8, 1, 1) * 5 + 7)
        self.one = torch.nn.Parameter(torch.full((4,), 2.0), requires_grad=False)

    def forward(self, x):
        return (self.scale(self.norm(self.conv(x))) + self.place).relu().mean((2, 3)) * self.one.mean()


@pytest.mark.parametrize("build", [tiny_network, OwnParts])
def test_a_module_of_ones_own_is_drawn_anew_in_a_copy(build):
    images = vk.ImageSet.from_frame(pd.DataFrame({"path": [photo(i) for i in range(8)]}))
    torch.manual_seed(0)
    module = build().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    encoder = vk.Encoder(module, preprocess=to_tensor_32)
    state = torch.random.get_rng_state()
    twin, again, other = (encoder.randomized(images, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(part.training for part in module.modules())
    assert "random, seed 1" in twin.weights
    assert (twin.layer, twin.name, twin.dim) == (encoder.layer, encoder.name, encoder.dim)
    for name, value in twin.module.named_parameters():
        constant = before[name].unique().numel() == 1
        assert torch.equal(value, before[name]) == constant or "bias" in name, name
        assert torch.equal(value, again.module.get_parameter(name))
    weights = "0.weight" if build is tiny_network else "conv.weight"
    assert not torch.equal(twin.module.get_parameter(weights), other.module.get_parameter(weights))
    # He et al. 2015, section 2.2: variance 2 / fan-in, which is 27 here.
    assert twin.module.get_parameter(weights).var().item() == pytest.approx(2 / 27, rel=0.3)
    if build is OwnParts:
        assert twin.module.place.mean().item() == pytest.approx(7, abs=6)
        assert "calibrated on 8 images" in twin.weights
    vectors = twin.encode(torch.stack([twin.preprocess(image) for image in images]))
    assert np.isfinite(vectors).all()
    assert np.ptp(vectors, axis=0).max() > 0


class Held(torch.nn.Module):
    """A network whose weights are buffers, in part."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3)
        self.norm = FrozenBatchNorm2d(8)
        for buffer in self.norm.buffers():
            buffer.uniform_(2, 3)
        self.register_buffer("projection", torch.randn(8, 16))
        self.register_buffer("mask", torch.tensor([[0.0, -torch.inf], [0.0, 0.0]]))
        self.register_buffer("wide", torch.randn(1, 8).expand(4, 8))
        self.register_buffer("index", torch.arange(16).view(4, 4))
        self.register_buffer("scratch", torch.randn(4, 4), persistent=False)
        self.scale = torch.nn.Parameter(torch.tensor(3.7))


def test_weights_that_are_buffers_are_drawn_anew_too():
    torch.manual_seed(0)
    module = Held()
    before = {name: value.clone() for name, value in module.named_buffers()}
    twin, again, other = (redrawn(module, seed) for seed in (1, 1, 2))
    assert all(torch.equal(value, before[name]) for name, value in module.named_buffers())
    fresh = FrozenBatchNorm2d(8)
    for name, value in fresh.named_buffers():
        assert torch.equal(twin.norm.get_buffer(name), value)
    for name in ("projection", "wide"):
        drawn = twin.get_buffer(name)
        assert not torch.equal(drawn, before[name])
        assert torch.equal(drawn.flatten().sort().values, before[name].flatten().sort().values)
        assert torch.equal(drawn, again.get_buffer(name))
        assert not torch.equal(drawn, other.get_buffer(name))
    for name in ("mask", "index", "scratch"):
        assert torch.equal(twin.get_buffer(name), before[name])
    assert twin.scale.item() == module.scale.item()


def test_a_module_that_cannot_be_copied_has_no_random_baseline():
    class Whole(torch.nn.Sequential):
        def __deepcopy__(self, memo):
            raise TypeError("there is one of me")

    images = vk.ImageSet.from_frame(pd.DataFrame({"path": [photo(0)]}))
    encoder = vk.Encoder(Whole(*tiny_network()), preprocess=to_tensor_32)
    with pytest.raises(WeightsError, match=r"This Whole cannot be copied \(TypeError: there is one of me\)"):
        encoder.randomized(images)


def test_the_card_says_what_is_applied():
    encoder = vk.Encoder("resnet18", weights=None)
    card = encoder.card()["value"]
    assert card["resize"] == "256 pixels"
    assert card["crop"] == "224 pixels"
    assert card["mean"] == "0.485, 0.456, 0.406"
    assert card["dimensions"] == 512
    assert card["weights"] == "random, seed 0"
    assert card["pooling"] == "none needed: the layer gives a vector"
    pooled = vk.Encoder("resnet18", weights=None, layer="input:layer4", pool="max")
    assert pooled.card().loc["pooling", "value"] == "max"
    assert "layer4" in encoder.layers
    assert "resnet18" in encoder._repr_html_()


def test_what_was_seen_is_the_picture_before_normalization():
    encoder = vk.Encoder("resnet18", weights=None)
    image = photo(4, (256, 256))
    expected = np.asarray(image.crop((16, 16, 240, 240)), int)
    assert np.abs(encoder.seen(encoder.preprocess(image)).astype(int) - expected).max() <= 1


def test_two_layers_of_one_network_may_be_asked_from_two_threads_at_once():
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 16, 3),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
    )
    encoders = [vk.Encoder(module, layer=layer, preprocess="[0,1]") for layer in ("0", "2")]
    batches = [torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(n)) for n in (1, 3)]
    wanted = [encoder.vectors(batch) for encoder, batch in zip(encoders, batches, strict=True)]

    def ask(which):
        return [encoders[which].vectors(batches[which]) for _ in range(200)]

    with ThreadPoolExecutor(2) as pool:
        for found, alone in zip(pool.map(ask, (0, 1)), wanted, strict=True):
            assert all(torch.equal(vectors, alone) for vectors in found)
