"""The explorer's front end in headless Chromium, opened from disk, fed by a host that stands in for the kernel."""

import io
import time

import numpy as np
import pytest
from front.page import SHAPES, fixture, picture, read_row, webp, write_page
from lab import until
from PIL import Image

HOSTILE = [
    "<img src=x onerror=\"document.title='hacked'\">",
    "</script><script>document.title='hacked'</script>",
    "long " * 2000,
    "\u202eshalom שלום",
    "🦊🧪 “quotes” & 'more'",
]


@pytest.fixture(scope="module")
def small():
    return fixture(2000)


@pytest.fixture(scope="module")
def large():
    return fixture(100_000, thumbnail=32, distinct=512)


class Explorer:
    """One page with an explorer, and what it did wrong."""

    def __init__(self, page, data):
        self.page, self.data, self.problems, self.requests = page, data, [], []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda text: self.problems.append(text.text) if text.type == "error" else None)
        page.on("request", lambda request: self.requests.append(request.url))

    def open(self, url, **options):
        query = "&".join(f"{key}={value}" for key, value in options.items())
        self.page.goto(f"{url}?{query}")
        self.page.wait_for_selector("[data-vizkit=map]")
        if len(self.data["ids"]):
            self.page.wait_for_function("document.querySelector('[data-vizkit=map]').dataset.drawn")
        return self

    def at(self, row):
        place = self.page.evaluate(
            "id => document.querySelector('.vizkit-explorer').vizkit.positionOf(id)", self.data["ids"][row]
        )
        return place["x"], place["y"]

    def positions(self):
        rows = self.page.evaluate(
            "() => host.data.ids.map(id => document.querySelector('.vizkit-explorer').vizkit.positionOf(id))"
            ".flatMap(p => [p.x, p.y])"
        )
        return np.array(rows).reshape(-1, 2)

    def hover(self, row):
        self.page.mouse.move(*self.at(row))

    def click(self, row):
        self.page.mouse.click(*self.at(row))

    def text(self, hook):
        return self.page.text_content(f"[data-vizkit={hook}]")

    def see(self, hook):
        return self.page.locator(f"[data-vizkit={hook}]")

    def neighbors(self):
        return self.see("neighbor").evaluate_all("all => all.map(e => e.dataset.id)")

    def events(self):
        return self.page.evaluate("host.events")

    def wait(self, condition):
        self.page.wait_for_function(condition)

    def until(self, holds):
        until(self.page, holds)

    def zoom(self, turn):
        """Turn the wheel at the pointer, and wait until the map has heard of it."""
        before = np.ptp(self.positions(), axis=0)
        self.page.mouse.wheel(0, turn)
        self.until(lambda: (np.abs(np.ptp(self.positions(), axis=0) / before - 1) > 0.01).all())

    def pass_time(self, milliseconds):
        """Let the clock of a page that was opened with `clock` go on: it stands but for this; a frame is 16 ms."""
        self.page.clock.run_for(milliseconds)

    def shot(self, hook):
        return Image.open(io.BytesIO(self.see(hook).screenshot()))


@pytest.fixture
def explorer(browser, tmp_path):
    """Return a function that opens a page for some data; afterwards nothing may have gone wrong or left the disk."""
    opened = []

    def start(
        data, *, init="", head="", viewport=(1200, 760), scheme="light", motion="no-preference", clock=False, **options
    ):
        context = browser.new_context(
            viewport=dict(zip(("width", "height"), viewport, strict=True)), color_scheme=scheme, reduced_motion=motion
        )
        page = context.new_page()
        if init:
            page.add_init_script(init)
        if clock:
            page.clock.install(time=0)
        found = Explorer(page, data)
        opened.append(found)
        found.open(write_page(tmp_path, data, head=head), **options)
        if clock:
            page.clock.pause_at(3600)
        return found

    yield start
    for found in opened:
        problems = found.problems + found.page.evaluate("problems")
        requests = [url for url in found.requests if not url.startswith(("file:", "blob:", "data:"))]
        found.page.context.close()
        assert problems == []
        assert requests == []


def lonely_rows(found, count, gap=6):
    """Return rows whose points stand apart on the screen, so that a pointer at one means that one."""
    from scipy.spatial import cKDTree

    places = found.positions()
    inside = ((places > [20, 80]) & (places < [770, 590])).all(1)
    apart = cKDTree(places).query(places, 2)[0][:, 1] > gap
    rows = np.flatnonzero(inside & apart)
    assert len(rows) >= count
    return rows[np.linspace(0, len(rows) - 1, count).astype(int)]


