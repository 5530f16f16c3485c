"""Upgrades: of what the first release made, at every moment, by two at once; and a program that is too old."""

import json
import os
import signal
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from egec_cli import clock
from egec_cli.context import open_context
from egec_cli.settings import load
from egec_cli.settings.types import Database, PostgresqlServer, SqliteFile
from egec_cli.store import database
from egec_cli.store.database import list_known_migrations
from egec_cli.store.models import ReissueRun, RunState
from tests.activations import PATIENCE, wait_until
from tests.conftest import Egec
from tests.processes import IMPATIENT, Call, disk_with_room_to, egec_after, later_release, run_with

RELEASED = Path(__file__).parent / "released"
# What the databases of the first release were filled with, beside others.
CLIENT, PASSWORD = "7130279332", "X%4SqsXsR"
TABLES = ("client", "credential", "reissue_run", "reissue_item", "event", "mail_pace")

# The migration of a release to come: it changes a table, says so, waits if it has to, and makes another one.
LATER = """
import os, time
from pathlib import Path

def up(migrator, db):
    db.execute_sql("ALTER TABLE client ADD COLUMN later TEXT")
    db.execute_sql("UPDATE client SET later = 'x'")
    Path(os.environ["STARTED"] + str(os.getpid())).touch()
    while "GATE" in os.environ and Path(os.environ["GATE"]).exists():
        time.sleep(0.005)
    db.execute_sql("CREATE TABLE later (id INTEGER)")
"""


def connect(location: Database) -> Any:
    return sqlite3.connect(location.path) if isinstance(location, SqliteFile) else psycopg.connect(location.url)


def rows(location: Database, columns: dict[str, str] | None = None) -> dict[str, tuple[str, list[Any]]]:
    """Return the columns and the rows of every table; or only these columns."""
    statement = "SELECT {} FROM {} ORDER BY id"
    found = {}
    with closing(connect(location)) as connection:
        for table in TABLES:
            cursor = connection.execute(statement.format(columns[table] if columns else "*", table))
            found[table] = (", ".join(column[0] for column in cursor.description), cursor.fetchall())
    return found


