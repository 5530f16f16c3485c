"""The columns of validity dates in an import."""

import pytest

from egec_cli.context import Context
from egec_cli.imports.formats import OnConflict
from egec_cli.store.models import Client
from tests.imports.test_run import counts, imported


def validities() -> dict[str | None, tuple[str | None, str | None]]:
    return {one.email: (one.valid_from, one.valid_until) for one in Client.select()}


@pytest.mark.parametrize(
    "header",
    [
        "valid_from;valid_until", "Valid from;Valid until", "valable du;valable jusqu'au",
        "VALIDE DU;valide jusqu\u2019au", "Début de validité;Fin de validité", "valid from;valid to",
    ],
)  # fmt: skip
def test_the_dates_of_a_row_become_those_of_the_client(opened: Context, header: str) -> None:
    text = (
        f"courriel;{header};nom\na@example.org;2026-01-01;2026-12-31;Petit\nb@example.org;;;Petit\n"
        # With spaces and with the quotes of spreadsheets, which take the slow path.
        'c@example.org; 2026-01-01 ;;Petit\nd@example.org;;"2026-12-31";Petit\n'
    )
    result, rejected = imported(opened, text)
    assert (result, rejected) == (counts(created=4), [])
    assert validities() == {
        "a@example.org": ("2026-01-01", "2026-12-31"),
        "b@example.org": (None, None),
        "c@example.org": ("2026-01-01", None),
        "d@example.org": (None, "2026-12-31"),
    }


@pytest.mark.parametrize(
    ("first", "last", "field", "value", "reason"),
    [
        ("2026-02-29", "", "valid_from", "2026-02-29", "invalid date; write it as 2026-01-31"),
        ("", "31/12/2026", "valid_until", "31/12/2026", "invalid date; write it as 2026-01-31"),
        ("2026-01-01", "2026-1-31", "valid_until", "2026-1-31", "invalid date; write it as 2026-01-31"),
        (
            "2026-02-01", "2026-01-31", "valid_until", "2026-01-31",
            "the validity ends on 2026-01-31, before it begins on 2026-02-01",
        ),
    ],
)  # fmt: skip
def test_a_row_with_an_impossible_validity_is_rejected_with_the_cell_and_the_reason(
    opened: Context, first: str, last: str, field: str, value: str, reason: str
) -> None:
    result, [rejected] = imported(opened, f"email;valid_from;valid_until\na@example.org;{first};{last}\nb@x.fr;;\n")
    assert result == counts(created=1, rejected=1)
    assert (rejected.line, rejected.field, rejected.value, rejected.reason) == (2, field, value, reason)


EXISTING = "email;valid_from;valid_until\na@example.org;2026-03-01;2026-06-30\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("email;valid_until\na@example.org;2026-12-31\n", ("2026-03-01", "2026-12-31")),
        ("email;valid_from\na@example.org;2026-05-01\n", ("2026-05-01", "2026-06-30")),
        # An empty cell clears, an absent column changes nothing.
        ("email;valid_until\na@example.org;\n", ("2026-03-01", None)),
        ("email;nom\na@example.org;Petit\n", ("2026-03-01", "2026-06-30")),
        ("email;valid_from;valid_until\na@example.org;2025-01-01;2025-12-31\n", ("2025-01-01", "2025-12-31")),
    ],
)
def test_an_update_changes_the_dates_that_the_table_has(
    opened: Context, text: str, expected: tuple[str | None, str | None]
) -> None:
    imported(opened, EXISTING)
    for policy, result in ((OnConflict.FAIL, counts(rejected=1)), (OnConflict.SKIP, counts(skipped=1))):
        assert imported(opened, text, on_conflict=policy)[0] == result
        assert validities() == {"a@example.org": ("2026-03-01", "2026-06-30")}
    assert imported(opened, text, on_conflict=OnConflict.UPDATE) == (counts(updated=1), [])
    assert validities() == {"a@example.org": expected}
    assert imported(opened, text, on_conflict=OnConflict.UPDATE) == (counts(skipped=1), [])


def test_a_conflict_names_the_dates_that_differ(opened: Context) -> None:
    imported(opened, EXISTING)
    _, [rejected] = imported(opened, "email;valid_from;valid_until\na@example.org;2026-03-01;2026-12-31\n")
    assert rejected.reason == (f"already used by client {Client.get().identifier} with different data: valid_until")


@pytest.mark.parametrize(("column", "day"), [("valid_from", "2026-07-01"), ("valid_until", "2026-02-28")])
def test_an_update_that_contradicts_the_date_that_stays_is_rejected(opened: Context, column: str, day: str) -> None:
    imported(opened, EXISTING)
    result, [rejected] = imported(opened, f"email;{column}\na@example.org;{day}\n", on_conflict=OnConflict.UPDATE)
    assert result == counts(rejected=1)
    assert (rejected.field, rejected.value) == (column, day)
    assert "before it begins on" in rejected.reason
    assert validities() == {"a@example.org": ("2026-03-01", "2026-06-30")}


def test_two_rows_for_one_client_with_different_dates_are_told_apart(opened: Context) -> None:
    text = "email;valid_until\na@example.org;2026-12-31\na@example.org;2026-12-31\na@example.org;2027-12-31\n"
    result, [rejected] = imported(opened, text, on_conflict=OnConflict.UPDATE)
    assert result == counts(created=1, skipped=1, rejected=1)
    assert rejected.line == 4
    assert validities() == {"a@example.org": (None, "2026-12-31")}
