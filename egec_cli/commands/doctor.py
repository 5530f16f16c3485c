"""How `doctor` and `mail check` show their findings and end."""

from collections.abc import Sequence
from typing import NoReturn

import typer

from egec_cli.commands.options import FieldsOption, OutputOption, names
from egec_cli.commands.root import new_app
from egec_cli.doctor.examine import examine_installation
from egec_cli.doctor.findings import Finding, Severity, exit_code
from egec_cli.output.formats import OutputFormat, is_hidden, render_all
from egec_cli.output.messages import warn


def show_findings(found: Sequence[Finding], output: OutputFormat, fields: Sequence[str] = ()) -> NoReturn:
    """Show findings and end with their exit code. With `--quiet`, warnings and faults go to stderr.

    Raises:
        typer.Exit: always, with the code of the worst finding.
        UsageError: a chosen field is unknown.
    """
    render_all(found, Finding, output, fields)
    if is_hidden(output):
        for one in found:
            if one.verdict is not Severity.OK:
                warn("egec: {check}: {verdict}: {detail}. {cure}", **one._asdict())
    raise typer.Exit(exit_code(found))


app = new_app()


@app.command("doctor", epilog="Example: egec doctor --format json")
def doctor_command(output: OutputOption = OutputFormat.TABLE, fields: FieldsOption = "") -> None:
    """Examine the installation: settings, database, mail, passwords, runs.

    Nothing is changed. The exit code is 0 if all is well, 3 if there are warnings, 75 if the mail server or the
    database is unavailable and nothing else is at fault, and 78 if there is any other fault.
    """
    show_findings(list(examine_installation()), output, names(fields))
