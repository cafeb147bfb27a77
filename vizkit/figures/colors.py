"""What colors points: a column, or numbers by id, as a scale or as categories."""

import html
import re
from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from ..errors import InputError, closest
from .style import PALETTE, SEQUENTIAL, shortened

if TYPE_CHECKING:
    from numpy.typing import NDArray

OTHERS = "#B0B0B0"
NO_VALUE = "#D8D8D8"
_REVERSED = "Viridis_r"  # dark is much: on white the few that stand out must not be the pale ones
_TITLES = {
    "kept": "neighbors kept", "map_change": "map neighbors changed", "true_change": "true neighbors changed",
    "missing": "missing neighbors", "false": "false neighbors",
}  # fmt: skip
_SHARES = ("kept", "map_change", "true_change", "trustworthiness", "continuity")  # in [0, 1]
_PERCENTILES = ("unusualness",)  # in [0, 100]
_COUNTS = ("missing", "false", "occurrences", "mutual")  # how many: a scale, however few values there are
_MOST_WHOLE = 20  # different whole numbers that are taken for categories
_MOST_NAMES = 50  # different names that may stand for more than half of the points


class Part(NamedTuple):
    """Points of one entry of the legend, or on the scale: rows, and their color or numbers (then the name is empty)."""

    name: str
    rows: "NDArray[np.intp]"
    color: "str | NDArray[np.float64]"
    rank: int = 1000  # place in the legend; 1000 is plotly's own


class Coloring(NamedTuple):
    """How points are colored.

    Attributes
    ----------
    title
        What the colors mean.
    values
        (n,) what hover says.
    parts
        Each row is in one of them; first to last as they are drawn, so that gray lies below the rest.
    scale
        plotly's color axis; None for categories.
    """

    title: str
    values: pd.Series
    parts: list[Part]
    scale: dict[str, Any] | None


def coloring(
    frame: pd.DataFrame, color: "str | pd.Series", *, chances: "Mapping[str, float] | None" = None
) -> Coloring:
    """Return how a column, or a Series by id, colors the rows of a table.

    Parameters
    ----------
    frame
        n rows; the index holds ids.
    color
        A column, or a Series whose index holds ids: rows that it does not have are without a value.
    chances
        By column: the value that chance gives, which gets a tick of its own on the scale.

    Raises
    ------
    InputError
        It is neither, there is no such column, no known id, or nearly every row has a name of its own.
    """
    name, values = _chosen(frame, color)
    title = title_of(name)
    numbers = None if is_category(values, name) else numbers_of(values)
    if numbers is not None:
        there = np.isfinite(numbers)
        parts = [Part("no value", np.flatnonzero(~there), NO_VALUE, 1002)] * (not there.all())
        parts.append(Part("", np.flatnonzero(there), numbers[there]))
        return Coloring(title, values, parts, _scale(values, name, numbers[there], (chances or {}).get(name)))
    if _is_names(values):
        fitting = [str(c) for c in frame.columns if c not in ("x", "y") and not _is_names(frame[c])]
        offer = f" Columns that make sense here: {', '.join(map(repr, fitting))}." if fitting else ""
        raise InputError(
            f"{name!r} has {named(values).nunique()} different values on {len(values)} points, so its colors would "
            f"say nothing; expected a number, a date or few names.{offer}"
        )
    return Coloring(title, values, _categories(values), None)


def title_of(name: object) -> str:
    """Return what a column is called in figures."""
    return _TITLES.get(str(name), str(name))


def groups(frame: pd.DataFrame) -> bool:
    """Whether there are labels that colors can tell apart."""
    return "label" in frame and bool(frame["label"].notna().any()) and not _is_names(frame["label"])


def is_category(values: pd.Series, name: object) -> bool:
    """Whether a column is categories rather than a scale: texts, yes or no, "label", or few different whole numbers.

    Whole numbers with gaps count, too, as pandas makes them fractions.
    """
    kind = pd.api.types
    if kind.is_bool_dtype(values) or not kind.is_numeric_dtype(values):
        return not is_dates(values)
    if name == "label":
        return values.nunique() <= max(_MOST_NAMES, len(values) / 2)
    if name in _SHARES + _PERCENTILES + _COUNTS:
        return False
    there = values.dropna()
    whole = kind.is_integer_dtype(values) or (len(there) < len(values) and bool((there % 1 == 0).all()))
    return whole and 0 < there.nunique() <= _MOST_WHOLE


def natural(names: "list[str]") -> list[str]:
    """Return names in natural order: by value where all are numbers, else class_2 before class_10."""
    try:
        return sorted(names, key=lambda name: (float(name), name))
    except ValueError:
        return sorted(names, key=_pieces)


def _pieces(name: str) -> tuple[list[str | int], str]:
    pieces: list[str | int] = list(re.split(r"([0-9]+)", name))
    pieces[1::2] = map(int, pieces[1::2])
    return pieces, name


