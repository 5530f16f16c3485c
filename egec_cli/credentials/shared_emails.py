"""E-mails that several clients share: which they are, and what forbids or names them.

With EGEC_SHARED_EMAIL=no the database itself refuses a second client with an e-mail: new ones get `email_share` 0, and
an e-mail has each number once. A number above 0 alone does not mean that an e-mail is shared, because the others may
have been erased since.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from egec_cli.context import Context
from egec_cli.errors import ConfigError
from egec_cli.store import peewee
from egec_cli.store.models import Client
from egec_cli.store.sql import fetch_tuples, in_list
from egec_cli.translation import Words, join_first, join_words

# Of the shared e-mails, the number that an error lists.
MOST_LISTED = 10
FIX = Words(
    "Set EGEC_SHARED_EMAIL=yes, or give each client an e-mail of its own:"
    " `egec client update IDENTIFIER --email ADDRESS`."
)
# A literal, for the partial index of these clients.
_HAS_NUMBER = Client.email_share > peewee.SQL("0")


class SharedEmail(NamedTuple):
    """An e-mail that several clients have, and their identifiers."""

    email: str
    identifiers: Sequence[str]


def is_shared() -> Any:
    """Return the condition that another client has the same e-mail."""
    other = Client.alias()
    return peewee.fn.EXISTS(
        other.select(other.id).where((other.email_key == Client.email_key) & (other.id != Client.id))
    )


def have_numbers() -> bool:
    """Return whether a client has an `email_share` above 0, so that a free number does not prove a free e-mail."""
    return bool(Client.select(Client.id).where(_HAS_NUMBER).limit(1).exists())


def find_with_email(email_key: str) -> Sequence[Client]:
    """Return the clients who have an e-mail, the first one first."""
    return list(Client.select().where(Client.email_key == email_key).order_by(Client.email_share))


def next_number(email_key: str) -> int:
    """Return the `email_share` of a further client with an e-mail; 0 for the first.

    Another process may take it before: the database then refuses the second one.
    """
    highest = Client.select(peewee.fn.MAX(Client.email_share)).where(Client.email_key == email_key).scalar()
    return 0 if highest is None else int(highest) + 1


def next_numbers(email_keys: Sequence[str]) -> list[int]:
    """Return the `email_share` of each of several further clients with these e-mails, as `next_number` does."""
    query = Client.select(Client.email_key, peewee.fn.MAX(Client.email_share)).where(
        in_list(Client.email_key, email_keys)
    )
    highest = dict(fetch_tuples(query.group_by(Client.email_key)))
    numbers = []
    for email_key in email_keys:
        highest[email_key] = highest.get(email_key, -1) + 1
        numbers.append(highest[email_key])
    return numbers


def copy_marks(clients: Sequence[int]) -> None:
    """Copy the bounce mark of an e-mail to clients, given by their keys, who have just got it.

    A mark is about an address, so all clients who have it have the mark: it is set and cleared at all of them.
    """
    other = Client.alias()
    mark = other.select(peewee.fn.MAX(other.email_bounced_at)).where(other.email_key == Client.email_key)
    Client.update(email_bounced_at=mark).where(in_list(Client.id, clients)).execute()


def count_shared() -> int:
    """Count the e-mails that several clients have."""
    number: int = _shared_keys().count()
    return number


def list_shared() -> list[SharedEmail]:
    """Return the first e-mails that several clients have, in alphabetical order."""
    keys = [key for (key,) in fetch_tuples(_shared_keys().order_by(Client.email_key).limit(MOST_LISTED))]
    query = Client.select(Client.email_key, Client.identifier).where(in_list(Client.email_key, keys))
    found: dict[str, list[str]] = {}
    for email_key, identifier in fetch_tuples(query.order_by(Client.email_key, Client.email_share)):
        found.setdefault(email_key, []).append(identifier)
    return [SharedEmail(*one) for one in found.items()]


def _shared_keys() -> Any:
    return Client.select(Client.email_key).where(_HAS_NUMBER & is_shared()).distinct()


def require_allowed(context: Context, *, names_them: bool = True) -> None:
    """Raise an error if clients share an e-mail although EGEC_SHARED_EMAIL is no.

    Args:
        names_them: list the e-mails; not where the log of a portal would keep them.

    Raises:
        ConfigError: they do.
    """
    if not context.settings.shared_email and _shared_keys().exists():
        raise _forbidden_error(names_them=names_them)


def _forbidden_error(*, names_them: bool = True) -> ConfigError:
    """Return the error for shared e-mails although EGEC_SHARED_EMAIL is no."""
    message = Words(
        "clients share an e-mail although EGEC_SHARED_EMAIL is no; shared e-mails: {number}", number=count_shared()
    )
    if not names_them:
        return ConfigError(
            message, "Set EGEC_SHARED_EMAIL=yes. `egec doctor` lists these clients.", code="email_shared"
        )
    lines = [
        Words("  {email}: {identifiers}", email=one.email, identifiers=join_first(one.identifiers))
        for one in list_shared()
    ]
    return ConfigError(join_words("\n", [message, *lines]), FIX, code="email_shared")


def name_record(reference: str | None, name: str, identifier: str) -> str:
    """Return how a mail to a shared address names the client: by the reference, or else the name or the identifier."""
    return reference or name or identifier


def find_record_name(client: Client, name: str) -> str:
    """Return how a mail names the client if others have the same e-mail; empty if none has.

    Args:
        name: how the mail greets the client.
    """
    if not Client.select(Client.id).where((Client.id == client.id) & is_shared()).exists():
        return ""
    return name_record(client.reference, name, client.identifier)
