"""Find a client by a part of a name or e-mail: the only match, a list of several, never a guess."""

from collections.abc import Sequence

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from egec_cli.clients import fields, records
from egec_cli.clients.records import AmbiguousClient
from egec_cli.context import Context
from egec_cli.errors import ClientNotFound
from egec_cli.store.models import Client

# Few letters, so that names share parts.
WORD = st.text("abé", min_size=1, max_size=3)


def create(context: Context, email: str, **names: str) -> Client:
    return records.create_client(context, fields.parse_fields(email, **names))


@pytest.fixture
def marc(opened: Context) -> Client:
    """Return one of three clients."""
    create(opened, "jeanne@example.org", first_name="Jeanne", last_name="Éluard", reference="petit")
    create(opened, "anne-marie@example.org", last_name="Petitjean", given_identifier="5079512743")
    return create(opened, "marc@example.com", first_name="Marc", last_name="Petit")


@pytest.mark.parametrize(
    "part", ["marc", "MARC", " Marc  Petit ", "petit marc", "marc@exam", ".com", "arc pet", "Marc\u00a0Petit"]
)
def test_a_part_that_only_one_client_has_finds_the_client(opened: Context, marc: Client, part: str) -> None:
    assert records.find_by_part(part) == marc


@pytest.mark.parametrize("part", ["éluard", "E\u0301LUARD"])
def test_letters_with_accents_match_in_any_case_and_form(opened: Context, marc: Client, part: str) -> None:
    found = records.find_by_part(part)
    assert found is not None
    assert found.last_name == "Éluard"


@pytest.mark.parametrize("part", ["", "  ", "nobody", "marc nobody", "%", "_", "a\0b", "\udcff"])
def test_what_no_client_has_finds_none(opened: Context, marc: Client, part: str) -> None:
    assert records.find_by_part(part) is None


# Each is contained in the e-mail of a client, or nearly the key of one.
@pytest.mark.parametrize("key", ["marie@example.org", "marc@example.co", "5079512734", "ref:petit", "ref:marc"])
def test_a_complete_key_is_never_taken_for_a_part(opened: Context, marc: Client, key: str) -> None:
    assert records.find_by_part(key) is None


def test_several_matches_are_listed_and_none_is_chosen(opened: Context, marc: Client) -> None:
    with pytest.raises(AmbiguousClient) as caught:
        records.find_by_part("petit")
    assert [client.last_name for client in caught.value.clients] == ["Petit", "Petitjean"]
    assert caught.value.message == "'petit' matches 2 clients"
    assert (caught.value.code, caught.value.exit_code) == ("ambiguous_client", 67)


def test_of_many_matches_the_first_are_listed_and_all_are_counted(opened: Context) -> None:
    for number in range(records.MOST_LISTED + 2):
        create(opened, f"c{number}@example.org")
    with pytest.raises(AmbiguousClient) as caught:
        records.find_by_part("example")
    assert len(caught.value.clients) == records.MOST_LISTED
    assert str(records.MOST_LISTED + 2) in caught.value.message


def test_an_erased_client_is_not_found(opened: Context, marc: Client) -> None:
    Client.update(email=None, email_key=None, first_name="", last_name="").where(Client.id == marc.id).execute()
    assert records.find_by_part("marc") is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.tuples(WORD, WORD), min_size=1, max_size=5), typed=st.lists(WORD, min_size=1, max_size=2))
def test_a_client_is_found_only_if_no_other_matches(
    opened: Context, names: Sequence[tuple[str, str]], typed: Sequence[str]
) -> None:
    with opened.database.atomic() as transaction:
        for number, (first_name, last_name) in enumerate(names):
            create(opened, f"{number}@x.fr", first_name=first_name, last_name=last_name)
        matching = [
            (first, last)
            for number, (first, last) in enumerate(names)
            if all(word in first or word in last or word in f"{number}@x.fr" for word in typed)
        ]
        if len(matching) > 1:
            with pytest.raises(AmbiguousClient) as caught:
                records.find_by_part(" ".join(typed))
            assert len(caught.value.clients) == len(matching)
        else:
            found = records.find_by_part(" ".join(typed))
            assert ([] if found is None else [(found.first_name, found.last_name)]) == matching
        transaction.rollback()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=12))
def test_without_a_part_a_client_is_found_by_a_whole_key_only(opened: Context, text: str) -> None:
    with opened.database.atomic() as transaction:
        made = create(opened, "marc@example.com", last_name="Petit", reference="D 47", given_identifier="5079512743")
        for key in ("marc@example.com", " MARC@Example.com", "5079512743", "ref:D 47", "D  47 "):
            assert records.find_client(key) == made
        for part in (text, f"marc@example.co{text}", f"5079512{text}", f"D 4{text}"):
            if fields.normalize(part).casefold() not in {"marc@example.com", "5079512743", "d 47"}:
                with pytest.raises(ClientNotFound):
                    records.find_client(part)
        transaction.rollback()


def test_a_bare_reference_comes_after_an_identifier_and_an_email(opened: Context) -> None:
    by_identifier = create(opened, "a@example.org", given_identifier="5079512743")
    by_email = create(opened, "b@example.org", reference="5079512743")
    create(opened, "c@example.org", reference="b@example.org")
    assert records.find_client("5079512743") == by_identifier
    assert records.find_client("ref:5079512743") == by_email
    assert records.find_client("b@example.org") == by_email


@pytest.mark.parametrize("reference", ["D-2047", "no@address", "0123456789", "ref", "Ém 1"])
def test_a_bare_reference_of_any_form_finds_its_client(opened: Context, reference: str) -> None:
    made = create(opened, "a@example.org", reference=reference)
    assert records.find_client(reference) == made
