"""Draw a scene from its factors: patterned paper, one shape cut out of another patterned paper, and confetti.

The shape is the label. Everything else is drawn without looking at it: hue, texture, size, rotation, place, background
and light. In every scene object and background share one lightness, one contrast and one saturation, are patterned from
the same six textures, and have edges of the same sharpness; small chips of stronger color and contrast lie on both. So
nothing but the outline gives the object away, and a map of saturation, of edges or of the centre does not find it.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .errors import InputError, closest

RENDERER = 1  # raise it when the same factors give other pixels: it is part of every scene's fingerprint
SCENE_SIZE = 64  # pixels a side

SHAPES = ("arrow", "bolt", "crescent", "cross", "disc", "heart", "ring", "square", "star", "triangle")
TEXTURES = ("blobs", "checks", "dots", "stripes", "waves", "zigzag")

_SUPERSAMPLING = 4
_CANVAS = (SCENE_SIZE * _SUPERSAMPLING, SCENE_SIZE * _SUPERSAMPLING)
_CHROMA = 0.1  # in OKLCH: the strongest that every hue has at the lightness of the papers
_N_CHIPS = 7
_CHIP_CHROMA = 0.16

Array = NDArray[np.float32]


class Range(NamedTuple):
    """The lowest and highest value of a factor, and what it means."""

    low: float
    high: float
    meaning: str


RANGES: Mapping[str, Range] = {
    "hue": Range(0, 1, "hue of the object on the OKLCH circle, in turns"),
    "size": Range(0.1, 0.9, "side of a square of the object's area, as a share of the image's side"),
    "rotation": Range(-360, 360, "of the object, in degrees, counter-clockwise"),
    "x": Range(0, 1, "of the object's centroid from the left, as a share of the image's side"),
    "y": Range(0, 1, "of the object's centroid from the top, as a share of the image's side"),
    "background_hue": Range(0, 1, "hue of the background on the OKLCH circle, in turns"),
    "lighting": Range(0.3, 1.3, "brightness of the light on the whole scene; 1 leaves the colors as they are"),
    "light_angle": Range(0, 360, "direction that the light comes from, in degrees counter-clockwise from the right"),
    "lightness": Range(0.5, 0.85, "mean OKLCH lightness of both papers"),
    "contrast": Range(0, 0.3, "difference in OKLCH lightness between the two tones of both papers"),
    "texture_period": Range(3, 16, "period of the object's texture, in pixels"),
    "texture_angle": Range(0, 360, "direction of the object's texture, in degrees"),
    "background_period": Range(3, 16, "period of the background's texture, in pixels"),
    "background_angle": Range(0, 360, "direction of the background's texture, in degrees"),
}
CHOICES: Mapping[str, tuple[str, ...]] = {"shape": SHAPES, "texture": TEXTURES, "background": TEXTURES}
# fmt: off
COLUMNS = (
    "shape", "hue", "texture", "size", "rotation", "x", "y", "background", "background_hue", "lighting", "light_angle",
    "lightness", "contrast", "texture_period", "texture_angle", "background_period", "background_angle", "seed",
)
# fmt: on

_STEPS = ((np.arange(SCENE_SIZE) + 0.5) / SCENE_SIZE - 0.5).astype(np.float32)
_X, _Y = np.meshgrid(_STEPS, _STEPS)


def check(factors: Mapping[str, Any]) -> None:
    """Raise an InputError if a factor is unknown or has a value that cannot be drawn."""
    for name, value in factors.items():
        number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        if name in CHOICES:
            if value not in CHOICES[name]:
                raise InputError(f"{name} cannot be {value!r}; choose one of {', '.join(CHOICES[name])}")
        elif name in RANGES:
            low, high, meaning = RANGES[name]
            if not (number and low <= value <= high):
                raise InputError(f"{name} cannot be {value!r}; give a number from {low} to {high} ({meaning})")
        elif name == "seed":
            if not (number and value == int(value) and 0 <= value < 2**32):
                raise InputError(f"seed cannot be {value!r}; give an integer from 0 to 2**32 - 1")
        else:
            raise InputError(f"a scene has no factor {name!r}; it has {', '.join(COLUMNS)}.{closest(name, COLUMNS)}")


def draw(factors: Mapping[str, Any]) -> Image.Image:
    """Draw a scene from its factors.

    Parameters
    ----------
    factors
        A value for each of `COLUMNS`.

    Returns
    -------
    PIL.Image.Image
        RGB, 64 x 64 pixels.

    Raises
    ------
    InputError
        A factor is unknown or has a value that cannot be drawn.
    """
    check(factors)
    seed = int(factors["seed"])
    chips = _uniform(seed, 0, _N_CHIPS * 12).reshape(_N_CHIPS, 12)
    # All colors in one call: the tones of both papers, dark before light, then the chips.
    tones = factors["lightness"] + factors["contrast"] * np.array([-0.5, 0.5, -0.5, 0.5])
    hues = np.array([factors["background_hue"]] * 2 + [factors["hue"]] * 2)
    colors = oklch_to_srgb(
        np.concatenate([tones, np.where(chips[:, 0] < 0.5, 0.6, 0.82)]),
        np.repeat([_CHROMA, _CHIP_CHROMA], [4, _N_CHIPS]),
        np.concatenate([hues, chips[:, 1]]),
    )
    below = _paper(factors, "background", colors[:2], _uniform(seed, 1, 14))
    above = _paper(factors, "texture", colors[2:4], _uniform(seed, 2, 14))
    cover = coverage(factors)[..., None]
    image = below * (1 - cover) + above * cover  # exact where the cover is 0 or 1
    image = _strew(image, chips, colors[4:])
    image *= _light(factors, _uniform(seed, 3, SCENE_SIZE**2))[..., None]
    return Image.fromarray((image.clip(0, 1) * 255 + 0.5).astype(np.uint8))


def coverage(factors: Mapping[str, Any]) -> Array:
    """Return how much of each pixel the object covers, (64, 64) float32 in [0, 1]."""
    points = outline(factors) * (SCENE_SIZE * _SUPERSAMPLING) - 0.5  # Pillow's coordinates name the middle of a pixel
    canvas = Image.new("L", _CANVAS)
    pen = ImageDraw.Draw(canvas)
    if factors["shape"] == "ring":
        half = len(points) // 2
        pen.polygon(points[:half].ravel().tolist(), fill=255)
        pen.polygon(points[half:].ravel().tolist(), fill=0)
    else:
        pen.polygon(points.ravel().tolist(), fill=255)
    return (np.asarray(canvas.reduce(_SUPERSAMPLING)) / 255).astype(np.float32)


def outline(factors: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the object's corners, (n, 2), x and y as shares of the image's side, y down; a ring has its hole last."""
    angle = math.radians(factors["rotation"])
    cos, sin = math.cos(angle), math.sin(angle)
    return _OUTLINES[factors["shape"]] @ [[cos, -sin], [sin, cos]] * factors["size"] + [factors["x"], factors["y"]]


