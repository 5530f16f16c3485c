"""The interface of all mail transports, the possible results of a delivery, and replies without passwords.

The reply of a server or a program may quote the message or the login, so a password: in clear, over several lines, in
quoted-printable, base64, hexadecimal, URL encoding or HTML. If it contains any trace of the password, only the reply
code and the status code (RFC 3463) are kept. A trace is four of its characters in a row (twelve of a long secret, such
as an access token), or all of them in order with a few others between. Case is ignored, and the decoded text counts
too. Losing a harmless reply now and then costs little.
"""

import base64
import re
import unicodedata
from collections.abc import Iterator
from enum import StrEnum
from html import unescape
from typing import NamedTuple, Protocol
from urllib.parse import unquote

from egec_cli.errors import EgecError, TemporaryFailure
from egec_cli.mail.compose.message import Mail
from egec_cli.password import Password
from egec_cli.translation import Words


class DeliveryOutcome(StrEnum):
    """The result of a delivery, as recorded in the database."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    IN_DOUBT = "in_doubt"


class Cause(StrEnum):
    """Why a mail server refused a mail, permanently or for now: what decides whether other mails would be refused too.

    `RECIPIENT`: only this recipient, also for now, as by greylisting. `THROTTLED`: we send too much or too fast.
    `CONNECTIONS`: too many connections; the others go on. `BLOCKED`: our sender, address or login. `UNREACHABLE`: no
    connection or no login. `DROPPED`: the connection was lost after the login, maybe because of this recipient.
    `UNCLEAR`: one of these; the answers for other recipients decide.
    """

    RECIPIENT = "recipient"
    THROTTLED = "throttled"
    CONNECTIONS = "connections"
    BLOCKED = "blocked"
    UNREACHABLE = "unreachable"
    DROPPED = "dropped"
    UNCLEAR = "unclear"


class Reply(NamedTuple):
    """The reply to an accepted mail, as one line of harmless characters."""

    text: str


class DeliveryRefused(Exception):
    """The mail was certainly not accepted.

    Attributes:
        error: the reason; its exit code is 65 for the address, 74 or 75 for a temporary failure, 77 or 78 for our
            configuration.
        reply: the server's text, if any.
        cause: whether other mails would be refused too; `RECIPIENT` also for an error in this mail.
    """

    def __init__(self, error: EgecError, reply: str | None = None, *, cause: Cause = Cause.RECIPIENT) -> None:
        super().__init__(error.message)
        self.error = error
        self.reply = reply
        self.cause = cause


class LoginSecretUnavailable(TemporaryFailure):
    """The program that prints the password or the token failed."""

    code = "login_secret_unavailable"


class LoginInterrupted(LoginSecretUnavailable):
    """The program was ended, because this process stops sending."""


class LoginTimedOut(LoginSecretUnavailable):
    """The program did not end in time."""


class DeliveryUnknown(Exception):
    """The mail was sent, at least in part, and may have been accepted; `words` give the reason."""

    def __init__(self, what: str, /, **values: object) -> None:
        self.words = Words(what, **values)
        super().__init__(self.words)


class Transport(Protocol):
    """Sends mails, for one thread at a time."""

    def connect(self) -> None:
        """Connect in advance, so that the next mail does not wait.

        Raises:
            DeliveryRefused: the transport cannot send at present.
        """

    def deliver(self, mail: Mail) -> Reply:
        """Send one mail; returns only if the mail was accepted.

        Raises:
            DeliveryRefused: the mail was certainly not accepted.
            DeliveryUnknown: the mail may have been accepted.
        """

    def close(self) -> None:
        """Close the connection; never raises."""


def to_one_line(answer: bytes | str) -> str:
    """Return a server's answer as one line without control characters."""
    text = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
    clean = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    return re.sub(" +", " ", clean).strip()


# The reply code (RFC 5321) and the enhanced status code (RFC 3463) at the start of a reply.
_CODES = re.compile(r"([2-5][0-9]{2})(?:[ -]([245]\.[0-9]{1,3}\.[0-9]{1,3}))?(?![\w.])")


class ReplyParts(NamedTuple):
    """A reply in parts: its code, its enhanced status code and the text after them; each may be empty."""

    code: str
    status: str
    text: str

    @property
    def codes(self) -> str:
        """Both codes, as in `550 5.1.1`."""
        return f"{self.code} {self.status}".strip()


def split_reply(reply: str) -> ReplyParts:
    """Split a reply that is one line."""
    found = _CODES.match(reply)
    return ReplyParts(found[1], found[2] or "", reply[found.end() :]) if found else ReplyParts("", "", reply)


# Exit codes of sysexits.h and of shells that no later attempt of a program changes.
MISCONFIGURED_EXIT_CODES = frozenset({64, 66, 72, 73, 76, 77, 78, 126, 127})
_ADDRESS = re.compile(r"<?[^\s<>]+@[^\s<>]+?>?(?=[\s:,;.]*(?:\s|$))")


def without_addresses(reply: str) -> str:
    """Return a server's reply with `…` for each address."""
    return _ADDRESS.sub("…", reply)


