"""Several maps in one explorer: layers, encoders or layouts of the same images."""

import time

import numpy as np
import pandas as pd
import pytest
from recording import Recording, browser, positions, until
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestNeighbors

import vizkit as vk
from vizkit.errors import InputError
from vizkit.projection import Frame, unfolding
from vizkit.widgets import maps, stream

N = 150


pytestmark = pytest.mark.usefixtures("no_thread_is_left")


def made(seed, n=N, d=12, **columns):
    rng = np.random.default_rng(seed)
    vectors = (rng.normal(size=(5, d))[rng.integers(0, 5, n)] + 0.6 * rng.normal(size=(n, d))).astype(np.float32)
    frame = pd.DataFrame({"id": [f"p{i:03d}" for i in range(n)]} | columns)
    return vk.Embeddings.from_frame(frame.assign(embedding=list(vectors)))


@pytest.fixture(scope="module")
def spaces():
    return {"early": made(0), "middle": made(1), "late": made(2)}


@pytest.fixture(scope="module")
def still(spaces):
    """Layouts that need no unfolding."""
    return {name: vk.project(one, method="pca") for name, one in spaces.items()}


@pytest.fixture
def gates(monkeypatch):
    """Let UMAP pause after its first frames, for each of the embeddings until its gate is opened."""
    monkeypatch.setattr(stream, "_SHORTEST_PAUSE", 0)
    opened, begun = set(), []

    def gated(embeddings, **parameters):
        frames = unfolding(embeddings, **parameters)
        yield next(frames)
        begun.append(embeddings)
        while embeddings not in opened:
            time.sleep(0.002)
            yield Frame(vk.project(embeddings, method="pca").xy, 0.5)
        yield from frames

    monkeypatch.setattr(maps, "unfolding", gated)
    return opened, begun


def overlap(near, other):
    return np.array([len(set(a) & set(b)) / len(a) for a, b in zip(near, other, strict=True)])


def nearest(vectors, k, **how):
    return NearestNeighbors(n_neighbors=k, **how).fit(vectors).kneighbors(return_distance=False)


def test_every_space_gets_the_map_that_project_gives_and_neighbors_of_its_own(spaces):
    explorer = Recording(spaces, None, 6)
    heard = []
    explorer.observe(lambda change: heard.append(change["new"]), "moving")
    assert explorer.moving
    assert explorer.wait(60)
    assert heard == [False]
    assert [one["name"] for one in explorer._maps] == ["early", "middle", "late"]
    assert [one["graph"] for one in explorer._maps] == [0, 1, 2]
    for at, (name, embeddings) in enumerate(spaces.items()):
        expected = vk.project(embeddings)
        assert explorer.layouts[name].xy.tobytes() == expected.xy.tobytes() == explorer._maps[at]["xy"]
        assert explorer._maps[at]["note"] == expected.summary
        assert explorer._maps[at]["kept"] == expected.kept.tobytes()
        near = np.frombuffer(explorer._graphs[at]["indices"], "<i4").reshape(N, 6)
        assert [embeddings.ids[row] for row in near[7]] == list(vk.neighbors(embeddings, 7, k=6)["id"])
        assert explorer.maps(at)[0][0] == 0
        assert explorer.maps(at)[-1][0] is None
    assert explorer.errors == []


def test_several_layouts_of_one_set_share_its_graph(spaces):
    one = spaces["early"]
    layouts = {"PCA": vk.project(one, method="pca"), "tight": vk.project(one, n_neighbors=5)}
    explorer = Recording(one, layouts, 4)
    assert not explorer.moving
    assert len(explorer._graphs) == 1
    assert [(m["name"], m["graph"], m["note"]) for m in explorer._maps] == [
        (name, 0, layout.summary) for name, layout in layouts.items()
    ]
    assert explorer.layouts == layouts
    third = dict.fromkeys("abc", layouts["PCA"]) | {"b": vk.project(spaces["late"], method="pca")}
    again = Recording({"a": one, "b": spaces["late"], "c": one}, third, 4)
    assert [m["graph"] for m in again._maps] == [0, 1, 0]


