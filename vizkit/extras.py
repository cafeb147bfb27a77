"""Networks of timm and open_clip, both optional: "timm:NAME" and "open_clip:NAME"."""

import importlib
import os
import textwrap
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from .checkpoints import Network, StateDict, load_state, no_code_from_files, read_checkpoint, seeded, tag_or_file
from .errors import InputError, ModelNotFoundError, WeightsError, closest

ASSUMED = "assumed: a checkpoint file does not say"


def is_extra(name: str) -> bool:
    """Return whether a name begins with "timm:" or "open_clip:"."""
    return name.partition(":")[0] in _ORIGINS and ":" in name


def load_extra(name: str, weights: "str | os.PathLike[str] | None", seed: int) -> Network:
    """Build a network of timm or open_clip.

    Parameters
    ----------
    name
        "timm:ARCHITECTURE" or "timm:ARCHITECTURE.TAG"; "open_clip:ARCHITECTURE" or "open_clip:ARCHITECTURE/TAG", of
        which the image tower is taken. A tag says which weights, as the two libraries write it.
    weights
        "DEFAULT" (those of the tag; without one timm's default, or the first that open_clip lists), a tag, None
        (random, from `seed`) or a checkpoint file. No file is read in a way that could run its code.
    seed
        Of the random weights; PyTorch's global random state is left as it was.

    Raises
    ------
    ModelNotFoundError
        No network of that name, or the library is not installed.
    WeightsError
        Weights cannot be found, fetched, read, or do not fit.
    InputError
        The name and `weights` say two tags.
    """
    origin, _, rest = name.partition(":")
    build, distribution = _ORIGINS[origin]
    try:
        library = importlib.import_module(origin)
    except ModuleNotFoundError as error:
        if error.name != origin:
            raise
        raise ModelNotFoundError(
            f"{name!r} is a network of {origin}, which is not installed here. Install it: pip install {distribution}"
        ) from error
    return build(library, rest, weights, seed)


def _refuse_unknown(library: Any, architecture: str) -> None:
    known, origin = library.list_models(), library.__name__
    if architecture not in known:
        raise ModelNotFoundError(
            f"{origin} has no network {architecture!r}.{closest(architecture, known)} {origin}.list_models() names all "
            "of them."
        )


def _timm(timm: Any, given: str, weights: Any, seed: int) -> Network:
    from timm.data import create_transform, resolve_model_data_config

    architecture, _, named = given.partition(".")
    _refuse_unknown(timm, architecture)
    configs = {k.partition(".")[2]: v for k, v in timm.models.get_arch_pretrained_cfgs(architecture).items()}
    tags = [tag for tag, config in configs.items() if tag and config.has_weights]
    default = getattr(timm.get_pretrained_cfg(architecture), "tag", None)
    tag, file = _chosen(f"timm:{architecture}", named, weights, tags, default, separator=".")
    full = f"{architecture}.{tag}" if tag else architecture
    if file is not None:
        state = read_checkpoint(file)
        source = f"checkpoint {str(file)!r}"
        module = seeded(lambda: _timm_filled(timm, full, state, source), seed)
        words, transforms = f"file {file.name}", f"timm {full}, {ASSUMED}"
    elif weights is None:
        module = seeded(lambda: timm.create_model(full, pretrained=False), seed)
        words, transforms = f"random, seed {seed}", f"timm {full}"
    else:
        with _fetching("timm", full):
            module = seeded(lambda: timm.create_model(full, pretrained=True), seed)
        words, transforms = f"timm {full}", f"timm {full}"
    preprocess = create_transform(**resolve_model_data_config(module), is_training=False)
    layer = _before_classifier(module)
    if layer is None:
        module.reset_classifier(0)
        layer, words = "output", f"{words}; its several classifiers taken off"
    return Network(module.eval(), preprocess, words, transforms, layer, f"timm:{full}")


def _before_classifier(module: Any) -> str | None:
    """Return the layer of timm's own vector, what `forward_head(..., pre_logits=True)` gives.

    None where several classifiers read different vectors (distilled and multi-scale networks): timm's vector is then
    what the network gives without them.
    """
    from torch import nn

    classifier = module.get_classifier()
    if isinstance(classifier, (tuple, list, dict, nn.ModuleList, nn.ModuleDict)):
        return None
    if isinstance(classifier, nn.Identity):
        return "output"
    parts = dict(module.named_modules())
    if hasattr(classifier, "global_pool"):  # pooling and Linear together: the name of the Linear is noted
        classifier = parts[module.pretrained_cfg["classifier"]]
    return next((f"input:{name}" for name, part in parts.items() if part is classifier), None)


def _timm_filled(timm: Any, full: str, state: StateDict, source: str) -> Any:
    heads = timm.get_pretrained_cfg(full).classifier or ()
    head = heads if isinstance(heads, str) else next(iter(heads), "")
    options = {}
    if f"{head}.weight" in state:  # it may have been fine-tuned for other classes
        options["num_classes"] = state[f"{head}.weight"].shape[0]
    elif head:  # saved without a classifier, as timm offers it
        options["num_classes"] = 0
    module = timm.create_model(full, pretrained=False, **options)
    load_state(module, state, source, f"timm:{full}")
    return module


