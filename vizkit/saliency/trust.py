"""Trust: how far a method's maps can be believed on one network, measured on images whose evidence was planted."""

import math
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..allocator import kept_pages
from ..encoders import Encoder
from ..errors import InputError, MethodNotApplicableError
from ..fusion import side_by_side
from ..graph import require_seed
from ..images import ImageSet
from ..shards import versions
from .answering import CHOICES, check_encoder
from .badges import Records, Trust, center_key, digest, fingerprint_of, method_key, rank, remember
from .deletion import curves, order_of, random_order
from .judging import FIGURES, summary, verdict
from .localization import center_prior, energy, iou
from .methods import Given, attribute, method_of
from .planted import Planted, planted_pairs
from .spatial import FORWARD
from .targets import center_of, vector_target

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image
    from torch import Tensor

RECIPE = 2  # raised when a pair is measured otherwise, so that nothing from before is taken for it
PAIRS, QUICK = 50, 12
FEW = 30  # images; with fewer, pairs are so much alike that intervals say nothing of other images
CALIBRATION = 64  # images that the means of random networks are over
NETWORKS = 3  # with random weights, each for every third pair: one alone may be a lucky one

# These may run on a faster twin, which has no gradients.
_FORWARD_ONLY = ("contribution", "occlusion", "multiscale_occlusion")


def trust(
    encoder: Encoder,
    images: ImageSet,
    method: Given | None = None,
    *,
    center: "Any | None" = None,
    quick: bool = False,
    seed: int = 0,
    progress: bool = True,
) -> Trust:
    """Measure how far a method's maps can be trusted on this network, on your own images, and give a badge.

    One image, made smaller, is put into two others at random places (18 or 20% of the area), and the method is asked
    why the two are alike. In 50 such pairs (12 with `quick`) it is measured, as a mean over both images:

    - energy and IoU of the map in the planted region (`localization`), beside the region's share of the area (for IoU
      what a map of noise gets), a map that looks at the middle of any image, and the same network with random weights
      (three of them, calibrated: `Encoder.randomized`), pair by pair;
    - deletion and insertion on the cosine (`deletion`; Petsiuk et al. 2018) beside random order;
    - the rank correlation (Spearman) of the maps with those of the random networks (Adebayo et al. 2018, section 3:
      the model parameter randomization test, all layers at once).

    The rule looks at ends of 95% intervals of paired differences (Student's t over pairs), at nothing else. Intervals
    are over pairs: with fewer than 30 images the reason says that they hold for these alone.

    Red, if one of these holds:

    - the energy's lower end is not above the area share;
    - the energy is hardly above random weights: a difference under 0.05, or its lower end not above 0;
    - neither deletion nor insertion has a lower end above random order.

    Green, if all of these hold:

    - the energy's lower end is at least 1.5 times the area share and above the center prior;
    - the energy is at least 0.1 above random weights (lower end: 0.05), and the IoU's lower end above theirs;
    - deletion and insertion both have lower ends above random order;
    - the rank correlation with random weights has its upper end at 0.5 or lower.

    Amber otherwise.

    Parameters
    ----------
    encoder
        The network.
    images
        At least three that can be read; what the network is used for. Photos of single things plant the best evidence.
    method
        As for `explain_pair`: a name, parameters, or a callable. None: everything that `explain_pair` chooses among;
        the best badge comes back. `explain_pair` takes it up where it is green.
    center
        As for `explain_pair`: the centered cosine is explained. Random networks get their own mean over the images.
    quick
        12 pairs: intervals are wider, so the verdict can be worse, and seldom better, than that of 50 pairs.
    seed
        Of pairs, random networks and random order.
    progress
        Show a bar.

    Returns
    -------
    Trust
        Also remembered: from now on `explain_pair` knows it in this process. What was measured is kept on disk, pair by
        pair, in the user's cache folder, by network, method, center, images, seed and versions: the same call again
        takes seconds, one that was stopped (even killed) goes on after the last whole pair, a full one starts from a
        quick one. Callables are not kept.

    Raises
    ------
    InputError
        Unknown method, images that are no ImageSet or too few, a seed that is none, or a center of another network.
    MethodNotApplicableError
        The method would be wrong on this network, or a figure is not finite.
    """
    check_encoder(encoder)
    _check(images, method, seed)
    mean = None if center is None else center_of(center, encoder)
    case = _case(encoder, images, QUICK if quick else PAIRS, mean, int(seed))
    found, refusal = [], None
    for each in CHOICES if method is None else (method,):
        try:
            badge = _badge(case, each, progress=progress)
        except MethodNotApplicableError as error:
            refusal = error
            continue
        remember(badge)
        found.append(badge)
    if not found and refusal is not None:
        raise refusal
    return max(found, key=rank)


