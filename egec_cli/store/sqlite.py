"""What only SQLite has: its file, its connection, its SQL and its errors."""

import json
import os
import re
import sqlite3
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

from egec_cli.errors import (
    ConfigError,
    EgecError,
    PermissionDenied,
    StorageError,
    damaged_file,
    damaged_tables,
    database_busy,
    not_writable,
)
from egec_cli.settings.types import SqliteFile
from egec_cli.store import as_peewee_errors, peewee, sqlite_file
from egec_cli.translation import Words, system_message

LOCKS_ROWS = False

# synchronous=FULL: a credential must be durable before its mail leaves. secure_delete: an erased hash is wiped from
# the file too. cache_size, in KiB: twice the default, because new rows touch every part of the indexes.
# Not journal_mode, which is stored in the file: it is set only once the file is known to be a database of egec.
_PRAGMAS = {"synchronous": "full", "foreign_keys": 1, "secure_delete": 1, "cache_size": -4096}
# In KiB; peewee's default is twice as much.
_CACHE_FOR_READING = 4096
# With at most 13 columns, a statement has fewer values than the limit of SQLite 3.32 and later.
_ROWS_PER_STATEMENT = 500
# A damaged file has more faults than anybody reads.
_MAX_FAULTS = 5
# SQLite has no error codes of their own for these.
_TABLES_DAMAGED = (
    "no such (table|column|index)|has no column named|already exists|malformed|cannot modify|foreign key mismatch"
)


# The file.


