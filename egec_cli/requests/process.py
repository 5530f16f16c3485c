"""Process an activation request: read it, count it, and mail a new password if the limits allow it.

The bytes of a request come from the public. Nothing in them is an option, an identifier or a reference.
Beyond a limit nothing changes, so the password that was mailed a moment ago stays the last one: a flood of requests
neither locks a client out nor fills a mailbox. Requests that come to nothing are recorded at first, then the 10th,
100th and so on, so that a flood does not fill the audit log either.
"""

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from egec_cli import email_address, hashing, networks
from egec_cli.audit.events import record_event
from egec_cli.context import Context
from egec_cli.credentials import issue, mail_route, shared_emails, validity
from egec_cli.credentials.issue import IssueResult
from egec_cli.credentials.validity import LocalMoment
from egec_cli.email_address import EmailAddress
from egec_cli.errors import ClientNotFound, EgecError, InvalidInput, TemporaryFailure
from egec_cli.logins.verify import trim
from egec_cli.networks import Counted, parse_network
from egec_cli.requests.texts import Answer, render_answer
from egec_cli.settings.types import Limit
from egec_cli.store import peewee
from egec_cli.store.models import Client
from egec_cli.translation import system_message

_ACTION = "client.request"
# The refused requests of one network that are recorded one by one.
_RECORDED = (Limit(10, 3600),)
# Hexadecimal digits of a bucket: there are 65,536.
_BUCKET_DIGITS = 4
# Longer than any valid request: 254 characters of an address (RFC 5321), and an IP address.
MOST_BYTES = 2048
_STANDARD = (0, 1, 2)
_MOST_DESCRIPTORS = 4096


class Request(NamedTuple):
    """A request for a new password.

    Attributes:
        email: of the client.
        network: the network that the request comes from; empty if unknown.
    """

    email: EmailAddress
    network: str


def parse_request(data: bytes) -> Request:
    """Return the request of one or two lines; white space around each is ignored.

    Args:
        data: what the portal passed, or its first `MOST_BYTES` + 1 bytes.

    Raises:
        ClientNotFound: the first line is not an e-mail address.
        InvalidInput: the second line is not an IP address, or there are more than two lines. Correct the portal.
    """
    email, separator, rest = data.partition(b"\n")
    origin, _, more = rest.partition(b"\n")
    if len(data) > MOST_BYTES:
        raise _invalid_request()
    if more.strip():
        # As at a login: line breaks that were typed must not replace the address that the portal knows.
        raise InvalidInput(
            "standard input has more than two lines",
            "Pass the e-mail and the client's IP address, and refuse line breaks within them.",
            code="invalid_origin",
        )
    try:
        email_text, origin_text = trim(email.decode()), trim(origin.decode())
        parsed = email_address.parse_email(email_text)
    except (UnicodeDecodeError, InvalidInput):
        # The text is not quoted: it comes from the public.
        raise _invalid_request() from None
    return Request(parsed, parse_network(origin_text) if separator and origin_text else "")


def _invalid_request() -> ClientNotFound:
    return ClientNotFound(
        "the request is not an e-mail address",
        "Pass one e-mail address on the first line, and the client's IP address or nothing on the second.",
        code="invalid_request",
    )


class Processed(NamedTuple):
    """A request that was answered with the text `sent`.

    Attributes:
        reason: `accepted` by the mail server, or `client_limited` or `origin_limited`: then nothing has changed.
        text: the words for the client.
        issued: the new password; None beyond a limit.
        rest: the keys of further clients with the same e-mail, for `mail_rest`.
        source: the hash of the network of the request; empty if unknown.
    """

    reason: str
    text: str
    issued: IssueResult | None = None
    rest: Sequence[int] = ()
    source: str = ""


def process_request(context: Context, request: Request) -> Processed:
    """Mail a new password to the client of a request, if the limits allow it.

    If several clients share the e-mail, a limit counts the request once for all of them. This mails the first of them
    whose mail is accepted; the caller passes the others to `mail_rest` after the answer, so that its time does not tell
    how many there are.

    If EGEC_REQUEST_DISCLOSES is no, requests for unknown, disabled and inactive clients take the same work as others.

    Raises:
        ClientNotFound: no client has this e-mail.
        ConfigError: clients share an e-mail although EGEC_SHARED_EMAIL is no.
        EgecError: no mail was sent; the codes are those of `issue_by_mail`. Unless the answer of the mail server was
            lost, the request no longer counts.
    """
    mail_route.require(context)
    shared_emails.require_allowed(context, names_them=False)
    settings = context.settings
    source = networks.hash_text(context, request.network) if request.network else ""
    counted: list[Counted] = []
    if source and settings.requests_per_origin:
        counted.append(networks.count_act(context, f"request {source}", settings.requests_per_origin))
        if not counted[0].is_within:
            return _report_limit(context, None, source, "origin_limited", counted[0])
    clients = shared_emails.find_with_email(request.email.key)
    now = validity.local_moment(context)
    mailable = [one for one in clients if issue.find_refusal(one, now) is None]
    client = next(iter((*mailable, *clients)), None)
    counted_for_client = _count_for_client(context, clients, request)
    is_limited = counted_for_client is not None and not counted_for_client.is_within
    if not mailable:
        if not (settings.request_discloses or is_limited):
            hashing.check_dummy(settings.bcrypt_cost)
        raise _refuse(context, client, source, _refusal_of(client, now))
    assert client is not None
    if counted_for_client is not None:
        if not counted_for_client.is_within:
            return _report_limit(context, client, source, "client_limited", counted_for_client)
        counted.append(counted_for_client)
    return _mail_first(context, mailable, source, counted)


