"""The mail server that behaves like those of providers, as a plain SMTP client sees it."""

import smtplib
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from tests.activations import wait_until
from tests.provider_server import (
    ACCEPTED,
    BLOCKED,
    CLOSED,
    GREYLISTED,
    OVER_QUOTA,
    TOO_MANY_CONNECTIONS,
    TOO_MANY_ON_CONNECTION,
    USER_UNKNOWN,
    Block,
    ClosesAfter,
    ConnectionLimit,
    ExpiringTokens,
    Greylisting,
    MailLimit,
    ProviderServer,
    RefusedShare,
    Rule,
    Tarpit,
    most_within,
)
from tests.smtp_server import Fault, Point
from tests.tokens import USER, Tokens

MESSAGE = "Subject: x\n\nx\n"
SHORT = 0.5


@contextmanager
def connection(server: ProviderServer) -> Iterator[smtplib.SMTP]:
    client = smtplib.SMTP("127.0.0.1", server.port, timeout=10)
    with closing(client):
        yield client


def send(client: smtplib.SMTP, recipient: str = "a@example.org") -> str:
    """Send a mail; return the answer that decided, or how the connection ended."""
    try:
        client.sendmail("egec@example.org", [recipient], MESSAGE)
    except smtplib.SMTPRecipientsRefused as error:
        [(code, words)] = error.recipients.values()
        return f"{code} {words.decode()}"
    except smtplib.SMTPResponseException as error:
        return answer_of(error)
    except smtplib.SMTPServerDisconnected:
        return CLOSED
    return ACCEPTED


def mail(server: ProviderServer, recipient: str = "a@example.org") -> str:
    """Send a mail on a connection of its own."""
    try:
        with connection(server) as client:
            return send(client, recipient)
    except smtplib.SMTPConnectError as error:
        return answer_of(error)


def answer_of(error: smtplib.SMTPResponseException) -> str:
    words: bytes | str = error.smtp_error
    return f"{error.smtp_code} {words.decode() if isinstance(words, bytes) else words}"


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_greylisting_opens_for_each_recipient_some_seconds_after_its_first_attempt() -> None:
    clock = Clock()
    with ProviderServer(Greylisting(300), clock=clock) as server:
        assert mail(server) == GREYLISTED
        clock.now += 200
        assert [mail(server), mail(server, "b@example.org")] == [GREYLISTED, GREYLISTED]
        clock.now += 100
        assert [mail(server), mail(server, "b@example.org")] == [ACCEPTED, GREYLISTED]
    assert [one.recipient for one in server.accepted] == ["a@example.org"]


@pytest.mark.parametrize(
    ("point", "answer"),
    [
        (Point.RCPT, OVER_QUOTA),
        (Point.RCPT, "452 4.5.3 Too many recipients"),
        (Point.MAIL, "451 4.7.1 Try later"),
        (Point.MESSAGE, "421 4.7.0 Try again later, closing connection."),
        (Point.DATA, "550 5.4.5 Daily user sending quota exceeded"),
    ],
)
def test_a_limit_refuses_at_its_point_and_counts_refused_attempts_too(point: Point, answer: str) -> None:
    clock = Clock()
    limits = (2, 60), (5, 3600)
    with ProviderServer(MailLimit(*limits, answer=answer, at=point), clock=clock) as server:
        assert [mail(server) for _ in range(3)] == [ACCEPTED, ACCEPTED, answer]
        clock.now += 59
        assert mail(server) == answer
        clock.now += 1
        # The last refused attempt is still within the minute.
        assert [mail(server), mail(server)] == [ACCEPTED, answer]
        clock.now += 60
        assert mail(server) == answer  # the sixth within the hour
        clock.now += 3600
        assert mail(server) == ACCEPTED
    refused_at = [one.stage for one in server.mails_tried if one.answer == answer]
    assert refused_at == 4 * [point]
    assert (server.most_within(60), server.most_within(3600)) == (4, 7)


def test_a_limit_judges_a_mail_by_those_that_began_before_it() -> None:
    with ProviderServer(MailLimit((1, 60))) as server, connection(server) as first, connection(server) as second:
        for client in (first, second):
            client.ehlo()
            client.mail("egec@example.org")
        assert [client.rcpt("a@example.org")[0] for client in (first, second)] == [250, 450]


def test_a_client_goes_on_after_a_refused_recipient_on_the_same_connection() -> None:
    limit = MailLimit((0, 60))
    with ProviderServer(limit) as server, connection(server) as client:
        assert [send(client), send(client)] == [OVER_QUOTA, OVER_QUOTA]
        limit.limits = ()
        assert send(client) == ACCEPTED
    assert server.answers == {OVER_QUOTA: 2, ACCEPTED: 1}
    assert {one.connection for one in server.attempts} == {1}


def test_connections_above_the_limit_are_turned_away_until_others_close() -> None:
    with ProviderServer(ConnectionLimit(2)) as server:
        with connection(server) as first, connection(server):
            assert mail(server) == mail(server) == TOO_MANY_CONNECTIONS
            assert send(first) == ACCEPTED
        server.wait_until_quiet()
        assert mail(server) == ACCEPTED
    assert [one.is_mail for one in server.attempts] == [False, False, True, True]
    assert len(server.mails_tried) == server.most_within(60) == 2


