"""How far a map can be believed: which neighbors it keeps, which are false, and which are missing.

A false neighbor is near on the map only; a missing neighbor is near in truth, over all dimensions, only.
"""

import html
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .embeddings import Embeddings, require_embeddings
from .errors import InputError
from .graph import count, nearest_rows, require_seed
from .knn import beside
from .nearest import Metric
from .neighborhoods import Neighborhoods, map_neighbors, map_ranks

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEASURES = ("kept", "trustworthiness", "continuity")
TRUE_NEIGHBORS = 15  # what `kept` asks for on every map, whatever it was made with, so that maps can be compared
_BLOCK = 1024  # points whose ranks are found at a time: between two such blocks a check can be interrupted


@dataclass(frozen=True, eq=False, repr=False)
class Faithfulness:
    """How far a map keeps the k true nearest neighbors of its points.

    Attributes
    ----------
    frame
        One row a point that was checked, index "id", in the order of the set: kept (share of the true neighbors that
        are near on the map, in [0, 1]), false and missing (how many of each, 0 to k), trustworthiness and continuity.
        These two are in [0, 1] and say how bad the false and the missing ones are: 1 where there are none, 0 where they
        are the farthest that exist.
    overall
        One row each for kept, trustworthiness and continuity: value (the mean over `frame`), low and high (95%
        interval for the mean over all points; both are the value where nothing was sampled), chance (what a shuffled
        map has on average).
    provenance
        k, metric, n (points on the map), checked ("all", "selection" or "sample") and seed (of a sample, else None).
    embeddings, xy
        What was compared: the vectors, and the map (n, 2) of them.
    """

    frame: pd.DataFrame
    overall: pd.DataFrame
    provenance: dict[str, Any]
    embeddings: Embeddings
    xy: "NDArray[np.floating]"

    @property
    def k(self) -> int:
        """How many neighbors are asked for: those given, or all others where there are fewer."""
        return self.provenance["k"]

    @property
    def kept(self) -> float:
        """The mean share of the true neighbors that the map keeps."""
        return float(self.overall.loc["kept", "value"])

    @property
    def trustworthiness(self) -> float:
        """The mean over points: 1 where no neighbor on the map is false."""
        return float(self.overall.loc["trustworthiness", "value"])

    @property
    def continuity(self) -> float:
        """The mean over points: 1 where no true neighbor is missing."""
        return float(self.overall.loc["continuity", "value"])

    @property
    def worst(self) -> pd.DataFrame:
        """`frame`, worst point first: by the lower of trustworthiness and continuity, then by the share kept."""
        lower = self.frame[["trustworthiness", "continuity"]].min(axis=1)
        return self.frame.iloc[np.lexsort((self.frame["kept"], lower))]

    @property
    def summary(self) -> str:
        """Two sentences: what the map keeps, beside chance, and on how many points that was measured."""
        n, m = self.provenance["n"], len(self.frame)
        if self.k == 0:
            return "One point has no neighbors that a map could lose."
        kept, trust, continuity = (self.overall.loc[name] for name in MEASURES)
        sampled = self.provenance["checked"] == "sample"

        def said(row: pd.Series, form: str) -> str:
            value = format(row["value"], form)
            return f"{value} ({row['low']:{form}} to {row['high']:{form}})" if sampled else value

        points = f"all {n} points" if self.provenance["checked"] == "all" else f"{m} of {n} points"
        how = f"drawn with seed {self.provenance['seed']}; in brackets 95% intervals" if sampled else "exact"
        return (
            f"Of the {self.k} nearest neighbors ({self.provenance['metric']}) the map keeps {said(kept, '.1%')}, by "
            f"chance {kept['chance']:.1%}; trustworthiness {said(trust, '.3f')}, continuity {said(continuity, '.3f')}, "
            f"by chance {trust['chance']:.3f}. Measured on {points}, {how}."
        )

    def neighbors(self, id: str | int) -> pd.DataFrame:
        """Return which neighbors of a point the map keeps, which are false and which are missing.

        Parameters
        ----------
        id
            Any point of the map, checked or not: its id or its row.

        Returns
        -------
        pandas.DataFrame
            One row a neighbor, index "id": kind ("kept", "missing" or "false", in this order), true_rank and map_rank
            (1 is the nearest of all n - 1 others), similarity as of `neighbor_graph` (float64), and the columns of the
            embeddings. In a kind the nearest in truth come first.

        Raises
        ------
        InputError
            There is no such point.
        """
        row = np.array([self.embeddings.row(id)])
        metric = self.provenance["metric"]
        near = map_neighbors(self.xy, self.k, rows=row)
        found = Neighborhoods.of(self.embeddings, row, near, metric=metric, exact=True)
        others = np.concatenate([near[0], found.true[0][found.missing[0]]])
        kinds = np.where(found.hits[0], "kept", "false").tolist() + ["missing"] * int(found.missing.sum())
        searcher = nearest_rows(self.embeddings, metric)
        table = pd.DataFrame(
            {
                "kind": pd.Categorical(kinds, ["kept", "missing", "false"], ordered=True),
                "true_rank": searcher.ranks(row, others[None])[0],
                "map_rank": map_ranks(self.xy, row, others[None])[0],
                "similarity": searcher.scores(np.repeat(row, len(others)), others),
            },
            index=self.embeddings.frame.index[others],
        )
        table = table.iloc[np.lexsort((table["true_rank"], table["kind"].cat.codes))]
        return beside(table, self.embeddings.frame.loc[table.index])

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        return f"<Faithfulness: {self.summary}>"

    def _repr_html_(self) -> str:
        return f"<p><b>Faithfulness.</b> {html.escape(self.summary)}</p>"


