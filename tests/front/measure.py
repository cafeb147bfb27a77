"""Measure the front end in headless Chromium with software WebGL: `python tests/front/measure.py [n ...]`.

Prints, for each number of points: bytes of the data, milliseconds from the call to the first drawn frame, hover latency
from the pointer event to the end of the frame that shows the right picture, and frame times while panning.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from browser import chromium  # noqa: E402
from front.page import fixture, write_page  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

PAINT = """() => new Promise(done => {
  const start = performance.now();
  openExplorer();
  const map = document.querySelector('[data-vizkit=map]');
  const painted = () => setTimeout(() => done(performance.now() - start));
  const look = () => requestAnimationFrame(map.dataset.drawn ? painted : look);
  look(); })"""

WATCH_HOVER = """() => {
  window.latencies = [];
  let start = 0, last = null;
  addEventListener('pointermove', event => { start = event.timeStamp; }, {capture: true});
  const image = document.querySelector('[data-vizkit=card-image]');
  new MutationObserver(() => {
    if (!image.dataset.row || image.dataset.row === last) return;
    last = image.dataset.row;
    const from = start;
    requestAnimationFrame(() => setTimeout(() => window.latencies.push(performance.now() - from)));
  }).observe(image, {attributes: true, attributeFilter: ['data-row']}); }"""

WATCH_FRAMES = """() => { window.frameTimes = []; let last = performance.now(); window.watching = true;
  const tick = () => {
    const now = performance.now();
    window.frameTimes.push(now - last);
    last = now;
    if (window.watching) requestAnimationFrame(tick); };
  requestAnimationFrame(tick); }"""


def measure(browser, n):
    """Return a line of figures for one number of points."""
    thumbnail = 32 if n > 50_000 else 48
    data = fixture(n, thumbnail=thumbnail, distinct=min(n, 2000))
    parts = (data[name] for name in ("thumbnails", "xy", "offsets", "graph", "similarities"))
    size = sum(memoryview(part).nbytes for part in parts)
    with tempfile.TemporaryDirectory() as folder:
        page = browser.new_page(viewport={"width": 1200, "height": 760})
        page.goto(write_page(Path(folder), data) + "?closed")
        page.wait_for_function("!!globalThis.openExplorer")
        paint = page.evaluate(PAINT)
        page.evaluate(WATCH_HOVER)
        for x, y in np.random.default_rng(0).uniform([250, 200], [550, 450], (120, 2)):
            page.mouse.move(x, y)
            page.wait_for_timeout(60)
        hover = page.evaluate("latencies")
        page.mouse.move(200, 300)
        page.mouse.down()
        page.evaluate(WATCH_FRAMES)
        for step in range(150):
            page.mouse.move(200 + 3 * (step % 60), 300 + step % 30)
        frames = page.evaluate("() => { window.watching = false; return frameTimes.slice(2); }")
        page.mouse.up()
        page.close()
    return (
        f"{n:>7} points  {size / 1e6:5.1f} MB  first paint {paint:5.0f} ms  "
        f"hover p10/p50/p95 {_spread(hover)} ms ({len(hover)})  pan frame p10/p50/p95 {_spread(frames)} ms"
    )


def _spread(times):
    return " / ".join(f"{value:.1f}" for value in np.percentile(times, [10, 50, 95]))


if __name__ == "__main__":
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium.find(), args=chromium.LAUNCH_ARGS)
        for count in map(int, sys.argv[1:] or ["2000", "100000"]):
            sys.stdout.write(measure(opened, count) + "\n")
        opened.close()
