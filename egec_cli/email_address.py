"""E-mail addresses: validation, and a key that equal addresses share."""

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from egec_cli.errors import InvalidInput, UsageError
from egec_cli.translation import Words


class EmailAddress(NamedTuple):
    """A valid address.

    Attributes:
        given: the address without surrounding white space.
        key: for comparison: NFC, the domain in IDNA form and lower case, the local part case-folded.
        wire: for mail servers: the domain in IDNA form. The local part may have letters beyond ASCII, for servers
            that offer SMTPUTF8 (RFC 6531).
    """

    given: str
    key: str
    wire: str


def parse_email(text: str) -> EmailAddress:
    """Return a valid address; only the syntax is checked, without asking a server.

    Raises:
        InvalidInput: mail cannot be sent to this address.
    """
    address = parse_plain(text.strip())
    if address is not None:
        return address
    # Imported here: its tables take as long as everything else that a command such as `client list` imports.
    from email_validator import EmailNotValidError, validate_email

    # Normalise first: IDNA maps some marks to letters, so equal addresses could become different.
    given = unicodedata.normalize("NFC", text.strip())
    if "=?" in given:
        raise InvalidInput(
            "{given!r} has =?, which mail programs take for an encoded word", "Correct the address.", given=given
        )
    try:
        valid = validate_email(given, check_deliverability=False)
    except EmailNotValidError as error:
        raise InvalidInput(
            "invalid e-mail address {given!r}: {error}", "Correct the address.", given=given, error=Words(str(error))
        ) from None
    local = unicodedata.normalize("NFC", valid.local_part.casefold())
    return EmailAddress(
        given=given, key=f"{local}@{valid.ascii_domain}", wire=f"{valid.local_part}@{valid.ascii_domain}"
    )


def parse_domain(text: str) -> str:
    """Return a domain as the keys of its addresses contain it: in IDNA form and lower case.

    Raises:
        UsageError: no valid address has this domain.
    """
    given = unicodedata.normalize("NFC", text.strip())
    domain = None if "@" in given else _good_domain(given)
    if domain is None:
        raise UsageError(
            "invalid e-mail domain: {given!r}", "Write the part after the @ alone, as in example.org.", given=given
        )
    return domain


# Most addresses: their validity depends on the domain alone.
_PLAIN_LOCAL_PART = re.compile(r"[A-Za-z0-9]+(?:[._+-][A-Za-z0-9]+)*")
_LONGEST_LOCAL_PART = 64
_LONGEST_PLAIN = 200


def parse_plain(given: str) -> EmailAddress | None:
    """Return a plain address, or None; the library validates each domain only once."""
    key = plain_key(given)
    if key is None:
        return None
    return EmailAddress(given, key, f"{given.partition('@')[0]}@{key.partition('@')[2]}")


def plain_key(given: str) -> str | None:
    """Return the key of a plain address; None if only `parse_email` can decide."""
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
