"""What only PostgreSQL has: its connection, its SQL and its errors. psycopg is imported when a database is opened."""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from typing import Any

from egec_cli.errors import (
    ConfigError,
    EgecError,
    PermissionDenied,
    StorageError,
    TemporaryFailure,
    damaged_tables,
    number_too_large,
    quoted,
)
from egec_cli.settings.types import PostgresqlServer, SettingsWarning
from egec_cli.store import as_peewee_errors, connection_security, peewee
from egec_cli.translation import Words

LOCKS_ROWS = True

# A commit must be durable, whatever the server's default.
_SESSION = "-c timezone=UTC -c synchronous_commit=on"
# In peewee's numbering of `isolation_level`.
_REPEATABLE_READ = 3
# Rows that a server sends at a time.
_ROWS_PER_FETCH = 2000
# For fewer rows than this, INSERT statements are as fast as COPY.
_WORTH_A_COPY = 20
# The server's first one of these is used: built in since PostgreSQL 17, from ICU, from Linux under its names.
_UNICODE_COLLATIONS = ("pg_c_utf8", "und-x-icu", "C.utf8", "C.UTF-8", "en_US.utf8")
# An arbitrary number, the same in every egec: the lock for creating and changing tables.
_ADVISORY_LOCK = 3042
# Another one: the locks of transactions that record events. The second number of a lock is the last event before them.
_EVENT_LOCK = 3043

# libpq gives no code for a failed connection (https://github.com/psycopg/psycopg/issues/1188), only a message, and
# quotes the server in the server's language. A message that matches nothing here counts as a temporary failure.
# Strings, because they are compiled only if a connection fails.
_LOGIN_REFUSED = (
    "authentication failed|authentification .*chou|no password supplied|pg_hba.conf|does not exist|n'existe pas"
    "|is not permitted to log in|pas autoris. . se connecter"
    "|invalid ([a-z_]+ )?value|could not parse network address|could not match [0-9]+ "
)
# libpq's own messages are always English here: the server has not proved its identity, or asks for a readable password.
_NOT_TRUSTED = (
    "does not support SSL|root certificate|server certificate|certificate verify failed|weak sslmode"
    "|authentication method requirement|SSL error: (wrong version|unsupported protocol|[a-z0-9]+ alert)"
)
# Messages of the operating system, which libpq quotes.
_UNREACHABLE = (
    "Connection refused|could not translate host name|Name or service not known|timeout expired|No route to host"
    "|Network is unreachable|No such file or directory|Connection timed out"
)
_PERMISSION_DENIED = "[Pp]ermission denied|droit refus"

# What may be wrong with a database, and a query that returns a row for each case.
_FAULTS = (
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
    (Words("the server is a standby, which accepts no changes"), "SELECT 1 WHERE pg_is_in_recovery()"),
)


# The connection.


def prepare(location: PostgresqlServer, *, patience: float) -> peewee.PostgresqlDatabase:
    """Return the database, not connected yet.

    It waits for a connection, and for each lock, for `patience` seconds.

    Raises:
        ConfigError: psycopg is not installed, or the URL is invalid or unsafe.
    """
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
    options = _options(location)
    connection_security.require_safe(options, os.environ)
    # Given back to peewee, which could not import it (see egec_cli/store/__init__.py).
    status = psycopg.pq.TransactionStatus
    vars(peewee).update(psycopg=psycopg, TransactionStatus=status, Json_pg3=Json, Jsonb_pg3=Jsonb)
    adapter = peewee.Psycopg3Adapter
    adapter.txn_idle, adapter.txn_inerror, adapter.txn_unknown = status.IDLE, status.INERROR, status.UNKNOWN
    security: dict[str, Any] = connection_security.secured(options, os.environ, libpq=psycopg.pq.version())
    return peewee.PostgresqlDatabase(
        location.url,
        prefer_psycopg3=True,
        # The URL's own options come first, or are added.
        connect_timeout=options.get("connect_timeout", patience),
        options=f"{_SESSION} -c lock_timeout={patience}s {options.get('options', '')}".rstrip(),
        application_name=options.get("application_name", "egec"),
        **security,
    )


def weaknesses(location: PostgresqlServer) -> Iterator[SettingsWarning]:
    """Yield each default of the connection's security that the URL weakens."""
    yield from connection_security.weaknesses(_options(location), os.environ)


def forbid_changes(database: peewee.Database) -> None:
    """Let the open connection only read."""
    _execute(database, "SET default_transaction_read_only = on")


def lock_schema(database: peewee.Database) -> None:
    """Keep other programs from creating or changing tables until this connection ends."""
    peewee.Select(columns=[peewee.fn.pg_advisory_lock(_ADVISORY_LOCK)]).execute(database)


