"""Read messages from files, and the delivery reports among them: RFC 3464, or informal ones that flufl.bounce knows.

Strangers may send anything to the address that gets the reports. So any input gives a report or none, quoted text
becomes one line of harmless characters, and only the mark of a Message-ID, which strangers cannot guess, leads to a
credential.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from email import message_from_bytes
from email.message import Message
from email.utils import getaddresses
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from egec_cli.errors import InvalidInput
from egec_cli.mail.compose import headers
from egec_cli.mail.compose.headers import Mark
from egec_cli.mail.transports.interface import to_one_line
from egec_cli.password import LENGTH, Alphabet

# Reports end long before; the mail that they return may have any size.
MOST_BYTES = 500_000
# RFC 5322 allows 998. Longer lines only cost time in searches.
LONGEST_LINE = 1000
# The separator line of an mbox: a sender and an asctime(3) date.
_FROM_LINE = re.compile(rb"From .*[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}")
_FLAGS = ":2,"

# A real report is about one mail to one address; a forged one may name thousands.
_MOST_MARKS = 10
_MOST_PARTS = 100
# Real reports have a handful of each. The libraries take time in proportion to their number times the lines.
_MOST_BOUNDARIES = 20
_MOST_SEPARATORS = 1000
_MOST_RECIPIENTS = 100
_LONGEST_WORDS = 500
_LONGEST_ADDRESS = 254

# The second type is for non-ASCII addresses (RFC 6533).
_STATUS_TYPES = ("message/delivery-status", "message/global-delivery-status")
# RFC 3463; systems may define detail digits of their own.
_STATUS = re.compile(r"(?<![0-9.])([245])\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9.])")
_REPLY = re.compile(r"(?<![0-9.#])[45][0-9]{2}[- ]")
# The start of the returned mail in an informal report.
_RETURNED = re.compile(r"-{3,}|(?:return-path|received|from|to|subject|date|message-id|mime-version):", re.IGNORECASE)


class Incoming(NamedTuple):
    """A message with Unix line ends, and the file and line of its start."""

    file: str
    line: int
    content: bytes


def read_file(path: Path) -> Iterator[Incoming]:
    """Yield the messages of an mbox, or the one message of another file; an empty file has none."""
    with path.open("rb") as stream:
        yield from _split_messages(str(path), stream, is_mbox=stream.peek(5)[:5] == b"From ")


def read_stream(name: str, stream: BinaryIO) -> Iterator[Incoming]:
    """Yield the one message that a mail server pipes; a `From ` line may precede it."""
    yield from _split_messages(name, stream, is_mbox=False)


def is_maildir(folder: Path) -> bool:
    """Return whether a folder has the parts of a Maildir."""
    return (folder / "new").is_dir() and (folder / "cur").is_dir()


def read_maildir(folder: Path, *, move: bool = False) -> Iterator[Incoming]:
    """Yield the messages of a Maildir, the new ones first.

    Args:
        move: yield new messages only; move each to `cur`, marked as seen, when the next one is requested.

    Raises:
        InvalidInput: the folder is not a Maildir.
    """
    if not is_maildir(folder):
        raise InvalidInput(
            "{folder} is not a Maildir: folders new and cur are missing",
            "Name a Maildir, an mbox or a message.",
            folder=folder,
        )
    for part in ("new",) if move else ("new", "cur"):
        for name in sorted(os.listdir(folder / part)):
            path = folder / part / name
            if name.startswith(".") or not path.is_file() or path.is_symlink():
                continue
            # Another program may have moved or deleted the file.
            with suppress(FileNotFoundError), path.open("rb") as stream:
                yield from _split_messages(str(path), stream, is_mbox=False)
            if move:
                with suppress(FileNotFoundError):
                    path.rename(folder / "cur" / (name if _FLAGS in name else f"{name}{_FLAGS}S"))


def _split_messages(name: str, stream: BinaryIO, *, is_mbox: bool) -> Iterator[Incoming]:
    kept: list[bytes] = []
    first, size = 1, 0
    after_empty_line = True
    for number, line in _read_lines(stream):
        if after_empty_line and line.startswith(b"From ") and (number == 1 or (is_mbox and _FROM_LINE.match(line))):
            if size:
                yield Incoming(name, first, b"".join(kept))
            first, kept, size = number, [], 0
        elif size < MOST_BYTES and (size or line.strip()):
            kept.append(line)
            size += len(line)
        after_empty_line = line == b"\n"
    if size:
        yield Incoming(name, first, b"".join(kept))


def _read_lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield the lines with their numbers, cut to `LONGEST_LINE`."""
    number, is_rest = 0, False
    while piece := stream.readline(LONGEST_LINE):
        is_end = piece.endswith(b"\n")
        if not is_rest:
            number += 1
            yield number, piece.rstrip(b"\r\n") + b"\n"
        is_rest = not is_end


