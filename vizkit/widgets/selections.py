"""Selections that were given a name: columns of the map, and of the table that goes on to other work."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import traitlets as t

from ..errors import InputError
from ..knn import beside
from .linked import Linked
from .wire import columns_of, json_text


class Selections(Linked):
    """Names for selections; `Explorer` says what each of its traits is."""

    named = t.Dict(read_only=True)
    _columns = t.List().tag(sync=True)

    _own_columns: list[dict[str, Any]]  # those of the images' table

    @property
    def frame(self) -> pd.DataFrame:
        """The table of the images, and for each named selection a column of True and False.

        A name that the table has already gets a "_" appended.
        """
        table = self._atlas.embeddings.frame
        return pd.concat([table, named_columns(table, self.named)], axis=1)

    @property
    def table(self) -> pd.DataFrame:
        """The rows of `frame` that are selected, in the order of the images."""
        return self.frame.loc[self.selection]

    def name_selection(self, name: str, ids: Sequence[str] | None = None) -> str | None:
        """Give a selection a name: it becomes a column of the map, "yes" or "no", and of `frame`.

        Parameters
        ----------
        name
            A name that was given before is given anew.
        ids
            What it names; by default what is selected. An empty list takes the name away.

        Returns
        -------
        str or None
            The column: the name, with a "_" where the table has one of that name. None where it was taken away.

        Raises
        ------
        InputError
            The name is empty, an id is unknown, or nothing is selected.
        """
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"The name of the selection is {name!r}; expected a text, like 'odd ones'.")
        name = json_text(name.strip())
        if isinstance(ids, str):
            raise InputError(f"ids must be a list of ids, not one string: [{ids!r}].")
        if ids is None and not self.selection:
            raise InputError(f"Nothing is selected that could be named {name!r}: draw a box or a lasso on the map.")
        held = self._in_order(self.selection if ids is None else ids)
        with self._telling:
            others = {known: members for known, members in self.named.items() if known != name or held}
            named = others | ({name: held} if held else {})
            columns = named_columns(self._atlas.embeddings.frame, named, words=("no", "yes"))
            self._columns = [*self._own_columns, *columns_of(columns)]
            self.set_trait("named", named)
        return str(columns.columns[list(named).index(name)]) if held else None


def named_columns(
    table: pd.DataFrame, named: Mapping[str, Sequence[str]], *, words: tuple[Any, Any] = (False, True)
) -> pd.DataFrame:
    """Return a column for each named selection.

    Parameters
    ----------
    table
        n rows; the index holds ids. A name that it has already gets a "_" appended.
    named
        Ids by name.
    words
        What a column says of a row outside and of one inside.
    """
    values = {name: np.where(table.index.isin(set(ids)), words[1], words[0]) for name, ids in named.items()}
    whole = beside(table, pd.DataFrame(values, index=table.index))
    return whole.iloc[:, table.shape[1] :]