def test_neighbors_follow_the_map_that_is_shown_first(spaces, still):
    explorer = Recording(spaces, still, 6)
    assert explorer.shown == ["early"]
    explorer.query = "p007"
    assert explorer.neighbors == list(vk.neighbors(spaces["early"], "p007", k=6)["id"])
    explorer.shown = ["late", "early"]
    assert explorer.neighbors == list(vk.neighbors(spaces["late"], "p007", k=6)["id"])
    assert explorer.embeddings is spaces["late"]
    assert explorer.layout_of_points is still["late"]
    assert explorer.sent[-1] == ({"type": "state", "origin": None, "shown": [2, 0]}, [])


def test_a_view_shows_other_maps_and_all_others_hear_it(spaces, still):
    explorer = Recording(spaces, still, 6)
    heard = []
    explorer.observe(lambda change: heard.append(change["new"]), "shown")
    browser(explorer, type="show", maps=[1, 2])
    assert heard == [["middle", "late"]]
    assert explorer.sent[-1] == ({"type": "state", "origin": "v1", "shown": [1, 2]}, [])
    browser(explorer, type="ready")
    assert explorer.sent[-1][0]["shown"] == [1, 2]


@pytest.mark.parametrize(
    ("shown", "match"),
    [
        (["nowhere"], "There is no map 'nowhere'; there are 'early', 'middle', 'late'"),
        (["lat"], "Closest: 'late'"),
        ([], "expected the name of one map, or of two different ones"),
        (["late", "late"], "of two different ones"),
        (["late", "early", "middle"], "of two different ones"),
    ],
)
def test_what_cannot_be_shown_is_refused_and_nothing_changes(spaces, still, shown, match):
    explorer = Recording(spaces, still, 6)
    with pytest.raises(InputError, match=match):
        explorer.shown = shown
    assert explorer.shown == ["early"]


def test_a_map_on_the_screen_goes_first_and_the_others_go_on_where_they_were(spaces, gates):
    opened, begun = gates
    explorer = Recording(spaces, None, 6)
    stood = []
    explorer.observe(lambda _: stood.append([not one.moving for one in explorer._atlas.maps]), "_maps")
    until(lambda: explorer.maps(0)[-1][0] == 0.5)
    explorer.shown = ["late"]
    until(lambda: explorer.maps(2)[-1][0] == 0.5)
    opened.update(spaces.values())
    assert explorer.wait(60)
    assert stood == [[False, False, True], [True, False, True], [True, True, True]]
    assert begun == [spaces["early"], spaces["late"], spaces["middle"]]  # each once: none began again
    assert explorer.layouts["early"].xy.tobytes() == vk.project(spaces["early"]).xy.tobytes()


def test_a_view_that_opens_meanwhile_hears_of_every_map_that_moves_or_waits(spaces, gates):
    explorer = Recording(spaces, None, 6)
    until(lambda: explorer.on_screen is not None)
    before = len(explorer.sent)
    browser(explorer, type="ready")
    told = {c["map"]: (c["done"], b) for c, b in explorer.sent[before:] if c["type"] == "map"}
    assert told[0][0] == 0.5
    assert positions(told[0][1]).shape == (N, 2)
    assert told[1] == told[2] == (0.0, [])
    explorer.close()
    assert not explorer.moving


def test_stop_in_a_view_ends_one_map_and_stop_in_python_all(spaces, gates):
    opened, _ = gates
    explorer = Recording(spaces, None, 6)
    until(lambda: explorer.on_screen is not None)
    browser(explorer, type="stop", map=0)
    assert explorer.layouts["early"].provenance["stopped"] == 0.5
    assert explorer.moving
    assert explorer.maps(0)[-1][0] is None
    opened.add(spaces["middle"])
    until(lambda: explorer.layouts["middle"].provenance["method"] == "umap")
    explorer.stop()
    assert not explorer.moving
    assert explorer.layouts["middle"].xy.tobytes() == vk.project(spaces["middle"]).xy.tobytes()
    assert explorer.layouts["late"].summary.startswith("PCA")


