"""`egec client update`, `disable`, `enable`, `unblock`, `erase`, and the history in `show`."""

import json
import signal
import sqlite3
import subprocess
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from egec_cli import clock
from egec_cli.settings import load
from egec_cli.settings.types import SqliteFile
from egec_cli.store import sql
from tests import children
from tests.commands.test_client_listing import at_terminal
from tests.conftest import Egec
from tests.processes import IMPATIENT, run_with, wrap

KEYS = ["identifier", "line", "outcome", "failure", "details"]


@pytest.fixture
def jeanne(egec: Egec) -> str:
    """Return the identifier of a client."""
    created = egec(
        "client", "create", "jeanne@example.org", "--last-name", "Dupont", "--reference", "D-1", "--format", "ids"
    )
    return created.out.strip()


def shown(egec: Egec, client: str, *options: str) -> dict[str, Any]:
    ended = egec("client", "show", client, "--format", "json", *options)
    assert ended.code == 0, ended.err
    found: dict[str, Any] = json.loads(ended.out)
    return found


def test_update_changes_the_client_and_shows_it(egec: Egec, jeanne: str) -> None:
    ended = egec("client", "update", jeanne, "--email", "new@example.org", "--reference", "", "--format", "json")
    assert ended.code == 0
    record = json.loads(ended.out)
    assert (record["email"], record["reference"], record["last_name"]) == ("new@example.org", None, "Dupont")
    assert shown(egec, "new@example.org")["identifier"] == jeanne
    assert egec("client", "show", "jeanne@example.org").code == 67


def test_update_refuses_invalid_changes(egec: Egec, jeanne: str) -> None:
    egec("client", "create", "other@example.org")
    assert egec("client", "update", jeanne).code == 2
    assert egec("client", "update", jeanne, "--email", "other@example.org").code == 73
    assert egec("client", "update", jeanne, "--email", "").code == 65
    assert egec("client", "update", "unknown@example.org", "--last-name", "x").code == 67
    fixed = egec("client", "update", jeanne, "--identifier", "1234567890", "--last-name", "x", "--format", "json")
    assert fixed.code == 77
    assert json.loads(fixed.err)["error"]["code"] == "identifier_immutable"
    assert shown(egec, jeanne)["last_name"] == "Dupont"


def test_disable_and_enable_show_the_result(egec: Egec, jeanne: str) -> None:
    assert egec("client", "disable", jeanne).code == 2
    ended = egec("client", "disable", "jeanne@example.org", "--reason", "contract ended", "--format", "json")
    assert ended.code == 0
    record = json.loads(ended.out)
    assert list(record) == KEYS
    assert record == {"identifier": jeanne, "line": None, "outcome": "disabled", "failure": None, "details": None}
    again = egec("client", "disable", jeanne, "--reason", "x", "--format", "json")
    assert (again.code, json.loads(again.out)["outcome"]) == (0, "unchanged")
    assert shown(egec, jeanne)["status"] == "disabled"
    assert egec("activate", jeanne).code == 77
    assert json.loads(egec("client", "enable", jeanne, "--format", "json").out)["outcome"] == "enabled"
    assert shown(egec, jeanne)["status"] == "new"


def test_unblock_resets_the_failed_logins_that_show_displays(egec: Egec, egec_process: Egec, jeanne: str) -> None:
    def login_state() -> tuple[int, str | None, str]:
        record = shown(egec, jeanne)
        assert list(record)[-7:-3] == ["failed_logins", "blocked_until", "failure_origins", "email_bounced_at"]
        return record["failed_logins"], record["blocked_until"], record["status"]

    assert "failed_logins" not in egec("client", "show", jeanne).out
    for _ in range(4):
        egec_process("verify", jeanne, "--password-stdin", stdin="wrong\n")
    assert login_state() == (4, None, "new")
    assert "failed_logins" in egec("client", "show", jeanne).out
    egec_process("verify", jeanne, "--password-stdin", stdin="wrong\n")
    failures, until, status = login_state()
    assert (failures, status) == (5, "blocked")
    assert clock.parse_time(str(until)) > clock.parse_time("2026-01-01T00:00:00Z")
    assert str(until) in egec("client", "show", jeanne).out
    assert egec("client", "show", jeanne, "--fields", "failed_logins,blocked_until", "--format", "csv").out == (
        f"failed_logins,blocked_until\n5,{until}\n"
    )
    for outcome in ("unblocked", "unchanged"):
        ended = egec("client", "unblock", "jeanne@example.org", "--format", "json")
        assert (ended.code, json.loads(ended.out)["outcome"]) == (0, outcome)
        assert list(json.loads(ended.out)) == KEYS
        assert login_state() == (0, None, "new")
    ended = egec_process("client", "unblock", "--from", "-", "--format", "jsonl", stdin=f"{jeanne}\nunknown\n")
    assert (ended.code, [json.loads(line)["outcome"] for line in ended.out.splitlines()]) == (
        3,
        ["unchanged", "failed"],
    )
    assert egec("client", "unblock").code == 2
    assert egec("client", "unblock", "unknown@example.org").code == 67


