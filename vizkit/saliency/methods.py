"""The methods by name: what each says, in which unit, and how a map on one image comes about.

A method is given by its name ("occlusion"), by a small frozen dataclass where it has parameters (`Occlusion(window=4)`,
`MultiscaleOcclusion(windows=(1, 3))`, `IntegratedGradients(steps=9)`), or as a callable; `method_of` turns any of them
into a `Method`. Contribution and occlusion are vizkit's own; every other method is Captum's, given the right function
to explain.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..encoders import Encoder
from ..errors import InputError, MethodNotApplicableError, closest
from .contribution import contribution
from .gradients import IntegratedGradients, deeplift, gradcam, guided_backprop, integrated_gradients, saliency
from .perturbation import MultiscaleOcclusion, Occlusion, multiscale_occlusion, occlusion
from .targets import Map, Target

if TYPE_CHECKING:
    from torch import Tensor

Parameters = Occlusion | MultiscaleOcclusion | IntegratedGradients
Given = str | Parameters | Callable[..., Any]

MEAN_COLOR = "the image's own mean color"


@dataclass(frozen=True)
class Method:
    """A way to make a map.

    Attributes
    ----------
    name
        As in METHODS; of a callable, its own.
    title
        For people.
    says
        One sentence: what the map means.
    run
        (encoder, target, x (1, 3, h, w), parameters) -> Map.
    per
        The map's unit, with "{unit}" for the target's.
    adds_up
        Whether the map and a residual add up to the value (less its value on the baseline, where there is one).
    baseline
        What hides parts of the image or starts the path, in words; "" where nothing does.
    for_classes
        Whether it explains a class score too; every method explains a similarity.
    at_map
        Whether the map lives on the last feature map before the explained layer.
    parameters
        A frozen dataclass, or None for a method without.
    """

    name: str
    title: str
    says: str
    run: Callable[..., Map]
    per: str = "{unit}"
    adds_up: bool = False
    baseline: str = ""
    for_classes: bool = True
    at_map: bool = False
    parameters: Parameters | None = None

    def unit(self, unit: str) -> str:
        """Return the unit of the map, for a target in `unit`."""
        return self.per.format(unit=unit)

    @property
    def settings(self) -> dict[str, Any]:
        """The parameters by name."""
        return {} if self.parameters is None else asdict(self.parameters)

    @property
    def words(self) -> str:
        """The title, and the parameters where they are not the usual ones."""
        if self.parameters is None or self.parameters == METHODS[self.name].parameters:
            return self.title  # the first of any callable, whatever its name
        usual = METHODS[self.name].settings
        return f"{self.title}, {', '.join(f'{k} {v}' for k, v in self.settings.items() if v != usual[k])}"


METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        Method(
            "contribution",
            "Contribution (exact)",
            "Where the cosine is made up: the share of every position, which add up to it.",
            lambda encoder, target, x, _: contribution(encoder, target, x),
            adds_up=True,
            for_classes=False,
        ),
        Method(
            "occlusion",
            "Occlusion",
            "What the number depends on: how much it drops when a window is painted over.",
            lambda _, target, x, form: occlusion(target, x, form),
            per="{unit}, lost when hidden",
            baseline=MEAN_COLOR,
            parameters=Occlusion(),
        ),
        Method(
            "multiscale_occlusion",
            "Multi-scale occlusion",
            "What the number depends on, by windows of several sizes: the drop that all of them agree on.",
            lambda _, target, x, form: multiscale_occlusion(target, x, form),
            per="{unit}, lost when hidden",
            baseline=MEAN_COLOR,
            parameters=MultiscaleOcclusion(),
        ),
        Method(
            "gradcam",
            "Grad-CAM, norm held",
            "Where the number is made up, to first order, at the last feature map; the length of the vector is held, "
            "and a center is not taken off the map.",
            lambda encoder, target, x, _: gradcam(encoder, target, target.held, x),
            per="{unit}, to first order",
            at_map=True,
        ),
        Method(
            "sensitivity",
            "Sensitivity (plain Grad-CAM)",
            "Where a change would turn the vector, not what makes the similarity up.",
            lambda encoder, target, x, _: gradcam(encoder, target, target.value, x),
            per="{unit}, to first order",
            for_classes=False,
            at_map=True,
        ),
        Method(
            "integrated_gradients",
            "Integrated gradients",
            "Gradients along the way from a plain image, which add up to the change from there.",
            lambda _, target, x, form: integrated_gradients(target, x, form),
            adds_up=True,
            baseline=MEAN_COLOR,
            parameters=IntegratedGradients(),
        ),
        Method(
            "saliency",
            "Gradient",
            "How fast the number changes with every pixel.",
            lambda _, target, x, __: saliency(target, x),
            per="{unit} per unit of input",
        ),
        Method(
            "deeplift",
            "DeepLift",
            "Differences from a plain image, carried back through every activation; the length of the vector is held.",
            lambda encoder, target, x, _: deeplift(encoder, target, x),
            adds_up=True,
            baseline=MEAN_COLOR,
        ),
        Method(
            "guided_backprop",
            "Guided backpropagation",
            "The gradient with everything negative dropped at every ReLU; it says little about the weights.",
            lambda encoder, target, x, _: guided_backprop(encoder, target, x),
            per="{unit} per unit of input",
        ),
    )
}


def method_of(given: Given) -> Method:
    """Return the Method that a name, a dataclass of parameters or a callable means.

    Raises
    ------
    InputError
        There is no such method.
    """
    if isinstance(given, Parameters):
        return replace(METHODS[given.name], parameters=given)
    if isinstance(given, str) and given in METHODS:
        return METHODS[given]
    if callable(given) and not isinstance(given, type):
        name = getattr(given, "__name__", type(given).__name__)
        return Method(
            name, name, "As the caller's own function says.", _by_caller(given, name), per="as the method gives it"
        )
    near = ""
    if isinstance(given, str):  # names, and what figures call them
        titles = {_plain(m.title): m.name for m in METHODS.values()} | {"gradcam": "gradcam"}
        name = titles.get(_plain(given))
        near = f" Closest: {name!r}." if name else closest(given.lower(), METHODS)
    raise InputError(
        f"No method {given!r}: choose one of {', '.join(map(repr, METHODS))}, give parameters as Occlusion(...), "
        f"MultiscaleOcclusion(...) or IntegratedGradients(...), or pass a callable.{near}"
    )


def attribute(encoder: Encoder, target: Target, x: "Tensor", method: Given, *, progress: bool = False) -> Map:
    """Run one method on one preprocessed image.

    Parameters
    ----------
    encoder
        The network.
    target
        What is explained.
    x
        (1, 3, h, w) float32, preprocessed.
    method
        A name, parameters, or a callable (f, x) -> (h, w).
    progress
        Show a bar once it takes over two seconds, for methods of many forward passes.

    Raises
    ------
    InputError
        There is no such method, or a callable does not return finite values (h, w).
    MethodNotApplicableError
        The method would be wrong on this network or for this target.
    """
    from tqdm.auto import tqdm

    chosen = method_of(method)
    if target.direction is None and not chosen.for_classes:
        raise MethodNotApplicableError(
            f"{chosen.name} splits a similarity, not a class score: give a vector as target, or method='gradcam'."
        )
    x = x.to(encoder.device)
    if not progress or chosen.parameters is None:
        found = chosen.run(encoder, target, x, chosen.parameters)
    else:
        with tqdm(
            total=chosen.parameters.images(*x.shape[2:]), desc=chosen.title, unit="image", delay=2, leave=False
        ) as bar:

            def counted(batch: "Tensor") -> Any:
                features = target.features(batch)
                bar.update(len(batch))
                return features

            found = chosen.run(encoder, replace(target, features=counted), x, chosen.parameters)
    if not np.isfinite(found.values).all() or not np.isfinite(found.baseline or 0.0):
        raise MethodNotApplicableError(
            f"{chosen.name} gives values that are not finite on {encoder.name}: where an image is made plain, hidden "
            "or shown in part, its vector may be zero, and has no cosine. Use method='contribution' or 'gradcam'."
        )
    return found


def layer_of(method: Given, target: Target) -> str:
    """Return the layer that a map lives on, or whose values it explains."""
    return target.spatial_layer() if method_of(method).at_map else target.layer


def residual(found: Map, value: float) -> float | None:
    """Return what is missing of the value in the map's sum, or None for methods that do not add up."""
    return value - (found.baseline or 0.0) - float(found.values.sum(dtype=np.float64)) if found.adds_up else None


def _plain(words: str) -> str:
    return "".join(c for c in words.lower() if c.isalnum())


def _by_caller(function: Callable[..., Any], name: str) -> Callable[..., Map]:
    def run(_: Encoder, target: Target, x: "Tensor", __: None) -> Map:
        import torch

        given = function(target.value, x.clone())
        if isinstance(given, torch.Tensor):
            given = given.detach().cpu().float()
        try:
            values, wrong = np.asarray(given, np.float32), ""
        except (TypeError, ValueError):
            values, wrong = np.empty((0, 0), np.float32), type(given).__name__
        if values.ndim != 2 or not values.size:
            wrong = wrong or f"shape {values.shape}"
        elif not np.isfinite(values).all():
            wrong = f"{int((~np.isfinite(values)).sum())} of {values.size} that are NaN or infinite"
        if wrong:
            raise InputError(f"The method {name!r} must return finite values (h, w); it gave {wrong}.")
        return Map(values)

    return run
