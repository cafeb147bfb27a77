"""Candidates for the nearest rows, complete by proof: in half precision first, then in single, then in double.

Where |product - score| <= bound, the k-th best score is at least (k-th best product) - bound, and so each of the k best
rows has a product of at least (k-th best product) - 2 bound: rows that reach this are the candidates, and no other can
be among the k best. Products in bfloat16 are rounded once more when they are written; as rounding keeps the order, only
the rounding at the threshold counts.

Queries that are left with many candidates go on to the next precision.
"""

import sys
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .products import BLOCK_BYTES, GROUP, Placed, Products
from .room import room

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

# Half precision: below so many pairs it is over before it pays; to import torch for it takes more of them.
_HALF_PAIRS, _HALF_PAIRS_WITH_IMPORT = 2 * 10**7, 2 * 10**9
# Processors differ in how they round inside such a product: four times single precision's rounding covers them.
_ADDED = 2.0**-22
_WRITTEN = 2.0**-8 * 1.02  # by how much of itself a product changes when it is written in bfloat16, and a little more


def candidates(
    products: Products, queries: "NDArray[np.floating] | None", k: int, *, half: bool | None = None
) -> "Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]]":
    """Yield, in some order, queries that are settled, and (query, row) pairs among which are their k best rows.

    Parameters
    ----------
    products
        The rows.
    queries
        (q, d), or None: the rows themselves.
    k
        From 1 to m.
    half
        Whether to begin in half precision; by default where it pays.
    """
    q = products.m if queries is None else len(queries)
    todo = np.arange(q)
    if half or (half is None and _half_pays(products, q)):
        todo = yield from _settle(Half(products, k), queries, todo, k)
    if len(todo):
        todo = yield from _settle(Single(products, k), queries, todo, k)
    if len(todo):
        yield from _settle(Double(products), queries, todo, k)


def _settle(
    scores: "Half | Single | Double",
    queries: "NDArray[np.floating] | None",
    todo: "NDArray[np.intp]",
    k: int,
) -> "Generator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]], None, NDArray[np.intp]]":
    """Yield what `candidates` yields for the queries that have few; return the others."""
    blocks = [todo[start : start + scores.step] for start in range(0, len(todo), scores.step)]
    left, settled, seen = [todo[:0]], 0, 0
    # While candidates of one block are picked and scored, which keeps one core busy, the next one is multiplied.
    with ThreadPoolExecutor(1) as ahead:
        coming: Future | None = None
        for i, block in enumerate(blocks):
            values, bound = coming.result() if coming else scores.load(queries, block, 0)
            if i + 1 < len(blocks):
                coming = ahead.submit(scores.load, queries, blocks[i + 1], (i + 1) % 2)
            query, row, crowded = _reaching(scores, values, k, bound)
            left.append(block[crowded])
            seen += len(block)
            settled += len(block) - len(left[-1])
            yield block[~crowded], block[query], row
            if i >= 3 and settled < seen / 2:
                left.extend(blocks[i + 1 :])  # it does not pay on these vectors
                break
    return np.concatenate(left)


def _half_pays(products: Products, q: int) -> bool:
    pairs = q * products.m
    enough = _HALF_PAIRS if "torch" in sys.modules else _HALF_PAIRS_WITH_IMPORT
    return pairs >= enough and q >= 256 and products.d >= 64 and products.tilt < 1e30 and half_is_faster()


