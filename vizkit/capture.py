"""Watching a network run: layer outputs, and the spatial map that a vector is the mean of. Nothing is left behind."""

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from functools import partial
from threading import Lock, RLock
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from torch import Tensor, nn

INPUT = "input:"  # layer="input:fc" is what goes into fc, layer="fc" is what comes out
OUTPUT = "output"  # layer="output" is what the network returns


_running: "WeakKeyDictionary[nn.Module, Any]" = WeakKeyDictionary()
_naming = Lock()


@contextmanager
def alone(module: "nn.Module") -> "Generator[None]":
    """Let one thread at a time run a module.

    Hooks and training flags belong to the module and not to a thread: what another thread sends through it meanwhile
    would be taken for one's own. A kernel may answer a widget in one thread while a cell runs in another.
    """
    with _naming:
        lock = _running.setdefault(module, RLock())
    with lock:
        yield


@contextmanager
def evaluating(module: "nn.Module") -> "Generator[None]":
    """Put a module into eval mode; every submodule gets its own training flag back, whatever happens inside."""
    with alone(module):
        training = [m for m in module.modules() if m.training]
        try:
            for m in training:
                m.training = False
            yield
        finally:
            for m in training:
                m.training = True


@contextmanager
def unchanged(module: "nn.Module", names: "Iterable[str] | None" = None) -> "Generator[set[str]]":
    """Give buffers, by default all, their values back after the block; the set then holds those that changed."""
    changed: set[str] = set()
    wanted = None if names is None else set(names)
    held = {n: (b, b.clone()) for n, b in module.named_buffers() if wanted is None or n in wanted}
    try:
        yield changed
    finally:
        now = dict(module.named_buffers())
        for name, (buffer, values) in held.items():
            if now.get(name) is not buffer or not torch.equal(buffer, values):
                changed.add(name)
                parent, _, leaf = name.rpartition(".")
                with torch.no_grad():
                    module.get_submodule(parent)._buffers[leaf] = buffer.copy_(values)


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
    """One call of a submodule, or of the network itself, whose name is then "output".

    Attributes
    ----------
    name, kind
        Of the submodule, and of its class.
    given, shape
        Of the first tensor that goes in, () where there is none, and of the one that comes out.
    channels
        Channel axis of a 4-d output where the class says it, else None.
    classifies
        Whether it is a Linear that gives what the network returns, or its softmax, log-softmax or sigmoid.
    weighted
        Whether it is a layer with weights of its own.
    """

    name: str
    kind: str
    given: tuple[int, ...]
    shape: tuple[int, ...]
    channels: int | None
    classifies: bool
    weighted: bool


def trace(module: "nn.Module", batch: "Tensor") -> list[Call]:
    """Return the calls of all submodules and of the module that give one tensor, in the order in which they finish."""
    calls: list[Call] = []
    vectors: dict[int, Tensor] = {}  # what Linears gave, by position among the calls
    returned: list[Tensor] = []
    handles = []

    def note(name: str, m: "nn.Module", inputs: "tuple[Any, ...]", out: object) -> None:
        if isinstance(out, torch.Tensor):
            if isinstance(m, torch.nn.Linear) and out.ndim == 2:
                vectors[len(calls)] = out.clone()
            given = tuple(inputs[0].shape) if inputs and isinstance(inputs[0], torch.Tensor) else ()
            weighted = any(p.ndim > 1 for p in m.parameters(recurse=False))
            calls.append(Call(name, type(m).__name__, given, tuple(out.shape), _channel_axis(m), False, weighted))

    with alone(module):
        try:
            handles.append(module.register_forward_hook(lambda _, __, out: returned.extend(_first_tensor(out))))
            for name, part in module.named_modules():
                if name or OUTPUT not in module._modules:  # a submodule of that name keeps it
                    handles.append(part.register_forward_hook(partial(note, name or OUTPUT)))
            with evaluating(module), torch.no_grad():
                module(batch)
        finally:
            for handle in handles:
                handle.remove()
    for i, values in vectors.items():
        if returned and _same_classes(values.float(), returned[0].float()):
            calls[i] = calls[i]._replace(classifies=True)
    return calls


def _first_tensor(out: object) -> "list[Tensor]":
    """Return what a network returns, or the first tensor of a tuple, list or dict, in a list; or an empty one."""
    items = out.values() if isinstance(out, dict) else out if isinstance(out, (tuple, list)) else [out]
    return [item for item in items if isinstance(item, torch.Tensor)][:1]


def _same_classes(values: "Tensor", returned: "Tensor") -> bool:
    if values.shape != returned.shape:
        return False
    forms = (values, values.softmax(1), values.log_softmax(1), values.sigmoid())
    return any(torch.allclose(form, returned, rtol=1e-4, atol=1e-6) for form in forms)


def _channel_axis(module: "nn.Module") -> int | None:
    from torch import nn
    from torchvision.ops.misc import Permute

    if isinstance(module, Permute):
        return {(0, 3, 1, 2): 1, (0, 2, 3, 1): 3}.get(tuple(module.dims))
    if isinstance(module, nn.Linear) or type(module) is nn.LayerNorm:
        return 3
    convolutional = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.LayerNorm)
    return 1 if isinstance(module, convolutional) else None  # a LayerNorm of one's own is torchvision's LayerNorm2d


@contextmanager
def tapped(part: "nn.Module", layer: str, take: "Callable[[Tensor], Tensor]") -> "Generator[list[Tensor]]":
    """Collect `take` of what the layer gives (or gets, for "input:...") while the block runs, once a call.

    It is taken at once: a later in-place ReLU would otherwise change the tensor without a word. `take` must return a
    tensor with memory of its own.
    """
    taken: list[Tensor] = []

    def keep(x: object) -> None:
        if isinstance(x, torch.Tensor):
            # What gradients are computed from must not be changed in place either.
            taken.append(take(x.clone() if x.requires_grad and torch.is_grad_enabled() else x))

    def after(_: object, __: object, output: object) -> None:
        keep(output)

    def before(_: object, inputs: "tuple[object, ...]") -> None:
        if inputs:
            keep(inputs[0])

    hook = part.register_forward_pre_hook(before) if layer.startswith(INPUT) else part.register_forward_hook(after)
    try:
        yield taken
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
