"""What every use case is handed: the settings, the open database, who asks, the clock, and the log."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from egec_cli import clock
from egec_cli.accounts import actor
from egec_cli.accounts.actor import Actor
from egec_cli.accounts.log import Log
from egec_cli.clock import Clock
from egec_cli.settings import Settings
from egec_cli.store import database, peewee


class Egec(NamedTuple):
    """An open eGEC."""

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
        log: what is told of each act, if anything is.
        only_read: the block only reads, so a database that cannot be written is opened too.

    Raises:
        Misconfigured: there is no database, or not of this program's schema.
        NotNow, NotPermitted, FileSystemFailed: the database failed, then or within the block.
    """
    with database.opened(settings.database, only_read=only_read) as opened_database:
        yield Egec(settings, opened_database, actor.of_this_process(settings.acting_for), log=log)


def create(settings: Settings) -> bool:
    """Create the database that the settings name, where there is none. Return whether anything was made.

    Raises:
        NotPermitted, FileSystemFailed, NotNow, Misconfigured: it cannot be made there.
    """
    return database.create(settings.database)
