"""What a network gets of an image: a preprocess whose output is checked, and the picture that was seen."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ImageReadError, InputError
from .fingerprints import drawn_images
from .images import ImageSet
from .measured import Colors, measured_colors, picture
from .preprocess import Halves, halves, known, named

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor


class Input:
    """A preprocess, checked at every call.

    Parameters
    ----------
    preprocess
        A callable from an upright RGB PIL image to a float tensor (3, h, w), or a name that changes values and keeps
        the geometry of `base`.
    base
        The preprocess that came with the network, or None.

    Attributes
    ----------
    function
        The callable itself.
    shape
        (3, h, w), what it gives for every image.

    Raises
    ------
    InputError
        It is neither a callable nor a known name, or it gives no tensor of one shape and the same at each call.
    """

    def __init__(self, preprocess: "str | Callable[[Image.Image], Tensor]", base: Any) -> None:
        if isinstance(preprocess, str):
            preprocess = named(preprocess, base)
        elif isinstance(preprocess, type) or not callable(preprocess):
            raise InputError(
                "preprocess must be a name or a callable from a PIL image to a float tensor (3, h, w), not "
                f"{preprocess!r}. Of torchvision's weights it is weights.transforms(), with parentheses."
            )
        self.function: Any = preprocess
        self.shape: tuple[int, ...] = ()
        self._colors: Colors | None = None
        self._halves: Halves | None = None
        self._halve(self.probe())

    def __call__(self, image: "Image.Image") -> "Tensor":
        """Return what the network gets for an upright RGB image: float32 (3, h, w), always of one size."""
        import torch

        if self._halves:
            return self._halves.values(self._halves.pixels(image)[None])[0]
        tensor = self.function(image)

        if not isinstance(tensor, torch.Tensor) or tensor.ndim != 3 or not tensor.is_floating_point():
            got = f"{tuple(tensor.shape)} {tensor.dtype}" if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise InputError(f"preprocess must give a float tensor (3, h, w); it gave {got}.")
        if self.shape and tuple(tensor.shape) != self.shape:
            raise InputError(
                f"preprocess gave {tuple(tensor.shape)} for an image of {image.size}, and {self.shape} for another: "
                "resize and crop to one size."
            )
        return tensor.float()

    @property
    def known(self) -> bool:
        """Whether it is made of torchvision's, timm's or open_clip's steps, which many threads may call at once."""
        return known(self.function)

    @property
    def shorter(self) -> int:
        """Pixels that an image's shorter side is resized to; where that is not known, the input's longer side."""
        return self._halves.shorter if self._halves else max(self.shape[1:])

    def pixels(self, image: "Image.Image") -> "Tensor":
        """Return what `values` makes the network's input from: uint8 (3, h, w), or that input where it is not known."""
        return self._halves.pixels(image) if self._halves else self(image)

    def values(self, batch: "Tensor") -> "Tensor":
        """Return the network's input, float32 (n, 3, h, w), for a batch of what `pixels` gave."""
        return self._halves.values(batch) if self._halves else batch

    def _halve(self, probe: "Tensor") -> None:
        """Take the preprocess in two halves, where these give the same for two drawn images."""
        import torch

        found = halves(self.function)
        if found and torch.equal(found.values(torch.stack([found.pixels(image) for image in drawn_images()])), probe):
            self._halves = found

    def probe(self) -> "Tensor":
        """Return what it makes of two drawn images of different size, (2, 3, h, w)."""
        import torch

        image, other = drawn_images()
        first, second = self(image), self(image)
        if not torch.equal(first, second):
            raise InputError(
                "preprocess gives two different tensors for one image. Leave random augmentation out: "
                "a vector must not depend on chance."
            )
        self.shape = tuple(first.shape)
        return torch.stack([first, self(other)])

    def seen(self, tensor: "Tensor") -> "NDArray[np.uint8]":
        """Return a preprocessed tensor (3, h, w) as the picture the network saw, (h, w, 3) uint8 RGB.

        By the mean, standard deviation and channel order that are measured on the preprocess; where they are not known,
        values outside [0, 1] are stretched to it, image by image.
        """
        if self._colors is None:
            self._colors = measured_colors(self.function)
        return picture(tensor.detach().cpu().float().numpy(), self._colors)

    def readable(self, images: ImageSet, most: int) -> "Tensor":
        """Return up to `most` preprocessed images spread over a set, (n, 3, h, w); what cannot be read is left out."""
        import torch

        found, reason = [], "there are none"
        for row in np.unique(np.linspace(0, max(len(images) - 1, 0), min(most, len(images))).astype(int)):
            try:
                found.append(self(images[row]))
            except ImageReadError as error:
                reason = str(error)
        if not found:
            raise InputError(f"BatchNorm needs images to be calibrated on, and none can be read: {reason}")
        return torch.stack(found)
