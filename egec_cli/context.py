"""The context of a command: settings, database, clock, actor and the log of its acts."""

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from egec_cli import clock
from egec_cli.clock import Clock, ServerClock
from egec_cli.settings.trust import user_name
from egec_cli.settings.types import Settings
from egec_cli.store import database, peewee


class Act(NamedTuple):
    """One act for the log. All keys but the last are those of `egec audit list`.

    Attributes:
        at: the time, as RFC 3339 in UTC.
        action: a stable word, such as `client.create` or `login`.
        outcome: a stable word.
        client: the identifier of the client.
        run: the name of the run.
        actor: the user of the operating system, and the person or service behind.
        host: the host of the process.
        details: more values; no secrets, and no personal data, which cannot be removed from a log.
        ms: milliseconds from the start of the command to the commit.
    """

    at: str
    action: str
    outcome: str
    client: str | None
    run: str | None
    actor: str
    host: str
    details: dict[str, Any]
    ms: int


class Log:
    """Passes each act to `write` once it is committed, never one that is rolled back."""

    def __init__(self, write: Callable[[Act], None]) -> None:
        self._write = write
        self._began = time.monotonic()

    def tell(self, database: peewee.Database, acts: Sequence[Act]) -> None:
        """Write the acts after the commit of the current transaction, or immediately without one."""

        def write_acts() -> None:
            ms = round((time.monotonic() - self._began) * 1000)
            for act in acts:
                self._write(act._replace(ms=ms))

        database.after_commit(write_acts)


_PROCESSES = Path("/proc")
# Enough for nested shells.
_MOST_ANCESTORS = 64
# The kernel's login user of a process without a login (audit's AUDIT_UID_UNSET).
_NO_LOGIN = 2**32 - 1
# A service of the system, as in 0::/system.slice/cron.service; what a user's session starts is not named.
# Compiled only when needed, as every start imports this module.
_OF_SYSTEM = "/system.slice/"
_SERVICE = rf"(?m)^(?:0:|[0-9]+:name=systemd):{_OF_SYSTEM}(?:[^/\n]+\.slice/)*([^/\n]+\.service)(?:/|$)"
_NOT_IN_A_NAME = r"[^\w.@\\$+-]"
_LONGEST_NAME = 100


class Actor(NamedTuple):
    """Who acts, in words, and the host of the process."""

    user: str
    host: str


def detect_actor(acting_for: str = "") -> Actor:
    """Return the actor of this process; `acting_for` is the person that the calling program names."""
    user = user_name(os.getuid())
    login = _read("self/loginuid")
    claimed = ""
    if login.isdecimal() and int(login) != _NO_LOGIN:
        # The kernel's record: it survives `su` and `sudo -i`, and a user cannot change it.
        behind = user_name(int(login))
    else:
        behind = ""
        if named := os.environ.get("SUDO_USER", ""):
            behind = _caller_of_sudo()
            claimed = "" if named == behind else named
    return Actor(describe_actor(user, behind, _read("self/cgroup"), acting_for, claimed=claimed), os.uname().nodename)


def _caller_of_sudo() -> str:
    """Return the user who called the sudo that this process runs under; empty if the kernel shows none.

    SUDO_USER alone proves nothing. An ancestor named sudo that runs as root does: the user of its parent called it.
    """
    process, under_sudo = os.getppid(), False
    for _ in range(_MOST_ANCESTORS):
        status = dict(line.partition(":\t")[::2] for line in _read(f"{process}/status").splitlines())
        users = status.get("Uid", "").split()
        if not users:
            return ""
        is_sudo = status.get("Name") == "sudo" and users[1] == "0"
        if under_sudo and not is_sudo:
            return user_name(int(users[0]))
        under_sudo = is_sudo
        process = int(status["PPid"])
        if not process:
            return ""
    return ""


def describe_actor(user: str, behind: str = "", groups: str = "", acting_for: str = "", *, claimed: str = "") -> str:
    """Return an actor in words.

    Args:
        user: the user of the operating system.
        behind: the user who logged in or called sudo, as the kernel knows.
        groups: the control groups of the process, as in `/proc/self/cgroup`.
        acting_for: the person that the calling program names.
        claimed: the user that SUDO_USER names without further evidence.
    """
    parts = []
    if behind and behind != user:
        parts.append(_name_in_words(behind))
    if claimed:
        parts.append(f"claimed {_name_in_words(claimed)}")
    if _OF_SYSTEM in groups and (service := re.search(_SERVICE, groups)):
        parts.append(f"by {service[1]}")
    if acting_for:
        parts.append(f"for {acting_for}")
    return f"{user} ({', '.join(parts)})" if parts else user


def _name_in_words(name: str) -> str:
    return re.sub(_NOT_IN_A_NAME, "?", name)[:_LONGEST_NAME]


def _read(name: str) -> str:
    """Return a file of `/proc`; empty if it cannot be read, as in some containers."""
    try:
        return (_PROCESSES / name).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


class Context(NamedTuple):
    """Settings, open database, clock and actor of one command.

    Attributes:
        clock: for every time that is stored, mailed or compared: the clock of the PostgreSQL server, which all machines
            share, or this machine's clock for SQLite.
    """

    settings: Settings
    database: peewee.Database
    actor: Actor
    clock: Clock = clock.now
    log: Log | None = None


@contextmanager
def open_context(settings: Settings, *, log: Log | None = None, only_read: bool = False) -> Iterator[Context]:
    """Open the database and yield the context.

    Args:
        log: receives each act.
        only_read: the block only reads, so a read-only database can be opened too.

    Raises:
        ConfigError: the database is missing, or has a different schema from this program's.
        TemporaryFailure, PermissionDenied, StorageError: the database failed, here or within the block.
    """
    clock.show_times_in(settings.timezone)
    with database.open_database(settings.database, only_read=only_read) as opened_database:
        actor = detect_actor(settings.acting_for)
        yield Context(settings, opened_database, actor, choose_clock(opened_database), log)


def choose_clock(opened_database: peewee.Database, local: Clock = clock.now) -> Clock:
    """Return the clock of the database server, or that of this machine for SQLite."""
    if not isinstance(opened_database, peewee.PostgresqlDatabase):
        return local
    # Imported here: most installations have no PostgreSQL.
    from egec_cli.store import postgresql

    return ServerClock(partial(postgresql.server_clock, opened_database))


def synchronize(context: Context) -> None:
    """Read the clock of the PostgreSQL server again, if there is one."""
    if isinstance(context.clock, ServerClock):
        context.clock.synchronize()


def create_database(settings: Settings) -> bool:
    """Create the database if it is missing, and return whether anything was created.

    Raises:
        PermissionDenied, StorageError, TemporaryFailure, ConfigError: it cannot be created.
    """
    return database.create_database(settings.database)
