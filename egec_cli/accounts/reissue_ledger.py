"""What a re-issue run does in the database for those whom it mails: credentials recorded and settled, items dealt with.

Every method but `mail` runs inside a transaction of its caller, which has locked the clients.
"""

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from operator import itemgetter

from egec_cli import email_address
from egec_cli.accounts import audit, credentials, issuing, leases, mail_pace, reissue, reissue_forms, reissue_items
from egec_cli.accounts.audit import SettledIssue
from egec_cli.accounts.credentials import NewCredential, Outcome, Recorded
from egec_cli.accounts.egec import Egec
from egec_cli.accounts.issuing import Attempt
from egec_cli.accounts.reissue_items import Claimed, ItemRecord
from egec_cli.accounts.reissue_threads import Addressee, Hashed, Job, Sent
from egec_cli.errors import ExitCode, NotPermitted
from egec_cli.mail.message import Form, Mail
from egec_cli.store.database import among, tuples
from egec_cli.store.models import OPEN_STATES, Client, Credential, CredentialState, ItemState, ReissueRun

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
        Misconfigured: a template makes no mail.
    """

    def __init__(self, egec: Egec, run: ReissueRun, owner: str) -> None:
        """Check the templates, and keep the books in the name of this owner of leases."""
        self._egec = egec
        self._run = run
        self._owner = owner
        self._forms = reissue_forms.of(egec.settings, reissue.Options.of(run.options).sentence)

    def settle(self, sent: Sequence[Sent], at: datetime) -> list[ItemRecord]:
        """Settle what became of mails, and return the clients that are dealt with by that."""
        states = credentials.settle([_outcome(one) for one in sent], at=at)
        self._put_on_record(states)
        leases.release_all([one.job.item.client for one in sent], self._owner)
        accepted = [one.job for one in sent if is_accepted(one)]
        reissue_items.accept([job.item.key for job in accepted], self._owner)
        finished = [
            _dealt_with(job.item._replace(attempts=job.item.attempts + 1), job.addressee, ItemState.ACCEPTED)
            for job in accepted
        ]
        for job, attempt in sent:
            if attempt is None or is_our_own_matter(attempt):
                reissue_items.give_back([job.item.key], self._owner)
            elif attempt.error is not None:
                item = job.item._replace(attempts=job.item.attempts + 1)
                reply = attempt.outcome.server_reply
                details = attempt.error.message if reply is None else reply
                if attempt.error.exit_code is ExitCode.NOT_NOW and item.attempts < MOST_ATTEMPTS:
                    wait = _wait_after(item.attempts) * _RANDOM.uniform(*_SPREAD)
                    reissue_items.put_off(item, self._owner, at + wait, attempt.error.code, details)
                else:
                    finished.append(self._failed(item, job.addressee, attempt.error.code, details))
        return finished

    def _put_on_record(self, states: Mapping[Recorded, CredentialState]) -> None:
        settled = [SettledIssue(one.client, one.sequence, state) for one, state in states.items()]
        audit.record_issues(self._egec, self._run, settled)

    def settle_abandoned(self, at: datetime) -> None:
        """Give back the items of workers that have ended, and settle those whose mail they knew to be accepted."""
        reissue_items.end_waits_too_long(self._run, at, _longest_waits())
        sent = reissue_items.free_abandoned(self._run, at)
        if not sent:
            return
        credentials.lock(sorted(item.client for item in sent))
        is_open = Credential.state.in_(OPEN_STATES) & (Credential.run == self._run)
        rows = Credential.select(Credential.id, Credential.client, Credential.sequence).where(
            among(Credential.client, [item.client for item in sent]) & is_open
        )
        # A login may have settled it meanwhile; earlier ones of this run were in doubt before.
        last = {row[1]: Recorded(*row) for row in sorted(tuples(rows), key=itemgetter(2))}
        outcomes = [Outcome(one, CredentialState.ACCEPTED) for one in last.values()]
        states = credentials.settle(outcomes, at=at)
        self._put_on_record(states)
        for item in sent:
            leases.release_all([item.client], item.owner)
            reissue_items.accept([item.key], item.owner)

    def record(self, hashed: Sequence[Hashed], rate: int, at: datetime) -> tuple[list[Job], list[ItemRecord]]:
        """Record the credentials of passwords, and return their mails and the clients that are dealt with without one.

        Args:
            hashed: the passwords, each of another client.
            rate: how many mails may leave in a second; 0 for no limit.
            at: the moment of the issue.
        """
        by_client = {one.item.client: one for one in hashed}
        free = leases.take_all(self._egec, list(by_client), self._owner)
        for one in hashed:
            if one.item.client not in free:
                later = at + timedelta(seconds=WAIT_FOR_ANOTHER)
                reissue_items.put_off(one.item, self._owner, later, "client_busy", None)
        addressees = {
            row[0]: Addressee(*row) for row in tuples(Client.select(*_ADDRESSEE).where(among(Client.id, free)))
        }
        unmailed = list(self._without_mail([(by_client[key].item, one) for key, one in addressees.items()]))
        done = {record.identifier for record in unmailed}
        new = {
            key: NewCredential(key, by_client[key].password_hash, self._form(one).new_message_id(key))
            for key, one in addressees.items()
            if one.identifier not in done
        }
        recorded = credentials.record(
            list(new.values()),
            at=at,
            by=self._egec.actor.user,
            unused_days=self._egec.settings.unused_password_days,
            run=self._run,
        )
        for key in new.keys() - recorded.keys():
            error = issuing.too_many_open(addressees[key].identifier)
            unmailed.append(self._failed(by_client[key].item, addressees[key], error.code, error.message))
        leases.release_all([key for key in free if key not in recorded], self._owner)
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
            among(Credential.client, [one.key for _, one in addressees])
            & (Credential.run == self._run)
            & (Credential.state == CredentialState.ACCEPTED)
        )
        # Their mail's fate was unknown until a login showed that it had arrived.
        arrived = {key for (key,) in tuples(reached)}
        for item, one in addressees:
            if one.key in arrived:
                attempts = reissue_items.accept_proven(item, self._owner)
                yield _dealt_with(item._replace(attempts=attempts), one, ItemState.ACCEPTED)
                continue
            try:
                issuing.registered_email(one.identifier, one.email, one.disabled_at)
            except NotPermitted as error:
                yield self._failed(item, one, error.code, error.message)

    def _failed(self, item: Claimed, addressee: Addressee, failure: str, details: str) -> ItemRecord:
        reissue_items.fail(item, self._owner, failure, details)
        return _dealt_with(item, addressee, ItemState.FAILED, failure, details)

    def _leave_at(self, mails: int, rate: int, at: datetime) -> list[float]:
        """Return the moments of the monotonic clock at which so many mails may leave."""
        now = time.monotonic()
        if not rate:
            return [now] * mails
        return [now + (moment - at).total_seconds() for moment in mail_pace.reserve(mails, rate, at)]

    def _form(self, addressee: Addressee) -> Form:
        # Which mail it is was settled when the credential was recorded: the client's row was locked when it was read.
        kind = reissue_forms.kind_for(addressee.active_sequence)
        return self._forms[kind, addressee.language or self._egec.settings.language]

    def mail(self, job: Job) -> Mail:
        """Return the mail of a job.

        Raises:
            BadInput: the client's address is none.
            Misconfigured: a template or a setting does not go with this client.
        """
        one = job.addressee
        return self._form(one).filled(
            recipient=email_address.checked(one.email or "").wire,
            name=issuing.greeted_name(one.civility, one.first_name, one.last_name),
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


def is_our_own_matter(attempt: Attempt) -> bool:
    """Tell whether a mail failed for a reason that is not its client's: any other would fail as well."""
    if attempt.error is None:
        return False
    return attempt.server_away or attempt.error.exit_code not in {ExitCode.BAD_INPUT, ExitCode.NOT_NOW}


def is_accepted(sent: Sent) -> bool:
    """Tell whether the server accepted the mail."""
    return sent.attempt is not None and sent.attempt.outcome.state is CredentialState.ACCEPTED


def _outcome(sent: Sent) -> Outcome:
    if sent.attempt is None:
        return Outcome(sent.job.recorded, CredentialState.REFUSED, "not_sent")
    return sent.attempt.outcome


def _dealt_with(
    item: Claimed, one: Addressee, outcome: ItemState, failure: str | None = None, details: str | None = None
) -> ItemRecord:
    return ItemRecord(one.identifier, one.email, item.line, outcome, failure, details, item.attempts)
