"""The night to Thursday: everybody gets a new password; a worker is killed, then the mail server goes down."""

import json
import time
from collections.abc import Collection, Sequence

from tests.smtp_server import Fault
from tests.week import logins, operators, runs
from tests.week.office import Running
from tests.week.post import PASSING, weather
from tests.week.state import Week

_RUN = ("nightly", "--all")
_PAUSE = 0.005
# With fewer clients, an operator stops the worker instead of waiting for all its attempts.
_PATIENT_FROM = 1000


def live(week: Week) -> None:
    """Mail everybody; in the morning, handle the failures."""
    dead = _let_addresses_die(week)
    week.post.server.fail_next(*weather(week.number, week.chance, one_in=25, kinds=PASSING))
    _lose_the_server(week, *_begin_and_kill_one(week))
    failed = runs.finish(week, _RUN[0], runs.begin(week, *_RUN))
    week.books.expect("reissue.start", "recorded")
    strangers = {*failed} - {*dead}
    week.books.require(not strangers, f"the run failed for clients whose addresses live: {strangers}")
    _morning(week, failed)
    week.post.server.work_again()


def _let_addresses_die(week: Week) -> Sequence[str]:
    """Make some addresses unknown to the mail server; return the identifiers of their clients."""
    known_by = {identifier: name for name, identifier in week.identifiers.items() if identifier not in week.shut}
    dead = week.some(known_by, 250)
    for identifier in dead:
        for address in week.addresses[known_by[identifier]]:
            week.post.server.fail_always(Fault.RCPT_550, recipient=address)
    week.books.count("addresses that died", len(dead))
    return dead


def _begin_and_kill_one(week: Week) -> tuple[int, Running]:
    """Start the run, add a second worker, kill the first; return the number of mails and the second worker."""
    before = week.post.received
    first = runs.begin(week, *_RUN)
    _wait_for_mails(week, before + week.number // 20, first)
    second = week.egec.begin("reissue", "resume", _RUN[0], "--format", "jsonl", actor="cron")
    runs.kill_after(week, first, week.number // 5)
    return before, second


def _lose_the_server(week: Week, before: int, worker: Running) -> None:
    """Stop the mail server in the middle; meanwhile those already mailed log in with the last mail."""
    _wait_for_mails(week, before + week.number // 2, worker)
    week.post.server.stop()
    given = week.given()
    mailed = {letter.identifier: None for letter in week.post.letters()[before:]}
    some = [one for one in mailed if one in given]
    because = "P1: it is the last mail's, while the mail server is unavailable"
    logins.try_all(week, [[logins.with_last(one, given[one], because)] for one in some])
    for client in some[:3]:
        operators.try_in_vain(week, client, "bruno")
    logins.try_all(week, [[logins.with_last(one, given[one], "P3: an activation has failed")] for one in some[:3]])
    if week.number < _PATIENT_FROM:
        worker.terminate()
    ended = worker.ended(0, 3, 75, 143)
    runs.note(week, ended)
    week.books.count("workers of runs that ended because the mail server was unavailable", int(ended.code in {75, 143}))
    week.post.server.start()


def _wait_for_mails(week: Week, number: int, worker: Running) -> None:
    while week.post.received < number and not worker.is_over:
        time.sleep(_PAUSE)


def _morning(week: Week, failed: Collection[str]) -> None:
    """Let clients whose mail failed log in as before, correct half of the addresses, and try again."""
    given = week.given()
    with_password = [one for one in failed if one in given]
    because = "P3: the issue of the night has failed"
    logins.try_all(week, [[logins.with_last(one, given[one], because)] for one in with_password])
    corrected = list(failed)[::2]
    for number, identifier in enumerate(corrected):
        change_address(week, identifier, f"corrected{number}@example.org", "--no-mail")
    retried = week.egec.begin("reissue", "retry", _RUN[0], "--format", "jsonl", actor="cron")
    still_failed = runs.finish(week, _RUN[0], retried)
    week.books.require({*still_failed} == {*failed} - {*corrected}, f"after the retry, {still_failed} have failed")


def change_address(week: Week, identifier: str, email: str, *options: str) -> None:
    """Give a client another address."""
    known_by = next(name for name, known in week.identifiers.items() if known == identifier)
    updated = week.egec("client", "update", identifier, "--email", email, "--format", "json", *options)
    week.books.require(json.loads(updated.out)["identifier"] == identifier, "P4: a change of the address changed it")
    week.register(known_by, email)
    week.books.expect("client.update", "updated")
    week.books.count("addresses changed")
