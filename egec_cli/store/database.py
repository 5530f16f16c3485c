"""Open, create and upgrade the database that the settings name; translate its failures for operators."""

import errno
import os
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from egec_cli import files
from egec_cli.errors import (
    ConfigError,
    EgecError,
    PermissionDenied,
    StorageError,
    damaged_file,
    damaged_tables,
    number_too_large,
)
from egec_cli.settings.types import Database, SqliteFile
from egec_cli.store import models, peewee, sqlite, sqlite_file
from egec_cli.store.sqlite_file import Report, report_nothing
from egec_cli.translation import Words, system_message

# How long a statement waits for another process's transaction, in seconds.
BUSY_TIMEOUT = 10


@contextmanager
def open_database(location: Database, *, only_read: bool = False) -> Iterator[peewee.Database]:
    """Open the database for the `with` block, and require that it has this program's schema.

    Args:
        only_read: the block only reads, so a database that cannot be written is accepted too.

    Raises:
        ConfigError: the database is missing, or its schema is older or newer than the program.
        TemporaryFailure, PermissionDenied, StorageError: the database failed, then or within the block.
    """
    _require_database(location)
    with translate_failures(location), prepare_database(location, only_read=only_read) as database:
        models.database.initialize(database)
        try:
            database.connect()
            require_current(database, location)
            _keep_log(database)
            yield database
        finally:
            if not database.is_closed():
                database.close()


@contextmanager
def open_read_only(location: Database, *, patience: int | None = None) -> Iterator[peewee.Database]:
    """Open the database for the `with` block, whatever its schema; the block cannot change it.

    Args:
        patience: how long to wait for locks, in seconds (default: BUSY_TIMEOUT).

    Raises:
        ConfigError: the database is missing.
        TemporaryFailure, PermissionDenied, StorageError: the database failed, then or within the block.
    """
    _require_database(location)
    patience = BUSY_TIMEOUT if patience is None else patience
    with translate_failures(location):
        if isinstance(location, SqliteFile):
            with sqlite.prepare_to_look(location, patience=patience) as database:
                models.database.initialize(database)
                with database.connection_context():
                    yield database
            return
        # Imported here: most installations have no PostgreSQL.
        from egec_cli.store import postgresql

        server = postgresql.prepare(location, patience=patience)
        models.database.initialize(server)
        with server.connection_context():
            postgresql.forbid_changes(server)
            yield server


def create_database(location: Database) -> bool:
    """Create the database, or its tables if it is empty. Return whether anything was created.

    An SQLite file is built under another name and renamed when it is complete, so neither a crash nor a second process
    ever sees half a database. Any other file is left untouched.

    Raises:
        ConfigError: the file is not a database, or a database of another program.
        TemporaryFailure, PermissionDenied, StorageError: the database cannot be created there.
    """
    if isinstance(location, SqliteFile):
        if not sqlite.file_exists(location.path):
            return _create_file(location)
        tables = sqlite.list_tables(location)
        if tables and HISTORY_TABLE not in tables:
            raise without_history(location, tables)
        if tables and sqlite.find_obstacle(location):
            return False
    with translate_failures(location), prepare_database(location) as database, database.connection_context():
        if read_applied_migrations(database):
            return False
        if isinstance(location, SqliteFile):
            # There may be tables in the log alone.
            if tables := set(database.get_tables()):
                raise without_history(location, tables)
            sqlite.make_private(location)
            _keep_log(database)
        migrate(database)
        return True


def upgrade_database(location: Database, *, require: Callable[[], None], report: Report = report_nothing) -> list[str]:
    """Apply the missing migrations and return their names; an SQLite file is copied first.

    They are applied in one transaction: a crash leaves the previous schema, and of two upgrades at once one does it.

    Args:
        require: called inside that transaction; raises an error if the schema must not change now.
        report: called with the progress.

    Raises:
        ConfigError: the database is missing, or newer than the program.
        TemporaryFailure: another process keeps it busy.
    """
    _require_database(location)
    with translate_failures(location), prepare_database(location) as database, database.connection_context():
        if not list_pending_migrations(database, location):
            return []
        if isinstance(location, SqliteFile):
            # A rebuilt table would delete the rows that refer to it; this works only before a transaction.
            database.execute_sql("PRAGMA foreign_keys = 0")  # type: ignore[no-untyped-call] # it has none
        models.database.initialize(database)
        with database.atomic():
            lock_schema(database)
            pending = list_pending_migrations(database, location)
            if pending:
                require()
                if isinstance(location, SqliteFile):
                    # Through another connection: this one is in a transaction.
                    with sqlite.connect(location, patience=BUSY_TIMEOUT) as source:
                        label = f"before-{pending[-1]}"
                        sqlite_file.copy_beside(source, location.path, label, patience=BUSY_TIMEOUT, report=report)
                report(Words("upgrading the tables"), 0, 0)
                migrate(database)
        return pending


