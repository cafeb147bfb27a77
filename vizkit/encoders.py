"""The encoder: a network, one of its layers, a pooling and a preprocess, which together turn an image into a vector."""

import copy
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .capture import Call, alone, batch_norms, calibrate, evaluating, tapped, trace, unchanged
from .cards import card, identify
from .checkpoints import redrawn
from .devices import PRECISIONS, computing, half_type, place
from .errors import InputError, LayerNotFoundError
from .fingerprints import attribute_hashes
from .images import ImageSet, as_image
from .inputs import Input
from .layers import Layers, calls_before, channels_last, default_layer, find_layer, layers_of, shape_at
from .networks import load_network
from .pooling import POOLS, pooled

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor, nn
    from torchvision.models import WeightsEnum

_CALIBRATION = 64  # images that set the BatchNorm statistics of random weights
_PROBES = 2  # drawn images that a network is looked at with
_STEADY = 0.02  # how far an image's vector may move, relative to its norm: room for rounding at half precision


class Encoder:
    """Turn images into vectors with one layer of a network.

    Parameters
    ----------
    network
        "scenes" (the embedded default) or "scenes-biased" (its twin that learned a shortcut); a torchvision
        classification network by name ("resnet50", "mobilenet_v2", ...); "timm:NAME" or "open_clip:NAME" where these
        packages are installed; or any `torch.nn.Module` that takes a batch (n, 3, h, w). A module is used as it is: its
        training flags and its buffers come back after every call.
    weights
        For a network by name: "DEFAULT" (the newest that torchvision offers), another by name ("IMAGENET1K_V1" or
        ResNet50_Weights.IMAGENET1K_V1; a tag of timm's or open_clip's), None (random, from `seed`) or a checkpoint file
        (a state dict as .pth, .pt, .th or .safetensors; read without running code).
    layer
        One of `layers`: a submodule, whose output is taken, or "output", what the network returns; or "input:NAME" for
        what goes into a submodule. By default the vector before the classifier: the input of the Linear that gives what
        the network returns (or its softmax; the first tensor of a tuple or dict), "features" for SqueezeNet, else
        "output".
    pool
        How a feature map (c, h, w) or tokens (t, c) become a vector: "gap" (mean over positions), "gem" (generalized
        mean, power 3), "max", "cls" (first token), "flatten", or "none": flattened too, and `encode` gives the layer's
        own shape. By default "gap"; a layer that already gives a vector is not pooled, and "gem", "max" and "cls" are
        refused there. Maps (h, w, c), as inside Swin, are known by their
        shape: positions have the proportions of the input.
    preprocess
        From an upright RGB PIL image to a float32 tensor (3, h, w); or a name that changes values and keeps the
        geometry: "imagenet", "[0,1]", "[-1,1]" or "grayscale". By default what torchvision gives with the weights (with
        a checkpoint file or random weights: what it gives with IMAGENET1K_V1). A module needs it said.
    device
        "cpu", "cuda", "cuda:1", "mps", or "auto", the best that is here: where the network runs. By default the CPU for
        a network by name, and where its parameters are for a module, which is never moved.
    precision
        "float32", or "half": 16-bit arithmetic by autocast, float16 on a GPU and bfloat16 on a CPU; the weights stay as
        they are. On a CPU with bfloat16 units embedding ran 1.4 times as fast for mobilenet_v2
        (tests/benchmarks); `embed` says how many nearest neighbors stay. Without such units it warns.
    seed
        Of the random weights.

    Attributes
    ----------
    name, layer, pool, device, precision, seed
        As given or chosen; the name of a module is its class.
    module
        The network itself.
    dim
        Numbers in a vector.
    shape
        Of what `encode` gives for one image: (dim,), or with pool "none" the layer's own.
    official
        The preprocess that came with a network by name, whatever is applied; None for a module.
    official_transforms
        In words, where that comes from, and whether it is assumed.
    weights, transforms
        In words, where weights and preprocess come from.

    Raises
    ------
    ModelNotFoundError, LayerNotFoundError, WeightsError, InputError
        Each says what is near and what to do.
    """

    def __init__(
        self,
        network: "str | nn.Module",
        *,
        weights: "str | os.PathLike[str] | WeightsEnum | None" = "DEFAULT",
        layer: str | None = None,
        pool: str | None = None,
        preprocess: "str | Callable[[Image.Image], Tensor] | None" = None,
        device: "str | torch.device | None" = None,
        precision: str = "float32",
        seed: int = 0,
    ) -> None:
        if precision not in PRECISIONS:
            raise InputError(f"precision must be one of {', '.join(map(repr, PRECISIONS))}, not {precision!r}.")
        self._take_network(network, weights, preprocess, seed)
        self.seed = seed
        self.device = place(self.module, device, move=isinstance(network, str))
        self.precision = precision
        self._half = half_type(self.device) if precision == "half" else None
        self._look(layer, pool)

    def _take_network(self, network: "str | nn.Module", weights: Any, preprocess: Any, seed: int) -> None:
        import torch

        self.official: Any = None
        self.official_transforms = "none is known"
        self._own_layer: str | None = None
        self._architecture: str | None = None  # of a network by name: what builds it again
        if isinstance(network, str):
            built = load_network(network, weights, seed)
            self.name, self.module, self.weights = network, built.module, built.weights
            self.official, self._own_layer, self._architecture = built.preprocess, built.layer, built.name or network
            self.official_transforms = built.transforms
            self._choose(self.official, built.transforms)
        elif isinstance(network, torch.nn.Module):
            if not (isinstance(weights, str) and weights == "DEFAULT"):
                raise InputError("weights= goes with a network's name; load them into a module before passing it.")
            if preprocess is None:
                raise InputError(
                    f"How does an image become the input of this {type(network).__name__}? Give preprocess=, a "
                    "callable from a PIL image to a float tensor (3, h, w), or a name: 'imagenet', '[0,1]', '[-1,1]'."
                )
            self.name, self.module, self.weights = type(network).__name__, network, "as given"
        else:
            raise InputError(f"network must be a name or a torch.nn.Module, not {type(network).__name__}.")
        if preprocess is not None:
            self._choose(preprocess)

    def _choose(self, preprocess: Any, words: str = "given by the user") -> None:
        self.input = Input(preprocess, self.official)
        self.transforms = f"{preprocess}, by name" if isinstance(preprocess, str) else words

    def _look(self, layer: str | None, pool: str | None) -> None:
        """Run the network on drawn images: keep what ran and which shapes came out, and refuse what is not steady."""
        states = [attribute_hashes(self.module)]
        batch = self.input.probe()
        self.moving: set[str] = set()
        with unchanged(self.module) as moving:
            try:
                with computing(self.device, self._half):
                    self.calls: list[Call] = trace(self.module, self.placed(batch))
            except Exception as error:  # the user's module and preprocess may fail in any way
                raise InputError(
                    f"{self.name} cannot run on preprocessed images of shape {tuple(batch.shape[1:])}: "
                    f"{type(error).__name__}: {error}. Does the preprocess fit the network?"
                ) from error
            states.append(attribute_hashes(self.module))
            wanted = layer if layer is not None else self._own_layer or default_layer(self.calls, self.name)
            self._aim(wanted, pool)
            self._refuse_unsteady(batch)
            states.append(attribute_hashes(self.module))
        self.moving = moving
        # What a forward pass writes onto the module (counters, kept activations) does not define it.
        names = set().union(*states)
        self.written = {name for name in names if len({state.get(name) for state in states}) > 1}

    def _refuse_unsteady(self, batch: "Tensor") -> None:
        import torch

        with torch.no_grad():
            among, alone = self.vectors(batch)[0].float(), self.vectors(batch[:1])[0].float()
        if float((alone - among).norm()) > _STEADY * float(among.norm()):
            raise InputError(
                f"The vector of one image at {self.layer!r} is another alone than in a batch, or at a second call: "
                "expected the same. Does something draw at random (a dropout that stays on), keep state, or take the "
                "statistics of the batch (a BatchNorm without running statistics)? Choose a layer before it."
            )

    def _aim(self, layer: str, pool: str | None) -> None:
        import torch

        if pool is not None and pool not in POOLS:
            raise InputError(f"pool must be one of {', '.join(map(repr, POOLS))}, not {pool!r}.")
        self._part = find_layer(self.module, layer, self.calls)
        self.layer_shape = shape_at(layer, self.calls, _PROBES)
        if len(self.layer_shape) == 1 and pool in ("gem", "max", "cls"):
            raise InputError(
                f"pool={pool!r} has nothing to pool: {layer!r} gives a vector already, {self.layer_shape[0]} numbers. "
                "Leave pool= out, or choose a layer with positions; encoder.layers shows shapes."
            )
        self.layer, self.pool = layer, pool or "gap"
        self._channels_last = len(self.layer_shape) == 3 and channels_last(
            (1, *self.layer_shape), self.input_shape[1:], calls_before(self.calls, layer)
        )
        self.dim: int = self._pooled(torch.empty((1, *self.layer_shape), device="meta")).shape[1]
        self.shape: tuple[int, ...] = self.layer_shape if self.pool == "none" else (self.dim,)

    def at(self, layer: str, *, pool: str | None = None) -> "Encoder":
        """Return this network at another layer; the module and the preprocess are shared, nothing is loaded anew.

        Parameters
        ----------
        layer
            One of `layers`, or "input:NAME".
        pool
            As for `Encoder`; by default this encoder's.

        Raises
        ------
        LayerNotFoundError, InputError
            There is no such layer, or it cannot be pooled so.
        """
        twin = copy.copy(self)
        twin._aim(layer, pool)
        if pool is None and len(twin.layer_shape) > 1:
            twin._aim(layer, self.pool)
        return twin

    def with_preprocess(self, preprocess: "str | Callable[[Image.Image], Tensor]") -> "Encoder":
        """Return this network with another preprocess, a callable or a name; the module is shared.

        Raises
        ------
        InputError
            There is no preprocess of that name, or the network cannot run on what it gives.
        """
        twin = copy.copy(self)
        twin._choose(preprocess)
        twin._look(self.layer, self.pool if len(self.layer_shape) > 1 else None)
        return twin

    def on(self, module: "nn.Module") -> "Encoder":
        """Return this encoder on another module of the same structure, for example one that computes faster."""
        twin = copy.copy(self)
        twin.module = module
        twin._part = find_layer(module, self.layer, self.calls)
        return twin

    def exact(self) -> "Encoder":
        """Return this encoder in float32, whatever its precision; the module is shared."""
        twin = copy.copy(self)
        twin.precision, twin._half = "float32", None
        return twin

    @property
    def layers(self) -> Layers:
        """What `layer=` takes: a mapping from names to kind, shape and depth, in running order, shown as a table.

        All submodules that run once in a forward pass and give a tensor, the default layer, and "output".
        """
        try:
            default = self._own_layer or default_layer(self.calls, self.name)
        except LayerNotFoundError:
            default = None  # none can be told, so one was named
        return layers_of(self.calls, default, _PROBES)

    @property
    def fingerprint(self) -> str:
        """16 hex digits over weights, code and attributes of the network, layer, pooling, precision, and preprocess.

        Computed anew each time, for the module is the user's and may have been trained on.
        """
        return identify([self])[0].fingerprint

    def card(self) -> pd.DataFrame:
        """Return what turns an image into a vector here: one row a property, column "value".

        Colors, mean, std and range are measured on what the preprocess makes of plain images, whatever it is.
        """
        return card(self, identify([self])[0])

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(3, h, w), what the preprocess gives for every image."""
        return self.input.shape

    def preprocess(self, image: "Image.Image") -> "Tensor":
        """Return what the network gets for an upright RGB image: float32 (3, h, w), always of one size."""
        return self.input(image)

    def seen(self, tensor: "Tensor") -> "NDArray[np.uint8]":
        """Return a preprocessed tensor (3, h, w) as the picture the network saw, (h, w, 3) uint8 RGB.

        By the mean, standard deviation and channel order that are measured on the preprocess; where they are not known,
        values outside [0, 1] are stretched to it, image by image.
        """
        return self.input.seen(tensor)

    def vectors(self, batch: "Tensor") -> "Tensor":
        """Return the vectors (n, dim) of a preprocessed batch (n, 3, h, w), with gradients where they are enabled."""
        return _run([self], batch)[0]

    def scores(self, batch: "Tensor") -> Any:
        """Return what the network itself returns for a preprocessed batch, with gradients where they are enabled."""
        with evaluating(self.module), computing(self.device, self._half), unchanged(self.module, self.moving):
            return self.module(self.placed(batch))

    def encode(self, batch: "Tensor") -> "NDArray[np.float32]":
        """Return the vectors (n, dim) float32 of a preprocessed batch (n, 3, h, w); (n, *shape) with pool "none"."""
        return encode_layers([self], batch)[0].reshape(-1, *self.shape)

    def embed_image(self, image: "Image.Image | str | Path | NDArray[Any]") -> "NDArray[np.float32]":
        """Return the vector (dim,) float32 of one image (PIL image, path or array); `shape` with pool "none"."""
        return self.encode(self.preprocess(as_image(image))[None])[0]

    def randomized(self, images: ImageSet, *, seed: int = 0) -> "Encoder":
        """Return the same encoder with random weights: the baseline beside every score of this network.

        BatchNorm gets its statistics from up to 64 of the images that can be read. As initialized, some networks give
        every image nearly the same vector, and then any two of them agree. A module given by the user is copied, and
        the copy's weights are drawn anew (`checkpoints.redrawn`); one by name is built anew, as its own code
        initializes it, so the same network is another baseline by name than as a module.

        Parameters
        ----------
        images
            The images that the baseline is for.
        seed
            Of the weights.

        Raises
        ------
        InputError
            No image can be read.
        WeightsError
            The network was given as a module, and it cannot be copied.
        """
        twin = Encoder(
            self._architecture or redrawn(self.module, seed),
            weights=None if self._architecture else "DEFAULT",
            layer=self.layer,
            pool=self.pool if len(self.layer_shape) > 1 else None,
            preprocess=self.input.function,
            device=self.device if self._architecture else None,
            precision=self.precision,
            seed=seed,
        )
        twin.weights = f"random, seed {seed}"
        twin.name, twin.transforms = self.name, self.transforms
        if batch_norms(twin.module):
            batch = twin.input.readable(images, _CALIBRATION)
            calibrate(twin.module, twin.placed(batch))
            twin.weights += f", BatchNorm calibrated on {len(batch)} images"
        return twin

    def __repr__(self) -> str:
        pool = f", pool {self.pool}" if len(self.layer_shape) > 1 else ""
        half = ", half precision" if self._half else ""
        return f"<Encoder: {self.name} ({self.weights}), {self.layer}{pool}{half}, {self.dim} dimensions>"

    def _repr_html_(self) -> str:
        with pd.option_context("display.max_colwidth", None):  # pandas escapes the values
            return self.card().to_html(header=False)

    @property
    def precision_in_words(self) -> str:
        """For the card: the type of the weights, and of the arithmetic where that is another."""
        weights = str(next((p.dtype for p in self.module.parameters()), "none")).removeprefix("torch.")
        half = str(self._half).removeprefix("torch.")
        return f"{half} by autocast, weights {weights}: not the vectors of float32" if self._half else weights

    def placed(self, batch: "Tensor") -> "Tensor":
        """Return a batch where the network is, in its own floating point type."""
        import torch

        own = next((p.dtype for p in self.module.parameters() if p.is_floating_point()), torch.float32)
        return batch.to(self.device, own)

    def _pooled(self, x: "Tensor") -> "Tensor":
        return pooled(x, self.pool, channels_last=self._channels_last, layer=self.layer)


def encode_layers(encoders: Sequence[Encoder], batch: "Tensor") -> "list[NDArray[np.float32]]":
    """Return the vectors (n, dim) float32 at several layers of one network, from one forward pass.

    Parameters
    ----------
    encoders
        One network at its layers: made by `Encoder.at`, so that module and preprocess are shared.
    batch
        (n, 3, h, w), preprocessed.
    """
    import torch

    # Not inference_mode: what a network keeps of a pass (masks, tables) would then be useless for its training.
    with torch.no_grad():
        return [vectors.float().cpu().numpy() for vectors in _run(encoders, batch)]


def _run(encoders: Sequence[Encoder], batch: "Tensor") -> "list[Tensor]":
    first = encoders[0]
    with ExitStack() as stack:
        stack.enter_context(alone(first.module))
        taken = [stack.enter_context(tapped(e._part, e.layer, e._pooled)) for e in encoders]
        first.scores(batch)
    for encoder, found in zip(encoders, taken, strict=True):
        if not found:
            raise LayerNotFoundError(f"The layer {encoder.layer!r} did not run for this input, or has no tensor there.")
        if tuple(found[-1].shape) != (len(batch), encoder.dim):
            raise InputError(
                f"The layer {encoder.layer!r} gave {tuple(found[-1].shape)} for {len(batch)} images, expected "
                f"({len(batch)}, {encoder.dim}) as when this encoder was made for inputs of {encoder.input_shape}: "
                "the network has changed since (make the encoder anew), or images do not come out one by one."
            )
    return [found[-1] for found in taken]
