"""The mails of a run: its templates checked before the first mail leaves, and prepared for many clients."""

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from operator import itemgetter

from egec_cli import email_address
from egec_cli.audit import record as audit
from egec_cli.audit.record import SettledIssue
from egec_cli.context import Context
from egec_cli.credentials import issue, leases
from egec_cli.credentials.issue import SendResult
from egec_cli.credentials.states import (
    MailOutcome,
    NewCredential,
    RecordedCredential,
    lock_clients,
    record_credentials,
    settle_credentials,
)
from egec_cli.errors import ExitCode, PermissionDenied
from egec_cli.mail.compose.message import Mail, MailForm
from egec_cli.mail.compose.wording import KINDS_OF_A_RUN, Kind
from egec_cli.mail.lint import templates
from egec_cli.reissue import items as reissue_items
from egec_cli.reissue import quotas, runs
from egec_cli.reissue.items import Claimed, ItemRecord
from egec_cli.reissue.threads import Addressee, Hashed, Job, Sent
from egec_cli.settings.schema import LANGUAGES, Settings
from egec_cli.store.database import fetch_tuples, in_list
from egec_cli.store.models import OPEN_STATES, Client, Credential, CredentialState, ItemState, ReissueRun


def kind_for(active_sequence: int) -> Kind:
    """Return which mail a client gets.

    Args:
        active_sequence: the client's. It rises when a password is accepted or imported, and never falls, whether that
            password is superseded, revoked or expires later. So 0 means that the client has never had one that worked.
    """
    return Kind.REISSUE if active_sequence else Kind.CREDENTIALS


def prepare_forms(settings: Settings, sentence: str) -> Mapping[tuple[Kind, str], MailForm]:
    """Return the mails of a run by kind and language.

    Args:
        settings: where the templates are.
        sentence: that of the run; where it is empty, first mails have none and others that of the templates.

    Raises:
        ConfigError: templates or settings make a mail that would not be read as written; all flaws are listed.
    """
    templates.require_sound_templates(settings, sentence)
    return {
        (kind, language): MailForm(settings, language, kind, sentence)
        for kind in KINDS_OF_A_RUN
        for language in LANGUAGES
    }


# The number of attempts for a mail that is refused for now, or whose answer is lost.
MOST_ATTEMPTS = 4
# How long it waits after the first, in seconds: three times as long after each further one.
FIRST_WAIT = 10.0
# A wait is this many times as long at least and at most, so that mails which failed together do not return together.
_SPREAD = (0.5, 1.5)
# How long a client waits while another egec is mailing it, in seconds.
WAIT_FOR_ANOTHER = 2.0

_RANDOM = secrets.SystemRandom()
_ADDRESSEE = (
    Client.id, Client.identifier, Client.email, Client.civility, Client.first_name, Client.last_name,
    Client.language, Client.disabled_at, Client.active_sequence,
)  # fmt: skip


