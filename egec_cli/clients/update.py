"""Update clients, and notify a previous e-mail address of its replacement."""

from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

from egec_cli import email_address
from egec_cli.audit import events as audit
from egec_cli.clients import fields
from egec_cli.clients.change import erased_error
from egec_cli.clients.records import already_taken_error
from egec_cli.context import Context
from egec_cli.credentials import issue, shared_emails
from egec_cli.credentials.states import lock_clients
from egec_cli.errors import (
    AlreadyExists,
    EgecError,
    TemporaryFailure,
)
from egec_cli.mail.compose import message
from egec_cli.mail.compose.message import Mail
from egec_cli.mail.transports.interface import DeliveryOutcome, DeliveryRefused, DeliveryUnknown, Transport
from egec_cli.store import peewee
from egec_cli.store.models import Client
from egec_cli.translation import Words

# Each retry means that another process has just taken a value that was free.
_TRIES = 20


class UpdateResult(NamedTuple):
    """An updated client; `previous_email` is None unless the address (not only its spelling) has changed."""

    client: Client
    previous_email: str | None


class NoticeResult(NamedTuple):
    """The result of mailing a notice: the server's reply if it was accepted, otherwise the error."""

    outcome: DeliveryOutcome
    server_reply: str | None = None
    error: EgecError | None = None


def update_client(context: Context, client: Client, given: Mapping[str, str]) -> UpdateResult:
    """Change fields of a client.

    Args:
        given: the new values by field name; an empty value clears a field, except the e-mail.

    Raises:
        InvalidInput: a value is invalid.
        AlreadyExists: the e-mail or the reference belongs to another client.
        PermissionDenied: the client was erased.
    """
    values = _parse_values(given)
    for _ in range(_TRIES):
        try:
            with context.database.atomic():
                lock_clients([client.id])
                stored = Client.get_by_id(client.id)
                if stored.email is None:
                    raise erased_error(stored.identifier)
                _require_free(context, stored, given, values)
                _require_order(stored, values)
                changed = {name: value for name, value in values.items() if getattr(stored, name) != value}
                if changed:
                    now = context.clock()
                    # A bounce from the previous address says nothing about the new one.
                    address: dict[str, Any] = {}
                    if email_key := changed.get("email_key"):
                        # Without shared e-mails always 0, so that the database refuses a second client.
                        number = shared_emails.next_number(email_key) if context.settings.shared_email else 0
                        address = {"email_changed_at": now, "email_bounced_at": None, "email_share": number}
                    Client.update(updated_at=now, **changed, **address).where(Client.id == client.id).execute()
                    if address.get("email_share"):
                        shared_emails.copy_marks([client.id])
                    names = sorted(changed.keys() - {"email_key"})
                    audit.record_event(context, "client.update", "updated", client=stored, fields=names)
                previous_email = stored.email if "email_key" in changed else None
                return UpdateResult(Client.get_by_id(client.id), previous_email)
        except peewee.IntegrityError:
            continue
    raise AlreadyExists("other processes keep taking the e-mail or the reference", "Try again.")


def _parse_values(given: Mapping[str, str]) -> dict[str, str | None]:
    """Return the new values by column."""
    parsers: dict[str, Callable[[str], str | None]] = {
        "reference": lambda text: fields.clean_line(Words("reference"), text) or None,
        "civility": fields.parse_civility,
        "first_name": partial(fields.clean_line, Words("first name")),
        "last_name": partial(fields.clean_line, Words("last name")),
        "language": fields.parse_language,
        "valid_from": fields.parse_day,
        "valid_until": fields.parse_day,
    }
    values = {name: parsers[name](text) for name, text in given.items() if name != "email"}
    if "email" in given:
        email = email_address.parse_email(given["email"])
        values |= {"email": email.given, "email_key": email.key}
    return values


def _require_free(context: Context, client: Client, given: Mapping[str, str], values: Mapping[str, str | None]) -> None:
    # Clients who share an e-mail keep it, whatever EGEC_SHARED_EMAIL says.
    is_email_free = context.settings.shared_email or values.get("email_key") == client.email_key
    for field, name in ((Words("e-mail"), "email_key"), (Words("reference"), "reference")):
        if values.get(name) is not None and not (name == "email_key" and is_email_free):
            other = Client.get_or_none((getattr(Client, name) == values[name]) & (Client.id != client.id))
            if other is not None:
                raise already_taken_error(field, given["email" if name == "email_key" else name], other)


def _require_order(client: Client, values: Mapping[str, str | None]) -> None:
    days = (values.get(name, getattr(client, name)) for name in ("valid_from", "valid_until"))
    fields.require_order(*days)


def is_notice_due(client: Client) -> bool:
    """Return whether a new address must be notified to the previous one: only after a first password was accepted.

    Before that, an attacker has nothing to take over, and the previous address may have been a mistake.
    """
    return bool(client.active_sequence)


def send_notice(
    context: Context, client: Client, previous_email: str, new_transport: Callable[[], Transport]
) -> NoticeResult:
    """Mail the notice of a new address to the previous one, and record the outcome. The change stands in any case.

    Args:
        previous_email: the recipient.
        new_transport: opens the transport; may raise `EgecError`.
    """
    notice, mail = _deliver_notice(context, client, previous_email, new_transport)
    details: dict[str, Any] = {}
    if mail is not None:
        details["message_id"] = mail.message_id
    if notice.error is not None:
        details["failure"] = notice.error.code
    with context.database.atomic():
        audit.record_event(context, "client.notice", notice.outcome, client=client, **details)
    return notice


def _deliver_notice(
    context: Context, client: Client, previous_email: str, new_transport: Callable[[], Transport]
) -> tuple[NoticeResult, Mail | None]:
    mail = None
    try:
        mail = message.address_changed_mail(
            context.settings,
            recipient=email_address.parse_email(previous_email).wire,
            language=client.language or context.settings.language,
            name=issue.greeting_name(client.civility, client.first_name, client.last_name),
            changed_at=context.clock(),
            client=client.id,
        )
        with closing(new_transport()) as transport:
            return NoticeResult(DeliveryOutcome.ACCEPTED, transport.deliver(mail).text), mail
    except EgecError as error:
        return NoticeResult(DeliveryOutcome.REFUSED, error=error), mail
    except DeliveryRefused as refusal:
        return NoticeResult(DeliveryOutcome.REFUSED, error=refusal.error), mail
    except DeliveryUnknown as loss:
        doubt = TemporaryFailure("{loss}. The mail may have been sent", code=issue.IN_DOUBT, loss=loss.words)
        return NoticeResult(DeliveryOutcome.IN_DOUBT, error=doubt), mail
