"""The explorer's tools, each alone in a page of its own: search, table, adding an image, columns told."""

import pytest
from front.page import picture
from tool_page import HOSTILE, LONG, RIGHT_TO_LEFT, table, tools


@pytest.fixture
def tool(browser, tmp_path):
    yield from tools(browser, tmp_path)


def test_search_lists_counts_and_picks_by_keyboard_alone(tool):
    one = tool("search")
    field = one.see("search")
    field.press_sequentially("ring")
    one.until(lambda: one.see("search-count").text_content() == "13 of 40 found")
    assert one.told("found")[-1] == ["found", list(range(1, 40, 3)), False]
    assert field.get_attribute("aria-expanded") == "true"
    assert one.see("search-result").count() == 13
    field.press("ArrowDown")
    field.press("ArrowDown")
    active = one.page.locator(f"#{field.get_attribute('aria-activedescendant')}")
    assert active.get_attribute("aria-selected") == "true"
    assert active.text_content().startswith("ring/004.png")
    field.press("ArrowUp")
    field.press("ArrowUp")
    assert one.page.locator("[aria-selected=true]").get_attribute("data-row") == "37", "it goes round"
    field.press("Enter")
    assert one.told("pick") == [["pick", 37]]
    assert field.get_attribute("aria-expanded") == "false"
    assert field.get_attribute("aria-activedescendant") is None
    assert one.focused() == "search"
    assert one.told("found")[-1][1] is not None, "what was found stays brought out"
    field.press("Escape")
    one.until(lambda: one.told("found")[-1] == ["found", None, False])
    assert field.input_value() == ""
    assert one.see("search-count").text_content() == ""


def test_enter_right_after_the_last_key_picks_by_what_was_typed(tool):
    one = tool("search")
    one.page.evaluate("""() => {
        const field = document.querySelector("[data-vizkit=search]");
        field.focus();
        field.value = "star/005";
        field.dispatchEvent(new InputEvent("input"));
        field.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
    }""")
    assert one.told("pick") == [["pick", 5]]


def test_hide_others_and_select_all_say_what_they_do(tool):
    one = tool("search")
    one.see("search").fill("times used>=7.5")
    one.until(lambda: one.see("search-count").text_content() == "8 of 40 found")
    one.see("hide-others").check()
    assert one.told("found")[-1] == ["found", [30, 32, 33, 34, 35, 36, 37, 39], True]
    assert one.see("search-count").text_content() == "8 of 40 shown"
    one.see("select-found").click()
    assert one.told("select") == [["select", one.told("found")[-1][1]]]


def test_a_click_on_a_result_picks_it_and_leaving_the_field_closes_the_list(tool):
    one = tool("search")
    one.see("search").fill("caption:picture")
    one.until(lambda: one.see("search-result").count() == 39)
    first = one.see("search-result").first
    assert first.text_content() == "disc/000.pngcaption: picture 0 <b>"
    first.click()
    assert one.told("pick") == [["pick", 0]]
    assert not first.is_visible()
    one.see("search").click()
    assert first.is_visible()
    one.page.keyboard.press("Tab")
    assert one.focused() == "hide-others", "what acts on all that was found is part of the sheet"
    one.page.keyboard.press("Escape")
    assert one.focused() == "search"
    assert not first.is_visible()
    one.see("search").press("ArrowDown")
    assert first.is_visible()
    one.page.evaluate("document.activeElement.blur()")
    assert not first.is_visible()


def test_a_search_that_is_not_understood_is_answered_in_words_and_finds_nothing_kindly(tool):
    one = tool("search")
    one.see("search").fill("times used>many")
    one.until(lambda: "“many” is no number" in one.page.locator(".vk-hints").first.text_content())
    assert one.told("found")[-1] == ["found", None, False]
    one.see("search").fill("zebra")
    one.until(lambda: one.see("search-count").text_content() == "0 of 40 found")
    assert one.page.get_by_text("No image was found.").is_visible()
    assert one.see("select-found").is_disabled()


def test_new_columns_are_searched_at_once_and_hostile_names_are_text(tool):
    one = tool("search")
    one.see("search").fill("named=yes")
    one.until(lambda: "No column is called “named”" in one.page.locator(".vk-hints").first.text_content())
    one.page.evaluate("""() => search.setData({ ids: given.ids, columns: [
        { name: "named", kind: "category", categories: ["no", "yes"],
          codes: Int32Array.from(given.ids, (_, row) => Number(row > 34)) }] })""")
    assert one.see("search-count").text_content() == "5 of 40 found"
    shown = one.see("search-result").locator(".vk-option-id").all_text_contents()
    assert shown[:4] == [*HOSTILE, RIGHT_TO_LEFT]
    assert len(shown[4]) == 241
    assert one.page.locator(".vk-option img").count() == 0


