"""The trust badge: its rule on figures made by hand, its intervals against SciPy, and the cases that must be red."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from drawn import photo, tiny_network, to_tensor_32
from safetensors.torch import save_file
from scipy.stats import ttest_1samp
from torchvision.transforms._presets import ImageClassification

import vizkit as vk
from vizkit.errors import InputError, MethodNotApplicableError
from vizkit.saliency import badges, judging
from vizkit.saliency import trust as trust_module
from vizkit.saliency.judging import FIGURES, interval, summary, verdict
from vizkit.saliency.localization import center_prior
from vizkit.saliency.methods import IntegratedGradients
from vizkit.saliency.trust import trust
from vizkit.store import default_cache


@pytest.fixture(scope="module", autouse=True)
def nothing_remembered():
    badges.forget()
    yield
    badges.forget()
    trust_module._LAST.clear()


@pytest.fixture(scope="module")
def scenes():
    return vk.scenes("held-out")


@pytest.fixture(scope="module")
def encoder():
    return vk.Encoder("scenes")


def quick(encoder, images, method, **options):
    return trust(encoder, images, method, quick=True, progress=False, **options)


GOOD = {
    ("energy", "area share"): {"value": 0.5, "value_low": 0.45, "baseline": 0.19, "gain": 0.31, "low": 0.26},
    ("energy", "center prior"): {"value": 0.5, "baseline": 0.3, "gain": 0.2, "low": 0.15},
    ("energy", "random weights"): {"value": 0.5, "baseline": 0.25, "gain": 0.25, "low": 0.2},
    ("IoU", "random weights"): {"value": 0.5, "baseline": 0.25, "gain": 0.25, "low": 0.2},
    ("deletion", "random order"): {"value": 0.5, "baseline": 0.6, "gain": 0.1, "low": 0.05},
    ("insertion", "random order"): {"value": 0.7, "baseline": 0.6, "gain": 0.1, "low": 0.05},
    ("rank correlation", "the same map"): {"value": 0.2, "value_high": 0.3, "baseline": 1.0, "gain": 0.8, "low": 0.7},
}


def frame_with(**changes):
    """Return a frame that is green, but for `measure_against_column=value`, with the words' first letters."""
    rows = []
    for (measure, against), figures in GOOD.items():
        row = {"value_low": 0.0, "value_high": 1.0, "high": 1.0, "pairs": 50, **figures}
        rows.append({"measure": measure, "against": against, **row})
    frame = pd.DataFrame(rows)
    for name, value in changes.items():
        measure, against, column = name.split("__")
        row = (frame["measure"] == measure.replace("_", " ")) & (frame["against"] == against.replace("_", " "))
        assert row.any()
        frame.loc[row, column] = value
    return frame


@pytest.mark.parametrize(
    ("changes", "color", "words"),
    [
        ({}, "green", r"2\.6 times the area share and 0\.25 above random weights"),
        ({"energy__area_share__low": 0.0}, "red", "not above the area share 0.19"),
        ({"energy__random_weights__low": 0.0}, "red", "hardly above random weights, 0.25"),
        ({"energy__random_weights__gain": 0.049}, "red", "hardly above random weights, 0.25"),
        ({"deletion__random_order__low": 0.0, "insertion__random_order__low": -0.1}, "red", "no better than random"),
        ({"energy__area_share__value_low": 0.28}, "amber", "under 1.5 times the area share"),
        ({"energy__center_prior__low": 0.0}, "amber", "not above a map of the middle, 0.30"),
        ({"energy__random_weights__low": 0.049}, "amber", r"not clearly 0\.1 above random weights"),
        ({"energy__random_weights__gain": 0.099}, "amber", r"not clearly 0\.1 above random weights"),
        ({"IoU__random_weights__low": 0.0}, "amber", "the IoU is not above random weights"),
        ({"deletion__random_order__low": 0.0}, "amber", "deletion is not better than random order"),
        ({"insertion__random_order__low": 0.0}, "amber", "insertion is not better than random order"),
        ({"rank_correlation__the_same_map__value_high": 0.51}, "amber", "rank correlation 0.20"),
    ],
)
def test_the_rule_follows_its_thresholds(changes, color, words):
    found, reason = verdict(frame_with(**changes))
    assert found == color
    assert pd.Series([reason]).str.contains(words).all(), reason


