"""Update, disable, enable, unblock and erase clients, on both databases."""

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

from egec_cli import context as accounts_egec
from egec_cli import hashing
from egec_cli.clients import change, fields, history, update
from egec_cli.clients.change import ChangeOutcome, ChangeRecord
from egec_cli.clients.name_files import ClientList, NamedClients
from egec_cli.clients.records import create_client, find_client, load_record
from egec_cli.context import Context
from egec_cli.credentials import issue, leases
from egec_cli.credentials.issue import NewPassword
from egec_cli.credentials.states import (
    MailOutcome,
    NewCredential,
    RecordedCredential,
    record_credentials,
    settle_credentials,
)
from egec_cli.credentials.validity import local_moment
from egec_cli.errors import AlreadyExists, ClientNotFound, EgecError, InvalidInput, PermissionDenied
from egec_cli.logins import limits
from egec_cli.logins.verify import verify_login
from egec_cli.settings import load
from egec_cli.settings.types import Database, SqliteFile
from egec_cli.store import database as store
from egec_cli.store.models import Client, Credential, CredentialState, Event, ReissueItem, ReissueRun
from egec_cli.store.sql import vacuum

GONE = "client_erased"


def made(egec: Context, email: str = "jeanne@example.org", **given: str) -> Client:
    return create_client(egec, fields.parse_fields(email, **given))


def password_of(egec: Context, client: Client) -> str:
    """Issue a password for a client and return it."""
    shown: list[NewPassword] = []
    issue.issue_to_operator(
        egec, find_client(client.identifier), shown.append, hashing=hashing.start_hash(egec.settings)
    )
    return shown[0].password.reveal()


def outcome_of(records: Mapping[int, ChangeRecord], client: Client) -> tuple[str, str | None]:
    return records[client.id].outcome, records[client.id].failure


def actions(client: Client) -> list[str]:
    return [event.action for event in Event.select().where(Event.client == client).order_by(Event.id)]


def test_an_update_changes_what_is_given_and_clears_what_is_given_as_empty(opened: Context) -> None:
    client = made(opened, civility="Mme", first_name="Jeanne", last_name="Dupont", reference="D-1", language="fr")
    update.update_client(
        opened, client, {"last_name": "Petit", "civility": "", "reference": "", "email": "JP@example.org"}
    )
    record = load_record(find_client("jp@example.org"), local_moment(opened))
    assert (record.last_name, record.civility, record.reference, record.email) == ("Petit", "", None, "JP@example.org")
    assert (record.first_name, record.language, record.identifier) == ("Jeanne", "fr", client.identifier)


def test_the_event_of_an_update_names_the_fields_and_not_their_values(opened: Context) -> None:
    client = made(opened, last_name="Dupont")
    update.update_client(opened, client, {"last_name": "Petit", "email": "petit@example.org", "first_name": ""})
    update.update_client(opened, client, {"last_name": "Petit"})
    [event] = Event.select().where(Event.action == "client.update")
    assert event.details == '{"fields": ["email", "last_name"]}'


def test_an_email_or_reference_of_another_client_is_refused_and_nothing_changes(opened: Context) -> None:
    client, other = made(opened, reference="D-1"), made(opened, "other@example.org", reference="D-2")
    for given in ({"email": "OTHER@example.org"}, {"reference": " D-2", "last_name": "Petit"}):
        with pytest.raises(AlreadyExists, match=other.identifier):
            update.update_client(opened, client, given)
    update.update_client(opened, client, {"email": "JEANNE@example.org", "reference": "D-1"})
    assert find_client("jeanne@example.org").last_name == ""


