"""Files and values of every kind become upright RGB, or say why not."""

import csv
import io
import os
import stat
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps

from vizkit.errors import ImageReadError, InputError
from vizkit.pixels import as_image, read_image

# How a camera stores an upright picture under each EXIF orientation (EXIF 2.32, table 6), on (h, w, 3) arrays.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}
AWKWARD_FAILURES = {"broken.png", "broken_data_stream.png", "decompression_bomb.gif"}


def picture(h=48, w=32):
    """A smooth picture without any symmetry, (h, w, 3) uint8."""
    y, x = np.mgrid[0:h, 0:w]
    return np.stack([255 * y / (h - 1), 255 * x / (w - 1), 80 + 60 * (x > w // 2)], axis=-1).astype(np.uint8)


def pixels(image):
    assert type(image) is Image.Image
    assert image.mode == "RGB"
    return np.asarray(image)


def mean_difference(a, b):
    return np.abs(pixels(a).astype(float) - pixels(b).astype(float)).mean()


def over_white(rgb, alpha):
    alpha = alpha[..., None] / 255.0
    return rgb * alpha + 255.0 * (1 - alpha)


# ------------------------------------------------------------------ orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("suffix", "options"),
    [(".png", {}), (".webp", {"lossless": True}), (".tif", {}), (".jpg", {"quality": 95}), (".avif", {"quality": 95})],
)
def test_every_exif_orientation_is_undone(tmp_path, orientation, suffix, options):
    upright = picture()
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned{suffix}"
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    stored.save(path, exif=exif, **options)
    for image in (read_image(path), as_image(path.read_bytes()), as_image(Image.open(path))):
        found = pixels(image).astype(float)
        assert found.shape == upright.shape
        assert np.abs(found - upright).mean() < (4.0 if suffix in (".jpg", ".avif") else 1e-9)


def test_an_image_read_upright_is_not_turned_again(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture()).save(tmp_path / "a.jpg", exif=exif)
    once = read_image(tmp_path / "a.jpg")
    assert once.size == (48, 32)
    np.testing.assert_array_equal(pixels(as_image(once)), pixels(once))
    assert once.getexif().get(0x0112) is None


@pytest.mark.parametrize("content", [b"", b"Exif\0\0II*\0\x08\0\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff" + b"\x01" * 30])
def test_malformed_exif_leaves_the_picture_as_it_lies(tmp_path, content):
    path = tmp_path / "odd.jpg"
    Image.fromarray(picture()).save(path, quality=95, exif=content)
    assert np.abs(pixels(read_image(path)).astype(float) - picture()).mean() < 4


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientations_that_do_not_exist_are_ignored(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture()).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(pixels(read_image(tmp_path / "a.png")), picture())


# ------------------------------------------------------------------ depths and color spaces


def test_16_bit_png_is_scaled_and_not_saturated(tmp_path):
    gray = picture()[..., 0]
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    expected = np.repeat(gray[..., None], 3, axis=2)
    np.testing.assert_array_equal(pixels(read_image(tmp_path / "deep.png")), expected)
    assert (np.asarray(Image.open(tmp_path / "deep.png").convert("RGB")) == 255).mean() > 0.9  # what Pillow alone gives


def test_a_dark_16_bit_png_stays_dark(tmp_path):
    gray = picture()[..., 0] // 8
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "dark.png")
    np.testing.assert_array_equal(pixels(read_image(tmp_path / "dark.png"))[..., 0], gray)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_16_bit_tiff_is_scaled_by_the_depth_that_holds_its_values(tmp_path, bits):
    full = 2**bits - 1
    values = np.linspace(0, full, 64 * 8).round().astype(np.uint16).reshape(8, 64)
    Image.fromarray(values).save(tmp_path / "deep.tif")
    found = pixels(read_image(tmp_path / "deep.tif"))[..., 0]
    np.testing.assert_array_equal(found, np.rint(values * (255.0 / full)).astype(np.uint8))


def test_transparent_gray_of_a_16_bit_png_becomes_white(tmp_path):
    values = np.array([[0, 1000, 30000, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png", transparency=1000)
    assert pixels(read_image(tmp_path / "a.png"))[0, :, 0].tolist() == [0, 255, 117, 255]


def test_white_is_zero_is_honored_at_16_bits(tmp_path):
    values = np.array([[0, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.tif", tiffinfo={262: 0})
    content = bytearray((tmp_path / "a.tif").read_bytes())
    entry = content.index(struct.pack("<HHI", 262, 3, 1))  # Pillow writes 1 (black is zero), whatever is asked for
    content[entry + 8 : entry + 10] = struct.pack("<H", 0)
    assert pixels(as_image(bytes(content)))[0, :, 0].tolist() == [255, 0]


def test_float_tiff_inside_0_and_1_is_taken_as_it_is(tmp_path):
    values = np.array([[0.0, 0.25, 0.5]], dtype=np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert pixels(read_image(tmp_path / "a.tif"))[0, :, 0].tolist() == [0, 64, 128]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[-2.0, 0.0, 2.0]], np.float32), [0, 128, 255]),
        (np.array([[10.0, 20.0, 110.0]], np.float32), [0, 26, 255]),
        (np.array([[np.nan, 10.0, 20.0]], np.float32), [0, 0, 255]),
        (np.array([[5.0, 5.0, 5.0]], np.float32), [0, 0, 0]),
        (np.array([[-1000, 0, 1000]], np.int32), [0, 128, 255]),
        (np.array([[0, 100_000, 200_000]], np.int32), [0, 128, 255]),
    ],
)
def test_values_without_a_known_range_are_stretched(tmp_path, values, expected):
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert pixels(read_image(tmp_path / "a.tif"))[0, :, 0].tolist() == expected


def test_a_float_image_without_a_finite_value_is_a_failure(tmp_path):
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ImageReadError, match=r"a\.tif.*holds no finite value.*Replace the file"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_looks_like_its_rgb_twin(tmp_path, suffix):
    rgb = Image.fromarray(picture())
    rgb.convert("CMYK").save(tmp_path / f"a{suffix}")
    assert mean_difference(read_image(tmp_path / f"a{suffix}"), rgb) < 4


def lab_to_srgb(lab):
    """Convert CIE L*a*b* (D50) to sRGB in [0, 1]; IEC 61966-2-1 with the Bradford-adapted matrix (Lindbloom)."""
    fy = (lab[..., 0] + 16) / 116
    f = np.stack([fy + lab[..., 1] / 500, fy, fy - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.96422, 1.0, 0.82521]
    to_linear = [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
    linear = xyz @ np.array(to_linear).T
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.clip(linear, 0, None) ** (1 / 2.4) - 0.055)


def assert_lab_agrees(path):
    with Image.open(path) as image:
        assert image.mode == "LAB"
        raw = np.asarray(image)  # as TIFF 6.0 stores it: L* of 0 to 255, a* and b* signed
    expected = lab_to_srgb(np.dstack([raw[..., :1] / 2.55, raw[..., 1:].view(np.int8)]))
    inside = ((expected > 0.05) & (expected < 0.95)).all(axis=-1)  # well within sRGB: nothing is clipped
    assert inside.mean() > 0.5
    found = pixels(read_image(path)) / 255
    errors = np.abs(found - expected)[inside]  # the largest: LittleCMS interpolates an 8-bit table in saturated blues
    assert np.median(errors) < 0.006
    assert errors.max() < 0.05


def test_lab_is_converted_by_its_definition(tmp_path):
    lightness, a = np.meshgrid(np.linspace(90, 200, 24), np.linspace(110, 150, 16))
    lab = np.stack([lightness, a, np.full_like(a, 135)], axis=-1).astype(np.uint8)
    bands = [Image.fromarray(np.ascontiguousarray(lab[..., i])) for i in range(3)]
    Image.merge("LAB", bands).save(tmp_path / "lab.tif")
    assert_lab_agrees(tmp_path / "lab.tif")


# ------------------------------------------------------------------ transparency, palettes, frames


def test_alpha_is_composited_over_white(tmp_path):
    rgb = picture()
    alpha = np.linspace(0, 255, rgb.shape[1]).astype(np.uint8)[None].repeat(len(rgb), axis=0)
    Image.fromarray(np.dstack([rgb, alpha])).save(tmp_path / "a.png")
    assert np.abs(pixels(read_image(tmp_path / "a.png")) - over_white(rgb, alpha)).max() <= 1
    gray = np.dstack([rgb[..., 0], alpha])
    Image.fromarray(gray).save(tmp_path / "la.png")
    expected = over_white(np.repeat(rgb[..., :1], 3, axis=2), alpha)
    assert np.abs(pixels(read_image(tmp_path / "la.png")) - expected).max() <= 1


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_transparent_palette_entries_become_white(tmp_path, suffix):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "L").convert("P")
    image.putpalette([10, 20, 30, 200, 0, 0, 0, 0, 200])
    image.save(tmp_path / f"a{suffix}", transparency=0)
    assert pixels(read_image(tmp_path / f"a{suffix}"))[0].tolist() == [[255, 255, 255], [200, 0, 0], [0, 0, 200]]


@pytest.mark.parametrize(("mode", "clear", "first"), [("L", 7, [255] * 3), ("RGB", (7, 7, 7), [255] * 3)])
def test_the_transparent_color_of_a_png_becomes_white(tmp_path, mode, clear, first):
    image = Image.fromarray(np.array([[[7] * 3, [9] * 3]], np.uint8)).convert(mode)
    image.save(tmp_path / "a.png", transparency=clear)
    assert pixels(read_image(tmp_path / "a.png"))[0].tolist() == [first, [9, 9, 9]]


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
def test_the_first_frame_is_taken(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 6), color) for color in ("red", "lime", "blue")]
    options = {"lossless": True} if suffix == ".webp" else {}
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:], **options)
    assert Image.open(tmp_path / f"a{suffix}").n_frames == 3
    assert np.unique(pixels(read_image(tmp_path / f"a{suffix}")).reshape(-1, 3), axis=0).tolist() == [[255, 0, 0]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBX", "YCbCr", "HSV", "CMYK"])
def test_pillow_images_of_every_mode_become_rgb(mode):
    source = Image.fromarray(picture()).convert(mode)
    np.testing.assert_array_equal(pixels(as_image(source)), np.asarray(source.convert("RGB")))


def test_an_icc_profile_leaves_the_values_alone(tmp_path):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    Image.fromarray(picture()).save(tmp_path / "a.png", icc_profile=profile)
    np.testing.assert_array_equal(pixels(read_image(tmp_path / "a.png")), picture())


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "I;16", "F"])
def test_an_image_converted_in_strips_is_the_same(tmp_path, monkeypatch, kind):
    upright = Image.fromarray(picture())
    rgba = upright.convert("RGBA")
    rgba.putalpha(Image.linear_gradient("L").resize(rgba.size))
    gray = np.asarray(upright.convert("L"))
    image, suffix = {
        "RGBA": (rgba, "png"),
        "LA": (rgba.convert("LA"), "png"),
        "P": (rgba.quantize(64), "png"),
        "I;16": (Image.fromarray(gray.astype(np.uint16) * 4), "tif"),
        "F": (Image.fromarray(np.where(gray > 200, np.nan, gray - 70.5).astype(np.float32)), "tif"),
    }[kind]
    image.save(tmp_path / f"a.{suffix}")
    whole = pixels(read_image(tmp_path / f"a.{suffix}"))
    for strip in (1, 100, 47 * 32):
        monkeypatch.setattr("vizkit.pixels._STRIP", strip)
        np.testing.assert_array_equal(pixels(read_image(tmp_path / f"a.{suffix}")), whole)


