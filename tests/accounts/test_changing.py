"""Files updated, disabled, enabled and erased, on both databases."""

import sqlite3
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from egec_cli import hashing, settings
from egec_cli.accounts import changing, clients, credentials, fields, issuing, leases, login, login_limits, story
from egec_cli.accounts import egec as accounts_egec
from egec_cli.accounts.changing import ChangeOutcome, ChangeRecord
from egec_cli.accounts.client_list import ClientList
from egec_cli.accounts.credentials import NewCredential, Outcome
from egec_cli.accounts.egec import Egec
from egec_cli.accounts.issuing import HandedOver
from egec_cli.errors import AlreadyExists, BadInput, EgecError, NoSuchClient, NotPermitted
from egec_cli.settings import Database, SqliteFile
from egec_cli.store import database as store
from egec_cli.store.models import Client, Credential, CredentialState, Event, ReissueItem, ReissueRun

GONE = "client_erased"


def made(egec: Egec, email: str = "jeanne@example.org", **given: str) -> Client:
    return clients.create(egec, fields.checked(email, **given))


def password_of(egec: Egec, client: Client) -> str:
    """Issue a password for a client and return it."""
    shown: list[HandedOver] = []
    issuing.hand_over(egec, clients.find(client.identifier), shown.append, hashing=hashing.begin(egec.settings))
    return shown[0].password.reveal()


def outcome_of(records: Mapping[int, ChangeRecord], client: Client) -> tuple[str, str | None]:
    return records[client.id].outcome, records[client.id].failure


def actions(client: Client) -> list[str]:
    return [event.action for event in Event.select().where(Event.client == client).order_by(Event.id)]


def test_an_update_changes_what_is_given_and_clears_what_is_given_as_empty(opened: Egec) -> None:
    client = made(opened, civility="Mme", first_name="Jeanne", last_name="Dupont", reference="D-1", language="fr")
    changing.update(opened, client, {"last_name": "Petit", "civility": "", "reference": "", "email": "JP@example.org"})
    record = clients.shown(clients.find("jp@example.org"), opened.clock())
    assert (record.last_name, record.civility, record.reference, record.email) == ("Petit", "", None, "JP@example.org")
    assert (record.first_name, record.language, record.identifier) == ("Jeanne", "fr", client.identifier)


def test_the_event_of_an_update_names_the_fields_and_none_of_their_values(opened: Egec) -> None:
    client = made(opened, last_name="Dupont")
    changing.update(opened, client, {"last_name": "Petit", "email": "petit@example.org", "first_name": ""})
    changing.update(opened, client, {"last_name": "Petit"})
    [event] = Event.select().where(Event.action == "client.update")
    assert event.details == '{"fields": ["email", "last_name"]}'


def test_an_email_or_reference_of_another_is_refused_and_nothing_changes(opened: Egec) -> None:
    client, other = made(opened, reference="D-1"), made(opened, "other@example.org", reference="D-2")
    for given in ({"email": "OTHER@example.org"}, {"reference": " D-2", "last_name": "Petit"}):
        with pytest.raises(AlreadyExists, match=other.identifier):
            changing.update(opened, client, given)
    changing.update(opened, client, {"email": "JEANNE@example.org", "reference": "D-1"})
    assert clients.find("jeanne@example.org").last_name == ""


@pytest.mark.parametrize("bad", [{"email": ""}, {"email": "x"}, {"language": "de"}, {"civility": "Lord"}])
def test_a_bad_value_is_refused(opened: Egec, bad: dict[str, str]) -> None:
    with pytest.raises(BadInput):
        changing.update(opened, made(opened), bad)


def test_of_many_that_give_the_same_email_at_once_one_succeeds(opened: Egec) -> None:
    files = [made(opened, f"c{number}@example.org") for number in range(8)]

    def take(client: Client) -> str:
        try:
            return changing.update(opened, client, {"email": "wanted@example.org"}).client.identifier
        except EgecError as error:
            return type(error).__name__
        finally:
            opened.database.close()

    with ThreadPoolExecutor(8) as pool:
        results = sorted(pool.map(take, files))
    assert results[1:] == ["AlreadyExists"] * 7


