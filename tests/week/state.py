"""The tools of a week, and what its scripts know about the clients and their passwords."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from egec_cli.email_address import parse_email
from tests.week.books import Books
from tests.week.office import Office
from tests.week.post import Letter, Post
from tests.week.store import Store


class Given(NamedTuple):
    """A password that a client received, and its credential; the letter is None if it came another way."""

    sequence: int
    password: str
    letter: Letter | None


@dataclass
class Week:
    """A week: its tools and the knowledge of its scripts.

    Attributes:
        number: how many clients to create, besides those of the first release and of the portal.
        identifiers: the first known identifier of each client, by its reference.
        addresses: all addresses ever registered for a client, by its reference.
        by_hand: the passwords not sent by mail, by identifier.
        typed: all passwords that were typed, right or wrong.
        settled: the highest sequence known to be accepted, by identifier.
        shut: why no password works, by identifier.
        erased: data of erased clients, which must not be found anywhere.
        accepted_by: how many accepted activations were reported to each actor.
        lost: the positions of letters that the restored database may not know.
    """

    number: int
    chance: Random
    egec: Office
    post: Post
    store: Store
    books: Books
    identifiers: dict[str, str] = field(default_factory=dict)
    addresses: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    by_hand: dict[str, list[Given]] = field(default_factory=lambda: defaultdict(list))
    typed: set[str] = field(default_factory=set)
    settled: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    shut: dict[str, str] = field(default_factory=dict)
    erased: set[bytes] = field(default_factory=set)
    accepted_by: Counter[str] = field(default_factory=Counter)
    lost: range = range(0)

    def share(self, part: int) -> int:
        """Return a fraction of the clients, and at least three."""
        return max(3, self.number // part)

    def some(self, of: Iterable[str], part: int) -> list[str]:
        """Draw a fraction of all clients out of these, as far as possible."""
        wanted = sorted(of)
        return self.chance.sample(wanted, min(self.share(part), len(wanted)))

    def register(self, known_by: str, email: str) -> None:
        """Note a further address of a client, in its ASCII (IDNA) form."""
        self.addresses[known_by].add(parse_email(email).wire)

    def look_at_identifiers(self) -> int:
        """Require that each client has the identifier that it has always had, learn new ones, and count all."""
        rows = self.egec("client", "list", "--format", "jsonl").rows()
        known = {*self.identifiers.values()}
        for row in rows:
            known_by, identifier = row["reference"], row["identifier"]
            if known_by is None:
                if identifier in known:
                    continue
                known_by = row["email"]
            first = self.identifiers.setdefault(known_by, identifier)
            self.books.require(first == identifier, f"P4: {known_by} was client {first}, and is {identifier}")
        self.books.require(len({row["identifier"] for row in rows}) == len(rows), "P4: an identifier was given twice")
        return len(rows)

    def given(self) -> Mapping[str, Sequence[Given]]:
        """Return the passwords that each client received so far, by identifier, lowest sequence first.

        What the database has no record of is left out: `promises` asks after it.
        """
        sequences = {row.message_id: row.sequence for row in self.store.credentials() if row.message_id}
        found = {identifier: list(given) for identifier, given in self.by_hand.items()}
        for letter in self.post.letters():
            if letter.password and letter.message_id in sequences:
                given = Given(sequences[letter.message_id], letter.password, letter)
                found.setdefault(letter.identifier, []).append(given)
        return {identifier: sorted(given, key=lambda one: one.sequence) for identifier, given in found.items()}

    def secrets(self) -> set[str]:
        """Return all clear passwords of the week."""
        by_hand = {one.password for given in self.by_hand.values() for one in given}
        return {letter.password for letter in self.post.letters() if letter.password} | by_hand | self.typed
