"""Mail laid down in a Maildir: for trying things out, and for what another program carries on."""

import os
import secrets
import socket
import time
from pathlib import Path

from egec_cli.errors import FileSystemFailed, NotPermitted
from egec_cli.mail.delivery import AnswerLost, Refused, Reply
from egec_cli.mail.message import Mail
from egec_cli.new_file import make_folders
from egec_cli.settings import MaildirFolder
from egec_cli.translation import of_system


class MaildirTransport:
    """Writes each mail as a file of `new/`, complete or not at all."""

    def __init__(self, folder: MaildirFolder) -> None:
        self._folder = folder.path.absolute()

    def connect(self) -> None:
        """There is nothing to connect to."""

    def deliver(self, mail: Mail) -> Reply:
        """Write one mail durably and return the path of its file."""
        name = f"{time.time_ns() // 10**9}.{secrets.token_hex(8)}.{socket.gethostname().replace('/', '_')}"
        unfinished, finished = self._folder / "tmp" / name, self._folder / "new" / name
        try:
            for folder in (self._folder, *(self._folder / part for part in ("tmp", "new", "cur"))):
                make_folders(folder)
            try:
                with os.fdopen(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
                    # As who delivers for good does: the address to which it would come back (RFC 5321, 4.4).
                    file.write(f"Return-Path: <{mail.sender}>\r\n".encode() + mail.content)
                    file.flush()
                    os.fsync(file.fileno())
                unfinished.rename(finished)
            finally:
                unfinished.unlink(missing_ok=True)
        except PermissionError as error:
            raise Refused(
                NotPermitted(
                    "{path} cannot be written",
                    "Choose another Maildir with EGEC_MAIL_URL.",
                    path=error.filename,
                )
            ) from None
        except OSError as error:
            raise Refused(
                FileSystemFailed(
                    "the mail cannot be written to {folder}: {reason}",
                    "Free some space, or choose another Maildir with EGEC_MAIL_URL.",
                    folder=self._folder,
                    reason=of_system(error),
                )
            ) from None
        try:
            _make_durable(finished.parent)
        except OSError as error:
            # It is there, though a power cut may yet take it away.
            raise AnswerLost(
                "the mail was written to {finished}, perhaps not for good: {reason}",
                finished=finished,
                reason=of_system(error),
            ) from None
        return Reply(str(finished))

    def close(self) -> None:
        """There is nothing to let go of."""


def _make_durable(folder: Path) -> None:
    """Let the names in a folder outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
