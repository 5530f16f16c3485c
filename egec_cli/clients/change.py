"""Disable, enable, unblock and erase clients."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, cast

from egec_cli.audit import events as audit
from egec_cli.clients import fields
from egec_cli.clients.name_files import NamedClients
from egec_cli.context import Context
from egec_cli.credentials import leases
from egec_cli.credentials.states import lock_clients
from egec_cli.errors import (
    ClientNotFound,
    EgecError,
    InvalidInput,
    PermissionDenied,
    StorageError,
    TemporaryFailure,
)
from egec_cli.store import peewee
from egec_cli.store.database import translate_failures
from egec_cli.store.models import (
    OPEN_STATES,
    Client,
    Credential,
    CredentialState,
    Event,
    Installation,
    LoginPlace,
    ReissueItem,
)
from egec_cli.store.sql import fetch_rows, fetch_tuples, in_list, vacuum
from egec_cli.translation import Words

# The fact about an installation that clients were erased since the last rewrite of its database file. Its value is
# another one after each erasure.
_COPIES = "copies_of_erased_data"


class ChangeOutcome(StrEnum):
    """The outcome of a change to one client."""

    DISABLED = "disabled"
    ENABLED = "enabled"
    UNBLOCKED = "unblocked"
    ERASED = "erased"
    NOTIFIED = "notified"
    POSTPONED = "postponed"
    UNCHANGED = "unchanged"
    FAILED = "failed"


class ChangeRecord(NamedTuple):
    """The result for one client.

    Attributes:
        identifier: the client's; None where a line matches no client.
        line: the line of the file that names the client; None without a file.
        outcome: the result.
        failure: why it failed: `unknown_client`, `ambiguous_client`, `client_erased` or `client_busy`; or why a notice
            was not accepted.
        details: the same for people.
    """

    identifier: str | None
    line: int | None
    outcome: ChangeOutcome
    failure: str | None = None
    details: str | None = None


# The condition under which a change has an effect for a client who was not erased.
DUE: Mapping[ChangeOutcome, Any] = {
    ChangeOutcome.DISABLED: Client.disabled_at.is_null(),
    ChangeOutcome.ENABLED: Client.disabled_at.is_null(False),
    ChangeOutcome.UNBLOCKED: (Client.failed_logins > 0) | Client.blocked_until.is_null(False),
    ChangeOutcome.ERASED: Client.email.is_null(False),
}


class Guard(NamedTuple):
    """What must hold for a client who is changed because selectors select the client.

    Attributes:
        conditions: checked in the transaction of the change; clients that do not meet them are left out.
        selection: the selectors as options, for the audit log; empty without any.
    """

    conditions: Sequence[Any] = ()
    selection: str = ""

    def details(self) -> dict[str, Any]:
        """Return the details of the audit event."""
        return {"selection": self.selection} if self.selection else {}


NO_GUARD = Guard()


def disable_clients(
    context: Context, keys: Sequence[int], guard: Guard = NO_GUARD, *, reason: str
) -> dict[int, ChangeRecord]:
    """Disable clients: until they are enabled again, they cannot log in and get no mail.

    Args:
        guard: what must hold for them.
        reason: why, for readers of the history.

    Returns:
        The results by key, without those that do not pass the guard.

    Raises:
        InvalidInput: the reason is empty or invalid.
    """
    return _change_clients(
        context,
        keys,
        guard,
        "client.disable",
        ChangeOutcome.DISABLED,
        new_values=lambda now: {"disabled_at": now, "updated_at": now},
        private={"reason": clean_reason(reason)},
    )


def clean_reason(reason: str) -> str:
    """Return the reason for disabling clients without surplus white space.

    Raises:
        InvalidInput: it is empty or invalid.
    """
    words = fields.clean_line(Words("reason"), reason)
    if not words:
        raise InvalidInput("the reason is empty", "Give one, such as --reason 'contract ended'.")
    return words


def enable_clients(context: Context, keys: Sequence[int], guard: Guard = NO_GUARD) -> dict[int, ChangeRecord]:
    """Enable disabled clients again. Return the results by key."""
    return _change_clients(
        context,
        keys,
        guard,
        "client.enable",
        ChangeOutcome.ENABLED,
        # A notice that the account will be closed has had its effect.
        new_values=lambda now: {"disabled_at": None, "closing_notified_at": None, "updated_at": now},
    )


def unblock_clients(context: Context, keys: Sequence[int], guard: Guard = NO_GUARD) -> dict[int, ChangeRecord]:
    """Let clients try to log in immediately despite failed logins. Return the results by key.

    The count of failures starts again at zero, even if the wait after them is already over.
    """
    return _change_clients(
        context,
        keys,
        guard,
        "client.unblock",
        ChangeOutcome.UNBLOCKED,
        new_values=lambda _now: {"failed_logins": 0, "blocked_until": None},
    )


def _change_clients(
    context: Context,
    keys: Sequence[int],
    guard: Guard,
    action: str,
    outcome: ChangeOutcome,
    *,
    new_values: Callable[[datetime], dict[str, Any]],
    private: Mapping[str, object] | None = None,
) -> dict[int, ChangeRecord]:
    with context.database.atomic():
        records, changed = {}, []
        for key, identifier, is_erased, is_due in _lock_states(keys, guard, outcome):
            if is_erased:
                records[key] = _failed(identifier, erased_error(identifier))
            elif is_due:
                records[key] = ChangeRecord(identifier, None, outcome)
                changed.append(key)
            else:
                records[key] = ChangeRecord(identifier, None, ChangeOutcome.UNCHANGED)
        Client.update(**new_values(context.clock())).where(in_list(Client.id, changed)).execute()
        audit.record_changes(context, action, outcome.value, changed, private={**(private or {}), **guard.details()})
    return records


def erase_clients(context: Context, keys: Sequence[int], guard: Guard = NO_GUARD) -> dict[int, ChangeRecord]:
    """Erase the personal data of clients for good, everywhere in the database (RGPD, article 17).

    Their identifiers stay reserved and can never log in again. A client who is being mailed fails as `client_busy`,
    because the mail server's answer may contain the address.

    Returns:
        The results by key.
    """
    with context.database.atomic():
        states = _lock_states(keys, guard, ChangeOutcome.ERASED)
        living = [key for key, _, is_erased, _ in states if not is_erased]
        owner = leases.new_owner()
        free = leases.take_leases(context, living, owner)
        records = {
            key: _erasure_record(identifier, is_erased=is_erased, is_free=key in free)
            for key, identifier, is_erased, _ in states
        }
        erased = [key for key, record in records.items() if record.outcome is ChangeOutcome.ERASED]
        _erase(context, erased)
        if erased:
            _record_copies(owner)
        audit.record_changes(context, "client.erase", "erased", erased, **guard.details())
    return records


def _erasure_record(identifier: str, *, is_erased: bool, is_free: bool) -> ChangeRecord:
    if is_erased:
        return ChangeRecord(identifier, None, ChangeOutcome.UNCHANGED)
    if is_free:
        return ChangeRecord(identifier, None, ChangeOutcome.ERASED)
    return _failed(identifier, _busy_error(identifier))


def _erase(context: Context, keys: Sequence[int]) -> None:
    now = context.clock()
    disabled_at = peewee.fn.COALESCE(Client.disabled_at, peewee.Value(now, converter=Client.disabled_at.db_value))
    Client.update(
        email=None, email_key=None, email_share=0, reference=None,
        civility="", first_name="", last_name="", language="",
        disabled_at=disabled_at, updated_at=now, last_login_at=None, valid_from=None, valid_until=None,
        # Above every existing sequence, so that no mail under way can ever open the account.
        revoked_below=Client.last_sequence + 1, failed_logins=0, blocked_until=None,
        lease_owner=None, lease_until=None, email_changed_at=None, email_bounced_at=None,
        closing_notified_at=None,
    ).where(in_list(Client.id, keys)).execute()  # fmt: skip
    Credential.update(state=CredentialState.REVOKED).where(
        in_list(Credential.client, keys) & Credential.state.in_((*OPEN_STATES, CredentialState.ACCEPTED))
    ).execute()
    # Replies of mail servers and reasons of changes may contain personal data.
    Credential.update(password_hash=None, message_id=None, server_reply=None, failure=None, bounce=None).where(
        in_list(Credential.client, keys)
    ).execute()
    ReissueItem.update(failure=None, details=None).where(in_list(ReissueItem.client, keys)).execute()
    # A login in progress finds its place gone and gives no verdict.
    LoginPlace.delete().where(in_list(LoginPlace.client, keys)).execute()
    Event.update(details="{}").where(in_list(Event.client, keys)).execute()


def _record_copies(value: str) -> None:
    Installation.insert(name=_COPIES, value=value).on_conflict(
        conflict_target=[Installation.name], update={Installation.value: peewee.EXCLUDED.value}
    ).execute()


def _find_copies() -> str | None:
    query = Installation.select(Installation.value).where(Installation.name == _COPIES)
    return next((value for (value,) in fetch_tuples(query)), None)


def may_have_copies() -> bool:
    """Return whether clients were erased since the last purge, in this command or in one that was interrupted."""
    return _find_copies() is not None


def purge_erased_data() -> bool:
    """Remove erased data from the database files too. Return False if another process still reads the old data.

    In that case the next call does it. It takes as long as copying the database.

    Raises:
        TemporaryFailure: another process writes for too long.
        StorageError: the disk is too full for a copy of the database.
    """
    seen = _find_copies()
    is_done = vacuum()
    if is_done:
        # What another process has erased meanwhile stays recorded.
        Installation.delete().where(Installation.name == _COPIES, Installation.value == seen).execute()
    return is_done


def require_no_trace(context: Context, identifier: str | None) -> None:
    """Remove erased data from the database files too, or fail.

    Args:
        identifier: an erased client, for the retry command in the hint; None if unknown.

    Raises:
        TemporaryFailure: another process still reads the old data, or writes for too long.
        StorageError: the disk is too full for a copy of the database.
    """
    # The identifier: an erased client has no e-mail or reference left.
    client = identifier or "IDENTIFIER"
    try:
        with translate_failures(context.settings.database):
            if purge_erased_data():
                return
    except StorageError as error:
        raise StorageError(
            "the data was erased, but copies remain in the database files: {reason}",
            "Free some space, then type: egec client erase {client} --yes",
            reason=error.message,
            client=client,
        ) from None
    except TemporaryFailure:
        pass
    raise TemporaryFailure(
        "the data was erased, but copies remain in the database files: another process uses the database",
        "When that process has ended, type: egec client erase {client} --yes",
        code="copies_remain",
        client=client,
    )


def change_each(
    named: NamedClients, change: Callable[[Sequence[int]], Mapping[int, ChangeRecord]]
) -> Iterator[ChangeRecord]:
    """Apply a change to each client that a file names, and yield the result of each line in order.

    Args:
        change: changes the clients with these keys and returns the results by key.
    """
    for lines in named.read_lines():
        records = dict(change(list({line.client for line in lines if line.client is not None})))
        for line in lines:
            if line.client is None:
                error = ClientNotFound("unknown client: {value!r}", value=line.value)
                if line.is_shared:
                    error = ClientNotFound(
                        "several clients have the e-mail {value}", code="ambiguous_client", value=line.value
                    )
                yield _failed(None, error)._replace(line=line.line)
                continue
            yield records[line.client]._replace(line=line.line)
            if records[line.client].outcome is not ChangeOutcome.FAILED:
                # A later line for the same client finds it done.
                records[line.client] = records[line.client]._replace(outcome=ChangeOutcome.UNCHANGED)


def busy_record(identifier: str) -> ChangeRecord:
    """Return the result for a client that another process is mailing."""
    return _failed(identifier, _busy_error(identifier))


def record_to_error(record: ChangeRecord) -> EgecError:
    """Return the error of a failed change to a single client."""
    assert record.identifier is not None
    make_error = {"client_busy": _busy_error, "client_erased": erased_error}[str(record.failure)]
    return make_error(record.identifier)


def _lock_states(keys: Sequence[int], guard: Guard, outcome: ChangeOutcome) -> Sequence[tuple[int, str, bool, bool]]:
    """Lock these clients until the end of the transaction, and return those that pass the guard.

    Returns:
        For each client the key, the identifier, whether the client was erased, and whether the change has an effect.
    """
    lock_clients(keys)
    query = Client.select(Client.id, Client.identifier, Client.email.is_null(), DUE[outcome])
    return cast(list[tuple[int, str, bool, bool]], fetch_rows(query.where(in_list(Client.id, keys), *guard.conditions)))


def _failed(identifier: str | None, error: EgecError) -> ChangeRecord:
    return ChangeRecord(identifier, None, ChangeOutcome.FAILED, error.code, error.message)


def erased_error(identifier: str) -> EgecError:
    """Return the error for a client who was erased."""
    return PermissionDenied(
        "client {identifier} was erased", "Erasing is final.", code="client_erased", identifier=identifier
    )


def _busy_error(identifier: str) -> EgecError:
    return TemporaryFailure(
        "client {identifier} is being mailed at this moment", "Try again.", code="client_busy", identifier=identifier
    )
