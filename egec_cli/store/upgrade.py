"""Compare the migrations applied to a database with those of this program, and apply the missing ones."""

import os
from collections.abc import Iterable
from pathlib import Path

from egec_cli.errors import ConfigError, damaged_tables
from egec_cli.settings.schema import Database, SqliteFile
from egec_cli.store import models, peewee

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
    from playhouse.migrations import Runner

    lock_schema(database)
    # The runner looks for missing migrations within the transaction, which keeps other programs out.
    with database.atomic():
        Runner(database, str(MIGRATIONS), table_name=HISTORY_TABLE).up()
