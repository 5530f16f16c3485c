"""Imports on both databases: every row creates or changes a client, is skipped, or is rejected with a reason."""

import csv
import io
import json
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import bcrypt
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from egec_cli import clock
from egec_cli.clients import fields, records
from egec_cli.clients.fields import ClientFields
from egec_cli.context import Context
from egec_cli.credentials.validity import local_moment
from egec_cli.errors import InvalidInput
from egec_cli.imports import run as importing
from egec_cli.imports import tables
from egec_cli.imports.columns import FIELD_OF_COLUMN, Row
from egec_cli.imports.formats import OnConflict, TableOptions
from egec_cli.imports.run import EmailChange, ImportResult, RejectedRow
from egec_cli.logins.verify import verify_login
from egec_cli.store.models import Client, Credential, Event
from egec_cli.store.sql import try_insert_all

HEADER = "email;identifier;reference;civility;first_name;last_name;language"


def imported(egec: Context, text: str, **options: Any) -> tuple[ImportResult, list[RejectedRow]]:
    """Import a text; return the result and the rejected rows."""
    rejected: list[RejectedRow] = []
    table = tables.read_table(io.BytesIO(text.encode()), "clients.csv", FIELD_OF_COLUMN, TableOptions())
    return importing.import_clients(egec, table, rejected.append, **options), rejected


def counts(
    created: int = 0, updated: int = 0, skipped: int = 0, rejected: int = 0, *email_changes: EmailChange
) -> ImportResult:
    return ImportResult(created, updated, skipped, rejected, list(email_changes))


def stored_clients() -> list[tuple[object, ...]]:
    """Return the clients without generated values."""
    return [
        (c.email, c.email_key, c.reference, c.civility, c.first_name, c.last_name, c.language)
        for c in Client.select().order_by(Client.id)
    ]


def test_rows_become_clients_with_their_own_identifiers(opened: Context) -> None:
    text = f"{HEADER}\nJeanne@Example.org;;D-1;Madame;Jeanne;Dupont;FR\nmarc@example.org;1234567890;;;;Été;\n"
    result, rejected = imported(opened, text)
    assert (result, rejected) == (counts(created=2), [])
    assert stored_clients() == [
        ("Jeanne@Example.org", "jeanne@example.org", "D-1", "Mme", "Jeanne", "Dupont", "fr"),
        ("marc@example.org", "marc@example.org", None, "", "", "Été", ""),
    ]
    generated, given_one = (client.identifier for client in Client.select().order_by(Client.id))
    assert given_one == "1234567890"
    assert len(generated) == 10
    assert generated[0] != "0"


def test_importing_the_same_table_again_changes_nothing_with_any_policy(opened: Context) -> None:
    text = f"{HEADER}\na@example.org;;D-1;M.;Jean;Petit;\nb@example.org;;;;;;\n"
    imported(opened, text)
    before = list(Client.select().tuples())
    for policy in OnConflict:
        assert imported(opened, text, on_conflict=policy) == (counts(skipped=2), [])
    assert list(Client.select().tuples()) == before


CHANGED = f"{HEADER}\nA@example.org;;D-1;Mme;Jeanne;Petit;en\nnew@example.org;;;;;;\n"


@pytest.mark.parametrize(
    ("policy", "result", "name"),
    [
        (OnConflict.FAIL, counts(created=1, rejected=1), "Jean"),
        (OnConflict.SKIP, counts(created=1, skipped=1), "Jean"),
        (OnConflict.UPDATE, counts(created=1, updated=1), "Jeanne"),
    ],
)
def test_an_existing_client_with_different_data_is_handled_by_the_policy(
    opened: Context, policy: OnConflict, result: ImportResult, name: str
) -> None:
    imported(opened, f"{HEADER}\na@example.org;;D-1;M.;Jean;Petit;\n")
    identifier = Client.get().identifier
    became, rejected = imported(opened, CHANGED, on_conflict=policy)
    assert became == result
    found = Client.get(Client.identifier == identifier)
    assert found.first_name == name
    assert found.identifier == identifier
    if policy is OnConflict.FAIL:
        (one,) = rejected
        assert (one.line, one.field, one.value) == (2, "email", "A@example.org")
        assert one.reason == (
            f"already used by client {identifier} with different data: civility, first_name, language"
        )
        assert one.raw == "A@example.org;;D-1;Mme;Jeanne;Petit;en\n"


