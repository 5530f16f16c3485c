"""Runs as cron and operators handle them: started, killed, continued, and checked at the end."""

import json
import time

from tests.week.office import KILLED, Ended, Running
from tests.week.state import Week

_PAUSE = 0.1
_LOWEST_RATE = 25


def begin(week: Week, name: str, *selectors: str, stdin: str = "") -> Running:
    """Start a run, or continue it with the same command."""
    # So slow that what is to strike it in the middle does.
    rate = max(_LOWEST_RATE, week.number // 6)
    command = ("reissue", "start", name, *selectors, "--rate", str(rate), "--yes", "--format", "jsonl")
    return week.egec.begin(*command, stdin=stdin, actor="cron")


def kill_after(week: Week, running: Running, mails: int) -> None:
    """Kill a worker after this number of further mails."""
    from_now = week.post.received + mails
    ended = running.kill_when(lambda: week.post.received >= from_now)
    week.books.count("workers of runs killed", int(ended.code == KILLED))
    note(week, ended)


def finish(week: Week, name: str, running: Running) -> list[str]:
    """Let a worker end its run, and require that the numbers add up; return the identifiers of who failed.

    What the run puts off is due at once, as if time passed.
    """
    while not running.is_over:
        week.store.let_waits_be_over()
        time.sleep(_PAUSE)
    ended = running.ended(0, 3)
    note(week, ended)
    status = json.loads(week.egec("reissue", "status", name, "--format", "json").out)
    failed = week.egec("reissue", "status", name, "--failed", "--format", "jsonl").rows()
    adds_up = status["accepted"] + status["failed"] + status["skipped"] == status["total"] and status["remaining"] == 0
    week.books.require(status["state"] == "done" and adds_up, f"the run {name} does not add up: {status}")
    week.books.require(
        len(failed) == status["failed"], f"the run {name} lists {len(failed)} of {status['failed']} failed"
    )
    week.books.require(ended.code == (3 if failed else 0), f"the run {name} ended with {ended.code}")
    week.books.expect("reissue.finish", "done")
    return [str(row["identifier"]) for row in failed]


def note(week: Week, ended: Ended) -> None:
    """Count the results that a worker reported."""
    for row in ended.rows():
        week.books.count(f"clients reported as {row['outcome']} by workers of runs")
