"""SMTP against a real server: each of its failures, TLS, logins, time-outs, and what arrives."""

import base64
import os
import re
import signal
import subprocess
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Event

import pytest

from egec_cli.errors import ExitCode
from egec_cli.mail.compose.sample import sample_mail
from egec_cli.mail.compose.template import Kind
from egec_cli.mail.transports import choose
from egec_cli.mail.transports.interface import Cause, DeliveryRefused, DeliveryUnknown
from egec_cli.settings import load
from egec_cli.settings.types import Tls
from tests import children
from tests.mail.conftest import CONTENT, PATIENCE, End, TransportOf, end_of_delivery, mail_to
from tests.processes import command_of
from tests.smtp_server import Accepted, Drip, Fault, MailServer, Point, authority_file

# A silent server ends by the time-out; no other may.
IMPATIENCE = 0.5
SECRET = "Pa55:wo/rd"

INVALID_INPUT, TEMPORARY_FAILURE, NOT_PERMITTED, CONFIGURATION = (
    ExitCode.INVALID_INPUT,
    ExitCode.TEMPORARY_FAILURE,
    ExitCode.NOT_PERMITTED,
    ExitCode.CONFIGURATION,
)

REFUSED_BEFORE_354 = {
    Fault.NO_BANNER: TEMPORARY_FAILURE,
    Fault.CUT_AT_BANNER: TEMPORARY_FAILURE,
    Fault.BANNER_421: TEMPORARY_FAILURE,
    Fault.BANNER_554: NOT_PERMITTED,
    Fault.BANNER_OF_ANOTHER_PROTOCOL: TEMPORARY_FAILURE,
    Fault.DRIPPED_BANNER: TEMPORARY_FAILURE,
    Fault.DRIPPED_BANNER_LINES: TEMPORARY_FAILURE,
    Fault.SILENT_AT_EHLO: TEMPORARY_FAILURE,
    Fault.DRIPPED_EHLO: TEMPORARY_FAILURE,
    Fault.EHLO_OF_ENDLESS_LINES: TEMPORARY_FAILURE,
    Fault.EHLO_WITHOUT_END: TEMPORARY_FAILURE,
    Fault.CUT_AT_EHLO: TEMPORARY_FAILURE,
    Fault.STARTTLS_454: TEMPORARY_FAILURE,
    Fault.DRIPPED_STARTTLS: TEMPORARY_FAILURE,
    Fault.DRIPPED_HANDSHAKE: TEMPORARY_FAILURE,
    Fault.SILENT_IN_HANDSHAKE: TEMPORARY_FAILURE,
    Fault.CUT_IN_HANDSHAKE: TEMPORARY_FAILURE,
    Fault.NO_TLS_IN_HANDSHAKE: TEMPORARY_FAILURE,
    Fault.LOGIN_454: TEMPORARY_FAILURE,
    Fault.LOGIN_535: CONFIGURATION,
    Fault.LOGIN_535_LIKE_MICROSOFT: CONFIGURATION,
    Fault.LOGIN_WITH_BROKEN_CHALLENGE: TEMPORARY_FAILURE,
    Fault.LOGIN_THAT_QUOTES: CONFIGURATION,
    Fault.LOGIN_THAT_QUOTES_OVER_LINES: CONFIGURATION,
    Fault.SILENT_AT_LOGIN: TEMPORARY_FAILURE,
    Fault.DRIPPED_LOGIN: TEMPORARY_FAILURE,
    Fault.DRIPPED_CHALLENGE: TEMPORARY_FAILURE,
    Fault.CUT_AT_LOGIN: TEMPORARY_FAILURE,
    Fault.MAIL_421: TEMPORARY_FAILURE,
    Fault.MAIL_451: TEMPORARY_FAILURE,
    Fault.MAIL_530: CONFIGURATION,
    Fault.MAIL_550: CONFIGURATION,
    Fault.SILENT_AT_MAIL: TEMPORARY_FAILURE,
    Fault.DRIPPED_MAIL: TEMPORARY_FAILURE,
    Fault.CUT_AT_MAIL: TEMPORARY_FAILURE,
    Fault.RCPT_421: TEMPORARY_FAILURE,
    Fault.RCPT_451: TEMPORARY_FAILURE,
    Fault.RCPT_550: INVALID_INPUT,
    Fault.RCPT_550_USER_UNKNOWN: INVALID_INPUT,
    Fault.RCPT_550_POLICY: NOT_PERMITTED,
    Fault.SILENT_AT_RCPT: TEMPORARY_FAILURE,
    Fault.RCPT_WITHOUT_CODE: TEMPORARY_FAILURE,
    Fault.DRIPPED_RCPT: TEMPORARY_FAILURE,
    Fault.CUT_AT_RCPT: TEMPORARY_FAILURE,
    Fault.DATA_421: TEMPORARY_FAILURE,
    Fault.DATA_451: TEMPORARY_FAILURE,
    Fault.DATA_554: INVALID_INPUT,
    Fault.SILENT_AT_DATA: TEMPORARY_FAILURE,
    Fault.DRIPPED_354: TEMPORARY_FAILURE,
    Fault.CUT_BEFORE_354: TEMPORARY_FAILURE,
    Fault.CUT_IN_354: TEMPORARY_FAILURE,
    Fault.CUT_AT_THE_END_OF_354: TEMPORARY_FAILURE,
}
REFUSED_AFTER_THE_DOT = {
    Fault.MESSAGE_421: TEMPORARY_FAILURE,
    Fault.MESSAGE_451: TEMPORARY_FAILURE,
    Fault.MESSAGE_554: INVALID_INPUT,
    Fault.REFUSAL_THAT_QUOTES: INVALID_INPUT,
    Fault.REFUSAL_THAT_QUOTES_OVER_LINES: INVALID_INPUT,
    Fault.REFUSAL_THAT_QUOTES_IN_BASE64: INVALID_INPUT,
}
IN_DOUBT_AND_NOT_KEPT = {
    Fault.CUT_IN_MESSAGE,
    Fault.SILENT_IN_MESSAGE,
    Fault.CUT_BEFORE_KEEPING,
    Fault.SILENT_BEFORE_KEEPING,
    Fault.DRIPPED_REFUSAL,
    Fault.CUT_IN_REFUSAL,
    Fault.CUT_AT_THE_END_OF_REFUSAL,
    Fault.CUT_AFTER_FIRST_LINE_OF_REFUSAL,
}
IN_DOUBT_BUT_KEPT = {
    Fault.CUT_AFTER_KEEPING,
    Fault.SILENT_AFTER_KEEPING,
    Fault.DRIPPED_ANSWER,
    Fault.DRIPPED_ANSWER_LINES,
    Fault.ANSWER_354,
    Fault.CUT_IN_ANSWER,
    Fault.CUT_AT_THE_END_OF_ANSWER,
    Fault.CUT_AFTER_FIRST_LINE_OF_ANSWER,
    Fault.ANSWER_OF_TWO_MINDS,
    Fault.ANSWER_WITHOUT_CODE,
    Fault.ANSWER_WITHOUT_END,
    Fault.ANSWER_OF_ENDLESS_LINES,
    Fault.ANSWER_299,
}
ACCEPTED = {
    Fault.NONE,
    Fault.RCPT_251,
    Fault.ANSWER_THAT_QUOTES,
    Fault.ANSWER_THAT_QUOTES_OVER_LINES,
    Fault.ANSWER_THAT_QUOTES_IN_BASE64,
    Fault.ANSWER_WITH_CONTROL_CHARACTERS,
    Fault.QUIT_421,
    Fault.SILENT_AT_QUIT,
    Fault.DRIPPED_QUIT,
    Fault.CUT_AT_QUIT,
}
# These change the offered extensions; they have their own tests.
OFFERS = {Fault.OFFERS_AUTH_LOGIN, Fault.OFFERS_LOGIN_BY_TOKEN}


