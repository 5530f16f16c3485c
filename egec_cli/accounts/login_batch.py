"""Many logins, one after the other as they come, their hashes compared on all cores."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from egec_cli.accounts import login
from egec_cli.accounts.egec import Egec
from egec_cli.accounts.login import Begun, Compared, Reason

# So many logins for each core are under way, for none of them to wait.
_LOGINS_A_CORE = 4


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
