"""Methods that take gradients, all Captum's, given the right function to explain."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..capture import alone
from ..encoders import Encoder
from ..errors import InputError, MethodNotApplicableError
from .rewriting import count_of, hooked_modules, rewritten, unknown_calls
from .spatial import FORWARD
from .targets import Map, Target, number, plain_image

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, fx, nn

_COMPLETE = 1e-4  # how far DeepLift may be from adding up, relative to all it hands out: room for rounding


@dataclass(frozen=True)
class IntegratedGradients:
    """Integrated gradients with another number of steps: give it as `method=`.

    Attributes
    ----------
    steps
        Points on the way from the plain image to the image, each a forward and a backward pass of one image.

    Raises
    ------
    InputError
        The number is not whole or below 2.
    """

    name: ClassVar[str] = "integrated_gradients"
    steps: int = 50

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, (int, np.integer)) or self.steps < 2:
            raise InputError(f"steps must be a whole number of 2 or more, not {self.steps!r}.")
        object.__setattr__(self, "steps", int(self.steps))

    def images(self, _: int, __: int) -> int:
        """Return how many images go through the network, all in all, for one of h x w pixels."""
        return self.steps + 1


def gradcam(encoder: Encoder, target: Target, value: "Callable[[Tensor], Tensor]", x: "Tensor") -> Map:
    """Weigh the last feature map by its mean gradient.

    Selvaraju et al. 2017 (eq. 1 and 2) by Captum's LayerGradCam, without the final ReLU, so that evidence against
    stays visible. The feature map is weighed as it is: a center m is taken off the vector and not off the map, which,
    where the vector z is the map's mean, sums to <z, u> / |z - m| and not to the centered cosine <z - m, u> / |z - m|.
    """
    from captum.attr import LayerGradCam

    layer = encoder.module.get_submodule(target.spatial_layer())
    with alone(encoder.module):  # Captum hooks into it
        found = LayerGradCam(value, layer).attribute(_leaf(x).to(encoder.device), relu_attributions=False)
    return Map(_numpy(found)[0, 0])


def integrated_gradients(target: Target, x: "Tensor", form: IntegratedGradients) -> Map:
    """Integrate gradients from the image's own mean color; summed over colors.

    Sundararajan et al. 2017 (eq. 1 and 3) by Captum's IntegratedGradients, Gauss-Legendre steps. The value on the
    plain image comes with the map: on a cosine most of it may be there already.
    """
    from captum.attr import IntegratedGradients as CaptumIntegratedGradients

    baseline = plain_image(x)
    found = CaptumIntegratedGradients(target.value).attribute(
        _leaf(x), baselines=baseline, n_steps=form.steps, internal_batch_size=FORWARD
    )
    return Map(_numpy(found)[0].sum(axis=0), baseline=number(target, baseline), adds_up=True)


def saliency(target: Target, x: "Tensor") -> Map:
    """Return the largest absolute gradient over colors (Simonyan et al. 2014, section 3), by Captum's Saliency."""
    from captum.attr import Saliency

    return Map(_numpy(Saliency(target.value).attribute(_leaf(x), abs=True))[0].max(axis=0))


