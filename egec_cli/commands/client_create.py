"""`egec client create`."""

from typing import Annotated

import typer

from egec_cli.clients import fields, records
from egec_cli.clients.records import ClientStatus
from egec_cli.commands.options import OutputOption
from egec_cli.commands.root import new_app
from egec_cli.commands.session import opened, read_settings
from egec_cli.credentials import mail_route
from egec_cli.output.formats import OutputFormat, render
from egec_cli.output.messages import warn

app = new_app()


@app.command("create", epilog="Example: egec client create jeanne@example.org --civility Mme --last-name Dupont")
def create_command(
    email: Annotated[str, typer.Argument(metavar="EMAIL", help="The registered e-mail.")],
    civility: Annotated[str, typer.Option("--civility", help=f"One of {' '.join(fields.CIVILITIES)}.")] = "",
    first_name: Annotated[str, typer.Option("--first-name", help="The first name.")] = "",
    last_name: Annotated[str, typer.Option("--last-name", help="The last name, or the name of the firm.")] = "",
    reference: Annotated[str, typer.Option("--reference", help="The number of the client's file elsewhere.")] = "",
    language: Annotated[str, typer.Option("--language", help="fr or en; without it, that of EGEC_LANGUAGE.")] = "",
    identifier: Annotated[str, typer.Option("--identifier", help="10 digits, to keep one given elsewhere.")] = "",
    activate: Annotated[bool, typer.Option("--activate", help="Mail a password at once, unless one was.")] = False,
    if_missing: Annotated[
        bool,
        typer.Option("--if-missing", help="Show the client who has this e-mail, and what differs; exit code 0."),
    ] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Create a client's file; the identifier that it gets never changes."""
    checked = fields.parse_fields(
        email,
        given_identifier=identifier,
        reference=reference,
        civility=civility,
        first_name=first_name,
        last_name=last_name,
        language=language,
    )
    with opened(read_settings(), create=True) as context:
        if activate:
            # Before the client exists: a client without a mail would be half of what was asked for.
            mail_route.require(context)
        client, is_new = records.find_or_create(context, checked, if_missing=if_missing)
        for one in records.list_differences(client, checked):
            warn(
                "egec: client {identifier} already exists with a different {field}: {given!r} given, {stored!r} stored",
                identifier=client.identifier,
                **one._asdict(),
            )
        record = records.load_record(client, context.clock())
        if not activate or record.status is not ClientStatus.NEW:
            render(record, output)
            return
        # Only what activates loads what mails.
        from egec_cli import hashing
        from egec_cli.commands import activate as activation

        hash_under_way = hashing.start_hash(context.settings)
        issued = None
        try:
            words = activation.words_for(context, client)
            issued = activation.send_first(context, client, hash_under_way, is_new=is_new)
        finally:
            # The client exists whatever became of the mail, and a script needs the identifier.
            record = records.load_record(records.find_client(client.identifier), context.clock())
            if output is OutputFormat.TABLE:
                render(record, output)
            else:
                render(record._asdict() | activation.FirstMail(issued)._asdict(), output)
        if output is OutputFormat.TABLE:
            activation.tell(context, words, issued)
