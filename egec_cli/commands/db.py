"""`egec db`: status, upgrade, backup, restore."""

from pathlib import Path
from typing import Annotated

import typer

from egec_cli.commands.options import OutputOption, RecordOption, can_ask, confirm
from egec_cli.commands.root import new_app
from egec_cli.commands.session import make_log, read_settings
from egec_cli.doctor import database
from egec_cli.errors import ExitCode
from egec_cli.output.formats import OutputFormat, is_hidden, render
from egec_cli.output.messages import note, warn
from egec_cli.output.progress import ProgressLine
from egec_cli.settings.types import SqliteFile
from egec_cli.store.backup import require_other_file
from egec_cli.store.sqlite_file import COPYING
from egec_cli.translation import Words

app = new_app("Maintain the database: status, upgrade, backup, restore.")


@app.command("status", epilog=("egec db status\negec db status --format json"))
def status_command(output: OutputOption = OutputFormat.TABLE) -> None:
    """Show the database's schema version: exit code 0 if it matches this program, 78 if not."""
    status = database.schema_status(read_settings())
    render(status, output)
    if status.pending or status.unknown:
        if is_hidden(output):
            warn("egec: the schema of {database} does not match this program", database=status.database)
        raise typer.Exit(ExitCode.CONFIGURATION)


@app.command("upgrade", epilog="egec db upgrade")
def upgrade_command(output: RecordOption = OutputFormat.TABLE) -> None:
    """Upgrade the database to this program's schema; an SQLite file is first copied next to itself."""
    settings = read_settings()
    with ProgressLine(Words("upgrading the database")) as line:
        upgraded = database.upgrade_schema(settings, log=make_log(settings), report=line.show_bytes)
    render(upgraded, output)


@app.command("backup", epilog="egec db backup /var/backups/egec.db")
def backup_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to create; it must not exist.")],
    output: RecordOption = OutputFormat.TABLE,
) -> None:
    """Back up the SQLite database while it is in use."""
    settings = read_settings()
    with ProgressLine(COPYING) as line:
        backup = database.back_up(settings, file, report=line.show_bytes)
    render(backup, output)
    reason = database.try_to_record(settings, "db.backup", "done", log=make_log(settings))
    if reason is not None:
        warn("egec: the backup is complete but not recorded: {reason}", reason=reason)


@app.command("restore", epilog="egec db restore /var/backups/egec-2026-11-25.db")
def restore_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Backup made by `egec db backup`.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation at a terminal.")] = False,
    output: RecordOption = OutputFormat.TABLE,
) -> None:
    """Replace the SQLite database with a backup; the replaced database is kept next to it.

    Without a terminal it does not ask, since nothing is lost.
    """
    settings = read_settings()
    if isinstance(settings.database, SqliteFile) and can_ask() and not yes:
        require_other_file(settings.database, file)
        question = Words("Replace {database} with {file}?", database=settings.database, file=file)
        if not confirm(question):
            note("egec: nothing was changed")
            raise typer.Exit(ExitCode.REFUSED)
    with ProgressLine(COPYING) as line:
        restored = database.restore_from(settings, file, log=make_log(settings), report=line.show_bytes)
    render(restored, output)
    if restored.pending:
        warn("egec: the backup was made by an older egec. Type `egec db upgrade`.")
