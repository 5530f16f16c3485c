"""What a delivery report says: RFC 3464, and the informal ones that flufl.bounce knows.

Anybody may send anything to the address that gets the reports, so nothing here believes what it reads: whatever it is,
it is a report or none, its words come out as one line of harmless characters, and only a mark of a Message-ID, which
strangers cannot guess, leads to a credential.
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
from egec_cli.mail.compose import message_ids
from egec_cli.mail.compose.message_ids import Mark
from egec_cli.mail.transports.interface import to_one_line
from egec_cli.password import LENGTH, Alphabet

# A report is of one mail to one address; a forged one may name as many as it has room for.
_MOST_MARKS = 10
_MOST_PARTS = 100
# A report has a handful of both; the time of the libraries grows with each, times the lines of the message.
_MOST_BOUNDARIES = 20
_MOST_SEPARATORS = 1000
_MOST_RECIPIENTS = 100
_LONGEST_WORDS = 500
_LONGEST_ADDRESS = 254

# RFC 6533 has the second one, for addresses beyond ASCII.
_STATUS_TYPES = ("message/delivery-status", "message/global-delivery-status")
# RFC 3463; the last digits are of systems of their own.
_STATUS = re.compile(r"(?<![0-9.])([245])\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9.])")
_REPLY = re.compile(r"(?<![0-9.#])[45][0-9]{2}[- ]")
# Where an informal report ends, and the mail that it returns begins.
_RETURNED = re.compile(r"-{3,}|(?:return-path|received|from|to|subject|date|message-id|mime-version):", re.IGNORECASE)


class DeliveryStatus(StrEnum):
    """What a report tells of a mail."""

    FAILED = "failed"
    DELAYED = "delayed"
    NO_FAILURE = "no_failure"


class Report(NamedTuple):
    """What was read of a message.

    Attributes:
        fate: `NO_FAILURE` also where it is no delivery report.
        address: to whom the mail could not be delivered, as the report names it; may be empty.
        status: the code of RFC 3463, such as `5.1.1`; may be empty.
        words: of the mail server that refused it, in one line of harmless characters; may be empty.
        marks: those that stand anywhere in the message, for the credential to be found by.
    """

    fate: DeliveryStatus
    address: str = ""
    status: str = ""
    words: str = ""
    marks: Sequence[Mark] = ()


def read_report(content: bytes) -> Report:
    """Return what a message says, whatever its bytes are."""
    if _is_tangled(content):
        return Report(DeliveryStatus.NO_FAILURE)
    try:
        message = message_from_bytes(content)
        parts = list(islice(message.walk(), _MOST_PARTS))
        report = _of_fields(parts) or _of_words(message, parts)
        return report._replace(marks=_marks(content, parts)) if report else Report(DeliveryStatus.NO_FAILURE)
    except Exception:  # noqa: BLE001 - whatever a stranger's bytes do to the libraries, they are no report
        return Report(DeliveryStatus.NO_FAILURE)


def _is_tangled(content: bytes) -> bool:
    """Tell whether a message is made to keep its reader busy: of more parts, or parts in parts, than any report has."""
    return content.lower().count(b"boundary") > _MOST_BOUNDARIES or content.count(b"\n--") > _MOST_SEPARATORS


def mask_passwords(text: str, alphabet: Alphabet) -> str:
    """Return the words of a report, which may quote a mail, with `*********` for all that a password may be in."""

    def hidden(run: re.Match[str]) -> str:
        windows = (run[0][first : first + LENGTH] for first in range(len(run[0]) - LENGTH + 1))
        return "*" * LENGTH if any(map(alphabet.satisfied_by, windows)) else run[0]

    # As a mail may write =, too.
    return re.sub(rf"[A-Za-z0-9{re.escape(alphabet.specials)}]{{{LENGTH},}}", hidden, text.replace("=3D", "="))


def _marks(content: bytes, parts: Sequence[Message]) -> list[Mark]:
    """Return the marks of the message as it came, the first ones first, then those of its encoded parts."""
    found: dict[Mark, None] = {}
    for text in (content, *(part.get_payload(decode=True) for part in parts if "Content-Transfer-Encoding" in part)):
        if isinstance(text, bytes):
            found |= dict.fromkeys(islice(message_ids.find_marks(text), _MOST_MARKS))
    return list(found)[:_MOST_MARKS]


def _of_fields(parts: Sequence[Message]) -> Report | None:
    """Return what the fields for machines say (RFC 3464), of the recipient who matters most: one who got nothing."""
    blocks = (block for part in parts if part.get_content_type() in _STATUS_TYPES for block in _blocks(part))
    recipients = [found for block in islice(blocks, _MOST_RECIPIENTS) if (found := _recipient(block)) is not None]
    return min(recipients, key=lambda one: list(DeliveryStatus).index(one.fate), default=None)


def _blocks(part: Message) -> Iterator[Message]:
    """Yield the blocks of fields: the standard library knows one of the two types, and takes the other for a mail."""
    payload: Any = part.get_payload()
    for block in payload if isinstance(payload, list) else ():
        yield block
        rest = block.get_payload(decode=True)
        if isinstance(rest, bytes):
            yield from (message_from_bytes(fields) for fields in re.split(rb"\n\s*\n", rest) if fields.strip())


def _recipient(block: Message) -> Report | None:
    """Return what a block says; None where it is about no recipient."""
    action, status = _field(block, "action").lower(), _field(block, "status")
    if not (action or "Final-Recipient" in block or "Original-Recipient" in block):
        return None
    code = _STATUS.search(status)
    # As in `rfc822; jeanne@example.org` and `smtp; 550 5.1.1 no such user`.
    address = _field(block, "original-recipient") or _field(block, "final-recipient")
    words = re.sub(r"^\s*[A-Za-z0-9-]+\s*;\s*", "", _field(block, "diagnostic-code"))
    return Report(
        _fate(action, code[1] if code else ""),
        address.rpartition(";")[2].strip(" <>")[:_LONGEST_ADDRESS],
        code[0] if code else "",
        words[:_LONGEST_WORDS],
    )


def _fate(action: str, status_class: str) -> DeliveryStatus:
    # Of a mail that was tried for days, the action is `failed` and the status 4.4.7. OpenSMTPD says `error`.
    if action.startswith(("fail", "error")):
        return DeliveryStatus.FAILED
    if action.startswith("delayed"):
        return DeliveryStatus.DELAYED
    if action:
        return DeliveryStatus.NO_FAILURE
    return {"5": DeliveryStatus.FAILED, "4": DeliveryStatus.DELAYED}.get(status_class, DeliveryStatus.NO_FAILURE)


def _field(block: Message, name: str) -> str:
    # Not by `get`, which makes a question mark of what is beyond ASCII.
    value = next((value for field, value in block.raw_items() if field.lower() == name), "")
    return to_one_line(str(value).encode(errors="surrogateescape"))


def _of_words(message: Message, parts: Sequence[Message]) -> Report | None:
    """Return what an informal report says; None where the message is none that is known."""
    # Imported here: most reports have fields for machines.
    import logging

    from flufl.bounce import all_failures

    # What a message does to it is the message's fault, and no line for an operator.
    logging.getLogger("flufl.bounce").disabled = True
    if not getaddresses([str(message.get("From", ""))]):
        # It knows some reports by their sender, and does not reckon with none.
        del message["From"]
        message["From"] = "MAILER-DAEMON"
    delayed, failed = all_failures(message)
    if not (delayed or failed):
        return None
    address = min(failed or delayed).decode(errors="replace")
    words = _words(parts)
    status = _STATUS.search(words)
    return Report(
        DeliveryStatus.FAILED if failed else DeliveryStatus.DELAYED,
        to_one_line(address)[:_LONGEST_ADDRESS],
        status[0] if status else "",
        words,
    )


def _words(parts: Sequence[Message]) -> str:
    """Return the first line of a text, before the mail that it returns, that has a mail server's code; may be empty."""
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


