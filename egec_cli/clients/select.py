"""Which clients a bulk command means: selectors, all of which must hold."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from egec_cli import clock
from egec_cli.clients import records as clients
from egec_cli.clients.named import ClientList
from egec_cli.clients.records import ClientRecord, ClientStatus
from egec_cli.context import Context
from egec_cli.errors import UsageError
from egec_cli.store import peewee
from egec_cli.store.models import Client, Credential, CredentialState

if TYPE_CHECKING:
    from egec_cli.clients.named import ListDigest, NamedClients


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
    status: ClientStatus | None = None
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


class Selected:
    """The clients of a selection, as a query; files have been read. One who was erased is never selected."""

    def __init__(self, context: Context, selection: Selection, *, to_mail: bool = True) -> None:
        """Read the files and check the selectors.

        Args:
            context: where.
            selection: the selectors.
            to_mail: they are to get a mail. So no selector at all selects nobody: `everyone` must be said; and who is
                disabled is left out, unless a file names the client, who is told as failed then.

        Raises:
            UsageError: there is no selector, or one that can select nobody.
            InvalidInput: a file is no UTF-8 text, or no CSV, or lacks the column.
        """
        if to_mail and not any(selection._replace(excluded=None, limit=None)):
            raise UsageError("no client is selected", "Add --all, or --status, --from or another selector.")
        if to_mail and selection.status is ClientStatus.DISABLED:
            raise UsageError("a disabled client gets no mail", "Type `egec client enable CLIENT` first.")
        if selection.limit is not None and selection.limit < 1:
            raise UsageError(
                "a limit of {limit} selects nobody", "Use 1 or more, or leave it out.", limit=selection.limit
            )
        self._context = context
        self._selection = selection
        self._to_mail = to_mail
        # What makes two selections the same, whenever they are made: the lists, and all else.
        self.lists: Mapping[str, ListDigest] = {}
        self.described: dict[str, Any] = {
            name: value for name, value in selection._asdict().items() if value and not isinstance(value, ClientList)
        }
        self._issued_before = (
            clock.parse_date_or_age(selection.issued_before, context.clock()) if selection.issued_before else None
        )
        self._named = self._read({"listed": selection.listed, "excluded": selection.excluded})

    def _read(self, files: Mapping[str, ClientList | None]) -> "NamedClients | None":
        if not any(files.values()):
            return None
        # Imported here: most commands read no file.
        from egec_cli.clients.named import NamedClients

        named = NamedClients(self._context, files, Client.email.is_null(False))
        self.lists = named.digests
        return named

    def query(self, *columns: Any) -> Any:
        """Return the query of these columns of the clients; `SELECTED_LINE` is the line that named one."""
        query, place = self.unordered(*columns)
        return query.order_by(place).limit(self._selection.limit)

    def unordered(self, *columns: Any) -> tuple[Any, Any]:
        """Return the same query without an order and a limit, and the column by which it is to be ordered."""
        query, place = Client.select(*columns), Client.id
        if self._named is not None and self._selection.listed is not None:
            lines = self._named.listed()
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
            yield clients.has_status(selection.status, self._context.clock())
        if selection.never_logged_in:
            yield Client.last_login_at.is_null()
        if self._issued_before is not None:
            yield Client.active_sequence >= Client.revoked_below
            yield _has_credential(Client.active_sequence, Credential.created_at < self._issued_before)
        if selection.last_mail_failed:
            came_back = Credential.bounced_at.is_null(False)
            yield _has_credential(Client.last_sequence, (Credential.state == CredentialState.REFUSED) | came_back)
        if selection.weak_hash:
            yield clients.has_weak_hash(self._context.settings.bcrypt_cost)
        if self._named is not None and selection.excluded is not None:
            yield ~self._named.excludes(Client.id)

    def count(self) -> int:
        """Return how many clients are selected."""
        found: int = self.query(Client.id).count()
        return found

    def count_bounced(self) -> int:
        """Return how many of them have an address from which a mail came back."""
        return self._count(Client.email_bounced_at.is_null(False))

    def count_without_password(self) -> int:
        """Return how many of them have never had an accepted or imported password."""
        return self._count(Client.active_sequence == 0)

    def _count(self, condition: Any) -> int:
        selected = self.query(Client.id).alias("selected")
        found: int = Client.select().join(selected, on=(selected.c.id == Client.id)).where(condition).count()
        return found

    def records(self) -> Iterator[ClientRecord]:
        """Yield the files of the clients, one at a time."""
        return clients.stream_records(self.query(*clients.record_columns(self._context.clock())))

    def unmatched(self) -> Iterator[Unmatched]:
        """Yield the lines of the files that name no client, those of the list before those of the exceptions."""
        if self._named is None:
            return
        for is_excluded, line, value in self._named.strangers():
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
