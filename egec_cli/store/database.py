"""The database: made, opened, held against the program's schema. What only one engine has stays here."""

import errno
import json
import os
import re
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

import peewee

from egec_cli import files
from egec_cli.errors import (
    ConfigError,
    EgecError,
    InvalidInput,
    PermissionDenied,
    StorageError,
    TemporaryFailure,
    UsageError,
    quoted,
)
from egec_cli.settings.schema import Database, PostgresqlServer, SettingsWarning, SqliteFile
from egec_cli.store import connection_security, copy, models, reading
from egec_cli.translation import Words, system_message

MIGRATIONS = Path(__file__).parent / "migrations"
HISTORY_TABLE = "schema_migration"
# How long a statement waits for another process's transaction, in seconds.
BUSY_TIMEOUT = 10

# The number by which two programs that make the same tables know of each other; any number would do.
_ADVISORY_LOCK = 3042

# libpq tells no code of a connection that failed (https://github.com/psycopg/psycopg/issues/1188), only words, those of
# the server in its own language. What is not known among them is taken to pass.
# Texts, which are compiled where a connection fails, not at each start.
_LOGIN_REFUSED = (
    "authentication failed|authentification .*chou|no password supplied|pg_hba.conf|does not exist|n'existe pas"
    "|is not permitted to log in|pas autoris. . se connecter"
    "|invalid ([a-z_]+ )?value|could not parse network address|could not match [0-9]+ "
)
# libpq's own words, always in English here: the server has not proved who it is, or wants a readable password.
_NOT_TRUSTED = (
    "does not support SSL|root certificate|server certificate|certificate verify failed|weak sslmode"
    "|authentication method requirement|SSL error: (wrong version|unsupported protocol|[a-z0-9]+ alert)"
)
# SQLite has no codes of their own for these.
_SCHEMA_DAMAGED = (
    "no such (table|column|index)|has no column named|already exists|malformed|cannot modify|foreign key mismatch"
)
# What the system says, which libpq quotes.
_UNREACHABLE = (
    "Connection refused|could not translate host name|Name or service not known|timeout expired|No route to host"
    "|Network is unreachable|No such file or directory|Connection timed out"
)
_PERMISSION_DENIED = "[Pp]ermission denied|droit refus"

# synchronous=FULL: a credential must be durable before its mail leaves. secure_delete: an erased hash is gone
# from the file too.
# cache_size, in KiB: twice the default, for indexes of which new rows touch every part.
# Not journal_mode, which is stored in the file: it is set only once the file is known to be a database of egec.
_PRAGMAS = {"synchronous": "full", "foreign_keys": 1, "secure_delete": 1, "cache_size": -4096}


# As above: a commit must be durable, whatever the server's default.
_SESSION = "-c timezone=UTC -c synchronous_commit=on"


# As peewee's `isolation_level` calls it.
_REPEATABLE_READ = 3
# In KiB; peewee's own is twice as much.
_CACHE_FOR_READING = 4096
# How many rows a server sends at a time.
_ROWS_AT_A_TIME = 2000
# The first that a server has: built in from PostgreSQL 17 on, of ICU, of Linux under its names.
_COLLATIONS_THAT_KNOW_CASE = ("pg_c_utf8", "und-x-icu", "C.utf8", "C.UTF-8", "en_US.utf8")

# Of at most thirteen columns, so many rows have fewer values than any SQLite since 3.32 takes, or PostgreSQL.
_ROWS_IN_A_STATEMENT = 500
NO_CONSTANTS: Mapping[str, int] = {}
_AS_PEEWEE_CALLS_IT = peewee.ExceptionWrapper(peewee.EXCEPTIONS)  # type: ignore[attr-defined] # its types lack it


@contextmanager
def open_database(location: Database, *, only_read: bool = False) -> Iterator[peewee.Database]:
    """Open the database for the `with` block and hold its schema against this program's.

    Args:
        location: where it is.
        only_read: the block only reads, so a database that cannot be written is opened too.

    Raises:
        ConfigError: there is none, or its schema is older or newer than the program.
        TemporaryFailure, PermissionDenied, StorageError: it failed, then or within the block.
    """
    _require_database(location)
    with translate_failures(location), _engine_for(location, only_read=only_read) as database:
        models.database.initialize(database)
        try:
            database.connect()
            _check_schema(database, location)
            _keep_a_log(database)
            yield database
        finally:
            if not database.is_closed():
                database.close()


