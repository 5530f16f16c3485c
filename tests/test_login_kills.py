"""Kill login processes, or start many at once: no account is blocked, and no right login is refused."""

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta

import psycopg
import pytest

from egec_cli import clock
from egec_cli.context import Context
from egec_cli.logins import limits
from egec_cli.settings.types import Database, PostgresqlServer
from egec_cli.store.models import Client, LoginPlace
from tests.activations import PATIENCE, wait_until
from tests.logins.test_verify import activated

Victim = subprocess.Popen[bytes]
VERIFY = [sys.executable, "-m", "egec_cli", "verify", "--stdin"]
PLACES = limits.FAILURES_BEFORE_WAIT
CROWD = 40


@pytest.fixture
def client(opened: Context) -> tuple[str, str]:
    """Return the identifier and the password of a client."""
    made, password = activated(opened)
    return made.identifier, password


def start_verify(identifier: str, password: str) -> Victim:
    """Start `egec verify`, and give it the login."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(VERIFY, stdin=pipe, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert process.stdin is not None
    process.stdin.write(f"{identifier}\n{password}\n".encode())
    process.stdin.close()
    return process


def verify(identifier: str, password: str) -> int:
    """Run `egec verify` and return its exit code."""
    return start_verify(identifier, password).wait(PATIENCE)


def expire_places_soon() -> None:
    """Let the remaining places expire in a second."""
    soon = clock.now() + timedelta(seconds=1)
    LoginPlace.update(expires_at=soon).execute()


def send_signal(number: signal.Signals) -> Callable[[Database, list[Victim]], None]:
    def strike(_location: Database, victims: list[Victim]) -> None:
        for victim in victims:
            victim.send_signal(number)

    return strike


def disconnect(location: Database, _victims: list[Victim]) -> None:
    """End the connections of all logins, as a restart of PostgreSQL does."""
    assert isinstance(location, PostgresqlServer)
    with closing(psycopg.connect(location.url, autocommit=True)) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = 'egec' AND pid <> ALL (%s)",
            [[connection.info.backend_pid, *_own_pids()]],
        )


def _own_pids() -> list[int]:
    return [LoginPlace._meta.database.obj.execute_sql("SELECT pg_backend_pid()").fetchone()[0]]


@contextmanager
def slow_logins(monkeypatch: pytest.MonkeyPatch, cost: int) -> Iterator[None]:
    """Let the processes that start here compare hashes at this cost."""
    with monkeypatch.context() as patch:
        patch.setenv("EGEC_BCRYPT_COST", str(cost))
        yield


@pytest.mark.parametrize(
    ("strike", "codes"),
    [
        (send_signal(signal.SIGKILL), {-signal.SIGKILL}),
        (send_signal(signal.SIGTERM), {143}),
        (disconnect, {75}),
    ],
    ids=["SIGKILL", "SIGTERM", "a lost database"],
)
def test_ten_logins_that_die_are_not_failures_and_the_next_right_one_is_accepted(
    opened: Context,
    location: Database,
    client: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    strike: Callable[[Database, list[Victim]], None],
    codes: set[int],
) -> None:
    if strike is disconnect and not isinstance(location, PostgresqlServer):
        pytest.skip("SQLite has no server to lose")
    for _ in range(2):
        # Processes that lose their database finish their comparison.
        with slow_logins(monkeypatch, 14):
            victims = [start_verify(client[0], "wrong") for _ in range(PLACES)]
            wait_until(lambda: LoginPlace.select().count() == PLACES)
            strike(location, victims)
            assert {victim.wait(PATIENCE) for victim in victims} == codes
        assert LoginPlace.select().count() == PLACES
        expire_places_soon()
        # It waits until a place expires.
        assert verify(*client) == 0
    stored = Client.get()
    assert (stored.failed_logins, stored.blocked_until) == (0, None)


def test_no_right_login_of_a_crowd_is_refused(
    opened: Context, client: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with slow_logins(monkeypatch, 6):
        codes = Counter(process.wait(PATIENCE) for process in [start_verify(*client) for _ in range(CROWD)])
    assert codes.total() == CROWD
    assert set(codes) <= {0, 75}
    assert codes[0] >= CROWD // 2
    stored = Client.get()
    assert (stored.failed_logins, stored.blocked_until) == (0, None)
    assert LoginPlace.select().count() == 0
