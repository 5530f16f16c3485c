"""`egec activate`."""

from typing import Annotated

import typer

from egec_cli import hashing
from egec_cli.commands.lazy import new_app
from egec_cli.commands.options import ClientArgument, OutputOption
from egec_cli.commands.session import opened, read_settings
from egec_cli.errors import Usage
from egec_cli.show import OutputFormat

app = new_app()


@app.command("activate", epilog="Example: egec activate jeanne@example.org")
def activate_command(
    client: ClientArgument,
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Void every former password at once, as after a leak.")
    ] = False,
    no_mail: Annotated[bool, typer.Option("--no-mail", help="Send no mail; needs --show-password.")] = False,
    show_password: Annotated[
        bool, typer.Option("--show-password", help="Print the new password; needs --no-mail.")
    ] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Make a new password for a client and mail it with the identifier.

    The former password works until the mail server has accepted the mail; only the last mail counts.
    """
    if no_mail != show_password:
        raise Usage("--no-mail and --show-password go together", "Give both, or neither to send the mail.")
    found = read_settings()
    # The hash takes most of the time, on a thread of its own: what follows is loaded and connected meanwhile.
    hash_under_way = hashing.begin(found)
    with opened(found) as egec:
        from egec_cli.commands import activation

        if no_mail:
            activation.hand_over(egec, client, hash_under_way, revoke=revoke, output=output)
        else:
            activation.mail(egec, client, hash_under_way, revoke=revoke, output=output)
