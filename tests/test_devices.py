"""Where and how precisely a network runs: the best device, half precision on request, float32 that is float32."""

import numpy as np
import pandas as pd
import pytest
import torch
from drawn import photo, tiny_network, to_tensor_32

import vizkit as vk
from vizkit import devices
from vizkit.capture import calibrate
from vizkit.errors import InputError


def best():
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def test_auto_takes_the_best_device_and_never_moves_a_users_module():
    assert vk.Encoder("scenes", device="auto").device.split(":")[0] == best()
    assert vk.Encoder("scenes").device == "cpu"
    assert vk.Encoder(tiny_network(), preprocess=to_tensor_32, device="auto").device == "cpu"


@pytest.mark.filterwarnings("ignore:precision='half' is asked for")
def test_half_precision_is_near_float32_and_the_card_says_so():
    exact = vk.Encoder("resnet18", weights=None)
    batch = torch.stack([exact.preprocess(photo(i, (300, 260))) for i in range(6)])
    calibrate(exact.module, batch)
    half = vk.Encoder("resnet18", weights=None, precision="half")
    half.module.load_state_dict(exact.module.state_dict())
    a, b = exact.encode(batch).astype(float), half.encode(batch).astype(float)
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert (cosines > 0.999).all()
    assert (cosines < 1 - 1e-9).all()  # other numbers, or nothing was asked of the hardware
    assert np.isfinite(b).all()
    assert half.encode(batch).dtype == np.float32
    assert all(p.dtype == torch.float32 for p in half.module.parameters())
    assert exact.card().loc["precision", "value"] == "float32"
    assert half.card().loc["precision", "value"].endswith("by autocast, weights float32: not the vectors of float32")
    assert half.fingerprint != vk.Encoder("resnet18", weights=None).fingerprint
    assert half.at("layer2").precision == "half"


def test_half_precision_warns_where_the_processor_has_no_units_for_it(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False}, raising=False)
    with pytest.warns(UserWarning, match="not known to have bfloat16 units") as caught:
        vk.Encoder("scenes", precision="half", device="cpu")
    assert caught[0].filename == __file__
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert vk.Encoder("scenes", precision="half", device="cpu").precision == "half"


def test_a_wrong_precision_is_refused_in_words():
    with pytest.raises(InputError, match="precision must be one of 'float32', 'half', not 'float16'"):
        vk.Encoder("scenes", precision="float16")


def test_a_module_of_another_type_gets_its_own_type():
    for kind in (torch.bfloat16, torch.float64):
        encoder = vk.Encoder(tiny_network().to(kind), preprocess=to_tensor_32)
        exact = vk.Encoder(tiny_network(), preprocess=to_tensor_32)
        np.testing.assert_allclose(encoder.embed_image(photo(3)), exact.embed_image(photo(3)), rtol=0.05, atol=1e-3)
        assert encoder.card().loc["precision", "value"] == str(kind).removeprefix("torch.")


def test_on_nvidia_hardware_float32_is_not_rounded_to_tf32_and_the_users_settings_come_back():
    cudnn = torch.backends.cudnn
    own = (cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul)

    def settings():
        return [*(kind.fp32_precision for kind in own), cudnn.deterministic, cudnn.benchmark]

    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        before = settings()
        with devices.computing("cuda:0", None):
            assert settings() == ["ieee", "ieee", "ieee", True, False]
        assert settings() == before
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(precision)


def test_the_callers_own_autocast_does_not_reach_the_network():
    encoder = vk.Encoder("scenes", device="cpu")
    expected = encoder.embed_image(photo(2))
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(encoder.embed_image(photo(2)), expected)


def test_a_module_without_weights_is_refused_in_words():
    with pytest.raises(InputError, match="The module lies on 'meta', where there are no weights"):
        vk.Encoder(tiny_network().to("meta"), preprocess=to_tensor_32)


def test_an_image_survives_half_precision_end_to_end(tmp_path):
    images = vk.ImageSet.from_frame(pd.DataFrame({"path": [photo(i) for i in range(6)]}))
    exact, half = (
        vk.embed(images, vk.Encoder("scenes", precision=precision, device="cpu"), cache=tmp_path, progress=False)
        for precision in ("float32", "half")
    )
    assert not np.array_equal(exact.vectors, half.vectors)
    cosines = (exact.vectors * half.vectors).sum(1)
    cosines /= np.linalg.norm(exact.vectors, axis=1) * np.linalg.norm(half.vectors, axis=1)
    assert (cosines > 0.99).all()
