"""Layouts that are replaced or still unfold, seen in the front end: nothing the user has is lost, and nothing jumps."""

import numpy as np
import pytest
from front_page import lonely_rows, nearest, send_frame


def test_a_better_layout_replaces_the_first_without_losing_query_and_zoom(explorer, small):
    found = explorer(small)
    row = lonely_rows(found, 9)[4]
    found.click(row)
    x, y = found.at(row)
    found.zoom(-500)
    near = small["graph"][row][11]
    before = np.subtract(found.at(near), found.at(row))
    found.page.evaluate(
        "explorer.setData({...host.data, maps: [{...host.data.maps[0], note: 'UMAP',"
        " xy: host.data.maps[0].xy.map((v, i) => (i % 2 ? 3 * v + 5 : -3 * v))}]})"
    )
    found.until(lambda: np.subtract(found.at(near), found.at(row)) == pytest.approx(before * [-1, 1], abs=1))
    assert found.at(row) == pytest.approx((x, y), abs=1)
    assert found.neighbors() == [small["ids"][i] for i in small["graph"][row]]
    assert len(found.events()) == 1


def test_points_glide_from_frame_to_frame_and_zoom_query_and_panel_stay(explorer, small):
    found = explorer(small, clock=True)
    row = lonely_rows(found, 9)[4]
    found.click(row)
    found.pass_time(500)
    x, y = found.at(row)
    found.page.mouse.wheel(0, -500)
    found.pass_time(100)
    near = small["graph"][row][11]
    apart = np.subtract(found.at(near), found.at(row))
    built = "['aside', '.vk-tile', '.vk-chip'].map(name => document.querySelector(name))"
    found.page.evaluate(f"window.before = {built}")
    assert not found.see("progress").is_visible()
    for i in range(1, 7):
        send_frame(found, i / 10, turned=15 * i)
        found.pass_time(64)
    assert found.see("progress").inner_text().startswith("UMAP 60%")
    # A quarter of a turn: the box around the layout is as long as before.
    turned = np.multiply(apart[::-1], [1, -1])
    found.pass_time(1000)
    assert np.subtract(found.at(near), found.at(row)) == pytest.approx(turned, rel=0.01, abs=0.5)
    assert found.at(row) == pytest.approx((x, y), abs=1)
    np.testing.assert_allclose(found.positions()[row], [x, y], atol=1)
    assert found.neighbors() == [small["ids"][i] for i in small["graph"][row]]
    assert found.page.evaluate(f"{built}.every((element, i) => element === window.before[i])")
    assert found.events() == [{"type": "query", "id": small["ids"][row]}]
    found.page.evaluate("host.moving({done: null, xy: null})")
    assert not found.see("progress").is_visible()


def test_while_points_glide_the_one_that_is_seen_under_the_pointer_is_hovered(explorer, small):
    found = explorer(small, clock=True)
    start = found.positions()
    # The first frame is glided to for 600 ms: look at the points on their way, where no layout has them.
    send_frame(found, 0.2, turned=120)
    found.pass_time(192)
    on_their_way = found.positions()
    for row in (40, 700, 1300, 1900):
        found.hover(row)
        assert found.text("card-id") == nearest(found, on_their_way[row])[0]
        assert np.hypot(*(start[row] - on_their_way[row])) > 10
    # The pointer rests while they go on: at every moment the card is that of the point that is under it.
    pointer, shown = on_their_way[1900], set()
    for _ in range(8):
        found.pass_time(64)
        expected, distance = nearest(found, pointer)
        assert found.see("card").is_visible() == (distance < 20)
        if distance < 20:
            assert found.text("card-id") == expected
            shown.add(expected)
            card, x = found.see("card").bounding_box(), found.at(small["ids"].index(expected))[0]
            assert min(abs(card["x"] - x), abs(card["x"] + card["width"] - x)) < 24
    assert len(shown) > 2
    end = found.positions()
    assert np.hypot(*(end[1900] - on_their_way[1900])) > 10
    found.pass_time(1000)
    # What leaves the pointer, or is walked to by keyboard, takes the card with it.
    send_frame(found, 0.3, turned=20)
    found.page.mouse.move(3, 3)
    found.pass_time(300)
    assert not found.see("card").is_visible()
    found.hover(40)
    found.see("map").focus()
    found.page.keyboard.press("ArrowRight")
    walked = found.text("card-id")
    found.pass_time(300)
    send_frame(found, 0.4, turned=100)
    found.pass_time(700)
    assert found.text("card-id") == walked != nearest(found, found.at(40))[0]