def by_name(faults: set[Fault]) -> list[Fault]:
    """Return the faults in the same order for every test worker."""
    return sorted(faults, key=lambda fault: fault.name)


def server_for(fault: Fault, *, pipelining: bool) -> MailServer:
    """Return a server whose dialogue reaches the fault."""
    if fault.point is Point.STARTTLS:
        return MailServer(tls=Tls.STARTTLS, pipelining=pipelining)
    return MailServer(login=("egec", SECRET) if fault.point is Point.LOGIN else None, pipelining=pipelining)


def patience_with(fault: Fault) -> float:
    """Return the time-out for this fault."""
    return IMPATIENCE if fault.is_waited_for else PATIENCE


def all_words(error: BaseException) -> str:
    """Return everything that a log or traceback could show of an error."""
    words = "".join(traceback.format_exception(error))
    if isinstance(error, DeliveryRefused):
        words += f"{error.error.message} {error.error.hint} {error.reply} {error.error!r}"
    return words


def test_every_failure_of_the_server_is_tried() -> None:
    tried = [*REFUSED_BEFORE_354, *REFUSED_AFTER_THE_DOT, *IN_DOUBT_AND_NOT_KEPT, *IN_DOUBT_BUT_KEPT, *ACCEPTED]
    assert sorted(fault.name for fault in [*tried, *OFFERS]) == sorted(fault.name for fault in Fault)


# How a delivery ends


@pytest.mark.parametrize("pipelining", [False, True])
@pytest.mark.parametrize(("fault", "exit_code"), REFUSED_BEFORE_354.items())
def test_a_failure_before_354_is_a_refusal_and_nothing_of_the_mail_has_left(
    fault: Fault, exit_code: ExitCode, pipelining: bool, transport_of: TransportOf
) -> None:
    with server_for(fault, pipelining=pipelining) as server:
        server.fail_always(fault)
        transport = transport_of(server.url, patience_with(fault))
        assert end_of_delivery(transport, mail_to()) == exit_code
        transport.close()
        server.wait_until_quiet()
        assert server.accepted == []
        assert b"Subject" not in server.heard_in_clear


@pytest.mark.parametrize(("fault", "exit_code"), REFUSED_AFTER_THE_DOT.items())
def test_a_whole_refusal_after_the_dot_is_certain(
    fault: Fault, exit_code: ExitCode, mail_server: MailServer, transport_of: TransportOf
) -> None:
    mail_server.fail_next(fault)
    assert end_of_delivery(transport_of(mail_server.url), mail_to()) == exit_code
    assert mail_server.accepted == []


@pytest.mark.parametrize("fault", by_name(IN_DOUBT_AND_NOT_KEPT | IN_DOUBT_BUT_KEPT))
def test_a_lost_answer_after_354_leaves_the_mail_in_doubt(
    fault: Fault, mail_server: MailServer, transport_of: TransportOf
) -> None:
    mail_server.fail_next(fault)
    assert end_of_delivery(transport_of(mail_server.url, patience_with(fault)), mail_to()) == End.IN_DOUBT
    mail_server.wait_until_quiet()
    assert len(mail_server.accepted) == (1 if fault in IN_DOUBT_BUT_KEPT else 0)


