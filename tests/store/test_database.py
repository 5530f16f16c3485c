"""The embedded database: how it is made, opened and refused."""

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import peewee
import psycopg
import pytest

from egec_cli import clock
from egec_cli.errors import ConfigError, StorageError, TemporaryFailure
from egec_cli.settings.types import PostgresqlServer, SqliteFile
from egec_cli.store import database, models


@pytest.fixture
def location(tmp_path: Path) -> SqliteFile:
    """Return where a new database is."""
    place = SqliteFile(tmp_path / "new folder #1" / "egec.db")
    assert database.create_database(place)
    return place


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_its_files_are_for_the_owner_alone(location: SqliteFile) -> None:
    with database.open_database(location):
        models.Client.update(language="").execute()
        files = sorted(location.path.parent.iterdir())
        assert [file.name for file in files] == ["egec.db", "egec.db-shm", "egec.db-wal"]
        assert [mode(file) for file in files] == [0o600] * 3
    assert mode(location.path.parent) == 0o700


def test_it_is_durable_and_keeps_its_references(location: SqliteFile) -> None:
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}
    with database.open_database(location) as opened:
        assert isinstance(opened, peewee.SqliteDatabase)
        assert {name: opened.pragma(name) for name in wanted} == wanted


def test_to_create_it_twice_changes_nothing(location: SqliteFile) -> None:
    before = location.path.read_bytes()
    assert not database.create_database(location)
    assert location.path.read_bytes() == before


def test_many_processes_that_create_it_at_once_make_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "egec_cli", "client", "create"]
    processes = [subprocess.Popen([*command, f"c{n}@example.org"], stdout=subprocess.DEVNULL) for n in range(8)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 8
    with database.open_database(SqliteFile(tmp_path / "data" / "egec" / "egec.db")):
        assert models.Client.select().count() == 8
    assert [path.name for path in (tmp_path / "data" / "egec").iterdir()] == ["egec.db"]


def test_the_tables_are_those_of_the_models(location: SqliteFile) -> None:
    with database.open_database(location) as opened:
        for table in models.TABLES:
            made = {column.name: column.null for column in opened.get_columns(table._meta.table_name)}
            known = {field.column_name: field.null for field in table._meta.sorted_fields}
            assert made == known
            name = table._meta.table_name
            indexed = {(tuple(index.columns), index.unique) for index in opened.get_indexes(name)}
            wanted = {
                (tuple(part.column_name for part in index._expressions), bool(index._unique))
                for index in table._meta.fields_to_index()
            }
            # An index on an expression differs between the engines, so the models do not have it.
            of_expressions = {((None, "id"), False)} if table is models.Client else set()
            assert indexed - {(("id",), True)} == wanted | of_expressions


def test_a_missing_one_is_not_made_by_opening_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"), database.open_database(SqliteFile(tmp_path / "none.db")):
        pass
    assert not (tmp_path / "none.db").exists()


def test_an_empty_file_has_no_tables_until_init_makes_them(tmp_path: Path) -> None:
    place = SqliteFile(tmp_path / "empty.db")
    place.path.touch()
    with pytest.raises(ConfigError, match="no tables"), database.open_database(place):
        pass
    assert database.create_database(place)
    with database.open_database(place):
        assert models.Client.select().count() == 0


def test_a_database_without_tables_has_no_migrations() -> None:
    with peewee.SqliteDatabase(":memory:") as opened:
        assert database.read_applied_migrations(opened) == set()


def test_a_database_of_a_newer_program_is_refused_and_left_alone(location: SqliteFile) -> None:
    with sqlite3.connect(location.path) as connection:
        connection.execute("INSERT INTO schema_migration (name, applied) VALUES ('9999_later', '')")
    connection.close()
    before = location.path.read_bytes()
    with pytest.raises(ConfigError, match="newer egec: 9999_later"), database.open_database(location):
        pass
    assert location.path.read_bytes() == before


def test_a_database_of_an_older_program_asks_for_the_upgrade(
    location: SqliteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = database.list_known_migrations()
    monkeypatch.setattr(database, "list_known_migrations", lambda: [*known, "9999_later"])
    with pytest.raises(ConfigError) as refused, database.open_database(location):
        pass
    assert "egec db upgrade" in refused.value.hint


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    place = SqliteFile(tmp_path / "text.db")
    place.path.write_text("no database at all, but long enough to be read as a header\n" * 20)
    with pytest.raises(ConfigError, match="not an intact SQLite database"), database.open_database(place):
        pass


def test_a_busy_database_is_a_temporary_failure(location: SqliteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT", 0.1)
    other = sqlite3.connect(location.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(TemporaryFailure), database.open_database(location) as opened, opened.atomic():
        pass
    other.close()


def test_a_full_disk_is_told_as_such_and_nothing_is_half_done(location: SqliteFile) -> None:
    def fill() -> None:
        with database.open_database(location) as opened:
            opened.pragma("max_page_count", 1)  # type: ignore[attr-defined] # SqliteDatabase's own
            with opened.atomic():
                for number in range(10_000):
                    models.Event.create(at=clock.now(), actor="x" * 1000, host="", action=str(number), outcome="")

    with pytest.raises(StorageError):
        fill()
    with database.open_database(location):
        assert models.Event.select().count() == 0


def test_other_database_errors_stay_what_they_are(location: SqliteFile) -> None:
    with pytest.raises(peewee.OperationalError, match="incomplete input"), database.open_database(location) as opened:
        opened.execute_sql("SELECT * FROM")  # type: ignore[no-untyped-call] # peewee has no types here


def test_a_commit_is_durable_where_the_servers_default_is_not(postgresql: Callable[[], str]) -> None:
    place = PostgresqlServer(postgresql())
    name = urlsplit(place.url).path[1:]
    with psycopg.connect(place.url, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    with psycopg.connect(place.url) as other:
        assert other.execute("SHOW synchronous_commit").fetchall() == [("off",)]
    with database.open_database(place) as opened:
        assert opened.execute_sql("SHOW synchronous_commit").fetchall() == [("on",)]  # type: ignore[no-untyped-call]
