"""`egec verify`: its command line. `verifying` does it."""

import sys
from typing import Annotated

import typer

from egec_cli.commands import verify_fast
from egec_cli.commands.options import OutputOption
from egec_cli.commands.root import new_app
from egec_cli.commands.verify_fast import Source
from egec_cli.errors import UsageError
from egec_cli.output.formats import OutputFormat

app = new_app()


@app.command("verify", epilog="Example: egec verify 1234567890 --password-stdin < password.txt")
def verify_command(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[IDENTIFIER]", help="The client's 10 digits.", show_default=False)
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input, up to its first line end.")
    ] = False,
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Read the identifier and the password from standard input, a line each.")
    ] = False,
    pam: Annotated[
        bool, typer.Option("--pam", help="As pam_exec calls it: PAM_USER, and the password on standard input.")
    ] = False,
    checkpassword: Annotated[
        bool, typer.Option("--checkpassword", help="As checkpassword: read descriptor 3, then run the program given.")
    ] = False,
    batch: Annotated[str, typer.Option("--batch", metavar="FILE|-", help="Check all logins of a list.")] = "",
    explain: Annotated[
        bool, typer.Option("--explain", help="Tell why a login fails; for the help desk alone.")
    ] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Check an identifier and a password: exit code 0 lets in, 1 does not.

    The password is asked for, unseen, where it does not come from standard input.
    """
    words = words or []
    _require_one_source(words, password_stdin, stdin, pam, checkpassword, batch)
    if explain and (checkpassword or batch):
        raise UsageError("--explain is about one login, for a person to read", "Leave it out, or give one login.")
    if checkpassword:
        code = verify_fast.check_password(words)
    elif batch:
        code = verify_fast.verify_all(batch, output)
    else:
        source = (
            Source.TWO_LINES if stdin else Source.PAM if pam else Source.LINE if password_stdin else Source.TERMINAL
        )
        code = verify_fast.verify(source, words[0] if words else "", explain=explain, output=output)
    if code:
        raise typer.Exit(code)


def _require_one_source(
    words: list[str], password_stdin: bool, stdin: bool, pam: bool, checkpassword: bool, batch: str
) -> None:
    if sum([password_stdin, stdin, pam, checkpassword, bool(batch)]) > 1:
        raise UsageError(
            "the login would come from several places", "Give one of the options that say where it comes from."
        )
    if checkpassword:
        if not words:
            raise UsageError(
                "--checkpassword runs a program when the login is right", "Name it behind --checkpassword."
            )
        return
    if len(words) > 1 or (words and (stdin or pam or batch)):
        raise UsageError("the identifier is given twice", "Give it once: as an argument, or by an option.")
    if not (words or stdin or pam or batch):
        raise UsageError("the identifier is missing", "Type `egec verify IDENTIFIER`, or use --stdin.")
    if words and not (password_stdin or (sys.stdin is not None and sys.stdin.isatty())):
        raise UsageError("there is no terminal to ask for the password", "Use --password-stdin.")
