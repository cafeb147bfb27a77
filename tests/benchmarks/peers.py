"""One contender of the extraction benchmarks, in a process of its own: python peers.py NAME, then orders on stdin.

A memory allocator is set by environment variables before a process starts, so each contender gets a process. It lives
for one network; an order is one line of JSON, and so is the answer. Only the run is timed, from the first image to the
last: not imports, building the network or listing files, for anybody. What a contender does once a run (starting
workers; for vizkit hashing files, folding BatchNorm and writing the store) counts.

The peers are written as their users write them. All get the same weights and give the vector before the classifier.
"""

import inspect
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Subset

Run = Callable[[], np.ndarray | None]
# Seconds of a run in which a less exact way was compared with exact vectors, once a store: no part of its rate.
LEFT_OUT = [0.0]
Order = dict[str, Any]


def classifier(name: str) -> str:
    return "fc" if name.startswith("resnet") else "classifier"


def network(order: Order) -> nn.Module:
    """Build torchvision's network with the weights of the order; its last Linear replaced, so that it gives vectors."""
    name = order["network"]
    model = torchvision.models.get_model(name)
    model.load_state_dict(torch.load(order["weights"], weights_only=True))
    head = getattr(model, classifier(name))
    if isinstance(head, nn.Sequential):
        head[-1] = nn.Identity()
    else:
        setattr(model, classifier(name), nn.Identity())
    return model.eval()


def transforms(name: str) -> Callable[[Image.Image], torch.Tensor]:
    """Return the official transforms."""
    return torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].transforms()


def files(order: Order) -> list[Path]:
    return sorted(Path(order["photos"]).rglob("*.jpg"))[: order["n"]]


# ---------------------------------------------------------------------------------------------------------------- peers


def dataloader(order: Order, workers: int) -> Run:
    """Run the usual loop: ImageFolder, DataLoader, eval mode, no gradients."""
    model = network(order)
    dataset = torchvision.datasets.ImageFolder(order["photos"], transforms(order["network"]))

    def run() -> np.ndarray:
        loader = DataLoader(Subset(dataset, range(order["n"])), batch_size=order["batch"], num_workers=workers)
        with torch.inference_mode():
            return np.concatenate([model(images).numpy() for images, _ in loader])

    return run


def timm(order: Order, workers: int) -> Run:
    """Run timm's loader, told what the official transforms do."""
    from timm.data import ImageDataset, create_loader

    model = network(order)
    dataset = ImageDataset(order["photos"])
    dataset.reader.samples = dataset.reader.samples[: order["n"]]

    def run() -> np.ndarray:
        loader = create_loader(
            dataset,
            input_size=(3, 224, 224),
            batch_size=order["batch"],
            crop_pct=224 / 256,
            interpolation="bilinear",
            num_workers=workers,
            device=torch.device("cpu"),
        )
        with torch.inference_mode():
            return np.concatenate([model(images).numpy() for images, _ in loader])

    return run


def img2vec(order: Order) -> Run:
    """Run img2vec_pytorch on lists of pictures; it finds the weights where torch.hub would have put them.

    Its own transforms squash the picture, so its vectors are others; with "official" they are replaced.
    """
    from img2vec_pytorch import Img2Vec

    converter = Img2Vec(model=order["network"])
    if order.get("official"):
        converter.transforms = transforms(order["network"])
    paths, batch = files(order), order["batch"]

    def run() -> np.ndarray:
        vectors = []
        for start in range(0, len(paths), batch):
            vectors.append(
                converter.get_vec([Image.open(path).convert("RGB") for path in paths[start : start + batch]])
            )
        return np.concatenate(vectors)

    return run


# ---------------------------------------------------------------------------------------------------------------- bound


