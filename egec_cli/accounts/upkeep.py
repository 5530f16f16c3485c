"""The upkeep of the database: which schema it has, its upgrade, its backup and how that is put back."""

from pathlib import Path
from typing import Any, NamedTuple

from egec_cli.accounts import audit, egec
from egec_cli.accounts.log import Log
from egec_cli.errors import EgecError, NotNow, Usage
from egec_cli.settings import Settings, SqliteFile
from egec_cli.shell import quoted
from egec_cli.store import database, models, restoring
from egec_cli.store.models import ReissueRun, RunState
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


class Upgraded(NamedTuple):
    """What an upgrade has done.

    Attributes:
        database: where it is, without a password.
        applied: the migrations that it lacked; none where there was nothing to do.
    """

    database: str
    applied: list[str]


class BackedUp(NamedTuple):
    """A backup that was written.

    Attributes:
        file: where it is.
        bytes: its size.
    """

    file: str
    bytes: int


class Restored(NamedTuple):
    """A database that was restored.

    Attributes:
        database: where it is.
        former: the file that keeps its former content; None where there was none.
        pending: the migrations that it lacks, for `egec db upgrade`.
    """

    database: str
    former: str | None
    pending: list[str]


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
        NotNow: a re-issue run is being worked on, by a program that counts on the former schema.
    """
    applied = database.upgrade(settings.database, require=_require_no_worker)
    if applied:
        _put_on_record(settings, log, "db.upgrade", "upgraded", migrations=applied)
    return Upgraded(str(settings.database), applied)


def _require_no_worker() -> None:
    # Imported here: no other command of this module needs it.
    from egec_cli.accounts import reissue

    running = ReissueRun.select(ReissueRun.name, ReissueRun.worked_until).where(ReissueRun.state == RunState.RUNNING)
    now = egec.clock_of(models.database.obj)()
    name = next((name for name, until in database.tuples(running) if reissue.is_worked_on(until, now)), None)
    if name is not None:
        raise NotNow(
            "the re-issue run {name} is being worked on",
            "Stop it by Ctrl-C, upgrade, then type `egec reissue resume {quoted}`; or wait until it is done.",
            code="run_in_progress",
            name=name,
            quoted=quoted(name),
        )


def backup(settings: Settings, target: Path) -> BackedUp:
    """Copy the embedded database to a new file while others may go on using it.

    Raises:
        Usage: the database is a PostgreSQL one.
        AlreadyExists: the file is there already.
        Misconfigured: there is no database.
    """
    database.backup(settings.database, target)
    return BackedUp(str(target.absolute()), target.stat().st_size)


def try_to_put_on_record(
    settings: Settings, action: str, outcome: str, *, log: Log | None = None, **details: Any
) -> str | None:
    """Put an act on record that needs no database, or is done already.

    Returns:
        Why it is not on record, in words; None where it is. It is not where there is no database, where it is read-only
        or busy, which no such act waits for, nor where the schema is not this program's.
    """
    try:
        found = status(settings)
        if found.unknown:
            return Words("the database was made by a newer egec")
        if found.pending:
            return Words("the database was made by an older egec")
        _put_on_record(settings, log, action, outcome, **details)
    except EgecError as error:
        return error.message
    return None


def restore(settings: Settings, file: Path, *, log: Log | None = None) -> Restored:
    """Put a backup in the place of the embedded database, whose former content is kept beside it.

    It is put on record in the restored one, unless that is to be upgraded first.

    Args:
        settings: where.
        file: the backup.
        log: what is told of it, if anything is.

    Raises:
        Usage: the database is a PostgreSQL one.
        BadInput: the file is no sound database of egec.
        Misconfigured: it was made by a newer egec.
        NotNow: another process has the database open.
        NotPermitted, FileSystemFailed: it cannot be written there.
    """
    if not isinstance(settings.database, SqliteFile):
        raise Usage("a PostgreSQL database is not restored by egec", "Use pg_restore, or psql.")
    former = restoring.restore(settings.database, file)
    pending = status(settings).pending
    if not pending:
        _put_on_record(settings, log, "db.restore", "done")
    return Restored(str(settings.database), None if former is None else str(former), pending)


def _put_on_record(settings: Settings, log: Log | None, action: str, outcome: str, **details: Any) -> None:
    with egec.opened(settings, log=log) as opened, opened.database.atomic():
        audit.record(opened, action, outcome, **details)