@contextmanager
def open_read_only(location: Database, *, patience: int | None = None) -> Iterator[peewee.Database]:
    """Open the database for the `with` block to look at it, whatever its schema; nothing of it can be changed.

    Args:
        location: where it is.
        patience: how long to wait for it, in seconds; as long as everything else does where it is not said.

    Raises:
        ConfigError: there is none.
        TemporaryFailure, PermissionDenied, StorageError: it failed, then or within the block.
    """
    _require_database(location)
    with (
        translate_failures(location),
        _engine_to_read(location, BUSY_TIMEOUT if patience is None else patience) as database,
    ):
        models.database.initialize(database)
        with database.connection_context():
            if isinstance(location, PostgresqlServer):
                database.execute_sql("SET default_transaction_read_only = on")  # type: ignore[no-untyped-call] # it has none
            yield database


def create_database(location: Database) -> bool:
    """Create the database, or its tables where an empty one is there. Return whether anything was made.

    An SQLite file is built under another name and put in place when it is complete, so that
    neither a crash nor a second process ever meets half a database. A file that is something else is left untouched.

    Raises:
        ConfigError: the file is no database, or a database of another program.
        TemporaryFailure, PermissionDenied, StorageError: it cannot be created there.
    """
    if isinstance(location, SqliteFile):
        if not exists(location.path):
            return _create_file(location)
        tables = _tables_in_file(location)
        if tables and HISTORY_TABLE not in tables:
            raise _without_history(location, tables)
        if tables and reading.obstacle(location):
            return False
    with translate_failures(location), _engine_for(location) as database, database.connection_context():
        if read_applied_migrations(database):
            return False
        if isinstance(location, SqliteFile):
            # There may be tables in the log alone.
            if tables := set(database.get_tables()):
                raise _without_history(location, tables)
            _make_private(location)
            _keep_a_log(database)
        _migrate(database)
        return True


def upgrade_database(location: Database, *, require: Callable[[], None]) -> list[str]:
    """Apply the migrations that the database lacks and return their names; an SQLite file is copied first.

    All are applied in one transaction: a crash leaves the former schema, and of two upgrades at once one does it.

    Args:
        location: where the database is.
        require: raises, inside that transaction, where this is no moment to change the schema.

    Raises:
        ConfigError: there is no database, or it is newer than the program.
        TemporaryFailure: another process keeps it busy.
    """
    _require_database(location)
    with translate_failures(location), _engine_for(location) as database, database.connection_context():
        if not _pending(database, location):
            return []
        if not isinstance(location, PostgresqlServer):
            # Or a table that is made anew would take those along that refer to it; only before a transaction.
            database.execute_sql("PRAGMA foreign_keys = 0")  # type: ignore[no-untyped-call] # it has none
        models.database.initialize(database)
        with database.atomic():
            _lock_schema(database)
            pending = _pending(database, location)
            if pending:
                require()
                if isinstance(location, SqliteFile):
                    # By another connection: this one is in a transaction.
                    with _connected(location) as source:
                        copy.make_beside(source, location.path, f"before-{pending[-1]}", patience=BUSY_TIMEOUT)
                _migrate(database)
        return pending


def _pending(database: peewee.Database, location: Database) -> list[str]:
    return sorted(set(list_known_migrations()) - _require_not_newer(database, location))


def backup_database(location: Database, target: Path) -> None:
    """Copy the embedded database to a new file for the owner alone; others may write meanwhile, and the copy is whole.

    Raises:
        UsageError: the database is PostgreSQL's, which has a program of its own for this.
        AlreadyExists: there is a file of that name.
        ConfigError: there is no database.
    """
    if not isinstance(location, SqliteFile):
        raise UsageError("a PostgreSQL database is not backed up by egec", "Use pg_dump.")
    _require_database(location)
    with translate_failures(location), _connected(location) as source:
        # Here, for it to fail as what it is, where the file is no database.
        source.execute("PRAGMA schema_version")
        copy.copy_database(source, target, patience=BUSY_TIMEOUT)


def list_applied_migrations(location: Database) -> list[str]:
    """Return the names of the migrations that were applied to the database, in order; none where there is none."""
    if isinstance(location, SqliteFile) and not exists(location.path):
        return []
    with (
        translate_failures(location),
        _engine_for(location, only_read=True) as database,
        database.connection_context(),
    ):
        return sorted(read_applied_migrations(database))


def require_known_migrations(read_applied_migrations: Iterable[str], name: str) -> None:
    """Require that this program has all the migrations that were applied to the database of this name.

    Raises:
        ConfigError: a newer egec has made it.
    """
    unknown = sorted(set(read_applied_migrations) - set(list_known_migrations()))
    if unknown:
        raise ConfigError(
            "the database {name} was made by a newer egec: {unknown}",
            "Install that version of egec; this one would damage the data.",
            code="database_newer",
            name=name,
            unknown=", ".join(unknown),
        )


