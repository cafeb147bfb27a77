"""One run: one tool, so many points, a server, a browser, a notebook and a page of its own."""

import base64
import io
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from explorer_data import Points
from explorer_tools import Tool
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.browser import chromium
from tests.browser.lab import Lab, Server, until

HERE = Path(__file__).parent
_HOVERS = 60
_STILL = 1.5  # seconds without a new frame: the plot is done
_LEAST_INK = 200  # pixels
_FRAMES = 150  # movements while panning, and turns of the wheel while zooming
_CURRENT = "window.jupyterapp.shell.currentWidget"
_SETUP = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from explorer_data import Points
points = Points({n}, Path({folder!r}))
"""


class Browser:
    """A server and a Chromium, both fresh, and a page that counts what it is sent."""

    def __enter__(self) -> "Browser":
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.server = Server(Path(self._folder.name))
        self.server.start()
        self._playwright = sync_playwright().start()
        self._chromium = self._playwright.chromium.launch(executable_path=chromium.find(), args=chromium.LAUNCH_ARGS)
        self.page = self._chromium.new_page(viewport={"width": 1400, "height": 1000})
        self.page.set_default_timeout(600_000)  # whoever started this run ends it when it takes too long
        self.page.add_init_script((HERE / "explorer_probe.js").read_text(encoding="utf-8"))
        self.cdp = self.page.context.new_cdp_session(self.page)
        self.lab = Lab(self.page, self.server, Path(self._folder.name))
        return self

    def __exit__(self, *_: object) -> None:
        self._chromium.close()
        self._playwright.stop()
        self.server.stop()
        self._folder.cleanup()

    def processes(self, kind: str) -> float:
        """Return the resident memory, in MB, of this browser's processes of a kind: "renderer" or "GPU"."""
        found = self._chromium.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
        ids = [process["id"] for process in found if process["type"] == kind]
        return max((psutil.Process(id).memory_info().rss for id in ids), default=0) / 1e6

    def memory(self) -> dict[str, float]:
        """Return MB, after what nobody uses any more was given back: the renderer, its JavaScript heap, the GPU."""
        self.cdp.send("HeapProfiler.collectGarbage")
        self.cdp.send("Performance.enable")
        metrics = {m["name"]: m["value"] for m in self.cdp.send("Performance.getMetrics")["metrics"]}
        heap = metrics["JSHeapUsedSize"] / 1e6
        return {"renderer": self.processes("renderer"), "heap": heap, "gpu": self.processes("GPU")}


def prepare(browser: Browser, tool: Tool, points: Points, folder: Path) -> None:
    """Open a notebook of the tool's one cell, with a kernel that has imported and loaded what the cell needs."""
    browser.lab.open_cells(tool.cell)
    paths = [str(HERE), str(HERE.parents[1])]
    setup = _SETUP.format(paths=paths, n=points.n, folder=str(folder)) + tool.setup
    browser.lab.python(setup, seconds=600)
    extent = [*np.stack([points.xy.min(0), points.xy.max(0)], 1).ravel().tolist()]
    browser.page.evaluate(f"extent => {{ window.tool = Object.assign({tool.script}, {{extent}}); }}", extent)


def measure(tool: Tool, n: int, folder: Path, limit: float) -> dict[str, Any]:
    """Return the figures of one run: milliseconds, bytes, MB; an error after `limit` seconds without points."""
    points = Points(n, folder)
    with Browser() as browser:
        prepare(browser, tool, points, folder)
        before = browser.memory()
        first = first_points(browser, limit)
        opened = browser.memory()
        hovers = hover(browser.page, points)
        pan = frames(browser.page, "pan")
        zoom = frames(browser.page, "zoom")
        after = browser.memory()
    grown = {f"{kind} MB": after[kind] - before[kind] for kind in after}
    opened = {f"{kind} MB when opened": opened[kind] - before[kind] for kind in opened}
    return {**first, **hovers, "pan": pan, "zoom": zoom, **grown, **opened}


# ---------------------------------------------------------------------- first points


def first_points(browser: Browser, limit: float) -> dict[str, float]:
    """Run the cell and return milliseconds to the first frame that shows points, and bytes until all is still."""
    page, cdp, seen = browser.page, browser.cdp, []
    received = Counter()

    def keep(frame: dict[str, Any]) -> None:
        cdp.send("Page.screencastFrameAck", {"sessionId": frame["sessionId"]})
        seen.append((frame["metadata"]["timestamp"], frame["data"]))

    cdp.on("Page.screencastFrame", keep)
    cdp.on("Network.loadingFinished", lambda event: received.update(http=int(event["encodedDataLength"])))
    page.evaluate("probe.bytes.socket = 0")
    cdp.send("Network.enable", {"maxTotalBufferSize": 0, "maxResourceBufferSize": 0})
    cdp.send("Page.startScreencast", {"format": "jpeg", "quality": 70, "everyNthFrame": 1})
    until(page, lambda: bool(seen))
    page.wait_for_timeout(1000 * _STILL)
    before = seen[-1][1]
    start = page.evaluate(
        "() => { window.jupyterapp.commands.execute('notebook:run-cell'); return Date.now() / 1000; }",
    )
    page.wait_for_function("() => tool.ready()", timeout=1000 * limit)
    until(page, lambda: _done(page, seen, start, before), seconds=limit)
    page.wait_for_function(f"() => {_CURRENT}.sessionContext.session.kernel.status === 'idle'")
    cdp.send("Page.stopScreencast")
    cdp.send("Network.disable")
    shown = when_shown([frame for frame in seen if frame[0] >= start], before, plot_box(page))
    sent = page.evaluate("probe.bytes.socket")
    return {"first points": 1000 * (shown - start), "socket": sent, "http": received["http"]}


