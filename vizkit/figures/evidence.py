"""Plotly figures of evidence: images with their maps, all on one scale."""

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .panels import MIDDLE, OPACITY, Cell, Panel, Sheet, evidence_sheet, lines_visible, many_sheet, under_a_map
from .pictures import png
from .style import DIVERGING, FONT, LINE, SEQUENTIAL, footer, header, shortened

if TYPE_CHECKING:
    import plotly.graph_objects as go

_GAP = 8  # pixels between columns
_BAR = 110  # pixels of the color bar and its words


def evidence_figure(
    panels: Sequence[Panel], headline: str, unit: str, *, note: str = "", grid: bool = False
) -> "go.Figure":
    """Draw images with their maps over them, all on one scale.

    Parameters
    ----------
    panels
        One, two or three images with their maps. A map is drawn on its own grid, unsmoothed.
    headline
        Title of the figure: what was explained, how, for which target.
    unit
        What the color bar measures.
    note
        What a reader must know, below the pictures.
    grid
        Whether lines show the cells of the maps, where these are wide enough.

    Returns
    -------
    plotly.graph_objects.Figure
        Each image clean, and in gray under its map; sequential colors from 0, or diverging ones around 0 where maps
        are signed. Hover says a cell's value.

    Raises
    ------
    InputError
        There is no panel.
    """
    return _drawn(evidence_sheet(panels, grid=grid), headline, unit, note=note, grid=grid)


def many_figure(
    pairs: Sequence[tuple[Panel, Panel]], headline: str, unit: str, *, note: str = "", grid: bool = False
) -> "go.Figure":
    """Draw one query against several others, all on one scale.

    Parameters
    ----------
    pairs
        (the query, the other) for every other: below each other image stand the map on it, and that on the query.
    headline, unit, note, grid
        As for `evidence_figure`.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    InputError
        There is no pair.
    """
    return _drawn(many_sheet(pairs, grid=grid), headline, unit, note=note, grid=grid)


def _drawn(sheet: Sheet, headline: str, unit: str, *, note: str, grid: bool) -> "go.Figure":
    import plotly.graph_objects as go

    plot = sheet.columns * (sheet.side + _GAP) - _GAP
    width = 10 + plot + 10 + _BAR
    (below, under), over = footer(note, width), header(headline, width, below=0)
    titles = [lines * LINE + (10 if lines else _GAP) for lines in sheet.lines]
    height = sum(titles) + len(titles) * sheet.side
    figure = go.Figure()
    tops = np.cumsum([0, *(above + sheet.side for above in titles[:-1])]) + titles
    for number, cell in enumerate(sheet.cells, 1):
        left = cell.column * (sheet.side + _GAP)
        top = float(tops[cell.row])
        domain = {
            "x": [left / plot, (left + sheet.side) / plot],
            "y": [1 - (top + sheet.side) / height, 1 - top / height],
        }
        _place(figure, cell, domain, f"{number if number > 1 else ''}", sheet.side, grid=grid)
    margins = {"l": 10, "r": 10 + _BAR, "t": over["margin"]["t"], "b": under}
    figure.add_annotation(below)
    figure.add_traces([_key()])
    figure.update_layout(
        over, template="plotly_white", font=FONT, height=height + margins["t"] + margins["b"], margin=margins,
        showlegend=False, **_axes(sheet, unit, tops, height),
    )  # fmt: skip
    return figure


