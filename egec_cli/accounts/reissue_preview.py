"""What a re-issue run would be like before it is begun: how long it would take, and what a client would read."""

import time
from typing import NamedTuple

from egec_cli.accounts import fields, reissue_forms
from egec_cli.accounts.egec import Egec
from egec_cli.hashing import hash_password
from egec_cli.mail.delivery import Refused, Transport
from egec_cli.mail.specimen import as_read
from egec_cli.password import generate


class Preview(NamedTuple):
    """What was measured and rendered for a run of so many clients.

    Attributes:
        hash_seconds: how long one hash takes on one core.
        mail_seconds: about how long one mail takes on one connection; None where the server is away.
        seconds: about how long the run takes.
        sample: the plain text of a mail, with a password that opens nothing.
        fault: why no mail would leave at present.
    """

    clients: int
    hash_seconds: float
    mail_seconds: float | None
    seconds: float
    sample: str
    fault: str | None


def preview(egec: Egec, clients: int, transport: Transport, *, rate: int | None, sentence: str = "") -> Preview:
    """Measure what a run of so many clients takes, and render its mail.

    A mail takes about as many answers of the server as to connect does, so it is taken to last as long.

    Raises:
        BadInput: the sentence is none.
        Misconfigured: a template makes no mail.
    """
    settings = egec.settings
    forms = reissue_forms.of(settings, fields.sentence(sentence) if sentence else "")
    sample = as_read(forms[settings.language].sample(egec.clock()))
    began = time.perf_counter()
    hash_password(generate(settings.alphabet), settings.bcrypt_cost)
    hash_seconds = time.perf_counter() - began
    mail_seconds, fault = _time_to_connect(transport)
    rate = settings.mail_rate if rate is None else rate
    seconds = max(
        hash_seconds / settings.workers,
        (mail_seconds or 0) / settings.mail_connections,
        1 / rate if rate else 0,
    )
    return Preview(clients, hash_seconds, mail_seconds, clients * seconds, sample, fault)


def _time_to_connect(transport: Transport) -> tuple[float | None, str | None]:
    began = time.perf_counter()
    try:
        transport.connect()
    except Refused as refusal:
        return None, refusal.error.message
    finally:
        taken = time.perf_counter() - began
        transport.close()
    return taken, None
