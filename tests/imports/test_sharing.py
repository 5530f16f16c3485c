"""Imports of clients who share an e-mail, on both databases."""

import csv
import io

import pytest

from egec_cli.clients import change, fields, lists, records
from egec_cli.context import Context
from egec_cli.errors import ConfigError
from egec_cli.imports.formats import OnConflict
from egec_cli.store.models import Client, Event
from tests.imports.test_run import counts, imported
from tests.shared_emails import OFFICE, create_sharers, with_sharing

HEADER = "email;identifier;reference;last_name"
FIRST = f"{OFFICE};;D-1;Petit\n"
SECOND = f"{OFFICE.upper()};;D-2;Dupont\n"


@pytest.fixture
def sharing(opened: Context) -> Context:
    return with_sharing(opened)


def stored() -> list[tuple[str | None, int, str | None, str]]:
    query = Client.select().order_by(Client.email_key, Client.email_share)
    return [(one.email_key, one.email_share, one.reference, one.last_name) for one in query]


def test_two_rows_with_an_email_and_different_references_become_two_clients(sharing: Context) -> None:
    text = f"{HEADER}\n{FIRST}{SECOND}lone@example.org;;;\n"
    assert imported(sharing, text) == (counts(created=3), [])
    assert stored() == [
        ("lone@example.org", 0, None, ""),
        (OFFICE, 0, "D-1", "Petit"),
        (OFFICE, 1, "D-2", "Dupont"),
    ]
    assert imported(sharing, text) == (counts(skipped=3), [])


def test_without_the_setting_the_second_row_is_rejected(opened: Context) -> None:
    result, [rejected] = imported(opened, f"{HEADER}\n{FIRST}{SECOND}")
    assert result == counts(created=1, rejected=1)
    assert (rejected.line, rejected.field, rejected.reason) == (
        3,
        "email",
        "already used in line 2 with different data",
    )


def test_an_export_of_sharers_imports_twice_without_a_change(sharing: Context) -> None:
    create_sharers(sharing, 3)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(lists.ExportRecord._fields)
    writer.writerows(lists.export_clients(sharing))
    assert imported(sharing, text.getvalue()) == (counts(skipped=3), [])
    before = stored()
    Event.delete().execute()
    Client.delete().execute()
    assert imported(sharing, text.getvalue()) == (counts(created=3), [])
    assert stored() == before
    assert imported(sharing, text.getvalue()) == (counts(skipped=3), [])


def test_a_row_means_the_client_by_identifier_then_reference_then_a_unique_email(sharing: Context) -> None:
    first, second = create_sharers(sharing)
    lone = records.create_client(sharing, fields.parse_fields("lone@example.org"))
    text = (
        f"{HEADER}\n{OFFICE};{first.identifier};D-1;By identifier\n{OFFICE};;D-2;By reference\n"
        "lone@example.org;;;By e-mail\n"
    )
    assert imported(sharing, text, on_conflict=OnConflict.UPDATE) == (counts(updated=3), [])
    assert [Client.get_by_id(one.id).last_name for one in (first, second, lone)] == [
        "By identifier",
        "By reference",
        "By e-mail",
    ]
    updated = [Client.get_by_id(one.id) for one in (first, second, lone)]
    assert [(one.email_share, one.email_changed_at) for one in updated] == [(0, None), (1, None), (0, None)]


def test_a_row_with_a_shared_email_alone_is_rejected(sharing: Context) -> None:
    create_sharers(sharing)
    result, [rejected] = imported(sharing, f"email;last_name\n{OFFICE};Petit\n", on_conflict=OnConflict.UPDATE)
    assert result == counts(rejected=1)
    assert (rejected.field, rejected.value) == ("email", OFFICE)
    assert rejected.reason == "2 clients have it; give the identifier or the reference"


def test_a_row_whose_identifier_and_reference_belong_to_two_sharers_is_rejected(sharing: Context) -> None:
    first, second = create_sharers(sharing)
    result, [rejected] = imported(sharing, f"email;identifier;reference\n{OFFICE};{first.identifier};D-2\n")
    assert result == counts(rejected=1)
    assert second.identifier in rejected.reason


