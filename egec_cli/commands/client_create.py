"""`egec client create`."""

from typing import Annotated

import typer

from egec_cli.clients import records
from egec_cli.clients.fields import CIVILITIES, parse_fields
from egec_cli.clients.records import ClientRecord, ClientStatus
from egec_cli.commands.find import list_matches
from egec_cli.commands.options import RecordOption
from egec_cli.commands.root import new_app
from egec_cli.commands.session import open_context
from egec_cli.context import Context
from egec_cli.credentials import mail_route, shared_emails
from egec_cli.credentials.validity import local_moment
from egec_cli.errors import UsageError
from egec_cli.output.formats import OutputFormat, is_for_terminal, render
from egec_cli.output.messages import note, warn
from egec_cli.store.models import Client
from egec_cli.translation import join_first

app = new_app()


@app.command(
    "create",
    epilog=(
        "egec client create jeanne@example.org --civility Mme --last-name Dupont\n"
        "egec client create jeanne@example.org --activate\n"
        "egec client create marc@example.org --valid-from 2026-09-01 --valid-until 2027-06-30\n"
        "egec client create jeanne@example.org --if-missing --activate --format json"
    ),
)
def create_command(
    email: Annotated[str, typer.Argument(metavar="EMAIL", help="Registered e-mail address.")],
    civility: Annotated[
        str, typer.Option("--civility", metavar="CIVILITY", help=f"One of {' '.join(CIVILITIES)}.")
    ] = "",
    first_name: Annotated[str, typer.Option("--first-name", metavar="NAME", help="First name.")] = "",
    last_name: Annotated[str, typer.Option("--last-name", metavar="NAME", help="Last name, or name of the firm.")] = "",
    reference: Annotated[
        str, typer.Option("--reference", metavar="TEXT", help="Number of the client in another system.")
    ] = "",
    language: Annotated[
        str, typer.Option("--language", metavar="fr|en", help="fr or en (default: EGEC_LANGUAGE).")
    ] = "",
    identifier: Annotated[
        str,
        typer.Option(
            "--identifier", metavar="DIGITS", help="Existing identifier of 10 digits to keep (default: a random one)."
        ),
    ] = "",
    valid_from: Annotated[
        str, typer.Option("--valid-from", metavar="DATE", help="First day of the validity (default: no beginning).")
    ] = "",
    valid_until: Annotated[
        str, typer.Option("--valid-until", metavar="DATE", help="Last day of the validity (default: no end).")
    ] = "",
    activate: Annotated[
        bool, typer.Option("--activate", help="Also mail a password, unless the client already has one.")
    ] = False,
    if_missing: Annotated[
        bool,
        typer.Option("--if-missing", help="If the e-mail exists, show that client and the differences; exit code 0."),
    ] = False,
    output: RecordOption = OutputFormat.TABLE,
) -> None:
    """Create a client; its identifier never changes."""
    parsed = parse_fields(
        email,
        given_identifier=identifier,
        reference=reference,
        civility=civility,
        first_name=first_name,
        last_name=last_name,
        language=language,
        valid_from=valid_from,
        valid_until=valid_until,
    )
    with open_context(create=True) as context:
        if activate:
            # Before the client exists: a client without a mail would be half of what was asked for.
            mail_route.require(context)
            if not local_moment(context).is_within(parsed.valid_from, parsed.valid_until):
                raise UsageError(
                    "--activate: the account is not valid today",
                    "Omit --activate, and type `egec activate CLIENT` within the validity dates.",
                )
        try:
            client, is_new = records.find_or_create(context, parsed, if_missing=if_missing)
        except records.AmbiguousClient as error:
            list_matches(error, output)
            raise
        if is_new and context.settings.shared_email:
            _note_others(client)
        for one in records.list_differences(client, parsed):
            warn(
                "egec: client {identifier} already exists with a different {field}: {given!r} given, {stored!r} stored",
                identifier=client.identifier,
                **one._asdict(),
            )
        record = records.load_record(client, local_moment(context))
        if not activate or record.status is not ClientStatus.NEW:
            _show(context, client, record, output, has_command=True)
            return
        # Imported here: what sends mail is loaded only to activate.
        from egec_cli.commands.activate import FirstMail, load_sent_text, report_sent, send_first
        from egec_cli.hashing import start_hash

        hashing = start_hash(context.settings)
        issued = None
        try:
            sent_text = load_sent_text(context, client)
            issued = send_first(context, client, hashing, is_new=is_new)
        finally:
            # The client exists even if the mail failed, and a script needs the identifier.
            client = records.find_client(client.identifier)
            record = records.load_record(client, local_moment(context))
            if output is OutputFormat.TABLE:
                _show(context, client, record, output, has_command=False)
            else:
                render(record._asdict() | FirstMail(issued)._asdict(), output)
        if output is OutputFormat.TABLE:
            report_sent(context, client, "" if is_for_terminal(output) else sent_text, issued)


def _note_others(client: Client) -> None:
    """Report who else has the e-mail of a new client: it may have been created by mistake."""
    others = [one.identifier for one in shared_emails.find_with_email(client.email_key or "") if one.id != client.id]
    if others:
        note("egec: other clients have this e-mail too: {identifiers}", identifiers=join_first(others))


def _show(context: Context, client: Client, record: ClientRecord, output: OutputFormat, *, has_command: bool) -> None:
    """Show a client, as a card at a terminal."""
    if is_for_terminal(output):
        # Imported here: only a terminal needs it.
        from egec_cli.commands.client_card import show_card

        show_card(context, client, has_command=has_command)
    else:
        render(record, output)
