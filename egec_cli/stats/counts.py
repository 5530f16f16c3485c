"""Count clients, activations, logins, mails, bounces and runs.

The number of queries does not depend on how many clients and events there are, and only totals are kept in memory.
`event.at` has no index. Event ids grow with time, so a search by id finds the first event of the period.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from egec_cli import clock
from egec_cli.clients.records import ClientStatus, present_status, status_column
from egec_cli.context import Context
from egec_cli.credentials.states import NOT_MAILED
from egec_cli.credentials.validity import LocalMoment
from egec_cli.logins.verify import LoginReason
from egec_cli.reissue.runs import displayed_state
from egec_cli.store import peewee
from egec_cli.store.models import (
    IS_HELD,
    IS_WAITING,
    OPEN_STATES,
    Client,
    Credential,
    CredentialState,
    Event,
    ReissueItem,
    ReissueRun,
    RunState,
)
from egec_cli.store.sql import database_bytes, fetch_tuples, in_list, snapshot, stream_rows

# The reason of refused logins of clients who were erased since: their events have no details any more.
NOT_RECORDED = "not_recorded"
# The domains and the paused runs that are named; the others are counted.
MOST_DOMAINS = 10
MOST_RUNS = 10
# Processes commit in another order than they read the clock, and clocks are set back.
_DISORDER = timedelta(days=1)


class MailOutcome(StrEnum):
    """The outcome of handing a mail to the mail server."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    IN_DOUBT = "in_doubt"


class BouncingDomain(NamedTuple):
    """A mail domain, and the number of clients whose address there has bounced a mail."""

    domain: str
    clients: int


class PausedRun(NamedTuple):
    """A run that no process works on: its key, its name and the number of clients not mailed yet."""

    key: int
    name: str
    remaining: int


class Statistics(NamedTuple):
    """The state of the database, and what happened since a moment.

    Attributes:
        since: the start of the period.
        clients: clients by status, without erased ones.
        activations: passwords issued to single clients, by outcome, whether mailed or shown.
        mails: mails with passwords, and notices of a new address or of a closing, by outcome.
        bounces: delivery reports that marked a mail.
        logins: accepted logins.
        refusals: refused logins by reason.
        bouncing: clients whose current address has bounced a mail and has not worked since.
        domains: the most frequent domains of these addresses.
        runs: runs by state.
        paused: paused runs, the latest first; at most `MOST_RUNS`.
        in_doubt: deliveries in doubt.
        last_accepted: when the mail server last accepted a mail with a password; None if it never did.
        database_bytes: the size of the database.
    """

    since: datetime
    clients: Mapping[ClientStatus, int]
    activations: Mapping[MailOutcome, int]
    mails: Mapping[MailOutcome, int]
    bounces: int
    logins: int
    refusals: Mapping[str, int]
    bouncing: int
    domains: Sequence[BouncingDomain]
    runs: Mapping[RunState, int]
    paused: Sequence[PausedRun]
    in_doubt: int
    last_accepted: datetime | None
    database_bytes: int


DEFAULT_PERIOD = "30d"


def count_since(context: Context, since: str = DEFAULT_PERIOD) -> Statistics:
    """Return the statistics of a period that begins with a date, in EGEC_TIMEZONE, or an age such as `30d`.

    Raises:
        UsageError: the period is neither.
    """
    zone = context.settings.timezone
    return _count(context, clock.parse_date_or_age(since or DEFAULT_PERIOD, context.clock(), zone=zone))


def count_today(context: Context) -> Statistics:
    """Return the statistics since midnight UTC."""
    return _count(context, context.clock().replace(hour=0, minute=0, second=0, microsecond=0))


def _count(context: Context, since: datetime) -> Statistics:
    now = context.clock()
    with snapshot():
        happened = _count_events(since)
        states, paused = _count_runs(now)
        return Statistics(
            since=since,
            clients=_count_clients(LocalMoment(now, context.settings.timezone)),
            activations=happened.activations,
            mails=happened.mails,
            bounces=happened.bounces,
            logins=happened.logins,
            refusals=happened.refusals,
            bouncing=Client.select().where(_HAS_BOUNCED).count(),
            domains=_count_domains(),
            runs=states,
            paused=paused,
            in_doubt=_count_in_doubt(),
            last_accepted=_find_last_accepted(),
            database_bytes=database_bytes(),
        )


