"""Figures show the numbers they are given, and strangers' texts as text."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vizkit.errors import InputError
from vizkit.figures import PALETTE, evidence_figure, layout_figure
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