def mail_rest(context: Context, keys: Sequence[int], email_key: str, source: str) -> None:
    """Mail a new password to further clients of a request; failures are recorded.

    Args:
        keys: those of the clients; who has another e-mail by now, or may get no mail, is left out.
        email_key: the e-mail of the request.
        source: the hash of the network of the request; empty if unknown.
    """
    now = validity.local_moment(context)
    for client in shared_emails.find_with_email(email_key):
        if client.id in keys and issue.find_refusal(client, now) is None:
            with suppress(EgecError):
                _mail(context, client, source)


def _count_for_client(context: Context, clients: Sequence[Client], request: Request) -> Counted | None:
    limits = context.settings.requests_per_client
    if not limits:
        return None
    if clients:
        # Once for all clients with this e-mail.
        return networks.count_act(context, f"request client {min(one.id for one in clients)}", limits)
    if context.settings.request_discloses:
        return None
    # As for a client, so that the second request for an unknown e-mail takes no more work than for a known one. The
    # buckets bound the number of rows.
    bucket = networks.hash_text(context, request.email.key)[:_BUCKET_DIGITS]
    return networks.count_act(context, f"request unknown {bucket}", limits)


def _mail_first(context: Context, clients: Sequence[Client], source: str, counted: Sequence[Counted]) -> Processed:
    """Mail the clients in turn until a mail is accepted, and return the others as the rest."""
    # A flaw of the template is found before any mail leaves.
    text = _sent_text(context, clients[0])
    errors: list[EgecError] = []
    try:
        for place, client in enumerate(clients, 1):
            try:
                issued = _mail(context, client, source)
            except EgecError as error:
                errors.append(error)
                continue
            return Processed("accepted", text, issued, [one.id for one in clients[place:]], source)
        in_doubt = [error for error in errors if error.code == issue.IN_DOUBT]
        if not in_doubt:
            with context.database.atomic():
                _forget(counted)
    except peewee.PeeweeException:
        with suppress(peewee.PeeweeException), context.database.atomic():
            _forget(counted)
        raise
    raise (in_doubt or errors)[0]


def _mail(context: Context, client: Client, source: str) -> IssueResult:
    try:
        issued = issue.mail_credential(context, client, hashing=hashing.start_hash(context.settings))
    except EgecError as error:
        with context.database.atomic():
            record_event(context, _ACTION, "failed", client=client, failure=error.code, **_origin(source))
        raise
    with context.database.atomic():
        record_event(context, _ACTION, "accepted", client=client, sequence=issued.sequence, **_origin(source))
    return issued


def _forget(counted: Sequence[Counted]) -> None:
    """Take back the counts of a request that failed: the client is asked to try again, and must then get a mail."""
    for one in counted:
        networks.forget_act(one)


def _sent_text(context: Context, client: Client | None) -> str:
    # If requests must not tell clients apart, neither may the language.
    language = client.language if client is not None and context.settings.request_discloses else ""
    return render_answer(context.settings, Answer.SENT, language)


def _report_limit(context: Context, client: Client | None, source: str, reason: str, counted: Counted) -> Processed:
    if counted.is_recorded:
        with context.database.atomic():
            record_event(
                context, _ACTION, "limited", client=client, reason=reason, number=counted.beyond, **_origin(source)
            )
    return Processed(reason, _sent_text(context, client))


def _refuse(context: Context, client: Client | None, source: str, error: EgecError) -> EgecError:
    """Record a refused request, and return its error."""
    counted = networks.count_act(context, f"refused request {source}".rstrip(), _RECORDED)
    if counted.is_recorded:
        details = _origin(source) | ({} if counted.is_within else {"number": counted.beyond})
        with context.database.atomic():
            record_event(context, _ACTION, "refused", client=client, reason=error.code, **details)
    return error


def _refusal_of(client: Client | None, now: LocalMoment) -> EgecError:
    """Return why no mail is sent: the client is unknown, disabled or inactive."""
    return (client and issue.find_refusal(client, now)) or ClientNotFound(
        "no client has the requested e-mail", "To find clients, type `egec client list --search PART`."
    )


def _origin(source: str) -> dict[str, Any]:
    return {"origin": source} if source else {}


def run_detached(work: Callable[[], object]) -> None:
    """Start the work in a new session, with nothing of the caller's open, and return at once.

    The process inherits the umask and the limit on core dumps, which `main` sets. No database may be open. The work has
    to record its own failures: no one sees what it writes.

    Raises:
        TemporaryFailure: the system does not allow another process.
    """
    try:
        child = os.fork()
    except OSError as error:
        raise TemporaryFailure(
            "the request cannot be processed: {reason}",
            "Raise the limit on processes (ulimit -u, or TasksMax= of a systemd unit), then try again.",
            reason=system_message(error),
        ) from None
    if child == 0:
        # Whatever happens, this process never returns to the caller's code.
        with suppress(BaseException):
            _leave_caller()
            work()
        os._exit(0)


def _leave_caller() -> None:
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in _STANDARD:
        os.dup2(nothing, descriptor)
    # So that a web server does not wait for the end of its pipes.
    os.closerange(len(_STANDARD), _MOST_DESCRIPTORS)
