"""Figures of maps: points of one, new points on one, two side by side."""

import html
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .colors import OTHERS, Coloring, Part, coloring, groups, title_of
from .style import FONT, header, shortened

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from numpy.typing import NDArray

_INK = "#1a1a1a"
_ENTRY = 30  # characters of an entry of the legend
_LINES = 5  # of 80 characters, of one value in a hover
# Up to how many marks there are, their size, opacity and line: many must leave the map to be seen.
_SIZES = ((12, 14, 1, 2), (50, 11, 0.9, 1.5), (200, 8, 0.8, 1), (float("inf"), 5, 0.6, 0.5))


def layout_figure(
    frame: pd.DataFrame,
    title: str,
    color: "str | pd.Series | None" = None,
    *,
    chances: "Mapping[str, float] | None" = None,
    center: int | None = None,
    lines: "Mapping[str, NDArray[np.integer]] | None" = None,
    rings: "Mapping[str, NDArray[np.integer]] | None" = None,
) -> "go.Figure":
    """Draw a map of points.

    Parameters
    ----------
    frame
        One row a point: index of ids, columns x, y and what hover shall show.
    title
        Title of the figure.
    color
        A column of the frame, or a Series by id. By default the label where there are groups of one, else the share of
        true neighbors kept.
    chances
        By column: the value that chance gives.
    center
        A row: its point gets a ring.
    lines
        Up to two kinds of rows, by the name they have in the legend: lines lead there from the center, of the first
        kind whole, of the second dashed.
    rings
        Rows whose points get thin rings, by the name they have in the legend.

    Returns
    -------
    plotly.graph_objects.Figure
        WebGL points; hover shows id, label and the other columns, as text.

    Raises
    ------
    InputError
        As `coloring`.
    """
    if color is None:
        color = "label" if groups(frame) else "kept"
    figure = _map_of(frame, coloring(frame, color, chances=chances), title)
    if center is not None:
        figure.add_traces(_rays(frame, center, lines or {}, rings or {}))
    return figure


def placed_figure(
    frame: pd.DataFrame,
    placed: pd.DataFrame,
    title: str,
    *,
    color: "str | pd.Series | None" = None,
    marks: "Mapping[str, NDArray[np.bool_]]",
    center: int | None = None,
    lines: "Mapping[str, NDArray[np.integer]] | None" = None,
    rings: "Mapping[str, NDArray[np.integer]] | None" = None,
) -> "go.Figure":
    """Draw a map of points, with others on it as outlined marks: the more of them, the smaller.

    Parameters
    ----------
    frame
        The map: as in `layout_figure`.
    placed
        One row a mark: index of names, columns x, y and what hover shall show.
    title
        Title of the figure.
    color
        What colors the points, as in `layout_figure`; by default the label where there are groups of one, else all are
        gray. Or a column of `placed` that the map has not: it colors the marks, and the points are gray.
    marks
        Up to three kinds, by the name they have in the legend: (m,) which they are. The first are hollow, the second
        filled, the third squares. Where a column colors them, the first two are one kind, "new".
    center
        A row of `placed`: it gets a ring.
    lines, rings
        Rows of the map, as in `layout_figure`.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    InputError
        As `coloring`.
    """
    own = isinstance(color, str) and color not in frame.columns and color in placed.columns
    shades = coloring(placed, color) if own else None
    if color is None and groups(frame):
        color = "label"
    if shades or color is None:
        gray = [Part("", np.arange(len(frame)), OTHERS)]
        figure = _map_of(frame, Coloring("", frame["x"], gray, shades and shades.scale), title)
    else:
        figure = _map_of(frame, coloring(frame, color), title)
    if center is not None:
        both = pd.concat([frame[["x", "y"]], placed[["x", "y"]].iloc[[center]]])
        figure.add_traces(_rays(both, len(frame), lines or {}, rings or {}, around=26))
    figure.add_traces(_marks(placed, marks, shades))
    return figure


