"""Methods that take gradients, all Captum's, given the right function to explain."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..encoders import Encoder
from .targets import FORWARD, Map, Target, number, plain_image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

_IG_STEPS = 50


def gradcam(encoder: Encoder, target: Target, value: "Callable[[Tensor], Tensor]", x: "Tensor") -> Map:
    """Weigh the last feature map by its mean gradient, without the final ReLU."""
    from captum.attr import LayerGradCam

    layer = encoder.module.get_submodule(target.spatial_layer())
    found = LayerGradCam(value, layer).attribute(_leaf(x).to(encoder.device), relu_attributions=False)
    return Map(_numpy(found)[0, 0])


def integrated_gradients(target: Target, x: "Tensor") -> Map:
    """Integrate gradients from the image's own mean color; summed over colors."""
    from captum.attr import IntegratedGradients

    baseline = plain_image(x)
    found = IntegratedGradients(target.value).attribute(
        _leaf(x), baselines=baseline, n_steps=_IG_STEPS, internal_batch_size=FORWARD
    )
    return Map(_numpy(found)[0].sum(axis=0), baseline=number(target, baseline), adds_up=True)


def saliency(target: Target, x: "Tensor") -> Map:
    """Return the largest absolute gradient over colors."""
    from captum.attr import Saliency

    return Map(_numpy(Saliency(target.value).attribute(_leaf(x), abs=True))[0].max(axis=0))


def _leaf(x: "Tensor") -> "Tensor":
    """Return a copy that gradients can be taken for, as Captum wants it."""
    return x.clone().requires_grad_()


def _numpy(tensor: "Tensor") -> "NDArray[np.float32]":
    return tensor.detach().cpu().float().numpy()
