"""The panel alone in headless Chromium: query, neighbors, evidence, trust, pairs patch by patch, contrast."""

import io

import numpy as np
import pytest
from front.page import webp
from front.panel_page import panel_data, write_panel_page
from lab import until
from PIL import Image

READY = "document.querySelectorAll('.vk-overview [data-overlay=on]').length === 13"
ALL_DONE = f"{READY} && document.querySelector('.vk-evidence .vk-message').hidden"


class Panel:
    """One page with a panel, and what it did wrong."""

    def __init__(self, page, data):
        self.page, self.data, self.problems = page, data, []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda text: self.problems.append(text.text) if text.type == "error" else None)

    def see(self, hook):
        return self.page.locator(f"[data-vizkit={hook}]")

    def text(self, hook):
        return self.page.inner_text(f"[data-vizkit={hook}]")

    def wait(self, condition):
        self.page.wait_for_function(condition)

    def ids(self, row=0):
        """Return the ids of the neighbors of a row."""
        return [self.data["ids"][i] for i in self.data["indices"][row]]

    def requests(self, name):
        return self.page.evaluate("name => requests.filter(r => r.name === name)", name)

    def events(self, kind):
        return self.page.evaluate("kind => events.filter(e => e[0] === kind)", kind)

    def picture(self, selector):
        return np.asarray(Image.open(io.BytesIO(self.page.locator(selector).screenshot())).convert("RGB"), dtype=int)

    def open_pair(self, index):
        self.see("neighbor").nth(index).hover()
        self.see("compare").nth(index).click()
        self.wait("document.querySelector('[data-vizkit=pair-text] p').textContent")

    def point(self, side, cell, cells=7):
        """Move the pointer onto a patch."""
        box = self.see(f"pair-{side}").bounding_box()
        across, down = (cell % cells + 0.5) / cells, (cell // cells + 0.5) / cells
        self.page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"])

    def matching(self, index, row=0):
        """Return the matrix and the best matches of the row's pair with a neighbor, as the kernel answers."""
        reply = self.page.evaluate(
            "([query, neighbor]) => { const m = answer('matches', {graph: 0, query, neighbor});"
            " return [Array.from(m.matrix), m.best, m.similarity]; }",
            [self.data["ids"][row], self.ids(row)[index]],
        )
        return np.array(reply[0]).reshape(49, 49), reply[1], reply[2]


@pytest.fixture(scope="module")
def small():
    return panel_data()


@pytest.fixture
def panel(browser, tmp_path):
    """Return a function that opens a page with a panel; afterwards nothing may have gone wrong."""
    opened = []

    def start(data, *, viewport=(1200, 900), scheme="light", touch=False, **options):
        size = dict(zip(("width", "height"), viewport, strict=True))
        page = browser.new_context(viewport=size, color_scheme=scheme, has_touch=touch).new_page()
        found = Panel(page, data)
        opened.append(found)
        page.goto(write_panel_page(tmp_path, data) + "?" + "&".join(f"{k}={v}" for k, v in options.items()))
        page.wait_for_selector("[data-vizkit=neighbor], [data-vizkit=query]")
        return found

    yield start
    for found in opened:
        problems = found.problems + found.page.evaluate("problems")
        found.page.context.close()
        assert problems == []


# --- neighbors and evidence --------------------------------------------------------------------------------------------


def test_a_neighbor_is_told_with_cosine_percentile_and_label_and_evidence_on_all(panel, small):
    found = panel(small)
    found.wait(ALL_DONE)
    tiles = found.see("neighbor")
    assert tiles.evaluate_all("all => all.map(e => e.dataset.id)") == found.ids()
    first = tiles.first.inner_text().split()
    assert first == [f"{small['similarities'][0][0]:.3f}", ">99.9%", "1", small["labels"][small["indices"][0][0]]]
    assert "above more than 99.9% of random pairs" in tiles.first.get_attribute("aria-label")
    assert found.text("note") == small["note"]
    assert [(r["query"], r["neighbors"], r["method"]) for r in found.requests("evidence")] == [
        (small["ids"][0], found.ids(), None)
    ]


def test_what_is_a_neighbor_in_one_space_only_is_marked(panel, small):
    found = panel(small, two=1)
    marked = found.page.locator(".vk-tile:has(.vk-only)")
    assert marked.evaluate_all("all => all.map(e => e.dataset.id)") == found.ids()[1::4]
    assert "here only" in marked.first.get_attribute("aria-label")


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
def test_the_map_is_drawn_cell_by_cell_and_in_the_order_of_its_values(panel, small, kind):
    gray = webp(Image.new("RGB", (224, 224), (128, 128, 128)))
    found = panel(dict(small, pictures=[gray] * len(small["ids"])), evidence=kind)
    found.wait(READY)
    pixels = cell_values(found).astype(int)
    assert np.abs(pixels - pixels[0]).max() <= 1
    maps = found.page.evaluate("Array.from(answer('evidence', requests[0]).pairs[0].map_a)")
    warmth = pixels[0, :, 0] - pixels[0, :, 2]
    if kind == "signed":
        assert warmth[np.argmin(maps)] < -20 < 20 < warmth[np.argmax(maps)]
        assert np.abs(warmth[np.abs(maps) < 1e-4]).max(initial=0) <= 2
    else:
        strength = np.abs(pixels[0, :, :3] - 128).sum(1)
        assert np.argmax(strength) == np.argmax(maps)
        assert strength[np.argmin(maps)] < 0.35 * strength.max()
    found.page.get_by_label("Opacity of the evidence").fill("0")
    assert np.abs(cell_values(found)[0, :, :3].astype(int) - 128).max() <= 3


def test_pointing_at_a_neighbor_shows_its_map_on_the_query_and_tells_the_map_of_points(panel, small):
    found = panel(small)
    found.wait(ALL_DONE)
    before = cell_values(found)
    found.see("neighbor").nth(6).focus()
    assert "for neighbor 7" in found.text("evidence")
    assert np.abs(cell_values(found).astype(int) - before.astype(int)).max() > 10
    assert found.events("near")[-1] == ["near", int(small["indices"][0][6])]


def test_contribution_comes_at_once_and_the_better_method_takes_its_place_when_complete(panel, small):
    found = panel(small, better="occlusion", hold=1)
    release = "() => held.splice(0).forEach(go => go())"
    found.wait("held.length === 1")
    found.page.evaluate(release)
    found.wait(READY)
    for done in range(12):
        found.wait(f"held.length === 1 && document.querySelector('.vk-evidence').textContent.includes('{done} of 12')")
        assert "Contribution · layer features.18" in found.text("evidence")
        assert found.text("trust") == "Not measured"
        found.page.evaluate(release)
    found.wait(f"{ALL_DONE} && document.querySelector('[data-vizkit=trust]').textContent === 'Green: trusted'")
    assert "Occlusion · layer features.18" in found.text("evidence")
    assert [r["method"] for r in found.requests("evidence")] == [None] + ["occlusion"] * 12
    assert "Occlusion (green)" in found.see("method").inner_text()
    assert found.see("method").input_value() == ""


def test_a_method_that_is_chosen_is_kept_and_the_best_known_one_can_be_had_again(panel, small):
    found = panel(small)
    found.see("method").select_option("occlusion")
    found.wait("requests.length === 2")
    found.see("neighbor").first.click()
    found.wait("requests.length === 3")
    found.see("method").select_option("")
    found.wait("requests.length === 4")
    assert [r["method"] for r in found.requests("evidence")] == [None, "occlusion", "occlusion", None]


@pytest.mark.parametrize("verdict", ["green", "amber", "red"])
def test_trust_is_a_color_and_a_word_whose_reason_opens_by_key_and_closes_again(panel, small, verdict):
    found = panel(small, trust=verdict)
    found.wait(ALL_DONE)
    badge, reason = found.see("trust"), found.see("trust-reason")
    assert badge.inner_text().lower().startswith(f"{verdict}: ")
    color = badge.evaluate("e => getComputedStyle(e).backgroundColor")
    assert color == {"green": "rgb(26, 127, 55)", "amber": "rgb(154, 103, 0)", "red": "rgb(207, 34, 46)"}[verdict]
    assert not reason.is_visible()
    tile = found.see("neighbor").first.bounding_box()
    badge.focus()
    found.page.keyboard.press("Enter")
    assert "planted energy" in reason.inner_text()
    assert badge.get_attribute("aria-expanded") == "true"
    assert found.see("neighbor").first.bounding_box() == tile
    found.page.keyboard.press("Escape")
    assert not reason.is_visible()
    assert found.events("clear") == []


def test_without_an_encoder_the_rest_works_and_the_reason_is_shown(panel, small):
    found = panel(small, evidence="none")
    assert found.text("evidence") == "No encoder: these vectors came without a network."
    assert found.see("neighbor").count() == 12
    assert found.see("compare").count() == 0
    assert found.page.evaluate("requests.length") == 0


def test_an_error_is_shown_and_the_next_query_starts_afresh(panel, small):
    found = panel(small, evidence="error")
    found.see("error").wait_for()
    assert "'holiday/<b>1</b>.jpg' is not on this machine" in found.text("error")
    found.see("neighbor").nth(2).click()
    found.wait("requests.length === 2")
    assert found.see("neighbor").count() == 12


def test_a_silent_kernel_is_told_and_neighbors_can_still_be_walked(panel, small):
    found = panel(small, evidence="never")
    found.page.clock.install()
    found.see("neighbor").nth(3).click()
    assert "Computing evidence" in found.text("evidence")
    found.page.clock.fast_forward(31_000)
    assert "kernel is not answering" in found.text("error")
    assert found.see("query").get_attribute("data-id") == found.ids()[3]


# --- walking -----------------------------------------------------------------------------------------------------------


def test_the_trail_leads_back_forward_and_to_any_query_before(panel, small):
    found = panel(small)
    for index in (1, 2):
        found.see("neighbor").nth(index).click()
    steps = found.see("trail").locator("li button")
    assert steps.count() == 3
    assert steps.nth(2).get_attribute("aria-current") == "step"
    found.see("back").click()
    assert steps.nth(1).get_attribute("aria-current") == "step"
    found.see("forward").click()
    steps.first.click()
    assert found.events("jump") == [["jump", 0]]
    assert found.see("query").get_attribute("data-id") == small["ids"][0]
    assert found.see("back").is_disabled()
    assert found.see("forward").is_enabled()


def test_the_keyboard_walks_the_neighbors_opens_a_pair_and_comes_back(panel, small):
    found = panel(small)
    found.wait(ALL_DONE)
    found.see("neighbor").first.focus()
    for key in ("ArrowRight", "ArrowRight", "m"):
        found.page.keyboard.press(key)
    found.wait("document.querySelector('[data-vizkit=pair-text] p').textContent")
    focused = "document.activeElement.dataset.vizkit"
    assert found.page.evaluate(focused) == "pair-a"
    found.page.keyboard.press("Escape")
    assert found.page.evaluate("document.activeElement.dataset.id") == found.ids()[2]
    found.page.keyboard.press("Enter")
    assert found.see("query").get_attribute("data-id") == found.ids()[2]
    found.page.keyboard.press("Backspace")
    assert found.see("query").get_attribute("data-id") == small["ids"][0]
    found.page.keyboard.press("Escape")
    assert found.events("clear") == [["clear"]]


def test_the_same_query_shown_again_keeps_evidence_and_the_open_pair(panel, small):
    found = panel(small)
    found.wait(ALL_DONE)
    found.open_pair(1)
    found.page.evaluate("panel.show(itemOf(0)); panel.recolor(itemOf(0).neighbors.map(() => [1, 2, 3]))")
    assert found.see("pair-a").is_visible()
    assert len(found.requests("evidence")) == 1
    found.page.evaluate("panel.show(itemOf(1))")
    found.see("neighbor").first.wait_for()
    assert not found.see("pair-a").is_visible()


# --- a pair, patch by patch --------------------------------------------------------------------------------------------


def test_a_pair_tells_what_its_mutual_matches_carry_beside_chance(panel, small):
    found = panel(small)
    found.wait(ALL_DONE)
    found.open_pair(2)
    _, best, similarity = found.matching(2)
    share = sum(carried for _, _, carried in best) / similarity
    assert f"{len(best)} pairs of patches are each other's best matches and carry {100 * share:.1f}%" in found.text(
        "pair-text"
    )
    assert f"in shuffled patches {40 * share:.1f}%" in found.text("pair-text")
    assert found.page.locator(".vk-match-chip").count() == 5
    assert "Neighbor 3 of 12" in found.page.inner_text(".vk-pair")
    assert f"Cosine {small['similarities'][0][2]:.3f}, above 99.7% of random pairs" in found.page.inner_text(".vk-pair")


def brightest(found, side, cells=7):
    """Return the patch of a picture that the heat lies on most: where it differs most from the picture without."""
    shape = found.picture(f"[data-vizkit=pair-{side}]")
    size = shape.shape[0] / cells
    middles = [(int((i // cells + 0.3) * size), int((i % cells + 0.3) * size)) for i in range(cells * cells)]
    values = np.array([shape[y, x] for y, x in middles])
    return int(np.argmax(np.abs(values - 128).sum(1))), np.abs(values - 128).sum(1)


@pytest.mark.parametrize("side", ["a", "b"])
def test_pointing_at_a_patch_shows_on_the_other_image_what_it_matches(panel, small, side):
    gray = webp(Image.new("RGB", (160, 160), (128, 128, 128)))
    found = panel(dict(small, pictures=[gray] * len(small["ids"])))
    found.wait(ALL_DONE)
    found.open_pair(0)
    matrix, best, similarity = found.matching(0)
    patch = best[0][0 if side == "a" else 1]
    found.point(side, patch)
    carried = matrix[patch] if side == "a" else matrix[:, patch]
    other = "b" if side == "a" else "a"
    _, values = brightest(found, other)
    rings = {b[1 if side == "a" else 0] for b in best if b[0 if side == "a" else 1] == patch}
    plain = [i for i in range(49) if i not in rings]
    order = np.argsort(carried[plain])
    assert values[plain][order[-3:]].min() > values[plain][order[:20]].max()
    said = found.text("pair-text")
    assert f"row {patch // 7 + 1}, column {patch % 7 + 1}: carries {100 * carried.sum() / similarity:.1f}%" in said
    assert "Mutual best match:" in said
    found.page.mouse.move(2, 2)
    assert "Point at a patch" in found.text("pair-text")


def test_a_patch_that_is_held_stays_while_the_other_image_is_read(panel, small):
    found = panel(small)
    found.wait(ALL_DONE)
    found.open_pair(0)
    matrix, _, similarity = found.matching(0)
    found.point("a", 16)
    found.page.mouse.down()
    found.page.mouse.up()
    found.point("b", 24)
    share = 100 * matrix[16, 24] / similarity
    assert f"Query, row 3, column 3, with neighbor, row 4, column 4: {share:.{1 if share >= 0.095 else 2}f}%" in (
        found.text("pair-text")
    )
    found.see("pair-b").focus()
    found.page.keyboard.press("Escape")
    assert found.see("pair-a").is_visible()
    found.page.keyboard.press("Escape")
    assert not found.see("pair-a").is_visible()
    assert found.events("clear") == []


def test_patches_are_reached_by_keys_and_by_touch(panel, small):
    found = panel(small, touch=True)
    found.wait(ALL_DONE)
    found.see("compare").nth(4).tap()
    found.wait("document.querySelector('[data-vizkit=pair-text] p').textContent")
    _, best, _ = found.matching(4)
    box = found.see("pair-b").bounding_box()
    found.page.touchscreen.tap(box["x"] + box["width"] * 3.5 / 7, box["y"] + box["height"] * 1.5 / 7)
    assert "Neighbor, row 2, column 4" in found.text("pair-text")
    found.page.touchscreen.tap(box["x"] + box["width"] * 3.5 / 7, box["y"] + box["height"] * 1.5 / 7)
    found.see("pair-a").focus()
    found.page.keyboard.press("ArrowRight")
    start = best[0][0]
    assert f"Query, row {start // 7 + 1}, column {start % 7 + 1}: carries" in found.text("pair-text")
    step = 1 if start % 7 < 6 else -1
    found.page.keyboard.press("ArrowRight" if step > 0 else "ArrowLeft")
    assert f"Query, row {start // 7 + 1}, column {(start + step) % 7 + 1}: carries" in found.text("pair-text")


def test_where_patches_cannot_be_matched_both_images_keep_their_maps_and_the_reason_is_told(panel, small):
    found = panel(small, matches="error")
    found.wait(ALL_DONE)
    found.see("compare").first.click()
    found.wait("document.querySelector('.vk-pair').dataset.matches === 'error'")
    assert "mean over positions" in found.page.inner_text(".vk-pair")
    assert found.page.locator(".vk-pair [data-overlay=on]").count() == 2
    found.page.get_by_label("The next neighbor").click()
    assert "Neighbor 2 of 12" in found.page.inner_text(".vk-pair")


# --- contrast ----------------------------------------------------------------------------------------------------------


def test_two_neighbors_are_picked_and_three_pictures_show_what_speaks_for_either(panel, small):
    found = panel(small)
    found.wait(ALL_DONE)
    tile = found.see("neighbor").first.bounding_box()
    found.see("contrast").click()
    assert found.see("neighbor").first.bounding_box() == tile
    found.see("neighbor").nth(1).click()
    found.see("neighbor").nth(1).click()
    assert "already" in found.page.inner_text(".vk-picking")
    found.see("neighbor").nth(9).click()
    found.wait("document.querySelectorAll('.vk-contrast [data-overlay=on]').length === 3")
    (asked,) = found.requests("contrast")
    assert (asked["query"], asked["near"], asked["far"]) == (small["ids"][0], found.ids()[1], found.ids()[9])
    by = float(small["similarities"][0][1]) - float(small["similarities"][0][9])
    assert f"Nearer to this one by {by:.3f}." in found.text("contrast-text")
    assert found.events("pick") == []
    found.page.keyboard.press("Escape")
    assert found.see("neighbor").first.is_visible()
    assert found.see("contrast").get_attribute("aria-pressed") == "false"


def test_a_point_of_the_map_can_be_picked_and_only_then(panel, small):
    found = panel(small)
    found.wait(ALL_DONE)
    other = next(row for row in range(1, 24) if row not in small["indices"][0])
    choice = f"({{row: {other}, id: fixture.ids[{other}], similarity: null, thumbnail: Promise.resolve(null)}})"
    assert found.page.evaluate(f"panel.take({choice})") is False
    found.see("contrast").click()
    assert found.page.evaluate("panel.take({row: 0, id: fixture.ids[0]})") is True
    assert "the query itself" in found.page.inner_text(".vk-picking")
    found.see("neighbor").nth(4).click()
    assert found.page.evaluate(f"panel.take({choice})") is True
    found.wait("document.querySelectorAll('.vk-contrast [data-overlay=on]').length === 3")
    assert found.requests("contrast")[0]["far"] == small["ids"][other]


def test_escape_and_cancel_leave_the_picking_with_nothing_asked(panel, small):
    found = panel(small)
    found.wait(ALL_DONE)
    for leave in (lambda: found.page.keyboard.press("Escape"), found.page.get_by_role("button", name="Cancel").click):
        found.see("contrast").click()
        found.see("neighbor").nth(2).click()
        leave()
        assert found.see("contrast").get_attribute("aria-pressed") == "false"
    found.see("neighbor").nth(2).click()
    assert found.events("pick") == [["pick", int(small["indices"][0][2])]]
    assert found.events("clear") == []
    assert found.requests("contrast") == []


# --- any width, any name -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1400, 600, 280])
def test_nothing_is_cut_off_at_any_width(panel, small, width):
    found = panel(small, viewport=(width, 900), better="occlusion", two=1)
    found.wait(ALL_DONE)
    fits = "document.documentElement.scrollWidth <= innerWidth"
    inside = (
        "[...document.querySelectorAll('.vk-panel button, .vk-panel select, .vk-panel canvas')].every(e => {"
        " const own = e.getBoundingClientRect(), whole = document.querySelector('.vk-panel').getBoundingClientRect();"
        " return !own.width || e.closest('.vk-steps') || (own.left >= whole.left - 3 && own.right <= whole.right + 3); })"
    )
    assert found.page.evaluate(fits) and found.page.evaluate(inside)
    found.open_pair(1)
    assert found.page.evaluate(fits) and found.page.evaluate(inside)


def test_hostile_names_are_text_in_every_view(panel, small):
    hostile = ["<img src=x onerror=\"document.title='hacked'\">", "</script><script>alert(1)</script>", "‮שלום", "x" * 9999]
    ids = [f"{hostile[row % 4]} {row}" for row in range(24)]
    found = panel(dict(small, ids=ids, labels=ids, note=hostile[0]))
    found.wait(ALL_DONE)
    assert found.text("note") == hostile[0]
    found.open_pair(1)
    found.page.keyboard.press("Escape")
    found.see("contrast").click()
    for index in (0, 1):
        found.see("neighbor").nth(index).click()
    found.wait("document.querySelectorAll('.vk-contrast [data-overlay=on]').length === 3")
    until(found.page, lambda: found.page.locator(".vk-panel img, .vk-panel script").count() == 0)
    assert found.page.title() == "Panel harness"
    assert found.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
