"""New images on a map that is there: where each lies, who is near, and how unusual it is among the mapped ones."""

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd

from .embeddings import FAILURE_COLUMNS, Embeddings, require_encoder
from .errors import InputError, closest
from .extraction import embed
from .figures import placed_figure
from .graph import distances_of, neighbor_graph
from .images import ImageSet
from .knn import beside, neighbors_of
from .layout import Layout
from .queries import Query, resolved
from .unusualness import OwnDistances

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from numpy.typing import NDArray

_UNUSUAL = 95  # percentile that a summary counts above; of images like the members 5% are
_JUDGES = 5  # nearest members that say how unusual an image is: more of them told photos of other kinds less well
_PAIRS = 2**22  # distances between neighbors' points at a time

_known: "WeakKeyDictionary[Layout, tuple[OwnDistances, float]]" = WeakKeyDictionary()


@dataclass(frozen=True, eq=False, repr=False)
class Placement:
    """New images on a map.

    Attributes
    ----------
    xy
        (m, 2) float32, in the units of the map.
    frame
        One row an image, in the order given:

        query: its id, path, "image" or "vector"; images from outside that share a name are numbered, "vector (2)".
        x, y: its position.
        unusualness: percentile in [0, 100] of its distance among the members' own; 50 is expected of an image like the
        members, whatever the metric. NaN where the map has a single point.
        mean_distance: to its 5 nearest members, as `place` defines it.
        nearest: id of the nearest member; and its similarity, or distance, as in `neighbors`.
        spread: how far from its position its k nearest members lie on the map, on average, as a multiple of the same
        for the median member: about 1 where the position can be believed as much as others on this map, large where the
        nearest members lie on several islands. NaN where all members lie on their neighbors.

        Then the columns of the new set's frame where one was given (a name that is taken gets a "_").
    neighbors
        The k nearest members of each image, exact, as `vizkit.neighbors` gives them.
    rows
        (m,) int64: the row on the map of an image that was asked by id or row; -1 for a new one.
    failures
        Images that gave no vector, and so have no place: columns id, path, reason.
    layout
        The map.
    """

    xy: "NDArray[np.float32]"
    frame: pd.DataFrame
    neighbors: pd.DataFrame
    rows: "NDArray[np.int64]"
    failures: pd.DataFrame
    layout: Layout

    @property
    def summary(self) -> str:
        """What was placed and how unusual it is, beside what is expected of images like the members."""
        n, m = len(self.layout), len(self)
        failed = f" {len(self.failures)} gave no vector: see failures." if len(self.failures) else ""
        placed = f"{m} image{'s' if m != 1 else ''} placed among {n}"
        values = self.frame["unusualness"]
        if values.isna().all():
            return f"{placed}.{failed}"
        if m == 1:
            return (
                f"{placed}, {values.iloc[0]:.1f}% of which lie nearer to their own neighbours (of an image like them "
                f"50% is expected).{failed}"
            )
        from scipy.stats import binomtest

        above = int((values > _UNUSUAL).sum())
        low, high = binomtest(above, m).proportion_ci(method="wilson")
        return (
            f"{placed}: median unusualness {values.median():.0f} (50 expected of images like them); {above / m:.0%} "
            f"are beyond {_UNUSUAL} ({100 - _UNUSUAL}% expected; 95% interval {low:.0%} to {high:.0%}).{failed}"
        )

    def figure(self, color: str | None = None, *, neighbors_of: str | None = None) -> "go.Figure":
        """Return the map with the new images on it as large marks, filled where they are beyond the 95th percentile.

        Parameters
        ----------
        color
            A column of the map's frame for its points; by default the label where there is one, else they are gray.
        neighbors_of
            A query: lines lead from its position to its nearest members, dashed to those that are missing among its k
            nearest on the map.

        Raises
        ------
        InputError
            There is no such column, or no such query.
        """
        center, lines = None, {}
        if neighbors_of is not None:
            center = self._row(neighbors_of)
            true, near = self._true_neighbors(center)
            lines = {"true neighbor, kept": true[near], "true neighbor, missing": true[~near]}
        unusual = (self.frame["unusualness"] > _UNUSUAL).to_numpy()
        marks = {f"new, up to {_UNUSUAL}": ~unusual, f"new, unusualness beyond {_UNUSUAL}": unusual}
        placed = self.frame.set_index("query")
        return placed_figure(
            self.layout.frame, placed, self.summary, color=color, marks=marks, center=center, lines=lines
        )

    def _row(self, query: str) -> int:
        """Return the row of a query, the first of that name; InputError where there is none."""
        rows = np.flatnonzero(self.frame["query"] == query)
        if not len(rows):
            known = list(self.frame["query"])
            more = ", ..." if len(known) > 5 else ""
            raise InputError(
                f"No query {query!r} was placed; there are {', '.join(map(repr, known[:5]))}{more}."
                f"{closest(str(query), known)}"
            )
        return int(rows[0])

    def _true_neighbors(self, row: int) -> "tuple[NDArray[np.int64], NDArray[np.bool_]]":
        """Return the rows of an image's nearest members, and which are no farther on the map than the k-th point."""
        listed = self.neighbors.loc[self.neighbors["query"] == self.frame["query"].iloc[row], "id"].unique()
        true = self.layout.frame.index.get_indexer(listed)
        if not len(true):
            return true, np.zeros(0, bool)
        away = np.square(self.layout.xy.astype(np.float64) - self.xy[row]).sum(axis=1)
        others = np.delete(away, self.rows[row]) if self.rows[row] >= 0 else away
        return true, away[true] <= np.partition(others, len(true) - 1)[len(true) - 1]

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        return f"<Placement: {self.summary}>"

    def _repr_html_(self) -> str:
        # pandas escapes what a table holds; ids and labels come from strangers.
        return f"<p><b>Placement.</b> {html.escape(self.summary)}</p>{self.frame.to_html(max_rows=12, index=False)}"