def settled_card(found, row):
    found.wait(f"document.querySelector('[data-vizkit=card-image]').dataset.row === '{row}'")


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
    assert "not measured" in found.text("evidence")
    assert found.events() == [{"type": "query", "id": small["ids"][row]}]


def test_a_neighbor_becomes_the_query_and_back_returns(explorer, small):
    found = explorer(small)
    first = lonely_rows(found, 5)[3]
    found.click(first)
    second, third = small["graph"][first][4], small["graph"][small["graph"][first][4]][0]
    found.see("neighbor").nth(4).click()
    found.see("neighbor").nth(0).click()
    for _ in range(2):
        found.page.get_by_role("button", name="Back").click()
    assert found.page.get_by_role("button", name="Back").is_disabled()
    assert [e["id"] for e in found.events()] == [small["ids"][i] for i in (first, second, third, second, first)]
    assert found.neighbors() == [small["ids"][i] for i in small["graph"][first]]


def test_every_click_and_lasso_arrives_whole_in_order_and_once(explorer, large):
    found = explorer(large)
    places, page = found.positions(), found.page
    rows = lonely_rows(found, 50, gap=4)
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
    assert page.evaluate("window.moves") > 400
    assert len(found.events()) == 100
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


def test_a_better_layout_replaces_the_first_without_losing_query_and_zoom(explorer, small):
    found = explorer(small)
    row = lonely_rows(found, 9)[4]
    found.click(row)
    x, y = found.at(row)
    found.zoom(-500)
    near = small["graph"][row][11]
    before = np.subtract(found.at(near), found.at(row))
    found.page.evaluate(
        "explorer.setData({...host.data, xy: host.data.xy.map((v, i) => (i % 2 ? 3 * v + 5 : -3 * v)), note: 'UMAP'})"
    )
    found.until(lambda: np.subtract(found.at(near), found.at(row)) == pytest.approx(before * [-1, 1], abs=1))
    assert found.at(row) == pytest.approx((x, y), abs=1)
    assert found.neighbors() == [small["ids"][i] for i in small["graph"][row]]
    assert len(found.events()) == 1


def send_frame(found, done, turned=0.0):
    """Tell the page where the points are: the fixture's layout turned by some degrees, in another unit."""
    found.page.evaluate(
        """([done, turned]) => { const [c, s] = [Math.cos(turned), Math.sin(turned)], from = host.data.xy;
        host.moving({done, xy: from.map((_, i) => { const [x, y] = [from[i - i % 2], from[i - i % 2 + 1]];
            return 7 * (i % 2 ? s * x + c * y : c * x - s * y) + 3; })}); }""",
        [done, np.deg2rad(turned)],
    )


def test_points_glide_from_frame_to_frame_and_zoom_query_and_panel_stay(explorer, small):
    found = explorer(small)
    row = lonely_rows(found, 9)[4]
    found.click(row)
    x, y = found.at(row)
    found.zoom(-500)
    near = small["graph"][row][11]
    apart = np.subtract(found.at(near), found.at(row))
    built = "['aside', '.vk-tile', '.vk-chip'].map(name => document.querySelector(name))"
    found.page.evaluate(f"window.before = {built}")
    assert not found.see("progress").is_visible()
    for i in range(1, 7):
        send_frame(found, i / 10, turned=15 * i)
        found.page.wait_for_timeout(60)
    assert found.see("progress").inner_text().startswith("UMAP 60%")
    # A quarter of a turn: the box around the layout is as long as before.
    turned = np.multiply(apart[::-1], [1, -1])
    found.until(lambda: np.subtract(found.at(near), found.at(row)) == pytest.approx(turned, rel=0.01, abs=0.5))
    assert found.at(row) == pytest.approx((x, y), abs=1)
    np.testing.assert_allclose(found.positions()[row], [x, y], atol=1)
    assert found.neighbors() == [small["ids"][i] for i in small["graph"][row]]
    assert found.page.evaluate(f"{built}.every((element, i) => element === window.before[i])")
    assert found.events() == [{"type": "query", "id": small["ids"][row]}]
    found.page.evaluate("host.moving({done: null, xy: null})")
    assert not found.see("progress").is_visible()


