"""Tables from outside, read row by row: CSV, TSV and JSON Lines, in the encodings that spreadsheets write.

What a table is, is found by looking at it; each finding can be given instead. A row that cannot be read is told as
such, and the rows after it are read all the same.
"""

import csv
import json
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from io import TextIOWrapper
from operator import itemgetter
from typing import Any, BinaryIO, NamedTuple

from egec_cli.errors import InvalidInput
from egec_cli.imports import formats
from egec_cli.imports.formats import AS_A_SPREADSHEET_SAVES_IT, TableKind, TableOptions
from egec_cli.output.formula_guard import DELIMITERS, guarded, guarded_as_it_came, remove_guard
from egec_cli.translation import Words

# In characters; as long as the longest cell that the csv module takes.
LONGEST_LINE = 131_072
# How much is kept of a line that is longer.
_KEPT_OF_LONG_LINE = 200
_TOO_LONG = Words(
    "the line is longer than any row of a table ({most:,} characters); only its beginning is kept here",
    most=LONGEST_LINE,
)
_SAMPLE = 1 << 16
_IN_WORDS: dict[str, str] = {"\t": Words("tabs"), ",": Words("commas"), ";": Words("semicolons")}
_MARK = "\ufeff"
_BLANKS = f" \t\r\n\xa0{_MARK}"
_LINE_BREAKS = re.compile(r"\s*[\r\n]+\s*")
# What becomes of a character that was lost when a program could not read or write it.
_LOST = "\ufffd"
_HAS_LOST = Words("it has the character \ufffd, which stands for one that was lost before the file came here")
_OPEN_QUOTE = Words("a quote is opened and not closed")
_EMAIL = re.compile(r"[^\s@]@[^\s@]+\.\w\w")
# JSON that is no JSON Lines: one list of all, or an object whose keys are on lines of their own.
_LIST_OF_JSON = re.compile(r'\[\s*([{\["\]]|$)')
_BEGINNING_OF_OBJECT = re.compile(r"\{\s*")
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)


class Row(NamedTuple):
    """One row of a table.

    Attributes:
        line: the number of the line at which it begins; the first one of the file is 1.
        cells: the text of each field that the table has a column for, in the order of `Table.fields`.
        raw: the row as it came, with its line end.
        fault: why it cannot be read; empty if it can.
        unsaid: the fields for which it has no cell, of all that are known; that is not the same as an empty one.
    """

    line: int
    cells: Sequence[str]
    raw: str
    fault: str = ""
    unsaid: Collection[str] = ()


def read_table(
    stream: BinaryIO, name: str, fields: Mapping[str, str], given: TableOptions
) -> "CsvTable | JsonLinesTable":
    """Return the table that a seekable stream holds.

    Args:
        stream: the bytes; they are looked through once before the first row is read.
        name: of the file, for messages.
        fields: the names of fields by the column names that stand for them, folded by `folded`.
        given: what is known of it already.

    Raises:
        InvalidInput: it is no table, or has none of the columns.
    """
    encoding = formats.detect_encoding(stream, name, given.encoding)
    stream.seek(0)
    lines = _Lines(_text(stream, encoding), name)
    try:
        first = next((line for line in lines if line.strip(_BLANK_ROW)), "")
    except _TooLong:
        raise InvalidInput(
            "the first line of {name} is longer than any header ({most:,} characters)",
            "It is to have the names of the columns, such as {example}, and each client a line below it.",
            name=name,
            most=LONGEST_LINE,
            example=_example(fields),
        ) from None
    _require_some_text(first, name, fields)
    known = _known(fields, given.columns)
    begins_with = first.strip(_BLANKS)[:1]
    if given.kind is TableKind.JSONL or (given.kind is None and begins_with in {"{", "["}):
        _require_lines_of_json(first.strip(_BLANKS), name)
    if given.kind is TableKind.JSONL or (given.kind is None and begins_with == "{"):
        return JsonLinesTable(name, encoding, lines, first, known)
    return CsvTable(name, encoding, lines, first, known, given)


_BLANK_ROW = _BLANKS + "".join(DELIMITERS) + '"'


