"""Networks that know something, on photos: what their own classifiers make of our vectors, and the official pipeline.

Random weights can only show that two ways of computing a vector agree. Here the vectors have to be right.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision.models as zoo
from PIL import Image, ImageOps
from torch import nn
from torch.nn.functional import pad, relu

import vizkit as vk
from vizkit.checkpoints import read_checkpoint
from vizkit.errors import WeightsError

MOBILENET = "torch/converted/mobilenet_v2_tf2-fe1e9c5f.pth"
SQUEEZENET = "torch/converted/squeezenet1_0_deepcomp-914c6c20.pth"
SAME = 1e-4  # largest difference from the official pipeline, relative to the norm


@dataclass(frozen=True)
class Real:
    """A network with trained weights: how to ask for it, and what it computes, written out by hand."""

    network: str
    file: str
    pool: str
    cached: tuple[str, ...]  # the names under which torchvision's cache keeps its weights
    resize: str  # of the newest weights, as the card says it

    def module(self, shared):
        module = zoo.get_model(self.network, weights=None)
        module.load_state_dict(torch.load(shared / self.file, weights_only=True))
        return module.eval()

    def official(self, module, photos, **changes):
        """Return the vectors that torchvision's own transforms and module give, in batches of 20."""
        transforms = zoo.get_model_weights(self.network).IMAGENET1K_V1.transforms(**changes)
        rows = []
        with torch.no_grad():
            for start in range(0, len(photos), 20):
                maps = module.features(torch.stack([transforms(p) for p in photos[start : start + 20]]))
                rows.append(maps.flatten(1) if self.pool == "none" else maps.mean((2, 3)))
        return torch.cat(rows).numpy()


REAL = {
    "mobilenet_v2": Real(
        "mobilenet_v2", MOBILENET, "gap", ("mobilenet_v2-b0353104.pth", "mobilenet_v2-7ebf99e0.pth"), "232 pixels"
    ),
    "squeezenet1_0": Real("squeezenet1_0", SQUEEZENET, "none", ("squeezenet1_0-b66bff10.pth",), "256 pixels"),
}


class Case:
    """What a network makes of the photos, as a user would ask for it."""

    def __init__(self, real, images, shared):
        self.real, self.module = real, real.module(shared)
        self.encoder = vk.Encoder(real.network, weights=shared / real.file, pool=real.pool)
        self.vectors = vk.embed(images, self.encoder).vectors
        self.official = real.official(self.module, upright(images.frame["path"]))


@pytest.fixture(scope="module")
def photos(shared):
    """Give 300 photos of 300 classes of ImageNet, with their class indices."""
    folder = shared / "images/imagenet_sample"
    frame = pd.read_csv(folder / "labels.csv")
    return vk.ImageSet.from_frame(frame, image="file", label="class_name", root=folder)


@pytest.fixture(scope="module", params=REAL)
def case(request, photos, shared):
    return Case(REAL[request.param], photos, shared)


def upright(paths):
    """Read photos without vizkit."""
    return [ImageOps.exif_transpose(Image.open(path)).convert("RGB") for path in paths]


def right(logits, images):
    """Return how many photos get the highest score for their own class; scores (n, classes) or (n, classes, 1, 1)."""
    found, wanted = logits.flatten(1).argmax(1).numpy(), images.frame["class_index"].to_numpy()
    assert found.shape == wanted.shape  # or else each would be compared with each
    return int((found == wanted).sum())


def cosines(a, b):
    a, b = a.astype(float), b.astype(float)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_its_own_classifier_reads_our_vectors_as_its_own(case, photos):
    """The file's makers count 241 (MobileNetV2) and 173 (SqueezeNet) of 300 right."""
    vectors = torch.from_numpy(case.vectors)
    with torch.no_grad():
        if case.real.pool == "gap":
            assert right(case.module.classifier(vectors), photos) >= 236
            # The control: the scores of the class beside.
            assert right(case.module.classifier(vectors).roll(1, dims=1), photos) <= 9
            return
        maps = vectors.reshape(-1, *case.encoder.shape)
        unpooled = right(case.module.classifier(maps), photos)
        # SqueezeNet's classifier is a convolution, a ReLU, then the mean: maps pooled first are not what that gets.
        pooled = right(case.module.classifier(maps.mean((2, 3), keepdim=True)), photos)
        # Nor is it right for maps whose channels are where the columns should be.
        mixed = right(case.module.classifier(vectors.reshape(-1, 13, 13, 512).permute(0, 3, 1, 2)), photos)
    assert unpooled >= 170 > pooled
    assert mixed <= 9


def off(vectors, reference):
    """Return the distance of each row from the reference, relative to its norm."""
    return np.linalg.norm(vectors - reference, axis=1) / np.linalg.norm(reference, axis=1)


def nearest(vectors):
    """Return the row of the nearest neighbor of each row, by cosine."""
    unit = vectors / np.linalg.norm(vectors.astype(float), axis=1, keepdims=True)
    products = unit @ unit.T
    np.fill_diagonal(products, -np.inf)
    return products.argmax(1)


def test_every_photo_has_the_vector_and_the_nearest_neighbor_of_the_official_pipeline(case):
    assert case.official.shape == case.vectors.shape
    assert off(case.vectors, case.official).max() <= SAME
    np.testing.assert_array_equal(nearest(case.vectors), nearest(case.official))
    # The images matter: no photo's vector would do for the next one.
    assert off(case.vectors, np.roll(case.official, 1, axis=0)).min() > 1000 * SAME


