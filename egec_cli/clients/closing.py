"""Close accounts: notify clients by mail, and disable those who were notified and have not logged in since.

A notice counts if it is newer than the last login and the current address. It is recorded after each mail, so a job
that was killed continues, and only the mail under way goes twice. A mail that was refused because of its recipient, or
whose answer was lost, counts: an unread mailbox must not keep an account open. A refusal that may come for
every mail does not count; after a few of them in a row, no more mails leave.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from threading import Event as StopEvent
from typing import Any, NamedTuple

from egec_cli import clock, email_address
from egec_cli.audit import events as audit
from egec_cli.clients import change
from egec_cli.clients.change import NO_GUARD, ChangeOutcome, ChangeRecord, Guard
from egec_cli.context import Context, synchronize
from egec_cli.credentials import issue, leases, quotas, validity
from egec_cli.credentials.leases import Lease
from egec_cli.credentials.quotas import Place
from egec_cli.credentials.states import lock_clients
from egec_cli.credentials.validity import LocalMoment
from egec_cli.errors import EgecError, ExitCode, InvalidInput, TemporaryFailure, UsageError
from egec_cli.mail.compose import message
from egec_cli.mail.compose.message import Mail
from egec_cli.mail.lint import templates
from egec_cli.mail.transports.interface import (
    Cause,
    DeliveryOutcome,
    DeliveryRefused,
    DeliveryUnknown,
    Transport,
)
from egec_cli.settings.types import Settings
from egec_cli.store import peewee
from egec_cli.store.models import Client, Event
from egec_cli.store.sql import fetch_tuples, in_list
from egec_cli.translation import Words, join_words

# How long a mail waits for its place in the quotas, in seconds: long enough for quotas per minute.
PATIENCE = 75.0
# After this many mails in a row that were refused as any other may be, or whose answer was lost, no more mails leave.
MOST_IN_A_ROW = 5
# The pause after the first of them, in seconds; each further one doubles it. All together they outlast a quota per
# minute, and the restart of a server.
FIRST_PAUSE = 5.0
# The audit action of a notice, and its outcome if the notice will be tried again.
ACTION = "client.closing"
DEFERRED = "deferred"
# Actions after which a client is notified again.
_BEGINS_ANEW = (ACTION, "client.enable", "client.update")
_DAYS = {"d": 1, "w": 7}


def parse_period(text: str) -> timedelta:
    """Return how long before the closing a client is notified: days or weeks, such as `30d` or `4w`.

    Raises:
        UsageError: the text is something else, less than a day or more than a year.
    """
    found = re.fullmatch(r"([0-9]{1,3})([dw])", text)
    days = int(found[1]) * _DAYS[found[2]] if found else 0
    if not 1 <= days <= 366:
        raise UsageError(
            "invalid period of notice: {text!r}",
            "Write it in days or weeks, such as 30d or 4w: a year at most.",
            text=text,
        )
    return timedelta(days=days)


def closing_moment(settings: Settings, notified_at: datetime, period: timedelta) -> datetime:
    """Return when an account may be closed: the first midnight, in EGEC_TIMEZONE, after the end of the period.

    The notice names the day that begins then.
    """
    return _midnight(clock.to_zone(notified_at + period, settings.timezone) + timedelta(days=1))


def _midnight(local: datetime) -> datetime:
    """Return the beginning of a day, in UTC: with a zone, Python subtracts days of the calendar."""
    return local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0).astimezone(UTC)


class Conditions(NamedTuple):
    """Who must be notified now, and whose account may be closed now, as conditions of a query.

    Attributes:
        is_to_notify: the client has no notice that counts, and may get one: enabled, not erased, within the dates of
            validity.
        is_due: the client was notified long enough ago.
    """

    is_to_notify: Any
    is_due: Any


def conditions(settings: Settings, period: timedelta, moment: datetime) -> Conditions:
    """Return the conditions at a moment."""
    notified_at = Client.closing_notified_at
    # A later time was recorded before the clock was set back.
    is_notified = (
        notified_at.is_null(False)
        & (notified_at <= moment + clock.TOLERANCE)
        & (Client.last_login_at.is_null() | (Client.last_login_at < notified_at))
        & (Client.email_changed_at.is_null() | (Client.email_changed_at < notified_at))
    )
    is_open = Client.disabled_at.is_null() & Client.email.is_null(False)
    is_valid = validity.is_valid_at(LocalMoment(moment, settings.timezone))
    # The same as `closing_moment` at or before the moment: that is always a midnight.
    is_due = is_notified & is_open & (notified_at < _midnight(clock.to_zone(moment, settings.timezone)) - period)
    return Conditions(~is_notified & is_open & is_valid, is_due)


class _Addressee(NamedTuple):
    """A client who gets a notice."""

    key: int
    identifier: str
    email: str
    civility: str
    first_name: str
    last_name: str
    language: str


_COLUMNS = (
    Client.id, Client.identifier, Client.email, Client.civility, Client.first_name, Client.last_name, Client.language,
)  # fmt: skip


# Refusals that never let a client count as notified, and others that may concern every mail.
_OF_THE_SERVER = frozenset({Cause.UNREACHABLE, Cause.THROTTLED, Cause.CONNECTIONS})
_DOUBTFUL = frozenset({Cause.BLOCKED, Cause.DROPPED, Cause.UNCLEAR})
# An error that the next mail would meet too.
_OF_THE_SETTINGS = frozenset({ExitCode.CONFIGURATION, ExitCode.FILE_SYSTEM})


class _Answer(NamedTuple):
    """The answer to a notice; without an error, it was accepted. `cause` is that of a refusal."""

    outcome: DeliveryOutcome
    error: EgecError | None = None
    cause: Cause | None = None

    @property
    def may_concern_all(self) -> bool:
        """Whether the next mail may get the same answer."""
        return self.outcome is DeliveryOutcome.IN_DOUBT or self.cause in {*_OF_THE_SERVER, *_DOUBTFUL}

    @property
    def counts(self) -> bool:
        """Whether the client counts as notified without another try."""
        if self.outcome is not DeliveryOutcome.REFUSED or self.error is None:
            return True
        return self.cause is Cause.RECIPIENT and self.error.exit_code is not ExitCode.TEMPORARY_FAILURE


class Closer:
    """Closes accounts, batch by batch; the mails leave one after the other over one connection.

    Attributes:
        error: why no more mails leave, or why the last ones were refused; None if the server works.
        not_notified: the clients who should have been notified and were not.
        undelivered: the clients whose notice was refused or is in doubt, and counts nevertheless.
    """

    def __init__(
        self,
        context: Context,
        transport: Transport,
        period: timedelta,
        *,
        reason: str,
        guard: Guard = NO_GUARD,
        stop: StopEvent | None = None,
        patience: float = PATIENCE,
        first_pause: float = FIRST_PAUSE,
    ) -> None:
        """Check the templates; nothing is sent.

        Args:
            transport: sends the notices; connects for the first one.
            period: how long before the closing a client is notified.
            reason: why, for readers of the history.
            guard: what must hold for a client when the notice or the change is made.
            stop: set it to send no more mails.
            patience: how long a mail waits for its place in the quotas, in seconds.
            first_pause: the pause after an answer that may concern all mails, in seconds.

        Raises:
            ConfigError: a template of the notice is faulty.
        """
        templates.require_sound_notice(context.settings)
        self._context = context
        self._transport = transport
        self._period = period
        self._reason = reason
        self._guard = guard
        self._stop = stop or StopEvent()
        self._patience = patience
        self._first_pause = first_pause
        self._owner = leases.new_owner()
        self._place: Place | None = None
        # The answers since the last that did not concern all mails, and the last of them.
        self._in_a_row = 0
        self._last_doubt: EgecError | None = None
        self.error: EgecError | None = None
        self.not_notified = 0
        self.undelivered = 0

    def close(self, keys: Sequence[int]) -> Iterator[tuple[int, ChangeRecord]]:
        """Disable those of these clients who are due, then notify those who have no notice that counts.

        Yields:
            The key and the result of each client.
        """
        # Many mails take hours; the clock of a PostgreSQL server is read again.
        synchronize(self._context)
        records, to_notify = self._disable_due(keys)
        yield from records.items()
        for key, identifier in to_notify:
            yield key, self._notify(key, identifier)

    def finish(self) -> None:
        """Give back the place in the quotas that no mail has used, and judge the last answers."""
        self.error = self.error or self._last_doubt
        place, self._place = self._place, None
        if place is not None:
            place.give_back(self._context)

    def _disable_due(self, keys: Sequence[int]) -> tuple[dict[int, ChangeRecord], list[tuple[int, str]]]:
        """Disable those who are due.

        Returns:
            The results by key, also of those that need nothing; and the keys and identifiers of the others.
        """
        found = conditions(self._context.settings, self._period, self._context.clock())
        guard = self._guard._replace(conditions=(found.is_due, *self._guard.conditions))
        records = change.disable_clients(self._context, keys, guard, reason=self._reason)
        columns = (Client.id, Client.identifier, found.is_to_notify)
        rows = Client.select(*columns).where(in_list(Client.id, keys), *self._guard.conditions).order_by(Client.id)
        to_notify = []
        for key, identifier, is_to_notify in fetch_tuples(rows):
            if is_to_notify:
                to_notify.append((key, identifier))
            elif key not in records:
                records[key] = ChangeRecord(identifier, None, ChangeOutcome.UNCHANGED)
        return records, to_notify

    def _notify(self, key: int, identifier: str) -> ChangeRecord:
        """Mail the notice to one client, and record it."""
        if self._in_a_row and self.error is None:
            self._stop.wait(self._first_pause * 2 ** (self._in_a_row - 1))
        if self.error is not None or self._stop.is_set() or not self._take_place():
            self.not_notified += 1
            return ChangeRecord(identifier, None, ChangeOutcome.POSTPONED)
        with self._context.database.atomic():
            client, record = self._prepare(key, identifier)
            at = self._context.clock()
        if client is None:
            return record
        place, self._place = self._place, None
        assert place is not None
        lease = Lease(Client(id=client.key), self._owner)
        mail = None
        try:
            with lease.renewed(self._context, also=[place.extend]):
                try:
                    mail = self._compose(client, at)
                except InvalidInput as error:
                    answer = _Answer(DeliveryOutcome.REFUSED, error, Cause.RECIPIENT)
                else:
                    answer = self._send(mail)
            with self._context.database.atomic():
                record = self._settle(client, answer, mail, at, place)
                lease.release()
        except BaseException:
            # The notice counts only once it is recorded; an unreleased lease ends automatically.
            with suppress(peewee.PeeweeException), self._context.database.atomic():
                lease.release()
                place.settle(self._context.clock())
            raise
        self._judge(answer, is_notified=record.outcome is ChangeOutcome.NOTIFIED)
        return record

    def _take_place(self) -> bool:
        """Wait for the next place in the quotas, unless one is left. Return False if they are used up."""
        if self._place is not None:
            return True
        reserve = self._context.settings.mail_reserve
        try:
            self._place = quotas.take_place(self._context, self._owner, patience=self._patience, reserve=reserve)
        except TemporaryFailure as failure:
            self.error = failure
        return self._place is not None

    def _prepare(self, key: int, identifier: str) -> tuple[_Addressee | None, ChangeRecord]:
        """Lock a client, and take the lease if the client is still to be notified; otherwise return the result."""
        lock_clients([key])
        found = conditions(self._context.settings, self._period, self._context.clock())
        rows = Client.select(*_COLUMNS).where(Client.id == key, found.is_to_notify, *self._guard.conditions)
        row = next(fetch_tuples(rows), None)
        if row is None:
            return None, ChangeRecord(identifier, None, ChangeOutcome.UNCHANGED)
        client = _Addressee._make(row)
        if key not in leases.take_leases(self._context, [key], self._owner):
            return None, change.busy_record(identifier)
        return client, ChangeRecord(identifier, None, ChangeOutcome.NOTIFIED)

    def _compose(self, client: _Addressee, at: datetime) -> Mail:
        settings = self._context.settings
        return message.closing_mail(
            settings,
            recipient=email_address.parse_email(client.email).wire,
            language=client.language or settings.language,
            name=issue.greeting_name(client.civility, client.first_name, client.last_name),
            identifier=client.identifier,
            closes_at=closing_moment(settings, at, self._period),
            sent_at=at,
            client=client.key,
        )

    def _send(self, mail: Mail) -> _Answer:
        try:
            self._transport.deliver(mail)
        except DeliveryRefused as refusal:
            return _Answer(DeliveryOutcome.REFUSED, refusal.error, refusal.cause)
        except DeliveryUnknown as loss:
            doubt = TemporaryFailure("{loss}. The mail may have been sent", code=issue.IN_DOUBT, loss=loss.words)
            return _Answer(DeliveryOutcome.IN_DOUBT, doubt)
        return _Answer(DeliveryOutcome.ACCEPTED)

    def _settle(
        self, client: _Addressee, answer: _Answer, mail: Mail | None, at: datetime, place: Place
    ) -> ChangeRecord:
        """Record the answer to a notice that left at this moment, and return the result for the client."""
        place.settle(self._context.clock())
        details: dict[str, Any] = {"closes_on": self._closing_day(at)}
        if mail is not None:
            details["message_id"] = mail.message_id
        if answer.error is not None:
            details["failure"] = answer.error.code
        counts = answer.counts or self._was_tried_long_enough(client.key, answer, at)
        if counts:
            # The time before the mail left: a login or a new address since then makes the notice void.
            Client.update(closing_notified_at=at).where(Client.id == client.key).execute()
        if counts or answer.cause not in _OF_THE_SERVER:
            outcome = str(answer.outcome) if counts else DEFERRED
            private = self._guard.details()
            audit.record_changes(self._context, ACTION, outcome, [client.key], private=private, **details)
        result = ChangeOutcome.NOTIFIED if counts else ChangeOutcome.FAILED
        if answer.error is None:
            return ChangeRecord(client.identifier, None, result)
        if counts:
            self.undelivered += 1
        else:
            self.not_notified += 1
        return ChangeRecord(client.identifier, None, result, answer.error.code, answer.error.message)

    def _closing_day(self, at: datetime) -> str:
        closes_at = closing_moment(self._context.settings, at, self._period)
        return clock.to_zone(closes_at, self._context.settings.timezone).date().isoformat()

    def _was_tried_long_enough(self, key: int, answer: _Answer, at: datetime) -> bool:
        """Return whether notices to a client have been refused for EGEC_MAIL_RETRY_HOURS.

        If the refusals may concern all mails, the server must have accepted other notices since the first of them.
        """
        if answer.cause in _OF_THE_SERVER:
            return False
        first = _find_first_deferral(key)
        if first is None or first.at > at - timedelta(hours=self._context.settings.mail_retry_hours):
            return False
        if answer.cause is Cause.RECIPIENT:
            return True
        accepted = Event.select(Event.id).where(
            (Event.id > first.id) & (Event.action == ACTION) & (Event.outcome == DeliveryOutcome.ACCEPTED)
        )
        return bool(accepted.exists())

    def _judge(self, answer: _Answer, *, is_notified: bool) -> None:
        """Stop sending if the next mails would be refused too."""
        if not answer.may_concern_all or answer.error is None:
            self._in_a_row, self._last_doubt = 0, None
            return
        self._in_a_row += 1
        self._last_doubt = None if is_notified else answer.error
        if answer.error.exit_code in _OF_THE_SETTINGS or self._in_a_row >= MOST_IN_A_ROW:
            self.error = answer.error


def _find_first_deferral(key: int) -> Event | None:
    """Return the first event of the present attempts to notify a client; None if there was none before."""
    is_deferral = (Event.action == ACTION) & (Event.outcome == DEFERRED)
    has_signed_in = (Event.action == "login") & (Event.outcome == "accepted")
    begins_anew = (Event.action.in_(_BEGINS_ANEW) & ~is_deferral) | has_signed_in
    last = Event.select(peewee.fn.COALESCE(peewee.fn.MAX(Event.id), 0)).where((Event.client == key) & begins_anew)
    deferrals = Event.select().where((Event.client == key) & is_deferral & (Event.id > last)).order_by(Event.id)
    first: Event | None = deferrals.first()
    return first


def explain_end(closer: Closer) -> EgecError | None:
    """Return the error that says why clients were not notified, and how to continue; None if all were."""
    error = closer.error
    if error is None or not closer.not_notified:
        return None
    if error.code == "mail_quota_reached":
        hint = Words("Run the same command again at that time: it continues.")
    else:
        again = Words("Nothing was lost. Later, run the same command again: it continues.")
        hint = join_words(" ", [error.hint, again] if error.exit_code in _OF_THE_SETTINGS else [again])
    if error.exit_code in {*_OF_THE_SETTINGS, ExitCode.TEMPORARY_FAILURE}:
        error.message = Words(
            "{reason}; clients not notified yet: {number}", reason=error.message, number=closer.not_notified
        )
        error.hint = hint
        return error
    return TemporaryFailure(
        "the mail server refuses all mails at present: {reason}; clients not notified yet: {number}",
        hint,
        code="mail_server_refuses",
        reason=error.message,
        number=closer.not_notified,
    )
