"""What follows when something else changes: a map closes, a layout is replaced, an answer stays out."""

import numpy as np
import pytest
from front.page import fixture, picture, second_map, webp
from front_page import lonely_rows


@pytest.fixture(scope="module")
def two():
    return second_map(fixture(300), same_vectors=True)


def drawn_over(found, hook):
    """Count pixels of what is drawn over the points of a map."""
    return found.page.evaluate(
        """async (hook) => {
        await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
        const canvas = document.querySelector(`[data-vizkit=${hook}] .vk-overlay`);
        const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        return pixels.filter((v, i) => i % 4 === 3 && v > 0).length; }""",
        hook,
    )


def give(found, name="cat.webp"):
    found.page.set_input_files(
        "input[type=file]", [{"name": name, "mimeType": "image/webp", "buffer": webp(picture(3, 64))}]
    )


def test_which_neighbors_changed_is_asked_for_anew_when_a_layout_is_replaced(explorer, two):
    found = explorer(two)
    found.see("side-by-side").click()
    found.page.select_option("[data-vizkit=colorby]", "neighbors changed")
    asked = "host.requests.filter((one) => one.type === 'change').length"
    found.until(lambda: found.page.evaluate(asked) == 1)
    found.page.evaluate("explorer.setData({...host.data, columns: [...host.data.columns]})")
    assert found.page.evaluate(asked) == 1
    found.page.evaluate(
        """explorer.setData({...host.data, maps: host.data.maps.map((map, i) => i ? map :
        ({...map, xy: map.xy.map((v, j) => (j % 2 ? -v : 0.3 * v))}))})"""
    )
    assert found.page.evaluate(asked) == 2


def test_when_the_second_map_closes_what_was_hovered_there_leaves_the_first(explorer, two):
    found = explorer(two)
    found.see("side-by-side").click()
    found.see("map-2").focus()
    found.page.keyboard.press("ArrowRight")
    found.until(lambda: drawn_over(found, "map") > 100)
    found.see("side-by-side").focus()
    found.page.keyboard.press("Enter")
    found.until(lambda: drawn_over(found, "map") == 0)


def test_what_was_hidden_in_one_legend_is_not_hidden_in_the_next(explorer, two):
    codes = two["columns"][0]["codes"].copy()
    codes[:100] = -1
    found = explorer(dict(two, columns=[two["columns"][0] | {"codes": codes}, *two["columns"][1:]]))
    hidden = "[...document.querySelectorAll('.vk-chip[aria-pressed=false]')].map((chip) => chip.textContent)"
    found.page.evaluate(
        """() => { host.request = async () => ({text: 'little',
        values: Float32Array.from(host.data.ids, (_, i) => (i % 3 ? NaN : 0.5))}); }"""
    )
    found.see("side-by-side").click()
    found.page.select_option("[data-vizkit=colorby]", "neighbors changed")
    found.until(lambda: "no value" in found.text("legend"))
    found.see("legend").get_by_text("no value").click()
    assert found.page.evaluate(hidden) == ["no value"]
    found.see("side-by-side").click()
    assert found.page.input_value("[data-vizkit=colorby]") == "label"
    assert "no value" in found.text("legend")
    assert found.page.evaluate(hidden) == []


def test_columns_that_are_called_as_what_is_computed_keep_their_values_on_the_card(explorer, two):
    own = [{"name": name, "kind": "number", "values": np.full(300, 7.5)} for name in ("similarity", "neighbors kept")]
    for column in own:
        column["values"] = column["values"].astype(np.float32)
    found = explorer(dict(two, maps=[], columns=[two["columns"][0], *own]))
    query, near = lonely_rows(found, 2)
    found.click(query)
    found.hover(near)
    similarity = np.exp(-np.hypot(*(two["xy"][query] - two["xy"][near])))
    kept = f"neighbors kept (computed){two['kept'][near]:.3g}"
    found.until(lambda: f"similarity (computed){similarity:.3f}" in found.text("card"))
    for told in ("similarity7.5", "neighbors kept7.5", kept):
        assert told in found.text("card")
    cut = ".vk-card dt, .vk-card dd"
    whole = "all => all.every((e) => e.scrollWidth <= e.clientWidth && e.scrollHeight <= e.clientHeight)"
    assert found.page.locator(cut).evaluate_all(whole)


