"""From an upright RGB image to what a network gets: resize, crop, scale. Choices by name, beside the weights' own."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InputError, closest

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# What a name changes; the geometry (resize, crop, interpolation) stays that of the network's weights.
NAMES: dict[str, dict[str, Any]] = {
    "imagenet": {"mean": IMAGENET_MEAN, "std": IMAGENET_STD},
    "[0,1]": {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)},
    "[-1,1]": {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
    "grayscale": {"grayscale": True},
}


@dataclass(frozen=True)
class Preprocess:
    """Resize the shorter side, crop the middle, scale to [0, 1], take off `mean` and divide by `std`.

    The steps are torchvision's `ImageClassification`, so that pixels are those that its weights were measured with.

    Attributes
    ----------
    resize_size, crop_size
        Pixels: the shorter side after resizing, and the side of the square that is cut out of the middle.
    mean, std
        (3,) for R, G, B, of values in [0, 1].
    interpolation
        "bilinear" or "bicubic", antialiased.
    grayscale
        Whether the image is made gray first (ITU-R 601 luma, three equal channels).
    """

    resize_size: int = 256
    crop_size: int = 224
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    interpolation: str = "bilinear"
    grayscale: bool = False
    _steps: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms._presets import ImageClassification

        steps = ImageClassification(
            crop_size=self.crop_size,
            resize_size=self.resize_size,
            mean=tuple(self.mean),
            std=tuple(self.std),
            interpolation=InterpolationMode(self.interpolation),
        )
        object.__setattr__(self, "_steps", steps)

    def __call__(self, image: "Image.Image") -> "Tensor":
        """Return float32 (3, crop_size, crop_size) for an upright RGB image."""
        return self._steps(image.convert("L").convert("RGB") if self.grayscale else image)

    @classmethod
    def of(cls, transforms: Any) -> "Preprocess":
        """Return torchvision's own transforms of a set of weights in this form."""
        return cls(
            _one(transforms.resize_size),
            _one(transforms.crop_size),
            tuple(transforms.mean),
            tuple(transforms.std),
            transforms.interpolation.value,
        )


def named(name: str, base: Any) -> Preprocess:
    """Return the preprocess of a name, with the geometry of `base`, torchvision's transforms of a set of weights.

    Without a base, 256 and 224 pixels.

    Raises
    ------
    InputError
        No such name.
    """
    if name not in NAMES:
        raise InputError(
            f"No preprocess is named {name!r}.{closest(name, NAMES)} Choose one of {', '.join(map(repr, NAMES))}, or "
            "give a callable from a PIL image to a float tensor (3, h, w)."
        )
    return replace(Preprocess() if base is None else Preprocess.of(base), **NAMES[name])


def normalization(preprocess: Any) -> tuple[Any, Any]:
    """Return mean and std (3,) where a preprocess names them: torchvision's presets, or a Normalize in a Compose."""
    steps: list[Any] = [preprocess, *getattr(preprocess, "transforms", [])]
    for step in steps:
        if getattr(step, "mean", None) is not None and getattr(step, "std", None) is not None:
            return np.asarray(step.mean, float), np.asarray(step.std, float)
    return None, None


def described(preprocess: Any) -> dict[str, str]:
    """Return what a preprocess does, in words: resize, crop, interpolation, colors, mean, std."""
    unsaid = "as the preprocess says"
    mean, std = normalization(preprocess)

    def pixels(name: str) -> str:
        size = getattr(preprocess, name, None)
        return unsaid if size is None else f"{_one(size)} pixels"

    how = getattr(preprocess, "interpolation", None)
    return {
        "resize": pixels("resize_size"),
        "crop": pixels("crop_size"),
        "interpolation": unsaid if how is None else str(getattr(how, "value", how)),
        "colors": "gray in three channels" if getattr(preprocess, "grayscale", False) else "red, green, blue",
        "mean": unsaid if mean is None else ", ".join(f"{v:.3g}" for v in mean),
        "std": unsaid if std is None else ", ".join(f"{v:.3g}" for v in std),
    }


def _one(size: int | Sequence[int]) -> int:
    return size if isinstance(size, int) else size[0]