def check_map(
    embeddings: Embeddings,
    xy: "NDArray[np.floating]",
    k: int = TRUE_NEIGHBORS,
    *,
    metric: Metric = "cosine",
    ids: str | int | Iterable[str | int] | None = None,
    sample: int | None = 400,
    seed: int = 0,
) -> Faithfulness:
    """Measure how far a map keeps the true nearest neighbors: quickly on a sample, exactly for a selection or for all.

    `check_map(e, xy)` takes a sample of the points, `check_map(e, xy, ids=[...])` exactly these, and
    `check_map(e, xy, sample=None)` all, which takes time that grows with the square of their number. The values of a
    point are exact in each: only the means of a sample are estimates.

    Parameters
    ----------
    embeddings
        n vectors.
    xy
        (n, 2), finite: any map of them, in their order; or a DataFrame of two columns with their ids as index.
    k
        Neighbors asked for, 1 or more; where there are fewer other points, all of them.
    metric
        What near means in truth, as for `neighbor_graph`. On the map it is the Euclidean distance.
    ids
        The points to check, one or several, each an id or a row; then nothing is drawn. By default a sample.
    sample
        How many points to draw, 2 or more; all where there are no more. None takes all.
    seed
        Of the sample, 0 or more.

    Returns
    -------
    Faithfulness
        Equally near ones: of neighbors on the map that are as near in truth as the k-th, as many count as kept as there
        are such among the k; points equally near on the map rank in the order of the set.

    Raises
    ------
    InputError
        `xy` does not fit the embeddings, there are no vectors, or an argument is none of the above.

    Notes
    -----
    With r(i, j) the rank of j among all others as seen from i in truth, U_k(i) the false neighbors, and k < n / 2,

        trustworthiness = 1 - 2 / (n k (2n - 3k - 1)) * sum over i, and over j in U_k(i), of r(i, j) - k

    and continuity is the same with truth and map swapped, a sum over missing neighbors (Venna and Kaski, Neighborhood
    preservation in nonlinear projection methods: an experimental study, ICANN 2001). Each is the mean over i of what
    `frame` says of the points. The factor makes the worst list there can be 0. For k >= n / 2, where it no longer does,
    2 / (n (n - k)(n - k - 1)) takes its place (Lee and Verleysen, Quality assessment of dimensionality reduction:
    rank-based criteria, Neurocomputing 72, 2009); for k = n - 1 there is nothing to lose, and the value is 1.

    Chance: on a shuffled map a neighbor's rank is uniform over 1 to n - 1. So k / (n - 1) are kept on average, and
    trustworthiness and continuity are 1 - (n - k - 1)(n - k) / ((n - 1)(2n - 3k - 1)), nearly 0.5 where k is small;
    for k >= n / 2, 1 - k / (n - 1).

    Interval of the mean of a sample of m of n points, without replacement: mean +- t s / sqrt(m) * sqrt(1 - m / n), t
    of m - 1 degrees of freedom (Cochran, Sampling Techniques, 3rd ed. 1977, chapter 2), cut to [0, 1].
    """
    k, xy = count(k, "k"), positions(embeddings, xy)
    n = len(xy)
    rows, checked = _chosen(embeddings, ids, sample, seed)
    k = min(k, n - 1)
    values = _per_point(embeddings, xy, rows, k, metric)
    frame = pd.DataFrame(values, index=embeddings.frame.index[rows])
    provenance = {
        "k": k,
        "metric": metric,
        "n": n,
        "checked": checked,
        "seed": int(seed) if checked == "sample" else None,
    }
    share = len(rows) / n if checked == "sample" else 1.0
    chance = {"kept": k / (n - 1) if n > 1 else 1.0}
    chance |= dict.fromkeys(MEASURES[1:], _by_chance(n, k))
    overall = [[*_mean(frame[name].to_numpy(), share), chance[name]] for name in MEASURES]
    columns = ["value", "low", "high", "chance"]
    return Faithfulness(
        frame, pd.DataFrame(overall, pd.Index(MEASURES, name="measure"), columns), provenance, embeddings, xy
    )