def test_a_disabled_client_cannot_log_in_until_enabled(opened: Egec) -> None:
    client = made(opened)
    password = password_of(opened, client)

    def may_enter() -> bool:
        return login.verify(opened, client.identifier, password).accepted

    assert may_enter()
    assert outcome_of(changing.disable(opened, [client.id], reason="left"), client) == ("disabled", None)
    assert not may_enter()
    assert outcome_of(changing.disable(opened, [client.id], reason="again"), client) == ("unchanged", None)
    assert outcome_of(changing.enable(opened, [client.id]), client) == ("enabled", None)
    assert outcome_of(changing.enable(opened, [client.id]), client) == ("unchanged", None)
    assert may_enter()
    assert [action for action in actions(client) if action.startswith("client.")] == [
        "client.create",
        "client.disable",
        "client.enable",
    ]


@pytest.mark.parametrize(
    "failed",
    [
        {"failed_logins": 10, "blocked_until": login_limits.FOR_GOOD},
        {"failed_logins": 5, "blocked_until": login_limits.FOR_GOOD},
        {"failed_logins": 10, "blocked_until": None},
        {"failed_logins": 1, "blocked_until": None},
    ],
)
def test_an_unblocked_client_logs_in_at_once_with_the_password_there_is(opened: Egec, failed: dict[str, Any]) -> None:
    client, other = made(opened), made(opened, "other@example.org")
    password = password_of(opened, client)
    Client.update(**failed).execute()
    assert outcome_of(changing.unblock(opened, [client.id]), client) == ("unblocked", None)
    assert outcome_of(changing.unblock(opened, [client.id]), client) == ("unchanged", None)
    assert login_limits.shown(client, opened.clock()) == (0, None)
    assert login.verify(opened, client.identifier, password).accepted
    assert Client.get_by_id(other.id).failed_logins == failed["failed_logins"]
    assert actions(client).count("client.unblock") == 1
    [entry] = [entry for entry in story.of(opened, client).entries if entry.what == "client.unblock"]
    assert (entry.outcome, entry.details) == ("unblocked", {})


def test_an_unblocked_client_who_fails_again_waits_again_and_stays_disabled_if_disabled(opened: Egec) -> None:
    client = made(opened)
    password = password_of(opened, client)
    Client.update(failed_logins=9, blocked_until=None).execute()
    changing.unblock(opened, [client.id])
    for _ in range(5):
        assert not login.verify(opened, client.identifier, "wrong").accepted
    failures, blocked_until = login_limits.shown(client, opened.clock())
    assert failures == 5
    assert blocked_until is not None
    assert login_limits.shown(client, opened.clock() + timedelta(minutes=2)) == (5, None)
    changing.disable(opened, [client.id], reason="left")
    assert outcome_of(changing.unblock(opened, [client.id]), client) == ("unblocked", None)
    assert not login.verify(opened, client.identifier, password).accepted


def test_to_disable_needs_a_reason_which_the_story_tells(opened: Egec) -> None:
    client = made(opened)
    with pytest.raises(BadInput):
        changing.disable(opened, [client.id], reason="  ")
    changing.disable(opened, [client.id], reason="contract  ended")
    assert story.of(opened, client).entries[-1].details == {"reason": "contract ended"}


def test_an_erased_client_keeps_the_identifier_and_nothing_else(opened: Egec) -> None:
    """P4: the identifier never changes, and nobody else ever gets it."""
    client = made(opened, reference="D-1", civility="Mme", first_name="Jeanne", last_name="Dupont", language="fr")
    password = password_of(opened, client)
    login.verify(opened, client.identifier, password)
    assert outcome_of(changing.erase(opened, [client.id]), client) == ("erased", None)
    stored = Client.get_by_id(client.id)
    assert stored.identifier == client.identifier
    for name in ("email", "email_key", "reference", "civility", "first_name", "last_name", "language", "last_login_at"):
        assert not getattr(stored, name)
    assert not login.verify(opened, client.identifier, password).accepted
    assert {row.state for row in Credential.select()} == {CredentialState.REVOKED}
    assert outcome_of(changing.erase(opened, [client.id]), client) == ("unchanged", None)
    assert outcome_of(changing.enable(opened, [client.id]), client) == ("failed", GONE)
    assert outcome_of(changing.disable(opened, [client.id], reason="x"), client) == ("failed", GONE)
    with pytest.raises(NotPermitted) as refused:
        changing.update(opened, client, {"last_name": "Dupont"})
    assert refused.value.code == GONE
    with pytest.raises(NotPermitted) as refused:
        password_of(opened, client)
    assert refused.value.code == GONE


def test_an_erased_identifier_is_reserved_for_ever_and_the_email_is_free(opened: Egec) -> None:
    client = made(opened, reference="D-1")
    changing.erase(opened, [client.id])
    with pytest.raises(NoSuchClient):
        clients.find("jeanne@example.org")
    with pytest.raises(AlreadyExists) as refused:
        made(opened, "other@example.org", given_identifier=client.identifier)
    assert refused.value.code == "identifier_reserved"
    assert made(opened, reference="D-1").identifier != client.identifier


