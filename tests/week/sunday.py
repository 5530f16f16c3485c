"""Sunday: a month has passed for those who never logged in, and a year for the oldest events."""

import json

from tests.week import logins, runs
from tests.week.logins import Login
from tests.week.state import Week

_RUN = "late"
_NEVER_LOGGED_IN = (
    "SELECT identifier FROM client WHERE last_login_at IS NULL AND disabled_at IS NULL AND active_sequence > 0"
    " AND EXISTS (SELECT 1 FROM credential WHERE client_id = client.id AND sequence = active_sequence"
    " AND first_used_at IS NULL)"
)


def let_passwords_expire(week: Week) -> None:
    """Let unused passwords expire, and mail half of those clients again."""
    given = week.given()
    unused = [identifier for (identifier,) in week.store.rows(_NEVER_LOGGED_IN) if identifier in given]
    expired = week.some(unused, 50)
    week.store.let_passwords_expire(expired)
    week.books.count("passwords that expired unused", len(expired))
    listed = week.egec("client", "list", "--status", "expired", "--format", "ids").out.split()
    week.books.require({*listed} == {*expired}, f"{len(listed)} clients are listed as expired, not {len(expired)}")
    logins.try_all(week, [[Login(one, given[one][-1].password, False, "it has expired")] for one in expired])
    again = expired[::2]
    selectors = ("--status", "expired", "--from", "-")
    failed = runs.finish(week, _RUN, runs.begin(week, _RUN, *selectors, stdin="\n".join(again)))
    week.books.require(not failed, f"the run {_RUN} failed for {failed}")
    week.books.expect("reissue.start", "recorded")
    week.shut |= dict.fromkeys(expired[1::2], "expired")


def prune(week: Week) -> None:
    """Count the oldest events, then delete them."""
    old = week.number
    before = week.store.rows("SELECT COUNT(*) FROM event")[0][0]
    week.store.let_events_age(old)
    for options in (("--dry-run",), ("--yes",)):
        pruned = json.loads(week.egec("audit", "prune", *options, "--format", "json").out)
        week.books.require(pruned["events"] == old, f"audit prune {options}: {pruned['events']} events, not {old}")
    after = week.store.rows("SELECT COUNT(*) FROM event")[0][0]
    # That it began and that it ended is on record.
    week.books.require(after == before - old + 2, f"{before} events were pruned to {after}")
    week.books.count("events pruned", old)


def see_the_doctor(week: Week) -> None:
    """Require that the doctor finds no fault after the week."""
    findings = json.loads(week.egec("doctor", "--format", "json", codes=(3,)).out)
    verdicts = {finding["check"]: finding["verdict"] for finding in findings}
    faults = [finding for finding in findings if finding["verdict"] == "fault"]
    week.books.require(not faults, f"the doctor finds faults: {faults}")
    for check in ("paused_runs", "open_credentials"):
        week.books.require(verdicts.get(check) == "ok", f"the doctor says of {check}: {verdicts.get(check)}")
