"""UMAP's layout, epoch by epoch: umap-learn's own functions on the shared graph, one array moved in place.

`umap.UMAP(precomputed_knn=..., init=...).fit_transform` gives the same bytes in one piece. It compiles its kernels in
every process, holds the interpreter while it runs, and shows nothing before it ends. Here the same functions are
compiled once an environment, on one thread (what a seed means to UMAP), and the caller sees the array after each epoch.
"""

import contextlib
import os
import sys
import threading
import zlib
from collections.abc import Generator, Iterator
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .errors import VizkitError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What umap.UMAP takes by default.
_GAMMA = 1.0
_NEGATIVES = 5
_DENSITY_WEIGHT = 2.0
_DENSITY_FROM = 1 - 0.3  # share of the epochs before densities count
_DENSITY_SHIFT = 0.1

_BEHIND = "vizkit-warm-up"
_LONGEST = 1e12  # umap's search for a width doubles from 1 and bisects, 64 steps in all; float32 must hold squares

_lock = threading.RLock()
_ready: "list[_Kernels]" = []
_loading: list[int] = []  # the thread that loads
_torn: list[bool] = []  # filled in a process that was forked while another thread loaded


class _Kernels(NamedTuple):
    """Functions of umap-learn, compiled for one thread."""

    smooth: Any
    strengths: Any
    epoch: Any
    densities: Any


class _Edges(NamedTuple):
    """The weighted edges of the fuzzy graph, both ways: (m,) int32 twice, (m,) float32, distances (m,) or none."""

    head: "NDArray[np.int32]"
    tail: "NDArray[np.int32]"
    weight: "NDArray[np.float32]"
    distance: "NDArray[np.float32]"


def is_warm() -> bool:
    """Say whether umap-learn is imported and its functions are compiled."""
    return bool(_ready)


def warm_up() -> None:
    """Import umap-learn and compile what a map needs, so that the first map need not wait for it.

    Seconds in a new process; up to a minute on a fresh install, whose compiled functions are kept on disk (where numba
    keeps them: beside umap-learn, in the user's cache folder, or in NUMBA_CACHE_DIR). Safe to call from any thread, and
    again: who comes second waits for the first. A process that is forked meanwhile has half of umap-learn, behind locks
    that nobody opens any more: there it raises.

    Raises
    ------
    VizkitError
        The process was forked while another thread was at it.
    """
    if _torn:
        raise VizkitError(
            "This process was forked while UMAP was being loaded, so UMAP cannot be used in it. Start processes with "
            "multiprocessing's 'spawn', or make a map once before they are forked."
        )
    with _lock:
        if _ready:
            return
        _loading.append(threading.get_ident())
        try:
            kernels = _load()
            _exercise(kernels)
            _ready.append(kernels)
        finally:
            _loading.clear()


def _after_fork() -> None:
    """Leave behind, in a forked process, a lock that was held by a thread which this process does not have."""
    global _lock
    if _loading and _loading[0] != threading.get_ident():
        _lock = threading.RLock()
        _loading.clear()
        _torn.append(True)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def warm_up_behind() -> None:
    """Warm up in a thread of its own, where a person sits in front: in a notebook, which idles while they read.

    Where it fails, the first map fails in the same way, and says so in the cell that asked for it.
    """
    if "ipykernel" not in sys.modules or _ready or _torn or any(t.name == _BEHIND for t in threading.enumerate()):
        return
    threading.Thread(target=_quietly, name=_BEHIND, daemon=True).start()


def _quietly() -> None:
    with contextlib.suppress(Exception):  # the edge: nobody waits for this thread, and the next caller meets the error
        warm_up()


def unfold(
    indices: "NDArray[np.int32]",
    distances: "NDArray[np.float32]",
    start: "NDArray[np.float32]",
    *,
    min_dist: float,
    epochs: int,
    seed: int,
    densmap: bool = False,
    boxed: bool = True,
    step: float = 1.0,
) -> "Generator[NDArray[np.float32], None, None]":
    """Move points from a start to UMAP's layout of a neighbor graph; yields after every epoch.

    Parameters
    ----------
    indices, distances
        (n, k) int32 and float32: the k nearest others of every point, nearest first. With the point itself they are
        what UMAP calls n_neighbors = k + 1.
    start
        (n, 2), finite, no axis constant. Not changed.
    min_dist
        How close points may be packed, in [0, 1] units of the map.
    epochs
        How many times the edges are gone through, 1 or more.
    seed
        Seed of the draws of points that push each other away.
    densmap
        Whether points that are far from their neighbors in truth shall be so on the map as well.
    boxed
        Whether the start is first stretched to 10 by 10 units, as UMAP does, or taken as it lies.
    step
        How far a point may move at first, as UMAP's learning rate; it falls to 0 along a line.

    Yields
    ------
    NDArray
        (n, 2) float32: the same array every time, as it is by then. It moves on when the next is asked for.

    References
    ----------
    McInnes, Healy and Melville, UMAP: Uniform Manifold Approximation and Projection, arXiv:1802.03426.
    Narayan, Berger and Cho, Assessing single-cell transcriptomic variability through density-preserving data
    visualization, Nature Biotechnology 39, 2021 (densMAP).
    """
    warm_up()
    kernels = _ready[0]
    draws = np.random.RandomState(seed)
    edges = _fuzzy_edges(kernels, indices, distances, epochs, with_distances=densmap)
    xy = _placed(start, draws, boxed=boxed)
    yield from _moves(kernels, edges, xy, _curve(min_dist), epochs, draws, densmap=densmap, step=step)


