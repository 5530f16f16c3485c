"""Programs that print a password or a token: slow ones, failing ones, and all kinds of output."""

import os
import signal
import subprocess
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from egec_cli.errors import ConfigError, EgecError
from egec_cli.mail.transports import login_secret
from egec_cli.mail.transports.interface import LoginSecretUnavailable, LoginTimedOut
from egec_cli.mail.transports.login_secret import CommandSecret, FileSecret, end_running_commands
from egec_cli.password import Password
from egec_cli.settings.types import SecretCommand, SecretFile
from tests.activations import PATIENCE, wait_until
from tests.processes import command_of
from tests.tokens import counting_program, number_of_runs, python_program, shell_program

TOKEN = "token-4711-of-a-server"
SETTING = "EGEC_MAIL_TOKEN_COMMAND"
# Longer than any program of these tests needs that is not slow on purpose.
LONG = 20.0


def secret_of(path: Path, *arguments: str, timeout: float = LONG, is_token: bool = True) -> CommandSecret:
    return CommandSecret(SecretCommand(SETTING, (str(path), *arguments)), is_token=is_token, timeout=timeout)


def failure_of(secret: CommandSecret | FileSecret) -> EgecError:
    with pytest.raises(EgecError) as failure:
        secret.get()
    shown = "".join(traceback.format_exception(failure.value)) + failure.value.hint
    assert TOKEN not in shown
    return failure.value


def is_running(process: int) -> bool:
    """Return whether a process exists and has not ended."""
    with suppress(OSError):
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    return False


@pytest.fixture(autouse=True)
def nothing_runs_on() -> Iterator[None]:
    yield
    assert login_secret._running == set()


# Output


@pytest.mark.parametrize(
    "commands",
    [
        f"echo {TOKEN}",
        f"printf {TOKEN}",
        f"printf '{TOKEN}\\r\\n'",
        f"printf '  {TOKEN} \\nsecond line\\n'",
        f"echo {TOKEN}; echo trouble >&2; head -c 1000000 /dev/zero",
        f"printf token-; sleep 0.1; echo {TOKEN.removeprefix('token-')}",
        f"echo {TOKEN}; exec >&-; sleep 0.1",
        f"read input || echo {TOKEN}",
    ],
)
def test_the_first_line_is_the_token(commands: str, tmp_path: Path) -> None:
    assert secret_of(shell_program(tmp_path / "program", commands)).get().reveal() == TOKEN


def test_a_program_gets_its_arguments_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PART", "4711")
    program = python_program(tmp_path / "program", "import os, sys; print(*sys.argv[1:], os.environ['PART'], sep='-')")
    assert secret_of(program, "token", "a").get().reveal() == "token-a-4711"


def test_no_shell_interprets_the_arguments(tmp_path: Path) -> None:
    program = python_program(tmp_path / "program", "import sys; print(sys.argv[1])")
    assert secret_of(program, "$HOME `id` *", is_token=False).get().reveal() == "$HOME `id` *"


def test_a_program_has_no_terminal_and_no_input(tmp_path: Path) -> None:
    statements = """
import os, sys
assert os.read(0, 1) == b""
assert os.getsid(0) == os.getpid()
try:
    os.open("/dev/tty", os.O_RDWR)
except OSError:
    print("token-without-terminal")
"""
    assert secret_of(python_program(tmp_path / "program", statements)).get().reveal() == "token-without-terminal"


