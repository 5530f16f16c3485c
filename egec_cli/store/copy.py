"""Copies of an SQLite file by SQLite's backup API (https://www.sqlite.org/backup.html), either complete or absent."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

from egec_cli import clock, files
from egec_cli.errors import AlreadyExists, StorageError, TemporaryFailure
from egec_cli.files import HiddenFile
from egec_cli.translation import system_message


def copy_database(source: sqlite3.Connection, target: Path, *, patience: float) -> None:
    """Copy an open database to a new file that only its owner can read; others may write to the database meanwhile.

    The copy gets its name when it is complete, so not even a kill leaves an incomplete one under that name.

    Args:
        source: the database.
        target: the new file.
        patience: how long to wait for another process's lock, in seconds.

    Raises:
        AlreadyExists: the file exists.
        PermissionDenied, StorageError: it cannot be created.
        TemporaryFailure: another process holds a lock for too long.
    """
    try:
        with files.create_file(target) as copy:
            fill_copy(source, copy, patience=patience)
    except sqlite3.Error as error:
        raise StorageError(
            "{target} could not be written: {error}", "Free some space.", target=target, error=error
        ) from None
    except OSError as error:
        raise StorageError(
            "{target} could not be written: {reason}", "Free some space.", target=target, reason=system_message(error)
        ) from None


def copy_beside(source: sqlite3.Connection, database: Path, label: str, *, patience: float) -> Path:
    """Copy an open database to a new file beside it, and return that file.

    Raises:
        PermissionDenied, StorageError, TemporaryFailure: as `copy_database` does.
    """
    for target in names_beside(database, label):
        try:
            copy_database(source, target, patience=patience)
        except AlreadyExists:
            continue
        return target
    raise AssertionError("numbers do not end")


def names_beside(database: Path, label: str) -> Iterator[Path]:
    """Yield names for a copy of a database in its folder, without end: with a label and the time, then a number."""
    name = f"{database.name}.{label}-{clock.now():%Y%m%dT%H%M%SZ}"
    yield database.with_name(name)
    for number in count(2):
        yield database.with_name(f"{name}-{number}")


def fill_copy(source: sqlite3.Connection, copy: HiddenFile, *, patience: float) -> None:
    """Copy an open database to a hidden file, which is not durable yet.

    Raises:
        TemporaryFailure: another process holds a lock for too long.
        StorageError: another file has replaced the hidden one.
        sqlite3.Error: one of the files failed.
    """
    with opened_as(copy.descriptor, copy.path, "mode=rw", patience=patience) as target:
        # The file is deleted if anything fails, and synced once at the end.
        try:
            target.execute("PRAGMA journal_mode = OFF")
            target.execute("PRAGMA synchronous = OFF")
        except sqlite3.OperationalError as error:
            _require_progress(error.sqlite_errorcode & 0xFF, 0, 0)
            raise
        overwrite_database(target, source)


@contextmanager
def opened_as(descriptor: int, path: Path, query: str, *, patience: float) -> Iterator[sqlite3.Connection]:
    """Open an SQLite file by its path, and require that it is the file of a descriptor, not a replacement.

    Args:
        descriptor: the file; it must stay open until the block has ended, as closing it drops SQLite's locks.
        path: its name.
        query: what follows the path in an SQLite URI.
        patience: how long to wait for another process's lock, in seconds.

    Raises:
        StorageError: it is another file.
        sqlite3.Error: it cannot be opened.
    """
    before = _times_open(descriptor)
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{query}", uri=True, timeout=patience)
    with closing(connection):
        if _times_open(descriptor) == before:
            raise StorageError(
                "{path} was replaced by another file meanwhile",
                "Name a file in a folder that only you can write to.",
                path=path,
            )
        yield connection


def _times_open(descriptor: int) -> int:
    """Return how often this process has the file of a descriptor open. SQLite opens a file at once, not when needed."""
    wanted = os.fstat(descriptor)
    times = 0
    for name in os.listdir("/dev/fd"):
        try:
            found = os.fstat(int(name))
        except OSError:
            continue
        times += os.path.samestat(found, wanted)
    return times


def overwrite_database(target: sqlite3.Connection, source: sqlite3.Connection) -> None:
    """Overwrite a database with the content of another, in one transaction.

    Raises:
        TemporaryFailure: another process holds a lock on one of them for too long.
        sqlite3.Error: one of them failed.
    """
    source.backup(target, progress=_require_progress)


def _require_progress(status: int, _remaining: int, _total: int) -> None:
    """End a copy that could not get its locks; sqlite3 would try again for ever and ignore signals."""
    if status in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        raise TemporaryFailure("the database or its copy is busy with another process", "Try again.")


def log_files(path: Path) -> tuple[Path, Path]:
    """Return the two files that SQLite keeps beside a file in use: its log and the index of the log."""
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")
