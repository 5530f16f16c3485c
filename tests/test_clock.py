"""Times: aware, UTC, whole milliseconds, and texts that sort like them."""

import calendar
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from egec_cli import clock
from egec_cli.errors import ConfigError, UsageError

MILLISECOND = timedelta(milliseconds=1)
offsets = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=offsets)


def test_now_is_the_present_in_utc_cut_to_milliseconds() -> None:
    before = datetime.now(UTC)
    now = clock.now()
    assert now.tzinfo is UTC
    assert now.microsecond % 1000 == 0
    assert before - MILLISECOND < now <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("zone", "text"),
    [("Europe/Paris", "2026-11-24 04:30 CET"), ("UTC", "2026-11-24 03:30 UTC"), ("Asia/Dubai", "2026-11-24 07:30 +04")],
)
def test_a_time_in_a_message_names_its_zone(
    zone: str, text: str, machine_in_new_york: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = datetime(2026, 11, 24, 3, 30, 7, tzinfo=UTC)
    monkeypatch.setattr(clock, "_local_zone", "")
    clock.show_times_in(zone)
    assert clock.to_zoned_text(moment) == text
    assert clock.to_zoned_text(moment, with_seconds=True) == text.replace(":30", ":30:07")
    assert clock.to_local_text(moment) == text[: len("2026-11-24 04:30")]


def test_without_the_data_of_the_zone_times_are_those_of_utc_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_local_zone", "")
    clock.show_times_in("Mars/Olympus")
    moment = datetime(2026, 11, 24, 3, 30, 7, tzinfo=UTC)
    assert clock.to_local_text(moment) == clock.to_zoned_text(moment) == "2026-11-24 03:30 UTC"


@pytest.fixture
def machine_in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this machine have another time zone than the settings."""
    with monkeypatch.context() as changed:
        changed.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


def test_the_clock_of_a_server_advances_from_its_reading_even_if_this_machines_clock_is_set() -> None:
    paris = timezone(timedelta(hours=1))
    theirs = [datetime(2026, 11, 24, 4, 30, tzinfo=paris), datetime(2026, 11, 24, 3, 0, tzinfo=UTC)]
    readings = iter(theirs)
    began = time.monotonic()
    of_server = clock.ServerClock(lambda: next(readings))
    first = of_server()
    time.sleep(0.05)
    second = of_server()
    passed = timedelta(seconds=time.monotonic() - began) + MILLISECOND
    assert theirs[0] - MILLISECOND <= first < second <= theirs[0] + passed
    assert second - first >= timedelta(seconds=0.05) - MILLISECOND
    assert first.tzinfo is UTC
    assert second.microsecond % 1000 == 0
    of_server.synchronize()
    assert theirs[1] - MILLISECOND <= of_server() <= theirs[1] + passed + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("seconds", "is_believed"), [(-1, False), (0, True), (60, True), (64, True), (66, False), (3600, False)]
)
def test_a_stored_time_that_is_too_far_ahead_is_ignored(seconds: int, is_believed: bool) -> None:
    now = clock.now()
    moment = now + timedelta(seconds=seconds)
    assert clock.lies_ahead(moment, now, at_most=timedelta(seconds=60)) is is_believed
    assert not clock.lies_ahead(None, now, at_most=timedelta(seconds=60))


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 11, 24, 3, 30, tzinfo=UTC), "2026-11-24T03:30:00.000Z"),
        (datetime(2026, 11, 24, 3, 30, 1, 999_999, tzinfo=UTC), "2026-11-24T03:30:01.999Z"),
        (datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))), "2025-12-31T23:30:00.000Z"),
        (datetime(999, 1, 1, tzinfo=UTC), "0999-01-01T00:00:00.000Z"),
    ],
)
def test_a_time_is_written_in_utc_with_milliseconds(moment: datetime, text: str) -> None:
    assert clock.to_rfc3339(moment) == text


@given(moments)
def test_what_is_written_is_read_again_to_the_millisecond(moment: datetime) -> None:
    text = clock.to_rfc3339(moment)
    assert re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z", text)
    read = clock.parse_time(text)
    assert read.tzinfo is UTC
    assert timedelta(0) <= moment - read < MILLISECOND
    assert clock.to_rfc3339(read) == text


@given(moments, moments)
def test_texts_sort_like_the_times(one: datetime, other: datetime) -> None:
    earlier, later = sorted((one, other))
    assert clock.to_rfc3339(earlier) <= clock.to_rfc3339(later)


@pytest.mark.parametrize(
    "text",
    [
        "", "now", "2026-11-24", "2026-11-24T03:30:00", "2026-13-01T00:00:00Z", "2026-02-29T00:00:00Z",
        "0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-10:00",
    ],
)  # fmt: skip
def test_a_text_without_offset_or_of_no_date_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        clock.parse_time(text)


def test_other_offsets_are_read_too() -> None:
    assert clock.parse_time("2026-11-24T03:30:00+01:00") == datetime(2026, 11, 24, 2, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("day", "zone", "begins", "ends"),
    [
        ("2026-01-31", "UTC", "2026-01-31 00:00", "2026-02-01 00:00"),
        ("2026-01-31", "Europe/Paris", "2026-01-30 23:00", "2026-01-31 23:00"),
        # The days of 23 and of 25 hours.
        ("2026-03-29", "Europe/Paris", "2026-03-28 23:00", "2026-03-29 22:00"),
        ("2026-10-25", "Europe/Paris", "2026-10-24 22:00", "2026-10-25 23:00"),
        # A day without midnight begins at 1:00, and one with two begins at the first.
        ("2018-11-04", "America/Sao_Paulo", "2018-11-04 03:00", "2018-11-05 02:00"),
        ("2018-11-03", "America/Sao_Paulo", "2018-11-03 03:00", "2018-11-04 03:00"),
        ("2026-11-01", "America/Havana", "2026-11-01 04:00", "2026-11-02 05:00"),
    ],
)
def test_a_date_is_the_beginning_of_that_day_or_its_end_whatever_the_zone_of_the_machine(
    day: str, zone: str, begins: str, ends: str, machine_in_new_york: None
) -> None:
    now = clock.now()
    found = [clock.parse_date_or_age(day, now, end_of_day=end, zone=zone) for end in (False, True)]
    assert [f"{moment:%Y-%m-%d %H:%M %Z}" for moment in found] == [f"{begins} UTC", f"{ends} UTC"]
    assert clock.parse_date_or_age("90d", now, end_of_day=True, zone=zone) == now - timedelta(days=90)


def ago(age: str, now: str, zone: str = "UTC") -> str:
    """Return the time that an age names, to the minute, in a time zone."""
    moment = clock.parse_date_or_age(age, datetime.fromisoformat(now).replace(tzinfo=ZoneInfo(zone)), zone=zone)
    assert moment.tzinfo is UTC
    return moment.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M")


@pytest.mark.parametrize(
    ("age", "now", "expected"),
    [
        ("0min", "2026-03-31 12:00", "2026-03-31 12:00"),
        ("30min", "2026-03-31 12:00", "2026-03-31 11:30"),
        ("1h", "2026-03-31 12:00", "2026-03-31 11:00"),
        ("36h", "2026-03-31 12:00", "2026-03-30 00:00"),
        ("0d", "2026-03-31 12:00", "2026-03-31 12:00"),
        ("6w", "2026-03-31 12:00", "2026-02-17 12:00"),
        ("0m", "2026-03-31 12:00", "2026-03-31 12:00"),
        ("1m", "2026-03-31 12:00", "2026-02-28 12:00"),
        ("1m", "2024-03-31 12:00", "2024-02-29 12:00"),
        ("1m", "2026-01-15 12:00", "2025-12-15 12:00"),
        ("12m", "2026-03-31 12:00", "2025-03-31 12:00"),
        ("13m", "2026-12-31 12:00", "2025-11-30 12:00"),
        ("1y", "2024-02-29 12:00", "2023-02-28 12:00"),
        ("4y", "2024-02-29 12:00", "2020-02-29 12:00"),
        ("100y", "2024-02-29 12:00", "1924-02-29 12:00"),
    ],
)
def test_an_age_is_in_minutes_hours_days_weeks_or_months_and_years_of_the_calendar(
    age: str, now: str, expected: str
) -> None:
    assert ago(age, now) == expected


def test_months_keep_the_time_of_day_of_the_zone_and_days_have_24_hours() -> None:
    # Paris changes to summer time on 29 March 2026: the hour from 2 to 3 is left out.
    assert ago("1m", "2026-04-15 09:30", "Europe/Paris") == "2026-03-15 09:30"
    assert ago("31d", "2026-04-15 09:30", "Europe/Paris") == "2026-03-15 08:30"
    assert ago("1m", "2026-04-29 02:30", "Europe/Paris") == "2026-03-29 03:30"
    assert ago("1h", "2026-03-29 03:30", "Europe/Paris") == "2026-03-29 01:30"
    # At 23:30 in UTC the day of Paris is the next one: one month before 1 April is 1 March.
    late = datetime(2026, 3, 31, 23, 30, tzinfo=UTC)
    assert clock.parse_date_or_age("1m", late, zone="Europe/Paris") == datetime(2026, 3, 1, 0, 30, tzinfo=UTC)
    assert clock.parse_date_or_age("1m", late, zone="UTC") == datetime(2026, 2, 28, 23, 30, tzinfo=UTC)


def test_a_date_is_the_beginning_of_that_day_in_a_zone() -> None:
    now = clock.now()
    for zone, begins in (("Europe/Paris", 22), ("Asia/Tokyo", 15), ("UTC", 0)):
        day = 30 if begins else 1
        assert clock.parse_date_or_age("2026-07-01", now, zone=zone) == datetime(
            2026, 7 if day == 1 else 6, day, begins, tzinfo=UTC
        )
    with pytest.raises(ConfigError, match="Mars/Olympus"):
        clock.parse_date_or_age("2026-07-01", now, zone="Mars/Olympus")


ages = st.integers(0, 99999).flatmap(lambda number: st.sampled_from([f"{number}{unit}" for unit in "dwmy"]))
zones = st.sampled_from(["UTC", "Europe/Paris", "America/St_Johns", "Asia/Kathmandu"])


@given(moments, ages, zones)
def test_an_age_names_the_same_time_some_calendar_months_earlier(now: datetime, age: str, zone: str) -> None:
    number, unit = int(age[:-1]), age[-1]
    try:
        before = clock.parse_date_or_age(age, now, zone=zone)
    except UsageError:
        # Before the year 1, give or take the offset from UTC.
        days = {"d": number, "w": number * 7, "m": number * 28, "y": number * 365}[unit]
        assert now - timedelta(days=min(days * 1.1 + 3, now.replace(tzinfo=UTC).toordinal() - 1)) < datetime(
            3, 1, 1, tzinfo=UTC
        )
        return
    assert before <= now
    if unit in "dw":
        assert now - before == timedelta(days=number * (7 if unit == "w" else 1))
        return
    here, there = now.astimezone(ZoneInfo(zone)), before.astimezone(ZoneInfo(zone))
    months = number * (12 if unit == "y" else 1)
    assert (here.year * 12 + here.month) - (there.year * 12 + there.month) == months
    last_day = calendar.monthrange(there.year, there.month)[1]
    assert there.day == min(here.day, last_day)
    # The time of day stays, except in an hour that a change to summer time leaves out.
    assert abs(
        there.replace(tzinfo=None) - there.replace(tzinfo=None, hour=here.hour, minute=here.minute, second=here.second,
                                                   microsecond=here.microsecond)
    ) in {timedelta(0), timedelta(hours=1)}  # fmt: skip


@given(moments, st.integers(0, 500), st.integers(0, 500), zones)
def test_a_greater_age_is_never_later(now: datetime, one: int, other: int, zone: str) -> None:
    assume(now.year > 60)
    younger, older = sorted((one, other))
    assert clock.parse_date_or_age(f"{older}m", now, zone=zone) <= clock.parse_date_or_age(
        f"{younger}m", now, zone=zone
    )


@pytest.mark.parametrize(
    "text",
    [
        "", "yesterday", "2026-02-30", "-1d", "1.5d", "99999d9", "٣d", "1M", "1Y", "2 y", "m", "1q", "99999y", "99999m",
        "1y6m", "h", "1H", "1.5h", "1hour", "1mn", "90s", "1d12h", "99999999h",
    ],
)  # fmt: skip
def test_an_invalid_date_or_age_is_reported(text: str) -> None:
    with pytest.raises(UsageError, match="invalid date or age"):
        clock.parse_date_or_age(text, clock.now(), zone="UTC")