@dataclass(frozen=True, eq=False)
class _Network:
    """A network with what it says of the pairs' images."""

    encoder: Encoder
    fast: Encoder  # a twin for forward passes without gradients
    mean: "NDArray[np.float64] | None"

    @classmethod
    def of(cls, encoder: Encoder, mean: "NDArray[np.float64] | None") -> "_Network":
        return cls(encoder, side_by_side([encoder], 1)[0][0], mean)

    def targets(self, pair: Planted, encoder: Encoder) -> list[tuple[Any, Any, Any]]:
        """Return for a and b: the image, the planted region, and the cosine to the other image, on `encoder`."""
        import torch

        z = self.fast.encode(torch.stack([pair.x_a, pair.x_b])).reshape(2, -1).astype(np.float64)
        return [
            (pair.x_a, pair.mask_a, vector_target(encoder, z[1], self.mean)),
            (pair.x_b, pair.mask_b, vector_target(encoder, z[0], self.mean)),
        ]

    def maps(self, pair: Planted, method: Given) -> "list[NDArray[np.float32]]":
        forward_only = not callable(method) and method_of(method).name in _FORWARD_ONLY
        encoder = self.fast if forward_only else self.encoder
        return [attribute(encoder, to, x[None], method).values for x, _, to in self.targets(pair, encoder)]


@dataclass(frozen=True, eq=False)
class _Case:
    """What all methods are measured on: pairs, and the network beside random ones; made when first asked for."""

    encoder: Encoder
    images: ImageSet
    pairs: list[Planted]
    distinct: int  # images that the pairs were made of
    mean: "NDArray[np.float64] | None"
    seed: int
    known: "dict[int, NDArray[np.float64]]" = field(default_factory=dict)  # random order, by pair

    @cached_property
    def keys(self) -> list[str]:
        """What tells pairs apart on disk: their pixels, regions and number (of which random order depends)."""
        return [digest(k, p.x_a, p.x_b, p.mask_a, p.mask_b) for k, p in enumerate(self.pairs)]

    @cached_property
    def calibration(self) -> "Tensor":
        return self.encoder.input.readable(self.images, CALIBRATION)

    @cached_property
    def own(self) -> _Network:
        return _Network.of(self.encoder, self.mean)

    @cached_property
    def random(self) -> list[_Network]:
        return [self._random(self.seed * NETWORKS + i) for i in range(NETWORKS)]

    def _random(self, seed: int) -> _Network:
        twin = self.encoder.randomized(self.images, seed=seed)
        network = _Network.of(twin, None)
        if self.mean is None:
            return network
        batches = self.calibration.split(FORWARD)
        vectors = np.concatenate([network.fast.encode(batch).reshape(len(batch), -1) for batch in batches])
        return _Network(network.encoder, network.fast, vectors.mean(axis=0, dtype=np.float64))

    def order_seeds(self, k: int) -> tuple[int, int]:
        """Return the seeds of random order for both images of pair k."""
        return 2 * (self.seed * 1_000_003 + k), 2 * (self.seed * 1_000_003 + k) + 1

    def areas(self, k: int, orders: "list[NDArray[np.int64]]") -> "NDArray[np.float64]":
        """Return the areas under deletion and insertion of pair k, mean over both images."""
        targets = self.own.targets(self.pairs[k], self.own.fast)
        return np.mean([curves(to.value, x, o).areas for (x, _, to), o in zip(targets, orders, strict=True)], axis=0)

    def by_chance(self, k: int) -> "NDArray[np.float64]":
        """Return the same in random order; kept, since it is the same for every method."""
        if k not in self.known:
            self.known[k] = self.areas(k, [random_order(seed) for seed in self.order_seeds(k)])
        return self.known[k]

    @kept_pages()
    def measure(self, k: int, method: Given) -> dict[str, float]:
        """Return the figures of one pair, each the mean over its two images."""
        pair = self.pairs[k]
        masks = (pair.mask_a, pair.mask_b)
        own = self.own.maps(pair, method)
        random = self.random[k % NETWORKS].maps(pair, method)
        middle = [center_prior((values.shape[0], values.shape[1])) for values in own]
        orders = [order_of(values, s) for values, s in zip(own, self.order_seeds(k), strict=True)]
        deletion, insertion = self.areas(k, orders)
        random_deletion, random_insertion = self.by_chance(k)
        figures = {
            f"{who}{name}": float(np.mean([score(values, mask) for values, mask in zip(maps, masks, strict=True)]))
            for who, maps in (("", own), ("random_", random), ("center_", middle))
            for name, score in (("energy", energy), ("iou", iou))
        }
        figures |= {
            "area": pair.area,
            "chance_iou": pair.area / (2 - pair.area),
            "deletion": float(deletion),
            "insertion": float(insertion),
            "random_deletion": float(random_deletion),
            "random_insertion": float(random_insertion),
            "correlation": float(np.mean([_correlation(m, r) for m, r in zip(own, random, strict=True)])),
        }
        if wrong := [name for name, value in figures.items() if not math.isfinite(value)]:
            raise MethodNotApplicableError(
                f"{method_of(method).title} cannot be judged on {self.encoder.name}: {', '.join(wrong)} of a planted "
                "pair is not finite. Where an image is hidden or shown in part, the vector is zero, or the center, and "
                "has no cosine. explain_pair still gives maps, without a badge; another layer may do."
            )
        return figures