@pytest.mark.parametrize("fault", by_name(ACCEPTED))
def test_a_mail_is_accepted_whatever_the_server_does_beside_saying_250(
    fault: Fault, mail_server: MailServer, transport_of: TransportOf
) -> None:
    mail_server.fail_next(fault)
    assert end_of_delivery(transport_of(mail_server.url), mail_to()) == End.ACCEPTED
    assert mail_server.accepted == [Accepted("ne-pas-repondre@egec.pro", "jeanne@example.org", CONTENT)]


@pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.IMPLICIT])
@pytest.mark.parametrize(
    ("fault", "end"),
    [
        (Fault.CUT_AT_RCPT, TEMPORARY_FAILURE),
        (Fault.SILENT_AT_DATA, TEMPORARY_FAILURE),
        (Fault.CUT_IN_MESSAGE, End.IN_DOUBT),
        (Fault.MESSAGE_554, INVALID_INPUT),
        (Fault.CUT_AFTER_KEEPING, End.IN_DOUBT),
        (Fault.SILENT_AFTER_KEEPING, End.IN_DOUBT),
        (Fault.CUT_AT_THE_END_OF_ANSWER, End.IN_DOUBT),
        (Fault.QUIT_421, End.ACCEPTED),
    ],
)
def test_the_end_is_the_same_within_tls(tls: Tls, fault: Fault, end: End | ExitCode, transport_of: TransportOf) -> None:
    with MailServer(tls=tls) as server:
        server.fail_next(fault)
        assert end_of_delivery(transport_of(server.url, patience_with(fault)), mail_to()) == end


def test_a_server_that_is_not_there_is_a_refusal(transport_of: TransportOf) -> None:
    with MailServer() as server:
        url = server.url
    assert end_of_delivery(transport_of(url), mail_to()) == TEMPORARY_FAILURE


def test_a_server_that_stops_while_it_is_spoken_to_is_a_refusal_and_one_that_is_back_accepts(
    transport_of: TransportOf,
) -> None:
    server = MailServer()
    server.start()
    transport = transport_of(server.url)
    transport.connect()
    server.stop()
    assert end_of_delivery(transport, mail_to()) == TEMPORARY_FAILURE
    with server:
        assert end_of_delivery(transport, mail_to()) == End.ACCEPTED
    assert len(server.accepted) == 1


def test_a_message_over_the_size_of_the_server_is_a_fault_of_the_templates(transport_of: TransportOf) -> None:
    with MailServer(size_limit=100) as server:
        with pytest.raises(DeliveryRefused, match="too large") as refusal:
            transport_of(server.url).deliver(mail_to())
        assert refusal.value.error.exit_code == CONFIGURATION
        assert refusal.value.reply is not None
        assert refusal.value.reply.startswith("552 ")
        assert server.accepted == []


# The connection


def test_one_connection_serves_for_all_mails(mail_server: MailServer, transport_of: TransportOf) -> None:
    transport = transport_of(mail_server.url)
    recipients = [f"client{number}@example.org" for number in range(5)]
    assert [end_of_delivery(transport, mail_to(one)) for one in recipients] == [End.ACCEPTED] * 5
    assert [kept.recipient for kept in mail_server.accepted] == recipients
    assert mail_server.connections == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault.NO_BANNER,
        Fault.MAIL_451,
        Fault.RCPT_550,
        Fault.CUT_AT_RCPT,
        Fault.DATA_554,
        Fault.SILENT_AT_DATA,
        Fault.MESSAGE_421,
        Fault.MESSAGE_451,
        Fault.CUT_AFTER_KEEPING,
        Fault.SILENT_AFTER_KEEPING,
        Fault.ANSWER_299,
    ],
)
def test_the_mail_after_a_failed_one_is_accepted(
    fault: Fault, mail_server: MailServer, transport_of: TransportOf
) -> None:
    mail_server.fail_next(fault)
    transport = transport_of(mail_server.url, patience_with(fault))
    assert end_of_delivery(transport, mail_to("first@example.org")) != End.ACCEPTED
    assert end_of_delivery(transport, mail_to("second@example.org")) == End.ACCEPTED
    assert mail_server.accepted[-1].recipient == "second@example.org"


def test_connect_connects_and_logs_in_ahead_of_the_mail(transport_of: TransportOf) -> None:
    with MailServer(tls=Tls.STARTTLS, login=("egec", SECRET)) as server:
        logged_in = []
        server.at(Point.LOGIN, lambda: logged_in.append(True))
        transport = transport_of(server.url)
        transport.connect()
        assert logged_in == [True]
        assert end_of_delivery(transport, mail_to()) == End.ACCEPTED
        assert server.connections == 1


def test_a_failure_to_connect_is_reported_and_the_next_try_connects_again(
    mail_server: MailServer, transport_of: TransportOf
) -> None:
    mail_server.fail_next(Fault.BANNER_421)
    transport = transport_of(mail_server.url)
    with pytest.raises(DeliveryRefused, match="421 Too busy") as refusal:
        transport.connect()
    assert refusal.value.cause is Cause.UNREACHABLE
    assert refusal.value.reply == "421 Too busy"
    assert end_of_delivery(transport, mail_to()) == End.ACCEPTED


@pytest.mark.parametrize("fault", [Fault.MAIL_421, Fault.CUT_AT_MAIL, Fault.RCPT_421, Fault.CUT_BEFORE_354])
def test_a_server_that_hangs_up_between_two_mails_is_connected_to_once_more(
    fault: Fault, mail_server: MailServer, transport_of: TransportOf
) -> None:
    transport = transport_of(mail_server.url)
    assert end_of_delivery(transport, mail_to("first@example.org")) == End.ACCEPTED
    mail_server.fail_next(fault)
    assert end_of_delivery(transport, mail_to("second@example.org")) == End.ACCEPTED
    assert [kept.recipient for kept in mail_server.accepted] == ["first@example.org", "second@example.org"]
    assert mail_server.connections == 2
    mail_server.fail_always(fault)
    with pytest.raises(DeliveryRefused) as refusal:
        transport.deliver(mail_to())
    assert refusal.value.cause is (Cause.UNREACHABLE if fault is Fault.MAIL_421 else Cause.DROPPED)
    assert len(mail_server.accepted) == 2


