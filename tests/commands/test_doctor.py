"""`egec doctor`: its findings in sound and broken installations, none of which it changes."""

import csv
import io
import json
import os
import re
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

import egec_cli.doctor.database
from egec_cli.commands.doctor import _GROUPS
from egec_cli.doctor import machine
from egec_cli.settings.schema import SETTINGS
from egec_cli.settings.types import Database, SqliteFile, Tls
from egec_cli.store import database
from tests import children
from tests.conftest import Egec, Ended
from tests.processes import command_of, replace, run_as_any_user, run_with
from tests.screens.emulator import PROGRAM, see
from tests.smtp_server import MailServer

KEYS = ["check", "verdict", "details", "fix"]
Findings = dict[str, dict[str, str]]
# For processes; within this one, see `accept_cheap_hashes`.
USUAL_COST = {"EGEC_BCRYPT_COST": "12"}


def findings(ended: Ended) -> Findings:
    """Return the worst finding of each check."""
    assert ended.err == ""
    rows = json.loads(ended.out)
    assert all(list(row) == KEYS for row in rows)
    order = ["ok", "warning", "error"]
    return {row["check"]: row for row in sorted(rows, key=lambda row: order.index(row["verdict"]))}


def problems(ended: Ended) -> dict[str, str]:
    """Return the verdicts of the checks that are not ok."""
    return {name: row["verdict"] for name, row in findings(ended).items() if row["verdict"] != "ok"}