def cells(one, place):
    return one.see("table-row").evaluate_all("(all, place) => all.map((row) => row.children[place].textContent)", place)


def test_the_table_sorts_both_ways_and_back_and_a_row_is_picked(tool):
    one = tool("table")
    assert one.page.get_by_text("Nothing is selected.").is_visible()
    one.page.evaluate("show([4, 3, 2, 9])")
    assert cells(one, 0) == ["ring/004.png", "disc/003.png", "star/002.png", "disc/009.png"]
    assert cells(one, 2) == ["1", "–", "0.5", "2.25"]
    used = one.page.get_by_role("button", name="times used")
    used.click()
    assert cells(one, 2) == ["0.5", "1", "2.25", "–"]
    assert used.locator("..").get_attribute("aria-sort") == "ascending"
    used.click()
    assert cells(one, 2) == ["2.25", "1", "0.5", "–"]
    used.press("Enter")
    assert cells(one, 0)[0] == "ring/004.png"
    one.see("table-row").nth(2).click()
    assert one.told("pick") == [["pick", 2]]
    assert ["near", 2] in one.told("near")
    one.page.evaluate("show([])")
    assert one.see("table-row").count() == 0


def test_the_table_is_walked_by_arrows_and_passed_by_one_tab(tool):
    one = tool("table")
    one.page.evaluate("show([0, 1, 2, 3])")
    one.see("table-row").first.get_by_role("button").focus()
    one.page.keyboard.press("ArrowDown")
    one.page.keyboard.press("ArrowDown")
    assert one.focused() == "star/002.png"
    assert one.told("near")[-1] == ["near", 2]
    one.page.keyboard.press("Enter")
    assert one.told("pick") == [["pick", 2]]
    one.page.keyboard.press("Shift+Tab")
    assert one.focused() == "caption", "the head of the last column"
    one.page.keyboard.press("Tab")
    assert one.focused() == "star/002.png"


def test_a_name_is_asked_for_and_the_column_told_that_the_selection_became(tool):
    one = tool("table")
    one.page.evaluate("show([0, 1])")
    one.see("name-selection").click()
    assert one.page.get_by_text("Write a name first.").is_visible()
    assert one.focused() == "selection-name"
    one.page.keyboard.type("  odd ones <b> ")
    one.page.keyboard.press("Enter")
    assert one.told("name") == [["name", "odd ones <b>"]]
    one.page.evaluate(
        """show([0, 1], [{ name: "odd ones <b>", kind: "category", codes: new Int32Array(40), categories: ["yes"] }])"""
    )
    assert cells(one, 4) == ["yes", "yes"]
    assert one.page.get_by_text("is a column now").count() == 0, "not said before it is answered"
    one.page.evaluate("answer.give('odd ones <b>')")
    one.page.get_by_text("Named: “odd ones <b>” is a column now.", exact=True).wait_for()
    assert one.see("selection-name").input_value() == ""
    # The same name once more, one that a column has, and one that is refused.
    one.see("selection-name").fill("odd ones <b>")
    one.see("name-selection").click()
    one.page.evaluate("answer.give('odd ones <b>')")
    one.until(lambda: one.see("selection-name").input_value() == "")
    one.see("selection-name").fill("label")
    one.see("name-selection").click()
    one.page.evaluate("answer.give('label_')")
    one.page.get_by_text("Named: “label_” is a column now; “label” was taken.", exact=True).wait_for()
    one.see("selection-name").fill("label")
    one.see("name-selection").click()
    one.page.evaluate("answer.refuse('No: <i>label</i>')")
    one.page.get_by_text("No: <i>label</i>", exact=True).wait_for()
    assert one.see("selection-name").input_value() == "label"


def test_a_table_where_nobody_keeps_names_has_no_field_for_them(tool):
    one = tool("table", {**table(), "named": False})
    one.page.evaluate("show([0, 1])")
    assert not one.see("name-selection").is_visible()
    assert one.see("save-csv").is_visible()


def test_the_saved_file_holds_all_rows_in_the_order_shown_and_no_formula(tool, tmp_path):
    import pandas as pd

    one = tool("table", table(300))
    one.page.evaluate("show(given.ids.keys())")
    assert one.see("table-row").count() == 200
    assert one.page.get_by_text("The first 200 of 300 are listed; the CSV has all of them.").is_visible()
    used = one.page.get_by_role("button", name="times used")
    used.click()
    used.click()
    with one.page.expect_download() as waiting:
        one.see("save-csv").click()
    assert waiting.value.suggested_filename == "selection.csv"
    waiting.value.save_as(tmp_path / "selection.csv")
    read = pd.read_csv(tmp_path / "selection.csv", keep_default_na=False)
    assert list(read) == ["id", "label", "times used", "caption"]
    assert len(read) == 300
    assert read["times used"][0] == "74.75"
    assert read["id"][0] == LONG
    assert "'=HYPERLINK(1)" in set(read["id"])
    assert (tmp_path / "selection.csv").read_bytes().count(b"\r\n") == 301