# ------------------------------------------------------------------ reduced scale


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory):
    """The same smooth picture, 1201 x 905 pixels, as JPEGs of several kinds; the one turned lies on its side."""
    folder = tmp_path_factory.mktemp("jpegs")
    upright = Image.fromarray(picture(905, 1201))
    kinds = {
        "rgb": (upright, {}),
        "progressive": (upright, {"progressive": True}),
        "full color": (upright, {"subsampling": 0}),
        "gray": (upright.convert("L"), {}),
        "cmyk": (upright.convert("CMYK"), {}),
        "turned": (Image.fromarray(np.ascontiguousarray(STORED[6](picture(905, 1201)))), {"exif": {0x0112: 6}}),
    }
    for name, (image, options) in kinds.items():
        exif = Image.Exif()
        exif.update(options.pop("exif", {}))
        image.save(folder / f"{name}.jpg", quality=92, exif=exif, **options)
    return folder


@pytest.mark.parametrize("name", ["rgb", "progressive", "full color", "gray", "cmyk", "turned"])
@pytest.mark.parametrize(
    ("at_least", "scale"),
    [
        *[(1, 8), (113, 8), (114, 4), (226, 4), (227, 2), (452, 2), (453, 1), (905, 1), (5000, 1)],
        *[((200, 600), 2), ((100, 301), 2), ((226, 300), 4), ((226, 301), 2), ((301, 226), 2), ((1, 1201), 1)],
    ],
)
def test_a_jpeg_is_decoded_at_the_smallest_scale_that_is_large_enough(jpegs, name, at_least, scale):
    whole = read_image(jpegs / f"{name}.jpg")
    assert whole.size == (1201, 905)
    found = read_image(jpegs / f"{name}.jpg", at_least=at_least)
    assert found.size == (-(-1201 // scale), -(-905 // scale))
    least = at_least if isinstance(at_least, tuple) else (at_least, at_least)
    assert found.height >= least[0] or scale == 1
    assert found.width >= least[1] or scale == 1
    if scale == 1:
        np.testing.assert_array_equal(pixels(found), pixels(whole))
    else:  # a smooth picture: a box filter is the truth
        boxed = whole.resize(found.size, Image.Resampling.BOX)
        assert mean_difference(found, boxed) < 2
        assert mean_difference(found.transpose(Image.Transpose.ROTATE_180), boxed) > 50


def test_the_first_picture_of_several_in_one_jpeg_is_reduced(tmp_path):
    first, second = Image.fromarray(picture(240, 320)), Image.new("RGB", (320, 240), "red")
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second], quality=92)
    with Image.open(tmp_path / "a.jpg") as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
    found = read_image(tmp_path / "a.jpg", at_least=60)
    assert found.size == (80, 60)
    assert mean_difference(found, first.resize((80, 60), Image.Resampling.BOX)) < 2


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".gif", ".bmp", ".avif", ".jp2"])
def test_only_jpegs_are_reduced(tmp_path, suffix):
    Image.fromarray(picture(240, 320)).save(tmp_path / f"a{suffix}")
    whole, found = read_image(tmp_path / f"a{suffix}"), read_image(tmp_path / f"a{suffix}", at_least=10)
    assert found.size == (320, 240)
    np.testing.assert_array_equal(pixels(found), pixels(whole))


