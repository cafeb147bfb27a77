"""Methods that hide parts: by hand, on networks that look at one place, and at the cost they state."""

import numpy as np
import pytest
from drawn import photo, tiny_network, to_tensor_32

import vizkit as vk
from vizkit.errors import InputError
from vizkit.saliency.methods import (
    METHODS,
    IntegratedGradients,
    MultiscaleOcclusion,
    Occlusion,
    attribute,
    method_of,
)
from vizkit.saliency.targets import vector_target


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

    step = -(-32 // grid)
    steps = -(-(32 - window * step) // step) + 1
    windows = list(np.ndindex(steps, steps))
    painted = x.repeat(len(windows), 1, 1, 1)
    for image, (i, j) in zip(painted, windows, strict=True):
        image[:, step * i : step * (i + window), step * j : step * (j + window)] = x[0].mean((1, 2))[:, None, None]
    drops = cosine(x)[0] - cosine(painted)
    cells = -(-32 // step)
    expected = np.zeros((cells, cells))
    for row, column in np.ndindex(cells, cells):
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
    for windows in (2, (2,), (2, 2), [2, 4]):
        with pytest.raises(InputError, match="windows must be a tuple of two or more sizes"):
            MultiscaleOcclusion(windows=windows)


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
