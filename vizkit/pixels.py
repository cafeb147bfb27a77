"""Decode one image, whatever its kind, into upright 8-bit RGB pixels.

The rules, the same for a file, for bytes and for a picture already in memory:

- EXIF (and XMP) orientation is applied, then forgotten, so that nothing can apply it twice.
- Transparency is composited over white.
- Grayscale above 8 bits and floats are scaled into [0, 255], never clipped (`_scaled`).
- Palettes, CMYK, LAB (by LittleCMS) and the like are converted by Pillow.
- Animations give their first frame, stacks their first page.
- An embedded ICC profile is *not* applied: the published weights were trained on the plain values of Pillow's
  `convert("RGB")`, so that is what a network should see.
"""

import errno
import hashlib
import io
import operator
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from .errors import ImageReadError, InputError

# HEIC and JPEG XL need a Pillow plug-in. They count as images all the same, so that a folder of phone photos lists them
# as failures with that advice and does not pass over them in silence.
# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".apng", ".avif", ".avifs", ".bmp", ".dib", ".gif", ".heic", ".heif", ".ico", ".icns", ".j2k", ".jfif",
    ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx", ".jxl", ".mpo", ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm",
    ".psd", ".qoi", ".tga", ".tif", ".tiff", ".webp",
})
# fmt: on

_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PHOTOMETRIC = 262  # TIFF tag; 0 means that low values are white
_DEPTHS = (8, 10, 12, 14, 16)
_REDUCIBLE = ("JPEG", "MPO")
_STRIP = 1 << 22  # pixels that are converted at a time: several threads may hold an image of 100 million each


_Found = TypeVar("_Found")
_ADVICE = {
    errno.ELOOP: "It is a link that leads back to itself: remove it, or leave it out.",
    errno.ENAMETOOLONG: "Give it a shorter name, or move it up to a folder with a shorter path.",
    errno.EMFILE: "Too many files are open: close some, or raise the limit (ulimit -n), and run again.",
    errno.ENFILE: "Too many files are open: close some programs, and run again.",
}


class Failure(NamedTuple):
    """Why an image cannot be read, and what its owner can do about it."""

    reason: str
    advice: str

    @classmethod
    def of(cls, error: Exception, name: str = "") -> "Failure":
        """Explain an exception; `name` is the file's name, from which a missing plug-in is guessed."""
        if isinstance(error, FileNotFoundError):
            return cls("the file is not there", "Put it back, or leave it out.")
        if isinstance(error, PermissionError):
            return cls("this user may not read the file", "Change its permissions, or leave it out.")
        if isinstance(error, OSError) and error.errno:  # the system's; a decoder's errors have no number
            return cls(
                f"the system does not give the file ({error.strerror})",
                _ADVICE.get(error.errno, "Try again, copy it to another place, or leave it out."),
            )
        if isinstance(error, MemoryError):
            return cls("there is not enough memory for it", "Make it smaller, or free some memory and try again.")
        if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
            return cls(
                f"decompression bomb: {_sentence(error)}",
                "If you trust the file, raise PIL.Image.MAX_IMAGE_PIXELS and read it again.",
            )
        if isinstance(error, ValueError) and "MAX_TEXT" in str(error):
            return cls(
                f"its text is too long for Pillow ({_sentence(error)})",
                "Save it without metadata, or, if you trust it, raise PIL.PngImagePlugin.MAX_TEXT_CHUNK and _MEMORY.",
            )
        if isinstance(error, UnidentifiedImageError):
            plugin = {".heic": "pillow-heif", ".heif": "pillow-heif", ".jxl": "pillow-jxl-plugin"}
            needed = plugin.get(Path(name).suffix.lower())
            if needed:
                return cls("Pillow needs a plug-in for this format", f"Install {needed} and register it with Pillow.")
            return cls("its content is no image format that Pillow knows", "Replace the file, or leave it out.")
        text = _sentence(error) or "no further word"
        return cls(f"damaged or truncated ({type(error).__name__}: {text})", "Replace the file, or leave it out.")


def _sentence(error: Exception) -> str:
    return str(error).rstrip(".")


