"""Several maps in one explorer, images that were added, and colors that are computed, seen in the front end."""

import numpy as np
import pytest
from front.page import fixture, picture, read_row, second_map, webp
from front_page import lonely_rows, send_frame, settled_card


@pytest.fixture(scope="module")
def layers():
    return second_map(fixture(600))


def points_on(found, place):
    """Return the pixels of all points on a map."""
    flat = found.page.evaluate(
        "place => host.data.ids.map(id => document.querySelector('.vizkit-explorer').vizkit.positionOf(id, place))"
        ".flatMap(p => [p.x, p.y])",
        place,
    )
    return np.array(flat).reshape(-1, 2)


def as_on_map(pixels):
    """Return positions without their unit and place, y up."""
    centered = (pixels - (pixels.min(0) + pixels.max(0)) / 2) * [1, -1]
    return centered / np.abs(centered).max()


def layout(xy):
    return as_on_map(xy * [1, -1])


def side_by_side(found):
    found.see("side-by-side").click()
    found.wait("document.querySelector('[data-vizkit=map-2]')?.dataset.drawn")


def test_one_map_has_no_switches(explorer, layers):
    found = explorer(dict(layers, maps=[], graphs=[]))
    assert not found.see("map-name").is_visible()
    assert not found.see("side-by-side").is_visible()


def test_a_map_is_switched_and_told_and_the_query_keeps_its_place_with_other_neighbors(explorer, layers):
    found = explorer(layers)
    row = lonely_rows(found, 9)[4]
    found.click(row)
    assert found.neighbors() == [layers["ids"][i] for i in layers["graph"][row]]
    found.see("map-name").select_option(label="layer3")
    other = layers["graphs"][0]
    assert found.neighbors() == [layers["ids"][i] for i in other["indices"][row]]
    assert f"{other['similarities'][row][0]:.3f}" in found.see("neighbor").first.text_content()
    assert found.text("map-note") == "layer3, PCA"
    found.until(lambda: np.allclose(as_on_map(found.positions()), layout(layers["maps"][0]["xy"]), atol=0.01))
    assert found.events()[1:] == [{"type": "show", "maps": [1]}]
    assert found.page.evaluate("host.requests.filter(r => r.type === 'evidence').map(r => r.graph)") == [0, 1]


def test_two_maps_side_by_side_are_the_two_layouts_with_hover_query_and_selection_on_both(explorer, layers):
    found = explorer(layers, viewport=(1500, 900))
    side_by_side(found)
    assert found.events() == [{"type": "show", "maps": [0, 1]}]
    places = points_on(found, 0), points_on(found, 1)
    np.testing.assert_allclose(as_on_map(places[0]), layout(layers["xy"]), atol=0.01)
    np.testing.assert_allclose(as_on_map(places[1]), layout(layers["maps"][0]["xy"]), atol=0.01)
    row = int(lonely_rows(found, 9)[4])
    found.page.mouse.move(*places[1][row])
    shown = layers["ids"].index(found.text("card-id"))
    card, second = found.see("card").bounding_box(), found.see("map-2").bounding_box()
    assert card["x"] >= second["x"]
    assert np.hypot(*(places[1][shown] - places[1][row])) < 0.5
    # The other map brings the same image out: its ring is drawn around that point.
    before = ink_at(found, "map", places[0][shown])
    found.page.mouse.move(3, 3)
    found.until(lambda: ink_at(found, "map", places[0][shown]) == 0)
    assert before > 0
    found.page.mouse.click(*places[1][shown])
    assert found.neighbors() == [layers["ids"][i] for i in layers["graph"][shown]]
    found.page.keyboard.down("Shift")
    left, top = places[1].mean(0) - 40
    found.page.mouse.move(left, top)
    found.page.mouse.down()
    found.page.mouse.move(left + 80, top + 80, steps=3)
    found.page.mouse.up()
    found.page.keyboard.up("Shift")
    inside = ((places[1] >= [left, top]) & (places[1] <= [left + 80, top + 80])).all(1)
    assert found.events()[-1] == {"type": "select", "rows": np.flatnonzero(inside).tolist()}
    assert found.events()[1:-1] == [{"type": "query", "id": layers["ids"][shown]}]


