"""A page with the explorer's panel alone, as a user sees it."""

import io

import numpy as np
from front.panel_page import write_panel_page
from PIL import Image

READY = "document.querySelectorAll('.vk-overview [data-overlay=on]').length === 13"
ALL_DONE = f"{READY} && document.querySelector('.vk-evidence .vk-message').hidden"


class Panel:
    """One page with a panel, and what it did wrong."""

    def __init__(self, page, data):
        self.page, self.data, self.problems = page, data, []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda text: self.problems.append(text.text) if text.type == "error" else None)

    def see(self, hook):
        return self.page.locator(f"[data-vizkit={hook}]")

    def text(self, hook):
        return self.page.inner_text(f"[data-vizkit={hook}]")

    def wait(self, condition):
        self.page.wait_for_function(condition)

    def ids(self, row=0):
        """Return the ids of the neighbors of a row."""
        return [self.data["ids"][i] for i in self.data["indices"][row]]

    def requests(self, name):
        return self.page.evaluate("name => requests.filter(r => r.name === name)", name)

    def events(self, kind):
        return self.page.evaluate("kind => events.filter(e => e[0] === kind)", kind)

    def picture(self, selector):
        return np.asarray(Image.open(io.BytesIO(self.page.locator(selector).screenshot())).convert("RGB"), dtype=int)

    def open_pair(self, index):
        self.see("neighbor").nth(index).hover()
        self.see("compare").nth(index).click()
        self.wait("document.querySelector('[data-vizkit=pair-text] p').textContent")

    def point(self, side, cell, cells=7):
        """Move the pointer onto a patch."""
        box = self.see(f"pair-{side}").bounding_box()
        across, down = (cell % cells + 0.5) / cells, (cell // cells + 0.5) / cells
        self.page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"])

    def matching(self, index, row=0):
        """Return the matrix and the best matches of the row's pair with a neighbor, as the kernel answers."""
        reply = self.page.evaluate(
            "([query, neighbor]) => { const m = answer('matches', {graph: 0, query, neighbor});"
            " return [Array.from(m.matrix), m.best, m.similarity]; }",
            [self.data["ids"][row], self.ids(row)[index]],
        )
        return np.array(reply[0]).reshape(49, 49), reply[1], reply[2]


class Panels:
    """Opens panels: one after the other in one page, since a page of its own costs more than most tests."""

    def __init__(self, browser, folder):
        self._browser, self._folder, self._page, self._opened = browser, folder, None, []

    def open(self, data, *, alone=None, **options):
        """Open a panel; `alone` are settings that need a page of their own."""
        if alone is not None:
            page = self._browser.new_context(**({"viewport": {"width": 820, "height": 860}} | alone)).new_page()
        else:
            page = self._page = self._page or self._browser.new_page(viewport={"width": 820, "height": 860})
            page.mouse.move(0, 0)
        found = Panel(page, data)
        self._opened.append((found, alone is not None))
        page.goto(write_panel_page(self._folder, data) + "?" + "&".join(f"{k}={v}" for k, v in options.items()))
        page.wait_for_selector("[data-vizkit=query]")
        return found

    def problems(self):
        """Return what went wrong since the last call, and close the pages that were opened alone."""
        problems = []
        for found, alone in self._opened:
            problems += found.problems + found.page.evaluate("problems")
            found.problems.clear()
            if alone:
                found.page.context.close()
        self._opened.clear()
        return problems

    def close(self):
        if self._page is not None:
            self._page.close()
