"""Clients who share an e-mail: created, found, changed, listed and named in files, on both databases."""

import io
import os
import subprocess
import sys
from typing import Any

import pytest

from egec_cli.clients import change, fields, lists, records, update
from egec_cli.clients.lists import ListQuery
from egec_cli.clients.name_files import ClientList, NamedClients
from egec_cli.clients.records import AmbiguousClient
from egec_cli.clients.select import Selected, Selection, Unmatched
from egec_cli.context import Context
from egec_cli.errors import AlreadyExists, ConfigError
from egec_cli.store import peewee
from egec_cli.store.models import Client
from tests.shared_emails import OFFICE, create_sharers, with_sharing


def create(context: Context, email: str = OFFICE, *, if_missing: bool = False, **given: str) -> records.FoundClient:
    return records.find_or_create(context, fields.parse_fields(email, **given), if_missing=if_missing)


def test_without_the_setting_a_second_client_with_an_email_is_refused(opened: Context) -> None:
    first = create(opened)
    for reference, identifier in (("", ""), ("D-2", ""), ("", "1234567890")):
        with pytest.raises(AlreadyExists):
            create(opened, "Office@EXAMPLE.org", reference=reference, given_identifier=identifier)
    assert create(opened, reference="D-2", if_missing=True).client == first.client
    assert Client.select().count() == 1


def test_with_the_setting_references_and_identifiers_stay_unique(opened: Context) -> None:
    sharing = with_sharing(opened)
    create(sharing, reference="D-1", given_identifier="1234567890")
    create(sharing, reference="D-2")
    with pytest.raises(AlreadyExists, match="the reference D-2"):
        create(sharing, reference="D-2")
    with pytest.raises(AlreadyExists, match="the identifier 1234567890"):
        create(sharing, given_identifier="1234567890")


def test_a_missing_client_is_decided_by_the_reference_or_identifier(opened: Context) -> None:
    sharing = with_sharing(opened)
    first = create(sharing, if_missing=True, reference="D-1").client
    # The only client with the e-mail, unless another one is meant.
    assert create(sharing, if_missing=True).client == first
    second = create(sharing, if_missing=True, reference="D-2")
    assert second.is_new
    assert create(sharing, if_missing=True, reference="D-2") == (second.client, False)
    assert create(sharing, if_missing=True, given_identifier=first.identifier) == (first, False)
    assert create(sharing, if_missing=True, given_identifier="1234567890").is_new
    with pytest.raises(AmbiguousClient) as caught:
        create(sharing, if_missing=True)
    assert len(caught.value.clients) == 3
    assert Client.select().count() == 3


def test_a_missing_client_with_a_reference_is_the_only_one_without_a_reference(opened: Context) -> None:
    sharing = with_sharing(opened)
    first = create(sharing).client
    assert create(sharing, if_missing=True, reference="D-1") == (first, False)


def test_a_shared_email_finds_nobody_but_the_error_names_all(opened: Context) -> None:
    sharers = create_sharers(opened)
    with pytest.raises(AmbiguousClient) as caught:
        records.find_client(f" {OFFICE.upper()} ")
    assert caught.value.code == "ambiguous_client"
    assert caught.value.exit_code == 67
    assert [one.identifier for one in caught.value.clients] == [one.identifier for one in sharers]
    assert records.find_client("ref:D-2") == sharers[1]
    change.erase_clients(opened, [sharers[0].id])
    assert records.find_client(OFFICE) == sharers[1]


def test_an_update_may_take_a_shared_email_only_with_the_setting(opened: Context) -> None:
    sharers = create_sharers(opened)
    other = create(with_sharing(opened), "other@example.org").client
    with pytest.raises(AlreadyExists):
        update.update_client(opened, other, {"email": OFFICE})
    # To resolve it, and to correct anything else, works without the setting.
    update.update_client(opened, sharers[1], {"last_name": "Petit", "email": OFFICE.upper()})
    assert Client.get_by_id(sharers[1].id).email_share == 1
    changed = update.update_client(with_sharing(opened), other, {"email": OFFICE})
    assert (changed.client.email_share, changed.previous_email) == (2, "other@example.org")
    update.update_client(opened, changed.client, {"email": "free@example.org"})
    assert Client.get_by_id(other.id).email_share == 0


def test_nothing_is_created_while_shared_emails_are_forbidden(opened: Context) -> None:
    create_sharers(opened)
    with pytest.raises(ConfigError) as caught:
        create(opened, "new@example.org")
    assert caught.value.code == "email_shared"
    assert Client.select().count() == 2


