"""Narrow a list of clients in key order to where its clients are."""

from collections.abc import Iterable, Sequence
from typing import Any

from egec_cli.store import peewee
from egec_cli.store.models import Client
from egec_cli.store.sql import fetch_tuples, in_list

# As many keys as a database looks up one by one in a moment.
_FEW_KEYS = 10_000


def narrow_keys(conditions: Iterable[tuple[Any, Any]]) -> Sequence[Any]:
    """Return conditions on the keys of clients that follow from conditions which an index with the key answers.

    They are the keys themselves if those are few, and otherwise their range.

    Args:
        conditions: each with the column that holds the keys of the clients.
    """
    ranges = []
    for column, condition in conditions:
        rows = column.model.select(column).where(condition)
        keys = [key for (key,) in fetch_tuples(rows.limit(_FEW_KEYS + 1))]
        if len(keys) <= _FEW_KEYS:
            return [in_list(Client.id, sorted(set(keys)))]
        # The sum keeps databases from a search in key order, which is what this avoids.
        key = column + peewee.SQL("0")
        ends = column.model.select(peewee.fn.MIN(key), peewee.fn.MAX(key)).where(condition)
        ranges += [Client.id.between(first, last) for first, last in fetch_tuples(ends)]
    return ranges
