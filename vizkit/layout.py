"""A map of images: `Layout`, which says of every point how far the map can be believed there."""

import hashlib
import html
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .embeddings import Embeddings, require_embeddings
from .errors import InputError
from .faithfulness import Faithfulness, check_map
from .figures import layout_figure
from .knn import beside
from .neighborhoods import Neighborhoods, map_neighbors
from .results import read_map, write_map

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, repr=False)
class Layout:
    """A map of points, one a vector.

    Attributes
    ----------
    xy
        (n, 2) float32, a copy, read-only. Axes have no unit; only which points are near means anything.
    kept
        (n,) float32 in [0, 1], read-only: the share of a point's `k` true nearest neighbors, over all dimensions, that
        are among its k nearest on the map; as of `faithfulness.share_kept`. k is 15 whatever n_neighbors is, so that
        maps can be compared.
    frame
        One row a point: index "id", columns x, y, kept and the columns of the embeddings (a name that is taken gets a
        "_").
    provenance
        method, n_neighbors, min_dist, metric, densmap and seed as they were used; `k`; epochs (0 for PCA) and stopped
        (None, or the share of them after which it was stopped: at 0 it lies as `start` does); start ("PCA" or "another
        map") and aligned_to (None, or summary and sha256 of that map's xy); and the versions of the libraries.
    embeddings
        What was mapped.
    """

    xy: "NDArray[np.float32]"
    kept: "NDArray[np.float32]"
    frame: pd.DataFrame
    provenance: dict[str, Any]
    embeddings: Embeddings

    def __post_init__(self) -> None:
        for name in ("xy", "kept"):
            array = np.array(getattr(self, name), np.float32)
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @property
    def ids(self) -> list[str]:
        """The ids, in the order of the points."""
        return self.frame.index.tolist()

    @property
    def k(self) -> int:
        """Of how many true neighbors `kept` is a share: 15, or all others where there are fewer."""
        return self.provenance["k"]

    @property
    def chance(self) -> float:
        """The share of true neighbors that a shuffled map would keep: k / (n - 1)."""
        return self.k / (len(self) - 1) if len(self) > 1 else 1.0

    @property
    def summary(self) -> str:
        """One sentence: how the map was made, and how much of the neighborhoods it keeps, beside chance."""
        made = self._made()
        points = f"{len(self):,} point{'s' if len(self) != 1 else ''}"
        if self.k == 0:
            return f"{made}: {points}."
        chance = f"{self.chance:.1%}" if self.chance >= 5e-4 else f"{100 * self.chance:.1g}%"
        return (
            f"{made}: {points}; of the {self.k} nearest neighbors ({self.provenance['metric']}) the map keeps "
            f"{self.kept.mean():.0%} (chance {chance})."
        )

    def _made(self) -> str:
        used = self.provenance
        made = "PCA" if used["method"] == "pca" else f"UMAP, seed {used['seed']}"
        if used["densmap"]:
            made += ", densities as in truth (densMAP)"
        if used["aligned_to"]:
            made += ", aligned to another map"
        if used["stopped"] == 0:
            return f"{used['start']}, from which {made} was to start".replace("another map,", "Another map,", 1)
        return made if used["stopped"] is None else f"{made}, stopped at {used['stopped']:.0%}"

    def check(
        self,
        ids: str | int | Iterable[str | int] | None = None,
        *,
        k: int | None = None,
        sample: int | None = 400,
        seed: int = 0,
    ) -> Faithfulness:
        """Return which neighbors the map keeps, which are false and which are missing, point by point and over all.

        Parameters
        ----------
        ids
            The points to check, one or several, each an id or a row; by default a sample.
        k
            Neighbors asked for, 1 or more; by default as many as `kept` asks for.
        sample
            How many points to draw, 2 or more; all where there are no more. None takes all: exact, and slow for many.
        seed
            Seed of the sample, 0 or more.

        Raises
        ------
        InputError
            As `vizkit.check_map`.
        """
        metric, k = self.provenance["metric"], max(self.k, 1) if k is None else k
        return check_map(self.embeddings, self.xy, k, metric=metric, ids=ids, sample=sample, seed=seed)

    def save(self, folder: str | Path) -> Path:
        """Write the map into a folder: Parquet (id, x, y, kept) and JSON, readable without vizkit.

        The vectors are not written, only their checksum: `embeddings.save` keeps them.

        Parameters
        ----------
        folder
            An earlier map in it is replaced, and only once the new one is complete.

        Returns
        -------
        Path
            The folder, absolute.

        Raises
        ------
        InputError
            The ids are no text that can be written.
        StoreError
            The folder holds something else, or cannot be written.
        """
        target = Path(folder).absolute()
        columns = {"x": self.xy[:, 0], "y": self.xy[:, 1], "kept": self.kept}
        about = {"provenance": self.provenance, "vectors": _checksum(self.embeddings.vectors)}
        write_map(target, self.ids, columns, about)
        return target

    @classmethod
    def load(cls, folder: str | Path, embeddings: Embeddings) -> "Layout":
        """Read what `save` wrote: the same bytes, and nothing is computed.

        Parameters
        ----------
        folder
            The saved folder.
        embeddings
            What was mapped: the same ids in the same order, the same vectors.

        Raises
        ------
        StoreError
            The folder is no saved map, is incomplete or damaged, or has another schema.
        InputError
            The map is of other embeddings.
        """
        require_embeddings(embeddings, "A map is loaded with its")
        ids, columns, about = read_map(Path(folder))
        if ids != embeddings.ids:
            known = len(set(ids) & set(embeddings.ids))
            raise InputError(
                f"The map in {str(folder)!r} has {len(ids)} points, {known} of them among these {len(embeddings)} "
                "images; expected the same ids in the same order. Give the embeddings that were mapped."
            )
        if about["vectors"] != _checksum(embeddings.vectors):
            raise InputError(
                f"The map in {str(folder)!r} is of other vectors of these images (another encoder or layer, or saved "
                "as float16). Give the embeddings that were mapped, or project these."
            )
        xy = np.column_stack([columns["x"], columns["y"]])
        frame = frame_of(embeddings, xy, columns["kept"])
        return cls(xy, columns["kept"], frame, about["provenance"], embeddings)

    def figure(self, color: "str | pd.Series | None" = None, neighbors_of: str | int | None = None) -> "go.Figure":
        """Return the map as a plain plotly figure (WebGL; hover shows id and columns).

        Parameters
        ----------
        color
            A column of `frame`, or a Series of values by id, such as `layout.check(sample=None).frame["missing"]`:
            points that it does not have are "no value". By default the label where there are groups of one, else
            `kept`. Texts, "label" and up to 20 different whole numbers are categories; numbers and dates a scale.
        neighbors_of
            An id or a row: lines lead from its point to its `k` true nearest neighbors, wherever they lie; dashed to
            those that are missing among its k nearest on the map. Rings are around the false neighbors: near on the
            map only.

        Raises
        ------
        InputError
            No such column, id or row; a Series without a known id; or a column in which nearly every point has a name
            of its own.
        """
        chances = {"kept": self.chance}
        if neighbors_of is None:
            return layout_figure(self.frame, self.summary, color, chances=chances)
        row = self.embeddings.row(neighbors_of)
        lines, false = self._neighbors_of(row)
        rings = {"false neighbor, near on the map only": false}
        return layout_figure(self.frame, self.summary, color, chances=chances, center=row, lines=lines, rings=rings)

    def _neighbors_of(self, row: int) -> "tuple[dict[str, NDArray[np.int64]], NDArray[np.int64]]":
        """Return a point's k true nearest neighbors, by whether the map keeps them, and those near on the map only."""
        if self.k == 0:
            return {}, np.zeros(0, np.int64)
        asked = np.array([row])
        listed = map_neighbors(self.xy, self.k, rows=asked)
        lists = Neighborhoods.of(self.embeddings, asked, listed, metric=self.provenance["metric"])
        true, missing = lists.true[0], lists.missing[0]
        return {"true neighbor, kept": true[~missing], "true neighbor, missing": true[missing]}, listed[~lists.hits]

    def __len__(self) -> int:
        return len(self.xy)

    def __repr__(self) -> str:
        return f"<Layout: {self.summary}>"

    def _repr_html_(self) -> str:
        return f"<p><b>Layout.</b> {html.escape(self.summary)}</p>"


def frame_of(embeddings: Embeddings, xy: "NDArray[np.float32]", kept: "NDArray[np.float32]") -> pd.DataFrame:
    """Return the table of a map: x, y, kept and the columns of the embeddings."""
    table = embeddings.frame
    return beside(pd.DataFrame({"x": xy[:, 0], "y": xy[:, 1], "kept": kept}, index=table.index), table)


def _checksum(vectors: "NDArray[np.float32]") -> str:
    """Return the sha256 of vectors (n, d), with little memory beside them."""
    digest = hashlib.sha256(repr(vectors.shape).encode())
    step = max(1, 2**22 // max(1, vectors.shape[1]))
    for start in range(0, len(vectors), step):
        digest.update(np.ascontiguousarray(vectors[start : start + step]).tobytes())
    return digest.hexdigest()
