"""The forms that records come in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import pyarrow as pa

# What a path of Parquet files may be.
PATHS = (str, Path)

Records = Union[Sequence[Mapping[str, Any]], pa.Table, str, Path, "Query"]


@dataclass(frozen=True, eq=False)
class Query:
    """A choice of records that is made when they are read; a source of records like any other.

    Make one with :func:`alhelpers.records.query`, which checks it.

    Parameters
    ----------
    source : list of dict, pyarrow.Table, str, pathlib.Path or Query
        The records to choose from.
    filters : tuple of dict
        Conditions, all of which must hold.
    limit : int, optional
        At most so many records.
    order_by : str, optional
        The field that says which come first.
    desc : bool
        From the largest down.
    """

    source: Records
    filters: tuple[Mapping[str, Any], ...] = ()
    limit: int | None = None
    order_by: str | None = None
    desc: bool = False
