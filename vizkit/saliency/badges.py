"""Trust badges: what a measurement of a method on a network found, remembered in this process and kept on disk."""

import dataclasses
import hashlib
import html
import json
import math
import tempfile
from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakMethod

import numpy as np

from ..encoders import Encoder
from ..store import default_cache
from .evidence import method_name
from .methods import method_of
from .spatial import weights_of

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from torch import nn

GREEN, AMBER, RED = "green", "amber", "red"
_COLORS = {GREEN: "#1a7f37", AMBER: "#9a6700", RED: "#cf222e"}  # each at least 4.5 : 1 on white
_KNOWN: "dict[tuple[str, str | tuple[int, ...], str], Trust]" = {}
_LISTENERS: "set[WeakMethod[Callable[[], None]]]" = set()
_FINGERPRINTS: "WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], tuple[Any, str]]]" = WeakKeyDictionary()


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Trust:
    """How far a method's maps can be trusted on one network, measured on the user's own images.

    Attributes
    ----------
    verdict
        "green", "amber" or "red", by the rule that stands in `trust`.
    reason
        In words, the figures that decided.
    method
        What was measured, usable as `method=` again.
    frame
        One row a measure and baseline, columns:
        measure ("energy", "IoU", "deletion", "insertion", "rank correlation");
        against ("area share", "center prior", "random weights", "random order", "the same map");
        value, with value_low and value_high (95% interval, Student's t over pairs); baseline;
        gain, how much better the value is than the baseline, pair by pair (for deletion and rank correlation lower is
        better, so a gain above 0 is good everywhere), with low and high (95%); pairs, how many were measured.
    provenance
        encoder and its fingerprint, layer, center, method, seed; images, a hash of what was calibrated on; recipe, the
        version of the measurement; vizkit, torch, captum; pairs, distinct (images that the pairs were made of), area,
        seconds.
    """

    verdict: str
    reason: str
    method: Any
    frame: "pd.DataFrame"
    provenance: dict[str, Any]

    @property
    def badge(self) -> str:
        """The verdict and its reason in one line."""
        return f"{self.verdict}: {self.reason}"

    def gain(self, measure: str, against: str) -> tuple[float, float, float]:
        """Return gain, low and high of one row of `frame`."""
        row = self.frame[(self.frame["measure"] == measure) & (self.frame["against"] == against)].iloc[0]
        return float(row["gain"]), float(row["low"]), float(row["high"])

    def __repr__(self) -> str:
        return f"<Trust: {method_name(self.method)} on {self.provenance['encoder']} is {self.badge}>"

    def _repr_html_(self) -> str:
        title = html.escape(f"{method_name(self.method)} on {self.provenance['encoder']}")
        table = self.frame.to_html(index=False, float_format="{:.3f}".format)  # pandas escapes the values
        return (
            f'<p><strong style="color:#fff;background:{_COLORS[self.verdict]};padding:1px 8px;border-radius:8px">'
            f"{html.escape(self.verdict)}</strong> {title}: {html.escape(self.reason)}</p>{table}"
        )


def remember(badge: Trust) -> None:
    """Keep a badge in this process, so that `explain_pair` and the figures know it; the latest one counts."""
    _KNOWN[badge.provenance["fingerprint"], method_key(badge.method), badge.provenance["center"]] = badge
    for listener in list(_LISTENERS):
        if (tell := listener()) is not None:
            tell()


def listen(listener: "Callable[[], None]") -> None:
    """Call a bound method whenever a badge is remembered, for as long as its object lives; it must not raise."""
    _LISTENERS.add(WeakMethod(listener, _LISTENERS.discard))


def badge_of(encoder: Encoder, method: Any, center: "NDArray[Any] | None" = None) -> Trust | None:
    """Return the badge that `trust` gave this method on this network in this process, or None.

    Parameters
    ----------
    encoder
        The network.
    method
        Name, parameters or callable.
    center
        (d,) the mean that is taken off both vectors, or None.
    """
    if not _KNOWN:  # the usual case costs nothing: no weight is hashed
        return None
    return _KNOWN.get((fingerprint_of(encoder), method_key(method), center_key(center)))


def best_of(
    encoder: Encoder, candidates: Sequence[Any] | None = None, center: "NDArray[Any] | None" = None
) -> Trust | None:
    """Return the green badge with the highest planted energy (lower end of its interval), or None if none is green.

    Parameters
    ----------
    encoder, center
        As for `badge_of`.
    candidates
        The methods to choose among; None: every method that was measured in this process, callables left out.
    """
    if not _KNOWN:
        return None
    here = (fingerprint_of(encoder), center_key(center))
    known = {key: badge for (network, key, taken_off), badge in _KNOWN.items() if (network, taken_off) == here}
    wanted = {method_key(method) for method in candidates} if candidates is not None else None
    green = [
        badge
        for key, badge in known.items()
        if badge.verdict == GREEN and (isinstance(key, str) if wanted is None else key in wanted)
    ]
    return max(green, key=rank, default=None)


