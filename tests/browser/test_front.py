"""The explorer's front end in headless Chromium: hover, click, keys, selection, colors."""

import time

import numpy as np
import pytest
from front.page import SHAPES, fixture, read_row
from front_page import colored_pixels, lonely_rows, settled_card


@pytest.fixture(scope="module")
def large():
    return fixture(100_000, thumbnail=32, distinct=512)


def test_hover_shows_the_picture_of_the_point_under_the_pointer(explorer, small):
    found = explorer(small)
    for row in lonely_rows(found, 12):
        found.hover(row)
        settled_card(found, row)
        assert found.text("card-id") == small["ids"][row]
        assert read_row(found.shot("card-image")) == row
        assert SHAPES[small["columns"][0]["codes"][row]] in found.text("card")
    found.page.mouse.move(3, 3)
    assert not found.see("card").is_visible()


# All of this is one task: no frame comes between the move and the look.
MOVE_AND_LOOK = """async ([clientX, clientY]) => {
  const move = new PointerEvent("pointermove", { clientX, clientY, bubbles: true });
  document.querySelector("[data-vizkit=map]").dispatchEvent(move);
  await null; await null; await null; await null;
  const { row, kind } = document.querySelector("[data-vizkit=card-image]").dataset;
  return [row, kind];
}"""


def test_the_first_picture_of_a_row_is_there_before_the_next_frame(explorer, small):
    found = explorer(small)
    for row in lonely_rows(found, 5):
        assert found.page.evaluate(MOVE_AND_LOOK, list(found.at(row))) == [str(row), "thumbnail"]
        assert read_row(found.shot("card-image")) == row


def test_what_the_processor_draws_has_a_layer_of_its_own(explorer, large):
    found = explorer(large)
    layers = found.page.evaluate(
        "() => [...document.querySelectorAll('.vk-surface > canvas:not([hidden])')].map((one) =>"
        " [one.dataset.drawer ?? '', getComputedStyle(one).willChange])"
    )
    assert layers == [["canvas2d", "transform"], ["", "transform"]]


def test_among_100000_points_the_hovered_one_is_the_exact_nearest(explorer, large):
    found = explorer(large)
    places = found.positions()
    for x, y in np.random.default_rng(1).uniform([150, 150], [650, 500], (25, 2)).round():
        distance = np.hypot(*(places - [x, y]).T)
        if distance.min() > 19:
            continue
        found.page.mouse.move(x, y)
        found.wait("!document.querySelector('[data-vizkit=card]').hidden")
        shown = large["ids"].index(found.text("card-id"))
        assert distance[shown] == pytest.approx(distance.min(), abs=1e-3)
        settled_card(found, shown)


def test_click_shows_the_true_neighbors_best_first_with_evidence_on_all(explorer, small):
    found = explorer(small)
    row = lonely_rows(found, 5)[2]
    found.click(row)
    assert found.neighbors() == [small["ids"][i] for i in small["graph"][row]]
    assert found.see("query").get_attribute("data-id") == small["ids"][row]
    found.wait("document.querySelectorAll('[data-overlay=on]').length === 13")
    shown = found.see("neighbor").first.text_content()
    assert f"{small['similarities'][row][0]:.3f}" in shown
    assert "points of cosine" in found.text("evidence")
    assert "Not measured" in found.text("evidence")
    assert found.events() == [{"type": "query", "id": small["ids"][row]}]


def test_a_neighbor_becomes_the_query_and_back_returns(explorer, small):
    found = explorer(small)
    first = lonely_rows(found, 5)[3]
    found.click(first)
    second, third = small["graph"][first][4], small["graph"][small["graph"][first][4]][0]
    found.see("neighbor").nth(4).click()
    found.see("neighbor").nth(0).click()
    for _ in range(2):
        found.see("back").click()
    assert found.see("back").is_disabled()
    assert [e["id"] for e in found.events()] == [small["ids"][i] for i in (first, second, third, second, first)]
    assert found.neighbors() == [small["ids"][i] for i in small["graph"][first]]


def test_every_click_and_lasso_arrives_whole_in_order_and_once(explorer, large):
    found = explorer(large)
    places, page = found.positions(), found.page
    rows = lonely_rows(found, 20, gap=4)  # the benchmark does a hundred of each
    page.evaluate("window.moves = 0; addEventListener('pointermove', () => window.moves++)")
    expected = []
    for i, row in enumerate(rows):
        page.mouse.move(*(places[row] + [40, 25]))
        page.mouse.click(*places[row])
        expected.append({"type": "query", "id": large["ids"][row]})
        left, top = 100 + 5 * i, 120 + 4 * i
        corners = [(left, top), (left + 90, top), (left + 90, top + 60), (left, top + 60), (left, top)]
        page.keyboard.down("Alt")
        page.mouse.move(*corners[0])
        page.mouse.down()
        for corner in corners[1:]:
            page.mouse.move(*corner, steps=2)
        page.mouse.up()
        page.keyboard.up("Alt")
        inside = ((places > [left, top]) & (places < [left + 90, top + 60])).all(1)
        expected.append({"type": "select", "rows": np.flatnonzero(inside).tolist()})
    assert page.evaluate("window.moves") > 160
    assert len(found.events()) == 40
    assert found.events() == expected


