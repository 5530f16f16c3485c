"""`egec init`."""

from typing import NamedTuple

from egec_cli import context
from egec_cli.commands.options import RecordOption
from egec_cli.commands.root import new_app
from egec_cli.commands.session import read_settings
from egec_cli.output.formats import OutputFormat, render

app = new_app()


class InitResult(NamedTuple):
    """The locations that egec uses.

    Attributes:
        database: the database, without its password.
        created: whether this command created the database.
        mail: the mail server, program or folder, without a password.
        env_file: the settings file that was read; None without one.
    """

    database: str
    created: bool
    mail: str
    env_file: str | None


@app.command("init", epilog=("egec init\negec --env-file /etc/egec/egec.env init"))
def init_command(output: RecordOption = OutputFormat.TABLE) -> None:
    """Create the database and show the locations in use."""
    settings = read_settings()
    created = context.create_database(settings)
    with context.open_context(settings, only_read=True):
        env_file = str(settings.env_file) if settings.env_file else None
        render(InitResult(str(settings.database), created, str(settings.mail_server), env_file), output)
