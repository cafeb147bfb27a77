"""Galleries: pictures in rows, each under its title."""

import base64
import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from .style import FONT, LINE, footer, header, shortened

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from numpy.typing import NDArray

_CELL = 210  # pixels a side of a picture in a gallery
_NAME = int(_CELL * 0.155)  # characters that are as wide as a cell
_SHARPEST = 2 * _CELL  # pixels of a picture's longer side: enough for a screen of twice the density


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
    below, under = footer(note, width)
    titles = lines * LINE + 12
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
    figure.add_annotation(below)
    figure.update_layout(
        top, template="plotly_white", font=FONT, height=drawn - titles + top["margin"]["t"] + under, showlegend=False,
        margin={"l": 10, "r": 10, "t": top["margin"]["t"], "b": under},
    )  # fmt: skip
    return figure


def _place(figure: "go.Figure", title: str, image: "NDArray[np.uint8]", cell: tuple[int, int], number: int) -> None:
    """Put a picture and its title into a cell (row, column, both from 1), whose axes have a number."""
    import plotly.graph_objects as go

    small = _shrunk(image)
    height, width = small.shape[:2]
    row, column = cell
    x, y = (f"{axis}{number if number > 1 else ''}" for axis in "xy")
    # Pixel edges lie on whole numbers.
    figure.add_trace(go.Image(source=png(small), x0=0.5, y0=0.5, hoverinfo="skip"), row=row, col=column)
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


def png(image: "NDArray[np.uint8]") -> str:
    """Return an image (h, w, 3) as a data URI."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
