"""Commands that are killed while they write a file: what they leave behind goes with the next command."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from playhouse.migrations import Runner

from egec_cli import files
from egec_cli.settings.types import SqliteFile
from egec_cli.store import database, sqlite_file
from egec_cli.store.backup import backup_database
from tests import children
from tests.activations import wait_until
from tests.conftest import Egec
from tests.processes import Call, command_of, later_release, replace, run_with, wrap

# The moment before a complete file gets its name.
WHEN_COMPLETE = replace(os, "link", children.kill_itself)
WHEN_REPLACING = replace(os, "rename", children.kill_itself)
# Between two pages of a copy.
WHEN_HALF_DONE = replace(sqlite_file, "_require_progress", children.kill_itself)
# In the middle of the tables of a new database, whose log is beside it.
WHEN_MIGRATING = wrap(Runner, "up", children.call_and_kill_itself)
# The migration of a later release.
NEWER = "def up(migrator, db):\n    pass\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of an embedded database, which EGEC_DATABASE_URL names; there is a backup in it."""
    (path := tmp_path / "database").mkdir()
    monkeypatch.setenv("EGEC_DATABASE_URL", f"sqlite:///{path}/egec.db")
    database.create_database(SqliteFile(path / "egec.db"))
    backup_database(SqliteFile(path / "egec.db"), path / "backup.db")
    return path


def hidden(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name.startswith(".")}


@pytest.mark.parametrize(
    ("change", "command"),
    [
        (WHEN_COMPLETE, ("db", "backup", "new.db")),
        (WHEN_HALF_DONE, ("db", "backup", "new.db")),
        (WHEN_HALF_DONE, ("db", "restore", "backup.db")),
        (WHEN_COMPLETE, ("db", "restore", "backup.db")),
        (WHEN_COMPLETE, ("db", "upgrade")),
        (WHEN_COMPLETE, ("client", "export", "--output", "new.csv")),
        (WHEN_REPLACING, ("client", "export", "--output", "new.csv", "--force")),
        (WHEN_COMPLETE, ("init",)),
        (WHEN_MIGRATING, ("init",)),
    ],
)
def test_what_a_killed_command_leaves_is_reported_and_goes_with_the_next(
    folder: Path, tmp_path: Path, egec: Egec, monkeypatch: pytest.MonkeyPatch, change: Call, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(folder)
    if command == ("init",):
        (folder / "egec.db").unlink()
    newer = [later_release(tmp_path / "migrations", NEWER)] if command == ("db", "upgrade") else []
    ended = run_with([*newer, change], *command)
    assert ended.code == -signal.SIGKILL, ended
    left = hidden(folder)
    assert left
    assert {path.name for path in files.find_leftovers(folder)} == left
    if command != ("init",):
        assert str(folder / min(left)) in egec("doctor", "--format", "json").out
    assert hidden(folder) == left
    again = run_with(newer, *command)
    assert again.code == 0, again
    assert hidden(folder) == set()


@contextmanager
def writing(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Let another process write a file, without an end, for the block."""
    with subprocess.Popen(command_of(partial(children.write_without_end, path)), text=True) as process:
        try:
            wait_until(lambda: bool(hidden(path.parent)) and not files.find_leftovers(path.parent))
            yield process
        finally:
            process.kill()


def test_what_a_living_process_still_writes_is_no_leftover(tmp_path: Path) -> None:
    (folder := tmp_path / "exports").mkdir()
    with writing(folder / "first.csv") as process:
        [name] = hidden(folder)
        (folder / f"{name}-wal").touch()
        with files.atomic_write(folder / "second.csv"):
            pass
        assert hidden(folder) == {name, f"{name}-wal"}
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with files.atomic_write(folder / "third.csv"):
            pass
        assert hidden(folder) == set()


def test_hidden_files_of_others_are_left_alone(tmp_path: Path) -> None:
    names = [".egec-0123456789abcdef.unfinished.csv", ".egec-x.unfinished", "egec-0123456789abcdef.unfinished", ".note"]
    for name in names:
        (tmp_path / name).touch()
    link, folder = tmp_path / f".egec-{'0' * 16}.unfinished", tmp_path / f".egec-{'1' * 16}.unfinished"
    link.symlink_to(".note")
    folder.mkdir()
    with files.atomic_write(tmp_path / "new.csv"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {*names, link.name, folder.name, "new.csv"}
