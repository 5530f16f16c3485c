"""`egec audit`, and the events of every kind of change."""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from egec_cli import networks
from egec_cli.audit.events import record_event
from egec_cli.clients.select import explain_selectors
from egec_cli.context import open_context
from egec_cli.settings import load
from egec_cli.settings.types import Database, Limit
from egec_cli.store.models import Event as AuditEvent
from egec_cli.store.models import RateCount
from tests.conftest import Egec
from tests.processes import egec_after
from tests.screens.emulator import PROGRAM, see

KEYS = ["id", "at", "action", "outcome", "client", "run", "actor", "host", "details"]


def events(egec: Egec, *options: str) -> list[dict[str, Any]]:
    ended = egec("audit", "list", "--format", "jsonl", *options)
    assert ended.code == 0, ended.err
    return [json.loads(line) for line in ended.out.splitlines()]


@pytest.fixture
def jeanne(egec: Egec, location: Database) -> str:
    """Return the identifier of a client."""
    return egec("client", "create", "jeanne@example.org", "--format", "ids").out.strip()


def test_the_keys_are_a_contract(egec: Egec, jeanne: str) -> None:
    [event] = events(egec)
    assert list(event) == KEYS
    assert (event["action"], event["outcome"], event["client"]) == ("client.create", "created", jeanne)


def test_every_format_lists_the_events(egec: Egec, jeanne: str) -> None:
    def listed(output: str) -> str:
        return egec("audit", "list", "--format", output).out

    assert json.loads(listed("json")) == events(egec)
    assert listed("csv").splitlines()[0] == ",".join(KEYS)
    assert jeanne in listed("csv").splitlines()[1]
    assert listed("ids") == "1\n"
    assert listed("table").splitlines()[1].split()[1:4] == ["client.create", "created", jeanne]


def test_events_can_be_filtered_and_reduced_to_fields(egec: Egec, jeanne: str) -> None:
    egec("activate", jeanne)
    egec("client", "disable", jeanne, "--reason", "left")
    assert [e["action"] for e in events(egec, "--client", "jeanne@example.org", "--limit", "2")] == [
        "credential.issue",
        "client.disable",
    ]
    ended = egec(
        "audit", "list", "--action", "client", "--since", "1d", "--fields", "action,details", "--format", "csv"
    )
    assert ended.out == 'action,details\nclient.create,{}\nclient.disable,"{""reason"": ""left""}"\n'
    assert egec("audit", "list", "--run", "none").code == 65
    assert egec("audit", "list", "--client", "unknown@example.org").code == 67
    assert egec("audit", "list", "--since", "yesterday").code == 2


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (
            "--action",
            "egec: unknown action 'issue'\n      The actions are: audit, audit.prune, client, client.closing, ",
        ),
        (
            "--outcome",
            "egec: unknown outcome 'issue'\n      The outcomes are: accepted, cancelled, created, deferred, ",
        ),
    ],
)
def test_an_unknown_action_or_outcome_is_refused_unless_an_old_event_has_it(
    egec: Egec, jeanne: str, option: str, told: str
) -> None:
    ended = egec("audit", "list", option, "issue")
    assert (ended.code, ended.out) == (2, "")
    assert told in ended.err
    with open_context(load.load_settings()) as context, context.database.atomic():
        record_event(context, "issue", "issue")
    assert len(events(egec, option, "issue")) == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [("--action", "reissue"), ("--outcome", "limited"), ("--outcome", "mail_blocked"), ("--outcome", "wrong_digit")],
)
def test_a_known_action_or_outcome_without_events_lists_none(egec: Egec, jeanne: str, option: str, value: str) -> None:
    assert events(egec, option, value) == []


def test_a_shown_password_is_recorded_as_shown(egec: Egec, jeanne: str) -> None:
    egec("activate", jeanne, "--no-mail", "--show-password")
    egec("activate", jeanne)
    assert [event["details"] for event in events(egec, "--action", "credential.show")] == [{"sequence": 1}]


def test_the_person_that_a_program_acts_for_is_recorded_beside_its_user(
    egec: Egec, egec_process: Egec, jeanne: str
) -> None:
    egec_process("client", "update", jeanne, "--last-name", "Dupont", env={"EGEC_ACTOR": "Jeanne Martin"})
    [event] = events(egec, "--actor", "jeanne martin")
    assert event["action"] == "client.update"
    assert event["actor"].endswith("for Jeanne Martin)")
    assert not event["actor"].startswith("Jeanne")


