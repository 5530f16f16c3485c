"""The password generator: nine characters, uniform over all passwords that have every class.

The length is the memo's (« toujours sur 9 caractères »). The minimum of 50 bits is from
CNIL's deliberation 2022-100, for accounts with limited login attempts.
"""

import os
from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import combinations
from math import log2
from typing import NamedTuple

from egec_cli.errors import InvalidInput

LENGTH = 9
MINIMUM_BITS = 50.0
LOOKALIKES = frozenset("0O1lI")
# As in the standard library's `string`, whose import is slow.
_CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS = "0123456789"
_PUNCTUATION = r"""!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~"""
DEFAULT_SPECIALS = "#%+=?*-!"
_BYTES_AT_ONCE = 64

Choice = Callable[[Sequence[str]], str]


class Password:
    """A clear password. Only `reveal()` shows it; logs and tracebacks never do."""

    __slots__ = ("_clear",)

    def __init__(self, clear: str) -> None:
        self._clear = clear

    def reveal(self) -> str:
        """Return the clear text."""
        return self._clear

    def __repr__(self) -> str:
        return "Password('*********')"

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError("a password must not be pickled")


class Alphabet(NamedTuple):
    """The characters of passwords, by class."""

    capitals: str
    small_letters: str
    digits: str
    specials: str

    @classmethod
    def create(cls, specials: str = DEFAULT_SPECIALS, *, lookalikes: bool = False) -> "Alphabet":
        """Return the alphabet with these specials, and with `0 O 1 l I` if `lookalikes` is true.

        Raises:
            InvalidInput: a special is not ASCII punctuation or comes twice, or passwords would have less than
                `MINIMUM_BITS` of entropy.
        """
        strangers = "".join(sorted(set(specials) - set(_PUNCTUATION)))
        if strangers:
            raise InvalidInput(
                "{strangers!r} cannot be a special character of a password",
                "Use ASCII punctuation, such as {specials}",
                strangers=strangers,
                specials=DEFAULT_SPECIALS,
            )
        if len(set(specials)) != len(specials):
            raise InvalidInput(
                "a special character is given twice", "Give each once, such as {specials}", specials=DEFAULT_SPECIALS
            )
        left_out = frozenset() if lookalikes else LOOKALIKES
        capitals, small_letters, digits = (
            "".join(c for c in letters if c not in left_out) for letters in (_CAPITALS, _CAPITALS.lower(), _DIGITS)
        )
        alphabet = cls(capitals, small_letters, digits, specials)
        if alphabet.entropy_bits < MINIMUM_BITS:
            raise InvalidInput(
                "passwords of these characters would have {entropy_bits:.1f} bits of entropy, "
                "below the required {minimum:.0f}",
                "Allow more special characters, such as {specials}",
                entropy_bits=alphabet.entropy_bits,
                minimum=MINIMUM_BITS,
                specials=DEFAULT_SPECIALS,
            )
        return alphabet

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, one string each."""
        return (self.capitals, self.small_letters, self.digits, self.specials)

    @property
    def characters(self) -> str:
        """All characters."""
        return "".join(self.classes)

    @property
    def number_of_passwords(self) -> int:
        """The number of passwords with at least one character of each class (inclusion-exclusion)."""
        sizes = [len(letters) for letters in self.classes]
        total = sum(sizes)
        return sum(
            (-1) ** absent * (total - sum(without)) ** LENGTH
            for absent in range(len(sizes) + 1)
            for without in combinations(sizes, absent)
        )

    @property
    def entropy_bits(self) -> float:
        """The entropy of one generated password, in bits."""
        return log2(self.number_of_passwords) if self.number_of_passwords else 0.0

    def satisfied_by(self, clear: str) -> bool:
        """Return whether the text has at least one character of each class."""
        return not any(set(letters).isdisjoint(clear) for letters in self.classes)


def choose_random(characters: Sequence[str], random_bytes: Callable[[int], bytes] = os.urandom) -> str:
    """Return one of at most 256 characters, all equally likely.

    A byte that would favour the first characters is discarded. (`secrets.choice` does the same from the same source, at
    several times the cost, and its import is slow.)
    """
    most = 256 - 256 % len(characters)
    while True:
        byte = random_bytes(1)[0]
        if byte < most:
            return characters[byte % len(characters)]


def _system_choice() -> Choice:
    # os.urandom releases the interpreter lock, which slows the threads of a run: one call suffices for almost every
    # password.
    drawn = BytesIO(os.urandom(_BYTES_AT_ONCE))
    return lambda characters: choose_random(characters, lambda number: drawn.read(number) or os.urandom(number))


def generate_password(alphabet: Alphabet, choice: Choice | None = None) -> Password:
    """Return a new password, uniform over all that `alphabet` allows.

    Candidates that lack a class are discarded: adding one character of each class and shuffling would be biased.
    """
    characters = alphabet.characters
    choice = choice or _system_choice()
    while True:
        clear = "".join(choice(characters) for _ in range(LENGTH))
        if alphabet.satisfied_by(clear):
            return Password(clear)