def test_a_map_that_fails_stays_as_it_was_and_the_others_are_finished(spaces, gates, monkeypatch):
    gates[0].update(spaces.values())
    gated = maps.unfolding

    def broken(embeddings, **parameters):
        frames = gated(embeddings, **parameters)
        yield next(frames)
        if embeddings is spaces["middle"]:
            raise ZeroDivisionError("no such luck")
        yield from frames

    monkeypatch.setattr(maps, "unfolding", broken)
    explorer = Recording(spaces, None, 6)
    assert explorer.wait(60)
    assert explorer.errors == ["ZeroDivisionError: no such luck"]
    assert [layout.provenance["method"] for layout in explorer.layouts.values()] == ["umap", "pca", "umap"]
    assert explorer.maps(1)[-1] == (None, [explorer.layouts["middle"].xy.tobytes()])


def test_when_views_cannot_be_told_all_maps_stay_as_they_were(spaces, gates, monkeypatch):
    send = Recording.send

    def torn(self, content, buffers=None):
        if content.get("done") == 0.5:
            raise OSError("the line is down")
        send(self, content, buffers)

    monkeypatch.setattr(Recording, "send", torn)
    explorer = Recording(spaces, None, 6)
    assert explorer.wait(60)
    assert not explorer.moving
    assert explorer.errors == ["OSError: the line is down"]
    assert {layout.provenance["method"] for layout in explorer.layouts.values()} == {"pca"}
    assert not np.isnan(np.frombuffer(explorer._maps[2]["kept"], "<f4")).any()


def ask(explorer, **question):
    browser(explorer, type="request", serial=1, **question)
    content, buffers = explorer.sent[-1]
    assert content["ok"], content
    return content, np.frombuffer(buffers[0], "<f4")


def test_similarities_are_the_cosines_of_the_space_that_is_asked(spaces, still):
    explorer = Recording(spaces, still, 6)
    for graph, one in enumerate(spaces.values()):
        _, found = ask(explorer, name="similarities", graph=graph, query="p004")
        np.testing.assert_allclose(found, cosine_similarity(one.vectors[4:5], one.vectors)[0], atol=1e-6)
    browser(explorer, type="request", serial=2, name="similarities", graph=0, query="nobody")
    assert "'nobody'" in explorer.sent[-1][0]["error"]


def test_an_added_image_has_similarities_and_neighbors_in_every_space(tmp_path):
    images = vk.scenes("held-out")
    layers = ["layer2", "layer4"]
    encoder = vk.Encoder("scenes")
    spaces = vk.embed(images.subset(range(40)), encoder, layers=layers, cache=tmp_path, progress=False)
    explorer = Recording(spaces, {name: vk.project(one, method="pca") for name, one in spaces.items()}, 5)
    until(lambda: not explorer._coming)
    explorer.query = explorer.add(images[50], "fifty")
    alone = vk.embed(images.subset([50]), encoder, layers=layers, cache=tmp_path, progress=False)
    for graph, name in enumerate(layers):
        expected = cosine_similarity(alone[name].vectors, spaces[name].vectors)[0]
        _, found = ask(explorer, name="similarities", graph=graph, query="fifty")
        np.testing.assert_allclose(found, expected, atol=1e-4)
        explorer.shown = [name]
        assert explorer.neighbors == [explorer.ids[row] for row in np.argsort(-expected)[:5]]
    before = len(explorer.sent)
    browser(explorer, type="ready")
    assert [c["type"] for c, _ in explorer.sent[before:]] == ["guest", "state"]
    explorer.close()


def test_change_between_spaces_is_of_the_true_neighbors(spaces, still):
    explorer = Recording(spaces, still, 6)
    content, found = ask(explorer, name="change", a=0, b=2)
    near = [nearest(spaces[name].vectors, 6, metric="cosine", algorithm="brute") for name in ("early", "late")]
    np.testing.assert_allclose(found, 1 - overlap(*near), atol=1e-6)
    compared = vk.compare_maps(still["early"], still["late"], k=6).frame["true_change"]
    np.testing.assert_allclose(found, compared, atol=1e-6)
    assert content["text"] == (
        f"{compared.mean():.0%} of the 6 nearest neighbors in truth changed (chance {1 - 6 / (N - 1):.1%})."
    )