@pytest.mark.parametrize(
    ("row", "fields_that_differ"),
    [
        ("a@example.org;;D-1;;;;en;", "language"),
        ("b@example.org;;D-1;;;;;", "email"),
        ("a@example.org;;D-2;;;Petit;;", "reference, last_name"),
        (f"a@example.org;;D-1;;;;;$2b$04${'a' * 53}", "password_hash"),
    ],
)
def test_a_conflict_names_the_fields_that_differ(opened: Context, row: str, fields_that_differ: str) -> None:
    imported(opened, f"{HEADER}\na@example.org;1111111111;D-1;;;;\n")
    _, (rejected,) = imported(opened, f"{HEADER};password_hash\n{row}\n")
    assert rejected.reason == f"already used by client 1111111111 with different data: {fields_that_differ}"


@pytest.mark.parametrize(("row", "number"), [('""""', 1), ('"""";""', 1), (' ; """" ', 1), ('""', 0), ('"";""', 0)])
def test_a_row_whose_only_content_is_a_quote_is_rejected_not_skipped(opened: Context, row: str, number: int) -> None:
    assert imported(opened, f"email;nom\n{row}\na@example.org;X\n")[0] == counts(created=1, rejected=number)


def test_an_update_keeps_fields_without_a_column(opened: Context) -> None:
    imported(opened, f"{HEADER}\na@example.org;;D-1;M.;Jean;Petit;en\n")
    assert imported(opened, "email;nom\na@example.org;Grand\n", on_conflict=OnConflict.UPDATE)[0] == counts(updated=1)
    assert stored_clients() == [("a@example.org", "a@example.org", "D-1", "M.", "Jean", "Grand", "en")]


def test_a_client_found_by_reference_or_identifier_gets_the_new_address(opened: Context) -> None:
    imported(opened, f"{HEADER}\na@example.org;2345678901;D-1;;;;\nb@example.org;1234567890;;;;;\n")
    text = "email;reference;identifier\nnew-a@example.org;D-1;\nnew-b@example.org;;1234567890\n"
    changes = [
        EmailChange(2, "2345678901", "a@example.org", "new-a@example.org"),
        EmailChange(3, "1234567890", "b@example.org", "new-b@example.org"),
    ]
    for options in ({"dry_run": True}, {"strict": True}):
        told: list[EmailChange] = []
        result, _ = imported(opened, text, on_conflict=OnConflict.UPDATE, report_change=told.append, **options)
        assert result == counts(0, 2, 0, 0, *changes)
        assert told == changes
    assert [file[0] for file in stored_clients()] == ["new-a@example.org", "new-b@example.org"]


def test_a_changed_e_mail_is_reported_only_after_the_commit(opened: Context) -> None:
    imported(opened, f"{HEADER}\na@example.org;2345678901;D-1;;;;\n")
    text = "email;reference\nnew-a@example.org;D-1\nnot-an-address;\n"
    told: list[EmailChange] = []
    options: dict[str, Any] = {"on_conflict": OnConflict.UPDATE, "report_change": told.append}
    with pytest.raises(InvalidInput, match="rejected"):
        imported(opened, text, strict=True, **options)
    assert (told, [file[0] for file in stored_clients()]) == ([], ["a@example.org"])
    imported(opened, text, **options)
    assert told == [EmailChange(2, "2345678901", "a@example.org", "new-a@example.org")]


