"""Leases: who is mailing a client now, so that two issuers do not mail the same client at once.

A lease keeps the mails of a client in the order of their sequences. No promise to a client depends on it: whoever loses
a lease may cause a second mail, but never a password that does not open the account.
"""

import functools
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread

from egec_cli.clock import lies_ahead
from egec_cli.context import Context
from egec_cli.errors import EgecError, TemporaryFailure
from egec_cli.store.failures import translate_failures
from egec_cli.store.models import Client
from egec_cli.store.sql import fetch_tuples, in_list

# How long a lease lasts unless it is renewed. Others wait this long for a worker that died out of their sight.
LEASE = timedelta(seconds=60)
# How long a second issuer waits for the first, in seconds.
PATIENCE = 15.0
_PAUSE = 0.05
# Renewed this often within its length, a lease survives a renewal that fails.
_RENEWALS = 3
# How long the end of an issue waits for a renewal under way, in seconds.
_LONGEST_FAREWELL = 1.0
# Of the name of an owner.
_PARTS = 6


@dataclass(frozen=True)
class Lease:
    """The right to mail one client, held by one issue."""

    client: Client
    owner: str

    def release(self) -> None:
        """Let the next issuer continue. A lease that another owner has taken over is left alone."""
        release_leases([self.client.id], self.owner)

    @contextmanager
    def renewed(self, context: Context) -> Iterator[None]:
        """Renew the lease for as long as the block runs, by a database connection of its own.

        A block that is over within a third of the lease costs no statement.
        """
        with renewing(
            context,
            lambda: extend_leases(context, [self.client.id], self.owner),
            every=LEASE.total_seconds() / _RENEWALS,
        ):
            yield


@contextmanager
def renewing(context: Context, renew: Callable[[], object], *, every: float) -> Iterator[None]:
    """Call `renew` every so many seconds while the block runs, in a thread with a database connection of its own.

    A block that ends before the first call costs no statement.
    """
    over = Event()

    def act() -> None:
        while not over.wait(every):
            # The next renewal may succeed. Without any, another issuer may take the lease over.
            with (
                suppress(EgecError),
                translate_failures(context.settings.database),
                context.database.connection_context(),
            ):
                renew()

    # A daemon, so that a database that does not answer cannot keep the program from ending.
    thread = Thread(target=act, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(_LONGEST_FAREWELL)


def take_lease(context: Context, client: Client, *, patience: float = PATIENCE) -> Lease:
    """Wait for the lease of a client and return it.

    Args:
        context: the context.
        client: the client to mail.
        patience: how long to wait, in seconds.

    Raises:
        TemporaryFailure: another issuer still holds the lease after that time.
    """
    owner = new_owner()
    deadline = time.monotonic() + patience
    while not take_leases(context, [client.id], owner):
        if time.monotonic() >= deadline:
            holder = Client.select(Client.lease_owner).where(Client.id == client.id).scalar() or owner
            raise TemporaryFailure(
                "client {identifier} is being mailed by another egec: {holder}",
                "Wait for it to end, then run the same again if it is still wanted.",
                code="client_busy",
                identifier=client.identifier,
                holder="/".join(holder.split("/")[:2]),
            )
        time.sleep(_PAUSE)
    return Lease(client, owner)


def take_leases(context: Context, clients: Sequence[int], owner: str) -> set[int]:
    """Take the leases of those of the clients that are free, and return the keys of these clients."""
    now = context.clock()
    until = now + LEASE
    held = Client.select(Client.lease_owner, Client.lease_until).where(
        in_list(Client.id, clients) & Client.lease_owner.is_null(False)
    )
    holders = list(fetch_tuples(held.distinct()))
    if any(end is not None and end > until for _, end in holders):
        # A clock was set back after these were written: they last no longer than if they were written now.
        Client.update(lease_until=until).where(in_list(Client.id, clients) & (Client.lease_until > until)).execute()
    gone = [holder for holder in {holder for holder, _ in holders} if is_owner_gone(holder)]
    free = Client.lease_owner.is_null() | (Client.lease_until < now) | Client.lease_owner.in_(gone)
    Client.update(lease_owner=owner, lease_until=until).where(in_list(Client.id, clients) & free).execute()
    taken = Client.select(Client.id).where(in_list(Client.id, clients) & (Client.lease_owner == owner))
    return {key for (key,) in fetch_tuples(taken)}


def extend_leases(context: Context, clients: Sequence[int], owner: str) -> None:
    """Renew the leases that the owner still holds on these clients."""
    until = context.clock() + LEASE
    Client.update(lease_until=until).where(in_list(Client.id, clients) & (Client.lease_owner == owner)).execute()


def release_leases(clients: Sequence[int], owner: str) -> None:
    """Give back the leases that the owner still holds on these clients."""
    if not clients:
        return
    Client.update(lease_owner=None, lease_until=None).where(
        in_list(Client.id, clients) & (Client.lease_owner == owner)
    ).execute()


def is_being_mailed(context: Context, client: Client) -> bool:
    """Tell whether an issuer that may still be alive is mailing the client."""
    found = Client.get_by_id(client.id)
    if found.lease_owner is None:
        return False
    return lies_ahead(found.lease_until, context.clock(), at_most=LEASE) and not is_owner_gone(found.lease_owner)


def new_owner() -> str:
    """Return a unique name for an owner of leases: host, process, boot, PID namespace, start time, random digits.

    The host is for people to read. The other parts tell whether the process still runs (see `is_gone`).
    """
    pid = os.getpid()
    started_at = (_started_at(pid) or "") if _can_see_processes() else ""
    return f"{socket.gethostname()}/{pid}/{_boot()}/{_pid_namespace()}/{started_at}/{os.urandom(8).hex()}"


def is_owner_gone(owner: str) -> bool:
    """Tell whether the owner of a lease was a process that has certainly ended.

    Only processes of the same boot and the same PID namespace can be judged: elsewhere, the number of a process means
    nothing. Every other owner counts as alive until its lease ends, and so does one of an earlier release.
    """
    parts = owner.split("/")
    if len(parts) != _PARTS:
        return False
    _, number, boot, namespace, started_at, _ = parts
    if not (boot and namespace) or (boot, namespace) != (_boot(), _pid_namespace()):
        return False
    pid = int(number)
    # It raises PermissionError for a process of another user, which runs.
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
    if not started_at or not _can_see_processes():
        return False
    found = _started_at(pid)
    return found is not None and found != started_at


@functools.cache
def _boot() -> str:
    """Return what tells this boot of this machine from every other; empty if the system does not tell."""
    return _read("/proc/sys/kernel/random/boot_id").strip()


def _pid_namespace() -> str:
    """Return the number of the namespace that gives this process its number; empty if the system does not tell."""
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return ""


def _can_see_processes() -> bool:
    """Tell whether `/proc` shows the processes of this PID namespace; it may be mounted for another one."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def _started_at(pid: int) -> str | None:
    """Return when a process began, in ticks since boot, which tells it from a later one of the same number.

    Returns:
        An empty text for a process that has ended and waits for its parent; None if the system hides it.
    """
    stat = _read(f"/proc/{pid}/stat")
    if not stat:
        return None
    state, *others = stat.rpartition(")")[2].split()
    return "" if state in {"Z", "X"} else others[18]


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
