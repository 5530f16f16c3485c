"""Compare rows with the existing clients and with each other: create, change, skip or reject.

`RowsTaken` keeps the imported row of each client in an unnamed temporary file, eight bytes per client key, so that
memory stays flat. The file contains line numbers and hashes, no personal data.
"""

import os
import sys
from array import array
from collections.abc import Sequence
from tempfile import TemporaryFile
from typing import NamedTuple, Self

from egec_cli.imports.formats import OnConflict
from egec_cli.imports.rows import InvalidRow, ValidRow
from egec_cli.imports.tables import Row
from egec_cli.store.models import Client
from egec_cli.store.sql import fetch_tuples, in_list
from egec_cli.translation import Words, join_words

_SIZE = 8
_BITS_OF_CONTENT = 32
_CONTENT = (1 << _BITS_OF_CONTENT) - 1


class TakenRow(NamedTuple):
    """The row imported for a client: its first line, and a hash of its fields."""

    line: int
    content: int


class RowsTaken:
    """The rows imported so far: those that created or changed a client, or had nothing to do."""

    def __enter__(self) -> Self:
        self._file = TemporaryFile()
        self._descriptor = self._file.fileno()
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()

    def add(self, keys: Sequence[int], rows: Sequence[ValidRow]) -> None:
        """Record the rows imported for the clients with these keys."""
        if not keys:
            return
        packed = array("Q", [one.row.line << _BITS_OF_CONTENT | _content(one) for one in rows])
        if list(keys) == list(range(keys[0], keys[0] + len(keys))):
            os.pwrite(self._descriptor, packed, keys[0] * _SIZE)
            return
        for key, one in zip(keys, packed, strict=True):
            os.pwrite(self._descriptor, one.to_bytes(_SIZE, sys.byteorder), key * _SIZE)

    def find(self, key: int) -> TakenRow | None:
        """Return the row imported for the client with this key, if any."""
        # Parts of the file that were never written read as zero or empty.
        packed = int.from_bytes(os.pread(self._descriptor, _SIZE, key * _SIZE), sys.byteorder)
        return TakenRow(packed >> _BITS_OF_CONTENT, packed & _CONTENT) if packed else None


def taken_row(row: ValidRow) -> TakenRow:
    """Return the stored form of a row."""
    return TakenRow(row.row.line, _content(row))


def _content(row: ValidRow) -> int:
    # Without the spelling of the e-mail: case makes no difference.
    return hash((row.identifier, row[3:])) & _CONTENT


class _Existing(NamedTuple):
    """An existing client that a row may name."""

    key: int
    identifier: str
    email: str | None
    email_key: str | None
    reference: str | None
    civility: str
    first_name: str
    last_name: str
    language: str
    last_sequence: int


_EXISTING = (
    Client.id, Client.identifier, Client.email, Client.email_key, Client.reference, Client.civility,
    Client.first_name, Client.last_name, Client.language, Client.last_sequence,
)  # fmt: skip


class ClientChange(NamedTuple):
    """A change to an existing client.

    Attributes:
        values: the new values of the columns from `email` to `language`.
        fields: the names of the changed fields.
        previous_email: the previous e-mail; None if the address stays.
    """

    key: int
    identifier: str
    values: tuple[str | None, ...]
    fields: Sequence[str]
    checked: ValidRow
    issued: int
    previous_email: str | None


