"""The panel: what it shows is what its line of code makes, and its numbers can be compared."""

import threading
import time

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import NearestNeighbors

import vizkit as vk
from vizkit.errors import InputError
from vizkit.nearest import NearestRows
from vizkit.projection import Frame, unfolding
from vizkit.widgets import map_panel


@pytest.fixture(scope="module")
def cloud():
    rng = np.random.default_rng(1)
    group = rng.integers(0, 4, 200)
    vectors = (rng.normal(size=(4, 12))[group] + 0.6 * rng.normal(size=(200, 12))).astype(np.float32)
    return vk.Embeddings.from_frame(pd.DataFrame({"id": [f"p{i}" for i in range(200)], "embedding": list(vectors)}))


@pytest.fixture
def panel(cloud):
    shown = vk.tune_map(cloud)
    yield shown
    shown.close()
    assert [t.name for t in threading.enumerate() if t.name == "vizkit-map"] == []


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def control(panel, name):
    return panel._controls[name]


def made_by_its_line(panel, embeddings):
    line = panel._code.value.split("<code>")[1].split("</code>")[0]
    return line, eval(line, {"vk": vk, "embeddings": embeddings})


def test_what_is_shown_is_what_the_line_of_code_makes(panel, cloud):
    assert panel.wait(60)
    line, layout = made_by_its_line(panel, cloud)
    assert line == "vk.project(embeddings)"
    assert panel.layout_of_points.xy.tobytes() == layout.xy.tobytes() == panel.explorer._maps[0]["xy"]
    for name, value in {"n_neighbors": 30, "min_dist": 0.25, "metric": "euclidean", "seed": 4}.items():
        control(panel, name).value = value
    assert panel.wait(60)
    line, layout = made_by_its_line(panel, cloud)
    assert line == "vk.project(embeddings, n_neighbors=30, min_dist=0.25, metric='euclidean', seed=4)"
    assert panel.layout_of_points.xy.tobytes() == layout.xy.tobytes() == panel.explorer._maps[0]["xy"]
    assert panel.parameters == dict(n_neighbors=30, min_dist=0.25, metric="euclidean", densmap=False, seed=4)
    assert vk.project(cloud, **panel.parameters).xy.tobytes() == layout.xy.tobytes()
    control(panel, "densmap").value = True
    assert panel.wait(60)
    line, layout = made_by_its_line(panel, cloud)
    assert "densmap=True" in line
    assert panel.layout_of_points.xy.tobytes() == layout.xy.tobytes()
    assert panel.explorer.errors == []


def test_quick_changes_end_in_the_last_and_only_finished_maps_are_history(panel):
    assert panel.wait(60)
    for value in (2, 3, 4, 5, 7, 10):
        control(panel, "n_neighbors").value = value
        time.sleep(0.02)
    assert panel.wait(60)
    assert panel.parameters["n_neighbors"] == 10
    assert list(panel.history["n_neighbors"]) == [15, 10]
    control(panel, "n_neighbors").value = 15
    assert panel.wait(60)
    assert list(panel.history["n_neighbors"]) == [10, 15]
    assert panel._table.value.count("<tr>") == 3


def overlap(vectors, xy, k=15, **how):
    """Return the share of each point's k nearest in `vectors` that are among its k nearest on the map."""
    true = NearestNeighbors(n_neighbors=k, **how).fit(vectors).kneighbors(return_distance=False)
    near = NearestNeighbors(n_neighbors=k).fit(xy).kneighbors(return_distance=False)
    return np.array([len(set(a) & set(b)) / k for a, b in zip(true, near, strict=True)])


def test_the_history_asks_every_map_for_the_same_15_neighbors(panel, cloud):
    assert panel.wait(60)
    control(panel, "n_neighbors").value = 50
    assert panel.wait(60)
    wide = panel.layout_of_points
    control(panel, "metric").value = "euclidean"
    assert panel.wait(60)
    euclidean = panel.layout_of_points
    rows = panel.history.set_index(["n_neighbors", "metric"])
    for row, found in (
        (rows.loc[(50, "cosine")], overlap(cloud.vectors, wide.xy, metric="cosine", algorithm="brute")),
        (rows.loc[(50, "euclidean")], overlap(cloud.vectors, euclidean.xy)),
    ):
        assert row["kept"] == pytest.approx(found.mean(), abs=1e-6)
        assert row["plus_or_minus"] == pytest.approx(2 * found.std(ddof=1) / np.sqrt(200), abs=1e-6)
        assert row["chance"] == pytest.approx(15 / 199)
    shown = panel._table.value
    row = rows.loc[(50, "cosine")]
    assert f"{row['kept']:.1%} ± {100 * row['plus_or_minus']:.1f}" in shown
    assert "7.5%" in shown


