"""What is explained: a number for every image of a batch, and the map that a method makes of it."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..embeddings import Embeddings
from ..encoders import Encoder
from ..errors import InputError
from .spatial import last_spatial_layer, spatial_layer

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Center = Embeddings | NDArray[Any]  # what `center=` takes

NOTHING = 1e-6  # of a vector's norm: what rounding leaves when a vector is taken off itself


class Head(Protocol):
    """From what the explained layer gives, (n, d), to the number (n,)."""

    def __call__(self, z: "Tensor", *, hold: bool = False) -> "Tensor":
        """Return the numbers; with `hold`, the norm of z is a constant in the gradient."""
        ...


@dataclass(frozen=True)
class Target:
    """What is explained: a number for every image of a batch.

    Attributes
    ----------
    name
        In words.
    unit
        Of the number.
    features
        From a preprocessed batch (n, 3, h, w) to what the number is computed from: the encoder's vectors (n, d), or for
        a class what the network returns.
    head
        From that to the number.
    layer
        Whose values are explained.
    spatial_layer
        Gives the layer where Grad-CAM looks; raises where it cannot.
    direction
        (d,) for a cosine: the number is <z - mean, direction> / |z - mean|. Of length 1 for one cosine, the difference
        of two such vectors for a difference of cosines. None for a class.
    mean
        (d,) what is taken off the vector first; None for a class.
    """

    name: str
    unit: str
    features: "Callable[[Tensor], Any]"
    head: Head
    layer: str
    spatial_layer: "Callable[[], str]"
    direction: "NDArray[np.float64] | None" = None
    mean: "NDArray[np.float64] | None" = None

    def value(self, x: "Tensor") -> "Tensor":
        """Return the number (n,) of a preprocessed batch (n, 3, h, w)."""
        return self.head(self.features(x))

    def held(self, x: "Tensor") -> "Tensor":
        """Return the same, with the vector's norm a constant in the gradient; for a class there is no norm."""
        return self.head(self.features(x), hold=True)


@dataclass(frozen=True)
class Map:
    """One map (h, w) float32, with what its method knows about the sum."""

    values: "NDArray[np.float32]"
    baseline: float | None = None
    adds_up: bool = False


def unit_vector(vector: "NDArray[np.float64]", mean: "NDArray[np.float64]", what: str) -> "NDArray[np.float64]":
    """Return a vector (d,) less a mean, at length 1; `what` names it where nothing is left."""
    rest = vector - mean
    norm = np.linalg.norm(rest)
    if norm <= NOTHING * np.linalg.norm(vector):
        raise InputError(f"{what} is zero (or equals the center), so nothing has a cosine to it.")
    return rest / norm


def offset_of(encoder: Encoder, mean: "NDArray[np.float64] | None") -> "NDArray[np.float64]":
    """Return what is taken off every vector (d,): a mean, or nothing."""
    return np.zeros(encoder.dim) if mean is None else mean


def units_of(
    encoder: Encoder, vectors: "Sequence[NDArray[np.float64]]", mean: "NDArray[np.float64] | None"
) -> "list[NDArray[np.float64]]":
    """Return the vectors (d,) of images less a mean, at length 1.

    Raises
    ------
    InputError
        Nothing is left of one of them.
    """
    return [unit_vector(vector, offset_of(encoder, mean), "An image's vector") for vector in vectors]


def vector_target(
    encoder: Encoder,
    vector: "NDArray[np.float64]",
    mean: "NDArray[np.float64] | None",
    *,
    name: str = "the given vector",
) -> Target:
    """Explain the cosine to a vector (d,), after taking `mean` (d,) off both.

    Raises
    ------
    InputError
        Nothing is left of the vector without the mean.
    """
    offset = offset_of(encoder, mean)
    unit = unit_vector(vector, offset, "The target vector")
    return direction_target(encoder, unit, offset, encoder.vectors, name=name)


def direction_target(
    encoder: Encoder,
    direction: "NDArray[np.float64]",
    mean: "NDArray[np.float64]",
    features: "Callable[[Tensor], Tensor]",
    *,
    name: str,
) -> Target:
    """Explain <z - mean, direction> / |z - mean| of the vector z: a cosine, or a difference of cosines.

    `features` gives the vectors (n, d) of a batch: `encoder.vectors`, or what remembers them.
    """
    import torch

    unit = torch.as_tensor(direction, dtype=torch.float32, device=encoder.device)
    offset = torch.as_tensor(mean, dtype=torch.float32, device=encoder.device)

    def head(z: "Tensor", *, hold: bool = False) -> "Tensor":
        z = z.float() - offset
        norms = z.norm(dim=1)
        return (z @ unit) / (norms.detach() if hold else norms)

    return Target(
        name, "points of cosine", features, head, encoder.layer, lambda: spatial_layer(encoder), direction, mean
    )


