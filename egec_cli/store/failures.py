"""Errors of the database drivers, translated into errors that tell an operator what to do."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from egec_cli.errors import ConfigError, EgecError
from egec_cli.settings.schema import Database, SqliteFile
from egec_cli.store import peewee, sqlite
from egec_cli.store.errors import damaged_file, number_too_large
from egec_cli.translation import Words


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
