"""Runs a case in a fork of a process that has imported egec already, and judges how it ended.

Every fortieth case starts a new interpreter instead: slower, but all that a start does is done.
"""

import contextlib
import ctypes
import fcntl
import gc
import json
import os
import pkgutil
import pty
import resource
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import egec_cli
from egec_cli import main
from egec_cli.errors import ExitCode
from tests.fuzz import files, worlds
from tests.fuzz.cases import Case

WHOLE_START = 40
# Most that a case may write to a file; most memory, in bytes.
LARGEST_FILE, MOST_MEMORY = 4_000_000, 2_000_000_000
DOCUMENTED = {int(code) for code in ExitCode} - {70}
CLONE_NEWNS = 0x20000
# How long nothing happens before something is typed at a terminal, in seconds.
PAUSE = 0.15


class Ended(NamedTuple):
    """The result of a case: exit code, negative for a signal, None for a hang; and its output."""

    code: int | None
    out: bytes
    err: bytes
    seconds: float


class Ground(NamedTuple):
    """Where cases run: a scratch folder, the usual database, the longest time, and whether the system is safe."""

    folder: Path
    database: bytes
    deadline: float
    is_protected: bool


def import_all() -> None:
    """Import every module of egec, so that the forks need not."""
    for module in pkgutil.walk_packages(egec_cli.__path__, "egec_cli."):
        if not module.name.endswith("__main__") and ".migrations." not in module.name:
            import_module(module.name)
    for name in ("psycopg", "smtplib", "ssl", "email.message", "typer", "rich.console", "rich.table", "encodings.idna"):
        import_module(name)


def protect(folder: Path) -> bool:
    """Restrict writing of this process and its children to the folder. Return whether that is possible."""
    if os.geteuid() != 0 or ctypes.CDLL(None).unshare(CLONE_NEWNS) != 0:
        return False
    for arguments in (["--make-rprivate", "/"], ["--bind", str(folder), str(folder)], ["-o", "remount,bind,ro", "/"]):
        if subprocess.run(["mount", *arguments], capture_output=True).returncode != 0:
            return False
    return True


def run(case: Case, ground: Ground) -> Ended:
    """Run a case in a folder of its own, which is removed afterwards."""
    # Deep down, so that `../../..` is still inside.
    folder = ground.folder / "a/b/c/d" / str(case.number)
    folder.mkdir(parents=True)
    try:
        _furnish(folder, case, ground)
        return _run_in(folder, case, ground)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _furnish(folder: Path, case: Case, ground: Ground) -> None:
    random = case.random
    files.lay_out(folder, random, ground.database)
    worlds.lay_down(folder / "egec.db", case.database, ground.database, random)
    if case.has_templates:
        files.templates(folder / "templates", random)
    for name, content in case.settings_files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            os.mkfifo(folder / name)
        else:
            (folder / name).write_bytes(content)
            (folder / name).chmod(0o600)


def _run_in(folder: Path, case: Case, ground: Ground) -> Ended:
    output = folder.parent / f"{case.number}.out", folder.parent / f"{case.number}.err"
    keyboard, screen = pty.openpty() if "terminal" in case.streams else (-1, -1)
    began = time.monotonic()
    with _typed(folder, case) as standard_input, output[0].open("wb") as out, output[1].open("wb") as err:
        process = os.fork()
        if process == 0:
            _become(folder, case, ground, [standard_input, out.fileno(), err.fileno()], screen)
    if screen >= 0:
        os.close(screen)
    with _writer_of(folder / "pipe", case.typed):
        status, shown = _wait(process, keyboard, case, ground.deadline)
    if keyboard >= 0:
        os.close(keyboard)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    code = None if status is None else os.waitstatus_to_exitcode(status)
    written = [path.read_bytes() for path in output]
    for path in output:
        path.unlink()
    return Ended(code, written[0], written[1] + shown, time.monotonic() - began)


