"""Logins: many in one process against bcrypt alone on all cores, and the time of each kind of refusal.

    python tests/benchmarks/logins.py [NUMBER] [ROUNDS]

`egec verify --batch` and bcrypt alone check NUMBER logins in turn, ROUNDS times; the median of the ratios must be at
least 0.95. Then the use case checks an unknown identifier, a wrong password and a blocked account in turn: their median
times must not reveal which of them it was.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from egec_cli import context, hashing
from egec_cli.clients import fields, records
from egec_cli.credentials import issue
from egec_cli.logins import limits
from egec_cli.logins.verify import verify_login
from egec_cli.password import generate_password
from egec_cli.settings import load
from egec_cli.store.models import Client

PYTHON = sys.executable
EGEC = [PYTHON, "-m", "egec_cli"]
COST = 12
TARGET = 0.95
BCRYPT_ALONE = """
import os, sys, threading, bcrypt
number, stored = int(sys.argv[1]), sys.argv[2].encode()
cores = os.cpu_count() or 1
def check(first):
    for _ in range(first, number, cores):
        bcrypt.checkpw(b"fG69a*6jH", stored)
threads = [threading.Thread(target=check, args=(first,)) for first in range(cores)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def wall(command: list[str], stdin: str, environment: dict[str, str]) -> float:
    """Run a command and return how long it took, in seconds."""
    begin = time.perf_counter()
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, env=environment)
    taken = time.perf_counter() - begin
    if done.returncode != 0:
        sys.exit(f"{command} ended with {done.returncode}: {done.stderr}")
    return taken


def account(opened: context.Context, number: int) -> tuple[str, str]:
    """Create a client with a password; return both."""
    client = records.create_client(opened, fields.parse_fields(f"client{number}@example.org"))
    made = hashing.start_hash(opened.settings)
    issue.issue_to_operator(opened, client, lambda _: None, hashing=made)
    return client.identifier, made.password.reveal()


def measure_batch(logins: list[tuple[str, str]], stored: str, rounds: int, environment: dict[str, str]) -> None:
    """Print how the list compares with bcrypt alone."""
    text = "".join(f"{identifier};{password}\n" for identifier, password in logins)
    ratios, rates = [], []
    for _ in range(rounds):
        ours = wall([*EGEC, "verify", "--batch", "-", "--format", "jsonl"], text, environment)
        theirs = wall([PYTHON, "-c", BCRYPT_ALONE, str(len(logins)), stored], "", environment)
        ratios.append(theirs / ours)
        rates.append(len(logins) / ours)
    ratio = statistics.median(ratios)
    verdict = "ok" if ratio >= TARGET else "UNDER"
    print(
        f"verify --batch of {len(logins)} at cost {COST} / bcrypt alone: {statistics.median(rates):.1f} logins/s, "
        f"ratio {ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f}), target {TARGET}  {verdict}"
    )


def measure_refusals(opened: context.Context, wrong: str, blocked: str, rounds: int) -> None:
    """Print how long each kind of refusal takes, and their ratios to a wrong password."""
    kinds = {"wrong password": wrong, "unknown identifier": "1111111111", "blocked account": blocked}
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        # So that the wrong ones never block the account.
        Client.update(failed_logins=0, blocked_until=None).where(Client.identifier == wrong).execute()
        for kind, identifier in kinds.items():
            times[kind].append(timed(partial(verify_login, opened, identifier, "fG69a*6jH")))
    usual = statistics.median(times["wrong password"])
    for kind, taken in times.items():
        low, middle, high = statistics.quantiles(taken, n=4)
        print(
            f"{kind:<20} {middle * 1000:7.1f} ms (quartiles {low * 1000:.1f} and {high * 1000:.1f}), "
            f"{middle / usual:.3f} of a wrong password"
        )


def timed(call: Callable[[], object]) -> float:
    """Return how long a call takes, in seconds."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def main() -> None:
    """Measure both."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 7
    folder = Path(tempfile.mkdtemp(prefix="egec-logins-"))
    own = {
        "EGEC_DATABASE_URL": f"sqlite:///{folder}/egec.db",
        "EGEC_BCRYPT_COST": str(COST),
        "XDG_CONFIG_HOME": str(folder),
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EGEC_")} | own
    try:
        found = load.load_settings(own)
        context.create_database(found)
        with context.open_context(found) as opened:
            logins = [account(opened, one) for one in range(number)]
            Client.update(failed_logins=10, blocked_until=limits.UNTIL_NEW_CREDENTIAL).where(
                Client.identifier == (blocked := account(opened, number)[0])
            ).execute()
            stored = hashing.hash_password(generate_password(found.alphabet), COST)
            print(f"{sys.version.split()[0]}, {os.cpu_count()} cores, {rounds} rounds")
            measure_batch(logins, stored, rounds, environment)
            measure_refusals(opened, logins[0][0], blocked, 3 * rounds)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
