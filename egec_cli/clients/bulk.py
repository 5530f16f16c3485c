"""Change the selected clients: preview them, and walk through them in batches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from egec_cli import clock
from egec_cli.clients import records
from egec_cli.clients.change import DUE, ChangeOutcome, ChangeRecord, Guard
from egec_cli.clients.records import ClientRecord, ClientStatus
from egec_cli.clients.select import SELECTED_LINE, Selected, describe_selectors, explain_selectors
from egec_cli.context import Context
from egec_cli.credentials import validity
from egec_cli.store.models import Client
from egec_cli.store.sql import fetch_rows, stream_rows
from egec_cli.translation import Words, join_words

# Few enough for memory; many, because a sort by key may be repeated for each page.
_READ_AT_A_TIME = 10_000
# A compromise: short transactions, but not too many commits.
_CHANGED_AT_A_TIME = 500


class PlannedChange(NamedTuple):
    """A client who would be changed. Times are RFC 3339 in UTC.

    Attributes:
        identifier: ten digits; never changes.
        email: the registered e-mail.
        reference: the number of the client in another system.
        first_name: may be empty.
        last_name: of a person or a firm; may be empty.
        status: the present status.
        last_login_at: the time of the last accepted login.
        created_at: when the client was created.
        line: the line of the file that names the client; None without a file.
        why: the facts for which the selectors select the client.
    """

    identifier: str
    email: str | None
    reference: str | None
    first_name: str
    last_name: str
    status: ClientStatus
    last_login_at: str | None
    created_at: str
    line: int | None
    why: str


# The key of a selected client, the line that names the client, if any, and the place in the order of the selection.
BatchEntry = tuple[int, int | None, int]


class Changing:
    """The selected clients on which a change has an effect: those who are already disabled are not disabled again."""

    def __init__(self, selected: Selected, outcome: ChangeOutcome, due: Any = None) -> None:
        """Combine a selection with a change, by the outcome that it has.

        Args:
            due: the condition under which the change has an effect (default: that of the outcome).
        """
        self._selected = selected
        self._due = DUE[outcome] if due is None else due
        selectors = dict(selected.selectors())
        if outcome is ChangeOutcome.ERASED and "email_domain" in selectors:
            # The event outlives the client's data, and a domain may be that of a person.
            selectors["email_domain"] = "DOMAIN"
        self._selection = describe_selectors(selectors)

    @property
    def guard(self) -> Guard:
        """The conditions that must still hold in the transaction that changes a client."""
        return Guard((self._due, *self._selected.conditions()), self._selection)

    def count(self) -> int:
        """Count the clients."""
        number: int = self._query(Client.id)[0].count()
        limit = self._selected.limit
        return number if limit is None else min(number, limit)

    def count_where(self, condition: Any) -> int:
        """Count those of the clients who meet a condition."""
        query, place = self._query(Client.id)
        chosen = query.order_by(place).limit(self._selected.limit).alias("chosen")
        number: int = Client.select().join(chosen, on=(chosen.c.id == Client.id)).where(condition).count()
        return number

    def preview(self, context: Context, *, at_most: int | None = None) -> Iterator[PlannedChange]:
        """Yield the clients, one at a time, each with the reason for the selection."""
        limits = [limit for limit in (at_most, self._selected.limit) if limit is not None]
        now = validity.local_moment(context)
        query, place = self._query(*records.record_columns(now), SELECTED_LINE)
        for *row, line in stream_rows(query.order_by(place).limit(min(limits, default=None))):
            one = records.row_to_record(tuple(row), now)
            yield PlannedChange(
                one.identifier,
                one.email,
                one.reference,
                one.first_name,
                one.last_name,
                one.status,
                one.last_login_at,
                one.created_at,
                line,
                join_words(", ", _reasons(self._selected, one, line, context.settings.timezone)),
            )

    def read_batches(self, *, at_most: int | None = None) -> Iterator[Sequence[BatchEntry]]:
        """Yield the clients in batches, in the order of the selection; no transaction is open meanwhile.

        A client may change between the reading and the use of a batch, so check `guard` again.

        Args:
            at_most: end after this number of clients.
        """
        limits = [limit for limit in (at_most, self._selected.limit) if limit is not None]
        left = min(limits, default=None)
        last: int | None = None
        while left is None or left > 0:
            page = self._read_page(last, _READ_AT_A_TIME if left is None else min(left, _READ_AT_A_TIME))
            for first in range(0, len(page), _CHANGED_AT_A_TIME):
                yield page[first : first + _CHANGED_AT_A_TIME]
            if not page:
                return
            last = page[-1][2]
            left = None if left is None else left - len(page)

    def _read_page(self, last: int | None, limit: int) -> Sequence[BatchEntry]:
        query, place = self._query(Client.id, SELECTED_LINE)
        query = query.select_extend(place)
        if last is not None:
            query = query.where(place > last)
        return cast(list[BatchEntry], fetch_rows(query.order_by(place).limit(limit)))

    def _query(self, *columns: Any) -> tuple[Any, Any]:
        query, place = self._selected.query_unordered(*columns)
        return query.where(self._due), place


def _reasons(selected: Selected, client: ClientRecord, line: int | None, zone: str) -> Iterator[str]:
    if line is not None:
        yield Words("line {line} of the list", line=line)
    selectors = selected.described
    if "last_login_before" in selectors:
        yield Words("last login {time}", time=_day_of(client.last_login_at, zone))
    if "created_before" in selectors or "created_after" in selectors:
        yield Words("created {time}", time=_day_of(client.created_at, zone))
    rest = {name: value for name, value in selectors.items() if name not in _WITH_DATES}
    if rest:
        yield explain_selectors(rest, ", ")


# Selectors for which the client's own date is the reason; a limit is none.
_WITH_DATES = {"last_login_before", "created_before", "created_after", "limit"}


def _day_of(moment: str | None, zone: str) -> str:
    """Return the day of a moment where the dates of the selectors begin and end."""
    return "" if moment is None else clock.to_zone(clock.parse_time(moment), zone).date().isoformat()


def change_selected(
    context: Context,
    changing: Changing,
    change: Callable[[Context, Sequence[int], Guard], Mapping[int, ChangeRecord]],
    *,
    at_most: int | None = None,
    before_batch: Callable[[], None] = lambda: None,
) -> Iterator[ChangeRecord]:
    """Change the selected clients in batches, each in a transaction of its own, and yield the results.

    A client who no longer matches the selectors when it is changed is left out. After an interruption, the same call
    does the rest.

    Args:
        change: changes those of the clients with these keys that pass a guard; returns the results by key.
        at_most: end after this number of clients.
        before_batch: called before each batch is changed, when the results of the previous one were taken.
    """
    guard = changing.guard
    for batch in changing.read_batches(at_most=at_most):
        before_batch()
        results = change(context, [client for client, _, _ in batch], guard)
        for client, line, _ in batch:
            result = results.get(client)
            if result is not None:
                yield result if line is None else result._replace(line=line)
