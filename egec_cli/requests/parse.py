"""Read an activation request: an e-mail address and, if the portal knows it, the client's IP address.

The bytes come from the public. Nothing in them is an option, an identifier or a reference.
"""

from typing import NamedTuple

from egec_cli import email_address
from egec_cli.email_address import EmailAddress
from egec_cli.errors import ClientNotFound, InvalidInput
from egec_cli.logins.verify import trim
from egec_cli.origins import parse_network

# Longer than any valid request: 254 characters of an address (RFC 5321), and an IP address.
MOST_BYTES = 2048


class Request(NamedTuple):
    """A request for a new password.

    Attributes:
        email: of the client.
        network: the network that the request comes from; empty if unknown.
    """

    email: EmailAddress
    network: str


def parse_request(data: bytes) -> Request:
    """Return the request of one or two lines; white space around each is ignored.

    Args:
        data: what the portal passed, or its first `MOST_BYTES` + 1 bytes.

    Raises:
        ClientNotFound: the first line is not an e-mail address.
        InvalidInput: the second line is not an IP address, or there are more than two lines. Correct the portal.
    """
    email, separator, rest = data.partition(b"\n")
    origin, _, more = rest.partition(b"\n")
    if len(data) > MOST_BYTES:
        raise _invalid()
    if more.strip():
        # As at a login: line breaks that were typed must not replace the address that the portal knows.
        raise InvalidInput(
            "standard input has more than two lines",
            "Pass the e-mail and the client's IP address, and refuse line breaks within them.",
            code="invalid_origin",
        )
    try:
        email_text, origin_text = trim(email.decode()), trim(origin.decode())
        parsed = email_address.parse_email(email_text)
    except (UnicodeDecodeError, InvalidInput):
        # The text is not quoted: it comes from the public.
        raise _invalid() from None
    return Request(parsed, parse_network(origin_text) if separator and origin_text else "")


def _invalid() -> ClientNotFound:
    return ClientNotFound(
        "the request is not an e-mail address",
        "Pass one e-mail address on the first line, and the client's IP address or nothing on the second.",
        code="invalid_request",
    )
