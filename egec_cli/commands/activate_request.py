"""`egec activate --stdin`: a request from a portal, answered in words for the client."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from egec_cli import context as contexts
from egec_cli.commands.session import make_log, note_saved_mail, open_context, read_settings, reading_standard_input
from egec_cli.credentials import issue, mail_route, shared_emails
from egec_cli.errors import AddressRefused, ClientNotFound, EgecError, TemporaryFailure
from egec_cli.output.formats import OutputFormat, print_unless_quiet, render
from egec_cli.output.messages import note
from egec_cli.requests import process, texts
from egec_cli.requests.process import MOST_BYTES, Request, parse_request
from egec_cli.requests.texts import Answer
from egec_cli.settings.types import Settings
from egec_cli.translation import Words


class RequestResult(NamedTuple):
    """What a portal shows to a client after a request.

    Attributes:
        answer: `sent`, `not_recognised`, `not_sent` (the mail server refuses the address, or too many deliveries are in
            doubt) or `unavailable`.
        reason: `accepted`; `client_limited` or `origin_limited`: nothing has changed; `pending` if
            EGEC_REQUEST_DISCLOSES is no; else the code of the error, which is on stderr too.
        text: the words for the client, in lines.
    """

    answer: Answer
    reason: str
    text: str


def answer_request(output: OutputFormat) -> None:
    """Answer the request on standard input: words for the client on stdout, the reason of a failure on stderr."""
    settings = None
    try:
        settings = read_settings()
        request = parse_request(_read_input())
        result = _process_now(settings, request) if settings.request_discloses else _process_later(settings, request)
    except EgecError as error:
        _show(_answer_error(settings, error), output)
        raise
    except Exception:
        # The client gets words whatever happened; `main` reports it to the operator.
        _show(RequestResult(Answer.UNAVAILABLE, EgecError.code, texts.render_unavailable(settings)), output)
        raise
    _show(result, output)


def _read_input() -> bytes:
    with reading_standard_input(Words("Pass the e-mail on standard input.")) as stream:
        # What exceeds the longest request is left unread.
        return stream.read(MOST_BYTES + 1)


def _process_now(settings: Settings, request: Request) -> RequestResult:
    with open_context(settings) as context:
        processed = process.process_request(context, request)
    if processed.rest:
        rest = partial(_mail_rest, settings, processed.rest, request.email.key, processed.source)
        try:
            process.run_detached(rest)
        except TemporaryFailure:
            # As in a process of its own, a failure does not change the answer: the first mail was accepted.
            with suppress(Exception):
                rest()
    if processed.issued is not None:
        note_saved_mail(settings, processed.issued.server_reply)
    else:
        note("egec: beyond the limit on requests ({reason}); nothing was changed", reason=processed.reason)
    return RequestResult(Answer.SENT, processed.reason, processed.text)


def _process_later(settings: Settings, request: Request) -> RequestResult:
    """Answer before the work, so that neither the words nor the time depend on the client."""
    text = texts.render_answer(settings, Answer.SENT)
    # Closed again before the process is divided.
    with open_context(settings) as context:
        mail_route.require(context)
        shared_emails.require_allowed(context, names_them=False)
    process.run_detached(partial(_process_unseen, settings, request))
    return RequestResult(Answer.SENT, "pending", text)


def _process_unseen(settings: Settings, request: Request) -> None:
    with contexts.open_context(settings, log=make_log(settings)) as context:
        processed = process.process_request(context, request)
        process.mail_rest(context, processed.rest, request.email.key, processed.source)


def _mail_rest(settings: Settings, keys: Sequence[int], email_key: str, source: str) -> None:
    with contexts.open_context(settings, log=make_log(settings)) as context:
        process.mail_rest(context, keys, email_key, source)


def _answer_error(settings: Settings | None, error: EgecError) -> RequestResult:
    answer = _choose_answer(error)
    if settings is None or answer is Answer.UNAVAILABLE:
        return RequestResult(Answer.UNAVAILABLE, error.code, texts.render_unavailable(settings))
    return RequestResult(answer, error.code, texts.render_even_if_invalid(settings, answer))


def _choose_answer(error: EgecError) -> Answer:
    if isinstance(error, ClientNotFound) or error.code in issue.NOT_ACTIVATABLE:
        return Answer.NOT_RECOGNISED
    if isinstance(error, AddressRefused) or error.code == issue.TOO_MANY_IN_DOUBT:
        return Answer.NOT_SENT
    return Answer.UNAVAILABLE


def _show(result: RequestResult, output: OutputFormat) -> None:
    if output is OutputFormat.TABLE:
        print_unless_quiet(result.text)
    else:
        render(result, output)
