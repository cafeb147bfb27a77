"""The panel alone in headless Chromium: query, neighbors, evidence, trust, and the way through them."""

import numpy as np
import pytest
from front.page import webp
from lab import until
from panel_view import ALL_DONE, READY
from PIL import Image

# --- neighbors and evidence ------------------------------------------------------------------------------------------


def test_a_neighbor_is_told_with_cosine_percentile_and_label_and_evidence_on_all(panel, two_dozen):
    found = panel(two_dozen)
    found.wait(ALL_DONE)
    tiles = found.see("neighbor")
    assert tiles.evaluate_all("all => all.map(e => e.dataset.id)") == found.ids()
    first = tiles.first.inner_text().split()
    assert first == [
        f"{two_dozen['similarities'][0][0]:.3f}",
        ">99.9%",
        "1",
        two_dozen["labels"][two_dozen["indices"][0][0]],
    ]
    assert "above more than 99.9% of random pairs" in tiles.first.get_attribute("aria-label")
    assert found.text("note") == two_dozen["note"]
    assert [(r["query"], r["neighbors"], r["method"]) for r in found.requests("evidence")] == [
        (two_dozen["ids"][0], found.ids(), None)
    ]


def test_what_is_a_neighbor_in_one_space_only_is_marked(panel, two_dozen):
    found = panel(two_dozen, two=1)
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
def test_the_map_is_drawn_cell_by_cell_and_in_the_order_of_its_values(panel, two_dozen, kind):
    gray = webp(Image.new("RGB", (224, 224), (128, 128, 128)))
    found = panel(dict(two_dozen, pictures=[gray] * len(two_dozen["ids"])), evidence=kind)
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


def test_pointing_at_a_neighbor_shows_its_map_on_the_query_and_tells_the_map_of_points(panel, two_dozen):
    found = panel(two_dozen)
    found.wait(ALL_DONE)
    before = cell_values(found)
    found.see("neighbor").nth(6).focus()
    assert "for neighbor 7" in found.text("evidence")
    assert np.abs(cell_values(found).astype(int) - before.astype(int)).max() > 10
    assert found.events("near")[-1] == ["near", int(two_dozen["indices"][0][6])]


def test_contribution_comes_at_once_and_the_better_method_takes_its_place_when_complete(panel, two_dozen):
    found = panel(two_dozen, better="occlusion", hold=1)
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


def test_pictures_that_decode_late_do_not_bring_back_a_reply_that_was_overtaken(panel, two_dozen):
    found = panel(two_dozen, better="occlusion", hold=1)
    found.page.evaluate(
        """() => { const decode = createImageBitmap; globalThis.late = []; globalThis.slowly = true;
        globalThis.createImageBitmap = (...all) => slowly
            ? new Promise(done => late.push(async () => done(await decode(...all)))) : decode(...all); }"""
    )
    found.wait(
        "held.splice(0).map(go => go()).length, late.length === 26"
    )  # the reply, and the same with what is coming
    found.page.evaluate("slowly = false")
    badge = "document.querySelector('[data-vizkit=trust]').textContent"
    found.wait(f"held.splice(0).map(go => go()).length, {badge} === 'Green: trusted'")
    found.page.evaluate("Promise.all(late.map(go => go()))")
    assert found.text("trust") == "Green: trusted"
    assert "Occlusion" in found.page.inner_text(".vk-source")


def test_a_neighbor_that_the_kernel_left_out_has_no_map_and_the_others_keep_theirs(panel, two_dozen):
    found = panel(two_dozen)
    found.page.evaluate(
        """() => { const whole = answer;
        globalThis.answer = (...all) => { const reply = whole(...all); reply.pairs.splice(0, 1); return reply; };
        visit(1); }"""
    )
    found.wait("document.querySelectorAll('.vk-tile [data-overlay=on]').length === 11")
    drawn = found.see("neighbor").evaluate_all("all => all.map(e => Boolean(e.querySelector('[data-overlay=on]')))")
    assert drawn == [False] + [True] * 11


def test_a_method_that_is_chosen_is_kept_and_the_best_known_one_can_be_had_again(panel, two_dozen):
    found = panel(two_dozen)
    found.see("method").select_option("occlusion")
    found.wait("requests.length === 2")
    found.see("neighbor").first.click()
    found.wait("requests.length === 3")
    found.see("method").select_option("")
    found.wait("requests.length === 4")
    assert [r["method"] for r in found.requests("evidence")] == [None, "occlusion", "occlusion", None]


@pytest.mark.parametrize("verdict", ["green", "amber", "red"])
def test_trust_is_a_color_and_a_word_whose_reason_opens_by_key_and_closes_again(panel, two_dozen, verdict):
    found = panel(two_dozen, trust=verdict)
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


