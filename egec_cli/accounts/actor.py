"""Who asks: the user of the operating system, who or what is behind it, and for whom a program does it.

`www-data (by apache2.service, for jeanne.martin)`: the user comes first, and no claim replaces it.
"""

import os
import pwd
import re
import socket
from pathlib import Path
from typing import NamedTuple

_PROCESS = Path("/proc/self")
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
    login = _read("loginuid")
    if login.isdecimal() and int(login) != _NOBODY_LOGGED_IN:
        # The kernel's word: it outlives `su` and `sudo -i`, and nobody can change it.
        behind = _name(int(login))
    else:
        behind = os.environ.get("SUDO_USER", "")
    return Actor(described(user, behind, _read("cgroup"), acting_for), socket.gethostname())


def described(user: str, behind: str = "", groups: str = "", acting_for: str = "") -> str:
    """Return an actor in words.

    Args:
        user: of the operating system.
        behind: who has logged in, or become that user by sudo.
        groups: the control groups of the process, as `/proc/self/cgroup` has them.
        acting_for: for whom the calling program says that it acts.
    """
    told = []
    if behind and behind != user:
        told.append(re.sub(_NOT_IN_A_NAME, "?", behind)[:_LONGEST_NAME])
    if _OF_SYSTEM in groups and (service := re.search(_SERVICE, groups)):
        told.append(f"by {service[1]}")
    if acting_for:
        told.append(f"for {acting_for}")
    return f"{user} ({', '.join(told)})" if told else user


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:  # a container's user may have no name
        return str(user)


def _read(name: str) -> str:
    """Return what the kernel says of this process; nothing where it says nothing, as in some containers."""
    try:
        return (_PROCESS / name).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
