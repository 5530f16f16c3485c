"""`egec verify`."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Annotated, BinaryIO

import typer

from egec_cli.accounts import login
from egec_cli.commands.lazy import new_app
from egec_cli.commands.options import OutputOption
from egec_cli.commands.session import opened
from egec_cli.errors import BadInput, EgecError, ExitCode, FileSystemFailed, Usage
from egec_cli.show import OutputFormat, say_unless_quiet, show, show_all, show_error
from egec_cli.translation import Words, of_system, translated

app = new_app()

# An identifier and a password fit many times over; a longer line is no login.
_LONGEST_LINE = 4096
# What https://cr.yp.to/checkpwd/interface.html says of the descriptor, the bytes and the exit codes.
_DESCRIPTOR = 3
_MOST_BYTES = 512
_NOT_NOW = 111


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
        raise Usage("--explain is about one login, for a person to read", "Leave it out, or give one login.")
    if checkpassword:
        _check_password(words)
    elif batch:
        _verify_all(batch, output)
    else:
        _verify(words, password_stdin=password_stdin, stdin=stdin, pam=pam, explain=explain, output=output)


def _require_one_source(
    words: list[str], password_stdin: bool, stdin: bool, pam: bool, checkpassword: bool, batch: str
) -> None:
    if sum([password_stdin, stdin, pam, checkpassword, bool(batch)]) > 1:
        raise Usage("the login would come from several places", "Give one of the options that say where it comes from.")
    if checkpassword:
        if not words:
            raise Usage("--checkpassword runs a program when the login is right", "Name it behind --checkpassword.")
        return
    if len(words) > 1 or (words and (stdin or pam or batch)):
        raise Usage("the identifier is given twice", "Give it once: as an argument, or by an option.")
    if not (words or stdin or pam or batch):
        raise Usage("the identifier is missing", "Type `egec verify IDENTIFIER`, or use --stdin.")
    if words and not (password_stdin or (sys.stdin is not None and sys.stdin.isatty())):
        raise Usage("there is no terminal to ask for the password", "Use --password-stdin.")


def _verify(
    words: list[str], *, password_stdin: bool, stdin: bool, pam: bool, explain: bool, output: OutputFormat
) -> None:
    with opened() as egec:
        if stdin or pam:
            identifier = os.environ.get("PAM_USER", "") if pam else _line()
        else:
            (identifier,) = words
        # Older releases of pam_exec send the NUL at the password's end along; none can be within it.
        password = _line().removesuffix("\0") if pam else _line() if stdin or password_stdin else _asked_for()
        if explain:
            from egec_cli.accounts import login_explained

            explanation = login_explained.explain(egec, identifier, password)
            show(explanation, output)
            accepted = explanation.accepted
        else:
            verdict = login.verify(egec, identifier, password)
            accepted = verdict.accepted
            if output is not OutputFormat.TABLE:
                show(verdict, output)
            elif not (accepted or pam):
                # The template is read only now: a login that is accepted needs none.
                from egec_cli.mail import template

                say_unless_quiet(template.text(egec.settings, "refused", egec.settings.language))
    if not accepted:
        raise typer.Exit(ExitCode.REFUSED)


def _verify_all(batch: str, output: OutputFormat) -> None:
    """Check the logins of a list, and end with 3 if some are refused."""
    from egec_cli.accounts import login_batch

    refused = 0
    failure: EgecError | None = None
    with opened() as egec, ExitStack() as files:
        stream: BinaryIO = _standard_input() if batch == "-" else files.enter_context(open(batch, "rb"))
        logins = login_batch.read_logins(stream, Words("standard input") if batch == "-" else batch)

        # Closed before the database is: what is under way when the work is cut short is brought to its end.
        verdicts = files.enter_context(closing(login_batch.verify_all(egec, logins)))

        def counted() -> Iterator[login_batch.LineVerdict]:
            nonlocal refused, failure
            try:
                for verdict in verdicts:
                    refused += not verdict.accepted
                    yield verdict
                    # Whoever reads along learns of each at once.
                    sys.stdout.flush()
            except EgecError as error:
                # Told when what came before is shown, the end of a json list or a table included.
                failure = error

        show_all(counted(), login_batch.LineVerdict, output)
    if failure is not None:
        raise failure
    if refused:
        raise typer.Exit(ExitCode.PARTLY_DONE)


def _check_password(program: list[str]) -> None:
    """Check the login of descriptor 3, and become the program if it is right; exit codes are those of checkpassword."""
    identifier, password = _from_descriptor()
    try:
        with opened() as egec:
            accepted = login.verify(egec, identifier, password).accepted
    except EgecError as error:
        raise _not_now(error) from None
    except OSError as error:
        raise _not_now(FileSystemFailed("the login could not be checked: {reason}", reason=of_system(error))) from None
    if not accepted:
        raise typer.Exit(ExitCode.REFUSED)
    sys.stderr.flush()
    # Python ignores these, and the program would inherit that.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(program[0], program, {**os.environ, "USER": login.trimmed(identifier)})  # noqa: S606 - the caller's own
    except OSError as error:
        hint = Words("Name a program behind --checkpassword.")
        raise _not_now(
            Usage("{program} cannot be run: {reason}", hint, program=program[0], reason=of_system(error))
        ) from None


def _not_now(error: EgecError) -> typer.Exit:
    """Tell the operator what is wrong, and return what tells the caller that it was not the password."""
    show_error(error, machine=False)
    return typer.Exit(_NOT_NOW)


def _from_descriptor() -> tuple[str, str]:
    data = b""
    try:
        while len(data) <= _MOST_BYTES and (piece := os.read(_DESCRIPTOR, _MOST_BYTES + 1)):
            data += piece
        os.close(_DESCRIPTOR)
    except OSError as error:
        raise Usage(
            "descriptor {descriptor} cannot be read: {reason}",
            "--checkpassword is for programs that pass the login there; for others there is --stdin.",
            descriptor=_DESCRIPTOR,
            reason=of_system(error),
        ) from None
    parts = data.split(b"\0")
    if len(data) > _MOST_BYTES or len(parts) < 2:
        # No login, which is refused and put on record as one of nobody.
        return "", ""
    # Bytes that are no text make a password that matches none.
    identifier, password = (part.decode(errors="replace") for part in parts[:2])
    return identifier, password


def _asked_for() -> str:
    # Imported here: programs that call this command ask for the password themselves.
    import getpass

    try:
        return getpass.getpass(translated(Words("Password: ")), sys.stderr)
    except EOFError:
        raise BadInput("no password was typed", "Type it, or use --password-stdin.") from None
    except UnicodeDecodeError:
        # Bytes that are no text make a password that matches none.
        return "\N{REPLACEMENT CHARACTER}"


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise BadInput("standard input is closed", "Pass the login on standard input.")
    return sys.stdin.buffer


def _line() -> str:
    """Return the next line of standard input without its end, or as much of it as can be part of a login.

    Raises:
        BadInput: standard input is closed, or cannot be read.
    """
    try:
        line = _standard_input().readline(_LONGEST_LINE)
    except OSError as error:
        raise BadInput(
            "standard input: {reason}", "Pass the login on standard input.", reason=of_system(error)
        ) from None
    # Bytes that are no text make a password that matches none.
    return line.decode(errors="replace").rstrip("\r\n")
