"""`egec verify`."""

import sys
from typing import Annotated

import typer

from egec_cli.accounts import login
from egec_cli.commands.options import OutputOption
from egec_cli.commands.session import opened
from egec_cli.errors import BadInput, ExitCode, Usage
from egec_cli.show import OutputFormat, say, show

app = typer.Typer()

# An identifier and a password fit many times over; a longer line is no login.
_LONGEST_LINE = 4096


@app.command("verify", epilog="Example: egec verify 1234567890 --password-stdin < password.txt")
def verify_command(
    identifier: Annotated[str, typer.Argument(metavar="[IDENTIFIER]", help="The client's 10 digits.")] = "",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input, up to its first line end.")
    ] = False,
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Read the identifier and the password from standard input, a line each.")
    ] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Check an identifier and a password: exit code 0 lets in, 1 does not.

    The password is asked for, unseen, where it does not come from standard input.
    """
    _require_one_source(identifier, password_stdin, stdin)
    with opened() as egec:
        if stdin:
            identifier = _line()
        password = _line() if stdin or password_stdin else _asked_for()
        verdict = login.verify(egec, identifier, password)
        if output is not OutputFormat.TABLE:
            show(verdict, output)
        elif not verdict.accepted:
            # The template is read only now: a login that is accepted needs none.
            from egec_cli.mail import template

            say(template.text(egec.settings, "refused", egec.settings.language))
    if not verdict.accepted:
        raise typer.Exit(ExitCode.REFUSED)


def _require_one_source(identifier: str, password_stdin: bool, stdin: bool) -> None:
    if stdin and (identifier or password_stdin):
        raise Usage("--stdin reads both the identifier and the password", "Give nothing else with it.")
    if not stdin and not identifier:
        raise Usage("the identifier is missing", "Type `egec verify IDENTIFIER`, or use --stdin.")
    if not (stdin or password_stdin or (sys.stdin is not None and sys.stdin.isatty())):
        raise Usage("there is no terminal to ask for the password", "Use --password-stdin.")


def _asked_for() -> str:
    # Imported here: programs that call this command ask for the password themselves.
    import getpass

    try:
        return getpass.getpass("Password: ", sys.stderr)
    except EOFError:
        raise BadInput("no password was typed", "Type it, or use --password-stdin.") from None
    except UnicodeDecodeError:
        # Bytes that are no text make a password that matches none.
        return "\N{REPLACEMENT CHARACTER}"


def _line() -> str:
    """Return the next line of standard input without its end.

    Raises:
        BadInput: standard input is closed.
    """
    if sys.stdin is None:
        raise BadInput("standard input is closed", "Pass the login on standard input.")
    # Bytes that are no text make a password that matches none.
    line = sys.stdin.buffer.readline(_LONGEST_LINE)
    return line.decode(errors="replace").rstrip("\r\n")
