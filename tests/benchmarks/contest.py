"""Who takes part in a benchmark: contenders in processes of their own, trials that choose among them, and rounds."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from peers import DECODES, FORWARDS, PEERS

# glibc returns large blocks to the kernel at once, and the kernel clears every page when it is used again. The two
# known remedies: huge pages for PyTorch's own allocations, or a glibc that keeps what it has.
ALLOCATORS: dict[str, dict[str, str]] = {
    "as is": {},
    "huge pages": {"THP_MEM_ALLOC_ENABLE": "1"},
    "kept": {
        "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
        "MALLOC_TOP_PAD_": str(64 << 20),
    },
}
_SET_BY_USERS = ("THP_MEM_ALLOC_ENABLE", "MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD", "OMP_", "MKL_", "KMP_")


class Process:
    """One contender, alive from entering to leaving the block.

    Parameters
    ----------
    name
        A key of `peers.CONTENDERS`.
    allocator
        A key of `ALLOCATORS`.
    folder
        For what it writes and for torch.hub's weights; the benchmark deletes it.
    """

    def __init__(self, name: str, allocator: str, folder: Path) -> None:
        self.name, self.allocator = name, allocator
        clean = {k: v for k, v in os.environ.items() if not k.startswith(_SET_BY_USERS)}
        clean |= {"TMPDIR": str(folder), "TORCH_HOME": str(folder / "torch"), "XDG_CACHE_HOME": str(folder / "cache")}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(Path(__file__).with_name("peers.py")), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=clean | ALLOCATORS[allocator],
        )

    @property
    def pid(self) -> int:
        """The process, to look at from outside."""
        return self._process.pid

    def ask(self, **order: Any) -> dict[str, float]:
        """Carry out one order and return its answer: "seconds", and "peak", bytes of resident memory so far."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ({self.allocator}) ended with {self._process.wait()}; its order: {order}")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        if error is not None:
            self._process.kill()
        self._process.stdin.close()
        self._process.wait()


QUICKER = {"resnet50": 0.75, "mobilenet_v2": 2, "mobilenet_v3_small": 4}


class Amounts(NamedTuple):
    """How many photos are drawn, and how many a trial takes: some batches, so that workers get to work."""

    small: int = 256
    large: int = 48
    trial: int = 64
    large_trial: int = 32
    rounds: int = 3
    batches: tuple[int, ...] = (8, 16, 32)  # that a contender is tried at, 32 among them

    def of(self, network: str, size: str) -> int:
        """Return how many photos a timed run takes: more where the network is quick, so that a run lasts seconds."""
        return self.large if size == "large" else int(self.small * QUICKER.get(network, 1))


class Entry(NamedTuple):
    """One thing that is timed; without a batch it chooses its own."""

    name: str
    allocator: str = "as is"
    batch: int | None = None
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        words = {"precision": "half precision", "reduced": "reduced scale"}
        parts = [self.name, *(words[key] for key, _ in self.options)]
        if self.batch and self.name not in DECODES:
            parts.append(f"batch {self.batch}")
        return ", ".join(parts if self.allocator == "as is" else [*parts, self.allocator])


Speeds = dict[str, dict[Entry, float]]  # images a second, by size of photo and entry
REFERENCE = Entry("DataLoader, 0 workers", "as is", 32)


def _say(words: str) -> None:
    """Tell whoever waits what is going on."""
    print(words, file=sys.stderr, flush=True)


