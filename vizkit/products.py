"""Quick products of vectors, nearly in proportion to their scores, and a proven bound on how far each may be off.

Vectors are moved by a center c, which makes them short and changes no ranking: with u = x - c the score of a query x
and a row y is <u_x, u_y> + b_y up to a number that depends on x alone, where b_y is <u_y, c> for cosine and inner
product and -|u_y|^2 / 2 for the Euclidean distance. For cosine x and y have unit length first.

Let u' be what is left of u in few bits, and r = |u - u'|, which is computed for every vector. By Cauchy-Schwarz
|<u_x, u_y> - <u'_x, u'_y>| <= r_x |u_y| + |u'_x| r_y. Add (d + 16) times the rounding of one addition, times the size
of the terms (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1), and the rounding of the
exact score itself: that is the bound.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

import numpy as np

from .room import room

if TYPE_CHECKING:
    from numpy.typing import NDArray

Metric = Literal["cosine", "euclidean", "inner_product"]
METRICS: tuple[Metric, ...] = ("cosine", "euclidean", "inner_product")

BLOCK_BYTES = 32 * 2**20  # of products at a time: about what stays in the processor's cache
GROUP = 16  # rows are filled up to a multiple of this
PAD = -1e30  # the bias of those that fill up
_TOO_FAR = 1e12  # vectors this many times longer than the rows might overflow single precision
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_Part = TypeVar("_Part")
_Result = TypeVar("_Result")


class Placed(NamedTuple):
    """Queries as the products take them: (q, d) float32, and of each, (q,) float64, what its bound is made of."""

    unit: "NDArray[np.float32]"
    size: "NDArray[np.float64]"  # the length of u
    raw: "NDArray[np.float64]"  # the length of x, in the same unit
    off: "NDArray[np.float64]"  # the length of u - u'

    def some(self, index: "NDArray[np.integer]") -> "Placed":
        """Return some of the queries."""
        return Placed(self.unit[index], self.size[index], self.raw[index], self.off[index])


class Products:
    """Rows prepared for products with many queries.

    Parameters
    ----------
    vectors
        (n, d) float32 or float16, finite; may be mapped from a file.
    first
        (m,) the rows that count, m >= 1.
    metric
        One of METRICS.
    """

    def __init__(self, vectors: "NDArray[np.floating]", first: "NDArray[np.int64]", metric: Metric) -> None:
        self.metric, self._vectors, self._first = metric, vectors, first
        self.m, self.d = len(first), vectors.shape[1]
        self.center, self.scale = np.zeros(self.d), 1.0
        self.center, self.scale = self._frame_of_reference()
        padded = -(-self.m // GROUP) * GROUP
        self.unit = room((padded, self.d))  # float32; a file where memory is short
        self.bias = np.full(padded, PAD)
        self.placed = Placed(self.unit[: self.m], *np.empty((3, self.m)))

        def place(part: slice) -> None:
            wide, found = self._place(self.rows(part))
            for kept, new in zip(self.placed, found, strict=True):
                kept[part] = new
            self.bias[part] = -(found.size**2) / 2 if metric == "euclidean" else wide @ (self.center * self.scale)

        in_threads(place, self._parts())
        self.longest = max(1e-300, float(self.placed.size.max()))
        self.largest = float(self.placed.raw.max())
        self.tilt = float(np.abs(self.bias[: self.m]).max())

    def rows(self, part: "slice | NDArray[np.integer]") -> "NDArray[np.floating]":
        """Return some of the rows that count, as they are."""
        return self._vectors[part] if len(self._first) == len(self._vectors) else self._vectors[self._first[part]]

    def place(self, vectors: "NDArray[np.floating]") -> Placed:
        """Return vectors as the products take them."""
        return self._place(vectors)[1]

    def around(
        self, own: "NDArray[np.integer]", keys: "NDArray[np.float64]"
    ) -> "tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]":
        """Return products (q, m) of some rows, and between which products (q, k) scores of theirs may lie.

        Keys are scores, or minus the squared distance: what is left out of products, because it is the same for all
        rows, is taken out of them too.
        """
        placed = self.placed.some(own)
        products = placed.unit @ self.unit[: self.m].T
        with np.errstate(over="ignore"):
            products += self.bias[: self.m].astype(np.float32)
        same = self.bias[own] + (0 if self.metric == "euclidean" else np.square(self.center * self.scale).sum())
        at = keys * (self.scale**2 / (2 if self.metric == "euclidean" else 1)) - same[:, None]
        bound = self.single_bound(placed)[:, None] + 2.0**-50 * (np.abs(at) + np.abs(same)[:, None])
        down, up = np.float32(-np.inf), np.float32(np.inf)
        return (
            products,
            np.nextafter((at - bound).astype(np.float32), down),
            np.nextafter((at + bound).astype(np.float32), up),
        )

    def single_bound(self, placed: Placed) -> "NDArray[np.float64]":
        """Return how far products in single precision may be off, (q,); infinite where they may overflow."""
        bound = self.bound(placed, float(self.placed.off.max()), 2.0**-24)
        return bound if self.tilt < 1e30 else np.full_like(bound, np.inf)

    def bound(self, placed: Placed, rows_off: float, rounding: float) -> "NDArray[np.float64]":
        """Return how far products may be off, (q,), from what is lost of the vectors and in one addition."""
        d = self.d + 16
        relative = d * rounding
        added = relative / (1 - 2 * relative) if relative < 0.25 else np.inf
        size = placed.size + placed.off
        lost = placed.off * self.longest + size * rows_off
        summed = added * (size * (self.longest + rows_off) + 2 * self.tilt)
        exact = 2 * d * 2.0**-52 * (placed.raw + self.largest) ** 2
        return (lost + summed + exact) * (1 + 1e-6)  # lengths, too, are rounded

    def double(self, vectors: "NDArray[np.floating]") -> "tuple[NDArray[np.float64], NDArray[np.float64]]":
        """Return products (q, m) in double precision, and how far each query's may be off, (q,)."""
        wide, placed = self._place(vectors)
        products = np.empty((len(vectors), self.m))
        for part in self._parts():
            products[:, part] = wide @ self._place(self.rows(part))[0].T
        products += self.bias[: self.m]
        return products, self.bound(placed._replace(off=np.zeros(len(vectors))), 0.0, 2.0**-53)

    def _frame_of_reference(self) -> "tuple[NDArray[np.float64], float]":
        """Return the center, and the power of two that keeps products small where lengths are as they come."""
        sums = in_threads(lambda part: self._spread(self.rows(part))[0].sum(axis=0), self._parts())
        center = np.sum(sums, axis=0) / self.m
        if self.metric == "cosine" or self.d == 0:
            return center, 1.0
        largest = max(in_threads(lambda part: float(np.abs(self.rows(part) - center).max()), self._parts()))
        return center, 2.0 ** -np.frexp(largest * np.sqrt(self.d))[1] if largest > 0 else 1.0

    def _spread(self, vectors: "NDArray[np.floating]") -> "tuple[NDArray[np.float64], NDArray[np.float64]]":
        """Return vectors in double precision, of unit length for cosine, and their lengths (q,)."""
        wide = vectors.astype(np.float64)
        lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
        if self.metric == "cosine":
            wide /= np.where(lengths > 0, lengths, 1)[:, None]
            lengths = np.sign(lengths)
        return wide, lengths

    def _place(self, vectors: "NDArray[np.floating]") -> "tuple[NDArray[np.float64], Placed]":
        wide, raw = self._spread(vectors)
        wide -= self.center
        wide *= self.scale
        size = np.sqrt(np.einsum("ij,ij->i", wide, wide))
        far = size > _TOO_FAR
        with np.errstate(over="ignore", invalid="ignore"):
            unit = wide.astype(np.float32)
            unit[far] = 0
            lost = wide - unit
            off = np.where(far, np.inf, np.sqrt(np.einsum("ij,ij->i", lost, lost)))
        return wide, Placed(unit, size, size if self.metric == "euclidean" else raw * self.scale, off)

    def _parts(self) -> list[slice]:
        """Cut the rows so that one piece in double precision stays small."""
        step = max(1, BLOCK_BYTES // (32 * max(1, self.d)))
        return [slice(start, min(start + step, self.m)) for start in range(0, self.m, step)]


def in_threads(run: Callable[[_Part], _Result], parts: Iterable[_Part]) -> list[_Result]:
    """Apply a function to every part on all cores, and return the results in order: NumPy lets other threads work."""
    parts = list(parts)
    if len(parts) < 2 or _CORES < 2:
        return [run(part) for part in parts]
    pool = ThreadPoolExecutor(min(len(parts), _CORES))
    try:
        return list(pool.map(run, parts))
    finally:
        pool.shutdown(cancel_futures=True)