def test_a_different_spelling_of_an_e_mail_is_not_a_change(opened: Context) -> None:
    imported(opened, f"{HEADER}\na@example.org;;D-1;;;Petit;\n")
    text = f"{HEADER}\nA@Example.org;;D-1;;;Grand;\n"
    assert imported(opened, text, on_conflict=OnConflict.UPDATE)[0] == counts(updated=1)


@pytest.mark.parametrize("rows_at_a_time", [1, 500])
def test_rows_that_share_a_name_are_rejected_with_the_name_and_the_first_line(
    opened: Context, monkeypatch: pytest.MonkeyPatch, rows_at_a_time: int
) -> None:
    monkeypatch.setattr(importing, "_ROWS_AT_A_TIME", rows_at_a_time)
    text = (
        "email;reference;identifier\na@example.org;D-1;1111111111\nb@example.org;D-1;\nc@example.org;;1111111111\n"
        "A@example.org;D-2;\n"
    )
    result, rejected = imported(opened, text)
    assert result == counts(created=1, rejected=3)
    assert [(one.line, one.field, one.value) for one in rejected] == [
        (3, "reference", "D-1"), (4, "identifier", "1111111111"), (5, "email", "A@example.org"),
    ]  # fmt: skip
    assert {one.reason for one in rejected} == {"already used in line 2 with different data"}


def test_a_row_with_an_existing_identifier_and_address_is_not_new(opened: Context) -> None:
    text = f"{HEADER}\na@example.org;1234567890;;;;Petit;\nb@example.org;;;;;;\n"
    assert imported(opened, text)[0] == counts(created=2)
    assert imported(opened, text)[0] == counts(skipped=2)
    changed = text.replace("Petit", "Grand")
    assert imported(opened, changed, on_conflict=OnConflict.UPDATE)[0] == counts(updated=1, skipped=1)
    assert stored_clients()[0][5] == "Grand"


def test_a_row_that_names_two_clients_or_another_identifier_is_rejected(opened: Context) -> None:
    imported(opened, f"{HEADER}\na@example.org;1111111111;D-1;;;;\nb@example.org;2222222222;D-2;;;;\n")
    text = "email;reference;identifier\na@example.org;D-2;\na@example.org;D-1;3333333333\n"
    result, rejected = imported(opened, text, on_conflict=OnConflict.UPDATE)
    assert result == counts(rejected=2)
    assert rejected[0].reason == (
        "email 'a@example.org' belongs to client 1111111111, reference 'D-2' belongs to client 2222222222"
    )
    assert rejected[1].reason == "the identifier of client 1111111111 never changes"


@pytest.mark.parametrize("policy", OnConflict)
def test_the_identifier_of_an_existing_client_never_changes(opened: Context, policy: OnConflict) -> None:
    """P4: whatever identifier a row gives."""
    imported(opened, f"{HEADER}\na@example.org;1111111111;D-1;;;;\n")
    result, _ = imported(opened, "email;identifier;nom\na@example.org;3333333333;Petit\n", on_conflict=policy)
    assert result == counts(**{"skipped" if policy is OnConflict.SKIP else "rejected": 1})
    assert [(one.email, one.identifier) for one in Client.select()] == [("a@example.org", "1111111111")]


def test_the_identifier_of_an_erased_client_stays_reserved(opened: Context) -> None:
    imported(opened, f"{HEADER}\na@example.org;1111111111;;;;;\n")
    Client.update(email=None, email_key=None).execute()
    result, (rejected,) = imported(opened, "email;identifier\nb@example.org;1111111111\n")
    assert result == counts(rejected=1)
    assert rejected.reason == "reserved: its client was erased"


@pytest.mark.parametrize("policy", OnConflict)
@pytest.mark.parametrize("rows_at_a_time", [1, 2, 5_000])
def test_two_rows_for_one_client_are_handled_the_same_at_any_distance(
    opened: Context, monkeypatch: pytest.MonkeyPatch, policy: OnConflict, rows_at_a_time: int
) -> None:
    monkeypatch.setattr(importing, "_ROWS_AT_A_TIME", rows_at_a_time)
    text = "email;nom\na@example.org;Petit\nA@example.org;Petit\na@example.org;Grand\n"
    became, rejected = imported(opened, text, on_conflict=policy)
    assert became == counts(created=1, skipped=1, rejected=1)
    assert [file[5] for file in stored_clients()] == ["Petit"]
    assert [(one.line, one.field) for one in rejected] == [(4, "email")]


