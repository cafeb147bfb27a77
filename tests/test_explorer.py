"""The Python side of the explorer: traits both ways, messages whole and in order, errors seen."""

import base64
import io
import json
import re
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import vizkit as vk
import vizkit.projection
from vizkit.errors import InputError
from vizkit.faithfulness import share_kept
from vizkit.projection import Frame, unfolding
from vizkit.saliency.questions import explain_many
from vizkit.widgets import explorer as module
from vizkit.widgets import stream, thumbnails
from vizkit.widgets.explorer import Explorer


class Recording(Explorer):
    """Keeps what is sent to the browser."""

    def send(self, content, buffers=None):
        self.__dict__.setdefault("sent", []).append((content, buffers or []))

    def maps(self):
        return [(content["done"], buffers) for content, buffers in self.sent if content["type"] == "map"]


def threads():
    return [t.name for t in threading.enumerate() if t.name.startswith("vizkit-")]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert threads() == []


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory):
    images = vk.scenes("held-out").subset(range(60))
    return vk.embed(images, vk.Encoder("scenes"), cache=tmp_path_factory.mktemp("cache"), progress=False)


@pytest.fixture
def explorer(embeddings):
    shown = Recording(embeddings, vk.project(embeddings, method="pca"), 5)
    until(lambda: not shown._coming)
    yield shown
    shown.close()


def browser(explorer, buffers=(), **content):
    explorer._receive(explorer, {"view": "v1", **content}, [memoryview(b) for b in buffers])


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def rows_of(buffers):
    return np.frombuffer(buffers[0], "<u4").tolist()


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
    assert content == {"type": "state", "origin": None, "query": embeddings.ids[5]}
    assert rows_of(buffers) == [0, 1]


def test_evidence_is_what_the_package_computes(explorer, embeddings):
    query, *others = embeddings.ids[:4]
    browser(explorer, type="request", name="evidence", serial=8, query=query, neighbors=others, method=None)
    content, buffers = explorer.sent[-1]
    images = embeddings.images
    expected = explain_many(embeddings.encoder, images[0], [images[i] for i in (1, 2, 3)])
    assert content["ok"]
    assert content["serial"] == 8
    assert content["method"] == "contribution"
    assert content["measured"] == "not measured"
    assert [p["id"] for p in content["pairs"]] == others
    for i, e in enumerate(expected):
        np.testing.assert_allclose(np.frombuffer(buffers[1 + 3 * i], "<f4"), e.map_a.ravel(), atol=1e-6)
        np.testing.assert_allclose(np.frombuffer(buffers[2 + 3 * i], "<f4"), e.map_b.ravel(), atol=1e-6)
        assert content["pairs"][i]["similarity"] == pytest.approx(e.similarity, abs=1e-6)
    assert content["limit"] == pytest.approx(max(max(e.map_a.max(), e.map_b.max()) for e in expected), abs=1e-6)


def test_a_slow_method_answers_for_one_neighbor_and_names_the_rest(explorer, embeddings):
    query, *others = embeddings.ids[:4]
    browser(explorer, type="request", name="evidence", serial=1, query=query, neighbors=others, method="occlusion")
    content, buffers = explorer.sent[-1]
    assert [p["id"] for p in content["pairs"]] == others[:1]
    assert content["pending"] == others[1:]
    assert len(buffers) == 4
    images = embeddings.images
    expected = vk.explain_pair(embeddings.encoder, images[0], images[1], "occlusion")
    np.testing.assert_allclose(np.frombuffer(buffers[1], "<f4"), expected.map_a.ravel(), atol=1e-6)
    assert content["signed"] == expected.signed


def test_the_page_holds_the_evidence_that_was_asked_for(explorer, embeddings, tmp_path):
    explorer.query = embeddings.ids[2]
    target = explorer.to_html(tmp_path / "study.html", queries=embeddings.ids[:2])
    text = target.read_text()
    study = json.loads(re.search(r'id="vizkit-study">(.*?)</script>', text, re.DOTALL)[1])
    assert list(study["evidence"]) == embeddings.ids[:2]
    assert study["query"] == embeddings.ids[2]
    assert base64.b64decode(study["traits"]["_xy"]["$bytes"]) == explorer._xy
    assert study["traits"]["_info"]["methods"] == [{"name": "contribution", "title": "Contribution (exact)"}]
    assert embeddings.encoder.fingerprint in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
    with pytest.raises(InputError, match="No image has the id 'nobody'"):
        explorer.to_html(tmp_path / "study.html", queries=["nobody"])
    with pytest.raises(InputError, match="queries must be a list of ids"):
        explorer.to_html(tmp_path / "study.html", queries=embeddings.ids[0])
    with pytest.raises(InputError, match="is a folder: name a file in it"):
        explorer.to_html(tmp_path)
    with pytest.raises(InputError, match=r"There is no folder .*missing"):
        explorer.to_html(tmp_path / "missing/study.html")
    assert target.read_text() == text


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
    assert np.frombuffer(explorer._graph, "<i4").reshape(60, 5).shape == (60, explorer._k)