class DeliveryStatus(StrEnum):
    """What a report says about a mail."""

    FAILED = "failed"
    DELAYED = "delayed"
    NO_FAILURE = "no_failure"


class Report(NamedTuple):
    """The content of a message; all texts may be empty.

    Attributes:
        delivery: `NO_FAILURE` also if the message is not a delivery report.
        address: the recipient that the mail did not reach, as written in the report.
        status: the code of RFC 3463, such as `5.1.1`.
        words: the text of the server that refused the mail, as one line of harmless characters.
        marks: all marks in the message; they identify the credential.
    """

    delivery: DeliveryStatus
    address: str = ""
    status: str = ""
    words: str = ""
    marks: Sequence[Mark] = ()


def read_report(content: bytes) -> Report:
    """Parse a message; never raises, whatever the bytes are."""
    if _is_excessive(content):
        return Report(DeliveryStatus.NO_FAILURE)
    try:
        message = message_from_bytes(content)
        parts = list(islice(message.walk(), _MOST_PARTS))
        report = _parse_fields(parts) or _parse_informal(message, parts)
        return report._replace(marks=_find_marks(content, parts)) if report else Report(DeliveryStatus.NO_FAILURE)
    except Exception:  # noqa: BLE001 - hostile bytes may raise anything in the libraries
        return Report(DeliveryStatus.NO_FAILURE)


def _is_excessive(content: bytes) -> bool:
    """Return whether a message has more or deeper nested parts than any real report."""
    return content.lower().count(b"boundary") > _MOST_BOUNDARIES or content.count(b"\n--") > _MOST_SEPARATORS


def mask_passwords(text: str, alphabet: Alphabet) -> str:
    """Replace each run of characters that may contain a password by `*********`: a report may quote the mail."""

    def mask(run: re.Match[str]) -> str:
        windows = (run[0][first : first + LENGTH] for first in range(len(run[0]) - LENGTH + 1))
        return "*" * LENGTH if any(map(alphabet.satisfied_by, windows)) else run[0]

    # Quoted-printable writes = as =3D.
    return re.sub(rf"[A-Za-z0-9{re.escape(alphabet.specials)}]{{{LENGTH},}}", mask, text.replace("=3D", "="))


def _find_marks(content: bytes, parts: Sequence[Message]) -> list[Mark]:
    """Return the first marks of the raw message, then those of its encoded parts."""
    found: dict[Mark, None] = {}
    for text in (content, *(part.get_payload(decode=True) for part in parts if "Content-Transfer-Encoding" in part)):
        if isinstance(text, bytes):
            found |= dict.fromkeys(islice(headers.find_marks(text), _MOST_MARKS))
    return list(found)[:_MOST_MARKS]


