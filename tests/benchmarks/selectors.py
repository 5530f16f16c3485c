"""Selectors over many clients, and a change of many, on SQLite and PostgreSQL.

    python -m tests.benchmarks.selectors [ROW ...] [--clients N] [--rounds N]

`first` runs `egec client list SELECTOR --format csv` as a whole process, whose reader leaves after the first client. It
measures how long that takes, start-up and all. On PostgreSQL, whose driver alone takes half of that, what the selector
adds to the same command without one is the figure. The clients that match are few or many, and anywhere: also all at
the end, where a search in key order would come to them last.

`disable` runs `egec client disable SELECTOR` for a tenth of the clients, and a bare program that updates as many rows
one by one in the same batches, each in a transaction; with audit, it inserts the events too. What the command takes
without a selected client, its start-up, is subtracted. Memory is the peak of the process against that of a change of
few.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from egec_cli import clock
from egec_cli.context import open_context
from egec_cli.settings import load
from egec_cli.store.sql import insert_many
from tests.benchmarks.clients import DOMAINS, identifier, postgresql_server
from tests.benchmarks.reissue import EGEC, PYTHON, Program, at_most, fresh_folder, print_median, run

LIMIT = 0.3
SELECTORS = (
    "--last-login-before 2y", "--last-login-before 3y", "--last-login-before 10d", "--never-logged-in",
    "--created-before 5y", "--created-after 5y", "--created-after 30d", "--created-after 1d",
    "--email-domain mairie-5.example.org", "--email-domain rare.example.com", "--email-domain unused.example.net",
    "--never-logged-in --created-before 2y", "--last-login-before 3y --email-domain mairie-5.example.org",
)  # fmt: skip
COLUMNS = (
    "identifier", "email", "email_key", "civility", "first_name", "last_name", "language", "created_at", "updated_at",
    "last_login_at", "active_sequence", "revoked_below", "last_sequence", "failed_logins",
)  # fmt: skip
# Updates the last clients who are not disabled, in the batches of egec.
BARE = """
import sys, time
url, number, with_audit = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "audit"
if url.startswith("sqlite:///"):
    import sqlite3
    database = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    for pragma in ("journal_mode = wal", "synchronous = full", "foreign_keys = 1", "secure_delete = 1"):
        database.execute(f"PRAGMA {pragma}")
    cursor, mark = database.cursor(), "?"
else:
    import psycopg
    database = psycopg.connect(url, autocommit=True)
    cursor, mark = database.cursor(), "%s"
cursor.execute(f"SELECT id FROM client WHERE disabled_at IS NULL ORDER BY id DESC LIMIT {number}")
keys = sorted(key for (key,) in cursor.fetchall())
at = "2026-11-29T00:00:00.000Z"
begin = time.perf_counter(), time.process_time()
for first in range(0, number, 500):
    some = keys[first : first + 500]
    cursor.execute("BEGIN")
    cursor.executemany(
        f"UPDATE client SET disabled_at = {mark}, updated_at = {mark} WHERE id = {mark}",
        [(at, at, key) for key in some],
    )
    if with_audit:
        cursor.executemany(
            "INSERT INTO event (at, actor, host, action, client_id, run_id, outcome, details) VALUES"
            f" ({', '.join([mark] * 8)})",
            [(at, "root", "host", "client.disable", key, None, "disabled", '{"reason": "x"}') for key in some],
        )
    cursor.execute("COMMIT")
