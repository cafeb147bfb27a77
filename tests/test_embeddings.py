"""embed, its cache, and what is saved: nothing is lost, nothing is computed twice, nothing is mixed up."""

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import duckdb
import numpy as np
import pandas as pd
import pytest
import torch
from drawn import photo, tiny_network, to_tensor_32

import vizkit as vk
from vizkit.embeddings import require_encoder
from vizkit.errors import InputError, MissingEncoderError, StoreError


class Counting(torch.nn.Module):
    """Counts the images that are not blank: slots of stored images stay zero."""

    def __init__(self, seed=0):
        super().__init__()
        self.body = tiny_network(seed)
        self.seen = 0

    def forward(self, x):
        self.seen += int((x != 0).flatten(1).any(1).sum())
        return self.body(x)


@pytest.fixture
def folder(tmp_path):
    """Forty small images in two classes; a file that is no image, and one that is cut short."""
    for i in range(40):
        path = tmp_path / "photos" / ("a" if i % 2 else "b") / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(i).save(path)
    (tmp_path / "photos/a/broken.jpg").write_bytes(b"no image at all")
    return tmp_path / "photos"


def fresh(seed=0, **options):
    encoder = vk.Encoder(Counting(seed), preprocess=to_tensor_32, **options)
    encoder.module.seen = 0
    return encoder


def embed(folder, encoder, cache, **options):
    return vk.embed(vk.ImageSet.from_folder(folder), encoder, cache=cache, progress=False, **options)


def test_vectors_equal_a_plain_forward_in_the_order_of_the_images(folder, tmp_path):
    images = vk.ImageSet.from_folder(folder)
    encoder = fresh()
    found = vk.embed(images, encoder, cache=tmp_path / "cache", progress=False)
    good = [i for i, id in enumerate(images.ids) if "broken" not in id]
    with torch.no_grad():
        expected = encoder.module.body[:6](torch.stack([to_tensor_32(images[i]) for i in good])).numpy()
    assert found.ids == [images.ids[i] for i in good]
    assert found.vectors.dtype == np.float32
    np.testing.assert_allclose(found.vectors, expected, rtol=1e-5, atol=1e-6)
    assert list(found.frame["label"].unique()) == ["a", "b"]


def test_every_image_is_in_exactly_one_of_vectors_and_failures(folder, tmp_path):
    found = embed(folder, fresh(), tmp_path / "cache")
    assert len(found) == 40
    assert list(found.failures["id"]) == ["a/broken.jpg"]
    assert "broken.jpg" in found.failures["path"][0]
    assert "a/broken.jpg" in found.failures["reason"][0]
    assert not set(found.ids) & set(found.failures["id"])


def test_a_second_run_reads_everything_from_the_cache(folder, tmp_path):
    first = embed(folder, fresh(), tmp_path / "cache")
    encoder = fresh()
    second = embed(folder, encoder, tmp_path / "cache")
    assert encoder.module.seen == 0
    np.testing.assert_array_equal(first.vectors, second.vectors)
    assert list(second.failures["id"]) == ["a/broken.jpg"]


def test_only_a_changed_or_new_image_is_computed_again(folder, tmp_path):
    first = embed(folder, fresh(), tmp_path / "cache")
    photo(99).save(folder / "a/01.png")
    photo(98).save(folder / "b/new.png")
    os.utime(folder / "a/03.png")  # touched, not changed
    (folder / "b/02.png").rename(folder / "b/renamed.png")
    encoder = fresh()
    second = embed(folder, encoder, tmp_path / "cache")
    assert encoder.module.seen == 2
    same = [id for id in first.ids if id in second.ids and id != "a/01.png"]
    for id in same:
        np.testing.assert_array_equal(first.vectors[first.row(id)], second.vectors[second.row(id)])
    moved = second.vectors[second.row("b/renamed.png")]
    np.testing.assert_array_equal(moved, first.vectors[first.row("b/02.png")])
    assert not np.allclose(first.vectors[first.row("a/01.png")], second.vectors[second.row("a/01.png")])


def test_a_cache_of_another_encoder_is_never_used(folder, tmp_path):
    embed(folder, fresh(), tmp_path / "cache")
    for other in (fresh(seed=1), fresh(layer="body.3"), fresh(layer="body.3", pool="max")):
        found = embed(folder, other, tmp_path / "cache")
        assert other.module.seen == 40
        alone = embed(folder, other, tmp_path / f"alone-{other.fingerprint}")
        np.testing.assert_array_equal(found.vectors, alone.vectors)


