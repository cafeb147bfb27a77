"""The embedded default: small generated scenes whose every factor is known.

The factors are read from a committed table and are exact; the pixels are drawn when asked for (`scene_drawing`), and
may differ by a level or two between versions of Pillow and numpy.
"""

import hashlib
import json
import operator
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from .errors import InputError
from .images import ImageSet
from .scene_drawing import COLUMNS, RENDERER, SCENE_SIZE, SHAPES, check, coverage, draw

__all__ = ["COLUMNS", "SCENE_SIZE", "SHAPES", "SPLITS", "Scenes", "data_file", "scenes"]

SPLITS = ("train", "held-out")


def data_file(name: str) -> Path:
    """Find a file of the embedded default, in an installed package or in a checkout.

    Parameters
    ----------
    name
        File name, such as ``"scenes.parquet"``.

    Raises
    ------
    InputError
        There is no such file in either place.
    """
    here = Path(__file__).resolve().parent
    folders = (here / "data", here.parent / "data")
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise InputError(
        f"the embedded default has no file {name!r} (looked in {folders[0]} and {folders[1]}); "
        "reinstall vizkit, or run `make scenes` in a checkout to build it"
    )


def scenes(split: str | None = None) -> "Scenes":
    """Return the embedded default: 3,000 generated scenes of ten shapes, with factors, masks and boxes.

    Parameters
    ----------
    split
        ``"train"``: 1,000 of the scenes that the network of ``Encoder("scenes")`` was trained on;
        ``"held-out"``: 2,000 that it never saw; None: both, in this order.

    Raises
    ------
    InputError
        There is no such split.

    Examples
    --------
    >>> images = scenes("held-out")
    >>> images.frame.loc["held-out/0000", "shape"] in SHAPES
    True
    """
    if split is not None and split not in SPLITS:
        raise InputError(f"there is no split {split!r}; choose 'train', 'held-out' or None for both")
    table = pd.read_parquet(data_file("scenes.parquet"))
    return Scenes(table if split is None else table[table["split"] == split])


class Scenes(ImageSet):
    """Generated scenes: an ImageSet that also knows where the object is, and can draw a scene again with a change.

    Parameters
    ----------
    table
        One row a scene, indexed by id, with the columns of `COLUMNS`; further columns are kept.

    Raises
    ------
    InputError
        A column is missing.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        missing = [name for name in COLUMNS if name not in table.columns]
        if missing:
            raise InputError(f"a table of scenes needs the columns {', '.join(COLUMNS)}; missing: {', '.join(missing)}")
        self._factors: list[dict[str, Any]] = table[list(COLUMNS)].to_dict("records")
        frame = table.drop(columns=["path", "label"], errors="ignore")
        frame.insert(0, "label", frame["shape"])
        super().__init__(
            [str(id) for id in table.index],
            frame,
            lambda row: draw(self.factors(row)),
            fingerprint=lambda row: scene_fingerprint(self.factors(row)),
        )

    def subset(self, rows_or_ids: Iterable[int | str] | slice) -> "Scenes":
        """Return some of the scenes, in the order asked for, as `ImageSet.subset` does."""
        rows = self._positions(rows_or_ids)
        table = pd.DataFrame([self._factors[row] for row in rows], [self.ids[row] for row in rows], list(COLUMNS))
        part = Scenes(table)
        part.frame = self.frame.iloc[rows].copy()
        return part

    def factors(self, row: int) -> dict[str, Any]:
        """Return everything that defines one scene, by name.

        Parameters
        ----------
        row
            Position in the set.

        Raises
        ------
        InputError
            There is no such row.
        """
        try:
            position = operator.index(row)
        except TypeError:
            raise InputError(
                f"a scene is named by its row, an integer; got {row!r}. For an id, use images.row(id)"
            ) from None
        if not -len(self._factors) <= position < len(self._factors):
            raise InputError(f"there is no row {row}: the set has {len(self._factors)} scenes")
        return dict(self._factors[position])

    def render(self, row: int, **changes: Any) -> Image.Image:
        """Draw one scene again, with some of its factors changed and the rest as they were.

        Parameters
        ----------
        row
            Position in the set.
        **changes
            New values of factors, such as ``background_hue=0.3`` or ``shape="star"``. In the table the two hues are at
            least 0.2 turns apart; closer ones are drawn as asked and make the object hard to see.

        Returns
        -------
        PIL.Image.Image
            RGB, 64 x 64 pixels.

        Raises
        ------
        InputError
            There is no such row or factor, or the factor cannot have that value.
        """
        return draw(self.factors(row) | changes)

    def mask(self, row: int, **changes: Any) -> NDArray[np.bool_]:
        """Return where the object is: the pixels of which it covers at least half.

        Parameters
        ----------
        row
            Position in the set.
        **changes
            New values of factors, as in `render`.

        Returns
        -------
        NDArray[np.bool_]
            (64, 64), rows from the top.
        """
        factors = self.factors(row) | changes
        check(factors)
        return coverage(factors) >= 0.5

    def box(self, row: int, **changes: Any) -> tuple[int, int, int, int]:
        """Return the smallest box around the object's mask.

        Parameters
        ----------
        row
            Position in the set.
        **changes
            New values of factors, as in `render`.

        Returns
        -------
        tuple[int, int, int, int]
            Left, top, right, bottom in pixels; right and bottom are just outside the mask, as in PIL.
        """
        mask = self.mask(row, **changes)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not rows.size:
            return (0, 0, 0, 0)
        return (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def scene_fingerprint(factors: Mapping[str, Any]) -> str:
    """Return the hex SHA-256 of what defines a scene: its factors and the renderer's version."""
    plain = {name: value if isinstance(value, str) else float(value) for name, value in factors.items()}
    text = json.dumps({"renderer": RENDERER, **plain}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
