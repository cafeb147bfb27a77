"""A map that unfolds in a real JupyterLab: seen before it is done, hovered while it moves, stopped; and the panel."""

import json
import re

import numpy as np
import pytest
from explorer_view import in_theme
from lab import until
from test_explore import difference, picture_of, position

import vizkit as vk

SET_UP = """
import time
import vizkit as vk
from vizkit.widgets import maps as module

images = vk.scenes("held-out").subset(range(600))
embeddings = vk.embed(images, vk.Encoder("scenes"), progress=False)
"""
# The real frames one after the other, then to and fro: however slow a machine is, the map moves until it is stopped.
# While it is held, it stays at one frame.
SLOWLY = """
import itertools, threading, vizkit.projection
vizkit.projection._FRAME_SECONDS = 0.01
unfolding, held, holding = module.unfolding, threading.Event(), []
def shown(frame):
    yield frame
    time.sleep(0.12)
    while held.is_set():
        holding[:] = [frame]
        yield frame
        time.sleep(0.12)
def slowly(*arguments, **parameters):
    seen = []
    for frame in unfolding(*arguments, **parameters):
        seen.append(frame._replace(done=min(frame.done, 0.99)))
        yield from shown(seen[-1])
    for frame in itertools.cycle([*seen[::-1], *seen]):
        yield from shown(frame._replace(done=0.99))
module.unfolding = slowly
def now_shown():
    return next((task.shown for task in explorer._movement._tasks.values()), None)
"""
LONELIEST = """
from scipy.spatial import cKDTree
xy = now_shown().xy
print(int(cKDTree(xy).query(xy, k=2)[0][:, 1].argmax()))
"""


@pytest.fixture(scope="module")
def scenes():
    return vk.scenes("held-out").subset(range(600))


def places(root, ids):
    script = "(element, ids) => ids.map(id => element.vizkit.positionOf(id)).flatMap(p => [p.x, p.y])"
    return np.array(root.evaluate(script, ids)).reshape(-1, 2)


def unexplained(places, xy):
    """Return the largest distance, in pixels, of points on the screen from a map that may be moved and scaled."""
    a, b = places - places.mean(axis=0), (xy - xy.mean(axis=0)) * [1, -1]
    return np.abs(a - b * (a * b).sum() / (b * b).sum()).max()


def shown_layout(lab):
    return np.array(json.loads(lab.python("import json; print(json.dumps(explorer.layout_of_points.xy.tolist()))")))


def hold(lab, root, ids):
    """Let the points of a map that is made slowly stand; return their places as soon as the browser shows them."""
    lab.python("holding.clear(); held.set()")
    until(lab.page, lambda: lab.python("bool(holding) and now_shown() is holding[0]") == "True")
    xy = np.array(json.loads(lab.python("import json; print(json.dumps(now_shown().xy.tolist()))")))
    until(lab.page, lambda: unexplained(places(root, ids), xy) < 0.05)
    return places(root, ids)


def zoom(lab, root, ids):
    """Turn the wheel, and wait until the map has heard of it."""
    before = np.ptp(places(root, ids), axis=0)
    lab.page.mouse.wheel(0, -300)
    until(lab.page, lambda: (np.ptp(places(root, ids), axis=0) > 1.5 * before).all())


def moved(root, ids, before):
    """Return how many pixels the points have moved in the median."""
    return np.median(np.hypot(*(places(root, ids) - before).T))


def right_image(root, scenes, id):
    shown = picture_of(root.locator("[data-vizkit=card-image]"))
    rows = [scenes.row(id), *range(0, len(scenes), 20)]
    return rows[int(np.argmin([difference(shown, scenes[r]) for r in rows]))] == scenes.row(id)


