"""`egec doctor`."""

from egec_cli.accounts import doctor
from egec_cli.commands.findings import show_findings
from egec_cli.commands.lazy import new_app
from egec_cli.commands.options import FieldsOption, OutputOption, names
from egec_cli.show import OutputFormat

app = new_app()


@app.command("doctor", epilog="Example: egec doctor --format json")
def doctor_command(output: OutputOption = OutputFormat.TABLE, fields: FieldsOption = "") -> None:
    """Examine the installation: settings, database, mail, passwords, runs.

    Nothing is changed. The exit code is 0 if all is well, 3 if there are warnings, 75 if the mail server or the
    database is unavailable and nothing else is at fault, and 78 if there is any other fault.
    """
    show_findings(list(doctor.examine()), output, names(fields))
