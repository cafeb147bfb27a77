"""How a map on one image comes about: what is explained, and the methods that explain it.

Contribution is vizkit's own; every other method is Captum's, given the right function to explain.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .encoders import Encoder
from .errors import InputError
from .evidence import method_name
from .spatial import feature_maps, last_spatial_layer, spatial_layer

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

_GRID = 8  # occlusion: cells a side; windows are two cells wide and move by one
_IG_STEPS = 50
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


def attribute(encoder: Encoder, target: Target, x: "Tensor", method: str | Callable[..., Any]) -> Map:
    """Run one method on one preprocessed image (1, 3, h, w)."""
    if callable(method):
        values = np.asarray(method(target.value, x.clone()), np.float32)
        if values.ndim != 2 or not np.isfinite(values).all():
            raise InputError(
                f"The method {method_name(method)!r} must return finite values (h, w); it gave shape {values.shape}."
            )
        return Map(values)
    if method == "contribution":
        return _contribution_to_target(encoder, target, x)
    return {
        "gradcam": lambda: _gradcam(encoder, target, target.held, x),
        "sensitivity": lambda: _gradcam(encoder, target, target.value, x),
        "occlusion": lambda: _occlusion(encoder, target, x),
        "integrated_gradients": lambda: _integrated_gradients(target, x),
        "saliency": lambda: _saliency(target, x),
    }[method]()


def _contribution_to_target(encoder: Encoder, target: Target, x: "Tensor") -> Map:
    maps, vectors = feature_maps(encoder, x)
    z = vectors[0].double().cpu().numpy()
    values = np.tensordot(np.asarray(target.direction), maps[0].double().cpu().numpy(), axes=1)
    return Map((values / (values.size * np.linalg.norm(z))).astype(np.float32), adds_up=True)


def _gradcam(encoder: Encoder, target: Target, value: "Callable[[Tensor], Tensor]", x: "Tensor") -> Map:
    from captum.attr import LayerGradCam

    layer = encoder.module.get_submodule(target.spatial_layer())
    found = LayerGradCam(value, layer).attribute(_leaf(x).to(encoder.device), relu_attributions=False)
    return Map(_numpy(found)[0, 0])


def _occlusion(encoder: Encoder, target: Target, x: "Tensor") -> Map:
    import torch
    from captum.attr import Occlusion

    h, w = x.shape[2:]
    step_h, step_w = -(-h // _GRID), -(-w // _GRID)
    with torch.no_grad():
        found = Occlusion(target.value).attribute(
            x,
            sliding_window_shapes=(x.shape[1], min(2 * step_h, h), min(2 * step_w, w)),
            strides=(x.shape[1], step_h, step_w),
            baselines=_plain_image(x),
            perturbations_per_eval=FORWARD,
        )
    # Windows cover whole cells, so the map is constant on each: one value a cell is all there is.
    rows = np.minimum(np.arange(0, h, step_h) + step_h // 2, h - 1)
    columns = np.minimum(np.arange(0, w, step_w) + step_w // 2, w - 1)
    return Map(_numpy(found)[0, 0][np.ix_(rows, columns)])


def _integrated_gradients(target: Target, x: "Tensor") -> Map:
    from captum.attr import IntegratedGradients

    baseline = _plain_image(x)
    found = IntegratedGradients(target.value).attribute(
        _leaf(x), baselines=baseline, n_steps=_IG_STEPS, internal_batch_size=FORWARD
    )
    return Map(_numpy(found)[0].sum(axis=0), baseline=number(target, baseline), adds_up=True)


def _saliency(target: Target, x: "Tensor") -> Map:
    from captum.attr import Saliency

    return Map(_numpy(Saliency(target.value).attribute(_leaf(x), abs=True))[0].max(axis=0))


def _leaf(x: "Tensor") -> "Tensor":
    """Return a copy that gradients can be taken for, as Captum wants it."""
    return x.clone().requires_grad_()


def _plain_image(x: "Tensor") -> "Tensor":
    """Return an image of the same mean colour: neutral under any preprocess, unlike zeros."""
    return x.mean(dim=(2, 3), keepdim=True).expand_as(x).contiguous()


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


def layer_of(method: str | Callable[..., Any], target: Target) -> str:
    """Return the layer that a map lives on, or whose values it explains."""
    return target.spatial_layer() if method in ("gradcam", "sensitivity") else target.layer


def unit_of(method: str | Callable[..., Any], unit: str) -> str:
    """Return the unit of a method's map, for a target in `unit`."""
    if callable(method):
        return "as the method gives it"
    return {
        "contribution": unit,
        "integrated_gradients": unit,
        "gradcam": f"{unit}, to first order",
        "sensitivity": f"{unit}, to first order",
        "occlusion": f"{unit}, lost when hidden",
        "saliency": f"{unit} per unit of input",
    }[method]


def residual(found: Map, value: float) -> float | None:
    """Return what is missing of the value in the map's sum, or None for methods that do not add up."""
    return value - (found.baseline or 0.0) - float(found.values.sum(dtype=np.float64)) if found.adds_up else None


def number(target: Target, x: "Tensor") -> float:
    """Return the value of a target for one preprocessed image (1, 3, h, w)."""
    import torch

    with torch.no_grad():
        return float(target.value(x)[0])


def _numpy(tensor: "Tensor") -> "NDArray[np.float32]":
    return tensor.detach().cpu().float().numpy()
