"""Tables in JSON: an object on each line, or a list that is read element by element, in little memory."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from io import TextIOWrapper
from itertools import chain
from typing import Any, NamedTuple

from egec_cli.errors import InvalidInput
from egec_cli.imports.columns import (
    BLANKS,
    BYTE_ORDER_MARK,
    HAS_LOST,
    LOST,
    TOO_LONG,
    Row,
    fold_header,
    require_columns,
)
from egec_cli.imports.formats import LONGEST_LINE, Lines, LineTooLong, not_in_encoding
from egec_cli.translation import Words

_NOT_AN_OBJECT = Words("it is not a JSON object")
# Also the byte order mark.
_NOT_BLANK = re.compile("[^ \\t\\r\\n\ufeff]")
# How much is read at once, in characters.
_PIECE = 1 << 16


class _ListElement(NamedTuple):
    """An element of a JSON list: the number of its first line, its value, and its text."""

    line: int
    value: Any
    raw: str


def _read_json_list(text: TextIOWrapper, name: str) -> Iterator[_ListElement]:
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
        yield _ListElement(buffer.line, value, buffer.take(end))
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


class _JsonTable:
    """JSON objects with the columns as keys; each may have other keys.

    Attributes:
        fields: the fields that a row may have.
        named: the fields of the first object.
        unused: the keys of the first object without a field.
    """

    def __init__(self, name: str, encoding: str, first: dict[str, Any], known: Mapping[str, str]) -> None:
        self.encoding = encoding
        self.header = ""
        self._known = known
        found = [(key, known[fold_header(key)]) for key in first if fold_header(key) in known]
        require_columns(name, list(first), found, known)
        self.named = [field for _, field in found]
        # A later object may have any known field.
        self.fields = list(dict.fromkeys([*self.named, *known.values()]))
        self._every = frozenset(self.fields)
        self.unused = [key for key in first if fold_header(key) not in known]

    def _row(self, line: int, found: dict[str, Any] | str, raw: str) -> Row:
        """Return the row of an object, or of a text that is not one, with the reason."""
        if LOST in raw:
            return Row(line, (), raw, HAS_LOST)
        if isinstance(found, str):
            return Row(line, (), raw, found)
        values: dict[str, Any] = {}
        for key, value in _list_pairs(found, raw):
            field = self._known.get(fold_header(key))
            if field is None:
                continue
            if field in values:
                return Row(line, (), raw, Words("it has several values for {field}", field=field))
            if not (value is None or isinstance(value, str | int)) or isinstance(value, bool):
                return Row(line, (), raw, Words("its {field} is neither text nor a number", field=field))
            values[field] = value
        cells = ["" if values.get(field) is None else str(values[field]) for field in self.fields]
        return Row(line, cells, raw, absent=self._every - values.keys())

    def encode_rejected(self, raw: str, reason: str) -> bytes:
        """Return the original row with the reason as a further key; one that no object can hold becomes `row`."""
        row = _parse_object(raw)
        with_reason = {"reason": reason, "row": raw.rstrip("\r\n")}
        if isinstance(row, dict) and len(row) == len(_list_pairs(row, raw)):
            with_reason = {**row, "reason": reason}
        try:
            return f"{json.dumps(with_reason, ensure_ascii=False)}\n".encode(self.encoding, errors="surrogateescape")
        except UnicodeEncodeError:
            return f"{json.dumps(with_reason)}\n".encode(self.encoding)


class JsonLinesTable(_JsonTable):
    """A JSON object per line."""

    def __init__(self, name: str, encoding: str, lines: Lines, first: str, known: Mapping[str, str]) -> None:
        self._lines = lines
        lines.read_again()
        row = _parse_object(first.removeprefix(BYTE_ORDER_MARK))
        if isinstance(row, str):
            raise InvalidInput(
                "{name}:{line}: {row}",
                'Write an object on each line, such as {{"email": "a@example.org"}}.',
                name=name,
                line=lines.number + 1,
                row=row,
            )
        super().__init__(name, encoding, row, known)

    @property
    def described(self) -> str:
        """The format, for people."""
        return Words("JSON Lines, in {encoding}", encoding=self.encoding)

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows, without empty lines."""
        lines = self._lines
        while True:
            lines.start_row()
            try:
                line = next(lines, None)
            except LineTooLong:
                yield Row(lines.number, (), lines.raw_line(), TOO_LONG)
                continue
            if line is None:
                return
            if line.strip(BLANKS):
                yield self._row(lines.number, _parse_object(line.removeprefix(BYTE_ORDER_MARK)), line)


class JsonListTable(_JsonTable):
    """A JSON list of objects, however its lines are broken. The rejected rows of one are written as JSON Lines."""

    def __init__(self, name: str, encoding: str, text: TextIOWrapper, known: Mapping[str, str]) -> None:
        # Without it, the stream below would be closed at the end of the list.
        self._text = text
        self._elements = _read_json_list(text, name)
        first = next(self._elements, None)
        if first is None:
            raise InvalidInput(
                "{name} is an empty list",
                'Write an object for each client, such as {{"email": "a@example.org"}}.',
                name=name,
            )
        self._first = first
        if not isinstance(first.value, dict):
            raise InvalidInput(
                "{name}:{line}: {row}",
                'Write an object for each client, such as {{"email": "a@example.org"}}.',
                name=name,
                line=first.line,
                row=_NOT_AN_OBJECT,
            )
        super().__init__(name, encoding, first.value, known)

    @property
    def described(self) -> str:
        """The format, for people."""
        return Words("a JSON list, in {encoding}", encoding=self.encoding)

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows."""
        for line, value, raw in chain([self._first], self._elements):
            yield self._row(line, value if isinstance(value, dict) else _NOT_AN_OBJECT, raw)


def _list_pairs(found: dict[str, Any], raw: str) -> Collection[tuple[str, Any]]:
    """Return the keys and values of an object, with those keys that its text has twice.

    A hook for each object would make `json` slower. So the text is parsed again only if it has more quotation marks
    than the keys and texts of the object.
    """
    if raw.count('"') == 2 * (len(found) + sum(isinstance(value, str) for value in found.values())):
        return found.items()
    pairs: tuple[tuple[str, Any], ...] = json.loads(raw.removeprefix(BYTE_ORDER_MARK), object_pairs_hook=tuple)
    return pairs


def _parse_object(line: str) -> dict[str, Any] | str:
    """Return the object in a line, or the reason why it is invalid."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return Words("it is not valid JSON")
    return row if isinstance(row, dict) else _NOT_AN_OBJECT
