"""A database as the program made it before accounts had a validity, filled by that program, brought to this schema."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from egec_cli.context import open_context
from egec_cli.settings import load
from egec_cli.settings.types import Database, PostgresqlServer, SqliteFile
from egec_cli.store.database import create_database, list_known_migrations
from egec_cli.store.models import Client
from tests.conftest import Egec
from tests.store.test_upgrade import connect, copies, install
from tests.store.test_upgrade_to_bounces import shape

VERSION = "0005"
CLIENT = "7130279332"
PASSWORDS = {"sqlite": "yvA+ss2Ma", "postgresql": "uYGM?Yfq5"}
TABLES = (
    "client", "credential", "event", "installation", "login_place", "mail_count", "mail_pace", "rate_count",
    "reissue_item", "reissue_run",
)  # fmt: skip


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def earlier(engine: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    """Return the database of the earlier version, once of each engine; EGEC_DATABASE_URL names it too."""
    return install(VERSION, engine, request, tmp_path, monkeypatch)


def all_rows(location: Database) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of all tables by the names of their columns."""
    found = {}
    with closing(connect(location)) as connection:
        for table in TABLES:
            cursor = connection.execute(f"SELECT * FROM {table} ORDER BY id")
            names = [column[0] for column in cursor.description]
            found[table] = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return found


def without(rows: Sequence[dict[str, Any]], *columns: str) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in columns} for row in rows]


def test_the_upgrade_keeps_all_data_and_gives_no_account_a_validity(earlier: Database, egec: Egec) -> None:
    before = all_rows(earlier)
    assert all(before[table] for table in set(TABLES) - {"login_place", "mail_pace"})
    newer = [name for name in list_known_migrations() if name[:4] > VERSION]
    upgraded = egec("db", "upgrade", "--format", "json")
    assert (upgraded.code, json.loads(upgraded.out)["applied"]) == (0, newer)
    after = all_rows(earlier)
    added = {"email_share": 0, "valid_from": None, "valid_until": None, "closing_notified_at": None}
    assert [{name: row[name] for name in added} for row in after["client"]] == [added] * len(before["client"])
    assert without(after["client"], *added) == before["client"]
    # What the upgrade adds is the record of itself.
    assert after["event"][: len(before["event"])] == before["event"]
    assert [event["action"] for event in after["event"][len(before["event"]) :]] == ["db.upgrade"]
    for table in set(TABLES) - {"client", "event"}:
        assert after[table] == before[table], table


def test_a_copy_is_made_first(earlier: Database, egec: Egec) -> None:
    before = all_rows(earlier)
    assert egec("db", "upgrade").code == 0
    if isinstance(earlier, SqliteFile):
        [copy] = copies(earlier)
        assert all_rows(SqliteFile(copy)) == before
        with closing(sqlite3.connect(copy)) as connection:
            applied = connection.execute("SELECT name FROM schema_migration ORDER BY id").fetchall()
        assert applied[-1][0].startswith(VERSION)


def test_the_upgraded_database_has_the_shape_of_a_new_one(
    earlier: Database, egec: Egec, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    assert egec("db", "upgrade").code == 0
    if isinstance(earlier, SqliteFile):
        new: Database = SqliteFile(tmp_path / "new.db")
        create_database(new)
    else:
        new = PostgresqlServer(request.getfixturevalue("postgresql")())
    assert shape(earlier) == shape(new)


def test_accounts_work_as_before_and_take_a_validity(
    earlier: Database, engine: str, egec: Egec, egec_process: Egec
) -> None:
    assert egec("db", "upgrade").code == 0
    login = f"{CLIENT}\n{PASSWORDS[engine]}\n"
    assert egec_process("verify", "--stdin", stdin=login).code == 0
    statuses = {one["identifier"]: one["status"] for one in json.loads(egec("client", "list", "--format", "json").out)}
    assert statuses[CLIENT] == "active"
    assert "inactive" not in statuses.values()
    assert egec("client", "update", CLIENT, "--valid-until", "2020-12-31").code == 0
    assert egec_process("verify", "--stdin", stdin=login).code == 1
    assert egec("client", "update", CLIENT, "--valid-until", "").code == 0
    assert egec_process("verify", "--stdin", stdin=login).code == 0
    with open_context(load.load_settings()):
        # The indexes of the upgrade refuse what those of a new database refuse.
        assert Client.select().where(Client.email_share != 0).count() == 0
    with closing(connect(earlier)) as connection, pytest.raises((sqlite3.IntegrityError, psycopg.IntegrityError)):
        connection.execute(
            "INSERT INTO client (identifier, email_key, civility, first_name, last_name, language, created_at, "
            "updated_at, active_sequence, revoked_below, last_sequence, failed_logins, email_share) "
            "VALUES ('9999999999', 'jeanne@example.org', '', '', '', '', '2026-11-24T03:30:00.000Z', "
            "'2026-11-24T03:30:00.000Z', 0, 0, 0, 0, 0)"
        )
