"""Closing accounts: the notice by mail, its life, and every way in which mails fail."""

import json
from collections.abc import Iterator
from contextlib import closing as closing_at_end
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from threading import Event as StopEvent
from typing import Any

import pytest

from egec_cli import hashing
from egec_cli.audit.events import record_changes
from egec_cli.clients import change, closing, fields, update
from egec_cli.clients.change import ChangeRecord, Guard
from egec_cli.clients.closing import Closer
from egec_cli.clients.records import create_client
from egec_cli.context import Context
from egec_cli.credentials import bounces, leases
from egec_cli.credentials.issue import issue_by_mail
from egec_cli.errors import ConfigError, UsageError
from egec_cli.logins.verify import verify_login
from egec_cli.mail.bounces import Incoming
from egec_cli.mail.transports import choose
from egec_cli.settings import load
from egec_cli.settings.parsing import parse_rate
from egec_cli.store.models import Client, Event, MailCount
from tests.delivery_reports import report_of
from tests.shared_emails import create_sharers, with_sharing
from tests.smtp_server import Fault, MailServer, Point

START = datetime(2027, 1, 4, 2, 30, tzinfo=UTC)
PERIOD = timedelta(days=30)
# The night in which those who were told in the first one are closed: 31 days later, in Paris.
CLOSING = datetime(2027, 2, 3, 23, 0, tzinfo=UTC)
MOMENT = timedelta(milliseconds=1)


class Now:
    """A clock that a test moves."""

    def __init__(self, moment: datetime = START) -> None:
        self.moment = moment

    def __call__(self) -> datetime:
        return self.moment


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def context(server: MailServer, opened: Context, now: Now) -> Context:
    """Return a context whose clock the test moves, and whose mail goes to the server."""
    found = load.load_settings()
    return opened._replace(settings=found, clock=now)


@contextmanager
def closer(context: Context, period: timedelta = PERIOD, **given: Any) -> Iterator[Closer]:
    with closing_at_end(choose.open_transport(context.settings)) as transport:
        options: dict[str, Any] = {"reason": "unused", "first_pause": 0.001, **given}
        made = Closer(context, transport, period, **options)
        yield made
        made.finish()


class Night:
    """One run of the daily job over all clients."""

    def __init__(self, context: Context, keys: list[int] | None = None, **given: Any) -> None:
        with closer(context, **given) as made:
            keys = keys or [one.id for one in Client.select(Client.id).order_by(Client.id)]
            self.records: dict[int, ChangeRecord] = dict(made.close(keys))
        self.error = made.error
        self.not_notified = made.not_notified
        self.undelivered = made.undelivered

    @property
    def outcomes(self) -> list[str]:
        return [str(record.outcome) for _, record in sorted(self.records.items())]

    def failures(self) -> list[str | None]:
        return [record.failure for _, record in sorted(self.records.items())]


def make(context: Context, number: int, **given: str) -> list[Client]:
    return [create_client(context, fields.parse_fields(f"c{one}@example.org", **given)) for one in range(number)]


def reload(client: Client) -> Client:
    found: Client = Client.get_by_id(client.id)
    return found


def recipients(server: MailServer) -> list[str]:
    return [mail.recipient for mail in server.accepted]


def events(*actions: str) -> list[tuple[str, str, dict[str, Any]]]:
    rows = Event.select().where(Event.action.in_(actions or (closing.ACTION,))).order_by(Event.id)
    return [(row.action, row.outcome, json.loads(row.details)) for row in rows]


def read(server: MailServer, number: int = -1) -> EmailMessage:
    mail = message_from_bytes(server.accepted[number].content, policy=policy.default)
    assert isinstance(mail, EmailMessage)
    return mail


def text_of(mail: EmailMessage) -> str:
    part = mail.get_body(("plain",))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


# --- the life of a notice ---