def forward(order: Order, networks: int) -> Run:
    """Run the bare network on ready tensors: BatchNorm fused, channels last, on all cores.

    With `networks` 1 one pass uses all cores; else as many threads as that each run one-thread passes in turn.
    """
    from torch.fx.experimental.optimization import fuse

    model = fuse(network(order)).to(memory_format=torch.channels_last)
    steps, batch = transforms(order["network"]), order["batch"]
    tensors = torch.stack([steps(Image.open(path).convert("RGB")) for path in files(order)])
    batches = [part.contiguous(memory_format=torch.channels_last) for part in tensors.split(batch)]
    threads = torch.get_num_threads() if networks == 1 else 1

    def part(which: list[torch.Tensor]) -> list[np.ndarray]:
        torch.set_num_threads(threads)  # the setting is a thread's own
        with torch.inference_mode():
            return [model(images).numpy() for images in which]

    def run() -> np.ndarray:
        if networks == 1:
            return np.concatenate(part(batches))
        with ThreadPoolExecutor(networks) as pool:
            parts = list(pool.map(part, [batches[i::networks] for i in range(networks)]))
        return np.concatenate([parts[i % networks][i // networks] for i in range(len(batches))])

    return run


def _decoded(path: Path, steps: Callable[[Image.Image], torch.Tensor]) -> float:
    return float(steps(Image.open(path).convert("RGB"))[0, 0, 0])


def _decoded_all(paths: list[Path], name: str) -> None:
    torch.set_num_threads(1)
    steps = transforms(name)
    for path in paths:
        _decoded(path, steps)


def decode(order: Order, workers: str) -> Run:
    """Decode with Pillow and apply the official transforms in as many threads, or processes, as there are cores."""
    paths, cores = files(order), torch.get_num_threads()
    shares = [paths[i::cores] for i in range(cores)]
    made = partial(_decoded_all, name=order["network"])

    def run() -> None:
        if workers == "threads":
            with ThreadPoolExecutor(cores) as pool:
                list(pool.map(made, shares))
        else:
            with get_context("fork").Pool(cores) as pool:
                pool.map(made, shares, chunksize=1)

    return run


# --------------------------------------------------------------------------------------------------------------- vizkit


def vizkit(order: Order) -> Run:
    """Run vizkit into a fresh folder, on the ImageSet and the Encoder that are there."""
    import vizkit as vk

    precision = order.get("precision", "float32")
    encoder = vk.Encoder(order["network"], weights=order["weights"], precision=precision)
    images = vk.ImageSet.from_folder(order["photos"])
    images = images.subset(range(order["n"])) if order["n"] < len(images) else images
    more = {"reduced": True} if order.get("reduced") else {}
    more |= {"batch_size": order["batch"]} if order.get("batch") else {}

    def run() -> np.ndarray:
        found = vk.embed(images, encoder, cache=tempfile.mkdtemp(), progress=False, **more)
        if len(found.failures):
            raise RuntimeError(f"{len(found.failures)} photos failed")
        LEFT_OUT[0] = found.provenance.get("exactness", {}).get("seconds", 0.0)
        return found.vectors

    return run


def offers_reduced() -> bool:
    """Say whether this vizkit can decode large JPEGs at reduced scale."""
    import vizkit as vk

    return "reduced" in inspect.signature(vk.embed).parameters


CONTENDERS: dict[str, Callable[[Order], Run]] = {
    "DataLoader, 0 workers": partial(dataloader, workers=0),
    "DataLoader, 1 worker": partial(dataloader, workers=1),
    "DataLoader, 2 workers": partial(dataloader, workers=2),
    "timm, 1 worker": partial(timm, workers=1),
    "timm, 2 workers": partial(timm, workers=2),
    "img2vec": img2vec,
    "one network": partial(forward, networks=1),
    "a network a core": lambda order: forward(order, networks=torch.get_num_threads()),
    "decode, threads": partial(decode, workers="threads"),
    "decode, processes": partial(decode, workers="processes"),
    "vizkit": vizkit,
}
PEERS = [name for name in CONTENDERS if name.split(",")[0] in ("DataLoader", "timm", "img2vec")]
FORWARDS = ["one network", "a network a core"]
DECODES = ["decode, threads", "decode, processes"]


# ------------------------------------------------------------------------------------------------------------ processes


def peak_memory(workers: bool = True) -> int:
    """Return the highest resident memory of this process so far, in bytes; with its living children's, if wanted."""
    found = 0
    own = Path("/proc/self/status")
    children = [Path(f"/proc/{pid}/status") for pid in _children()] if workers else []
    for status in [own, *children]:
        try:
            lines = status.read_text().splitlines()
        except OSError:  # it has ended meanwhile
            continue
        found += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    return found


def _children() -> Iterator[int]:
    for task in Path("/proc/self/task").iterdir():
        try:
            yield from map(int, (task / "children").read_text().split())
        except OSError:
            continue


def serve(name: str) -> None:
    """Carry out orders until stdin ends."""
    made: tuple[str, Run] | None = None
    answers = sys.stdout
    with redirect_stdout(sys.stderr):  # whatever a library prints is no answer
        for line in sys.stdin:
            order = json.loads(line)
            saved = order.pop("saved", None)
            key = json.dumps(order, sort_keys=True)
            if made is None or made[0] != key:
                made = None
                made = (key, CONTENDERS[name](order))
            start = time.perf_counter()
            vectors = made[1]()
            seconds = time.perf_counter() - start - LEFT_OUT[0]
            if saved and vectors is not None:
                np.save(saved, vectors)
            answer = {"seconds": seconds, "peak": peak_memory(workers=False)}
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
