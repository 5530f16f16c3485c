"""What every use case is handed: the settings, the open database, who asks, and the clock."""

import os
import pwd
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from egec_cli import clock
from egec_cli.clock import Clock
from egec_cli.settings import Settings
from egec_cli.store import database, peewee


class Actor(NamedTuple):
    """Who asks: the user of the operating system, with the one behind sudo, and the host."""

    user: str
    host: str

    @classmethod
    def of_this_process(cls) -> "Actor":
        """Return the actor that this process works for."""
        try:
            user = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:  # a container's user may have no name
            user = str(os.getuid())
        behind = os.environ.get("SUDO_USER")
        return cls(f"{user} ({behind})" if behind and behind != user else user, socket.gethostname())


class Egec(NamedTuple):
    """An open eGEC."""

    settings: Settings
    database: peewee.Database
    actor: Actor
    clock: Clock = clock.now


@contextmanager
def opened(settings: Settings) -> Iterator[Egec]:
    """Open eGEC for the `with` block.

    Raises:
        Misconfigured: there is no database, or not of this program's schema.
        NotNow, NotPermitted, FileSystemFailed: the database failed, then or within the block.
    """
    with database.opened(settings.database) as opened_database:
        yield Egec(settings, opened_database, Actor.of_this_process())


def create(settings: Settings) -> bool:
    """Create the database that the settings name, where there is none. Return whether anything was made.

    Raises:
        NotPermitted, FileSystemFailed, NotNow, Misconfigured: it cannot be made there.
    """
    return database.create(settings.database)