def rank(badge: Trust) -> tuple[int, float]:
    """Return what orders badges, best last: the verdict, then the lower end of the planted energy's interval."""
    lowest = badge.frame.loc[badge.frame["measure"] == "energy", "value_low"].iloc[0]
    return [RED, AMBER, GREEN].index(badge.verdict), float(lowest)


def forget() -> None:
    """Drop what this process remembers; what is on disk stays."""
    _KNOWN.clear()


def fingerprint_of(encoder: Encoder) -> str:
    """Return the encoder's fingerprint, without hashing the weights again while they are the same tensors and values.

    Values count by their sums, since what is written through `.data` leaves no other mark. A change that touches no
    parameter or buffer (another forward, an attribute) is not seen.
    """
    tensors = [*encoder.module.parameters(), *encoder.module.buffers()]
    state = (*weights_of(encoder), *(t.data_ptr() for t in tensors))
    # The preprocess is kept beside the answer, so that its id is not given to another.
    function = encoder.input.function
    key = (encoder.layer, encoder.pool, encoder.precision, id(function))
    known = _FINGERPRINTS.setdefault(encoder.module, {})
    if key not in known or known[key][0][1] != state:
        known[key] = ((function, state), encoder.fingerprint)
    return known[key][1]


def method_key(method: Any) -> str | tuple[int, ...]:
    """Return what tells methods apart: a name with its parameters, or which object a callable is.

    Two functions of one name are two methods, whatever the name. A badge holds its callable, so that no other gets its
    id. A bound method is made anew each time it is asked for, so its object and function count.
    """
    if callable(method):
        return tuple(map(id, (method.__self__, method.__func__) if isinstance(method, MethodType) else (method,)))
    chosen = method_of(method)
    settings = ", ".join(f"{name}={value}" for name, value in chosen.settings.items())
    return f"{chosen.name}({settings})"


class Records:
    """What was measured, pair by pair, as JSON in the user's cache folder; nothing there that cannot be read counts.

    Parameters
    ----------
    facts
        What all of it depends on: it names the file. None: nothing is read or written.
    """

    def __init__(self, facts: dict[str, Any] | None) -> None:
        self._facts, self._file, self._found = facts, None, {}
        if facts is None:
            return
        name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
        self._file = default_cache().parent / "trust" / f"{name}.json"
        self._found = self._stored(self._file)

    def get(self, key: str, names: Set[str]) -> dict[str, float] | None:
        """Return the figures of one pair, if these are all there and finite."""
        found = self._found.get(key)
        known = isinstance(found, dict) and found.keys() == names
        return found if known and all(isinstance(v, float) and math.isfinite(v) for v in found.values()) else None

    def put(self, key: str, figures: dict[str, float]) -> None:
        """Keep the figures of one pair; `save` writes them."""
        self._found[key] = figures

    def save(self) -> None:
        """Write all of it, whole or not at all; a folder that cannot be written to costs the cache, not the answer.

        What another process has written since is kept.
        """
        if self._file is None:
            return
        self._found = self._stored(self._file) | self._found
        text = json.dumps({"facts": self._facts, "pairs": self._found}, indent=1)
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._file.parent, delete=False, encoding="utf-8") as file:
                try:
                    file.write(text)
                    file.close()
                    Path(file.name).replace(self._file)
                finally:  # gone already where all went well
                    Path(file.name).unlink(missing_ok=True)

    def _stored(self, file: Path) -> dict[str, Any]:
        """Return the pairs of a file of the same facts."""
        with suppress(OSError, ValueError, RecursionError):
            stored = json.loads(file.read_text(encoding="utf-8"))
            pairs = stored.get("pairs") if isinstance(stored, dict) and stored.get("facts") == self._facts else None
            if isinstance(pairs, dict):
                return pairs
        return {}


def digest(*parts: Any) -> str:
    """Return 16 hex digits of arrays, tensors and numbers: shapes, types and bytes."""
    sha = hashlib.sha256()
    for part in parts:
        array = np.ascontiguousarray(part)
        sha.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return sha.hexdigest()[:16]


def center_key(center: "NDArray[Any] | None") -> str:
    """Return 16 hex digits of a mean vector, or "none"."""
    if center is None:
        return "none"
    return digest(np.asarray(center, np.float64))
