"""Figures of evidence show the maps as they are, on one scale, on screen and in files."""

import os
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from PIL import Image
from test_figures import shown

from vizkit.errors import InputError
from vizkit.figures import (
    Panel,
    evidence_figure,
    evidence_image,
    many_figure,
    many_image,
    matches_figure,
    matches_image,
)
from vizkit.figures.panels import OPACITY, under_a_map
from vizkit.figures.style import DIVERGING


def panel(name="a", shape=(2, 3), side=12, *, low=0.0, seed=0, **more):
    rng = np.random.default_rng(seed)
    seen = rng.integers(0, 256, (side, side, 3), np.uint8)
    return Panel(name, seen, rng.uniform(low, 1, shape).astype(np.float32), **more)


def heat(figure):
    return [trace for trace in figure.data if trace.type == "heatmap"]


def pictures(figure):
    return [shown(trace) for trace in figure.data if trace.type == "image"]


def titles(figure):
    return [note.text for note in figure.layout.annotations if note.text and note.xref != "paper"]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("low", [0.0, -2.0])
def test_every_panel_is_shown_clean_and_under_its_map_on_one_scale(count, low):
    panels = [panel(f"p{i}", low=low, seed=i) for i in range(count)]
    figure = evidence_figure(panels, "headline", "unit", note="why")
    for trace, one in zip(heat(figure), panels, strict=True):
        np.testing.assert_array_equal(trace.z, one.map)
        assert trace.coloraxis == "coloraxis"
        assert (trace.x0, trace.dx, trace.y0, trace.dy) == (2, 4, 3, 6)  # 12 pixels: 3 columns, 2 rows
    axis, bar = figure.layout.coloraxis, figure.layout.coloraxis2
    most = max(np.abs(one.map).max() for one in panels)
    assert (axis.cmin, axis.cmax) == (bar.cmin, bar.cmax) == pytest.approx((-most if low else 0, most))
    clean = pictures(figure)[::2]
    for picture, one in zip(clean, panels, strict=True):
        np.testing.assert_array_equal(picture, one.seen)
    assert bar.colorbar.title.text == "unit"
    assert titles(figure) == [one.name for one in panels]
    assert "why" in [note.text for note in figure.layout.annotations]


def test_pictures_do_not_overlap():
    for figure in (
        evidence_figure([panel()] * 2, "h", "u"),
        evidence_figure([panel()] * 3, "h", "u"),
        many_figure([(panel(), panel())] * 10, "h", "u"),
    ):
        x = [axis.domain for axis in figure.select_xaxes()]
        y = [axis.domain for axis in figure.select_yaxes()]
        boxes = list(zip(x, y, strict=True))
        assert len(set(boxes)) == len(boxes)
        for i, (x1, y1) in enumerate(boxes):
            for x2, y2 in boxes[:i]:
                assert min(x1[1], x2[1]) <= max(x1[0], x2[0]) or min(y1[1], y2[1]) <= max(y1[0], y2[0])
        assert np.min(x) >= 0
        assert np.max(y) <= 1


def test_one_query_against_many_shows_the_query_once_and_two_maps_a_neighbor():
    pairs = [(panel("query", seed=i, low=-0.2), panel(f"n{i}\ncosine 0.5", seed=i + 20)) for i in range(10)]
    figure = many_figure(pairs, "headline", "unit")
    drawn = [trace.z for trace in heat(figure)]
    for (own, other), on_other, on_query in zip(pairs, drawn[::2], drawn[1::2], strict=True):
        np.testing.assert_array_equal(on_other, other.map)
        np.testing.assert_array_equal(on_query, own.map)
    assert titles(figure).count("query") == 2  # of each row of eight
    assert "n3<br>cosine 0.5" in titles(figure)
    assert figure.layout.coloraxis.cmin == -figure.layout.coloraxis.cmax


def test_titles_say_what_a_map_adds_up_to():
    flat = np.full((2, 2), 0.1, np.float32)
    seen = np.zeros((8, 8, 3), np.uint8)
    said = titles(
        evidence_figure(
            [Panel("a", seen, flat, residual=0.0123, baseline=0.25), Panel("b", seen, -flat, residual=1e-7)], "h", "u"
        )
    )
    assert said == ["a", "sums to 0.400, rest 0.012<br>starts at 0.250", "b", "sums to −0.400"]


