"""The core of a study without a mouse, and what axe-core finds in the explorer's main states, in a real JupyterLab."""

import json

from explorer_view import View, in_theme
from lab import until

import vizkit as vk

COUNT, K = 60, 6
SET_UP = f"""
import vizkit as vk
images = vk.scenes("held-out").subset(range({COUNT}))
layers = vk.embed(images, vk.Encoder("scenes"), layers=["layer4", "layer2"], progress=False)
maps = {{name: vk.project(layer, method="pca") for name, layer in layers.items()}}
explorer = vk.explore(layers, maps, k={K})
explorer
"""
_ACTIVE = """() => {
    const { dataset } = document.activeElement, style = getComputedStyle(document.activeElement);
    const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
    const what = document.activeElement.outerHTML.slice(0, 120);
    return { hook: dataset.vizkit ?? "", what, seen: ring || style.boxShadow !== "none" };
}"""


class Keys:
    """The keyboard in an explorer."""

    def __init__(self, page):
        self.page = page

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def tab_to(self, hook, *, back=False):
        """Press Tab until an element has the focus, and see that the focus can be seen there and on the way."""
        for _ in range(60):
            self.press("Shift+Tab" if back else "Tab")
            active = self.page.evaluate(_ACTIVE)
            assert active["seen"], f"the focus cannot be seen on {active}"
            if active["hook"] == hook:
                return
        raise AssertionError(f"Tab does not reach {hook}")


def opened(lab):
    lab.open_cells(SET_UP)
    lab.run_all(seconds=300)
    ids = vk.scenes("held-out").ids[:COUNT]
    view = View(lab.page, lab.cell(0).locator(".vizkit-explorer"), ids)
    view.drawn()
    return view


def said(lab, code):
    return json.loads(lab.python(f"import json; print(json.dumps({code}))"))


def test_a_study_by_keyboard_alone(lab):
    view, keys = opened(lab), Keys(lab.page)
    # Find, and take all that is found.
    view.see("search").focus()
    lab.page.keyboard.type("shape:ring")
    found = said(lab, "[id for id in explorer.ids if explorer.frame['shape'][id] == 'ring']")
    until(lab.page, lambda: str(len(found)) in view.see("search-count").inner_text())
    keys.tab_to("select-found")
    keys.press("Enter")
    until(lab.page, lambda: said(lab, "explorer.selection") == found)
    keys.tab_to("selection-name")
    lab.page.keyboard.type("rings")
    keys.press("Enter")
    until(lab.page, lambda: said(lab, "list(explorer.named)") == ["rings"])

    # Walk over the map; what is pointed at is also said.
    keys.tab_to("map", back=True)
    keys.press("ArrowRight", "ArrowRight", "ArrowDown")
    pointed = view.see("card-id").inner_text()
    until(lab.page, lambda: pointed in view.see("spoken").inner_text())
    keys.press("Enter")
    view.asked(pointed)
    expected = said(lab, f"list(vk.neighbors(layers['layer4'], {pointed!r}, k={K})['id'])")
    until(lab.page, lambda: view.neighbors() == expected)
    view.explained(K)

    # Walk from neighbor to neighbor, and back.
    keys.tab_to("neighbor")
    keys.press("ArrowRight", "ArrowRight", "Enter")
    view.asked(expected[2])
    until(lab.page, lambda: said(lab, "explorer.query") == expected[2])
    lab.screenshot("keyboard-neighbor")
    keys.press("Backspace")
    view.asked(pointed)

    # Patch by patch, and what two neighbors have in contrast.
    view.explained(K)
    assert lab.page.evaluate(_ACTIVE)["hook"] == "neighbor"
    keys.press("m")
    until(lab.page, lambda: view.see("pair-text").is_visible())
    keys.press("Escape")
    until(lab.page, lambda: not view.see("pair-text").is_visible())
    keys.tab_to("contrast", back=True)
    keys.press("Enter")
    keys.tab_to("neighbor")
    keys.press("Enter", "ArrowRight", "Enter")
    until(
        lab.page, lambda: view.see("contrast-text").is_visible() and "cosine" in view.see("contrast-text").inner_text()
    )
    lab.screenshot("keyboard-contrast")
    keys.press("Escape")
    until(lab.page, lambda: not view.see("contrast-text").is_visible())

    # Two maps, another method, and nothing any more.
    keys.tab_to("method", back=True)
    lab.page.keyboard.type("Occ")
    until(lab.page, lambda: "Occlusion" in view.see("evidence").locator(".vk-made").inner_text())
    keys.tab_to("side-by-side", back=True)
    keys.press("Enter")
    view.see("map-2").wait_for()
    keys.tab_to("map")
    keys.press("Escape")
    until(lab.page, lambda: said(lab, "explorer.query") is None)
    assert said(lab, "explorer.errors") == []


def test_axe_finds_nothing_serious_in_the_main_states_light_or_dark(lab):
    view, page = opened(lab), lab.page

    def check(state):
        for theme in ("Light", "Dark"):
            in_theme(lab, theme)
            lab.screenshot(f"axe-{state}-{theme.lower()}")
            problems[f"{state}, {theme.lower()}"] = view.violations()

    problems = {}
    view.root.evaluate("element => element.append(Object.assign(document.createElement('button'), { id: 'nameless' }))")
    assert "button-name" in view.violations()[0]  # what is wrong is found
    view.root.evaluate("element => element.querySelector('#nameless').remove()")
    check("empty")
    first = view.lonely()[0]
    view.click(first)
    view.explained(K)
    view.see("trust").click()
    check("evidence")
    view.see("trust").click()  # its reason lies over the neighbors until it is closed
    view.see("neighbor").first.hover()
    view.see("compare").first.click()
    until(page, lambda: "patch" in view.see("pair-text").inner_text().lower())
    check("pair")
    page.keyboard.press("Escape")
    view.see("side-by-side").click()
    view.see("map-2").wait_for()
    lab.python("explorer.selection = explorer.ids[:20]")
    until(page, lambda: view.see("table-row").count() == 20)
    check("two-maps-and-table")
    assert {state: found for state, found in problems.items() if found} == {}
