"""The methods by name: how a map on one image comes about, and in which unit.

Contribution is vizkit's own; every other method is Captum's, given the right function to explain.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..encoders import Encoder
from ..errors import InputError
from .contribution import contribution
from .evidence import method_name
from .gradients import gradcam, integrated_gradients, saliency
from .perturbation import occlusion
from .targets import Map, Target

if TYPE_CHECKING:
    from torch import Tensor


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
        return contribution(encoder, target, x)
    return {
        "gradcam": lambda: gradcam(encoder, target, target.held, x),
        "sensitivity": lambda: gradcam(encoder, target, target.value, x),
        "occlusion": lambda: occlusion(target, x),
        "integrated_gradients": lambda: integrated_gradients(target, x),
        "saliency": lambda: saliency(target, x),
    }[method]()


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