def _count_clients(now: LocalMoment) -> dict[ClientStatus, int]:
    # Clients with the same dates have the same status, and few dates differ.
    columns = (status_column(now.at), Client.valid_from, Client.valid_until)
    rows = (
        Client.select(*columns, peewee.fn.COUNT(Client.id))
        .where(Client.email.is_null(False))
        .group_by(peewee.SQL("1"), peewee.SQL("2"), peewee.SQL("3"))
    )
    found: Counter[ClientStatus] = Counter()
    for status, valid_from, valid_until, number in stream_rows(rows):
        found[present_status(status, valid_from, valid_until, now)] += number
    return {status: found[status] for status in ClientStatus}


class _Happened(NamedTuple):
    """What the events of a period tell; see `Statistics`."""

    activations: dict[MailOutcome, int]
    mails: dict[MailOutcome, int]
    bounces: int
    logins: int
    refusals: dict[str, int]


_ISSUE, _LOGIN, _NOTICE, _CLOSING, _BOUNCE = (
    "credential.issue", "login", "client.notice", "client.closing", "mail.bounce",
)  # fmt: skip


def _count_events(since: datetime) -> _Happened:
    found = _Happened(dict.fromkeys(MailOutcome, 0), dict.fromkeys(MailOutcome, 0), 0, 0, _no_refusals())
    for action, outcome, is_in_run, details, number in _group_events(since):
        if action == _LOGIN and outcome == "accepted":
            found = found._replace(logins=found.logins + number)
        elif action == _LOGIN:
            reason = _parse_reason(details)
            found.refusals[reason] = found.refusals.get(reason, 0) + number
        elif action == _BOUNCE:
            found = found._replace(bounces=found.bounces + number)
        else:
            mail = _parse_outcome(outcome)
            if action == _ISSUE and not is_in_run:
                found.activations[mail] += number
            if details != NOT_MAILED:
                found.mails[mail] += number
    return found


def _no_refusals() -> dict[str, int]:
    return {reason.value: 0 for reason in LoginReason if reason is not LoginReason.ACCEPTED} | {NOT_RECORDED: 0}


def _group_events(since: datetime) -> Iterator[tuple[str, str, int, str, int]]:
    """Yield the number of events by action, outcome, whether they belong to a run, and what distinguishes them else."""
    is_refused = (Event.action == _LOGIN) & (Event.outcome == "refused")
    is_shown = peewee.fn.SUBSTR(Event.details, 1, len(NOT_MAILED)) == NOT_MAILED
    details = peewee.Case(None, [(is_refused, Event.details), (is_shown, NOT_MAILED)], "")
    in_run = peewee.Case(None, [(Event.run.is_null(), 0)], 1)
    rows = (
        Event.select(Event.action, Event.outcome, in_run, details, peewee.fn.COUNT(Event.id))
        .where(Event.id >= _find_first_event(since), Event.at >= since)
        .where(Event.action.in_([_ISSUE, _LOGIN, _NOTICE, _CLOSING, _BOUNCE]), Event.outcome != "deferred")
        .group_by(Event.action, Event.outcome, peewee.SQL("3"), peewee.SQL("4"))
    )
    yield from fetch_tuples(rows)


def _find_first_event(since: datetime) -> int:
    """Return an id that no event since this moment precedes, by bisection of the primary key."""
    begin = since - _DISORDER
    [(lowest, highest)] = fetch_tuples(Event.select(peewee.fn.MIN(Event.id), peewee.fn.MAX(Event.id)))
    low, high = lowest or 0, (highest or 0) + 1
    while low < high:
        middle = (low + high) // 2
        following = Event.select(Event.id, Event.at).where(Event.id >= middle).order_by(Event.id).limit(1)
        key, at = next(fetch_tuples(following), (high, begin))
        if at >= begin:
            high = middle
        else:
            low = key + 1
    return low


def _parse_reason(details: str) -> str:
    reason: str = json.loads(details).get("reason", NOT_RECORDED)
    return reason


def _parse_outcome(outcome: str) -> MailOutcome:
    """Return the outcome of a mail; one that was superseded or revoked meanwhile was accepted by the server."""
    is_accepted = outcome in {CredentialState.ACCEPTED, CredentialState.SUPERSEDED, CredentialState.REVOKED}
    return MailOutcome.ACCEPTED if is_accepted else MailOutcome(outcome)


_HAS_BOUNCED = Client.email_bounced_at.is_null(False) & Client.email_key.is_null(False)


def _count_domains() -> list[BouncingDomain]:
    # Both engines have RTRIM, and no other common function finds the @: this strips all characters behind it.
    local_part = peewee.fn.RTRIM(Client.email_key, peewee.fn.REPLACE(Client.email_key, "@", ""))
    domain = peewee.fn.SUBSTR(Client.email_key, peewee.fn.LENGTH(local_part) + 1)
    rows = (
        Client.select(domain, peewee.fn.COUNT(Client.id))
        .where(_HAS_BOUNCED)
        .group_by(peewee.SQL("1"))
        .order_by(peewee.SQL("2 DESC"), peewee.SQL("1"))
        .limit(MOST_DOMAINS)
    )
    return [BouncingDomain(*row) for row in fetch_tuples(rows)]


