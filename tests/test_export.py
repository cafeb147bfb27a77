"""An explorer as one file: what it holds is what the package computes, small, and each picture once."""

import base64
import gzip
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from drawn import photo, tiny_network, to_tensor_32
from PIL import Image

import vizkit as vk
from vizkit.errors import InputError
from vizkit.saliency import badges
from vizkit.widgets import export

N, K = 12, 4


class Held:
    """What an exported page holds, read as its script reads it."""

    def __init__(self, path):
        self.text = path.read_text(encoding="utf-8")
        self.study = json.loads(gzip.decompress(self.part("study")))
        self.numbers, self.pictures = gzip.decompress(self.part("numbers")), self.part("pictures")
        self.answers = {json.dumps(asked): (fields, buffers) for asked, fields, buffers in self.study["answers"]}

    def part(self, name):
        (found,) = re.findall(rf'id="vizkit-{name}">([^<]*)</script>', self.text)
        return base64.b64decode(found, validate=True)

    def bytes(self, reference):
        kind, start, length, *scale = reference["$"]
        found = (self.pictures if kind == "bytes" else self.numbers)[start : start + length]
        assert len(found) == length
        if kind != "i2":
            return found
        low, high = np.frombuffer(found, np.uint8).reshape(2, -1).astype(int)
        signed = low + 256 * high - 65536 * (high > 127)
        return (signed * scale[0]).astype("<f4").tobytes()

    def floats(self, reference):
        return np.frombuffer(self.bytes(reference), "<f4")

    def answer(self, *asked):
        return self.answers[json.dumps(asked)]


