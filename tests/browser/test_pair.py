"""The panel's two views of what makes images alike: a pair, patch by patch, and one image in contrast to another."""

import numpy as np
import pytest
from front.page import webp
from panel_view import ALL_DONE
from PIL import Image

# --- a pair, patch by patch ------------------------------------------------------------------------------------------


def test_a_pair_tells_what_its_mutual_matches_carry_beside_chance(panel, two_dozen):
    found = panel(two_dozen)
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
    assert f"Cosine {two_dozen['similarities'][0][2]:.3f}, above 99.7% of random pairs" in found.page.inner_text(
        ".vk-pair"
    )


def told(share):
    """Return a share as the panel tells it: one digit, two where it is small."""
    return f"{100 * share:.{1 if share >= 0.00095 else 2}f}%"


def heat(found, side, cells=7):
    """Return how much each patch of a gray picture is colored."""
    shape = found.picture(f"[data-vizkit=pair-{side}]")
    size = shape.shape[0] / cells
    middles = [(int((i // cells + 0.3) * size), int((i % cells + 0.3) * size)) for i in range(cells * cells)]
    values = np.array([shape[y, x] for y, x in middles])
    return np.abs(values - 128).sum(1)


@pytest.mark.parametrize("side", ["a", "b"])
def test_pointing_at_a_patch_shows_on_the_other_image_what_it_matches(panel, two_dozen, side):
    gray = webp(Image.new("RGB", (160, 160), (128, 128, 128)))
    found = panel(dict(two_dozen, pictures=[gray] * len(two_dozen["ids"])))
    found.wait(ALL_DONE)
    found.open_pair(0)
    matrix, best, similarity = found.matching(0)
    patch = best[0][0 if side == "a" else 1]
    found.point(side, patch)
    carried = matrix[patch] if side == "a" else matrix[:, patch]
    other = "b" if side == "a" else "a"
    values = heat(found, other)
    rings = {b[1 if side == "a" else 0] for b in best if b[0 if side == "a" else 1] == patch}
    plain = [i for i in range(49) if i not in rings]
    order = np.argsort(carried[plain])
    assert values[plain][order[-3:]].min() > values[plain][order[:20]].max()
    said = found.text("pair-text")
    assert f"row {patch // 7 + 1}, column {patch % 7 + 1}: carries {100 * carried.sum() / similarity:.1f}%" in said
    assert "Mutual best match:" in said
    found.page.mouse.move(2, 2)
    assert "Point at a patch" in found.text("pair-text")


def test_a_patch_that_is_held_stays_while_the_other_image_is_read(panel, two_dozen):
    found = panel(two_dozen)
    found.wait(ALL_DONE)
    found.open_pair(0)
    matrix, _, similarity = found.matching(0)
    found.point("a", 16)
    found.page.mouse.down()
    found.page.mouse.up()
    found.point("b", 24)
    assert f"Query, row 3, column 3, with neighbor, row 4, column 4: {told(matrix[16, 24] / similarity)}" in (
        found.text("pair-text")
    )
    found.see("pair-b").focus()
    found.page.keyboard.press("Escape")
    assert found.see("pair-a").is_visible()
    found.page.keyboard.press("Escape")
    assert not found.see("pair-a").is_visible()
    assert found.events("clear") == []


def test_patches_are_reached_by_keys_and_by_touch(panel, two_dozen):
    found = panel(two_dozen, alone={"has_touch": True})
    found.wait(ALL_DONE)
    found.see("compare").nth(4).tap()
    found.wait("document.querySelector('[data-vizkit=pair-text] p').textContent")
    matrix, best, similarity = found.matching(4)

    def tap(side, cell):
        box = found.see(f"pair-{side}").bounding_box()
        found.page.touchscreen.tap(
            box["x"] + box["width"] * (cell % 7 + 0.5) / 7, box["y"] + box["height"] * (cell // 7 + 0.5) / 7
        )

    tap("b", 10)
    assert "Neighbor, row 2, column 4: carries" in found.text("pair-text")
    tap("a", 17)
    assert f"with query, row 3, column 4: {told(matrix[17, 10] / similarity)}" in found.text("pair-text")
    tap("b", 10)
    found.see("pair-a").focus()
    found.page.keyboard.press("ArrowRight")
    start = best[0][0]
    assert f"Query, row {start // 7 + 1}, column {start % 7 + 1}: carries" in found.text("pair-text")
    step = 1 if start % 7 < 6 else -1
    found.page.keyboard.press("ArrowRight" if step > 0 else "ArrowLeft")
    assert f"Query, row {start // 7 + 1}, column {(start + step) % 7 + 1}: carries" in found.text("pair-text")


def test_where_patches_cannot_be_matched_both_images_keep_their_maps_and_the_reason_is_told(panel, two_dozen):
    found = panel(two_dozen, matches="error")
    found.wait(ALL_DONE)
    found.see("compare").first.click()
    found.wait("document.querySelector('.vk-pair').dataset.matches === 'error'")
    assert "mean over positions" in found.page.inner_text(".vk-pair")
    assert found.page.locator(".vk-pair [data-overlay=on]").count() == 2
    found.page.get_by_label("The next neighbor").click()
    assert "Neighbor 2 of 12" in found.page.inner_text(".vk-pair")


# --- contrast --------------------------------------------------------------------------------------------------------


def test_two_neighbors_are_picked_and_three_pictures_show_what_speaks_for_either(panel, two_dozen):
    found = panel(two_dozen)
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
    assert (asked["query"], asked["near"], asked["far"]) == (two_dozen["ids"][0], found.ids()[1], found.ids()[9])
    by = float(two_dozen["similarities"][0][1]) - float(two_dozen["similarities"][0][9])
    assert f"Nearer to this one by {by:.3f}." in found.text("contrast-text")
    assert found.events("pick") == []
    found.page.keyboard.press("Escape")
    assert found.see("neighbor").first.is_visible()
    assert found.see("contrast").get_attribute("aria-pressed") == "false"


def test_a_point_of_the_map_can_be_picked_and_only_then(panel, two_dozen):
    found = panel(two_dozen)
    found.wait(ALL_DONE)
    other = next(row for row in range(1, 24) if row not in two_dozen["indices"][0])
    choice = f"({{row: {other}, id: fixture.ids[{other}], similarity: null, thumbnail: Promise.resolve(null)}})"
    assert found.page.evaluate(f"panel.take({choice})") is False
    found.see("contrast").click()
    assert found.page.evaluate("panel.take({row: 0, id: fixture.ids[0]})") is True
    assert "the query itself" in found.page.inner_text(".vk-picking")
    found.see("neighbor").nth(4).click()
    assert found.page.evaluate(f"panel.take({choice})") is True
    found.wait("document.querySelectorAll('.vk-contrast [data-overlay=on]').length === 3")
    assert found.requests("contrast")[0]["far"] == two_dozen["ids"][other]
    assert "cosine 0.250, above 40.2% of random pairs" in found.page.inner_text(".vk-contrast")


def test_a_page_without_a_kernel_offers_no_contrast(panel, two_dozen):
    found = panel(two_dozen, live="no")
    found.wait(ALL_DONE)
    assert not found.see("contrast").is_visible()
    assert found.see("method").is_visible()


def test_escape_and_cancel_leave_the_picking_with_nothing_asked(panel, two_dozen):
    found = panel(two_dozen)
    found.wait(ALL_DONE)
    for leave in (lambda: found.page.keyboard.press("Escape"), found.page.get_by_role("button", name="Cancel").click):
        found.see("contrast").click()
        found.see("neighbor").nth(2).click()
        leave()
        assert found.see("contrast").get_attribute("aria-pressed") == "false"
    found.see("neighbor").nth(2).click()
    assert found.events("pick") == [["pick", int(two_dozen["indices"][0][2])]]
    assert found.events("clear") == []
    assert found.requests("contrast") == []