# Longer replies are of no more use.
LONGEST = 600
# A trace has `_IN_A_ROW` consecutive characters, or all of them with at most `_MOST_BETWEEN` others between two.
_IN_A_ROW = 4
# Nearly every reply contains four characters in a row of a secret longer than `_LONG`, such as a token.
_LONG = 64
_IN_A_ROW_OF_LONG = 12
_MOST_BETWEEN = 8
# Text may be encoded repeatedly.
_MOST_LAYERS = 3
_BASE64_RUN = re.compile(r"[A-Za-z0-9+/_-]{6,}")
_HEX_RUN = re.compile(r"(?:[0-9A-Fa-f]{2}[ :,-]?){4,}")
_SOFT_BREAK = re.compile(r"=\s+")
_HEX_MARK = re.compile(r"[ :,-]")
_QUOTED_PRINTABLE = re.compile(r"=([0-9A-Fa-f]{2})")
_BACKSLASHED = re.compile(r"\\(?:x|u00)([0-9A-Fa-f]{2})")
_MAY_BE_ENCODED = re.compile(
    r"[%=]\s*[0-9A-Fa-f]|=\s|&\s*[#A-Za-z]|\\\s*[xu]|(?:[A-Za-z0-9+/_-]\s*){6}|(?:[0-9A-Fa-f]\s*[0-9A-Fa-f][ :,-]?){4}"
)
_SEPARATOR = "\0" * (_MOST_BETWEEN + 1)


def without_secret(words: str, secret: Password) -> str:
    """Return a server's reply, cut to `LONGEST`, or only its codes if it has a trace of the secret.

    In `Words`, each value is checked separately.
    """
    if isinstance(words, Words):
        values = {
            name: without_secret(value, secret) if isinstance(value, str) else value
            for name, value in words.values.items()
        }
        return words if values == words.values else Words(words.template, **values)
    kept = words[:LONGEST]
    return _keep_codes(kept) if has_trace(kept, secret) else kept


def has_trace(text: str, secret: Password) -> bool:
    """Return whether a text has a trace of the secret, in clear or in a common encoding."""
    clear = _squeeze(secret.reveal())
    if not clear:
        return False
    length = min(_IN_A_ROW if len(clear) <= _LONG else _IN_A_ROW_OF_LONG, len(clear))
    rows = {clear[at : at + length] for at in range(len(clear) - length + 1)}
    squeezed = _squeeze(text)
    if any(_contains_in_order(squeezed, form) for form in _encode_base64_forms(secret)):
        return True
    # One search through all of them: this runs for each mail.
    readings = _SEPARATOR.join(map(_squeeze, _decode_layers(text)))
    return any(row in readings for row in rows) or _contains_in_order(readings, clear)


def _keep_codes(words: str) -> str:
    return f"{split_reply(words).codes} (text left out: it quotes the password or token)".strip()


def _squeeze(text: str) -> str:
    return "".join(text.split()).casefold()


def _decode_layers(text: str) -> Iterator[str]:
    """Yield the text and its decodings, layer by layer."""
    yield text
    layer, seen = [text], {text}
    for _ in range(_MOST_LAYERS):
        layer = [decoded for one in layer if _MAY_BE_ENCODED.search(one) for decoded in _decode(one)]
        layer = [one for one in dict.fromkeys(layer) if one not in seen]
        yield from layer
        seen.update(layer)


def _decode(text: str) -> Iterator[str]:
    """Yield the text decoded by each encoding of which it has a sign."""
    joined = "".join(text.split())
    # A line end, now a blank, may split an encoded character; it may also end an encoded part.
    for one in (text, joined):
        if "%" in one:
            yield unquote(one, encoding="latin-1")
        if "=" in one:
            yield _QUOTED_PRINTABLE.sub(_to_character, _SOFT_BREAK.sub("", one))
        if "&" in one:
            yield unescape(one)
        if "\\" in one:
            yield _BACKSLASHED.sub(_to_character, one)
        in_hex = _HEX_RUN.findall(one)
        if in_hex:
            yield _SEPARATOR.join(bytes.fromhex(_HEX_MARK.sub("", run)).decode("latin-1") for run in in_hex)
    runs = _BASE64_RUN.findall(joined)
    if runs:
        # The joined text before it may shift the start, so try each position in a group of four.
        for start in range(4):
            yield _SEPARATOR.join(_decode_base64(run[start:]) for run in runs)


def _decode_base64(run: str) -> str:
    rest = len(run) % 4
    # An incomplete group of 2 or 3 still encodes the last characters.
    padded = run + "=" * (4 - rest) if rest > 1 else run[: len(run) - rest]
    return base64.b64decode(padded.replace("-", "+").replace("_", "/")).decode("latin-1")


def _to_character(number: re.Match[str]) -> str:
    return chr(int(number[1], 16))


def _encode_base64_forms(secret: Password) -> Iterator[str]:
    """Yield the base64 forms of the secret at each offset, in lower case.

    They find base64 text that lost its case and cannot be decoded.
    """
    clear = secret.reveal().encode()
    for before in range(3):
        whole = base64.b64encode(bytes(before) + clear).decode().rstrip("=")
        # The first and the last character depend on the neighbouring text.
        form = whole[-(-before * 4 // 3) : (before + len(clear)) * 4 // 3]
        if len(form) >= 2 * _IN_A_ROW:
            yield form.casefold()


def _contains_in_order(text: str, wanted: str) -> bool:
    """Return whether the text has all characters of `wanted` in order, each near the previous one."""
    if any(character not in text for character in wanted):
        return False
    # Sets of places in the text, as the bits of an integer.
    reached = _find_places(text, wanted[0])
    for character in wanted[1:]:
        near = 0
        for distance in range(1, _MOST_BETWEEN + 2):
            near |= reached << distance
        reached = near & _find_places(text, character)
        if not reached:
            return False
    return True


def _find_places(text: str, character: str) -> int:
    places = 0
    at = text.find(character)
    while at >= 0:
        places |= 1 << at
        at = text.find(character, at + 1)
    return places
