"""The exported page: opened from disk, without a network, it hovers, clicks and shows its evidence."""

import pytest

import vizkit as vk

HOSTILE = "</script><img src=x onerror=alert(1)>"


@pytest.fixture
def exported(browser, tmp_path):
    """Give a page with an exported explorer of 40 scenes, and what it asked of the network or complained about."""
    images = vk.scenes("held-out").subset(range(40))
    images.frame["note"] = [HOSTILE] + ["\u202eright to left \U0001f40d"] * 39
    embeddings = vk.embed(images, vk.Encoder("scenes"), cache=tmp_path / "cache", progress=False)
    explorer = vk.explore(embeddings, vk.project(embeddings, method="pca"), k=6)
    explorer.query = embeddings.ids[3]
    explorer.selection = embeddings.ids[:7]
    path = explorer.to_html(tmp_path / "study.html", queries=embeddings.ids[:10])
    context = browser.new_context(viewport={"width": 1200, "height": 800}, offline=True)
    page = context.new_page()
    heard = []
    page.on(
        "request", lambda request: heard.append(request.url) if not request.url.startswith(("blob:", "data:")) else 0
    )
    page.on("console", lambda message: heard.append(message.text) if message.type in ("error", "warning") else 0)
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("dialog", lambda dialog: (heard.append(dialog.message), dialog.dismiss()))
    page.goto(path.as_uri())
    yield page, embeddings, heard
    context.close()
    assert heard == [path.as_uri()]


def test_the_page_works_from_disk_without_a_network(exported, screenshots):
    page, embeddings, _ = exported
    root = page.locator(".vizkit-explorer")
    root.locator("[data-vizkit=query] [data-overlay=on]").wait_for()
    expected = list(vk.neighbors(embeddings, embeddings.ids[3], k=6)["id"])
    assert [n.get_attribute("data-id") for n in root.locator("[data-vizkit=neighbor]").all()] == expected
    assert root.locator("[data-vizkit=neighbor] [data-overlay=on]").count() == 6
    assert root.get_by_text("7 selected").is_visible()
    page.screenshot(path=screenshots / "exported-page.png")

    at = root.evaluate("(element, id) => element.vizkit.positionOf(id)", embeddings.ids[0])
    page.mouse.move(at["x"], at["y"])
    root.locator("[data-vizkit=card]").wait_for()
    assert root.locator("[data-vizkit=card-id]").inner_text() in embeddings.ids
    page.mouse.click(at["x"], at["y"])
    root.locator("[data-vizkit=query]").get_by_text(embeddings.ids[0]).wait_for()
    root.locator("[data-vizkit=colorby]").select_option("note")
    assert root.locator("[data-vizkit=legend]").get_by_text(HOSTILE).is_visible()
    assert page.locator("img[src=x]").count() == 0


def test_an_image_without_exported_evidence_says_so(exported):
    page, embeddings, _ = exported
    root = page.locator(".vizkit-explorer")
    root.locator("[data-vizkit=query] [data-overlay=on]").wait_for()
    at = root.evaluate("(element, id) => element.vizkit.positionOf(id)", embeddings.ids[30])
    page.mouse.click(at["x"], at["y"])
    root.get_by_text("holds no evidence for this image").wait_for()
    assert root.locator("[data-vizkit=neighbor]").count() == 6
