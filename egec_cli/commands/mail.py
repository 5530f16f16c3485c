"""`egec mail`: its commands have modules of their own."""

import typer

from egec_cli.commands import mail_bounces

app = typer.Typer(help="Check, preview and test the mails; read bounces.")
app.add_typer(mail_bounces.app)
