"""Tuesday: everybody is activated, by two operators, a portal and cron at once, while mails are refused and lost."""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from tests.smtp_server import Fault
from tests.week import logins, operators, runs
from tests.week.logins import Login
from tests.week.post import FOUL, weather
from tests.week.state import Week

_RUN = ("onboarding", "--status", "new")
_KILLS = 2
# Of those who log in when a worker was killed: the last ones that got a mail.
_LAST = 10
_MOST_TRIES = 10


def live(week: Week) -> None:
    """Activate everybody."""
    of_anne = week.some(week.identifiers.values() - week.shut.keys(), 150)
    of_bruno = of_anne[::2] + week.some(week.identifiers.values() - week.shut.keys(), 300)
    week.post.server.fail_next(*weather(week.number, week.chance, one_in=20))
    with ThreadPoolExecutor() as pool:
        work = [
            pool.submit(operators.activate_all, week, of_anne, "anne"),
            pool.submit(operators.activate_all, week, of_bruno, "bruno"),
            pool.submit(_portal, week),
            pool.submit(_cron, week, {*of_anne, *of_bruno}),
        ]
        for one in work:
            one.result()
    week.post.server.work_again()
    week.look_at_identifiers()
    _fail_in_every_way(week)
    _counter(week)


def _portal(week: Week) -> None:
    """Create and activate clients together, then again, like an interrupted onboarding script."""
    for number in range(week.share(200)):
        email = f"late{number}@example.org"
        week.register(f"L-{number}", email)
        create = ("client", "create", email, "--reference", f"L-{number}", "--if-missing", "--activate")
        for _ in range(_MOST_TRIES):
            if week.egec(*create, actor="portal", codes=(0, 65, 75)).code == 0:
                break
        before = week.post.server.accepted
        week.egec(*create, actor="portal")
        mailed_again = [mail for mail in week.post.server.accepted[len(before) :] if mail.recipient == email]
        week.books.require(not mailed_again, f"{email} was mailed again by the same command")
        week.books.expect("client.create", "created")
        week.books.count("clients made and activated by the portal")


def _cron(week: Week, busy: Collection[str]) -> None:
    """Start the run, kill it repeatedly, and continue it."""
    for _ in range(_KILLS):
        runs.kill_after(week, runs.begin(week, *_RUN), week.number // 4)
        _log_in_at_once(week, busy)
    runs.finish(week, _RUN[0], runs.begin(week, *_RUN))
    week.books.expect("reissue.start", "recorded")


def _log_in_at_once(week: Week, busy: Collection[str]) -> None:
    """Log in the recipients of a killed worker's last mails, except those that operators are working on."""
    last = {letter.identifier for letter in week.post.letters()[-_LAST:]} - {*busy}
    given = week.given()
    because = "P1: it is the last mail's, whose sender was killed"
    mine = [one for one in sorted(last) if one in week.identifiers.values()]
    logins.try_all(week, [[logins.with_last(one, given[one], because)] for one in mine])


def _fail_in_every_way(week: Week) -> None:
    """Make activations fail in every way; then the last mail that arrived works."""
    ways = [fault for kind in FOUL for fault in kind]
    clients = week.chance.sample(sorted(week.given()), len(ways))
    for fault, client in zip(ways, clients, strict=True):
        week.post.server.fail_next(fault)
        operators.activate_once(week, client, "bruno")
    given = week.given()
    because = "P1, P3: it is the last mail's that has arrived"
    logins.try_all(week, [[logins.with_last(one, given[one], because)] for one in clients])


def _counter(week: Week) -> None:
    """Hand out a few passwords at the counter, kill a few activations, and leak a few passwords."""
    given = week.given()
    for client in week.some(given, 500):
        operators.hand_over(week, client, "bruno")
    for client in week.some(given, 500):
        operators.activate_and_be_killed(week, client, "dora")
    for client in week.some(given, 500):
        _leak(week, client)
    after = week.given()
    logins.try_all(week, [[logins.with_last(one, after[one])] for one in week.some(after, 50)])


def _leak(week: Week, client: str) -> None:
    """Revoke a client's passwords after a leak; no earlier password works even before the mail leaves."""
    week.post.server.fail_next(Fault.MESSAGE_451)
    operators.activate_once(week, client, "anne", "--revoke")
    logins.try_one(week, Login(client, week.given()[client][-1].password, False, "it was revoked"))
    operators.revoke(week, client, "anne")
