"""Logins with the real program, each compared with the expected verdict."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tests.week.state import Given, Week

PORTALS = 2
# In a row, of those that are tried at once.
_MOST_WRONG = 2


class Login(NamedTuple):
    """A login to try: what is typed, whether it must be accepted, and why."""

    identifier: str
    typed: str
    accepted: bool
    because: str


def try_all(week: Week, logins: Sequence[Sequence[Login]]) -> None:
    """Try the logins of each client in order with `egec verify --batch`; several portals share the clients."""
    with ThreadPoolExecutor(PORTALS) as pool:
        list(pool.map(lambda number: _portal(week, logins[number::PORTALS]), range(PORTALS)))


def _portal(week: Week, logins: Sequence[Sequence[Login]]) -> None:
    flat = [login for of_client in logins for login in of_client]
    if not flat:
        return
    lines = [json.dumps({"identifier": one.identifier, "password": one.typed}) for one in flat]
    ended = week.egec("verify", "--batch", "-", "--format", "jsonl", stdin="\n".join(lines), codes=(0, 3))
    verdicts = ended.rows()
    week.books.require(len(verdicts) == len(flat), f"{len(verdicts)} verdicts on {len(flat)} logins: {ended.err}")
    all_accepted = all(verdict["accepted"] for verdict in verdicts)
    week.books.require(ended.code == (0 if all_accepted else 3), f"verify --batch ended with {ended.code}")
    for login, verdict in zip(flat, verdicts, strict=False):
        week.books.require(verdict["identifier"] == login.identifier, f"a verdict on {verdict['identifier']}")
        _judge(week, login, verdict["accepted"])


def try_one(week: Week, login: Login) -> None:
    """Try a login by `egec verify --stdin`."""
    ended = week.egec("verify", "--stdin", stdin=f"{login.identifier}\n{login.typed}\n", codes=(0, 1))
    _judge(week, login, ended.code == 0)


def _judge(week: Week, login: Login, accepted: bool) -> None:
    week.typed.add(login.typed.strip())
    word = "accepted" if accepted else "refused"
    week.books.expect("login", word)
    week.books.count(f"logins {word}")
    week.books.require(
        accepted is login.accepted,
        f"client {login.identifier}: a login was {word}, which it must not be: {login.because}",
    )


def with_last(identifier: str, given: Sequence[Given], because: str = "P1: it is the last mail's") -> Login:
    """Return the login with a client's last password, which must be accepted."""
    return Login(identifier, given[-1].password, True, because)


def thoroughly(week: Week, identifier: str, given: Sequence[Given]) -> Iterator[Login]:
    """Yield logins with all passwords of a client: the last one must work, and after its use no other.

    Before its use, the latest password that precedes a known acceptance must already be refused.
    Few logins in a row are wrong, so the account never waits.
    """
    last, earlier = given[-1], given[:-1]
    if week.settled[identifier] < last.sequence:
        superseded = [one for one in earlier if one.sequence < week.settled[identifier]]
        yield from (Login(identifier, one.password, False, "P2: a later mail was accepted") for one in superseded[-1:])
    yield with_last(identifier, given)
    for place, one in enumerate(earlier, 1):
        yield Login(identifier, one.password, False, "P2: a later mail's password has been used")
        if place % _MOST_WRONG == 0 and place < len(earlier):
            yield with_last(identifier, given)
    week.settled[identifier] = last.sequence
