"""A network's layers: which there are, how deep they lie, which gives the vector by default, and where channels are."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from .capture import INPUT, OUTPUT, Call
from .errors import InputError, LayerNotFoundError, closest

if TYPE_CHECKING:
    from torch import nn


class Layer(NamedTuple):
    """A layer to choose.

    Attributes
    ----------
    kind
        Class of the module.
    shape
        Of what it gives for one image: (d,), tokens (t, c) or a map (c, h, w).
    depth
        "early", "middle" or "late": by the third of the layers with weights that have run by then. What runs after the
        vector of the default layer is the "head".
    share
        Of the layers with weights, in [0, 1], that have run by then.
    """

    kind: str
    shape: tuple[int, ...]
    depth: str
    share: float


class _NoLayerError(LayerNotFoundError, KeyError):
    """A KeyError as well, so that `Layers.get` works as for any mapping."""

    __str__ = Exception.__str__  # KeyError would show the message in quotes


class Layers(Mapping[str, Layer]):
    """The names that `layer=` takes, in running order, each with kind, shape and depth; shown as a table.

    Early layers tend to tell edges, textures and colors apart, late ones shapes and objects; the second notebook
    measures it.
    """

    def __init__(self, found: dict[str, Layer]) -> None:
        self._found = found

    def __getitem__(self, name: str) -> Layer:
        try:
            return self._found[name]
        except (KeyError, TypeError):  # a number or a slice
            hint = (
                closest(name, self._found) if isinstance(name, str) else " Names choose: list(encoder.layers) has them."
            )
            raise _NoLayerError(f"There is no layer {name!r} to choose.{hint}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._found

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    @property
    def frame(self) -> pd.DataFrame:
        """One row a layer: index of names, columns kind, shape (as text), depth, share."""
        rows = [(x.kind, " x ".join(map(str, x.shape)), x.depth, x.share) for x in self._found.values()]
        index = pd.Index(list(self._found), name="layer")
        return pd.DataFrame(rows, index=index, columns=["kind", "shape", "depth", "share"])

    def __repr__(self) -> str:
        return self.frame.to_string(float_format="{:.2f}".format)

    def _repr_html_(self) -> str:
        return self.frame.to_html(float_format="{:.2f}".format)  # pandas escapes the values


def layers_of(calls: list[Call], default: str | None, n: int) -> Layers:
    """Return the layers that run once in a forward pass of n images and give a tensor (n, ...), and the default one."""
    weighted = sum(call.weighted for call in calls) or 1
    end = len(calls)  # the first call of the head
    if default is not None:
        inside = default.removeprefix(INPUT)
        own = [i for i, call in enumerate(calls) if call.name == inside or call.name.startswith(f"{inside}.")]
        end = own[0] if default != inside else own[-1] + 1
    found: dict[str, Layer] = {}
    done = 0
    for i, call in enumerate(calls):
        if default == INPUT + call.name:
            found[default] = Layer("what goes into it", call.given[1:], _depth(done / weighted), done / weighted)
        done += call.weighted
        share = done / weighted
        if _once(calls, call.name) and len(call.shape) > 1 and call.shape[0] == n:
            found[call.name] = Layer(call.kind, call.shape[1:], _depth(share) if i < end else "head", share)
    return Layers(found)


def _depth(share: float) -> str:
    return "early" if share <= 1 / 3 else "middle" if share <= 2 / 3 else "late"


def _once(calls: list[Call], name: str) -> bool:
    return [call.name for call in calls].count(name) == 1


def default_layer(calls: list[Call], network: str) -> str:
    """Return the layer that gives the vector before the classifier.

    That is the input of the Linear that gives what the network returns (the first tensor of it, in a tuple or dict).
    Where no Linear does (the classifier was taken off, or something follows it), it is "output".

    Raises
    ------
    LayerNotFoundError
        The network returns several things or none, and no Linear gives the first.
    """
    names = [call.name for call in calls]
    if network.lower().startswith("squeezenet") and "features" in names:  # by name, or torchvision's class
        return "features"  # its classifier is a convolution, so what it returns would be the class scores
    classifiers = [call.name for call in calls if call.classifies]
    if classifiers:
        return INPUT + classifiers[-1]
    if any(call.name == OUTPUT and len(call.shape) > 1 for call in calls):
        return OUTPUT
    last = [name for name in names if name != OUTPUT and _once(calls, name)][-3:]
    raise LayerNotFoundError(
        f"Which layer of {network} gives the vector cannot be told: it returns no single tensor, and no Linear gives "
        f"the first it returns. Name one with layer=, for example {', '.join(map(repr, last)) or 'a submodule'}."
    )


def find_layer(module: "nn.Module", layer: str, calls: list[Call]) -> "nn.Module":
    """Return the submodule behind a layer name; LayerNotFoundError where it cannot serve."""
    if not isinstance(layer, str):
        raise InputError(f"layer must be a name out of encoder.layers, not {layer!r}.")
    name = layer.removeprefix(INPUT)
    names = [c.name for c in calls]
    parts = {OUTPUT: module, **dict(module.named_modules())}
    if name not in parts or not name:
        raise LayerNotFoundError(f"The network has no layer {name!r}.{closest(name, names)} See encoder.layers.")
    if name == OUTPUT and name not in names:
        raise LayerNotFoundError("The network returns no single tensor, so 'output' is no layer. Choose a submodule.")
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


def shape_at(layer: str, calls: list[Call], n: int) -> tuple[int, ...]:
    """Return the shape (d,), (t, c) or (c, h, w) of one of n images at a layer; InputError where it has none."""
    call = next(c for c in calls if c.name == layer.removeprefix(INPUT))
    shape = call.given if layer.startswith(INPUT) else call.shape
    if layer.startswith(INPUT) and not shape:
        raise LayerNotFoundError(f"Nothing that is a tensor goes into {call.name!r} by position: choose another layer.")
    if len(shape) < 2 or shape[0] != n:
        raise InputError(
            f"The layer {layer!r} has shape {shape} for {n} images: expected one vector (d,), tokens (t, c) or feature "
            "map (c, h, w) an image. Choose another layer."
        )
    return shape[1:]


def calls_before(calls: list[Call], layer: str) -> list[Call]:
    """Return the calls that end before the layer's vector is there: for "input:X" without those inside X."""
    name = layer.removeprefix(INPUT)
    until = [c.name for c in calls].index(name)
    if name == layer:
        return calls[: until + 1]
    return [c for c in calls[:until] if not c.name.startswith(f"{name}.")]


