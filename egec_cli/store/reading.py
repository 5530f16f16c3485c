"""Read an SQLite file without permission to write to it or to its folder.

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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from egec_cli.errors import EgecError, PermissionDenied, StorageError, TemporaryFailure
from egec_cli.settings.schema import SqliteFile
from egec_cli.store import peewee
from egec_cli.store.copy import log_files
from egec_cli.store.errors import database_busy, not_writable
from egec_cli.translation import Words

# Where SQLite's connections share a lock: SHARED_FIRST and SHARED_SIZE (https://www.sqlite.org/fileformat2.html).
_SHARED_FIRST, _SHARED_SIZE = 0x40000002, 510
_BETWEEN_TRIES = 0.05


def obstacle(location: SqliteFile) -> EgecError | None:
    """Return the error of writing to the database; None if it can be written."""
    # SQLite keeps its log beside the file itself, not beside a link to it.
    path = location.path.resolve()
    if not os.access(path, os.R_OK | os.W_OK):
        faulty = path
    elif not os.access(path.parent, os.W_OK | os.X_OK):
        faulty = path.parent
    else:
        return None
    if _is_on_read_only_file_system(faulty):
        return StorageError(
            "{location} cannot be written: its file system is read-only",
            "Mount it for writing. Commands that only read work.",
            location=location,
        )
    return not_writable(location, Words("permission denied for {faulty}", faulty=faulty))


@contextmanager
def uri(location: SqliteFile, *, patience: float) -> Iterator[str]:
    """Yield the URI for reading a database that this process cannot write to.

    Args:
        location: the database.
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


def _is_on_read_only_file_system(path: Path) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


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
