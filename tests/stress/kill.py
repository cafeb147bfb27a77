"""Kill `vk.embed` at random moments, resume it, and compare with a run that nobody disturbed.

    python tests/stress/kill.py [MOMENTS] [--seed N]      default 50; writes README.md beside this file

Each moment starts with an empty cache. A run is killed (SIGKILL) at a time drawn uniformly over the length of an
undisturbed run. Alone, it is then run again to the end; of two runs that share a cache, one is killed and the other
goes on to the end. What must hold:

- vectors, ids and failures are those of the undisturbed run, bit by bit;
- no image is computed again whose vector was stored at the kill. The other of two runs may need `GRACE` seconds until
  it has heard of it; what was stored once both are through, a third run does not compute at all.

Processes come from a server that has imported torch already, so that a moment takes seconds.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import platform
import random
import shutil
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from vizkit.images import ImageSet

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

N = 256  # images
BATCH = 4  # images: small, or what is under way when two runs meet would be a large part of all
BROKEN = 3
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
# Reading an image takes this long, for each core that reads: runs then last some seconds on any machine.
SLOW = {1: 0.02 * CORES / 2, 2: 0.08 * CORES / 2}
SHARED = 1.5  # times that two runs on one cache may compute an image; 2 would be no gain, and where they meet both do
GRACE = 3.0  # seconds: the other process looks once a second, between two batches; a loaded machine is slower
TIMEOUT = 120.0
TWO_OF_TEN = 3  # moments of ten that have two processes


class Line(NamedTuple):
    """One moment: what was drawn, what was found, and what is wrong with it ("" where nothing is)."""

    number: int
    processes: int
    seconds: float
    stored: int
    before: int
    after: int
    again: int
    equal: bool
    wrong: str


# ------------------------------------------------------------------ what runs in a process of its own


def network() -> "torch.nn.Module":
    """Return a small network, with BatchNorm that can be folded into its convolutions."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    parts = [nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 32, 3, 2), nn.BatchNorm2d(32), nn.ReLU()]
    module = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5)).eval()
    for part in module:
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    return module


def noting(images: "ImageSet", log: Path, slow: float) -> "ImageSet":
    """Note in a file, which outlives a kill, the number and the time of each image that is read; reading is slow."""
    file, read = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), images.read

    def note_and_read(row: int, **options: Any) -> "Image.Image":
        if "broken" not in images.ids[row]:
            os.write(file, f"{int(images.ids[row][:3])} {time.monotonic()}\n".encode())
            time.sleep(slow)
        return read(row, **options)

    images.read = note_and_read
    return images


def work(photos: Path, place: Path, name: str, slow: float, line: Connection) -> None:
    """Wait for the word, embed, and write down what came out."""
    import numpy as np
    from tqdm import tqdm

    import vizkit as vk
    from vizkit.preprocess import Preprocess

    tqdm.set_lock(threading.RLock())  # by default one between processes, which a kill would leave behind
    # A preprocess of vizkit's own and whole files: so all cores read.
    encoder = vk.Encoder(network(), preprocess=Preprocess(resize_size=32, crop_size=32))
    images = noting(vk.ImageSet.from_folder(photos), place / f"{name}.log", slow)
    line.send("ready")
    line.recv()
    try:
        found = vk.embed(images, encoder, cache=place / "cache", batch_size=BATCH, progress=False)
    except KeyboardInterrupt:
        (place / f"{name}.interrupted").touch()
        sys.exit(130)
    np.save(place / f"{name}.npy", found.vectors)
    rest = [found.ids, found.failures["id"].tolist(), found.failures["reason"].tolist()]
    (place / f"{name}.json").write_text(json.dumps(rest))


# ------------------------------------------------------------------ one moment


