"""Images and networks that tests make for themselves."""

import numpy as np
import torch
from PIL import Image


def photo(seed: int, size: tuple[int, int] = (96, 80)) -> Image.Image:
    """Draw a smooth color field with a few bright discs: enough structure for vectors to differ."""
    rng = np.random.default_rng(seed)
    w, h = size
    y, x = np.mgrid[0:h, 0:w] / max(w, h)
    pixels = np.zeros((h, w, 3))
    for c in range(3):
        a, b, p = [*rng.uniform(1, 9, 2).tolist(), rng.uniform(0, 6)]
        pixels[..., c] = 0.5 + 0.3 * np.sin(a * x + b * y + p)
    for _ in range(6):
        cx, cy, r = rng.uniform(0, 1), rng.uniform(0, h / w), rng.uniform(0.05, 0.2)
        pixels[(x - cx) ** 2 + (y - cy) ** 2 < r**2] = rng.uniform(0, 1, 3)
    return Image.fromarray((pixels.clip(0, 1) * 255).astype(np.uint8))


def tiny_network(seed: int = 0) -> torch.nn.Module:
    """Return a small convolutional network with a classifier of 5 classes on 32 x 32 images."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 16, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 5),
    )


def to_tensor_32(image: Image.Image) -> torch.Tensor:
    """Preprocess for `tiny_network`: squash to 32 x 32, values in [-1, 1]."""
    pixels = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR), np.float32)
    return torch.from_numpy(pixels.transpose(2, 0, 1) / 127.5 - 1)