def file_exists(path: Path) -> bool:
    """Tell whether the file exists, without opening it: opening a device may change it.

    Raises:
        ConfigError: it is not a regular file.
        PermissionDenied: its folder cannot be searched.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise ConfigError(
                "{path} is a symbolic link to a file that does not exist",
                "Remove the link, or set EGEC_DATABASE_URL to another file.",
                path=path,
            ) from None
        return False
    except PermissionError:
        raise PermissionDenied(
            "{path} cannot be accessed", "Run egec as the user who owns the database.", path=path
        ) from None
    except OSError as error:
        raise ConfigError(
            "{path} cannot be a database: {reason}",
            "Set EGEC_DATABASE_URL to another file.",
            path=path,
            reason=system_message(error),
        ) from None
    if not stat.S_ISREG(mode):
        raise ConfigError(
            "{path} is not a regular file",
            "Set EGEC_DATABASE_URL to the path of a file; nothing was changed.",
            path=path,
        )
    return True


def require_file(location: SqliteFile) -> None:
    """Require that the file exists.

    Raises:
        ConfigError: it does not.
    """
    if not file_exists(location.path):
        raise ConfigError(
            "the database {path} does not exist",
            "Type `egec init` to create it, or set EGEC_DATABASE_URL."
            if location.is_default
            else "Mount its disk, or correct EGEC_DATABASE_URL. To create a new, empty database, type `egec init`.",
            code="database_missing",
            path=location.path,
        )


def find_obstacle(location: SqliteFile) -> EgecError | None:
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


def _is_on_read_only_file_system(path: Path) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def list_tables(location: SqliteFile) -> set[str]:
    """Return the tables in a file, without opening its log; none if the file is damaged.

    Raises:
        ConfigError: it is not an SQLite file.
    """
    # Locks nothing, changes nothing and leaves nothing beside the file; changes made meanwhile are not seen.
    address = f"{location.path.absolute().as_uri()}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except UnicodeDecodeError:
        # SQLite quotes damaged text in its message.
        return set()
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_NOTADB:
            raise ConfigError(
                "{location} is not an SQLite database",
                "Set EGEC_DATABASE_URL to another file; nothing was changed.",
                location=location,
            ) from None
        return set()


def make_private(location: SqliteFile) -> None:
    """Let only the owner read and write the file."""
    try:
        os.chmod(location.path, 0o600)
    except PermissionError:
        raise PermissionDenied(
            "{location} belongs to another user", "Run egec as that user, or remove the empty file.", location=location
        ) from None


# The connection.


@contextmanager
def connect(location: SqliteFile, *, patience: float) -> Iterator[sqlite3.Connection]:
    """Open a file below peewee, to copy it."""
    with (
        _uri(location, only_read=True, patience=patience) as (address, _),
        closing(sqlite3.connect(address, uri=True, timeout=patience)) as connection,
    ):
        yield connection


@contextmanager
def prepare(location: SqliteFile, *, only_read: bool, patience: float) -> Iterator[peewee.SqliteDatabase]:
    """Yield the database, not connected yet; with `only_read`, a file that cannot be written is accepted too."""
    with _uri(location, only_read=only_read, patience=patience) as (address, writes):
        database = _sqlite(address, _PRAGMAS if writes else {"query_only": 1}, patience)
        # SQLite's own LOWER and LIKE know the case of ASCII letters only.
        database.register_function(_contains, "egec_contains", 2, deterministic=True)
        yield database


@contextmanager
def prepare_to_look(location: SqliteFile, *, patience: float) -> Iterator[peewee.SqliteDatabase]:
    """Yield the database, not connected yet, for a connection that changes nothing."""
    with _uri(location, only_read=True, patience=patience) as (address, writes):
        if writes and location.path.with_name(f"{location.path.name}-wal").exists():
            # A read-only connection leaves the log of a crash alone, but would not remove a log of its own.
            address = address.replace("?mode=rw", "?mode=ro")
        yield _sqlite(address, {"query_only": 1}, patience)


def keep_log(database: peewee.SqliteDatabase) -> None:
    """Let readers and one writer work at the same time; the setting is stored in the file."""
    if not database.pragma("query_only"):
        database.journal_mode = "wal"


@contextmanager
def _uri(location: SqliteFile, *, only_read: bool, patience: float) -> Iterator[tuple[str, bool]]:
    """Yield the URI of a file, and whether the connection can write."""
    obstacle = find_obstacle(location)
    if obstacle is None:
        yield f"{location.path.absolute().as_uri()}?mode=rw", True
    elif only_read:
        with sqlite_file.uri(location, patience=patience) as address:
            yield address, False
    else:
        # SQLite would open it for reading, and leave a log beside it that stays unwritable.
        raise obstacle


def _sqlite(address: str, pragmas: Mapping[str, object], patience: float) -> peewee.SqliteDatabase:
    return peewee.SqliteDatabase(address, uri=True, pragmas=pragmas, timeout=patience, lock_type="IMMEDIATE")


def _contains(text: str | None, part: str) -> bool:
    return text is not None and part in text.casefold()


# SQL; see sql.py for what each function promises.


def stream_rows(database: peewee.Database, rows: Any) -> Iterator[tuple[Any, ...]]:
    """Yield what a query finds."""
    yield from database.execute(rows)  # type: ignore[no-untyped-call] # it has none


@contextmanager
def snapshot(database: peewee.Database) -> Iterator[None]:
    """Read one state in the block, in a transaction that lets others write."""
    # Pages that were read are hardly read again, so a small cache is enough.
    _execute(database, f"PRAGMA cache_size = -{_CACHE_FOR_READING}")
    with database.atomic(lock_type="DEFERRED"):
        yield


@contextmanager
def brief_transaction(database: peewee.Database) -> Iterator[None]:
    """Run the block in a transaction that does not wait for the disk."""
    # https://www.sqlite.org/pragma.html#pragma_synchronous: with a write-ahead log the file stays intact.
    _execute(database, "PRAGMA synchronous = normal")
    try:
        with database.atomic():
            yield
    finally:
        _execute(database, f"PRAGMA synchronous = {_PRAGMAS['synchronous']}")


def rfc3339_sql(moment: Any) -> Any:
    """Return the column itself: moments are stored as RFC 3339 text."""
    return moment


def contains_text(_database: peewee.Database, text: Any, part: str) -> Any:
    """Return the condition that a text contains another, in any case."""
    return peewee.fn.egec_contains(text, part.casefold())


def in_list(column: Any, values: Iterable[int] | Iterable[str]) -> Any:
    """Return the condition that a column holds one of these values, as one parameter."""
    return column.in_(peewee.SQL("(SELECT value FROM json_each(?))", [json.dumps(list(values))]))


def email_domain(key: Any) -> Any:
    """Return the expression of the domain in the key of an e-mail."""
    # Literals: an index on an expression serves only queries that contain the same text.
    return peewee.fn.SUBSTR(key, peewee.fn.INSTR(key, peewee.SQL("'@'")) + peewee.SQL("1"))


def insert_many(
    database: peewee.Database,
    table: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    constants: Mapping[str, int],
    unless_taken: str,
) -> int:
    """Insert rows and return how many were inserted."""
    ending = f" ON CONFLICT ({unless_taken}) DO NOTHING" if unless_taken else ""
    return _insert(database, f"INSERT INTO {table}", columns, rows, constants, ending)


def try_insert_all(
    database: peewee.Database,
    table: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    constants: Mapping[str, int],
) -> Sequence[int]:
    """Insert all rows or none, and return their ids.

    Without a savepoint, and without a statement that may fail half-way: for either, SQLite first writes every page that
    changes to a file, which takes longer than the rows do. No other process inserts rows during the transaction, so its
    rows are known by their ids.
    """
    cursor = database.cursor()  # type: ignore[no-untyped-call] # it has none
    ((last,),) = cursor.execute(f"SELECT COALESCE(MAX(id), 0) FROM {table}")  # noqa: S608 - it contains no value
    if _insert(database, f"INSERT OR IGNORE INTO {table}", columns, rows, constants) == len(rows):
        # https://www.sqlite.org/autoinc.html: a new id is one more than the largest.
        return range(last + 1, last + 1 + len(rows))
    cursor.execute(f"DELETE FROM {table} WHERE id > ?", (last,))  # noqa: S608 - it contains no value
    return []


def _insert(
    database: peewee.Database,
    beginning: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    constants: Mapping[str, int],
    ending: str = "",
) -> int:
    places = f"({', '.join([*'?' * len(columns), *map(str, constants.values())])})"
    beginning = f"{beginning} ({', '.join([*columns, *constants])}) VALUES "
    inserted = 0
    cursor = database.cursor()  # type: ignore[no-untyped-call] # it has none
    # Only full statements: sqlite3 caches prepared statements, and each number of rows is another statement.
    whole = len(rows) - len(rows) % _ROWS_PER_STATEMENT
    with as_peewee_errors:
        for first in range(0, whole, _ROWS_PER_STATEMENT):
            some = rows[first : first + _ROWS_PER_STATEMENT]
            cursor.execute(
                beginning + ", ".join([places] * _ROWS_PER_STATEMENT) + ending, list(chain.from_iterable(some))
            )
            inserted += cursor.rowcount
        if whole < len(rows):
            cursor.executemany(beginning + places + ending, rows[whole:])
            inserted += cursor.rowcount
    return inserted


def recording(_database: peewee.Database) -> AbstractContextManager[None]:
    """Do nothing: one transaction at a time writes, so events are committed in the order of their ids."""
    return nullcontext()


def last_settled_event(_database: peewee.Database) -> None:
    """Return None: no event can appear before another one."""


def truncate_log(database: peewee.Database) -> bool:
    """Move the log into the file and empty it. Return False if a reader prevents it."""
    # https://www.sqlite.org/pragma.html#pragma_wal_checkpoint
    [(is_busy, _, _)] = _execute(database, "PRAGMA wal_checkpoint(TRUNCATE)")
    return not is_busy


def vacuum(database: peewee.Database) -> bool:
    """Rewrite the file without unused parts. Return False if a reader keeps the previous content.

    SQLite wipes erased rows in place, but copies may remain if it has moved rows from one page to another.
    """
    _execute(database, "VACUUM")
    return truncate_log(database)


def engine_version(database: peewee.Database) -> str:
    """Return the version of SQLite, after reading from the file."""
    _execute(database, "PRAGMA schema_version").fetchone()
    return f"SQLite {sqlite3.sqlite_version}"


def database_bytes(database: peewee.Database) -> int:
    """Return the size of the pages that are in use or were."""
    ((pages,),) = _execute(database, "PRAGMA page_count")
    ((bytes_of_a_page,),) = _execute(database, "PRAGMA page_size")
    return int(pages * bytes_of_a_page)


def find_faults(database: peewee.Database) -> Iterator[str]:
    """Yield the faults of the whole file, in words."""
    # https://www.sqlite.org/pragma.html#pragma_integrity_check, which does not check references.
    for (words,) in _execute(database, f"PRAGMA integrity_check({_MAX_FAULTS})"):
        if words != "ok":
            yield str(words)
    for table, _, other, _ in _execute(database, "PRAGMA foreign_key_check").fetchmany(_MAX_FAULTS):
        yield Words("a row of {table} refers to a missing row of {other}", table=table, other=other)


def server_clock(_database: peewee.Database) -> None:
    """Return None: SQLite has no server."""


def _execute(database: peewee.Database, statement: str) -> Any:
    return database.execute_sql(statement)  # type: ignore[no-untyped-call] # it has none


# Errors.


def translate_error(error: sqlite3.Error, location: SqliteFile) -> EgecError | None:
    """Return the `EgecError` for an error of sqlite3; None for an internal error."""
    # The low byte is the primary result code: https://www.sqlite.org/rescode.html
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return database_busy()
    if code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}:
        return StorageError(
            "{location} could not be written: {error}",
            "Free some space, then try again.",
            location=location,
            error=error,
        )
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_CANTOPEN}:
        return not_writable(location, str(error))
    if code == sqlite3.SQLITE_ERROR and re.search(_TABLES_DAMAGED, str(error)):
        return damaged_tables(location, str(error))
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return damaged_file(location, str(error))
    return None