def _done(page: Page, seen: list[tuple[float, str]], start: float, before: str) -> bool:
    """Whether there are points, and nothing new has been seen for a while."""
    latest, data = seen[-1]
    if latest < start or time.time() - latest < _STILL:
        return False
    box = plot_box(page)
    return _ink(_pixels(data, box), _pixels(before, box)).sum() > _LEAST_INK


def when_shown(seen: list[tuple[float, str]], before: str, box: list[int]) -> float:
    """Return when half of the last frame's points were first on the screen."""
    last = _pixels(seen[-1][1], box)
    ink = _ink(last, _pixels(before, box))
    for at, data in seen:
        same = np.abs(_pixels(data, box)[ink] - last[ink]).max(axis=1) < 60
        if same.mean() > 0.5:
            return at
    raise RuntimeError("No frame shows the points.")


def _ink(plot: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Return where points are painted: colored pixels that were others before the cell was run."""
    return (np.ptp(plot, axis=2) > 60) & (np.abs(plot - before).max(axis=2) > 60)


def plot_box(page: Page) -> list[int]:
    """Return left, top, right and bottom of the plot, in CSS pixels."""
    box = page.evaluate(
        "() => { const b = tool.plot().getBoundingClientRect(); return [b.x, b.y, b.right, b.bottom]; }"
    )
    return [max(0, int(edge)) for edge in box]


def _pixels(data: str, box: list[int]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB").crop(box), dtype=int)


# ---------------------------------------------------------------------- hover


def on_screen(page: Page, points: Points) -> np.ndarray:
    """Return where every point lies on the screen, (n, 2) CSS pixels, from where the tool says three of them lie."""
    rows = [int(points.xy[:, 0].argmin()), int(points.xy[:, 0].argmax()), int(points.xy[:, 1].argmax())]
    ask = [[*map(float, points.xy[row]), points.ids[row]] for row in rows]
    places = np.array(page.evaluate("ask => ask.map(([x, y, id]) => tool.at(x, y, id))", ask))
    known = np.column_stack([points.xy[rows], np.ones(3)]).astype(float)
    return np.column_stack([points.xy, np.ones(points.n)]) @ np.linalg.solve(known, places)


def targets(places: np.ndarray, box: list[float], count: int) -> list[tuple[int, int, list[int]]]:
    """Choose whole pixels with a point less than one pixel away: x, y, and the rows of the nearest point.

    Where a second point is as near to a tenth of a pixel, the question has no one answer and is not asked.
    """
    from scipy.spatial import cKDTree

    tree, chosen = cKDTree(places), []
    for row in np.random.default_rng(1).permutation(len(places)):
        x, y = (round(float(value)) for value in places[row])
        near, rows = tree.query([x, y], k=2)
        inside = box[0] + 10 < x < box[2] - 10 and box[1] + 10 < y < box[3] - 10
        if inside and near[0] < 1 and near[1] - near[0] > 0.1:
            chosen.append((x, y, [int(rows[0])]))
        if len(chosen) == count:
            break
    return chosen


def hover(page: Page, points: Points) -> dict[str, Any]:
    """Point at one point after the other; return milliseconds from each move to the right picture on the screen."""
    box = plot_box(page)
    wait, latencies, wrong = np.random.default_rng(2), [], 0
    chosen = targets(on_screen(page, points), box, _HOVERS)
    asked = 0
    socket = page.evaluate("probe.bytes.socket")
    for x, y, rows in chosen:
        page.evaluate("rows => probe.arm(() => tool.image(), rows, 3000)", rows)
        page.mouse.move(x, y)
        result = page.evaluate("() => probe.result")
        asked += 1
        if "ms" in result:
            latencies.append(result["ms"])
        elif result.get("saw") is not None:
            wrong += 1
        if asked == 5 and not latencies:
            break
        page.wait_for_timeout(float(wait.uniform(40, 120)))  # so that moves fall anywhere between two frames
    sent = (page.evaluate("probe.bytes.socket") - socket) / max(1, asked)
    return {"hover": latencies, "hovers": asked, "hovers wrong": wrong, "bytes a hover": sent}


# ---------------------------------------------------------------------- frames


def frames(page: Page, what: str) -> list[float]:
    """Drag the map, or turn the wheel over it, and return milliseconds between frames meanwhile."""
    box = plot_box(page)
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    page.mouse.move(x, y)
    if what == "pan":
        page.mouse.down()
    page.evaluate("probe.startFrames()")
    end = time.monotonic() + 30
    for step in range(_FRAMES):
        began = time.monotonic()
        if what == "pan":
            page.mouse.move(x + 100 * np.sin(step / 12), y + 60 * np.sin(step / 7))
        else:
            page.mouse.wheel(0, -40 if step % 50 < 25 else 40)
        page.wait_for_timeout(max(1.0, 16 - 1000 * (time.monotonic() - began)))
        if time.monotonic() > end:
            break
    times = page.evaluate("() => probe.stopFrames()")
    if what == "pan":
        page.mouse.up()
    page.wait_for_timeout(300)
    return times[2:]
