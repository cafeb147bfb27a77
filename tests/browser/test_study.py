"""A whole study in a real JupyterLab, from opening two layers to the exported file that is opened without a network."""

import json

import numpy as np
import pytest
from explorer_view import View, in_theme
from lab import until

import vizkit as vk

COUNT, K = 240, 12
SET_UP = f"""
import vizkit as vk
images = vk.scenes("held-out").subset(range({COUNT}))
encoder = vk.Encoder("scenes")
layers = vk.embed(images, encoder, layers=["layer4", "layer2"], progress=False)
"""


@pytest.fixture(scope="module")
def scenes():
    return vk.scenes("held-out")


@pytest.fixture(scope="module")
def spaces(scenes, tmp_path_factory):
    """The same layers, computed here: what the explorer shows is compared with them."""
    images, cache = scenes.subset(range(COUNT)), tmp_path_factory.mktemp("store")
    return vk.embed(images, vk.Encoder("scenes"), layers=["layer4", "layer2"], cache=cache, progress=False)


def nearest(embeddings, id):
    return list(vk.neighbors(embeddings, id, k=K)["id"])


def said(lab, code):
    return json.loads(lab.python(f"import json; print(json.dumps({code}))"))


def test_a_whole_study_and_its_export(lab, browser, scenes, spaces, tmp_path):
    lab.open_cells(SET_UP, "explorer = vk.explore(layers)\nexplorer")
    lab.run_all(seconds=300)
    first = spaces["layer4"]
    view = View(lab.page, lab.cell(1).locator(".vizkit-explorer"), first.ids)
    view.drawn()
    lab.python("explorer.wait()", seconds=300)
    view.see("progress").wait_for(state="hidden")
    walked = _look_around(lab, view, scenes, first)
    _ask_why(lab, view, walked)
    guest = _drop_an_image(lab, view, scenes, first)
    _compare_layers(lab, view, spaces)
    assert said(lab, "explorer.errors") == []
    chosen = walked[:2]
    path = tmp_path / "study.html"
    lab.python(f"explorer.to_html({str(path)!r}, queries={chosen!r})", seconds=300)
    _read_the_export(browser, lab.screenshots, path, scenes, spaces, chosen, guest)


def _look_around(lab, view, scenes, embeddings):
    """Color, search, hover, select, click, walk three neighbors and back; return the way."""
    view.see("colorby").select_option("shape")
    until(lab.page, lambda: "cross" in view.see("legend").inner_text())
    shapes = embeddings.frame["shape"]
    view.see("search").fill("shape:cross")
    until(lab.page, lambda: f"{(shapes == 'cross').sum()}" in view.see("search-count").inner_text())
    view.see("search").fill("")

    start = view.lonely()[0]
    view.point(start)
    until(lab.page, lambda: view.see("card-image").get_attribute("data-kind") == "sharp")
    rows = {id: scenes[scenes.row(id)] for id in [start, *embeddings.ids[::20]]}
    assert view.shows("card-image", rows) == start
    lab.screenshot("study-hover")

    inside = view.draw_around(nearest(embeddings, start)[:3])
    assert len(inside) >= 3
    until(lab.page, lambda: said(lab, "explorer.selection") == inside)
    assert said(lab, "list(explorer.table.index)") == inside
    assert said(lab, "list(explorer.table['shape'])") == list(shapes[inside])
    until(lab.page, lambda: view.see("table-row").count() == min(len(inside), 200))
    view.see("selection-name").fill("a corner")
    view.see("name-selection").click()
    until(lab.page, lambda: said(lab, "explorer.named") == {"a corner": inside})
    assert said(lab, "explorer.frame['a corner'].sum().item()") == len(inside)

    view.click(start)
    walked = [start]
    for step in (0, 2, 1):
        expected = nearest(embeddings, walked[-1])
        until(lab.page, lambda expected=expected: view.neighbors() == expected)
        view.see("neighbor").nth(step).click()
        walked.append(expected[step])
        view.asked(walked[-1])
        until(lab.page, lambda: said(lab, "explorer.query") == walked[-1])
    for before in walked[-2::-1]:
        view.see("back").click()
        view.asked(before)
    assert view.see("back").is_disabled()
    until(lab.page, lambda: said(lab, "explorer.query") == start)
    assert said(lab, "explorer.neighbors") == nearest(embeddings, start)
    return walked


