"""`egec` as a process, forked from one that has loaded it: a third of the time of starting Python and loading it again.

Each has its own descriptors, environment, working folder and, if wanted, session, and ends as `egec` ends. Where the
start of Python is the point of a test, as with a closed stream or with PYTHONUTF8, start it instead.
"""

import atexit
import fcntl
import functools
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

_ROOT = Path(__file__).resolve().parents[1]


# Those that change how Python starts.
_PYTHONS = {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}


def starts_alike(environ: Mapping[str, str]) -> bool:
    """Return whether Python would start in this environment as it does in the usual one."""
    locale = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG", "")
    changing = {name: value for name, value in environ.items() if name.startswith("PYTHON")}
    return locale.endswith("UTF-8") and changing.items() <= _PYTHONS.items()


class Forked:
    """A process that runs `egec`, to be used like one of `subprocess`."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        streams: Sequence[int],
        environ: Mapping[str, str],
        folder: Path | None = None,
        is_session: bool = False,
    ) -> None:
        """Start it.

        Args:
            arguments: those of the command.
            streams: the descriptors of its standard input, output and error.
            environ: its environment.
            folder: where it runs; by default, where the tests do.
            is_session: whether it leads a session of its own, at the terminal that is its standard input.
        """
        self._connection, other = socket.socketpair()
        with other:
            socket.send_fds(_server(), [b"+"], [other.fileno(), *streams])
        request = [list(arguments), dict(environ), str(folder or Path.cwd()), is_session]
        self._connection.sendall(json.dumps(request).encode())
        self._connection.shutdown(socket.SHUT_WR)
        self._pid = self._receive()
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return its exit code if it has ended."""
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code once it has ended.

        Raises:
            TimeoutError: that takes longer than these seconds.
        """
        if self.returncode is None:
            self._connection.settimeout(timeout)
            self.returncode = self._receive()
            self._connection.close()
        return self.returncode

    def kill(self) -> None:
        """End it at once."""
        self._send(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to stop."""
        self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self._pid, number)

    def _receive(self) -> int:
        answer = self._connection.recv(4, socket.MSG_WAITALL)
        assert len(answer) == 4, "the process that forks has failed"
        return int.from_bytes(answer, signed=True)


def run(
    arguments: Sequence[str], *, stdin: bytes, environ: Mapping[str, str], timeout: float
) -> tuple[int, bytes, bytes]:
    """Run `egec` until it ends; return its exit code, output and errors.

    Raises:
        TimeoutError: that takes longer than these seconds.
    """
    (its_input, keyboard), (output, its_output), (errors, its_errors) = os.pipe(), os.pipe(), os.pipe()
    its_own = (its_input, its_output, its_errors)
    process = Forked(arguments, streams=its_own, environ=environ)
    for descriptor in its_own:
        os.close(descriptor)
    with ThreadPoolExecutor(2) as pool:
        read = [pool.submit(_read, descriptor) for descriptor in (output, errors)]
        try:
            # One that does not read all of its input closes the pipe.
            with suppress(BrokenPipeError), open(keyboard, "wb") as file:
                file.write(stdin)
            code = process.wait(timeout)
        finally:
            process.kill()
    return code, read[0].result(), read[1].result()


def _read(descriptor: int) -> bytes:
    with open(descriptor, "rb") as file:
        return file.read()


@functools.cache
def _server() -> socket.socket:
    """Start the process that forks; return what it listens to. It ends with the tests."""
    own, other = socket.socketpair()
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("EGEC_", "LC_"))}
    with other:
        process = subprocess.Popen(
            [sys.executable, "-c", f"from tests import forked; forked.serve({other.fileno()})"],
            cwd=_ROOT,
            env=environ | {"LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[other.fileno()],
        )

    def end() -> None:
        own.close()
        process.wait()

    atexit.register(end)
    return own


def serve(descriptor: int) -> None:
    """Fork for each request that arrives, until the tests end."""
    import egec_cli

    for module in pkgutil.walk_packages(egec_cli.__path__, "egec_cli."):
        if not module.name.startswith(("egec_cli.__main__", "egec_cli.store.migrations.")):
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listener = socket.socket(fileno=descriptor)
    while descriptors := socket.recv_fds(listener, 1, 4)[1]:
        if os.fork() == 0:
            listener.close()
            _answer(*descriptors)
        for each in descriptors:
            os.close(each)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _answer(descriptor: int, *streams: int) -> NoReturn:
    """Run `egec` as requested; tell its process id, and at its end its exit code."""
    with socket.socket(fileno=descriptor) as connection:
        with connection.makefile("rb") as file:
            request = json.load(file)
        pid = os.fork()
        if pid == 0:
            _become_egec(streams, *request)
        connection.sendall(pid.to_bytes(4, signed=True))
        for each in streams:
            os.close(each)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        # The test may have gone on.
        with suppress(BrokenPipeError):
            connection.sendall(code.to_bytes(4, signed=True))
    os._exit(0)


def _become_egec(
    streams: Sequence[int], arguments: list[str], environ: dict[str, str], folder: str, is_session: bool
) -> None:
    from egec_cli import main

    for own, given in enumerate(streams):
        os.dup2(given, own)
    os.closerange(3, 1024)
    if is_session:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # As Python opens them in this locale.
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115 - until it ends
    sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115 - until it ends
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.argv = [f"{Path(main.__file__).parent}/__main__.py", *arguments]
    main.entry()
