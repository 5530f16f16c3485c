"""Check a list of logins in its order, comparing hashes on all cores."""

import csv
import json
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import chain, dropwhile
from queue import Empty, SimpleQueue
from threading import Event, Semaphore, Thread
from typing import BinaryIO, NamedTuple

from egec_cli import identifier
from egec_cli.context import Context
from egec_cli.errors import InvalidInput
from egec_cli.logins import limits, verify
from egec_cli.logins.limits import AccountBusy
from egec_cli.logins.verify import ComparedLogin, LoginReason, StartedLogin

# Logins under way per core: enough for every core to have work.
_LOGINS_PER_CORE = 4
_LONGEST_LINE = 4096
_DELIMITERS = ",;\t"
_IDENTIFIER_HEADERS = {"identifier", "identifiant"}
_PASSWORD_HEADERS = {"password", "mot de passe", "m-d-p", "mdp"}
_ORIGIN_HEADERS = {"origin", "origine", "ip"}


class GivenLogin(NamedTuple):
    """A login of a list, the number of its line, and the address that it comes from, if the list says so."""

    line: int
    identifier: str
    password: str
    origin: str = ""


class _Columns(NamedTuple):
    """The places of the cells of a login; without an origin, -1."""

    identifier: int = 0
    password: int = 1
    origin: int = -1


class LineVerdict(NamedTuple):
    """Whether a login of a list is accepted.

    Attributes:
        identifier: the login's identifier; empty if it is malformed.
        line: the number of the login's line.
        accepted: whether the login is accepted; null if too many logins to the account were in progress to check it.
    """

    identifier: str
    line: int
    accepted: bool | None


class _PendingLogin(NamedTuple):
    """A login that is being compared; without a comparison, a login that got no place."""

    given: GivenLogin
    started: StartedLogin | None = None
    compared: "Future[ComparedLogin] | None" = None

    def is_done(self) -> bool:
        return self.compared is None or self.compared.done()


class _Retries:
    """When the first login that waits for a place tries again, and when it gives up."""

    def __init__(self) -> None:
        self._pause = 0.0
        self._due = 0.0
        self._deadline = 0.0

    def are_due(self) -> bool:
        return time.monotonic() >= self._due

    def seconds_left(self) -> float | None:
        """Return the seconds until the next try; None if none is planned."""
        return max(self._due - time.monotonic(), 0) if self._due else None

    def postpone(self) -> bool:
        """Plan the next try. Return False if the login has waited long enough."""
        now = time.monotonic()
        if not self._due:
            self._deadline = now + limits.PATIENCE
        self._pause = min(2 * self._pause, limits.LAST_PAUSE) or limits.FIRST_PAUSE
        self._due = now + self._pause
        return now < self._deadline

    def reset(self) -> None:
        """Forget the login: it has a place, or gets no verdict."""
        self._pause = self._due = self._deadline = 0.0


class _End(NamedTuple):
    """The end of the list, and the error that ended it early."""

    failure: Exception | None = None


class _Reader:
    """Reads the list on its own thread, a limited number of logins ahead.

    Attributes:
        news: what was read; a None wakes the thread that waits for it.
    """

    def __init__(self, logins: Iterable[GivenLogin], most: int) -> None:
        self.news: SimpleQueue[GivenLogin | _End | None] = SimpleQueue()
        self._free = Semaphore(most)
        self._is_over = Event()
        # A daemon: it may wait for a line when the process ends.
        Thread(target=self._run, args=(logins,), name="logins", daemon=True).start()

    def _run(self, logins: Iterable[GivenLogin]) -> None:
        try:
            for given in logins:
                self._free.acquire()
                if self._is_over.is_set():
                    return
                self.news.put(given)
        except Exception as failure:  # noqa: BLE001 - it is raised again where the verdicts are read
            self.news.put(_End(failure))
        else:
            self.news.put(_End())

    def next(self, timeout: float | None) -> "GivenLogin | _End | None":
        """Wait for news and return it; None after this many seconds, or when woken."""
        try:
            return self.news.get(timeout=timeout)
        except Empty:
            return None

    def wake(self) -> None:
        self.news.put(None)

    def request_another(self) -> None:
        self._free.release()

    def stop(self) -> None:
        self._is_over.set()
        self._free.release()


def verify_logins(context: Context, logins: Iterable[GivenLogin]) -> Generator[LineVerdict, None, None]:
    """Check logins as `verify_login` does, and yield each verdict in order, as soon as it is known.

    Each counts as an attempt. Two logins to one account never overlap: the second one sees the effect of the first. The
    list is read on its own thread, so that a verdict never waits for the next line. However the work ends, the logins
    whose comparison has started are settled.

    Raises:
        InvalidInput: the list cannot be read any further; the verdicts before that were yielded.
    """
    reader = _Reader(logins, _LOGINS_PER_CORE * context.settings.workers)
    waiting: deque[GivenLogin] = deque()
    pending: deque[_PendingLogin] = deque()
    retries = _Retries()
    end: _End | None = None
    with ThreadPoolExecutor(context.settings.workers) as pool:
        try:
            while end is None or waiting or pending:
                if pending and pending[0].is_done():
                    reader.request_another()
                    yield _settle(context, pending.popleft())
                elif waiting and retries.are_due() and not _is_pending(waiting[0], pending):
                    one = _start(context, waiting[0], pool, reader)
                    if one.started is None and retries.postpone():
                        continue
                    retries.reset()
                    waiting.popleft()
                    pending.append(one)
                elif isinstance(item := reader.next(retries.seconds_left()), GivenLogin):
                    waiting.append(item)
                else:
                    end = item or end
        finally:
            reader.stop()
            for one in pending:
                _settle(context, one)
    if end is not None and end.failure is not None:
        raise end.failure


