"""Which patch of one image matches which of another, and how much of their cosine such pairs carry."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..errors import InputError
from ..figures import Panel, matches_figure, matches_image
from ..figures import shown as number
from ..graph import require_seed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import plotly.graph_objects as go
    from numpy.typing import NDArray

    Patches = NDArray[np.float32]

_SHUFFLES = 20
_BLOCK = 1 << 24  # entries of the matrix at a time: 64 MB


@dataclass(frozen=True, eq=False, repr=False)
class Matches:
    """Patches of two images that match.

    Attributes
    ----------
    frame
        One row a match, index rank from 1, the one that carries most first: row_a, column_a, row_b, column_b (cells of
        the maps, from 0), similarity (cosine of the two patches, in [-1, 1]), carried (their entry of the matrix of all
        pairs, in points of the images' cosine).
    carried
        What matches carry together. Rows "shown" (those of `frame`) and "all" (every mutual match); columns: pairs (how
        many), carried (points of cosine), share (of the cosine; NaN where that is not above 0), even (the share of so
        many pairs where all carry the same), chance (the share in shuffled patches, mean over 20 shuffles), and what
        these shuffles span, low to high.
    similarity
        Cosine of the two images, the sum of the matrix.
    kind
        Which cosine, in words.
    panels
        The two images.
    made
        By which method and network, and whether that was measured; in words.
    why
        What stands below the pair's own figure.
    """

    frame: pd.DataFrame
    carried: pd.DataFrame
    similarity: float
    kind: str
    panels: tuple[Panel, Panel]
    made: str = ""
    why: str = ""

    @property
    def headline(self) -> str:
        """The figure's title: what the matches that are shown carry, and what shuffled patches do."""
        shown, every = self.carried.loc["shown"], self.carried.loc["all"]
        words = f"{number(shown['carried'])} of the {self.kind} {number(self.similarity)}"
        if np.isfinite(shown["share"]):
            words += f" ({shown['share']:.1%}; in shuffled patches {shown['chance']:.1%})"
        words = f"{shown['pairs']:.0f} of {every['pairs']:.0f} mutual best matches of patches carry {words}"
        if every["share"] <= every["high"]:
            words += "; all matches together carry no more than shuffled patches do"
        return f"{words}; by {self.made}" if self.made else words

    @property
    def note(self) -> str:
        """What stands below the figure."""
        every = self.carried.loc["all"]
        words = "Patches of one number are each other's most similar one."
        if np.isfinite(every["share"]):
            words += f" All such pairs carry {every['share']:.1%} of the cosine (shuffled {every['chance']:.1%}, "
            words += f"{every['low']:.1%} to {every['high']:.1%}; spread evenly {every['even']:.1%})."
        return f"{words} {self.why}".strip()

    def figure(self, *, grid: bool = False) -> "go.Figure":
        """Return both images as a plotly figure, matching patches joined; `grid` draws the cells."""
        return matches_figure(self.panels, self._links(), self.headline, note=self.note, grid=grid)

    def save(self, path: "str | Path", *, grid: bool = False) -> "Path":
        """Write the figure to a file, as PNG, PDF or SVG by its suffix; `grid` draws the cells.

        Raises
        ------
        InputError
            The suffix is another, or there is no such folder.
        """
        return matches_image(path, self.panels, self._links(), self.headline, note=self.note, grid=grid)

    def _links(self) -> list[tuple[tuple[int, int], tuple[int, int], str]]:
        f = self.frame
        says = [f"cosine {s:.3f}, carries {c:.4f}" for s, c in zip(f["similarity"], f["carried"], strict=True)]
        a, b = (list(zip(f[f"row_{x}"], f[f"column_{x}"], strict=True)) for x in "ab")
        return list(zip(a, b, says, strict=True))

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.figure()._repr_mimebundle_(**options)

    def __repr__(self) -> str:
        return f"<Matches: {self.headline}>"


def mutual_matches(
    patches: "tuple[Patches, Patches]",
    panels: "Sequence[Panel]",
    n: int = 5,
    *,
    kind: str = "cosine",
    made: str = "",
    note: str = "",
    seed: int = 0,
) -> Matches:
    """Find the patches of two images that are each other's best match, and what share of the cosine they carry.

    Two patches match where each is the other's nearest by cosine: best buddies (Dekel et al. 2015, "Best-Buddies
    Similarity for Robust Template Matching", eq. 1). Matches are found by the patches' direction, and ranked by what
    they carry, their entry of the matrix of the exact decomposition: by that entry alone, one strong patch would be the
    best match of nearly all others.

    Beside it stands chance: in every channel the values are dealt anew over the positions. Each image's vector, and so
    the cosine, stays what it is; which values stand together in a patch is left to chance.

    Parameters
    ----------
    patches
        (d, hw) of a and (d, h'w') of b, float32, in row-major order; the matrix a.T @ b adds up to the cosine.
    panels
        Of a and of b: what was seen, and maps of the shapes (h, w) and (h', w').
    n
        Matches to show at most, 1 or more.
    kind
        Which cosine it is, in words.
    made, note
        For the title and for what stands below: the method, network and trust; the layer and the reason.
    seed
        Of the shuffles.

    Raises
    ------
    InputError
        n is no whole number from 1, or seed none from 0.
    """
    from tqdm.auto import tqdm

    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise InputError(f"n is {n!r}; expected a whole number of matches, 1 or more.")
    require_seed(seed)
    a, b = panels
    of_a, of_b, similarity, carried = _mutual(*patches)
    rng = np.random.default_rng(seed)
    shuffled = []
    for _ in tqdm(range(_SHUFFLES), desc="shuffled patches", unit="shuffle", delay=2, leave=False):
        shuffled.append(_mutual(rng.permuted(patches[0], axis=1), rng.permuted(patches[1], axis=1))[3])
    cells = [np.unravel_index(of, panel.map.shape) for of, panel in ((of_a, a), (of_b, b))]
    frame = pd.DataFrame(
        {
            "row_a": cells[0][0], "column_a": cells[0][1], "row_b": cells[1][0], "column_b": cells[1][1],
            "similarity": similarity, "carried": carried,
        },
        pd.RangeIndex(1, len(of_a) + 1, name="rank"),
    )  # fmt: skip
    total = float(patches[0].sum(axis=1, dtype=np.float64) @ patches[1].sum(axis=1, dtype=np.float64))
    pairs = patches[0].shape[1] * patches[1].shape[1]
    rows = {
        "shown": _carried(carried, shuffled, n, total, pairs),
        "all": _carried(carried, shuffled, None, total, pairs),
    }
    return Matches(frame.head(n), pd.DataFrame(rows).T, total, kind, (a, b), made, note)


def _mutual(a: "Patches", b: "Patches") -> "tuple[NDArray[Any], ...]":
    """Return patches of a and of b that are each other's nearest, their cosines, and what they carry, most first."""
    lengths = [np.linalg.norm(x, axis=0) for x in (a, b)]
    units = [x / np.where(length > 0, length, 1) for x, length in zip((a, b), lengths, strict=True)]
    best_of_a = np.empty(a.shape[1], np.intp)
    best_of_b, highest = np.zeros(b.shape[1], np.intp), np.full(b.shape[1], -np.inf, np.float32)
    block = max(1, _BLOCK // b.shape[1])
    for start in range(0, a.shape[1], block):
        cosines = units[0][:, start : start + block].T @ units[1]
        best_of_a[start : start + block] = cosines.argmax(axis=1)
        rows = cosines.argmax(axis=0)
        top = cosines[rows, np.arange(len(rows))]
        better = top > highest  # of equal ones the first
        best_of_b[better], highest[better] = start + rows[better], top[better]
    of_a = np.flatnonzero((best_of_b[best_of_a] == np.arange(len(best_of_a))) & (lengths[0] > 0))
    of_a = of_a[lengths[1][best_of_a[of_a]] > 0]  # a patch of zeros has no direction
    of_b = best_of_a[of_a]
    carried = np.einsum("di,di->i", a[:, of_a], b[:, of_b], dtype=np.float64)
    order = np.argsort(-carried, kind="stable")
    cosine = carried / (lengths[0][of_a] * lengths[1][of_b])
    return of_a[order], of_b[order], cosine[order].clip(-1, 1), carried[order]


def _carried(
    carried: "NDArray[np.float64]", shuffled: "list[NDArray[np.float64]]", n: int | None, total: float, pairs: int
) -> dict[str, float]:
    """Return what the strongest n matches (None: all) carry, and the same for shuffled ones."""
    count = len(carried[:n])
    whole = total if total > 0 else np.nan
    chance = np.array([values[:n].sum() for values in shuffled]) / whole
    points = float(carried[:n].sum())
    return {
        "pairs": count, "carried": points, "share": points / whole, "even": count / pairs if total > 0 else np.nan,
        "chance": float(chance.mean()), "low": float(chance.min()), "high": float(chance.max()),
    }  # fmt: skip