def _open_clip(open_clip: Any, given: str, weights: Any, seed: int) -> Network:
    architecture, _, named = given.partition("/")
    _refuse_unknown(open_clip, architecture)
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    default = next(iter(tags), None)
    tag, file = _chosen(f"open_clip:{architecture}", named, weights, tags, default, separator="/")
    full = f"{architecture}/{tag}" if tag else architecture
    of_tag: dict[str, Any] = open_clip.get_pretrained_cfg(architecture, tag) if tag else {}
    config = open_clip.get_model_config(architecture)
    # OpenAI's and others' weights want QuickGELU where the architecture of that name has GELU: open_clip only warns.
    wanted = bool(of_tag.get("quick_gelu")) and (bool(named) or file is None)
    quick = wanted or bool(config.get("quick_gelu"))
    if file is not None:
        state = _image_tower(read_checkpoint(file))
        module = seeded(lambda: _tower(config, quick), seed)
        load_state(module, state, f"checkpoint {str(file)!r}", f"the image tower of open_clip:{architecture}")
        words = f"file {file.name}"
        if isinstance(module, open_clip.transformer.VisionTransformer):  # the others have one activation
            words += f", run with {'Quick' if quick else ''}GELU"
        transforms = f"open_clip {full}, {ASSUMED}"
    elif weights is None:
        module = seeded(lambda: _tower(config, quick), seed)
        words, transforms = f"random, seed {seed}", f"open_clip {full}"
    else:
        load = partial(open_clip.create_model, architecture, tag, force_quick_gelu=quick, weights_only=True)
        with _fetching("open_clip", full):
            module = seeded(lambda: load().visual, seed)
        words, transforms = f"open_clip {full}", f"open_clip {full}"
    if getattr(module, "output_tokens", False):
        module.output_tokens = False  # CoCa's gives its tokens beside the vector
    pixels = open_clip.transform
    steps = pixels.merge_preprocess_dict(pixels.PreprocessCfg(), {**of_tag, "size": module.image_size})
    preprocess = pixels.image_transform_v2(pixels.PreprocessCfg(**steps), is_train=False)
    return Network(module.eval(), preprocess, words, transforms, "output", f"open_clip:{full}")


def _tower(config: dict[str, Any], quick_gelu: bool) -> Any:
    """Build the image tower alone: with the text tower, some networks would ask the network for its configuration."""
    from open_clip.model import CLIPVisionCfg, _build_vision_tower

    vision = dict(config["vision_cfg"])
    vision["timm_model_pretrained"] = False
    return _build_vision_tower(config["embed_dim"], CLIPVisionCfg(**vision), quick_gelu)


def _image_tower(state: StateDict) -> StateDict:
    """Return the image tower's part of a state dict of both towers; one of the tower alone as it is."""
    prefix = "visual."
    part = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return part or state


def _chosen(
    network: str, named: str, weights: Any, tags: list[str], default: str | None, *, separator: str
) -> tuple[str | None, Path | None]:
    """Return the tag that is meant, and the checkpoint file if there is one.

    The tag decides on the weights, unless they are random or from a file, and on the preprocess.
    """
    if named and named not in tags:
        raise WeightsError(
            f"{network} has no weights {named!r}.{closest(named, tags)} It has {', '.join(map(repr, tags)) or 'none'}."
        )
    tag = named or (default if default in tags else None)
    if weights is None:
        return tag, None
    if isinstance(weights, str) and weights == "DEFAULT":
        if tag is None:
            raise WeightsError(
                f"There are no trained weights for {network}: take weights=None (random) or the path of a checkpoint."
            )
        return tag, None
    bare = network.partition(":")[2]
    found = tag_or_file(network, weights, str(weights).removeprefix(f"{bare}{separator}"), tags)
    if found is None:
        return tag, Path(weights)
    if named and found != named:
        raise InputError(
            f"The name {network + separator + named!r} says other weights than weights={str(weights)!r}: leave one out."
        )
    return found, None


@contextmanager
def _fetching(origin: str, full: str) -> "Generator[None]":
    """Let a library load its own weights, without running code of the files; what goes wrong is a WeightsError."""
    try:
        with no_code_from_files():
            yield
    except Exception as error:  # the library, its hub client, PyTorch and safetensors raise a dozen kinds
        reason = textwrap.shorten(str(error) or type(error).__name__, 300, placeholder=" ...")
        raise WeightsError(
            f"{origin} cannot load the weights {full} ({reason}): connect to the network once, for they are kept; give "
            "a checkpoint with weights=FILE; or take weights=None (random) or Encoder('scenes'), which need no network."
        ) from error


# Where a name comes from: what builds it, and what pip calls the library.
_ORIGINS: dict[str, tuple[Callable[[Any, str, Any, int], Network], str]] = {
    "timm": (_timm, "timm"),
    "open_clip": (_open_clip, "open_clip_torch"),
}
