"""How a question is answered: a method is chosen, maps are made, and what made them is written down."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..allocator import kept_pages
from ..encoders import Encoder
from ..errors import InputError
from ..figures import Panel
from .badges import badge_of, best_of, center_key, fingerprint_of
from .contribution import patches_of, share
from .evidence import NOT_MEASURED, PairEvidence
from .methods import Given, attribute, layer_of, method_of, residual
from .spatial import Seen, see
from .targets import Map, Target, center_of, direction_target, offset_of, units_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from .spatial import Picture
    from .targets import Center

# What may become the default, cheapest first: exact, or what hides parts of the image. `trust` measures these.
CHOICES = ("contribution", "occlusion", "multiscale_occlusion")
CHOSEN = "chosen by the caller"


class Pairs:
    """A query and others that went through the network, and what is to be explained of them."""

    def __init__(
        self,
        encoder: Encoder,
        query: "Picture",
        others: "Sequence[Picture]",
        method: Given | None,
        center: "Center | None",
        *,
        names: Sequence[str],
    ) -> None:
        check_encoder(encoder)
        if method is not None:
            method_of(method)
        start = time.perf_counter()
        self.encoder, self.names, self.center = encoder, names, center_of(center, encoder)
        self.seens = see(encoder, [query, *others])
        self.units = units_of(encoder, [seen.vector for seen in self.seens], self.center)
        self.named = method is not None
        self.chosen = choose(encoder, method, self.center, self.seens)
        self._patches: dict[int, NDArray[np.float32]] = {}
        self.seconds = (time.perf_counter() - start) / max(len(others), 1)

    def last(self) -> list[PairEvidence]:
        """Return every pair by the method that counts."""
        return list(self.explained(*self.chosen))

    def first_and_last(self) -> Iterator[PairEvidence]:
        """Yield every pair by contribution, where that is not what counts but exact; then as `last`."""
        if not self.named and self.chosen[0] != "contribution" and _exact(self.seens):
            reason = f"at once, before {method_of(self.chosen[0]).title}; {_grid(self.seens)}"
            yield from self.explained("contribution", *trusted(self.encoder, "contribution", self.center, reason))
        yield from self.explained(*self.chosen)

    def explained(self, method: Given, reason: str, trust: str) -> Iterator[PairEvidence]:
        """Yield every pair by one method."""
        from tqdm.auto import tqdm

        alone = len(self.seens) == 2
        # What hides parts hides the same parts of the query for every other image: one pass of the query serves all.
        features = self.encoder.vectors if alone else _remembering(self.encoder)
        bar = {"desc": method_of(method).title, "unit": "pair", "delay": 2, "leave": False, "disable": alone}
        words = words_of(self.encoder, method, "points of cosine", self.center)
        for j in tqdm(range(1, len(self.seens)), **bar):
            start = time.perf_counter()
            found = self._pair(j, method, features)
            seconds = self.seconds + time.perf_counter() - start
            yield PairEvidence(**found, **words, reason=reason, trust=trust, seconds=seconds)

    @kept_pages()  # over both maps: what the first leaves free serves the second
    def _pair(self, j: int, method: Given, features: "Callable[[Tensor], Tensor]") -> dict[str, Any]:
        mean = offset_of(self.encoder, self.center)
        similarity = float(self.units[0] @ self.units[j])
        targets = [
            direction_target(self.encoder, self.units[j], mean, features, name=self.names[j]),
            direction_target(self.encoder, self.units[0], mean, self.encoder.vectors, name=self.names[0]),
        ]
        if method == "contribution":
            patches = (self._split(0, mean), self._split(j, mean))
            grids = [self.seens[i].split().shape[1:] for i in (0, j)]
            found = [share(p, self.units[i], grid) for p, i, grid in zip(patches, (j, 0), grids, strict=True)]
        else:
            patches, progress = None, len(self.seens) == 2
            found = [
                map_of(self.encoder, target, self.seens[i], method, progress=progress)
                for target, i in zip(targets, (0, j), strict=True)
            ]
        return {
            "panels": tuple(
                panel(self.names[i], self.seens[i], values, similarity) for i, values in zip((0, j), found, strict=True)
            ),
            "value": similarity,
            "kind": kind_of(self.center),
            "target": f"{self.names[0]} and {self.names[j]}",
            "layer": layer_of(method, targets[1]),
            "patches": patches,
            "row": j - 1,
        }

    def _split(self, i: int, mean: "NDArray[np.float64]") -> "NDArray[np.float32]":
        if i not in self._patches:
            self._patches[i] = _patches(self.seens[i], mean)
        return self._patches[i]


def choose(
    encoder: Encoder, method: Given | None, mean: "NDArray[np.float64] | None", seens: list[Seen]
) -> tuple[Given, str, str]:
    """Return the method, why it was taken, and what was measured of it."""
    if method is not None:
        if method == "contribution":
            for seen in seens:
                seen.split()  # raises where there is nothing to split
        return method, *trusted(encoder, method, mean, CHOSEN)
    best = best_of(encoder, center=mean)
    if best is not None and (best.method != "contribution" or _exact(seens)):
        return best.method, f"the best method that was found green on this network: {best.reason}", best.verdict
    if _exact(seens):
        return "contribution", *trusted(encoder, "contribution", mean, _grid(seens))
    why = "contribution is not exact here: no mean over positions was seen that gives the vector"
    if encoder.precision != "float32":
        why = "contribution is not exact at half precision, where sums are rounded; precision='float32' may allow it"
    return "occlusion", *trusted(encoder, "occlusion", mean, why)


def trusted(encoder: Encoder, method: Given, mean: "NDArray[np.float64] | None", reason: str) -> tuple[str, str]:
    """Return the reason for a method, with what was measured of it, and the verdict."""
    badge = badge_of(encoder, method, mean)
    return (reason, NOT_MEASURED) if badge is None else (f"{reason}; {badge.badge}", badge.verdict)


@kept_pages()
def map_of(encoder: Encoder, target: Target, seen: Seen, method: Given, *, progress: bool) -> Map:
    """Run a method on an image that was seen; contribution needs no further pass."""
    if method == "contribution" and target.direction is not None and target.mean is not None:
        return share(_patches(seen, target.mean), target.direction, seen.split().shape[1:])
    return attribute(encoder, target, seen.x[None], method, progress=progress)


def _patches(seen: Seen, mean: "NDArray[np.float64]") -> "NDArray[np.float32]":
    return patches_of(seen.split(), seen.vector - mean, mean)


def panel(name: str, seen: Seen, found: Map, value: float) -> Panel:
    """Return one image of an answer; `value` is what a map that adds up sums to."""
    return Panel(name, seen.picture, found.values, residual(found, value), found.baseline)


def _exact(seens: list[Seen]) -> bool:
    return all(seen.maps is not None for seen in seens)


def _grid(seens: list[Seen]) -> str:
    h, w = seens[0].split().shape[1:]
    return f"exact here: the vector is the mean of a feature map of {h} x {w}"


def kind_of(mean: "NDArray[np.float64] | None") -> str:
    """Return which cosine is explained."""
    return "cosine" if mean is None else "centered cosine"


def name_of(image: Any, row: int) -> str:
    """Return what an image is called: its file's name, or its place among the others, from 1."""
    return Path(image).name if isinstance(image, (str, Path)) else str(row + 1)


