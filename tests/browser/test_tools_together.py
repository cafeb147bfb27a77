"""Search, table, columns told and adding an image, in the whole front end."""

import numpy as np
import pytest
from front.page import fixture, picture

HOSTILE = ["<img src=x onerror=\"document.title='hacked'\">", "=1+1", "\u202eשלום.png", "long " * 2000]


@pytest.fixture(scope="module")
def data():
    made = fixture(600)
    made["ids"][596:] = HOSTILE
    made["columns"].append({"name": "caption", "kind": "text", "values": [f"seen {row} times" for row in range(600)]})
    return made


def rings_turned(data):
    """Return the rows that "ring rotation>90" means, reckoned from the data."""
    label, rotation = data["columns"][:2]
    return np.flatnonzero((label["codes"] == label["categories"].index("ring")) & (rotation["values"] > 90)).tolist()


def test_by_keyboard_alone_a_search_becomes_a_query_a_selection_and_a_table(explorer, data):
    found = explorer(data)
    rows = rings_turned(data)
    found.see("search").focus()
    found.page.keyboard.type("ring rotation>90")
    found.until(lambda: found.text("search-count") == f"{len(rows)} of 600 found")
    found.page.keyboard.press("ArrowDown")
    found.page.keyboard.press("Enter")
    found.until(lambda: found.see("query").is_visible())
    assert found.events() == [{"type": "query", "id": data["ids"][rows[0]]}]
    found.page.keyboard.press("ArrowDown")
    found.page.keyboard.press("Tab")
    found.page.keyboard.press("Tab")
    found.page.keyboard.press("Enter")
    assert found.events()[-1] == {"type": "select", "rows": rows}
    assert found.see("table-row").count() == len(rows)
    assert found.see("table-row").first.text_content().startswith(data["ids"][rows[0]])
    assert found.page.evaluate("document.activeElement.dataset.vizkit") == "search"


def test_others_are_dimmed_then_hidden_and_never_silently(explorer, data):
    found = explorer(data)
    rows = rings_turned(data)
    other = next(row for row in range(600) if row not in rows)
    found.see("search").fill("ring rotation>90")
    found.until(lambda: found.text("search-count").endswith("found"))
    found.hover(other)
    found.until(lambda: found.see("card").is_visible())
    found.see("search").focus()
    found.see("hide-others").check()
    assert found.text("search-count") == f"{len(rows)} of 600 shown"
    found.page.keyboard.press("Escape")
    places = found.positions()
    alone = max(
        (row for row in range(600) if row not in rows), key=lambda row: np.hypot(*(places[rows] - places[row]).T).min()
    )
    found.hover(alone)
    found.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert not found.see("card").is_visible(), "a hidden point is not there for the pointer"
    found.see("search").fill("")
    found.until(lambda: found.text("search-count") == "")
    found.page.mouse.move(2, 2)
    found.hover(alone)
    found.until(lambda: found.text("card-id") == data["ids"][alone])


def test_a_selection_is_named_and_hostile_names_are_text_in_it(explorer, data):
    found = explorer(data)
    found.page.evaluate("host.callback({ selection: new Uint32Array([596, 597, 598, 599, 3]) })")
    found.until(lambda: found.see("table-row").count() == 5)
    assert found.see("table").locator("img").count() == 0
    assert sum(HOSTILE[0] == text for text in found.see("table-row").locator("th").all_text_contents()) == 1
    found.see("selection-name").fill(HOSTILE[0])
    found.see("name-selection").click()
    asked = found.page.evaluate("host.requests.filter((one) => one.type === 'name')")
    assert asked == [{"type": "name", "text": HOSTILE[0]}]
    found.page.evaluate(
        """(name) => explorer.setData({ ...host.data, columns: [...host.data.columns,
        { name, kind: "category", categories: ["no", "yes"],
          codes: Int32Array.from(host.data.ids, (_, row) => Number(row > 595 || row === 3)) }] })""",
        HOSTILE[0],
    )
    found.until(lambda: "is a column now" in found.see("table").text_content())
    found.see("search").fill("onerror yes")
    found.until(lambda: found.text("search-count") == "1 of 600 found")
    assert found.page.title() == "Explorer harness"


def test_the_card_tells_the_columns_that_were_chosen(explorer, data):
    found = explorer(data)
    found.hover(7)
    found.until(lambda: "caption" in found.see("card").text_content())
    found.see("columns").click()
    found.page.get_by_label("caption").uncheck()
    found.page.keyboard.press("Escape")
    found.hover(7)
    found.until(lambda: found.see("card").is_visible())
    assert "caption" not in found.see("card").text_content()
    assert "rotation" in found.see("card").text_content()


def test_an_image_that_is_chosen_becomes_the_query_and_a_wrong_file_is_refused_in_words(explorer, data, tmp_path):
    found = explorer(data)
    picture(11, 64).save(tmp_path / "mine <b>.png")
    (tmp_path / "notes.txt").write_text("no picture")
    with found.page.expect_file_chooser() as waiting:
        found.see("add-image").click()
    waiting.value.set_files(tmp_path / "notes.txt")
    found.until(lambda: found.see("error").is_visible())
    assert "“notes.txt” is not an image" in found.text("error")
    with found.page.expect_file_chooser() as waiting:
        found.see("add-image").click()
    waiting.value.set_files(tmp_path / "mine <b>.png")
    found.until(lambda: found.see("query").is_visible())
    assert "mine <b>.png" in found.see("query").text_content()
    assert not found.see("error").is_visible()


def test_a_file_dropped_on_the_map_is_asked_for_by_name_with_its_bytes(explorer, data):
    found = explorer(data)
    found.page.evaluate("""() => {
        const carried = new DataTransfer(), map = document.querySelector("[data-vizkit=map]");
        carried.items.add(new File([new Uint8Array([1, 2, 3])], "dropped.png", { type: "image/png" }));
        const told = { dataTransfer: carried, bubbles: true, cancelable: true };
        for (const type of ["dragenter", "dragover", "drop"]) map.dispatchEvent(new DragEvent(type, told));
    }""")
    found.until(lambda: found.see("query").is_visible())
    assert found.page.evaluate("host.requests.find((one) => one.type === 'place').file") == "dropped.png"
    assert not found.page.get_by_text("Drop the image").is_visible()
