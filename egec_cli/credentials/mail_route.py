"""Refuse a missing EGEC_MAIL_URL once the database has had a mail server.

Without EGEC_MAIL_URL, mail is saved to a folder, for trials. After real mail was sent, a missing setting is a mistake
(a wrong folder, a job without its environment), and clients would wait for mail that never leaves. So the first command
that uses a mail server or a mail program records that in the database. From then on a missing EGEC_MAIL_URL is an error
before anything has changed. `maildir:PATH` is always allowed.
"""

from contextlib import suppress

from egec_cli import clock, context
from egec_cli.context import Context
from egec_cli.errors import ConfigError, EgecError
from egec_cli.settings.types import MaildirFolder, Settings
from egec_cli.store import database
from egec_cli.store.models import Installation

_NAME = "mail_server"


def require(context: Context) -> None:
    """Require EGEC_MAIL_URL if the database has had a mail server; record a mail server in the database.

    Every command that mails calls this before it changes anything.

    Raises:
        ConfigError: EGEC_MAIL_URL is missing although the database has had a mail server.
    """
    if not isinstance(context.settings.mail_server, MaildirFolder):
        _record(context)
    elif _is_default(context.settings) and _is_recorded():
        raise missing_url_error()


def is_url_missing(settings: Settings) -> bool:
    """Return whether EGEC_MAIL_URL is missing although the database has had a mail server.

    False without a usable database. This changes nothing and does not wait for a lock.
    """
    if not _is_default(settings):
        return False
    try:
        with database.open_read_only(settings.database, patience=0):
            is_ready = Installation.table_exists()  # type: ignore[no-untyped-call] # peewee is untyped
            return bool(is_ready) and _is_recorded()
    except EgecError:
        return False


def try_to_record(settings: Settings) -> None:
    """Record the mail server of these settings, if there is a usable database."""
    if isinstance(settings.mail_server, MaildirFolder):
        return
    # After a failure, the next command that opens the database records it.
    with suppress(EgecError), context.open_context(settings) as opened:
        _record(opened)


def missing_url_error() -> ConfigError:
    """Return the error for a missing EGEC_MAIL_URL."""
    return ConfigError(
        "EGEC_MAIL_URL is not set, although this database has had a mail server; nothing was changed",
        "Set EGEC_MAIL_URL, or name the settings file with --env-file. To save mail to a folder: "
        "EGEC_MAIL_URL=maildir:PATH",
        code="mail_url_missing",
    )


def _is_default(settings: Settings) -> bool:
    return isinstance(settings.mail_server, MaildirFolder) and settings.mail_server.is_default


def _is_recorded() -> bool:
    return bool(Installation.select().where(Installation.name == _NAME).exists())


def _record(context: Context) -> None:
    # Read first: a write would wait for other transactions.
    if not _is_recorded():
        with context.database.atomic():
            Installation.insert(name=_NAME, value=clock.to_rfc3339(context.clock())).on_conflict_ignore().execute()
