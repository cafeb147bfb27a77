"""From an upright RGB image to what a network gets: resize, crop, scale. Choices by name, beside the weights' own.

What a preprocess does to colors is measured on plain images, so that it is known for any callable. Resize and crop are
read where the steps are torchvision's, timm's or open_clip's, and measured on ramps elsewhere.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .errors import InputError, closest
from .measured import measured_colors, measured_sizes

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

# Steps of these packages, by class: they change values and leave every pixel where it is.
_PACKAGES = ("torchvision", "timm", "open_clip")
_TO_TENSOR = ("ToTensor", "PILToTensor", "ToImage", "MaybeToTensor", "MaybePILToTensor")
_VALUES = (*_TO_TENSOR, "ConvertImageDtype", "ToDtype", "ToPureTensor", "Normalize", "Grayscale", "RGB",
           "MaybeConvertMode", "_convert_to_rgb", "Identity")  # fmt: skip
_TOO_MANY = 100e6  # pixels of a resized image: of a strip so long, the middle alone is resized
_READABLE = (("Resize",), ("Resize", "CenterCrop"), ("ResizeKeepRatio", "CenterCrop"),
             ("ResizeKeepRatio", "CenterCropOrPad"))  # fmt: skip


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
    def of(cls, base: Any) -> "Preprocess":
        """Return the transforms of a set of weights, torchvision's, timm's or open_clip's, in this form.

        Raises
        ------
        InputError
            It is no resize of the shorter side and square crop of the middle, or its steps cannot be read.
        """
        if isinstance(base, Preprocess):
            return base
        geometry, colors = _read_geometry(base), measured_colors(base)
        if geometry is None or geometry.preset is None or colors.mean is None or colors.std is None:
            what = " (a squash keeps no proportions)" if geometry and geometry.resize.startswith("squash") else ""
            raise InputError(
                f"The preprocess here is a {type(base).__name__} whose resize and crop cannot be taken over{what}: "
                "expected a resize of the shorter side, then a square crop of the middle, as steps of torchvision, "
                "timm or open_clip. Give the whole preprocess as a callable instead of a name."
            )
        mean, std = _as_written(base, colors.mean, colors.std)
        resize, crop, interpolation = geometry.preset
        return cls(resize, crop, mean, std, interpolation)


def named(name: str, base: Any) -> Preprocess:
    """Return the preprocess of a name, with the geometry of `base`, the transforms of a set of weights.

    Without a base, 256 and 224 pixels.

    Raises
    ------
    InputError
        No such name, or the base has no geometry that can be taken over.
    """
    if name not in NAMES:
        raise InputError(
            f"No preprocess is named {name!r}.{closest(name, NAMES)} Choose one of {', '.join(map(repr, NAMES))}, or "
            "give a callable from a PIL image to a float tensor (3, h, w)."
        )
    return replace(Preprocess() if base is None else Preprocess.of(base), **{"grayscale": False, **NAMES[name]})


def described(preprocess: Any) -> dict[str, str]:
    """Return what a preprocess does, in words: resize, crop, interpolation, colors, mean, std, range.

    Sizes and interpolation are read where the steps are known, or measured; the rest is measured. What is neither says
    that it is not known, and why where that was found out.
    """
    colors = measured_colors(preprocess)
    geometry = _read_geometry(preprocess)
    if geometry is None:
        resize, crop = measured_sizes(preprocess, colors)
        geometry = _Geometry(resize, crop, _interpolation(preprocess))
    unknown = f"not known: {colors.reason}" if colors.reason else "not known"

    def numbers(values: tuple[float, ...] | None) -> str:
        return unknown if values is None else ", ".join(f"{v:.3g}" for v in values)

    return {
        "resize": geometry.resize,
        "crop": geometry.crop,
        "interpolation": geometry.interpolation,
        "colors": colors.order or unknown,
        "mean": numbers(colors.mean),
        "std": numbers(colors.std),
        "range": unknown if colors.range is None else "{:.3g} to {:.3g}".format(*colors.range),
    }


class Halves(NamedTuple):
    """A preprocess in two halves, with uint8 pixels between them: what travels to the device is a quarter as large.

    Attributes
    ----------
    pixels
        From an upright RGB PIL image to uint8 (3, h, w).
    values
        From a batch of these, (n, 3, h, w), wherever it lies, to what the preprocess gives: float32, normalized.
    shorter
        Pixels that the shorter side is resized to.
    """

    pixels: "Callable[[Image.Image], Tensor]"
    values: "Callable[[Tensor], Tensor]"
    shorter: int


def known(preprocess: Any) -> bool:
    """Say whether every step is torchvision's, timm's or open_clip's, which many threads may call at once."""
    return all(_kind(step) for step in _steps(preprocess))


def halves(preprocess: Any) -> Halves | None:
    """Return a preprocess in two halves where it is torchvision's `ImageClassification`, else None."""
    import torch
    from torchvision.transforms import functional as F
    from torchvision.transforms._presets import ImageClassification

    gray = isinstance(preprocess, Preprocess) and preprocess.grayscale
    steps = preprocess._steps if isinstance(preprocess, Preprocess) else preprocess
    if type(steps) is not ImageClassification:
        return None
    mean, std = (torch.tensor(v, dtype=torch.float32)[:, None, None] for v in (steps.mean, steps.std))

    def pixels(image: Any) -> "Tensor":
        if steps.resize_size[0] ** 2 * max(image.size) / min(image.size) > _TOO_MANY:
            image = _middle(image)
        image = image.convert("L").convert("RGB") if gray else image
        image = F.resize(image, steps.resize_size, interpolation=steps.interpolation, antialias=steps.antialias)
        return F.pil_to_tensor(F.center_crop(image, steps.crop_size))

    def values(batch: "Tensor") -> "Tensor":
        return batch.float().div_(255).sub_(mean.to(batch.device)).div_(std.to(batch.device))

    return Halves(pixels, values, min(_sides(steps.resize_size)))


