"""Which clients a bulk command means: selectors, all of which must hold, and files that name clients one by one."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import Any, BinaryIO, NamedTuple

from egec_cli import email_address, identifier
from egec_cli.accounts import clients, fields
from egec_cli.accounts.clients import REFERENCE_PREFIX, ClientRecord, Status
from egec_cli.accounts.egec import Egec
from egec_cli.errors import BadInput, Usage
from egec_cli.store import peewee
from egec_cli.store.database import insert_many, tuples
from egec_cli.store.models import Client, Credential, CredentialState, Table

_LINES_AT_A_TIME = 5000
# So many that a transaction is soon over, so few that the commits take the smaller part of the time.
_CHANGED_AT_A_TIME = 500
_LONGEST_LINE = 100_000
# No e-mail and no reference is as long, in whatever form.
_LONGEST_NAME = 1000
# What `egec` and others put before a cell that a spreadsheet would take for a formula.
_GUARD = re.compile(r"'(?='*[=+\-@])")


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
    """The selectors of a command that means many clients, all of which must hold.

    Attributes:
        issued_before: a date, or an age such as `90d`, of the password in use.
        last_mail_failed: the last mail was refused by the server, or came back.
        weak_hash: the hash of the password in use is of a lower cost than that of new ones.
        listed: only who is named there.
        excluded: nobody who is named there.
        limit: at most so many.
    """

    everyone: bool = False
    status: Status | None = None
    never_logged_in: bool = False
    issued_before: str = ""
    last_mail_failed: bool = False
    weak_hash: bool = False
    listed: ClientList | None = None
    excluded: ClientList | None = None
    limit: int | None = None


class Unmatched(NamedTuple):
    """A line of a file that names no client; a very long value is cut."""

    file: str
    line: int
    value: str


class _Named(Table):
    """A line of a file that names clients, for as long as the database is open."""

    is_excluded = peewee.BooleanField()
    line = peewee.IntegerField(index=True)
    value = peewee.TextField()
    identifier = peewee.TextField(null=True)
    email_key = peewee.TextField(null=True)
    reference = peewee.TextField(null=True)
    client = peewee.IntegerField(null=True, index=True)

    class Meta:
        table_name = "named_client"
        temporary = True
        primary_key = False


class Selected:
    """The clients of a selection, as a query; files have been read. One who was erased is never selected."""

    def __init__(self, egec: Egec, selection: Selection, *, to_mail: bool = True) -> None:
        """Read the files and check the selectors.

        Args:
            egec: where.
            selection: the selectors.
            to_mail: they are to get a mail. So no selector at all selects nobody: `everyone` must be said; and who is
                disabled is left out, unless a file names the client, who is told as failed then.

        Raises:
            Usage: there is no selector, or one that can select nobody.
            BadInput: a file is no UTF-8 text, or no CSV, or lacks the column.
        """
        if to_mail and not any(selection._replace(excluded=None, limit=None)):
            raise Usage("no client is selected", "Add --all, or --status, --from or another selector.")
        if to_mail and selection.status is Status.DISABLED:
            raise Usage("a disabled client gets no mail", "Type `egec client enable CLIENT` first.")
        if selection.limit is not None and selection.limit < 1:
            raise Usage(f"a limit of {selection.limit} selects nobody", "Use 1 or more, or leave it out.")
        self._egec = egec
        self._selection = selection
        self._to_mail = to_mail
        # What makes two selections the same, whenever they are made.
        self.described: dict[str, Any] = {
            name: value for name, value in selection._asdict().items() if value and not isinstance(value, ClientList)
        }
        self._issued_before = _moment(selection.issued_before, egec.clock()) if selection.issued_before else None
        files = {"listed": selection.listed, "excluded": selection.excluded}
        if any(files.values()):
            self.described |= _remember(egec, files)
            _resolve(Client.email.is_null(False))

    def query(self, *columns: Any) -> Any:
        """Return the query of these columns of the clients; `SELECTED_LINE` is the line that named one."""
        query, place = self.unordered(*columns)
        return query.order_by(place).limit(self._selection.limit)

    def unordered(self, *columns: Any) -> tuple[Any, Any]:
        """Return the same query without an order and a limit, and the column by which it is to be ordered."""
        query, place = Client.select(*columns), Client.id
        if self._selection.listed is not None:
            lines = (
                _Named.select(_Named.client, peewee.fn.MIN(_Named.line).alias("line"))
                .where(~_Named.is_excluded)
                .group_by(_Named.client)
                .alias("listed")
            )
            query = Client.select(*(lines.c.line if column is SELECTED_LINE else column for column in columns)).join(
                lines, on=(lines.c.client == Client.id)
            )
            place = lines.c.line
        return query.where(*self._conditions()), place

    def _conditions(self) -> Iterator[Any]:
        selection = self._selection
        yield Client.email.is_null(False)
        if self._to_mail and selection.listed is None:
            # One who is named although disabled is told as failed.
            yield Client.disabled_at.is_null()
        if selection.status is not None:
            yield clients.has_status(selection.status, self._egec.clock())
        if selection.never_logged_in:
            yield Client.last_login_at.is_null()
        if self._issued_before is not None:
            yield Client.active_sequence >= Client.revoked_below
            yield _has_credential(Client.active_sequence, Credential.created_at < self._issued_before)
        if selection.last_mail_failed:
            came_back = Credential.bounced_at.is_null(False)
            yield _has_credential(Client.last_sequence, (Credential.state == CredentialState.REFUSED) | came_back)
        if selection.weak_hash:
            yield clients.has_weak_hash(self._egec.settings.bcrypt_cost)
        if selection.excluded is not None:
            # PostgreSQL would look through the whole of a long list again for each client if this were a NOT IN.
            yield ~peewee.fn.EXISTS(_Named.select(_Named.line).where((_Named.client == Client.id) & _Named.is_excluded))

    def count(self) -> int:
        """Return how many clients are selected."""
        found: int = self.query(Client.id).count()
        return found

    def count_bounced(self) -> int:
        """Return of how many the address is one from which a mail came back."""
        selected = self.query(Client.id).alias("selected")
        marked = Client.select().join(selected, on=(selected.c.id == Client.id))
        found: int = marked.where(Client.email_bounced_at.is_null(False)).count()
        return found

    def records(self) -> Iterator[ClientRecord]:
        """Yield the files of the clients, one at a time."""
        return clients.records(self.query(*clients.columns(self._egec.clock())))

    def unmatched(self) -> Iterator[Unmatched]:
        """Yield the lines of the files that name no client, those of the list before those of the exceptions."""
        if not (self._selection.listed or self._selection.excluded):
            return
        strangers = _Named.select(_Named.is_excluded, _Named.line, _Named.value).where(_Named.client.is_null())
        for is_excluded, line, value in tuples(strangers.order_by(_Named.is_excluded, _Named.line)):
            file = self._selection.excluded if is_excluded else self._selection.listed
            assert file is not None
            yield Unmatched(file.name, line, value)


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


class NamedLine(NamedTuple):
    """A line of a file, what it says, and the key of the client whom it names, if it names one."""

    line: int
    value: str
    client: int | None


def lines_of(egec: Egec, listed: ClientList) -> Iterator[Sequence[NamedLine]]:
    """Read a file, and yield its lines, so many at a time, in their order; who was erased is named by the identifier.

    Raises:
        BadInput: it is no UTF-8 text, or no CSV, or lacks the column.
    """
    _remember(egec, {"listed": listed})
    _resolve()
    last = 0
    while lines := [NamedLine(*row) for row in tuples(_next_lines(last))]:
        yield lines
        last = lines[-1].line


def _next_lines(last: int) -> Any:
    named = _Named.select(_Named.line, _Named.value, _Named.client).where(_Named.line > last)
    return named.order_by(_Named.line).limit(_CHANGED_AT_A_TIME)


def _remember(egec: Egec, files: Mapping[str, ClientList | None]) -> dict[str, Any]:
    """Note what the files name in a table, and return by what each file is known again."""
    # Imported here: most commands read no file.
    import hashlib

    _Named.drop_table()
    _Named.create_table()
    known_by = {}
    for field, file in files.items():
        if file is not None:
            digest = hashlib.sha256()
            _note(egec, file, digest, is_excluded=field == "excluded")
            known_by[field] = {"sha256": digest.hexdigest(), "column": file.column}
    return known_by


def _note(egec: Egec, listed: ClientList, digest: Any, *, is_excluded: bool) -> None:
    rows = ((is_excluded, line, value[:_LONGEST_NAME], *_keys(value)) for line, value in _values(listed, digest))
    columns = ("is_excluded", "line", "value", "identifier", "email_key", "reference")
    while chunk := list(islice(rows, _LINES_AT_A_TIME)):
        insert_many(egec.database, "named_client", columns, chunk)


def _values(listed: ClientList, digest: Any) -> Iterator[tuple[int, str]]:
    """Yield the names of clients in a file, with the numbers of the lines where they begin; empty ones are left out."""
    lines = _lines(listed, digest)
    if listed.column:
        yield from _cells(listed, lines)
        return
    for number, line in enumerate(lines, 1):
        value = line.strip()
        if "\r" in value:
            raise BadInput(
                f"{listed.name}:{number}: it has a carriage return within a line",
                "Save it with the line breaks of Unix or Windows.",
            )
        if value:
            yield number, value


def _cells(listed: ClientList, lines: Iterator[str]) -> Iterator[tuple[int, str]]:
    # Imported here: most commands read no file.
    import csv

    first = next(lines, "")
    # What stands in quotes does not tell what parts the cells.
    delimiter = max(";,\t", key=re.sub(r'"[^"]*"', "", first).count)
    # Strict: a quote that nothing closes would else swallow the lines below it.
    reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    try:
        place = _place(listed, next(reader, []))
        number = reader.line_num + 1
        for row in reader:
            # A row that lacks only this cell is told as one that names nobody.
            if any(cell.strip() for cell in row):
                yield number, _GUARD.sub("", row[place].strip(), count=1) if len(row) > place else ""
            number = reader.line_num + 1
    except csv.Error as error:
        raise BadInput(f"{listed.name}:{reader.line_num}: {error}", "Save it as CSV.") from None


def _place(listed: ClientList, header: list[str]) -> int:
    try:
        return [fields.composed(name).casefold() for name in header].index(fields.composed(listed.column).casefold())
    except ValueError:
        raise BadInput(
            f"{listed.name} has no column {listed.column!r}", f"Its columns are: {', '.join(header) or 'none'}."
        ) from None


def _lines(listed: ClientList, digest: Any) -> Iterator[str]:
    number = 0
    while line := listed.stream.readline(_LONGEST_LINE + 1):
        number += 1
        digest.update(line)
        if len(line) > _LONGEST_LINE:
            raise BadInput(
                f"{listed.name}:{number}: the line is longer than {_LONGEST_LINE} bytes",
                "Name one client on each line.",
            )
        try:
            text = line.decode()
        except UnicodeDecodeError:
            text = ""
        # PostgreSQL takes no NUL; a file that has one is UTF-16 or no text at all.
        if not text or "\0" in text:
            raise BadInput(f"{listed.name}:{number}: it is not UTF-8 text", "Save it as UTF-8.")
        # The mark that spreadsheets begin a file with; where files were joined, it is anywhere.
        yield text.removeprefix("\ufeff")


def _keys(value: str) -> tuple[str | None, str | None, str | None]:
    """Return how a name may be found: as an identifier, else as an e-mail, else as a reference."""
    if len(value) > _LONGEST_NAME:
        return None, None, None
    reference = fields.composed(value)
    if reference.startswith(REFERENCE_PREFIX):
        return None, None, reference.removeprefix(REFERENCE_PREFIX).strip()
    email_key = None
    if "@" in value:
        # What is no address may be a reference all the same.
        with suppress(BadInput):
            email_key = email_address.checked(value).key
    return (value if identifier.is_identifier(value) else None), email_key, reference


def _resolve(*conditions: Any) -> None:
    """Find the clients of the names, by the indexes of their files, among those for whom these conditions hold."""
    for field in ("identifier", "email_key", "reference"):
        named, column = getattr(_Named, field), getattr(Client, field)
        found = Client.select(Client.id).where(column == named, *conditions)
        _Named.update(client=found).where(_Named.client.is_null() & named.is_null(False)).execute()
