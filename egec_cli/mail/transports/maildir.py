"""Save mail to a Maildir, for trials and for other programs to deliver.

Texts are saved as 8bit (RFC 6152), so that a person can read the file: in quoted-printable, `=` in a password becomes
`=3D`.
"""

import os
import re
import secrets
import socket
import time
from collections.abc import Callable
from email import message_from_bytes, policy
from pathlib import Path

from egec_cli.errors import PermissionDenied, StorageError
from egec_cli.files import make_folders
from egec_cli.mail.compose.message import Mail
from egec_cli.mail.transports.interface import Cause, DeliveryRefused, DeliveryUnknown, Reply
from egec_cli.settings.types import MaildirFolder
from egec_cli.translation import system_message

_LONGEST_LINE = 998
_NOT_IN_A_LINE = re.compile(rb"[\0\r\n]")
# Keeps headers byte for byte.
_UNCHANGED = policy.SMTP.clone(cte_type="8bit", refold_source="none")


class MaildirTransport:
    """Writes each mail to `new/`, completely or not at all."""

    def __init__(self, folder: MaildirFolder, sign: Callable[[bytes], bytes] | None = None) -> None:
        """Save mails to a folder; `sign` prepends the signature to a finished message."""
        self._folder = folder.path.absolute()
        self._sign = sign

    def connect(self) -> None:
        """Do nothing; this transport has no connection."""

    def deliver(self, mail: Mail) -> Reply:
        """Write one mail durably and return the path of its file."""
        content = to_8bit(mail.content)
        if self._sign is not None:
            content = self._sign(content)
        name = f"{time.time_ns() // 10**9}.{secrets.token_hex(8)}.{socket.gethostname().replace('/', '_')}"
        unfinished, finished = self._folder / "tmp" / name, self._folder / "new" / name
        try:
            for folder in (self._folder, *(self._folder / part for part in ("tmp", "new", "cur"))):
                make_folders(folder)
            try:
                with os.fdopen(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
                    # Final delivery adds the envelope sender (RFC 5321, 4.4).
                    file.write(f"Return-Path: <{mail.sender}>\r\n".encode() + content)
                    file.flush()
                    os.fsync(file.fileno())
                unfinished.rename(finished)
            finally:
                unfinished.unlink(missing_ok=True)
        except PermissionError as error:
            raise DeliveryRefused(
                PermissionDenied(
                    "{path} cannot be written", "Choose another Maildir with EGEC_MAIL_URL.", path=error.filename
                ),
                cause=Cause.BLOCKED,
            ) from None
        except OSError as error:
            raise DeliveryRefused(
                StorageError(
                    "the mail cannot be written to {folder}: {reason}",
                    "Free some space, or choose another Maildir with EGEC_MAIL_URL.",
                    folder=self._folder,
                    reason=system_message(error),
                ),
                cause=Cause.UNREACHABLE,
            ) from None
        try:
            _sync_folder(finished.parent)
        except OSError as error:
            raise DeliveryUnknown(
                "the mail was written to {finished}, but may not survive a power cut: {reason}",
                finished=finished,
                reason=system_message(error),
            ) from None
        return Reply(str(finished))

    def close(self) -> None:
        """Do nothing; this transport has no connection."""


def to_8bit(content: bytes) -> bytes:
    """Return a message with texts in 8bit instead of quoted-printable; unchanged if that would alter a text."""
    message = message_from_bytes(content, policy=_UNCHANGED)
    changed = False
    for part in message.walk():
        if part.get_content_maintype() != "text" or part["Content-Transfer-Encoding"] != "quoted-printable":
            continue
        body = part.get_payload(decode=True)
        if isinstance(body, bytes) and _is_8bit_safe(body):
            part.replace_header("Content-Transfer-Encoding", "8bit")
            part.set_payload(body.decode("ascii", "surrogateescape"))
            changed = True
    if not changed:
        return content
    written = message.as_bytes(policy=_UNCHANGED)
    return written if _decode_parts(written) == _decode_parts(content) else content


def _is_8bit_safe(body: bytes) -> bool:
    """Return whether a text may be sent as 8bit (RFC 2045, 2.8): short lines, no NUL, CR and LF only together."""
    lines = body.split(b"\r\n")
    return all(len(line) <= _LONGEST_LINE and not _NOT_IN_A_LINE.search(line) for line in lines)


def _decode_parts(content: bytes) -> list[tuple[str, object]]:
    """Return the type and the decoded content of each part."""
    parts = message_from_bytes(content, policy=_UNCHANGED).walk()
    return [(part.get_content_type(), part.get_payload(decode=True)) for part in parts]


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