@pytest.mark.parametrize("rows_at_a_time", [1, 500])
@pytest.mark.parametrize(
    ("row", "field"),
    [
        ("shared@example.org;D-5;;", "reference"),
        ("c5@example.org;D-5;;Grand", "email"),
        ("shared@example.org;;5555555555;", "identifier"),
    ],
)
def test_no_line_overwrites_the_data_of_an_earlier_line(
    opened: Context, monkeypatch: pytest.MonkeyPatch, rows_at_a_time: int, row: str, field: str
) -> None:
    monkeypatch.setattr(importing, "_ROWS_AT_A_TIME", rows_at_a_time)
    imported(opened, "email;reference;identifier\nold@example.org;D-5;5555555555\n")
    others = "".join(f"other{number}@example.org;;;\n" for number in range(3))
    text = f"email;reference;identifier;nom\nc5@example.org;D-5;5555555555;\n{others}{row}\n"
    results = []
    for _ in range(3):
        result, (rejected,) = imported(opened, text, on_conflict=OnConflict.UPDATE)
        results.append((result.created, result.updated, result.rejected))
        assert (rejected.line, rejected.field) == (6, field)
        assert rejected.reason == "already used in line 2 with different data"
        assert stored_clients()[0][:1] == ("c5@example.org",)
    assert results == [(3, 1, 1), (0, 0, 1), (0, 0, 1)]


def test_a_later_line_may_reuse_a_name_that_an_earlier_line_has_freed(opened: Context) -> None:
    imported(opened, "email;reference\na@example.org;D-1\nb@example.org;D-2\n")
    text = "email;reference\na@example.org;D-3\nb@example.org;D-1\nc@example.org;D-2\n"
    assert imported(opened, text, on_conflict=OnConflict.UPDATE)[0] == counts(created=1, updated=2)
    assert imported(opened, text, on_conflict=OnConflict.UPDATE)[0] == counts(skipped=3)


FAULTS = {
    "not-an-address;;;;;;": ("email", "invalid e-mail address"),
    ";;D-9;;;;": ("email", "invalid e-mail address"),
    "x@example.org;0123456789;;;;;": ("identifier", "invalid identifier"),
    "x@example.org;;;Sir;;;": (
        "civility",
        "unknown civility: 'Sir' (use one of M., Mme, Mlle, Dr, Pr, Me, Mr, Mrs, Ms, Mx)",
    ),
    "x@example.org;;;;;;de": ("language", "unknown language: 'de' (use one of fr, en)"),
    "x@example.org;;;;=?utf-8?q?x?=;;": ("first_name", "=?"),
    f"x@example.org;;;;;{'x' * 101};": ("last_name", "has 101 characters"),
    "x@example.org;;D\u200b1;;;;": ("reference", "U+200B"),
}


@pytest.mark.parametrize(("row", "told"), FAULTS.items(), ids=[field for field, _ in FAULTS.values()])
def test_an_invalid_row_is_reported_with_its_cell_and_the_others_are_imported(
    opened: Context, row: str, told: tuple[str, str]
) -> None:
    result, (rejected,) = imported(opened, f"{HEADER}\na@example.org;;;;;;\n{row}\nb@example.org;;;;;;\n")
    assert result == counts(created=2, rejected=1)
    assert (rejected.line, rejected.field) == (3, told[0])
    assert told[1] in rejected.reason


