"""`egec init`: what it leaves untouched, what it makes private, and what a power cut leaves of it."""

import os
import shutil
import sqlite3
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from egec_cli.settings.types import SqliteFile
from egec_cli.store import database
from tests.conftest import Egec


def a_text(path: Path) -> None:
    path.write_text("not a database, but long enough to be read as the header of one\n" * 20)


def a_folder(path: Path) -> None:
    path.mkdir()


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def a_link_to_nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


def a_link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def a_link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/null")


def a_device(path: Path) -> None:
    try:
        os.mknod(path, 0o640 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes a device")


def a_foreign_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipe (name TEXT)")


def a_foreign_database_with_a_log(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("CREATE TABLE recipe (name TEXT)")


FOREIGN = [
    a_text, a_folder, a_fifo, a_link_to_nowhere, a_link_to_itself, a_link_to_a_device, a_device, a_foreign_database,
    a_foreign_database_with_a_log,
]  # fmt: skip


def state(folder: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Return what there is in a folder: type and mode, times, content."""
    found = {}
    for path in folder.iterdir():
        one = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(one.st_mode) else b""
        found[path.name] = (one.st_mode, one.st_mtime_ns, one.st_ctime_ns, content)
    return found


@pytest.mark.parametrize("make", FOREIGN)
@pytest.mark.parametrize("command", [("init",), ("client", "create", "a@example.org"), ("client", "list")])
def test_what_is_not_a_database_of_egec_is_refused_and_left_untouched(
    tmp_path: Path, egec: Egec, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], command: tuple[str, ...]
) -> None:
    (folder := tmp_path / "database").mkdir()
    path = folder / "egec.db"
    make(path)
    if path.is_file():
        path.chmod(0o644)
    device = os.stat("/dev/null").st_mode
    before = state(folder)
    monkeypatch.setenv("EGEC_DATABASE_URL", f"sqlite:///{path}")
    ended = egec(*command)
    assert (ended.code, ended.out) == (78, "")
    assert str(path) in ended.err.replace("\n", "")
    assert state(folder) == before
    assert os.stat("/dev/null").st_mode == device


@pytest.mark.parametrize("folder", ["mounted", "not/mounted"])
@pytest.mark.parametrize("command", [("create", "a@example.org", "--if-missing", "--activate"), ("import", "one.csv")])
def test_only_init_creates_the_database_that_a_setting_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, egec: Egec, folder: str, command: tuple[str, ...]
) -> None:
    (tmp_path / "mounted").mkdir()
    (tmp_path / "one.csv").write_text("email\na@example.org\n")
    monkeypatch.setenv("EGEC_DATABASE_URL", f"sqlite:///{tmp_path}/{folder}/egec.db")
    monkeypatch.setenv("EGEC_MAIL_URL", f"maildir:{tmp_path}/mail")
    ended = egec("client", *command)
    assert (ended.code, ended.out) == (78, "")
    assert "Mount its disk, or correct EGEC_DATABASE_URL." in ended.err
    assert sorted(path.name for path in tmp_path.iterdir() if path.name in {"mail", "not"}) == []
    assert list((tmp_path / "mounted").iterdir()) == []
    assert egec("init").code == 0
    assert egec("client", *command).code == 0


@pytest.mark.parametrize("command", [("init",), ("client", "list"), ("client", "show", "1234567890")])
def test_a_database_of_another_program_is_named_as_that_by_every_command(
    tmp_path: Path, egec: Egec, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    a_foreign_database(path := tmp_path / "other.db")
    monkeypatch.setenv("EGEC_DATABASE_URL", f"sqlite:///{path}")
    ended = egec(*command)
    assert ended.code == 78
    assert f"egec: {path} is a database of another program\n" in ended.err
    assert "Set EGEC_DATABASE_URL to another file" in ended.err
    assert "egec init" not in ended.err


def test_a_database_below_a_file_is_not_a_matter_of_space(
    tmp_path: Path, egec: Egec, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").write_text("no folder")
    for below in ("egec.db", "deeper/egec.db"):
        path = tmp_path / "text" / below
        monkeypatch.setenv("EGEC_DATABASE_URL", f"sqlite:///{path}")
        ended = egec("init")
        assert ended.code == 74
        assert ended.err == (
            f"egec: {path} cannot be created: a part of this path is a file, not a directory\n"
            "      Set EGEC_DATABASE_URL to a path in a directory.\n"
        )


def test_an_empty_file_of_others_rights_becomes_a_database_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "egec.db"
    path.touch()
    path.chmod(0o644)
    assert database.create_database(SqliteFile(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_rights_to_a_database_that_was_opened_to_others_are_left_to_the_operator(
    tmp_path: Path, egec: Egec, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "egec.db"
    monkeypatch.setenv("EGEC_DATABASE_URL", f"sqlite:///{path}")
    assert egec("init").code == 0
    path.chmod(0o640)
    assert egec("init").code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert f"chmod 600 {path}" in egec("doctor", "--format", "json").out


# What a power cut leaves: of a file system in a file, only what has been written to that file is there afterwards.


@contextmanager
def disk(image: Path, folder: Path) -> Iterator[None]:
    """Mount a file system that is in a file, for the block."""
    folder.mkdir(exist_ok=True)
    # By itself, it writes only after five minutes.
    mounted = subprocess.run(["mount", "-o", "loop,commit=300", image, folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@contextmanager
def after_a_power_cut(image: Path, folder: Path) -> Iterator[None]:
    """Mount what would be left of a mounted file system if the power went away now."""
    left = image.with_suffix(".left")
    shutil.copyfile(image, left)
    with disk(left, folder):
        yield


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Return the file of an empty file system."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("a file system of the test's own needs root and mkfs.ext4")
    path = tmp_path / "disk.image"
    with path.open("wb") as file:
        file.truncate(16 * 2**20)
    subprocess.run(["mkfs.ext4", "-q", "-F", path], check=True)
    return path


def test_what_init_backup_export_and_restore_have_made_outlives_a_power_cut(
    tmp_path: Path, image: Path, egec_process: Egec
) -> None:
    live, left = tmp_path / "live", tmp_path / "left"
    with disk(image, live):
        env = {"EGEC_DATABASE_URL": f"sqlite:///{live}/new/folder/egec.db"}
        assert egec_process("init", env=env).code == 0
        with after_a_power_cut(image, left):
            found = {"EGEC_DATABASE_URL": f"sqlite:///{left}/new/folder/egec.db"}
            assert egec_process("db", "status", env=found).code == 0
        for arguments in (
            ("client", "create", "jeanne@example.org"),
            ("db", "backup", f"{live}/copy.db"),
            ("client", "export", "--output", f"{live}/clients.csv"),
        ):
            assert egec_process(*arguments, env=env).code == 0
        restored = {"EGEC_DATABASE_URL": f"sqlite:///{live}/restored/egec.db"}
        assert egec_process("db", "restore", f"{live}/copy.db", env=restored).code == 0
        assert egec_process("db", "restore", f"{live}/copy.db", env=restored).code == 0
        with after_a_power_cut(image, left):
            assert "jeanne@example.org" in (left / "clients.csv").read_text()
            kept = next((left / "restored").glob("egec.db.before-restore-*"))
            for path in (left / "copy.db", left / "restored" / "egec.db", kept):
                found = {"EGEC_DATABASE_URL": f"sqlite:///{path}"}
                assert "jeanne@example.org" in egec_process("client", "list", env=found).out
