"""A panel that redraws a map while its parameters are moved, with the line of code that makes the same map."""

from collections.abc import Iterator
from html import escape
from typing import Any

import ipywidgets
import pandas as pd

from ..embeddings import Embeddings
from ..errors import InputError
from ..faithfulness import TRUE_NEIGHBORS
from ..graph import neighbor_graph
from ..projection import Frame, Layout, unfolding
from .explorer import Explorer
from .maps import Maps

_NEIGHBORS = (2, 3, 4, 5, 7, 10, 15, 20, 30, 50)  # even steps to the eye: what changes a map is the ratio
_DEFAULTS = {"n_neighbors": 15, "min_dist": 0.1, "metric": "cosine", "densmap": False, "seed": 0}
_FEWEST = 4
_MOST = max(*_NEIGHBORS, TRUE_NEIGHBORS) + 1  # as many as the shares kept of the widest map ask for
_QUIET = 0.1  # seconds without a change before the next map begins
_HELD = 0.15  # share of the epochs before the points leave the last map: by then the new one has found its shape
_ROWS = 8  # of the history that are shown
_COLUMNS = [*_DEFAULTS, "kept", "plus_or_minus", "chance"]
_ROW = {"flex_flow": "row wrap", "align_items": "center", "grid_gap": "2px 14px"}
_CELL = "text-align: right; padding: 1px 16px 1px 0; font-variant-numeric: tabular-nums"
_CAPTION = "caption-side: top; text-align: left; padding: 4px 0"


