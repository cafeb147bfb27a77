"""Localization scores: against a count on pixels, an oracle library, and closed forms for maps that know nothing."""

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from vizkit.errors import InputError
from vizkit.saliency.localization import center_prior, covered_by, energy, iou, pointing, resampled


def box(shape, top, left, height, width):
    mask = np.zeros(shape, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def on_pixels(values, mask):
    """Return map and region on one grid of pixels that both fit into, by repetition alone."""
    size = [int(np.lcm(a, b)) for a, b in zip(values.shape, mask.shape, strict=True)]

    def repeat(array):
        return array.repeat(size[0] // array.shape[0], 0).repeat(size[1] // array.shape[1], 1)

    return repeat(values), repeat(mask)


def test_energy_by_hand():
    values = np.array([[4.0, -9.0], [1.0, 3.0]])
    assert energy(values, box((8, 8), 0, 0, 4, 4)) == pytest.approx(4 / 8)
    assert energy(values, box((8, 8), 0, 0, 4, 2)) == pytest.approx(2 / 8)  # half of the first cell
    assert energy(values, box((8, 8), 0, 4, 8, 4)) == pytest.approx(3 / 8)  # what is negative is no evidence


@pytest.mark.parametrize("grid", [(7, 7), (8, 8), (5, 9), (28, 20)])
def test_cells_count_as_their_pixels_do_on_grids_that_do_not_fit(grid):
    values = np.random.default_rng(0).normal(size=grid)
    mask = box((30, 45), 3, 11, 13, 20)
    fine, region = on_pixels(values, mask)
    assert energy(values, mask) == pytest.approx(np.maximum(fine, 0)[region].sum() / np.maximum(fine, 0).sum())
    np.testing.assert_allclose(resampled(values, (30, 45)), resampled(fine, (30, 45)), atol=1e-12)
    assert covered_by(mask, grid).mean() == pytest.approx(mask.mean())
    highest = fine == fine.max()
    assert pointing(values, mask) == pytest.approx(region[highest].mean())


def test_iou_is_that_of_the_highest_pixels():
    values = np.random.default_rng(1).normal(size=(32, 32))
    mask = box((32, 32), 4, 5, 14, 13)
    highest = values >= np.sort(values.ravel())[-mask.sum()]
    assert iou(values, mask) == pytest.approx(jaccard_score(mask.ravel(), highest.ravel()))
    assert iou(mask.astype(float), mask) == 1
    assert iou(-mask.astype(float), mask) == 0


def test_a_map_that_knows_nothing_gets_the_area_and_its_chance_iou():
    mask = box((64, 64), 10, 30, 28, 28)
    share = mask.mean()
    flat = np.ones((8, 8))
    assert energy(flat, mask) == pytest.approx(share)
    assert pointing(flat, mask) == pytest.approx(share)
    assert iou(flat, mask) == pytest.approx(share / (2 - share))
    rng = np.random.default_rng(0)
    noise = [rng.random((64, 64)) for _ in range(50)]
    assert np.mean([energy(values, mask) for values in noise]) == pytest.approx(share, abs=0.005)
    assert np.mean([iou(values, mask) for values in noise]) == pytest.approx(share / (2 - share), abs=0.005)


@pytest.mark.parametrize("values", [np.zeros((4, 4)), -np.arange(16.0).reshape(4, 4)])
def test_a_map_without_a_positive_cell_says_nothing_about_where_and_gets_the_area(values):
    assert energy(values, box((8, 8), 1, 0, 3, 5)) == pytest.approx(15 / 64)


def test_an_empty_region_has_no_overlap():
    assert iou(np.ones((4, 4)), np.zeros((8, 8), bool)) == 0


@pytest.mark.parametrize("shape", [(7, 7), (8, 12), (224, 224)])
def test_the_center_prior_falls_from_the_middle_alike_to_all_sides(shape):
    prior = center_prior(shape)
    assert prior.shape == shape
    assert prior.min() > 0
    np.testing.assert_allclose(prior, prior[::-1, ::-1], rtol=1e-6)
    assert (np.diff(prior[shape[0] // 2 :, shape[1] // 2]) < 0).all()
    middle = box((64, 96), 20, 30, 24, 36)
    assert pointing(prior, middle) == pytest.approx(1)
    assert energy(prior, middle) > 2 * middle.mean()


@pytest.mark.parametrize("score", [energy, iou, pointing])
def test_what_is_no_map_or_no_region_is_refused(score):
    mask = box((8, 8), 0, 0, 4, 4)
    with pytest.raises(InputError, match=r"finite values \(h, w\); this one has shape \(1, 8, 8\)"):
        score(np.ones((1, 8, 8)), mask)
    with pytest.raises(InputError, match="finite values"):
        score(np.full((8, 8), np.nan), mask)
    with pytest.raises(InputError, match=r"True and False \(h, w\), not float64"):
        score(np.ones((8, 8)), mask.astype(float))
