"""Clients who share an e-mail, each mailed separately: under every fault of the mail server, and any mix of them.

The promises P1 to P4 of `test_promises` hold for each client, whatever happens to the mails of the others.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from egec_cli.clients import fields, records
from egec_cli.context import Context
from egec_cli.credentials import bounces, issue, states
from egec_cli.credentials.issue import IN_DOUBT
from egec_cli.errors import PermissionDenied
from egec_cli.logins.verify import verify_login
from egec_cli.mail.bounces import Incoming
from egec_cli.mail.compose.message import Mail
from egec_cli.mail.transports.choose import open_transport
from egec_cli.mail.transports.interface import Reply, Transport
from egec_cli.settings import load
from egec_cli.settings.types import Settings
from egec_cli.store.models import Client, Credential, LoginPlace
from tests.activations import Letter, letter, letters
from tests.conftest import is_deep
from tests.credentials.stepwise import REFUSALS, End, answer_with, without_leases
from tests.credentials.test_promises import matches
from tests.delivery_reports import report_of
from tests.shared_emails import OFFICE, create_sharers, with_sharing
from tests.smtp_server import Fault, MailServer, Point

# Those that a plain server can have; a login and TLS are the same for a shared e-mail.
FAULTS = [
    fault
    for fault in Fault
    if fault.point not in {Point.STARTTLS, Point.LOGIN} and "LOGIN" not in fault.name and fault is not Fault.NONE
]
IMPATIENCE = 0.2


def opens(context: Context, received: Letter) -> bool:
    return verify_login(context, received.identifier, received.password).accepted


@pytest.fixture
def office(server: MailServer, opened: Context) -> Context:
    return with_sharing(opened._replace(settings=load.load_settings()))


@pytest.mark.parametrize("location", ["sqlite"], indirect=True)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_at_one_mail_leaves_the_other_clients_with_theirs(
    office: Context, server: MailServer, fault: Fault
) -> None:
    sharers = create_sharers(office, 3)
    assert [one.error for one in issue.mail_each(office, sharers)] == [None] * 3
    before = letters(server)
    opened_transports: list[Transport] = []

    def new_transport(settings: Settings) -> Transport:
        """Meet the fault at the second mail."""
        opened_transports.append(
            open_transport(
                settings._replace(mail_timeout=IMPATIENCE, mail_final_timeout=IMPATIENCE)
                if len(opened_transports) == 1 and fault.is_waited_for
                else settings
            )
        )
        if len(opened_transports) == 2:
            server.fail_next(fault)
        return opened_transports[-1]

    first, second, third = issue.mail_each(office, sharers, new_transport=new_transport)
    assert (first.error, third.error) == (None, None)
    after = letters(server)[3:]
    by_client = {one.identifier: one for one in after}
    for one, earlier in zip(sharers, before, strict=True):
        assert earlier.identifier == one.identifier
        received = by_client.get(one.identifier)
        if received is None:
            # P3: the mail of the fault did not arrive.
            assert one == second.client
            assert second.error is not None
            assert opens(office, earlier)
        elif one == second.client and second.error is not None and second.error.code == IN_DOUBT:
            # P1, then P2 once the login proves that the mail arrived.
            assert opens(office, earlier)
            assert opens(office, received)
            assert not opens(office, earlier)
        else:
            assert opens(office, received)
            assert not opens(office, earlier)


class Mailed(NamedTuple):
    """A mail that the server has accepted."""

    sequence: int
    clear: str
    expires_at: datetime


class Sharer:
    """What is known of one of the clients: the mails that arrived, and what was settled."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.mailed: list[Mailed] = []
        self.used: set[int] = set()
        self.settled = 0
        self.revoked_below = 0
        self.disabled = False


class ScriptedServer:
    """The transport of the mail of one client: it answers as told, and keeps the mail if it arrives."""

    def __init__(self, end: End, kept: bool) -> None:
        self.end = end
        self.arrives = end is End.ACCEPT or (end is End.LOSE_ANSWER and kept)
        self.mails: list[Mail] = []

    def connect(self) -> None:
        """Nothing to connect."""

    def deliver(self, mail: Mail) -> Reply:
        """Answer the mail."""
        self.mails.append(mail)
        return answer_with(self.end)

    def close(self) -> None:
        """Nothing to close."""


