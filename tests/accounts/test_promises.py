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

from datetime import datetime, timedelta
from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from egec_cli import hashing
from egec_cli.accounts import clients, credentials, fields, issuing, login
from egec_cli.accounts.egec import Egec
from egec_cli.errors import BadInput, NotNow
from egec_cli.store.models import Client, Credential
from tests.accounts.stepwise import End, Issue, without_leases

MOST_AT_ONCE = 3


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
    @rule(revoke=st.sampled_from([False] * 9 + [True]), recorded=st.sampled_from([True, True, False]))
    def begin(self, revoke: bool, recorded: bool) -> None:
        self.issues.append(Issue(self.egec, self.current(), revoke=revoke))
        if recorded:
            self.go_on_to_record(self.issues[-1])

    @precondition(lambda self: any(issue.place == "prepared" for issue in self.issues))
    @rule(which=st.integers(min_value=0, max_value=99))
    def record(self, which: int) -> None:
        self.go_on_to_record(self.at("prepared", which))

    def go_on_to_record(self, issue: Issue) -> None:
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
        # A server that has kept a mail does not refuse it, and one that has not does not accept it.
        if issue.kept is (end in {End.REFUSE_ADDRESS, End.REFUSE_FOR_NOW}):
            end = End.ACCEPT if issue.kept else End.REFUSE_FOR_NOW
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

    @rule(days=st.sampled_from([0, 0, 0, 1, 10, 31]))
    def time_passes(self, days: int) -> None:
        self.passed += timedelta(days=days)

    @rule(disable=st.sampled_from([False, False, False, True]))
    def disable_or_enable(self, disable: bool) -> None:
        self.disabled = disable
        Client.update(disabled_at=self.egec.clock() if self.disabled else None).where(
            Client.id == self.client.id
        ).execute()

    def at(self, place: str, which: int) -> Issue:
        waiting = [issue for issue in self.issues if issue.place == place]
        return waiting[which % len(waiting)]

    @invariant()
    def the_promises_hold(self) -> None:
        opening = set(self.all_that_open())
        living = [mail for mail in self.mailed if mail.sequence >= self.revoked_below]
        if living and not self.disabled:
            last = max(living)
            assert last.sequence in opening or self.expired(last), "P1"
        assert all(sequence >= max(self.settled, self.revoked_below) for sequence in opening), "P2"
        assert not (self.disabled and opening)
        assert not any(self.expired(mail) for mail in self.mailed if mail.sequence in opening)
        assert self.current().identifier == self.client.identifier, "P4"
        rows = list(Credential.select().where(Credential.client == self.client))
        assert sum(row.state == "accepted" for row in rows) <= 1
        assert all(row.password_hash is None for row in rows if row.state in {"refused", "superseded", "revoked"})


def test_the_promises_hold_under_any_mix_of_faults(opened: Egec) -> None:
    machine = type("PromisesOnThisDatabase", (Promises,), {"egec": opened})
    with without_leases():
        run_state_machine_as_test(machine)