def last_map(calls: list[Call], size: tuple[int, ...]) -> Call | None:
    """Return the last submodule's call that gives a map with more than one position, its `channels` set, or None."""
    for i in reversed(range(len(calls))):
        shape = calls[i].shape
        if len(shape) == 4 and calls[i].name != OUTPUT:
            last = channels_last(shape, size, calls[: i + 1])
            h, w = shape[1:3] if last else shape[2:]
            if h * w > 1:
                return calls[i]._replace(channels=3 if last else 1)
    return None


def channels_last(shape: tuple[int, ...], size: tuple[int, ...], calls: list[Call]) -> bool:
    """Return whether a 4-d shape is (n, h, w, c), as inside Swin and ConvNeXt, rather than (n, c, h, w).

    The last of the `calls` up to there that gave this very shape and whose class is known decides (a ReLU keeps what a
    convolution gave). Without one, positions have the proportions of the input's `size` (h, w). Where both readings
    have, or neither, the last call that gave a map and whose class is known decides; without any it is (n, c, h, w),
    PyTorch's custom.
    """
    maps = [call for call in reversed(calls) if call.channels is not None and len(call.shape) == 4]
    if same := [call for call in maps if call.shape[1:] == shape[1:]]:
        return same[0].channels == 3
    first, last = _proportional(shape[2:], size), _proportional(shape[1:3], size)
    if first != last:
        return last
    return bool(maps) and maps[0].channels == 3


def _proportional(positions: tuple[int, ...], size: tuple[int, ...]) -> bool:
    """Return whether (h, w) positions can be `size` divided by one stride, rounded; exact where the input is square."""
    (h, w), (height, width) = positions, size
    return h == w if height == width else abs(h * width - w * height) < max(height, width)
