"""Which clients a bulk command means: selectors, all of which must hold, and files that name clients one by one."""

import csv
import hashlib
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, BinaryIO, NamedTuple

from egec_cli import email_address, identifier
from egec_cli.accounts import clients
from egec_cli.accounts.clients import REFERENCE_PREFIX, ClientRecord, Status
from egec_cli.accounts.egec import Egec
from egec_cli.errors import BadInput, Usage
from egec_cli.store import peewee
from egec_cli.store.database import insert_many, tuples
from egec_cli.store.models import Client, Credential, CredentialState, Table

_LINES_AT_A_TIME = 5000
_LONGEST_LINE = 100_000


class ClientList(NamedTuple):
    """A file that names clients, one on each line, or in one column of a table with a header.

    Attributes:
        name: of the file, for messages.
        stream: its bytes.
        column: the header of the column; empty where the whole line is the name.
    """

    name: str
    stream: BinaryIO
    column: str = ""


class Selection(NamedTuple):
    """The selectors of a bulk command. None of them at all selects nobody: `everyone` must be said.

    Attributes:
        issued_before: a date, or an age such as `90d`, of the password in use.
        last_mail_failed: the last mail was refused by the server.
        listed: only who is named there.
        excluded: nobody who is named there.
        limit: at most so many.
    """

    everyone: bool = False
    status: Status | None = None
    never_logged_in: bool = False
    issued_before: str = ""
    last_mail_failed: bool = False
    listed: ClientList | None = None
    excluded: ClientList | None = None
    limit: int | None = None


class Unmatched(NamedTuple):
    """A line of a file that names no client."""

    line: int
    value: str


class _Named(Table):
    """A line of a file that names clients, for as long as the database is open."""

    is_excluded = peewee.BooleanField()
    line = peewee.IntegerField()
    value = peewee.TextField()
    identifier = peewee.TextField(null=True)
    email_key = peewee.TextField(null=True)
    reference = peewee.TextField(null=True)
    client = peewee.IntegerField(null=True)

    class Meta:
        table_name = "named_client"
        temporary = True
        primary_key = False


class Selected:
    """The clients of a selection, as a query; files have been read."""

    def __init__(self, egec: Egec, selection: Selection) -> None:
        """Read the files and check the selectors.

        Raises:
            Usage: there is no selector, or one that can select nobody.
            BadInput: a file is no UTF-8 text, or lacks the column.
        """
        if not any(selection._replace(excluded=None, limit=None)):
            raise Usage("no client is selected", "Add --all, or --status, --from or another selector.")
        if selection.status is Status.DISABLED:
            raise Usage("a disabled client gets no mail", "Type `egec client enable CLIENT` first.")
        self._egec = egec
        self._selection = selection
        # What makes two selections the same, whenever they are made.
        self.described: dict[str, Any] = {
            name: value for name, value in selection._asdict().items() if value and not isinstance(value, ClientList)
        }
        self._issued_before = _moment(selection.issued_before, egec.clock()) if selection.issued_before else None
        _Named.drop_table()
        _Named.create_table()
        for field, listed in (("listed", selection.listed), ("excluded", selection.excluded)):
            if listed is not None:
                digest = hashlib.sha256()
                _remember(egec, listed, digest, is_excluded=field == "excluded")
                self.described[field] = {"sha256": digest.hexdigest(), "column": listed.column}
        _resolve()

    def query(self, *columns: Any) -> Any:
        """Return the query of these columns of the clients; `SELECTED_LINE` is the line that named one."""
        query = Client.select(*columns).where(*self._conditions()).order_by(Client.id)
        if self._selection.listed is not None:
            lines = (
                _Named.select(_Named.client, peewee.fn.MIN(_Named.line).alias("line"))
                .where(~_Named.is_excluded)
                .group_by(_Named.client)
                .alias("listed")
            )
            query = (
                Client.select(*(lines.c.line if column is SELECTED_LINE else column for column in columns))
                .join(lines, on=(lines.c.client == Client.id))
                .where(*self._conditions())
                .order_by(lines.c.line)
            )
        return query.limit(self._selection.limit) if self._selection.limit else query

    def _conditions(self) -> Iterator[Any]:
        selection = self._selection
        yield Client.email.is_null(False)
        if selection.listed is None:
            # One who is named although disabled is told as failed.
            yield Client.disabled_at.is_null()
        if selection.status is not None:
            yield clients.has_status(selection.status, self._egec.clock())
        if selection.never_logged_in:
            yield Client.last_login_at.is_null()
        if self._issued_before is not None:
            yield _has_credential(Client.active_sequence, Credential.created_at < self._issued_before)
        if selection.last_mail_failed:
            yield _has_credential(Client.last_sequence, Credential.state == CredentialState.REFUSED)
        if selection.excluded is not None:
            excluded = _Named.select(_Named.client).where(_Named.is_excluded & _Named.client.is_null(False))
            yield Client.id.not_in(excluded)

    def count(self) -> int:
        """Return how many clients are selected."""
        found: int = self.query(Client.id).count()
        return found

    def records(self) -> Iterator[ClientRecord]:
        """Yield the files of the clients, one at a time."""
        return clients.records(self.query(*clients.COLUMNS), self._egec.clock())

    def unmatched(self) -> Iterator[Unmatched]:
        """Yield the lines of the files that name no client."""
        strangers = _Named.select(_Named.line, _Named.value).where(_Named.client.is_null())
        for line, value in tuples(strangers.order_by(_Named.is_excluded, _Named.line)):
            yield Unmatched(line, value)


