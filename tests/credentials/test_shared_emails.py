"""E-mails that several clients share: which they are, and when they are forbidden, on both databases."""

from typing import Any

import pytest

from egec_cli import hashing
from egec_cli.clients import fields
from egec_cli.clients.change import erase_clients
from egec_cli.clients.records import create_client
from egec_cli.clients.update import update_client
from egec_cli.context import Context
from egec_cli.credentials import shared_emails
from egec_cli.credentials.issue import issue_to_operator
from egec_cli.credentials.shared_emails import SharedEmail
from egec_cli.errors import ConfigError
from egec_cli.store import peewee
from egec_cli.store.models import Client, Credential
from tests.shared_emails import OFFICE, create_sharers, with_sharing


def test_the_database_itself_refuses_a_number_twice_for_one_email(opened: Context) -> None:
    first, _ = create_sharers(opened)
    with pytest.raises(peewee.IntegrityError), opened.database.atomic():
        Client.update(email_share=0).where(Client.id != first.id).execute()


def test_an_email_is_shared_only_while_two_clients_have_it(opened: Context) -> None:
    first, second, third = create_sharers(opened, 3)
    assert [one.email_share for one in (first, second, third)] == [0, 1, 2]
    assert (shared_emails.count_shared(), shared_emails.list_shared()) == (
        1,
        [SharedEmail(OFFICE, [first.identifier, second.identifier, third.identifier])],
    )
    erase_clients(opened, [second.id])
    assert Client.get_by_id(second.id).email_share == 0
    assert shared_emails.count_shared() == 1
    update_client(opened, first, {"email": "first@example.org"})
    # The last one keeps its number, which alone shares nothing.
    assert Client.get_by_id(third.id).email_share == 2
    assert (shared_emails.count_shared(), shared_emails.list_shared()) == (0, [])
    shared_emails.require_allowed(opened)
    assert shared_emails.have_numbers()


def test_the_error_lists_ten_shared_emails_and_counts_all(opened: Context) -> None:
    for number in range(12):
        for one in range(2):
            Client.create(
                identifier=str(1_000_000_000 + 10 * number + one),
                email=f"Office{number:02}@example.org",
                email_key=f"office{number:02}@example.org",
                email_share=one,
                created_at=opened.clock(),
                updated_at=opened.clock(),
            )
    with pytest.raises(ConfigError) as caught:
        shared_emails.require_allowed(opened)
    assert (caught.value.code, caught.value.exit_code) == ("email_shared", 78)
    first, *listed = caught.value.message.splitlines()
    assert first.endswith("shared e-mails: 12")
    assert len(listed) == 10
    assert listed[0] == "  office00@example.org: 1000000000, 1000000001"
    shared_emails.require_allowed(with_sharing(opened))


def test_no_password_is_issued_while_clients_share_an_email_against_the_settings(opened: Context) -> None:
    create_sharers(opened)
    other = create_client(with_sharing(opened), fields.parse_fields("other@example.org"))
    shown: list[object] = []
    with pytest.raises(ConfigError) as caught:
        issue_to_operator(opened, other, shown.append, hashing=hashing.start_hash(opened.settings))
    assert (caught.value.code, shown, other.last_sequence) == ("email_shared", [], 0)
    assert not Credential.select().exists()


def test_the_log_of_a_portal_gets_no_email(opened: Context) -> None:
    create_sharers(opened)
    with pytest.raises(ConfigError) as caught:
        shared_emails.require_allowed(opened, names_them=False)
    assert OFFICE not in caught.value.message + caught.value.hint


def test_a_mail_names_the_client_by_reference_name_or_identifier(opened: Context) -> None:
    first, second = create_sharers(opened)
    assert shared_emails.find_record_name(first, "M. Petit") == "D-1"
    second.reference = None
    assert shared_emails.find_record_name(second, "M. Petit") == "M. Petit"
    assert shared_emails.find_record_name(second, "") == second.identifier
    erase_clients(opened, [first.id])
    assert shared_emails.find_record_name(second, "M. Petit") == ""


def test_the_next_numbers_follow_those_taken_and_each_other(opened: Context) -> None:
    create_sharers(opened)
    assert shared_emails.next_number(OFFICE) == 2
    assert shared_emails.next_numbers([OFFICE, "new@example.org", OFFICE, "new@example.org"]) == [2, 0, 3, 1]


def test_the_question_whether_an_email_is_shared_reads_no_other_clients(opened: Context) -> None:
    """It uses the index of the clients with a number, so that it costs nothing however many clients there are."""
    create_sharers(opened)
    moment = opened.clock()
    rows = [
        {
            "identifier": str(2_000_000_000 + number),
            "email": f"c{number}@example.org",
            "email_key": f"c{number}@example.org",
            "created_at": moment,
            "updated_at": moment,
        }
        for number in range(2000)
    ]
    with opened.database.atomic():
        for start in range(0, len(rows), 100):
            Client.insert_many(rows[start : start + 100]).execute()
    # peewee's methods have no types.
    execute: Any = opened.database.execute_sql
    execute("ANALYZE")
    sql, values = shared_emails._shared_keys().sql()
    explain = "EXPLAIN QUERY PLAN " if isinstance(opened.database, peewee.SqliteDatabase) else "EXPLAIN "
    plan = "\n".join(str(row) for row in execute(explain + sql, values))
    assert "client_sharing" in plan
    assert "SCAN t1 " not in plan.replace("SCAN t1 USING", "")
    assert "Seq Scan" not in plan
