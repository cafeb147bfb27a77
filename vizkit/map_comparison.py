"""Two maps of the same images, from other seeds, layers, encoders or parameters: which neighbors changed, and where."""

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .alignment import drift, turned
from .errors import InputError
from .figures import maps_figure
from .graph import count, nearest_rows, neighbor_graph, require_seed
from .knn import beside
from .layout import Layout
from .neighborhoods import Neighborhoods, among, map_neighbors, map_ranks

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from numpy.typing import NDArray

KINDS = ("stayed", "left", "came", "neither")
_RESAMPLES = 1000
_SHUFFLES = 20
_OF_UMAP = ("seed", "n_neighbors", "min_dist", "densmap")  # what PCA does not have


@dataclass(frozen=True, eq=False, repr=False)
class MapComparison:
    """How two maps of the same images differ, point by point and over all.

    Attributes
    ----------
    a, b
        The layouts, as they were given.
    frame
        One row an image, index "id", in the order of `a`: x_a, y_a, x_b, y_b (b is turned onto a, at its own scale),
        map_change (share of the k nearest on map a that are not among the k nearest on map b), true_change (the same
        over all dimensions; 0 where both maps show the same vectors by the same metric), and the columns of a's
        embeddings. Shares are in [0, 1].
    overall
        One row each for map_agreement and true_agreement (mean share of neighbors in common) and drift (see
        `alignment.drift`): value, low and high (95% interval over images), chance (two maps, or two spaces, that have
        nothing to do with each other).
    provenance
        k, seed, `names` (of both maps, by what they differ in) and `same vectors` (whether both show the same vectors
        by the same metric).
    """

    a: Layout
    b: Layout
    frame: pd.DataFrame
    overall: pd.DataFrame
    provenance: dict[str, Any]

    @property
    def k(self) -> int:
        """How many neighbors are compared: those given, or all others where there are fewer."""
        return self.provenance["k"]

    @property
    def names(self) -> tuple[str, str]:
        """What the maps are called: in what they differ."""
        return self.provenance["names"]

    @property
    def agreement(self) -> float:
        """The mean share of the neighbors on one map that are neighbors on the other, in [0, 1]."""
        return float(self.overall.loc["map_agreement", "value"])

    @property
    def drift(self) -> float:
        """How far the maps are from one another when turned, moved and scaled to fit: 0 not at all, 1 as far as any."""
        return float(self.overall.loc["drift", "value"])

    @property
    def most_changed(self) -> list[str]:
        """All ids, the largest change on the map first; where that is equal, the largest change in truth."""
        order = np.lexsort((-self.frame["true_change"], -self.frame["map_change"]))
        return self.frame.index[order].tolist()

    @property
    def summary(self) -> str:
        """Two sentences: how much the maps agree, and how much the spaces behind them do, beside chance."""
        if self.k == 0:
            return "One image has no neighbors that could change."

        def said(name: str, form: str) -> str:
            row = self.overall.loc[name]
            ends = f"95% interval {row['low']:{form}} to {row['high']:{form}}, by chance {row['chance']:{form}}"
            return f"{row['value']:{form}} ({ends})"

        true = "the maps show the same vectors"
        if not self.provenance["same vectors"]:
            true = f"of those over all dimensions {said('true_agreement', '.1%')}"
        return (
            f"Of the {self.k} nearest neighbors on one map the other has {said('map_agreement', '.1%')}; {true}. "
            f"Drift {said('drift', '.3f')}; {len(self.frame)} images."
        )

    def neighbors(self, id: str | int) -> pd.DataFrame:
        """Return what changed for one image: its neighbors on either map and in truth.

        Parameters
        ----------
        id
            Any image of the maps: its id, or its row on map a.

        Returns
        -------
        pandas.DataFrame
            One row for every image that is among its k nearest on map a, on map b, or over all dimensions behind one of
            them; index "id": kind ("stayed": near on both maps, "left": on a alone, "came": on b alone, "neither": in
            truth only, in this order), map_rank_a, map_rank_b, true_rank_a, true_rank_b (1 is the nearest of all n - 1
            others), similarity_a, similarity_b (as of `neighbor_graph`), and the columns of a's embeddings. In a kind
            the nearest on the maps come first.

        Raises
        ------
        InputError
            There is no such image.
        """
        a, b, k = self.a, self.b, self.k
        row, order = np.array([a.embeddings.row(id)]), self._order
        near = [map_neighbors(xy, k, rows=row) for xy in (a.xy, b.xy[order])]
        true = _true_neighbors(a, b, order, k) if k else (np.empty((len(a), 0), np.int64),) * 2
        others = np.unique(np.concatenate([near[0][0], near[1][0], true[0][row[0]], true[1][row[0]]]))
        on = [np.isin(others, lists[0]) for lists in near]
        kinds = np.select([on[0] & on[1], on[0], on[1]], KINDS[:3], KINDS[3])
        table: dict[str, Any] = {"kind": pd.Categorical(kinds, KINDS, ordered=True)}
        for name, xy in zip("ab", (a.xy, b.xy[order]), strict=True):
            table[f"map_rank_{name}"] = map_ranks(xy, row, others[None])[0]
        for name, layout, rows in (("a", a, np.arange(len(a))), ("b", b, order)):
            searcher = nearest_rows(layout.embeddings, layout.provenance["metric"])
            table[f"true_rank_{name}"] = searcher.ranks(rows[row], rows[others][None])[0]
            table[f"similarity_{name}"] = searcher.scores(np.repeat(rows[row], len(others)), rows[others])
        found = pd.DataFrame(table, index=a.frame.index[others])
        first = found[["map_rank_a", "map_rank_b"]].min(axis=1)
        found = found.iloc[np.lexsort((first, found["kind"].cat.codes))]
        return beside(found, a.embeddings.frame.loc[found.index])

    def figure(self, color: "str | pd.Series" = "map_change") -> "go.Figure":
        """Return the maps side by side as a plain plotly figure.

        Parameters
        ----------
        color
            A column of `frame`: by default the change of each point's neighbors on the map, or "true_change", "label"
            and what else there is; or a Series of values by id.

        Raises
        ------
        InputError
            As `Layout.figure`.
        """
        chances = {
            f"{space}_change": 1 - float(self.overall.loc[f"{space}_agreement", "chance"]) for space in ("map", "true")
        }
        return maps_figure(self.frame, self.names, self.summary, color, chances=chances)

    @property
    def _order(self) -> "NDArray[np.intp]":
        return self.b.frame.index.get_indexer(self.a.frame.index)

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        return f"<MapComparison: {' | '.join(self.names)}: {self.summary}>"

    def _repr_html_(self) -> str:
        names = " | ".join(self.names)
        return f"<p><b>MapComparison.</b> {html.escape(names)}: {html.escape(self.summary)}</p>"


