"""A database with runs: done with refused clients, paused in two ways, with deferred mail, and slowed down."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from egec_cli.clock import to_rfc3339
from egec_cli.reissue import threads
from egec_cli.reissue.backoff import Throttle
from egec_cli.reissue.runs import HEARTBEAT_LIFETIME
from tests.processes import egec_after, replace
from tests.smtp_server import Fault, MailServer, Point

_REFUSED = {
    "client4@example1.org": "550 5.1.1 <client4@example1.org>: Recipient address rejected: User unknown in the table",
    "client7@example1.org": "550 5.1.1 <client7@example1.org>: Recipient address rejected: User unknown in the table",
    "client9@example0.org": "552 5.2.2 Mailbox full",
}
_DEFERRED = ("client2@example2.org", "client5@example2.org")
_BLOCKED = "554 5.7.1 Service unavailable; Client host [192.0.2.10] blocked using zen.spamhaus.org"
# The program, which tries to reach a mail server for a moment only.
_IMPATIENT = egec_after(replace(threads, "FIRST_WAIT_FOR_SERVER", 0.01))
_THROTTLED = "421 4.7.0 Our system has detected an unusual rate of mail from your IP address. Try again later."
# One at a time, so that the order of what is shown is the same each time.
_IN_ORDER = {"EGEC_WORKERS": "1", "EGEC_MAIL_CONNECTIONS": "1"}


def prepare(folder: Path, variables: Mapping[str, str]) -> None:
    """Copy the database in this folder, and carry out the runs with a mail server that refuses some clients."""
    original, with_runs = folder / "egec.db", folder / "runs.db"
    with closing(sqlite3.connect(original)) as source, closing(sqlite3.connect(with_runs)) as copy:
        source.backup(copy)
    with MailServer() as server:
        for address in _REFUSED:
            server.fail_always(Fault.RCPT_550, recipient=address)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EGEC_")}
        environment |= {**variables, **_IN_ORDER, **_settings(with_runs, server)}
        _egec(environment, "reissue", "start", "weekly-2026-48", "--all", "--limit", "12", "--yes")
        for address in _DEFERRED:
            server.fail_always(Fault.RCPT_451, recipient=address)
        limited = ("--all", "--limit", "12", "--yes")
        _egec(environment, "reissue", "start", "weekly-2026-50", *limited, "--wait", "0")
        server.answer_always(Point.RCPT, _BLOCKED)
        _egec(environment, "reissue", "start", "weekly-2026-51", *limited)
        server.stop()
        _egec(environment, "reissue", "start", "weekly-2026-52", *limited, "--rate", "60/min")
        _egec(environment, "reissue", "start", "weekly-2026-49", "--all", "--yes")
    with closing(sqlite3.connect(with_runs)) as database, database:
        for address, reply in _REFUSED.items():
            database.execute(
                "UPDATE reissue_item SET details = ? WHERE state = 'failed' AND client_id ="
                " (SELECT id FROM client WHERE email = ?)",
                (reply, address),
            )
        # Long ago, so that no expected end is shown, which would differ from run to run.
        database.execute("UPDATE credential SET created_at = '2026-01-01T00:00:00.000Z' WHERE run_id IS NOT NULL")
        database.execute("UPDATE event SET actor = 'cron', host = 'web1.example.org' WHERE run_id IS NOT NULL")
        database.execute("UPDATE reissue_run SET finished_at = created_at WHERE state = 'done'")


@contextmanager
def copied(folder: Path, *, is_blocked: bool = False) -> Iterator[dict[str, str]]:
    """Yield the variables with which a command finds a copy of that database, and the mail server.

    In the copy, a worker is active on the last run, which the mail server has slowed down.
    """
    copy = folder / "copy.db"
    shutil.copy(folder / "runs.db", copy)
    now = datetime.now(UTC)
    throttle = Throttle(rate=0.2, halved=0.2, normal=1.0, reply=_THROTTLED, refused_at=now, refusals=0).to_json()
    with closing(sqlite3.connect(copy)) as database, database:
        database.execute(
            "UPDATE reissue_run SET state = 'running', worked_until = ?, throttle = ? WHERE name = 'weekly-2026-52'",
            (to_rfc3339(now + HEARTBEAT_LIFETIME), throttle),
        )
        # However long ago that database was made.
        later = to_rfc3339(now + timedelta(hours=1))
        database.execute("UPDATE reissue_item SET not_before = ? WHERE state = 'waiting' AND attempts > 0", (later,))
        database.execute("UPDATE reissue_run SET paused_until = ? WHERE paused_until IS NOT NULL", (later,))
    with MailServer() as server:
        for address in list(_REFUSED)[:1]:
            server.fail_always(Fault.RCPT_550, recipient=address)
        for address in _DEFERRED:
            server.fail_always(Fault.RCPT_451, recipient=address)
        if is_blocked:
            server.answer_always(Point.RCPT, _BLOCKED)
        yield {**_settings(copy, server), **_IN_ORDER}
    for file in folder.glob("copy.db*"):
        file.unlink()


def _settings(database: Path, server: MailServer) -> dict[str, str]:
    return {
        "EGEC_DATABASE_URL": f"sqlite:///{database}",
        "EGEC_MAIL_URL": server.url,
        "EGEC_MAIL_FROM": "eGEC <ne-pas-repondre@egec.pro>",
    }


def _egec(environment: Mapping[str, str], *arguments: str) -> None:
    subprocess.run([*_IMPATIENT, *arguments], env=dict(environment), check=False, capture_output=True)
