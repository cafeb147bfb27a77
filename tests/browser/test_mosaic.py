"""Thumbnails in place of points: drawn alone on a page, and on the explorer's map."""

import base64

import numpy as np
import pytest
from front.page import fixture, picture, read_row, webp
from PIL import Image
from tool_page import table, tools


@pytest.fixture
def tool(browser, tmp_path):
    yield from tools(browser, tmp_path)


def mosaic_given(**more):
    places = [[40 + 60 * (row % 9), 40 + 60 * (row // 9)] for row in range(54)]
    return {
        **table(),
        "places": places,
        "files": [base64.b64encode(webp(picture(row, 64))).decode() for row in range(54)],
        **more,
    }


def test_tiles_appear_as_their_pictures_come_and_a_point_stays_a_point_until_then(tool, tmp_path):
    one = tool("mosaic", mosaic_given(gated=True), viewport=(640, 460))
    asked = one.page.evaluate("() => { mosaic.draw(scene); return told.filter(([name]) => name === 'asked').length; }")
    assert asked == 24, "not all are decoded in one frame"
    one.until(lambda: len(one.told("asked")) == 54)
    assert one.page.evaluate("tiles()") == 0, "none has come, and none kept another waiting"
    one.page.evaluate("gates.pop()()")
    one.until(lambda: one.page.evaluate("tiles()") == 1)
    one.page.evaluate("gates.splice(0).forEach((go) => go())")
    one.until(lambda: one.page.evaluate("tiles()") == 54)
    assert sorted(row for _, row in one.told("asked")) == list(range(54)), "each once"
    one.page.screenshot(path=tmp_path / "mosaic.png")
    shot = np.asarray(Image.open(tmp_path / "mosaic.png").convert("RGB"), dtype=int)
    box = one.page.locator(".vk-mosaic").bounding_box()
    for row in (0, 17, 53):
        x, y = (round(float(v)) for v in np.add(mosaic_given()["places"][row], (box["x"], box["y"])))
        tile = Image.fromarray(shot[y - 20 : y + 20, x - 20 : x + 20].astype(np.uint8))
        expected = picture(row, 64).resize((40, 40))
        assert np.abs(np.asarray(tile, dtype=int) - np.asarray(expected, dtype=int)).mean() < 14, (
            f"tile {row} is its picture, on its point"
        )
        assert shot[y, x - 21].tolist() == [255, 0, 0], "framed in the point's color"


def test_the_tile_of_a_faint_point_is_pale_and_hides_what_lies_below(tool, tmp_path):
    one = tool("mosaic", mosaic_given(), viewport=(640, 460))
    one.page.evaluate("""() => {
        document.querySelector(".vk-surface").style.background = "rgb(0, 0, 0)";
        mosaic.draw(Object.assign(scene, { colorOf: () => [255, 0, 0, 45] }));
    }""")
    one.until(lambda: one.page.evaluate("tiles()") == 54)
    one.page.screenshot(path=tmp_path / "faint.png")
    shot = np.asarray(Image.open(tmp_path / "faint.png").convert("RGB"), dtype=int)
    box = one.page.locator(".vk-mosaic").bounding_box()
    x, y = (round(float(v)) for v in np.add(mosaic_given()["places"][20], (box["x"], box["y"])))
    expected = 0.4 * np.asarray(picture(20, 64).resize((40, 40)), dtype=int) + 0.6 * 255
    assert np.abs(shot[y - 20 : y + 20, x - 20 : x + 20] - expected).mean() < 6


def test_a_picture_that_cannot_be_read_stays_a_point_and_nothing_asks_for_ever(tool):
    one = tool("mosaic", mosaic_given(broken=5))
    one.page.evaluate("mosaic.draw(scene)")
    one.until(lambda: one.page.evaluate("tiles()") == 53)
    assert one.page.evaluate("mosaic.sideOf(5)") == 0
    drawn = len(one.told("redraw"))
    one.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert len(one.told("redraw")) == drawn


def test_zoomed_out_the_tiles_are_gone_and_cost_nothing(tool):
    one = tool("mosaic", mosaic_given())
    one.page.evaluate("mosaic.draw(scene)")
    one.until(lambda: one.page.evaluate("tiles()") == 54)
    one.page.evaluate("mosaic.draw({ ...scene, size: 0 })")
    assert not one.page.locator(".vk-mosaic").is_visible()
    assert one.page.evaluate("tiles()") == 0


def test_a_picture_that_comes_after_the_images_changed_is_not_shown(tool):
    one = tool("mosaic", mosaic_given(gated=True))
    one.page.evaluate("mosaic.draw({ ...scene, rows: scene.rows.slice(0, 20) })")
    one.page.evaluate("() => { mosaic.clear(); gates.splice(0).forEach((go) => go()); }")
    one.page.evaluate("() => new Promise((done) => setTimeout(done))")
    assert one.told("redraw") == []
    assert not one.page.locator(".vk-mosaic").is_visible()


def zoom_in(found, turns):
    """Zoom in at the point nearest to the middle, with the pointer away afterwards, and wait for all thumbnails."""
    places = found.positions()
    row = int(np.hypot(*(places - np.median(places, axis=0)).T).argmin())
    for _ in range(turns):
        found.hover(row)
        found.zoom(-400)
    found.page.mouse.move(2, 2)
    settle(found)


def settle(found):
    found.wait("document.querySelector('.vk-mosaic').dataset.waiting === '0'")
    found.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def pixels(found):
    return np.asarray(found.shot("map").convert("RGB"), dtype=int)


def tiles(found):
    """Read from the screen which rows have their own picture on their point: {row: (x, y) on the page}."""
    shot, box = found.shot("map").convert("RGB"), found.see("map").bounding_box()
    side = int(float(found.page.evaluate("document.querySelector('.vk-mosaic').dataset.side")))
    seen = {}
    for row, (x, y) in enumerate(found.positions()):
        left, top = round(x - box["x"] - side / 2), round(y - box["y"] - side / 2)
        if 0 < left < shot.width - side and 0 < top < shot.height - side:
            tile = shot.crop((left, top, left + side, top + side))
            if read_row(tile) == row:
                seen[row] = (x, y)
    return seen


@pytest.fixture(scope="module")
def data():
    return fixture(600, thumbnail=64)


def test_zoomed_in_points_become_their_own_pictures_and_zoomed_out_points_again(explorer, data):
    found = explorer(data)
    assert not found.page.locator(".vk-mosaic").is_visible()
    zoom_in(found, 5)
    shown = int(found.page.evaluate("document.querySelector('.vk-mosaic').dataset.tiles"))
    seen = tiles(found)
    assert shown >= len(seen) >= max(3, shown // 3), "those at the rim are cut off and cannot be read"
    box = found.see("map").bounding_box()
    found.page.mouse.dblclick(box["x"] + 3, box["y"] + 3)
    found.until(lambda: not found.page.locator(".vk-mosaic").is_visible())


def test_the_pointer_finds_a_thumbnail_by_any_of_its_corners(explorer, data):
    found = explorer(data)
    zoom_in(found, 5)
    for row, (x, y) in list(tiles(found).items())[:3]:
        found.page.mouse.move(x + 20, y - 20)
        found.until(lambda row=row: found.text("card-id") == data["ids"][row])


def test_while_the_map_is_panned_its_pictures_move_as_one(explorer, data):
    found = explorer(data)
    zoom_in(found, 3)
    before, box = pixels(found), found.see("map").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    found.page.mouse.move(x, y)
    found.page.mouse.down()
    for step in (3, 6, 7, 8, 12):
        found.page.mouse.move(x + step, y - step)
    found.page.mouse.up()
    found.page.mouse.move(2, 2)
    settle(found)
    after, rim = pixels(found), 90
    there = before[rim + 12 : -rim + 12, rim - 12 : -rim - 12]
    here = after[rim:-rim, rim:-rim]
    assert np.abs(there - here).max() <= 24, "nothing came and nothing went: only edges of points are drawn anew"
    assert np.ptp(here.reshape(-1, 3), axis=0).min() > 100, "there are pictures there"