class _RefusedError(Exception):
    """Carries a failure that is known before or without Pillow."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


def read_image(path: str | os.PathLike[str], *, at_least: int | tuple[int, int] | None = None) -> Image.Image:
    """Read one file as an upright RGB image.

    Parameters
    ----------
    path
        A file in any format that Pillow opens.
    at_least
        What the image must not fall below, in pixels: (height, width) as it stands upright, or its shorter side. A JPEG
        may then be decoded at 1/2, 1/4 or 1/8 of its size. On photos of 4000 x 3000 this is about 3.5 times as fast,
        and not exact: of 200 photos, 99% kept their nearest neighbor (MobileNetV2) with twice the size that the network
        is given, 76% with that size itself. Other formats, and images that would fall below, are decoded whole.

    Returns
    -------
    PIL.Image.Image
        Mode "RGB", in memory, upright, without metadata. See the module's docstring for how each kind is converted.

    Raises
    ------
    ImageReadError
        The file is missing, may not be read, is no image, is damaged, or declares more pixels than twice
        `PIL.Image.MAX_IMAGE_PIXELS`; the message names the file, the reason and what to do.
    InputError
        `at_least` is no size in pixels.
    """
    path = Path(path)
    size = None if at_least is None else least_size(at_least)

    def decode() -> Image.Image:
        with _open(path) as file, Image.open(file) as image:
            if size is not None and image.format in _REDUCIBLE:
                image.draft(None, size[::-1] if _orientation(image) < 5 else size)
            return _upright_rgb(image)

    return _guarded(decode, f"Image file {str(path)!r}", path.name)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hex; ImageReadError says as `read_image` does why there is none."""

    def digest() -> str:
        with _open(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return _guarded(digest, f"Image file {str(path)!r}", path.name)


def _open(path: Path) -> io.BufferedReader:
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):  # asked before opening: a named pipe would block for ever
        kind = "a folder" if stat.S_ISDIR(state.st_mode) else "no regular file"
        raise _RefusedError(Failure(f"it is {kind}", "Give an image file."))
    if state.st_size == 0:
        raise _RefusedError(Failure("the file is empty (0 bytes)", "Replace the file, or leave it out."))
    return path.open("rb")


def least_size(at_least: Any) -> tuple[int, int]:
    """Return (height, width) of `at_least`, where one number bounds both; InputError where it is no size."""
    sides = at_least if isinstance(at_least, tuple | list) else (at_least, at_least)
    if len(sides) == 2 and all(hasattr(x, "__index__") and not isinstance(x, bool) and x >= 1 for x in sides):
        return operator.index(sides[0]), operator.index(sides[1])
    raise InputError(f"at_least is {at_least!r}; expected (height, width) or one side, whole numbers of pixels from 1.")


def as_image(value: Any) -> Image.Image:
    """Turn what a user may call an image into an upright RGB image.

    Parameters
    ----------
    value
        A PIL image; a path; the bytes of an image file; an array, (h, w), (h, w, 1), (h, w, 3) or (h, w, 4), uint8 in
        [0, 255], uint16 in [0, 65535], bool, or float in [0, 1]; or a tensor with the same values, (h, w) or channels
        first: (1, h, w), (3, h, w), (4, h, w). Channels are gray, RGB or RGBA.

    Returns
    -------
    PIL.Image.Image
        Mode "RGB", upright, a copy: `value` is not changed.

    Raises
    ------
    InputError
        `value` is none of these.
    ImageReadError
        A path or bytes that cannot be decoded.
    """
    if isinstance(value, Image.Image):
        return _guarded(lambda: _upright_rgb(value), f"Image {value!r}")
    if isinstance(value, str | os.PathLike):
        return read_image(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return _guarded(lambda: _decode_bytes(bytes(value)), f"Image of {len(value)} bytes")
    if hasattr(value, "detach"):  # a torch tensor, known without importing torch
        value = value.detach().cpu().numpy()
        if value.ndim == 3 and value.shape[0] in (1, 3, 4):
            value = np.moveaxis(value, 0, -1)
    if isinstance(value, np.ndarray):
        return _from_array(value)
    raise InputError(
        f"An image was given as {type(value).__name__}; expected a PIL image, a path, the bytes of an image file, or "
        "an array (h, w, 3) or (h, w), uint8 or float in [0, 1]."
    )


def _guarded(decode: Callable[[], _Found], what: str, name: str = "") -> _Found:
    """Run a decoder and say every failure as an ImageReadError about `what`."""
    try:
        return decode()
    except _RefusedError as refused:
        raise _error(what, refused.failure) from None
    # This is the edge to some 40 decoders: on damaged bytes they raise nearly anything (SyntaxError, struct.error,
    # IndexError, zlib.error, ...), and one file must not stop a run over thousands.
    except Exception as error:
        raise _error(what, Failure.of(error, name)) from error


def _error(what: str, failure: Failure) -> ImageReadError:
    return ImageReadError(f"{what} cannot be read: {failure.reason}. {failure.advice}")


def _decode_bytes(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content)) as image:
        return _upright_rgb(image)


