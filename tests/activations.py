"""Helpers for activations: what clients receive, whether it signs in, and what is left behind."""

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from email import message_from_bytes, policy
from threading import Lock
from typing import NamedTuple

from egec_cli.context import Context, open_context
from egec_cli.credentials import leases
from egec_cli.logins.verify import verify_login
from egec_cli.settings import load
from egec_cli.settings.types import Database, SqliteFile
from tests.conftest import Egec
from tests.smtp_server import Call, MailServer

# In seconds: long enough for a busy machine.
PATIENCE = 60.0


class Letter(NamedTuple):
    """What a client reads in a mail."""

    message_id: str
    identifier: str
    password: str


def letters(server: MailServer) -> list[Letter]:
    """Return the accepted mails as their readers see them, the oldest first."""
    return [letter(mail.content) for mail in server.accepted]


def letter(content: bytes) -> Letter:
    """Return what the reader of a mail sees."""
    mail = message_from_bytes(content, policy=policy.default)
    text = mail.get_body(("plain",))
    assert text is not None
    lines = text.get_content().splitlines()
    identifier, password = (
        lines[lines.index(f"{title} est\u00a0:") + 2] for title in ("Votre identifiant CLIENT", "Votre mot de passe")
    )
    return Letter(mail["Message-ID"], identifier, password)


def activated(egec: Egec, email: str = "jeanne@example.org") -> str:
    """Create and activate a client; return the identifier."""
    ended = egec("client", "create", email, "--activate", "--format", "json")
    assert ended.code == 0, ended
    return str(json.loads(ended.out)["identifier"])


def opens(received: Letter) -> bool:
    """Return whether a login with this letter is accepted."""
    with open_context(load.load_settings()) as egec:
        return verify_login(egec, received.identifier, received.password).accepted


def require_intact(location: Database) -> None:
    """Check the whole file of an SQLite database."""
    if isinstance(location, SqliteFile):
        with closing(sqlite3.connect(location.path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def require_as_good_as_new(identifier: str, server: MailServer, egec_process: Egec) -> None:
    """Activate the client again: it succeeds immediately, and only its mail signs in."""
    started = time.monotonic()
    again = egec_process("activate", identifier)
    assert again.code == 0, again
    assert time.monotonic() - started < leases.PATIENCE / 2
    *earlier, last = letters(server)
    assert not any(opens(one) for one in earlier[-3:])
    assert opens(last)
    assert {one.identifier for one in (*earlier, last)} == {identifier}


class Login(NamedTuple):
    """A login with a mail that had just arrived, and the number of mails that the server had accepted afterwards."""

    with_letter: Letter
    accepted: bool
    kept: int


def log_in_with_the_newest(egec: Context, server: MailServer, logins: list[Login]) -> Callable[[], None]:
    """Return a function that logs in with the newest mail, before the server answers its sender."""

    def log_in() -> None:
        newest = letter(server.accepted[-1].content)
        with egec.database.connection_context():
            accepted = verify_login(egec, newest.identifier, newest.password).accepted
        logins.append(Login(newest, accepted, len(server.accepted)))

    return log_in


def once(call: Call) -> Call:
    """Return a function that runs the call the first time only."""
    first = Lock()
    return lambda: first.acquire(blocking=False) and call()


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll until the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.005)