@pytest.fixture(scope="module")
def images():
    frame = pd.DataFrame({"path": [photo(i) for i in range(N)], "id": [f"p{i}" for i in range(N)]})
    return vk.ImageSet.from_frame(frame.assign(label=["a", "b"] * (N // 2), size=np.linspace(0, 1, N)))


@pytest.fixture(scope="module")
def embeddings(images):
    return vk.embed(images, vk.Encoder(tiny_network(), preprocess=to_tensor_32), progress=False)


@pytest.fixture
def explorer(embeddings):
    badges.forget()
    shown = vk.explore(embeddings, vk.project(embeddings, method="pca"), k=K)
    shown._thumbs.finish()
    yield shown
    shown.close()
    badges.forget()


def test_the_page_holds_the_map_and_what_it_was_asked_for(explorer, embeddings, tmp_path):
    explorer.query, explorer.selection = "p3", ["p5", "p1"]
    held = Held(explorer.to_html(tmp_path / "study.html", queries=["p0", "p7"]))
    assert held.study["state"] == {"query": "p3", "selection": [1, 5], "shown": [0]}
    traits = held.study["traits"]
    assert traits["ids"] == embeddings.ids
    assert held.floats(traits["_maps"][0]["xy"]).tobytes() == explorer.layout_of_points.xy.tobytes()
    assert held.floats(traits["_maps"][0]["kept"]).tobytes() == explorer.layout_of_points.kept.tobytes()
    near = pd.concat([vk.neighbors(embeddings, id, k=K) for id in embeddings.ids])
    indices = np.frombuffer(held.bytes(traits["_graphs"][0]["indices"]), "<i4")
    assert [embeddings.ids[row] for row in indices] == list(near["id"])
    np.testing.assert_allclose(held.floats(traits["_graphs"][0]["similarities"]), near["similarity"], atol=2e-5)
    assert held.bytes(traits["_thumbnails"]) == explorer._thumbs.all()[0]
    size = next(column for column in traits["_columns"] if column["name"] == "size")
    np.testing.assert_array_equal(held.floats(size["values"]), embeddings.frame["size"].to_numpy(np.float32))
    assert {asked[2] for asked, *_ in held.study["answers"]} == {"p0", "p7"}
    assert traits["_info"] == {
        "methods": [{"name": "contribution", "title": "Contribution (exact)"}],
        "has_pictures": False,
    }
    assert embeddings.encoder.fingerprint in held.text
    assert not re.search(r"https?://(?!www\.w3\.org)", held.text)


def test_its_evidence_matches_and_similarities_are_what_the_package_computes(explorer, embeddings, tmp_path):
    held = Held(explorer.to_html(tmp_path / "study.html", queries=["p2"]))
    others = list(vk.neighbors(embeddings, "p2", k=K)["id"])
    fields, buffers = held.answer("evidence", 0, "p2")
    assert [pair["id"] for pair in fields["pairs"]] == others
    pairs = vk.explain_many(embeddings.encoder, photo(2), [photo(int(id[1:])) for id in others])
    for i, pair in enumerate(pairs):
        for at, values in ((1 + 3 * i, pair.map_a), (2 + 3 * i, pair.map_b)):
            np.testing.assert_allclose(held.floats(buffers[at]), values.ravel(), atol=np.abs(values).max() / 60_000)
        of_matches, (matrix, *_) = held.answer("matches", 0, "p2", others[i])
        np.testing.assert_allclose(held.floats(matrix), pair.matrix.ravel(), atol=np.abs(pair.matrix).max() / 2000)
        assert of_matches["carried"] == pytest.approx(pair.matches(n=1000).carried.loc["all", "share"])
    _, (similarities,) = held.answer("similarities", 0, "p2")
    unit = embeddings.vectors / np.linalg.norm(embeddings.vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(held.floats(similarities), unit @ unit[2], atol=3e-5)


def test_by_default_it_explains_the_query_and_the_selection_twenty_at_most(explorer, embeddings, tmp_path, monkeypatch):
    explorer.query, explorer.selection = "p9", [f"p{i}" for i in range(8)]
    monkeypatch.setattr(export, "_BY_DEFAULT", 3)
    held = Held(explorer.to_html(tmp_path / "study.html"))
    assert [asked[2] for asked, *_ in held.study["answers"] if asked[0] == "evidence"] == ["p9", "p0", "p1"]


def test_every_picture_lies_there_once_and_a_querys_in_full(explorer, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_NEIGHBOR", 16)
    held = Held(explorer.to_html(tmp_path / "study.html", queries=["p0", "p1", "p2"]))
    places, sizes = {}, {}
    for asked, fields, buffers in held.study["answers"]:
        if asked[0] == "evidence":
            shown = [(asked[2], buffers[0]), *((p["id"], buffers[3 + 3 * i]) for i, p in enumerate(fields["pairs"]))]
            for id, reference in shown:
                places.setdefault(id, set()).add(tuple(reference["$"]))
                sizes[id] = Image.open(io.BytesIO(held.bytes(reference))).size
        if asked[0] == "matches":
            assert [tuple(reference["$"]) for reference in buffers[1:]] == [next(iter(places[id])) for id in asked[2:]]
    assert all(len(where) == 1 for where in places.values())
    assert sum(length for ((_, _, length),) in places.values()) == len(held.pictures) - len(explorer._thumbs.all()[0])
    assert len(places) > 3
    for id, size in sizes.items():
        assert size == ((32, 32) if id in ("p0", "p1", "p2") else (16, 16))


def test_what_takes_long_is_whole_in_the_page_and_by_the_better_method(explorer, embeddings, tmp_path):
    frame = pd.DataFrame({"measure": ["energy"], "against": ["area share"], "value_low": [0.5]})
    made = {"fingerprint": embeddings.encoder.fingerprint, "center": "none", "encoder": "e"}
    badges.remember(badges.Trust("green", "energy 0.5", "occlusion", frame, made))
    held = Held(explorer.to_html(tmp_path / "study.html", queries=["p2"]))
    fields, buffers = held.answer("evidence", 0, "p2")
    assert (fields["method"], fields["better"], fields["pending"]) == ("occlusion", None, [])
    assert fields["trust"] == {"verdict": "green", "reason": "energy 0.5"}
    others = list(vk.neighbors(embeddings, "p2", k=K)["id"])
    pairs = vk.explain_many(embeddings.encoder, photo(2), [photo(int(id[1:])) for id in others], "occlusion")
    assert fields["limit"] == pytest.approx(max(np.abs(m).max() for e in pairs for m in (e.map_a, e.map_b)), abs=1e-6)
    for i, pair in enumerate(pairs):
        np.testing.assert_allclose(held.floats(buffers[2 + 3 * i]), pair.map_b.ravel(), atol=1e-5)
    assert [m["name"] for m in held.study["traits"]["_info"]["methods"]] == ["occlusion"]


def test_matches_are_kept_for_the_nearest_where_there_is_no_room_for_all(explorer, embeddings, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_MATCHES", 2 * 3 * 8**4)  # two neighbors each of three queries on maps of 8 x 8
    held = Held(explorer.to_html(tmp_path / "study.html", queries=["p0", "p1", "p2"]))
    asked = [asked[2:] for asked, *_ in held.study["answers"] if asked[0] == "matches"]
    expected = [[id, near] for id in ("p0", "p1", "p2") for near in vk.neighbors(embeddings, id, k=2)["id"]]
    assert asked == expected


def test_every_network_of_a_study_has_its_evidence_and_guests_are_in_it(images, embeddings, tmp_path):
    other = vk.embed(images, vk.Encoder(tiny_network(1), preprocess=to_tensor_32), progress=False)
    both = {"one": embeddings, "two": other}
    maps = {name: vk.project(each, method="pca") for name, each in both.items()}
    explorer = vk.explore(both, maps, k=K)
    id = explorer.add(photo(100), "new.png")
    explorer.shown = ["two", "one"]
    held = Held(explorer.to_html(tmp_path / "study.html", queries=[id]))
    assert held.study["state"] == {"query": "new.png", "selection": [], "shown": [1, 0]}
    ((message, picture),) = held.study["guests"]
    assert message["id"] == "new.png"
    np.testing.assert_allclose(message["maps"][1], vk.place(maps["two"], photo(100)).xy[0], atol=1e-6)
    assert Image.open(io.BytesIO(held.bytes(picture))).size == photo(100).size
    seen = [held.answer("evidence", graph, "new.png")[1][0] for graph in (0, 1)]
    assert seen[0] == seen[1]  # both networks take the same pixels: they lie there once
    said, changed = explorer._atlas.change(0, 1)
    fields, (values,) = held.answer("change", 0, 1)
    assert fields == {"text": said}
    np.testing.assert_allclose(held.floats(values), changed, atol=2e-5)
    for graph, each in enumerate(both.values()):
        near = vk.neighbors(each, photo(100), k=K)
        fields, _ = held.answer("evidence", graph, "new.png")
        assert [pair["id"] for pair in fields["pairs"]] == list(near["id"])
        similarities = held.floats(held.answer("similarities", graph, "new.png")[1][0])
        assert similarities.max() == pytest.approx(near["similarity"].iloc[0], abs=3e-5)


def test_one_image_that_cannot_be_read_does_not_keep_the_others_out(tmp_path):
    for i in range(6):
        photo(i).save(tmp_path / f"{i}.png")
    images = vk.ImageSet.from_folder(tmp_path)
    embeddings = vk.embed(images, vk.Encoder(tiny_network(), preprocess=to_tensor_32), progress=False)
    explorer = vk.explore(embeddings, vk.project(embeddings, method="pca"), k=2)
    explorer._thumbs.finish()
    (tmp_path / "0.png").unlink()
    held = Held(explorer.to_html(tmp_path / "study.html", queries=embeddings.ids[:2]))
    assert "0.png" in held.answer("evidence", 0, embeddings.ids[0])[0]["error"]
    near = list(vk.neighbors(embeddings, embeddings.ids[1], k=2)["id"])
    fields, _ = held.answer("evidence", 0, embeddings.ids[1])
    assert ("error" in fields) == (embeddings.ids[0] in near)


def test_the_same_study_is_the_same_file(explorer, tmp_path):
    first, second = (explorer.to_html(tmp_path / name, queries=["p0"]) for name in ("a.html", "b.html"))
    assert first.read_bytes() == second.read_bytes()


def test_what_cannot_be_written_is_refused_and_a_file_that_is_there_stays(explorer, tmp_path):
    target = tmp_path / "study.html"
    target.write_text("mine")
    with pytest.raises(InputError, match="No image has the id 'nobody'"):
        explorer.to_html(target, queries=["nobody"])
    with pytest.raises(InputError, match="queries must be a list of ids, not one string"):
        explorer.to_html(target, queries="p0")
    with pytest.raises(InputError, match="is a folder: name a file in it"):
        explorer.to_html(tmp_path)
    with pytest.raises(InputError, match=r"There is no folder .*missing"):
        explorer.to_html(tmp_path / "missing/study.html")
    assert target.read_text() == "mine"


@pytest.mark.parametrize("lacks", ["network", "images"])
def test_what_cannot_be_explained_has_its_similarities_and_says_why(embeddings, tmp_path, lacks):
    encoder = None if lacks == "network" else embeddings.encoder
    bare = vk.Embeddings(embeddings.vectors, embeddings.frame, encoder=encoder)
    both = {"bare": bare, "whole": embeddings}
    explorer = vk.explore(both, {name: vk.project(each, method="pca") for name, each in both.items()}, k=K)
    explorer.query = "p2"
    for queries in (None, ["p2"]):
        held = Held(explorer.to_html(tmp_path / "study.html", queries=queries))
        asked = [tuple(one[:2]) for one, *_ in held.study["answers"]]
        assert {("similarities", 0), ("similarities", 1), ("evidence", 1)} <= set(asked)
        assert not {("evidence", 0), ("matches", 0)} & set(asked)
        assert (
            f"without {'the network' if lacks == 'network' else 'their images'}"
            in (held.study["traits"]["_graphs"][0]["why_not"])
        )


def test_how_neighbors_change_is_told_from_the_maps_that_are_shown(embeddings, tmp_path):
    layout = vk.project(embeddings, method="pca")
    explorer = vk.explore(embeddings, {f"m{i}": layout for i in range(5)}, k=K)
    explorer.shown = ["m3", "m1"]
    held = Held(explorer.to_html(tmp_path / "study.html", queries=[]))
    pairs = [tuple(asked[1:]) for asked, *_ in held.study["answers"] if asked[0] == "change"]
    assert pairs == [(0, 1), (0, 3), (1, 2), (1, 3), (1, 4), (2, 3), (3, 4)]