def recorded(egec: Egec, client: Client) -> credentials.Recorded:
    """Record a credential whose mail is under way."""
    new = NewCredential(client.id, hashing.begin(egec.settings).result(), "<id@example.org>")
    with egec.database.atomic():
        return credentials.record([new], at=egec.clock(), by="test", unused_days=0)[client.id]


def test_a_mail_under_way_when_its_client_is_erased_never_opens_the_account(opened: Egec) -> None:
    client = made(opened)
    under_way = recorded(opened, client)
    changing.erase(opened, [client.id])
    with opened.database.atomic():
        reply = "250 queued for jeanne@example.org"
        states = credentials.settle([Outcome(under_way, CredentialState.ACCEPTED, None, reply)], at=opened.clock())
    assert states == {under_way: CredentialState.REVOKED}
    stored = Client.get_by_id(client.id)
    assert stored.revoked_below > stored.last_sequence > stored.active_sequence
    assert Credential.get_by_id(under_way.key).server_reply is None


def test_who_is_being_mailed_is_erased_later(opened: Egec) -> None:
    client = made(opened)
    lease = leases.take(opened, client)
    assert outcome_of(changing.erase(opened, [client.id]), client) == ("failed", "client_busy")
    assert Client.get_by_id(client.id).email == "jeanne@example.org"
    lease.release()
    assert outcome_of(changing.erase(opened, [client.id]), client) == ("erased", None)


def test_an_issue_that_was_begun_before_its_client_was_erased_mails_nothing(opened: Egec) -> None:
    client = made(opened)
    changing.erase(opened, [client.id])
    handed_over: list[HandedOver] = []
    with pytest.raises(NotPermitted):
        # The file as it was read before.
        issuing.hand_over(opened, client, handed_over.append, hashing=hashing.begin(opened.settings))
    assert handed_over == []
    assert Credential.select().count() == 0


BAIT = ("jeanne", "dupont", "d-4711", "quoted words")


def with_history(egec: Egec) -> Client:
    """Return a client of whom the database knows something everywhere."""
    client = made(
        egec, "Jeanne.Bait@Example.org", first_name="Jeanne", last_name="Dupont", reference="D-4711", civility="Mme"
    )
    for state in (CredentialState.REFUSED, CredentialState.ACCEPTED):
        one = recorded(egec, client)
        with egec.database.atomic():
            credentials.settle([Outcome(one, state, "mail_refused", "550 jeanne quoted words")], at=egec.clock())
    run = ReissueRun.create(name="spring", selection="{}", state="done", options="{}", created_at=egec.clock())
    ReissueItem.create(
        run=run, client=client, state="failed", not_before=egec.clock(), failure="x", details="<jeanne> quoted words"
    )
    changing.disable(egec, [client.id], reason="Jeanne Dupont, quoted words")
    return client


def test_nothing_of_an_erased_client_is_left_in_any_table(opened: Egec, location: Database) -> None:
    client = with_history(opened)
    changing.erase(opened, [client.id])
    for table in (Client, Credential, ReissueItem, ReissueRun, Event):
        content = str(list(table.select().dicts())).casefold()
        assert client.identifier in content or table is not Client
        assert not any(bait in content for bait in BAIT), table


def test_nothing_of_an_erased_client_is_left_in_the_files_of_the_embedded_database(tmp_path: Path) -> None:
    accounts_egec.create(settings.load())
    with accounts_egec.opened(settings.load()) as egec:
        for number in range(300):
            made(egec, f"c{number}@example.org", last_name=f"Name {number}")
            if number == 150:
                client = with_history(egec)
        database = settings.load().database
        assert isinstance(database, SqliteFile)
        files = [path for path in database.path.parent.iterdir() if path.is_file()]

        def content() -> bytes:
            return b"".join(path.read_bytes() for path in files).lower()

        assert len(files) == 3
        assert all(bait.encode() in content() for bait in BAIT)
        changing.erase(egec, [client.id])
        assert changing.leave_no_trace()
        assert [bait for bait in BAIT if bait.encode() in content()] == []


