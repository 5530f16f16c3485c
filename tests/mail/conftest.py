"""Fixtures of the transports: mails, transports by URL, and results of deliveries."""

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Protocol

import pytest

from egec_cli.errors import ExitCode
from egec_cli.mail.compose.message import Mail
from egec_cli.mail.transports import choose
from egec_cli.mail.transports.interface import DeliveryRefused, DeliveryUnknown, Transport
from egec_cli.settings import load
from tests.smtp_server import MailServer

CONTENT = (
    b"From: ne-pas-repondre@egec.pro\r\nTo: jeanne@example.org\r\nSubject: Votre compte\r\n\r\n"
    b"Votre mot de passe : aB3#xY7%z\r\n"
)
# Long enough for a busy machine; a test that lets it pass has failed.
PATIENCE = 20.0


class End(StrEnum):
    """The results of a delivery that have no exit code."""

    ACCEPTED = "accepted"
    IN_DOUBT = "in doubt"


class MailTo(Protocol):
    """Makes a mail."""

    def __call__(self, recipient: str = ..., content: bytes = ...) -> Mail: ...


TransportOf = Callable[..., Transport]


def mail_to(recipient: str = "jeanne@example.org", content: bytes = CONTENT) -> Mail:
    """Return a mail."""
    return Mail("ne-pas-repondre@egec.pro", recipient, "<1@egec.pro>", not recipient.isascii(), content)


def end_of_delivery(by: Transport, mail: Mail) -> End | ExitCode:
    """Deliver and return the result; for a refusal, its exit code."""
    try:
        by.deliver(mail)
    except DeliveryRefused as refusal:
        return refusal.error.exit_code
    except DeliveryUnknown:
        return End.IN_DOUBT
    return End.ACCEPTED


@pytest.fixture
def transport_of() -> Iterator[TransportOf]:
    """Return a function that opens transports by EGEC_MAIL_URL; all are closed after the test.

    Its arguments: the URL, the time-out, and further settings by name without `EGEC_`.
    """
    made: list[Transport] = []

    def make(url: str, timeout: float = PATIENCE, **settings: object) -> Transport:
        environ = {f"EGEC_{name}": str(value) for name, value in settings.items()}
        found = load.load_settings({"EGEC_MAIL_URL": url, **environ})
        made.append(choose.open_transport(found._replace(mail_timeout=timeout, mail_final_timeout=timeout)))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(params=[False, True], ids=["in turn", "at once"])
def mail_server(request: pytest.FixtureRequest) -> Iterator[MailServer]:
    """Start a mail server without TLS or login, with and without PIPELINING."""
    with MailServer(pipelining=request.param) as server:
        yield server
