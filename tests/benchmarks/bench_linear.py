"""Cost against the number of images: is an image of 100,000 as cheap as one of 1,000, and a full store quick to open?

Drawn JPEGs of 64 x 64 pixels and the small network "scenes", so that the bookkeeping shows: listing, hashing, store,
progress. Start-up is measured as a run of one batch and taken off.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from photos import write_small

import vizkit as vk

SIDE = 64
COUNTS = (1_000, 10_000, 100_000)
BATCH = 16
SPREAD = 1.25


def seconds(images: vk.ImageSet, encoder: vk.Encoder, cache: Path) -> float:
    start = time.perf_counter()
    found = vk.embed(images, encoder, cache=cache, progress=False)
    taken = time.perf_counter() - start
    if len(found) != len(images):
        raise RuntimeError(f"{len(found)} vectors of {len(images)} images")
    return taken


def count_hashing() -> list[int]:
    """Count how often an image is hashed from now on, in this process; return where the count is kept."""
    counted = [0]
    plain = vk.ImageSet.fingerprint

    def fingerprint(self: vk.ImageSet, row: int) -> str:
        counted[0] += 1
        return plain(self, row)

    vk.ImageSet.fingerprint = fingerprint
    return counted


def reopen(photos: Path, cache: Path) -> None:
    """Print, as one who comes back in a new process, how long a full store takes and how many images are hashed."""
    encoder = vk.Encoder("scenes")
    start = time.perf_counter()
    images = vk.ImageSet.from_folder(photos)
    listed = time.perf_counter() - start
    counted = count_hashing()
    print(f"{listed} {seconds(images, encoder, cache)} {counted[0]}")


def reopened(photos: Path, cache: Path) -> tuple[float, float, int]:
    command = [sys.executable, "-W", "ignore", __file__, "--reopen", str(photos), str(cache)]
    words = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(words[0]), float(words[1]), int(words[2])


def measure(folder: Path, counts: tuple[int, ...]) -> None:
    photos, most = folder / "photos", max(counts)
    write_small(photos, most, SIDE)
    start = time.perf_counter()
    images = vk.ImageSet.from_folder(photos)
    print(f"{most:,} drawn images of {SIDE} x {SIDE}, network 'scenes'; listed in {time.perf_counter() - start:.1f} s")
    encoder = vk.Encoder("scenes")
    one_batch = images.subset(range(BATCH))
    seconds(one_batch, encoder, folder / "warm")
    start_up = statistics.median(seconds(one_batch, encoder, folder / f"start-{i}") for i in range(5))
    print(f"start-up, a run of {BATCH} images: {start_up:.2f} s, taken off below\n")
    print(f"{'images':>10}{'seconds':>10}{'ms an image':>14}")
    each = {}
    for n in counts:
        part = images.subset(range(n))
        # The shorter a run, the more it feels what else the machine does.
        runs = [seconds(part, encoder, folder / f"store-{n}-{i}") for i in range(5 if n <= 1_000 else 1)]
        each[n] = 1000 * (statistics.median(runs) - start_up) / (n - BATCH)
        print(f"{n:>10,}{statistics.median(runs):>10.2f}{each[n]:>14.3f}", flush=True)
    spread = max(each.values()) / min(each.values())
    print(f"dearest over cheapest: {spread:.2f}, wanted at most {SPREAD}: {'met' if spread <= SPREAD else 'not met'}\n")

    store = folder / f"store-{most}-0"
    listed, opened, hashed = reopened(photos, store)
    print(
        f"a new process, the store full: listed in {listed:.1f} s, opened in {opened:.1f} s, {hashed:,} images hashed"
    )
    changed = next(iter(sorted(photos.rglob("*.jpg"))))
    changed.write_bytes(changed.read_bytes() + b" changed")
    _, opened, hashed_one = reopened(photos, store)
    print(f"one image changed: opened in {opened:.1f} s, {hashed_one:,} hashed (so that the count is known to count)")
    print(f"no unchanged image hashed: {'met' if (hashed, hashed_one) == (0, 1) else 'not met'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the images: shows that it runs")
    parser.add_argument("--reopen", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.reopen:
        reopen(*arguments.reopen)
        return
    with tempfile.TemporaryDirectory() as place:
        measure(Path(place), tuple(n // 10 for n in COUNTS) if arguments.quick else COUNTS)


if __name__ == "__main__":
    main()
