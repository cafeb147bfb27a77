"""Which methods find planted evidence better than which, on the embedded default; amounts are for the benchmarks."""

import numpy as np
import pytest
import torch

import vizkit as vk
from vizkit.saliency.localization import energy
from vizkit.saliency.methods import attribute
from vizkit.saliency.planted import planted_pairs
from vizkit.saliency.targets import vector_target


@pytest.fixture(scope="module")
def images():
    return vk.scenes("held-out").subset(range(100))


@pytest.fixture(scope="module")
def pairs(images):
    return planted_pairs(vk.Encoder("scenes"), images, 12)


def planted_energy(encoder, pairs, method, mean=None):
    """Return the mean energy of a method's maps in what was planted, over both images of all pairs."""
    found = []
    for pair in pairs:
        a, b = encoder.encode(torch.stack([pair.x_a, pair.x_b])).astype(np.float64)
        for x, mask, other in ((pair.x_a, pair.mask_a, b), (pair.x_b, pair.mask_b, a)):
            found.append(energy(attribute(encoder, vector_target(encoder, other, mean), x[None], method).values, mask))
    return np.mean(found)


def test_planted_evidence_is_found_by_what_hides_it_then_by_the_exact_split_then_by_maps_that_look_at_nothing(
    images, pairs
):
    encoder = vk.Encoder("scenes")
    noise = np.random.default_rng(0)
    found = {
        "occlusion": planted_energy(encoder, pairs, "occlusion"),
        "contribution": planted_energy(encoder, pairs, "contribution"),
        "random weights": planted_energy(encoder.randomized(images), pairs, "contribution"),
        "noise": planted_energy(encoder, pairs, lambda f, x: noise.random((8, 8))),
    }
    assert sorted(found, key=found.get, reverse=True) == ["occlusion", "contribution", "random weights", "noise"]


def test_the_split_of_the_centered_cosine_finds_planted_evidence_better_than_the_plain_one(images, pairs):
    encoder = vk.Encoder("scenes")
    mean = vk.embed(images, encoder, cache=None, progress=False).vectors.mean(axis=0)
    centered, plain = (planted_energy(encoder, pairs, "contribution", m) for m in (mean, None))
    assert centered > plain
