"""Leases: who is mailing a client now, so that two issuers do not mail the same client at once.

A lease keeps mails in the order of their sequences. It is a courtesy: no promise to a client rests on it.
"""

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from egec_cli.accounts.egec import Egec
from egec_cli.errors import NotNow
from egec_cli.store.database import among, tuples
from egec_cli.store.models import Client

# How long a second issuer waits for the first, in seconds.
PATIENCE = 15.0
# An issue has about this many answers of the mail server to wait for.
_ANSWERS = 10
_PAUSE = 0.05


@dataclass(frozen=True)
class Lease:
    """The right to mail one client, held by one issue."""

    client: Client
    owner: str

    def release(self) -> None:
        """Let the next issuer go on; a lease that another has taken over is left alone."""
        release_all([self.client.id], self.owner)


def take(egec: Egec, client: Client, *, patience: float = PATIENCE) -> Lease:
    """Wait for the lease of a client and return it.

    Args:
        egec: where.
        client: whom to mail.
        patience: how long to wait, in seconds.

    Raises:
        NotNow: another issuer still held it when the patience was at its end.
    """
    owner = new_owner()
    deadline = time.monotonic() + patience
    while not take_all(egec, [client.id], owner):
        if time.monotonic() >= deadline:
            holder = Client.select(Client.lease_owner).where(Client.id == client.id).scalar() or owner
            raise NotNow(
                "client {identifier} is being mailed by another egec: {holder}",
                "Wait for it to end, then run the same again if it is still wanted.",
                code="client_busy",
                identifier=client.identifier,
                holder=holder.rpartition("/")[0],
            )
        time.sleep(_PAUSE)
    return Lease(client, owner)


def take_all(egec: Egec, clients: Sequence[int], owner: str) -> set[int]:
    """Take the leases of those of the clients who are not being mailed by another, and return their keys."""
    held = Client.select(Client.lease_owner).where(among(Client.id, clients) & Client.lease_owner.is_null(False))
    gone = [holder for (holder,) in tuples(held.distinct()) if is_gone(holder)]
    free = Client.lease_owner.is_null() | (Client.lease_until < egec.clock()) | Client.lease_owner.in_(gone)
    Client.update(lease_owner=owner, lease_until=_until(egec)).where(among(Client.id, clients) & free).execute()
    taken = Client.select(Client.id).where(among(Client.id, clients) & (Client.lease_owner == owner))
    return {key for (key,) in tuples(taken)}


def extend_all(egec: Egec, clients: Sequence[int], owner: str) -> None:
    """Keep the leases of these clients for longer."""
    Client.update(lease_until=_until(egec)).where(among(Client.id, clients) & (Client.lease_owner == owner)).execute()


def _until(egec: Egec) -> datetime:
    return egec.clock() + timedelta(seconds=_ANSWERS * egec.settings.mail_timeout)


def release_all(clients: Sequence[int], owner: str) -> None:
    """Give back the leases of these clients, but for those that another has taken over."""
    if not clients:
        return
    Client.update(lease_owner=None, lease_until=None).where(
        among(Client.id, clients) & (Client.lease_owner == owner)
    ).execute()


def is_held(egec: Egec, client: Client) -> bool:
    """Tell whether somebody who may still be alive is mailing the client."""
    found = Client.get_by_id(client.id)
    if found.lease_owner is None or found.lease_until is None:
        return False
    return found.lease_until >= egec.clock() and not is_gone(found.lease_owner)


def new_owner() -> str:
    """Return a name for an owner of leases: it tells the host and the process, and is like no other."""
    return f"{_this_process()}/{os.urandom(8).hex()}"


def _this_process() -> str:
    return f"{socket.gethostname()}/{os.getpid()}/{_started_at(os.getpid())}"


def _started_at(pid: int) -> str:
    """Return when a process began, in ticks since boot, to tell it from a later one of the same number."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *others = stat.rpartition(")")[2].split()
    # One that has ended is listed until its parent has heard of it, which in a container may be never.
    return "" if state in {"Z", "X"} else others[18]


def is_gone(owner: str) -> bool:
    """Tell whether the owner of a lease was a process of this host that is no more."""
    host, pid, started_at, _ = owner.split("/")
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        # It lives, as another user; where the system hides when it began, it is taken for the owner.
        return _started_at(int(pid)) not in {started_at, ""}
    return _started_at(int(pid)) != started_at
