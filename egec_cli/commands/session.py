"""What commands open: the settings and eGEC itself, built here and nowhere else."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from egec_cli import settings
from egec_cli.settings import Settings
from egec_cli.show import log_writer, note

if TYPE_CHECKING:
    from egec_cli.accounts.egec import Egec
    from egec_cli.accounts.log import Log


def read_settings() -> Settings:
    """Return the settings, and warn the operator of what is unsafe about them."""
    found = settings.load()
    for warning in found.warnings:
        note("egec: warning: {what}. {cure}", what=warning.what, cure=warning.cure)
    return found


def log_of(found: Settings) -> "Log | None":
    """Return the log that is to be told of each act, where one is wanted."""
    write = log_writer(found.log)
    if write is None:
        return None
    # Imported here, for it brings the database's library.
    from egec_cli.accounts.log import Log

    return Log(write)


@contextmanager
def opened(found: Settings | None = None, *, create: bool = False, only_read: bool = False) -> "Iterator[Egec]":
    """Open eGEC for one command.

    Args:
        found: the settings, where the command has read them already.
        create: make the database where there is none, and say so.
        only_read: the command only reads, so a database that cannot be written is opened too.
    """
    found = found or read_settings()
    # Imported here: it brings the database's library, which a command may start other work before.
    from egec_cli.accounts import egec

    if create and egec.create(found):
        note("egec: made the database {database}", database=found.database)
    with egec.opened(found, log=log_of(found), only_read=only_read) as opened_egec:
        yield opened_egec
