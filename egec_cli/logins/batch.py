"""Check many logins in the order in which they come, comparing hashes on all cores."""

import csv
import json
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, dropwhile
from queue import Empty, SimpleQueue
from threading import Event, Semaphore, Thread
from typing import BinaryIO, NamedTuple

from egec_cli import identifier
from egec_cli.context import Context
from egec_cli.errors import InvalidInput
from egec_cli.logins import limits, verify
from egec_cli.logins.limits import AccountBusy
from egec_cli.logins.verify import ComparedLogin, LoginReason, Started

# So many logins for each core are under way, for none of them to wait.
_LOGINS_A_CORE = 4
_LONGEST_LINE = 4096
_DELIMITERS = ",;\t"
_IDENTIFIER_HEADERS = {"identifier", "identifiant"}
_PASSWORD_HEADERS = {"password", "mot de passe", "m-d-p", "mdp"}


class GivenLogin(NamedTuple):
    """A login of a list, and the number of the line that it came from."""

    line: int
    identifier: str
    password: str


class LineVerdict(NamedTuple):
    """Whether a login of a list is accepted.

    Attributes:
        identifier: that of the login; empty where what was given has not the form of one.
        line: where the login is in the list.
        accepted: whether to let in; null if too many logins to the account were in progress to check this one.
    """

    identifier: str
    line: int
    accepted: bool | None


class _UnderWay(NamedTuple):
    """A login that is being compared; without a comparison, one that no place was free for."""

    given: GivenLogin
    started: Started | None = None
    compared: "Future[ComparedLogin] | None" = None

    def is_done(self) -> bool:
        """Tell whether the verdict can be given."""
        return self.compared is None or self.compared.done()


class _Retries:
    """When the first login of those that wait for a place looks for one again, and when it gives up."""

    def __init__(self) -> None:
        self._pause = 0.0
        self._due = 0.0
        self._deadline = 0.0

    def are_due(self) -> bool:
        """Tell whether it is time to look for a place."""
        return time.monotonic() >= self._due

    def seconds_left(self) -> float | None:
        """Return how long to wait before the next look; None if none is planned."""
        return max(self._due - time.monotonic(), 0) if self._due else None

    def postpone(self) -> bool:
        """Plan the next look. Return False if the login has waited long enough."""
        now = time.monotonic()
        if not self._due:
            self._deadline = now + limits.PATIENCE
        self._pause = min(2 * self._pause, limits.LAST_PAUSE) or limits.FIRST_PAUSE
        self._due = now + self._pause
        return now < self._deadline

    def end(self) -> None:
        """Forget the login: it has a place, or gets no verdict."""
        self.__init__()  # type: ignore[misc] # as at first


class _End(NamedTuple):
    """The end of the list, and what it could not be read any further for."""

    failure: Exception | None = None


class _Reader:
    """Reads the list on a thread of its own, never more of it than is wanted.

    Attributes:
        news: what was read; whoever waits for it may be woken by a None.
    """

    def __init__(self, logins: Iterable[GivenLogin], most: int) -> None:
        self.news: SimpleQueue[GivenLogin | _End | None] = SimpleQueue()
        self._free = Semaphore(most)
        self._is_over = Event()
        # It may wait for a line for ever, and dies with the process.
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
        """Wait for news, for this many seconds at most, and return it; None if there is none."""
        try:
            return self.news.get(timeout=timeout)
        except Empty:
            return None

    def wake(self) -> None:
        """Let the one who waits for news look at what else there is to do."""
        self.news.put(None)

    def want_another(self) -> None:
        """Make room for one more login."""
        self._free.release()

    def stop(self) -> None:
        """Read no further."""
        self._is_over.set()
        self._free.release()


def verify_logins(context: Context, logins: Iterable[GivenLogin]) -> Generator[LineVerdict, None, None]:
    """Check logins as `login.verify` does, and yield their verdicts in the same order, each as soon as it is known.

    Each counts as an attempt, and two on one account never overlap: the second finds what the first has led to. The
    list is read on a thread of its own, so that a verdict never waits for the next line. Whatever ends the work early,
    the logins whose comparison has started are settled.

    Raises:
        InvalidInput: the list cannot be read any further; the verdicts before that have been given.
    """
    reader = _Reader(logins, _LOGINS_A_CORE * context.settings.workers)
    waiting: deque[GivenLogin] = deque()
    under_way: deque[_UnderWay] = deque()
    retries = _Retries()
    end: _End | None = None
    with ThreadPoolExecutor(context.settings.workers) as pool:
        try:
            while end is None or waiting or under_way:
                if under_way and under_way[0].is_done():
                    reader.want_another()
                    yield _settled(context, under_way.popleft())
                elif waiting and retries.are_due() and not _is_under_way(waiting[0], under_way):
                    one = _started(context, waiting[0], pool, reader)
                    if one.started is None and retries.postpone():
                        continue
                    retries.end()
                    waiting.popleft()
                    under_way.append(one)
                elif isinstance(item := reader.next(retries.seconds_left()), GivenLogin):
                    waiting.append(item)
                else:
                    end = item or end
        finally:
            reader.stop()
            for one in under_way:
                _settled(context, one)
    if end is not None and end.failure is not None:
        raise end.failure


