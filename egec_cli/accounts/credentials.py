"""The life of a credential: recorded before its mail leaves, settled by what the server said, found at login.

The promises of the product rest on this module. They hold for any mix of crashes, lost answers, refusals,
mails out of order and several issuers at once, because
- a credential is durable, as `sending`, before the mail server hears of it;
- a client's `active_sequence` only ever rises, by one conditional statement (`_promote`);
- a login tries the active credential and every open one above it, and promotes the one that matches.

Every function here that writes runs inside a transaction of its caller, and locks the client's row before
any row of its credentials, so that two of them never wait for each other.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from egec_cli.errors import NotNow
from egec_cli.store import peewee
from egec_cli.store.models import OPEN_STATES, Client, Credential, CredentialState, ReissueRun

MOST_OPEN = 8


def record(
    client: Client,
    password_hash: str,
    *,
    at: datetime,
    by: str,
    message_id: str | None,
    unused_days: int,
    revoke: bool = False,
    run: ReissueRun | None = None,
) -> int:
    """Take the client's next sequence for a new credential in state `sending`, and return it.

    Args:
        client: whose it is.
        password_hash: the bcrypt hash of its password.
        at: the moment of the issue.
        by: who issues.
        message_id: of the mail that is about to leave; None where no mail does.
        unused_days: after so many days, the password stops working if it was never used; 0 = never.
        revoke: void every former password and every mail under way at once.
        run: the re-issue run that it belongs to.

    Raises:
        NotNow: the client has `MOST_OPEN` credentials whose fate is unknown.
    """
    # The update comes first: it locks the row, so that two issuers cannot take the same sequence.
    Client.update(last_sequence=Client.last_sequence + 1).where(Client.id == client.id).execute()
    sequence: int = Client.select(Client.last_sequence).where(Client.id == client.id).scalar()
    if revoke:
        _revoke_below(client, sequence)
    else:
        _require_room(client, at)
    # Whoever was sending before has lost the lease: it crashed, or it is so late that nobody waits for it.
    Credential.update(state=CredentialState.IN_DOUBT).where(
        (Credential.client == client) & (Credential.state == CredentialState.SENDING)
    ).execute()
    Credential.insert(
        client=client,
        sequence=sequence,
        state=CredentialState.SENDING,
        password_hash=password_hash,
        run=run,
        message_id=message_id,
        created_at=at,
        expires_at=at + timedelta(days=unused_days) if unused_days else None,
        issued_by=by,
    ).execute()
    return sequence


def _revoke_below(client: Client, sequence: int) -> None:
    Client.update(revoked_below=sequence).where(Client.id == client.id).execute()
    living = (*OPEN_STATES, CredentialState.ACCEPTED)
    Credential.update(state=CredentialState.REVOKED, password_hash=None).where(
        (Credential.client == client) & (Credential.sequence < sequence) & Credential.state.in_(living)
    ).execute()


def _require_room(client: Client, moment: datetime) -> None:
    still_open = (
        Credential.select()
        .where((Credential.client == client) & Credential.state.in_(OPEN_STATES) & _alive(moment))
        .count()
    )
    if still_open >= MOST_OPEN:
        raise NotNow(
            f"client {client.identifier} has {still_open} mails whose fate is unknown",
            "Wait until a login settles them, or add --revoke to void them all.",
            code="too_many_open",
        )


def _alive(moment: datetime) -> peewee.Expression:
    expires, used = Credential.expires_at, Credential.first_used_at
    return expires.is_null() | used.is_null(False) | (expires > moment)


def accept(client: Client, sequence: int, *, at: datetime, server_reply: str | None = None) -> CredentialState:
    """Settle a credential whose mail the server accepted, and return its new state.

    It is `superseded`, which is no error, where a later one has won or a leak has voided it meanwhile.
    """
    state = CredentialState.ACCEPTED if _promote(client, sequence) else _state_of_a_late_one(client, sequence)
    changes: dict[str, object] = {"state": state, "settled_at": at}
    if server_reply is not None:
        changes["server_reply"] = server_reply
    if state is not CredentialState.ACCEPTED:
        changes["password_hash"] = None
    _update(client, sequence, **changes)
    return state


def _state_of_a_late_one(client: Client, sequence: int) -> CredentialState:
    active = Client.select(Client.active_sequence, Client.revoked_below).where(Client.id == client.id).get()
    if sequence < active.revoked_below:
        return CredentialState.REVOKED
    # Its own mail may have been used for a login before the server's answer was settled.
    return CredentialState.ACCEPTED if active.active_sequence == sequence else CredentialState.SUPERSEDED


def _promote(client: Client, sequence: int, **more: object) -> bool:
    """Make this the client's active credential if it is the highest so far. Return whether it is now.

    This one statement keeps the promises: the active sequence never falls, and never to a void one.
    """
    promoted = (
        Client.update(active_sequence=sequence, failed_logins=0, blocked_until=None, **more)
        .where((Client.id == client.id) & (Client.active_sequence < sequence) & (Client.revoked_below <= sequence))
        .execute()
    )
    if promoted:
        Credential.update(state=CredentialState.SUPERSEDED, password_hash=None).where(
            (Credential.client == client)
            & (Credential.sequence < sequence)
            & Credential.state.in_((*OPEN_STATES, CredentialState.ACCEPTED))
        ).execute()
    return bool(promoted)


def refuse(client: Client, sequence: int, *, at: datetime, failure: str, server_reply: str | None) -> None:
    """Settle a credential whose mail was refused for certain: its hash is erased, nothing else is touched."""
    _update(
        client,
        sequence,
        state=CredentialState.REFUSED,
        password_hash=None,
        settled_at=at,
        failure=failure,
        server_reply=server_reply,
    )


def doubt(client: Client, sequence: int, *, failure: str) -> None:
    """Note that nobody knows whether the mail arrived; the password works if it did."""
    _update(client, sequence, state=CredentialState.IN_DOUBT, failure=failure)


def _update(client: Client, sequence: int, **changes: object) -> None:
    # Only an open one is settled: what a login or a later issue has settled meanwhile stays.
    Credential.update(**changes).where(
        (Credential.client == client) & (Credential.sequence == sequence) & Credential.state.in_(OPEN_STATES)
    ).execute()


def that_may_open(client: Client, moment: datetime) -> Sequence[Credential]:
    """Return the credentials whose password opens the account at this moment: the active one first."""
    # One statement reads the client and the credentials: what is settled between two is neither open nor yet active.
    is_active = (Credential.sequence == Client.active_sequence) & (Credential.state == CredentialState.ACCEPTED)
    is_open = (Credential.sequence > Client.active_sequence) & Credential.state.in_(OPEN_STATES)
    return list(
        Credential.select()
        .join(Client)
        .where(
            (Credential.client == client)
            & (Credential.sequence >= Client.revoked_below)
            & (is_active | is_open)
            & _alive(moment)
        )
        .order_by(Credential.sequence)
    )


def admit(client: Client, credential: Credential, moment: datetime) -> bool:
    """Record a login by this credential, if it still opens the account. Return whether it does.

    An open credential is promoted: its password can only have come from its mail.
    """
    sequence = credential.sequence
    admitted = _promote(client, sequence, last_login_at=moment) or (
        Client.update(last_login_at=moment, failed_logins=0)
        .where((Client.id == client.id) & (Client.active_sequence == sequence) & (Client.revoked_below <= sequence))
        .execute()
    )
    if not admitted:
        return False
    _update(client, sequence, state=CredentialState.ACCEPTED, settled_at=moment)
    Credential.update(first_used_at=moment).where(
        (Credential.id == credential.id) & Credential.first_used_at.is_null()
    ).execute()
    return True