def test_long_and_right_to_left_labels_stay_in_their_cells(tool):
    one = tool("table", viewport=(900, 700))
    one.page.evaluate("show([0, 1, 35, 36, 37, 38, 39])")
    boxes = one.see("table-row").evaluate_all(
        "all => all.flatMap((row) => Array.from(row.children, (cell) => [cell.offsetWidth, cell.offsetHeight]))"
    )
    assert max(width for width, _ in boxes) <= 400
    assert max(height for _, height in boxes) <= 28
    assert one.page.evaluate("document.documentElement.scrollWidth") <= 900
    assert cells(one, 0)[2:5] == [*HOSTILE]


def test_a_dropped_file_is_handed_on_with_its_bytes_and_others_are_refused_kindly(tool):
    one = tool("drop")
    assert one.page.evaluate("throwFiles([['cat <b>.png', 'image/png', 321]], 'dragenter')")
    assert one.page.get_by_text("Drop the image").is_visible()
    assert one.page.evaluate("throwFiles([['cat <b>.png', 'image/png', 321]])"), "the browser does not open it"
    one.until(lambda: one.told("file") == [["file", "cat <b>.png", 321]])
    assert not one.page.get_by_text("Drop the image").is_visible()
    one.page.evaluate("throwFiles([['a.png', 'image/png', 3], ['b.png', 'image/png', 3]])")
    one.page.evaluate("throwFiles([['notes.txt', 'text/plain', 3]])")
    one.page.evaluate(f"throwFiles([['huge.png', 'image/png', {9_150_000}]])")
    problems = [text for _, text in one.told("problem")]
    assert [text.split(":")[0][:24] for text in problems] == [
        "One image at a time, ple",
        "“notes.txt” is not an im",
        "“huge.png” has 9.2 MB; 8",
    ]
    assert len(one.told("file")) == 1


def test_text_that_is_dragged_over_the_map_is_none_of_its_business(tool):
    one = tool("drop")
    assert not one.page.evaluate("throwText('words')")
    assert one.told() == []


def test_the_button_opens_a_chooser_and_the_same_file_may_be_chosen_again(tool, tmp_path):
    picture(3, 64).save(tmp_path / "mine.png")
    one = tool("drop")
    for times in (1, 2):
        with one.page.expect_file_chooser() as waiting:
            one.see("add-image").press("Enter")
        waiting.value.set_files(tmp_path / "mine.png")
        one.until(
            lambda times=times: (
                one.told("file") == [["file", "mine.png", (tmp_path / "mine.png").stat().st_size]] * times
            )
        )


def test_columns_are_chosen_by_keyboard_and_kept_when_others_come(tool):
    one = tool("choose")
    one.page.evaluate("""setNames(["label", "a", "b", "c <b>"])""")
    assert one.told("chosen") == [["chosen", ["label", "a", "b"]]]
    one.see("columns").press("Enter")
    assert one.see("columns").get_attribute("aria-expanded") == "true"
    one.page.keyboard.press("ArrowUp")
    one.page.keyboard.press("Space")
    assert one.told("chosen")[-1] == ["chosen", ["label", "a", "b", "c <b>"]]
    one.page.keyboard.press("ArrowDown")
    one.page.keyboard.press("Space")
    assert one.told("chosen")[-1] == ["chosen", ["a", "b", "c <b>"]]
    one.page.evaluate("""setNames(["label", "new", "b", "c <b>"])""")
    assert one.told("chosen")[-1] == ["chosen", ["b", "c <b>"]]
    assert one.page.get_by_label("label", exact=True).is_visible(), "the menu stays open"
    one.page.keyboard.press("Escape")
    assert one.focused() == "columns"
    assert not one.page.get_by_label("label", exact=True).is_visible()


def test_a_press_elsewhere_closes_the_menu(tool):
    one = tool("choose")
    one.page.evaluate("""setNames(["label", "a", "b", "c <b>"])""")
    one.see("columns").click()
    assert one.page.get_by_label("c <b>").is_visible()
    one.page.mouse.click(900, 600)
    assert not one.page.get_by_label("c <b>").is_visible()


def test_the_menu_stays_inside_the_explorer_wherever_its_button_stands(tool):
    one = tool("choose", viewport=(420, 500))
    one.page.evaluate(
        """() => {
        setNames(["label", LONG_NAME].map(String));
        document.querySelector(".vk-choose").style.cssText = "width: 70px; margin-left: 320px";
    }""".replace("LONG_NAME", '"long ".repeat(2000)')
    )
    one.see("columns").click()
    box = one.page.locator(".vk-menu").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 420
    assert one.page.evaluate("document.documentElement.scrollWidth") <= 420
