"""Why: saliency on one image (`explain`), and evidence on both images for their similarity (`explain_pair`)."""

import operator
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..embeddings import Embeddings
from ..encoders import Encoder
from ..errors import InputError, MethodNotApplicableError
from ..images import as_image
from .contribution import patches_of, share
from .evidence import NOT_MEASURED, Evidence, PairEvidence, method_name
from .methods import attribute, layer_of, residual, unit_of
from .spatial import feature_maps
from .targets import FORWARD, NOTHING, class_target, number, vector_target

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

PAIR_METHODS = ("contribution", "occlusion", "gradcam", "sensitivity")
METHODS = ("gradcam", "integrated_gradients", "occlusion", "saliency", "contribution")


def explain(
    encoder: Encoder,
    image: "Image.Image | str | Path | NDArray[Any]",
    *,
    target: "int | NDArray[Any] | Tensor",
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
        A class index into the network's own output, whatever the encoder's layer is, or a vector (d,): then the cosine
        to it is explained.
    method
        "gradcam" (Selvaraju et al. 2017, eq. 1 and 2 without the final ReLU, so that evidence against stays visible;
        Captum's LayerGradCam at the last feature map: of the network for a class, up to the vector for a vector, and
        then with the norm held, see `explain_pair`),
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
    _check_encoder(encoder)
    _check_method(method, METHODS)
    start = time.perf_counter()
    x = encoder.preprocess(as_image(image))[None]
    index = _class_index(target)
    if index is not None:
        if method == "contribution":
            raise MethodNotApplicableError(
                "contribution splits a similarity, not a class score: give a vector as target, or method='gradcam'."
            )
        what = class_target(encoder, x, index)
    else:
        what = vector_target(encoder, _as_vector(target, encoder.dim, "target"), None)
    found = attribute(encoder, what, x, method)
    value = number(what, x)
    return Evidence(
        found.values, value, method, what.name, unit_of(method, what.unit), layer_of(method, what), encoder.name,
        encoder.seen(x[0]), residual(found, value), found.baseline, time.perf_counter() - start,
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
        "gradcam": Captum's LayerGradCam at the last feature map with |z| held constant in the gradient; it equals
        contribution only where the averaged map is a module's output. In DenseNet it is not: its last ReLU is a
        function, and Grad-CAM reads before it.
        "sensitivity": the same with the plain cosine, whose gradient along z is zero: its map adds up to 0 where
        the map is averaged, and says where a change would turn the vector, not what makes the similarity up.
        A callable (f, x) -> (h, w): f gives the similarity (n,) to the other image of a preprocessed batch, x is the
        preprocessed image (1, 3, h, w); it is called once for each side.
        None: contribution where it is exact, else occlusion; `reason` says which and why.
    center
        Explain the centered cosine: a mean vector (d,), or the Embeddings whose mean is taken off both vectors first.
        Random pairs have a raw cosine far above 0; the centered one is sharper and equally exact. Embeddings must be
        those of this encoder.

    Returns
    -------
    PairEvidence

    Raises
    ------
    InputError
        An image cannot be used, the method is unknown, a vector is zero, so that there is no cosine, or the center
        belongs to another encoder.
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

    _check_encoder(encoder)
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
    if (norms <= NOTHING * np.linalg.norm(vectors, axis=1)).any():
        raise InputError("A vector is zero (or equals the center), so it has no cosine to anything.")
    units = centered / norms[:, None]
    shared = (time.perf_counter() - start) / max(len(others), 1)
    results = []
    query_patches = patches_of(maps[0], centered[0], mean) if maps is not None and chosen == "contribution" else None
    for j in tqdm(range(1, len(x)), desc=method_name(chosen), unit="pair", delay=2, leave=False):
        start = time.perf_counter()
        similarity = float(units[0] @ units[j])
        to_query, to_other = (vector_target(encoder, vectors[i], mean) for i in (0, j))
        if maps is not None and query_patches is not None:
            patches = (query_patches, patches_of(maps[j], centered[j], mean))
            in_a = share(patches[0], units[j], maps[0].shape[1:])
            in_b = share(patches[1], units[0], maps[j].shape[1:])
        else:
            patches = None
            in_a = attribute(encoder, to_other, x[:1], chosen)
            in_b = attribute(encoder, to_query, x[j : j + 1], chosen)
        results.append(
            PairEvidence(
                map_a=in_a.values,
                map_b=in_b.values,
                patches=patches,
                similarity=similarity,
                method=chosen,
                unit=unit_of(chosen, "points of cosine"),
                residual_a=residual(in_a, similarity),
                residual_b=residual(in_b, similarity),
                baseline_similarity=None,
                centered=center is not None,
                seen_a=encoder.seen(x[0]),
                seen_b=encoder.seen(x[j]),
                layer=layer_of(chosen, to_query),
                encoder=encoder.name,
                reason=reason,
                trust=NOT_MEASURED,
                seconds=shared + time.perf_counter() - start,
            )
        )
    return results


def _maps_and_vectors(
    encoder: Encoder, x: "Tensor"
) -> "tuple[list[NDArray[np.float32]] | None, NDArray[np.float64], MethodNotApplicableError | None]":
    """Return every image's feature map (d, h, w) where that is exact (else None and the refusal), and the vectors."""
    maps, vectors, refusal = [], [], None
    for start in range(0, len(x), FORWARD):
        batch = x[start : start + FORWARD]
        if refusal is None:
            try:
                m, v = feature_maps(encoder, batch)
                maps.extend(m.cpu().numpy())
                vectors.extend(v.cpu().numpy().astype(np.float64))
                continue
            except MethodNotApplicableError as error:
                refusal = error
        vectors.extend(encoder.encode(batch).reshape(len(batch), -1).astype(np.float64))
    return (None if refusal else maps), np.stack(vectors), refusal


def default_method(encoder: Encoder, image: "Image.Image | str | Path | NDArray[Any]") -> tuple[str, str]:
    """Return what `explain_pair` takes when no method is named, and why."""
    return _default(_maps_and_vectors(encoder, encoder.preprocess(as_image(image))[None])[0])


def _default(maps: "list[NDArray[np.float32]] | None") -> tuple[str, str]:
    if maps is None:
        return "occlusion", "contribution is not exact here: no mean over positions was seen that gives the vector"
    h, w = maps[0].shape[1:]
    return "contribution", f"exact here: the vector is the mean of a feature map of {h} x {w}"


def _check_encoder(encoder: Any) -> None:
    if not isinstance(encoder, Encoder):
        raise InputError(
            f"The first argument must be a vizkit Encoder, not {type(encoder).__name__}: "
            "wrap a network with vk.Encoder(network, preprocess=...)."
        )


def _class_index(target: Any) -> int | None:
    """Return the class that a whole number of any kind means, or None for a vector."""
    if isinstance(target, (str, bool)) or target is None:
        raise InputError(f"target must be a class index or a vector (d,), not {target!r}.")
    if getattr(target, "ndim", 0) != 0:
        return None
    try:
        return operator.index(target)
    except TypeError:
        return None


def _check_method(method: str | Callable[..., Any], known: tuple[str, ...]) -> None:
    if not callable(method) and method not in known:
        raise InputError(f"No method {method!r} here: choose one of {', '.join(map(repr, known))}, or pass a callable.")


def _center(center: "Embeddings | NDArray[Any] | None", encoder: Encoder) -> "NDArray[np.float64]":
    if center is None:
        return np.zeros(encoder.dim)
    made_by = center.provenance.get("fingerprint") if isinstance(center, Embeddings) else None
    if made_by is not None and made_by != encoder.fingerprint:
        raise InputError(
            f"center= are embeddings by the encoder {made_by}, and this encoder is {encoder.fingerprint}: another "
            "network, weights, layer, pooling, precision or preprocess, so their mean says nothing here. Use this one."
        )
    mean = center.vectors.mean(axis=0, dtype=np.float64) if isinstance(center, Embeddings) else center
    return _as_vector(mean, encoder.dim, "center")


def _as_vector(value: Any, dim: int, name: str) -> "NDArray[np.float64]":
    try:
        vector = np.asarray(value.detach().cpu().double() if hasattr(value, "detach") else value, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be a vector of {dim} numbers, not {type(value).__name__}: {error}.") from error
    if vector.shape != (dim,) or not np.isfinite(vector).all():
        raise InputError(f"{name} must be a finite vector of {dim} dimensions; it has shape {vector.shape}.")
    return vector
