"""Mail handed to a program that behaves as sendmail: Postfix's, Exim's, msmtp."""

import subprocess

from egec_cli.errors import BadInput, EgecError, ExitCode, Misconfigured, NotNow
from egec_cli.mail.delivery import AnswerLost, Refused, Reply, one_line
from egec_cli.mail.message import Mail
from egec_cli.settings import SendmailProgram

# The codes of sysexits.h by which sendmail means one address, or a passing trouble.
_ABOUT_THE_ADDRESS = {65, 67, 68}
_PASSING = {69, 71, 74, 75}


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
        command = [str(self._program), "-i", "-f", mail.sender, "--", mail.recipient]
        try:
            done = subprocess.run(  # noqa: S603 - the program is the operator's, the addresses are checked
                command, input=mail.content.replace(b"\r\n", b"\n"), capture_output=True, timeout=self._timeout
            )
        except subprocess.TimeoutExpired:
            raise AnswerLost(f"{self._program} did not end within {self._timeout:g} s") from None
        except OSError as error:
            raise Refused(
                Misconfigured(f"{self._program} cannot be run: {error.strerror}", "Mend EGEC_MAIL_URL.")
            ) from None
        if done.returncode < 0:
            raise AnswerLost(f"{self._program} was ended by signal {-done.returncode}")
        if done.returncode != ExitCode.OK:
            reply = one_line(done.stderr or done.stdout)
            raise Refused(_reason(done.returncode, reply, mail.recipient), reply)
        return Reply(f"{self._program} took it")

    def close(self) -> None:
        """There is nothing to let go of."""


def _reason(code: int, reply: str, recipient: str) -> EgecError:
    if code in _ABOUT_THE_ADDRESS:
        return BadInput(f"the mail program refuses {recipient}: {reply or code}", "Correct the client's address.")
    if code in _PASSING:
        return NotNow(f"the mail program takes no mail now: {reply or code}", "Run the same again later.")
    return Misconfigured(f"the mail program failed with exit code {code}: {reply}", "Mend EGEC_MAIL_URL.")
