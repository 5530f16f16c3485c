"""Whether the time of a refused login distinguishes accounts.

    python -m tests.benchmarks.refusals [NUMBER] [COST]

Each kind of account refuses NUMBER logins (default: 200) by `login.verify` at this bcrypt COST (default: 10), in turn
with an unknown identifier. AUC is the probability that a refusal of this kind takes longer than one of an unknown
identifier: 0.5 tells nothing, and more than 0.60, or less than 0.40, is too much. Processor time is what is judged;
wall time depends on the machine's other work.
"""

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from egec_cli import context, hashing
from egec_cli.clients import change, fields, records
from egec_cli.credentials import issue
from egec_cli.logins import limits
from egec_cli.logins.verify import verify_login
from egec_cli.settings import load
from egec_cli.store.models import Client, Credential

TARGET = 0.60
UNKNOWN = "1111111111"
WRONG = "fG69a*6jH"


class Times(NamedTuple):
    """How long logins take, in seconds."""

    processor: list[float]
    wall: list[float]


def auc(ones: Sequence[float], others: Sequence[float]) -> float:
    """Return the probability that a value of the ones is above one of the others (Mann and Whitney's U)."""
    above = sum((one > other) + (one == other) / 2 for one in ones for other in others)
    return above / (len(ones) * len(others))


def account(opened: context.Context, name: str, cost: int | None = None) -> Client:
    """Make a client, with a password whose hash has this cost, if any."""
    client = records.create_client(opened, fields.parse_fields(f"{name}@example.org"))
    if cost is not None:
        hashed = hashing.start_hash(opened.settings._replace(bcrypt_cost=cost))
        issue.issue_to_operator(opened, client, lambda _: None, hashing=hashed)
    return client


def accounts(opened: context.Context, cost: int) -> dict[str, str]:
    """Return the identifier of an account of each kind."""
    made = {"wrong password": account(opened, "wrong", cost), "blocked": account(opened, "blocked", cost)}
    Client.update(failed_logins=10, blocked_until=limits.UNTIL_NEW_CREDENTIAL).where(
        Client.id == made["blocked"].id
    ).execute()
    made["disabled"] = account(opened, "disabled", cost)
    change.disable_clients(opened, [made["disabled"].id], reason="moved")
    made["erased"] = account(opened, "erased", cost)
    change.erase_clients(opened, [made["erased"].id])
    made["expired"] = account(opened, "expired", cost)
    yesterday = opened.clock() - timedelta(days=1)
    Credential.update(expires_at=yesterday).where(Credential.client == made["expired"].id).execute()
    made["never activated"] = account(opened, "never")
    for cheaper in (2, 1):
        made[f"imported, cost {cost - cheaper}"] = account(opened, f"imported{cheaper}", cost - cheaper)
    return {kind: client.identifier for kind, client in made.items()}


def measure(opened: context.Context, identifiers: dict[str, str], number: int) -> dict[str, Times]:
    """Refuse logins of all kinds in turn."""
    times = {kind: Times([], []) for kind in identifiers}
    for _ in range(number):
        # So that wrong passwords do not block the account.
        Client.update(failed_logins=0).where(Client.blocked_until.is_null()).execute()
        for kind, identifier in identifiers.items():
            processor, wall = time.process_time(), time.perf_counter()
            accepted = verify_login(opened, identifier, WRONG).accepted
            times[kind].processor.append(time.process_time() - processor)
            times[kind].wall.append(time.perf_counter() - wall)
            assert not accepted
    return times


def main() -> int:
    """Measure, and return 1 if a kind of account can be distinguished from an unknown identifier."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    cost = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    folder = Path(tempfile.mkdtemp(prefix="egec-refusals-"))
    own = {"EGEC_DATABASE_URL": f"sqlite:///{folder}/egec.db", "EGEC_BCRYPT_COST": str(cost)}
    try:
        found = load.load_settings(own)
        context.create_database(found)
        with context.open_context(found) as opened:
            identifiers = {"unknown identifier": UNKNOWN, "another unknown": "2222222222", **accounts(opened, cost)}
            measure(opened, identifiers, 3)
            times = measure(opened, identifiers, number)
    finally:
        shutil.rmtree(folder)
    print(f"{sys.version.split()[0]}, {os.cpu_count()} cores, {number} refusals of each kind at cost {cost}")
    unknown = times.pop("unknown identifier")
    is_told = False
    for kind, taken in times.items():
        found_auc = auc(taken.processor, unknown.processor)
        is_told |= not 1 - TARGET <= found_auc <= TARGET
        print(
            f"{kind:<20} {statistics.median(taken.processor) * 1000:7.2f} ms of the processor, "
            f"{statistics.median(unknown.processor) * 1000:7.2f} ms if unknown; AUC {found_auc:.3f} "
            f"(wall {auc(taken.wall, unknown.wall):.3f})"
        )
    print(f"target: AUC {1 - TARGET:.2f} to {TARGET:.2f}  {'OVER' if is_told else 'ok'}")
    return int(is_told)


if __name__ == "__main__":
    sys.exit(main())
