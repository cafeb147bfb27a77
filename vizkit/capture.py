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


def batch_norms(module: "nn.Module") -> "list[nn.modules.batchnorm._BatchNorm]":
    """Return the submodules that keep statistics of a batch."""
    return [m for m in module.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]


def calibrate(module: "nn.Module", batch: "Tensor") -> None:
    """Set the statistics of every BatchNorm from one batch (n, 3, h, w); all else stays in eval mode."""
    norms = batch_norms(module)
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
    """One call of a submodule: its name, whether it is a Linear, the shape of its output.

    `channels` is the channel axis of a 4-d output where the class says it, else None.
    """

    name: str
    linear: bool
    shape: tuple[int, ...]
    channels: int | None


def trace(module: "nn.Module", batch: "Tensor") -> list[Call]:
    """Return the calls of all named submodules that give one tensor, in the order in which they finish."""
    calls: list[Call] = []
    handles = []
    for name, part in module.named_modules():
        if name:

            def note(m: "nn.Module", _: object, out: object, name: str = name) -> None:
                if isinstance(out, torch.Tensor):
                    calls.append(Call(name, isinstance(m, torch.nn.Linear), tuple(out.shape), _channel_axis(m)))

            handles.append(part.register_forward_hook(note))
    try:
        with evaluating(module), torch.no_grad():
            module(batch)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def channels_last(shape: tuple[int, ...], size: tuple[int, ...], calls: list[Call]) -> bool:
    """Return whether a 4-d shape is (n, h, w, c), as inside Swin and ConvNeXt, rather than (n, c, h, w).

    Positions have the proportions of the input's `size` (h, w). Where both readings have, or neither, the last of the
    `calls` up to there whose class is known decides; without any it is (n, c, h, w), PyTorch's custom.
    """
    first, last = _proportional(shape[2:], size), _proportional(shape[1:3], size)
    if first != last:
        return last
    return next((call.channels == 3 for call in reversed(calls) if call.channels is not None), False)


def _proportional(positions: tuple[int, ...], size: tuple[int, ...]) -> bool:
    """Return whether (h, w) positions can be `size` divided by one stride, rounded; exact where the input is square."""
    (h, w), (height, width) = positions, size
    return h == w if height == width else abs(h * width - w * height) < max(height, width)


def _channel_axis(module: "nn.Module") -> int | None:
    from torch import nn
    from torchvision.ops.misc import Permute

    if isinstance(module, Permute):
        return {(0, 3, 1, 2): 1, (0, 2, 3, 1): 3}.get(tuple(module.dims))
    if isinstance(module, nn.Linear) or type(module) is nn.LayerNorm:
        return 3
    convolutional = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.LayerNorm)
    return 1 if isinstance(module, convolutional) else None  # a LayerNorm of one's own is torchvision's LayerNorm2d


def last_map(calls: list[Call], size: tuple[int, ...]) -> Call | None:
    """Return the last call that gives a feature map with more than one position, its `channels` filled in, or None."""
    for i in reversed(range(len(calls))):
        shape = calls[i].shape
        if len(shape) == 4:
            last = channels_last(shape, size, calls[: i + 1])
            h, w = shape[1:3] if last else shape[2:]
            if h * w > 1:
                return calls[i]._replace(channels=3 if last else 1)
    return None


def calls_before(calls: list[Call], layer: str) -> list[Call]:
    """Return the calls that end before the layer's vector is there: for "input:X" without those inside X."""
    name = layer.removeprefix(INPUT)
    until = [c.name for c in calls].index(name)
    if name == layer:
        return calls[: until + 1]
    return [c for c in calls[:until] if not c.name.startswith(f"{name}.")]


def default_layer(calls: list[Call], network: str) -> str:
    """Return the layer that gives the vector before the classifier."""
    linear = [c.name for c in calls if c.linear]
    if linear:
        return INPUT + linear[-1]
    names = [c.name for c in calls]
    maps = [c.name for c in calls if len(c.shape) == 4 and names.count(c.name) == 1]
    if network.lower().startswith("squeezenet"):  # by name, or torchvision's class
        return "features"  # its classifier is a convolution, so the last map would be the class scores
    if not maps:
        raise LayerNotFoundError(f"{network} has no Linear and no feature map: name a layer with layer=.")
    return maps[-1]


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
        if inputs and isinstance(inputs[0], torch.Tensor):
            seen.append(inputs[0].clone())

    hook = part.register_forward_pre_hook(before) if layer.startswith(INPUT) else part.register_forward_hook(after)
    try:
        yield seen
    finally:
        hook.remove()


# The same pooling reaches the dispatcher under different names, by autograd mode and device.
_POOLINGS = (
    torch.ops.aten.adaptive_avg_pool2d.default,
    torch.ops.aten._adaptive_avg_pool2d.default,
    torch.ops.aten.mkldnn_adaptive_avg_pool2d.default,
    torch.ops.aten.avg_pool2d.default,
)


class _Means(TorchDispatchMode):
    """Keeps the input of every mean over positions that yields `dim` channels, as maps (n, dim, h, w)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.maps: list[Tensor] = []
        self.flattened: list[tuple[Tensor, tuple[int, int]]] = []  # maps as (n, c, hw), and their (h, w)

    def __torch_dispatch__(self, func, types, args: tuple[Any, ...] = (), kwargs=None):  # noqa: ANN001, ANN204
        out = func(*args, **(kwargs or {}))
        x = args[0] if args else None
        if not isinstance(x, torch.Tensor) or not isinstance(out, torch.Tensor):
            return out
        if func in _POOLINGS and x.ndim == 4 and out.shape[2:] == (1, 1):
            self._keep(x)
        elif func is torch.ops.aten.mean.dim:
            over = {axis % x.ndim for axis in args[1] or ()}
            if x.ndim == 4:
                self._keep(x.permute(0, 3, 1, 2) if over <= {1, 2} and 1 in over else x)
            elif x.ndim == 3 and over == {2}:
                for flat, (h, w) in self.flattened:
                    if flat.data_ptr() == x.data_ptr() and flat.shape == x.shape:
                        self._keep(x.reshape(*x.shape[:2], h, w))
        elif x.ndim == 4 and out.shape == (*x.shape[:2], x.shape[2] * x.shape[3]):
            self.flattened.append((out, (x.shape[2], x.shape[3])))
        return out

    def _keep(self, maps: "Tensor") -> None:
        if maps.shape[1] == self.dim and maps.shape[2] * maps.shape[3] > 1:
            self.maps.append(maps.clone())


@contextmanager
def averaged_maps(dim: int) -> "Generator[list[Tensor]]":
    """Collect every feature map (n, dim, h, w) that is averaged over its positions while the block runs.

    PyTorch's dispatcher sees the pooling whatever wrote it (a module, a function, a method), which hooks do not. Known
    are adaptive and plain average pooling to one position, and means over positions, flattened ones (n, c, hw) too.
    """
    mode = _Means(dim)
    with mode:
        yield mode.maps
