"""What an explanation is: maps on one image, on two or on three, in a unit, with their sum checks and their words."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import numpy as np

from ..errors import InputError, MethodNotApplicableError
from ..figures import Panel, evidence_figure, evidence_image, is_signed, many_figure, many_image, shown

if TYPE_CHECKING:
    from pathlib import Path

    import plotly.graph_objects as go
    from numpy.typing import NDArray

    from .matches import Matches

NOT_MEASURED = "not measured"
_EQUAL = 1e-6  # a difference of cosines that rounding makes


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Evidence:
    """Maps that say what a number of a network rests on: what every question is answered with.

    Attributes
    ----------
    panels
        One for each image: its name, what the network saw of it ((H, W, 3) uint8), the map ((h, w) float32 on the
        method's own grid, in `unit`), the residual of its sum check and the value at the method's baseline (None where
        the method has none).
    value
        What is explained, in `kind`.
    kind
        "cosine", "centered cosine", "difference of cosines", "difference of centered cosines" or "logit".
    method
        Usable as `method=` again.
    title
        The method's name for people.
    target
        What the number is of, in words.
    unit
        Of every map, in words.
    layer
        Where the maps live for methods that read a feature map; else the layer whose vector is explained, "output" for
        a class.
    baseline
        In words: what hides parts of the image, or where the method starts; "none" for methods without.
    encoder
        Its name.
    reason
        Why this method was taken.
    trust
        The verdict of `trust` on this method and encoder: "green", "amber" or "red", or "not measured".
    seconds
        What it took.
    provenance
        What repeats it: versions, the encoder's fingerprint, layer, pooling and precision, the method's parameters.
    """

    panels: tuple[Panel, ...]
    value: float
    kind: str
    method: Any
    title: str
    target: str
    unit: str
    layer: str
    baseline: str
    encoder: str
    reason: str
    trust: str = NOT_MEASURED
    seconds: float = 0.0
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def signed(self) -> bool:
        """Whether a map speaks against as well as for, beyond rounding."""
        return is_signed(*(panel.map for panel in self.panels))

    @property
    def headline(self) -> str:
        """The figure's title: value, target, method, whether that was measured, and the network."""
        return f"{self.kind} {shown(self.value)} ({self.target}) by {self.title}, {self.encoder}, trust: {self.trust}"

    @property
    def note(self) -> str:
        """What stands below the figure: why this method, where its maps live, and what it compares with."""
        baseline = "" if self.baseline == "none" else f" Baseline: {self.baseline}."
        return f"{self.reason[:1].upper()}{self.reason[1:]}. Layer {self.layer}.{baseline}"

    def figure(self, *, grid: bool = False) -> "go.Figure":
        """Return the answer as a plotly figure: every image on one scale, with the color bar in the maps' unit.

        Parameters
        ----------
        grid
            Draw the borders of the map's own cells.
        """
        return evidence_figure(self.panels, self.headline, self.unit, note=self.note, grid=grid)

    def save(self, path: "str | Path", *, grid: bool = False) -> "Path":
        """Write the figure to a file, as PNG, PDF or SVG by its suffix, without a browser; return its path.

        Parameters
        ----------
        path
            Of the file; one that exists is replaced.
        grid
            Draw the borders of the map's own cells.

        Raises
        ------
        InputError
            The suffix is another, or there is no such folder.
        """
        return evidence_image(path, self.panels, self.headline, self.unit, note=self.note, grid=grid)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.figure()._repr_mimebundle_(**options)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.headline}>"


class ImageEvidence(Evidence):
    """What a number of one image rests on: a class score, or the cosine to a vector. See `Evidence`."""

    @property
    def map(self) -> "NDArray[np.float32]":
        """(h, w) float32 on the method's own grid over what the network saw, in `unit`."""
        return self.panels[0].map

    @property
    def seen(self) -> "NDArray[np.uint8]":
        """(H, W, 3) uint8: what the network saw."""
        return self.panels[0].seen

    @property
    def residual(self) -> float | None:
        """For methods that add up: value (minus `baseline_value`, where there is one) minus the sum; else None."""
        return self.panels[0].residual

    @property
    def baseline_value(self) -> float | None:
        """For methods that start from a featureless image: the value there; else None."""
        return self.panels[0].baseline


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PairEvidence(Evidence):
    """Why two images are alike: a map on each, in units of their similarity. See `Evidence` for the other attributes.

    Attributes
    ----------
    patches
        (d, patches) float32 of a and of b, in row-major order, each adding up to its image's vector at length 1; None
        where the method has no such split.
    row
        Position of b among the others, where there were several.
    """

    patches: "tuple[NDArray[np.float32], NDArray[np.float32]] | None" = None
    row: int = 0

    @property
    def map_a(self) -> "NDArray[np.float32]":
        """(h, w) float32 on the method's own grid over what the network saw of a, in `unit`."""
        return self.panels[0].map

    @property
    def map_b(self) -> "NDArray[np.float32]":
        """The same of b."""
        return self.panels[1].map

    @property
    def seen_a(self) -> "NDArray[np.uint8]":
        """(H, W, 3) uint8: what the network saw of a."""
        return self.panels[0].seen

    @property
    def seen_b(self) -> "NDArray[np.uint8]":
        """(H, W, 3) uint8: what the network saw of b."""
        return self.panels[1].seen

    @property
    def similarity(self) -> float:
        """Cosine of the two vectors, after the center was taken off where one was given."""
        return self.value

    @property
    def centered(self) -> bool:
        """Whether a mean vector was taken off both vectors first."""
        return self.kind == "centered cosine"

    @property
    def residual_a(self) -> float | None:
        """For methods that add up: sum(map_a) + residual_a = similarity (- `baseline_similarity[0]`); else None."""
        return self.panels[0].residual

    @property
    def residual_b(self) -> float | None:
        """The same of b."""
        return self.panels[1].residual

    @property
    def baseline_similarity(self) -> tuple[float, float] | None:
        """For methods that start from a featureless image: the similarity there, for a and for b; else None."""
        a, b = (panel.baseline for panel in self.panels)
        return None if a is None or b is None else (a, b)

    @cached_property
    def matrix(self) -> "NDArray[np.float32] | None":
        """The share of the similarity that each pair of patches carries, (patches of a, patches of b) float32.

        None where the method has no such split. Computed when first asked for: maps of 112 x 112 make it 600 MB.
        """
        return None if self.patches is None else self.patches[0].T @ self.patches[1]

    def matches(self, n: int = 5, *, seed: int = 0) -> "Matches":
        """Return which patch of a matches which of b: mutual best matches, and the share of the cosine they carry.

        Parameters
        ----------
        n
            Pairs of patches at most, the strongest first.
        seed
            Of the shuffles that chance is taken from.

        Raises
        ------
        MethodNotApplicableError
            The method does not split the similarity into pairs of patches; contribution does.
        """
        from .matches import mutual_matches

        if self.patches is None:
            raise MethodNotApplicableError(
                f"{self.title} gives no pairs of patches, only a map on each image. Use method='contribution', where "
                "the vector is the mean of a feature map."
            )
        made = f"{self.title}, {self.encoder}, trust: {self.trust}"
        return mutual_matches(self.patches, self.panels, n, kind=self.kind, made=made, note=self.note, seed=seed)


