"""The doctor looks at the files of the embedded database: whose they are, who may read them, whether there is room."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from egec_cli import new_file
from egec_cli.accounts.findings import Finding, Verdict
from egec_cli.settings import SqliteFile
from egec_cli.shell import quoted
from egec_cli.store.sqlite_copy import logs_of
from egec_cli.translation import Words

_MEBIBYTE = 2**20
# Below the first, the next backup, upgrade or day may fail; below the second, the next mail.
_LITTLE_ROOM, _NO_ROOM = 200 * _MEBIBYTE, 20 * _MEBIBYTE
# SQLite begins its log anew at 4 MiB, unless somebody has been reading since before.
_LONG_LOG = 64 * _MEBIBYTE


def findings(location: SqliteFile) -> Iterator[Finding]:
    """Yield the findings about the file, its log and its folder; nothing where there is no file."""
    if not location.path.exists():
        return
    yield from _rights(location.path)
    yield _room(location.path)
    log, _ = logs_of(location.path)
    yield _log(log)
    yield from _leftovers(location.path.parent)


def _rights(path: Path) -> Iterator[Finding]:
    faults = list(_wrong_rights(path))
    yield from faults
    if not faults:
        yield Finding("file_rights", Verdict.OK, Words("{path} and its folder are for their owner", path=path), "")


def _wrong_rights(path: Path) -> Iterator[Finding]:
    for file in (path, *logs_of(path)):
        if not file.exists():
            continue
        found = file.stat()
        if stat.S_IMODE(found.st_mode) & 0o077:
            detail = Words("{file} can be opened by others: {rights}", file=file, rights=rights(found.st_mode))
            yield Finding("file_rights", Verdict.FAULT, detail, f"chmod 600 {quoted(file)}")
        if os.getuid() not in {0, found.st_uid}:
            yield Finding(
                "file_rights",
                Verdict.FAULT,
                Words("{file} is another user's", file=file),
                Words("Run egec as that user."),
            )
    folder = path.parent
    if stat.S_IMODE(folder.stat().st_mode) & 0o022:
        yield Finding(
            "file_rights",
            Verdict.FAULT,
            Words("others can write to {folder}", folder=folder),
            f"chmod go-w {quoted(folder)}",
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        cure = Words("Make {folder} writable for the user that runs egec: SQLite lays its log there.", folder=folder)
        yield Finding("file_rights", Verdict.FAULT, Words("{folder} cannot be written", folder=folder), cure)


def _room(path: Path) -> Finding:
    free = shutil.disk_usage(path.parent).free
    wanted = max(_LITTLE_ROOM, 2 * path.stat().st_size)
    detail = Words(
        "{free} are free in {parent}; the database has {size}",
        free=_size(free),
        parent=path.parent,
        size=_size(path.stat().st_size),
    )
    if free < _NO_ROOM:
        return Finding("disk", Verdict.FAULT, detail, Words("Free some space."))
    if free < wanted:
        return Finding(
            "disk",
            Verdict.WARNING,
            detail,
            Words("Free some space: an upgrade may need {wanted}.", wanted=_size(wanted)),
        )
    return Finding("disk", Verdict.OK, detail, "")


def _log(log: Path) -> Finding:
    size = log.stat().st_size if log.exists() else 0
    if size > _LONG_LOG:
        cure = Words("Look for an egec that has been running for long (`fuser -v {log}`), and end it.", log=quoted(log))
        return Finding("log", Verdict.WARNING, Words("{log} has grown to {size}", log=log, size=_size(size)), cure)
    return Finding("log", Verdict.OK, Words("SQLite's log has {size}", size=_size(size)), "")


def _leftovers(folder: Path) -> Iterator[Finding]:
    found = new_file.leftovers(folder)
    for path in found:
        detail = Words("{path} was left behind by an egec that was killed, and may hold personal data", path=path)
        yield Finding("leftovers", Verdict.WARNING, detail, f"rm {quoted(path)}")
    if not found:
        detail = Words("no unfinished files of killed commands in {folder}", folder=folder)
        yield Finding("leftovers", Verdict.OK, detail, "")


def _size(number: int) -> Words:
    return Words("{mebibytes:,.1f} MiB", mebibytes=number / _MEBIBYTE)


def rights(mode: int) -> str:
    """Return the rights of a file as `chmod` takes them."""
    return f"{stat.S_IMODE(mode):04o}"