def _count_runs(now: datetime) -> tuple[dict[RunState, int], list[PausedRun]]:
    states: Counter[RunState] = Counter()
    paused: list[tuple[int, str]] = []
    columns = (ReissueRun.id, ReissueRun.name, ReissueRun.state, ReissueRun.worked_until)
    for key, name, state, worked_until in fetch_tuples(ReissueRun.select(*columns).order_by(ReissueRun.id.desc())):
        shown = displayed_state(state, worked_until, now)
        states[shown] += 1
        if shown is RunState.PAUSED and len(paused) < MOST_RUNS:
            paused.append((key, name))
    left: Counter[int] = Counter()
    for is_left in (IS_WAITING, IS_HELD):
        rows = ReissueItem.select(ReissueItem.run, peewee.fn.COUNT(ReissueItem.id)).where(
            in_list(ReissueItem.run, [key for key, _ in paused]) & is_left
        )
        left.update(dict(fetch_tuples(rows.group_by(ReissueItem.run))))
    return {state: states[state] for state in RunState}, [PausedRun(key, name, left[key]) for key, name in paused]


def _count_in_doubt() -> int:
    # A client without a sequence above the active one has no open credential; this saves reading all credentials.
    rows = (
        Client.select(peewee.fn.COUNT(Credential.id))
        .join(Credential)
        .where(
            Client.last_sequence > Client.active_sequence,
            Credential.sequence > Client.active_sequence,
            Credential.state.in_(OPEN_STATES),
        )
    )
    [(number,)] = fetch_tuples(rows)
    return int(number)


def _find_last_accepted() -> datetime | None:
    rows = (
        Credential.select(Credential.settled_at)
        .where((Credential.state == CredentialState.ACCEPTED) & Credential.message_id.is_null(False))
        .order_by(Credential.id.desc())
        .limit(1)
    )
    return next((moment for (moment,) in fetch_tuples(rows)), None)


# The name of mails that came back.
BOUNCED = "bounced"


class Subject(StrEnum):
    """What a number counts."""

    CLIENTS = "clients"
    ACTIVATIONS = "activations"
    LOGINS = "logins"
    MAILS = "mails"
    BOUNCING = "bouncing"
    RUNS = "runs"
    PAUSED_RUNS = "paused_runs"
    IN_DOUBT = "in_doubt"
    DATABASE = "database"


class StatisticRecord(NamedTuple):
    """One number of the statistics.

    Attributes:
        subject: what is counted: `activations`, `logins` and `mails` in the period, the others at this moment.
        name: the status of clients, the outcome, the domain of addresses that bounce mails, the state or the name of
            runs; `other` for all other domains, `bounced` for mails that came back, `bytes` of the database.
        reason: of refused logins; empty for others.
        number: of paused runs, the clients not mailed yet.
        since: the start of the period, RFC 3339 in UTC; None for a number at this moment.
    """

    subject: Subject
    name: str
    reason: str
    number: int
    since: str | None


def list_records(found: Statistics) -> list[StatisticRecord]:
    """Return the statistics as records, those of a subject together."""
    since = clock.to_rfc3339(found.since)
    periods = [
        *((Subject.ACTIVATIONS, name, "", number) for name, number in found.activations.items()),
        (Subject.LOGINS, "accepted", "", found.logins),
        *((Subject.LOGINS, "refused", reason, number) for reason, number in found.refusals.items()),
        *((Subject.MAILS, name, "", number) for name, number in found.mails.items()),
        (Subject.MAILS, BOUNCED, "", found.bounces),
    ]
    named = sum(one.clients for one in found.domains)
    return [
        *(StatisticRecord(Subject.CLIENTS, name, "", number, None) for name, number in found.clients.items()),
        *(StatisticRecord(*one, since) for one in periods),
        *(StatisticRecord(Subject.BOUNCING, one.domain, "", one.clients, None) for one in found.domains),
        StatisticRecord(Subject.BOUNCING, "other", "", found.bouncing - named, None),
        *(StatisticRecord(Subject.RUNS, name, "", number, None) for name, number in found.runs.items()),
        *(StatisticRecord(Subject.PAUSED_RUNS, one.name, "", one.remaining, None) for one in found.paused),
        StatisticRecord(Subject.IN_DOUBT, "deliveries", "", found.in_doubt, None),
        StatisticRecord(Subject.DATABASE, "bytes", "", found.database_bytes, None),
    ]
