"""`egec client list` and `export`."""

import csv
import io
import json
import os
import pty
import stat
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from egec_cli.clients.lists import ExportRecord
from egec_cli.settings.types import Database
from egec_cli.store.database import open_database as opened_database
from egec_cli.store.sql import insert_many
from tests.conftest import Egec

COLUMNS = [
    "identifier", "email", "reference", "civility", "first_name", "last_name", "language", "disabled_at", "created_at",
    "valid_from", "valid_until",
]  # fmt: skip


@pytest.fixture
def five(egec: Egec) -> list[str]:
    """Return the identifiers of five clients in order of creation."""
    names = ["Petit", "Élouard", "Dupont", "=cmd()", ""]
    return [
        egec("client", "create", f"c{n}@example.org", "--last-name", name, "--format", "ids").out.strip()
        for n, name in enumerate(names)
    ]


def ids(egec: Egec, *options: str) -> list[str]:
    ended = egec("client", "list", "--format", "ids", *options)
    assert ended.code == 0, ended.err
    return ended.out.split()


def test_list_accepts_selectors_a_search_and_a_sort_order(egec: Egec, five: list[str], tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text(f"{five[3]}\nc1@example.org\n")
    egec("activate", "c2@example.org")
    assert ids(egec) == ids(egec, "--all") == five
    assert ids(egec, "--status", "active") == [five[2]]
    assert ids(egec, "--never-logged-in", "--exclude", "names.txt") == [five[0], five[2], five[4]]
    assert ids(egec, "--from", "names.txt") == [five[3], five[1]]
    assert ids(egec, "--search", "éLOUARD") == [five[1]]
    assert ids(egec, "--sort", "-email", "--limit", "2") == [five[4], five[3]]
    assert ids(egec, "--sort", "-email", "--limit", "2", "--after", five[3]) == [five[2], five[1]]
    assert egec("client", "list", "--sort", "status").code == 2
    assert egec("client", "list", "--after", "1111111111").code == 67


def test_list_reports_each_line_that_matches_no_client(egec: Egec, five: list[str], tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text(f"{five[3]}\nnobody@example.org\nc1@example.org\n9999999999\n")
    (tmp_path / "left.txt").write_text(f"unknown\n{five[3]}\n")
    ended = egec("client", "list", "--from", "names.txt", "--exclude", "left.txt", "--format", "ids")
    assert (ended.code, ended.out.split()) == (3, [five[1]])
    assert ended.err.splitlines() == [
        "egec: names.txt:2: unknown client 'nobody@example.org'",
        "egec: names.txt:4: unknown client '9999999999'",
        "egec: left.txt:1: unknown client 'unknown'",
    ]
    assert egec("--quiet", "client", "list", "--from", "names.txt").err.count("unknown client") == 2


@pytest.mark.parametrize("output", ["csv", "json", "htpasswd"])
def test_export_reports_each_line_that_matches_no_client_and_completes_the_file(
    egec: Egec, five: list[str], tmp_path: Path, output: str
) -> None:
    egec("activate", five[0])
    (tmp_path / "names.txt").write_text(f"{five[0]}\nnobody@example.org\n")
    options = ["--format", output, "--output", "clients.out"]
    ended = egec("client", "export", "--from", "names.txt", *options)
    assert ended.code == 3
    assert "egec: names.txt:2: unknown client 'nobody@example.org'\n" in ended.err
    assert five[0] in (tmp_path / "clients.out").read_text()
    assert [path.name for path in tmp_path.glob(".egec-*")] == []
    (tmp_path / "names.txt").write_text(f"{five[0]}\n")
    assert egec("client", "export", "--from", "names.txt", *options, "--force").code == 0


def test_a_missing_value_is_an_empty_line_in_the_format_ids(egec: Egec, five: list[str]) -> None:
    assert egec("client", "list", "--fields", "reference", "--format", "ids").out == "\n" * 5


def test_jsonl_and_json_are_the_output_of_json_dumps(egec: Egec) -> None:
    egec("client", "create", "a@example.org", "--last-name", 'é "\\/ % 山', "--reference", "%s")
    [listed] = json.loads(egec("client", "list", "--format", "json").out)
    line = egec("client", "list", "--format", "jsonl").out
    assert line == json.dumps(listed, ensure_ascii=False) + "\n"
    assert listed["last_name"] == 'é "\\/ % 山'


def test_export_writes_the_columns_that_import_reads(egec: Egec, five: list[str]) -> None:
    egec("client", "disable", five[0], "--reason", "left")
    rows = list(csv.DictReader(io.StringIO(egec("client", "export").out)))
    assert list(rows[0]) == list(ExportRecord._fields) == COLUMNS
    assert [row["identifier"] for row in rows] == five
    assert rows[0]["disabled_at"].endswith("Z")
    assert rows[3]["last_name"] == "'=cmd()"
    lines = [json.loads(line) for line in egec("client", "export", "--format", "jsonl").out.splitlines()]
    assert lines == json.loads(egec("client", "export", "--format", "json").out)
    assert (lines[3]["last_name"], lines[0]["reference"], list(lines[0])) == ("=cmd()", None, COLUMNS)


def test_export_accepts_selectors_and_fields(egec: Egec, five: list[str]) -> None:
    ended = egec("client", "export", "--search", "c1@", "--fields", "email,last_name")
    assert ended.out == "email,last_name\nc1@example.org,Élouard\n"
    assert egec("client", "export", "--fields", "password_hash").code == 2


def test_export_writes_a_new_private_file_and_nothing_to_stdout(egec: Egec, five: list[str]) -> None:
    expected = egec("client", "export").out
    first = egec("client", "export", "--output", "clients.csv")
    assert (first.code, first.out) == (0, "")
    file = Path("clients.csv")
    assert file.read_text() == expected
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert egec("client", "export", "--limit", "1", "--output", "clients.csv").code == 73
    assert file.read_text() == expected
    assert egec("client", "export", "--limit", "1", "--output", "clients.csv", "--force").code == 0
    assert len(file.read_text().splitlines()) == 2
    assert egec("client", "export", "--output", "nowhere/clients.csv").code == 74
    assert egec("client", "export", "--force").code == 2
    os.mkfifo("pipe")
    refused = egec("client", "export", "--output", "pipe", "--force")
    assert (refused.code, refused.err.splitlines()[0]) == (74, "egec: pipe is not a regular file")
    assert stat.S_ISFIFO(os.lstat("pipe").st_mode)
    assert egec("client", "export", "--fields", "x", "--output", "other.csv").code == 2
    assert not Path("other.csv").exists()


def at_terminal(*arguments: str, lines: int = 24, typed: bytes = b"", **environment: str) -> tuple[int, str]:
    """Run `egec` at a terminal with this number of lines; return the exit code and the output."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (lines, 200))
    process = subprocess.Popen(
        [sys.executable, "-m", "egec_cli", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "LINES": "", "COLUMNS": "", "TERM": "dumb", **environment},
        start_new_session=True,
    )
    os.close(theirs)
    os.write(ours, typed)
    seen = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the terminal's other side is closed
            break
        seen += chunk
        if not chunk:
            break
    os.close(ours)
    return process.wait(timeout=60), seen.decode()


def test_a_terminal_learns_that_no_client_matches(egec: Egec, five: list[str], tmp_path: Path) -> None:
    nobody = ("--email-domain", "nobody.example.org")
    for words in (
        ("list", *nobody, "--format", "ids"),
        ("list", *nobody, "--format", "csv"),
        ("list", "--search", "nobody", "--format", "count"),
        ("list", "--after", five[4], "--format", "ids"),
        ("export", *nobody),
        ("export", *nobody, "--output", "clients.csv"),
        ("export", "--format", "htpasswd", "--output", "users"),
    ):
        code, seen = at_terminal("client", *words)
        assert (code, seen.count("egec: no client matches\r\n")) == (0, 1), words
    code, seen = at_terminal("client", "list", *nobody)
    assert (code, seen) == (0, "No such clients.\r\n")
    code, seen = at_terminal("client", "list", "--email-domain", "example.org", "--format", "ids")
    assert (code, seen.split()) == (0, five)
    assert at_terminal("--quiet", "client", "list", *nobody, "--format", "ids") == (0, "")
    # A job of cron prints nothing while nobody is blocked, so that no mail is sent.
    assert egec("client", "list", "--status", "blocked", "--format", "ids") == (0, "", "")


def test_a_terminal_learns_that_there_are_no_clients(egec: Egec) -> None:
    egec("init")
    code, seen = at_terminal("client", "list", "--format", "ids")
    assert (code, seen) == (0, "egec: there are no clients\r\n")


def test_hashes_are_exported_to_files_and_pipes_but_not_to_a_terminal(egec: Egec, five: list[str]) -> None:
    egec("activate", "c0@example.org")
    rows = list(csv.DictReader(io.StringIO(egec("client", "export", "--with-hashes").out)))
    assert list(rows[0]) == [*COLUMNS, "password_hash"]
    assert rows[0]["password_hash"].startswith("$2b$04$")
    assert {row["password_hash"] for row in rows[1:]} == {""}
    code, seen = at_terminal("client", "export", "--with-hashes")
    assert code == 2
    assert "$2b$" not in seen
    assert "--output" in seen


def test_htpasswd_lines_are_secrets_too_and_have_no_fields(egec: Egec, five: list[str]) -> None:
    egec("activate", "c0@example.org")
    egec("activate", "c1@example.org")
    egec("client", "disable", "c1@example.org", "--reason", "left")
    ended = egec("client", "export", "--format", "htpasswd")
    assert ended.code == 0
    [row] = csv.DictReader(io.StringIO(egec("client", "export", "--with-hashes", "--status", "active").out))
    assert ended.out == f"{five[0]}:{row['password_hash']}\n"
    assert egec("client", "export", "--format", "htpasswd", "--output", "users").code == 0
    assert Path("users").read_text() == ended.out
    assert stat.S_IMODE(Path("users").stat().st_mode) == 0o600
    assert egec("client", "export", "--format", "htpasswd", "--fields", "email").code == 2
    assert egec("client", "list", "--format", "htpasswd").code == 2
    code, seen = at_terminal("client", "export", "--format", "htpasswd")
    assert code == 2
    assert "$2b$" not in seen
    assert "--output" in seen


def test_list_and_export_find_weak_hashes_and_passwords_that_expired(
    egec: Egec, five: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    egec("activate", five[0])
    assert ids(egec, "--weak-hash") == ids(egec, "--status", "expired") == []
    monkeypatch.setenv("EGEC_BCRYPT_COST", "10")
    assert ids(egec, "--weak-hash") == [five[0]]
    assert egec("client", "export", "--weak-hash", "--fields", "identifier").out == f"identifier\n{five[0]}\n"
    dry_run = egec("reissue", "start", "stronger", "--weak-hash", "--dry-run", "--format", "ids")
    assert dry_run.out.split() == [five[0]]
    assert egec("reissue", "start", "late", "--status", "expired", "--dry-run", "--format", "ids").out == ""


def test_a_table_that_does_not_fit_a_terminal_goes_through_the_pager(five: list[str], tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho paged $LESSSECURE\ncat\n")
    pager.chmod(0o700)
    code, seen = at_terminal("client", "list", lines=5, PAGER=str(pager))
    assert code == 0
    assert seen.startswith("paged 1")
    assert all(identifier in seen for identifier in five)
    code, seen = at_terminal("client", "list", lines=24, PAGER=str(pager))
    assert "paged" not in seen
    assert all(identifier in seen for identifier in five)
    code, seen = at_terminal("client", "list", lines=5, PAGER="cat")
    assert seen.splitlines()[0].split() == ["identifier", "email", "civility", "last_name", "first_name", "status"]


def test_leaving_the_pager_early_is_not_a_failure(five: list[str], tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\nhead -n 1\n")
    pager.chmod(0o700)
    code, seen = at_terminal("client", "list", lines=5, PAGER=str(pager))
    assert code == 0
    assert "Traceback" not in seen


def test_a_table_in_a_pipe_never_uses_the_pager(egec_process: Egec, five: list[str]) -> None:
    plain = egec_process("client", "list", env={"PAGER": "false", "LINES": "2"})
    assert plain.code == 0
    assert len(plain.out.splitlines()) == 6


@pytest.mark.parametrize("output", ["jsonl", "csv", "json", "table"])
def test_a_reader_that_stops_early_ends_the_list_cleanly(location: Database, output: str, egec_process: Egec) -> None:
    texts = ("identifier", "email", "email_key", "civility", "first_name", "last_name", "language")
    moments = ("created_at", "updated_at")
    numbers = ("active_sequence", "revoked_below", "last_sequence", "failed_logins")
    rest = (*[""] * 4, *["2026-01-01T00:00:00.000Z"] * 2, *[0] * 4)
    emails = [f"c{number}@example.org" for number in range(5_000)]
    rows = [(str(10**9 + number), email, email, *rest) for number, email in enumerate(emails)]
    with opened_database(location) as database:
        insert_many(database, "client", (*texts, *moments, *numbers), rows)
    command = [sys.executable, "-m", "egec_cli", "client", "list", "--sort", "email", "--format", output]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 141
    assert egec_process("client", "disable", "c1@example.org", "--reason", "left").code == 0


@pytest.mark.parametrize("output", ["csv", "jsonl"])
def test_an_export_imported_into_an_empty_database_gives_the_same_export(
    egec: Egec, five: list[str], output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    egec("client", "create", "split@example.org", "--last-name", "Dupont;=cmd|'/C calc'!A0;x", "--reference", "a,'-1")
    more = ("--reference", "'=1+1", "--first-name", "=D", "--civility", "Mme", "--language", "en")
    egec("client", "create", "d'oré+x@example.org", "--last-name", '"Œuvre"; & ,Cie', *more)
    egec("client", "disable", five[1], "--reason", "left")
    egec("activate", five[0])
    exported = egec("client", "export", "--with-hashes", "--format", output).out
    Path(f"clients.{output}").write_text(exported)
    monkeypatch.setenv("EGEC_DATABASE_URL", f"sqlite:///{tmp_path}/other.db")
    assert egec("init").code == 0
    imported = egec("client", "import", f"clients.{output}")
    assert imported.code == 0, imported.err
    assert egec("client", "export", "--with-hashes", "--format", output).out == exported