@pytest.mark.parametrize(("setting", "created"), [("no", 1), ("yes", 4)])
def test_processes_that_create_one_email_at_once(opened: Context, setting: str, created: int) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "egec_cli", "client", "create", OFFICE, "--reference", f"D-{number}"],
            env={**os.environ, "EGEC_SHARED_EMAIL": setting},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for number in range(4)
    ]
    codes = [(process.communicate(timeout=60), process.returncode)[1] for process in processes]
    assert sorted(codes) == [0] * created + [73] * (4 - created)
    numbers = [one.email_share for one in Client.select().order_by(Client.email_share)]
    assert numbers == list(range(created))


@pytest.mark.parametrize("sort", ["email", "-email"])
def test_pages_by_email_hold_every_sharer_once(opened: Context, sort: str) -> None:
    for email in ("b@example.org", "a@example.org", OFFICE):
        for number in range(3):
            create(with_sharing(opened), email, reference=f"{email} {number}")
    # The order of the keys differs from that of the numbers.
    moved = Client.get(Client.reference == f"{OFFICE} 0")
    update.update_client(with_sharing(opened), moved, {"email": "a@example.org"})
    whole = [one.identifier for one in lists.list_clients(opened, ListQuery(sort=sort))]
    paged: list[str] = []
    after = None
    while page := list(lists.list_clients(opened, ListQuery(Selection(limit=2), sort=sort, after=after))):
        paged += [one.identifier for one in page]
        after = Client.get(Client.identifier == paged[-1])
    assert paged == whole
    assert len(set(whole)) == 9
    expected = sorted(Client.select(), key=lambda one: (one.email_key, one.email_share), reverse=sort == "-email")
    assert whole == [one.identifier for one in expected]


def test_the_index_orders_pages_by_email(opened: Context) -> None:
    """No page sorts the clients: with a million of them, that would take seconds."""
    client, _ = create_sharers(opened)
    # peewee's methods have no types.
    execute: Any = opened.database.execute_sql
    is_sqlite = isinstance(opened.database, peewee.SqliteDatabase)
    with opened.database.atomic():
        if not is_sqlite:
            # A table of two rows is not worth an index.
            for way in ("seqscan", "sort", "bitmapscan"):
                execute(f"SET LOCAL enable_{way} = off")
        for sort, after in ((sort, after) for sort in ("email", "-email") for after in (None, client)):
            for condition, order in lists._sorted_parts(ListQuery(sort=sort, after=after)):
                query = Client.select(Client.id).where(Client.email.is_null(False), condition)
                sql, values = query.order_by(*order).limit(30).sql()
                if "IS NULL)" in sql.replace("IS NOT NULL", ""):
                    continue  # erased clients, of which none is listed
                explain = "EXPLAIN QUERY PLAN " if is_sqlite else "EXPLAIN "
                plan = "\n".join(str(row) for row in execute(explain + sql, values))
                assert "email_key" in plan, plan
                assert "TEMP B-TREE" not in plan, plan
                assert "Sort" not in plan, plan


def listing(text: str, name: str = "names.txt") -> ClientList:
    return ClientList(name, io.BytesIO(text.encode()))


def selected(context: Context, **selectors: Any) -> Selected:
    return Selected(context, Selection(**selectors))


def test_a_line_with_a_shared_email_selects_nobody_and_is_reported(opened: Context) -> None:
    first, second = create_sharers(opened)
    create(with_sharing(opened), "lone@example.org")
    chosen = selected(opened, listed=listing(f"{OFFICE}\nlone@example.org\nref:D-2\nnobody@example.org\n"))
    assert [one.email for one in chosen.records()] == ["lone@example.org", OFFICE]
    assert list(chosen.unmatched()) == [
        Unmatched("names.txt", 1, OFFICE, is_shared=True),
        Unmatched("names.txt", 4, "nobody@example.org"),
    ]
    change.erase_clients(opened, [first.id])
    assert [one.identifier for one in selected(opened, listed=listing(OFFICE)).records()] == [second.identifier]


def test_a_line_with_a_shared_email_excludes_every_sharer(opened: Context) -> None:
    create_sharers(opened)
    create(with_sharing(opened), "lone@example.org")
    chosen = selected(opened, everyone=True, excluded=listing(f"{OFFICE}\n", "but.txt"))
    assert [one.email for one in chosen.records()] == ["lone@example.org"]
    assert list(chosen.unmatched()) == []


def test_a_change_of_a_list_leaves_sharers_alone_unless_named_by_identifier(opened: Context) -> None:
    _, second = create_sharers(opened)
    outcomes = change.change_each(
        NamedClients(opened, {"listed": listing(f"{OFFICE}\n{second.identifier}\n")}),
        lambda keys: change.disable_clients(opened, keys, reason="x"),
    )
    assert [(one.line, one.outcome, one.failure) for one in outcomes] == [
        (1, "failed", "ambiguous_client"),
        (2, "disabled", None),
    ]
    assert [one.reference for one in Client.select().where(Client.disabled_at.is_null())] == ["D-1"]