def maps_figure(
    frame: pd.DataFrame,
    names: tuple[str, str],
    title: str,
    color: "str | pd.Series" = "map_change",
    *,
    chances: "Mapping[str, float] | None" = None,
) -> "go.Figure":
    """Draw two maps of the same points side by side, on one scale.

    Parameters
    ----------
    frame
        One row a point: index of ids, columns x_a, y_a, x_b, y_b and map_change (in [0, 1]); hover also shows
        true_change and label, where they are there.
    names
        What to write over the maps; a long name loses its middle.
    title
        Title of the figure.
    color, chances
        As in `layout_figure`; by default how much each point changed.

    Returns
    -------
    plotly.graph_objects.Figure
        The most changed points lie on top. Zooming and moving one map does the same to the other, unless one is more
        than twice as wide: then each fills its panel, and its name says so.

    Raises
    ------
    InputError
        As `coloring`.
    """
    from plotly.subplots import make_subplots

    frame = frame.iloc[np.argsort(frame["map_change"], kind="stable")]
    shades = coloring(frame.drop(columns=["x_a", "y_a", "x_b", "y_b"]), color, chances=chances)
    shares = [name for name in ("map_change", "true_change") if name in frame]
    shown = frame.filter(["label"]).assign(**{title_of(name): frame[name].map("{:.0%}".format) for name in shares})
    texts = _hover_texts(_beside(shown, shades))
    maps = [frame[[f"x_{name}", f"y_{name}"]].set_axis(["x", "y"], axis=1) for name in "ab"]
    widths = [float((xy.max() - xy.min()).max()) or 1.0 for xy in maps]
    apart = max(widths) > 2 * min(widths)
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.02)
    for i, (xy, name) in enumerate(zip(maps, names, strict=True), 1):
        for trace in _parts(xy, texts, shades):
            trace.update(legendgroup=trace.name or None, showlegend=trace.showlegend and i == 1)
            figure.add_trace(trace, 1, i)
        _frame_map(figure, i, f"{'ab'[i - 1]}: {shortened(name, 48)}{' (at its own scale)' if apart else ''}")
        _fit_axes(figure, i, pd.concat([xy] if apart else maps))
    if not apart:
        figure.update_layout(xaxis2={"matches": "x"}, yaxis2={"matches": "y", "scaleanchor": None})
    over = header(title, 980 if shades.scale else 1080, below=30)
    top = over["margin"]["t"]
    _dress(figure, shades.scale, over, height=428 + top)
    return figure


def _map_of(frame: pd.DataFrame, shades: Coloring, title: str) -> "go.Figure":
    """Return a figure of one map."""
    import plotly.graph_objects as go

    figure = go.Figure(_parts(frame, _hover_texts(_beside(frame, shades)), shades))
    over = header(title, 760)
    _dress(figure, shades.scale, over, height=520 + over["margin"]["t"])
    # The axes of a neighbor embedding have no unit; only which points are near means anything.
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, scaleanchor="x")
    return figure


def _dress(figure: "go.Figure", scale: dict[str, Any] | None, over: dict[str, Any], *, height: float) -> None:
    """Give a figure its title and legends: of colors at the right, of marks below, as large as they are drawn."""
    below = {"orientation": "h", "x": 0, "y": 0, "yanchor": "top", "itemsizing": "trace"}
    figure.update_layout(
        over, template="plotly_white", font=FONT, height=height, dragmode="pan",
        margin={"l": 10, "r": 10, "b": 10, **over["margin"]}, legend={"itemsizing": "constant", "tracegroupgap": 0},
        legend2=below,
    )  # fmt: skip
    if scale:
        figure.update_layout(coloraxis=scale)


def _beside(frame: pd.DataFrame, shades: Coloring) -> pd.DataFrame:
    """Return what hover shows: the table, and what colors it where that is not in it."""
    if shades.title in ("", *map(title_of, frame.columns)):
        return frame
    return frame.assign(**{shades.title: shades.values})


def _frame_map(figure: "go.Figure", column: int, name: str) -> None:
    """Give a map in a column, from 1, a thin frame and a name."""
    axes = {"showticklabels": False, "showgrid": False, "zeroline": False, "linecolor": "#D0D0D0", "mirror": True}
    figure.update_xaxes(**axes, row=1, col=column)
    figure.update_yaxes(**axes, row=1, col=column)
    figure.add_annotation(
        text=html.escape(name), x=0, y=1, yshift=4, xanchor="left", yanchor="bottom", showarrow=False,
        xref=f"x{column if column > 1 else ''} domain", yref=f"y{column if column > 1 else ''} domain",
    )  # fmt: skip


def _fit_axes(figure: "go.Figure", column: int, points: pd.DataFrame) -> None:
    """Show all points in a square that is a little wider, a unit as long upwards as across."""
    middle = (points.max() + points.min()) / 2
    half = 0.53 * (float((points.max() - points.min()).max()) or 1.0)
    figure.update_xaxes(range=[middle["x"] - half, middle["x"] + half], row=1, col=column)
    x = f"x{column if column > 1 else ''}"
    figure.update_yaxes(range=[middle["y"] - half, middle["y"] + half], scaleanchor=x, row=1, col=column)


def _parts(xy: pd.DataFrame, texts: "NDArray[np.object_]", shades: Coloring) -> list[Any]:
    """Return the points of a map, as they are colored; those without a value are named below where there is a scale."""
    traces = []
    for part in shades.parts:
        marker = {"color": part.color}
        if not isinstance(part.color, str):
            marker["coloraxis"] = "coloraxis"
        trace = _points(xy.iloc[part.rows], texts[part.rows], marker, part.name, of=len(xy))
        traces.append(trace.update(legendrank=part.rank, legend="legend2" if shades.scale else "legend"))
    return traces


