"""From what a layer gives to one vector an image."""

from typing import TYPE_CHECKING

from .errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

POOLS = ("gap", "gem", "max", "cls", "flatten", "none")
# As in the reference implementation of GeM, filipradenovic/cnnimageretrieval-pytorch.
_GEM_POWER, _GEM_FLOOR = 3.0, 1e-6


def pooled(x: "Tensor", pool: str, *, channels_last: bool, layer: str) -> "Tensor":
    """Return vectors (n, d) that share no memory with what a layer gives.

    Parameters
    ----------
    x
        Vectors (n, d), which are not pooled, tokens (n, t, c), or maps (n, c, h, w).
    pool
        "gap": mean over positions. "gem": generalized mean over positions, the cube root of the mean of cubes, values
        below 1e-6 counting as that (Radenović et al. 2018, arXiv:1711.02512). "max". "cls": the first token. "flatten"
        and "none": every number, in the layer's own order.
    channels_last
        Whether maps are (n, h, w, c).
    layer
        Named in errors.

    Raises
    ------
    InputError
        The pooling does not fit the shape.
    """
    if x.ndim == 2 or pool in ("flatten", "none"):
        return x.flatten(1).clone()
    if pool == "cls":
        if x.ndim != 3:
            raise InputError(f"pool='cls' needs tokens (n, t, c); {layer!r} gives {tuple(x.shape)}.")
        return x[:, 0].clone()
    if x.ndim > 4:
        raise InputError(
            f"pool={pool!r} needs tokens (n, t, c) or maps (n, c, h, w); {layer!r} gives {tuple(x.shape)}. "
            "Take pool='flatten', or another layer."
        )
    positions = (1,) if x.ndim == 3 else (1, 2) if channels_last else (2, 3)
    if pool == "max":
        return x.amax(dim=positions)
    x = x.float() if x.element_size() < 4 else x  # half precision holds too few digits for a sum
    if pool == "gem":
        return x.clamp(min=_GEM_FLOOR).pow(_GEM_POWER).mean(dim=positions).pow(1 / _GEM_POWER)
    return x.mean(dim=positions)