def test_the_map_is_there_at_once_moves_is_hovered_meanwhile_and_is_stopped(lab, scenes):
    lab.open_cells(SET_UP + SLOWLY, "explorer = vk.explore(embeddings)\nexplorer")
    lab.run_all(seconds=300)
    root = lab.cell(1).locator(".vizkit-explorer")
    root.locator("[data-vizkit=map][data-drawn]").wait_for()
    root.scroll_into_view_if_needed()
    assert lab.python("explorer.moving, explorer.layout_of_points.provenance['method']") == "(True, 'pca')"
    assert "PCA keeps" in root.locator("[data-vizkit=map-note]").inner_text()
    pca = places(root, scenes.ids)
    progress = root.locator("[data-vizkit=progress]")
    progress.get_by_text(re.compile("UMAP [1-9]")).wait_for(timeout=180_000)  # where it is new, it compiles first
    lab.screenshot("unfolding")
    root.screenshot(path=lab.screenshots / "unfolding-light.png")
    until(lab.page, lambda: moved(root, scenes.ids, pca) > 10)

    # Hover the loneliest point of what is shown: the card shows its image.
    card, card_id = root.locator("[data-vizkit=card]"), root.locator("[data-vizkit=card-id]")
    stand = hold(lab, root, scenes.ids)
    row = int(lab.python(LONELIEST))
    id = scenes.ids[row]
    lab.page.mouse.move(*stand[row])
    card_id.get_by_text(id, exact=True).wait_for()
    root.locator("[data-vizkit=card-image][data-kind=sharp]").wait_for()
    assert right_image(root, scenes, id)
    lab.page.mouse.click(*stand[row])
    root.locator("[data-vizkit=query]").get_by_text(id).first.wait_for()

    # The query and the zoom stay as they are while the points move on.
    zoom(lab, root, scenes.ids)
    before, others = position(root, id), places(root, scenes.ids)
    lab.python("held.clear()")
    until(lab.page, lambda: moved(root, scenes.ids, others) > 5)
    assert np.hypot(*np.subtract(list(position(root, id).values()), list(before.values()))) < 4
    assert lab.python("explorer.moving") == "True"

    # A pointer at rest in the middle: the card is that of the point that has come under it.
    lab.page.keyboard.press("Escape")
    lab.page.keyboard.press("0")
    stand = hold(lab, root, scenes.ids)
    pointer = stand[np.hypot(*(stand - np.median(stand, axis=0)).T).argmin()]
    lab.page.mouse.move(*pointer)
    card.wait_for()
    first = card_id.inner_text()
    assert first == scenes.ids[np.hypot(*(stand - pointer).T).argmin()]
    lab.python("held.clear()")
    until(lab.page, lambda: card.is_visible() and card_id.inner_text() != first)
    distance = np.hypot(*(hold(lab, root, scenes.ids) - pointer).T)
    if distance.min() < 19:
        card_id.get_by_text(scenes.ids[distance.argmin()], exact=True).wait_for()
    else:
        card.wait_for(state="hidden")
    lab.python("held.clear()")

    root.get_by_role("button", name="Stop").focus()
    lab.page.keyboard.press("Enter")
    progress.wait_for(state="hidden")
    assert root.locator("[data-vizkit=map]").evaluate("element => element === document.activeElement")
    assert lab.python("explorer.moving") == "False"
    assert 0 < float(lab.python("explorer.layout_of_points.provenance['stopped']")) < 1
    root.locator("[data-vizkit=map-note]").get_by_text("stopped at").wait_for()
    lab.page.keyboard.press("0")
    stopped = shown_layout(lab)
    until(lab.page, lambda: unexplained(places(root, scenes.ids), stopped) < 1.5)
    root.screenshot(path=lab.screenshots / "stopped.png")
    assert lab.python("explorer.errors") == "[]"