def _options(location: PostgresqlServer) -> dict[str, str]:
    """Return the libpq options in the URL; psycopg must be installed."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        options = {name: str(value) for name, value in conninfo_to_dict(location.url).items()}
    except psycopg.ProgrammingError:
        # psycopg's message may quote the URL, and so the password.
        raise ConfigError(
            "EGEC_DATABASE_URL, for {location}, has a part or an option that is unknown to PostgreSQL",
            "Write it as postgresql://USER:PASSWORD@HOST/NAME; options of libpq may follow a question mark.",
            location=location,
        ) from None
    if not re.fullmatch(r"\s*-?[0-9]{1,9}\s*", options.get("connect_timeout", "0"), re.ASCII):
        raise ConfigError(
            "connect_timeout in EGEC_DATABASE_URL is not a number of seconds", "Write it as connect_timeout=10."
        )
    return options


# SQL; see sql.py for what each function promises.


def stream_rows(database: peewee.Database, rows: Any) -> Iterator[tuple[Any, ...]]:
    """Yield what a query finds, from a cursor on the server."""
    # Such a cursor exists only within a transaction.
    with database.atomic():
        statement, values = rows.sql()
        with as_peewee_errors, database._adapter.server_side_cursor(database.connection()) as cursor:  # type: ignore[attr-defined,no-untyped-call] # its types lack it
            cursor.itersize = _ROWS_PER_FETCH
            cursor.execute(statement, values)
            yield from cursor


@contextmanager
def snapshot(database: peewee.Database) -> Iterator[None]:
    """Read one state in the block."""
    with database.atomic(isolation_level=_REPEATABLE_READ):
        yield


@contextmanager
def brief_transaction(database: peewee.Database) -> Iterator[None]:
    """Run the block in a transaction that does not wait for the disk."""
    with database.atomic():
        _execute(database, "SET LOCAL synchronous_commit = off")
        yield


def rfc3339_sql(moment: Any) -> Any:
    """Return the expression of a moment as RFC 3339 text."""
    return peewee.fn.TO_CHAR(peewee.fn.TIMEZONE("UTC", moment), 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')


def contains_text(database: peewee.Database, text: Any, part: str) -> Any:
    """Return the condition that a text contains another, in any case."""
    collation = _unicode_collation(database)
    text, wanted = (peewee.fn.LOWER(peewee.NodeList((value, collation))) for value in (text, peewee.Value(part)))
    return peewee.fn.STRPOS(text, wanted) > 0


def _unicode_collation(database: peewee.Database) -> peewee.SQL:
    """Return the clause of a collation that folds the letters of all languages; the database's default may be C."""
    known = "SELECT collname FROM pg_collation WHERE collencoding IN (-1, pg_char_to_encoding(getdatabaseencoding()))"
    names = {name for (name,) in _execute(database, known)}
    return peewee.SQL(next((f'COLLATE "{name}"' for name in _UNICODE_COLLATIONS if name in names), ""))


def in_list(column: Any, values: Iterable[int] | Iterable[str]) -> Any:
    """Return the condition that a column holds one of these values, as one parameter."""
    return column == peewee.SQL("ANY(%s)", [list(values)])


def email_domain(key: Any) -> Any:
    """Return the expression of the domain in the key of an e-mail."""
    # Literals: an index on an expression serves only queries that contain the same text.
    return peewee.fn.SPLIT_PART(key, peewee.SQL("'@'"), peewee.SQL("2"))


def insert_many(
    database: peewee.Database,
    table: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    constants: Mapping[str, int],
    unless_taken: str,
) -> int:
    """Insert rows and return how many were inserted."""
    if not unless_taken and len(rows) >= _WORTH_A_COPY:
        _copy(database, table, [*columns, *constants], _with_constants(rows, constants))
        return len(rows)
    ending = f" ON CONFLICT ({unless_taken}) DO NOTHING" if unless_taken else ""
    names = ", ".join([*columns, *constants])
    places = ", ".join([*["%s"] * len(columns), *map(str, constants.values())])
    cursor = database.cursor()  # type: ignore[no-untyped-call] # it has none
    with as_peewee_errors:
        cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({places}){ending}", rows)  # noqa: S608 - it contains no value
    inserted: int = cursor.rowcount
    return inserted


def try_insert_all(
    database: peewee.Database,
    table: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    constants: Mapping[str, int],
) -> Sequence[int]:
    """Insert all rows or none, and return their ids."""
    draw = f"SELECT nextval(pg_get_serial_sequence('{table}', 'id')) FROM generate_series(1, {len(rows)})"  # noqa: S608 - it contains no value
    keys = [key for (key,) in _execute(database, draw)]
    complete = ((key, *row) for key, row in zip(keys, _with_constants(rows, constants), strict=True))
    try:
        with database.atomic():
            _copy(database, table, ["id", *columns, *constants], complete)
    except peewee.IntegrityError:
        return []
    return keys


def _with_constants(rows: Sequence[Sequence[object]], constants: Mapping[str, int]) -> Iterable[Sequence[object]]:
    values = tuple(constants.values())
    return ((*row, *values) for row in rows) if values else rows


