"""The promises to a client, under every mix of issues, faults, crashes and logins that hypothesis finds.

P1 of the mails that the server accepted, the one with the highest sequence signs in, unless it expired, was revoked, or
   the client is disabled or outside the validity;
P2 once an issue is settled as accepted, no earlier password signs in;
P3 a failed issue changes nothing for the client;
P4 the identifier never changes.

The issues are real, each on a thread that stops when it talks to the mail server. The state machine chooses the
server's answers and the thread that continues. A run mails the client too, by a real worker. Leases are off: the
promises do not depend on them. A crash is a thread that never continues.
"""

import io
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from functools import cache
from threading import Event
from typing import NamedTuple
from zoneinfo import ZoneInfo

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from egec_cli import hashing
from egec_cli.clients import fields, records, update
from egec_cli.clients.name_files import ClientList
from egec_cli.clients.select import Selected, Selection
from egec_cli.context import Context
from egec_cli.credentials import bounces, states
from egec_cli.credentials.issue import IssueResult
from egec_cli.errors import EgecError, PermissionDenied, TemporaryFailure
from egec_cli.logins import verify as login
from egec_cli.logins.limits import AccountBusy
from egec_cli.mail.bounces import Incoming
from egec_cli.mail.compose.message import Mail
from egec_cli.mail.transports.interface import Reply
from egec_cli.reissue import backoff, runs, threads, worker
from egec_cli.reissue.worker import work_on_run
from egec_cli.store.models import OPEN_STATES, Client, Credential, LoginPlace, ReissueRun
from tests.activations import letter
from tests.conftest import is_deep
from tests.credentials.stepwise import REFUSALS, End, Issue, answer_with, without_leases
from tests.credentials.test_validity import ZONES
from tests.delivery_reports import report_of

MOST_AT_ONCE = 3
# Two days before clocks change in Europe. The clock stands still, or a day could end in the middle of a step.
BEGAN = datetime(2026, 10, 23, 11, 17, 42, tzinfo=UTC)
# The same password is compared with the same hash after every step: the answer is remembered.
matches = cache(hashing.matches_hash)


class Mailed(NamedTuple):
    """A mail that the server has accepted, as the client sees it."""

    sequence: int
    clear: str
    expires_at: datetime


class ServerOfARun:
    """The transport of a run, with a server that gives all mails the same answer; it keeps the mails that it saw."""

    def __init__(self, end: End) -> None:
        self.end = end
        self.mails: list[Mail] = []

    def connect(self) -> None:
        """Nothing to connect."""

    def deliver(self, mail: Mail) -> Reply:
        """Answer a mail; the same one may come again if the server is unreachable."""
        if mail not in self.mails:
            self.mails.append(mail)
        return answer_with(self.end)

    def close(self) -> None:
        """Nothing to close."""


# Most runs meet a server that works.
RUN_ENDS = st.sampled_from([*End, End.ACCEPT, End.LOSE_ANSWER])


