"""Send mail through a sendmail-compatible program: that of Postfix or Exim, or msmtp."""

import os
import subprocess
from contextlib import suppress
from threading import Thread
from typing import IO

from egec_cli.errors import AddressRefused, ConfigError, EgecError, ExitCode, TemporaryFailure
from egec_cli.mail.compose.message import Mail
from egec_cli.mail.transports.interface import (
    MISCONFIGURED_EXIT_CODES,
    Cause,
    DeliveryRefused,
    DeliveryUnknown,
    Reply,
    to_one_line,
)
from egec_cli.settings.types import SendmailProgram
from egec_cli.translation import Words, system_message

# Exit codes of sysexits.h and of shells that mean "not accepted". After any other code the mail may be queued;
# after sendmail's 75 it is.
_ADDRESS_REFUSED = {65, 67, 68}
_UNAVAILABLE = {69}
# How much output is kept, in bytes, and how long to wait for it after the program has ended, in seconds.
_MOST_OUTPUT = 8192
_OUTPUT_TIMEOUT = 1.0


class SendmailTransport:
    """Runs the program once for each mail."""

    def __init__(self, program: SendmailProgram, timeout: float) -> None:
        self._program = program
        self._timeout = timeout

    def connect(self) -> None:
        """Do nothing; this transport has no connection."""

    def deliver(self, mail: Mail) -> Reply:
        """Pass one mail to the program's standard input; its exit code is the answer."""
        # -i: a line with a single dot does not end the mail. --: an address is never an option.
        # As bytes: mail software expects UTF-8 in every locale.
        command: list[str | bytes] = [str(self._program), "-i", "-f"]
        command += [mail.sender.encode(), "--", mail.recipient.encode()]
        try:
            code, output = _run(command, mail.content.replace(b"\r\n", b"\n"), self._timeout)
        except subprocess.TimeoutExpired:
            raise DeliveryUnknown(
                "{program} did not end within {timeout:g} s", program=self._program, timeout=self._timeout
            ) from None
        except OSError as error:
            raise DeliveryRefused(
                ConfigError(
                    "{program} cannot be run: {reason}",
                    "Correct EGEC_MAIL_URL.",
                    program=self._program,
                    reason=system_message(error),
                ),
                cause=Cause.BLOCKED,
            ) from None
        if code < 0:
            raise DeliveryUnknown("{program} was killed by signal {signal}", program=self._program, signal=-code)
        if code != ExitCode.OK:
            raise _failure(code, to_one_line(output), mail.recipient)
        return Reply(f"accepted by {self._program}")

    def close(self) -> None:
        """Do nothing; this transport has no connection."""


def _run(command: list[str | bytes], content: bytes, timeout: float) -> tuple[int, bytes]:
    """Run a program; return its exit code and the start of its output, from stderr or else from stdout.

    Unlike `subprocess.run`, it limits the output and does not wait for child processes, such as a queue runner, that
    keep the output open.

    Raises:
        TimeoutExpired: the program did not end in time and was killed.
        OSError: the program cannot be run.
    """
    process = subprocess.Popen(  # noqa: S603 - the program is the operator's, the addresses are checked
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Ctrl-C and a closed terminal reach this process alone, which settles the mail under way.
        start_new_session=True,
    )
    output = {"stdout": bytearray(), "stderr": bytearray()}
    threads = [
        Thread(target=_feed, args=(process.stdin, content), daemon=True),
        *(Thread(target=_drain, args=(getattr(process, name), output[name]), daemon=True) for name in output),
    ]
    for thread in threads:
        thread.start()
    try:
        code = process.wait(timeout)
    except BaseException:
        process.kill()
        process.wait()
        raise
    for thread in threads:
        thread.join(_OUTPUT_TIMEOUT)
    return code, bytes(output["stderr"] or output["stdout"])


def _feed(stdin: IO[bytes], content: bytes) -> None:
    # A program may end before it has read everything; its exit code decides.
    with suppress(OSError), stdin:
        stdin.write(content)


def _drain(output: IO[bytes], kept: bytearray) -> None:
    with output:
        while piece := os.read(output.fileno(), 65_536):
            kept += piece[: _MOST_OUTPUT - len(kept)]


def _failure(code: int, reply: str, recipient: str) -> DeliveryRefused | DeliveryUnknown:
    words = (
        Words("exit code {code}: {reply}", code=code, reply=reply) if reply else Words("exit code {code}", code=code)
    )
    if code in _ADDRESS_REFUSED:
        cause = Cause.RECIPIENT
        error: EgecError = AddressRefused(
            "the mail program refuses the address {recipient}: {words}",
            "Correct the address.",
            recipient=recipient,
            words=words,
        )
    elif code in _UNAVAILABLE:
        # msmtp ends so whatever the server refused.
        cause = Cause.UNCLEAR
        error = TemporaryFailure(
            "the mail program is temporarily unavailable: {words}",
            "Try again later.",
            code="mail_deferred",
            words=words,
        )
    elif code in MISCONFIGURED_EXIT_CODES:
        cause = Cause.BLOCKED
        error = ConfigError("the mail program failed: {words}", "Check EGEC_MAIL_URL and the program.", words=words)
    else:
        return DeliveryUnknown("the mail program did not report whether it accepted the mail: {words}", words=words)
    return DeliveryRefused(error, reply, cause=cause)
