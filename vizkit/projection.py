"""Vectors to a map: `project`, and the same as it comes about, `unfolding`."""

import hashlib
import time
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from . import umap_layout
from .alignment import turned
from .embeddings import Embeddings, require_embeddings
from .errors import InputError, closest
from .faithfulness import TRUE_NEIGHBORS, positions, share_kept
from .graph import neighbor_graph
from .layout import Layout, frame_of
from .nearest import Metric
from .store import versions

if TYPE_CHECKING:
    from numpy.typing import NDArray

METHODS = ("umap", "pca")
DISTANCES = ("cosine", "euclidean")  # metrics that a map can be made of

# A map that starts from another's positions has its large moves behind it: measured on digits (1,797) and on generated
# vectors (5,000), a third of the epochs at a quarter of the step kept as many neighbors as a fit of its own.
_RESUMED_PART = 3
_RESUMED_STEP = 0.25
_FRAME_SECONDS = 0.1

_starts: "WeakKeyDictionary[Embeddings, NDArray[np.float32]]" = WeakKeyDictionary()


class Frame(NamedTuple):
    """A map on its way.

    Attributes
    ----------
    xy
        (n, 2) float32, finite: a copy.
    done
        From 0, where UMAP starts, to 1, the map.
    """

    xy: "NDArray[np.float32]"
    done: float


def project(
    embeddings: Embeddings,
    *,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    metric: Metric = "cosine",
    densmap: bool = False,
    seed: int = 0,
    method: Literal["umap", "pca"] = "umap",
    align_to: Layout | None = None,
) -> Layout:
    """Place every vector on a plane, near what it is near to.

    The same vectors, arguments, seed, library versions and processor give the same bytes. The first UMAP in a process
    waits for its import, on a fresh install also for its kernels to compile (up to a minute, once); in a notebook
    `embed` starts both ahead. Ctrl-C stops it between two epochs; the neighbor graph is kept for the next.

    Parameters
    ----------
    embeddings
        n vectors, 1 or more.
    n_neighbors
        Size of the neighborhoods that UMAP draws, the point itself included, 2 or more; few show detail, many the
        whole. Where there are fewer other points, all of them. `kept` asks for 15 true neighbors whatever this is, so
        that maps can be compared.
    min_dist
        How close UMAP may pack points, in [0, 1] units of the map.
    metric
        "cosine" or "euclidean": what near means, for UMAP and for `kept`.
    densmap
        Whether groups that are wide in truth are wide on the map (densMAP). Costs a little faithfulness and half the
        time again.
    seed
        Seed of UMAP, 0 to 2^32 - 1. PCA has no random choice.
    method
        "umap", on the exact neighbor graph that `neighbors` shares, starting from PCA; or "pca" alone: at once, but it
        keeps few neighborhoods. n_neighbors, min_dist and seed do not apply to PCA, and densmap is refused.
    align_to
        A layout of the same images, of another layer, encoder or seed: UMAP starts from its positions, takes fewer
        epochs (as many as alone where that one is PCA, or was stopped), and the map is turned onto it, so that the two
        can be compared by eye.

    Returns
    -------
    Layout
        Where all vectors are equal, all points are in one place. Up to three points, and equal ones, are placed by PCA
        whatever the method, and `provenance` says so.

    Raises
    ------
    InputError
        There are no vectors, or an argument is none of the above.

    References
    ----------
    McInnes, Healy and Melville, UMAP: Uniform Manifold Approximation and Projection, arXiv:1802.03426.
    """
    from tqdm.auto import tqdm

    plan = _Plan(embeddings, n_neighbors, min_dist, metric, densmap, seed, method, align_to)
    if plan.epochs and not umap_layout.is_warm():
        with tqdm(desc="UMAP loads; where it is new, it compiles first", bar_format="{desc}", leave=False):
            umap_layout.warm_up()
    moves = tqdm(plan.moves(), total=plan.epochs, desc="map", unit="epoch", delay=2, leave=False)
    (xy,) = deque(moves, maxlen=1) or (plan.start,)
    return plan.layout(plan.shown(xy))


def unfolding(
    embeddings: Embeddings,
    *,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    metric: Metric = "cosine",
    densmap: bool = False,
    seed: int = 0,
    method: Literal["umap", "pca"] = "umap",
    align_to: Layout | None = None,
) -> Generator[Frame, None, None]:
    """Return the map as it comes about: where UMAP starts, at once; then it moves; last, what `project` gives.

    Parameters
    ----------
    embeddings, n_neighbors, min_dist, metric, densmap, seed, method, align_to
        As of `project`. They are checked when the first frame is asked for.

    Yields
    ------
    Frame
        First `done` is 0: PCA, or the positions of `align_to`. Then at most one frame an epoch and about ten a second;
        how many they are depends on the machine, the last one's bytes do not. Last `done` is 1. Closing the iterator
        stops the work; nothing but the map is lost.

    Raises
    ------
    InputError
        As `project`.
    """
    plan = _Plan(embeddings, n_neighbors, min_dist, metric, densmap, seed, method, align_to)
    yield Frame(plan.shown(plan.start), 0.0)
    xy, shown = plan.start, time.monotonic()
    for epoch, xy in enumerate(plan.moves(), 1):
        if epoch < plan.epochs and time.monotonic() - shown > _FRAME_SECONDS:
            yield Frame(plan.shown(xy), epoch / plan.epochs)
            shown = time.monotonic()
    yield Frame(plan.shown(xy), 1.0)


