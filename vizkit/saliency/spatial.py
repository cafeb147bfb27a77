"""Where in an image: the feature maps that a vector is the mean of, and the layers that have positions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..allocator import kept_pages
from ..capture import Call, averaged_maps
from ..encoders import Encoder
from ..errors import ImageReadError, InputError, MethodNotApplicableError
from ..images import as_image
from ..layers import calls_before, last_map

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

    Picture = Image.Image | str | Path | NDArray[Any] | "Seen"  # what a question takes for an image

FORWARD = 16  # images a forward pass

# How far the mean of a feature map may be from the vector, relative to the vector's norm, to count as the same thing.
_EXACT = 1e-5


@dataclass(frozen=True, eq=False)
class Seen:
    """One image after it went through the network: every question takes it in place of the image, at no forward pass.

    Attributes
    ----------
    encoder
        The network, as it was then.
    x
        (3, h, w) float32, preprocessed.
    vector
        (d,) float64.
    maps
        (d, h, w) float32, the feature map that the vector is the mean of; None where there is none.
    refusal
        Why there is none.
    weights
        What `weights_of` gave when it was seen: once it differs, the image must be seen again.
    """

    encoder: Encoder
    x: "Tensor"
    vector: "NDArray[np.float64]"
    maps: "NDArray[np.float32] | None"
    refusal: MethodNotApplicableError | None = None
    weights: tuple[float, ...] = ()

    def split(self) -> "NDArray[np.float32]":
        """Return `maps`, or raise why there are none.

        Raises
        ------
        MethodNotApplicableError
            The vector is not the mean of a feature map.
        """
        if self.maps is None:
            raise self.refusal or MethodNotApplicableError("No feature map was kept. Use method='occlusion'.")
        return self.maps

    @cached_property
    def picture(self) -> "NDArray[np.uint8]":
        """(H, W, 3) uint8 RGB: the picture that the network saw."""
        return self.encoder.seen(self.x)


@kept_pages()
def see(encoder: Encoder, images: "Sequence[Picture]") -> list[Seen]:
    """Run images through a network once, and keep what the questions need of each.

    Parameters
    ----------
    encoder
        The network.
    images
        PIL images, paths, or arrays (h, w, 3) uint8 or float in [0, 1]; what was seen already is taken as it is.

    Raises
    ------
    InputError
        An image cannot be used, was seen by another encoder, or by this one before its weights changed.
    """
    import torch

    found: dict[int, Seen] = {}
    weights = weights_of(encoder)
    for i, image in enumerate(images):
        if isinstance(image, Seen):
            if image.encoder is not encoder:
                raise InputError(
                    f"An image was seen by {image.encoder!r}, and the question is about {encoder!r}: see it again."
                )
            if image.weights != weights:
                raise InputError(
                    f"An image was seen by {encoder!r}, whose weights have changed since then: see it again."
                )
            found[i] = image
    new = [i for i in range(len(images)) if i not in found]
    x = [encoder.preprocess(_image(images[i])) for i in new]
    refusal = None
    for start in range(0, len(new), FORWARD):
        batch = torch.stack(x[start : start + FORWARD])
        maps: Sequence[Any] = [None] * len(batch)
        if refusal is None:
            try:
                maps, vectors = (t.cpu().numpy() for t in feature_maps(encoder, batch))
            except MethodNotApplicableError as error:
                refusal = error
        if refusal is not None:
            vectors = encoder.encode(batch).reshape(len(batch), -1)
        for j, i in enumerate(new[start : start + FORWARD]):
            found[i] = Seen(encoder, batch[j], vectors[j].astype(np.float64), maps[j], refusal, weights)
    return [found[i] for i in range(len(images))]


def weights_of(encoder: Encoder) -> tuple[float, ...]:
    """Return the sums and version counts of an encoder's parameters and buffers: cheap, and no hash.

    What is written through `.data` counts no version, and a small change may be lost in a sum. Tensors made in
    inference mode count no versions at all.
    """
    import torch

    tensors = [*encoder.module.parameters(), *encoder.module.buffers()]
    sums = [t.detach().sum(dtype=torch.float32) for t in tensors if t.is_floating_point()]
    values = torch.stack([each.to(sums[0].device) for each in sums]).tolist() if sums else []
    return (*values, *(0 if t.is_inference() else t._version for t in tensors))


def _image(given: "Picture") -> "Image.Image":
    try:
        return as_image(given)
    except ImageReadError as error:
        if isinstance(given, str) and "file is not there" in str(error):
            hint = "If it is the id of an image in a set, give images[images.row(id)]."
            raise ImageReadError(f"{error} {hint}") from None
        raise


def feature_maps(encoder: Encoder, batch: "Tensor") -> "tuple[Tensor, Tensor]":
    """Return the maps (n, d, h, w) whose mean over positions is the vector, and the vectors (n, d), both float32.

    The claim is checked on these very images, to 1e-5 of each vector's norm, so what is built on it is exact.

    Raises
    ------
    MethodNotApplicableError
        The vector is not the mean of a feature map (a CLS token, layers after the pooling, max pooling, ...).
    """
    import torch

    with torch.no_grad(), averaged_maps(encoder.dim) as candidates:
        vectors = encoder.vectors(batch).float()
    for candidate in reversed(candidates):
        maps = candidate.float()
        if len(maps) == len(vectors):
            error = (maps.mean(dim=(2, 3)) - vectors).norm(dim=1)
            if bool((error <= _EXACT * vectors.norm(dim=1) + 1e-30).all()):
                return maps, vectors
    why = "is not the mean of a feature map over its positions"
    if not candidates:
        why = "comes from no averaging of a known form over a feature map"
    hint = "" if encoder.precision == "float32" else " At half precision sums are not exact: try precision='float32'."
    raise MethodNotApplicableError(
        f"The vector of {encoder.name} at {encoder.layer!r} (pool {encoder.pool!r}) {why}, so it cannot be split into "
        f"contributions of patches. Use method='occlusion', or a layer that is averaged.{hint}"
    )


def spatial_layer(encoder: Encoder) -> str:
    """Return the last layer up to the vector that gives maps (c, h, w) of several positions: where Grad-CAM looks."""
    return _last_map(encoder, calls_before(encoder.calls, encoder.layer), f"before {encoder.layer!r}")


def last_spatial_layer(encoder: Encoder) -> str:
    """Return the last such layer of the whole network, whatever its `layer` is: where Grad-CAM looks for a class."""
    return _last_map(encoder, encoder.calls, "in it")


def _last_map(encoder: Encoder, calls: list[Call], where: str) -> str:
    once = [c.name for c in encoder.calls].count
    found = last_map([c for c in calls if once(c.name) == 1], encoder.input_shape[1:])
    if found is None:
        why = f"has no feature map (c, h, w) {where}, so Grad-CAM has nothing to weigh"
    elif found.channels == 3:
        why = f"gives (h, w, c) at {found.name!r}, its last feature map {where}, and Grad-CAM weighs (c, h, w)"
    else:
        return found.name
    raise MethodNotApplicableError(f"{encoder.name} {why}. Use method='occlusion'.")
