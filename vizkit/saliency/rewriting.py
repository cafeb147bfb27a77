"""A network's graph written anew, every activation a module of its own, for methods that hook activations.

Captum's DeepLift and guided backpropagation put hooks on activation modules. A module that is called twice, an
activation that is a function, and one that changes its input in place are beyond them, some without a word. Here the
network is traced by torch.fx on a copy, each such call becomes a module of its own that changes nothing in place, and
what comes out is compared bit by bit with the network itself. What then still stands in the way is named.
"""

import copy
import operator
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

from ..capture import INPUT, OUTPUT
from ..encoders import Encoder
from ..errors import MethodNotApplicableError

if TYPE_CHECKING:
    from torch import Tensor, fx, nn


def rewritten(encoder: Encoder, batch: "Tensor", *, scores: bool, method: str) -> "tuple[Encoder, fx.GraphModule]":
    """Return the encoder on a rewritten copy of its network, and the graph of that copy.

    Parameters
    ----------
    encoder
        The network; its module is only read.
    batch
        (n, 3, h, w), preprocessed: on these very images the copy gives the same bits as the network.
    scores
        Whether `scores` of the result is to be used, what the network returns; else `vectors`. The graph ends there.
    method
        Who asks, for the message.

    Raises
    ------
    MethodNotApplicableError
        The network cannot be copied or traced, or the copy gives something else.
    """
    import torch

    try:
        module = copy.deepcopy(encoder.module).eval()
        tracer = _tracer()
        graph = tracer.trace(module)
    except Exception as error:  # whatever the user's code does when it is copied or run on fx's stand-ins
        raise MethodNotApplicableError(
            f"{method} needs the graph of {encoder.name}, and torch.fx cannot trace it ({type(error).__name__}: "
            f"{str(error).strip()[:200]}). Use method='occlusion'."
        ) from error
    end = OUTPUT if scores else encoder.layer
    _cut(graph, tracer, end, f"{method} cannot find {end!r} in the graph of {encoder.name}. Use method='occlusion'.")
    whole = torch.fx.GraphModule(module, graph)
    _separate(whole)
    twin = encoder.on(_placed(whole, encoder.layer))
    read, own = (twin.scores, encoder.scores) if scores else (twin.vectors, encoder.vectors)
    with torch.no_grad():
        same = torch.equal(read(batch), own(batch))
    if not same:
        raise MethodNotApplicableError(
            f"{method} needs every activation of {encoder.name} as a module of its own, and the network written so "
            "gives other values than it does itself. Use method='occlusion'."
        )
    return twin, whole


def unknown_calls(whole: "fx.GraphModule", known: Iterable[type]) -> list[str]:
    """Return what the graph calls, on anything that depends on the image, beyond what is affine and `known` modules.

    Each once, as "Hardswish (21 times)", most frequent first. An operation of two arguments that both depend on the
    image (a gate, attention) is not affine.
    """
    modules = dict(whole.named_modules())
    moving: set[fx.Node] = set()
    found: Counter[str] = Counter()
    for node in whole.graph.nodes:
        of_image = [source for source in node.all_input_nodes if source in moving]
        if node.op != "placeholder" and (not of_image or _tells_shape(node)):
            continue
        moving.add(node)
        if node.op == "call_module":
            m = modules[str(node.target)]
            if not isinstance(m, (*_affine_modules(), *known)):
                found[type(m).__name__] += 1
        elif node.op in ("call_function", "call_method"):
            name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
            name = name.lstrip("_").removesuffix("_")
            products = name in _PRODUCTS and len(of_image) == 1 and node.args[:1] == (of_image[0],)
            products |= name in ("mul", "imul", "matmul") and len(of_image) == 1
            if name not in _AFFINE and not products:
                found[name] += 1
    return [f"{name} ({n} times)" if n > 1 else name for name, n in found.most_common()]


def count_of(whole: "fx.GraphModule", kind: type) -> int:
    """Return how many modules of a kind the graph calls."""
    modules = dict(whole.named_modules())
    return sum(node.op == "call_module" and isinstance(modules[str(node.target)], kind) for node in whole.graph.nodes)


_AFFINE = {
    *("add", "iadd", "sub", "isub", "neg", "cat", "concat", "stack", "flatten", "reshape", "view", "mean", "sum"),
    *("permute", "transpose", "contiguous", "chunk", "split", "unbind", "squeeze", "unsqueeze", "getitem", "clone"),
    *("avg_pool2d", "adaptive_avg_pool2d", "pad", "dropout", "interpolate", "float", "to", "expand", "roll"),
    "laid_out",
}
_PRODUCTS = {"truediv", "div", "conv2d", "linear", "batch_norm"}  # affine in the first argument


@cache
def _affine_modules() -> tuple[type, ...]:
    from torch import nn

    return (
        *(nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._BatchNorm, nn.Identity, nn.Flatten, nn.Unflatten),
        *(nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.modules.dropout._DropoutNd, nn.ZeroPad2d, nn.ReflectionPad2d),
        *(nn.Upsample, nn.PixelShuffle, nn.ChannelShuffle),
    )


def _tells_shape(node: "fx.Node") -> bool:
    """Whether a node gives sizes of a tensor, not values."""
    return (node.op == "call_method" and node.target in ("size", "dim", "numel")) or (
        node.op == "call_function" and node.target is getattr and node.args[1] in ("shape", "ndim", "dtype", "device")
    )


