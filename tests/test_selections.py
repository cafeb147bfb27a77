"""Named selections, and the columns that travel: whole, searchable, and text whatever they hold."""

import json

import numpy as np
import pandas as pd
import pytest
from recording import Recording, browser, column, words

import vizkit as vk
from vizkit.errors import InputError
from vizkit.widgets import wire

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "quotes \" ' ` and \\",
    "\u202eright to left",
    "🦊🦊",
    "x" * 10_000,
]
HALF = "half \ud83d a character"  # JSON cannot hold it
WRITTEN = "half \\ud83d a character"


def made(**columns):
    n = len(next(iter(columns.values())))
    vectors = np.random.default_rng(0).normal(size=(n, 4))
    frame = pd.DataFrame({"id": [f"p{i}" for i in range(n)]} | columns)
    return vk.Embeddings.from_frame(frame.assign(embedding=list(vectors)))


@pytest.fixture
def explorer():
    own = made(label=["a", "b"] * 6, size=np.linspace(0, 1, 12))
    return Recording(own, vk.project(own, method="pca"), 3)


def asked(explorer, name):
    """Name the selection as a view does, and return what it is answered."""
    browser(explorer, type="request", name="name", serial=7, text=name)
    said = explorer.sent[-1][0]
    assert (said["type"], said["view"], said["serial"], said["ok"]) == ("reply", "v1", 7, True)
    return {key: value for key, value in said.items() if key not in ("type", "view", "serial", "ok")}


def test_a_name_makes_a_column_of_the_map_and_of_the_table(explorer):
    heard = []
    explorer.observe(lambda change: heard.append(change["new"]), "named")
    explorer.selection = ["p7", "p2"]
    explorer.name_selection(" odd ones ")
    assert heard == [{"odd ones": ["p2", "p7"]}] == [explorer.named]
    assert [i for i, word in enumerate(words(column(explorer, "odd ones"))) if word == "yes"] == [2, 7]
    assert list(explorer.frame.columns) == ["label", "size", "odd ones"]
    assert explorer.frame["odd ones"].dtype == bool
    assert list(explorer.frame.index[explorer.frame["odd ones"]]) == ["p2", "p7"]
    assert list(explorer.embeddings.frame.columns) == ["label", "size"]
    explorer.name_selection("first", ids=["p1", "p0"])
    assert explorer.named["first"] == ["p0", "p1"]
    explorer.selection = ["p1", "p7"]
    pd.testing.assert_frame_equal(explorer.table, explorer.frame.loc[["p1", "p7"]])
    assert explorer.table[["odd ones", "first"]].to_numpy().tolist() == [[False, True], [True, False]]


def test_a_name_given_in_a_view_is_the_same_and_given_again_names_anew(explorer):
    explorer.selection = ["p3"]
    assert asked(explorer, "mine") == {"column": "mine"}
    assert explorer.named == {"mine": ["p3"]}
    explorer.name_selection("other", ["p5"])
    explorer.selection = ["p4", "p5"]
    for _ in range(2):  # the same again is answered, too
        assert asked(explorer, "mine") == {"column": "mine"}
    assert explorer.named == {"mine": ["p4", "p5"], "other": ["p5"]}
    assert [c["name"] for c in explorer._columns] == ["label", "size", "mine", "other"]
    explorer.name_selection("mine", [])
    assert explorer.named == {"other": ["p5"]}
    assert [c["name"] for c in explorer._columns] == ["label", "size", "other"]
    explorer.name_selection("never given", [])
    assert explorer.named == {"other": ["p5"]}


def test_a_name_that_the_table_has_already_stands_beside_it(explorer):
    explorer.selection = ["p0"]
    assert asked(explorer, "label") == {"column": "label_"}
    assert explorer.name_selection("label_", ["p1"]) == "label__"
    assert explorer.name_selection("label", ["p0"]) == "label_"
    assert explorer.name_selection("other", []) is None
    assert list(explorer.frame.columns) == ["label", "size", "label_", "label__"]
    assert [c["name"] for c in explorer._columns] == ["label", "size", "label_", "label__"]
    assert words(column(explorer, "label")) == ["a", "b"] * 6
    assert words(column(explorer, "label_"))[:2] == ["yes", "no"]
    assert words(column(explorer, "label__"))[:2] == ["no", "yes"]