def list_known_migrations() -> list[str]:
    """Return the names of the migrations that this program has, in order."""
    return sorted(name.removesuffix(".py") for name in os.listdir(MIGRATIONS) if name[:4].isdecimal())


@contextmanager
def translate_failures(location: Database) -> Iterator[None]:
    """Raise what a database reports in this block as the `EgecError` that tells an operator what to do."""
    try:
        yield
    except Exception as error:
        if _is_unreadable_message(error, location):
            raise _damaged(location, Words("its error message is not text")) from None
        if isinstance(error, OverflowError) and _raised_in(error).partition(".")[0] == "peewee":
            raise _number_too_large() from None
        if _is_invalid_host(error, location):
            raise ConfigError(
                "EGEC_DATABASE_URL has an invalid host name",
                "Write it as postgresql://USER:PASSWORD@HOST/NAME.",
            ) from None
        # peewee translates what happens when a statement is executed, not when its rows are fetched.
        if not (isinstance(error, peewee.PeeweeException | sqlite3.Error) or _is_of_psycopg(error)):
            raise
        for earlier in _history(error):
            # psycopg cannot roll back the statement of an interruption that comes just before it waits for the answer.
            if isinstance(earlier, KeyboardInterrupt):
                raise earlier from None
        expected = _expected(error, location)
        if expected is None:
            raise
        raise expected from None


def fetch_tuples(rows: Any) -> Iterator[tuple[Any, ...]]:
    """Yield what a query finds, one tuple for each row; none of them is kept in memory."""
    yield from rows.tuples().iterator()


def stream_rows(rows: Any) -> Iterator[tuple[Any, ...]]:
    """Yield what a query finds as the database's driver gives it, which takes a fraction of peewee's time.

    However much it is, neither this program nor psycopg keeps it in memory. Moments are to be asked for by
    `rfc3339_text`. What is found is that of one moment, also where the block of a `snapshot` makes several queries.
    """
    database = models.database.obj
    if not _is_postgresql():
        yield from database.execute(rows)
        return
    # A cursor of the server lives in a transaction.
    with database.atomic():
        statement, values = rows.sql()
        with _AS_PEEWEE_CALLS_IT, database._adapter.server_side_cursor(database.connection()) as cursor:
            cursor.itersize = _ROWS_AT_A_TIME
            cursor.execute(statement, values)
            yield from cursor


@contextmanager
def snapshot() -> Iterator[None]:
    """Let all that is read in this block be of one moment; others may write meanwhile."""
    database = models.database.obj
    if _is_postgresql():
        options: dict[str, Any] = {"isolation_level": _REPEATABLE_READ}
    else:
        # A page of the file that was read is hardly read again. The usual transaction would keep others from writing.
        database.execute_sql(f"PRAGMA cache_size = -{_CACHE_FOR_READING}")
        options = {"lock_type": "DEFERRED"}
    with database.atomic(**options):
        yield


@contextmanager
def brief_transaction(database: peewee.Database) -> Iterator[None]:
    """Run the block in a transaction that a crash of the machine may undo, as it does not wait for the disk.

    Other processes see it at once. A crash of the program alone undoes nothing. Not within another transaction.
    """
    if not isinstance(database, peewee.SqliteDatabase):
        with database.atomic():
            database.execute_sql("SET LOCAL synchronous_commit = off")  # type: ignore[no-untyped-call] # it has none
            yield
        return
    # https://www.sqlite.org/pragma.html#pragma_synchronous: with a write-ahead log the file stays intact.
    database.execute_sql("PRAGMA synchronous = normal")  # type: ignore[no-untyped-call] # it has none
    try:
        with database.atomic():
            yield
    finally:
        database.execute_sql(f"PRAGMA synchronous = {_PRAGMAS['synchronous']}")  # type: ignore[no-untyped-call] # it has none


