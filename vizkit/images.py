"""ImageSet: images with an id, a row of a table, and pixels that are read when they are asked for."""

import base64
import contextlib
import hashlib
import html
import io
import itertools
import operator
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from .errors import ImageReadError, InputError, VizkitError, closest
from .pixels import as_image, hash_file, least_size, read_image
from .sources import (
    count,
    dataset_files,
    dataset_labels,
    folder_files,
    image_in_cell,
    image_of,
    is_missing,
    label_text,
    objects,
    path_text,
    repeated,
    require_dataset,
    shows_its_files,
)

__all__ = ["ImageSet", "as_image", "read_image"]

_SHEET = 12  # images on the contact sheet
_THUMB = 72  # pixels, the longer side of each


class ImageSet:
    """Images, each with an id and a row of metadata; pixels are read when asked for and not kept.

    Make one with `from_folder`, `from_frame` or `from_dataset`. An image that cannot be read keeps its row, so that
    nothing vanishes: it raises when its pixels are asked for.

    Parameters
    ----------
    ids
        One unique string an image.
    frame
        One row an image, in the order of `ids`; columns `path` and `label` are added where they are missing.
    load
        Takes a row and returns its image, upright RGB. Without it an image is the whole file of `paths`.
    paths
        The file behind each row, or None where there is none.
    fingerprint
        Takes a row and returns a hex hash of what defines its image: vectors are stored by it. By default the hash of
        the file's bytes, or without files that of the pixels; where `load` makes images out of files, such as crops,
        it must be given.

    Attributes
    ----------
    ids : list of str
    frame : pandas.DataFrame
        Index `id`, equal to `ids`; columns `path` and `label` (both object columns of str or None, whatever the labels
        were before) and all further columns.
    paths : list of Path or None
    whole_files : bool
        Whether every image is its file and nothing else, read by vizkit itself: it may then be read in many threads.
    unlisted : list of str
        Folders that `from_folder` could not list, so that images may be missing.

    Raises
    ------
    InputError
        Ids that are not unique strings, lengths that differ, or `load` with `paths` and without `fingerprint`.
    """

    def __init__(
        self,
        ids: Sequence[str],
        frame: pd.DataFrame,
        load: Callable[[int], Image.Image] | None = None,
        *,
        paths: Sequence[str | Path | None] | None = None,
        fingerprint: Callable[[int], str] | None = None,
    ) -> None:
        self.ids = list(ids)
        self._rows = {id: row for row, id in enumerate(self.ids)}
        files = [None] * len(self.ids) if paths is None else [Path(path) if path else None for path in paths]
        self.paths: list[Path | None] = files
        self._load = load or (lambda row: image_in_cell(files[row]))
        self._fingerprint = fingerprint
        self.whole_files = load is None and fingerprint is None
        self.unlisted: list[str] = []
        if wrong := [id for id in self.ids if not isinstance(id, str)]:
            raise InputError(f"Ids are strings; {wrong[0]!r} is {type(wrong[0]).__name__}. Convert them with str.")
        if len(self._rows) < len(self.ids):
            raise InputError(f"Ids must be unique; {repeated(self.ids)}. Give each image an id of its own.")
        if not len(self.ids) == len(frame) == len(self.paths):
            raise InputError(
                f"{len(self.ids)} ids, {len(frame)} rows in the frame and {len(self.paths)} paths; expected "
                "one of each for every image."
            )
        if load is not None and fingerprint is None and any(self.paths):
            raise InputError(
                "load= and paths= were given without fingerprint=, and a file alone does not say what `load` makes of "
                "it. Give fingerprint=, a function of the row; or leave load= out where an image is its whole file."
            )
        self.frame = frame.set_axis(pd.Index(self.ids, name="id", dtype=object), axis=0)
        if "path" not in frame:
            texts = [None if path is None else path_text(path) for path in self.paths]
            self.frame.insert(0, "path", objects(texts, self.frame.index))
        labels = frame["label"] if "label" in frame else [None] * len(frame)
        self.frame["label"] = objects([label_text(label) for label in labels], self.frame.index)

    # ------------------------------------------------------------------ where images come from

    @staticmethod
    def from_folder(folder: str | os.PathLike[str], *, recursive: bool = True) -> "ImageSet":
        """List the images in a folder.

        Every file that is an image by its suffix is listed, sorted by id; other files and hidden ones are passed over.
        Nothing is opened yet: an image that turns out to be broken keeps its row and raises when it is read.

        Parameters
        ----------
        folder
            The folder. The first-level subfolder that an image lies in, at whatever depth, becomes its label; images at
            the top have none. Links are followed, except back into a folder that contains them, or, where a link has
            led already, into any that is listed.
        recursive
            Whether to look into subfolders.

        Returns
        -------
        ImageSet
            Ids are paths relative to `folder`, with "/" on every system.

        Raises
        ------
        InputError
            `folder` is missing, is no folder, or holds no image.
        """
        ids, files, unlisted = folder_files(folder, recursive)
        labels = pd.Series([id.split("/", 1)[0] if "/" in id else None for id in ids], dtype=object)
        images = ImageSet(ids, pd.DataFrame({"label": labels}), paths=files)
        images.unlisted = unlisted
        return images

    @staticmethod
    def from_frame(
        df: pd.DataFrame,
        image: str = "path",
        label: str = "label",
        *,
        root: str | os.PathLike[str] = ".",
    ) -> "ImageSet":
        """Take the images that a table lists, and keep its columns.

        Parameters
        ----------
        df
            One row an image. Its column `id` gives the ids, or else its index does; both as strings.
        image
            The column with paths, or with PIL images, arrays or the bytes of image files, as `as_image` takes them.
        label
            The column that becomes `label`, as strings; "label" need not exist.
        root
            The folder that relative paths start from.

        Returns
        -------
        ImageSet
            `frame` keeps every column of `df`, except that `path` holds full paths where the images are files, `label`
            holds strings, and a column of pixels is left out. A missing file or value keeps its row and raises when it
            is read.

        Raises
        ------
        InputError
            `df` is no table, a column is missing, or ids repeat.
        """
        if not isinstance(df, pd.DataFrame):
            raise InputError(f"The table was given as {type(df).__name__}; expected a pandas DataFrame.")
        wanted = [image] if label == "label" else [image, label]
        for column in wanted:
            if column not in df.columns:
                known = [str(name) for name in df.columns]
                raise InputError(
                    f"The table has no column {column!r}; it has {known}.{closest(str(column), known)} Name the column "
                    "with image= (paths or pixels) or label=."
                )
        ids = [str(id) for id in (df["id"] if "id" in df.columns else df.index)]
        base = Path(root).expanduser().absolute()
        sources = [base / Path(x).expanduser() if isinstance(x, str | os.PathLike) else x for x in df[image]]
        paths = [source if isinstance(source, Path) else None for source in sources]
        frame = df.drop(columns="id", errors="ignore")
        if any(paths):
            texts = [None if path is None else path_text(path) for path in paths]
            frame = frame.assign(path=objects(texts, frame.index))
        pixels = any(path is None and not is_missing(x) for path, x in zip(paths, sources, strict=True))
        if pixels:
            frame = frame.drop(columns=image, errors="ignore")
        if label in df.columns:
            frame = frame.assign(label=df[label])
        if not pixels:
            return ImageSet(ids, frame, paths=paths)
        images = ImageSet(ids, frame, lambda row: image_in_cell(sources[row]))
        images.paths = paths  # a whole file or pixels, row by row: the hash by default is right for both
        return images

    @staticmethod
    def from_dataset(dataset: Any) -> "ImageSet":
        """Take the images of a torchvision dataset, or of anything with a length whose items are (image, target).

        Parameters
        ----------
        dataset
            Items are images, or tuples that begin with an image and a target: PIL images, tensors or arrays, as
            `as_image` takes them, so without a normalization. Targets that are numbers become names through
            `dataset.classes` where there is one. Where the dataset keeps its targets in a list, no image is read;
            otherwise each item is read once.

        Returns
        -------
        ImageSet
            Ids are relative paths for folders of files (ImageFolder), else row numbers. An ImageFolder without a
            transform is read by vizkit from its files, upright; any other dataset gives its own pixels.

        Raises
        ------
        InputError
            `dataset` has no length or no items.
        """
        require_dataset(dataset)
        if f"{type(dataset).__module__}.{type(dataset).__name__}" == "torch.utils.data.dataset.Subset":
            return ImageSet.from_dataset(dataset.dataset).subset(dataset.indices)
        files = dataset_files(dataset)
        root = Path(getattr(dataset, "root", ".") or ".").absolute()
        ids = [str(row) for row in range(len(dataset))]
        if files is not None:
            ids = [path_text(file.relative_to(root) if file.is_relative_to(root) else file) for file in files]
        frame = pd.DataFrame({"label": pd.Series(dataset_labels(dataset), dtype=object)})
        if files is not None and shows_its_files(dataset):
            return ImageSet(ids, frame, paths=files)
        return ImageSet(ids, frame, lambda row: as_image(image_of(dataset[row])))

    def subset(self, rows_or_ids: Iterable[int | str] | slice) -> "ImageSet":
        """Return some of the images, in the order asked for.

        Parameters
        ----------
        rows_or_ids
            Rows, ids, a slice of rows, or a mask with one boolean an image.

        Raises
        ------
        InputError
            An unknown id, a row twice, or a mask of another length.
        """
        rows = self._positions(rows_or_ids)
        whole = self.whole_files
        some = ImageSet(
            [self.ids[row] for row in rows],
            self.frame.iloc[rows],
            None if whole else (lambda row: self._load(rows[row])),
            paths=[self.paths[row] for row in rows],
            fingerprint=None if whole else (lambda row: self._hash(rows[row])),
        )
        some.unlisted = self.unlisted
        return some

    def _positions(self, rows_or_ids: Iterable[int | str] | slice) -> list[int]:
        if isinstance(rows_or_ids, slice):
            return list(range(len(self)))[rows_or_ids]
        if isinstance(rows_or_ids, str):
            return [self.row(rows_or_ids)]
        wanted = list(rows_or_ids) if isinstance(rows_or_ids, Iterable) else [rows_or_ids]
        if wanted and all(isinstance(x, bool | np.bool_) for x in wanted):
            if len(wanted) != len(self):
                raise InputError(f"A mask of {len(wanted)} values for {len(self)} images; expected one each.")
            wanted = np.flatnonzero(wanted).tolist()
        return [self.row(x) if isinstance(x, str) else self._position(x) for x in wanted]

    # ------------------------------------------------------------------ what one can ask

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> Image.Image:
        """Read one image, upright RGB; ImageReadError names its id, its file and the reason."""
        return self.read(row)

    def read(self, row: int, *, at_least: int | tuple[int, int] | None = None) -> Image.Image:
        """Read one image, upright RGB; with `at_least` at reduced scale where that can be, else as `images[row]`.

        Parameters
        ----------
        row
            The image, counted from either end.
        at_least
            What the image must not fall below, in pixels, as `read_image` takes it: a JPEG may then be decoded at 1/2,
            1/4 or 1/8 of its size, faster and not exactly. Only files that vizkit reads itself (`whole_files`) can be.

        Raises
        ------
        ImageReadError
            The image cannot be read; the message names its id, its file and the reason.
        InputError
            `row` is no int, or `at_least` no size.
        """
        row = self._position(row)
        size = None if at_least is None else least_size(at_least)
        path = self.paths[row] if self.whole_files else None
        with self._named(row):
            return self._load(row) if size is None or path is None else read_image(path, at_least=size)

    @contextlib.contextmanager
    def _named(self, row: int) -> Generator[None, None, None]:
        """Say the id in every error, and the file too; whatever a user's loader raises is an ImageReadError."""
        try:
            yield
        except ImageReadError as error:
            raise ImageReadError(f"Image {self.ids[row]!r}: {error}") from error
        # The loader may be a user's dataset, which raises what it likes; one image must not stop a run over thousands.
        except Exception as error:
            where = f" (file {str(self.paths[row])!r})" if self.paths[row] else ""
            advice = "" if isinstance(error, VizkitError) else ". Repair what loads it, or leave it out."
            reason = f"{type(error).__name__}: {error}{advice}"
            raise ImageReadError(f"Image {self.ids[row]!r}{where} cannot be read: {reason}") from error

    def __iter__(self) -> Iterator[Image.Image]:
        return (self[row] for row in range(len(self)))

    def row(self, id: str) -> int:
        """Return the row of an id; InputError names the closest ids where there is none."""
        if not isinstance(id, str):
            raise InputError(f"An id was given as {type(id).__name__} ({id!r}); ids are strings.")
        if id in self._rows:
            return self._rows[id]
        # difflib takes about 10 microseconds a name, so a large set is not searched to its end.
        near = closest(id, itertools.islice(self.ids, 20_000))
        raise InputError(f"No image with id {id!r} among {len(self)}.{near} All ids are in `images.ids`.")

    def fingerprint(self, row: int) -> str:
        """Hash what defines an image: SHA-256 of its file's bytes, or of its pixels where there is no file, in hex."""
        row = self._position(row)
        with self._named(row):
            return self._hash(row)

    def _hash(self, row: int) -> str:
        path = self.paths[row]
        if self._fingerprint is not None:
            return self._fingerprint(row)
        if path is not None:
            return hash_file(path)
        image = self._load(row)
        return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()

    def _position(self, row: Any) -> int:
        if isinstance(row, bool | np.bool_) or not hasattr(row, "__index__"):
            hint = {str: "images[images.row(id)]", slice: "images.subset(slice)"}.get(type(row), "images.subset(rows)")
            raise InputError(f"images[...] takes one row as an int, not {type(row).__name__} ({row!r}). Use {hint}.")
        position = operator.index(row)
        if not -len(self) <= position < len(self):
            raise IndexError(f"Row {position} of {len(self)} images; expected {-len(self)} to {len(self) - 1}.")
        return position % len(self)

    def __repr__(self) -> str:
        counts = self.frame["label"].value_counts()
        first = ", ".join(f"{label} {count}" for label, count in counts.head(4).items())
        more = ", ..." if len(counts) > 4 else ""
        labels = f"{count(len(counts), 'label')} ({first}{more})" if len(counts) else "no labels"
        return f"ImageSet: {count(len(self), 'image')}, {labels}"

    def _repr_html_(self) -> str:
        # Rows apart from each other: the first ones of a folder are all of one class.
        rows = np.linspace(0, len(self) - 1, min(len(self), _SHEET)).astype(int)
        cells = "".join(self._cell(int(row)) for row in rows)
        more = f" {_SHEET} of them:" if len(self) > _SHEET else ""
        style = "display:flex;flex-wrap:wrap;gap:6px;align-items:flex-end;margin-top:4px"
        return f'<div><div>{html.escape(repr(self))}.{more}</div><div style="{style}">{cells}</div></div>'

    def _cell(self, row: int) -> str:
        label = self.frame["label"].iloc[row]
        title = html.escape(self.ids[row] if label is None else f"{self.ids[row]} ({label})", quote=True)
        try:
            image = self[row]
        except ImageReadError as error:
            box = f"width:{_THUMB}px;height:{_THUMB}px;border:1px dashed;font-size:11px;overflow:hidden"
            return f'<div style="{box}" title="{html.escape(str(error), quote=True)}">cannot be read: {title}</div>'
        image.thumbnail((_THUMB, _THUMB))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=80)
        data = base64.b64encode(file.getvalue()).decode()
        return f'<img src="data:image/jpeg;base64,{data}" alt="{title}" title="{title}">'
