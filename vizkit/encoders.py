"""The encoder: a network, one of its layers, a pooling and a preprocess, which together turn an image into a vector."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .capture import (
    INPUT,
    Call,
    averaged_maps,
    batch_norms,
    calibrate,
    calls_before,
    channels_last,
    default_layer,
    evaluating,
    find_layer,
    last_map,
    tapped,
    trace,
)
from .errors import ImageReadError, InputError, LayerNotFoundError, MethodNotApplicableError
from .fingerprints import attribute_hashes, code_hash, drawn_images, preprocess_hash, state_hash
from .images import ImageSet, as_image
from .networks import load_network, place
from .preprocess import described, named, normalization

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor, nn
    from torchvision.models import WeightsEnum

_POOLS = ("gap", "max", "cls", "flatten")
# How far the mean of a feature map may be from the vector, relative to the vector's norm, to count as the same thing.
_EXACT = 1e-5
_CALIBRATION = 64  # images that set the BatchNorm statistics of random weights


class Encoder:
    """Turn images into vectors with one layer of a network.

    Parameters
    ----------
    network
        "scenes" (the embedded default), a torchvision classification network by name ("resnet50", "mobilenet_v2", ...),
        or any `torch.nn.Module` that takes a float32 batch (n, 3, h, w). A module is used as it is and never changed:
        its training flags come back after every call.
    weights
        For a network by name: "DEFAULT" (the newest that torchvision offers), another of torchvision's ("IMAGENET1K_V1"
        or ResNet50_Weights.IMAGENET1K_V1), None (random, from `seed`) or a checkpoint file (a state dict as .pth, .pt,
        .th or .safetensors; read without running code).
    layer
        Name of a submodule, whose output is taken, or "input:NAME" for what goes into it. By default the vector before
        the classifier: the input of the last Linear that runs, or the last feature map where there is no Linear.
    pool
        How a feature map (c, h, w) or tokens (t, c) become a vector: "gap" (mean over positions), "max", "cls" (first
        token) or "flatten". A layer that already gives a vector is not pooled. Maps (h, w, c), as inside Swin, are
        known by their shape: positions have the proportions of the input.
    preprocess
        From an upright RGB PIL image to a float32 tensor (3, h, w); or a name that changes values and keeps the
        geometry: "imagenet", "[0,1]", "[-1,1]" or "grayscale". By default what torchvision gives with the weights (with
        a checkpoint file or random weights: what it gives with IMAGENET1K_V1). A module needs it said.
    device
        "cpu", "cuda", "cuda:1", "mps": where the network runs. By default the CPU for a network by name, and where its
        parameters are for a module.
    seed
        Of the random weights.

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
        pool: str = "gap",
        preprocess: "str | Callable[[Image.Image], Tensor] | None" = None,
        device: "str | torch.device | None" = None,
        seed: int = 0,
    ) -> None:
        if pool not in _POOLS:
            raise InputError(f"pool must be one of {', '.join(map(repr, _POOLS))}, not {pool!r}.")
        self._take_network(network, weights, preprocess, seed)
        self.pool = pool
        self.device = place(self.module, device, move=isinstance(network, str))
        self.seed = seed
        before = attribute_hashes(self.module)
        probe = self._probe_preprocess()
        self._calls: list[Call] = self._trace(probe)
        self.layer: str = layer or default_layer(self._calls, self.name)
        self._part = find_layer(self.module, self.layer, self._calls)
        self._take_shape(probe)
        after = attribute_hashes(self.module)
        # What a forward pass writes onto the module (counters, kept activations) does not define it.
        self._written = {name for name in before | after if before.get(name) != after.get(name)}

    def _take_network(self, network: "str | nn.Module", weights: Any, preprocess: Any, seed: int) -> None:
        import torch

        if isinstance(network, str):
            built = load_network(network, weights, seed)
            self.name, self.module, self.weights = network, built.module, built.weights
            self._preprocess, self.transforms = built.preprocess, built.transforms
        elif isinstance(network, torch.nn.Module):
            if not (isinstance(weights, str) and weights == "DEFAULT"):
                raise InputError("weights= goes with a network's name; load them into a module before passing it.")
            if preprocess is None:
                raise InputError(
                    f"How does an image become the input of this {type(network).__name__}? Give preprocess=, a "
                    "callable from a PIL image to a float tensor (3, h, w), or a name: 'imagenet', '[0,1]', '[-1,1]'."
                )
            self.name, self.module, self.weights = type(network).__name__, network, "as given"
            self._preprocess: Any = None
        else:
            raise InputError(f"network must be a name or a torch.nn.Module, not {type(network).__name__}.")
        if isinstance(preprocess, str):
            self._preprocess, self.transforms = named(preprocess, self._preprocess), f"{preprocess}, by name"
        elif preprocess is not None:
            self._preprocess, self.transforms = preprocess, "given by the user"

    @property
    def layers(self) -> list[str]:
        """Names that `layer=` takes: submodules that run once in a forward pass and give a tensor, in running order."""
        names = [c.name for c in self._calls]
        return [name for name in names if names.count(name) == 1]

    @property
    def fingerprint(self) -> str:
        """16 hex digits over weights, code and attributes of the network, layer, pooling, and what the preprocess does.

        Computed anew each time, for the module is the user's and may have been trained on.
        """
        found = attribute_hashes(self.module)
        attributes = [f"{name} {found[name]}" for name in sorted(found) if name not in self._written]
        digest = hashlib.sha256()
        parts = (state_hash(self.module), code_hash(self.module), *attributes, self.layer, self.pool)
        for part in (*parts, preprocess_hash(self.preprocess)):
            digest.update(f"{part}|".encode())
        return digest.hexdigest()[:16]

    def preprocess(self, image: "Image.Image") -> "Tensor":
        """Return what the network gets for an upright RGB image: float32 (3, h, w), always of one size."""
        tensor = self._preprocess(image)
        import torch

        if not isinstance(tensor, torch.Tensor) or tensor.ndim != 3 or not tensor.is_floating_point():
            got = f"{tuple(tensor.shape)} {tensor.dtype}" if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise InputError(f"preprocess must give a float tensor (3, h, w); it gave {got}.")
        expected = getattr(self, "input_shape", tuple(tensor.shape))
        if tuple(tensor.shape) != expected:
            raise InputError(
                f"preprocess gave {tuple(tensor.shape)} for an image of {image.size}, and {expected} for another: "
                "resize and crop to one size."
            )
        return tensor.float()

    def seen(self, tensor: "Tensor") -> "NDArray[np.uint8]":
        """Return a preprocessed tensor (3, h, w) as the picture the network saw, (h, w, 3) uint8 RGB.

        Mean and standard deviation are taken off where the preprocess names them; else values outside [0, 1] are
        stretched to it, image by image.
        """
        x = tensor.detach().cpu().float().numpy()
        mean, std = normalization(self._preprocess)
        if mean is not None:
            x = x * np.reshape(std, (-1, 1, 1)) + np.reshape(mean, (-1, 1, 1))
        elif x.min() < 0 or x.max() > 1:
            x = (x - x.min()) / max(float(np.ptp(x)), 1e-12)
        x = np.repeat(x, 3, axis=0) if len(x) == 1 else x[:3]
        return (x.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)

    def vectors(self, batch: "Tensor") -> "Tensor":
        """Return the vectors (n, d) of a preprocessed batch (n, 3, h, w), with gradients where they are enabled."""
        return self._pooled(self._tap(batch))

    def encode(self, batch: "Tensor") -> "NDArray[np.float32]":
        """Return the vectors (n, d) float32 of a preprocessed batch (n, 3, h, w)."""
        import torch

        with torch.inference_mode():
            return self.vectors(batch).float().cpu().numpy()

    def embed_image(self, image: "Image.Image | str | Path | NDArray[Any]") -> "NDArray[np.float32]":
        """Return the vector (d,) float32 of one image (PIL image, path or array)."""
        return self.encode(self.preprocess(as_image(image))[None])[0]

    def feature_maps(self, batch: "Tensor") -> "tuple[Tensor, Tensor]":
        """Return the maps (n, d, h, w) whose mean over positions is the vector, and the vectors (n, d), both float32.

        The claim is checked on these very images, to 1e-5 of each vector's norm, so what is built on it is exact.

        Raises
        ------
        MethodNotApplicableError
            The vector is not the mean of a feature map (a CLS token, layers after the pooling, max pooling, ...).
        """
        import torch

        with torch.inference_mode(), averaged_maps(self.dim) as candidates:
            vectors = self.vectors(batch).float()
        for candidate in reversed(candidates):
            maps = candidate.float()
            if len(maps) == len(vectors):
                error = (maps.mean(dim=(2, 3)) - vectors).norm(dim=1)
                if bool((error <= _EXACT * vectors.norm(dim=1) + 1e-30).all()):
                    return maps, vectors
        why = "is not the mean of a feature map over its positions"
        if not candidates:
            why = "comes from no averaging of a known form over a feature map"
        raise MethodNotApplicableError(
            f"The vector of {self.name} at {self.layer!r} (pool {self.pool!r}) {why}, so it cannot be split into "
            "contributions of patches. Use method='occlusion', or a layer that is averaged."
        )

    @property
    def spatial_layer(self) -> str:
        """The last layer up to the vector that gives maps (c, h, w) of several positions: where Grad-CAM looks."""
        return self._last_map(calls_before(self._calls, self.layer), f"before {self.layer!r}")

    @property
    def last_spatial_layer(self) -> str:
        """The last such layer of the whole network, whatever `layer` is: where Grad-CAM looks for a class."""
        return self._last_map(self._calls, "in it")

    def _last_map(self, calls: list[Call], where: str) -> str:
        once = [c.name for c in self._calls].count
        found = last_map([c for c in calls if once(c.name) == 1], self.input_shape[1:])
        if found is None:
            why = f"has no feature map (c, h, w) {where}, so Grad-CAM has nothing to weigh"
        elif found.channels == 3:
            why = f"gives (h, w, c) at {found.name!r}, its last feature map {where}, and Grad-CAM weighs (c, h, w)"
        else:
            return found.name
        raise MethodNotApplicableError(f"{self.name} {why}. Use method='occlusion'.")

    def randomized(self, images: ImageSet, *, seed: int = 0) -> "Encoder":
        """Return the same encoder with random weights: the baseline beside every score of this network.

        BatchNorm gets its statistics from up to 64 of the images that can be read. As initialised, some networks give
        every image nearly the same vector, and then any two of them agree.

        Parameters
        ----------
        images
            The images that the baseline is for.
        seed
            Of the weights.

        Raises
        ------
        InputError
            The network was given as a module, so how it is initialised is not known; or no image can be read.
        """
        if self.weights == "as given":
            raise InputError("Random weights are known only for networks by name; build the module anew and wrap it.")
        import torch

        twin = Encoder(
            self.name,
            weights=None,
            layer=self.layer,
            pool=self.pool,
            preprocess=self._preprocess,
            device=self.device,
            seed=seed,
        )
        if batch_norms(twin.module):
            batch = _readable(twin, images)
            calibrate(twin.module, torch.stack(batch).to(twin.device))
            twin.weights += f", BatchNorm calibrated on {len(batch)} images"
        return twin

    def card(self) -> pd.DataFrame:
        """Return what turns an image into a vector here: one row a property, column "value"."""
        rows = {
            "network": self.name,
            "weights": self.weights,
            "weights hash": state_hash(self.module),
            "layer": f"{self.layer}" + (" (what goes into it)" if self.layer.startswith(INPUT) else ""),
            "pooling": self.pool if len(self._shape) > 2 else "none needed: the layer gives a vector",
            "dimensions": self.dim,
            "preprocess": self.transforms,
            **described(self._preprocess),
            "input": f"{' x '.join(map(str, self.input_shape))}, RGB, float32",
            "device": self.device,
            "precision": str(next((p.dtype for p in self.module.parameters()), "none")).removeprefix("torch."),
            "fingerprint": self.fingerprint,
        }
        return pd.DataFrame({"value": pd.Series(rows, dtype=object)})

    def __repr__(self) -> str:
        return f"<Encoder: {self.name} ({self.weights}), {self.layer}, {self.dim} dimensions>"

    def _repr_html_(self) -> str:
        return self.card().to_html(header=False)  # pandas escapes the values

    def _take_shape(self, probe: "Tensor") -> None:
        """Find out what the layer gives: its shape, where its channels are, and the vector's dimensions."""
        import torch

        with torch.inference_mode():
            x = self._tap(probe[None])
            self._shape = tuple(x.shape)
            before = calls_before(self._calls, self.layer)
            self._channels_last = x.ndim == 4 and channels_last(self._shape, self.input_shape[1:], before)
            self.dim: int = int(self._pooled(x).shape[1])

    def _tap(self, batch: "Tensor") -> "Tensor":
        with evaluating(self.module), tapped(self._part, self.layer) as seen:
            self.module(batch.to(self.device))
        if not seen:
            raise LayerNotFoundError(f"The layer {self.layer!r} did not run for this input, or has no tensor there.")
        if seen[-1].ndim < 2 or len(seen[-1]) != len(batch):
            raise InputError(
                f"The layer {self.layer!r} has shape {tuple(seen[-1].shape)} for {len(batch)} images: expected one "
                "vector (d,), tokens (t, c) or feature map (c, h, w) an image. Choose another layer."
            )
        return seen[-1]

    def _pooled(self, x: "Tensor") -> "Tensor":
        if x.ndim == 2:
            return x
        if self.pool == "flatten":
            return x.flatten(1)
        if self.pool == "cls":
            if x.ndim != 3:
                raise InputError(f"pool='cls' needs tokens (n, t, c); {self.layer!r} gives {tuple(x.shape)}.")
            return x[:, 0]
        if x.ndim > 4:
            raise InputError(
                f"pool={self.pool!r} needs tokens (n, t, c) or maps (n, c, h, w); {self.layer!r} gives "
                f"{tuple(x.shape)}. Take pool='flatten', or another layer."
            )
        positions = (1,) if x.ndim == 3 else (1, 2) if self._channels_last else (2, 3)
        return x.mean(dim=positions) if self.pool == "gap" else x.amax(dim=positions)

    def _trace(self, probe: "Tensor") -> list:
        try:
            return trace(self.module, probe[None].to(self.device))
        except Exception as error:  # the user's module and preprocess may fail in any way
            raise InputError(
                f"{self.name} cannot run on one preprocessed image of shape {tuple(probe.shape)}: "
                f"{type(error).__name__}: {error}. Does the preprocess fit the network?"
            ) from error

    def _probe_preprocess(self) -> "Tensor":
        """Run the preprocess on drawn images: it must work, give the same twice, and always one size."""
        import torch

        image, other = drawn_images()
        first, second = self.preprocess(image), self.preprocess(image)
        if not torch.equal(first, second):
            raise InputError(
                "preprocess gives two different tensors for one image. Leave random augmentation out: "
                "a vector must not depend on chance."
            )
        self.input_shape: tuple[int, ...] = tuple(first.shape)
        self.preprocess(other)  # of another size: what comes out must not be
        return first


def _readable(encoder: Encoder, images: ImageSet) -> "list[Tensor]":
    """Return preprocessed images, spread over the set; those that cannot be read are left out."""
    found, reason = [], "there are none"
    for row in np.unique(np.linspace(0, max(len(images) - 1, 0), min(_CALIBRATION, len(images))).astype(int)):
        try:
            found.append(encoder.preprocess(images[row]))
        except ImageReadError as error:
            reason = str(error)
    if not found:
        raise InputError(f"BatchNorm needs images to be calibrated on, and none can be read: {reason}")
    return found
