"""Figures of maps: points of one, new points on one, two side by side."""

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..errors import InputError, closest
from .style import FONT, LINE, PALETTE, SEQUENTIAL, wrapped

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from numpy.typing import NDArray

_OTHER = "#B0B0B0"
_INK = "#1a1a1a"
_CHANGE = "Viridis_r"  # dark is much: on white the few that changed must not be the pale ones


def layout_figure(
    frame: pd.DataFrame,
    title: str,
    color: str | None = None,
    *,
    center: int | None = None,
    lines: "Mapping[str, NDArray[np.integer]] | None" = None,
) -> "go.Figure":
    """Draw a map of points.

    Parameters
    ----------
    frame
        One row a point: index of ids, columns x, y and what hover shall show.
    title
        Title of the figure.
    color
        A column of the frame. By default the label where there is one, else the share of true neighbours kept.
    center
        A row: its point gets a ring.
    lines
        Up to two kinds of rows, by the name they have in the legend: lines lead there from the center, of the first
        kind whole, of the second dashed.

    Returns
    -------
    plotly.graph_objects.Figure
        WebGL points; hover shows id, label and the other columns, as text.

    Raises
    ------
    InputError
        No such column.
    """
    import plotly.graph_objects as go

    if color is None:
        color = "label" if "label" in frame and frame["label"].notna().any() else "kept"
    if color not in frame.columns:
        known = ", ".join(repr(str(name)) for name in frame.columns)
        raise InputError(
            f"No column {color!r} to color by.{closest(color, map(str, frame.columns))} There are {known}."
        )
    texts = _hover_texts(frame)
    values = frame[color]
    figure = go.Figure()
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if numeric:
        bar = {"title": {"text": html.escape(_title(color))}, "thickness": 12, "outlinewidth": 0}
        numbers = values.to_numpy(np.float64, na_value=np.nan)
        marker = {"color": numbers, "colorscale": SEQUENTIAL, "colorbar": bar}
        figure.add_trace(_points(frame, texts, marker, ""))
    else:
        for name, hue, rows in _categories(values):
            figure.add_trace(_points(frame.iloc[rows], texts[rows], {"color": hue}, name))
    figure.update_layout(
        template="plotly_white", font=FONT, width=760, height=560, margin={"l": 10, "r": 10, "t": 40, "b": 10},
        title={"text": html.escape(title), "font": {"size": 13}}, legend={"itemsizing": "constant"},
        dragmode="pan",
    )  # fmt: skip
    # The axes of a neighbour embedding have no unit; only which points are near means anything.
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, scaleanchor="x")
    if center is not None:
        figure.add_traces(_rays(frame, center, lines or {}))
        if numeric:  # the colour bar stands where the legend would
            figure.update_layout(legend={"orientation": "h", "y": 0})
    return figure


def placed_figure(
    frame: pd.DataFrame,
    placed: pd.DataFrame,
    title: str,
    *,
    color: str | None = None,
    marks: "Mapping[str, NDArray[np.bool_]]",
    center: int | None = None,
    lines: "Mapping[str, NDArray[np.integer]] | None" = None,
) -> "go.Figure":
    """Draw a map of points, with new ones on it as large outlined marks.

    Parameters
    ----------
    frame
        The map: as in `layout_figure`.
    placed
        One row a new point: index of names, columns x, y and what hover shall show.
    title
        Title of the figure.
    color
        A column of the map's frame. By default the label where there is one, else all points are gray.
    marks
        Up to two kinds of new points, by the name they have in the legend: (m,) which they are. The first kind is
        hollow, the second filled.
    center
        A row of the new points: it gets a ring.
    lines
        Up to two kinds of rows of the map: lines lead there from the center, as in `layout_figure`.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    InputError
        No such column.
    """
    if color is None and not ("label" in frame and frame["label"].notna().any()):
        figure = layout_figure(frame, title, "kept")
        figure.data = ()
        figure.add_trace(_points(frame, _hover_texts(frame), {"color": _OTHER}, ""))
    else:
        figure = layout_figure(frame, title, color)
    if center is not None:
        both = pd.concat([frame[["x", "y"]], placed[["x", "y"]].iloc[[center]]])
        figure.add_traces(_rays(both, len(frame), lines or {}))
    texts = _hover_texts(placed)
    for (name, rows), fill in zip(marks.items(), ("#ffffff", _INK), strict=False):
        if rows.any():
            line = {"color": _INK, "width": 2}
            marker = {"size": 14, "opacity": 1, "symbol": "diamond", "color": fill, "line": line}
            figure.add_trace(_points(placed[rows], texts[rows], marker, name))
    words = wrapped(title, 620)
    figure.update_layout(title={"text": "<br>".join(map(html.escape, words))}, margin={"t": LINE * len(words) + 28})
    if not isinstance(figure.data[0].marker.color, str):  # numbers: their bar stands where the legend would
        figure.update_layout(legend={"orientation": "h", "y": 0})
    return figure


