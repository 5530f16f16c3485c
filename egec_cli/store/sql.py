"""SQL on the open database: many rows, locks and transactions, and expressions that each engine writes differently.

`sqlite.py` and `postgresql.py` hold what differs, under the same names.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from egec_cli.store import as_peewee_errors, models, peewee, sqlite

NO_CONSTANTS: Mapping[str, int] = {}
_Columns = Sequence[str]
_Rows = Sequence[Sequence[object]]
_Constants = Mapping[str, int]
_Values = Iterable[int] | Iterable[str]


class _Engine(Protocol):
    """What both engines have."""

    LOCKS_ROWS: bool

    def stream_rows(self, database: peewee.Database, rows: Any, /) -> Iterator[tuple[Any, ...]]: ...
    def snapshot(self, database: peewee.Database, /) -> AbstractContextManager[None]: ...
    def brief_transaction(self, database: peewee.Database, /) -> AbstractContextManager[None]: ...
    def rfc3339_sql(self, moment: Any, /) -> Any: ...
    def contains_text(self, database: peewee.Database, text: Any, part: str, /) -> Any: ...
    def in_list(self, column: Any, values: _Values, /) -> Any: ...
    def email_domain(self, key: Any, /) -> Any: ...
    def insert_many(
        self, database: peewee.Database, table: str, columns: _Columns, rows: _Rows, constants: _Constants,
        unless_taken: str, /,
    ) -> int: ...  # fmt: skip
    def try_insert_all(
        self, database: peewee.Database, table: str, columns: _Columns, rows: _Rows, constants: _Constants, /
    ) -> Sequence[int]: ...
    def recording(self, database: peewee.Database, /) -> AbstractContextManager[None]: ...
    def last_settled_event(self, database: peewee.Database, /) -> int | None: ...
    def truncate_log(self, database: peewee.Database, /) -> bool: ...
    def vacuum(self, database: peewee.Database, /) -> bool: ...
    def engine_version(self, database: peewee.Database, /) -> str: ...
    def database_bytes(self, database: peewee.Database, /) -> int: ...
    def find_faults(self, database: peewee.Database, /) -> Iterator[str]: ...
    def server_clock(self, database: peewee.Database, /) -> datetime | None: ...


def find_engine(database: peewee.Database) -> _Engine:
    """Return the module of the engine that the database has."""
    if isinstance(database, peewee.SqliteDatabase):
        return sqlite
    # Imported here: most installations have no PostgreSQL.
    from egec_cli.store import postgresql

    return postgresql


def fetch_tuples(rows: Any) -> Iterator[tuple[Any, ...]]:
    """Yield what a query finds, one tuple for each row; none of them is kept in memory."""
    yield from rows.tuples().iterator()


def fetch_rows(rows: Any) -> list[tuple[Any, ...]]:
    """Return what a query finds as `stream_rows` does, but all at once: for few rows, in any transaction."""
    return list(models.database.obj.execute(rows))


def stream_rows(rows: Any) -> Iterator[tuple[Any, ...]]:
    """Yield what a query finds as the database's driver returns it, in a fraction of peewee's time.

    Neither this program nor psycopg keeps the rows in memory. Select moments by `rfc3339_sql`. In the block of a
    `snapshot`, all queries see the same state.
    """
    database = models.database.obj
    return find_engine(database).stream_rows(database, rows)


def snapshot() -> AbstractContextManager[None]:
    """Read one state of the database in this block; others may write meanwhile."""
    database = models.database.obj
    return find_engine(database).snapshot(database)


def brief_transaction(database: peewee.Database) -> AbstractContextManager[None]:
    """Run the block in a transaction that does not wait for the disk, so that a crash of the machine may undo it.

    Other processes see it immediately. A crash of the program alone undoes nothing. It cannot be nested.
    """
    return find_engine(database).brief_transaction(database)


def rfc3339_sql(moment: Any) -> Any:
    """Return the expression of a moment as the text that `clock.to_rfc3339` makes of it."""
    return find_engine(models.database.obj).rfc3339_sql(moment)


def contains_text(text: Any, part: str) -> Any:
    """Return the condition that a text contains another; case is ignored in all languages, accents are not."""
    database = models.database.obj
    return find_engine(database).contains_text(database, text, part)


def in_list(column: Any, values: _Values) -> Any:
    """Return the condition that a column holds one of these values, however many they are.

    They are one parameter: peewee takes longer to write a list of them than a database to look them up.
    """
    return find_engine(models.database.obj).in_list(column, values)


def email_domain(key: Any) -> Any:
    """Return the expression of the domain in the key of an e-mail; it has an index."""
    return find_engine(models.database.obj).email_domain(key)


def locks_rows() -> bool:
    """Tell whether transactions lock single rows; an SQLite transaction locks the whole database from its start."""
    return find_engine(models.database.obj).LOCKS_ROWS


def lock_rows(rows: Any, *, skip_locked: bool = False) -> Any:
    """Return the query that also locks the rows that it finds until the transaction ends, if the engine locks rows.

    Args:
        skip_locked: leave out rows that another transaction has locked, rather than wait for it.
    """
    return rows.for_update(skip_locked=skip_locked) if locks_rows() else rows


def delete_ended(table: Any, before: datetime, *, most: int) -> int:
    """Delete rows whose `ends_at` is before a moment, the oldest first, and return how many were deleted.

    Args:
        table: a table with the columns `id` and `ends_at`.
        most: at most this many rows, so that no command waits long; those that another process has locked stay.
    """
    rows = table.select(table.id).where(table.ends_at < before).order_by(table.ends_at).limit(most)
    if keys := [key for (key,) in fetch_tuples(lock_rows(rows, skip_locked=True))]:
        table.delete().where(in_list(table.id, keys)).execute()
    return len(keys)


def insert_many(
    database: peewee.Database,
    table: str,
    columns: _Columns,
    rows: _Rows,
    *,
    constants: _Constants = NO_CONSTANTS,
    unless_taken: str = "",
) -> int:
    """Insert rows below peewee, whose own way takes several times as long, and return how many were inserted.

    Args:
        table: the table; its name and those of the columns must be the program's own, as they are not quoted.
        rows: the values, as the driver accepts them.
        constants: columns with the same number in all rows.
        unless_taken: a unique column; rows whose value is taken there are left out.

    Raises:
        PeeweeException: the driver's error.
    """
    return find_engine(database).insert_many(database, table, columns, rows, constants, unless_taken)


def try_insert_all(
    database: peewee.Database,
    table: str,
    columns: _Columns,
    rows: _Rows,
    *,
    constants: _Constants = NO_CONSTANTS,
) -> Sequence[int]:
    """Insert rows as `insert_many` does, within a transaction: all of them, or none if a unique value is taken.

    Returns:
        The ids of the rows, in their order; empty if none was inserted. The table must have an `id`.
    """
    return find_engine(database).try_insert_all(database, table, columns, rows, constants)


def execute_many(database: peewee.Database, statement: str, rows: _Rows) -> int:
    """Execute a statement below peewee, once for each row of values, and return how many rows changed.

    Args:
        statement: SQL that both engines know, with `?` for each value.
        rows: the values, as the driver accepts them.

    Raises:
        PeeweeException: the driver's error.
    """
    if not rows:
        return 0
    cursor = database.cursor()  # type: ignore[no-untyped-call] # it has none
    with as_peewee_errors:
        cursor.executemany(statement.replace("?", database.param), rows)
    changed: int = cursor.rowcount
    return changed


def recording(database: peewee.Database) -> AbstractContextManager[None]:
    """Return the block in which rows of the table `event` are inserted; it opens a transaction if none is open."""
    return find_engine(database).recording(database)


def last_settled_event() -> int | None:
    """Return the highest id up to which no event can appear any more, whatever transactions are open.

    Call it before the query that lists events, which must see what was committed meanwhile.

    Returns:
        None if events always appear in the order of their ids.
    """
    database = models.database.obj
    return find_engine(database).last_settled_event(database)


def truncate_log() -> bool:
    """Empty the log of an SQLite database into its file, so that erased data is in neither.

    Returns:
        Whether it is empty; not while another process reads an earlier state.
    """
    database = models.database.obj
    return find_engine(database).truncate_log(database)


def vacuum() -> bool:
    """Rewrite the file of an SQLite database, so that no unused part of it keeps a copy of erased data.

    Returns:
        Whether the previous content is gone; not while another process reads it.
    """
    database = models.database.obj
    return find_engine(database).vacuum(database)


def database_bytes() -> int:
    """Return the size of the database; of an SQLite file without its log."""
    database = models.database.obj
    return find_engine(database).database_bytes(database)
