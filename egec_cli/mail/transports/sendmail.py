"""Mail handed to a program that behaves as sendmail: Postfix's, Exim's, msmtp."""

import os
import subprocess
from contextlib import suppress
from threading import Thread
from typing import IO

from egec_cli.errors import AddressRefused, ConfigError, EgecError, ExitCode, TemporaryFailure
from egec_cli.mail.compose.message import Mail
from egec_cli.mail.transports.interface import DeliveryRefused, DeliveryUnknown, Reply, to_one_line
from egec_cli.settings.schema import SendmailProgram
from egec_cli.translation import Words, system_message

# The codes of sysexits.h, and of shells, by which a program says that it has not taken the mail: of one address, of a
# service that is away, of its own set-up. With any other the mail may be queued: sendmail's 75 says that it is.
_ABOUT_THE_ADDRESS = {65, 67, 68}
_AWAY = {69}
# The most of its output that is kept, in bytes, and the wait for it once the program has ended, in seconds.
_MOST_SAID = 8192
_LAST_WORDS = 1.0
_SET_UP = {64, 66, 72, 73, 76, 77, 78, 126, 127}


class SendmailTransport:
    """Runs the program once for each mail."""

    def __init__(self, program: SendmailProgram, timeout: float) -> None:
        self._program = program
        self._timeout = timeout

    def connect(self) -> None:
        """There is nothing to connect to."""

    def deliver(self, mail: Mail) -> Reply:
        """Pass one mail to the program's standard input; its exit code is the answer."""
        # -i: a line with a single dot is no end. --: an address is never taken for an option.
        # As bytes: what is beyond ASCII is UTF-8 to mail software, in every locale.
        command: list[str | bytes] = [
            str(self._program),
            "-i",
            "-f",
            mail.sender.encode(),
            "--",
            mail.recipient.encode(),
        ]
        try:
            code, said = _run(command, mail.content.replace(b"\r\n", b"\n"), self._timeout)
        except subprocess.TimeoutExpired:
            raise DeliveryUnknown(
                "{program} did not end within {timeout:g} s", program=self._program, timeout=self._timeout
            ) from None
        except OSError as error:
            raise DeliveryRefused(
                ConfigError(
                    "{program} cannot be run: {reason}",
                    "Mend EGEC_MAIL_URL.",
                    program=self._program,
                    reason=system_message(error),
                )
            ) from None
        if code < 0:
            raise DeliveryUnknown("{program} was ended by signal {signal}", program=self._program, signal=-code)
        if code != ExitCode.OK:
            raise _failure(code, to_one_line(said), mail.recipient)
        return Reply(f"{self._program} took it")

    def close(self) -> None:
        """There is nothing to let go of."""


def _run(command: list[str | bytes], content: bytes, timeout: float) -> tuple[int, bytes]:
    """Run a program until it ends; return its exit code and what it said first, on stderr or otherwise on stdout.

    Unlike `subprocess.run`, it keeps little of an endless output, and waits for the program alone: not for one that it
    has left behind, such as a queue runner, which still has its output open.

    Raises:
        TimeoutExpired: it did not end in time, and was killed.
        OSError: it cannot be run.
    """
    process = subprocess.Popen(  # noqa: S603 - the program is the operator's, the addresses are checked
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    said = {"stdout": bytearray(), "stderr": bytearray()}
    threads = [
        Thread(target=_feed, args=(process.stdin, content), daemon=True),
        *(Thread(target=_drain, args=(getattr(process, name), said[name]), daemon=True) for name in said),
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
        thread.join(_LAST_WORDS)
    return code, bytes(said["stderr"] or said["stdout"])


def _feed(stdin: IO[bytes], content: bytes) -> None:
    # A program may end without reading all of it; its exit code decides what became of the mail.
    with suppress(OSError), stdin:
        stdin.write(content)


def _drain(output: IO[bytes], said: bytearray) -> None:
    with output:
        while piece := os.read(output.fileno(), 65_536):
            said += piece[: _MOST_SAID - len(said)]


def _failure(code: int, reply: str, recipient: str) -> DeliveryRefused | DeliveryUnknown:
    words = (
        Words("exit code {code}: {reply}", code=code, reply=reply) if reply else Words("exit code {code}", code=code)
    )
    if code in _ABOUT_THE_ADDRESS:
        error: EgecError = AddressRefused(
            "the mail program refuses the address {recipient}: {words}",
            "Correct the address.",
            recipient=recipient,
            words=words,
        )
    elif code in _AWAY:
        error = TemporaryFailure(
            "the mail program takes no mail now: {words}",
            "Run the same again later.",
            code="mail_deferred",
            words=words,
        )
    elif code in _SET_UP:
        error = ConfigError("the mail program failed: {words}", "Mend EGEC_MAIL_URL.", words=words)
    else:
        return DeliveryUnknown("the mail program does not say whether it took the mail: {words}", words=words)
    return DeliveryRefused(error, reply)