def test_a_second_explorer_reads_no_image_again(explorer, embeddings, monkeypatch):
    monkeypatch.setattr(type(embeddings.images), "read", lambda *_, **__: pytest.fail("an image was read"))
    again = Recording(embeddings, explorer.layout_of_points, 5)
    assert not again._coming
    assert again._thumbnails == explorer._thumbnails
    assert again._offsets == explorer._offsets


def test_columns_hold_the_metadata(explorer, embeddings):
    columns = {c["name"]: c for c in explorer._columns}
    label = columns["label"]
    codes = np.frombuffer(label["codes"], "<i4")
    assert [label["categories"][c] for c in codes] == list(embeddings.frame["label"])
    np.testing.assert_allclose(np.frombuffer(columns["hue"]["values"], "<f4"), embeddings.frame["hue"], rtol=1e-6)
    assert "path" not in columns
    assert columns["neighbors kept"]["kind"] == "number"


def test_vectors_without_images_or_encoder_are_shown_and_say_what_they_lack():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"id": [f"p{i}" for i in range(8)], "embedding": list(rng.normal(size=(8, 4)))})
    own = vk.Embeddings.from_frame(frame.assign(label=[None, *"aabbccd"]))
    explorer = Recording(own, vk.project(own, method="pca"), 3)
    assert not explorer._info["can_explain"]
    assert "came without the network" in explorer._info["why_not"]
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


def test_a_layout_of_other_images_is_refused(embeddings):
    other = vk.Embeddings.from_frame(pd.DataFrame({"id": ["a", "b"], "embedding": [[1.0, 2.0], [2.0, 1.0]]}))
    with pytest.raises(InputError, match="layout is of other images"):
        vk.explore(embeddings, vk.project(other, method="pca"))
    with pytest.raises(InputError, match="explore takes Embeddings, not Scenes"):
        vk.explore(embeddings.images)


@pytest.fixture(scope="module")
def cloud():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 5, 300)
    vectors = rng.normal(size=(5, 16))[group] + 0.5 * rng.normal(size=(300, 16))
    frame = pd.DataFrame({"id": [f"p{i:03d}" for i in range(300)], "label": [f"group {g}" for g in group]})
    return vk.Embeddings.from_frame(frame.assign(embedding=list(vectors.astype(np.float32))))


@pytest.fixture
def every_frame(monkeypatch):
    """Make every epoch a frame, and tell the browser of each."""
    monkeypatch.setattr(vizkit.projection, "_FRAME_SECONDS", 0)
    monkeypatch.setattr(stream, "_SHORTEST_PAUSE", 0)
    monkeypatch.setattr(stream, "_BYTES_A_SECOND", np.inf)


@pytest.fixture
def recorded(monkeypatch):
    monkeypatch.setattr(module, "Explorer", Recording)


def slowly(frames, after=0.3):
    """Take a moment for each frame from some share of the epochs on."""
    for frame in frames:
        yield frame
        if frame.done >= after:
            time.sleep(0.05)


def positions(buffers):
    return np.frombuffer(buffers[0], "<f4").reshape(-1, 2)


