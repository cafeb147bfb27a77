"""Networks by name: build one, find its weights, and the preprocess that comes with them."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checkpoints import Network, StateDict, load_state, read_checkpoint, seeded, tag_or_file
from .errors import InputError, ModelNotFoundError, WeightsError, closest
from .extras import ASSUMED, is_extra, load_extra

if TYPE_CHECKING:
    from torch import nn
    from torchvision.models import WeightsEnum

_SCENES = ("scenes", "scenes-biased")  # one architecture, two sets of weights: data/NAME.safetensors
# What torchvision's builders set when they are asked for weights; a bare state dict would silently see other inputs.
_BUILT_WITH = {"googlenet": {"transform_input": True}, "inception_v3": {"transform_input": True}}


def load_network(name: str, weights: "str | os.PathLike[str] | WeightsEnum | None", seed: int) -> Network:
    """Build a network by name.

    Parameters
    ----------
    name
        "scenes" (the embedded default), "scenes-biased" (the same, but it learned a shortcut), a torchvision
        classification network, "timm:NAME" or "open_clip:NAME".
    weights
        "DEFAULT", another name of torchvision's like "IMAGENET1K_V1" or its enum member, a tag of timm's or
        open_clip's, None (random, from `seed`), or a checkpoint file.
    seed
        Of the random weights; PyTorch's global random state is left as it was.

    Raises
    ------
    ModelNotFoundError
        No network of that name, or it comes from a library that is not installed.
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
    if name in _SCENES or is_extra(name):
        if isinstance(weights, WeightsEnum):
            raise WeightsError(f"{weights} are weights of another network; {name} takes 'DEFAULT', None or a file.")
        return _scenes(name, weights, seed) if name in _SCENES else load_extra(name, weights, seed)
    import torchvision.models as zoo

    known = zoo.list_models(module=zoo)
    if name not in known:
        raise ModelNotFoundError(
            f"No network is named {name!r}.{closest(name, [*known, *_SCENES])} Names are torchvision's classification "
            "networks, 'scenes', and with those libraries 'timm:NAME' and 'open_clip:NAME'; anything else goes in as a "
            "module: Encoder(my_module, preprocess=...)."
        )
    entries: Any = zoo.get_model_weights(name)
    v1 = getattr(entries, "IMAGENET1K_V1", None) or next(iter(entries))
    if weights is None:
        module = seeded(lambda: zoo.get_model(name, weights=None, **_builder_options(name)), seed)
        return Network(module.eval(), v1.transforms(), f"random, seed {seed}", f"{v1}")
    entry = _entry(name, entries, weights)
    if entry is not None:
        state = _fetch(name, entry)
        module = seeded(lambda: _filled(name, state, f"{entry}"), seed)
        return Network(module, entry.transforms(), f"{entry}", f"{entry}")
    path = Path(str(weights))
    state = read_checkpoint(path)
    module = seeded(lambda: _filled(name, state, f"checkpoint {str(path)!r}"), seed)
    return Network(module, v1.transforms(), f"file {path.name}", f"{v1}, {ASSUMED}")


def _entry(name: str, entries: Any, weights: Any) -> "WeightsEnum | None":
    """Return torchvision's weights of this network that are meant, or None for a checkpoint file."""
    from torchvision.models import WeightsEnum

    if isinstance(weights, WeightsEnum):
        if weights in entries:
            return weights
        raise WeightsError(f"{weights} are weights of another network; {name} has {', '.join(map(str, entries))}.")
    known = entries.__members__
    tag = tag_or_file(name, weights, str(weights).removeprefix(f"{entries.__name__}."), known)
    return None if tag is None else known[tag]


def _scenes(name: str, weights: "str | os.PathLike[str] | None", seed: int) -> Network:
    from torchvision.transforms._presets import ImageClassification

    from .scene_network import SCENE_MEAN, SCENE_STD, scene_network
    from .synthetic import SCENE_SIZE, data_file

    preprocess = ImageClassification(
        crop_size=SCENE_SIZE, resize_size=SCENE_SIZE, mean=tuple(SCENE_MEAN), std=tuple(SCENE_STD)
    )
    module = seeded(scene_network, seed)
    if weights is None:
        return Network(module.eval(), preprocess, f"random, seed {seed}", "of the embedded scenes")
    path = data_file(f"{name}.safetensors") if weights == "DEFAULT" else Path(weights)
    load_state(module, read_checkpoint(path), f"checkpoint {str(path)!r}", name)
    return Network(module.eval(), preprocess, f"file {path.name}", "of the embedded scenes")


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
    load_state(module, state, source, name)
    return module.eval()


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