def test_a_damaged_shard_is_named_and_computed_again(folder, tmp_path):
    first = embed(folder, fresh(), tmp_path / "cache")
    (shard,) = (tmp_path / "cache").glob("*/shard-*.parquet")
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 0xFF
    shard.write_bytes(content)
    encoder = fresh()
    with pytest.warns(UserWarning, match=f"{shard.name}.*is damaged.*computed again"):
        second = embed(folder, encoder, tmp_path / "cache")
    assert encoder.module.seen == 40
    np.testing.assert_array_equal(first.vectors, second.vectors)
    encoder = fresh()
    embed(folder, encoder, tmp_path / "cache")  # and says so once only
    assert encoder.module.seen == 0


def test_an_interrupt_keeps_what_is_done(folder, tmp_path):
    encoder = fresh()
    calls = []

    def stop(*_):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    handle = encoder.module.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        embed(folder, encoder, tmp_path / "cache")
    handle.remove()
    assert encoder.module.seen == 16  # the first batch
    resumed = fresh()
    found = embed(folder, resumed, tmp_path / "cache")
    assert resumed.module.seen == 40 - 16
    np.testing.assert_array_equal(found.vectors, embed(folder, fresh(), tmp_path / "other").vectors)


RUN = textwrap.dedent(
    """
    import sys, time
    sys.path.insert(0, {tests!r})
    import torch, vizkit as vk
    from drawn import tiny_network, to_tensor_32

    class Slow(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = tiny_network()
            self.ready = False

        def forward(self, x):
            if self.ready:
                time.sleep(0.25)
                print("computed", int((x != 0).flatten(1).any(1).sum()), flush=True)
            return self.body(x)

    module = Slow()
    encoder = vk.Encoder(module, preprocess=to_tensor_32)
    images = vk.ImageSet.from_folder({photos!r})
    module.ready = True
    print("ready", flush=True)
    found = vk.embed(images, encoder, cache=sys.argv[1], progress=False)
    if len(sys.argv) > 2:
        found.save(sys.argv[2])
    """
)


def test_five_kills_and_a_rerun_equal_an_undisturbed_run(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    n = 20 * 16
    for i in range(n):
        photo(i, (40, 40)).save(photos / f"{i:03d}.png")
    script = tmp_path / "run.py"
    script.write_text(RUN.format(tests=os.path.dirname(__file__), photos=str(photos)))  # noqa: PTH120

    def run(cache, *more):
        command = [sys.executable, str(script), str(cache), *map(str, more)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    undisturbed = run(tmp_path / "calm", tmp_path / "calm-result")
    assert undisturbed.communicate()[0].count("computed 16") == 20
    chance = random.Random(7)
    stored = 0
    for _ in range(5):
        process = run(tmp_path / "cache")
        assert process.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.3, 2.2))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        now = sum(len(pd.read_parquet(p)) for p in (tmp_path / "cache").glob("*/shard-*.parquet"))
        assert stored <= now < n
        stored = now
    final = run(tmp_path / "cache", tmp_path / "result")
    computed = [int(line.split()[1]) for line in final.communicate()[0].splitlines() if "computed" in line]
    assert final.returncode == 0
    assert 0 < stored == n - sum(computed)  # only what was missing
    a, b = (vk.Embeddings.load(tmp_path / name) for name in ("calm-result", "result"))
    assert a.ids == b.ids
    assert a.vectors.tobytes() == b.vectors.tobytes()


def test_a_vector_that_is_not_finite_is_a_failure(tmp_path):
    for i in range(3):
        photo(i).save(tmp_path / f"{i}.png")

    class Sometimes(torch.nn.Module):
        def forward(self, x):
            return torch.where(x.mean((1, 2, 3)) > 0.9, torch.nan, x.mean((2, 3)).T).T

    photo(0).point(lambda _: 255).save(tmp_path / "white.png")
    encoder = vk.Encoder(Head(Sometimes()), layer="body", preprocess=to_tensor_32)
    found = embed(tmp_path, encoder, tmp_path / "cache")
    assert len(found) == 3
    assert found.failures["reason"][0] == "white.png: the network gave NaN or infinity for it."


class Head(torch.nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(x)


def test_a_preprocess_that_fails_on_one_image_costs_that_image_alone(folder, tmp_path):
    def picky(image):
        if image.size == (96, 80) and np.asarray(image)[0, 0, 0] == np.asarray(photo(4))[0, 0, 0]:
            raise RuntimeError("not this one")
        return to_tensor_32(image)

    found = embed(folder, vk.Encoder(tiny_network(), preprocess=picky), tmp_path / "cache")
    assert any("preprocess failed with RuntimeError: not this one" in r for r in found.failures["reason"])
    assert len(found) + len(found.failures) == 41


def test_saved_embeddings_come_back_whole_and_open_elsewhere(folder, tmp_path):
    encoder = fresh()
    found = embed(folder, encoder, tmp_path / "cache")
    target = found.save(tmp_path / "saved")
    back = vk.Embeddings.load(target, encoder=encoder)
    np.testing.assert_array_equal(back.vectors, found.vectors)
    assert back.ids == found.ids
    assert list(back.frame["label"]) == list(found.frame["label"])
    assert list(back.failures["reason"]) == list(found.failures["reason"])
    assert back.provenance["fingerprint"] == encoder.fingerprint
    assert back.images[back.images.row("b/00.png")].size == (96, 80)
    plain = pd.concat(pd.read_parquet(p) for p in target.glob("shard-*.parquet"))
    np.testing.assert_array_equal(np.stack(plain["vector"]), found.vectors)
    [(count,)] = duckdb.sql(f"select count(*) from '{target}/shard-*.parquet' where label = 'a'").fetchall()
    assert count == 20
    card = json.loads((target / "manifest.json").read_text())["card"]
    assert card["network"] == "Counting"
    found.save(target)  # a result may replace a result
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "photos", "saved"]


