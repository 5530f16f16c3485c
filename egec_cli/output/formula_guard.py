"""CSV that no spreadsheet takes for formulas, however it splits the lines, and the way back.

Spreadsheets take a cell for a formula that begins with one of `FORMULA_STARTS`. A text in the middle of a cell begins a
cell of its own where a spreadsheet splits lines at another delimiter, or reads quotes in another way. So an apostrophe
is put before each formula start at the beginning of a cell, or behind a delimiter, a quote or a line break in it. Where
apostrophes stand there already, one more is added. So each guard can be taken off again, and nothing else is.
"""

import re
from functools import lru_cache
from typing import NamedTuple

# With the full-width forms, which East Asian spreadsheets take for the same.
FORMULA_STARTS = "=+-@\t\r\0\uff1d\uff0b\uff0d\uff20"
DELIMITERS = (";", ",", "\t", "|")
GUARD = "'"


class _Places(NamedTuple):
    """Where a formula may begin, as patterns: with any guards before it, with one at least, and with none."""

    any: re.Pattern[str]
    guarded: re.Pattern[str]
    bare: re.Pattern[str]


@lru_cache
def _places(delimiter: str) -> _Places:
    before = f'(?:^|(?<=[{re.escape("".join(DELIMITERS) + delimiter)}"\r\n]))'
    # What parts the cells of a table begins none of them.
    start = f"[{re.escape(FORMULA_STARTS.replace(delimiter, '') if delimiter else FORMULA_STARTS)}]"
    return _Places(*(re.compile(before + rest) for rest in (f"(?='*{start})", f"'(?='*{start})", f"(?={start})")))


# Nearly no line has one, which is seen at once.
_SUSPICIOUS = re.compile(f"[{re.escape(''.join(DELIMITERS))}\"\r\n]'*[{re.escape(FORMULA_STARTS)}]")
_SUSPICIOUS_FIRST = frozenset(GUARD + FORMULA_STARTS)


def guarded(line: str) -> str:
    """Return a line of CSV, or the text of a cell, with a guard before each formula start.

    In a line, each cell begins at its start or behind a delimiter or a quote. So its cells are the same as if each had
    been guarded before it was written. The line is without its line end.
    """
    if line[:1] in _SUSPICIOUS_FIRST or _SUSPICIOUS.search(line):
        return _places("").any.sub(GUARD, line)
    return line


def remove_guard(cell: str, delimiter: str = "") -> str:
    """Return the text of a cell without its guards; the delimiter is that of its table, if it is not a usual one."""
    return _places("" if delimiter in DELIMITERS else delimiter).guarded.sub("", cell) if GUARD in cell else cell


def guarded_as_it_came(line: str, delimiter: str) -> str:
    """Return a line of a table from outside, without its line end, with a guard before each bare formula start.

    To `unguarded`, the cells of both say the same.
    """
    return line if delimiter == GUARD else _places(delimiter).bare.sub(GUARD, line)
