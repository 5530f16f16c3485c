"""The threads that send mails, with a real mail server: how many of them work, and when none may."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event

import pytest

from egec_cli.mail.compose import message
from egec_cli.mail.compose.message import Mail
from egec_cli.mail.transports import choose
from egec_cli.mail.transports.interface import Cause
from egec_cli.mail.transports.login_secret import CommandSecret
from egec_cli.mail.transports.smtp import SmtpTransport
from egec_cli.reissue.threads import FinishedJob, HashedPassword, MailJob, Senders, ThreadFailure
from egec_cli.settings import load
from egec_cli.settings.types import SecretCommand, SmtpServer
from egec_cli.store.models import CredentialState
from tests.activations import PATIENCE, wait_until
from tests.provider_server import ConnectionLimit, MailLimit, ProviderServer, Rule
from tests.reissue.mails import job_of
from tests.smtp_server import Fault, Point
from tests.tokens import Tokens

CONNECTIONS = 4
THROTTLED = "450 4.7.1 Error: too much mail from this sender, quota exceeded"


class Sending:
    """The threads of a run under test, and the results that they report."""

    def __init__(self, server: ProviderServer) -> None:
        self.server = server
        self.settings = load.load_settings()._replace(mail_connections=CONNECTIONS)
        self.inbox: SimpleQueue[HashedPassword | FinishedJob | ThreadFailure] = SimpleQueue()
        self.senders = Senders(self.settings, lambda: choose.open_transport(self.settings), self.build, self.inbox)

    def build(self, job: MailJob) -> Mail:
        return message.credentials_mail(
            self.settings,
            recipient=job.recipient.email or "",
            language="fr",
            name="Petit",
            identifier=job.recipient.identifier,
            password=job.password,
            issued_at=job.issued_at,
        )

    def put(self, clients: range, *, leaves_in: float = 0.0) -> None:
        self.senders.put([job_of(client, leaves_in=leaves_in) for client in clients])

    def results(self, number: int) -> list[FinishedJob]:
        """Wait for this number of results and return them."""
        found = [self.inbox.get(timeout=PATIENCE) for _ in range(number)]
        assert all(isinstance(one, FinishedJob) for one in found)
        return [one for one in found if isinstance(one, FinishedJob)]

    def reports_nothing(self, *, seconds: float = 0.2) -> bool:
        """Return whether no result comes for a while."""
        try:
            self.inbox.put(self.inbox.get(timeout=seconds))
        except Empty:
            return True
        return False


@contextmanager
def sending(monkeypatch: pytest.MonkeyPatch, *rules: Rule) -> Iterator[Sending]:
    with ProviderServer(*rules) as server:
        monkeypatch.setenv("EGEC_MAIL_URL", server.url)
        new = Sending(server)
        yield new
        new.senders.close()


def causes(results: Sequence[FinishedJob]) -> list[Cause | None]:
    return [None if one.result is None else one.result.cause for one in results]


def are_accepted(results: Sequence[FinishedJob]) -> bool:
    return all(
        one.result is not None and one.result.outcome.state is CredentialState.ACCEPTED for one in results
    ) and bool(results)


def slowly(server: ProviderServer) -> Callable[[], None]:
    """Let the server keep each mail until the returned function is called."""
    go_on = Event()
    server.at(Point.KEPT, lambda: go_on.wait(PATIENCE))
    return go_on.set


def test_one_connection_is_used_until_the_server_has_shown_that_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    with sending(monkeypatch) as one:
        one.put(range(6))
        assert are_accepted(one.results(6))
        assert one.server.connections == 1
        one.senders.use_all_connections()
        go_on = slowly(one.server)
        one.put(range(6, 12))
        wait_until(lambda: len(one.server.accepted) == 6 + CONNECTIONS)
        assert one.server.connections == CONNECTIONS
        go_on()
        assert are_accepted(one.results(6))


def test_a_program_for_the_token_that_hangs_is_run_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho run >> {tmp_path}/runs; exec sleep 60\n")
    program.chmod(0o700)
    monkeypatch.setenv("EGEC_MAIL_TOKEN_COMMAND", str(program))
    with ProviderServer(tokens=Tokens()) as server:
        monkeypatch.setenv("EGEC_MAIL_URL", server.url)
        mail_server = load.load_settings().mail_server
        assert isinstance(mail_server, SmtpServer)
        assert isinstance(mail_server.secret, SecretCommand)
        secret = CommandSecret(mail_server.secret, is_token=True, timeout=0.5)

        def new_transport() -> SmtpTransport:
            transport = SmtpTransport(mail_server, 5.0)
            transport._secret = secret
            return transport

        one = Sending(server)
        senders = Senders(one.settings, new_transport, one.build, one.inbox)
        senders.put([job_of(1)])
        [result] = one.results(1)
        senders.close()
        one.senders.close()
    assert causes([result]) == [Cause.UNREACHABLE]
    assert result.result is not None
    assert result.result.error is not None
    assert result.result.error.code == "login_secret_unavailable"
    assert (tmp_path / "runs").read_text() == "run\n"


def test_a_server_that_allows_fewer_connections_is_no_trouble_and_is_not_asked_for_them_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    allowed = 2
    with sending(monkeypatch, ConnectionLimit(allowed)) as one:
        one.senders.use_all_connections()
        one.server.at(Point.KEPT, lambda: time.sleep(0.002))
        one.put(range(100))
        assert are_accepted(one.results(100))
        assert one.server.connections == CONNECTIONS
        # No connection but those that it allowed is tried any more, whichever threads have time.
        for start in range(100, 200, 10):
            one.senders.use_all_connections()
            one.put(range(start, start + 10))
            assert are_accepted(one.results(10))
        assert one.server.connections == CONNECTIONS


def test_the_last_connection_that_is_turned_away_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with sending(monkeypatch, ConnectionLimit(0)) as one:
        one.senders.use_all_connections()
        one.put(range(1))
        assert causes(one.results(1)) == [Cause.CONNECTIONS]
        assert one.server.connections == CONNECTIONS


def test_all_connections_but_one_are_closed_while_the_server_throttles_us(monkeypatch: pytest.MonkeyPatch) -> None:
    with sending(monkeypatch) as one:
        one.senders.use_all_connections()
        go_on = slowly(one.server)
        one.put(range(CONNECTIONS + 2))
        wait_until(lambda: len(one.server.accepted) == CONNECTIONS)
        assert one.server.open_connections == CONNECTIONS
        one.senders.use_one_connection()
        # The waiting mails come back, and those under way are finished.
        given_back = one.results(2)
        assert [result.result for result in given_back] == [None, None]
        go_on()
        assert are_accepted(one.results(CONNECTIONS))
        wait_until(lambda: one.server.open_connections == 1)
        one.put(range(10, 14))
        assert are_accepted(one.results(4))
        assert one.server.open_connections == 1


def test_no_mail_is_sent_while_a_refusal_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = MailLimit((0, 60))
    with sending(monkeypatch, limit) as one:
        one.senders.use_all_connections()
        one.put(range(1))
        assert causes(one.results(1)) == [Cause.THROTTLED]
        limit.limits = ()
        one.put(range(1, 6))
        assert one.reports_nothing()
        assert len(one.server.mails_tried) == 1
        one.senders.release()
        assert are_accepted(one.results(5))


def test_every_refusal_is_judged_before_the_next_mail_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = MailLimit((0, 60))
    with sending(monkeypatch, limit) as one:
        one.senders.use_all_connections()
        all_are_there = Event()
        one.server.at(Point.RCPT, lambda: all_are_there.wait(PATIENCE))
        one.put(range(CONNECTIONS))
        wait_until(lambda: len(one.server.mails_tried) == CONNECTIONS)
        all_are_there.set()
        assert causes(one.results(CONNECTIONS)) == [Cause.THROTTLED] * CONNECTIONS
        limit.limits = ()
        for _ in range(CONNECTIONS - 1):
            one.senders.release()
        one.put(range(10, 12))
        assert one.reports_nothing()
        one.senders.release()
        assert are_accepted(one.results(2))


def test_a_mail_that_waits_for_its_departure_stays_while_a_refusal_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = MailLimit((0, 60))
    with sending(monkeypatch, limit) as one:
        one.senders.use_all_connections()
        one.put(range(1, 3), leaves_in=0.2)
        one.put(range(1))
        assert causes(one.results(1)) == [Cause.THROTTLED]
        limit.limits = ()
        assert one.reports_nothing(seconds=0.4)
        assert len(one.server.mails_tried) == 1
        one.senders.release()
        assert are_accepted(one.results(2))


def test_a_mail_that_waits_for_its_departure_comes_back_if_its_thread_may_no_longer_send(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with sending(monkeypatch) as one:
        one.senders.use_all_connections()
        one.put(range(CONNECTIONS), leaves_in=0.3)
        # Each thread has one of them.
        wait_until(lambda: not one.senders._waiting)
        one.senders.use_one_connection()
        results = one.results(CONNECTIONS)
        assert [one.result is None for one in results].count(True) == CONNECTIONS - 1
        assert len(one.server.mails_tried) == 1


def test_mails_that_wait_while_a_refusal_is_judged_come_back_when_the_run_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with sending(monkeypatch, MailLimit((0, 60))) as one:
        one.senders.use_all_connections()
        one.put(range(1, 3), leaves_in=0.2)
        one.put(range(1))
        assert causes(one.results(1)) == [Cause.THROTTLED]
        one.put(range(3, 9))
        one.senders.stop()
        assert causes(one.results(8)) == [None] * 8
        assert len(one.server.mails_tried) == 1


def test_refusals_of_recipients_and_lost_answers_hold_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with sending(monkeypatch) as one:
        one.senders.use_all_connections()
        one.server.fail_next(Fault.RCPT_550_USER_UNKNOWN, Fault.CUT_AFTER_KEEPING)
        one.put(range(6))
        found = one.results(6)
        assert sorted(causes(found), key=str) == [None] * 5 + [Cause.RECIPIENT]