def test_what_cannot_be_saved_or_loaded_is_refused_in_words(folder, tmp_path):
    found = embed(folder, fresh(), tmp_path / "cache")
    with pytest.raises(StoreError, match="exists and holds no saved embeddings"):
        found.save(folder)
    with pytest.raises(StoreError, match=r"is no vizkit store: it has no manifest\.json"):
        vk.Embeddings.load(folder)
    (cache,) = (tmp_path / "cache").iterdir()
    with pytest.raises(StoreError, match="is a cache, not a saved result"):
        vk.Embeddings.load(cache)
    found.save(tmp_path / "saved")
    with pytest.raises(InputError, match=r"were made by the encoder .*, the one given is"):
        vk.Embeddings.load(tmp_path / "saved", encoder=fresh(seed=1))
    manifest = tmp_path / "saved/manifest.json"
    manifest.write_text(manifest.read_text().replace('"schema": 1', '"schema": 99'))
    with pytest.raises(StoreError, match="has schema 99; this vizkit reads schema 1"):
        vk.Embeddings.load(tmp_path / "saved")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot be written .* cache=FOLDER"):
        embed(folder, fresh(), tmp_path / "file")


def test_vectors_of_ones_own_work_without_an_encoder():
    frame = pd.DataFrame({"id": ["x", "y", "z"], "embedding": [[1, 0], [0.9, 0.1], [0, 1]], "kind": list("aab")})
    found = vk.Embeddings.from_frame(frame)
    assert found.ids == ["x", "y", "z"]
    assert found.vectors.dtype == np.float32
    assert list(found.frame["kind"]) == ["a", "a", "b"]
    with pytest.raises(MissingEncoderError, match="Evidence needs the network behind the vectors"):
        require_encoder(found, "Evidence")
    with pytest.raises(InputError, match="No column 'vectors' of vectors; the table has 'id', 'embedding', 'kind'"):
        vk.Embeddings.from_frame(frame, embedding="vectors")
    with pytest.raises(InputError, match="vectors of one length"):
        vk.Embeddings.from_frame(frame.assign(embedding=[[1, 0], [1], [0, 1]]))
    with pytest.raises(InputError, match=r"1 of 3 vectors hold NaN or infinity \('y'\)"):
        vk.Embeddings.from_frame(frame.assign(embedding=[[1, 0], [np.nan, 0], [0, 1]]))
    with pytest.raises(InputError, match="given more than once: 'x'"):
        vk.Embeddings.from_frame(frame.assign(id=["x", "x", "z"]))
    with pytest.raises(InputError, match=r"No image has the id 'xx'"):
        found.row("xx")


def test_embedding_nothing_says_so(tmp_path):
    encoder = fresh()
    with pytest.raises(InputError, match="must be an ImageSet, not str"):
        vk.embed("photos/", encoder)
    images = vk.ImageSet([], pd.DataFrame(), lambda row: photo(row))
    with pytest.raises(InputError, match="There are no images to embed"):
        vk.embed(images, encoder, cache=tmp_path)


def test_real_photos_are_found_by_their_kind_and_random_weights_fail(shared, tmp_path):
    """Leave-one-out P@1 on 10 kinds of clothes: real weights against the same network with random, calibrated ones."""
    everything = vk.ImageSet.from_folder(shared / "images/clothing10")
    images = everything.subset([i for i in range(len(everything)) if i % 2 == 0])
    labels = images.frame["label"].to_numpy()
    weights = shared / "torch/converted/mobilenet_v2_tf2-fe1e9c5f.pth"
    trained = vk.Encoder("mobilenet_v2", weights=weights)
    scores = {}
    for name, encoder in (("trained", trained), ("random", trained.randomized(images))):
        found = vk.embed(images, encoder, cache=tmp_path, progress=False)
        nearest = vk.neighbors(found, found.ids, k=1)
        scores[name] = (nearest["label"].to_numpy() == labels).mean()
    assert scores["trained"] >= 0.6
    assert 0.1 <= scores["random"] <= 0.3