@pytest.mark.parametrize("change", [{"resize_size": 260}, {"resize_size": 232}, {"mean": (0.5, 0.5, 0.5)}])
def test_another_resize_or_mean_is_seen_on_every_photo(case, photos, change):
    some = slice(None, None, 10)
    other = case.real.official(case.module, upright(photos.frame["path"][some]), **change)
    assert off(case.vectors[some], other).min() > 100 * SAME


def test_reduced_decoding_and_half_precision_say_how_many_nearest_neighbors_they_keep(shared, photos, tmp_path):
    """Counted here again, by hand, on the same 100 photos."""
    images = photos.subset(range(0, 300, 3))
    real = REAL["mobilenet_v2"]
    encoder = vk.Encoder(real.network, weights=shared / real.file)
    exact = vk.embed(images, encoder, cache=tmp_path)
    assert "exactness" not in exact.provenance
    for precision, reduced in (("half", False), ("float32", True)):
        other = vk.Encoder(real.network, weights=shared / real.file, precision=precision)
        found = vk.embed(images, other, cache=tmp_path, reduced=reduced)
        told = found.provenance["exactness"]
        kept = np.mean(nearest(found.vectors) == nearest(exact.vectors))
        assert told["nearest kept"] == pytest.approx(kept)
        assert kept > 0.8
        assert told["95% interval"][0] < kept <= told["95% interval"][1]
        assert (told["images"], told["chance"]) == (100, 1 / 99)


@pytest.mark.parametrize("name", REAL)
def test_the_newest_weights_come_through_torchvisions_cache(name, shared, tmp_path, monkeypatch, no_network):
    """torchvision's own loading code finds the file, no byte travels, and the vectors are those of the file."""
    real = REAL[name]
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=r"cannot be downloaded .*blocked by the test"):
        vk.Encoder(name)
    (tmp_path / "hub/checkpoints").mkdir(parents=True, exist_ok=True)
    for file in real.cached:
        (tmp_path / "hub/checkpoints" / file).write_bytes((shared / real.file).read_bytes())
    by_name = vk.Encoder(name, weights="DEFAULT")
    by_file = vk.Encoder(name, weights=shared / real.file)
    batch = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(by_name.encode(batch), by_file.encode(batch))
    # The newest weights may come with another resize than the first ones, which a file is taken for.
    assert by_name.card().loc["resize", "value"] == real.resize
    assert by_file.card().loc["resize", "value"] == "256 pixels"


class Block(nn.Module):
    """Two 3 x 3 convolutions around a shortcut without weights: every second pixel, new channels filled with zeros."""

    def __init__(self, given, made, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(given, made, 3, stride, 1, bias=False), nn.BatchNorm2d(made)
        self.conv2, self.bn2 = nn.Conv2d(made, made, 3, 1, 1, bias=False), nn.BatchNorm2d(made)
        self.stride, self.new = stride, made - given

    def forward(self, x):
        y = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        x = x[:, :, :: self.stride, :: self.stride]
        return relu(y + pad(x, (0, 0, 0, 0, self.new // 2, self.new // 2)))


class CifarResNet(nn.Module):
    """ResNet of He et al. 2016 (arXiv:1512.03385), section 4.2: three stages of n blocks, 6 n + 2 layers."""

    def __init__(self, n):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(Block(given, made, stride), *(Block(made, made, 1) for _ in range(n - 1)))
            for given, made, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2))
        )
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean((2, 3)))


def plain_pixels(image):
    """Preprocess to 32 x 32 pixels with values in [0, 1]."""
    return torch.from_numpy(np.asarray(image.resize((32, 32)), np.float32).transpose(2, 0, 1) / 255)


def cifar_pixels(image):
    """Preprocess as the CIFAR networks were trained: ImageNet's mean and std on 32 x 32 pixels."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (plain_pixels(image) - mean.reshape(3, 1, 1)) / std.reshape(3, 1, 1)


@pytest.fixture(scope="module")
def tiny_photos(shared):
    """Give the 300 test images of CIFAR-10 and their class indices; its classes are in the order of the alphabet."""
    folder = shared / "images/cifar10_jpg"
    frame = pd.read_csv(folder / "labels.csv").query("split == 'test'")
    frame = frame.assign(class_index=frame["class_name"].astype("category").cat.codes)
    return vk.ImageSet.from_frame(frame, image="file", label="class_name", root=folder)


@pytest.mark.parametrize(
    ("file", "n", "least"), [("resnet20-12fca82f.th", 3, 230), ("resnet56-4bfd9763.th", 9, 250)], ids=["20", "56"]
)
def test_a_users_own_module_and_preprocess_are_read_as_trained(file, n, least, tiny_photos, shared):
    module = CifarResNet(n)
    module.load_state_dict(read_checkpoint(shared / "torch/cifar_resnet" / file))

    def scores(preprocess):
        encoder = vk.Encoder(module, preprocess=preprocess)
        assert (encoder.layer, encoder.dim) == ("input:linear", 64)
        with torch.no_grad():
            return module.linear(torch.from_numpy(vk.embed(tiny_photos, encoder).vectors))

    assert len(tiny_photos) == 300
    assert module.training  # as built: left so, its BatchNorm would answer by batch and learn
    ours = scores(cifar_pixels)
    assert right(ours, tiny_photos) >= least
    assert right(scores(plain_pixels), tiny_photos) < least / 2  # the control: without normalisation
    assert module.training
    with torch.no_grad():
        own = module.eval()(torch.stack([cifar_pixels(p) for p in upright(tiny_photos.frame["path"])]))
    np.testing.assert_allclose(ours, own, atol=1e-4)
