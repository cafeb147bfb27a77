"""One map is laid onto another by turning and moving alone."""

import numpy as np
import pytest
from scipy.spatial import procrustes
from scipy.spatial.distance import pdist

from vizkit.alignment import drift, turned
from vizkit.errors import InputError


@pytest.fixture
def xy():
    return np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32) * [3, 1] + [5, -2]


def rotation(angle):
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


@pytest.mark.parametrize("mirror", [1, -1])
@pytest.mark.parametrize("angle", [0.0, 1.0, 2.5, np.pi])
def test_a_turned_mirrored_and_moved_map_comes_back(xy, angle, mirror):
    away = (xy * [mirror, 1]) @ rotation(angle) + [40, -70]
    back = turned(away, xy)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, xy, atol=1e-4)


def test_nothing_is_scaled(xy):
    larger = 3 * xy @ rotation(1.0)
    back = turned(larger, xy)
    np.testing.assert_allclose(pdist(back), 3 * pdist(xy), rtol=1e-4)
    np.testing.assert_allclose(back.mean(axis=0), xy.mean(axis=0), atol=1e-4)


def test_no_other_turn_is_nearer(xy):
    other = xy + np.random.default_rng(1).normal(size=xy.shape)
    found = np.square(turned(other, xy) - xy).sum()
    center, moved = xy.mean(axis=0), other - other.mean(axis=0)
    tried = [
        np.square((moved * [mirror, 1]) @ rotation(angle) + center - xy).sum()
        for mirror in (1, -1)
        for angle in np.linspace(0, 2 * np.pi, 721)
    ]
    assert found <= min(tried) * (1 + 1e-6)
    assert found >= min(tried) * (1 - 1e-3)


def test_turning_leaves_its_input_alone(xy):
    before, onto = xy.copy(), xy[::-1].copy()
    turned(xy, onto)
    np.testing.assert_array_equal(xy, before)
    np.testing.assert_array_equal(onto, before[::-1])


def test_drift_is_scipys_disparity_either_way_around(xy):
    other = xy + np.random.default_rng(1).normal(size=xy.shape)
    assert drift(xy, other) == pytest.approx(procrustes(xy, other)[2], abs=1e-12)
    assert drift(other, xy) == pytest.approx(drift(xy, other), abs=1e-12)
    assert 0.05 < drift(xy, other) < 0.9


def test_drift_is_zero_for_the_same_shape_and_near_one_for_none(xy):
    assert drift(xy, 7 * (xy * [1, -1]) @ rotation(2.0) + 9) == pytest.approx(0, abs=1e-9)
    rng = np.random.default_rng(0)
    assert drift(rng.normal(size=(5000, 2)), rng.normal(size=(5000, 2))) > 0.99


@pytest.mark.parametrize("n", [1, 2, 9])
def test_a_map_in_one_place_explains_nothing(n):
    flat, other = np.full((n, 2), 3.0), np.arange(2.0 * n).reshape(n, 2)
    assert drift(flat, flat) == 0
    assert drift(flat, other) == drift(other, flat) == (1 if n > 1 else 0)
    np.testing.assert_allclose(turned(flat, other), np.tile(other.mean(axis=0), (n, 1)))


def test_very_large_maps_and_none_at_all_are_turned_too(xy):
    huge = (xy * 1e30).astype(np.float32)
    np.testing.assert_allclose(turned(huge[:, ::-1], huge), huge, rtol=1e-4, atol=1e26)
    assert drift(huge[:, ::-1], huge) == pytest.approx(0, abs=1e-9)
    assert turned(np.zeros((0, 2)), np.zeros((0, 2))).shape == (0, 2)
    assert drift(np.zeros((0, 2)), np.zeros((0, 2))) == 0


@pytest.mark.parametrize("compare", [turned, drift])
def test_maps_that_do_not_fit_are_refused(compare, xy):
    with pytest.raises(InputError, match=r"shapes \(60, 2\) and \(59, 2\); expected \(n, 2\) twice"):
        compare(xy, xy[1:])
    with pytest.raises(InputError, match=r"shapes \(60, 3\)"):
        compare(np.zeros((60, 3)), np.zeros((60, 3)))
    with pytest.raises(InputError, match="NaN or infinity"):
        compare(np.where(xy > 0, xy, np.nan), xy)
