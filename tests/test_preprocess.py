"""The named ways to turn an image into a network's input, against hand-made arithmetic."""

import itertools

import numpy as np
import open_clip.transform
import pytest
import timm.data
import torch
import torchvision
from drawn import photo
from PIL import Image, ImageChops, ImageOps
from torchvision import transforms as v1
from torchvision.transforms import v2

import vizkit as vk
from vizkit.errors import InputError
from vizkit.measured import measured_colors
from vizkit.preprocess import Preprocess, _middle, described, named

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


@pytest.mark.parametrize("size", [(50, 2000), (2001, 51)])
def test_the_middle_of_a_strip_is_what_the_official_transforms_see_of_all_of_it(size):
    strip = photo(3, size)
    official = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    gap = float((official(_middle(strip)) - official(strip)).abs().mean())
    shifted = float((official(strip) - official(ImageChops.offset(strip, 4, 4))).abs().mean())
    assert gap < 0.2 * shifted
    ours = vk.Encoder("resnet18", weights=None).preprocess(strip)
    assert torch.equal(ours, official(strip))  # so short a strip is seen whole


def test_a_very_long_strip_takes_no_memory_to_speak_of():
    vector = vk.Encoder("scenes").embed_image(Image.new("RGB", (1, 65_000), "teal"))
    assert np.isfinite(vector).all()


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


# ------------------------------------------------------------------ what a preprocess does to colors, measured


def planted(mean, std, order=(0, 1, 2)):
    """Return a preprocess with this mean, std (of values in [0, 1]) and channel order, as nothing but a function."""

    def preprocess(image):
        pixels = torch.from_numpy(np.asarray(image.resize((32, 32)), np.float32).transpose(2, 0, 1).copy() / 255)
        return (pixels[list(order)] - channels(*mean)) / channels(*std)

    return preprocess


def unit(image):
    return planted((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))(image)


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
        ((1.0, 1.0, 1.0), (-1.0, -1.0, -1.0)),
        ((0.1, 0.5, 0.9), (2.0, 0.01, 30.0)),
    ],
)
def test_mean_and_std_of_any_callable_are_found(mean, std):
    found = measured_colors(planted(mean, std))
    np.testing.assert_allclose(found.mean, mean, atol=1e-5)
    np.testing.assert_allclose(found.std, std, rtol=1e-5)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_order_of_colors_is_found(order):
    said = described(planted((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), order))
    assert said["colors"] == ", ".join(np.array(["red", "green", "blue"])[list(order)])


def test_gray_is_found_in_one_channel_and_in_three():
    assert described(lambda image: unit(image.convert("L").convert("RGB")))["colors"] == "gray in three channels"
    assert (
        described(v1.Compose([v1.Resize((32, 32)), v1.Grayscale(), v1.ToTensor()]))["colors"] == "gray in one channel"
    )


def test_the_range_is_from_the_lowest_to_the_highest_that_black_and_white_give():
    assert described(Preprocess())["range"] == "-2.12 to 2.64"  # (0 - 0.485) / 0.229 and (1 - 0.406) / 0.225
    assert described(named("[-1,1]", None))["range"] == "-1 to 1"
    assert described(lambda image: 255 * unit(image))["range"] == "0 to 255"
    assert described(lambda image: 1 - unit(image))["range"] == "0 to 1"


def standardized(image):
    x = unit(image)
    return (x - x.mean()) / (x.std() + 1e-8)


def stretched(image):
    x = unit(image)
    return (x - x.min()) / (x.max() - x.min())


def smooth(image):
    x = unit(image)
    return x * x * (3 - 2 * x)


def divided(image):
    pixels = np.asarray(image.resize((32, 32)), np.float32).transpose(2, 0, 1)
    return torch.from_numpy((pixels - pixels.min()) / (pixels.max() - pixels.min()))  # numpy warns on a plain image


def failing(image):
    raise RuntimeError("no")