def deeplift(encoder: Encoder, target: Target, x: "Tensor") -> Map:
    """Carry differences from the plain image back through every activation; summed over colors.

    Shrikumar et al. 2017, rescale rule (section 3.5.1), by Captum's DeepLift on a rewritten copy of the network
    (`rewriting`). The number is made linear in the vector first, with the norm held at the image's own, so the map adds
    up to the change from the plain image: its value there is the projection at that norm, not a cosine.

    Raises
    ------
    MethodNotApplicableError
        The network cannot be rewritten, or calls something that Captum has no rule for; or the sum is off all the same.
    """
    import torch
    from captum.attr import DeepLift

    baseline = plain_image(x)
    twin, whole = _rewritten(encoder, target, torch.cat([x, baseline]), "deeplift")
    _refuse_unknown(encoder, "deeplift", "Captum has no rule for", unknown_calls(whole, hooked_modules()))
    read = twin.vectors if target.direction is not None else twin.scores
    with torch.enable_grad():
        z = read(x).detach().float().requires_grad_()
        value = target.head(z, hold=True)
        (slope,) = torch.autograd.grad(value.sum(), z)
    if x.device.type != "mps":  # which has no float64
        whole.double()  # quotients of small differences: float32 lost up to 2% of the sum in them
        x, baseline = x.double(), baseline.double()
    value = value.detach()
    with torch.no_grad():
        z = read(x)

    def linear(batch: "Tensor") -> "Tensor":
        return value + ((read(batch) - z) * slope).sum(dim=1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Captum tells of its hooks, which are on the copy
        found = DeepLift(_as_module(whole, linear)).attribute(_leaf(x), baselines=baseline)
    values = _numpy(found)[0].sum(axis=0)
    with torch.no_grad():
        start = float(linear(baseline)[0])
    change = float(value[0]) - start
    error = abs(change - float(values.sum(dtype=np.float64)))
    if not error <= _COMPLETE * max(abs(change), float(np.abs(values).sum(dtype=np.float64))):
        raise MethodNotApplicableError(
            f"deeplift must add up to the change from a plain image, {change:.4f} here, and is off by {error:.4f} on "
            f"{encoder.name}, so it would be wrong. Use method='occlusion'."
        )
    return Map(values, baseline=start, adds_up=True)


def guided_backprop(encoder: Encoder, target: Target, x: "Tensor") -> Map:
    """Return the largest absolute guided gradient over colors.

    Springenberg et al. 2015 (section 3.4), by Captum's GuidedBackprop on a rewritten copy of the network (`rewriting`),
    so that ReLUs called as functions are guided too. It hardly depends on the weights (Adebayo et al. 2018): here to be
    compared with, not to be trusted.

    Raises
    ------
    MethodNotApplicableError
        The network cannot be rewritten, has no ReLU, or calls something that is not guided: the map would be, in part,
        the plain gradient under another name.
    """
    from captum.attr import GuidedBackprop
    from torch import nn

    twin, whole = _rewritten(encoder, target, x, "guided_backprop")
    known = (nn.ReLU, nn.MaxPool2d)
    _refuse_unknown(encoder, "guided_backprop", "Captum guides ReLUs alone, not", unknown_calls(whole, known))
    if not count_of(whole, nn.ReLU):
        raise MethodNotApplicableError(
            f"guided_backprop finds no ReLU before {target.layer!r} in {encoder.name}, so it would be the plain "
            "gradient. Use method='saliency'."
        )
    read = twin.vectors if target.direction is not None else twin.scores
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = _as_module(whole, lambda batch: target.head(read(batch)))
        found = GuidedBackprop(model).attribute(_leaf(x))
    return Map(np.abs(_numpy(found)[0]).max(axis=0))


def _rewritten(encoder: Encoder, target: Target, batch: "Tensor", method: str) -> "tuple[Encoder, fx.GraphModule]":
    return rewritten(encoder, batch, scores=target.direction is None, method=method)


def _refuse_unknown(encoder: Encoder, method: str, why: str, unknown: list[str]) -> None:
    if unknown:
        more = f" and {len(unknown) - 4} more" if len(unknown) > 4 else ""
        raise MethodNotApplicableError(
            f"{method} would be wrong on {encoder.name}: {why} {', '.join(unknown[:4])}{more}. Use method='occlusion'."
        )


def _as_module(whole: "nn.Module", function: "Callable[[Tensor], Tensor]") -> "nn.Module":
    """Return a function of a batch as a module that holds the network: Captum hooks its parts, and itself."""
    from torch import nn

    class Explained(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = whole

        def forward(self, x: "Tensor") -> "Tensor":
            return function(x)

    return Explained()


def _leaf(x: "Tensor") -> "Tensor":
    """Return a copy that gradients can be taken for, as Captum wants it."""
    return x.clone().requires_grad_()


def _numpy(tensor: "Tensor") -> "NDArray[np.float32]":
    return tensor.detach().cpu().float().numpy()