def nearest(found, pointer):
    """Return the id of the point nearest to a pointer as things are on the screen, and its distance in pixels."""
    distance = np.hypot(*(found.positions() - pointer).T)
    return found.data["ids"][distance.argmin()], distance.min()


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
        "host.moving({done: 0.2, xy: host.data.xy.map((v, i, all) => (i % 2 ? -all[i - 1] : all[i + 1]))})"
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
    assert found.page.locator("[aria-live=polite]").inner_text() == "UMAP 25%"
    found.page.get_by_role("button", name="Stop").focus()
    found.page.keyboard.press("Enter")
    found.page.keyboard.press("Enter")
    assert found.events() == [{"type": "stop"}]
    assert "Stopping" in found.see("progress").inner_text()
    found.page.evaluate("host.moving({done: null, xy: null})")
    assert not found.see("progress").is_visible()
    assert found.page.evaluate("document.activeElement.dataset.vizkit") == "map"
    assert found.page.locator("[aria-live=polite]").inner_text() == "The map stands."
    send_frame(found, 0.01)
    assert found.see("progress").inner_text().split() == ["UMAP", "1%", "Stop"]


def test_who_asked_for_less_motion_sees_the_beginning_and_the_end(explorer, small):
    found = explorer(small, motion="reduce")
    start = found.positions()
    for i in range(1, 5):
        send_frame(found, i / 10, turned=20 * i)
        found.page.wait_for_timeout(40)
    np.testing.assert_allclose(found.positions(), start, atol=0.01)
    assert "40%" in found.see("progress").inner_text()
    found.page.evaluate("explorer.setData({...host.data, xy: host.data.xy.map((v, i) => (i % 2 ? v : -v))})")
    found.page.evaluate("host.moving({done: null, xy: null})")
    found.page.wait_for_timeout(50)
    mirrored = found.positions()
    np.testing.assert_allclose(mirrored[:, 1], start[:, 1], atol=0.01)
    assert np.median(np.abs(mirrored[:, 0] - start[:, 0])) > 50


def test_colors_that_come_with_the_finished_map_keep_what_was_chosen(explorer, small):
    found = explorer(small)
    found.page.select_option("[data-vizkit=colorby]", "neighbors kept")
    found.page.evaluate(
        """() => { const [label, kept, ...others] = host.data.columns;
        const unknown = {...kept, values: new Float32Array(host.data.ids.length).fill(NaN)};
        explorer.setData({...host.data, columns: [label, unknown, ...others]}); }"""
    )
    assert "no value" in found.text("legend")
    assert found.page.input_value("[data-vizkit=colorby]") == "neighbors kept"
    found.page.evaluate("explorer.setData(host.data)")
    assert "no value" not in found.text("legend")
    assert found.page.input_value("[data-vizkit=colorby]") == "neighbors kept"


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
        found.page.wait_for_timeout(50)
    found.page.select_option("[data-vizkit=colorby]", HOSTILE[0])
    found.page.evaluate("() => { host.request = () => Promise.reject(new Error('<img src=x onerror=alert(1)>')); }")
    found.click(9)
    found.page.wait_for_selector("[data-vizkit=error]")
    assert "<img src=x" in found.text("error")
    assert found.page.title() == "Explorer harness"
    assert found.page.locator(".vizkit-explorer img, .vizkit-explorer script").count() == 0
    assert found.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def cell_values(found, cells=7):
    """Return the middle pixel of each cell of the query's picture, and two more pixels of the same cell."""
    return np.array(
        found.page.evaluate(
            """cells => { const canvas = document.querySelector('.vk-query-image'), context = canvas.getContext('2d');
            const cell = canvas.width / cells, at = (x, y) => Array.from(context.getImageData(x, y, 1, 1).data);
            return [0.3, 0.5, 0.7].map(part => Array.from({length: cells * cells}, (_, i) =>
                at(Math.floor((i % cells + part) * cell), Math.floor((Math.floor(i / cells) + part) * cell)))); }""",
            cells,
        )
    ).reshape(3, cells * cells, 4)


