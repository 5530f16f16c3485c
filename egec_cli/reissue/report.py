"""The state of runs: numbers, what they wait for, failures by reason, who works on them, and how long they take."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from egec_cli import clock
from egec_cli.clients.select import describe_selectors
from egec_cli.context import Context
from egec_cli.credentials import leases
from egec_cli.credentials.quotas import RunLimits, expected_duration, find_next_departure
from egec_cli.reissue import items, runs
from egec_cli.reissue.backoff import Throttle
from egec_cli.reissue.runs import Orders
from egec_cli.settings.parsing import format_rate
from egec_cli.settings.types import Rate
from egec_cli.store import peewee
from egec_cli.store.models import Credential, Event, ItemState, ReissueItem, ReissueRun, RunState, TimeField
from egec_cli.store.sql import fetch_tuples, stream_rows


class RunRecord(NamedTuple):
    """The state of a run. Times are RFC 3339 in UTC.

    Attributes:
        name: the name by which `start` recognises the run.
        state: the state of the run; also `paused` if it has no worker, such as after a crash.
        total: the number of clients.
        accepted: clients whose mail the mail server accepted.
        failed: clients who could not be mailed.
        skipped: clients who need no mail of the run, as they have got a newer password since its start.
        remaining: clients not mailed yet.
        deferred: those of them whose mail was deferred, and is tried again later.
        rate: the quotas of mails, such as `30/min,500/h`; `0` for no limit.
        throttled_rate: the slower rate that the mail server has forced, in mails per minute; None at the normal rate.
        throttled_by: the mail server's words; None at the normal rate.
        waits_because: why the run is paused or waits, as an error code: that of the failure which paused it,
            `mail_deferred`, or `mail_quota_reached`; None if it does not wait, or was only interrupted.
        next_attempt_at: when the run can go on, if it waits for that; None otherwise.
        created_at: when the run was started.
        finished_at: when the run ended.
        selection: the selectors, as options; a file is called FILE.
    """

    name: str
    state: RunState
    total: int
    accepted: int
    failed: int
    skipped: int
    remaining: int
    deferred: int
    rate: str
    throttled_rate: float | None
    throttled_by: str | None
    waits_because: str | None
    next_attempt_at: str | None
    created_at: str
    finished_at: str | None
    selection: str


def load_run(context: Context, run: ReissueRun) -> RunRecord:
    """Return the present state of a run."""
    return next(_load_records(context, ReissueRun.id == run.id))


def list_runs(context: Context) -> Iterator[RunRecord]:
    """Yield all runs, the oldest first."""
    return _load_records(context, None)


def _load_records(context: Context, condition: Any) -> Iterator[RunRecord]:
    at = context.clock()
    item = ReissueItem
    is_deferred = (item.state == ItemState.WAITING) & (item.not_before > at) & (item.attempts > 0)
    cases = [item.state == state for state in (ItemState.ACCEPTED, ItemState.FAILED, ItemState.SKIPPED)]
    numbers = [peewee.fn.COUNT(peewee.Case(None, [(case, 1)])) for case in (*cases, is_deferred)]
    waiting = peewee.fn.MIN(peewee.Case(None, [(item.state == ItemState.WAITING, item.not_before)]))
    query = (
        ReissueRun.select(ReissueRun, peewee.fn.COUNT(item.id), *numbers, waiting)
        .join(item, peewee.JOIN.LEFT_OUTER)
        .where(condition if condition is not None else peewee.SQL("1 = 1"))
        .group_by(ReissueRun.id)
        .order_by(ReissueRun.id)
    )
    columns = [field.name for field in ReissueRun._meta.sorted_fields]
    for row in fetch_tuples(query):
        run = ReissueRun(**dict(zip(columns, row[: len(columns)], strict=True)))
        total, accepted, failed, skipped, deferred, due = row[len(columns) :]
        throttle = Throttle.parse(run.throttle)
        remaining = total - accepted - failed - skipped
        wait = _find_wait(context, run, TimeField().python_value(due), at) if remaining else _NO_WAIT
        yield RunRecord(
            name=run.name,
            state=runs.displayed_state(run.state, run.worked_until, at),
            total=total,
            accepted=accepted,
            failed=failed,
            skipped=skipped,
            remaining=remaining,
            deferred=deferred,
            rate=format_rate(runs.run_rate(context, run)),
            throttled_rate=None if throttle is None else round(throttle.rate * 60, 1),
            throttled_by=None if throttle is None else throttle.reply,
            waits_because=wait.reason,
            next_attempt_at=clock.to_rfc3339_or_none(wait.until),
            created_at=clock.to_rfc3339(run.created_at),
            finished_at=clock.to_rfc3339_or_none(run.finished_at),
            selection=describe_selectors(json.loads(run.selection)),
        )


class _Wait(NamedTuple):
    """What a run waits for: an error code, and until when; each may be None."""

    reason: str | None
    until: datetime | None


_NO_WAIT = _Wait(None, None)
# A run whose next mail may leave so soon does not wait: this is the time between its mails.
_SHORTEST_WAIT = timedelta(seconds=10)


def _find_wait(context: Context, run: ReissueRun, due: datetime | None, at: datetime) -> _Wait:
    """Return what an unfinished run waits for; `due` is when the next client is due."""
    if run.state not in {RunState.RUNNING, RunState.PAUSED}:
        return _NO_WAIT
    limits = RunLimits(runs.run_rate(context, run), context.settings.mail_reserve)
    opening = find_next_departure(limits, at, only_read=True) if limits.is_limited else at
    moments = {"mail_deferred": due, "mail_quota_reached": opening if opening > at + _SHORTEST_WAIT else None}
    waits = {moment: reason for reason, moment in moments.items() if moment is not None and moment > at}
    is_held = run.paused_until is not None and run.paused_until > at
    until = max([*waits, *([run.paused_until] if is_held else [])], default=None)
    if is_held or run.state == RunState.PAUSED:
        pause = _find_act(run, "reissue.pause")
        return _Wait(None if pause is None else pause.outcome, until)
    return _Wait(None if until is None else waits[until], until)


class FailureKind(StrEnum):
    """Why clients could not be mailed, in the order in which people read it."""

    REFUSED = "refused"
    DEFERRED = "deferred"
    LEFT_OUT = "left_out"
    IN_DOUBT = "in_doubt"


# The kinds of the error codes; all others are refusals.
_KINDS = {
    "in_doubt": FailureKind.IN_DOUBT,
    "too_many_in_doubt": FailureKind.IN_DOUBT,
    "client_disabled": FailureKind.LEFT_OUT,
    "client_erased": FailureKind.LEFT_OUT,
    "client_inactive": FailureKind.LEFT_OUT,
    "mail_deferred": FailureKind.DEFERRED,
    "mail_throttled": FailureKind.DEFERRED,
    "too_many_connections": FailureKind.DEFERRED,
    "temporary_failure": FailureKind.DEFERRED,
}


class FailureGroup(NamedTuple):
    """Clients whose mail failed for the same reason.

    Attributes:
        clients: their number.
        failure: the error code.
        reply: the first of the server's replies, without addresses; empty if the server did not give the reason.
    """

    clients: int
    failure: str
    reply: str

    @property
    def kind(self) -> FailureKind:
        """The kind of failure."""
        return _KINDS.get(self.failure, FailureKind.REFUSED)


def group_failures(run: ReissueRun) -> list[FailureGroup]:
    """Return the reasons why clients could not be mailed, the most frequent first.

    Replies with the same enhanced status code count as one reason, other replies if they differ only in addresses.
    """
    # Imported here: most commands that show runs show no failures.
    from egec_cli.mail.transports.interface import split_reply, without_addresses

    query = (
        ReissueItem.select(ReissueItem.failure, ReissueItem.details, peewee.fn.COUNT(ReissueItem.id))
        .where((ReissueItem.run == run) & (ReissueItem.state == ItemState.FAILED))
        .group_by(ReissueItem.failure, ReissueItem.details)
        .order_by(ReissueItem.failure, ReissueItem.details)
    )
    numbers: Counter[tuple[str, str]] = Counter()
    replies: dict[tuple[str, str], str] = {}
    for failure, details, clients in stream_rows(query):
        reply = split_reply(details or "")
        text = without_addresses(details) if reply.code else ""
        key = failure, reply.codes if reply.status else text
        numbers[key] += clients
        replies.setdefault(key, text)
    return [FailureGroup(clients, key[0], replies[key]) for key, clients in numbers.most_common()]


class Act(NamedTuple):
    """Who did something for a run, on which host, when, with which outcome, and what the mail server had replied."""

    actor: str
    host: str
    at: datetime
    outcome: str
    reply: str


class TimeLeft(NamedTuple):
    """About how long a run still takes, in seconds, and whether that is the least: further waits may come."""

    seconds: float
    is_least: bool


class RunReport(NamedTuple):
    """The state of a run with what people ask about it.

    Attributes:
        run: the numbers.
        failures: the failures by reason, the most frequent first.
        rate: the quotas of mails.
        has_no_worker: whether it is unfinished and has no active worker.
        started: who started it; None if the audit log has no entry any more.
        worked: who worked on it last.
        paused: its pause, with an error code as outcome; None unless it is paused because of an error, or waits after
            such a pause.
        time_left: about how long it still takes; None if that is unknown.
        selectors: the selectors by name.
    """

    run: RunRecord
    failures: list[FailureGroup]
    rate: Rate
    has_no_worker: bool
    started: Act | None
    worked: Act | None
    paused: Act | None
    time_left: TimeLeft | None
    selectors: Mapping[str, Any]


_WORK = ("reissue.start", "reissue.resume", "reissue.retry", "reissue.pause", "reissue.finish", "credential.issue")


def report_run(context: Context, run: ReissueRun) -> RunReport:
    """Return the state of a run with what people ask about it."""
    record, orders = load_run(context, run), runs.load_orders(context, run)
    is_worked_on = record.state is RunState.RUNNING
    return RunReport(
        run=record,
        failures=group_failures(run) if record.failed else [],
        rate=orders.rate,
        has_no_worker=runs.has_no_worker(context, run),
        started=_find_act(run, "reissue.start", order=Event.id),
        worked=_find_act(run, *_WORK),
        paused=_find_act(run, "reissue.pause") if _is_paused(context, orders) else None,
        time_left=_estimate(context, run, record, orders) if is_worked_on else None,
        selectors=json.loads(run.selection),
    )


def _is_paused(context: Context, orders: Orders) -> bool:
    """Return whether a run is paused, or was continued before the time at which it tries again."""
    if orders.state is not RunState.RUNNING or orders.paused_until is None:
        return orders.state is RunState.PAUSED
    return orders.paused_until > context.clock()


def _find_act(run: ReissueRun, *actions: str, order: Any = None) -> Act | None:
    """Return the last of these acts on the run, or the first in another order: a run may have a million of them."""
    query = Event.select(Event.actor, Event.host, Event.at, Event.outcome, Event.details).where(
        (Event.run == run) & Event.action.in_(actions)
    )
    ordered = query.order_by(Event.id.desc() if order is None else order)
    for actor, host, at, outcome, details in fetch_tuples(ordered.limit(1)):
        return Act(actor, host, at, outcome, json.loads(details).get("reply", ""))
    return None


# The passwords by which the speed of a run is measured, and the time in which they must have been made.
_PASSWORDS_MEASURED = 200
_MEASURED_WITHIN = leases.LEASE


def _estimate(context: Context, run: ReissueRun, record: RunRecord, orders: Orders) -> TimeLeft | None:
    """Return how long the rest of a run takes at its present speed, with the waits that are known."""
    at = context.clock()
    query = Credential.select(Credential.created_at).where(Credential.run == run)
    last = fetch_tuples(query.order_by(Credential.id.desc()).limit(_PASSWORDS_MEASURED))
    made = [moment for (moment,) in last if moment > at - _MEASURED_WITHIN]
    took = at - made[-1] if made else timedelta()
    if took <= timedelta() and record.next_attempt_at is None:
        return None
    measured = record.remaining * took.total_seconds() / len(made) if made else 0.0
    slowest = None if orders.throttle is None else orders.throttle.rate
    limits = RunLimits(orders.rate, context.settings.mail_reserve, slowest)
    seconds = max(measured, expected_duration(limits, record.remaining, at))
    if record.next_attempt_at is not None:
        seconds += (clock.parse_time(record.next_attempt_at) - at).total_seconds()
    last_due = items.last_due(run)
    if last_due is not None:
        seconds = max(seconds, (last_due - at).total_seconds())
    is_least = bool(record.next_attempt_at or record.deferred or orders.throttle)
    return TimeLeft(seconds, is_least)
