"""The exact split of a cosine over the positions of a feature map whose mean is the vector.

Where z is the mean of a map A over its hw positions, <z - m, u> / |z - m| is the sum over positions i of
<A_i - m, u> / (hw |z - m|): for a cosine (u of length 1), a centered one (m a mean vector), or a difference of cosines
(u the difference of two such vectors). Stylianou et al. 2019 ("Visualizing Deep Similarity Networks", section 3) and
Zhu et al. 2021 ("Visual Explanation for Deep Metric Learning", eq. 4) draw the same sum.
"""

from typing import TYPE_CHECKING

import numpy as np

from ..encoders import Encoder
from .spatial import feature_maps
from .targets import Map, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def contribution(encoder: Encoder, target: Target, x: "Tensor") -> Map:
    """Split a target that is a cosine over the positions of the feature map of one image (1, 3, h, w).

    Raises
    ------
    MethodNotApplicableError
        The vector is not the mean of a feature map.
    """
    maps, vectors = feature_maps(encoder, x)
    features, z = maps[0].cpu().numpy(), vectors[0].double().cpu().numpy()
    mean = np.zeros(len(z)) if target.mean is None else target.mean
    return share(patches_of(features, z - mean, mean), np.asarray(target.direction), features.shape[1:])


def patches_of(
    maps: "NDArray[np.float32]", centered: "NDArray[np.float64]", mean: "NDArray[np.float64]"
) -> "NDArray[np.float32]":
    """Return a map (d, h, w) whose mean is `centered + mean` as patches (d, hw) whose sum is `centered`, length 1."""
    patches = maps.reshape(len(mean), -1) - mean[:, None]
    return (patches / (patches.shape[1] * np.linalg.norm(centered))).astype(np.float32)


def share(patches: "NDArray[np.float32]", direction: "NDArray[np.float64]", shape: tuple[int, ...]) -> Map:
    """Split the product of a vector, given as patches (d, hw), with a direction (d,) over the patches."""
    return Map((direction @ patches.astype(np.float64)).reshape(shape).astype(np.float32), adds_up=True)
