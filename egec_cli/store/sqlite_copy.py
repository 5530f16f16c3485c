"""Copies of an SQLite file by SQLite's own means (https://www.sqlite.org/backup.html): whole or not there at all."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from egec_cli.errors import AlreadyExists, FileSystemFailed, NotNow, NotPermitted
from egec_cli.translation import of_system


def make(source: sqlite3.Connection, target: Path, *, patience: float) -> None:
    """Copy an open database, page by page, to a new file for its owner alone.

    It gets its name when it is complete: not even a kill leaves half a copy that looks like one.

    Args:
        source: what is copied; others may write to it meanwhile.
        target: the name of the copy.
        patience: how long to wait for another process's lock, in seconds.

    Raises:
        AlreadyExists: there is a file of that name.
        NotPermitted, FileSystemFailed: it cannot be made there.
        NotNow: another process holds a lock for too long.
    """
    if os.path.lexists(target):
        raise _exists(target)
    unfinished = target.with_name(f".{target.name}.{os.urandom(6).hex()}")
    try:
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except PermissionError:
        raise NotPermitted(
            "{target} cannot be written", "Name a file in a folder that is yours.", target=target
        ) from None
    except OSError as error:
        raise FileSystemFailed(
            "{target} cannot be made: {reason}", "Name a folder that is there.", target=target, reason=of_system(error)
        ) from None
    try:
        with closing(sqlite3.connect(unfinished, timeout=patience)) as copy:
            overwrite(copy, source)
        os.link(unfinished, target)
    except sqlite3.Error as error:
        raise FileSystemFailed(
            "{target} could not be written: {error}", "Free some space.", target=target, error=error
        ) from None
    except FileExistsError:
        raise _exists(target) from None
    finally:
        unfinished.unlink(missing_ok=True)


def overwrite(target: sqlite3.Connection, source: sqlite3.Connection) -> None:
    """Give a database the content of another, in one transaction.

    Raises:
        NotNow: another process holds a lock on one of them for too long.
        sqlite3.Error: one of them failed.
    """
    source.backup(target, progress=_require_progress)


def _require_progress(status: int, _remaining: int, _total: int) -> None:
    """End a copy for whose locks SQLite has waited in vain; sqlite3 would try again for ever, deaf to signals."""
    if status in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        raise NotNow("the database or its copy is busy with another process", "Run the same again.")


def _exists(target: Path) -> AlreadyExists:
    return AlreadyExists("{target} is there already", "Name another file, or move this one away.", target=target)


def logs_of(path: Path) -> tuple[Path, Path]:
    """Return the two files that SQLite lays beside one in use: its log, and the index of that."""
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")