def test_a_client_is_told_once_and_disabled_at_the_day_that_the_mail_names(
    context: Context, server: MailServer, now: Now
) -> None:
    [client] = make(context, 1, civility="Mme", last_name="Dupont", language="fr")
    assert Night(context).outcomes == ["notified"]
    mail = read(server)
    assert mail["To"] == "c0@example.org"
    assert mail["Subject"] == "Fermeture de votre compte eGEC"
    assert "Il sera fermé le 4 février 2027 si vous ne vous connectez pas d\u2019ici là." in text_of(mail)
    assert f"\n\n{client.identifier}\n\n" in text_of(mail)
    assert reload(client).closing_notified_at == START
    for days in (0, 1, 29, 30):
        now.moment = START + timedelta(days=days)
        assert Night(context).outcomes == ["unchanged"]
    now.moment = CLOSING - MOMENT
    assert Night(context).outcomes == ["unchanged"]
    now.moment = CLOSING
    assert Night(context).outcomes == ["disabled"]
    assert reload(client).disabled_at == CLOSING
    assert Night(context).outcomes == ["unchanged"]
    assert len(server.accepted) == 1
    disabled = events("client.disable")
    assert disabled == [("client.disable", "disabled", {"reason": "unused"})]
    [(_, outcome, details)] = events()
    assert (outcome, details) == ("accepted", {"closes_on": "2027-02-04", "message_id": mail["Message-ID"]})


def test_a_job_that_runs_at_the_same_time_each_night_closes_on_the_day_that_it_has_named(
    context: Context, server: MailServer, now: Now
) -> None:
    make(context, 1)
    now.moment = START + timedelta(seconds=12)
    Night(context)
    for days in range(29, 35):
        now.moment = START + timedelta(days=days)
        if Night(context).outcomes == ["disabled"]:
            break
    assert now.moment.date().isoformat() == "2027-02-04"
    assert "4 février 2027" in text_of(read(server))


@pytest.mark.parametrize(
    ("told_at", "closed_at"),
    [
        # The clocks of Paris change on 28 March and 31 October 2027.
        (datetime(2027, 3, 1, 2, tzinfo=UTC), datetime(2027, 3, 31, 22, tzinfo=UTC)),
        (datetime(2027, 2, 26, 21, 59, 59, 999_000, tzinfo=UTC), datetime(2027, 3, 28, 22, tzinfo=UTC)),
        (datetime(2027, 2, 25, 23, tzinfo=UTC), datetime(2027, 3, 28, 22, tzinfo=UTC)),
        (datetime(2027, 10, 2, 2, tzinfo=UTC), datetime(2027, 11, 1, 23, tzinfo=UTC)),
        (datetime(2027, 10, 1, 22, tzinfo=UTC), datetime(2027, 10, 31, 23, tzinfo=UTC)),
    ],
)
def test_the_day_begins_at_midnight_of_the_clients_also_when_their_clocks_change(
    context: Context, now: Now, told_at: datetime, closed_at: datetime
) -> None:
    make(context, 1)
    assert closing.closing_moment(context.settings, told_at, PERIOD) == closed_at
    now.moment = told_at
    Night(context)
    now.moment = closed_at - MOMENT
    assert Night(context).outcomes == ["unchanged"]
    now.moment = closed_at
    assert Night(context).outcomes == ["disabled"]


@pytest.mark.parametrize("change_of", ["login", "e-mail"])
def test_a_login_or_a_new_address_makes_a_notice_void(
    context: Context, server: MailServer, now: Now, change_of: str
) -> None:
    [client] = make(context, 1)
    Night(context)
    now.moment += timedelta(days=20)
    if change_of == "login":
        Client.update(last_login_at=now.moment).execute()
    else:
        update.update_client(context, client, {"email": "new@example.org"})
    now.moment = CLOSING
    assert Night(context).outcomes == ["notified"]
    now.moment += timedelta(days=30)
    assert Night(context).outcomes == ["unchanged"]
    now.moment += timedelta(days=1)
    assert Night(context).outcomes == ["disabled"]
    assert recipients(server) == ["c0@example.org", "c0@example.org" if change_of == "login" else "new@example.org"]


def test_a_notice_sent_in_the_moment_when_the_address_changed_does_not_count(context: Context, now: Now) -> None:
    [client] = make(context, 1)
    Night(context)
    update.update_client(context, client, {"email": "new@example.org"})
    assert reload(client).email_changed_at == reload(client).closing_notified_at
    now.moment = CLOSING
    assert Night(context).outcomes == ["notified"]


