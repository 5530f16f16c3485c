"""Limits on logins, on both databases: places for logins in progress, and failures, which only verdicts count as."""

from collections.abc import Callable
from datetime import datetime, timedelta
from threading import Thread
from typing import NamedTuple
from zoneinfo import ZoneInfo

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from egec_cli import hashing
from egec_cli.clients import change, fields, records, update
from egec_cli.context import Context
from egec_cli.credentials import issue
from egec_cli.errors import PermissionDenied
from egec_cli.logins import limits, verify
from egec_cli.logins.limits import PLACE_LIFETIME, UNTIL_NEW_CREDENTIAL, AccountBusy
from egec_cli.logins.verify import LoginReason, LoginResult, StartedLogin
from egec_cli.store.models import Client, Event, LoginPlace
from tests.logins.test_verify import activated

WRONG = "wrong"
AFTER_A_LIFETIME = PLACE_LIFETIME + timedelta(seconds=1)


def later(context: Context, by: timedelta) -> Context:
    """Return the context as it is after this time."""
    moment = context.clock() + by
    return context._replace(clock=lambda: moment)


def started(context: Context, client: tuple[str, str], *, right: bool = False) -> StartedLogin:
    return verify.start_login(context, client[0], client[1] if right else WRONG, patience=0)


def settled(context: Context, one: StartedLogin) -> LoginResult:
    return verify.settle_login(context, one, verify.compare_hashes(context, one))


def failures() -> int:
    found: int = Client.get().failed_logins
    return found


@pytest.fixture
def client(opened: Context) -> tuple[str, str]:
    """Return the identifier and the password of a client."""
    made, password = activated(opened)
    return made.identifier, password


def test_of_fourteen_logins_at_once_only_five_are_compared_before_the_first_wait(
    opened: Context, client: tuple[str, str]
) -> None:
    in_progress = [started(opened, client) for _ in range(5)]
    for _ in range(9):
        with pytest.raises(AccountBusy):
            started(opened, client)
    assert [settled(opened, one).reason for one in in_progress] == [LoginReason.WRONG_PASSWORD] * 5
    blocked = [started(opened, client) for _ in range(9)]
    assert [settled(opened, one).reason for one in blocked] == [LoginReason.WAITING] * 9
    assert failures() == 5


def test_failures_leave_fewer_places(opened: Context, client: tuple[str, str]) -> None:
    for _ in range(3):
        settled(opened, started(opened, client))
    for _ in range(2):
        started(opened, client)
    with pytest.raises(AccountBusy):
        started(opened, client, right=True)


def test_after_the_first_wait_logins_are_compared_one_at_a_time(opened: Context, client: tuple[str, str]) -> None:
    for _ in range(5):
        settled(opened, started(opened, client))
    opened = later(opened, timedelta(minutes=2))
    first = started(opened, client)
    with pytest.raises(AccountBusy):
        started(opened, client)
    assert settled(opened, first).reason is LoginReason.WRONG_PASSWORD
    assert settled(opened, started(opened, client)).reason is LoginReason.WAITING


def test_logins_that_die_are_not_failures_and_their_places_expire(opened: Context, client: tuple[str, str]) -> None:
    for _ in range(2):
        for _ in range(5):
            started(opened, client)
        with pytest.raises(AccountBusy):
            started(opened, client, right=True)
        opened = later(opened, AFTER_A_LIFETIME)
    assert settled(opened, started(opened, client, right=True)).reason is LoginReason.ACCEPTED
    assert (failures(), Client.get().blocked_until) == (0, None)
    assert LoginPlace.select().count() == 0


@pytest.mark.parametrize("right", [False, True])
def test_a_login_whose_place_was_given_away_gives_no_verdict(
    opened: Context, client: tuple[str, str], right: bool
) -> None:
    late = started(opened, client, right=right)
    opened = later(opened, AFTER_A_LIFETIME)
    assert settled(opened, started(opened, client)).reason is LoginReason.WRONG_PASSWORD
    events = Event.select().count()
    with pytest.raises(AccountBusy):
        settled(opened, late)
    assert (failures(), Client.get().last_login_at, Event.select().count()) == (1, None, events)


