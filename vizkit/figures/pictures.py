"""Figures of pictures: evidence on images, and galleries."""

import base64
import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from .style import DIVERGING, FONT, LINE, SEQUENTIAL, header, shortened, wrapped

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from numpy.typing import NDArray

_PANEL = 280  # pixels a side
_CELL = 210  # pixels a side of a picture in a gallery
_NAME = int(_CELL * 0.155)  # characters that are as wide as a cell
_SHARPEST = 2 * _CELL  # pixels of a picture's longer side: enough for a screen of twice the density


def evidence_figure(
    panels: "Sequence[tuple[str, NDArray[np.uint8], NDArray[np.float32]]]", headline: str, unit: str
) -> "go.Figure":
    """Draw images with their maps over them, all on one scale.

    Parameters
    ----------
    panels
        (title, image (H, W, 3) uint8, map (h, w) float32) for every panel. A map is drawn on its own grid, unsmoothed.
    headline
        Title of the figure.
    unit
        What the colour bar measures.

    Returns
    -------
    plotly.graph_objects.Figure
        Each image plain, and with its map; sequential colours from 0, or diverging ones around 0 where maps are signed.
    """
    from plotly.subplots import make_subplots

    signed = is_signed(*(values for _, _, values in panels))
    words = html.escape(unit).replace(", ", ",<br>")
    top = max(float(np.abs(values).max()) for _, _, values in panels) or 1.0
    n = len(panels)
    figure = make_subplots(rows=1, cols=2 * n, horizontal_spacing=0.015)
    for i, (title, image, values) in enumerate(panels):
        for column, overlay in ((2 * i + 1, None), (2 * i + 2, values)):
            figure.add_traces(_image_traces(image, overlay), rows=1, cols=column)
            axes = {"visible": False, "constrain": "domain"}
            figure.update_xaxes(**axes, range=[0, image.shape[1]], row=1, col=column)
            x = "x" if column == 1 else f"x{column}"
            figure.update_yaxes(**axes, range=[image.shape[0], 0], scaleanchor=x, row=1, col=column)
        figure.add_annotation(
            text=html.escape(title), x=0, y=1, yanchor="bottom", xanchor="left", showarrow=False,
            xref=f"x{2 * i + 1 if i else ''} domain", yref=f"y{2 * i + 1 if i else ''} domain",
        )  # fmt: skip
    over = header(headline, 2 * n * _PANEL * 0.75 + 120, below=LINE + 14)
    figure.update_layout(
        over, template="plotly_white", font=FONT, height=_PANEL * 0.75 + 20 + over["margin"]["t"],
        margin={"l": 10, "r": 10, "t": over["margin"]["t"], "b": 10},
        coloraxis={
            "colorscale": DIVERGING if signed else SEQUENTIAL, "cmin": -top if signed else 0.0, "cmax": top,
            "colorbar": {"title": {"text": words, "side": "right"}, "thickness": 12, "outlinewidth": 0},
        },
    )  # fmt: skip
    return figure