def oklch_to_srgb(lightness: Any, chroma: Any, hue: Any) -> Array:
    """Turn OKLCH colors, (n,) each, hue in turns, into (n, 3) sRGB in [0, 1], clipped.

    References
    ----------
    Ottosson, "A perceptual color space for image processing", 2020.
    """
    a, b = chroma * np.cos(2 * np.pi * hue), chroma * np.sin(2 * np.pi * hue)
    lms = (np.stack([lightness + 0 * a, a, b], axis=-1) @ _LAB_TO_LMS.T) ** 3
    linear = (lms @ _LMS_TO_RGB.T).clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055).astype(np.float32)


_LAB_TO_LMS = np.array(
    [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
)
_LMS_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def _uniform(seed: int, stream: int, n: int) -> NDArray[np.float64]:
    """Return n numbers in [0, 1) that are the same in every version of numpy: SplitMix64 (Steele et al. 2014).

    Each part of a scene has a stream of its own, so that a part that needs more numbers moves no other.
    """
    z = np.arange(1, n + 1, dtype=np.uint64) + np.uint64((seed << 24) + (stream << 20))
    z *= np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _paper(factors: Mapping[str, Any], part: str, tones: Array, chance: NDArray[np.float64]) -> Array:
    """Return a whole sheet of the background's or the object's paper, (64, 64, 3) sRGB."""
    period, angle = factors[f"{part}_period"], math.radians(factors[f"{part}_angle"])
    cos, sin = math.cos(angle) * SCENE_SIZE / period, math.sin(angle) * SCENE_SIZE / period
    u, v = cos * _X + sin * _Y + float(chance[0]), cos * _Y - sin * _X + float(chance[1])
    return tones[0] + (tones[1] - tones[0]) * _PATTERNS[factors[part]](u, v, period, chance[2:])[..., None]


def _light(factors: Mapping[str, Any], chance: NDArray[np.float64]) -> Array:
    """Return what the colors are multiplied by, (64, 64): light from one side, and the grain of the paper."""
    angle = math.radians(factors["light_angle"])
    slope = math.cos(angle) * _X - math.sin(angle) * _Y
    grain = 0.985 + 0.03 * chance.astype(np.float32).reshape(SCENE_SIZE, SCENE_SIZE)
    return factors["lighting"] * (1 + 0.16 * slope) * grain


def _strew(image: Array, chips: NDArray[np.float64], colors: Array) -> Array:
    """Lay small chips anywhere on the scene, on object and background alike."""
    # Color and coverage in four plain channels: as "RGBA", Pillow would weigh the colors by the coverage once more.
    canvas = Image.new("CMYK", _CANVAS)
    pen = ImageDraw.Draw(canvas)
    for chip, color in zip(chips.tolist(), colors, strict=True):
        n = 3 + int(chip[2] * 3)
        radius = (1.3 + 1.0 * chip[3]) * _SUPERSAMPLING
        x, y = (place * SCENE_SIZE * _SUPERSAMPLING for place in chip[4:6])
        angles = [2 * math.pi * ((k + 0.5 * chip[6 + k]) / n + chip[11]) for k in range(n)]
        corners = [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]
        pen.polygon(corners, fill=(*(int(255 * c + 0.5) for c in color.tolist()), 255))
    # The canvas is zero where no chip lies, so its mean over a pixel is the color times the coverage.
    cover = (np.asarray(canvas.reduce(_SUPERSAMPLING)) / 255).astype(np.float32)
    return image * (1 - cover[..., 3:]) + cover[..., :3]


def _edge(distance: Array) -> Array:
    """Turn a signed distance in pixels into coverage: one pixel wide, as sharp as the outline of the object."""
    return (distance + 0.5).clip(0, 1)


def _band(u: Array, period: float) -> Array:
    """Return coverage of bands that fill half of every unit of u, which is `period` pixels."""
    return _edge((0.25 - np.abs(u - np.floor(u) - 0.5)) * period)


def _stripes(u: Array, v: Array, period: float, chance: NDArray[np.float64]) -> Array:
    return _band(u, period)


def _checks(u: Array, v: Array, period: float, chance: NDArray[np.float64]) -> Array:
    # A square is half a period wide; three quarters of a stripe's width keeps small ones from blurring into one tone.
    first, second = _band(u / 1.5, 1.5 * period), _band(v / 1.5, 1.5 * period)
    return first + second - 2 * first * second


def _dots(u: Array, v: Array, period: float, chance: NDArray[np.float64]) -> Array:
    radius = math.sqrt(0.5 / math.pi)  # half of the paper is dots
    u = u + 0.5 * (np.floor(v) % 2)
    return _edge((radius - np.hypot(u - np.floor(u) - 0.5, v - np.floor(v) - 0.5)) * period)


def _waves(u: Array, v: Array, period: float, chance: NDArray[np.float64]) -> Array:
    return _band(u + 0.3 * np.sin(np.pi * v), period)


def _zigzag(u: Array, v: Array, period: float, chance: NDArray[np.float64]) -> Array:
    # Bands that run at 45 degrees are narrower across, by the square root of 2.
    return _band(u + np.abs(v - 2 * np.floor(v / 2) - 1), period / math.sqrt(2))


def _blobs(u: Array, v: Array, period: float, chance: NDArray[np.float64]) -> Array:
    """Threshold a sum of six plane waves at zero: blots that fill half of the paper."""
    total, slope_u, slope_v = (np.zeros_like(u) for _ in range(3))
    for turn, phase in zip(chance[:6].tolist(), chance[6:].tolist(), strict=True):
        angle = math.pi * turn
        along_u, along_v = 4.4 * math.cos(angle), 4.4 * math.sin(angle)
        wave = along_u * u + along_v * v + 2 * math.pi * phase
        sine = np.sin(wave)
        total += np.cos(wave)
        slope_u += along_u * sine
        slope_v += along_v * sine
    return _edge(total / np.maximum(np.hypot(slope_u, slope_v), 1e-6) * period)


_PATTERNS: Mapping[str, Callable[[Array, Array, float, NDArray[np.float64]], Array]] = {
    "blobs": _blobs,
    "checks": _checks,
    "dots": _dots,
    "stripes": _stripes,
    "waves": _waves,
    "zigzag": _zigzag,
}


def _arc(radius: float, start: float, stop: float, n: int = 48) -> NDArray[np.float64]:
    angle = np.radians(np.linspace(start, stop, n))
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def _crescent() -> NDArray[np.float64]:
    """Return a disc less a smaller disc shifted to the right, cut where the circles meet."""
    shift, inner = 0.45, 0.8
    x = (1 - inner**2 + shift**2) / (2 * shift)
    outside, inside = math.degrees(math.acos(x)), math.degrees(math.atan2(math.sqrt(1 - x * x), x - shift))
    return np.concatenate([_arc(1, outside, 360 - outside), _arc(inner, 360 - inside, inside) + np.array([shift, 0])])


def _heart() -> NDArray[np.float64]:
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y], axis=-1)


