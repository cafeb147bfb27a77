"""The store on disk: what was written comes back, or is named and made again; other values never."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vizkit as vk
from vizkit import index, results, shards, store
from vizkit.errors import InputError, StoreError
from vizkit.inspection import inspect_store
from vizkit.room import room

DIM = 5


def open_cache(folder, **more):
    return store.Cache(Path(folder), "network", {"device": "cpu"} | more, {"card": {"network": "none"}})


def vector_of(number):
    """Return the vector of an image, from nothing but its number."""
    return np.random.default_rng(number).standard_normal(DIM).astype(np.float32)


@pytest.fixture
def files(tmp_path):
    """Write n files that pass as images: the store looks at their bytes, never at pixels."""

    def make(n, folder="photos"):
        for number in range(n):
            path = tmp_path / folder / f"{number:04d}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(f"image {number}".encode())
        return vk.ImageSet.from_folder(tmp_path / folder)

    return make


def recalled(cache, images, **known):
    """Return the vectors that a cache gives, and the rows that it leaves to compute."""
    vectors, failures = np.full((len(images), DIM), np.nan, np.float32), {}
    todo = cache.recall(images, vectors, failures, known.get("hashed", {}), progress=False)
    assert not failures
    return vectors, todo


def opened_and_recalled(folder, images):
    cache = open_cache(folder)
    return cache, *recalled(cache, images)


def filled(folder, images, every=10):
    """Store the vector of every image that has none, a shard for so many; return the cache."""
    cache = open_cache(folder)
    for done, missing in enumerate(recalled(cache, images)[1], 1):
        cache.add(missing.key, missing.stamp, vector_of(missing.row))
        if done % every == 0:
            cache.flush()
    cache.flush()
    return cache


def expected(images):
    return np.stack([vector_of(row) for row in range(len(images))])


def shards_of(cache):
    return sorted(cache.folder.glob("shard-*.parquet"))


@contextlib.contextmanager
def nothing_can_be_written(folder):
    """Take the right to write away; root has it always, so root becomes nobody for a while."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        yield
    finally:
        if root:
            os.seteuid(0)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