class Promises(RuleBasedStateMachine):
    """Issues, faults and logins of one client."""

    egec: Context

    def __init__(self) -> None:
        super().__init__()
        self.passed = timedelta()
        self.egec = type(self).egec._replace(clock=lambda: BEGAN + self.passed)
        number = Client.select().count()
        self.client = records.create_client(self.egec, fields.parse_fields(f"c{number}@example.org"))
        self.issues: list[Issue] = []
        self.crashed: list[Issue] = []
        self.mailed: list[Mailed] = []
        self.used: set[int] = set()
        self.logins: list[tuple[Mailed, login.StartedLogin, login.ComparedLogin]] = []
        self.settled = 0
        self.revoked_below = 0
        self.run: ReissueRun | None = None
        # Each takes as long as many other steps.
        self.runs_left = 1
        self.disabled = False
        self.zone = "Europe/Paris"
        self.validity: tuple[date | None, date | None] = (None, None)

    @initialize(zone=st.sampled_from(ZONES))
    def choose_zone(self, zone: str) -> None:
        self.zone = zone
        self.egec = self.egec._replace(settings=self.egec.settings._replace(timezone=zone))

    def teardown(self) -> None:
        for issue in (*self.issues, *self.crashed):
            issue.abandon()

    # Queries without side effects; a login would promote the credential that it finds.

    def current(self) -> Client:
        found: Client = Client.get_by_id(self.client.id)
        return found

    def today(self) -> date:
        return self.egec.clock().astimezone(ZoneInfo(self.zone)).date()

    def is_inactive(self) -> bool:
        first, last = self.validity
        return (first is not None and self.today() < first) or (last is not None and self.today() > last)

    def usable_hashes(self) -> list[str]:
        """Return the hashes of the passwords that sign in now."""
        client = self.current()
        if client.disabled_at is not None or self.is_inactive():
            return []
        return [one.password_hash or "" for one in states.usable_credentials(client, self.egec.clock())]

    def signs_in(self, clear: str) -> bool:
        return any(matches(clear, password_hash) for password_hash in self.usable_hashes())

    def usable_sequences(self) -> list[int]:
        hashes = self.usable_hashes()
        return [mail.sequence for mail in self.mailed if any(matches(mail.clear, one) for one in hashes)]

    def expired(self, mail: Mailed) -> bool:
        return mail.sequence not in self.used and mail.expires_at <= self.egec.clock()

    # Events.

    @precondition(lambda self: self.disabled or self.is_inactive())
    @rule(revoke=st.booleans())
    def an_issue_is_declined(self, revoke: bool) -> None:
        """No password is created for a client who is disabled or outside the validity."""
        before = [row.id for row in Credential.select().where(Credential.client == self.client)]
        client = Client.select().where(Client.id == self.client.id).dicts().get()
        issue = Issue(self.egec, self.current(), revoke=revoke)
        assert isinstance(issue.outcome, PermissionDenied), issue.outcome
        assert issue.outcome.code == ("client_disabled" if self.disabled else "client_inactive")
        assert [row.id for row in Credential.select().where(Credential.client == self.client)] == before
        assert Client.select().where(Client.id == self.client.id).dicts().get() == client, "P3"

    @precondition(lambda self: len(self.issues) < MOST_AT_ONCE and not (self.disabled or self.is_inactive()))
    @rule(revoke=st.sampled_from([False] * 9 + [True]), recorded=st.sampled_from([True, True, True, False]))
    def start_issue(self, revoke: bool, recorded: bool) -> None:
        self.issues.append(Issue(self.egec, self.current(), revoke=revoke))
        if recorded:
            self.record(self.issues[-1])

    @precondition(lambda self: any(issue.place == "prepared" for issue in self.issues))
    @rule(which=st.integers(min_value=0, max_value=MOST_AT_ONCE - 1))
    def advance(self, which: int) -> None:
        self.record(self.at("prepared", which))

    def record(self, issue: Issue) -> None:
        before = self.usable_sequences()
        issue.advance()
        if issue.place == "ended":
            self.issues.remove(issue)
            assert isinstance(issue.outcome, PermissionDenied), issue.outcome
            assert issue.outcome.code == "too_many_in_doubt"
            assert self.usable_sequences() == before, "P3: a refused issue changed which passwords sign in"
        elif issue.revoke:
            self.revoked_below = issue.sequence
            assert self.usable_sequences() == [], "a revoked password signs in"
        else:
            assert self.usable_sequences() == before, "P3: an issue under way changed which passwords sign in"

    @precondition(lambda self: any(issue.place == "delivering" for issue in self.issues))
    @rule(which=st.integers(min_value=0, max_value=MOST_AT_ONCE - 1), end=st.sampled_from([None, *End, End.ACCEPT]))
    def the_server_acts(self, which: int, end: End | None) -> None:
        """Let the server take a mail without an answer (None), or answer."""
        issue = self.at("delivering", which)
        if not issue.kept and end in {None, End.ACCEPT}:
            issue.kept = True
            row = Credential.get(Credential.message_id == issue.message_id)
            self.mailed.append(Mailed(row.sequence, issue.clear, row.expires_at))
        if end is not None:
            # A server that has taken a mail does not refuse it.
            self.answer(issue, End.ACCEPT if issue.kept and end in REFUSALS else end)

    @precondition(lambda self: any(issue.place == "delivering" for issue in self.issues))
    @rule(which=st.integers(min_value=0, max_value=MOST_AT_ONCE - 1))
    def the_server_accepts(self, which: int) -> None:
        """Let the server accept a mail, which is a rule of its own so that issues often end well, and in any order."""
        self.the_server_acts(which, End.ACCEPT)

    def answer(self, issue: Issue, end: End) -> None:
        before, sequence = self.usable_sequences(), issue.sequence
        issue.advance(end)
        self.issues.remove(issue)
        assert issue.place == "ended"
        if end is End.ACCEPT:
            assert isinstance(issue.outcome, IssueResult), issue.outcome
            assert issue.outcome.sequence == sequence
            if sequence >= self.revoked_below:
                self.settled = max(self.settled, sequence)
        else:
            expected = type(REFUSALS[end]().error) if end in REFUSALS else TemporaryFailure
            assert type(issue.outcome) is expected, issue.outcome
            assert self.usable_sequences() == before, "P3: a failed issue changed which passwords sign in"

    @precondition(lambda self: self.run is None)
    @rule(end=RUN_ENDS, kept=st.booleans())
    def start_a_run(self, end: End, kept: bool) -> None:
        selection = Selection(listed=ClientList("list.txt", io.BytesIO(str(self.client.email).encode())))
        self.run = runs.start_run(self.egec, str(self.client.email), Selected(self.egec, selection))
        self.work_on_the_run(end, kept)

    @precondition(lambda self: self.run is not None and self.runs_left)
    @rule(end=RUN_ENDS, kept=st.booleans(), retry=st.booleans())
    def go_on_with_the_run(self, end: End, kept: bool, retry: bool) -> None:
        assert self.run is not None
        self.runs_left -= 1
        if retry:
            runs.retry_run(self.egec, self.run)
        runs.resume_run(self.egec, self.run, now=True)
        self.work_on_the_run(end, kept)

    def work_on_the_run(self, end: End, kept: bool) -> None:
        """Let a worker mail the client if the run still has to, and end when a mail is due later."""
        assert self.run is not None
        server, before = ServerOfARun(end), self.usable_sequences()
        with suppress(EgecError):
            list(work_on_run(self.egec, self.run, lambda: server, Event(), patience=timedelta()))
        assert len(server.mails) <= 1
        sent = [letter(mail.content) for mail in server.mails]
        row = Credential.get(Credential.message_id == sent[0].message_id) if sent else None
        if row is not None and (end is End.ACCEPT or (end is End.LOSE_ANSWER and kept)):
            self.mailed.append(Mailed(row.sequence, sent[0].password, row.expires_at))
        if row is not None and end is End.ACCEPT:
            if row.sequence >= self.revoked_below:
                self.settled = max(self.settled, row.sequence)
        else:
            usable = [one for one in self.usable_sequences() if row is None or one != row.sequence]
            assert usable == before, "P3: a mail of a run that failed changed which passwords sign in"
        rows = list(Credential.select().where(Credential.client == self.client))
        assert sum(one.state in OPEN_STATES for one in rows) <= states.MAX_IN_DOUBT + MOST_AT_ONCE

    @precondition(lambda self: self.mailed)
    @rule(which=st.integers(min_value=0, max_value=99), typed=st.sampled_from(["as it is", "padded", "wrong case"]))
    def log_in(self, which: int, typed: str) -> None:
        mail = self.mailed[which % len(self.mailed)]
        text = {"as it is": mail.clear, "padded": f" \u00a0{mail.clear}\n", "wrong case": mail.clear.swapcase()}[typed]
        expected = typed != "wrong case" and self.signs_in(mail.clear)
        # Without the limits on failed logins.
        Client.update(failed_logins=0, blocked_until=None).where(Client.id == self.client.id).execute()
        LoginPlace.delete().where(LoginPlace.client == self.client.id).execute()
        assert login.verify_login(self.egec, self.client.identifier, text).accepted is expected
        if expected:
            self.used.add(mail.sequence)
            self.settled = max(self.settled, mail.sequence)

    @precondition(lambda self: self.mailed and len(self.logins) < MOST_AT_ONCE)
    @rule(which=st.integers(min_value=0, max_value=99))
    def a_login_is_compared(self, which: int) -> None:
        mail = self.mailed[which % len(self.mailed)]
        before = self.usable_sequences()
        Client.update(failed_logins=0, blocked_until=None).where(Client.id == self.client.id).execute()
        try:
            started = login.start_login(self.egec, self.client.identifier, mail.clear, patience=0)
        except AccountBusy:
            # Dead logins hold all places until they expire.
            assert LoginPlace.select().where(LoginPlace.client == self.client.id).count() >= 5
            return
        self.logins.append((mail, started, login.compare_hashes(self.egec, started)))
        assert self.usable_sequences() == before

    @precondition(lambda self: self.logins)
    @rule(which=st.integers(min_value=0, max_value=99))
    def a_compared_login_is_settled(self, which: int) -> None:
        """The verdict depends on the present state, not on that of the comparison; none if the place has expired."""
        mail, started, compared = self.logins.pop(which % len(self.logins))
        signs_in = self.signs_in(mail.clear)
        try:
            accepted = login.settle_login(self.egec, started, compared).reason is login.LoginReason.ACCEPTED
        except AccountBusy:
            return
        assert accepted is (signs_in and compared.matching is not None)
        if accepted:
            self.used.add(mail.sequence)
            self.settled = max(self.settled, mail.sequence)

    @precondition(lambda self: self.logins)
    @rule()
    def a_compared_login_dies(self) -> None:
        self.logins.pop()

    @rule(which=st.integers(min_value=0, max_value=99))
    def a_mail_is_reported_as_bounced(self, which: int) -> None:
        """Process a report, true or forged; the same passwords sign in before and after."""
        rows = list(Credential.select().where(Credential.client == self.client).order_by(Credential.sequence))
        if rows:
            before = self.usable_sequences()
            report = report_of(rows[which % len(rows)].message_id or "")
            (record,) = bounces.process_messages(self.egec, iter([Incoming("x", 1, report)]))
            assert record.sequence == rows[which % len(rows)].sequence
            assert self.usable_sequences() == before

    # Time seldom passes, or most steps would meet nothing but expired mails.
    @rule(what=st.sampled_from([*["enable"] * 8, *["crash"] * 8, "disable", "a day", "a day", "ten days", "a month"]))
    def meanwhile(self, what: str) -> None:
        if what == "crash" and self.issues:
            self.crashed.append(self.issues.pop())
        elif what in {"disable", "enable"}:
            self.disabled = what == "disable"
            Client.update(disabled_at=self.egec.clock() if self.disabled else None).where(
                Client.id == self.client.id
            ).execute()
        else:
            self.passed += timedelta(days={"a day": 1, "ten days": 10, "a month": 31}.get(what, 0))

    @rule(
        first=st.sampled_from([None, None, -400, -1, 0, 1, 1]),
        last=st.sampled_from([None, None, 400, 0, 0, -1, -1]),
    )
    def the_validity_changes(self, first: int | None, last: int | None) -> None:
        """Set the validity, by days from the present one; often so that the client becomes inactive."""
        if first is not None and last is not None and first > last:
            last = None
        days = [None if distance is None else self.today() + timedelta(days=distance) for distance in (first, last)]
        self.validity = days[0], days[1]
        given = {"valid_from": days[0], "valid_until": days[1]}
        update.update_client(
            self.egec, self.current(), {name: "" if day is None else str(day) for name, day in given.items()}
        )
        self.log_in_if_inactive()

    def log_in_if_inactive(self) -> None:
        """Log in with the password of each mail: all are refused outside the validity, which few steps would meet."""
        if self.is_inactive():
            for which in range(len(self.mailed)):
                self.log_in(which, "as it is")

    @precondition(lambda self: any(self.validity))
    @rule(milliseconds=st.sampled_from([-1, 0, 1]))
    def midnight_comes(self, milliseconds: int) -> None:
        """Let the clock move to the moment at which the day of the client ends, or beside it."""
        now, today = self.egec.clock(), self.today()
        # By steps of a quarter, which divides every offset of these zones from UTC nowadays.
        quarter = timedelta(minutes=15)
        then = now.replace(minute=now.minute // 15 * 15, second=0, microsecond=0)
        while then.astimezone(ZoneInfo(self.zone)).date() <= today:
            then += quarter
        self.passed += then - now + timedelta(milliseconds=milliseconds)
        self.log_in_if_inactive()

    def at(self, place: str, which: int) -> Issue:
        waiting = [issue for issue in self.issues if issue.place == place]
        return waiting[which % len(waiting)]

    @invariant()
    def the_promises_hold(self) -> None:
        usable = set(self.usable_sequences())
        unrevoked = [mail for mail in self.mailed if mail.sequence >= self.revoked_below]
        if unrevoked and not self.disabled and not self.is_inactive():
            last = max(unrevoked)
            is_good = last.sequence in usable or self.expired(last)
            assert is_good, "P1: the password of the last mail that the server accepted does not sign in"
        assert all(sequence >= self.settled for sequence in usable), "P2: an earlier password signs in"
        assert all(sequence >= self.revoked_below for sequence in usable), "a revoked password signs in"
        assert not (self.disabled and usable), "a password of a disabled client signs in"
        assert not (self.is_inactive() and usable), "a password signs in outside the validity"
        is_late = any(self.expired(mail) for mail in self.mailed if mail.sequence in usable)
        assert not is_late, "an expired password signs in"
        assert self.current().identifier == self.client.identifier, "P4: the identifier changed"
        rows = list(Credential.select().where(Credential.client == self.client))
        assert sum(row.state == "accepted" for row in rows) <= 1
        assert all(row.password_hash is None for row in rows if row.state in {"refused", "revoked"})
        superseded = [row for row in rows if row.state == "superseded" and row.password_hash is not None]
        assert len(superseded) <= states.SUPERSEDED_HASHES_KEPT


# The deep profile takes half an hour for each database.
@pytest.mark.timeout(0 if is_deep() else 300)
def test_the_promises_hold_under_any_mix_of_faults(opened: Context) -> None:
    machine = type("PromisesOnThisDatabase", (Promises,), {"egec": opened})
    # Fewer than elsewhere, on each of the databases: an example is long.
    examples = hypothesis.settings().max_examples // (2 if is_deep() else 5)
    with without_leases(), pytest.MonkeyPatch.context() as patch:
        # The waits of runs.
        patch.setattr(backoff, "FIRST_WAIT", 0.01)
        patch.setattr(threads, "FIRST_WAIT_FOR_SERVER", 0.001)
        # The moment at which a slower rate allows a mail never comes, as the clock stands still.
        patch.setattr(worker, "_PATIENCE_FOR_PACE", timedelta())
        run_state_machine_as_test(machine, settings=hypothesis.settings(max_examples=examples))
