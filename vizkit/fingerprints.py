"""What makes two networks the same: hashes of weights, of code, of plain attributes, and of what a preprocess does."""

import hashlib
import inspect
from collections.abc import Callable, Iterator
from enum import Enum
from functools import partial
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor, nn

_SIZES = ((517, 389), (130, 171))  # both shapes, larger and smaller than networks want: every resize leaves its mark
_PLAIN = (type(None), bool, int, float, complex, str, bytes)


def state_hash(module: "nn.Module") -> str:
    """Return 16 hex digits of SHA-256 over names, shapes, types and bytes of all parameters and persistent buffers."""
    return _hash(sorted(module.state_dict().items()))


def attribute_hashes(module: "nn.Module") -> dict[str, str]:
    """Return 16 hex digits for each value that `state_dict` leaves out: other buffers, and what was set on a submodule.

    Objects of unknown kinds count by their type alone.
    """
    import torch

    kept = module.state_dict().keys()
    internal = vars(torch.nn.Module()).keys()
    found = {name: _hash(buffer) for name, buffer in module.named_buffers() if name not in kept}
    for name, part in module.named_modules():
        found |= {f"{name}.{key}": _hash(value) for key, value in vars(part).items() if key not in internal}
    return found


def code_hash(module: "nn.Module") -> str:
    """Return 16 hex digits over what the module's classes do, so that a rewritten forward is another network."""
    kinds = {kind for m in module.modules() for kind in type(m).__mro__}
    parts: list[Any] = [str(module)]
    for kind in sorted(kinds, key=lambda k: (k.__module__, k.__qualname__)):
        if not kind.__module__.startswith(("torch.", "torchvision.", "builtins")):
            parts += [f"{kind.__module__}.{kind.__qualname__}", _code_of(kind)]
    return _hash(parts)


def preprocess_hash(preprocess: "Callable[[Image.Image], Tensor]") -> str:
    """Return 16 hex digits over what a preprocess makes of drawn images."""
    return _hash([preprocess(image) for image in drawn_images()])


def drawn_images() -> "list[Image.Image]":
    """Return two drawn images, landscape and portrait: ramps plus fine checks."""
    from PIL import Image

    images = []
    for w, h in _SIZES:
        y, x = np.mgrid[0:h, 0:w]
        check = ((x // 3 + y // 5) % 2) * 60
        pixels = np.stack([x * 178 / w + check, y * 230 / h, 255 - (x + y) * 255 / (w + h)], axis=2)
        images.append(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)))
    return images


def _code_of(kind: type) -> Any:
    """Return a class's source, or its functions where there is none: typed into a notebook, for example."""
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        members = {name: getattr(value, "__func__", value) for name, value in vars(kind).items()}
        members |= {name: value.fget for name, value in members.items() if isinstance(value, property)}
        return {name: value for name, value in members.items() if isinstance(value, (FunctionType, *_PLAIN))}


def _hash(value: Any) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(value, ()):
        digest.update(chunk)
    return digest.hexdigest()[:16]


def _chunks(value: Any, within: tuple[int, ...]) -> "Iterator[bytes | memoryview]":
    """Yield the bytes that tell a value from others; `within` holds what it lies in, so that a circle ends."""
    import torch

    yield f"|{type(value).__qualname__}:".encode()
    if isinstance(value, (Enum, torch.dtype, torch.device)):
        yield str(value).encode()
    elif isinstance(value, _PLAIN):
        yield repr(value).encode()
    elif isinstance(value, np.generic):
        yield repr(value.item()).encode()
    elif isinstance(value, torch.Tensor):
        dense = value.detach().dequantize() if value.is_quantized else value.detach()
        yield f"{value.dtype}{tuple(value.shape)}".encode()
        yield memoryview(dense.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    elif isinstance(value, np.ndarray) and value.dtype.kind in "biufcSU":
        yield f"{value.dtype}{value.shape}".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, (BuiltinFunctionType, type)):
        yield f"{value.__module__}.{value.__qualname__}".encode()
    elif id(value) not in within:
        for part in _parts(value):
            yield from _chunks(part, (*within, id(value)))


def _parts(value: Any) -> "list[Any]":
    """Return what a value consists of, in a fixed order; nothing for objects of unknown kinds."""
    if isinstance(value, (list, tuple)):
        return [len(value), *value]
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    if isinstance(value, dict):
        return [len(value), *(part for item in value.items() for part in item)]
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, MethodType):
        return [value.__func__]
    if isinstance(value, FunctionType):
        closed = [cell.cell_contents for cell in value.__closure__ or () if cell != CellType()]
        return [value.__code__, value.__defaults__, value.__kwdefaults__, closed]
    if isinstance(value, CodeType):
        return [value.co_code, value.co_consts, value.co_names]
    return []
