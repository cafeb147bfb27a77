"""Figures of tables and arrays: maps, evidence on images, pictures. Only here are plotly and matplotlib imported."""

from .evidence import evidence_figure, many_figure
from .maps import layout_figure, maps_figure, placed_figure
from .matching import matches_figure, matches_image
from .panels import Panel, is_signed, shown
from .pictures import gallery_figure
from .printed import evidence_image, many_image

__all__ = [
    "Panel",
    "evidence_figure",
    "evidence_image",
    "gallery_figure",
    "is_signed",
    "layout_figure",
    "many_figure",
    "many_image",
    "maps_figure",
    "matches_figure",
    "matches_image",
    "placed_figure",
    "shown",
]
