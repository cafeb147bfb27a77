"""embed, its cache, and what is saved: nothing is lost, nothing is computed twice, nothing is mixed up."""

import errno
import io
import json
import os
import shutil
import time
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
import torch
from drawn import photo, tiny_network, to_tensor_32
from PIL import Image
from sklearn.metrics.pairwise import cosine_similarity

import vizkit as vk
from vizkit import extraction as home
from vizkit import shards, store
from vizkit.embeddings import require_encoder
from vizkit.errors import InputError, MissingEncoderError, StoreError
from vizkit.widgets.thumbnails import thumbnails_of


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
    content[200] ^= 0xFF  # in the keys
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
    done = encoder.module.seen  # the batch that came first, and the one that another thread was at
    assert 0 < done < 40
    resumed = fresh()
    found = embed(folder, resumed, tmp_path / "cache")
    assert resumed.module.seen == 40 - done
    np.testing.assert_array_equal(found.vectors, embed(folder, fresh(), tmp_path / "other").vectors)


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
    assert found.failures["reason"][0].startswith("Image 'white.png': the network gave NaN or infinity for it. Look at")


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
    plain = pd.read_parquet(target)
    np.testing.assert_array_equal(np.stack(plain["vector"]), found.vectors)
    [(count,)] = duckdb.sql(f"select count(*) from '{target}/*.parquet' where label = 'a'").fetchall()
    assert count == 20
    card = json.loads((target / "_manifest.json").read_text())["card"]
    assert card["network"] == "Counting"
    found.save(target)  # a result may replace a result
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "photos", "saved"]


def test_what_cannot_be_saved_or_loaded_is_refused_in_words(folder, tmp_path):
    found = embed(folder, fresh(), tmp_path / "cache")
    with pytest.raises(StoreError, match="exists and holds no saved embeddings"):
        found.save(folder)
    with pytest.raises(StoreError, match=r"is no vizkit store: it has no _manifest\.json"):
        vk.Embeddings.load(folder)
    (cache,) = (tmp_path / "cache").iterdir()
    with pytest.raises(StoreError, match="is a cache, not a saved result"):
        vk.Embeddings.load(cache)
    found.save(tmp_path / "saved")
    with pytest.raises(InputError, match=r"were made by the encoder .*, the one given is"):
        vk.Embeddings.load(tmp_path / "saved", encoder=fresh(seed=1))
    shards.write_manifest(tmp_path / "saved", shards.read_manifest(tmp_path / "saved") | {"schema": 99})
    with pytest.raises(StoreError, match="has schema 99; this vizkit reads schema 2 and older"):
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
    images = vk.ImageSet(["a"], pd.DataFrame(index=["a"]), lambda row: photo(row))
    with pytest.raises(InputError, match=r"must be an Encoder, not str: wrap it in vk\.Encoder\('resnet18'\)"):
        vk.embed(images, "resnet18", cache=tmp_path)
    with pytest.raises(InputError, match=r"must be an Encoder, not Sequential: .*preprocess="):
        vk.embed(images, tiny_network(), cache=tmp_path)
    for size in (2.5, 0, True, "8"):
        with pytest.raises(InputError, match=r"batch_size is .*; expected a whole number of images, 1 or more"):
            vk.embed(images, encoder, cache=tmp_path, batch_size=size)


# ------------------------------------------------------------------ what an image is, and what is stored of it


def crops(path, boxes, **options):
    """Return squares cut out of one file, as a detector gives them."""
    frame = pd.DataFrame({"box": boxes}, index=range(len(boxes)))
    ids = [f"crop {i}" for i in range(len(boxes))]

    def cut(row):
        left, top = boxes[row]
        with Image.open(path) as image:
            return image.convert("RGB").crop((left, top, left + 32, top + 32))

    return vk.ImageSet(ids, frame, cut, paths=[path] * len(boxes), **options)


def test_crops_of_one_file_keep_their_own_vectors_run_after_run(tmp_path):
    path = tmp_path / "photo.png"
    photo(3).save(path)
    boxes = [(0, 0), (60, 40), (30, 10)]
    mark = {"fingerprint": lambda row: f"{boxes[row]}"}
    alone = [fresh().embed_image(crops(path, boxes, **mark)[row]) for row in range(3)]
    for _ in range(2):
        found = vk.embed(crops(path, boxes, **mark), fresh(), cache=tmp_path / "cache", progress=False)
        np.testing.assert_allclose(found.vectors, alone, rtol=1e-4, atol=1e-6)
        assert np.abs(found.vectors[0] - found.vectors[1]).max() > 1e-3
    boxes[:] = boxes[::-1]  # the same file, other crops of it
    found = vk.embed(crops(path, boxes, **mark), fresh(), cache=tmp_path / "cache", progress=False)
    np.testing.assert_allclose(found.vectors, alone[::-1], rtol=1e-4, atol=1e-6)
    with pytest.raises(InputError, match=r"load= and paths= were given without fingerprint="):
        crops(path, boxes)