def test_erase_asks_at_a_terminal_and_needs_yes_elsewhere(egec: Egec, jeanne: str) -> None:
    assert egec("client", "erase", jeanne).code == 2
    assert egec("client", "erase", "unknown@example.org").code == 67
    assert at_terminal("client", "erase", jeanne, typed=b"n\n")[0] == 1
    assert shown(egec, jeanne)["email"] == "jeanne@example.org"
    code, seen = at_terminal("client", "erase", jeanne, typed=b"y\n")
    assert code == 0
    assert "Permanently erase the data of" in seen
    assert shown(egec, jeanne)["email"] is None


def test_an_erased_client_can_be_shown_by_identifier_and_is_in_no_list(egec: Egec, jeanne: str) -> None:
    assert egec("client", "erase", jeanne, "--yes").code == 0
    ended = egec("client", "show", jeanne)
    assert ended.code == 0
    assert f"client {jeanne} was erased" in ended.err
    assert egec("client", "list", "--format", "ids").out == ""
    for command in (
        ("enable", jeanne),
        ("unblock", jeanne),
        ("disable", jeanne, "--reason", "x"),
        ("update", jeanne, "--last-name", "x"),
    ):
        refused = egec("client", *command, "--format", "json")
        assert (refused.code, json.loads(refused.err)["error"]["code"]) == (77, "client_erased")
    assert egec("activate", jeanne).code == 77
    assert egec("client", "create", "jeanne@example.org", "--identifier", jeanne).code == 73
    assert json.loads(egec("client", "erase", jeanne, "--yes", "--format", "json").out)["outcome"] == "unchanged"


@pytest.mark.parametrize("output", ["jsonl", "json", "csv", "table"])
def test_a_list_of_clients_is_changed_line_by_line_with_a_result_for_each(egec: Egec, jeanne: str, output: str) -> None:
    Path("names.csv").write_text("n;courriel\n1;unknown@example.org\n2;jeanne@example.org\n")
    command = ("client", "disable", "--from", "names.csv", "--column", "courriel", "--reason", "left")
    ended = egec(*command, "--format", output)
    assert ended.code == 3
    assert "1 failed, 1 disabled" in ended.err
    if output == "jsonl":
        rows = [json.loads(line) for line in ended.out.splitlines()]
        assert [list(row) for row in rows] == [KEYS, KEYS]
        assert [(row["identifier"], row["line"], row["outcome"], row["failure"]) for row in rows] == [
            (None, 2, "failed", "unknown_client"),
            (jeanne, 3, "disabled", None),
        ]
        assert "unknown@example.org" in rows[0]["details"]
    assert jeanne in ended.out
    assert shown(egec, jeanne)["status"] == "disabled"


def test_a_list_from_a_pipe_without_failures_ends_with_0(egec_process: Egec, egec: Egec, jeanne: str) -> None:
    ended = egec_process("client", "erase", "--from", "-", "--yes", "--format", "jsonl", stdin=f"{jeanne}\n")
    assert (ended.code, json.loads(ended.out)["outcome"]) == (0, "erased")
    again = egec_process("client", "erase", "--from", "-", "--yes", "--format", "jsonl", stdin=f"{jeanne}\n")
    assert (again.code, json.loads(again.out)["outcome"]) == (0, "unchanged")
    assert egec_process("client", "erase", "--from", "-", stdin=f"{jeanne}\n").code == 2
    assert egec_process("client", "enable", "--from", "nowhere.txt").code == 74


def test_either_one_client_or_a_list_is_required(egec: Egec, jeanne: str) -> None:
    for command in (("enable",), ("enable", jeanne, "--from", "-"), ("erase", "--yes")):
        assert egec("client", *command).code == 2


def test_show_lists_the_history_in_order(egec: Egec, jeanne: str) -> None:
    egec("activate", jeanne)
    egec("client", "update", jeanne, "--last-name", "Petit")
    egec("client", "disable", jeanne, "--reason", "contract ended")
    history = shown(egec, jeanne)["history"]
    assert [list(entry) for entry in history] == [["at", "action", "outcome", "actor", "details"]] * 4
    what = [entry["action"] for entry in history]
    assert what == [
        "client.create",
        "credential.issue",
        "client.update",
        "client.disable",
    ]
    assert history[2]["details"] == {"fields": ["last_name"]}
    lines = egec("client", "show", jeanne).out.splitlines()
    assert lines[-1].split()[1:3] == ["client.disable", "disabled"]
    assert lines[-1].endswith("reason: contract ended")
    assert [line.split()[1] for line in lines[-4:]] == what


def test_show_lists_the_end_of_a_long_history_or_all_of_it_with_full(egec: Egec, jeanne: str) -> None:
    for number in range(60):
        egec("client", "update", jeanne, "--last-name", f"Name {number}")
    ended = egec("client", "show", jeanne)
    assert "--full" in ended.err
    assert len(shown(egec, jeanne)["history"]) == 50
    assert len(shown(egec, jeanne, "--full")["history"]) == 61
    assert "--full" not in egec("client", "show", jeanne, "--full").err


# Erased data leaves the files too, or the command fails.