@contextlib.contextmanager
def disk_full():
    """Let no file of this process grow beyond some bytes: the system then refuses as a full disk does."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# ------------------------------------------------------------------ the cache


def test_stored_vectors_come_back_and_no_unchanged_file_is_hashed(files, tmp_path, monkeypatch):
    images = files(300)
    filled(tmp_path / "cache", images, every=90).close()
    hashed = []
    plain = vk.ImageSet.fingerprint
    monkeypatch.setattr(vk.ImageSet, "fingerprint", lambda self, row: hashed.append(row) or plain(self, row))
    (tmp_path / "photos/0007.png").write_bytes(b"another image")
    os.utime(tmp_path / "photos/0008.png", ns=(5, 5))
    with open_cache_closed(tmp_path / "cache") as cache:
        vectors, todo = recalled(cache, images)
    assert [missing.row for missing in todo] == [7]
    others = np.arange(300) != 7
    np.testing.assert_array_equal(vectors[others], expected(images)[others])
    assert hashed == [7, 8]
    hashed.clear()
    with open_cache_closed(tmp_path / "cache") as cache:
        recalled(cache, images)
    assert hashed == [7]  # what was only touched is known by its new stamp


@contextlib.contextmanager
def open_cache_closed(folder):
    cache = open_cache(folder)
    yield cache
    cache.close()


def test_opening_reads_no_vectors_and_recalling_reads_each_shard_once(files, tmp_path, monkeypatch):
    images = files(40)
    filled(tmp_path / "cache", images).close()
    read = []
    plain = index.read_parquet
    monkeypatch.setattr(index, "read_parquet", lambda path, columns: read.append(columns) or plain(path, columns))
    cache = open_cache(tmp_path / "cache")
    assert read == [["key", "path", "size", "mtime_ns"]] * 4
    read.clear()
    shuffled = images.subset(np.random.default_rng(0).permutation(40))
    recalled(cache, shuffled)
    assert read == [["vector"]] * 4


def test_images_of_one_content_are_stored_once_and_asked_for_each(files, tmp_path):
    images = files(3)
    shutil.copy(tmp_path / "photos/0001.png", tmp_path / "photos/copy.png")
    images = vk.ImageSet.from_folder(tmp_path / "photos")
    cache = open_cache(tmp_path / "cache")
    _, todo = recalled(cache, images)
    assert [missing.row for missing in todo] == [0, 1, 2, 3]
    assert todo[1].key == todo[3].key
    for missing in todo:
        cache.add(missing.key, missing.stamp, vector_of(missing.row % 3 if missing.row < 3 else 1))
    cache.close()
    assert sum(len(pd.read_parquet(path)) for path in shards_of(cache)) == 3
    vectors, todo = recalled(open_cache(tmp_path / "cache"), images)
    assert not todo
    np.testing.assert_array_equal(vectors, np.stack([vector_of(row) for row in (0, 1, 2, 1)]))


def test_what_another_layer_hashed_is_used_only_while_the_file_is_the_same(files, tmp_path):
    images, hashed = files(3), {}
    first = recalled(open_cache(tmp_path / "cache"), images, hashed=hashed)[1]
    (tmp_path / "photos/0001.png").write_bytes(b"changed meanwhile")
    second = recalled(open_cache(tmp_path / "cache", layer="other"), images, hashed=hashed)[1]
    assert [a.key == b.key for a, b in zip(first, second, strict=True)] == [True, False, True]
    assert second[1].key == images.fingerprint(1)


def test_vectors_that_are_pending_are_recalled_too(files, tmp_path):
    images = files(2)
    cache = open_cache(tmp_path / "cache")
    (missing, _) = recalled(cache, images)[1]
    cache.add(missing.key, missing.stamp, vector_of(0))
    assert not shards_of(cache)
    vectors, todo = recalled(cache, images)
    np.testing.assert_array_equal(vectors[0], vector_of(0))
    assert [missing.row for missing in todo] == [1]


def test_a_cache_of_other_machinery_or_in_a_folder_of_that_name_is_not_used(files, tmp_path):
    images = files(4)
    cache = filled(tmp_path / "cache", images)
    assert len(recalled(open_cache(tmp_path / "cache", device="cuda"), images)[1]) == 4
    other = open_cache(tmp_path / "cache", device="cuda").folder
    for shard in shards_of(cache):
        shutil.copy(shard, other)
    with pytest.warns(UserWarning, match=r"is damaged .*it belongs to the cache .*computed again"):
        assert len(recalled(open_cache(tmp_path / "cache", device="cuda"), images)[1]) == 4


# ------------------------------------------------------------------ several processes, small shards


def test_small_shards_are_merged_and_a_process_that_misses_one_looks_again(files, tmp_path):
    images = files(40)
    writer = open_cache(tmp_path / "cache")
    todo = recalled(writer, images)[1]
    reader = None
    for missing in todo:
        writer.add(missing.key, missing.stamp, vector_of(missing.row))
        writer.flush()
        if missing.row == 30:  # the reader knows 31 shards, which are then merged
            assert len(shards_of(writer)) == 31
            reader = open_cache(tmp_path / "cache")
    assert len(shards_of(writer)) == 1 + 8
    vectors, missing = recalled(reader, images)
    assert not missing
    np.testing.assert_array_equal(vectors, expected(images))
    np.testing.assert_array_equal(recalled(writer, images)[0], expected(images))


def test_shards_that_killed_runs_left_are_merged_by_the_next(files, tmp_path):
    images = files(45)
    cache = open_cache(tmp_path / "cache")
    for missing in recalled(cache, images)[1]:
        cache.add(missing.key, missing.stamp, vector_of(missing.row))
        cache._index._own.clear()  # as if another run had written it
        cache.flush()
    twice = [images.fingerprint(row) for row in (3, 4)]
    stamps = [index.Stamp.of(images.paths[row]) for row in (3, 4)]
    cache._index.write(twice, stamps, np.stack([vector_of(3), vector_of(4)]))  # two processes may compute the same
    assert len(shards_of(cache)) == 46
    left = cache.folder / ".shard-1.parquet.tmp"
    left.touch()
    os.utime(left, (1, 1))
    fresh = cache.folder / ".shard-2.parquet.tmp"
    fresh.touch()
    cache.close()
    cache = open_cache(tmp_path / "cache")
    (merged,) = shards_of(cache)
    assert len(pd.read_parquet(merged)) == 45
    np.testing.assert_array_equal(recalled(cache, images)[0], expected(images))
    assert (left.exists(), fresh.exists()) == (False, True)


def test_news_are_what_others_stored_since_and_merged_meanwhile(tmp_path):
    reader, writer = open_cache(tmp_path), open_cache(tmp_path)
    reader.add("mine", None, vector_of(100))
    reader.flush()
    seen = {}
    for number in range(40):
        writer.add(f"{number}", None, vector_of(number))
        writer.flush()
        if number in (10, 33, 39):
            reader._last_look -= 10
            news = reader.news()
            assert not set(news) & set(seen)
            seen |= news
            assert set(seen) == {f"{n}" for n in range(number + 1)}
    for number in range(40):
        np.testing.assert_array_equal(seen[f"{number}"], vector_of(number))
    writer.add("late", None, vector_of(7))
    writer.flush()
    assert reader.news() == {}  # not before a second has passed
    reader.add("late", None, vector_of(7))
    reader.close()
    reader.close()
    assert sum(len(pd.read_parquet(path)) for path in shards_of(reader)) == 43  # "late" twice, for both computed it


@pytest.fixture
def meanwhile(monkeypatch):
    """Let something happen right before the next shard is read, or only its vectors."""

    def arrange(columns, event):
        plain, waiting = index.read_parquet, [event]

        def read(path, wanted=None):
            if waiting and wanted == columns:
                waiting.pop()()
            return plain(path, wanted)

        monkeypatch.setattr(index, "read_parquet", read)

    return arrange


def stored_one_by_one(cache, images, rows):
    for row in rows:
        cache.add(images.fingerprint(row), index.Stamp.of(images.paths[row]), vector_of(row))
        cache.flush()


def test_shards_that_vanish_between_listing_and_reading_are_found_merged(files, tmp_path, meanwhile):
    images = files(40)
    writer = open_cache(tmp_path / "cache")
    stored_one_by_one(writer, images, range(31))
    meanwhile(["key", "path", "size", "mtime_ns"], lambda: stored_one_by_one(writer, images, range(31, 40)))
    cache = open_cache(tmp_path / "cache")
    assert len(cache._index) == 40
    vectors, todo = recalled(cache, images)
    assert not todo
    np.testing.assert_array_equal(vectors, expected(images))


def test_shards_that_vanish_while_vectors_are_recalled_are_found_merged(files, tmp_path, meanwhile):
    images = files(40)
    writer = open_cache(tmp_path / "cache")
    stored_one_by_one(writer, images, range(31))
    reader = open_cache(tmp_path / "cache")
    meanwhile(["vector"], lambda: stored_one_by_one(writer, images, range(31, 38)))
    vectors, todo = recalled(reader, images)
    assert [missing.row for missing in todo] == [38, 39]
    np.testing.assert_array_equal(vectors[:38], expected(images)[:38])


def test_news_that_vanish_while_they_are_read_come_with_the_next(files, tmp_path, meanwhile):
    images = files(40)
    writer, reader = open_cache(tmp_path / "cache"), open_cache(tmp_path / "cache")
    stored_one_by_one(writer, images, range(31))
    meanwhile(["vector"], lambda: stored_one_by_one(writer, images, range(31, 40)))
    seen = {}
    for _ in range(2):
        reader._last_look -= 10
        seen |= reader.news()
    assert set(seen) == {images.fingerprint(row) for row in range(40)}
    for row in range(40):
        np.testing.assert_array_equal(seen[images.fingerprint(row)], vector_of(row))


def test_what_others_stored_after_opening_is_recalled(files, tmp_path):
    images = files(4)
    writer, reader = open_cache(tmp_path / "cache"), open_cache(tmp_path / "cache")
    stored_one_by_one(writer, images, range(3))
    vectors, todo = recalled(reader, images)
    assert [missing.row for missing in todo] == [3]
    np.testing.assert_array_equal(vectors[:3], expected(images)[:3])


def test_the_first_process_is_alone_until_it_closes(tmp_path):
    first, second = open_cache(tmp_path), open_cache(tmp_path)
    assert (first.alone, second.alone) == (True, False)
    first.close()
    second.close()
    assert open_cache(tmp_path).alone


FILL = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    import numpy as np
    from vizkit.store import Cache

    folder, n, step = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    cache = Cache(folder, "network", {"device": "cpu"}, {"card": {"network": "none"}})
    cache._last_look -= 10
    print("ready", flush=True)
    sys.stdin.readline()
    known = set(cache.news())
    for number in range(n)[::step]:
        if f"{number}" in known or f"{number}" in cache._index:
            continue
        vector = np.random.default_rng(number).standard_normal(5).astype(np.float32)
        cache.add(f"{number}", None, vector)
        cache.flush()
        cache._last_look -= 10
        known |= set(cache.news())
        print(number, flush=True)
    cache.close()
    """
)