def test_a_client_who_was_enabled_again_is_told_again(context: Context, server: MailServer, now: Now) -> None:
    [client] = make(context, 1)
    Night(context)
    now.moment = CLOSING
    Night(context)
    now.moment += timedelta(days=1)
    change.enable_clients(context, [client.id])
    assert reload(client).closing_notified_at is None
    assert Night(context).outcomes == ["notified"]
    assert len(server.accepted) == 2


def test_disabled_and_erased_clients_and_those_outside_their_dates_get_no_notice(
    context: Context, server: MailServer, now: Now
) -> None:
    disabled, erased, future, past, first_day, last_day = make(context, 6)
    change.disable_clients(context, [disabled.id], reason="left")
    change.erase_clients(context, [erased.id])
    # It is 5 January in Paris, and still the 4th in UTC.
    now.moment = datetime(2027, 1, 4, 23, 30, tzinfo=UTC)
    for client, days in {
        future: {"valid_from": "2027-01-06"},
        past: {"valid_until": "2027-01-04"},
        first_day: {"valid_from": "2027-01-05"},
        last_day: {"valid_until": "2027-01-05"},
    }.items():
        Client.update(**days).where(Client.id == client.id).execute()
    assert Night(context).outcomes == ["unchanged"] * 4 + ["notified"] * 2
    assert sorted(recipients(server)) == ["c4@example.org", "c5@example.org"]


def test_a_client_who_was_told_is_closed_also_outside_the_dates(context: Context, now: Now) -> None:
    make(context, 1)
    Night(context)
    Client.update(valid_until="2027-01-10").execute()
    now.moment = CLOSING
    assert Night(context).outcomes == ["disabled"]


def test_erasing_forgets_the_notice(context: Context) -> None:
    [client] = make(context, 1)
    Night(context)
    change.erase_clients(context, [client.id])
    assert reload(client).closing_notified_at is None


def test_a_notice_recorded_before_the_clock_was_set_back_does_not_count(
    context: Context, server: MailServer, now: Now
) -> None:
    make(context, 1)
    Client.update(closing_notified_at=START + timedelta(days=400)).execute()
    assert Night(context).outcomes == ["notified"]
    assert len(server.accepted) == 1


def test_a_client_who_no_longer_meets_the_guard_is_neither_told_nor_disabled(
    context: Context, server: MailServer, now: Now
) -> None:
    first, second = make(context, 2)
    Client.update(last_login_at=START - timedelta(days=800)).execute()
    guard = Guard([Client.last_login_at < START - timedelta(days=700)])

    def log_in() -> None:
        Client.update(last_login_at=now.moment).where(Client.id == second.id).execute()
        context.database.close()

    server.at(Point.MESSAGE, log_in)
    night = Night(context, guard=guard)
    assert night.outcomes == ["notified", "unchanged"]
    assert recipients(server) == ["c0@example.org"]
    now.moment = CLOSING
    Client.update(last_login_at=now.moment - timedelta(hours=1)).where(Client.id == first.id).execute()
    assert Night(context, guard=guard).records == {}
    assert [one.disabled_at for one in Client.select()] == [None, None]


def test_a_login_while_the_notice_is_under_way_makes_it_void(context: Context, server: MailServer, now: Now) -> None:
    make(context, 1)

    def log_in() -> None:
        now.moment += timedelta(seconds=1)
        Client.update(last_login_at=now.moment).execute()
        now.moment += timedelta(seconds=1)
        context.database.close()

    server.at(Point.KEPT, log_in)
    assert Night(context).outcomes == ["notified"]
    now.moment = CLOSING + timedelta(days=10)
    server.wait_until_quiet()
    assert Night(context).outcomes == ["notified"]


# --- the mail ---


def test_each_client_gets_the_mail_in_their_language_with_their_identifier_and_no_password(
    context: Context, server: MailServer
) -> None:
    [client] = make(context, 1, language="en", last_name="Smith", civility="M.")
    Night(context)
    mail = read(server)
    text = text_of(mail)
    assert mail["Subject"] == "Your eGEC account will be closed"
    assert "M. Smith" in text
    assert "It will be closed on 4 February 2027 if you do not sign in before then." in text
    assert client.identifier in text
    assert "Service IT" in text
    assert f"<{client.id}." in mail["Message-ID"]
    page = mail.get_body(("html",))
    assert page is not None
    assert "4 February 2027" in page.get_content()


