"""How the program ends: exit codes, messages, pipes, signals, internal errors."""

import errno
import json
import os
import pty
import resource
import signal
import stat
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from threading import Event

import pytest

from egec_cli import __version__, main
from egec_cli.errors import ExitCode
from egec_cli.output import messages
from egec_cli.settings import load
from tests import children
from tests.conftest import Egec
from tests.processes import command_of, egec_after, replace, run_with
from tests.programs import require_program
from tests.screens.emulator import see
from tests.smtp_server import Fault, MailServer, Point

PROGRAM = [sys.executable, "-m", "egec_cli"]


def test_every_exit_code_has_a_meaning() -> None:
    assert all(code.meaning for code in ExitCode)
    assert len({code.meaning for code in ExitCode}) == len(ExitCode)


def test_the_version_is_that_of_the_package(egec_process: Egec) -> None:
    assert egec_process("--version") == (0, f"egec {__version__}\n", "")
    assert egec_process("--env-file", "none", "--version") == (0, f"egec {__version__}\n", "")


@pytest.mark.parametrize("arguments", [("--help",), ("-h",), ("client", "-h"), ("verify", "--help"), ()])
def test_help_goes_to_stdout_without_colour_in_a_pipe(egec_process: Egec, arguments: tuple[str, ...]) -> None:
    ended = egec_process(*arguments)
    assert (ended.code, ended.err) == (0, "")
    assert "Examples:\n  egec " in ended.out or arguments == ("client", "-h")
    assert "\x1b" not in ended.out


@pytest.mark.parametrize("group", ["client", "reissue", "mail", "audit", "db"])
def test_a_group_without_a_command_prints_its_help_to_stderr(egec: Egec, group: str) -> None:
    assert egec(group) == (2, "", egec(group, "--help").out)


@pytest.mark.parametrize(
    "arguments",
    [("--quiet", "client", "list"), ("client", "list", "--quiet")],
)
def test_quiet_goes_before_or_after_the_command(egec: Egec, arguments: tuple[str, ...]) -> None:
    egec("client", "create", "jeanne@example.org")
    assert egec(*arguments) == (0, "", "")


