"""Find the one client whose name or e-mail contains what an operator typed; with several matches, never guess."""

from egec_cli import email_address, identifier
from egec_cli.clients import fields, records
from egec_cli.clients.records import MOST_LISTED, AmbiguousClient
from egec_cli.errors import InvalidInput
from egec_cli.store.models import Client
from egec_cli.store.sql import contains_text
from egec_cli.translation import Words


def find_by_part(text: str) -> Client | None:
    """Return the only client whose names and e-mail contain each word of a text, in any case; None without a match.

    A complete key, such as an identifier or an e-mail, is never taken for a part: it may be mistyped.

    Raises:
        AmbiguousClient: several clients match.
    """
    wanted = records.clean_key(text)
    words = fields.normalize(wanted).split()
    if not words or "\0" in wanted or _is_complete_key(wanted):
        return None
    conditions = [
        contains_text(Client.first_name, word)
        | contains_text(Client.last_name, word)
        | contains_text(Client.email, word)
        for word in words
    ]
    query = Client.select().where(Client.email.is_null(False), *conditions)
    found = list(query.order_by(Client.last_name, Client.first_name, Client.id).limit(MOST_LISTED))
    if len(found) > 1:
        raise AmbiguousClient(
            Words(
                "{wanted!r} matches {number} clients",
                wanted=wanted,
                number=len(found) if len(found) < MOST_LISTED else query.count(),
            ),
            Words("Type the identifier of one of them, or more words."),
            found,
        )
    return found[0] if found else None


def _is_complete_key(wanted: str) -> bool:
    if wanted.startswith(records.REFERENCE_PREFIX) or identifier.is_identifier(wanted):
        return True
    if "@" not in wanted:
        return False
    try:
        email_address.parse_email(wanted)
    except InvalidInput:
        return False
    return True


def describe_client(client: Client) -> str:
    """Return a client in words: `M. Marc PETIT, marc@example.org, 5079512743`."""
    name = " ".join(filter(None, (client.civility, client.first_name, client.last_name)))
    return ", ".join(filter(None, (name, client.email, client.identifier)))