_LAST: list[tuple[Any, _Case]] = []  # the last one only: it holds the pairs and the random networks


def _case(encoder: Encoder, images: ImageSet, n: int, mean: "NDArray[np.float64] | None", seed: int) -> _Case:
    """Return the case of this network and these images; the last one is kept, for the next method."""
    key = (fingerprint_of(encoder), n, center_key(mean), seed)
    # The very encoder: another one of the same weights may have been trained since, and its case holds it as it is.
    if not _LAST or _LAST[0][0] != key or _LAST[0][1].encoder is not encoder or _LAST[0][1].images is not images:
        used = set()

        def load(row: int) -> "Image":
            image = images[row]
            used.add(row)
            return image

        pairs = planted_pairs(encoder, ImageSet(images.ids, images.frame, load), n, seed=seed)
        _LAST[:] = [(key, _Case(encoder, images, pairs, len(used), mean, seed))]
    return _LAST[0][1]


def _badge(case: _Case, method: Given, *, progress: bool) -> Trust:
    """Measure what is not known yet, pair by pair, and judge."""
    from tqdm.auto import tqdm

    start = time.perf_counter()
    encoder, chosen = case.encoder, method_of(method)
    facts: dict[str, Any] = {
        "encoder": encoder.name,
        "fingerprint": fingerprint_of(encoder),
        "layer": encoder.layer,
        "center": center_key(case.mean),
        "method": f"{chosen.name}, a callable" if callable(method) else method_key(method),
        "seed": case.seed,
        "images": digest(case.calibration),
        "recipe": RECIPE,
        "vizkit": __version__,
        **versions("torch", "captum"),
    }
    records = Records(None if callable(method) else facts)
    found = {k: figures for k, key in enumerate(case.keys) if (figures := records.get(key, FIGURES)) is not None}
    todo = [k for k in range(len(case.pairs)) if k not in found]
    for k in tqdm(todo, desc=f"trust: {chosen.title}", unit="pair", disable=not progress, delay=1, leave=False):
        found[k] = case.measure(k, method)
        records.put(case.keys[k], found[k])
        records.save()  # a few milliseconds, so that whatever ends the process keeps what is done
    frame = summary([found[k] for k in sorted(found)])
    facts |= {"pairs": len(found), "distinct": case.distinct, "area": float(frame["baseline"].iloc[0])}
    facts["seconds"] = time.perf_counter() - start
    judged, reason = verdict(frame)
    if case.distinct < FEW:
        reason += f" ({len(found)} pairs from {case.distinct} images: the intervals hold for these alone)"
    return Trust(judged, reason, method, frame, facts)


def _check(images: Any, method: Any, seed: Any) -> None:
    """Raise InputError for what is no set of images, no method or no seed."""
    if not isinstance(images, ImageSet):
        raise InputError(
            f"images must be a vizkit ImageSet, not {type(images).__name__}: make one with "
            "vk.ImageSet.from_folder(folder), from_frame or from_dataset."
        )
    if method is not None:
        method_of(method)
    require_seed(seed)


def _correlation(values: "NDArray[np.float32]", others: "NDArray[np.float32]") -> float:
    """Return Spearman's rank correlation of two maps; 1 for equal ones, 0 where one has no order or another grid."""
    from scipy.stats import spearmanr

    if values.shape == others.shape and np.array_equal(values, others):
        return 1.0
    if values.shape != others.shape or np.ptp(values) == 0 or np.ptp(others) == 0:
        return 0.0
    return float(spearmanr(values.ravel(), others.ravel())[0])
