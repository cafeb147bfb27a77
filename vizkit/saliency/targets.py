"""What is explained: a number for every image of a batch, and the map that a method makes of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..encoders import Encoder
from ..errors import InputError
from .spatial import last_spatial_layer, spatial_layer

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

FORWARD = 16  # images a forward pass
NOTHING = 1e-6  # of a vector's norm: what rounding leaves when a vector is taken off itself


@dataclass(frozen=True)
class Target:
    """What is explained: a number for every image of a batch.

    `value(x)` takes a preprocessed batch (n, 3, h, w) and returns (n,). `held(x)` is the same with the vector's norm
    held constant in the gradient; for a class they are one.
    """

    name: str
    unit: str
    value: "Callable[[Tensor], Tensor]"
    held: "Callable[[Tensor], Tensor]"
    layer: str  # whose values are explained
    spatial_layer: "Callable[[], str]"  # where Grad-CAM looks; it raises where it cannot
    direction: "NDArray[np.float64] | None" = None  # (d,), length 1, for a cosine


@dataclass(frozen=True)
class Map:
    """One map (h, w) float32, with what its method knows about the sum."""

    values: "NDArray[np.float32]"
    baseline: float | None = None
    adds_up: bool = False


def vector_target(encoder: Encoder, vector: "NDArray[np.float64]", mean: "NDArray[np.float64] | None") -> Target:
    """Explain the cosine to a vector (d,), after taking `mean` (d,) off both."""
    import torch

    mean = np.zeros(encoder.dim) if mean is None else mean
    norm = np.linalg.norm(vector - mean)
    if norm <= NOTHING * np.linalg.norm(vector):
        raise InputError("The target vector is zero (or equals the center), so nothing has a cosine to it.")
    direction = (vector - mean) / norm
    unit = torch.as_tensor(direction, dtype=torch.float32, device=encoder.device)
    offset = torch.as_tensor(mean, dtype=torch.float32, device=encoder.device)

    def value(x: "Tensor", *, hold: bool = False) -> "Tensor":
        z = encoder.vectors(x).float() - offset
        norms = z.norm(dim=1)
        return (z @ unit) / (norms.detach() if hold else norms)

    return Target(
        "the given vector", "points of cosine", value, lambda x: value(x, hold=True),
        encoder.layer, lambda: spatial_layer(encoder), direction,
    )  # fmt: skip


def class_target(encoder: Encoder, x: "Tensor", index: int) -> Target:
    """Explain a class score of the network's own output, for a preprocessed image x (1, 3, h, w)."""
    import torch

    def value(x: "Tensor") -> "Tensor":
        return encoder.scores(x)[:, index]

    with torch.no_grad():
        scores = encoder.scores(x)
    if getattr(scores, "ndim", 0) != 2 or not 0 <= index < scores.shape[1]:
        shape = tuple(getattr(scores, "shape", ()))
        raise InputError(f"target={index} is no class of {encoder.name}, whose output has shape {shape}.")
    return Target(f"class {index}", "logit", value, value, "output", lambda: last_spatial_layer(encoder))


def number(target: Target, x: "Tensor") -> float:
    """Return the value of a target for one preprocessed image (1, 3, h, w)."""
    import torch

    with torch.no_grad():
        return float(target.value(x)[0])


def plain_image(x: "Tensor") -> "Tensor":
    """Return an image of the same mean colour: neutral under any preprocess, unlike zeros."""
    return x.mean(dim=(2, 3), keepdim=True).expand_as(x).contiguous()