def test_a_strict_import_changes_nothing_and_reports_all_faults(opened: Context) -> None:
    text = f"{HEADER}\na@example.org;;;;;;\nx;;;;;;\nb@example.org;;;;;;\ny;;;;;;\n"
    rejected: list[RejectedRow] = []
    table = tables.read_table(io.BytesIO(text.encode()), "clients.csv", FIELD_OF_COLUMN, TableOptions())
    with pytest.raises(InvalidInput, match="2 rows were rejected, so nothing was imported"):
        importing.import_clients(opened, table, rejected.append, strict=True)
    assert [one.line for one in rejected] == [3, 5]
    assert stored_clients() == []
    assert Event.select().count() == 0
    assert imported(opened, f"{HEADER}\na@example.org;;;;;;\n", strict=True)[0] == counts(created=1)


@pytest.mark.parametrize("options", [{}, {"dry_run": True}, {"on_conflict": OnConflict.UPDATE}])
def test_the_progress_adds_up_to_all_rows(
    opened: Context, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(importing, "_ROWS_AT_A_TIME", 2)
    text = "email;reference\na@x.fr;D-1\nb@x.fr;D-1\nno address;\na@x.fr;D-1\nc@x.fr;\n"
    for _ in range(2):
        reported: list[int] = []
        result, _rejected = imported(opened, text, report_progress=reported.append, **options)
        assert reported == [2, 2, 1]
        assert sum(result[:4]) == 5


def test_a_dry_run_counts_what_would_happen_and_changes_nothing(opened: Context) -> None:
    imported(opened, f"{HEADER}\na@example.org;;;;;Petit;\n")
    text = "email;nom\na@example.org;Grand\nb@example.org;\nc;\nb@example.org;\n"
    before = list(Client.select().tuples())
    dry = imported(opened, text, on_conflict=OnConflict.UPDATE, dry_run=True)
    assert list(Client.select().tuples()) == before
    assert imported(opened, text, on_conflict=OnConflict.UPDATE) == dry
    assert dry[0] == counts(created=1, updated=1, skipped=1, rejected=1)


@pytest.mark.parametrize("prefix", [b"2b", b"2a", b"2y"])
def test_a_client_with_a_bcrypt_hash_can_log_in_without_a_mail(opened: Context, prefix: bytes) -> None:
    hashed = bcrypt.hashpw(b"fG69a*6jH", bcrypt.gensalt(4)).replace(b"2b", prefix, 1).decode()
    text = f"email;identifier;password_hash\na@example.org;1234567890;{hashed}\nb@example.org;;\n"
    assert imported(opened, text)[0] == counts(created=2)
    assert verify_login(opened, "1234567890", "fG69a*6jH").accepted
    assert [records.load_record(c, local_moment(opened)).status for c in Client.select().order_by(Client.id)] == [
        "active",
        "new",
    ]
    assert imported(opened, text)[0] == counts(skipped=2)
    assert Credential.select().count() == 1


def test_a_client_without_a_hash_has_no_password_after_an_import_and_an_update(opened: Context) -> None:
    imported(opened, "email;last_name\njeanne@example.org;Dupont\n")
    imported(opened, "email;last_name;password_hash\njeanne@example.org;Martin;\n", on_conflict=OnConflict.UPDATE)
    [client] = Client.select()
    assert (client.last_name, client.active_sequence, client.last_sequence, client.failed_logins) == ("Martin", 0, 0, 0)
    assert not Credential.select().exists()


def test_a_hash_never_replaces_a_password(opened: Context) -> None:
    first, second = (bcrypt.hashpw(clear, bcrypt.gensalt(4)).decode() for clear in (b"first", b"second"))
    imported(opened, f"email;identifier;hash\na@example.org;1234567890;{first}\n")
    imported(opened, f"email;identifier;hash\na@example.org;1234567890;{second}\n", on_conflict=OnConflict.UPDATE)
    assert verify_login(opened, "1234567890", "first").accepted
    assert not verify_login(opened, "1234567890", "second").accepted


@pytest.mark.parametrize(
    ("hashed", "kind"),
    [
        ("$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$aGFzaA", "an Argon2 hash"),
        ("$6$salt$hash", "a SHA-512-crypt hash"),
        ("pbkdf2_sha256$600000$salt$hash", "a Django PBKDF2 hash"),
        ("{SSHA}aGFzaA==", "an LDAP SHA hash"),
        ("$2b$31$abcdefghijklmnopqrstuuKm7DjkwlCQ9mHd4lYBlEZRGsI5vcRk2", "a bcrypt hash of a cost over 16"),
        ("fG69a*6jH", "it is not a known hash"),
    ],
)
def test_other_hashes_are_rejected_by_kind_and_never_shown(opened: Context, hashed: str, kind: str) -> None:
    result, (rejected,) = imported(opened, f'email,hash\na@example.org,"{hashed}"\n')
    assert result == counts(rejected=1)
    assert kind in rejected.reason
    assert hashed not in rejected.reason + rejected.value
    assert stored_clients() == []


def test_exported_times_are_imported(opened: Context) -> None:
    times = "2026-01-02T03:04:05.000Z;2025-01-02T03:04:05.000Z"
    text = f"email;disabled_at;created_at\na@example.org;{times}\nb@example.org;x;\n"
    result, (rejected,) = imported(opened, text)
    assert result == counts(created=1, rejected=1)
    assert rejected.field == "disabled_at"
    shown = records.load_record(Client.get(), local_moment(opened))
    assert (shown.status, shown.created_at) == ("disabled", "2025-01-02T03:04:05.000Z")


def test_a_table_without_an_e_mail_column_is_refused(opened: Context) -> None:
    with pytest.raises(InvalidInput, match="no e-mail column"):
        imported(opened, "nom;prénom\nPetit;Jean\n")


def test_an_import_is_recorded_without_personal_data(opened: Context) -> None:
    imported(opened, f"{HEADER}\na@example.org;;;;;Petit;\nx;;;;;;\n")
    start, event = Event.select().order_by(Event.id)
    assert [(one.action, one.outcome, one.client) for one in (start, event)] == [
        ("client.import", "started", None),
        ("client.import", "done", None),
    ]
    assert json.loads(event.details) == {"rows": {"created": 1, "updated": 0, "skipped": 0, "rejected": 1}}


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"], include_characters="\n\t"), max_size=12)
EMAILS = st.one_of(
    st.builds(
        "{}@{}".format, st.from_regex(r"[a-cA-C.+]{0,3}", fullmatch=True), st.sampled_from(["x.fr", "é.fr", "-.fr"])
    ),
    st.just(""),
)
ROWS = st.lists(st.tuples(EMAILS, NAMES, NAMES, st.sampled_from(["", "D-1", "D-2", "d 1"])), max_size=12)


@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, policy=st.sampled_from(OnConflict), delimiter=st.sampled_from([";", ",", "\t"]))
def test_any_row_is_imported_unchanged_or_rejected_with_a_reason(
    opened: Context, rows: Sequence[tuple[str, ...]], policy: OnConflict, delimiter: str
) -> None:
    Client.delete().execute()
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(["email", "first_name", "last_name", "reference"])
    writer.writerows(rows)
    result, rejected = imported(opened, text.getvalue(), on_conflict=policy)
    not_empty = [row for row in rows if any(row)]
    assert sum(result[:4]) == len(not_empty)
    assert len(rejected) == result.rejected
    assert result.created == Client.select().count()
    lines = {one.line for one in rejected}
    assert len(lines) == len(rejected)
    if policy is not OnConflict.UPDATE:
        line = 2
        valid: dict[str, ClientFields] = {}
        for row in rows:
            if any(row) and line not in lines:
                # A line break within a cell becomes a space.
                first_name, last_name = (" ".join(name.split("\n")) for name in row[1:3])
                checked = fields.parse_fields(row[0], first_name=first_name, last_name=last_name, reference=row[3])
                valid.setdefault(checked.email.key, checked)
            line += 1 + sum(cell.count("\n") for cell in row)
        made = {file[1]: file for file in stored_clients()}
        for key, file in made.items():
            checked = valid[str(key)]
            assert file[0] == checked.email.given
            assert file[4:6] == (checked.first_name, checked.last_name)


