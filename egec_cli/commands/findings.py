"""How `doctor` and `mail check` show their findings and end."""

from collections.abc import Sequence
from typing import NoReturn

import typer

from egec_cli.accounts.findings import Finding, Verdict, exit_code
from egec_cli.show import OutputFormat, is_hidden, show_all, warn


def show_findings(found: Sequence[Finding], output: OutputFormat, fields: Sequence[str] = ()) -> NoReturn:
    """Show findings and end with their exit code. With `--quiet`, warnings and faults go to stderr.

    Raises:
        typer.Exit: always, with the code of the worst finding.
        Usage: a chosen field is unknown.
    """
    show_all(found, Finding, output, fields)
    if is_hidden(output):
        for one in found:
            if one.verdict is not Verdict.OK:
                warn("egec: {check}: {verdict}: {detail}. {cure}", **one._asdict())
    raise typer.Exit(exit_code(found))
