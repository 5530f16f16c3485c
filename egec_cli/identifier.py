"""The identifier of a client: ten ASCII digits, the first not 0, that never change."""

import re

from egec_cli.errors import InvalidInput

_FORM = re.compile(r"[1-9][0-9]{9}")


def generate_identifier() -> str:
    """Return a random identifier; that it is free is for the database to say."""
    # Imported here: most commands only look at identifiers.
    import secrets

    return str(10**9 + secrets.randbelow(9 * 10**9))


def is_identifier(text: str) -> bool:
    """Tell whether the text has the form of an identifier; digits of other scripts are none."""
    return _FORM.fullmatch(text) is not None


def parse_identifier(text: str) -> str:
    """Return the identifier without the white space around it.

    Raises:
        InvalidInput: it has not ten digits, or begins with 0.
    """
    stripped = text.strip()
    if not is_identifier(stripped):
        raise InvalidInput(
            "{stripped!r} is no identifier", "An identifier has 10 digits, the first of them not 0.", stripped=stripped
        )
    return stripped
