"""The first notebook, as a reader would go through it: run it, hover, click, walk, and read the result in Python."""

import base64
import io
import json
from pathlib import Path

import nbformat
import numpy as np
import pytest
from lab import until
from PIL import Image

import vizkit as vk

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks/01_explore.ipynb"
LONELIEST = "from scipy.spatial import cKDTree; int(cKDTree(layout.xy).query(layout.xy, k=2)[0][:, 1].argmax())"
NEIGHBORS = "import json; print(json.dumps(list(vk.neighbors(embeddings, '{}')['id'])))"


@pytest.fixture(scope="module")
def scenes():
    return vk.scenes("held-out")


def position(root, id):
    """Return where an image's point is on the screen, in client pixels."""
    return root.evaluate("(element, id) => element.vizkit.positionOf(id)", id)


def picture_of(canvas):
    """Return what a canvas shows as (h, w, 3) floats."""
    url = canvas.evaluate("canvas => canvas.toDataURL('image/png')")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB"), float)


def difference(picture, image):
    h, w = picture.shape[:2]
    return np.abs(picture - np.asarray(image.resize((w, h)), float)).mean()


def test_the_first_notebook_runs_and_the_explorer_answers(lab, scenes):
    lab.open("notebooks/01_explore.ipynb")
    lab.run_all(seconds=900)
    sources = [cell.source for cell in nbformat.read(NOTEBOOK, 4).cells]
    cell = lab.cell(next(i for i, source in enumerate(sources) if source.startswith("explorer = vk.explore(")))
    root = cell.locator(".vizkit-explorer")
    root.wait_for()
    root.scroll_into_view_if_needed()

    # The last cell set the query from Python: the view followed.
    query = lab.python("explorer.query").strip("'")
    root.locator("[data-vizkit=query]").get_by_text(query).first.wait_for()
    root.locator("[data-vizkit=neighbor][data-id]").first.wait_for()
    lab.screenshot("explore-query-from-python")

    # Hover a point that stands alone, so that no other is nearer: the card shows its picture, and not another's.
    row = int(lab.python(LONELIEST))
    known = scenes.ids[row]
    at = position(root, known)
    lab.page.mouse.move(at["x"] + 1, at["y"] + 1)
    card = root.locator("[data-vizkit=card]")
    card.wait_for()
    assert root.locator("[data-vizkit=card-id]").inner_text() == known
    root.locator("[data-vizkit=card-image][data-kind=sharp]").wait_for()
    shown = picture_of(root.locator("[data-vizkit=card-image]"))
    rows = [row, *range(0, len(scenes), 20)]
    assert rows[int(np.argmin([difference(shown, scenes[r]) for r in rows]))] == row
    assert difference(shown, scenes[row]) < 16
    lab.screenshot("explore-hover")

    # Click it: the right neighbors, with evidence drawn on each.
    lab.page.mouse.click(at["x"] + 1, at["y"] + 1)
    neighbors = root.locator("[data-vizkit=neighbor]")
    expected = json.loads(lab.python(NEIGHBORS.format(known)))
    neighbors.locator(f"xpath=self::*[@data-id='{expected[0]}']").first.wait_for()
    assert [n.get_attribute("data-id") for n in neighbors.all()] == expected
    root.locator("[data-vizkit=neighbor] [data-overlay=on]").nth(len(expected) - 1).wait_for()
    root.locator("[data-vizkit=query] [data-overlay=on]").wait_for()
    assert lab.python("explorer.query") == repr(known)
    assert lab.python("explorer.neighbors == " + repr(expected)) == "True"
    lab.screenshot("explore-click")
    lab.page.mouse.move(5, 5)
    root.screenshot(path=lab.screenshots / "explorer.png")

    # A neighbor becomes the query; a selection made in Python is seen; color by another column.
    neighbors.first.click()
    root.locator("[data-vizkit=query]").get_by_text(expected[0]).first.wait_for()
    until(lab.page, lambda: lab.python("explorer.query") == repr(expected[0]))
    lab.python("explorer.selection = explorer.neighbors[:5]")
    root.locator("[data-vizkit=status]").get_by_text("5 selected").wait_for()
    root.locator("[data-vizkit=colorby]").select_option("neighbors kept")
    lab.screenshot("explore-colored-by-kept")

    # Keys that JupyterLab has commands for stay in the widget: "d d" would delete the cell.
    root.locator("[data-vizkit=map]").focus()
    for key in ("d", "d", "Escape"):
        lab.page.keyboard.press(key)
    until(lab.page, lambda: lab.python("print(explorer.query)") == "None")
    assert root.is_visible()
    assert lab.python("explorer.errors") == "[]"
