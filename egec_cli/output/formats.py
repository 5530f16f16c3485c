"""Results to stdout as table, json, jsonl, csv or ids; guards against formulas in CSV.

Spreadsheets read a cell as a formula if it begins with one of `FORMULA_STARTS`. A spreadsheet that splits lines at
another delimiter, or reads quotes differently, can make a cell of a part of another one. So an apostrophe is added
before each formula start at the beginning of a cell, or after a delimiter, a quote or a line break in it. If there are
apostrophes already, one more is added, so that removing one restores the text.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from enum import StrEnum
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Any, NamedTuple, TextIO

from egec_cli.errors import UsageError
from egec_cli.output.messages import as_json, is_quiet, to_text


class OutputFormat(StrEnum):
    """The format of results."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    IDS = "ids"
    COUNT = "count"


def require_record_format(output: OutputFormat) -> OutputFormat:
    """Return the format if it can show a single result; a command that changes something asks before it does.

    Raises:
        UsageError: it is `count`, which is for lists.
    """
    if output is OutputFormat.COUNT:
        raise UsageError("--format count is for lists", "Choose another format.")
    return output


def render(record: Any, output: OutputFormat, chosen: Sequence[str] = ()) -> None:
    """Show one result, a named tuple or a dictionary; json and jsonl are one object.

    Args:
        chosen: the names of the fields to show, in this order; empty for all.

    Raises:
        UsageError: a chosen field is unknown, or `count` is wanted, which is for lists.
    """
    require_record_format(output)
    row = record if isinstance(record, dict) else record._asdict()
    row = {name: _with_names(row[name]) for name in _known(chosen, row)}
    if is_hidden(output):
        return
    if output is OutputFormat.TABLE and is_at_terminal():
        # Imported here: only a terminal needs it.
        from egec_cli.output.cards import card_lines, show_lines
        from egec_cli.output.terminal import text_for_people

        show_lines(card_lines([(name, text_for_people(value)) for name, value in row.items()], indent=0), sys.stdout)
    elif output is OutputFormat.TABLE:
        width = max(map(len, row))
        for name, value in row.items():
            print_line(f"{name.ljust(width)}  {to_text(value)}")
    elif output is OutputFormat.JSON:
        print_line(json.dumps(row, ensure_ascii=False, indent=2))
    else:
        _show_rows(iter([list(row.values())]), list(row), output)


def render_all(
    records: Iterable[NamedTuple],
    kind: type[NamedTuple],
    output: OutputFormat,
    chosen: Sequence[str] = (),
    *,
    in_table: Sequence[str] = (),
    optional: Sequence[str] = (),
    empty: str = "",
    flush: bool = False,
    are_outcomes: bool = False,
) -> None:
    """Show results one by one as they arrive: json is one list, jsonl one object per line.

    Args:
        kind: the class of the results, which gives the fields even without results.
        chosen: the names of the fields to show, in this order; empty for all.
        in_table: the fields that a table shows by default.
        optional: those of them that a narrow terminal leaves out, the least important first.
        empty: what a terminal shows instead of an empty table.
        flush: flush after each result, so that a pipe sees it immediately.
        are_outcomes: reading the results does the work, so none of them waits for a pager, nor ends with it.

    Raises:
        UsageError: a chosen field is unknown.
    """
    everything = chosen or output is not OutputFormat.TABLE or not in_table
    names = _known(chosen, kind._fields) if everything else list(in_table)
    try:
        if is_hidden(output):
            # Reading the results does the work.
            for _ in records:
                pass
        else:
            if are_outcomes:
                require_open_stdout()
            rows = _chosen(records, kind, names)
            rows = _flush_each(rows) if flush else rows
            if output is OutputFormat.TABLE:
                # Imported here: machine formats do not need it.
                from egec_cli.output.terminal import show_table

                show_table(rows, names, optional=() if chosen else optional, empty=empty, may_page=not are_outcomes)
            else:
                _show_rows(rows, names, output)
    finally:
        # If the reader has closed the pipe, release the source of the results before the database is closed.
        if isinstance(records, Generator):
            records.close()


def _chosen(records: Iterable[NamedTuple], kind: type[NamedTuple], names: Sequence[str]) -> Iterator[Sequence[Any]]:
    places = [kind._fields.index(name) for name in names]
    if places == list(range(len(kind._fields))):
        return iter(records)
    return ([record[place] for place in places] for record in records)


