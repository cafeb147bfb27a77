"""The faster twin: the same vectors from folded BatchNorms, and the module as it is wherever that would not hold."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from drawn import photo, to_tensor_32
from torch import nn

import vizkit as vk
from vizkit import extraction, pipeline
from vizkit.fusion import side_by_side


def folds(encoder):
    """Say whether a twin of the encoder's network has fewer BatchNorms than the network, whose weights it shares."""
    twins = [crew[0].module for crew in side_by_side([encoder], 2)]
    norms = [sum(isinstance(m, nn.BatchNorm2d) for m in module.modules()) for module in (*twins, encoder.module)]
    return norms[0] < norms[-1]


@pytest.fixture(scope="module")
def images():
    return vk.ImageSet.from_frame(pd.DataFrame({"path": [photo(i, (260, 240)) for i in range(6)]}))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "densenet121"])
def test_the_twin_gives_the_same_vectors_and_leaves_the_network(images, name):
    encoder = vk.Encoder(name, weights=None).randomized(images)
    first = next(layer for layer in encoder.layers if encoder.layers[layer].kind == "Conv2d")
    encoders = [encoder, encoder.at(first), encoder.at("output")]
    state = {key: value.clone() for key, value in encoder.module.state_dict().items()}
    crews = side_by_side(encoders, 2)
    twins = crews[0]
    batch = torch.stack([encoder.preprocess(image) for image in images])
    for ours, theirs in zip(twins, encoders, strict=True):
        x, y = ours.encode(batch), theirs.encode(batch)
        assert (np.linalg.norm(x - y, axis=1) <= 1e-4 * np.linalg.norm(y, axis=1)).all()
    assert sum(isinstance(m, nn.BatchNorm2d) for m in twins[0].module.modules()) < sum(
        isinstance(m, nn.BatchNorm2d) for m in encoder.module.modules()
    )
    assert all(torch.equal(value, state[key]) for key, value in encoder.module.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in encoder.module.modules())


class Planted(nn.Module):
    """What a convolution gives is read by its BatchNorm, and in some kinds by something else as well."""

    def __init__(self, kind):
        super().__init__()
        self.conv, self.norm, self.kind = nn.Conv2d(3, 8, 3, stride=4), nn.BatchNorm2d(8), kind
        self.norm.running_mean.uniform_(-1, 1)
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        x = self.conv(x)
        y = self.norm(x)
        return (y + x if self.kind == "read twice" else y).mean((2, 3))

    def __deepcopy__(self, memo):
        if self.kind == "not copied":
            raise TypeError("no copies")
        twin = Planted.__new__(Planted)
        nn.Module.__init__(twin)
        twin.kind = self.kind
        for name, part in self.named_children():
            setattr(twin, name, __import__("copy").deepcopy(part, memo))
        return twin


@pytest.mark.parametrize(
    ("kind", "fold", "crews"), [("plain", True, 2), ("read twice", False, 2), ("not copied", False, 1)]
)
def test_a_twin_is_used_only_where_it_gives_the_same(images, tmp_path, kind, fold, crews):
    encoder = vk.Encoder(Planted(kind), preprocess=to_tensor_32)
    assert folds(encoder) == fold
    assert len(side_by_side([encoder], 2)) == crews
    found = vk.embed(images, encoder, cache=tmp_path, progress=False)
    expected = encoder.encode(torch.stack([encoder.preprocess(image) for image in images]))
    np.testing.assert_allclose(found.vectors, expected, rtol=1e-4, atol=1e-5)
    assert found.encoder.module is encoder.module


def test_what_a_convolution_gives_by_itself_is_read_from_a_convolution_that_is_not_folded():
    encoder = vk.Encoder(Planted("plain"), layer="conv", preprocess=to_tensor_32)
    assert not folds(encoder)
    assert not folds(encoder.at("input:norm"))
    assert folds(encoder.at("norm"))


def test_twins_share_every_tensor_but_what_was_folded():
    encoder = vk.Encoder("vit_b_32", weights=None)
    (first,), (second,) = side_by_side([encoder], 2)
    ours = {id(p) for p in encoder.module.parameters()}
    theirs = [[id(t) for t in (*twin.module.parameters(), *twin.module.buffers())] for twin in (first, second)]
    assert theirs[0] == theirs[1]
    assert len(ours - set(theirs[0])) == 2  # weight and bias of the one convolution
    assert len({id(encoder.module), id(first.module), id(second.module)}) == 3


class Counting(nn.Module):
    """Counts its passes on itself."""

    def __init__(self):
        super().__init__()
        self.conv, self.passes = nn.Conv2d(3, 8, 3, stride=4), 0

    def forward(self, x):
        self.passes += 1
        return self.conv(x).mean((2, 3))


def test_a_network_that_writes_to_itself_or_has_a_listener_runs_as_it_is(images, tmp_path):
    counting = vk.Encoder(Counting(), preprocess=to_tensor_32)
    before = counting.module.passes
    vk.embed(images, counting, cache=tmp_path, batch_size=2, progress=False)
    assert counting.module.passes == before + 3
    heard = vk.Encoder(Planted("plain"), preprocess=to_tensor_32)
    assert len(side_by_side([heard], 2)) == 2
    heard.module.norm.register_forward_hook(lambda *_: None)
    assert [crew[0].module for crew in side_by_side([heard], 2)] == [heard.module]