@pytest.mark.parametrize("bad", [{"email": ""}, {"email": "x"}, {"language": "de"}, {"civility": "Lord"}])
def test_an_invalid_value_is_refused(opened: Context, bad: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        update.update_client(opened, made(opened), bad)


def test_only_one_of_many_concurrent_updates_to_the_same_email_succeeds(opened: Context) -> None:
    files = [made(opened, f"c{number}@example.org") for number in range(8)]

    def take(client: Client) -> str:
        try:
            return update.update_client(opened, client, {"email": "wanted@example.org"}).client.identifier
        except EgecError as error:
            return type(error).__name__
        finally:
            opened.database.close()

    with ThreadPoolExecutor(8) as pool:
        results = sorted(pool.map(take, files))
    assert results[1:] == ["AlreadyExists"] * 7


def test_a_disabled_client_cannot_log_in_until_enabled(opened: Context) -> None:
    client = made(opened)
    password = password_of(opened, client)

    def can_log_in() -> bool:
        return verify_login(opened, client.identifier, password).accepted

    assert can_log_in()
    assert outcome_of(change.disable_clients(opened, [client.id], reason="left"), client) == ("disabled", None)
    assert not can_log_in()
    assert outcome_of(change.disable_clients(opened, [client.id], reason="again"), client) == ("unchanged", None)
    assert outcome_of(change.enable_clients(opened, [client.id]), client) == ("enabled", None)
    assert outcome_of(change.enable_clients(opened, [client.id]), client) == ("unchanged", None)
    assert can_log_in()
    assert [action for action in actions(client) if action.startswith("client.")] == [
        "client.create",
        "client.disable",
        "client.enable",
    ]


@pytest.mark.parametrize(
    "failed",
    [
        {"failed_logins": 10, "blocked_until": limits.UNTIL_NEW_CREDENTIAL},
        {"failed_logins": 5, "blocked_until": limits.UNTIL_NEW_CREDENTIAL},
        {"failed_logins": 10, "blocked_until": None},
        {"failed_logins": 1, "blocked_until": None},
    ],
)
def test_an_unblocked_client_can_log_in_immediately_with_the_current_password(
    opened: Context, failed: dict[str, Any]
) -> None:
    client, other = made(opened), made(opened, "other@example.org")
    password = password_of(opened, client)
    Client.update(**failed).execute()
    assert outcome_of(change.unblock_clients(opened, [client.id]), client) == ("unblocked", None)
    assert outcome_of(change.unblock_clients(opened, [client.id]), client) == ("unchanged", None)
    assert limits.load_limits(client, opened.clock()) == (0, None)
    assert verify_login(opened, client.identifier, password).accepted
    assert Client.get_by_id(other.id).failed_logins == failed["failed_logins"]
    assert actions(client).count("client.unblock") == 1
    [entry] = [entry for entry in history.load_history(opened, client).entries if entry.action == "client.unblock"]
    assert (entry.outcome, entry.details) == ("unblocked", {})


def test_an_unblocked_client_who_fails_again_waits_again_and_stays_disabled_if_disabled(opened: Context) -> None:
    client = made(opened)
    password = password_of(opened, client)
    Client.update(failed_logins=9, blocked_until=None).execute()
    change.unblock_clients(opened, [client.id])
    for _ in range(5):
        assert not verify_login(opened, client.identifier, "wrong").accepted
    failures, blocked_until = limits.load_limits(client, opened.clock())
    assert failures == 5
    assert blocked_until is not None
    assert limits.load_limits(client, opened.clock() + timedelta(minutes=2)) == (5, None)
    change.disable_clients(opened, [client.id], reason="left")
    assert outcome_of(change.unblock_clients(opened, [client.id]), client) == ("unblocked", None)
    assert not verify_login(opened, client.identifier, password).accepted


def test_disabling_needs_a_reason_which_the_history_shows(opened: Context) -> None:
    client = made(opened)
    with pytest.raises(InvalidInput):
        change.disable_clients(opened, [client.id], reason="  ")
    change.disable_clients(opened, [client.id], reason="contract  ended")
    assert history.load_history(opened, client).entries[-1].details == {"reason": "contract ended"}


def test_an_erased_client_keeps_the_identifier_and_nothing_else(opened: Context) -> None:
    """P4: the identifier never changes, and no other client ever gets it."""
    client = made(opened, reference="D-1", civility="Mme", first_name="Jeanne", last_name="Dupont", language="fr")
    password = password_of(opened, client)
    verify_login(opened, client.identifier, password)
    assert outcome_of(change.erase_clients(opened, [client.id]), client) == ("erased", None)
    stored = Client.get_by_id(client.id)
    assert stored.identifier == client.identifier
    for name in ("email", "email_key", "reference", "civility", "first_name", "last_name", "language", "last_login_at"):
        assert not getattr(stored, name)
    assert not verify_login(opened, client.identifier, password).accepted
    assert {row.state for row in Credential.select()} == {CredentialState.REVOKED}
    assert outcome_of(change.erase_clients(opened, [client.id]), client) == ("unchanged", None)
    assert outcome_of(change.enable_clients(opened, [client.id]), client) == ("failed", GONE)
    assert outcome_of(change.disable_clients(opened, [client.id], reason="x"), client) == ("failed", GONE)
    with pytest.raises(PermissionDenied) as refused:
        update.update_client(opened, client, {"last_name": "Dupont"})
    assert refused.value.code == GONE
    with pytest.raises(PermissionDenied) as refused:
        password_of(opened, client)
    assert refused.value.code == GONE


def test_an_erased_identifier_stays_reserved_and_the_email_is_free(opened: Context) -> None:
    client = made(opened, reference="D-1")
    change.erase_clients(opened, [client.id])
    with pytest.raises(ClientNotFound):
        find_client("jeanne@example.org")
    with pytest.raises(AlreadyExists) as refused:
        made(opened, "other@example.org", given_identifier=client.identifier)
    assert refused.value.code == "identifier_reserved"
    assert made(opened, reference="D-1").identifier != client.identifier


def recorded(egec: Context, client: Client) -> RecordedCredential:
    """Record a credential whose mail is under way."""
    new = NewCredential(client.id, hashing.start_hash(egec.settings).result(), "<id@example.org>")
    with egec.database.atomic():
        return record_credentials([new], at=egec.clock(), by="test", expires_at=None)[client.id]


def test_a_mail_under_way_when_its_client_is_erased_never_opens_the_account(opened: Context) -> None:
    client = made(opened)
    under_way = recorded(opened, client)
    change.erase_clients(opened, [client.id])
    with opened.database.atomic():
        reply = "250 queued for jeanne@example.org"
        states = settle_credentials([MailOutcome(under_way, CredentialState.ACCEPTED, None, reply)], at=opened.clock())
    assert states == {under_way: CredentialState.REVOKED}
    stored = Client.get_by_id(client.id)
    assert stored.revoked_below > stored.last_sequence > stored.active_sequence
    assert Credential.get_by_id(under_way.key).server_reply is None


def test_a_client_who_is_being_mailed_is_erased_later(opened: Context) -> None:
    client = made(opened)
    lease = leases.take_lease(opened, client)
    assert outcome_of(change.erase_clients(opened, [client.id]), client) == ("failed", "client_busy")
    assert Client.get_by_id(client.id).email == "jeanne@example.org"
    lease.release()
    assert outcome_of(change.erase_clients(opened, [client.id]), client) == ("erased", None)


def test_an_issue_started_before_its_client_was_erased_mails_nothing(opened: Context) -> None:
    client = made(opened)
    change.erase_clients(opened, [client.id])
    handed_over: list[NewPassword] = []
    with pytest.raises(PermissionDenied):
        # `client` was read before the erasure.
        issue.issue_to_operator(opened, client, handed_over.append, hashing=hashing.start_hash(opened.settings))
    assert handed_over == []
    assert Credential.select().count() == 0


BAIT = ("jeanne", "dupont", "d-4711", "quoted words")


def with_history(egec: Context) -> Client:
    """Return a client with personal data in every table."""
    client = made(
        egec, "Jeanne.Bait@Example.org", first_name="Jeanne", last_name="Dupont", reference="D-4711", civility="Mme"
    )
    for state in (CredentialState.REFUSED, CredentialState.ACCEPTED):
        one = recorded(egec, client)
        with egec.database.atomic():
            settle_credentials([MailOutcome(one, state, "mail_refused", "550 jeanne quoted words")], at=egec.clock())
    run = ReissueRun.create(name="spring", selection="{}", state="done", options="{}", created_at=egec.clock())
    ReissueItem.create(
        run=run, client=client, state="failed", not_before=egec.clock(), failure="x", details="<jeanne> quoted words"
    )
    change.disable_clients(egec, [client.id], reason="Jeanne Dupont, quoted words")
    return client


def test_no_personal_data_of_an_erased_client_is_left_in_any_table(opened: Context, location: Database) -> None:
    client = with_history(opened)
    change.erase_clients(opened, [client.id])
    for table in (Client, Credential, ReissueItem, ReissueRun, Event):
        content = str(list(table.select().dicts())).casefold()
        assert client.identifier in content or table is not Client
        assert not any(bait in content for bait in BAIT), table


def test_no_personal_data_of_an_erased_client_is_left_in_the_files_of_sqlite(tmp_path: Path) -> None:
    accounts_egec.create_database(load.load_settings())
    with accounts_egec.open_context(load.load_settings()) as egec:
        for number in range(300):
            made(egec, f"c{number}@example.org", last_name=f"Name {number}")
            if number == 150:
                client = with_history(egec)
        database = load.load_settings().database
        assert isinstance(database, SqliteFile)
        files = [path for path in database.path.parent.iterdir() if path.is_file()]

        def content() -> bytes:
            return b"".join(path.read_bytes() for path in files).lower()

        assert len(files) == 3
        assert all(bait.encode() in content() for bait in BAIT)
        change.erase_clients(egec, [client.id])
        assert change.purge_erased_data()
        assert [bait for bait in BAIT if bait.encode() in content()] == []


def test_nothing_is_left_in_unused_parts_of_the_file_after_rows_have_moved() -> None:
    accounts_egec.create_database(load.load_settings())
    database = load.load_settings().database
    assert isinstance(database, SqliteFile)
    with closing(sqlite3.connect(database.path, isolation_level=None)) as careless:
        careless.execute("PRAGMA secure_delete = 0")
        careless.execute("CREATE TABLE moved (word TEXT)")
        careless.executemany("INSERT INTO moved VALUES (?)", [("left-behind",)] * 500)
        careless.execute("DELETE FROM moved")
    with accounts_egec.open_context(load.load_settings()) as egec:
        change.erase_clients(egec, [made(egec).id])
        assert b"left-behind" in database.path.read_bytes()
        assert change.purge_erased_data()
        assert b"left-behind" not in database.path.read_bytes()


def test_a_purge_reports_that_another_process_still_reads_the_old_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BUSY_TIMEOUT", 0.1)
    accounts_egec.create_database(load.load_settings())
    with accounts_egec.open_context(load.load_settings()) as egec:
        client = made(egec)
        database = load.load_settings().database
        assert isinstance(database, SqliteFile)
        reader = sqlite3.connect(database.path)
        rows = reader.execute("SELECT email FROM client")
        reader.execute("BEGIN")
        rows = reader.execute("SELECT email FROM client")
        change.erase_clients(egec, [client.id])
        assert not change.purge_erased_data()
        rows.close()
        reader.close()
        assert change.purge_erased_data()


def test_copies_are_recorded_until_a_purge_and_those_of_an_erasure_meanwhile_stay_recorded(
    opened: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (made(opened, f"c{number}@example.org").id for number in range(3))
    assert not change.may_have_copies()
    change.erase_clients(opened, [first])
    assert change.may_have_copies()
    assert change.purge_erased_data()
    assert not change.may_have_copies()
    change.erase_clients(opened, [first])
    assert not change.may_have_copies()
    change.erase_clients(opened, [second])

    def rewrite_and_erase() -> bool:
        is_done = vacuum()
        change.erase_clients(opened, [third])
        return is_done

    with monkeypatch.context() as patch:
        patch.setattr(change, "vacuum", rewrite_and_erase)
        assert change.purge_erased_data()
    assert change.may_have_copies()
    assert change.purge_erased_data()
    assert not change.may_have_copies()


def named(egec: Context, content: str) -> NamedClients:
    return NamedClients(egec, {"listed": ClientList("names.txt", BytesIO(content.encode()))})


def outcomes(egec: Context, content: str, act: Any) -> list[tuple[int | None, str, str | None]]:
    records = change.change_each(named(egec, content), partial(act, egec))
    return [(record.line, record.outcome, record.failure) for record in records]


def test_each_line_of_a_list_gets_its_result_in_the_order_of_the_list(opened: Context) -> None:
    a, b, gone = made(opened, "a@example.org"), made(opened, "b@example.org", reference="D-1"), made(opened)
    change.erase_clients(opened, [gone.id])
    content = f"ref:D-1\nunknown@example.org\n\na@example.org\n{gone.identifier}\n{b.identifier}\n"
    disable = partial(change.disable_clients, reason="left")
    expected = [
        (1, "disabled", None),
        (2, "failed", "unknown_client"),
        (4, "disabled", None),
        (5, "failed", GONE),
        (6, "unchanged", None),
    ]
    assert outcomes(opened, content, disable) == expected
    assert [outcome for _, outcome, _ in outcomes(opened, content, disable)] == [
        "unchanged" if outcome == "disabled" else outcome for _, outcome, _ in expected
    ]
    assert outcomes(opened, f"a@example.org\n{gone.identifier}\nunknown\n", change.unblock_clients) == [
        (1, "unchanged", None),
        (2, "failed", GONE),
        (3, "failed", "unknown_client"),
    ]
    assert outcomes(opened, f"{a.identifier}\n{gone.identifier}\n", change.erase_clients) == [
        (1, "erased", None),
        (2, "unchanged", None),
    ]


def test_the_number_of_lines_of_a_list_is_known_before_the_first_change(opened: Context) -> None:
    made(opened, "a@example.org")
    assert named(opened, "a@example.org\n\nunknown\n").count_lines() == 2


def test_after_a_kill_the_first_batches_are_done_and_the_same_command_completes_the_rest(opened: Context) -> None:
    for number in range(1203):
        Client.create(
            identifier=str(10**9 + number),
            email=f"c{number}@example.org",
            email_key=f"c{number}@example.org",
            created_at=opened.clock(),
            updated_at=opened.clock(),
        )
    content = "".join(f"c{number}@example.org\n" for number in range(1203))
    batches: list[int] = []

    def disable_until_killed(egec: Context, keys: Sequence[int]) -> dict[int, ChangeRecord]:
        batches.append(len(keys))
        if len(batches) == 3:
            raise KeyboardInterrupt
        return change.disable_clients(egec, keys, reason="left")

    with pytest.raises(KeyboardInterrupt):
        outcomes(opened, content, disable_until_killed)
    assert batches == [500, 500, 203]
    again = outcomes(opened, content, partial(change.disable_clients, reason="left"))
    assert [outcome for _, outcome, _ in again] == [ChangeOutcome.UNCHANGED] * 1000 + [ChangeOutcome.DISABLED] * 203
    assert Event.select().where(Event.action == "client.disable").count() == 1203


def test_an_invalid_list_changes_no_client(opened: Context) -> None:
    made(opened, "a@example.org")
    with pytest.raises(InvalidInput):
        outcomes(opened, "a@example.org\n\0\n", change.erase_clients)
    assert find_client("a@example.org").email == "a@example.org"


def test_an_expired_lease_of_a_crashed_process_does_not_prevent_erasing(opened: Context) -> None:
    client = made(opened)
    Client.update(lease_owner="elsewhere/1/1/x", lease_until=opened.clock() - timedelta(seconds=1)).execute()
    assert outcome_of(change.erase_clients(opened, [client.id]), client) == ("erased", None)
