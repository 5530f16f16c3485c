"""Results and messages: results to stdout as table, json, jsonl, csv or ids; everything else to stderr.

The only importer of rich, which is loaded for tables on a terminal alone.
"""

import json
import os
import signal
import sys
import time
import unicodedata
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from datetime import timedelta
from enum import Enum, StrEnum
from itertools import islice
from json.encoder import encode_basestring
from typing import Any, NamedTuple, Self, TextIO

from egec_cli.errors import EgecError, UsageError
from egec_cli.settings.schema import LogStyle
from egec_cli.translation import Words, translate

# A column's width is settled on so many rows, which are all that is kept in memory.
_ROWS_AT_A_TIME = 200
# What a table has around its rows.
_LINES_OF_A_FRAME = 5
_SECONDS_BETWEEN_LINES = 30.0


class _Loudness(Enum):
    """How much is told beside what was asked for."""

    QUIET = "quiet"
    USUAL = "usual"
    VERBOSE = "verbose"


_loudness = _Loudness.USUAL


def set_verbosity(*, quiet: bool, verbose: bool) -> None:
    """Say how much this process tells from now on.

    Args:
        quiet: nothing of a success: no note, no progress, no log, and no result in a table. What a machine format or a
            password is asked for is shown all the same, and so is what did not go well.
        verbose: a line for each act.

    Raises:
        UsageError: it is to be both.
    """
    global _loudness
    if quiet and verbose:
        raise UsageError("--quiet and --verbose contradict each other", "Give one of them.")
    _loudness = _Loudness.QUIET if quiet else _Loudness.VERBOSE if verbose else _Loudness.USUAL


class ErrorRecord(NamedTuple):
    """An expected error, as `error` of the one object on stderr.

    Attributes:
        code: a stable word for scripts.
        message: what is wrong, for people.
        hint: what to do or to type next; may be empty.
    """

    code: str
    message: str
    hint: str


class OutputFormat(StrEnum):
    """How results are shown."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    IDS = "ids"


def render(record: Any, output: OutputFormat, chosen: Sequence[str] = ()) -> None:
    """Show one result.

    Args:
        record: the result, a named tuple or a dictionary.
        output: the format; json and jsonl are one object.
        chosen: the names of the fields to show, in this order; empty for all.

    Raises:
        UsageError: a chosen field is unknown.
    """
    row = record if isinstance(record, dict) else record._asdict()
    row = {name: _with_names(row[name]) for name in _known(chosen, row)}
    if is_hidden(output):
        return
    if output is OutputFormat.TABLE:
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
) -> None:
    """Show results one by one as they come: json is one list, jsonl one object a line.

    Args:
        records: the results, named tuples of one kind.
        kind: their class, by which the fields are known when there is no result.
        output: the format.
        chosen: the names of the fields to show, in this order; empty for all.
        in_table: the fields that a table shows when none are chosen.

    Raises:
        UsageError: a chosen field is unknown.
    """
    everything = chosen or output is not OutputFormat.TABLE or not in_table
    names = _known(chosen, kind._fields) if everything else list(in_table)
    try:
        if is_hidden(output):
            # What the results tell of is done as they are read.
            for _ in records:
                pass
        else:
            _show_rows(_chosen(records, kind, names), names, output)
    finally:
        # Who reads along may have gone: what the results are read from is given back before the database is closed.
        if isinstance(records, Generator):
            records.close()


def _chosen(records: Iterable[NamedTuple], kind: type[NamedTuple], names: Sequence[str]) -> Iterator[Sequence[Any]]:
    places = [kind._fields.index(name) for name in names]
    if places == list(range(len(kind._fields))):
        return iter(records)
    return ([record[place] for place in places] for record in records)


def print_line(text: str) -> None:
    """Write a line to stdout."""
    sys.stdout.write(f"{text}\n")


def print_unless_quiet(text: str) -> None:
    """Write a line to stdout that belongs to a result for people."""
    if not is_hidden(OutputFormat.TABLE):
        print_line(text)


def is_hidden(output: OutputFormat) -> bool:
    """Tell whether results of this format are not to be shown."""
    return _loudness is _Loudness.QUIET and output is OutputFormat.TABLE


def is_at_terminal() -> bool:
    """Tell whether what goes to stdout is seen at a terminal."""
    return sys.stdout.isatty()


def has_reader() -> bool:
    """Tell whether what goes to stdout may be seen: not where stdout was closed before the program began."""
    return sys.stdout.name != os.devnull


def note(text: str, /, **values: object) -> None:
    """Write a line to stderr, for people who want to know more than that all went well.

    Args:
        text: the line, with values by their names, as in `egec: wrote {file}`.
        values: the values.
    """
    if _loudness is not _Loudness.QUIET:
        warn(text, **values)


def warn(text: str, /, **values: object) -> None:
    """Write a line to stderr, for people, of what did not go well.

    Args:
        text: the line, with values by their names, as in `egec: {file} was left out`; it may have line breaks.
        values: the values; a line break in one of them is shown as `?`.
    """
    print(to_text(_with_plain_values(Words(text, **values)), keep_lines=True), file=sys.stderr)


def _with_plain_values(words: str) -> str:
    if not isinstance(words, Words):
        return words
    return Words(
        words.template,
        **{
            name: _with_plain_values(value) if isinstance(value, Words) else _PlainValue(value)
            for name, value in words.values.items()
        },
    )


class _PlainValue:
    """A value that steers no terminal wherever it is put into a text, and forges no line."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __format__(self, specification: str) -> str:
        return to_text(format(self._value, specification))

    def __repr__(self) -> str:
        return repr(self._value)

    def __str__(self) -> str:
        return to_text(self._value)


