"""What a mail server or a mail program says, without the password that it may quote from the message or the login.

A server may quote it in any way: as it is, over several lines, in quoted-printable, base64, hexadecimal, as in a URL or
in HTML. Nothing is cut out of such words: once there is any trace of the password in them, only the reply code and the
status code (RFC 3463) are kept. A trace is four of its characters in a row, or all of them in order with a few others
in between, in any case of letters, in the words or in what they decode to. That now and then harmless words are left
out costs little.
"""

import base64
import re
from collections.abc import Iterator
from html import unescape
from urllib.parse import unquote

from egec_cli.password import Password
from egec_cli.translation import Words

# More of a server's words helps nobody.
LONGEST = 600
# So many characters in a row are a trace, and so many others may stand between two of them where all are there.
_IN_A_ROW = 4
_MOST_BETWEEN = 8
# What is encoded may have been encoded before.
_MOST_LAYERS = 3
_CODES = re.compile(r"([2-5][0-9]{2})(?: ([245]\.[0-9]{1,3}\.[0-9]{1,3}))?(?= |$)")
_BASE64_RUN = re.compile(r"[A-Za-z0-9+/_-]{6,}")
_HEX_RUN = re.compile(r"(?:[0-9A-Fa-f]{2}[ :,-]?){4,}")
_SOFT_BREAK = re.compile(r"=\s+")
_HEX_MARK = re.compile(r"[ :,-]")
_QUOTED_PRINTABLE = re.compile(r"=([0-9A-Fa-f]{2})")
_BACKSLASHED = re.compile(r"\\(?:x|u00)([0-9A-Fa-f]{2})")
_MAY_BE_ENCODED = re.compile(
    r"[%=]\s*[0-9A-Fa-f]|=\s|&\s*[#A-Za-z]|\\\s*[xu]|(?:[A-Za-z0-9+/_-]\s*){6}|(?:[0-9A-Fa-f]\s*[0-9A-Fa-f][ :,-]?){4}"
)
_BETWEEN_RUNS = "\0" * (_MOST_BETWEEN + 1)


def without_secret(words: str, secret: Password) -> str:
    """Return a server's words, cut to a length; without any text where they have a trace of the secret.

    Of words made of a template and values, the values are looked at one by one.
    """
    if isinstance(words, Words):
        values = {
            name: without_secret(value, secret) if isinstance(value, str) else value
            for name, value in words.values.items()
        }
        return words if values == words.values else Words(words.template, **values)
    kept = words[:LONGEST]
    return _withheld(kept) if has_trace(kept, secret) else kept


def has_trace(text: str, secret: Password) -> bool:
    """Tell whether a text has a trace of the secret, in clear or in a common encoding."""
    clear = _squeezed(secret.reveal())
    if not clear:
        return False
    length = min(_IN_A_ROW, len(clear))
    rows = {clear[at : at + length] for at in range(len(clear) - length + 1)}
    squeezed = _squeezed(text)
    if any(_is_spread_over(squeezed, form) for form in _base64_forms(secret)):
        return True
    # One search through all of them, for this is done for each mail of a run.
    readings = _BETWEEN_RUNS.join(map(_squeezed, _readings(text)))
    return any(row in readings for row in rows) or _is_spread_over(readings, clear)


def _withheld(words: str) -> str:
    codes = _CODES.match(words)
    given = " ".join(code for code in codes.groups() if code) if codes else ""
    return f"{given} (text left out: it quotes the password)".strip()


def _squeezed(text: str) -> str:
    return "".join(text.split()).casefold()


def _readings(text: str) -> Iterator[str]:
    """Yield the text and what it decodes to, layer by layer."""
    yield text
    layer, seen = [text], {text}
    for _ in range(_MOST_LAYERS):
        layer = [decoded for one in layer if _MAY_BE_ENCODED.search(one) for decoded in _decoded(one)]
        layer = [one for one in dict.fromkeys(layer) if one not in seen]
        yield from layer
        seen.update(layer)


def _decoded(text: str) -> Iterator[str]:
    """Yield what a text decodes to in each encoding of which it has a sign."""
    joined = "".join(text.split())
    # A character may be cut in two by the end of a line, which has become a blank; it may also end an encoded part.
    for one in (text, joined):
        if "%" in one:
            yield unquote(one, encoding="latin-1")
        if "=" in one:
            yield _QUOTED_PRINTABLE.sub(_character, _SOFT_BREAK.sub("", one))
        if "&" in one:
            yield unescape(one)
        if "\\" in one:
            yield _BACKSLASHED.sub(_character, one)
        in_hex = _HEX_RUN.findall(one)
        if in_hex:
            yield _BETWEEN_RUNS.join(bytes.fromhex(_HEX_MARK.sub("", run)).decode("latin-1") for run in in_hex)
    runs = _BASE64_RUN.findall(joined)
    if runs:
        # Words before it may have become a part of a run, so it may begin anywhere in a group of four.
        for start in range(4):
            yield _BETWEEN_RUNS.join(_of_base64(run[start:]) for run in runs)


def _of_base64(run: str) -> str:
    rest = len(run) % 4
    # A group that is not whole holds the last characters all the same, but for a single one.
    padded = run + "=" * (4 - rest) if rest > 1 else run[: len(run) - rest]
    return base64.b64decode(padded.replace("-", "+").replace("_", "/")).decode("latin-1")


def _character(number: re.Match[str]) -> str:
    return chr(int(number[1], 16))


def _base64_forms(secret: Password) -> Iterator[str]:
    """Yield what base64 makes of the secret, whatever stands around it; in small letters, as what it is compared with.

    Where the case of letters is lost, nothing can be decoded.
    """
    clear = secret.reveal().encode()
    for before in range(3):
        whole = base64.b64encode(bytes(before) + clear).decode().rstrip("=")
        # The first and the last character may depend on what stands beside.
        form = whole[-(-before * 4 // 3) : (before + len(clear)) * 4 // 3]
        if len(form) >= 2 * _IN_A_ROW:
            yield form.casefold()


def _is_spread_over(text: str, wanted: str) -> bool:
    """Tell whether all characters of `wanted` are in the text in order, each soon after the one before it."""
    if any(character not in text for character in wanted):
        return False
    # Each is a set of places in the text, as the bits of a number.
    reached = _places(text, wanted[0])
    for character in wanted[1:]:
        near = 0
        for distance in range(1, _MOST_BETWEEN + 2):
            near |= reached << distance
        reached = near & _places(text, character)
        if not reached:
            return False
    return True


def _places(text: str, character: str) -> int:
    places = 0
    at = text.find(character)
    while at >= 0:
        places |= 1 << at
        at = text.find(character, at + 1)
    return places