FEW_ROWS = st.lists(
    st.tuples(
        st.sampled_from(["a@x.fr", "A@x.fr", "b@x.fr", "c@x.fr", "no address"]),
        st.sampled_from(["", "D-1", "D-2", "D-3"]),
        st.sampled_from(["", "1111111111", "2222222222"]),
        st.sampled_from(["", "Petit", "Grand"]),
    ),
    max_size=10,
)


def as_table(rows: Sequence[tuple[str, ...]]) -> str:
    return "email;reference;identifier;nom\n" + "".join(f"{';'.join(row)}\n" for row in rows)


@hypothesis_settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=FEW_ROWS, rows_at_a_time=st.sampled_from([1, 3, 500]), first=st.sampled_from(OnConflict))
def test_importing_any_table_again_changes_nothing(
    opened: Context, rows: Sequence[tuple[str, ...]], rows_at_a_time: int, first: OnConflict
) -> None:
    Client.delete().execute()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importing, "_ROWS_AT_A_TIME", rows_at_a_time)
        result, rejected = imported(opened, as_table(rows), on_conflict=first)
        assert result.updated == 0
        before = list(Client.select().order_by(Client.id).tuples())
        for policy in OnConflict:
            again, _ = imported(opened, as_table(rows), on_conflict=policy)
            assert again == counts(skipped=result.created + result.skipped, rejected=len(rejected))
        assert list(Client.select().order_by(Client.id).tuples()) == before