def place(layout: Layout, images: Any) -> Placement:
    """Place images on a map that is there, and say how unusual each is among the mapped ones.

    Neighbors and unusualness come from the vectors in all their dimensions; only the position is of the plane. The map
    itself does not change, and the same images get the same answer, alone or among others.

    Parameters
    ----------
    layout
        A map of n images, from `vizkit.project`.
    images
        m of them: an ImageSet, which goes through the map's own encoder (with progress and cache); Embeddings by the
        same encoder; or what `vizkit.neighbors` takes: an id, a row, an image (PIL, path or array), a float vector
        (d,), or a list of these. An id or a row means a member of the map, which is left out of its own neighbors and
        lies where the map has it. Everything else counts as new, whatever its id: a vector that the map has already
        finds itself, and lies on it.

    Returns
    -------
    Placement

    Raises
    ------
    InputError
        `layout` is no Layout, the vectors are another encoder's, none of the images gave a vector, or as `neighbors`.
    MissingEncoderError
        There are images, and the map's embeddings have no encoder.
    ImageReadError
        A path is no readable image; an ImageSet lists such files in `failures` instead.

    Notes
    -----
    **Unusualness.** a(i) is the mean distance of member i to its 5 nearest other members (or k, where the map has a
    smaller k), s that of the image to its 5 nearest members: the score of Angiulli and Pizzuti (2002). The percentile
    is 100 (#{a < s} + #{a = s} / 2) / n, ties (to six decimals) by half; a member is compared with the n - 1 others. It
    is the conformal view of an anomaly (Laxhammar and Falkman, 2015): for an image drawn as the members were,
    (1 + #{a >= s}) / (n + 1) is a p-value, and the percentile about uniform. About, because members are scored among
    n - 1 others and the image among n. n members resolve steps of 100 / n, and a percentile p has a standard error of
    about sqrt(p (100 - p) / n).

    With metric "cosine" the distance leaves out the direction that all members share, and the nearest are those by
    plain cosine all the same: see `vizkit.unusualness.OwnDistances`.

    **Position.** The k nearest weigh as in UMAP's own transform, exp(-d / sigma) with sigma such that the weights of
    all but the first add up to log2 k; where some are at distance 0, these alone count. Neighbors may lie on several
    islands, and their mean on none. So the mean is taken over the shortest half (Rousseeuw and Leroy, 1988): over those
    in the smallest circle around one of them that holds half of the weight.

    References
    ----------
    McInnes, Healy and Melville, UMAP: Uniform Manifold Approximation and Projection, arXiv:1802.03426.
    Rousseeuw and Leroy, A robust scale estimator based on the shortest half, Statistica Neerlandica 42, 1988.
    Angiulli and Pizzuti, Fast outlier detection in high dimensional spaces, PKDD 2002.
    Laxhammar and Falkman, Inductive conformal anomaly detection for sequential detection of anomalous sub-trajectories,
    Annals of Mathematics and Artificial Intelligence 74, 2015.
    """
    embeddings = _mapped(layout)
    queries, metadata, failures = _asked(embeddings, images)
    k, metric = layout.k, layout.provenance["metric"]
    table = neighbors_of(embeddings, queries, max(k, 1), metric=metric)
    own = np.array([query.row for query in queries], np.int64)
    near = table.columns[3]  # "similarity", or "distance"
    first = pd.DataFrame({"query": [query.name for query in queries], "nearest": None, near: np.nan})
    has_any = (own < 0) | (k > 0)
    first.loc[has_any, "nearest"] = table.loc[table["rank"] == 1, "id"].to_numpy()
    first.loc[has_any, near] = table.loc[table["rank"] == 1, near].to_numpy()
    if k == 0:  # a map of one point: everything lies on it, and there is nothing to compare with
        xy = np.repeat(layout.xy, len(queries), axis=0)
        distance = unusualness = spread = np.full(len(queries), np.nan)
    else:
        rows = embeddings.frame.index.get_indexer(table["id"]).reshape(-1, k)
        # As float32, as the graph keeps them: equal vectors get equal distances, and ties stay ties.
        scores = table[near].to_numpy(np.float32).reshape(-1, k)
        xy = _positions(layout.xy[rows], scores if near == "distance" else distances_of(scores, metric))
        xy[own >= 0] = layout.xy[own[own >= 0]]
        usual, scatter = _usual(layout)
        distance = usual.of(np.stack([query.vector for query in queries]), rows[:, : usual.k], scores[:, : usual.k])
        distance[own >= 0] = usual.members[own[own >= 0]]
        unusualness = usual.percentiles(distance, own >= 0)
        spread = _scatter(xy, layout.xy[rows]) / (scatter or np.nan)
    frame = first.assign(x=xy[:, 0], y=xy[:, 1], unusualness=unusualness, mean_distance=distance, spread=spread)
    frame = frame[["query", "x", "y", "unusualness", "mean_distance", "nearest", near, "spread"]]
    return Placement(xy, frame if metadata is None else beside(frame, metadata), table, own, failures, layout)