def test_without_a_layout_it_opens_on_pca_and_ends_as_project_to_the_byte(cloud, recorded, every_frame):
    heard = []
    explorer = vk.explore(cloud)
    first = explorer._info["note"] if explorer.moving else None
    explorer.observe(lambda change: heard.append((change["new"], explorer.layout_of_points.summary)), "moving")
    assert explorer.wait(60)
    expected = vk.project(cloud)
    assert explorer.layout_of_points.xy.tobytes() == expected.xy.tobytes()
    assert explorer.layout_of_points.kept.tobytes() == expected.kept.tobytes()
    assert explorer.layout_of_points.provenance == expected.provenance
    assert explorer._xy == expected.xy.tobytes()
    assert explorer._info["note"] == expected.summary
    kept = next(c for c in explorer._columns if c["name"] == "neighbors kept")
    np.testing.assert_array_equal(np.frombuffer(kept["values"], "<f4"), expected.kept)
    assert heard == [(False, expected.summary)]
    assert first.startswith("PCA keeps ")
    pca = share_kept(cloud, vk.project(cloud, method="pca").xy)
    assert f"{pca.mean():.0%} of the 15 nearest neighbors (cosine, chance {15 / 299:.1%})" in first
    shares = [done for done, _ in explorer.maps()]
    assert shares[0] == 0
    assert shares[-1] is None
    assert (np.diff(shares[:-1]) >= 0).all()
    assert len(shares) > 100
    moved = [positions(buffers) for _, buffers in explorer.maps() if buffers]
    assert all(np.isfinite(xy).all() and xy.shape == (300, 2) for xy in moved)
    assert explorer.errors == []


def test_while_it_moves_the_layout_is_pcas_and_nothing_measured_is_shown(cloud, recorded, every_frame):
    explorer = Recording(cloud, vk.project(cloud, method="pca"), 5)
    explorer.follow(lambda: slowly(unfolding(cloud)), {})
    until(lambda: explorer._done > 0.3)
    assert explorer.moving
    assert explorer.layout_of_points.provenance["method"] == "pca"
    kept = next(c for c in explorer._columns if c["name"] == "neighbors kept")
    assert np.isnan(np.frombuffer(kept["values"], "<f4")).all()
    explorer.query = cloud.ids[3]
    assert explorer.neighbors == list(vk.neighbors(cloud, cloud.ids[3], k=5)["id"])
    before = len(explorer.sent)
    browser(explorer, type="ready")
    told = next((c, b) for c, b in explorer.sent[before:] if c["type"] == "map" and b)
    assert told[0]["done"] > 0.3
    assert positions(told[1]).shape == (300, 2)
    assert not explorer.wait(0.01)
    explorer.close()
    assert threads() == []


def test_stop_keeps_the_frame_shown_with_its_own_kept_shares(cloud, every_frame):
    explorer = Recording(cloud, vk.project(cloud, method="pca"), 5)
    explorer.follow(lambda: slowly(unfolding(cloud, seed=3)), {"seed": 3})
    until(lambda: explorer._done > 0.3)
    browser(explorer, type="stop")
    assert not explorer.moving
    layout = explorer.layout_of_points
    done, shown = next((d, b) for d, b in reversed(explorer.maps()) if b)
    assert layout.xy.tobytes() == shown[0] == explorer._xy
    assert layout.provenance["stopped"] == done
    assert 0.3 < done < 1
    assert f"stopped at {done:.0%}" in layout.summary
    assert layout.provenance["seed"] == 3
    np.testing.assert_array_equal(layout.kept, share_kept(cloud, layout.xy))
    assert explorer._info["note"] == layout.summary
    assert explorer.maps()[-1] == (None, [])
    assert explorer.wait(0)
    explorer.stop()
    assert explorer.layout_of_points is layout


def test_stopped_before_a_point_has_moved_it_is_still_pca(cloud):
    explorer = Recording(cloud, vk.project(cloud, method="pca"), 5)
    before = explorer.layout_of_points
    explorer.follow(lambda: unfolding(cloud), {}, delay=60)
    explorer.stop()
    assert explorer.layout_of_points is before
    assert not explorer.moving
    assert explorer._info["note"] == before.summary
    explorer.follow(lambda: slowly(unfolding(cloud), after=0), {})
    until(lambda: explorer._shown is not None)
    explorer.stop()
    stopped = explorer.layout_of_points
    assert stopped.provenance["stopped"] is not None
    if stopped.provenance["stopped"] == 0:
        assert stopped.summary.startswith("PCA")


def test_what_goes_wrong_while_unfolding_is_shown_and_kept_and_the_points_go_back(cloud, every_frame):
    def broken():
        for frame in unfolding(cloud):
            if frame.done > 0.2:
                raise ZeroDivisionError("no such luck")
            yield frame

    explorer = Recording(cloud, vk.project(cloud, method="pca"), 5)
    before = explorer.layout_of_points
    explorer.follow(broken, {})
    assert explorer.wait(60)
    assert explorer.errors == ["ZeroDivisionError: no such luck"]
    assert ({"type": "problem", "error": explorer.errors[0]}, []) in explorer.sent
    assert explorer.layout_of_points is before
    assert explorer.maps()[-1] == (None, [before.xy.tobytes()])
    explorer.follow(lambda: unfolding(cloud, min_dist=7), {"min_dist": 7})
    assert explorer.wait(60)
    assert "min_dist is 7" in explorer.errors[-1]