def test_the_graph_is_computed_once_for_all_positions_of_the_slider(monkeypatch):
    counted = []
    graph = NearestRows.graph
    monkeypatch.setattr(NearestRows, "graph", lambda self, *a, **b: counted.append(self.metric) or graph(self, *a, **b))
    vectors = np.random.default_rng(2).normal(size=(80, 6))
    own = vk.Embeddings.from_frame(pd.DataFrame({"id": [f"p{i}" for i in range(80)], "embedding": list(vectors)}))
    panel = vk.tune_map(own)
    for value in (5, 50, 30):
        control(panel, "n_neighbors").value = value
        assert panel.wait(60)
    assert counted == ["cosine"]
    for value in (5, 50):
        control(panel, "metric").value = "euclidean"
        control(panel, "n_neighbors").value = value
        assert panel.wait(60)
    assert counted == ["cosine", "euclidean"]
    panel.close()


def test_a_stopped_map_is_not_history_and_says_that_its_line_makes_more(cloud, monkeypatch):
    def slow(embeddings, **parameters):
        for frame in unfolding(embeddings, **parameters):
            if frame.done < 1:
                yield Frame(frame.xy, max(frame.done, 0.4))
            while parameters["n_neighbors"] == 5:
                time.sleep(0.01)
                yield Frame(frame.xy, 0.4)
            if frame.done == 1:
                yield frame

    monkeypatch.setattr(map_panel, "unfolding", slow)
    panel = vk.tune_map(cloud)
    assert panel.wait(60)
    control(panel, "n_neighbors").value = 5
    until(lambda: any(done == 0.4 for _, done, _ in panel.explorer._movement.under_way()))
    assert "n_neighbors=5" in panel._code.value
    assert "unfolding" in panel._code.value
    panel.stop()
    assert panel.layout_of_points.provenance["stopped"] == 0.4
    assert panel.parameters["n_neighbors"] == 5
    assert "stopped at 40%" in panel._code.value
    assert list(panel.history["n_neighbors"]) == [15]
    panel.close()
    assert [t.name for t in threading.enumerate() if t.name == "vizkit-map"] == []


def test_query_and_selection_stay_while_the_map_changes(panel, cloud):
    panel.explorer.query = cloud.ids[3]
    panel.explorer.selection = cloud.ids[:5]
    control(panel, "min_dist").value = 0.5
    assert panel.wait(60)
    assert panel.explorer.query == cloud.ids[3]
    assert panel.explorer.selection == sorted(cloud.ids[:5], key=cloud.ids.index)


@pytest.mark.parametrize("n", [4, 6])
def test_few_points_have_few_neighbors_to_choose_from(n):
    vectors = np.random.default_rng(3).normal(size=(n, 5))
    own = vk.Embeddings.from_frame(pd.DataFrame({"id": [f"p{i}" for i in range(n)], "embedding": list(vectors)}))
    panel = vk.tune_map(own)
    assert max(control(panel, "n_neighbors").options) == n - 1
    assert panel.wait(60)
    assert vk.project(own, **panel.parameters).xy.tobytes() == panel.layout_of_points.xy.tobytes()
    assert panel.explorer.errors == []
    panel.close()


def test_too_few_points_other_things_and_equal_points_are_met_with_a_sentence():
    def own(vectors):
        ids = [f"p{i}" for i in range(len(vectors))]
        return vk.Embeddings.from_frame(pd.DataFrame({"id": ids, "embedding": list(vectors)}))

    with pytest.raises(InputError, match="There are 3 points, and a map with parameters needs 4 or more"):
        vk.tune_map(own(np.eye(3)))
    with pytest.raises(InputError, match="There is 1 point, and a map"):
        vk.tune_map(own(np.eye(1)))
    with pytest.raises(InputError, match="tune_map takes Embeddings, not list"):
        vk.tune_map([1, 2])
    with pytest.raises(InputError, match="k is 0; expected"):
        vk.tune_map(own(np.eye(5)), k=0)
    panel = vk.tune_map(own(np.ones((9, 4))))
    assert panel.wait(60)
    assert panel.explorer.errors == []
    assert panel.layout_of_points.provenance["method"] == "pca"
    assert panel.history.empty
    panel.close()