def render_error(error: EgecError, *, machine: bool) -> None:
    """Show an expected error on stderr: one JSON object for machines, message and hint for people."""
    if machine:
        told = ErrorRecord(error.code, error.message, error.hint)
        print(json.dumps({"error": told._asdict()}, ensure_ascii=False), file=sys.stderr)
        return
    warn("egec: {message}", message=error.message)
    if error.hint:
        warn("      {hint}", hint=error.hint)


def log_writer(style: LogStyle | None) -> Callable[[NamedTuple], None] | None:
    """Return what writes an act to stderr as a line of the log; None where no log is wanted.

    Args:
        style: that of the settings, which `--verbose` wants even where they want none, and `--quiet` never.
    """
    if _loudness is _Loudness.QUIET or (style is None and _loudness is not _Loudness.VERBOSE):
        return None
    line = _as_json if style is LogStyle.JSON else _log_text

    def write(act: NamedTuple) -> None:
        # The act is done: a log that cannot be written, as in `2>&1 | head`, is no reason to stop what comes next.
        with suppress(OSError):
            sys.stderr.write(f"{line(act._asdict())}\n")
            sys.stderr.flush()

    return write


def _log_text(act: dict[str, Any]) -> str:
    """Return an act in words: `2026-11-25T04:30:00.000Z login refused 1234567890 reason=wrong by root, 312 ms`."""
    words = [act["at"], act["action"], act["outcome"], act["client"]]
    words += [f"{name}={_in_a_word(value)}" for name, value in {"run": act["run"], **act["details"]}.items()]
    told = " ".join(word for word in words if word and not word.endswith("=null"))
    return to_text(f"{told} by {act['actor']} on {act['host']}, {act['ms']} ms")


def _in_a_word(value: Any) -> str:
    return value if isinstance(value, str) and value and not set(value) & set(' "=') else _as_json(value)