def _chosen(frame: pd.DataFrame, color: "str | pd.Series") -> tuple[str, pd.Series]:
    """Return name and values (n,) of what colors the rows."""
    if isinstance(color, pd.Series):
        known = color.index.isin(frame.index)
        if not known.any():
            raise InputError(
                f"The Series to color by has none of the ids here: its index holds {_few(color.index)}, the ids are "
                f"{_few(frame.index)}. Give its values by id: pd.Series(values, index=ids)."
            )
        if color.index[known].has_duplicates:
            again = color.index[known][color.index[known].duplicated()]
            raise InputError(f"The Series to color by has several values for {_few(again)}; expected one an id.")
        return str("value" if color.name is None else color.name), color.reindex(frame.index)
    names = ", ".join(repr(str(name)) for name in frame.columns)
    if not isinstance(color, str):
        raise InputError(
            f"color is of type {type(color).__name__}; expected the name of a column ({names}) or a pandas Series "
            "indexed by id: pd.Series(values, index=ids)."
        )
    if color not in frame.columns:
        raise InputError(
            f"No column {color!r} to color by.{closest(color, map(str, frame.columns))} There are {names}."
        )
    return color, frame[color]


def _few(index: pd.Index) -> str:
    return ", ".join(repr(one) for one in index[:3]) + (", ..." if len(index) > 3 else "")


def is_dates(values: pd.Series) -> bool:
    """Whether a column holds dates, as dates of pandas or of Python."""
    if pd.api.types.is_datetime64_any_dtype(values):
        return True
    there = values.dropna() if values.dtype == object else values[:0]
    return len(there) > 0 and all(isinstance(value, date) for value in there)  # datetime and Timestamp are dates


def numbers_of(values: pd.Series) -> "NDArray[np.float64]":
    """Return numbers (n,); of dates the days since 1970."""
    if not is_dates(values):
        return values.to_numpy(np.float64, na_value=np.nan)
    stamps = pd.to_datetime(values, utc=True, errors="coerce").dt.tz_localize(None)
    return ((stamps - pd.Timestamp(0)) / pd.Timedelta(days=1)).to_numpy(np.float64)


def _is_names(values: pd.Series) -> bool:
    """Whether nearly every row has a name of its own."""
    if not is_category(values, values.name):
        return False
    return named(values).nunique() > max(_MOST_NAMES, len(values) / 2)


def named(values: pd.Series) -> pd.Series:
    """Return values as texts, whole numbers without a point; what is missing stays missing."""
    values = values.reset_index(drop=True)
    if pd.api.types.is_float_dtype(values) and bool((values.dropna() % 1 == 0).all()):
        values = values.astype("Int64")
    return values.astype(object).map(str, na_action="ignore")


def _categories(values: pd.Series) -> list[Part]:
    """Return the entries of the legend, gray first; each row is in one of them.

    The most frequent names, as many as there are colors, take these in the order of the names; all others are one gray
    entry, and so are rows without a value.
    """
    codes, found = pd.factorize(named(values))
    order = natural(list(found))
    place = {name: i for i, name in enumerate(order)}
    counts = dict(zip(found, np.bincount(codes[codes >= 0], minlength=len(found)), strict=True))
    ranked = sorted(order, key=lambda name: -counts[name])  # a stable sort: of equal ones the first by name
    shown = sorted(ranked[: len(PALETTE)], key=place.__getitem__)
    hues = dict(zip(shown, range(len(PALETTE)), strict=False))
    entry = np.array([hues.get(name, len(PALETTE)) for name in found] + [-1])[codes]
    parts = []
    if (entry == -1).any():
        parts.append(Part("no value", np.flatnonzero(entry == -1), NO_VALUE, 1002))
    if len(found) > len(PALETTE):
        parts.append(Part(f"{len(found) - len(PALETTE)} others", np.flatnonzero(entry == len(PALETTE)), OTHERS, 1001))
    return parts + [Part(name, np.flatnonzero(entry == hue), PALETTE[hue]) for name, hue in hues.items()]


def _scale(values: pd.Series, name: str, numbers: "NDArray[np.float64]", chance: float | None) -> dict[str, Any]:
    """Return plotly's color axis; numbers are the finite ones."""
    bar: dict[str, Any] = {
        "title": {"text": html.escape(shortened(title_of(name), 40)), "side": "right"},
        "thickness": 12,
        "outlinewidth": 0,
    }
    turned = name.endswith("_change") or name in (*_PERCENTILES, "missing", "false")
    axis: dict[str, Any] = {"colorscale": _REVERSED if turned else SEQUENTIAL, "colorbar": bar}
    if is_dates(values) and len(numbers):
        bar |= _days(float(numbers.min()), float(numbers.max()))
    elif name in _SHARES:
        axis |= {"cmin": 0, "cmax": 1}
        ticks = {share: f"{share:.0%}" for share in (0, 0.2, 0.4, 0.6, 0.8, 1)}
        if chance is not None:
            ticks = {at: word for at, word in ticks.items() if abs(at - chance) > 0.05}
            ticks[chance] = f"{chance:.1%}<br>by chance"
        bar |= {"tickvals": list(ticks), "ticktext": list(ticks.values())}
    elif name in _PERCENTILES:
        axis |= {"cmin": 0, "cmax": 100}
        bar |= {"tickvals": [0, 25, 50, 75, 95], "ticktext": ["0", "25", "50<br>expected", "75", "95"]}
    elif name in _COUNTS and len(numbers):
        axis |= {"cmin": 0, "cmax": float(numbers.max()) or 1}
    return axis


def _days(first: float, last: float) -> dict[str, Any]:
    """Return the ticks of a scale of days."""
    at = np.unique(np.linspace(first, last, 5))
    form = "%Y-%m" if last - first > 1000 else "%Y-%m-%d" if last - first > 5 else "%Y-%m-%d %H:%M"
    stamps = pd.DatetimeIndex(pd.to_datetime(at, unit="D"))
    return {"tickvals": at.tolist(), "ticktext": list(stamps.strftime(form))}