@pytest.mark.parametrize(
    ("name", "color"),
    [
        ("energy__area_share__low", "red"),
        ("energy__random_weights__low", "red"),
        ("energy__random_weights__gain", "red"),
        ("energy__area_share__value_low", "amber"),
        ("energy__center_prior__low", "amber"),
        ("IoU__random_weights__low", "amber"),
        ("deletion__random_order__low", "amber"),
        ("insertion__random_order__low", "amber"),
        ("rank_correlation__the_same_map__value_high", "amber"),
    ],
)
def test_what_is_not_a_number_passes_no_test(name, color):
    assert verdict(frame_with(**{name: float("nan")}))[0] == color


def test_the_rule_stands_in_the_docstring():
    text = " ".join(str(trust.__doc__).split())
    for words in ("at least 1.5 times the area share", "at least 0.1 above random", "under 0.05", "at 0.5"):
        assert words in text
    rule = (judging.LIFT, judging.ABOVE_RANDOM, judging.HARDLY, judging.FOLLOWS)
    assert rule == (1.5, 0.1, 0.05, 0.5)


def test_intervals_are_those_of_a_t_test():
    values = np.random.default_rng(0).normal(0.3, 0.2, 12)
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert interval(values) == pytest.approx((values.mean(), expected.low, expected.high))


def test_gains_are_paired_and_above_zero_where_it_is_good():
    rng = np.random.default_rng(0)
    own = rng.random(12)
    record = [dict.fromkeys(FIGURES, 0.5) for _ in own]
    for each, value in zip(record, own, strict=True):
        each |= {"energy": value + 0.1, "random_energy": value, "deletion": 0.2, "correlation": 0.25}
    frame = summary(record).set_index(["measure", "against"])
    paired = frame.loc["energy", "random weights"]
    assert paired[["gain", "low", "high"]].to_numpy() == pytest.approx([0.1, 0.1, 0.1])  # though values are far apart
    assert paired["value_low"] < own.mean() < paired["value_high"]
    assert frame.loc["deletion", "random order"]["gain"] == pytest.approx(0.3)
    assert frame.loc["rank correlation", "the same map"]["gain"] == pytest.approx(0.75)


class TestRed:
    def test_noise(self, encoder, scenes):
        rng = np.random.default_rng(0)
        found = quick(encoder, scenes, lambda f, x: rng.random((8, 8)))
        assert found.verdict == "red"
        assert "random weights" in found.reason or "area share" in found.reason
        assert found.gain("energy", "area share")[0] == pytest.approx(0, abs=0.03)

    def test_a_blob_in_the_middle(self, encoder, scenes):
        found = quick(encoder, scenes, lambda f, x: center_prior((16, 16)))
        assert found.verdict == "red"
        assert found.gain("energy", "area share")[1] > 0  # the area share alone would have been taken in
        assert found.gain("energy", "random weights") == (0, 0, 0)
        assert "hardly above random weights" in found.reason

    def test_random_weights_from_a_file(self, scenes, tmp_path):
        file = tmp_path / "random.safetensors"
        save_file(vk.Encoder("scenes", weights=None, seed=5).module.state_dict(), file)
        found = quick(vk.Encoder("scenes", weights=file), scenes, "contribution")
        assert found.verdict == "red"
        assert "random weights" in found.reason or "area share" in found.reason


class Stopper:
    """Counts a network's forward passes, and stops after some."""

    def __init__(self, module):
        self.passes, self.most = 0, None
        self.handle = module.register_forward_hook(self)

    def __call__(self, *_):
        self.passes += 1
        if self.most is not None and self.passes > self.most:
            raise KeyboardInterrupt


