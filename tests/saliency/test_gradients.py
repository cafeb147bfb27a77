"""Gradient methods against closed forms; DeepLift and guided backpropagation where Captum alone is wrong."""

import warnings

import numpy as np
import pytest
import torch
from drawn import photo, tiny_network, to_tensor_32
from torch import nn
from torch.nn import functional as F

import vizkit as vk
from vizkit.errors import InputError, MethodNotApplicableError
from vizkit.saliency.methods import IntegratedGradients, attribute, residual
from vizkit.saliency.targets import class_target, number, plain_image, vector_target


@pytest.fixture
def linear():
    """A linear classifier on 32 x 32 pixels: every method has a closed form."""
    torch.manual_seed(4)
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 6))
    return module, vk.Encoder(module, layer="1", preprocess=to_tensor_32)


class Overlapping(nn.Module):
    """ReLUs reused and as functions, a residual sum, max pooling by 3 with steps of 2."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.relu, self.pool, self.fc = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2), nn.Linear(8, 5)

    def forward(self, x):
        x = self.pool(self.relu(self.first(x)))
        y = self.pool(F.relu(self.relu(self.second(x)) + x - 0.02))
        return self.fc(y.mean((2, 3)))


def image_of(seed):
    return to_tensor_32(photo(seed))[None]


def to_vector(encoder, seed=1, mean=None):
    return vector_target(encoder, encoder.encode(image_of(seed))[0].astype(float), mean)


def test_gradients_of_a_linear_score_have_their_closed_form(linear):
    module, encoder = linear
    x, weight = image_of(3), module[1].weight[2].detach().reshape(3, 32, 32)
    target = class_target(encoder, x, 2)
    along = (weight * (x - x.mean((2, 3), keepdim=True))[0]).sum(0)
    for method in ("integrated_gradients", "deeplift"):
        found = attribute(encoder, target, x, method)
        np.testing.assert_allclose(found.values, along, atol=1e-5)
        assert abs(residual(found, number(target, x))) < 1e-4
    np.testing.assert_allclose(attribute(encoder, target, x, "saliency").values, weight.abs().amax(0), rtol=1e-5)


def test_gradcam_for_a_class_is_the_class_activation_map():
    """Averaged and read by one Linear, Grad-CAM is CAM over hw (Selvaraju et al. 2017, section 3.1)."""
    module = tiny_network()
    encoder = vk.Encoder(module, preprocess=to_tensor_32)
    x = image_of(6)
    with torch.no_grad():
        maps = module[:4](x)[0]
    weights = module[6].weight[1].detach()
    expected = (weights[:, None, None] * maps).sum(0) / (maps.shape[1] * maps.shape[2])
    found = attribute(encoder, class_target(encoder, x, 1), x, "gradcam")
    np.testing.assert_allclose(found.values, expected, atol=1e-6)


def test_integrated_gradients_of_a_cosine_are_the_integral_and_tell_the_similarity_of_the_plain_image(linear):
    module, encoder = linear
    x, mean = image_of(3), np.full(6, 0.1)
    target = to_vector(encoder, mean=mean)
    # d cos / dx = W^T (u - cos v / |v|) / |v|, v = Wx + b - mean, by 4,001 points of the trapezoid rule in float64.
    W, b = (p.detach().double().numpy() for p in module[1].parameters())
    start, end = (t.double().flatten().numpy() for t in (plain_image(x), x))
    u, steps = target.direction, np.linspace(0, 1, 4001)
    v = (start + steps[:, None] * (end - start)) @ W.T + b - mean
    norms = np.linalg.norm(v, axis=1, keepdims=True)
    cosines = (v @ u)[:, None] / norms
    slopes = (u - cosines * v / norms) / norms
    expected = ((end - start) * (np.trapezoid(slopes, steps, axis=0) @ W)).reshape(3, 32, 32).sum(0)
    found = attribute(encoder, target, x, IntegratedGradients(steps=100))
    np.testing.assert_allclose(found.values, expected, atol=1e-4 * np.abs(expected).max())
    assert found.baseline == pytest.approx(cosines[0, 0], abs=1e-6)
    assert abs(residual(found, number(target, x))) < 1e-4
    assert abs(found.baseline) > 0.01


def test_the_completeness_error_of_integrated_gradients_shrinks_with_steps():
    encoder = vk.Encoder(Overlapping(), preprocess=to_tensor_32)
    target, x = to_vector(encoder), image_of(0)
    errors = []
    for steps in (2, 200):
        found = attribute(encoder, target, x, IntegratedGradients(steps=steps))
        errors.append(abs(residual(found, number(target, x))))
    assert errors[1] < 0.2 * errors[0]
    for steps in (1, 2.5, True, "50"):
        with pytest.raises(InputError, match=f"steps must be a whole number of 2 or more, not {steps!r}"):
            IntegratedGradients(steps=steps)


def test_deeplift_is_the_rescale_rule_by_hand():
    torch.manual_seed(1)
    relu = nn.ReLU()
    module = nn.Sequential(nn.Flatten(), nn.Linear(3072, 16), relu, nn.Linear(16, 16), relu, nn.Linear(16, 4))
    encoder = vk.Encoder(module, layer="3", preprocess=to_tensor_32)
    x = image_of(2)
    found = attribute(encoder, class_target(encoder, x, 1), x, "deeplift")
    # One ReLU for both layers: Captum alone refuses. Rescale rule, Shrikumar et al. 2017, section 3.5.1, eq. 12.
    start, end = (t.double().flatten().numpy() for t in (plain_image(x), x))
    (W1, b1), (W2, b2), (W3, b3) = ([p.detach().double().numpy() for p in module[i].parameters()] for i in (1, 3, 5))
    a0, a1 = W1 @ start + b1, W1 @ end + b1
    first = (a1.clip(0) - a0.clip(0)) / (a1 - a0)
    c0, c1 = W2 @ a0.clip(0) + b2, W2 @ a1.clip(0) + b2
    second = (c1.clip(0) - c0.clip(0)) / (c1 - c0)
    multipliers = W1.T @ (first * (W2.T @ (second * W3[1])))
    expected = (multipliers * (end - start)).reshape(3, 32, 32).sum(0)
    np.testing.assert_allclose(found.values, expected, atol=1e-6 * np.abs(expected).max())
    assert found.baseline == pytest.approx((W3 @ c0.clip(0) + b3)[1], abs=1e-5)


def test_deeplift_adds_up_where_captum_alone_is_silently_off():
    from captum.attr import DeepLift

    module = Overlapping()
    encoder = vk.Encoder(module, preprocess=to_tensor_32)
    x = image_of(0)
    target = class_target(encoder, x, 3)
    found = attribute(encoder, target, x, "deeplift")
    change = number(target, x) - number(target, plain_image(x))
    assert found.values.sum() == pytest.approx(change, rel=1e-5)
    # Captum's rule for max pooling keeps one of several windows that share their largest value.
    pooling = nn.Sequential(nn.MaxPool2d(3, 2), nn.Flatten(), nn.Linear(3 * 225, 5))
    encoder = vk.Encoder(pooling, layer="1", preprocess=to_tensor_32)
    noise = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    target = class_target(encoder, noise, 3)
    change = number(target, noise) - number(target, plain_image(noise))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = DeepLift(pooling).attribute(noise.clone(), baselines=plain_image(noise), target=3)
    assert abs(float(alone.detach().sum()) - change) > 0.05 * abs(change)
    assert attribute(encoder, target, noise, "deeplift").values.sum() == pytest.approx(change, rel=1e-5)


def test_a_plain_image_whose_vector_is_zero_has_no_cosine():
    class Differences(nn.Module):
        def forward(self, x):
            return (x[..., 1:] - x[..., :-1]).clamp(min=0).mean((2, 3))

    encoder = vk.Encoder(Differences(), layer="output", preprocess=to_tensor_32)
    with pytest.raises(MethodNotApplicableError, match="integrated_gradients gives values that are not finite"):
        attribute(encoder, to_vector(encoder), image_of(0), "integrated_gradients")


def test_deeplift_of_a_cosine_adds_up_to_the_change_of_the_projection():
    encoder = vk.Encoder(Overlapping(), preprocess=to_tensor_32)
    x, mean = image_of(0), encoder.encode(torch.cat([image_of(i) for i in (4, 5, 6)])).mean(0).astype(float)
    target = to_vector(encoder, mean=mean)
    found = attribute(encoder, target, x, "deeplift")
    z, plain = (encoder.encode(t)[0] - mean for t in (x, plain_image(x)))
    assert found.baseline == pytest.approx(plain @ target.direction / np.linalg.norm(z), abs=1e-5)
    assert abs(residual(found, number(target, x))) < 1e-5
    assert np.abs(found.values).max() > 1e-4


class Guided(torch.autograd.Function):
    """ReLU whose gradient is dropped where it is negative too: Springenberg et al. 2015, figure 1."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient.clamp(min=0) * (x > 0)


