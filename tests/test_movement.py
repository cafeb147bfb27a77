"""Maps that unfold behind an explorer: what is shown, when they stand, and what ends them."""

import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest
from recording import Recording, browser, positions, threads, until

import vizkit as vk
import vizkit.projection
from vizkit.faithfulness import share_kept
from vizkit.projection import Frame, unfolding
from vizkit.widgets import explorer as module
from vizkit.widgets import stream

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


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


def test_without_a_layout_it_opens_on_pca_and_ends_as_project_to_the_byte(cloud, recorded, every_frame):
    heard = []
    explorer = vk.explore(cloud)
    first = explorer._maps[0]["note"] if explorer.moving else None
    explorer.observe(lambda change: heard.append((change["new"], explorer.layout_of_points.summary)), "moving")
    assert explorer.wait(60)
    expected = vk.project(cloud)
    assert explorer.layout_of_points.xy.tobytes() == expected.xy.tobytes()
    assert explorer.layout_of_points.kept.tobytes() == expected.kept.tobytes()
    assert explorer.layout_of_points.provenance == expected.provenance
    assert explorer._maps[0]["xy"] == expected.xy.tobytes()
    assert explorer._maps[0]["note"] == expected.summary
    np.testing.assert_array_equal(np.frombuffer(explorer._maps[0]["kept"], "<f4"), expected.kept)
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
    until(lambda: explorer.done > 0.3)
    assert explorer.moving
    assert explorer.layout_of_points.provenance["method"] == "pca"
    assert np.isnan(np.frombuffer(explorer._maps[0]["kept"], "<f4")).all()
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
    until(lambda: explorer.done > 0.3)
    browser(explorer, type="stop")
    assert not explorer.moving
    layout = explorer.layout_of_points
    done, shown = next((d, b) for d, b in reversed(explorer.maps()) if b)
    assert layout.xy.tobytes() == shown[0] == explorer._maps[0]["xy"]
    assert layout.provenance["stopped"] == done
    assert 0.3 < done < 1
    assert f"stopped at {done:.0%}" in layout.summary
    assert layout.provenance["seed"] == 3
    np.testing.assert_array_equal(layout.kept, share_kept(cloud, layout.xy))
    assert explorer._maps[0]["note"] == layout.summary
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
    assert explorer._maps[0]["note"] == before.summary
    explorer.follow(lambda: slowly(unfolding(cloud), after=0), {})
    until(lambda: explorer.on_screen is not None)
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
    until(lambda: explorer.done == 0.5)
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
    until(lambda: explorer.done > 0.3)
    timer = threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        explorer.wait()
    timer.join()
    assert not explorer.moving
    assert explorer.layout_of_points.provenance["stopped"] > 0.3


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
while explorer._movement.under_way()[0][2] is None:
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