def _flush_each(rows: Iterator[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    for row in rows:
        yield row
        sys.stdout.flush()


def _known(chosen: Sequence[str], names: Iterable[str]) -> list[str]:
    names = list(names)
    for place, name in enumerate(chosen):
        if name not in names:
            raise UsageError("unknown field {name!r}", "The fields are: {known}.", name=name, known=", ".join(names))
        if name in chosen[:place]:
            raise UsageError("the field {name} is chosen twice", "Name it once.", name=name)
    return list(chosen) or names


def _with_names(value: Any) -> Any:
    """Return a value with each named tuple as a dictionary."""
    if isinstance(value, list):
        return [_with_names(one) for one in value]
    return value._asdict() if hasattr(value, "_asdict") else value


def print_line(text: str) -> None:
    """Write a line to stdout."""
    sys.stdout.write(f"{text}\n")


def print_unless_quiet(text: str) -> None:
    """Write a line to stdout, unless --quiet was given."""
    if not is_hidden(OutputFormat.TABLE):
        print_line(text)


def is_hidden(output: OutputFormat) -> bool:
    """Return whether --quiet hides results of this format."""
    return is_quiet() and output is OutputFormat.TABLE


def is_at_terminal() -> bool:
    """Return whether stdout is a terminal."""
    return sys.stdout.isatty()


def require_open_stdout() -> None:
    """Require that stdout is open, before work is done whose results would be lost.

    Raises:
        OSError: it is closed.
    """
    os.write(sys.stdout.fileno(), b"")


def is_for_terminal(output: OutputFormat) -> bool:
    """Return whether a person at a terminal reads the results, which are not hidden."""
    return output is OutputFormat.TABLE and is_at_terminal() and not is_hidden(output)


def _show_rows(rows: Iterator[Sequence[Any]], names: Sequence[str], output: OutputFormat) -> None:
    if output is OutputFormat.JSON:
        _show_json_list(rows, names)
    elif output is OutputFormat.JSONL:
        write, as_object = sys.stdout.write, _json_objects(names)
        for row in rows:
            write(f"{as_object(row)}\n")
    elif output is OutputFormat.CSV:
        _show_csv(rows, names)
    elif output is OutputFormat.COUNT:
        print_line(str(sum(1 for _ in rows)))
    else:
        for row in rows:
            print_line("" if row[0] is None else str(row[0]))


def _show_json_list(rows: Iterator[Sequence[Any]], names: Sequence[str]) -> None:
    as_object = _json_objects(names)
    separator = "["
    for row in rows:
        print_line(separator)
        sys.stdout.write(as_object(row))
        separator = ","
    print_line("[]" if separator == "[" else "\n]")


def _json_objects(names: Sequence[str]) -> Callable[[Sequence[Any]], str]:
    """Return a function that writes a row as a JSON object, like `json.dumps` in a third of the time."""
    form = "{" + ", ".join(f"{as_json(name).replace('%', '%%')}: %s" for name in names) + "}"
    written = _Written()
    return lambda row: form % tuple([written[value.__class__](value) for value in row])


class _Written(dict[type, Callable[[Any], str]]):
    """The JSON encoder of each type; a list may look up millions."""

    def __init__(self) -> None:
        super().__init__({str: encode_basestring, int: int.__repr__, type(None): lambda _: "null"})

    def __missing__(self, kind: type) -> Callable[[Any], str]:
        self[kind] = encode_basestring if issubclass(kind, str) else as_json
        return self[kind]


def _show_csv(rows: Iterator[Sequence[Any]], names: Sequence[str]) -> None:
    # Imported here: no other format needs it.
    import csv

    # With this line end, the writer quotes cells with either character; lines are written with `\n` alone.
    writer = csv.writer(_GuardedLines(sys.stdout), lineterminator="\r\n")
    writer.writerow(names)
    writer.writerows(
        [value if value.__class__ in _SIMPLE or not isinstance(value, list | dict) else as_json(value) for value in row]
        for row in rows
    )


# The classes of nearly all values; this check is faster than `isinstance`.
_SIMPLE = frozenset({str, int, type(None)})


class _GuardedLines:
    """Writes lines of CSV with guards against formulas."""

    def __init__(self, stream: TextIO) -> None:
        self._write = stream.write

    def write(self, line: str) -> None:
        """Write one line; the writer ends it with a carriage return and a line feed."""
        self._write(f"{guarded(line[:-2])}\n")


# With the full-width forms, which East Asian spreadsheets accept too.
FORMULA_STARTS = "=+-@\t\r\0\uff1d\uff0b\uff0d\uff20"
DELIMITERS = (";", ",", "\t", "|")
GUARD = "'"


class _Places(NamedTuple):
    """Patterns of the places where a formula may begin: with any guards, with at least one, and without."""

    any: re.Pattern[str]
    guarded: re.Pattern[str]
    bare: re.Pattern[str]


@lru_cache
def _places(delimiter: str) -> _Places:
    before = f'(?:^|(?<=[{re.escape("".join(DELIMITERS) + delimiter)}"\r\n]))'
    # The delimiter of a table cannot begin a cell.
    start = f"[{re.escape(FORMULA_STARTS.replace(delimiter, '') if delimiter else FORMULA_STARTS)}]"
    return _Places(*(re.compile(before + rest) for rest in (f"(?='*{start})", f"'(?='*{start})", f"(?={start})")))


_SUSPICIOUS_FIRST = frozenset(GUARD + FORMULA_STARTS)


@lru_cache
def _suspicious() -> re.Pattern[str]:
    """Return the pattern of a quick check, as hardly any line needs a guard; compiling takes a millisecond."""
    return re.compile(f"[{re.escape(''.join(DELIMITERS))}\"\r\n]'*[{re.escape(FORMULA_STARTS)}]")


def guarded(line: str) -> str:
    """Return a line of CSV without its line end, or the text of a cell, with a guard before each formula start.

    Each cell of a line begins at its start or after a delimiter or a quote, so guarding the line guards each cell.
    """
    if line[:1] in _SUSPICIOUS_FIRST or _suspicious().search(line):
        return _places("").any.sub(GUARD, line)
    return line


def remove_guard(cell: str, delimiter: str = "") -> str:
    """Return the text of a cell without its guards; `delimiter` is that of its table, if unusual."""
    return _places("" if delimiter in DELIMITERS else delimiter).guarded.sub("", cell) if GUARD in cell else cell


def guarded_as_it_came(line: str, delimiter: str) -> str:
    """Return a line of a foreign table, without its line end, with a guard before each unguarded formula start.

    `remove_guard` returns the same cells for both lines.
    """
    return line if delimiter == GUARD else _places(delimiter).bare.sub(GUARD, line)
