"""Faster twins of a network: BatchNorm folded into the convolutions, and several that work side by side."""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from .capture import INPUT, alone, evaluating, unchanged
from .encoders import Encoder, encode_layers

if TYPE_CHECKING:
    from torch import Tensor

# How far a folded twin's vectors may be off, relative to the vector's norm: more than rounding, and far less than a
# convolution whose own output is read elsewhere.
_SAME = 1e-4


def side_by_side(encoders: Sequence[Encoder], n: int) -> list[list[Encoder]]:
    """Return the encoders on up to n twins of their network, each of which may run in a thread of its own.

    Twins share their weights, and are folded where that is faster. Where it cannot be known that a twin does the same,
    the encoders come back alone, on the network itself: on a GPU, for a network that writes to itself, that has hooks,
    or that cannot be copied. The vectors of two drawn images are compared at every layer.

    Parameters
    ----------
    encoders
        One network at its layers: made by `Encoder.at`, so that module and preprocess are shared.
    n
        Threads that there are.
    """
    first = encoders[0]
    if first.device != "cpu" or first.written or first.moving or _hooked(first.module):
        return [list(encoders)]
    # In float32 whatever the precision: at half precision a twin differs by rounding alone.
    exact = [encoder.exact() for encoder in encoders]
    batch = first.input.probe()
    wanted = encode_layers(exact, batch)
    for make in _makers(encoders, first.placed(batch)):
        try:
            twin = make()
            twins = [twin, *(shared_copy(twin) for _ in range(n - 1))]
            if _gives(exact, twins[-1], batch, wanted):
                return [[encoder.on(each) for encoder in encoders] for each in twins]
        except Exception:  # a user's module may refuse to be copied, or to run without its BatchNorm
            continue
    return [list(encoders)]


def _makers(encoders: Sequence[Encoder], batch: "Tensor") -> "Iterator[Callable[[], nn.Module]]":
    """Yield what makes a twin of the network, the fastest kind first and a plain copy at last."""
    first = encoders[0]

    def fold() -> nn.Module:
        return folded(first.module, batch, [encoder.layer for encoder in encoders])

    if first.precision == "float32":
        yield lambda: packed(fold(), batch)
    yield fold
    yield lambda: shared_copy(first.module)


def _gives(encoders: Sequence[Encoder], module: nn.Module, batch: "Tensor", wanted: "Sequence[np.ndarray]") -> bool:
    found = encode_layers([encoder.on(module) for encoder in encoders], batch)
    return all(
        (np.linalg.norm(ours - theirs, axis=1) <= _SAME * np.linalg.norm(theirs, axis=1)).all()
        for ours, theirs in zip(found, wanted, strict=True)
    )


def _hooked(module: nn.Module) -> bool:
    """Say whether somebody listens to the network: a twin would tell them twice, or from another thread."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(part, kind, None) for part in module.modules() for kind in kinds)


def shared_copy(module: nn.Module) -> nn.Module:
    """Return a copy of a network in eval mode that shares its parameters and buffers.

    Raises
    ------
    ValueError
        Some part copies itself as itself, so that changes to the copy would reach the network.
    """
    tensors = [*module.parameters(), *module.buffers()]
    twin = copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
    if set(twin.modules()) & set(module.modules()):
        raise ValueError("a part of the network cannot be copied")
    for part in twin.modules():  # not twin.eval(): where a module merges weights at that call, it would merge ours
        part.training = False
    return twin


def folded(module: nn.Module, batch: "Tensor", layers: Sequence[str]) -> nn.Module:
    """Return a copy in eval mode that computes the same faster, where there is a BatchNorm to fold.

    A BatchNorm is folded where what goes into it is what one convolution gave, and both run once. That nothing else
    reads the convolution's own output cannot be seen from outside: compare before use.

    Parameters
    ----------
    module
        Left as it is; what is not folded is shared with it.
    batch
        (n, c, h, w) preprocessed, on the module's device: it is run once to see what follows what.
    layers
        Names of layers that will be read: what a convolution gives by itself is gone once it is folded.
    """
    pairs = [(conv, norm) for conv, norm in _pairs(module, batch) if not {conv, INPUT + norm} & set(layers)]
    twin = shared_copy(module)
    if not pairs:
        return twin
    for conv_name, norm_name in pairs:
        conv: Any = twin.get_submodule(conv_name)
        norm: Any = twin.get_submodule(norm_name)
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        parent, _, leaf = norm_name.rpartition(".")
        setattr(twin.get_submodule(parent), leaf, nn.Identity())
    for part in twin.modules():  # not twin.to(...): that would change the memory of what is shared
        if type(part) is nn.Conv2d:  # a parametrized one computes its weight
            last = part.weight.detach().contiguous(memory_format=torch.channels_last)
            part.weight = nn.Parameter(last, requires_grad=False)
    return twin


class _Packed(nn.Module):
    """A convolution whose weights lie as the processor's library wants them, and are not arranged anew at each call."""

    def __init__(self, conv: nn.Conv2d, shape: Sequence[int]) -> None:
        super().__init__()
        self._how = (conv.padding, conv.stride, conv.dilation, conv.groups)
        arranged = torch.ops.mkldnn._reorder_convolution_weight(conv.weight.detach(), *self._how, list(shape))
        self.register_buffer("weight", arranged, persistent=False)
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach(), persistent=False)

    def forward(self, x: "Tensor") -> "Tensor":
        x = x.contiguous(memory_format=torch.channels_last)
        return torch.ops.mkldnn._convolution_pointwise(x, self.weight, self.bias, *self._how, "none", [], "")


def packed(twin: nn.Module, batch: "Tensor") -> nn.Module:
    """Arrange the weights of a twin's convolutions for oneDNN, once for all, and return it.

    Eager PyTorch arranges them at every call. This is what torch.compile uses, without a compiler; where this PyTorch
    does not have it, the twin stays as it is.

    Parameters
    ----------
    twin
        In eval mode, on a CPU, in float32; its convolutions are replaced.
    batch
        (n, c, h, w), which is run once to see what each convolution gets.
    """
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_reorder_convolution_weight")):
        return twin
    shapes: dict[nn.Module, Sequence[int]] = {}

    def note(part: nn.Module, inputs: "tuple[Tensor, ...]") -> None:
        shapes[part] = inputs[0].shape

    convolutions = [
        part
        for part in twin.modules()
        if type(part) is nn.Conv2d and part.padding_mode == "zeros" and not isinstance(part.padding, str)
    ]
    handles = [part.register_forward_pre_hook(note) for part in convolutions]
    try:
        with torch.no_grad():
            twin(batch)
    finally:
        for handle in handles:
            handle.remove()
    for parent in list(twin.modules()):
        for name, part in parent.named_children():
            if isinstance(part, nn.Conv2d) and part in shapes:
                setattr(parent, name, _Packed(part, shapes[part]))
    return twin


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
    with alone(module):
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
