"""Bounces: what they mark and what they never change, on both databases."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import pytest

from egec_cli import hashing
from egec_cli.clients import fields, history
from egec_cli.clients.change import disable_clients, enable_clients, erase_clients
from egec_cli.clients.records import create_client, find_client
from egec_cli.clients.select import Selected, Selection
from egec_cli.clients.update import send_notice, update_client
from egec_cli.context import Context
from egec_cli.credentials import bounces
from egec_cli.credentials.bounces import BounceOutcome, BounceRecord
from egec_cli.credentials.issue import issue_by_mail, issue_to_operator
from egec_cli.imports import tables
from egec_cli.imports.columns import FIELD_OF_COLUMN
from egec_cli.imports.formats import OnConflict, TableOptions
from egec_cli.imports.run import ImportResult, import_clients
from egec_cli.logins.explain import explain_login
from egec_cli.logins.verify import verify_login
from egec_cli.mail.bounces import Incoming
from egec_cli.mail.compose import headers
from egec_cli.mail.compose.message import Mail
from egec_cli.mail.transports.interface import Reply
from egec_cli.store.models import Client, Credential, Event
from egec_cli.store.sql import locks_rows
from tests.delivery_reports import NO_SUCH_USER, report_of
from tests.shared_emails import OFFICE, create_sharers, with_sharing

Change = Callable[[Context, Client], object]


class Server:
    """A mail server that accepts every mail."""

    def __init__(self) -> None:
        self.mails: list[Mail] = []

    def connect(self) -> None:
        """Nothing to connect to."""

    def deliver(self, mail: Mail) -> Reply:
        """Accept it."""
        self.mails.append(mail)
        return Reply("250 queued")

    def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
def client(opened: Context) -> Client:
    return create_client(opened, fields.parse_fields("jeanne@example.org"))


def mailed(egec: Context, client: Client) -> tuple[Mail, str]:
    """Mail a new password; return both."""
    server, made = Server(), hashing.start_hash(egec.settings)
    issue_by_mail(egec, find_client(client.identifier), server, hashing=made)
    return server.mails[0], made.password.reveal()


def read(egec: Context, *contents: bytes) -> list[BounceRecord]:
    return list(
        bounces.process_messages(
            egec, (Incoming("file", number, content) for number, content in enumerate(contents, 1))
        )
    )


def outcomes(egec: Context, *contents: bytes) -> list[str]:
    return [record.outcome for record in read(egec, *contents)]


def is_marked(client: Client) -> bool:
    return Client.get_by_id(client.id).email_bounced_at is not None


def test_a_report_marks_the_mail_and_the_address_once(opened: Context, client: Client) -> None:
    mail, _ = mailed(opened, client)
    report = report_of(mail.message_id)
    (first, second) = read(opened, report, report)
    assert first == BounceRecord(
        client.identifier, "file", 1, BounceOutcome.MARKED, 1, "jeanne@example.org", "5.1.1", NO_SUCH_USER
    )
    assert second == first._replace(outcome=BounceOutcome.KNOWN, line=2)
    [record] = history.list_mails(opened, client)
    assert record.bounce == NO_SUCH_USER
    assert record.bounced_at is not None
    assert is_marked(client)
    assert [event.outcome for event in Event.select().where(Event.action == "mail.bounce")] == ["marked"]
    last = history.load_history(opened, client).entries[-1]
    assert (last.action, last.outcome, last.details) == ("mail.bounce", "marked", {"sequence": 1, "status": "5.1.1"})


def all_about_passwords() -> list[Any]:
    marks = {"bounced_at", "bounce", "email_bounced_at"}
    models: tuple[Any, Any] = (Client, Credential)
    rows = [row for model in models for row in model.select().order_by(model.id).dicts()]
    return [{name: value for name, value in row.items() if name not in marks} for row in rows]


def test_no_report_changes_anything_about_passwords(opened: Context, client: Client) -> None:
    letters = [mailed(opened, client) for _ in range(3)]
    before = all_about_passwords()
    for action in ("delayed", "relayed", "failed", "failed"):
        read(opened, *(report_of(mail.message_id, action=action) for mail, _ in letters))
    assert all_about_passwords() == before
    assert [verify_login(opened, client.identifier, clear).accepted for _, clear in letters] == [False, False, True]


def test_a_report_is_matched_by_its_recipient(opened: Context, client: Client) -> None:
    egec = opened._replace(settings=opened.settings._replace(mail_bounces="bounces@egec.pro"))
    mail, _ = mailed(egec, client)
    assert mail.sender.startswith(f"bounces+{client.id}.")
    assert outcomes(egec, report_of(to=mail.sender)) == ["marked"]


def test_a_mail_cannot_be_marked_without_its_message_id(opened: Context, client: Client) -> None:
    mail, _ = mailed(opened, client)
    other = create_client(opened, fields.parse_fields("marc@example.org"))
    mailed(opened, other)
    random = mail.message_id.partition(".")[2]
    guesses = [
        headers.new_message_id(client.id, "egec.pro"),
        f"<{other.id}.{random}", f"<0.{random}", f"<9999999999.{random}",
        mail.message_id[:-20].replace("@", "") + "0@egec.pro>", f"<{client.id}.%@egec.pro>", "<@egec.pro>", "",
    ]  # fmt: skip
    assert outcomes(opened, *map(report_of, guesses)) == ["unknown"] * len(guesses)
    assert not is_marked(client)
    assert not is_marked(other)


def test_a_report_matches_after_the_domain_of_the_sender_has_changed(opened: Context, client: Client) -> None:
    mail, _ = mailed(opened, client)
    moved = opened._replace(settings=opened.settings._replace(mail_from="a@new.example.org"))
    assert outcomes(moved, report_of(to=f"bounces+{mail.message_id[1:].partition('@')[0]}@new.example.org")) == [
        "marked"
    ]


def test_a_delay_marks_nothing_and_a_failure_after_it_does(opened: Context, client: Client) -> None:
    mail, _ = mailed(opened, client)
    (delay,) = read(opened, report_of(mail.message_id, action="delayed", status="4.4.1"))
    assert (delay.outcome, delay.identifier) == ("temporary", client.identifier)
    assert not is_marked(client)
    assert outcomes(opened, report_of(mail.message_id, status="4.4.7")) == ["marked"]
    assert is_marked(client)


def test_a_notice_to_a_previous_address_is_known_and_marks_nothing(opened: Context, client: Client) -> None:
    egec, server = with_sharing(opened), Server()
    moved = update_client(egec, client, {"email": "new@example.org"})
    assert moved.previous_email == "jeanne@example.org"
    assert send_notice(egec, moved.client, moved.previous_email, lambda: server).error is None
    successor = create_client(egec, fields.parse_fields("jeanne@example.org"))
    (delay, failure) = read(egec, *(report_of(server.mails[0].message_id, action=one) for one in ("delayed", "failed")))
    assert (delay.identifier, delay.outcome) == (client.identifier, "temporary")
    assert (failure.identifier, failure.outcome) == (client.identifier, "known")
    assert (is_marked(client), is_marked(successor)) == (False, False)
    assert not Event.select().where(Event.action == "mail.bounce").exists()


def test_other_messages_are_not_reports(opened: Context, client: Client) -> None:
    mail, _ = mailed(opened, client)
    reply = f"From: jeanne@example.org\nIn-Reply-To: {mail.message_id}\n\nBonjour\n".encode()
    assert outcomes(opened, reply, b"", b"\0", report_of(mail.message_id, action="relayed")) == ["not_a_report"] * 4
    assert not is_marked(client)


def test_concurrent_readers_mark_a_mail_once(opened: Context, client: Client) -> None:
    reports = [report_of(mailed(opened, client)[0].message_id) for _ in range(4)]

    def read_all(_: int) -> list[str]:
        with opened.database.connection_context():
            return outcomes(opened, *reports)

    with ThreadPoolExecutor(4) as threads:
        found = [outcome for each in threads.map(read_all, range(4)) for outcome in each]
    assert sorted(found) == ["known"] * 12 + ["marked"] * 4
    assert Event.select().where(Event.action == "mail.bounce").count() == 4


@pytest.mark.parametrize("quoted", ["{}", "a line of it: {}", "={}=", "Bonjour {}."])
def test_a_password_that_a_mail_server_quotes_is_not_stored(opened: Context, client: Client, quoted: str) -> None:
    mail, clear = mailed(opened, client)
    (record,) = read(opened, report_of(mail.message_id, words=f"554 spam: {quoted.format(clear)}"))
    assert record.outcome == "marked"
    assert clear not in record.reason
    stored = Credential.get().bounce or ""
    assert clear not in stored
    assert stored.startswith("5.1.1 554 spam: ")


# --- the mark of the address ---


def bounced(egec: Context, client: Client) -> tuple[Mail, str]:
    mail, clear = mailed(egec, client)
    assert outcomes(egec, report_of(mail.message_id)) == ["marked"]
    return mail, clear


def log_in(egec: Context, client: Client, clear: str) -> None:
    assert verify_login(egec, client.identifier, clear).accepted


def change_address(egec: Context, client: Client) -> None:
    update_client(egec, client, {"email": "j.dupont@example.org"})


def import_another_address(egec: Context, client: Client) -> None:
    import_row(egec, client, "j.dupont@example.org")


def import_row(egec: Context, client: Client, email: str) -> None:
    text = f"identifier,email,last_name\n{client.identifier},{email},Petit\n"
    assert import_table(egec, text).updated == 1


def import_table(egec: Context, text: str) -> ImportResult:
    table = tables.read_table(BytesIO(text.encode()), "x", FIELD_OF_COLUMN, TableOptions())
    return import_clients(egec, table, lambda _: None, on_conflict=OnConflict.UPDATE)


def use_a_later_mail(egec: Context, client: Client) -> None:
    log_in(egec, client, mailed(egec, client)[1])


@pytest.mark.parametrize("change", [change_address, import_another_address, use_a_later_mail])
def test_another_address_or_a_later_mail_that_arrived_clears_the_mark(
    opened: Context, client: Client, change: Change
) -> None:
    mail, _ = bounced(opened, client)
    change(opened, client)
    assert not is_marked(client)
    assert Credential.get(Credential.message_id == mail.message_id).bounced_at is not None


def respell_address(egec: Context, client: Client) -> None:
    update_client(egec, client, {"email": "Jeanne@Example.org", "last_name": "Petit"})


def import_respelled_address(egec: Context, client: Client) -> None:
    import_row(egec, client, "Jeanne@Example.org")


def mail_again(egec: Context, client: Client) -> None:
    mailed(egec, client)


def hand_over_and_use(egec: Context, client: Client) -> None:
    made = hashing.start_hash(egec.settings)
    issue_to_operator(egec, find_client(client.identifier), lambda _: None, hashing=made)
    log_in(egec, client, made.password.reveal())


def disable_and_enable(egec: Context, client: Client) -> None:
    disable_clients(egec, [client.id], reason="x")
    enable_clients(egec, [client.id])


@pytest.mark.parametrize(
    "change",
    [respell_address, import_respelled_address, mail_again, hand_over_and_use, disable_and_enable],
)
def test_other_changes_keep_the_mark(opened: Context, client: Client, change: Change) -> None:
    bounced(opened, client)
    change(opened, client)
    assert is_marked(client)


def test_a_login_with_an_earlier_mail_keeps_the_mark_of_a_later_one(opened: Context, client: Client) -> None:
    _, clear = mailed(opened, client)
    log_in(opened, client, clear)
    mail, _ = mailed(opened, client)
    # In doubt, so the earlier password still signs in.
    Credential.update(state="in_doubt").where(Credential.message_id == mail.message_id).execute()
    Credential.update(state="accepted").where(Credential.sequence == 1).execute()
    Client.update(active_sequence=1).execute()
    assert outcomes(opened, report_of(mail.message_id)) == ["marked"]
    Credential.update(password_hash=hashing.hash_password(hashing.start_hash(opened.settings).password, 4)).where(
        Credential.sequence == 2
    ).execute()
    log_in(opened, client, clear)
    assert is_marked(client)


def test_a_report_of_a_used_mail_marks_only_the_mail(opened: Context, client: Client) -> None:
    mail, clear = mailed(opened, client)
    log_in(opened, client, clear)
    assert outcomes(opened, report_of(mail.message_id)) == ["marked"]
    assert not is_marked(client)


def test_a_late_report_about_an_earlier_address_marks_only_the_mail(opened: Context, client: Client) -> None:
    mail, _ = mailed(opened, client)
    change_address(opened, client)
    assert outcomes(opened, report_of(mail.message_id)) == ["marked"]
    assert not is_marked(client)
    bounced(opened, client)
    assert is_marked(client)


# --- where the mark shows ---


def test_selectors_find_a_bounced_mail_until_the_next_one(opened: Context, client: Client) -> None:
    other = create_client(opened, fields.parse_fields("marc@example.org"))
    mailed(opened, other)
    bounced(opened, client)
    failed = Selected(opened, Selection(last_mail_failed=True))
    assert [record.identifier for record in failed.records()] == [client.identifier]
    everyone = Selected(opened, Selection(everyone=True))
    assert (everyone.count(), everyone.count_bounced()) == (2, 1)
    assert Selected(opened, Selection(everyone=True, limit=1)).count_bounced() == 1
    mailed(opened, client)
    assert failed.count() == 0
    assert everyone.count_bounced() == 1


def explain(egec: Context, client: Client, clear: str) -> tuple[str, str]:
    found = explain_login(egec, client.identifier, clear)
    return found.reason, found.hint


def test_an_explanation_reports_that_the_last_mail_bounced(opened: Context, client: Client) -> None:
    _, earlier = mailed(opened, client)
    _, last = bounced(opened, client)
    reason, hint = explain(opened, client, "aB3#xY7%z")
    assert (reason, NO_SUCH_USER in hint) == ("last_mail_bounced", True)
    reason, hint = explain(opened, client, earlier)
    assert reason == "last_mail_bounced"
    assert "earlier mail" in hint
    assert NO_SUCH_USER in hint
    assert explain(opened, client, last)[0] == "accepted"
    mailed(opened, client)
    assert explain(opened, client, last)[0] == "earlier_password"


def test_the_mark_is_erased_with_the_client(opened: Context, client: Client) -> None:
    mail, _ = bounced(opened, client)
    erase_clients(opened, [client.id])
    assert Credential.get().bounce is None
    assert not is_marked(client)
    assert outcomes(opened, report_of(mail.message_id)) == ["unknown"]


def test_the_credential_is_found_by_an_index(opened: Context, client: Client) -> None:
    begins_so = "SELECT * FROM credential WHERE client_id = 1 AND SUBSTR(message_id, 1, 5) = 'x'"
    if "sqlite" not in type(opened.database).__name__.lower():
        opened.database.execute_sql("SET enable_seqscan = off")  # type: ignore[no-untyped-call] # peewee has no types
    explain = "EXPLAIN QUERY PLAN " if "sqlite" in type(opened.database).__name__.lower() else "EXPLAIN "
    plan = str(list(opened.database.execute_sql(explain + begins_so)))  # type: ignore[no-untyped-call] # as above
    assert "credential_client_id_sequence" in plan


def test_a_bounce_marks_a_shared_address_at_each_client_and_a_login_of_any_clears_it(opened: Context) -> None:
    egec = with_sharing(opened)
    first, second = create_sharers(egec)
    mail, _ = mailed(egec, first)
    assert outcomes(egec, report_of(mail.message_id)) == ["marked"]
    assert (is_marked(first), is_marked(second)) == (True, True)
    _, clear = mailed(egec, second)
    assert verify_login(egec, second.identifier, clear).accepted
    assert (is_marked(first), is_marked(second)) == (False, False)


def test_a_bounce_waits_for_a_client_of_the_address_who_is_being_changed(opened: Context) -> None:
    if not locks_rows():
        pytest.skip("a transaction has an SQLite database to itself")
    egec = with_sharing(opened)
    first, second = create_sharers(egec)
    mail, _ = mailed(egec, first)

    def is_waiting() -> bool:
        # peewee's methods have no types.
        execute: Any = opened.database.execute_sql
        return bool(list(execute("SELECT 1 FROM pg_locks WHERE NOT granted")))

    def read_on_another_connection() -> list[BounceRecord]:
        with opened.database.connection_context():
            return read(egec, report_of(mail.message_id))

    with ThreadPoolExecutor(1) as other:
        with opened.database.atomic():
            Client.update(last_name="Martin").where(Client.id == second.id).execute()
            reading = other.submit(read_on_another_connection)
            deadline = time.monotonic() + 10
            while not (is_waiting() or reading.done()):
                assert time.monotonic() < deadline, "the reader neither waits nor ends"
                time.sleep(0.01)
        assert [record.outcome for record in reading.result(10)] == ["marked"]
    assert (is_marked(first), is_marked(second)) == (True, True)


def test_a_login_with_a_mail_older_than_the_bounce_of_another_client_clears_nothing(opened: Context) -> None:
    egec = with_sharing(opened)
    first, second = create_sharers(egec)
    _, clear = mailed(egec, second)
    later, _ = mailed(egec, first)
    read(egec, report_of(later.message_id))
    assert verify_login(egec, second.identifier, clear).accepted
    assert (is_marked(first), is_marked(second)) == (True, True)


def test_a_bounce_marks_nothing_once_a_later_mail_to_another_client_has_arrived(opened: Context) -> None:
    egec = with_sharing(opened)
    first, second = create_sharers(egec)
    earlier, _ = mailed(egec, first)
    _, clear = mailed(egec, second)
    assert verify_login(egec, second.identifier, clear).accepted
    assert outcomes(egec, report_of(earlier.message_id)) == ["marked"]
    assert (is_marked(first), is_marked(second)) == (False, False)


def test_a_bounce_to_an_address_that_the_client_has_left_marks_no_one(opened: Context) -> None:
    egec = with_sharing(opened)
    first, second = create_sharers(egec)
    mail, _ = mailed(egec, first)
    update_client(egec, first, {"email": "moved@example.org"})
    update_client(egec, first, {"email": OFFICE})
    read(egec, report_of(mail.message_id))
    assert (is_marked(first), is_marked(second)) == (False, False)


def test_a_login_with_a_mail_to_a_former_address_clears_no_mark_of_the_present_one(opened: Context) -> None:
    egec = with_sharing(opened)
    first, second = create_sharers(egec)
    newcomer = create_client(egec, fields.parse_fields("former@example.org"))
    _, clear = mailed(egec, newcomer)
    update_client(egec, newcomer, {"email": OFFICE})
    mail, _ = mailed(egec, second)
    read(egec, report_of(mail.message_id))
    assert verify_login(egec, newcomer.identifier, clear).accepted
    assert (is_marked(first), is_marked(second), is_marked(newcomer)) == (True, True, True)


def create_further(egec: Context, email: str) -> Client:
    return create_client(egec, fields.parse_fields(email, reference="D-3"))


def move(egec: Context, email: str) -> Client:
    other = create_client(egec, fields.parse_fields("former@example.org"))
    return update_client(egec, other, {"email": email}).client


def import_further(egec: Context, email: str) -> Client:
    assert import_table(egec, f"identifier,email\n,new@example.org\n1234567890,{email}\n").created == 2
    return find_client("1234567890")


def move_by_import(egec: Context, email: str) -> Client:
    other = create_client(egec, fields.parse_fields("former@example.org"))
    import_row(egec, other, email)
    return other


JOINING = [create_further, move, import_further, move_by_import]


@pytest.mark.parametrize("join", JOINING)
def test_a_further_client_with_a_marked_address_has_the_mark_until_a_login(
    opened: Context, client: Client, join: Callable[[Context, str], Client]
) -> None:
    egec = with_sharing(opened)
    bounced(egec, client)
    newcomer = join(egec, "Jeanne@example.org")
    assert Client.get_by_id(newcomer.id).email_bounced_at == Client.get_by_id(client.id).email_bounced_at is not None
    assert Client.select().where(Client.email_bounced_at.is_null(False)).count() == 2
    use_a_later_mail(egec, newcomer)
    assert (is_marked(client), is_marked(newcomer)) == (False, False)


@pytest.mark.parametrize("join", JOINING)
def test_a_further_client_with_an_address_that_works_has_no_mark(
    opened: Context, client: Client, join: Callable[[Context, str], Client]
) -> None:
    egec = with_sharing(opened)
    bounced(egec, client)
    create_client(egec, fields.parse_fields("marc@example.org"))
    assert not is_marked(join(egec, "marc@example.org"))


def test_a_client_who_moves_from_one_marked_address_to_another_has_the_mark_of_the_new_one(
    opened: Context, client: Client
) -> None:
    egec = with_sharing(opened)
    other = create_client(egec, fields.parse_fields("marc@example.org"))
    bounced(egec, client)
    bounced(egec, other)
    update_client(egec, other, {"email": "jeanne@example.org"})
    assert Client.get_by_id(other.id).email_bounced_at == Client.get_by_id(client.id).email_bounced_at
    update_client(egec, other, {"email": "new@example.org"})
    assert (is_marked(client), is_marked(other)) == (True, False)
