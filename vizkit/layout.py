"""A map of images: `Layout`, which says of every point how far the map can be believed there."""

import html
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .embeddings import Embeddings
from .faithfulness import Faithfulness, check_map
from .figures import layout_figure
from .graph import neighbor_graph

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, repr=False)
class Layout:
    """A map of points, one a vector.

    Attributes
    ----------
    xy
        (n, 2) float32. Axes have no unit; only which points are near means anything.
    kept
        (n,) float32 in [0, 1]: the share of a point's `k` true nearest neighbours, over all dimensions, that are among
        its k nearest on the map. A neighbour on the map that is as near in truth as the k-th counts as kept.
    frame
        One row a point: index "id", columns x, y, kept and the columns of the embeddings (a name that is taken gets a
        "_").
    provenance
        method, n_neighbors, min_dist, metric, densmap and seed as they were used; `k`; epochs (0 for PCA) and stopped
        (None, or the share of them after which it was stopped); start ("PCA" or "another map") and aligned_to (None, or
        summary and sha256 of that map's xy); and the versions of the libraries.
    embeddings
        What was mapped.
    """

    xy: "NDArray[np.float32]"
    kept: "NDArray[np.float32]"
    frame: pd.DataFrame
    provenance: dict[str, Any]
    embeddings: Embeddings

    @property
    def ids(self) -> list[str]:
        """The ids, in the order of the points."""
        return list(self.frame.index)

    @property
    def k(self) -> int:
        """Of how many true neighbours `kept` is a share: n_neighbors, or all others where there are fewer."""
        return self.provenance["k"]

    @property
    def chance(self) -> float:
        """The share of true neighbours that a shuffled map would keep: k / (n - 1)."""
        return self.k / (len(self) - 1) if len(self) > 1 else 1.0

    @property
    def summary(self) -> str:
        """One sentence: how the map was made, and how much of the neighbourhoods it keeps, beside chance."""
        made = self._made()
        points = f"{len(self)} point{'s' if len(self) != 1 else ''}"
        if self.k == 0:
            return f"{made}: {points}."
        return (
            f"{made}: {points}; of the {self.k} nearest neighbours ({self.provenance['metric']}) the map keeps "
            f"{self.kept.mean():.0%} (chance {self.chance:.1%})."
        )

    def _made(self) -> str:
        used = self.provenance
        made = "PCA" if used["method"] == "pca" else f"UMAP, seed {used['seed']}"
        if used["densmap"]:
            made += ", densities as in truth (densMAP)"
        if used["aligned_to"]:
            made += ", aligned to another map"
        if used["stopped"] is not None:
            made += f", stopped at {used['stopped']:.0%}"
        return made

    def check(self, ids: str | Iterable[str] | None = None, *, sample: int | None = 500, seed: int = 0) -> Faithfulness:
        """Return which neighbours the map keeps, which are false and which are missing, point by point and over all.

        Parameters
        ----------
        ids
            The points to check, one id or several; by default a sample.
        sample
            How many points to draw, 2 or more; all where there are no more. None takes all: exact, and slow for many.
        seed
            Seed of the sample, 0 or more.

        Raises
        ------
        InputError
            As `vizkit.check_map`.
        """
        metric = self.provenance["metric"]
        return check_map(self.embeddings, self.xy, max(self.k, 1), metric=metric, ids=ids, sample=sample, seed=seed)

    def figure(self, color: str | None = None, neighbors_of: str | None = None) -> "go.Figure":
        """Return the map as a plain plotly figure (WebGL; hover shows id and columns).

        Parameters
        ----------
        color
            A column of `frame`; by default the label where there is one, else `kept`.
        neighbors_of
            An id: lines lead from its point to its `k` true nearest neighbours, wherever they lie; dashed to those that
            are missing among its k nearest on the map.

        Raises
        ------
        InputError
            No such column, or no such id.
        """
        if neighbors_of is None:
            return layout_figure(self.frame, self.summary, color)
        row = self.embeddings.row(neighbors_of)
        true, near = self._true_neighbors(row)
        lines = {"true neighbor, kept": true[near], "true neighbor, missing": true[~near]}
        return layout_figure(self.frame, self.summary, color, center=row, lines=lines)

    def _true_neighbors(self, row: int) -> "tuple[NDArray[np.int32], NDArray[np.bool_]]":
        """Return a point's k true nearest neighbours, and which of them are no farther on the map than its k-th."""
        if self.k == 0:
            return np.zeros(0, np.int32), np.zeros(0, bool)
        true = neighbor_graph(self.embeddings, self.k, metric=self.provenance["metric"]).indices[row]
        xy = self.xy.astype(np.float64)
        away = np.square(xy - xy[row]).sum(axis=1)
        return true, away[true] <= np.partition(np.delete(away, row), self.k - 1)[self.k - 1]

    def __len__(self) -> int:
        return len(self.xy)

    def __repr__(self) -> str:
        return f"<Layout: {self.summary}>"

    def _repr_html_(self) -> str:
        return f"<p><b>Layout.</b> {html.escape(self.summary)}</p>"