def _usual(layout: Layout) -> tuple[OwnDistances, float]:
    """Return how far members are from their neighbors in truth, and how far the median one is on the map."""
    if layout not in _known:
        metric = layout.provenance["metric"]
        graph = neighbor_graph(layout.embeddings, layout.k, metric=metric)
        scatter = float(np.median(_scatter(layout.xy, layout.xy[graph.indices])))
        _known[layout] = OwnDistances(layout.embeddings, min(_JUDGES, layout.k), metric), scatter
    return _known[layout]


def _mapped(layout: Layout) -> Embeddings:
    """Return the embeddings behind a map, or raise InputError."""
    if not isinstance(layout, Layout):
        raise InputError(
            f"The map is given as {type(layout).__name__}; expected a Layout: layout = vk.project(embeddings), then "
            "vk.place(layout, images)."
        )
    return layout.embeddings


def _asked(embeddings: Embeddings, images: Any) -> tuple[list[Query], pd.DataFrame | None, pd.DataFrame]:
    """Return what is asked, what is known of it where it is a set, and what failed."""
    if isinstance(images, ImageSet):
        encoder = require_encoder(embeddings, "Placing images that are not on the map")
        _require_same(embeddings, encoder.fingerprint)  # before the work, not after it
        images = embed(images, encoder)
    if not isinstance(images, Embeddings):
        return _numbered(resolved(embeddings, images)), None, pd.DataFrame(columns=FAILURE_COLUMNS)
    _require_same(embeddings, images.provenance.get("fingerprint"))
    if not len(images):
        why = f" The first: {images.failures['reason'].iloc[0]}" if len(images.failures) else ""
        raise InputError(f"None of the images gave a vector, so there is nothing to place.{why}")
    d, expected = images.vectors.shape[1], embeddings.vectors.shape[1]
    if d != expected:
        raise InputError(
            f"The images have vectors ({d},), the map's ({expected},). Embed them with the map's encoder and layer: "
            "vk.place(layout, images) does where images is an ImageSet."
        )
    vectors = images.vectors
    return [Query(str(id), vectors[row]) for row, id in enumerate(images.ids)], images.frame, images.failures


