"""A database that can only be read: what still works, and why the rest does not."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from egec_cli.errors import TemporaryFailure
from egec_cli.settings.types import SqliteFile
from egec_cli.store import sqlite_file
from tests import children
from tests.conftest import Egec, Ended
from tests.processes import command_of, run_as_any_user
from tests.world import JEANNE

READING = [
    ("client", "list"),
    ("client", "show", JEANNE),
    ("client", "export"),
    ("audit", "list"),
    ("db", "status"),
    ("reissue", "status"),
    ("stats",),
    ("stats", "--format", "openmetrics"),
    ("reissue", "start", "new", "--all", "--dry-run"),
    ("mail", "preview", JEANNE),
]
WRITING = [
    ("client", "create", "new@example.org"),
    ("client", "disable", JEANNE, "--reason", "left"),
    ("client", "erase", JEANNE, "--yes"),
    ("activate", JEANNE),
    ("audit", "prune", "--yes", "--older-than", "1d"),
    ("db", "upgrade"),
]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, egec: Egec) -> Path:
    """Return an embedded database with a client, in a folder of its own; EGEC_DATABASE_URL names it too."""
    path = tmp_path / "database" / "egec.db"
    monkeypatch.setenv("EGEC_DATABASE_URL", f"sqlite:///{path}")
    monkeypatch.setenv("EGEC_MAIL_URL", f"maildir:{tmp_path}/mail")
    assert egec("init").code == 0
    assert egec("client", "create", "jeanne@example.org", "--identifier", JEANNE).code == 0
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def require_only_read(run: Callable[..., Ended], file: Path, target: Path, *, code: int, reason: str) -> None:
    """Require that reading commands work, that writing ones report the reason, and that nothing is changed."""
    before = content(file.parent)
    for command in READING:
        ended = run(*command)
        assert ended.code == 0, (command, ended)
        assert "jeanne" in ended.out or command[0] != "client"
        assert ("not recorded" in ended.err) == (command[:2] in {("client", "export"), ("mail", "test")})
    for command in WRITING if code else []:
        if command == ("db", "upgrade") and code == 74:
            continue
        ended = run(*command, "--format", "json")
        assert (ended.code, ended.out) == (code, ""), (command, ended)
        assert reason in json.loads(ended.err)["error"]["message"]
    ended = run("db", "backup", str(target))
    assert ended.code == 0, ended
    assert "not recorded" in ended.err
    with closing(sqlite3.connect(target)) as copy:
        assert copy.execute("SELECT email FROM client").fetchall() == [("jeanne@example.org",)]
    findings = {row["check"]: row["verdict"] for row in json.loads(run("doctor", "--format", "json").out)}
    assert (findings["database"], findings["integrity"], findings["schema"]) == ("ok", "ok", "ok")
    assert content(file.parent) == before


@pytest.mark.parametrize(("file_mode", "folder_mode"), [(0o400, 0o700), (0o600, 0o500)])
def test_who_has_no_right_to_write_can_read(file: Path, tmp_path: Path, file_mode: int, folder_mode: int) -> None:
    file.chmod(file_mode)
    file.parent.chmod(folder_mode)
    try:
        require_only_read(run_as_any_user, file, tmp_path / "copy.db", code=77, reason="permission denied")
    finally:
        file.parent.chmod(0o700)


def read_only_mount(folder: Path, *arguments: str) -> Ended:
    """Run `egec` where a folder is mounted for reading only, in a mount namespace of its own."""
    script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 99; shift; exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(folder), sys.executable, "-m", "egec_cli"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60)
    if done.returncode in {1, 99} and ("unshare" in done.stderr or done.returncode == 99):
        pytest.skip(f"no folder can be mounted read-only here: {done.stderr.strip()}")
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a folder read-only")
def test_on_a_read_only_file_system_what_reads_works(file: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> Ended:
        return read_only_mount(file.parent, *arguments)

    require_only_read(run, file, tmp_path / "copy.db", code=74, reason="its file system is read-only")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a folder read-only")
def test_a_read_only_mount_shows_what_is_written_by_another_mount_at_the_same_time(file: Path, egec: Egec) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as writer:
        writer.execute("UPDATE client SET last_name = 'Written meanwhile'")
        assert file.with_name("egec.db-wal").stat().st_size
        ended = read_only_mount(file.parent, "client", "list")
        assert (ended.code, "Written meanwhile" in ended.out) == (0, True)


@pytest.mark.parametrize("keep_index", [True, False])
def test_the_log_of_a_crash_is_read_or_refused_but_never_ignored(
    file: Path, tmp_path: Path, egec: Egec, monkeypatch: pytest.MonkeyPatch, keep_index: bool
) -> None:
    (crashed := tmp_path / "crashed").mkdir()
    with closing(sqlite3.connect(file, isolation_level=None)) as writer:
        writer.execute("UPDATE client SET last_name = 'In the log'")
        for path in file.parent.iterdir():
            if keep_index or not path.name.endswith("-shm"):
                (crashed / path.name).write_bytes(path.read_bytes())
                (crashed / path.name).chmod(0o400)
    monkeypatch.setenv("EGEC_DATABASE_URL", f"sqlite:///{crashed}/egec.db")
    crashed.chmod(0o500)
    ended = run_as_any_user("client", "list")
    crashed.chmod(0o700)
    if keep_index:
        assert (ended.code, "In the log" in ended.out) == (0, True), ended
    else:
        assert (ended.code, ended.out) == (77, "")
        assert "has a log beside it" in ended.err


# What is read without a log is proven to be of one moment.


def test_what_was_written_while_it_was_read_is_told(file: Path) -> None:
    with pytest.raises(TemporaryFailure, match="written to while it was read"):
        read_while_another_writes(file)


def test_an_error_is_not_taken_for_a_change_that_nobody_made(file: Path) -> None:
    with (
        pytest.raises(sqlite3.OperationalError, match="no such table"),
        sqlite_file.uri(SqliteFile(file), patience=1) as address,
        closing(sqlite3.connect(address, uri=True)) as reader,
    ):
        reader.execute("SELECT * FROM absent")


def read_while_another_writes(file: Path) -> None:
    with (
        sqlite_file.uri(SqliteFile(file), patience=1) as address,
        closing(sqlite3.connect(address, uri=True)) as reader,
    ):
        reader.execute("SELECT * FROM client").fetchall()
        # The writer ends meanwhile; the lock keeps it from removing its log.
        write(file)
        assert file.with_name("egec.db-wal").exists()


def write(file: Path) -> None:
    script = (
        "import sqlite3, sys\nconnection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute(\"UPDATE client SET last_name = 'x'\")\n"
        "connection.execute('PRAGMA wal_checkpoint(TRUNCATE)')\nconnection.close()\n"
    )
    subprocess.run([sys.executable, "-c", script, file], check=True, timeout=60)


def test_a_database_that_another_has_to_itself_is_not_read(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = delete")
        other.execute("BEGIN EXCLUSIVE")
        # As another process: locks hold between those.
        command = command_of(partial(children.read_impatiently, SqliteFile(file)))
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "TemporaryFailure" in done.stderr
    assert "busy" in done.stderr


def test_a_database_that_cannot_even_be_read_is_not_permitted(file: Path) -> None:
    file.chmod(0)
    ended = run_as_any_user("client", "list")
    file.chmod(0o600)
    assert (ended.code, ended.out) == (77, "")


# PostgreSQL.


@contextmanager
def read_only_by_default(url: str) -> Iterator[str]:
    name = urlsplit(url).path[1:]
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    yield url


@contextmanager
def role_that_may_only_read(url: str) -> Iterator[str]:
    name = urlsplit(url).path[1:]
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE reader_{name} LOGIN")
        admin.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader_{name}")
    yield url.replace("postgres@", f"reader_{name}@")


@pytest.mark.parametrize("made", [read_only_by_default, role_that_may_only_read])
def test_a_postgresql_database_that_may_only_be_read_is_read(
    durable_postgresql: Callable[[], str], egec: Egec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, made: Any
) -> None:
    url = durable_postgresql()
    monkeypatch.setenv("EGEC_DATABASE_URL", url)
    monkeypatch.setenv("EGEC_MAIL_URL", f"maildir:{tmp_path}/mail")
    assert egec("init").code == 0
    assert egec("client", "create", "jeanne@example.org", "--identifier", JEANNE).code == 0
    with made(url) as address:
        monkeypatch.setenv("EGEC_DATABASE_URL", address)
        for command in READING:
            ended = egec(*command)
            assert ended.code == 0, (command, ended)
            assert ("not recorded" in ended.err) == (command[:2] in {("client", "export"), ("mail", "test")})
        for command in WRITING[:4]:
            ended = egec(*command)
            assert (ended.code, ended.out) == (77, ""), (command, ended)
        findings = {row["check"]: row["verdict"] for row in json.loads(egec("doctor", "--format", "json").out)}
        assert (findings["database"], findings["integrity"]) == ("ok", "ok")
    with psycopg.connect(url) as admin:
        assert admin.execute("SELECT count(*) FROM client WHERE disabled_at IS NULL").fetchall() == [(1,)]
