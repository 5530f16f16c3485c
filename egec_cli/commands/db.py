"""`egec db`: status, upgrade, backup, restore."""

from pathlib import Path
from typing import Annotated

import typer

from egec_cli.commands.options import OutputOption
from egec_cli.commands.root import new_app
from egec_cli.commands.session import log_of, read_settings
from egec_cli.doctor import maintenance
from egec_cli.errors import ExitCode
from egec_cli.output.formats import OutputFormat, is_hidden, render
from egec_cli.output.messages import warn

app = new_app("Look after the database: status, upgrade, backup, restore.")


@app.command("status", epilog="Example: egec db status --format json")
def status_command(output: OutputOption = OutputFormat.TABLE) -> None:
    """Show which schema the database has: exit code 0 if it is this program's, 78 if not."""
    found = maintenance.schema_status(read_settings())
    render(found, output)
    if found.pending or found.unknown:
        if is_hidden(output):
            warn("egec: the schema of {database} is not that of this program", database=found.database)
        raise typer.Exit(ExitCode.CONFIGURATION)


@app.command("upgrade", epilog="Example: egec db upgrade")
def upgrade_command(output: OutputOption = OutputFormat.TABLE) -> None:
    """Bring the database to this program's schema; an SQLite file is copied beside itself first."""
    found = read_settings()
    render(maintenance.upgrade_schema(found, log=log_of(found)), output)


@app.command("backup", epilog="Example: egec db backup /var/backups/egec-$(date +%F).db")
def backup_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to make; it must not be there yet.")],
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Copy the embedded database, whole, while others go on using it."""
    found = read_settings()
    render(maintenance.back_up(found, file), output)
    reason = maintenance.try_to_record(found, "db.backup", "done", log=log_of(found))
    if reason is not None:
        warn("egec: the backup is complete but not recorded: {reason}", reason=reason)


@app.command("restore", epilog="Example: egec db restore /var/backups/egec-2026-11-25.db")
def restore_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `egec db backup` has made.")],
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Put a backup in the place of the embedded database, which is kept beside it."""
    found = read_settings()
    restored = maintenance.restore_from(found, file, log=log_of(found))
    render(restored, output)
    if restored.pending:
        warn("egec: it was made by an older egec. Type `egec db upgrade`.")
