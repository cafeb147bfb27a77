"""What looks odd or goes wrong in a real JupyterLab: hostile names, no kernel, few images or none, several views."""

import json

import pytest
from explorer_view import View
from lab import until

# What is searched for, and the whole id.
HOSTILE = {
    '"<img src=x"': "<img src=x onerror=window.hacked=1>.png",
    "</script>": "</script><script>window.hacked=1</script>",
    "quotes": "\"quotes\" 'and' `more` ${1+1} {{7*7}} %s \\n",
    "\u05e9\u05dc\u05d5\u05dd": "\u202eeslaf\u202c \u05e9\u05dc\u05d5\u05dd",
    "\U0001f40d": "\U0001f40d\U0001f469\u200d\U0001f52c emoji",
    '"long long"': "long " * 2000,
    "HYPERLINK": "=HYPERLINK(1)",
    "break": "line\nbreak\ttab",
}
# Vectors without a network are enough where the question is not about evidence.
SET_UP = """
import json
import numpy as np
import pandas as pd
from PIL import Image
import vizkit as vk

def embeddings_of(n, ids=None, vectors=None, **columns):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(n, 8)) if vectors is None else vectors
    ids = [f"image {i}" for i in range(n)] if ids is None else ids
    columns = {"label": ["one"] * (n // 2) + ["two"] * (n - n // 2)} | columns
    frame = pd.DataFrame(columns, index=pd.Index(ids, name="id"))
    picture = lambda row: Image.new("RGB", (64, 64), (40 * row % 255, 90, 200))
    return vk.Embeddings(np.asarray(vectors, "f4"), frame, images=vk.ImageSet(ids, frame, picture))

def opened(embeddings, **more):
    return vk.explore(embeddings, vk.project(embeddings, method="pca"), **more)
"""


def said(lab, code):
    return json.loads(lab.python(f"print(json.dumps({code}))"))


def seen(lab, cell, ids):
    view = View(lab.page, lab.cell(cell).locator(".vizkit-explorer"), ids)
    view.drawn()
    return view


@pytest.fixture
def dialogs(lab):
    heard = []
    lab.page.on("dialog", lambda dialog: (heard.append(dialog.message), dialog.dismiss()))
    return heard


def test_hostile_names_are_text_everywhere_and_in_the_export(lab, browser, dialogs, tmp_path):
    more = [f"plain {i}" for i in range(12)]
    names = list(HOSTILE.values())
    ids, columns = names + more, {"label": (names * 3)[:20], names[0]: (names * 3)[:20], names[1]: names[::-1] + more}
    make = f"ids = {ids!r}\nexplorer = opened(embeddings_of(20, ids, **{columns!r}), k=6)\nexplorer"
    lab.open_cells(SET_UP, make)
    lab.run_all(seconds=300)
    view = seen(lab, 1, ids)
    path = tmp_path / "study.html"
    _meet_hostile_names(view)
    view.see("colorby").select_option(names[0])
    lab.python("explorer.selection = ids[:8]")
    until(lab.page, lambda: view.see("table-row").count() == 8)
    view.see("selection-name").fill(names[1])
    view.see("name-selection").click()
    until(lab.page, lambda: said(lab, "list(explorer.named.values())") == [ids[:8]])
    lab.screenshot("care-hostile")
    assert said(lab, "explorer.errors") == []
    lab.python(f"explorer.to_html({str(path)!r}, queries=[])", seconds=120)

    context = browser.new_context(viewport={"width": 1400, "height": 900}, offline=True)
    page = context.new_page()
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    heard = []
    page.on("request", lambda r: heard.append(r.url) if not r.url.startswith(("blob:", "data:")) else None)
    page.goto(path.as_uri())
    exported = View(page, page.locator(".vizkit-explorer"), ids)
    exported.drawn()
    _meet_hostile_names(exported)
    page.screenshot(path=lab.screenshots / "care-hostile-export.png")
    context.close()
    assert heard == [path.as_uri()]
    assert dialogs == []


def _meet_hostile_names(view):
    """Ask for each of them by its name, read it in card and panel, and see that nothing of it has become markup."""
    for words, id in HOSTILE.items():
        shown = " ".join(id.split())[:20]

        def told(hook, shown=shown):
            return shown in " ".join(view.see(hook).first.inner_text().split())

        view.see("search").fill(words)
        until(view.page, lambda: view.see("search-result").count() > 0)
        until(view.page, lambda told=told: told("search-result"))
        view.see("search-result").first.click()
        until(view.page, lambda told=told: told("query"))
        assert view.see("query").bounding_box()["height"] < 500  # a long name is cut
    view.see("search").fill("")
    first = view.lonely()[0]
    view.page.mouse.move(*view.places()[view.ids.index(first)])
    view.see("card").wait_for()
    inside = "() => [document.querySelectorAll('.vizkit-explorer :is(img, script, iframe)').length, window.hacked ?? 0]"
    assert view.page.evaluate(inside) == [0, 0]