@pytest.mark.parametrize("by_list", [False, True])
def test_erase_during_a_long_read_fails_and_the_command_in_its_hint_completes_it(
    egec: Egec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_list: bool
) -> None:
    path = tmp_path / "database" / "egec.db"
    monkeypatch.setenv("EGEC_DATABASE_URL", f"sqlite:///{path}")
    assert egec("init").code == 0
    created = egec("client", "create", "odile.secret@example.org", "--format", "json").out
    identifier = json.loads(created)["identifier"]
    (tmp_path / "gone.txt").write_text("odile.secret@example.org\n")
    named = ["--from", "gone.txt"] if by_list else ["odile.secret@example.org"]
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT email FROM client").fetchall()
        ended = run_with([IMPATIENT], "client", "erase", *named, "--yes", "--format", "jsonl")
        assert ended.code == 75
        assert json.loads(ended.out)["outcome"] == "erased"
        error = json.loads(ended.err.splitlines()[-1])["error"]
        assert error["code"] == "copies_remain"
        assert b"odile.secret" in content(path.parent)
        hint = error["hint"].partition("type: egec ")[2].split()
        assert hint == ["client", "erase", identifier, "--yes"]
        assert run_with([IMPATIENT], *hint).code == 75
    assert egec(*hint).code == 0
    assert b"odile.secret" not in content(path.parent)


def test_erase_during_a_write_fails_too(
    egec: Egec, jeanne: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = load.load_settings().database
    assert isinstance(location, SqliteFile)
    # The other process starts its transaction when only the files remain.
    lock = wrap(sql, "vacuum", partial(children.call_beside_writer, location.path))
    ended = run_with([IMPATIENT, lock], "client", "erase", jeanne, "--yes", "--format", "json")
    assert json.loads(ended.out)["outcome"] == "erased"
    assert (ended.code, json.loads(ended.err)["error"]["code"]) == (75, "copies_remain")


@pytest.mark.parametrize("again", [("--from", "gone.txt"), ("--status", "disabled"), ("IDENTIFIER",)], ids=" ".join)
def test_the_same_command_completes_an_erasure_that_was_stopped_before_the_file_was_rewritten(
    egec: Egec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: tuple[str, ...]
) -> None:
    path = tmp_path / "database" / "egec.db"
    monkeypatch.setenv("EGEC_DATABASE_URL", f"sqlite:///{path}")
    assert egec("init").code == 0
    identifier = egec("client", "create", "odile.secret@example.org", "--format", "ids").out.strip()
    egec("client", "disable", identifier, "--reason", "left")
    (tmp_path / "gone.txt").write_text(f"{identifier}\n")
    erase = ("client", "erase", *(identifier if word == "IDENTIFIER" else word for word in again), "--yes")
    kill = wrap(sql, "vacuum", children.kill_itself)
    assert run_with([kill], *erase).code == -signal.SIGKILL
    add_unused_pages(path)
    assert egec(*erase).code == 0
    assert unused_pages(path) == 0
    # Completed, so it is not done again.
    add_unused_pages(path)
    assert egec(*erase).code == 0
    assert unused_pages(path) > 0


def test_erase_rewrites_the_file_only_if_someone_was_erased(
    egec: Egec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "egec.db"
    monkeypatch.setenv("EGEC_DATABASE_URL", f"sqlite:///{path}")
    assert egec("init").code == 0
    jeanne, marc, _ = (
        egec("client", "create", f"{name}@example.org", "--format", "ids").out.strip() for name in ("j", "m", "x")
    )
    (tmp_path / "gone.txt").write_text(f"{marc}\n")
    (tmp_path / "empty.txt").write_text("")
    assert egec("client", "erase", "--from", "gone.txt", "--yes").code == 0
    add_unused_pages(path)
    for nobody in (
        ("--status", "disabled"), ("--email-domain", "example.com"), ("--from", "gone.txt"), ("--from", "empty.txt"),
        ("--all", "--limit", "1", "--dry-run"),
    ):  # fmt: skip
        assert egec("client", "erase", *nobody, "--yes").code == 0
        assert unused_pages(path) > 0, nobody
    for someone in (("--all", "--limit", "1"), (egec("client", "list", "--format", "ids").out.split()[-1],)):
        add_unused_pages(path)
        assert egec("client", "erase", *someone, "--yes").code == 0
        assert unused_pages(path) == 0, someone
    assert egec("client", "show", jeanne, "--format", "json").code == 0


def add_unused_pages(path: Path) -> None:
    """Leave pages without content in the file, which only a rewrite removes."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("CREATE TABLE unused (word TEXT)")
        database.executemany("INSERT INTO unused VALUES (?)", [("x" * 1_000,)] * 100)
        database.execute("DROP TABLE unused")
    assert unused_pages(path) > 0


def unused_pages(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        ((number,),) = database.execute("PRAGMA freelist_count")
    return int(number)


def content(folder: Path) -> bytes:
    # In another process, because closing one of the files here would drop the locks of the reader.
    return subprocess.run(["cat", *folder.iterdir()], capture_output=True, check=True).stdout