def test_verbose_goes_before_or_after_the_command(egec: Egec) -> None:
    assert "client.create created" in egec("--verbose", "client", "create", "jeanne@example.org").err
    assert "client.create created" in egec("client", "create", "marc@example.org", "--verbose").err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--quiet", "--verbose", "client", "list"),
        ("--quiet", "client", "list", "--verbose"),
        ("client", "list", "--verbose", "--quiet"),
    ],
)
def test_quiet_and_verbose_contradict_each_other_wherever_they_are(egec: Egec, arguments: tuple[str, ...]) -> None:
    ended = egec(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert "--quiet and --verbose contradict each other" in ended.err


def test_the_settings_file_is_named_before_the_command_only(egec: Egec) -> None:
    ended = egec("client", "list", "--env-file", "other.env")
    assert (ended.code, ended.out) == (2, "")
    assert "--env-file goes before the command: egec --env-file FILE client list" in ended.err


def test_help_uses_a_wide_terminal(egec_process: Egec) -> None:
    assert max(map(len, egec_process("client", "list", "-h").out.splitlines())) <= 80
    wide = egec_process("client", "list", "-h", env={"COLUMNS": "140"}).out.splitlines()
    assert 100 < max(map(len, wide)) <= 120


def test_options_are_grouped_by_subject_in_a_long_help_only(egec: Egec) -> None:
    long, short = egec("client", "list", "-h").out, egec("client", "show", "-h").out
    assert [line for line in long.splitlines() if line.endswith(":") and line[0] != " "] == [
        "Selection:", "Output:", "Options:", "Examples:",
    ]  # fmt: skip
    assert [line for line in short.splitlines() if line.endswith(":") and line[0] != " "] == [
        "Arguments:", "Options:", "Examples:",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "wrong", [("clent",), ("client",), ("client", "list", "--limit", "x"), ("--nothing",), ("client", "create")]
)
def test_a_wrong_command_line_ends_with_2_and_points_to_the_help(egec_process: Egec, wrong: tuple[str, ...]) -> None:
    ended = egec_process(*wrong)
    assert (ended.code, ended.out) == (2, "")
    assert "--help" in ended.err


@pytest.mark.parametrize("form", [("--format", "json"), ("--format=jsonl",), ("--format", "csv"), ("--format", "ids")])
def test_with_a_machine_format_an_error_is_one_json_object_on_stderr(egec_process: Egec, form: tuple[str, ...]) -> None:
    for arguments, code in ((("client", "list"), 78), (("client", "create"), 2), (("client", "create", "x"), 65)):
        ended = egec_process(*arguments, *form)
        assert (ended.code, ended.out) == (code, "")
        assert list(json.loads(ended.err)["error"]) == ["code", "message", "hint"]


@pytest.mark.parametrize("form", [("--format", "count"), ("--format=count",), ("--format", "table")])
def test_with_a_format_for_people_an_error_is_in_their_words(egec_process: Egec, form: tuple[str, ...]) -> None:
    missing = egec_process("client", "list", *form)
    assert (missing.code, missing.out) == (78, "")
    assert missing.err.endswith(" does not exist\n      Type `egec init` to create it, or set EGEC_DATABASE_URL.\n")
    egec_process("init")
    wrong = ("client", "erase", "--email-domain", "@x", "--dry-run", *form)
    assert egec_process(*wrong) == (
        2,
        "",
        "egec: invalid e-mail domain: '@x'\n      Write the part after the @ alone, as in example.org.\n",
    )
    assert egec_process(*wrong, env={"LC_ALL": "fr_FR.UTF-8"}).err.startswith("egec: domaine de courriel non valable")


def test_all_faults_of_the_settings_are_reported_at_once(egec_process: Egec) -> None:
    ended = egec_process("client", "list", env={"EGEC_BCRYPT_COST": "99", "EGEC_LANGUAGE": "de"})
    assert ended.code == 78
    assert "EGEC_BCRYPT_COST" in ended.err
    assert "EGEC_LANGUAGE" in ended.err


def test_the_env_file_named_on_the_command_line_is_read(egec_process: Egec, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "my.env").write_text("EGEC_DATABASE_URL=sqlite:///here.db\n")
    assert egec_process("--env-file", "conf/my.env", "init").code == 0
    assert (tmp_path / "conf" / "here.db").exists()
    assert egec_process("--env-file", "nowhere.env", "init").code == 78


def test_an_internal_error_ends_with_70_and_shows_its_lines_but_no_values() -> None:
    defect = replace(load, "load_settings", partial(children.fail_with_local_secret, "fG69a*6jH"))
    for form in ((), ("--format", "json")):
        ended = run_with([defect], "client", "list", *form)
        assert (ended.code, ended.out) == (70, "")
        assert "ValueError" in ended.err
        assert "report" in ended.err
        assert "fG69a*6jH" not in ended.err


def test_a_recursion_shows_the_last_lines_only() -> None:
    ended = run_with([replace(load, "load_settings", children.fail_by_recursion)], "client", "list")
    assert ended.code == 70
    assert 10 < len(ended.err.splitlines()) < 30


def test_the_reader_of_a_pipe_may_close_it(egec: Egec) -> None:
    egec("client", "create", "jeanne@example.org")
    command = f"{' '.join(PROGRAM)} password --count 100000 | head -1; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run([require_program("bash"), "-c", command], capture_output=True, text=True, timeout=60)
    assert ended.stdout.splitlines()[1:] == ["141"]
    assert ended.stderr == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_output_that_cannot_be_written_ends_with_74(egec: Egec) -> None:
    egec("client", "create", "jeanne@example.org")
    with open("/dev/full", "w") as full:
        ended = subprocess.run([*PROGRAM, "client", "list"], stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert ended.returncode == 74
    assert b"output" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("client", "import", "folder"), "folder is a directory\n      Name a file, not a directory."),
        (
            ("client", "import", "text/clients.csv"),
            "text/clients.csv: a part of this path is a file, not a directory\n      Correct the path.",
        ),
    ],
)
def test_a_path_that_cannot_be_read_gets_a_hint_that_fits(
    egec: Egec, tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("no folder")
    ended = egec(*arguments)
    assert ended.code == 74
    assert ended.err.endswith(f"egec: {told}\n")


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.EACCES, "Check the owner and the permissions"),
        (errno.EROFS, "mounted read-only"),
        (errno.ENOSPC, "Free some space"),
        (errno.EDQUOT, "Free some space"),
        (errno.EIO, "Check the disk"),
        (errno.ENAMETOOLONG, "Check the path"),
    ],
)
def test_only_a_full_disk_is_a_reason_to_free_some_space(number: int, hint: str) -> None:
    fail = partial(children.fail_with_system_error, number, "the reason", "clients.csv")
    ended = run_with([replace(load, "load_settings", fail)], "client", "list")
    assert ended.code == 74
    assert "egec: clients.csv: the reason\n" in ended.err
    assert hint in ended.err
    assert ("Free some space" in ended.err) is (hint == "Free some space")