def _text(stream: BinaryIO, encoding: str) -> TextIOWrapper:
    """Return the text of a stream, whose lines may end as those of an old Mac."""
    start = stream.read(_SAMPLE)
    stream.seek(0)
    newline = "\r" if b"\r" in start and b"\n" not in start else "\n"
    # Bytes that are no text are kept as they are, so that a rejected row can be written as it came; in some encodings
    # there is no way to.
    errors = "replace" if encoding.lower().startswith(("utf-16", "utf-32")) else "surrogateescape"
    try:
        return TextIOWrapper(stream, encoding=encoding, errors=errors, newline=newline)
    except LookupError:
        raise InvalidInput(
            "there is no encoding {encoding!r}", "Name it as in --encoding windows-1252.", encoding=encoding
        ) from None


def _require_some_text(first: str, name: str, fields: Mapping[str, str]) -> None:
    if not first.strip(_BLANKS):
        raise InvalidInput(
            "{name} is empty", "It is to begin with a header, such as {example}.", name=name, example=_example(fields)
        )


def _require_lines_of_json(first: str, name: str) -> None:
    if _LIST_OF_JSON.match(first):
        raise InvalidInput(
            "{name} is one list of JSON, which egec does not read",
            "Write each object on a line of its own, without [ ] and commas between them: `jq -c '.[]'` does it.",
            name=name,
        )
    if _BEGINNING_OF_OBJECT.fullmatch(first):
        raise InvalidInput(
            "{name} has a JSON object that goes over several lines, which egec does not read",
            "Write each object on a line of its own: `jq -c .` does it.",
            name=name,
        )


