"""What commands share beside their options: settings, the context, standard input, an orderly stop on signals."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType
from typing import TYPE_CHECKING, Any, BinaryIO

from egec_cli.errors import InvalidInput
from egec_cli.output.messages import log_writer, note
from egec_cli.settings import load
from egec_cli.settings.types import MaildirFolder, Settings, SqliteFile
from egec_cli.translation import system_message

if TYPE_CHECKING:
    from egec_cli.context import Context, Log

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def read_settings(unused: tuple[str, ...] = ()) -> Settings:
    """Return the settings, and warn the operator of unsafe ones; `unused` as for `load_settings`."""
    settings = load.load_settings(unused=unused)
    for warning in settings.warnings:
        note("egec: warning: {what}. {fix}", what=warning.what, fix=warning.fix)
    return settings


def make_log(settings: Settings) -> "Log | None":
    """Return the log that receives each act; None if logging is off."""
    write = log_writer(settings.log)
    if write is None:
        return None
    # Imported here, for it brings the database's library.
    from egec_cli.context import Log

    return Log(write)


@contextmanager
def open_context(
    settings: Settings | None = None, *, unused: tuple[str, ...] = (), create: bool = False, only_read: bool = False
) -> "Iterator[Context]":
    """Load the settings and open the context of one command.

    Args:
        settings: those that the command has read already, if it has.
        unused: how the names of settings begin that the command does not use.
        create: create the database if it is missing, and report that. If EGEC_DATABASE_URL is set, only `egec init`
            does: without the disk that holds the database, clients would get second records, identifiers and mails.
        only_read: the command only reads, so a read-only database is opened too.
    """
    settings = settings or read_settings(unused)
    # Imported here: it brings the database's library, and a command may start other work before.
    from egec_cli import context

    is_default = isinstance(settings.database, SqliteFile) and settings.database.is_default
    if create and is_default and context.create_database(settings):
        note("egec: created the database {database}", database=settings.database)
    with context.open_context(settings, log=make_log(settings), only_read=only_read) as opened:
        yield opened


def note_saved_mail(settings: Settings, path: object) -> bool:
    """Report where the mail was saved and return True, if no mail server is configured."""
    if not isinstance(settings.mail_server, MaildirFolder):
        return False
    note("egec: no mail server configured; mail saved to {path}", path=path)
    return True


def standard_input(hint: str) -> BinaryIO:
    """Return the bytes of standard input.

    Raises:
        InvalidInput: standard input is closed, or open for writing only; `hint` says what to pass on it.
    """
    if sys.stdin is None:
        raise InvalidInput("standard input is closed", hint)
    try:
        os.read(sys.stdin.fileno(), 0)
    except OSError as error:
        raise InvalidInput("standard input: {reason}", hint, reason=system_message(error)) from None
    return sys.stdin.buffer


@contextmanager
def reading_standard_input(hint: str) -> Iterator[BinaryIO]:
    """Yield the bytes of standard input for the block that reads them.

    Raises:
        InvalidInput: standard input is closed, or cannot be read; `hint` says what to pass on it.
    """
    stream = standard_input(hint)
    try:
        yield stream
    except OSError as error:
        raise InvalidInput("standard input: {reason}", hint, reason=system_message(error)) from None


@contextmanager
def stop_on_signal() -> Iterator[Event]:
    """Set the event at the first signal in the block; a second one, except SIGHUP, ends the program at once, as usual.

    After the block, the first signal ends the command after all, so that the exit code shows it. A signal that was
    ignored when the program started (nohup, a background job of a script) stays ignored.
    """
    stop = Event()
    received: list[int] = []
    previous: dict[int, Any] = {}

    def handle(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        stop.set()
        restore()
        # Both a closed terminal and its shell send it; together they are one request.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    handled = [number for number in _STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    previous |= {number: signal.signal(number, handle) for number in handled}
    try:
        yield stop
    except OSError:
        # Nothing can be written to a closed terminal.
        if signal.SIGHUP not in received:
            raise
    finally:
        restore()
    if received:
        signal.raise_signal(received[0])
