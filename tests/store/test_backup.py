"""Backups of the embedded database: whole at any moment, for the owner alone, never over another file, never half."""

import os
import sqlite3
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from egec_cli.clients import fields, records
from egec_cli.context import open_context
from egec_cli.logins.verify import verify_login
from egec_cli.settings import load
from egec_cli.settings.types import SqliteFile
from egec_cli.store import database
from egec_cli.store.backup import backup_database
from egec_cli.store.models import Client
from tests import children
from tests.activations import (
    PATIENCE,
    Letter,
    Login,
    activated,
    letters,
    log_in_with_the_newest,
    opens,
    require_intact,
    wait_until,
)
from tests.conftest import Egec
from tests.processes import IMPATIENT, command_of, disk_with_room_to, run_as_any_user, run_with, wrap
from tests.smtp_server import MailServer, Point
from tests.test_crowd import opens as opens_without_trace

PROCESSES = 3
CLIENTS = 5
BACKUPS = 8


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty embedded database in a folder of its own; EGEC_DATABASE_URL names it too."""
    path = tmp_path / "database" / "egec.db"
    database.create_database(SqliteFile(path))
    monkeypatch.setenv("EGEC_DATABASE_URL", f"sqlite:///{path}")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty folder for backups."""
    (path := tmp_path / "backups").mkdir()
    return path


@contextmanager
def activations_under_way(identifiers: list[str]) -> Iterator[list[int]]:
    """Let processes activate these clients again and again; the exit codes are in the list when the block has ended."""
    codes: list[int] = []
    gate, opener = os.pipe()
    with ExitStack() as stack:
        command = command_of(partial(children.activate_again_and_again, identifiers))
        processes = [
            stack.enter_context(subprocess.Popen(command, stdin=gate, stdout=subprocess.PIPE)) for _ in range(PROCESSES)
        ]
        os.close(gate)
        try:
            yield codes
        finally:
            os.close(opener)
            for process in processes:
                output, _ = process.communicate(timeout=PATIENCE)
                codes += [int(code) for code in output.splitlines()[-1].split()]


def require_good_copy(copy: Path, before: list[Letter], after: list[Letter]) -> None:
    """Require that each client gets in by the last mail of before the backup, or by one that came during it."""
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    require_intact(SqliteFile(copy))
    with open_context(load.load_settings()._replace(database=SqliteFile(copy))) as egec:
        for client in Client.select():
            mine = [letter for letter in after if letter.identifier == client.identifier]
            last_before = [letter for letter in before if letter.identifier == client.identifier][-1]
            good = [letter for letter in mine[mine.index(last_before) :] if opens_without_trace(egec, client, letter)]
            assert good
            assert verify_login(egec, client.identifier, good[-1].password).accepted


def test_a_backup_at_any_moment_lets_each_client_in_with_the_last_mail_that_came_before_it(
    file: Path, folder: Path, server: MailServer, egec_process: Egec
) -> None:
    copies: list[tuple[Path, list[Letter], list[Letter]]] = []
    logins: list[Login] = []
    with open_context(load.load_settings()) as egec:
        for number in range(CLIENTS):
            records.create_client(egec, fields.parse_fields(f"c{number}@example.org"))
        identifiers = [client.identifier for client in Client.select()]
        for identifier in identifiers:
            assert egec_process("activate", identifier).code == 0
        server.at(Point.KEPT, log_in_with_the_newest(egec, server, logins))
        with activations_under_way(identifiers) as codes:
            wait_until(lambda: len(server.accepted) > CLIENTS + PROCESSES)
            for number in range(BACKUPS):
                copy, before = folder / f"{number}.db", letters(server)
                ended = egec_process("db", "backup", str(copy))
                assert ended.code == 0, ended
                copies.append((copy, before, letters(server)))
    assert set(codes) == {0}
    assert len(logins) == len(codes)
    for copy, before, after in copies:
        require_good_copy(copy, before, after)


def test_a_backup_has_nothing_of_a_transaction_that_is_not_committed(
    file: Path, folder: Path, server: MailServer, egec: Egec
) -> None:
    activated(egec)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE client SET email = 'another@example.org'")
        assert egec("db", "backup", str(folder / "copy.db")).code == 0
        other.execute("COMMIT")
    require_intact(SqliteFile(folder / "copy.db"))
    with open_context(load.load_settings()._replace(database=SqliteFile(folder / "copy.db"))):
        assert Client.get().email == "jeanne@example.org"


