"""`egec client`: create, import and show; the other commands on client files have modules of their own."""

from pathlib import Path
from typing import Annotated

import typer

from egec_cli.accounts import clients, fields
from egec_cli.accounts.clients import Status
from egec_cli.accounts.import_options import Given, OnConflict, TableKind
from egec_cli.clock import rfc3339_or_none
from egec_cli.commands import client_changes, client_listing
from egec_cli.commands.options import ClientArgument, FieldsOption, OutputOption, names
from egec_cli.commands.session import opened, read_settings
from egec_cli.errors import EgecError
from egec_cli.show import OutputFormat, note, say, show, show_all

app = typer.Typer(help="Create, import, show, list, export, change and erase client files.")


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
        bool, typer.Option("--if-missing", help="Show the client who has this e-mail already; exit code 0.")
    ] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Create a client's file; the identifier that it gets never changes."""
    checked = fields.checked(
        email,
        given_identifier=identifier,
        reference=reference,
        civility=civility,
        first_name=first_name,
        last_name=last_name,
        language=language,
    )
    with opened(read_settings(), create=True) as egec:
        client = clients.create(egec, checked, if_missing=if_missing)
        record = clients.shown(client, egec.clock())
        if not activate or record.status is not Status.NEW:
            show(record, output)
            return
        # Only what activates loads what mails.
        from egec_cli import hashing
        from egec_cli.commands import activation

        hash_under_way = hashing.begin(egec.settings)
        if output is OutputFormat.TABLE:
            show(record, output)
            words = activation.words_for(egec, client)
            activation.tell(egec, words, activation.send_first(egec, client, hash_under_way))
            return
        try:
            issued = activation.send_first(egec, client, hash_under_way)
        except EgecError:
            # The file is there all the same, and a script wants to know its identifier.
            show(record._asdict() | {"activation": None}, output)
            raise
        record = clients.shown(clients.find(client.identifier), egec.clock())
        show(record._asdict() | {"activation": issued._asdict()}, output)


@app.command("import", epilog="Example: egec client import clients.csv --on-conflict update --rejects rejects.csv")
def import_command(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="CSV, TSV or JSON Lines; - for standard input.")],
    on_conflict: Annotated[
        OnConflict, typer.Option("--on-conflict", help="What to do with a client who is there with other data.")
    ] = OnConflict.FAIL,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Take all rows or none.")] = False,
    rejects: Annotated[
        Path | None, typer.Option("--rejects", metavar="FILE", help="Write the rejected rows there, with the reason.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option("--map", metavar="COLUMN=FIELD", help="Which field a column stands for.")
    ] = None,
    kind: Annotated[TableKind | None, typer.Option("--input", help="What the file is, if not found by itself.")] = None,
    encoding: Annotated[str, typer.Option("--encoding", help="Of the file, such as utf-8 or windows-1252.")] = "",
    delimiter: Annotated[str, typer.Option("--delimiter", help="What stands between two cells: ; , tab …")] = "",
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Make client files of the rows of a table, or bring them up to date."""
    # Imported here: no other command reads tables.
    from egec_cli.commands import client_import

    client_import.run(
        file,
        Given(kind, encoding, client_import.delimiter(delimiter), client_import.columns(column or [])),
        on_conflict=on_conflict,
        strict=strict,
        dry_run=dry_run,
        rejects=rejects,
        output=output,
    )


@app.command("show", epilog="Example: egec client show jeanne@example.org --format json")
def show_command(
    client: ClientArgument,
    full: Annotated[bool, typer.Option("--full", help="The whole story, rather than the last of it.")] = False,
    fields: FieldsOption = "",
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Show a client's file and its story: how it came about, its changes, mails and logins."""
    # Imported here: no other command tells stories.
    from egec_cli.accounts import login_limits, mails, story

    with opened() as egec:
        found = clients.find(client)
        record = clients.shown(found, egec.clock())
        limits = login_limits.shown(found, egec.clock())
        bounced = {"email_bounced_at": rfc3339_or_none(found.email_bounced_at)}
        told = story.of(egec, found, most=None if full else story.LAST)
        if output is not OutputFormat.TABLE or fields:
            last_mails = mails.last_of(egec, found, most=None if full else mails.LAST)
            more = {
                "mails": [mail._asdict() for mail in last_mails],
                "story": [entry._asdict() for entry in told.entries],
            }
            show(record._asdict() | limits._asdict() | bounced | more, output, names(fields))
        else:
            more = (limits._asdict() if any(limits) else {}) | (bounced if any(bounced.values()) else {})
            show(record._asdict() | more, output)
            say("")
            show_all(told.entries, story.StoryEntry, output)
        if record.email is None:
            note(f"egec: client {record.identifier} was erased")
        if told.is_cut:
            note("egec: what came before is left out; --full shows it")


app.add_typer(client_listing.app)
app.add_typer(client_changes.app)
