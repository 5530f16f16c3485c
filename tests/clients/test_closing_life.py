"""The life of a notice of closing, under every mix of nights, answers, logins and changes that hypothesis finds.

Nobody is disabled without a notice that is old enough, newer than the last login and the current address, and sent
since the account was last enabled. Nobody gets two notices for one such period, unless the first was refused. A refusal
that concerns all mails changes nothing.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from egec_cli import clock
from egec_cli.clients import change, closing, fields, records, update
from egec_cli.clients.change import ChangeOutcome
from egec_cli.context import Context
from egec_cli.mail.compose.message import Mail
from egec_cli.mail.lint import templates
from egec_cli.mail.transports.interface import Cause, Reply
from egec_cli.store.models import Client, Event
from tests.conftest import is_deep
from tests.credentials.stepwise import REFUSALS, End, answer_with

PERIOD = timedelta(days=30)
DORMANT = timedelta(days=60)
START = datetime(2027, 3, 1, 2, 30, tzinfo=UTC)
OF_THE_SERVER = {Cause.UNREACHABLE, Cause.THROTTLED, Cause.CONNECTIONS}


class Sent(NamedTuple):
    """A mail that the server saw, and its answer."""

    at: datetime
    end: End


class Server:
    """A transport whose server gives all mails of a night the same answer, while something else happens."""

    def __init__(self, life: "Life", end: End, login_meanwhile: bool) -> None:
        self.life = life
        self.end = end
        self.login_meanwhile = login_meanwhile
        self.sent: list[Sent] = []

    def connect(self) -> None:
        """Nothing to connect."""

    def deliver(self, mail: Mail) -> Reply:
        assert mail.recipient == self.life.current().email
        self.sent.append(Sent(self.life.now, self.end))
        self.life.now += timedelta(seconds=2)
        if self.login_meanwhile:
            self.life.log_in()
            self.life.now += timedelta(seconds=2)
        return answer_with(self.end)

    def close(self) -> None:
        """Nothing to close."""


class Life(RuleBasedStateMachine):
    """The account of one client."""

    context: Context

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.egec = type(self).context._replace(clock=lambda: self.now)
        number = Client.select().count()
        self.client = records.create_client(self.egec, fields.parse_fields(f"c{number}@example.org"))
        self.disabled = False
        # The last login, new address or enabling, and the notices that count since then.
        self.began = START
        self.last_login: datetime | None = None
        self.told: list[datetime] = []
        self.valid_until: str | None = None

    def current(self) -> Client:
        found: Client = Client.get_by_id(self.client.id)
        return found

    def begin_anew(self) -> None:
        self.began, self.told = self.now, []

    def log_in(self) -> None:
        self.begin_anew()
        self.last_login = self.now
        Client.update(last_login_at=self.now).where(Client.id == self.client.id).execute()

    @rule(
        end=st.sampled_from([*End, *[End.LOSE_ANSWER] * 3, *[End.ACCEPT] * 8]),
        login_meanwhile=st.sampled_from([False] * 9 + [True]),
    )
    def a_night(self, end: End, login_meanwhile: bool) -> None:
        before, server = self.current(), Server(self, end, login_meanwhile)
        told, began, last_login = list(self.told), self.began, self.last_login
        guard = change.Guard((Client.last_login_at.is_null() | (Client.last_login_at < self.now - DORMANT),))
        closer = closing.Closer(self.egec, server, PERIOD, reason="dormant", guard=guard, first_pause=0)
        at = self.now
        outcomes = [record.outcome for _, record in closer.close([self.client.id])]
        closer.finish()
        assert len(server.sent) <= 1
        is_dormant = last_login is None or last_login < at - DORMANT
        if not is_dormant:
            assert (outcomes, server.sent) == ([], [])
            return
        [outcome] = outcomes
        if outcome is ChangeOutcome.DISABLED:
            assert not before.disabled_at
            assert any(one > began and one + PERIOD <= at for one in told), "disabled without a notice"
            assert not server.sent
            self.disabled = True
        elif told and min(told) + PERIOD + timedelta(days=1) <= at and not self.disabled:
            raise AssertionError("a client who was notified is not closed on the day that the notice names")
        if server.sent:
            assert not self.disabled, "a disabled client gets a notice"
            assert not told, "a client gets two notices for one period"
            today = at.astimezone(clock.find_zone(self.egec.settings.timezone)).date().isoformat()
            assert self.valid_until is None or today <= self.valid_until
            refusal = REFUSALS[end]() if end in REFUSALS else None
            if refusal is not None and (refusal.cause in OF_THE_SERVER or refusal.error.exit_code == 78):
                assert outcome is ChangeOutcome.FAILED
            if outcome is ChangeOutcome.NOTIFIED and self.began == began:
                self.told.append(at)
            assert outcome in {ChangeOutcome.NOTIFIED, ChangeOutcome.FAILED}

    @precondition(lambda self: not self.disabled)
    @rule()
    def the_client_signs_in(self) -> None:
        self.log_in()

    @precondition(lambda self: not self.disabled)
    @rule(number=st.integers(0, 9))
    def the_address_changes(self, number: int) -> None:
        self.begin_anew()
        address = f"c{self.client.id}-{number}@example.org"
        changed = update.update_client(self.egec, self.client, {"email": address})
        if changed.previous_email is None:
            # The same address: nothing starts again, so the notices from before still count.
            stored = self.current().closing_notified_at
            self.told = [stored] if stored is not None and self.counts(stored) else []

    def counts(self, told_at: datetime) -> bool:
        client = self.current()
        return all(one is None or told_at > one for one in (client.last_login_at, client.email_changed_at))

    @rule(is_enabled=st.booleans())
    def an_operator(self, is_enabled: bool) -> None:
        if is_enabled:
            change.enable_clients(self.egec, [self.client.id])
            if self.disabled:
                self.begin_anew()
        else:
            change.disable_clients(self.egec, [self.client.id], reason="left")
        self.disabled = not is_enabled

    @rule(days=st.sampled_from([*[None] * 8, -1, 40]))
    def the_dates_change(self, days: int | None) -> None:
        self.valid_until = None if days is None else (self.now + timedelta(days=days)).date().isoformat()
        Client.update(valid_until=self.valid_until).where(Client.id == self.client.id).execute()

    @rule(hours=st.sampled_from([1, 23, 24, 24, 24 * 7, 24 * 29, 24 * 30, 24 * 31, 24 * 61, 24 * 61]))
    def time_passes(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @invariant()
    def a_step_takes_a_second(self) -> None:
        self.now += timedelta(seconds=1)

    @invariant()
    def the_state_is_the_expected_one(self) -> None:
        client = self.current()
        assert (client.disabled_at is not None) is self.disabled
        assert client.lease_owner is None
        stored = client.closing_notified_at
        if self.told:
            assert stored == self.told[-1]
        elif stored is not None:
            assert not self.counts(stored), "a notice counts that was not sent in this period"


def live_through(life: Life, end: End) -> None:
    """Let a client's first notice get this answer, and the next ones be accepted until the account is closed."""
    # hypothesis's decorators leave the rules without types.
    steps: Any = life
    for answer, hours in ((end, 24), (End.ACCEPT, 24 * 31), (End.ACCEPT, 24)):
        steps.a_step_takes_a_second()
        steps.a_night(answer, login_meanwhile=False)
        steps.the_state_is_the_expected_one()
        steps.time_passes(hours)
    assert life.disabled


@pytest.mark.timeout(0 if is_deep() else 300)
def test_nobody_is_closed_without_a_notice_and_nobody_is_told_twice(opened: Context) -> None:
    machine = type("LifeOnThisDatabase", (Life,), {"context": opened})
    examples = hypothesis.settings().max_examples // (1 if is_deep() else 6)
    with pytest.MonkeyPatch.context() as patch:
        # The templates are the built-in ones, and checking them takes longer than a night.
        patch.setattr(templates, "require_sound_notice", lambda _settings: None)
        # Chance alone seldom meets each answer.
        for end in End:
            live_through(machine(), end)
        run_state_machine_as_test(machine, settings=hypothesis.settings(max_examples=examples))
    assert {event.outcome for event in Event.select().where(Event.action == closing.ACTION)} >= {
        "accepted", "refused", "in_doubt", "deferred",
    }  # fmt: skip