def test_a_client_may_move_to_the_email_of_others(sharing: Context) -> None:
    create_sharers(sharing)
    records.create_client(sharing, fields.parse_fields("moved@example.org", reference="D-3"))
    text = f"email;reference\n{OFFICE};D-3\n{OFFICE};D-4\nmoved@example.org;D-5\n"
    result, rejected = imported(sharing, text, on_conflict=OnConflict.UPDATE)
    assert (result[:4], rejected) == ((2, 1, 0, 0), [])
    assert [one[:3] for one in stored()] == [
        ("moved@example.org", 0, "D-5"),
        *((OFFICE, number, f"D-{number + 1}") for number in range(4)),
    ]


def test_a_client_without_a_reference_takes_the_one_of_a_row(sharing: Context) -> None:
    records.create_client(sharing, fields.parse_fields(OFFICE))
    text = f"email;reference\n{OFFICE};D-1\n{OFFICE};D-2\n"
    assert imported(sharing, text, on_conflict=OnConflict.UPDATE) == (counts(created=1, updated=1), [])
    assert [one[2] for one in stored()] == ["D-1", "D-2"]


def test_repeated_rows_are_skipped_and_contradictions_rejected(sharing: Context) -> None:
    text = f"{HEADER}\n{FIRST}{SECOND}{FIRST}{OFFICE};;D-2;Other\n{SECOND}"
    result, [rejected] = imported(sharing, text)
    assert result == counts(created=2, skipped=2, rejected=1)
    assert (rejected.line, rejected.reason) == (5, "already used in line 3 with different data")


def test_many_sharers_across_batches(sharing: Context) -> None:
    text = "email;reference\n" + "".join(f"o{number % 700}@example.org;D-{number}\n" for number in range(1400))
    assert imported(sharing, text) == (counts(created=1400), [])
    assert Client.select().where(Client.email_share == 1).count() == 700
    assert imported(sharing, text) == (counts(skipped=1400), [])


def test_hashes_reach_the_sharer_of_their_row(sharing: Context) -> None:
    digest = "$2b$04$......................................................"
    text = f"email;reference;password_hash\n{OFFICE};D-1;\n{OFFICE};D-2;{digest[:60]}\n"
    result, rejected = imported(sharing, text)
    assert (result, rejected) == (counts(created=2), [])
    assert [(one.reference, one.active_sequence) for one in Client.select().order_by(Client.id)] == [
        ("D-1", 0),
        ("D-2", 1),
    ]


def test_a_lone_client_with_a_number_keeps_its_email_from_others(opened: Context) -> None:
    """After the first sharer was erased, the database alone would not refuse the e-mail."""
    first, second = create_sharers(opened)
    change.erase_clients(opened, [first.id])
    result, [rejected] = imported(opened, f"email;reference\nnew@example.org;\n{OFFICE};D-9\n")
    assert result == counts(created=1, rejected=1)
    assert second.identifier in rejected.reason


def test_nothing_is_imported_while_shared_emails_are_forbidden(opened: Context) -> None:
    create_sharers(opened)
    with pytest.raises(ConfigError) as caught:
        imported(opened, "email\nnew@example.org\n")
    assert caught.value.code == "email_shared"


def test_further_clients_get_the_mark_of_their_address_in_one_statement_for_each_batch(
    sharing: Context, caplog: pytest.LogCaptureFixture
) -> None:
    [first] = create_sharers(sharing, 1)
    Client.update(email_bounced_at=sharing.clock()).execute()
    rows = "".join(f"{OFFICE};;E-{number};\n" for number in range(300))
    caplog.set_level("DEBUG", "peewee")
    assert imported(sharing, f"{HEADER}\n{rows}") == (counts(created=300), [])
    assert {one.email_bounced_at for one in Client.select()} == {Client.get_by_id(first.id).email_bounced_at}
    assert sum("MAX" in one.getMessage() and "email_bounced_at" in one.getMessage() for one in caplog.records) == 1
