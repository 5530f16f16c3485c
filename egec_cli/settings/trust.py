"""Read settings, secrets and templates only if no user but root and the effective user can change them.

A settings file names the program that sends mail, and a template can show any text: a user who can write one acts as
the user who runs egec. So the owner, mode and type of a file are checked on the open descriptor that is then read.

If a file has a POSIX access control list, its group bits are the list's mask, so they also cover named users.
"""

import os
import stat
from pathlib import Path
from typing import NamedTuple

from egec_cli.errors import ConfigError, quoted
from egec_cli.translation import Words

# More than any settings file, secret or template needs.
MOST_BYTES = 1024 * 1024
# The number of symbolic links that Linux follows in one path.
_MOST_LINKS = 40
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class UntrustedFile(ConfigError):
    """Another user can change this file, or it is not a regular file, or it is too large."""

    def __init__(self, message: str, hint: str, path: Path | str, owner: int = 0, **values: object) -> None:
        words: dict[str, object] = {"path": path, "quoted": quoted(path), "owner": user_name(owner)}
        words |= {"user": user_name(os.geteuid()), "trusted": _trusted_users()} | values
        super().__init__(Words(message, **words), Words(hint, **words))


class Content(NamedTuple):
    """The content of a file, and its status when it was read."""

    data: bytes
    status: os.stat_result


def read(path: Path) -> Content:
    """Read a regular file that only root or the effective user can change.

    Args:
        path: an absolute path. Its symbolic links, and the folders of the file and of the links, must belong to root
            or the effective user too. Such a folder may be writable by everybody only if it is sticky.

    Raises:
        UntrustedFile: another user can change or replace the file, or it is not a regular file, or it is too large.
        OSError: the file cannot be read.
        ValueError: the path has a NUL character or cannot be encoded.
    """
    folder, name = os.path.split(_resolved(path))
    folder_descriptor = os.open(folder, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        _require_safe_folder(folder, os.fstat(folder_descriptor), path)
        # Checked before it is opened, since opening a device may have side effects.
        _require_regular(path, os.stat(name, dir_fd=folder_descriptor, follow_symlinks=False))
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=folder_descriptor)
    finally:
        os.close(folder_descriptor)
    try:
        status = os.fstat(descriptor)
        _require_regular(path, status)
        _require_owner(path, status)
        _require_not_writable_by_others(path, status)
        return Content(_read_all(path, descriptor), status)
    finally:
        os.close(descriptor)


def require_folder(path: Path) -> None:
    """Require that only root and the effective user can change a folder.

    Raises:
        UntrustedFile: another user can.
        OSError: it cannot be examined.
    """
    status = os.lstat(_resolved(path))
    _require_owner(path, status)
    _require_not_writable_by_others(path, status)


def _resolved(path: Path) -> str:
    """Return the path without symbolic links, each of which must be trusted."""
    waiting = str(path).split("/")[::-1]
    current, links = "/", 0
    while waiting:
        part = waiting.pop()
        if part == "..":
            current = os.path.dirname(current)
        elif part not in {"", "."}:
            place = os.path.join(current, part)
            status = os.lstat(place)
            if not stat.S_ISLNK(status.st_mode):
                current = place
                continue
            links += 1
            if links > _MOST_LINKS:
                import errno

                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            _require_owner_of_link(place, status)
            _require_safe_folder(current, os.lstat(current), place)
            target = os.readlink(place)
            current = "/" if target.startswith("/") else current
            waiting.extend(target.split("/")[::-1])
    return current


def _read_all(path: Path, descriptor: int) -> bytes:
    parts: list[bytes] = []
    left = MOST_BYTES + 1
    while left > 0 and (part := os.read(descriptor, left)):
        parts.append(part)
        left -= len(part)
    if left <= 0:
        raise UntrustedFile(
            "{path} is larger than {most} bytes", "Check that it is the right file.", path, most=MOST_BYTES
        )
    return b"".join(parts)


def _is_trusted(user: int) -> bool:
    return user in {0, os.geteuid()}


def _require_regular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        import errno

        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise UntrustedFile("{path} is not a regular file", "Replace it with a regular file, or remove it.", path)


def _require_owner(path: Path, status: os.stat_result) -> None:
    if not _is_trusted(status.st_uid):
        raise UntrustedFile(
            "{path} belongs to {owner}, not to {trusted}, so it is not trusted",
            "Remove it or work in another folder; if you have checked it, type: chown {user} {quoted}",
            path,
            status.st_uid,
        )


def _require_owner_of_link(path: str, status: os.stat_result) -> None:
    if not _is_trusted(status.st_uid):
        raise UntrustedFile(
            "the symbolic link {path} belongs to {owner}, not to {trusted}, so it is not trusted",
            "Remove it; if you have checked it, type: chown -h {user} {quoted}",
            path,
            status.st_uid,
        )


def _require_not_writable_by_others(path: Path, status: os.stat_result) -> None:
    if status.st_mode & _OTHERS_WRITE:
        raise UntrustedFile(
            "{path} can be changed by other users (mode {mode:04o}), so it is not trusted",
            "Check its content, then type: chmod go-w {quoted}",
            path,
            mode=stat.S_IMODE(status.st_mode),
        )


def _require_safe_folder(folder: str, status: os.stat_result, path: Path | str) -> None:
    """Require that no other user can replace the content of the folder.

    A folder that a group can write to is accepted, as the usual umask of many systems (002) creates such folders. What
    another member of the group puts there is refused for its owner.
    """
    if not _is_trusted(status.st_uid):
        raise UntrustedFile(
            "{path} is in a folder of {owner}, who can replace it, so it is not trusted",
            "Move it to a folder of {trusted}.",
            path,
            status.st_uid,
        )
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        raise UntrustedFile(
            "{path} is in a folder that everybody can write to, so it is not trusted",
            "Check its content, then type: chmod o-w {quoted}",
            path,
            quoted=quoted(folder),
        )


def _trusted_users() -> Words:
    user = os.geteuid()
    return Words("root or {user}", user=user_name(user)) if user else Words("root")


def user_name(user: int) -> str:
    """Return the name of a user of the operating system, or the number of one without a name."""
    # Imported here: few files have another owner.
    import pwd

    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:  # a container's user may have no name
        return str(user)