# A delivery report says all that it has to say long before; what it returns may be of any size.
MOST_BYTES = 500_000
# RFC 5322 has 998 at most; behind that, only the work of those who search the line would grow.
LONGEST_LINE = 1000

# As mail programs write the line before a message of an mbox: a sender, and a date as of asctime(3).
_FROM_LINE = re.compile(rb"From .*[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}")
_FLAGS = ":2,"


class Incoming(NamedTuple):
    """A message: the file and the line where it begins, and its bytes, with line ends of Unix."""

    file: str
    line: int
    content: bytes


def read_file(path: Path) -> Iterator[Incoming]:
    """Yield the messages of a file: those of an mbox, or the one that it is; none where it is empty."""
    with path.open("rb") as stream:
        yield from _messages(str(path), stream, is_mbox=stream.peek(5)[:5] == b"From ")


def read_stream(name: str, stream: BinaryIO) -> Iterator[Incoming]:
    """Yield the one message of a stream, as a mail server pipes it: a `From ` line may come before it."""
    yield from _messages(name, stream, is_mbox=False)


def is_maildir(folder: Path) -> bool:
    """Tell whether a folder is a Maildir."""
    return (folder / "new").is_dir() and (folder / "cur").is_dir()


def read_maildir(folder: Path, *, move: bool = False) -> Iterator[Incoming]:
    """Yield the messages of a Maildir, the new ones first.

    Args:
        folder: the Maildir.
        move: only the new ones, each of which is moved to `cur`, as seen, when the next one is asked for.

    Raises:
        InvalidInput: the folder is no Maildir.
    """
    if not is_maildir(folder):
        raise InvalidInput(
            "{folder} is no Maildir: it has no new and cur", "Name a Maildir, an mbox or a message.", folder=folder
        )
    for part in ("new",) if move else ("new", "cur"):
        for name in sorted(os.listdir(folder / part)):
            path = folder / part / name
            if name.startswith(".") or not path.is_file() or path.is_symlink():
                continue
            # Another program may have moved or deleted it meanwhile.
            with suppress(FileNotFoundError), path.open("rb") as stream:
                yield from _messages(str(path), stream, is_mbox=False)
            if move:
                with suppress(FileNotFoundError):
                    path.rename(folder / "cur" / (name if _FLAGS in name else f"{name}{_FLAGS}S"))


def _messages(name: str, stream: BinaryIO, *, is_mbox: bool) -> Iterator[Incoming]:
    kept: list[bytes] = []
    first, size = 1, 0
    after_empty_line = True
    for number, line in _lines(stream):
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


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield the lines with their numbers, each cut to a length."""
    number, is_rest = 0, False
    while piece := stream.readline(LONGEST_LINE):
        is_end = piece.endswith(b"\n")
        if not is_rest:
            number += 1
            yield number, piece.rstrip(b"\r\n") + b"\n"
        is_rest = not is_end