def test_a_value_in_an_error_cannot_add_a_line(egec_process: Egec) -> None:
    url = "sqlite:///no\negec: all is well\x1b[1m.db"
    ended = egec_process("client", "list", env={"EGEC_DATABASE_URL": url})
    assert ended.code == 78
    assert len(ended.err.splitlines()) == 2
    assert "no?egec: all is well?[1m.db" in ended.err.splitlines()[0]


@pytest.mark.parametrize(
    ("closed", "code"), [("1>&-", 74), ("2>&-", 0), ("0<&-", 0), ("1>&- 2>&- 0<&-", 74), ("1> /dev/full", 74)]
)
@pytest.mark.parametrize("command", ["--version", "client list --format json"])
def test_data_that_nobody_can_read_is_an_error_and_other_closed_streams_do_not_matter(
    egec: Egec, closed: str, code: int, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    egec("client", "create", "jeanne@example.org")
    # As in many containers; each line is then written separately.
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    ended = subprocess.run(["sh", "-c", f"{' '.join(PROGRAM)} {command} {closed}"], timeout=60, capture_output=True)
    assert ended.returncode == code
    assert (b"the output could not be written" in ended.stderr) is (code == 74 and "2>&-" not in closed)


def test_a_closed_standard_input_is_invalid_input(egec: Egec) -> None:
    egec("client", "create", "jeanne@example.org")
    ended = subprocess.run(["sh", "-c", f"{' '.join(PROGRAM)} verify --stdin 0<&-"], timeout=60, capture_output=True)
    assert ended.returncode == 65


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGHUP, 129, "terminal was closed"),
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
    ],
)
def test_a_signal_ends_the_command_with_the_code_of_the_signal(egec: Egec, number: int, code: int, word: str) -> None:
    egec("client", "create", "jeanne@example.org")
    # It waits for the password, which never comes.
    with subprocess.Popen(
        [*PROGRAM, "verify", "--stdin"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        while b"egec_cli" not in Path(f"/proc/{process.pid}/cmdline").read_bytes():
            time.sleep(0.01)
        time.sleep(0.5)
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert word in err.decode()
    assert "Traceback" not in err.decode()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_while_the_command_ends_shows_no_traceback(number: int, code: int) -> None:
    send = partial(children.send_to_itself, number)
    ended = run_with([replace(load, "load_settings", send), replace(messages, "report_end", send)], "client", "list")
    assert ended == (code, "", "")


def test_ctrl_c_at_the_prompt_ends_its_line_and_claims_nothing(egec: Egec) -> None:
    egec("init")
    pid, leader = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*PROGRAM, "verify", "1234567890"])
    seen = b""
    while b"Password:" not in seen:
        seen += os.read(leader, 1024)
    os.write(leader, b"\x03")
    try:
        while chunk := os.read(leader, 1024):
            seen += chunk
    except OSError:
        pass
    _, status = os.waitpid(pid, 0)
    os.close(leader)
    assert os.waitstatus_to_exitcode(status) == 130
    assert seen.decode().replace("^C", "").split("\r\n") == ["Password: ", "egec: interrupted", ""]


