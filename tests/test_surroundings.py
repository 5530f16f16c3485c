"""`egec` in odd surroundings: no home, a deleted folder, a wrong time zone, no thread, a damaged database."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import Egec, Ended
from tests.screens.emulator import see

PROGRAM = [sys.executable, "-P", "-m", "egec_cli"]
# Another one for each process that runs tests at the same time: limits count all processes of a user.
NOBODY_KNOWN = 1_000_000 + os.getpid()


def run(
    *arguments: str | bytes,
    environment: Mapping[str, str] | None = None,
    before: tuple[str, ...] = (),
    stdin: str = "",
    folder: Path | None = None,
) -> Ended:
    """Run `egec` as a process.

    Args:
        environment: added to that of the tests.
        before: a command that runs it.
        folder: the working folder, deleted before the start.
    """
    command: list[str | bytes] = [*before, *PROGRAM, *arguments]
    if folder is not None:
        folder.mkdir(exist_ok=True)
        command = ["sh", "-c", 'cd "$0" && rmdir "$0" && exec "$@"', str(folder), *command]
    done = subprocess.run(
        command, env={**os.environ, **(environment or {})}, input=stdin, capture_output=True, text=True, timeout=60
    )
    return Ended(done.returncode, done.stdout, done.stderr)


# Bytes that are not text.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EGEC_DATABASE_URL", b"sqlite:////tmp/\xff.db"),
        ("EGEC_DATABASE_URL", b"postgresql://u:\xff@127.0.0.1:1/d"),
        ("EGEC_DATABASE_URL", b"postgresql://127.0.0.1:1/%FF"),
        ("EGEC_MAIL_URL", b"maildir:/tmp/\xff"),
        ("EGEC_MAIL_URL", b"smtp://u:\xff@127.0.0.1:1"),
        ("EGEC_MAIL_URL_FILE", b"/tmp/\xff"),
        ("EGEC_ENV_FILE", b"\xff"),
        ("EGEC_TEMPLATES", b"/\xff"),
        ("EGEC_ACTOR", b"\xff"),
        ("XDG_DATA_HOME", b"/tmp/\xff"),
        ("TZ", b"\xff"),
        ("LANGUAGE", b"\xff"),
        ("SUDO_USER", b"\xff"),
    ],
)
def test_bytes_in_the_environment_that_are_not_utf_8_cause_no_internal_error(
    tmp_path: Path, egec: Egec, name: str, value: bytes
) -> None:
    egec("init")
    environment = {os.fsencode(one): os.fsencode(text) for one, text in os.environ.items()}
    environment[name.encode()] = value
    for command in (("doctor", "--format", "json"), ("client", "list", "--format", "json")):
        done = subprocess.run([*PROGRAM, *command], env=environment, capture_output=True, timeout=60)
        assert done.returncode in ({78} if name.startswith(("EGEC", "XDG")) else {0, 3}), done
        assert b"internal error" not in done.stdout


def test_a_nul_character_in_a_settings_file_is_reported_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.touch(0o600)
    path.write_bytes(b"EGEC_APP_NAME=x\nEGEC_DATABASE_URL=sqlite:///a\0b.db\n")
    ended = run("init")
    assert ended.code == 78
    assert f"{path}:2 has a NUL character" in ended.err


# The user and the time zone.


@pytest.fixture
def stranger() -> Iterator[tuple[Path, tuple[str, ...], dict[str, str]]]:
    """Return a folder of a user without name and home, a command prefix to become that user, and settings."""
    if os.geteuid() != 0:
        pytest.skip("only root can become a user who is not known: run the tests as root")
    setpriv = shutil.which("setpriv") or pytest.skip("setpriv is missing: apt-get install util-linux")
    become = (
        setpriv, f"--reuid={NOBODY_KNOWN}", f"--regid={NOBODY_KNOWN}", "--clear-groups",
        # This Python and the checkout may be in folders that only root may look into.
        "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        os.chown(name, NOBODY_KNOWN, NOBODY_KNOWN)
        settings = {"EGEC_DATABASE_URL": f"sqlite:///{name}/egec.db", "EGEC_MAIL_URL": f"maildir:{name}/mail"}
        yield Path(name), ("env", "-u", "HOME", "-u", "XDG_DATA_HOME", "-u", "XDG_CONFIG_HOME", *become), settings


def test_a_user_needs_no_home_if_every_path_is_set(
    stranger: tuple[Path, tuple[str, ...], dict[str, str]],
) -> None:
    _, become, settings = stranger
    for command in (["init"], ["client", "create", "jeanne@example.org", "--activate"], ["client", "list"]):
        assert run(*command, before=become, environment=settings).code == 0
    assert run("doctor", before=become, environment=settings).code == 3
    ended = run("init", before=become)
    assert ended.code == 78
    assert f"user {NOBODY_KNOWN} has no home folder" in ended.err
    assert "EGEC_DATABASE_URL" in ended.err


def test_without_a_thread_a_command_ends_with_75_and_goes_on_later(
    stranger: tuple[Path, tuple[str, ...], dict[str, str]],
) -> None:
    _, become, settings = stranger
    if not shutil.which("prlimit"):
        pytest.skip("prlimit is missing: apt-get install util-linux")
    alone = ("prlimit", "--nproc=1", *become)
    identifier = "7130279332"
    for command in (("init",), ("client", "create", "jeanne@example.org", "--identifier", identifier)):
        assert run(*command, before=become, environment=settings).code == 0
    for words, stdin in (
        (["activate", identifier], ""),
        (["reissue", "start", "all", "--all", "--yes"], ""),
        (["verify", "--batch", "-"], f"{identifier};xxxxxxxxx\n"),
    ):
        ended = run(*words, before=alone, environment=settings, stdin=stdin)
        assert ended.code == 75, (words, ended)
        assert "another thread" in ended.err
        assert "ulimit -u" in ended.err
    assert run("reissue", "start", "all", "--all", "--yes", before=become, environment=settings).code == 0
    shown = run("client", "show", identifier, "--format", "json", before=become, environment=settings)
    assert json.loads(shown.out)["status"] == "active"


@pytest.mark.parametrize("zone", ["XXX24", "XXX-24:30", "XXX0YYY-24:30"])
def test_a_time_zone_of_the_machine_that_python_cannot_use_does_not_matter(egec: Egec, zone: str) -> None:
    """Times are shown, and days are meant, in EGEC_TIMEZONE."""
    egec("init")
    egec("client", "create", "jeanne@example.org")
    for command in (["client", "show", "jeanne@example.org"], ["audit", "list", "--since", "2026-01-01"], ["stats"]):
        shown = see([*PROGRAM, *command], variables={"TZ": zone})
        assert shown.code == 0
        assert "Traceback" not in "".join(shown.lines)
    assert run("verify", "--stdin", environment={"TZ": zone}, stdin="1234567890\nx\n").code == 1


@pytest.mark.parametrize("variable", ["COLUMNS=0", "COLUMNS=-5", "COLUMNS=x", "LINES=0"])
def test_an_impossible_size_of_the_terminal_hides_nothing(egec: Egec, variable: str) -> None:
    egec("client", "create", "jeanne@example.org")
    for command in (["client", "list"], ["client", "show", "jeanne@example.org"], ["stats"], ["doctor"]):
        shown, usual = (see([*before, *PROGRAM, *command]) for before in (("env", variable), ()))
        assert (shown.code, shown.lines) == (usual.code, usual.lines)


# A deleted working folder.


def test_a_deleted_working_folder_matters_to_relative_paths_alone_and_is_named(egec: Egec, tmp_path: Path) -> None:
    egec("init")
    gone = tmp_path / "gone"
    assert run("client", "list", folder=gone).code == 0
    assert run("client", "create", "jeanne@example.org", "--activate", folder=gone).code == 0
    for code, arguments, environment in (
        (78, ["client", "list"], {"EGEC_DATABASE_URL": "sqlite:///egec.db"}),
        (78, ["client", "list"], {"EGEC_MAIL_URL": "maildir:mail"}),
        (78, ["client", "list"], {"EGEC_TEMPLATES": "own"}),
        (78, ["client", "list"], {"EGEC_MAIL_URL_FILE": "secret"}),
        (78, ["--env-file", "egec.env", "client", "list"], {}),
        (74, ["client", "import", "clients.csv"], {}),
        (74, ["client", "export", "--output", "clients.csv"], {}),
        (74, ["db", "backup", "copy.db"], {}),
    ):
        ended = run(*arguments, environment=environment, folder=gone)
        assert ended.code == code, (arguments, ended)
        assert f"the working folder {gone} no longer exists" in ended.err.replace("The", "the"), (arguments, ended)


# A damaged database.

DAMAGES = {
    "a table is gone": ["DROP TABLE client"],
    "a table of the record is gone": ["DROP TABLE event"],
    "a column is gone": ["ALTER TABLE client RENAME COLUMN last_name TO x"],
    "a column of passwords is gone": ["ALTER TABLE credential RENAME COLUMN password_hash TO x"],
    "the history is gone": ["DROP TABLE schema_migration"],
    "a table is a view": ["DROP TABLE client", "CREATE VIEW client AS SELECT 1 AS id"],
    "garbage in the schema": [
        "PRAGMA writable_schema = 1",
        "UPDATE sqlite_master SET sql = 'garbage' WHERE name = 'client'",
    ],
    "a table on no page": [
        "PRAGMA writable_schema = 1",
        "UPDATE sqlite_master SET rootpage = 9999 WHERE name = 'client'",
    ],
    "a table of another name": [
        "PRAGMA writable_schema = 1",
        "UPDATE sqlite_master SET name = 'x', tbl_name = 'x' WHERE name = 'client'",
    ],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_schema_is_a_fault_of_the_configuration(tmp_path: Path, egec: Egec, damage: str) -> None:
    assert egec("client", "create", "jeanne@example.org").code == 0
    path = tmp_path / "data" / "egec" / "egec.db"
    with closing(sqlite3.connect(path)) as connection:
        for statement in DAMAGES[damage]:
            connection.execute(statement)
        connection.commit()
    codes = set()
    for command in (
        ["client", "list"],
        ["activate", "jeanne@example.org"],
        ["client", "create", "marc@example.org"],
        ["audit", "list"],
        ["db", "backup", "copy.db"],
        ["doctor"],
    ):
        ended = run(*command)
        assert ended.code in {0, 3, 67, 78}, (command, ended)
        codes.add(ended.code)
        if ended.code == 78 and command != ["doctor"]:
            assert any(word in ended.err for word in ("Restore a backup", "egec init")), ended
    assert 78 in codes


# A full disk.


@pytest.mark.parametrize("kibibytes", [200, 280])
def test_a_database_that_does_not_fit_on_the_disk_is_not_created(tmp_path: Path, kibibytes: int) -> None:
    small_disk = ("unshare", "--map-root-user", "--mount", "sh", "-c")
    mount = f'mount -t tmpfs -o mode=700,size={kibibytes}k none "{tmp_path}"'
    try:
        subprocess.run([*small_disk, mount], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no mounts, which need root or user namespaces, and unshare: {error}")
    # Afterwards it lists the files that are left.
    script = f'{mount} && "$@"; code=$?; ls -A "{tmp_path}" >&2; exit $code'
    ended = run(
        "init", environment={"EGEC_DATABASE_URL": f"sqlite:///{tmp_path}/egec.db"}, before=(*small_disk, script, "sh")
    )
    assert (ended.code, ended.out) == (74, "")
    assert ended.err.endswith("      Free some space, then try again.\n")
