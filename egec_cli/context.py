"""The log of what is done: one entry for each act, told once it is committed, never of one that is rolled back."""

import os
import pwd
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from egec_cli import clock
from egec_cli.clock import Clock, ServerClock
from egec_cli.settings.schema import Settings
from egec_cli.store import database, peewee


class Act(NamedTuple):
    """Something that was done. Its keys are those of `egec audit list`, but for the last.

    Attributes:
        at: when, as RFC 3339 in UTC.
        action: what was done, such as `client.create` or `login`.
        outcome: how it ended, a stable word.
        client: the identifier of whom it is about.
        run: the name of the re-issue run that it belongs to.
        actor: the user of the operating system, and who or what is behind.
        host: of the process.
        details: more of it; no secret, and no personal data, which nobody could take out of a log again.
        ms: how many milliseconds after the command began it was committed.
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
    """Tells of acts, by `write`, from the moment on when it is made."""

    def __init__(self, write: Callable[[Act], None]) -> None:
        self._write = write
        self._began = time.monotonic()

    def tell(self, database: peewee.Database, acts: Sequence[Act]) -> None:
        """Tell of acts when the transaction under way is committed, or at once where there is none."""

        def told() -> None:
            ms = round((time.monotonic() - self._began) * 1000)
            for act in acts:
                self._write(act._replace(ms=ms))

        database.after_commit(told)


_PROCESSES = Path("/proc")
# Enough for shells within shells.
_MOST_ANCESTORS = 64
# What the kernel says where nobody has logged in (audit's AUDIT_UID_UNSET).
_NOBODY_LOGGED_IN = 2**32 - 1
# A service of the system, as in 0::/system.slice/cron.service; what a user's own session starts is no news.
# Compiled where they are needed, which few processes do: this is part of every start.
_OF_SYSTEM = "/system.slice/"
_SERVICE = rf"(?m)^(?:0:|[0-9]+:name=systemd):{_OF_SYSTEM}(?:[^/\n]+\.slice/)*([^/\n]+\.service)(?:/|$)"
_NOT_IN_A_NAME = r"[^\w.@\\$+-]"
_LONGEST_NAME = 100


class Actor(NamedTuple):
    """Who asks, in words, and the host of the process."""

    user: str
    host: str


def detect_actor(acting_for: str = "") -> Actor:
    """Return the actor that this process works for.

    Args:
        acting_for: the person for whom the calling program says that it acts.
    """
    user = _name(os.getuid())
    login = _read("self/loginuid")
    claimed = ""
    if login.isdecimal() and int(login) != _NOBODY_LOGGED_IN:
        # The kernel's word: it outlives `su` and `sudo -i`, and nobody can change it.
        behind = _name(int(login))
    else:
        behind = ""
        if told := os.environ.get("SUDO_USER", ""):
            behind = _caller_of_sudo()
            claimed = "" if told == behind else told
    return Actor(describe_actor(user, behind, _read("self/cgroup"), acting_for, claimed=claimed), socket.gethostname())


def _caller_of_sudo() -> str:
    """Return who called the sudo that this process runs under; nothing where there is none, or the kernel hides it.

    SUDO_USER alone proves nothing. That an ancestor is sudo and runs as root does, and the user of its parent is the
    one who called it.
    """
    process, under_sudo = os.getppid(), False
    for _ in range(_MOST_ANCESTORS):
        status = dict(line.partition(":\t")[::2] for line in _read(f"{process}/status").splitlines())
        users = status.get("Uid", "").split()
        if not users:
            return ""
        is_sudo = status.get("Name") == "sudo" and users[1] == "0"
        if under_sudo and not is_sudo:
            return _name(int(users[0]))
        under_sudo = is_sudo
        process = int(status["PPid"])
        if not process:
            return ""
    return ""


def describe_actor(user: str, behind: str = "", groups: str = "", acting_for: str = "", *, claimed: str = "") -> str:
    """Return an actor in words.

    Args:
        user: of the operating system.
        behind: who has logged in, or become that user by sudo, as the kernel knows.
        groups: the control groups of the process, as `/proc/self/cgroup` has them.
        acting_for: for whom the calling program says that it acts.
        claimed: whom SUDO_USER names, where nothing supports it.
    """
    told = []
    if behind and behind != user:
        told.append(_name_in_words(behind))
    if claimed:
        told.append(f"claimed {_name_in_words(claimed)}")
    if _OF_SYSTEM in groups and (service := re.search(_SERVICE, groups)):
        told.append(f"by {service[1]}")
    if acting_for:
        told.append(f"for {acting_for}")
    return f"{user} ({', '.join(told)})" if told else user


def _name_in_words(name: str) -> str:
    return re.sub(_NOT_IN_A_NAME, "?", name)[:_LONGEST_NAME]


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:  # a container's user may have no name
        return str(user)


def _read(name: str) -> str:
    """Return what the kernel says of a process; nothing where it says nothing, as in some containers."""
    try:
        return (_PROCESSES / name).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


class Context(NamedTuple):
    """An open eGEC.

    Attributes:
        clock: gives every time that is stored, mailed and compared: the clock of the PostgreSQL server, which all
            machines share, or this machine's clock for SQLite.
    """

    settings: Settings
    database: peewee.Database
    actor: Actor
    clock: Clock = clock.now
    log: Log | None = None


@contextmanager
def open_context(settings: Settings, *, log: Log | None = None, only_read: bool = False) -> Iterator[Context]:
    """Open eGEC for the `with` block.

    Args:
        settings: where.
        log: receives a line for each act.
        only_read: the block only reads, so a database that cannot be written is opened too.

    Raises:
        ConfigError: the database is missing, or has another schema than this program's.
        TemporaryFailure, PermissionDenied, StorageError: the database failed, then or within the block.
    """
    with database.open_database(settings.database, only_read=only_read) as opened_database:
        who = detect_actor(settings.acting_for)
        yield Context(settings, opened_database, who, clock_of(opened_database), log)


def clock_of(opened_database: peewee.Database, of_machine: Clock = clock.now) -> Clock:
    """Return the clock that counts for this database: its server's, or that of the machine."""
    if not isinstance(opened_database, peewee.PostgresqlDatabase):
        return of_machine
    # Imported here: most installations have no PostgreSQL.
    from egec_cli.store import postgresql

    return ServerClock(partial(postgresql.server_clock, opened_database))


def synchronize(context: Context) -> None:
    """Read the server's clock again, if the clock is that of a server."""
    if isinstance(context.clock, ServerClock):
        context.clock.synchronize()


def create_database(settings: Settings) -> bool:
    """Create the database that the settings name, if it is missing. Return whether anything was made.

    Raises:
        PermissionDenied, StorageError, TemporaryFailure, ConfigError: it cannot be made there.
    """
    return database.create_database(settings.database)
