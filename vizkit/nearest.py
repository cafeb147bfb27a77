"""The exact nearest rows of a matrix, complete by proof; plain arrays in, plain arrays out.

Products in single precision are quick and nearly right, so they only name candidates. Where |product - score| <= bound,
the k-th best score is at least (k-th best product) - bound, and so each of the k best rows has a product of at least
(k-th best product) - 2 bound: rows that reach this are the candidates, and no other can be among the k best. Candidates
are scored in double precision, pair by pair in one fixed order of additions, so that equal rows get equal scores
whatever stands beside them. Where single precision leaves many candidates, products are done in double.

bound = (d + 8) (u + 2^-52) times the size of the terms, u = 2^-24 or 2^-53: the rounding of the inputs, of d additions
in any order (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1), and of the final score.
Cheaper products need no more than their own u.
"""

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Metric = Literal["cosine", "euclidean"]
METRICS: tuple[Metric, ...] = ("cosine", "euclidean")

_BLOCK_BYTES = 64 * 2**20  # of products at a time: a few such blocks fit beside any notebook
_CHUNK_BYTES = 2 * 2**20  # of pairs in double precision: stays in the processor's cache


class NearestRows:
    """Exact search among the rows of a matrix; keeps a scaled float32 copy of it.

    Scores: for "cosine" the cosine in [-1, 1], 0 where either vector is zero and exactly 1 between equal rows; for
    "euclidean" minus the distance. Higher is nearer, ties go by row.

    Parameters
    ----------
    vectors
        (n, d) float32, finite, n >= 1. Not copied where no two rows are equal: it must not change afterwards.
    metric
        "cosine" or "euclidean".
    """

    def __init__(self, vectors: "NDArray[np.float32]", metric: Metric = "cosine") -> None:
        self.metric = metric
        # Equal rows are searched once: sets with thousands of copies would otherwise be all ties.
        self._first, self._copy_of, self._members = _distinct(vectors)
        self._rows = vectors if len(self._first) == len(vectors) else vectors[self._first]
        self._squares = _squares(self._rows)
        self._center, self._scale = self._frame_of_reference()
        prepared = [self._prepare(block, np.float32) for block in self._blocks()]
        self._prepared = np.concatenate([rows for rows, _ in prepared])
        self._sizes = np.concatenate([sizes for _, sizes in prepared])

    def __len__(self) -> int:
        """Count the rows, copies included."""
        return len(self._copy_of)

    def search(
        self, queries: "NDArray[np.float32]", k: int, *, progress: bool = False
    ) -> "tuple[NDArray[np.int64], NDArray[np.float64]]":
        """Return the k nearest rows of each query and their scores, best first.

        Parameters
        ----------
        queries
            (q, d) float32, finite.
        k
            Rows wanted; at most n come back.
        progress
            Show a bar when it takes more than two seconds.

        Returns
        -------
        rows, scores
            (q, min(k, n)) int64 and float64.
        """
        from tqdm.auto import tqdm

        k = min(k, len(self))
        rows = np.empty((len(queries), k), np.int64)
        scores = np.empty((len(queries), k))
        size = int(np.clip(_BLOCK_BYTES // (4 * len(self._rows)), 1, 1024))
        with tqdm(total=len(queries), desc="neighbors", unit="row", delay=2, leave=False, disable=not progress) as bar:
            for start in range(0, len(queries), size):
                block = slice(start, start + size)
                rows[block], scores[block] = self._search_block(queries[block], k)
                bar.update(len(rows[block]))
        return rows, -np.sqrt(-scores) if self.metric == "euclidean" else scores

    def graph(self, k: int, *, progress: bool = False) -> "tuple[NDArray[np.int64], NDArray[np.float64]]":
        """Return the k nearest other rows of every row: `search`, with each row left out of its own list by position.

        Returns
        -------
        rows, scores
            (n, min(k, n - 1)) int64 and float64. A copy of a row stays in its list; only the row itself goes.
        """
        k = min(k, len(self) - 1)
        rows, scores = (found[self._copy_of] for found in self.search(self._rows, k + 1, progress=progress))
        own = rows == np.arange(len(self))[:, None]
        own[~own.any(axis=1), -1] = True  # k + 1 others are as near as the row itself: the last of them goes
        return rows[~own].reshape(len(self), k), scores[~own].reshape(len(self), k)

    def scores(self, rows: "NDArray[np.integer]", others: "NDArray[np.integer]") -> "NDArray[np.float64]":
        """Return the scores of pairs of rows, (m,) float64: bit by bit the values that `search` and `graph` rank by."""
        a, b = self._copy_of[rows], self._copy_of[others]
        keys = self._keys(self._rows, self._squares, a, b)
        return -np.sqrt(-keys) if self.metric == "euclidean" else keys

    def _search_block(self, queries: "NDArray[np.float32]", k: int) -> "tuple[NDArray[np.int64], NDArray[np.float64]]":
        distinct = min(k, len(self._rows))
        query, candidate = self._candidates(queries, distinct)
        keys = self._keys(queries, _squares(queries), query, candidate)
        order = np.lexsort((candidate, -keys, query))
        starts = np.searchsorted(query[order], np.arange(len(queries)))
        best = order[starts[:, None] + np.arange(distinct)]
        return self._with_copies(candidate[best], keys[best], k)

    def _candidates(self, queries: "NDArray[np.float32]", k: int) -> "tuple[NDArray[np.intp], NDArray[np.intp]]":
        """Return (query, row) pairs among which are, for every query, its k best rows."""
        m = len(self._rows)
        products, bound = self._products(queries, np.float32)
        query, row = _at_least(products, _kth_largest(products, k) - 2 * bound)
        crowded = np.bincount(query, minlength=len(queries)) > max(8 * k, 256)
        crowded |= ~np.isfinite(bound)
        if not crowded.any() or m <= k:
            return query, row
        keep = ~crowded[query]
        pairs = [(query[keep], row[keep])]
        hard = np.flatnonzero(crowded)
        for part in np.array_split(hard, -(-len(hard) * 8 * m // _BLOCK_BYTES)):
            products, bound = self._products(queries[part], np.float64)
            query, row = _at_least(products, _kth_largest(products, k) - 2 * bound)
            pairs.append((part[query], row))
        return np.concatenate([q for q, _ in pairs]), np.concatenate([r for _, r in pairs])

    def _products(
        self, queries: "NDArray[np.float32]", dtype: type[np.floating]
    ) -> "tuple[NDArray[np.floating], NDArray[np.float64]]":
        """Return approximate scores (q, m), up to a shift per query, and how far each query's may be off, (q,)."""
        prepared, sizes = self._prepare(queries, dtype)
        # Far outside the rows, single precision may overflow: such a query is left to double precision.
        too_far = sizes > 1e12 if dtype == np.float32 else np.zeros(len(sizes), bool)
        prepared[too_far] = 0
        if dtype == np.float32:
            products = prepared @ self._prepared.T
        else:
            products = np.concatenate([prepared @ self._prepare(b, dtype)[0].T for b in self._blocks()], axis=1)
        relative = (queries.shape[1] + 8) * (float(np.finfo(dtype).eps) / 2 + 2.0**-52)
        unit = relative / (1 - 2 * relative) if relative < 0.25 else np.inf
        if self.metric == "cosine":
            return products, np.full(len(queries), unit)
        products *= 2
        products -= (self._sizes**2).astype(dtype)
        largest = self._sizes.max()
        return products, np.where(too_far, np.inf, unit * (2 * sizes * largest + largest**2))

    def _keys(
        self,
        queries: "NDArray[np.float32]",
        squares: "NDArray[np.float64]",
        query: "NDArray[np.integer]",
        row: "NDArray[np.integer]",
    ) -> "NDArray[np.float64]":
        """Return what pairs are ranked by, (pairs,): the cosine, or minus the squared distance."""
        keys = np.empty(len(query))
        step = max(1, _CHUNK_BYTES // (8 * max(1, queries.shape[1])))
        for start in range(0, len(query), step):
            part = slice(start, start + step)
            a = queries[query[part]].astype(np.float64)
            b = self._rows[row[part]].astype(np.float64)
            if self.metric == "cosine":
                a *= b
            else:
                a -= b
                a *= a
            # A sum along a contiguous axis adds in an order that depends on d alone; BLAS products do not promise that.
            keys[part] = a.sum(axis=1)
        if self.metric == "euclidean":
            return -keys
        both = np.sqrt(squares[query] * self._squares[row])  # of equal vectors exactly their square: a cosine of 1.0
        return np.clip(np.divide(keys, both, out=np.zeros_like(keys), where=both > 0), -1, 1)

    def _with_copies(
        self, distinct: "NDArray[np.integer]", keys: "NDArray[np.float64]", k: int
    ) -> "tuple[NDArray[np.int64], NDArray[np.float64]]":
        """Turn distinct rows (q, at most k) into the k best rows, each row followed by its copies, ties by row."""
        if self._members is None:
            return self._first[distinct], keys
        rows = np.empty((len(distinct), k), np.int64)
        scores = np.empty((len(distinct), k))
        for i, (found, key) in enumerate(zip(distinct, keys, strict=True)):
            copies = [self._members[j][:k] for j in found]
            all_rows = np.concatenate(copies)
            all_keys = np.repeat(key, [len(c) for c in copies])
            order = np.lexsort((all_rows, -all_keys))[:k]
            rows[i], scores[i] = all_rows[order], all_keys[order]
        return rows, scores

    def _frame_of_reference(self) -> "tuple[NDArray[np.float64], float]":
        """Return the point and the power of two that keep Euclidean products small; distances do not depend on them."""
        d = self._rows.shape[1]
        if self.metric == "cosine":
            return np.zeros(d), 1.0
        center = self._rows.mean(axis=0, dtype=np.float64)
        largest = max(float(np.abs(block - center).max(initial=0)) for block in self._blocks())
        return center, 2.0 ** -np.frexp(largest * np.sqrt(max(d, 1)))[1] if largest > 0 else 1.0

    def _prepare(
        self, vectors: "NDArray[np.float32]", dtype: type[np.floating]
    ) -> "tuple[NDArray[np.floating], NDArray[np.float64]]":
        """Return vectors as the products take them, and their lengths then (n,): unit length, or centred and scaled."""
        wide = vectors.astype(np.float64)
        if self.metric == "cosine":
            norms = np.sqrt(_squares(vectors))
            wide /= np.where(norms > 0, norms, 1)[:, None]
            return wide.astype(dtype), np.sign(norms)
        wide -= self._center
        wide *= self._scale
        sizes = np.sqrt(np.square(wide).sum(axis=1))
        with np.errstate(over="ignore"):
            return wide.astype(dtype), sizes

    def _blocks(self) -> "list[NDArray[np.float32]]":
        """Cut the rows so that one piece in double precision stays small."""
        step = max(1, _BLOCK_BYTES // (16 * max(1, self._rows.shape[1])))
        return [self._rows[start : start + step] for start in range(0, len(self._rows), step)]


def _squares(vectors: "NDArray[np.float32]") -> "NDArray[np.float64]":
    """Return the squared lengths (n,) in double precision, each added in one fixed order."""
    squares = np.empty(len(vectors))
    step = max(1, _CHUNK_BYTES // (8 * max(1, vectors.shape[1])))
    for start in range(0, len(vectors), step):
        squares[start : start + step] = np.square(vectors[start : start + step], dtype=np.float64).sum(axis=1)
    return squares


def _kth_largest(values: "NDArray[np.floating]", k: int) -> "NDArray[np.floating]":
    """Return per row (q,) a value that at least k entries reach: the k-th largest, or a little below it.

    The maxima of groups of columns stand for all columns: k of them reach their k-th largest, so k entries do. It
    takes a tenth of the time to find it among a sixteenth of the values.
    """
    q, m = values.shape
    if m >= 64 * k and m >= 1024:
        values = values[:, : m // 16 * 16].reshape(q, 16, m // 16).max(axis=1)
    k = min(k, values.shape[1])
    return np.partition(values, values.shape[1] - k, axis=1)[:, values.shape[1] - k]


def _at_least(
    values: "NDArray[np.floating]", floor: "NDArray[np.float64]"
) -> "tuple[NDArray[np.intp], NDArray[np.intp]]":
    """Return row and column of the entries that reach their row's floor, in order."""
    # The floor is rounded down: rounded to nearest it might pass over an entry that reaches it.
    edge = np.nextafter(floor.astype(values.dtype), values.dtype.type(-np.inf))
    flat = np.flatnonzero((values >= edge[:, None]).ravel())  # three times as fast as np.nonzero in two dimensions
    return np.divmod(flat, values.shape[1])


def _distinct(
    vectors: "NDArray[np.float32]",
) -> "tuple[NDArray[np.int64], NDArray[np.int64], list[NDArray[np.int64]] | None]":
    """Find equal rows.

    Returns
    -------
    first, copy_of, members
        Row of the first of each kind, in row order; (n,) the kind of each row; the rows of each kind in order, or None
        where no two rows are equal.
    """
    n, d = vectors.shape
    if d == 0:
        return np.zeros(1, np.int64), np.zeros(n, np.int64), [np.arange(n)]
    # By bytes: rows that differ only in -0.0 count as two kinds, and get equal scores all the same.
    plain = np.ascontiguousarray(vectors).view(f"V{4 * d}").ravel()
    _, first, kind = np.unique(plain, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    first, kind = np.sort(first), rank[kind.ravel()]
    if len(first) == n:
        return first, kind, None
    by_kind = np.argsort(kind, kind="stable")
    return first, kind, np.split(by_kind, np.cumsum(np.bincount(kind))[:-1])
