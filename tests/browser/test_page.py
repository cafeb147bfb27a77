"""The exported page: opened from disk, without a network, it hovers, clicks, and shows what it was given."""

import numpy as np
import pandas as pd
import pytest
from drawn import photo, tiny_network, to_tensor_32
from lab import until

import vizkit as vk

HOSTILE = "</script><img src=x onerror=alert(1)>"
IDS = ["__proto__", "constructor", HOSTILE, "\u202eright to left \U0001f40d", *(f"p{i:02d}" for i in range(26))]
K = 6


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Write a study of thirty drawn images by two networks, one image added, and evidence for six queries."""
    images = vk.ImageSet.from_frame(pd.DataFrame({"path": [photo(i) for i in range(len(IDS))], "id": IDS}))
    images.frame["label"] = [HOSTILE, "a", "b"] * 10
    encoders = [vk.Encoder(tiny_network(seed), preprocess=to_tensor_32) for seed in (0, 1)]
    spaces = {name: vk.embed(images, e, progress=False) for name, e in zip(("first", "second"), encoders, strict=True)}
    explorer = vk.explore(spaces, {name: vk.project(one, method="pca") for name, one in spaces.items()}, k=K)
    explorer.add(photo(100), f"new {HOSTILE}")
    explorer.query, explorer.selection = HOSTILE, IDS[:7]
    folder = tmp_path_factory.mktemp("page")
    yield explorer.to_html(folder / "study.html", queries=[*IDS[2:6], "p04", f"new {HOSTILE}"]), spaces
    explorer.close()


@pytest.fixture
def opened(browser, written):
    """Give the page, opened from disk with the network off, and the spaces; it asks for nothing, and nothing fails."""
    path, spaces = written
    context = browser.new_context(viewport={"width": 1400, "height": 900}, offline=True)
    page, heard = context.new_page(), []
    page.on("request", lambda one: heard.append(one.url) if not one.url.startswith(("blob:", "data:")) else None)
    page.on("console", lambda said: heard.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("dialog", lambda dialog: (heard.append(dialog.message), dialog.dismiss()))
    page.goto(path.as_uri())
    page.locator(".vizkit-explorer [data-vizkit=query] [data-overlay=on]").wait_for()
    yield page, spaces
    context.close()
    assert heard == [path.as_uri()]


def neighbors(page):
    return [tile.get_attribute("data-id") for tile in page.locator("[data-vizkit=neighbor]").all()]


def near(space, query):
    return list(vk.neighbors(space, query, k=K)["id"])


def point_at(page, id):
    at = page.locator(".vizkit-explorer").evaluate("(root, id) => root.vizkit.positionOf(id)", id)
    page.mouse.move(at["x"], at["y"])


def test_it_opens_where_the_explorer_was_and_hovers_and_clicks(opened, screenshots):
    page, spaces = opened
    assert neighbors(page) == near(spaces["first"], HOSTILE)
    assert page.locator("[data-vizkit=neighbor] [data-overlay=on]").count() == K
    assert page.get_by_text("7 selected").first.is_visible()
    page.screenshot(path=screenshots / "exported-page.png")
    tile = page.locator("[data-vizkit=neighbor]").first
    name = tile.get_attribute("data-id")
    tile.click()
    page.locator("[data-vizkit=query]").get_by_text(name, exact=True).wait_for()
    assert neighbors(page) == near(spaces["first"], name)
    page.locator("[data-vizkit=back]").click()
    page.locator(f"[data-vizkit=neighbor][data-id='{near(spaces['first'], HOSTILE)[0]}']").first.wait_for()
    id = IDS[int(np.argmax(np.abs(vk.project(spaces["first"], method="pca").xy).sum(axis=1)))]  # it lies by itself
    point_at(page, id)
    page.locator("[data-vizkit=card-id]").get_by_text(id, exact=True).wait_for()
    page.mouse.down()
    page.mouse.up()
    page.locator("[data-vizkit=query]").get_by_text(id, exact=True).wait_for()
    assert neighbors(page) == near(spaces["first"], id)
    assert page.locator("img[src=x]").count() == 0


def test_an_image_without_exported_evidence_says_so_whatever_it_is_called(opened):
    page, spaces = opened
    for id in IDS[:2]:  # names that every object in JavaScript has
        page.locator("[data-vizkit=search]").fill(id)
        page.locator("[data-vizkit=search-result]").first.wait_for()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.locator("[data-vizkit=query]").get_by_text(id, exact=True).wait_for()
        page.get_by_text("holds no evidence for this image").wait_for()
        assert neighbors(page) == near(spaces["first"], id)


def test_patches_are_matched_without_a_kernel(opened, screenshots):
    page, spaces = opened
    tile = page.locator("[data-vizkit=neighbor]").first
    other = tile.get_attribute("data-id")
    tile.hover()
    page.locator("[data-vizkit=compare]").first.click()
    pair = vk.explain_pair(spaces["first"].encoder, photo(2), photo(IDS.index(other)), "contribution")
    share = pair.matches(n=1000).carried.loc["all", "share"]
    page.locator("[data-vizkit=pair-text]").get_by_text(f"{share:.1%}").first.wait_for()
    page.screenshot(path=screenshots / "exported-pair.png")


def test_the_other_map_has_its_own_neighbors_and_evidence(opened):
    page, spaces = opened
    page.locator("[data-vizkit=map-name]").select_option(index=1)
    expected = near(spaces["second"], HOSTILE)
    assert expected != near(spaces["first"], HOSTILE)
    until(page, lambda: neighbors(page) == expected)
    until(page, lambda: page.locator("[data-vizkit=neighbor] [data-overlay=on]").count() == K)
    page.locator("[data-vizkit=side-by-side]").click()
    page.locator("[data-vizkit=map-2]").wait_for()
    page.locator("[data-vizkit=colorby]").select_option(label="neighbors changed")
    page.get_by_text("nearest neighbors in truth changed").first.wait_for()


def test_all_similarities_of_an_exported_query_color_the_map(opened):
    page, spaces = opened
    page.locator("[data-vizkit=colorby]").select_option(label="similarity to the query")
    vectors = spaces["first"].vectors.astype(float)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    far = IDS[int(np.argmin(unit @ unit[2]))]
    point_at(page, far)
    page.locator("[data-vizkit=card]").get_by_text(f"{(unit @ unit[2]).min():.3f}".replace("-", "−")).first.wait_for()


def test_what_only_a_notebook_can_do_is_not_offered(opened):
    page, _ = opened
    assert page.locator("[data-vizkit=save-csv]").is_visible()
    for hook in ("add-image", "name-selection", "contrast"):
        assert not page.locator(f"[data-vizkit={hook}]").is_visible()


def test_an_added_image_is_in_the_page(opened):
    page, spaces = opened
    point_at(page, f"new {HOSTILE}")
    page.mouse.down()
    page.mouse.up()
    page.locator("[data-vizkit=query]").get_by_text(f"new {HOSTILE}", exact=True).wait_for()
    assert neighbors(page) == near(spaces["first"], photo(100))
    until(page, lambda: page.locator("[data-vizkit=neighbor] [data-overlay=on]").count() == K)
    assert "of the 30 images here" in page.inner_text("[data-vizkit=note]")