class Single:
    """Products of a block of queries in single precision, looked at in groups of columns first."""

    half = False

    def __init__(self, products: Products, k: int) -> None:
        self._products = products
        padded = len(products.bias)
        self.group = _group(padded, k)
        self.step = int(np.clip(BLOCK_BYTES // (4 * padded), 1, 1024))
        with np.errstate(over="ignore"):
            self._bias = products.bias.astype(np.float32)
        self._slots = [np.empty((0, padded), np.float32)] * 2

    def load(
        self, queries: "NDArray[np.floating] | None", block: "NDArray[np.intp]", slot: int
    ) -> "tuple[NDArray[np.float32], NDArray[np.float64]]":
        """Return products of a block of queries, or of rows, and how far each may be off, (q,).

        They lie in one of two slots, and hold until that is asked for again.
        """
        placed = _placed(self._products, queries, block)
        if len(self._slots[slot]) < len(block):  # kept from block to block: fresh memory costs a pass of its own
            self._slots[slot] = np.empty((len(block), len(self._bias)), np.float32)
        values = np.matmul(placed.unit, self._products.unit.T, out=self._slots[slot][: len(block)])
        values += self._bias
        return values, self._products.single_bound(placed)

    def groups(self, values: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """Return (q, g) the largest of each group of columns: of c, c + g, c + 2 g, ..."""
        return values if self.group == 1 else values.reshape(len(values), self.group, -1).max(axis=1)

    def members(
        self, values: "NDArray[np.float32]", query: "NDArray[np.intp]", column: "NDArray[np.intp]"
    ) -> "NDArray[np.float32]":
        """Return (pairs, group) the values of some groups."""
        return values.reshape(len(values), self.group, -1)[query, :, column]


class Half:
    """The same in bfloat16, through torch. A row's bias goes along in three more columns, which hold 24 bits of it."""

    half = True

    def __init__(self, products: Products, k: int) -> None:
        import torch

        self._products = products
        padded, d = products.unit.shape
        width = -(-(d + 3) // 2) * 2
        self.group = _group(padded, k)
        self.step = int(np.clip(2 * BLOCK_BYTES // (2 * padded), 64, 512))
        # Room is float32, a file where memory is short; two numbers of ours lie in one of it.
        self._rows = torch.from_numpy(room((padded, width // 2))).view(torch.bfloat16)
        bias = torch.from_numpy(products.bias)
        for column in range(d, d + 3):
            self._rows[:, column] = bias.bfloat16()
            bias = bias - self._rows[:, column].double()
        self._rows_off = float(products.placed.off.max())
        step = max(1, BLOCK_BYTES // (16 * d))
        for start in range(0, padded, step):
            part = slice(start, start + step)
            unit = torch.from_numpy(products.unit[part])
            self._rows[part, :d] = unit.bfloat16()
            lost = (unit - self._rows[part, :d].float()).norm(dim=1).max()
            self._rows_off = max(self._rows_off, float(products.placed.off.max()) + float(lost) * (1 + 1e-4))
        self._queries = torch.zeros((self.step, width), dtype=torch.bfloat16)
        self._queries[:, d : d + 3] = 1
        self._slots = [torch.empty((self.step, padded), dtype=torch.bfloat16) for _ in range(2)]

    def load(
        self, queries: "NDArray[np.floating] | None", block: "NDArray[np.intp]", slot: int
    ) -> "tuple[Tensor, NDArray[np.float64]]":
        """Return products as `Single.load` does."""
        import torch

        placed = _placed(self._products, queries, block)
        unit, few = torch.from_numpy(placed.unit), self._queries[: len(block)]
        few[:, : self._products.d] = unit.bfloat16()
        lost = (unit - few[:, : self._products.d].float()).norm(dim=1).double().numpy()
        values = torch.mm(few, self._rows.T, out=self._slots[slot][: len(block)])
        placed = placed._replace(off=placed.off + lost * (1 + 1e-4))
        return values, self._products.bound(placed, self._rows_off, _ADDED)

    def groups(self, values: "Tensor") -> "NDArray[np.float32]":
        """Return the largest of groups as `Single.groups` does, where it is positive; else some value of the group.

        The bits of positive numbers are in order as integers, whose maximum takes a twentieth of the time.
        """
        import torch

        if self.group > 1:
            bits = values.view(torch.int16).view(len(values), self.group, -1)
            values = bits.amax(dim=1).view(torch.bfloat16)
        return values.float().numpy()

    def true_groups(self, values: "Tensor", queries: "NDArray[np.intp]") -> "NDArray[np.float32]":
        """Return the largest of each group, whatever its sign, for some queries of the block."""
        import torch

        true = values[torch.from_numpy(queries)].float().numpy()
        return true.reshape(len(queries), self.group, -1).max(axis=1)

    def members(self, values: "Tensor", query: "NDArray[np.intp]", column: "NDArray[np.intp]") -> "NDArray[np.float32]":
        """Return members of groups as `Single.members` does."""
        import torch

        padded = values.shape[1]
        first = torch.from_numpy(query * padded + column)
        index = first[:, None] + torch.arange(self.group) * (padded // self.group)
        return values.view(-1).take(index).float().numpy()


class Double:
    """The same in double precision: the last resort, which leaves no query."""

    half, group = False, 1

    def __init__(self, products: Products) -> None:
        self._products = products
        self.step = int(np.clip(BLOCK_BYTES // (8 * products.m), 1, 1024))

    def load(
        self, queries: "NDArray[np.floating] | None", block: "NDArray[np.intp]", slot: int
    ) -> "tuple[NDArray[np.float64], NDArray[np.float64]]":
        """Return products as `Single.load` does."""
        vectors = self._products.rows(block) if queries is None else queries[block]
        return self._products.double(vectors)

    def groups(self, values: "NDArray[np.float64]") -> "NDArray[np.float64]":
        """Return the largest of groups as `Single.groups` does."""
        return values

    def members(
        self, values: "NDArray[np.float64]", query: "NDArray[np.intp]", column: "NDArray[np.intp]"
    ) -> "NDArray[np.float64]":
        """Return members of groups as `Single.members` does."""
        return values[query, column][:, None]


def _placed(products: Products, queries: "NDArray[np.floating] | None", block: "NDArray[np.intp]") -> Placed:
    if queries is None:
        return products.placed.some(block)
    return products.place(queries[block])


def _group(padded: int, k: int) -> int:
    """Return how many columns go into a group: one, where there are too few groups for their maxima to tell much."""
    return GROUP if padded >= max(64 * k, 1024) else 1


def _reaching(
    scores: Half | Single | Double, values: Any, k: int, bound: "NDArray[np.float64]"
) -> "tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]":
    """Return the pairs that reach their query's threshold, by query, and which queries (q,) have too many of them."""
    groups = scores.groups(values)
    edge = _edge(groups, k, bound, scores.half)
    if isinstance(scores, Half) and (low := np.flatnonzero(edge <= 0)).size:
        groups[low] = scores.true_groups(values, low)
        edge[low] = _edge(groups[low], k, bound[low], True)
    most = groups.shape[1] * GROUP if isinstance(scores, Double) else max(8 * k, 256)
    crowded = ~(bound < 1e25) & (not isinstance(scores, Double))
    edge[crowded] = np.inf
    # Rounded down: rounded to nearest, it might pass over an entry that reaches it.
    edge = np.nextafter(edge.astype(groups.dtype), groups.dtype.type(-np.inf))
    reached = groups >= edge[:, None]
    many = np.count_nonzero(reached, axis=1) > most
    reached[many] = False
    query, column = np.divmod(np.flatnonzero(reached), groups.shape[1])  # three times as fast as np.nonzero in 2-d
    if scores.group > 1:
        members = scores.members(values, query, column)
        pair, member = np.divmod(np.flatnonzero(members >= edge[query][:, None]), scores.group)
        query, column = query[pair], column[pair] + member * groups.shape[1]
        many |= np.bincount(query, minlength=len(bound)) > most
    few = ~many[query]
    return query[few], column[few], crowded | many


def _edge(groups: "NDArray[np.floating]", k: int, bound: "NDArray[np.float64]", half: bool) -> "NDArray[np.float64]":
    """Return what the k best columns of each query reach, (q,), given some values of it (q, g)."""
    # Members of groups stand for all columns: k of them reach their k-th largest, so k columns do.
    at = groups.shape[1] - min(k, groups.shape[1])
    kth = np.partition(groups, at, axis=1)[:, at].astype(np.float64)
    edge = kth - 2 * bound
    if half:
        edge -= 2 * _WRITTEN * (np.abs(kth) + 2 * bound)
    return edge


@cache
def half_is_faster() -> bool:
    """Whether this processor multiplies in bfloat16 faster than in float32, and as exactly as the bounds suppose."""
    try:
        import torch
    except ImportError:
        return False
    few, many = drawn_halves()
    out = torch.empty((len(few), len(many)), dtype=torch.bfloat16)
    single = few.float().numpy(), many.float().numpy()
    # In processor time, in turn: other programs that run meanwhile then weigh little.
    times = [
        (_seconds(lambda: torch.mm(few, many.T, out=out)), _seconds(lambda: single[0] @ single[1].T)) for _ in range(6)
    ]
    half, whole = (min(column) for column in zip(*times, strict=True))
    return half < 0.8 * whole and half_is_sound(few, many)


def half_is_sound(few: "Tensor", many: "Tensor") -> bool:
    """Whether products of bfloat16 vectors (n, d) are as exact as the bounds suppose: against double precision."""
    import torch

    a, b = few.double().numpy(), many.double().numpy()
    found = torch.mm(few, many.T).double().numpy()
    exact = a @ b.T
    sizes = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    return bool((np.abs(found - exact) <= _WRITTEN * np.abs(exact) + a.shape[1] * _ADDED * sizes).all())


def drawn_halves() -> "tuple[Tensor, Tensor]":
    """Return two sets of vectors in bfloat16, (256, 512) and (4096, 512), to try a processor on."""
    import torch

    random = np.random.default_rng(0)
    few, many = (random.standard_normal((n, 512), np.float32) for n in (256, 4096))
    return torch.from_numpy(few).bfloat16(), torch.from_numpy(many).bfloat16()


def _seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start
