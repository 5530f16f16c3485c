"""`egec db`: status, upgrade, backup."""

from pathlib import Path
from typing import Annotated

import typer

from egec_cli.accounts import upkeep
from egec_cli.commands.lazy import new_app
from egec_cli.commands.options import OutputOption
from egec_cli.commands.session import log_of, read_settings
from egec_cli.errors import ExitCode
from egec_cli.show import OutputFormat, show, warn

app = new_app("Look after the database: status, upgrade, backup.")


@app.command("status", epilog="Example: egec db status --format json")
def status_command(output: OutputOption = OutputFormat.TABLE) -> None:
    """Show which schema the database has: exit code 0 if it is this program's, 78 if not."""
    found = upkeep.status(read_settings())
    show(found, output)
    if found.pending or found.unknown:
        raise typer.Exit(ExitCode.CONFIGURATION)


@app.command("upgrade", epilog="Example: egec db upgrade")
def upgrade_command(output: OutputOption = OutputFormat.TABLE) -> None:
    """Bring the database to this program's schema; an SQLite file is copied beside itself first."""
    found = read_settings()
    show(upkeep.upgrade(found, log=log_of(found)), output)


@app.command("backup", epilog="Example: egec db backup /var/backups/egec-$(date +%F).db")
def backup_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to make; it must not be there yet.")],
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Copy the embedded database, whole, while others go on using it."""
    found = read_settings()
    show(upkeep.backup(found, file), output)
    if not upkeep.record_backup(found, log=log_of(found)):
        warn("egec: the copy was made, but that is not on record: the database is busy, or is to be upgraded")
