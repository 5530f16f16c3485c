"""Maintain the database: show and upgrade its schema, back it up and restore it."""

from pathlib import Path
from typing import Any, NamedTuple

from egec_cli import context
from egec_cli.audit.record import record_event
from egec_cli.context import Log
from egec_cli.errors import EgecError, TemporaryFailure, UsageError, quoted
from egec_cli.settings.schema import Settings, SqliteFile
from egec_cli.store import database, models, upgrade
from egec_cli.store.backup import backup_database, restore_backup
from egec_cli.store.models import ReissueRun, RunState
from egec_cli.store.sql import fetch_tuples
from egec_cli.translation import Words


class SchemaStatus(NamedTuple):
    """The migrations of the database compared with those of the program.

    Attributes:
        database: its location, without a password.
        applied: migrations of the database.
        pending: migrations that the database lacks.
        unknown: migrations of a newer program.
    """

    database: str
    applied: list[str]
    pending: list[str]
    unknown: list[str]


class UpgradeResult(NamedTuple):
    """An upgrade.

    Attributes:
        database: its location, without a password.
        applied: the new migrations; empty if there were none.
    """

    database: str
    applied: list[str]


class BackupResult(NamedTuple):
    """A backup.

    Attributes:
        file: its path.
        bytes: its size.
    """

    file: str
    bytes: int


class RestoreResult(NamedTuple):
    """A restored database.

    Attributes:
        database: its location.
        previous_file: the file that keeps the replaced database; None without one.
        pending: the migrations that it lacks, for `egec db upgrade`.
    """

    database: str
    previous_file: str | None
    pending: list[str]


def schema_status(settings: Settings) -> SchemaStatus:
    """Return the applied, pending and unknown migrations of the database."""
    applied, known = database.list_applied_migrations(settings.database), upgrade.list_known_migrations()
    return SchemaStatus(
        str(settings.database),
        applied,
        [name for name in known if name not in applied],
        [name for name in applied if name not in known],
    )


def upgrade_schema(settings: Settings, *, log: Log | None = None) -> UpgradeResult:
    """Upgrade the database to this program's schema; an embedded one is backed up beside itself first.

    Raises:
        ConfigError: the database is missing or newer than the program.
        TemporaryFailure: a run is in progress; its worker needs the earlier schema.
    """
    applied = database.upgrade_database(settings.database, require=_require_no_worker)
    if applied:
        _record(settings, log, "db.upgrade", "upgraded", migrations=applied)
    return UpgradeResult(str(settings.database), applied)


def _require_no_worker() -> None:
    # Imported here: only the upgrade needs it.
    from egec_cli.reissue import runs

    running = ReissueRun.select(ReissueRun.name, ReissueRun.worked_until).where(ReissueRun.state == RunState.RUNNING)
    now = context.choose_clock(models.database.obj)()
    name = next((name for name, until in fetch_tuples(running) if runs.is_worked_on(until, now)), None)
    if name is not None:
        raise TemporaryFailure(
            "the run {name} is being worked on",
            "Stop it with Ctrl-C, upgrade, then type `egec reissue resume {quoted}`; or wait until it ends.",
            code="run_in_progress",
            name=name,
            quoted=quoted(name),
        )


def back_up(settings: Settings, target: Path) -> BackupResult:
    """Copy the embedded database to a new file; other processes can use it meanwhile.

    Raises:
        UsageError: the database is a PostgreSQL database.
        AlreadyExists: the file exists.
        ConfigError: the database is missing.
    """
    backup_database(settings.database, target)
    return BackupResult(str(target.absolute()), target.stat().st_size)


def try_to_record(
    settings: Settings, action: str, outcome: str, *, log: Log | None = None, **details: Any
) -> str | None:
    """Record an act that needs no database or has happened already.

    Returns:
        None if it is recorded, otherwise the reason: no database, read-only, busy, or with another schema.
    """
    try:
        found = schema_status(settings)
        if found.unknown:
            return Words("the database was made by a newer egec")
        if found.pending:
            return Words("the database was made by an older egec")
        _record(settings, log, action, outcome, **details)
    except EgecError as error:
        return error.message
    return None


def restore_from(settings: Settings, file: Path, *, log: Log | None = None) -> RestoreResult:
    """Replace the embedded database by a backup and keep the replaced one beside it.

    The restored database records this, unless it needs an upgrade first.

    Raises:
        UsageError: the database is a PostgreSQL database.
        InvalidInput: the file is damaged, or not an egec database.
        ConfigError: it was made by a newer egec.
        TemporaryFailure: another process has the database open.
        PermissionDenied, StorageError: the database cannot be written.
    """
    if not isinstance(settings.database, SqliteFile):
        raise UsageError("egec does not restore PostgreSQL databases", "Use pg_restore or psql.")
    replaced = restore_backup(settings.database, file)
    pending = schema_status(settings).pending
    if not pending:
        _record(settings, log, "db.restore", "done")
    return RestoreResult(str(settings.database), None if replaced is None else str(replaced), pending)


def _record(settings: Settings, log: Log | None, action: str, outcome: str, **details: Any) -> None:
    with context.open_context(settings, log=log) as opened, opened.database.atomic():
        record_event(opened, action, outcome, **details)
