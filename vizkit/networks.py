"""Networks by name: build one, find its weights, and the preprocess that comes with them."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError, ModelNotFoundError, WeightsError, closest

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torchvision.models import WeightsEnum

StateDict = dict[str, "torch.Tensor"]

# Where training code puts the state dict inside a checkpoint, and what wrappers put before every key.
_NESTED = ("state_dict", "model_state_dict", "model", "net")
_PREFIXES = ("module.", "_orig_mod.", "model.")
# What torchvision's builders set when they are asked for weights; a bare state dict would silently see other inputs.
_BUILT_WITH = {"googlenet": {"transform_input": True}, "inception_v3": {"transform_input": True}}


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
    """

    module: "nn.Module"
    preprocess: "Callable[[Any], torch.Tensor]"
    weights: str
    transforms: str


def load_network(name: str, weights: "str | os.PathLike[str] | WeightsEnum | None", seed: int) -> Network:
    """Build a network by name.

    Parameters
    ----------
    name
        "scenes" (the embedded default) or a torchvision classification network.
    weights
        "DEFAULT", another name of torchvision's like "IMAGENET1K_V1" or its enum member, None (random, from `seed`), or
        a checkpoint file.
    seed
        Of the random weights; PyTorch's global random state is left as it was.

    Raises
    ------
    ModelNotFoundError
        No network of that name.
    WeightsError
        Weights cannot be found, fetched, read, or do not fit.
    InputError
        `weights` is something else.
    """
    from torchvision.models import WeightsEnum

    if weights is not None and not isinstance(weights, (str, os.PathLike, WeightsEnum)):
        raise InputError(
            f"weights must be 'DEFAULT', a name or member of torchvision's weights, None (random) or the path of a "
            f"checkpoint, not {weights!r}."
        )
    if name == "scenes":
        return _scenes(weights, seed)
    import torchvision.models as zoo

    known = zoo.list_models(module=zoo)
    if name not in known:
        raise ModelNotFoundError(
            f"No network is named {name!r}.{closest(name, [*known, 'scenes'])} Names are torchvision's classification "
            "networks and 'scenes'; anything else goes in as a module: Encoder(my_module, preprocess=...)."
        )
    entries: Any = zoo.get_model_weights(name)
    v1 = getattr(entries, "IMAGENET1K_V1", None) or next(iter(entries))
    if weights is None:
        module = _seeded(lambda: zoo.get_model(name, weights=None, **_builder_options(name)), seed)
        return Network(module.eval(), v1.transforms(), f"random, seed {seed}", f"{v1}")
    entry = _entry(name, entries, weights)
    if entry is not None:
        state = _fetch(name, entry)
        module = _seeded(lambda: _filled(name, state, f"{entry}"), seed)
        return Network(module, entry.transforms(), f"{entry}", f"{entry}")
    path = Path(str(weights))
    state = read_checkpoint(path)
    module = _seeded(lambda: _filled(name, state, f"checkpoint {str(path)!r}"), seed)
    return Network(module, v1.transforms(), f"file {path.name}", f"{v1}, assumed: a checkpoint file does not say")


def _entry(name: str, entries: Any, weights: Any) -> "WeightsEnum | None":
    """Return torchvision's weights of this network that are meant, or None for a checkpoint file."""
    from torchvision.models import WeightsEnum

    if isinstance(weights, WeightsEnum):
        if weights in entries:
            return weights
        raise WeightsError(f"{weights} are weights of another network; {name} has {', '.join(map(str, entries))}.")
    known = entries.__members__
    wanted = str(weights).removeprefix(f"{entries.__name__}.")
    if wanted in known:
        return known[wanted]
    if Path(weights).suffix or Path(weights).exists():
        return None
    raise WeightsError(
        f"{name} has no weights {str(weights)!r}, and no such file is here.{closest(wanted, known)} weights= takes "
        f"{', '.join(map(repr, known))}, None (random) or the path of a checkpoint."
    )