def test_a_server_that_cannot_be_reached_any_more_is_connected_to_once_for_each_mail(
    mail_server: MailServer, transport_of: TransportOf
) -> None:
    transport = transport_of(mail_server.url)
    assert end_of_delivery(transport, mail_to("first@example.org")) == End.ACCEPTED
    mail_server.fail_next(Fault.MAIL_421)
    mail_server.fail_always(Fault.BANNER_421)
    for connections in (2, 3, 4):
        with pytest.raises(DeliveryRefused):
            transport.deliver(mail_to())
        assert mail_server.connections == connections


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (Fault.MAIL_451, Cause.THROTTLED),
        (Fault.RCPT_550, Cause.RECIPIENT),
        (Fault.RCPT_550_POLICY, Cause.BLOCKED),
        (Fault.RCPT_451, Cause.RECIPIENT),
        (Fault.DATA_554, Cause.UNCLEAR),
        (Fault.MESSAGE_451, Cause.UNCLEAR),
        (Fault.MESSAGE_554, Cause.UNCLEAR),
    ],
)
def test_the_connection_goes_on_after_a_refusal_of_one_mail(
    fault: Fault, cause: Cause, mail_server: MailServer, transport_of: TransportOf
) -> None:
    mail_server.fail_next(fault)
    transport = transport_of(mail_server.url)
    with pytest.raises(DeliveryRefused) as refusal:
        transport.deliver(mail_to("first@example.org"))
    assert refusal.value.cause is cause
    assert end_of_delivery(transport, mail_to("second@example.org")) == End.ACCEPTED
    assert [kept.recipient for kept in mail_server.accepted] == ["second@example.org"]
    assert mail_server.connections == 1


@pytest.mark.parametrize(
    ("point", "answer", "cause", "exit_code", "code", "hint"),
    [
        (Point.BANNER, "421 Too many connections", Cause.CONNECTIONS, 75, "too_many_connections", "EGEC_MAIL_CONN"),
        (Point.BANNER, "421 4.7.0 Slow down", Cause.UNREACHABLE, 75, "mail_throttled", "more slowly"),
        (Point.BANNER, "554 Your IP is in Spamhaus", Cause.BLOCKED, 77, "mail_blocked", "mail provider"),
        (Point.BANNER, "450 Not ready", Cause.UNREACHABLE, 75, "mail_server_unavailable", "later"),
        (Point.LOGIN, "535 5.7.8 No such login", Cause.BLOCKED, 78, "configuration", "password in EGEC_MAIL_URL"),
        (Point.LOGIN, "550 5.7.30 Not supported", Cause.BLOCKED, 78, "configuration", "password in EGEC_MAIL_URL"),
        (Point.LOGIN, "454 4.7.0 Too many login attempts", Cause.UNREACHABLE, 75, "mail_throttled", "more slowly"),
        (Point.MAIL, "550 No such sender", Cause.BLOCKED, 78, "configuration", "EGEC_MAIL_FROM"),
        (Point.MAIL, "553 5.7.1 In Spamhaus's list", Cause.BLOCKED, 77, "mail_blocked", "mail provider"),
        (Point.MAIL, "450 4.7.1 Too much mail", Cause.THROTTLED, 75, "mail_throttled", "more slowly"),
        (Point.RCPT, "550 5.7.1 blocked using spamhaus", Cause.BLOCKED, 77, "mail_blocked", "mail provider"),
        (Point.RCPT, "450 daily quota exceeded", Cause.THROTTLED, 75, "mail_throttled", "more slowly"),
        (Point.RCPT, "450 4.2.0 Greylisted", Cause.RECIPIENT, 75, "mail_deferred", "later"),
        (Point.RCPT, "450 4.1.8 Unknown sender", Cause.BLOCKED, 75, "mail_deferred", "administrator"),
        (Point.RCPT, "550 5.1.1 User unknown", Cause.RECIPIENT, 65, "mail_refused", "Correct the address"),
        (Point.RCPT, "550 5.7.1 No", Cause.UNCLEAR, 65, "mail_refused", "administrator"),
        (Point.DATA, "421 4.4.2 Timed out", Cause.DROPPED, 75, "mail_server_unavailable", "later"),
        (Point.DATA, "554 No", Cause.UNCLEAR, 65, "mail_refused", "administrator"),
        (Point.DATA, "452 Full", Cause.THROTTLED, 75, "mail_throttled", "more slowly"),
        (Point.MESSAGE, "550 5.4.5 Daily user sending limit exceeded", Cause.THROTTLED, 75, "mail_throttled", "slowly"),
        (Point.MESSAGE, "432 4.3.2 Concurrent connections", Cause.CONNECTIONS, 75, "too_many_connections", "EGEC_MAIL"),
        (Point.MESSAGE, "552 5.2.2 Over quota", Cause.RECIPIENT, 65, "mail_refused", "Correct the address"),
    ],
)
def test_a_refusal_has_the_error_of_its_cause(
    point: Point, answer: str, cause: Cause, exit_code: int, code: str, hint: str, transport_of: TransportOf
) -> None:
    with MailServer(login=("egec", SECRET) if point is Point.LOGIN else None) as server:
        server.answer_always(point, answer)
        with pytest.raises(DeliveryRefused) as refusal:
            transport_of(server.url).deliver(mail_to())
    error = refusal.value.error
    assert (refusal.value.cause, refusal.value.reply) == (cause, answer)
    assert (error.exit_code, error.code) == (exit_code, code)
    assert answer in error.message
    assert hint in error.hint