class Progress:
    """How far a long command has come, on stderr, for people: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, name: str, total: int, done: int, failed: int, output: OutputFormat) -> None:
        """Begin with what earlier commands have done.

        Args:
            name: what is worked on.
            total: how many there are of what is worked on.
            done: how many of them were dealt with before, failed ones included.
            failed: how many of them failed before.
            output: the format of the results.
        """
        self._name = name
        self._total = total
        self._done = done
        self._failed = failed
        self._done_here = 0
        self._began = self._told = time.monotonic()
        self._is_told = output is OutputFormat.TABLE and not is_hidden(output)
        self._bar: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and _loudness is not _Loudness.QUIET:
            self._bar = _progress_bar()
            self._task = self._bar.add_task(
                to_text(self._name), total=self._total, completed=self._done, failed=self._failed
            )
            self._bar.start()
        return self

    def advance(self, *, failed: bool) -> None:
        """Count one more that is done."""
        self._done_here += 1
        self.correct(self._done + 1, self._failed + failed)
        if self._is_told and self._bar is None and time.monotonic() - self._told >= _SECONDS_BETWEEN_LINES:
            self._tell()

    def correct(self, done: int, failed: int) -> None:
        """Show these numbers, which also count what other processes have done."""
        self._done, self._failed = done, failed
        if self._bar is not None:
            self._bar.update(self._task, completed=done, failed=failed)

    def __exit__(self, *_error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._is_told:
            self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        rate = self._done_here / max(self._told - self._began, 0.001)
        remaining = self._total - self._done
        is_known = rate and remaining
        left = Words(", about {time} left", time=timedelta(seconds=round(remaining / rate))) if is_known else ""
        note(
            "egec: {name}: {done} of {total} done, {failed} failed, {rate:.1f}/s{left}",
            name=self._name,
            done=self._done,
            total=self._total,
            failed=self._failed,
            rate=rate,
            left=left,
        )


def _progress_bar() -> Any:
    # Costs as much as all the rest of a command: only for people at a terminal.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(translate(Words("{number} failed", number="{task.fields[failed]}"))),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def to_text(value: Any, *, keep_lines: bool = False) -> str:
    """Return a value as text for people: in their language, and such that it cannot steer a terminal.

    Control and direction characters become `?`.
    """
    if isinstance(value, dict):
        value = ", ".join(f"{name}: {_as_json(one) if isinstance(one, list) else one}" for name, one in value.items())
    text = "" if value is None else _as_json(value) if isinstance(value, list) else translate(value)
    if text.isascii() and text.isprintable():
        return text
    kept = "\n" if keep_lines else ""
    return "".join(
        "?" if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and c not in kept else c for c in text
    )


def _with_names(value: Any) -> Any:
    """Return a value of which each record within is an object with its fields' names, not a list."""
    if isinstance(value, list):
        return [_with_names(one) for one in value]
    return value._asdict() if hasattr(value, "_asdict") else value


def _known(chosen: Sequence[str], names: Iterable[str]) -> list[str]:
    names = list(names)
    for name in chosen:
        if name not in names:
            raise UsageError(
                "there is no field {name!r}", "The fields are: {known}.", name=name, known=", ".join(names)
            )
    return list(chosen) or names


def _show_rows(rows: Iterator[Sequence[Any]], names: Sequence[str], output: OutputFormat) -> None:
    if output is OutputFormat.TABLE:
        _show_table(rows, names)
    elif output is OutputFormat.JSON:
        _show_json_list(rows, names)
    elif output is OutputFormat.JSONL:
        write, as_object = sys.stdout.write, _json_objects(names)
        for row in rows:
            write(f"{as_object(row)}\n")
    elif output is OutputFormat.CSV:
        _show_csv(rows, names)
    else:
        for row in rows:
            print_line("" if row[0] is None else str(row[0]))


def _json_objects(names: Sequence[str]) -> Callable[[Sequence[Any]], str]:
    """Return a function that writes a row as a JSON object: the same as `json.dumps` does, in a third of the time."""
    form = "{" + ", ".join(f"{_as_json(name).replace('%', '%%')}: %s" for name in names) + "}"
    written = _Written()
    return lambda row: form % tuple([written[value.__class__](value) for value in row])


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


class _Written(dict[type, Callable[[Any], str]]):
    """How values of each type are written as JSON; those of a list are looked at by the million."""

    def __init__(self) -> None:
        super().__init__({str: encode_basestring, int: int.__repr__, type(None): lambda _: "null"})

    def __missing__(self, kind: type) -> Callable[[Any], str]:
        self[kind] = encode_basestring if issubclass(kind, str) else _as_json
        return self[kind]