def test_one_method_is_green_on_the_embedded_default_and_what_was_measured_is_kept(scenes):
    encoder = vk.Encoder("scenes")
    stopper = Stopper(encoder.module)
    stopper.most = 20
    with pytest.raises(KeyboardInterrupt):
        quick(encoder, scenes, "contribution", seed=0)
    assert badges.badge_of(encoder, "contribution") is None

    trust_module._LAST.clear()  # a new process has the disk alone
    stopper.most, stopper.passes = None, 0
    found = quick(encoder, scenes, "contribution", seed=0)
    rest = stopper.passes
    assert found.verdict == "green", found.reason
    assert badges.badge_of(encoder, "contribution") is found
    assert found.provenance["pairs"] == 12
    assert found.provenance["area"] == pytest.approx(0.19, abs=0.005)

    trust_module._LAST.clear()
    stopper.passes = 0
    again = quick(encoder, scenes, "contribution", seed=0)
    assert stopper.passes == 0
    pd.testing.assert_frame_equal(again.frame, found.frame)
    assert badges.badge_of(encoder, "contribution") is again

    # Every pair costs the same passes, and the first was done.
    stopper.passes = 0
    trust_module._LAST[0][1].measure(0, "contribution")
    one = stopper.passes
    assert rest <= 11 * one
    stopper.handle.remove()


def test_without_a_method_the_best_of_the_defaults_comes_back(encoder, scenes, monkeypatch):
    monkeypatch.setattr(trust_module, "CHOICES", ("contribution", "gradcam", "deeplift of another kind"))
    with pytest.raises(InputError, match="No method 'deeplift of another kind'"):
        quick(encoder, scenes, None)
    monkeypatch.setattr(trust_module, "CHOICES", ("gradcam", "contribution"))
    best = quick(encoder, scenes, None)
    assert badges.best_of(encoder) is best
    assert all(badges.badge_of(encoder, name) is not None for name in ("contribution", "gradcam"))


def test_a_method_that_would_be_wrong_is_refused_and_left_out_of_the_defaults(scenes, monkeypatch):
    peaks = vk.Encoder("scenes", layer="layer4", pool="max")
    with pytest.raises(MethodNotApplicableError, match="contribution"):
        quick(peaks, scenes, "contribution")
    monkeypatch.setattr(trust_module, "CHOICES", ("contribution", "gradcam"))
    assert quick(peaks, scenes, None).method == "gradcam"


def test_the_centered_cosine_has_a_badge_of_its_own(encoder, scenes):
    mean = mean_of(encoder, scenes)
    found = quick(encoder, scenes, "contribution", center=mean)
    raw = quick(encoder, scenes, "contribution")
    assert found.verdict == "green"
    assert badges.badge_of(encoder, "contribution", mean.astype(float)) is found
    assert found.gain("energy", "random weights")[0] > raw.gain("energy", "random weights")[0]


@pytest.fixture(scope="module")
def few():
    return vk.ImageSet.from_frame(pd.DataFrame({"path": [photo(i) for i in range(3)]}))


def tiny(seed=0):
    return vk.Encoder(tiny_network(seed), preprocess=to_tensor_32)


def test_a_pair_is_on_disk_before_the_next_one_is_measured(few, monkeypatch):
    """A process that is killed runs nothing more: what counts is what lies there while it still runs."""
    kept, measure = [], trust_module._Case.measure

    def watched(case, k, method):
        files = (default_cache().parent / "trust").glob("*.json")
        stored = [json.loads(file.read_text())["pairs"] for file in files]
        kept.append(sum(key in pairs for pairs in stored for key in case.keys))
        return measure(case, k, method)

    monkeypatch.setattr(trust_module._Case, "measure", watched)
    quick(tiny(), few, "gradcam", seed=77)
    assert kept == list(range(12))


