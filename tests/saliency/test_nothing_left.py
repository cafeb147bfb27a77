"""After every method, success or failure, the user's module is as it was: over methods, families and failures."""

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from drawn import photo, tiny_network, to_tensor_32
from torch import nn
from torch.nn import functional as F

import vizkit as vk
from vizkit.errors import MethodNotApplicableError
from vizkit.saliency.methods import METHODS, IntegratedGradients, MultiscaleOcclusion, Occlusion, attribute
from vizkit.saliency.targets import class_target, vector_target

SMALL = {
    "occlusion": Occlusion(window=1, grid=2),
    "multiscale_occlusion": MultiscaleOcclusion(windows=(1, 2), grid=2),
    "integrated_gradients": IntegratedGradients(steps=3),
}
GIVEN = {name: SMALL.get(name, name) for name in METHODS}


class Reused(nn.Module):
    """One ReLU called twice and in place, batch statistics, a dropout, a hook and a note of the user's own."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second, self.fc = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 5)
        self.norm, self.relu, self.drop = nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Dropout()
        self.first.weight.requires_grad_(False)
        self.note = {"of": "the user"}
        self.second.register_forward_hook(lambda *_: None)
        self.relu.eval()

    def forward(self, x):
        x = self.norm(self.second(self.relu(self.first(x))))
        return self.fc(self.drop(F.relu(self.relu(x) - 0.01)).mean((2, 3)))


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patch, self.head = nn.Conv2d(3, 16, 8, 8), nn.Linear(16, 4)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(self, x):
        return self.head(self.layer(self.patch(x).flatten(2).transpose(1, 2))[:, 0])


def of_torchvision(name):
    def build():
        torch.manual_seed(0)
        return getattr(torchvision.models, name)(weights=None, num_classes=5)

    return build


FAMILIES = {
    "sequential": tiny_network,
    "reused": Reused,
    "tokens": Tokens,
    **{name: of_torchvision(name) for name in ("squeezenet1_1", "mobilenet_v3_small")},
}


def to_tensor_64(image):
    return F.interpolate(to_tensor_32(image)[None], 64)[0]


def state_of(module):
    """Return all that hangs on a module: flags, hooks, attributes and their identity, values, gradients."""
    hooks = [name for name in vars(module) if "hooks" in name]
    return {
        "modules": [
            (name, id(m), type(m), m.training, sorted(vars(m)), {h: list(getattr(m, h).items()) for h in hooks})
            for name, m in module.named_modules()
        ],
        "plain": [{k: repr(v) for k, v in vars(m).items() if not k.startswith("_")} for m in module.modules()],
        "parameters": [(n, id(p), p.requires_grad, p.grad is None, p._version) for n, p in module.named_parameters()],
        "values": [(n, id(v), v.detach().numpy().tobytes()) for n, v in module.state_dict(keep_vars=True).items()],
        "everywhere": (torch.is_grad_enabled(), torch.get_rng_state().numpy().tobytes()),
        "hooks of all": len(nn.modules.module._global_forward_hooks) + len(nn.modules.module._global_backward_hooks),
    }


def ways(family):
    module = FAMILIES[family]().train()
    if family == "reused":
        module.relu.eval()
    preprocess = to_tensor_32 if family in ("sequential", "reused", "tokens") else to_tensor_64
    encoder = vk.Encoder(module, preprocess=preprocess)
    x, other = (preprocess(photo(i))[None] for i in (0, 1))
    vector = encoder.encode(other)[0].astype(float)
    return module, encoder, x, (vector_target(encoder, vector, None), class_target(encoder, x, 1))


def failing(target, error, after):
    """Return the target that stops within the pass number `after`."""
    passes = []

    def features(batch):
        passes.append(len(batch))
        found = target.features(batch)
        if len(passes) >= after:
            raise error
        return found

    return replace(target, features=features)


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_left_on_the_module_after_any_method_or_failure(family):
    module, encoder, x, targets = ways(family)
    before = state_of(module)
    answered = refused = 0
    for method in GIVEN.values():
        for target in targets:
            try:
                attribute(encoder, target, x, method)
                answered += 1
            except MethodNotApplicableError:
                refused += 1
            assert state_of(module) == before, method
        for error, after in ((RuntimeError("stop"), 1), (KeyboardInterrupt("stop"), 2)):
            with suppress(RuntimeError, KeyboardInterrupt, MethodNotApplicableError):
                attribute(encoder, failing(targets[0], error, after), x, method)
            assert state_of(module) == before, (method, error)
    assert answered >= 8
    assert refused >= 2  # contribution and sensitivity of a class


@pytest.mark.parametrize("when", ["forward", "backward"])
@pytest.mark.parametrize("method", [*GIVEN.values(), "callable"], ids=lambda m: getattr(m, "name", m))
def test_nothing_is_left_where_the_network_itself_fails(method, when):
    class Failing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            if Failing.armed == "forward":
                raise RuntimeError("it broke")
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            if Failing.armed == "backward":
                raise RuntimeError("it broke")
            return gradient

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.fc = tiny_network()[:4], nn.Linear(16, 5)

        def forward(self, x):
            return self.fc(Failing.apply(self.body(x)).mean((2, 3)))

    Failing.armed = None
    module = Net().train()
    encoder = vk.Encoder(module, preprocess=to_tensor_32)
    x = to_tensor_32(photo(0))[None]
    target = vector_target(encoder, np.arange(16.0), None)
    before = state_of(module)
    Failing.armed = when
    backward = method in ("gradcam", "sensitivity", "saliency") or getattr(method, "name", "") == "integrated_gradients"
    rewriting = method in ("deeplift", "guided_backprop")
    if rewriting and when == "forward":
        with pytest.raises(MethodNotApplicableError, match=r"torch\.fx cannot trace it \(RuntimeError: it broke\)"):
            attribute(encoder, target, x, method)
    elif when == "forward" or backward:
        with pytest.raises(RuntimeError, match="it broke"):
            attribute(encoder, target, x, (lambda f, x: f(x)) if method == "callable" else method)
    else:
        attribute(encoder, target, x, (lambda f, x: np.eye(2)) if method == "callable" else method)
    assert state_of(module) == before
