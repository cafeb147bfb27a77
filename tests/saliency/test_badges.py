"""Badges: found again by network, method and center, gone when the weights change, and whole or absent on disk."""

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from drawn import tiny_network, to_tensor_32

import vizkit as vk
from vizkit.saliency import badges
from vizkit.saliency.badges import Records, Trust, badge_of, best_of, center_key, fingerprint_of, method_key, remember
from vizkit.saliency.methods import METHODS, Occlusion, method_of


@pytest.fixture
def encoder():
    return vk.Encoder(tiny_network(), preprocess=to_tensor_32)


@pytest.fixture(autouse=True)
def nothing_remembered():
    badges.forget()
    yield
    badges.forget()


def badge(encoder, method, verdict="green", lowest=0.4, center=None, name="tiny"):
    frame = pd.DataFrame({"measure": ["energy", "deletion"], "against": ["area share", "random order"]})
    frame = frame.assign(value_low=[lowest, 9.0], gain=[0.2, 0.1], low=[0.1, 0.0], high=[0.3, 0.2])
    where = {"encoder": name, "fingerprint": fingerprint_of(encoder), "center": center_key(center)}
    return Trust(verdict, "measured by a test", method, frame, where)


def test_a_badge_is_found_again_by_network_method_and_center(encoder):
    mean = np.ones(16)
    assert badge_of(encoder, "occlusion") is None
    raw, centered = badge(encoder, "occlusion"), badge(encoder, "occlusion", center=mean)
    remember(raw)
    remember(centered)
    assert badge_of(encoder, "occlusion") is raw
    assert badge_of(encoder, Occlusion()) is raw  # the same, written out
    assert badge_of(encoder, "occlusion", mean) is centered
    assert badge_of(encoder, "occlusion", 2 * mean) is None
    assert badge_of(encoder, Occlusion(window=4)) is None
    assert badge_of(encoder, "gradcam") is None
    assert badge_of(vk.Encoder(tiny_network(1), preprocess=to_tensor_32), "occlusion") is None
    again = badge(encoder, "occlusion", "red")
    remember(again)
    assert badge_of(encoder, "occlusion") is again


def test_two_functions_of_one_name_are_two_methods(encoder):
    first, second = (lambda f, x: np.ones((2, 2))), (lambda f, x: np.zeros((2, 2)))
    remember(badge(encoder, first))
    assert badge_of(encoder, first) is not None
    assert badge_of(encoder, second) is None
    assert method_key("multiscale_occlusion") != method_key("occlusion")


def named(name):
    """Return a function of that name: noise, in truth."""

    def function(f, x):
        return np.random.default_rng(0).random((4, 4))

    function.__name__ = name
    return function


@pytest.mark.parametrize("name", ["gradcam", "contribution", "occlusion", "integrated_gradients"])
def test_a_function_named_like_a_method_is_not_taken_for_it(encoder, name):
    function = named(name)
    remember(badge(encoder, function))
    assert badge_of(encoder, function) is not None
    assert badge_of(encoder, name) is None
    assert best_of(encoder) is None
    assert best_of(encoder, (name,)) is None
    assert method_of(function).words == name
    assert method_of(name).words == METHODS[name].title
    assert method_of(Occlusion(window=3)).words == "Occlusion, window 3"


@dataclass
class Unhashable:
    """A method with settings, as one writes it at first: equal where they are equal, and so without a hash."""

    scale: float = 1.0

    def __call__(self, f, x):
        return np.full((2, 2), self.scale)

    def bound(self, f, x):
        return self(f, x)


def test_callables_are_told_apart_by_identity_and_need_no_hash(encoder):
    first, twin = Unhashable(), Unhashable()
    assert first == twin
    remember(badge(encoder, first))
    assert badge_of(encoder, first) is not None
    assert badge_of(encoder, twin) is None
    remember(badge(encoder, first.bound))
    assert badge_of(encoder, first.bound) is not None  # another object each time it is asked for
    assert badge_of(encoder, twin.bound) is None


def test_a_network_made_in_inference_mode_has_a_fingerprint_that_is_kept():
    with torch.inference_mode():
        module = tiny_network()
    encoder = vk.Encoder(module, preprocess=to_tensor_32)
    before = fingerprint_of(encoder)
    assert before == encoder.fingerprint
    with torch.inference_mode():
        next(module.parameters()).add_(1)
    assert fingerprint_of(encoder) == encoder.fingerprint != before


def test_the_best_is_the_green_one_with_the_highest_energy_for_sure(encoder):
    assert best_of(encoder) is None
    given = [("occlusion", "green", 0.3), ("gradcam", "green", 0.5), ("saliency", "amber", 0.9)]
    for method, verdict, lowest in [*given, (lambda f, x: x, "green", 0.8)]:
        remember(badge(encoder, method, verdict, lowest))
    gradcam, occlusion = badge_of(encoder, "gradcam"), badge_of(encoder, "occlusion")
    assert best_of(encoder, ("occlusion", "gradcam", "saliency")) is gradcam is not None
    assert best_of(encoder) is gradcam  # a callable does not choose itself
    assert best_of(encoder, ("occlusion", "saliency")) is occlusion is not None
    assert best_of(encoder, ("saliency",)) is None
    assert best_of(encoder, center=np.ones(16)) is None


