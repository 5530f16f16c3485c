"""The states of a credential: recorded before its mail leaves, settled by the server's answer, used by a login.

The promises of the product rest on this module. They hold for any mix of crashes, lost answers, refusals, mails out of
order and concurrent issuers, because
- a credential is durable, as `sending`, before the mail server sees its mail;
- a client's `active_sequence` only rises, by one conditional statement (`_promote`);
- a login tries the active credential and every unsettled one (`sending`, `in_doubt`) above it, and promotes the match.

Credentials are recorded and settled in batches; a single activation is a batch of one. Functions that write run inside
the caller's transaction. They lock the clients' rows in key order before any row of their credentials, so that two
transactions never wait for each other.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from egec_cli import clock
from egec_cli.context import Context
from egec_cli.credentials.validity import LocalMoment
from egec_cli.store import peewee
from egec_cli.store.models import OPEN_STATES, Client, Credential, CredentialState, Installation, ReissueRun, database
from egec_cli.store.sql import execute_many, fetch_tuples, in_list, insert_many, lock_rows, locks_rows

MAX_IN_DOUBT = 8
# The number of superseded credentials of a client that keep their hashes.
SUPERSEDED_HASHES_KEPT = 2
# How the details of an event `credential.issue` begin if the password was shown instead of mailed.
NOT_MAILED = '{"mailed": false'


class NewCredential(NamedTuple):
    """A credential to record: the client's key, the hash, and the Message-ID of its mail, if it is mailed."""

    client: int
    password_hash: str
    message_id: str | None


class RecordedCredential(NamedTuple):
    """A recorded credential: its key, its client's key and its number among the client's credentials."""

    key: int
    client: int
    sequence: int


