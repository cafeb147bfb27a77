"""Where in an image: the feature maps that a vector is the mean of, and the layers that have positions."""

from typing import TYPE_CHECKING

from ..capture import Call, averaged_maps
from ..encoders import Encoder
from ..errors import MethodNotApplicableError
from ..layers import calls_before, last_map

if TYPE_CHECKING:
    from torch import Tensor

# How far the mean of a feature map may be from the vector, relative to the vector's norm, to count as the same thing.
_EXACT = 1e-5


def feature_maps(encoder: Encoder, batch: "Tensor") -> "tuple[Tensor, Tensor]":
    """Return the maps (n, d, h, w) whose mean over positions is the vector, and the vectors (n, d), both float32.

    The claim is checked on these very images, to 1e-5 of each vector's norm, so what is built on it is exact.

    Raises
    ------
    MethodNotApplicableError
        The vector is not the mean of a feature map (a CLS token, layers after the pooling, max pooling, ...).
    """
    import torch

    with torch.no_grad(), averaged_maps(encoder.dim) as candidates:
        vectors = encoder.vectors(batch).float()
    for candidate in reversed(candidates):
        maps = candidate.float()
        if len(maps) == len(vectors):
            error = (maps.mean(dim=(2, 3)) - vectors).norm(dim=1)
            if bool((error <= _EXACT * vectors.norm(dim=1) + 1e-30).all()):
                return maps, vectors
    why = "is not the mean of a feature map over its positions"
    if not candidates:
        why = "comes from no averaging of a known form over a feature map"
    hint = "" if encoder.precision == "float32" else " At half precision sums are not exact: try precision='float32'."
    raise MethodNotApplicableError(
        f"The vector of {encoder.name} at {encoder.layer!r} (pool {encoder.pool!r}) {why}, so it cannot be split into "
        f"contributions of patches. Use method='occlusion', or a layer that is averaged.{hint}"
    )


def spatial_layer(encoder: Encoder) -> str:
    """Return the last layer up to the vector that gives maps (c, h, w) of several positions: where Grad-CAM looks."""
    return _last_map(encoder, calls_before(encoder.calls, encoder.layer), f"before {encoder.layer!r}")


def last_spatial_layer(encoder: Encoder) -> str:
    """Return the last such layer of the whole network, whatever its `layer` is: where Grad-CAM looks for a class."""
    return _last_map(encoder, encoder.calls, "in it")


def _last_map(encoder: Encoder, calls: list[Call], where: str) -> str:
    once = [c.name for c in encoder.calls].count
    found = last_map([c for c in calls if once(c.name) == 1], encoder.input_shape[1:])
    if found is None:
        why = f"has no feature map (c, h, w) {where}, so Grad-CAM has nothing to weigh"
    elif found.channels == 3:
        why = f"gives (h, w, c) at {found.name!r}, its last feature map {where}, and Grad-CAM weighs (c, h, w)"
    else:
        return found.name
    raise MethodNotApplicableError(f"{encoder.name} {why}. Use method='occlusion'.")
