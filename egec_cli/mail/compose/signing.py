"""The signature of the sender's domain under each mail (DKIM, RFC 6376), where the mail server makes none.

dkimpy signs. This module is imported only where a key is set, so without one nobody pays for dkimpy or needs it. Where
that is not installed, the import raises `ConfigError`.
"""

import base64
import re
from typing import NamedTuple

from egec_cli.errors import ConfigError
from egec_cli.mail.compose.message import Mail
from egec_cli.mail.transports.interface import Reply, Transport
from egec_cli.password import Password
from egec_cli.settings.schema import DkimKey
from egec_cli.translation import Words

try:
    import dkim
    from dkim.crypto import UnparsableKeyError, parse_private_key
except ImportError:
    raise ConfigError(
        "EGEC_DKIM_KEY is set, but dkimpy is not installed, which signs",
        "Type: pip install 'egec[dkim]'. Or unset EGEC_DKIM_KEY where the mail server signs.",
    ) from None

# A header that is named once more than the mail has it cannot be added on the way, as a second From or a Reply-To
# (RFC 6376, 8.15).
_ONCE = ("From", "To", "Cc", "Reply-To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type")
_SIGNED = [name.encode() for name in (*_ONCE, *_ONCE, "Auto-Submitted")]
# RFC 8301, 3.2. Ed25519 (RFC 8463) is none that the large providers verify.
_FEWEST_BITS, FEWEST_GOOD_BITS, _MOST_BITS = 1024, 2048, 4096
_NEW_KEY = Words("Make one by: openssl genrsa -out dkim.pem {bits}", bits=FEWEST_GOOD_BITS)
_PROBE = b"From: a@example.org\r\n\r\nb\r\n"
# A string in the DNS has at most 255 octets; what is longer is written as several (RFC 6376, 3.6.2.2).
_LONGEST_STRING = 255


class Signer:
    """Signs mails by the key of one domain. Several threads may share it.

    Attributes:
        bits: of the key.
        name: that of the DNS record, by which receivers find the public half of the key.
        record: what is to stand there.
    """

    def __init__(self, dkim_key: DkimKey, domain: str) -> None:
        """Check the key, since one that is damaged would make signatures that are wrong.

        Args:
            dkim_key: as the settings have it.
            domain: that of the address in From: DMARC counts no other's signature.

        Raises:
            ConfigError: the key is none that mail servers verify.
        """
        self._key = _decoded(dkim_key.private)
        self._selector, self._domain = dkim_key.selector.encode(), domain.encode()
        public = _public_half(self._key)
        self.bits = public.modulus.bit_length()
        if not _FEWEST_BITS <= self.bits <= _MOST_BITS:
            raise _unfit(
                Words(
                    "has {bits} bits, and mail servers verify {fewest} to {most}",
                    bits=self.bits,
                    fewest=_FEWEST_BITS,
                    most=_MOST_BITS,
                ),
                _NEW_KEY,
            )
        self.name = f"{dkim_key.selector}._domainkey.{domain}"
        self.record = f"v=DKIM1; k=rsa; p={base64.b64encode(public.encoded()).decode()}"
        if not self._is_sound():
            raise _unfit(Words("is damaged: what it signs is not verified"), _NEW_KEY)

    def signed(self, content: bytes) -> bytes:
        """Return a finished message, whose lines end in CR LF, with its signature before it."""
        signature: bytes = dkim.sign(
            content,
            selector=self._selector,
            domain=self._domain,
            privkey=b"-----BEGIN-----\n" + base64.b64encode(self._key) + b"\n-----END-----",
            canonicalize=(b"relaxed", b"relaxed"),  # mail servers fold headers anew, and take blanks off lines
            include_headers=_SIGNED,
        )
        return signature + content

    def verifies(self, content: bytes) -> bool:
        """Tell whether a message has a signature that a receiver verifies who finds the record in the DNS."""
        name = f"{self.name}.".encode()
        return bool(dkim.verify(content, dnsfunc=lambda asked, timeout: self.record if asked == name else None))

    def zone_line(self) -> str:
        """Return the record as a line of a zone file."""
        strings = [self.record[at : at + _LONGEST_STRING] for at in range(0, len(self.record), _LONGEST_STRING)]
        return " ".join([f"{self.name}.", "TXT", *(f'"{one}"' for one in strings)])

    def _is_sound(self) -> bool:
        try:
            return self.verifies(self.signed(_PROBE))
        except (ValueError, ArithmeticError, AssertionError):
            # Of numbers that are no two primes and what belongs to them.
            return False


class SigningTransport:
    """A way for mail to leave on which each is signed."""

    def __init__(self, way: Transport, signer: Signer) -> None:
        self._way = way
        self._signer = signer

    def connect(self) -> None:
        """Connect as the way itself does."""
        self._way.connect()

    def deliver(self, mail: Mail) -> Reply:
        """Sign one mail and hand it over."""
        return self._way.deliver(mail._replace(content=self._signer.signed(mail.content)))

    def close(self) -> None:
        """Let go of the connection."""
        self._way.close()


def _decoded(key: Password) -> bytes:
    """Return the octets of a key in PEM form, whose lines may have become one (RFC 7468)."""
    label, body = re.findall(r"-----BEGIN ([A-Z ]+)-----(.+)-----END", key.reveal(), re.DOTALL)[0]
    if "ENCRYPTED" in f"{label}{body}":
        raise _unfit(Words("is encrypted"), Words("Take the passphrase off: openssl rsa -in OLD.pem -out dkim.pem"))
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except ValueError:
        raise _unfit(Words("is damaged: it is no base64"), _NEW_KEY) from None


class _PublicHalf(NamedTuple):
    modulus: int
    exponent: int

    def encoded(self) -> bytes:
        """Return it as the DNS has it: a SubjectPublicKeyInfo (RFC 5280, 4.1; RFC 8017, A.1)."""
        key = _der(0x30, _integer(self.modulus) + _integer(self.exponent))
        return _der(0x30, bytes.fromhex("300d06092a864886f70d0101010500") + _der(0x03, b"\0" + key))


def _public_half(key: bytes) -> _PublicHalf:
    try:
        parts = parse_private_key(key)
    except (UnparsableKeyError, AssertionError, LookupError):
        raise _unfit(Words("is no RSA key"), _NEW_KEY) from None
    return _PublicHalf(parts["modulus"], parts["publicExponent"])


def _integer(number: int) -> bytes:
    return _der(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _der(tag: int, content: bytes) -> bytes:
    """Return an element of ASN.1 (X.690, 8.1)."""
    size = len(content)
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, size] if size < 0x80 else [tag, 0x80 | len(octets), *octets]) + content


def _unfit(what: str, cure: str) -> ConfigError:
    return ConfigError("the key in EGEC_DKIM_KEY {what}", cure, what=what)
