"""One page with the explorer's front end, fed by a host that stands in for the kernel, and what tests do with it."""

import io

import numpy as np
from front.page import write_page
from lab import until
from PIL import Image


class Explorer:
    """One page with an explorer, and what it did wrong."""

    def __init__(self, page, data):
        self.page, self.data, self.problems, self.requests = page, data, [], []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda text: self.problems.append(text.text) if text.type == "error" else None)
        page.on("request", lambda request: self.requests.append(request.url))

    def open(self, url, **options):
        query = "&".join(f"{key}={value}" for key, value in options.items())
        self.page.goto(f"{url}?{query}")
        self.page.wait_for_selector("[data-vizkit=map]")
        if len(self.data["ids"]):
            self.page.wait_for_function("document.querySelector('[data-vizkit=map]').dataset.drawn")
        return self

    def at(self, row):
        place = self.page.evaluate(
            "id => document.querySelector('.vizkit-explorer').vizkit.positionOf(id)", self.data["ids"][row]
        )
        return place["x"], place["y"]

    def positions(self):
        rows = self.page.evaluate(
            "() => host.data.ids.map(id => document.querySelector('.vizkit-explorer').vizkit.positionOf(id))"
            ".flatMap(p => [p.x, p.y])"
        )
        return np.array(rows).reshape(-1, 2)

    def hover(self, row):
        self.page.mouse.move(*self.at(row))

    def click(self, row):
        self.page.mouse.click(*self.at(row))

    def text(self, hook):
        return self.page.text_content(f"[data-vizkit={hook}]")

    def see(self, hook):
        return self.page.locator(f"[data-vizkit={hook}]")

    def neighbors(self):
        return self.see("neighbor").evaluate_all("all => all.map(e => e.dataset.id)")

    def events(self):
        return self.page.evaluate("host.events")

    def wait(self, condition):
        self.page.wait_for_function(condition)

    def until(self, holds):
        until(self.page, holds)

    def zoom(self, turn):
        """Turn the wheel at the pointer, and wait until the map has heard of it."""
        before = np.ptp(self.positions(), axis=0)
        self.page.mouse.wheel(0, turn)
        self.until(lambda: (np.abs(np.ptp(self.positions(), axis=0) / before - 1) > 0.01).all())

    def pass_time(self, milliseconds):
        """Let the clock of a page that was opened with `clock` go on: it stands but for this; a frame is 16 ms."""
        self.page.clock.run_for(milliseconds)

    def shot(self, hook):
        return Image.open(io.BytesIO(self.see(hook).screenshot()))


def explorers(browser, folder):
    """Yield a function that opens a page for some data; afterwards nothing may have gone wrong or left the disk."""
    opened = []

    def start(
        data, *, init="", head="", viewport=(1200, 760), scheme="light", motion="no-preference", clock=False, **options
    ):
        context = browser.new_context(
            viewport=dict(zip(("width", "height"), viewport, strict=True)), color_scheme=scheme, reduced_motion=motion
        )
        page = context.new_page()
        if init:
            page.add_init_script(init)
        if clock:
            page.clock.install(time=0)
        found = Explorer(page, data)
        opened.append(found)
        found.open(write_page(folder, data, head=head), **options)
        if clock:
            page.clock.pause_at(3600)
        return found

    yield start
    for found in opened:
        problems = found.problems + found.page.evaluate("problems")
        requests = [url for url in found.requests if not url.startswith(("file:", "blob:", "data:"))]
        found.page.context.close()
        assert problems == []
        assert requests == []


def lonely_rows(found, count, gap=6):
    """Return rows whose points stand apart on the screen, so that a pointer at one means that one."""
    from scipy.spatial import cKDTree

    places = found.positions()
    inside = ((places > [20, 80]) & (places < [770, 590])).all(1)
    apart = cKDTree(places).query(places, 2)[0][:, 1] > gap
    rows = np.flatnonzero(inside & apart)
    assert len(rows) >= count
    return rows[np.linspace(0, len(rows) - 1, count).astype(int)]


def settled_card(found, row):
    found.wait(f"document.querySelector('[data-vizkit=card-image]').dataset.row === '{row}'")


def send_frame(found, done, turned=0.0):
    """Tell the page where the points are: the fixture's layout turned by some degrees, in another unit."""
    found.page.evaluate(
        """([done, turned]) => { const [c, s] = [Math.cos(turned), Math.sin(turned)], from = host.data.maps[0].xy;
        host.moving({done, xy: from.map((_, i) => { const [x, y] = [from[i - i % 2], from[i - i % 2 + 1]];
            return 7 * (i % 2 ? s * x + c * y : c * x - s * y) + 3; })}); }""",
        [done, np.deg2rad(turned)],
    )


def nearest(found, pointer):
    """Return the id of the point nearest to a pointer as things are on the screen, and its distance in pixels."""
    distance = np.hypot(*(found.positions() - pointer).T)
    return found.data["ids"][distance.argmin()], distance.min()


def colored_pixels(found):
    """Count pixels of the map that are not paper."""
    pixels = np.asarray(found.shot("map").convert("RGB"), dtype=int)[10:-10, 10:-10]
    return int((np.abs(pixels - pixels[0, 0]).max(2) > 30).sum())
