"""Read tables row by row: CSV, TSV, JSON and JSON Lines, in the encodings of spreadsheets.

The format is detected unless the caller gives it. An unreadable row is reported, and the rows after it are still read.
"""

import csv
import json
import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from io import TextIOWrapper
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from egec_cli import files
from egec_cli.errors import InvalidInput
from egec_cli.imports import formats
from egec_cli.imports.formats import LONGEST_LINE, SAVE_AS_CSV, Lines, LineTooLong, TableKind, TableOptions
from egec_cli.imports.json_list import read_json_list
from egec_cli.output.formats import DELIMITERS, guarded, guarded_as_it_came, remove_guard
from egec_cli.translation import Words

_TOO_LONG = Words("the line is longer than {most:,} characters; only its beginning is kept", most=LONGEST_LINE)
_DELIMITER_NAMES: dict[str, str] = {"\t": Words("tabs"), ",": Words("commas"), ";": Words("semicolons")}
_MARK = "\ufeff"
_BLANKS = f" \t\r\n\xa0{_MARK}"
_BLANK_CELLS = _BLANKS + "".join(DELIMITERS)
_BLANK_ROW = _BLANK_CELLS + '"'
_LINE_BREAKS = re.compile(r"\s*[\r\n]+\s*")
# Written by programs in place of a character that they could not read or write.
_LOST = "\ufffd"
_HAS_LOST = Words("it contains \ufffd, which marks a character that another program lost")
_OPEN_QUOTE = Words("a quote is not closed")
_EMAIL = re.compile(r"[^\s@]@[^\s@]+\.\w\w")
# JSON that is not JSON Lines: a list, or an object on several lines.
_LIST_OF_JSON = re.compile(r'\[\s*([{\["\]]|$)')
_BEGINNING_OF_OBJECT = re.compile(r"\{\s*")
_NOT_AN_OBJECT = Words("it is not a JSON object")
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        line: the number of its first line; the first line of the file is 1.
        cells: the texts of the fields, in the order of `Table.fields`.
        raw: the original text, with its line end.
        fault: why it cannot be read; empty if it can.
        absent: the known fields for which it has no cell; an empty cell is not absent.
    """

    line: int
    cells: Sequence[str]
    raw: str
    fault: str = ""
    absent: Collection[str] = ()


def read_table(stream: BinaryIO, name: str, fields: Mapping[str, str], given: TableOptions) -> "Table":
    """Return the table in a seekable stream.

    Args:
        stream: the bytes; they are read once before the first row.
        name: of the file, for messages.
        fields: the fields by column name, as `fold_header` returns it.
        given: the known properties of the table.

    Raises:
        InvalidInput: it is not a table, or has none of the columns.
    """
    encoding = formats.detect_encoding(stream, name, given.encoding)
    stream.seek(0)
    text = formats.open_text(stream, encoding)
    lines = Lines(text, name)
    known = {**fields, **{fold_header(column): field for column, field in given.columns.items()}}
    try:
        first = next((line for line in lines if line.strip(_BLANK_ROW)), "")
    except LineTooLong:
        # A JSON list may be written on one line.
        first = lines.raw[-1]
        if not _is_json_list(first, given.kind):
            raise InvalidInput(
                "the first line of {name} is longer than {most:,} characters",
                "The first line must name the columns, such as {example}; write each client on its own line below.",
                name=name,
                most=LONGEST_LINE,
                example=_example(fields),
            ) from None
    _require_some_text(first, name, fields)
    if _is_json_list(first, given.kind):
        text.seek(0)
        return JsonListTable(name, encoding, text, known)
    begins_with = first.strip(_BLANKS)[:1]
    if given.kind is TableKind.JSON:
        raise InvalidInput(
            "{name} is not a JSON list",
            "A JSON list begins with [. For an object on each line, use --input jsonl.",
            name=name,
        )
    if given.kind is TableKind.JSONL or (given.kind is None and begins_with == "{"):
        _require_json_lines(first.strip(_BLANKS), name)
        return JsonLinesTable(name, encoding, lines, first, known)
    return CsvTable(name, encoding, lines, first, known, given)


def _is_json_list(first: str, kind: TableKind | None) -> bool:
    """Return whether a table is a JSON list, by its first line that is not blank, and its kind if that is given."""
    text = first.strip(_BLANKS)
    if kind is TableKind.JSON:
        return text.startswith("[")
    return kind is None and bool(_LIST_OF_JSON.match(text))


def _require_some_text(first: str, name: str, fields: Mapping[str, str]) -> None:
    if not first.strip(_BLANKS):
        raise InvalidInput(
            "{name} is empty", "It must begin with a header, such as {example}.", name=name, example=_example(fields)
        )


def _require_json_lines(first: str, name: str) -> None:
    if _LIST_OF_JSON.match(first):
        raise InvalidInput(
            "{name} is a JSON list, not JSON Lines",
            "Use --input json, or omit --input.",
            name=name,
        )
    if _BEGINNING_OF_OBJECT.fullmatch(first):
        raise InvalidInput(
            "{name} has a JSON object on several lines, which egec does not read",
            "Write each object on its own line, as `jq -c .` does.",
            name=name,
        )


def fold_header(name: str) -> str:
    """Return the name of a column for comparison: without case, accents, blanks and punctuation."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    return "".join(c for c in plain if c.isalnum())


