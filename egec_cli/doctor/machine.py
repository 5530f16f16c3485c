"""The doctor looks at the files of the embedded database: whose they are, who may read them, whether there is room."""

import math
import os
import shutil
import stat
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from egec_cli import files, hashing
from egec_cli.clock import Clock, to_rfc3339
from egec_cli.doctor.findings import Finding, Severity
from egec_cli.errors import quoted
from egec_cli.password import Password
from egec_cli.settings.schema import SqliteFile
from egec_cli.store.copy import log_files
from egec_cli.translation import Words

_MEBIBYTE = 2**20
# Below the first, the next backup, upgrade or day may fail; below the second, the next mail.
_LITTLE_ROOM, _NO_ROOM = 200 * _MEBIBYTE, 20 * _MEBIBYTE
# SQLite begins its log anew at 4 MiB, unless somebody has been reading since before.
_LONG_LOG = 64 * _MEBIBYTE


def check_files(location: SqliteFile) -> Iterator[Finding]:
    """Yield the findings about the file, its log and its folder; nothing where there is no file."""
    if not location.path.exists():
        return
    yield from _rights(location.path)
    yield _room(location.path)
    log, _ = log_files(location.path)
    yield _log(log)
    yield from _leftovers(location.path.parent)


def _rights(path: Path) -> Iterator[Finding]:
    faults = list(_wrong_rights(path))
    yield from faults
    if not faults:
        yield Finding("file_rights", Severity.OK, Words("{path} and its folder are for their owner", path=path), "")


def _wrong_rights(path: Path) -> Iterator[Finding]:
    for file in (path, *log_files(path)):
        if not file.exists():
            continue
        found = file.stat()
        if stat.S_IMODE(found.st_mode) & 0o077:
            detail = Words("{file} can be opened by others: {rights}", file=file, rights=format_mode(found.st_mode))
            yield Finding("file_rights", Severity.FAULT, detail, f"chmod 600 {quoted(file)}")
        if os.getuid() not in {0, found.st_uid}:
            yield Finding(
                "file_rights",
                Severity.FAULT,
                Words("{file} is another user's", file=file),
                Words("Run egec as that user."),
            )
    folder = path.parent
    if stat.S_IMODE(folder.stat().st_mode) & 0o022:
        yield Finding(
            "file_rights",
            Severity.FAULT,
            Words("others can write to {folder}", folder=folder),
            f"chmod go-w {quoted(folder)}",
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        cure = Words("Make {folder} writable for the user that runs egec: SQLite lays its log there.", folder=folder)
        yield Finding("file_rights", Severity.FAULT, Words("{folder} cannot be written", folder=folder), cure)


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
        return Finding("disk", Severity.FAULT, detail, Words("Free some space."))
    if free < wanted:
        return Finding(
            "disk",
            Severity.WARNING,
            detail,
            Words("Free some space: an upgrade may need {wanted}.", wanted=_size(wanted)),
        )
    return Finding("disk", Severity.OK, detail, "")


def _log(log: Path) -> Finding:
    size = log.stat().st_size if log.exists() else 0
    if size > _LONG_LOG:
        cure = Words("Look for an egec that has been running for long (`fuser -v {log}`), and end it.", log=quoted(log))
        return Finding("log", Severity.WARNING, Words("{log} has grown to {size}", log=log, size=_size(size)), cure)
    return Finding("log", Severity.OK, Words("SQLite's log has {size}", size=_size(size)), "")


def _leftovers(folder: Path) -> Iterator[Finding]:
    found = files.find_leftovers(folder)
    for path in found:
        detail = Words("{path} was left behind by an egec that was killed, and may hold personal data", path=path)
        yield Finding("leftovers", Severity.WARNING, detail, f"rm {quoted(path)}")
    if not found:
        detail = Words("no unfinished files of killed commands in {folder}", folder=folder)
        yield Finding("leftovers", Severity.OK, detail, "")


def _size(number: int) -> Words:
    return Words("{mebibytes:,.1f} MiB", mebibytes=number / _MEBIBYTE)


def format_mode(mode: int) -> str:
    """Return the rights of a file as `chmod` takes them."""
    return f"{stat.S_IMODE(mode):04o}"


# What a login may take: long enough to slow down who guesses, short enough for who waits. In milliseconds.
TARGET = 250.0
# One step of the cost doubles the time, so there is always one that ends between the two.
_SHORTEST, _LONGEST = TARGET / 2, TARGET * 2
# OWASP asks for no less (Password Storage Cheat Sheet); the setting takes no more.
_LEAST_COST, _MOST_COST = 10, 16
# Before egec was written; a machine that has lost its clock begins in 1970.
_EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)


def check_clock(now: Clock) -> Iterator[Finding]:
    """Yield whether the machine's date can be one."""
    moment = now()
    if moment < _EARLIEST:
        yield Finding(
            "clock",
            Severity.FAULT,
            Words("it is {moment}, says this machine", moment=to_rfc3339(moment)),
            Words("Set its clock, by NTP."),
        )
    else:
        yield Finding("clock", Severity.OK, to_rfc3339(moment), "")


def check_hash_cost(cost: int) -> Iterator[Finding]:
    """Yield how long a hash of this cost takes on one core, against the target, and which cost would meet it."""
    began = time.thread_time()
    hashing.hash_password(Password("fG69a*6jH"), cost)
    yield judge_cost(cost, (time.thread_time() - began) * 1000)


def judge_cost(cost: int, milliseconds: float) -> Finding:
    """Return the finding of a hash of this cost that has taken so long."""
    steps = round(math.log2(TARGET / max(milliseconds, 0.01)))
    advised = min(max(cost + steps, _LEAST_COST), _MOST_COST)
    detail = Words(
        "a hash of cost {cost} takes {milliseconds:.0f} ms here; the target is {target:.0f} ms",
        cost=cost,
        milliseconds=milliseconds,
        target=TARGET,
    )
    if advised == cost or _SHORTEST <= milliseconds <= _LONGEST:
        return Finding("hash_cost", Severity.OK, detail, "")
    would_take = milliseconds * 2 ** (advised - cost)
    cure = Words("Set EGEC_BCRYPT_COST={advised}: about {would_take:.0f} ms.", advised=advised, would_take=would_take)
    return Finding("hash_cost", Severity.WARNING, detail, cure)
