"""Trust: how far a method's maps can be believed on one network, measured on images whose evidence was planted."""

import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..encoders import Encoder
from ..errors import MethodNotApplicableError
from ..fusion import side_by_side
from ..images import ImageSet
from ..shards import versions
from .answering import CHOICES, check_encoder
from .badges import AMBER, GREEN, RED, Records, Trust, center_key, digest, fingerprint_of, method_key, rank, remember
from .deletion import curves, order_of, random_order
from .localization import center_prior, energy, iou
from .methods import Given, attribute, method_of
from .planted import Planted, planted_pairs
from .targets import FORWARD, center_of, vector_target

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from torch import Tensor

RECIPE = 1  # raised when a pair is measured otherwise, so that nothing from before is taken for it
PAIRS, QUICK = 50, 12
CALIBRATION = 64  # images that the means of random networks are over
NETWORKS = 3  # with random weights, each for every third pair: one alone may be a lucky one

LIFT = 1.5  # green: planted energy, as a multiple of the area share, at least
ABOVE_RANDOM = 0.1  # green: planted energy above random weights, at least
HARDLY = 0.05  # red: the same is less than this; green: its lower end is not. Random networks differ by 0.02 or so
FOLLOWS = 0.5  # green: rank correlation with the maps of random weights, at most

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

    The rule looks at ends of 95% intervals of paired differences (Student's t over pairs), at nothing else.

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
        the best badge comes back.
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
        takes seconds, an interrupted one goes on, a full one starts from a quick one. Callables are not kept.

    Raises
    ------
    InputError
        Unknown method, too few images, or a center of another network.
    MethodNotApplicableError
        The method would be wrong on this network.
    """
    check_encoder(encoder)
    mean = None if center is None else center_of(center, encoder)
    case = _case(encoder, images, QUICK if quick else PAIRS, mean, seed)
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


def verdict(frame: "pd.DataFrame") -> tuple[str, str]:
    """Return "green", "amber" or "red", and why, from the frame of a Trust alone: the rule of `trust`.

    Parameters
    ----------
    frame
        As in `Trust.frame`.
    """
    rows = {(row["measure"], row["against"]): row for row in frame.to_dict("records")}
    chance, prior, random = (rows["energy", name] for name in ("area share", "center prior", "random weights"))
    deletion, insertion = rows["deletion", "random order"], rows["insertion", "random order"]
    score = f"planted energy {chance['value']:.2f}"
    span = "gain {gain:.2f}, 95% {low:.2f} to {high:.2f}".format
    if chance["low"] <= 0:
        return RED, f"{score} is not above the area share {chance['baseline']:.2f} ({span(**chance)})"
    if random["low"] <= 0 or random["gain"] < HARDLY:
        return RED, f"{score} is hardly above random weights, {random['baseline']:.2f} ({span(**random)})"
    if deletion["low"] <= 0 and insertion["low"] <= 0:
        return RED, f"hiding or showing what the map points at is no better than random order ({span(**deletion)})"
    missing = []
    if chance["value_low"] < LIFT * chance["baseline"]:
        missing.append(f"{score} may be under {LIFT} times the area share {chance['baseline']:.2f}")
    if prior["low"] <= 0:
        missing.append(f"{score} is not above a map of the middle, {prior['baseline']:.2f} ({span(**prior)})")
    if random["gain"] < ABOVE_RANDOM or random["low"] < HARDLY:
        missing.append(f"{score} is not clearly {ABOVE_RANDOM} above random weights ({span(**random)})")
    if rows["IoU", "random weights"]["low"] <= 0:
        missing.append(f"the IoU is not above random weights ({span(**rows['IoU', 'random weights'])})")
    for row in (deletion, insertion):
        if row["low"] <= 0:
            missing.append(f"{row['measure']} is not better than random order ({span(**row)})")
    same = rows["rank correlation", "the same map"]
    if same["value_high"] > FOLLOWS:
        missing.append(f"maps of random weights are much the same (rank correlation {same['value']:.2f})")
    if missing:
        return AMBER, "; ".join(missing)
    ratio = chance["value"] / chance["baseline"]
    return GREEN, (
        f"{score} is {ratio:.1f} times the area share and {random['gain']:.2f} above random weights "
        f"(95% {random['low']:.2f} to {random['high']:.2f}); deletion and insertion beat random order"
    )


def summary(records: list[dict[str, float]]) -> "pd.DataFrame":
    """Return the frame of a Trust from what was measured pair by pair.

    Parameters
    ----------
    records
        One dict a pair; the names are those of `_MEASURES`.
    """
    import pandas as pd

    rows = []
    for measure, against, value, baseline, sign in _MEASURES:
        values = np.array([record[value] for record in records])
        base = np.array([record[baseline] for record in records]) if baseline else np.ones(len(records))
        mean, value_low, value_high = interval(values)
        gain, low, high = interval(sign * (values - base))
        rows.append(
            {
                "measure": measure,
                "against": against,
                "value": mean,
                "value_low": value_low,
                "value_high": value_high,
                "baseline": float(base.mean()),
                "gain": gain,
                "low": low,
                "high": high,
                "pairs": len(records),
            }
        )
    return pd.DataFrame(rows)


# (measure, against, record of the value, record of the baseline, 1 where more is better)
_MEASURES = (
    ("energy", "area share", "energy", "area", 1),
    ("energy", "center prior", "energy", "center_energy", 1),
    ("energy", "random weights", "energy", "random_energy", 1),
    ("IoU", "area share", "iou", "chance_iou", 1),
    ("IoU", "center prior", "iou", "center_iou", 1),
    ("IoU", "random weights", "iou", "random_iou", 1),
    ("deletion", "random order", "deletion", "random_deletion", -1),
    ("insertion", "random order", "insertion", "random_insertion", 1),
    ("rank correlation", "the same map", "correlation", "", -1),
)


FIGURES = {name for _, _, *names, _ in _MEASURES for name in names if name}


def interval(values: "NDArray[np.float64]") -> tuple[float, float, float]:
    """Return the mean of values (n,) and its 95% interval: Student's t over them, since n may be as small as 12."""
    from scipy.stats import t

    mean = float(values.mean())
    half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)
    return mean, mean - half, mean + half


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
        return figures | {
            "area": pair.area,
            "chance_iou": pair.area / (2 - pair.area),
            "deletion": float(deletion),
            "insertion": float(insertion),
            "random_deletion": float(random_deletion),
            "random_insertion": float(random_insertion),
            "correlation": float(np.mean([_correlation(m, r) for m, r in zip(own, random, strict=True)])),
        }