def _start(context: Context, given: GivenLogin, pool: ThreadPoolExecutor, reader: _Reader) -> _PendingLogin:
    try:
        # Waiting for a place here would delay the verdicts of other logins.
        started = verify.start_login(context, given.identifier, given.password, origin=given.origin, patience=0)
    except AccountBusy:
        return _PendingLogin(given)
    compared = pool.submit(verify.compare_hashes, context, started)
    compared.add_done_callback(lambda _: reader.wake())
    return _PendingLogin(given, started, compared)


def _is_pending(given: GivenLogin, pending: Iterable[_PendingLogin]) -> bool:
    wanted = verify.trim(given.identifier)
    started = (one.started for one in pending)
    return any(one is not None and one.client is not None and one.client.identifier == wanted for one in started)


def _settle(context: Context, one: _PendingLogin) -> LineVerdict:
    wanted = verify.trim(one.given.identifier)
    # Anything else may be a password in the wrong place.
    shown = wanted if identifier.is_identifier(wanted) else ""
    accepted = None
    if one.started is not None and one.compared is not None:
        # It may have lost its place while others held up the list.
        with suppress(AccountBusy):
            accepted = verify.settle_login(context, one.started, one.compared.result()).reason is LoginReason.ACCEPTED
    return LineVerdict(shown, one.given.line, accepted)


def read_logins(stream: BinaryIO, name: str) -> Iterator[GivenLogin]:
    """Yield the logins of a list line by line: JSON objects or cells, as the first line shows.

    In cells, a header says which are the identifier, the password and the origin; without one, the first two are the
    identifier and the password. Empty lines are skipped. The passwords are only in memory, never in a file.

    Raises:
        InvalidInput: a line is invalid or too long.
    """
    lines = dropwhile(lambda numbered: not numbered[1].strip(), _read_lines(stream, name))
    first = next(lines, None)
    if first is None:
        return
    number, text = first
    if text.lstrip().startswith("{"):
        yield from (_parse_object(name, number, line) for number, line in chain([first], lines) if line.strip())
        return
    # The first delimiter counts: a password may contain the others.
    delimiter = next((c for c in text if c in _DELIMITERS), ",")
    columns = _find_columns(_split_cells(name, number, text, delimiter))
    for number, line in lines if columns else chain([first], lines):
        if line.strip():
            yield _parse_cells(name, number, _split_cells(name, number, line, delimiter), columns or _Columns())


def count_logins(stream: BinaryIO) -> int:
    """Return the number of logins that `read_logins` will yield from a seekable stream; its position stays.

    A list with an invalid line counts up to that line.
    """
    place = stream.tell()
    number = 0
    with suppress(InvalidInput):
        for _ in read_logins(stream, ""):
            number += 1
    stream.seek(place)
    return number


def _read_lines(stream: BinaryIO, name: str) -> Iterator[tuple[int, str]]:
    number = 0
    while line := stream.readline(_LONGEST_LINE):
        number += 1
        if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
            raise _invalid_line(name, number)
        # Invalid UTF-8 becomes a password that matches none.
        yield number, line.decode("utf-8-sig" if number == 1 else "utf-8", errors="replace").rstrip("\r\n")


def _parse_object(name: str, number: int, line: str) -> GivenLogin:
    try:
        row = json.loads(line)
        wanted, password, origin = row["identifier"], row["password"], row.get("origin") or ""
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise _invalid_line(name, number) from None
    # Many programs write digits as a number.
    if type(wanted) is int:
        wanted = str(wanted)
    if not isinstance(wanted, str) or not isinstance(password, str) or not isinstance(origin, str):
        raise _invalid_line(name, number)
    return GivenLogin(number, wanted, password, _parse_origin(name, number, origin))


def _split_cells(name: str, number: int, line: str, delimiter: str) -> Sequence[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter))
    except csv.Error:
        # Such as the line ends of old Macintoshes, which make the whole file one line.
        raise _invalid_line(name, number) from None


def _find_columns(cells: Sequence[str]) -> _Columns | None:
    """Return the places of the identifier, the password and the origin if these cells are a header."""
    names = [cell.strip().casefold() for cell in cells]
    identifiers = [place for place, cell in enumerate(names) if cell in _IDENTIFIER_HEADERS]
    if not identifiers:
        return None
    passwords = [place for place, cell in enumerate(names) if cell in _PASSWORD_HEADERS]
    origin = next((place for place, cell in enumerate(names) if cell in _ORIGIN_HEADERS), -1)
    return _Columns(identifiers[0], passwords[0] if passwords else identifiers[0] + 1, origin)


def _parse_cells(name: str, number: int, cells: Sequence[str], columns: _Columns) -> GivenLogin:
    if len(cells) <= max(columns):
        raise _invalid_line(name, number)
    origin = cells[columns.origin] if columns.origin >= 0 else ""
    return GivenLogin(number, cells[columns.identifier], cells[columns.password], _parse_origin(name, number, origin))


def _parse_origin(name: str, number: int, given: str) -> str:
    """Return the origin of a login without white space; it must be an IP address, if there is one."""
    origin = given.strip()
    if origin:
        # Imported here: most lists have no such column.
        from egec_cli import networks

        try:
            networks.parse_network(origin)
        except InvalidInput as error:
            raise InvalidInput(
                "{name}:{number}: {what}", error.hint, name=name, number=number, what=error.message, code=error.code
            ) from None
    return origin


def _invalid_line(name: str, number: int) -> InvalidInput:
    # The line is not quoted: it may contain a password.
    return InvalidInput(
        "{name}:{number}: invalid login",
        'Write IDENTIFIER,PASSWORD or {{"identifier": "...", "password": "..."}} on each line.',
        name=name,
        number=number,
    )
