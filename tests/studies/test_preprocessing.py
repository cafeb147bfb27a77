"""The check of a preprocess: its numbers against plain arithmetic, its pictures against hand-made ones."""

import base64
import hashlib
import io

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from drawn import photo, tiny_network, to_tensor_32
from PIL import Image
from torchvision.transforms import v2

import vizkit as vk
from vizkit.errors import InputError

N, K = 40, 5
HOSTILE = "<img src=x onerror=alert(1)>"


def unnormalized(image):
    return (to_tensor_32(image) + 1) / 2


def swapped(image):
    return to_tensor_32(image).flip(0)


def same(image):
    return to_tensor_32(image).clone()


@pytest.fixture(scope="module")
def photos():
    return vk.ImageSet.from_frame(
        pd.DataFrame({"image": [photo(i) for i in range(N)], "id": [f"p{i:02d}" for i in range(N)]}), image="image"
    )


@pytest.fixture(scope="module")
def encoder():
    return vk.Encoder(tiny_network(), preprocess=to_tensor_32)


@pytest.fixture
def check(tmp_path):
    return lambda *args, **options: vk.check_preprocess(*args, **{"cache": tmp_path, "progress": False} | options)


def hand_made(images, encoder, preprocess):
    """Return unit vectors (n, d) float64 of a plain loop."""
    batch = torch.stack([preprocess(images[row]) for row in range(len(images))])
    vectors = encoder.encode(batch).astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def nearest(vectors, k):
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    return [set(row) for row in np.argsort(-cosines, axis=1)[:, :k]]


@pytest.mark.parametrize("other", [to_tensor_32, same])
def test_the_same_pixels_keep_every_neighbor(photos, encoder, check, other):
    result = check(photos, encoder, other, k=K)
    assert result.kept == 1.0
    assert result.interval == (1.0, 1.0)
    assert result.self_retrieval == 1.0
    assert (result.frame["kept"] == 1).all()
    np.testing.assert_allclose(result.frame["cosine"], 1, atol=1e-12)
    assert result.differences == []


@pytest.mark.parametrize("name", [None, "imagenet"])
def test_the_weights_own_is_what_a_network_is_checked_against(photos, check, name):
    encoder = vk.Encoder("squeezenet1_1", weights=None)
    result = check(photos.subset(range(12)), encoder, name, k=3)
    assert result.kept == 1.0
    wrong = check(photos.subset(range(12)), encoder.with_preprocess("[0,1]"), name, k=3)
    assert wrong.against.fingerprint == encoder.fingerprint
    assert wrong.differences == ["mean", "std", "range"]
    assert wrong.settings.loc["range"].tolist() == ["0 to 1", "-2.12 to 2.64"]


@pytest.mark.parametrize("other", [unnormalized, swapped])
def test_the_numbers_are_those_of_plain_arithmetic(photos, encoder, check, other):
    result = check(photos, encoder, other, k=K)
    a, b = (hand_made(photos, encoder, preprocess) for preprocess in (to_tensor_32, other))
    kept = np.array([len(x & y) / K for x, y in zip(nearest(a, K), nearest(b, K), strict=True)])
    assert 0 < kept.mean() < 1
    by_id = result.frame.loc[photos.ids]
    np.testing.assert_allclose(by_id["kept"], kept)
    np.testing.assert_allclose(by_id["cosine"], (a * b).sum(axis=1), atol=1e-6)
    assert result.kept == pytest.approx(kept.mean())
    assert result.cosine == pytest.approx((a * b).sum(axis=1).mean())
    assert result.self_retrieval == ((a @ b.T).argmax(axis=1) == np.arange(N)).mean()
    assert result.chance == K / (N - 1)
    assert result.frame["kept"].is_monotonic_increasing