_LAST: list[tuple[Any, _Case]] = []  # the last one only: it holds the pairs and the random networks


def _case(encoder: Encoder, images: ImageSet, n: int, mean: "NDArray[np.float64] | None", seed: int) -> _Case:
    """Return the case of this network and these images; the last one is kept, for the next method."""
    key = (fingerprint_of(encoder), id(images), n, center_key(mean), seed)
    if not _LAST or _LAST[0][0] != key:
        _LAST[:] = [(key, _Case(encoder, images, planted_pairs(encoder, images, n, seed=seed), mean, seed))]
    return _LAST[0][1]


def _badge(case: _Case, method: Given, *, progress: bool) -> Trust:
    """Measure what is not known yet, pair by pair, and judge."""
    from tqdm.auto import tqdm

    start = time.perf_counter()
    encoder, chosen = case.encoder, method_of(method)
    facts = {
        "encoder": encoder.name,
        "fingerprint": fingerprint_of(encoder),
        "layer": encoder.layer,
        "center": center_key(case.mean),
        "method": method_key(method) if isinstance(method_key(method), str) else chosen.name,
        "seed": case.seed,
        "images": digest(case.calibration),
        "recipe": RECIPE,
        "vizkit": __version__,
        **versions("torch", "captum"),
    }
    records = Records(None if callable(method) else facts)
    found = {k: figures for k, key in enumerate(case.keys) if (figures := records.get(key, FIGURES)) is not None}
    todo = [k for k in range(len(case.pairs)) if k not in found]
    try:
        for k in tqdm(todo, desc=f"trust: {chosen.title}", unit="pair", disable=not progress, delay=1, leave=False):
            found[k] = case.measure(k, method)
            records.put(case.keys[k], found[k])
    finally:
        records.save()  # Ctrl-C keeps what is done
    frame = summary([found[k] for k in sorted(found)])
    facts |= {"pairs": len(found), "area": float(frame["baseline"].iloc[0]), "seconds": time.perf_counter() - start}
    judged, reason = verdict(frame)
    return Trust(judged, reason, method, frame, facts)


def _correlation(values: "NDArray[np.float32]", others: "NDArray[np.float32]") -> float:
    """Return Spearman's rank correlation of two maps; 1 for equal ones, 0 where one has no order or another grid."""
    from scipy.stats import spearmanr

    if values.shape == others.shape and np.array_equal(values, others):
        return 1.0
    if values.shape != others.shape or np.ptp(values) == 0 or np.ptp(others) == 0:
        return 0.0
    return float(spearmanr(values.ravel(), others.ravel())[0])
