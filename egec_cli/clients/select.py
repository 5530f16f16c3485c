"""Select the clients of a bulk command, who must match all selectors, and describe selectors in words."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property, reduce
from operator import and_
from typing import Any, NamedTuple

from egec_cli import clock, email_address
from egec_cli.clients import records
from egec_cli.clients.name_files import ClientList, ListDigest, NamedClients
from egec_cli.clients.records import ClientRecord, ClientStatus
from egec_cli.context import Context
from egec_cli.credentials import validity
from egec_cli.errors import InvalidInput, UsageError, quoted
from egec_cli.store import peewee
from egec_cli.store.models import MAIL_HAS_FAILED, Client, Credential
from egec_cli.store.sql import email_domain, fetch_tuples, in_list
from egec_cli.translation import Words, count_words, join_words

# The selectors that are files.
LISTS = frozenset({"listed", "excluded"})
# The options of selectors that have another name than the selector.
_OPTIONS = {"everyone": "--all", "listed": "--from", "excluded": "--exclude"}
# As many keys as a database looks up one by one in a moment.
_FEW_KEYS = 10_000


class Selection(NamedTuple):
    """The selectors of a bulk command.

    Attributes:
        last_login_before: a date in EGEC_TIMEZONE, or an age such as `2y`, of the last login; clients who have never
            logged in have none, and are not selected.
        created_before: the same of the client record.
        created_after: the same; a record of that very moment is selected.
        email_domain: the domain of the e-mail, in any case or form; subdomains are other domains.
        issued_before: a date or an age of the current password.
        last_mail_failed: the last mail was refused by the server, or bounced.
        weak_hash: the hash of the current password has a lower bcrypt cost than new ones.
        listed: only clients named there.
        excluded: no clients named there.
        limit: the maximum number of clients.
    """

    everyone: bool = False
    status: ClientStatus | None = None
    never_logged_in: bool = False
    last_login_before: str = ""
    created_before: str = ""
    created_after: str = ""
    email_domain: str = ""
    issued_before: str = ""
    last_mail_failed: bool = False
    weak_hash: bool = False
    listed: ClientList | None = None
    excluded: ClientList | None = None
    limit: int | None = None


def require_selector(selection: Selection) -> None:
    """Require that a selection has a selector, such as `everyone`; an exclusion or a limit is not enough.

    Raises:
        UsageError: it has none.
    """
    if not any(selection._replace(excluded=None, limit=None)):
        raise UsageError("no client is selected", "Add --all, or --status, --from or another selector.")


class Unmatched(NamedTuple):
    """A line of a file that matches no client, or an e-mail that several share; a very long value is cut."""

    file: str
    line: int
    value: str
    is_shared: bool = False


_DATES = ("last_login_before", "created_before", "created_after", "issued_before")


def check_selection(
    context: Context, selection: Selection, *, to_mail: bool
) -> tuple[Selection, Mapping[str, datetime]]:
    """Check the selectors without reading the files.

    Returns:
        The selection in its normal form, and the moments that its dates and ages mean, by selector.

    Raises:
        UsageError: as `Selected` says.
    """
    if to_mail:
        require_selector(selection)
    if to_mail and selection.status is ClientStatus.DISABLED:
        raise UsageError("disabled clients get no mail", "Type `egec client enable CLIENT` first.")
    if to_mail and selection.status is ClientStatus.INACTIVE:
        raise UsageError(
            "clients outside their validity dates get no mail",
            "Type `egec client update CLIENT --valid-from DATE --valid-until DATE` first.",
        )
    if selection.limit is not None and selection.limit < 1:
        raise UsageError("--limit {limit} selects no client", "Use 1 or more, or omit it.", limit=selection.limit)
    if selection.never_logged_in and selection.last_login_before:
        raise UsageError(
            "no client matches both --never-logged-in and --last-login-before",
            "Type a command for each: one with --last-login-before {age}, one with --never-logged-in"
            " --created-before {age}.",
            age=quoted(selection.last_login_before),
        )
    if selection.email_domain:
        # The same selection, however it is typed.
        selection = selection._replace(email_domain=email_address.parse_domain(selection.email_domain))
    now, zone = context.clock(), context.settings.timezone
    moments = {
        name: clock.parse_past(text, now, zone=zone, option=f"--{name.replace('_', '-')}")
        for name in _DATES
        if (text := getattr(selection, name))
    }
    after, before = moments.get("created_after"), moments.get("created_before")
    if after is not None and before is not None and after >= before:
        raise UsageError(
            "no client was created both after {after} and before {before}",
            "Exchange the two, or omit one.",
            after=selection.created_after,
            before=selection.created_before,
        )
    return selection, moments


class Selected:
    """The selected clients, as a query. Erased clients are never selected."""

    def __init__(self, context: Context, selection: Selection, *, to_mail: bool = True) -> None:
        """Read the files and check the selectors.

        Args:
            to_mail: the clients will get a mail. A selector is then required, such as `everyone`. Disabled and inactive
                clients are left out unless a file names them; those are reported as failed later.

        Raises:
            UsageError: a selector is missing, invalid, or in the future; or the selectors cannot match any client.
            InvalidInput: a file is not UTF-8, is invalid CSV or lacks the column.
        """
        selection, self._moments = check_selection(context, selection, to_mail=to_mail)
        self._context = context
        self._selection = selection
        self._to_mail = to_mail
        # The lists and the other selectors identify a selection when a run continues.
        self.lists: Mapping[str, ListDigest] = {}
        self.described: dict[str, Any] = {
            name: value for name, value in selection._asdict().items() if value and not isinstance(value, ClientList)
        }
        self._named = self._read_files({"listed": selection.listed, "excluded": selection.excluded})

    def _read_files(self, files: Mapping[str, ClientList | None]) -> "NamedClients | None":
        if not any(files.values()):
            return None
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
        narrowed = self._narrowed if place is Client.id else []
        return query.where(*narrowed, *self.conditions()), place

    @cached_property
    def _narrowed(self) -> Sequence[Any]:
        """Conditions on the key that follow from the others, so that a list in key order begins near its first client.

        Without them, a database reads all clients up to the first one that matches, or sorts all that match.
        """
        return narrow_keys(self._conditions_of_keys())

    def _conditions_of_keys(self) -> Iterator[tuple[Any, Any]]:
        """Yield conditions that follow from the others and that an index answers, each with the column of the key."""
        if self._selection.status is ClientStatus.BLOCKED:
            yield Client.id, Client.blocked_until.is_null(False)
        if self._selection.last_mail_failed:
            yield Credential.client, MAIL_HAS_FAILED
        for condition in self._conditions_of_times():
            yield Client.id, condition

    def _conditions_of_times(self) -> Iterator[Any]:
        """Yield the conditions on times that have an index."""
        moments = self._moments
        if "last_login_before" in moments:
            yield Client.last_login_at < moments["last_login_before"]
        created = []
        if "created_before" in moments:
            created.append(Client.created_at < moments["created_before"])
        if "created_after" in moments:
            created.append(Client.created_at >= moments["created_after"])
        if created:
            yield reduce(and_, created)

    def conditions(self) -> Iterator[Any]:
        """Yield the conditions on a client; that a list names the client is not among them."""
        selection = self._selection
        yield Client.email.is_null(False)
        if self._to_mail and selection.listed is None:
            # Listed clients who are disabled or inactive are reported as failed later.
            yield Client.disabled_at.is_null()
            yield validity.is_valid_at(validity.local_moment(self._context))
        if selection.status is not None:
            yield records.has_status(selection.status, validity.local_moment(self._context))
        if selection.never_logged_in:
            yield Client.last_login_at.is_null()
        yield from self._conditions_of_times()
        if selection.email_domain:
            yield email_domain(Client.email_key) == selection.email_domain
        if "issued_before" in self._moments:
            yield Client.active_sequence >= Client.revoked_below
            yield _has_credential(Client.active_sequence, Credential.created_at < self._moments["issued_before"])
        if selection.last_mail_failed:
            yield _has_credential(Client.last_sequence, MAIL_HAS_FAILED)
        if selection.weak_hash:
            yield records.has_weak_hash(self._context.settings.bcrypt_cost)
        if self._named is not None and selection.excluded is not None:
            yield ~self._named.is_excluded(Client.id)

    @property
    def limit(self) -> int | None:
        """The maximum number of clients."""
        return self._selection.limit

    def selectors(self) -> Mapping[str, Any]:
        """Return the selectors by name, as a run stores them, without the digests of files."""
        files = (("listed", self._selection.listed), ("excluded", self._selection.excluded))
        return self.described | {name: {"column": file.column} for name, file in files if file is not None}

    def count(self) -> int:
        """Count the selected clients."""
        found: int = self.query(Client.id).count()
        return found

    def matches_any(self) -> bool:
        """Return whether the selectors match any client."""
        query, _ = self.query_unordered(Client.id)
        return bool(query.exists())

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
        now = validity.local_moment(self._context)
        return records.stream_records(self.query(*records.record_columns(now)), now)

    def unmatched(self) -> Iterator[Unmatched]:
        """Yield the lines that match no client, first those of the list, then those of the exclusions."""
        if self._named is None:
            return
        for is_excluded, line, value, is_shared in self._named.unmatched():
            file = self._selection.excluded if is_excluded else self._selection.listed
            assert file is not None
            yield Unmatched(file.name, line, value, bool(is_shared))


def require_expected(found: int, expect: int, hint: Words) -> None:
    """Require that the number of selected clients is the expected one.

    Raises:
        InvalidInput: it differs.
    """
    if found != expect:
        raise InvalidInput(
            count_words(
                "0 clients are selected, not {expect} as expected",
                "1 client is selected, not {expect} as expected",
                "{number} clients are selected, not {expect} as expected",
                found,
                expect=expect,
            ),
            hint,
            code="unexpected_number",
        )


# A placeholder in `Selected.query` for the number of the line that named the client.
SELECTED_LINE = peewee.Value(None)


def _has_credential(sequence: Any, condition: Any) -> Any:
    return peewee.fn.EXISTS(
        Credential.select(Credential.id).where(
            (Credential.client == Client.id) & (Credential.sequence == sequence) & condition
        )
    )


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


def describe_selectors(selectors: Mapping[str, Any]) -> str:
    """Return selectors as options; the names of files are unknown."""
    typed = []
    for name, value in sorted(selectors.items()):
        option = _OPTIONS.get(name) or f"--{name.replace('_', '-')}"
        if name in LISTS:
            typed.append(f"{option} FILE")
        else:
            typed.append(option if value is True else f"{option} {quoted(value)}")
    # One option serves both files.
    columns = {value["column"] for name, value in selectors.items() if name in LISTS and value["column"]}
    return " ".join([*typed, *(f"--column {quoted(column)}" for column in columns)])


def explain_selectors(selectors: Mapping[str, Any], separator: str = "; ") -> Words:
    """Return selectors in the words of people."""
    return join_words(separator, _explain(selectors))


# Selectors without a value.
_FLAGS = {
    "everyone": Words("all clients"),
    "never_logged_in": Words("never logged in"),
    "last_mail_failed": Words("last mail refused or bounced"),
    "weak_hash": Words("weak password hash"),
    "listed": Words("in the list"),
    "excluded": Words("except those in a list"),
}
# Selectors by a date, and by an age.
_TIMES = {
    "last_login_before": (Words("last login before {date}"), Words("last login more than {age} ago")),
    "created_before": (Words("created before {date}"), Words("created more than {age} ago")),
    "created_after": (Words("created on {date} or later"), Words("created within the last {age}")),
    "issued_before": (Words("password from before {date}"), Words("password older than {age}")),
}
_UNITS = {
    "min": (Words("0 minutes"), Words("1 minute"), Words("{number} minutes")),
    "h": (Words("0 hours"), Words("1 hour"), Words("{number} hours")),
    "d": (Words("0 days"), Words("1 day"), Words("{number} days")),
    "w": (Words("0 weeks"), Words("1 week"), Words("{number} weeks")),
    "m": (Words("0 months"), Words("1 month"), Words("{number} months")),
    "y": (Words("0 years"), Words("1 year"), Words("{number} years")),
}
_VALUES = {
    "status": Words("status {value}"),
    "email_domain": Words("e-mail at {value}"),
    "limit": Words("at most {value}"),
}


def _explain(selectors: Mapping[str, Any]) -> Iterator[Words]:
    for name, value in sorted(selectors.items()):
        if name in _FLAGS:
            yield _FLAGS[name]
        elif name in _TIMES:
            yield _explain_time(*_TIMES[name], value)
        else:
            yield Words(_VALUES[name].template, value=value)


def _explain_time(of_date: Words, of_age: Words, text: str) -> Words:
    unit = text.lstrip("0123456789")
    if unit not in _UNITS:
        return Words(of_date.template, date=text)
    return Words(of_age.template, age=count_words(*_UNITS[unit], int(text.removesuffix(unit))))