def test_the_grid_is_drawn_on_request_where_its_cells_can_be_told_apart():
    lines = lambda figure: [t for t in figure.data if t.type == "scatter" and t.mode == "lines"]  # noqa: E731
    assert not lines(evidence_figure([panel()], "h", "u"))
    figure = evidence_figure([panel()], "h", "u", grid=True)
    (line,) = lines(figure)
    assert set(line.x) - {None} == {0, 4, 8, 12}
    assert set(line.y) - {None} == {0, 6, 12}
    assert "grid 2 × 3" in titles(figure)
    fine = evidence_figure([panel(shape=(100, 100))], "h", "u", grid=True)
    assert not lines(fine)
    assert "grid 100 × 100" in titles(fine)


@pytest.mark.parametrize("low", [0.0, -2.0])
def test_a_file_and_the_color_bar_show_the_color_of_each_cell(tmp_path, low):
    """Over a plain picture a cell has exactly the color of its value on the bar, which matplotlib gives us apart."""
    plain = np.full((12, 12, 3), 90, np.uint8)
    one = Panel("a", plain, panel(low=low).map)
    path = evidence_image(tmp_path / "a.png", [one], "headline", "unit")
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    limit = np.abs(one.map).max()
    table = matplotlib.colormaps["coolwarm" if low else "viridis"]
    shares = (one.map / limit + 1) / 2 if low else one.map / limit
    (gray,) = np.unique(under_a_map(plain))
    bar = evidence_figure([one], "headline", "unit").layout.coloraxis2.colorscale
    for value in shares.ravel():
        expected = OPACITY * 255 * np.array(table(float(value))[:3]) + (1 - OPACITY) * gray
        found = (np.abs(pixels - expected).max(axis=2) <= 2).sum()
        assert found > 0.9 * (210 * 3) ** 2 / 6  # a sixth of a picture of 210 pixels at three times the density
        nearest = min(bar, key=lambda entry: abs(entry[0] - value))[1]
        at_bar = np.array([int(v) for v in nearest.removeprefix("rgb(").removesuffix(")").split(",")])
        assert np.abs(at_bar - expected).max() < 6  # the bar is given at 65 places


def test_signed_colors_are_even_in_lightness_and_symmetric():
    """CIELAB (CIE 1976, D65) by its formulas; the colors are those that matplotlib calls coolwarm."""
    rgb = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in DIVERGING]) / 255
    np.testing.assert_allclose(rgb, matplotlib.colormaps["coolwarm"](np.linspace(0, 1, 17))[:, :3], atol=0.01)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    f = np.cbrt(xyz / [0.9505, 1, 1.089])
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
    steps = np.linalg.norm(np.diff(lab, axis=0), axis=1)
    assert steps.std() < 0.12 * steps.mean()
    assert np.abs(lab[:, 0] - lab[::-1, 0]).max() < 2
    assert lab[:, 0].argmax() == 8


def test_an_object_of_another_hue_and_equal_lightness_is_seen_under_a_map():
    seen = np.full((20, 20, 3), (200, 80, 80), np.uint8)
    seen[5:15, 5:15] = (60, 139, 124)  # as light, by the weights of gray
    gray = np.asarray(Image.fromarray(seen).convert("L")).astype(int)
    assert np.ptp(gray) <= 2
    under = under_a_map(seen).astype(int)
    assert abs(under[10, 10, 0] - under[0, 0, 0]) > 60
    assert np.ptp(under, axis=2).max() == 0
    photo = np.random.default_rng(0).integers(0, 256, (20, 20, 1), np.uint8).repeat(3, axis=2)
    tones = under_a_map(photo)[:, :, 0].ravel()[photo[:, :, 0].ravel().argsort()].astype(int)
    assert (np.diff(tones) >= 0).all()  # what is lighter stays lighter


