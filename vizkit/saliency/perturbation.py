"""Methods that hide parts of an image and see what the number loses."""

from typing import TYPE_CHECKING

import numpy as np

from .targets import FORWARD, Map, Target, plain_image

if TYPE_CHECKING:
    from torch import Tensor

_GRID = 8  # occlusion: cells a side; windows are two cells wide and move by one


def occlusion(target: Target, x: "Tensor") -> Map:
    """Return how much the number drops when windows are painted in the mean color."""
    import torch
    from captum.attr import Occlusion

    h, w = x.shape[2:]
    step_h, step_w = -(-h // _GRID), -(-w // _GRID)
    with torch.no_grad():
        found = Occlusion(target.value).attribute(
            x,
            sliding_window_shapes=(x.shape[1], min(2 * step_h, h), min(2 * step_w, w)),
            strides=(x.shape[1], step_h, step_w),
            baselines=plain_image(x),
            perturbations_per_eval=FORWARD,
        )
    # Windows cover whole cells, so the map is constant on each: one value a cell is all there is.
    rows = np.minimum(np.arange(0, h, step_h) + step_h // 2, h - 1)
    columns = np.minimum(np.arange(0, w, step_w) + step_w // 2, w - 1)
    return Map(found.cpu().float().numpy()[0, 0][np.ix_(rows, columns)])