def test_left_alone_it_ends_as_projects_map_and_an_interrupted_cell_stops_another(lab, scenes):
    lab.open_cells(SET_UP, "explorer = vk.explore(embeddings)\nexplorer")
    lab.run_all(seconds=300)
    root = lab.cell(1).locator(".vizkit-explorer")
    root.locator("[data-vizkit=map-note]").get_by_text("UMAP, seed 0").wait_for()
    same = "explorer.layout_of_points.xy.tobytes() == vk.project(embeddings).xy.tobytes()"
    assert lab.python(f"explorer.wait(60), explorer.errors, {same}").endswith("(True, [], True)")
    assert not root.locator("[data-vizkit=progress]").is_visible()
    done = shown_layout(lab)
    until(lab.page, lambda: unexplained(places(root, scenes.ids), done) < 1.5)
    root.locator("[data-vizkit=colorby]").select_option("neighbors kept")
    assert "no value" not in root.locator("[data-vizkit=legend]").inner_text()

    # Another map over it; a cell that runs meanwhile is interrupted.
    lab.python(SLOWLY + "explorer.follow(lambda: module.unfolding(embeddings, seed=1), {'seed': 1})")
    progress = root.locator("[data-vizkit=progress]")
    progress.get_by_text(re.compile("UMAP [1-9]")).wait_for()
    lab.page.evaluate(
        """async () => { const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
        const cell = kernel.requestExecute({code: "print('begun', flush=True); time.sleep(60)"});
        await new Promise(begun => { cell.onIOPub = ({header}) => { if (header.msg_type === "stream") begun(); }; });
        await kernel.interrupt();
        await cell.done; }"""
    )
    progress.wait_for(state="hidden")
    assert lab.python("explorer.moving, explorer.layout_of_points.provenance['seed']") == "(False, 1)"
    heard = lab.complaints()
    assert all("KeyboardInterrupt" in text for text in heard)


def test_the_panel_redraws_the_map_while_a_slider_is_moved_by_keyboard(lab, scenes):
    lab.open_cells(SET_UP, "panel = vk.tune_map(embeddings)\nexplorer = panel.explorer\npanel")
    lab.run_all(seconds=300)
    cell = lab.cell(1)
    root = cell.locator(".vizkit-explorer")
    history = cell.locator("table.vizkit-history tbody tr")
    history.first.wait_for()
    assert cell.get_by_text("vk.project(embeddings)", exact=True).is_visible()
    found = shown_layout(lab)
    until(lab.page, lambda: unexplained(places(root, scenes.ids), found) < 1.5)
    first = places(root, scenes.ids)
    root.screenshot(path=lab.screenshots / "panel-map.png")

    slider = cell.get_by_role("slider").first
    slider.focus()
    for _ in range(2):
        lab.page.keyboard.press("ArrowRight")
        lab.page.wait_for_timeout(100)
    cell.get_by_text("vk.project(embeddings, n_neighbors=30)").wait_for()
    history.nth(1).wait_for()
    assert lab.python("panel.wait(60), panel.parameters['n_neighbors'], explorer.errors") == "(True, 30, [])"
    found = shown_layout(lab)
    until(lab.page, lambda: unexplained(places(root, scenes.ids), found) < 1.5)
    assert moved(root, scenes.ids, first) > 2
    code = "vk.project(embeddings, **panel.parameters).xy.tobytes() == panel.layout_of_points.xy.tobytes()"
    assert lab.python(code).endswith("True")
    history.first.get_by_text("30").first.wait_for()
    for theme in ("Light", "Dark"):
        in_theme(lab, theme)
        lab.page.wait_for_timeout(800)
        lab.screenshot(f"panel-{theme.lower()}")
        history.first.scroll_into_view_if_needed()
        lab.screenshot(f"panel-history-{theme.lower()}")
        slider.scroll_into_view_if_needed()


# Nothing is made before the gate opens; the map stands, so that only pictures come.
GATED = """
import threading
from vizkit.widgets.thumbnails import Thumbnails
gate, small = threading.Event(), Thumbnails._small
def waiting(self, row):
    gate.wait(120)
    return small(self, row)
Thumbnails._small = waiting
"""


