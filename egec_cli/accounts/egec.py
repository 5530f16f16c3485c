"""What every use case is handed: the settings, the open database, who asks, the clock, and the log."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from egec_cli import clock
from egec_cli.accounts import actor
from egec_cli.accounts.actor import Actor
from egec_cli.accounts.log import Log
from egec_cli.clock import Clock, ServerClock
from egec_cli.settings import Settings
from egec_cli.store import database, peewee


class Egec(NamedTuple):
    """An open eGEC.

    Attributes:
        clock: gives every time that is stored, mailed and compared: the clock of the PostgreSQL server, which all
            machines share, or this machine's clock for SQLite.
    """

    settings: Settings
    database: peewee.Database
    actor: Actor
    clock: Clock = clock.now
    log: Log | None = None


@contextmanager
def opened(settings: Settings, *, log: Log | None = None, only_read: bool = False) -> Iterator[Egec]:
    """Open eGEC for the `with` block.

    Args:
        settings: where.
        log: receives a line for each act.
        only_read: the block only reads, so a database that cannot be written is opened too.

    Raises:
        Misconfigured: the database is missing, or has another schema than this program's.
        NotNow, NotPermitted, FileSystemFailed: the database failed, then or within the block.
    """
    with database.opened(settings.database, only_read=only_read) as opened_database:
        who = actor.of_this_process(settings.acting_for)
        yield Egec(settings, opened_database, who, clock_of(opened_database), log)


def clock_of(opened_database: peewee.Database, of_machine: Clock = clock.now) -> Clock:
    """Return the clock that counts for this database: its server's, or that of the machine."""
    if not isinstance(opened_database, peewee.PostgresqlDatabase):
        return of_machine
    return ServerClock(partial(database.server_clock, opened_database))


def synchronize(egec: Egec) -> None:
    """Read the server's clock again, if the clock is that of a server."""
    if isinstance(egec.clock, ServerClock):
        egec.clock.synchronize()


def create(settings: Settings) -> bool:
    """Create the database that the settings name, if it is missing. Return whether anything was made.

    Raises:
        NotPermitted, FileSystemFailed, NotNow, Misconfigured: it cannot be made there.
    """
    return database.create(settings.database)