def test_without_an_encoder_the_rest_works_and_the_reason_is_shown(panel, two_dozen):
    found = panel(two_dozen, evidence="none")
    assert found.text("evidence") == "No encoder: these vectors came without a network."
    assert found.see("neighbor").count() == 12
    assert found.see("compare").count() == 0
    assert found.page.evaluate("requests.length") == 0


def test_an_error_is_shown_and_the_next_query_starts_afresh(panel, two_dozen):
    found = panel(two_dozen, evidence="error")
    found.see("error").wait_for()
    assert "'holiday/<b>1</b>.jpg' is not on this machine" in found.text("error")
    found.see("neighbor").nth(2).click()
    found.wait("requests.length === 2")
    assert found.see("neighbor").count() == 12


def test_a_silent_kernel_is_told_and_neighbors_can_still_be_walked(panel, two_dozen):
    found = panel(two_dozen, alone={}, evidence="never")
    found.page.clock.install()
    found.see("neighbor").nth(3).click()
    assert "Computing evidence" in found.text("evidence")
    found.page.clock.fast_forward(31_000)
    assert "kernel is not answering" in found.text("error")
    assert found.see("query").get_attribute("data-id") == found.ids()[3]


# --- walking ---------------------------------------------------------------------------------------------------------


def test_the_trail_leads_back_forward_and_to_any_query_before(panel, two_dozen):
    found = panel(two_dozen)
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
    assert found.see("query").get_attribute("data-id") == two_dozen["ids"][0]
    assert found.see("back").is_disabled()
    found.see("forward").click()
    found.see("forward").click()
    assert found.see("forward").is_disabled()
    assert found.page.evaluate("document.activeElement.ariaCurrent") == "step"
    for key in ("ArrowLeft", "ArrowLeft", "Enter"):
        found.page.keyboard.press(key)
    assert found.events("jump")[1:] == [["jump", 0]]


def test_the_keyboard_walks_the_neighbors_opens_a_pair_and_comes_back(panel, two_dozen):
    found = panel(two_dozen)
    found.wait(ALL_DONE)
    found.see("neighbor").first.focus()
    focused_id = "document.activeElement.dataset.id"
    for key, index in (("ArrowDown", 4), ("ArrowRight", 5), ("ArrowUp", 1), ("ArrowRight", 2)):
        found.page.keyboard.press(key)
        assert found.page.evaluate(focused_id) == found.ids()[index]
    found.page.keyboard.press("m")
    found.wait("document.querySelector('[data-vizkit=pair-text] p').textContent")
    focused = "document.activeElement.dataset.vizkit"
    assert found.page.evaluate(focused) == "pair-a"
    found.page.keyboard.press("Escape")
    assert found.page.evaluate(focused_id) == found.ids()[2]
    found.page.keyboard.press("Enter")
    assert found.see("query").get_attribute("data-id") == found.ids()[2]
    found.page.keyboard.press("Backspace")
    assert found.see("query").get_attribute("data-id") == two_dozen["ids"][0]
    found.page.keyboard.press("Escape")
    assert found.events("clear") == [["clear"]]


def test_the_same_query_shown_again_keeps_evidence_and_the_open_pair(panel, two_dozen):
    found = panel(two_dozen)
    found.wait(ALL_DONE)
    found.open_pair(1)
    found.page.evaluate("panel.show(itemOf(0)); panel.recolor(itemOf(0).neighbors.map(() => [1, 2, 3]))")
    assert found.see("pair-a").is_visible()
    assert len(found.requests("evidence")) == 1
    found.page.evaluate("panel.show(itemOf(1))")
    found.see("neighbor").first.wait_for()
    assert not found.see("pair-a").is_visible()


# --- any width, any name ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1400, 600, 280])
def test_nothing_is_cut_off_at_any_width(panel, two_dozen, width):
    found = panel(two_dozen, alone={"viewport": {"width": width, "height": 900}}, better="occlusion", two=1)
    found.wait(ALL_DONE)
    fits = "document.documentElement.scrollWidth <= innerWidth"
    inside = (
        "[...document.querySelectorAll('.vk-panel button, .vk-panel select, .vk-panel canvas')].every(e => {"
        " const own = e.getBoundingClientRect(), whole = document.querySelector('.vk-panel').getBoundingClientRect();"
        " if (!own.width || e.closest('.vk-steps')) return true;"
        " return own.left >= whole.left - 3 && own.right <= whole.right + 3; })"
    )
    assert found.page.evaluate(fits)
    assert found.page.evaluate(inside)
    found.open_pair(1)
    assert found.page.evaluate(fits)
    assert found.page.evaluate(inside)


def test_hostile_names_are_text_in_every_view(panel, two_dozen):
    hostile = ["<img src=x onerror=\"document.title='hacked'\">", "</script><script>alert(1)</script>", "\u202eשלום"]
    hostile.append("x" * 9999)
    ids = [f"{hostile[row % 4]} {row}" for row in range(24)]
    found = panel(dict(two_dozen, ids=ids, labels=ids, note=hostile[0]))
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
