"""Kill activations at every point of the SMTP dialogue: no client is locked out or delayed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future
from threading import Event, Thread, Timer
from typing import NamedTuple

import psycopg
import pytest

from egec_cli.context import open_context
from egec_cli.settings import load
from egec_cli.settings.types import Database
from egec_cli.store import database
from egec_cli.store.models import Client, Credential
from tests.activations import PATIENCE, activated, letters, opens, require_as_good_as_new, require_intact, wait_until
from tests.conftest import Egec
from tests.processes import egec_after, replace
from tests.smtp_server import Fault, MailServer, Point

PROGRAM = [sys.executable, "-m", "egec_cli"]
# The same, with a short wait for other transactions, though longer than a signal takes.
IMPATIENT_PROGRAM = egec_after(replace(database, "BUSY_TIMEOUT", 3))

BEFORE_THE_DOT = (Point.BANNER, Point.EHLO, Point.MAIL, Point.RCPT, Point.DATA)
# From the final dot on, the mail reaches the client whether or not its sender lives.
FROM_THE_DOT = (Point.MESSAGE, Point.KEPT, Point.QUIT)


@pytest.fixture
def identifier(location: Database, server: MailServer, egec: Egec) -> str:
    """Return the identifier of a client activated once."""
    return activated(egec)


class Struck(NamedTuple):
    """The exit code and the errors of a process that got a signal."""

    code: int
    err: str


Strike = Callable[[subprocess.Popen[bytes]], None]


def struck(server: MailServer, point: Point, strike: Strike, identifier: str, program: list[str] = PROGRAM) -> Struck:
    """Activate in a separate process, and strike it when it reaches the point."""
    victim: Future[subprocess.Popen[bytes]] = Future()
    server.at(point, lambda: strike(victim.result(PATIENCE)))
    command = [*program, "activate", identifier]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        victim.set_result(process)
        _, err = process.communicate(timeout=PATIENCE)
    server.wait_until_quiet()
    return Struck(process.returncode, err.decode())


def ended_by(number: signal.Signals) -> Strike:
    """Return a strike that sends a signal, and lets the server continue when the process has ended."""

    def strike(process: subprocess.Popen[bytes]) -> None:
        # This does nothing to a process that has ended, such as when later processes reach the point.
        process.send_signal(number)
        process.wait(PATIENCE)

    return strike


@pytest.mark.parametrize("point", [*BEFORE_THE_DOT, *FROM_THE_DOT])
def test_a_kill_at_any_point_of_the_dialogue_locks_out_and_delays_no_client(
    location: Database, server: MailServer, identifier: str, egec: Egec, point: Point
) -> None:
    assert struck(server, point, ended_by(signal.SIGKILL), identifier).code == -signal.SIGKILL
    require_intact(location)
    kept = letters(server)
    assert len(kept) == (2 if point in FROM_THE_DOT else 1)
    assert opens(kept[-1])
    require_as_good_as_new(identifier, server, egec)


def test_after_a_kill_during_the_message_the_earlier_password_still_signs_in(
    location: Database, server: MailServer, identifier: str, egec: Egec
) -> None:
    server.fail_next(Fault.SILENT_IN_MESSAGE)
    heard = len(server.heard_in_clear)
    with subprocess.Popen([*PROGRAM, "activate", identifier], stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: b"\r\nSubject: " in server.heard_in_clear[heard:])
        process.kill()
    require_intact(location)
    (earlier,) = letters(server)
    assert opens(earlier)
    require_as_good_as_new(identifier, server, egec)


def test_a_kill_at_any_moment_of_the_message_and_its_settlement_locks_out_no_client(
    location: Database, server: MailServer, identifier: str, egec: Egec
) -> None:
    killed = 0
    for milliseconds in range(8):

        def strike(process: subprocess.Popen[bytes], delay: float = milliseconds / 1000) -> None:
            Timer(delay, process.kill).start()

        # After the go-ahead for the message, or after the answer to it.
        point = Point.DATA if milliseconds % 2 else Point.KEPT
        killed += struck(server, point, strike, identifier).code == -signal.SIGKILL
        require_intact(location)
        if milliseconds % 3:
            assert opens(letters(server)[-1])
        require_as_good_as_new(identifier, server, egec)
    assert killed


def test_a_killed_process_whose_parent_has_not_waited_for_it_delays_no_client(
    server: MailServer, identifier: str, egec: Egec
) -> None:
    kept = Event()
    server.at(Point.KEPT, kept.set)
    server.fail_next(Fault.SILENT_AFTER_KEEPING)
    with subprocess.Popen([*PROGRAM, "activate", identifier], stdout=subprocess.DEVNULL) as process:
        assert kept.wait(PATIENCE)
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        require_as_good_as_new(identifier, server, egec)


@pytest.mark.parametrize("point", [Point.BANNER, Point.RCPT, Point.DATA, *FROM_THE_DOT])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_after_a_signal_the_mail_under_way_is_settled_and_the_lease_is_free(
    server: MailServer, identifier: str, egec: Egec, number: signal.Signals, code: int, point: Point
) -> None:
    ended = struck(server, point, ended_by(number), identifier)
    assert (ended.code, "Traceback" in ended.err) == (code, False), ended
    # Before the greeting, no credential is recorded; at QUIT, the mail was accepted.
    is_in_doubt = point not in {Point.BANNER, Point.QUIT}
    assert (f"type `egec activate {identifier}`" if is_in_doubt else "run the same command again") in ended.err
    assert ("The mail may have been sent" in ended.err) is is_in_doubt
    with open_context(load.load_settings()):
        assert Client.get().lease_owner is None
        states = [row.state for row in Credential.select().order_by(Credential.sequence)]
    if point is Point.BANNER:
        assert states == ["accepted"]
    else:
        assert states == (["superseded", "accepted"] if point is Point.QUIT else ["accepted", "in_doubt"])
    assert opens(letters(server)[-1])
    require_as_good_as_new(identifier, server, egec)


@pytest.mark.parametrize("point", [Point.BANNER, Point.KEPT])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_process_that_waits_for_a_postgresql_lock(
    postgresql: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
    server: MailServer,
    egec: Egec,
    number: signal.Signals,
    code: int,
    point: Point,
) -> None:
    monkeypatch.setenv("EGEC_DATABASE_URL", url := postgresql())
    identifier = activated(egec)
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with psycopg.connect(url) as other, psycopg.connect(url, autocommit=True) as observer:

        def strike(process: subprocess.Popen[bytes]) -> None:
            if process.poll() is None:
                other.execute("SELECT 1 FROM client FOR UPDATE")
                Thread(target=send_signal_when_it_waits, args=(process,)).start()

        def send_signal_when_it_waits(process: subprocess.Popen[bytes]) -> None:
            wait_until(lambda: observer.execute(waiting).fetchone() is not None)
            process.send_signal(number)

        ended = struck(server, point, strike, identifier, IMPATIENT_PROGRAM)
    assert (ended.code, "Traceback" in ended.err) == (code, False), ended
    assert opens(letters(server)[-1])
    require_as_good_as_new(identifier, server, egec)