@pytest.mark.parametrize("kind", ["unsigned", "signed"])
def test_the_map_is_drawn_cell_by_cell_and_in_the_order_of_its_values(explorer, small, kind):
    flat = dict(small, pictures=[webp(Image.new("RGB", (224, 224), (128, 128, 128)))])
    found = explorer(flat, evidence=kind)
    found.click(lonely_rows(found, 3)[1])
    found.wait("document.querySelector('.vk-query-image').dataset.overlay === 'on'")
    pixels = cell_values(found).astype(int)
    assert np.abs(pixels - pixels[0]).max() <= 1
    maps = found.page.evaluate(
        """async () => { const asked = host.requests.findLast(r => r.type === 'evidence');
        return Array.from((await host.request('evidence', asked)).pairs[0].map_a); }"""
    )
    warmth = pixels[0, :, 0] - pixels[0, :, 2]
    if kind == "signed":
        assert warmth[np.argmin(maps)] < -20 < 20 < warmth[np.argmax(maps)]
        assert np.abs(warmth[np.abs(maps) < 1e-4]).max(initial=0) <= 2
    else:
        strength = np.abs(pixels[0, :, :3] - 128).sum(1)
        assert np.argmax(strength) == np.argmax(maps)
        assert strength[np.argmin(maps)] < 0.35 * strength.max()
    found.page.fill("input[type=range]", "0")
    assert np.abs(cell_values(found)[0, :, :3].astype(int) - 128).max() <= 3


def test_pointing_at_a_neighbor_shows_its_map_on_the_query(explorer, small):
    found = explorer(small)
    found.click(lonely_rows(found, 3)[1])
    found.wait("document.querySelector('.vk-query-image').dataset.overlay === 'on'")
    before = cell_values(found)
    found.see("neighbor").nth(6).focus()
    assert "for neighbor 7" in found.text("evidence")
    assert np.abs(cell_values(found).astype(int) - before.astype(int)).max() > 10


def test_another_method_is_asked_for_and_kept(explorer, small):
    found = explorer(small)
    rows = lonely_rows(found, 4)
    found.click(rows[0])
    asked = "host.requests.filter(r => r.type === 'evidence').map(r => r.method)"
    found.page.get_by_label("Evidence method").select_option("occlusion")
    found.wait(f"{asked}.length === 2")
    found.click(rows[2])
    found.wait(f"{asked}.length === 3")
    assert found.page.evaluate(asked) == [None, "occlusion", "occlusion"]
    assert "Occlusion" in found.text("evidence")


def test_without_an_encoder_the_rest_works_and_the_reason_is_shown(explorer, small):
    found = explorer(small, evidence="none")
    row = lonely_rows(found, 3)[1]
    found.click(row)
    assert found.text("evidence").endswith("No encoder: these vectors came without a network.")
    assert len(found.neighbors()) == 12
    assert found.page.evaluate("host.requests.filter(r => r.type === 'evidence').length") == 0


def test_an_error_is_shown_and_the_next_query_starts_afresh(explorer, small):
    found = explorer(small, evidence="error")
    rows = lonely_rows(found, 3)
    found.click(rows[0])
    found.page.wait_for_selector("[data-vizkit=error]")
    assert "'holiday/<b>1</b>.jpg' is not on this machine" in found.text("error")
    found.click(rows[2])
    assert len(found.neighbors()) == 12


def test_a_silent_kernel_is_told_and_hover_and_neighbors_go_on(explorer, small):
    found = explorer(small, evidence="never")
    found.page.clock.install()
    rows = lonely_rows(found, 3)
    found.click(rows[0])
    assert "Computing evidence" in found.text("evidence")
    found.page.clock.fast_forward(31_000)
    assert "kernel is not answering" in found.text("error")
    found.page.clock.resume()
    found.hover(rows[2])
    settled_card(found, rows[2])
    found.click(rows[2])
    assert found.neighbors() == [small["ids"][i] for i in small["graph"][rows[2]]]


NO_WEBGL = """const original = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
  return kind === 'webgl2' ? null : original.call(this, kind, ...rest); };"""


def colored_pixels(found):
    """Count pixels of the map that are not paper."""
    pixels = np.asarray(found.shot("map").convert("RGB"), dtype=int)[10:-10, 10:-10]
    return int((np.abs(pixels - pixels[0, 0]).max(2) > 30).sum())


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
    found = explorer(small)
    found.click(5)
    found.page.evaluate("explorer.destroy()")
    assert found.page.inner_html("#here") == ""
    found.page.mouse.move(300, 300)
    found.page.wait_for_timeout(1800)


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
