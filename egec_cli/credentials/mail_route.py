"""Whether mail may be saved to the default Maildir: only while this database has never had a mail server.

Without EGEC_MAIL_URL, mail is saved to a folder, for trying things out. Where mail was sent for real before, a missing
setting is a mistake (a wrong folder, a job without its environment), and clients would wait for mail that never leaves.
So the first command that sends mail by a mail server or a mail program leaves a note in the database, and from then on
a missing EGEC_MAIL_URL is an error before anything has changed. `maildir:PATH` can be asked for at any time.
"""

from egec_cli import clock, context
from egec_cli.context import Context
from egec_cli.errors import ConfigError, EgecError
from egec_cli.settings.schema import MaildirFolder, Settings
from egec_cli.store import database
from egec_cli.store.models import Installation

_FACT = "mail_server"


def require(context: Context) -> None:
    """Make sure that mail can leave by the way that the settings name; a mail server is noted in the database.

    To be called by every command that mails, before it changes anything.

    Raises:
        ConfigError: EGEC_MAIL_URL is not set, and the database has had a mail server.
    """
    if not isinstance(context.settings.mail_server, MaildirFolder):
        _note(context)
    elif is_missing(context):
        raise missing()


def is_missing(context: Context) -> bool:
    """Tell whether EGEC_MAIL_URL is not set although the database has had a mail server."""
    server = context.settings.mail_server
    return isinstance(server, MaildirFolder) and server.is_default and _is_noted()


def is_missing_here(settings: Settings) -> bool:
    """Tell the same of settings whose database may not exist, or not be ready: then nothing is missing.

    Nothing is changed, and nothing is waited for.
    """
    server = settings.mail_server
    if not (isinstance(server, MaildirFolder) and server.is_default):
        return False
    try:
        with database.open_read_only(settings.database, patience=0):
            is_ready = Installation.table_exists()  # type: ignore[no-untyped-call] # it has none
            return bool(is_ready) and _is_noted()
    except EgecError:
        return False


def note(settings: Settings) -> None:
    """Note the mail server of these settings, where there is a database to note it in."""
    if isinstance(settings.mail_server, MaildirFolder):
        return
    try:
        with context.open_context(settings) as opened:
            _note(opened)
    except EgecError:
        # The next command that opens the database notes it.
        return


def missing() -> ConfigError:
    """Return the error of a missing EGEC_MAIL_URL."""
    return ConfigError(
        "EGEC_MAIL_URL is not set, although this database has had a mail server; nothing was changed",
        "Set EGEC_MAIL_URL, or name its settings file by --env-file. To save mail to a folder: "
        "EGEC_MAIL_URL=maildir:PATH",
        code="mail_url_missing",
    )


def _is_noted() -> bool:
    return bool(Installation.select().where(Installation.name == _FACT).exists())


def _note(context: Context) -> None:
    # Read first: to write would wait for other transactions.
    if not _is_noted():
        with context.database.atomic():
            Installation.insert(name=_FACT, value=clock.to_rfc3339(context.clock())).on_conflict_ignore().execute()
