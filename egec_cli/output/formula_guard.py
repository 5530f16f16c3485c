"""Guards that stop spreadsheets from reading CSV cells as formulas, and their removal.

Spreadsheets read a cell as a formula if it begins with one of `FORMULA_STARTS`. A spreadsheet that splits lines at
another delimiter, or reads quotes differently, can make a cell of a part of another one. So an apostrophe is added
before each formula start at the beginning of a cell, or after a delimiter, a quote or a line break in it. If there are
apostrophes already, one more is added, so that removing one restores the text.
"""

import re
from functools import lru_cache
from typing import NamedTuple

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


# A quick check, as hardly any line needs a guard.
_SUSPICIOUS = re.compile(f"[{re.escape(''.join(DELIMITERS))}\"\r\n]'*[{re.escape(FORMULA_STARTS)}]")
_SUSPICIOUS_FIRST = frozenset(GUARD + FORMULA_STARTS)


def guarded(line: str) -> str:
    """Return a line of CSV without its line end, or the text of a cell, with a guard before each formula start.

    Each cell of a line begins at its start or after a delimiter or a quote, so guarding the line guards each cell.
    """
    if line[:1] in _SUSPICIOUS_FIRST or _SUSPICIOUS.search(line):
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