class MapPanel(ipywidgets.VBox):
    """Sliders for a map's parameters over an explorer that shows it.

    A change ends the map that is unfolding and begins the next, from PCA as `vizkit.project` does: the finished map is
    the one of the line of code below it. Until the new map has found its shape the last one stays on the screen, so
    that it does not fall back to PCA at every step.

    Attributes
    ----------
    explorer
        The `Explorer` that shows the map; its query and selection stay while the map changes.
    layout_of_points : Layout
        The map that stands. While another unfolds over it, still the one before.
    parameters : dict
        Keywords of `vizkit.project` for this map; of one that was stopped, for what it was going to be.
    history : pandas.DataFrame
        One row for each finished map: its parameters, `kept` (the mean share of the 15 true nearest neighbors kept, by
        the row's own metric, whatever its n_neighbors), `plus_or_minus` (twice the standard error over the points) and
        `chance`.
    """

    def __init__(self, embeddings: Embeddings, k: int) -> None:
        self._embeddings = embeddings
        self._finished: dict[str, dict[str, Any]] = {}  # rows of the history by their line of code, newest last
        self._controls = _controls(len(embeddings))
        neighbor_graph(embeddings, _MOST)
        self._code, self._table = ipywidgets.HTML(), ipywidgets.HTML()
        self.explorer = Explorer(Maps(embeddings, None, k, self._chosen()))
        self._written: Layout | None = None  # the last map that was written down
        self.explorer.observe(self._stands, "moving")
        self._say(self._chosen(), "unfolding…")
        controls = ipywidgets.HBox(list(self._controls.values()), layout=_ROW)
        super().__init__([controls, self.explorer, self._code, self._table])
        for control in self._controls.values():
            control.observe(self._change, "value")
        if not self.explorer.moving:  # it was quicker than these lines
            self._stands({"new": False})

    @property
    def layout_of_points(self) -> Layout:
        """The map that stands."""
        return self.explorer.layout_of_points

    @property
    def parameters(self) -> dict[str, Any]:
        """Keywords of `vizkit.project` for the map that stands."""
        return {name: self.layout_of_points.provenance[name] for name in _DEFAULTS}

    @property
    def history(self) -> pd.DataFrame:
        """One row for each finished map, in order; a map that is made again moves to the end."""
        return pd.DataFrame(list(self._finished.values()), columns=_COLUMNS)

    def stop(self) -> None:
        """End the unfolding and keep what is shown."""
        self.explorer.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the map stands, at most `timeout` seconds; return whether it does."""
        return self.explorer.wait(timeout)

    def close(self) -> None:
        """Close the panel and its explorer, and end the unfolding."""
        for widget in (*self._controls.values(), *self.children):
            widget.close()
        super().close()

    def _chosen(self) -> dict[str, Any]:
        chosen = {name: control.value for name, control in self._controls.items()}
        return chosen | {"min_dist": round(chosen["min_dist"], 3)}  # the slider adds up its steps

    def _change(self, _: Any) -> None:
        chosen = self._chosen()
        self.explorer.follow(lambda: self._frames(chosen), chosen, delay=_QUIET, hold=_HELD)
        self._say(chosen, "unfolding…")

    def _frames(self, parameters: dict[str, Any]) -> Iterator[Frame]:
        # One graph, for the largest number of neighbors, serves every position of the slider.
        neighbor_graph(self._embeddings, _MOST, metric=parameters["metric"])
        yield from unfolding(self._embeddings, **parameters)

    def _stands(self, change: Any) -> None:
        """Write down a map that stands; called in the thread that unfolded it."""
        layout = self.layout_of_points
        if change["new"]:
            return
        stopped = layout.provenance["stopped"]
        finished = stopped is None and layout.provenance["method"] == "umap"
        if finished and layout is not self._written:
            self._written = layout
            line = line_of_code(self.parameters)
            self._finished.pop(line, None)
            self._finished[line] = self._measured(layout)
            self._table.value = _as_table(self.history)
        self._say(
            self.parameters, "" if stopped is None else f"stopped at {stopped:.0%}: this line makes the whole map"
        )

    def _measured(self, layout: Layout) -> dict[str, Any]:
        error = float(layout.kept.std(ddof=1)) / len(layout) ** 0.5
        return self.parameters | {
            "kept": float(layout.kept.mean()),
            "plus_or_minus": 2 * error,
            "chance": layout.chance,
        }

    def _say(self, parameters: dict[str, Any], more: str) -> None:
        line = f"<code>{escape(line_of_code(parameters), quote=False)}</code> <span>{escape(more)}</span>"
        self._code.value = f'<div role="status" aria-live="polite" class="vizkit-line">{line}</div>'


def tune_map(embeddings: Embeddings, *, k: int = 12) -> MapPanel:
    """Open a panel that redraws the map while its parameters are moved.

    Parameters
    ----------
    embeddings
        n vectors, 4 or more.
    k
        Neighbors that the explorer shows for a query, 1 or more.

    Returns
    -------
    MapPanel
        A widget: show it as the last line of a cell. `parameters` are what to give `vizkit.project` for the same map.

    Raises
    ------
    InputError
        These are no embeddings, they are fewer than 4, or `k` is below 1.
    """
    if not isinstance(embeddings, Embeddings):
        raise InputError(f"tune_map takes Embeddings, not {type(embeddings).__name__}: vk.embed(images, encoder).")
    n = len(embeddings)
    if n < _FEWEST:
        raise InputError(
            f"There {'is' if n == 1 else 'are'} {n} point{'' if n == 1 else 's'}, and a map with parameters needs "
            f"{_FEWEST} or more: fewer are placed by PCA alone. vk.explore(embeddings) shows them."
        )
    return MapPanel(embeddings, k)


def line_of_code(parameters: dict[str, Any]) -> str:
    """Return the call of `vizkit.project` that makes a map, without what is the default."""
    changed = [f"{name}={value!r}" for name, value in parameters.items() if value != _DEFAULTS[name]]
    return f"vk.project({', '.join(['embeddings', *changed])})"


def _controls(n: int) -> dict[str, Any]:
    """Return one control for each parameter of `vizkit.project`; up to n - 1 neighbors where there are few points."""
    counts = [k for k in _NEIGHBORS if k < n]
    style = {"description_width": "initial"}
    wide, narrow = ipywidgets.Layout(width="250px"), ipywidgets.Layout(width="150px")
    return {
        "n_neighbors": ipywidgets.SelectionSlider(
            options=counts,
            value=min(_DEFAULTS["n_neighbors"], counts[-1]),
            description="n_neighbors",
            tooltip="Few neighbors show detail, many the whole",
            style=style,
            layout=wide,
        ),
        "min_dist": ipywidgets.FloatSlider(
            value=_DEFAULTS["min_dist"],
            max=1.0,
            step=0.05,
            description="min_dist",
            tooltip="How close points may be packed",
            style=style,
            layout=wide,
        ),
        "metric": ipywidgets.Dropdown(
            options=["cosine", "euclidean"], description="metric", tooltip="What near means", style=style, layout=narrow
        ),
        "densmap": ipywidgets.Checkbox(
            description="densmap",
            tooltip="Keep how dense the points lie",
            indent=False,
            layout=ipywidgets.Layout(width="90px"),
        ),
        "seed": ipywidgets.BoundedIntText(max=2**32 - 1, description="seed", style=style, layout=narrow),
    }


def _as_table(history: pd.DataFrame) -> str:
    """Return the newest rows as HTML, the newest first."""
    names = [*_DEFAULTS, "neighbors kept", "chance"]
    head = "".join(f'<th scope="col" style="{_CELL}">{escape(name)}</th>' for name in names)
    rows = []
    for _, row in history.iloc[::-1].head(_ROWS).iterrows():
        kept = f"{row['kept']:.1%} ± {100 * row['plus_or_minus']:.1f}"
        texts = [*(str(row[name]) for name in _DEFAULTS), kept, f"{row['chance']:.1%}"]
        rows.append("<tr>" + "".join(f'<td style="{_CELL}">{escape(text)}</td>' for text in texts) + "</tr>")
    caption = (
        f"How many of the {TRUE_NEIGHBORS} nearest neighbors, by the row's own metric, each finished map keeps. "
        "± is twice the standard error over points."
    )
    return (
        f'<table class="vizkit-history"><caption style="{_CAPTION}">{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )
