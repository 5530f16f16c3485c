"""The doctor looks into the open database: its schema, whether it is sound, its clock against this machine's."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from egec_cli.clock import Clock, to_rfc3339
from egec_cli.context import Context
from egec_cli.credentials.states import MAX_IN_DOUBT
from egec_cli.doctor.findings import Finding, Severity
from egec_cli.errors import quoted
from egec_cli.reissue.runs import list_runs
from egec_cli.settings.schema import Database
from egec_cli.store import peewee, schema
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
from egec_cli.translation import Words

# As NTP keeps machines, and what a busy moment may add.
_AS_CLOCKS_AGREE = timedelta(seconds=2)
# Leases and waits after failed logins are measured in minutes.
_TOO_FAR = timedelta(minutes=1)


def check_schema(found: peewee.Database, location: Database) -> Iterator[Finding]:
    """Yield whether the database has the schema of this program."""
    if has_this_schema(found):
        yield Finding(
            "schema",
            Severity.OK,
            Words("it is this program's: {schema}", schema=schema.list_known_migrations()[-1]),
            "",
        )
        return
    applied = schema.read_applied_migrations(found)
    if not applied:
        yield Finding(
            "schema", Severity.FAULT, Words("{location} has no tables of egec", location=location), "egec init"
        )
        return
    schema.require_known_migrations(applied, str(location))
    pending = ", ".join(sorted(set(schema.list_known_migrations()) - applied))
    yield Finding(
        "schema",
        Severity.FAULT,
        Words("it was made by an older egec, and lacks {pending}", pending=pending),
        "egec db upgrade",
    )


def has_this_schema(found: peewee.Database) -> bool:
    """Tell whether the open database has all the migrations of this program, and no other."""
    return schema.read_applied_migrations(found) == set(schema.list_known_migrations())


def check_integrity(found: peewee.Database) -> Iterator[Finding]:
    """Yield each thing that is wrong with the database itself, or that nothing is."""
    is_sound = True
    for words in find_engine(found).find_faults(found):
        is_sound = False
        yield Finding("integrity", Severity.FAULT, words, _cure(found))
    if is_sound:
        yield Finding("integrity", Severity.OK, Words("nothing is damaged"), "")


def _cure(found: peewee.Database) -> str:
    if isinstance(found, peewee.PostgresqlDatabase):
        return Words("Ask the administrator of the server.")
    return Words("Stop every egec, then put a backup back: egec db restore FILE")


def check_server_clock(found: peewee.Database, now: Clock) -> Iterator[Finding]:
    """Yield how far the clocks of the database server and this machine are apart; nothing where there is no server."""
    before = now()
    theirs = find_engine(found).server_clock(found)
    if theirs is None:
        return
    ours = before + (now() - before) / 2
    apart = abs(theirs - ours)
    detail = Words(
        "the clock of the database server and this machine's are {seconds:.1f} s apart", seconds=apart.total_seconds()
    )
    verdict = Severity.OK if apart <= _AS_CLOCKS_AGREE else Severity.WARNING if apart <= _TOO_FAR else Severity.FAULT
    yield Finding("server_clock", verdict, detail, "" if verdict is Severity.OK else Words("Set both by NTP."))


def check_newest_entry(now: Clock) -> Iterator[Finding]:
    """Yield whether what was recorded last lies in the past, as it does where no clock was ever set back."""
    moments = [
        moment
        for table, column in ((Event, Event.at), (Credential, Credential.created_at))
        if (moment := table.select(column).order_by(table.id.desc()).limit(1).scalar()) is not None
    ]
    if not moments:
        yield Finding("newest_entry", Severity.OK, Words("nothing is recorded yet"), "")
        return
    yield _judged_newest(max(moments), now())


def _judged_newest(newest: datetime, moment: datetime) -> Finding:
    if newest > moment + _AS_CLOCKS_AGREE:
        detail = Words(
            "the newest entry is of {newest}, which by this machine's clock is yet to come", newest=to_rfc3339(newest)
        )
        return Finding("newest_entry", Severity.FAULT, detail, Words("Set the clocks of all machines by NTP."))
    return Finding("newest_entry", Severity.OK, Words("the newest entry is of {newest}", newest=to_rfc3339(newest)), "")


# A list that is longer is for another command to show.
_MOST_NAMED = 5


def check_open_credentials() -> Iterator[Finding]:
    """Yield how many mails are of unknown fate, and who can get no further one for having too many of them."""
    is_open = Credential.state.in_(OPEN_STATES)
    number = Credential.select().where(is_open).count()
    crowded = (
        Client.select(Client.identifier)
        .join(Credential)
        .where(is_open)
        .group_by(Client.id, Client.identifier)
        .having(peewee.fn.COUNT(Credential.id) >= MAX_IN_DOUBT)
    )
    identifiers = [identifier for (identifier,) in fetch_tuples(crowded.limit(_MOST_NAMED))]
    for identifier in identifiers:
        detail = Words(
            "client {identifier} has {number} mails of unknown fate, and gets no further one",
            identifier=identifier,
            number=MAX_IN_DOUBT,
        )
        yield Finding(
            "open_credentials",
            Severity.WARNING,
            detail,
            f"egec activate {identifier} --revoke",
        )
    if not identifiers:
        detail = Words("{number} mails are of unknown fate; a login with one of them settles it", number=number)
        yield Finding("open_credentials", Severity.OK, detail if number else Words("no mail is of unknown fate"), "")


def check_paused_runs(context: Context) -> Iterator[Finding]:
    """Yield the runs that nobody works on although something is left to be done."""
    is_idle = True
    for run in list_runs(context):
        if run.state is RunState.PAUSED:
            is_idle = False
            detail = Words(
                "the run {name} is paused with {remaining} of {total} clients left",
                name=run.name,
                remaining=run.remaining,
                total=run.total,
            )
            yield Finding("paused_runs", Severity.WARNING, detail, f"egec reissue resume {quoted(run.name)}")
    if is_idle:
        yield Finding("paused_runs", Severity.OK, Words("no re-issue run stands still"), "")


def check_failed_items() -> Iterator[Finding]:
    """Yield the runs with clients who could not be mailed, and have not been since."""
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
            & Client.email.is_null(False)
            & ~peewee.fn.EXISTS(mailed_since)
        )
        .group_by(ReissueRun.id, ReissueRun.name)
        .order_by(ReissueRun.id.desc())
        .limit(_MOST_NAMED)
    )
    runs = list(fetch_tuples(query))
    for name, number in runs:
        detail = Words(
            "{number} clients of the run {name} could not be mailed, and have not been since", number=number, name=name
        )
        cure = f"egec reissue status {quoted(name)} --failed; then: egec reissue retry {quoted(name)}"
        yield Finding("failed_items", Severity.WARNING, detail, cure)
    if not runs:
        yield Finding("failed_items", Severity.OK, Words("no run has clients who are still to be mailed"), "")
