"""Where a network runs and how precisely: the device, half precision on request, and float32 that is float32."""

import warnings
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

PRECISIONS = ("float32", "half")


def place(module: "nn.Module", device: Any, *, move: bool) -> str:
    """Return the device that a module runs on, in words.

    Parameters
    ----------
    module
        The network.
    device
        None: where its parameters are. "auto": the first that is here of CUDA, Apple's MPS and the CPU; where its
        parameters are if it may not be moved.
    move
        Whether the module may be moved there.

    Raises
    ------
    InputError
        There is no such device here, or the module lies on another and may not be moved.
    """
    import torch

    tensor = next(module.parameters(), next(module.buffers(), None))
    lies = torch.device("cpu") if tensor is None else tensor.device
    if device is None and lies.type != "meta":
        return str(lies)
    if device is None:
        raise InputError("The module lies on 'meta', where there are no weights: give it some, then wrap it.")
    if isinstance(device, str) and device == "auto":
        device = _best() if move else lies
    try:
        probe = torch.zeros(1, device=device)
        probe.cpu()  # the "meta" device, which holds no data, fails here
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:  # by kind of device
        here = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        here += ["mps"] if torch.backends.mps.is_available() else []
        raise InputError(
            f"There is no device {device!r} here; there is {', '.join(map(repr, here))}, and 'auto', the best of them."
        ) from error
    wanted = probe.device
    if move:
        module.to(wanted)
    elif tensor is not None and lies != wanted:
        raise InputError(
            f"The module lies on {str(lies)!r}, and device={str(wanted)!r}: a module is used as it is, so move it "
            f"first with module.to({str(wanted)!r}), or leave device= out."
        )
    return str(wanted)


def _best() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def half_type(device: str) -> "torch.dtype":
    """Return the 16-bit type for a device: float16, which holds more digits, or bfloat16, which CPUs can be fast in.

    Warns where the processor is not known to be fast in it.
    """
    import torch

    if not device.startswith("cpu"):
        return torch.float16
    if not _cpu_has_bfloat16():
        warnings.warn(
            "precision='half' is asked for on a processor that is not known to have bfloat16 units: it may be slower "
            "than 'float32' there, and is less exact.",
            stacklevel=3,
        )
    return torch.bfloat16


def _cpu_has_bfloat16() -> bool:
    import torch

    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    if not capabilities:  # PyTorch before it told them all
        names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, bool)() for name in names)
    return any(found is True and "bf16" in name for name, found in capabilities.items())


@contextmanager
def computing(device: str, half: "torch.dtype | None") -> "Generator[None]":
    """Compute in float32, or in the 16-bit type where one is given, while the block runs.

    On NVIDIA hardware PyTorch rounds the inputs of convolutions to 10 bits (TF32) unless told otherwise, and picks
    kernels that may differ from run to run. Here neither happens.
    """
    import torch

    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    with ExitStack() as stack:
        if device.startswith("cuda"):
            kinds = [getattr(cudnn, name) for name in ("conv", "rnn") if hasattr(cudnn, name)]
            if kinds and hasattr(matmul, "fp32_precision"):
                wanted = [(kind, "fp32_precision", "ieee") for kind in (matmul, *kinds)]
            else:  # PyTorch before 2.9
                wanted = [(matmul, "allow_tf32", False), (cudnn, "allow_tf32", False)]
            for owner, name, value in [*wanted, (cudnn, "benchmark", False), (cudnn, "deterministic", True)]:
                stack.callback(setattr, owner, name, getattr(owner, name))
                setattr(owner, name, value)
        # Entered for float32 as well: the caller's own autocast would go on inside.
        stack.enter_context(torch.autocast(device.split(":")[0], half, enabled=half is not None))
        yield
