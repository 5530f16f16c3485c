"""Validate and normalize the fields of a client."""

import re
import unicodedata
from datetime import date
from functools import lru_cache
from typing import NamedTuple

from egec_cli import email_address, identifier
from egec_cli.email_address import EmailAddress
from egec_cli.errors import InvalidInput
from egec_cli.settings.types import LANGUAGES
from egec_cli.translation import Words

MAX_NAME = 100
MAX_SENTENCE = 300
CIVILITIES = ("M.", "Mme", "Mlle", "Dr", "Pr", "Me", "Mr", "Mrs", "Ms", "Mx")
CIVILITIES_OR_NONE = frozenset({"", *CIVILITIES})
LANGUAGES_OR_NONE = frozenset({"", *LANGUAGES})
_OTHER_SPELLINGS = {
    "m": "M.",
    "monsieur": "M.",
    "madame": "Mme",
    "mademoiselle": "Mlle",
    "docteur": "Dr",
    "professeur": "Pr",
    "maître": "Me",
}
# Some scripts need zero-width joiners; every other invisible character is refused.
_JOINERS = "\u200c\u200d"
_INVISIBLE_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
# Grapheme joiner, Hangul fillers, Khmer inherent vowels, Braille blank: letters and marks that show nothing.
_INVISIBLE = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
INVISIBLE = frozenset(_INVISIBLE)


class ClientFields(NamedTuple):
    """Valid fields of a client; empty if unknown."""

    email: EmailAddress
    identifier: str | None = None
    reference: str | None = None
    civility: str = ""
    first_name: str = ""
    last_name: str = ""
    language: str = ""
    valid_from: str | None = None
    valid_until: str | None = None


def parse_fields(
    email: str,
    *,
    given_identifier: str = "",
    reference: str = "",
    civility: str = "",
    first_name: str = "",
    last_name: str = "",
    language: str = "",
    valid_from: str = "",
    valid_until: str = "",
) -> ClientFields:
    """Validate and normalize the fields of a client.

    Raises:
        InvalidInput: a field is invalid; the message names it.
    """
    first_day, last_day = parse_day(valid_from), parse_day(valid_until)
    require_order(first_day, last_day)
    return ClientFields(
        email=email_address.parse_email(email),
        identifier=identifier.parse_identifier(given_identifier) if given_identifier else None,
        reference=clean_line(Words("reference"), reference) or None,
        civility=parse_civility(civility),
        first_name=clean_line(Words("first name"), first_name),
        last_name=clean_line(Words("last name"), last_name),
        language=parse_language(language),
        valid_from=first_day,
        valid_until=last_day,
    )


def clean_line(field: str, text: str) -> str:
    """Return one line of text in NFC, stripped, with single spaces.

    Raises:
        InvalidInput: it is too long, or contains control or invisible characters, or `=?`, which could inject a mail
            header (CVE-2024-6923).
    """
    if _is_clean(text):
        return text
    stripped = " ".join(_require_visible(field, text).split())
    if "=?" in stripped:
        raise InvalidInput(
            "the {field} has =?, which mail programs take for an encoded word", "Leave =? out.", field=field
        )
    if len(stripped) > MAX_NAME:
        raise InvalidInput(
            "the {field} has {length} characters",
            "Use at most {most}.",
            field=field,
            length=len(stripped),
            most=MAX_NAME,
        )
    return stripped


def clean_sentence(text: str) -> str:
    """Return a sentence for clients in NFC, with its no-break spaces, which French typography needs.

    Raises:
        InvalidInput: it is empty or too long, or contains control or invisible characters.
    """
    stripped = _require_visible(Words("sentence"), text).strip()
    if not stripped:
        raise InvalidInput("the sentence is empty", "Write one, or omit it to use the one in the templates.")
    if len(stripped) > MAX_SENTENCE:
        raise InvalidInput(
            "the sentence has {length} characters", "Use at most {most}.", length=len(stripped), most=MAX_SENTENCE
        )
    return stripped


def _require_visible(field: str, text: str) -> str:
    """Return the text in NFC, or raise `InvalidInput` for a control or invisible character."""
    normal = unicodedata.normalize("NFC", text)
    for character in normal:
        if _is_invisible(character):
            raise InvalidInput(
                "the {field} has the character U+{code_point:04X}, which is invisible or controls a terminal",
                "Type the {field} again instead of pasting it.",
                field=field,
                code_point=ord(character),
            )
    return normal


def normalize(text: str) -> str:
    """Return typed text in the stored form, to search for it."""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def _is_clean(text: str) -> bool:
    """Return True for most texts that need no change: a fast path."""
    return (
        len(text) <= MAX_NAME
        and text.isprintable()
        and not text.startswith(" ")
        and not text.endswith(" ")
        and "  " not in text
        and "=?" not in text
        and (text.isascii() or (unicodedata.is_normalized("NFC", text) and INVISIBLE.isdisjoint(text)))
    )


def _is_invisible(character: str) -> bool:
    category = unicodedata.category(character)
    return character in _INVISIBLE or (category in _INVISIBLE_CATEGORIES and character not in _JOINERS)


@lru_cache(maxsize=256)
def parse_civility(text: str) -> str:
    """Return the civility in its stored spelling; also accepts words such as `Monsieur`.

    Raises:
        InvalidInput: the civility is unknown.
    """
    plain = clean_line("civility", text).casefold()
    by_spelling = {civility.casefold().rstrip("."): civility for civility in CIVILITIES} | _OTHER_SPELLINGS
    if not plain:
        return ""
    civility = by_spelling.get(plain.rstrip("."))
    if civility is None:
        raise InvalidInput("unknown civility: {text!r}", "Use one of: {known}.", text=text, known=", ".join(CIVILITIES))
    return civility


def parse_language(text: str) -> str:
    """Return the code of a language; empty for EGEC_LANGUAGE.

    Raises:
        InvalidInput: the language is unknown.
    """
    code = text.strip().lower()
    if code and code not in LANGUAGES:
        raise InvalidInput("unknown language: {text!r}", "Use one of: {known}.", text=text, known=", ".join(LANGUAGES))
    return code


_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@lru_cache(maxsize=4096)
def is_day(text: str) -> bool:
    """Return whether a text is a day that exists, written as `2026-01-31`."""
    if not _DAY.fullmatch(text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def parse_day(text: str) -> str | None:
    """Return a day written as `2026-01-31`; None for an empty text.

    Raises:
        InvalidInput: it is not such a day, or no calendar has it.
    """
    day = text.strip()
    if day and not is_day(day):
        raise InvalidInput("invalid date: {text!r}", "Write it as 2026-01-31.", text=text)
    return day or None


def require_order(valid_from: str | None, valid_until: str | None) -> None:
    """Require that a validity does not end before it begins.

    Raises:
        InvalidInput: it does.
    """
    if valid_from is not None and valid_until is not None and valid_from > valid_until:
        raise InvalidInput(
            "the validity ends on {valid_until}, before it begins on {valid_from}",
            "Give a last day that is not before the first one.",
            valid_from=valid_from,
            valid_until=valid_until,
        )