@pytest.fixture(params=["sqlite", "postgresql"])
def released(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    """Return a database as the first release made it, once of each engine; EGEC_DATABASE_URL names it too."""
    return install("0001", request.param, request, tmp_path, monkeypatch)


def install(
    version: str, engine: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Database:
    """Return a database as the program with this last migration made it; EGEC_DATABASE_URL names it too."""
    script = (RELEASED / f"{version}.{engine}.sql").read_text(encoding="utf-8")
    if engine == "sqlite":
        (folder := tmp_path / "database").mkdir(mode=0o700)
        url = f"sqlite:///{folder}/egec.db"
        with closing(sqlite3.connect(folder / "egec.db")) as connection:
            connection.executescript(script)
        (folder / "egec.db").chmod(0o600)
    else:
        url = request.getfixturevalue("postgresql")()
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute("DROP SCHEMA public CASCADE")
            admin.execute("CREATE SCHEMA public")
            admin.execute(script.encode())
    monkeypatch.setenv("EGEC_DATABASE_URL", url)
    return load.load_settings().database


@pytest.fixture
def later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Return the change to a later release."""
    monkeypatch.setenv("STARTED", str(tmp_path / "started-"))
    return later_release(tmp_path / "migrations", LATER)


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a file that holds a migration up, half done, for as long as it is there."""
    (path := tmp_path / "gate").touch()
    monkeypatch.setenv("GATE", str(path))
    yield path
    path.unlink(missing_ok=True)


def started(change: Call, *arguments: str) -> subprocess.Popen[str]:
    """Begin a run of `egec` as a process after a change."""
    return subprocess.Popen(
        [*egec_after(change), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def copies(location: Database) -> list[Path]:
    """Return the copies that were made beside an embedded database."""
    return sorted(location.path.parent.glob("egec.db.before-*")) if isinstance(location, SqliteFile) else []


def test_what_the_first_release_made_is_upgraded_with_all_its_data(released: Database, egec: Egec) -> None:
    before = rows(released)
    newer = list_known_migrations()[1:]
    assert egec("db", "status").code == (78 if newer else 0)
    upgraded = egec("db", "upgrade", "--format", "json")
    assert (upgraded.code, json.loads(upgraded.out)["applied"]) == (0, newer)
    # The column was renamed.
    present = {table: columns.replace("next_at", "last_at AS next_at") for table, (columns, _) in before.items()}
    after = rows(released, present)
    columns, events = after.pop("event")
    earlier_columns, earlier_events = before.pop("event")
    assert after == before
    # What the upgrade adds is the record of itself.
    assert (columns, events[: len(earlier_events)]) == (earlier_columns, earlier_events)
    assert ["db.upgrade" in one for one in events[len(earlier_events) :]] == [True] * bool(newer)
    assert egec("db", "status").code == 0
    with open_context(load.load_settings()):
        assert egec("client", "show", CLIENT).code == 0
    assert egec("reissue", "status", "spring-2026").code == 0
    assert len(copies(released)) == (isinstance(released, SqliteFile) and bool(newer))


def test_an_upgrade_renames_stored_codes_and_leaves_what_people_typed(released: Database, egec: Egec) -> None:
    events = [
        ("client.import", "begun", "{}"),
        ("login.explain", "former_password", "{}"),
        ("login.explain", "waiting", "{}"),
        ("reissue.pause", "not_now", "{}"),
        ("login", "refused", '{"reason": "wrong"}'),
        ("login", "refused", '{"reason": "nothing_opens"}'),
        ("login", "refused", '{"reason": "blocked"}'),
        ("mail.test", "refused", '{"failure": "bad_input", "kind": "reissue"}'),
        ("client.notice", "refused", '{"failure": "mail_refused", "message_id": "<defect@egec.pro>"}'),
        ("client.disable", "disabled", '{"reason": "wrong"}'),
    ]
    columns = "id, at, actor, host, action, outcome, details"
    values = "{}, '2026-11-25T05:00:00.000Z', 'a', 'h', '{}', '{}', '{}'"
    with closing(connect(released)) as connection:
        for number, event in enumerate(events, 101):
            connection.execute(f"INSERT INTO event ({columns}) VALUES ({values.format(number, *event)})")
        connection.execute("UPDATE credential SET failure = 'defect' WHERE id = 1")
        connection.execute("UPDATE reissue_item SET failure = 'no_such_client', details = 'not_now' WHERE id = 1")
        connection.execute("UPDATE reissue_item SET failure = 'mail_refused' WHERE id = 2")
        connection.commit()
    assert egec("db", "upgrade").code == 0
    shown = dict.fromkeys(TABLES, "id") | {
        "event": "action, outcome, details, id",
        "credential": "failure, id",
        "reissue_item": "failure, details, id",
    }
    after = rows(released, shown)
    assert [event[:3] for event in after["event"][1] if 101 <= event[3] <= 110] == [
        ("client.import", "started", "{}"),
        ("login.explain", "earlier_password", "{}"),
        ("login.explain", "waiting", "{}"),
        ("reissue.pause", "temporary_failure", "{}"),
        ("login", "refused", '{"reason": "wrong_password"}'),
        ("login", "refused", '{"reason": "no_password"}'),
        ("login", "refused", '{"reason": "blocked"}'),
        ("mail.test", "refused", '{"failure": "invalid_input", "kind": "reissue"}'),
        ("client.notice", "refused", '{"failure": "mail_refused", "message_id": "<defect@egec.pro>"}'),
        ("client.disable", "disabled", '{"reason": "wrong"}'),
    ]
    assert [failure for failure, _ in after["credential"][1]] == ["internal_error", None, None, None]
    assert after["reissue_item"][1] == [
        ("unknown_client", "not_now", 1), ("mail_refused", None, 2), (None, None, 3)
    ]  # fmt: skip


def test_the_password_of_before_the_upgrade_still_opens_the_account(
    released: Database, egec_process: Egec, later: Call
) -> None:
    assert run_with([later], "db", "upgrade").code == 0
    assert run_with([later], "verify", "--stdin", stdin=f"{CLIENT}\n{PASSWORD}\n").code == 0


def test_the_copy_is_what_was_there_before_for_the_owner_alone(released: Database, later: Call) -> None:
    before = rows(released)
    assert run_with([later], "db", "upgrade").code == 0
    if isinstance(released, SqliteFile):
        [copy] = copies(released)
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        assert rows(SqliteFile(copy)) == before


def test_a_program_that_is_too_old_refuses_and_damages_nothing(
    released: Database, later: Call, egec_process: Egec
) -> None:
    assert run_with([later], "db", "upgrade").code == 0
    before = rows(released)
    for arguments in (["client", "list"], ["activate", CLIENT], ["db", "upgrade"], ["init"], ["db", "status"]):
        ended = egec_process(*arguments)
        assert (ended.code, "9999_later" in ended.out + ended.err) == (78, True), ended
    ended = egec_process("verify", "--stdin", stdin=f"{CLIENT}\n{PASSWORD}\n")
    assert (ended.code, "newer egec" in ended.err) == (78, True)
    assert rows(released) == before
    assert run_with([later], "verify", "--stdin", stdin=f"{CLIENT}\n{PASSWORD}\n").code == 0


def test_a_kill_in_the_middle_leaves_the_previous_schema_and_the_upgrade_can_be_run_again(
    released: Database, later: Call, gate: Path, tmp_path: Path, egec: Egec
) -> None:
    egec("db", "upgrade")
    before = rows(released)
    with started(later, "db", "upgrade") as process:
        wait_until(lambda: bool(list(tmp_path.glob("started-*"))))
        os.kill(process.pid, signal.SIGKILL)
    assert egec("db", "status").code == 0
    assert rows(released) == before
    gate.unlink()
    # PostgreSQL notices that the process is gone when it answers.
    wait_until(lambda: run_with([later], "db", "upgrade").code == 0)
    assert run_with([later], "db", "status").code == 0
    assert {row[-1] for row in rows(released)["client"][1]} == {"x"}


def test_of_two_upgrades_at_once_one_does_it_and_the_other_finds_it_done(
    released: Database, later: Call, gate: Path, tmp_path: Path
) -> None:
    with started(later, "db", "upgrade", "--format", "json") as first:
        wait_until(lambda: bool(list(tmp_path.glob("started-*"))))
        with started(later, "db", "upgrade", "--format", "json") as second:
            with pytest.raises(subprocess.TimeoutExpired):
                second.wait(timeout=1)
            gate.unlink()
            told = [json.loads(process.communicate(timeout=PATIENCE)[0]) for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0)
    assert [bool(one["applied"]) for one in told] == [True, False]
    assert len(list(tmp_path.glob("started-*"))) == 1
    assert len(copies(released)) == isinstance(released, SqliteFile)


# A clock that was set back has written a moment that lies far ahead.
@pytest.mark.parametrize("ahead", [timedelta(), timedelta(hours=1)], ids=["has left", "is not believed"])
def test_who_upgrades_while_a_run_is_worked_on_is_told_to_wait(
    released: Database, later: Call, egec: Egec, ahead: timedelta
) -> None:
    egec("db", "upgrade")
    made = len(copies(released))
    with open_context(load.load_settings()):
        until = clock.now() + timedelta(seconds=60)
        ReissueRun.update(state=RunState.RUNNING, worked_until=until).execute()
    before = rows(released)
    ended = run_with([later], "db", "upgrade")
    assert (ended.code, ended.out) == (75, "")
    assert "the run spring-2026 is being worked on" in ended.err
    assert (rows(released), len(copies(released))) == (before, made)
    with open_context(load.load_settings()):
        ReissueRun.update(worked_until=clock.now() + ahead).execute()
    assert run_with([later], "db", "upgrade").code == 0


def test_an_upgrade_waits_for_another_transaction_and_then_gives_up_with_nothing_changed(
    released: Database, later: Call, egec: Egec
) -> None:
    egec("db", "upgrade")
    with open_context(load.load_settings()) as other, other.database.atomic():
        ReissueRun.update(options="{}").execute()
        other.database.execute_sql("UPDATE client SET language = language")  # type: ignore[no-untyped-call] # it has none
        ended = run_with([IMPATIENT, later], "db", "upgrade")
    assert (ended.code, ended.out) == (75, "")
    assert egec("db", "status").code == 0


def test_where_nothing_is_to_be_done_nothing_is_copied(location: Database, egec: Egec) -> None:
    assert json.loads(egec("db", "upgrade", "--format", "json").out)["applied"] == []
    assert copies(location) == []
    assert isinstance(location, SqliteFile | PostgresqlServer)


def test_without_room_for_the_copy_nothing_is_upgraded(
    tmp_path: Path, later: Call, egec: Egec, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = SqliteFile(tmp_path / "egec.db")
    database.create_database(location)
    monkeypatch.setenv("EGEC_DATABASE_URL", f"sqlite:///{location.path}")
    ended = run_with([disk_with_room_to(40_000), later], "db", "upgrade")
    assert (ended.code, ended.out) == (74, "")
    assert [path.name for path in tmp_path.glob("*egec.db*")] == ["egec.db"]
    assert egec("db", "status").code == 0
