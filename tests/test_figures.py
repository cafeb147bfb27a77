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
from vizkit.figures import (
    Panel,
    evidence_figure,
    gallery_figure,
    layout_figure,
    many_figure,
    maps_figure,
    matches_figure,
    placed_figure,
)
from vizkit.figures.colors import NO_VALUE, coloring
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
    assert list(traces) == ["no value", "&lt;img src=x one…rt(1)&gt;&lt;/script&gt;", "a", "b"]
    assert {name: (t.x[0], t.y[0]) for name, t in traces.items() if name in ("a", "b", "no value")} == {
        "a": (1, 2),
        "b": (0, 3),
        "no value": (3, 0),
    }
    assert all(trace.type == "scattergl" for trace in figure.data)


def test_texts_of_strangers_are_escaped_wherever_they_stand(frame):
    figure = layout_figure(frame.rename(columns={"kept": HOSTILE}), HOSTILE)
    assert "<img" not in figure.to_json().replace("\\u003c", "<")
    panel = Panel(HOSTILE, np.zeros((8, 8, 3), np.uint8), np.ones((2, 2), np.float32))
    for evidence in (
        evidence_figure([panel], HOSTILE, HOSTILE, note=HOSTILE),
        many_figure([(panel, panel)], HOSTILE, HOSTILE, note=HOSTILE),
        matches_figure([panel, panel], [((0, 0), (1, 1), HOSTILE)], HOSTILE, note=HOSTILE),
    ):
        assert "<img" not in evidence.to_json().replace("\\u003c", "<")
    gallery = gallery_figure([[(HOSTILE, np.zeros((8, 8, 3), np.uint8))]], HOSTILE, note=HOSTILE)
    assert "<img" not in gallery.to_json().replace("\\u003c", "<")


def test_a_number_colors_by_its_value(frame):
    figure = layout_figure(frame, "title", color="kept")
    np.testing.assert_array_equal(figure.data[0].marker.color, frame["kept"])
    assert figure.layout.coloraxis.colorbar.title.text == "neighbors kept"
    with pytest.raises(InputError, match=r"No column 'labl' to color by\. Closest: 'label'"):
        layout_figure(frame, "title", color="labl")


def test_beyond_the_palette_the_rarest_labels_share_one_entry():
    names = [f"c{i:02d}" for i in range(25) for _ in range(30 - i)]
    frame = pd.DataFrame({"x": 0.0, "y": 0.0, "label": names}, index=map(str, range(len(names))))
    figure = layout_figure(frame, "title")
    assert [t.name for t in figure.data] == ["5 others", *(f"c{i:02d}" for i in range(20))]
    assert len(figure.data[0].x) == sum(30 - i for i in range(20, 25))


def test_twenty_five_labels_have_the_colors_that_the_explorer_gives_them():
    shared = json.loads((Path(__file__).parent / "front/labels25.json").read_text(encoding="utf-8"))
    names = [name for name, count in shared["counts"].items() for _ in range(count)]
    names = np.random.default_rng(0).permutation(names)
    frame = pd.DataFrame({"x": 0.0, "y": 0.0, "label": names}, index=map(str, range(len(names))))
    others, *named = layout_figure(frame, "title").data
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


def many(n=120, **columns):
    """Return a map of n points in a row."""
    at = np.arange(n, dtype=float)
    return pd.DataFrame({"x": at, "y": at, "kept": at / n / 2, **columns}, index=[f"id {i}" for i in range(n)])


def entries(figure):
    """Return the names of the legend, in its order."""
    named = [trace for trace in figure.data if trace.showlegend is not False]
    return [trace.name for trace in sorted(named, key=lambda trace: trace.legendrank or 1000)]


def test_a_number_that_is_missing_is_gray_below_the_others_and_named():
    frame = many(size=pd.array([None, *np.arange(118) / 7, np.inf], dtype="Float64"))
    none, rest = layout_figure(frame, "title", color="size").data  # drawn in this order
    assert (none.name, none.marker.color, list(none.x)) == ("no value", NO_VALUE, [0, 119])
    assert none.showlegend
    np.testing.assert_allclose(rest.marker.color, np.arange(118) / 7)
    np.testing.assert_array_equal(rest.x, np.arange(1, 119))


def test_a_share_has_the_scale_from_0_to_1_and_chance_on_it():
    figure = layout_figure(many(), "title", color="kept", chances={"kept": 0.123})
    axis = figure.layout.coloraxis
    assert (axis.cmin, axis.cmax) == (0, 1)
    ticks = dict(zip(axis.colorbar.tickvals, axis.colorbar.ticktext, strict=True))
    assert ticks == {0: "0%", 0.2: "20%", 0.4: "40%", 0.6: "60%", 0.8: "80%", 1: "100%", 0.123: "12.3%<br>by chance"}
    assert layout_figure(many(size=np.linspace(3, 4, 120)), "title", color="size").layout.coloraxis.cmin is None