@contextlib.contextmanager
def _typed(folder: Path, case: Case) -> Iterator[int]:
    path = folder / "typed"
    path.write_bytes(case.typed)
    with path.open("rb") as opened:
        yield opened.fileno()
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def _writer_of(pipe: Path, content: bytes) -> Iterator[None]:
    """Write to the pipe once as soon as a reader opens it, as the shell does in `<(command)`."""
    process = os.fork()
    if process == 0:
        try:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            with pipe.open("wb") as opened:
                opened.write(content)
        finally:
            os._exit(0)
    try:
        yield
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def _become(folder: Path, case: Case, ground: Ground, redirected: list[int], screen: int) -> None:
    """Turn this fork into egec, as if it had just been started. It does not return."""
    try:
        os.setsid()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(case.environment)
        os.environ["TMPDIR"] = str(folder)
        # Nobody presses a key to leave a pager.
        os.environ["PAGER"] = "cat"
        if not ground.is_protected:
            # Without these, files would be written to the home folder of the user who runs this.
            os.environ.update(HOME=str(folder), XDG_DATA_HOME=str(folder), XDG_CONFIG_HOME=str(folder))
        for limit, most in (
            (resource.RLIMIT_FSIZE, LARGEST_FILE),
            (resource.RLIMIT_AS, MOST_MEMORY),
            (resource.RLIMIT_CORE, 0),
        ):
            resource.setrlimit(limit, (most, most))
        if screen >= 0:
            fcntl.ioctl(screen, termios.TIOCSCTTY, 0)
        for number, kind in enumerate(case.streams):
            os.dup2(screen if kind == "terminal" else redirected[number], number)
        for number, kind in enumerate(case.streams):
            if kind == "closed":
                os.close(number)
        os.closerange(3, 256)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if case.number % WHOLE_START == 0:
            os.environ["PYTHONPATH"] = str(worlds.CHECKOUT)
            os.execv(sys.executable, [sys.executable, "-P", "-m", "egec_cli", *case.arguments])
        time.tzset()
        gc.enable()
        sys.argv = ["egec", *case.arguments]
        _open_streams(case)
        main.entry()
    except BaseException:  # noqa: BLE001 - the parent has to see whatever went wrong in the fork
        import traceback

        os.write(2, traceback.format_exc().encode())
    os._exit(70)


def _open_streams(case: Case) -> None:
    # Streams of the interpreter that was forked are dropped without flushing or closing the descriptors.
    streams: list[Any] = [None, None, None]
    for number, kind in enumerate(case.streams):
        if kind != "closed":
            mode, errors = (
                ("r", "surrogateescape") if number == 0 else ("w", "backslashreplace" if number == 2 else "strict")
            )
            streams[number] = open(number, mode, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
    _KEPT.extend([sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__])
    sys.stdin, sys.stdout, sys.stderr = streams
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = streams  # type: ignore[misc]


_KEPT: list[object] = []


def _wait(process: int, keyboard: int, case: Case, deadline: float) -> tuple[int | None, bytes]:
    """Wait for the process, type at its terminal if any, and kill it after its time."""
    ends = time.monotonic() + deadline
    # When nothing else helps, whoever sits there ends the input, then interrupts.
    answers = iter([*case.answers, *[b"\x04"] * 5, *[b"\x03"] * 1_000])
    shown = b""
    handle = os.pidfd_open(process)
    watched = [handle, keyboard] if keyboard >= 0 else [handle]
    try:
        while time.monotonic() < ends:
            ready, _, _ = select.select(watched, [], [], PAUSE if keyboard >= 0 else 1.0)
            if keyboard in ready:
                try:
                    shown += os.read(keyboard, 65_536)
                except OSError:
                    watched.remove(keyboard)
            if handle in ready:
                return os.waitpid(process, 0)[1], shown
            if not ready and keyboard in watched:
                with contextlib.suppress(OSError):
                    os.write(keyboard, next(answers))
    finally:
        os.close(handle)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None, shown


def faults(case: Case, ended: Ended) -> list[str]:
    """Return the faults in the result of a case; usually none."""
    if ended.code is None:
        return [f"hangs: killed after {ended.seconds:.0f} s"]
    found = []
    codes = DOCUMENTED | ({111} if "--checkpassword" in case.arguments else set())
    if ended.code not in codes:
        found.append(f"ends with {ended.code}")
    printed = ended.out + ended.err
    for sign in (
        b"Traceback (most recent",
        b"Exception ignored",
        b"internal error",
        b"Fatal Python",
    ):
        if sign in printed:
            found.append(f"prints {sign.decode()!r}")
    if ended.code in {2, 65, 67, 73, 74, 75, 77, 78} and not printed and case.streams[1:] == ("file", "file"):
        found.append("does not say why it fails")
    asks_for_json = "--format json " in f"{' '.join(case.arguments)} ".replace("=", " ")
    asks_for_text = {"--help", "--version"} & {*case.arguments}
    if ended.code == 0 and ended.out and asks_for_json and not asks_for_text:
        try:
            json.loads(ended.out)
        except ValueError:
            found.append("prints invalid JSON")
    return found
