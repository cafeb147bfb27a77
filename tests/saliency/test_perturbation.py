"""Methods that hide parts: by hand, on networks that look at one place, and at the cost they state."""

import json

import numpy as np
import pytest
import torch
from drawn import photo, tiny_network, to_tensor_32

import vizkit as vk
from vizkit.errors import InputError, MethodNotApplicableError
from vizkit.saliency.methods import (
    METHODS,
    IntegratedGradients,
    MultiscaleOcclusion,
    Occlusion,
    attribute,
    method_of,
)
from vizkit.saliency.targets import class_target, vector_target


def image_of(seed):
    return to_tensor_32(photo(seed))[None]


@pytest.fixture
def tiny():
    return vk.Encoder(tiny_network(), preprocess=to_tensor_32)


def watched(target, batches):
    """Return the target, keeping what it is asked about."""
    from dataclasses import replace

    def features(batch):
        batches.append(batch.clone())
        return target.features(batch)

    return replace(target, features=features)


@pytest.mark.parametrize(("window", "grid"), [(2, 8), (1, 8), (3, 4), (4, 4), (2, 5)])
def test_occlusion_is_the_drop_averaged_over_the_windows_on_a_cell(tiny, window, grid):
    x, z = image_of(5), tiny.encode(image_of(9))[0].astype(float)

    def cosine(batch):
        v = tiny.encode(batch).astype(float)
        return v @ z / (np.linalg.norm(v, axis=1) * np.linalg.norm(z))

    borders = [round(32 * k / grid) for k in range(grid + 1)]
    windows = list(np.ndindex(grid - window + 1, grid - window + 1))
    painted = x.repeat(len(windows), 1, 1, 1)
    for image, (i, j) in zip(painted, windows, strict=True):
        here = (slice(borders[i], borders[i + window]), slice(borders[j], borders[j + window]))
        image[:, here[0], here[1]] = x[0].mean((1, 2))[:, None, None]
    drops = cosine(x)[0] - cosine(painted)
    expected = np.zeros((grid, grid))
    for row, column in np.ndindex(grid, grid):
        covering = [
            d for d, (i, j) in zip(drops, windows, strict=True) if 0 <= row - i < window and 0 <= column - j < window
        ]
        expected[row, column] = np.mean(covering)
    batches = []
    form = Occlusion(window=window, grid=grid)
    found = attribute(tiny, watched(vector_target(tiny, z, None), batches), x, form)
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    assert np.abs(expected).max() > 1e-4
    assert sum(map(len, batches)) == form.images(32, 32) == len(windows) + 1


@pytest.mark.parametrize("side", [50, 64, 65])
def test_cells_are_even_whatever_the_side(side):
    """The score is the sum of the last eighth of rows and columns, and of nothing else."""
    first = round(side * 7 / 8)
    weight = torch.zeros(2, 3, side, side)
    weight[0, :, first:, first:] = 1
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * side * side, 2, bias=False))
    module[1].weight.data = weight.flatten(1)
    encoder = vk.Encoder(module, layer="1", preprocess=lambda image: torch.zeros(3, side, side))
    x = torch.linspace(0, 1, side).expand(1, 3, side, side).clone()
    found = attribute(encoder, class_target(encoder, x, 0), x, Occlusion(window=1)).values
    inside = float((weight[0] * (x[0] - x.mean())).sum())
    assert found[7, 7] == pytest.approx(inside, rel=1e-4)
    found[7, 7] = 0
    assert np.abs(found).max() < 1e-3 * inside


@pytest.mark.parametrize("method", [IntegratedGradients(steps=20), MultiscaleOcclusion()])
def test_a_method_runs_as_many_images_as_it_says(tiny, method):
    batches = []
    target = watched(vector_target(tiny, np.ones(16), None), batches)
    attribute(tiny, target, image_of(0), method)
    assert sum(map(len, batches)) == method.images(32, 32)
    assert max(map(len, batches)) <= 16


