"""What `egec verify` does; `verify` declares its command line.

Typer is not imported here: programs ask for logins all day, and what they type is read without it.
"""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from enum import Enum
from typing import BinaryIO

from egec_cli.commands.session import opened
from egec_cli.errors import AT_A_PROMPT, EgecError, ExitCode, InvalidInput, StorageError, TemporaryFailure, UsageError
from egec_cli.files import standard_input
from egec_cli.logins.verify import trim, verify_login
from egec_cli.output.formats import OutputFormat, print_unless_quiet, render, render_all
from egec_cli.output.messages import render_error
from egec_cli.translation import Words, system_message, translate

# An identifier and a password fit many times over; a longer line is no login.
_LONGEST_LINE = 4096
# What https://cr.yp.to/checkpwd/interface.html says of the descriptor, the bytes and the exit codes.
_DESCRIPTOR = 3
_MOST_BYTES = 512
_NOT_NOW = 111


class Source(Enum):
    """Where a login comes from."""

    LINE = "the identifier from the command line, the password from standard input"
    TWO_LINES = "both from standard input"
    PAM = "the identifier from PAM_USER, the password from standard input"
    TERMINAL = "the identifier from the command line, the password from the terminal"


def asked_by_a_program(words: Sequence[str]) -> tuple[Source, str] | None:
    """Return the login that is asked for, where it is in one of the ways in which programs do; None for any other.

    Args:
        words: what stands behind `egec verify`.

    Returns:
        Where it comes from, and the identifier, where the command line has it.
    """
    match words:
        case ["--stdin"]:
            return Source.TWO_LINES, ""
        case ["--pam"]:
            return Source.PAM, ""
        case [identifier, "--password-stdin"] | ["--password-stdin", identifier] if not identifier.startswith("-"):
            return Source.LINE, identifier
    return None


def verify(
    source: Source, identifier: str = "", *, explain: bool = False, output: OutputFormat = OutputFormat.TABLE
) -> int:
    """Check one login, show what is to be shown of it, and return the exit code.

    Args:
        source: where it comes from.
        identifier: that of the command line.
        explain: tell why it fails.
        output: how to show it.
    """
    with opened() as context:
        if source is Source.PAM:
            identifier = os.environ.get("PAM_USER", "")
        elif source is Source.TWO_LINES:
            identifier = _line()
        password = _asked_for() if source is Source.TERMINAL else _line()
        if source is Source.PAM:
            # Older releases of pam_exec send the NUL at the password's end along; none can be within it.
            password = password.removesuffix("\0")
        if explain:
            from egec_cli.logins.explain import explain_login

            explanation = explain_login(context, identifier, password)
            render(explanation, output)
            accepted = explanation.accepted
        else:
            verdict = verify_login(context, identifier, password)
            accepted = verdict.accepted
            if output is not OutputFormat.TABLE:
                render(verdict, output)
            elif not (accepted or source is Source.PAM):
                # The template is read only now: a login that is accepted needs none.
                from egec_cli.mail.compose import template

                print_unless_quiet(template.render_text(context.settings, "refused", context.settings.language))
    return ExitCode.OK if accepted else ExitCode.REFUSED


def verify_all(batch: str, output: OutputFormat) -> int:
    """Check the logins of a list, show the verdicts, and return the exit code: 3 if some are refused.

    Raises:
        TemporaryFailure: some logins could not be checked; their verdict is null.

    Args:
        batch: the path of the list; `-` is standard input.
        output: how to show them.
    """
    from egec_cli.logins import batch as login_batch

    refused = unchecked = 0
    failure: EgecError | None = None
    with opened() as context, ExitStack() as files:
        stream: BinaryIO = _standard_input() if batch == "-" else files.enter_context(open(batch, "rb"))
        logins = login_batch.read_logins(stream, Words("standard input") if batch == "-" else batch)

        # Closed before the database is: what is under way when the work is cut short is brought to its end.
        verdicts = files.enter_context(closing(login_batch.verify_logins(context, logins)))

        def counted() -> Iterator[login_batch.LineVerdict]:
            nonlocal refused, unchecked, failure
            try:
                for verdict in verdicts:
                    refused += verdict.accepted is False
                    unchecked += verdict.accepted is None
                    yield verdict
            except EgecError as error:
                # Told when what came before is shown, the end of a json list or a table included.
                failure = error

        render_all(counted(), login_batch.LineVerdict, output, flush=True)
    if failure is not None:
        raise failure
    if unchecked:
        raise TemporaryFailure(
            "{unchecked} logins were not checked: too many to their accounts were in progress",
            "Try those without a verdict again.",
            code="account_busy",
            unchecked=unchecked,
        )
    return ExitCode.PARTLY_DONE if refused else ExitCode.OK


def check_password(program: list[str]) -> int:
    """Check the login of descriptor 3, and become the program if it is right.

    Args:
        program: its name and its arguments.

    Returns:
        The exit code where it does not: those of checkpassword.
    """
    identifier, password = _from_descriptor()
    try:
        with opened() as context:
            accepted = verify_login(context, identifier, password).accepted
    except EgecError as error:
        return _not_now(error)
    except OSError as error:
        return _not_now(StorageError("the login could not be checked: {reason}", reason=system_message(error)))
    if not accepted:
        return ExitCode.REFUSED
    sys.stderr.flush()
    # Python ignores these, and the program would inherit that.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(program[0], program, {**os.environ, "USER": trim(identifier)})  # noqa: S606 - the caller's own
    except OSError as error:
        hint = Words("Name a program behind --checkpassword.")
        return _not_now(
            UsageError("{program} cannot be run: {reason}", hint, program=program[0], reason=system_message(error))
        )


def _not_now(error: EgecError) -> int:
    """Tell the operator what is wrong, and return what tells the caller that it was not the password."""
    render_error(error, machine=False)
    return _NOT_NOW


def _from_descriptor() -> tuple[str, str]:
    data = b""
    try:
        while len(data) <= _MOST_BYTES and (piece := os.read(_DESCRIPTOR, _MOST_BYTES + 1)):
            data += piece
        os.close(_DESCRIPTOR)
    except OSError as error:
        raise UsageError(
            "descriptor {descriptor} cannot be read: {reason}",
            "--checkpassword is for programs that pass the login there; for others there is --stdin.",
            descriptor=_DESCRIPTOR,
            reason=system_message(error),
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
        return getpass.getpass(translate(Words("Password: ")), sys.stderr)
    except KeyboardInterrupt as interruption:
        interruption.args = (AT_A_PROMPT,)
        raise
    except EOFError:
        raise InvalidInput("no password was typed", "Type it, or use --password-stdin.") from None
    except UnicodeDecodeError:
        # Bytes that are no text make a password that matches none.
        return "\N{REPLACEMENT CHARACTER}"


def _standard_input() -> BinaryIO:
    return standard_input(Words("Pass the login on standard input."))


def _line() -> str:
    """Return the next line of standard input without its end, or as much of it as can be part of a login.

    Raises:
        InvalidInput: standard input is closed, or cannot be read.
    """
    try:
        line = _standard_input().readline(_LONGEST_LINE)
    except OSError as error:
        raise InvalidInput(
            "standard input: {reason}", "Pass the login on standard input.", reason=system_message(error)
        ) from None
    # Bytes that are no text make a password that matches none.
    return line.decode(errors="replace").rstrip("\r\n")