@pytest.mark.parametrize("after", [Fault.SILENT_IN_MESSAGE, Fault.CUT_BEFORE_354])
def test_commands_sent_at_once_end_with_the_first_refusal_whatever_comes_after_it(
    after: Fault, transport_of: TransportOf
) -> None:
    with MailServer(pipelining=True) as server:
        # The first server answers 354 although it refused the recipient.
        server.fail_next(Fault.RCPT_550, after)
        transport = transport_of(server.url)
        with pytest.raises(DeliveryRefused, match="550 No such recipient"):
            transport.deliver(mail_to("first@example.org"))
        assert end_of_delivery(transport, mail_to("second@example.org")) == End.ACCEPTED
        assert [kept.recipient for kept in server.accepted] == ["second@example.org"]
        assert b"first" not in server.accepted[0].content


@pytest.mark.parametrize(
    "fault", [Fault.NONE, Fault.QUIT_421, Fault.CUT_AT_QUIT, Fault.SILENT_AT_QUIT, Fault.DRIPPED_QUIT]
)
def test_closing_says_goodbye_and_does_not_wait_for_long(
    fault: Fault, mail_server: MailServer, transport_of: TransportOf
) -> None:
    goodbyes = []
    mail_server.at(Point.QUIT, lambda: goodbyes.append(True))
    mail_server.fail_always(fault)
    transport = transport_of(mail_server.url)
    transport.deliver(mail_to())
    begin = time.monotonic()
    transport.close()
    transport.close()
    assert time.monotonic() - begin < PATIENCE / 2
    mail_server.wait_until_quiet()
    assert goodbyes == [True]


@pytest.mark.parametrize("fault", [Fault.NO_BANNER, Fault.SILENT_AT_RCPT, Fault.SILENT_AFTER_KEEPING])
def test_a_silent_server_is_waited_for_as_long_as_the_time_out_says(
    fault: Fault, mail_server: MailServer, transport_of: TransportOf
) -> None:
    mail_server.fail_next(fault)
    transport = transport_of(mail_server.url, IMPATIENCE)
    begin = time.monotonic()
    assert end_of_delivery(transport, mail_to()) != End.ACCEPTED
    assert IMPATIENCE <= time.monotonic() - begin < IMPATIENCE + 5


def test_the_answer_to_a_mail_may_take_longer_than_every_other(mail_server: MailServer) -> None:
    is_slow = Event()
    mail_server.at(Point.DATA, is_slow.set)
    for point in (Point.KEPT, Point.MAIL):
        mail_server.at(point, lambda: time.sleep(2 * IMPATIENCE) if is_slow.is_set() else None)
    settings = load.load_settings({"EGEC_MAIL_URL": mail_server.url})
    settings = settings._replace(mail_timeout=IMPATIENCE, mail_final_timeout=PATIENCE)
    with closing(choose.open_transport(settings)) as transport:
        assert end_of_delivery(transport, mail_to("first@example.org")) == End.ACCEPTED
        # The next mail on the same connection has no more time than before.
        began = time.monotonic()
        with pytest.raises(DeliveryRefused, match=rf"within {IMPATIENCE} s") as refusal:
            transport.deliver(mail_to("second@example.org"))
        assert time.monotonic() - began < PATIENCE / 2
        assert refusal.value.cause is Cause.DROPPED


def test_by_default_a_mail_is_in_doubt_only_after_ten_minutes() -> None:
    by_default = load.load_settings({})
    chosen = load.load_settings({"EGEC_MAIL_TIMEOUT": "7"})
    assert [(one.mail_timeout, one.mail_final_timeout) for one in (by_default, chosen)] == [(60, 600), (7, 7)]


@pytest.mark.parametrize("fault", [fault for fault in Fault if any(isinstance(one, Drip) for one in fault.steps)])
def test_a_server_that_drips_its_answer_is_waited_for_no_longer_than_a_silent_one(
    fault: Fault, transport_of: TransportOf
) -> None:
    with server_for(fault, pipelining=False) as server:
        server.fail_always(fault)
        transport = transport_of(server.url, IMPATIENCE)
        began = time.monotonic()
        end = end_of_delivery(transport, mail_to())
        transport.close()
        assert IMPATIENCE <= time.monotonic() - began < IMPATIENCE + 5
        assert (end is End.ACCEPTED) is (fault.point is Point.QUIT)


@pytest.mark.parametrize("fault", [Fault.EHLO_OF_ENDLESS_LINES, Fault.EHLO_WITHOUT_END, Fault.ANSWER_OF_ENDLESS_LINES])
def test_an_answer_without_end_is_given_up_before_the_time_out(fault: Fault, transport_of: TransportOf) -> None:
    with MailServer() as server:
        server.fail_always(fault)
        began = time.monotonic()
        assert end_of_delivery(transport_of(server.url), mail_to()) in {TEMPORARY_FAILURE, End.IN_DOUBT}
        assert time.monotonic() - began < PATIENCE / 2


def test_a_server_that_takes_in_nothing_of_a_long_message_is_not_waited_for_beyond_the_time_out(
    transport_of: TransportOf,
) -> None:
    with MailServer(size_limit=100_000_000) as server:
        server.fail_next(Fault.SILENT_IN_MESSAGE)
        long_mail = mail_to(content=CONTENT + 200_000 * (98 * b"x" + b"\r\n"))
        assert end_of_delivery(transport_of(server.url, IMPATIENCE), long_mail) == End.IN_DOUBT


