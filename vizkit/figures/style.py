"""What all figures share: font, colors, titles and lines of text."""

import html
import textwrap
from typing import Any

# The explorer's colors (widgets/static/colors.js says how they were chosen), given out by the same rule: a label of
# one column has one color everywhere.
PALETTE = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#841830", "#48f0c0", "#243c9c", "#6c84f0",
    "#84546c", "#a83c00", "#d8d860", "#90c084", "#84d8fc", "#78186c", "#30ccc0", "#846c54", "#d8843c", "#3054b4",
)  # fmt: skip
FONT = {"family": "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif", "size": 12}
SEQUENTIAL = "Viridis"
# Moreland, "Diverging Color Maps for Scientific Visualization" (2009), known as coolwarm, at 17 even places. Of twelve
# compared in CIELAB it has the most even steps (their standard deviation is 0.07 of their mean; RdBu 0.24), both ends
# equally dark (within 1 of 100; RdBu 4), and keeps these apart under each kind of color blindness (RdBu half as far).
DIVERGING = (
    "#3b4cc0", "#4e68d8", "#6282ea", "#779af7", "#8db0fe", "#a3c2fe", "#b9d0f9", "#ccd9ed", "#dddcdc", "#ecd3c5",
    "#f5c4ac", "#f7b093", "#f4987a", "#eb7d62", "#dd5f4b", "#ca3b37", "#b40426",
)  # fmt: skip
LINE = 16  # pixels a line of text, of about 0.155 characters a pixel
_MODEBAR = 320  # pixels that plotly's buttons take at the right of the top, when the mouse is over a figure
_BUTTONS = 28  # their height


def wrapped(text: str, width: float) -> list[str]:
    """Cut a text into lines of at most so many pixels."""
    return textwrap.wrap(text, int(width * 0.155), break_on_hyphens=False)


def shortened(text: str, most: int) -> str:
    """Cut the middle out of a text of more characters: names of files differ at their ends."""
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-(most - most // 2) :]}"


def header(title: str, width: float, below: float = 12) -> dict[str, Any]:
    """Return the layout of a whole title in lines, beside plotly's buttons or, in a narrow figure, under them.

    Parameters
    ----------
    title
        Text of any length; it is escaped.
    width
        Of the figure, in pixels.
    below
        Pixels between title and plot.

    Returns
    -------
    dict
        title, width and the upper margin.
    """
    beside = width - _MODEBAR >= 400
    lines = wrapped(title, width - 20 - _MODEBAR * beside)
    over = 10 if beside else _BUTTONS
    text = "<br>".join(map(html.escape, lines))
    place = {"x": 10 / width, "y": 1, "yanchor": "top", "pad": {"t": over}}
    top = over + max(LINE * len(lines), 0 if not beside else _BUTTONS - 10) + below
    return {"title": {"text": text, "font": {"size": 13}, **place}, "width": width, "margin": {"t": top}}


def footer(note: str, width: float) -> tuple[dict[str, Any], int]:
    """Return what a reader must know as an annotation below the plot, and the lower margin for it, in pixels.

    Parameters
    ----------
    note
        Text of any length, or none; it is escaped.
    width
        Of the figure, in pixels.
    """
    lines = wrapped(note, width - 20)
    below = {
        "text": "<br>".join(map(html.escape, lines)), "x": 0, "y": 0, "yshift": -8, "xref": "paper", "yref": "paper",
        "xanchor": "left", "yanchor": "top", "align": "left", "showarrow": False, "visible": bool(lines),
    }  # fmt: skip
    return below, LINE * len(lines) + 16
