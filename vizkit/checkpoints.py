"""Weights: read from a file, fitted to a network, drawn from a seed; and the network that comes of it."""

import copy
import os
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import WeightsError, closest

if TYPE_CHECKING:
    import torch
    from torch import nn

StateDict = dict[str, "torch.Tensor"]
_Module = TypeVar("_Module", bound="nn.Module")

# Where training code puts the state dict inside a checkpoint, and what wrappers put before every key.
_NESTED = ("state_dict", "model_state_dict", "model", "net")
_PREFIXES = ("module.", "_orig_mod.", "model.")

# A BatchNorm whose four vectors are buffers (torchvision, Detectron2, DETR), as it is when new.
_FROZEN = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}


@dataclass(frozen=True)
class Network:
    """A network ready to be wrapped by an encoder.

    Attributes
    ----------
    module
        In eval mode, on the CPU.
    preprocess
        From an upright RGB PIL image to a float32 tensor (3, h, w).
    weights
        In words: where the weights come from.
    transforms
        In words: where the preprocess comes from.
    layer
        The default layer where the network's origin knows it ("output": what the network returns); None for the rule.
    name
        With weights=None it builds the same architecture again, where the name that was asked for may not; else None.
    """

    module: "nn.Module"
    preprocess: "Callable[[Any], torch.Tensor]"
    weights: str
    transforms: str
    layer: str | None = None
    name: str | None = None


