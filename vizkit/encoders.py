"""The encoder: a network, one of its layers, a pooling and a preprocess, which together turn an image into a vector."""

import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .capture import INPUT, averaged_maps, calibrate, evaluating, find_layer, tapped, trace
from .errors import InputError, LayerNotFoundError, MethodNotApplicableError
from .images import ImageSet, as_image
from .networks import code_hash, load_network, state_hash

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor, nn

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
        For a network by name: "DEFAULT" (the newest that torchvision offers), None (random, from `seed`) or a
        checkpoint file (a state dict as .pth, .pt, .th or .safetensors; read without running code).
    layer
        Name of a submodule, whose output is taken, or "input:NAME" for what goes into it. By default the vector before
        the classifier: the input of the last Linear that runs, or the last feature map where there is no Linear.
    pool
        How a feature map (c, h, w) or tokens (t, c) become a vector: "gap" (mean over positions), "max", "cls" (first
        token) or "flatten". A layer that already gives a vector is not pooled.
    preprocess
        From an upright RGB PIL image to a float32 tensor (3, h, w). By default what torchvision gives with the weights
        (with a checkpoint file or random weights: what it gives with IMAGENET1K_V1). A module needs it said.
    device
        "cpu", "cuda", "mps": where the network runs.
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
        weights: str | Path | None = "DEFAULT",
        layer: str | None = None,
        pool: str = "gap",
        preprocess: "Callable[[Image.Image], Tensor] | None" = None,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        if pool not in _POOLS:
            raise InputError(f"pool must be one of {', '.join(map(repr, _POOLS))}, not {pool!r}.")
        self._take_network(network, weights, preprocess, seed)
        self.pool = pool
        self.device = device
        self.seed = seed
        if isinstance(network, str):
            self.module.to(device)
        probe = self._probe_preprocess()
        self._calls = self._trace(probe)
        self.layer: str = layer or self._default_layer()
        self._part = find_layer(self.module, self.layer, self._calls)
        self.input_shape: tuple[int, ...] = tuple(probe.shape)
        self.dim: int = int(self.encode(probe[None]).shape[1])

    def _take_network(self, network: "str | nn.Module", weights: str | Path | None, preprocess: Any, seed: int) -> None:
        import torch

        if isinstance(network, str):
            built = load_network(network, weights, seed)
            self.name, self.module, self.weights = network, built.module, built.weights
            self._preprocess = preprocess or built.preprocess
            self.transforms = "given by the user" if preprocess else built.transforms
        elif isinstance(network, torch.nn.Module):
            if weights != "DEFAULT":
                raise InputError("weights= goes with a network's name; load them into a module before passing it.")
            if preprocess is None:
                raise InputError(
                    f"How does an image become the input of this {type(network).__name__}? Give preprocess=, a "
                    "callable from a PIL image to a float tensor (3, h, w): a torchvision Compose, for example."
                )
            self.name, self.module, self.weights = type(network).__name__, network, "as given"
            self._preprocess, self.transforms = preprocess, "given by the user"
        else:
            raise InputError(f"network must be a name or a torch.nn.Module, not {type(network).__name__}.")

    @property
    def layers(self) -> list[str]:
        """Names that `layer=` takes: submodules that run once in a forward pass and give a tensor, in running order."""
        names = [c.name for c in self._calls]
        return [name for name in names if names.count(name) == 1]

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over weights, the network's code, layer, pooling and what the preprocess does."""
        digest = hashlib.sha256()
        for part in (state_hash(self.module), code_hash(self.module), self.layer, self.pool, self._preprocess_hash):
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
        mean, std = self._normalization
        if mean is not None:
            x = x * np.reshape(std, (-1, 1, 1)) + np.reshape(mean, (-1, 1, 1))
        elif x.min() < 0 or x.max() > 1:
            x = (x - x.min()) / max(float(np.ptp(x)), 1e-12)
        x = np.repeat(x, 3, axis=0) if len(x) == 1 else x[:3]
        return (x.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)

    def vectors(self, batch: "Tensor") -> "Tensor":
        """Return the vectors (n, d) of a preprocessed batch (n, 3, h, w), with gradients where they are enabled."""
        with evaluating(self.module), tapped(self._part, self.layer) as seen:
            self.module(batch.to(self.device))
        if not seen:
            raise LayerNotFoundError(f"The layer {self.layer!r} did not run for this input.")
        return self._pooled(seen[-1])

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
        raise MethodNotApplicableError(
            f"The vector of {self.name} at {self.layer!r} (pool {self.pool!r}) is not the mean of a feature map over "
            "its positions, so it cannot be split into contributions of patches. Use method='occlusion', or a layer "
            "that is averaged."
        )

    @cached_property
    def spatial_layer(self) -> str:
        """The last layer that still gives a feature map (c, h, w) with more than one position: where Grad-CAM looks."""
        names = [c.name for c in self._calls]
        wanted = self.layer.removeprefix(INPUT)
        until = names.index(wanted) + (0 if self.layer.startswith(INPUT) else 1)
        for call in reversed(self._calls[:until]):
            if len(call.shape) == 4 and call.shape[2] * call.shape[3] > 1 and names.count(call.name) == 1:
                return call.name
        raise MethodNotApplicableError(
            f"{self.name} has no feature map (c, h, w) before {self.layer!r}, so Grad-CAM has nothing to weigh. "
            "Use method='occlusion'."
        )

    def randomized(self, images: ImageSet, *, seed: int = 0) -> "Encoder":
        """Return the same encoder with random weights: the baseline beside every score of this network.

        BatchNorm gets its statistics from up to 64 of the images. As initialised, some networks give every image nearly
        the same vector, and then any two of them agree.

        Parameters
        ----------
        images
            The images that the baseline is for.
        seed
            Of the weights.

        Raises
        ------
        InputError
            The network was given as a module, so how it is initialised is not known.
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
        rows = np.unique(np.linspace(0, len(images) - 1, _CALIBRATION).round().astype(int))
        calibrate(twin.module, torch.stack([twin.preprocess(images[row]) for row in rows]).to(self.device))
        twin.weights += f", BatchNorm calibrated on {len(rows)} images"
        return twin

    def card(self) -> pd.DataFrame:
        """Return what turns an image into a vector here: one row a property, column "value"."""
        mean, std = self._normalization
        steps = self._preprocess
        rows = {
            "network": self.name,
            "weights": self.weights,
            "weights hash": state_hash(self.module),
            "layer": f"{self.layer}" + (" (what goes into it)" if self.layer.startswith(INPUT) else ""),
            "pooling": self.pool if self._pools else "none needed: the layer gives a vector",
            "dimensions": self.dim,
            "preprocess": self.transforms,
            "resize": _said(steps, "resize_size"),
            "crop": _said(steps, "crop_size"),
            "interpolation": getattr(getattr(steps, "interpolation", None), "value", "as the preprocess says"),
            "input": f"{' x '.join(map(str, self.input_shape))}, RGB, float32",
            "mean": "as the preprocess says" if mean is None else ", ".join(f"{v:.3g}" for v in mean),
            "std": "as the preprocess says" if std is None else ", ".join(f"{v:.3g}" for v in std),
            "device": self.device,
            "precision": str(next((p.dtype for p in self.module.parameters()), "none")).removeprefix("torch."),
            "fingerprint": self.fingerprint,
        }
        return pd.DataFrame({"value": pd.Series(rows, dtype=object)})

    def __repr__(self) -> str:
        return f"<Encoder: {self.name} ({self.weights}), {self.layer}, {self.dim} dimensions>"

    def _repr_html_(self) -> str:
        return self.card().to_html(header=False)  # pandas escapes the values

    @property
    def _pools(self) -> bool:
        shapes = {c.name: c.shape for c in self._calls}
        return not self.layer.startswith(INPUT) and len(shapes[self.layer]) > 2

    @property
    def _normalization(self) -> tuple[Any, Any]:
        """Mean and std (3,) where the preprocess names them: torchvision's presets, or a Compose with a Normalize."""
        steps: list[Any] = [self._preprocess, *getattr(self._preprocess, "transforms", [])]
        for step in steps:
            if getattr(step, "mean", None) is not None and getattr(step, "std", None) is not None:
                return np.asarray(step.mean, float), np.asarray(step.std, float)
        return None, None

    def _pooled(self, x: "Tensor") -> "Tensor":
        if x.ndim == 2:
            return x
        if self.pool == "flatten":
            return x.flatten(1)
        if self.pool == "cls":
            if x.ndim != 3:
                raise InputError(f"pool='cls' needs tokens (n, t, c); {self.layer!r} gives {tuple(x.shape)}.")
            return x[:, 0]
        positions = (2, 3) if x.ndim == 4 else (1,)  # (n, c, h, w), or tokens (n, t, c)
        return x.mean(dim=positions) if self.pool == "gap" else x.amax(dim=positions)

    def _default_layer(self) -> str:
        linear = [c.name for c in self._calls if c.linear]
        if linear:
            return INPUT + linear[-1]
        names = [c.name for c in self._calls]
        maps = [c.name for c in self._calls if len(c.shape) == 4 and names.count(c.name) == 1]
        if self.name.startswith("squeezenet"):
            return "features"  # its classifier is a convolution, so the last map would be the class scores
        if not maps:
            raise LayerNotFoundError(f"{self.name} has no Linear and no feature map: name a layer with layer=.")
        return maps[-1]

    def _trace(self, probe: "Tensor") -> list:
        try:
            return trace(self.module, probe[None].to(self.device))
        except Exception as error:  # the user's module and preprocess may fail in any way
            raise InputError(
                f"{self.name} cannot run on one preprocessed image of shape {tuple(probe.shape)}: "
                f"{type(error).__name__}: {error}. Does the preprocess fit the network?"
            ) from error

    def _probe_preprocess(self) -> "Tensor":
        """Run the preprocess on a drawn test image twice: it must work, and give the same both times."""
        import torch

        image = _test_image()
        first, second = self.preprocess(image), self.preprocess(image)
        if not torch.equal(first, second):
            raise InputError(
                "preprocess gives two different tensors for one image. Leave random augmentation out: "
                "a vector must not depend on chance."
            )
        shape = f"{tuple(first.shape)}".encode()
        self._preprocess_hash = hashlib.sha256(shape + first.numpy().tobytes()).hexdigest()[:16]
        return first


def _test_image() -> "Image.Image":
    """Return a drawn image, 341 x 256: ramps plus fine checks, so that every resize and scaling leaves its mark."""
    from PIL import Image

    y, x = np.mgrid[0:256, 0:341]
    check = ((x // 3 + y // 5) % 2) * 60
    pixels = np.stack([x * 255 / 340 * 0.7 + check, y * 0.9, 255 - (x + y) * 255 / 595], axis=2)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _said(steps: Any, name: str) -> str:
    value = getattr(steps, name, None)
    return "as the preprocess says" if value is None else ", ".join(map(str, value)) + " pixels"