def _moves(
    kernels: _Kernels,
    edges: _Edges,
    xy: "NDArray[np.float32]",
    curve: tuple[float, float],
    epochs: int,
    draws: np.random.RandomState,
    *,
    densmap: bool,
    step: float,
) -> "Iterator[NDArray[np.float32]]":
    """Do what umap.layouts.optimize_layout_euclidean does, one epoch at a time."""
    from umap.umap_ import make_epochs_per_sample

    a, b = curve
    n = len(xy)
    pause = make_epochs_per_sample(edges.weight, epochs)
    pause_negative = pause / float(_NEGATIVES)
    due, due_negative = pause.copy(), pause_negative.copy()
    state = draws.randint(np.iinfo(np.int32).min + 1, np.iinfo(np.int32).max - 1, 3).astype(np.int64)
    states = state + xy[:, 0].astype(np.float64).view(np.int64)[:, None]
    true = _true_radii(edges, n) if densmap else np.zeros(1, np.float32)
    weight = edges.weight if densmap else np.zeros(1, np.float32)
    # As umap adds it up: the sum over points of the weights at each.
    total = np.sum(_at_points(edges, edges.weight, n)) / np.float32(2) if densmap else np.float32(0)
    near, radii = np.zeros((2, n if densmap else 1), np.float32)
    spread = mean = covariance = np.float32(0)
    alpha = step
    for epoch in range(epochs):
        dense = densmap and (epoch + 1) / float(epochs) > _DENSITY_FROM
        if dense:
            kernels.densities(xy, xy, edges.head, edges.tail, a, b, radii, near)
            spread = np.sqrt(np.var(radii) + np.float32(_DENSITY_SHIFT))
            mean = np.mean(radii)
            covariance = np.dot(radii, true) / np.float32(n - 1)
        kernels.epoch(
            xy, xy, edges.head, edges.tail, n, pause, a, b, states, _GAMMA, 2, True, alpha,
            pause_negative, due_negative, due, epoch, dense,
            near, radii, covariance, spread, mean, _DENSITY_WEIGHT, true, weight, total,
        )  # fmt: skip
        alpha = step * (1.0 - epoch / float(epochs))
        yield xy


def _fuzzy_edges(
    kernels: _Kernels,
    indices: "NDArray[np.int32]",
    distances: "NDArray[np.float32]",
    epochs: int,
    *,
    with_distances: bool,
) -> _Edges:
    """Return the edges of umap's fuzzy union, without those too weak to be drawn once in all epochs."""
    from scipy.sparse import coo_matrix

    n, k = indices.shape
    longest = float(distances.max(initial=0))
    if longest > _LONGEST:
        # Widths are relative, and densities (a difference of logarithms) as well: a common factor changes neither.
        distances = distances * np.float32(_LONGEST / longest)
    # UMAP counts a point as its own first neighbor.
    own = np.arange(n, dtype=np.int32)[:, None]
    indices = np.hstack([own, indices])
    distances = np.hstack([np.zeros_like(own, np.float32), distances])
    sigmas, rhos = kernels.smooth(distances, float(k + 1), local_connectivity=1.0)
    rows, columns, values, lengths = kernels.strengths(indices, distances, sigmas, rhos, with_distances)
    one_way = coo_matrix((values, (rows, columns)), shape=(n, n))
    one_way.eliminate_zeros()
    other_way = one_way.transpose()
    union = (one_way + other_way - one_way.multiply(other_way)).tocoo()
    union.sum_duplicates()
    union.data[union.data < union.data.max() / float(epochs)] = 0
    union.eliminate_zeros()
    between = np.zeros(0, np.float32)
    if with_distances:
        longest = coo_matrix((lengths, (rows, columns)), shape=(n, n)).tocsr()
        between = np.asarray(longest.maximum(longest.transpose()).tocsr()[union.row, union.col]).ravel()
    return _Edges(union.row, union.col, union.data, between)