class MailOutcome(NamedTuple):
    """The outcome of a credential's mail.

    Attributes:
        state: `ACCEPTED` by the server, `REFUSED` for certain, or `IN_DOUBT`.
        failure: a stable error code.
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
    expires_at: datetime | None,
    revoke: bool = False,
    run: ReissueRun | None = None,
) -> dict[int, RecordedCredential]:
    """Record new credentials, one per client, in state `sending`, under the clients' next sequences.

    Unused passwords stop working at `expires_at` (None = never). `revoke` invalidates every earlier password
    immediately, also those whose mail is under way.

    Returns:
        The recorded credentials by client key, without clients who have `MAX_IN_DOUBT` unsettled credentials.
    """
    lock_clients([one.client for one in new])
    full = set() if revoke else find_clients_without_room([one.client for one in new], at)
    new = [one for one in new if one.client not in full]
    keys = [one.client for one in new]
    # Update before reading: this locks the rows, so that two issuers cannot take the same sequence.
    Client.update(last_sequence=Client.last_sequence + 1).where(in_list(Client.id, keys)).execute()
    sequences = dict(fetch_tuples(Client.select(Client.id, Client.last_sequence).where(in_list(Client.id, keys))))
    if revoke:
        _revoke_below(keys)
    # The issuer of a credential that is still `sending` has crashed or lost its lease.
    Credential.update(state=CredentialState.IN_DOUBT).where(
        in_list(Credential.client, keys) & (Credential.state == CredentialState.SENDING)
    ).execute()
    raise_refusal_cost(one.password_hash for one in new)
    times = clock.to_rfc3339(at), clock.to_rfc3339_or_none(expires_at)
    insert_many(
        database.obj,
        "credential",
        (
            "client_id", "password_hash", "message_id", "sequence", "state", "run_id", "created_at", "expires_at",
            "issued_by",
        ),
        [(*one, sequences[one.client], CredentialState.SENDING.value, run and run.id, *times, by) for one in new],
    )  # fmt: skip
    # Earlier ones left the state `sending` above, so these are the new ones.
    rows = Credential.select(Credential.id, Credential.client, Credential.sequence).where(
        in_list(Credential.client, keys) & (Credential.state == CredentialState.SENDING)
    )
    return {client: RecordedCredential(key, client, sequence) for key, client, sequence in fetch_tuples(rows)}


def lock_clients(clients: Sequence[int]) -> None:
    """Lock the rows of these clients, in key order; on SQLite the transaction already locks the whole database."""
    if locks_rows():
        list(fetch_tuples(lock_rows(Client.select(Client.id).where(in_list(Client.id, clients)).order_by(Client.id))))


def _revoke_below(clients: Sequence[int]) -> None:
    """Revoke all credentials that these clients have; the new ones are not inserted yet."""
    Client.update(revoked_below=Client.last_sequence).where(in_list(Client.id, clients)).execute()
    Credential.update(state=CredentialState.REVOKED, password_hash=None).where(
        in_list(Credential.client, clients) & Credential.state.in_((*OPEN_STATES, CredentialState.ACCEPTED))
    ).execute()


def find_clients_without_room(clients: Sequence[int], moment: datetime) -> set[int]:
    """Return the keys of those clients who have `MAX_IN_DOUBT` unsettled credentials."""
    query = (
        Credential.select(Credential.client)
        .where(in_list(Credential.client, clients) & Credential.state.in_(OPEN_STATES) & is_unexpired(moment))
        .group_by(Credential.client)
        .having(peewee.fn.COUNT(Credential.id) >= MAX_IN_DOUBT)
    )
    return {key for (key,) in fetch_tuples(query)}


def is_unexpired(moment: datetime) -> peewee.Expression:
    """Return the SQL condition that a credential has not expired unused."""
    expires, used = Credential.expires_at, Credential.first_used_at
    return expires.is_null() | used.is_null(False) | (expires > moment)


def settle_credentials(outcomes: Sequence[MailOutcome], *, at: datetime) -> dict[RecordedCredential, CredentialState]:
    """Settle credentials, one per client, by the outcomes of their mails; return their new states.

    An accepted credential becomes `superseded` if a later one is active already (this is not an error), and `revoked`
    if it was revoked meanwhile. A refusal erases the hash of its own credential and changes nothing else. Credentials
    that a login or a later issue has settled meanwhile stay as they are.
    """
    lock_clients([outcome.credential.client for outcome in outcomes])
    accepted = [o.credential for o in outcomes if o.state is CredentialState.ACCEPTED]
    _promote(accepted)
    states = _states_of_accepted(accepted)
    for state in CredentialState:
        _settle_as(state, [o for o in outcomes if states.get(o.credential, o.state) is state], at)
    _supersede([one.client for one in accepted])
    return {o.credential: states.get(o.credential, o.state) for o in outcomes}


def _promote(credentials: Sequence[RecordedCredential], **more: object) -> None:
    """Make each of these the active credential of its client if its sequence is the highest so far.

    This one statement keeps the promises: the active sequence never falls, and no revoked credential becomes active.
    """
    if not credentials:
        return
    keys = [one.key for one in credentials]
    sequence = Credential.select(Credential.sequence).where(
        (Credential.client == Client.id) & in_list(Credential.id, keys)
    )
    Client.update(active_sequence=sequence, failed_logins=0, blocked_until=None, **more).where(
        in_list(Client.id, [one.client for one in credentials])
        & (Client.active_sequence < sequence)
        & (Client.revoked_below <= sequence)
    ).execute()


def _supersede(clients: Sequence[int]) -> None:
    """Supersede what is older than the active credential of each of these clients.

    The hashes of the last two stay, so that a help desk can recognise the password of an earlier mail. They never sign
    in.
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
            # A login may have promoted it before the server's answer was settled.
            states[one] = CredentialState.ACCEPTED if active == one.sequence else CredentialState.SUPERSEDED
    return states