# Stands in a query for the number of the line that named the client.
SELECTED_LINE = peewee.Value(None)


def _has_credential(sequence: Any, condition: Any) -> Any:
    return peewee.fn.EXISTS(
        Credential.select(Credential.id).where(
            (Credential.client == Client.id) & (Credential.sequence == sequence) & condition
        )
    )


def _moment(text: str, now: datetime) -> datetime:
    """Return the moment of a date, at its beginning here, or of so many days ago.

    Raises:
        Usage: it is neither.
    """
    if re.fullmatch(r"[0-9]{1,5}d", text):
        return now - timedelta(days=int(text[:-1]))
    try:
        return datetime.strptime(text, "%Y-%m-%d").astimezone().astimezone(UTC)
    except ValueError:
        raise Usage(f"{text!r} is neither a date nor an age", "Write it as 2026-01-31 or as 90d.") from None


def _remember(egec: Egec, listed: ClientList, digest: Any, *, is_excluded: bool) -> None:
    rows = ((is_excluded, line, value, *_keys(value)) for line, value in _values(listed, digest))
    columns = ("is_excluded", "line", "value", "identifier", "email_key", "reference")
    while chunk := list(islice(rows, _LINES_AT_A_TIME)):
        insert_many(egec.database, "named_client", columns, chunk)


def _values(listed: ClientList, digest: Any) -> Iterator[tuple[int, str]]:
    """Yield the names of clients in a file, with their lines' numbers; empty lines are left out."""
    lines = _lines(listed, digest)
    if listed.column:
        yield from _cells(listed, lines)
        return
    for number, line in enumerate(lines, 1):
        if value := line.strip():
            yield number, value


def _cells(listed: ClientList, lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    lines = iter(lines)
    header = next(lines, "")
    delimiter = max(";,\t", key=header.count)
    names = next(csv.reader([header], delimiter=delimiter), [])
    wanted = listed.column.strip().casefold()
    try:
        place = [name.strip().casefold() for name in names].index(wanted)
    except ValueError:
        raise BadInput(
            f"{listed.name} has no column {listed.column!r}", f"Its columns are: {', '.join(names) or 'none'}."
        ) from None
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        for row in reader:
            if len(row) > place and (value := row[place].strip()):
                yield reader.line_num + 1, value
    except csv.Error as error:
        raise BadInput(f"{listed.name}:{reader.line_num + 1}: {error}", "Save it as CSV.") from None


def _lines(listed: ClientList, digest: Any) -> Iterator[str]:
    number = 0
    while line := listed.stream.readline(_LONGEST_LINE):
        number += 1
        digest.update(line)
        try:
            # The mark at the beginning is that of spreadsheets.
            yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise BadInput(f"{listed.name}:{number}: it is not UTF-8 text", "Save it as UTF-8.") from None


def _keys(value: str) -> tuple[str | None, str | None, str | None]:
    """Return how a name may be found: as an identifier, an e-mail, a reference."""
    if value.startswith(REFERENCE_PREFIX):
        return None, None, value.removeprefix(REFERENCE_PREFIX).strip()
    if "@" in value:
        try:
            return None, email_address.checked(value).key, None
        except BadInput:
            return None, None, None
    # Of ten digits, an identifier comes before a reference.
    return (value if identifier.is_identifier(value) else None), None, value


def _resolve() -> None:
    """Find the clients of the names, by the indexes of their files."""
    for field in ("identifier", "email_key", "reference"):
        named, column = getattr(_Named, field), getattr(Client, field)
        found = Client.select(Client.id).where(column == named)
        _Named.update(client=found).where(_Named.client.is_null() & named.is_null(False)).execute()
