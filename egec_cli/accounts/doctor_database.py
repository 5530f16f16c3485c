"""The doctor looks into the open database: its schema, whether it is sound, its clock against this machine's."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from egec_cli.accounts.findings import Finding, Verdict
from egec_cli.clock import Clock, rfc3339
from egec_cli.settings import Database
from egec_cli.store import database, examination, peewee
from egec_cli.store.models import Credential, Event
from egec_cli.translation import Words

# As NTP keeps machines, and what a busy moment may add.
_AS_CLOCKS_AGREE = timedelta(seconds=2)
# Leases and waits after failed logins are measured in minutes.
_TOO_FAR = timedelta(minutes=1)


def schema(found: peewee.Database, location: Database) -> Iterator[Finding]:
    """Yield whether the database has the schema of this program."""
    if has_this_schema(found):
        yield Finding(
            "schema", Verdict.OK, Words("it is this program's: {schema}", schema=database.known_migrations()[-1]), ""
        )
        return
    applied = database.applied(found)
    if not applied:
        yield Finding(
            "schema", Verdict.FAULT, Words("{location} has no tables of egec", location=location), "egec init"
        )
        return
    database.require_known(applied, str(location))
    pending = ", ".join(sorted(set(database.known_migrations()) - applied))
    yield Finding(
        "schema",
        Verdict.FAULT,
        Words("it was made by an older egec, and lacks {pending}", pending=pending),
        "egec db upgrade",
    )


def has_this_schema(found: peewee.Database) -> bool:
    """Tell whether the open database has all the migrations of this program, and no other."""
    return database.applied(found) == set(database.known_migrations())


def integrity(found: peewee.Database) -> Iterator[Finding]:
    """Yield each thing that is wrong with the database itself, or that nothing is."""
    is_sound = True
    for words in examination.faults(found):
        is_sound = False
        yield Finding("integrity", Verdict.FAULT, words, _cure(found))
    if is_sound:
        yield Finding("integrity", Verdict.OK, Words("nothing is damaged"), "")


def _cure(found: peewee.Database) -> str:
    if isinstance(found, peewee.PostgresqlDatabase):
        return Words("Ask the administrator of the server.")
    return Words("Stop every egec, then put a backup back: egec db restore FILE")


def server_clock(found: peewee.Database, now: Clock) -> Iterator[Finding]:
    """Yield how far the clocks of the database server and this machine are apart; nothing where there is no server."""
    before = now()
    theirs = examination.server_clock(found)
    if theirs is None:
        return
    ours = before + (now() - before) / 2
    apart = abs(theirs - ours)
    detail = Words(
        "the clock of the database server and this machine's are {seconds:.1f} s apart", seconds=apart.total_seconds()
    )
    verdict = Verdict.OK if apart <= _AS_CLOCKS_AGREE else Verdict.WARNING if apart <= _TOO_FAR else Verdict.FAULT
    yield Finding("server_clock", verdict, detail, "" if verdict is Verdict.OK else Words("Set both by NTP."))


def newest_entry(now: Clock) -> Iterator[Finding]:
    """Yield whether what was recorded last lies in the past, as it does where no clock was ever set back."""
    moments = [
        moment
        for table, column in ((Event, Event.at), (Credential, Credential.created_at))
        if (moment := table.select(column).order_by(table.id.desc()).limit(1).scalar()) is not None
    ]
    if not moments:
        yield Finding("newest_entry", Verdict.OK, Words("nothing is recorded yet"), "")
        return
    yield _judged_newest(max(moments), now())


def _judged_newest(newest: datetime, moment: datetime) -> Finding:
    if newest > moment + _AS_CLOCKS_AGREE:
        detail = Words(
            "the newest entry is of {newest}, which by this machine's clock is yet to come", newest=rfc3339(newest)
        )
        return Finding("newest_entry", Verdict.FAULT, detail, Words("Set the clocks of all machines by NTP."))
    return Finding("newest_entry", Verdict.OK, Words("the newest entry is of {newest}", newest=rfc3339(newest)), "")