def test_occlusion_at_two_scales_keeps_what_both_agree_on(tiny):
    target, x = vector_target(tiny, np.arange(16.0), None), image_of(2)
    found = attribute(tiny, target, x, MultiscaleOcclusion(windows=(1, 3), grid=8)).values
    small, large = (attribute(tiny, target, x, Occlusion(window, 8)).values for window in (1, 3))
    kinds = set()
    for value, a, b in zip(found.flat, small.flat, large.flat, strict=True):
        kinds.add((a > 0, b > 0))
        assert value == (0 if (a > 0) != (b > 0) else min((a, b), key=abs))
    assert len(kinds) >= 3
    for windows in (2, (2,), (2, 2), (2, 2, 4), [2, 4]):
        with pytest.raises(InputError, match="windows must be a tuple of two or more sizes"):
            MultiscaleOcclusion(windows=windows)


def test_a_drop_that_is_not_finite_at_one_size_is_not_hidden_by_the_others():
    """Once all that the network sees is hidden, its vector is zero, and the cosine is not a number."""

    class Bright(torch.nn.Module):
        def forward(self, x):
            return (x - 0.7).clamp(min=0).mean((2, 3))

    encoder = vk.Encoder(Bright(), layer="output", preprocess=to_tensor_32)
    x = torch.full((1, 3, 32, 32), 0.2)
    x[:, :, 12:16, 12:16] = 1
    target = vector_target(encoder, np.ones(3), None)
    for method in ("occlusion", "multiscale_occlusion"):
        with pytest.raises(MethodNotApplicableError, match=f"{method} gives values that are not finite"):
            attribute(encoder, target, x, method)


def test_parameters_are_one_method_however_they_are_written():
    assert MultiscaleOcclusion(windows=(4, 2)) == MultiscaleOcclusion(windows=(2, 4))
    forms = [
        Occlusion(np.int64(3), np.int64(4)),
        MultiscaleOcclusion((np.int64(1), 3)),
        IntegratedGradients(np.int64(5)),
    ]
    assert forms == [Occlusion(3, 4), MultiscaleOcclusion((1, 3)), IntegratedGradients(5)]
    assert json.dumps([method_of(form).settings for form in forms])  # as provenance and the cache keep them
    with pytest.raises(InputError, match=r"window must be a whole number from 1 to 8, not \[4\]"):
        MultiscaleOcclusion(windows=(2, [4]))
    for steps in (1, 2.0, True):
        with pytest.raises(InputError, match=f"steps must be a whole number of 2 or more, not {steps}"):
            IntegratedGradients(steps=steps)


def test_parameters_are_checked_and_told():
    with pytest.raises(InputError, match="window must be a whole number from 1 to 8, not 9"):
        Occlusion(window=9)
    with pytest.raises(InputError, match=r"grid must be a whole number from 2 to 64, not 8\.0"):
        Occlusion(grid=8.0)
    with pytest.raises(InputError, match="window must be a whole number from 1 to 8, not True"):
        MultiscaleOcclusion(windows=(2, True))
    with pytest.raises(
        InputError, match=r"No method 'oclusion': choose one of 'contribution', .* Closest: 'occlusion'"
    ):
        method_of("oclusion")
    with pytest.raises(InputError, match=r"No method .*Occlusion"):
        method_of(Occlusion)
    assert method_of("occlusion") == method_of(Occlusion()) == METHODS["occlusion"]
    assert method_of(Occlusion(window=4)).words == "Occlusion, window 4"
    assert method_of(Occlusion(window=4)).settings == {"window": 4, "grid": 8}
    assert {name for name, m in METHODS.items() if m.adds_up} == {"contribution", "integrated_gradients", "deeplift"}
    assert {name for name, m in METHODS.items() if not m.for_classes} == {"contribution", "sensitivity"}
    assert METHODS["gradcam"].unit("points of cosine") == "points of cosine, to first order"