def _settle_as(state: CredentialState, outcomes: Sequence[MailOutcome], at: datetime) -> None:
    settled_at = None if state is CredentialState.IN_DOUBT else clock.to_rfc3339(at)
    erased = "" if state in {CredentialState.IN_DOUBT, CredentialState.ACCEPTED} else "password_hash = NULL, "
    execute_many(
        database.obj,
        f"UPDATE credential SET {erased}state = ?, settled_at = ?, "  # noqa: S608 - contains no values
        "failure = COALESCE(?, failure), server_reply = COALESCE(?, server_reply) "
        "WHERE id = ? AND state IN ('sending', 'in_doubt')",
        [(state.value, settled_at, o.failure, o.server_reply, o.credential.key) for o in outcomes],
    )


def usable_credentials(client: Client, moment: datetime) -> Sequence[Credential]:
    """Return the credentials whose passwords sign in at this moment, the active one first."""
    return list(_usable(client, moment).order_by(Credential.sequence))


def accept_login(client: Client, credential: Credential, now: LocalMoment) -> bool:
    """Record a login with this credential and return True, if it is still usable and the client may sign in.

    A disabled client may not, nor may one outside the validity. An unsettled credential is promoted: its password can
    only have come from its mail.
    """
    lock_clients([client.id])
    moment = now.at
    # It may have been settled, or the client disabled, while its hash was compared.
    is_enabled = (Credential.id == credential.id) & Client.disabled_at.is_null()
    rows = _usable(client, moment, Credential.state, Client.valid_from, Client.valid_until).where(is_enabled)
    state = next((state for state, *validity in fetch_tuples(rows) if now.is_within(*validity)), None)
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
        _clear_bounce(one)
    return True


def _clear_bounce(arrived: RecordedCredential) -> None:
    """Clear the bounce mark of the address that this mail reached, unless a later mail bounced.

    It is cleared at each client who has the address. Clients that another transaction changes keep the mark until the
    next login: to wait for them here might last forever, as the other one may wait for this client.
    """
    credential = Credential.get_by_id(arrived.key)
    if not went_to_present_address(arrived.client, credential):
        return
    sharers = [arrived.client, *find_sharers(arrived.client, only_free=True)]
    later = _mails_to_same_address(credential, sharers, or_same=False)
    # A notice of closing is a later mail too.
    has_later_notice = (
        in_list(Client.id, sharers)
        & (Client.closing_notified_at > credential.created_at)
        & (Client.email_bounced_at >= Client.closing_notified_at)
    )
    if later.where(Credential.bounced_at.is_null(False)).exists() or Client.select().where(has_later_notice).exists():
        return
    Client.update(email_bounced_at=None).where(in_list(Client.id, sharers)).execute()


def find_sharers(client: int, *, only_free: bool = False) -> Sequence[int]:
    """Return the keys of the other clients with the e-mail of this one.

    Args:
        only_free: lock them, and leave out those that another transaction has locked.
    """
    same = Client.alias()
    email_key = same.select(same.email_key).where(same.id == client)
    query = Client.select(Client.id).where((Client.email_key == email_key) & (Client.id != client)).order_by(Client.id)
    return [key for (key,) in fetch_tuples(lock_rows(query, skip_locked=True) if only_free else query)]


def went_to_present_address(client: int, credential: Credential) -> bool:
    """Return whether the client has had the same e-mail since this credential was created."""
    is_older = Client.email_changed_at.is_null() | (Client.email_changed_at <= credential.created_at)
    return bool(Client.select(Client.id).where((Client.id == client) & is_older).exists())


def has_arrived(credential: Credential, sharers: Sequence[int]) -> bool:
    """Return whether a login proves that this mail, or a later one to the same address, has arrived.

    Args:
        sharers: the keys of the clients who have the address, first of them the client of the credential.
    """
    mails = _mails_to_same_address(credential, sharers, or_same=True)
    return bool(mails.where(Credential.first_used_at.is_null(False)).exists())


def has_one_arrived_since(moment: datetime, sharers: Sequence[int]) -> bool:
    """Return whether a login proves that a mail sent after this moment has arrived at the address of these clients."""
    mails = _mails_to(sharers, _was_sent_after(moment))
    return bool(mails.where(Credential.first_used_at.is_null(False)).exists())


