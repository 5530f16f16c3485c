"""Issue a credential: record a new password for a client, mail it, settle the outcome.

The order matters. The credential is committed before the mail server sees its mail, no transaction is open while bcrypt
or the mail server works, and the previous password is replaced only after the server has accepted the mail. So a crash,
a lost answer or a refused mail locks no client out (see `states`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from egec_cli import email_address
from egec_cli.audit.events import record_event
from egec_cli.context import Context
from egec_cli.credentials import leases, quotas, shared_emails, states, validity
from egec_cli.credentials.leases import Lease
from egec_cli.credentials.quotas import Place
from egec_cli.credentials.states import MailOutcome, NewCredential, RecordedCredential
from egec_cli.credentials.validity import LocalMoment
from egec_cli.errors import AddressRefused, EgecError, PermissionDenied, StorageError, TemporaryFailure
from egec_cli.hashing import Hashing, start_hash
from egec_cli.mail.compose import message
from egec_cli.mail.compose.message import Mail
from egec_cli.mail.transports.choose import open_transport
from egec_cli.mail.transports.interface import (
    Cause,
    DeliveryRefused,
    DeliveryUnknown,
    Reply,
    Transport,
    without_secret,
)
from egec_cli.password import Password
from egec_cli.settings.types import Settings
from egec_cli.store import peewee
from egec_cli.store.models import Client, CredentialState
from egec_cli.translation import Words, join_words


class IssueResult(NamedTuple):
    """An issued credential and the outcome of its mail.

    Attributes:
        identifier: the client's identifier.
        email: the address that was mailed.
        sequence: the number of this password among those of the client.
        state: `accepted`; or `superseded` or `revoked` if a later credential has replaced it already.
        message_id: the mail's Message-ID; None if no mail was sent.
        server_reply: the mail server's answer or the file that the mail was saved to; None if no mail was sent.
    """

    identifier: str
    email: str
    sequence: int
    state: CredentialState
    message_id: str | None
    server_reply: str | None


class NewPassword(NamedTuple):
    """A new password to show to the operator instead of mailing it."""

    identifier: str
    email: str
    sequence: int
    password: Password


_ERASED, _DISABLED, _INACTIVE = "client_erased", "client_disabled", "client_inactive"
NOT_ACTIVATABLE = (_ERASED, _DISABLED, _INACTIVE)
TOO_MANY_IN_DOUBT = "too_many_in_doubt"
# The failure of an issue whose mail may have left.
IN_DOUBT = "in_doubt"
# The failure of an issue that Ctrl-C or SIGTERM stopped before its outcome was known.
INTERRUPTED = "interrupted"

# How to hand a password over: the Message-ID, if any, and a function of the sequence that does it.
_Handover = tuple[str | None, Callable[[int], Reply]]


def mail_credential(context: Context, client: Client, *, hashing: Hashing, revoke: bool = False) -> IssueResult:
    """Issue a credential for a client and mail it by the transport of the settings; otherwise as `issue_by_mail`."""
    with closing(open_transport(context.settings)) as transport:
        return issue_by_mail(context, client, transport, hashing=hashing, revoke=revoke)


def issue_by_mail(
    context: Context, client: Client, transport: Transport, *, hashing: Hashing, revoke: bool = False
) -> IssueResult:
    """Issue a credential for a client and mail it.

    `revoke` invalidates every earlier password immediately, also those whose mail is under way. The hash of the new
    password may still be computed.

    Raises:
        PermissionDenied: the client is erased, disabled or outside the validity, or has too many deliveries in doubt.
        ConfigError: clients share an e-mail although EGEC_SHARED_EMAIL is no.
        TemporaryFailure: another issuer is mailing this client, the quotas allow no mail for longer than
            `quotas.PATIENCE`, the mail server is unavailable, or its answer was lost.
        EgecError: the mail was refused; nothing has changed for the client (65, 74, 75, 77 or 78).
    """

    def prepare(issued_at: datetime) -> _Handover:
        mail = _compose(context, client, hashing.password, issued_at)
        failure = _try_to_connect(transport)

        def deliver(_sequence: int) -> Reply:
            if failure is not None:
                raise failure
            try:
                return transport.deliver(mail)
            except DeliveryRefused as refusal:
                if isinstance(refusal.error, AddressRefused):
                    refusal.error.hint = address_hint(client.identifier)
                raise

        return mail.message_id, deliver

    return _issue(context, client, prepare, hashing=hashing, revoke=revoke, is_mail=True)


class Issued(NamedTuple):
    """A client with the issued credential, or the error."""

    client: Client
    result: IssueResult | None
    error: EgecError | None


def mail_each(
    context: Context,
    clients: Sequence[Client],
    *,
    hashing: Hashing | None = None,
    revoke: bool = False,
    new_transport: Callable[[Settings], Transport] = open_transport,
) -> Iterator[Issued]:
    """Issue and mail a credential for each client in turn, and yield each outcome; one failure does not stop the rest.

    Args:
        hashing: the first password, if its hash is being computed already.
        new_transport: opens the transport of a mail; each has its own, as a failure may leave it unusable.
    """
    for client in clients:
        # A password is for one client.
        new, hashing = hashing or start_hash(context.settings), None
        try:
            with closing(new_transport(context.settings)) as transport:
                result = issue_by_mail(context, client, transport, hashing=new, revoke=revoke)
        except EgecError as error:
            yield Issued(client, None, error)
        else:
            yield Issued(client, result, None)


def issue_to_operator(
    context: Context, client: Client, show: Callable[[NewPassword], None], *, hashing: Hashing, revoke: bool = False
) -> IssueResult:
    """Issue a credential for a client and show it to the operator instead of mailing it; otherwise as `issue_by_mail`.

    When `show` returns, the password counts as handed over.
    """

    def show_password(sequence: int) -> Reply:
        show(
            NewPassword(client.identifier, _require_email(client.identifier, client.email), sequence, hashing.password)
        )
        return Reply("shown to the operator")

    return _issue(context, client, lambda _: (None, show_password), hashing=hashing, revoke=revoke, is_mail=False)


def _issue(
    context: Context,
    client: Client,
    prepare: Callable[[datetime], _Handover],
    *,
    hashing: Hashing,
    revoke: bool,
    is_mail: bool,
) -> IssueResult:
    shared_emails.require_allowed(context)
    email = require_activatable(client, validity.local_moment(context))
    lease = leases.take_lease(context, client)
    unused: Place | None = None
    try:
        # Before anything is recorded. The password is being hashed meanwhile.
        place = unused = quotas.take_place(context, lease.owner) if is_mail else None
        with lease.renewed(context, also=[place.extend] if place else []):
            # One moment for the mail and the credential: the password works to the end of the day that the mail names.
            issued_at = context.clock()
            message_id, hand_over = prepare(issued_at)
            new = NewCredential(client.id, hashing.result(), message_id)
            recorded = _record(context, client, new, issued_at, revoke=revoke, is_shown=not is_mail)
            unused = None
            try:
                outcome, error, _ = send_recorded(recorded, lambda: hand_over(recorded.sequence), hashing.password)
            except BaseException as interruption:
                outcome = MailOutcome(recorded, CredentialState.IN_DOUBT, _failure_code(interruption))
                settled = _settle(context, client, outcome, lease, place)
                if isinstance(interruption, KeyboardInterrupt):
                    # `main` prints it.
                    interruption.args = (_explain_interruption(settled, client, revoke=revoke, is_mail=is_mail),)
                raise
        settled = _settle(context, client, outcome, lease, place)
        if error is not None:
            if settled.has_no_room:
                error.hint = revoke_hint(client.identifier)
            error.hint = join_words(" ", [_explain_passwords(settled, revoke=revoke), error.hint])
            raise error
        return IssueResult(client.identifier, email, recorded.sequence, settled.state, message_id, outcome.server_reply)
    except BaseException:
        # Report the first error even if the database fails again; an unreleased lease expires.
        with suppress(peewee.PeeweeException):
            lease.release()
            if unused is not None:
                unused.give_back(context)
        raise


class SendResult(NamedTuple):
    """The outcome of sending a password, and the error to report.

    Attributes:
        cause: why the mail was refused; None if it was accepted or is in doubt.
    """

    outcome: MailOutcome
    error: EgecError | None = None
    cause: Cause | None = None


def send_recorded(recorded: RecordedCredential, send: Callable[[], Reply], secret: Password) -> SendResult:
    """Send the password of a recorded credential and return the outcome.

    `send` raises `DeliveryRefused` or `DeliveryUnknown`. The password is removed from the server's replies.
    """
    try:
        reply = send()
    except DeliveryRefused as refusal:
        words = None if refusal.reply is None else without_secret(refusal.reply, secret)
        refusal.error.message = without_secret(refusal.error.message, secret)
        outcome = MailOutcome(recorded, CredentialState.REFUSED, refusal.error.code, words)
        return SendResult(outcome, refusal.error, refusal.cause)
    except DeliveryUnknown as loss:
        error = TemporaryFailure(
            "{loss}. The mail may have left",
            "Run the same command again if the client gets no mail.",
            code=IN_DOUBT,
            loss=without_secret(loss.words, secret),
        )
        return SendResult(MailOutcome(recorded, CredentialState.IN_DOUBT, error.code), error)
    return SendResult(MailOutcome(recorded, CredentialState.ACCEPTED, server_reply=without_secret(reply.text, secret)))


class _Settled(NamedTuple):
    """The result of an issue for the client.

    Attributes:
        previous_works: the previous password signs in.
        has_no_room: too many deliveries are in doubt to send another mail.
    """

    state: CredentialState
    previous_works: bool
    has_no_room: bool


def _failure_code(interruption: BaseException) -> str:
    """Return the stable code of the exception that ended an issue before its outcome was known."""
    if isinstance(interruption, EgecError):
        return interruption.code
    if isinstance(interruption, OSError):
        return StorageError.code
    return EgecError.code if isinstance(interruption, Exception) else INTERRUPTED


def _explain_interruption(settled: _Settled, client: Client, *, revoke: bool, is_mail: bool) -> Words:
    """Return the message for an operator who interrupted an issue."""
    if settled.has_no_room:
        again = revoke_hint(client.identifier)
    elif is_mail:
        again = Words("If no mail arrives, type `egec activate {identifier}`.", identifier=client.identifier)
    else:
        again = Words("Run the same command again to show another password.")
    sent = Words("The mail may have been sent." if is_mail else "The password may have been shown.")
    return join_words(" ", [sent, _explain_passwords(settled, revoke=revoke, is_mail=is_mail), again])


def _explain_passwords(settled: _Settled, *, revoke: bool, is_mail: bool = True) -> str:
    """Return which passwords sign in after an issue that was not accepted."""
    if not is_mail:
        if settled.previous_works:
            return Words("The previous password works until the new one is used.")
        return Words("The new password works.")
    if revoke:
        return Words("All earlier passwords are revoked: the client is locked out until a mail arrives.")
    if settled.state is CredentialState.IN_DOUBT:
        if settled.previous_works:
            return Words("The previous password still works; the new one works too if its mail arrived.")
        return Words("The new password works if its mail arrived.")
    if settled.previous_works:
        return Words("Nothing was changed: the previous password still works.")
    return Words("Nothing was changed.")


def address_hint(identifier: str) -> str:
    """Return the hint for a client whose address the mail server refuses."""
    return Words("Correct the address: `egec client update {identifier} --email ADDRESS`.", identifier=identifier)


def revoke_hint(identifier: str) -> str:
    """Return the hint for a client with too many deliveries in doubt."""
    return Words(
        "No further mail can be sent until the client signs in with the latest one. If none arrived, type "
        "`egec activate {identifier} --revoke`: it revokes all earlier passwords and mails a new one.",
        identifier=identifier,
    )


def _try_to_connect(transport: Transport) -> DeliveryRefused | None:
    """Connect; return a failure, to be raised once the credential is recorded."""
    try:
        transport.connect()
    except DeliveryRefused as failure:
        return failure
    return None


class Activatable(Protocol):
    """What decides whether a client may get a credential: a `Client`, or some columns of one."""

    @property
    def identifier(self) -> str:
        """The identifier."""

    @property
    def email(self) -> str | None:
        """The e-mail; None if the client was erased."""

    @property
    def disabled_at(self) -> datetime | None:
        """Since when the client is disabled."""

    @property
    def valid_from(self) -> str | None:
        """The first day of the validity."""

    @property
    def valid_until(self) -> str | None:
        """The last day of the validity."""


def require_activatable(client: Activatable, now: LocalMoment) -> str:
    """Return the e-mail of a client who may get a credential now.

    Raises:
        PermissionDenied: the client was erased, is disabled or is outside the validity.
    """
    email = _require_email(client.identifier, client.email)
    if client.disabled_at is not None:
        raise PermissionDenied(
            "client {identifier} is disabled",
            "Type `egec client enable {identifier}` first.",
            code=_DISABLED,
            identifier=client.identifier,
        )
    if now.is_before(client.valid_from):
        raise PermissionDenied(
            "client {identifier} is inactive: valid from {day}",
            "Wait for that day, or type `egec client update {identifier} --valid-from DATE` first.",
            code=_INACTIVE,
            identifier=client.identifier,
            day=client.valid_from,
        )
    if now.is_after(client.valid_until):
        raise PermissionDenied(
            "client {identifier} is inactive: valid until {day}",
            "Type `egec client update {identifier} --valid-until DATE` first.",
            code=_INACTIVE,
            identifier=client.identifier,
            day=client.valid_until,
        )
    return email


def find_refusal(client: Client, now: LocalMoment) -> PermissionDenied | None:
    """Return why a client, such as a disabled one, may get no mail at a moment; None otherwise."""
    try:
        require_activatable(client, now)
    except PermissionDenied as refusal:
        return refusal
    return None


def _require_email(identifier: str, email: str | None) -> str:
    if email is None:
        raise PermissionDenied(
            "client {identifier} was erased",
            "An erased client cannot be restored.",
            code=_ERASED,
            identifier=identifier,
        )
    return email


def _compose(context: Context, client: Client, new_password: Password, issued_at: datetime) -> Mail:
    name = greeting_name(client.civility, client.first_name, client.last_name)
    return message.credentials_mail(
        context.settings,
        recipient=email_address.parse_email(_require_email(client.identifier, client.email)).wire,
        language=client.language or context.settings.language,
        name=name,
        identifier=client.identifier,
        password=new_password,
        issued_at=issued_at,
        client=client.id,
        record=shared_emails.find_record_name(client, name) if context.settings.shared_email else "",
    )


def greeting_name(civility: str, first_name: str, last_name: str) -> str:
    """Return how a mail addresses a client: `M. Dupont`, or both names without a civility."""
    if civility:
        return f"{civility} {last_name or first_name}".strip()
    return f"{first_name} {last_name}".strip()


def _record(
    context: Context, client: Client, new: NewCredential, issued_at: datetime, *, revoke: bool, is_shown: bool
) -> RecordedCredential:
    with context.database.atomic():
        recorded = states.record_credentials(
            [new],
            at=issued_at,
            by=context.actor.user,
            expires_at=validity.find_expiry(context.settings, issued_at),
            revoke=revoke,
        ).get(client.id)
        if recorded is None:
            raise too_many_in_doubt(client.identifier)
        # Check again, now that the row is locked: the client may have been erased meanwhile.
        _require_email(client.identifier, Client.get_by_id(client.id).email)
        if is_shown:
            # Recorded first, so that a password that was shown is in the audit log even after a kill.
            record_event(context, "credential.show", "started", client=client, sequence=recorded.sequence)
        if revoke:
            record_event(context, "credential.revoke", "revoked", client=client, below=recorded.sequence)
        return recorded


def too_many_in_doubt(identifier: str) -> PermissionDenied:
    """Return the error for a client with too many deliveries in doubt; trying again does not help."""
    return PermissionDenied(
        "client {identifier} has {number} deliveries in doubt",
        revoke_hint(identifier),
        code=TOO_MANY_IN_DOUBT,
        identifier=identifier,
        number=states.MAX_IN_DOUBT,
    )


def _settle(context: Context, client: Client, outcome: MailOutcome, lease: Lease, place: Place | None) -> _Settled:
    with context.database.atomic():
        lease.release()
        at = context.clock()
        if place is not None:
            place.settle(at)
        state = states.settle_credentials([outcome], at=at)[outcome.credential]
        details: dict[str, Any] = {"sequence": outcome.credential.sequence} | ({} if place else {"mailed": False})
        record_event(context, "credential.issue", state, client=client, **details)
        if state not in {CredentialState.REFUSED, CredentialState.IN_DOUBT}:
            return _Settled(state, previous_works=False, has_no_room=False)
        previous_works = _has_working_password(context, client, outcome.credential.sequence, at)
        return _Settled(state, previous_works, has_no_room=bool(states.find_clients_without_room([client.id], at)))


def _has_working_password(context: Context, client: Client, before: int, at: datetime) -> bool:
    """Return whether a password that was imported or issued before this sequence signs in at this moment."""
    stored = Client.get_by_id(client.id)
    if stored.disabled_at is not None or (stored.blocked_until is not None and stored.blocked_until > at):
        return False
    if not LocalMoment(at, context.settings.timezone).is_within(stored.valid_from, stored.valid_until):
        return False
    return any(
        one.state == CredentialState.ACCEPTED and one.sequence < before for one in states.usable_credentials(stored, at)
    )
