"""E-mail addresses: validation, and a key that equal addresses share."""

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from egec_cli.errors import InvalidInput, UsageError
from egec_cli.translation import Words, join_first


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
    except EmailNotValidError:
        raise InvalidInput(
            "invalid e-mail address {given!r}: {fault}", "Correct the address.", given=given, fault=_find_fault(given)
        ) from None
    local = unicodedata.normalize("NFC", valid.local_part.casefold())
    return EmailAddress(
        given=given, key=f"{local}@{valid.ascii_domain}", wire=f"{valid.local_part}@{valid.ascii_domain}"
    )


# The ASCII characters that are valid before and after the @.
_ASCII_BEFORE = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]")
_ASCII_AFTER = re.compile(r"[A-Za-z0-9.-]")
# Characters that IDNA treats as a dot.
_DOTS = re.compile("[.\u3002\uff0e\uff61]")
_LONGEST, _LONGEST_LABEL = 254, 63
# Characters that people cannot see or tell from others.
_NAMED = {
    " ": Words("a space"),
    "\t": Words("a tab"),
    "\u00a0": Words("a no-break space"),
    "\u200b": Words("a zero-width space"),
    "\ufe6b": Words("a small @"),
    "\uff20": Words("a full-width @"),
}


def _find_fault(given: str) -> Words:
    """Return why the library refuses an address. Its own messages are long, and in English alone."""
    local, at, domain = given.rpartition("@")
    if "<" in given or ">" in given:
        return Words("write the address alone, without a name and without < >")
    if not at:
        lookalike = next((_name(character) for character in given if character in "\ufe6b\uff20"), None)
        return Words("it has {what} instead of an @", what=lookalike) if lookalike else Words("it has no @")
    if "@" in local:
        return Words("it has more than one @")
    for part, ascii_ones, nothing, faulty in (
        (local, _ASCII_BEFORE, Words("nothing is before the @"), Words("before the @ it has {what}")),
        (domain, _ASCII_AFTER, Words("nothing is after the @"), Words("after the @ it has {what}")),
    ):
        if not part:
            return nothing
        # Beyond ASCII, letters, digits and marks are valid on both sides, punctuation and symbols before the @ alone.
        valid = "LNMPS" if part is local else "LNM"
        wrong = [
            character
            for character in dict.fromkeys(part if part is local else _DOTS.sub(".", part))
            if not (ascii_ones.match(character) if character.isascii() else unicodedata.category(character)[0] in valid)
        ]
        if wrong:
            return Words(faulty.template, what=join_first([_name(character) for character in wrong]))
    labels = _DOTS.split(domain)
    if not all((*local.split("."), *labels)):
        return Words("a dot must have other characters on both sides")
    if any(label.startswith("-") or label.endswith("-") for label in labels):
        return Words("after the @ a hyphen must have letters or digits on both sides")
    if len(given.encode(errors="surrogatepass")) > _LONGEST or max(map(len, labels)) > _LONGEST_LABEL:
        return Words("it is too long")
    if len(labels) == 1:
        return Words("the part after the @ has no dot")
    if _good_domain(domain):
        return Words("the part before the @ is invalid")
    return Words("mail cannot be sent to the domain {domain!r}", domain=domain)


def _name(character: str) -> str:
    """Return how to show a character that is perhaps invisible: `'ß'`, or `U+202E (RIGHT-TO-LEFT OVERRIDE)`."""
    if character in _NAMED:
        return _NAMED[character]
    if (character.isascii() and character.isprintable()) or character.isalnum():
        return f"'{character}'"
    name = unicodedata.name(character, "")
    return f"U+{ord(character):04X}" + (f" ({name})" if name else "")


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