class Batch:
    """Rows compared with the existing clients and with each other, with the same results as one by one.

    Of two rows for the same client, the first counts. A later one with the same data is skipped; one with different
    data is rejected, however far apart they are.

    If clients may share an e-mail, a row names its client by identifier, then by reference, then by e-mail: the only
    client with it, unless the row has another identifier or reference. Then it creates a further client.

    Attributes:
        new: rows that create a client.
        changes: changes to existing clients.
        unchanged: rows with nothing to do for an existing client, with the client's key.
        skipped: the number of rows with nothing to do.
        faulty: rejected rows.
        rest: rows that can be compared only after the changes are written.
    """

    def __init__(
        self, checked: Sequence[ValidRow], on_conflict: OnConflict, taken: RowsTaken, *, may_share: bool = False
    ) -> None:
        """Compare the rows.

        Args:
            on_conflict: what to do with a row whose client exists with different data.
            taken: the rows imported by earlier batches of the same table.
            may_share: several clients may have the same e-mail.
        """
        self.new: list[ValidRow] = []
        self.changes: list[ClientChange] = []
        self.unchanged: list[tuple[int, ValidRow]] = []
        self.skipped = 0
        self.faulty: list[tuple[Row, InvalidRow]] = []
        self.rest: Sequence[ValidRow] = ()
        self._on_conflict = on_conflict
        self._may_share = may_share
        self._existing = _existing(checked)
        # The same by e-mail, if several clients may have it, and the new rows of this batch.
        self._with_email = _existing_by_email(checked) if may_share else {}
        self._new_with_email: dict[str, list[ValidRow]] = {}
        self._taken = taken
        # The rows of this batch, by the keys of existing clients, and by the names that rows give clients.
        self._taken_by_key: dict[int, TakenRow] = {}
        self._taken_by_name: dict[tuple[str, str], TakenRow] = {}
        # Previous names of changed clients. Their new owners are known once the changes are written.
        self._given_up: set[tuple[str, str]] = set()
        for place, one in enumerate(checked):
            names = _names(one)
            if not self._given_up.isdisjoint(names):
                self.rest = checked[place:]
                break
            try:
                self._sort_in(one, names)
            except InvalidRow as faulty:
                self.faulty.append((one.row, faulty))

    def _sort_in(self, one: ValidRow, names: Sequence[tuple[str, str]]) -> None:
        if self._may_share:
            names = [name for name in names if name[0] != _EMAIL]
        for name in names:
            if (earlier := self._row_taken_for(name)) is not None:
                self._skip_same(one, earlier, name)
                return
        meant = {name: found for name in names if (found := self._existing.get(name)) is not None}
        if not meant and self._may_share:
            self._sort_in_by_email(one, names)
        elif not meant:
            self._add_new(one, names)
        elif len({found.key for found in meant.values()}) > 1:
            owners = (
                Words(
                    "{field} {value!r} belongs to client {identifier}",
                    field=_as_given(one, *name)[0],
                    value=_as_given(one, *name)[1],
                    identifier=found.identifier,
                )
                for name, found in meant.items()
            )
            raise InvalidRow(join_words(", ", owners))
        else:
            (field, value), found = next(iter(meant.items()))
            self._conflict(one, found, field, value)
            self._taken_by_key[found.key] = taken_row(one)

    def _add_new(self, one: ValidRow, names: Sequence[tuple[str, str]]) -> None:
        self.new.append(one)
        self._taken_by_name |= dict.fromkeys(names, taken_row(one))
        self._new_with_email.setdefault(one.email_key, []).append(one)

    def _skip_same(self, one: ValidRow, earlier: TakenRow, name: tuple[str, str]) -> None:
        """Skip a row for the client of an earlier one; reject it if its data is different."""
        if earlier.content != taken_row(one).content:
            words = Words("already used in line {line} with different data", line=earlier.line)
            raise InvalidRow(words, *_as_given(one, *name))
        self.skipped += 1

    def _sort_in_by_email(self, one: ValidRow, names: Sequence[tuple[str, str]]) -> None:
        """Sort in a row whose identifier and reference, if any, are new; several clients may have its e-mail."""
        existing = self._with_email.get(one.email_key, [])
        new = self._new_with_email.get(one.email_key, [])
        number = len(existing) + len(new)
        references = {other.reference for other in existing} | {other.reference for other in new}
        is_further = number != 1 or bool(one.reference and None not in references)
        if number > 1 and not names:
            words = Words("{number} clients have it; give the identifier or the reference", number=number)
            raise InvalidRow(words, "email", one.email)
        if one.identifier or is_further:
            self._add_new(one, names)
        elif new:
            self._skip_same(one, taken_row(new[0]), (_EMAIL, one.email_key))
        elif (earlier := self._row_taken_for_key(existing[0].key)) is not None:
            self._skip_same(one, earlier, (_EMAIL, one.email_key))
        else:
            self._conflict(one, existing[0], _EMAIL, one.email_key)
            self._taken_by_key[existing[0].key] = taken_row(one)

    def _row_taken_for_key(self, key: int) -> TakenRow | None:
        return self._taken_by_key.get(key) or self._taken.find(key)

    def _row_taken_for(self, name: tuple[str, str]) -> TakenRow | None:
        """Return the earlier row of the table for the client with this name, if any."""
        if name in self._taken_by_name:
            return self._taken_by_name[name]
        found = self._existing.get(name)
        if found is None:
            return None
        return self._row_taken_for_key(found.key)

    def _conflict(self, one: ValidRow, found: _Existing, field: str, value: str) -> None:
        if found.email is None:
            raise InvalidRow(Words("reserved: its client was erased"), "identifier", found.identifier)
        before = (
            found.email, found.email_key, found.reference, found.civility, found.first_name, found.last_name,
            found.language,
        )  # fmt: skip
        values = self._values(one, found)
        takes_hash = bool(one.password_hash) and not found.last_sequence
        same_identifier = one.identifier in {None, found.identifier}
        if (values == before and same_identifier and not takes_hash) or self._on_conflict is OnConflict.SKIP:
            self.skipped += 1
            self.unchanged.append((found.key, one))
            return
        if not same_identifier:
            raise InvalidRow(
                Words("the identifier of client {identifier} never changes", identifier=found.identifier),
                "identifier",
                one.identifier or "",
            )
        changed = [name for name, was, is_now in zip(_OF_VALUES, before, values, strict=True) if was != is_now]
        if takes_hash:
            changed.append("password_hash")
        if self._on_conflict is OnConflict.FAIL:
            raise InvalidRow(
                Words(
                    "already used by client {identifier} with different data: {fields}",
                    identifier=found.identifier,
                    fields=", ".join(dict.fromkeys(changed)),
                ),
                *_as_given(one, field, value),
            )
        previous_email = None if one.email_key == found.email_key else found.email
        self.changes.append(
            ClientChange(found.key, found.identifier, values, changed, one, found.last_sequence, previous_email)
        )
        now = {"email_key": values[1], "reference": values[2], "identifier": found.identifier}
        self._taken_by_name |= {(field, value): taken_row(one) for field, value in now.items() if value is not None}
        previous = ((field, getattr(found, field)) for field in now)
        self._given_up |= {(field, value) for field, value in previous if value is not None and value != now[field]}
        if self._may_share:
            # Later rows with these e-mails may now mean another client, or a further one.
            self._given_up |= {(_EMAIL, key) for key in (found.email_key, values[1]) if key is not None}

    def _values(self, one: ValidRow, found: _Existing) -> tuple[str | None, ...]:
        """Return the new values: from the row if it has a cell for the field, otherwise the present ones."""
        # Case does not make a different address.
        same_address = one.email_key == found.email_key
        email = (found.email, found.email_key) if same_address else (one.email, one.email_key)
        others = (
            getattr(found if field in one.row.absent else one, field)
            for field in ("reference", "civility", "first_name", "last_name", "language")
        )
        return (*email, *others)


