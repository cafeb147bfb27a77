"""Images that are added to an explorer: placed as the package places them, on every map, under a name of their own."""

import io
import zlib

import numpy as np
import pandas as pd
import pytest
from drawn import photo, tiny_network, to_tensor_32
from PIL import Image
from recording import Recording, browser

import vizkit as vk
from vizkit.errors import ImageReadError, InputError, MissingEncoderError
from vizkit.widgets import guests as module
from vizkit.widgets.answers import Answers
from vizkit.widgets.guests import Guests
from vizkit.widgets.maps import Maps

N = 30


@pytest.fixture(scope="module")
def spaces():
    images = vk.ImageSet.from_frame(
        pd.DataFrame({"path": [photo(i) for i in range(N)], "id": [f"p{i}" for i in range(N)]})
    )
    encoders = [vk.Encoder(tiny_network(seed), preprocess=to_tensor_32) for seed in (0, 1)]
    return [vk.embed(images, encoder, progress=False) for encoder in encoders]


@pytest.fixture(scope="module")
def layouts(spaces):
    first, second = (vk.project(space, method="pca") for space in spaces)
    return {"one": first, "two": second}


@pytest.fixture
def here(spaces, layouts):
    """Give guests of two networks' maps, the maps, and what was sent to the views."""
    maps, sent = Maps(dict(zip(layouts, spaces, strict=True)), layouts, 5, {}), []
    return Guests(maps, send=lambda content, buffers: sent.append((content, buffers))), maps, sent


def file_of(image, kind="PNG"):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def test_an_image_lies_where_the_package_places_it_on_every_map(here, spaces, layouts):
    guests, _, sent = here
    new = photo(100)
    id = guests.add(file_of(new), "holiday.png")
    (content, (picture,)) = sent[-1]
    assert (content["type"], content["id"], content["view"]) == ("guest", id, None)
    for at, (embeddings, layout) in enumerate(zip(spaces, layouts.values(), strict=True)):
        placed = vk.place(layout, new)
        np.testing.assert_allclose(content["maps"][at], placed.xy[0], atol=1e-6)
        percentile = placed.frame["unusualness"].iloc[0]
        assert guests[id].unusualness[at] == percentile
        near = vk.neighbors(embeddings, new, k=5)
        assert [f"p{row}" for row in content["graphs"][at]["rows"]] == list(near["id"])
        np.testing.assert_allclose(content["graphs"][at]["similarities"], near["similarity"], atol=1e-9)
        np.testing.assert_allclose(guests.vector(id, at), embeddings.encoder.embed_image(new).ravel(), atol=1e-6)
        assert list(guests.neighbors(id, at)) == content["graphs"][at]["rows"]
        assert f"By {list(layouts)[at]}: " in content["note"]
        words = {0: "none", 100: "all"}.get(percentile, f"{percentile:.1f}%")
        assert f"farther away than those of {words} of the {N} images here" in content["note"]
    shown = Image.open(io.BytesIO(picture)).convert("RGB")
    assert np.abs(np.asarray(shown, float) - np.asarray(new, float)).mean() < 12


def test_a_name_that_is_taken_is_numbered(here, tmp_path):
    guests, *_ = here
    path = tmp_path / "p3"
    path.write_bytes(file_of(photo(101)))
    assert guests.add(path) == "p3 (2)"
    assert guests.add(str(path)) == "p3 (3)"
    assert guests.add(photo(102)) == "image"
    assert guests.add(np.asarray(photo(102)), "  ") == "image (2)"
    assert guests.add(photo(103), "half \ud83d.png") == "half \\ud83d.png"
    assert [guest.id for guest in guests] == ["p3 (2)", "p3 (3)", "image", "image (2)", "half \\ud83d.png"]
    assert "image" in guests
    assert "p3" not in guests


def test_one_that_is_there_already_is_told_so_and_an_unusual_one_too(here):
    guests, _, sent = here
    guests.add(photo(4))
    assert sent[-1][0]["note"] == "To the network it is the same image as p4, which is here already."
    rng = np.random.default_rng(0)
    guests.add(rng.integers(0, 256, (64, 64, 3), np.uint8))
    note = sent[-1][0]["note"]
    assert "By two: unusual, as 5% of images like these are: its nearest image is farther away" in note
    assert f"than those of all of the {N} images here" in note


@pytest.mark.parametrize(
    ("percentile", "told"),
    [
        (100, "all of the 1,200 images"),
        (99.96, "more than 99.9% of the 1,200 images"),
        (99.75, "99.8% of the 1,200 images"),
        (95.1, "Unusual, as 5%"),
        (95, "about 50% is usual"),
        (0.04, "less than 0.1% of the 1,200 images"),
        (0, "none of the 1,200 images"),
    ],
)
def test_no_share_is_rounded_to_all_or_to_none(percentile, told):
    assert told in module._words(percentile, 1200)


def test_when_a_map_changes_its_guests_lie_anew_and_nothing_else_of_them_changes(here, layouts):
    guests, maps, sent = here
    guests.add(photo(100))
    before, _ = sent[-1]
    turned = vk.project(layouts["two"].embeddings, method="pca", metric="euclidean")
    maps.maps[1].layout = turned
    guests.stand(1)
    after, _ = sent[-1]
    np.testing.assert_allclose(after["maps"][1], vk.place(turned, photo(100)).xy[0], atol=1e-6)
    changed = {name for name in after if after[name] != before[name]}
    assert changed <= {"maps", "note"}
    assert after["maps"][0] == before["maps"][0]
    assert after["maps"][1] != before["maps"][1]


def test_a_view_that_opens_later_is_told_of_every_guest_in_order(here):
    guests, _, sent = here
    for seed in (100, 101):
        guests.add(photo(seed))
    first, sent[:] = [{**content, "view": "v7"} for content, _ in sent], []
    guests.tell("v7")
    assert [content for content, _ in sent] == first


