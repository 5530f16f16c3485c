"""Clients who share an e-mail, for the tests of every part."""

from egec_cli.clients import fields, records
from egec_cli.context import Context
from egec_cli.store.models import Client

OFFICE = "office@example.org"


def with_sharing(context: Context, shared_email: bool = True) -> Context:
    """Return the context with EGEC_SHARED_EMAIL=yes, or no."""
    return context._replace(settings=context.settings._replace(shared_email=shared_email))


def create_sharers(context: Context, number: int = 2, email: str = OFFICE) -> list[Client]:
    """Create clients with one e-mail and the references D-1, D-2, ..."""
    sharing = with_sharing(context)
    return [
        records.create_client(sharing, fields.parse_fields(email, reference=f"D-{one}")) for one in range(1, number + 1)
    ]
