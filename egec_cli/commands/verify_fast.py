"""The work of `egec verify`, whose command line `verify` declares.

Typer is not imported here: it would take an eighth of the time of a login, and programs check logins all day. `main`
calls `verify` directly if `parse_program_call` recognizes the arguments.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from enum import Enum
from typing import BinaryIO

from egec_cli.commands.session import open_context, reading_standard_input, standard_input
from egec_cli.errors import AT_A_PROMPT, EgecError, ExitCode, InvalidInput, StorageError, TemporaryFailure, UsageError
from egec_cli.logins.verify import trim, verify_login
from egec_cli.output.formats import OutputFormat, print_unless_quiet, render, render_all
from egec_cli.output.messages import render_error
from egec_cli.translation import Words, count_words, system_message, translate

# Much longer than any identifier or password; the rest of a longer line is not read.
_LONGEST_LINE = 4096
# The descriptor, the bytes and the exit code of https://cr.yp.to/checkpwd/interface.html.
_DESCRIPTOR = 3
_MOST_BYTES = 512
# How long a login waits for a third line, the origin, if the caller neither sends it nor ends the input, in seconds.
_GRACE = 0.1
_TEMPORARY_PROBLEM = 111
_PASS_THE_LOGIN = Words("Pass the login on standard input.")
# How the names of settings begin that no login needs: a fault in one of them must not stop all logins. A refusal has
# the built-in text if EGEC_TEMPLATES is invalid.
_UNUSED = (
    "EGEC_MAIL_", "EGEC_DKIM_", "EGEC_APP_", "EGEC_SUPPORT", "EGEC_TEMPLATES", "EGEC_PASSWORD_",
    "EGEC_UNUSED_PASSWORD_DAYS", "EGEC_REQUEST", "EGEC_SHARED_EMAIL", "EGEC_AUDIT_DAYS",
)  # fmt: skip


class Source(Enum):
    """Where a login comes from."""

    LINE = "the identifier from the command line, the password from standard input"
    LINES = "both from standard input, and the origin if there is a third line"
    PAM = "the identifier from PAM_USER, the password from standard input"
    TERMINAL = "the identifier from the command line, the password from the terminal"


def parse_program_call(words: Sequence[str]) -> tuple[Source, str] | None:
    """Return the source of the login, and the identifier if the command line has it.

    Args:
        words: the arguments after `egec verify`.

    Returns:
        None if the arguments are not one of the forms that programs use.
    """
    match words:
        case ["--stdin"]:
            return Source.LINES, ""
        case ["--pam"]:
            return Source.PAM, ""
        case [identifier, "--password-stdin"] | ["--password-stdin", identifier] if not identifier.startswith("-"):
            return Source.LINE, identifier
    return None


def verify(
    source: Source,
    identifier: str = "",
    *,
    explain: bool = False,
    count: bool = True,
    output: OutputFormat = OutputFormat.TABLE,
    find: Callable[[str], str] | None = None,
) -> int:
    """Check one login, show the result, and return the exit code.

    Args:
        count: with `explain`, count a failure; otherwise nothing but the audit log changes.
        find: returns the identifier for what an operator typed instead.
    """
    with open_context(unused=_UNUSED) as context:
        origin = password = ""
        if source is Source.LINES:
            identifier, password, origin = _read_lines()
        elif source is Source.PAM:
            identifier, origin = os.environ.get("PAM_USER", ""), os.environ.get("PAM_RHOST", "")
        if find is not None:
            identifier = find(identifier)
        if source is not Source.LINES:
            password = _ask_password() if source is Source.TERMINAL else _read_line()
        if source is Source.PAM:
            # Older releases of pam_exec send the NUL at the password's end along; a password contains no NUL.
            password = password.removesuffix("\0")
        if explain:
            from egec_cli.logins.explain import explain_login

            explanation = explain_login(context, identifier, password, count=count, origin=origin)
            render(explanation, output)
            accepted = explanation.accepted
        else:
            verdict = verify_login(context, identifier, password, origin=origin)
            accepted = verdict.accepted
            if output is not OutputFormat.TABLE:
                render(verdict, output)
            elif not (accepted or source is Source.PAM):
                # Imported here: an accepted login needs no template.
                from egec_cli.mail.compose import template

                print_unless_quiet(template.render_text(context.settings, "refused", context.settings.language))
    return ExitCode.OK if accepted else ExitCode.REFUSED


def verify_batch(batch: str, output: OutputFormat) -> int:
    """Check the logins of a list (`-` is standard input), and return the exit code: 3 if some are refused.

    Raises:
        TemporaryFailure: some logins could not be checked; their verdict is null.
    """
    from egec_cli.logins import batch as login_batch
    from egec_cli.output.progress import ProgressLine, can_show_progress

    refused = unchecked = 0
    failure: EgecError | None = None
    with open_context(unused=_UNUSED) as context, ExitStack() as files:
        stream: BinaryIO = standard_input(_PASS_THE_LOGIN) if batch == "-" else files.enter_context(open(batch, "rb"))
        total = login_batch.count_logins(stream) if can_show_progress() and stream.seekable() else None
        logins = login_batch.read_logins(stream, Words("standard input") if batch == "-" else batch)
        line = ProgressLine(Words("checking"), Words("logins"), total=total)

        # Closed before the database: logins in progress are finished even if the work is interrupted.
        verdicts = files.enter_context(closing(login_batch.verify_logins(context, logins)))

        def count_verdicts() -> Iterator[login_batch.LineVerdict]:
            nonlocal refused, unchecked, failure
            try:
                for verdict in verdicts:
                    refused += verdict.accepted is False
                    unchecked += verdict.accepted is None
                    yield verdict
                    line.advance()
                    # Flush, so that a pipe sees each verdict immediately.
                    sys.stdout.flush()
            except EgecError as error:
                # Raised later, so that the output so far is complete, with the end of a json list or a table.
                failure = error

        with line:
            render_all(count_verdicts(), login_batch.LineVerdict, output, are_outcomes=True)
    if failure is not None:
        raise failure
    if unchecked:
        raise TemporaryFailure(
            count_words(
                "0 logins were not checked: too many to their accounts were in progress",
                "1 login was not checked: too many to its account were in progress",
                "{number} logins were not checked: too many to their accounts were in progress",
                unchecked,
            ),
            "Try those without a verdict again.",
            code="account_busy",
        )
    return ExitCode.PARTLY_DONE if refused else ExitCode.OK


def run_checkpassword(program: list[str]) -> int:
    """Check the login on descriptor 3, and replace this process with the program if it is accepted.

    Args:
        program: its name and its arguments.

    Returns:
        The exit code of checkpassword, if the program does not run.
    """
    identifier, password = _read_descriptor()
    try:
        with open_context(unused=_UNUSED) as context:
            accepted = verify_login(context, identifier, password, origin=os.environ.get("TCPREMOTEIP", "")).accepted
    except EgecError as error:
        return _report_problem(error)
    except OSError as error:
        return _report_problem(StorageError("the login could not be checked: {reason}", reason=system_message(error)))
    if not accepted:
        return ExitCode.REFUSED
    sys.stderr.flush()
    # Python ignores these signals, and the program would inherit that.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(program[0], program, {**os.environ, "USER": trim(identifier)})  # noqa: S606 - the caller's own
    except OSError as error:
        hint = Words("Name an executable program after --checkpassword.")
        return _report_problem(
            UsageError("cannot run {program}: {reason}", hint, program=program[0], reason=system_message(error))
        )


def _report_problem(error: EgecError) -> int:
    """Report an error to the operator, and return the exit code for a cause other than the password."""
    render_error(error, machine=False)
    return _TEMPORARY_PROBLEM


def _read_descriptor() -> tuple[str, str]:
    data = b""
    try:
        while len(data) <= _MOST_BYTES and (piece := os.read(_DESCRIPTOR, _MOST_BYTES + 1)):
            data += piece
        os.close(_DESCRIPTOR)
    except OSError as error:
        raise UsageError(
            "cannot read descriptor {descriptor}: {reason}",
            "Pass the login on descriptor {descriptor}, or use --stdin instead of --checkpassword.",
            descriptor=_DESCRIPTOR,
            reason=system_message(error),
        ) from None
    parts = data.split(b"\0")
    if len(data) > _MOST_BYTES or len(parts) < 2:
        # Not a login: it is refused and recorded for an unknown client.
        return "", ""
    return _decode(parts[0]), _decode(parts[1])


def _ask_password() -> str:
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
        return "\N{REPLACEMENT CHARACTER}"  # matches no password


def _read_line() -> str:
    """Return the next line of standard input without its end; what exceeds the longest login is left unread.

    Raises:
        InvalidInput: standard input is closed, or cannot be read.
    """
    with reading_standard_input(_PASS_THE_LOGIN) as stream:
        line = stream.readline(_LONGEST_LINE)
    return _decode(line).rstrip("\r\n")


def _read_lines() -> tuple[str, str, str]:
    """Return the identifier, the password and the origin from two or three lines of standard input.

    A caller may keep the input open, so the origin is only what comes with the other lines or soon afterwards.

    Raises:
        InvalidInput: standard input is closed, or cannot be read; or the origin is not an IP address.
    """
    data = b""
    with reading_standard_input(_PASS_THE_LOGIN) as stream:
        descriptor = stream.fileno()
        while len(data) <= 3 * _LONGEST_LINE:
            if data.count(b"\n") >= 2 and not _has_more(descriptor):
                break
            piece = os.read(descriptor, _LONGEST_LINE)
            if not piece:
                break
            data += piece
    identifier, password, origin, more = (_decode(line) for line in (*data.split(b"\n", 3), b"", b"", b"")[:4])
    if more.strip():
        # Typed line breaks must not replace the origin that the caller knows.
        raise InvalidInput(
            "standard input has more than three lines",
            "Pass the identifier, the password and the client's IP address, and refuse line breaks within them.",
            code="invalid_origin",
        )
    if origin := trim(origin):
        # Imported here: most callers pass none.
        from egec_cli.networks import parse_network

        parse_network(origin)
    return identifier.rstrip("\r"), password.rstrip("\r"), origin


def _has_more(descriptor: int) -> bool:
    """Return whether input, or its end, comes within the grace period."""
    # Imported here: a caller that ends its input at once, as most do, does not need it.
    import select

    return bool(select.select([descriptor], [], [], _GRACE)[0])


def _decode(data: bytes) -> str:
    """Decode input; invalid UTF-8 becomes replacement characters, which match no password."""
    return data.decode(errors="replace")
