"""The rule of the trust badge: from figures of pairs to a frame with intervals, and from the frame to a verdict."""

from typing import TYPE_CHECKING

import numpy as np

from .badges import AMBER, GREEN, RED

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

LIFT = 1.5  # green: planted energy, as a multiple of the area share, at least
ABOVE_RANDOM = 0.1  # green: planted energy above random weights, at least
HARDLY = 0.05  # red: the same is less than this; green: its lower end is not. Random networks differ by 0.02 or so
FOLLOWS = 0.5  # green: rank correlation with the maps of random weights, at most


def verdict(frame: "pd.DataFrame") -> tuple[str, str]:
    """Return "green", "amber" or "red", and why, from the frame of a Trust alone: the rule of `trust`.

    What is not a number (NaN) passes no test.

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
    if not chance["low"] > 0:
        return RED, f"{score} is not above the area share {chance['baseline']:.2f} ({span(**chance)})"
    if not (random["low"] > 0 and random["gain"] >= HARDLY):
        return RED, f"{score} is hardly above random weights, {random['baseline']:.2f} ({span(**random)})"
    if not (deletion["low"] > 0 or insertion["low"] > 0):
        return RED, f"hiding or showing what the map points at is no better than random order ({span(**deletion)})"
    missing = []
    if not chance["value_low"] >= LIFT * chance["baseline"]:
        missing.append(f"{score} may be under {LIFT} times the area share {chance['baseline']:.2f}")
    if not prior["low"] > 0:
        missing.append(f"{score} is not above a map of the middle, {prior['baseline']:.2f} ({span(**prior)})")
    if not (random["gain"] >= ABOVE_RANDOM and random["low"] >= HARDLY):
        missing.append(f"{score} is not clearly {ABOVE_RANDOM} above random weights ({span(**random)})")
    if not rows["IoU", "random weights"]["low"] > 0:
        missing.append(f"the IoU is not above random weights ({span(**rows['IoU', 'random weights'])})")
    for row in (deletion, insertion):
        if not row["low"] > 0:
            missing.append(f"{row['measure']} is not better than random order ({span(**row)})")
    same = rows["rank correlation", "the same map"]
    if not same["value_high"] <= FOLLOWS:
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
        One dict a pair; the names are those of `FIGURES`.
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