def gallery_figure(
    rows: "Sequence[Sequence[tuple[str, NDArray[np.uint8]]]]", headline: str, *, note: str = ""
) -> "go.Figure":
    """Draw pictures in rows, each under a title of its own.

    Parameters
    ----------
    rows
        For every row its pictures, left to right: (title, image (h, w, 3) uint8 RGB). Pictures of any size fit into
        equal cells, undistorted; rows may differ in length. A title may have line breaks; a line that is too long
        loses its middle.
    headline
        Title of the figure.
    note
        What a reader must know, below the pictures.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    InputError
        There is no picture.
    """
    from plotly.subplots import make_subplots

    if not any(rows):
        raise InputError("A gallery needs at least one picture; there are none.")
    columns = max(len(row) for row in rows)
    lines = max(title.count("\n") + 1 for row in rows for title, _ in row)
    width = columns * (_CELL + 14) + 20
    below = wrapped(note, width - 20)
    titles, under = lines * LINE + 12, len(below) * LINE + 16
    top = header(headline, width, below=titles)
    drawn = len(rows) * (_CELL + titles)  # the plot's own area, its first row of titles included
    figure = make_subplots(
        rows=len(rows), cols=columns, horizontal_spacing=14 / (width - 20),
        vertical_spacing=titles / (drawn - titles) if len(rows) > 1 else 0,
    )  # fmt: skip
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    for i, row in enumerate(rows):
        for j, (title, image) in enumerate(row):
            _place(figure, title, image, (i + 1, j + 1), i * columns + j + 1)
    figure.add_annotation(
        text="<br>".join(map(html.escape, below)), x=0, y=0, yshift=-8, xref="paper", yref="paper", xanchor="left",
        yanchor="top", align="left", showarrow=False, visible=bool(below),
    )  # fmt: skip
    figure.update_layout(
        top, template="plotly_white", font=FONT, height=drawn - titles + top["margin"]["t"] + under, showlegend=False,
        margin={"l": 10, "r": 10, "t": top["margin"]["t"], "b": under},
    )  # fmt: skip
    return figure


def is_signed(*maps: "NDArray[np.float32]") -> bool:
    """Whether the maps go below zero by more than rounding (1e-3 of the largest value)."""
    largest = max((float(np.abs(m).max()) for m in maps), default=0.0)
    return min((float(m.min()) for m in maps), default=0.0) < -1e-3 * largest


def _image_traces(image: "NDArray[np.uint8]", values: "NDArray[np.float32] | None") -> list[Any]:
    import plotly.graph_objects as go

    height, width = image.shape[:2]
    # Pixel edges lie on whole numbers, so that a map of any grid covers the image exactly.
    traces: list[Any] = [go.Image(source=_png(image, gray=values is not None), x0=0.5, y0=0.5, hoverinfo="skip")]
    if values is not None:
        dy, dx = height / values.shape[0], width / values.shape[1]
        traces.append(
            go.Heatmap(
                z=values,
                x0=dx / 2,
                dx=dx,
                y0=dy / 2,
                dy=dy,
                opacity=0.6,
                coloraxis="coloraxis",
                hovertemplate="%{z:.4f}<extra></extra>",
            )
        )
    return traces


def _place(figure: "go.Figure", title: str, image: "NDArray[np.uint8]", cell: tuple[int, int], number: int) -> None:
    """Put a picture and its title into a cell (row, column, both from 1), whose axes have a number."""
    small = _shrunk(image)
    height, width = small.shape[:2]
    row, column = cell
    x, y = (f"{axis}{number if number > 1 else ''}" for axis in "xy")
    figure.add_traces(_image_traces(small, None), rows=row, cols=column)
    axes = {"constrain": "domain", "row": row, "col": column}
    figure.update_xaxes(range=[0, width], constraintoward="left", **axes)
    figure.update_yaxes(range=[height, 0], constraintoward="top", scaleanchor=x, **axes)
    figure.add_annotation(
        text="<br>".join(html.escape(shortened(line, _NAME)) for line in title.split("\n")), x=0, y=1,
        xref=f"{x} domain", yref=f"{y} domain", xanchor="left", yanchor="bottom", align="left", showarrow=False,
    )  # fmt: skip


def _shrunk(image: "NDArray[np.uint8]") -> "NDArray[np.uint8]":
    """Return a picture no larger than a cell can show."""
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((_SHARPEST, _SHARPEST))
    return np.asarray(picture)


def _png(image: "NDArray[np.uint8]", *, gray: bool) -> str:
    """Return an image as a data URI; gray under a map, whose colours the image's own would change."""
    from PIL import Image

    buffer = io.BytesIO()
    picture = Image.fromarray(image)
    (picture.convert("L").convert("RGB") if gray else picture).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