def share_kept(
    embeddings: Embeddings, xy: "NDArray[np.floating]", k: int = TRUE_NEIGHBORS, *, metric: Metric = "cosine"
) -> "NDArray[np.float32]":
    """Return the share of each point's k true nearest neighbors that are among its k nearest on a map.

    Parameters
    ----------
    embeddings
        n vectors.
    xy
        (n, 2), finite: any map of them, in their order; or a DataFrame of two columns with their ids as index.
    k
        Neighbors asked for, 1 or more; where there are fewer other points, all of them.
    metric
        What near means in truth, as for `neighbor_graph`. On the map it is the Euclidean distance.

    Returns
    -------
    NDArray
        (n,) float32 in [0, 1]: 1 - missing / k. Of neighbors on the map that are as near in truth as the k-th, as many
        count as there are such among the k. A shuffled map keeps k / (n - 1) on average. Where the neighbor graph comes
        from an index, neighbors that the index misses do not count.

    Raises
    ------
    InputError
        `xy` does not fit the embeddings, or as `neighbor_graph`.
    """
    k, xy = count(k, "k"), positions(embeddings, xy)
    if len(xy) == 1:
        return np.ones(1, np.float32)
    lists = Neighborhoods.of(embeddings, np.arange(len(xy)), map_neighbors(xy, k), metric=metric)
    return lists.hits.mean(axis=1, dtype=np.float32)


def _per_point(
    embeddings: Embeddings, xy: "NDArray[np.floating]", rows: "NDArray[np.int64]", k: int, metric: Metric
) -> "dict[str, NDArray[np.floating]]":
    """Return the columns of `Faithfulness.frame` for some points."""
    from tqdm.auto import tqdm

    m, n = len(rows), len(xy)
    if k == 0:
        return {"kept": np.ones(m), "false": np.zeros(m, int), "missing": np.zeros(m, int)} | dict.fromkeys(
            MEASURES[1:], np.ones(m)
        )
    listed = map_neighbors(xy, k, rows=rows)
    lists = Neighborhoods.of(embeddings, rows, listed, metric=metric, exact=True)
    searcher = nearest_rows(embeddings, metric)
    penalties = np.empty((2, m))
    with tqdm(total=m, desc="faithfulness", unit="point", delay=2, leave=False) as bar:
        for start in range(0, m, _BLOCK):
            part = slice(start, start + _BLOCK)
            near, missing = listed[part], lists.missing[part]
            ranks = searcher.ranks(rows[part], near)
            penalties[0, part] = np.where(lists.hits[part], 0, ranks - k).sum(axis=1)
            ranks = map_ranks(xy, rows[part], lists.true[part])
            penalties[1, part] = np.where(missing, ranks - k, 0).sum(axis=1)
            bar.update(len(near))
    trustworthiness, continuity = 1 - penalties / max(_worst_sum(n, k), 1)
    return {
        "kept": lists.hits.mean(axis=1),
        "false": (~lists.hits).sum(axis=1),
        "missing": lists.missing.sum(axis=1),
        "trustworthiness": trustworthiness,
        "continuity": continuity,
    }


