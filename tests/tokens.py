"""Access tokens: those that a mail server accepts, the SASL responses that carry them, and programs that print them."""

import re
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import NamedTuple

USER = "egec@example.org"
_RESPONSES = {
    "OAUTHBEARER": re.compile(r"n,a=([^,]+),\x01host=[^\x01]+\x01port=[0-9]+\x01auth=Bearer ([^\x01]+)\x01\x01"),
    "XOAUTH2": re.compile(r"user=([^\x01]+)\x01auth=Bearer ([^\x01]+)\x01\x01"),
}
# What a server sends as a challenge when it refuses a token, and what the client has to answer.
_ERRORS = {
    "OAUTHBEARER": ('{"status":"invalid_token","scope":"https://mail.example.org/"}', b"\x01"),
    "XOAUTH2": ('{"status":"401","schemes":"bearer","scope":"https://mail.example.org/"}', b""),
}


class Login(NamedTuple):
    """A login that was tried."""

    mechanism: str
    token: str
    is_accepted: bool


class Tokens:
    """The tokens that a mail server accepts: those that begin with `token-`, until they expire or are revoked.

    Args:
        mechanisms: what the server offers, in this order.
        uses: with how many logins a token expires; None for never.
        explains: whether the server explains a refusal in a challenge, as Google and Microsoft do.
        quotes: whether its refusals quote the response of the client.
    """

    def __init__(
        self,
        mechanisms: tuple[str, ...] = ("XOAUTH2", "OAUTHBEARER"),
        *,
        uses: int | None = None,
        explains: bool = True,
        quotes: bool = False,
    ) -> None:
        self.mechanisms = mechanisms
        self.explains = explains
        self.quotes = quotes
        self._uses = uses
        self._lock = threading.Lock()
        self._used: Counter[str] = Counter()
        self._revoked: set[str] = set()
        self._logins: list[Login] = []

    @property
    def logins(self) -> list[Login]:
        """The logins that were tried, the first one first."""
        with self._lock:
            return list(self._logins)

    def revoke_all(self) -> None:
        """Refuse every token that was used before, also in connections that are open."""
        with self._lock:
            self._revoked |= set(self._used)

    def is_revoked(self, token: str) -> bool:
        with self._lock:
            return token in self._revoked

    def accept(self, mechanism: str, response: bytes) -> str | None:
        """Return the token of an accepted login, or None."""
        parts = _RESPONSES[mechanism].fullmatch(response.decode())
        user, token = parts.groups() if parts else ("", "")
        with self._lock:
            is_accepted = (
                user.replace("=3D", "=").replace("=2C", ",") == USER
                and token.startswith("token-")
                and token not in self._revoked
                and (self._uses is None or self._used[token] < self._uses)
            )
            self._used[token] += 1
            self._logins.append(Login(mechanism, token, is_accepted))
        return token if is_accepted else None

    @staticmethod
    def error(mechanism: str) -> tuple[str, bytes]:
        """Return the challenge that explains a refusal, and what the client has to answer."""
        return _ERRORS[mechanism]


def write_program(path: Path, text: str) -> Path:
    """Write a program that this user may run."""
    path.write_text(text)
    path.chmod(0o700)
    return path


def shell_program(path: Path, commands: str) -> Path:
    """Write a program of the shell."""
    return write_program(path, f"#!/bin/sh\n{commands}\n")


def python_program(path: Path, statements: str) -> Path:
    """Write a program of this Python."""
    return write_program(path, f"#!{sys.executable} -IS\n{statements}\n")


def counting_program(folder: Path, *, prefix: str = "token-", seconds: float = 0) -> Path:
    """Write a program that prints a new token each time, and adds a line to the file `runs` beside it.

    Args:
        seconds: how long it takes.
    """
    runs = folder / "runs"
    return shell_program(
        folder / "print-token",
        f"sleep {seconds}; echo run >> {runs}; echo {prefix}$(wc -l < {runs} | tr -d ' ')",
    )


def number_of_runs(folder: Path) -> int:
    """Return how often the counting program has run."""
    runs = folder / "runs"
    return len(runs.read_text().splitlines()) if runs.exists() else 0