def rfc3339_sql(moment: Any) -> Any:
    """Return the expression of a moment as the text that `clock.rfc3339` makes of it."""
    if not _is_postgresql():
        # It is stored as that.
        return moment
    return peewee.fn.TO_CHAR(peewee.fn.TIMEZONE("UTC", moment), 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')


def contains_text(text: Any, part: str) -> Any:
    """Return the condition that a text contains another, whatever the case of their letters; accents count."""
    if not _is_postgresql():
        return peewee.fn.egec_contains(text, part.casefold())
    collation = _collation_that_knows_case()
    text, wanted = (peewee.fn.LOWER(peewee.NodeList((value, collation))) for value in (text, peewee.Value(part)))
    return peewee.fn.STRPOS(text, wanted) > 0


def _contains(text: str | None, part: str) -> bool:
    return text is not None and part in text.casefold()


def _collation_that_knows_case() -> peewee.SQL:
    """Return the clause of a collation that folds the letters of all languages: the database's own may be that of C."""
    known = "SELECT collname FROM pg_collation WHERE collencoding IN (-1, pg_char_to_encoding(getdatabaseencoding()))"
    names = {name for (name,) in models.database.obj.execute_sql(known)}
    return peewee.SQL(next((f'COLLATE "{name}"' for name in _COLLATIONS_THAT_KNOW_CASE if name in names), ""))


def truncate_log() -> bool:
    """Empty the log of an SQLite database into its file, so that what was erased is in neither.

    Returns:
        Whether it is done; not while another process reads what was there before.
    """
    if _is_postgresql():
        return True
    # https://www.sqlite.org/pragma.html#pragma_wal_checkpoint
    [(is_busy, _, _)] = models.database.obj.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return not is_busy


def vacuum() -> bool:
    """Write the file of an SQLite database anew, so that no unused part of it keeps a copy of what was erased.

    Erased rows are wiped where they stand; copies stay behind where SQLite has moved rows from one page to another.

    Returns:
        Whether the former content is gone; not while another process reads it.
    """
    if _is_postgresql():
        return True
    models.database.obj.execute_sql("VACUUM")
    return truncate_log()


def insert_many(
    database: peewee.Database,
    table: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    constants: Mapping[str, int] = NO_CONSTANTS,
    unless_taken: str = "",
) -> int:
    """Insert rows below peewee, whose own way takes several times as long, hundreds with each statement.

    Args:
        database: where.
        table: its name, and below those of its columns, which are the program's own.
        columns: the columns of the rows.
        rows: the values, as the database takes them.
        constants: the columns that are the same in all rows.
        unless_taken: a unique column; a row whose value there is taken is left out.

    Returns:
        How many rows were inserted.

    Raises:
        PeeweeException: what the database's driver raises, as peewee calls it.
    """
    ending = f" ON CONFLICT ({unless_taken}) DO NOTHING" if unless_taken else ""
    return _insert(database, "INSERT", table, columns, rows, constants, ending)


def _insert(
    database: peewee.Database,
    verb: str,
    table: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    constants: Mapping[str, int],
    ending: str = "",
    returned: list[int] | None = None,
) -> int:
    """Insert rows; with psycopg, add what RETURNING at the end of the statement returns to `returned`."""
    names = ", ".join([*columns, *constants])
    places = f"({', '.join([*[database.param] * len(columns), *map(str, constants.values())])})"
    beginning = f"{verb} INTO {table} ({names}) VALUES "
    inserted = 0
    cursor = database.cursor()  # type: ignore[no-untyped-call] # it has none
    with _AS_PEEWEE_CALLS_IT:
        whole = len(rows) - len(rows) % _ROWS_IN_A_STATEMENT
        for first in range(0, whole, _ROWS_IN_A_STATEMENT):
            some = rows[first : first + _ROWS_IN_A_STATEMENT]
            # Always of one length: drivers keep what they have prepared, which for each length is another statement.
            cursor.execute(
                beginning + ", ".join([places] * _ROWS_IN_A_STATEMENT) + ending, list(chain.from_iterable(some))
            )
            inserted += cursor.rowcount
            if returned is not None:
                returned += [key for (key,) in cursor]
        if whole < len(rows):
            if returned is None:
                cursor.executemany(beginning + places + ending, rows[whole:])
                inserted += cursor.rowcount
            else:
                cursor.executemany(beginning + places + ending, rows[whole:], returning=True)
                is_left = True
                while is_left:
                    returned += [key for (key,) in cursor]
                    inserted += cursor.rowcount
                    is_left = cursor.nextset()
    return inserted


def try_insert_all(
    database: peewee.Database,
    table: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    constants: Mapping[str, int] = NO_CONSTANTS,
) -> Sequence[int]:
    """Insert rows as `insert_many` does, within a transaction; all of them or none.

    The table has an `id`. For a savepoint, or a statement that may fail half-way, SQLite writes every page that changes
    to a file first, which takes longer than the rows do. The rows that a transaction has inserted are known by their
    ids there, as nobody else inserts any meanwhile.

    Returns:
        The ids of the rows, in their order; empty if a value that must be unique is taken, so none was inserted.
    """
    if not isinstance(database, peewee.SqliteDatabase):
        keys: list[int] = []
        try:
            with database.atomic():
                _insert(database, "INSERT", table, columns, rows, constants, " RETURNING id", keys)
        except peewee.IntegrityError:
            return []
        return keys
    cursor = database.cursor()  # type: ignore[no-untyped-call] # it has none
    ((last,),) = cursor.execute(f"SELECT COALESCE(MAX(id), 0) FROM {table}")  # noqa: S608 - no value is in it
    if _insert(database, "INSERT OR IGNORE", table, columns, rows, constants) == len(rows):
        # https://www.sqlite.org/autoinc.html: a new id is one more than the largest.
        return range(last + 1, last + 1 + len(rows))
    cursor.execute(f"DELETE FROM {table} WHERE id > ?", (last,))  # noqa: S608 - nor here
    return []


def execute_many(database: peewee.Database, statement: str, rows: Sequence[Sequence[object]]) -> int:
    """Execute a statement once for each row of values, below peewee; `?` stands for a value.

    Args:
        database: where.
        statement: SQL that both databases know, with no value in it.
        rows: the values, as the database takes them.

    Returns:
        How many rows of the database were changed.

    Raises:
        PeeweeException: what the database's driver raises, as peewee calls it.
    """
    if not rows:
        return 0
    cursor = database.cursor()  # type: ignore[no-untyped-call] # it has none
    with _AS_PEEWEE_CALLS_IT:
        cursor.executemany(statement.replace("?", database.param), rows)
    changed: int = cursor.rowcount
    return changed


def in_list(column: Any, values: Iterable[int] | Iterable[str]) -> Any:
    """Return the condition that a column holds one of these values, however many they are.

    They are one parameter: peewee takes longer to write a list of them than a database to look them up.
    """
    if _is_postgresql():
        return column == peewee.SQL("ANY(%s)", [list(values)])
    return column.in_(peewee.SQL("(SELECT value FROM json_each(?))", [json.dumps(list(values))]))


def server_clock(database: peewee.Database) -> datetime:
    """Return the present moment by the clock of the PostgreSQL server."""
    ((moment,),) = database.execute_sql("SELECT clock_timestamp()")  # type: ignore[no-untyped-call] # it has none
    found: datetime = moment
    return found


def locks_rows() -> bool:
    """Tell whether transactions lock single rows; one of SQLite has the whole database to itself from its beginning."""
    return _is_postgresql()


def _is_postgresql() -> bool:
    return isinstance(models.database.obj, peewee.PostgresqlDatabase)


def lock_rows(rows: Any, *, skip_locked: bool = False) -> Any:
    """Return the query that also locks the rows that it finds, to the end of the transaction, where rows are locked.

    Args:
        rows: the query.
        skip_locked: leave out the rows that another transaction has locked, rather than wait for it.
    """
    return rows.for_update(skip_locked=skip_locked) if locks_rows() else rows


def _expected(error: BaseException, location: Database) -> EgecError | None:
    """Return what to tell an operator of a failure, or of the one that it followed on; None for a defect."""
    # A failed transaction may fail once more when it is rolled back.
    for failure in _history(error):
        original = getattr(failure, "orig", failure)
        if isinstance(original, sqlite3.Error):
            expected = _sqlite_failure(original, location)
        else:
            expected = _postgresql_failure(original, location)
        if expected is not None:
            return expected
    return None


def _is_unreadable_message(error: Exception, location: Database) -> bool:
    """Tell whether SQLite reported damage in bytes that are not UTF-8, which sqlite3 raises as another error.

    Input files are decoded in the same blocks, so only an error raised by the database's own calls counts.
    """
    if not (isinstance(error, UnicodeDecodeError) and isinstance(location, SqliteFile)):
        return False
    raised_in = _raised_in(error)
    return raised_in.partition(".")[0] in {"peewee", "playhouse", "sqlite3"} or raised_in == __name__


def _number_too_large() -> InvalidInput:
    return InvalidInput("a number is too large", "Use a smaller number.")


def _is_invalid_host(error: Exception, location: Database) -> bool:
    """Tell whether the look-up of a server's host name failed because no host can have such a name."""
    return isinstance(error, UnicodeError) and isinstance(location, PostgresqlServer) and _raised_in(error) == "socket"


def _raised_in(error: Exception) -> str:
    """Return the name of the module whose Python code raised an error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return str(trace.tb_frame.f_globals.get("__name__", "")) if trace is not None else ""


def _damaged(location: Database, reason: str) -> ConfigError:
    return ConfigError(
        "{location} is not an intact SQLite database: {reason}",
        "Restore a backup, or set EGEC_DATABASE_URL.",
        location=location,
        reason=reason,
    )


def _is_of_psycopg(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] == "psycopg"


def _history(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, then the one in whose handling it came about, and so on."""
    while error is not None:
        yield error
        error = error.__context__


def _no_file(location: SqliteFile) -> ConfigError:
    return ConfigError(
        "there is no database at {path}",
        "Type `egec init` to create it, or set EGEC_DATABASE_URL.",
        code="no_database",
        path=location.path,
    )


def _require_database(location: Database) -> None:
    if isinstance(location, SqliteFile) and not exists(location.path):
        raise _no_file(location)


def exists(path: Path) -> bool:
    """Tell whether there is a file, which is looked at without being opened: to open a device may change it.

    Raises:
        ConfigError: it is no regular file.
        PermissionDenied: it cannot be looked at.
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
            "{path} cannot be looked at", "Run egec as the user who owns the database.", path=path
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


def _tables_in_file(location: SqliteFile) -> set[str]:
    """Return the tables in an SQLite file, without opening its log; none where the file is damaged.

    Raises:
        ConfigError: it is no SQLite file.
    """
    # Nothing is locked, changed or left beside the file; what a writer may change meanwhile is not looked at.
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


def _without_history(location: SqliteFile, tables: set[str]) -> ConfigError:
    """Return the error for a database with tables but no list of migrations: damaged, or another program's."""
    if {models.Client._meta.table_name, models.Credential._meta.table_name} <= tables:
        return _schema_damaged(location, f"no such table: {HISTORY_TABLE}")
    return ConfigError(
        "{location} is a database of another program",
        "Set EGEC_DATABASE_URL to another file; nothing was changed.",
        location=location,
    )


def _make_private(location: SqliteFile) -> None:
    try:
        os.chmod(location.path, 0o600)
    except PermissionError:
        raise PermissionDenied(
            "{location} belongs to another user", "Run egec as that user, or remove the empty file.", location=location
        ) from None


def _keep_a_log(database: peewee.Database) -> None:
    """Let readers and one writer work at the same time; the file remembers it."""
    if isinstance(database, peewee.SqliteDatabase) and not database.pragma("query_only"):
        database.journal_mode = "wal"


@contextmanager
def _connected(location: SqliteFile) -> Iterator[sqlite3.Connection]:
    """Open an SQLite file below peewee, to copy it."""
    with (
        _uri(location, only_read=True, patience=BUSY_TIMEOUT) as (address, _),
        closing(sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT)) as connection,
    ):
        yield connection


