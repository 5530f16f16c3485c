"""E-mail addresses: what is one, and when two of them are the same."""

import unicodedata
from typing import NamedTuple

from egec_cli.errors import BadInput


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


def checked(text: str) -> EmailAddress:
    """Return the address that `text` is; only its syntax is checked, no server is asked.

    Raises:
        BadInput: it is not an address that mail can be sent to.
    """
    # Imported here: with its tables it takes as long as all else that a command such as `client list` imports.
    from email_validator import EmailNotValidError, validate_email

    # Composed first: IDNA maps some marks to letters, which what is the same must not become apart by.
    given = unicodedata.normalize("NFC", text.strip())
    if "=?" in given:
        raise BadInput(f"{given!r} has =?, which mail programs take for an encoded word", "Correct the address.")
    try:
        valid = validate_email(given, check_deliverability=False)
    except EmailNotValidError as error:
        raise BadInput(f"{given!r} is no e-mail address: {error}", "Correct the address.") from None
    local = unicodedata.normalize("NFC", valid.local_part.casefold())
    return EmailAddress(
        given=given,
        key=f"{local}@{valid.ascii_domain}",
        wire=f"{valid.local_part}@{valid.ascii_domain}",
    )