def _mails_to_same_address(credential: Credential, sharers: Sequence[int], *, or_same: bool) -> Any:
    """Return a query of the later mails to the clients who have the address of this mail, and of this mail itself.

    Those of the same client are later by their sequence; those of others by the time.
    """
    own = Credential.client == sharers[0]
    later = Credential.sequence > credential.sequence
    is_later = own & (later | (Credential.id == credential.id) if or_same else later)
    return _mails_to(sharers, is_later | (~own & _was_sent_after(credential.created_at)))


def _was_sent_after(moment: datetime) -> Any:
    """Return the condition that a credential was created after a moment, and for the client's present address."""
    since_change = Client.email_changed_at.is_null() | (Client.email_changed_at <= Credential.created_at)
    return (Credential.created_at > moment) & since_change


def _mails_to(clients: Sequence[int], condition: Any) -> Any:
    """Return a query of the credentials mailed to these clients that meet a condition."""
    is_mailed = in_list(Credential.client, clients) & Credential.message_id.is_null(False)
    return Credential.select(Credential.id).join(Client).where(is_mailed & condition)


def _usable(client: Client, moment: datetime, *columns: peewee.Field) -> Any:
    # One statement reads client and credentials: a credential settled between two statements would be missed.
    is_active = (Credential.sequence == Client.active_sequence) & (Credential.state == CredentialState.ACCEPTED)
    is_unsettled = (Credential.sequence > Client.active_sequence) & Credential.state.in_(OPEN_STATES)
    return (
        Credential.select(*columns)
        .join(Client)
        .where(
            (Credential.client == client)
            & (Credential.sequence >= Client.revoked_below)
            & (is_active | is_unsettled)
            & is_unexpired(moment)
        )
    )


_COST_NAME = "highest_hash_cost"
# The costs that bcrypt supports; a malformed hash may contain others.
_VALID_COSTS = range(4, 32)


def get_refusal_cost(context: Context) -> int:
    """Return the cost at which refused logins are compared: that of new hashes or the highest stored one.

    So a refused login takes the time of the slowest accepted one. The table `installation` keeps the highest cost; it
    rises in the transaction that stores a hash, and never falls.
    """
    recorded = _load_highest_cost()
    if recorded is None:
        with context.database.atomic():
            _record_cost(_find_highest_cost())
        recorded = _load_highest_cost()
    return max(recorded or 0, context.settings.bcrypt_cost)


def raise_refusal_cost(hashes: Iterable[str]) -> None:
    """Raise the recorded cost to that of hashes being stored; call it within the transaction that stores them."""
    # Imported here: commands that only read clients do not need bcrypt.
    from egec_cli import hashing

    highest = max(map(hashing.hash_cost, hashes), default=0)
    recorded = _load_highest_cost()
    if recorded is None:
        _record_cost(max(highest, _find_highest_cost()))
    elif highest > recorded:
        _record_cost(highest)


def _load_highest_cost() -> int | None:
    query = Installation.select(Installation.value).where(Installation.name == _COST_NAME)
    value = next((value for (value,) in fetch_tuples(query)), None)
    return None if value is None else int(value)


def _record_cost(cost: int) -> None:
    """Record a cost unless a higher one is recorded, also when two processes do so at once."""
    is_higher = peewee.EXCLUDED.value.cast("INTEGER") > Installation.value.cast("INTEGER")
    Installation.insert(name=_COST_NAME, value=str(cost)).on_conflict(
        conflict_target=[Installation.name], update={Installation.value: peewee.EXCLUDED.value}, where=is_higher
    ).execute()


def _find_highest_cost() -> int:
    """Return the highest cost among all stored hashes; this scan happens once in the life of a database."""
    # The two digits after the version, as in $2b$12$…
    costs = Credential.select(peewee.fn.SUBSTR(Credential.password_hash, 5, 2)).where(
        Credential.password_hash.is_null(False)
    )
    found = {int(cost) for (cost,) in fetch_tuples(costs.distinct()) if cost.isascii() and cost.isdecimal()}
    return max(found.intersection(_VALID_COSTS), default=0)
