"""A database of an older program, with data in it, brought to the schema of this one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peewee
import pytest
from playhouse.migrations import Runner

from egec_cli.context import open_context
from egec_cli.settings import load
from egec_cli.settings.types import Database, PostgresqlServer, SqliteFile
from egec_cli.store import database
from egec_cli.store.database import HISTORY_TABLE, MIGRATIONS, list_known_migrations, prepare_database
from egec_cli.store.models import Client, Credential
from tests.conftest import Egec

MOMENT = "2026-07-01T12:00:00.000Z"
CLIENT = {
    "identifier": "1234567890", "email": "jeanne@example.org", "email_key": "jeanne@example.org", "civility": "Mme",
    "first_name": "Jeanne", "last_name": "Dupont", "language": "fr", "created_at": MOMENT, "updated_at": MOMENT,
    "active_sequence": 1, "revoked_below": 0, "last_sequence": 1, "failed_logins": 0,
}  # fmt: skip
CREDENTIAL = {
    "client_id": 1, "sequence": 1, "state": "accepted", "password_hash": "$2b$04$x", "message_id": "<x@egec.pro>",
    "created_at": MOMENT, "issued_by": "root",
}  # fmt: skip


@pytest.fixture(params=["sqlite", "postgresql"])
def first_release(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    """Return a database as the first migration leaves it, with a client; EGEC_DATABASE_URL names it too."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/egec.db"
        (tmp_path / "egec.db").touch(mode=0o600)
    else:
        make: Callable[[], str] = request.getfixturevalue("postgresql")
        url = make()
    monkeypatch.setenv("EGEC_DATABASE_URL", url)
    location = load.load_settings().database
    with prepare_database(location) as engine, engine.connection_context():
        if request.param == "postgresql":
            engine.execute_sql("DROP SCHEMA public CASCADE")  # type: ignore[no-untyped-call] # peewee has no types
            engine.execute_sql("CREATE SCHEMA public")  # type: ignore[no-untyped-call] # as above
        Runner(engine, str(MIGRATIONS), table_name=HISTORY_TABLE).up("0001_initial")
        for table, row in (("client", CLIENT), ("credential", CREDENTIAL)):
            peewee.Table(table, row.keys()).bind(engine).insert(row).execute()
    return location


def shape(location: Database) -> dict[str, Any]:
    """Return the columns and indexes of all tables."""
    with prepare_database(location) as engine, engine.connection_context():
        return {
            table: (
                [(column.name, column.data_type, column.null) for column in engine.get_columns(table)],
                sorted((index.name, tuple(index.columns), index.unique) for index in engine.get_indexes(table)),
            )
            for table in engine.get_tables()
        }


def test_the_upgrade_adds_what_is_new_and_keeps_what_is_there(first_release: Database, egec: Egec) -> None:
    refused = egec("client", "list")
    assert refused.code == 78
    assert "egec db upgrade" in refused.err
    pending = json.loads(egec("db", "status", "--format", "json").out)["pending"]
    upgraded = egec("db", "upgrade", "--format", "json")
    assert json.loads(upgraded.out)["applied"] == pending == list_known_migrations()[1:]
    assert json.loads(egec("db", "upgrade", "--format", "json").out)["applied"] == []
    with open_context(load.load_settings()):
        assert Client.select().dicts().get() == Client.select().where(Client.email_bounced_at.is_null()).dicts().get()
        stored = Client.get()
        assert {name: getattr(stored, name) for name in CLIENT if not name.endswith("_at")} == {
            name: value for name, value in CLIENT.items() if not name.endswith("_at")
        }
        credential = Credential.get()
        assert (credential.message_id, credential.bounced_at, credential.bounce) == ("<x@egec.pro>", None, None)
    assert json.loads(egec("client", "show", "1234567890", "--format", "json").out)["mails"][0]["bounce"] is None


def test_an_upgraded_database_has_the_shape_of_a_new_one(
    first_release: Database, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    database.upgrade_database(first_release, require=lambda: None)
    if isinstance(first_release, SqliteFile):
        new: Database = SqliteFile(tmp_path / "new.db")
        database.create_database(new)
    else:
        new = PostgresqlServer(request.getfixturevalue("postgresql")())
    assert shape(first_release) == shape(new)


def test_an_embedded_database_is_copied_before_its_upgrade(first_release: Database, tmp_path: Path, egec: Egec) -> None:
    assert egec("db", "upgrade").code == 0
    copies = [path.name for path in tmp_path.glob("egec.db.before-*")]
    assert len(copies) == isinstance(first_release, SqliteFile)


def test_a_quiet_status_still_says_that_the_schema_is_another_one(first_release: Database, egec: Egec) -> None:
    ended = egec("--quiet", "db", "status")
    assert (ended.code, ended.out) == (78, "")
    assert "does not match this program" in ended.err