def compare_maps(a: Layout, b: Layout, *, k: int | None = None, seed: int = 0) -> MapComparison:
    """Compare two maps of the same images: from other seeds, layers, encoders or parameters.

    How much two seeds agree is `compare_maps(layout, project(embeddings, seed=1))`.

    Parameters
    ----------
    a, b
        Layouts of n images with the same ids, in any order.
    k
        How many neighbors to compare, 1 or more; where there are fewer others, all of them. By default as many as `a`
        asks for.
    seed
        Of the bootstrap and of the shuffled maps, 0 or more.

    Returns
    -------
    MapComparison
        The same whichever map comes first, but for rounding, and for the turn, which is of b.

    Raises
    ------
    InputError
        One of them is no layout, their ids differ, or an argument is none of the above.

    Notes
    -----
    Two lists that have nothing to do with each other share k / (n - 1) on average; the drift by chance is the mean over
    20 shuffles, of either map by turns. Intervals are percentiles of 1000 bootstrap samples of the images (Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13), with the maps as they are: they say how much hangs
    on which images were asked, not what a map of other images would be like. True neighbors are those of
    `neighbor_graph`; of several that are equally near, any counts as common.
    """
    order = _matched(a, b)
    require_seed(seed)
    n = len(a)
    k = min(a.k if k is None else count(k, "k"), n - 1)
    same = _same_truth(a, b, order)
    xy_a, xy_b = np.asarray(a.xy), np.asarray(b.xy)[order]
    common, true = np.ones(n), np.ones(n)
    if k:
        common = among(map_neighbors(xy_a, k), map_neighbors(xy_b, k)).mean(axis=1)
        if not same:
            true = _true_agreement(a, b, order, k)
    moved = turned(xy_b, xy_a)
    columns = {"x_a": xy_a[:, 0], "y_a": xy_a[:, 1], "x_b": moved[:, 0], "y_b": moved[:, 1]}
    columns |= {"map_change": 1 - common, "true_change": 1 - true}
    frame = beside(pd.DataFrame(columns, index=a.frame.index), a.embeddings.frame)
    rng = np.random.default_rng(seed)
    chance = k / (n - 1) if n > 1 else 1.0
    apart = drift(xy_a, xy_b)
    # Images are drawn in the order of their ids, and each shuffle serves both ways: so a and b can be swapped.
    by_id = np.argsort(a.frame.index.to_numpy(object))
    one, other = xy_a[by_id], xy_b[by_id]
    draws = [rng.permutation(n) for _ in range(_SHUFFLES // 2)]
    shuffled = float(np.mean([drift(one, other[draw]) + drift(one[draw], other) for draw in draws])) / 2
    low, high = _intervals(common[by_id], true[by_id], one, other, rng)
    overall = pd.DataFrame(
        {"value": [common.mean(), true.mean(), apart], "low": low, "high": high, "chance": [chance, chance, shuffled]},
        index=pd.Index(["map_agreement", "true_agreement", "drift"], name="measure"),
    )
    provenance = {"k": k, "seed": int(seed), "names": _names(a, b), "same vectors": same}
    return MapComparison(a, b, frame, overall, provenance)


def _matched(a: Layout, b: Layout) -> "NDArray[np.intp]":
    """Return for every image of a its row in b; InputError where they are not maps of the same images."""
    for name, layout in (("a", a), ("b", b)):
        if not isinstance(layout, Layout):
            raise InputError(f"{name} is of type {type(layout).__name__}; expected a Layout, what `project` returns.")
    ids = a.frame.index, b.frame.index
    alone = [mine.difference(other, sort=False) for mine, other in (ids, ids[::-1])]
    if any(map(len, alone)):
        told = [
            f"{len(only)} of {len(mine)} images are on map {name} alone ({', '.join(map(repr, only[:3]))})"
            for name, only, mine in zip("ab", alone, ids, strict=True)
            if len(only)
        ]
        raise InputError(f"The maps are not of the same images: {'; '.join(told)}. Project the same set twice.")
    return ids[1].get_indexer(ids[0])


def _same_truth(a: Layout, b: Layout, order: "NDArray[np.intp]") -> bool:
    """Whether both maps show the same vectors by the same metric."""
    if a.provenance["metric"] != b.provenance["metric"]:
        return False
    mine, theirs = a.embeddings.vectors, b.embeddings.vectors
    return a.embeddings is b.embeddings or (mine.shape == theirs.shape and np.array_equal(mine, theirs[order]))


def _true_neighbors(
    a: Layout, b: Layout, order: "NDArray[np.intp]", k: int
) -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
    """Return the k true nearest neighbors of every image (n, k), in the space behind a and behind b, as rows of a."""
    of_a, of_b = (neighbor_graph(x.embeddings, k, metric=x.provenance["metric"]).indices for x in (a, b))
    return of_a.astype(np.int64), np.argsort(order)[of_b[order]]


def _true_agreement(a: Layout, b: Layout, order: "NDArray[np.intp]", k: int) -> "NDArray[np.float64]":
    """Return the share of each image's true neighbors (n,) that both spaces have, in the order of a."""
    of_a, of_b = _true_neighbors(a, b, order, k)
    rows = np.arange(len(a))
    # Where one space has equally near ones at the end of its list, the other's choice among them is no difference.
    shares = [
        Neighborhoods.of(layout.embeddings, asked, listed, metric=layout.provenance["metric"]).hits.mean(axis=1)
        for layout, asked, listed in ((a, rows, of_b), (b, order, order[of_a]))
    ]
    return np.maximum(*shares)


def _intervals(
    common: "NDArray[np.floating]",
    true: "NDArray[np.floating]",
    a: "NDArray[np.floating]",
    b: "NDArray[np.floating]",
    rng: np.random.Generator,
) -> "NDArray[np.float64]":
    """Return the ends (2, 3) of the bootstrap intervals of both mean shares and of the drift."""
    n = len(common)
    a, b = (np.asarray(xy, np.float64) - np.mean(xy, axis=0, dtype=np.float64) for xy in (a, b))
    a, b = (xy / (np.abs(xy).max() or 1) for xy in (a, b))
    # The drift hangs on sums of products alone, so a resample needs no second look at the points.
    products = (a[:, :, None] * b[:, None]).reshape(n, 4)
    terms = np.column_stack([common, true, a, b, np.square(a).sum(axis=1), np.square(b).sum(axis=1), products])
    drawn = np.array([np.bincount(rng.integers(n, size=n), minlength=n) @ terms / n for _ in range(_RESAMPLES)])
    center_a, center_b = drawn[:, 2:4], drawn[:, 4:6]
    spread = (drawn[:, 6] - np.square(center_a).sum(axis=1)) * (drawn[:, 7] - np.square(center_b).sum(axis=1))
    crossed = drawn[:, 8:].reshape(-1, 2, 2) - center_a[:, :, None] * center_b[:, None]
    fitted = np.square(np.linalg.svd(crossed, compute_uv=False).sum(axis=1))
    flat = spread <= 0
    apart = np.where(flat, float(a.any() != b.any()), 1 - fitted / np.where(flat, 1, spread)).clip(0, 1)
    return np.quantile(np.column_stack([drawn[:, :2], apart]), [0.025, 0.975], axis=0)


def _names(a: Layout, b: Layout) -> tuple[str, str]:
    """Say of each map how it was made, as far as that tells it from the other."""
    cards = [layout.embeddings.provenance.get("card", {}) for layout in (a, b)]
    parts: tuple[list[str], list[str]] = ([], [])
    for key in ("network", "weights", "layer"):
        values = [card.get(key) for card in cards]
        if values[0] != values[1]:
            for part, value in zip(parts, values, strict=True):
                part.append(str(value or f"{key} not known"))
    made = [layout.provenance for layout in (a, b)]
    both_umap = all(used["method"] == "umap" for used in made)
    for part, used in zip(parts, made, strict=True):
        part.append({"umap": "UMAP", "pca": "PCA"}.get(used["method"], used["method"]))
    for key in ("metric", *(_OF_UMAP if both_umap else ())):
        if made[0][key] != made[1][key]:
            for part, used in zip(parts, made, strict=True):
                part.append(f"{key} {used[key]}")
    for key, words in (("aligned_to", "aligned"), ("stopped", "stopped at {:.0%}")):
        if made[0][key] != made[1][key]:
            for part, used in zip(parts, made, strict=True):
                if used[key] is not None:
                    part.append(words.format(used[key]))
    return ", ".join(parts[0]), ", ".join(parts[1])
