"""Password hashes: bcrypt, on its own thread where there is other work to do meanwhile."""

from threading import Thread

import bcrypt

from egec_cli.password import Alphabet, Password, generate
from egec_cli.settings import Settings

# What bcrypt takes at most; longer input raises since bcrypt 5.
_MAXIMUM_BYTES = 72
# The digest of no password: it stands in where there is no hash, so that a refusal takes as long.
_DUMMY_DIGEST = "......................" + "." * 31


def hash_password(password: Password, cost: int) -> str:
    """Return the bcrypt hash (`$2b$`) of a generated password at this cost (the binary logarithm of its rounds)."""
    return hash_text(password.reveal(), cost)


def hash_text(text: str, cost: int) -> str:
    """Return the bcrypt hash of a text of at most 72 bytes."""
    return bcrypt.hashpw(text.encode(), bcrypt.gensalt(cost)).decode()


def matches(clear: str, password_hash: str) -> bool:
    """Tell whether this text is the password of this hash.

    Text that bcrypt cannot take is answered by False after as long as any other; a hash that is none, at once.
    """
    secret = clear.encode(errors="surrogatepass")
    # bcrypt repeats its input with a NUL between, so it would take "a\0a" for "a".
    fits = len(secret) <= _MAXIMUM_BYTES and b"\0" not in secret
    try:
        return bcrypt.checkpw(secret if fits else b"", password_hash.encode()) and fits
    except ValueError:
        return False


def cost_of(password_hash: str) -> int:
    """Return the cost of a bcrypt hash; 0 of one that is none."""
    parts = password_hash.split("$")
    return int(parts[2]) if len(parts) == 4 and parts[2].isdecimal() else 0


def match_nothing(cost: int) -> None:
    """Take the time of one comparison at this cost."""
    matches("", f"$2b${cost:02d}${_DUMMY_DIGEST}")


class Hashing:
    """A hash under way on a thread of its own; bcrypt leaves the interpreter to others meanwhile.

    The thread dies with the process: nobody waits for a hash that is not wanted any more.
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
        except Exception as failure:  # noqa: BLE001 - it is raised again where the result is asked for
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


_ahead: dict[tuple[Alphabet, int], Hashing] = {}


def begin(settings: Settings) -> Hashing:
    """Make a new password and begin to hash it; the caller loads and connects what it needs meanwhile."""
    begun = _ahead.pop((settings.alphabet, settings.bcrypt_cost), None)
    return begun or Hashing(generate(settings.alphabet), settings.bcrypt_cost)


def begin_ahead(settings: Settings) -> None:
    """Begin the hash that the next `begin` of these settings is about to want, before all else is loaded."""
    _ahead[settings.alphabet, settings.bcrypt_cost] = begin(settings)