def seeded(build: Callable[[], _Module], seed: int) -> _Module:
    """Build a module whose random weights come from `seed`; PyTorch's global random state stays as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's alone: torch.manual_seed would set every GPU's too
        return build()


def read_checkpoint(path: str | Path) -> StateDict:
    """Read a state dict from a file, without running any code of it.

    Parameters
    ----------
    path
        A .safetensors file, or what `torch.save` wrote. A state dict that lies under "state_dict" (or "model", ...) is
        found, prefixes like "module." are taken off, tensors saved on a GPU come to the CPU.

    Raises
    ------
    WeightsError
        No such file, or it holds no state dict, or reading it would have to run code.
    """
    import torch

    path = Path(path)
    if not path.is_file():
        beside = [p.name for p in path.parent.glob("*") if p.is_file()] if path.parent.is_dir() else []
        raise WeightsError(
            f"No checkpoint file {str(path)!r}.{closest(path.name, beside)} "
            "weights= takes 'DEFAULT', None (random) or the path of a checkpoint."
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, pickle, zip and safetensors raise a dozen kinds
        # torch's own message advises to run the file's code, which is what we refuse.
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = "it is no checkpoint, or holds more than tensors" if "weights_only" in first else first
        raise WeightsError(
            f"The checkpoint {str(path)!r} cannot be read as plain weights ({reason}). Save the state dict alone: "
            "torch.save(model.state_dict(), path), or as .safetensors."
        ) from error
    for key in _NESTED:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content or not all(isinstance(v, torch.Tensor) for v in content.values()):
        held = f"a {type(content).__name__}" if not isinstance(content, dict) else f"keys {list(content)[:4]}"
        raise WeightsError(f"The checkpoint {str(path)!r} holds no state dict (names to tensors) but {held}.")
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in content):
            content = {key.removeprefix(prefix): value for key, value in content.items()}
    return content


def tag_or_file(name: str, weights: "str | os.PathLike[str]", wanted: str, known: Collection[str]) -> str | None:
    """Return the one of the `known` weights that `weights` means, or None where it is a checkpoint file.

    Parameters
    ----------
    name
        What the message calls the network.
    weights
        As the user gave it.
    wanted
        The same without what may stand before the tag.
    known
        Tags of the weights that this network has.

    Raises
    ------
    WeightsError
        It is neither.
    """
    if wanted in known:
        return wanted
    if Path(weights).exists() or Path(wanted).suffix:
        return None
    raise WeightsError(
        f"{name} has no weights {str(weights)!r}, and no such file is here.{closest(wanted, known)} weights= takes "
        f"{', '.join(map(repr, known))}, None (random) or the path of a checkpoint."
    )


@contextmanager
def no_code_from_files() -> "Generator[None]":
    """Make every `torch.load` inside the block refuse files that would run code, whoever calls it and however."""
    switch = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # PyTorch reads it at each call
    before = os.environ.get(switch)
    os.environ[switch] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[switch]
        else:
            os.environ[switch] = before


def load_state(module: "nn.Module", state: StateDict, source: str, name: str) -> None:
    """Put a state dict into a module, every entry of it and nothing else.

    Parameters
    ----------
    module
        Filled in place.
    state
        Names to tensors. BatchNorm's counters may be missing, for old files lack them.
    source, name
        What the message calls the weights and the network.

    Raises
    ------
    WeightsError
        Entries are missing, unknown or of another shape.
    """
    expected = module.state_dict()
    missing = [k for k in expected if k not in state and not k.endswith("num_batches_tracked")]
    extra = [k for k in state if k not in expected]
    shapes = [k for k in expected if k in state and expected[k].shape != state[k].shape]
    if missing or extra or shapes:
        lines = [
            f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
            for what, keys in (("missing", missing), ("unknown", extra), ("of another shape", shapes))
            if keys
        ]
        raise WeightsError(
            f"The {source} does not fit {name}: of its {len(expected)} entries {'; '.join(lines)}. "
            "Is it a checkpoint of another network? Build that one, or pass your own module."
        )
    module.load_state_dict(state, strict=False)  # strict but for BatchNorm's counters, which old files lack


def redrawn(module: "nn.Module", seed: int) -> "nn.Module":
    """Return a copy of any module with its weights drawn anew; the module itself is left as it is.

    Every part that has `reset_parameters` is initialized by it; convolutions and Linears then get He et al. 2015's
    weights (section 2.2, for ReLUs, normal, by fan-in) and biases of 0, since PyTorch's own let a deep network without
    normalization give every image nearly the same vector. A parameter that still has its values (a class token,
    positions, a weight that is computed) is drawn from a normal distribution of its own mean and standard deviation.
    Of weights that are buffers, those of a frozen BatchNorm become those of a new one, and a saved one of two and more
    dimensions (a projection, filters) gets its own values in random order, so that a mask stays one.

    What stays: parameters of one number or of one value, other buffers (of one dimension, of whole numbers, not finite,
    or not saved with the module), and what a module keeps elsewhere.

    Raises
    ------
    WeightsError
        The module cannot be copied.
    """
    try:
        twin = copy.deepcopy(module)
    except Exception as error:  # a user's module may refuse in any way
        raise WeightsError(
            f"This {type(module).__name__} cannot be copied ({type(error).__name__}: {error}), so its weights cannot "
            "be drawn anew without changing it. Build it anew with random weights and wrap that in an Encoder."
        ) from error
    device = next((tensor.device for tensor in twin.parameters()), "cpu")
    return seeded(lambda: _drawn(twin.cpu()), seed).to(device)  # drawn on the CPU: only its numbers are seeded


def _drawn(twin: "nn.Module") -> "nn.Module":
    import torch
    from torch import nn

    saved = twin.state_dict().keys()
    held = {name: buffer for name, buffer in twin.named_buffers() if name in saved and buffer.ndim > 1}
    before = {name: value.detach().clone() for name, value in [*twin.named_parameters(), *held.items()]}
    kinds = (nn.modules.conv._ConvNd, nn.Linear)
    for part in twin.modules():
        reset = getattr(part, "reset_parameters", getattr(part, "_reset_parameters", None))
        if callable(reset):
            with suppress(Exception):  # a user's own may want arguments: what it leaves is drawn below
                reset()
        if isinstance(part, kinds) and isinstance(part.weight, nn.Parameter):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        own = dict(part.named_buffers(recurse=False))
        if own.keys() >= _FROZEN.keys():
            for name, value in _FROZEN.items():
                own[name].fill_(value)
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            old = before[name]
            if parameter.is_floating_point() and parameter.numel() > 1 and torch.equal(parameter, old):
                parameter.copy_(torch.randn(old.shape) * old.float().std() + old.float().mean())
        for name, buffer in held.items():
            if buffer.is_floating_point() and buffer.isfinite().all() and torch.equal(buffer, before[name]):
                # Not copied into it: an expanded one has one place for many values.
                buffer.data = before[name].flatten()[torch.randperm(buffer.numel())].view(buffer.shape)
    return twin