def test_the_first_of_a_month_and_the_time_zone_of_the_clients_are_those_of_their_calendar(
    context: Context, server: MailServer, now: Now
) -> None:
    make(context, 1)
    now.moment = datetime(2027, 3, 1, 23, 30, tzinfo=UTC)
    Night(context)
    assert "Il sera fermé le 2 avril 2027" in text_of(read(server))
    far = context._replace(settings=context.settings._replace(timezone="Pacific/Noumea"))
    Client.update(closing_notified_at=None).execute()
    now.moment = datetime(2027, 2, 28, 12, 30, tzinfo=UTC)
    Night(far)
    assert "Il sera fermé le 31 mars 2027" in text_of(read(server))
    Client.update(closing_notified_at=None).execute()
    now.moment += timedelta(hours=1)
    Night(far)
    assert "Il sera fermé le 1er avril 2027" in text_of(read(server))


def test_many_mails_share_one_connection(context: Context, server: MailServer) -> None:
    make(context, 20)
    assert Night(context).outcomes == ["notified"] * 20
    assert server.connections == 1
    assert sorted(recipients(server)) == sorted(f"c{one}@example.org" for one in range(20))


def test_a_faulty_template_stops_the_job_before_its_first_mail(
    context: Context, server: MailServer, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "closing.en.txt").write_text("Subject: x\n\n$identifier $support\n", encoding="utf-8")
    make(context, 1)
    faulty = context._replace(settings=context.settings._replace(templates=own))
    with pytest.raises(ConfigError, match=r"closing\.en\.txt"):
        Night(faulty)
    assert server.connections == 0


# --- refusals and lost answers ---


def test_a_recipient_refused_for_its_own_reason_counts_as_told(context: Context, server: MailServer, now: Now) -> None:
    make(context, 3)
    server.fail_always(Fault.RCPT_550_USER_UNKNOWN, recipient="c1@example.org")
    night = Night(context)
    assert night.outcomes == ["notified"] * 3
    assert night.failures() == [None, "mail_refused", None]
    assert (night.error, night.not_notified, night.undelivered) == (None, 0, 1)
    assert [(outcome, details.get("failure")) for _, outcome, details in events()] == [
        ("accepted", None), ("refused", "mail_refused"), ("accepted", None),
    ]  # fmt: skip
    now.moment = CLOSING
    assert Night(context).outcomes == ["disabled"] * 3


def test_an_address_that_is_no_longer_valid_counts_as_told(context: Context, server: MailServer) -> None:
    make(context, 1)
    Client.update(email="not an address").execute()
    night = Night(context)
    assert (night.outcomes, night.failures(), night.undelivered) == (["notified"], ["invalid_input"], 1)
    assert server.connections == 0


@pytest.mark.parametrize("fault", [Fault.CUT_AFTER_KEEPING, Fault.CUT_BEFORE_KEEPING, Fault.ANSWER_WITHOUT_CODE])
def test_a_lost_answer_counts_as_told(context: Context, server: MailServer, now: Now, fault: Fault) -> None:
    make(context, 2)
    server.fail_next(fault)
    night = Night(context)
    assert (night.outcomes, night.failures()) == (["notified"] * 2, ["in_doubt", None])
    assert (night.error, night.undelivered) == (None, 1)
    assert [outcome for _, outcome, _ in events()] == ["in_doubt", "accepted"]
    now.moment += timedelta(days=1)
    assert Night(context).outcomes == ["unchanged"] * 2


def test_a_lost_answer_to_the_last_mail_is_no_failure_of_the_job(context: Context, server: MailServer) -> None:
    make(context, 1)
    server.fail_next(Fault.CUT_AFTER_KEEPING)
    assert Night(context).error is None