@pytest.mark.parametrize("what", ["class", "cosine"])
def test_guided_backprop_guides_relus_called_as_functions(what):
    class ByHand(Overlapping):
        def forward(self, x):
            x = self.pool(Guided.apply(self.first(x)))
            y = self.pool(Guided.apply(Guided.apply(self.second(x)) + x - 0.02))
            return self.fc(y.mean((2, 3)))

    encoder, by_hand = vk.Encoder(Overlapping(), preprocess=to_tensor_32), ByHand()
    leaf = image_of(0).requires_grad_()
    if what == "class":
        target = class_target(encoder, image_of(0), 3)
        value = by_hand(leaf)[0, 3]
    else:
        target = to_vector(encoder)
        by_hand.fc = nn.Identity()
        z = by_hand(leaf)[0]
        value = z @ torch.as_tensor(target.direction, dtype=torch.float32) / z.norm()
    expected = torch.autograd.grad(value, leaf)[0][0].abs().amax(0)
    found = attribute(encoder, target, image_of(0), "guided_backprop").values
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    assert not np.allclose(found, attribute(encoder, target, image_of(0), "saliency").values, atol=1e-7)


@pytest.mark.parametrize(
    ("activation", "deeplift", "guided"),
    [
        (nn.SiLU, "Captum has no rule for SiLU", "Captum guides ReLUs alone, not SiLU"),
        (nn.Hardswish, "Captum has no rule for Hardswish", "Captum guides ReLUs alone, not Hardswish"),
        (nn.ReLU6, "Captum has no rule for ReLU6", "Captum guides ReLUs alone, not ReLU6"),
        (nn.Tanh, None, "Captum guides ReLUs alone, not Tanh"),
        (nn.Identity, None, "finds no ReLU before 'input:6'"),
    ],
)
def test_methods_that_hook_activations_refuse_those_they_have_no_rule_for(activation, deeplift, guided):
    module = tiny_network()
    module[1] = module[3] = activation()
    encoder = vk.Encoder(module, preprocess=to_tensor_32)
    target = to_vector(encoder)
    if deeplift is None:
        assert abs(residual(attribute(encoder, target, image_of(0), "deeplift"), number(target, image_of(0)))) < 1e-5
    else:
        with pytest.raises(MethodNotApplicableError, match=rf"{deeplift}.* Use method='occlusion'"):
            attribute(encoder, target, image_of(0), "deeplift")
    with pytest.raises(MethodNotApplicableError, match=guided):
        attribute(encoder, target, image_of(0), "guided_backprop")