@hypothesis_settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(there=FEW_ROWS, rows=FEW_ROWS, policy=st.sampled_from(OnConflict))
def test_the_distance_of_rows_makes_no_difference_and_repeated_imports_settle(
    opened: Context, there: Sequence[tuple[str, ...]], rows: Sequence[tuple[str, ...]], policy: OnConflict
) -> None:
    results = []
    for rows_at_a_time in (1, 3, 500):
        Event.delete().execute()
        Client.delete().execute()
        imported(opened, as_table(there))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(importing, "_ROWS_AT_A_TIME", rows_at_a_time)
            result, rejected = imported(opened, as_table(rows), on_conflict=policy)
        results.append((result[:4], [(one.line, one.field) for one in rejected], stored_clients()))
    assert results[0] == results[1] == results[2]
    # A row that was rejected because a client had its e-mail may be taken once another row has changed that client.
    for _ in rows:
        result, _ = imported(opened, as_table(rows), on_conflict=policy)
    assert not rows or result[:2] == (0, 0)


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ("a@example.org;;D-1", ("D-1", "Jeanne", "Dupont")),
        ("a@example.org;;D-2;;Marie", ("D-2", "Marie", "Dupont")),
        ("a@example.org;;;;;;", (None, "", "")),
    ],
)
def test_missing_cells_at_the_end_clear_nothing(opened: Context, row: str, names: tuple[str | None, str, str]) -> None:
    imported(opened, f"{HEADER}\na@example.org;;D-1;;Jeanne;Dupont;fr\n")
    imported(opened, f"{HEADER}\n{row}\n", on_conflict=OnConflict.UPDATE)
    client = Client.get()
    assert (client.reference, client.first_name, client.last_name) == names


def test_an_object_may_have_keys_that_the_first_one_lacks(opened: Context) -> None:
    lines = [{"email": "a@example.org"}, {"nom": "Petit", "email": "b@example.org", "référence": 7}]
    assert imported(opened, "".join(f"{json.dumps(line)}\n" for line in lines))[0] == counts(created=2)
    assert [(c.last_name, c.reference) for c in Client.select().order_by(Client.id)] == [("", None), ("Petit", "7")]


def test_objects_without_an_e_mail_are_refused(opened: Context) -> None:
    with pytest.raises(InvalidInput, match="no e-mail column"):
        imported(opened, '{"mail_address": "a@example.org", "nom": "Petit"}\n')


