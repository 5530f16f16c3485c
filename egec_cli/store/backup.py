"""Back up the SQLite database; restore a backup while no other process has the database open.

A restore checks the backup, keeps the previous content in another file and overwrites the database. The file itself
stays, so that a log of the old database never applies to the new one
(https://www.sqlite.org/howtocorrupt.html, 1.4 and 4).
"""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from egec_cli import files
from egec_cli.errors import DamagedDatabase, InvalidInput, PermissionDenied, StorageError, TemporaryFailure, UsageError
from egec_cli.files import HiddenFile
from egec_cli.settings.types import Database, SqliteFile
from egec_cli.store import database, sqlite, sqlite_file
from egec_cli.store.database import translate_failures
from egec_cli.store.sqlite_file import Report, report_nothing
from egec_cli.translation import Words, system_message

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_NO_ROOM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
# In the name of the copy of the previous database.
_LABEL = "before-restore"


def backup_database(location: Database, target: Path, *, report: Report = report_nothing) -> None:
    """Copy the SQLite database to a new file that only the owner can read; others may write to the database meanwhile.

    Args:
        report: called with the progress.

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
        sqlite_file.copy_database(source, target, patience=database.BUSY_TIMEOUT, report=report)


def require_other_file(location: SqliteFile, backup: Path) -> None:
    """Require that a backup exists and is not the database itself.

    Raises:
        InvalidInput: it is the database.
        OSError: it does not exist.
    """
    status = os.stat(backup)
    with suppress(OSError):
        if os.path.samestat(status, os.stat(location.path)):
            raise InvalidInput(
                "{backup} is the database itself", "Name a file that `egec db backup` created.", backup=backup
            )


def restore_backup(location: SqliteFile, backup: Path, *, report: Report = report_nothing) -> Path | None:
    """Replace the SQLite database, which may be damaged or missing, by a backup.

    Args:
        report: called with the progress.

    Returns:
        The file that keeps the previous database, if there was one.

    Raises:
        InvalidInput: the backup is not a valid database of egec, or it is the database itself.
        ConfigError: a newer egec made the backup.
        TemporaryFailure: another process has the database open.
        PermissionDenied, StorageError: the database cannot be written.
    """
    require_other_file(location, backup)
    # A symbolic link stays, and SQLite keeps the logs beside its target.
    live = Path(os.path.realpath(location.path))
    try:
        if sqlite.file_exists(live) and (obstacle := sqlite.find_obstacle(location)):
            raise obstacle
        files.make_folders(live.parent)
        with files.create_hidden_file(live.parent) as staged:
            _stage(backup, staged, report)
            _require_egec_database(staged.path, backup)
            with translate_failures(location):
                return _put_in_place(staged, live, report)
    except PermissionError:
        raise PermissionDenied(
            "{live} cannot be written", "Run egec as the user who owns the database.", live=live
        ) from None
    except OSError as error:
        raise StorageError(
            "{live} cannot be written: {reason}", "Free some space.", live=live, reason=system_message(error)
        ) from None


def _stage(backup: Path, staged: HiddenFile, report: Report) -> None:
    """Copy the backup to a hidden file beside the database, and require that it is valid."""
    with _open_backup(backup) as descriptor:
        try:
            with sqlite_file.opened_as(
                descriptor, backup, _read_options(backup), patience=database.BUSY_TIMEOUT
            ) as source:
                sqlite_file.fill_copy(source, staged, patience=database.BUSY_TIMEOUT, report=report)
            report(Words("checking the backup"), 0, 0)
            with closing(sqlite3.connect(staged.path)) as copy:
                faults = [text for (text,) in copy.execute("PRAGMA integrity_check(1)") if text != "ok"]
                faults += [
                    Words("a row of {table} refers to a missing row", table=row[0])
                    for row in copy.execute("PRAGMA foreign_key_check")
                ][:1]
        except sqlite3.Error as error:
            if error.sqlite_errorcode & 0xFF in _NO_ROOM:
                raise StorageError(
                    "{path} could not be written: {error}", "Free some space.", path=staged.path, error=error
                ) from None
            is_sqlite = os.pread(descriptor, 16, 0) == b"SQLite format 3\0"
            raise _invalid_backup(backup, str(error) if is_sqlite else Words("it is not an SQLite file")) from None
    if faults:
        raise _invalid_backup(backup, faults[0])


@contextmanager
def _open_backup(backup: Path) -> Iterator[int]:
    """Open the backup once: what is checked is what is restored, even if another file takes its name meanwhile."""
    try:
        # O_NONBLOCK: do not wait for a FIFO.
        descriptor = os.open(backup, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise _not_a_file(backup) from None
    except PermissionError:
        raise PermissionDenied(
            "{backup} cannot be read", "Run egec as a user who may read it.", backup=backup
        ) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _not_a_file(backup)
        yield descriptor
    finally:
        os.close(descriptor)


def _not_a_file(backup: Path) -> InvalidInput:
    return InvalidInput("{backup} is not a file", "Name a file that `egec db backup` created.", backup=backup)


def _read_options(backup: Path) -> str:
    # No process writes to a backup, so SQLite needs no files beside it; a log shows an exception.
    return "mode=ro" if any(log.exists() for log in sqlite_file.log_files(backup)) else "mode=ro&immutable=1"


def _invalid_backup(backup: Path, reason: str) -> InvalidInput:
    return InvalidInput(
        "{backup} is not a valid database of egec: {reason}",
        "Name another backup. Nothing was changed.",
        backup=backup,
        reason=reason,
    )


def _require_egec_database(staged: Path, backup: Path) -> None:
    applied = database.list_applied_migrations(SqliteFile(staged))
    if not applied:
        raise _invalid_backup(backup, Words("it has no tables of egec"))
    database.require_known_migrations(applied, str(backup))


def _put_in_place(staged: HiddenFile, live: Path, report: Report) -> Path | None:
    if not os.path.lexists(live):
        try:
            staged.move_to(live.name)
        except FileExistsError:
            raise TemporaryFailure("another process has just created {live}", "Try again.", live=live) from None
        return None
    try:
        with _open_exclusively(live) as target, closing(sqlite3.connect(staged.path)) as source:
            kept = sqlite_file.copy_beside(target, live, _LABEL, patience=database.BUSY_TIMEOUT, report=report)
            sqlite_file.overwrite_database(target, source, report, Words("restoring the backup"))
    except (sqlite3.DatabaseError, DamagedDatabase) as error:
        if isinstance(error, sqlite3.DatabaseError) and getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
            raise
        # Its first page is not a database's, or SQLite cannot read what tables it has: no process can use it.
        kept = _keep(live)
        staged.move_to(live.name, force=True)
    return kept


@contextmanager
def _open_exclusively(live: Path) -> Iterator[sqlite3.Connection]:
    """Open a database that no other process has open, and lock others out for the block."""
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
                "Stop every egec that uses it, then try again.",
                code="database_busy",
                live=live,
            ) from None
        yield connection


def _keep(live: Path) -> Path:
    """Give a damaged database a second name and rename its logs: they must not apply to the next database."""
    for kept in sqlite_file.names_beside(live, _LABEL):
        try:
            os.link(live, kept, follow_symlinks=False)
        except FileExistsError:
            continue
        break
    for log, name in zip(sqlite_file.log_files(live), sqlite_file.log_files(kept), strict=True):
        if log.exists():
            log.rename(name)
    return kept
