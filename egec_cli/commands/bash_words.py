"""Words of a bash command line: read as bash reads them, and written so that bash takes nothing in them for its own."""

from string import ascii_letters, digits
from typing import NamedTuple

# What means nothing to bash, wherever it stands; all else of ASCII gets a backslash.
_PLAIN = frozenset(ascii_letters + digits + "_-./,@%+")
_ESCAPED_IN_DOUBLE = '$`"\\'


class Typed(NamedTuple):
    """A word that may not be complete yet.

    Attributes:
        text: what bash makes of it; nothing is expanded.
        quote: the quotation mark that is still open; empty where none is.
        before: what bash makes of the part before that mark.
    """

    text: str
    quote: str
    before: str


def read(raw: str) -> Typed:
    """Return what was typed, a whole word or the beginning of one."""
    text, quote, before = "", "", ""
    characters = iter(raw)
    for character in characters:
        if character == quote:
            quote = ""
        elif character in "'\"" and not quote:
            quote, before = character, text
        elif character == "\\" and quote != "'":
            after = next(characters, "")
            text += after if not quote or after in _ESCAPED_IN_DOUBLE else f"\\{after}"
        else:
            text += character
    return Typed(text, quote, before if quote else "")


def written(text: str, quote: str = "") -> str:
    """Return a text as it is to be typed behind an open quotation mark, or behind none.

    Bash closes the mark by itself, unless what was typed ends with one.

    Args:
        text: printable, so without a line's end.
        quote: `'`, `"` or nothing.
    """
    if not quote:
        return "".join(c if c in _PLAIN or not c.isascii() else f"\\{c}" for c in text)
    if quote == "'":
        inside = text.replace("'", "'\\''")
    else:
        escaped = "".join(f"\\{c}" if c in _ESCAPED_IN_DOUBLE else c for c in text)
        # Between the marks, bash would look it up in its history, whatever stands before it.
        inside = escaped.replace("!", '"\\!"')
    return f"{inside}{quote}" if inside.endswith(quote) else inside
