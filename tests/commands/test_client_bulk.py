"""`egec client disable`, `enable`, `unblock` and `erase` of many clients, and the selectors of all bulk commands."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from egec_cli import clock
from egec_cli.context import open_context
from egec_cli.settings import load
from egec_cli.settings.types import Database
from egec_cli.store.models import Client, Event
from egec_cli.store.sql import insert_many
from tests.commands.test_client_listing import at_terminal
from tests.conftest import Egec, Ended
from tests.smtp_server import MailServer

PROGRAM = [sys.executable, "-m", "egec_cli"]
KEYS = ["identifier", "line", "outcome", "failure", "details"]
PLANNED = [
    "identifier", "email", "reference", "first_name", "last_name", "status", "last_login_at", "created_at", "line",
    "why",
]  # fmt: skip
# All bulk changes, with what they need beside the clients.
CHANGES = [("disable", "--reason", "left"), ("enable",), ("unblock",), ("erase",)]


def add(email: str, *, days: int | None = None, **state: object) -> str:
    """Create a client who logged in this number of days ago, and return the identifier."""
    with open_context(load.load_settings()) as context:
        now = context.clock()
        number = Client.select().count()
        login = None if days is None else now - timedelta(days=days)
        created = {"created_at": now, "updated_at": now, "last_login_at": login, **state}
        client = Client.create(identifier=str(10**9 + number), email=email, email_key=email, **created)
        return str(client.identifier)


def disabled() -> set[str]:
    with open_context(load.load_settings()):
        return {str(client.email) for client in Client.select().where(Client.disabled_at.is_null(False))}


def rows(ended: Ended) -> list[dict[str, object]]:
    return [json.loads(line) for line in ended.out.splitlines()]


@pytest.fixture
def three(egec: Egec) -> list[str]:
    """Return the identifiers of two dormant clients and of one who has never logged in."""
    egec("init")
    return [add("a@example.org", days=800), add("b@example.org", days=900), add("c@example.com")]


@pytest.mark.parametrize("command", CHANGES)
def test_without_a_client_or_selector_nothing_is_changed(
    egec: Egec, three: list[str], command: tuple[str, ...]
) -> None:
    for options in ([], ["--yes"], ["--expect", "3"], ["--limit", "2", "--yes"], ["--dry-run"]):
        ended = egec("client", *command, *options)
        assert (ended.code, ended.out) == (2, ""), options
    (Path.cwd() / "none.txt").write_text("")
    assert egec("client", *command, "--exclude", "none.txt", "--yes").code == 2
    for options in (
        ["--all"],
        ["--from", "none.txt"],
        ["--email-domain", "example.org"],
        ["--dry-run"],
        ["--expect", "1"],
    ):
        assert egec("client", *command, three[0], "--yes", *options).code == 2
    assert disabled() == set()
    assert {client["email"] for client in rows(egec("client", "list", "--format", "jsonl"))} == {
        "a@example.org", "b@example.org", "c@example.com",
    }  # fmt: skip


@pytest.mark.parametrize("command", CHANGES)
def test_without_a_terminal_a_change_by_selectors_needs_yes_or_the_number(
    egec: Egec, three: list[str], command: tuple[str, ...]
) -> None:
    add("off@example.net", days=1, disabled_at=clock.now(), failed_logins=2)
    asked = egec("client", *command, "--all", "--format", "jsonl")
    assert (asked.code, asked.out) == (2, "")
    assert "Add --yes or --expect N" in asked.err
    number = {"disable": 3, "enable": 1, "unblock": 1, "erase": 4}[command[0]]
    wrong = egec("client", *command, "--all", "--expect", str(number + 1), "--format", "json")
    assert (wrong.code, json.loads(wrong.err)["error"]["code"]) == (65, "unexpected_number")
    selected = "1 client is" if number == 1 else f"{number} clients are"
    assert f"{selected} selected, not {number + 1} as expected" in wrong.err
    dry = egec("client", *command, "--all", "--expect", str(number + 1), "--dry-run", "--format", "ids")
    assert (dry.code, dry.out) == (65, "")
    assert egec("client", *command, "--all", "--expect", str(number), "--dry-run").code == 0
    assert wrong.out == ""
    done = egec("client", *command, "--all", "--expect", str(number), "--format", "jsonl")
    assert done.code == 0
    found = rows(done)
    assert [list(row) for row in found] == [KEYS] * number
    assert {(row["line"], row["failure"]) for row in found} == {(None, None)}
    again = egec("client", *command, "--all", "--yes", "--format", "jsonl")
    assert (again.code, again.out) == (0, "")
    # Erased clients are not selected.
    nobody = "no client matches: all clients" if command[0] == "erase" else "no client to change"
    assert again.err == f"egec: {nobody}\n"


@pytest.mark.parametrize("command", CHANGES)
def test_a_dry_run_shows_who_would_be_changed_and_why_and_changes_nothing(
    egec: Egec, three: list[str], command: tuple[str, ...]
) -> None:
    state = {"disabled_at": clock.now()} if command[0] == "enable" else {"failed_logins": 1}
    numbers = [add(f"d{number}@example.net", days=1000, **state) for number in range(12)]
    with open_context(load.load_settings()):
        before = list(Client.select().order_by(Client.id).dicts()), Event.select().count()
    options = ["client", *command, "--last-login-before", "2y", "--email-domain", "example.net", "--dry-run"]
    sample = egec(*options)
    assert sample.code == 0
    lines = sample.out.splitlines()
    assert len(lines) == 11
    assert numbers[0] in lines[1]
    assert "last login 20" in lines[1]
    assert "12 clients would be changed; nothing was changed" in sample.err
    assert "selected: e-mail at example.net; last login more than 2 years ago" in sample.err
    for output in ("jsonl", "json"):
        ended = egec(*options, "--format", output)
        found = rows(ended) if output == "jsonl" else json.loads(ended.out)
        assert [list(row) for row in found] == [PLANNED] * 12
        assert [row["identifier"] for row in found] == numbers
        assert all(str(row["why"]).endswith("e-mail at example.net") for row in found)
    assert egec(*options, "--format", "count").out == "12\n"
    assert egec(*options, "--format", "ids").out.split() == numbers
    assert [row["identifier"] for row in csv.DictReader(io.StringIO(egec(*options, "--format", "csv").out))] == numbers
    with open_context(load.load_settings()):
        assert before == (list(Client.select().order_by(Client.id).dicts()), Event.select().count())


def test_a_terminal_asks_with_the_number_and_the_selectors(egec: Egec, three: list[str]) -> None:
    options = ("client", "disable", "--last-login-before", "2y", "--reason", "dormant")
    code, seen = at_terminal(*options, typed=b"n\n")
    assert code == 1
    assert "selected: last login more than 2 years ago" in seen
    assert "Disable 2 clients? [y/N]:" in seen
    assert "nothing was changed" in seen
    assert disabled() == set()
    code, seen = at_terminal(*options, typed=b"y\n")
    assert code == 0
    assert "2 disabled" in seen
    assert disabled() == {"a@example.org", "b@example.org"}
    code, seen = at_terminal("client", "erase", "--status", "disabled", typed=b"n\n")
    assert (code, "Permanently erase the data of 2 clients?" in seen) == (1, True)
    code, seen = at_terminal("client", "enable", "--status", "disabled", "--expect", "2")
    assert (code, "?" in seen) == (0, False)
    # Nothing to change, so nothing to ask.
    code, seen = at_terminal("client", "enable", "--email-domain", "example.com")
    assert (code, seen.splitlines()) == (0, ["egec: no client to change"])
    code, seen = at_terminal("client", "enable", "--status", "disabled")
    assert (code, seen.splitlines()) == (0, ["egec: no client matches: status disabled"])


@pytest.mark.parametrize("command", CHANGES)
def test_a_change_whose_selectors_match_nobody_says_so(egec: Egec, three: list[str], command: tuple[str, ...]) -> None:
    nobody = ("client", *command, "--email-domain", "nobody.example.org")
    for output, shown in (("jsonl", ""), ("json", "[]\n"), ("count", "0\n"), ("ids", "")):
        ended = egec(*nobody, "--yes", "--format", output)
        assert ended == (0, shown, "egec: no client matches: e-mail at nobody.example.org\n")
        ended = egec(*nobody, "--dry-run", "--format", output)
        assert (ended.code, ended.out) == (0, shown)
        assert ended.err.splitlines() == [
            "egec: selected: e-mail at nobody.example.org",
            "egec: no client matches; nothing was changed",
        ]
    assert "egec: no client matches; nothing was changed" in egec(*nobody, "--dry-run").err
    assert egec("--quiet", *nobody, "--yes") == (0, "", "")


def test_lists_keep_their_behaviour_and_can_be_narrowed(egec: Egec, egec_process: Egec, three: list[str]) -> None:
    Path("names.txt").write_text(f"c@example.com\nunknown@example.org\n{three[0]}\n{three[1]}\n")
    Path("but.txt").write_text("b@example.org\nnobody\n")
    narrowed = egec(
        "client", "disable", "--from", "names.txt", "--exclude", "but.txt", "--last-login-before", "2y",
        "--reason", "x", "--format", "jsonl",
    )  # fmt: skip
    assert narrowed.code == 3
    assert [(row["identifier"], row["line"], row["outcome"]) for row in rows(narrowed)] == [(three[0], 3, "disabled")]
    assert "names.txt:2: unknown client 'unknown@example.org'" in narrowed.err
    assert "but.txt:2: unknown client 'nobody'" in narrowed.err
    plain = egec("client", "disable", "--from", "names.txt", "--reason", "x", "--format", "jsonl")
    assert plain.code == 3
    assert [(row["line"], row["outcome"]) for row in rows(plain)] == [
        (1, "disabled"), (2, "failed"), (3, "unchanged"), (4, "disabled"),
    ]  # fmt: skip
    dry = egec("client", "enable", "--from", "names.txt", "--dry-run", "--format", "jsonl")
    assert (dry.code, [row["line"] for row in rows(dry)]) == (3, [1, 3, 4])
    # A list on standard input leaves no way to ask.
    listed = f"{three[0]}\n"
    assert egec_process("client", "erase", "--from", "-", "--status", "disabled", stdin=listed).code == 2
    done = egec_process("client", "erase", "--from", "-", "--status", "disabled", "--expect", "1", stdin=listed)
    assert done.code == 0
    assert len(disabled()) == 3


def test_selectors_that_cannot_be_meant_are_refused_with_what_to_do(egec: Egec, three: list[str]) -> None:
    for options, words in (
        (["--never-logged-in", "--last-login-before", "2y"], "one with --never-logged-in --created-before 2y"),
        (["--email-domain", "@example.org"], "Write the part after the @ alone"),
        (["--created-before", "2 y"], "as an age: 30min, 12h, 90d, 6w, 12m or 2y"),
        (["--created-after", "1d", "--created-before", "2d"], "Exchange the two"),
        (["--created-before", "2062-01-01"], "--created-before 2062-01-01 is in the future"),
        (["--last-login-before", "0d"], "an age must not be 0"),
    ):
        for command in (["list"], ["export"], ["disable", "--reason", "x", "--yes"], ["erase", "--yes"]):
            ended = egec("client", *command, *options)
            assert (ended.code, ended.out) == (2, ""), ended
            assert words in " ".join(ended.err.split())
        assert egec("reissue", "start", "spring", *options, "--yes").code == 2
    assert disabled() == set()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--limit", "2"], 2, "no client is selected"),
        (["--email-domain", "@example.org"], 2, "invalid e-mail domain"),
        (["--all", "--limit", "0"], 2, "--limit 0 selects no client"),
        (["--created-before", "2062-01-01"], 2, "is in the future"),
        (["--never-logged-in", "--last-login-before", "2y"], 2, "no client matches both"),
        (["--all", "--column", "email"], 2, "--column needs --from or --exclude"),
        (["--all", "--exclude", "missing.txt"], 74, "missing.txt: no such file"),
        (["--all", "--exclude", "names.csv", "--column", "courriel"], 65, "no column"),
    ],
)
def test_wrong_selectors_are_reported_before_a_missing_terminal(
    egec: Egec, three: list[str], options: list[str], code: int, words: str
) -> None:
    Path("names.csv").write_text("email\na@example.org\n")
    for command in (*CHANGES, ("disable", "--reason", "left", "--last-login-before", "2y", "--notify", "30d")):
        if "--notify" in command and ("--limit" in options[:1] or "--never-logged-in" in options):
            continue
        ended = egec("client", *command, *options)
        assert (ended.code, ended.out) == (code, ""), ended
        assert words in ended.err
    ended = egec("reissue", "start", "spring", *options)
    assert (ended.code, ended.out) == (2 if code == 65 else code, "")
    assert (words in ended.err) == (code != 65)
    assert egec("client", "disable", "--all", "--reason", "x").err.startswith("egec: confirmation needs a terminal\n")


@pytest.mark.parametrize(
    "option",
    ["--from", "--exclude", "--email-domain", "--created-before", "--created-after", "--last-login-before",
     "--issued-before", "--column"],
)  # fmt: skip
def test_an_empty_selector_as_from_an_unset_variable_is_refused(egec: Egec, three: list[str], option: str) -> None:
    for command in ("client erase --yes", "client disable --yes --reason x", "reissue start x --yes", "client list"):
        for given in ([option, ""], [f"{option}="]):
            ended = egec(*command.split(), "--status", "new", *given)
            assert ended[:2] == (2, "")
            assert ended.err == f"egec: {option} has an empty value\n      Give a value, or omit it.\n"
    assert len(rows(egec("client", "list", "--status", "new", "--format", "jsonl"))) == 3


@pytest.mark.parametrize("form", ["table", "jsonl"])
def test_nobody_is_changed_if_stdout_is_closed(egec: Egec, three: list[str], form: str) -> None:
    Path("names.txt").write_text("".join(f"{identifier}\n" for identifier in three))
    for selectors in ("--from names.txt", "--all --yes"):
        command = f"{sys.executable} -m egec_cli client disable --reason x --format {form} {selectors} >&-"
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
        assert done.returncode == 74
        assert "Standard output is closed" in done.stderr
    assert disabled() == set()


def test_an_empty_time_limit_is_refused(egec: Egec, three: list[str]) -> None:
    for option, command in (
        ("--notify", "client disable --last-login-before 1y --reason x --yes"),
        ("--older-than", "audit prune --yes"),
    ):
        ended = egec(*command.split(), option, "")
        assert (ended.code, ended.err.splitlines()[0]) == (2, f"egec: {option} has an empty value")
    assert disabled() == set()


def test_a_list_to_erase_is_read_before_the_question(egec: Egec, three: list[str]) -> None:
    Path("names.csv").write_text("email\na@example.org\n")
    Path("broken.txt").write_bytes(b"a@example.org\n\xff\n")
    for options, words in (
        (("--from", "names.csv", "--column", "courriel"), "names.csv has no column 'courriel'"),
        (("--from", "broken.txt"), "broken.txt:2: not UTF-8 text"),
    ):
        code, seen = at_terminal("client", "erase", *options)
        assert code == 65
        assert seen.startswith(f"egec: {words}")
        ended = egec("client", "erase", *options)
        assert (ended.code, ended.out) == (65, "")
        assert ended.err.startswith(f"egec: {words}")
    code, seen = at_terminal("client", "erase", "--from", "-")
    assert (code, "confirmation needs a terminal" in seen) == (2, True)
    ended = egec("client", "erase", "--from", "names.csv", "--column", "email")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("egec: confirmation needs a terminal\n")


def test_a_list_is_not_typed_in_vain(egec: Egec, three: list[str]) -> None:
    """Standard input is a terminal, so the question cannot be asked behind the list, whose end never comes."""
    code, seen = at_terminal("client", "erase", "--from", "-", "--status", "disabled")
    assert code == 2
    assert "confirmation needs a terminal" in seen


def test_the_new_selectors_serve_lists_exports_and_runs(egec: Egec, three: list[str], server: MailServer) -> None:
    for options, expected in (
        (["--last-login-before", "2y"], three[:2]),
        (["--last-login-before", "28m"], three[1:2]),
        (["--email-domain", "EXAMPLE.com"], three[2:]),
        (["--created-after", "1d", "--email-domain", "example.org"], three[:2]),
        (["--created-before", "2020-01-01"], []),
    ):
        assert egec("client", "list", *options, "--format", "ids").out.split() == expected
        exported = egec("client", "export", *options, "--format", "jsonl")
        assert [row["identifier"] for row in rows(exported)] == expected
        planned = egec("reissue", "start", "spring", *options, "--dry-run", "--format", "ids")
        assert planned.out.split() == expected
    options = ["--last-login-before", "2y", "--email-domain", "example.org"]
    assert egec("reissue", "start", "spring", *options, "--expect", "2", "--yes").code == 0
    run = json.loads(egec("reissue", "status", "spring", "--format", "json").out)
    assert run["selection"] == "--email-domain example.org --last-login-before 2y"
    [event] = rows(egec("audit", "list", "--action", "reissue.start", "--format", "jsonl"))
    assert event["details"] == {"clients": 2, "selection": run["selection"]}
    _, card = at_terminal("reissue", "status", "spring")
    assert "e-mail at example.org; last login more than 2 years ago" in card
    # The same selectors, typed in another way, continue the run.
    again = egec("reissue", "start", "spring", "--last-login-before", "2y", "--email-domain", "Example.ORG", "--yes")
    assert again.code == 0
    assert egec("reissue", "start", "spring", "--last-login-before", "3y", "--yes").code == 73


# Interruptions, with real processes on both databases.


@pytest.fixture
def many(location: Database) -> Callable[[], int]:
    """Create 4,000 dormant clients; return a function that counts the disabled ones."""
    columns = (
        "identifier", "email", "email_key", "civility", "first_name", "last_name", "language", "created_at",
        "updated_at", "last_login_at", "active_sequence", "revoked_below", "last_sequence", "failed_logins",
    )  # fmt: skip
    at = "2020-01-01T00:00:00.000Z"
    emails = [f"c{number}@example.org" for number in range(4_000)]
    with open_context(load.load_settings()) as context:
        insert_many(
            context.database,
            "client",
            columns,
            [(str(10**9 + n), email, email, "", "", "", "", at, at, at, 0, 0, 0, 0) for n, email in enumerate(emails)],
        )

    def count() -> int:
        with open_context(load.load_settings()):
            return Client.select().where(Client.disabled_at.is_null(False)).count()

    return count


DISABLE_DORMANT = ["client", "disable", "--last-login-before", "2y", "--reason", "dormant"]
DISABLE = [*PROGRAM, *DISABLE_DORMANT, "--format", "jsonl"]


def require_each_disabled_once() -> None:
    with open_context(load.load_settings()):
        events = Event.select(Event.client).where(Event.action == "client.disable")
        assert (events.count(), events.distinct().count()) == (4_000, 4_000)


def test_after_a_kill_the_same_command_does_the_rest(egec_process: Egec, many: Callable[[], int]) -> None:
    with subprocess.Popen([*DISABLE, "--yes"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        # Once the pipe is full, the command waits in the middle of its work.
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=60) == -signal.SIGKILL
    done = many()
    assert 500 <= done < 4_000
    assert done % 500 == 0
    left = egec_process(*DISABLE_DORMANT, "--dry-run", "--format", "count")
    assert left.out == f"{4_000 - done}\n"
    again = egec_process(*DISABLE[3:], "--expect", left.out.strip())
    assert (again.code, len(again.out.splitlines())) == (0, 4_000 - done)
    assert many() == 4_000
    require_each_disabled_once()


def test_a_closed_pipe_ends_the_change_between_two_batches(egec_process: Egec, many: Callable[[], int]) -> None:
    with subprocess.Popen([*DISABLE, "--yes"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 141
    done = many()
    assert 500 <= done < 4_000
    assert egec_process(*DISABLE[3:], "--yes").code == 0
    assert many() == 4_000
    require_each_disabled_once()


def test_an_erasure_that_was_killed_is_completed_with_its_traces(egec_process: Egec, many: Callable[[], int]) -> None:
    erase = ["client", "erase", "--last-login-before", "2y", "--yes", "--format", "jsonl"]
    with subprocess.Popen([*PROGRAM, *erase], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    again = egec_process(*erase)
    assert again.code == 0
    assert 0 < len(again.out.splitlines()) <= 3_500
    with open_context(load.load_settings()) as context:
        assert Client.select().where(Client.email.is_null(False)).count() == 0
        location = context.settings.database
    if path := getattr(location, "path", None):
        assert b"c3999@example.org" not in b"".join(one.read_bytes() for one in path.parent.glob("egec.db*"))
    assert egec_process(*erase).out == ""


def test_ctrl_c_leaves_whole_batches(egec_process: Egec, many: Callable[[], int]) -> None:
    with subprocess.Popen([*DISABLE, "--yes"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        os.kill(process.pid, signal.SIGINT)
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
        assert process.wait(timeout=60) in {130, 141}
    assert many() % 500 == 0
    assert egec_process(*DISABLE[3:], "--yes").code == 0
    require_each_disabled_once()


def test_a_change_never_waits_for_a_pager_nor_ends_with_it(egec: Egec, tmp_path: Path) -> None:
    for number in range(6):
        egec("client", "create", f"c{number}@example.org")
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho paged\nhead -n 1\n")
    pager.chmod(0o700)
    for command in (("disable", "--reason", "left"), ("enable",)):
        code, seen = at_terminal("client", *command, "--all", "--yes", lines=5, PAGER=str(pager))
        assert (code, "paged" in seen) == (0, False)
        assert f"6 {command[0]}d" in seen
