"""The identifier of a client: ten ASCII digits, the first not 0, that never change."""

import re

from egec_cli.errors import InvalidInput

_FORM = re.compile(r"[1-9][0-9]{9}")


def generate_identifier() -> str:
    """Return a random identifier, which may be taken."""
    # Imported here: most commands only read identifiers.
    import secrets

    return str(10**9 + secrets.randbelow(9 * 10**9))


def is_identifier(text: str) -> bool:
    """Return whether the text has the form of an identifier, in ASCII digits."""
    return _FORM.fullmatch(text) is not None


def parse_identifier(text: str) -> str:
    """Return the identifier without surrounding white space.

    Raises:
        InvalidInput: the text is not ten digits, or begins with 0.
    """
    stripped = text.strip()
    if not is_identifier(stripped):
        raise InvalidInput(
            "invalid identifier: {stripped!r}",
            "An identifier has 10 digits, the first of them not 0.",
            stripped=stripped,
        )
    return stripped