def test_without_its_kernel_the_explorer_keeps_its_map_and_says_what_is_missing(lab):
    lab.open_cells(SET_UP, "explorer = opened(embeddings_of(40), k=6)\nexplorer")
    lab.run_all(seconds=300)
    view = seen(lab, 1, [f"image {i}" for i in range(40)])
    lab.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    lab.page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'"
    )
    first, second = view.lonely(2)
    view.point(first)
    view.click(second)
    assert len(view.neighbors()) == 6
    view.see("error").first.wait_for()
    assert "kernel" in view.see("error").first.inner_text()
    lab.screenshot("care-restarted")
    # Run again, all is well again.
    lab.run_all(seconds=300)
    view = seen(lab, 1, view.ids)
    view.click(first)
    until(lab.page, lambda: lab.python("explorer.query") == repr(first))
    assert view.see("error").count() == 0


def test_a_notebook_that_is_closed_and_opened_again_shows_its_explorer(lab):
    lab.open_cells(SET_UP, "explorer = opened(embeddings_of(40), k=6)\nexplorer")
    lab.run_all(seconds=300)
    ids = [f"image {i}" for i in range(40)]
    view = seen(lab, 1, ids)
    asked = view.lonely()[0]
    view.click(asked)
    until(lab.page, lambda: said(lab, "explorer.query") == asked)
    lab.python("explorer.selection = explorer.ids[:5]")
    name = lab.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.path")
    lab.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.save()")
    lab.page.evaluate("() => window.jupyterapp.commands.execute('application:close')")
    lab.page.locator(".jp-NotebookPanel").wait_for(state="detached")
    lab.page.evaluate("path => window.jupyterapp.commands.execute('docmanager:open', { path })", name)
    view = seen(lab, 1, ids)
    view.asked(asked)
    until(lab.page, lambda: "5 selected" in view.see("status").inner_text())
    view.click(view.lonely(2)[1])
    until(lab.page, lambda: said(lab, "explorer.query") == view.lonely(2)[1])


def test_two_explorers_of_one_object_and_another_beside_them(lab):
    lab.open_cells(
        SET_UP,
        "explorer = opened(embeddings_of(40), k=6)\nexplorer",
        "explorer",
        "other = opened(embeddings_of(30))\nother",
    )
    lab.run_all(seconds=300)
    ids = [f"image {i}" for i in range(40)]
    below, third = seen(lab, 2, ids), seen(lab, 3, ids[:30])
    id = third.lonely()[0]
    third.click(id)
    until(lab.page, lambda: said(lab, "[explorer.query, other.query]") == [None, id])
    lab.cell(2)
    below.drawn()
    chosen = below.lonely()[0]
    below.click(chosen)
    until(lab.page, lambda: said(lab, "[explorer.query, other.query]") == [chosen, id])
    above = seen(lab, 1, ids)
    above.asked(chosen)
    assert above.neighbors() == said(lab, "explorer.neighbors")


def test_few_images_or_identical_ones_are_shown_and_none_at_all_is_said_in_words(lab):
    cases = {"embeddings_of(3)": 3, "embeddings_of(1)": 1, "embeddings_of(20, vectors=np.ones((20, 8)))": 20}
    lab.open_cells(SET_UP, *(f"explorer_{n} = vk.explore({how})\nexplorer_{n}" for how, n in cases.items()))
    lab.run_all(seconds=300)
    for cell, count in enumerate(cases.values(), start=1):
        explorer = f"explorer_{count}"
        lab.python(f"{explorer}.wait()", seconds=300)
        ids = [f"image {i}" for i in range(count)]
        view = seen(lab, cell, ids)
        view.page.mouse.click(*view.places()[0])
        until(lab.page, lambda explorer=explorer, ids=ids: said(lab, f"{explorer}.query") in ids)
        assert sorted(view.neighbors()) == sorted(said(lab, f"{explorer}.neighbors"))
        assert len(view.neighbors()) == min(12, count - 1)
        assert said(lab, f"{explorer}.query") not in view.neighbors()
        lab.screenshot(f"care-{count}-images")
        assert said(lab, f"{explorer}.errors") == []
    nothing = "vk.Embeddings(np.zeros((0, 8), 'f4'), pd.DataFrame(index=pd.Index([], dtype=object)))"
    answer = lab.python(f"try:\n    vk.explore({nothing})\nexcept vk.VizkitError as error:\n    print('said:', error)")
    assert answer.startswith("said: There are no vectors")