# The key of an e-mail changes with it.
_OF_VALUES = ("email", "email", "reference", "civility", "first_name", "last_name", "language")
# By which a row names an existing client.
_EMAIL = "email_key"
_NAMES = (_EMAIL, "reference", "identifier")


def _names(one: ValidRow) -> list[tuple[str, str]]:
    """Return the names by which a row identifies a client."""
    return [(field, value) for field in _NAMES if (value := getattr(one, field)) is not None]


def _as_given(one: ValidRow, field: str, value: str) -> tuple[str, str]:
    """Return the field and the value of a name as written in the row."""
    return ("email", one.email) if field == _EMAIL else (field, value)


def _existing(checked: Sequence[ValidRow]) -> dict[tuple[str, str], _Existing]:
    wanted: dict[str, list[str]] = {field: [] for field in _NAMES}
    for one in checked:
        for field, value in _names(one):
            wanted[field].append(value)
    found = {}
    for field, values in wanted.items():
        place = _Existing._fields.index(field)
        for row in fetch_tuples(Client.select(*_EXISTING).where(in_list(getattr(Client, field), values))):
            found[field, row[place]] = _Existing(*row)
    return found


def _existing_by_email(checked: Sequence[ValidRow]) -> dict[str, list[_Existing]]:
    query = Client.select(*_EXISTING).where(in_list(Client.email_key, [one.email_key for one in checked]))
    found: dict[str, list[_Existing]] = {}
    for row in fetch_tuples(query):
        one = _Existing(*row)
        found.setdefault(str(one.email_key), []).append(one)
    return found
