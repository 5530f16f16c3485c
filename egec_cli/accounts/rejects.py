"""The file of rejected rows: each as it came, with its reason, to be corrected and imported again.

In CSV, formulas are guarded, and the import takes the guards off again.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from egec_cli.accounts.tables import Table
from egec_cli.errors import AlreadyExists


class RejectsFile:
    """A file that is made with the first rejected row."""

    def __init__(self, table: Table, unfinished: Path) -> None:
        self._table = table
        self._unfinished = unfinished
        self._file: BinaryIO | None = None

    def add(self, raw: str, reason: str) -> None:
        """Add one row as it came."""
        if self._file is None:
            descriptor = os.open(self._unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            self._file = os.fdopen(descriptor, "wb")
            if self._table.header:
                self._file.write(self._table.rejected(self._table.header, "reason"))
        self._file.write(self._table.rejected(raw, reason))

    def close(self) -> bool:
        """Write what is not written yet, and tell whether there is a file."""
        if self._file is None:
            return False
        self._file.close()
        return True


@contextmanager
def rejects_file(path: Path, table: Table) -> Iterator[RejectsFile]:
    """Write a file of rejected rows within the block, for its owner alone; it is there once the block has ended well.

    Raises:
        AlreadyExists: there is a file of that name.
        OSError: it cannot be written.
    """
    if path.exists():
        raise AlreadyExists("{path} is there already", "Name another file, or move this one away.", path=path)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    rejects = RejectsFile(table, unfinished)
    try:
        yield rejects
        if rejects.close():
            os.link(unfinished, path)
    except FileExistsError:
        raise AlreadyExists("{path} is there already", "Name another file, or move this one away.", path=path) from None
    finally:
        rejects.close()
        unfinished.unlink(missing_ok=True)
