"""The note to a client's former address, when an operator has changed it: who did not ask for that learns of it.

It leaves once the change is committed, and whatever becomes of it, the change holds.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple

from egec_cli import email_address
from egec_cli.audit import record as audit
from egec_cli.audit.record import record_event
from egec_cli.clients import fields
from egec_cli.clients.named import ClientList, NamedClients, NamedLine
from egec_cli.clients.records import already_taken
from egec_cli.context import Context
from egec_cli.credentials import issue, leases
from egec_cli.credentials.states import lock_clients
from egec_cli.errors import (
    AlreadyExists,
    ClientNotFound,
    EgecError,
    InvalidInput,
    PermissionDenied,
    StorageError,
    TemporaryFailure,
)
from egec_cli.mail.compose import message
from egec_cli.mail.compose.message import Mail
from egec_cli.mail.transports.interface import DeliveryOutcome, DeliveryRefused, DeliveryUnknown, Transport
from egec_cli.store import peewee
from egec_cli.store.failures import translate_failures
from egec_cli.store.models import OPEN_STATES, Client, Credential, CredentialState, Event, LoginPlace, ReissueItem
from egec_cli.store.sql import fetch_tuples, in_list, vacuum
from egec_cli.translation import Words


class NoticeResult(NamedTuple):
    """A note that was to be mailed.

    Attributes:
        server_reply: the server's words where it was accepted.
        error: why it was not, or may not have been.
    """

    outcome: DeliveryOutcome
    server_reply: str | None = None
    error: EgecError | None = None


def is_notice_due(client: Client) -> bool:
    """Tell whether a client is told of a new address: not before a first password could open the account.

    Until then there is nothing that somebody else could take over, and the former address may well have been a mistake.
    """
    return bool(client.active_sequence)


def send_notice(
    context: Context, client: Client, former_email: str, new_transport: Callable[[], Transport]
) -> NoticeResult:
    """Mail the note, and record what became of it.

    Args:
        context: where.
        client: as the file is now.
        former_email: the address that it had.
        new_transport: makes the way by which the note leaves; raises `EgecError` where it cannot.
    """
    notice, mail = _sent(context, client, former_email, new_transport)
    told = {"message_id": mail.message_id if mail else None, "failure": notice.error.code if notice.error else None}
    details: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
    with context.database.atomic():
        record_event(context, "client.notice", notice.outcome, client=client, **details)
    return notice


def _sent(
    context: Context, client: Client, former_email: str, new_transport: Callable[[], Transport]
) -> tuple[NoticeResult, Mail | None]:
    mail = None
    try:
        mail = message.address_changed_mail(
            context.settings,
            recipient=email_address.parse_email(former_email).wire,
            language=client.language or context.settings.language,
            name=issue.greeting_name(client.civility, client.first_name, client.last_name),
            changed_at=context.clock(),
        )
        with closing(new_transport()) as transport:
            return NoticeResult(DeliveryOutcome.ACCEPTED, transport.deliver(mail).text), mail
    except EgecError as error:
        return NoticeResult(DeliveryOutcome.REFUSED, error=error), mail
    except DeliveryRefused as refusal:
        return NoticeResult(DeliveryOutcome.REFUSED, error=refusal.error), mail
    except DeliveryUnknown as loss:
        doubt = TemporaryFailure("{loss}. It may have left", code="in_doubt", loss=loss.words)
        return NoticeResult(DeliveryOutcome.IN_DOUBT, error=doubt), mail


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


class UpdateResult(NamedTuple):
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


def update_client(context: Context, client: Client, given: Mapping[str, str]) -> UpdateResult:
    """Change fields of a client's file and return it.

    Args:
        context: where.
        client: whose.
        given: the new values by the names of the fields; an empty one clears it, but for the e-mail.

    Raises:
        InvalidInput: a value is not valid.
        AlreadyExists: the e-mail or the reference is another client's.
        PermissionDenied: the file was erased.
    """
    values = _checked(given)
    for _ in range(_TRIES):
        try:
            with context.database.atomic():
                lock_clients([client.id])
                stored = Client.get_by_id(client.id)
                if stored.email is None:
                    raise _erased(stored.identifier)
                _require_free(stored, given, values)
                changed = {name: value for name, value in values.items() if getattr(stored, name) != value}
                if changed:
                    now = context.clock()
                    # Of what came back from the former address, the new one knows nothing.
                    address = {"email_changed_at": now, "email_bounced_at": None} if "email_key" in changed else {}
                    Client.update(updated_at=now, **changed, **address).where(Client.id == client.id).execute()
                    names = sorted(changed.keys() - {"email_key"})
                    audit.record_event(context, "client.update", "updated", client=stored, fields=names)
                former_email = stored.email if "email_key" in changed else None
                return UpdateResult(Client.get_by_id(client.id), former_email)
        except peewee.IntegrityError:
            continue
    raise AlreadyExists("the e-mail or the reference is being given to others", "Run the same again.")


def _checked(given: Mapping[str, str]) -> dict[str, str | None]:
    """Return the new values by their columns."""
    check: dict[str, Callable[[str], str | None]] = {
        "reference": lambda text: fields.clean_line(Words("reference"), text) or None,
        "civility": fields.parse_civility,
        "first_name": partial(fields.clean_line, Words("first name")),
        "last_name": partial(fields.clean_line, Words("last name")),
        "language": fields.parse_language,
    }
    values = {name: check[name](text) for name, text in given.items() if name != "email"}
    if "email" in given:
        email = email_address.parse_email(given["email"])
        values |= {"email": email.given, "email_key": email.key}
    return values


def _require_free(client: Client, given: Mapping[str, str], values: Mapping[str, str | None]) -> None:
    for field, name in ((Words("e-mail"), "email_key"), (Words("reference"), "reference")):
        if values.get(name) is not None:
            is_it = (getattr(Client, name) == values[name]) & (Client.id != client.id)
            other = Client.get_or_none(is_it)
            if other is not None:
                raise already_taken(field, given["email" if name == "email_key" else name], other)


def disable_clients(context: Context, keys: Sequence[int], *, reason: str) -> dict[int, ChangeRecord]:
    """Let no password open the accounts of these clients, and let them get no mail, until they are enabled.

    Args:
        context: where.
        keys: the clients' keys.
        reason: why, for who reads the story of a client.

    Returns:
        What became of each, by the keys.

    Raises:
        InvalidInput: there is no reason, or it is no line of text.
    """
    words = fields.clean_line(Words("reason"), reason)
    if not words:
        raise InvalidInput("the reason is empty", "Say why, such as --reason 'contract ended'.")
    with context.database.atomic():
        states = _locked(keys)
        records = {
            one.key: _record(one, ChangeOutcome.UNCHANGED if one.is_disabled else ChangeOutcome.DISABLED)
            for one in states
            if not one.is_erased
        }
        done = _done(records)
        now = context.clock()
        Client.update(disabled_at=now, updated_at=now).where(in_list(Client.id, done)).execute()
        audit.record_changes(context, "client.disable", "disabled", done, private={"reason": words})
    return _or_erased(states, records)


def enable_clients(context: Context, keys: Sequence[int]) -> dict[int, ChangeRecord]:
    """Let these clients be as they were before they were disabled. Return what became of each, by the keys."""
    with context.database.atomic():
        states = _locked(keys)
        records = {
            one.key: _record(one, ChangeOutcome.ENABLED if one.is_disabled else ChangeOutcome.UNCHANGED)
            for one in states
            if not one.is_erased
        }
        done = _done(records)
        Client.update(disabled_at=None, updated_at=context.clock()).where(in_list(Client.id, done)).execute()
        audit.record_changes(context, "client.enable", "enabled", done)
    return _or_erased(states, records)


def unblock_clients(context: Context, keys: Sequence[int]) -> dict[int, ChangeRecord]:
    """Let these clients try to log in at once, whatever logins failed before.

    The count of the failures begins anew, also where the wait after them is over already.

    Returns:
        What became of each, by the keys.
    """
    with context.database.atomic():
        states = _locked(keys)
        records = {
            one.key: _record(one, ChangeOutcome.UNBLOCKED if one.has_failed_logins else ChangeOutcome.UNCHANGED)
            for one in states
            if not one.is_erased
        }
        done = _done(records)
        Client.update(failed_logins=0, blocked_until=None).where(in_list(Client.id, done)).execute()
        audit.record_changes(context, "client.unblock", "unblocked", done)
    return _or_erased(states, records)


def erase_clients(context: Context, keys: Sequence[int]) -> dict[int, ChangeRecord]:
    """Erase for good what is known of these clients as persons, everywhere in the database (RGPD, article 17).

    Their identifiers stay reserved: nobody else ever gets one, and no password ever opens their accounts. One who is
    being mailed at this moment fails as `client_busy`, for the mail server's answer may name the address.

    Returns:
        What became of each, by the keys.
    """
    with context.database.atomic():
        states = _locked(keys)
        living = [one.key for one in states if not one.is_erased]
        free = leases.take_leases(context, living, leases.new_owner())
        records = {one.key: _erasure(one, is_free=one.key in free) for one in states}
        _erase(context, _done(records))
        audit.record_changes(context, "client.erase", "erased", _done(records))
    return records


def _erasure(one: _State, *, is_free: bool) -> ChangeRecord:
    if one.is_erased:
        return _record(one, ChangeOutcome.UNCHANGED)
    return _record(one, ChangeOutcome.ERASED) if is_free else _failed(one.identifier, _busy(one.identifier))


def _erase(context: Context, keys: Sequence[int]) -> None:
    now = context.clock()
    Client.update(
        email=None, email_key=None, reference=None, civility="", first_name="", last_name="", language="",
        disabled_at=peewee.fn.COALESCE(Client.disabled_at, _as_moment(now)), updated_at=now, last_login_at=None,
        # Above every sequence that there is: no mail under way can ever open the account.
        revoked_below=Client.last_sequence + 1, failed_logins=0, blocked_until=None,
        lease_owner=None, lease_until=None, email_changed_at=None, email_bounced_at=None,
    ).where(in_list(Client.id, keys)).execute()  # fmt: skip
    Credential.update(state=CredentialState.REVOKED).where(
        in_list(Credential.client, keys) & Credential.state.in_((*OPEN_STATES, CredentialState.ACCEPTED))
    ).execute()
    # What mail servers say may name the address, and so may the reason of a change.
    Credential.update(password_hash=None, message_id=None, server_reply=None, failure=None, bounce=None).where(
        in_list(Credential.client, keys)
    ).execute()
    ReissueItem.update(failure=None, details=None).where(in_list(ReissueItem.client, keys)).execute()
    # A login in progress finds its place gone and gives no verdict.
    LoginPlace.delete().where(in_list(LoginPlace.client, keys)).execute()
    Event.update(details="{}").where(in_list(Event.client, keys)).execute()


def _as_moment(moment: Any) -> Any:
    return peewee.Value(moment, converter=Client.disabled_at.db_value)


def purge_erased_data() -> bool:
    """Remove what was erased from the database's files too. Return whether that is done.

    It is not while another process reads what was there before; the next call does it. It takes as long as a copy of
    the database does.

    Raises:
        TemporaryFailure: another process writes for too long.
        StorageError: there is no room for a copy of the database.
    """
    return vacuum()


def require_no_trace(context: Context, identifier: str | None) -> None:
    """Remove what was erased from the database's files too, or fail.

    Args:
        context: where.
        identifier: an erased client, for the command that tries again; None where none is known.

    Raises:
        TemporaryFailure: another process still reads what was there before, or writes for too long.
        StorageError: there is no room for a copy of the database.
    """
    # By the identifier: an erased client has no e-mail or reference left.
    client = identifier or "IDENTIFIER"
    try:
        with translate_failures(context.settings.database):
            if purge_erased_data():
                return
    except StorageError as error:
        raise StorageError(
            "the data was erased, but the database's files still hold copies of it: {reason}",
            "Free some space, then type: egec client erase {client} --yes",
            reason=error.message,
            client=client,
        ) from None
    except TemporaryFailure:
        pass
    raise TemporaryFailure(
        "the data was erased, but the database's files still hold copies of it: another process uses the database",
        "When it has ended, type: egec client erase {client} --yes",
        code="copies_remain",
        client=client,
    )


def change_each(
    context: Context, listed: ClientList, act: Callable[[Sequence[int]], Mapping[int, ChangeRecord]]
) -> Iterator[ChangeRecord]:
    """Do something to each client whom a file names; yield what became of each line, in their order.

    Args:
        context: where.
        listed: the file.
        act: does it to the clients of these keys, and tells what became of each.

    Raises:
        InvalidInput: the file is no UTF-8 text, or no CSV, or lacks the column; nothing was done.
    """
    for lines in NamedClients(context, {"listed": listed}).lines():
        records = dict(act(list({line.client for line in lines if line.client is not None})))
        for line in lines:
            if line.client is None:
                yield _stranger(line)
                continue
            yield records[line.client]._replace(line=line.line)
            if records[line.client].outcome is not ChangeOutcome.FAILED:
                # A further line that names the same client finds it done.
                records[line.client] = records[line.client]._replace(outcome=ChangeOutcome.UNCHANGED)


def error_of(record: ChangeRecord) -> EgecError:
    """Return the error of a client who was named alone, and whose change failed."""
    assert record.identifier is not None
    error = {"client_busy": _busy, "client_erased": _erased}[str(record.failure)]
    return error(record.identifier)


def _locked(keys: Sequence[int]) -> Sequence[_State]:
    """Return the states of these clients, which no other transaction changes until the end of this one."""
    lock_clients(keys)
    query = Client.select(
        Client.id,
        Client.identifier,
        Client.email.is_null(),
        Client.disabled_at.is_null(False),
        (Client.failed_logins > 0) | Client.blocked_until.is_null(False),
    )
    return [
        _State(key, identifier, *map(bool, answers))
        for key, identifier, *answers in fetch_tuples(query.where(in_list(Client.id, keys)))
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
    return _failed(None, ClientNotFound("no client is called {value!r}", value=line.value))._replace(line=line.line)


def _erased(identifier: str) -> EgecError:
    return PermissionDenied(
        "client {identifier} was erased", "An erased file stays so.", code="client_erased", identifier=identifier
    )


def _busy(identifier: str) -> EgecError:
    return TemporaryFailure(
        "client {identifier} is being mailed at this moment",
        "Run the same again.",
        code="client_busy",
        identifier=identifier,
    )
