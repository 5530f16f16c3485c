"""The password or token of a login: from the settings, or from a program or a file when a connection needs it.

All connections of this process share what a program printed. It is never shown, as it may hold a secret.
"""

import re
import time
from functools import cache
from math import inf
from threading import Event, Lock, Thread
from typing import Protocol

from egec_cli.errors import ConfigError, EgecError
from egec_cli.output.messages import note
from egec_cli.password import Password
from egec_cli.settings import trust
from egec_cli.settings.types import SecretCommand, SecretFile, SmtpServer
from egec_cli.translation import Words, system_message

# How long a program may take, in seconds.
COMMAND_TIMEOUT = 30.0
# How long to wait for the end of a program that is interrupted, in seconds.
_LONGEST_END = 5.0
# A program that takes up to this long needs no words, in seconds.
_UNTOLD = 3.0
# How late a signal may take effect, in seconds.
_SIGNAL_INTERVAL = 0.2
# The maximum length of a secret, in bytes: a response of SASL has at most 12,288 in base64 (RFC 4954, 4).
_LONGEST = 8192
# An access token (RFC 6750, 2.1).
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_ONE_LINE = Words("It must contain only the secret, on one line.")

# One for each program that runs; it is set to end the program.
_running: set[Event] = set()


class LoginSecret(Protocol):
    """Where the secret of a login comes from. Several threads may use it."""

    def get(self) -> Password:
        """Return the secret.

        Raises:
            ConfigError: it is missing or invalid.
            TemporaryFailure: the program failed.
        """

    def renew(self, refused: Password) -> Password | None:
        """Fetch the secret again; return it if it differs from the one that the server refused, else None.

        Raises:
            ConfigError, TemporaryFailure: as for `get`.
        """

    def forget(self, refused: Password) -> None:
        """Fetch the secret again for the next login, unless that has been done since `refused` was returned."""


def open_secret(server: SmtpServer) -> LoginSecret:
    """Return the source of the password or token of a mail server; nothing is fetched yet."""
    if isinstance(server.secret, SecretCommand):
        return _shared_command(server.secret, is_token=server.uses_oauth)
    if isinstance(server.secret, SecretFile):
        return FileSecret(server.secret)
    return FixedSecret(server.password)


def end_running_commands() -> None:
    """End the programs that run at this moment, in any thread; their logins fail."""
    for interruption in list(_running):
        interruption.set()


class FixedSecret:
    """The password of the URL."""

    def __init__(self, secret: Password) -> None:
        self._secret = secret

    def get(self) -> Password:
        """Return the password."""
        return self._secret

    def renew(self, refused: Password) -> Password | None:
        """Return None: the password stays the same."""
        return None

    def forget(self, refused: Password) -> None:
        """Do nothing."""


class FileSecret:
    """The token in a file, which is read for each login."""

    def __init__(self, file: SecretFile) -> None:
        self._file = file

    def get(self) -> Password:
        """Read the token."""
        setting, path = self._file
        try:
            data = trust.read(path).data
        except trust.UntrustedFile as error:
            what = Words("{setting} is refused: {message}", setting=setting, message=error.message)
            raise ConfigError(what, error.hint) from None
        except OSError as error:
            raise ConfigError(
                "{setting} names {path}, which cannot be read: {reason}",
                "Check the path, and the program that writes the file.",
                setting=setting,
                path=path,
                reason=system_message(error),
            ) from None
        return _parse_secret(data, is_token=True, what=Words("the file in {setting}", setting=setting))

    def renew(self, refused: Password) -> Password | None:
        """Return what the file has now, if it has changed."""
        return _if_other(self.get(), refused)

    def forget(self, refused: Password) -> None:
        """Do nothing: the file is read for each login."""


