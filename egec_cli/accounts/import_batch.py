"""Rows of a table compared with the clients that exist, and with each other."""

from collections.abc import Sequence
from typing import NamedTuple

from egec_cli.accounts.import_options import OnConflict
from egec_cli.accounts.import_rows import Checked, Faulty
from egec_cli.accounts.rows_taken import RowsTaken, TakenRow, taken_row
from egec_cli.accounts.tables import Row
from egec_cli.store.database import among, tuples
from egec_cli.store.models import Client
from egec_cli.translation import Words, joined


class _Existing(NamedTuple):
    """What is there of a client whom a row may mean."""

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


class Change(NamedTuple):
    """A client's file that a row changes: `values` are those of its columns from `email` to `language`.

    Attributes:
        fields: the names of those that change.
        former_email: the e-mail that another address replaces; None where the address stays.
    """

    key: int
    identifier: str
    values: tuple[str | None, ...]
    fields: Sequence[str]
    checked: Checked
    issued: int
    former_email: str | None


class Batch:
    """Rows compared with the clients that exist, and with each other, as if they were taken one after the other.

    Of two rows that mean the same client, the first one counts: a later one that says the same has nothing left to do,
    and one that says anything else is rejected, however far apart they are.

    Attributes:
        new: rows that create a client.
        changes: changes to existing clients.
        unchanged: rows with nothing to do for an existing client, with the client's key.
        skipped: the number of rows with nothing to do.
        faulty: rows that are rejected.
        rest: rows that can be compared only after the changes have been written.
    """

    def __init__(self, checked: Sequence[Checked], on_conflict: OnConflict, taken: RowsTaken) -> None:
        """Compare rows of one table.

        Args:
            checked: the rows.
            on_conflict: what to do with a row whose client exists with other data.
            taken: the rows that earlier batches of the same table have taken.
        """
        self.new: list[Checked] = []
        self.changes: list[Change] = []
        self.unchanged: list[tuple[int, Checked]] = []
        self.skipped = 0
        self.faulty: list[tuple[Row, Faulty]] = []
        self.rest: Sequence[Checked] = ()
        self._on_conflict = on_conflict
        self._existing = _existing(checked)
        self._taken = taken
        # What this batch has taken: by the keys of existing clients, and by the names that rows give clients.
        self._taken_by_key: dict[int, TakenRow] = {}
        self._taken_by_name: dict[tuple[str, str], TakenRow] = {}
        # Former names of clients. Whoever they mean now is known once the changes have been written.
        self._given_up: set[tuple[str, str]] = set()
        for place, one in enumerate(checked):
            names = _names(one)
            if not self._given_up.isdisjoint(names):
                self.rest = checked[place:]
                break
            try:
                self._sort_in(one, names)
            except Faulty as faulty:
                self.faulty.append((one.row, faulty))

    def _sort_in(self, one: Checked, names: Sequence[tuple[str, str]]) -> None:
        for name in names:
            earlier = self._row_taken_for(name)
            if earlier is not None:
                if earlier.content != taken_row(one).content:
                    raise Faulty(
                        Words("already used in line {line}, with other data", line=earlier.line),
                        *_as_given(one, *name),
                    )
                self.skipped += 1
                return
        meant = {name: found for name in names if (found := self._existing.get(name)) is not None}
        if not meant:
            self.new.append(one)
            self._taken_by_name |= dict.fromkeys(names, taken_row(one))
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
            raise Faulty(joined(", ", owners))
        else:
            (field, value), found = next(iter(meant.items()))
            self._conflict(one, found, field, value)
            self._taken_by_key[found.key] = taken_row(one)

    def _row_taken_for(self, name: tuple[str, str]) -> TakenRow | None:
        """Return the earlier row of the table that was taken for the client with this name."""
        if name in self._taken_by_name:
            return self._taken_by_name[name]
        found = self._existing.get(name)
        if found is None:
            return None
        return self._taken_by_key.get(found.key) or self._taken.find(found.key)

    def _conflict(self, one: Checked, found: _Existing, field: str, value: str) -> None:
        if found.email is None:
            raise Faulty(Words("that of an erased client, reserved for ever"), "identifier", found.identifier)
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
            raise Faulty(
                Words("it is client {identifier}, whose identifier never changes", identifier=found.identifier),
                "identifier",
                one.identifier or "",
            )
        if self._on_conflict is OnConflict.FAIL:
            raise Faulty(
                Words("already used by client {identifier}, with other data", identifier=found.identifier),
                *_as_given(one, field, value),
            )
        changed = [name for name, was, is_now in zip(_OF_VALUES, before, values, strict=True) if was != is_now]
        if takes_hash:
            changed.append("password_hash")
        former_email = None if one.email_key == found.email_key else found.email
        self.changes.append(
            Change(found.key, found.identifier, values, changed, one, found.last_sequence, former_email)
        )
        now = {"email_key": values[1], "reference": values[2], "identifier": found.identifier}
        self._taken_by_name |= {(field, value): taken_row(one) for field, value in now.items() if value is not None}
        former = ((field, getattr(found, field)) for field in now)
        self._given_up |= {(field, value) for field, value in former if value is not None and value != now[field]}

    def _values(self, one: Checked, found: _Existing) -> tuple[str | None, ...]:
        """Return what the file would say: what the row has a cell for is taken from there."""
        # Capitals in an address make no other address.
        same_address = one.email_key == found.email_key
        email = (found.email, found.email_key) if same_address else (one.email, one.email_key)
        others = (
            getattr(found if field in one.row.unsaid else one, field)
            for field in ("reference", "civility", "first_name", "last_name", "language")
        )
        return (*email, *others)


# The key of an e-mail changes with it.
_OF_VALUES = ("email", "email", "reference", "civility", "first_name", "last_name", "language")
# By which a row may mean a client who is there.
_NAMES = ("email_key", "reference", "identifier")


def _names(one: Checked) -> list[tuple[str, str]]:
    """Return the names by which a row means a client."""
    return [(field, value) for field in _NAMES if (value := getattr(one, field)) is not None]


def _as_given(one: Checked, field: str, value: str) -> tuple[str, str]:
    """Return the field and the value of a name as the row has them."""
    return ("email", one.email) if field == "email_key" else (field, value)


def _existing(checked: Sequence[Checked]) -> dict[tuple[str, str], _Existing]:
    wanted: dict[str, list[str]] = {field: [] for field in _NAMES}
    for one in checked:
        for field, value in _names(one):
            wanted[field].append(value)
    found = {}
    for field, values in wanted.items():
        place = _Existing._fields.index(field)
        for row in tuples(Client.select(*_EXISTING).where(among(getattr(Client, field), values))):
            found[field, row[place]] = _Existing(*row)
    return found