def _example(fields: Mapping[str, str]) -> str:
    return ";".join(list(dict.fromkeys(fields.values()))[:4])


class CsvTable:
    """A CSV or TSV table with a header.

    Attributes:
        fields: the fields that have columns.
        named: the fields that the first line names.
        unused: the columns without a field.
        header: the original first line.
    """

    def __init__(
        self, name: str, encoding: str, lines: Lines, header: str, known: Mapping[str, str], given: TableOptions
    ) -> None:
        self.encoding = encoding
        self._lines = lines
        mark = _MARK if header.startswith(_MARK) else ""
        header = header.removeprefix(_MARK)
        separator = _SEPARATOR_LINE.fullmatch(header)
        self.header = header
        self._delimiter = _detect_delimiter(given, separator and separator[1], header, known)
        try:
            if separator:
                self.header = header = next(lines, "")
                _require_some_text(header, name, known)
            names = next(csv.reader(self._header_lines(header), delimiter=self._delimiter, strict=True))
        except (csv.Error, LineTooLong) as error:
            raise InvalidInput(
                "invalid header in {name}: {reason}", SAVE_AS_CSV, name=name, reason=_describe_error(error)
            ) from None
        places = {
            place: known[fold_header(column)] for place, column in enumerate(names) if fold_header(column) in known
        }
        _require_columns(name, names, [(names[place], field) for place, field in places.items()], known)
        self.header = mark + self.header
        self.fields = self.named = list(places.values())
        self.unused = [column for place, column in enumerate(names) if place not in places and column.strip()]
        self._places = places
        self._without_column = frozenset(known.values()) - set(self.fields)
        first, *others = places
        self._pick: Callable[[list[str]], Sequence[str]] = (
            itemgetter(first, *others) if others else lambda cells: (cells[first],)
        )
        self._width = len(names)

    @property
    def described(self) -> str:
        """The format, for people."""
        between = _DELIMITER_NAMES.get(self._delimiter, self._delimiter)
        return Words("CSV with {between}, in {encoding}", between=between, encoding=self.encoding)

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows, without empty ones."""
        lines, pick, width = self._lines, self._pick, self._width
        reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
        while True:
            lines.start_row()
            begins_at = lines.number + 1
            try:
                cells = next(reader, None)
            except (csv.Error, LineTooLong) as error:
                # The lines that an open quote has swallowed are read again, as rows.
                reason = _OPEN_QUOTE if len(lines.raw) > 1 else _describe_error(error)
                lines.read_again(but=1)
                yield Row(begins_at, (), lines.raw_line(), reason)
                continue
            if cells is None:
                return
            raw = lines.raw[0]
            if len(lines.raw) > 1:
                if self._has_swallowed_rows(cells):
                    lines.read_again(but=1)
                    yield Row(begins_at, (), raw, _OPEN_QUOTE)
                    continue
                raw = "".join(lines.raw)
                # First the guards, as some follow a line break, then the line breaks.
                cells = [_LINE_BREAKS.sub(" ", remove_guard(cell, self._delimiter)) for cell in cells]
            elif "'" in raw:
                cells = [remove_guard(cell, self._delimiter) for cell in cells]
            absent = self._without_column
            if len(cells) != width:
                if _is_blank(raw, cells):
                    continue
                if any(cells[width:]):
                    between = (
                        Words(" (put a cell that contains {delimiter!r} in quotes)", delimiter=self._delimiter)
                        if width > 1
                        else ""
                    )
                    fault = Words(
                        "it has {number} cells, but the header has {width} columns{between}",
                        number=len(cells),
                        width=width,
                        between=between,
                    )
                    yield Row(begins_at, (), raw, fault)
                    continue
                absent |= {field for place, field in self._places.items() if place >= len(cells)}
                cells += [""] * (width - len(cells))
            found = pick(cells)
            if found[0] or not _is_blank(raw, cells):
                yield Row._make((begins_at, found, raw, _HAS_LOST if _LOST in raw else "", absent))

    def encode_rejected(self, raw: str, reason: str) -> bytes:
        """Return the original row with the reason in a further cell, and formulas guarded."""
        without_end = raw.rstrip("\r\n")
        end = raw[len(without_end) :] or "\n"
        mark = _MARK if without_end.startswith(_MARK) else ""
        without_end = mark + guarded_as_it_came(without_end.removeprefix(mark), self._delimiter)
        quoted = guarded(reason.replace('"', '""'))
        # The reason may contain characters that this encoding lacks.
        return b"".join(
            (
                without_end.encode(self.encoding, errors="surrogateescape"),
                f'{self._delimiter}"{quoted}"'.encode(self.encoding, errors="replace"),
                end.encode(self.encoding),
            )
        )

    def _has_swallowed_rows(self, cells: Sequence[str]) -> bool:
        """Return whether an unclosed quote has drawn rows below into a cell."""
        wanted = self._pick([*cells, *[""] * (self._width - len(cells))])
        for cell in cells:
            # A note may have several lines; in it, only a line with all delimiters counts as a row.
            delimiters = min(self._width - 1, 1) if cell in wanted else self._width - 1
            below = cell.splitlines()[1:]
            if any(line.count(self._delimiter) >= delimiters and _EMAIL.search(line) for line in below):
                return True
        return False

    def _header_lines(self, header: str) -> Iterator[str]:
        yield header
        # A column name in quotes may contain line breaks.
        for line in self._lines:
            self.header += line
            yield line


def _is_blank(raw: str, cells: Sequence[str]) -> bool:
    """Return whether a row has no content: a quote within a cell is content, the quotes around a cell are not."""
    return not raw.strip(_BLANK_ROW) and not any(cell.strip(_BLANK_CELLS) for cell in cells)


def _detect_delimiter(given: TableOptions, separator: str | None, header: str, known: Mapping[str, str]) -> str:
    """Return the delimiter: by default, the one that yields the most known column names."""
    if given.delimiter or separator:
        return given.delimiter or separator or ""
    if given.kind is TableKind.TSV:
        return "\t"

    def count_names(delimiter: str) -> tuple[int, int]:
        names = [fold_header(name.strip().strip('"')) for name in header.split(delimiter)]
        return sum(name in known for name in names), len(names)

    return max(DELIMITERS, key=count_names)


def _require_columns(
    name: str, names: Sequence[str], found: Sequence[tuple[str, str]], known: Mapping[str, str]
) -> None:
    """Raise unless some columns stand for fields (`found`: column and field), and no two for the same field."""
    for _, field in found:
        same = [repr(column) for column, other in found if other == field]
        if len(same) > 1:
            raise InvalidInput(
                "{name} has {number} columns for {field}: {columns}",
                "Keep one of them, and remove or rename the others.",
                name=name,
                number=len(same),
                field=field,
                columns=" and ".join(same),
            )
    if not found and any("@" in column for column in names):
        raise InvalidInput(
            "the first line of {name} is not a header: it contains an e-mail",
            "Add a first line with the names of the columns, such as {example}.",
            name=name,
            example=_example(known),
        )
    if not found:
        raise InvalidInput(
            "{name} has no known column; its columns are: {columns}",
            "Name the columns as in {example}, or map them: --map 'COLUMN=email'.",
            name=name,
            columns=", ".join(names)[:300],
            example=_example(known),
        )


def _describe_error(error: Exception) -> str:
    words = str(error)
    if isinstance(error, LineTooLong):
        return _TOO_LONG
    if "unexpected end" in words or "field larger" in words:
        return _OPEN_QUOTE
    if "expected after" in words:
        return Words("a quote is closed in the middle of a cell (double each quote within a quoted cell)")
    if "new-line" in words:
        return Words("a line break in a cell without quotes")
    return words


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
        _require_columns(name, list(first), found, known)
        self.named = [field for _, field in found]
        # A later object may have any known field.
        self.fields = list(dict.fromkeys([*self.named, *known.values()]))
        self._every = frozenset(self.fields)
        self.unused = [key for key in first if fold_header(key) not in known]

    def _row(self, line: int, found: dict[str, Any] | str, raw: str) -> Row:
        """Return the row of an object, or of a text that is not one, with the reason."""
        if _LOST in raw:
            return Row(line, (), raw, _HAS_LOST)
        if isinstance(found, str):
            return Row(line, (), raw, found)
        values = {
            self._known[fold_header(key)]: value for key, value in found.items() if fold_header(key) in self._known
        }
        for field, value in values.items():
            if not (value is None or isinstance(value, str | int)) or isinstance(value, bool):
                return Row(line, (), raw, Words("its {field} is neither text nor a number", field=field))
        cells = ["" if values.get(field) is None else str(values[field]) for field in self.fields]
        return Row(line, cells, raw, absent=self._every - values.keys())

    def encode_rejected(self, raw: str, reason: str) -> bytes:
        """Return the original row with the reason as a further key; invalid JSON becomes the key `row`."""
        row = _parse_object(raw)
        with_reason = (
            {"reason": reason, "row": raw.rstrip("\r\n")} if isinstance(row, str) else {**row, "reason": reason}
        )
        try:
            return f"{json.dumps(with_reason, ensure_ascii=False)}\n".encode(self.encoding, errors="surrogateescape")
        except UnicodeEncodeError:
            return f"{json.dumps(with_reason)}\n".encode(self.encoding)


class JsonLinesTable(_JsonTable):
    """A JSON object per line."""

    def __init__(self, name: str, encoding: str, lines: Lines, first: str, known: Mapping[str, str]) -> None:
        self._lines = lines
        lines.read_again()
        row = _parse_object(first.removeprefix(_MARK))
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
                yield Row(lines.number, (), lines.raw_line(), _TOO_LONG)
                continue
            if line is None:
                return
            if line.strip(_BLANKS):
                yield self._row(lines.number, _parse_object(line.removeprefix(_MARK)), line)


class JsonListTable(_JsonTable):
    """A JSON list of objects, however its lines are broken. The rejected rows of one are written as JSON Lines."""

    def __init__(self, name: str, encoding: str, text: TextIOWrapper, known: Mapping[str, str]) -> None:
        # Without it, the stream below would be closed at the end of the list.
        self._text = text
        self._elements = read_json_list(text, name)
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


Table = CsvTable | JsonLinesTable | JsonListTable


def _parse_object(line: str) -> dict[str, Any] | str:
    """Return the object in a line, or the reason why it is invalid."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return Words("it is not valid JSON")
    return row if isinstance(row, dict) else _NOT_AN_OBJECT