def ink_at(found, hook, place):
    """Count what is drawn over the points within 8 pixels of a place."""
    return found.page.evaluate(
        """([hook, [x, y]]) => {
        const map = document.querySelector(`[data-vizkit=${hook}]`), box = map.getBoundingClientRect();
        const drawn = map.querySelector('.vk-overlay').getContext('2d');
        const pixels = drawn.getImageData(x - box.left - 8, y - box.top - 8, 16, 16).data;
        return pixels.filter((v, i) => i % 4 === 3 && v > 100).length; }""",
        [hook, list(place)],
    )


def test_neighbors_of_one_space_alone_are_marked_and_same_vectors_mark_none(explorer, layers):
    found = explorer(layers)
    side_by_side(found)
    row = 123
    found.page.evaluate("id => host.callback({query: id})", layers["ids"][row])
    there = set(layers["graphs"][0]["indices"][row])
    marks = found.see("neighbor").evaluate_all("all => all.map(e => e.textContent.includes('only here'))")
    assert marks == [bool(i not in there) for i in layers["graph"][row]]
    assert sum(marks) > 0
    same = explorer(second_map(fixture(600), same_vectors=True))
    side_by_side(same)
    same.page.evaluate("id => host.callback({query: id})", layers["ids"][row])
    assert same.see("neighbor").count() == 12
    assert "only here" not in same.page.inner_text("aside")


def test_the_same_map_is_never_shown_twice(explorer, layers):
    found = explorer(layers)
    side_by_side(found)
    found.see("map-name").select_option(label="layer3")
    assert found.see("map-name-2").evaluate("e => e.selectedOptions[0].textContent") == "UMAP"
    found.see("side-by-side").click()
    assert found.see("map-2").count() == 0
    assert [e["maps"] for e in found.events()] == [[0, 1], [1, 0], [1]]


def test_maps_shown_from_python_are_shown_and_not_sent_back(explorer, layers):
    found = explorer(layers)
    found.page.evaluate("host.callback({shown: [1, 0]})")
    assert found.see("map-name").evaluate("e => e.selectedOptions[0].textContent") == "layer3"
    assert found.see("side-by-side").get_attribute("aria-pressed") == "true"
    found.page.evaluate("host.callback({shown: [0]})")
    assert found.see("map-2").count() == 0
    assert found.events() == []


def test_a_map_that_is_not_shown_unfolds_too_and_its_progress_has_its_name(explorer, layers):
    found = explorer(layers)
    start = found.positions()
    found.page.evaluate("host.moving({map: 1, done: 0.4, xy: host.data.maps[1].xy.map((v, i) => (i % 2 ? v : -v))})")
    assert found.see("progress").inner_text().split() == ["layer3:", "UMAP", "40%", "Stop"]
    np.testing.assert_allclose(found.positions(), start, atol=0.01)
    found.page.get_by_role("button", name="Stop").click()
    assert found.events() == [{"type": "stop", "map": 1}]
    found.see("map-name").select_option(label="layer3")
    mirrored = layout(layers["maps"][0]["xy"]) * [-1, 1]
    found.until(lambda: np.allclose(as_on_map(found.positions()), mirrored, atol=0.01))
    found.page.evaluate("host.moving({map: 1, done: null, xy: null})")
    assert not found.see("progress").is_visible()