def test_box_and_mode_buttons_select_and_escape_clears(explorer, small):
    found = explorer(small)
    places, page = found.positions(), found.page
    page.get_by_role("button", name="Box").click()
    page.mouse.move(300, 200)
    page.mouse.down()
    page.mouse.move(500, 400, steps=3)
    page.mouse.up()
    inside = ((places >= [300, 200]) & (places <= [500, 400])).all(1)
    assert found.events() == [{"type": "select", "rows": np.flatnonzero(inside).tolist()}]
    assert f"{inside.sum():,} selected" in found.text("status")
    page.keyboard.press("Escape")
    assert found.events()[1:] == [{"type": "select", "rows": []}]


def test_the_keyboard_alone_walks_the_map_and_the_neighbors(explorer, small):
    found = explorer(small)
    page = found.page
    found.see("map").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    hovered = found.text("card-id")
    page.keyboard.press("Enter")
    row = small["ids"].index(hovered)
    found.see("neighbor").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.dataset.id") == small["ids"][small["graph"][row][4]]
    page.keyboard.press("Enter")
    page.keyboard.press("Backspace")
    page.keyboard.press("Escape")
    second = small["ids"][small["graph"][row][4]]
    assert [e["id"] for e in found.events()] == [hovered, second, hovered, None]
    assert "Click a point to see its neighbors." in page.inner_text("aside")


def test_drag_pans_wheel_zooms_about_the_pointer_and_double_click_shows_all(explorer, small):
    found = explorer(small)
    page, start, row = found.page, found.positions(), 1000
    page.mouse.move(300, 300)
    page.mouse.down()
    page.mouse.move(360, 255, steps=3)
    page.mouse.up()
    np.testing.assert_allclose(found.positions() - start, np.broadcast_to([60, -45], start.shape), atol=0.01)
    x, y = found.at(row)
    page.mouse.move(x, y)
    found.zoom(-200)
    assert found.at(row) == pytest.approx((x, y), abs=0.6)  # a wheel event knows whole pixels only
    spread = np.ptp(found.positions(), axis=0) / np.ptp(start, axis=0)
    assert spread == pytest.approx(np.exp([0.4, 0.4]), rel=1e-3)
    page.mouse.dblclick(60, 120)
    np.testing.assert_allclose(found.positions(), start, atol=0.01)
    assert found.events() == []


def test_a_page_being_scrolled_passes_over_the_map(explorer, small):
    found = explorer(small)
    found.page.evaluate("document.body.style.height = '4000px'")
    start = np.ptp(found.positions(), axis=0)
    session = found.page.context.new_cdp_session(found.page)
    beside, over, now = (1000, 500), (300, 300), time.time()

    def turn(place, pixels, milliseconds):  # at moments of the test's own: the machine's pace does not matter
        wheel = {"type": "mouseWheel", "x": place[0], "y": place[1], "deltaX": 0, "deltaY": pixels}
        session.send("Input.dispatchMouseEvent", {**wheel, "timestamp": now + milliseconds / 1000})

    turn(beside, 40, 0)
    turn(over, 40, 200)
    found.wait("scrollY === 80")
    assert np.ptp(found.positions(), axis=0) == pytest.approx(start)
    turn(over, -100, 1000)
    found.until(lambda: (np.ptp(found.positions(), axis=0) > 1.1 * start).all())
    assert found.page.evaluate("scrollY") == 80


def test_state_from_python_is_shown_and_not_sent_back(explorer, small):
    found = explorer(small)
    found.page.evaluate("id => host.callback({query: id, selection: Uint32Array.of(3, 4, 5)})", small["ids"][7])
    assert found.neighbors() == [small["ids"][i] for i in small["graph"][7]]
    assert "3 selected" in found.text("status")
    found.page.evaluate("host.callback({selection: []})")
    assert "selected" not in found.text("status")
    found.page.evaluate("host.callback({query: null})")
    assert found.neighbors() == []
    assert found.events() == []


def test_color_by_and_the_legend_change_and_hide_points(explorer, small):
    found = explorer(small)
    all_points = colored_pixels(found)
    chip = found.page.locator(".vk-chip", has_text="disc")
    chip.click()
    found.page.mouse.move(3, 3)
    assert chip.get_attribute("aria-pressed") == "false"
    found.until(lambda: colored_pixels(found) < all_points)
    hidden = np.flatnonzero(small["columns"][0]["codes"] == 0)[0]
    found.hover(hidden)
    shown = found.text("card-id") if found.see("card").is_visible() else ""
    assert not shown.startswith("disc/")
    found.page.select_option("[data-vizkit=colorby]", "neighbors kept")
    assert found.page.inner_text(".vk-bar-ends").split("\n") == ["0", "neighbors kept", "1"]
    found.hover(1500)
    assert "neighbors kept" in found.text("card")
