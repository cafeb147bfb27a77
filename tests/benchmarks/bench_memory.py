"""Peak memory: does vizkit's stay flat as the images grow in number, and how does it compare with what people use?

Every run is a process of its own; its peak is the kernel's own mark (VmHWM), all pages that were resident at once,
with the network, the libraries and the result. What a loop's worker processes have for themselves is added; the pages
that they share with their parent are counted once. Linux alone keeps these marks.
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

from contest import Process, write_weights
from peers import PEERS
from photos import write_small

NETWORKS = ("resnet18", "mobilenet_v2")
SIDE = 64  # pixels; the network gets 224 whatever they are
FEW, MANY = 2_000, 20_000
FLAT, OVER_LEANEST = 1.10, 1.25
MIB = 2**20


class Peak(NamedTuple):
    """Bytes: the process's own peak, and what its workers had at most for themselves, summed."""

    own: int
    workers: int

    @property
    def all(self) -> int:
        return self.own + self.workers


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            found += map(int, (task / "children").read_text().split())
        except OSError:  # the thread has ended
            continue
    return found


def own_pages(pid: int) -> int:
    """Return the bytes that a process alone has in memory: pages it shares, as after a fork, are its parent's."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


class Watch(threading.Thread):
    """Looks at a process's children several times a second, and keeps the highest sum of what each has for itself."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak, self.ended = pid, 0, threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.2):
            self.peak = max(self.peak, sum(own_pages(child) for child in children(self.pid)))


def peak(name: str, network: str, weights: Path, folder: Path, n: int) -> tuple[Peak, float]:
    """Run one contender over n images in a fresh process; return its peak, and the seconds it took."""
    with Process(name, "as is", folder) as process:
        watch = Watch(process.pid)
        watch.start()
        batch = None if name == "vizkit" else 32
        answer = process.ask(network=network, weights=str(weights), photos=str(folder / str(n)), n=n, batch=batch)
        watch.ended.set()
        watch.join()
    return Peak(int(answer["peak"]), watch.peak), answer["seconds"]


def show(words: str, n: int, found: Peak, seconds: float) -> None:
    print(
        f"{words:<34}{n:>8,}{found.own / MIB:>10.0f}{found.workers / MIB:>10.0f}{found.all / MIB:>10.0f}"
        f"{n / seconds:>10.1f}",
        flush=True,
    )


def measure(network: str, folder: Path, few: int, many: int) -> list[str]:
    """Print the peaks of one network, and return what falls short of the goals."""
    weights = write_weights(network, folder / str(few), folder)
    print(f"\n{network:<34}{'images':>8}{'own':>10}{'workers':>10}{'MiB':>10}{'images/s':>10}")
    ours: dict[int, Peak] = {}
    for n in (few, many):
        ours[n], seconds = peak("vizkit", network, weights, folder, n)
        show("vizkit", n, ours[n], seconds)
    peers: dict[str, Peak] = {}
    for name in PEERS:
        if name != "img2vec" or network.startswith("resnet"):
            peers[name], seconds = peak(name, network, weights, folder, few)
            show(f"{name}, batch 32", few, peers[name], seconds)
    leanest = min(peers, key=lambda name: peers[name].all)
    growth = ours[many].all / ours[few].all
    over = ours[few].all / peers[leanest].all
    numbers = 2048 if network == "resnet50" else 512 if network.startswith("resnet") else 1280
    vectors = (many - few) * numbers * 4 / MIB
    print(f"{many:,} over {few:,}: {growth:.3f}, wanted at most {FLAT}; the vectors alone are {vectors:.0f} MiB more")
    print(f"over the leanest, {leanest}: {over:.3f}, wanted at most {OVER_LEANEST}")
    found = [f"{network}: {growth:.3f} times the memory for {many / few:.0f} times the images"] * (growth > FLAT)
    return found + [f"{network}: {over:.3f} times the leanest peer's memory"] * (over > OVER_LEANEST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the images: shows that it runs")
    parser.add_argument("--networks", default=",".join(NETWORKS), help="names, with commas between them")
    arguments = parser.parse_args()
    if not Path("/proc/self/smaps_rollup").exists():
        print("(no /proc here: peak memory is measured on Linux alone)")
        return
    few, many = (FEW // 10, MANY // 10) if arguments.quick else (FEW, MANY)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for n in (few, many):
            write_small(folder / str(n), n, SIDE)
        missed = [line for network in arguments.networks.split(",") for line in measure(network, folder, few, many)]
    print(f"\n{'; '.join(missed) or 'all goals met'}; {(time.perf_counter() - start) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
