"""The Python side of the explorer: traits both ways, messages whole and in order, errors seen."""

import io
import threading

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from recording import Recording, browser, rows_of, until

import vizkit as vk
from vizkit.errors import InputError
from vizkit.saliency import badges

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


@pytest.fixture
def explorer(embeddings):
    shown = Recording(embeddings, vk.project(embeddings, method="pca"), 5)
    until(lambda: not shown._coming)
    yield shown
    shown.close()


def test_a_click_sets_the_query_and_its_neighbors(explorer, embeddings):
    heard = []
    explorer.observe(lambda change: heard.append(change["new"]), "query")
    id = embeddings.ids[7]
    browser(explorer, type="query", id=id)
    assert explorer.query == id
    assert heard == [id]
    assert explorer.neighbors == list(vk.neighbors(embeddings, id, k=5)["id"])
    browser(explorer, type="query", id=None)
    assert explorer.query is None
    assert explorer.neighbors == []


def test_python_sets_the_query_and_every_view_hears_it(explorer, embeddings):
    explorer.query = embeddings.ids[3]
    (content, buffers) = explorer.sent[-1]
    assert content == {"type": "state", "origin": None, "query": embeddings.ids[3]}
    assert buffers == []
    explorer.selection = [embeddings.ids[9], embeddings.ids[2]]
    assert explorer.selection == [embeddings.ids[2], embeddings.ids[9]]
    content, buffers = explorer.sent[-1]
    assert content == {"type": "state", "origin": None}
    assert rows_of(buffers) == [2, 9]


def test_a_view_is_not_told_what_it_said_but_the_others_are(explorer, embeddings):
    browser(explorer, [np.array([4, 1], "<u4").tobytes()], type="select")
    assert explorer.selection == [embeddings.ids[1], embeddings.ids[4]]
    content, buffers = explorer.sent[-1]
    assert content == {"type": "state", "origin": "v1"}
    assert rows_of(buffers) == [1, 4]


def test_what_an_observer_changes_on_top_is_news_to_the_view_too(explorer, embeddings):
    explorer.observe(lambda change: explorer.set_trait("selection", list(explorer.neighbors)), "query")
    browser(explorer, type="query", id=embeddings.ids[0])
    told = [content for content, _ in explorer.sent if content["type"] == "state"]
    assert {"type": "state", "origin": "v1", "query": embeddings.ids[0]} in told
    assert {"type": "state", "origin": None} in told
    assert set(explorer.selection) == set(explorer.neighbors)


def test_a_hundred_selections_arrive_whole_in_order_and_once(explorer, embeddings):
    heard = []
    explorer.observe(lambda change: heard.append(change["new"]), "selection")
    rng = np.random.default_rng(0)
    wanted = [np.sort(rng.choice(60, rng.integers(1, 60), replace=False)) for _ in range(100)]
    for rows in wanted:
        browser(explorer, [rows.astype("<u4").tobytes()], type="select")
    assert heard == [[embeddings.ids[r] for r in rows] for rows in wanted]


def test_a_new_view_is_told_where_things_stand(explorer, embeddings):
    explorer.query = embeddings.ids[5]
    explorer.selection = embeddings.ids[:2]
    browser(explorer, type="ready")
    content, buffers = explorer.sent[-1]
    assert content == {"type": "state", "view": "v1", "query": embeddings.ids[5], "shown": [0]}
    assert rows_of(buffers) == [0, 1]


def test_a_view_is_told_when_each_of_its_acts_was_heard_and_what_stands_where_that_is_something_else(explorer):
    def told():
        found = [(content, [rows_of(buffers)] if buffers else []) for content, buffers in explorer.sent]
        explorer.sent.clear()
        return found

    ids = explorer.ids
    explorer.query = ids[1]
    told()
    browser(explorer, type="query", act=1, id=ids[2])
    assert told() == [
        ({"type": "state", "origin": "v1", "query": ids[2]}, []),
        ({"type": "state", "view": "v1", "act": 1}, []),
    ]
    browser(explorer, type="query", act=2, id=ids[2])  # somebody else was quicker: nothing changes
    assert told() == [({"type": "state", "view": "v1", "act": 2}, [])]
    browser(explorer, type="query", act=3, id="nobody")
    assert told()[0] == ({"type": "state", "view": "v1", "act": 3, "query": ids[2]}, [])
    browser(explorer, type="show", act=4, maps=[0, 0])
    assert told()[0] == ({"type": "state", "view": "v1", "act": 4, "shown": [0]}, [])
    explorer.observe(lambda change: explorer.set_trait("selection", ids[:1]), "selection")
    browser(explorer, [np.array([4, 5], "<u4").tobytes()], type="select", act=5)
    assert told()[-1] == ({"type": "state", "view": "v1", "act": 5}, [[0]])


def test_a_question_is_answered_to_the_view_that_asked(explorer, embeddings):
    query, *others = embeddings.ids[:3]
    browser(explorer, type="request", name="evidence", serial=8, graph=0, query=query, neighbors=others, method=None)
    content, buffers = explorer.sent[-1]
    assert {key: content[key] for key in ("type", "view", "serial", "ok")} == {
        "type": "reply",
        "view": "v1",
        "serial": 8,
        "ok": True,
    }
    assert [pair["id"] for pair in content["pairs"]] == others
    assert len(buffers) == 1 + 3 * len(others)