def test_an_encoder_trained_since_does_not_answer_for_another_of_the_same_weights(few):
    first, second = tiny(1), tiny(1)
    before = quick(first, few, "gradcam")
    with torch.no_grad():
        first.module[0].weight.normal_()
    found = quick(second, few, "gradcam")
    pd.testing.assert_frame_equal(found.frame, before.frame)
    assert found.provenance["fingerprint"] == second.fingerprint
    assert badges.badge_of(second, "gradcam") is found
    assert badges.badge_of(first, "gradcam") is None


def test_few_images_are_named_and_many_are_not(few, encoder, scenes):
    found = quick(tiny(), few, "gradcam")
    assert found.provenance["distinct"] == 3
    assert found.reason.endswith(" (12 pairs from 3 images: the intervals hold for these alone)")
    many = quick(encoder, scenes, "contribution")
    assert 30 <= many.provenance["distinct"] <= 36
    assert "alone" not in many.reason


class Edges(torch.nn.Module):
    """Sees edges only: the vector of a plain image is zero."""

    def __init__(self):
        super().__init__()
        weight = torch.randn(8, 3, 3, 3, generator=torch.Generator().manual_seed(0))
        self.conv = torch.nn.Conv2d(3, 8, 3, bias=False)
        self.conv.weight.data = weight - weight.mean((2, 3), keepdim=True)

    def forward(self, x):
        return (self.conv(x) - 0.01).relu().mean((2, 3))


def test_a_figure_that_is_not_finite_gives_no_badge(few):
    blind = vk.Encoder(Edges(), preprocess=to_tensor_32)
    with pytest.raises(MethodNotApplicableError, match=r"cannot be judged on Edges: deletion.* is not finite"):
        quick(blind, few, "gradcam")
    assert badges.badge_of(blind, "gradcam") is None


@pytest.mark.parametrize("seed", [-1, "x", 1.0, None])
def test_what_is_no_seed_is_refused(few, seed):
    with pytest.raises(InputError, match="expected a whole number, 0 or more"):
        quick(tiny(), few, "gradcam", seed=seed)


@pytest.mark.parametrize("images", ["folder", [photo(0)], None])
def test_what_is_no_set_of_images_is_refused(images):
    with pytest.raises(InputError, match=f"must be a vizkit ImageSet, not {type(images).__name__}: make one"):
        quick(tiny(), images, "gradcam")


def test_what_is_no_encoder_or_no_method_is_refused(encoder, scenes):
    with pytest.raises(InputError, match="must be a vizkit Encoder"):
        quick("scenes", scenes, "contribution")
    with pytest.raises(InputError, match="No method 'gradcan'"):
        quick(encoder, scenes, "gradcan")
    with pytest.raises(InputError, match="at least 3 images"):
        quick(encoder, scenes.subset([0, 1]), "contribution")


@pytest.fixture(scope="module")
def photos(shared):
    return vk.ImageSet.from_folder(shared / "images/imagenet_sample")


def small(name, file):
    """Return a network of real weights on inputs of 96 pixels, not 224: a fifth of the cost."""
    encoder = vk.Encoder(name, weights=file)
    return encoder.with_preprocess(ImageClassification(crop_size=96, resize_size=110))


def test_on_squeezenet_integrated_gradients_are_red_and_occlusion_is_green(shared, photos):
    encoder = small("squeezenet1_0", shared / "torch/converted/squeezenet1_0_deepcomp-914c6c20.pth")
    found = quick(encoder, photos, IntegratedGradients(steps=8))
    assert found.verdict == "red"
    assert found.gain("energy", "area share")[1] > 0  # beside the area alone it would have looked well
    assert "hardly above random weights" in found.reason
    assert quick(encoder, photos, "occlusion").verdict == "green"


def mean_of(encoder, images):
    rows = np.linspace(0, len(images) - 1, 64).astype(int)
    return encoder.encode(torch.stack([encoder.preprocess(images[int(row)]) for row in rows])).mean(0)
