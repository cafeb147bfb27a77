"""One explorer on a page, in the words of who uses it: hover, click, draw around, drop a file, check for everybody."""

import base64
import io

import numpy as np
from axe_playwright_python.sync_playwright import Axe
from lab import until
from matplotlib.path import Path as Polygon
from PIL import Image
from playwright.sync_api import Locator, Page

_DROP = """(element, [name, type, text]) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0)), dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([bytes], name, { type }));
    for (const kind of ["dragenter", "dragover", "drop"])
        element.dispatchEvent(new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true }));
}"""
_GRAVE = ("serious", "critical")


class View:
    """An explorer found on a page, of the images with these ids."""

    def __init__(self, page: Page, root: Locator, ids: list[str]) -> None:
        self.page, self.root, self.ids = page, root, list(ids)

    def see(self, hook: str) -> Locator:
        """Find an element by its name in the explorer's markup."""
        return self.root.locator(f"[data-vizkit={hook}]")

    def drawn(self) -> None:
        """Wait for points, and bring the explorer into sight."""
        self.root.locator("[data-vizkit=map][data-drawn]").wait_for()
        self.root.evaluate("element => element.scrollIntoView({ block: 'start' })")

    def places(self) -> np.ndarray:
        """Return where the points are on the screen: (n, 2) pixels of the page."""
        script = "(element, ids) => ids.map((id) => element.vizkit.positionOf(id)).flatMap((at) => [at.x, at.y])"
        return np.array(self.root.evaluate(script, self.ids)).reshape(-1, 2)

    def lonely(self, count: int = 1) -> list[str]:
        """Return ids of points that stand alone, the loneliest first: no other is meant when one points at them."""
        places = self.places()
        apart = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1)) + np.diag(np.full(len(places), np.inf))
        return [self.ids[row] for row in np.argsort(-apart.min(axis=1), kind="stable")[:count]]

    def point(self, id: str) -> None:
        """Move the pointer onto an image's point and wait for its card."""
        self.page.mouse.move(*self.places()[self.ids.index(id)])
        until(self.page, lambda: self.see("card").is_visible() and self.see("card-id").inner_text() == id)

    def click(self, id: str) -> None:
        """Click an image's point and wait until it is the query."""
        self.page.mouse.click(*self.places()[self.ids.index(id)])
        self.asked(id)

    def asked(self, id: str) -> None:
        """Wait until an image is the query."""
        until(self.page, lambda: id in self.see("query").inner_text())

    def neighbors(self) -> list[str]:
        """Return the ids of the neighbors in the panel, best first."""
        return [tile.get_attribute("data-id") for tile in self.see("neighbor").all()]

    def explained(self, count: int) -> None:
        """Wait until evidence lies over the query and so many neighbors."""
        until(self.page, lambda: self.root.locator("[data-vizkit=neighbor] [data-overlay=on]").count() == count)
        self.root.locator("[data-vizkit=query] [data-overlay=on]").wait_for()

    def draw_around(self, ids: list[str]) -> list[str]:
        """Draw a lasso around points with the mouse; return the ids that lie inside, found without the explorer."""
        wanted = self.places()[[self.ids.index(id) for id in ids]]
        low, high = wanted.min(axis=0) - 12.5, wanted.max(axis=0) + 12.5
        box = self.see("map").bounding_box()
        low = np.maximum(low, [box["x"] + 3, box["y"] + 3])
        high = np.minimum(high, [box["x"] + box["width"] - 3, box["y"] + box["height"] - 3])
        corners = [low, [high[0], low[1]], high, [low[0], high[1]], low]
        inside = Polygon(corners).contains_points(self.places())
        self.page.keyboard.down("Alt")
        self.page.mouse.move(*corners[0])
        self.page.mouse.down()
        for corner in corners[1:]:
            self.page.mouse.move(*corner, steps=4)
        self.page.mouse.up()
        self.page.keyboard.up("Alt")
        return [id for id, held in zip(self.ids, inside, strict=True) if held]

    def drop(self, name: str, image: Image.Image) -> None:
        """Drop a PNG file on the map."""
        file = io.BytesIO()
        image.save(file, "PNG")
        self.see("map").evaluate(_DROP, [name, "image/png", base64.b64encode(file.getvalue()).decode()])

    def picture(self, hook: str) -> np.ndarray:
        """Return what a canvas shows, (h, w, 3) floats."""
        url = self.see(hook).first.evaluate("canvas => canvas.toDataURL('image/png')")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB"), float)

    def shows(self, hook: str, images: dict[str, Image.Image]) -> str:
        """Return the id of the image that a canvas shows, of several."""
        shown = self.picture(hook)
        size = shown.shape[1::-1]
        return min(images, key=lambda id: np.abs(np.asarray(images[id].resize(size), float) - shown).mean())

    def violations(self) -> list[str]:
        """Return what keeps people with other eyes, hands or screens out: serious and critical findings of axe-core."""
        found = Axe().run(self.page, context=".vizkit-explorer").response["violations"]
        return [
            f"{rule['id']} ({rule['impact']}): {rule['help']}: {node['html'][:160]}"
            for rule in found
            if rule["impact"] in _GRAVE
            for node in rule["nodes"]
        ]


def in_theme(lab, name: str) -> None:
    """Let JupyterLab change to its "Light" or "Dark" theme, and wait until it is there and explorers have followed."""
    lab.page.evaluate(
        "name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", f"JupyterLab {name}"
    )
    lab.page.wait_for_function(
        "dark => [...document.querySelectorAll('.vizkit-explorer')].every(e => e.dataset.theme === dark)",
        arg=name.lower(),
    )
    # JupyterLab covers the page while it loads a theme.
    lab.page.wait_for_function("() => !document.getElementById('jupyterlab-splash')")
