"""Check the database: schema, integrity, clock, deliveries in doubt, paused runs and failed clients.

Also maintain it: show and upgrade its schema, back it up and restore it.
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from egec_cli import context
from egec_cli.audit.events import record_event
from egec_cli.clock import Clock, to_rfc3339
from egec_cli.context import Context, Log
from egec_cli.credentials import shared_emails, validity
from egec_cli.credentials.states import MAX_IN_DOUBT
from egec_cli.doctor.findings import Finding, Severity, add_note
from egec_cli.errors import EgecError, TemporaryFailure, UsageError, quoted
from egec_cli.settings.types import Database, Settings, SqliteFile
from egec_cli.store import database, models, peewee
from egec_cli.store.backup import backup_database, restore_backup
from egec_cli.store.models import (
    OPEN_STATES,
    Client,
    Credential,
    CredentialState,
    Event,
    ItemState,
    ReissueItem,
    ReissueRun,
    RunState,
)
from egec_cli.store.sql import fetch_tuples, find_engine
from egec_cli.store.sqlite_file import Report, report_nothing
from egec_cli.translation import Words, count_words, format_number, join_first

# The precision of NTP, plus the delay of a busy machine.
_CLOCK_TOLERANCE = timedelta(seconds=2)
# Leases and waits after failed logins last minutes.
_MAX_CLOCK_DIFFERENCE = timedelta(minutes=1)


def check_schema(found: peewee.Database, location: Database) -> Iterator[Finding]:
    """Check that the database has the schema of this program."""
    if has_this_schema(found):
        details = Words("up to date: {schema}", schema=database.list_known_migrations()[-1])
        number = Client.select().where(Client.email.is_null(False)).count()
        clients = count_words("no clients", "1 client", "{number} clients", number)
        yield add_note(Finding("schema", Severity.OK, details), clients)
        return
    applied = database.read_applied_migrations(found)
    if not applied:
        yield Finding("schema", Severity.ERROR, Words("{location} has no egec tables", location=location), "egec init")
        return
    database.require_known_migrations(applied, str(location))
    pending = ", ".join(sorted(set(database.list_known_migrations()) - applied))
    details = Words("made by an older egec; pending migrations: {pending}", pending=pending)
    yield Finding("schema", Severity.ERROR, details, "egec db upgrade")


def has_this_schema(found: peewee.Database) -> bool:
    """Return whether the database has exactly the migrations of this program."""
    return database.read_applied_migrations(found) == set(database.list_known_migrations())


def check_integrity(found: peewee.Database) -> Iterator[Finding]:
    """Check the database for damage."""
    is_sound = True
    for words in find_engine(found).find_faults(found):
        is_sound = False
        yield Finding("integrity", Severity.ERROR, words, _fix(found))
    if is_sound:
        yield Finding("integrity", Severity.OK, Words("no damage found"))


def _fix(found: peewee.Database) -> str:
    if isinstance(found, peewee.PostgresqlDatabase):
        return Words("Ask the administrator of the server.")
    return Words("Stop every egec, then restore a backup: egec db restore FILE")


def check_server_clock(found: peewee.Database, now: Clock) -> Iterator[Finding]:
    """Compare the clocks of the database server and this machine; yield nothing without a server."""
    before = now()
    theirs = find_engine(found).server_clock(found)
    if theirs is None:
        return
    ours = before + (now() - before) / 2
    difference = abs(theirs - ours)
    details = Words(
        "the clocks of the database server and this machine differ by {seconds:.1f} s",
        seconds=difference.total_seconds(),
    )
    if difference <= _CLOCK_TOLERANCE:
        yield Finding("server_clock", Severity.OK, details)
    else:
        verdict = Severity.WARNING if difference <= _MAX_CLOCK_DIFFERENCE else Severity.ERROR
        yield Finding("server_clock", verdict, details, Words("Synchronise both clocks with NTP."))


def check_newest_entry(now: Clock) -> Iterator[Finding]:
    """Check that the newest entry is not in the future, as it is after a clock was set back."""
    moments = [
        moment
        for table, column in ((Event, Event.at), (Credential, Credential.created_at))
        if (moment := table.select(column).order_by(table.id.desc()).limit(1).scalar()) is not None
    ]
    if not moments:
        yield Finding("newest_entry", Severity.OK, Words("no entries yet"))
        return
    newest = to_rfc3339(max(moments))
    if max(moments) > now() + _CLOCK_TOLERANCE:
        details = Words("the newest entry, from {newest}, is in the future by this machine's clock", newest=newest)
        fix = Words("Synchronise the clocks of all machines with NTP.")
        yield Finding("newest_entry", Severity.ERROR, details, fix)
    else:
        yield Finding("newest_entry", Severity.OK, Words("the newest entry is from {newest}", newest=newest))


def check_shared_emails(found: Context) -> Iterator[Finding]:
    """Check that clients share an e-mail only if EGEC_SHARED_EMAIL allows it; yield a finding for each that they share.

    Of many, the first ones are named and the others counted.
    """
    number = shared_emails.count_shared()
    if not number:
        yield Finding("shared_emails", Severity.OK, Words("no client shares an e-mail"))
    elif found.settings.shared_email:
        details = Words("e-mails that several clients share: {number}", number=number)
        yield Finding("shared_emails", Severity.OK, details)
    else:
        named = shared_emails.list_shared()
        for one in named:
            details = Words(
                "clients share the e-mail {email} although EGEC_SHARED_EMAIL is no: {identifiers}",
                email=one.email,
                identifiers=join_first(one.identifiers),
            )
            yield Finding("shared_emails", Severity.ERROR, details, shared_emails.FIX)
        if number > len(named):
            details = count_words(
                "0 more e-mails are shared",
                "1 more e-mail is shared",
                "{number} more e-mails are shared",
                number - len(named),
            )
            yield Finding("shared_emails", Severity.ERROR, details, shared_emails.FIX)


# Other commands show longer lists.
_MOST_NAMED = 5


def check_open_credentials() -> Iterator[Finding]:
    """Count the deliveries in doubt, and name clients who have too many of them."""
    is_unsettled = Credential.state.in_(OPEN_STATES)
    number = Credential.select().where(is_unsettled).count()
    crowded = (
        Client.select(Client.identifier)
        .join(Credential)
        .where(is_unsettled)
        .group_by(Client.id, Client.identifier)
        .having(peewee.fn.COUNT(Credential.id) >= MAX_IN_DOUBT)
    )
    identifiers = [identifier for (identifier,) in fetch_tuples(crowded.limit(_MOST_NAMED))]
    for identifier in identifiers:
        details = Words(
            "client {identifier} has {number} deliveries in doubt and can get no further mail",
            identifier=identifier,
            number=MAX_IN_DOUBT,
        )
        yield Finding("open_credentials", Severity.WARNING, details, f"egec activate {identifier} --revoke")
    if not identifiers:
        none = Words("no deliveries in doubt")
        details = count_words(
            none,
            "1 delivery in doubt; a login with the mailed password settles it",
            "{number} deliveries in doubt; a login with the mailed password settles each",
            number,
        )
        short = count_words(none, "1 delivery in doubt", "{number} deliveries in doubt", number)
        yield add_note(Finding("open_credentials", Severity.OK, details), short)


def check_paused_runs(context: Context) -> Iterator[Finding]:
    """Yield the unfinished runs that no process works on."""
    # Imported here, as below: `egec db status` does not need it.
    from egec_cli.reissue.report import list_runs

    paused = [run for run in list_runs(context) if run.state is RunState.PAUSED]
    for run in paused:
        details = count_words(
            "the run {name} is paused with 0 of {total} clients left",
            "the run {name} is paused with 1 of {total} clients left",
            "the run {name} is paused with {number} of {total} clients left",
            run.remaining,
            name=run.name,
            total=format_number(run.total),
        )
        yield Finding("paused_runs", Severity.WARNING, details, f"egec reissue resume {quoted(run.name)}")
    if not paused:
        none = Words("no paused runs")
        yield add_note(Finding("paused_runs", Severity.OK, none), none)


def check_failed_items(context: Context) -> Iterator[Finding]:
    """Yield the runs with clients who could not be mailed and have not been mailed since."""
    mailed_since = Credential.select(peewee.SQL("1")).where(
        (Credential.client == ReissueItem.client)
        & (Credential.state == CredentialState.ACCEPTED)
        & (Credential.settled_at > ReissueRun.created_at)
    )
    query = (
        ReissueItem.select(ReissueRun.name, peewee.fn.COUNT(ReissueItem.id))
        .join(ReissueRun)
        .switch(ReissueItem)
        .join(Client)
        .where(
            (ReissueItem.state == ItemState.FAILED)
            & (ReissueRun.state != RunState.CANCELLED)
            & Client.disabled_at.is_null()
            & validity.is_valid_at(validity.local_moment(context))
            & Client.email.is_null(False)
            & ~peewee.fn.EXISTS(mailed_since)
        )
        .group_by(ReissueRun.id, ReissueRun.name)
        .order_by(ReissueRun.id.desc())
        .limit(_MOST_NAMED)
    )
    runs = list(fetch_tuples(query))
    for name, number in runs:
        details = count_words(
            "0 clients of the run {name} could not be mailed",
            "1 client of the run {name} could not be mailed and has not been mailed since",
            "{number} clients of the run {name} could not be mailed and have not been mailed since",
            number,
            name=name,
        )
        fix = Words("egec reissue status {name} --failed; then: egec reissue retry {name}", name=quoted(name))
        yield Finding("failed_items", Severity.WARNING, details, fix)
    if not runs:
        yield Finding("failed_items", Severity.OK, Words("no failed clients without a later mail"))


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
    applied, known = database.list_applied_migrations(settings.database), database.list_known_migrations()
    return SchemaStatus(
        str(settings.database),
        applied,
        [name for name in known if name not in applied],
        [name for name in applied if name not in known],
    )


def upgrade_schema(settings: Settings, *, log: Log | None = None, report: Report = report_nothing) -> UpgradeResult:
    """Upgrade the database to this program's schema; an embedded one is backed up beside itself first.

    Raises:
        ConfigError: the database is missing or newer than the program.
        TemporaryFailure: a run is in progress; its worker needs the earlier schema.
    """
    applied = database.upgrade_database(settings.database, require=_require_no_worker, report=report)
    if applied:
        _record(settings, log, "db.upgrade", "upgraded", migrations=applied)
    return UpgradeResult(str(settings.database), applied)


def _require_no_worker() -> None:
    from egec_cli.reissue.runs import is_worked_on

    running = ReissueRun.select(ReissueRun.name, ReissueRun.worked_until).where(ReissueRun.state == RunState.RUNNING)
    now = context.choose_clock(models.database.obj)()
    name = next((name for name, until in fetch_tuples(running) if is_worked_on(until, now)), None)
    if name is not None:
        raise TemporaryFailure(
            "the run {name} is being worked on",
            "Stop it with Ctrl-C, upgrade, then type `egec reissue resume {quoted}`; or wait until it ends.",
            code="run_in_progress",
            name=name,
            quoted=quoted(name),
        )


def back_up(settings: Settings, target: Path, *, report: Report = report_nothing) -> BackupResult:
    """Copy the embedded database to a new file; other processes can use it meanwhile.

    Raises:
        UsageError: the database is a PostgreSQL database.
        AlreadyExists: the file exists.
        ConfigError: the database is missing.
    """
    backup_database(settings.database, target, report=report)
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


def restore_from(
    settings: Settings, file: Path, *, log: Log | None = None, report: Report = report_nothing
) -> RestoreResult:
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
    replaced = restore_backup(settings.database, file, report=report)
    pending = schema_status(settings).pending
    if not pending:
        _record(settings, log, "db.restore", "done")
    return RestoreResult(str(settings.database), None if replaced is None else str(replaced), pending)


def _record(settings: Settings, log: Log | None, action: str, outcome: str, **details: Any) -> None:
    with context.open_context(settings, log=log) as opened, opened.database.atomic():
        record_event(opened, action, outcome, **details)
