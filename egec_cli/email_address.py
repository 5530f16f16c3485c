"""E-mail addresses: what is one, and when two of them are the same."""

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from egec_cli.errors import InvalidInput
from egec_cli.translation import Words


class EmailAddress(NamedTuple):
    """A valid address.

    Attributes:
        given: as it was given, without the white space around it.
        key: what it is compared by: NFC, the domain in IDNA form and lower case, the local part case-folded.
        wire: what mail servers are told: the domain in IDNA form. Its local part may have letters beyond
            ASCII, for servers that offer SMTPUTF8 (RFC 6531).
    """

    given: str
    key: str
    wire: str


def parse_email(text: str) -> EmailAddress:
    """Return the address that `text` is; only its syntax is checked, no server is asked.

    Raises:
        InvalidInput: it is not an address that mail can be sent to.
    """
    at_once = plain(text.strip())
    if at_once is not None:
        return at_once
    # Imported here: with its tables it takes as long as all else that a command such as `client list` imports.
    from email_validator import EmailNotValidError, validate_email

    # Composed first: IDNA maps some marks to letters, which what is the same must not become apart by.
    given = unicodedata.normalize("NFC", text.strip())
    if "=?" in given:
        raise InvalidInput(
            "{given!r} has =?, which mail programs take for an encoded word", "Correct the address.", given=given
        )
    try:
        valid = validate_email(given, check_deliverability=False)
    except EmailNotValidError as error:
        raise InvalidInput(
            "{given!r} is no e-mail address: {error}", "Correct the address.", given=given, error=Words(str(error))
        ) from None
    local = unicodedata.normalize("NFC", valid.local_part.casefold())
    return EmailAddress(
        given=given,
        key=f"{local}@{valid.ascii_domain}",
        wire=f"{valid.local_part}@{valid.ascii_domain}",
    )


# Addresses that most people have: what the library says of them depends on the domain alone.
_PLAIN_LOCAL_PART = re.compile(r"[A-Za-z0-9]+(?:[._+-][A-Za-z0-9]+)*")
_LONGEST_LOCAL_PART = 64
_LONGEST_PLAIN = 200


def plain(given: str) -> EmailAddress | None:
    """Return a plain address, without asking the library anew for a domain that it knows to be good; else None."""
    key = plain_key(given)
    if key is None:
        return None
    return EmailAddress(given, key, f"{given.partition('@')[0]}@{key.partition('@')[2]}")


def plain_key(given: str) -> str | None:
    """Return the key of a plain address, which is as it was given; None where that is for `checked` to say."""
    local, _, domain = given.partition("@")
    if (
        len(given) <= _LONGEST_PLAIN
        and len(local) <= _LONGEST_LOCAL_PART
        and (given.isascii() or unicodedata.is_normalized("NFC", given))
        and _PLAIN_LOCAL_PART.fullmatch(local)
        and (known := _good_domain(domain))
    ):
        return f"{local.lower()}@{known}"
    return None


@lru_cache(maxsize=4096)
def _good_domain(domain: str) -> str | None:
    from email_validator import EmailNotValidError, validate_email

    try:
        return validate_email(f"a@{domain}", check_deliverability=False).ascii_domain
    except EmailNotValidError:
        return None
