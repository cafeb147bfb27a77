"""The embedded default: small generated scenes whose every factor is known.

The factors are read from a committed table and are exact; the pixels are drawn when asked for (`scene_drawing`), and
may differ by a level or two between versions of Pillow and numpy.
"""

import hashlib
import json
import operator
from collections.abc import Iterable, Mapping, Sequence
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

    def changed(self, **changes: Any) -> "Scenes":
        """Return the same scenes, with the same ids, drawn again with some of their factors changed.

        Parameters
        ----------
        **changes
            New values of factors: one for all scenes, such as ``background_hue=0.3``, or a sequence of one a scene.
            Values as in `render`.

        Raises
        ------
        InputError
            There is no such factor, a factor cannot have that value, or there are not as many values as scenes.

        Examples
        --------
        >>> images = scenes("held-out").subset(range(3))
        >>> images.changed(shape="star", hue=[0.1, 0.2, 0.3]).frame["hue"].tolist()
        [0.1, 0.2, 0.3]
        """
        columns = {name: _values(name, value, len(self)) for name, value in changes.items()}
        for row in range(len(self)):
            check({name: values[row] for name, values in columns.items()})
        table = pd.DataFrame(self._factors, self.ids, list(COLUMNS)).assign(**columns)
        twin = Scenes(table)
        new = {"label": table["shape"]} if "shape" in columns else {}
        twin.frame = self.frame.assign(**{name: table[name] for name in columns}, **new)
        return twin

    def tied(self, to: "Sequence[str] | None" = None, *, share: float = 1.0, seed: int = 0) -> "Scenes":
        """Return the same scenes on papers whose hue goes with a shape, as `Encoder("scenes-biased")` was trained.

        Each shape owns a tenth of the circle of hues, in the order of `SHAPES`; `ground` says whose a hue is. The
        background takes a hue of its shape's tenth, and the object's hue keeps its distance to the background's.

        Parameters
        ----------
        to
            The shape that each background goes with, one a scene; None: the scene's own. Another shape than the
            scene's own makes a conflict.
        share
            Of the scenes that are changed, in [0, 1]; which ones is drawn at random. 0.95 is what the biased network
            was trained on.
        seed
            Of the hues and of which scenes are changed.

        Raises
        ------
        InputError
            There is no such shape, there are not as many as scenes, or `share` is not in [0, 1].
        """
        if isinstance(share, bool) or not (isinstance(share, int | float) and 0 <= share <= 1):
            raise InputError(f"share cannot be {share!r}; give a number from 0 to 1, such as 0.95")
        shapes = [factors["shape"] for factors in self._factors] if to is None else _values("to", to, len(self))
        for shape in shapes:
            check({"shape": shape})
        rng = np.random.default_rng(seed)
        tied = rng.random(len(self)) < share
        place = np.array([SHAPES.index(shape) for shape in shapes], float)
        old, hue = (np.array([factors[name] for factors in self._factors]) for name in ("background_hue", "hue"))
        new = np.where(tied, (place + rng.random(len(self))) / len(SHAPES), old)
        return self.changed(background_hue=new, hue=np.where(tied, (hue + new - old) % 1, hue))

    @property
    def ground(self) -> "pd.Series":
        """The shape that owns each background's hue, by id: the tenth of the circle at the shape's place in `SHAPES`.

        Where backgrounds are drawn without looking at the shape, as in the table, it is the scene's own in one of ten.
        """
        hues = np.array([factors["background_hue"] for factors in self._factors])
        places = (hues * len(SHAPES)).astype(int) % len(SHAPES)
        return pd.Series([SHAPES[place] for place in places], self.frame.index, name="ground", dtype=object)

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


def _values(name: str, value: Any, n: int) -> list[Any]:
    """Return one value for each of n scenes, from one for all or from as many."""
    if isinstance(value, str) or np.ndim(value) == 0:
        return [value] * n
    values = list(value)
    if len(values) != n:
        raise InputError(f"{name} has {len(values)} values for {n} scenes; give one for all, or one a scene")
    return values


def scene_fingerprint(factors: Mapping[str, Any]) -> str:
    """Return the hex SHA-256 of what defines a scene: its factors and the renderer's version."""
    plain = {name: value if isinstance(value, str) else float(value) for name, value in factors.items()}
    text = json.dumps({"renderer": RENDERER, **plain}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