@pytest.mark.parametrize("change", ["in place", "by data", "replaced", "loaded", "buffer"])
def test_a_badge_is_gone_when_the_weights_change(encoder, change):
    before = fingerprint_of(encoder)
    assert before == encoder.fingerprint == fingerprint_of(encoder)
    remember(badge(encoder, "occlusion"))
    module = encoder.module
    with torch.no_grad():
        if change == "in place":
            module[0].weight.add_(0.01)
        elif change == "by data":
            module[0].weight.data.copy_(torch.randn(8, 3, 3, 3))
        elif change == "replaced":
            module[0].weight = torch.nn.Parameter(module[0].weight + 1)
        elif change == "loaded":
            module.load_state_dict(tiny_network(3).state_dict())
        else:
            module.register_buffer("extra", torch.ones(1))
    assert fingerprint_of(encoder) == encoder.fingerprint != before
    assert badge_of(encoder, "occlusion") is None


def test_layers_of_one_network_have_badges_of_their_own(encoder):
    remember(badge(encoder, "occlusion"))
    assert badge_of(encoder.at("2"), "occlusion") is None
    assert badge_of(encoder, "occlusion") is not None


def test_the_page_shows_names_as_text(encoder):
    page = badge(encoder, "occlusion", "red", name="<script>alert(1)</script>")._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert ">red<" in page
    assert "measured by a test" in page


def test_a_gain_can_be_asked_for(encoder):
    assert badge(encoder, "occlusion").gain("deletion", "random order") == (0.1, 0.0, 0.2)


class TestRecords:
    figures = {"energy": 0.5, "iou": 0.25}  # noqa: RUF012
    facts = {"encoder": "tiny", "seed": 0}  # noqa: RUF012

    @pytest.fixture(autouse=True)
    def own_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        self.folder = tmp_path / "vizkit" / "trust"

    def written(self):
        records = Records(self.facts)
        records.put("pair", self.figures)
        records.save()
        return next(self.folder.iterdir())

    def test_what_was_saved_is_found_for_the_same_facts_only(self):
        self.written()
        assert Records(self.facts).get("pair", self.figures.keys()) == self.figures
        assert Records(self.facts).get("other", self.figures.keys()) is None
        assert Records({**self.facts, "seed": 1}).get("pair", self.figures.keys()) is None
        assert len(list(self.folder.iterdir())) == 1

    @pytest.mark.parametrize(
        "damage",
        [
            "",
            "[1",
            "[" * 100_000,
            "[]",
            '{"facts": {"encoder": "other"}}',
            "figures: nan",
            "figures: text",
            "figures: one missing",
            "figures: a list",
        ],
    )
    def test_a_damaged_file_counts_as_nothing_measured(self, damage):
        file = self.written()
        if damage.startswith("figures"):
            worse = {
                "figures: nan": {"energy": float("nan"), "iou": 0.2},
                "figures: text": {"energy": "0.5", "iou": 0.2},
                "figures: one missing": {"energy": 0.5},
                "figures: a list": [0.5, 0.2],
            }[damage]
            damage = json.dumps({"facts": self.facts, "pairs": {"pair": worse}})
        file.write_text(damage)
        assert Records(self.facts).get("pair", self.figures.keys()) is None
        assert self.written() == file
        assert Records(self.facts).get("pair", self.figures.keys()) == self.figures

    def test_what_two_processes_write_is_kept(self):
        first, second = Records(self.facts), Records(self.facts)
        for records, pair in ((first, "x"), (second, "y")):
            records.put(pair, self.figures)
            records.save()
        found = Records(self.facts)
        assert [found.get(pair, self.figures.keys()) for pair in "xy"] == [self.figures, self.figures]

    def test_a_write_that_fails_leaves_nothing_behind(self):
        file = self.written()
        file.unlink()
        file.mkdir()  # no file can take the place of a folder
        assert self.written() == file
        assert list(self.folder.iterdir()) == [file]
        assert list(file.iterdir()) == []

    def test_a_folder_that_cannot_be_written_costs_nothing_else(self):
        self.folder.parent.mkdir()
        self.folder.write_text("a file where the folder should be")
        records = Records(self.facts)
        records.put("pair", self.figures)
        records.save()
        assert records.get("pair", self.figures.keys()) == self.figures

    def test_without_facts_nothing_is_written(self):
        records = Records(None)
        records.put("pair", self.figures)
        records.save()
        assert records.get("pair", self.figures.keys()) == self.figures
        assert not self.folder.exists()
