"""The contract: each command writes the results and ends with the exit codes that the reference lists."""

import csv
import io
import json
import os
import pty
import re
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import pytest

import egec_cli
from egec_cli.commands.contract import CONTRACT, ERRORS, EVERY_COMMAND, READING, Result
from egec_cli.credentials import issue
from egec_cli.errors import ExitCode
from egec_cli.output.messages import ErrorRecord
from egec_cli.reissue import threads
from tests import world
from tests.conftest import Egec, Ended
from tests.processes import IMPATIENT, egec_after, replace, run_with
from tests.reference import command_tree
from tests.smtp_server import Fault, MailServer
from tests.world import BUSY, JEANNE, MARC, PAUL, ZOE, World

AWAY = {"EGEC_MAIL_URL": "smtp://127.0.0.1:1?tls=none"}


class Case(NamedTuple):
    """A command line, its expected exit code, and the index of its expected result, if any."""

    line: str
    code: int
    result: int | None = None
    stdin: str = ""
    env: dict[str, str] = {}  # noqa: RUF012 - no case changes it
    answer: str = ""

    @property
    def path(self) -> str:
        return max((path for path in CONTRACT if f"{self.line} ".startswith(f"{path} ")), key=len)


CASES = [
    Case("init", 0, 0),
    Case("client create new@example.org", 0, 0),
    Case("client create new@example.org --activate", 0, 1),
    Case("client create no-address", 65),
    Case("client create jeanne@example.org", 73),
    Case("client create jeanne@example.org --if-missing", 0, 0),
    Case("client create other@example.org --reference D-jeanne", 73),
    Case(f"client create other@example.org --identifier {ZOE}", 73),
    Case("client create new@example.org --activate", 75, 1, env=AWAY),
    Case("client create refused@example.org --activate", 65, 1),
    Case("client import clients.csv", 0, 0),
    Case("client import partly.csv", 3, 0),
    Case("client import partly.csv --strict", 65),
    Case("client import none.csv", 65),
    Case(f"client show {JEANNE}", 0, 0),
    Case(f"client show {ZOE} --full", 0, 0),
    Case(f"client show {MARC} --full", 0, 0),
    Case("client show unknown@example.org", 67),
    Case("client list", 0, 0),
    Case("client list --status blocked", 0, 0),
    Case("client list --from partly.txt", 3, 0),
    Case("client list --from broken.txt --column x", 65),
    Case("client list --after unknown@example.org", 67),
    Case("client export", 0, 0),
    Case("client export --with-hashes", 0, 1),
    Case("client export --from partly.txt", 3, 0),
    Case("client export --from broken.txt --column x", 65),
    Case("client export --output some.txt", 73),
    Case(f"client update {JEANNE} --last-name Petit", 0, 0),
    Case(f"client update {JEANNE} --email jeanne.petit@example.org", 3, 0, env=AWAY),
    Case(f"client update {JEANNE} --email no-address", 65),
    Case("client update unknown@example.org --last-name Petit", 67),
    Case(f"client update {JEANNE} --email marc@example.org", 73),
    Case(f"client update {ZOE} --last-name Petit", 77),
    Case(f"client update {JEANNE} --identifier 1111111111", 77),
    *(
        case
        for act in ("disable --reason left", "enable", "unblock", "erase --yes")
        for case in (
            Case(f"client {act} {JEANNE}", 0, 0),
            Case(f"client {act} --from some.txt", 0, 1),
            Case(f"client {act} --from partly.txt", 3, 1),
            Case(f"client {act} --from broken.txt --column x", 65),
            Case(f"client {act} --all --dry-run", 0, 2),
            Case(f"client {act} --all --expect 999", 65),
            Case(f"client {act} unknown@example.org", 67),
        )
    ),
    *(Case(f"client {act} {ZOE}", 77) for act in ("disable --reason left", "enable", "unblock")),
    *(
        Case(f"{act} jeanne", 1, answer="n")
        for act in (
            "client update --last-name Petit",
            "client disable --reason left",
            "client enable",
            "client unblock",
            "activate",
        )
    ),
    Case("client disable --from some.txt --never-logged-in --created-before 2y --reason left --notify 30d", 0, 1),
    Case("client show example --match", 67),
    Case(f"client erase --yes {BUSY}", 75),
    Case(f"client erase {JEANNE}", 1, answer="n"),
    Case(f"activate {JEANNE}", 0, 0),
    Case(f"activate {JEANNE} --no-mail --show-password", 0, 1),
    Case(f"activate {MARC}", 65),
    Case("activate unknown@example.org", 67),
    Case(f"activate {JEANNE}", 75, env=AWAY),
    Case(f"activate {PAUL}", 77),
    Case("activate --stdin", 0, 2, stdin="jeanne.txt"),
    Case("activate --stdin", 65, 2, stdin="marc.txt"),
    Case("activate --stdin", 67, 2, stdin="some.txt"),
    Case("activate --stdin", 75, 2, stdin="jeanne.txt", env=AWAY),
    Case("activate --stdin", 77, 2, stdin="paul.txt"),
    Case("verify --stdin", 0, 0, stdin="login.txt"),
    Case(f"verify {JEANNE} --password-stdin", 1, 0, stdin="some.txt"),
    Case(f"verify {JEANNE} --password-stdin --explain", 1, 1, stdin="some.txt"),
    Case("verify --stdin --explain", 0, 1, stdin="login.txt"),
    Case("verify jeanne@example.org --password-stdin --explain --no-count", 1, 1, stdin="some.txt"),
    Case("verify example --match --password-stdin --explain", 67, stdin="some.txt"),
    Case("verify --batch logins.csv", 3, 2),
    Case("verify --batch no-logins.csv", 65, 2),
    Case("verify --checkpassword true", 0, stdin="checkpassword"),
    Case("verify --checkpassword no-such-program", 111, stdin="checkpassword"),
    Case("reissue start spring --from some.txt --yes", 0, 0),
    Case("reissue start spring --from partly.txt --yes", 3, 0),
    Case("reissue start spring --from marc.txt --yes", 3, 0),
    Case("reissue start spring --from some.txt --dry-run", 0, 2),
    Case("reissue start spring --from some.txt --expect 9 --yes", 65),
    Case("reissue start done --all --yes", 73),
    Case("reissue start spring --all", 1, answer="n"),
    Case("reissue start cancelled --all --yes", 77),
    Case("reissue resume done", 0, 0),
    Case("reissue resume failed", 3, 0),
    Case("reissue resume paused --dry-run", 0, 2),
    Case("reissue resume nothing", 65),
    Case("reissue resume cancelled", 77),
    Case("reissue status done", 0, 0),
    Case("reissue status", 0, 1),
    Case("reissue status failed --failed", 0, 2),
    Case("reissue status failed --items", 0, 2),
    Case("reissue status nothing", 65),
    Case("reissue retry done", 0, 0),
    Case("reissue retry failed", 3, 0),
    Case("reissue retry failed --dry-run", 0, 2),
    Case("reissue retry cancelled --dry-run", 77),
    Case("reissue retry nothing", 65),
    Case("reissue retry cancelled", 77),
    Case("reissue cancel paused --yes", 0, 0),
    Case("reissue cancel paused", 1, answer="n"),
    Case("reissue cancel nothing --yes", 65),
    Case("reissue cancel done --yes", 77),
    Case("mail check --no-connection", 0, 0),
    Case("mail check", 75, 0, env=AWAY),
    Case("mail check", 78, 0, env={"EGEC_MAIL_URL": "sendmail:/no/such"}),
    Case("mail check", 3, 0, env={"EGEC_MAIL_URL": "maildir:mail"}),
    Case(f"mail preview {JEANNE}", 0),
    Case("mail preview --language de", 65),
    Case("mail preview unknown@example.org", 67),
    Case("mail preview --html some.txt", 73),
    Case("mail test you@example.org", 0, 0),
    Case("mail test marc@example.org", 65),
    Case("mail test you@example.org", 75, env=AWAY),
    Case("mail bounces report.eml", 3, 0),
    Case("mail bounces empty.mbox", 65, 0),
    Case("mail bounces -", 0, 0, stdin="report.eml"),
    Case("password", 0, 0),
    Case("password --entropy", 0, 1),
    Case("audit list", 0, 0),
    Case("audit list --run nothing", 65),
    Case("audit list --client unknown@example.org", 67),
    Case("audit prune --yes", 0, 0),
    Case("audit prune --older-than 1min --yes", 0, 0),
    Case("audit prune --older-than 1min", 1, answer="n"),
    Case("stats", 0, 0),
    Case("stats --since 7d", 0, 0),
    Case("db status", 0, 0),
    Case("db upgrade", 0, 0),
    Case("db backup copy.db", 0, 0),
    Case("db backup some.txt", 73),
    Case("db restore some.txt", 65),
    Case("db restore some.txt", 1, answer="n"),
    Case("doctor", 3, 0),
    Case("doctor", 75, 0, env=AWAY),
    Case("completion bash", 0),
    Case("help", 0),
    Case("help in_doubt", 0),
]


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("world") / "kept"