def _show_json_list(rows: Iterator[Sequence[Any]], names: Sequence[str]) -> None:
    as_object = _json_objects(names)
    separator = "["
    for row in rows:
        print_line(separator)
        sys.stdout.write(as_object(row))
        separator = ","
    print_line("[]" if separator == "[" else "\n]")


def _show_csv(rows: Iterator[Sequence[Any]], names: Sequence[str]) -> None:
    # Imported here: no other format needs it.
    import csv

    # The line end makes it put cells with either character of it in quotes; lines are written with `\n` alone.
    writer = csv.writer(_GuardedLines(sys.stdout), lineterminator="\r\n")
    writer.writerow(names)
    writer.writerows(
        [
            value if value.__class__ in _SIMPLE or not isinstance(value, list | dict) else _as_json(value)
            for value in row
        ]
        for row in rows
    )


# Nearly every value of a list is of one of these classes; to look for that is faster than `isinstance`.
_SIMPLE = frozenset({str, int, type(None)})


class _GuardedLines:
    """Writes lines of CSV in which no spreadsheet finds a formula."""

    def __init__(self, stream: TextIO) -> None:
        # Imported here: its patterns take a millisecond, and only CSV needs them.
        from egec_cli.output.formula_guard import guarded

        self._write, self._guarded = stream.write, guarded

    def write(self, line: str) -> None:
        """Write one line; the writer ends it with a carriage return and a line feed."""
        self._write(f"{self._guarded(line[:-2])}\n")


def _show_table(rows: Iterator[Sequence[Any]], names: Sequence[str]) -> None:
    first = list(islice(rows, _ROWS_AT_A_TIME))
    if not sys.stdout.isatty():
        _show_aligned(first, rows, names)
    elif len(first) + _LINES_OF_A_FRAME <= _lines_of_the_terminal():
        _show_rich_table(first, names)
    else:
        with _pager():
            _show_aligned(first, rows, names)


def _lines_of_the_terminal() -> int:
    # Imported here, as below: only for people at a terminal.
    from shutil import get_terminal_size

    return get_terminal_size().lines


def _show_aligned(first: Sequence[Sequence[Any]], rows: Iterator[Sequence[Any]], names: Sequence[str]) -> None:
    cells = [[to_text(value) for value in row] for row in first]
    widths = [max(map(_width, column)) for column in zip(names, *cells, strict=True)]
    print_line(_aligned(names, widths))
    for line in cells:
        print_line(_aligned(line, widths))
    for row in rows:
        print_line(_aligned([to_text(value) for value in row], widths))


@contextmanager
def _pager() -> Iterator[None]:
    """Let what is written to the terminal in this block be read page by page, if there is `less` and somebody to turn.

    PAGER names another one; `cat`, or nothing, is none.
    """
    import subprocess
    from shutil import which

    command = os.environ.get("PAGER", "less").split()
    if command in ([], ["cat"]) or which(command[0]) is None or sys.stdin is None or not sys.stdin.isatty():
        yield
        return
    # Long lines are cut, and what was read stays on the screen. Under sudo, nobody gets a shell by it.
    environment = {"LESS": "FRSX", "LESSCHARSET": "utf-8"} | dict(os.environ) | {"LESSSECURE": "1"}
    # Ctrl-C is for the pager, which stops a search; to leave the pager ends what is written.
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    pager = subprocess.Popen(  # noqa: S603 - the operator's own
        command, stdin=subprocess.PIPE, env=environment, encoding="utf-8", errors="replace"
    )
    assert pager.stdin is not None
    try:
        with suppress(BrokenPipeError), pager.stdin, redirect_stdout(pager.stdin):
            yield
    finally:
        pager.wait()
        signal.signal(signal.SIGINT, former)


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell + " " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True))
    return "  ".join(padded).rstrip()


def _width(text: str) -> int:
    """Return how many columns a terminal needs for the text."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in {"W", "F"} else 1 for c in text
    )


def _show_rich_table(rows: Sequence[Sequence[Any]], names: Sequence[str]) -> None:
    # Costs as much as all the rest of a command: only for people at a terminal.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        # As Text: in a str, rich would take [/] for markup.
        table.add_row(*(Text(to_text(value)) for value in row))
    Console().print(table)