def test_an_address_that_is_always_refused_keeps_no_other_from_its_mail(
    mail_server: MailServer, transport_of: TransportOf
) -> None:
    mail_server.fail_always(Fault.RCPT_550, recipient="b@example.org")
    transport = transport_of(mail_server.url)
    ends = [end_of_delivery(transport, mail_to(f"{name}@example.org")) for name in "abcb"]
    assert ends == [End.ACCEPTED, INVALID_INPUT, End.ACCEPTED, INVALID_INPUT]
    assert [kept.recipient for kept in mail_server.accepted] == ["a@example.org", "c@example.org"]


def test_transports_of_several_threads_do_not_disturb_each_other(
    mail_server: MailServer, transport_of: TransportOf
) -> None:
    recipients = [f"client{number}@example.org" for number in range(60)]

    def deliver(some: list[str]) -> list[End | ExitCode]:
        transport = transport_of(mail_server.url)
        ends = [end_of_delivery(transport, mail_to(one, CONTENT + one.encode() + b"\r\n")) for one in some]
        transport.close()
        return ends

    mail_server.fail_next(*[Fault.NONE, Fault.RCPT_451, Fault.MESSAGE_554, Fault.CUT_AFTER_KEEPING] * 5)
    with ThreadPoolExecutor(4) as pool:
        ends = [end for some in pool.map(deliver, [recipients[first::4] for first in range(4)]) for end in some]
    assert Counter(ends) == {End.ACCEPTED: 45, TEMPORARY_FAILURE: 5, INVALID_INPUT: 5, End.IN_DOUBT: 5}
    mail_server.wait_until_quiet()
    kept = mail_server.accepted
    assert len({one.recipient for one in kept}) == len(kept) == 50
    assert all(one.content == CONTENT + one.recipient.encode() + b"\r\n" for one in kept)


@pytest.mark.parametrize(
    ("point", "kept"),
    [(Point.EHLO, 0), (Point.RCPT, 0), (Point.DATA, 0), (Point.MESSAGE, 1), (Point.KEPT, 1), (Point.QUIT, 1)],
)
def test_a_process_that_is_killed_has_left_a_mail_only_if_it_had_sent_the_dot(
    point: Point, kept: int, mail_server: MailServer
) -> None:
    command = command_of(partial(children.deliver, mail_to()))
    process = subprocess.Popen(command, env={**os.environ, "EGEC_MAIL_URL": mail_server.url})
    mail_server.at(point, process.kill)
    assert process.wait(PATIENCE) == -signal.SIGKILL
    mail_server.wait_until_quiet()
    assert len(mail_server.accepted) == kept


# TLS


@pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.IMPLICIT])
def test_within_tls_neither_mail_nor_login_travels_in_clear(tls: Tls, transport_of: TransportOf) -> None:
    with MailServer(tls=tls, login=("egec", SECRET)) as server:
        transport_of(server.url).deliver(mail_to())
        assert server.accepted == [Accepted("ne-pas-repondre@egec.pro", "jeanne@example.org", CONTENT)]
        assert re.sub(rb"ehlo \S+", b"ehlo", server.heard_in_clear) == (
            b"ehlo\r\nSTARTTLS\r\n" if tls is Tls.STARTTLS else b""
        )


@pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.IMPLICIT])
def test_a_certificate_of_an_unknown_authority_is_refused(tls: Tls, transport_of: TransportOf) -> None:
    with MailServer(tls=tls) as server:
        url = re.sub(r"[?&]ca=.*", "", server.url)
        with pytest.raises(DeliveryRefused, match="not trusted: unable to get local issuer") as refusal:
            transport_of(url).deliver(mail_to())
        assert refusal.value.error.exit_code == CONFIGURATION
        assert "?ca=FILE" in refusal.value.error.hint
        assert b"MAIL" not in server.heard_in_clear


@pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.IMPLICIT])
def test_a_certificate_of_another_host_is_refused(tls: Tls, transport_of: TransportOf) -> None:
    with MailServer(tls=tls, certified_host="mail.example.org") as server:
        with pytest.raises(DeliveryRefused, match=r"not trusted: .*mismatch") as refusal:
            transport_of(server.url).deliver(mail_to())
        assert refusal.value.error.exit_code == CONFIGURATION
        assert server.accepted == []


@pytest.mark.parametrize("text", [None, "", "no certificate"])
def test_an_invalid_ca_file_is_named(text: str | None, tmp_path: Path, transport_of: TransportOf) -> None:
    ca_file = tmp_path / "authority.pem"
    if text is not None:
        ca_file.write_text(text)
    with MailServer(tls=Tls.IMPLICIT) as server:
        url = server.url.replace(str(authority_file()), str(ca_file))
        with pytest.raises(DeliveryRefused, match=re.escape(str(ca_file))) as refusal:
            transport_of(url).deliver(mail_to())
        assert refusal.value.error.exit_code == CONFIGURATION
        assert server.connections == 0


def test_without_starttls_nothing_is_sent_in_clear_if_tls_is_required(transport_of: TransportOf) -> None:
    with MailServer(login=("egec", SECRET)) as server:
        url = server.url.replace("tls=none", "tls=required")
        with pytest.raises(DeliveryRefused, match="does not offer STARTTLS") as refusal:
            transport_of(url).deliver(mail_to())
        assert refusal.value.error.exit_code == CONFIGURATION
        server.wait_until_quiet()
        assert re.fullmatch(rb"ehlo \S+\r\n(quit\r\n)?", server.heard_in_clear)