def fold_header(name: str) -> str:
    """Return the name of a column as it is compared: without case, accents, blanks and punctuation."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    return "".join(c for c in plain if c.isalnum())


def _known(fields: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    return {**fields, **{fold_header(column): field for column, field in given.items()}}


def _example(fields: Mapping[str, str]) -> str:
    return ";".join(list(dict.fromkeys(fields.values()))[:4])


class _TooLong(Exception):
    """A line is longer than any row."""


class _Lines:
    """The lines of a text, counted; those since the last `begin` are remembered, and can be read again."""

    def __init__(self, text: TextIOWrapper, name: str) -> None:
        self._text = text
        self._name = name
        self._again: list[str] = []
        self.number = 0
        self.raw: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.pop() if self._again else self._read()
        if not line:
            raise StopIteration
        self.number += 1
        self.raw.append(line)
        if len(line) > LONGEST_LINE:
            raise _TooLong
        return line

    def _read(self) -> str:
        """Return the next line; of one that is too long, no more than shows that it is."""
        try:
            line = rest = self._text.readline(LONGEST_LINE + 1)
            while len(rest) > LONGEST_LINE and rest[-1] not in "\r\n":
                rest = self._text.readline(LONGEST_LINE + 1)
        except UnicodeError:
            raise InvalidInput(
                "{name} is no text in {encoding}",
                "Name its encoding, as in --encoding utf-8.",
                name=self._name,
                encoding=self._text.encoding,
            ) from None
        return line

    def begin(self) -> None:
        """Forget the lines of the row before."""
        self.raw.clear()

    def read_again(self, *, but: int = 0) -> None:
        """Take back all lines of this row but its first ones."""
        again = self.raw[but:]
        self.number -= len(again)
        self._again += reversed(again)
        del self.raw[but:]


def _kept(line: str) -> str:
    """Return what is kept of a line that cannot be read: all, unless it is too long for any row."""
    return line if len(line) <= LONGEST_LINE else line[:_KEPT_OF_LONG_LINE]


class CsvTable:
    """Rows of cells between delimiters, below a header.

    Attributes:
        fields: the names of the fields that it has columns for.
        named: those that its first line names.
        unused: the names of the columns that stand for no field.
        header: its first line, as it came.
    """

    def __init__(
        self, name: str, encoding: str, lines: _Lines, header: str, known: Mapping[str, str], given: TableOptions
    ) -> None:
        self.encoding = encoding
        self._lines = lines
        mark = _MARK if header.startswith(_MARK) else ""
        header = header.removeprefix(_MARK)
        separator = _SEPARATOR_LINE.fullmatch(header)
        self.header = header
        self._delimiter = _delimiter(given, separator and separator[1], header, known)
        try:
            if separator:
                self.header = header = next(lines, "")
                _require_some_text(header, name, known)
            names = next(csv.reader(self._with_rest_of_quoted(header), delimiter=self._delimiter, strict=True))
        except (csv.Error, _TooLong) as error:
            raise InvalidInput(
                "the header of {name} cannot be read: {reason}",
                AS_A_SPREADSHEET_SAVES_IT,
                name=name,
                reason=_in_words(error),
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
        self._picked: Callable[[list[str]], Sequence[str]] = (
            itemgetter(first, *others) if others else lambda cells: (cells[first],)
        )
        self._width = len(names)

    @property
    def described(self) -> str:
        """How it is read, for people."""
        between = _IN_WORDS.get(self._delimiter, self._delimiter)
        return Words("CSV with {between}, in {encoding}", between=between, encoding=self.encoding)

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows; empty ones are left out."""
        lines, picked, width = self._lines, self._picked, self._width
        reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
        while True:
            lines.begin()
            begins_at = lines.number + 1
            try:
                cells = next(reader, None)
            except (csv.Error, _TooLong) as error:
                # What an open quote has swallowed is read again, as the rows that it is.
                reason = _OPEN_QUOTE if len(lines.raw) > 1 else _in_words(error)
                lines.read_again(but=1)
                yield Row(begins_at, (), _kept(lines.raw[0]), reason)
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
                # A line break may be what a guard stands behind, so it is read before it becomes a blank.
                cells = [_LINE_BREAKS.sub(" ", remove_guard(cell, self._delimiter)) for cell in cells]
            elif "'" in raw:
                cells = [remove_guard(cell, self._delimiter) for cell in cells]
            unsaid = self._without_column
            if len(cells) != width:
                if not raw.strip(_BLANK_ROW):
                    continue
                if any(cells[width:]):
                    between = (
                        Words(" (a cell with {delimiter!r} in it is to be in quotes)", delimiter=self._delimiter)
                        if width > 1
                        else ""
                    )
                    yield Row(
                        begins_at,
                        (),
                        raw,
                        Words(
                            "it has {number} cells, but the header has {width} columns{between}",
                            number=len(cells),
                            width=width,
                            between=between,
                        ),
                    )
                    continue
                unsaid |= {field for place, field in self._places.items() if place >= len(cells)}
                cells += [""] * (width - len(cells))
            found = picked(cells)
            if found[0] or raw.strip(_BLANK_ROW):
                yield Row._make((begins_at, found, raw, _HAS_LOST if _LOST in raw else "", unsaid))

    def rejected(self, raw: str, reason: str) -> bytes:
        """Return a row as it came, with the reason in a further cell; a spreadsheet finds no formula in it."""
        without_end = raw.rstrip("\r\n")
        end = raw[len(without_end) :] or "\n"
        mark = _MARK if without_end.startswith(_MARK) else ""
        without_end = mark + guarded_as_it_came(without_end.removeprefix(mark), self._delimiter)
        quoted = guarded(reason.replace('"', '""'))
        # What a reason quotes may not be of this encoding.
        return b"".join(
            (
                without_end.encode(self.encoding, errors="surrogateescape"),
                f'{self._delimiter}"{quoted}"'.encode(self.encoding, errors="replace"),
                end.encode(self.encoding),
            )
        )

    def _has_swallowed_rows(self, cells: Sequence[str]) -> bool:
        """Tell whether a cell of several lines is made of rows below it, by a quote that was never closed."""
        wanted = self._picked([*cells, *[""] * (self._width - len(cells))])
        for cell in cells:
            # A note may well go over several lines, so it takes a whole row to tell.
            delimiters = min(self._width - 1, 1) if cell in wanted else self._width - 1
            below = cell.splitlines()[1:]
            if any(line.count(self._delimiter) >= delimiters and _EMAIL.search(line) for line in below):
                return True
        return False

    def _with_rest_of_quoted(self, header: str) -> Iterator[str]:
        yield header
        # A name of a column may have a line break in it.
        for line in self._lines:
            self.header += line
            yield line


def _delimiter(given: TableOptions, separator: str | None, header: str, known: Mapping[str, str]) -> str:
    """Return what stands between two cells: what makes the most known names of the header."""
    if given.delimiter or separator:
        return given.delimiter or separator or ""
    if given.kind is TableKind.TSV:
        return "\t"

    def names_made_by(delimiter: str) -> tuple[int, int]:
        names = [fold_header(name.strip().strip('"')) for name in header.split(delimiter)]
        return sum(name in known for name in names), len(names)

    return max(DELIMITERS, key=names_made_by)


