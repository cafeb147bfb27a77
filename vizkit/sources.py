"""Where images come from: the files in a folder, the items of a torchvision dataset, and the labels of both."""

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .pixels import IMAGE_SUFFIXES


def find_images(top: Path, recursive: bool) -> tuple[list[Path], int]:
    """List image files under `top`, sorted by relative posix path, and count the other files."""
    files: list[Path] = []
    skipped = 0
    # Each folder remembers the folders above it: a link back to one of those is a loop, any other link is followed.
    waiting = [(top, frozenset([_inode(top)]))]
    while waiting:
        folder, above = waiting.pop()
        try:
            entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
        except OSError as error:
            warnings.warn(f"{str(folder)!r} cannot be listed ({error.strerror}); its images are missing.", stacklevel=3)
            continue
        for entry in entries:
            path = Path(entry.path)
            if _is_folder(entry):
                if recursive and (inode := _inode(path)) not in above:
                    waiting.append((path, above | {inode}))
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                files.append(path)
            else:
                skipped += 1
    return sorted(files, key=lambda file: file.relative_to(top).as_posix()), skipped


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere or to itself: no folder, and listed if it is an image by name
        return False


def _inode(folder: Path) -> tuple[int, int]:
    state = folder.stat()
    return state.st_dev, state.st_ino


def path_text(path: Path) -> str:
    """Write a path as text that JSON and Parquet can hold, also where its bytes are no UTF-8."""
    return path.as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_missing(value: Any) -> bool:
    """Say whether a cell of a table is empty, in any of pandas' ways."""
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and np.isnan(value))


def label_text(value: Any) -> str | None:
    """Write a label as a string; an empty cell is None."""
    if is_missing(value):
        return None
    # A column of ints with gaps arrives as floats; its classes are still called 0, 1, 2.
    return str(int(value)) if isinstance(value, float | np.floating) and float(value).is_integer() else str(value)


def image_of(item: Any) -> Any:
    """Return the image of a dataset's item, which may be (image, target) or the image alone."""
    return item[0] if isinstance(item, tuple | list) and item else item


def dataset_files(dataset: Any) -> list[Path] | None:
    """Return the file behind each item of a dataset that is a folder of files, as ImageFolder is; else None."""
    samples = getattr(dataset, "samples", None)
    if not isinstance(samples, list) or len(samples) != len(dataset):
        return None
    if not all(isinstance(sample, tuple) and isinstance(sample[0], str | os.PathLike) for sample in samples):
        return None
    return [Path(sample[0]).absolute() for sample in samples]


def shows_its_files(dataset: Any) -> bool:
    """Say whether dataset[row] is nothing but the file: ImageFolder's own reader and no transform."""
    loader = getattr(dataset, "loader", None)
    return (
        getattr(type(dataset).__getitem__, "__qualname__", "") == "DatasetFolder.__getitem__"
        and getattr(loader, "__qualname__", "") == "default_loader"
        and getattr(dataset, "transform", None) is None
    )


def dataset_labels(dataset: Any) -> list[str | None]:
    """Return each item's label; items are read only where the dataset keeps no list of its targets."""
    n = len(dataset)
    known = (getattr(dataset, name, None) for name in ("targets", "labels", "_labels", "y"))
    targets = next((list(t) for t in known if hasattr(t, "__len__") and len(t) == n), None)
    if targets is None:
        targets = [_target_of(dataset, row) for row in range(n)]
    classes = getattr(dataset, "classes", None)
    return [_class_name(target, classes) for target in targets]


def _target_of(dataset: Any, row: int) -> Any:
    try:
        item = dataset[row]
    except Exception:  # an item that cannot be read has no known target; it keeps its row and raises when it is read
        return None
    return item[1] if isinstance(item, tuple | list) and len(item) > 1 else None


def _class_name(target: Any, classes: Any) -> str | None:
    if hasattr(target, "item") and getattr(target, "ndim", 0) == 0:
        target = target.item()
    if isinstance(target, int) and isinstance(classes, list | tuple) and 0 <= target < len(classes):
        return label_text(classes[target])
    return label_text(target) if isinstance(target, str | int | float) else None
