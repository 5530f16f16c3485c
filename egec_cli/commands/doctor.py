"""`egec doctor`, and the display of findings that `egec mail check` shares."""

from collections.abc import Sequence
from typing import NoReturn

import typer

from egec_cli.commands.options import FieldsOption, OutputOption, split_fields
from egec_cli.commands.root import new_app
from egec_cli.doctor.examine import examine_installation
from egec_cli.doctor.findings import Finding, Severity, exit_code
from egec_cli.output.formats import OutputFormat, is_hidden, render_all
from egec_cli.output.messages import warn

app = new_app()


@app.command("doctor", epilog=("egec doctor\negec doctor --format json"))
def doctor_command(output: OutputOption = OutputFormat.TABLE, fields: FieldsOption = "") -> None:
    """Check the installation: settings, database, mail, passwords, runs.

    Nothing is changed. Exit codes: 0 all is well, 3 warnings, 75 only the mail server or the database is unavailable,
    78 any other error.
    """
    show_findings(list(examine_installation()), output, split_fields(fields))


def show_findings(found: Sequence[Finding], output: OutputFormat, fields: Sequence[str] = ()) -> NoReturn:
    """Show findings and end with their exit code. With `--quiet`, warnings and errors go to stderr.

    Raises:
        typer.Exit: always, with the code of the worst finding.
        UsageError: a chosen field is unknown.
    """
    render_all(found, Finding, output, fields)
    if is_hidden(output):
        for one in found:
            if one.verdict is not Severity.OK:
                warn("egec: {check}: {verdict}: {details}. {fix}", **one._asdict())
    raise typer.Exit(exit_code(found))