def test_the_interval_is_that_of_images_drawn_with_replacement(photos, encoder, check):
    result = check(photos, encoder, unnormalized, k=K, seed=4)
    rng = np.random.default_rng(9)
    means = rng.choice(result.frame["kept"], size=(20_000, N)).mean(axis=1)
    np.testing.assert_allclose(result.interval, np.quantile(means, [0.025, 0.975]), atol=0.01)
    assert result.interval[0] < result.kept < result.interval[1]
    assert check(photos, encoder, unnormalized, k=K, seed=4).interval == result.interval


def noise(image):
    """Forget the image: noise that is the same only for the same image."""
    seed = int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:4])
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(rng.uniform(-2, 2, (3, 1, 1)), 1, (3, 32, 32)).astype(np.float32))


def test_a_preprocess_that_forgets_the_image_keeps_what_chance_keeps(encoder, check):
    images = vk.ImageSet.from_frame(pd.DataFrame({"image": [photo(i, (40, 40)) for i in range(200)]}), image="image")
    result = check(images, encoder, noise, k=10)
    assert result.chance == 10 / 199
    spread = result.frame["kept"].std() / np.sqrt(200)
    assert abs(result.kept - result.chance) < 4 * spread
    assert result.self_retrieval < 0.05


def test_a_copy_of_an_image_does_not_spoil_self_retrieval(encoder, check):
    images = vk.ImageSet.from_frame(pd.DataFrame({"image": [photo(i // 2) for i in range(2 * K + 4)]}), image="image")
    assert check(images, encoder, same, k=K).self_retrieval == 1.0


def test_pixels_that_differ_on_some_images_alone_are_not_taken_for_the_same(encoder, check):
    def flips_small_ones(image):
        return to_tensor_32(image).flip(0) if image.size == (50, 50) else to_tensor_32(image)

    photos = [photo(i, (50, 50) if i % 4 == 0 else (96, 80)) for i in range(N)]
    images = vk.ImageSet.from_frame(pd.DataFrame({"image": photos}), image="image")
    result = check(images, encoder, flips_small_ones, k=K)
    assert result.against.fingerprint == encoder.fingerprint
    changed = result.frame["cosine"] < 1 - 1e-9
    assert sorted(map(int, result.frame.index[changed])) == list(range(0, N, 4))
    assert result.kept < 1


def test_images_that_fail_under_either_are_left_out_and_counted(photos, encoder, check):
    broken = {photos[7].tobytes(), photos[20].tobytes()}

    def picky(image):
        if image.tobytes() in broken:
            raise ValueError("not this one")
        return unnormalized(image)

    for pair in ((encoder, picky), (encoder.with_preprocess(picky), to_tensor_32)):
        result = check(photos, *pair, k=K)
        assert sorted(result.failures["id"]) == ["p07", "p20"]
        assert set(result.failures["under"]) == {"against" if pair[1] is picky else "as given"}
        rest = photos.subset([row for row in range(N) if row not in (7, 20)])
        alone = check(rest, encoder, unnormalized, k=K)
        pd.testing.assert_frame_equal(result.frame.sort_index(), alone.frame.sort_index(), rtol=1e-5)
        assert result.kept == alone.kept
        assert result.chance == K / (N - 3)
        assert repr(result).endswith("; 38 images, 2 left out; they differ in mean, std, range>")


def test_vectors_of_other_lengths_have_neighbors_and_no_cosine(photos, check):
    encoder = vk.Encoder(tiny_network(), layer="2", pool="flatten", preprocess=to_tensor_32)
    larger = v2.Compose([v2.Resize((48, 48)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    result = check(photos, encoder, larger, k=K)
    assert 0 < result.kept < 1
    assert np.isnan(result.self_retrieval)
    assert np.isnan(result.cosine)
    assert result.settings.loc["input"].tolist() == ["3 x 32 x 32", "3 x 48 x 48"]
    assert len(result.figure(2).data) == 6


# ------------------------------------------------------------------ what is shown


def pictures(figure):
    """Return the pictures of a figure, arrays (h, w, 3)."""
    sources = [trace.source.split(",", 1)[1] for trace in figure.data]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(source)))).astype(int) for source in sources]


def note(figure):
    return figure.layout.annotations[-1].text.replace("<br>", " ")


def test_the_figure_shows_what_the_network_sees_relative_to_the_weights_own(photos, check):
    encoder = vk.Encoder("squeezenet1_1", weights=None)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    few = photos.subset(range(12))

    def drawn(result):
        worst = few[few.row(result.frame.index[0])]
        original, *seen = pictures(result.figure(1))
        assert np.array_equal(original, np.asarray(worst))
        cut = v2.functional.center_crop(v2.functional.resize(worst, 256), 224)
        return np.asarray(cut) / 255, *(picture / 255 for picture in seen)

    right, first, second = drawn(check(few, encoder.with_preprocess("[0,1]"), k=3))
    np.testing.assert_allclose(second, right, atol=1 / 255)
    np.testing.assert_allclose(first, right * std + mean, atol=1 / 255)  # washed out

    result = check(few, encoder, lambda image: encoder.official(image).flip(0), k=3)
    right, first, second = drawn(result)
    np.testing.assert_allclose(first, right, atol=1 / 255)
    blue_first = ((right - mean) / std)[..., ::-1] * std + mean
    np.testing.assert_allclose(second, blue_first.clip(0, 1), atol=1 / 255)
    assert "order of SqueezeNet1_1_Weights.IMAGENET1K_V1." in note(result.figure(1))


def test_a_module_is_drawn_by_the_preprocess_it_is_compared_with(photos, encoder, check):
    result = check(photos, encoder, swapped, k=K)
    figure = result.figure(2)
    assert "order of the preprocess compared with." in note(figure)
    worst = photos[photos.row(result.frame.index[1])]
    right = np.asarray(worst.resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
    _, first, second = pictures(figure)[3:]
    assert np.abs(first - right[..., ::-1]).max() <= 1
    assert np.abs(second - right).max() <= 1
    texts = [annotation.text for annotation in figure.layout.annotations]
    row = result.frame.iloc[1]
    assert f"{result.frame.index[1]}<br>kept {row['kept']:.2f}, cosine {row['cosine']:.2f}" in texts
    assert "as given<br>colors: red, green, blue" in texts
    assert "against<br>colors: blue, green, red" in texts


def test_what_differs_from_a_modules_reference_is_drawn_as_wrong(photos, check):
    encoder = vk.Encoder(tiny_network(), preprocess=swapped)
    result = check(photos, encoder, to_tensor_32, k=K)
    worst = photos[photos.row(result.frame.index[0])]
    right = np.asarray(worst.resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
    _, first, second = pictures(result.figure(1))
    assert np.abs(first - right[..., ::-1]).max() <= 1
    assert np.abs(second - right).max() <= 1


def test_where_no_mean_is_known_the_figure_says_so(photos, check):
    def standardized(image):
        x = to_tensor_32(image)
        return (x - x.mean()) / (x.std() + 1e-8)

    encoder = vk.Encoder(tiny_network(), preprocess=standardized)
    result = check(photos, encoder, standardized, k=K)
    assert result.kept == 1.0
    assert "mean" in result.unknown
    figure = result.figure(1)
    assert "No mean is known" in note(figure)
    _, first, _ = pictures(figure)
    assert (first.min(), first.max()) == (0, 255)


def test_the_share_is_shown_beside_chance_and_what_differs(photos, encoder, check):
    result = check(photos, encoder, unnormalized, k=K)
    low, high = result.interval
    assert repr(result) == (
        f"<PreprocessCheck: {result.kept:.2f} of the 5 nearest neighbors kept (95% interval {low:.2f} to {high:.2f}; "
        f"chance 0.13); self-retrieval {result.self_retrieval:.2f}, cosine {result.cosine:.2f}; 40 images; "
        "they differ in mean, std, range>"
    )
    shown = result._repr_html_()
    assert "The two differ in: mean, std, range. Not known for both: interpolation." in shown
    assert "squashed to 32 x 32 pixels (measured)" in shown
    assert "by chance" in shown


def test_texts_of_strangers_are_escaped(encoder, check):
    images = vk.ImageSet.from_frame(
        pd.DataFrame({"image": [photo(i) for i in range(8)], "id": [HOSTILE, *"abcdefg"]}), image="image"
    )
    twin = encoder.with_preprocess(same)
    twin.transforms = HOSTILE
    result = check(images, twin, to_tensor_32, k=2)
    assert HOSTILE in result.settings.loc["preprocess"].tolist()
    assert "<img" not in result._repr_html_()
    assert "&lt;img" in result._repr_html_()
    assert "<img" not in result.figure(8).to_json().replace("\\u003c", "<")


# ------------------------------------------------------------------ what is refused


def test_a_module_needs_to_be_told_what_it_is_checked_against(photos, encoder):
    with pytest.raises(InputError, match=r"Sequential was given as a module.* Say with against= what it was trained"):
        vk.check_preprocess(photos, encoder)


@pytest.mark.parametrize(
    ("images", "options", "words"),
    [
        ("photos/", {}, r"images must be an ImageSet, not str: use vk\.ImageSet"),
        (None, {"encoder": "resnet50"}, r"encoder must be an Encoder, not str: wrap it"),
        (None, {"against": 3}, r"against is 3; expected a name"),
        (None, {"against": "[0,2]"}, r"No preprocess is named '\[0,2\]'\. Closest"),
        (None, {"k": 0}, r"k is 0; expected a whole number of neighbors, 1 or more"),
        (None, {"k": True}, r"k is True; expected a whole number"),
        (None, {"k": 39}, r"40 of 40 images gave a vector under both preprocesses; expected 41 or more for k = 39"),
    ],
)
def test_what_cannot_be_checked_is_refused(photos, encoder, check, images, options, words):
    options = {"encoder": encoder, "against": to_tensor_32} | options
    with pytest.raises(InputError, match=words):
        check(images or photos, options.pop("encoder"), options.pop("against"), **options)


def test_too_few_images_name_the_first_reason(photos, encoder, check):
    def never(image):
        if image.size == (96, 80):
            raise ValueError("not these")
        return to_tensor_32(image)

    with (
        pytest.warns(UserWarning, match="None of the 40 images gave a vector"),
        pytest.raises(InputError, match=r"0 of 40 images gave.* The first of 40 failures: Image 'p00': .*not these"),
    ):
        check(photos, encoder, never, k=K)


def test_a_figure_has_at_least_one_row(photos, encoder, check):
    with pytest.raises(InputError, match=r"n is 0; expected a whole number of images"):
        check(photos, encoder, same, k=K).figure(0)


# ------------------------------------------------------------------ real photos, real weights


def squashed(image):
    own = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
    pixels = torch.from_numpy(np.asarray(image.resize((224, 224)), np.float32).transpose(2, 0, 1) / 255)
    return v2.functional.normalize(pixels, own.mean, own.std)


def blue_first(image):
    return torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1.transforms()(image)[[2, 1, 0]]


def test_wrong_pixels_change_the_neighbors_of_real_photos(shared, tmp_path):
    images = vk.ImageSet.from_folder(shared / "images/imagenet_sample")
    some = images.subset(range(0, len(images), 3))
    encoder = vk.Encoder("mobilenet_v2", weights=shared / "torch/converted/mobilenet_v2_tf2-fe1e9c5f.pth")
    found = {
        against: vk.check_preprocess(some, encoder, against, cache=tmp_path, progress=False)
        for against in (None, "[0,1]", blue_first, squashed)
    }
    right = found.pop(None)
    assert (right.kept, right.self_retrieval) == (1.0, 1.0)
    for result in found.values():  # of all 300: 0.33, 0.54, 0.47
        assert result.interval[1] < 0.7
        assert result.interval[0] > 2 * result.chance
        assert result.self_retrieval > 0.9
    assert found["[0,1]"].differences == ["mean", "std", "range"]
    assert found[blue_first].settings.loc["colors", "against"] == "blue, green, red"
    assert found[squashed].settings.loc["resize", "against"] == "squashed to 224 x 224 pixels (measured)"
