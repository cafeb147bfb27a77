"""Why: saliency on one image (`explain`), and evidence on both images for their similarity (`explain_pair`).

Contribution is vizkit's own; every other method is Captum's, given the right function to explain.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .embeddings import Embeddings
from .encoders import Encoder
from .errors import InputError, MethodNotApplicableError
from .evidence import NOT_MEASURED, Evidence, PairEvidence, method_name
from .images import as_image

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

PAIR_METHODS = ("contribution", "occlusion", "gradcam", "sensitivity")
METHODS = ("gradcam", "integrated_gradients", "occlusion", "saliency", "contribution")

_GRID = 8  # occlusion: cells a side; windows are two cells wide and move by one
_IG_STEPS = 50
_FORWARD = 16  # images a forward pass
_NOTHING = 1e-6  # of a vector's norm: what rounding leaves when a vector is taken off itself


@dataclass(frozen=True)
class _Target:
    """What is explained: a number for every image of a batch.

    `value(x)` takes a preprocessed batch (n, 3, h, w) and returns (n,). `held(x)` is the same with the vector's norm
    held constant in the gradient; for a class they are one.
    """

    name: str
    unit: str
    value: "Callable[[Tensor], Tensor]"
    held: "Callable[[Tensor], Tensor]"
    direction: "NDArray[np.float64] | None" = None  # (d,), length 1, for a cosine


@dataclass(frozen=True)
class _Map:
    """One map (h, w) float32, with what its method knows about the sum."""

    values: "NDArray[np.float32]"
    baseline: float | None = None
    adds_up: bool = False


def explain(
    encoder: Encoder,
    image: "Image.Image | str | Path | NDArray[Any]",
    *,
    target: "int | NDArray[Any] | torch.Tensor",
    method: str | Callable[..., Any] = "gradcam",
) -> Evidence:
    """Show what in one image a class score, or the similarity to a vector, rests on.

    Parameters
    ----------
    encoder
        The network.
    image
        PIL image, path, or array (h, w, 3) uint8 or float in [0, 1].
    target
        A class index into the network's own output, or a vector (d,): then the cosine to it is explained.
    method
        "gradcam" (Selvaraju et al. 2017, eq. 1 and 2 without the final ReLU, so that evidence against stays visible;
        Captum's LayerGradCam at the last feature map; for a vector with the norm held, see `explain_pair`),
        "integrated_gradients" (Sundararajan et al. 2017; from the image's own mean colour, 50 steps),
        "occlusion" (Zeiler and Fergus 2014; see `explain_pair`), "saliency" (Simonyan et al. 2014: largest absolute
        gradient over colours, per unit of preprocessed input), "contribution" (for a vector; see `explain_pair`), or a
        callable (f, x) -> (h, w), where f gives the value (n,) of a batch and x is the preprocessed image (1, 3, h, w).

    Returns
    -------
    Evidence

    Raises
    ------
    InputError
        Unknown method, impossible target.
    MethodNotApplicableError
        The method would be wrong on this network.
    """
    _check_method(method, METHODS)
    start = time.perf_counter()
    x = encoder.preprocess(as_image(image))[None]
    if isinstance(target, (int, np.integer)):
        if method == "contribution":
            raise MethodNotApplicableError(
                "contribution splits a similarity, not a class score: give a vector as target, or method='gradcam'."
            )
        what = _class_target(encoder, x, int(target))
    else:
        what = _vector_target(encoder, _as_vector(target, encoder.dim, "target"), None)
    found = _attribute(encoder, what, x, method)
    value = _number(what, x)
    return Evidence(
        found.values, value, method, what.name, _unit_of(method, what.unit), encoder.layer, encoder.name,
        encoder.seen(x[0]), _residual(found, value), found.baseline, time.perf_counter() - start,
    )  # fmt: skip


def explain_pair(
    encoder: Encoder,
    a: "Image.Image | str | Path | NDArray[Any]",
    b: "Image.Image | str | Path | NDArray[Any]",
    method: str | Callable[..., Any] | None = None,
    *,
    center: "Embeddings | NDArray[Any] | None" = None,
) -> PairEvidence:
    """Show, on both images, what makes the network call them alike.

    Parameters
    ----------
    encoder
        The network.
    a, b
        PIL images, paths, or arrays (h, w, 3) uint8 or float in [0, 1].
    method
        "contribution": the exact split. Where the vector z is the mean of a feature map over its positions, the cosine
        is a sum over patches i of a and j of b, <A_i, B_j> / (hw h'w' |z_a| |z_b|) (Stylianou et al. 2019 and Zhu et
        al. 2021 draw the same sum). It adds up to the cosine and says where the cosine is made up. Refused elsewhere.
        "occlusion": how much the true cosine drops when a window of 2 x 2 cells on an 8 x 8 grid is painted in the
        image's mean colour, averaged over the windows that cover a cell (Captum's Occlusion). It says what the cosine
        depends on.
        "gradcam": Captum's LayerGradCam at the last feature map with |z| held constant in the gradient; at a pooled
        layer it equals contribution.
        "sensitivity": the same with the plain cosine, whose gradient along z is zero: its map adds up to 0 at a pooled
        layer, and says where a change would turn the vector, not what makes the similarity up.
        A callable (f, x) -> (h, w): f gives the similarity (n,) to the other image of a preprocessed batch, x is the
        preprocessed image (1, 3, h, w); it is called once for each side.
        None: contribution where it is exact, else occlusion; `reason` says which and why.
    center
        Explain the centered cosine: a mean vector (d,), or the Embeddings whose mean is taken off both vectors first.
        Random pairs have a raw cosine far above 0; the centered one is sharper and equally exact.

    Returns
    -------
    PairEvidence

    Raises
    ------
    InputError
        An image cannot be used, the method is unknown, or a vector is zero, so that there is no cosine.
    MethodNotApplicableError
        The method would be wrong on this network.
    """
    return explain_many(encoder, a, [b], method, center=center)[0]


def explain_many(
    encoder: Encoder,
    query: "Image.Image | str | Path | NDArray[Any]",
    others: "Sequence[Image.Image | str | Path | NDArray[Any]]",
    method: str | Callable[..., Any] | None = None,
    *,
    center: "Embeddings | NDArray[Any] | None" = None,
) -> list[PairEvidence]:
    """Explain the similarity of one query to each of several images; every image runs through the network once.

    Parameters and errors are those of `explain_pair`; the query is `a`. One PairEvidence per image of `others`, in
    order.
    """
    import torch
    from tqdm.auto import tqdm

    if method is not None:
        _check_method(method, PAIR_METHODS)
    mean = _center(center, encoder)
    x = torch.stack([encoder.preprocess(as_image(image)) for image in [query, *others]])
    start = time.perf_counter()
    maps, vectors, refusal = _maps_and_vectors(encoder, x)
    if method == "contribution" and refusal:
        raise refusal
    chosen, reason = (method, "chosen by the caller") if method is not None else _default(maps)
    centered = vectors - mean
    norms = np.linalg.norm(centered, axis=1)
    if (norms <= _NOTHING * np.linalg.norm(vectors, axis=1)).any():
        raise InputError("A vector is zero (or equals the center), so it has no cosine to anything.")
    units = centered / norms[:, None]
    shared = (time.perf_counter() - start) / max(len(others), 1)
    results = []
    for j in tqdm(range(1, len(x)), desc=method_name(chosen), unit="pair", delay=2, leave=False):
        start = time.perf_counter()
        similarity = float(units[0] @ units[j])
        if chosen == "contribution" and maps is not None:
            in_a, in_b, matrix = _contribution(maps[0], maps[j], centered[0], centered[j], mean)
        else:
            in_a = _attribute(encoder, _vector_target(encoder, vectors[j], mean), x[:1], chosen)
            in_b = _attribute(encoder, _vector_target(encoder, vectors[0], mean), x[j : j + 1], chosen)
            matrix = None
        results.append(
            PairEvidence(
                map_a=in_a.values,
                map_b=in_b.values,
                matrix=matrix,
                similarity=similarity,
                method=chosen,
                unit=_unit_of(chosen, "points of cosine"),
                residual_a=_residual(in_a, similarity),
                residual_b=_residual(in_b, similarity),
                baseline_similarity=None,
                centered=center is not None,
                seen_a=encoder.seen(x[0]),
                seen_b=encoder.seen(x[j]),
                layer=encoder.layer,
                encoder=encoder.name,
                reason=reason,
                trust=NOT_MEASURED,
                seconds=shared + time.perf_counter() - start,
            )
        )
    return results


def _maps_and_vectors(
    encoder: Encoder, x: "Tensor"
) -> "tuple[list[NDArray[np.float64]] | None, NDArray[np.float64], MethodNotApplicableError | None]":
    """Return every image's feature map (d, h, w) where that is exact (else None and the refusal), and the vectors."""
    maps, vectors, refusal = [], [], None
    for start in range(0, len(x), _FORWARD):
        batch = x[start : start + _FORWARD]
        if refusal is None:
            try:
                m, v = encoder.feature_maps(batch)
                maps.extend(m.cpu().numpy().astype(np.float64))
                vectors.extend(v.cpu().numpy().astype(np.float64))
                continue
            except MethodNotApplicableError as error:
                refusal = error
        vectors.extend(encoder.encode(batch).astype(np.float64))
    return (None if refusal else maps), np.stack(vectors), refusal


def default_method(encoder: Encoder, image: "Image.Image | str | Path | NDArray[Any]") -> tuple[str, str]:
    """Return what `explain_pair` takes when no method is named, and why."""
    return _default(_maps_and_vectors(encoder, encoder.preprocess(as_image(image))[None])[0])


def _default(maps: "list[NDArray[np.float64]] | None") -> tuple[str, str]:
    if maps is None:
        return "occlusion", "contribution is not defined here: the vector is no mean over positions"
    h, w = maps[0].shape[1:]
    return "contribution", f"exact here: the vector is the mean of a feature map of {h} x {w}"


def _contribution(
    map_a: "NDArray[np.float64]",
    map_b: "NDArray[np.float64]",
    a: "NDArray[np.float64]",
    b: "NDArray[np.float64]",
    mean: "NDArray[np.float64]",
) -> "tuple[_Map, _Map, NDArray[np.float32]]":
    """Split cos(a, b) over patches; maps (d, h, w) whose means are a + mean and b + mean."""
    patches_a = map_a.reshape(len(mean), -1) - mean[:, None]
    patches_b = map_b.reshape(len(mean), -1) - mean[:, None]
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    in_a = (b @ patches_a) / (patches_a.shape[1] * norm)
    in_b = (a @ patches_b) / (patches_b.shape[1] * norm)
    matrix = (patches_a.T @ patches_b) / (patches_a.shape[1] * patches_b.shape[1] * norm)
    return (
        _Map(in_a.reshape(map_a.shape[1:]).astype(np.float32), adds_up=True),
        _Map(in_b.reshape(map_b.shape[1:]).astype(np.float32), adds_up=True),
        matrix.astype(np.float32),
    )


def _attribute(encoder: Encoder, target: _Target, x: "Tensor", method: str | Callable[..., Any]) -> _Map:
    """Run one method on one preprocessed image (1, 3, h, w)."""
    if callable(method):
        values = np.asarray(method(target.value, x.clone()), np.float32)
        if values.ndim != 2 or not np.isfinite(values).all():
            raise InputError(
                f"The method {method_name(method)!r} must return finite values (h, w); it gave shape {values.shape}."
            )
        return _Map(values)
    if method == "contribution":
        return _contribution_to_target(encoder, target, x)
    return {
        "gradcam": lambda: _gradcam(encoder, target.held, x),
        "sensitivity": lambda: _gradcam(encoder, target.value, x),
        "occlusion": lambda: _occlusion(encoder, target, x),
        "integrated_gradients": lambda: _integrated_gradients(target, x),
        "saliency": lambda: _saliency(target, x),
    }[method]()


def _contribution_to_target(encoder: Encoder, target: _Target, x: "Tensor") -> _Map:
    maps, vectors = encoder.feature_maps(x)
    z = vectors[0].double().cpu().numpy()
    values = np.tensordot(np.asarray(target.direction), maps[0].double().cpu().numpy(), axes=1)
    return _Map((values / (values.size * np.linalg.norm(z))).astype(np.float32), adds_up=True)


def _gradcam(encoder: Encoder, value: "Callable[[Tensor], Tensor]", x: "Tensor") -> _Map:
    from captum.attr import LayerGradCam

    layer = encoder.module.get_submodule(encoder.spatial_layer)
    found = LayerGradCam(value, layer).attribute(_leaf(x).to(encoder.device), relu_attributions=False)
    return _Map(_numpy(found)[0, 0])


def _occlusion(encoder: Encoder, target: _Target, x: "Tensor") -> _Map:
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
            perturbations_per_eval=_FORWARD,
        )
    # Windows cover whole cells, so the map is constant on each: one value a cell is all there is.
    rows = np.minimum(np.arange(0, h, step_h) + step_h // 2, h - 1)
    columns = np.minimum(np.arange(0, w, step_w) + step_w // 2, w - 1)
    return _Map(_numpy(found)[0, 0][np.ix_(rows, columns)])


def _integrated_gradients(target: _Target, x: "Tensor") -> _Map:
    from captum.attr import IntegratedGradients

    baseline = _plain_image(x)
    found = IntegratedGradients(target.value).attribute(
        _leaf(x), baselines=baseline, n_steps=_IG_STEPS, internal_batch_size=_FORWARD
    )
    return _Map(_numpy(found)[0].sum(axis=0), baseline=_number(target, baseline), adds_up=True)


def _saliency(target: _Target, x: "Tensor") -> _Map:
    from captum.attr import Saliency

    return _Map(_numpy(Saliency(target.value).attribute(_leaf(x), abs=True))[0].max(axis=0))


def _leaf(x: "Tensor") -> "Tensor":
    """Return a copy that gradients can be taken for, as Captum wants it."""
    return x.clone().requires_grad_()


def _plain_image(x: "Tensor") -> "Tensor":
    """Return an image of the same mean colour: neutral under any preprocess, unlike zeros."""
    return x.mean(dim=(2, 3), keepdim=True).expand_as(x).contiguous()


def _vector_target(encoder: Encoder, vector: "NDArray[np.float64]", mean: "NDArray[np.float64] | None") -> _Target:
    """Explain the cosine to a vector (d,), after taking `mean` (d,) off both."""
    import torch

    mean = np.zeros(encoder.dim) if mean is None else mean
    norm = np.linalg.norm(vector - mean)
    if norm <= _NOTHING * np.linalg.norm(vector):
        raise InputError("The target vector is zero (or equals the center), so nothing has a cosine to it.")
    direction = (vector - mean) / norm
    unit = torch.as_tensor(direction, dtype=torch.float32, device=encoder.device)
    offset = torch.as_tensor(mean, dtype=torch.float32, device=encoder.device)

    def value(x: "Tensor", *, hold: bool = False) -> "Tensor":
        z = encoder.vectors(x).float() - offset
        norms = z.norm(dim=1)
        return (z @ unit) / (norms.detach() if hold else norms)

    return _Target("the given vector", "points of cosine", value, lambda x: value(x, hold=True), direction)


def _class_target(encoder: Encoder, x: "Tensor", index: int) -> _Target:
    from .capture import evaluating

    def value(x: "Tensor") -> "Tensor":
        with evaluating(encoder.module):
            return encoder.module(x.to(encoder.device))[:, index]

    with evaluating(encoder.module):
        scores = encoder.module(x.to(encoder.device))
    if getattr(scores, "ndim", 0) != 2 or not 0 <= index < scores.shape[1]:
        shape = tuple(getattr(scores, "shape", ()))
        raise InputError(f"target={index} is no class of {encoder.name}, whose output has shape {shape}.")
    return _Target(f"class {index}", "logit", value, value)


def _unit_of(method: str | Callable[..., Any], unit: str) -> str:
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


def _check_method(method: str | Callable[..., Any], known: tuple[str, ...]) -> None:
    if not callable(method) and method not in known:
        raise InputError(f"No method {method!r} here: choose one of {', '.join(map(repr, known))}, or pass a callable.")


def _center(center: "Embeddings | NDArray[Any] | None", encoder: Encoder) -> "NDArray[np.float64]":
    if center is None:
        return np.zeros(encoder.dim)
    mean = center.vectors.mean(axis=0, dtype=np.float64) if isinstance(center, Embeddings) else center
    return _as_vector(mean, encoder.dim, "center")


def _as_vector(value: Any, dim: int, name: str) -> "NDArray[np.float64]":
    vector = np.asarray(value, np.float64)
    if vector.shape != (dim,) or not np.isfinite(vector).all():
        raise InputError(f"{name} must be a finite vector of {dim} dimensions; it has shape {vector.shape}.")
    return vector


def _residual(found: _Map, value: float) -> float | None:
    return value - (found.baseline or 0.0) - float(found.values.sum(dtype=np.float64)) if found.adds_up else None


def _number(target: _Target, x: "Tensor") -> float:
    import torch

    with torch.no_grad():
        return float(target.value(x)[0])


def _numpy(tensor: "Tensor") -> "NDArray[np.float32]":
    return tensor.detach().cpu().float().numpy()
