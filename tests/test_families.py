"""Every torchvision classification family: its default vector is what a forward pass written out by hand gives.

Weights are random, and BatchNorm is calibrated on images first: as initialised, some networks give every image nearly
the same vector, or one near zero, and then any two ways of computing it agree.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torchvision.models as zoo
from drawn import photo
from torch.nn.functional import hardswish, relu

import vizkit as vk
from vizkit.capture import calibrate

TOLERANCE = 1e-5  # of the vector's norm


def run(x, *parts):
    for part in parts:
        x = part(x)
    return x


def of_alexnet(m, x):  # and of VGG
    x = m.avgpool(m.features(x)).flatten(1)
    return run(x, *m.classifier[:-1])


def of_resnet(m, x):  # and of ResNeXt and Wide ResNet
    x = run(x, m.conv1, m.bn1, m.relu, m.maxpool, m.layer1, m.layer2, m.layer3, m.layer4)
    return x.mean((2, 3))


def as_tensorflow(x):
    """Return images with ImageNet's mean and std taken off as TensorFlow has them: from -1 to 1, all channels alike."""
    mean, std = np.reshape([0.485, 0.456, 0.406], (3, 1, 1)), np.reshape([0.229, 0.224, 0.225], (3, 1, 1))
    # Constants in double precision, as torchvision has them: these networks make 100 times more of a rounding error.
    return x * torch.tensor(std / 0.5).float() + torch.tensor((mean - 0.5) / 0.5).float()


def of_googlenet(m, x):
    x = run(as_tensorflow(x), m.conv1, m.maxpool1, m.conv2, m.conv3, m.maxpool2)
    x = run(x, m.inception3a, m.inception3b, m.maxpool3)
    x = run(x, m.inception4a, m.inception4b, m.inception4c, m.inception4d, m.inception4e, m.maxpool4)
    return run(x, m.inception5a, m.inception5b).mean((2, 3))


def of_inception(m, x):
    x = run(as_tensorflow(x), m.Conv2d_1a_3x3, m.Conv2d_2a_3x3, m.Conv2d_2b_3x3, m.maxpool1)
    x = run(x, m.Conv2d_3b_1x1, m.Conv2d_4a_3x3, m.maxpool2)
    x = run(x, m.Mixed_5b, m.Mixed_5c, m.Mixed_5d)
    x = run(x, m.Mixed_6a, m.Mixed_6b, m.Mixed_6c, m.Mixed_6d, m.Mixed_6e)
    return run(x, m.Mixed_7a, m.Mixed_7b, m.Mixed_7c).mean((2, 3))


def of_squeezenet(m, x):  # its classifier is a convolution: what that gets, pooled
    return m.features(x).mean((2, 3))


def of_shufflenet(m, x):
    return run(x, m.conv1, m.maxpool, m.stage2, m.stage3, m.stage4, m.conv5).mean((2, 3))


def of_densenet(m, x):
    return relu(m.features(x)).mean((2, 3))


def of_mnasnet(m, x):
    return m.layers(x).mean((2, 3))


def of_mobilenet_v2(m, x):  # and of EfficientNet
    return m.features(x).mean((2, 3))


def of_mobilenet_v3(m, x):
    return hardswish(m.classifier[0](m.features(x).mean((2, 3))))


def of_regnet(m, x):
    return m.trunk_output(m.stem(x)).mean((2, 3))


def of_convnext(m, x):
    return m.classifier[0](m.features(x).mean((2, 3), keepdim=True)).flatten(1)


def of_vit(m, x):
    tokens = m.conv_proj(x).flatten(2).transpose(1, 2)
    tokens = torch.cat([m.class_token.expand(len(x), -1, -1), tokens], dim=1) + m.encoder.pos_embedding
    return m.encoder.ln(run(tokens, *m.encoder.layers))[:, 0]


def of_swin(m, x):  # (n, h, w, c) inside
    return m.norm(m.features(x)).mean((1, 2))


def of_maxvit(m, x):
    _, _, norm, linear, _, _ = m.classifier  # pool, flatten, norm, linear, tanh, and the classes
    x = run(x, m.stem, *m.blocks).mean((2, 3))
    return torch.tanh(linear(norm(x)))


@dataclass(frozen=True)
class Family:
    """What a family's smallest practical member gives by default, and a wrong layer of the same dimension."""

    network: str
    layer: str
    dim: int
    side: int  # of the input, in pixels
    forward: Callable
    wrong_layer: str
    wrong_pool: str = "gap"