def test_change_between_layouts_of_one_space_is_of_the_neighbors_on_the_map(spaces, still):
    one = spaces["early"]
    tight = vk.project(one, n_neighbors=5)
    explorer = Recording(one, {"PCA": still["early"], "tight": tight}, 6)
    content, found = ask(explorer, name="change", a=1, b=0)
    np.testing.assert_allclose(found, 1 - overlap(nearest(tight.xy, 6), nearest(still["early"].xy, 6)), atol=1e-6)
    assert "on the map changed" in content["text"]
    _, found = ask(explorer, name="change", a=1, b=1)
    assert not found.any()


def test_a_similarity_can_be_placed_among_those_of_random_pairs(spaces, still):
    explorer = Recording(spaces, still, 6)
    cosines = cosine_similarity(spaces["late"].vectors)[np.triu_indices(N, 1)]
    found = np.frombuffer(explorer._graphs[2]["randoms"], "<f4")
    assert found.shape == (1001,)
    np.testing.assert_allclose(found, np.quantile(cosines, np.linspace(0, 1, 1001)), atol=1e-6)
    large = made(3, 600)
    all_of_them = cosine_similarity(large.vectors)[np.triu_indices(600, 1)]
    drawn = [Recording(large, vk.project(large, method="pca"), 3)._graphs[0]["randoms"] for _ in range(2)]
    assert drawn[0] == drawn[1]
    found = np.frombuffer(drawn[0], "<f4")
    assert (np.diff(found) >= 0).all()
    places = [(all_of_them <= found[at]).mean() for at in (10, 250, 500, 750, 990)]
    np.testing.assert_allclose(places, [0.01, 0.25, 0.5, 0.75, 0.99], atol=0.01)


def test_what_does_not_belong_together_is_named(spaces, still):
    one = spaces["early"]
    fewer = made(0, N - 2)
    mixed = one.subset([1, 0, *range(2, N)])
    cases = [
        (({"a": one, "b": fewer},), r"2 only in 'a' \('p148', 'p149'\)"),
        (({"a": one, "b": mixed},), r"their order differs from row 0 on \('p000' and 'p001'\)"),
        (({},), "The mapping of embeddings is empty"),
        (({3: one},), "A map is named 3; expected a text"),
        (({" ": one},), "A map is named ' '"),
        (({"a": one.vectors},), "'a' is a ndarray; expected Embeddings"),
        (([one],), "explore takes Embeddings, not list"),
        ((spaces, still["early"]), "does not fit a mapping of embeddings"),
        (({"early": one}, still["early"]), "does not fit a mapping of embeddings"),
        ((spaces, {"early": still["early"]}), "named 'early', the embeddings 'early', 'middle', 'late'"),
        ((one, {}), "The mapping of layouts is empty"),
        ((one, {"a": one}), "The layout 'a' is a Embeddings; expected a Layout"),
        ((one, one), "The layout 'map' is a Embeddings; expected a Layout"),
        ((one, {"a": vk.project(fewer, method="pca")}), "layout is of other images"),
    ]
    for arguments, match in cases:
        with pytest.raises(InputError, match=match):
            vk.explore(*arguments)


def test_explorers_of_one_three_and_equal_images_open_and_say_what_they_can():
    for n in (1, 3):
        spaces = {"a": made(0, n), "b": made(1, n)}
        explorer = Recording(spaces, None, 12)
        assert explorer.wait(60)
        assert explorer._k == n - 1
        explorer.query = "p000"
        assert len(explorer.neighbors) == n - 1
        content, found = ask(explorer, name="change", a=0, b=1)
        assert found.tolist() == [0] * n
        assert explorer.errors == []
        assert explorer._maps[0]["note"].startswith("PCA: ")
    assert content["text"].startswith("0% of the 2 nearest")
    equal = vk.Embeddings.from_frame(pd.DataFrame({"id": list("abcdefgh"), "embedding": [[1.0, 2.0]] * 8}))
    explorer = Recording(equal, None, 3)
    assert explorer.wait(60)
    _, found = ask(explorer, name="similarities", graph=0, query="c")
    assert found.tolist() == [1.0] * 8
    assert set(np.frombuffer(explorer._graphs[0]["randoms"], "<f4")) == {1.0}
    none = vk.Embeddings(np.zeros((0, 4), np.float32), pd.DataFrame(index=pd.Index([], name="id", dtype=object)))
    with pytest.raises(InputError, match="There are no vectors"):
        vk.explore(none)
