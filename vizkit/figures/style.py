"""What all figures share: font, colors and lines of text."""

import textwrap

# The explorer's colours (widgets/static/colors.js says how they were chosen), given out by the same rule: a label of
# one column has one colour everywhere.
PALETTE = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#841830", "#48f0c0", "#243c9c", "#6c84f0",
    "#84546c", "#a83c00", "#d8d860", "#90c084", "#84d8fc", "#78186c", "#30ccc0", "#846c54", "#d8843c", "#3054b4",
)  # fmt: skip
FONT = {"family": "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif", "size": 12}
SEQUENTIAL = "Viridis"
DIVERGING = "RdBu_r"
LINE = 16  # pixels a line of text, of about 0.155 characters a pixel


def wrapped(text: str, width: int) -> list[str]:
    """Cut a text into lines of at most so many pixels."""
    return textwrap.wrap(text, int(width * 0.155), break_on_hyphens=False)
