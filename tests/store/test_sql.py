"""SQL for many rows: whatever the text, in their order, all or none."""

import pytest

from egec_cli import clock
from egec_cli.context import Context
from egec_cli.store.models import Client
from egec_cli.store.sql import fetch_tuples, insert_many, try_insert_all

# With what COPY escapes, and what it would take for NULL or for its end.
TEXTS = ("a\tb", "a\nb\r", "\\N", "\\.", "\\", "'\"", "é €", "%s ?", "", "NULL")
NUMBERS = {"active_sequence": 0, "revoked_below": 0, "last_sequence": 0, "failed_logins": 0}
COLUMNS = ("identifier", "email", "email_key", "reference", "civility", "first_name", "last_name", "language",
           "created_at", "updated_at")  # fmt: skip


def rows_of(number: int, first: int = 0) -> list[tuple[str | None, ...]]:
    """Return rows of clients; their names are the texts in turn, and every second one has no reference."""
    now = clock.to_rfc3339(clock.now())
    return [
        (str(2 * 10**9 + one), f"{one}@x.fr", f"{one}@x.fr", None if one % 2 else f"D\\{one}", "",
         TEXTS[one % len(TEXTS)], "", "", now, now)
        for one in range(first, first + number)
    ]  # fmt: skip


@pytest.mark.parametrize("number", [1, 19, 20, 500, 1003])
def test_rows_are_inserted_as_they_are(opened: Context, number: int) -> None:
    rows = rows_of(number)
    assert insert_many(opened.database, "client", COLUMNS, rows, constants=NUMBERS) == number
    found = Client.select(Client.identifier, Client.reference, Client.first_name).order_by(Client.identifier).tuples()
    assert list(found) == [(row[0], row[3], row[5]) for row in rows]


@pytest.mark.parametrize("number", [1, 500, 1003])
def test_all_rows_are_inserted_and_known_by_their_ids(opened: Context, number: int) -> None:
    rows = rows_of(number)
    with opened.database.atomic():
        keys = try_insert_all(opened.database, "client", COLUMNS, rows, constants=NUMBERS)
    found = dict(fetch_tuples(Client.select(Client.id, Client.first_name)))
    assert [found[key] for key in keys] == [row[5] for row in rows]
    assert Client.get_by_id(keys[-1]).failed_logins == 0


def test_rows_whose_unique_value_is_taken_are_left_out(opened: Context) -> None:
    insert_many(opened.database, "client", COLUMNS, rows_of(1), constants=NUMBERS)
    inserted = insert_many(
        opened.database, "client", COLUMNS, rows_of(30), constants=NUMBERS, unless_taken="identifier"
    )
    assert (inserted, Client.select().count()) == (29, 30)


def test_after_rows_were_refused_the_transaction_goes_on(opened: Context) -> None:
    insert_many(opened.database, "client", COLUMNS, rows_of(1, first=40), constants=NUMBERS)
    with opened.database.atomic():
        assert not try_insert_all(opened.database, "client", COLUMNS, rows_of(50), constants=NUMBERS)
        assert try_insert_all(opened.database, "client", COLUMNS, rows_of(40), constants=NUMBERS)
    assert Client.select().count() == 41