def _worst_sum(n: int, k: int) -> float:
    """Return the largest possible sum of rank - k over one point's false neighbors."""
    most = min(k, n - 1 - k)  # so many can be false, and have the last ranks
    return most * (n - 1 - k) - most * (most - 1) / 2


def _by_chance(n: int, k: int) -> float:
    """Return the mean trustworthiness, and continuity, of a shuffled map: ranks are uniform over 1 to n - 1."""
    farther = n - 1 - k
    if k == 0 or farther == 0:
        return 1.0
    return 1 - k * farther * (farther + 1) / (2 * (n - 1)) / _worst_sum(n, k)


def _mean(values: "NDArray[np.floating]", share: float) -> tuple[float, float, float]:
    """Return the mean, and the ends of its 95% interval where the values are a share below 1 of all."""
    from scipy.special import stdtrit

    mean, m = float(values.mean()), len(values)
    if share == 1:
        return mean, mean, mean
    half = stdtrit(m - 1, 0.975) * values.std(ddof=1) / np.sqrt(m) * np.sqrt(1 - share)
    return mean, float(max(mean - half, 0)), float(min(mean + half, 1))


def positions(embeddings: Embeddings, xy: Any) -> "NDArray[np.floating]":
    """Return a map of embeddings as an array (n, 2); InputError where the two do not belong together.

    A DataFrame with their ids as index may be in any order.
    """
    require_embeddings(embeddings, "A map is compared with")
    n = len(embeddings.vectors)
    if n == 0:
        raise InputError("There are no vectors, so no map of them to check. embeddings.failures lists what failed.")
    if isinstance(xy, pd.DataFrame):
        rows = xy.index.get_indexer(embeddings.frame.index) if xy.index.is_unique else np.full(n, -1)
        if (rows >= 0).any():
            if len(xy) != n or (rows < 0).any():
                raise InputError(
                    f"xy has {len(xy)} points, {(rows >= 0).sum()} of them among these {n} images; expected all of "
                    "them. Give positions of the same images."
                )
            xy = xy.iloc[rows]
        xy = xy.to_numpy()
    expected = f"expected ({n}, 2) finite positions, one for every vector."
    try:
        array = np.asarray(xy)
        if array.dtype.kind == "O":
            array = array.astype(np.float64)
    except (TypeError, ValueError, RuntimeError) as error:  # a RuntimeError: a tensor on a GPU, or with gradients
        raise InputError(f"xy is no array of numbers ({error}); {expected}") from error
    if array.dtype.kind not in "iuf":
        raise InputError(f"xy holds {array.dtype}; {expected}")
    if array.shape != (n, 2) or not np.isfinite(array).all():
        raise InputError(f"xy has shape {array.shape}; {expected}")
    return array


def _chosen(
    embeddings: Embeddings, ids: str | int | Iterable[str | int] | None, sample: int | None, seed: int
) -> "tuple[NDArray[np.int64], str]":
    """Return the rows to check, in order, and how they were chosen."""
    n = len(embeddings.vectors)
    if ids is not None:
        rows = sorted(set(embeddings.rows(ids)))
        if not rows:
            raise InputError("ids is empty; give the ids of the points to check, or leave it out for a sample.")
        return np.array(rows, np.int64), "selection"
    if sample is not None and (isinstance(sample, bool) or not isinstance(sample, int | np.integer) or sample < 2):
        raise InputError(f"sample is {sample!r}; expected a whole number of points, 2 or more, or None for all.")
    require_seed(seed)
    if sample is None or sample >= n:
        return np.arange(n), "all"
    return np.sort(np.random.default_rng(seed).choice(n, sample, replace=False)), "sample"