@pytest.mark.parametrize("bad", ["two\nlines", "x" * 101, "\x1b[31m"])
def test_an_invalid_actor_is_a_configuration_error(egec_process: Egec, jeanne: str, bad: str) -> None:
    ended = egec_process("client", "show", jeanne, env={"EGEC_ACTOR": bad})
    assert ended.code == 78
    assert "EGEC_ACTOR" in ended.err


@pytest.mark.parametrize("data", [b"", b"x" * 600, b"only"])
def test_checkpassword_refuses_and_records_invalid_input(egec: Egec, jeanne: str, data: bytes) -> None:
    command = [*egec_after(partial(os.dup2, 0, 3)), "verify", "--checkpassword", "true"]
    done = subprocess.run(command, input=data, timeout=60)
    assert done.returncode == 1
    [event] = events(egec, "--action", "login")
    assert (event["outcome"], event["details"]) == ("refused", {"reason": "unknown_identifier"})


def test_each_kind_of_login_is_recorded_once(egec: Egec, egec_process: Egec, jeanne: str) -> None:
    typed = f"{jeanne}\nwrong\n"
    egec_process("verify", "--stdin", stdin=typed)
    egec_process("verify", "--pam", stdin="wrong", env={"PAM_USER": jeanne})
    egec_process("verify", jeanne, "--password-stdin", stdin="wrong")
    egec_process("verify", "--batch", "-", stdin=f"{jeanne},wrong\n1111111111,wrong\n")
    assert [e["client"] for e in events(egec, "--action", "login")] == [jeanne] * 4 + [None]
    egec_process("verify", "--stdin", "--explain", stdin=typed)
    assert [e["action"] for e in events(egec, "--action", "login")][5:] == ["login", "login.explain"]


def test_an_export_is_recorded_with_or_without_hashes(egec: Egec, jeanne: str) -> None:
    egec("client", "export")
    egec("client", "export", "--format", "htpasswd", "--output", "htpasswd")
    assert [e["details"]["with_hashes"] for e in events(egec, "--action", "client.export")] == [False, True]


def test_prune_deletes_old_events_only_with_consent(egec: Egec, jeanne: str) -> None:
    with open_context(load.load_settings()) as context:
        AuditEvent.update(at=context.clock() - timedelta(days=2)).execute()
    refused = egec("audit", "prune", "--older-than", "1d")
    assert (refused.code, len(events(egec))) == (2, 1)
    assert "--yes" in refused.err
    tried = egec("audit", "prune", "--older-than", "1d", "--dry-run", "--format", "json")
    assert json.loads(tried.out)["events"] == 1
    assert len(events(egec)) == 1
    done = egec("audit", "prune", "--older-than", "1d", "--yes", "--format", "json")
    assert list(json.loads(done.out)) == ["events", "before"]
    assert [e["action"] for e in events(egec)] == ["audit.prune", "audit.prune"]
    assert json.loads(egec("audit", "prune", "--yes", "--format", "json").out)["events"] == 0


@pytest.mark.parametrize(
    ("age", "words"), [("2099-01-01", "--older-than 2099-01-01 is in the future"), ("0d", "an age must not be 0")]
)
@pytest.mark.parametrize("option", ["--yes", "--dry-run"])
def test_prune_deletes_nothing_if_the_age_is_not_in_the_past(
    egec: Egec, jeanne: str, age: str, words: str, option: str
) -> None:
    refused = egec("audit", "prune", "--older-than", age, option)
    assert (refused.code, refused.out, len(events(egec))) == (2, "", 1)
    assert words in refused.err


