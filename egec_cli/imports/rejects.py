"""Write rejected rows, unchanged and with their reasons, to a file that can be corrected and imported again.

In CSV, formulas are guarded; the import removes the guards.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from egec_cli import files
from egec_cli.imports.tables import Table


class RejectsFile:
    """A file that is created when the first row is added."""

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
