"""The file of an SQLite database: complete copies of it, and reading it without permission to write there.

SQLite in WAL mode needs two files beside the database even to read it (https://www.sqlite.org/wal.html, "Read-only
databases"). Without a log beside it, the whole database is in its one file, which SQLite reads as `immutable`. A writer
may start a log meanwhile. A shared lock on the file keeps writers from removing their log, so if there is no log at
the end, no process has written.
"""

import fcntl
import os
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

from egec_cli import clock, files
from egec_cli.errors import (
    AlreadyExists,
    PermissionDenied,
    StorageError,
    TemporaryFailure,
    damaged_file,
    database_busy,
)
from egec_cli.files import HiddenFile
from egec_cli.settings.types import SqliteFile
from egec_cli.store import peewee
from egec_cli.translation import Words, system_message

# Where SQLite's connections share a lock: SHARED_FIRST and SHARED_SIZE (https://www.sqlite.org/fileformat2.html).
_SHARED_FIRST, _SHARED_SIZE = 0x40000002, 510
_BETWEEN_TRIES = 0.05
# A few megabytes, so that progress is reported several times a second.
_PAGES_AT_A_TIME = 1_000

# Called with what is being done, the number of bytes that are done, and of all; 0 if only the time can be shown.
Report = Callable[[str, int, int], None]
COPYING = Words("copying the database")


def report_nothing(_name: str, _done: int, _total: int) -> None:
    """Do not report the progress."""


@contextmanager
def uri(location: SqliteFile, *, patience: float) -> Iterator[str]:
    """Yield the URI for reading a database that this process cannot write to.

    Args:
        patience: how long to wait for another process's lock, in seconds.

    Raises:
        PermissionDenied: the database, or its log, cannot be read.
        TemporaryFailure: another process has an exclusive lock, or wrote meanwhile, so the data may be inconsistent.
    """
    path = location.path.resolve()
    address = path.as_uri()
    if _has_log(path):
        _require_readable_log(path)
        try:
            yield f"{address}?mode=ro"
        except (sqlite3.Error, peewee.PeeweeException):
            if not _has_log(path):
                raise _written_meanwhile(location) from None
            raise
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        raise PermissionDenied(
            "{location} cannot be read", "Run egec as the user who owns the database.", location=location
        ) from None
    try:
        _share(descriptor, patience)
        if _has_log(path):
            raise _written_meanwhile(location)
        try:
            yield f"{address}?mode=ro&immutable=1"
        except (sqlite3.Error, peewee.PeeweeException):
            if _has_log(path):
                raise _written_meanwhile(location) from None
            raise
        if _has_log(path):
            raise _written_meanwhile(location)
    finally:
        os.close(descriptor)


def _has_log(path: Path) -> bool:
    return any(os.path.lexists(f"{path}{suffix}") for suffix in ("-wal", "-journal"))


def _require_readable_log(path: Path) -> None:
    unreadable = next((log for log in log_files(path) if log.exists() and not os.access(log, os.R_OK)), None)
    log, index = log_files(path)
    if unreadable is None and log.exists() and not index.exists():
        # SQLite reads a log through its index, which it would have to create.
        unreadable = index
    if unreadable is not None:
        raise PermissionDenied(
            "{path} has a log beside it, and {unreadable} cannot be read",
            "Run egec as the user who owns the database, or copy the file and its log to your own folder.",
            path=path,
            unreadable=unreadable,
        )


def _share(descriptor: int, patience: float) -> None:
    """Take the lock that SQLite's readers share, until the descriptor is closed."""
    deadline = time.monotonic() + patience
    while True:
        try:
            if hasattr(fcntl, "F_OFD_SETLK"):
                # A lock of the descriptor, not of the process: SQLite opens and closes the same file.
                lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, _SHARED_FIRST, _SHARED_SIZE, 0)
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)
            else:
                fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, _SHARED_SIZE, _SHARED_FIRST)
            return
        except (BlockingIOError, PermissionError):
            if time.monotonic() >= deadline:
                raise database_busy() from None
        time.sleep(_BETWEEN_TRIES)