def start(folder, n, step):
    command = [sys.executable, "-c", FILL, str(folder), str(n), str(step)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def go(*processes):
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()


def test_two_processes_on_one_cache_share_the_work_and_kills_lose_nothing_that_was_written(tmp_path):
    n, chance, written = 900, random.Random(3), set()
    for turn in range(3):
        pair = [start(tmp_path, n, 1), start(tmp_path, n, -1)]
        go(*pair)
        if turn < 2:
            time.sleep(chance.uniform(0.2, 0.8))
            for process in pair:
                process.send_signal(signal.SIGKILL)
        told = [{int(line) for line in process.communicate()[0].split()} for process in pair]
        assert not written & (told[0] | told[1])  # nothing that was stored is computed again
        assert len(told[0] & told[1]) <= 20  # but where the two met
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            cache = open_cache(tmp_path)
        vectors = np.zeros((n, DIM), np.float32)
        stored = {int(key) for key in cache._index._places}
        assert written | told[0] | told[1] <= stored  # a kill may come between the writing and the telling
        written = stored
        rows = np.array(sorted(stored))
        places = [cache._index.place(f"{row}") for row in rows]
        assert not cache._index.fill(vectors, rows, np.array(places))
        np.testing.assert_array_equal(vectors[rows], np.stack([vector_of(row) for row in rows]))
        cache.close()
    assert written == set(range(n))
    assert len(shards_of(cache)) < 3 * 64


# ------------------------------------------------------------------ full disks, folders that cannot be written


def test_a_full_disk_keeps_what_was_written_and_what_is_pending(files, tmp_path):
    images = files(60)
    cache = filled(tmp_path / "cache", images.subset(slice(20)))
    before = shards_of(cache)
    todo = recalled(cache, images)[1]
    with disk_full():
        for missing in todo:
            cache.add(missing.key, missing.stamp, vector_of(missing.row))
        with pytest.raises(StoreError, match=r"cannot be written .*What was written before is kept: free some space"):
            cache.flush()
        with pytest.raises(StoreError, match=r"cannot be written"):
            cache.close()
    assert shards_of(cache) == before
    assert not list(cache.folder.glob(".*.tmp"))
    cache.flush()
    vectors, todo = recalled(open_cache(tmp_path / "cache"), images)
    assert not todo
    np.testing.assert_array_equal(vectors, expected(images))


def test_a_cache_that_can_be_read_alone_is_read_and_refuses_what_is_new(files):
    top = Path(tempfile.mkdtemp(dir="/var/tmp" if os.access("/var/tmp", os.W_OK) else None))
    try:
        top.chmod(0o755)
        images = files(40, top / "photos")
        cache = filled(top / "cache", images)
        cache.close()
        (cache.folder / "_lock").unlink(missing_ok=True)
        (cache.folder / "_manifest.json").unlink()
        names = sorted(path.name for path in cache.folder.iterdir())
        os.utime(images.paths[3], ns=(5, 5))  # a stamp that is new may be lost
        with nothing_can_be_written(top / "cache"):
            again, vectors, todo = opened_and_recalled(top / "cache", images)
            again.flush()
            again.add("new", None, vector_of(1))
            with pytest.raises(StoreError, match=r"cache folder .* cannot be written .*cache=FOLDER"):
                again.close()
            with pytest.raises(StoreError, match=r"cache folder .* cannot be written .*cache=FOLDER"):
                open_cache(top / "cache", device="cuda")
        assert not todo
        np.testing.assert_array_equal(vectors, expected(images))
        shard = shards_of(cache)[1]
        DAMAGES["other vectors"](shard)
        with nothing_can_be_written(top / "cache"), pytest.warns(UserWarning, match="is damaged") as caught:
            _, vectors, todo = opened_and_recalled(top / "cache", images)
        assert [missing.row for missing in todo] == list(range(10, 20))
        assert len(caught) == 1
        assert sorted(path.name for path in cache.folder.iterdir()) == names
    finally:
        shutil.rmtree(top)


def test_a_cache_that_is_deleted_while_it_is_used_is_made_again(tmp_path):
    cache = open_cache(tmp_path)
    cache.add("a", None, vector_of(0))
    cache.flush()
    shutil.rmtree(cache.folder)
    cache.add("b", None, vector_of(1))
    cache.flush()
    cache._last_look -= 10
    assert cache.news() == {}
    assert shards.read_manifest(cache.folder)["fingerprint"] == "network"
    assert len(shards_of(cache)) == 1


# ------------------------------------------------------------------ damage


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A cache of one shard: its folder, and the bytes of shard and manifest."""
    cache = open_cache(tmp_path_factory.mktemp("damage"))
    for number in range(12):
        stamp = index.Stamp(f"/photos/{number}.jpg", number, 10**18 + number) if number % 3 else None
        cache.add(f"{number:064x}", stamp, vector_of(number))
    cache.close()
    (shard,) = shards_of(cache)
    return cache.folder, shard, shard.read_bytes(), (cache.folder / "_manifest.json").read_bytes()


def cut_or_flipped(content, place, kind):
    """Cut a file at a place, or flip one bit there; the place is a share of its length."""
    at = min(int(place * len(content)), len(content) - 1)
    damaged = bytearray(content[:at] if kind == "cut" else content)
    if kind != "cut":
        damaged[at] ^= 1 << kind
    return bytes(damaged)


damage = given(st.floats(0, 1), st.sampled_from(["cut", *range(8)]))


@settings(max_examples=150, deadline=None)
@damage
def test_a_shard_that_was_cut_or_flipped_gives_its_vectors_or_a_warning_but_no_others(whole, place, kind):
    folder, shard, content, _ = whole
    for path in folder.glob("*.damaged"):
        path.unlink()
    shard.write_bytes(cut_or_flipped(content, place, kind))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = index.Index(folder)
        keys = [f"{number:064x}" for number in range(12)]
        rows = np.array([row for row, key in enumerate(keys) if key in found], np.int64)
        vectors = np.zeros((12, DIM), np.float32)
        lost = found.fill(vectors, rows, np.array([found.place(keys[row]) for row in rows], np.int64))
    assert set(found._places) <= set(keys)
    for number in range(12):
        known = found.key_of(index.Stamp(f"/photos/{number}.jpg", number, 10**18 + number))
        assert known in (None, keys[number])
    if len(rows) == 12 and not lost:
        assert not caught
        np.testing.assert_array_equal(vectors, np.stack([vector_of(number) for number in range(12)]))
    else:
        assert sorted(lost) == rows.tolist()
        assert [str(warning.message) for warning in caught if shard.name in str(warning.message)]
        assert len(caught) == 1
        assert "is damaged" in str(caught[0].message)
        assert not shard.exists()
        assert shard.with_suffix(".damaged").exists()


@settings(max_examples=150, deadline=None)
@damage
def test_a_manifest_that_was_cut_or_flipped_tells_the_same_or_is_named(whole, place, kind):
    folder, _, _, content = whole
    (folder / "_manifest.json").write_bytes(content)
    told = shards.read_manifest(folder)
    (folder / "_manifest.json").write_bytes(cut_or_flipped(content, place, kind))
    error, found = None, None
    try:
        found = shards.read_manifest(folder)
    except StoreError as raised:
        error = str(raised)
    assert found == told if error is None else re.search(r"The manifest .*_manifest\.json' is damaged", error)


def test_a_damaged_manifest_of_a_cache_is_written_anew_with_a_warning(files, tmp_path):
    images = files(5)
    cache = filled(tmp_path, images)
    cache.close()
    manifest = cache.folder / "_manifest.json"
    content = manifest.read_text()
    other = shards.read_manifest(cache.folder) | {"fingerprint": "another network"}
    shards.write_manifest(cache.folder, other)
    for wrong in (manifest.read_text(), content[:50], "", content.replace("cpu", "cuda"), "[]", '{"schema": 1}'):
        manifest.write_text(wrong)
        with pytest.warns(UserWarning, match=r"_manifest\.json.* It is written anew"):
            found = open_cache(tmp_path)
        assert manifest.read_text() == content
        np.testing.assert_array_equal(recalled(found, images)[0], expected(images))
        found.close()


def rewritten(shard, change):
    table = pq.read_table(shard, partitioning=None)
    pq.write_table(change(table), shard)


def with_column(table, name, values):
    return table.set_column(table.schema.get_field_index(name), name, values)


def with_vectors(table, vectors):
    return with_column(table, "vector", shards.vector_column(vectors))


BACK = list(range(9, -1, -1))
DAMAGES = {
    "cut": lambda shard: shard.write_bytes(shard.read_bytes()[:-100]),
    "emptied": lambda shard: shard.write_bytes(b""),
    "garbage": lambda shard: shard.write_bytes(random.Random(0).randbytes(5000)),
    "another table": lambda shard: pd.DataFrame({"a": [1]}).to_parquet(shard),
    "a column fewer": lambda shard: rewritten(shard, lambda table: table.drop_columns("mtime_ns")),
    "no vectors": lambda shard: rewritten(shard, lambda table: table.drop_columns("vector")),
    "other vectors": lambda shard: rewritten(shard, lambda table: with_vectors(table, np.zeros((10, DIM), "f4"))),
    "another dim": lambda shard: rewritten(shard, lambda table: with_vectors(table, np.zeros((10, 4), "f4"))),
    "other keys": lambda shard: rewritten(shard, lambda table: with_column(table, "key", table["key"].take(BACK))),
    "other sizes": lambda shard: rewritten(shard, lambda table: with_column(table, "size", pa.array([99] * 10))),
    "rows in another order": lambda shard: rewritten(shard, lambda table: table.take(BACK)),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_shard_is_named_set_aside_and_its_images_are_computed_again(files, tmp_path, kind):
    images = files(30)
    cache = filled(tmp_path / "cache", images)
    cache.close()
    shard = shards_of(cache)[1]
    DAMAGES[kind](shard)
    with pytest.warns(UserWarning, match=f"{shard.name}.*is damaged.*computed again") as caught:
        cache, vectors, todo = opened_and_recalled(tmp_path / "cache", images)
    assert len([warning for warning in caught if "damaged" in str(warning.message)]) == 1
    assert [missing.row for missing in todo] == list(range(10, 20))
    assert all(missing.key and missing.stamp for missing in todo)
    kept = np.r_[0:10, 20:30]
    np.testing.assert_array_equal(vectors[kept], expected(images)[kept])
    assert np.isnan(vectors[10:20]).all()
    assert shard.with_suffix(".damaged").exists()
    for missing in todo:
        cache.add(missing.key, missing.stamp, vector_of(missing.row))
    cache.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vectors, todo = recalled(open_cache(tmp_path / "cache"), images)
    assert not todo
    np.testing.assert_array_equal(vectors, expected(images))


def test_vectors_of_another_length_in_a_whole_shard_are_computed_again(files, tmp_path):
    images = files(2)
    cache = open_cache(tmp_path / "cache")
    for missing in recalled(cache, images)[1]:
        cache.add(missing.key, missing.stamp, np.zeros(3))
    cache.flush()
    with pytest.warns(UserWarning, match=r"is damaged .*its vectors are not what was written"):
        assert len(recalled(cache, images)[1]) == 2


# ------------------------------------------------------------------ results


def embeddings(n=50, d=7, **columns):
    rng = np.random.default_rng(n)
    frame = pd.DataFrame(
        {"label": [None if i % 5 else f"kind {i % 3}" for i in range(n)], "number": np.arange(n) / 3, **columns},
        index=[f"photo {i:03d}" for i in range(n)],
    )
    failures = pd.DataFrame({"id": ["x"], "path": ["/x.png"], "reason": ["cut short"]})
    vectors = rng.standard_normal((n, d)).astype(np.float32)
    return vk.Embeddings(vectors, frame, failures, provenance={"fingerprint": "network", "batch_size": 16})


@pytest.fixture
def small_shards(monkeypatch):
    """Let a result's shards hold 10 vectors of 7 numbers, so that 50 of them make five."""
    monkeypatch.setattr(results, "SHARD_BYTES", 10 * 7 * 4)


def assert_same(back, found):
    np.testing.assert_array_equal(back.vectors, found.vectors)
    pd.testing.assert_frame_equal(back.frame, found.frame, check_index_type=False, check_dtype=False)
    pd.testing.assert_frame_equal(back.failures, found.failures, check_dtype=False)
    assert back.provenance == found.provenance


def test_a_result_of_several_shards_comes_back_as_it_was(tmp_path, small_shards):
    found = embeddings()
    target = found.save(tmp_path / "saved")
    assert len(list(target.glob("shard-*.parquet"))) == 5
    assert_same(vk.Embeddings.load(target), found)
    found = embeddings(0)
    assert_same(vk.Embeddings.load(found.save(tmp_path / "saved")), found)
    assert len(list(target.glob("shard-*.parquet"))) == 1
    with pytest.raises(InputError, match=r"dtype is 'int8'; expected 'float32' or 'float16'"):
        found.save(tmp_path / "other", dtype="int8")


def test_float16_halves_the_store_and_loads_as_float32(tmp_path):
    found = embeddings(2000, 64)
    sizes = {}
    for dtype in ("float32", "float16"):
        target = found.save(tmp_path / dtype, dtype=dtype)
        sizes[dtype] = sum(path.stat().st_size for path in target.glob("shard-*.parquet"))
    back = vk.Embeddings.load(tmp_path / "float16")
    assert back.vectors.dtype == np.float32
    np.testing.assert_array_equal(back.vectors, found.vectors.astype(np.float16).astype(np.float32))
    assert back.provenance["rounded_to"] == "float16"
    assert pd.read_parquet(tmp_path / "float16")["vector"][0].dtype == np.float16
    assert sizes["float16"] < 0.65 * sizes["float32"]


def test_what_float16_cannot_hold_is_refused_with_the_value(tmp_path):
    found = embeddings()
    found.vectors[31, 4] = -70000
    with pytest.raises(InputError, match=r"float16 ends at 65504, and the vector of 'photo 031' reaches 70000\. Save"):
        found.save(tmp_path / "saved", dtype="float16")
    found.vectors[31, 4] = 1
    found.vectors[12] *= 1e-7
    with pytest.raises(InputError, match=r"float16 loses digits .* vector of 'photo 012' has none above .*e-07\. Save"):
        found.save(tmp_path / "saved", dtype="float16")
    assert not list(tmp_path.iterdir())
    found.vectors[12] = 0
    np.testing.assert_array_equal(vk.Embeddings.load(found.save(tmp_path / "saved", dtype="float16")).vectors[12], 0)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_other_programs_open_results_and_caches_without_vizkit(files, tmp_path, small_shards, dtype):
    found = embeddings()
    target = found.save(tmp_path / "saved", dtype=dtype)
    images = files(25)
    cache = filled(tmp_path / "cache", images)
    os.utime(tmp_path / "photos/0003.png", ns=(5, 5))
    recalled(cache, images)
    cache.close()
    assert list(cache.folder.glob("_stamps/shard-*.stamps"))
    np.savez(tmp_path / "ours.npz", ids=found.ids, vectors=found.vectors.astype(dtype), cache=expected(images))
    script = """
        import sys
        import duckdb, numpy as np, pandas as pd, pyarrow.dataset as ds
        result, cache, ours = sys.argv[1], sys.argv[2], np.load(sys.argv[3])
        for folder, name, wanted in ((result, "id", ours["vectors"]), (cache, "path", ours["cache"])):
            tables = {
                "pandas": pd.read_parquet(folder),
                "pyarrow": ds.dataset(folder).to_table().to_pandas(),
                "duckdb": duckdb.sql(f"from '{folder}/*.parquet'").df(),
                "duckdb, whole folder": duckdb.sql(f"from read_parquet('{folder}')").df(),
            }
            for program, table in tables.items():
                if name == "path":
                    table = table.sort_values("path")
                else:
                    assert table["id"].tolist() == ours["ids"].tolist(), program
                np.testing.assert_array_equal(np.stack(table["vector"]).astype("f4"), wanted.astype("f4"), program)
            count = duckdb.sql(f"select count(distinct {name}) from '{folder}/*.parquet'").fetchall()
            assert count == [(len(wanted),)], count
        assert "vizkit" not in sys.modules
        print("same")
        """
    command = [sys.executable, "-c", textwrap.dedent(script), target, cache.folder, tmp_path / "ours.npz"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "same\n"


def test_a_result_of_the_first_schema_is_still_read(tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    vectors = np.arange(12, dtype=np.float32).reshape(4, 3)
    for start in (0, 2):
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors[start : start + 2].ravel()), 3)
        ids = [f"i{row}" for row in range(start, start + 2)]
        table = pa.table({"id": ids, "label": ["a", None], "id_": [start, 9], "vector": column})
        pq.write_table(table, folder / f"shard-{start:020d}-abc.parquet")
    pq.write_table(pa.table({"id": ["x"], "path": [""], "reason": ["no"]}), folder / "failures.parquet")
    manifest = {"schema": 1, "fingerprint": "f", "kind": "result", "n": 4, "dim": 3, "renamed": {"id_": "id"}}
    (folder / "manifest.json").write_text(json.dumps(manifest | {"saved_by": {"vizkit": "0"}}))
    back = vk.Embeddings.load(folder)
    np.testing.assert_array_equal(back.vectors, vectors)
    assert back.ids == ["i0", "i1", "i2", "i3"]
    assert back.frame["id"].tolist() == [0, 9, 2, 9]
    assert back.failures["reason"].tolist() == ["no"]
    assert back.provenance == {"fingerprint": "f"}
    back.save(folder)  # and becomes one of the present schema
    assert sorted(path.name for path in folder.iterdir()) == ["_failures.json", "_manifest.json", "shard-00000.parquet"]
    np.testing.assert_array_equal(vk.Embeddings.load(folder).vectors, vectors)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved result and a copy of it to damage."""
    found = embeddings()
    folder = tmp_path_factory.mktemp("result")
    return found, found.save(folder / "whole"), folder / "damaged"


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["_manifest.json", "shard-00000.parquet", "_failures.json"]),
    st.floats(0, 1),
    st.sampled_from(["cut", *range(8)]),
)
def test_a_result_that_was_cut_or_flipped_is_the_same_or_named(saved, name, place, kind):
    found, folder, copy = saved
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    (copy / name).write_bytes(cut_or_flipped((folder / name).read_bytes(), place, kind))
    error, back = None, None
    try:
        back = vk.Embeddings.load(copy)
    except StoreError as raised:
        error = str(raised)
    if error is None:
        assert_same(back, found)
    else:
        assert re.search(f"{name}.*is damaged", error)


def test_a_file_that_is_missing_from_a_result_is_named(tmp_path, small_shards):
    found = embeddings()
    for name in ("shard-00002.parquet", "_failures.json"):
        target = found.save(tmp_path / "saved")
        (target / name).unlink()
        with pytest.raises(StoreError, match=rf"is incomplete: .*{name} is missing\. Save it again"):
            vk.Embeddings.load(target)
        shutil.rmtree(target)
    target = found.save(tmp_path / "saved")
    target.rename(tmp_path / ".saved-12345678.old")
    with pytest.raises(StoreError, match=r"does not exist: a process was killed .*\.saved-12345678\.old'; rename"):
        vk.Embeddings.load(target)


def test_a_disk_that_fills_while_saving_leaves_the_earlier_result_alone(tmp_path):
    found = embeddings()
    target = found.save(tmp_path / "saved")
    with disk_full(), pytest.raises(StoreError, match=r"/saved' cannot be written .*free some space"):
        embeddings(60).save(target)
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    assert_same(vk.Embeddings.load(target), found)


@pytest.mark.parametrize("error", [OSError("the folder is locked"), KeyboardInterrupt()])
@pytest.mark.parametrize("moment", ["before the new one stands", "after"])
def test_a_save_that_is_interrupted_between_its_renames_leaves_a_whole_result(tmp_path, monkeypatch, error, moment):
    found, later = embeddings(), embeddings(60)
    target = found.save(tmp_path / "saved")
    plain = Path.rename

    def rename(self, to):
        if not self.name.endswith(".tmp"):
            return plain(self, to)
        if moment == "after":
            plain(self, to)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        with pytest.raises((StoreError, KeyboardInterrupt), match=r"is locked|^$"):
            later.save(target)
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    assert_same(vk.Embeddings.load(target), later if moment == "after" else found)


def test_a_name_with_brackets_is_no_pattern(tmp_path):
    for name in (".run[1]-0.tmp", ".run1-0.tmp"):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (1, 1))
    embeddings().save(tmp_path / "run[1]")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".run1-0.tmp", "run[1]"]
    (tmp_path / "run[1]").rename(tmp_path / ".run[1]-12345678.old")
    with pytest.raises(StoreError, match=r"does not exist: a process was killed .*run\[1\]-12345678\.old'; rename"):
        vk.Embeddings.load(tmp_path / "run[1]")


def test_failures_are_json_in_utf8_that_anything_reads(tmp_path):
    found = embeddings()
    rows = [["x", "/x.png", "cut short"], ["Größe 图.png", "/x/Größe 图.png", "its name holds \udcff"]]
    failures = pd.DataFrame(rows, columns=["id", "path", "reason"], dtype=object)
    found = vk.Embeddings(found.vectors, found.frame, failures)
    target = found.save(tmp_path / "saved")
    text = (target / "_failures.json").read_text(encoding="utf-8")
    assert json.loads(text) == [
        {"id": "x", "path": "/x.png", "reason": "cut short"},
        {"id": "Größe 图.png", "path": "/x/Größe 图.png", "reason": "its name holds \\udcff"},
    ]
    assert "Größe 图.png" in text
    assert vk.Embeddings.load(target).failures["id"].tolist() == ["x", "Größe 图.png"]
    none = vk.Embeddings(found.vectors, found.frame, provenance={"name": "half a pair \udcff"})
    back = vk.Embeddings.load(none.save(tmp_path / "none"))
    assert (len(back.failures), list(back.failures.columns)) == (0, ["id", "path", "reason"])
    assert back.provenance == none.provenance


def test_a_sound_shard_that_this_pyarrow_cannot_read_is_left_alone(files, tmp_path, monkeypatch):
    images = files(3)
    cache = filled(tmp_path / "cache", images)
    cache.close()
    before = sorted(path.name for path in cache.folder.iterdir())

    def refuse(*_, **__):
        raise pa.ArrowNotImplementedError("Support for codec 'zstd' not built")

    with monkeypatch.context() as patch:
        patch.setattr(pq, "ParquetFile", refuse)
        with pytest.warns(UserWarning, match="is damaged"):  # this pyarrow knows zstd: the file asks for nonsense
            index.Index(shutil.copytree(cache.folder, tmp_path / "copy"))
        patch.setattr(pa, "Codec", type("Codec", (), {"is_available": staticmethod(lambda name: name != "zstd")}))
        with pytest.raises(StoreError, match=r"this pyarrow has no zstd .*It is left as it is; install"):
            open_cache(tmp_path / "cache")
    assert sorted(path.name for path in cache.folder.iterdir()) == before
    np.testing.assert_array_equal(opened_and_recalled(tmp_path / "cache", images)[1], expected(images))


# ------------------------------------------------------------------ what a store says of itself


def test_a_folder_of_stores_names_those_that_can_be_loaded(tmp_path):
    for name in ("b", "a"):
        embeddings().save(tmp_path / "layers" / name)
    (tmp_path / "layers/notes").mkdir()
    with pytest.raises(StoreError, match=r"layers' is no store but holds 2: 'a', 'b'\. Give one of these folders"):
        vk.Embeddings.load(tmp_path / "layers")
    cache = open_cache(tmp_path / "cache")
    with pytest.raises(
        StoreError, match=rf"holds no saved result, but what embed.*: '{cache.folder.name}'\. Run embed"
    ):
        vk.Embeddings.load(tmp_path / "cache")


def test_an_encoder_that_is_another_one_is_told_apart_by_its_card(tmp_path):
    made = vk.Encoder("scenes", weights=None, layer="layer3", seed=1)
    card = {name: str(value) for name, value in made.card()["value"].items()}
    plain = embeddings()
    told = {"fingerprint": made.fingerprint, "card": card}
    target = vk.Embeddings(plain.vectors, plain.frame, provenance=told).save(tmp_path / "saved")
    assert vk.Embeddings.load(target, encoder=made).encoder is made
    other = vk.Encoder("scenes", weights=None, layer="layer3", seed=2, pool="max")
    hashes = (made.card()["value"]["weights hash"], other.card()["value"]["weights hash"])
    wanted = (
        "What differs is weights: random, seed 1, here random, seed 2; weights hash: {}, here {}; "
        "pooling: gap, here max. Make the encoder as it was"
    ).format(*hashes)
    with pytest.raises(InputError, match=re.escape(wanted)):
        vk.Embeddings.load(target, encoder=other)
    made.module.anything = 3
    with pytest.raises(InputError, match="cards are alike, so it is the code or an attribute"):
        vk.Embeddings.load(target, encoder=made)


def test_the_repr_says_how_many_neighbors_are_kept_where_that_was_measured():
    found = embeddings()
    assert repr(found) == "<Embeddings: 50 vectors of 7 dimensions, 1 failed>"
    for exactness, words in ({"nearest kept": 0.8571}, ", 0.86 of nearest neighbors kept"), ("not measured", ""):
        found.provenance["exactness"] = exactness
        assert repr(found) == f"<Embeddings: 50 vectors of 7 dimensions, 1 failed{words}>"


def test_a_saved_result_knows_when_and_a_copy_of_it_too(tmp_path):
    before = pd.Timestamp.now("UTC").floor("s")
    target = embeddings().save(tmp_path / "saved")
    after = pd.Timestamp.now("UTC")
    written = json.loads((target / "_manifest.json").read_text())["saved_at"]
    assert before <= pd.Timestamp(written) <= after
    for path in target.iterdir():
        os.utime(path, (1, 1))
    about = inspect_store(target)
    assert (about["written"], about["problems"], about["failed"]) == (written, [], 1)
    assert "saved_at" not in about["made_with"]
    assert "saved_at" not in vk.Embeddings.load(target).provenance


def test_the_seed_is_told_only_where_the_weights_are_random(tmp_path):
    for weights, shown in (("random, seed 3", True), ("ResNet18_Weights.IMAGENET1K_V1", False)):
        plain = embeddings()
        told = {"card": {"weights": weights}, "seed": 3}
        target = vk.Embeddings(plain.vectors, plain.frame, provenance=told).save(tmp_path / "saved")
        assert ("seed" in inspect_store(target)["made_with"]) is shown


def test_a_cache_that_was_stopped_early_and_one_with_damage_are_told_sensibly(files, tmp_path):
    cache = store.Cache(tmp_path / "early", "network", {"device": "cpu"}, {"card": {"dimensions": "512"}})
    cache.close()
    about = inspect_store(cache.folder)
    assert (about["kind"], about["n"], about["dim"], about["dtype"]) == ("cache", 0, 512, "float32")
    assert about["problems"] == []
    cache = filled(tmp_path / "cache", files(20))
    sound = inspect_store(cache.folder)
    assert (sound["n"], sound["dim"], sound["dtype"]) == (20, DIM, "float32")
    wanted = sum(path.stat().st_size for path in [*shards_of(cache), cache.folder / "_manifest.json"])
    assert sound["bytes"] == wanted
    (cache.folder / "shard-1.damaged").write_bytes(bytes(1000))
    (cache.folder / "_lock").write_bytes(bytes(1000))
    assert inspect_store(cache.folder)["bytes"] == wanted


# ------------------------------------------------------------------ arrays larger than memory


def test_room_beyond_the_limit_is_a_file_without_a_name_that_goes_with_the_array(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert type(room((100, 10), limit=4000)) is np.ndarray
    held = room((100, 10), limit=3999)
    assert isinstance(held, np.memmap)
    assert (held.shape, held.dtype) == ((100, 10), np.float32)
    assert not held.any()
    held[:] = np.arange(1000).reshape(100, 10)
    assert held.sum() == 999 * 500
    assert not list(tmp_path.iterdir())
    here = f"{tmp_path}/"
    assert [mapped.path for mapped in psutil.Process().memory_maps() if mapped.path.startswith(here)]
    del held
    assert not [mapped.path for mapped in psutil.Process().memory_maps() if mapped.path.startswith(here)]


def test_memory_is_shared_among_the_arrays_of_a_run():
    half = psutil.virtual_memory().available // 2
    most = (half // 4 * 2 // 3,)  # two mosts of what one array may have
    assert type(room(most)) is np.ndarray
    assert type(room((1000,), among=100)) is np.ndarray
    with disk_full(), pytest.raises(StoreError, match="more than memory has to spare"):
        room(most, among=3)


def test_a_disk_without_room_is_refused_before_anything_is_written(monkeypatch):
    with disk_full(), pytest.raises(StoreError, match=r"shape \(1000, 10\) .*no room for it in .*TMPDIR"):
        room((1000, 10), limit=0)


def test_a_result_larger_than_memory_is_loaded_into_a_file(tmp_path, monkeypatch, small_shards):
    found = embeddings()
    target = found.save(tmp_path / "saved")
    made = []
    monkeypatch.setattr(results, "room", lambda shape: made.append(room(shape, limit=0)) or made[0])
    back = vk.Embeddings.load(target)
    assert isinstance(made[0], np.memmap)
    assert np.shares_memory(back.vectors, made[0])
    assert_same(back, found)


def test_vectors_need_no_copy_to_be_found_finite():
    vectors = np.zeros((3, 2**22 + 1), np.float32)
    vectors[1, -1] = np.nan
    with pytest.raises(InputError, match=r"1 of 3 vectors hold NaN or infinity \('b'\)"):
        vk.Embeddings(vectors, pd.DataFrame(index=list("abc")))
