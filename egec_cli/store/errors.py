"""Errors that several modules of this package raise."""

from egec_cli.errors import ConfigError, InvalidInput, PermissionDenied, TemporaryFailure
from egec_cli.settings.schema import Database, SqliteFile
from egec_cli.translation import Words


def database_busy() -> TemporaryFailure:
    """Return the error for a database that another process has locked."""
    return TemporaryFailure("the database is busy with another process", "Try again.", code="database_busy")


def damaged_file(location: Database, reason: str) -> ConfigError:
    """Return the error for an SQLite file that is damaged or something else."""
    return ConfigError(
        "{location} is not an intact SQLite database: {reason}",
        "Restore a backup, or set EGEC_DATABASE_URL.",
        location=location,
        reason=reason,
    )


def damaged_tables(location: Database, reason: str) -> ConfigError:
    """Return the error for a database whose tables are missing or different."""
    return ConfigError(
        "the tables in {location} are damaged: {reason}",
        "Restore a backup, or set EGEC_DATABASE_URL to another database.",
        location=location,
        reason=reason,
    )


def number_too_large() -> InvalidInput:
    """Return the error for a number that does not fit into its column."""
    return InvalidInput("a number is too large", "Use a smaller number.")


def not_writable(location: SqliteFile, reason: str | Words) -> PermissionDenied:
    """Return the error for a database that this user cannot write to."""
    return PermissionDenied(
        "{location} cannot be opened for writing: {reason}",
        "Run egec as the user who owns the database; its folder must be writable too.",
        location=location,
        reason=reason,
    )
