"""Figures of patches that match: two images side by side, and lines between their cells."""

import html
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .panels import Panel
from .pictures import png
from .printed import new_page, room, sharp, words, write
from .style import FONT, LINE, PALETTE, footer, header, shortened, wrapped

if TYPE_CHECKING:
    import plotly.graph_objects as go

_HEIGHT = 300  # pixels of the higher picture
_BETWEEN = 0.35  # of a picture's width, between the two
_INSET = 0.06  # of a cell, between its border and its frame
_COLORS = PALETTE[:9]

_Path = tuple[list[float | None], list[float | None], list[tuple[float, float]]]
Links = Sequence[tuple[tuple[int, int], tuple[int, int], str]]


class _Place(NamedTuple):
    """Where the two pictures lie, in pixels of what was seen: b begins at `second`; all is `width` x `height`."""

    second: float
    width: float
    height: float


def matches_figure(
    panels: Sequence[Panel], links: Links, headline: str, *, note: str = "", grid: bool = False
) -> "go.Figure":
    """Draw two images side by side, with their matching patches framed, numbered and joined.

    Parameters
    ----------
    panels
        The two images; the shapes of their maps are the grids.
    links
        ((row, column) in the first, (row, column) in the second, words for the hover), the strongest first.
    headline, note
        Above and below the pictures.
    grid
        Whether lines show all cells.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    import plotly.graph_objects as go

    place = _places(panels)
    scale = _HEIGHT / place.height
    width = max(place.width * scale, 420) + 20
    (below, under), over = footer(note, width), header(headline, width, below=LINE + 12)
    figure = go.Figure()
    for panel, x0 in zip(panels, (0.0, place.second), strict=True):
        figure.add_trace(go.Image(source=png(panel.seen), x0=x0 + 0.5, y0=0.5, hoverinfo="skip"))
        text = html.escape(shortened(panel.name.replace("\n", " "), int(panel.seen.shape[1] * scale * 0.155)))
        figure.add_annotation(text=text, x=x0, y=0, xanchor="left", yanchor="bottom", showarrow=False)
    for xs, ys in _grids(panels, place) if grid else ():
        line = {"color": "rgba(255,255,255,0.6)", "width": 1}
        figure.add_trace(go.Scatter(x=xs, y=ys, mode="lines", line=line, hoverinfo="skip"))
    for number, color, says, (xs, ys, corners) in _paths(panels, links, place):
        for line in ({"color": "white", "width": 4.5}, {"color": color, "width": 2.2}):
            figure.add_trace(go.Scatter(x=xs, y=ys, mode="lines", line=line, hoverinfo="skip"))
        for x, y in corners:
            figure.add_annotation(
                text=str(number), x=x, y=y, xanchor="left", yanchor="top", showarrow=False, bgcolor=color, borderpad=1,
                font={"color": "white", "size": 11}, hovertext=f"{number}: {html.escape(says)}",
            )  # fmt: skip
    figure.add_annotation(below)
    margins = {"l": 10, "r": 10, "t": over["margin"]["t"], "b": under}
    axes = {"visible": False, "constrain": "domain"}
    figure.update_xaxes(range=[0, place.width], constraintoward="left", **axes)
    figure.update_yaxes(range=[place.height, 0], scaleanchor="x", constraintoward="top", **axes)
    figure.update_layout(
        over, template="plotly_white", font=FONT, height=_HEIGHT + margins["t"] + margins["b"], margin=margins,
        showlegend=False,
    )  # fmt: skip
    return figure


def matches_image(
    path: "str | Path", panels: Sequence[Panel], links: Links, headline: str, *, note: str = "", grid: bool = False
) -> Path:
    """Write what `matches_figure` draws to a file for print: PNG, PDF or SVG by its suffix.

    Raises
    ------
    InputError
        The suffix is another, or the path is a folder or in none.
    """
    place = _places(panels)
    scale = _HEIGHT / place.height
    width = max(place.width * scale, 420) + 20
    over, below = wrapped(headline, width - 20), wrapped(note, width - 20)
    top = 10 + LINE * 1.1 * len(over) + LINE + 12
    page = new_page(width, top + _HEIGHT + 10 + LINE * len(below) + 6 * bool(below), over)
    axes = room(page, 10, top, place.width * scale, _HEIGHT)
    for panel, x0 in zip(panels, (0.0, place.second), strict=True):
        h, w = panel.seen.shape[:2]
        axes.imshow(sharp(panel.seen), extent=(x0, x0 + w, h, 0), aspect="auto", interpolation="nearest")
        text = shortened(panel.name.replace("\n", " "), int(w * scale * 0.155))
        words(page, text, (10 + x0 * scale, top - 7), va="baseline")
    for xs, ys in _grids(panels, place) if grid else ():
        axes.plot(*(np.array(v, float) for v in (xs, ys)), color="white", alpha=0.6, linewidth=0.5)
    for number, color, _, (xs, ys, corners) in _paths(panels, links, place):
        for shade, thick in (("white", 3.2), (color, 1.5)):
            axes.plot(*(np.array(v, float) for v in (xs, ys)), solid_joinstyle="miter", color=shade, linewidth=thick)
        box: dict[str, Any] = {"facecolor": color, "edgecolor": "none", "pad": 1}
        for x, y in corners:
            axes.text(x, y, str(number), color="white", size=7.5, ha="left", va="top", bbox=box)
    axes.set(xlim=(0, place.width), ylim=(place.height, 0))
    words(page, "\n".join(below), (10, top + _HEIGHT + 8))
    return write(path, page)


def _places(panels: Sequence[Panel]) -> _Place:
    (h, w), (h_b, w_b) = (panel.seen.shape[:2] for panel in panels)
    return _Place(w * (1 + _BETWEEN), w * (1 + _BETWEEN) + w_b, max(h, h_b))


def _cell(panel: Panel, at: tuple[int, int], x0: float) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of a frame inside a cell, apart from those of its neighbors."""
    dy, dx = (pixels / cells for pixels, cells in zip(panel.seen.shape[:2], panel.map.shape, strict=True))
    row, column = at
    return x0 + (column + _INSET) * dx, (row + _INSET) * dy, x0 + (column + 1 - _INSET) * dx, (row + 1 - _INSET) * dy


