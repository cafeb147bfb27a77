"""Planted pairs: exact in what the network sees, of the sizes that are promised, and the same for the same seed."""

import numpy as np
import pandas as pd
import pytest
import torch
from drawn import photo, tiny_network, to_tensor_32

import vizkit as vk
from vizkit.errors import ImageReadError, InputError
from vizkit.saliency.planted import planted_pairs


@pytest.fixture(scope="module")
def encoder():
    return vk.Encoder(tiny_network(), preprocess=to_tensor_32)


@pytest.fixture(scope="module")
def images():
    return vk.ImageSet.from_frame(pd.DataFrame({"path": [photo(i) for i in range(9)]}))


def test_both_images_hold_the_same_part_where_the_masks_say_and_are_untouched_elsewhere(encoder, images):
    originals = torch.stack([encoder.preprocess(image) for image in images])
    for pair in planted_pairs(encoder, images, 6):
        inside = []
        for x, mask in ((pair.x_a, pair.mask_a), (pair.x_b, pair.mask_b)):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
            assert mask[box].all()
            assert mask[box].sum() == mask.sum()
            inside.append(x[:, *box])
            outside = torch.from_numpy(~mask)
            assert (originals[:, :, outside] == x[:, outside]).flatten(1).all(1).sum() == 1
            # What was put in is one of the images, smaller: its mean color is that image's, and no other's.
            distance = (originals.mean((2, 3)) - inside[-1].mean((1, 2))).norm(dim=1).sort().values
            assert distance[0] < 0.02 < distance[1] / 2
        assert torch.equal(*inside)


def test_half_of_the_pairs_cover_18_percent_and_half_20():
    encoder = vk.Encoder("scenes")
    areas = [pair.area for pair in planted_pairs(encoder, vk.scenes("held-out"), 6)]
    np.testing.assert_allclose(areas, [0.18, 0.20] * 3, atol=0.006)


def test_places_are_drawn_over_the_whole_image(encoder, images):
    pairs = planted_pairs(encoder, images, 60)
    covered = np.mean([mask for pair in pairs for mask in (pair.mask_a, pair.mask_b)], axis=0)
    # No corner, side or half is left out: a quarter of the image holds about a quarter of what is covered.
    quarters = covered.reshape(2, 16, 2, 16).sum((1, 3)) / covered.sum()
    np.testing.assert_allclose(quarters, 0.25, atol=0.06)
    assert np.mean([np.array_equal(pair.mask_a, pair.mask_b) for pair in pairs]) < 0.2


def test_a_seed_repeats_and_a_shorter_list_is_the_beginning_of_a_longer(encoder, images):
    few, many, other = (planted_pairs(encoder, images, n, seed=seed) for n, seed in ((3, 1), (8, 1), (3, 2)))
    for a, b, c in zip(few, many[:3], other, strict=True):
        assert torch.equal(a.x_a, b.x_a)
        assert np.array_equal(a.mask_b, b.mask_b)
        assert not torch.equal(a.x_a, c.x_a)


def test_images_that_cannot_be_read_are_passed_over_until_three_are_missing(encoder):
    def load(row):
        if row % 2:
            raise ImageReadError(f"image {row} is broken")
        return photo(row)

    frame = pd.DataFrame({"path": None}, index=pd.Index([str(i) for i in range(6)], name="id"))
    half = vk.ImageSet(list(frame.index), frame, load)
    assert len(planted_pairs(encoder, half, 2)) == 2
    with pytest.raises(InputError, match="at least 3 images that can be read; 2 of 4 can"):
        planted_pairs(encoder, half.subset(range(4)), 2)
