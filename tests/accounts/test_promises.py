"""The promises to a client, under every mix of issues, faults, crashes and logins that hypothesis finds.

P1 of the mails that the server accepted, the one with the highest sequence opens the account, unless it
   expired, was revoked, or the account is disabled;
P2 once an issue has been settled as accepted, no earlier password opens the account;
P3 a failed issue changes nothing for the client;
P4 the identifier never changes.

The issues are the real ones, each on a thread that is stopped where it speaks to the mail server; what the
server does, and which of the threads goes on, is for the machine to choose. The leases are switched off: the
promises do not rest on them. A crash is a thread that never goes on.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import Enum, auto
from queue import Queue
from threading import Thread
from typing import NamedTuple

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from egec_cli import hashing
from egec_cli.accounts import clients, credentials, fields, issuing, leases, login
from egec_cli.accounts.egec import Egec
from egec_cli.accounts.leases import Lease
from egec_cli.errors import BadInput, EgecError, NotNow
from egec_cli.mail.delivery import AnswerLost, Refused, Reply
from egec_cli.mail.message import Mail
from egec_cli.store.models import Client, Credential

UNUSED_DAYS = 30
MOST_AT_ONCE = 3


class End(Enum):
    """What becomes of a mail that is with the server."""

    ACCEPT = auto()
    REFUSE_ADDRESS = auto()
    REFUSE_FOR_NOW = auto()
    LOSE_ANSWER = auto()


class Abandoned(BaseException):
    """Ends the thread of an issue that has crashed, when nobody looks any more."""


class Issue:
    """A real issue on a thread of its own, stopped before it records and before the server answers."""

    def __init__(self, egec: Egec, client: Client, *, revoke: bool) -> None:
        self.hashing = hashing.begin(egec.settings)
        self.clear = self.hashing.password.reveal()
        self.revoke = revoke
        self.message_id = ""
        self.kept = False
        self.outcome: issuing.Issued | EgecError | BaseException | None = None
        self._orders: Queue[object] = Queue()
        self._stops: Queue[str] = Queue()
        self._thread = Thread(target=self._run, args=(egec, client), daemon=True)
        self._thread.start()
        self.place = self._stops.get()

    def _run(self, egec: Egec, client: Client) -> None:
        try:
            self.outcome = issuing.issue(egec, client, self, hashing=self.hashing, revoke=self.revoke)
        except BaseException as failure:  # noqa: BLE001 - it is what the machine looks at
            self.outcome = failure
        finally:
            egec.database.close()
            self._stops.put("ended")

    def prepare(self) -> None:
        """Stop before the credential is recorded."""
        self._obey("prepared")

    def deliver(self, mail: Mail) -> Reply:
        """Stop while the mail is with the server, and end as the machine says."""
        self.message_id = mail.message_id
        end = self._obey("delivering")
        if end is End.REFUSE_ADDRESS:
            raise Refused(BadInput("no such recipient"), "550 no")
        if end is End.REFUSE_FOR_NOW:
            raise Refused(NotNow("not now"), "451 not now")
        if end is End.LOSE_ANSWER:
            raise AnswerLost("cut")
        return Reply("250 kept")

    def close(self) -> None:
        """There is nothing to let go of."""

    def _obey(self, place: str) -> object:
        self._stops.put(place)
        order = self._orders.get()
        if isinstance(order, BaseException):
            raise order
        return order

    def go_on(self, order: object = None) -> None:
        """Let the issue run to its next stop, or to its end."""
        self._orders.put(order)
        self.place = self._stops.get()

    def abandon(self) -> None:
        """End the thread."""
        while self.place != "ended":
            self.go_on(Abandoned())
        self._thread.join()

    @property
    def sequence(self) -> int:
        """The sequence that was recorded for this issue."""
        found: int = Credential.get(Credential.message_id == self.message_id).sequence
        return found


class Mailed(NamedTuple):
    """A mail that the server has accepted, as the client has it in hand."""

    sequence: int
    clear: str
    expires_at: datetime


class Promises(RuleBasedStateMachine):
    """Issues, faults and logins of one client."""

    egec: Egec

    def __init__(self) -> None:
        super().__init__()
        self.passed = timedelta()
        self.egec = type(self).egec._replace(clock=lambda: type(self).egec.clock() + self.passed)
        number = Client.select().count()
        self.client = clients.create(self.egec, fields.checked(f"c{number}@example.org"))
        self.issues: list[Issue] = []
        self.crashed: list[Issue] = []
        self.mailed: list[Mailed] = []
        self.used: set[int] = set()
        self.settled = 0
        self.revoked_below = 0
        self.disabled = False

    def teardown(self) -> None:
        for issue in (*self.issues, *self.crashed):
            issue.abandon()

    # What the product says, without a trace: a login would promote what it finds.

    def current(self) -> Client:
        found: Client = Client.get_by_id(self.client.id)
        return found

    def opens(self, clear: str) -> bool:
        client = self.current()
        if client.disabled_at is not None:
            return False
        candidates = credentials.that_may_open(client, self.egec.clock())
        return any(hashing.matches(clear, candidate.password_hash or "") for candidate in candidates)

    def all_that_open(self) -> list[int]:
        return [mail.sequence for mail in self.mailed if self.opens(mail.clear)]

    def expired(self, mail: Mailed) -> bool:
        return mail.sequence not in self.used and mail.expires_at <= self.egec.clock()

    # What may happen.

    @precondition(lambda self: len(self.issues) < MOST_AT_ONCE and not self.disabled)
    @rule(revoke=st.sampled_from([False] * 7 + [True]))
    def begin(self, revoke: bool) -> None:
        self.issues.append(Issue(self.egec, self.current(), revoke=revoke))

    @precondition(lambda self: any(issue.place == "prepared" for issue in self.issues))
    @rule(which=st.integers(min_value=0, max_value=99))
    def record(self, which: int) -> None:
        issue = self.at("prepared", which)
        before = self.all_that_open()
        issue.go_on()
        if issue.place == "ended":
            self.issues.remove(issue)
            assert isinstance(issue.outcome, NotNow), issue.outcome
            assert issue.outcome.code == "too_many_open"
            assert self.all_that_open() == before
        elif issue.revoke:
            self.revoked_below = issue.sequence
            assert self.all_that_open() == []
        else:
            assert self.all_that_open() == before

    @precondition(lambda self: any(i.place == "delivering" and not i.kept for i in self.issues))
    @rule(which=st.integers(min_value=0, max_value=99))
    def keep(self, which: int) -> None:
        """Let the server take the mail; its answer is still to come."""
        waiting = [issue for issue in self.issues if issue.place == "delivering" and not issue.kept]
        issue = waiting[which % len(waiting)]
        issue.kept = True
        row = Credential.get(Credential.message_id == issue.message_id)
        self.mailed.append(Mailed(row.sequence, issue.clear, row.expires_at))

    @precondition(lambda self: any(issue.place == "delivering" for issue in self.issues))
    @rule(which=st.integers(min_value=0, max_value=99), end=st.sampled_from(End))
    def answer(self, which: int, end: End) -> None:
        issue = self.at("delivering", which)
        if issue.kept is (end in {End.REFUSE_ADDRESS, End.REFUSE_FOR_NOW}):
            # A server that has kept a mail does not refuse it, and one that has not may lose its answer only.
            end = End.LOSE_ANSWER if end is not End.LOSE_ANSWER else end
        if not issue.kept and end is End.ACCEPT:
            end = End.LOSE_ANSWER
        before, sequence = self.all_that_open(), issue.sequence
        issue.go_on(end)
        self.issues.remove(issue)
        assert issue.place == "ended"
        if end is End.ACCEPT:
            assert isinstance(issue.outcome, issuing.Issued), issue.outcome
            assert issue.outcome.sequence == sequence
            if sequence >= self.revoked_below:
                self.settled = max(self.settled, sequence)
        else:
            assert isinstance(issue.outcome, BadInput if end is End.REFUSE_ADDRESS else NotNow), issue.outcome
            assert self.all_that_open() == before, "P3"

    @precondition(lambda self: self.issues)
    @rule(which=st.integers(min_value=0, max_value=99))
    def crash(self, which: int) -> None:
        self.crashed.append(self.issues.pop(which % len(self.issues)))

    @precondition(lambda self: self.mailed)
    @rule(which=st.integers(min_value=0, max_value=99), padded=st.booleans())
    def log_in(self, which: int, padded: bool) -> None:
        mail = self.mailed[which % len(self.mailed)]
        expected = self.opens(mail.clear)
        typed = f" \u00a0{mail.clear}\n" if padded else mail.clear
        assert login.verify(self.egec, self.client.identifier, typed).accepted is expected
        if expected:
            self.used.add(mail.sequence)
            self.settled = max(self.settled, mail.sequence)

    @precondition(lambda self: self.mailed)
    @rule(which=st.integers(min_value=0, max_value=99))
    def log_in_with_the_wrong_case(self, which: int) -> None:
        mail = self.mailed[which % len(self.mailed)]
        assert not login.verify(self.egec, self.client.identifier, mail.clear.swapcase()).accepted

    @rule(days=st.sampled_from([1, 10, 31]))
    def time_passes(self, days: int) -> None:
        self.passed += timedelta(days=days)

    @rule()
    def disable_or_enable(self) -> None:
        self.disabled = not self.disabled
        Client.update(disabled_at=self.egec.clock() if self.disabled else None).where(
            Client.id == self.client.id
        ).execute()

    def at(self, place: str, which: int) -> Issue:
        waiting = [issue for issue in self.issues if issue.place == place]
        return waiting[which % len(waiting)]

    # What must hold after every step.

    @invariant()
    def the_last_mail_opens_the_account(self) -> None:
        living = [mail for mail in self.mailed if mail.sequence >= self.revoked_below]
        if living and not self.disabled:
            last = max(living)
            assert self.opens(last.clear) or self.expired(last), "P1"

    @invariant()
    def nothing_before_the_settled_one_opens_it(self) -> None:
        bound = max(self.settled, self.revoked_below)
        assert all(sequence >= bound for sequence in self.all_that_open()), "P2"

    @invariant()
    def a_disabled_or_expired_one_opens_nothing(self) -> None:
        opening = self.all_that_open()
        assert not (self.disabled and opening)
        assert not any(self.expired(mail) for mail in self.mailed if mail.sequence in opening)

    @invariant()
    def the_identifier_is_what_it_was(self) -> None:
        assert self.current().identifier == self.client.identifier, "P4"

    @invariant()
    def at_most_one_credential_is_active_and_dead_ones_have_no_hash(self) -> None:
        rows = list(Credential.select().where(Credential.client == self.client))
        assert sum(row.state == "accepted" for row in rows) <= 1
        assert all(row.password_hash is None for row in rows if row.state in {"refused", "superseded", "revoked"})


@contextmanager
def without_leases() -> Iterator[None]:
    """Let every issue go on at once."""

    class NoLease(Lease):
        def release(self) -> None:
            self.held = False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leases, "take", lambda _egec, client: NoLease(client, "nobody"))
        yield


def test_the_promises_hold_under_any_mix_of_faults(opened: Egec) -> None:
    machine = type("PromisesOnThisDatabase", (Promises,), {"egec": opened})
    with without_leases():
        run_state_machine_as_test(machine)