def _paths(panels: Sequence[Panel], links: Links, place: _Place) -> Iterator[tuple[int, str, str, "_Path"]]:
    """Give number, color, words and path of every link; the strongest, which comes last, lies on top."""
    for number, (a, b, says) in reversed(list(enumerate(links, 1))):
        path = _path(_cell(panels[0], a, 0.0), _cell(panels[1], b, place.second))
        yield number, _COLORS[(number - 1) % len(_COLORS)], says, path


def _path(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> _Path:
    """Return a line around two cells and from the one to the other, and their upper left corners."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    for left, top, right, bottom in (a, b):
        xs += [left, right, right, left, left, None]
        ys += [top, top, bottom, bottom, top, None]
    xs += [a[2], b[0]]
    ys += [(a[1] + a[3]) / 2, (b[1] + b[3]) / 2]
    return xs, ys, [a[:2], b[:2]]


def _grids(panels: Sequence[Panel], place: _Place) -> Iterator[tuple[list[float | None], list[float | None]]]:
    """Give the lines between the cells of each picture."""
    for panel, x0 in zip(panels, (0.0, place.second), strict=True):
        (h, w), (rows, columns) = panel.seen.shape[:2], panel.map.shape
        if max(rows, columns) * 4 > _HEIGHT:
            continue
        xs: list[float | None] = []
        ys: list[float | None] = []
        for i in range(1, rows):
            xs, ys = [*xs, x0, x0 + w, None], [*ys, i * h / rows, i * h / rows, None]
        for j in range(1, columns):
            xs, ys = [*xs, x0 + j * w / columns, x0 + j * w / columns, None], [*ys, 0, h, None]
        yield xs, ys