def test_a_program_inherits_no_open_connection(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    statements = f"import os\ntry:\n os.fstat({write})\nexcept OSError:\n print('token-alone')"
    assert secret_of(python_program(tmp_path / "program", statements)).get().reveal() == "token-alone"
    os.close(read)
    os.close(write)


@pytest.mark.parametrize(
    ("commands", "words"),
    [
        ("true", "gives an empty first line"),
        ("echo", "gives an empty first line"),
        (f"echo; echo {TOKEN}", "gives an empty first line"),
        (f"echo token {TOKEN}", "gives a first line that is not a token"),
        (f"""echo '{{"access_token":"{TOKEN}"}}'""", "gives a first line that is not a token"),
        (f"printf '{TOKEN}\\001auth=Bearer x\\n'", "gives a first line that is not a token"),
        (f"printf '{TOKEN}\\377\\n'", "gives a first line that is not a token"),
        (f"echo {TOKEN}é", "gives a first line that is not a token"),
        (f"printf '{TOKEN}%100000d\\n' 1 | tr ' ' 0", "gives a first line of more than 8192 bytes"),
        (f"printf '{TOKEN}%100000d' 1 | tr ' ' 0", "gives a first line of more than 8192 bytes"),
    ],
)
def test_a_first_line_that_is_no_token_is_a_fault_of_the_configuration(
    commands: str, words: str, tmp_path: Path
) -> None:
    failure = failure_of(secret_of(shell_program(tmp_path / "program", commands)))
    assert isinstance(failure, ConfigError)
    assert failure.message == f"the program in {SETTING} {words}"


@pytest.mark.parametrize("password", ["a b ", "Pa55:wo/rd é", "-"])
def test_a_password_may_have_spaces_and_letters_beyond_ascii(password: str, tmp_path: Path) -> None:
    program = shell_program(tmp_path / "program", f"echo '{password}'; echo login: egec")
    assert secret_of(program, is_token=False).get().reveal() == password


@pytest.mark.parametrize("output", ["a\\001b", "a\\377b", "a\\000b"])
def test_a_password_with_control_characters_is_a_fault_of_the_configuration(output: str, tmp_path: Path) -> None:
    program = shell_program(tmp_path / "program", f"printf '{output}\\n'")
    assert "is not a password" in failure_of(secret_of(program, is_token=False)).message


# Failures


@pytest.mark.parametrize(
    ("commands", "kind", "words"),
    [
        (f"echo {TOKEN}; exit 1", LoginSecretUnavailable, "failed with exit code 1"),
        (f"echo {TOKEN} >&2; exit 75", LoginSecretUnavailable, "failed with exit code 75"),
        (f"echo {TOKEN}; exit 78", ConfigError, "failed with exit code 78"),
        ("no-such-program", ConfigError, "failed with exit code 127"),
        (f"echo {TOKEN}; kill -9 $$", LoginSecretUnavailable, "was killed by signal 9"),
    ],
)
def test_a_program_that_fails_counts_not_even_with_output(
    commands: str, kind: type[EgecError], words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    failure = failure_of(secret_of(shell_program(tmp_path / "program", commands)))
    assert type(failure) is kind
    assert failure.message == f"the program in {SETTING} {words}"
    assert failure.code == ("login_secret_unavailable" if kind is LoginSecretUnavailable else "configuration")
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


@pytest.mark.parametrize(("mode", "reason"), [(None, "No such file or directory"), (0o600, "Permission denied")])
def test_a_program_that_cannot_be_run_is_a_fault_of_the_configuration(
    mode: int | None, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "program"
    if mode is not None:
        shell_program(path, "true").chmod(mode)
    failure = failure_of(secret_of(path))
    assert isinstance(failure, ConfigError)
    assert failure.message == f"the program in {SETTING} cannot be run: {reason}"


@pytest.mark.parametrize(
    "commands",
    [
        "sleep 60",
        f"echo {TOKEN}; sleep 60",
        f"echo {TOKEN}; exec >&-; sleep 60",
        f"trap '' TERM INT; echo {TOKEN}; sleep 60 & wait",
        f"yes {TOKEN}",
    ],
)
def test_a_program_that_does_not_end_is_ended_with_its_children(commands: str, tmp_path: Path) -> None:
    program = shell_program(
        tmp_path / "program", f"echo $$ > {tmp_path}/pid; (sleep 60 & echo $! > {tmp_path}/child); {commands}"
    )
    began = time.monotonic()
    failure = failure_of(secret_of(program, timeout=0.5))
    assert 0.5 <= time.monotonic() - began < 5
    assert isinstance(failure, LoginTimedOut)
    assert failure.message == f"the program in {SETTING} did not end within 0.5 s"
    for name in ("pid", "child"):
        process = int((tmp_path / name).read_text())
        wait_until(lambda process=process: not is_running(process))  # type: ignore[misc]


def test_a_slow_program_is_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(login_secret, "_UNTOLD", 0.2)
    assert secret_of(shell_program(tmp_path / "quick", f"echo {TOKEN}")).get().reveal() == TOKEN
    assert capsys.readouterr().err == ""
    assert secret_of(shell_program(tmp_path / "slow", f"sleep 1; echo {TOKEN}")).get().reveal() == TOKEN
    assert capsys.readouterr().err == f"egec: waiting for the program in {SETTING}, for at most {LONG:g} s\n"


@pytest.mark.parametrize(
    ("commands", "child"),
    [(f"echo {TOKEN}", "sleep 60"), (f"printf {TOKEN}", "sleep 60"), (f"echo {TOKEN}", "yes trouble")],
)
def test_a_child_that_keeps_the_output_open_is_not_waited_for(commands: str, child: str, tmp_path: Path) -> None:
    program = shell_program(tmp_path / "program", f"{commands}; sleep 0.2; {child} & echo $! > {tmp_path}/child")
    began = time.monotonic()
    assert secret_of(program).get().reveal() == TOKEN
    assert time.monotonic() - began < LONG / 2
    with suppress(ProcessLookupError):
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def test_a_program_leaves_no_open_file_and_no_thread(tmp_path: Path) -> None:
    program = shell_program(tmp_path / "program", f"echo {TOKEN}")
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(5):
        secret_of(program).get()
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before


# Sharing


def test_what_a_program_prints_is_kept_until_it_is_refused(tmp_path: Path) -> None:
    secret = secret_of(counting_program(tmp_path))
    first = secret.get()
    assert secret.get() is first
    second = secret.renew(first)
    assert second is not None
    assert second.reveal() == "token-2"
    # Another thread had the same token refused.
    again = secret.renew(first)
    assert again is not None
    assert again.reveal() == "token-2"
    secret.forget(first)
    assert secret.get().reveal() == "token-2"
    secret.forget(second)
    assert secret.get().reveal() == "token-3"


def test_a_program_that_prints_the_same_again_has_no_other_secret(tmp_path: Path) -> None:
    secret = secret_of(shell_program(tmp_path / "program", f"echo {TOKEN}"))
    assert secret.renew(secret.get()) is None
    assert secret.get().reveal() == TOKEN


def results_of_threads(secret: CommandSecret, number: int) -> list[str]:
    """Let threads get the secret at the same time; return it, or the message of the error, for each."""
    results: list[str] = []
    barrier = threading.Barrier(number)

    def get() -> None:
        barrier.wait()
        try:
            results.append(secret.get().reveal())
        except EgecError as error:
            results.append(error.message)

    threads = [threading.Thread(target=get) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_threads_that_wait_get_the_same_token(tmp_path: Path) -> None:
    secret = secret_of(counting_program(tmp_path, seconds=0.3))
    assert results_of_threads(secret, 4) == ["token-1"] * 4
    assert number_of_runs(tmp_path) == 1


def test_threads_that_wait_get_the_same_failure_and_the_next_attempt_runs_the_program_again(tmp_path: Path) -> None:
    commands = f"echo run >> {tmp_path}/runs; sleep 0.3; test -e {tmp_path}/ready && echo {TOKEN}"
    secret = secret_of(shell_program(tmp_path / "program", commands))
    assert results_of_threads(secret, 4) == [f"the program in {SETTING} failed with exit code 1"] * 4
    assert number_of_runs(tmp_path) == 1
    (tmp_path / "ready").touch()
    assert secret.get().reveal() == TOKEN


def test_running_programs_can_be_ended_from_another_thread(tmp_path: Path) -> None:
    secret = secret_of(shell_program(tmp_path / "program", f"echo $$ > {tmp_path}/pid; sleep 60"))

    def end() -> None:
        wait_until(lambda: (tmp_path / "pid").exists())
        # On a busy machine, the other threads may not wait for the program yet.
        time.sleep(1.0)
        end_running_commands()

    thread = threading.Thread(target=end)
    thread.start()
    began = time.monotonic()
    assert results_of_threads(secret, 3) == [f"the program in {SETTING} was interrupted"] * 3
    assert time.monotonic() - began < LONG / 2
    thread.join()


def get_and_print(path: str) -> None:
    """Get the secret, in a process of its own."""
    try:
        secret_of(Path(path)).get()
    except KeyboardInterrupt:
        print("interrupted", flush=True)


def get_and_print_while_another_thread_gets_a_signal(path: str, pid: str) -> None:
    """Send Ctrl-C to another thread than the one that waits for the program, whose wait it does not break off."""

    def send() -> None:
        wait_until(lambda: Path(pid).exists())
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    threading.Thread(target=send).start()
    get_and_print(path)


def test_ctrl_c_ends_the_program_whichever_thread_gets_the_signal(tmp_path: Path) -> None:
    program = shell_program(tmp_path / "program", f"echo $$ > {tmp_path}/pid; sleep 60")
    call = partial(get_and_print_while_another_thread_gets_a_signal, str(program), str(tmp_path / "pid"))
    began = time.monotonic()
    done = subprocess.run(command_of(call), capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.stdout == "interrupted\n"
    assert time.monotonic() - began < LONG / 2


def test_ctrl_c_ends_the_program_with_its_children(tmp_path: Path) -> None:
    program = shell_program(
        tmp_path / "program", f"(sleep 60 & echo $! > {tmp_path}/child); echo $$ > {tmp_path}/pid; sleep 60"
    )
    process = subprocess.Popen(command_of(partial(get_and_print, str(program))), stdout=subprocess.PIPE, text=True)
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip() != "")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE)
    assert out == "interrupted\n"
    for name in ("pid", "child"):
        assert not is_running(int((tmp_path / name).read_text()))


# Files


def test_a_token_file_is_read_each_time(tmp_path: Path) -> None:
    path = tmp_path / "token"
    secret = FileSecret(SecretFile("EGEC_MAIL_TOKEN_FILE", path))
    for token in ("token-1", "token-2"):
        path.write_text(f"{token}\n")
        path.chmod(0o600)
        assert secret.get().reveal() == token
    assert secret.renew(Password("token-2")) is None
    other = secret.renew(Password("token-1"))
    assert other is not None


def test_a_token_file_that_others_can_change_or_that_is_missing_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "token"
    secret = FileSecret(SecretFile("EGEC_MAIL_TOKEN_FILE", path))
    assert "which cannot be read: No such file or directory" in failure_of(secret).message
    path.write_text(TOKEN)
    path.chmod(0o666)
    failure = failure_of(secret)
    assert isinstance(failure, ConfigError)
    assert "EGEC_MAIL_TOKEN_FILE is refused: " in failure.message
    assert "chmod go-w" in failure.hint
    path.chmod(0o600)
    path.write_text("")
    assert failure_of(secret).message == "the file in EGEC_MAIL_TOKEN_FILE gives an empty first line"