def busy(lab, file):
    """Keep the kernel busy until there is such a file."""
    lab.page.evaluate(
        "code => void window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({code})",
        f"import pathlib\nwhile not pathlib.Path({str(file)!r}).exists(): time.sleep(0.05)",
    )


def test_hover_shows_the_right_image_before_and_after_its_thumbnail_is_made(lab, scenes, tmp_path):
    show = "explorer = vk.explore(embeddings, vk.project(embeddings, method='pca'))\nexplorer"
    lab.open_cells(SET_UP + GATED, show)
    lab.run_all(seconds=300)
    root = lab.cell(1).locator(".vizkit-explorer")
    root.locator("[data-vizkit=map][data-drawn]").wait_for()
    root.scroll_into_view_if_needed()
    assert root.locator("[data-vizkit=thumbnails]").inner_text() == "Thumbnails 0%"
    lonely = LONELIEST.replace("now_shown().xy", "explorer.layout_of_points.xy")
    id = scenes.ids[int(lab.python(lonely))]

    # The kernel is busy: a quiet place for the picture, then the sharp one without any thumbnail.
    busy(lab, tmp_path / "first")
    lab.page.mouse.move(*position(root, id).values())
    image = root.locator("[data-vizkit=card-image]")
    root.locator("[data-vizkit=card-image][data-waiting]").wait_for()
    lab.screenshot("thumbnail-waiting")
    (tmp_path / "first").touch()
    root.locator("[data-vizkit=card-image][data-kind=sharp]").wait_for()
    assert image.get_attribute("data-waiting") is None
    assert root.locator("[data-vizkit=card-id]").inner_text() == id
    assert right_image(root, scenes, id)

    # A query, a selection and a zoom stay as they are when the thumbnails come, and so does the panel.
    lab.page.mouse.click(*position(root, id).values())
    root.locator("[data-vizkit=query]").get_by_text(id).first.wait_for()
    until(lab.page, lambda: lab.python("explorer.query") == repr(id))  # the page is ahead of the kernel
    lab.python("explorer.selection = explorer.neighbors[:3]")
    root.locator("[data-vizkit=status]").get_by_text("3 selected").wait_for()
    root.locator("[data-vizkit=neighbor] [data-overlay=on]").nth(11).wait_for()
    zoom(lab, root, scenes.ids)
    before, tile = places(root, scenes.ids), root.locator("[data-vizkit=neighbor]").first
    tile.evaluate("element => { element.mark = true; }")
    hovered = root.locator("[data-vizkit=card-id]").inner_text()
    lab.python("gate.set()")
    root.locator("[data-vizkit=thumbnails]").wait_for(state="hidden")
    assert lab.python("explorer._coming, explorer.errors, explorer.query == " + repr(id)) == "(False, [], True)"
    assert tile.evaluate("element => element.mark")
    assert root.locator("[data-vizkit=card-id]").inner_text() == hovered
    assert root.locator("[data-vizkit=status]").get_by_text("3 selected").is_visible()
    np.testing.assert_allclose(places(root, scenes.ids), before)

    # Another point, while the kernel is busy: its thumbnail is in the browser.
    lab.page.mouse.move(5, 5)
    busy(lab, tmp_path / "second")
    box = root.locator("[data-vizkit=map]").bounding_box()
    middle = [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]
    others = [other for other in scenes.ids if other != id]
    nearest = others[int(np.hypot(*(places(root, others) - middle).T).argmin())]
    lab.page.mouse.move(*position(root, nearest).values())
    root.locator("[data-vizkit=card-image][data-kind=thumbnail]").wait_for()
    shown = root.locator("[data-vizkit=card-id]").inner_text()
    assert shown != id
    assert right_image(root, scenes, shown)
    (tmp_path / "second").touch()
    lab.screenshot("thumbnail-there")
    lab.python("gate.is_set()")  # a kernel that is ended while it is busy complains
