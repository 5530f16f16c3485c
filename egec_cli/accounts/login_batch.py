"""Many logins, one after the other as they come, their hashes compared on all cores."""

import csv
import json
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import BinaryIO, NamedTuple

from egec_cli.accounts import login
from egec_cli.accounts.egec import Egec
from egec_cli.accounts.login import Begun, Compared, Reason
from egec_cli.errors import BadInput

# So many logins for each core are under way, for none of them to wait.
_LOGINS_A_CORE = 4
_LONGEST_LINE = 4096
_HEADERS = {"identifier", "identifiant"}


class GivenLogin(NamedTuple):
    """A login of a list, and the number of the line that it came from."""

    line: int
    identifier: str
    password: str


class LineVerdict(NamedTuple):
    """Whether a login of a list is accepted."""

    line: int
    identifier: str
    accepted: bool


def verify_all(egec: Egec, logins: Iterable[GivenLogin]) -> Iterator[LineVerdict]:
    """Check logins as `login.verify` does, and yield their verdicts in the same order, as they are known.

    Each counts as an attempt, and two on one account never overlap: the second finds what the first has led to.
    """
    under_way: deque[tuple[GivenLogin, Begun, Future[Compared]]] = deque()
    with ThreadPoolExecutor(egec.settings.workers) as pool:
        for given in logins:
            wanted = login.trimmed(given.identifier)
            while len(under_way) >= _LOGINS_A_CORE * egec.settings.workers or _is_under_way(wanted, under_way):
                yield _settled(egec, *under_way.popleft())
            begun = login.begin(egec, given.identifier, given.password)
            under_way.append((given, begun, pool.submit(login.compare, egec, begun)))
        while under_way:
            yield _settled(egec, *under_way.popleft())


def _is_under_way(wanted: str, under_way: Iterable[tuple[GivenLogin, Begun, Future[Compared]]]) -> bool:
    return any(begun.client is not None and begun.client.identifier == wanted for _, begun, _ in under_way)


def _settled(egec: Egec, given: GivenLogin, begun: Begun, compared: "Future[Compared]") -> LineVerdict:
    ended = login.settle(egec, begun, compared.result())
    return LineVerdict(given.line, login.trimmed(given.identifier), ended.reason is Reason.ACCEPTED)


def read_logins(stream: BinaryIO, name: str) -> Iterator[GivenLogin]:
    """Yield the logins of a list as its lines come: JSON objects, or cells of which the first two count.

    The passwords are in memory alone, never in a file.

    Raises:
        BadInput: a line is no login, or is too long to be one.
    """
    lines = _lines(stream, name)
    first = next(lines, None)
    if first is None:
        return
    _, text = first
    if text.lstrip().startswith("{"):
        yield from (_of_object(name, number, line) for number, line in chain([first], lines) if line.strip())
        return
    delimiter = max(",;\t", key=text.count)
    for number, line in chain([first], lines):
        cells = next(csv.reader([line], delimiter=delimiter), [])
        if not line.strip() or (number == 1 and cells[0].strip().casefold() in _HEADERS):
            continue
        if len(cells) < 2:
            raise _no_login(name, number)
        yield GivenLogin(number, cells[0], cells[1])


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
        return GivenLogin(number, str(row["identifier"]), str(row["password"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _no_login(name, number) from None


def _no_login(name: str, number: int) -> BadInput:
    # The line is not quoted: it may hold a password.
    return BadInput(
        f"{name}:{number}: it is no login",
        'Write IDENTIFIER,PASSWORD or {"identifier": "...", "password": "..."} on each line.',
    )
