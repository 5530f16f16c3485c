"""Client files changed: brought up to date, disabled, enabled, unblocked, erased. The identifier never changes.

What is done to many is done in turns, each of them a transaction: a kill leaves the first turns done, and the same
again ends as if there had been none.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple

from egec_cli import email_address
from egec_cli.accounts import audit, clients, credentials, fields, leases
from egec_cli.accounts.client_list import ClientList
from egec_cli.accounts.egec import Egec
from egec_cli.accounts.named_clients import NamedClients, NamedLine
from egec_cli.errors import AlreadyExists, BadInput, EgecError, FileSystemFailed, NoSuchClient, NotNow, NotPermitted
from egec_cli.store import database, peewee
from egec_cli.store.database import among, tuples
from egec_cli.store.models import OPEN_STATES, Client, Credential, CredentialState, Event, LoginPlace, ReissueItem
from egec_cli.translation import Words

# Each time, another process has just taken what was free.
_TRIES = 20


class ChangeOutcome(StrEnum):
    """What became of a client who was to be changed."""

    DISABLED = "disabled"
    ENABLED = "enabled"
    UNBLOCKED = "unblocked"
    ERASED = "erased"
    UNCHANGED = "unchanged"
    FAILED = "failed"


class ChangeRecord(NamedTuple):
    """One client who was to be changed.

    Attributes:
        identifier: the client's; None where a line names nobody.
        line: where a file named the client; None without a file.
        outcome: what became of it.
        failure: why it failed: `no_such_client`, `client_erased` or `client_busy`.
        details: the same for people.
    """

    identifier: str | None
    line: int | None
    outcome: ChangeOutcome
    failure: str | None = None
    details: str | None = None


class Updated(NamedTuple):
    """A client's file that was brought up to date.

    Attributes:
        former_email: the address that it had, where it has another one now; not where it is only written otherwise.
    """

    client: Client
    former_email: str | None


class _State(NamedTuple):
    """What a change depends on."""

    key: int
    identifier: str
    is_erased: bool
    is_disabled: bool
    has_failed_logins: bool


def update(egec: Egec, client: Client, given: Mapping[str, str]) -> Updated:
    """Change fields of a client's file and return it.

    Args:
        egec: where.
        client: whose.
        given: the new values by the names of the fields; an empty one clears it, but for the e-mail.

    Raises:
        BadInput: a value is not valid.
        AlreadyExists: the e-mail or the reference is another client's.
        NotPermitted: the file was erased.
    """
    values = _checked(given)
    for _ in range(_TRIES):
        try:
            with egec.database.atomic():
                credentials.lock([client.id])
                stored = Client.get_by_id(client.id)
                if stored.email is None:
                    raise _erased(stored.identifier)
                _require_free(stored, given, values)
                changed = {name: value for name, value in values.items() if getattr(stored, name) != value}
                if changed:
                    now = egec.clock()
                    # Of what came back from the former address, the new one knows nothing.
                    address = {"email_changed_at": now, "email_bounced_at": None} if "email_key" in changed else {}
                    Client.update(updated_at=now, **changed, **address).where(Client.id == client.id).execute()
                    names = sorted(changed.keys() - {"email_key"})
                    audit.record(egec, "client.update", "updated", client=stored, fields=names)
                former_email = stored.email if "email_key" in changed else None
                return Updated(Client.get_by_id(client.id), former_email)
        except peewee.IntegrityError:
            continue
    raise AlreadyExists("the e-mail or the reference is being given to others", "Run the same again.")


def _checked(given: Mapping[str, str]) -> dict[str, str | None]:
    """Return the new values by their columns."""
    check: dict[str, Callable[[str], str | None]] = {
        "reference": lambda text: fields.line(Words("reference"), text) or None,
        "civility": fields.known_civility,
        "first_name": partial(fields.line, Words("first name")),
        "last_name": partial(fields.line, Words("last name")),
        "language": fields.known_language,
    }
    values = {name: check[name](text) for name, text in given.items() if name != "email"}
    if "email" in given:
        email = email_address.checked(given["email"])
        values |= {"email": email.given, "email_key": email.key}
    return values


def _require_free(client: Client, given: Mapping[str, str], values: Mapping[str, str | None]) -> None:
    for field, name in ((Words("e-mail"), "email_key"), (Words("reference"), "reference")):
        if values.get(name) is not None:
            is_it = (getattr(Client, name) == values[name]) & (Client.id != client.id)
            other = Client.get_or_none(is_it)
            if other is not None:
                raise clients.taken(field, given["email" if name == "email_key" else name], other)


def disable(egec: Egec, keys: Sequence[int], *, reason: str) -> dict[int, ChangeRecord]:
    """Let no password open the accounts of these clients, and let them get no mail, until they are enabled.

    Args:
        egec: where.
        keys: the clients' keys.
        reason: why, for who reads the story of a client.

    Returns:
        What became of each, by the keys.

    Raises:
        BadInput: there is no reason, or it is no line of text.
    """
    words = fields.line(Words("reason"), reason)
    if not words:
        raise BadInput("the reason is empty", "Say why, such as --reason 'contract ended'.")
    with egec.database.atomic():
        states = _locked(keys)
        records = {
            one.key: _record(one, ChangeOutcome.UNCHANGED if one.is_disabled else ChangeOutcome.DISABLED)
            for one in states
            if not one.is_erased
        }
        done = _done(records)
        now = egec.clock()
        Client.update(disabled_at=now, updated_at=now).where(among(Client.id, done)).execute()
        audit.record_changes(egec, "client.disable", "disabled", done, private={"reason": words})
    return _or_erased(states, records)


def enable(egec: Egec, keys: Sequence[int]) -> dict[int, ChangeRecord]:
    """Let these clients be as they were before they were disabled. Return what became of each, by the keys."""
    with egec.database.atomic():
        states = _locked(keys)
        records = {
            one.key: _record(one, ChangeOutcome.ENABLED if one.is_disabled else ChangeOutcome.UNCHANGED)
            for one in states
            if not one.is_erased
        }
        done = _done(records)
        Client.update(disabled_at=None, updated_at=egec.clock()).where(among(Client.id, done)).execute()
        audit.record_changes(egec, "client.enable", "enabled", done)
    return _or_erased(states, records)


def unblock(egec: Egec, keys: Sequence[int]) -> dict[int, ChangeRecord]:
    """Let these clients try to log in at once, whatever logins failed before.

    The count of the failures begins anew, also where the wait after them is over already.

    Returns:
        What became of each, by the keys.
    """
    with egec.database.atomic():
        states = _locked(keys)
        records = {
            one.key: _record(one, ChangeOutcome.UNBLOCKED if one.has_failed_logins else ChangeOutcome.UNCHANGED)
            for one in states
            if not one.is_erased
        }
        done = _done(records)
        Client.update(failed_logins=0, blocked_until=None).where(among(Client.id, done)).execute()
        audit.record_changes(egec, "client.unblock", "unblocked", done)
    return _or_erased(states, records)


def erase(egec: Egec, keys: Sequence[int]) -> dict[int, ChangeRecord]:
    """Erase for good what is known of these clients as persons, everywhere in the database (RGPD, article 17).

    Their identifiers stay reserved: nobody else ever gets one, and no password ever opens their accounts. One who is
    being mailed at this moment fails as `client_busy`, for the mail server's answer may name the address.

    Returns:
        What became of each, by the keys.
    """
    with egec.database.atomic():
        states = _locked(keys)
        living = [one.key for one in states if not one.is_erased]
        free = leases.take_all(egec, living, leases.new_owner())
        records = {one.key: _erasure(one, is_free=one.key in free) for one in states}
        _erase(egec, _done(records))
        audit.record_changes(egec, "client.erase", "erased", _done(records))
    return records


def _erasure(one: _State, *, is_free: bool) -> ChangeRecord:
    if one.is_erased:
        return _record(one, ChangeOutcome.UNCHANGED)
    return _record(one, ChangeOutcome.ERASED) if is_free else _failed(one.identifier, _busy(one.identifier))


def _erase(egec: Egec, keys: Sequence[int]) -> None:
    now = egec.clock()
    Client.update(
        email=None, email_key=None, reference=None, civility="", first_name="", last_name="", language="",
        disabled_at=peewee.fn.COALESCE(Client.disabled_at, _as_moment(now)), updated_at=now, last_login_at=None,
        # Above every sequence that there is: no mail under way can ever open the account.
        revoked_below=Client.last_sequence + 1, failed_logins=0, blocked_until=None,
        lease_owner=None, lease_until=None, email_changed_at=None, email_bounced_at=None,
    ).where(among(Client.id, keys)).execute()  # fmt: skip
    Credential.update(state=CredentialState.REVOKED).where(
        among(Credential.client, keys) & Credential.state.in_((*OPEN_STATES, CredentialState.ACCEPTED))
    ).execute()
    # What mail servers say may name the address, and so may the reason of a change.
    Credential.update(password_hash=None, message_id=None, server_reply=None, failure=None, bounce=None).where(
        among(Credential.client, keys)
    ).execute()
    ReissueItem.update(failure=None, details=None).where(among(ReissueItem.client, keys)).execute()
    # A login in progress finds its place gone and gives no verdict.
    LoginPlace.delete().where(among(LoginPlace.client, keys)).execute()
    Event.update(details="{}").where(among(Event.client, keys)).execute()


def _as_moment(moment: Any) -> Any:
    return peewee.Value(moment, converter=Client.disabled_at.db_value)


def leave_no_trace() -> bool:
    """Remove what was erased from the database's files too. Return whether that is done.

    It is not while another process reads what was there before; the next call does it. It takes as long as a copy of
    the database does.

    Raises:
        NotNow: another process writes for too long.
        FileSystemFailed: there is no room for a copy of the database.
    """
    return database.write_anew()


def require_no_trace(egec: Egec, identifier: str | None) -> None:
    """Remove what was erased from the database's files too, or fail.

    Args:
        egec: where.
        identifier: an erased client, for the command that tries again; None where none is known.

    Raises:
        NotNow: another process still reads what was there before, or writes for too long.
        FileSystemFailed: there is no room for a copy of the database.
    """
    # By the identifier: an erased client has no e-mail or reference left.
    client = identifier or "IDENTIFIER"
    try:
        with database.translated_failures(egec.settings.database):
            if leave_no_trace():
                return
    except FileSystemFailed as error:
        raise FileSystemFailed(
            "the data was erased, but the database's files still hold copies of it: {reason}",
            "Free some space, then type: egec client erase {client} --yes",
            reason=error.message,
            client=client,
        ) from None
    except NotNow:
        pass
    raise NotNow(
        "the data was erased, but the database's files still hold copies of it: another process uses the database",
        "When it has ended, type: egec client erase {client} --yes",
        code="copies_remain",
        client=client,
    )


def for_each(
    egec: Egec, listed: ClientList, act: Callable[[Sequence[int]], Mapping[int, ChangeRecord]]
) -> Iterator[ChangeRecord]:
    """Do something to each client whom a file names; yield what became of each line, in their order.

    Args:
        egec: where.
        listed: the file.
        act: does it to the clients of these keys, and tells what became of each.

    Raises:
        BadInput: the file is no UTF-8 text, or no CSV, or lacks the column; nothing was done.
    """
    for lines in NamedClients(egec, {"listed": listed}).lines():
        records = dict(act(list({line.client for line in lines if line.client is not None})))
        for line in lines:
            if line.client is None:
                yield _stranger(line)
                continue
            yield records[line.client]._replace(line=line.line)
            if records[line.client].outcome is not ChangeOutcome.FAILED:
                # A further line that names the same client finds it done.
                records[line.client] = records[line.client]._replace(outcome=ChangeOutcome.UNCHANGED)


def failure_of(record: ChangeRecord) -> EgecError:
    """Return the error of a client who was named alone, and whose change failed."""
    assert record.identifier is not None
    error = {"client_busy": _busy, "client_erased": _erased}[str(record.failure)]
    return error(record.identifier)


def _locked(keys: Sequence[int]) -> Sequence[_State]:
    """Return the states of these clients, which no other transaction changes until the end of this one."""
    credentials.lock(keys)
    query = Client.select(
        Client.id,
        Client.identifier,
        Client.email.is_null(),
        Client.disabled_at.is_null(False),
        (Client.failed_logins > 0) | Client.blocked_until.is_null(False),
    )
    return [
        _State(key, identifier, *map(bool, answers))
        for key, identifier, *answers in tuples(query.where(among(Client.id, keys)))
    ]


def _done(records: Mapping[int, ChangeRecord]) -> list[int]:
    not_done = {ChangeOutcome.UNCHANGED, ChangeOutcome.FAILED}
    return [key for key, record in records.items() if record.outcome not in not_done]


def _or_erased(states: Sequence[_State], records: Mapping[int, ChangeRecord]) -> dict[int, ChangeRecord]:
    erased = {one.key: _failed(one.identifier, _erased(one.identifier)) for one in states if one.is_erased}
    return {**records, **erased}


def _record(one: _State, outcome: ChangeOutcome) -> ChangeRecord:
    return ChangeRecord(one.identifier, None, outcome)


def _failed(identifier: str | None, error: EgecError) -> ChangeRecord:
    return ChangeRecord(identifier, None, ChangeOutcome.FAILED, error.code, error.message)


def _stranger(line: NamedLine) -> ChangeRecord:
    return _failed(None, NoSuchClient("no client is called {value!r}", value=line.value))._replace(line=line.line)


def _erased(identifier: str) -> EgecError:
    return NotPermitted(
        "client {identifier} was erased", "An erased file stays so.", code="client_erased", identifier=identifier
    )


def _busy(identifier: str) -> EgecError:
    return NotNow(
        "client {identifier} is being mailed at this moment",
        "Run the same again.",
        code="client_busy",
        identifier=identifier,
    )
