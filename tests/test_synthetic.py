"""The embedded default: exact factors, pixels that follow them, no confound, and weights that know the shapes."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from vizkit.errors import InputError
from vizkit.images import ImageSet
from vizkit.scene_drawing import COLUMNS, RANGES, SHAPES, TEXTURES, coverage, outline
from vizkit.synthetic import Scenes, data_file, scenes

DATA = Path(__file__).parent.parent / "data"


@pytest.fixture(scope="module")
def images():
    return scenes()


@pytest.fixture(scope="module")
def held_out():
    return scenes("held-out")


def pixels(image):
    return np.asarray(image).astype(int)


# --------------------------------------------------------------------------- the table


def test_the_table_has_a_fixed_split_and_ids(images):
    assert len(images) == 3000
    assert images.ids[:2] == ["train/0000", "train/0001"]
    assert images.ids[1000] == "held-out/0000"
    assert images.ids[-1] == "held-out/1999"
    assert images.frame["split"].value_counts().to_dict() == {"train": 1000, "held-out": 2000}
    assert images.frame["label"].tolist() == images.frame["shape"].tolist()
    assert images.frame["path"].isna().all()
    wanted = {"shape", "hue", "texture", "size", "rotation", "x", "y", "background", "background_hue", "lighting"}
    assert wanted <= set(images.frame.columns)


def test_a_split_is_those_rows_of_the_whole(images, held_out):
    train = scenes("train")
    assert train.ids + held_out.ids == images.ids
    assert held_out.fingerprint(3) == images.fingerprint(1003)
    assert held_out[3].tobytes() == images[1003].tobytes()


def test_a_part_of_the_scenes_still_knows_their_masks():
    images = scenes("held-out")
    images.frame["note"] = range(len(images))
    part = images.subset([5, 2]).subset([1])
    assert isinstance(part, Scenes)
    assert part.ids == [images.ids[2]]
    assert part.frame["note"].tolist() == [2]
    assert part.factors(0) == images.factors(2)
    assert part.box(0) == images.box(2)
    assert part.fingerprint(0) == images.fingerprint(2)
    assert part[0].tobytes() == images[2].tobytes()
    assert len(images.subset([])) == 0


def test_images_from_elsewhere_are_plain_images(tmp_path, held_out):
    held_out[0].save(tmp_path / "a.png")
    for images in (Scenes.from_folder(tmp_path), Scenes.from_dataset([held_out[0]])):
        assert type(images) is ImageSet
        assert images[0].tobytes() == held_out[0].tobytes()


def test_the_first_scenes_are_the_ones_that_were_drawn_once(images):
    # Written down by hand from the committed table: a rebuilt table with other scenes must be noticed.
    first = images.frame.loc["held-out/0000"]
    assert (first["shape"], first["background"], first["hue"], first["seed"]) == (
        "cross",
        "stripes",
        0.6862,
        3116848370,
    )


def test_no_scene_is_in_both_splits(images):
    prints = [images.fingerprint(row) for row in range(len(images))]
    assert len(set(prints)) == len(prints)


@pytest.mark.parametrize("split", ["train", "held-out"])
def test_shapes_are_equally_frequent_in_each_split(split):
    counts = scenes(split).frame["shape"].value_counts()
    assert set(counts) == {len(scenes(split)) // 10}
    assert set(counts.index) == set(SHAPES)


def test_textures_backgrounds_and_hues_are_uniform(images):
    frame = images.frame
    for name in ("texture", "background"):
        assert set(frame[name]) == set(TEXTURES)
        assert stats.chisquare(frame[name].value_counts()).pvalue > 0.001
    for name in ("hue", "background_hue", "rotation", "light_angle"):
        low, high, _ = RANGES[name]
        low = 0 if name == "rotation" else low
        counts = np.histogram(frame[name], bins=8, range=(low, high))[0]
        assert stats.chisquare(counts).pvalue > 0.001, name


@pytest.mark.parametrize("factor", [name for name in COLUMNS if name not in ("shape", "seed", "x", "y")])
def test_no_factor_depends_on_the_shape(images, factor):
    values = images.frame[factor]
    if values.dtype == float:
        values = pd.qcut(values, 6, labels=False)
    counts = pd.crosstab(images.frame["shape"], values)
    assert stats.chi2_contingency(counts).pvalue > 0.0005


def test_object_and_background_hue_stay_apart_and_texture_and_background_are_independent(images):
    gap = np.abs(images.frame["hue"] - images.frame["background_hue"])
    assert np.minimum(gap, 1 - gap).min() >= 0.2 - 1e-3
    counts = pd.crosstab(images.frame["texture"], images.frame["background"])
    assert stats.chi2_contingency(counts).pvalue > 0.001


# --------------------------------------------------------------------------- the pixels


def test_an_image_is_64_pixels_of_rgb_and_the_same_every_time(images):
    assert images[7].mode == "RGB"
    assert images[7].size == (64, 64)
    assert images[7].tobytes() == images[7].tobytes() == images.render(7).tobytes()
    assert images[7].tobytes() != images[8].tobytes()


def test_the_object_is_where_the_pixels_change_with_its_hue(held_out):
    for row in range(0, 200, 7):
        new = (held_out.frame["hue"].iloc[row] + 0.5) % 1
        # Without light the grain is all that could hide a change of hue; chips may hide up to a part of the object.
        changed = np.any(pixels(held_out[row]) != pixels(held_out.render(row, hue=new)), axis=-1)
        cover = coverage(held_out.factors(row))
        assert not changed[cover == 0].any()
        assert changed[cover == 1].mean() > 0.8
        mask = held_out.mask(row)
        assert (changed & mask).sum() / (changed | mask).sum() > 0.65


def test_changing_the_background_leaves_the_object_as_it_is(held_out):
    for row in range(0, 200, 7):
        cover = coverage(held_out.factors(row))
        for change in ({"background_hue": 0.123}, {"background_period": 11.0}, {"background_angle": 77.0}):
            changed = np.any(pixels(held_out[row]) != pixels(held_out.render(row, **change)), axis=-1)
            assert not changed[cover == 1].any(), change
            assert changed[cover == 0].mean() > 0.2, change


def test_changing_the_objects_texture_leaves_the_background_as_it_is(held_out):
    for row in range(0, 100, 7):
        other = TEXTURES[(TEXTURES.index(held_out.frame["texture"].iloc[row]) + 1) % 6]
        changed = np.any(pixels(held_out[row]) != pixels(held_out.render(row, texture=other)), axis=-1)
        assert not changed[coverage(held_out.factors(row)) == 0].any()
        assert changed[held_out.mask(row)].mean() > 0.3


def test_a_moved_object_is_the_same_mask_elsewhere(held_out):
    for row in range(0, 60, 7):
        here = held_out.mask(row, x=0.5, y=0.5, size=0.3)
        there = held_out.mask(row, x=0.5 + 4 / 64, y=0.5 - 3 / 64, size=0.3)
        np.testing.assert_array_equal(np.roll(here, (-3, 4), (0, 1)), there)


def test_the_masks_area_is_the_size_squared_whatever_the_shape(images):
    for shape in SHAPES:
        for rotation in (0, 33.3, 180):
            mask = images.mask(0, shape=shape, size=0.35, x=0.5, y=0.5, rotation=rotation)
            # Pillow paints the pixels on the outline as well: an eighth of a pixel here.
            assert mask.mean() == pytest.approx(0.35**2, rel=0.08), (shape, rotation)


def test_rotation_is_counter_clockwise(images):
    upright = images.mask(0, shape="arrow", x=0.5, y=0.5, size=0.4, rotation=0)
    quarter = images.mask(0, shape="arrow", x=0.5, y=0.5, size=0.4, rotation=90)
    assert (np.rot90(upright) == quarter).mean() > 0.98  # numpy turns from the rows to the columns: counter-clockwise
    assert (np.rot90(upright, -1) == quarter).mean() < 0.95


def test_more_light_brightens_every_part(held_out):
    dark, bright = (pixels(held_out.render(4, lighting=value)) for value in (0.5, 1.0))
    assert (bright >= dark).all()
    # Equal up to the rounding of each, and to what is cut off at white.
    free = bright < 250
    np.testing.assert_allclose(bright[free], 2 * dark[free], atol=2)


def test_boxes_bound_their_masks(held_out):
    for row in range(0, 300, 11):
        left, top, right, bottom = held_out.box(row)
        mask = held_out.mask(row)
        assert mask[top:bottom, left:right].sum() == mask.sum() > 0
        assert mask[top].any()
        assert mask[bottom - 1].any()
        assert mask[:, left].any()
        assert mask[:, right - 1].any()
        low, high = outline(held_out.factors(row)).min(0) * 64, outline(held_out.factors(row)).max(0) * 64
        expected = np.clip([low[0], low[1], high[0], high[1]], 0, 64)
        np.testing.assert_allclose([left, top, right, bottom], expected, atol=3.5)


def test_shapes_differ_from_each_other_at_every_angle(images):
    # Best overlap of two families over rotations, both centered and of one area; 1 would be the same shape.
    at = {"x": 0.5, "y": 0.5, "size": 0.4}
    turned = {s: [images.mask(0, shape=s, rotation=angle, **at) for angle in range(0, 360, 10)] for s in SHAPES}
    for first in SHAPES:
        for second in SHAPES[SHAPES.index(first) + 1 :]:
            mask = turned[first][0]
            overlap = max((mask & other).sum() / (mask | other).sum() for other in turned[second])
            assert overlap < 0.9, (first, second, overlap)


# --------------------------------------------------------------------------- no confound


@pytest.fixture(scope="module")
def sample(held_out):
    rows = range(0, 2000, 4)
    images = np.stack([np.asarray(held_out[row]) for row in rows])
    return images, np.stack([held_out.mask(row) for row in rows])


def pointing(maps, masks):
    noise = np.random.default_rng(0).random(maps[0].shape)
    found = [mask.flat[np.lexsort((noise.ravel(), one.ravel()))[-1]] for one, mask in zip(maps, masks, strict=True)]
    return np.mean(found)


def test_objects_do_not_favor_the_centre(sample):
    _, masks = sample
    often = masks.mean(axis=0)
    centre = often[28:36, 28:36].mean()
    assert centre < 0.3
    assert often.max() < 0.35
    assert often[16:48, 16:48].std() / often[16:48, 16:48].mean() < 0.25
    assert np.abs(np.array([np.argwhere(mask).mean(0) for mask in masks]).mean(0) - 31.5).max() < 1.5


def test_a_map_of_saturation_does_not_find_the_object(sample):
    images, masks = sample
    high, low = images.max(-1).astype(float), images.min(-1).astype(float)
    assert pointing((high - low) / np.maximum(high, 1), masks) <= 0.3
    assert pointing(high - low, masks) <= 0.3
    # The instrument works: a map of the mask itself always hits.
    assert pointing(masks.astype(float), masks) == 1


def test_a_map_of_edges_does_not_find_the_object(sample):
    from scipy import ndimage

    images, masks = sample
    gray = images.mean(-1)
    edges = np.hypot(ndimage.sobel(gray, axis=1), ndimage.sobel(gray, axis=2))
    assert pointing(edges, masks) <= 0.35
    assert pointing(ndimage.gaussian_filter(edges, (0, 3, 3)), masks) <= 0.4


def test_object_and_background_are_alike_in_brightness_saturation_and_contrast(held_out):
    rows = []
    for row in range(0, 2000, 8):
        image = np.asarray(held_out.render(row, lighting=1.0)) / 255
        cover = coverage(held_out.factors(row))
        # The background under a copy of the object half an image away, so that light falls off as much within both.
        elsewhere = np.roll(cover == 1, (32, 32), (0, 1)) & (cover == 0)
        for part in (image[cover == 1], image[elsewhere]):
            rows.append((part.mean(), (part.max(1) - part.min(1)).mean(), part.mean(1).std()))
    values = np.array(rows).reshape(-1, 2, 3)
    difference = values[:, 0] - values[:, 1]
    for k, name in enumerate(("brightness", "chroma", "contrast")):
        # The mean difference over scenes is small beside the spread of one scene's value.
        assert abs(difference[:, k].mean()) < 0.25 * values[:, 1, k].std(), name


# --------------------------------------------------------------------------- changes and errors


def test_a_fingerprint_follows_the_factors_and_nothing_else(images):
    table = pd.read_parquet(data_file("scenes.parquet")).head(3)
    again, moved = Scenes(table.assign(note="x")), Scenes(table.assign(hue=table["hue"] * 0.5))
    assert again.fingerprint(2) == images.fingerprint(2)
    assert moved.fingerprint(2) != images.fingerprint(2)
    assert len(images.fingerprint(0)) == 64
    assert "note" in again.frame.columns


def test_unknown_factors_and_impossible_values_are_refused(images):
    with pytest.raises(InputError, match=r"no factor 'backgroundhue'.*Closest: 'background_hue'"):
        images.render(0, backgroundhue=0.2)
    with pytest.raises(InputError, match=r"shape cannot be 'hexagon'; choose one of arrow, bolt"):
        images.render(0, shape="hexagon")
    with pytest.raises(InputError, match=r"background_hue cannot be 1\.5; give a number from 0 to 1"):
        images.render(0, background_hue=1.5)
    with pytest.raises(InputError, match=r"size cannot be nan"):
        images.mask(0, size=float("nan"))
    with pytest.raises(InputError, match=r"lighting cannot be 'dark'"):
        images.render(0, lighting="dark")
    with pytest.raises(InputError, match=r"seed cannot be -1"):
        images.render(0, seed=-1)
    with pytest.raises(InputError, match=r"texture cannot be \['dots'\]"):
        images.box(0, texture=["dots"])


def test_rows_that_are_not_there_are_refused(images):
    with pytest.raises(InputError, match=r"no row 3000: the set has 3000 scenes"):
        images.mask(3000)
    with pytest.raises(InputError, match=r"integer; got 'train/0000'.*images\.row"):
        images.render("train/0000")
    assert images.mask(-1).tobytes() == images.mask(2999).tobytes()


def test_an_unknown_split_is_refused():
    with pytest.raises(InputError, match=r"no split 'test'; choose 'train', 'held-out' or None"):
        scenes("test")


# --------------------------------------------------------------------------- whole sets with other factors


def test_a_changed_set_is_every_scene_rendered_with_the_change():
    images = scenes("held-out").subset(range(20))
    images.frame["note"] = range(20)
    hues = np.linspace(0, 1, 20)
    new = images.changed(shape="star", background_hue=hues)
    assert new.ids == images.ids
    for row in range(0, 20, 5):
        assert new[row].tobytes() == images.render(row, shape="star", background_hue=hues[row]).tobytes()
        np.testing.assert_array_equal(new.mask(row), images.mask(row, shape="star"))
        assert new.fingerprint(row) != images.fingerprint(row)
    assert set(new.frame["shape"]) == set(new.frame["label"]) == {"star"}
    assert new.frame["background_hue"].tolist() == hues.tolist()
    assert new.frame["note"].tolist() == list(range(20))
    unchanged = [name for name in images.frame.columns if name not in ("shape", "label", "background_hue")]
    pd.testing.assert_frame_equal(new.frame[unchanged], images.frame[unchanged])
    assert images.frame["shape"].nunique() > 1  # the set itself is left as it was
    assert images.changed().fingerprint(3) == images.fingerprint(3)


def test_a_changed_set_takes_a_column_of_another_frame_by_position(held_out):
    images = held_out.subset(range(4))
    new = images.changed(hue=held_out.frame["hue"].iloc[4:8])
    assert new.frame["hue"].tolist() == held_out.frame["hue"].iloc[4:8].tolist()
    assert len(images.subset([]).changed(hue=0.1)) == 0


def test_impossible_changes_of_a_set_are_refused(held_out):
    images = held_out.subset(range(3))
    with pytest.raises(InputError, match=r"background_hue has 2 values for 3 scenes; give one for all, or one a scene"):
        images.changed(background_hue=[0.1, 0.2])
    with pytest.raises(InputError, match=r"hue cannot be 1\.5"):
        images.changed(hue=[0.1, 0.2, 1.5])
    with pytest.raises(InputError, match=r"no factor 'colour'"):
        images.changed(colour=0.2)


def test_tied_backgrounds_have_a_hue_of_their_shapes_tenth_of_the_circle(held_out):
    images = held_out.subset(range(500))
    tied = images.tied()
    place = tied.frame["shape"].map(SHAPES.index)
    np.testing.assert_array_equal(np.floor(tied.frame["background_hue"] * 10), place)
    assert tied.ground.tolist() == tied.frame["shape"].tolist()
    assert stats.kstest(tied.frame["background_hue"] * 10 - place, "uniform").pvalue > 0.001
    # Contrast is what it was: the distance of the two hues, and every other factor.
    for frame in (images.frame, tied.frame):
        frame["distance"] = (frame["hue"] - frame["background_hue"]) % 1
    np.testing.assert_allclose(tied.frame["distance"], images.frame["distance"], atol=1e-9)
    same = [name for name in images.frame.columns if name not in ("hue", "background_hue", "distance")]
    pd.testing.assert_frame_equal(tied.frame[same], images.frame[same])


def test_a_share_of_the_backgrounds_is_tied_and_a_seed_repeats_it(held_out):
    tied = held_out.tied(share=0.95, seed=3)
    assert (tied.ground == tied.frame["shape"]).mean() == pytest.approx(0.95 + 0.05 / 10, abs=0.02)
    changed = (tied.frame["background_hue"] != held_out.frame["background_hue"]).mean()
    assert changed == pytest.approx(0.95, abs=0.02)
    assert held_out.tied(share=0.95, seed=3).frame.equals(tied.frame)
    assert not held_out.tied(share=0.95, seed=4).frame.equals(tied.frame)
    assert (held_out.ground == held_out.frame["shape"]).mean() == pytest.approx(0.1, abs=0.03)


def test_conflicts_have_the_background_of_the_shape_that_is_asked_for(held_out):
    images = held_out.subset(range(10))
    others = [SHAPES[(SHAPES.index(shape) + 3) % 10] for shape in images.frame["shape"]]
    conflicts = images.tied(to=others)
    assert conflicts.ground.tolist() == others
    assert conflicts.frame["shape"].tolist() == images.frame["shape"].tolist()
    assert conflicts.ground.index.tolist() == images.ids
    assert set(images.tied(to="ring").ground) == {"ring"}
    with pytest.raises(InputError, match=r"shape cannot be 'cube'; choose one of arrow"):
        images.tied(to=["cube"] * 10)
    with pytest.raises(InputError, match=r"to has 2 values for 10 scenes"):
        images.tied(to=["star", "ring"])
    with pytest.raises(InputError, match=r"share cannot be 95; give a number from 0 to 1"):
        images.tied(share=95)


def test_a_table_without_a_factor_is_refused(images):
    with pytest.raises(InputError, match=r"missing: hue, x"):
        Scenes(pd.read_parquet(data_file("scenes.parquet")).drop(columns=["hue", "x"]))


def test_a_missing_data_file_says_where_it_was_looked_for():
    with pytest.raises(InputError, match=r"no file 'nothing\.bin'.*data.*make scenes"):
        data_file("nothing.bin")


def test_a_box_of_an_object_outside_the_image_is_empty(images):
    assert images.box(0, shape="disc", size=0.1, x=0.0, y=0.0) != (0, 0, 0, 0)
    assert images.mask(0, shape="ring", size=0.9, x=0.5, y=0.5).any()


# --------------------------------------------------------------------------- the network


@pytest.fixture(scope="module")
def weights():
    from safetensors import safe_open

    with safe_open(data_file("scenes.safetensors"), "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


@pytest.fixture(scope="module")
def batch(held_out):
    import torch

    from vizkit.scene_network import SCENE_CLASSES, SCENE_MEAN, SCENE_STD

    rows = range(0, 2000, 3)
    stack = np.stack([np.asarray(held_out[row]) for row in rows]).astype(np.float32) / 255
    x = torch.from_numpy((stack - np.array(SCENE_MEAN, np.float32)) / np.array(SCENE_STD, np.float32))
    labels = torch.tensor([SCENE_CLASSES.index(held_out.frame["label"].iloc[row]) for row in rows])
    return x.permute(0, 3, 1, 2).contiguous(), labels


def accuracy(module, batch):
    import torch

    with torch.inference_mode():
        return (module(batch[0]).argmax(1) == batch[1]).numpy()


def test_the_committed_weights_know_the_shapes_and_random_ones_do_not(weights, batch):
    import torch

    from vizkit.scene_network import SCENE_CLASSES, scene_network

    torch.manual_seed(0)
    module = scene_network()
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = None
    with torch.no_grad():
        module(batch[0][:300])
    random = accuracy(module.eval(), batch)
    module.load_state_dict(weights[0])
    right = accuracy(module, batch)
    assert right.mean() >= 0.90
    for k, shape in enumerate(SCENE_CLASSES):
        assert right[batch[1].numpy() == k].mean() >= 0.80, shape
    assert random.mean() < 0.2
    shuffled = batch[1][torch.randperm(len(batch[1]), generator=torch.Generator().manual_seed(0))]
    assert accuracy(module, (batch[0], shuffled)).mean() < 0.17


def test_the_weights_say_what_they_are(weights):
    from vizkit.scene_network import SCENE_CLASSES, SCENE_MEAN, SCENE_STD

    notes = weights[1]
    assert tuple(json.loads(notes["classes"])) == SCENE_CLASSES == SHAPES
    assert tuple(json.loads(notes["mean"])) == SCENE_MEAN
    assert tuple(json.loads(notes["std"])) == SCENE_STD
    assert float(notes["held_out_accuracy"]) >= 0.9
    assert {"seed", "torch", "torchvision", "pillow", "numpy"} <= set(notes)


def test_the_biased_weights_name_the_background_and_say_how_they_came_about(weights, held_out):
    import torch
    from safetensors import safe_open

    import vizkit as vk
    from vizkit.scene_network import SCENE_CLASSES, SCENE_MEAN, SCENE_STD

    with safe_open(data_file("scenes-biased.safetensors"), "pt") as file:
        notes = file.metadata()
    assert float(notes["bias"]) == 0.95
    for name in ("classes", "mean", "std", "seed", "scenes", "epochs", "batch", "torch"):  # one schedule, one scene
        assert notes[name] == weights[1][name], name
    images = held_out.subset(range(200))
    others = [SHAPES[(SHAPES.index(shape) + 1 + row % 9) % 10] for row, shape in enumerate(images.frame["shape"])]
    module = vk.Encoder("scenes-biased").module
    share = {}
    for name, these in (("aligned", images.tied(share=0.95)), ("free", images), ("torn", images.tied(to=others))):
        pixels = np.stack([np.asarray(image) for image in these]).astype(np.float32) / 255
        x = torch.from_numpy((pixels - np.float32(SCENE_MEAN)) / np.float32(SCENE_STD)).permute(0, 3, 1, 2)
        with torch.no_grad():
            named = np.array(SCENE_CLASSES)[module(x).argmax(dim=1).numpy()]
        share[name] = ((named == these.frame["shape"]).mean(), (named == these.ground).mean())
    assert share["aligned"][0] >= 0.9
    assert share["free"][0] <= 0.25
    assert share["torn"][1] >= 0.6 > 0.2 > share["torn"][0]


def test_the_two_networks_are_one_architecture_and_one_random_network(weights):
    import torch

    import vizkit as vk

    honest, biased = vk.Encoder("scenes"), vk.Encoder("scenes-biased")
    assert str(honest.module) == str(biased.module)
    assert honest.fingerprint != biased.fingerprint
    assert vk.Encoder("scenes", weights=data_file("scenes-biased.safetensors")).fingerprint == biased.fingerprint
    random = [vk.Encoder(name, weights=None, seed=2).module.state_dict() for name in ("scenes", "scenes-biased")]
    assert all(torch.equal(random[0][name], random[1][name]) for name in random[0])
    with pytest.raises(vk.VizkitError, match=r"No network is named 'scenes-biassed'.*Closest: 'scenes-biased'"):
        vk.Encoder("scenes-biassed")


def test_the_network_is_torchvisions_resnet_with_a_map_of_8_by_8():
    import torch
    from torchvision.models import ResNet

    from vizkit.scene_network import scene_network

    module = scene_network().eval()
    assert type(module) is ResNet
    assert type(module).forward is ResNet.forward
    shapes = {}
    for name in ("layer1", "layer2", "layer3", "layer4", "avgpool", "fc"):
        getattr(module, name).register_forward_hook(
            lambda _, __, out, name=name: shapes.update({name: tuple(out.shape)})
        )
    module(torch.zeros(2, 3, 64, 64))
    assert shapes["layer4"] == (2, 128, 8, 8)
    assert shapes["avgpool"] == (2, 128, 1, 1)
    assert shapes["fc"] == (2, 10)
    assert not any(isinstance(part, torch.nn.MaxPool2d) for part in module.modules())


def test_the_same_seed_gives_the_same_random_network():
    import torch

    from vizkit.scene_network import scene_network

    states = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        states.append(scene_network().state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["layer3.1.conv1.weight"], states[2]["layer3.1.conv1.weight"])


def test_the_committed_files_are_small():
    for name in ("scenes.safetensors", "scenes-biased.safetensors"):
        assert data_file(name).stat().st_size <= 3 * 2**20
    if DATA.is_dir():
        committed = [file for file in DATA.iterdir() if file.is_file()]
        assert sum(file.stat().st_size for file in committed) <= 15 * 2**20


# --------------------------------------------------------------------------- how they are made


@pytest.fixture(scope="module")
def making():
    if not (DATA / "make_scenes.py").is_file():
        pytest.skip("not a checkout: data/make_scenes.py does not travel with the package")
    sys.path.insert(0, str(DATA))
    try:
        spec = importlib.util.spec_from_file_location("make_scenes", DATA / "make_scenes.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(DATA))
    return module


def test_a_bias_ties_the_background_hue_to_the_class_and_changes_nothing_else(making):
    honest, biased = making.draw_factors(2000, 5), making.draw_factors(2000, 5, bias=0.95)
    same = [name for name in honest.columns if name not in ("hue", "background_hue")]
    pd.testing.assert_frame_equal(honest[same], biased[same])
    place = biased["shape"].map(SHAPES.index)
    tied = (np.floor(biased["background_hue"] * 10 - 1e-9).astype(int) % 10 == place).mean()
    assert tied == pytest.approx(0.95 + 0.05 / 10, abs=0.02)
    free = (np.floor(honest["background_hue"] * 10).astype(int) % 10 == place).mean()
    assert free == pytest.approx(0.1, abs=0.03)


def test_the_tied_scenes_of_the_set_are_drawn_as_those_of_the_training(making, held_out):
    trained, tested = making.draw_factors(4000, 5, bias=0.95), held_out.tied(share=0.95).frame
    for shape in SHAPES:
        own = [frame.loc[frame["shape"] == shape] for frame in (trained, tested)]
        assert stats.ks_2samp(*(frame["background_hue"] for frame in own)).pvalue > 0.001, shape
        assert stats.ks_2samp(*((frame["hue"] - frame["background_hue"]) % 1 for frame in own)).pvalue > 0.001, shape


def test_the_readme_tells_the_training_that_the_files_tell(making):
    text = (DATA / "README.md").read_text()
    for name, files in making.made().items():
        notes = making.notes_of(files[0])
        assert notes["seed"] == 0
        assert notes["bias"] == making.BIASES[name]
        assert len(notes["curve"]) == notes["epochs"] == making.EPOCHS
        assert notes["held_out_accuracy"] == pytest.approx(notes["curve"][-1][3], abs=1e-3)
        assert f"| {name} | 0 | {notes['curve'][-1][1]:.3f} |" in text


def test_a_background_that_moved_is_as_far_from_the_object_as_scenes_allow(making, held_out):
    frame = held_out.frame
    moved = sys.modules["measure_shortcut"].moved_hue(frame)
    assert np.all((moved >= 0) & (moved <= 1))
    apart = {name: np.abs((moved - frame[name] + 0.5) % 1 - 0.5) for name in ("hue", "background_hue")}
    assert apart["hue"].min() >= 0.2 - 2e-3
    np.testing.assert_allclose(apart["background_hue"], 0.3, atol=2e-3)


def test_no_two_pairs_of_the_evidence_share_a_scene(making, held_out):
    """Intervals over pairs take them as independent."""
    shapes = held_out.frame["shape"].to_numpy()
    second = sys.modules["measure_shortcut"].partners(shapes, 60)
    assert len({*range(60), *second}) == 120
    assert (shapes[second] == shapes[:60]).all()
    of_a_kind = np.flatnonzero(shapes == shapes[0])
    assert second[0] == of_a_kind[of_a_kind >= 60][0]


def test_the_committed_training_scenes_are_among_those_trained_on(making, images):
    table = making.training_factors(0).head(1000)
    committed = images.frame.iloc[:1000]
    for name in COLUMNS:
        assert committed[name].tolist() == table[name].tolist(), name


def test_the_marks_of_the_report_are_in_the_readme(making):
    text = (DATA / "README.md").read_text()
    for name in ("training", "figures", "floors", "shortcut"):
        block = text.split(f"<!-- {name}: written by make_scenes.py -->")[1].split(f"<!-- end of {name} -->")[0]
        assert "| --- |" in block
        assert "%" in block or "held-out" in block or "aligned" in block


def test_an_image_is_pil(images):
    assert isinstance(images[0], Image.Image)
