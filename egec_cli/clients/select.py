"""Select the clients of a bulk command: a client must match all selectors."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from egec_cli import clock
from egec_cli.clients import records
from egec_cli.clients.named import ClientList
from egec_cli.clients.records import ClientRecord, ClientStatus
from egec_cli.context import Context
from egec_cli.errors import UsageError
from egec_cli.store import peewee
from egec_cli.store.models import Client, Credential, CredentialState

if TYPE_CHECKING:
    from egec_cli.clients.named import ListDigest, NamedClients


class Selection(NamedTuple):
    """The selectors of a bulk command.

    Attributes:
        issued_before: a date, or an age such as `90d`, of the current password.
        last_mail_failed: the last mail was refused by the server, or bounced.
        weak_hash: the hash of the current password has a lower bcrypt cost than new ones.
        listed: only clients named there.
        excluded: no clients named there.
        limit: the maximum number of clients.
    """

    everyone: bool = False
    status: ClientStatus | None = None
    never_logged_in: bool = False
    issued_before: str = ""
    last_mail_failed: bool = False
    weak_hash: bool = False
    listed: ClientList | None = None
    excluded: ClientList | None = None
    limit: int | None = None


class Unmatched(NamedTuple):
    """A line of a file that matches no client; a very long value is cut."""

    file: str
    line: int
    value: str


class Selected:
    """The selected clients, as a query. Erased clients are never selected."""

    def __init__(self, context: Context, selection: Selection, *, to_mail: bool = True) -> None:
        """Read the files and check the selectors.

        Args:
            context: the application context.
            selection: the selectors.
            to_mail: the clients will get a mail. A selector is then required, such as `everyone`. Disabled clients are
                left out unless a file names them; those are reported as failed later.

        Raises:
            UsageError: a selector is missing, or cannot match any client.
            InvalidInput: a file is not UTF-8, is invalid CSV or lacks the column.
        """
        if to_mail and not any(selection._replace(excluded=None, limit=None)):
            raise UsageError("no client is selected", "Add --all, or --status, --from or another selector.")
        if to_mail and selection.status is ClientStatus.DISABLED:
            raise UsageError("disabled clients get no mail", "Type `egec client enable CLIENT` first.")
        if selection.limit is not None and selection.limit < 1:
            raise UsageError("invalid limit: {limit}", "Use 1 or more, or omit it.", limit=selection.limit)
        self._context = context
        self._selection = selection
        self._to_mail = to_mail
        # The lists and the other selectors identify a selection when a run continues.
        self.lists: Mapping[str, ListDigest] = {}
        self.described: dict[str, Any] = {
            name: value for name, value in selection._asdict().items() if value and not isinstance(value, ClientList)
        }
        self._issued_before = (
            clock.parse_date_or_age(selection.issued_before, context.clock()) if selection.issued_before else None
        )
        self._named = self._read_files({"listed": selection.listed, "excluded": selection.excluded})

    def _read_files(self, files: Mapping[str, ClientList | None]) -> "NamedClients | None":
        if not any(files.values()):
            return None
        # Imported here: most commands read no such file.
        from egec_cli.clients.named import NamedClients

        named = NamedClients(self._context, files, Client.email.is_null(False))
        self.lists = named.digests
        return named

    def query(self, *columns: Any) -> Any:
        """Return a query of these columns; `SELECTED_LINE` is the number of the line that named the client."""
        query, place = self.query_unordered(*columns)
        return query.order_by(place).limit(self._selection.limit)

    def query_unordered(self, *columns: Any) -> tuple[Any, Any]:
        """Return the same query without order and limit, and the column to order it by."""
        query, place = Client.select(*columns), Client.id
        if self._named is not None and self._selection.listed is not None:
            lines = self._named.query_listed()
            query = Client.select(*(lines.c.line if column is SELECTED_LINE else column for column in columns)).join(
                lines, on=(lines.c.client == Client.id)
            )
            place = lines.c.line
        return query.where(*self._conditions()), place

    def _conditions(self) -> Iterator[Any]:
        selection = self._selection
        yield Client.email.is_null(False)
        if self._to_mail and selection.listed is None:
            # Listed clients who are disabled are reported as failed later.
            yield Client.disabled_at.is_null()
        if selection.status is not None:
            yield records.has_status(selection.status, self._context.clock())
        if selection.never_logged_in:
            yield Client.last_login_at.is_null()
        if self._issued_before is not None:
            yield Client.active_sequence >= Client.revoked_below
            yield _has_credential(Client.active_sequence, Credential.created_at < self._issued_before)
        if selection.last_mail_failed:
            has_bounced = Credential.bounced_at.is_null(False)
            yield _has_credential(Client.last_sequence, (Credential.state == CredentialState.REFUSED) | has_bounced)
        if selection.weak_hash:
            yield records.has_weak_hash(self._context.settings.bcrypt_cost)
        if self._named is not None and selection.excluded is not None:
            yield ~self._named.is_excluded(Client.id)

    def count(self) -> int:
        """Count the selected clients."""
        found: int = self.query(Client.id).count()
        return found

    def count_bounced(self) -> int:
        """Count the selected clients whose address has bounced a mail."""
        return self._count(Client.email_bounced_at.is_null(False))

    def count_without_password(self) -> int:
        """Count the selected clients who have never had an accepted or imported password."""
        return self._count(Client.active_sequence == 0)

    def _count(self, condition: Any) -> int:
        selected = self.query(Client.id).alias("selected")
        found: int = Client.select().join(selected, on=(selected.c.id == Client.id)).where(condition).count()
        return found

    def records(self) -> Iterator[ClientRecord]:
        """Yield the records of the selected clients, one at a time."""
        return records.stream_records(self.query(*records.record_columns(self._context.clock())))

    def unmatched(self) -> Iterator[Unmatched]:
        """Yield the lines that match no client, first those of the list, then those of the exclusions."""
        if self._named is None:
            return
        for is_excluded, line, value in self._named.unmatched():
            file = self._selection.excluded if is_excluded else self._selection.listed
            assert file is not None
            yield Unmatched(file.name, line, value)


# A placeholder in `Selected.query` for the number of the line that named the client.
SELECTED_LINE = peewee.Value(None)


def _has_credential(sequence: Any, condition: Any) -> Any:
    return peewee.fn.EXISTS(
        Credential.select(Credential.id).where(
            (Credential.client == Client.id) & (Credential.sequence == sequence) & condition
        )
    )