def test_a_backup_in_steps_has_one_state_and_never_starts_again_while_others_write(file: Path, folder: Path) -> None:
    filler = "x" * 1_000
    with closing(sqlite3.connect(file)) as writer:
        writer.execute("CREATE TABLE filler (text)")
        writer.executemany("INSERT INTO filler VALUES (?)", [(filler,)] * 10_000)
        writer.commit()
        steps: list[tuple[int, int]] = []

        def write_meanwhile(_name: str, done: int, total: int) -> None:
            steps.append((done, total))
            writer.execute("INSERT INTO filler VALUES (?)", (filler,))
            writer.commit()

        backup_database(SqliteFile(file), folder / "copy.db", report=write_meanwhile)
    size = (folder / "copy.db").stat().st_size
    assert len(steps) > 2
    assert steps == sorted(steps)
    assert {total for _, total in steps} == {size}
    assert steps[-1] == (size, size)
    with closing(sqlite3.connect(folder / "copy.db")) as copy:
        assert copy.execute("SELECT COUNT(*) FROM filler").fetchone() == (10_000,)
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_restored_backup_takes_new_activations(
    file: Path, folder: Path, server: MailServer, egec: Egec, monkeypatch: pytest.MonkeyPatch
) -> None:
    identifier = activated(egec)
    assert egec("db", "backup", str(folder / "copy.db")).code == 0
    monkeypatch.setenv("EGEC_DATABASE_URL", f"sqlite:///{folder}/copy.db")
    assert egec("db", "status").code == 0
    assert opens(letters(server)[-1])
    assert egec("activate", identifier).code == 0
    assert [opens(letter) for letter in letters(server)] == [False, True]


def a_file(path: Path) -> None:
    path.write_text("mine")


def a_folder(path: Path) -> None:
    path.mkdir()


def a_link_to_nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize(
    ("make", "code", "hint"),
    [
        (a_file, 73, "move this one away"),
        (a_folder, 74, "not a regular file"),
        (a_link_to_nowhere, 74, "not a regular file"),
    ],
)
def test_what_is_there_already_is_refused_and_left_alone(
    file: Path, folder: Path, egec: Egec, make: Callable[[Path], None], code: int, hint: str
) -> None:
    make(folder / "copy.db")
    before = (folder / "copy.db").lstat()
    ended = egec("db", "backup", str(folder / "copy.db"))
    assert (ended.code, ended.out) == (code, "")
    assert hint in ended.err
    assert (folder / "copy.db").lstat() == before
    assert list(folder.iterdir()) == [folder / "copy.db"]


def test_a_missing_folder_is_a_failure_of_the_file_system(file: Path, tmp_path: Path, egec: Egec) -> None:
    ended = egec("db", "backup", str(tmp_path / "none" / "copy.db"))
    assert (ended.code, ended.out) == (74, "")
    assert str(tmp_path / "none" / "copy.db") in ended.err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("room", [34_000, 50_000, 78_000])
def test_a_full_disk_leaves_no_half_file(file: Path, folder: Path, egec: Egec, room: int) -> None:
    assert file.stat().st_size > room
    ended = run_with([disk_with_room_to(room)], "db", "backup", str(folder / "copy.db"))
    assert (ended.code, ended.out) == (74, "")
    assert "copy.db could not be written" in ended.err
    assert list(folder.iterdir()) == []
    assert egec("db", "backup", str(folder / "copy.db")).code == 0


def test_a_folder_without_rights_is_not_permitted(file: Path, folder: Path) -> None:
    folder.chmod(0o500)
    ended = run_as_any_user("db", "backup", str(folder / "copy.db"))
    assert (ended.code, ended.out) == (77, "")
    folder.chmod(0o700)
    assert list(folder.iterdir()) == []


def test_a_copy_that_another_locks_meanwhile_is_not_waited_for_without_end(file: Path, folder: Path) -> None:
    # It is locked in the moment between its making and its first page.
    locked = wrap(os, "open", partial(children.open_and_lock, folder))
    ended = run_with([IMPATIENT, locked], "db", "backup", str(folder / "copy.db"))
    assert (ended.code, ended.out) == (75, "")
    assert not (folder / "copy.db").exists()


def test_without_a_database_there_is_nothing_to_back_up(folder: Path, egec: Egec) -> None:
    ended = egec("db", "backup", str(folder / "copy.db"))
    assert (ended.code, ended.out) == (78, "")
    assert list(folder.iterdir()) == []


def test_postgresql_has_a_program_of_its_own_for_it(
    postgresql: Callable[[], str], folder: Path, egec: Egec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGEC_DATABASE_URL", postgresql())
    ended = egec("db", "backup", str(folder / "copy.db"))
    assert (ended.code, ended.out) == (2, "")
    assert "pg_dump" in ended.err
    assert list(folder.iterdir()) == []
