"""Networks of timm and open_clip by name: their own vector, their own pixels, their weights, and nothing unasked."""

import pickle
import random
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from drawn import photo
from safetensors.torch import save_file

import vizkit as vk
from vizkit.capture import calibrate
from vizkit.checkpoints import no_code_from_files
from vizkit.errors import InputError, ModelNotFoundError, WeightsError
from vizkit.networks import load_network

timm = pytest.importorskip("timm")
open_clip = pytest.importorskip("open_clip")

# network of timm -> (default layer, dimensions, input size, another layer with as many dimensions)
TIMM = {
    "test_resnet": ("input:fc", 96, 160, "layer4.0.bn2"),
    "test_vit": ("input:head", 64, 160, "blocks.4"),
    "test_efficientnet": ("input:classifier", 256, 160, "conv_head"),
    "convnext_atto": ("input:head.fc", 320, 224, "stages.3"),
    "caformer_s18": ("input:head.fc", 512, 224, "stages.3"),  # its classifier has two Linears
    "sequencer2d_s": ("input:head.fc", 384, 224, "stages.2"),  # its classifier pools
    "vit_tiny_patch16_dinov3_qkvb": ("output", 192, 256, "norm"),  # has no classifier
    "deit_tiny_distilled_patch16_224": ("output", 192, 224, "norm"),  # has two, which read different vectors
    "crossvit_tiny_240": ("output", 288, 240, None),
}

# Small networks of each kind of image tower that open_clip builds: layers, or the name of a network of timm.
TEXT = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}
VIT = {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16}
TOWERS = {
    "vit": {"embed_dim": 64, "vision_cfg": VIT},
    "resnet": {"embed_dim": 512, "vision_cfg": {**VIT, "layers": [1, 1, 1, 1], "width": 16, "head_width": 16}},
    "timm": {
        "embed_dim": 96,
        "vision_cfg": {"image_size": 64, "timm_model_name": "test_resnet", "timm_model_pretrained": True},
        "custom_text": True,
    },
    "coca": {
        "embed_dim": 64,
        "vision_cfg": {**VIT, "output_tokens": True, "attentional_pool": True, "attn_pooler_heads": 2},
        "multimodal_cfg": {**TEXT, "attn_pooler_heads": 2},
        "custom_text": True,
    },
}
# Another layer of each, with as many dimensions.
WRONG = {"vit": "transformer", "resnet": "layer4", "timm": "input:head.proj", "coca": "transformer"}