def test_half_precision_is_folded_too_and_gives_what_the_network_gives_at_half():
    encoder = vk.Encoder("scenes", precision="half", device="cpu")
    assert folds(encoder)
    (twin,), _ = side_by_side([encoder], 2)
    batch = encoder.input.probe()
    exact, half, ours = encoder.exact().encode(batch), encoder.encode(batch), twin.encode(batch)
    norms = np.linalg.norm(exact, axis=1)
    assert (np.linalg.norm(half - exact, axis=1) > 1e-4 * norms).all()  # it is half precision indeed
    assert (np.linalg.norm(ours - exact, axis=1) < 0.03 * norms).all()


def test_threads_take_turns_at_a_dataset_and_at_a_preprocess_of_the_users_own(tmp_path):
    busy, most = {"read": 0, "see": 0}, []

    def work(kind):
        busy[kind] += 1
        most.append(busy[kind])
        time.sleep(0.01)
        busy[kind] -= 1

    def slow(image):
        work("see")
        return to_tensor_32(image)

    class Dataset:
        targets = [0] * 12

        def __len__(self):
            return 12

        def __getitem__(self, row):
            work("read")
            return photo(row), 0

    vk.embed(
        vk.ImageSet.from_dataset(Dataset()),
        vk.Encoder(Planted("plain"), preprocess=slow),
        cache=tmp_path,
        batch_size=2,
        progress=False,
    )
    assert max(most) == 1


class Merging(nn.Module):
    """Adds its second weight to the first when it is put into eval mode, as adapters do that merge."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=4)
        self.delta = nn.Parameter(torch.full_like(self.conv.weight, 0.1))

    def train(self, mode=True):
        if self.training and not mode:
            self.conv.weight.data += self.delta.data
        return super().train(mode)

    def forward(self, x):
        return self.conv(x).mean((2, 3))


class Alone(nn.Conv2d):
    """Copies itself as itself."""

    def __deepcopy__(self, memo):
        return self


def test_a_network_keeps_its_weights_and_its_parts_whatever_copying_does(images, tmp_path):
    merging = vk.Encoder(Merging().train(), preprocess=to_tensor_32)
    weight = merging.module.conv.weight.clone()
    side_by_side([merging], 2)
    assert torch.equal(merging.module.conv.weight, weight)
    assert merging.module.training
    alone = vk.Encoder(nn.Sequential(Alone(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)), preprocess=to_tensor_32)
    parts = list(alone.module.modules())
    assert [crew[0].module for crew in side_by_side([alone], 2)] == [alone.module]
    assert list(alone.module.modules()) == parts


class Awkward(nn.Module):
    """A convolution of every kind; one of them has a weight that is computed."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList(
            [
                nn.Conv2d(3, 8, 3, padding="same", padding_mode="circular"),
                nn.Conv2d(8, 8, 3, padding="same", groups=4, dilation=2),
                nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3, stride=2, padding=(1, 0), bias=False)),
                nn.ConvTranspose2d(8, 8, 2, stride=2),
                nn.Conv2d(8, 8, (1, 3), padding=(0, 1), groups=8),
            ]
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in self.parts)
        for norm in self.norms:
            norm.running_mean.uniform_(-1, 1)
            norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        for part, norm in zip(self.parts, self.norms, strict=True):
            x = norm(part(x)).relu()
        return x.mean((2, 3))


def test_convolutions_of_every_kind_give_the_same_in_a_twin(images):
    torch.manual_seed(0)
    encoder = vk.Encoder(Awkward(), preprocess=to_tensor_32)
    assert folds(encoder)
    (twin,), _ = side_by_side([encoder], 2)
    batch = torch.stack([encoder.preprocess(image) for image in images])
    ours, theirs = twin.encode(batch), encoder.encode(batch)
    assert (np.linalg.norm(ours - theirs, axis=1) <= 1e-5 * np.linalg.norm(theirs, axis=1)).all()


def test_copies_of_a_broken_file_are_read_in_one_more_pass_and_not_in_one_each(tmp_path, monkeypatch):
    for i in range(12):
        (tmp_path / f"{i}.jpg").write_bytes(b"404")
    passes = []
    once = pipeline.computed
    monkeypatch.setattr(extraction, "computed", lambda *a, **k: passes.append(1) or once(*a, **k))
    with pytest.warns(UserWarning, match="None of the 12 images gave a vector"):
        found = vk.embed(
            vk.ImageSet.from_folder(tmp_path),
            vk.Encoder(Planted("plain"), preprocess=to_tensor_32),
            cache=tmp_path / "cache",
            progress=False,
        )
    assert len(found.failures) == 12
    assert len(passes) == 2


def test_torch_has_its_threads_back_after_a_run_and_after_an_error(images, tmp_path):
    class Fails(nn.Conv2d):
        def forward(self, x):
            if len(x) > 2:
                raise RuntimeError("no more than two")
            return super().forward(x).mean((2, 3))

    def threads():
        with ThreadPoolExecutor(1) as pool:  # in a new thread, and in this one
            return pool.submit(torch.get_num_threads).result(), torch.get_num_threads()

    before = threads()
    encoder = vk.Encoder(Fails(3, 8, 3), preprocess=to_tensor_32)
    with pytest.raises(RuntimeError, match="no more than two") as caught:
        vk.embed(images, encoder, cache=tmp_path, batch_size=3, progress=False)
    assert "smaller batch_size=" in caught.value.__notes__[0]
    assert threads() == before
    assert len(vk.embed(images, encoder, cache=tmp_path, batch_size=2, progress=False)) == 6
    assert threads() == before
