"""ImageSet: which images there are, what they are called, and what happens to the ones that cannot be read."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vizkit.errors import ImageReadError, InputError, VizkitError
from vizkit.images import ImageSet


def draw(path, color="red", size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)
    return path


def color_of(image):
    assert image.mode == "RGB"
    return image.getpixel((0, 0))


@pytest.fixture
def folder(tmp_path):
    """Two classes with equal file names, one image above them, and things that are no images."""
    draw(tmp_path / "cat" / "1.png", "red")
    draw(tmp_path / "dog" / "1.png", "lime")
    draw(tmp_path / "dog" / "deep" / "er" / "2.PNG", "blue")
    draw(tmp_path / "top.png", "white")
    draw(tmp_path / ".hidden.png")
    draw(tmp_path / ".cache" / "x.png")
    (tmp_path / "dog" / "notes.txt").write_text("no image")
    (tmp_path / "labels.csv").write_text("a,b")
    return tmp_path


# ------------------------------------------------------------------ from_folder


def test_ids_are_relative_paths_and_labels_first_level_folders(folder):
    images = ImageSet.from_folder(folder)
    assert images.ids == ["cat/1.png", "dog/1.png", "dog/deep/er/2.PNG", "top.png"]
    assert images.frame["label"].tolist() == ["cat", "dog", "dog", None]
    assert images.frame.index.tolist() == images.ids
    assert images.frame.index.name == "id"
    assert images.frame["path"].tolist() == [str(folder / id) for id in images.ids]
    assert images.paths == [folder / id for id in images.ids]
    assert [color_of(image) for image in images] == [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]


def test_labels_and_paths_are_objects_of_str_or_none(folder):
    frame = ImageSet.from_folder(folder).frame
    assert frame.dtypes.astype(str).to_dict() == {"path": "object", "label": "object"}
    assert [type(x) for x in frame["label"]] == [str, str, str, type(None)]


def test_subfolders_can_be_left_out(folder):
    assert ImageSet.from_folder(str(folder), recursive=False).ids == ["top.png"]


def test_pixels_are_read_when_asked_for(folder):
    (folder / "cat" / "2.jpg").write_bytes(b"no jpeg")
    images = ImageSet.from_folder(folder)
    assert len(images) == 5
    draw(folder / "cat" / "1.png", "blue")
    assert color_of(images[0]) == (0, 0, 255)


def test_a_relative_folder_is_found_again_after_the_working_folder_changed(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    images = ImageSet.from_folder(folder.name)
    monkeypatch.chdir("/")
    assert color_of(images[0]) == (255, 0, 0)


def test_links_are_followed_but_not_in_circles(folder):
    (folder / "cat" / "all").symlink_to(folder, target_is_directory=True)
    (folder / "dog" / "self.png").symlink_to("self.png")
    (folder / "dog" / "same.png").symlink_to(folder / "top.png")
    (folder / "dog" / "lost.png").symlink_to(folder / "nowhere.png")
    (folder / "fox").symlink_to(folder / "cat", target_is_directory=True)
    images = ImageSet.from_folder(folder)
    more = ["dog/lost.png", "dog/same.png", "dog/self.png", "fox/1.png"]
    assert images.ids == sorted(["cat/1.png", "dog/1.png", "dog/deep/er/2.PNG", "top.png", *more])
    assert color_of(images[images.row("dog/same.png")]) == (255, 255, 255)
    for id in ("dog/lost.png", "dog/self.png"):
        with pytest.raises(ImageReadError, match=id):
            images[images.row(id)]


def test_names_that_are_no_utf8_can_be_written_down(tmp_path):
    name = b"caf\xe9.png"
    try:
        shutil.copy(draw(tmp_path / "a.png", "blue"), os.fsencode(tmp_path) + b"/" + name)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    images = ImageSet.from_folder(tmp_path)
    assert images.ids == ["a.png", "caf\\xe9.png"]
    assert color_of(images[1]) == (0, 0, 255)
    json.dumps(images.ids).encode()
    images.frame.to_parquet(tmp_path / "frame.parquet")


def test_a_folder_that_may_not_be_listed_is_said_aloud(folder, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.warns(UserWarning, match=r"dog' cannot be listed \(Permission denied\); its images are missing"):
        images = ImageSet.from_folder(folder)
    assert images.ids == ["cat/1.png", "top.png"]
    assert images.unlisted == images.subset([1]).unlisted == [str(folder / "dog")]
    monkeypatch.undo()
    assert ImageSet.from_folder(folder).unlisted == []
    (tmp := folder / "none" / "dog").mkdir(parents=True)
    monkeypatch.setattr(os, "scandir", refuse)
    with (
        pytest.warns(UserWarning, match="cannot be listed"),
        pytest.raises(InputError, match=r"0 other files, 1 folder that cannot be listed"),
    ):
        ImageSet.from_folder(tmp.parent)


def test_missing_and_empty_folders_say_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"nowhere' is not a folder\. Check the spelling and the working folder"):
        ImageSet.from_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"a\.png' is not a folder; it is a file\. Give the folder that it is in"):
        ImageSet.from_folder(draw(tmp_path / "sub" / "a.png"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.txt").touch()
    with pytest.raises(InputError, match=r"No image in '.*empty': 1 other file\. Expected names that end in \.jpg"):
        ImageSet.from_folder(tmp_path / "empty")
    with pytest.raises(InputError, match=r"Subfolders were not looked into: recursive=True does"):
        ImageSet.from_folder(tmp_path, recursive=False)


def test_folders_that_all_link_to_each_other_are_listed_in_reasonable_number(tmp_path):
    names = "abcdefghijkl"
    for name in names:
        draw(tmp_path / name / "x.png")
        for other in set(names) - {name}:
            (tmp_path / name / other).symlink_to(tmp_path / other, target_is_directory=True)
    draw(tmp_path.with_name(f"{tmp_path.name}-apart") / "deep" / "y.png")
    away = tmp_path.with_name(f"{tmp_path.name}-apart")
    (tmp_path / "a" / "m").symlink_to(away, target_is_directory=True)
    (away / "deep" / "n").symlink_to(away.with_name(f"{away.name}-further"), target_is_directory=True)
    draw(away.with_name(f"{away.name}-further") / "z.png")
    ids = ImageSet.from_folder(tmp_path).ids
    assert {f"{name}/x.png" for name in names} <= set(ids)
    assert {"a/b/x.png", "l/k/x.png", "a/m/deep/y.png", "a/m/deep/n/z.png"} <= set(ids)
    assert len(ids) < 12 * 13 + 20  # and not every one of 12! ways


def test_a_folder_that_vanishes_while_it_is_listed_is_said_aloud(folder, monkeypatch):
    scandir = os.scandir

    def scandir_and_move(path):
        found = list(scandir(path))
        if (folder / "dog").exists():
            (folder / "dog").rename(folder / ".away")
        return found

    monkeypatch.setattr(os, "scandir", scandir_and_move)
    with pytest.warns(UserWarning, match=r"dog' cannot be listed \(No such file") as caught:
        assert ImageSet.from_folder(folder).ids == ["cat/1.png", "top.png"]
    assert caught[0].filename == __file__


def test_names_that_read_alike_are_told_apart(tmp_path):
    draw(tmp_path / "\\xff.png", "blue")
    try:
        shutil.copy(draw(tmp_path / "a.png", "red"), os.fsencode(tmp_path) + b"/\xff.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    images = ImageSet.from_folder(tmp_path)
    assert images.ids == ["\\xff.png", "a.png", "\\xff.png (2)"]
    assert [color_of(image) for image in images] == [(0, 0, 255), (255, 0, 0), (255, 0, 0)]


def test_only_whole_files_are_read_at_reduced_scale(tmp_path):
    draw(tmp_path / "a.jpg", size=(80, 64))
    whole = ImageSet.from_folder(tmp_path)
    assert whole[0].size == whole.read(0).size == (80, 64)
    assert whole.read(-1, at_least=16).size == whole.subset([0]).read(0, at_least=(16, 20)).size == (20, 16)
    cut = ImageSet(["a"], whole.frame, lambda row: whole[0], paths=whole.paths, fingerprint=lambda row: "own")
    mixed = ImageSet.from_frame(pd.DataFrame({"path": [tmp_path / "a.jpg", np.zeros((64, 80))]}))
    for row, images in ((0, cut), (0, mixed), (1, mixed), (0, ImageSet.from_dataset([RED.resize((80, 64))]))):
        assert images.read(row, at_least=16).size == (80, 64)
    with pytest.raises(InputError, match="at_least is 0; expected"):
        cut.read(0, at_least=0)
    with pytest.raises(ImageReadError, match=r"Image '0': the table has no path and no image in this row"):
        ImageSet.from_frame(pd.DataFrame({"path": [None]})).read(0, at_least=16)


# ------------------------------------------------------------------ from_frame


def test_a_table_of_paths_keeps_its_columns_and_its_index(folder):
    df = pd.DataFrame(
        {
            "path": ["cat/1.png", "top.png"],
            "label": ["a", None],
            "price": [3.5, 4.0],
            "when": pd.to_datetime("2026-01-02"),
        },
        index=["x", "y"],
    )
    images = ImageSet.from_frame(df, root=folder)
    assert images.ids == ["x", "y"]
    assert images.paths == [folder / "cat/1.png", folder / "top.png"]
    assert images.frame["path"].tolist() == [str(folder / "cat/1.png"), str(folder / "top.png")]
    assert images.frame["label"].tolist() == ["a", None]
    assert images.frame["price"].tolist() == [3.5, 4.0]
    assert str(images.frame["when"].dtype).startswith("datetime64")
    assert color_of(images[1]) == (255, 255, 255)
    assert df["path"].tolist() == ["cat/1.png", "top.png"]


def test_the_frame_of_a_set_makes_the_same_set_again(folder):
    images = ImageSet.from_folder(folder)
    again = ImageSet.from_frame(images.frame)
    assert again.ids == images.ids
    assert again.paths == images.paths
    pd.testing.assert_frame_equal(again.frame, images.frame)


def test_ids_come_from_the_id_column_before_the_index(folder):
    df = pd.DataFrame({"file": [folder / "top.png"], "id": [17], "kind": ["white"]})
    images = ImageSet.from_frame(df, image="file", label="kind")
    assert images.ids == ["17"]
    assert images.frame["label"].tolist() == ["white"]
    assert images.frame["kind"].tolist() == ["white"]
    assert images.frame["path"].tolist() == [str(folder / "top.png")]
    assert "id" not in images.frame


def test_relative_paths_start_from_the_working_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    images = ImageSet.from_frame(pd.DataFrame({"path": ["top.png"]}))
    monkeypatch.chdir("/")
    assert images.ids == ["0"]
    assert color_of(images[0]) == (255, 255, 255)


def test_a_column_may_hold_pixels_of_any_kind(folder):
    values = [
        Image.new("RGB", (4, 4), "red"),
        np.full((4, 4, 3), (0, 255, 0), np.uint8),
        np.zeros((4, 4)),
        (folder / "top.png").read_bytes(),
    ]
    images = ImageSet.from_frame(pd.DataFrame({"picture": values, "n": range(4)}), image="picture")
    assert [color_of(image) for image in images] == [(255, 0, 0), (0, 255, 0), (0, 0, 0), (255, 255, 255)]
    assert images.paths == [None] * 4
    assert list(images.frame) == ["path", "n", "label"]
    assert images.frame["path"].tolist() == [None] * 4


def test_missing_files_and_values_keep_their_rows(folder):
    df = pd.DataFrame({"path": ["top.png", "gone.png", None, float("nan")]})
    images = ImageSet.from_frame(df, root=folder)
    assert len(images) == 4
    assert images.frame["path"].tolist() == [str(folder / "top.png"), str(folder / "gone.png"), None, None]
    with pytest.raises(ImageReadError, match=r"Image '1': .*gone\.png' cannot be read: the file is not there"):
        images[1]
    for row in (2, 3):
        with pytest.raises(ImageReadError, match=rf"Image '{row}': the table has no path and no image in this row"):
            images[row]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([1, 2, 10], ["1", "2", "10"]),
        ([1.0, np.nan, 2.0], ["1", None, "2"]),
        (pd.array([1, None, 3], dtype="Int64"), ["1", None, "3"]),
        (["a", "b", None], ["a", "b", None]),
        (pd.Categorical(["u", "v", "u"]), ["u", "v", "u"]),
        ([True, False, True], ["True", "False", "True"]),
        ([0.5, 1.5, 2.5], ["0.5", "1.5", "2.5"]),
    ],
)
def test_labels_become_strings_or_none(labels, expected):
    df = pd.DataFrame({"path": list("abc"), "label": labels})
    found = ImageSet.from_frame(df).frame["label"]
    assert found.tolist() == expected
    assert found.dtype == object


def test_tables_that_do_not_fit_say_what_to_do(folder):
    df = pd.DataFrame({"paths": ["a.png", "b.png"], "id": ["x", "x"]})
    with pytest.raises(InputError, match=r"no column 'path'; it has \['paths', 'id'\]\. Closest: 'paths'\..*image="):
        ImageSet.from_frame(df)
    with pytest.raises(InputError, match=r"no column 'kind'; it has"):
        ImageSet.from_frame(df, image="paths", label="kind")
    with pytest.raises(InputError, match=r"Ids must be unique; 1 id given more than once: 'x'\. Give each"):
        ImageSet.from_frame(df, image="paths")
    with pytest.raises(InputError, match=r"given as dict; expected a pandas DataFrame"):
        ImageSet.from_frame({"path": ["a.png"]})


# ------------------------------------------------------------------ from_dataset


class Items:
    """A dataset that counts how often it is read."""

    def __init__(self, items, **attributes):
        self.items, self.reads = items, 0
        vars(self).update(attributes)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        self.reads += 1
        if isinstance(self.items[row], Exception):
            raise self.items[row]
        return self.items[row]


RED, LIME = Image.new("RGB", (4, 4), "red"), np.full((4, 4, 3), (0, 255, 0), np.uint8)


def test_targets_kept_in_a_list_are_taken_without_reading_an_image():
    for targets in ([0, 1], np.array([0, 1])):
        dataset = Items([(RED, 0), (LIME, 1)], targets=targets, classes=["apple", "pear"])
        images = ImageSet.from_dataset(dataset)
        assert images.ids == ["0", "1"]
        assert images.frame["label"].tolist() == ["apple", "pear"]
        assert dataset.reads == 0
        assert color_of(images[1]) == (0, 255, 0)
        assert dataset.reads == 1


def test_targets_are_read_from_the_items_where_there_is_no_list():
    images = ImageSet.from_dataset(Items([(RED, 3), (LIME, "pear"), OSError("gone"), (RED, {"boxes": []}), (RED,)]))
    assert images.frame["label"].tolist() == ["3", "pear", None, None, None]
    with pytest.raises(ImageReadError, match=r"Image '2' cannot be read: OSError: gone"):
        images[2]


def test_a_list_of_images_is_a_dataset():
    images = ImageSet.from_dataset([RED, LIME])
    assert images.frame["label"].tolist() == [None, None]
    assert [color_of(image) for image in images] == [(255, 0, 0), (0, 255, 0)]


def test_normalized_tensors_are_failures_that_say_so():
    images = ImageSet.from_dataset(Items([(np.full((4, 4), -2.0), 0)]))
    with pytest.raises(ImageReadError, match=r"Image '0' cannot be read: .*from -2 to -2.*undo the normalization"):
        images[0]


def test_what_is_no_dataset_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"given as str; expected something with a length.*ImageSet\.from_folder"):
        ImageSet.from_dataset("photos")
    with pytest.raises(InputError, match="given as generator"):
        ImageSet.from_dataset(x for x in [RED])


def test_image_folder_is_read_upright_from_its_files(folder):
    datasets = pytest.importorskip("torchvision.datasets")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 6)).save(folder / "cat" / "turned.jpg", exif=exif)
    (folder / "top.png").unlink()
    shutil.rmtree(folder / ".cache")
    images = ImageSet.from_dataset(datasets.ImageFolder(folder, target_transform=str))
    same = ImageSet.from_folder(folder)
    assert images.ids == same.ids
    assert images.paths == same.paths
    pd.testing.assert_frame_equal(images.frame, same.frame)
    assert images[images.row("cat/turned.jpg")].size == (6, 8)


def test_image_folder_with_a_transform_shows_what_the_transform_gives(folder):
    datasets, transforms = pytest.importorskip("torchvision.datasets"), pytest.importorskip("torchvision.transforms")
    (folder / "top.png").unlink()
    shutil.rmtree(folder / ".cache")
    steps = transforms.Compose([transforms.Resize((3, 5)), transforms.ToTensor()])
    images = ImageSet.from_dataset(datasets.ImageFolder(folder, transform=steps))
    assert images.ids == ["cat/1.png", "dog/1.png", "dog/deep/er/2.PNG"]
    assert images.frame["label"].tolist() == ["cat", "dog", "dog"]
    assert images[1].size == (5, 3)
    assert color_of(images[1]) == (0, 255, 0)
    assert images.paths == [None] * 3  # the file is not what is seen, so no cache may be keyed by it


def test_torchvision_subsets_and_arrays_keep_their_ids_and_labels():
    torch, datasets = pytest.importorskip("torch"), pytest.importorskip("torchvision.datasets")
    fake = datasets.FakeData(size=5, image_size=(3, 8, 8), num_classes=3)
    images = ImageSet.from_dataset(torch.utils.data.Subset(fake, [4, 1]))
    assert images.ids == ["4", "1"]
    np.testing.assert_array_equal(np.asarray(images[0]), np.asarray(fake[4][0]))
    assert images.frame["label"].tolist() == [str(int(fake[4][1])), str(int(fake[1][1]))]


# ------------------------------------------------------------------ rows, ids, subsets


def test_rows_count_from_both_ends_and_may_be_numpy_ints(folder):
    images = ImageSet.from_folder(folder)
    assert color_of(images[-1]) == color_of(images[np.int64(3)]) == (255, 255, 255)
    for row in (4, -5):
        with pytest.raises(IndexError, match=rf"Row {row} of 4 images; expected -4 to 3"):
            images[row]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (slice(0, 2), r"not slice .* Use images\.subset\(slice\)"),
        ("cat/1.png", r"not str .* Use images\[images\.row\(id\)\]"),
        (True, "not bool"),
        (np.True_, "not bool"),
        ([0, 1], r"not list .* Use images\.subset\(rows\)"),
        (1.0, "not float"),
        (None, "not NoneType"),
    ],
)
def test_other_keys_are_refused(folder, key, message):
    with pytest.raises(InputError, match=message):
        ImageSet.from_folder(folder)[key]


def test_an_unknown_id_names_the_closest(folder):
    images = ImageSet.from_folder(folder)
    assert images.row("dog/1.png") == 1
    with pytest.raises(InputError, match=r"No image with id 'dgo/1\.png' among 4\. Closest: 'dog/1\.png'"):
        images.row("dgo/1.png")
    with pytest.raises(InputError, match=r"given as int \(1\); ids are strings"):
        images.row(1)


def test_subsets_are_sets_in_the_order_asked_for(folder):
    images = ImageSet.from_folder(folder)
    wanted = [images.ids[2], images.ids[0]]
    masks = np.array([True, False, True, False])
    for part in (images.subset([2, 0]), images.subset(wanted), images.subset(np.array([2, 0])), images.subset([-2, 0])):
        assert part.ids == wanted
        assert [color_of(image) for image in part] == [(0, 0, 255), (255, 0, 0)]
        assert part.frame["label"].tolist() == ["dog", "cat"]
        assert part.paths == [images.paths[2], images.paths[0]]
        assert part.fingerprint(0) == images.fingerprint(2)
        assert part.subset([1]).ids == ["cat/1.png"]
    assert images.subset(slice(None, None, -1)).ids == images.ids[::-1]
    assert images.subset(masks).ids == images.subset(pd.Series(masks)).ids == [images.ids[0], images.ids[2]]
    assert images.subset("top.png").ids == ["top.png"]
    assert len(images.subset([])) == 0
    with pytest.raises(InputError, match="A mask of 2 values for 4 images"):
        images.subset([True, False])
    with pytest.raises(InputError, match="Ids must be unique"):
        images.subset([1, 1])


@pytest.mark.parametrize(
    ("ids", "n", "message"),
    [
        (["a", "a", "b", "b", "c"], 5, r"Ids must be unique; 2 ids given more than once: 'a', 'b'"),
        (["a", 3], 2, r"Ids are strings; 3 is int"),
        (["a", "b"], 3, r"2 ids, 3 rows in the frame and 2 paths"),
    ],
)
def test_a_set_with_wrong_ids_is_refused(ids, n, message):
    with pytest.raises(InputError, match=message):
        ImageSet(ids, pd.DataFrame({"n": range(n)}), lambda row: RED)


def test_a_loader_that_raises_anything_is_a_read_error():
    def load(row):
        raise KeyError("what")

    images = ImageSet(["a"], pd.DataFrame(index=["a"]), load)
    with pytest.raises(VizkitError, match=r"Image 'a' cannot be read: KeyError: 'what'"):
        images[0]


# ------------------------------------------------------------------ fingerprints and looks


def test_the_fingerprint_of_a_file_is_the_hash_of_its_bytes(folder):
    images = ImageSet.from_folder(folder)
    path = folder / "cat" / "1.png"
    before = images.fingerprint(0)
    assert before == hashlib.sha256(path.read_bytes()).hexdigest()
    shutil.copy(path, folder / "dog" / "1.png")
    assert images.fingerprint(1) == before
    draw(path, "blue")
    assert images.fingerprint(0) != before
    path.unlink()
    with pytest.raises(
        ImageReadError, match=r"Image 'cat/1\.png': .*1\.png' cannot be read: the file is not there\. Put it"
    ):
        images.fingerprint(0)


def test_what_cannot_be_read_has_no_fingerprint_and_says_why(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "loop.png").symlink_to("loop.png")
    images = ImageSet.from_folder(tmp_path)
    reasons = [
        "the file is empty .*Replace",
        "does not give the file .*leads back to itself: remove",
        "no regular file",
    ]
    for row, (id, reason) in enumerate(zip(images.ids, reasons, strict=True)):
        for ask in (images.fingerprint, images.subset([row]).read, images.read):
            with pytest.raises(ImageReadError, match=f"^Image '{id}': Image file .*{reason}"):
                ask(0 if ask.__self__ is not images else row)


def test_a_fingerprint_of_ones_own_that_raises_costs_one_image(folder):
    def mark(row):
        raise KeyError("no mark")

    images = ImageSet(["a"], pd.DataFrame(index=["a"]), lambda row: RED, fingerprint=mark)
    for each in (images, images.subset([0])):
        with pytest.raises(ImageReadError, match=r"^Image 'a' cannot be read: KeyError: 'no mark'\. Repair what loads"):
            each.fingerprint(0)


def test_the_fingerprint_in_memory_is_that_of_the_pixels():
    flat = np.arange(48, dtype=np.uint8)
    arrays = [flat.reshape(2, 8, 3), flat.reshape(4, 4, 3), flat.reshape(2, 8, 3).copy(), flat[::-1].reshape(2, 8, 3)]
    images = ImageSet.from_frame(pd.DataFrame({"image": arrays}), image="image")
    marks = [images.fingerprint(row) for row in range(4)]
    assert marks[0] == marks[2]
    assert len(set(marks)) == 3


def test_a_fingerprint_of_ones_own_is_used():
    images = ImageSet(["a", "b"], pd.DataFrame({"n": [1, 2]}), lambda row: RED, fingerprint=lambda row: f"own {row}")
    assert images.fingerprint(-1) == "own 1"


def test_only_images_that_are_their_files_count_as_whole_files(folder):
    whole = ImageSet.from_folder(folder)
    assert whole.whole_files
    assert whole.subset([1]).whole_files
    assert ImageSet.from_frame(whole.frame).whole_files
    own = ImageSet(["a"], pd.DataFrame(index=[0]), paths=[str(folder / "top.png")])
    assert own.whole_files
    assert color_of(own[0]) == (255, 255, 255)
    pixels = pd.DataFrame({"path": [folder / "top.png", np.zeros((4, 4)), folder / "gone.png", None]})
    mixed = ImageSet.from_frame(pixels)
    marked = ImageSet(["a"], pd.DataFrame(index=[0]), paths=[folder / "top.png"], fingerprint=lambda row: "own")
    for images in (mixed, mixed.subset([0]), marked, ImageSet.from_dataset([RED])):
        assert not images.whole_files
    assert mixed.paths == [folder / "top.png", None, folder / "gone.png", None]
    assert mixed.fingerprint(0) == whole.fingerprint(whole.row("top.png"))
    assert mixed.fingerprint(1) == mixed.subset([1]).fingerprint(0)
    for row in (2, 3):
        with pytest.raises(ImageReadError, match=f"Image '{row}'"):
            mixed.fingerprint(row)


def test_the_text_form_is_short_and_says_what_is_there(folder):
    assert repr(ImageSet.from_folder(folder)) == "ImageSet: 4 images, 2 labels (dog 2, cat 1)"
    assert repr(ImageSet.from_dataset([RED])) == "ImageSet: 1 image, no labels"
    many = ImageSet.from_frame(pd.DataFrame({"path": [f"{i}.png" for i in range(2000)], "label": np.arange(2000) % 50}))
    assert repr(many) == "ImageSet: 2,000 images, 50 labels (0 40, 1 40, 2 40, 3 40, ...)"


def test_the_notebook_form_escapes_what_it_shows_and_marks_what_is_broken(tmp_path):
    draw(tmp_path / "<script>alert(1)<" / "'\"onload=x.png")
    (tmp_path / "<script>alert(1)<" / "z<b>.png").write_bytes(b"broken")
    shown = ImageSet.from_folder(tmp_path)._repr_html_()
    assert "<script" not in shown
    assert "<b>" not in shown
    assert '"onload' not in shown
    assert shown.count("<img ") == 1
    assert "cannot be read: &lt;script&gt;alert(1)&lt;/z&lt;b&gt;.png" in shown


def test_the_notebook_form_of_a_large_set_reads_twelve_images_apart_from_each_other():
    items = Items([(RED, 0)] * 1000, targets=[0] * 1000)
    shown = ImageSet.from_dataset(items)._repr_html_()
    assert items.reads == 12
    assert shown.count("<img ") == 12
    assert 'title="0 (0)"' in shown
    assert 'title="999 (0)"' in shown


def test_images_load_neither_torch_nor_a_widget():
    heavy = {"torch", "torchvision", "ipywidgets", "plotly"}
    code = f"import sys, vizkit; vizkit.ImageSet; print(sorted({heavy} & {{*sys.modules}}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# ------------------------------------------------------------------ real photos


def test_folders_of_real_photos_are_listed_with_their_labels(shared):
    images = ImageSet.from_folder(shared / "images" / "clothing10")
    known = pd.read_csv(shared / "images" / "clothing10" / "labels.csv")
    assert len(images) == len(known) == 600
    assert images.frame["label"].value_counts().to_dict() == {label: 60 for label in images.frame["label"].unique()}
    assert images.frame["label"].nunique() == 10


def test_equal_file_names_in_two_folders_stay_apart(shared):
    images = ImageSet.from_folder(shared / "images" / "cifar10_jpg")
    names = [id.rsplit("/", 1)[1] for id in images.ids]
    assert len(set(names)) < len(names) == len(set(images.ids)) == 900
