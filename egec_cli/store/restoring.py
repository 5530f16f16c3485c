"""A backup put back: examined first, then written over the embedded database while nobody else has it open.

The former content is kept beside it. The file itself stays, so that no log of the old one meets the new one
(https://www.sqlite.org/howtocorrupt.html, 1.4 and 4).
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from egec_cli import clock
from egec_cli.errors import BadInput, FileSystemFailed, NotNow
from egec_cli.settings import SqliteFile
from egec_cli.store import database, sqlite_copy
from egec_cli.translation import Words, of_system

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def restore(location: SqliteFile, backup: Path) -> Path | None:
    """Put a backup in the place of the embedded database.

    Args:
        location: the embedded database; it may be damaged, or not there.
        backup: the file to restore; it is not changed.

    Returns:
        Where the former database is kept, if there was one.

    Raises:
        BadInput: the file is no sound database of egec.
        Misconfigured: it was made by a newer egec.
        NotNow: another process has the database open.
        NotPermitted, FileSystemFailed: it cannot be written there.
    """
    live = location.path
    staged = live.with_name(f".{live.name}.restoring-{os.urandom(6).hex()}")
    try:
        live.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _stage(backup, staged)
        _require_of_egec(staged, backup)
        with database.translated_failures(location):
            return _put_in_place(staged, live)
    finally:
        for leftover in (staged, *sqlite_copy.logs_of(staged)):
            leftover.unlink(missing_ok=True)


def _stage(backup: Path, staged: Path) -> None:
    """Copy the backup beside the database, and require that it is sound."""
    if not backup.is_file():
        raise BadInput("there is no file {backup}", "Name a file that `egec db backup` has made.", backup=backup)
    try:
        with closing(_opened_to_read(backup)) as source:
            sqlite_copy.make(source, staged, patience=database.BUSY_TIMEOUT)
        with closing(sqlite3.connect(staged)) as copy:
            faults = [text for (text,) in copy.execute("PRAGMA integrity_check(1)") if text != "ok"]
            faults += [
                Words("a row of {table} refers to nothing", table=row[0])
                for row in copy.execute("PRAGMA foreign_key_check")
            ][:1]
    except FileSystemFailed as error:
        # A source that cannot be read fails as the copy does.
        raise error if _is_sqlite(backup) else _not_sound(backup, Words("it is no SQLite file")) from None
    except sqlite3.Error as error:
        raise _not_sound(backup, str(error)) from None
    if faults:
        raise _not_sound(backup, faults[0])


def _opened_to_read(backup: Path) -> sqlite3.Connection:
    # Nobody writes to a backup, so nothing need be laid beside it, unless a log shows that somebody does.
    how = "mode=ro" if any(log.exists() for log in sqlite_copy.logs_of(backup)) else "immutable=1"
    return sqlite3.connect(f"{backup.absolute().as_uri()}?{how}", uri=True)


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def _not_sound(backup: Path, reason: str) -> BadInput:
    return BadInput(
        "{backup} is no sound database of egec: {reason}",
        "Name another backup. Nothing was changed.",
        backup=backup,
        reason=reason,
    )


def _require_of_egec(staged: Path, backup: Path) -> None:
    applied = database.applied_migrations(SqliteFile(staged))
    if not applied:
        raise _not_sound(backup, Words("it has no tables of egec"))
    database.require_known(applied, str(backup))


def _put_in_place(staged: Path, live: Path) -> Path | None:
    if not os.path.lexists(live):
        _link(staged, live)
        return None
    former = live.with_name(f"{live.name}.before-restore-{clock.now():%Y%m%dT%H%M%SZ}")
    try:
        with _to_oneself(live) as target, closing(_opened_to_read(staged)) as source:
            sqlite_copy.make(target, former, patience=database.BUSY_TIMEOUT)
            sqlite_copy.overwrite(target, source)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
            raise
        # Not even its first page is one of a database: nobody can have it open.
        _move_away(live, former)
        _link(staged, live)
    return former


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
            raise NotNow(
                "{live} is in use by another process",
                "Stop every egec that uses it, then run the same again.",
                code="database_busy",
                live=live,
            ) from None
        yield connection


def _move_away(live: Path, former: Path) -> None:
    for path, name in ((live, former), *zip(sqlite_copy.logs_of(live), sqlite_copy.logs_of(former), strict=True)):
        if path.exists():
            path.rename(name)


def _link(staged: Path, live: Path) -> None:
    try:
        os.link(staged, live)
    except FileExistsError:
        raise NotNow("another process has just made {live}", "Run the same again.", live=live) from None
    except OSError as error:
        raise FileSystemFailed(
            "{live} cannot be made: {reason}", "Free some space.", live=live, reason=of_system(error)
        ) from None