def test_a_connection_closes_after_some_mails_with_an_answer_or_without() -> None:
    with ProviderServer(ClosesAfter(2)) as server:
        with connection(server) as client:
            assert [send(client) for _ in range(4)] == [ACCEPTED, ACCEPTED, TOO_MANY_ON_CONNECTION, CLOSED]
        assert mail(server) == ACCEPTED
        assert [len(server.attempts), len(server.mails_tried)] == [4, 3]
    with ProviderServer(ClosesAfter(2, None)) as server:
        with connection(server) as client:
            assert [send(client) for _ in range(3)] == [ACCEPTED, ACCEPTED, CLOSED]
        assert mail(server) == ACCEPTED
        assert len(server.accepted) == 3
    assert server.answers == {ACCEPTED: 3}


def test_a_tarpit_answers_slowly_and_holds_up_nobody_else() -> None:
    with ProviderServer(Tarpit(SHORT, [Point.RCPT])) as server, connection(server) as slow, connection(server) as other:
        slow.ehlo()
        other.ehlo()
        slow.mail("egec@example.org")
        began = time.monotonic()
        slow.putcmd("RCPT TO:<a@example.org>")
        other.noop()
        assert time.monotonic() - began < SHORT
        assert slow.getreply()[0] == 250
        assert time.monotonic() - began >= SHORT


def test_a_share_of_the_recipients_is_refused_always_the_same_ones() -> None:
    share = RefusedShare(30)
    recipients = [f"c{number}@example.org" for number in range(100)]
    refused = [one for one in recipients if share.refuses(one)]
    assert 20 < len(refused) < 40
    with ProviderServer(share) as server, connection(server) as client:
        for _ in range(2):
            assert [one for one in recipients if send(client, one) == USER_UNKNOWN] == refused
    assert len(server.accepted) == 2 * (100 - len(refused))


def test_a_block_for_everybody_lasts_until_the_server_relents() -> None:
    block = Block()
    with ProviderServer(block) as server:
        assert [mail(server), mail(server, "b@example.org")] == [BLOCKED, BLOCKED]
        block.relent()
        assert mail(server) == ACCEPTED
    clock = Clock()
    with ProviderServer(Block(seconds=60, at=Point.BANNER, answer="554 5.7.1 Go away"), clock=clock) as server:
        assert mail(server) == "554 5.7.1 Go away"
        clock.now += 60
        assert [mail(server), mail(server)] == [ACCEPTED, ACCEPTED]


def test_refused_recipients_start_a_block_that_relents_and_may_start_again() -> None:
    block, clock = Block(after=2, seconds=60), Clock()
    with ProviderServer(block, RefusedShare(100), clock=clock) as server:
        for _ in range(2):
            answers = [mail(server, f"{name}@example.org") for name in "aabc"]
            assert answers == [USER_UNKNOWN, USER_UNKNOWN, USER_UNKNOWN, BLOCKED]
            clock.now += 60
    assert block.blocks == 2


def test_tokens_expire_on_open_connections_too() -> None:
    tokens = Tokens()
    with ProviderServer(ExpiringTokens(tokens, 3), tokens=tokens) as server:

        def log_in(client: smtplib.SMTP, token: str) -> None:
            client.ehlo()
            client.auth("XOAUTH2", lambda _=None: f"user={USER}\x01auth=Bearer {token}\x01\x01")

        with connection(server) as client:
            log_in(client, "token-1")
            assert [send(client), send(client)] == [ACCEPTED, ACCEPTED]
            assert send(client) == "530 5.7.0 The token has expired"
        with connection(server) as client, pytest.raises(smtplib.SMTPAuthenticationError):
            log_in(client, "token-1")
        with connection(server) as client:
            log_in(client, "token-2")
            assert send(client) == ACCEPTED


def test_the_first_rule_that_answers_wins_and_faults_come_before_all() -> None:
    with ProviderServer(MailLimit((2, 60)), Greylisting(0), RefusedShare(100)) as server:
        server.fail_next(Fault.RCPT_451)
        assert [mail(server) for _ in range(3)] == ["451 Not now", USER_UNKNOWN, OVER_QUOTA]
    assert len(server.mails_tried) == 3


def test_a_client_that_leaves_before_the_answer_frees_its_place() -> None:
    with ProviderServer(ConnectionLimit(1), Tarpit(SHORT, [Point.MESSAGE])) as server:
        with connection(server) as client:
            client.ehlo()
            client.mail("egec@example.org")
            client.rcpt("a@example.org")
            client.putcmd("DATA")
            client.getreply()
            client.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
            wait_until(lambda: bool(server.mails_tried))
        server.wait_until_quiet()
        assert [one.recipient for one in server.accepted] == ["a@example.org"]
        assert mail(server) == ACCEPTED


@pytest.mark.parametrize("rule", [Greylisting(60), Block(), RefusedShare(100)])
def test_an_attempt_is_recorded_with_its_recipient_stage_and_answer(rule: Rule) -> None:
    with ProviderServer(rule) as server:
        began = time.monotonic()
        answer = mail(server, "who@example.org")
        [attempt] = server.attempts
    assert began < attempt.at < time.monotonic()
    assert attempt[1:] == (1, "who@example.org", Point.RCPT, answer)


@pytest.mark.parametrize(
    ("times", "most"), [([], 0), ([5], 1), ([0, 1], 1), ([0, 0.5, 0.9, 1.0], 3), ([3, 0, 3.2, 0.4, 3.9], 3)]
)
def test_the_largest_number_within_a_window_open_at_its_end(times: list[float], most: int) -> None:
    assert most_within(times, 1) == most
