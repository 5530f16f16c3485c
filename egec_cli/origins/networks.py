"""The network of an address, and its keyed hash: the database and the audit log hold no addresses.

The key is made at first use and kept in the table `installation`. Without it, no one can find the address
behind a hash in a log or an export by trying all addresses. Someone who has the whole database has the key too.
"""

import os

from egec_cli.context import Context
from egec_cli.errors import InvalidInput
from egec_cli.store.models import Installation
from egec_cli.store.sql import fetch_tuples

# Providers give a household or a firm at least such a network, so a single address would be easy to change.
_IPV4_PREFIX, _IPV6_PREFIX = 24, 64
_KEY_NAME = "origin_key"
_KEY_BYTES = 32
_HASH_BYTES = 6
# Much longer than any address or host name.
_LONGEST_NAME = 255


def parse_network(text: str) -> str:
    """Return the network of an IP address, such as `192.0.2.0/24` or `2001:db8::/64`.

    An IPv4 address in IPv6 form (`::ffff:192.0.2.7`) counts as IPv4.

    Raises:
        InvalidInput: the text is not an IP address.
    """
    # Imported here: a login without an origin does not need it.
    import ipaddress

    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise InvalidInput(
            "the origin is not an IP address",
            "Pass the address of the client alone, such as 192.0.2.7 or 2001:db8::7, without a port or a name.",
            code="invalid_origin",
        ) from None
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        if mapped is None:
            # By number: an address may have a zone (fe80::1%eth0), a network may not.
            return str(ipaddress.ip_network((int(address), _IPV6_PREFIX), strict=False))
        address = mapped
    return str(ipaddress.ip_network((int(address), _IPV4_PREFIX), strict=False))


def parse_network_or_name(text: str) -> str:
    """Return the network of an IP address; another text, such as the host name that PAM may have, counts as it is."""
    try:
        return parse_network(text)
    except InvalidInput:
        return text[:_LONGEST_NAME].casefold()


def hash_text(context: Context, text: str) -> str:
    """Return the keyed hash of a network or another text, as 12 hexadecimal digits."""
    # Imported here: a login without an origin does not need it.
    from hashlib import blake2b

    data = text.encode(errors="replace")
    return blake2b(data, key=_load_key(context), digest_size=_HASH_BYTES).hexdigest()


def _load_key(context: Context) -> bytes:
    found = _find_key()
    if found is None:
        with context.database.atomic():
            made = os.urandom(_KEY_BYTES).hex()
            # Another process may do the same at this moment; the first key stays.
            Installation.insert(name=_KEY_NAME, value=made).on_conflict_ignore().execute()
        found = _find_key()
    return bytes.fromhex(found or "")


def _find_key() -> str | None:
    query = Installation.select(Installation.value).where(Installation.name == _KEY_NAME)
    return next((value for (value,) in fetch_tuples(query)), None)
