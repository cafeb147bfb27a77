"""Extraction against what the machine can do and against what people use: python tests/benchmarks/bench_extraction.py

README.md, beside this file, says what is compared and how. It takes about an hour; --quick takes some minutes
and shows only that everything runs. Leave the machine alone meanwhile: programs that share the cores slow a network on
two threads more than two networks on one thread each.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from contest import REFERENCE, Amounts, Contest, Entry, Process, write_weights
from peers import DECODES, FORWARDS, PEERS, offers_reduced
from photos import cost, write_photos

NETWORKS = ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small")
SIZES = {"small": (500, 375), "large": (4000, 3000)}
QUICK = Amounts(small=32, large=8, trial=16, large_trial=4, rounds=1, batches=(16, 32))
SHORT = Amounts(small=128, large=24, trial=32, large_trial=8, rounds=3, batches=(8, 32))
REAL = ("clothing10", "coco128_seg", "imagenet_sample")
EXACT = 1e-4  # largest difference from plain torchvision that is still the same vector, relative to its norm

VIZKIT = Entry("vizkit")
HALF = Entry("vizkit", options=(("precision", "half"),))
REDUCED = Entry("vizkit", options=(("reduced", True),))

# What is wanted: images a second over those of the bound, the best peer as it is, and the best tuned one.
OF_BOUND, OVER_TUNED = 0.85, 1.0
OVER_AS_IS = {"resnet18": 1.6, "resnet50": 1.4, "mobilenet_v2": 2.0, "mobilenet_v3_small": 2.0}
OVER_AS_IS_LARGE, OVER_AS_IS_REDUCED, OVER_AS_IS_HALF = 1.25, 2.5, 2.5


def goals(network: str, size: str, entry: Entry) -> tuple[float | None, float | None, float | None]:
    """Return what an entry is to reach over the bound, the best peer as it is, and the best tuned one."""
    if entry == VIZKIT:
        return OF_BOUND, OVER_AS_IS[network] if size == "small" else OVER_AS_IS_LARGE, OVER_TUNED
    if entry == REDUCED:
        return None, OVER_AS_IS_REDUCED, None
    if entry == HALF and network == "resnet50" and size == "small":
        return None, OVER_AS_IS_HALF, None
    return None, None, None


class Agreement(NamedTuple):
    """Largest difference from plain torchvision's vectors over their norm, and the share of nearest neighbors kept."""

    off: float
    kept: float


def nearest(vectors: np.ndarray) -> np.ndarray:
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    products = unit @ unit.T
    np.fill_diagonal(products, -np.inf)
    return products.argmax(1)


def agreement(found: np.ndarray, reference: np.ndarray) -> Agreement:
    reference = reference[: len(found)].astype(np.float64)
    if found.shape != reference.shape:
        return Agreement(np.inf, 0.0)
    off = np.abs(found - reference).max(1) / np.linalg.norm(reference, axis=1)
    return Agreement(float(off.max()), float((nearest(found) == nearest(reference)).mean()))


def median(values: list[float]) -> float:
    return statistics.median(values)


class Goal(NamedTuple):
    """One goal, and what was measured."""

    words: str
    wanted: float
    measured: float

    @property
    def met(self) -> bool:
        return self.measured >= self.wanted


class Table:
    """What a contest measured on photos of one size."""

    def __init__(self, contest: Contest, size: str) -> None:
        self.contest, self.size = contest, size
        self.timed, self.tried = contest.timed[size], contest.tried[size]
        self.reference = np.load(contest.vectors[size][REFERENCE])
        forwards = [entry for entry in self.timed if entry.name in FORWARDS]
        self.forward = max(forwards, key=lambda entry: median(self.timed[entry]))
        self.decode = max((e for e in self.timed if e.name in DECODES), key=lambda e: median(self.timed[e]))
        pairs = zip(self.timed[self.forward], self.timed[self.decode], strict=True)
        self.bound = [1 / (1 / forward + 1 / decode) for forward, decode in pairs]
        self.best = {kind: self._best_peer(kind) for kind in ("as is", contest.tuned)}
        self.goals: list[Goal] = []

    def _best_peer(self, allocator: str) -> list[float]:
        peers = [values for e, values in self.timed.items() if e.name in PEERS and e.allocator == allocator]
        return max(peers, key=median)

    def print(self) -> None:
        """Print the table, and keep the goals."""
        n, pixels = self.contest.amounts.of(self.contest.network, self.size), " x ".join(map(str, SIZES[self.size]))
        print(f"\n{self.contest.network}, {n} photos of {pixels}; tuned allocator: {self.contest.tuned}")
        forward, decode = median(self.timed[self.forward]), median(self.timed[self.decode])
        print(f"bound {median(self.bound):.1f} images a second: {forward:.1f} forward ({self.forward}), ", end="")
        print(f"{decode:.1f} decoded ({self.decode})")
        print(f"{'':<50}{'images/s':>9}{'of bound':>15}{'over as is':>15}{'over tuned':>15}{'off by':>10}{'kept':>7}")
        for entry, values in self.timed.items():
            if entry.name == "vizkit":
                self._print_vizkit(entry, values)
        peers = {e: median(values) for e, values in self.timed.items() if e.name in PEERS}
        peers |= {e: speed for e, speed in self.tried.items() if e.name in PEERS and e not in peers}
        for entry in sorted(peers, key=lambda e: (e.allocator != "as is", PEERS.index(e.name), e.batch)):
            once = "" if entry in self.timed else " ~"
            print(f"{str(entry) + once:<50}{peers[entry]:>9.1f}{'':>45}{self._agreement(entry)}")
        tried = self.tried.items() if self.size == "small" else ()
        for entry, speed in sorted(((e, s) for e, s in tried if e.name in FORWARDS), key=lambda pair: -pair[1]):
            print(f"{'forward: ' + str(entry) + ' ~':<50}{speed:>9.1f}")

    def _print_vizkit(self, entry: Entry, values: list[float]) -> None:
        line = f"{entry!s:<50}{median(values):>9.1f}"
        words = ("the bound", "the best peer as it is", "the best tuned peer")
        wanted = goals(self.contest.network, self.size, entry)
        others = (self.bound, *self.best.values())
        for other, goal, what in zip(others, wanted, words, strict=True):
            ratio = median([ours / theirs for ours, theirs in zip(values, other, strict=True)])
            cell = f"{ratio:.2f}"
            if goal is not None:
                where = f"{self.contest.network}, {self.size} photos: {entry} over {what}"
                self.goals.append(Goal(where, goal, ratio))
                cell += f" >={goal:.2f}" + ("  " if ratio >= goal else " !")
            line += f"{cell:>15}"
        print(line + self._agreement(entry))
        if entry == VIZKIT:
            off = agreement(np.load(self.contest.vectors[self.size][entry]), self.reference).off
            words = f"{self.contest.network}, {self.size} photos: digits that agree"
            self.goals.append(Goal(words, -np.log10(EXACT), -np.log10(max(off, 1e-12))))

    def _agreement(self, entry: Entry) -> str:
        if entry == REFERENCE:
            return f"{'0':>10}{'':>7}"
        off, kept = agreement(np.load(self.contest.vectors[self.size][entry]), self.reference)
        return f"{off:>10.0e}{kept:>7.2f}" + ("" if off <= EXACT else "  other vectors")


