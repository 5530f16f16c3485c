"""The file of rejected rows: each as it came, with its reason, to be corrected and imported again.

In CSV, formulas are guarded, and the import takes the guards off again.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from egec_cli import files
from egec_cli.imports.tables import Table


class RejectsFile:
    """A file that is created with the first rejected row."""

    def __init__(self, table: Table, path: Path, stack: ExitStack) -> None:
        self._table = table
        self._path = path
        self._stack = stack
        self._file: BinaryIO | None = None

    def add(self, raw: str, reason: str) -> None:
        """Add one row as it came."""
        if self._file is None:
            unfinished = self._stack.enter_context(files.create_file(self._path))
            self._file = self._stack.enter_context(os.fdopen(os.dup(unfinished.descriptor), "wb"))
            if self._table.header:
                self._file.write(self._table.rejected(self._table.header, "reason"))
        self._file.write(self._table.rejected(raw, reason))


@contextmanager
def open_rejects_file(path: Path, table: Table) -> Iterator[RejectsFile]:
    """Write a file of rejected rows within the block, for its owner alone; it is there once the block has ended well.

    Raises:
        AlreadyExists: there is a file of that name.
        PermissionDenied, StorageError, OSError: it cannot be written.
    """
    # Now, not with the first rejected row: by then, much has been imported.
    files.require_free(path)
    with ExitStack() as stack:
        yield RejectsFile(table, path, stack)