def test_nothing_is_left_in_unused_parts_of_the_file_where_rows_have_moved() -> None:
    accounts_egec.create(settings.load())
    database = settings.load().database
    assert isinstance(database, SqliteFile)
    with closing(sqlite3.connect(database.path, isolation_level=None)) as careless:
        careless.execute("PRAGMA secure_delete = 0")
        careless.execute("CREATE TABLE moved (word TEXT)")
        careless.executemany("INSERT INTO moved VALUES (?)", [("left-behind",)] * 500)
        careless.execute("DELETE FROM moved")
    with accounts_egec.opened(settings.load()) as egec:
        changing.erase(egec, [made(egec).id])
        assert b"left-behind" in database.path.read_bytes()
        assert changing.leave_no_trace()
        assert b"left-behind" not in database.path.read_bytes()


def test_a_log_that_another_process_reads_is_told_as_not_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BUSY_TIMEOUT", 0.1)
    accounts_egec.create(settings.load())
    with accounts_egec.opened(settings.load()) as egec:
        client = made(egec)
        database = settings.load().database
        assert isinstance(database, SqliteFile)
        reader = sqlite3.connect(database.path)
        rows = reader.execute("SELECT email FROM client")
        reader.execute("BEGIN")
        rows = reader.execute("SELECT email FROM client")
        changing.erase(egec, [client.id])
        assert not changing.leave_no_trace()
        rows.close()
        reader.close()
        assert changing.leave_no_trace()


def names(content: str) -> ClientList:
    return ClientList("names.txt", BytesIO(content.encode()))


def outcomes(egec: Egec, content: str, act: Any) -> list[tuple[int | None, str, str | None]]:
    records = changing.for_each(egec, names(content), partial(act, egec))
    return [(record.line, record.outcome, record.failure) for record in records]


def test_each_line_of_a_list_gets_its_outcome_in_the_order_of_the_list(opened: Egec) -> None:
    a, b, gone = made(opened, "a@example.org"), made(opened, "b@example.org", reference="D-1"), made(opened)
    changing.erase(opened, [gone.id])
    content = f"ref:D-1\nnobody@example.org\n\na@example.org\n{gone.identifier}\n{b.identifier}\n"
    disable = partial(changing.disable, reason="left")
    expected = [
        (1, "disabled", None),
        (2, "failed", "no_such_client"),
        (4, "disabled", None),
        (5, "failed", GONE),
        (6, "unchanged", None),
    ]
    assert outcomes(opened, content, disable) == expected
    assert [outcome for _, outcome, _ in outcomes(opened, content, disable)] == [
        "unchanged" if outcome == "disabled" else outcome for _, outcome, _ in expected
    ]
    assert outcomes(opened, f"a@example.org\n{gone.identifier}\nnobody\n", changing.unblock) == [
        (1, "unchanged", None),
        (2, "failed", GONE),
        (3, "failed", "no_such_client"),
    ]
    assert outcomes(opened, f"{a.identifier}\n{gone.identifier}\n", changing.erase) == [
        (1, "erased", None),
        (2, "unchanged", None),
    ]


def test_a_kill_leaves_the_first_turns_done_and_the_same_again_ends_as_if_there_had_been_none(opened: Egec) -> None:
    for number in range(1203):
        Client.create(
            identifier=str(10**9 + number),
            email=f"c{number}@example.org",
            email_key=f"c{number}@example.org",
            created_at=opened.clock(),
            updated_at=opened.clock(),
        )
    content = "".join(f"c{number}@example.org\n" for number in range(1203))
    turns: list[int] = []

    def disable_until_killed(egec: Egec, keys: Sequence[int]) -> dict[int, ChangeRecord]:
        turns.append(len(keys))
        if len(turns) == 3:
            raise KeyboardInterrupt
        return changing.disable(egec, keys, reason="left")

    with pytest.raises(KeyboardInterrupt):
        outcomes(opened, content, disable_until_killed)
    assert turns == [500, 500, 203]
    again = outcomes(opened, content, partial(changing.disable, reason="left"))
    assert [outcome for _, outcome, _ in again] == [ChangeOutcome.UNCHANGED] * 1000 + [ChangeOutcome.DISABLED] * 203
    assert Event.select().where(Event.action == "client.disable").count() == 1203


def test_a_list_that_cannot_be_read_changes_nobody(opened: Egec) -> None:
    made(opened, "a@example.org")
    with pytest.raises(BadInput):
        outcomes(opened, "a@example.org\n\0\n", changing.erase)
    assert clients.find("a@example.org").email == "a@example.org"


def test_a_lease_of_a_crashed_process_keeps_nobody_from_being_erased(opened: Egec) -> None:
    client = made(opened)
    Client.update(lease_owner="elsewhere/1/1/x", lease_until=opened.clock() - timedelta(seconds=1)).execute()
    assert outcome_of(changing.erase(opened, [client.id]), client) == ("erased", None)
