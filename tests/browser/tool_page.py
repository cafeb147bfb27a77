"""A page with one tool of the explorer alone: a search field, a table, and so on; what it tells is kept."""

import json

from front.page import HERE
from lab import until

from vizkit.widgets.bundle import bundle, styles

HOSTILE = [
    "<img src=x onerror=\"document.title='hacked'\">",
    "</script><script>document.title='hacked'</script>",
    "=HYPERLINK(1)",
]
RIGHT_TO_LEFT = "\u202eשלום.png"
LONG = "long " * 2000
TOOLS = HERE / "tools.html"


def table(n=40):
    """Give ids and columns of n images; the last ids are hostile."""
    labels = ["disc", "ring", "star"]
    ids = [f"{labels[row % 3]}/{row:03d}.png" for row in range(n)]
    ids[-5:] = [*HOSTILE, RIGHT_TO_LEFT, LONG]
    return {
        "ids": ids,
        "columns": [
            {"name": "label", "kind": "category", "codes": [row % 3 for row in range(n)], "categories": labels},
            {"name": "times used", "kind": "number", "values": [None if row % 7 == 3 else row / 4 for row in range(n)]},
            {
                "name": "caption",
                "kind": "text",
                "values": [LONG if row == 1 else f"picture {row} <b>" for row in range(n)],
            },
        ],
    }


class Tool:
    """A page with one tool, and what it told."""

    def __init__(self, page):
        self.page = page

    def see(self, hook):
        return self.page.locator(f"[data-vizkit={hook}]")

    def told(self, name=None):
        return self.page.evaluate("name => told.filter((one) => !name || one[0] === name)", name)

    def until(self, holds):
        until(self.page, holds)

    def focused(self):
        return self.page.evaluate("document.activeElement.dataset.vizkit ?? document.activeElement.textContent")


def tools(browser, folder):
    """Yield a function that opens one tool; afterwards nothing may have gone wrong or left the disk."""
    opened = []

    def start(name, given=None, *, viewport=(1000, 700)):
        context = browser.new_context(viewport=dict(zip(("width", "height"), viewport, strict=True)))
        page = context.new_page()
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        text = TOOLS.read_text(encoding="utf-8")
        for mark, part in (
            ("/*STYLES*/", styles()),
            ("/*GIVEN*/", json.dumps({**(given or table()), "tool": name}).replace("</", "<\\/")),
            ("/*BUNDLE*/", bundle(f"{name}.js").replace("</script", "<\\/script")),
        ):
            text = text.replace(mark, part)
        (folder / "tool.html").write_text(text, encoding="utf-8")
        page.goto((folder / "tool.html").as_uri())
        opened.append((context, page, asked))
        return Tool(page)

    yield start
    for context, page, asked in opened:
        problems, title = page.evaluate("problems"), page.title()
        context.close()
        assert problems == []
        assert title == "tools"
        assert [url for url in asked if not url.startswith(("file:", "blob:", "data:"))] == []
