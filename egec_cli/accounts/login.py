"""Logins: an identifier and a password, checked. Case always counts; white space around either never does.

A Python program may call `verify` as the command does.
"""

from typing import NamedTuple

from egec_cli import hashing, identifier
from egec_cli.accounts import audit, credentials
from egec_cli.accounts.egec import Egec
from egec_cli.store.models import Client, Credential

# What is pasted along and never seen: zero-width and direction marks, soft hyphen, byte order mark.
_INVISIBLE = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


class Verdict(NamedTuple):
    """Whether the login is accepted. A refusal gives no reason: there is one for all."""

    accepted: bool


def verify(egec: Egec, given_identifier: str, given_password: str) -> Verdict:
    """Check a login, record it, and promote an open credential whose password is given.

    An unknown identifier takes the time of a wrong password.
    """
    wanted = trimmed(given_identifier)
    client = Client.get_or_none(Client.identifier == wanted) if identifier.is_identifier(wanted) else None
    matching = _matching(egec, client, trimmed(given_password))
    with egec.database.atomic():
        accepted = client is not None and matching is not None and _admit(egec, client, matching)
        audit.record(egec, "login", "accepted" if accepted else "refused", client=client)
    return Verdict(accepted)


def trimmed(text: str) -> str:
    """Return the text without white space around it, no-break and zero-width included.

    The generator makes none, so nothing is lost (NIST SP 800-63B, 3.1.1.2, allows it).
    """
    former = None
    while text != former:
        former = text
        text = text.strip().strip(_INVISIBLE)
    return text


def _matching(egec: Egec, client: Client | None, password: str) -> Credential | None:
    candidates = [] if client is None else credentials.that_may_open(client, egec.clock())
    if not candidates:
        hashing.match_nothing(egec.settings.bcrypt_cost)
    return next((c for c in candidates if hashing.matches(password, c.password_hash or "")), None)


def _admit(egec: Egec, client: Client, credential: Credential) -> bool:
    may_enter = Client.select().where((Client.id == client.id) & Client.disabled_at.is_null()).exists()
    return may_enter and credentials.admit(client, credential, egec.clock())
