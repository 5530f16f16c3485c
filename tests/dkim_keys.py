"""Signing keys as openssl makes them, and a receiver that verifies signatures."""

import functools
import re
from collections.abc import Mapping

import dkim
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

SELECTOR = "mail2026"


@functools.cache
def key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return an RSA key, the same for each size."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def pem(bits: int = 2048, form: PrivateFormat = PrivateFormat.PKCS8) -> str:
    """Return the key in PEM form."""
    return key(bits).private_bytes(Encoding.PEM, form, NoEncryption()).decode()


def environment(private: str | None = None) -> dict[str, str]:
    """Return the settings for signing with this key, or with one of 2048 bits."""
    return {"EGEC_DKIM_KEY": private or pem(), "EGEC_DKIM_SELECTOR": SELECTOR}


def zone(detail: str) -> dict[str, str]:
    """Return the DNS record at the end of a text, by its absolute name."""
    found = re.search(r'(\S+\.) TXT ((?:"[^"]{0,255}" ?)+)$', detail)
    assert found is not None, detail
    return {found[1]: "".join(re.findall('"([^"]*)"', found[2]))}


def is_verified(content: bytes, records: Mapping[str, str]) -> bool:
    """Return whether a receiver with these DNS records accepts the signature of a mail."""
    return bool(dkim.verify(content, dnsfunc=lambda name, timeout: records.get(name.decode())))
