"""Whatever lies in a folder: the run ends, and each file gives a vector or a failure that says what to do.

`TABLE` is the list of what may lie there and of what each must give.
"""

import gzip
import io
import os
import re
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from drawn import photo, tiny_network, to_tensor_32
from PIL import Image, PngImagePlugin

import vizkit as vk
from vizkit import images as images_module
from vizkit.errors import InputError

SHOWN = photo(1)  # what every file below shows that shows anything
OTHER = photo(2)
NAN, RAISES, SHAPE = (Image.new("RGB", (8, 8), color) for color in ("#010203", "#030201", "#020301"))

# ------------------------------------------------------------------ how a file is made


def saved(image: Image.Image = SHOWN, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.copy().save(file, kind, **options)  # a JPEG's settings would stay on the picture itself
    return file.getvalue()


def cut(kind: str, keep: float | int, **options) -> bytes:
    """Return the first bytes of a file: a share of them, or a number (below 0: all but so many)."""
    content = saved(kind=kind, **options)
    return content[: int(keep * len(content)) if isinstance(keep, float) else keep]


def exif(orientation: int, turn: Image.Transpose | None) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return saved(SHOWN.transpose(turn) if turn is not None else SHOWN, exif=tags)


def chunk(kind: bytes, body: bytes, crc: int | None = None) -> bytes:
    return (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) if crc is None else crc)
    )


def with_chunk(extra: bytes) -> bytes:
    """Put a chunk behind a PNG's header."""
    content = saved()
    return content[:33] + extra + content[33:]