def test_a_damaged_jpeg_is_a_failure_at_any_scale(jpegs, tmp_path):
    (tmp_path / "cut.jpg").write_bytes((jpegs / "rgb.jpg").read_bytes()[:-4000])
    with pytest.raises(ImageReadError, match=r"cut\.jpg' cannot be read: damaged or truncated .*Replace the file"):
        read_image(tmp_path / "cut.jpg", at_least=64)


@pytest.mark.parametrize("wrong", [0, -3, 2.5, True, "64", (64,), (64, 0), (1, 2, 3), (None, 5)])
def test_a_least_size_that_is_none_is_refused(tmp_path, wrong):
    with pytest.raises(InputError, match=r"at_least is .*; expected \(height, width\) or one side"):
        read_image(tmp_path / "a.jpg", at_least=wrong)


# ------------------------------------------------------------------ failures


def test_a_truncated_jpeg_is_a_failure_with_its_reason(tmp_path):
    file = io.BytesIO()
    Image.fromarray(picture(200, 300)).save(file, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(file.getvalue()[:-300])
    with pytest.raises(ImageReadError, match=r"cut\.jpg' cannot be read: damaged or truncated .*Replace the file"):
        read_image(tmp_path / "cut.jpg")


def test_an_empty_file_is_a_failure_with_its_reason(tmp_path):
    (tmp_path / "none.jpg").touch()
    with pytest.raises(ImageReadError, match=r"none\.jpg' cannot be read: the file is empty \(0 bytes\)\. Replace"):
        read_image(tmp_path / "none.jpg")


def test_a_missing_file_is_a_failure_with_its_reason(tmp_path):
    with pytest.raises(ImageReadError, match=r"gone\.jpg' cannot be read: the file is not there\. Put it back"):
        read_image(tmp_path / "gone.jpg")


def test_a_folder_with_an_image_name_is_a_failure(tmp_path):
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(ImageReadError, match=r"a\.jpg' cannot be read: it is a folder\. Give an image file"):
        read_image(tmp_path / "a.jpg")


def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(ImageReadError, match="it is no regular file"):
        read_image(tmp_path / "a.jpg")


def test_a_file_without_permission_is_a_failure_with_its_reason(tmp_path, monkeypatch):
    path = tmp_path / "locked.png"
    Image.fromarray(picture()).save(path)
    path.chmod(0)
    if os.geteuid() == 0:  # root reads everything, so the system's refusal is played

        def refuse(*args, **kwargs):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(ImageReadError, match=r"locked\.png' cannot be read: this user may not read.*Change its perm"):
        read_image(path)
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)