def test_ctrl_c_while_a_mail_is_sent_reports_that_it_may_have_been_sent(egec: Egec, server: MailServer) -> None:
    identifier = egec("client", "create", "jeanne@example.org", "--activate", "--format", "ids").out.strip()
    arrived = Event()
    server.at(Point.MESSAGE, arrived.set)
    server.fail_always(Fault.SILENT_BEFORE_KEEPING)
    with subprocess.Popen(
        [*PROGRAM, "activate", identifier], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert arrived.wait(20)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.decode() == (
        "egec: interrupted. The mail may have been sent. The previous password still works; the new one works too if "
        f"its mail arrived. If no mail arrives, type `egec activate {identifier}`.\n"
    )
    shown = json.loads(egec("client", "show", identifier, "--format", "json").out)
    assert shown["mails"][0]["failure"] == "interrupted"


@pytest.mark.parametrize("locale", ["C", "POSIX", "fr_FR.ISO-8859-1"])
def test_the_bytes_of_the_output_are_the_same_in_every_locale(egec: Egec, egec_process: Egec, locale: str) -> None:
    egec("client", "create", "jeanne@example.org", "--last-name", "Œuvre 山田")
    environment = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    here = egec_process("client", "list", "--format", "jsonl")
    there = egec_process("client", "list", "--format", "jsonl", env=environment)
    assert here == there
    assert "Œuvre 山田" in here.out


def test_data_is_not_markup_on_a_terminal(egec: Egec) -> None:
    egec("client", "create", "jeanne@example.org", "--last-name", "[/]", "--first-name", "[red]x[/red]")
    seen = see([*PROGRAM, "client", "list"], columns=120)
    assert "  [/]        [red]x[/red]  new" in seen.text


def test_the_prompt_does_not_show_the_password(egec: Egec) -> None:
    egec("client", "create", "jeanne@example.org")
    shown = json.loads(egec("activate", "jeanne@example.org", "--no-mail", "--show-password", "--format", "json").out)
    pid, leader = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*PROGRAM, "verify", shown["identifier"]])
    seen = b""
    while b"Password:" not in seen:
        seen += os.read(leader, 1024)
    os.write(leader, f"{shown['password']}\n".encode())
    try:
        while chunk := os.read(leader, 1024):
            seen += chunk
    except OSError:
        pass
    _, status = os.waitpid(pid, 0)
    os.close(leader)
    assert os.waitstatus_to_exitcode(status) == 0
    assert shown["password"] not in seen.decode()


@pytest.mark.parametrize(("typed", "code"), [(b"\x04", 65), (b"\xe9t\xe9\n", 1)])
def test_invalid_input_at_the_password_prompt_is_handled(egec: Egec, typed: bytes, code: int) -> None:
    egec("init")
    pid, leader = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*PROGRAM, "verify", "1234567890"])
    seen = b""
    while b"Password:" not in seen:
        seen += os.read(leader, 1024)
    os.write(leader, typed)
    try:
        while chunk := os.read(leader, 1024):
            seen += chunk
    except OSError:
        pass
    _, status = os.waitpid(pid, 0)
    os.close(leader)
    assert os.waitstatus_to_exitcode(status) == code
    assert b"internal error" not in seen