def _placed(start: "NDArray[np.float32]", draws: np.random.RandomState, *, boxed: bool) -> "NDArray[np.float32]":
    """Return the start as umap.umap_.simplicial_set_embedding takes an array, with equal points moved apart."""
    from sklearn.neighbors import KDTree

    xy = np.array(start, np.float32, order="C")
    if len(np.unique(xy, axis=0)) < len(xy):
        gap = np.mean(KDTree(xy).query(xy, k=2)[0][:, 1])
        xy = xy + draws.normal(scale=0.001 * gap, size=xy.shape).astype(np.float32)
    if not boxed:
        return xy
    low, high = xy.min(axis=0), xy.max(axis=0)
    return np.ascontiguousarray(10.0 * (xy - low) / (high - low), np.float32)


def _curve(min_dist: float) -> tuple[float, float]:
    """Return a and b of the curve that turns distance on the map into membership."""
    from umap.umap_ import find_ab_params

    return find_ab_params(1.0, min_dist)


def _true_radii(edges: _Edges, n: int) -> "NDArray[np.float32]":
    """Return how far each point is from its neighbors in truth, (n,): the log of a weighted mean, standardised."""
    squares = edges.distance * edges.distance
    radii = np.log(1e-8 + _at_points(edges, edges.weight * squares, n) / _at_points(edges, edges.weight, n))
    spread = np.std(radii)
    # Everywhere the same: nothing to keep, and nothing to divide by.
    return (radii - np.mean(radii)) / spread if spread > 0 else np.zeros_like(radii)


def _at_points(edges: _Edges, values: "NDArray[np.float32]", n: int) -> "NDArray[np.float32]":
    """Add up values of edges at both of their ends, (n,), edge by edge: sums in float32 depend on the order."""
    total = np.zeros(n, np.float32)
    np.add.at(total, np.stack([edges.head, edges.tail], axis=1).ravel(), np.repeat(values, 2))
    return total


def _load() -> _Kernels:
    import warnings

    # In another thread this would put back filters that the user has changed meanwhile. Python ignores these warnings
    # unless told otherwise. What umap-learn does of the kind while it is imported cannot be helped.
    if threading.current_thread() is threading.main_thread():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Tensorflow not installed", category=ImportWarning)
            _import_umap()
    else:
        _import_umap()
    import numba
    from umap import layouts, umap_

    # Without threads: with a seed UMAP takes one anyway, and numba's simplest pool of threads ends the process when
    # two of ours would use it at once. Serial, the first adds up in float64, as umap's parallel loop happens to do.
    return _Kernels(
        _compiled(umap_.smooth_knn_dist.py_func),
        _compiled(umap_.compute_membership_strengths.py_func, locals={"val": numba.types.float32}),
        _compiled(layouts._optimize_layout_euclidean_single_epoch, fastmath=True),
        _compiled(layouts._optimize_layout_euclidean_densmap_epoch_init, fastmath=True),
    )


def _import_umap() -> None:
    """Import umap-learn, also where numba finds no folder that it may write to."""
    try:
        import umap
    except RuntimeError as error:
        # numba refuses to compile anything that asks to be kept. NUMBA_CACHE_DIR, where it is set, is left alone.
        if "no locator available" not in str(error):
            raise
        _keep_in_temporary_folder()
        import umap  # noqa: F401


def _keep_in_temporary_folder() -> None:
    """Give numba a folder of this process's own: compiled code is loaded without a check, so nobody else may write."""
    import atexit
    import shutil
    import tempfile

    import numba

    folder = tempfile.mkdtemp(prefix="vizkit-numba-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["NUMBA_CACHE_DIR"] = folder
    numba.config.reload_config()


def _compiled(function: Any, **options: Any) -> Any:
    """Return a function of umap-learn to be compiled for one thread, without the interpreter's lock, and kept on disk.

    It is a copy under a name of its own. numba files compiled code by name and types, not by options: under umap's name
    whoever keeps umap's parallel kernel as well would be given this one, and run on one thread without a word.
    """
    import numba

    name = f"vizkit_{function.__name__.lstrip('_')}_{zlib.crc32(repr(sorted(options.items())).encode()):08x}"
    copy = FunctionType(function.__code__, function.__globals__, name, function.__defaults__, function.__closure__)
    copy.__qualname__ = name
    return numba.njit(cache=True, nogil=True, **options)(copy)


def _exercise(kernels: _Kernels) -> None:
    """Compile by running: a map of eight points, of the types that every map has."""
    n, k = 8, 3
    indices = ((np.arange(n)[:, None] + np.arange(1, k + 1)) % n).astype(np.int32)
    distances = np.tile(np.arange(1, k + 1, dtype=np.float32), (n, 1))
    edges = _fuzzy_edges(kernels, indices, distances, 1, with_distances=False)
    draws = np.random.RandomState(0)
    xy = _placed(draws.random_sample((n, 2)).astype(np.float32), draws, boxed=True)
    for _ in _moves(kernels, edges, xy, _curve(0.1), 1, draws, densmap=False, step=1.0):
        pass