def _points(
    frame: pd.DataFrame, texts: "NDArray[np.object_]", marker: dict[str, Any], name: str, *, of: int | None = None
) -> Any:
    """Return points, one text each; `of` how many there are in all, which says how large they are."""
    import plotly.graph_objects as go

    shown = html.escape(shortened(name, _ENTRY))
    return go.Scattergl(
        x=frame["x"], y=frame["y"], mode="markers", name=shown, text=texts,
        showlegend=bool(name), hovertemplate="%{text}<extra></extra>",
        marker={"size": 7 if (of or len(texts)) < 5000 else 4, "opacity": 0.85, **marker},
    )  # fmt: skip


def _marks(placed: pd.DataFrame, marks: "Mapping[str, NDArray[np.bool_]]", shades: Coloring | None) -> list[Any]:
    """Return the marks of what was placed on a map, by kind, and by color where there is one."""
    size, opacity, width = next(style[1:] for style in _SIZES if len(placed) <= style[0])
    kinds = list(
        zip(marks, marks.values(), ("diamond", "diamond", "square"), ("#ffffff", _INK, "#ffffff"), strict=False)
    )
    if shades:
        new = np.logical_or.reduce([rows for _, rows, symbol, _ in kinds if symbol == "diamond"])
        kinds = [("new", new, "diamond", ""), *kinds[2:]]
    parts = shades.parts if shades else [Part("", np.arange(len(placed)), "")]
    texts, traces = _hover_texts(placed), []
    for part in parts:
        for name, which, symbol, fill in kinds:
            inside = which[part.rows]
            rows = part.rows[inside]
            if not len(rows):
                continue
            color = part.color if isinstance(part.color, str) else part.color[inside]
            marker = {
                "size": size, "opacity": opacity, "symbol": symbol, "color": fill if shades is None else color,
                "line": {"color": _INK, "width": width},
            }  # fmt: skip
            if not isinstance(color, str):
                marker["coloraxis"] = "coloraxis"
            said = ": ".join(filter(None, (name, part.name)))
            trace = _points(placed.iloc[rows], texts[rows], marker, said)
            traces.append(trace.update(legend="legend2", legendrank=part.rank))
    return traces


def _rays(
    frame: pd.DataFrame,
    center: int,
    lines: "Mapping[str, NDArray[np.integer]]",
    rings: "Mapping[str, NDArray[np.integer]]",
    *,
    around: int = 18,
) -> list[Any]:
    """Return lines from a point to others, by kind, rings around some, and one around it; hover passes through."""
    import plotly.graph_objects as go

    xy = frame[["x", "y"]].to_numpy(np.float64)
    own: dict[str, Any] = {"hoverinfo": "skip", "legend": "legend2"}
    traces = []
    for (name, rows), dash in zip(lines.items(), ("solid", "dash"), strict=False):
        gap = np.full((len(rows), 2), np.nan)
        path = np.stack([np.broadcast_to(xy[center], gap.shape), xy[rows], gap], axis=1).reshape(-1, 2)
        line = {"color": _INK, "width": 2, "dash": dash}
        named = html.escape(name)
        traces.append(go.Scattergl(x=path[:, 0], y=path[:, 1], mode="lines", line=line, name=named, **own))
    for name, rows in rings.items():
        ring = {"size": 12, "symbol": "circle-open", "color": _INK, "line": {"width": 1.5}}
        x, y = xy[rows].T
        traces.append(go.Scattergl(x=x, y=y, mode="markers", marker=ring, name=html.escape(name), **own))
    ring = {"size": around, "symbol": "circle-open", "color": _INK, "line": {"width": 3}}
    x, y = xy[center]
    traces.append(go.Scattergl(x=[x], y=[y], mode="markers", marker=ring, showlegend=False, **own))
    return traces


def _hover_texts(frame: pd.DataFrame) -> "NDArray[np.object_]":
    """Return one text a row; values come from files and tables of strangers, so they are escaped and cut."""
    columns = [c for c in frame.columns if c not in ("x", "y", "path") and frame[c].notna().any()]
    lines = [[f"<b>{_safe(i)}</b>"] for i in frame.index]
    for column in columns:
        for line, value in zip(lines, frame[column], strict=True):
            shown = f"{value:.3g}" if isinstance(value, (float, np.floating)) else _safe(value)
            line.append(f"{_safe(title_of(column))}: {shown}")
    return np.array(["<br>".join(line) for line in lines], object)


def _safe(value: Any) -> str:
    text = str(value)
    if len(text) <= 80:  # wrapping takes ten times as long
        return html.escape(text)
    lines = textwrap.wrap(text, 80)
    return "<br>".join(map(html.escape, lines if len(lines) <= _LINES else [*lines[: _LINES - 1], "…"]))
