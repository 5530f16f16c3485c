"""Leases: only one issuer mails a client at a time, so that mails leave in the order of their sequences.

No promise to a client depends on a lease: a lost lease may cause a second mail, never a password that does not work.
"""

import functools
import os
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
from egec_cli.store.database import translate_failures
from egec_cli.store.models import Client
from egec_cli.store.sql import fetch_tuples, in_list

# How long a lease lasts unless renewed; also how long others wait for a worker that died on another machine.
LEASE = timedelta(seconds=60)
# How long a second issuer waits for the first, in seconds.
PATIENCE = 15.0
_PAUSE = 0.05
# Renewals per lease: a lease survives one that fails.
_RENEWALS = 3
# How long the end of an issue waits for a renewal under way, in seconds.
_JOIN_TIMEOUT = 1.0
# The number of parts in an owner's name.
_PARTS = 6


@dataclass(frozen=True)
class Lease:
    """The right to mail one client, held by one issue."""

    client: Client
    owner: str

    def release(self) -> None:
        """Release the lease, unless another owner has taken it over."""
        release_leases([self.client.id], self.owner)

    @contextmanager
    def renewed(self, context: Context, *, also: Sequence[Callable[[Context], object]] = ()) -> Iterator[None]:
        """Renew the lease while the block runs; a block shorter than a third of the lease costs no statement.

        Args:
            also: what else to renew.
        """

        def renew() -> None:
            extend_leases(context, [self.client.id], self.owner)
            for extend in also:
                extend(context)

        with renewing(context, renew, every=LEASE.total_seconds() / _RENEWALS):
            yield


@contextmanager
def renewing(context: Context, renew: Callable[[], object], *, every: float) -> Iterator[None]:
    """Call `renew` every `every` seconds while the block runs, in a thread with its own database connection.

    A block that ends before the first call costs no statement.
    """
    is_over = Event()

    def renew_until_over() -> None:
        while not is_over.wait(every):
            # After a failure the next renewal may succeed. Without any, another issuer may take the lease over.
            with (
                suppress(EgecError),
                translate_failures(context.settings.database),
                context.database.connection_context(),
            ):
                renew()

    # A daemon, so that a database that does not answer cannot keep the program from ending.
    thread = Thread(target=renew_until_over, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(_JOIN_TIMEOUT)


def take_lease(context: Context, client: Client, *, patience: float = PATIENCE) -> Lease:
    """Wait for the lease of a client, up to `patience` seconds, and return it.

    Raises:
        TemporaryFailure: another issuer still holds the lease.
    """
    owner = new_owner()
    deadline = time.monotonic() + patience
    while not take_leases(context, [client.id], owner):
        if time.monotonic() >= deadline:
            holder = Client.select(Client.lease_owner).where(Client.id == client.id).scalar() or owner
            raise TemporaryFailure(
                "client {identifier} is being mailed by another egec: {holder}",
                "Wait until it ends, then run the same command again if it is still needed.",
                code="client_busy",
                identifier=client.identifier,
                holder="/".join(holder.split("/")[:2]),
            )
        time.sleep(_PAUSE)
    return Lease(client, owner)


def take_leases(context: Context, clients: Sequence[int], owner: str) -> set[int]:
    """Take the free leases among those of these clients; return the keys of the clients whose leases the owner has."""
    now = context.clock()
    until = now + LEASE
    held = Client.select(Client.lease_owner, Client.lease_until).where(
        in_list(Client.id, clients) & Client.lease_owner.is_null(False)
    )
    holders = list(fetch_tuples(held.distinct()))
    if any(end is not None and end > until for _, end in holders):
        # A clock was set back after these were written: shorten them to the length of a new lease.
        Client.update(lease_until=until).where(in_list(Client.id, clients) & (Client.lease_until > until)).execute()
    gone = [holder for holder in {holder for holder, _ in holders} if is_owner_gone(holder)]
    free = Client.lease_owner.is_null() | (Client.lease_until < now) | Client.lease_owner.in_(gone)
    Client.update(lease_owner=owner, lease_until=until).where(in_list(Client.id, clients) & free).execute()
    taken = Client.select(Client.id).where(in_list(Client.id, clients) & (Client.lease_owner == owner))
    return {key for (key,) in fetch_tuples(taken)}


def extend_leases(context: Context, clients: Sequence[int], owner: str) -> None:
    """Renew those leases of these clients that the owner still holds."""
    until = context.clock() + LEASE
    Client.update(lease_until=until).where(in_list(Client.id, clients) & (Client.lease_owner == owner)).execute()


def release_leases(clients: Sequence[int], owner: str) -> None:
    """Release those leases of these clients that the owner still holds."""
    if not clients:
        return
    Client.update(lease_owner=None, lease_until=None).where(
        in_list(Client.id, clients) & (Client.lease_owner == owner)
    ).execute()


def is_being_mailed(context: Context, client: Client) -> bool:
    """Return whether an issuer that may still be alive is mailing the client."""
    found = Client.get_by_id(client.id)
    if found.lease_owner is None:
        return False
    return lies_ahead(found.lease_until, context.clock(), at_most=LEASE) and not is_owner_gone(found.lease_owner)


def new_owner() -> str:
    """Return a unique name for an owner of leases: host, process, boot, PID namespace, start time, random digits.

    People read the host. `is_owner_gone` uses the other parts.
    """
    pid = os.getpid()
    started_at = (_start_time(pid) or "") if _can_see_processes() else ""
    return f"{os.uname().nodename}/{pid}/{_boot()}/{_pid_namespace()}/{started_at}/{os.urandom(8).hex()}"


def is_owner_gone(owner: str) -> bool:
    """Return whether the owner of a lease was a process that has certainly ended.

    A process number means something only within the same boot and PID namespace. Any other owner counts as alive until
    its lease ends, as does an owner whose name has the format of an earlier release.
    """
    parts = owner.split("/")
    if len(parts) != _PARTS:
        return False
    _, number, boot, namespace, started_at, _ = parts
    if not (boot and namespace) or (boot, namespace) != (_boot(), _pid_namespace()):
        return False
    pid = int(number)
    # PermissionError: the process runs as another user.
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
    if not started_at or not _can_see_processes():
        return False
    found = _start_time(pid)
    return found is not None and found != started_at


@functools.cache
def _boot() -> str:
    """Return the identifier of this boot; empty if the system has none."""
    return _read("/proc/sys/kernel/random/boot_id").strip()


def _pid_namespace() -> str:
    """Return the identifier of the PID namespace of this process; empty if the system has none."""
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return ""


def _can_see_processes() -> bool:
    """Return whether `/proc` shows the processes of this PID namespace; it may be mounted for another one."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def _start_time(pid: int) -> str | None:
    """Return the start of a process in ticks since boot, which differs from that of a later process with its number.

    Empty for a process that has ended and waits for its parent; None if the system hides it.
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