def test_a_missing_key_clears_nothing_and_null_clears_the_field(opened: Context) -> None:
    imported(opened, f"{HEADER}\na@example.org;;D-1;;Jeanne;Dupont;fr\nb@example.org;;D-2;;Marc;Petit;fr\n")
    lines = [
        {"email": "a@example.org", "first_name": "Marie", "last_name": None},
        {"email": "b@example.org", "first_name": "Paul"},
    ]
    imported(opened, "".join(f"{json.dumps(line)}\n" for line in lines), on_conflict=OnConflict.UPDATE)
    found = [(c.reference, c.first_name, c.last_name) for c in Client.select().order_by(Client.id)]
    assert found == [("D-1", "Marie", ""), ("D-2", "Paul", "Petit")]


def test_when_one_row_cannot_be_inserted_none_is(opened: Context) -> None:
    imported(opened, "email\nfirst@example.org\n")
    texts = ("civility", "first_name", "last_name", "language")
    columns = ("identifier", "email_key", "created_at", "updated_at", *texts)
    numbers = dict.fromkeys(("active_sequence", "revoked_below", "last_sequence", "failed_logins"), 0)

    def inserted(*keys: str) -> bool:
        now = clock.to_rfc3339(opened.clock())
        rows = [(str(2 * 10**9 + place), key, now, now, *[""] * len(texts)) for place, key in enumerate(keys)]
        with opened.database.atomic():
            return bool(try_insert_all(opened.database, "client", columns, rows, constants=numbers))

    assert not inserted("a@example.org", "first@example.org", "b@example.org")
    assert not inserted(*[f"{number}@example.org" for number in range(999)], "first@example.org")
    assert [client.email_key for client in Client.select()] == ["first@example.org"]
    assert inserted("a@example.org", "b@example.org")
    assert {client.email_key for client in Client.select()} == {"first@example.org", "a@example.org", "b@example.org"}


def test_an_identifier_drawn_twice_is_given_to_one_client_only(
    opened: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = bcrypt.hashpw(b"fG69a*6jH", bcrypt.gensalt(4)).decode()
    imported(opened, "email;identifier\nfirst@example.org;1111111111\n")
    all_of_them = ["1111111111", "2222222222", "2222222222"]
    drawn = iter([all_of_them, all_of_them, ["2222222222", "3333333333"], ["4444444444"]])
    monkeypatch.setattr(importing, "_draw_identifiers", lambda _number: next(drawn))
    text = f"email;hash\na@example.org;{hashed}\nb@example.org;\nc@example.org;{hashed}\n"
    assert imported(opened, text)[0] == counts(created=3)
    found = {client.email: client.identifier for client in Client.select()}
    assert found["first@example.org"] == "1111111111"
    assert sorted(found.values()) == ["1111111111", "2222222222", "3333333333", "4444444444"]
    able_to_log_in = {
        email for email, identifier in found.items() if verify_login(opened, identifier, "fG69a*6jH").accepted
    }
    assert able_to_log_in == {"a@example.org", "c@example.org"}


def test_an_error_while_rows_are_prefetched_is_raised_by_the_import(
    opened: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_ROWS_AT_A_TIME", 1)
    before = sys.getswitchinterval()

    def rows() -> Iterator[Row]:
        yield Row(2, ("a@example.org",), "a@example.org\n")
        raise OSError("the disk is gone")

    table = tables.read_table(io.BytesIO(b"email\n"), "clients.csv", FIELD_OF_COLUMN, TableOptions())
    monkeypatch.setattr(type(table), "__iter__", lambda _self: rows())
    with pytest.raises(OSError, match="the disk is gone"):
        importing.import_clients(opened, table, lambda _rejected: None)
    assert stored_clients() == []
    assert sys.getswitchinterval() == before
    assert not any(thread.name == "ahead" for thread in threading.enumerate())