def maps_figure(frame: pd.DataFrame, names: tuple[str, str], title: str) -> "go.Figure":
    """Draw two maps of the same points side by side, on one scale, colored by how much each point changed.

    Parameters
    ----------
    frame
        One row a point: index of ids, columns x_a, y_a, x_b, y_b and map_change (in [0, 1]); hover also shows
        true_change and label, where they are there.
    names
        What to write over the maps.
    title
        Title of the figure.

    Returns
    -------
    plotly.graph_objects.Figure
        The most changed points lie on top. Zooming and moving one map does the same to the other, unless one is more
        than twice as wide: then each fills its panel, and its name says so.
    """
    from plotly.subplots import make_subplots

    frame = frame.iloc[np.argsort(frame["map_change"], kind="stable")]
    shares = {"map_change": "map neighbors changed", "true_change": "true neighbors changed"}
    shown = {word: frame[name].map("{:.0%}".format) for name, word in shares.items() if name in frame}
    texts = _hover_texts(frame.filter(["label"]).assign(**shown))
    maps = [frame[[f"x_{name}", f"y_{name}"]].set_axis(["x", "y"], axis=1) for name in "ab"]
    widths = [float((xy.max() - xy.min()).max()) or 1.0 for xy in maps]
    apart = max(widths) > 2 * min(widths)
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.02)
    for i, (xy, name) in enumerate(zip(maps, names, strict=True), 1):
        figure.add_trace(_points(xy, texts, {"color": frame["map_change"], "coloraxis": "coloraxis"}, ""), 1, i)
        _frame_map(figure, i, f"{'ab'[i - 1]}: {name}{' (at its own scale)' if apart else ''}")
        _fit_axes(figure, i, pd.concat([xy] if apart else maps))
    if not apart:
        figure.update_layout(xaxis2={"matches": "x"}, yaxis2={"matches": "y", "scaleanchor": None})
    width = 980
    lines = wrapped(title, width - 260)
    measured = {"text": shares["map_change"], "side": "right"}
    bar = {"title": measured, "tickformat": ".0%", "thickness": 12, "outlinewidth": 0}
    figure.update_layout(
        template="plotly_white", font=FONT, width=width, height=460 + LINE * len(lines), showlegend=False,
        margin={"l": 10, "r": 10, "t": LINE * len(lines) + 42, "b": 10}, dragmode="pan",
        title={"text": "<br>".join(map(html.escape, lines)), "font": {"size": 13}, "x": 10 / width, "y": 1,
               "yanchor": "top", "pad": {"t": 10}},
        coloraxis={"colorscale": _CHANGE, "cmin": 0, "cmax": 1, "colorbar": bar},
    )  # fmt: skip
    return figure


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


def _points(frame: pd.DataFrame, texts: "NDArray[np.object_]", marker: dict[str, Any], name: str) -> Any:
    import plotly.graph_objects as go

    size = 7 if len(texts) < 5000 else 4
    return go.Scattergl(
        x=frame["x"], y=frame["y"], mode="markers", name=html.escape(name), text=texts, showlegend=bool(name),
        hovertemplate="%{text}<extra></extra>", marker={"size": size, "opacity": 0.85, **marker},
    )  # fmt: skip


def _rays(frame: pd.DataFrame, center: int, lines: "Mapping[str, NDArray[np.integer]]") -> list[Any]:
    """Return lines from a point to others, by kind, and a ring around it; hover passes through them."""
    import plotly.graph_objects as go

    xy = frame[["x", "y"]].to_numpy(np.float64)
    traces = []
    for (name, rows), dash in zip(lines.items(), ("solid", "dash"), strict=False):
        gap = np.full((len(rows), 2), np.nan)
        path = np.stack([np.broadcast_to(xy[center], gap.shape), xy[rows], gap], axis=1).reshape(-1, 2)
        line = {"color": _INK, "width": 1, "dash": dash}
        traces.append(
            go.Scattergl(
                x=path[:, 0], y=path[:, 1], mode="lines", line=line, name=html.escape(name), hoverinfo="skip"
            )
        )  # fmt: skip
    ring = {"size": 16, "symbol": "circle-open", "color": _INK, "line": {"width": 2}}
    x, y = xy[center]
    traces.append(go.Scattergl(x=[x], y=[y], mode="markers", marker=ring, hoverinfo="skip", showlegend=False))
    return traces


def _categories(values: pd.Series) -> list[tuple[str, str, list[int]]]:
    """Return (name, colour, rows) of every entry of the legend; each row is in one of them.

    The most frequent names, as many as there are colours, take these in the order of the names; all others are one gray
    entry, and so are rows without a value.
    """
    rows: dict[str, list[int]] = {}
    missing = []
    for row, (value, gone) in enumerate(zip(values, values.isna(), strict=True)):
        (missing if gone else rows.setdefault(str(value), [])).append(row)
    ranked = sorted(rows, key=lambda name: (-len(rows[name]), name))
    named, others = sorted(ranked[: len(PALETTE)]), ranked[len(PALETTE) :]
    entries = [(name, hue, rows[name]) for name, hue in zip(named, PALETTE, strict=False)]
    if others:
        entries.append((f"{len(others)} others", _OTHER, [row for name in others for row in rows[name]]))
    if missing:
        entries.append(("no value", _OTHER, missing))
    return entries


def _hover_texts(frame: pd.DataFrame) -> "NDArray[np.object_]":
    """Return one text a row; values come from files and tables of strangers, so they are escaped and cut."""
    columns = [c for c in frame.columns if c not in ("x", "y", "path") and frame[c].notna().any()]
    lines = [[f"<b>{_safe(i)}</b>"] for i in frame.index]
    for column in columns:
        for line, value in zip(lines, frame[column], strict=True):
            shown = f"{value:.3g}" if isinstance(value, (float, np.floating)) else _safe(value)
            line.append(f"{_safe(_title(column))}: {shown}")
    return np.array(["<br>".join(line) for line in lines], object)


def _safe(value: Any) -> str:
    text = str(value)
    return html.escape(text if len(text) <= 80 else text[:79] + "…")


def _title(column: str) -> str:
    return "neighbors kept" if column == "kept" else str(column)
