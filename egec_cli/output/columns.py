"""The columns that a text takes on a terminal."""

import unicodedata


def width(text: str) -> int:
    """Return the number of terminal columns of the text."""
    if text.isascii():
        return len(text)
    return sum(map(_width_of_character, text))


def _width_of_character(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def cut(text: str, columns: int) -> str:
    """Return the beginning of a text and `…`, padded to this number of columns."""
    kept, left = "", columns - 1
    for character in text:
        left -= _width_of_character(character)
        if left < 0:
            break
        kept += character
    return f"{kept}…{' ' * (columns - 1 - width(kept))}"
