"""Read a JSON list element by element, in little memory, however its lines are broken."""

import json
import re
from collections.abc import Iterator
from io import TextIOWrapper
from typing import Any, NamedTuple

from egec_cli.errors import InvalidInput
from egec_cli.imports.formats import LONGEST_LINE, not_in_encoding

# Also the byte order mark.
_NOT_BLANK = re.compile("[^ \\t\\r\\n\ufeff]")
# How much is read at once, in characters.
_PIECE = 1 << 16


class ListElement(NamedTuple):
    """An element of a JSON list: the number of its first line, its value, and its text."""

    line: int
    value: Any
    raw: str


def read_json_list(text: TextIOWrapper, name: str) -> Iterator[ListElement]:
    """Yield the elements of a list; only the text of one and the next piece of the file are in memory.

    Raises:
        InvalidInput: the text is not a JSON list, or an element is too long.
    """
    decoder = json.JSONDecoder()
    buffer = _JsonBuffer(text, name)
    buffer.require("[")
    if buffer.peek() == "]":
        buffer.require_end()
        return
    while True:
        buffer.peek()
        while True:
            try:
                value, end = decoder.raw_decode(buffer.text, buffer.place)
            except (ValueError, RecursionError):
                end = len(buffer.text)
            else:
                # More digits may follow a number.
                if end < len(buffer.text) or buffer.is_complete:
                    break
            if buffer.is_complete or end - buffer.place > LONGEST_LINE:
                raise buffer.invalid()
            buffer.read_more()
        yield ListElement(buffer.line, value, buffer.take(end))
        if buffer.peek() == "]":
            buffer.require_end()
            return
        buffer.require(",")


class _JsonBuffer:
    """The part of a text that is in memory, with the place of what comes next, and the number of its line."""

    def __init__(self, text: TextIOWrapper, name: str) -> None:
        self._file = text
        self._name = name
        self.text = ""
        self.place = 0
        self.line = 1
        self.is_complete = False

    def read_more(self) -> None:
        """Read another piece, and forget what was taken."""
        try:
            piece = self._file.read(_PIECE)
        except UnicodeError:
            raise not_in_encoding(self._name, self._file.encoding) from None
        self.is_complete = not piece
        self.text = self.text[self.place :] + piece
        self.place = 0

    def peek(self) -> str:
        """Skip blanks, and return the next character; empty at the end of the file."""
        while True:
            found = _NOT_BLANK.search(self.text, self.place)
            place = found.start() if found else len(self.text)
            self.take(place)
            if found or self.is_complete:
                return found[0] if found else ""
            self.read_more()

    def take(self, end: int) -> str:
        """Return the text up to a place, and go on behind it."""
        taken = self.text[self.place : end]
        self.line += taken.count("\n")
        self.place = end
        return taken

    def require(self, character: str) -> None:
        """Skip blanks and this character, which must come next."""
        if self.peek() != character:
            raise self.invalid()
        self.place += 1

    def require_end(self) -> None:
        """Skip the end of the list, which must be that of the file."""
        self.require("]")
        if self.peek():
            raise self.invalid()

    def invalid(self) -> InvalidInput:
        """Return the error for what comes next."""
        return InvalidInput(
            "{name}:{line}: it is not valid JSON",
            "Correct the file and import it again; rows that were imported are skipped.",
            name=self._name,
            line=self.line,
        )
