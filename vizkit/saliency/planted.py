"""Planted evidence: pairs of images that are alike in one place, which is known because it was put there."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..encoders import Encoder
from ..errors import ImageReadError, InputError
from ..images import ImageSet

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

AREAS = (0.18, 0.20)  # of the image that a planted part covers: half of the pairs each


@dataclass(frozen=True, eq=False)
class Planted:
    """Two images, as a network sees them, that share one part.

    Attributes
    ----------
    x_a, x_b
        (3, h, w) float32, preprocessed: pairs go into the network as they are.
    mask_a, mask_b
        (h, w) bool: where the shared part is.
    area
        Its share of the image, in (0, 1).
    """

    x_a: "Tensor"
    x_b: "Tensor"
    mask_a: "NDArray[np.bool_]"
    mask_b: "NDArray[np.bool_]"
    area: float


def planted_pairs(encoder: Encoder, images: ImageSet, n: int = 50, *, seed: int = 0) -> list[Planted]:
    """Return pairs of images into which one and the same image, made smaller, was put at places drawn at random.

    It is done to what the network sees, so the regions are exact under any preprocess. Three images are drawn for each
    pair: two that lie below, and one, shrunk (antialiased bilinear), that is put into both. Half of the pairs have
    18% of their area covered, half 20%.

    Parameters
    ----------
    encoder
        Whose preprocess is applied.
    images
        At least three that can be read.
    n
        Pairs.
    seed
        Of the images and places drawn.

    Raises
    ------
    InputError
        Fewer than three images can be read.
    """
    from torch.nn.functional import interpolate

    rng = np.random.default_rng(seed)
    read: dict[int, Tensor | None] = {}

    def image(row: int) -> "Tensor | None":
        if row not in read:
            try:
                read[row] = encoder.preprocess(images[row])
            except ImageReadError:
                read[row] = None
        return read[row]

    pairs = []
    for k in range(n):
        below_a, below_b, shared = _three(image, len(images), rng)
        h, w = shared.shape[1:]
        size = _size(h, w, AREAS[k % 2])
        small = interpolate(shared[None], size, mode="bilinear", antialias=True, align_corners=False)[0]
        (x_a, mask_a), (x_b, mask_b) = (_put(small, below, rng) for below in (below_a, below_b))
        pairs.append(Planted(x_a, x_b, mask_a, mask_b, float(mask_a.mean())))
    return pairs


def _three(image: "Callable[[int], Tensor | None]", count: int, rng: "np.random.Generator") -> "list[Tensor]":
    """Return three different images of `count`, drawn at random; those that cannot be read are passed over."""
    found = []
    for row in rng.permutation(count) if count < 10_000 else rng.choice(count, 1_000, replace=False):
        tensor = image(int(row))
        if tensor is not None:
            found.append(tensor)
        if len(found) == 3:
            return found
    raise InputError(f"Planted pairs need at least 3 images that can be read; {len(found)} of {count} can.")


def _size(h: int, w: int, area: float) -> tuple[int, int]:
    """Return height and width of a part of the image's proportions that covers `area` of it, to the pixel."""
    return max(1, round(h * area**0.5)), max(1, round(w * area**0.5))


def _put(part: "Tensor", below: "Tensor", rng: "np.random.Generator") -> "tuple[Tensor, NDArray[np.bool_]]":
    """Return a copy of an image (3, h, w) with a part put in at random, and where."""
    h, w = part.shape[1:]
    top, left = (int(rng.integers(0, whole - side + 1)) for whole, side in zip(below.shape[1:], (h, w), strict=True))
    result = below.clone()
    result[:, top : top + h, left : left + w] = part
    mask = np.zeros(tuple(below.shape[1:]), bool)
    mask[top : top + h, left : left + w] = True
    return result, mask