def words_of(encoder: Encoder, method: Given, unit: str, mean: "NDArray[np.float64] | None") -> dict[str, Any]:
    """Return what every answer says of its method and of what made it."""
    chosen = method_of(method)
    provenance = {
        **_versions(),
        "encoder": encoder.name,
        "fingerprint": fingerprint_of(encoder),
        "layer": encoder.layer,
        "pool": encoder.pool,
        "precision": encoder.precision,
        "device": str(encoder.device),
        "method": chosen.name,
        "parameters": chosen.settings,
        "center": center_key(mean),
    }
    return {
        "method": method,
        "title": chosen.words,
        "unit": chosen.unit(unit),
        "baseline": chosen.baseline or "none",
        "encoder": encoder.name,
        "provenance": provenance,
    }


@cache
def _versions() -> dict[str, str]:
    from importlib.metadata import version

    from .. import __version__

    return {"vizkit": __version__, "torch": version("torch"), "captum": version("captum")}


def _remembering(encoder: Encoder) -> "Callable[[Tensor], Tensor]":
    """Return `encoder.vectors` that knows batches it saw before, as long as no gradient is wanted."""
    import torch

    known: dict[bytes, Tensor] = {}

    def vectors(x: "Tensor") -> "Tensor":
        if torch.is_grad_enabled():
            return encoder.vectors(x)
        key = hashlib.blake2b(x.detach().cpu().contiguous().numpy(), digest_size=16).digest()
        if key not in known:
            known[key] = encoder.vectors(x)
        return known[key]

    return vectors


def several(others: Any) -> list[Any]:
    """Return images as a list, whatever gives them one by one.

    Raises
    ------
    InputError
        It is one image, or nothing that can be gone through.
    """
    one = isinstance(others, (str, bytes, Path, Image.Image, Seen))
    if one or (isinstance(others, np.ndarray) and others.ndim < 4) or not isinstance(others, Iterable):
        raise InputError(
            f"others must be several images, such as a list or a generator of them, not {type(others).__name__}: "
            "put one image in a list, or use explain_pair."
        )
    return list(others)


def check_encoder(encoder: Any) -> None:
    """Raise InputError for what is no Encoder."""
    if not isinstance(encoder, Encoder):
        raise InputError(
            f"The first argument must be a vizkit Encoder, not {type(encoder).__name__}: "
            "wrap a network with vk.Encoder(network, preprocess=...)."
        )