@pytest.mark.parametrize(
    "arguments",
    [
        [b"client", b"show", b"ref:\xff"],
        [b"client", b"show", b"\xff@example.org"],
        [b"client", b"create", b"jeanne@example.org", b"--last-name", b"Andr\xe9"],
        [b"client", b"create", b"jeanne@example.org", b"--last-name=\xff", b"--format", b"json"],
        [b"client", b"import", b"\xff.csv"],
        [b"client", b"list", b"--search", b"\xff"],
        [b"reissue", b"start", b"\xff", b"--yes"],
        [b"--env-file", b"\xff", b"init"],
        [b"\xff"],
        [b"verify", b"\xff", b"--password-stdin"],
    ],
    ids=lambda arguments: ascii(b" ".join(arguments)),
)
def test_an_argument_that_is_not_utf_8_is_invalid_input_and_changes_nothing(egec: Egec, arguments: list[bytes]) -> None:
    egec("init")
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (65, "")
    assert "is not UTF-8 text" in done.stderr
    assert egec("client", "list", "--format", "ids").out == ""


# Private files and memory.


def test_all_new_files_are_private_with_any_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (work := tmp_path / "work").mkdir(mode=0o700)
    monkeypatch.chdir(work)
    monkeypatch.setenv("XDG_DATA_HOME", str(work / "share" / "data"))
    (work / "clients.csv").write_text("email;nom\na@example.org;A\nno address;X\n")
    (work / "clients.csv").chmod(0o600)
    for code, *command in (
        (0, "client", "create", "jeanne@example.org", "--activate"),
        (3, "client", "import", "clients.csv", "--rejects", "rejects.csv"),
        (0, "client", "export", "--output", "export.csv"),
        (0, "mail", "preview", "--eml", "mail.eml"),
        (0, "db", "backup", "copy.db"),
        (0, "db", "restore", "copy.db"),
    ):
        assert run_with([partial(os.umask, 0)], *command).code == code
    found = {path: stat.S_IMODE(path.lstat().st_mode) for path in work.rglob("*")}
    names = {path.name for path in found}
    assert {"share", "data", "egec", "egec.db", "mail", "new", "cur", "tmp", "rejects.csv", "copy.db"} <= names
    assert {path: mode for path, mode in found.items() if mode != (0o700 if path.is_dir() else 0o600)} == {}


def test_a_program_that_imports_egec_keeps_its_umask_and_gets_private_files(tmp_path: Path) -> None:
    (work := tmp_path / "work").mkdir(mode=0o700)
    subprocess.run(command_of(partial(children.create_files, work)), check=True, timeout=60)
    found = {path: stat.S_IMODE(path.lstat().st_mode) for path in work.rglob("*")}
    assert len(found) == 5
    assert {path: mode for path, mode in found.items() if mode != (0o700 if path.is_dir() else 0o600)} == {}


def test_a_crash_writes_no_memory_to_a_disk(tmp_path: Path) -> None:
    (work := tmp_path / "work").mkdir()
    allow = partial(children.allow_core_files, work)
    assert subprocess.run(command_of(allow, children.crash), timeout=60).returncode == -signal.SIGSEGV
    if not list(work.iterdir()):
        pytest.skip("this system writes no core files, so none can be missing")
    for path in work.iterdir():
        path.unlink()
    ended = subprocess.run(egec_after(allow, replace(main, "run", children.crash)), capture_output=True, timeout=60)
    assert ended.returncode == -signal.SIGSEGV
    assert list(work.iterdir()) == []


def test_programs_that_take_core_dumps_get_none() -> None:
    # Linux hands them the memory of a process whose limit is 0, but not of one whose limit is 1.
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    command = egec_after(replace(main, "run", children.print_core_limit))
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, f"{int(most != 0)}\n")


def test_the_command_has_the_strictest_umask() -> None:
    look = "main.run = lambda: print(oct(os.umask(0))) or 0\n"
    script = f"import os\nfrom egec_cli import main\nos.umask(0)\n{look}main.entry()"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "0o77\n")