@pytest.mark.parametrize(
    ("name", "values", "categories"),
    [
        ("fold", np.arange(120) % 20, [str(i) for i in range(20)]),
        ("fold", np.arange(120) % 21, None),
        ("fold", np.where(np.arange(120) == 3, np.nan, np.arange(120) % 3), ["0", "1", "2", "no value"]),
        ("fold", np.arange(120) % 3 * 1.0, None),  # measured, as far as one can tell
        ("label", np.arange(120) % 40 * 1.0, [*(str(i) for i in range(20)), "20 others"]),
        ("label", np.random.default_rng(0).random(120), None),
        ("missing", np.arange(120) % 3, None),  # how many: more of them is more
        ("kept", np.arange(120) % 2, None),
    ],
)
def test_few_whole_numbers_and_labels_are_categories_and_measures_a_scale(name, values, categories):
    figure = layout_figure(many().assign(**{name: values}), "title", color=name)
    assert (entries(figure) or None) == categories
    assert (figure.layout.coloraxis.colorbar.title.text is None) == (categories is not None)


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (["class_10", "class_2", "class_1", "b"], ["b", "class_1", "class_2", "class_10"]),
        (["10", "9", "-1", "2.5"], ["-1", "2.5", "9", "10"]),
        (["v1.10", "v1.9", "v01.9", "²"], ["v01.9", "v1.9", "v1.10", "²"]),
    ],
)
def test_categories_stand_in_natural_order(names, ordered):
    frame = many(4, kind=names)
    shown = layout_figure(frame, "title", color="kind").data
    assert [trace.name for trace in shown] == ordered
    assert [trace.marker.color for trace in shown] == list(PALETTE[:4])


def test_others_and_no_value_lie_below_and_stand_last():
    kinds = [f"k{i % 25}" for i in range(119)]
    figure = layout_figure(many(kind=[None, *kinds]), "title", color="kind")
    assert [trace.name for trace in figure.data[:3]] == ["no value", "5 others", "k0"]
    assert entries(figure)[-3:] == ["k19", "5 others", "no value"]


def test_a_long_name_loses_its_middle_in_the_legend_and_nothing_in_the_hover():
    name = "a" * 50 + " and in the end " + "z" * 200
    trace = layout_figure(many(2, kind=name), "title", color="kind").data[0]
    assert re.fullmatch("a+…z+", trace.name)
    assert len(trace.name) == 30
    assert trace.text[0].replace("<br>", "").replace(" ", "").count(name.replace(" ", "")) == 1


def test_names_of_their_own_are_refused_and_dates_are_a_scale():
    days = pd.date_range("2024-02-01", periods=120)
    frame = many(file=[f"{i}.jpg" for i in range(120)], kind=["a", "b"] * 60, day=days, told=[d.date() for d in days])
    with pytest.raises(InputError, match=r"'file' has 120 different values on 120 points.*here: 'kept', 'kind', 'day'"):
        layout_figure(frame, "title", color="file")
    for name in ("day", "told"):
        figure = layout_figure(frame, "title", color=name)
        np.testing.assert_allclose(np.diff(figure.data[0].marker.color), 1)
        bar = figure.layout.coloraxis.colorbar
        assert (bar.ticktext[0], bar.ticktext[-1]) == ("2024-02-01", "2024-05-30")
        assert bar.tickvals[0] == figure.data[0].marker.color[0]
    # Where nothing was asked for, the map is drawn all the same.
    figure = layout_figure(frame.assign(label=frame["file"]), "title")
    assert figure.layout.coloraxis.colorbar.title.text == "neighbors kept"


def test_numbers_by_id_color_the_points_that_they_name():
    frame = many(4)
    given = pd.Series({"id 3": 0.5, "elsewhere": 9.0, "id 1": 0.25}, name=HOSTILE)
    none, rest = layout_figure(frame, "title", color=given).data
    assert list(none.x) == [0, 2]
    assert dict(zip(rest.x, rest.marker.color, strict=True)) == {1: 0.25, 3: 0.5}
    figure = layout_figure(frame, "title", color=given.rename("depth"))
    assert figure.layout.coloraxis.colorbar.title.text == "depth"
    assert "depth: 0.5" in figure.data[1].text[1]
    assert "<img" not in layout_figure(frame, "title", color=given).to_json().replace("\\u003c", "<")
    with pytest.raises(InputError, match=r"has none of the ids here: its index holds 0, 1, the ids are 'id 0', 'id 1'"):
        layout_figure(frame, "title", color=pd.Series([1.0, 2.0]))
    with pytest.raises(InputError, match="several values for 'id 1'; expected one an id"):
        layout_figure(frame, "title", color=pd.Series([1, 2], index=["id 1", "id 1"]))