def _copy(database: peewee.Database, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Insert rows by COPY, which takes half the time of INSERT statements."""
    cursor = database.cursor()  # type: ignore[no-untyped-call] # it has none
    with as_peewee_errors, cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


@contextmanager
def recording(database: peewee.Database) -> Iterator[None]:
    """Announce that events are inserted in the block, in its transaction or in the one around it.

    The server draws ids before the rows are committed, in any order. So before its first id is drawn, a transaction
    takes a lock. It conflicts with no other, and its number, which all can see, is lower than every id of the
    transaction. A setting that ends with the transaction, or with the savepoint, notes that the lock is held: the
    server has no memory for many locks.
    """
    with nullcontext() if database.in_transaction() else database.atomic():
        _execute(
            database,
            f"SELECT pg_advisory_xact_lock_shared({_EVENT_LOCK}, COALESCE((SELECT MAX(id) FROM event), 0)),"  # noqa: S608 - it contains no value
            " set_config('egec.is_recording', 'yes', true)"
            " WHERE COALESCE(current_setting('egec.is_recording', true), '') = ''",
        )
        yield


def last_settled_event(database: peewee.Database) -> int:
    """Return the highest id up to which no event can appear any more."""
    # The locks are read after the snapshot was taken: whoever drew an id that it shows took the lock before, and has
    # ended if the lock is gone.
    ((settled,),) = _execute(
        database,
        "SELECT LEAST((SELECT MAX(id) FROM event), (SELECT MIN(objid::bigint) FROM pg_locks"  # noqa: S608 - it contains no value
        f" WHERE locktype = 'advisory' AND classid = {_EVENT_LOCK} AND objsubid = 2"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())))",
    )
    return int(settled or 0)


def truncate_log(_database: peewee.Database) -> bool:
    """Do nothing: the log is the server's."""
    return True


def vacuum(_database: peewee.Database) -> bool:
    """Do nothing: the server does it."""
    return True


def engine_version(database: peewee.Database) -> str:
    """Return the version of the server."""
    ((version,),) = _execute(database, "SHOW server_version")
    return f"PostgreSQL {version}"


def database_bytes(database: peewee.Database) -> int:
    """Return the size of the database on the server's disk."""
    ((size,),) = _execute(database, "SELECT pg_database_size(current_database())")
    return int(size)


def find_faults(database: peewee.Database) -> Iterator[str]:
    """Yield the faults that the server knows of, in words."""
    for form, query in _FAULTS:
        yield from (Words(form.template, what=what) for (what,) in _execute(database, query))


def server_clock(database: peewee.Database) -> datetime:
    """Return the time by the server's clock."""
    ((moment,),) = _execute(database, "SELECT clock_timestamp()")
    found: datetime = moment
    return found


def _execute(database: peewee.Database, statement: str) -> Any:
    return database.execute_sql(statement)  # type: ignore[no-untyped-call] # it has none


# Errors.


def translate_error(error: BaseException, location: PostgresqlServer) -> EgecError | None:
    """Return the `EgecError` for an error of psycopg; None for an internal error."""
    # https://www.postgresql.org/docs/current/errcodes-appendix.html. Without a code, libpq failed to connect.
    state = getattr(error, "sqlstate", None) or ""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    words = reason if not state and _is_operational(error) else ""
    if re.search(_NOT_TRUSTED, words):
        return ConfigError(
            "{location} is not trusted: {reason}", _hint_on_trust(words), location=location, reason=reason
        )
    if state == "22003":
        return number_too_large()
    if state.startswith(("28", "3D")) or re.search(_LOGIN_REFUSED, words):
        return ConfigError(
            "{location} refuses the login: {reason}", _hint_on_login(reason), location=location, reason=reason
        )
    if state in {"42501", "25006"} or re.search(_PERMISSION_DENIED, words):
        return PermissionDenied(
            "{location} denies permission: {reason}",
            "Grant the missing rights to the database user.",
            location=location,
            reason=reason,
        )
    if state in {"42P01", "42P07", "42703"}:  # undefined or duplicate table, undefined column
        return damaged_tables(location, reason)
    if state in {"53100", "58030"}:
        return StorageError(
            "{location} could not write: {reason}", "Free some space on the server.", location=location, reason=reason
        )
    if state.startswith(("08", "40", "53", "55P03", "57")) or (not state and _is_operational(error)):
        return TemporaryFailure(
            "{location} is not available: {reason}",
            Words("Try again once PostgreSQL runs and can be reached at the host and port of EGEC_DATABASE_URL.")
            if re.search(_UNREACHABLE, words)
            else Words("Try again."),
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
        " to EGEC_DATABASE_URL. ?sslmode= disables the check."
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
        return Words("Check the user name and password in EGEC_DATABASE_URL.")
    return Words("Correct EGEC_DATABASE_URL.")


def _is_operational(error: BaseException) -> bool:
    """Tell whether psycopg calls it an operational error: a connection was lost or never made."""
    return any(kind.__name__ == "OperationalError" for kind in type(error).__mro__)
