"""Build the embedded default from a seed: the table of factors, the network's weights, and the figures in README.md.

python data/make_scenes.py                 everything, in under a quarter of an hour on two cores
python data/make_scenes.py --seeds 3       train three networks: the first is kept, the figures show all three
python data/make_scenes.py --figures       measure again what is there, without training
python data/make_scenes.py --floors        measure the pointing game alone
python data/make_scenes.py --bias 0.95     train a network that learns a shortcut, into scenes-biased.safetensors
"""

import argparse
import json
import platform
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import PIL
import torch
import torchvision
from measure_scenes import floors, knowledge
from safetensors.torch import load_file, save_file
from scene_report import write_block
from torch import nn

from vizkit.scene_drawing import COLUMNS, SCENE_SIZE, SHAPES, TEXTURES, draw, outline
from vizkit.scene_network import SCENE_CLASSES, SCENE_MEAN, SCENE_STD, scene_network

HERE = Path(__file__).resolve().parent
SPLIT_SIZES = {"train": 1_000, "held-out": 2_000}
N_TRAIN = 12_000  # the committed training scenes and more from the same stream, which need no file
SIZES = (0.26, 0.42)  # of the object, shares of the image's side: 7 to 18% of the area
OVERHANG = 2 / SCENE_SIZE  # how far an object's bounding box may leave the image
HUE_GAP = 0.2  # turns: the least between object and background, which are alike in all else
EPOCHS = 8
BATCH = 64
PEAK_RATE = 2e-3
WEIGHT_DECAY = 0.02
SMOOTHING = 0.1
THREADS = 1  # of training: two gain little on a free machine, lose much on a busy one
DRAWERS = 2  # processes that draw scenes