def _axes(sheet: Sheet, unit: str, tops: "np.ndarray", height: float) -> dict[str, Any]:
    """Return the maps' color axis, and that of the color bar: of what the colors look like over a picture."""
    from plotly.colors import get_colorscale, sample_colorscale

    colors = get_colorscale(SEQUENTIAL) if not sheet.signed else [[i / 16, color] for i, color in enumerate(DIVERGING)]
    at = np.linspace(0, 1, 65)
    seen = OPACITY * 255 * np.array(sample_colorscale(colors, at.tolist(), colortype="tuple")) + (1 - OPACITY) * MIDDLE
    ends = {"cmin": -sheet.limit if sheet.signed else 0.0, "cmax": sheet.limit}
    first = tops[0] / height
    bar = {
        "title": {"text": html.escape(unit).replace(", ", ",<br>"), "side": "right"},
        "thickness": 12, "outlinewidth": 0, "x": 1, "xpad": 10, "xanchor": "left", "yanchor": "top", "y": 1 - first,
        "len": 1 - first, "ypad": 0,
    }  # fmt: skip
    looks = [[float(x), f"rgb({r:.0f},{g:.0f},{b:.0f})"] for x, (r, g, b) in zip(at, seen, strict=True)]
    return {
        "coloraxis": {"colorscale": colors, "showscale": False, **ends},
        "coloraxis2": {"colorscale": looks, "colorbar": bar, **ends},
    }


def _key() -> Any:
    """Return a trace of nothing, which shows the color bar."""
    import plotly.graph_objects as go

    marker = {"color": [0], "coloraxis": "coloraxis2"}
    return go.Scatter(x=[None], y=[None], mode="markers", marker=marker, hoverinfo="skip")


def _place(figure: "go.Figure", cell: Cell, domain: dict[str, Any], number: str, side: int, *, grid: bool) -> None:
    """Draw a cell into axes of its own, which have a number."""
    height, width = (1, 1) if cell.seen is None else cell.seen.shape[:2]
    axes = {"visible": False, "constrain": "domain"}
    x, y = f"x{number}", f"y{number}"
    figure.layout[f"xaxis{number}"] = {
        **axes, "domain": domain["x"], "range": [0, width], "anchor": y, "constraintoward": "left",
    }  # fmt: skip
    figure.layout[f"yaxis{number}"] = {
        **axes, "domain": domain["y"], "range": [height, 0], "anchor": x, "scaleanchor": x, "constraintoward": "top",
    }  # fmt: skip
    figure.add_traces(
        [trace.update(xaxis=x, yaxis=y) for trace in _traces(cell, lines=grid and lines_visible(cell, side))]
    )
    inside = cell.seen is None
    text = "<br>".join(html.escape(shortened(line, int(side * 0.155))) for line in cell.lines)
    figure.add_annotation(
        text=text, x=1 if inside else 0, y=0.5 if inside else 1, xref=f"{x} domain", yref=f"{y} domain",
        xanchor="right" if inside else "left", yanchor="middle" if inside else "bottom",
        align="right" if inside else "left", showarrow=False,
    )  # fmt: skip


def _traces(cell: Cell, *, lines: bool) -> list[Any]:
    import plotly.graph_objects as go

    if cell.seen is None:
        return [go.Scatter(x=[None], y=[None], mode="markers", hoverinfo="skip")]
    height, width = cell.seen.shape[:2]
    picture = cell.seen if cell.map is None else under_a_map(cell.seen)
    # Pixel edges lie on whole numbers, so that a map of any grid covers the image exactly.
    traces: list[Any] = [go.Image(source=png(picture), x0=0.5, y0=0.5, hoverinfo="skip")]
    if cell.map is None:
        return traces
    rows, columns = cell.map.shape
    dy, dx = height / rows, width / columns
    traces.append(
        go.Heatmap(
            z=cell.map, x0=dx / 2, dx=dx, y0=dy / 2, dy=dy, opacity=OPACITY, coloraxis="coloraxis",
            hovertemplate="%{z:.4f}<extra></extra>",
        )
    )  # fmt: skip
    if lines:
        across = [v for i in range(1, rows) for v in ((0, i * dy), (width, i * dy), (None, None))]
        down = [v for j in range(1, columns) for v in ((j * dx, 0), (j * dx, height), (None, None))]
        line = {"color": "rgba(255,255,255,0.55)", "width": 1}
        at = {"x": [v[0] for v in across + down], "y": [v[1] for v in across + down]}
        traces.append(go.Scatter(mode="lines", line=line, hoverinfo="skip", **at))
    return traces