@contextmanager
def _uri(location: SqliteFile, *, only_read: bool, patience: float) -> Iterator[tuple[str, bool]]:
    """Yield how SQLite opens a file, and whether to write; not to write where that cannot be done and need not be."""
    obstacle = reading.obstacle(location)
    if obstacle is None:
        yield f"{location.path.absolute().as_uri()}?mode=rw", True
    elif only_read:
        with reading.uri(location, patience=patience) as address:
            yield address, False
    else:
        # SQLite would open it to read, and leave a log beside it that cannot be written even once the file can.
        raise obstacle


@contextmanager
def _engine_for(location: Database, *, only_read: bool = False) -> Iterator[peewee.Database]:
    if isinstance(location, PostgresqlServer):
        yield _postgresql(location, BUSY_TIMEOUT)
        return
    with _uri(location, only_read=only_read, patience=BUSY_TIMEOUT) as (address, writes):
        database = _sqlite(address, _PRAGMAS if writes else {"query_only": 1}, BUSY_TIMEOUT)
        # SQLite's own LOWER and LIKE know the case of ASCII alone.
        database.register_function(_contains, "egec_contains", 2, deterministic=True)
        yield database


@contextmanager
def _engine_to_read(location: Database, patience: int) -> Iterator[peewee.Database]:
    if isinstance(location, PostgresqlServer):
        yield _postgresql(location, patience)
        return
    with _uri(location, only_read=True, patience=patience) as (address, writes):
        if writes and location.path.with_name(f"{location.path.name}-wal").exists():
            # A connection that only reads leaves the log of a crash alone, but would not remove one of its own.
            address = address.replace("?mode=rw", "?mode=ro")
        yield _sqlite(address, {"query_only": 1}, patience)


