"""The upkeep of the database: which schema it has, its upgrade, its backup."""

from pathlib import Path
from typing import NamedTuple

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


def upgrade(settings: Settings) -> Upgraded:
    """Bring the database to this program's schema; an embedded one is copied beside itself first.

    Raises:
        Misconfigured: there is no database, or it is newer than the program.
    """
    return Upgraded(str(settings.database), database.upgrade(settings.database))


def backup(settings: Settings, target: Path) -> BackedUp:
    """Copy the embedded database to a new file while others may go on using it.

    Raises:
        Usage: the database is a PostgreSQL one.
        AlreadyExists: the file is there already.
        Misconfigured: there is no database.
    """
    database.backup(settings.database, target)
    return BackedUp(str(target.absolute()), target.stat().st_size)