def _require_columns(
    name: str, names: Sequence[str], found: Sequence[tuple[str, str]], known: Mapping[str, str]
) -> None:
    """Raise unless of the names of columns, some stand for a field, as `found` says, and no two for the same one."""
    for _, field in found:
        same = [repr(column) for column, other in found if other == field]
        if len(same) > 1:
            raise InvalidInput(
                "{name} has {number} columns for {field}: {columns}",
                "Keep the one that counts, and take the other away or give it another name.",
                name=name,
                number=len(same),
                field=field,
                columns=" and ".join(same),
            )
    if not found and any("@" in column for column in names):
        raise InvalidInput(
            "the first line of {name} is no header: it has an e-mail",
            "Put a first line with the names of the columns above it, such as {example}.",
            name=name,
            example=_example(known),
        )
    if not found:
        raise InvalidInput(
            "{name} has no column that is known; it has: {columns}",
            "Name the columns as in {example}, or say which is which: --map 'COLUMN=email'.",
            name=name,
            columns=", ".join(names)[:300],
            example=_example(known),
        )


def _in_words(error: Exception) -> str:
    words = str(error)
    if isinstance(error, _TooLong):
        return _TOO_LONG
    if "unexpected end" in words or "field larger" in words:
        return _OPEN_QUOTE
    if "expected after" in words:
        return Words("a quote is closed in the middle of a cell (a quote within a cell in quotes is to be doubled)")
    if "new-line" in words:
        return Words("a line break stands in a cell that is not in quotes")
    return words


class JsonLinesTable:
    """An object on each line, whose keys are the columns; each may have others than those before it.

    Attributes:
        fields: the names of the fields that a row may have.
        named: those that its first line has.
    """

    def __init__(self, name: str, encoding: str, lines: _Lines, first: str, known: Mapping[str, str]) -> None:
        self.encoding = encoding
        self.header = ""
        self._known = known
        self._lines = lines
        lines.read_again()
        row = _object(first.removeprefix(_MARK))
        if isinstance(row, str):
            raise InvalidInput(
                "{name}:{line}: {row}",
                'Write an object on each line, such as {{"email": "a@example.org"}}.',
                name=name,
                line=lines.number + 1,
                row=row,
            )
        found = [(key, known[fold_header(key)]) for key in row if fold_header(key) in known]
        _require_columns(name, list(row), found, known)
        self.named = [field for _, field in found]
        # A later line may have any that is known.
        self.fields = list(dict.fromkeys([*self.named, *known.values()]))
        self._every = frozenset(self.fields)
        self.unused = [key for key in row if fold_header(key) not in known]

    @property
    def described(self) -> str:
        """How it is read, for people."""
        return Words("JSON Lines, in {encoding}", encoding=self.encoding)

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows; empty lines are left out."""
        lines = self._lines
        while True:
            lines.begin()
            try:
                line = next(lines, None)
            except _TooLong:
                yield Row(lines.number, (), _kept(lines.raw[0]), _TOO_LONG)
                continue
            if line is None:
                return
            if not line.strip(_BLANKS):
                continue
            if _LOST in line:
                yield Row(lines.number, (), line, _HAS_LOST)
                continue
            row = _object(line.removeprefix(_MARK))
            if isinstance(row, str):
                yield Row(lines.number, (), line, row)
                continue
            yield self._row(
                {self._known[fold_header(key)]: value for key, value in row.items() if fold_header(key) in self._known},
                line,
            )

    def _row(self, values: Mapping[str, Any], line: str) -> Row:
        for field, value in values.items():
            if not (value is None or isinstance(value, str | int)) or isinstance(value, bool):
                return Row(
                    self._lines.number, (), line, Words("its {field} is neither a text nor a number", field=field)
                )
        cells = ["" if values.get(field) is None else str(values[field]) for field in self.fields]
        return Row(self._lines.number, cells, line, unsaid=self._every - values.keys())

    def rejected(self, raw: str, reason: str) -> bytes:
        """Return a row as it came, with the reason as a further key, or below one if it is no object."""
        row = _object(raw)
        with_reason = (
            {"reason": reason, "row": raw.rstrip("\r\n")} if isinstance(row, str) else {**row, "reason": reason}
        )
        try:
            return f"{json.dumps(with_reason, ensure_ascii=False)}\n".encode(self.encoding, errors="surrogateescape")
        except UnicodeEncodeError:
            return f"{json.dumps(with_reason)}\n".encode(self.encoding)


Table = CsvTable | JsonLinesTable


def _object(line: str) -> dict[str, Any] | str:
    """Return the object of a line, or why there is none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return Words("it is no JSON")
    return row if isinstance(row, dict) else Words("it is no JSON object")
