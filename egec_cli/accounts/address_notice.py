"""The note to a client's former address, when an operator has changed it: who did not ask for that learns of it.

It leaves once the change is committed, and whatever becomes of it, the change holds.
"""

from collections.abc import Callable
from contextlib import closing
from typing import Any, NamedTuple

from egec_cli import email_address
from egec_cli.accounts import audit, issuing
from egec_cli.accounts.egec import Egec
from egec_cli.errors import EgecError, NotNow
from egec_cli.mail import message
from egec_cli.mail.delivery import AnswerLost, DeliveryOutcome, Refused, Transport
from egec_cli.mail.message import Mail
from egec_cli.store.models import Client


class Notice(NamedTuple):
    """A note that was to be mailed.

    Attributes:
        server_reply: the server's words where it was accepted.
        error: why it was not, or may not have been.
    """

    outcome: DeliveryOutcome
    server_reply: str | None = None
    error: EgecError | None = None


def is_due(client: Client) -> bool:
    """Tell whether a client is told of a new address: not before a first password could open the account.

    Until then there is nothing that somebody else could take over, and the former address may well have been a mistake.
    """
    return bool(client.active_sequence)


def send(egec: Egec, client: Client, former_email: str, new_transport: Callable[[], Transport]) -> Notice:
    """Mail the note, and record what became of it.

    Args:
        egec: where.
        client: as the file is now.
        former_email: the address that it had.
        new_transport: makes the way by which the note leaves; raises `EgecError` where it cannot.
    """
    notice, mail = _sent(egec, client, former_email, new_transport)
    told = {"message_id": mail.message_id if mail else None, "failure": notice.error.code if notice.error else None}
    details: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
    with egec.database.atomic():
        audit.record(egec, "client.notice", notice.outcome, client=client, **details)
    return notice


def _sent(
    egec: Egec, client: Client, former_email: str, new_transport: Callable[[], Transport]
) -> tuple[Notice, Mail | None]:
    mail = None
    try:
        mail = message.address_changed_mail(
            egec.settings,
            recipient=email_address.checked(former_email).wire,
            language=client.language or egec.settings.language,
            name=issuing.greeted_name(client.civility, client.first_name, client.last_name),
            changed_at=egec.clock(),
        )
        with closing(new_transport()) as transport:
            return Notice(DeliveryOutcome.ACCEPTED, transport.deliver(mail).text), mail
    except EgecError as error:
        return Notice(DeliveryOutcome.REFUSED, error=error), mail
    except Refused as refusal:
        return Notice(DeliveryOutcome.REFUSED, error=refusal.error), mail
    except AnswerLost as loss:
        doubt = NotNow("{loss}. It may have left", code="in_doubt", loss=loss.words)
        return Notice(DeliveryOutcome.IN_DOUBT, error=doubt), mail
