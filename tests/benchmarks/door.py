"""Whether the time of an answer to a request tells who is a client, with EGEC_REQUEST_DISCLOSES=no.

    python -m tests.benchmarks.door [NUMBER] [COST]

NUMBER requests (default: 500) of each kind, known, unknown, disabled and limited, in random order. Each is a process of
its own, forked from one that has loaded egec, so that start-up does not hide a difference. Passwords are hashed at this
bcrypt COST (default: 10), and mails go to a mail server. AUC is the probability that an answer of this kind takes more
time than one of an unknown e-mail: 0.5 tells nothing; more than 0.55, or less than 0.45, is too much.
"""

import os
import statistics
import sys
from functools import partial
from random import Random

from egec_cli.store.models import Client
from egec_cli.store.sql import insert_many
from tests.benchmarks.refusals import auc
from tests.door import attacks
from tests.door.attacks import Door
from tests.door.forks import Forked, run_all
from tests.door.kinds import KINDS, make_limiting, make_nth

TARGET = 0.55


def fill(door: Door, number: int) -> None:
    """Create as many known and disabled clients, and use up the limits of one client and of one network."""
    now = "2026-01-01T00:00:00.000Z"
    columns = ("identifier", "email", "email_key", "civility", "first_name", "last_name", "language", "created_at",
               "updated_at", "disabled_at")  # fmt: skip
    rows = []
    for place, (kind, disabled_at) in enumerate((("known", None), ("disabled", now))):
        for one in range(number):
            email = f"{kind}{one}@example.org"
            rows.append(
                (str(2_000_000_000 + 10_000 * place + one), email, email, "", "", "", "", now, now, disabled_at)
            )
    with door.opened() as context, context.database.atomic():
        counts = {"active_sequence": 0, "last_sequence": 0, "revoked_below": 0, "failed_logins": 0}
        insert_many(context.database, Client._meta.table_name, columns, rows, constants=counts)
    door.run(attacks.ACTIVATE, make_limiting, 11)


def measure(door: Door, number: int) -> dict[str, list[float]]:
    """Send the requests, and return the times of their answers, in seconds."""
    order = [(kind, one) for kind in KINDS for one in range(number)]
    Random(1).shuffle(order)
    environ = {**os.environ, **door.environ}
    answers = run_all(attacks.ACTIVATE, partial(make_nth, order), len(order), environ, workers=1)
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for (kind, _), answer in zip(order, answers, strict=True):
        require_success(answer)
        times[kind].append(answer.seconds)
    return times


def require_success(answer: Forked) -> None:
    """Require the memo's answer."""
    assert (answer.code, answer.out.partition(" a ")[0]) == (0, "Un courriel"), answer


def main() -> int:
    """Measure, and return 1 if a kind can be distinguished from an unknown e-mail."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    cost = sys.argv[2] if len(sys.argv) > 2 else "10"
    with attacks.installed() as door:
        door.environ.update(EGEC_REQUEST_DISCLOSES="no", EGEC_BCRYPT_COST=cost)
        fill(door, number)
        times = measure(door, number)
    print(f"{sys.version.split()[0]}, {os.cpu_count()} cores, {number} requests of each kind, hashes of cost {cost}")
    unknown = times["unknown"]
    is_told = False
    for kind, taken in times.items():
        found = auc(taken, unknown)
        is_told |= not 1 - TARGET <= found <= TARGET
        print(f"{kind:<9} {statistics.median(taken) * 1000:6.1f} ms; AUC {found:.3f}")
    print(f"target: AUC {1 - TARGET:.2f} to {TARGET:.2f}  {'OVER' if is_told else 'ok'}")
    return int(is_told)


if __name__ == "__main__":
    sys.exit(main())
