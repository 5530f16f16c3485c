"""How an import is asked for: what its table is like, and what becomes of a client who is there already."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class TableKind(StrEnum):
    """How a table is written."""

    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"


class Given(NamedTuple):
    """What the caller says of a table; what is empty is found by looking at it.

    Attributes:
        encoding: as Python names it.
        delimiter: the character between two cells.
        columns: the names of fields by those of the columns, beside those that are known anyway.
    """

    kind: TableKind | None = None
    encoding: str = ""
    delimiter: str = ""
    columns: Mapping[str, str] = {}


class OnConflict(StrEnum):
    """What becomes of a row whose client is there already, with other data."""

    FAIL = "fail"
    SKIP = "skip"
    UPDATE = "update"
