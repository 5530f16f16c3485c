"""Issue credentials to the clients of a run: record them, build their mails, and settle them."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from typing import NamedTuple

from egec_cli import email_address
from egec_cli.audit import events as audit
from egec_cli.audit.events import SettledIssue
from egec_cli.context import Context
from egec_cli.credentials import issue, leases, quotas, shared_emails, validity
from egec_cli.credentials.quotas import RunLimits
from egec_cli.credentials.states import (
    MailOutcome,
    NewCredential,
    RecordedCredential,
    lock_clients,
    record_credentials,
    settle_credentials,
)
from egec_cli.errors import PermissionDenied
from egec_cli.mail.compose.message import Mail, MailForm
from egec_cli.mail.compose.template import KINDS_OF_A_RUN, Kind
from egec_cli.mail.lint import templates
from egec_cli.reissue import backoff, items
from egec_cli.reissue.items import ClaimedItem, ItemRecord
from egec_cli.reissue.runs import RunOptions
from egec_cli.reissue.server_watch import is_accepted, is_doubtful, is_for_now, is_server_wide
from egec_cli.reissue.threads import FinishedJob, HashedPassword, MailJob, Recipient
from egec_cli.settings.types import LANGUAGES, Settings
from egec_cli.store import peewee
from egec_cli.store.models import OPEN_STATES, Client, Credential, CredentialState, ItemState, ReissueRun
from egec_cli.store.sql import fetch_tuples, in_list

_RECIPIENT_COLUMNS = (
    Client.id, Client.identifier, Client.email, Client.civility, Client.first_name, Client.last_name,
    Client.language, Client.disabled_at, Client.valid_from, Client.valid_until, Client.active_sequence,
    Client.reference,
)  # fmt: skip
_NOT_SHARED = peewee.Value(0)


def kind_for(active_sequence: int) -> Kind:
    """Return the kind of mail for a client with this `active_sequence`.

    It rises when a password is accepted or imported and never falls, even if that password is superseded, revoked or
    expires later. So 0 means that the client has never had a password that worked.
    """
    return Kind.REISSUE if active_sequence else Kind.CREDENTIALS


def prepare_forms(settings: Settings, sentence: str) -> Mapping[tuple[Kind, str], MailForm]:
    """Return the mails of a run by kind and language.

    Without a sentence of the run, first mails have none and the others have the sentence of their template.

    Raises:
        ConfigError: templates or settings would make a faulty mail; all faults are listed.
    """
    templates.require_sound_templates(settings, sentence)
    return {
        (kind, language): MailForm(settings, language, kind, sentence)
        for kind in KINDS_OF_A_RUN
        for language in LANGUAGES
    }


class Departures(NamedTuple):
    """When the next mails of a turn may leave.

    Attributes:
        limits: what limits them, if anything.
        moments: the moments.
        at: the time of the turn.
        now: the same on the monotonic clock, in seconds.
    """

    limits: RunLimits
    moments: Sequence[datetime]
    at: datetime
    now: float

    def reserve(self, mails: int, owner: str) -> int | None:
        """Reserve the first of them for this number of mails; return the key of the reservation, None without one."""
        return quotas.reserve(self.limits, self.moments[:mails], owner) if self.limits.is_limited else None

    def on_monotonic_clock(self) -> list[float]:
        """Return the moments on the monotonic clock, in seconds."""
        return [self.now + (moment - self.at).total_seconds() for moment in self.moments]


class Issuer:
    """Issues credentials for one worker of a run, under the name that owns its leases.

    Raises:
        ConfigError: a template is faulty, or clients share an e-mail although EGEC_SHARED_EMAIL is no.
    """

    def __init__(self, context: Context, run: ReissueRun, owner: str) -> None:
        shared_emails.require_allowed(context)
        self._context = context
        self._run = run
        self._owner = owner
        self._forms = prepare_forms(context.settings, RunOptions.parse(run.options).sentence)

    def settle_jobs(self, finished: Sequence[FinishedJob], at: datetime, *, takes_back: bool) -> list[ItemRecord]:
        """Settle the outcomes of mails, and return the clients who are finished.

        Clients whose mail was refused for good, maybe for a reason that concerns everybody, stay claimed: their items
        are for `fail_clients`, or are given back when the run pauses.

        Args:
            takes_back: the run pauses, and refusals that may concern everybody count as no attempt.
        """
        self._record_events(settle_credentials([_outcome(one) for one in finished], at=at))
        leases.release_leases([one.job.item.client for one in finished], self._owner)
        accepted = [one.job for one in finished if is_accepted(one)]
        items.accept_items([job.item.key for job in accepted], self._owner)
        records = [
            _record(job.item._replace(attempts=job.item.attempts + 1), job.recipient, ItemState.ACCEPTED)
            for job in accepted
        ]
        for one in finished:
            if one.result is None:
                items.give_back_items([one.job.item.key], self._owner)
            elif is_server_wide(one) or (takes_back and is_doubtful(one)):
                items.give_back_items([one.job.item.key], self._owner, due=at)
            elif is_for_now(one):
                records += self._defer_client(one, at)
            elif one.result.error is not None and not is_doubtful(one):
                records += self.fail_clients([one])
        return records

    def _defer_client(self, finished: FinishedJob, at: datetime) -> list[ItemRecord]:
        """Let a client wait for the next attempt; return the client if the mail has been tried for long enough."""
        item = finished.job.item
        # An attempt that was taken back does not count, nor does a time that was stored before the clock was set back.
        since = min(item.tried_since, at) if item.tried_since is not None and item.attempts else at
        failures = item.attempts + 1
        until = backoff.next_attempt(failures, since, at, self._context.settings.mail_retry_hours)
        if until is None:
            return self.fail_clients([finished])
        code, details = _failure(finished)
        item = item._replace(attempts=failures, tried_since=since)
        items.defer_item(item, self._owner, until, code, details)
        return []

    def fail_clients(self, finished: Sequence[FinishedJob]) -> list[ItemRecord]:
        """Let clients fail with the answer to their mail, and return them."""
        return [
            self._fail(one.job.item._replace(attempts=one.job.item.attempts + 1), one.job.recipient, *_failure(one))
            for one in finished
        ]

    def settle_reservations(self, finished: Sequence[FinishedJob], at: datetime, now: float) -> None:
        """Count the mails of finished jobs until their answers; `now` is the moment `at` on the monotonic clock."""
        mails = [
            (one.job.reservation, None if one.result is None else at - timedelta(seconds=now - one.ended_at))
            for one in finished
            if one.job.reservation is not None
        ]
        quotas.settle_mails(mails, self._owner, at)

    def _record_events(self, states: Mapping[RecordedCredential, CredentialState]) -> None:
        settled = [SettledIssue(one.client, one.sequence, state) for one, state in states.items()]
        audit.record_issues(self._context, self._run, settled)

    def end_waits_too_long(self, at: datetime) -> None:
        """Make items due that wait longer than they should: they were deferred before the clock was set back."""
        items.end_waits_too_long(self._run, at, backoff.longest_waits())

    def settle_abandoned_items(self, at: datetime) -> None:
        """Give back the items of workers that have ended, and settle those whose mail was accepted."""
        self.end_waits_too_long(at)
        sent = items.free_abandoned_items(self._run, at)
        if not sent:
            return
        lock_clients(sorted(item.client for item in sent))
        is_open = Credential.state.in_(OPEN_STATES) & (Credential.run == self._run)
        rows = Credential.select(Credential.id, Credential.client, Credential.sequence).where(
            in_list(Credential.client, [item.client for item in sent]) & is_open
        )
        # A login may have settled it meanwhile; earlier ones of this run were in doubt before.
        last = {row[1]: RecordedCredential(*row) for row in sorted(fetch_tuples(rows), key=itemgetter(2))}
        outcomes = [MailOutcome(one, CredentialState.ACCEPTED) for one in last.values()]
        self._record_events(settle_credentials(outcomes, at=at))
        for item in sent:
            leases.release_leases([item.client], item.owner)
            items.accept_items([item.key], item.owner)

    def record_passwords(
        self, hashed: Sequence[HashedPassword], departures: Departures, at: datetime
    ) -> tuple[list[MailJob], list[ItemRecord]]:
        """Record credentials, and return their mails and the clients who are finished without a mail.

        Args:
            hashed: the passwords, each of a different client.
            departures: when the mails may leave, at least one for each password.
            at: the moment of the issue.
        """
        by_client = {one.item.client: one for one in hashed}
        free = leases.take_leases(self._context, list(by_client), self._owner)
        for one in hashed:
            if one.item.client not in free:
                later = at + timedelta(seconds=backoff.WAIT_FOR_ANOTHER)
                items.defer_item(one.item, self._owner, later, "client_busy", None)
        is_shared = shared_emails.is_shared() if self._context.settings.shared_email else _NOT_SHARED
        rows = fetch_tuples(Client.select(*_RECIPIENT_COLUMNS, is_shared).where(in_list(Client.id, free)))
        recipients = {row[0]: Recipient(*row) for row in rows}
        unmailed = list(self._finish_without_mail([(by_client[key].item, one) for key, one in recipients.items()]))
        finished = {record.identifier for record in unmailed}
        new = {
            key: NewCredential(key, by_client[key].password_hash, self._form(one).new_message_id(key))
            for key, one in recipients.items()
            if one.identifier not in finished
        }
        recorded = record_credentials(
            list(new.values()),
            at=at,
            by=self._context.actor.user,
            expires_at=validity.find_expiry(self._context.settings, at),
            run=self._run,
        )
        for key in new.keys() - recorded.keys():
            error = issue.too_many_in_doubt(recipients[key].identifier)
            unmailed.append(self._fail(by_client[key].item, recipients[key], error.code, error.message))
        leases.release_leases([key for key in free if key not in recorded], self._owner)
        # Clients who were refused before a pause come last: so the mails leave in the order of the queue.
        waiting = [one for one in hashed if one.item.client in recorded]
        reservation = departures.reserve(len(waiting), self._owner) if waiting else None
        jobs = [
            MailJob(
                one.item,
                recipients[one.item.client],
                recorded[one.item.client],
                one.password,
                new[one.item.client].message_id or "",
                issued_at=at,
                leaves_at=leaves_at,
                reservation=reservation,
            )
            for one, leaves_at in zip(waiting, departures.on_monotonic_clock(), strict=False)
        ]
        return jobs, unmailed

    def _finish_without_mail(self, recipients: Sequence[tuple[ClaimedItem, Recipient]]) -> Iterator[ItemRecord]:
        """Finish and yield the clients who need no further mail, or may not get one."""
        is_of_this_run = Credential.run == self._run
        reached = Credential.select(Credential.client, Credential.run).where(
            in_list(Credential.client, [one.key for _, one in recipients])
            & (Credential.state == CredentialState.ACCEPTED)
            & (is_of_this_run | (Credential.created_at > self._run.created_at))
        )
        runs_by_client = dict(fetch_tuples(reached))
        now = validity.local_moment(self._context)
        for item, one in recipients:
            if runs_by_client.get(one.key) == self._run.id:
                # The mail was in doubt until a login proved that it had arrived.
                attempts = items.accept_proven_item(item, self._owner)
                yield _record(item._replace(attempts=attempts), one, ItemState.ACCEPTED)
                continue
            if one.key in runs_by_client:
                # Activated, imported or mailed by another run since the start: a mail of this one would replace that.
                items.skip_item(item, self._owner)
                yield _record(item, one, ItemState.SKIPPED)
                continue
            try:
                issue.require_activatable(one, now)
            except PermissionDenied as error:
                yield self._fail(item, one, error.code, error.message)

    def _fail(self, item: ClaimedItem, recipient: Recipient, failure: str, details: str) -> ItemRecord:
        items.fail_item(item, self._owner, failure, details)
        return _record(item, recipient, ItemState.FAILED, failure, details)

    def _form(self, recipient: Recipient) -> MailForm:
        # The client's row was locked when it was read, so the kind was decided when the credential was recorded.
        kind = kind_for(recipient.active_sequence)
        return self._forms[kind, recipient.language or self._context.settings.language]

    def build_mail(self, job: MailJob) -> Mail:
        """Return the mail of a job.

        Raises:
            InvalidInput: the client's address is invalid.
            ConfigError: a template or a setting does not suit this client.
        """
        one = job.recipient
        name = issue.greeting_name(one.civility, one.first_name, one.last_name)
        return self._form(one).fill(
            recipient=email_address.parse_email(one.email or "").wire,
            name=name,
            identifier=one.identifier,
            password=job.password,
            issued_at=job.issued_at,
            message_id=job.message_id,
            record=shared_emails.name_record(one.reference, name, one.identifier) if one.is_shared else "",
        )


def _failure(finished: FinishedJob) -> tuple[str, str]:
    """Return the error code of a refused mail, and the server's reply or else the reason."""
    assert finished.result is not None
    assert finished.result.error is not None
    reply = finished.result.outcome.server_reply
    return finished.result.error.code, finished.result.error.message if reply is None else reply


def _outcome(finished: FinishedJob) -> MailOutcome:
    if finished.result is None:
        return MailOutcome(finished.job.recorded, CredentialState.REFUSED, "not_sent")
    return finished.result.outcome


def _record(
    item: ClaimedItem, one: Recipient, outcome: ItemState, failure: str | None = None, details: str | None = None
) -> ItemRecord:
    return ItemRecord(one.identifier, one.email, item.line, outcome, failure, details, item.attempts)