def check_the_check(contest: Contest) -> None:
    """Print how far apart the vectors of different photos are, and img2vec's with the official transforms."""
    reference = np.load(contest.vectors["small"][REFERENCE]).astype(np.float64)
    near = reference[nearest(reference)]
    apart = np.abs(near - reference).max(1) / np.linalg.norm(reference, axis=1)
    print(f"\n{contest.network}: two photos' vectors are at least {apart.min():.0e} apart, measured as 'off by' is.")
    if contest.network.startswith("resnet"):
        entry = Entry("img2vec", "as is", 8)
        with Process(entry.name, entry.allocator, contest.folder) as process:
            saved = contest.run(process, entry, "small", 16, official=True)[1]
        found = np.load(saved)
        off = (np.abs(found - reference[: len(found)]).max(1) / np.linalg.norm(reference[: len(found)], axis=1)).max()
        print(f"img2vec with the official transforms is {off:.0e} off: it runs the same network.")


def race(network: str, folder: Path, amounts: Amounts) -> list[Goal]:
    """Measure one network, print its tables, and return the goals."""
    contest = Contest(network, write_weights(network, folder / "small", folder), folder, amounts)
    contest.try_all()
    ours = [VIZKIT, Entry("vizkit", contest.tuned), HALF]
    large = [*ours, REDUCED] if offers_reduced() else ours
    entries = {
        size: [*mine, *contest.bounds(), *contest.hopeful(size)] for size, mine in (("small", ours), ("large", large))
    }
    contest.time(entries)
    check_the_check(contest)
    found: list[Goal] = []
    for size in entries:
        table = Table(contest, size)
        table.print()
        found += table.goals
    for path in folder.glob("*.npy"):
        path.unlink()
    return found


def print_costs(folder: Path) -> None:
    """Print what decoding the drawn photos costs, beside real ones where they are."""
    print(f"{'':<24}{'bytes a pixel':>14}{'ns to decode it':>17}")
    shared = Path(os.environ.get("VIZKIT_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "images"
    places = {f"drawn, {w} x {h}": folder / size for size, (w, h) in SIZES.items()}
    places |= {f"real, {place.name}": place for place in sorted(shared.glob("*")) if place.name in REAL}
    for words, place in places.items():
        paths = sorted(p for p in place.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))[:64]
        size, taken = cost(paths[:8] if "4000" in words else paths)
        print(f"{words:<24}{size:>14.2f}{taken:>17.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round on a few photos: shows that it runs")
    parser.add_argument("--short", action="store_true", help="fewer photos and batch sizes, about half of the time")
    parser.add_argument("--networks", default=",".join(NETWORKS), help="names, with commas between them")
    arguments = parser.parse_args()
    amounts = QUICK if arguments.quick else SHORT if arguments.short else Amounts()
    networks = arguments.networks.split(",")
    start = time.perf_counter()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, median of {amounts.rounds} rounds in turn")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for size, pixels in SIZES.items():
            write_photos(folder / size, max(amounts.of(name, size) for name in networks), pixels)
        print_costs(folder)
        found = [goal for network in networks for goal in race(network, folder, amounts)]
    print("\n! below the goal; ~ run once on a few photos, and slower there than those run in every round;")
    print("off by: largest difference from plain torchvision over a vector's norm; kept: nearest neighbors that stay")
    missed = [goal for goal in found if not goal.met]
    print(f"{len(found) - len(missed)} of {len(found)} goals met, {(time.perf_counter() - start) / 60:.0f} minutes")
    for goal in missed:
        print(f"  {goal.words}: {goal.measured:.2f}, wanted {goal.wanted:.2f}")


if __name__ == "__main__":
    main()