def test_another_map_ends_the_one_that_unfolds_and_holds_the_points_until_it_has_a_shape(cloud, every_frame):
    explorer = Recording(cloud, vk.project(cloud, method="pca"), 5)
    closed = []

    def endless():
        try:
            while True:
                yield Frame(np.zeros((300, 2), np.float32), 0.5)
                time.sleep(0.01)
        finally:
            closed.append(True)

    explorer.follow(endless, {})
    until(lambda: explorer._done == 0.5)
    before = len(explorer.sent)
    explorer.follow(lambda: unfolding(cloud, n_neighbors=5), {"n_neighbors": 5}, hold=0.15)
    assert explorer.wait(60)
    assert closed == [True]
    expected = vk.project(cloud, n_neighbors=5)
    assert explorer.layout_of_points.xy.tobytes() == expected.xy.tobytes()
    told = [(c["done"], bool(b)) for c, b in explorer.sent[before:] if c["type"] == "map" and c["done"] is not None]
    assert all(moved == (done >= 0.15) for done, moved in told if done != 0.5)
    assert {moved for _, moved in told} == {False, True}


def test_two_explorers_unfold_at_once_each_to_its_own_map(cloud):
    other = vk.Embeddings.from_frame(
        pd.DataFrame({"id": cloud.ids, "embedding": list(np.random.default_rng(5).normal(size=(300, 8)))})
    )
    both = [vk.explore(cloud), vk.explore(other)]
    assert all(explorer.wait(60) for explorer in both)
    for explorer, embeddings in zip(both, (cloud, other), strict=True):
        assert explorer.layout_of_points.xy.tobytes() == vk.project(embeddings).xy.tobytes()


def test_frames_are_told_some_ten_times_a_second_at_most(cloud):
    explorer = Recording(cloud, vk.project(cloud, method="pca"), 5)
    xy = explorer.layout_of_points.xy

    def many():
        for i in range(300):
            yield Frame(xy, i / 300)
            time.sleep(0.002)
        yield Frame(xy, 1.0)

    start = time.monotonic()
    explorer.follow(many, {})
    assert explorer.wait(60)
    assert 3 <= len(explorer.maps()) <= (time.monotonic() - start) / 0.1 + 4


def test_an_interrupted_wait_stops_the_map(cloud, every_frame):
    explorer = Recording(cloud, vk.project(cloud, method="pca"), 5)
    explorer.follow(lambda: slowly(unfolding(cloud)), {})
    until(lambda: explorer._done > 0.3)
    timer = threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        explorer.wait()
    timer.join()
    assert not explorer.moving
    assert explorer.layout_of_points.provenance["stopped"] > 0.3


def test_the_page_holds_the_finished_map(cloud, tmp_path):
    text = vk.explore(cloud).to_html(tmp_path / "study.html").read_text()
    study = json.loads(re.search(r'id="vizkit-study">(.*?)</script>', text, re.DOTALL)[1])
    expected = vk.project(cloud)
    assert base64.b64decode(study["traits"]["_xy"]["$bytes"]) == expected.xy.tobytes()
    assert study["traits"]["_info"]["note"] == expected.summary


AT_EXIT = """
import time
import numpy as np, pandas as pd
import vizkit as vk
from IPython.core.interactiveshell import InteractiveShell
from vizkit.projection import Frame

vectors = np.random.default_rng(0).normal(size=(30, 4))
own = vk.Embeddings.from_frame(pd.DataFrame({"id": [f"p{i}" for i in range(30)], "embedding": list(vectors)}))
shell = InteractiveShell.instance()

def endless(name):
    try:
        while True:
            yield Frame(vectors[:, :2].astype(np.float32), 0.5)
            time.sleep(0.01)
    finally:
        print(name, "closed", flush=True)

explorer = vk.explore(own, vk.project(own, method="pca"))
explorer.follow(lambda: endless("first"), {})
while explorer._shown is None:
    time.sleep(0.01)
shell.run_cell("1 / 1", silent=True)
print("moving", explorer.moving)
shell.run_cell("raise KeyboardInterrupt")
print("moving", explorer.moving, explorer.layout_of_points.provenance["stopped"])
explorer.follow(lambda: endless("second"), {})
"""