def test_what_cannot_be_named_is_refused_with_a_sentence(explorer):
    with pytest.raises(InputError, match="Nothing is selected that could be named 'x'"):
        explorer.name_selection("x")
    for name in ("", "  ", None, 3):
        with pytest.raises(InputError, match="expected a text, like 'odd ones'"):
            explorer.name_selection(name, ["p0"])
    with pytest.raises(InputError, match="No image has the id 'p99'"):
        explorer.name_selection("x", ["p99"])
    with pytest.raises(InputError, match=r"ids must be a list of ids, not one string: \['p1'\]"):
        explorer.name_selection("x", "p1")
    assert explorer.named == {}
    browser(explorer, type="request", name="name", serial=3, text="x")
    assert not explorer.sent[-1][0]["ok"]
    assert explorer.errors == [explorer.sent[-1][0]["error"]]
    assert "Nothing is selected" in explorer.errors[0]


def test_rows_of_added_images_are_no_part_of_a_selection(explorer):
    browser(explorer, [np.array([12, 3, 13], "<u4").tobytes()], type="select")
    assert explorer.selection == ["p3"]


def test_columns_hold_the_metadata_and_no_paths(tmp_path):
    own = made(
        label=["b", None, "a", "b"],
        path=[str(tmp_path / f"{i}.png") for i in range(4)],
        hue=[0.5, np.nan, -1.0, 1e9],
        count=[1, 2, 2, 3],
        empty=[None] * 4,
    )
    found = {c["name"]: c for c in Recording(own, vk.project(own, method="pca"), 2)._columns}
    assert list(found) == ["label", "hue", "count"]
    assert words(found["label"]) == ["b", None, "a", "b"]
    assert found["label"]["categories"] == ["a", "b"]
    np.testing.assert_array_equal(np.frombuffer(found["hue"]["values"], "<f4"), np.float32([0.5, np.nan, -1, 1e9]))
    assert words(found["count"]) == ["1", "2", "2", "3"]


def test_a_selection_may_be_named_path():
    own = made(label=["a", "b"] * 3)
    explorer = Recording(own, vk.project(own, method="pca"), 2)
    assert explorer.name_selection("path", ["p1"]) == "path"
    assert words(column(explorer, "path")) == ["no", "yes", "no", "no", "no", "no"]


def test_texts_of_too_many_kinds_to_color_by_travel_as_texts():
    n = 300
    own = made(caption=[f"image {i}" if i else None for i in range(n)], group=[str(i % 200) for i in range(n)])
    explorer = Recording(own, vk.project(own, method="pca"), 2)
    assert column(explorer, "caption") == {
        "name": "caption",
        "kind": "text",
        "values": ["", *(f"image {i}" for i in range(1, n))],
    }
    assert column(explorer, "group")["kind"] == "category"


def test_texts_take_four_megabytes_at_most_and_what_still_fits_travels():
    n = 1000
    own = made(
        long=[f"{i:04d}" + "ä" * 1500 for i in range(n)],
        too_long=[f"{i:04d}" + "b" * 1500 for i in range(n)],
        short=[f"image {i}" for i in range(n)],
    )
    with pytest.warns(UserWarning, match="takes 4 MB of texts: 'too_long'"):
        columns = wire.columns_of(own.frame)
    assert [c["name"] for c in columns] == ["long", "short"]
    assert 3_000_000 < len(json.dumps(columns, ensure_ascii=False).encode()) <= 4_000_000


def test_hostile_names_and_texts_travel_whole_and_as_json():
    texts = [text + str(i) for i, text in enumerate(HOSTILE * 40)]
    own = made(**{HOSTILE[0]: HOSTILE * 40, HOSTILE[2]: texts})
    explorer = Recording({HALF: own}, {HALF: vk.project(own, method="pca")}, 2)
    explorer.selection = ["p1"]
    for name in (*HOSTILE, HALF):
        asked(explorer, name)
    assert explorer.errors == []
    assert [*explorer.named] == [*HOSTILE, WRITTEN]
    sent = [*explorer._columns, *explorer._maps]
    tags, captions, *named, shown = json.loads(json.dumps(sent, ensure_ascii=False, default=lambda _: None).encode())
    assert (tags["name"], captions["name"], shown["name"]) == (HOSTILE[0], HOSTILE[2], WRITTEN)
    assert set(tags["categories"]) == set(HOSTILE)
    assert captions["values"] == texts
    of_taken = {HOSTILE[0]: HOSTILE[0] + "_", HOSTILE[2]: HOSTILE[2] + "_"}
    assert [one["name"] for one in named] == [*(of_taken.get(name, name) for name in HOSTILE), WRITTEN]