def test_images_in_the_very_same_place_are_counted_on_the_card(explorer, two):
    xy = two["xy"].copy()
    row = int(xy[:, 0].argmax())
    same = [i for i in range(0, 120, 6) if i != row][:19]
    xy[same] = xy[row]
    found = explorer(dict(two, xy=xy))
    found.hover(row)
    found.until(lambda: "and 19 more here" in found.text("card"))
    found.see("map").focus()
    found.page.keyboard.press("ArrowLeft")
    found.until(lambda: found.text("card-id") != two["ids"][min([row, *same])])
    assert not found.page.get_by_text("more here").is_visible()


def test_how_often_an_image_is_a_neighbor_is_told_with_what_is_usual(explorer, two):
    found = explorer(two)
    found.page.select_option("[data-vizkit=colorby]", "times a neighbor")
    assert "12 on average" in found.text("legend")


def test_the_list_of_colors_is_not_built_anew_under_an_open_menu(explorer, two):
    found = explorer(two)
    found.page.evaluate("window.before = document.querySelector('[data-vizkit=colorby]').lastElementChild")
    found.page.evaluate("explorer.setData({...host.data, columns: [...host.data.columns]})")
    assert found.page.evaluate("before.isConnected")


def test_the_focus_is_never_lost_with_a_button_that_goes_away(explorer, two):
    found = explorer(two)
    found.page.evaluate("host.callback({selection: [1, 2, 3]})")
    found.page.get_by_role("button", name="Clear selection").focus()
    found.page.keyboard.press("Enter")
    assert found.events() == [{"type": "select", "rows": []}]
    assert found.page.evaluate("document.activeElement.dataset.vizkit") == "map"


def test_arrows_walk_the_map_although_the_query_has_no_place_on_it(explorer, two):
    found = explorer(two)
    give(found)
    found.wait("document.querySelector('[data-vizkit=query]').dataset.id === 'cat.webp'")
    found.page.evaluate("host.moving({done: 0.1, xy: null})")
    found.see("map").focus()
    found.page.keyboard.press("ArrowRight")
    assert found.see("card").is_visible()
    first = found.text("card-id")
    found.page.keyboard.press("ArrowRight")
    assert found.text("card-id") != first


def test_an_image_that_nothing_is_heard_of_is_told_and_a_late_answer_is_welcome(explorer, two):
    found = explorer(two, clock=True)
    found.page.evaluate(
        """() => { const request = host.request; window.late = [];
        host.request = (name, ...rest) => name === 'place' ?
            new Promise((done) => late.push(() => done(request(name, ...rest)))) : request(name, ...rest); }"""
    )
    give(found)
    found.until(lambda: "Placing the image…" in found.text("status"))
    found.pass_time(29_000)
    assert found.see("error").count() == 0
    found.pass_time(1_100)
    assert "Placing" not in found.text("status")
    assert found.text("error").startswith("“cat.webp” has no place yet. The kernel is not answering")
    found.page.evaluate("late[0]()")
    found.until(lambda: "1 added" in found.text("status"))
    assert found.see("error").count() == 0
    assert "Placing" not in found.text("status")


def test_a_message_stays_until_it_is_closed_or_its_own_kind_of_act_succeeds(explorer, two):
    found = explorer(two)
    found.page.evaluate("() => { host.fail = host.send; host.send = () => { throw new Error('dead'); }; }")
    row = lonely_rows(found, 3)[1]
    found.click(row)
    found.until(lambda: "The kernel was not reached (dead)" in found.text("error"))
    give(found)
    found.until(lambda: "1 added" in found.text("status"))
    assert "The kernel was not reached" in found.text("error"), "an image that was placed says nothing of it"
    found.page.evaluate("() => { host.send = host.fail; }")
    found.page.evaluate("id => host.callback({query: id})", two["ids"][0])
    found.click(row)
    assert found.see("error").count() == 0
    close = found.page.get_by_role("button", name="Close this message")
    for leave in (close.click, lambda: close.press("Enter"), lambda: found.see("map").press("Escape")):
        found.page.set_input_files("input[type=file]", [{"name": "a.txt", "mimeType": "text/plain", "buffer": b"1"}])
        found.until(lambda: found.see("error").is_visible())
        leave()
        assert not close.is_visible()
        assert found.page.evaluate("document.activeElement.dataset.vizkit") == "map"
    assert found.see("query").get_attribute("data-id") == two["ids"][row], "Escape closed the message alone"