@pytest.mark.parametrize(
    "fault",
    [Fault.CUT_AT_BANNER, Fault.BANNER_421, Fault.BANNER_554, Fault.CUT_AT_MAIL, Fault.MAIL_421, Fault.MAIL_451,
     Fault.CUT_AT_RCPT, Fault.RCPT_421, Fault.CUT_BEFORE_354, Fault.DATA_451, Fault.MESSAGE_421, Fault.RCPT_550_POLICY],
)  # fmt: skip
def test_a_server_that_refuses_everybody_stops_the_mails_after_a_few_and_nothing_is_burned(
    context: Context, server: MailServer, now: Now, fault: Fault
) -> None:
    clients = make(context, 12)
    told = clients[0]
    Client.update(closing_notified_at=START - timedelta(days=60)).where(Client.id == told.id).execute()
    server.fail_always(fault)
    night = Night(context)
    assert night.outcomes[0] == "disabled"
    assert night.outcomes[1:].count("failed") <= closing.MOST_IN_A_ROW
    assert set(night.outcomes[1:]) == {"failed", "postponed"}
    assert night.error is not None
    assert night.not_notified == 11
    assert Client.select().where(Client.closing_notified_at.is_null(False)).count() == 1
    server.work_again()
    assert Night(context).outcomes == ["unchanged"] + ["notified"] * 11
    assert len(server.accepted) == 11


def test_a_setting_that_the_server_refuses_stops_the_mails_at_once(context: Context, server: MailServer) -> None:
    make(context, 5)
    server.fail_always(Fault.MAIL_530)
    night = Night(context)
    assert night.outcomes == ["failed"] + ["postponed"] * 4
    assert isinstance(night.error, ConfigError)


def test_a_server_that_refuses_fewer_clients_than_needed_to_be_sure_is_reported_too(
    context: Context, server: MailServer
) -> None:
    make(context, 2)
    server.fail_always(Fault.CUT_AT_MAIL)
    night = Night(context)
    assert (night.outcomes, night.not_notified) == (["failed"] * 2, 2)
    assert night.error is not None
    assert night.error.exit_code == 75


def test_a_server_that_fails_for_a_moment_stops_nothing(context: Context, server: MailServer) -> None:
    make(context, 10)
    server.fail_next(*[Fault.MAIL_421] * 4)
    night = Night(context)
    assert night.error is None
    assert night.outcomes.count("notified") == 10 - night.not_notified
    assert night.not_notified <= 4
    assert Night(context).outcomes.count("notified") == night.not_notified


def test_many_lost_answers_in_a_row_stop_the_mails(context: Context, server: MailServer) -> None:
    make(context, 10)
    server.fail_always(Fault.CUT_BEFORE_KEEPING)
    night = Night(context)
    assert night.outcomes == ["notified"] * 5 + ["postponed"] * 5
    assert night.error is not None
    assert night.not_notified == 5


# --- refusals for now ---


def test_a_mailbox_that_is_full_for_longer_than_a_mail_is_retried_counts_as_told(
    context: Context, server: MailServer, now: Now
) -> None:
    make(context, 2)
    server.fail_always(Fault.RCPT_451, recipient="c0@example.org")
    first = Night(context)
    assert (first.outcomes, first.failures()) == (["failed", "notified"], ["mail_deferred", None])
    assert (first.error, first.not_notified) == (None, 1)
    now.moment += timedelta(hours=23)
    assert Night(context).outcomes == ["failed", "unchanged"]
    now.moment += timedelta(hours=1)
    last = Night(context)
    assert (last.outcomes, last.failures()) == (["notified", "unchanged"], ["mail_deferred", None])
    assert [outcome for _, outcome, _ in events()] == ["deferred", "accepted", "deferred", "refused"]
    assert Night(context).outcomes == ["unchanged"] * 2


def test_refused_logins_do_not_hide_how_long_a_mail_has_been_retried(
    context: Context, server: MailServer, now: Now
) -> None:
    [client] = make(context, 1)
    server.fail_always(Fault.RCPT_451)
    assert Night(context).outcomes == ["failed"]
    record_changes(context, "login", "refused", [client.id] * 500, reason="wrong_password")
    now.moment += timedelta(days=1)
    assert Night(context).outcomes == ["notified"]


def test_an_earlier_login_or_notice_ends_the_time_for_which_a_mail_is_retried(
    context: Context, server: MailServer, now: Now
) -> None:
    [client] = make(context, 1)
    server.fail_always(Fault.RCPT_451)
    assert Night(context).outcomes == ["failed"]
    now.moment += timedelta(days=2)
    update.update_client(context, client, {"email": "new@example.org"})
    now.moment += timedelta(days=2)
    assert Night(context).outcomes == ["failed"]
    now.moment += timedelta(days=1)
    assert Night(context).outcomes == ["notified"]


