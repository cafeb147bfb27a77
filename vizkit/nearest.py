"""The exact nearest rows of a matrix; plain arrays in, plain arrays out.

`candidates` names candidates, complete by proof. Here they are scored in double precision, pair by pair in one fixed
order of additions, so that equal rows get equal scores whatever stands beside them, and ranked.
"""

from typing import TYPE_CHECKING

import numpy as np

from .candidates import candidates
from .products import BLOCK_BYTES, METRICS, Metric, Products, in_threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["METRICS", "Metric", "NearestRows"]

_CHUNK_BYTES = 2**19  # of pairs in double precision: stays in a core's cache


class NearestRows:
    """Exact search among the rows of a matrix; keeps a float32 copy of it, in a file where memory is short.

    Scores: for "cosine" the cosine in [-1, 1], 0 where either vector is zero and exactly 1 between equal rows; for
    "euclidean" minus the distance; for "inner_product" the sum of products. Higher is nearer, ties go by row.

    Parameters
    ----------
    vectors
        (n, d) float32 or float16, finite, n >= 1; may be mapped from a file. Not copied as they are: they must not
        change afterwards.
    metric
        "cosine", "euclidean" or "inner_product".
    """

    def __init__(self, vectors: "NDArray[np.floating]", metric: Metric = "cosine") -> None:
        self.metric = metric
        self._vectors = vectors
        # Equal rows are searched once: sets with thousands of copies would otherwise be all ties.
        self._first, self._copy_of = _distinct(vectors)
        self._copies = _Copies(self._first, self._copy_of)
        self._products = Products(vectors, self._first, metric)
        self._squares = _squares(vectors)[self._first]

    def __len__(self) -> int:
        """Count the rows, copies included."""
        return len(self._vectors)

    def search(
        self, queries: "NDArray[np.floating]", k: int, *, progress: bool = False
    ) -> "tuple[NDArray[np.int64], NDArray[np.float64]]":
        """Return the k nearest rows of each query and their scores, best first.

        Parameters
        ----------
        queries
            (q, d) float32 or float16, finite.
        k
            Rows wanted; at most n come back.
        progress
            Show a bar when it takes more than two seconds.

        Returns
        -------
        rows, scores
            (q, min(k, n)) int64 and float64.
        """
        return self._search(queries, k, progress, None)

    def graph(
        self, k: int, *, progress: bool = False, half: bool | None = None
    ) -> "tuple[NDArray[np.int64], NDArray[np.float64]]":
        """Return the k nearest other rows of every row: `search`, with each row left out of its own list by position.

        Parameters
        ----------
        k
            Rows wanted; at most n - 1 come back.
        progress
            Show a bar when it takes more than two seconds.
        half
            Whether to find candidates in half precision; by default where it is faster. The result is the same.

        Returns
        -------
        rows, scores
            (n, min(k, n - 1)) int64 and float64. A copy of a row stays in its list; only the row itself goes.
        """
        k = min(k, len(self) - 1)
        return self._of_others(*self._search(None, k + 1, progress, half))

    def graph_of(
        self, rows: "NDArray[np.integer]", k: int, *, progress: bool = False
    ) -> "tuple[NDArray[np.int64], NDArray[np.float64]]":
        """Return the k nearest others of some rows (m,), exactly: the lines of `graph` that are theirs."""
        k = min(k, len(self) - 1)
        return _without(rows, *self._search(self._vectors[rows], k + 1, progress, None))

    def graph_among(self, candidates: "NDArray[np.integer]", k: int) -> "tuple[NDArray[np.int64], NDArray[np.float64]]":
        """Return the k nearest others of every row among candidates, ranked by exact scores: `graph` if they are all.

        Parameters
        ----------
        candidates
            (m, c) of each of the `distinct` rows c different ones of them, the row itself included; c > k.
        k
            Rows wanted; at most n - 1 come back.
        """
        k = min(k, len(self) - 1)
        m, c = candidates.shape
        rows, scores = np.empty((m, k + 1), np.int64), np.empty((m, k + 1))
        step = max(1, BLOCK_BYTES // (64 * c))
        for start in range(0, m, step):
            some = np.sort(candidates[start : start + step], axis=1)  # ties go by row
            own = np.repeat(np.arange(start, start + len(some)), c)
            keys = self._keys(None, own, some.ravel()).reshape(some.shape)
            best = np.argsort(-keys, axis=1, kind="stable")[:, : k + 1]
            block = slice(start, start + len(some))
            rows[block], scores[block] = self._copies.spread(
                np.take_along_axis(some, best, 1), np.take_along_axis(keys, best, 1), k + 1
            )
        return self._of_others(rows, self._as_scores(scores))

    @property
    def distinct(self) -> "NDArray[np.float32]":
        """(m, d) the distinct rows as they are compared: centered, and for cosine of unit length before."""
        return self._products.placed.unit

    def _of_others(
        self, rows: "NDArray[np.int64]", scores: "NDArray[np.float64]"
    ) -> "tuple[NDArray[np.int64], NDArray[np.float64]]":
        """Turn lists (m, k + 1) of the distinct rows into lists (n, k) of all rows, without themselves."""
        if self._copies.any:
            rows, scores = rows[self._copy_of], scores[self._copy_of]
        return _without(np.arange(len(self)), rows, scores)

    def scores(self, rows: "NDArray[np.integer]", others: "NDArray[np.integer]") -> "NDArray[np.float64]":
        """Return the scores of pairs of rows, (m,) float64: bit by bit the values that `search` and `graph` rank by."""
        return self._as_scores(self._keys(None, self._copy_of[rows], self._copy_of[others]))

    def ranks(
        self, rows: "NDArray[np.integer]", others: "NDArray[np.integer]", *, progress: bool = False
    ) -> "NDArray[np.int64]":
        """Return which place others take among all other rows of the set, by score, exactly.

        Parameters
        ----------
        rows
            (m,) rows of the set.
        others
            (m, k) rows of the set, none of them the row itself.
        progress
            Show a bar when it takes more than two seconds.

        Returns
        -------
        NDArray
            (m, k) int64, from 1, the nearest, to n - 1; ties go by row; the row itself is left out.
        """
        from tqdm.auto import tqdm

        rows, others = np.asarray(rows), np.asarray(others)
        found = np.empty(others.shape, np.int64)
        step = max(1, BLOCK_BYTES // (4 * self._products.m))
        with tqdm(total=len(rows), desc="ranks", unit="row", delay=2, leave=False, disable=not progress) as bar:
            for start in range(0, len(rows), step):
                block = slice(start, start + step)
                found[block] = self._ranks(rows[block], others[block])
                bar.update(len(found[block]))
        return found

    def _ranks(self, rows: "NDArray[np.integer]", others: "NDArray[np.integer]") -> "NDArray[np.int64]":
        own, kinds = self._copy_of[rows], self._copy_of[others]
        k = kinds.shape[1]
        targets = self._keys(None, np.repeat(own, k), kinds.ravel()).reshape(kinds.shape)
        itself = self._keys(None, own, own)[:, None]
        counted = (itself > targets) | ((itself == targets) & (rows[:, None] < others))
        # Rows outside [low, high] are nearer or farther for sure; those inside are scored.
        products, low, high = self._products.around(own, targets)

        def rank(i: int) -> "NDArray[np.int64]":
            # For a few others this takes a third of the time of sorting all products.
            mine = products[i]
            ahead = np.array([self._copies.count(mine > most) for most in high[i]], np.int64)
            spans = [np.flatnonzero((mine >= a) & (mine <= b)) for a, b in zip(low[i], high[i], strict=True)]
            of = np.repeat(np.arange(k), [len(span) for span in spans])
            inside = np.concatenate([*spans, of[:0]])
            # Each row is scored once, though its place may be in doubt beside several others.
            doubt, back = np.unique(inside, return_inverse=True)
            keys = self._keys(None, np.full(len(doubt), own[i]), doubt, in_turn=True)[back]
            nearer = keys > targets[i, of]
            tied = np.flatnonzero(keys == targets[i, of])
            place = 1 + ahead + np.bincount(of, nearer * self._copies.sizes(inside), minlength=k).astype(np.int64)
            before = self._copies.before(inside[tied], others[i, of[tied]])
            return place + np.bincount(of[tied], before, minlength=k).astype(np.int64)

        places = in_threads(rank, range(len(rows)))
        return np.array(places, np.int64).reshape(kinds.shape) - counted

    def _search(
        self, queries: "NDArray[np.floating] | None", k: int, progress: bool, half: bool | None
    ) -> "tuple[NDArray[np.int64], NDArray[np.float64]]":
        """Search for outside vectors, or for the distinct rows themselves."""
        from tqdm.auto import tqdm

        k = min(k, len(self))
        distinct = min(k, len(self._first))
        n = len(self._first) if queries is None else len(queries)
        squares = self._squares if queries is None else _squares(queries)
        rows, scores = np.empty((n, k), np.int64), np.empty((n, k))
        with tqdm(total=n, desc="neighbors", unit="row", delay=2, leave=False, disable=not progress) as bar:
            for settled, query, candidate in candidates(self._products, queries, distinct, half=half):
                if len(settled) == 0:
                    continue
                keys = self._keys(queries, query, candidate, squares)
                order = np.lexsort((candidate, -keys, query))
                starts = np.searchsorted(query[order], settled)
                best = order[starts[:, None] + np.arange(distinct)]
                rows[settled], scores[settled] = self._copies.spread(candidate[best], keys[best], k)
                bar.update(len(settled))
        return rows, self._as_scores(scores)

    def _keys(
        self,
        queries: "NDArray[np.floating] | None",
        query: "NDArray[np.integer]",
        row: "NDArray[np.integer]",
        squares: "NDArray[np.float64] | None" = None,
        *,
        in_turn: bool = False,
    ) -> "NDArray[np.float64]":
        """Return what pairs are ranked by, (pairs,): the score, or minus the squared distance.

        Queries are outside vectors, with their squared lengths, or None: the distinct rows.
        """
        keys = np.empty(len(query))

        def score(start: int) -> None:
            part = slice(start, start + step)
            a = self._products.rows(query[part]) if queries is None else queries[query[part]]
            a, b = a.astype(np.float64), self._products.rows(row[part]).astype(np.float64)
            if self.metric == "euclidean":
                a -= b
                b = a
            # Along a contiguous axis einsum adds in an order that depends on d alone; BLAS does not promise that.
            keys[part] = np.einsum("ij,ij->i", a, b)

        step = max(1, _CHUNK_BYTES // (8 * max(1, self._vectors.shape[1])))
        starts = range(0, len(query), step)
        if in_turn:
            for start in starts:
                score(start)
        else:
            in_threads(score, starts)
        if self.metric == "euclidean":
            return np.negative(keys, out=keys)
        if self.metric == "inner_product":
            return keys
        squares = self._squares if squares is None else squares
        both = np.sqrt(squares[query] * self._squares[row])  # of equal vectors exactly their square: a cosine of 1.0
        return np.clip(np.divide(keys, both, out=np.zeros_like(keys), where=both > 0), -1, 1)

    def _as_scores(self, keys: "NDArray[np.float64]") -> "NDArray[np.float64]":
        return -np.sqrt(-keys) if self.metric == "euclidean" else keys


def _without(
    own: "NDArray[np.integer]", rows: "NDArray[np.int64]", scores: "NDArray[np.float64]"
) -> "tuple[NDArray[np.int64], NDArray[np.float64]]":
    """Take each row out of its own list (m, k + 1)."""
    away = rows == own[:, None]
    away[~away.any(axis=1), -1] = True  # k + 1 others are as near as the row itself: the last of them goes
    shape = (len(rows), rows.shape[1] - 1)
    return rows[~away].reshape(shape), scores[~away].reshape(shape)


class _Copies:
    """Which rows are copies of which.

    Parameters
    ----------
    first
        (m,) the first row of each kind, in order.
    kind
        (n,) the kind of each row.
    """

    def __init__(self, first: "NDArray[np.int64]", kind: "NDArray[np.int64]") -> None:
        self._first, self._n = first, len(kind)
        self.any = len(first) < len(kind)
        if self.any:
            self._rows = np.argsort(kind, kind="stable")  # by kind, in order within it
            self._sizes = np.bincount(kind)
            self._starts = np.cumsum(self._sizes) - self._sizes
            self._places = kind[self._rows] * self._n + self._rows  # rises

    def sizes(self, kinds: "NDArray[np.integer]") -> "NDArray[np.int64]":
        """Return how many rows are of these kinds."""
        return self._sizes[kinds] if self.any else np.ones(len(kinds), np.int64)

    def count(self, chosen: "NDArray[np.bool_]") -> int:
        """Return how many rows are of the chosen kinds (m,)."""
        return int(self._sizes[chosen].sum()) if self.any else int(np.count_nonzero(chosen))

    def before(self, kinds: "NDArray[np.integer]", rows: "NDArray[np.integer]") -> "NDArray[np.int64]":
        """Return how many rows of each kind come before a row."""
        if not self.any:
            return (self._first[kinds] < rows).astype(np.int64)
        return np.searchsorted(self._places, kinds * self._n + rows) - self._starts[kinds]

    def spread(
        self, kinds: "NDArray[np.integer]", keys: "NDArray[np.float64]", k: int
    ) -> "tuple[NDArray[np.int64], NDArray[np.float64]]":
        """Turn the best kinds (q, at most k) into the k best rows, each followed by its copies, ties by row."""
        if not self.any:
            return self._first[kinds], keys
        rows, scores = np.empty((len(kinds), k), np.int64), np.empty((len(kinds), k))
        single = (self._sizes[kinds] == 1).all(axis=1)
        if single.any():  # then there are k kinds: where there are fewer, a query gets all, copied ones among them
            rows[single], scores[single] = self._first[kinds[single]], keys[single]
        for i in np.flatnonzero(~single):
            sizes = np.minimum(self._sizes[kinds[i]], k)
            starts = self._starts[kinds[i]]
            found = np.concatenate([self._rows[a : a + s] for a, s in zip(starts, sizes, strict=True)])
            found_keys = np.repeat(keys[i], sizes)
            order = np.lexsort((found, -found_keys))[:k]
            rows[i], scores[i] = found[order], found_keys[order]
        return rows, scores


def _squares(vectors: "NDArray[np.floating]") -> "NDArray[np.float64]":
    """Return the squared lengths (n,) in double precision, each added in one fixed order."""
    squares = np.empty(len(vectors))

    def add(start: int) -> None:
        wide = vectors[start : start + step].astype(np.float64)
        squares[start : start + step] = np.einsum("ij,ij->i", wide, wide)

    step = max(1, _CHUNK_BYTES // (8 * max(1, vectors.shape[1])))
    in_threads(add, range(0, len(vectors), step))
    return squares


def _distinct(vectors: "NDArray[np.floating]") -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
    """Return the row of the first of each kind of equal rows, in row order, and the kind of each row (n,).

    By bytes: rows that differ only in -0.0 count as two kinds, and get equal scores all the same.
    """
    n, d = vectors.shape
    if d == 0:
        return np.zeros(1, np.int64), np.zeros(n, np.int64)
    words = f"u{vectors.itemsize}"
    odd = np.random.default_rng(0).integers(0, 2**63, d, np.uint64) * np.uint64(2) + np.uint64(1)
    marks = np.empty(n, np.uint64)

    def mark(start: int) -> None:
        bits = np.ascontiguousarray(vectors[start : start + step]).view(words)
        marks[start : start + step] = (bits * odd).sum(axis=1, dtype=np.uint64)

    step = max(1, _CHUNK_BYTES // (8 * d))
    in_threads(mark, range(0, n, step))
    # Equal rows have equal marks; rows with equal marks are compared, in full.
    _, first, kind = np.unique(marks, return_index=True, return_inverse=True)
    kind = kind.ravel()
    if len(first) < n:
        shared = np.flatnonzero(np.bincount(kind)[kind] > 1)
        plain = np.ascontiguousarray(vectors[shared]).view(f"V{vectors.itemsize * d}").ravel()
        kind[shared] = len(first) + np.unique(plain, return_inverse=True)[1].ravel()
    _, first, kind = np.unique(kind, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return np.sort(first), rank[kind.ravel()]
