"""Deletion and insertion: against curves worked out by hand, on a number whose evidence is one known cell."""

import numpy as np
import pytest
import torch

from vizkit.saliency.deletion import GRID, STEPS, curves, order_of, random_order

CELLS = GRID * GRID


def one_cell(x):
    """Return the mean of the top left cell of 64 x 64 images."""
    return x[:, 0, :8, :8].mean((1, 2))


@pytest.fixture
def bright():
    x = torch.zeros(3, 64, 64)
    x[:, :8, :8] = 64.0  # the whole image's mean is 1
    return x


@pytest.mark.parametrize("place", [0, 7, 8, 30, 63])
def test_the_number_changes_when_its_cell_goes(bright, place):
    """The cell is the `place`-th to go: it is hidden, or shown, from step place // 8 + 1 on."""
    order = np.roll(np.arange(CELLS), place)
    found = curves(one_cell, bright, order)
    gone = np.arange(STEPS + 1) * CELLS // STEPS > place
    np.testing.assert_allclose(found.deletion, np.where(gone, 1, 64), rtol=1e-5)
    np.testing.assert_allclose(found.insertion[gone], 64, rtol=1e-5)
    assert (found.insertion[~gone] < 64).all()
    deletion, insertion = found.areas
    assert deletion == pytest.approx((np.where(gone, 1, 64)[:-1] + np.where(gone, 1, 64)[1:]).mean() / 2, rel=1e-5)
    assert insertion == pytest.approx(np.trapezoid(found.insertion, dx=1 / STEPS), rel=1e-9)


def test_a_map_that_is_right_beats_one_that_is_wrong_both_ways(bright):
    right = np.zeros((7, 7))
    right[0, 0] = 1.0
    good, bad = (curves(one_cell, bright, order_of(values, 0)).areas for values in (right, -right))
    assert good[0] < bad[0]
    assert good[1] > bad[1]


def test_insertion_starts_where_nothing_smaller_than_a_cell_is_left():
    x = torch.zeros(3, 64, 64)
    x[:, ::2] = 2.0  # stripes of one pixel
    start = curves(lambda batch: batch.std((1, 2, 3)), x, np.arange(CELLS)).insertion[0]
    assert start == pytest.approx(0, abs=1e-6)


def test_sizes_that_cells_do_not_fit_are_covered_whole():
    x = torch.rand(3, 30, 50)
    found = curves(lambda batch: (batch == x).float().mean((1, 2, 3)), x, random_order(0))
    assert found.deletion[0] == 1
    assert found.deletion[-1] == 0
    assert found.insertion[-1] == 1
    assert (np.diff(found.deletion) < 0).all()


def test_the_order_is_that_of_the_map_and_equals_go_at_random():
    values = np.random.default_rng(0).normal(size=(GRID, GRID)).astype(np.float32)
    np.testing.assert_array_equal(order_of(values, 0), np.argsort(-values.ravel()))
    np.testing.assert_array_equal(order_of(np.full((14, 14), 0.1, np.float32), 5), random_order(5))
    assert not np.array_equal(random_order(5), random_order(6))
    fine = values.repeat(4, 0).repeat(4, 1)
    np.testing.assert_array_equal(order_of(fine, 0), order_of(values, 1))


@pytest.mark.parametrize("unit", [1e-14, 1e-300, 1e200])
def test_the_order_does_not_depend_on_the_unit(unit):
    values = np.random.default_rng(0).normal(size=(GRID, GRID))
    np.testing.assert_array_equal(order_of(values * unit, 0), order_of(values, 0))
    np.testing.assert_array_equal(order_of(np.zeros((GRID, GRID)), 3), random_order(3))