def _upright_rgb(image: Image.Image) -> Image.Image:
    image.load()
    # After load(), not before: TIFF and AVIF turn the pixels themselves while loading and then take the tag away.
    turn = _TURN.get(_orientation(image))
    rgb = _to_rgb(image)
    if turn is not None:
        rgb = rgb.transpose(turn)
    if rgb is image:
        rgb = image.copy()
    rgb.info = {}
    return rgb


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # malformed EXIF raises many kinds of error; the picture itself is fine and is kept as it lies
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_scaled(image)).convert("RGB")
    if image.has_transparency_data:
        rgb = Image.new("RGB", image.size)
        for top, bottom in _strips(image):
            rgba = image.crop((0, top, image.width, bottom)).convert("RGBA")
            white = Image.new("RGBA", rgba.size, "white")
            rgb.paste(Image.alpha_composite(white, rgba).convert("RGB"), (0, top))
        return rgb
    return image if image.mode == "RGB" else image.convert("RGB")


def _strips(image: Image.Image) -> Iterator[tuple[int, int]]:
    """Cut an image into strips of rows (first, last + 1), so that what conversion needs beside it stays small."""
    step = max(1, _STRIP // image.width)
    return ((top, min(top + step, image.height)) for top in range(0, image.height, step))


def _scaled(image: Image.Image) -> NDArray[np.uint8]:
    """Scale integers of more than 8 bits, or floats, to (h, w) uint8.

    The range that becomes [0, 255] is the one that the data can be known to use: all 16 bits in a PNG, as its
    specification says; elsewhere 0 to the full scale of the smallest depth of 8, 10, 12, 14 or 16 bits that holds the
    values (cameras and microscopes store 10 to 14 bits in 16); [0, 1] for floats inside it. Other values (negative,
    more than 16 bits, floats beyond [0, 1]) have no known range: they are stretched from their lowest to their highest.
    """
    values, strips = np.asarray(image), [slice(*ends) for ends in _strips(image)]
    low, high = np.inf, -np.inf
    for strip in strips:
        if (finite := values[strip][np.isfinite(values[strip])]).size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    if low > high:
        raise _RefusedError(Failure("it holds no finite value", "Replace the file, or leave it out."))
    if image.mode == "F":
        known = (0.0, 1.0) if low >= 0 and high <= 1 else None
    elif image.format == "PNG":
        known = (0.0, 65535.0)
    else:
        depths = [2.0**bits - 1 for bits in _DEPTHS if high < 2**bits]
        known = (0.0, depths[0]) if depths and low >= 0 else None
    bottom, top = known or (low, high)
    inverted = getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0  # Pillow inverts such TIFFs at 8 bits only
    clear = image.info.get("transparency")  # a PNG's one transparent gray
    found = np.empty(values.shape, np.uint8)
    for strip in strips:
        part = values[strip].astype(np.float64)
        scaled = (np.where(np.isfinite(part), part, bottom) - bottom) / max(top - bottom, np.finfo(float).tiny)
        if inverted:
            scaled = 1.0 - scaled
        if isinstance(clear, int):
            scaled[part == clear] = 1.0
        found[strip] = np.rint(scaled * 255.0)
    return found


def _from_array(array: NDArray[Any]) -> Image.Image:
    shape = array.shape
    if array.ndim == 3 and shape[2] == 1:
        array = array[:, :, 0]
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        hint = " Move the channels last with numpy.moveaxis(array, 0, -1)." if shape[:1] in [(1,), (3,), (4,)] else ""
        raise InputError(f"An array of shape {shape} is no image; expected (h, w), (h, w, 3) or (h, w, 4).{hint}")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype == np.uint16:
        array = np.rint(array / 257.0).astype(np.uint8)
    elif np.issubdtype(array.dtype, np.floating):
        # Resampling overshoots [0, 1] by rounding; more than that is another scale.
        if not (array.min() >= -1e-3 and array.max() <= 1 + 1e-3):
            raise InputError(
                f"A float array with values from {array.min():.4g} to {array.max():.4g} is no image; expected [0, 1]. "
                "Divide by 255, or undo the normalization."
            )
        array = np.rint(np.clip(array.astype(np.float64), 0, 1) * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise InputError(
            f"An array of {array.dtype} is no image; expected uint8 in [0, 255] or float in [0, 1]. "
            "Convert it with array.astype(numpy.uint8)."
        )
    return _to_rgb(Image.fromarray(np.ascontiguousarray(array)))
