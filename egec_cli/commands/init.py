"""`egec init`."""

from typing import NamedTuple

from egec_cli import context
from egec_cli.commands.options import OutputOption
from egec_cli.commands.root import new_app
from egec_cli.commands.session import read_settings
from egec_cli.output.formats import OutputFormat, render

app = new_app()


class Places(NamedTuple):
    """Where things are.

    Attributes:
        database: the client files, without a password.
        created: whether the database was made now.
        mail: who takes the mail, without a password.
        env_file: the file of settings that was read; None where there is none.
    """

    database: str
    created: bool
    mail: str
    env_file: str | None


@app.command("init", epilog="Example: egec init")
def init_command(output: OutputOption = OutputFormat.TABLE) -> None:
    """Create the database and say where things are."""
    found = read_settings()
    created = context.create_database(found)
    with context.open_context(found, only_read=True):
        env_file = str(found.env_file) if found.env_file else None
        render(Places(str(found.database), created, str(found.mail_server), env_file), output)