def test_an_interrupted_cell_and_the_end_of_the_interpreter_end_the_thread():
    done = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, text=True, timeout=120, check=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith(("first", "moving", "second"))]
    assert lines == ["moving True", "first closed", "moving False 0.5", "second closed"]
    assert done.stderr == ""


@pytest.fixture
def unmade(monkeypatch):
    """Forget every thumbnail, and make new ones two at a time, a moment for each, telling of all."""
    monkeypatch.setattr(thumbnails, "_kept", WeakKeyDictionary())
    monkeypatch.setattr(thumbnails, "_AT_ONCE", 2)
    monkeypatch.setattr(stream, "_SHORTEST_PAUSE", 0)
    read, reads = vk.synthetic.Scenes.read, []

    def slowly(self, row, **options):
        reads.append(row)
        time.sleep(0.01)
        return read(self, row, **options)

    monkeypatch.setattr(vk.synthetic.Scenes, "read", slowly)
    return reads


def parts(explorer):
    """Return the thumbnails sent so far, as (view, done, {row: file})."""
    found = []
    for content, buffers in getattr(explorer, "sent", []):
        if content["type"] == "thumbnails":
            rows, offsets = (np.frombuffer(b, "<u4").tolist() for b in buffers[:2])
            files = {row: buffers[2][a:b] for row, (a, b) in zip(rows, pairwise(offsets), strict=True)}
            found.append((content["view"], content["done"], files))
    return found


def expected_thumbnails(embeddings):
    return [thumbnails.webp(image, 64, quality=75) for image in embeddings.images]


def files_in(data, offsets):
    places = np.frombuffer(offsets, "<u4")
    return [data[a:b] for a, b in pairwise(places)]


def test_thumbnails_come_in_parts_behind_the_map_and_end_as_if_made_in_one_go(embeddings, unmade):
    explorer = Recording(embeddings, vk.project(embeddings, method="pca"), 5)
    assert explorer._coming
    until(lambda: not explorer._coming)
    told, expected = parts(explorer), expected_thumbnails(embeddings)
    assert len(told) > 5
    assert {view for view, _, _ in told} == {None}
    rows = [row for _, _, files in told for row in files]
    assert len(rows) == len(set(rows))
    assert np.median(rows) == pytest.approx(30, abs=12)  # spread over the set from the beginning
    assert np.ptp(rows[:10]) > 30
    assert all(file == expected[row] for _, _, files in told for row, file in files.items())
    shares = [done for _, done, _ in told]
    assert shares == sorted(shares)
    assert 0 < shares[0] < 1
    assert files_in(explorer._thumbnails, explorer._offsets) == expected
    assert sorted(unmade[:60]) == list(range(60))
    assert explorer.errors == []
    explorer.close()


def test_a_view_that_opens_meanwhile_is_sent_all_that_the_others_have(embeddings, unmade):
    explorer = Recording(embeddings, vk.project(embeddings, method="pca"), 5)
    until(lambda: len(parts(explorer)) > 3)
    browser(explorer, type="ready")
    until(lambda: not explorer._coming)
    told = parts(explorer)
    at = next(i for i, (view, _, _) in enumerate(told) if view == "v1")
    mine, before = told[at][2], {row for _, _, files in told[: at - 1] for row in files}
    after = {row for view, _, files in told[at:] if view is None for row in files}
    expected = expected_thumbnails(embeddings)
    assert before <= set(mine)
    assert all(mine[row] == expected[row] for row in mine)
    everything = {row for view, _, files in told if view is None for row in files}
    assert set(mine) | after >= everything
    explorer.close()


def test_closed_in_the_middle_it_stops_and_the_next_explorer_makes_the_rest(embeddings, unmade):
    explorer = Recording(embeddings, vk.project(embeddings, method="pca"), 5)
    until(lambda: len(parts(explorer)) > 3)
    explorer.close()
    assert threads() == []
    made, said = len(unmade), len(explorer.sent)
    assert made < 60
    time.sleep(0.1)
    assert (len(unmade), len(explorer.sent)) == (made, said)
    again = Recording(embeddings, explorer.layout_of_points, 5)
    assert sum(map(bool, files_in(again._thumbnails, again._offsets))) >= made - 2
    until(lambda: not again._coming)
    assert sorted(unmade) == list(range(60))
    assert files_in(again._thumbnails, again._offsets) == expected_thumbnails(embeddings)
    again.close()