def _sqlite(address: str, pragmas: Mapping[str, object], patience: int) -> peewee.SqliteDatabase:
    return peewee.SqliteDatabase(
        address,
        uri=True,
        pragmas=pragmas,
        timeout=patience,
        lock_type="IMMEDIATE",
    )


def _postgresql(location: PostgresqlServer, patience: int) -> peewee.Database:
    try:
        import psycopg
        from psycopg.types.json import Json, Jsonb
    except ImportError:
        raise ConfigError(
            "the driver for PostgreSQL, psycopg, is not installed for {python}",
            "Type: {quoted} -m pip install 'psycopg[binary]>=3.2,<4' (with pipx: pipx inject egec 'psycopg[binary]')",
            python=sys.executable,
            quoted=quoted(sys.executable),
        ) from None
    asked = _options(location)
    connection_security.require_safe(asked, os.environ)
    # Given back to peewee, which was kept from importing it (see egec_cli/store/__init__.py).
    status = psycopg.pq.TransactionStatus
    vars(peewee).update(psycopg=psycopg, TransactionStatus=status, Json_pg3=Json, Jsonb_pg3=Jsonb)
    adapter = peewee.Psycopg3Adapter
    adapter.txn_idle, adapter.txn_inerror, adapter.txn_unknown = status.IDLE, status.INERROR, status.UNKNOWN
    security: dict[str, Any] = connection_security.secured(asked, os.environ, libpq=psycopg.pq.version())
    return peewee.PostgresqlDatabase(
        location.url,
        prefer_psycopg3=True,
        # What the URL asks for beside these, it gets.
        connect_timeout=asked.get("connect_timeout", patience),
        options=f"{_SESSION} -c lock_timeout={patience}s {asked.get('options', '')}".rstrip(),
        application_name=asked.get("application_name", "egec"),
        **security,
    )