def _parse_fields(parts: Sequence[Message]) -> Report | None:
    """Read the machine-readable fields (RFC 3464) of the recipient with the worst result."""
    blocks = (block for part in parts if part.get_content_type() in _STATUS_TYPES for block in _split_blocks(part))
    recipients = [found for block in islice(blocks, _MOST_RECIPIENTS) if (found := _parse_recipient(block)) is not None]
    return min(recipients, key=lambda one: list(DeliveryStatus).index(one.delivery), default=None)


def _split_blocks(part: Message) -> Iterator[Message]:
    """Yield the blocks of fields. The standard library splits one of the two types and parses the other as a mail."""
    payload: Any = part.get_payload()
    for block in payload if isinstance(payload, list) else ():
        yield block
        rest = block.get_payload(decode=True)
        if isinstance(rest, bytes):
            yield from (message_from_bytes(fields) for fields in re.split(rb"\n\s*\n", rest) if fields.strip())


def _parse_recipient(block: Message) -> Report | None:
    """Return the report on one recipient; None if the block does not name one."""
    action, status = _read_field(block, "action").lower(), _read_field(block, "status")
    if not (action or "Final-Recipient" in block or "Original-Recipient" in block):
        return None
    code = _STATUS.search(status)
    # Examples: `rfc822; jeanne@example.org` and `smtp; 550 5.1.1 no such user`.
    address = _read_field(block, "original-recipient") or _read_field(block, "final-recipient")
    words = re.sub(r"^\s*[A-Za-z0-9-]+\s*;\s*", "", _read_field(block, "diagnostic-code"))
    return Report(
        _classify(action, code[1] if code else ""),
        address.rpartition(";")[2].strip(" <>")[:_LONGEST_ADDRESS],
        code[0] if code else "",
        words[:_LONGEST_WORDS],
    )


def _classify(action: str, status_class: str) -> DeliveryStatus:
    # A mail that was tried for days has the action `failed` and the status 4.4.7. OpenSMTPD writes `error`.
    if action.startswith(("fail", "error")):
        return DeliveryStatus.FAILED
    if action.startswith("delayed"):
        return DeliveryStatus.DELAYED
    if action:
        return DeliveryStatus.NO_FAILURE
    return {"5": DeliveryStatus.FAILED, "4": DeliveryStatus.DELAYED}.get(status_class, DeliveryStatus.NO_FAILURE)


def _read_field(block: Message, name: str) -> str:
    # `get` would replace non-ASCII bytes by question marks.
    value = next((value for field, value in block.raw_items() if field.lower() == name), "")
    return to_one_line(str(value).encode(errors="surrogateescape"))


def _parse_informal(message: Message, parts: Sequence[Message]) -> Report | None:
    """Read an informal report; None if flufl.bounce does not recognise the message."""
    # Imported here: most reports have machine-readable fields.
    import logging

    from flufl.bounce import all_failures

    # Its complaints about hostile messages do not concern the operator.
    logging.getLogger("flufl.bounce").disabled = True
    if not getaddresses([str(message.get("From", ""))]):
        # flufl.bounce recognises some reports by their sender and fails without one.
        del message["From"]
        message["From"] = "MAILER-DAEMON"
    delayed, failed = all_failures(message)
    if not (delayed or failed):
        return None
    address = min(failed or delayed).decode(errors="replace")
    words = _find_reply(parts)
    status = _STATUS.search(words)
    return Report(
        DeliveryStatus.FAILED if failed else DeliveryStatus.DELAYED,
        to_one_line(address)[:_LONGEST_ADDRESS],
        status[0] if status else "",
        words,
    )


def _find_reply(parts: Sequence[Message]) -> str:
    """Return the first line with a mail server's code, above the returned mail; may be empty."""
    for part in parts:
        text = part.get_payload(decode=True) if part.get_content_type() == "text/plain" else None
        if not isinstance(text, bytes):
            continue
        for line in text.decode(errors="replace").splitlines():
            clean = to_one_line(line)
            if _RETURNED.match(clean):
                break
            if _STATUS.search(clean) or _REPLY.search(clean):
                return clean[:_LONGEST_WORDS]
    return ""
