"""Password hashes by bcrypt, on a separate thread if the caller has other work to do."""

from threading import Thread
from typing import Protocol

import bcrypt

from egec_cli.password import Alphabet, Password, generate_password

# The longest input of bcrypt; since bcrypt 5, longer input raises.
_MAXIMUM_BYTES = 72
# A digest without a password, compared for a missing hash, so that every refusal takes the same time.
_DUMMY_DIGEST = "......................" + "." * 31


def hash_password(password: Password, cost: int) -> str:
    """Return the bcrypt hash (`$2b$`) of a generated password at this cost (the binary logarithm of its rounds)."""
    return hash_text(password.reveal(), cost)


def hash_text(text: str, cost: int) -> str:
    """Return the bcrypt hash of a text of at most 72 bytes."""
    return bcrypt.hashpw(text.encode(), bcrypt.gensalt(cost)).decode()


def matches_hash(clear: str, password_hash: str) -> bool:
    """Return whether this text is the password of this hash.

    Text that bcrypt cannot hash is refused after the usual time; a malformed hash is refused immediately.
    """
    return _matches(clear, password_hash) or False


def match_at_cost(cost: int, clear: str, password_hash: str) -> bool:
    """Return whether this text is the password of this hash; if not, take the time of one comparison at `cost`.

    A hash with a higher cost takes its own time.
    """
    found = _matches(clear, password_hash)
    if found is None:
        check_dummy(cost)
    elif not found:
        take_remaining_time(hash_cost(password_hash), cost)
    return found or False


def _matches(clear: str, password_hash: str) -> bool | None:
    """Compare, and return None immediately for a malformed hash."""
    secret = clear.encode(errors="surrogatepass")
    # bcrypt repeats its input with a NUL between, so "a\0a" would match "a".
    fits = len(secret) <= _MAXIMUM_BYTES and b"\0" not in secret
    try:
        return bcrypt.checkpw(secret if fits else b"", password_hash.encode()) and fits
    except ValueError:
        return None


def hash_cost(password_hash: str) -> int:
    """Return the cost of a bcrypt hash; 0 for any other text."""
    parts = password_hash.split("$")
    return int(parts[2]) if len(parts) == 4 and parts[2].isdecimal() else 0


def check_dummy(cost: int) -> None:
    """Take the time of one comparison at this cost."""
    matches_hash("", f"$2b${cost:02d}${_DUMMY_DIGEST}")


def take_remaining_time(done: int, cost: int) -> None:
    """After one comparison at cost `done`, take the rest of the time of one at `cost`.

    Each step doubles the time, so comparisons at done, done + 1, … cost - 1 add up to the difference.
    """
    for step in range(done, cost):
        check_dummy(step)


class HashSettings(Protocol):
    """The settings that a new password and its hash depend on."""

    @property
    def alphabet(self) -> Alphabet:
        """The characters of new passwords."""

    @property
    def bcrypt_cost(self) -> int:
        """The binary logarithm of the rounds of bcrypt."""


class Hashing:
    """A hash in progress on a thread; bcrypt releases the interpreter lock meanwhile.

    The thread is a daemon, so that the process does not wait for a hash that is no longer needed.
    """

    def __init__(self, password: Password, cost: int) -> None:
        self.password = password
        self._hash: str | None = None
        self._failure: Exception | None = None
        self._thread = Thread(target=self._run, args=(cost,), name="bcrypt", daemon=True)
        self._thread.start()

    def _run(self, cost: int) -> None:
        try:
            self._hash = hash_password(self.password, cost)
        except Exception as failure:  # noqa: BLE001 - `result` raises it
            self._failure = failure

    def result(self) -> str:
        """Wait for the hash and return it.

        Raises:
            Exception: whatever bcrypt raised.
        """
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        assert self._hash is not None
        return self._hash


def start_hash(settings: HashSettings) -> Hashing:
    """Start to hash a new password; the caller can load and connect meanwhile."""
    return Hashing(generate_password(settings.alphabet), settings.bcrypt_cost)