def class_target(encoder: Encoder, x: "Tensor", index: int) -> Target:
    """Explain a class score of the network's own output, for a preprocessed image x (1, 3, h, w)."""
    import torch

    def head(z: "Tensor", *, hold: bool = False) -> "Tensor":
        return z[:, index]

    with torch.no_grad():
        scores = encoder.scores(x)
    if getattr(scores, "ndim", 0) != 2 or not 0 <= index < scores.shape[1]:
        shape = tuple(getattr(scores, "shape", ()))
        raise InputError(f"target={index} is no class of {encoder.name}, whose output has shape {shape}.")
    return Target(f"class {index}", "logit", encoder.scores, head, "output", lambda: last_spatial_layer(encoder))


def number(target: Target, x: "Tensor") -> float:
    """Return the value of a target for one preprocessed image (1, 3, h, w)."""
    import torch

    with torch.no_grad():
        return float(target.value(x)[0])


def plain_image(x: "Tensor") -> "Tensor":
    """Return an image of the same mean color: neutral under any preprocess, unlike zeros."""
    return x.mean(dim=(2, 3), keepdim=True).expand_as(x).contiguous()


def class_index(target: Any) -> int | None:
    """Return the class that a whole number of any kind means, or None for what can be a vector.

    Raises
    ------
    InputError
        It can be neither.
    """
    if isinstance(target, (str, bool)) or target is None:
        raise InputError(f"target must be a class index, a vector (d,), vectors (m, d) or Embeddings, not {target!r}.")
    if isinstance(target, Embeddings) or getattr(target, "ndim", 0) != 0:
        return None
    try:
        return operator.index(target)
    except TypeError:
        return None


def aim(target: Any, encoder: Encoder) -> "tuple[NDArray[np.float64], str]":
    """Return the vector (d,) that a target means, and what it is in words: of several, such as a cluster's, their mean.

    Raises
    ------
    InputError
        It is no vector of this encoder, nor several.
    """
    if isinstance(target, Embeddings):
        _check_maker(target, encoder, "target")
        target = target.vectors
    if np.ndim(target) == 2 and len(target):
        return _mean(target, encoder.dim, "target"), f"the center of {len(target)} vectors"
    return _finite(target, encoder.dim, "target"), "the given vector"


def center_of(center: "Center | None", encoder: Encoder) -> "NDArray[np.float64] | None":
    """Return the mean (d,) that `center=` means, or None for none.

    Raises
    ------
    InputError
        It is no vector of this encoder's size, or the Embeddings are another encoder's.
    """
    if center is None:
        return None
    if isinstance(center, Embeddings):
        _check_maker(center, encoder, "center")
        return _mean(center.vectors, encoder.dim, "center")
    return _finite(center, encoder.dim, "center")


def _check_maker(embeddings: Embeddings, encoder: Encoder, name: str) -> None:
    made_by = embeddings.provenance.get("fingerprint")
    if made_by is not None and made_by != encoder.fingerprint:
        raise InputError(
            f"{name}= are embeddings by the encoder {made_by}, and this encoder is {encoder.fingerprint}: another "
            "network, weights, layer, pooling, precision or preprocess, so their mean says nothing here. Use this one."
        )


def _mean(vectors: Any, dim: int, name: str) -> "NDArray[np.float64]":
    return _finite(_numbers(vectors, dim, name).mean(axis=0), dim, name)


def _finite(value: Any, dim: int, name: str) -> "NDArray[np.float64]":
    vector = _numbers(value, dim, name)
    if vector.shape != (dim,) or not np.isfinite(vector).all():
        raise InputError(f"{name} must be a finite vector of {dim} dimensions; it has shape {vector.shape}.")
    return vector


def _numbers(value: Any, dim: int, name: str) -> "NDArray[np.float64]":
    try:
        return np.asarray(value.detach().cpu().double() if hasattr(value, "detach") else value, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be a vector of {dim} numbers, not {type(value).__name__}: {error}.") from error
