"""The upkeep of the database: which schema it has, its upgrade, its backup and how that is put back."""

from pathlib import Path
from typing import Any, NamedTuple

from egec_cli import context
from egec_cli.audit.record import record_event
from egec_cli.context import Log
from egec_cli.errors import EgecError, TemporaryFailure, UsageError, quoted
from egec_cli.settings.schema import Settings, SqliteFile
from egec_cli.store import database, models, schema
from egec_cli.store.backup import backup_database, restore_backup
from egec_cli.store.models import ReissueRun, RunState
from egec_cli.store.sql import fetch_tuples
from egec_cli.translation import Words


class SchemaStatus(NamedTuple):
    """The migrations of the database against those of the program.

    Attributes:
        database: where it is, without a password.
        applied: those that it has.
        pending: those that it lacks.
        unknown: those that this program does not know: a newer one has made them.
    """

    database: str
    applied: list[str]
    pending: list[str]
    unknown: list[str]


class UpgradeResult(NamedTuple):
    """What an upgrade has done.

    Attributes:
        database: where it is, without a password.
        applied: the migrations that it lacked; none where there was nothing to do.
    """

    database: str
    applied: list[str]


class BackupResult(NamedTuple):
    """A backup that was written.

    Attributes:
        file: where it is.
        bytes: its size.
    """

    file: str
    bytes: int


class RestoreResult(NamedTuple):
    """A database that was restored.

    Attributes:
        database: where it is.
        former: the file that keeps its former content; None where there was none.
        pending: the migrations that it lacks, for `egec db upgrade`.
    """

    database: str
    former: str | None
    pending: list[str]


def schema_status(settings: Settings) -> SchemaStatus:
    """Return which migrations the database has, which it lacks, and which this program does not know."""
    applied, known = database.list_applied_migrations(settings.database), schema.list_known_migrations()
    return SchemaStatus(
        str(settings.database),
        applied,
        [name for name in known if name not in applied],
        [name for name in applied if name not in known],
    )


def upgrade_schema(settings: Settings, *, log: Log | None = None) -> UpgradeResult:
    """Bring the database to this program's schema; an embedded one is copied beside itself first.

    Args:
        settings: where.
        log: what is told of it, if anything is.

    Raises:
        ConfigError: there is no database, or it is newer than the program.
        TemporaryFailure: a re-issue run is being worked on, by a program that counts on the former schema.
    """
    applied = database.upgrade_database(settings.database, require=_require_no_worker)
    if applied:
        _put_on_record(settings, log, "db.upgrade", "upgraded", migrations=applied)
    return UpgradeResult(str(settings.database), applied)


def _require_no_worker() -> None:
    # Imported here: no other command of this module needs it.
    from egec_cli.reissue import runs

    running = ReissueRun.select(ReissueRun.name, ReissueRun.worked_until).where(ReissueRun.state == RunState.RUNNING)
    now = context.choose_clock(models.database.obj)()
    name = next((name for name, until in fetch_tuples(running) if runs.is_worked_on(until, now)), None)
    if name is not None:
        raise TemporaryFailure(
            "the re-issue run {name} is being worked on",
            "Stop it by Ctrl-C, upgrade, then type `egec reissue resume {quoted}`; or wait until it is done.",
            code="run_in_progress",
            name=name,
            quoted=quoted(name),
        )


def back_up(settings: Settings, target: Path) -> BackupResult:
    """Copy the embedded database to a new file while others may go on using it.

    Raises:
        UsageError: the database is a PostgreSQL one.
        AlreadyExists: the file is there already.
        ConfigError: there is no database.
    """
    backup_database(settings.database, target)
    return BackupResult(str(target.absolute()), target.stat().st_size)


def try_to_record(
    settings: Settings, action: str, outcome: str, *, log: Log | None = None, **details: Any
) -> str | None:
    """Put an act on record that needs no database, or is done already.

    Returns:
        Why it is not on record, in words; None where it is. It is not where there is no database, where it is read-only
        or busy, which no such act waits for, nor where the schema is not this program's.
    """
    try:
        found = schema_status(settings)
        if found.unknown:
            return Words("the database was made by a newer egec")
        if found.pending:
            return Words("the database was made by an older egec")
        _put_on_record(settings, log, action, outcome, **details)
    except EgecError as error:
        return error.message
    return None


def restore_from(settings: Settings, file: Path, *, log: Log | None = None) -> RestoreResult:
    """Put a backup in the place of the embedded database, whose former content is kept beside it.

    It is put on record in the restored one, unless that is to be upgraded first.

    Args:
        settings: where.
        file: the backup.
        log: what is told of it, if anything is.

    Raises:
        UsageError: the database is a PostgreSQL one.
        InvalidInput: the file is no sound database of egec.
        ConfigError: it was made by a newer egec.
        TemporaryFailure: another process has the database open.
        PermissionDenied, StorageError: it cannot be written there.
    """
    if not isinstance(settings.database, SqliteFile):
        raise UsageError("a PostgreSQL database is not restored by egec", "Use pg_restore, or psql.")
    former = restore_backup(settings.database, file)
    pending = schema_status(settings).pending
    if not pending:
        _put_on_record(settings, log, "db.restore", "done")
    return RestoreResult(str(settings.database), None if former is None else str(former), pending)


def _put_on_record(settings: Settings, log: Log | None, action: str, outcome: str, **details: Any) -> None:
    with context.open_context(settings, log=log) as opened, opened.database.atomic():
        record_event(opened, action, outcome, **details)