def test_a_server_that_expects_clear_text_is_distinguished_from_an_unavailable_one(
    mail_server: MailServer, transport_of: TransportOf
) -> None:
    with pytest.raises(DeliveryRefused, match="does not start with TLS") as refusal:
        transport_of(mail_server.url.replace("smtp:", "smtps:").replace("?tls=none", "")).deliver(mail_to())
    assert refusal.value.error.exit_code == CONFIGURATION


def test_a_server_that_expects_tls_from_the_start_and_gets_none_is_a_refusal(transport_of: TransportOf) -> None:
    with MailServer(tls=Tls.IMPLICIT) as server:
        url = f"smtp://127.0.0.1:{server.port}"
        assert end_of_delivery(transport_of(url, IMPATIENCE), mail_to()) == TEMPORARY_FAILURE


# Logins


def test_a_login_that_the_server_does_not_offer_is_a_fault_of_the_configuration(transport_of: TransportOf) -> None:
    with MailServer() as server:
        url = server.url.replace("//", "//egec:secret@")
        with pytest.raises(DeliveryRefused, match="does not offer a login") as refusal:
            transport_of(url).deliver(mail_to())
        assert refusal.value.error.exit_code == CONFIGURATION
        hint = refusal.value.error.hint
        assert "Remove the user name and the password from EGEC_MAIL_URL if the server needs no login." in hint
        transport_of(server.url).deliver(mail_to())


def test_a_server_that_offers_only_logins_by_token_is_a_fault_of_the_configuration(transport_of: TransportOf) -> None:
    with MailServer(login=("egec", SECRET)) as server:
        server.fail_always(Fault.OFFERS_LOGIN_BY_TOKEN)
        with pytest.raises(DeliveryRefused, match="does not offer a login") as refusal:
            transport_of(server.url).deliver(mail_to())
        assert refusal.value.error.exit_code == CONFIGURATION


def test_a_missing_login_is_a_fault_of_the_configuration(
    transport_of: TransportOf,
) -> None:
    with MailServer(login=("egec", SECRET)) as server:
        with pytest.raises(DeliveryRefused, match=r"530 5\.7\.0 Authentication required") as refusal:
            transport_of(f"smtp://127.0.0.1:{server.port}").deliver(mail_to())
        assert refusal.value.error.exit_code == CONFIGURATION
        assert "login" in refusal.value.error.hint


@pytest.mark.parametrize("tls", Tls)
def test_a_wrong_password_is_a_fault_of_the_configuration(tls: Tls, transport_of: TransportOf) -> None:
    with MailServer(tls=tls, login=("egec", SECRET)) as server:
        url = re.sub(r"egec:.*@", "egec:wrong@", server.url)
        with pytest.raises(DeliveryRefused, match="refuses the login of 'egec': 535") as refusal:
            transport_of(url).deliver(mail_to())
        assert refusal.value.error.exit_code == CONFIGURATION
        assert server.accepted == []


@pytest.mark.parametrize("offer", [Fault.NONE, Fault.OFFERS_AUTH_LOGIN])
@pytest.mark.parametrize(
    "fault", [Fault.LOGIN_454, Fault.LOGIN_535, Fault.LOGIN_THAT_QUOTES, Fault.SILENT_AT_LOGIN, Fault.CUT_AT_LOGIN]
)
def test_the_password_of_the_login_never_shows_in_an_error(
    fault: Fault, offer: Fault, transport_of: TransportOf
) -> None:
    with MailServer(login=("egec", SECRET)) as server:
        server.fail_always(offer)
        server.fail_always(fault)
        with pytest.raises(DeliveryRefused) as refusal:
            transport_of(server.url, patience_with(fault)).deliver(mail_to())
    words = all_words(refusal.value)
    for shape in (SECRET, f"\0egec\0{SECRET}"):
        assert shape not in words
        assert base64.b64encode(shape.encode()).decode() not in words


@pytest.mark.parametrize("login", ["egec:m%C3%B4t", "%C3%A9gec:secret"])
def test_a_login_with_letters_beyond_ascii_is_refused_in_words(login: str, transport_of: TransportOf) -> None:
    with MailServer(login=("egec", SECRET)) as server:
        with pytest.raises(DeliveryRefused, match="ASCII") as refusal:
            transport_of(server.url.replace("egec:Pa55%3Awo%2Frd", login)).deliver(mail_to())
        assert refusal.value.error.exit_code == CONFIGURATION
        assert "môt" not in all_words(refusal.value)


def test_a_host_name_that_is_none_is_a_fault_of_the_configuration(transport_of: TransportOf) -> None:
    assert end_of_delivery(transport_of(f"smtp://{64 * 'x'}.example.org"), mail_to()) == CONFIGURATION


# What arrives, and what is reported


@pytest.mark.parametrize(
    "line",
    [b".", b"..", b"...", b".a", b".\r\n.", b"\r\n.\r\n", b"a\r\n.\r\nQUIT", b"a." + 900 * b"b", b"From me"],
    ids=repr,
)
def test_a_line_that_begins_with_a_dot_arrives_as_it_was(
    line: bytes, mail_server: MailServer, transport_of: TransportOf
) -> None:
    content = CONTENT + line + b"\r\nlast line\r\n" + line + b"\r\n"
    transport = transport_of(mail_server.url)
    assert end_of_delivery(transport, mail_to(content=content)) == End.ACCEPTED
    assert end_of_delivery(transport, mail_to()) == End.ACCEPTED
    assert [kept.content for kept in mail_server.accepted] == [content, CONTENT]


@pytest.mark.parametrize(
    "recipient", ["o'brien+a/b=c@example.org", "!#$%&*-/=?^_`{|}~@example.org", "a@xn--strae-oqa.example"]
)
def test_an_address_arrives_as_it_was(recipient: str, mail_server: MailServer, transport_of: TransportOf) -> None:
    transport_of(mail_server.url).deliver(mail_to(recipient))
    assert mail_server.accepted[0].recipient == recipient


