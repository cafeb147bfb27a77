"""A faster twin of a network: each BatchNorm folded into the convolution before it, and channels last in memory."""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from .capture import INPUT, batch_norms, evaluating, unchanged
from .encoders import Encoder, encode_layers

if TYPE_CHECKING:
    from torch import Tensor

# How far a folded twin's vectors may be off, relative to the vector's norm: more than rounding, and far less than a
# convolution whose own output is read elsewhere.
_SAME = 1e-4


def folded_encoders(encoders: Sequence[Encoder]) -> list[Encoder] | None:
    """Return the same encoders on a folded twin of their network, or None where it would not be the same, or no faster.

    Done on a CPU in float32 alone, where it was measured to pay (tests/benchmarks). The vectors of two drawn images are
    compared at every layer.

    Parameters
    ----------
    encoders
        One network at its layers: made by `Encoder.at`, so that module and preprocess are shared.
    """
    first = encoders[0]
    if first.device != "cpu" or first.precision != "float32" or not batch_norms(first.module):
        return None
    batch = first.input.probe()
    try:
        twin = folded(first.module, first.placed(batch[:1]), [encoder.layer for encoder in encoders])
        if twin is None:
            return None
        twins = [encoder.on(twin) for encoder in encoders]
        found = encode_layers(twins, batch)
    except Exception:  # a user's module may refuse to be copied, or to run without its BatchNorm: it then runs as it is
        return None
    for ours, theirs in zip(found, encode_layers(encoders, batch), strict=True):
        if (np.linalg.norm(ours - theirs, axis=1) > _SAME * np.linalg.norm(theirs, axis=1)).any():
            return None
    return twins


def folded(module: nn.Module, batch: "Tensor", layers: Sequence[str]) -> nn.Module | None:
    """Return a copy in eval mode that computes the same faster, or None where there is nothing to fold.

    A BatchNorm is folded where what goes into it is what one convolution gave, and both run once. That nothing else
    reads the convolution's own output cannot be seen from outside: compare before use.

    Parameters
    ----------
    module
        Left as it is.
    batch
        (1, c, h, w) preprocessed, on the module's device: it is run once to see what follows what.
    layers
        Names of layers that will be read: what a convolution gives by itself is gone once it is folded.
    """
    pairs = [(conv, norm) for conv, norm in _pairs(module, batch) if not {conv, INPUT + norm} & set(layers)]
    if not pairs:
        return None
    twin = copy.deepcopy(module).eval()
    for conv_name, norm_name in pairs:
        conv: Any = twin.get_submodule(conv_name)
        norm: Any = twin.get_submodule(norm_name)
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        parent, _, leaf = norm_name.rpartition(".")
        setattr(twin.get_submodule(parent), leaf, nn.Identity())
    return twin.to(memory_format=torch.channels_last)


def _pairs(module: nn.Module, batch: "Tensor") -> list[tuple[str, str]]:
    """Return (convolution, BatchNorm) by name where the one gives what the other gets, and each runs once."""
    names = {part: name for name, part in module.named_modules()}
    given: dict[int, tuple[nn.Module, Tensor]] = {}  # by the identity of the tensor, which is kept alive meanwhile
    before: dict[nn.Module, list[nn.Module | None]] = {}
    runs: dict[nn.Module, int] = {}

    def gave(part: nn.Module, _: object, out: "Tensor") -> None:
        runs[part] = runs.get(part, 0) + 1
        given[id(out)] = (part, out)

    def gets(part: nn.Module, inputs: "tuple[Tensor, ...]") -> None:
        before.setdefault(part, []).append(given.get(id(inputs[0]), (None,))[0])

    handles = []
    try:
        for part in names:
            if type(part) is nn.Conv2d:
                handles.append(part.register_forward_hook(gave))
            elif type(part) is nn.BatchNorm2d and part.track_running_stats:
                handles.append(part.register_forward_pre_hook(gets))
        with evaluating(module), unchanged(module), torch.no_grad():
            module(batch)
    finally:
        for handle in handles:
            handle.remove()
    found = [(conv[0], norm) for norm, conv in before.items() if len(conv) == 1 and conv[0] is not None]
    return [(names[conv], names[norm]) for conv, norm in found if runs[conv] == 1]
