"""Where images come from: the files in a folder, the items of a torchvision dataset, and the labels of both."""

import heapq
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from .errors import ImageReadError, InputError
from .pixels import IMAGE_SUFFIXES, as_image


def folder_files(folder: str | os.PathLike[str], recursive: bool) -> tuple[list[str], list[Path], list[str]]:
    """Return ids and absolute paths of the image files in a folder, and the folders that cannot be listed.

    Raises
    ------
    InputError
        There is no folder, or no image in it.
    """
    if not isinstance(folder, str | os.PathLike):
        raise InputError(f"The folder was given as {type(folder).__name__}; expected a path.")
    top = Path(folder).expanduser().absolute()
    if not top.is_dir():
        advice = "Give the folder that it is in." if top.exists() else "Check the spelling and the working folder."
        raise InputError(f"{str(folder)!r} is not a folder{'; it is a file' if top.exists() else ''}. {advice}")
    files, skipped, unlisted = find_images(top, recursive)
    if not files:
        deeper = "" if recursive else " Subfolders were not looked into: recursive=True does."
        closed = f", {count(len(unlisted), 'folder')} that cannot be listed" if unlisted else ""
        raise InputError(
            f"No image in {str(folder)!r}: {count(skipped, 'other file')}{closed}. Expected names that end in "
            f".jpg, .png, .webp and so on; from_frame takes any list of paths.{deeper}"
        )
    return _ids([path_text(file.relative_to(top)) for file in files]), files, unlisted


def find_images(top: Path, recursive: bool) -> tuple[list[Path], int, list[str]]:
    """List image files under `top`, sorted by relative posix path, count other files, name folders not to be listed.

    Links to folders are followed, except back into a folder above. Inside a linked folder, further links are followed
    only to folders that have not been listed: folders that link to each other would else be listed along every path.
    """
    files: list[Path] = []
    skipped = 0
    unlisted: list[str] = []
    listed: set[tuple[int, int]] = set()
    # Links on the way, path as text and the folders above: what lies in `top` itself comes before what is linked.
    waiting: list[tuple[int, str, frozenset[tuple[int, int]]]] = [(0, str(top), frozenset())]
    while waiting:
        links, folder, above = heapq.heappop(waiting)
        try:
            state = os.stat(folder)  # noqa: PTH116
            inode = state.st_dev, state.st_ino
            if inode in above or (links > 1 and inode in listed):
                continue
            entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
        except OSError as error:
            warnings.warn(f"{folder!r} cannot be listed ({error.strerror}); its images are missing.", stacklevel=4)
            unlisted.append(path_text(Path(folder)))
            continue
        listed.add(inode)
        for entry in entries:
            path = Path(entry.path)
            if _is_folder(entry):
                if recursive:
                    heapq.heappush(waiting, (links + entry.is_symlink(), entry.path, above | {inode}))
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                files.append(path)
            else:
                skipped += 1
    return sorted(files, key=lambda file: file.relative_to(top).as_posix()), skipped, unlisted


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere or to itself: no folder, and listed if it is an image by name
        return False


def _ids(texts: list[str]) -> list[str]:
    """Return ids, numbering equal texts: two names read alike where one spells out the bytes of the other."""
    ids: dict[str, None] = {}
    for text in texts:
        id, n = text, 1
        while id in ids:
            n += 1
            id = f"{text} ({n})"
        ids[id] = None
    return list(ids)


def path_text(path: Path) -> str:
    """Write a path as text that JSON and Parquet can hold, also where its bytes are no UTF-8."""
    return path.as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_missing(value: Any) -> bool:
    """Say whether a cell of a table is empty, in any of pandas' ways."""
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and np.isnan(value))


def image_in_cell(value: Any) -> Image.Image:
    """Return the image in a cell of a table: a path, pixels or the bytes of a file; an empty one raises."""
    if is_missing(value):
        raise ImageReadError("the table has no path and no image in this row. Fill it in, or leave the row out.")
    return as_image(value)


def label_text(value: Any) -> str | None:
    """Write a label as a string; an empty cell is None."""
    if is_missing(value):
        return None
    # A column of ints with gaps arrives as floats; its classes are still called 0, 1, 2.
    return str(int(value)) if isinstance(value, float | np.floating) and float(value).is_integer() else str(value)


def image_of(item: Any) -> Any:
    """Return the image of a dataset's item, which may be (image, target) or the image alone."""
    return item[0] if isinstance(item, tuple | list) and item else item


def require_dataset(dataset: Any) -> None:
    """Raise InputError where something is no dataset."""
    if isinstance(dataset, str | os.PathLike) or not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise InputError(
            f"The dataset was given as {type(dataset).__name__}; expected something with a length whose items are "
            "(image, target), as torchvision's datasets are. A folder goes to ImageSet.from_folder."
        )


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


def objects(values: Sequence[Any], index: pd.Index) -> pd.Series:
    """Return a column of objects; the kind is said, or pandas 3 turns None into NaN in a column of strings."""
    return pd.Series(list(values), index=index, dtype=object)


def repeated(ids: Sequence[str]) -> str:
    """Name the ids that come more than once."""
    names = pd.Series(ids, dtype=object)
    twice = names[names.duplicated()].unique()
    shown = ", ".join(repr(id) for id in twice[:5])
    return f"{count(len(twice), 'id')} given more than once: {shown}{', ...' if len(twice) > 5 else ''}"


def count(n: int, noun: str) -> str:
    """Write a number with its noun."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
