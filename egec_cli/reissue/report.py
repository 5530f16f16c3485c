"""What a run has come to, for people: failures by reason, who works on it, and when it will be finished."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from egec_cli.context import Context
from egec_cli.credentials import leases
from egec_cli.credentials.quotas import Limits, expected_duration
from egec_cli.mail.transports.interface import without_addresses
from egec_cli.reissue import runs
from egec_cli.reissue.runs import Orders, RunRecord
from egec_cli.settings.schema import Rate
from egec_cli.store import peewee
from egec_cli.store.models import Credential, Event, ItemState, ReissueItem, ReissueRun, RunState
from egec_cli.store.sql import fetch_tuples, stream_rows


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


# An SMTP reply: its code, and its enhanced status code (RFC 3463), if any.
_REPLY = re.compile(r"([45]\d\d)(?:[ -]([245]\.\d{1,3}\.\d{1,3}))?(?![\w.])")


def group_failures(run: ReissueRun) -> list[FailureGroup]:
    """Return the reasons why clients could not be mailed, the most frequent first.

    Replies with the same enhanced status code count as one reason, other replies if they differ only in addresses.
    """
    query = (
        ReissueItem.select(ReissueItem.failure, ReissueItem.details, peewee.fn.COUNT(ReissueItem.id))
        .where((ReissueItem.run == run) & (ReissueItem.state == ItemState.FAILED))
        .group_by(ReissueItem.failure, ReissueItem.details)
        .order_by(ReissueItem.failure, ReissueItem.details)
    )
    numbers: Counter[tuple[str, str]] = Counter()
    replies: dict[tuple[str, str], str] = {}
    for failure, details, clients in stream_rows(query):
        reply = _REPLY.match(details or "")
        text = without_addresses(details) if reply else ""
        key = failure or "", f"{reply[1]} {reply[2]}" if reply and reply[2] else text
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
        seconds_left: about how long it still takes; None if that is unknown.
        selectors: the selectors by name.
    """

    run: RunRecord
    failures: list[FailureGroup]
    rate: Rate
    has_no_worker: bool
    started: Act | None
    worked: Act | None
    paused: Act | None
    seconds_left: float | None
    selectors: Mapping[str, Any]


_WORK = ("reissue.start", "reissue.resume", "reissue.retry", "reissue.pause", "reissue.finish", "credential.issue")


def report_run(context: Context, run: ReissueRun) -> RunReport:
    """Return the state of a run with what people ask about it."""
    record, orders = runs.load_run(context, run), runs.load_orders(context, run)
    is_worked_on = record.state is RunState.RUNNING
    return RunReport(
        run=record,
        failures=group_failures(run) if record.failed else [],
        rate=orders.rate,
        has_no_worker=runs.has_no_worker(context, run),
        started=_find_act(run, "reissue.start", order=Event.id),
        worked=_find_act(run, *_WORK),
        paused=_find_act(run, "reissue.pause") if _is_paused(context, orders) else None,
        seconds_left=_estimate(context, run, record.remaining, orders) if is_worked_on else None,
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


def _estimate(context: Context, run: ReissueRun, remaining: int, orders: Orders) -> float | None:
    """Return how long the rest of a run takes at its present speed, in seconds."""
    moment = context.clock()
    query = Credential.select(Credential.created_at).where(Credential.run == run)
    last = fetch_tuples(query.order_by(Credential.id.desc()).limit(_PASSWORDS_MEASURED))
    made = [at for (at,) in last if at > moment - _MEASURED_WITHIN]
    took = moment - made[-1] if made else timedelta()
    if took <= timedelta():
        return None
    seconds = remaining * took.total_seconds() / len(made)
    slowest = None if orders.throttle is None else orders.throttle.rate
    limits = Limits(orders.rate, context.settings.mail_reserve, slowest)
    return max(seconds, expected_duration(limits, remaining))