def test_an_added_image_is_the_query_with_its_neighbors_its_mark_and_its_note(explorer, layers):
    found = explorer(layers)
    before = found.positions()
    found.page.set_input_files(
        "input[type=file]", [{"name": "cat.webp", "mimeType": "image/webp", "buffer": webp(picture(1234, 96))}]
    )
    found.wait("document.querySelector('[data-vizkit=query]').dataset.id === 'cat.webp'")
    assert found.neighbors() == [layers["ids"][i] for i in layers["graph"][5]]
    assert "More unusual than 97% of the images." in found.page.inner_text("aside")
    assert "1 added" in found.text("status")
    np.testing.assert_allclose(found.positions(), before, atol=0.01)
    place = found.page.evaluate("document.querySelector('.vizkit-explorer').vizkit.positionOf('cat.webp')")
    assert np.hypot(place["x"] - before[5, 0], place["y"] - before[5, 1]) < 2
    found.click(400)
    found.page.mouse.move(place["x"] + 0.4, place["y"])
    settled_card(found, 600)
    assert found.text("card-id") == "cat.webp"
    assert read_row(found.shot("card-image")) == 1234
    # It goes away while its map moves, and comes back where it then belongs.
    send_frame(found, 0.3, turned=40)
    assert not np.isfinite(
        found.page.evaluate("document.querySelector('.vizkit-explorer').vizkit.positionOf('cat.webp').x ?? NaN")
    )
    found.page.evaluate("host.moving({done: null, xy: host.data.maps[0].xy})")
    found.page.evaluate("host.request('place', {file: 'cat.webp'}, [new ArrayBuffer(2)])")
    found.until(lambda: np.allclose(found.positions(), before, atol=0.5))
    again = found.page.evaluate("document.querySelector('.vizkit-explorer').vizkit.positionOf('cat.webp')")
    assert np.hypot(again["x"] - place["x"], again["y"] - place["y"]) < 2
    assert "1 added" in found.text("status")
    found.page.keyboard.down("Shift")
    found.page.mouse.move(place["x"] - 25, place["y"] - 25)
    found.page.mouse.down()
    found.page.mouse.move(place["x"] + 25, place["y"] + 25, steps=2)
    found.page.mouse.up()
    found.page.keyboard.up("Shift")
    assert 5 in found.events()[-1]["rows"]
    assert max(found.events()[-1]["rows"]) < 600


def test_an_image_that_cannot_be_placed_is_told_in_the_kernels_words(explorer, layers):
    found = explorer(layers)
    found.page.evaluate("() => { host.request = () => Promise.reject(new Error('No encoder: <b>cat</b>')); }")
    found.page.set_input_files("input[type=file]", [{"name": "a.png", "mimeType": "image/png", "buffer": b"1"}])
    found.page.wait_for_selector("[data-vizkit=error]")
    assert found.text("error") == "No encoder: <b>cat</b>"
    assert "Placing" not in found.text("status")


def test_an_explorer_that_lives_alone_offers_nothing_that_only_a_kernel_can_do(explorer, layers):
    found = explorer(layers)
    found.page.evaluate("() => { explorer.destroy(); host.live = false; createExplorer(here, host); }")
    assert found.see("add-image").count() == 0
    found.page.evaluate("host.callback({selection: [1, 2]})")
    assert found.see("save-csv").is_visible()
    assert not found.see("name-selection").is_visible()


def test_forward_and_the_trail_lead_back_to_where_one_was(explorer, layers):
    found = explorer(layers)
    ids, row = layers["ids"], int(lonely_rows(found, 5)[2])
    walk = [row, int(layers["graph"][row][3])]
    walk.append(int(layers["graph"][walk[1]][0] if layers["graph"][walk[1]][0] != row else layers["graph"][walk[1]][1]))
    found.click(row)
    for step in walk[1:]:
        found.page.locator(f"[data-vizkit=neighbor][data-id='{ids[step]}']").click()
    for hook in ("back", "back", "forward"):
        found.see(hook).click()
    assert found.see("query").get_attribute("data-id") == ids[walk[1]]
    assert not found.see("forward").is_disabled()
    found.page.evaluate("id => host.callback({query: id})", ids[7])
    assert found.see("forward").is_disabled()
    assert [e["id"] for e in found.events()] == [ids[r] for r in (*walk, walk[1], walk[0], walk[1])]


def test_colors_by_change_come_from_the_kernel_with_its_words_on_both_maps(explorer, layers):
    found = explorer(layers)
    side_by_side(found)
    found.page.select_option("[data-vizkit=colorby]", "neighbors changed")
    found.until(lambda: "Neighbors change most among the rings." in found.text("legend"))
    assert found.page.evaluate("host.requests.filter(r => r.type === 'change')") == [{"type": "change", "a": 0, "b": 1}]
    found.page.mouse.move(*points_on(found, 1)[9])
    shown = layers["ids"].index(found.text("card-id"))
    assert f"neighbors changed{shown % 11 / 10:g}" in found.text("card")
    found.see("side-by-side").click()
    assert found.page.input_value("[data-vizkit=colorby]") == "label"


