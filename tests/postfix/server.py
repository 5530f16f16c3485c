"""Debian's postfix, on loopback alone: its settings, queue, log and mailboxes are in a folder of its own.

The machine's own postfix, should there be one, and what is in /etc/postfix are left alone.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from tests.callers.service_account import ACCOUNT, PATIENCE, folder_of_service_account, free_port, give
from tests.programs import require_program

# Mail for every user of these domains comes here, and none leaves.
SENDERS_DOMAIN, CLIENTS_DOMAIN = "egec.pro", "example.org"

_MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
myhostname = mail.egec.pro
myorigin = egec.pro
mydestination = egec.pro example.org
inet_interfaces = loopback-only
mynetworks = 127.0.0.0/8
default_transport = error:this mail server is for tests
smtpd_tls_security_level = may
smtpd_tls_chain_files = {folder}/config/key-and-certificate.pem

alias_maps = hash:{folder}/config/aliases
recipient_delimiter = +
mail_spool_directory = {folder}/mail/
forward_path = {folder}/home/.forward${{recipient_delimiter}}${{extension}}
"""
# The second server refuses who is unknown; the first one, as a relay does, takes the mail and reports later.
_MASTER = """
127.0.0.1:{port} inet n - n - - smtpd -o local_recipient_maps=
127.0.0.1:{strict_port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
local unix - n n - - local
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""
_ALIASES = f"""
jeanne: {ACCOUNT}
élodie: {ACCOUNT}
ne-pas-repondre: {ACCOUNT}+bounces
"""
_LONGEST_LOG = 4000  # characters


class Postfix(NamedTuple):
    """A mail server that runs.

    Attributes:
        folder: the one that everything of it is in.
        port: where it takes the mail for unknown users too, and reports later that it could not be delivered.
        strict_port: where it refuses such mail at once.
    """

    folder: Path
    port: int
    strict_port: int

    @property
    def config(self) -> Path:
        """The folder of its settings."""
        return self.folder / "config"

    @property
    def authority(self) -> Path:
        """The certificate of the authority that signed its own."""
        return self.config / "authority.pem"

    def forward_bounces(self, line: str) -> None:
        """Write the `.forward+bounces` of the user who gets the bounces."""
        path = self.folder / "home" / ".forward+bounces"
        path.write_text(f"{line}\n")
        path.chmod(0o644)

    def control(self, *command: str) -> str:
        """Run one of postfix's programs on this server, and return what it prints."""
        program = require_program(command[0], "postfix")
        done = subprocess.run(
            [program, "-c", str(self.config), *command[1:]], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, (done, self.log())
        return done.stdout

    def log(self) -> str:
        """Return the end of the server's log."""
        path = self.folder / "log"
        return path.read_text()[-_LONGEST_LOG:] if path.exists() else ""

    def mails(self) -> list[bytes]:
        """Return the mails in the mailbox of known users."""
        box = self.folder / "mail" / ACCOUNT / "new"
        return [path.read_bytes() for path in box.iterdir()] if box.is_dir() else []

    def wait(self, is_so: Callable[[], bool], what: str) -> None:
        """Wait for a condition; fail with the server's log after too long."""
        deadline = time.monotonic() + PATIENCE
        while not is_so():
            assert time.monotonic() < deadline, f"{what}: waited in vain; {self.log()}"
            time.sleep(0.05)


def parsed(content: bytes) -> EmailMessage:
    """Return a mail as a mail program reads it."""
    return message_from_bytes(content, policy=policy.default)


@contextmanager
def running_postfix() -> Iterator[Postfix]:
    """Run a mail server for the `with` block; skip the test if that is impossible."""
    require_program("postfix", "postfix")
    if os.geteuid() != 0:
        pytest.skip("postfix gives its parts accounts of their own: run the tests as root")
    with folder_of_service_account() as folder:
        postfix = Postfix(folder, free_port(), free_port())
        _lay_out(postfix)
        postfix.control("postfix", "start")
        try:
            yield postfix
        finally:
            postfix.control("postfix", "stop")


def _lay_out(postfix: Postfix) -> None:
    folder = postfix.folder
    folder.chmod(0o755)
    for name in ("config", "queue", "data", "mail", "home"):
        (folder / name).mkdir()
    # Users deliver to their own mailboxes, and keep their own files of forwards.
    give(folder / "mail")
    give(folder / "home")
    shutil.chown(folder / "data", "postfix")
    certificate = (authority := trustme.CA()).issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(postfix.config / "key-and-certificate.pem"))
    (postfix.config / "key-and-certificate.pem").chmod(0o600)
    authority.cert_pem.write_to_path(str(postfix.authority))
    ports = {"port": postfix.port, "strict_port": postfix.strict_port}
    (postfix.config / "main.cf").write_text(_MAIN.format(folder=folder))
    (postfix.config / "master.cf").write_text(_MASTER.format(**ports))
    (postfix.config / "aliases").write_text(_ALIASES)
    postfix.control("postalias", f"hash:{postfix.config}/aliases")
