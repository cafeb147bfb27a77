"""New images on a map that is there: where each lies, who is near, and how unusual it is among the mapped ones."""

import html
from collections.abc import Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd

from .embeddings import FAILURE_COLUMNS, Embeddings, require_encoder
from .errors import InputError, closest
from .extraction import embed
from .figures import placed_figure
from .graph import neighbor_graph
from .images import ImageSet
from .knn import beside, neighbors_of
from .layout import Layout
from .queries import Query, require_same, resolved
from .unusualness import far, own_distances, percentiles

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from numpy.typing import NDArray

_UNUSUAL = 95  # percentile that a summary counts above; of images like the members 5% are
_ROUNDING = 1e-5  # of a vector's length: an image alone and in a batch are up to 3e-6 apart, as sums have another order
_PAIRS = 2**22  # distances between neighbors' points at a time

_scatters: "WeakKeyDictionary[Layout, float]" = WeakKeyDictionary()


@dataclass(frozen=True, eq=False, repr=False)
class Placement:
    """New images on a map.

    Attributes
    ----------
    xy
        (m, 2) float32, in the units of the map.
    frame
        One row an image, in the order given:

        query: its id, path, "image" or "vector"; in a list, names from outside are numbered where they are taken,
        "vector (2)".
        x, y: its position.
        unusualness: percentile in [0, 100] of its distance among the members' own; 50 is expected of an image like the
        members, whatever the metric. NaN where the map has a single point.
        distance: to its nearest member, 1 - cosine or Euclidean: what unusualness goes by.
        nearest: id of that member; and, for "cosine", its similarity.
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
    notes
        What else is to be known of these images, in sentences that `summary` repeats: how many equal a member, or have
        no direction, or are vectors of an encoder that nobody knows.
    """

    xy: "NDArray[np.float32]"
    frame: pd.DataFrame
    neighbors: pd.DataFrame
    rows: "NDArray[np.int64]"
    failures: pd.DataFrame
    layout: Layout
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """What was placed and how unusual it is, beside what is expected of images like the members."""
        n, m = len(self.layout), len(self)
        failed = (f"{len(self.failures)} gave no vector: see failures.",) if len(self.failures) else ()
        text = f"{m} image{'s' if m != 1 else ''} placed among {n}"
        values = self.frame["unusualness"]
        if m == 1 and values.notna().all():
            share = f"{values.iloc[0]:.1f}%"
            text += f", {share} of which lie nearer to their own nearest (of an image like them 50% is expected)"
        elif values.notna().any():
            from scipy.stats import binomtest

            above = int((values > _UNUSUAL).sum())
            low, high = binomtest(above, m).proportion_ci(method="wilson")
            text += (
                f": median unusualness {values.median():.0f} (50 expected of images like them); {above / m:.0%} "
                f"are beyond {_UNUSUAL} ({100 - _UNUSUAL}% expected; 95% interval {low:.0%} to {high:.0%})"
            )
        return " ".join((f"{text}.", *self.notes, *failed))

    def figure(self, color: "str | pd.Series | None" = None, *, neighbors_of: str | int | None = None) -> "go.Figure":
        """Return the map with the new images on it as marks, filled where they are beyond the 95th percentile.

        Parameters
        ----------
        color
            A column of the map's frame for its points, or a Series of values by id; by default the label where there
            are groups of one, else they are gray. Or another column of `frame`, such as "unusualness": it colors the
            marks, on a gray map.
        neighbors_of
            A query or its row in `frame`: lines lead from its position to its nearest members, dashed to those that are
            missing among its k nearest on the map. Rings are around the false neighbors: near on the map only.

        Raises
        ------
        InputError
            There is no such query, or as `Layout.figure`.
        """
        center, lines, rings = None, {}, {}
        if neighbors_of is not None:
            center = self._row(neighbors_of)
            true, near = self._true_neighbors(center)
            lines = {"true neighbor, kept": true[near], "true neighbor, missing": true[~near]}
            rings = {"false neighbor, near on the map only": self._false_neighbors(center, true)}
        unusual, member = (self.frame["unusualness"] > _UNUSUAL).to_numpy(), self.rows >= 0
        marks = {
            f"new, up to {_UNUSUAL}": ~unusual & ~member,
            f"new, unusualness beyond {_UNUSUAL}": unusual & ~member,
            "member": member,
        }
        return placed_figure(
            self.layout.frame, self.frame.set_index("query"), self.summary, color=color, marks=marks, center=center,
            lines=lines, rings=rings,
        )  # fmt: skip

    def _row(self, query: str | int) -> int:
        """Return the row of a query, the first of that name, or of a row; InputError where there is none."""
        if isinstance(query, int | np.integer) and not isinstance(query, bool):
            if not 0 <= query < len(self):
                raise InputError(f"There is no row {query}: rows go from 0 to {len(self) - 1}.")
            return int(query)
        if not isinstance(query, str):
            raise InputError(f"neighbors_of is of type {type(query).__name__}; expected one query or one row.")
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
        # By position: an image of a new set may have the id of a member.
        k = self.layout.k
        true = self.layout.frame.index.get_indexer(self.neighbors["id"].iloc[row * k : (row + 1) * k])
        if not len(true):
            return true, np.zeros(0, bool)
        away = np.square(self.layout.xy.astype(np.float64) - self.xy[row]).sum(axis=1)
        others = np.delete(away, self.rows[row]) if self.rows[row] >= 0 else away
        return true, away[true] <= np.partition(others, len(true) - 1)[len(true) - 1]

    def _false_neighbors(self, row: int, true: "NDArray[np.int64]") -> "NDArray[np.int64]":
        """Return which of the k members nearest on the map are not among the nearest in truth."""
        away = np.square(self.layout.xy.astype(np.float64) - self.xy[row]).sum(axis=1)
        if self.rows[row] >= 0:
            away[self.rows[row]] = np.inf
        return np.setdiff1d(np.argsort(away, kind="stable")[: len(true)], true)

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
        lies where the map has it. Everything else counts as new, whatever its id: an image that the map has already
        finds itself, lies on it, and is more usual than any; `summary` counts such images.

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
        A path is no readable image; of an ImageSet or a list, such files are in `failures` instead.

    Notes
    -----
    **Unusualness.** a(i) is the distance of member i to the nearest other one, s that of the image to the nearest
    member: 1 - cosine or Euclidean, in double precision. The percentile is 100 (#{a < s} + #{a = s} / 2) / n; a member
    is compared with the n - 1 others. The distance to the k-th nearest is an old score of outliers (Angiulli and
    Pizzuti, 2002) and tells images that a network was not trained on from others (Sun et al., 2022); here k is 1, so
    that `nearest` shows what the number is about. Counted among the members' own it is the conformal view of an
    anomaly (Laxhammar and Falkman, 2015): for an image drawn as the members were, (1 + #{a >= s}) / (n + 1) is a
    p-value, and the percentile about uniform. About, because members are scored among n - 1 others and the image among
    n. n members resolve steps of 100 / n, and a percentile p has a standard error of about sqrt(p (100 - p) / n).

    It is about the network as much as about the image: images that the network cannot tell from the members are usual,
    whatever they show.

    **Position.** The k nearest weigh as in UMAP's own transform, exp(-d / sigma) with sigma such that the weights of
    all but the first add up to log2 k; where some equal the image, these alone count. Neighbors may lie on several
    islands, and their mean on none. So the mean is taken over the shortest half (Rousseeuw and Leroy, 1988): over those
    in the smallest circle around one of them that holds half of the weight.

    References
    ----------
    Sun, Ming, Zhu and Li, Out-of-distribution detection with deep nearest neighbors, ICML 2022.
    Angiulli and Pizzuti, Fast outlier detection in high dimensional spaces, PKDD 2002.
    Laxhammar and Falkman, Inductive conformal anomaly detection for sequential detection of anomalous sub-trajectories,
    Annals of Mathematics and Artificial Intelligence 74, 2015.
    McInnes, Healy and Melville, UMAP: Uniform Manifold Approximation and Projection, arXiv:1802.03426.
    Rousseeuw and Leroy, A robust scale estimator based on the shortest half, Statistica Neerlandica 42, 1988.
    """
    embeddings = _mapped(layout)
    queries, metadata, failures = _asked(embeddings, images)
    k, metric = layout.k, layout.provenance["metric"]
    table = neighbors_of(embeddings, queries, max(k, 1), metric=metric)
    own = np.array([query.row for query in queries], np.int64)
    m, has_any = len(queries), (own < 0) | (k > 0)
    scores = np.full((m, max(k, 1)), np.nan)
    scores[has_any] = table[table.columns[3]].to_numpy().reshape(-1, max(k, 1))  # similarities, or distances
    distances = far(scores, metric)
    lengths = np.array([np.linalg.norm(query.vector.astype(np.float64)) for query in queries])
    # Of vectors that are apart by r times their length, 1 - cosine is r**2 / 2 at most.
    rounding = _ROUNDING**2 / 2 if metric == "cosine" else _ROUNDING * lengths
    equal = distances <= np.broadcast_to(rounding, m)[:, None]
    if k == 0:  # a map of one point: everything lies on it, and there is nothing to compare with
        xy = np.repeat(layout.xy, m, axis=0)
        unusualness = spread = np.full(m, np.nan)
    else:
        points = layout.xy[embeddings.frame.index.get_indexer(table["id"]).reshape(-1, k)]
        xy = _positions(points, distances, equal)
        xy[own >= 0] = layout.xy[own[own >= 0]]
        unusualness = percentiles(distances[:, 0], own_distances(embeddings, metric), own >= 0)
        spread = _scatter(xy, points) / (_usual_scatter(layout) or np.nan)
    nearest = np.full(m, None, object)
    nearest[has_any] = table.loc[table["rank"] == 1, "id"].to_numpy()
    found = {"distance": distances[:, 0], "nearest": pd.Series(nearest, dtype=object)}
    if metric == "cosine":
        found["similarity"] = scores[:, 0]
    names = [query.name for query in queries]
    frame = pd.DataFrame({"query": names, "x": xy[:, 0], "y": xy[:, 1], "unusualness": unusualness})
    frame = frame.assign(**found, spread=spread)
    pointless = (lengths == 0) & (metric == "cosine")
    notes = _notes(int((equal[:, 0] & (own < 0)).sum()), int(pointless.sum()), sum(query.bare for query in queries))
    frame = frame if metadata is None else beside(frame, metadata)
    return Placement(xy, frame, table, own, failures, layout, notes)


def _notes(equal: int, pointless: int, bare: int) -> tuple[str, ...]:
    """Return what is to be known of so many new images, a sentence each."""
    notes = []
    if equal:
        notes.append(
            f"{equal} of these equal{'s' * (equal == 1)} a member: ask by id to judge members among the others."
        )
    if pointless:
        notes.append(f"{pointless} of these {'is' if pointless == 1 else 'are'} zero: no direction, cosine 0 to all.")
    if bare:
        notes.append("Nothing says that the vectors are of the map's encoder.")
    return tuple(notes)


def _usual_scatter(layout: Layout) -> float:
    """Return how far the median member is from its neighbors on the map; kept as long as the map."""
    if layout not in _scatters:
        graph = neighbor_graph(layout.embeddings, layout.k, metric=layout.provenance["metric"])
        _scatters[layout] = float(np.median(_scatter(layout.xy, layout.xy[graph.indices])))
    return _scatters[layout]


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
        require_same(embeddings, encoder.fingerprint)  # before the work, not after it
        images = embed(images, encoder)
    if not isinstance(images, Embeddings):
        unread: list[tuple[str, str, str]] = []
        queries = resolved(embeddings, images, unread=unread)
        failures = pd.DataFrame(unread, columns=FAILURE_COLUMNS)
        _require_any(queries, failures)
        return queries, None, failures
    fingerprint = images.provenance.get("fingerprint")
    require_same(embeddings, fingerprint)
    _require_any(images, images.failures)
    d, expected = images.vectors.shape[1], embeddings.vectors.shape[1]
    if d != expected:
        raise InputError(
            f"The images have vectors ({d},), the map's ({expected},). Embed them with the map's encoder and layer: "
            "vk.place(layout, images) does where images is an ImageSet."
        )
    bare = fingerprint is None or embeddings.provenance.get("fingerprint") is None
    queries = [Query(id, images.vectors[row], bare=bare) for row, id in enumerate(images.ids)]
    return queries, images.frame, images.failures


def _require_any(found: Sized, failures: pd.DataFrame) -> None:
    if not len(found):
        why = f" The first: {failures['reason'].iloc[0]}" if len(failures) else ""
        raise InputError(f"None of the images gave a vector, so there is nothing to place.{why}")


def _positions(
    points: "NDArray[np.float32]", distances: "NDArray[np.float64]", equal: "NDArray[np.bool_]"
) -> "NDArray[np.float32]":
    """Return where images lie (m, 2): of their neighbors, nearest first, points (m, k, 2), distances, equality."""
    m, k = distances.shape
    weights = np.where(equal.any(axis=1, keepdims=True), equal, _memberships(distances))
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


def _memberships(d: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """Return how much each neighbor counts, (m, k) in [0, 1], of the distances."""
    target = np.log2(d.shape[1])
    low, high, scale = np.zeros(len(d)), np.full(len(d), np.inf), np.ones(len(d))
    for _ in range(64):
        total = np.exp(-d[:, 1:] / scale[:, None]).sum(axis=1)
        high = np.where(total > target, scale, high)
        low = np.where(total > target, low, scale)
        scale = np.where(np.isinf(high), 2 * scale, (low + high) / 2)
    smallest = np.maximum(1e-3 * d.mean(axis=1), np.finfo(np.float64).tiny)  # as UMAP has it
    return np.exp(-d / np.maximum(scale, smallest)[:, None])


def _scatter(xy: "NDArray[np.float32]", points: "NDArray[np.float32]") -> "NDArray[np.float64]":
    """Return how far positions (m, 2) are from points (m, k, 2) on average, (m,)."""
    return np.linalg.norm((points - xy[:, None]).astype(np.float64), axis=2).mean(axis=1)