def test_a_hidden_category_is_counted_and_leaves_the_others_as_they_were(explorer, two):
    found = explorer(two)
    found.page.mouse.move(2, 2)
    rows = int((two["columns"][0]["codes"] == 0).sum())
    chip = found.see("legend").get_by_text("disc")
    chip.hover()
    chip.click()
    assert f"{300 - rows} of 300 images shown" in found.text("status")
    shades = "document.querySelector('.vk-chip[aria-pressed=true]')"
    before = saturation(found)
    found.page.mouse.move(2, 2)
    found.until(lambda: found.page.evaluate(f"{shades} !== null"))
    assert saturation(found) == before, "nothing was faint under the pointer that is not faint without it"
    chip.click()
    assert "of 300" not in found.text("status")


def saturation(found):
    """Tell how much ink the map shows."""
    found.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return int((255 - np.asarray(found.shot("map").convert("L"), dtype=int)).sum())


def test_zoomed_in_as_far_as_it_goes_neighbors_are_still_in_sight_and_an_empty_view_says_so(explorer, two):
    found = explorer(two)
    places = found.positions()
    row = int(np.hypot(*(places - np.median(places, axis=0)).T).argmin())
    found.hover(row)
    for _ in range(16):
        found.page.mouse.wheel(0, -400)
    found.until(lambda: np.ptp(found.positions(), axis=0).min() > 4000)
    after = found.positions()
    nearest = np.sort(np.hypot(*(after - after[row]).T))[1:13]
    assert nearest[5] < 1000
    lost = found.page.get_by_text("No point here")
    assert not lost.is_visible()
    box = found.see("map").bounding_box()
    empty = box["x"] + 30, box["y"] + 30
    found.see("map").focus()
    found.page.keyboard.press("0")
    found.until(lambda: np.ptp(found.positions(), axis=0).max() < 1000)
    found.page.mouse.move(*empty)
    for _ in range(12):
        found.page.mouse.wheel(0, -400)
    found.until(lost.is_visible)
    found.page.keyboard.press("0")
    found.until(lambda: not lost.is_visible())


def test_the_card_goes_when_the_keys_go_elsewhere_and_keeps_the_end_of_a_long_name(explorer, two):
    ids = [f"{'folder/' * 20}{name}" for name in two["ids"]]
    found = explorer(dict(two, ids=ids))
    row = int(lonely_rows(found, 3)[1])
    found.hover(row)
    found.until(lambda: found.text("card-id").endswith(two["ids"][row]))
    assert found.text("card-id").startswith("folder/")
    assert len(found.text("card-id")) < 80
    found.see("map").focus()
    found.page.keyboard.press("Shift+Tab")
    assert not found.see("card").is_visible()


def test_evidence_is_asked_for_anew_and_quietly_once_something_was_measured(explorer, two):
    found = explorer(two)
    found.click(int(lonely_rows(found, 3)[1]))
    found.until(lambda: found.page.get_attribute("aside", "data-evidence") == "ready")
    asked = "host.requests.filter((one) => one.type === 'evidence').length"
    before = found.page.evaluate(asked)
    found.page.evaluate(
        """() => { const request = host.request; window.words = [];
        host.request = async (...all) => { words.push(document.querySelector('aside').dataset.evidence);
            host.request = request; await request(...all); throw new Error('refused'); };
        host.measured(); }"""
    )
    found.until(lambda: found.page.evaluate(asked) == before + 1)
    assert found.page.evaluate("words") == ["ready"]
    found.page.evaluate("() => new Promise((done) => setTimeout(done))")
    assert found.page.get_attribute("aside", "data-evidence") == "ready"
    assert found.see("error").count() == 0
    found.page.evaluate("host.measured()")
    found.until(lambda: found.page.evaluate(asked) == before + 2)
