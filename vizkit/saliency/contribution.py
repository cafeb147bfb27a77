"""The exact split of a cosine over the positions of a feature map whose mean is the vector."""

from typing import TYPE_CHECKING

import numpy as np

from ..encoders import Encoder
from .spatial import feature_maps
from .targets import Map, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def contribution(encoder: Encoder, target: Target, x: "Tensor") -> Map:
    """Split the cosine to a vector over the positions of one image's feature map."""
    maps, vectors = feature_maps(encoder, x)
    z = vectors[0].double().cpu().numpy()
    values = np.tensordot(np.asarray(target.direction), maps[0].double().cpu().numpy(), axes=1)
    return Map((values / (values.size * np.linalg.norm(z))).astype(np.float32), adds_up=True)


def patches_of(
    maps: "NDArray[np.float32]", centered: "NDArray[np.float64]", mean: "NDArray[np.float64]"
) -> "NDArray[np.float32]":
    """Return a map (d, h, w) whose mean is `centered + mean` as patches (d, hw) whose sum is `centered`, length 1."""
    patches = maps.reshape(len(mean), -1) - mean[:, None]
    return (patches / (patches.shape[1] * np.linalg.norm(centered))).astype(np.float32)


def share(patches: "NDArray[np.float32]", unit: "NDArray[np.float64]", shape: tuple[int, ...]) -> Map:
    """Split the cosine to a vector of length 1 over patches (d, hw)."""
    return Map((unit @ patches.astype(np.float64)).reshape(shape).astype(np.float32), adds_up=True)
