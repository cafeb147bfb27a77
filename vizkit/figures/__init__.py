"""Plain plotly figures of tables and arrays: the map, and evidence on images. Only here is plotly imported."""

from .maps import layout_figure, maps_figure, placed_figure
from .pictures import evidence_figure, gallery_figure, is_signed

__all__ = ["evidence_figure", "gallery_figure", "is_signed", "layout_figure", "maps_figure", "placed_figure"]