def test_two_explorers_share_the_work_and_a_page_waits_for_all(embeddings, unmade, tmp_path):
    layout = vk.project(embeddings, method="pca")
    both = [Recording(embeddings, layout, 5) for _ in range(2)]
    text = both[0].to_html(tmp_path / "study.html", queries=[]).read_text()
    until(lambda: not both[0]._coming and not both[1]._coming)
    assert sorted(unmade) == list(range(60))
    study = json.loads(re.search(r'id="vizkit-study">(.*?)</script>', text, re.DOTALL)[1])
    in_page = [base64.b64decode(study["traits"][name]["$bytes"]) for name in ("_thumbnails", "_offsets")]
    assert files_in(*in_page) == expected_thumbnails(embeddings)
    for explorer in both:
        assert files_in(explorer._thumbnails, explorer._offsets) == expected_thumbnails(embeddings)
        explorer.close()


def test_the_pictures_of_a_query_are_made_before_the_others(embeddings, unmade):
    found = thumbnails.thumbnails_of(embeddings)
    explorer = Recording(embeddings, vk.project(embeddings, method="pca"), 5)
    until(lambda: found.log)
    explorer.query = embeddings.ids[next(row for row in range(60) if row not in found.log)]
    shown = {embeddings.row(id) for id in (explorer.query, *explorer.neighbors)}
    begun = len(found.log)
    until(lambda: shown <= set(found.log))
    assert len(found.log) <= begun + 2 * len(shown)
    explorer.close()


def test_a_file_that_cannot_be_read_has_no_thumbnail_and_stops_no_other(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(rng.integers(0, 255, (90, 120, 3), np.uint8)).save(tmp_path / f"{i}.png")
    whole = (tmp_path / "2.png").read_bytes()
    images = vk.ImageSet.from_folder(tmp_path)
    (tmp_path / "2.png").write_bytes(whole[: len(whole) // 2])
    found = thumbnails.Thumbnails(images, [*images.ids, "nowhere.png"])
    found.finish()
    files = files_in(*found.all())
    assert [bool(file) for file in files] == [True, True, False, True, True, True, False]
    assert files[4] == thumbnails.webp(images[4], 64, quality=75)


def test_a_users_dataset_is_read_in_the_users_thread_alone(embeddings, tmp_path):
    readers = set()

    class Dataset:
        def __len__(self):
            return 12

        def __getitem__(self, i):
            readers.add(threading.current_thread().name)
            return embeddings.images[i], 0

    images = vk.ImageSet.from_dataset(Dataset())
    own = vk.embed(images, embeddings.encoder, cache=tmp_path, progress=False)
    readers.clear()
    explorer = Recording(own, vk.project(own, method="pca"), 3)
    assert readers == {threading.main_thread().name}
    assert not explorer._coming
    assert files_in(explorer._thumbnails, explorer._offsets) == expected_thumbnails(embeddings)[:12]
    assert parts(explorer) == []


PICTURES_AT_EXIT = """
import time
import vizkit as vk
from IPython.core.interactiveshell import InteractiveShell
from vizkit.widgets.explorer import Explorer

images = vk.scenes("held-out").subset(range(200))
own = vk.embed(images, vk.Encoder("scenes"), cache={cache!r}, progress=False)
layout = vk.project(own, method="pca")
shell = InteractiveShell.instance()
read = vk.synthetic.Scenes.read
def slowly(self, row, **options):
    time.sleep(0.02)
    return read(self, row, **options)
vk.synthetic.Scenes.read = slowly

first = Explorer(own, layout, 5)
while not first._thumbs.log:
    time.sleep(0.01)
shell.run_cell("raise KeyboardInterrupt")
made = len(first._thumbs.log)
print("after", first._coming, 0 < made < 200, len(first._offsets) // 4 - 1, len(first._thumbnails) > 100 * made)
second = Explorer(own, layout, 5)
time.sleep(0.1)
print("after", second._coming, second._feed._stream.join(0))
"""


def test_an_interrupted_cell_and_the_end_of_the_interpreter_end_the_making_of_thumbnails(embeddings, tmp_path):
    code = PICTURES_AT_EXIT.format(cache=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("after")]
    assert lines == ["after False True 200 True", "after True False"]
    assert done.stderr == ""