@pytest.mark.parametrize(
    ("preprocess", "colors", "why"),
    [
        (standardized, None, "black and white give the same values"),
        (stretched, None, "an image of one color gives values that are no numbers"),
        (divided, None, "an image of one color gives values that are no numbers"),
        (lambda image: unit(ImageOps.autocontrast(image)), "red, green, blue", "depends on the rest of the image"),
        (lambda image: unit(ImageOps.equalize(image)), "red, green, blue", "depends on the rest of the image"),
        (lambda image: unit(image) ** 2.2, "red, green, blue", "from black to white is no straight line"),
        (smooth, "red, green, blue", "from black to white is no straight line"),
        (lambda image: unit(image) @ torch.zeros(32, 32), None, "black and white give the same values"),
        (lambda image: unit(image).flip(0) / 2 + unit(image) / 2, None, "channels mix colors"),
        (failing, None, r"it fails on an image of one color (RuntimeError)"),
        (lambda image: np.asarray(image), None, r"it fails on an image of one color (AttributeError)"),
        (lambda image: unit(image)[0], None, r"it fails on an image of one color (ValueError)"),
        (lambda image: torch.empty(3, 0, 0), None, r"it fails on an image of one color (IndexError)"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_is_no_straight_map_of_each_channel_is_said_not_to_be_known(preprocess, colors, why):
    said = described(preprocess)
    assert said["mean"].startswith("not known: ")
    assert why in said["mean"]
    assert said["std"] == said["mean"]
    assert said["colors"] == (colors or said["mean"])
    assert measured_colors(preprocess).mean is None


# ------------------------------------------------------------------ what it does to sizes, read or measured

TENSOR = [v1.ToTensor()]
BICUBIC = v1.InterpolationMode.BICUBIC


def clip(mode):
    config = open_clip.transform.PreprocessCfg(size=224, resize_mode=mode)
    return open_clip.transform.image_transform_v2(config, is_train=False)


def timms(**options):
    return timm.data.create_transform(options.pop("size", 224), interpolation="bicubic", **options)


@pytest.mark.parametrize(
    ("preprocess", "resize", "crop", "interpolation"),
    [
        (Preprocess(232, 200, interpolation="bicubic"), "232 pixels", "200 pixels", "bicubic"),
        (torchvision.models.EfficientNet_B3_Weights.DEFAULT.transforms(), "320 pixels", "300 pixels", "bicubic"),
        (v1.Compose([v1.Resize(256), v1.CenterCrop(224), *TENSOR]), "256 pixels", "224 pixels", "bilinear"),
        (v1.Compose([v1.Resize(9, antialias=False), *TENSOR]), "9 pixels", "none", "bilinear"),  # Pillow does anyway
        (v1.Compose([v1.Resize([70]), v1.CenterCrop((64, 48)), *TENSOR]), "70 pixels", "64 x 48 pixels", "bilinear"),
        (v1.Compose([v1.Resize((224, 288), BICUBIC), *TENSOR]), "squashed to 224 x 288 pixels", "none", "bicubic"),
        (
            v2.Compose(
                [
                    v2.ToImage(),
                    v2.Resize((256, 256)),
                    v2.CenterCrop(224),
                    v2.ToDtype(torch.float32, scale=True),
                    v2.Normalize([0.5] * 3, [0.5] * 3),
                ]
            ),
            "squashed to 256 x 256 pixels",
            "224 pixels",
            "bilinear",
        ),
        (
            v2.Compose([v2.ToImage(), v2.Resize(256, antialias=False), v2.ToDtype(torch.float32, scale=True)]),
            "256 pixels",
            "none",
            "bilinear, not antialiased",
        ),
        (
            v1.Compose([v1.Resize(256, max_size=400), v1.CenterCrop(224), *TENSOR]),
            "256 pixels, the longer side at most 400",
            "224 pixels",
            "bilinear",
        ),
        (timms(crop_pct=0.9), "248 pixels", "224 pixels", "bicubic"),
        (timms(crop_pct=1.0, crop_mode="squash"), "squashed to 224 x 224 pixels", "224 pixels", "bicubic"),
        (
            timms(crop_pct=1.0, crop_mode="border"),
            "fitted into 224 x 224 pixels",
            "224 pixels, filled where the image is smaller",
            "bicubic",
        ),
        (timms(size=(3, 224, 288), crop_pct=1.0), "made to cover 224 x 288 pixels", "224 x 288 pixels", "bicubic"),
        (clip("shortest"), "224 pixels", "224 pixels", "bicubic"),
        (clip("squash"), "squashed to 224 x 224 pixels", "none", "bicubic"),
        (
            clip("longest"),
            "fitted into 224 x 224 pixels",
            "224 pixels, filled where the image is smaller",
            "bicubic",
        ),
        (
            v1.Compose([v1.Resize(300, BICUBIC), v1.CenterCrop(280), *TENSOR, v1.Lambda(lambda x: 2 * x - 1)]),
            "300 pixels (measured)",
            "280 pixels (measured)",
            "bicubic",
        ),
        (torch.nn.Sequential(v1.Resize(99), v1.CenterCrop(80)), "99 pixels", "80 pixels", "bilinear"),
        (Image.Image.copy, "not known", "not known", "not known"),
    ],
)
def test_resize_crop_and_interpolation_are_told(preprocess, resize, crop, interpolation):
    said = described(preprocess)
    assert (said["resize"], said["crop"], said["interpolation"]) == (resize, crop, interpolation)


def of_function(change, mean=0.4, std=0.3):
    """Hide what is done to an image in a function, of which nothing can be read."""
    return lambda image: (v1.functional.to_tensor(change(image)) - mean) / std


def shorter(side, crop):
    return lambda image: v1.functional.center_crop(v1.functional.resize(image, side), crop)


@pytest.mark.parametrize("side", [32, 96, 128, 224, 232, 256, 288, 342, 518])
def test_the_sizes_of_a_plain_function_are_measured(side):
    crop = side * 7 // 8

    def sizes(change):
        said = described(of_function(change))
        return said["resize"], said["crop"]

    kept = (f"{side} pixels (measured)", f"{crop} pixels (measured)")
    assert sizes(shorter(side, crop)) == kept
    assert sizes(lambda image: shorter(side, crop)(image.convert("L").convert("RGB"))) == kept
    assert sizes(lambda image: Image.merge("RGB", shorter(side, crop)(image).split()[::-1])) == kept
    smooth = Image.Resampling.BILINEAR
    squash = f"squashed to {side} x {side} pixels (measured)"
    assert sizes(lambda image: image.resize((side, side))) == (squash, "none (measured)")
    cut = (side - crop) // 2
    assert sizes(lambda i: i.resize((side, side), smooth).crop((cut, cut, cut + crop, cut + crop))) == (squash, kept[1])


def bulged(image):
    """Stretch the middle and press the borders, evenly to all sides."""
    places = (np.sin(np.linspace(-np.pi / 2, np.pi / 2, 224)) + 1) / 2
    rows, columns = (np.round(places * (side - 1)).astype(int) for side in (image.height, image.width))
    return Image.fromarray(np.asarray(image)[rows][:, columns])


@pytest.mark.parametrize(
    "change",
    [
        lambda image: ImageOps.pad(image, (224, 224)),
        lambda image: ImageOps.mirror(image.resize((224, 224))),
        lambda image: image.rotate(90, expand=True).resize((224, 224)),
        lambda image: image.rotate(10).resize((224, 224)),
        lambda image: image.crop((0, 0, 224, 224)),
        bulged,
        lambda image: image.resize((image.width // 2, image.height // 2)),
    ],
)
def test_sizes_of_another_kind_are_not_known(change):
    said = described(of_function(change))
    assert (said["resize"], said["crop"]) == ("not known", "not known")
    assert said["mean"] == "0.4, 0.4, 0.4"


def test_a_crop_without_a_resize_is_measured():
    said = described(of_function(lambda image: v1.functional.center_crop(image, 300)))
    assert (said["resize"], said["crop"]) == ("none (measured)", "300 pixels (measured)")


# ------------------------------------------------------------------ names over the geometry of other packages


@pytest.mark.parametrize("base", [timms(crop_pct=0.9), clip("shortest")])
def test_a_compose_is_taken_over_with_its_values(base):
    image = photo(8, (500, 375))
    torch.testing.assert_close(Preprocess.of(base)(image), base(image), atol=1e-6, rtol=0)


@pytest.mark.parametrize("base", [timms(crop_pct=0.9), clip("shortest")])
def test_a_name_keeps_the_geometry_of_a_compose(base):
    image = photo(8, (500, 375))
    pixels = v1.Compose(base.transforms[:-1])(image)  # all but Normalize
    torch.testing.assert_close(named("[0,1]", base)(image), pixels, atol=1e-6, rtol=0)
    torch.testing.assert_close(named("[-1,1]", base)(image), 2 * pixels - 1, atol=1e-6, rtol=0)


def test_a_name_over_a_name_replaces_it():
    gray = Preprocess(300, 280, grayscale=True)
    assert named("[-1,1]", gray) == Preprocess(300, 280, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert named("grayscale", named("[0,1]", gray)) == Preprocess(300, 280, (0.0,) * 3, (1.0,) * 3, grayscale=True)


@pytest.mark.parametrize(
    ("base", "words"),
    [
        (clip("squash"), r"a Compose whose resize and crop cannot be taken over \(a squash keeps no proportions\)"),
        (clip("longest"), "a Compose whose resize and crop cannot be taken over: expected a resize of the shorter"),
        (unit, "a function whose resize and crop cannot be taken over"),
        (v1.Compose([v1.Resize(256), v1.CenterCrop((224, 192)), *TENSOR]), "a Compose whose resize and crop cannot"),
        (v1.Compose([*TENSOR, v1.Resize(256, antialias=False), v1.CenterCrop(224)]), "a Compose whose resize and crop"),
        (v1.Compose([v1.Resize(256), *TENSOR]), "a Compose whose resize and crop cannot"),
        (v1.Compose([v1.Resize(256, max_size=400), v1.CenterCrop(224), *TENSOR]), "Compose whose resize and crop"),
    ],
)
def test_a_name_needs_a_geometry_that_can_be_taken_over(base, words):
    with pytest.raises(InputError, match=words):
        named("[0,1]", base)
