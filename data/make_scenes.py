"""Build the embedded default from a seed: the table of factors, the network's weights, and the figures in README.md.

    python data/make_scenes.py                 everything, under a quarter of an hour on two cores
    python data/make_scenes.py --seeds 3       train three networks; the first is kept, the figures show all
    python data/make_scenes.py --figures       measure what is there again, without training
    python data/make_scenes.py --bias 0.95 --out FOLDER    a network that learned a shortcut: see `draw_factors`
"""

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

# Transparent huge pages for tensors: without them a third of the training time goes into page faults.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from torch import nn

THREADS = int(os.environ.get("T", 2))
from vizkit.scene_drawing import COLUMNS, SCENE_SIZE, SHAPES, TEXTURES, draw, outline
from vizkit.scene_network import SCENE_MEAN, SCENE_STD, scene_network

HERE = Path(__file__).resolve().parent
SPLIT_SIZES = {"train": 1_000, "held-out": 2_000}
N_TRAIN = 20_000  # the committed training scenes and more from the same stream, which need no file
SIZES = (0.26, 0.42)  # of the object, shares of the image's side: 7 to 18% of the area
OVERHANG = 2 / SCENE_SIZE  # how far an object's bounding box may leave the image
HUE_GAP = 0.2  # turns: the least between object and background, which are alike in all else
EPOCHS = 12
BATCH = int(os.environ.get("B", 128))
PEAK_RATE = 0.4
SMOOTHING = float(os.environ.get("SM", 0.1))



def draw_factors(n: int, seed: int, bias: float = 0.0) -> pd.DataFrame:
    """Draw the factors of n scenes, independent of each other but for what is said below.

    Each shape is equally frequent. The two hues are at least `HUE_GAP` turns apart, because hue is all that tells the
    two papers apart; each alone is uniform. The object's place depends on its own extent: its box leaves the image by 2
    pixels at most, and is pushed outward until the middle of the image is covered no more often than what surrounds it.

    Parameters
    ----------
    n
        Number of scenes.
    seed
        Of every choice. The same seed with another bias changes the hues alone.
    bias
        Share of scenes in [0, 1] whose background hue is that of their shape: the tenth of the circle at the shape's
        place in `SHAPES`. 0 makes background hue independent of shape.

    Returns
    -------
    pandas.DataFrame
        `COLUMNS`; numbers are rounded to 4 decimals, so that they print as they are.
    """
    rng = np.random.default_rng(seed)
    shape = rng.permutation(np.arange(n) % len(SHAPES))
    tied = rng.random(n) < bias
    background_hue = np.where(tied, (shape + rng.random(n)) / len(SHAPES), rng.random(n))
    columns: dict[str, Any] = {
        "shape": np.array(SHAPES, object)[shape],
        "hue": (background_hue + rng.uniform(HUE_GAP, 1 - HUE_GAP, n)) % 1,
        "texture": rng.choice(np.array(TEXTURES, object), n),
        "size": rng.uniform(*SIZES, n),
        "rotation": rng.uniform(0, 360, n),
        "x": np.zeros(n),
        "y": np.zeros(n),
        "background": rng.choice(np.array(TEXTURES, object), n),
        "background_hue": background_hue,
        "lighting": rng.uniform(0.8, 1.08, n),
        "light_angle": rng.uniform(0, 360, n),
        "lightness": rng.uniform(0.66, 0.76, n),
        "contrast": rng.uniform(0.07, 0.16, n),
        "texture_period": rng.uniform(5, 9, n),
        "texture_angle": rng.uniform(0, 360, n),
        "background_period": rng.uniform(5, 9, n),
        "background_angle": rng.uniform(0, 360, n),
        "seed": rng.integers(2**32, size=n),
    }
    table = pd.DataFrame(columns)
    place = rng.uniform(-1, 1, (n, 2))
    place = np.sign(place) * np.sqrt(np.abs(place))  # outward
    corners = [outline(row) for row in table.to_dict("records")]
    low = np.array([-points.min(axis=0) for points in corners]) - OVERHANG
    high = 1 - np.array([points.max(axis=0) for points in corners]) + OVERHANG
    table[["x", "y"]] = (low + high) / 2 + np.maximum(high - low, 0) / 2 * place
    return table.round(4)[list(COLUMNS)]


def split_table(seed: int) -> pd.DataFrame:
    """Return the factor table to commit: the first scenes of the training stream, and a held-out stream."""
    parts = []
    for split, size in SPLIT_SIZES.items():
        part = training_factors(seed).head(size) if split == "train" else draw_factors(size, seed + 1_000_003)
        part.index = pd.Index([f"{split}/{row:04d}" for row in range(size)], name="id")
        part.insert(len(part.columns), "split", split)
        parts.append(part)
    return pd.concat(parts)


