"""Activations as tests see them: what clients receive, whether it opens their accounts, what is left behind."""

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from email import message_from_bytes, policy
from threading import Lock
from typing import NamedTuple

from egec_cli import context as accounts_egec
from egec_cli.context import open_context
from egec_cli.credentials import leases
from egec_cli.logins.verify import verify_login
from egec_cli.settings import load
from egec_cli.settings.schema import Database, SqliteFile
from tests.conftest import Egec
from tests.smtp_server import Call, MailServer

# Long enough for a busy machine; a test that lets it pass has failed.
PATIENCE = 60.0


class Letter(NamedTuple):
    """What a client reads in a mail."""

    message_id: str
    identifier: str
    password: str


def letters(server: MailServer) -> list[Letter]:
    """Return the mails that the server keeps as their readers see them, the first one first."""
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
    """Make a client's file, activate it, and return its identifier."""
    ended = egec("client", "create", email, "--activate", "--format", "json")
    assert ended.code == 0, ended
    return str(json.loads(ended.out)["identifier"])


def opens(received: Letter) -> bool:
    """Log in with what the letter says; tell whether it is accepted."""
    with open_context(load.load_settings()) as egec:
        return verify_login(egec, received.identifier, received.password).accepted


def require_intact(location: Database) -> None:
    """Let SQLite look through the whole of its file; PostgreSQL looks after itself."""
    if isinstance(location, SqliteFile):
        with closing(sqlite3.connect(location.path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def require_as_good_as_new(identifier: str, server: MailServer, egec_process: Egec) -> None:
    """Activate the client again: it succeeds at once, and its mail alone opens the account."""
    began = time.monotonic()
    again = egec_process("activate", identifier)
    assert again.code == 0, again
    assert time.monotonic() - began < leases.PATIENCE / 2
    *former, last = letters(server)
    assert not any(opens(one) for one in former[-3:])
    assert opens(last)
    assert {one.identifier for one in (*former, last)} == {identifier}


class Login(NamedTuple):
    """A login with a mail that had just come, and all that the server had kept when it was answered."""

    with_letter: Letter
    accepted: bool
    kept: int


def log_in_with_the_newest(egec: accounts_egec.Context, server: MailServer, logins: list[Login]) -> Callable[[], None]:
    """Return what a client does who is quicker than the server's answer to the sender of the mail."""

    def log_in() -> None:
        newest = letter(server.accepted[-1].content)
        with egec.database.connection_context():
            accepted = verify_login(egec, newest.identifier, newest.password).accepted
        logins.append(Login(newest, accepted, len(server.accepted)))

    return log_in


def once(call: Call) -> Call:
    """Return a callable that calls this one the first time, and does nothing afterwards."""
    first = Lock()
    return lambda: first.acquire(blocking=False) and call()


def wait_until(condition: Callable[[], bool]) -> None:
    """Look again and again until the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.005)