@dataclass
class Contest:
    """One network, the photos in folder/small and folder/large, and what was measured.

    Attributes
    ----------
    tried
        Images a second of what was run once on a few photos.
    tuned
        The faster of the two tuned allocators.
    timed
        Images a second, one number a round, by size and entry.
    vectors
        Files with the vectors of the first round, by size and entry.
    """

    network: str
    weights: Path
    folder: Path
    amounts: Amounts
    tried: Speeds = field(default_factory=dict)
    tuned: str = ""
    timed: dict[str, dict[Entry, list[float]]] = field(default_factory=dict)
    vectors: dict[str, dict[Entry, Path]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbers = count()

    def run(self, process: Process, entry: Entry, size: str, n: int, **options: Any) -> tuple[float, Path]:
        """Run an entry over the first n photos; return images a second, and where its vectors are."""
        # A bare forward is the same for photos of any size.
        photos = self.folder / ("small" if entry.name in FORWARDS else size)
        saved = self.folder / f"{self.network}-{next(self._numbers)}.npy"
        order = {"network": self.network, "weights": str(self.weights), "photos": str(photos), "n": n}
        options = {**dict(entry.options), **options}
        answer = process.ask(**order, batch=entry.batch, saved=str(saved), **options)
        return n / answer["seconds"], saved

    def try_all(self) -> None:
        """Run everything once on a few photos, so that only what may be the best is timed at length."""
        self.tried = {"small": {}, "large": {}}
        kinds = [name for name in ALLOCATORS if name != "as is"]
        plain = {kind: self._try(REFERENCE.name, kind, (*self.amounts.batches, 64)) for kind in ("as is", *kinds)}
        self.tuned = max(kinds, key=lambda kind: plain[kind])
        for speeds in self.tried.values():
            for entry in [entry for entry in speeds if entry.allocator not in ("as is", self.tuned)]:
                del speeds[entry]
        for name in PEERS:
            if name != REFERENCE.name and (name != "img2vec" or self.network.startswith("resnet")):
                for kind in ("as is", self.tuned):
                    self._try(name, kind, self.amounts.batches)
        for name in FORWARDS:
            for kind in ALLOCATORS:
                self._try(name, kind, [batch for batch in self.amounts.batches if batch < 32])

    def _try(self, name: str, allocator: str, batches: Iterable[int]) -> float:
        """Try one contender at several batches on small photos, then at the best on large ones; return its best."""
        _say(f"{self.network}: trying {name}, {allocator}")
        found: dict[Entry, float] = {}
        with Process(name, allocator, self.folder) as process:
            for batch in batches:
                entry = Entry(name, allocator, batch)
                n = min(max(self.amounts.trial, 2 * batch), self.amounts.small)
                self.run(process, entry, "small", min(batch, n))  # the first pass of a process prepares kernels
                found[entry], saved = self.run(process, entry, "small", n)
                self.vectors.setdefault("small", {})[entry] = saved
            best = max(found, key=lambda entry: found[entry])
            self.tried["small"] |= found
            if name not in FORWARDS:
                speed, saved = self.run(process, best, "large", self.amounts.large_trial)
                self.tried["large"][best] = speed
                self.vectors.setdefault("large", {})[best] = saved
        return found[best]

    def hopeful(self, size: str) -> list[Entry]:
        """Return the two fastest peers as they are, the two fastest tuned, and the reference."""
        peers = {e: speed for e, speed in self.tried[size].items() if e.name in PEERS}
        found = [REFERENCE]
        for kind in ("as is", self.tuned):
            ranked = sorted((e for e in peers if e.allocator == kind), key=lambda e: -peers[e])
            found += [entry for entry in ranked[:2] if entry not in found]
        return found

    def bounds(self) -> list[Entry]:
        """Return the two fastest bare forwards, and both ways to decode."""
        tried = {e: speed for e, speed in self.tried["small"].items() if e.name in FORWARDS}
        return sorted(tried, key=lambda e: -tried[e])[:2] + [Entry(name, batch=16) for name in DECODES]

    def time(self, entries: dict[str, list[Entry]]) -> None:
        """Time entries, by size, in turn: every round runs each once, so that a drift of the machine hits all."""
        with ExitStack() as stack:
            processes = {
                key: stack.enter_context(Process(*key, self.folder))
                for key in {(e.name, e.allocator): None for found in entries.values() for e in found}
            }
            for size, found in entries.items():
                n = self.amounts.of(self.network, size)
                timed = self.timed[size] = {entry: [] for entry in found}
                for turn in range(-1, self.amounts.rounds):
                    _say(f"{self.network}, {size} photos: round {turn + 1} of {self.amounts.rounds}")
                    for entry in found:
                        process = processes[entry.name, entry.allocator]
                        if turn < 0:
                            self.run(process, entry, size, min(entry.batch or 16, n))
                            continue
                        speed, saved = self.run(process, entry, size, n)
                        timed[entry].append(speed)
                        if turn == 0:
                            self.vectors[size][entry] = saved


def write_weights(name: str, photos: Path, folder: Path) -> Path:
    """Write random weights, BatchNorm calibrated on photos, where torch.hub would put the network's own.

    As initialised, two photos have nearly the same vector, and any two ways to compute it agree.
    """
    import torch
    import torchvision
    from PIL import Image

    from vizkit.capture import calibrate

    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None)
    known = torchvision.models.get_model_weights(name)
    steps = known["IMAGENET1K_V1"].transforms()
    paths = sorted(photos.rglob("*.jpg"))
    calibrate(model, torch.stack([steps(Image.open(path).convert("RGB")) for path in paths[:64]]))
    place = folder / "torch" / "hub" / "checkpoints" / Path(known["DEFAULT"].url).name
    place.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), place)
    return place
