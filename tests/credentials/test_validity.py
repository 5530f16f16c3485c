"""The validity of an account, in time zones whose days are awkward, by the Python rule and by the SQL condition."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import product
from zoneinfo import ZoneInfo

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egec_cli.clients import lists
from egec_cli.clients.lists import ListQuery
from egec_cli.clients.records import ClientStatus
from egec_cli.clients.select import Selection
from egec_cli.context import Context
from egec_cli.credentials.validity import LocalMoment
from egec_cli.errors import ConfigError
from egec_cli.stats.counts import count_since
from egec_cli.store.models import Client
from egec_cli.store.sql import insert_many

# Midnights that do not exist or come twice, a day that was skipped, odd offsets, and both ends of the earth.
ZONES = (
    "Europe/Paris", "America/Sao_Paulo", "Africa/Cairo", "Pacific/Apia", "Asia/Kathmandu", "Pacific/Kiritimati",
    "Etc/GMT+12", "Etc/GMT-14", "America/St_Johns", "Australia/Lord_Howe", "Asia/Beirut", "America/Havana",
    "Africa/Monrovia", "UTC",
)  # fmt: skip
# When clocks of these zones changed, or the day did.
TURNS = (
    datetime(2026, 3, 29, 1), datetime(2026, 10, 25, 1), datetime(2018, 11, 4, 3), datetime(2019, 2, 17, 2),
    datetime(2023, 4, 27, 22), datetime(2023, 10, 26, 21), datetime(2011, 12, 30, 10), datetime(2006, 10, 29, 2, 31),
    datetime(2022, 3, 26, 22), datetime(2026, 1, 1), datetime(1972, 1, 7), datetime(2024, 2, 29, 12),
)  # fmt: skip
zones = st.sampled_from(ZONES)
moments = st.one_of(
    st.builds(
        lambda turn, minutes: turn.replace(tzinfo=UTC) + timedelta(minutes=minutes),
        st.sampled_from(TURNS),
        st.integers(-40 * 60, 40 * 60),
    ),
    st.datetimes(datetime(1930, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)),
)
# How far a date is from that of UTC, in days.
distances = st.one_of(st.none(), st.integers(-3, 3), st.sampled_from([-400, 400]))


def day_near(moment: datetime, distance: int | None) -> str | None:
    return None if distance is None else (moment.date() + timedelta(days=distance)).isoformat()


@contextmanager
def clocks_of(zone: str) -> Iterator[None]:
    """Let the C library show the time of a zone: another implementation than the one that is tested."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = zone
    time.tzset()
    try:
        yield
    finally:
        os.environ.pop("TZ")
        if before is not None:
            os.environ["TZ"] = before
        time.tzset()