@pytest.fixture
def small_world(tmp_path: Path, kept: Path, egec: Egec, server: MailServer, monkeypatch: pytest.MonkeyPatch) -> World:
    return world.create_world(tmp_path, kept, egec, server, monkeypatch)


def ended(line: str, stdin: Path | None = None, redirection: str = "") -> Ended:
    """Run `egec` with input on descriptors 0 and 3."""
    redirected = f"< {stdin} 3< {stdin}" if stdin else "< /dev/null"
    redirected += redirection
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m egec_cli {line} {redirected}"], capture_output=True, timeout=60
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


def code_at_terminal(line: str, answer: str) -> int:
    """Run `egec` at a terminal, and answer its question."""
    pid, leader = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "egec_cli", *line.split()])
    os.write(leader, f"{answer}\n".encode())
    _, status = os.waitpid(pid, 0)
    os.close(leader)
    return os.waitstatus_to_exitcode(status)


def conforms(value: Any, hint: Any) -> bool:
    """Tell whether a value from JSON has a type."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(conforms(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if origin is dict:
        return isinstance(value, dict)
    if origin is not None and issubclass(origin, Sequence):
        return isinstance(value, list) and all(conforms(one, parts[0]) for one in value)
    if hint is NoneType:
        return value is None
    if issubclass(hint, Enum):
        return value in list(hint)
    if hasattr(hint, "_fields"):
        return isinstance(value, dict) and is_of(value, (hint,))
    # Python takes True for an integer; JSON does not.
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def is_of(record: dict[str, Any], parts: Sequence[type[Any]]) -> bool:
    """Tell whether an object has the keys of these classes, in order, and values of their types."""
    hints = {name: hint for part in parts for name, hint in get_type_hints(part).items()}
    names = [name for part in parts for name in part._fields]
    return list(record) == names and all(conforms(value, hints[name]) for name, value in record.items())


def records(text: str, output: str, result: Result) -> list[dict[str, Any]]:
    """Return the objects of an output, which must have the shape of the result."""
    if output == "jsonl":
        found = [json.loads(line) for line in text.splitlines()]
        assert result.many or len(found) == 1
        return found
    whole = json.loads(text)
    assert isinstance(whole, list if result.many else dict)
    return whole if isinstance(whole, list) else [whole]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.line} {case.code}")
def test_a_command_writes_the_keys_and_types_and_ends_with_the_code_that_the_reference_says(
    small_world: World, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in case.env.items():
        monkeypatch.setenv(name, value)
    if case.answer:
        assert code_at_terminal(case.line, case.answer) == case.code
        return
    has_format = bool(CONTRACT[case.path].results)
    line = f"{case.line} --format json" if has_format else case.line
    done = ended(line, small_world.folder / case.stdin if case.stdin else None)
    assert done.code == case.code, done
    if case.result is not None:
        result = CONTRACT[case.path].results[case.result]
        found = records(done.out, "json", result)
        assert all(is_of(record, result.parts) for record in found), found
    elif has_format and case.code not in (0, 111):
        assert done.out == ""
    if (case.code >= 64 and case.code != 111 and case.result is None) or '{"error"' in done.err:
        is_an_error(done, in_json=has_format)


def is_an_error(done: Ended, *, in_json: bool) -> None:
    """Require that stderr holds one of the errors of the reference."""
    if not in_json:
        assert done.err.startswith("egec: ")
        return
    told = json.loads(done.err.splitlines()[-1])
    assert list(told) == ["error"]
    assert is_of(told["error"], (ErrorRecord,))
    assert ERRORS[told["error"]["code"]][0] == done.code


# The first case of each command that does something.
WORKING = list({case.path: case for case in reversed(CASES) if case.code in (0, 3) and not case.answer}.values())


@pytest.mark.parametrize("case", WORKING, ids=lambda case: case.path)
def test_a_closed_stdout_is_an_error_like_a_full_disk_unless_nothing_is_written(small_world: World, case: Case) -> None:
    done = ended(case.line, small_world.folder / case.stdin if case.stdin else None, " >&-")
    assert done.code == (0 if case.line == "verify --stdin" else 74), done
    assert ("egec: the output could not be written: " in done.err) is (done.code == 74)
    assert "internal error" not in done.err


@pytest.mark.parametrize("redirection", [" 2>&-", " 2> /dev/full"])
@pytest.mark.parametrize(
    "case", [case for case in WORKING if case.path in ("client import", "activate", "reissue start", "client list")],
    ids=lambda case: case.path,
)  # fmt: skip
def test_a_stderr_that_cannot_be_written_changes_nothing(small_world: World, case: Case, redirection: str) -> None:
    done = ended(f"--verbose {case.line}", None, redirection)
    assert (done.code, done.err) == (case.code, "")
    assert done.out != ""


IN_LINES = [case for case in CASES if case.result is not None and case.stdin == "" and not case.answer]


@pytest.mark.parametrize("case", IN_LINES, ids=lambda case: f"{case.line} {case.code}")
def test_jsonl_and_csv_have_the_same_keys_as_json(
    small_world: World, egec: Egec, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in case.env.items():
        monkeypatch.setenv(name, value)
    results = CONTRACT[case.path].results
    by_line = [result for result in results if result.when.startswith("--format")]
    result = by_line[0] if by_line and case.result == 0 else results[case.result or 0]
    done = egec(*case.line.split(), "--format", "jsonl")
    assert done.code == case.code
    found = records(done.out, "jsonl", result)
    assert all(is_of(record, result.parts) for record in found), found
    # A command that works only once has no result the second time.
    rows = list(csv.reader(io.StringIO(egec(*case.line.split(), "--format", "csv").out)))
    assert rows[:1] in ([], [result.keys])


def test_every_result_and_every_exit_code_of_a_command_has_a_case() -> None:
    common = {*EVERY_COMMAND, *(code for codes in READING.values() for code in codes)}
    for path, contract in CONTRACT.items():
        cases = [case for case in [*CASES, *ELSEWHERE] if case.path == path]
        met = {case.result for case in cases}
        for number, result in enumerate(contract.results):
            assert number in met or result.when.startswith("--format"), (path, result)
        codes = {case.code for case in cases}
        assert set(contract.exits) <= codes, path
        assert codes <= {*contract.exits, *common}, path


# These have tests of their own below, and an upgrade has others beside that of the schemas of releases.
ELSEWHERE = [
    Case("verify --stdin", 75),
    Case("db upgrade", 75),
    Case("db restore copy.db", 0, 0),
    Case("db restore copy.db", 75),
    Case("doctor", 78),
    Case("client disable --from some.txt --never-logged-in --created-before 2y --reason left --notify 30d", 75),
    *(Case(f"reissue {act}", 75) for act in ("start", "resume", "retry")),
    Case("client create office@example.org --if-missing", 67),
    Case("activate office@example.org", 0, 3),
    Case("activate office@example.org", 3, 3),
]


def test_an_activation_by_a_shared_email_has_a_result_for_each_client(
    small_world: World, egec: Egec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGEC_SHARED_EMAIL", "yes")
    for number in range(2):
        egec("client", "create", "office@example.org", "--reference", f"D-office-{number}")
    is_an_error(ended("client create office@example.org --if-missing --format json"), in_json=True)
    result = CONTRACT["activate"].results[3]
    for code in (0, 3):
        if code:
            small_world.server.fail_next(Fault.RCPT_451)
        for output in ("json", "jsonl"):
            done = ended(f"activate office@example.org --format {output}")
            assert done.code == (code if output == "json" else 0), done
            found = records(done.out, output, result)
            assert len(found) == 2
            assert all(is_of(record, result.parts) for record in found), found
    rows = list(csv.reader(io.StringIO(ended("activate office@example.org --format csv").out)))
    assert rows[0] == result.keys


def test_a_run_ends_with_75_if_the_mail_server_is_unavailable(
    small_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGEC_MAIL_URL", AWAY["EGEC_MAIL_URL"])
    program = [*egec_after(replace(threads, "FIRST_WAIT_FOR_SERVER", 0.05)), "reissue"]
    lines = ("start spring --from some.txt --yes", "resume paused", "retry failed")
    # In parallel, as each command retries the server several times.
    running = [
        subprocess.Popen([*program, *line.split(), "--format", "json"], stderr=subprocess.PIPE, text=True)
        for line in lines
    ]
    for one in running:
        _, err = one.communicate(timeout=60)
        assert one.returncode == 75
        is_an_error(Ended(75, "", err), in_json=True)


def test_db_restore_writes_its_result_and_does_not_wait(small_world: World) -> None:
    assert ended("db backup copy.db").code == 0
    done = ended("db restore copy.db --format json")
    assert done.code == 0
    assert is_of(json.loads(done.out), CONTRACT["db restore"].results[0].parts)
    with closing(sqlite3.connect(small_world.folder / "data" / "egec.db")) as connection:
        connection.execute("BEGIN IMMEDIATE")
        busy = run_with([IMPATIENT], "db", "restore", "copy.db", "--format", "json")
    assert busy.code == 75
    is_an_error(busy, in_json=True)


def test_doctor_ends_with_78_if_it_finds_an_error(small_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EGEC_MAIL_URL", "sendmail:/no/such")
    done = ended("doctor --format json")
    assert done.code == 78
    assert all(is_of(record, CONTRACT["doctor"].results[0].parts) for record in json.loads(done.out))


# Copies and restores work on any database.
@pytest.mark.parametrize("path", [path for path in CONTRACT if path not in {"db backup", "db restore"}])
def test_what_a_command_reads_can_end_it_with_78(
    small_world: World, egec: Egec, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = next(case.line for case in [*CASES, *ELSEWHERE] if case.path == path and case.result in (0, None))
    reads = CONTRACT[path].reads
    with closing(sqlite3.connect(small_world.folder / "data" / "egec.db")) as connection:
        connection.execute("UPDATE schema_migration SET name = '9999' || name")
        connection.commit()
    assert (egec(*line.split()).code == 78) == ("database" in reads)
    monkeypatch.setenv("EGEC_LANGUAGE", "de")
    assert (egec(*line.split()).code == 78) == ("settings" in reads)


def test_the_reference_has_every_command_and_no_other() -> None:
    assert list(CONTRACT) == [command.path for command in command_tree.commands()]


def test_the_commands_with_a_machine_format_are_those_with_a_result() -> None:
    for command in command_tree.commands():
        has_format = any("--format" in option.names for option in command.options)
        assert has_format == bool(CONTRACT[command.path].results), command.path


def codes_in_the_source() -> set[str]:
    """Return every error code in the source, of classes and of single errors."""
    sources = (path.read_text(encoding="utf-8") for path in Path(egec_cli.__file__).parent.rglob("*.py"))
    found = re.findall(r'\bcode ?= ?"(\w+)"', "".join(sources))
    return {*found, *issue.NOT_ACTIVATABLE, issue.TOO_MANY_IN_DOUBT}


def test_the_codes_of_errors_are_those_of_the_source() -> None:
    assert set(ERRORS) == codes_in_the_source()


def test_an_exit_code_of_an_error_is_one_of_the_programs() -> None:
    assert {code for code, _ in ERRORS.values()} <= set(ExitCode)