def test_errors_are_answered_and_kept_and_nothing_else_breaks(explorer, embeddings):
    browser(explorer, type="request", name="evidence", serial=1, query="nobody", neighbors=[embeddings.ids[0]])
    content, _ = explorer.sent[-1]
    assert not content["ok"]
    assert "'nobody'" in content["error"]
    assert explorer.errors == [content["error"]]
    explorer.observe(lambda change: 1 / 0, "query")
    browser(explorer, type="query", id=embeddings.ids[1])
    assert "ZeroDivisionError" in explorer.errors[-1]
    assert explorer.query == embeddings.ids[1]
    explorer.unobserve_all("query")
    with pytest.raises(InputError, match="No image has the id 'nobody'"):
        explorer.query = "nobody"


def test_pictures_and_bulk_data_are_the_images(explorer, embeddings):
    browser(explorer, type="request", name="picture", serial=2, id=embeddings.ids[4])
    sharp = Image.open(io.BytesIO(explorer.sent[-1][1][0])).convert("RGB")
    offsets = np.frombuffer(explorer._offsets, "<u4")
    small = Image.open(io.BytesIO(explorer._thumbnails[offsets[4] : offsets[5]])).convert("RGB")
    truth = np.asarray(embeddings.images[4], float)
    for picture in (sharp, small):
        assert np.abs(np.asarray(picture, float) - truth).mean() < 12
    other = np.asarray(embeddings.images[5], float)
    assert np.abs(np.asarray(small, float) - other).mean() > 24
    assert len(offsets) == 61
    assert explorer._k == 5
    near = np.frombuffer(explorer._graphs[0]["indices"], "<i4").reshape(60, 5)
    assert [embeddings.ids[row] for row in near[9]] == list(vk.neighbors(embeddings, 9, k=5)["id"])
    cosines = np.frombuffer(explorer._graphs[0]["similarities"], "<f4").reshape(60, 5)
    np.testing.assert_allclose(cosines[9], vk.neighbors(embeddings, 9, k=5)["similarity"], atol=1e-6)


def test_vectors_without_images_or_encoder_are_shown_and_say_what_they_lack():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"id": [f"p{i}" for i in range(8)], "embedding": list(rng.normal(size=(8, 4)))})
    own = vk.Embeddings.from_frame(frame.assign(label=[None, *"aabbccd"]))
    explorer = Recording(own, vk.project(own, method="pca"), 3)
    assert not explorer._graphs[0]["can_explain"]
    assert "came without the network" in explorer._graphs[0]["why_not"]
    assert not explorer._info["has_pictures"]
    browser(explorer, type="query", id="p1")
    assert len(explorer.neighbors) == 3
    label = next(c for c in explorer._columns if c["name"] == "label")
    assert np.frombuffer(label["codes"], "<i4")[0] == -1


def test_a_single_image_has_no_neighbors_and_says_so_kindly():
    own = vk.Embeddings.from_frame(pd.DataFrame({"id": ["only"], "embedding": [[1.0, 2.0]]}))
    explorer = vk.explore(own)
    assert explorer.wait(60)
    explorer.query = "only"
    assert explorer.neighbors == []
    assert np.isnan(np.frombuffer(explorer._maps[0]["kept"], "<f4")).all()


def test_every_view_is_told_when_a_method_was_measured(explorer, embeddings):
    explorer.sent = []
    frame = pd.DataFrame({"measure": ["energy"], "against": ["area share"], "value_low": [0.5]})
    made = {"fingerprint": embeddings.encoder.fingerprint, "center": "none", "encoder": "e"}
    badges.remember(badges.Trust("green", "energy 0.5", "contribution", frame, made))
    assert explorer.sent == [({"type": "measured"}, [])]
    query, *others = embeddings.ids[:3]
    browser(explorer, type="request", name="evidence", serial=8, graph=0, query=query, neighbors=others, method=None)
    assert explorer.sent[-1][0]["trust"] == {"verdict": "green", "reason": "energy 0.5"}
    badges.forget()


def test_what_a_cell_sets_while_a_click_is_answered_is_told_after_it(explorer, embeddings):
    one, other = embeddings.ids[:2]
    cell, send, told = threading.Thread(target=lambda: explorer.set_trait("query", other)), explorer.send, []

    def slowly(content, buffers=None):
        if "act" in content:
            cell.start()
            cell.join(0.3)  # it would get ahead here
        told.append(content)
        send(content, buffers)

    explorer.send = slowly
    browser(explorer, type="query", act=1, id=one)
    cell.join()
    assert told[-2:] == [
        {"type": "state", "view": "v1", "act": 1},
        {"type": "state", "origin": None, "query": other},
    ]


def test_a_layout_of_other_images_is_refused(embeddings):
    other = vk.Embeddings.from_frame(pd.DataFrame({"id": ["a", "b"], "embedding": [[1.0, 2.0], [2.0, 1.0]]}))
    with pytest.raises(InputError, match="layout is of other images"):
        vk.explore(embeddings, vk.project(other, method="pca"))
    turned = vk.Embeddings(-embeddings.vectors[:, ::-1], embeddings.frame)
    with pytest.raises(InputError, match="The layout 'map' is of other vectors of these images than the embeddings"):
        vk.explore(embeddings, vk.project(turned, method="pca"))
    copied = vk.Embeddings(embeddings.vectors.copy(), embeddings.frame)
    vk.explore(copied, vk.project(embeddings, method="pca")).close()
    with pytest.raises(InputError, match="explore takes Embeddings, not Scenes"):
        vk.explore(embeddings.images)