def one_color(width: int, height: int) -> bytes:
    """Return a white PNG with 1 bit a pixel: small as a file, whatever its size."""
    squeeze = zlib.compressobj(1)
    rows = (b"\0" + b"\xff" * -(-width // 8)) * 100
    body = b"".join(squeeze.compress(rows) for _ in range(height // 100)) + squeeze.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def text_chunk(size: int, kind: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    if kind == "iTXt":
        info.add_itxt("prompt", "x" * size, zip=True)
    else:
        info.add_text("prompt", "x" * size, zip=True)
    return saved(pnginfo=info)


def with_alpha() -> Image.Image:
    image = SHOWN.convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 20, 20))
    return image


def over_white() -> Image.Image:
    image = SHOWN.copy()
    image.paste("white", (0, 0, 20, 20))
    return image


def gray_16() -> bytes:
    return saved(Image.fromarray(np.asarray(SHOWN.convert("L")).astype(np.uint16) * 257))


def float_tiff(*holes) -> bytes:
    values = np.asarray(SHOWN.convert("L")).astype(np.float32) / 255
    values.ravel()[: len(holes)] = holes
    values[-1, -2:] = 0, 1
    return saved(Image.fromarray(values), "TIFF")


def bmp(width: int, height: int) -> bytes:
    content = bytearray(saved(kind="BMP"))
    struct.pack_into("<ii", content, 18, width, height)
    return bytes(content)


def bad_exif() -> bytes:
    return saved(kind="JPEG", quality=95, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12garbage" * 9)


def several(kind: str, **options) -> bytes:
    return saved(kind=kind, save_all=True, append_images=[OTHER.copy(), OTHER.copy()], **options)


# ------------------------------------------------------------------ the table


class Row(NamedTuple):
    """A file's name, how it comes to be, what it must give, and what happens to it while the run goes on.

    `make`: the bytes, or a function that makes the file. `gives`: the picture whose vector it has, None where any
    vector will do, or what the reason of its failure must match. `then`: what is done to it once it is "listed" or
    "hashed".
    """

    name: str
    make: bytes | Callable[[Path], object]
    gives: Image.Image | str | None
    then: tuple[str, Callable[[Path], object]] | None = None


REPLACE = r"(Replace the file, or leave it out\.)$"
UNKNOWN = r"its content is no image format that Pillow knows\. " + REPLACE
DAMAGED = r"damaged or truncated \(.+\)\. " + REPLACE
PLAIN, GRAY = saved(), SHOWN.convert("L")
LONG = "x" * 251
DEEP = "/".join(["y" * 200] * 5)

TABLE = [
    # ---- cut short, or never an image
    Row("empty.jpg", b"", r"the file is empty \(0 bytes\)\. " + REPLACE),
    Row("one byte.jpg", b"\xff", UNKNOWN),
    Row("zeros.png", bytes(5000), UNKNOWN),
    Row("text.jpg", b"this is no image", UNKNOWN),
    Row("page.png", b"<!doctype html><title>404</title>", UNKNOWN),
    Row("pointer.jpg", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", UNKNOWN),
    Row("bomb.png", gzip.compress(bytes(10_000_000), 1), UNKNOWN),
    Row("cut at 3.jpg", cut("JPEG", 3), UNKNOWN),
    Row("cut at 100.jpg", cut("JPEG", 100), DAMAGED),
    Row("cut in half.jpg", cut("JPEG", 0.5), DAMAGED),
    Row("cut in half, progressive.jpg", cut("JPEG", 0.5, progressive=True), DAMAGED),
    Row("cut by 300.jpg", cut("JPEG", -300), DAMAGED),
    Row("cut in half.png", cut("PNG", 0.5), DAMAGED),
    Row("cut in half.webp", cut("WEBP", 0.5), DAMAGED),
    Row("cut in half.gif", cut("GIF", 0.5), DAMAGED),
    Row("cut in half.tif", cut("TIFF", 0.5), DAMAGED),
    Row("cut in half.bmp", cut("BMP", 0.5), DAMAGED),
    Row("cut in half.avif", cut("AVIF", 0.5), UNKNOWN),
    # ---- damaged inside
    Row("bad header sum.png", PLAIN[:29] + b"\0\0\0\0" + PLAIN[33:], UNKNOWN),
    Row("flipped bits.png", PLAIN[:2000] + bytes(byte ^ 255 for byte in PLAIN[2000:2040]) + PLAIN[2040:], DAMAGED),
    Row("bad data sum.png", PLAIN[:-16] + b"\0\0\0\0" + PLAIN[-12:], SHOWN),  # the pixels have a sum of their own
    Row("absurd width.bmp", bmp(2**30, 3), r"decompression bomb: .* raise PIL\.Image\.MAX_IMAGE_PIXELS"),
    Row("no size.bmp", bmp(0, 0), UNKNOWN),
    Row("broken exif.jpg", bad_exif(), SHOWN),
    Row("broken profile.jpg", saved(kind="JPEG", quality=95, icc_profile=b"no profile at all"), SHOWN),
    Row("broken profile.png", with_chunk(chunk(b"iCCP", b"x\0\0" + b"garbage")), SHOWN),
    Row("long text.png", text_chunk(3_000_000, "iTXt"), r"text is too long for Pillow .*Save it without metadata"),
    Row("long zipped text.png", text_chunk(3_000_000, "zTXt"), r"text is too long for Pillow .*MAX_TEXT_CHUNK"),
    # ---- odd, and fine
    Row("a png.jpg", PLAIN, SHOWN),
    Row("a jpeg.png", saved(kind="JPEG", quality=95), SHOWN),
    Row("UPPER.JPG", saved(kind="JPEG", quality=95), SHOWN),
    Row("upper.jpg", saved(OTHER, kind="JPEG", quality=95), OTHER),
    Row("16 bits.png", gray_16(), GRAY),
    Row("1 bit.png", saved(SHOWN.convert("1")), SHOWN.convert("1")),
    Row("palette.png", saved(SHOWN.quantize(255)), SHOWN),
    Row("alpha.png", saved(with_alpha()), over_white()),
    Row("palette with alpha.png", saved(with_alpha().quantize(255)), over_white()),
    Row("cmyk.jpg", saved(SHOWN.convert("CMYK"), "JPEG", quality=95), SHOWN),
    Row("gray.jpg", saved(GRAY, "JPEG", quality=95), GRAY),
    Row("moves.gif", several("GIF"), SHOWN),
    Row("moves.webp", several("WEBP", lossless=True), SHOWN),
    Row("moves.png", several("PNG"), SHOWN),
    Row("pages.tif", several("TIFF"), SHOWN),
    Row("two views.jpg", several("MPO", quality=95), SHOWN),
    Row("floats.tif", float_tiff(), GRAY),
    Row("floats with holes.tif", float_tiff(np.nan, np.inf, -np.inf), GRAY),
    Row("nothing but nan.tif", saved(Image.fromarray(np.full((9, 9), np.nan, np.float32)), "TIFF"), "no finite value"),
    *[
        Row(f"orientation {value}.png", exif(value, turn), SHOWN)
        for value, turn in enumerate([None, 0, 3, 1, 5, 2, 6, 4], start=1)  # how Pillow numbers the ways to turn
    ],
    Row("orientation 77.png", exif(77, None), SHOWN),
    Row("dot.png", saved(Image.new("RGB", (1, 1), "red")), Image.new("RGB", (1, 1), "red")),
    Row("strip.png", saved(Image.new("RGB", (1, 5000), "red")), Image.new("RGB", (9, 9), "red")),
    Row("line.jpg", saved(Image.new("RGB", (5000, 1), "red"), "JPEG"), None),
    # ---- needs a plug-in
    Row("phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), r"plug-in.*Install pillow-heif and register"),
    Row("new.jxl", b"\xff\x0a" + bytes(64), r"plug-in for this format\. Install pillow-jxl-plugin and register"),
    # ---- too large
    Row(
        "30,000 x 30,000.png",
        lambda path: path.write_bytes(one_color(30_000, 30_000)),
        r"decompression bomb: .*900000000 pixels.*MAX_IMAGE_PIXELS",
    ),
    Row("9,500 x 9,500.png", lambda path: path.write_bytes(one_color(9_500, 9_500)), Image.new("RGB", (9, 9), "white")),
    # ---- names
    Row("ünï cødé 図 🐟.png", PLAIN, SHOWN),
    Row("e\u0301.png", PLAIN, SHOWN),
    Row("\u00e9.png", saved(OTHER), OTHER),
    Row("two\nlines\r\t.png", PLAIN, SHOWN),
    Row("""'quotes' "and" `ticks`.png""", PLAIN, SHOWN),
    Row("<script>alert(1)<\u2044script>&amp;.png", PLAIN, SHOWN),
    Row("-rf --help %s {} $HOME \\n.png", PLAIN, SHOWN),
    Row(" \u202egnp.png", PLAIN, SHOWN),
    Row("bytes \udcff\udcfe.png", PLAIN, SHOWN),
    Row("bad bytes \udce9.png", b"x", UNKNOWN),
    Row(f"{LONG}.png", PLAIN, SHOWN),
    Row(f"{LONG}.jpg", b"x", UNKNOWN),
    Row(f"{DEEP}/deep.png", PLAIN, SHOWN),
    Row(f"{DEEP}/broken.png", b"x", UNKNOWN),
    Row("broken\n<b>'\".png", b"x", UNKNOWN),
    # ---- links, pipes and folders
    Row("link.png", lambda path: path.symlink_to("a png.jpg"), SHOWN),
    Row("hard link.png", lambda path: path.hardlink_to(path.with_name("a png.jpg")), SHOWN),
    Row("link to nowhere.png", lambda path: path.symlink_to("nowhere.png"), r"the file is not there\. Put it back, or"),
    Row("circle.png", lambda path: path.symlink_to("circle.png"), "leads back to itself: remove it"),
    Row("pipe.png", os.mkfifo, r"it is no regular file\. Give an image file\.$"),
    Row("endless.png", lambda path: path.symlink_to("/dev/zero"), r"it is no regular file\. Give an image file\.$"),
    # ---- changed while the run goes on
    Row("deleted once listed.png", PLAIN, r"the file is not there\. Put it back", ("listed", Path.unlink)),
    Row("deleted once hashed.png", saved(photo(3)), r"the file is not there\. Put it back", ("hashed", Path.unlink)),
    Row("emptied.png", saved(photo(4)), "empty .0 bytes", ("hashed", lambda path: path.write_bytes(b""))),
    Row("replaced.png", saved(photo(5)), OTHER, ("hashed", lambda path: path.write_bytes(saved(OTHER)))),
    Row("grown.png", saved(photo(6)), photo(6), ("hashed", lambda path: path.write_bytes(saved(photo(6)) + b"more"))),
    Row("became a pipe.png", saved(photo(7)), "no regular file", ("hashed", lambda p: (p.unlink(), os.mkfifo(p)))),
    # ---- fine files that the network or its preprocess cannot bear
    Row("nan.png", saved(NAN), r"the network gave NaN or infinity for it\."),
    Row("raises.png", saved(RAISES), "preprocess failed with RuntimeError: not this one"),
    Row("shape.png", saved(SHAPE), r"preprocess .*\(3, 16, 16\).*\(3, 32, 32\)"),
]
NAMES = [row.name for row in TABLE]
PASSED_OVER = [".hidden.png", ".folder/x.png", "notes.txt", "Thumbs.db", "no suffix", "folder.jpg/notes.txt"]
GOOD = {f"good/{i}.png": photo(100 + i) for i in range(20)}


class Network(torch.nn.Module):
    """The tiny network; NaN for the one picture that is all #010203."""

    def __init__(self):
        super().__init__()
        self.body = tiny_network()

    def forward(self, x):
        mark = x.new_tensor([1.0, 2.0, 3.0]).div(127.5).sub(1)[:, None, None]
        wrong = ((x - mark).abs().flatten(1).amax(1) < 1e-4).float()
        return self.body(x + torch.where(wrong > 0, torch.nan, 0.0)[:, None, None, None])


def preprocess(image):
    first = image.getpixel((0, 0))
    if first == RAISES.getpixel((0, 0)):
        raise RuntimeError("not this one")
    tensor = to_tensor_32(image)
    return tensor[:, ::2, ::2] if first == SHAPE.getpixel((0, 0)) else tensor


@pytest.fixture(scope="module")
def encoder():
    return vk.Encoder(Network(), layer="body.5", preprocess=preprocess)


def id_of(name):
    """Return the id of a file: its name, with bytes that are no UTF-8 written out."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def fill(folder, rows):
    """Make the rows' files."""
    for row in rows:
        path = folder / row.name
        made = folder
        for part in Path(row.name).parts[:-1]:  # one at a time: all at once is too long a name
            made = made / part
            made.mkdir(exist_ok=True)
        if callable(row.make):
            row.make(path)
        else:
            path.write_bytes(row.make)


@pytest.fixture(scope="module")
def everything(tmp_path_factory, encoder):
    """Embed one folder with all rows of the table in it and twenty good photos among them."""
    top = tmp_path_factory.mktemp("everything")
    folder = top / "photos"
    (folder / "good").mkdir(parents=True)
    for name, image in GOOD.items():
        image.save(folder / name)
    for name in PASSED_OVER:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(PLAIN)
    fill(folder, TABLE)
    images = vk.ImageSet.from_folder(folder)
    actions = {folder / row.name: row.then for row in TABLE if row.then}
    do(actions, "listed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images_module, "hash_file", hashing_then(actions, images_module.hash_file))
        with pytest.warns(Image.DecompressionBombWarning):
            found = vk.embed(images, encoder, cache=top / "cache", progress=False)
    return images, found


def do(actions, moment, only=None):
    for path, (when, action) in actions.items():
        if when == moment and only in (None, path):
            action(path)


def hashing_then(actions, hash_file):
    """Return a hash_file after which the file is changed: another program is that fast."""

    def hash_and_change(path):
        found = hash_file(path)
        do(actions, "hashed", path)
        return found

    return hash_and_change


# ------------------------------------------------------------------ the tests


def test_the_table_is_long_and_names_each_file_once():
    assert len(TABLE) >= 45
    assert len(set(NAMES)) == len(NAMES)


def test_every_file_listed_is_in_exactly_one_of_vectors_and_failures(everything):
    images, found = everything
    assert sorted(images.ids) == sorted(map(id_of, [*NAMES, *GOOD]))
    assert sorted([*found.ids, *found.failures["id"]]) == sorted(images.ids)
    assert found.ids == [id for id in images.ids if id in set(found.ids)]
    assert np.isfinite(found.vectors).all()


def test_good_images_are_as_in_a_folder_without_the_bad_ones(everything, encoder, tmp_path):
    (tmp_path / "photos" / "good").mkdir(parents=True)
    for name, image in GOOD.items():
        image.save(tmp_path / "photos" / name)
    clean = vk.embed(vk.ImageSet.from_folder(tmp_path / "photos"), encoder, cache=tmp_path / "cache", progress=False)
    assert clean.ids == sorted(GOOD)
    found = everything[1]
    np.testing.assert_allclose(found.vectors[[found.row(id) for id in clean.ids]], clean.vectors, rtol=0, atol=1e-5)
    assert len(np.unique(clean.vectors.round(3), axis=0)) == len(GOOD)  # they do differ


@pytest.mark.parametrize("row", TABLE, ids=lambda row: ascii(row.name[:40]))
def test_each_file_gives_what_the_table_says(everything, encoder, row):
    found, id = everything[1], id_of(row.name)
    if isinstance(row.gives, str):
        (failure,) = found.failures[found.failures["id"] == id].itertuples()
        assert re.search(row.gives, failure.reason), failure.reason
        assert repr(id)[1:-1] in failure.reason or id in failure.reason
        assert failure.path.endswith(f"/{id}")
        return
    assert id in found.ids, list(found.failures["reason"][found.failures["id"] == id])
    if row.gives is not None:
        vector, expected = found.vectors[found.row(id)], encoder.embed_image(row.gives.convert("RGB"))
        assert distance(vector, expected) < 0.03


def distance(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def test_every_reason_ends_with_what_to_do(everything):
    words = (
        "Replace|Put|Give|Install|If you trust|Save|It is a link that leads back to itself: remove|Repair|Look at|"
        "Leave the image out"
    )
    failures = everything[1].failures
    unhelpful = [reason for reason in failures["reason"] if not re.search(rf"[.:] (?:{words})\b[^.]*.*\.$", reason)]
    assert len(failures) >= 40
    assert unhelpful == []


def test_a_second_run_gives_the_same_again(everything, encoder):
    images, first = everything
    second = vk.embed(images, encoder, cache=images.paths[0].parents[1] / "cache", progress=False)
    assert second.ids == first.ids
    assert second.vectors.tobytes() == first.vectors.tobytes()
    assert second.failures.equals(first.failures)


def test_pictures_that_differ_are_further_apart_than_the_table_allows(encoder):
    vectors = [encoder.embed_image(image.convert("RGB")) for image in (SHOWN, OTHER, GRAY, over_white(), photo(5))]
    assert min(distance(a, b) for a in vectors for b in vectors if a is not b) > 0.06


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: None, r"is not a folder\. Check the spelling"),
        (lambda folder: folder.write_bytes(PLAIN), r"it is a file\. Give the folder that it is in"),
        (lambda folder: folder.mkdir(), r"No image in .*: 0 other files\. Expected names that end in \.jpg"),
        (lambda folder: (folder.mkdir(), (folder / "a.txt").touch()), r"No image in .*: 1 other file\. Expected names"),
        (lambda folder: (folder.mkdir(), (folder / ".a.png").touch()), r"No image in .*: 0 other files\. Expected"),
        (lambda folder: folder.symlink_to(folder), r"is not a folder\. Check the spelling"),
        (lambda folder: os.mkfifo(folder), r"is not a folder; it is a file"),
        (lambda folder: (folder.mkdir(), (folder / "a").symlink_to(folder)), "No image in .*from_frame takes any list"),
    ],
)
def test_a_folder_without_images_is_refused_with_what_to_do(tmp_path, make, reason):
    make(tmp_path / "photos")
    with pytest.raises(InputError, match=reason):
        vk.ImageSet.from_folder(tmp_path / "photos")


@pytest.fixture
def as_another_user():
    """Give a folder, and a function after which the process may not read what others forbid: root may read all."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        root = os.geteuid() == 0
        try:
            yield folder, (lambda: os.seteuid(65534)) if root else (lambda: None)
        finally:
            if root:
                os.seteuid(0)
            for path in (folder / "photos").iterdir():
                path.chmod(0o777)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="this system has no users to forbid a file to")
def test_what_may_not_be_read_is_said_and_the_rest_goes_on(as_another_user, encoder):
    folder, become_another = as_another_user
    photos = folder / "photos"
    for name in ("fine.png", "locked.png", "closed/1.png", "shut/1.png"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(PLAIN)
    images = [photos / "locked.png", photos / "closed"]
    for path in images:
        path.chmod(0)
    listed = vk.ImageSet.from_frame(pd.DataFrame({"path": ["fine.png", "shut/1.png"]}), root=photos)
    (photos / "shut").chmod(0)
    become_another()
    with pytest.warns(UserWarning, match=r"cannot be listed \(Permission denied\); its images are missing"):
        images = vk.ImageSet.from_folder(photos)
    assert images.ids == ["fine.png", "locked.png"]
    for each, failed in ((images, "locked.png"), (listed, "1")):
        found = vk.embed(each, encoder, cache=folder / "cache", progress=False)
        assert distance(found.vectors[0], encoder.embed_image(SHOWN)) < 1e-5
        assert list(found.failures["id"]) == [failed]
        advice = r"this user may not read the file\. Change its permissions, or leave it out\.$"
        assert re.search(advice, found.failures["reason"][0])


def test_awkward_real_files_give_a_vector_each_or_a_failure(shared, encoder, tmp_path):
    folder = shared / "images" / "awkward"
    images = vk.ImageSet.from_folder(folder)
    assert len(images) == 35 or len(images) == 36
    found = vk.embed(images, encoder, cache=tmp_path, progress=False)
    assert set(found.failures["id"]) == {"broken.png", "broken_data_stream.png", "decompression_bomb.gif"}
    assert sorted([*found.ids, *found.failures["id"]]) == sorted(images.ids)
    turned = [found.vectors[found.row(f"exif_landscape_{value}.jpg")] for value in range(1, 9)]
    assert max(distance(vector, turned[0]) for vector in turned) < 0.03
    gray = found.vectors[found.row("hopper_gray.jpg")]
    assert distance(gray, turned[0]) > 0.06
