"""Who asks: the user of the operating system, who or what is behind it, and for whom a program does it.

`www-data (by apache2.service, for jeanne.martin)`: the user comes first, and no claim replaces it. The kernel vouches
for the user and for who is behind it. `claimed NAME` and `for NAME` come from the environment, which anybody can set.
"""

import os
import pwd
import re
import socket
from pathlib import Path
from typing import NamedTuple

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


def of_this_process(acting_for: str = "") -> Actor:
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
    return Actor(described(user, behind, _read("self/cgroup"), acting_for, claimed=claimed), socket.gethostname())


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


def described(user: str, behind: str = "", groups: str = "", acting_for: str = "", *, claimed: str = "") -> str:
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
