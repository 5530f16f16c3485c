"""Logins: an identifier and a password, checked. Case always counts; white space around either never does.

A Python program may call `verify` as the command does.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from egec_cli import hashing, identifier
from egec_cli.accounts import audit, credentials, login_limits
from egec_cli.accounts.egec import Egec
from egec_cli.password import Password
from egec_cli.store.models import OPEN_STATES, Client, Credential

# What is pasted along and never seen: zero-width and direction marks, soft hyphen, byte order mark.
_INVISIBLE = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


class Reason(StrEnum):
    """Why a login is refused; for the operator alone."""

    ACCEPTED = "accepted"
    UNKNOWN_IDENTIFIER = "unknown_identifier"
    DISABLED = "disabled"
    BLOCKED = "blocked"
    NOTHING_OPENS = "nothing_opens"
    WRONG = "wrong"


class Verdict(NamedTuple):
    """Whether the login is accepted. A refusal gives no reason: there is one for all.

    Attributes:
        accepted: whether to let in.
    """

    accepted: bool


class Begun(NamedTuple):
    """A login that is counted, and is to be compared with hashes; without one of them, it is refused.

    Attributes:
        blocked_until: when the account may be tried again, where it may not be now.
    """

    client: Client | None
    password: str
    candidates: Sequence[Credential] = ()
    blocked_until: datetime | None = None


class Compared(NamedTuple):
    """The credential whose password was given, if any, and a hash of today's cost where its own is cheaper."""

    matching: Credential | None = None
    new_hash: str | None = None


class Attempt(NamedTuple):
    """What became of a login: more than its client may know."""

    reason: Reason
    client: Client | None = None
    blocked_until: datetime | None = None


def verify(egec: Egec, given_identifier: str, given_password: str) -> Verdict:
    """Check a login, record it, and promote an open credential whose password is given.

    An unknown identifier takes the time of a wrong password, and so does a blocked account. Attempts are limited, and a
    hash that is cheaper than those of today is replaced.

    Args:
        egec: where.
        given_identifier: the identifier, as it was typed.
        given_password: the password, as it was typed; white space around both does not matter.
    """
    return Verdict(attempt(egec, given_identifier, given_password).reason is Reason.ACCEPTED)


def attempt(egec: Egec, given_identifier: str, given_password: str) -> Attempt:
    """Check a login as `verify` does, and return what became of it."""
    begun = begin(egec, given_identifier, given_password)
    return settle(egec, begun, compare(egec, begun))


def begin(egec: Egec, given_identifier: str, given_password: str) -> Begun:
    """Count a login, and return what its password is to be compared with."""
    wanted, password = trimmed(given_identifier), trimmed(given_password)
    client = Client.get_or_none(Client.identifier == wanted) if identifier.is_identifier(wanted) else None
    if client is None:
        return Begun(None, password)
    blocked_until = login_limits.begin(egec, client)
    if blocked_until is not None:
        return Begun(client, password, blocked_until=blocked_until)
    return Begun(client, password, credentials.that_may_open(client, egec.clock()))


def compare(egec: Egec, begun: Begun) -> Compared:
    """Compare a login with the hashes; it takes the time of one where there is none. The database is not asked."""
    cost = egec.settings.bcrypt_cost
    if not begun.candidates:
        hashing.match_nothing(cost)
    for credential in begun.candidates:
        password_hash = credential.password_hash or ""
        if hashing.matches(begun.password, password_hash):
            is_cheap = hashing.cost_of(password_hash) < cost
            return Compared(credential, hashing.hash_password(Password(begun.password), cost) if is_cheap else None)
    return Compared()


def settle(egec: Egec, begun: Begun, compared: Compared) -> Attempt:
    """Admit or refuse a login, and put it on record."""
    with egec.database.atomic():
        if begun.client is None:
            ended = Attempt(Reason.UNKNOWN_IDENTIFIER)
        elif begun.blocked_until is not None:
            ended = Attempt(Reason.BLOCKED, begun.client, begun.blocked_until)
        else:
            ended = Attempt(_reason(egec, begun.client, begun, compared), begun.client)
            if ended.reason is not Reason.ACCEPTED:
                login_limits.fail(egec, begun.client)
        is_accepted = ended.reason is Reason.ACCEPTED
        more = _arrived(compared) if is_accepted else {}
        outcome = "accepted" if is_accepted else "refused"
        audit.record(egec, "login", outcome, client=begun.client, reason=ended.reason, **more)
    return ended


def _arrived(compared: Compared) -> dict[str, Any]:
    """Return the sequence of a credential of which nobody but this login knew that its mail had arrived."""
    matching = compared.matching
    return {"arrived": matching.sequence} if matching is not None and matching.state in OPEN_STATES else {}


def _reason(egec: Egec, client: Client, begun: Begun, compared: Compared) -> Reason:
    matching = compared.matching
    if matching is None:
        return Reason.WRONG if begun.candidates else Reason.NOTHING_OPENS
    if not credentials.admit(client, matching, egec.clock()):
        is_disabled = Client.select().where((Client.id == client.id) & Client.disabled_at.is_null(False)).exists()
        return Reason.DISABLED if is_disabled else Reason.WRONG
    if compared.new_hash is not None:
        Credential.update(password_hash=compared.new_hash).where(
            (Credential.id == matching.id) & (Credential.password_hash == matching.password_hash)
        ).execute()
    return Reason.ACCEPTED


def trimmed(text: str) -> str:
    """Return the text without white space around it, no-break and zero-width included.

    The generator makes none, so nothing is lost (NIST SP 800-63B, 3.1.1.2, allows it).
    """
    former = None
    while text != former:
        former = text
        text = text.strip().strip(_INVISIBLE)
    return text
