"""An open database examined by its engine's own means, without a change to it."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from egec_cli.store import database as store
from egec_cli.store import peewee
from egec_cli.translation import Words

# A damaged file has more of them than anybody reads.
_MOST_FAULTS = 5

# What may be wrong, and the query whose rows are what it is wrong of.
_POSTGRESQL_FAULTS = (
    (Words("the index {what} is not valid"), "SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid"),
    (Words("the constraint {what} was never checked"), "SELECT conname FROM pg_constraint WHERE NOT convalidated"),
    (
        Words("{what} pages were damaged"),
        "SELECT checksum_failures FROM pg_stat_database WHERE datname = current_database() AND checksum_failures > 0",
    ),
    (
        Words("the server is set to {what} = off, so a power cut may lose what was committed"),
        "SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'",
    ),
    (
        Words("the encoding of the database is {what}, not UTF8"),
        "SELECT pg_encoding_to_char(encoding) FROM pg_database"
        " WHERE datname = current_database() AND pg_encoding_to_char(encoding) <> 'UTF8'",
    ),
    (Words("the server is a stand-by, which takes no changes"), "SELECT 1 WHERE pg_is_in_recovery()"),
)


def engine_version(database: peewee.Database) -> str:
    """Return the engine and its version; an SQLite file is read for it, a server asked."""
    if isinstance(database, peewee.PostgresqlDatabase):
        return f"PostgreSQL {_one(database, 'SHOW server_version')}"
    _one(database, "PRAGMA schema_version")
    return f"SQLite {_one(database, 'SELECT sqlite_version()')}"


def find_faults(database: peewee.Database) -> Iterator[str]:
    """Yield what is wrong with the database itself, in words; SQLite looks through the whole of its file for it."""
    if isinstance(database, peewee.PostgresqlDatabase):
        for form, query in _POSTGRESQL_FAULTS:
            yield from (Words(form.template, what=what) for (what,) in _rows(database, query))
        return
    # https://www.sqlite.org/pragma.html#pragma_integrity_check, which leaves the references to the other.
    for (words,) in _rows(database, f"PRAGMA integrity_check({_MOST_FAULTS})"):
        if words != "ok":
            yield str(words)
    for table, _, other, _ in _rows(database, "PRAGMA foreign_key_check").fetchmany(_MOST_FAULTS):
        yield Words("a row of {table} refers to one of {other} that is not there", table=table, other=other)


def read_server_clock(database: peewee.Database) -> datetime | None:
    """Return the time by the database server's own clock; None where there is no server."""
    if not isinstance(database, peewee.PostgresqlDatabase):
        return None
    return store.server_clock(database)


def _rows(database: peewee.Database, query: str) -> Any:
    return database.execute_sql(query)  # type: ignore[no-untyped-call] # it has none


def _one(database: peewee.Database, query: str) -> Any:
    return _rows(database, query).fetchone()[0]
