"""Run the program that prints a password or a token: without a shell, a terminal or input, and for a limited time.

What it prints, also as errors, is never shown: it may hold a secret.
"""

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event
from typing import NamedTuple

from egec_cli.errors import ConfigError
from egec_cli.mail.transports.interface import (
    MISCONFIGURED_EXIT_CODES,
    LoginInterrupted,
    LoginSecretUnavailable,
    LoginTimedOut,
)
from egec_cli.settings.types import SecretCommand
from egec_cli.translation import Words, system_message

# How often a running program is looked at, in seconds; the end of its output is noticed at once.
_LOOK_INTERVAL = 0.05
_CHUNK = 65_536
_RUN_IT = Words("Run it by hand, as the same user, to see why.")


class _Program(NamedTuple):
    """A running program, and what ends it.

    `deadline` is a time of the monotonic clock, in seconds; `most` is how many bytes of its output are of use.
    """

    process: "subprocess.Popen[bytes]"
    interruption: Event
    deadline: float
    most: int


def read_output(command: SecretCommand, timeout: float, interruption: Event, *, most: int) -> bytes:
    """Run a program and return the first bytes of its output, `most` or some more, if it succeeds.

    This does not wait for child processes that keep the output open.

    Args:
        timeout: when to end the program with its children, in seconds.
        interruption: ends them at once when it is set.
        most: how many bytes are of use.

    Raises:
        ConfigError: the program cannot be run.
        LoginSecretUnavailable: it failed, did not end in time, or was interrupted.
    """
    setting = command.setting
    try:
        # In a session of its own: it has no terminal to ask at, and its children can be ended with it.
        process = subprocess.Popen(  # noqa: S603 - the program is the operator's
            command.words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise ConfigError(
            "the program in {setting} cannot be run: {reason}",
            "Correct {setting}: the path of a program and its arguments.",
            setting=setting,
            reason=system_message(error) if isinstance(error, OSError) else type(error).__name__,
        ) from None
    assert process.stdout is not None
    with process.stdout, _ended_with_children(process):
        program = _Program(process, interruption, time.monotonic() + timeout, most)
        received = b"".join(_read_pieces(program, process.stdout.fileno()))
        if process.returncode is None and interruption.is_set():
            raise LoginInterrupted(Words("the program in {setting} was interrupted", setting=setting))
        if process.returncode is None:
            raise LoginTimedOut(
                "the program in {setting} did not end within {seconds:g} s",
                _RUN_IT,
                setting=setting,
                seconds=timeout,
            )
    code = process.returncode
    if code in MISCONFIGURED_EXIT_CODES:
        raise ConfigError(
            "the program in {setting} {what}",
            _RUN_IT,
            setting=setting,
            what=Words("failed with exit code {code}", code=code),
        )
    if code < 0:
        raise _failure(setting, Words("was killed by signal {signal}", signal=-code))
    if code > 0:
        raise _failure(setting, Words("failed with exit code {code}", code=code))
    return received


def _failure(setting: str, what: Words) -> LoginSecretUnavailable:
    return LoginSecretUnavailable("the program in {setting} {what}", _RUN_IT, setting=setting, what=what)


@contextmanager
def _ended_with_children(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """End the program and its children after the block, unless the program has ended already."""
    try:
        yield
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _read_pieces(program: _Program, descriptor: int) -> Iterator[bytes]:
    """Yield the start of the output until the program has ended, is interrupted or has used up its time."""
    os.set_blocking(descriptor, False)
    readiness = select.poll()
    readiness.register(descriptor, select.POLLIN)
    kept, is_open = 0, True
    while not program.interruption.is_set() and (left := program.deadline - time.monotonic()) > 0:
        pause = min(left, _LOOK_INTERVAL)
        if is_open:
            readiness.poll(pause * 1000)
        else:
            with suppress(subprocess.TimeoutExpired):
                program.process.wait(pause)
        # Looked at before the output: all that an ended program has printed is there.
        has_ended = program.process.poll() is not None
        piece = _read_piece(descriptor) if is_open else b""
        if piece and kept <= program.most:
            kept += len(piece)
            yield piece
        if has_ended and (not piece or kept > program.most):
            return
        is_open = is_open and piece != b""


def _read_piece(descriptor: int) -> bytes | None:
    """Return new output, an empty text at its end, or None if the program has not printed more yet."""
    try:
        return os.read(descriptor, _CHUNK)
    except BlockingIOError:
        return None