class Evil:
    def __reduce__(self):
        return (eval, ("__import__('pathlib').Path('evil').touch()",))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Give a function that puts a file into an empty cache of the hub, which nothing else is fetched into."""
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def put(repository, file):
        folder = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        revision = "0" * 40
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text(revision)
        (folder / "snapshots" / revision).mkdir(parents=True)
        return folder / "snapshots" / revision / file

    return put


@pytest.fixture
def towers(monkeypatch, tmp_path):
    """Give open_clip the small networks, each with two sets of weights: "first" wants QuickGELU, "second" GELU."""
    for name, config in TOWERS.items():
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, f"small-{name}", {**config, "text_cfg": TEXT})
    pretrained = {}
    for seed, tag in enumerate(("first", "second")):
        torch.manual_seed(seed)
        path = tmp_path / f"{tag}.pt"
        torch.save(open_clip.create_model("small-vit").state_dict(), path)
        pretrained[tag] = {
            "file": str(path),
            "quick_gelu": tag == "first",
            "mean": (0.1 * seed,) * 3,
            "std": (0.5,) * 3,
        }
        pretrained[tag] |= {"interpolation": "bilinear", "resize_mode": "squash"}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "small-vit", pretrained)
    return tmp_path


def drawn_batch(preprocess, n=4):
    return torch.stack([preprocess(photo(i, (400, 300))) for i in range(n)])


def agree(ours, expected, tolerance):
    """Whether all vectors agree to a share of their norm."""
    ours, expected = torch.as_tensor(np.asarray(ours)), torch.as_tensor(np.asarray(expected))
    return ours.shape == expected.shape and bool(
        ((ours - expected).norm(dim=1) <= tolerance * expected.norm(dim=1)).all()
    )


def far_apart(expected, tolerance):
    """Whether two images differ by far more than the tolerance, without which agreement means nothing."""
    return bool((expected[0] - expected[1]).norm() >= 100 * tolerance * expected.norm(dim=1).max())


@pytest.mark.parametrize("name", TIMM)
def test_the_vector_of_a_timm_network_is_what_timm_gives_before_its_classifier(name):
    layer, dim, side, wrong = TIMM[name]
    encoder = vk.Encoder(f"timm:{name}", weights=None, seed=3)
    batch = drawn_batch(encoder.preprocess)
    calibrate(encoder.module, batch)
    whole = timm.create_model(name).eval()
    missing = whole.load_state_dict(encoder.module.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert all(key.startswith("head") for key in missing.missing_keys)  # the classifiers alone
    with torch.no_grad():
        expected = whole.forward_head(whole.forward_features(batch), pre_logits=True)
    assert (encoder.layer, encoder.dim, encoder.input_shape) == (layer, dim, (3, side, side))
    assert agree(encoder.encode(batch), expected, 1e-5)
    assert far_apart(expected, 1e-5)
    if wrong:
        other = encoder.at(wrong)
        assert other.dim == dim
        assert not agree(other.encode(batch), expected, 1e-5)


def test_a_timm_classifier_stays_where_there_is_one_vector_before_it():
    encoder = vk.Encoder("timm:test_vit", weights=None)
    batch = drawn_batch(encoder.preprocess, 2)
    torch.testing.assert_close(
        torch.from_numpy(encoder.at("output").encode(batch)), encoder.module.head(encoder.vectors(batch))
    )


@pytest.mark.parametrize("tag", ["a1_in1k", "tv_in1k"])
def test_a_timm_tag_brings_its_own_pixels(tag):
    own = timm.data.create_transform(
        **timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(f"resnet18.{tag}").to_dict())
    )
    image = photo(5, (400, 300))
    network = load_network(f"timm:resnet18.{tag}", None, 0)
    assert torch.equal(network.preprocess(image), own(image))
    assert network.transforms == f"timm resnet18.{tag}"
    # The control: the tags differ in crop and interpolation.
    other = load_network("timm:resnet18." + {"a1_in1k": "tv_in1k", "tv_in1k": "a1_in1k"}[tag], None, 0)
    assert not torch.equal(other.preprocess(image), own(image))


def test_without_a_tag_a_timm_network_gets_the_pixels_of_its_default_weights():
    network = load_network("timm:test_resnet", None, 4)
    config = timm.get_pretrained_cfg("test_resnet").to_dict()
    own = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=config))
    image = photo(5, (400, 300))
    assert torch.equal(network.preprocess(image), own(image))
    assert (network.weights, network.transforms) == ("random, seed 4", "timm test_resnet.r160_in1k")
    assert network.name == "timm:test_resnet.r160_in1k"


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("test_vit", "DEFAULT"),
        ("test_vit.r160_in1k", "DEFAULT"),
        ("test_vit", "r160_in1k"),
        ("test_vit", "test_vit.r160_in1k"),
    ],
)
def test_timms_weights_are_loaded_by_timm_from_its_cache(name, weights, hub, no_network):
    torch.manual_seed(7)
    trained = timm.create_model("test_vit").eval()
    save_file(trained.state_dict(), hub("timm/test_vit.r160_in1k", "model.safetensors"))
    encoder = vk.Encoder(f"timm:{name}", weights=weights)
    batch = drawn_batch(encoder.preprocess, 2)
    with torch.no_grad():
        expected = trained.forward_head(trained.forward_features(batch), pre_logits=True)
    assert agree(encoder.encode(batch), expected, 1e-6)
    assert encoder.weights == encoder.transforms == "timm test_vit.r160_in1k"
    assert not no_network
    random_one = vk.Encoder(f"timm:{name}", weights=None)
    assert not agree(random_one.encode(batch), expected, 1e-2)


def test_weights_that_timm_cannot_get_or_that_hold_code_are_refused_in_words(hub, tmp_path, monkeypatch, no_network):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        WeightsError, match=r"timm cannot load the weights test_vit.r160_in1k .*weights=None \(random\)"
    ):
        vk.Encoder("timm:test_vit")
    path = hub("timm/test_vit.r160_in1k", "pytorch_model.bin")
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(WeightsError, match=r"timm cannot load the weights test_vit.r160_in1k \(.*weights_only"):
        vk.Encoder("timm:test_vit")
    assert not (tmp_path / "evil").exists()


def test_no_caller_can_load_code_while_a_library_loads_its_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(Evil(), "bad.pt")
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"), no_code_from_files():
        torch.load("bad.pt", weights_only=False)
    assert not Path("evil").exists()
    torch.load("bad.pt", weights_only=False)  # as before outside the block
    assert Path("evil").exists()


@pytest.mark.parametrize("form", ["as it is", "for other classes", "without its classifier"])
def test_a_checkpoint_of_a_timm_network_gives_its_vectors(form, tmp_path):
    torch.manual_seed(7)
    classes = {"as it is": 1000, "for other classes": 7, "without its classifier": 0}[form]
    trained = timm.create_model("test_efficientnet", num_classes=classes)
    encoder = vk.Encoder("timm:test_efficientnet", weights=None)
    batch = drawn_batch(encoder.preprocess)
    calibrate(trained, batch)
    torch.save({"state_dict": {f"module.{k}": v for k, v in trained.state_dict().items()}}, tmp_path / "own.pth")
    encoder = vk.Encoder("timm:test_efficientnet", weights=tmp_path / "own.pth")
    with torch.no_grad():
        expected = trained.forward_head(trained.forward_features(batch), pre_logits=True)
    assert agree(encoder.encode(batch), expected, 1e-6)
    assert far_apart(expected, 1e-6)
    assert encoder.weights == "file own.pth"
    assert encoder.transforms == "timm test_efficientnet.r160_in1k, assumed: a checkpoint file does not say"


def test_a_checkpoint_of_several_classifiers_gives_timms_vectors(tmp_path):
    torch.manual_seed(7)
    trained = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=3).eval()
    save_file(trained.state_dict(), tmp_path / "deit.safetensors")
    encoder = vk.Encoder("timm:deit_tiny_distilled_patch16_224", weights=tmp_path / "deit.safetensors")
    batch = drawn_batch(encoder.preprocess, 2)
    with torch.no_grad():
        expected = trained.forward_head(trained.forward_features(batch), pre_logits=True)
    assert agree(encoder.encode(batch), expected, 1e-6)
    assert encoder.weights == "file deit.safetensors; its several classifiers taken off"


@pytest.mark.parametrize("kind", TOWERS)
def test_the_vector_of_an_open_clip_network_is_what_encode_image_gives(kind, towers):
    encoder = vk.Encoder(f"open_clip:small-{kind}", weights=None, seed=3)
    batch = drawn_batch(encoder.preprocess)
    calibrate(encoder.module, batch)
    tag = "first" if kind == "vit" else None  # random weights take what its default weights want
    whole, _, own = open_clip.create_model_and_transforms(f"small-{kind}", tag, force_quick_gelu=kind == "vit")
    whole.eval().visual.load_state_dict(encoder.module.state_dict())
    with torch.no_grad():
        expected = whole.encode_image(batch, normalize=False)
    assert encoder.layer == "output"
    assert agree(encoder.encode(batch), expected, 1e-6)
    assert far_apart(expected, 1e-6)
    other = encoder.at(WRONG[kind])
    assert other.dim == encoder.dim
    assert not agree(other.encode(batch), expected, 1e-6)
    image = photo(5, (400, 300))
    assert torch.equal(encoder.preprocess(image), own(image))


def test_a_real_architecture_of_open_clip_gives_encode_image():
    encoder = vk.Encoder("open_clip:ViT-S-32", weights=None)
    whole, _, own = open_clip.create_model_and_transforms("ViT-S-32")
    whole.eval().visual.load_state_dict(encoder.module.state_dict())
    batch = drawn_batch(own)
    with torch.no_grad():
        expected = whole.encode_image(batch)
    assert torch.equal(drawn_batch(encoder.preprocess), batch)
    assert agree(encoder.encode(batch), expected, 1e-6)
    assert far_apart(expected, 1e-6)


@pytest.mark.parametrize(("name", "weights", "tag"), [
    ("small-vit", "DEFAULT", "first"), ("small-vit", "second", "second"), ("small-vit/second", "DEFAULT", "second"),
    ("small-vit/first", "small-vit/first", "first"),
])  # fmt: skip
def test_weights_of_open_clip_run_with_the_activation_they_were_trained_with(name, weights, tag, towers):
    """Upstream runs weights that want QuickGELU with GELU, with no more than a warning."""
    encoder = vk.Encoder(f"open_clip:{name}", weights=weights)
    batch = drawn_batch(encoder.preprocess)
    found = {}
    for quick in (True, False):
        whole, _, own = open_clip.create_model_and_transforms("small-vit", tag, force_quick_gelu=quick)
        with torch.no_grad():
            found[quick] = whole.eval().encode_image(batch)
    assert agree(encoder.encode(batch), found[tag == "first"], 1e-6)
    assert not agree(encoder.encode(batch), found[tag != "first"], 1e-6)
    assert torch.equal(drawn_batch(own), batch)
    assert encoder.weights == encoder.transforms == f"open_clip small-vit/{tag}"


@pytest.mark.parametrize("part", ["both towers", "image tower"])
def test_a_checkpoint_of_open_clip_gives_its_vectors(part, towers, tmp_path):
    torch.manual_seed(7)
    trained = open_clip.create_model("small-vit").eval()
    state = trained.state_dict() if part == "both towers" else trained.visual.state_dict()
    torch.save(state, tmp_path / "own.pt")
    encoder = vk.Encoder("open_clip:small-vit", weights=tmp_path / "own.pt")
    batch = drawn_batch(encoder.preprocess)
    with torch.no_grad():
        expected = trained.encode_image(batch)
    assert agree(encoder.encode(batch), expected, 1e-6)
    assert far_apart(expected, 1e-6)
    assert encoder.weights == "file own.pt, run with GELU"
    assert encoder.transforms == "open_clip small-vit/first, assumed: a checkpoint file does not say"
    quick = vk.Encoder("open_clip:small-vit/first", weights=tmp_path / "own.pt")
    assert quick.weights == "file own.pt, run with QuickGELU"
    assert not agree(quick.encode(batch), expected, 1e-6)
    torch.save(open_clip.create_model("small-resnet").state_dict(), tmp_path / "resnet.pt")
    resnet = load_network("open_clip:small-resnet", tmp_path / "resnet.pt", 0)
    assert resnet.weights == "file resnet.pt"  # a tower without either


def test_checkpoints_of_another_network_are_refused_in_words(towers, tmp_path):
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(WeightsError, match=r"does not fit timm:test_vit.r160_in1k: .* missing \(cls_token"):
        vk.Encoder("timm:test_vit", weights=tmp_path / "resnet.pth")
    with pytest.raises(WeightsError, match=r"does not fit the image tower of open_clip:small-vit: .* missing"):
        vk.Encoder("open_clip:small-vit", weights=tmp_path / "resnet.pth")
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil()))
    for name in ("timm:test_vit", "open_clip:small-vit"):
        with pytest.raises(WeightsError, match="cannot be read as plain weights"):
            vk.Encoder(name, weights=tmp_path / "evil.pth")


@pytest.mark.parametrize("name", ["timm:test_vit", "open_clip:small-timm", "open_clip:roberta-ViT-B-32"])
def test_random_weights_need_no_network_and_leave_every_random_state(name, towers, no_network):
    """The text tower of the last would ask for its configuration, and the small one's own file wants weights."""
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global state is the point
    random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    network = load_network(name, None, 1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    assert random.getstate() == before[2]
    assert not no_network
    assert not any(m.training for m in network.module.modules())
    if "roberta" not in name:
        same, other = (load_network(name, None, seed).module.state_dict() for seed in (1, 2))
        assert all(torch.equal(same[k], v) for k, v in network.module.state_dict().items())
        assert any(not torch.equal(other[k], v) for k, v in network.module.state_dict().items())


@pytest.mark.parametrize("name", ["timm:test_resnet", "timm:lcnet_035", "open_clip:small-vit",
                                  "open_clip:small-resnet"])  # fmt: skip
def test_a_full_name_builds_the_same_network_again(name, towers):
    network = load_network(name, None, 1)
    again = load_network(network.name, None, 1)
    assert again.name == network.name
    assert again.transforms == network.transforms
    batch = drawn_batch(network.preprocess, 1)
    with torch.no_grad():
        assert torch.equal(again.module(batch), network.module(batch))


def test_the_random_baseline_of_a_timm_network_is_one_of_timm():
    encoder = vk.Encoder("timm:test_resnet", weights=None)
    images = vk.ImageSet.from_frame(pd.DataFrame({"path": [photo(i) for i in range(8)]}))
    twin = encoder.randomized(images, seed=1)
    assert (twin.name, twin.layer, twin.dim) == (encoder.name, encoder.layer, encoder.dim)
    assert twin.weights == "random, seed 1, BatchNorm calibrated on 8 images"


def test_unknown_names_and_weights_say_what_is_near():
    for name, near in {
        "timm:resnet10x": r"timm has no network 'resnet10x'.*Closest: 'resnet10t'",
        "open_clip:ViT-B-33": r"open_clip has no network 'ViT-B-33'.*Closest: 'ViT-B-32'",
        "tim:resnet18": r"No network is named 'tim:resnet18'.*'timm:NAME'",
    }.items():
        with pytest.raises(ModelNotFoundError, match=near):
            vk.Encoder(name)
    for name, weights, near in [
        ("timm:resnet18", "a1_in2k", r"timm:resnet18 has no weights 'a1_in2k'.*Closest: 'a1_in1k'"),
        ("timm:resnet18", "resnet18.a1_in2k", r"no weights 'resnet18.a1_in2k'.*Closest: 'a1_in1k'"),
        ("timm:resnet18.a1_in2k", None, r"timm:resnet18 has no weights 'a1_in2k'.*Closest: 'a1_in1k'"),
        ("timm:resnet18", "own.pth", "No checkpoint file 'own.pth'"),
        ("open_clip:ViT-B-32", "opena1", r"has no weights 'opena1'.*Closest: 'openai'"),
        ("open_clip:ViT-B-32/opena1", None, r"has no weights 'opena1'.*Closest: 'openai'"),
        ("open_clip:ViT-S-32", "DEFAULT", "no trained weights for open_clip:ViT-S-32: take weights=None"),
        ("timm:lcnet_035", "DEFAULT", "no trained weights for timm:lcnet_035"),
    ]:
        with pytest.raises(WeightsError, match=near):
            load_network(name, weights, 0)
    for name, weights in [("timm:resnet18.a1_in1k", "a2_in1k"), ("open_clip:ViT-B-32/openai", "laion2b_e16")]:
        with pytest.raises(InputError, match=r"says other weights than .*: leave one out"):
            load_network(name, weights, 0)


def test_weights_of_torchvision_are_refused_for_other_networks():
    from torchvision.models import ResNet18_Weights

    for name in ("scenes", "timm:resnet18", "open_clip:RN50"):
        with pytest.raises(WeightsError, match=rf"weights of another network; {name} takes"):
            load_network(name, ResNet18_Weights.IMAGENET1K_V1, 0)


@pytest.mark.parametrize(("name", "line"), [("timm:resnet18", "pip install timm"),
                                            ("open_clip:RN50", "pip install open_clip_torch")])  # fmt: skip
def test_without_the_library_the_error_says_what_to_install(name, line, monkeypatch):
    monkeypatch.setitem(sys.modules, name.partition(":")[0], None)
    with pytest.raises(ModelNotFoundError, match=f"not installed here. Install it: {line}$"):
        vk.Encoder(name, weights=None)