class Ground:
    """Photos to embed, places for caches, and what undisturbed runs take.

    `calm` holds their seconds, `times` how often an image was computed: for one process, and for two on one cache.
    """

    def __init__(self, top: Path) -> None:
        from drawn import photo

        self.top, self.photos = top, top / "photos"
        self.numbers: dict[str, int] = {}
        self.photos.mkdir()
        for number in range(N):
            path = self.photos / f"{number:03d}.png"
            photo(number, (48, 40)).save(path, compress_level=1)
            self.numbers[hashlib.sha256(path.read_bytes()).hexdigest()] = number
        for number in range(BROKEN):
            (self.photos / f"{100 * number}-broken.png").write_bytes(b"no image")
        self.context: ForkServerContext = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(
            ["torch", "torchvision", "pyarrow.parquet", "filelock", "drawn", "vizkit.extraction"]
        )
        self.times: dict[int, float] = {}
        self.calm = {processes: self._calm(processes) for processes in (1, 2)}

    def _calm(self, processes: int) -> float:
        """Return how many seconds an undisturbed run takes; the first one is what all others must equal."""
        place = self.place(f"calm-{processes}")
        runs = self.start(place, [f"calm{i}" for i in range(processes)], processes)
        begun = time.monotonic()
        for process in runs:
            process.join(TIMEOUT)
        seconds = time.monotonic() - begun
        logs = [self.log(place, f"calm{i}") for i in range(processes)]
        self.times[processes] = sum(map(len, logs)) / N
        first = self.result(self.top / "calm-1", "calm0")
        if first is None or len(self.log(self.top / "calm-1", "calm0")) != N:
            raise RuntimeError("An undisturbed run failed, or did not come to every image once.")
        if any(self.result(place, f"calm{i}") != first for i in range(processes)):
            raise RuntimeError(
                f"Of {processes} undisturbed runs on one cache, one differs from a run alone, or failed."
            )
        return seconds

    def place(self, name: str) -> Path:
        """Return an empty folder."""
        (self.top / name).mkdir()
        return self.top / name

    def start(self, place: Path, names: list[str], processes: int) -> list[ForkServerProcess]:
        """Start runs that begin at the same time."""
        runs, lines = [], []
        for name in names:
            here, there = self.context.Pipe()
            run = self.context.Process(target=work, args=(self.photos, place, name, SLOW[processes], there))
            run.start()
            runs.append(run)
            lines.append(here)
        for here in lines:
            here.recv()
        for here in lines:
            here.send("go")
        return runs

    def log(self, place: Path, name: str) -> dict[int, float]:
        """Return when a run came to each image."""
        path = place / f"{name}.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return {int(line.split()[0]): float(line.split()[1]) for line in lines}

    def result(self, place: Path, name: str) -> tuple[bytes, str] | None:
        """Return the bits of a run's vectors, and its ids and failures; None where it did not come to its end."""
        files = place / f"{name}.npy", place / f"{name}.json"
        return (files[0].read_bytes(), files[1].read_text()) if all(file.exists() for file in files) else None

    def moment(self, number: int, processes: int, seed: int, share: float = 1.0) -> Line:
        """Kill at one random moment, within this share of an undisturbed run's length, go on, and compare."""
        chance = random.Random(seed)
        seconds, victim = chance.uniform(0, share * self.calm[processes]), chance.randrange(processes)
        place = self.place(f"moment-{number}")
        names = [f"run{i}" for i in range(processes)]
        runs, watch = self.start(place, names, processes), Watch(place / "cache", self.numbers)
        watch.wait(seconds)
        runs[victim].kill()
        killed = time.monotonic()
        runs[victim].join()
        if runs[victim].exitcode == 0:  # it was faster than the undisturbed run, and through
            runs[-1 - victim].join(TIMEOUT)
            shutil.rmtree(place)
            return self.moment(number, processes, seed, 0.8 * share)
        stored = watch.look()
        before = self.log(place, names[victim])
        if processes == 1:
            runs += self.start(place, ["resumed"], processes)
            names.append("resumed")
        finisher = 1 - victim
        watch.wait(TIMEOUT, runs[finisher])
        after = {image for image, when in self.log(place, names[finisher]).items() if when > killed}
        again = self.again(place, names, watch, GRACE if processes == 2 else 0.0)
        wrong = [f"{len(again)} stored images computed again"] if again else []
        if processes == 1 and len(after) != N - len(stored):
            wrong.append(f"{len(after)} images computed after the kill, {N - len(stored)} were missing")
        if processes == 2:
            (third,) = self.start(place, ["third"], processes)
            third.join(TIMEOUT)
            names.append("third")
            if found := self.log(place, "third"):
                wrong.append(f"a third run computed {len(found)} images that were stored")
        finished = [self.result(place, name) for i, name in enumerate(names) if i != victim]
        if not all(finished):
            wrong.append("a run did not come to its end")
        equal = all(result == self.result(self.top / "calm-1", "calm0") for result in finished)
        wrong += [] if equal else ["other bits"]
        shutil.rmtree(place)
        return Line(
            number, processes, seconds, len(stored), len(before), len(after), len(again), equal, "; ".join(wrong)
        )

    def again(self, place: Path, names: list[str], watch: "Watch", grace: float) -> set[int]:
        """Return the images that any run came to more than so many seconds after their vectors had been stored."""
        logs = [self.log(place, name) for name in names]
        return {image for log in logs for image, when in log.items() if when > watch.since.get(image, when) + grace}


