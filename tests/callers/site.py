"""An installation of egec as other programs call it: settings at an absolute path, small scripts, no environment."""

import base64
import shlex
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from egec_cli import context, hashing
from egec_cli.clients import fields, records
from egec_cli.credentials import issue
from egec_cli.logins import limits
from egec_cli.settings import load, types
from egec_cli.store.models import Client, Credential, Event

CHECKOUT = Path(__file__).parent.parent.parent


def answer(url: str, user: str, password: str, encoding: str = "utf-8") -> int:
    """Request a page with this login; return the HTTP status."""
    given = base64.b64encode(f"{user}:{password}".encode(encoding)).decode()
    request = urllib.request.Request(url, headers={"Authorization": f"Basic {given}"})
    try:
        with urllib.request.urlopen(request, timeout=60) as page:
            assert page.read() == b"welcome"
            return int(page.status)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code


class Site(NamedTuple):
    """An installation: its folder with all files, and its settings file."""

    folder: Path
    env_file: Path

    @classmethod
    def made_in(cls, folder: Path) -> "Site":
        """Install with an empty database and cheap hashes."""
        site = cls(folder, folder / "egec.env")
        site.env_file.write_text("EGEC_DATABASE_URL=sqlite:///egec.db\nEGEC_BCRYPT_COST=4\n")
        context.create_database(site.settings())
        return site

    def settings(self) -> types.Settings:
        """Return the settings that the callers' `egec` reads in the file.

        The file may belong to a server's account by now, whose files root does not trust.
        """
        lines = self.env_file.read_text().splitlines()
        variables = dict(line.partition("=")[::2] for line in lines)
        return load.load_settings({**variables, "EGEC_DATABASE_URL": f"sqlite:///{self.folder}/egec.db"})

    def account(self, email: str = "jeanne@example.org") -> tuple[str, str]:
        """Create a client with a password; return both identifier and password."""
        with context.open_context(self.settings()) as opened:
            client = records.create_client(opened, fields.parse_fields(email))
            made = hashing.start_hash(opened.settings)
            issue.issue_to_operator(opened, client, lambda _: None, hashing=made)
            return client.identifier, made.password.reveal()

    def block(self, identifier: str) -> None:
        """Block an account as ten failures do."""
        with context.open_context(self.settings()):
            blocked = Client.update(failed_logins=10, blocked_until=limits.UNTIL_NEW_CREDENTIAL)
            blocked.where(Client.identifier == identifier).execute()

    def stored_hash(self, identifier: str) -> str:
        """Return the hash of the active password."""
        with context.open_context(self.settings()):
            found = Credential.select().join(Client).where(Client.identifier == identifier).get()
            return str(found.password_hash)

    def logins(self) -> list[str]:
        """Return the outcomes of all logins, oldest first."""
        with context.open_context(self.settings()):
            return [event.outcome for event in Event.select().order_by(Event.id) if event.action == "login"]

    def script(self, name: str, *arguments: str) -> Path:
        """Write a script that calls `egec` with these and its own arguments; return its path."""
        return self.program(name, [sys.executable, "-m", "egec_cli", *arguments])

    def program(self, name: str, command: Sequence[str]) -> Path:
        """Write a script that becomes this command; return its path."""
        path = self.folder / name
        path.write_text(
            "#!/bin/sh\n"
            f"export EGEC_ENV_FILE={shlex.quote(str(self.env_file))} PYTHONPATH={shlex.quote(str(CHECKOUT))}\n"
            f'exec {shlex.join(command)} "$@"\n'
        )
        path.chmod(0o755)
        return path