class RejectsFile:
    """A file of rejected rows, unchanged and with their reasons, created when the first row is added.

    It can be corrected and imported again. In CSV, formulas are guarded; the import removes the guards.
    """

    def __init__(self, table: Table, path: Path, stack: ExitStack) -> None:
        self._table = table
        self._path = path
        self._stack = stack
        self._file: BinaryIO | None = None

    def add(self, raw: str, reason: str) -> None:
        """Add a row."""
        if self._file is None:
            unfinished = self._stack.enter_context(files.create_file(self._path))
            self._file = self._stack.enter_context(os.fdopen(os.dup(unfinished.descriptor), "wb"))
            if self._table.header:
                self._file.write(self._table.encode_rejected(self._table.header, "reason"))
        self._file.write(self._table.encode_rejected(raw, reason))


@contextmanager
def open_rejects_file(path: Path, table: Table) -> Iterator[RejectsFile]:
    """Open a file for rejected rows, readable by its owner only. It appears when the block ends without an error.

    Raises:
        AlreadyExists: the file exists.
        PermissionDenied, StorageError, OSError: it cannot be written.
    """
    # Checked now: when the first row is rejected, other rows have already been imported.
    files.require_free(path)
    with ExitStack() as stack:
        yield RejectsFile(table, path, stack)
