"""What an explanation is: maps on one image or on two, in a unit, with their sum check and their words."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..figures import evidence_figure, is_signed

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from numpy.typing import NDArray

NOT_MEASURED = "not measured"


@dataclass(frozen=True, eq=False, repr=False)
class _Drawn:
    """An answer that draws itself in a notebook."""

    def figure(self) -> "go.Figure":
        """Return the answer as a plotly figure: every image on one scale, with the colour bar in the map's unit."""
        return evidence_figure(self.panels, self.headline, self.unit)  # ty: ignore[missing-attribute]

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.figure()._repr_mimebundle_(**options)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.headline}>"  # ty: ignore[missing-attribute]


@dataclass(frozen=True, eq=False, repr=False)
class Evidence(_Drawn):
    """Saliency on one image.

    Attributes
    ----------
    map
        (h, w) float32 on the method's own grid over what the network saw, in `unit`.
    value
        What was explained: the logit of a class, or the cosine to a vector.
    method, target, unit, encoder
        In words. `method` can be given as `method=` again.
    layer
        Where the map lives for Grad-CAM; else the layer whose vector was explained, "output" for a class.
    seen
        (H, W, 3) uint8: what the network saw.
    residual
        For methods that add up: value (minus `baseline_value`, where there is one) minus the sum of the map; else None.
    baseline_value
        For methods that start from a featureless image: the value there; else None.
    seconds
        What it took.
    """

    map: "NDArray[np.float32]"
    value: float
    method: Any
    target: str
    unit: str
    layer: str
    encoder: str
    seen: "NDArray[np.uint8]"
    residual: float | None
    baseline_value: float | None
    seconds: float

    @property
    def signed(self) -> bool:
        """Whether the map speaks against as well as for."""
        return is_signed(self.map)

    @property
    def headline(self) -> str:
        """The figure's title: method, target and value."""
        return f"{method_name(self.method)} for {self.target} ({self.value:.3f}), {self.encoder}"

    @property
    def panels(self) -> "list[tuple[str, NDArray[np.uint8], NDArray[np.float32]]]":
        """What the figure shows: (title, image, map) for every panel."""
        return [("", self.seen, self.map)]


@dataclass(frozen=True, eq=False, repr=False)
class PairEvidence(_Drawn):
    """Why two images are alike: a map on each, in units of their similarity.

    Attributes
    ----------
    map_a, map_b
        (h, w) float32 on the method's own grid over what the network saw of a and of b, in `unit`.
    patches
        (d, patches) float32 of a and of b, in row-major order, each adding up to its image's vector at length 1; None
        where the method has no such split.
    similarity
        Cosine of the two vectors, after `centered` was taken off where it is True.
    method
        Name or callable, usable as `method=` again.
    unit
        Of the maps, in words.
    residual_a, residual_b
        For methods that add up: sum(map) + residual = similarity (- `baseline_similarity`); else None.
    baseline_similarity
        For methods that start from a featureless image: (for a, for b) the similarity there; else None.
    centered
        Whether a mean vector was taken off both vectors first.
    seen_a, seen_b
        (H, W, 3) uint8: what the network saw.
    layer
        Where the maps live for Grad-CAM and sensitivity; else the layer whose vectors are compared.
    encoder
        Its name.
    reason
        Why this method was taken.
    trust
        What a measurement of this method on this network said; "not measured" where there was none.
    seconds
        What it took.
    """

    map_a: "NDArray[np.float32]"
    map_b: "NDArray[np.float32]"
    patches: "tuple[NDArray[np.float32], NDArray[np.float32]] | None"
    similarity: float
    method: Any
    unit: str
    residual_a: float | None
    residual_b: float | None
    baseline_similarity: tuple[float, float] | None
    centered: bool
    seen_a: "NDArray[np.uint8]"
    seen_b: "NDArray[np.uint8]"
    layer: str
    encoder: str
    reason: str
    trust: str
    seconds: float

    @cached_property
    def matrix(self) -> "NDArray[np.float32] | None":
        """The share of the similarity that each pair of patches carries, (patches of a, patches of b) float32.

        None where the method has no such split. Computed when first asked for: maps of 112 x 112 make it 600 MB.
        """
        return None if self.patches is None else self.patches[0].T @ self.patches[1]

    @property
    def signed(self) -> bool:
        """Whether a map speaks against the similarity as well as for it."""
        return is_signed(self.map_a, self.map_b)

    @property
    def headline(self) -> str:
        """The figure's title: similarity, method, and whether the method was measured."""
        kind = "centered cosine" if self.centered else "cosine"
        return f"{kind} {self.similarity:.3f} by {method_name(self.method)} ({self.trust}), {self.encoder}"

    @property
    def panels(self) -> "list[tuple[str, NDArray[np.uint8], NDArray[np.float32]]]":
        """What the figure shows: (title, image, map) for every panel."""
        return [
            (_sum_of("a", self.map_a, self.residual_a), self.seen_a, self.map_a),
            (_sum_of("b", self.map_b, self.residual_b), self.seen_b, self.map_b),
        ]


def method_name(method: Any) -> str:
    """Return a method's name: itself, or the name of a callable."""
    return method if isinstance(method, str) else getattr(method, "__name__", type(method).__name__)


def _sum_of(name: str, values: "NDArray[np.float32]", residual: float | None) -> str:
    return f"{name}: sums to {values.sum(dtype=np.float64):.3f}" if residual is not None else name