def place(module: "nn.Module", device: Any, *, move: bool) -> str:
    """Return the device that a module runs on, in words.

    Parameters
    ----------
    module
        The network.
    device
        None: where its parameters are.
    move
        Whether the module may be moved there.

    Raises
    ------
    InputError
        There is no such device here, or the module lies on another and may not be moved.
    """
    import torch

    tensor = next(module.parameters(), next(module.buffers(), None))
    lies = torch.device("cpu") if tensor is None else tensor.device
    if device is None:
        return str(lies)
    try:
        probe = torch.zeros(1, device=device)
        probe.cpu()  # the "meta" device, which holds no data, fails here
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:  # by kind of device
        here = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        here += ["mps"] if torch.backends.mps.is_available() else []
        raise InputError(f"There is no device {device!r} here; there is {', '.join(map(repr, here))}.") from error
    wanted = probe.device
    if move:
        module.to(wanted)
    elif tensor is not None and lies != wanted:
        raise InputError(
            f"The module lies on {str(lies)!r}, and device={str(wanted)!r}: a module is used as it is, so move it "
            f"first with module.to({str(wanted)!r}), or leave device= out."
        )
    return str(wanted)


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


def _scenes(weights: Any, seed: int) -> Network:
    from torchvision.transforms._presets import ImageClassification

    from .scene_network import SCENE_MEAN, SCENE_STD, scene_network
    from .synthetic import SCENE_SIZE, data_file

    preprocess = ImageClassification(
        crop_size=SCENE_SIZE, resize_size=SCENE_SIZE, mean=tuple(SCENE_MEAN), std=tuple(SCENE_STD)
    )
    if weights is not None and not isinstance(weights, (str, os.PathLike)):
        raise WeightsError(f"{weights} are weights of another network; scenes takes 'DEFAULT', None or a file.")
    module = _seeded(scene_network, seed)
    if weights is None:
        return Network(module.eval(), preprocess, f"random, seed {seed}", "of the embedded scenes")
    path = data_file("scenes.safetensors") if weights == "DEFAULT" else Path(weights)
    _load_state(module, read_checkpoint(path), f"checkpoint {str(path)!r}", "scenes")
    return Network(module.eval(), preprocess, f"file {path.name}", "of the embedded scenes")


def _seeded(build: "Callable[[], nn.Module]", seed: int) -> "nn.Module":
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's alone: torch.manual_seed would set every GPU's too
        return build()


def _builder_options(name: str) -> dict[str, Any]:
    options: dict[str, Any] = dict(_BUILT_WITH.get(name, {}))
    if name in _BUILT_WITH:
        options["init_weights"] = True  # silences torchvision's warning that this default will change
    return options


def _filled(name: str, state: StateDict, source: str) -> "nn.Module":
    import torchvision.models as zoo

    options = _builder_options(name)
    if name in _BUILT_WITH:
        options |= {"aux_logits": any("aux" in key.lower() for key in state), "init_weights": False}
    module = zoo.get_model(name, weights=None, **options)
    head = [k for k, v in module.state_dict().items() if k.endswith(".weight") and v.shape[0] == 1000][-1]
    if head in state and state[head].shape[0] != 1000:  # a head that was fine-tuned for other classes
        module = zoo.get_model(name, weights=None, num_classes=state[head].shape[0], **options)
    _load_state(module, state, source, name)
    return module.eval()


def _load_state(module: "nn.Module", state: StateDict, source: str, name: str) -> None:
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


def _fetch(name: str, entry: Any) -> StateDict:
    """Return the state dict of a torchvision weights entry: from torch's cache, else from the network."""
    from urllib.error import URLError

    try:
        return entry.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (URLError, OSError) as error:
        import torch

        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise WeightsError(
            f"The weights {entry} of {name} are not in {str(folder)!r} and cannot be downloaded "
            f"({getattr(error, 'reason', error)}). Put {Path(entry.url).name} there, give a checkpoint with "
            "weights=FILE, or take weights=None (random) or Encoder('scenes'), which need no network."
        ) from error
