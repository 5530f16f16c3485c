"""Restore a backup: examine it, then write it over the embedded database while no other process has that open.

The previous content is kept beside it. The file itself stays, so that no log of the old one meets the new one
(https://www.sqlite.org/howtocorrupt.html, 1.4 and 4).
"""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from egec_cli import files
from egec_cli.errors import InvalidInput, PermissionDenied, StorageError, TemporaryFailure, UsageError
from egec_cli.files import HiddenFile
from egec_cli.settings.schema import Database, SqliteFile
from egec_cli.store import copy as sqlite_copy
from egec_cli.store import database, reading, schema, sqlite
from egec_cli.store.failures import translate_failures
from egec_cli.translation import Words, system_message

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_NO_ROOM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
# Part of the name of the copy that is kept.
_LABEL = "before-restore"


def backup_database(location: Database, target: Path) -> None:
    """Copy the SQLite database to a new file that only the owner can read; others may write to the database meanwhile.

    Raises:
        UsageError: the database is PostgreSQL's, which has its own program for this.
        AlreadyExists: the file exists.
        ConfigError: the database is missing.
    """
    if not isinstance(location, SqliteFile):
        raise UsageError("a PostgreSQL database is not backed up by egec", "Use pg_dump.")
    sqlite.require_file(location)
    with translate_failures(location), sqlite.connect(location, patience=database.BUSY_TIMEOUT) as source:
        # Fails here if the file is not a database, rather than as a failed copy.
        source.execute("PRAGMA schema_version")
        sqlite_copy.copy_database(source, target, patience=database.BUSY_TIMEOUT)


def restore_backup(location: SqliteFile, backup: Path) -> Path | None:
    """Put a backup in the place of the embedded database.

    Args:
        location: the embedded database; it may be damaged, or not there.
        backup: the file to restore; it is not changed.

    Returns:
        The file that keeps the previous database, if there was one.

    Raises:
        InvalidInput: the file is not a sound database of egec.
        ConfigError: it was made by a newer egec.
        TemporaryFailure: another process has the database open.
        PermissionDenied, StorageError: it cannot be written there.
    """
    live = location.path
    try:
        if sqlite.file_exists(live) and (obstacle := reading.obstacle(location)):
            raise obstacle
        files.make_folders(live.parent)
        with files.create_hidden_file(live.parent) as staged:
            _stage(backup, staged)
            _require_of_egec(staged.path, backup)
            with translate_failures(location):
                return _put_in_place(staged, live)
    except PermissionError:
        raise PermissionDenied(
            "{live} cannot be written", "Run egec as the user who owns the database.", live=live
        ) from None
    except OSError as error:
        raise StorageError(
            "{live} cannot be written: {reason}", "Free some space.", live=live, reason=system_message(error)
        ) from None


def _stage(backup: Path, staged: HiddenFile) -> None:
    """Copy the backup to a hidden file beside the database, and require that it is sound."""
    with _opened_to_read(backup) as descriptor:
        try:
            with sqlite_copy.opened_as(
                descriptor, backup, _how_to_read(backup), patience=database.BUSY_TIMEOUT
            ) as source:
                sqlite_copy.fill(source, staged, patience=database.BUSY_TIMEOUT)
            with closing(sqlite3.connect(staged.path)) as copy:
                faults = [text for (text,) in copy.execute("PRAGMA integrity_check(1)") if text != "ok"]
                faults += [
                    Words("a row of {table} refers to nothing", table=row[0])
                    for row in copy.execute("PRAGMA foreign_key_check")
                ][:1]
        except sqlite3.Error as error:
            if error.sqlite_errorcode & 0xFF in _NO_ROOM:
                raise StorageError(
                    "{path} could not be written: {error}", "Free some space.", path=staged.path, error=error
                ) from None
            is_sqlite = os.pread(descriptor, 16, 0) == b"SQLite format 3\0"
            raise _not_sound(backup, str(error) if is_sqlite else Words("it is no SQLite file")) from None
    if faults:
        raise _not_sound(backup, faults[0])


@contextmanager
def _opened_to_read(backup: Path) -> Iterator[int]:
    """Open the backup once: what is looked at is what is restored, whatever takes its place meanwhile."""
    try:
        # A FIFO is not waited for.
        descriptor = os.open(backup, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise _no_backup(backup) from None
    except PermissionError:
        raise PermissionDenied(
            "{backup} cannot be read", "Run egec as a user who may read it.", backup=backup
        ) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _no_backup(backup)
        yield descriptor
    finally:
        os.close(descriptor)


def _no_backup(backup: Path) -> InvalidInput:
    return InvalidInput("there is no file {backup}", "Name a file that `egec db backup` has made.", backup=backup)


def _how_to_read(backup: Path) -> str:
    # Nobody writes to a backup, so nothing need be laid beside it, unless a log shows that somebody does.
    return "mode=ro" if any(log.exists() for log in sqlite_copy.log_files(backup)) else "mode=ro&immutable=1"


def _not_sound(backup: Path, reason: str) -> InvalidInput:
    return InvalidInput(
        "{backup} is no sound database of egec: {reason}",
        "Name another backup. Nothing was changed.",
        backup=backup,
        reason=reason,
    )


def _require_of_egec(staged: Path, backup: Path) -> None:
    applied = database.list_applied_migrations(SqliteFile(staged))
    if not applied:
        raise _not_sound(backup, Words("it has no tables of egec"))
    schema.require_known_migrations(applied, str(backup))


def _put_in_place(staged: HiddenFile, live: Path) -> Path | None:
    if not os.path.lexists(live):
        try:
            staged.move_to(live.name)
        except FileExistsError:
            raise TemporaryFailure("another process has just made {live}", "Run the same again.", live=live) from None
        return None
    try:
        with _to_oneself(live) as target, closing(sqlite3.connect(staged.path)) as source:
            kept = sqlite_copy.copy_beside(target, live, _LABEL, patience=database.BUSY_TIMEOUT)
            sqlite_copy.overwrite_database(target, source)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
            raise
        # Not even its first page is one of a database: no process can have it open.
        kept = _keep(live)
        staged.move_to(live.name, force=True)
    return kept


@contextmanager
def _to_oneself(live: Path) -> Iterator[sqlite3.Connection]:
    """Open a database that no other process has open, and keep others away in the block."""
    connection = sqlite3.connect(
        f"{live.absolute().as_uri()}?mode=rw", uri=True, timeout=database.BUSY_TIMEOUT, isolation_level=None
    )
    with closing(connection):
        # https://www.sqlite.org/pragma.html#pragma_locking_mode: kept from the first access to the end.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        try:
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            raise TemporaryFailure(
                "{live} is in use by another process",
                "Stop every egec that uses it, then run the same again.",
                code="database_busy",
                live=live,
            ) from None
        yield connection


def _keep(live: Path) -> Path:
    """Give a damaged database a second name, and take its logs along: the next database must not meet them."""
    for kept in sqlite_copy.names_beside(live, _LABEL):
        try:
            os.link(live, kept, follow_symlinks=False)
        except FileExistsError:
            continue
        break
    for log, name in zip(sqlite_copy.log_files(live), sqlite_copy.log_files(kept), strict=True):
        if log.exists():
            log.rename(name)
    return kept