def _require_same(embeddings: Embeddings, fingerprint: str | None) -> None:
    """Raise InputError where the map's vectors are known to be of another encoder than this fingerprint's."""
    recorded = embeddings.provenance.get("fingerprint")
    if recorded is not None and fingerprint is not None and recorded != fingerprint:
        raise InputError(
            f"The map's vectors were made by the encoder {recorded}, those of the images by {fingerprint}: their "
            "distances to each other mean nothing. Use the same weights, layer, pooling and preprocess for both "
            "(encoder.card() names them), or map the old images anew."
        )


def _numbered(queries: list[Query]) -> list[Query]:
    """Give images from outside names of their own: the second "vector" is "vector (2)"."""
    seen: dict[str, int] = {}
    result = []
    for query in queries:
        times = seen[query.name] = seen.get(query.name, 0) + 1
        again = query.row < 0 and times > 1
        result.append(query._replace(name=f"{query.name} ({times})") if again else query)
    return result


def _positions(points: "NDArray[np.float32]", distances: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """Return where images lie (m, 2), of their neighbors' points (m, k, 2) and distances (m, k), nearest first."""
    m, k = distances.shape
    weights = _memberships(distances)
    xy = np.empty((m, 2), np.float32)
    step = max(1, _PAIRS // k**2)
    for start in range(0, m, step):
        part = slice(start, start + step)
        inside = weights[part] * _closest_half(points[part], weights[part])
        xy[part] = (inside[..., None] * points[part]).sum(axis=1) / inside.sum(axis=1)[:, None]
    return xy


def _closest_half(points: "NDArray[np.float32]", weights: "NDArray[np.float64]") -> "NDArray[np.bool_]":
    """Return which points (m, k) lie in the smallest circle around one of them that holds half of the weight."""
    m, k = weights.shape
    apart = np.linalg.norm(points[:, :, None] - points[:, None], axis=-1)
    order = np.argsort(apart, axis=2, kind="stable")
    held = np.cumsum(np.take_along_axis(np.broadcast_to(weights[:, None], apart.shape), order, axis=2), axis=2)
    last = (held < weights.sum(axis=1)[:, None, None] / 2).sum(axis=2).clip(max=k - 1)
    radii = np.take_along_axis(np.sort(apart, axis=2), last[..., None], axis=2)[..., 0]
    center = radii.argmin(axis=1)
    row = np.arange(m)
    return apart[row, center] <= radii[row, center][:, None]


def _memberships(distances: "NDArray[np.float32]") -> "NDArray[np.float64]":
    """Return how much each neighbor counts, (m, k) in [0, 1]; where some are at distance 0, these alone count."""
    d = distances.astype(np.float64)
    target = np.log2(d.shape[1])
    low, high, scale = np.zeros(len(d)), np.full(len(d), np.inf), np.ones(len(d))
    for _ in range(64):
        total = np.exp(-d[:, 1:] / scale[:, None]).sum(axis=1)
        high = np.where(total > target, scale, high)
        low = np.where(total > target, low, scale)
        scale = np.where(np.isinf(high), 2 * scale, (low + high) / 2)
    smallest = np.maximum(1e-3 * d.mean(axis=1), np.finfo(np.float64).tiny)  # as UMAP has it
    weights = np.exp(-d / np.maximum(scale, smallest)[:, None])
    equal = distances == 0
    return np.where(equal.any(axis=1)[:, None], equal, weights)


def _scatter(xy: "NDArray[np.float32]", points: "NDArray[np.float32]") -> "NDArray[np.float64]":
    """Return how far positions (m, 2) are from points (m, k, 2) on average, (m,)."""
    return np.linalg.norm((points - xy[:, None]).astype(np.float64), axis=2).mean(axis=1)