class Watch:
    """When each image was first found to be stored in a cache, read without vizkit."""

    def __init__(self, cache: Path, numbers: dict[str, int]) -> None:
        self.cache, self.numbers = cache, numbers
        self.files: set[Path] = set()
        self.since: dict[int, float] = {}

    def look(self) -> set[int]:
        """Return the numbers of the images that are stored now."""
        import pyarrow.parquet as pq

        for shard in sorted(set(self.cache.glob("*/shard-*.parquet")) - self.files):
            try:
                keys = pq.read_table(shard, columns=["key"], partitioning=None)["key"].to_pylist()
            except FileNotFoundError:  # merged with others meanwhile: they are found next time
                return self.look()
            self.files.add(shard)
            for key in keys:
                self.since.setdefault(self.numbers[key], time.monotonic())
        return set(self.since)

    def wait(self, seconds: float, process: ForkServerProcess | None = None) -> None:
        """Look again and again for so long, or until a process has ended."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and (process is None or process.is_alive()):
            self.look()
            time.sleep(min(left, 0.05))


# ------------------------------------------------------------------ the table


def table(found: list[Line], ground: Ground, seed: int) -> str:
    """Return what was found as Markdown."""
    import torch

    import vizkit

    bad = [line for line in found if line.wrong]
    two = sum(line.processes == 2 for line in found)
    of = f"vizkit {vizkit.__version__}, torch {torch.__version__}, Python {platform.python_version()}, {CORES} cores"
    head = f"""# Killed and resumed

{len(found)} moments, {two} of them with two processes that share a cache; wrong: {len(bad)}.
Made by `make stress` (seed {seed}) with {of}.

Each moment begins with an empty cache, {N} drawn photos and {BROKEN} files that are no images. A run of `vk.embed` is
killed (SIGKILL) after a time drawn uniformly over the length of an undisturbed run. A single run is then started again;
of two that began at once, the other goes on. "Stored" counts the vectors in the cache's shards at the kill, "before"
the images that the killed run had come to, "after" those that the other run came to later. "Again" counts images that
were stored at the kill and computed later all the same (with two processes: more than {GRACE:g} s later, when the other
has heard of them); it must be 0. "Equal": vectors, ids and failures are those of the undisturbed run, bit by bit.

Undisturbed, one run took {ground.calm[1]:.1f} s and computed each image once; two at once on one cache took
{ground.calm[2]:.1f} s (on images that were slower to read) and computed each {ground.times[2]:.2f} times.

| moment | seed | processes | killed after, s | stored | before | after | again | equal |
|---:|---:|---:|---:|---:|---:|---:|---:|---|
"""
    rows = [
        f"| {line.number} | {seed + line.number} | {line.processes} | {line.seconds:.2f} | {line.stored} "
        f"| {line.before} | {line.after} | {line.again} | {'yes' if line.equal else 'NO'} |"
        for line in found
    ]
    return head + "\n".join(rows) + "\n"


def main() -> None:
    """Run the moments, write the table, and fail where something was wrong."""
    parser = argparse.ArgumentParser(description="Kill vk.embed at random moments, resume it, compare.")
    parser.add_argument("moments", nargs="?", type=int, default=50)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--out", type=Path, default=HERE / "README.md")
    options = parser.parse_args()
    begun, found = time.monotonic(), []
    two = -(-options.moments * TWO_OF_TEN // 10)
    with tempfile.TemporaryDirectory(prefix="vizkit-kill-") as top:
        ground = Ground(Path(top))
        print(f"undisturbed: {ground.calm[1]:.1f} s; two at once {ground.calm[2]:.1f} s, {ground.times[2]:.2f} times")
        for number in range(1, options.moments + 1):
            line = ground.moment(number, 2 if number <= two else 1, options.seed + number)
            found.append(line)
            print(f"{number:3d} {line.processes} processes, {line.seconds:5.2f} s: {line.wrong or 'equal'}", flush=True)
    options.out.write_text(table(found, ground, options.seed), encoding="utf-8")
    bad = sum(bool(line.wrong) for line in found)
    print(f"{len(found)} moments in {time.monotonic() - begun:.0f} s, {bad} wrong; the table is in {options.out}")
    if ground.times[2] >= SHARED:
        sys.exit(f"Two runs on one cache computed each image {ground.times[2]:.2f} times; expected under {SHARED}.")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
