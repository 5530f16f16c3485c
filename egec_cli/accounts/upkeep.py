"""The upkeep of the database: which schema it has, its upgrade, its backup."""

from pathlib import Path
from typing import NamedTuple

from egec_cli.accounts import audit, egec
from egec_cli.accounts.log import Log
from egec_cli.errors import NotNow
from egec_cli.settings import Settings
from egec_cli.store import database


class SchemaStatus(NamedTuple):
    """The migrations of the database against those of the program."""

    database: str
    applied: list[str]
    pending: list[str]
    unknown: list[str]


class Upgraded(NamedTuple):
    """What an upgrade has applied; empty where there was nothing to do."""

    database: str
    applied: list[str]


class BackedUp(NamedTuple):
    """Where a backup was written, and its size in bytes."""

    file: str
    bytes: int


def status(settings: Settings) -> SchemaStatus:
    """Return which migrations the database has, which it lacks, and which this program does not know."""
    applied, known = database.applied_migrations(settings.database), database.known_migrations()
    return SchemaStatus(
        str(settings.database),
        applied,
        [name for name in known if name not in applied],
        [name for name in applied if name not in known],
    )


def upgrade(settings: Settings, *, log: Log | None = None) -> Upgraded:
    """Bring the database to this program's schema; an embedded one is copied beside itself first.

    Args:
        settings: where.
        log: what is told of it, if anything is.

    Raises:
        Misconfigured: there is no database, or it is newer than the program.
    """
    applied = database.upgrade(settings.database)
    if applied:
        with egec.opened(settings, log=log) as opened, opened.database.atomic():
            audit.record(opened, "db.upgrade", "upgraded", migrations=applied)
    return Upgraded(str(settings.database), applied)


def backup(settings: Settings, target: Path) -> BackedUp:
    """Copy the embedded database to a new file while others may go on using it.

    Raises:
        Usage: the database is a PostgreSQL one.
        AlreadyExists: the file is there already.
        Misconfigured: there is no database.
    """
    database.backup(settings.database, target)
    return BackedUp(str(target.absolute()), target.stat().st_size)


def record_backup(settings: Settings, *, log: Log | None = None) -> bool:
    """Put a backup on record that was made, and return whether it is on record.

    It is not where another process's transaction takes too long, which no copy waits for, nor where the schema is not
    this program's.
    """
    found = status(settings)
    if found.pending or found.unknown:
        return False
    try:
        with egec.opened(settings, log=log) as opened, opened.database.atomic():
            audit.record(opened, "db.backup", "done")
    except NotNow:
        return False
    return True
