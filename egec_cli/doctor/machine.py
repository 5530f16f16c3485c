"""Check this machine: the files of the embedded database, the disk, the clock and the cost of a hash."""

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
from egec_cli.doctor.findings import Finding, Severity, add_note
from egec_cli.errors import quoted
from egec_cli.password import Password
from egec_cli.settings.types import SqliteFile
from egec_cli.store.sqlite_file import log_files
from egec_cli.translation import Words

_MEBIBYTE = 2**20
# Below the first limit the next backup or upgrade may fail, below the second the next mail.
_LOW_SPACE, _NO_SPACE = 200 * _MEBIBYTE, 20 * _MEBIBYTE
# SQLite restarts its log at 4 MiB, unless a process has been reading since before.
_LONG_LOG = 64 * _MEBIBYTE
# What a login should take, in milliseconds: long enough to slow down guessing, short enough for clients.
TARGET = 250.0
# One step of the cost doubles the time, so some cost always lies between the two.
_SHORTEST, _LONGEST = TARGET / 2, TARGET * 2
# The minimum of OWASP's Password Storage Cheat Sheet, and the maximum of the setting.
_MIN_COST, _MAX_COST = 10, 16
# egec did not exist before; a machine that has lost its clock starts in 1970.
_EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)


def check_files(location: SqliteFile) -> Iterator[Finding]:
    """Check the database file, its log and its folder; yield nothing without a file."""
    if not location.path.exists():
        return
    yield from _check_rights(location.path)
    yield _check_space(location.path)
    log, _ = log_files(location.path)
    yield _check_log(log)
    yield from _check_leftovers(location.path.parent)


def _check_rights(path: Path) -> Iterator[Finding]:
    faults = list(_find_wrong_rights(path))
    yield from faults
    if not faults:
        yield Finding("file_rights", Severity.OK, Words("{path} and its folder are private", path=path))


def _find_wrong_rights(path: Path) -> Iterator[Finding]:
    for file in (path, *log_files(path)):
        if not file.exists():
            continue
        found = file.stat()
        if stat.S_IMODE(found.st_mode) & 0o077:
            details = Words("{file} is accessible to others: {rights}", file=file, rights=format_mode(found.st_mode))
            yield Finding("file_rights", Severity.ERROR, details, f"chmod 600 {quoted(file)}")
        if os.getuid() not in {0, found.st_uid}:
            details = Words("{file} belongs to another user", file=file)
            yield Finding("file_rights", Severity.ERROR, details, Words("Run egec as that user."))
    folder = path.parent
    if stat.S_IMODE(folder.stat().st_mode) & 0o022:
        details = Words("others can write to {folder}", folder=folder)
        yield Finding("file_rights", Severity.ERROR, details, f"chmod go-w {quoted(folder)}")
    if not os.access(folder, os.W_OK | os.X_OK):
        fix = Words("Make {folder} writable for the user that runs egec: SQLite writes its log there.", folder=folder)
        yield Finding("file_rights", Severity.ERROR, Words("{folder} cannot be written", folder=folder), fix)


def _check_space(path: Path) -> Finding:
    free, size = shutil.disk_usage(path.parent).free, path.stat().st_size
    wanted = max(_LOW_SPACE, 2 * size)
    details = Words(
        "{free} free in {parent}; the database uses {size}",
        free=_format_size(free),
        parent=path.parent,
        size=_format_size(size),
    )
    if free < _NO_SPACE:
        return Finding("disk", Severity.ERROR, details, Words("Free some space."))
    if free < wanted:
        fix = Words("Free some space: an upgrade may need {wanted}.", wanted=_format_size(wanted))
        return Finding("disk", Severity.WARNING, details, fix)
    return add_note(Finding("disk", Severity.OK, details), _format_size(size))


def _check_log(log: Path) -> Finding:
    size = log.stat().st_size if log.exists() else 0
    if size > _LONG_LOG:
        details = Words("{log} has grown to {size}", log=log, size=_format_size(size))
        fix = Words("Find a long-running egec (`fuser -v {log}`) and end it.", log=quoted(log))
        return Finding("log", Severity.WARNING, details, fix)
    return Finding("log", Severity.OK, Words("SQLite's log uses {size}", size=_format_size(size)))


def _check_leftovers(folder: Path) -> Iterator[Finding]:
    found = files.find_leftovers(folder)
    for path in found:
        details = Words("{path} was left by a killed egec and may contain personal data", path=path)
        yield Finding("leftovers", Severity.WARNING, details, f"rm {quoted(path)}")
    if not found:
        details = Words("no unfinished files of killed commands in {folder}", folder=folder)
        yield Finding("leftovers", Severity.OK, details)


def _format_size(number: int) -> Words:
    return Words("{mebibytes:,.1f} MiB", mebibytes=number / _MEBIBYTE)


def format_mode(mode: int) -> str:
    """Return the mode of a file as `chmod` takes it."""
    return f"{stat.S_IMODE(mode):04o}"


def check_clock(now: Clock) -> Iterator[Finding]:
    """Check that the machine's date is plausible."""
    moment = now()
    if moment < _EARLIEST:
        details = Words("this machine's date is {moment}", moment=to_rfc3339(moment))
        yield Finding("clock", Severity.ERROR, details, Words("Synchronise its clock with NTP."))
    else:
        yield add_note(Finding("clock", Severity.OK, to_rfc3339(moment)), to_rfc3339(moment))


def check_hash_cost(cost: int) -> Iterator[Finding]:
    """Measure a hash of this cost on one core against the target."""
    started = time.thread_time()
    hashing.hash_password(Password("fG69a*6jH"), cost)
    yield judge_cost(cost, (time.thread_time() - started) * 1000)


def judge_cost(cost: int, milliseconds: float) -> Finding:
    """Return the finding for a hash of this cost and duration; advise the cost nearest to the target."""
    steps = round(math.log2(TARGET / max(milliseconds, 0.01)))
    advised = min(max(cost + steps, _MIN_COST), _MAX_COST)
    details = Words(
        "a hash of cost {cost} takes {milliseconds:.0f} ms here; the target is {target:.0f} ms",
        cost=cost,
        milliseconds=milliseconds,
        target=TARGET,
    )
    if advised == cost or _SHORTEST <= milliseconds <= _LONGEST:
        short = Words("a hash of cost {cost} takes {milliseconds:.0f} ms", cost=cost, milliseconds=milliseconds)
        return add_note(Finding("hash_cost", Severity.OK, details), short)
    would_take = milliseconds * 2 ** (advised - cost)
    fix = Words("Set EGEC_BCRYPT_COST={advised}: about {would_take:.0f} ms.", advised=advised, would_take=would_take)
    return Finding("hash_cost", Severity.WARNING, details, fix)
