"""`egec doctor`."""

import typer

from egec_cli.accounts import doctor
from egec_cli.accounts.findings import Finding, Verdict, exit_code
from egec_cli.commands.lazy import new_app
from egec_cli.commands.options import FieldsOption, OutputOption, names
from egec_cli.show import OutputFormat, is_hidden, show_all, warn

app = new_app()


@app.command("doctor", epilog="Example: egec doctor --format json")
def doctor_command(output: OutputOption = OutputFormat.TABLE, fields: FieldsOption = "") -> None:
    """Examine the installation: settings, database, mail, passwords, runs.

    Nothing is changed. The exit code is 0 if all is well, 3 if there are warnings, 75 if the mail server or the
    database is unavailable and nothing else is at fault, and 78 if there is any other fault.
    """
    findings = list(doctor.examine())
    if is_hidden(output):
        for one in findings:
            if one.verdict is not Verdict.OK:
                warn("egec: {check}: {verdict}: {detail}. {cure}", **one._asdict())
    show_all(findings, Finding, output, names(fields))
    raise typer.Exit(exit_code(findings))
