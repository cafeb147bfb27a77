"""A network's graph written anew gives the same bits, and what it cannot make right is named."""

import copy

import pytest
import torch
from drawn import photo, to_tensor_32
from torch import nn
from torch.nn import functional as F

import vizkit as vk
from vizkit.errors import MethodNotApplicableError
from vizkit.saliency.rewriting import count_of, laid_out, rewritten, unknown_calls


class Reused(nn.Module):
    """One ReLU module called twice, in place; ReLUs as functions and methods; overlapping windows; += on a sum."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.relu, self.pool = nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, ceil_mode=True)
        self.norm.running_var.fill_(0.3)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = self.pool(self.relu(self.first(x)))
        y = self.norm(self.second(x))
        y += x
        y = F.max_pool2d(F.relu(self.relu(y) - 0.1, inplace=True), 3, stride=2, padding=1)
        y = torch.relu(self.second(y)).relu()
        return self.fc(y.mean((2, 3)))


@pytest.fixture
def reused():
    return vk.Encoder(Reused(), preprocess=to_tensor_32)


def batch_of(n):
    return torch.stack([to_tensor_32(photo(i)) for i in range(n)])


@pytest.mark.parametrize("scores", [False, True])
def test_the_rewritten_network_gives_the_same_bits_with_a_relu_for_every_call(reused, scores):
    weights = copy.deepcopy(reused.module.state_dict())
    twin, whole = rewritten(reused, batch_of(3), scores=scores, method="deeplift")
    fresh = torch.stack([to_tensor_32(photo(i)) for i in range(5, 9)])
    with torch.no_grad():
        read, own = (twin.scores, reused.scores) if scores else (twin.vectors, reused.vectors)
        torch.testing.assert_close(read(fresh), own(fresh), rtol=0, atol=0)
    assert count_of(whole, nn.ReLU) == 5
    assert count_of(whole, nn.MaxPool2d) == 2
    assert not any(getattr(m, "inplace", False) for m in whole.modules())
    calls = [node.target for node in whole.graph.nodes if node.op == "call_module"]
    activations = [name for name in calls if isinstance(whole.get_submodule(name), (nn.ReLU, nn.MaxPool2d))]
    assert len(activations) == len(set(activations)) == 7
    assert not unknown_calls(whole, (nn.ReLU, nn.MaxPool2d))
    assert twin.module is not reused.module
    assert reused.module.relu.inplace
    assert all(torch.equal(v, weights[k]) for k, v in reused.module.state_dict().items())


@pytest.mark.parametrize("layer", ["first", "norm", "input:norm", "pool", "fc", "output"])
def test_the_graph_ends_at_the_layer_that_is_explained(reused, layer):
    encoder = reused.at(layer)
    twin, whole = rewritten(encoder, batch_of(2), scores=False, method="deeplift")
    with torch.no_grad():
        torch.testing.assert_close(twin.vectors(batch_of(2)), encoder.vectors(batch_of(2)), rtol=0, atol=0)
    assert count_of(whole, nn.Linear) == (layer in ("fc", "output"))


@pytest.mark.parametrize("size", [(13, 13), (14, 17)])
@pytest.mark.parametrize(
    "form", [(3, 2, 0, True), (3, 2, 0, False), (3, 2, 1, False), (3, 1, 1, True), (5, 3, 2, True)]
)
def test_windows_laid_out_have_the_same_maxima_and_do_not_overlap(form, size):
    torch.manual_seed(0)
    x = torch.randn(2, 4, *size)
    side, step, margin, ceil = form
    laid = laid_out(x, (side, side), (step, step), (margin, margin), ceil)
    expected = F.max_pool2d(x, side, step, margin, ceil_mode=ceil)
    torch.testing.assert_close(F.max_pool2d(laid, side), expected, rtol=0, atol=0)
    assert laid.shape == (2, 4, side * expected.shape[2], side * expected.shape[3])


def test_what_is_neither_affine_nor_known_is_named():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act, self.fc = nn.Conv2d(3, 8, 3), nn.Hardswish(), nn.Linear(8, 5)
            self.register_buffer("scale", torch.full((8, 1, 1), 2.0))

        def forward(self, x):
            x = F.gelu(self.act(self.act(self.conv(x)))) * self.scale  # a constant factor is affine
            x = x * x.mean((2, 3), keepdim=True).view(x.size(0), -1, 1, 1)
            return self.fc((x / 2).clamp(min=0).flatten(2).mean(2))

    encoder = vk.Encoder(Mixed(), preprocess=to_tensor_32)
    _, whole = rewritten(encoder, batch_of(2), scores=True, method="deeplift")
    assert unknown_calls(whole, (nn.ReLU,)) == ["Hardswish (2 times)", "gelu", "mul", "clamp"]
    assert unknown_calls(whole, (nn.Hardswish,)) == ["gelu", "mul", "clamp"]


def test_what_cannot_be_traced_or_is_not_the_same_is_refused():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 5)

        def forward(self, x):
            x = self.conv(x)
            if x.sum() > 0:
                x = x + 1
            return self.fc(x.mean((2, 3)))

    class Discarding(Branching):
        def forward(self, x):
            x = self.conv(x)
            F.relu(x, inplace=True)  # what it returns is thrown away, and x is changed all the same
            return self.fc(x.mean((2, 3)))

    for module, message in ((Branching(), "torch.fx cannot trace it"), (Discarding(), "gives other values than it")):
        encoder = vk.Encoder(module, preprocess=to_tensor_32)
        with pytest.raises(MethodNotApplicableError, match=rf"guided_backprop needs .*{message}"):
            rewritten(encoder, batch_of(2), scores=False, method="guided_backprop")
