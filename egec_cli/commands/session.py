"""What commands open: the settings and eGEC itself, built here and nowhere else."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType
from typing import TYPE_CHECKING, Any

from egec_cli.output.messages import log_writer, note
from egec_cli.settings import load
from egec_cli.settings.schema import Settings

if TYPE_CHECKING:
    from egec_cli.context import Context, Log


def read_settings() -> Settings:
    """Return the settings, and warn the operator of what is unsafe about them."""
    found = load.load_settings()
    for warning in found.warnings:
        note("egec: warning: {what}. {cure}", what=warning.what, cure=warning.cure)
    return found


def log_of(found: Settings) -> "Log | None":
    """Return the log that is to be told of each act, where one is wanted."""
    write = log_writer(found.log)
    if write is None:
        return None
    # Imported here, for it brings the database's library.
    from egec_cli.context import Log

    return Log(write)


@contextmanager
def opened(found: Settings | None = None, *, create: bool = False, only_read: bool = False) -> "Iterator[Context]":
    """Open eGEC for one command.

    Args:
        found: the settings, where the command has read them already.
        create: make the database where there is none, and say so.
        only_read: the command only reads, so a database that cannot be written is opened too.
    """
    found = found or read_settings()
    # Imported here: it brings the database's library, which a command may start other work before.
    from egec_cli import context

    if create and context.create_database(found):
        note("egec: made the database {database}", database=found.database)
    with context.open_context(found, log=log_of(found), only_read=only_read) as opened_context:
        yield opened_context


_NUMBERS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def orderly_stop() -> Iterator[Event]:
    """Let the first signal in the block set the event; a second one ends the program at once, as it always does.

    When the block is done, the signal ends the command after all, so that the exit code tells. A signal that was
    ignored when the program started (nohup, a background job of a script) stays ignored.
    """
    stop = Event()
    received: list[int] = []
    former: dict[int, Any] = {}

    def heed(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        stop.set()
        restore()

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    heeded = [number for number in _NUMBERS if signal.getsignal(number) is not signal.SIG_IGN]
    former |= {number: signal.signal(number, heed) for number in heeded}
    try:
        yield stop
    finally:
        restore()
    if received:
        signal.raise_signal(received[0])