class Epoch(NamedTuple):
    """One line of the learning curve: mean loss, and accuracy on scenes it trains on and on held-out ones."""

    epoch: int
    loss: float
    train: float
    held_out: float
    seconds: float


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
    # Shuffled within every thousand, so that the committed ones are as even as all.
    shape = (np.arange(n) % len(SHAPES))[np.lexsort((rng.random(n), np.arange(n) // 1_000))]
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
    with ProcessPoolExecutor(DRAWERS) as pool:
        pixels = np.stack(list(pool.map(_pixels, records, chunksize=250)))
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def _pixels(factors: dict[str, Any]) -> np.ndarray:
    return np.asarray(draw(factors))


def normalize(pixels: torch.Tensor) -> torch.Tensor:
    """Turn uint8 pixels into what the network reads."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (SCENE_MEAN, SCENE_STD))
    return ((pixels.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def labels_of(table: pd.DataFrame) -> torch.Tensor:
    """Return each scene's class, (n,) int64: its shape's place in SCENE_CLASSES."""
    return torch.tensor([SCENE_CLASSES.index(shape) for shape in table["shape"]])


def train(seed: int, pixels: torch.Tensor, labels: torch.Tensor, watch: Callable[..., None]) -> nn.Module:
    """Train a network on (n, 3, 64, 64) uint8 scenes.

    AdamW on one cycle of the learning rate, label smoothing, and every batch in one of the eight positions of a square.
    Colors are left as they are: that hue says nothing about shape is for the network to find out, and a biased network
    must be able to find out the opposite.

    Parameters
    ----------
    seed
        Of the weights, the order and the positions.
    pixels, labels
        The scenes and their classes.
    watch
        Called with the epoch, its mean loss and the network in eval mode, after every epoch.
    """
    torch.manual_seed(seed)
    module = scene_network().to(memory_format=torch.channels_last)
    weights = [p for p in module.parameters() if p.ndim > 1]
    rest = [p for p in module.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW([{"params": weights, "weight_decay": WEIGHT_DECAY}, {"params": rest}], weight_decay=0)
    steps = len(pixels) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_RATE, epochs=EPOCHS, steps_per_epoch=steps, pct_start=0.25, cycle_momentum=False
    )
    criterion = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    for epoch in range(1, EPOCHS + 1):
        module.train()
        total = 0.0
        for rows in torch.randperm(len(pixels))[: steps * BATCH].view(steps, BATCH):
            batch = torch.rot90(pixels[rows], int(torch.randint(4, ())), (2, 3))
            batch = batch.flip(3) if torch.randint(2, ()) else batch
            loss = criterion(module(normalize(batch)), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        watch(epoch, total / steps, module.eval())
    return module


def accuracy(module: nn.Module, pixels: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """Return whether each scene is named rightly, (n,) bool."""
    with torch.inference_mode():
        found = torch.cat([module(normalize(batch)).argmax(dim=1) for batch in pixels.split(250)])
    return (found == labels).numpy()


def learn(seed: int, bias: float, held: tuple[torch.Tensor, torch.Tensor]) -> tuple[nn.Module, list[Epoch]]:
    """Draw the training scenes, train a network on them, and return it with its learning curve."""
    table = training_factors(seed, bias)
    pixels, labels = render_all(table), labels_of(table)
    curve: list[Epoch] = []
    start = time.perf_counter()

    def watch(epoch: int, loss: float, module: nn.Module) -> None:
        known = accuracy(module, pixels[:2000], labels[:2000]).mean()
        curve.append(Epoch(epoch, loss, known, accuracy(module, *held).mean(), time.perf_counter() - start))
        print(", ".join(f"{name} {value:.4g}" for name, value in curve[-1]._asdict().items()), flush=True)

    return train(seed, pixels, labels, watch), curve


def save(module: nn.Module, path: Path, notes: dict[str, Any]) -> None:
    """Write the weights at half precision, half the size, with what a reader has to know beside them."""
    state = {name: (v.half() if v.is_floating_point() else v).contiguous() for name, v in module.state_dict().items()}
    notes = {"classes": SCENE_CLASSES, "mean": SCENE_MEAN, "std": SCENE_STD, **versions(), **notes}
    save_file(state, path, {name: v if isinstance(v, str) else json.dumps(v) for name, v in notes.items()})
    path.chmod(0o644)  # safetensors writes for its owner alone


def load(path: Path) -> nn.Module:
    """Read the weights again, so that what is measured is what is committed."""
    module = scene_network()
    module.load_state_dict(load_file(path))
    return module.eval()


def versions() -> dict[str, str]:
    """Return the versions of what shaped the result."""
    modules = {"torch": torch, "torchvision": torchvision, "numpy": np, "pillow": PIL}
    return {"python": platform.python_version(), **{name: str(m.__version__) for name, m in modules.items()}}


def cpu_seconds() -> float:
    """Return the processor time of this process and the ones it started."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def build(seed: int, n_seeds: int) -> None:
    """Write the table and the weights, and what training took and gave."""
    start, before = time.perf_counter(), cpu_seconds()
    table = split_table(seed)
    table.to_parquet(HERE / "scenes.parquet")
    held_table = table[table["split"] == "held-out"]
    held = render_all(held_table), labels_of(held_table)
    curves = {}
    for this in range(seed, seed + n_seeds):
        module, curves[this] = learn(this, 0.0, held)
        path = HERE / "scenes.safetensors" if this == seed else HERE / "build" / f"scenes-{this}.safetensors"
        path.parent.mkdir(exist_ok=True)
        notes = {"seed": this, "scenes": N_TRAIN, "epochs": EPOCHS}
        save(module, path, {**notes, "held_out_accuracy": round(curves[this][-1].held_out, 4)})
    took = {"wall": time.perf_counter() - start, "cpu": cpu_seconds() - before}
    facts = {"seed": seed, "scenes": N_TRAIN, "epochs": EPOCHS, "batch": BATCH, "threads": THREADS, **versions()}
    write_block("training", curves, took, facts)


def build_biased(seed: int, bias: float) -> None:
    """Train on scenes whose background hue goes with the class, and write the weights; same schedule, same seed."""
    table = split_table(seed)
    held_table = table[table["split"] == "held-out"]
    module, curve = learn(seed, bias, (render_all(held_table), labels_of(held_table)))
    notes = {"seed": seed, "bias": bias, "scenes": N_TRAIN, "epochs": EPOCHS}
    save(module, HERE / "scenes-biased.safetensors", {**notes, "held_out_accuracy": round(curve[-1].held_out, 4)})


def held_out() -> tuple[pd.DataFrame, torch.Tensor]:
    """Return the committed held-out scenes and their pixels."""
    table = pd.read_parquet(HERE / "scenes.parquet")
    table = table[table["split"] == "held-out"]
    return table, render_all(table)


def measure() -> None:
    """Write what the committed network knows, beside random weights and raw pixels."""
    table, pixels = held_out()
    networks = {"trained": load(HERE / "scenes.safetensors")}
    networks |= {f"trained, seed {p.stem[7:]}": load(p) for p in sorted((HERE / "build").glob("scenes-*.safetensors"))}
    labels = labels_of(table)
    right = {name: accuracy(module, pixels, labels) for name, module in networks.items()}
    write_block("figures", right, knowledge(networks, normalize, pixels, table), table["shape"].to_numpy())


def measure_floors() -> None:
    """Write how often maps that know nothing of the shapes point at the object."""
    table, pixels = held_out()
    write_block("floors", floors(normalize, pixels, table))


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of the scenes and of the first network")
    parser.add_argument("--seeds", type=int, default=1, help="how many networks to train")
    parser.add_argument(
        "--bias", type=float, default=0.0, help="share of scenes whose background hue goes with the class"
    )
    parser.add_argument("--figures", action="store_true", help="only measure what is there")
    parser.add_argument("--floors", action="store_true", help="only measure the pointing game")
    wanted = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    if wanted.bias:
        build_biased(wanted.seed, wanted.bias)
        return
    if not (wanted.figures or wanted.floors):
        build(wanted.seed, wanted.seeds)
    if not wanted.floors:
        measure()
    measure_floors()


if __name__ == "__main__":
    main()