def test_the_card_tells_the_similarity_to_the_query_of_every_image_and_what_this_map_keeps(explorer, layers):
    found = explorer(layers)
    rows = lonely_rows(found, 90)
    query, place = next((row, i) for row in rows for i, near in enumerate(layers["graph"][row]) if near in rows)
    near, far = (
        layers["graph"][query][place],
        max(rows, key=lambda row: np.hypot(*(layers["xy"][row] - layers["xy"][query]))),
    )
    found.click(query)
    found.hover(near)
    found.until(lambda: found.text("card-id") == layers["ids"][near])
    assert f"similarity{layers['similarities'][query][place]:.3f}" in found.text("card")
    found.hover(far)
    expected = np.exp(-np.hypot(*(layers["xy"][query] - layers["xy"][far])))
    found.until(lambda: f"similarity{expected:.3f}" in found.text("card"))
    assert f"neighbors kept{layers['kept'][far]:.3g}" in found.text("card")
    assert found.page.evaluate("host.requests.filter(r => r.type === 'similarities').length") == 1


def test_on_the_map_keys_speak_what_they_hover_and_walk_back_and_forward(explorer, layers):
    found = explorer(layers)
    found.hover(lonely_rows(found, 3)[1])
    assert found.text("spoken") == ""
    found.see("map").focus()
    found.page.keyboard.press("ArrowRight")
    first = found.text("card-id")
    assert found.text("spoken").startswith(f"{first}, label ")
    for key in ("Enter", "ArrowRight", "Enter", "Backspace", "Shift+Backspace", "Backspace"):
        found.page.keyboard.press(key)
    asked = [event["id"] for event in found.events()]
    assert asked[0] == first != asked[1]
    assert asked[2:] == [first, asked[1], first]


def test_search_brings_rows_out_and_its_result_becomes_the_query_in_sight(explorer, layers):
    found = explorer(layers)
    found.page.mouse.move(*found.at(5))
    found.zoom(-400)
    target = int(np.argmax(np.hypot(*(found.positions() - found.at(5)).T)))
    found.see("search").fill(layers["ids"][target])
    found.page.wait_for_selector("[data-vizkit=search-result]")
    found.page.keyboard.press("Enter")
    assert found.events() == [{"type": "query", "id": layers["ids"][target]}]
    box, (x, y) = found.see("map").bounding_box(), found.at(target)
    assert box["x"] < x < box["x"] + box["width"]
    assert box["y"] < y < box["y"] + box["height"]


def test_zoomed_in_thumbnails_take_the_place_of_points_and_are_what_the_pointer_means(explorer, layers):
    from scipy.spatial import cKDTree

    found = explorer(layers)
    found.page.mouse.move(*found.at(int(lonely_rows(found, 3)[1])))
    for _ in range(3):
        found.zoom(-240)
    found.until(lambda: int(found.page.get_attribute(".vk-mosaic", "data-tiles") or 0) > 2)
    places, box = found.positions(), found.see("map").bounding_box()
    tree = cKDTree(places)
    apart, nearest = (pairs[:, 1] for pairs in tree.query(places, 2))
    between = 0.4 * places + 0.6 * places[nearest]
    free = (apart > 10) & (apart < 18) & (tree.query(between)[0] > 3.5)
    middle = np.hypot(*(places - [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]).T)
    row = min(np.flatnonzero(free), key=lambda i: middle[i])
    found.page.mouse.click(*places[row])
    # Nearer to another point, but on the thumbnail of this one: the query has its thumbnail before all others.
    found.page.mouse.move(*between[row])
    found.until(lambda: found.text("card-id") == layers["ids"][row])
    found.page.mouse.move(*places[nearest[row]])
    assert found.text("card-id") == layers["ids"][nearest[row]]


def test_without_the_network_no_image_can_be_added(explorer, layers):
    assert explorer(layers).see("add-image").is_visible()
    assert not explorer(layers, evidence="none").see("add-image").is_visible()