def test_panning_while_points_glide_moves_the_view_alone(explorer, small):
    found = explorer(small, clock=True)
    send_frame(found, 0.1)
    found.pass_time(700)
    found.page.mouse.move(300, 300)
    found.page.mouse.down()
    found.page.mouse.move(340, 300, steps=2)
    before = found.positions()
    found.page.evaluate(
        "host.moving({done: 0.2, xy: host.data.maps[0].xy.map((v, i, all) => (i % 2 ? -all[i - 1] : all[i + 1]))})"
    )
    found.page.mouse.move(400, 300)  # no jump to the end
    np.testing.assert_allclose(found.positions() - before, np.broadcast_to([60, 0], before.shape), atol=0.01)
    found.pass_time(200)
    found.page.mouse.up()
    found.pass_time(900)
    assert np.median(np.hypot(*(found.positions() - before - [60, 0]).T)) > 100


def test_stop_is_reached_by_keyboard_and_goes_away_with_the_focus_kept(explorer, small):
    found = explorer(small)
    send_frame(found, 0.4)
    assert found.see("progress").inner_text().split() == ["UMAP", "40%", "Stop"]
    assert found.page.locator(".vk-progress-place [aria-live=polite]").inner_text() == "UMAP 25%"
    found.page.get_by_role("button", name="Stop").focus()
    found.page.keyboard.press("Enter")
    found.page.keyboard.press("Enter")
    assert found.events() == [{"type": "stop"}]
    assert "Stopping" in found.see("progress").inner_text()
    found.page.evaluate("host.moving({done: null, xy: null})")
    assert not found.see("progress").is_visible()
    assert found.page.evaluate("document.activeElement.dataset.vizkit") == "map"
    assert found.page.locator(".vk-progress-place [aria-live=polite]").inner_text() == "The map stands."
    send_frame(found, 0.01)
    assert found.see("progress").inner_text().split() == ["UMAP", "1%", "Stop"]


def test_who_asked_for_less_motion_sees_the_beginning_and_the_end(explorer, small):
    found = explorer(small, motion="reduce")
    start = found.positions()
    for i in range(1, 5):
        send_frame(found, i / 10, turned=20 * i)
        found.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    np.testing.assert_allclose(found.positions(), start, atol=0.01)
    assert "40%" in found.see("progress").inner_text()
    found.page.evaluate(
        "explorer.setData({...host.data, maps: [{...host.data.maps[0],"
        " xy: host.data.maps[0].xy.map((v, i) => (i % 2 ? v : -v))}]})"
    )
    found.page.evaluate("host.moving({done: null, xy: null})")
    found.until(lambda: np.abs(found.positions()[:, 0] - start[:, 0]).max() > 50)
    mirrored = found.positions()
    np.testing.assert_allclose(mirrored[:, 1], start[:, 1], atol=0.01)
    assert np.median(np.abs(mirrored[:, 0] - start[:, 0])) > 50


def test_colors_that_come_with_the_finished_map_keep_what_was_chosen(explorer, small):
    found = explorer(small)
    found.page.select_option("[data-vizkit=colorby]", "neighbors kept")
    found.page.evaluate(
        """() => { const unknown = new Float32Array(host.data.ids.length).fill(NaN);
        explorer.setData({...host.data, maps: [{...host.data.maps[0], kept: unknown}]}); }"""
    )
    assert "no value" in found.text("legend")
    assert found.page.input_value("[data-vizkit=colorby]") == "neighbors kept"
    found.page.evaluate("explorer.setData(host.data)")
    assert "no value" not in found.text("legend")
    assert found.page.input_value("[data-vizkit=colorby]") == "neighbors kept"