def test_a_block_of_one_client_counts_once_others_were_accepted_and_a_block_of_all_never(
    context: Context, server: MailServer, now: Now
) -> None:
    make(context, 3)
    server.fail_always(Fault.RCPT_550_POLICY, recipient="c0@example.org")
    server.fail_always(Fault.CUT_AT_MAIL)
    assert Night(context).outcomes == ["failed"] * 3
    server.work_again()
    server.fail_always(Fault.RCPT_550_POLICY)
    for _ in range(3):
        assert Night(context).outcomes == ["failed"] * 3
        now.moment += timedelta(days=1)
    server.work_again()
    server.fail_always(Fault.RCPT_550_POLICY, recipient="c0@example.org")
    assert Night(context).outcomes == ["failed", "notified", "notified"]
    now.moment += timedelta(days=1)
    assert Night(context).outcomes == ["notified", "unchanged", "unchanged"]


# --- bounces ---


def bounce(context: Context, message_id: str) -> tuple[str, str | None]:
    incoming = iter([Incoming("report.eml", 1, report_of(message_id))])
    [record] = bounces.process_messages(context, incoming)
    return record.outcome, record.identifier


def test_a_notice_that_comes_back_marks_the_address_once(context: Context, server: MailServer, now: Now) -> None:
    client, other = make(context, 2)
    Night(context)
    message_id = str(read(server, 0)["Message-ID"])
    now.moment += timedelta(minutes=5)
    assert bounce(context, message_id) == ("marked", client.identifier)
    assert bounce(context, message_id) == ("known", client.identifier)
    assert (reload(client).email_bounced_at, reload(other).email_bounced_at) == (now.moment, None)
    assert events("mail.bounce") == [("mail.bounce", "marked", {"notice": True, "status": "5.1.1"})]
    forged = message_id.replace(f"<{client.id}.", f"<{other.id}.")
    assert bounce(context, forged) == ("unknown", None)
    now.moment = CLOSING
    assert Night(context).outcomes == ["disabled"] * 2


def mail_password(context: Context, client: Client) -> str:
    """Mail a new password to a client and return it."""
    made = hashing.start_hash(context.settings)
    with closing_at_end(choose.open_transport(context.settings)) as transport:
        issue_by_mail(context, reload(client), transport, hashing=made)
    return made.password.reveal()


def log_in(context: Context, client: Client, password: str) -> None:
    assert verify_login(context, client.identifier, password).accepted


def test_a_notice_that_comes_back_marks_no_address_that_has_changed_or_worked_since(
    context: Context, server: MailServer, now: Now
) -> None:
    moved, works = make(context, 2)
    Night(context)
    now.moment += timedelta(minutes=5)
    update.update_client(context, moved, {"email": "new@example.org"})
    log_in(context, works, mail_password(context, works))
    for number, client in enumerate((moved, works)):
        assert bounce(context, str(read(server, number)["Message-ID"])) == ("known", client.identifier)
        assert reload(client).email_bounced_at is None


def test_a_notice_that_comes_back_marks_no_shared_address_at_which_a_later_mail_to_another_client_arrived(
    context: Context, server: MailServer, now: Now
) -> None:
    shared = with_sharing(context)
    first, second = create_sharers(shared)
    Night(shared)
    now.moment += timedelta(minutes=5)
    log_in(shared, second, mail_password(shared, second))
    assert bounce(shared, str(read(server, 0)["Message-ID"])) == ("known", first.identifier)
    assert (reload(first).email_bounced_at, reload(second).email_bounced_at) == (None, None)


@pytest.mark.parametrize("comes_first", ["login", "bounce"])
def test_a_login_with_a_password_mailed_before_the_notice_does_not_show_that_the_notice_arrived(
    context: Context, server: MailServer, now: Now, comes_first: str
) -> None:
    [client] = make(context, 1)
    password = mail_password(context, client)
    log_in(context, client, password)
    now.moment += timedelta(days=800)
    Night(context)
    notice = str(read(server)["Message-ID"])
    now.moment += timedelta(minutes=5)
    if comes_first == "bounce":
        bounce(context, notice)
    log_in(context, client, password)
    if comes_first == "login":
        bounce(context, notice)
    assert reload(client).email_bounced_at == now.moment
    log_in(context, client, mail_password(context, client))
    assert reload(client).email_bounced_at is None