@pytest.mark.parametrize("color", [np.arange(4.0), [1, 2, 3, 4], ["kept"], 3])
def test_other_things_to_color_by_are_refused_with_what_is_expected(color):
    with pytest.raises(InputError, match=r"expected the name of a column \('x', 'y', 'kept'\) or a pandas Series"):
        layout_figure(many(4), "title", color=color)


def test_a_whole_title_stands_beside_the_buttons_and_above_the_plot():
    title = "of the 15 nearest neighbors the map keeps 43% (chance 2.5%); " * 6 + "the end."
    panel = Panel("a", np.zeros((8, 8, 3), np.uint8), np.ones((2, 2), np.float32))
    xy = many(4)[["x", "y"]]
    both = pd.concat([xy.add_suffix("_a"), xy.add_suffix("_b")], axis=1).assign(map_change=0.5)
    drawn = [
        layout_figure(many(4), title),
        placed_figure(many(4), xy, title, marks={"new": np.ones(4, bool)}),
        maps_figure(both, ("", ""), title),
        evidence_figure([panel], title, "unit"),
        evidence_figure([panel] * 3, title, "unit"),
        many_figure([(panel, panel)] * 9, title, "unit"),
        matches_figure([panel, panel], [], title),
        gallery_figure([[("a", np.zeros((8, 8, 3), np.uint8))]], title),
    ]
    for figure in drawn:
        lines = figure.layout.title.text.split("<br>")
        assert " ".join(lines) == title
        widest = max(map(len, lines)) * 6.4 + 10
        buttons = 280  # pixels wide and 28 high, as measured in a browser
        assert widest < figure.layout.width - buttons or figure.layout.title.pad.t >= 28
        assert widest < figure.layout.width + 12
        assert figure.layout.margin.t >= figure.layout.title.pad.t + 16 * len(lines)


def test_a_map_with_a_far_point_keeps_its_proportions_and_takes_any_size():
    frame = many(4)
    frame.loc["id 3", "x"] = 1e4
    layout = layout_figure(frame, "title").update_layout(width=1100, height=300).layout
    assert (layout.yaxis.scaleanchor, layout.yaxis.scaleratio) == ("x", None)
    assert layout.xaxis.range is layout.yaxis.range is None  # plotly fits them to the size that there is


def test_many_marks_are_smaller_and_a_column_of_theirs_colors_them_on_a_gray_map():
    sizes = []
    for m in (3, 30, 128, 1000):
        placed = many(m, unusualness=np.linspace(0, 100, m))
        member = np.arange(m) == 0
        marks = {"hollow": ~member & (np.arange(m) < m / 2), "filled": np.arange(m) >= m / 2, "member": member}
        figure = placed_figure(many(kind="a"), placed, "title", marks=marks, color="kind")
        assert [t.name for t in figure.data] == ["a", "hollow", "filled", "member"]
        assert len({t.marker.color for t in figure.data[1:3]}) == 2
        assert figure.data[3].marker.symbol != figure.data[1].marker.symbol
        sizes.append(figure.data[1].marker.size)
        colored = placed_figure(many(kind="a"), placed, "title", marks=marks, color="unusualness")
        gray, new, own = colored.data
        assert (gray.marker.color, new.name, own.name) == ("#B0B0B0", "new", "member")
        np.testing.assert_array_equal([*own.marker.color, *new.marker.color], placed["unusualness"])
        assert (colored.layout.coloraxis.cmin, colored.layout.coloraxis.cmax) == (0, 100)
    assert sizes == sorted(set(sizes), reverse=True)


def test_points_that_are_placed_among_groups_take_the_colors_of_their_own_names():
    placed = many(4, nearest=["p", "q", "p", None])
    figure = placed_figure(many(), placed, "t", marks={"new": np.arange(4) > 0}, color="nearest")
    marks = {trace.name: list(trace.x) for trace in figure.data[1:]}
    assert marks == {"new: no value": [3], "new: p": [2], "new: q": [1]}


def test_each_row_is_in_one_part_whatever_there_is():
    rng = np.random.default_rng(0)
    for values in (rng.integers(0, 200, 300), rng.integers(0, 9, 300), rng.choice(["a", "b", None], 300)):
        rows = np.concatenate([part.rows for part in coloring(pd.DataFrame({"v": values}), "v").parts])
        np.testing.assert_array_equal(np.sort(rows), np.arange(300))


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
