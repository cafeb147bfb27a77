"""Files of evidence for print, by matplotlib's own objects: no browser, and nothing of pyplot's state."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from .panels import MIDDLE, OPACITY, Cell, Panel, Sheet, evidence_sheet, lines_visible, many_sheet, under_a_map
from .style import DIVERGING, LINE, SEQUENTIAL, shortened, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_SUFFIXES = (".png", ".pdf", ".svg")
_GAP = 8  # pixels between columns
_BAR = 110  # pixels of the color bar and its words
_EDGE = 10
_INCH = 100  # pixels of the layout an inch
_DPI = 300  # of a PNG
_FINE = 512  # pixels a side that a picture has at least in the file: viewers blur what they enlarge themselves
_POINTS = 8.2  # of text: 0.155 characters a pixel of the layout
_INK = "#1a1a1a"


def evidence_image(
    path: "str | Path", panels: Sequence[Panel], headline: str, unit: str, *, note: str = "", grid: bool = False
) -> Path:
    """Write images with their maps, as `evidence_figure` draws them, to a file for print.

    Parameters
    ----------
    path
        Ends in .png (300 dots an inch), .pdf or .svg. A file that is there is replaced.
    panels, headline, unit, note, grid
        As for `evidence_figure`.

    Returns
    -------
    Path
        Absolute.

    Raises
    ------
    InputError
        There is no panel, or the path ends in another way, is a folder, or is in none.
    """
    return write(path, _printed(evidence_sheet(panels, grid=grid), headline, unit, note=note, grid=grid))


def many_image(
    path: "str | Path", pairs: Sequence[tuple[Panel, Panel]], headline: str, unit: str, *, note: str = "",
    grid: bool = False,
) -> Path:  # fmt: skip
    """Write one query against several others, as `many_figure` draws them, to a file: as `evidence_image`."""
    return write(path, _printed(many_sheet(pairs, grid=grid), headline, unit, note=note, grid=grid))


def new_page(width: float, height: float, headline: "Sequence[str]") -> "Figure":
    """Return an empty figure of so many pixels of the layout, with the lines of its title."""
    from matplotlib.figure import Figure

    page = Figure(figsize=(width / _INCH, height / _INCH), facecolor="white")
    words(page, "\n".join(headline), (_EDGE, _EDGE), size=_POINTS * 1.08)
    return page


def words(page: "Figure", text: str, at: tuple[float, float], *, size: float = _POINTS, **options: Any) -> None:
    """Write lines at (pixels from the left, pixels from the top). Strangers' texts are text: no formulas.

    A file's name need not be UTF-8: what stands for its bytes then (surrogates) is written as question marks.
    """
    text = text.encode("utf-8", "replace").decode()
    width, height = (inches * _INCH for inches in page.get_size_inches())
    place: dict[str, Any] = {"ha": "left", "va": "top", "linespacing": LINE / (size / 72 * _INCH) / 1.17} | options
    page.text(at[0] / width, 1 - at[1] / height, text, size=size, color=_INK, parse_math=False, **place)


def room(page: "Figure", left: float, top: float, width: float, height: float) -> "Axes":
    """Return axes without ticks or frame at these pixels, from the top left."""
    across, down = (inches * _INCH for inches in page.get_size_inches())
    axes = page.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))
    axes.set_axis_off()
    return axes


def write(path: "str | Path", page: "Figure") -> Path:
    """Write a page to a file by the suffix of its name; nothing is left where drawing fails."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    target = Path(path).absolute()
    kind = target.suffix.lower()
    if kind not in _SUFFIXES:
        raise InputError(f"The name {target.name!r} must end in {', '.join(_SUFFIXES)}: that says what is written.")
    if target.is_dir() or not target.parent.is_dir():
        wrong = "is a folder" if target.is_dir() else "is in no folder that exists"
        raise InputError(f"{str(target)!r} {wrong}: name a file in a folder that is there.")
    FigureCanvasAgg(page)
    buffer = io.BytesIO()
    # The same evidence gives the same bytes; fonts are embedded as outlines that journals take (no Type 3).
    dates = {".png": {}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}[kind]
    with matplotlib.rc_context({"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "vizkit"}):
        page.savefig(buffer, format=kind[1:], dpi=_DPI, metadata=dates)
    target.write_bytes(buffer.getvalue())
    return target


def sharp(image: "NDArray[np.uint8]") -> "NDArray[np.uint8]":
    """Return a small picture enlarged by a whole factor, its pixels square."""
    factor = -(-_FINE // max(image.shape[:2]))
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def _printed(sheet: Sheet, headline: str, unit: str, *, note: str, grid: bool) -> "Figure":
    plot = sheet.columns * (sheet.side + _GAP) - _GAP
    width = _EDGE + plot + _EDGE + _BAR
    over, below = wrapped(headline, width - 20), wrapped(note, width - 20)
    titles = [lines * LINE + (10 if lines else _GAP) for lines in sheet.lines]
    start = _EDGE + LINE * 1.1 * len(over)
    tops = start + np.cumsum([0, *(above + sheet.side for above in titles[:-1])]) + titles
    bottom = float(tops[-1]) + sheet.side
    page = new_page(width, bottom + _EDGE + LINE * len(below) + 6 * bool(below), over)
    for cell in sheet.cells:
        left, top = _EDGE + cell.column * (sheet.side + _GAP), float(tops[cell.row])
        _place(page, sheet, cell, (left, top), grid=grid)
    words(page, "\n".join(below), (_EDGE, bottom + 8))
    _bar(page, sheet, unit, (_EDGE + plot + _EDGE, float(tops[0]), bottom - float(tops[0])))
    return page


def _place(page: "Figure", sheet: Sheet, cell: Cell, at: tuple[float, float], *, grid: bool) -> None:
    """Draw a cell, its upper left corner at these pixels."""
    (left, top), side = at, sheet.side
    text = "\n".join(shortened(line, int(side * 0.155)) for line in cell.lines)
    if cell.seen is None:
        words(page, text, (left + side, top + side / 2), ha="right", va="center")
        return
    words(page, text, (left, top - 7), va="baseline")
    height, width = cell.seen.shape[:2]
    fit = side / max(height, width)
    axes = room(page, left, top, width * fit, height * fit)
    picture = cell.seen if cell.map is None else _mixed(cell.seen, cell.map, sheet)
    axes.imshow(sharp(picture), extent=(0, width, height, 0), aspect="auto", interpolation="nearest")
    if cell.map is not None and grid and lines_visible(cell, side):
        rows, columns = cell.map.shape
        style: dict[str, Any] = {"colors": "white", "linewidth": 0.5, "alpha": 0.55}
        axes.hlines(np.arange(1, rows) * height / rows, 0, width, **style)
        axes.vlines(np.arange(1, columns) * width / columns, 0, height, **style)
    axes.set(xlim=(0, width), ylim=(height, 0))


def _mixed(seen: "NDArray[np.uint8]", values: "NDArray[np.float32]", sheet: Sheet) -> "NDArray[np.uint8]":
    """Return a picture under its map, as pixels: every cell of the map has the pixels whose centers lie in it.

    Mixed here and not by the viewer: transparency and small images come out differently from viewer to viewer.
    """
    under = sharp(under_a_map(seen)).astype(np.float32)
    row, column = (((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(under.shape, values.shape, strict=False))
    colors = _colors(sheet)(_share(sheet, values))[..., :3] * 255
    return (OPACITY * colors[np.ix_(row, column)] + (1 - OPACITY) * under).round().astype(np.uint8)


def _share(sheet: Sheet, values: "NDArray[Any]") -> "NDArray[np.float64]":
    """Return where values lie on the scale, in [0, 1]."""
    low = -sheet.limit if sheet.signed else 0.0
    return (np.asarray(values, np.float64) - low) / (sheet.limit - low)


def _colors(sheet: Sheet) -> Any:
    import matplotlib
    from matplotlib.colors import LinearSegmentedColormap

    if sheet.signed:
        return LinearSegmentedColormap.from_list("signed", DIVERGING, N=512)
    return matplotlib.colormaps[SEQUENTIAL.lower()]


def _bar(page: "Figure", sheet: Sheet, unit: str, place: tuple[float, float, float]) -> None:
    """Draw the color bar at (left, top, height) in pixels: what the colors look like over a picture."""
    left, top, height = place
    axes = room(page, left, top, 12, height)
    axes.set_axis_on()
    ends = (-sheet.limit if sheet.signed else 0.0, sheet.limit)
    colors = OPACITY * _colors(sheet)(np.linspace(1, 0, 256))[:, None, :3] + (1 - OPACITY) * MIDDLE / 255
    axes.imshow(colors, extent=(0, 1, *ends), aspect="auto", interpolation="nearest")
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.tick_params(length=2, labelsize=_POINTS, colors=_INK, pad=2)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.yaxis.set_label_position("right")
    axes.set_ylabel(unit.replace(", ", ",\n"), size=_POINTS, color=_INK, parse_math=False)