def test_a_notice_that_comes_back_marks_no_address_that_changed_while_it_was_sent(
    context: Context, server: MailServer, now: Now
) -> None:
    [client] = make(context, 1)

    def change_address() -> None:
        now.moment += timedelta(seconds=1)
        update.update_client(context, client, {"email": "new@example.org"})
        now.moment += timedelta(seconds=1)
        context.database.close()

    server.at(Point.KEPT, change_address)
    Night(context)
    assert bounce(context, str(read(server)["Message-ID"])) == ("known", client.identifier)
    assert reload(client).email_bounced_at is None


# --- quotas, leases, stops ---


def test_a_used_up_quota_stops_the_mails_but_not_the_closings(context: Context, server: MailServer, now: Now) -> None:
    clients = make(context, 12)
    Client.update(closing_notified_at=START - timedelta(days=60)).where(Client.id >= clients[10].id).execute()
    limited = context._replace(settings=context.settings._replace(mail_rate=parse_rate("6/d"), mail_reserve=10))
    night = Night(limited)
    # One mail of six is left to single activations.
    assert night.outcomes == ["notified"] * 5 + ["postponed"] * 5 + ["disabled"] * 2
    assert night.error is not None
    assert (night.error.code, night.error.exit_code, night.not_notified) == ("mail_quota_reached", 75, 5)
    now.moment += timedelta(days=1, seconds=5)
    second = Night(limited)
    assert second.outcomes == ["unchanged"] * 5 + ["notified"] * 5 + ["unchanged"] * 2
    assert second.error is None
    assert len(recipients(server)) == len(set(recipients(server))) == 10


def test_the_job_waits_for_a_quota_that_opens_soon(context: Context, server: MailServer) -> None:
    from egec_cli import clock

    make(context, 3)
    limited = context._replace(settings=context.settings._replace(mail_rate=parse_rate("2/s")), clock=clock.now)
    assert Night(limited).outcomes == ["notified"] * 3


def test_places_in_the_quotas_that_no_mail_uses_are_given_back(context: Context, server: MailServer) -> None:
    first, second = make(context, 2)
    Client.update(last_login_at=START).execute()

    def log_in() -> None:
        Client.update(last_login_at=START + MOMENT).where(Client.id == second.id).execute()
        context.database.close()

    server.at(Point.KEPT, log_in)
    limited = context._replace(settings=context.settings._replace(mail_rate=parse_rate("100/d")))
    Client.update(last_login_at=START).execute()
    assert Night(limited, guard=Guard([Client.last_login_at == START])).outcomes == ["notified", "unchanged"]
    assert [(count.mails, count.owner) for count in MailCount.select()] == [(1, None)]
    assert first.id < second.id


def test_a_client_whom_another_process_mails_is_left_to_the_next_night(context: Context, server: MailServer) -> None:
    clients = make(context, 2)
    leases.take_leases(context, [clients[0].id], "elsewhere/1/1/x")
    night = Night(context)
    assert (night.outcomes, night.failures()) == (["failed", "notified"], ["client_busy", None])
    assert recipients(server) == ["c1@example.org"]
    assert reload(clients[1]).lease_owner is None


def test_a_job_that_is_asked_to_stop_settles_the_mail_under_way_and_sends_no_more(
    context: Context, server: MailServer
) -> None:
    make(context, 4)
    stop = StopEvent()
    server.at(Point.KEPT, lambda: stop.set() if len(server.accepted) == 2 else None)
    night = Night(context, stop=stop)
    assert night.outcomes == ["notified"] * 2 + ["postponed"] * 2
    assert (night.error, night.not_notified) == (None, 2)


@pytest.mark.parametrize("text", ["30d", "4w", "1d", "366d"])
def test_a_period_is_in_days_or_weeks(text: str) -> None:
    assert closing.parse_period(text).days in {30, 28, 1, 366}


@pytest.mark.parametrize("text", ["", "30", "0d", "1m", "1y", "2027-01-01", "-3d", "367d", "53w", "\uff13d", "30d\n"])
def test_any_other_period_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid period of notice"):
        closing.parse_period(text)