def _started(context: Context, given: GivenLogin, pool: ThreadPoolExecutor, reader: _Reader) -> _UnderWay:
    try:
        # Waiting for a place here would keep the others from being settled.
        started = verify.start(context, given.identifier, given.password, patience=0)
    except AccountBusy:
        return _UnderWay(given)
    compared = pool.submit(verify.compare_hashes, context, started)
    compared.add_done_callback(lambda _: reader.wake())
    return _UnderWay(given, started, compared)


def _is_under_way(given: GivenLogin, under_way: Iterable[_UnderWay]) -> bool:
    wanted = verify.trim(given.identifier)
    started = (one.started for one in under_way)
    return any(one is not None and one.client is not None and one.client.identifier == wanted for one in started)


def _settled(context: Context, one: _UnderWay) -> LineVerdict:
    wanted = verify.trim(one.given.identifier)
    # Whatever else was typed there may be a password in the wrong place.
    shown = wanted if identifier.is_identifier(wanted) else ""
    accepted = None
    if one.started is not None and one.compared is not None:
        try:
            accepted = verify.settle_login(context, one.started, one.compared.result()).reason is LoginReason.ACCEPTED
        except AccountBusy:
            # It lost its place while others held up the list.
            accepted = None
    return LineVerdict(shown, one.given.line, accepted)


def read_logins(stream: BinaryIO, name: str) -> Iterator[GivenLogin]:
    """Yield the logins of a list as its lines come: JSON objects, or cells.

    The first line says which. Of cells, the first two count, unless a header says which are the identifier and the
    password. Empty lines are passed over. The passwords are in memory alone, never in a file.

    Raises:
        InvalidInput: a line is no login, or is too long to be one.
    """
    lines = dropwhile(lambda numbered: not numbered[1].strip(), _lines(stream, name))
    first = next(lines, None)
    if first is None:
        return
    number, text = first
    if text.lstrip().startswith("{"):
        yield from (_of_object(name, number, line) for number, line in chain([first], lines) if line.strip())
        return
    # The first that is there: a password may hold the others.
    delimiter = next((c for c in text if c in _DELIMITERS), ",")
    columns = _columns(_cells(name, number, text, delimiter))
    for number, line in lines if columns else chain([first], lines):
        if line.strip():
            yield _of_cells(name, number, _cells(name, number, line, delimiter), columns or (0, 1))


def _lines(stream: BinaryIO, name: str) -> Iterator[tuple[int, str]]:
    number = 0
    while line := stream.readline(_LONGEST_LINE):
        number += 1
        if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
            raise _no_login(name, number)
        # Bytes that are no text make a password that matches none.
        yield number, line.decode("utf-8-sig" if number == 1 else "utf-8", errors="replace").rstrip("\r\n")


def _of_object(name: str, number: int, line: str) -> GivenLogin:
    try:
        row = json.loads(line)
        wanted, password = row["identifier"], row["password"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _no_login(name, number) from None
    # Many programs write digits as a number.
    if type(wanted) is int:
        wanted = str(wanted)
    if not isinstance(wanted, str) or not isinstance(password, str):
        raise _no_login(name, number)
    return GivenLogin(number, wanted, password)


def _cells(name: str, number: int, line: str, delimiter: str) -> Sequence[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter))
    except csv.Error:
        # Such as the line end of old Macintoshes, by which the whole file is one line.
        raise _no_login(name, number) from None


def _columns(cells: Sequence[str]) -> tuple[int, int] | None:
    """Return which cells are the identifier and the password if these are a header."""
    names = [cell.strip().casefold() for cell in cells]
    identifiers = [place for place, cell in enumerate(names) if cell in _IDENTIFIER_HEADERS]
    if not identifiers:
        return None
    passwords = [place for place, cell in enumerate(names) if cell in _PASSWORD_HEADERS]
    return identifiers[0], passwords[0] if passwords else identifiers[0] + 1


def _of_cells(name: str, number: int, cells: Sequence[str], columns: tuple[int, int]) -> GivenLogin:
    if len(cells) <= max(columns):
        raise _no_login(name, number)
    return GivenLogin(number, *(cells[place] for place in columns))


def _no_login(name: str, number: int) -> InvalidInput:
    # The line is not quoted: it may hold a password.
    return InvalidInput(
        "{name}:{number}: it is no login",
        'Write IDENTIFIER,PASSWORD or {{"identifier": "...", "password": "..."}} on each line.',
        name=name,
        number=number,
    )