def list_applied_migrations(location: Database) -> list[str]:
    """Return the names of the migrations that were applied to the database, in order; empty if it is missing."""
    if isinstance(location, SqliteFile) and not sqlite.file_exists(location.path):
        return []
    with (
        translate_failures(location),
        prepare_database(location, only_read=True) as database,
        database.connection_context(),
    ):
        return sorted(read_applied_migrations(database))


@contextmanager
def prepare_database(location: Database, *, only_read: bool = False) -> Iterator[peewee.Database]:
    """Yield the database, not connected yet."""
    if isinstance(location, SqliteFile):
        with sqlite.prepare(location, only_read=only_read, patience=BUSY_TIMEOUT) as database:
            yield database
        return
    # Imported here: most installations have no PostgreSQL.
    from egec_cli.store import postgresql

    yield postgresql.prepare(location, patience=BUSY_TIMEOUT)


def _require_database(location: Database) -> None:
    if isinstance(location, SqliteFile):
        sqlite.require_file(location)


def _keep_log(database: peewee.Database) -> None:
    if isinstance(database, peewee.SqliteDatabase):
        sqlite.keep_log(database)


def _create_file(location: SqliteFile) -> bool:
    path = location.path
    try:
        files.make_folders(path.parent)
        with files.create_hidden_file(path.parent) as unfinished:
            temporary = SqliteFile(unfinished.path)
            with translate_failures(location), prepare_database(temporary) as database, database.connection_context():
                _keep_log(database)
                migrate(database)
                # On a full disk this fails. Closing would say nothing, and the file would be moved without its log.
                sqlite.truncate_log(database)
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


# Failures of the database drivers, as errors that tell an operator what to do.


@contextmanager
def translate_failures(location: Database) -> Iterator[None]:
    """Raise the errors of the database in this block as the `EgecError` that tells an operator what to do."""
    try:
        yield
    except Exception as error:
        module = _raising_module(error)
        package = module.partition(".")[0]
        if (
            isinstance(error, UnicodeDecodeError)
            and isinstance(location, SqliteFile)
            # Input files, decoded in the same blocks, may raise it too, but in other modules.
            and (package in {"peewee", "playhouse", "sqlite3"} or module.startswith(f"{__package__}."))
        ):
            # sqlite3 raises it for a message that quotes damaged bytes.
            raise damaged_file(location, Words("its error message is not text")) from None
        if isinstance(error, OverflowError) and package == "peewee":
            raise number_too_large() from None
        if isinstance(error, UnicodeError) and not isinstance(location, SqliteFile) and module == "socket":
            raise ConfigError(
                "EGEC_DATABASE_URL has an invalid host name",
                "Write it as postgresql://USER:PASSWORD@HOST/NAME.",
            ) from None
        # peewee translates errors of executing a statement, but not errors of fetching its rows.
        if not (isinstance(error, peewee.PeeweeException | sqlite3.Error) or _is_of_psycopg(error)):
            raise
        for earlier in _chain(error):
            # psycopg cannot roll back the statement of an interruption that comes just before it waits for the answer.
            if isinstance(earlier, KeyboardInterrupt):
                raise earlier from None
        expected = _translate(error, location)
        if expected is None:
            raise
        raise expected from None


def _translate(error: BaseException, location: Database) -> EgecError | None:
    """Return the `EgecError` for an error, or for one that it followed; None for an internal error."""
    # A failed transaction may fail once more when it is rolled back.
    for failure in _chain(error):
        original = getattr(failure, "orig", failure)
        expected = None
        if isinstance(location, SqliteFile):
            if isinstance(original, sqlite3.Error):
                expected = sqlite.translate_error(original, location)
        elif _is_of_psycopg(original):
            # Imported here: most installations have no PostgreSQL.
            from egec_cli.store import postgresql

            expected = postgresql.translate_error(original, location)
        if expected is not None:
            return expected
    return None


