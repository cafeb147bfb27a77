"""What of 100 clicks, 100 lassos and 100 changes from Python arrives while the pointer keeps moving."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from explorer_data import Points
from explorer_run import Browser, on_screen, plot_box, prepare, targets
from explorer_tools import Tool
from matplotlib.path import Path as Polygon
from playwright.sync_api import Page

_ACTS = 100
_PLOTLY_LASSOS = 8
_TRIED = 20

_LISTEN = """
from explorer_delivery import digest
heard = []
explorer.observe(lambda change: heard.append(["click", change["new"]]), "query")
explorer.observe(lambda change: heard.append(["lasso", digest(change["new"])]), "selection")
"""
_FROM_PYTHON = """
import time
for id in {ids!r}:
    explorer.query = id
    time.sleep(0.02)
"""
# Every id that the panel has shown, in their order; a mutation is told before the next message is taken.
_WATCH = """() => {
  window.queries = [];
  const root = tool.root(), look = () => {
    const id = window.queryOf(root);
    if (id && window.queries.at(-1) !== id) window.queries.push(id); };
  window.queryOf = (root) => root.querySelector("[data-vizkit=query]")?.dataset.id;
  new MutationObserver(look).observe(root, {subtree: true, childList: true, attributes: true, characterData: true});
}"""
_PLOTLY_LISTEN = """
heard = []
figure.data[0].on_selection(lambda trace, points, state: heard.append(sorted(points.point_inds)))
figure.update_layout(dragmode="lasso")
"""


def digest(ids: list[str]) -> str:
    """Return how many and which, in short: 100 lassos among 100,000 points are more text than a notebook takes."""
    return f"{len(ids)}:{hashlib.sha256(json.dumps(ids).encode()).hexdigest()}"


def deliver(tool: Tool, n: int, folder: Path, limit: float) -> dict[str, Any]:
    """Return, for each kind of act, how many arrived whole, in order and once, and how many were done."""
    points = Points(n, folder)
    with Browser() as browser:
        prepare(browser, tool, points, folder)
        browser.lab.run_all(seconds=limit)
        browser.page.wait_for_function("() => tool.ready()", timeout=1000 * limit)
        browser.page.wait_for_timeout(1000)
        arrived = _vizkit(browser, points) if tool.name == "vizkit" else _plotly(browser, points)
    return {"points": n, "arrived": arrived}


def _vizkit(browser: Browser, points: Points) -> dict[str, tuple[int, int]]:
    page, lab = browser.page, browser.lab
    lab.python(_LISTEN)
    places, box = on_screen(page, points), plot_box(page)
    expected, chosen = [], targets(places, box, _ACTS)
    for act, (x, y, rows) in enumerate(chosen):
        page.mouse.move(x + 40, y + 25, steps=4)
        page.mouse.click(x, y)
        expected.append(["click", points.ids[rows[0]]])
        corners = _star(box, act, places)
        page.keyboard.down("Alt")
        _draw(page, corners)
        page.keyboard.up("Alt")
        expected.append(["lasso", digest([points.ids[row] for row in _inside(places, corners)])])
    heard = json.loads(_settled(browser, "import json; print(json.dumps(heard))", len(expected)))
    result = {}
    for kind in ("click", "lasso"):
        said, asked = ([act for act in acts if act[0] == kind] for acts in (heard, expected))
        result[f"{kind}s in the browser"] = (_in_order(said, asked), len(asked))
    if heard != expected:  # each kind may be whole and both out of step
        result["clicks and lassos, in turn"] = (_in_order(heard, expected), len(expected))
    result["queries set from Python"] = _from_python(browser, points, box)
    return result


def _from_python(browser: Browser, points: Points, box: list[int]) -> tuple[int, int]:
    """Set the query a hundred times from Python while the pointer keeps moving; compare what the panel has shown."""
    page, ids = browser.page, [points.ids[row] for row in np.random.default_rng(3).permutation(points.n)[:_ACTS]]
    page.evaluate(_WATCH)
    code = _FROM_PYTHON.format(ids=ids)
    page.evaluate(
        "code => { const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;"
        "kernel.requestExecute({ code, store_history: false }).done.then(() => { window.told = true; }); }",
        code,
    )
    for step in range(3000):
        across, down = np.sin(step / 9), np.sin(step / 7)
        page.mouse.move((box[0] + box[2]) / 2 + 150 * across, (box[1] + box[3]) / 2 + 100 * down)
        if step % 20 == 0 and page.evaluate("ids => window.told && queries.at(-1) === ids.at(-1)", ids):
            break
    return _in_order(page.evaluate("queries"), ids), len(ids)


def _plotly(browser: Browser, points: Points) -> dict[str, tuple[int, int]]:
    page = browser.page
    browser.lab.python(_PLOTLY_LISTEN)
    page.wait_for_function("() => tool.gd()._fullLayout.dragmode === 'lasso'")
    places, box, expected = on_screen(page, points), plot_box(page), []
    for act in range(_PLOTLY_LASSOS):
        corners = _star(box, act, places)
        page.mouse.move(*corners[0], steps=4)
        _draw(page, corners)
        expected.append(_inside(places, corners))
    heard = json.loads(_settled(browser, "import json; print(json.dumps(heard))", len(expected)))
    # It takes corners off the line that was drawn: a point or two at the edge are not held against it.
    meant = [next((act for act in expected if len(set(act) ^ set(said)) <= 2), said) for said in heard]
    return {"lassos in the browser": (_in_order(meant, expected), len(expected))}


def _star(box: list[int], act: int, places: np.ndarray) -> list[tuple[float, float]]:
    """Return a lasso: seven corners around a place that differs from act to act.

    Of some that are tried the one whose line keeps farthest from all points: nobody shall be blamed for rounding.
    """
    rng, found = np.random.default_rng(100 + act), []
    for _ in range(_TRIED):
        center = rng.uniform([box[0] + 180, box[1] + 180], [box[2] - 180, box[3] - 180])
        angles, radii = np.linspace(0, 2 * np.pi, 7, endpoint=False), rng.uniform(40, 110, 7)
        corners = np.floor(center + radii[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])) + 0.5
        found.append((_clearance(places, corners), corners.tolist()))
    return [tuple(corner) for corner in max(found)[1]]


def _clearance(places: np.ndarray, corners: np.ndarray) -> float:
    """Return the pixels between a closed line and the nearest point."""
    nearest = np.inf
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        along = np.clip((places - start) @ (end - start) / np.sum((end - start) ** 2), 0, 1)
        nearest = min(nearest, np.hypot(*(places - start - along[:, None] * (end - start)).T).min())
    return float(nearest)


def _draw(page: Page, corners: list[tuple[float, float]]) -> None:
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in [*corners[1:], corners[0]]:
        page.mouse.move(*corner, steps=2)
    page.mouse.up()


def _inside(places: np.ndarray, corners: list[tuple[float, float]]) -> list[int]:
    return np.flatnonzero(Polygon(corners).contains_points(places)).tolist()


def _settled(browser: Browser, ask: str, count: int) -> str:
    """Ask the kernel until it has heard as much as was done, or nothing more for some seconds."""
    text, quiet = "", 0
    while quiet < 20:
        browser.page.wait_for_timeout(200)
        now = browser.lab.python(ask, seconds=120)
        quiet = 0 if now != text else quiet + 1
        text = now
        if len(json.loads(text)) >= count and quiet > 2:
            break
    return text


def _in_order(heard: list[Any], expected: list[Any]) -> int:
    """Return how many of the expected acts were heard whole, once, and in their order: the longest common run."""
    from difflib import SequenceMatcher

    said, asked = [json.dumps(act) for act in heard], [json.dumps(act) for act in expected]
    once = [act for act in said if said.count(act) <= asked.count(act)]
    return sum(block.size for block in SequenceMatcher(None, once, asked, autojunk=False).get_matching_blocks())
