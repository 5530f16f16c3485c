"""Wednesday: the clients log in, with white space, mistakes and earlier mails; some guess until they must wait."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.week import logins, operators
from tests.week.logins import Login
from tests.week.state import Given, Week

_FAILURES_BEFORE_WAIT = 5
_AROUND = ("{}", " {}", "{}\u00a0", "\u200b{}\t")


def live(week: Week) -> None:
    """Let half of the clients log in, by several programs at once."""
    given = week.given()
    today = week.some(given, 2)
    by_hand = week.share(500)
    with ThreadPoolExecutor() as pool:
        one_by_one = pool.submit(_one_by_one, week, given, today[:by_hand])
        logins.try_all(week, [list(_logins(week, one, given[one])) for one in today[by_hand:]])
        one_by_one.result()
    _guess(week, given)
    _ask_the_help_desk(week, today)


def _logins(week: Week, identifier: str, given: Sequence[Given]) -> Iterator[Login]:
    clear = given[-1].password
    if week.chance.randrange(10) == 0:
        yield Login(identifier, clear.swapcase(), False, "capitals count")
        yield Login(identifier, week.chance.choice(_AROUND).format(clear), True, "white space does not count")
    yield from logins.thoroughly(week, identifier, given)


def _one_by_one(week: Week, given: Mapping[str, Sequence[Given]], identifiers: Sequence[str]) -> None:
    for identifier in identifiers:
        for login in _logins(week, identifier, given[identifier]):
            logins.try_one(week, login)


def _guess(week: Week, given: Mapping[str, Sequence[Given]]) -> None:
    """Guess passwords until the account waits, then free it: by time, by an operator, by a new password."""
    victims = week.some(given, 500)
    # What was wrong before does not count any more.
    logins.try_all(week, [[logins.with_last(one, given[one])] for one in victims])
    for identifier in victims:
        right, wrong = given[identifier][-1].password, given[identifier][-1].password[::-1]
        guesses = [Login(identifier, wrong, False, "it was guessed")] * _FAILURES_BEFORE_WAIT
        logins.try_all(week, [[*guesses, Login(identifier, right, False, "the account has to wait")]])
    week.books.count("accounts that had to wait after wrong passwords", len(victims))
    by_time, by_operator, by_mail = victims[::3], victims[1::3], victims[2::3]
    week.store.let_blocks_be_over(by_time)
    for identifier in by_operator:
        week.egec("client", "unblock", identifier)
        week.books.expect("client.unblock", "unblocked")
    operators.activate_all(week, by_mail, "anne")
    after = week.given()
    logins.try_all(week, [[logins.with_last(one, after[one], "the wait is over")] for one in victims])


def _ask_the_help_desk(week: Week, today: Sequence[str]) -> None:
    """Let the help desk recognise the passwords of earlier mails: the hashes of the last two are kept."""
    superseded = {(row.identifier, row.sequence) for row in week.store.credentials() if row.state == "superseded"}
    given = week.given()
    recent = {
        one: given[one][-2].password
        for one in today
        if len(given[one]) > 1
        and (one, given[one][-1].sequence - 1) in superseded
        and given[one][-2].sequence == given[one][-1].sequence - 1
    }
    for identifier in week.some(recent, 500):
        typed = f"{identifier}\n{recent[identifier]}\n"
        ended = week.egec("verify", "--stdin", "--explain", "--format", "json", stdin=typed, codes=(1,))
        week.books.require('"earlier_password"' in ended.out, f"the help desk got {ended.out}")
        week.books.expect("login", "refused")
        week.books.expect("login.explain", "earlier_password")
        week.books.count("earlier passwords recognised by the help desk")
