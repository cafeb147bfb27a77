"""vizkit and what people use in its place, each written as its users write it, and where its plot and picture are.

`script` is a JavaScript object: ready() whether there are points, plot() the element they are in, image() the element
that shows the hovered picture or null, at(x, y, id) where a point lies on the screen; `extent` is set from outside:
the smallest and largest x, then y.
"""

from dataclasses import dataclass

WIDTH, HEIGHT = 740, 600  # CSS pixels of the plots whose size can be set


@dataclass(frozen=True)
class Tool:
    """One way to look at points with pictures in a notebook."""

    name: str
    title: str
    setup: str  # run before the clock starts: imports and data
    cell: str  # what a user writes; run with the clock
    script: str


VIZKIT = Tool(
    "vizkit",
    "vizkit",
    # vizkit imports what a name needs when it is asked for: `vk.explore` alone does it
    "import vizkit as vk\nvk.explore\nembeddings, layout = points.opened()",
    "explorer = vk.explore(embeddings, layout)\nexplorer",
    """{
      root: () => document.querySelector(".jp-NotebookPanel:not(.lm-mod-hidden) .vizkit-explorer"),
      plot() { return this.root()?.querySelector("[data-vizkit=map]"); },
      ready() { return Boolean(this.plot()?.dataset.drawn); },
      image() { return this.root().querySelector("[data-vizkit=card-image]"); },
      at(x, y, id) { const p = this.root().vizkit.positionOf(id); return [p.x, p.y]; },
    }""",
)

PLOTLY = Tool(
    "plotly",
    "plotly FigureWidget",
    """
import ipywidgets as widgets
import plotly.graph_objects as go
thumbnails = points.thumbnails
xy, codes = points.xy, points.codes
""",
    f"""
figure = go.FigureWidget(go.Scattergl(x=xy[:, 0], y=xy[:, 1], mode="markers", marker=dict(size=5, color=codes)))
figure.update_layout(width={WIDTH}, height={HEIGHT}, dragmode="pan")
figure._config = dict(scrollZoom=True)
image = widgets.Image(value=thumbnails[0], format="webp", layout=dict(width="144px", height="144px"))

def on_hover(trace, points, state):
    if points.point_inds:
        image.value = thumbnails[points.point_inds[0]]

figure.data[0].on_hover(on_hover)
widgets.HBox([figure, image])
""".strip(),
    """{
      gd: () => document.querySelector(".jp-OutputArea .js-plotly-plot"),
      plot() { return this.gd()?.querySelector(".gl-container, .plot-container"); },
      ready() { return Boolean(this.gd()?._fullLayout?._plots && this.gd()?._fullData?.length); },
      image: () => document.querySelector(".jp-OutputArea img.widget-image"),
      at(x, y) {
        const box = this.gd().getBoundingClientRect(), { xaxis, yaxis } = this.gd()._fullLayout;
        return [box.left + xaxis._offset + xaxis.l2p(x), box.top + yaxis._offset + yaxis.l2p(y)];
      },
    }""",
)

BOKEH = Tool(
    "bokeh",
    "bokeh, images in tooltips",
    """
from bokeh.io import output_notebook, show
from bokeh.models import ColumnDataSource, HoverTool
from bokeh.palettes import Category10
from bokeh.plotting import figure
from bokeh.resources import INLINE
colors = [Category10[8][code] for code in points.codes]
addresses = points.addresses
ids, xy = points.ids, points.xy
""",
    f"""
output_notebook(INLINE, hide_banner=True)
source = ColumnDataSource(dict(x=xy[:, 0], y=xy[:, 1], color=colors, id=ids, image=addresses))
plot = figure(width={WIDTH}, height={HEIGHT}, tools="pan,wheel_zoom", active_scroll="wheel_zoom")
plot.output_backend = "webgl"
plot.scatter("x", "y", color="color", size=5, line_color=None, source=source)
tooltip = "<img src='@image' width=144 height=144><div>@id</div>"
plot.add_tools(HoverTool(tooltips=tooltip, limit=1))  # of all points under the pointer the nearest
show(plot)
""".strip(),
    """{
      view() { const all = globalThis.Bokeh?.index; return all && (all.roots?.[0] ?? Object.values(all)[0]); },
      plot() { return this.view()?.canvas_view?.el ?? this.view()?.canvas?.el; },
      ready() { return Boolean(this.view()?.frame && this.plot()?.isConnected); },
      image: () => document.querySelector("body > .bk-Tooltip")?.shadowRoot?.querySelector("img"),
      at(x, y) {
        const box = this.plot().getBoundingClientRect(), { x_scale, y_scale } = this.view().frame;
        return [box.left + x_scale.compute(x), box.top + y_scale.compute(y)];
      },
    }""",
)

JSCATTER = Tool(
    "jscatter",
    "jupyter-scatter",
    """
import jscatter
import pandas as pd
table = pd.DataFrame(dict(x=points.xy[:, 0], y=points.xy[:, 1], id=points.ids, image=points.addresses))
table["label"] = pd.Categorical(points.labels)
""",
    f"""
scatter = jscatter.Scatter(data=table, x="x", y="y", color_by="label", size=5, width={WIDTH}, height={HEIGHT})
scatter.tooltip(True, properties=["id"], preview="image", preview_type="image", preview_image_height=144)
scatter.show()
""".strip(),
    """{
      plot: () => document.querySelector(".jp-OutputArea canvas"),
      ready() { return Boolean(this.plot()); },
      image: () => document.querySelector('.jp-OutputArea [style*="background-image"]'),
      at(x, y) {  // as it draws before anybody moves the map: the data fill the height of the canvas
        const box = this.plot().getBoundingClientRect(), half = box.height / 2;
        const [left, right, bottom, top] = this.extent;
        const along = (2 * (x - left)) / (right - left) - 1, up = (2 * (y - bottom)) / (top - bottom) - 1;
        return [box.left + box.width / 2 + along * half, box.top + half - up * half];
      },
    }""",
)

TOOLS = {tool.name: tool for tool in (VIZKIT, PLOTLY, BOKEH, JSCATTER)}
