"""The life of a credential: recorded before its mail leaves, settled by what the server said, found at login.

The promises of the product rest on this module. They hold for any mix of crashes, lost answers, refusals,
mails out of order and several issuers at once, because
- a credential is durable, as `sending`, before the mail server hears of it;
- a client's `active_sequence` only ever rises, by one conditional statement (`_promote`);
- a login tries the active credential and every open one above it, and promotes the one that matches.

What is recorded and settled comes in batches, of one client each where a single account is activated: what is proved of
the one holds for the other. Every function here that writes runs inside a transaction of its caller, and locks the
clients' rows, in the order of their keys, before any row of their credentials, so that two of them never wait for each
other.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from egec_cli import clock
from egec_cli.credentials import hash_costs
from egec_cli.store import peewee
from egec_cli.store.models import OPEN_STATES, Client, Credential, CredentialState, ReissueRun, database
from egec_cli.store.sql import execute_many, fetch_tuples, in_list, insert_many, lock_rows, locks_rows

MAX_IN_DOUBT = 8
# Of so many former passwords the hash is kept.
SUPERSEDED_HASHES_KEPT = 2


class NewCredential(NamedTuple):
    """A credential to record: for the client of this key, and the Message-ID of the mail about to leave, if one is."""

    client: int
    password_hash: str
    message_id: str | None


class RecordedCredential(NamedTuple):
    """A credential that is recorded: its key, its client's, and its number among the client's credentials."""

    key: int
    client: int
    sequence: int


class MailOutcome(NamedTuple):
    """What became of the mail of a credential.

    Attributes:
        state: `ACCEPTED` by the server, `REFUSED` for certain, or `IN_DOUBT`.
        failure: a stable word for what went wrong.
        server_reply: the server's words, if it said any.
    """

    credential: RecordedCredential
    state: CredentialState
    failure: str | None = None
    server_reply: str | None = None


def record_credentials(
    new: Sequence[NewCredential],
    *,
    at: datetime,
    by: str,
    unused_days: int,
    revoke: bool = False,
    run: ReissueRun | None = None,
) -> dict[int, RecordedCredential]:
    """Record new credentials, in state `sending`, under the next sequences of their clients.

    Args:
        new: what to record, one for each client.
        at: the moment of the issue.
        by: who issues.
        unused_days: after so many days, the passwords stop working if they were never used; 0 = never.
        revoke: void every former password and every mail under way at once.
        run: the re-issue run that they belong to.

    Returns:
        What was recorded, by the clients' keys; one who has `MOST_OPEN` credentials whose fate is unknown is left out.
    """
    lock_clients([one.client for one in new])
    full = set() if revoke else without_room([one.client for one in new], at)
    new = [one for one in new if one.client not in full]
    keys = [one.client for one in new]
    # The update comes first: it locks the rows, so that two issuers cannot take the same sequence.
    Client.update(last_sequence=Client.last_sequence + 1).where(in_list(Client.id, keys)).execute()
    sequences = dict(fetch_tuples(Client.select(Client.id, Client.last_sequence).where(in_list(Client.id, keys))))
    if revoke:
        _revoke_below(keys)
    # Whoever was sending before has lost the lease: it crashed, or it is so late that nobody waits for it.
    Credential.update(state=CredentialState.IN_DOUBT).where(
        in_list(Credential.client, keys) & (Credential.state == CredentialState.SENDING)
    ).execute()
    hash_costs.note(one.password_hash for one in new)
    expires = at + timedelta(days=unused_days) if unused_days else None
    times = clock.to_rfc3339(at), clock.to_rfc3339_or_none(expires)
    insert_many(
        database.obj,
        "credential",
        (
            "client_id",
            "password_hash",
            "message_id",
            "sequence",
            "state",
            "run_id",
            "created_at",
            "expires_at",
            "issued_by",
        ),
        [(*one, sequences[one.client], CredentialState.SENDING.value, run and run.id, *times, by) for one in new],
    )
    # What was sending before is not any more, so these are the new ones.
    rows = Credential.select(Credential.id, Credential.client, Credential.sequence).where(
        in_list(Credential.client, keys) & (Credential.state == CredentialState.SENDING)
    )
    return {client: RecordedCredential(key, client, sequence) for key, client, sequence in fetch_tuples(rows)}


def lock_clients(clients: Sequence[int]) -> None:
    """Keep other transactions from changing these clients; two that want the same ones never wait for each other.

    Of SQLite, a transaction has the whole database to itself anyway.
    """
    if locks_rows():
        list(fetch_tuples(lock_rows(Client.select(Client.id).where(in_list(Client.id, clients)).order_by(Client.id))))


def _revoke_below(clients: Sequence[int]) -> None:
    """Void every credential of the clients that is older than the sequence they have just taken."""
    Client.update(revoked_below=Client.last_sequence).where(in_list(Client.id, clients)).execute()
    living = (*OPEN_STATES, CredentialState.ACCEPTED)
    Credential.update(state=CredentialState.REVOKED, password_hash=None).where(
        in_list(Credential.client, clients) & Credential.state.in_(living)
    ).execute()


def without_room(clients: Sequence[int], moment: datetime) -> set[int]:
    """Return the keys of the clients who can have no further open credential."""
    full = (
        Credential.select(Credential.client)
        .where(in_list(Credential.client, clients) & Credential.state.in_(OPEN_STATES) & is_unexpired(moment))
        .group_by(Credential.client)
        .having(peewee.fn.COUNT(Credential.id) >= MAX_IN_DOUBT)
    )
    return {key for (key,) in fetch_tuples(full)}


def is_unexpired(moment: datetime) -> peewee.Expression:
    """Return the condition that a credential has not expired unused at this moment."""
    expires, used = Credential.expires_at, Credential.first_used_at
    return expires.is_null() | used.is_null(False) | (expires > moment)


def settle_credentials(outcomes: Sequence[MailOutcome], *, at: datetime) -> dict[RecordedCredential, CredentialState]:
    """Settle credentials by what became of their mails, and return their states.

    One whose mail was accepted is `superseded`, which is no error, where a later one of its client has won, and
    `revoked` where a leak has voided it meanwhile. One that was refused loses its hash, and nothing else is touched.
    What a login or a later issue has settled meanwhile stays.

    Args:
        outcomes: one for each client.
        at: the moment.
    """
    lock_clients([outcome.credential.client for outcome in outcomes])
    accepted = [o.credential for o in outcomes if o.state is CredentialState.ACCEPTED]
    _promote(accepted)
    states = _states_of_accepted(accepted)
    for state in CredentialState:
        _settle_as(state, [o for o in outcomes if states.get(o.credential, o.state) is state], at)
    _supersede([one.client for one in accepted])
    return {o.credential: states.get(o.credential, o.state) for o in outcomes}


def _promote(credentials: Sequence[RecordedCredential], **more: object) -> int:
    """Make each of these the active one of its client if it is the highest so far. Return how many are now.

    This one statement keeps the promises: the active sequence never falls, and never to a void one.
    """
    if not credentials:
        return 0
    keys = [one.key for one in credentials]
    sequence = Credential.select(Credential.sequence).where(
        (Credential.client == Client.id) & in_list(Credential.id, keys)
    )
    promoted: int = (
        Client.update(active_sequence=sequence, failed_logins=0, blocked_until=None, **more)
        .where(
            in_list(Client.id, [one.client for one in credentials])
            & (Client.active_sequence < sequence)
            & (Client.revoked_below <= sequence)
        )
        .execute()
    )
    return promoted


def _supersede(clients: Sequence[int]) -> None:
    """Void what is older than the active credential of each of these clients.

    The hashes of the last two are kept, for a help desk to recognise the password of a former mail; they open nothing.
    """
    active = Client.select(Client.active_sequence).where(Client.id == Credential.client)
    is_recent = Credential.sequence + SUPERSEDED_HASHES_KEPT >= active
    Credential.update(
        state=CredentialState.SUPERSEDED, password_hash=peewee.Case(None, [(is_recent, Credential.password_hash)], None)
    ).where(
        in_list(Credential.client, clients)
        & (
            Credential.state.in_((*OPEN_STATES, CredentialState.ACCEPTED))
            | ((Credential.state == CredentialState.SUPERSEDED) & Credential.password_hash.is_null(False))
        )
        & (Credential.sequence < active)
    ).execute()


def _states_of_accepted(credentials: Sequence[RecordedCredential]) -> dict[RecordedCredential, CredentialState]:
    rows = Client.select(Client.id, Client.active_sequence, Client.revoked_below).where(
        in_list(Client.id, [one.client for one in credentials])
    )
    found = {key: (active, revoked_below) for key, active, revoked_below in fetch_tuples(rows)}
    states = {}
    for one in credentials:
        active, revoked_below = found[one.client]
        if one.sequence < revoked_below:
            states[one] = CredentialState.REVOKED
        else:
            # Its own mail may have been used for a login before the server's answer was settled.
            states[one] = CredentialState.ACCEPTED if active == one.sequence else CredentialState.SUPERSEDED
    return states


def _settle_as(state: CredentialState, outcomes: Sequence[MailOutcome], at: datetime) -> None:
    settled_at = None if state is CredentialState.IN_DOUBT else clock.to_rfc3339(at)
    erased = "" if state in {CredentialState.IN_DOUBT, CredentialState.ACCEPTED} else "password_hash = NULL, "
    # Only an open one is settled.
    execute_many(
        database.obj,
        f"UPDATE credential SET {erased}state = ?, settled_at = ?, "  # noqa: S608 - no value is in it
        "failure = COALESCE(?, failure), server_reply = COALESCE(?, server_reply) "
        "WHERE id = ? AND state IN ('sending', 'in_doubt')",
        [(state.value, settled_at, o.failure, o.server_reply, o.credential.key) for o in outcomes],
    )


def usable_credentials(client: Client, moment: datetime) -> Sequence[Credential]:
    """Return the credentials whose password opens the account at this moment: the active one first."""
    return list(_opening(client, moment).order_by(Credential.sequence))


def accept_login(client: Client, credential: Credential, moment: datetime) -> bool:
    """Record a login by this credential, if it still opens the account. Return whether it does.

    An open credential is promoted: its password can only have come from its mail. Who is disabled is never admitted.
    """
    lock_clients([client.id])
    # It may have been settled, or the client disabled, while its hash was compared.
    still_opens = (Credential.id == credential.id) & Client.disabled_at.is_null()
    state = next(
        (state for (state,) in fetch_tuples(_opening(client, moment, Credential.state).where(still_opens))), None
    )
    if state is None:
        return False
    one = RecordedCredential(credential.id, client.id, credential.sequence)
    if state in OPEN_STATES:
        _promote([one], last_login_at=moment)
        _settle_as(CredentialState.ACCEPTED, [MailOutcome(one, CredentialState.ACCEPTED)], moment)
        _supersede([client.id])
    else:
        Client.update(last_login_at=moment, failed_logins=0, blocked_until=None).where(Client.id == client.id).execute()
    Credential.update(first_used_at=moment).where(
        (Credential.id == one.key) & Credential.first_used_at.is_null()
    ).execute()
    if client.email_bounced_at is not None and credential.message_id is not None:
        _clear_address(one)
    return True


def _clear_address(arrived: RecordedCredential) -> None:
    """Take the mark of a bounce from the address of a client who has got this mail, unless a later one came back."""
    came_back = Credential.select(Credential.id).where(
        (Credential.client == arrived.client)
        & (Credential.sequence > arrived.sequence)
        & Credential.bounced_at.is_null(False)
    )
    Client.update(email_bounced_at=None).where((Client.id == arrived.client) & ~peewee.fn.EXISTS(came_back)).execute()


def _opening(client: Client, moment: datetime, *columns: peewee.Field) -> Any:
    # One statement reads the client and the credentials: what is settled between two is neither open nor yet active.
    is_active = (Credential.sequence == Client.active_sequence) & (Credential.state == CredentialState.ACCEPTED)
    is_open = (Credential.sequence > Client.active_sequence) & Credential.state.in_(OPEN_STATES)
    return (
        Credential.select(*columns)
        .join(Client)
        .where(
            (Credential.client == client)
            & (Credential.sequence >= Client.revoked_below)
            & (is_active | is_open)
            & is_unexpired(moment)
        )
    )