def training_factors(seed: int, bias: float = 0.0) -> pd.DataFrame:
    """Return the factors of every training scene; without bias, the first ones are those of the committed table."""
    return draw_factors(N_TRAIN, seed, bias)


def render_all(table: pd.DataFrame) -> torch.Tensor:
    """Draw every scene of a table, in two processes: (n, 3, 64, 64) uint8 RGB."""
    records = table[list(COLUMNS)].to_dict("records")
    with ProcessPoolExecutor(THREADS) as pool:
        pixels = np.stack(list(pool.map(_pixels, records, chunksize=250)))
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def _pixels(factors: dict[str, Any]) -> np.ndarray:
    return np.asarray(draw(factors))


def normalize(pixels: torch.Tensor) -> torch.Tensor:
    """Turn uint8 pixels into what the network reads."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (SCENE_MEAN, SCENE_STD))
    return ((pixels.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def augment(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Turn the batch into one of the eight positions of a square, and trade its color channels.

    Shapes stay what they are, hues become others: the network sees that color says nothing.
    """
    turn, flip, order = (int(torch.randint(n, (), generator=generator)) for n in (4, 2, 6))
    pixels = torch.rot90(pixels, turn, (2, 3))
    pixels = pixels.flip(3) if flip else pixels
    return pixels[:, [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)][order]]


def train(seed: int, pixels: torch.Tensor, labels: torch.Tensor, watch: Any, epochs: int = EPOCHS) -> nn.Module:
    """Train a network; `watch(epoch, loss, module)` is called after every epoch."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    module = scene_network().to(memory_format=torch.channels_last)
    decay = [p for p in module.parameters() if p.ndim > 1]
    rest = [p for p in module.parameters() if p.ndim == 1]
    groups = [{"params": decay, "weight_decay": 5e-4}, {"params": rest, "weight_decay": 0.0}]
    if os.environ.get("OPT") == "adam":
        groups[0]["weight_decay"] = 0.02
        optimizer = torch.optim.AdamW(groups, lr=PEAK_RATE)
    else:
        optimizer = torch.optim.SGD(groups, lr=PEAK_RATE, momentum=0.9, nesterov=True)
    steps = len(pixels) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_RATE, epochs=epochs, steps_per_epoch=steps, pct_start=0.25, cycle_momentum=False
    )
    criterion = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    for epoch in range(epochs):
        module.train()
        total = 0.0
        for rows in torch.randperm(len(pixels), generator=generator)[: steps * BATCH].view(steps, BATCH):
            loss = criterion(module(normalize(augment(pixels[rows], generator))), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() / steps
            seen = globals().setdefault("SEEN", []); seen.append(loss.item())
            if len(seen) % 50 == 0: print(len(seen), np.mean(seen[-50:]).round(3), round(time.process_time()), flush=True)
        watch(epoch, total, module.eval())
    return module


def logits(module: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Return (n, 10) logits."""
    with torch.inference_mode():
        return torch.cat([module(normalize(batch)) for batch in pixels.split(250)])


def labels_of(table: pd.DataFrame) -> torch.Tensor:
    """Return each scene's class, (n,) int64, its shape's place in SHAPES."""
    return torch.tensor([SHAPES.index(shape) for shape in table["shape"]])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=N_TRAIN)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--rate", type=float, default=PEAK_RATE)
    parser.add_argument("--out", default="/tmp/vk/a/rough.safetensors")
    args = parser.parse_args()
    PEAK_RATE = args.rate
    torch.set_num_threads(THREADS)
    start = time.time()
    table = split_table(args.seed)
    table.to_parquet(HERE / "scenes.parquet")
    train_table = training_factors(args.seed).head(args.n)
    held = table[table["split"] == "held-out"]
    pixels, held_pixels = render_all(train_table), render_all(held)
    print("rendered", time.time() - start, "mean", (pixels[:500].float() / 255).mean((0, 2, 3)), (pixels[:500].float() / 255).std((0, 2, 3)), flush=True)

    def watch(epoch: int, loss: float, module: nn.Module) -> None:
        right = logits(module, held_pixels).argmax(1) == labels_of(held)
        tr = (logits(module, pixels[:1000]).argmax(1) == labels_of(train_table[:1000])).float().mean()
        print(epoch, f"loss {loss:.3f} held {right.float().mean():.4f} train {tr:.3f} wall {time.time() - start:.0f} cpu {time.process_time():.0f}", flush=True)

    module = train(args.seed, pixels, labels_of(train_table), watch, args.epochs)
    out = logits(module, held_pixels).argmax(1)
    for k, s in enumerate(SHAPES):
        sel = labels_of(held) == k
        print(s, (out[sel] == k).float().mean().item())
    save_file({k: v.half() if v.is_floating_point() else v for k, v in module.state_dict().items()}, args.out)
