"""The explorer's front end where things are not as usual: odd names, few images, no WebGL, narrow, dark, closed."""

import io

import numpy as np
import pytest
from front.page import fixture, picture, read_row, webp
from front_page import colored_pixels, lonely_rows, settled_card
from PIL import Image

HOSTILE = [
    "<img src=x onerror=\"document.title='hacked'\">",
    "</script><script>document.title='hacked'</script>",
    "long " * 2000,
    "\u202eshalom שלום",
    "🦊🧪 “quotes” & 'more'",
]


def test_hostile_labels_and_names_are_text(explorer):
    data = fixture(60)
    data["ids"] = [f"{HOSTILE[row % 5]} {row}" for row in range(60)]
    data["columns"][0] |= {"categories": HOSTILE, "codes": (np.arange(60) % 5).astype(np.int32)}
    data["columns"].append({"name": HOSTILE[0], "kind": "number", "values": np.arange(60, dtype=np.float32)})
    data |= {"title": HOSTILE[1], "note": HOSTILE[0]}
    found = explorer(data)
    for row in range(5):
        found.hover(row)
        assert found.text("card-id")[:30] == data["ids"][row][:30]
        found.click(row)
        found.wait(f"document.querySelector('[data-vizkit=query]').dataset.id === host.data.ids[{row}]")
    found.page.select_option("[data-vizkit=colorby]", HOSTILE[0])
    found.page.evaluate("() => { host.request = () => Promise.reject(new Error('<img src=x onerror=alert(1)>')); }")
    found.click(9)
    found.page.wait_for_selector("[data-vizkit=error]")
    assert "<img src=x" in found.text("error")
    assert found.page.title() == "Explorer harness"
    assert found.page.locator(".vizkit-explorer img, .vizkit-explorer script").count() == 0
    assert found.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


NO_WEBGL = """const original = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
  return kind === 'webgl2' ? null : original.call(this, kind, ...rest); };"""


def test_without_webgl_the_map_says_so_and_draws_the_same_points(explorer, small):
    with_webgl, without = explorer(small), explorer(small, init=NO_WEBGL)
    assert "WebGL2 is not available" in without.text("error")
    assert without.page.get_attribute(".vk-points", "data-drawer") == "canvas2d"
    assert colored_pixels(without) == pytest.approx(colored_pixels(with_webgl), rel=0.25)
    row = lonely_rows(without, 3)[1]
    without.hover(row)
    settled_card(without, row)


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_lost_graphics_context_is_replaced(explorer, small, comes_back):
    found = explorer(small)
    before = colored_pixels(found)
    assert before > 3000
    found.page.evaluate(
        """back => { const context = document.querySelector('.vk-points').getContext('webgl2');
        const lost = context.getExtension('WEBGL_lose_context');
        lost.loseContext();
        if (back) setTimeout(() => lost.restoreContext(), 200); }""",
        comes_back,
    )
    drawer = "document.querySelector('.vk-points')"
    if comes_back:
        found.wait(f"!{drawer}.getContext('webgl2').isContextLost()")
    else:
        found.wait(f"{drawer}.dataset.drawer === 'canvas2d'")
    found.until(lambda: colored_pixels(found) == pytest.approx(before, rel=0.25))
    assert found.page.get_attribute(".vk-points", "data-drawer") == ("webgl2" if comes_back else "canvas2d")


@pytest.mark.parametrize("n", [0, 1, 3])
def test_few_images_are_no_trouble(explorer, n):
    data = fixture(20)
    rows = np.arange(n)
    data |= {"ids": data["ids"][:n], "xy": np.zeros((n, 2), np.float32), "k": max(n - 1, 0)}
    data["graph"] = np.array([[j for j in rows if j != i] for i in rows], np.int32)
    data["similarities"] = np.ones((n, max(n - 1, 0)), np.float32)
    data |= {"randoms": np.zeros(0, np.float32), "kept": np.ones(n, np.float32)}
    data["offsets"] = data["offsets"][: n + 1]
    for column in data["columns"]:
        for part in ("codes", "values"):
            if part in column:
                column[part] = column[part][:n]
    found = explorer(data)
    if n == 0:
        assert "There are no images to show." in found.text("map")
        return
    found.click(0)
    assert found.neighbors() == data["ids"][1:]
    assert found.text("status") == ("1 image" if n == 1 else "3 images")


def test_images_without_a_picture_say_nothing_wrong(explorer, small):
    found = explorer(dict(small, thumbnails=None, offsets=None), evidence="none")
    row = lonely_rows(found, 3)[1]
    found.hover(row)
    assert found.text("card-id") == small["ids"][row]
    assert not found.see("card-image").is_visible()


def test_the_theme_follows_the_page(explorer, small):
    found = explorer(small, scheme="dark")
    assert found.page.get_attribute(".vizkit-explorer", "data-theme") == "dark"
    found.page.evaluate(
        "document.body.style.cssText = '--jp-layout-color0: #fff; --jp-ui-font-color1: #222; --jp-layout-color1: #fff'"
    )
    found.wait("document.querySelector('.vizkit-explorer').dataset.theme === 'light'")
    found.page.evaluate("document.body.style.cssText = '--jp-layout-color0: #111; --jp-ui-font-color1: #eee'")
    found.wait("document.querySelector('.vizkit-explorer').dataset.theme === 'dark'")


@pytest.mark.parametrize("width", [1400, 900, 600, 400])
def test_nothing_is_cut_off_at_any_width(explorer, small, width):
    found = explorer(small, viewport=(width, 1000))
    found.click(1000)
    found.see("neighbor").nth(11).wait_for()
    assert found.page.evaluate("document.documentElement.scrollWidth") <= width
    surface, panel = found.see("map").bounding_box(), found.page.locator("aside").bounding_box()
    beside = panel["x"] >= surface["x"] + surface["width"]
    assert beside == (width >= 900)
    assert beside or panel["y"] >= surface["y"] + surface["height"]


def test_closing_leaves_nothing_behind(explorer, small):
    found = explorer(small, clock=True)
    found.click(5)
    found.page.evaluate("explorer.destroy()")
    assert found.page.inner_html("#here") == ""
    found.page.mouse.move(300, 300)
    found.pass_time(40_000)  # what was still waiting for its time, and for an answer, goes wrong now or never


def test_thirty_explorers_one_after_another_still_have_webgl(explorer, small):
    found = explorer(small)
    for _ in range(30):
        found.page.evaluate("explorer.destroy(); openExplorer()")
    found.until(lambda: colored_pixels(found) > 3000)
    assert found.page.get_attribute(".vk-points", "data-drawer") == "webgl2"


def test_the_harness_can_tell_pictures_apart():
    assert [read_row(Image.open(io.BytesIO(webp(picture(row, 48))))) for row in (0, 7, 1234, 1999)] == [
        0,
        7,
        1234,
        1999,
    ]
