"""Figures show the numbers they are given, and strangers' texts as text."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vizkit.errors import InputError
from vizkit.figures import evidence_figure, gallery_figure, layout_figure
from vizkit.figures.style import PALETTE
from vizkit.widgets.bundle import bundle

HOSTILE = "<img src=x onerror=alert(1)></script>"


@pytest.fixture
def frame():
    return pd.DataFrame(
        {"x": [0.0, 1, 2, 3], "y": [3.0, 2, 1, 0], "kept": [0.1, 0.2, 0.3, 1.0], "label": ["b", "a", HOSTILE, None]},
        index=pd.Index(["p", "q", "r", HOSTILE], name="id"),
    )


def test_every_point_is_drawn_once_under_its_label(frame):
    figure = layout_figure(frame, "title")
    traces = {trace.name: trace for trace in figure.data}
    assert list(traces) == ["&lt;img src=x onerror=alert(1)&gt;&lt;/script&gt;", "a", "b", "no value"]
    assert {name: (t.x[0], t.y[0]) for name, t in traces.items() if name in ("a", "b", "no value")} == {
        "a": (1, 2),
        "b": (0, 3),
        "no value": (3, 0),
    }
    assert all(trace.type == "scattergl" for trace in figure.data)


def test_texts_of_strangers_are_escaped_wherever_they_stand(frame):
    figure = layout_figure(frame.rename(columns={"kept": HOSTILE}), HOSTILE)
    assert "<img" not in figure.to_json().replace("\\u003c", "<")
    panel = (HOSTILE, np.zeros((8, 8, 3), np.uint8), np.ones((2, 2), np.float32))
    evidence = evidence_figure([panel], HOSTILE, HOSTILE)
    assert "<img" not in evidence.to_json().replace("\\u003c", "<")
    gallery = gallery_figure([[(HOSTILE, np.zeros((8, 8, 3), np.uint8))]], HOSTILE, note=HOSTILE)
    assert "<img" not in gallery.to_json().replace("\\u003c", "<")


def test_a_number_colors_by_its_value(frame):
    figure = layout_figure(frame, "title", color="kept")
    np.testing.assert_array_equal(figure.data[0].marker.color, frame["kept"])
    assert figure.data[0].marker.colorbar.title.text == "neighbors kept"
    with pytest.raises(InputError, match=r"No column 'labl' to color by\. Closest: 'label'"):
        layout_figure(frame, "title", color="labl")


def test_beyond_the_palette_the_rarest_labels_share_one_entry():
    names = [f"c{i:02d}" for i in range(25) for _ in range(30 - i)]
    frame = pd.DataFrame({"x": 0.0, "y": 0.0, "label": names}, index=map(str, range(len(names))))
    figure = layout_figure(frame, "title")
    assert [t.name for t in figure.data] == [*(f"c{i:02d}" for i in range(20)), "5 others"]
    assert len(figure.data[-1].x) == sum(30 - i for i in range(20, 25))


def test_twenty_five_labels_have_the_colors_that_the_explorer_gives_them():
    shared = json.loads((Path(__file__).parent / "front/labels25.json").read_text(encoding="utf-8"))
    names = [name for name, count in shared["counts"].items() for _ in range(count)]
    names = np.random.default_rng(0).permutation(names)
    frame = pd.DataFrame({"x": 0.0, "y": 0.0, "label": names}, index=map(str, range(len(names))))
    *named, others = layout_figure(frame, "title").data
    assert [[trace.name, trace.marker.color] for trace in named] == shared["colors"]
    assert [others.name, len(others.x)] == shared["others"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pd.array(["a", None, "b", "a"], dtype="string"), {"a": [0, 3], "b": [2], "no value": [1]}),
        (pd.array([1, "1", 2.0, None], dtype=object), {"1": [0, 1], "2.0": [2], "no value": [3]}),
        (pd.Categorical(["u", None, "v", "u"]), {"u": [0, 3], "v": [2], "no value": [1]}),
        (pd.array([True, None, False, True], dtype="boolean"), {"False": [2], "True": [0, 3], "no value": [1]}),
    ],
)
def test_every_point_is_drawn_once_whatever_the_column_holds(frame, values, expected):
    figure = layout_figure(frame.assign(kind=values), "title", color="kind")
    assert {trace.name: list(trace.x) for trace in figure.data} == expected


def test_a_number_that_is_missing_has_no_color(frame):
    figure = layout_figure(frame.assign(n=pd.array([1, None, 3, 4], dtype="Int64")), "title", color="n")
    np.testing.assert_array_equal(np.asarray(figure.data[0].marker.color, float), [1, np.nan, 3, 4])


def test_the_explorer_and_the_figures_share_one_palette():
    front = re.search(r"CATEGORY_COLORS = \[(.*?)\]", bundle(), re.DOTALL)[1]
    assert tuple(re.findall(r"#[0-9a-f]{6}", front)) == PALETTE


def shown(trace):
    """Return the picture of a trace, (h, w, 3)."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(trace.source.split(",", 1)[1]))))


def test_a_gallery_shows_each_picture_once_under_its_title():
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((40, 30), (30, 40), (20, 20))]
    figure = gallery_figure([[("a", pictures[0]), ("b\nbelow", pictures[1])], [("c", pictures[2])]], "head", note="n")
    for trace, picture in zip(figure.data, pictures, strict=True):
        np.testing.assert_array_equal(shown(trace), picture)
    titles = {a.xref: a.text for a in figure.layout.annotations}
    assert titles == {"x domain": "a", "x2 domain": "b<br>below", "x3 domain": "c", "paper": "n"}
    for trace, picture in zip(figure.data, pictures, strict=True):
        x, y = (figure.layout[name.replace(name[0], f"{name[0]}axis")] for name in (trace.xaxis, trace.yaxis))
        assert (x.range, y.range) == ((0, picture.shape[1]), (picture.shape[0], 0))
        assert y.scaleanchor == trace.xaxis  # a pixel is a square
        assert not x.visible
        assert not y.visible


def test_cells_of_a_gallery_are_equal_squares_with_room_for_their_titles():
    square = np.zeros((9, 9, 3), np.uint8)
    figure = gallery_figure([[("one", square)] * 3, [("one\ntwo\nthree", square)] * 3], "head")
    layout = figure.layout
    w = layout.width - layout.margin.l - layout.margin.r
    h = layout.height - layout.margin.t - layout.margin.b
    sides = [
        (np.ptp(layout[f"xaxis{i}"].domain) * w, np.ptp(layout[f"yaxis{i}"].domain) * h) for i in ("", *range(2, 7))
    ]
    np.testing.assert_allclose(sides, sides[0][0], rtol=0.05)
    gap = (layout.yaxis.domain[0] - layout.yaxis4.domain[1]) * h
    assert gap > 3 * layout.font.size * 1.2


def test_a_gallery_shrinks_large_pictures_and_cuts_long_names_in_their_middle():
    figure = gallery_figure([[("x" * 100 + "_last.jpg", np.zeros((3000, 4000, 3), np.uint8))]], "head")
    height, width = shown(figure.data[0]).shape[:2]
    assert width == 420
    assert height == 315
    assert re.fullmatch(r"x+…x*_last\.jpg", figure.layout.annotations[0].text)
    assert len(figure.layout.annotations[0].text) < 40


@pytest.mark.parametrize("rows", [[], [[]]])
def test_a_gallery_needs_a_picture(rows):
    with pytest.raises(InputError, match="A gallery needs at least one picture"):
        gallery_figure(rows, "head")
