"""Mail handed to a program that behaves as sendmail: Postfix's, Exim's, msmtp."""

import subprocess

from egec_cli.errors import AddressRefused, EgecError, ExitCode, Misconfigured, NotNow
from egec_cli.mail.delivery import AnswerLost, Refused, Reply, one_line
from egec_cli.mail.message import Mail
from egec_cli.settings import SendmailProgram
from egec_cli.translation import Words, of_system

# The codes of sysexits.h, and of shells, by which a program says that it has not taken the mail: of one address, of a
# service that is away, of its own set-up. With any other the mail may be queued: sendmail's 75 says that it is.
_ABOUT_THE_ADDRESS = {65, 67, 68}
_AWAY = {69}
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
            done = subprocess.run(  # noqa: S603 - the program is the operator's, the addresses are checked
                command, input=mail.content.replace(b"\r\n", b"\n"), capture_output=True, timeout=self._timeout
            )
        except subprocess.TimeoutExpired:
            raise AnswerLost(
                "{program} did not end within {timeout:g} s", program=self._program, timeout=self._timeout
            ) from None
        except OSError as error:
            raise Refused(
                Misconfigured(
                    "{program} cannot be run: {reason}",
                    "Mend EGEC_MAIL_URL.",
                    program=self._program,
                    reason=of_system(error),
                )
            ) from None
        if done.returncode < 0:
            raise AnswerLost("{program} was ended by signal {signal}", program=self._program, signal=-done.returncode)
        if done.returncode != ExitCode.OK:
            raise _failure(done.returncode, one_line(done.stderr or done.stdout), mail.recipient)
        return Reply(f"{self._program} took it")

    def close(self) -> None:
        """There is nothing to let go of."""


def _failure(code: int, reply: str, recipient: str) -> Refused | AnswerLost:
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
        error = NotNow(
            "the mail program takes no mail now: {words}",
            "Run the same again later.",
            code="mail_deferred",
            words=words,
        )
    elif code in _SET_UP:
        error = Misconfigured("the mail program failed: {words}", "Mend EGEC_MAIL_URL.", words=words)
    else:
        return AnswerLost("the mail program does not say whether it took the mail: {words}", words=words)
    return Refused(error, reply)