def _middle(image: Any) -> Any:
    """Cut a strip's ends off, which the crop takes away in any case: it is seen the same to a fraction of a pixel.

    Resized whole, 1 x 65,000 pixels would be 256 x 16,640,000 and take 12 GB.
    """
    (w, h), keep = image.size, 16 * min(image.size)
    left, top = max(w - keep, 0) // 2, max(h - keep, 0) // 2
    return image.crop((left, top, w - left, h - top))


class _Geometry(NamedTuple):
    resize: str
    crop: str
    interpolation: str
    preset: tuple[int, int, str] | None = None  # resize_size, crop_size and interpolation of a Preprocess that does it


def _steps(preprocess: Any) -> Iterator[Any]:
    """Yield the steps of a preprocess, those of a Compose or Sequential one by one."""
    from torch import nn

    if _kind(preprocess) == "Compose" or type(preprocess) is nn.Sequential:
        for step in getattr(preprocess, "transforms", preprocess):
            yield from _steps(step)
    else:
        yield preprocess


def _kind(step: Any) -> str:
    """Return the class name of a known package's step (a function's own name), or "" for anything else."""
    bearer = step if isinstance(step, FunctionType) else type(step)
    package = str(bearer.__module__).split(".")[0]
    return bearer.__name__ if package in _PACKAGES or bearer is Preprocess else ""


def _read_geometry(preprocess: Any) -> _Geometry | None:
    """Return sizes and interpolation where all steps are known and come in a usual order, else None."""
    steps = [(_kind(step), step) for step in _steps(preprocess)]
    moving = [(kind, step) for kind, step in steps if kind not in _VALUES]
    kinds = tuple(kind for kind, _ in moving)
    if kinds in (("ImageClassification",), ("Preprocess",)):
        resize = crop = moving[0][1]
        sides, cut = _sides(resize.resize_size), _sides(crop.crop_size)
    elif kinds in _READABLE and moving[0][1].size is not None:
        resize, crop = moving[0][1], moving[-1][1] if len(moving) > 1 else None
        sides, cut = _sides(resize.size), _sides(crop.size) if crop else ()
    else:
        return None
    cut_words = "none" if not cut else f"{cut[0]} pixels" if cut[0] == cut[-1] else f"{cut[0]} x {cut[-1]} pixels"
    if kinds[-1] == "CenterCropOrPad":
        cut_words += ", filled where the image is smaller"
    words, plain = _resize_words(kinds[0], resize, sides)
    how = _interpolation(preprocess)
    preset = (sides[0], cut[0], how) if plain and cut and cut[0] == cut[-1] and how in ("bilinear", "bicubic") else None
    return _Geometry(words, cut_words, how, preset)


def _resize_words(kind: str, step: Any, sides: tuple[int, ...]) -> tuple[str, bool]:
    """Say what a resize does, and whether it is the shorter side to a size and nothing else."""
    if kind == "ResizeKeepRatio":
        fit = {0.0: "made to cover", 1.0: "fitted into"}.get(step.longest)
        return (f"{fit} {sides[0]} x {sides[-1]} pixels" if fit else "not known"), False
    if len(sides) == 2:
        return f"squashed to {sides[0]} x {sides[1]} pixels", False
    longest = getattr(step, "max_size", None)
    return f"{sides[0]} pixels" + (f", the longer side at most {longest}" if longest else ""), longest is None


def _interpolation(preprocess: Any) -> str:
    """Return the interpolation of the one known step that names one, else "not known"."""
    found, on_tensor = [], False
    for step in _steps(preprocess):
        kind = _kind(step)
        on_tensor |= kind in _TO_TENSOR
        if kind and hasattr(step, "interpolation"):
            how = str(getattr(step.interpolation, "value", step.interpolation))
            # Pillow always antialiases; on tensors it is a choice.
            rough = on_tensor and not getattr(step, "antialias", True)
            found.append(f"{how}, not antialiased" if rough else how)
    return found[0] if len(found) == 1 else "not known"


def _sides(size: int | Sequence[int]) -> tuple[int, ...]:
    """Return (side,) or (h, w)."""
    return (size,) if isinstance(size, int) else tuple(int(side) for side in size)


def _as_written(
    preprocess: Any, mean: tuple[float, ...], std: tuple[float, ...]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std as a step names them where this is what was measured: free of its rounding, 1e-7."""
    for step in _steps(preprocess):
        if getattr(step, "mean", None) is not None and getattr(step, "std", None) is not None:
            # By way of float32's shortest text, since timm keeps 0.485 as a float32 tensor.
            written = [tuple(float(str(np.float32(v))) for v in values) for values in (step.mean, step.std)]
            if all(len(w) == 3 and np.allclose(w, m, atol=1e-5) for w, m in zip(written, (mean, std), strict=True)):
                return written[0], written[1]
    return mean, std