def test_a_late_login_gives_its_verdict_if_no_other_came(opened: Context, client: tuple[str, str]) -> None:
    late = [started(opened, client), started(opened, client, right=True)]
    opened = later(opened, AFTER_A_LIFETIME)
    assert settled(opened, late[0]).reason is LoginReason.WRONG_PASSWORD
    assert failures() == 1
    assert settled(opened, late[1]).reason is LoginReason.ACCEPTED
    assert failures() == 0


def test_places_taken_before_the_clock_was_set_back_are_ignored(opened: Context, client: tuple[str, str]) -> None:
    before = [started(later(opened, timedelta(hours=1)), client) for _ in range(5)]
    assert settled(opened, started(opened, client, right=True)).reason is LoginReason.ACCEPTED
    with pytest.raises(AccountBusy):
        settled(opened, before[0])
    assert failures() == 0


def test_a_place_taken_by_a_machine_whose_clock_is_a_little_ahead_counts(
    opened: Context, client: tuple[str, str]
) -> None:
    ahead = [started(later(opened, timedelta(seconds=3)), client) for _ in range(5)]
    with pytest.raises(AccountBusy):
        started(opened, client)
    assert [settled(opened, one).reason for one in ahead] == [LoginReason.WRONG_PASSWORD] * 5


def test_a_login_that_draws_a_used_key_gets_no_place(
    opened: Context, client: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other, _ = activated(opened, "marc@example.org")
    monkeypatch.setattr(limits, "_new_key", lambda: 7)
    assert started(opened, client).place == 7
    with pytest.raises(AccountBusy):
        verify.start_login(opened, other.identifier, WRONG, patience=0)


def test_a_login_waits_until_a_place_is_returned(opened: Context, client: tuple[str, str]) -> None:
    in_progress = [started(opened, client, right=True) for _ in range(5)]
    reasons: list[LoginReason] = []

    def log_in() -> None:
        with opened.database.connection_context():
            reasons.append(verify.check_login(opened, *client).reason)

    waiting = Thread(target=log_in)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    settled(opened, in_progress[0])
    # Sooner than the other places expire.
    waiting.join(20)
    assert reasons == [LoginReason.ACCEPTED]


def test_a_login_waits_as_long_as_its_patience_and_takes_no_lock_meanwhile(
    opened: Context, client: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        started(opened, client)
    tries = []
    try_place = limits.try_place

    def counted(context: Context, key: int) -> limits.PlaceResult:
        tries.append(key)
        return try_place(context, key)

    monkeypatch.setattr(limits, "try_place", counted)
    with pytest.raises(AccountBusy) as busy:
        verify.start_login(opened, client[0], WRONG, patience=0.5)
    assert (busy.value.exit_code, busy.value.code) == (75, "account_busy")
    assert len(tries) == 1


def test_a_login_that_waits_is_refused_when_the_account_is_blocked_meanwhile(
    opened: Context, client: tuple[str, str]
) -> None:
    in_progress = [started(opened, client) for _ in range(5)]
    reasons: list[LoginReason] = []

    def log_in() -> None:
        with opened.database.connection_context():
            reasons.append(verify.check_login(opened, *client).reason)

    waiting = Thread(target=log_in)
    waiting.start()
    for one in in_progress:
        settled(opened, one)
    waiting.join(30)
    assert reasons in ([LoginReason.WAITING], [LoginReason.ACCEPTED])
    assert reasons == [LoginReason.WAITING] or failures() == 0


def test_an_account_with_ten_failures_of_an_earlier_version_is_blocked_only_by_a_verdict(
    opened: Context, client: tuple[str, str]
) -> None:
    # That version counted logins that died, and left accounts like this.
    Client.update(failed_logins=10).execute()
    started(opened, client)
    opened = later(opened, AFTER_A_LIFETIME)
    assert Client.get().blocked_until is None
    assert settled(opened, started(opened, client)).reason is LoginReason.WRONG_PASSWORD
    assert Client.get().blocked_until == UNTIL_NEW_CREDENTIAL


def test_erase_removes_places_and_a_login_in_progress_gives_no_verdict(
    opened: Context, client: tuple[str, str]
) -> None:
    other, _ = activated(opened, "marc@example.org")
    theirs = verify.start_login(opened, other.identifier, WRONG, patience=0)
    one = started(opened, client, right=True)
    change.erase_clients(opened, [Client.get(Client.identifier == client[0]).id])
    with pytest.raises(AccountBusy):
        settled(opened, one)
    assert settled(opened, theirs).reason is LoginReason.WRONG_PASSWORD


def new_password(context: Context) -> str:
    made = hashing.start_hash(context.settings)
    issue.issue_to_operator(context, Client.get(), lambda _: None, hashing=made)
    return made.password.reveal()


RESETS: dict[str, Callable[[Context], object]] = {
    "unblock": lambda context: change.unblock_clients(context, [Client.get().id]),
    "a new password": new_password,
}


@pytest.mark.parametrize("reset", RESETS.values(), ids=RESETS.keys())
def test_a_reset_leaves_logins_in_progress_their_places_and_their_verdicts(
    opened: Context, client: tuple[str, str], reset: Callable[[Context], object]
) -> None:
    for _ in range(3):
        settled(opened, started(opened, client))
    in_progress = [started(opened, client) for _ in range(2)]
    reset(opened)
    more = [started(opened, client) for _ in range(3)]
    with pytest.raises(AccountBusy):
        started(opened, client)
    assert [settled(opened, one).reason for one in (*in_progress, *more)] == [LoginReason.WRONG_PASSWORD] * 5
    assert failures() == 5


class Flight(NamedTuple):
    """A login in progress, and the number of its password; None for a wrong one."""

    started: StartedLogin
    password: int | None


class Logins(RuleBasedStateMachine):
    """Logins to one account that start, end or die in any order, while the clock moves forward and back."""

    context: Context

    def __init__(self) -> None:
        super().__init__()
        self.passed = timedelta()
        began = type(self).context.clock()
        settings = type(self).context.settings._replace(timezone="Pacific/Apia")
        self.context = type(self).context._replace(clock=lambda: began + self.passed, settings=settings)
        self.client = records.create_client(
            self.context, fields.parse_fields(f"c{Client.select().count()}@example.org")
        )
        self.passwords: list[str] = []
        self.set_password()
        self.flights: list[Flight] = []
        # What is expected of the database.
        self.places: dict[int, datetime] = {}
        self.failures = 0
        self.blocked_until: datetime | None = None
        self.validity: tuple[str | None, str | None] = (None, None)

    def is_active(self) -> bool:
        """Return whether the present day is within the validity."""
        today = str(self.now.astimezone(ZoneInfo("Pacific/Apia")).date())
        first, last = self.validity
        return (first or today) <= today <= (last or today)

    @property
    def now(self) -> datetime:
        return self.context.clock()

    def set_password(self) -> None:
        made = hashing.start_hash(self.context.settings)
        issue.issue_to_operator(self.context, Client.get_by_id(self.client.id), lambda _: None, hashing=made)
        self.passwords.append(made.password.reveal())
        self.failures, self.blocked_until = 0, None

    def allowed(self) -> int:
        return 5 - self.failures if self.failures < 5 else 1

    @rule(right=st.booleans())
    def start(self, right: bool) -> None:
        number = len(self.passwords) - 1 if right else None
        is_live = {key: self.now < end <= self.now + timedelta(seconds=35) for key, end in self.places.items()}
        self.places = {key: end for key, end in self.places.items() if is_live[key]}
        password = WRONG if number is None else self.passwords[number]
        is_blocked = self.blocked_until is not None and self.blocked_until > self.now
        if not is_blocked and len(self.places) >= self.allowed():
            with pytest.raises(AccountBusy):
                verify.start_login(self.context, self.client.identifier, password, patience=0)
            return
        one = verify.start_login(self.context, self.client.identifier, password, patience=0)
        assert one.blocked_until == (self.blocked_until if is_blocked else None)
        if is_blocked:
            assert (one.place, one.candidates) == (None, ())
            is_for_good = self.blocked_until == limits.UNTIL_NEW_CREDENTIAL
            assert settled(self.context, one).reason is (LoginReason.BLOCKED if is_for_good else LoginReason.WAITING)
        else:
            assert one.place is not None
            self.places[one.place] = self.now + PLACE_LIFETIME
            self.flights.append(Flight(one, number))

    @precondition(lambda self: self.flights)
    @rule(which=st.integers(min_value=0, max_value=99))
    def end(self, which: int) -> None:
        one = self.flights.pop(which % len(self.flights))
        if one.started.place not in self.places:
            with pytest.raises(AccountBusy):
                settled(self.context, one.started)
            return
        del self.places[one.started.place]
        is_right = one.password == len(self.passwords) - 1
        reason = settled(self.context, one.started).reason
        if not is_right:
            assert reason is LoginReason.WRONG_PASSWORD
        else:
            # As of now, even if the login began on another day.
            assert reason is (LoginReason.ACCEPTED if self.is_active() else LoginReason.INACTIVE)
        if reason is LoginReason.ACCEPTED:
            self.failures, self.blocked_until = 0, None
            return
        self.failures += 1
        until = UNTIL_NEW_CREDENTIAL if self.failures >= 10 else None
        if 5 <= self.failures < 10:
            until = self.now + timedelta(minutes=2 ** (self.failures - 5))
        self.blocked_until = max((one for one in (until, self.blocked_until) if one), default=None)

    @precondition(lambda self: self.flights)
    @rule(which=st.integers(min_value=0, max_value=99))
    def die(self, which: int) -> None:
        del self.flights[which % len(self.flights)]

    @rule(seconds=st.sampled_from([1, 20, 29, 30, 31, 61, 125, 1000, -1, -3, -6, -20, -40, -3600]))
    def the_clock_moves(self, seconds: int) -> None:
        self.passed += timedelta(seconds=seconds)

    @rule(first=st.sampled_from([None, None, -1, 0, 1]), last=st.sampled_from([None, None, 1, 0, -1]))
    def the_validity_changes(self, first: int | None, last: int | None) -> None:
        """Set the validity, by days from that of UTC."""
        if first is not None and last is not None and first > last:
            first = None
        days = [None if one is None else str((self.now + timedelta(days=one)).date()) for one in (first, last)]
        self.validity = days[0], days[1]
        given = {"valid_from": days[0] or "", "valid_until": days[1] or ""}
        update.update_client(self.context, self.client, given)

    @rule(how=st.sampled_from(["unblock", "a new password"]))
    def reset(self, how: str) -> None:
        if how == "a new password" and not self.is_active():
            with pytest.raises(PermissionDenied, match="inactive"):
                self.set_password()
            return
        if how == "unblock":
            change.unblock_clients(self.context, [self.client.id])
            self.failures, self.blocked_until = 0, None
        else:
            self.set_password()

    @rule()
    def all_die_and_the_right_login_comes_later(self) -> None:
        """No account is blocked for good without ten verdicts."""
        self.flights.clear()
        self.passed += timedelta(seconds=36)
        if self.blocked_until == UNTIL_NEW_CREDENTIAL:
            assert self.failures >= 10
            return
        if self.blocked_until is not None and self.blocked_until > self.now:
            self.passed += self.blocked_until - self.now
        self.start(right=True)
        is_active, failures = self.is_active(), self.failures
        self.end(0)
        assert self.failures == (0 if is_active else failures + 1)

    @invariant()
    def places_and_failures_never_exceed_what_the_limits_allow(self) -> None:
        stored = Client.get_by_id(self.client.id)
        places = LoginPlace.select().where(LoginPlace.client == self.client.id)
        assert {place.id for place in places} == set(self.places)
        assert (stored.failed_logins, stored.blocked_until) == (self.failures, self.blocked_until)
        assert len(self.places) <= self.allowed()
        assert stored.blocked_until != UNTIL_NEW_CREDENTIAL or stored.failed_logins >= 10


def test_the_limits_hold_under_any_mix_of_logins_deaths_and_clocks(opened: Context) -> None:
    machine = type("LoginsOnThisDatabase", (Logins,), {"context": opened})
    run_state_machine_as_test(machine, settings=hypothesis.settings(max_examples=20, stateful_step_count=30))