class Killed(BaseException):
    """Ends the program in the middle of a delivery."""


class KillingServer(ScriptedServer):
    """The program ends while the server has the mail."""

    def deliver(self, mail: Mail) -> Reply:
        self.mails.append(mail)
        raise Killed


ANSWERS = st.lists(
    st.tuples(st.sampled_from([*End, *[End.ACCEPT] * 8, *[End.LOSE_ANSWER] * 3]), st.booleans()), min_size=3, max_size=3
)


class SharedPromises(RuleBasedStateMachine):
    """Activations by a shared e-mail, faults and logins of three clients."""

    egec: Context

    def __init__(self) -> None:
        super().__init__()
        self.passed = timedelta()
        self.egec = type(self).egec._replace(clock=lambda: type(self).egec.clock() + self.passed)
        self.email = f"office{Client.select().count()}@example.org"
        self.sharers = [Sharer(records.create_client(self.egec, fields.parse_fields(self.email))) for _ in range(3)]

    def usable(self, sharer: Sharer) -> list[int]:
        """Return the sequences of the mails whose passwords sign in now."""
        client = Client.get_by_id(sharer.client.id)
        if client.disabled_at is not None:
            return []
        hashes = [one.password_hash or "" for one in states.usable_credentials(client, self.egec.clock())]
        return [mail.sequence for mail in sharer.mailed if any(matches(mail.clear, one) for one in hashes)]

    @rule(answers=ANSWERS, revoke=st.sampled_from([False] * 9 + [True]), killed=st.sampled_from([None] * 7 + [0, 1, 2]))
    def activate_the_email(self, answers: list[tuple[End, bool]], revoke: bool, killed: int | None) -> None:
        """Mail each client who may get one; the program may be killed at the mail of one of them."""
        mailable = [one for one in self.sharers if not one.disabled]
        before = [self.usable(one) for one in self.sharers]
        last = {one.client.id: self.last_sequence(one) for one in self.sharers}
        servers = [
            (KillingServer if place == killed else ScriptedServer)(end, kept)
            for place, (end, kept) in enumerate(answers)
        ]
        waiting: Iterator[ScriptedServer] = iter(servers)
        outcomes = issue.mail_each(
            self.egec, [one.client for one in mailable], revoke=revoke, new_transport=lambda _settings: next(waiting)
        )
        ended: list[issue.Issued] = []
        try:
            ended.extend(outcomes)
        except Killed:
            assert killed is not None
            assert not servers[killed + 1].mails if killed + 1 < len(servers) else True
        for sharer, server in zip(mailable, servers, strict=False):
            self.learn(sharer, server, revoke, last[sharer.client.id])
        for one, sharer in zip(ended, mailable, strict=False):
            assert one.client == sharer.client
            self.check_outcome(one, servers[mailable.index(sharer)])
        for sharer, usable in zip(self.sharers, before, strict=True):
            if sharer not in mailable or not servers[mailable.index(sharer)].mails:
                assert self.usable(sharer) == usable, "P3: the mail of another client changed which passwords sign in"

    def last_sequence(self, sharer: Sharer) -> int:
        return int(Client.get_by_id(sharer.client.id).last_sequence)

    def learn(self, sharer: Sharer, server: ScriptedServer, revoke: bool, before: int) -> None:
        """Take down what the mail of a client changed."""
        if self.last_sequence(sharer) > before and revoke:
            sharer.revoked_below = self.last_sequence(sharer)
        if not server.mails:
            return
        [mail] = server.mails
        sent = letter(mail.content)
        assert sent.identifier == sharer.client.identifier, "the mail of one client has the identifier of another"
        row = Credential.get(Credential.message_id == sent.message_id)
        if server.arrives:
            sharer.mailed.append(Mailed(row.sequence, sent.password, row.expires_at))
        if server.end is End.ACCEPT and not isinstance(server, KillingServer):
            sharer.settled = max(sharer.settled, row.sequence)

    def check_outcome(self, one: issue.Issued, server: ScriptedServer) -> None:
        if not server.mails:
            assert isinstance(one.error, PermissionDenied)
            assert one.error.code == "too_many_in_doubt"
        elif server.end is End.ACCEPT:
            assert one.result is not None
        else:
            assert one.error is not None
            assert (one.error.code == IN_DOUBT) is (server.end not in REFUSALS)

    @precondition(lambda self: any(one.mailed for one in self.sharers))
    @rule(which=st.integers(min_value=0, max_value=99), to=st.integers(min_value=0, max_value=2))
    def log_in(self, which: int, to: int) -> None:
        """Try a password, mostly that of the client; that of another client never signs in."""
        every = [(sharer, mail) for sharer in self.sharers for mail in sharer.mailed]
        owner, mail = every[which % len(every)]
        sharer = self.sharers[to]
        expected = sharer is owner and mail.sequence in self.usable(sharer)
        Client.update(failed_logins=0, blocked_until=None).where(Client.id == sharer.client.id).execute()
        LoginPlace.delete().where(LoginPlace.client == sharer.client.id).execute()
        assert verify_login(self.egec, sharer.client.identifier, mail.clear).accepted is expected
        if expected:
            sharer.used.add(mail.sequence)
            sharer.settled = max(sharer.settled, mail.sequence)

    @rule(which=st.integers(min_value=0, max_value=99))
    def a_mail_bounces(self, which: int) -> None:
        keys = [one.client.id for one in self.sharers]
        rows = list(Credential.select().where(Credential.client.in_(keys)).order_by(Credential.id))
        if rows:
            before = [self.usable(one) for one in self.sharers]
            list(
                bounces.process_messages(
                    self.egec, iter([Incoming("x", 1, report_of(rows[which % len(rows)].message_id or ""))])
                )
            )
            assert [self.usable(one) for one in self.sharers] == before

    @rule(what=st.sampled_from(["enable", "enable", "disable", "a day", "a month"]), which=st.integers(0, 2))
    def meanwhile(self, what: str, which: int) -> None:
        if what in {"enable", "disable"}:
            sharer = self.sharers[which]
            sharer.disabled = what == "disable"
            moment = self.egec.clock() if sharer.disabled else None
            Client.update(disabled_at=moment).where(Client.id == sharer.client.id).execute()
        else:
            self.passed += timedelta(days={"a day": 1, "a month": 31}[what])

    @invariant()
    def the_promises_hold_for_each_client(self) -> None:
        now = self.egec.clock()
        marks = set()
        for sharer in self.sharers:
            usable = set(self.usable(sharer))
            unrevoked = [mail for mail in sharer.mailed if mail.sequence >= sharer.revoked_below]
            if unrevoked and not sharer.disabled:
                last = max(unrevoked, key=lambda mail: mail.sequence)
                is_expired = last.sequence not in sharer.used and last.expires_at <= now
                assert last.sequence in usable or is_expired, "P1: the password of the last mail does not sign in"
            least = max(sharer.settled, sharer.revoked_below)
            assert all(one >= least for one in usable), "P2: an earlier password signs in"
            client = Client.get_by_id(sharer.client.id)
            assert client.identifier == sharer.client.identifier, "P4: the identifier changed"
            marks.add(client.email_bounced_at is None)
        assert len(marks) == 1, "the address is marked as bounced at some of the clients only"


@pytest.mark.timeout(0 if is_deep() else 300)
def test_the_promises_hold_for_each_client_under_any_mix_of_faults(opened: Context) -> None:
    machine = type("SharedPromisesOnThisDatabase", (SharedPromises,), {"egec": with_sharing(opened)})
    examples = hypothesis.settings().max_examples // (2 if is_deep() else 15)
    with without_leases():
        run_state_machine_as_test(machine, settings=hypothesis.settings(max_examples=examples, stateful_step_count=25))


def test_each_mail_names_its_client(office: Context, server: MailServer) -> None:
    sharers = create_sharers(office)
    lone = records.create_client(office, fields.parse_fields("lone@example.org"))
    assert all(one.error is None for one in issue.mail_each(office, [*sharers, lone]))
    words = [b"D-1", b"D-2"]
    for accepted, word in zip(server.accepted, words, strict=False):
        assert accepted.content.count(word) == 2
    assert not any(word in server.accepted[2].content for word in words)
    assert [one.identifier for one in letters(server)] == [one.identifier for one in (*sharers, lone)]
    assert {one.email for one in sharers} == {OFFICE}
