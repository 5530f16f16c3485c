"""Count rejected rows by reason, without the values that differ from row to row."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from egec_cli.imports.run import RejectedRow
from egec_cli.translation import Words

# A table with more kinds of faults than this is the wrong table.
_MOST_REASONS = 1_000
OTHER_REASONS = Words("other reasons")
# Values of reasons that do not differ from row to row: the names of fields, and the known values.
_KEPT = {"field", "fields", "known"}


class CountedReason(NamedTuple):
    """A reason, in general words, and the number of rows that were rejected for it."""

    reason: str
    number: int


class RejectionReasons:
    """The reasons of rejected rows; memory stays small for any table."""

    def __init__(self) -> None:
        self._numbers = Counter[str]()

    def add(self, row: RejectedRow) -> None:
        """Count a rejected row."""
        reason = _generalize(row.reason)
        if row.field:
            reason = Words("{field}: {reason}", field=row.field, reason=reason)
        self._numbers[reason if reason in self._numbers or len(self._numbers) < _MOST_REASONS else OTHER_REASONS] += 1

    def list_by_number(self) -> Sequence[CountedReason]:
        """Return the reasons, the most frequent first."""
        return [CountedReason(*counted) for counted in self._numbers.most_common()]


class _AnyValue:
    """Stands for a value that differs from row to row."""

    def __format__(self, _specification: str) -> str:
        return "…"

    def __repr__(self) -> str:
        return "…"


_ANY_VALUE = _AnyValue()


def _generalize(reason: str) -> str:
    """Return a reason with `…` for each value that differs from row to row."""
    if not isinstance(reason, Words):
        return reason
    values = {
        name: _generalize(value) if isinstance(value, Words) else value if name in _KEPT else _ANY_VALUE
        for name, value in reason.values.items()
    }
    return Words(reason.template, **values)
