"""Build the embedded default from a seed: the table of factors, the weights of both networks, and README.md's figures.

python data/make_scenes.py                  everything, in about half an hour on two cores
python data/make_scenes.py --seeds 3        train three of each network: the first are kept, the figures show all
python data/make_scenes.py --figures        measure again what is there, without training
python data/make_scenes.py --figures floors shortcut    measure only some
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
from measure_shortcut import shortcut
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scene_report import write_block
from torch import nn

import vizkit as vk
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
BIASES = {"scenes": 0.0, "scenes-biased": 0.95}  # share of scenes whose background goes with the shape, by network
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
    """Write the table, and train the networks: those of the first seed are kept beside it, the others in build/."""
    table = split_table(seed)
    table.to_parquet(HERE / "scenes.parquet")
    held_table = table[table["split"] == "held-out"]
    held = render_all(held_table), labels_of(held_table)
    written = set()
    for this in range(seed, seed + n_seeds):
        for name in BIASES:
            path = HERE / f"{name}.safetensors" if this == seed else HERE / "build" / f"{name}-{this}.safetensors"
            path.parent.mkdir(exist_ok=True)
            print(f"{name}, seed {this}", flush=True)
            make(path, this, BIASES[name], held)
            written.add(path)
    for files in made().values():  # of an earlier run, with other seeds
        for path in set(files.values()) - written:
            path.unlink()


def make(path: Path, seed: int, bias: float, held: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Train one network and write it, with what was measured on the way."""
    start, before = time.perf_counter(), cpu_seconds()
    module, curve = learn(seed, bias, held)
    notes = {
        "seed": seed,
        "bias": bias,
        "scenes": N_TRAIN,
        "epochs": EPOCHS,
        "batch": BATCH,
        "threads": THREADS,
        "held_out_accuracy": round(curve[-1].held_out, 4),
        "curve": [[round(value, 4) for value in point] for point in curve],
        "wall": round(time.perf_counter() - start),
        "cpu": round(cpu_seconds() - before),
    }
    save(module, path, notes)


def made() -> dict[str, dict[int, Path]]:
    """Return the files of the networks that are there, by network and seed; the committed ones come first."""
    found: dict[str, dict[int, Path]] = {}
    for name in BIASES:
        files = [HERE / f"{name}.safetensors", *sorted((HERE / "build").glob(f"{name}-[0-9]*.safetensors"))]
        found[name] = {notes_of(path)["seed"]: path for path in files}
    return found


def notes_of(path: Path) -> dict[str, Any]:
    """Return what `save` wrote beside the weights."""
    with safe_open(path, "pt") as file:
        notes = file.metadata()
    texts = {"python", *versions()}
    return {name: value if name in texts else json.loads(value) for name, value in notes.items()}


def held_out() -> tuple[pd.DataFrame, torch.Tensor]:
    """Return the committed held-out scenes and their pixels."""
    table = pd.read_parquet(HERE / "scenes.parquet")
    table = table[table["split"] == "held-out"]
    return table, render_all(table)


def measure_training() -> None:
    """Write how the networks learned, from what their files say."""
    write_block("training", {name: [notes_of(path) for path in files.values()] for name, files in made().items()})


def measure_knowledge() -> None:
    """Write what the committed network knows, beside other seeds, random weights and raw pixels."""
    table, pixels = held_out()
    files = made()["scenes"]
    first = next(iter(files))
    networks = {"trained" if seed == first else f"trained, seed {seed}": load(path) for seed, path in files.items()}
    labels = labels_of(table)
    right = {name: accuracy(module, pixels, labels) for name, module in networks.items()}
    write_block("figures", right, knowledge(networks, normalize, pixels, table), table["shape"].to_numpy())


def measure_floors() -> None:
    """Write how often maps that know nothing of the shapes point at the object."""
    table, pixels = held_out()
    write_block("floors", floors(normalize, pixels, table))


def measure_shortcut() -> None:
    """Write which of the two networks looks at the background, for every seed that both were trained with."""
    files = made()
    pairs = {
        seed: {name: vk.Encoder(name, weights=files[name][seed]) for name in BIASES}
        for seed in files["scenes"]
        if all(seed in files[name] for name in BIASES)
    }
    write_block("shortcut", *shortcut(pairs, normalize, render_all))


BLOCKS: dict[str, Callable[[], None]] = {
    "training": measure_training,
    "figures": measure_knowledge,
    "floors": measure_floors,
    "shortcut": measure_shortcut,
}


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of the scenes and of the first networks")
    parser.add_argument("--seeds", type=int, default=1, help="how many of each network to train")
    parser.add_argument(
        "--figures", nargs="*", choices=list(BLOCKS), metavar="BLOCK",
        help=f"only measure what is there: all, or some of {', '.join(BLOCKS)}",
    )  # fmt: skip
    wanted = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    if wanted.figures is None:
        build(wanted.seed, wanted.seeds)
    for block in wanted.figures or BLOCKS:
        BLOCKS[block]()


if __name__ == "__main__":
    main()
