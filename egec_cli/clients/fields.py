"""What a client's file may hold: each field checked and brought into its one form."""

import unicodedata
from functools import lru_cache
from typing import NamedTuple

from egec_cli import email_address, identifier
from egec_cli.email_address import EmailAddress
from egec_cli.errors import InvalidInput
from egec_cli.settings.schema import LANGUAGES
from egec_cli.translation import Words

MAX_NAME = 100
MAX_SENTENCE = 300
CIVILITIES = ("M.", "Mme", "Mlle", "Dr", "Pr", "Me", "Mr", "Mrs", "Ms", "Mx")
# A file may also have none.
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
# Zero-width joiners are part of some scripts' spelling; every other invisible character is refused.
_JOINERS = "\u200c\u200d"
_INVISIBLE_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
# Grapheme joiner, Hangul fillers, Khmer inherent vowels, Braille blank: letters and marks that show nothing.
_INVISIBLE = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
INVISIBLE = frozenset(_INVISIBLE)


class ClientFields(NamedTuple):
    """The checked fields of a client's file; an empty text stands for what is not known."""

    email: EmailAddress
    identifier: str | None = None
    reference: str | None = None
    civility: str = ""
    first_name: str = ""
    last_name: str = ""
    language: str = ""


def parse_fields(
    email: str,
    *,
    given_identifier: str = "",
    reference: str = "",
    civility: str = "",
    first_name: str = "",
    last_name: str = "",
    language: str = "",
) -> ClientFields:
    """Return the fields of a file, checked.

    Raises:
        InvalidInput: one of them is not valid; the message names it.
    """
    return ClientFields(
        email=email_address.parse_email(email),
        identifier=identifier.parse_identifier(given_identifier) if given_identifier else None,
        reference=clean_line(Words("reference"), reference) or None,
        civility=parse_civility(civility),
        first_name=clean_line(Words("first name"), first_name),
        last_name=clean_line(Words("last name"), last_name),
        language=parse_language(language),
    )


def clean_line(field: str, text: str) -> str:
    """Return one line of text in NFC, with single blanks and none around it.

    Raises:
        InvalidInput: it is too long, or has control or invisible characters, or `=?`, by which a name could
            become a header of a mail.
    """
    if _is_line_as_it_stands(text):
        return text
    stripped = " ".join(_visible(field, text).split())
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
    """Return a sentence for clients to read, in NFC; its no-break spaces are kept, as French typography has them.

    Raises:
        InvalidInput: it is empty or too long, or has a line break or another control or invisible character.
    """
    stripped = _visible(Words("sentence"), text).strip()
    if not stripped:
        raise InvalidInput("the sentence is empty", "Write it, or leave it out for the one of the templates.")
    if len(stripped) > MAX_SENTENCE:
        raise InvalidInput(
            "the sentence has {length} characters",
            "Use at most {most}.",
            length=len(stripped),
            most=MAX_SENTENCE,
        )
    return stripped


def _visible(field: str, text: str) -> str:
    """Return the text in NFC.

    Raises:
        InvalidInput: a character of it shows nothing, or steers what shows it.
    """
    normal = unicodedata.normalize("NFC", text)
    for character in normal:
        if _is_invisible(character):
            raise InvalidInput(
                "the {field} has the character U+{code_point:04X}, which is invisible or controls a terminal",
                "Type the {field} anew, without pasting.",
                field=field,
                code_point=ord(character),
            )
    return normal


def normalize(text: str) -> str:
    """Return what was typed in the form in which files hold it, to look for it."""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def _is_line_as_it_stands(text: str) -> bool:
    """Tell, of most texts, that there is nothing to check or change; of all printable blanks, it knows but one."""
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
    """Return the civility in its one spelling; `Monsieur` and the like are known too.

    Raises:
        InvalidInput: it is none of `CIVILITIES`.
    """
    plain = clean_line("civility", text).casefold()
    by_spelling = {civility.casefold().rstrip("."): civility for civility in CIVILITIES} | _OTHER_SPELLINGS
    if not plain:
        return ""
    civility = by_spelling.get(plain.rstrip("."))
    if civility is None:
        raise InvalidInput(
            "unknown civility: {text!r}",
            "Use one of: {known}.",
            text=text,
            known=", ".join(CIVILITIES),
        )
    return civility


def parse_language(text: str) -> str:
    """Return the language's code; empty for the one of the settings.

    Raises:
        InvalidInput: it is none of `LANGUAGES`.
    """
    code = text.strip().lower()
    if code and code not in LANGUAGES:
        raise InvalidInput(
            "unknown language: {text!r}",
            "Use one of: {known}.",
            text=text,
            known=", ".join(LANGUAGES),
        )
    return code