@pytest.mark.parametrize(("suffix", "begins"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_files_are_written_by_their_suffix_and_are_the_same_each_time(tmp_path, suffix, begins):
    odd = "$x_{ 100% \\frac$"  # no formula, though matplotlib would take it for one
    a, b = panel(odd, residual=0.0), panel("b", low=-1)
    link = [((0, 0), (1, 2), odd)]
    files = [
        evidence_image(str(tmp_path / f"pair{suffix}"), (a, b), odd, odd, note=odd, grid=True),
        matches_image(tmp_path / f"matches{suffix}", (a, b), link, odd, note=odd, grid=True),
    ]
    assert all(file.read_bytes().startswith(begins) for file in files)
    again = matches_image(tmp_path / f"again{suffix.upper()}", (a, b), link, odd, note=odd, grid=True)
    assert again.read_bytes() == files[1].read_bytes()


def test_a_file_of_many_has_every_map(tmp_path):
    """A map of ones over a plain picture has the color of the end of the scale."""
    plain = np.full((12, 12, 3), 90, np.uint8)
    one = Panel("a", plain, np.ones((2, 2), np.float32))
    path = many_image(tmp_path / "a.png", [(one, one)] * 3, "headline", "unit")
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    end = OPACITY * 255 * np.array(matplotlib.colormaps["viridis"](1.0)[:3]) + (1 - OPACITY) * under_a_map(plain)[0, 0]
    assert (np.abs(pixels - end).max(axis=2) <= 2).sum() == pytest.approx(6 * (120 * 3) ** 2, rel=0.03)


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_a_name_that_is_not_utf8_can_be_written(tmp_path, suffix):
    name = os.fsdecode(b"\xff\xfe.png")  # as os.listdir gives it on Linux
    a, b = (Panel(name, p.seen, p.map) for p in (panel(), panel(seed=1)))
    for path in (
        evidence_image(tmp_path / f"e{suffix}", [a, b], f"cosine 0.5 ({name})", "points", note=name),
        many_image(tmp_path / f"m{suffix}", [(a, b)], name, "points"),
    ):
        assert path.stat().st_size > 1000


def test_files_with_other_names_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"'a.jpg' must end in .png, .pdf, .svg"):
        evidence_image(tmp_path / "a.jpg", [panel()], "h", "u")
    with pytest.raises(InputError, match="is in no folder that exists"):
        evidence_image(tmp_path / "none/a.png", [panel()], "h", "u")
    with pytest.raises(InputError, match="at least one panel"):
        evidence_figure([], "h", "u")
    with pytest.raises(InputError, match="at least one pair"):
        many_figure([], "h", "u")
    assert not list(tmp_path.iterdir())


def test_a_file_needs_neither_pyplot_nor_plotly(tmp_path):
    code = """
import sys, numpy as np
from vizkit.figures import Panel, evidence_image
path = evidence_image(sys.argv[1], [Panel("a", np.zeros((8, 8, 3), np.uint8), np.eye(2, dtype=np.float32))], "h", "u")
assert not {"matplotlib.pyplot", "plotly", "torch"} & set(sys.modules), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.png")], check=True)
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_matching_patches_are_framed_and_joined():
    a, b = panel("left", shape=(3, 4)), panel("right", shape=(3, 4), seed=1)
    figure = matches_figure((a, b), [((0, 0), (2, 3), "one"), ((1, 1), (0, 0), "two")], "headline", note="why")
    lines = [t for t in figure.data if t.type == "scatter" and t.line.color != "white"]
    second = 12 * 1.35  # where b begins
    (path,) = [t for t in lines if min(v for v in t.x if v is not None) < 1]
    xs, ys = (np.array([v for v in values if v is not None]) for values in (path.x, path.y))
    on_a, on_b = xs < 12, xs > 12
    # Cells are 3 x 4 pixels.
    assert (xs[on_a] > 0).all()
    assert (xs[on_a] < 3).all()
    assert (ys[on_a] < 4).all()
    assert (xs[on_b] > second + 9).all()
    assert (xs[on_b] < second + 12).all()
    assert (ys[on_b] > 8).all()
    marks = sorted((note.text, note.hovertext) for note in figure.layout.annotations if note.hovertext)
    assert marks == [("1", "1: one")] * 2 + [("2", "2: two")] * 2
    np.testing.assert_array_equal(pictures(figure)[1], b.seen)