class ContrastEvidence(Evidence):
    """Why the query is nearer to one image than to another. See `Evidence`.

    In every panel what is positive speaks for `near` and what is negative for `far`: the map on the query is of the
    difference of the two cosines, the map on near of its own cosine, the map on far of minus its own.
    """

    @property
    def note(self) -> str:
        """What stands below the figure: what the colors speak for, and what stands below every other."""
        sides = "Red speaks for near, blue for far" if self.signed else "Every map speaks for near"
        equal = " Near and far are equally near." if abs(self.value) < _EQUAL else ""
        return f"{sides}; the map on far is of minus its cosine.{equal} {super().note}"

    @property
    def map_query(self) -> "NDArray[np.float32]":
        """(h, w) float32 on the query; for methods that add up it sums to the difference of the cosines."""
        return self.panels[0].map

    @property
    def map_near(self) -> "NDArray[np.float32]":
        """(h, w) float32 on near; for methods that add up it sums to cos(query, near)."""
        return self.panels[1].map

    @property
    def map_far(self) -> "NDArray[np.float32]":
        """(h, w) float32 on far; for methods that add up it sums to -cos(query, far)."""
        return self.panels[2].map

    @property
    def residuals(self) -> tuple[float | None, ...]:
        """For methods that add up, what each panel's sum lacks: of the query, of near, of far; else None."""
        return tuple(panel.residual for panel in self.panels)


class PairEvidences(list[PairEvidence]):
    """One query against many, drawn on one scale; a list of `PairEvidence`."""

    def __init__(self, pairs: Iterable[PairEvidence] = ()) -> None:
        super().__init__(pairs)

    @overload
    def __getitem__(self, at: SupportsIndex) -> PairEvidence: ...
    @overload
    def __getitem__(self, at: slice) -> "PairEvidences": ...
    def __getitem__(self, at: SupportsIndex | slice) -> "PairEvidence | PairEvidences":
        """Return one pair, or some of them, which draw themselves as all do."""
        return PairEvidences(super().__getitem__(at)) if isinstance(at, slice) else super().__getitem__(at)

    def figure(self, *, grid: bool = False) -> "go.Figure":
        """Return a plotly figure of the query and all others, every map on one scale; `grid` draws the cells.

        Raises
        ------
        InputError
            There is no pair.
        """
        drawn = self._drawn()
        return many_figure(drawn, self._headline(), self[0].unit, note=self[0].note, grid=grid)

    def save(self, path: "str | Path", *, grid: bool = False) -> "Path":
        """Write the figure to a file, as PNG, PDF or SVG by its suffix; `grid` draws the cells.

        Raises
        ------
        InputError
            There is no pair, the suffix is another, or there is no such folder.
        """
        drawn = self._drawn()
        return many_image(path, drawn, self._headline(), self[0].unit, note=self[0].note, grid=grid)

    def _drawn(self) -> list[tuple[Panel, Panel]]:
        if not self:
            raise InputError("There is nothing to draw: the query was compared with no other image.")
        named = [replace(e.panels[1], name=f"{e.panels[1].name}\n{shown(e.value)}") for e in self]
        return [(e.panels[0], other) for e, other in zip(self, named, strict=True)]

    def _headline(self) -> str:
        first = self[0]
        return f"{first.kind} to {len(self)} images by {first.title}, {first.encoder}, trust: {first.trust}"

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.figure()._repr_mimebundle_(**options) if self else {"text/plain": "[]"}


def method_name(method: Any) -> str:
    """Return a method's name: itself, that of its parameters' class, or the name of a callable."""
    return (
        method
        if isinstance(method, str)
        else getattr(method, "name", getattr(method, "__name__", type(method).__name__))
    )
