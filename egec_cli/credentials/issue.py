"""Issuing: a new password for a client, recorded, mailed, settled.

The order is the point. The credential is committed before the mail server hears of it, no transaction is
open while bcrypt or the mail server works, and the former password is replaced only when the server has
accepted the mail. So a crash, a lost answer or a refused mail locks nobody out (see `credentials`).
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from egec_cli import email_address
from egec_cli.audit.record import record_event
from egec_cli.context import Context
from egec_cli.credentials import leases, states
from egec_cli.credentials.leases import Lease
from egec_cli.credentials.states import MailOutcome, NewCredential, RecordedCredential
from egec_cli.errors import AddressRefused, EgecError, PermissionDenied, StorageError, TemporaryFailure
from egec_cli.hashing import Hashing
from egec_cli.mail.compose import message
from egec_cli.mail.compose.message import Mail
from egec_cli.mail.transports.interface import DeliveryRefused, DeliveryUnknown, Reply, Transport
from egec_cli.mail.transports.quoting import without_secret
from egec_cli.password import Password
from egec_cli.store import peewee
from egec_cli.store.models import Client, CredentialState
from egec_cli.translation import Words, join_words


class IssueResult(NamedTuple):
    """A credential that was issued, and what became of its mail.

    Attributes:
        identifier: the client's.
        email: where the mail went.
        sequence: the number of this password among those of the client.
        state: `accepted`; or `superseded` or `revoked` where a later one has won already.
        message_id: of the mail; None where none was sent.
        server_reply: the mail server's answer, or the file in which the mail was laid down; None where none was sent.
    """

    identifier: str
    email: str
    sequence: int
    state: CredentialState
    message_id: str | None
    server_reply: str | None


class NewPassword(NamedTuple):
    """A credential about to be shown to the operator rather than mailed."""

    identifier: str
    email: str
    sequence: int
    password: Password


# The codes of who may get no credential.
_ERASED, _DISABLED = "client_erased", "client_disabled"
TOO_MANY_OPEN = "too_many_open"
# Recorded of a credential whose issue was stopped by Ctrl-C or SIGTERM before its outcome was known.
INTERRUPTED = "interrupted"
NOT_ACTIVATABLE = (_ERASED, _DISABLED)

# What `_issue` needs of a way to hand a password over: the Message-ID, if any, and the act itself, which is told
# the sequence.
_Handover = tuple[str | None, Callable[[int], Reply]]


def issue_by_mail(
    context: Context, client: Client, transport: Transport, *, hashing: Hashing, revoke: bool = False
) -> IssueResult:
    """Issue a credential for a client and mail it.

    Args:
        context: where.
        client: for whom.
        transport: by which the mail leaves.
        hashing: the new password, whose hash may still be under way.
        revoke: void every former password and every mail under way at once.

    Raises:
        PermissionDenied: the client is disabled, or has too many deliveries in doubt.
        TemporaryFailure: another issuer is mailing this client, the mail server is unavailable, or its answer was lost.
        EgecError: the mail was refused; nothing has changed for the client (65, 74, 75, 77 or 78).
    """

    def by_mail() -> _Handover:
        mail = _mail(context, client, hashing.password)
        failure = _failure_to_connect(transport)

        def sent(_sequence: int) -> Reply:
            if failure is not None:
                raise failure
            try:
                return transport.deliver(mail)
            except DeliveryRefused as refusal:
                if isinstance(refusal.error, AddressRefused):
                    refusal.error.hint = correct_address(client.identifier)
                raise

        return mail.message_id, sent

    return _issue(context, client, by_mail, hashing=hashing, revoke=revoke)


def issue_to_operator(
    context: Context, client: Client, show: Callable[[NewPassword], None], *, hashing: Hashing, revoke: bool = False
) -> IssueResult:
    """Issue a credential for a client and show it to the operator instead of mailing it.

    Args:
        context: where.
        client: for whom.
        show: shows it; when it returns, the password counts as handed over.
        hashing: the new password, whose hash may still be under way.
        revoke: void every former password and every mail under way at once.

    Raises:
        PermissionDenied: the client is disabled, or has too many deliveries in doubt.
        TemporaryFailure: another issuer is mailing this client.
    """

    def by_hand() -> _Handover:
        def shown(sequence: int) -> Reply:
            show(NewPassword(client.identifier, _registered_email(client), sequence, hashing.password))
            return Reply("shown to the operator")

        return None, shown

    return _issue(context, client, by_hand, hashing=hashing, revoke=revoke)


def _issue(
    context: Context, client: Client, prepare: Callable[[], _Handover], *, hashing: Hashing, revoke: bool
) -> IssueResult:
    email = _registered_email(client)
    lease = leases.take_lease(context, client)
    try:
        with lease.renewed(context):
            message_id, act = prepare()
            new = NewCredential(client.id, hashing.result(), message_id)
            recorded = _record(context, client, new, revoke=revoke, is_shown=message_id is None)
            try:
                outcome, error, _ = send_recorded(recorded, lambda: act(recorded.sequence), hashing.password)
            except BaseException as interruption:
                outcome = MailOutcome(recorded, CredentialState.IN_DOUBT, _failure_of(interruption))
                settled = _settle(context, client, outcome, lease)
                if isinstance(interruption, KeyboardInterrupt):
                    # `main` prints it.
                    interruption.args = (_after_interruption(settled, client, revoke=revoke, is_mail=bool(message_id)),)
                raise
        settled = _settle(context, client, outcome, lease)
        if error is not None:
            if settled.has_no_room:
                error.hint = make_room(client.identifier)
            error.hint = join_words(" ", [_what_holds(settled, revoke=revoke), error.hint])
            raise error
        return IssueResult(client.identifier, email, recorded.sequence, settled.state, message_id, outcome.server_reply)
    except BaseException:
        # What happened is told, even if the database fails once more; a lease that is not given back ends by itself.
        with suppress(peewee.PeeweeException):
            lease.release()
        raise


class SendResult(NamedTuple):
    """What became of a password that was to leave, and what to tell of a failure.

    Attributes:
        server_away: it was refused, and so would have been any other at this moment.
    """

    outcome: MailOutcome
    error: EgecError | None = None
    server_away: bool = False


def send_recorded(recorded: RecordedCredential, act: Callable[[], Reply], secret: Password) -> SendResult:
    """Let a password leave that is recorded, and return what became of it.

    Args:
        recorded: its credential.
        act: lets it leave; returns when it was accepted, or raises `Refused` or `DeliveryUnknown`.
        secret: the password, which no server's words may carry any further.
    """
    try:
        reply = act()
    except DeliveryRefused as refusal:
        words = None if refusal.reply is None else without_secret(refusal.reply, secret)
        refusal.error.message = without_secret(refusal.error.message, secret)
        outcome = MailOutcome(recorded, CredentialState.REFUSED, refusal.error.code, words)
        return SendResult(outcome, refusal.error, refusal.server_unavailable)
    except DeliveryUnknown as loss:
        error = TemporaryFailure(
            "{loss}. The mail may have left",
            "Run the same again if the client gets no mail.",
            code="in_doubt",
            loss=without_secret(loss.words, secret),
        )
        return SendResult(MailOutcome(recorded, CredentialState.IN_DOUBT, error.code), error)
    return SendResult(MailOutcome(recorded, CredentialState.ACCEPTED, server_reply=without_secret(reply.text, secret)))


class _Settled(NamedTuple):
    """How an issue ended for the client.

    Attributes:
        former_works: the password that counted before signs in at this moment.
        has_no_room: so many deliveries are in doubt that no further mail can be sent.
    """

    state: CredentialState
    former_works: bool
    has_no_room: bool


def _failure_of(interruption: BaseException) -> str:
    """Return the stable code of what ended an attempt before its outcome was known."""
    if isinstance(interruption, EgecError):
        return interruption.code
    if isinstance(interruption, OSError):
        return StorageError.code
    return EgecError.code if isinstance(interruption, Exception) else INTERRUPTED


def _after_interruption(settled: _Settled, client: Client, *, revoke: bool, is_mail: bool) -> Words:
    """Return what an operator who interrupted an issue has to know."""
    if settled.has_no_room:
        again = make_room(client.identifier)
    elif is_mail:
        again = Words("If no mail arrives, type `egec activate {identifier}`.", identifier=client.identifier)
    else:
        again = Words("Run the same again to show another password.")
    sent = Words("The mail may have been sent." if is_mail else "The password may have been shown.")
    return join_words(" ", [sent, _what_holds(settled, revoke=revoke, is_mail=is_mail), again])


def _what_holds(settled: _Settled, *, revoke: bool, is_mail: bool = True) -> str:
    """Return which passwords sign in after an issue that was not accepted."""
    if not is_mail:
        if settled.former_works:
            return Words("The former password works until the new one is used.")
        return Words("The new password works.")
    if revoke:
        return Words("Every former password is void: the client is locked out until a mail arrives.")
    if settled.state is CredentialState.IN_DOUBT:
        if settled.former_works:
            return Words("The former password still works, and so will the new one if its mail arrived.")
        return Words("The new password works if its mail arrived.")
    if settled.former_works:
        return Words("Nothing was changed: the former password still works.")
    return Words("Nothing was changed.")


def correct_address(identifier: str) -> str:
    """Return what to do where the mail server does not take the address of a client."""
    return Words("Correct the address: `egec client update {identifier} --email ADDRESS`.", identifier=identifier)


def make_room(identifier: str) -> str:
    """Return what to do where so many deliveries to a client are in doubt that no further mail can be sent."""
    return Words(
        "No further mail can be sent until the client signs in with the latest one. If none arrived, type "
        "`egec activate {identifier} --revoke`: it revokes all earlier passwords and mails a new one.",
        identifier=identifier,
    )


def _failure_to_connect(transport: Transport) -> DeliveryRefused | None:
    """Connect, and return what to tell of a failure once the credential is recorded."""
    try:
        transport.connect()
    except DeliveryRefused as failure:
        return failure
    return None


def _registered_email(client: Client) -> str:
    return require_email(client.identifier, client.email, client.disabled_at)


def require_email(identifier: str, email: str | None, disabled_at: datetime | None) -> str:
    """Return the e-mail of a client who may get a credential.

    Raises:
        PermissionDenied: the file was erased, or is disabled.
    """
    if email is None:
        raise PermissionDenied(
            "client {identifier} was erased", "An erased file stays so.", code=_ERASED, identifier=identifier
        )
    if disabled_at is not None:
        raise PermissionDenied(
            "client {identifier} is disabled",
            "Type `egec client enable {identifier}` first.",
            code=_DISABLED,
            identifier=identifier,
        )
    return email


def _mail(context: Context, client: Client, new_password: Password) -> Mail:
    return message.credentials_mail(
        context.settings,
        recipient=email_address.parse_email(_registered_email(client)).wire,
        language=client.language or context.settings.language,
        name=greeting_name(client.civility, client.first_name, client.last_name),
        identifier=client.identifier,
        password=new_password,
        issued_at=context.clock(),
        client=client.id,
    )


def greeting_name(civility: str, first_name: str, last_name: str) -> str:
    """Return how a mail names a client: `M. Dupont`, or both names where there is no civility."""
    if civility:
        return f"{civility} {last_name or first_name}".strip()
    return f"{first_name} {last_name}".strip()


def _record(
    context: Context, client: Client, new: NewCredential, *, revoke: bool, is_shown: bool
) -> RecordedCredential:
    with context.database.atomic():
        recorded = states.record_credentials(
            [new],
            at=context.clock(),
            by=context.actor.user,
            unused_days=context.settings.unused_password_days,
            revoke=revoke,
        ).get(client.id)
        if recorded is None:
            raise too_many_in_doubt(client.identifier)
        # Looked at again, now that nobody else can change it: who was erased meanwhile is mailed no more.
        require_email(client.identifier, Client.get_by_id(client.id).email, disabled_at=None)
        if is_shown:
            # Before it is: a kill leaves no password that somebody has seen off the record.
            record_event(context, "credential.show", "begun", client=client, sequence=recorded.sequence)
        if revoke:
            record_event(context, "credential.revoke", "revoked", client=client, below=recorded.sequence)
        return recorded


def too_many_in_doubt(identifier: str) -> PermissionDenied:
    """Return the error of a client who can have no further open credential; trying again does not help."""
    return PermissionDenied(
        "client {identifier} has {number} deliveries in doubt",
        make_room(identifier),
        code="too_many_open",
        identifier=identifier,
        number=states.MAX_IN_DOUBT,
    )


def _settle(context: Context, client: Client, outcome: MailOutcome, lease: Lease) -> _Settled:
    with context.database.atomic():
        lease.release()
        at = context.clock()
        state = states.settle_credentials([outcome], at=at)[outcome.credential]
        record_event(context, "credential.issue", state, client=client, sequence=outcome.credential.sequence)
        if state not in {CredentialState.REFUSED, CredentialState.IN_DOUBT}:
            return _Settled(state, former_works=False, has_no_room=False)
        former_works = _has_working_password(client, outcome.credential.sequence, at)
        return _Settled(state, former_works, has_no_room=bool(states.without_room([client.id], at)))


def _has_working_password(client: Client, before: int, at: datetime) -> bool:
    """Tell whether a password that was issued before this sequence, or imported, signs in at this moment."""
    stored = Client.get_by_id(client.id)
    if stored.disabled_at is not None or (stored.blocked_until is not None and stored.blocked_until > at):
        return False
    return any(
        one.state == CredentialState.ACCEPTED and one.sequence < before for one in states.usable_credentials(stored, at)
    )
