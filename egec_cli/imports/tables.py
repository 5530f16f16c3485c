"""Read tables row by row: CSV, TSV, JSON and JSON Lines, in the encodings of spreadsheets.

The format is detected unless the caller gives it. An unreadable row is reported, and the rows after it are still read.
"""

import csv
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

from egec_cli import files
from egec_cli.errors import InvalidInput
from egec_cli.imports import formats
from egec_cli.imports.columns import (
    BLANKS,
    BYTE_ORDER_MARK,
    HAS_LOST,
    LOST,
    TOO_LONG,
    Row,
    fold_header,
    name_example,
    require_columns,
    require_mapped,
)
from egec_cli.imports.formats import LONGEST_LINE, SAVE_AS_CSV, Lines, LineTooLong, TableKind, TableOptions
from egec_cli.imports.json_tables import JsonLinesTable, JsonListTable
from egec_cli.output.formats import DELIMITERS, guarded, guarded_as_it_came, remove_guard
from egec_cli.translation import Words, count_words

_DELIMITER_NAMES: dict[str, str] = {"\t": Words("tabs"), ",": Words("commas"), ";": Words("semicolons")}
_BLANK_CELLS = BLANKS + "".join(DELIMITERS)
_BLANK_ROW = _BLANK_CELLS + '"'
_LINE_BREAKS = re.compile(r"\s*[\r\n]+\s*")
_OPEN_QUOTE = Words("a quote is not closed")
_EMAIL = re.compile(r"[^\s@]@[^\s@]+\.\w\w")
# JSON that is not JSON Lines: a list, or an object on several lines.
_LIST_OF_JSON = re.compile(r'\[\s*([{\["\]]|$)')
_BEGINNING_OF_OBJECT = re.compile(r"\{\s*")
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)


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
                example=name_example(fields),
            ) from None
    _require_some_text(first, name, fields)
    if _is_json_list(first, given.kind):
        text.seek(0)
        return JsonListTable(name, encoding, text, known)
    begins_with = first.strip(BLANKS)[:1]
    if given.kind is TableKind.JSON:
        raise InvalidInput(
            "{name} is not a JSON list",
            "A JSON list begins with [. For an object on each line, use --input jsonl.",
            name=name,
        )
    if given.kind is TableKind.JSONL or (given.kind is None and begins_with == "{"):
        _require_json_lines(first.strip(BLANKS), name)
        return JsonLinesTable(name, encoding, lines, first, known)
    return CsvTable(name, encoding, lines, first, known, given)


def _is_json_list(first: str, kind: TableKind | None) -> bool:
    """Return whether a table is a JSON list, by its first line that is not blank, and its kind if that is given."""
    text = first.strip(BLANKS)
    if kind is TableKind.JSON:
        return text.startswith("[")
    return kind is None and bool(_LIST_OF_JSON.match(text))


def _require_some_text(first: str, name: str, fields: Mapping[str, str]) -> None:
    if not first.strip(BLANKS):
        raise InvalidInput(
            "{name} is empty",
            "It must begin with a header, such as {example}.",
            name=name,
            example=name_example(fields),
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
        mark = BYTE_ORDER_MARK if header.startswith(BYTE_ORDER_MARK) else ""
        header = header.removeprefix(BYTE_ORDER_MARK)
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
        require_mapped(name, names, given.columns)
        places = {
            place: known[fold_header(column)] for place, column in enumerate(names) if fold_header(column) in known
        }
        require_columns(name, names, [(names[place], field) for place, field in places.items()], known)
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
                        "it has {number} cells, but the header has {columns}{between}",
                        number=len(cells),
                        columns=count_words("0 columns", "1 column", "{number} columns", width),
                        between=between,
                    )
                    yield Row(begins_at, (), raw, fault)
                    continue
                absent |= {field for place, field in self._places.items() if place >= len(cells)}
                cells += [""] * (width - len(cells))
            found = pick(cells)
            if found[0] or not _is_blank(raw, cells):
                yield Row._make((begins_at, found, raw, HAS_LOST if LOST in raw else "", absent))

    def encode_rejected(self, raw: str, reason: str) -> bytes:
        """Return the original row with the reason in a further cell, and formulas guarded."""
        without_end = raw.rstrip("\r\n")
        end = raw[len(without_end) :] or "\n"
        mark = BYTE_ORDER_MARK if without_end.startswith(BYTE_ORDER_MARK) else ""
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


def _describe_error(error: Exception) -> str:
    words = str(error)
    if isinstance(error, LineTooLong):
        return TOO_LONG
    if "unexpected end" in words or "field larger" in words:
        return _OPEN_QUOTE
    if "expected after" in words:
        return Words("a quote is closed in the middle of a cell (double each quote within a quoted cell)")
    if "new-line" in words:
        return Words("a line break in a cell without quotes")
    return words


Table = CsvTable | JsonLinesTable | JsonListTable


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
    files.require_creatable(path)
    with ExitStack() as stack:
        yield RejectsFile(table, path, stack)