def test_guests_are_explained_as_the_images_are(here, spaces):
    guests, *_ = here
    id = guests.add(file_of(photo(100)))
    answers, encoder = Answers(spaces, guests), spaces[1].encoder
    fields, blobs = answers.answer(
        {"name": "evidence", "graph": 1, "query": id, "neighbors": ["p0", "p1"], "method": None}
    )
    for i, e in enumerate(vk.explain_many(encoder, photo(100), [photo(0), photo(1)])):
        assert fields["pairs"][i]["similarity"] == pytest.approx(e.similarity, abs=1e-6)
        np.testing.assert_allclose(np.frombuffer(blobs[1 + 3 * i], "<f4"), e.map_a.ravel(), atol=1e-6)
    _, blobs = answers.answer({"name": "contrast", "graph": 1, "query": "p0", "near": id, "far": "p1"})
    expected = vk.explain_contrast(encoder, photo(0), photo(100), photo(1))
    np.testing.assert_allclose(np.frombuffer(blobs[2], "<f4"), expected.map_near.ravel(), atol=1e-6)
    fields, _ = answers.answer({"name": "matches", "graph": 0, "query": "p0", "neighbor": id})
    pair = vk.explain_pair(spaces[0].encoder, photo(0), photo(100), "contribution")
    assert fields["carried"] == pytest.approx(pair.matches(n=100).carried.loc["all", "share"], abs=1e-6)


def test_a_map_of_one_image_takes_guests_and_has_nothing_to_compare_them_with():
    images = vk.ImageSet.from_frame(pd.DataFrame({"path": [photo(0)], "id": ["only"]}))
    embeddings = vk.embed(images, vk.Encoder(tiny_network(), preprocess=to_tensor_32), progress=False)
    sent = []
    guests = Guests(Maps(embeddings, vk.project(embeddings, method="pca"), 5, {}), send=lambda *of: sent.append(of))
    id = guests.add(photo(1))
    content, _ = sent[-1]
    assert guests[id].unusualness == [None]
    assert content["note"] == "There is nothing to compare it with."
    assert list(guests.neighbors(id, 0)) == [0]


def test_a_file_that_a_view_sends_is_bounded_in_bytes_and_in_pixels_and_one_from_python_is_not(spaces, layouts):
    explorer = Recording(spaces[0], layouts["one"], 3)

    def sent(content):
        browser(explorer, [content], type="request", name="place", serial=1, file="new.png")
        return explorer.sent[-1][0]

    more = "explorer.add(path) takes larger ones."
    assert sent(bytes(9_150_000))["error"] == (
        "The file has 9.2 MB; 8.0 MB are the most that a view can send. Make it smaller, or add it in the notebook by "
        f"its path: {more}"
    )
    wide = file_of(Image.new("1", (10_000, 5_001)))
    assert len(wide) < 100_000
    told = sent(wide)["error"]
    assert told.startswith("The image has 10,000 x 5,001 pixels, 50.0 million; 50 million are the most")
    assert told.endswith(more)
    bomb = file_of(Image.new("1", (8, 8))).replace(b"IHDR" + bytes([0, 0, 0, 8] * 2), b"IHDR" + b"\0\1\0\0" * 2)
    with pytest.raises(InputError, match="far too many pixels"):
        module.sent_file(with_checksum(bomb))
    assert "no image that can be read" in sent(b"%PDF")["error"]
    assert sent(file_of(photo(1)))["id"] == "new.png"
    assert explorer.add(wide) == "image"
    explorer.close()


def with_checksum(png):
    """Return a PNG file with the checksum that its changed head should have."""
    return png[:29] + zlib.crc32(png[12:29]).to_bytes(4, "big") + png[33:]


def test_the_sharp_picture_of_an_added_image_is_the_one_that_was_sent(here, spaces):
    guests, _, sent = here
    id = guests.add(file_of(photo(100)))
    assert Answers(spaces, guests).answer({"name": "picture", "id": id}) == ({}, sent[-1][1])


def test_a_map_stands_also_where_its_guests_cannot_be_placed(spaces, layouts, monkeypatch):
    explorer = Recording(spaces[0], layouts["one"], 3)
    explorer.add(photo(100))
    monkeypatch.setattr(vk.placing, "place", lambda *_: 1 / 0)
    explorer.follow(lambda: vk.projection.unfolding(spaces[0], method="pca"), {"method": "pca"})
    assert explorer.wait(60)
    assert not explorer.moving
    assert explorer.errors == ["ZeroDivisionError: division by zero"]
    explorer.close()


def test_what_cannot_be_added_is_refused_in_words_and_nothing_is_kept(here, tmp_path):
    guests, _, sent = here
    with pytest.raises(ImageReadError, match="This file is no image that can be read"):
        guests.add(b"%PDF-1.7 not a picture", "paper.pdf")
    with pytest.raises(ImageReadError, match="not there"):
        guests.add(tmp_path / "missing.jpg")
    with pytest.raises(InputError, match="An image was given as int"):
        guests.add(3)
    with pytest.raises(InputError, match="'p3' is among the images already"):
        guests.add("p3")
    with pytest.raises(InputError, match="The name is 7; expected text"):
        guests.add(photo(1), 7)
    assert [*guests] == sent == []
    bare = vk.Embeddings.from_frame(pd.DataFrame({"id": ["a", "b"], "embedding": [[1.0, 2.0], [2.0, 1.0]]}))
    without = Guests(Maps(bare, vk.project(bare, method="pca"), 5, {}), send=lambda *_: None)
    with pytest.raises(MissingEncoderError, match="Adding an image needs the network behind the vectors"):
        without.add(photo(1))