def _options(location: PostgresqlServer) -> dict[str, str]:
    """Return the options of libpq that the URL has; psycopg is installed."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        asked = {name: str(value) for name, value in conninfo_to_dict(location.url).items()}
    except psycopg.ProgrammingError:
        # Its own words may quote the URL, and so the password.
        raise ConfigError(
            "EGEC_DATABASE_URL, for {location}, has a part or an option that PostgreSQL does not know",
            "Write it as postgresql://USER:PASSWORD@HOST/NAME; what may follow a ? are the options of libpq.",
            location=location,
        ) from None
    if not re.fullmatch(r"\s*-?[0-9]{1,9}\s*", asked.get("connect_timeout", "0"), re.ASCII):
        raise ConfigError(
            "connect_timeout in EGEC_DATABASE_URL is not a number of seconds", "Write it as connect_timeout=10."
        )
    return asked


def weaknesses(location: PostgresqlServer) -> Iterator[SettingsWarning]:
    """Yield what the URL of a database gives up of the default security of its connection."""
    yield from connection_security.weaknesses(_options(location), os.environ)


def _create_file(location: SqliteFile) -> bool:
    path = location.path
    try:
        files.make_folders(path.parent)
        with files.create_hidden_file(path.parent) as unfinished:
            made = SqliteFile(unfinished.path)
            with translate_failures(location), _engine_for(made) as database, database.connection_context():
                _keep_a_log(database)
                _migrate(database)
            unfinished.move_to(path.name)
    except FileExistsError:
        if not os.path.lexists(path):
            raise _below_a_file(path) from None
        return False
    except PermissionError:
        raise PermissionDenied(
            "{path} cannot be created: permission denied", "Choose another place with EGEC_DATABASE_URL.", path=path
        ) from None
    except NotADirectoryError:
        raise _below_a_file(path) from None
    except OSError as error:
        raise StorageError(
            "{path} cannot be created: {reason}",
            Words("Free some space, or set EGEC_DATABASE_URL.")
            if error.errno in {errno.ENOSPC, errno.EDQUOT}
            else Words("Set EGEC_DATABASE_URL to a path where a file can be created."),
            path=path,
            reason=system_message(error),
        ) from None
    return True


def _below_a_file(path: Path) -> StorageError:
    return StorageError(
        "{path} cannot be created: a part of this path is a file, not a directory",
        "Set EGEC_DATABASE_URL to a path in a directory.",
        path=path,
    )


def _migrate(database: peewee.Database) -> None:
    from playhouse.migrations import Runner

    _lock_schema(database)
    # One transaction, which nobody else's begins before: what is still to be applied is looked at within it.
    with database.atomic():
        Runner(database, str(MIGRATIONS), table_name=HISTORY_TABLE).up()


def _lock_schema(database: peewee.Database) -> None:
    """Keep another program from making or changing the tables at the same time, until this one has ended."""
    if isinstance(database, peewee.PostgresqlDatabase):
        peewee.Select(columns=[peewee.fn.pg_advisory_lock(_ADVISORY_LOCK)]).execute(database)


def read_applied_migrations(database: peewee.Database) -> set[str]:
    """Return the names of the migrations that were applied to an open database; none where it has no tables."""
    if not database.table_exists(HISTORY_TABLE):
        return set()
    history = peewee.Table(HISTORY_TABLE, ("name",)).bind(database)
    return {name for (name,) in history.select().tuples()}


def _check_schema(database: peewee.Database, location: Database) -> None:
    if _require_not_newer(database, location) != set(list_known_migrations()):
        raise ConfigError(
            "the database {location} was made by an older egec",
            "Type `egec db upgrade`.",
            code="database_older",
            location=location,
        )


def _require_not_newer(database: peewee.Database, location: Database) -> set[str]:
    """Return the migrations that were applied, all of them known."""
    found = read_applied_migrations(database)
    if not found:
        if isinstance(location, SqliteFile) and (tables := set(database.get_tables())):
            raise _without_history(location, tables)
        raise ConfigError(
            "{location} has no tables of egec", "Type `egec init` to make them.", code="no_database", location=location
        )
    require_known_migrations(found, str(location))
    return found


def _sqlite_failure(error: sqlite3.Error, location: Database) -> EgecError | None:
    # The low byte is the primary result code: https://www.sqlite.org/rescode.html
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return TemporaryFailure(
            "the database is busy with another process", "Run the same again.", code="database_busy"
        )
    if code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}:
        return StorageError(
            "{location} could not be written: {error}",
            "Free some space, then run the same again.",
            location=location,
            error=error,
        )
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_CANTOPEN}:
        return reading.not_writable(location, str(error))
    if code == sqlite3.SQLITE_ERROR and re.search(_SCHEMA_DAMAGED, str(error)):
        return _schema_damaged(location, str(error))
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return _damaged(location, str(error))
    return None


def _schema_damaged(location: Database, reason: str) -> ConfigError:
    return ConfigError(
        "the tables in {location} are damaged: {reason}",
        "Restore a backup, or set EGEC_DATABASE_URL to another database.",
        location=location,
        reason=reason,
    )


def _postgresql_failure(error: Any, location: Database) -> EgecError | None:
    if error is None or type(error).__module__.partition(".")[0] != "psycopg":
        return None
    # https://www.postgresql.org/docs/current/errcodes-appendix.html; no code: libpq itself could not connect.
    state = getattr(error, "sqlstate", None) or ""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    words = reason if not state and _is_operational(error) else ""
    if re.search(_NOT_TRUSTED, words):
        return ConfigError(
            "{location} is not trusted: {reason}", _hint_on_trust(words), location=location, reason=reason
        )
    if state == "22003":
        return _number_too_large()
    if state.startswith(("28", "3D")) or re.search(_LOGIN_REFUSED, words):
        return ConfigError(
            "{location} refuses the login: {reason}", _hint_on_login(reason), location=location, reason=reason
        )
    if state in {"42501", "25006"} or re.search(_PERMISSION_DENIED, words):
        return PermissionDenied(
            "{location} does not permit it: {reason}",
            "Give the database user its rights.",
            location=location,
            reason=reason,
        )
    if state in {"42P01", "42P07", "42703"}:  # undefined or duplicate table, undefined column
        return _schema_damaged(location, reason)
    if state in {"53100", "58030"}:
        return StorageError(
            "{location} could not write: {reason}", "Free some space on the server.", location=location, reason=reason
        )
    if state.startswith(("08", "40", "53", "55P03", "57")) or (not state and _is_operational(error)):
        return TemporaryFailure(
            "{location} is not available: {reason}",
            Words(
                "Run the same again once PostgreSQL runs and can be reached at the host and port of EGEC_DATABASE_URL."
            )
            if re.search(_UNREACHABLE, words)
            else Words("Run the same again."),
            code="database_busy",
            location=location,
            reason=reason,
        )
    return None


def _hint_on_trust(words: str) -> Words:
    if "authentication method requirement" in words:
        return Words(
            "Let the server use scram-sha-256, in pg_hba.conf and as password_encryption, and set the password again."
            " ?require_auth= in EGEC_DATABASE_URL accepts other methods."
        )
    return Words(
        "Give the server a certificate for its host name; if an authority of your own signed it, add ?sslrootcert=FILE"
        " to EGEC_DATABASE_URL. ?sslmode= gives up the check."
    )


def _hint_on_login(reason: str) -> Words:
    if "pg_hba.conf" in reason:
        return Words("Let pg_hba.conf on the server allow this user, database and host.")
    if re.search("not permitted to log in|pas autoris", reason):
        return Words("Allow it on the server: ALTER ROLE ... LOGIN.")
    if re.search("does not exist|n'existe pas", reason):
        return Words(
            "Create the user and the database on the server (createuser, createdb), or correct EGEC_DATABASE_URL."
        )
    if re.search("password|mot de passe", reason):
        return Words("Check the user and the password in EGEC_DATABASE_URL.")
    return Words("Correct EGEC_DATABASE_URL.")


def _is_operational(error: Any) -> bool:
    """Tell whether psycopg calls it an operational error: a connection lost or never made."""
    return any(kind.__name__ == "OperationalError" for kind in type(error).__mro__)