@given(zones, moments, distances, distances)
def test_a_moment_is_within_a_validity_if_the_clocks_of_the_zone_show_one_of_its_days(
    zone: str, moment: datetime, first: int | None, last: int | None
) -> None:
    now, valid_from, valid_until = LocalMoment(moment, zone), day_near(moment, first), day_near(moment, last)
    with clocks_of(zone):
        shown = time.strftime("%Y-%m-%d", time.localtime(moment.timestamp() // 1))
    assert now.is_before(valid_from) is (valid_from is not None and shown < valid_from)
    assert now.is_after(valid_until) is (valid_until is not None and shown > valid_until)
    has_begun, goes_on = valid_from is None or valid_from <= shown, valid_until is None or shown <= valid_until
    assert now.is_within(valid_from, valid_until) is (has_begun and goes_on)


@pytest.mark.parametrize(
    ("zone", "day", "begins", "minutes"),
    [
        ("Europe/Paris", "2026-07-14", "2026-07-13T22:00", 24 * 60),
        ("Europe/Paris", "2026-03-29", "2026-03-28T23:00", 23 * 60),
        ("Europe/Paris", "2026-10-25", "2026-10-24T22:00", 25 * 60),
        # Midnight does not exist: the day begins at 01:00.
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00", 23 * 60),
        ("Africa/Cairo", "2023-04-28", "2023-04-27T22:00", 23 * 60),
        # The last hour of the day comes twice.
        ("America/Sao_Paulo", "2019-02-16", "2019-02-16T02:00", 25 * 60),
        ("Asia/Kathmandu", "2026-07-14", "2026-07-13T18:15", 24 * 60),
        ("Australia/Lord_Howe", "2026-04-05", "2026-04-04T13:00", 24 * 60 + 30),
        ("Pacific/Apia", "2011-12-29", "2011-12-29T10:00", 24 * 60),
        # The zone skipped this day.
        ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00", 0),
        ("Pacific/Apia", "2011-12-31", "2011-12-30T10:00", 24 * 60),
        ("Etc/GMT-14", "2026-07-14", "2026-07-13T10:00", 24 * 60),
        ("Etc/GMT+12", "2026-07-14", "2026-07-14T12:00", 24 * 60),
    ],
)
def test_an_account_valid_on_one_day_is_valid_from_its_first_minute_to_its_last(
    zone: str, day: str, begins: str, minutes: int
) -> None:
    first = datetime.fromisoformat(begins).replace(tzinfo=UTC)
    around = [first + timedelta(minutes=minute) for minute in range(-180, minutes + 180)]
    found = [moment for moment in around if LocalMoment(moment, zone).is_within(day, day)]
    assert found == [first + timedelta(minutes=minute) for minute in range(minutes)]
    millisecond = timedelta(milliseconds=1)
    if minutes:
        end = first + timedelta(minutes=minutes)
        edges = first - millisecond, first, end - millisecond, end
        assert [LocalMoment(edge, zone).is_within(day, day) for edge in edges] == [False, True, True, False]


def test_a_time_zone_is_needed_only_where_it_decides() -> None:
    now = LocalMoment(datetime(2026, 7, 14, 12, tzinfo=UTC), "Nowhere/Unknown")
    assert now.is_within(None, None)
    assert now.is_within("2026-07-13", "2026-07-15")
    assert now.is_before("2026-07-16")
    assert now.is_after("2026-07-12")
    with pytest.raises(ConfigError, match="time zone Nowhere/Unknown of EGEC_TIMEZONE"):
        now.is_within(None, "2026-07-14")


_COLUMNS = ("identifier", "email", "email_key", "civility", "first_name", "last_name", "language", "created_at",
            "updated_at", "disabled_at", "valid_from", "valid_until")  # fmt: skip
_NUMBERS = {"active_sequence": 0, "revoked_below": 0, "last_sequence": 0, "failed_logins": 0}


@pytest.fixture
def many(opened: Context) -> Context:
    """Return a context with two clients for each pair of days around the moment of `set_days`; one is disabled."""
    at = "2020-01-01T00:00:00.000Z"
    insert_many(
        opened.database,
        "client",
        _COLUMNS,
        [
            (str(10**9 + number), f"{number}@x.fr", f"{number}@x.fr", "", "", "", "", at, at, disabled, None, None)
            for number, (*_, disabled) in enumerate(product(_DAYS, _DAYS, (None, at)))
        ],
        constants=_NUMBERS,
    )
    return opened


_DAYS = (None, -2, -1, 0, 1, 2)


def set_days(moment: datetime) -> None:
    pairs = {str(distance): day_near(moment, distance) for distance in _DAYS}
    for number, (first, last, _) in enumerate(product(_DAYS, _DAYS, (0, 1))):
        Client.update(valid_from=pairs[str(first)], valid_until=pairs[str(last)]).where(
            Client.identifier == str(10**9 + number)
        ).execute()


@hypothesis.settings(max_examples=12, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@given(zones, moments)
def test_the_database_finds_the_same_clients_inactive_as_the_rule(many: Context, zone: str, moment: datetime) -> None:
    context = many._replace(settings=many.settings._replace(timezone=zone), clock=lambda: moment)
    with context.database.atomic():
        set_days(moment)
    local = moment.astimezone(ZoneInfo(zone)).date()
    expected = {}
    for one in Client.select():
        first, last = (date.fromisoformat(day) if day else None for day in (one.valid_from, one.valid_until))
        is_valid = (first is None or first <= local) and (last is None or local <= last)
        within = ClientStatus.NEW if is_valid else ClientStatus.INACTIVE
        expected[one.identifier] = within if one.disabled_at is None else ClientStatus.DISABLED
    assert {one.identifier: one.status for one in lists.list_clients(context)} == expected
    for status in ClientStatus:
        found = {one.identifier for one in lists.list_clients(context, ListQuery(Selection(status=status)))}
        assert found == {key for key, has in expected.items() if has is status}
    assert count_since(context).clients == {status: [*expected.values()].count(status) for status in ClientStatus}