print(time.perf_counter() - begin[0], time.process_time() - begin[1])
"""


class Database(NamedTuple):
    """A database with many clients."""

    name: str
    url: str
    folder: Path

    def egec(self, *arguments: str) -> Program:
        """Prepare a command of egec."""
        return Program([EGEC, *arguments], {"EGEC_DATABASE_URL": self.url})


def fill(database: Database, number: int) -> None:
    """Create the clients: of all ages; many never logged in, and a few are rare."""
    chance, now = random.Random(number), datetime.now(UTC)

    def before(days: float) -> str:
        return clock.to_rfc3339(now - timedelta(days=days))

    def rows() -> Iterator[Sequence[object]]:
        for one in range(number):
            is_rare = one >= number * 0.99 and one % 100 == 0
            email = f"c{one}@{'rare.example.com' if is_rare else DOMAINS[one % 196]}"
            created = before(2000 - 2000 * one / number)
            login = before(1200) if is_rare else None if chance.random() < 0.3 else before(chance.random() * 900)
            yield identifier(one), email, email, "", "", "", "", created, created, login, 0, 0, 0, 0

    run(database.egec("init"), database.folder)
    settings = load.load_settings(environ={"EGEC_DATABASE_URL": database.url})
    with open_context(settings) as context:
        batch: list[Sequence[object]] = []
        for row in rows():
            batch.append(row)
            if len(batch) == 50_000:
                insert_many(context.database, "client", COLUMNS, batch)
                batch = []
        insert_many(context.database, "client", COLUMNS, batch)


class First(NamedTuple):
    """How long the first client takes, and the processor time of the process, in seconds."""

    seconds: float
    busy: float


def first(database: Database, rounds: int) -> None:
    """Measure the first client of each selector."""
    without = first_client(database, (), rounds)
    print(f"  {database.name}: without a selector {without.seconds:.2f} s, processor {without.busy:.2f} s")
    for selector in SELECTORS:
        taken = first_client(database, selector.split(), rounds)
        figure = taken.seconds if database.name == "SQLite" else taken.seconds - without.seconds
        words = f"{taken.seconds:.2f} s, processor {taken.busy:.2f} s  {at_most(LIMIT).verdict(figure)}"
        print(f"  {database.name}: {selector:<68} {words}", flush=True)


def first_client(database: Database, selector: Sequence[str], rounds: int) -> First:
    """Return the medians for a list whose reader leaves after the first client."""
    program = database.egec("client", "list", *selector, "--format", "csv")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EGEC_")}
    environment |= {"HOME": str(database.folder)} | program.environment
    seen = []
    for _ in range(rounds):
        begin = time.perf_counter()
        process = subprocess.Popen(program.command, stdout=subprocess.PIPE, env=environment, cwd=database.folder)
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()
        seconds = time.perf_counter() - begin
        process.stdout.close()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in {0, 141}:
            sys.exit(f"{' '.join(program.command)} ended with {process.returncode}")
        seen.append(First(seconds, usage.ru_utime + usage.ru_stime))
    return First(*(statistics.median(column) for column in zip(*seen, strict=True)))


def disable(database: Database, number: int, rounds: int) -> None:
    """Compare a change of many clients with bare updates, and its memory with that of a change of few."""
    change = ("client", "disable", "--created-after", "90y", "--reason", "x", "--yes", "--format", "count", "--limit")
    none = ("client", "disable", "--created-before", "90y", "--reason", "x", "--yes", "--format", "count")
    ratios: dict[str, list[float]] = {"updates": [], "audit": []}
    memory = []
    for _ in range(rounds):
        startup = run(database.egec(*none), database.folder)
        few = run(database.egec(*change, "1000"), database.folder)
        ours = run(database.egec(*change, str(number)), database.folder)
        if ours.out != f"{number}\n":
            sys.exit(f"{ours.out.strip()} clients were changed, not {number}")
        memory.append(ours.peak / few.peak)
        taken = ours.seconds - startup.seconds
        print(f"  {database.name}: {taken:.2f} s, processor {ours.busy - startup.busy:.2f} s", end="")
        for kind in ratios:
            bare = run(Program([PYTHON, "-c", BARE, database.url, str(number), kind], {}), database.folder)
            seconds, busy = map(float, bare.out.split())
            ratios[kind].append(taken / seconds)
            print(f"; bare {kind} {seconds:.2f} s, processor {busy:.2f} s", end="")
        print(flush=True)
    print_median(f"{database.name}: / bare UPDATEs", ratios["updates"], at_most(2))
    print_median(f"{database.name}: / the same + audit", ratios["audit"], at_most(2))
    print_median(f"{database.name}: peak memory", memory, at_most(1.3))


@contextmanager
def databases() -> Iterator[list[Database]]:
    """Yield an empty database of each engine."""
    with fresh_folder() as folder, fresh_folder() as other, postgresql_server() as create_url:
        yield [
            Database("SQLite", f"sqlite:///{folder}/egec.db", folder),
            Database("PostgreSQL", create_url(), other),
        ]


def main() -> None:
    """Measure the given rows, or both."""
    parser = argparse.ArgumentParser(description="Selectors over many clients, and a change of many.")
    parser.add_argument("row", nargs="*", help="first or disable; default: both")
    parser.add_argument("--clients", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    wanted = set(asked.row) or {"first", "disable"}
    if strangers := wanted - {"first", "disable"}:
        parser.error(f"no such row: {', '.join(sorted(strangers))}")
    with databases() as both:
        for database in both:
            begin = time.perf_counter()
            fill(database, asked.clients)
            print(f"  {database.name}: {asked.clients:,} clients in {time.perf_counter() - begin:.0f} s", flush=True)
            if "first" in wanted:
                first(database, asked.rounds)
            if "disable" in wanted:
                disable(database, asked.clients // 10, asked.rounds)


if __name__ == "__main__":
    main()