FAMILIES = {
    "alexnet": Family("alexnet", "input:classifier.6", 4096, 224, of_alexnet, "classifier.4"),
    "vgg": Family("vgg11", "input:classifier.6", 4096, 224, of_alexnet, "classifier.3"),
    "resnet": Family("resnet18", "input:fc", 512, 224, of_resnet, "layer4.0"),
    "resnext": Family("resnext50_32x4d", "input:fc", 2048, 224, of_resnet, "layer4.1"),
    "wide_resnet": Family("wide_resnet50_2", "input:fc", 2048, 224, of_resnet, "layer4.1"),
    "googlenet": Family("googlenet", "input:fc", 1024, 224, of_googlenet, "inception5b", "max"),
    "inception_v3": Family("inception_v3", "input:fc", 2048, 299, of_inception, "Mixed_7b"),
    "squeezenet": Family("squeezenet1_1", "features", 512, 224, of_squeezenet, "features.11"),
    "shufflenet_v2": Family("shufflenet_v2_x0_5", "input:fc", 1024, 224, of_shufflenet, "conv5.1"),
    # DenseNet's last ReLU is a function in forward, not a module: its features end before it.
    "densenet": Family("densenet121", "input:classifier", 1024, 224, of_densenet, "features"),
    "mnasnet": Family("mnasnet0_5", "input:classifier.1", 1280, 224, of_mnasnet, "layers.15"),
    "mobilenet_v2": Family("mobilenet_v2", "input:classifier.1", 1280, 224, of_mobilenet_v2, "features.18.1"),
    "mobilenet_v3": Family("mobilenet_v3_small", "input:classifier.3", 1024, 224, of_mobilenet_v3, "classifier.0"),
    "efficientnet": Family("efficientnet_b0", "input:classifier.1", 1280, 224, of_mobilenet_v2, "features.8.1"),
    "efficientnet_v2": Family("efficientnet_v2_s", "input:classifier.1", 1280, 384, of_mobilenet_v2, "features.7.1"),
    "regnet": Family("regnet_y_400mf", "input:fc", 440, 224, of_regnet, "trunk_output", "max"),
    "convnext": Family("convnext_tiny", "input:classifier.2", 768, 224, of_convnext, "features"),
    "vit": Family("vit_b_32", "input:heads.head", 768, 224, of_vit, "encoder.ln"),
    "swin": Family("swin_t", "input:head", 768, 224, of_swin, "features"),
    "swin_v2": Family("swin_v2_t", "input:head", 768, 256, of_swin, "features"),
    "maxvit": Family("maxvit_t", "input:classifier.5", 512, 224, of_maxvit, "classifier.3"),
}


def family_of(network):
    """Return a network's name without what tells the members of a family apart: depth, width, patch, size."""
    name = re.sub(r"(?<!_v)\d.*", "", network)  # from the first number on, unless it is a version: resnet50, vit_b_16
    return re.sub(r"_?(?:_[a-z]|_tiny|_small|_base|_large)?_?$", "", name)  # swin_v2_t, mobilenet_v3_large


def test_the_table_has_every_family_that_torchvision_has():
    known = {family_of(network) for network in zoo.list_models(module=zoo)}
    missing = sorted(known - set(FAMILIES))
    assert not missing, f"torchvision has families that no test reads: {missing}. Give each a row in FAMILIES."
    assert [family_of(row.network) for row in FAMILIES.values()] == list(FAMILIES)
    assert len(known) >= 21


class Case:
    """A family's network under test, what it gives for three photos, and what it must give."""

    def __init__(self, row):
        self.row = row
        self.transforms = zoo.get_model_weights(row.network).IMAGENET1K_V1.transforms
        self.encoder = vk.Encoder(row.network, weights=None, seed=3)
        self.photos = [photo(seed, size) for seed, size in enumerate([(400, 300), (300, 420), (512, 512)])]
        self.batch = torch.stack([self.encoder.preprocess(p) for p in self.photos])
        self.module = self.encoder.module
        calibrate(self.module, self.batch)
        # Dropout, BatchNorm, stochastic depth and auxiliary heads all act unless the encoder switches them off.
        self.module.train()
        self.vectors = self.encoder.encode(self.batch)
        self.module.eval()
        with torch.no_grad():
            seen = torch.stack([self.transforms()(p) for p in self.photos])
            self.expected = row.forward(self.module, seen).numpy()

    def gaps(self, vectors):
        """Return how far vectors are from the expected ones, each in units of the expected one's norm."""
        expected = self.expected.astype(float)
        return np.linalg.norm(vectors - expected, axis=1) / np.linalg.norm(expected, axis=1)


@pytest.fixture(scope="module", params=FAMILIES)
def case(request):
    return Case(FAMILIES[request.param])


def test_the_vector_is_a_forward_pass_written_by_hand(case):
    assert case.vectors.dtype == np.float32
    assert case.vectors.shape == case.expected.shape == (3, case.row.dim) == (3, case.encoder.dim)
    assert case.encoder.input_shape == (3, case.row.side, case.row.side)
    assert case.encoder.layer == case.row.layer
    assert case.gaps(case.vectors).max() <= TOLERANCE


def test_two_images_are_far_apart_beside_the_tolerance(case):
    expected = case.expected.astype(float)
    apart = [np.linalg.norm(expected[i] - expected[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert min(apart) >= 100 * TOLERANCE * np.linalg.norm(expected, axis=1).max()


def test_another_layer_or_pooling_gives_another_vector(case):
    layer, pool = case.row.wrong_layer, case.row.wrong_pool
    wrong = vk.Encoder(case.module, layer=layer, pool=pool, preprocess=case.transforms())
    assert wrong.dim == case.row.dim
    assert case.gaps(wrong.encode(case.batch)).min() > 100 * TOLERANCE


def test_another_resize_gives_another_vector(case):
    usual = case.transforms()
    resize, crop = usual.resize_size[0], usual.crop_size[0]
    other = case.transforms(resize_size=resize - 24 if resize - 24 >= crop else resize + 24)
    wrong = vk.Encoder(case.module, layer=case.row.layer, preprocess=other)
    assert case.gaps(wrong.encode(torch.stack([wrong.preprocess(p) for p in case.photos]))).min() > 100 * TOLERANCE


def test_a_photo_alone_has_the_vector_it_has_in_a_batch(case):
    alone = np.stack([case.encoder.embed_image(p) for p in case.photos])
    assert case.gaps(alone).max() <= TOLERANCE


def test_the_vectors_keep_the_order_of_the_batch(case):
    order = [2, 0, 1]
    turned = np.empty_like(case.vectors)
    turned[order] = case.encoder.encode(case.batch[order])
    assert case.gaps(turned).max() <= TOLERANCE


def test_the_same_batch_gives_the_same_bits(case):
    np.testing.assert_array_equal(case.encoder.encode(case.batch), case.vectors)