def _cross() -> NDArray[np.float64]:
    arm = np.array([(1, 1), (1, 3), (-1, 3)])
    turns = ([[1, 0], [0, 1]], [[0, 1], [-1, 0]], [[-1, 0], [0, -1]], [[0, -1], [1, 0]])
    return np.concatenate([arm @ turn for turn in turns])


def _normalized(points: Any) -> NDArray[np.float64]:
    """Move a polygon's centroid to zero and scale its area to one, so that size says nothing about the shape."""
    points = np.asarray(points, np.float64)
    x, y = points.T
    cross = x * np.roll(y, -1) - np.roll(x, -1) * y
    area = cross.sum() / 2
    center = np.array([((x + np.roll(x, -1)) * cross).sum(), ((y + np.roll(y, -1)) * cross).sum()]) / (6 * area)
    return (points - center) / math.sqrt(abs(area))


_OUTLINES: Mapping[str, NDArray[np.float64]] = {
    "arrow": _normalized([(0, -3.2), (2.6, 0), (1, 0), (1, 3), (-1, 3), (-1, 0), (-2.6, 0)]),
    "bolt": _normalized([(1.2, -3.6), (-1.9, 0.5), (-0.1, 0.5), (-1.2, 3.6), (1.9, -0.7), (0.1, -0.7)]),
    "crescent": _normalized(_crescent()),
    "cross": _normalized(_cross()),
    "disc": _normalized(_arc(1, 0, 360)),
    "heart": _normalized(_heart()),
    "ring": _normalized(np.concatenate([_arc(1, 0, 360), _arc(0.58, 360, 0)])),
    "square": _normalized(_arc(1, -45, 225, 4)),
    "star": _normalized(np.where(np.arange(10) % 2, 0.42, 1.0)[:, None] * _arc(1, -90, 234, 10)),
    "triangle": _normalized(_arc(1, -90, 150, 3)),
}
