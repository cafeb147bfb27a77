"""Watching a network run: layer outputs, and the spatial map that a vector is the mean of. Nothing is left behind."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .errors import LayerNotFoundError, closest

if TYPE_CHECKING:
    from torch import Tensor, nn

INPUT = "input:"  # layer="input:fc" is what goes into fc, layer="fc" is what comes out


@contextmanager
def evaluating(module: "nn.Module") -> "Generator[None]":
    """Put a module into eval mode; every submodule gets its own training flag back, whatever happens inside."""
    training = [m for m in module.modules() if m.training]
    for m in training:
        m.training = False
    try:
        yield
    finally:
        for m in training:
            m.training = True


def calibrate(module: "nn.Module", batch: "Tensor") -> None:
    """Set the statistics of every BatchNorm from one batch (n, 3, h, w); all else stays in eval mode."""
    norms = [m for m in module.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    module.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over what passes
        norm.train()
    with torch.no_grad():
        module(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


class Call(NamedTuple):
    """One call of a submodule: its name, whether it is a Linear, the shape of its output, and which call it was."""

    name: str
    linear: bool
    shape: tuple[int, ...]


def trace(module: "nn.Module", batch: "Tensor") -> list[Call]:
    """Return the calls of all named submodules that give one tensor, in the order in which they finish."""
    calls: list[Call] = []
    handles = []
    for name, part in module.named_modules():
        if name:

            def note(m: "nn.Module", _: object, out: object, name: str = name) -> None:
                if isinstance(out, torch.Tensor):
                    calls.append(Call(name, isinstance(m, torch.nn.Linear), tuple(out.shape)))

            handles.append(part.register_forward_hook(note))
    try:
        with evaluating(module), torch.no_grad():
            module(batch)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def find_layer(module: "nn.Module", layer: str, calls: list[Call]) -> "nn.Module":
    """Return the submodule behind a layer name; LayerNotFoundError where it cannot serve."""
    name = layer.removeprefix(INPUT)
    names = [c.name for c in calls]
    parts = dict(module.named_modules())
    if name not in parts or not name:
        raise LayerNotFoundError(f"The network has no layer {name!r}.{closest(name, names)} See encoder.layers.")
    if name not in names:
        raise LayerNotFoundError(
            f"The layer {name!r} never runs in a forward pass, or gives no single tensor.{closest(name, names)}"
        )
    if names.count(name) > 1:
        raise LayerNotFoundError(
            f"The layer {name!r} runs {names.count(name)} times in one forward pass, so its output is not one thing. "
            f"Choose the block around it.{closest(name.rpartition('.')[0], [n for n in names if names.count(n) == 1])}"
        )
    return parts[name]


@contextmanager
def tapped(part: "nn.Module", layer: str) -> "Generator[list[Tensor]]":
    """Collect what the layer gives (or gets, for "input:...") while the block runs; the list holds one tensor a call.

    The tensor is cloned: a later in-place ReLU would otherwise change it without a word.
    """
    seen: list[Tensor] = []

    def after(_: object, __: object, output: "Tensor") -> None:
        seen.append(output.clone())

    def before(_: object, inputs: "tuple[Tensor, ...]") -> None:
        seen.append(inputs[0].clone())

    hook = part.register_forward_pre_hook(before) if layer.startswith(INPUT) else part.register_forward_hook(after)
    try:
        yield seen
    finally:
        hook.remove()


# The same pooling reaches the dispatcher under different names, by autograd mode and device.
_AVERAGES = (
    torch.ops.aten.mean.dim,
    torch.ops.aten.adaptive_avg_pool2d.default,
    torch.ops.aten._adaptive_avg_pool2d.default,
    torch.ops.aten.mkldnn_adaptive_avg_pool2d.default,
)


class _Means(TorchDispatchMode):
    """Keeps the input of every mean over the positions of a feature map that yields `dim` channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.maps: list[Tensor] = []

    def __torch_dispatch__(self, func, types, args: tuple[Any, ...] = (), kwargs=None):  # noqa: ANN001, ANN204
        out = func(*args, **(kwargs or {}))
        if func in _AVERAGES:
            x = args[0]
            if x.ndim == 4 and x.shape[1] == self.dim and x.shape[2] * x.shape[3] > 1:
                self.maps.append(x.clone())
        return out


@contextmanager
def averaged_maps(dim: int) -> "Generator[list[Tensor]]":
    """Collect every feature map (n, dim, h, w) that is averaged over its positions while the block runs.

    PyTorch's dispatcher sees the pooling whatever wrote it (a module, a function, a method), which hooks do not.
    """
    mode = _Means(dim)
    with mode:
        yield mode.maps