def as_layout(
    embeddings: Embeddings,
    xy: "NDArray[np.float32]",
    *,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    metric: Metric = "cosine",
    densmap: bool = False,
    seed: int = 0,
    method: Literal["umap", "pca"] = "umap",
    align_to: Layout | None = None,
    stopped: float | None = None,
) -> Layout:
    """Return the layout of a frame of `unfolding`: of the last one, what `project` would return.

    Parameters
    ----------
    embeddings, n_neighbors, min_dist, metric, densmap, seed, method, align_to
        What the frames were made with.
    xy
        (n, 2), finite: the frame's positions. They are copied.
    stopped
        The frame's `done`, 0 to 1, where it was not the last: the layout says so. 1 is the whole map.

    Raises
    ------
    InputError
        As `project`, or `xy` does not fit the embeddings.
    """
    plan = _Plan(embeddings, n_neighbors, min_dist, metric, densmap, seed, method, align_to)
    if stopped is not None and not _is_number(stopped, 0, 1):
        raise InputError(
            f"stopped is {stopped!r}; expected the `done` of the frame, from 0 to 1, or None for the last."
        )
    return plan.layout(positions(embeddings, xy), None if stopped in (None, 1) else float(stopped))


@dataclass(frozen=True, eq=False)
class _Plan:
    """What a map is to be made of and how, checked; `start` and `epochs` follow from it."""

    embeddings: Embeddings
    n_neighbors: int
    min_dist: float
    metric: Metric
    densmap: bool
    seed: int
    method: str
    align_to: Layout | None
    onto: "NDArray[np.float32] | None" = field(init=False)
    start: "NDArray[np.float32]" = field(init=False)
    epochs: int = field(init=False)

    def __post_init__(self) -> None:
        require_embeddings(self.embeddings, "A map is made of")
        if len(self.embeddings.vectors) == 0:
            raise InputError("There are no vectors to project; embeddings.failures lists what failed.")
        _check_numbers(self.n_neighbors, self.min_dist, self.seed)
        if not isinstance(self.densmap, bool | np.bool_):
            raise InputError(f"densmap is {self.densmap!r}; expected True or False.")
        if self.metric == "inner_product":
            raise InputError(
                "A map is made of distances, and an inner product is none: a vector need not be nearest to itself. "
                "Use metric='cosine' or metric='euclidean'."
            )
        _choose("metric", self.metric, DISTANCES)
        _choose("method", self.method, METHODS)
        if self.densmap and self.method == "pca":
            raise InputError("densmap=True is UMAP's, and method is 'pca'. Leave one of them out.")
        onto = None if self.align_to is None else _positions(self.align_to, self.embeddings)
        object.__setattr__(self, "onto", onto)
        pca = _pca_of(self.embeddings)
        # Up to three points there is nothing for UMAP to weigh: every neighborhood is everything.
        still = self.method == "pca" or len(pca) <= 3 or not pca.any()
        object.__setattr__(self, "epochs", 0 if still else self._count_epochs())
        object.__setattr__(self, "start", pca if still else self._first_positions(pca))

    @property
    def resumes(self) -> bool:
        """Whether UMAP starts from a map that UMAP finished, so that little is left to move."""
        made = None if self.align_to is None else self.align_to.provenance
        return made is not None and made["method"] == "umap" and made["stopped"] is None

    def moves(self) -> "Iterator[NDArray[np.float32]]":
        """Yield the same array after every epoch; nothing where UMAP does not run."""
        if not self.epochs:
            return
        n = len(self.start)
        # As many as `kept` asks for, and one more to see ties: one graph serves both.
        graph = neighbor_graph(self.embeddings, max(self.n_neighbors, TRUE_NEIGHBORS) + 1, metric=self.metric)
        first = graph.first(min(self.n_neighbors, n - 1) - 1)
        start = self.start
        if not self.resumes:  # as UMAP's own init="pca" does, which sets points apart that lie on a line
            start = start + np.random.default_rng(self.seed).normal(scale=1e-4, size=start.shape)
        yield from umap_layout.unfold(
            first.indices,
            first.distances,
            start.astype(np.float32),
            min_dist=float(self.min_dist),
            epochs=self.epochs,
            seed=int(self.seed),
            densmap=bool(self.densmap),
            boxed=not self.resumes,
            step=_RESUMED_STEP if self.resumes else 1.0,
        )

    def shown(self, xy: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """Return a copy of the positions, turned onto the map to align to."""
        return np.array(xy) if self.onto is None else turned(xy, self.onto)

    def layout(self, xy: "NDArray[np.float32]", stopped: float | None = None) -> Layout:
        """Return positions as a layout."""
        xy = xy.astype(np.float32)
        kept = share_kept(self.embeddings, xy, TRUE_NEIGHBORS, metric=self.metric)
        other = self.align_to
        provenance = {
            "method": "umap" if self.epochs else "pca",
            "n_neighbors": int(self.n_neighbors),
            "min_dist": float(self.min_dist),
            "metric": self.metric,
            "densmap": bool(self.densmap and self.epochs),
            "seed": int(self.seed),
            "k": min(TRUE_NEIGHBORS, len(xy) - 1),
            "epochs": self.epochs,
            "stopped": stopped,
            "start": "PCA" if other is None or not self.epochs else "another map",
            "aligned_to": other
            and {"summary": other.summary, "sha256": hashlib.sha256(other.xy.tobytes()).hexdigest()},
            "versions": versions("vizkit", "umap-learn", "scikit-learn", "numba", "numpy"),
        }
        return Layout(xy, kept, frame_of(self.embeddings, xy, kept), provenance, self.embeddings)

    def _count_epochs(self) -> int:
        """Return as many epochs as umap.UMAP takes by default, or a part of them."""
        epochs = (500 if len(self.embeddings) <= 10_000 else 200) + (200 if self.densmap else 0)
        return epochs // _RESUMED_PART if self.resumes else epochs

    def _first_positions(self, pca: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """Return where UMAP starts, (n, 2): on a map of UMAP's as it is, else at UMAP's size."""
        if self.onto is not None and self.resumes:
            return self.onto
        start = pca if self.onto is None else self.onto - self.onto.mean(axis=0)
        if not start.any():
            start = pca
        return start / np.abs(start).max() * 10


def _check_numbers(n_neighbors: int, min_dist: float, seed: int) -> None:
    if isinstance(n_neighbors, bool) or not isinstance(n_neighbors, int | np.integer) or n_neighbors < 2:
        raise InputError(f"n_neighbors is {n_neighbors!r}; expected a whole number, 2 or more.")
    if not _is_number(min_dist, 0, 1):
        raise InputError(f"min_dist is {min_dist!r}; expected a number from 0 (packed) to 1 (spread).")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise InputError(f"seed is {seed!r}; expected a whole number from 0 to 2^32 - 1. Every map has a seed.")


def _is_number(value: object, low: float, high: float) -> bool:
    real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return real and bool(low <= value <= high)


def _choose(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"No {name} {value!r}; choose {' or '.join(map(repr, known))}.{closest(str(value), known)}")


def _positions(layout: Layout, embeddings: Embeddings) -> "NDArray[np.float32]":
    """Return where another layout has these images, (n, 2), in the order of the embeddings."""
    if not isinstance(layout, Layout):
        raise InputError(f"align_to is a {type(layout).__name__}; expected a Layout, as `project` returns.")
    rows = layout.frame.index.get_indexer(embeddings.frame.index)
    if len(layout) != len(embeddings) or (rows < 0).any():
        raise InputError(
            f"align_to has {len(layout)} points, {(rows >= 0).sum()} of them among these {len(embeddings)} images; "
            "expected a layout of the same images. Make both maps from vectors of the same images."
        )
    return layout.xy[rows]


def _pca_of(embeddings: Embeddings) -> "NDArray[np.float32]":
    """Return the PCA of embeddings, computed once for as long as they live."""
    if embeddings not in _starts:
        xy = _pca(embeddings.vectors)
        xy.flags.writeable = False
        _starts[embeddings] = xy
    return _starts[embeddings]


def _pca(vectors: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """Return the first two principal components (n, 2), in the vectors' unit; a missing one is 0."""
    from sklearn.decomposition import PCA

    n, d = vectors.shape
    xy = np.zeros((n, 2), np.float32)
    if d == 0 or (vectors == vectors[0]).all():
        return xy
    exponent = int(np.frexp(np.abs(vectors).max())[1])
    scaled = np.ldexp(vectors, -exponent)  # squares of very large or small values would leave float32
    scaled -= scaled.mean(axis=0, dtype=np.float64).astype(np.float32)
    # Arpack is exact; what scikit-learn takes by default for large data lost 4% of the variance on 20,000 x 2,048 and
    # turns with its seed. The signs are scikit-learn's (svd_flip), so they do not depend on the solver's luck.
    solver = "arpack" if min(n, d) > 2 and max(n, d) > 500 else "full"
    columns = min(2, n, d)
    found = PCA(columns, svd_solver=solver, random_state=0).fit_transform(scaled)
    room = int(np.finfo(np.float32).maxexp - np.frexp(np.abs(found).max())[1])  # values near float32's end stay scaled
    xy[:, :columns] = np.ldexp(found, min(exponent, room))
    return xy
