"""Sign mails for the sender's domain (DKIM, RFC 6376), if the mail server does not do it.

This module needs dkimpy, and its import raises `ConfigError` without it. So it is imported only if a key is set.
"""

import base64
import re
from typing import NamedTuple

from egec_cli.errors import ConfigError
from egec_cli.password import Password
from egec_cli.settings.types import DkimKey
from egec_cli.translation import Words

try:
    import dkim
    from dkim.crypto import UnparsableKeyError, parse_private_key
except ImportError:
    raise ConfigError(
        "EGEC_DKIM_KEY is set, but dkimpy is not installed",
        "Type: pip install 'egec[dkim]'. Or unset EGEC_DKIM_KEY if the mail server signs.",
    ) from None

# Naming a header once more than it occurs prevents others from adding one, such as a second From (RFC 6376, 8.15).
_ONCE = ("From", "To", "Cc", "Reply-To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type")
_SIGNED = [name.encode() for name in (*_ONCE, *_ONCE, "Auto-Submitted")]
# RFC 8301, 3.2. The large providers do not verify Ed25519 (RFC 8463).
_FEWEST_BITS, FEWEST_GOOD_BITS, _MOST_BITS = 1024, 2048, 4096
_NEW_KEY = Words("Create a key: openssl genrsa -out dkim.pem {bits}", bits=FEWEST_GOOD_BITS)
_PROBE = b"From: a@example.org\r\n\r\nb\r\n"
# A DNS string has at most 255 octets; longer records have several (RFC 6376, 3.6.2.2).
_LONGEST_STRING = 255


class Signer:
    """Signs mails with the key of one domain. Threads may share it.

    Attributes:
        bits: the size of the key.
        name: the name of the DNS record with the public key.
        record: the content of that record.
    """

    def __init__(self, dkim_key: DkimKey, domain: str) -> None:
        """Check the key: a damaged one would produce wrong signatures.

        Args:
            dkim_key: the key and its selector.
            domain: the domain of the address in From, because DMARC ignores signatures of others.

        Raises:
            ConfigError: mail servers would not verify signatures of this key.
        """
        self._key = _decode_pem(dkim_key.private)
        self._selector, self._domain = dkim_key.selector.encode(), domain.encode()
        public = _read_public_key(self._key)
        self.bits = public.modulus.bit_length()
        if not _FEWEST_BITS <= self.bits <= _MOST_BITS:
            raise _invalid_key(
                Words(
                    "has {bits} bits, and mail servers verify {fewest} to {most}",
                    bits=self.bits,
                    fewest=_FEWEST_BITS,
                    most=_MOST_BITS,
                ),
                _NEW_KEY,
            )
        self.name = f"{dkim_key.selector}._domainkey.{domain}"
        self.record = f"v=DKIM1; k=rsa; p={base64.b64encode(public.encode()).decode()}"
        if not self._is_sound():
            raise _invalid_key(Words("is damaged: its signatures are invalid"), _NEW_KEY)

    def sign(self, content: bytes) -> bytes:
        """Prepend the signature to a finished message with CR LF line ends."""
        signature: bytes = dkim.sign(
            content,
            selector=self._selector,
            domain=self._domain,
            privkey=b"-----BEGIN-----\n" + base64.b64encode(self._key) + b"\n-----END-----",
            canonicalize=(b"relaxed", b"relaxed"),  # mail servers refold headers and strip blanks
            include_headers=_SIGNED,
        )
        return signature + content

    def verifies(self, content: bytes) -> bool:
        """Return whether a receiver that finds `record` in the DNS accepts the signature of a message."""
        name = f"{self.name}.".encode()
        return bool(dkim.verify(content, dnsfunc=lambda asked, timeout: self.record if asked == name else None))

    def zone_line(self) -> str:
        """Return the record as a line of a zone file."""
        strings = [self.record[at : at + _LONGEST_STRING] for at in range(0, len(self.record), _LONGEST_STRING)]
        return " ".join([f"{self.name}.", "TXT", *(f'"{one}"' for one in strings)])

    def _is_sound(self) -> bool:
        try:
            return self.verifies(self.sign(_PROBE))
        except (ValueError, ArithmeticError, AssertionError):
            # The numbers of the key do not fit together.
            return False


def _decode_pem(key: Password) -> bytes:
    """Return the octets of a PEM key (RFC 7468), also if its lines were joined."""
    label, body = re.findall(r"-----BEGIN ([A-Z ]+)-----(.+)-----END", key.reveal(), re.DOTALL)[0]
    if "ENCRYPTED" in f"{label}{body}":
        raise _invalid_key(Words("is encrypted"), Words("Remove the passphrase: openssl rsa -in OLD.pem -out dkim.pem"))
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except ValueError:
        raise _invalid_key(Words("is damaged: invalid base64"), _NEW_KEY) from None


class _PublicKey(NamedTuple):
    modulus: int
    exponent: int

    def encode(self) -> bytes:
        """Return the SubjectPublicKeyInfo for the DNS (RFC 5280, 4.1; RFC 8017, A.1)."""
        key = _encode_der(0x30, _encode_integer(self.modulus) + _encode_integer(self.exponent))
        return _encode_der(0x30, bytes.fromhex("300d06092a864886f70d0101010500") + _encode_der(0x03, b"\0" + key))


def _read_public_key(key: bytes) -> _PublicKey:
    try:
        parts = parse_private_key(key)
    except (UnparsableKeyError, AssertionError, LookupError):
        raise _invalid_key(Words("is not an RSA key"), _NEW_KEY) from None
    return _PublicKey(parts["modulus"], parts["publicExponent"])


def _encode_integer(number: int) -> bytes:
    return _encode_der(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _encode_der(tag: int, content: bytes) -> bytes:
    """Encode an ASN.1 element (X.690, 8.1)."""
    size = len(content)
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, size] if size < 0x80 else [tag, 0x80 | len(octets), *octets]) + content


def _invalid_key(what: str, fix: str) -> ConfigError:
    return ConfigError("the key in EGEC_DKIM_KEY {what}", fix, what=what)