def test_text_under_an_image_name_is_a_failure(tmp_path):
    (tmp_path / "a.png").write_text("<html>not found</html>")
    with pytest.raises(ImageReadError, match="its content is no image format that Pillow knows"):
        read_image(tmp_path / "a.png")


def test_a_heic_photo_says_which_plugin_is_needed(tmp_path):
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 64)
    with pytest.raises(ImageReadError, match=r"needs a plug-in for this format\. Install pillow-heif"):
        read_image(tmp_path / "phone.heic")


def png_declaring(w, h):
    """A PNG of a few bytes whose header declares (h, w) pixels."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_refused_before_it_is_decoded():
    with pytest.raises(
        ImageReadError, match=r"decompression bomb: .*10000000000 pixels.*raise PIL\.Image\.MAX_IMAGE_PIX"
    ):
        as_image(png_declaring(100_000, 100_000))


def test_a_large_image_below_the_limit_is_read(tmp_path, monkeypatch):
    Image.fromarray(picture(100, 100)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6_000)  # Pillow warns above this and refuses above twice this
    with pytest.warns(Image.DecompressionBombWarning):
        np.testing.assert_array_equal(pixels(read_image(tmp_path / "a.png")), picture(100, 100))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4_000)
    with pytest.raises(ImageReadError, match="decompression bomb"):
        read_image(tmp_path / "a.png")


def test_reading_leaves_no_file_open(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:-40])
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH112, PTH208
    kept = [read_image(tmp_path / "a.png") for _ in range(20)]
    with pytest.raises(ImageReadError, match="damaged"):
        read_image(tmp_path / "b.png")
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH112, PTH208
    assert len(kept) == 20
    assert after == before


# ------------------------------------------------------------------ values in memory

SIDES = st.integers(1, 9)
SHAPES = st.one_of(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES, st.just(3)), st.tuples(SIDES, SIDES, st.just(1)))


def as_rgb(array):
    array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return np.repeat(array[..., None], 3, axis=2) if array.ndim == 2 else array


@given(hnp.arrays(np.uint8, SHAPES))
def test_uint8_arrays_come_back_as_they_went_in(array):
    np.testing.assert_array_equal(pixels(as_image(array)), as_rgb(array))


@given(hnp.arrays(np.uint8, SHAPES), st.sampled_from([np.float32, np.float64]))
def test_float_arrays_are_levels_over_255(array, dtype):
    np.testing.assert_array_equal(pixels(as_image((array / 255).astype(dtype))), as_rgb(array))


@given(hnp.arrays(np.uint8, SHAPES))
def test_uint16_arrays_are_levels_times_257(array):
    np.testing.assert_array_equal(pixels(as_image(array.astype(np.uint16) * 257)), as_rgb(array))


@settings(max_examples=25)
@given(hnp.arrays(np.uint8, SHAPES))
def test_a_lossless_file_comes_back_as_it_went_in(array):
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(as_rgb(array))).save(file, "PNG")
    np.testing.assert_array_equal(pixels(as_image(file.getvalue())), as_rgb(array))


def test_bool_rgba_and_strided_arrays_are_images():
    assert pixels(as_image(np.array([[True, False]])))[0].tolist() == [[255] * 3, [0] * 3]
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0]]], np.uint8)
    assert pixels(as_image(rgba))[0].tolist() == [[10, 20, 30], [255, 255, 255]]
    np.testing.assert_array_equal(pixels(as_image(picture()[::2, ::-1])), picture()[::2, ::-1])


def test_tensors_are_channels_first():
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(picture()).permute(2, 0, 1)
    for value in (tensor, tensor.float().div(255).requires_grad_()):
        np.testing.assert_array_equal(pixels(as_image(value)), picture())


def test_the_image_given_is_not_changed(tmp_path):
    source = Image.fromarray(picture())
    as_image(source).paste("black", (0, 0, 32, 48))
    np.testing.assert_array_equal(np.asarray(source), picture())
    array = picture()
    as_image(array).paste("black", (0, 0, 32, 48))
    np.testing.assert_array_equal(array, picture())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "given as NoneType; expected a PIL image, a path"),
        (3, "given as int; expected a PIL image"),
        ([[1, 2], [3, 4]], "given as list; expected a PIL image"),
        (np.zeros((3, 20, 30), np.uint8), r"shape \(3, 20, 30\).*Move the channels last"),
        (np.zeros((20, 30, 2), np.uint8), r"shape \(20, 30, 2\) is no image; expected \(h, w\), \(h, w, 3\)"),
        (np.zeros(12, np.uint8), r"shape \(12,\) is no image"),
        (np.zeros((0, 5, 3), np.uint8), r"shape \(0, 5, 3\) is no image"),
        (np.zeros((4, 4, 3), np.int64), "array of int64 is no image; expected uint8.*astype"),
        (np.full((4, 4), 200.0), r"from 200 to 200 is no image; expected \[0, 1\]\. Divide by 255, or undo the norm"),
        (np.full((4, 4), -1.0), r"from -1 to -1 is no image"),
        (np.full((4, 4), np.nan), r"from nan to nan is no image"),
        (np.zeros((4, 4), complex), "array of complex128 is no image"),
        (np.full((2, 2), "a"), "array of <U1 is no image"),
    ],
)
def test_what_is_no_image_is_refused_with_what_to_do(value, message):
    with pytest.raises(InputError, match=message):
        as_image(value)


# ------------------------------------------------------------------ real files


@pytest.fixture(scope="module")
def awkward(shared):
    return shared / "images" / "awkward"


def decoded_or_none(path, at_least):
    try:
        return pixels(read_image(path, at_least=at_least))
    except ImageReadError:
        return None


def manifest(folder):
    with (folder / "manifest.csv").open() as file:
        return list(csv.DictReader(file))


def test_each_awkward_file_is_read_or_fails_with_its_reason(awkward):
    reasons = {}
    for entry in manifest(awkward):
        try:
            size = read_image(awkward / entry["file"]).size
        except ImageReadError as error:
            reasons[entry["file"]] = str(error)
            continue
        w, h = map(int, entry["size"].split("x"))
        assert size == ((h, w) if entry["exif_orientation"] in ("5", "6", "7", "8") else (w, h)), entry["file"]
    assert set(reasons) == AWKWARD_FAILURES
    assert "no image format that Pillow knows" in reasons["broken.png"]
    assert "unrecognized data stream" in reasons["broken_data_stream.png"]
    assert "decompression bomb" in reasons["decompression_bomb.gif"]


def test_plain_awkward_files_equal_pillow_turned_upright(awkward):
    plain = [
        entry["file"]
        for entry in manifest(awkward)
        if entry["pil_mode"] in ("RGB", "CMYK") and entry["file"] not in AWKWARD_FAILURES
    ] + ["hopper_gray.jpg", "hopper_bad_exif.jpg"]
    assert len(plain) == 24
    for name in plain:
        with Image.open(awkward / name) as image:
            expected = ImageOps.exif_transpose(image).convert("RGB")
        np.testing.assert_array_equal(pixels(read_image(awkward / name)), np.asarray(expected), err_msg=name)


def test_one_photo_under_nine_orientations_is_one_photo(awkward):
    first = read_image(awkward / "exif_landscape_1.jpg")
    for orientation in (0, *range(2, 9)):
        assert mean_difference(read_image(awkward / f"exif_landscape_{orientation}.jpg"), first) < 5
    with Image.open(awkward / "exif_landscape_3.jpg") as stored:  # the measure does see an unturned photo
        assert mean_difference(stored.convert("RGB"), first) > 50


def test_awkward_twins_show_the_same_picture(awkward):
    hopper = read_image(awkward / "avif_hopper.avif")
    assert mean_difference(read_image(awkward / "pil_sample_cmyk.jpg"), read_image(awkward / "pil_sample_rgb.jpg")) < 6
    assert mean_difference(read_image(awkward / "hopper.Lab.tif"), hopper) < 8
    assert mean_difference(read_image(awkward / "hopper_orientation_6.webp"), hopper) < 8
    assert mean_difference(read_image(awkward / "hopper_gray.jpg"), as_image(hopper.convert("L"))) < 8


def test_awkward_lab_is_converted_by_its_definition(awkward):
    assert_lab_agrees(awkward / "hopper.Lab.tif")


def test_awkward_16_bit_and_float_keep_their_levels(awkward):
    with Image.open(awkward / "16bit.cropped.tif") as image:
        raw = np.asarray(image).astype(float)
    found = pixels(read_image(awkward / "16bit.cropped.tif"))
    np.testing.assert_array_equal(found[..., 1], np.rint(raw / 1023 * 255))  # 10 bits: values from 291 to 694
    with Image.open(awkward / "10ct_32bit_128.tiff") as image:
        raw = np.asarray(image).astype(float)
    found = pixels(read_image(awkward / "10ct_32bit_128.tiff"))
    np.testing.assert_array_equal(found[..., 1], np.rint((raw - raw.min()) / np.ptp(raw) * 255))


@pytest.mark.parametrize(
    "name",
    ["apng_mode_grayscale_alpha.png", "apng_mode_16bit.png", "l_trns.png", "p_16.png", "first_frame_transparency.gif"],
)
def test_awkward_transparency_is_over_white(awkward, name):
    with Image.open(awkward / name) as image:
        rgba = np.asarray(image.convert("RGBA")).astype(float)
    found = pixels(read_image(awkward / name))
    assert np.abs(found - over_white(rgba[..., :3], rgba[..., 3])).max() <= 1


def test_real_jpegs_look_the_same_at_half_their_size(awkward):
    reduced = 0
    for entry in manifest(awkward):
        name = entry["file"]
        if not name.lower().endswith(("jpg", "jpeg")):
            np.testing.assert_array_equal(
                *(decoded_or_none(awkward / name, at_least) for at_least in (None, 16)), err_msg=name
            )
            continue
        whole = read_image(awkward / name)
        found = read_image(awkward / name, at_least=min(whole.size) // 2)
        assert found.size == tuple(-(-side // 2) for side in whole.size), name
        w, h = whole.width // 2, whole.height // 2
        halved = whole.crop((0, 0, 2 * w, 2 * h)).reduce(2)
        assert mean_difference(found.crop((0, 0, w, h)), halved) < 5, name
        reduced += 1
    assert reduced == 20


def test_the_first_of_31_frames_is_taken(awkward):
    with Image.open(awkward / "chi.gif") as image:
        image.seek(image.n_frames - 1)
        last = as_image(image.copy())
        image.seek(0)
        rgba = np.asarray(image.convert("RGBA")).astype(float)
    found = read_image(awkward / "chi.gif")
    np.testing.assert_array_equal(pixels(found), over_white(rgba[..., :3], rgba[..., 3]))
    assert mean_difference(found, last) > 1