class CommandSecret:
    """What a program prints, until the server refuses it.

    A thread that waits while another one runs the program gets the same result, also if that is an error.
    """

    def __init__(self, command: SecretCommand, *, is_token: bool, timeout: float = COMMAND_TIMEOUT) -> None:
        self._command = command
        self._is_token = is_token
        self._timeout = timeout
        self._lock = Lock()
        # The result of the last run: a secret, an error, or nothing. It is replaced as a whole.
        self._result: Password | EgecError | None = None
        self._runs = 0

    def get(self) -> Password:
        """Return the secret; run the program if it has not run yet, or if its last secret was refused."""
        runs = self._runs
        with self._lock:
            if isinstance(self._result, EgecError) and self._runs != runs:
                raise self._result
            if isinstance(self._result, Password):
                return self._result
            return self._run()

    def renew(self, refused: Password) -> Password | None:
        """Run the program again, unless another thread has."""
        self.forget(refused)
        return _if_other(self.get(), refused)

    def forget(self, refused: Password) -> None:
        """Run the program for the next login, unless another thread has."""
        with self._lock:
            if isinstance(self._result, Password) and _if_other(self._result, refused) is None:
                self._result = None

    def _run(self) -> Password:
        self._result = None
        try:
            output = _read_output(self._command, self._timeout)
            what = Words("the program in {setting}", setting=self._command.setting)
            self._result = _parse_secret(output, is_token=self._is_token, what=what)
        except EgecError as error:
            self._result = error
            raise
        finally:
            self._runs += 1
        return self._result


@cache
def _shared_command(command: SecretCommand, *, is_token: bool) -> CommandSecret:
    return CommandSecret(command, is_token=is_token)


def _read_output(command: SecretCommand, timeout: float) -> bytes:
    """Run the program and return the start of its output; Ctrl-C ends the program.

    Raises:
        ConfigError, TemporaryFailure: the program failed.
    """
    # Imported here: few installations have a program.
    from egec_cli.mail.transports import secret_program

    results: list[bytes | BaseException] = []
    interruption, has_ended = Event(), Event()

    def run() -> None:
        try:
            results.append(secret_program.read_output(command, timeout, interruption, most=_LONGEST + 2))
        except BaseException as error:  # noqa: BLE001 - it is raised again where the result is used
            results.append(error)
        finally:
            has_ended.set()

    _running.add(interruption)
    try:
        # In a thread, where Ctrl-C cannot come between the start of the program and the record of its number.
        Thread(target=run, name="login secret", daemon=True).start()
        # In short waits: one without an end is not broken off by a signal that comes just before it, or that the system
        # delivers to another thread.
        told_at = time.monotonic() + _UNTOLD
        while not has_ended.wait(_SIGNAL_INTERVAL):
            if time.monotonic() >= told_at:
                told_at = inf
                note(
                    "egec: waiting for the program in {setting}, for at most {seconds:g} s",
                    setting=command.setting,
                    seconds=timeout,
                )
    except KeyboardInterrupt:
        interruption.set()
        has_ended.wait(_LONGEST_END)
        raise
    finally:
        _running.discard(interruption)
    [result] = results
    if isinstance(result, BaseException):
        raise result
    return result


def _if_other(secret: Password, refused: Password) -> Password | None:
    return None if secret.reveal() == refused.reveal() else secret


def _parse_secret(data: bytes, *, is_token: bool, what: Words) -> Password:
    """Return the first line as a secret.

    Raises:
        ConfigError: it is empty, too long or not text.
    """
    line = data.partition(b"\n")[0].removesuffix(b"\r")
    if len(line) > _LONGEST:
        raise ConfigError("{what} gives a first line of more than {most} bytes", _ONE_LINE, what=what, most=_LONGEST)
    try:
        text = line.decode()
    except UnicodeDecodeError:
        text = "\0"
    if is_token:
        text = text.strip()
    if not text:
        raise ConfigError("{what} gives an empty first line", _ONE_LINE, what=what)
    if is_token and not _TOKEN.fullmatch(text):
        raise ConfigError("{what} gives a first line that is not a token", _ONE_LINE, what=what)
    if not text.isprintable():
        raise ConfigError("{what} gives a first line that is not a password", _ONE_LINE, what=what)
    return Password(text)