def _tracer() -> Any:
    from torch import fx

    class Tracer(fx.Tracer):
        """Keeps the nodes that go into every submodule and come out, so that containers can be found too."""

        def __init__(self) -> None:
            super().__init__()
            self.ends: dict[str, Any] = {}

        def call_module(self, m: "nn.Module", forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
            name = self.path_of_module(m)
            out = super().call_module(m, forward, args, kwargs)
            self.ends[INPUT + name], self.ends[name] = args[0] if args else None, out
            return out

    return Tracer()


def _cut(graph: "fx.Graph", tracer: Any, end: str, refusal: str) -> None:
    """Let the graph return what it has at a layer."""
    from torch import fx

    output = next(node for node in graph.nodes if node.op == "output")
    if end != OUTPUT or OUTPUT in tracer.ends:
        value = tracer.ends.get(end)
        if not isinstance(value, fx.Proxy):
            raise MethodNotApplicableError(refusal)
        output.args = (value.node,)


def _separate(whole: "fx.GraphModule") -> None:
    """Give each call of an activation or max pooling a module of its own; nothing works in place any more."""
    from torch import nn

    whole.graph.eliminate_dead_code()
    modules = dict(whole.named_modules())
    functions = _activations()
    for i, node in enumerate(list(whole.graph.nodes)):
        alone = None
        if node.op == "call_module" and isinstance(modules[str(node.target)], hooked_modules()):
            alone = copy.deepcopy(modules[str(node.target)])
        elif node.op in ("call_function", "call_method"):
            if node.target in functions:
                options = {k: v for k, v in node.kwargs.items() if k != "inplace"}
                alone = functions[node.target](*node.args[1:], **options)
            node.target = {operator.iadd: operator.add, operator.isub: operator.sub}.get(node.target, node.target)
        if alone is None:
            continue
        windows = _overlapping(alone) if isinstance(alone, nn.MaxPool2d) else None
        if windows is not None:
            with whole.graph.inserting_before(node):
                laid = whole.graph.call_function(laid_out, (node.args[0], *windows))
            node.args, alone = (laid,), nn.MaxPool2d(windows[0])
        whole.add_submodule(f"separate_{i}", alone)
        node.op, node.target, node.args, node.kwargs = "call_module", f"separate_{i}", node.args[:1], {}
    for m in whole.modules():
        if getattr(m, "inplace", False):
            setattr(m, "inplace", False)  # noqa: B010 (for the type checker: attributes of a module are modules)
    whole.delete_all_unused_submodules()
    whole.recompile()
    whole.eval()


Pair = tuple[int, int]


def _overlapping(pool: "nn.MaxPool2d") -> tuple[Pair, Pair, Pair, bool] | None:
    """Return sides, steps, margins of a max pooling's windows and whether it rounds up; None where none overlap."""
    sides, steps, margins, dilation = (
        (v, v) if isinstance(v, int) else (v[0], v[1])
        for v in (pool.kernel_size, pool.stride or pool.kernel_size, pool.padding, pool.dilation)
    )
    overlap = any(step < side for step, side in zip(steps, sides, strict=True))
    return (sides, steps, margins, pool.ceil_mode) if overlap and dilation == (1, 1) else None


def laid_out(x: "Tensor", sides: Pair, steps: Pair, margins: Pair, ceil: bool) -> "Tensor":
    """Return maps (n, c, h, w) with the windows of a max pooling side by side, so that none overlap.

    Captum's rule for DeepLift puts what a window hands out at its largest value by max_unpool2d, which keeps one of
    several windows that share it: with windows of 3 and steps of 2 (SqueezeNet, GoogLeNet) the sum is silently off.
    """
    import torch
    from torch.nn import functional as F

    counts = F.max_pool2d(x, sides, steps, margins, 1, ceil).shape[2:]
    pads = []
    for i in (1, 0):
        end = (counts[i] - 1) * steps[i] + sides[i]  # of the last window
        pads += [margins[i], max(0, end - x.shape[2 + i] - margins[i])]
    # What is never the largest; not infinite, for differences are taken.
    padded = F.pad(x, pads, value=torch.finfo(x.dtype).min)
    windows = padded.unfold(2, sides[0], steps[0]).unfold(3, sides[1], steps[1])[:, :, : counts[0], : counts[1]]
    return windows.permute(0, 1, 2, 4, 3, 5).flatten(4, 5).flatten(2, 3)


@cache
def hooked_modules() -> tuple[type, ...]:
    """Return what Captum's DeepLift has a rule for: activations and max poolings."""
    from torch import nn

    return (nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.MaxPool2d)


@cache
def _activations() -> dict[Any, Callable[..., Any]]:
    """Return the functions and methods of a tensor that become modules, and how each is made."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    relu = (torch.relu, torch.relu_, F.relu, F.relu_, "relu", "relu_")

    def plain_relu(*_: Any, **__: Any) -> nn.ReLU:
        return nn.ReLU()

    return {
        **dict.fromkeys(relu, plain_relu),
        **dict.fromkeys((torch.sigmoid, F.sigmoid, "sigmoid"), nn.Sigmoid),
        **dict.fromkeys((torch.tanh, F.tanh, "tanh"), nn.Tanh),
        **dict.fromkeys((F.max_pool2d, torch.max_pool2d), nn.MaxPool2d),
    }


def _placed(whole: "fx.GraphModule", layer: str) -> "nn.Module":
    """Return the graph as a module whose layer of that name lets pass what the graph returns, for hooks to read."""
    from torch import nn

    path = layer.removeprefix(INPUT)

    class Rewritten(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.whole_graph = whole
            if path != OUTPUT:
                parent, *names = self, *path.split(".")
                for name in names[:-1]:
                    parent.add_module(name, nn.Module())
                    parent = parent.get_submodule(name)
                parent.add_module(names[-1], nn.Identity())

        def forward(self, x: "Tensor") -> "Tensor":
            values = self.whole_graph(x)
            return values if path == OUTPUT else self.get_submodule(path)(values)

    return Rewritten().eval()
