"""The named ways to turn an image into a network's input, against hand-made arithmetic."""

import numpy as np
import pytest
import torch
import torchvision
from drawn import photo

import vizkit as vk
from vizkit.errors import InputError
from vizkit.preprocess import Preprocess, named

IMAGE = photo(3, (256, 256))
PIXELS = torch.from_numpy(np.asarray(IMAGE)[16:240, 16:240].transpose(2, 0, 1) / 255).float()  # no resize at 256


def channels(*values):
    return torch.tensor(values)[:, None, None]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("[0,1]", PIXELS),
        ("[-1,1]", PIXELS * 2 - 1),
        ("imagenet", (PIXELS - channels(0.485, 0.456, 0.406)) / channels(0.229, 0.224, 0.225)),
    ],
)
def test_a_name_is_its_arithmetic(name, expected):
    torch.testing.assert_close(named(name, None)(IMAGE), expected, atol=1e-5, rtol=0)


def test_grayscale_is_luma_in_three_equal_channels():
    gray = Preprocess(mean=(0, 0, 0), std=(1, 1, 1), grayscale=True)(IMAGE)
    luma = 0.299 * PIXELS[0] + 0.587 * PIXELS[1] + 0.114 * PIXELS[2]
    assert torch.equal(gray[0], gray[1])
    assert torch.equal(gray[0], gray[2])
    torch.testing.assert_close(gray[0], luma, atol=1.5 / 255, rtol=0)


@pytest.mark.parametrize("name", ["resnet50", "inception_v3", "efficientnet_b0", "vit_b_16"])
def test_torchvisions_own_transforms_are_kept_to_the_bit(name):
    transforms = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    image = photo(8, (500, 375))
    assert torch.equal(Preprocess.of(transforms)(image), transforms(image))


def test_a_name_keeps_the_geometry_of_the_weights():
    base = torchvision.models.get_model_weights("efficientnet_b3").DEFAULT.transforms()
    gray = named("grayscale", base)
    assert (gray.resize_size, gray.crop_size, gray.interpolation) == (320, 300, "bicubic")
    assert gray(photo(1, (400, 300))).shape == (3, 300, 300)


def test_an_encoder_takes_a_name_and_its_card_says_so():
    plain, gray, unit = (vk.Encoder("resnet18", weights=None, preprocess=p) for p in (None, "grayscale", "[0,1]"))
    assert len({plain.fingerprint, gray.fingerprint, unit.fingerprint}) == 3
    assert gray.card().loc["colors", "value"] == "gray in three channels"
    assert plain.card().loc["colors", "value"] == "red, green, blue"
    assert unit.card().loc["mean", "value"] == "0, 0, 0"
    assert unit.card().loc["preprocess", "value"] == "[0,1], by name"
    torch.testing.assert_close(unit.preprocess(IMAGE), PIXELS, atol=1e-5, rtol=0)
    module = vk.Encoder(torchvision.models.resnet18(), preprocess="imagenet")
    assert torch.equal(module.preprocess(IMAGE), plain.preprocess(IMAGE))


def test_an_unknown_name_says_which_there_are():
    with pytest.raises(InputError, match=r"No preprocess is named 'greyscale'\. Closest: 'grayscale'"):
        named("greyscale", None)