def _written_meanwhile(location: SqliteFile) -> TemporaryFailure:
    return TemporaryFailure(
        "{location} was written to while it was read",
        "Ignore the output and try again.",
        code="database_busy",
        location=location,
    )


# Copies, by the backup API (https://www.sqlite.org/backup.html): each is complete or absent.


def copy_database(
    source: sqlite3.Connection, target: Path, *, patience: float, report: Report = report_nothing
) -> None:
    """Copy an open database to a new file that only its owner can read; others may write to the database meanwhile.

    The copy gets its name when it is complete, so not even a kill leaves an incomplete one under that name.

    Args:
        patience: how long to wait for another process's lock, in seconds.

    Raises:
        AlreadyExists: the file exists.
        PermissionDenied, StorageError: it cannot be created.
        ConfigError: the database is damaged.
        TemporaryFailure: another process holds a lock for too long.
    """
    try:
        with files.create_file(target) as copy:
            fill_copy(source, copy, patience=patience, report=report)
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            [(_, _, path)] = source.execute("PRAGMA database_list").fetchall()
            raise damaged_file(path, str(error)) from None
        raise StorageError(
            "{target} could not be written: {error}", "Free some space.", target=target, error=error
        ) from None
    except OSError as error:
        raise StorageError(
            "{target} could not be written: {reason}", "Free some space.", target=target, reason=system_message(error)
        ) from None


def copy_beside(
    source: sqlite3.Connection, database: Path, label: str, *, patience: float, report: Report = report_nothing
) -> Path:
    """Copy an open database to a new file beside it, and return that file.

    Raises:
        PermissionDenied, StorageError, TemporaryFailure: as `copy_database` does.
    """
    for target in names_beside(database, label):
        try:
            copy_database(source, target, patience=patience, report=report)
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


def fill_copy(
    source: sqlite3.Connection, copy: HiddenFile, *, patience: float, report: Report = report_nothing
) -> None:
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
            _require_progress(error.sqlite_errorcode & 0xFF)
            raise
        overwrite_database(target, source, report)


@contextmanager
def opened_as(descriptor: int, path: Path, query: str, *, patience: float) -> Iterator[sqlite3.Connection]:
    """Open an SQLite file by its path, and require that it is the file of a descriptor, not a replacement.

    Args:
        descriptor: the file; it must stay open until the block has ended, as closing it drops SQLite's locks.
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


def overwrite_database(
    target: sqlite3.Connection, source: sqlite3.Connection, report: Report = report_nothing, name: str = COPYING
) -> None:
    """Overwrite a database with the content of another, in one transaction.

    Args:
        report: called several times a second with the progress.
        name: what is being done, for `report`.

    Raises:
        TemporaryFailure: another process holds a lock on one of them for too long.
        sqlite3.Error: one of them failed.
    """

    def report_pages(status: int, remaining: int, total: int) -> None:
        _require_progress(status)
        report(name, (total - remaining) * size, total * size)

    # Without a transaction, SQLite starts again from the first page after each change by another process.
    source.execute("BEGIN")
    try:
        try:
            source.execute("SELECT 1 FROM sqlite_master").fetchone()
        except sqlite3.OperationalError as error:
            _require_progress(error.sqlite_errorcode & 0xFF)
            raise
        [(size,)] = source.execute("PRAGMA page_size")
        source.backup(target, pages=_PAGES_AT_A_TIME, progress=report_pages)
    finally:
        source.rollback()


def _require_progress(status: int) -> None:
    """End a copy that could not get its locks; sqlite3 would try again for ever and ignore signals."""
    if status in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        raise TemporaryFailure("the database or its copy is busy with another process", "Try again.")


def log_files(path: Path) -> tuple[Path, Path]:
    """Return the two files that SQLite keeps beside a file in use: its log and the index of the log."""
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")
