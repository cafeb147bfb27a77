"""Thumbnails that are made behind an explorer: each once, whoever asks, and sent in parts."""

import subprocess
import sys
import threading
import time
from itertools import pairwise
from weakref import WeakKeyDictionary

import numpy as np
import pytest
from PIL import Image
from recording import Recording, browser, threads, until

import vizkit as vk
from vizkit.widgets import feed, stream, thumbnails
from vizkit.widgets.thumbnails import thumbnails_of

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


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


def test_many_thumbnails_that_are_made_follow_once_the_first_view_is_there(embeddings, unmade, monkeypatch):
    monkeypatch.setattr(feed, "_AT_ONCE", 100)
    thumbnails_of(embeddings).finish()
    explorer = Recording(embeddings, vk.project(embeddings, method="pca"), 5)
    assert (explorer._coming, explorer._thumbnails, explorer._offsets) == (True, b"", b"")
    browser(explorer, type="ready")
    assert (explorer._coming, parts(explorer), len(unmade), threads()) == (False, [], 60, [])
    assert files_in(explorer._thumbnails, explorer._offsets) == expected_thumbnails(embeddings)
    explorer.close()
    assert explorer.errors == []


def test_many_thumbnails_of_which_some_are_missing_come_in_parts_from_the_beginning(embeddings, unmade, monkeypatch):
    monkeypatch.setattr(feed, "_AT_ONCE", 100)
    thumbs = thumbnails_of(embeddings)
    next(thumbs.steps())
    made = list(thumbs.log)
    explorer = Recording(embeddings, vk.project(embeddings, method="pca"), 5)
    assert (explorer._coming, explorer._thumbnails) == (True, b"")
    until(lambda: not explorer._coming)
    assert set(made) <= {row for _, _, files in parts(explorer) for row in files}
    assert files_in(explorer._thumbnails, explorer._offsets) == expected_thumbnails(embeddings)
    explorer.close()


def test_what_another_makes_just_before_the_beginning_is_told_as_over(embeddings, unmade):
    thumbs, over = thumbnails_of(embeddings), []
    behind = feed.ThumbnailFeed(
        thumbs, send=lambda *_: None, over=lambda: over.append(thumbs.complete), fail=lambda error: over.append(error)
    )
    thumbs.finish()
    assert behind.coming
    behind.start()
    until(lambda: over)
    behind.stop()
    assert over == [True]


def test_two_explorers_share_the_work(embeddings, unmade):
    layout = vk.project(embeddings, method="pca")
    both = [Recording(embeddings, layout, 5) for _ in range(2)]
    until(lambda: not both[0]._coming and not both[1]._coming)
    assert sorted(unmade) == list(range(60))
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
from vizkit.widgets.maps import Maps

images = vk.scenes("held-out").subset(range(200))
own = vk.embed(images, vk.Encoder("scenes"), cache={cache!r}, progress=False)
layout = vk.project(own, method="pca")
shell = InteractiveShell.instance()
read = vk.synthetic.Scenes.read
def slowly(self, row, **options):
    time.sleep(0.02)
    return read(self, row, **options)
vk.synthetic.Scenes.read = slowly

first = Explorer(Maps(own, layout, 5))
while not first._thumbs.log:
    time.sleep(0.01)
shell.run_cell("raise KeyboardInterrupt")
made = len(first._thumbs.log)
print("after", first._coming, 0 < made < 200, len(first._offsets) // 4 - 1, len(first._thumbnails) > 100 * made)
second = Explorer(Maps(own, layout, 5))
time.sleep(0.1)
print("after", second._coming, second._feed._stream.join(0))
"""


def test_an_interrupted_cell_and_the_end_of_the_interpreter_end_the_making_of_thumbnails(embeddings, tmp_path):
    code = PICTURES_AT_EXIT.format(cache=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("after")]
    assert lines == ["after False True 200 True", "after True False"]
    assert done.stderr == ""


def test_a_second_explorer_reads_no_image_again(embeddings, monkeypatch):
    explorer = Recording(embeddings, vk.project(embeddings, method="pca"), 5)
    until(lambda: not explorer._coming)
    monkeypatch.setattr(type(embeddings.images), "read", lambda *_, **__: pytest.fail("an image was read"))
    again = Recording(embeddings, explorer.layout_of_points, 5)
    assert not again._coming
    assert again._thumbnails == explorer._thumbnails
    assert again._offsets == explorer._offsets
