"""`egec db restore`: what is restored, when it is refused, and how the previous database is kept."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from egec_cli import clock
from egec_cli.settings.types import SqliteFile
from egec_cli.store import sqlite
from tests import children
from tests.conftest import Egec
from tests.processes import IMPATIENT, Call, disk_with_room_to, run_as_any_user, run_with, wrap
from tests.screens.emulator import PROGRAM, see


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, egec: Egec) -> Path:
    """Return an embedded database with one client, in a folder of its own; EGEC_DATABASE_URL names it too."""
    path = tmp_path / "database" / "egec.db"
    monkeypatch.setenv("EGEC_DATABASE_URL", f"sqlite:///{path}")
    assert egec("init").code == 0
    assert egec("client", "create", "jeanne@example.org").code == 0
    return path


@pytest.fixture
def backup(file: Path, tmp_path: Path, egec: Egec) -> Path:
    """Return a backup of that database, in a folder of its own."""
    (folder := tmp_path / "backups").mkdir()
    assert egec("db", "backup", str(folder / "copy.db")).code == 0
    return folder / "copy.db"


def emails(path: Path) -> list[str]:
    """Return the addresses in a database."""
    with closing(sqlite3.connect(path)) as connection:
        return [email for (email,) in connection.execute("SELECT email FROM client ORDER BY id")]


def kept(file: Path) -> list[Path]:
    """Return the copies of previous databases, the oldest first."""
    return sorted(file.parent.glob("egec.db.before-restore-*"), key=lambda path: path.stat().st_mtime_ns)


def test_a_backup_with_a_log_is_restored_with_its_last_rows(file: Path, tmp_path: Path, egec: Egec) -> None:
    (folder := tmp_path / "copied").mkdir()
    with closing(sqlite3.connect(file)) as other:
        # While another has it open, the log stays.
        other.execute("SELECT * FROM client").fetchall()
        assert egec("client", "create", "marc@example.org").code == 0
        # As a snapshot of the disk copies it: the last rows are in the log alone.
        for name in ("egec.db", "egec.db-wal"):
            shutil.copyfile(file.with_name(name), folder / name)
    assert emails_in_the_file_alone(folder / "egec.db") == ["jeanne@example.org"]
    assert egec("client", "create", "zoe@example.org").code == 0
    ended = egec("db", "restore", str(folder / "egec.db"))
    assert ended.code == 0, ended
    assert emails(file) == ["jeanne@example.org", "marc@example.org"]


def emails_in_the_file_alone(path: Path) -> list[str]:
    with closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as connection:
        return [email for (email,) in connection.execute("SELECT email FROM client")]


@pytest.mark.parametrize("statement", ["SELECT * FROM client", "BEGIN IMMEDIATE"])
def test_a_database_that_another_process_has_open_is_not_overwritten(
    file: Path, backup: Path, egec: Egec, statement: str
) -> None:
    assert egec("client", "create", "marc@example.org").code == 0
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        # Also one that reads nothing at the moment: it trusts what it has read before.
        other.execute(statement).fetchall()
        ended = run_with([IMPATIENT], "db", "restore", str(backup))
        assert (ended.code, ended.out) == (75, "")
        assert "in use by another process" in ended.err
    assert emails(file) == ["jeanne@example.org", "marc@example.org"]
    assert kept(file) == []
    assert sorted(path.name for path in file.parent.iterdir()) == ["egec.db"]


def test_restores_within_one_second_keep_each_previous_database(
    file: Path, backup: Path, egec: Egec, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = clock.now()
    monkeypatch.setattr(clock, "now", lambda: moment)
    for name in ("marc", "paul", "zoe"):
        assert egec("client", "create", f"{name}@example.org").code == 0
        ended = egec("db", "restore", str(backup))
        assert ended.code == 0, ended
    assert [emails(path)[1:] for path in kept(file)] == [[f"{name}@example.org"] for name in ("marc", "paul", "zoe")]
    assert emails(file) == ["jeanne@example.org"]


def test_damaged_databases_that_are_replaced_within_one_second_are_kept(
    file: Path, backup: Path, egec: Egec, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = clock.now()
    monkeypatch.setattr(clock, "now", lambda: moment)
    for text in ("first", "second"):
        file.write_text(text * 1000)
        assert egec("db", "restore", str(backup)).code == 0
        assert emails(file) == ["jeanne@example.org"]
    first, second = sorted(kept(file))
    assert (first.read_text()[:5], second.read_text()[:6]) == ("first", "second")


def test_a_database_whose_list_of_tables_is_damaged_is_kept_and_replaced(file: Path, backup: Path, egec: Egec) -> None:
    # The list of tables begins on the first page, which is left intact, and continues on later ones.
    content = file.read_bytes()
    damaged = content[:4096] + b"\xa5" * 65_536 + content[4096 + 65_536 :]
    file.write_bytes(damaged)
    assert egec("db", "status").code == 78
    ended = egec("db", "restore", str(backup))
    assert ended.code == 0, ended
    assert emails(file) == ["jeanne@example.org"]
    [previous] = kept(file)
    # Opening the database may change the counters in its header.
    assert previous.read_bytes()[100:] == damaged[100:]


def test_a_restore_asks_at_a_terminal_only(file: Path, backup: Path, egec: Egec) -> None:
    assert egec("client", "create", "marc@example.org").code == 0
    restore = [*PROGRAM, "db", "restore", str(backup)]
    refused = see(restore, typed="n\n", as_it_is=True, columns=300)
    assert (refused.code, refused.lines[-1]) == (1, "egec: nothing was changed")
    assert refused.lines[0].startswith(f"Replace {file} with {backup}? [y/N]:")
    assert emails(file) == ["jeanne@example.org", "marc@example.org"]
    assert see(restore, typed="y\n", columns=300).code == 0
    assert emails(file) == ["jeanne@example.org"]
    unasked = see([*restore, "--yes"], as_it_is=True)
    assert (unasked.code, "[y/N]" in unasked.text) == (0, False)


@pytest.mark.parametrize("name", ["egec.db", "link"])
def test_the_database_is_not_restored_over_itself(file: Path, egec: Egec, name: str) -> None:
    file.with_name("link").symlink_to(file)
    ended = egec("db", "restore", str(file.with_name(name)))
    assert (ended.code, ended.out) == (65, "")
    assert f"{name} is the database itself" in ended.err
    assert kept(file) == []


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("make", [a_fifo, Path.mkdir])
def test_only_a_regular_file_is_accepted_as_a_backup_and_no_fifo_is_waited_for(
    file: Path, tmp_path: Path, egec: Egec, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "copy.db")
    ended = egec("db", "restore", str(tmp_path / "copy.db"))
    assert (ended.code, ended.out) == (65, "")
    assert "is not a file" in ended.err


def test_a_damaged_database_that_a_link_names_is_replaced_and_the_link_stays(
    file: Path, backup: Path, egec: Egec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(file)
    monkeypatch.setenv("EGEC_DATABASE_URL", f"sqlite:///{tmp_path}/link")
    file.write_text("damaged" * 1000)
    ended = egec("db", "restore", str(backup))
    assert ended.code == 0, ended
    assert os.readlink(tmp_path / "link") == str(file)
    assert emails(file) == ["jeanne@example.org"]
    [previous] = kept(file)
    assert previous.read_text() == "damaged" * 1000


def test_a_database_is_not_restored_over_a_device(
    tmp_path: Path, backup: Path, egec: Egec, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to("/dev/null")
    monkeypatch.setenv("EGEC_DATABASE_URL", f"sqlite:///{tmp_path}/link")
    assert egec("db", "restore", str(backup)).code == 78
    assert os.readlink(tmp_path / "link") == "/dev/null"


# Another user exchanges files or folders in the moment before SQLite opens them by their names.


def exchanging(name: str, action: Call) -> Call:
    """Return the change that does something right before SQLite opens a file whose path has `name` in it."""
    return wrap(sqlite3, "connect", partial(children.act_and_connect_once, name, action))


def test_a_backup_that_is_exchanged_for_another_database_is_not_restored(
    file: Path, backup: Path, tmp_path: Path, egec: Egec
) -> None:
    assert egec("client", "create", "marc@example.org").code == 0
    other = tmp_path / "other.db"
    assert egec("db", "backup", str(other)).code == 0
    action = partial(children.exchange_file, backup, other)
    ended = run_with([exchanging("copy.db", action)], "db", "restore", str(backup))
    assert (ended.code, ended.out) == (74, "")
    assert "replaced by another file" in ended.err
    assert emails(file) == ["jeanne@example.org", "marc@example.org"]
    assert [path.name for path in file.parent.iterdir()] == ["egec.db"]


def test_a_backup_is_not_written_to_a_folder_that_takes_the_place_of_the_right_one(
    file: Path, backup: Path, tmp_path: Path
) -> None:
    folder, theirs, moved = backup.parent, tmp_path / "theirs", tmp_path / "moved"
    theirs.mkdir()
    action = partial(children.exchange_folder_with_copy, folder, moved, theirs)
    ended = run_with([exchanging("unfinished", action)], "db", "backup", str(folder / "second.db"))
    assert (ended.code, ended.out) == (74, "")
    [theirs_alone] = theirs.iterdir()
    assert theirs_alone.stat().st_size == 0
    assert [path.name for path in moved.iterdir()] == ["copy.db"]


def test_a_backup_whose_folder_is_moved_once_it_is_open_stays_in_that_folder(
    file: Path, backup: Path, tmp_path: Path
) -> None:
    folder, theirs, moved = backup.parent, tmp_path / "theirs", tmp_path / "moved"
    theirs.mkdir()
    action = partial(children.exchange_folder, folder, moved, theirs)
    run_with([wrap(os, "link", partial(children.act_and_call, action))], "db", "backup", str(folder / "second.db"))
    assert list(theirs.iterdir()) == []
    assert emails(moved / "second.db") == ["jeanne@example.org"]


def test_the_database_is_left_as_it_was_where_it_cannot_be_written(file: Path, backup: Path, egec: Egec) -> None:
    before = file.read_bytes()
    file.chmod(0o400)
    ended = run_as_any_user("db", "restore", str(backup))
    file.chmod(0o600)
    assert (ended.code, ended.out) == (77, "")
    assert file.read_bytes() == before


@pytest.mark.parametrize("room", [34_000, 78_000])
def test_a_full_disk_leaves_the_database_as_it_was(file: Path, backup: Path, egec: Egec, room: int) -> None:
    assert backup.stat().st_size > room
    before = file.read_bytes()
    ended = run_with([disk_with_room_to(room)], "db", "restore", str(backup))
    assert (ended.code, ended.out) == (74, "")
    assert "could not be written" in ended.err
    assert "Free some space." in ended.err
    assert (file.read_bytes(), kept(file)) == (before, [])
    assert egec("db", "restore", str(backup)).code == 0


def test_a_database_whose_folder_cannot_be_made_is_reported(
    backup: Path, egec: Egec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGEC_DATABASE_URL", f"sqlite:///{backup}/egec.db")
    ended = egec("db", "restore", str(backup))
    assert (ended.code, ended.out) == (74, "")
    assert f"{backup}/egec.db cannot be written" in ended.err


def test_no_table_is_found_in_a_file_whose_first_page_is_damaged(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:100] + b"\xa5" * 3996 + content[4096:])
    assert sqlite.list_tables(SqliteFile(file)) == set()


def test_no_table_is_found_where_the_message_about_the_damage_is_not_text(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = '?', name = CAST(x'e9e9' AS TEXT) WHERE name = 'client'")
    assert sqlite.list_tables(SqliteFile(file)) == set()
