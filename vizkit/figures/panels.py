"""What a figure of evidence shows, before it is drawn: panels laid out in cells, on one scale."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROUNDING = 5e-4  # a rest below this would be printed as 0.000
_IN_A_ROW = 2  # up to so many panels stand in one row, each beside its clean picture; more have theirs above
_OTHERS = 8  # others of a query in one row


@dataclass(frozen=True, eq=False)
class Panel:
    """One image with its map.

    Attributes
    ----------
    name
        What the image is called: "a", "query", an id; a line break makes a second line.
    seen
        (H, W, 3) uint8 RGB: what the network saw.
    map
        (h, w) float32 on the method's own grid over what was seen.
    residual
        For methods that add up: what is missing of the value in the map's sum and the baseline; else None.
    baseline
        For methods that start from a featureless image: the value there; else None.
    """

    name: str
    seen: "NDArray[np.uint8]"
    map: "NDArray[np.float32]"
    residual: float | None = None
    baseline: float | None = None


class Cell(NamedTuple):
    """A picture of a sheet, clean or under its map; without a picture, a place for words alone."""

    row: int
    column: int
    lines: tuple[str, ...]  # over it
    seen: "NDArray[np.uint8] | None" = None
    map: "NDArray[np.float32] | None" = None


@dataclass(frozen=True, eq=False)
class Sheet:
    """Cells in rows and columns, and the one scale of all their maps.

    `limit` is the end of the scale, above 0; a signed scale goes from -limit to limit, any other from 0. `lines` says
    how many lines the longest title of each row has.
    """

    cells: list[Cell]
    side: int  # pixels of a cell
    signed: bool
    limit: float
    lines: list[int] = field(init=False)
    columns: int = field(init=False)

    def __post_init__(self) -> None:
        rows = max(cell.row for cell in self.cells) + 1
        lines = [max(len(c.lines) for c in self.cells if c.row == row and c.seen is not None) for row in range(rows)]
        object.__setattr__(self, "lines", lines)
        object.__setattr__(self, "columns", max(cell.column for cell in self.cells) + 1)


def evidence_sheet(panels: Sequence[Panel], *, grid: bool) -> Sheet:
    """Lay out every image clean and with its map: beside it for one or two images, below it for more."""
    if not panels:
        raise InputError("Evidence needs at least one panel; there are none.")
    cells = []
    for i, panel in enumerate(panels):
        clean, under = ((0, 2 * i), (0, 2 * i + 1)) if len(panels) <= _IN_A_ROW else ((0, i), (1, i))
        cells.append(Cell(*clean, _name_lines(panel), panel.seen))
        cells.append(Cell(*under, map_lines(panel, grid=grid), panel.seen, panel.map))
    return Sheet(cells, 210, *scale_of([panel.map for panel in panels]))


def many_sheet(pairs: Sequence[tuple[Panel, Panel]], *, grid: bool) -> Sheet:
    """Lay out one query against several others: for each the other, the map on it, and the map on the query."""
    if not pairs:
        raise InputError("Evidence needs at least one pair; there are none.")
    query = pairs[0][0]
    cells = []
    for i, (own, other) in enumerate(pairs):
        row, column = 3 * (i // _OTHERS), 1 + i % _OTHERS
        if column == 1:
            cells.append(Cell(row, 0, _name_lines(query), query.seen))
            cells.append(Cell(row + 1, 0, ("on each", "neighbor")))
            cells.append(Cell(row + 2, 0, ("on the query,", "for each neighbor")))
        cells.append(Cell(row, column, _name_lines(other), other.seen))
        cells.append(Cell(row + 1, column, map_lines(other, grid=grid), other.seen, other.map))
        cells.append(Cell(row + 2, column, map_lines(own, grid=grid), own.seen, own.map))
    return Sheet(cells, 120, *scale_of([panel.map for pair in pairs for panel in pair]))


def scale_of(maps: "Sequence[NDArray[np.float32]]") -> tuple[bool, float]:
    """Return whether the scale of these maps is signed, and the end of it."""
    return is_signed(*maps), max(float(np.abs(values).max()) for values in maps) or 1.0


def is_signed(*maps: "NDArray[np.float32]") -> bool:
    """Whether the maps go below zero by more than rounding (1e-3 of the largest value)."""
    largest = max((float(np.abs(m).max()) for m in maps), default=0.0)
    return min((float(m.min()) for m in maps), default=0.0) < -1e-3 * largest


def map_lines(panel: Panel, *, grid: bool) -> tuple[str, ...]:
    """Return what stands over a map: its sum check where it adds up, where it starts, and its grid on request."""
    lines = []
    if panel.residual is not None:
        rest = f", rest {shown(panel.residual)}" if abs(panel.residual) >= _ROUNDING else ""
        lines.append(f"sums to {shown(float(panel.map.sum(dtype=np.float64)))}{rest}")
    if panel.baseline is not None:
        lines.append(f"starts at {shown(panel.baseline)}")
    if grid:
        lines.append("grid {} × {}".format(*panel.map.shape))
    return tuple(lines)


def lines_visible(cell: Cell, side: int) -> bool:
    """Whether cells of a map are wide enough, in pixels, for lines between them."""
    return cell.map is not None and max(cell.map.shape) * 4 <= side


def under_a_map(seen: "NDArray[np.uint8]") -> "NDArray[np.uint8]":
    """Return what lies under a map: the picture (H, W, 3) uint8 in gray, as its colors would change those of the map.

    Gray goes along the direction in which the picture's colors differ most (their first principal component), so that
    an object of another hue and equal lightness is still seen. Its range is narrowed around a middle tone: a color
    of the map means nearly the same wherever it lies.
    """
    colors = seen.reshape(-1, 3).astype(np.float32)
    colors -= colors.mean(axis=0)
    axis = np.linalg.eigh(colors.T @ colors)[1][:, -1]
    tone = colors @ (axis if axis.sum() >= 0 else -axis)  # what is lighter shall stay lighter
    low, high = np.percentile(tone, [1, 99])
    tone = ((tone - low) / max(float(high - low), _FLAT)).clip(0, 1) if high > low else np.full_like(tone, 0.5)
    gray = (_DARKEST + (_BRIGHTEST - _DARKEST) * tone).round().astype(np.uint8).reshape(seen.shape[:2])
    return np.repeat(gray[:, :, None], 3, axis=2)


_FLAT = 64  # a picture of a smaller range of tones is not stretched to all of them: it is nearly plain
_DARKEST, _BRIGHTEST = 75, 205
MIDDLE = (_DARKEST + _BRIGHTEST) / 2  # of the pictures under maps, for the color bar, which shows what colors look like
OPACITY = 0.58  # of a map


def _name_lines(panel: Panel) -> tuple[str, ...]:
    return tuple(panel.name.split("\n"))


def shown(value: float) -> str:
    """Return a number as figures write it everywhere: three digits, and a minus sign that is no hyphen."""
    return f"{value:.3f}".replace("-", "−")