def _is_of_psycopg(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] == "psycopg"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, then the one that was being handled when it was raised, and so on."""
    while error is not None:
        yield error
        error = error.__context__


def _raising_module(error: Exception) -> str:
    """Return the name of the module whose Python code raised an error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return str(trace.tb_frame.f_globals.get("__name__", "")) if trace is not None else ""


# Migrations: those that were applied to a database, against those that this program has.

MIGRATIONS = Path(__file__).parent / "migrations"
HISTORY_TABLE = "schema_migration"


def list_known_migrations() -> list[str]:
    """Return the names of the migrations that this program has, in order."""
    return sorted(name.removesuffix(".py") for name in os.listdir(MIGRATIONS) if name[:4].isdecimal())


def read_applied_migrations(database: peewee.Database) -> set[str]:
    """Return the names of the migrations that were applied to an open database; empty if it has no tables."""
    if not database.table_exists(HISTORY_TABLE):
        return set()
    history = peewee.Table(HISTORY_TABLE, ("name",)).bind(database)
    return {name for (name,) in history.select().tuples()}


def require_known_migrations(applied: Iterable[str], name: str) -> None:
    """Require that this program knows all migrations that were applied to the database of this name.

    Raises:
        ConfigError: a newer egec made the database.
    """
    unknown = sorted(set(applied) - set(list_known_migrations()))
    if unknown:
        raise ConfigError(
            "the database {name} was made by a newer egec: {unknown}",
            "Install that version of egec; this one would damage the data.",
            code="database_newer",
            name=name,
            unknown=", ".join(unknown),
        )


def require_current(database: peewee.Database, location: Database) -> None:
    """Require that the open database has exactly the schema of this program.

    Raises:
        ConfigError: it has none, or an older or a newer one.
    """
    if list_pending_migrations(database, location):
        raise ConfigError(
            "the database {location} was made by an older egec",
            "Type `egec db upgrade`.",
            code="database_older",
            location=location,
        )


def list_pending_migrations(database: peewee.Database, location: Database) -> list[str]:
    """Return the names of the migrations that the open database lacks, in order.

    Raises:
        ConfigError: it is not a database of egec, or a newer egec made it.
    """
    applied = read_applied_migrations(database)
    if not applied:
        if isinstance(location, SqliteFile) and (tables := set(database.get_tables())):
            raise without_history(location, tables)
        raise ConfigError(
            "{location} has no tables of egec",
            "Type `egec init` to make them.",
            code="database_missing",
            location=location,
        )
    require_known_migrations(applied, str(location))
    return sorted(set(list_known_migrations()) - applied)


def without_history(location: SqliteFile, tables: set[str]) -> ConfigError:
    """Return the error for a database that has tables but no list of migrations: damaged, or another program's."""
    if {models.Client._meta.table_name, models.Credential._meta.table_name} <= tables:
        return damaged_tables(location, f"no such table: {HISTORY_TABLE}")
    return ConfigError(
        "{location} is a database of another program",
        "Set EGEC_DATABASE_URL to another file; nothing was changed.",
        location=location,
    )


def lock_schema(database: peewee.Database) -> None:
    """Keep another program from creating or changing tables at the same time, until this connection ends."""
    if isinstance(database, peewee.PostgresqlDatabase):
        # Imported here: most installations have no PostgreSQL.
        from egec_cli.store import postgresql

        postgresql.lock_schema(database)


def migrate(database: peewee.Database) -> None:
    """Apply the missing migrations in one transaction, while no other program does."""
    runner = _import_runner()
    lock_schema(database)
    # The runner looks for missing migrations within the transaction, which keeps other programs out.
    with database.atomic():
        runner(database, str(MIGRATIONS), table_name=HISTORY_TABLE).up()


def _import_runner() -> Any:
    """Return peewee's class that applies migrations.

    It also supports CockroachDB, whose module loads psycopg and asyncio where they are installed: half of the time that
    the first command on SQLite takes. Without that module it supports the databases of egec alone.
    """
    unused = "playhouse.cockroachdb"
    is_loaded = unused in sys.modules
    if not is_loaded:
        sys.modules[unused] = None  # type: ignore[assignment] # Python's way to mark a module as missing
    try:
        from playhouse.migrations import Runner
    finally:
        if not is_loaded:
            del sys.modules[unused]
    return Runner