def test_an_address_beyond_ascii_goes_to_a_server_that_offers_smtputf8(
    mail_server: MailServer, transport_of: TransportOf
) -> None:
    transport = transport_of(mail_server.url)
    recipients = ["jérôme@example.org", "jeanne@example.org", "花子@example.org"]
    assert [end_of_delivery(transport, mail_to(one)) for one in recipients] == [End.ACCEPTED] * 3
    assert [kept.recipient for kept in mail_server.accepted] == recipients
    said = mail_server.heard_in_clear.decode()
    assert said.count("SMTPUTF8 BODY=8BITMIME") == 2


def test_a_non_ascii_address_is_refused_if_the_server_does_not_offer_smtputf8(transport_of: TransportOf) -> None:
    with MailServer(smtputf8=False) as server:
        transport = transport_of(server.url)
        with pytest.raises(DeliveryRefused, match=r"jérôme@example\.org") as refusal:
            transport.deliver(mail_to("jérôme@example.org"))
        error = refusal.value.error
        assert (error.exit_code, error.code) == (INVALID_INPUT, "smtputf8_not_offered")
        assert error.hint.startswith("Use another address for this client")
        assert refusal.value.cause is Cause.RECIPIENT
        assert b"mail FROM" not in server.heard_in_clear
        assert end_of_delivery(transport, mail_to()) == End.ACCEPTED


@pytest.mark.parametrize("variable", ["EGEC_MAIL_FROM", "EGEC_MAIL_REPLY_TO"])
def test_an_address_of_ours_beyond_ascii_is_refused_as_a_fault_of_the_settings(
    variable: str, transport_of: TransportOf
) -> None:
    ours = load.load_settings({variable: "Été <été@example.org>"})
    mail = sample_mail(ours, Kind.CREDENTIALS, "fr", at=datetime.now(UTC))
    with MailServer(smtputf8=False) as server:
        with pytest.raises(DeliveryRefused, match=variable) as refusal:
            transport_of(server.url).deliver(mail)
        error = refusal.value.error
        assert (error.exit_code, error.code) == (CONFIGURATION, "smtputf8_not_offered")
        assert "example.org" not in error.message
    with MailServer() as server:
        assert end_of_delivery(transport_of(server.url), mail) == End.ACCEPTED
        assert "été@example.org".encode() in server.accepted[0].content


@pytest.mark.parametrize("recipient", ["jeanne@example.org", "jérôme@example.org"])
@pytest.mark.parametrize("kind", Kind)
def test_a_server_without_8bitmime_gets_a_body_of_ascii_and_no_word_of_it(
    recipient: str, kind: Kind, transport_of: TransportOf
) -> None:
    mail = sample_mail(
        load.load_settings({}), kind, "fr", at=datetime.now(UTC), recipient=recipient, name="Mme Élouard"
    )
    with MailServer(eight_bit=False) as server:
        assert end_of_delivery(transport_of(server.url), mail) == End.ACCEPTED
        assert b"BODY=" not in server.heard_in_clear
        assert server.accepted[0].content.partition(b"\r\n\r\n")[2].isascii()
        assert server.accepted[0].content.isascii() is recipient.isascii()


def test_the_server_without_8bitmime_would_have_refused_anything_else(transport_of: TransportOf) -> None:
    with MailServer(eight_bit=False) as server:
        transport = transport_of(server.url)
        assert end_of_delivery(transport, mail_to(content=CONTENT + "é\r\n".encode())) == INVALID_INPUT
        assert server.accepted == []


def test_the_reply_to_an_accepted_mail_is_one_harmless_line(mail_server: MailServer, transport_of: TransportOf) -> None:
    mail_server.fail_next(Fault.ANSWER_WITH_CONTROL_CHARACTERS)
    reply = transport_of(mail_server.url).deliver(mail_to())
    assert reply.text.startswith("250 ")
    assert reply.text.endswith("ok")
    assert reply.text.isprintable()


def test_a_reply_that_quotes_the_mail_stays_one_line(mail_server: MailServer, transport_of: TransportOf) -> None:
    transport = transport_of(mail_server.url)
    long_mail = mail_to(content=CONTENT + 200 * b"and so on\r\n")
    mail_server.fail_next(Fault.ANSWER_THAT_QUOTES)
    accepted = transport.deliver(long_mail).text
    mail_server.fail_next(Fault.REFUSAL_THAT_QUOTES)
    with pytest.raises(DeliveryRefused) as refusal:
        transport.deliver(long_mail)
    assert refusal.value.reply is not None
    for words in (accepted, refusal.value.reply):
        assert words.isprintable()


def test_a_lost_answer_is_reported_without_the_text_of_the_server(
    mail_server: MailServer, transport_of: TransportOf
) -> None:
    # They may quote the mail and its password.
    mail_server.fail_next(Fault.ANSWER_299)
    with pytest.raises(DeliveryUnknown, match="299") as loss:
        transport_of(mail_server.url).deliver(mail_to())
    assert "aB3#" not in all_words(loss.value)


def test_a_refusal_gives_the_words_of_the_server(mail_server: MailServer, transport_of: TransportOf) -> None:
    mail_server.fail_next(Fault.MESSAGE_554)
    with pytest.raises(DeliveryRefused) as refusal:
        transport_of(mail_server.url).deliver(mail_to())
    assert refusal.value.reply == "554 We take no such thing"
    assert "554 We take no such thing" in refusal.value.error.message
    assert "jeanne@example.org" in refusal.value.error.message