def _ask_why(lab, view, walked):
    """Evidence, another method, one pair patch by patch, and one neighbor against another."""
    view.explained(K)
    lab.screenshot("study-evidence")
    assert view.see("trust").inner_text() != ""
    view.see("method").select_option("occlusion")
    until(lab.page, lambda: "Occlusion" in view.see("evidence").locator(".vk-made").inner_text())
    view.explained(K)
    view.see("neighbor").first.hover()
    view.see("compare").first.click()
    until(lab.page, lambda: "patch" in view.see("pair-text").inner_text().lower())
    lab.screenshot("study-pair")
    view.page.keyboard.press("Escape")
    view.see("contrast").click()
    view.see("neighbor").first.click()
    view.see("neighbor").nth(K - 1).click()
    until(lab.page, lambda: view.see("contrast-text").is_visible() and len(view.see("contrast-text").inner_text()) > 20)
    lab.screenshot("study-contrast")
    view.page.keyboard.press("Escape")
    assert view.see("neighbor").first.is_visible()
    assert said(lab, "explorer.query") == walked[0]


def _drop_an_image(lab, view, scenes, embeddings):
    """Drop a file that the explorer has not seen; return the id it got."""
    row = COUNT + 7
    view.drop("new scene.png", scenes[row])
    view.asked("new scene.png")
    alone = vk.embed(scenes.subset([row]), vk.Encoder("scenes"), layers=["layer4"], progress=False)["layer4"]
    cosine = (embeddings.vectors @ alone.vectors[0]) / np.linalg.norm(embeddings.vectors, axis=1)
    expected = [embeddings.ids[i] for i in np.argsort(-cosine, kind="stable")[:K]]
    until(lab.page, lambda: view.neighbors() == expected)
    view.explained(K)
    assert view.see("note").inner_text() != ""
    assert said(lab, "explorer.neighbors") == expected
    lab.screenshot("study-dropped")
    return said(lab, "explorer.query")


def _compare_layers(lab, view, spaces):
    view.see("side-by-side").click()
    view.see("map-2").wait_for()
    until(lab.page, lambda: said(lab, "explorer.shown") == ["layer4", "layer2"])
    id = view.lonely()[0]
    view.click(id)
    until(lab.page, lambda: view.neighbors() == nearest(spaces["layer4"], id))
    view.see("colorby").select_option("neighbors changed")
    until(lab.page, lambda: "neighbors" in view.see("legend").inner_text())
    view.point(view.lonely(2)[1])
    lab.screenshot("study-two-layers")
    in_theme(lab, "Dark")
    lab.screenshot("study-two-layers-dark")
    in_theme(lab, "Light")
    view.see("map-name").select_option(label="layer2")
    until(lab.page, lambda: view.neighbors() == nearest(spaces["layer2"], id))
    until(lab.page, lambda: said(lab, "explorer.shown") == ["layer2", "layer4"])


def _read_the_export(browser, screenshots, path, scenes, spaces, chosen, guest):
    """Open the file from disk without a network: hover, click, read its evidence."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, offline=True)
    page = context.new_page()
    heard = []
    page.on("request", lambda r: heard.append(r.url) if not r.url.startswith(("blob:", "data:")) else None)
    page.on("console", lambda message: heard.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.goto(path.as_uri())
    view = View(page, page.locator(".vizkit-explorer"), spaces["layer2"].ids)
    view.drawn()
    other = view.lonely()[0]
    view.point(other)
    rows = {id: scenes[scenes.row(id)] for id in [other, *view.ids[::20]]}
    assert view.shows("card-image", rows) == other
    view.click(other)
    until(page, lambda: view.neighbors() == nearest(spaces["layer2"], other))
    view.see("search").fill(chosen[1])
    view.see("search-result").first.click()
    view.asked(chosen[1])
    view.explained(K)
    page.screenshot(path=screenshots / "study-export.png")
    assert guest == "new scene.png"
    context.close()
    assert heard == [path.as_uri()]