def test_a_file_that_changes_while_it_is_embedded_is_not_stored_under_its_old_content(tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    photos.mkdir()
    photo(1).save(photos / "a.png")
    old = (photos / "a.png").read_bytes()
    recall = store.Cache.recall

    def recall_then_change(self, *arguments, **options):
        todo = recall(self, *arguments, **options)
        photo(2, (64, 64)).save(photos / "a.png")
        return todo

    monkeypatch.setattr(store.Cache, "recall", recall_then_change)
    changed = embed(photos, fresh(), tmp_path / "cache")
    monkeypatch.undo()
    np.testing.assert_allclose(changed.vectors[0], fresh().embed_image(photo(2, (64, 64))), rtol=1e-4, atol=1e-6)
    (photos / "a.png").write_bytes(old)
    found = embed(photos, fresh(), tmp_path / "cache")
    np.testing.assert_allclose(found.vectors[0], fresh().embed_image(photo(1)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("pillow", [True, False])
def test_vectors_of_other_machinery_are_not_used(folder, tmp_path, monkeypatch, pillow):
    first = embed(folder, fresh(), tmp_path / "cache")
    assert first.provenance["device"] == "cpu"
    if pillow:
        now = home.versions
        monkeypatch.setattr(home, "versions", lambda *names: now(*names) | {"pillow": "0.1"})
    else:
        monkeypatch.setattr(home, "_device_type", lambda encoder: "cuda")
    encoder = fresh()
    second = embed(folder, encoder, tmp_path / "cache")
    assert encoder.module.seen == 40
    key = ("versions", "pillow") if pillow else ("device",)
    recorded = []
    for manifest in (tmp_path / "cache").glob("*/_manifest.json"):
        content = json.loads(manifest.read_text())
        recorded.append(content[key[0]][key[1]] if pillow else content["device"])
    told = second.provenance[key[0]][key[1]] if pillow else second.provenance["device"]
    assert told == ("0.1" if pillow else "cuda")
    assert len(recorded) == 2
    assert told in recorded


@pytest.mark.parametrize(("device", "kind"), [("cpu", "cpu"), ("cuda:1", "cuda")])
def test_the_kind_of_device_goes_without_its_number(device, kind):
    encoder = fresh()
    encoder.device = device
    assert home._device_type(encoder) == kind


def test_a_dataset_that_bears_one_reader_at_a_time_has_one(tmp_path):
    class OneFile:
        """Forty pictures of one color each in one open file: a second reader moves the place to read from."""

        def __init__(self):
            self.file = (tmp_path / "all.bin").open("w+b")
            for i in range(40):
                self.file.write(bytes([6 * i, 255 - 6 * i, 99]) * 64)

        def __len__(self):
            return 40

        def __getitem__(self, row):
            if row >= 40:
                raise IndexError(row)
            self.file.seek(192 * row)
            time.sleep(0.005)
            return Image.frombytes("RGB", (8, 8), self.file.read(192))

    encoder = fresh()
    found = vk.embed(vk.ImageSet.from_dataset(OneFile()), encoder, cache=tmp_path / "cache", progress=False)
    files, offsets = thumbnails_of(found).all()
    ends = np.frombuffer(offsets, "<u4")
    for i in range(40):
        picture = Image.open(io.BytesIO(files[ends[i] : ends[i + 1]])).convert("RGB")
        wanted = np.array([6 * i, 255 - 6 * i, 99])
        assert np.abs(np.asarray(picture, int) - wanted).max() <= 8, i
        flat = Image.new("RGB", (8, 8), tuple(wanted.tolist()))
        np.testing.assert_allclose(found.vectors[i], encoder.embed_image(flat), rtol=1e-4, atol=1e-6)


def test_a_name_that_is_no_utf8_is_embedded_saved_and_loaded(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    photo(1).save(photos / "a.png")
    try:
        shutil.copy(photos / "a.png", os.fsencode(photos) + b"/\xff\xe9.png")
        Path(os.fsdecode(os.fsencode(photos) + b"/\xfe.png")).write_bytes(b"broken")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    photo(2).save(photos / "b.png")
    for seen in (2, 0):  # of three, two are the same
        encoder = fresh()
        found = embed(photos, encoder, tmp_path / "cache")
        assert encoder.module.seen == seen
    back = vk.Embeddings.load(found.save(tmp_path / "saved"))
    assert back.ids == ["a.png", "b.png", "\\xff\\xe9.png"]
    np.testing.assert_array_equal(back.vectors, found.vectors)
    assert back.failures["path"].tolist() == found.failures["path"].tolist() == [f"{photos.as_posix()}/\\xfe.png"]


def test_when_every_image_fails_a_warning_gives_the_first_reason(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"no image")
    images = vk.ImageSet.from_folder(tmp_path)
    with pytest.warns(UserWarning, match=r"None of the 2 images gave a vector.*a\.png") as caught:
        found = vk.embed(images, fresh(), cache=tmp_path / "cache", progress=False)
    assert caught[0].filename == __file__
    assert (len(found), len(found.failures)) == (0, 2)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.EIO])
def test_a_shard_that_is_out_of_reach_is_left_as_it_is(folder, tmp_path, monkeypatch, number):
    first = embed(folder, fresh(), tmp_path / "cache")
    plain = Path.open

    def refuse(self, *arguments, **options):
        if self.suffix == ".parquet":
            raise OSError(number, os.strerror(number))
        return plain(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StoreError, match=r"cannot be read .*It is left as it is"):
        embed(folder, fresh(), tmp_path / "cache")
    monkeypatch.undo()
    encoder = fresh()
    np.testing.assert_array_equal(embed(folder, encoder, tmp_path / "cache").vectors, first.vectors)
    assert encoder.module.seen == 0


# ------------------------------------------------------------------ vectors of one's own


def frame_of(ids, **columns):
    return pd.DataFrame(columns, index=pd.Index(ids))


def test_vectors_of_any_numbers_become_float32_under_ids_that_are_strings():
    doubles = np.asfortranarray(np.random.default_rng(0).standard_normal((6, 4)))
    found = vk.Embeddings(doubles, frame_of(list("abcdef")))
    assert (found.vectors.dtype, found.vectors.flags.c_contiguous) == (np.float32, True)
    np.testing.assert_array_equal(found.vectors, doubles.astype(np.float32))
    assert found.frame.index.name == "id"
    similarities = cosine_similarity(doubles)[0, 1:]
    assert vk.neighbors(found, "a", k=1)["id"][0] == "bcdef"[similarities.argmax()]
    with pytest.raises(InputError, match=r"are strings; 0 is int\. Convert them with frame\.index\.astype\(str\)"):
        vk.Embeddings(doubles, frame_of(range(6)))
    with pytest.raises(InputError, match="1 of 6 vectors hold NaN or infinity"):
        vk.Embeddings(np.where(np.arange(6)[:, None] == 2, 1e200, doubles), frame_of(list("abcdef")))
    for wrong in (doubles.astype(str), doubles * 1j, [[1], [2, 3]], torch.zeros(6, 4, requires_grad=True)):
        with pytest.raises(InputError, match="expected real numbers, d in each row"):
            vk.Embeddings(wrong, frame_of(list("abcdef")))
    with pytest.raises(InputError, match="The frame is a list; expected a DataFrame"):
        vk.Embeddings(doubles, list("abcdef"))


def test_columns_named_as_the_stores_own_come_back(tmp_path):
    frame = frame_of(list("ab"), id=[7, 8], vector=["u", "v"], vector_=[1, 2], label=["x", "y"])
    target = vk.Embeddings(np.eye(2), frame).save(tmp_path / "saved")
    back = vk.Embeddings.load(target)
    pd.testing.assert_frame_equal(back.frame, frame.rename_axis("id"), check_index_type=False, check_dtype=False)
    np.testing.assert_array_equal(back.vectors, np.eye(2))
    assert "renamed" not in back.provenance
    with pytest.raises(InputError, match=r"names of their own to be saved; more than once: \['n'\]"):
        vk.Embeddings(np.eye(2), pd.DataFrame([[1, 2], [3, 4]], list("ab"), ["n", "n"])).save(tmp_path / "twice")
    with pytest.raises(InputError, match=r"The frame cannot be saved: .*Give each column values of one kind"):
        vk.Embeddings(np.eye(2), frame_of(list("ab"), odd=[1, "one"])).save(tmp_path / "odd")
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_a_further_column_called_id_changes_neither_pictures_nor_saving(tmp_path):
    for name, color in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (4, 4), color).save(tmp_path / f"{name}.png")
    paths = [str(tmp_path / f"{name}.png") for name in "ab"]
    frame = pd.DataFrame({"name": list("ab"), "id": list("ba"), "path": paths, "embedding": [[1, 0], [0, 1]]})
    found = vk.Embeddings.from_frame(frame, id="name")
    back = vk.Embeddings.load(found.save(tmp_path / "saved"))
    for one in (found, back):
        assert one.ids == ["a", "b"]
        assert list(one.frame["id"]) == ["b", "a"]
        assert one.images[one.images.row("a")].getpixel((0, 0)) == (255, 0, 0)


def test_ids_come_from_the_column_that_is_named_or_from_none():
    frame = pd.DataFrame({"name": list("xy"), "embedding": [[1, 0], [0, 1]]}, index=["p", "q"])
    assert vk.Embeddings.from_frame(frame).ids == ["p", "q"]
    assert vk.Embeddings.from_frame(frame.assign(id=[1, 2])).ids == ["1", "2"]
    assert vk.Embeddings.from_frame(frame, id="name").ids == ["x", "y"]
    with pytest.raises(InputError, match=r"No column 'nane' of ids; .*Closest: 'name'.* id="):
        vk.Embeddings.from_frame(frame, id="nane")
    with pytest.raises(InputError, match="No column 'id' of ids"):
        vk.Embeddings.from_frame(frame, id="id")
    with pytest.raises(InputError, match="given as list; expected a pandas DataFrame"):
        vk.Embeddings.from_frame([[1, 0]])


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
    assert scores["random"] <= 0.2  # chance is 0.1


def table(vectors, **columns):
    return pd.DataFrame({"embedding": list(vectors), **columns}, index=list("abc"))


def test_a_subset_is_in_the_order_asked_for_and_knows_where_it_comes_from():
    whole = vk.Embeddings.from_frame(table(np.eye(3), label=[1, 2, 3]))
    some = whole.subset(["c", 0])
    assert some.ids == ["c", "a"]
    np.testing.assert_array_equal(some.vectors, np.eye(3)[[2, 0]])
    assert some.frame["label"].tolist() == ["3", "1"]
    assert some.provenance == whole.provenance
    assert (some.encoder, some.images, some.failures) == (whole.encoder, whole.images, whole.failures)
    some.vectors[:] = 7
    np.testing.assert_array_equal(whole.vectors, np.eye(3))  # a copy
    assert len(whole.subset([])) == 0
    assert whole.subset("b").ids == ["b"]
    with pytest.raises(InputError, match="'a' is asked for more than once"):
        whole.subset(["a", "b", 0])
    with pytest.raises(InputError, match="no row 3: rows go from 0 to 2"):
        whole.subset([3])


def test_labels_of_a_table_become_strings_as_those_of_images_do():
    mine = vk.Embeddings.from_frame(table(np.eye(3), label=[1, 2, None]))
    assert mine.frame["label"].tolist() == ["1.0", "2.0", None]
    assert vk.Embeddings.from_frame(table(np.eye(3), label=[1, 2, 3])).frame["label"].tolist() == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[1.0, 2.0], "1 2", [1.0, 2.0]], "'b' has str '1 2' in column 'embedding'; expected a vector.*df.assign"),
        ([[1.0, 2.0], [1.0, 2.0], None], "'c' has NoneType None in column 'embedding'"),
        ([[1.0], [["x"]], [1.0]], "'b' has list in column"),
        ([["x"], [1.0], [1.0]], "'a' has list in column"),
        ([[1.0], [1.0, 2.0], [1.0]], "'a' has 1 numbers, 'b' 2"),
    ],
)
def test_a_row_that_holds_no_vector_is_named(vectors, message):
    with pytest.raises(InputError, match=message):
        vk.Embeddings.from_frame(table(vectors))


def test_vectors_in_columns_of_their_own_are_shown_the_way():
    columns = pd.DataFrame(np.eye(3), columns=["d0", "d1", "d2"])
    with pytest.raises(InputError, match=r"names 2 columns.*df.assign\(embedding=list\(df\[columns\].to_numpy"):
        vk.Embeddings.from_frame(columns, embedding=["d0", "d1"])
    names = list(columns)
    made = vk.Embeddings.from_frame(columns.assign(embedding=list(columns[names].to_numpy())))
    np.testing.assert_array_equal(made.vectors, np.eye(3))
