"""Which row of a table was taken for which client, for all rows of an import.

It is kept in a temporary file without a name, eight bytes for each id of a client, so that memory stays flat. The file
holds the numbers of lines and hashes, no data of clients.
"""

import os
import sys
from array import array
from collections.abc import Sequence
from tempfile import TemporaryFile
from typing import NamedTuple, Self

from egec_cli.accounts.import_rows import Checked

_SIZE = 8
_BITS_OF_CONTENT = 32
_CONTENT = (1 << _BITS_OF_CONTENT) - 1


class TakenRow(NamedTuple):
    """The row that was taken for a client.

    Attributes:
        line: where it begins.
        content: a hash of its fields, the same for rows that say the same.
    """

    line: int
    content: int


class RowsTaken:
    """The rows that were taken so far: those that created a client, changed one, or had nothing to do."""

    def __enter__(self) -> Self:
        self._file = TemporaryFile()
        self._descriptor = self._file.fileno()
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()

    def add(self, keys: Sequence[int], rows: Sequence[Checked]) -> None:
        """Note the rows that were taken for the clients with these keys."""
        if not keys:
            return
        packed = array("Q", [one.row.line << _BITS_OF_CONTENT | _content(one) for one in rows])
        if list(keys) == list(range(keys[0], keys[0] + len(keys))):
            os.pwrite(self._descriptor, packed, keys[0] * _SIZE)
            return
        for key, one in zip(keys, packed, strict=True):
            os.pwrite(self._descriptor, one.to_bytes(_SIZE, sys.byteorder), key * _SIZE)

    def find(self, key: int) -> TakenRow | None:
        """Return the row that was taken for the client with this key; None if there is none."""
        # Parts of the file that were never written are zero, or lie behind its end.
        packed = int.from_bytes(os.pread(self._descriptor, _SIZE, key * _SIZE), sys.byteorder)
        return TakenRow(packed >> _BITS_OF_CONTENT, packed & _CONTENT) if packed else None


def taken_row(row: Checked) -> TakenRow:
    """Return what is kept of a row."""
    return TakenRow(row.row.line, _content(row))


def _content(row: Checked) -> int:
    # All but the e-mail as it was written: capitals make no difference.
    return hash((row.identifier, row[3:])) & _CONTENT