@pytest.fixture
def usual_cost(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the doctor in a process find nothing wrong with the cost of a hash."""
    for name, value in USUAL_COST.items():
        monkeypatch.setenv(name, value)


def accept_cheap_hashes(patch: pytest.MonkeyPatch) -> None:
    """Let the doctor in this process accept the cost of the tests: a usual hash takes a quarter of a second."""
    patch.setattr(machine, "_MAX_COST", 4)


@pytest.fixture
def sound(location: Database, durable: None, server: MailServer, monkeypatch: pytest.MonkeyPatch) -> Database:
    """Return the database of a sound installation, on each engine."""
    accept_cheap_hashes(monkeypatch)
    return location


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: MailServer) -> Path:
    """Return the embedded database of a sound installation, in its own folder."""
    path = tmp_path / "database" / "egec.db"
    database.create_database(SqliteFile(path))
    monkeypatch.setenv("EGEC_DATABASE_URL", f"sqlite:///{path}")
    accept_cheap_hashes(monkeypatch)
    return path


def test_in_a_sound_installation_every_check_is_ok(sound: Database, egec: Egec) -> None:
    egec("client", "create", "jeanne@example.org", "--activate")
    ended = egec("doctor", "--format", "json")
    assert (ended.code, problems(ended)) == (0, {})
    found = findings(ended)
    on_this_engine = {"file_rights", "disk", "log", "leftovers"} if isinstance(sound, SqliteFile) else {"server_clock"}
    about_mail = {name for name in found if name.startswith(("template_", "mail_server"))}
    assert {"template_credentials.fr", "template_reissue.en", "mail_server"} <= about_mail
    assert set(found) - about_mail == on_this_engine | {setting.name for setting in SETTINGS} | {
        "clock", "configuration_file", "database", "schema", "integrity", "newest_entry", "open_credentials",
        "shared_emails", "paused_runs", "failed_items", "hash_cost", "dkim_signature",
    }  # fmt: skip
    assert all(row["fix"] == "" for row in found.values())


def test_a_server_that_does_not_wait_for_its_disk_is_a_fault(
    postgresql: Callable[[], str], monkeypatch: pytest.MonkeyPatch, egec: Egec
) -> None:
    monkeypatch.setenv("EGEC_DATABASE_URL", postgresql())
    found = findings(egec("doctor", "--format", "json"))["integrity"]
    assert (found["verdict"], "fsync = off" in found["details"]) == ("error", True)


def test_every_format_has_the_same_findings(file: Path, egec: Egec) -> None:
    names = [row["check"] for row in json.loads(egec("doctor", "--format", "json").out)]
    assert [json.loads(line)["check"] for line in egec("doctor", "--format", "jsonl").out.splitlines()] == names
    rows = list(csv.reader(io.StringIO(egec("doctor", "--format", "csv").out)))
    assert rows[0] == KEYS
    assert [row[0] for row in rows[1:]] == names
    assert egec("doctor", "--format", "ids").out.split() == names
    assert [line.split()[0] for line in egec("doctor").out.splitlines()[1:]] == names
    assert egec("doctor", "--fields", "verdict,check", "--format", "csv").out.startswith("verdict,check\nok,clock\n")


def test_each_setting_is_shown_with_its_source_and_without_secrets(
    file: Path, tmp_path: Path, egec: Egec, monkeypatch: pytest.MonkeyPatch, server: MailServer
) -> None:
    monkeypatch.delenv("EGEC_MAIL_URL")
    (tmp_path / "mail_url").write_text(server.url.replace("://", "://egec:s3cr3t@"))
    (tmp_path / "mail_url").chmod(0o600)
    env_file = tmp_path / "egec.env"
    env_file.write_text("EGEC_MAIL_URL_FILE=mail_url\nEGEC_SUPPORT=Accueil\nEGEC_BCRYPT_COST=11\n")
    env_file.chmod(0o600)
    ended = egec("--env-file", str(env_file), "doctor", "--format", "json")
    assert "s3cr3t" not in ended.out
    found = {name: row["details"] for name, row in findings(ended).items()}
    assert found["configuration_file"] == f"{env_file}, 0600"
    assert found["EGEC_DATABASE_URL"] == f"{file} (from the environment)"
    assert found["EGEC_BCRYPT_COST"] == "4 (from the environment)"
    assert found["EGEC_SUPPORT"] == f"Accueil (from {env_file})"
    assert found["EGEC_MAIL_URL"].endswith(f"(from the file that EGEC_MAIL_URL_FILE names in {env_file})")
    assert found["EGEC_LANGUAGE"] == "fr (from the default)"


@pytest.mark.parametrize(("mode", "verdict"), [(0o600, "ok"), (0o640, "ok"), (0o644, "warning"), (0o620, "error")])
def test_the_mode_of_the_settings_file_is_checked(
    file: Path, tmp_path: Path, egec: Egec, mode: int, verdict: str
) -> None:
    env_file = tmp_path / "egec.env"
    env_file.write_text("EGEC_MAIL_URL=smtp://egec:secret@mail.example.org\n")
    env_file.chmod(mode)
    found = findings(egec("--env-file", str(env_file), "doctor", "--format", "json"))["configuration_file"]
    assert (found["verdict"], verdict == "ok" or "chmod" in found["fix"]) == (verdict, True)


def test_each_faulty_setting_is_a_finding_and_dependent_checks_are_skipped(
    file: Path, tmp_path: Path, egec: Egec, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_file = tmp_path / "egec.env"
    env_file.write_text("EGEC_SUPORT=Accueil\nnot a setting\nEGEC_MAIL_TIMEOUT=soon\n")
    monkeypatch.setenv("EGEC_DATABASE_URL", "mysql://user:s3cr3t@host/egec")
    monkeypatch.setenv("EGEC_ENV_FILE", str(env_file))
    ended = egec("doctor", "--format", "json")
    assert ended.code == 78
    assert "s3cr3t" not in ended.out
    assert problems(ended) == {
        "configuration_file": "error", "EGEC_DATABASE_URL": "error", "EGEC_MAIL_TIMEOUT": "error",
    }  # fmt: skip
    details = [row["details"] for row in json.loads(ended.out) if row["check"] == "configuration_file"]
    assert any("unknown setting EGEC_SUPORT (did you mean EGEC_SUPPORT?)" in detail for detail in details)
    assert any(f"{env_file}:2" in detail for detail in details)
    assert not {"database", "mail_server", "template_sent.fr"} & set(findings(ended))
    assert "hash_cost" in findings(ended)


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b""])
def test_an_unreadable_settings_file_is_a_finding(
    file: Path, tmp_path: Path, egec: Egec, content: bytes | None
) -> None:
    env_file = tmp_path / "egec.env"
    if content is not None:
        env_file.write_bytes(content)
    ended = egec("--env-file", str(env_file), "doctor", "--format", "json")
    wanted: tuple[int, dict[str, str]] = (0, {}) if content == b"" else (78, {"configuration_file": "error"})
    assert (ended.code, problems(ended)) == wanted


def truncate(content: bytes) -> bytes:
    return content[: len(content) // 3]


def overwrite_header(content: bytes) -> bytes:
    return b"no database at all" + content[18:]


def overwrite_middle(content: bytes) -> bytes:
    return content[:8192] + bytes(8 * 4096) + content[8192 + 8 * 4096 :]


@pytest.mark.parametrize("damage", [truncate, overwrite_header, overwrite_middle, lambda _: b""])
def test_a_damaged_file_is_a_finding_and_stays_unchanged(
    file: Path, egec: Egec, egec_process: Egec, damage: Callable[[bytes], bytes]
) -> None:
    for number in range(20):
        assert egec("client", "create", f"c{number}@example.org").code == 0
    file.write_bytes(damage(file.read_bytes()))
    before = file.read_bytes()
    ended = egec_process("doctor", "--format", "json")
    assert ended.code == 78
    assert {"database", "schema", "integrity"} & set(problems(ended))
    assert findings(ended)["mail_server"]["verdict"] == "ok"
    assert file.read_bytes() == before


def test_a_missing_an_older_and_a_newer_database_are_findings(file: Path, egec: Egec) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("INSERT INTO schema_migration (name, applied) VALUES ('9999_later', '')")
    newer = egec("doctor", "--format", "json")
    assert (newer.code, problems(newer)) == (78, {"schema": "error"})
    assert "9999_later" in findings(newer)["schema"]["details"]
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE schema_migration SET name = '0000_before' WHERE name = '9999_later'")
        connection.execute("DELETE FROM schema_migration WHERE id > 1 AND name <> '0000_before'")
    migrations = partial(list[str], ["0000_before", "0001_initial", "x"])
    older = run_with([replace(database, "list_known_migrations", migrations)], "doctor", "--format", "json")
    assert (older.code, findings(older)["schema"]["fix"]) == (78, "egec db upgrade")
    file.unlink()
    missing = egec("doctor", "--format", "json")
    assert (missing.code, problems(missing)) == (78, {"database": "error"})
    assert "egec init" in findings(missing)["database"]["fix"]
    assert list(file.parent.iterdir()) == []


def test_rights_for_other_users_are_faults(file: Path, egec: Egec) -> None:
    file.chmod(0o644)
    ended = egec("doctor", "--format", "json")
    assert (ended.code, problems(ended)) == (78, {"file_rights": "error"})
    assert findings(ended)["file_rights"]["fix"] == f"chmod 600 {file}"
    file.chmod(0o600)
    file.parent.chmod(0o777)
    assert problems(egec("doctor", "--format", "json")) == {"file_rights": "error"}


@pytest.mark.usefixtures("usual_cost")
def test_an_unwritable_folder_is_a_finding(file: Path) -> None:
    file.parent.chmod(0o500)
    ended = run_as_any_user("doctor", "--format", "json")
    file.parent.chmod(0o700)
    assert ended.code == 78
    assert problems(ended) == {"file_rights": "error"}


def test_the_leftover_of_a_killed_command_is_a_finding_and_stays(file: Path, egec: Egec) -> None:
    leftover = file.parent / ".egec-0123456789abcdef.unfinished"
    leftover.touch()
    ended = egec("doctor", "--format", "json")
    assert (ended.code, problems(ended)) == (3, {"leftovers": "warning"})
    assert findings(ended)["leftovers"]["fix"] == f"rm {leftover}"
    assert leftover.exists()


def test_paths_are_quoted_in_commands(egec: Egec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "odd folder"
    folder.mkdir(mode=0o700)
    database = folder / "egec.db"
    monkeypatch.setenv("EGEC_DATABASE_URL", f"sqlite:///{database}")
    assert egec("init").code == 0
    database.chmod(0o644)
    (folder / ".egec-0123456789abcdef.unfinished").touch()
    found = findings(egec("doctor", "--format", "json"))
    assert found["file_rights"]["fix"] == f"chmod 600 '{database}'"
    assert found["leftovers"]["fix"] == f"rm '{folder}/.egec-0123456789abcdef.unfinished'"


@pytest.mark.usefixtures("usual_cost")
def test_an_inaccessible_folder_is_a_finding(file: Path) -> None:
    file.parent.chmod(0o000)
    ended = run_as_any_user("doctor", "--format", "json")
    file.parent.chmod(0o700)
    assert ended.code == 78
    assert set(problems(ended)) == {"file_rights", "database"}


@pytest.mark.usefixtures("usual_cost")
def test_a_deleted_working_folder_does_not_matter_if_every_path_is_absolute(file: Path) -> None:
    ended = run_with([children.enter_deleted_folder], "doctor", "--format", "json")
    assert (ended.code, problems(ended)) == (0, {})


@pytest.mark.usefixtures("usual_cost")
def test_an_internal_error_of_a_check_is_a_finding_and_the_other_checks_run(file: Path) -> None:
    defective = replace(egec_cli.doctor.database, "check_open_credentials", partial(children.fail_with, "fG69a*6jH"))
    ended = run_with([defective], "doctor", "--format", "json")
    assert (ended.code, problems(ended)) == (78, {"open_credentials": "error"})
    assert "RuntimeError" in findings(ended)["open_credentials"]["details"]
    assert "fG69a*6jH" not in ended.out
    assert "failed_items" in findings(ended)


def test_unavailable_postgresql_and_mail_servers_are_findings(egec: Egec, monkeypatch: pytest.MonkeyPatch) -> None:
    accept_cheap_hashes(monkeypatch)
    monkeypatch.setenv("EGEC_DATABASE_URL", "postgresql://egec:s3cr3t@127.0.0.1:1/egec")
    monkeypatch.setenv("EGEC_MAIL_URL", "smtp://egec:s3cr3t@127.0.0.1:1")
    ended = egec("doctor", "--format", "json")
    assert (ended.code, problems(ended)) == (75, {"database": "error", "mail_server": "error"})
    assert "s3cr3t" not in ended.out
    monkeypatch.setenv("EGEC_LANGUAGE", "de")
    assert egec("doctor", "--format", "json").code == 78


def test_an_unavailable_mail_server_is_a_temporary_failure_without_other_faults(
    file: Path, egec: Egec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGEC_MAIL_URL", "smtp://127.0.0.1:1")
    ended = egec("doctor", "--format", "json")
    assert (ended.code, problems(ended)) == (75, {"mail_server": "error"})
    file.chmod(0o644)
    assert egec("doctor", "--format", "json").code == 78


def test_a_missing_mail_url_is_a_fault_of_the_setting_too(
    file: Path, egec: Egec, monkeypatch: pytest.MonkeyPatch
) -> None:
    egec("client", "create", "jeanne@example.org", "--activate")
    monkeypatch.delenv("EGEC_MAIL_URL")
    ended = egec("doctor", "--format", "json")
    assert (ended.code, problems(ended)) == (78, {"EGEC_MAIL_URL": "error", "mail_server": "error"})
    found = findings(ended)["EGEC_MAIL_URL"]
    assert found["details"].startswith("EGEC_MAIL_URL is not set, although this database has had a mail server")
    assert "Set EGEC_MAIL_URL" in found["fix"]


def test_only_the_doctor_warns_of_unknown_environment_variables(
    file: Path, egec: Egec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGEC_MAIL_RTE", "3")
    monkeypatch.setenv("EGEC_ACTOR", "jeanne.martin")
    monkeypatch.setenv("XEGEC_OTHER", "x")
    assert egec("client", "list").code == 0
    ended = egec("doctor", "--format", "json")
    assert (ended.code, problems(ended)) == (3, {"environment": "warning"})
    detail = "unknown variable EGEC_MAIL_RTE in the environment (did you mean EGEC_MAIL_RATE?)"
    assert findings(ended)["environment"]["details"] == detail


def test_a_maildir_is_a_warning(file: Path, egec: Egec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EGEC_MAIL_URL")
    ended = egec("doctor", "--format", "json")
    assert (ended.code, problems(ended)) == (3, {"mail_folder": "warning"})
    assert not (tmp_path / "data" / "egec" / "mail").exists()


def test_an_invalid_template_is_a_finding(
    file: Path, egec: Egec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (folder := tmp_path / "templates").mkdir()
    (folder / "credentials.fr.txt").write_text("Sujet\n\n$identifiant\n")
    monkeypatch.setenv("EGEC_TEMPLATES", str(folder))
    ended = egec("doctor", "--format", "json")
    assert (ended.code, problems(ended)) == (78, {"template_credentials.fr": "error"})
    assert f"{folder}/credentials.fr.txt:" in findings(ended)["template_credentials.fr"]["details"]


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return the content and the mode of every file below a folder."""
    return {str(path): (path.read_bytes(), path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("usual_cost")
def test_nothing_is_changed_not_even_the_log_of_a_crashed_process(file: Path, egec_process: Egec) -> None:
    subprocess.run(command_of(children.create_client_and_stop), check=True)
    shm = file.with_name("egec.db-shm")
    assert file.with_name("egec.db-wal").stat().st_size > 0
    before = state(file.parent)
    assert egec_process("doctor").code == 0
    after = state(file.parent)
    # SQLite recreates the index of the log whenever it needs it.
    assert {path: found for path, found in after.items() if path != str(shm)} == {
        path: found for path, found in before.items() if path != str(shm)
    }
    assert egec_process("client", "list").code == 0
    before = state(file.parent)
    assert list(before) == [str(file)]
    assert egec_process("doctor").code == 0
    assert state(file.parent) == before


@pytest.mark.usefixtures("usual_cost")
def test_it_neither_waits_for_a_writer_nor_blocks_one(file: Path, egec_process: Egec) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert egec_process("doctor").code == 0
        other.execute("UPDATE client SET language = ''")
        other.execute("COMMIT")


def test_it_connects_to_the_mail_server_and_sends_nothing(file: Path, egec: Egec, server: MailServer) -> None:
    assert egec("doctor").code == 0
    assert server.accepted == []
    assert os.environ["EGEC_MAIL_URL"] == server.url


def test_a_quiet_doctor_still_prints_warnings_and_faults(file: Path, egec: Egec) -> None:
    assert egec("--quiet", "doctor") == (0, "", "")
    file.chmod(0o644)
    ended = egec("--quiet", "doctor")
    assert (ended.code, ended.out) == (78, "")
    assert ended.err.startswith("egec: file_rights: error: ")
    assert "chmod" in ended.err


# What a person sees; tests/screens has whole screens.


@pytest.fixture
def terminal_variables(file: Path, server: MailServer) -> dict[str, str]:
    """Return the environment of a sound installation, for commands at a terminal."""
    return {name: value for name, value in os.environ.items() if name.startswith("EGEC_")} | USUAL_COST


def test_a_terminal_shows_problems_first_with_the_whole_command_that_corrects_each(
    file: Path, terminal_variables: dict[str, str]
) -> None:
    file.chmod(0o644)
    (leftover := file.parent / ".egec-0123456789abcdef.unfinished").touch()
    seen = see([*PROGRAM, "doctor"], columns=200, variables=terminal_variables)
    assert (seen.code, seen.coloured) == (78, True)
    assert seen.lines[:4] == [
        f"[✗] Database: {file} is accessible to others: 0644",
        f"    chmod 600 {file}",
        f"[!] Database: {leftover} was left by a killed egec and may contain personal data",
        f"    rm {leftover}",
    ]
    assert [line.partition(":")[0].partition(" (")[0] for line in seen.lines[4:-1]] == [
        "[✓] Settings", "[✓] Deliveries and runs", "[✓] Templates", "[✓] DKIM signature", "[✓] Mail server",
        "[✓] Machine",
    ]  # fmt: skip
    assert re.fullmatch(r"1 warning, 1 error \(\d+ checks; -v shows all\)", seen.lines[-1])


@pytest.mark.parametrize("arguments", [("doctor", "-v"), ("doctor", "--verbose"), ("--verbose", "doctor")])
def test_verbose_shows_every_check_at_a_terminal(
    egec: Egec, terminal_variables: dict[str, str], arguments: tuple[str, ...]
) -> None:
    checks = egec("doctor", "--format", "ids").out.split()
    seen = see([*PROGRAM, *arguments], columns=200, variables=terminal_variables)
    below = [line.split()[0] for line in seen.lines if line.startswith("      ")]
    assert sorted(below) == sorted(checks)
    assert seen.lines[-1] == f"No problems found ({len(checks)} checks)"


def test_a_pipe_and_chosen_fields_get_one_row_per_check(egec: Egec, terminal_variables: dict[str, str]) -> None:
    checks = egec("doctor", "--format", "ids").out.split()
    for arguments in (["doctor"], ["doctor", "-v"]):
        assert [line.split()[0] for line in egec(*arguments).out.splitlines()[1:]] == checks
    seen = see([*PROGRAM, "doctor", "--fields", "check,verdict"], variables=terminal_variables)
    assert [line.split()[0] for line in seen.lines[1:]] == checks


def test_quiet_contradicts_the_verbose_doctor(egec: Egec) -> None:
    for arguments in (("--quiet", "doctor", "-v"), ("doctor", "--verbose", "--quiet")):
        assert egec(*arguments).code == 2


def test_every_check_belongs_to_a_group(sound: Database, egec: Egec) -> None:
    checks = egec("doctor", "--format", "ids").out.split()
    grouped = [[name for group in _GROUPS for name in group.names if check.startswith(name)] for check in checks]
    assert all(len(names) == 1 for names in grouped), grouped


def test_a_group_without_problems_shows_what_is_useful_to_know(egec: Egec, file: Path) -> None:
    for number in range(3):
        egec("client", "create", f"c{number}@example.org")
    with MailServer(tls=Tls.STARTTLS, login=("egec", "secret")) as secure:
        variables = {name: value for name, value in os.environ.items() if name.startswith("EGEC_")} | USUAL_COST
        seen = see([*PROGRAM, "doctor"], columns=200, variables=variables | {"EGEC_MAIL_URL": secure.url})
    text = seen.text
    assert re.search(r"^\[✓\] Database: SQLite [\d.]+, 3 clients, 0\.\d MiB$", text, re.MULTILINE)
    assert re.search(r"^\[✓\] Mail server: .*:\d+.*, TLSv1\.\d, certificate valid until \d{4}-", text, re.MULTILINE)
    assert "secret" not in text


def test_a_terminal_names_the_groups_that_were_not_checked(terminal_variables: dict[str, str]) -> None:
    variables = terminal_variables | {"EGEC_DATABASE_URL": "mysql://host/egec"}
    seen = see([*PROGRAM, "doctor"], columns=200, variables=variables)
    assert (
        "[-] Not checked because of the errors: Database, Deliveries and runs, Templates, DKIM signature" in seen.text
    )