@pytest.mark.parametrize("machine", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_days_and_shown_times_are_those_of_the_settings_whatever_the_zone_of_the_machine(
    egec: Egec, jeanne: str, machine: str, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Half an hour before and after midnight, on both sides of the change to winter time of New York.
    with open_context(load.load_settings()) as context:
        for month, day in ((10, 31), (11, 2)):
            midnight = datetime(2026, month, day, tzinfo=ZoneInfo(zone))
            for minutes in (-30, 30):
                moment = midnight.astimezone(UTC) + timedelta(minutes=minutes)
                record_event(context._replace(clock=partial(moment_before, moment, 0)), "login", "refused")
    monkeypatch.setenv("EGEC_TIMEZONE", zone)
    with machine_in(machine):
        require_days_and_times_of(zone, egec)


@contextmanager
def machine_in(zone: str) -> Iterator[None]:
    """Let the time zone of this machine, and of the processes that are started, be another one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        yield
    time.tzset()


def require_days_and_times_of(zone: str, egec: Egec) -> None:
    def number(*options: str) -> int:
        ended = egec("audit", "list", "--action", "login", "--format", "count", *options)
        return int(ended.out)

    assert [number("--since", f"2026-{day}") for day in ("10-30", "10-31", "11-01", "11-02", "11-03")] == [
        4,
        3,
        2,
        1,
        0,
    ]
    assert [number("--until", f"2026-{day}") for day in ("10-29", "10-30", "10-31", "11-01", "11-02")] == [
        0,
        1,
        2,
        3,
        4,
    ]
    shown = see([*PROGRAM, "audit", "list", "--action", "login"], as_it_is=True).text
    assert re.findall(r"2026-[0-9-]+ [0-9:]+", shown) == [
        "2026-10-30 23:30", "2026-10-31 00:30", "2026-11-01 23:30", "2026-11-02 00:30",
    ]  # fmt: skip
    for since, expected in (("2026-10-31", 3), ("2026-11-02", 1)):
        ended = egec("stats", "--since", since, "--format", "json")
        numbers = [one["number"] for one in json.loads(ended.out) if one["name"] == "refused" and one["reason"]]
        assert sum(numbers) == expected
    assert "since 2026-11-02 00:00" in see([*PROGRAM, "stats", "--since", "2026-11-02"], as_it_is=True).text
    tried = egec("audit", "prune", "--older-than", "2026-11-02", "--dry-run", "--format", "json")
    assert json.loads(tried.out)["events"] == 3
    asking = see([*PROGRAM, "audit", "prune", "--older-than", "2026-11-02"], typed="n\n", as_it_is=True)
    day_begins = datetime(2026, 11, 2, tzinfo=ZoneInfo(zone))
    assert asking.text.startswith(f"Permanently delete 3 events before {day_begins:%Y-%m-%d %H:%M %Z}?")


def test_a_past_moment_may_be_given_in_hours_and_minutes(egec: Egec, jeanne: str) -> None:
    with open_context(load.load_settings()) as context:
        for minutes in (90, 200):
            earlier = context._replace(clock=partial(moment_before, context.clock(), minutes / 60))
            record_event(earlier, "login", "refused")
    found = {age: len(events(egec, "--action", "login", "--since", age)) for age in ("1h", "2h", "199min", "201min")}
    assert found == {"1h": 0, "2h": 1, "199min": 1, "201min": 2}
    assert len(events(egec, "--action", "login", "--until", "2h")) == 1
    assert egec("stats", "--since", "3h").code == 0
    assert egec("client", "list", "--created-after", "1h", "--format", "count").out == "1\n"
    assert json.loads(egec("audit", "prune", "--older-than", "3h", "--dry-run", "--format", "json").out)["events"] == 1
    assert explain_selectors({"created_after": "12h"}) == "created within the last 12 hours"
    assert explain_selectors({"created_after": "1h"}) == "created within the last 1 hour"
    assert explain_selectors({"created_before": "30min"}) == "created more than 30 minutes ago"


def moment_before(moment: datetime, hours: float) -> datetime:
    return moment - timedelta(hours=hours)


@pytest.mark.parametrize("days", ["0", "365"])
def test_prune_deletes_counts_of_origins_that_have_ended(
    egec: Egec, jeanne: str, monkeypatch: pytest.MonkeyPatch, days: str
) -> None:
    monkeypatch.setenv("EGEC_AUDIT_DAYS", days)
    with open_context(load.load_settings()) as context:
        # The later one first, as each count deletes what has ended.
        for hours in (0, 25):
            earlier = context._replace(clock=partial(moment_before, context.clock(), hours))
            networks.count_act(earlier, f"test {hours}", (Limit(1, 86_400),))
    for options, left in ((["--dry-run"], 2), (["--yes"], 1)):
        assert egec("audit", "prune", *options).code == 0
        with open_context(load.load_settings()):
            assert RateCount.select().count() == left


def test_prune_keeps_all_events_if_the_setting_is_0(egec: Egec, jeanne: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EGEC_AUDIT_DAYS", "0")
    ended = egec("audit", "prune", "--yes", "--format", "json")
    assert json.loads(ended.out) == {"events": 0, "before": None}
    assert "EGEC_AUDIT_DAYS" in ended.err


def test_backup_and_restore_are_recorded(egec: Egec) -> None:
    egec("init")
    assert egec("db", "backup", "copy.db").code == 0
    assert [e["action"] for e in events(egec)] == ["db.backup"]
    assert egec("db", "restore", "copy.db").code == 0
    # Later events are in the replaced file, which is kept.
    assert [e["action"] for e in events(egec)] == ["db.restore"]


def test_a_limit_beyond_the_integers_of_databases_is_invalid_input(location: Database, egec: Egec) -> None:
    ended = egec("audit", "list", "--limit", "9" * 19)
    assert (ended.code, ended.out) == (65, "")
    assert "too large" in ended.err