class Ledger:
    """The books of one worker of a run.

    Raises:
        ConfigError: a template makes no mail.
    """

    def __init__(self, context: Context, run: ReissueRun, owner: str) -> None:
        """Check the templates, and keep the books in the name of this owner of leases."""
        self._context = context
        self._run = run
        self._owner = owner
        self._forms = prepare_forms(context.settings, runs.RunOptions.of(run.options).sentence)

    def settle(self, sent: Sequence[Sent], at: datetime) -> list[ItemRecord]:
        """Settle what became of mails, and return the clients that are dealt with by that."""
        states = settle_credentials([_outcome(one) for one in sent], at=at)
        self._put_on_record(states)
        leases.release_leases([one.job.item.client for one in sent], self._owner)
        accepted = [one.job for one in sent if is_accepted(one)]
        reissue_items.accept_items([job.item.key for job in accepted], self._owner)
        finished = [
            _dealt_with(job.item._replace(attempts=job.item.attempts + 1), job.addressee, ItemState.ACCEPTED)
            for job in accepted
        ]
        for job, attempt in sent:
            if attempt is None or is_server_wide(attempt):
                reissue_items.give_back_items([job.item.key], self._owner)
            elif attempt.error is not None:
                item = job.item._replace(attempts=job.item.attempts + 1)
                reply = attempt.outcome.server_reply
                details = attempt.error.message if reply is None else reply
                if attempt.error.exit_code is ExitCode.NOT_NOW and item.attempts < MOST_ATTEMPTS:
                    wait = _wait_after(item.attempts) * _RANDOM.uniform(*_SPREAD)
                    reissue_items.defer_item(item, self._owner, at + wait, attempt.error.code, details)
                else:
                    finished.append(self._failed(item, job.addressee, attempt.error.code, details))
        return finished

    def _put_on_record(self, states: Mapping[RecordedCredential, CredentialState]) -> None:
        settled = [SettledIssue(one.client, one.sequence, state) for one, state in states.items()]
        audit.record_issues(self._context, self._run, settled)

    def settle_abandoned(self, at: datetime) -> None:
        """Give back the items of workers that have ended, and settle those whose mail they knew to be accepted."""
        reissue_items.end_waits_too_long(self._run, at, _longest_waits())
        sent = reissue_items.free_abandoned_items(self._run, at)
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
        states = settle_credentials(outcomes, at=at)
        self._put_on_record(states)
        for item in sent:
            leases.release_leases([item.client], item.owner)
            reissue_items.accept_items([item.key], item.owner)

    def record(self, hashed: Sequence[Hashed], rate: int, at: datetime) -> tuple[list[Job], list[ItemRecord]]:
        """Record the credentials of passwords, and return their mails and the clients that are dealt with without one.

        Args:
            hashed: the passwords, each of another client.
            rate: how many mails may leave in a second; 0 for no limit.
            at: the moment of the issue.
        """
        by_client = {one.item.client: one for one in hashed}
        free = leases.take_leases(self._context, list(by_client), self._owner)
        for one in hashed:
            if one.item.client not in free:
                later = at + timedelta(seconds=WAIT_FOR_ANOTHER)
                reissue_items.defer_item(one.item, self._owner, later, "client_busy", None)
        addressees = {
            row[0]: Addressee(*row) for row in fetch_tuples(Client.select(*_ADDRESSEE).where(in_list(Client.id, free)))
        }
        unmailed = list(self._without_mail([(by_client[key].item, one) for key, one in addressees.items()]))
        done = {record.identifier for record in unmailed}
        new = {
            key: NewCredential(key, by_client[key].password_hash, self._form(one).new_message_id(key))
            for key, one in addressees.items()
            if one.identifier not in done
        }
        recorded = record_credentials(
            list(new.values()),
            at=at,
            by=self._context.actor.user,
            unused_days=self._context.settings.unused_password_days,
            run=self._run,
        )
        for key in new.keys() - recorded.keys():
            error = issue.too_many_in_doubt(addressees[key].identifier)
            unmailed.append(self._failed(by_client[key].item, addressees[key], error.code, error.message))
        leases.release_leases([key for key in free if key not in recorded], self._owner)
        leave_at = self._leave_at(len(recorded), rate, at)
        jobs = [
            Job(
                by_client[key].item,
                addressees[key],
                one,
                by_client[key].password,
                new[key].message_id or "",
                issued_at=at,
                leaves_at=moment,
            )
            for (key, one), moment in zip(recorded.items(), leave_at, strict=True)
        ]
        return jobs, unmailed

    def _without_mail(self, addressees: Sequence[tuple[Claimed, Addressee]]) -> Iterator[ItemRecord]:
        """Deal with the clients who need no mail any more, and with those who may get none; yield them."""
        reached = Credential.select(Credential.client).where(
            in_list(Credential.client, [one.key for _, one in addressees])
            & (Credential.run == self._run)
            & (Credential.state == CredentialState.ACCEPTED)
        )
        # Their mail's fate was unknown until a login showed that it had arrived.
        arrived = {key for (key,) in fetch_tuples(reached)}
        for item, one in addressees:
            if one.key in arrived:
                attempts = reissue_items.accept_proven(item, self._owner)
                yield _dealt_with(item._replace(attempts=attempts), one, ItemState.ACCEPTED)
                continue
            try:
                issue.require_email(one.identifier, one.email, one.disabled_at)
            except PermissionDenied as error:
                yield self._failed(item, one, error.code, error.message)

    def _failed(self, item: Claimed, addressee: Addressee, failure: str, details: str) -> ItemRecord:
        reissue_items.fail_item(item, self._owner, failure, details)
        return _dealt_with(item, addressee, ItemState.FAILED, failure, details)

    def _leave_at(self, mails: int, rate: int, at: datetime) -> list[float]:
        """Return the moments of the monotonic clock at which so many mails may leave."""
        now = time.monotonic()
        if not rate:
            return [now] * mails
        return [now + (moment - at).total_seconds() for moment in quotas.reserve_slots(mails, rate, at)]

    def _form(self, addressee: Addressee) -> MailForm:
        # Which mail it is was settled when the credential was recorded: the client's row was locked when it was read.
        kind = kind_for(addressee.active_sequence)
        return self._forms[kind, addressee.language or self._context.settings.language]

    def mail(self, job: Job) -> Mail:
        """Return the mail of a job.

        Raises:
            InvalidInput: the client's address is none.
            ConfigError: a template or a setting does not go with this client.
        """
        one = job.addressee
        return self._form(one).fill(
            recipient=email_address.parse_email(one.email or "").wire,
            name=issue.greeting_name(one.civility, one.first_name, one.last_name),
            identifier=one.identifier,
            password=job.password,
            issued_at=job.issued_at,
            message_id=job.message_id,
        )


def _wait_after(attempts: int) -> timedelta:
    """Return how long a mail waits on average after this number of failed attempts."""
    return timedelta(seconds=FIRST_WAIT * 3 ** (attempts - 1))


def _longest_waits() -> dict[int, timedelta]:
    """Return the longest wait for each number of failed attempts."""
    least = timedelta(seconds=WAIT_FOR_ANOTHER)
    after_failures = {attempts: _wait_after(attempts) * _SPREAD[1] for attempts in range(1, MOST_ATTEMPTS)}
    return {0: least} | {attempts: max(least, wait) for attempts, wait in after_failures.items()}


def is_server_wide(attempt: SendResult) -> bool:
    """Tell whether a mail failed for a reason that is not its client's: any other would fail as well."""
    if attempt.error is None:
        return False
    return attempt.server_away or attempt.error.exit_code not in {ExitCode.BAD_INPUT, ExitCode.NOT_NOW}


def is_accepted(sent: Sent) -> bool:
    """Tell whether the server accepted the mail."""
    return sent.attempt is not None and sent.attempt.outcome.state is CredentialState.ACCEPTED


def _outcome(sent: Sent) -> MailOutcome:
    if sent.attempt is None:
        return MailOutcome(sent.job.recorded, CredentialState.REFUSED, "not_sent")
    return sent.attempt.outcome


def _dealt_with(
    item: Claimed, one: Addressee, outcome: ItemState, failure: str | None = None, details: str | None = None
) -> ItemRecord:
    return ItemRecord(one.identifier, one.email, item.line, outcome, failure, details, item.attempts)
