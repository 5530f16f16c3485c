"""Check logins: an identifier and a password. Case counts; white space around either does not."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from egec_cli import hashing, identifier
from egec_cli.audit.events import record_event
from egec_cli.context import Context
from egec_cli.credentials import states, validity
from egec_cli.credentials.validity import LocalMoment
from egec_cli.logins import limits
from egec_cli.password import Password
from egec_cli.store.models import OPEN_STATES, Client, Credential

if TYPE_CHECKING:
    from egec_cli.logins.sources import LoginSource

# Invisible characters that are pasted with a text: zero-width and direction marks, soft hyphen, byte order mark.
_INVISIBLE = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


class LoginReason(StrEnum):
    """Why a login is refused; only operators see it."""

    ACCEPTED = "accepted"
    UNKNOWN_IDENTIFIER = "unknown_identifier"
    DISABLED = "disabled"
    INACTIVE = "inactive"
    WAITING = "waiting"
    BLOCKED = "blocked"
    ORIGIN_LIMITED = "origin_limited"
    NO_PASSWORD = "no_password"  # noqa: S105 - a reason
    WRONG_PASSWORD = "wrong_password"  # noqa: S105 - a reason


class Verdict(NamedTuple):
    """Whether the login is accepted. A refusal has no reason: all are alike.

    Attributes:
        accepted: whether the login is accepted.
    """

    accepted: bool


class StartedLogin(NamedTuple):
    """A login whose password is about to be compared.

    Attributes:
        candidates: the credentials to compare with; if empty, the login is refused.
        cost: the bcrypt cost that sets how long a refusal takes.
        place: the key of the login's place; None if it is refused whatever the password is.
        blocked_until: the end of the wait or block of the account.
        is_block: it is a block, not a wait.
        source: where the login comes from, if the caller says so.
        is_unchecked: the login is refused without comparing, because its network is beyond its limit.
        is_shut: the client is disabled or outside the validity, so that even the right password is refused.
    """

    client: Client | None
    password: str
    candidates: Sequence[Credential]
    cost: int
    place: int | None = None
    blocked_until: datetime | None = None
    is_block: bool = False
    source: "LoginSource | None" = None
    is_unchecked: bool = False
    is_shut: bool = False


class ComparedLogin(NamedTuple):
    """The credential that has this password, if any, and a hash of the current cost if its own is cheaper."""

    matching: Credential | None = None
    new_hash: str | None = None


class LoginResult(NamedTuple):
    """The outcome of a login, with details that the client must not learn."""

    reason: LoginReason
    client: Client | None = None
    blocked_until: datetime | None = None


# Stands in for the client of an unknown identifier, so that the same statements run and find nothing.
_UNKNOWN_CLIENT = Client(id=0)


def verify_login(context: Context, given_identifier: str, given_password: str, *, origin: str = "") -> Verdict:
    """Check a login and record it; accept a credential in doubt if its password is given.

    Every refusal takes the same time: an unknown identifier, a wrong password, a blocked account. Failures are limited,
    and a hash that is cheaper than the current cost is replaced. A network with too many failures is refused unchecked,
    whatever the account.

    Args:
        origin: the address that the login comes from, or a host name; empty if unknown.

    Raises:
        AccountBusy: too many logins to this account are in progress, so this one was not checked. It is not a refusal
            and does not count as a failure; try again.
    """
    ended = check_login(context, given_identifier, given_password, origin=origin)
    return Verdict(ended.reason is LoginReason.ACCEPTED)


def check_login(context: Context, given_identifier: str, given_password: str, *, origin: str = "") -> LoginResult:
    """Check a login as `verify_login` does, and return its outcome with the reason."""
    started = start_login(context, given_identifier, given_password, origin=origin)
    return settle_login(context, started, compare_hashes(context, started))


def try_login(context: Context, given_identifier: str, given_password: str) -> LoginResult:
    """Return the outcome that a login would have, without changing or recording anything.

    A wait or block holds for it too, but it takes no place and counts no failure. The caller has to record it.
    """
    wanted, password = trim(given_identifier), trim(given_password)
    client = Client.get_or_none(Client.identifier == wanted) if identifier.is_identifier(wanted) else None
    if client is None:
        return LoginResult(LoginReason.UNKNOWN_IDENTIFIER)
    now = context.clock()
    until = client.blocked_until
    if until is not None and until > now:
        return LoginResult(_reason_for_wait(is_block=limits.is_block(client.failed_logins, until)), client, until)
    candidates = states.usable_credentials(client, now)
    if not any(hashing.matches_hash(password, one.password_hash or "") for one in candidates):
        return LoginResult(LoginReason.WRONG_PASSWORD if candidates else LoginReason.NO_PASSWORD, client)
    return LoginResult(_reason_for_shut(client, validity.local_moment(context)) or LoginReason.ACCEPTED, client)


def start_login(
    context: Context, given_identifier: str, given_password: str, *, origin: str = "", patience: float | None = None
) -> StartedLogin:
    """Take a place for a login, and return what its password must be compared with.

    It waits up to `patience` seconds for a place (default: `limits.PATIENCE`).

    Raises:
        AccountBusy: no place became free.
    """
    wanted, password = trim(given_identifier), trim(given_password)
    source = _count_for_network(context, origin, is_empty=not wanted) if origin else None
    client = Client.get_or_none(Client.identifier == wanted) if identifier.is_identifier(wanted) else None
    if source is not None and source.is_limited and not _is_exempt(context, client, source):
        return StartedLogin(None, "", (), 0, source=source, is_unchecked=True)
    try:
        if client is None:
            result = limits.try_place(context, _UNKNOWN_CLIENT.id)._replace(place=None)
        else:
            result = limits.take_place(context, client.id, patience=patience)
    except limits.AccountBusy:
        with context.database.atomic():
            _forget_for_network(source)
        raise
    now = validity.local_moment(context)
    candidates = states.usable_credentials(client or _UNKNOWN_CLIENT, now.at)
    if result.place is None:
        candidates = ()
    is_shut = client is not None and _reason_for_shut(client, now) is not None
    cost = states.get_refusal_cost(context)
    return StartedLogin(client, password, candidates, cost, *result, source=source, is_shut=is_shut)


def compare_hashes(context: Context, started: StartedLogin) -> ComparedLogin:
    """Compare the password of a login with the hashes, without the database.

    A refusal takes the time of one comparison at the cost of refusals per candidate, at least of one.
    """
    if started.is_unchecked:
        return ComparedLogin()
    if not started.candidates:
        hashing.check_dummy(started.cost)
    cost = context.settings.bcrypt_cost
    for credential in started.candidates:
        password_hash = credential.password_hash or ""
        if hashing.match_at_cost(started.cost, started.password, password_hash):
            own_cost = hashing.hash_cost(password_hash)
            if started.is_shut:
                # The password is right but will be refused.
                hashing.take_remaining_time(own_cost, started.cost)
            elif own_cost < cost:
                return ComparedLogin(credential, hashing.hash_password(Password(started.password), cost))
            return ComparedLogin(credential)
    return ComparedLogin()


def settle_login(context: Context, started: StartedLogin, compared: ComparedLogin) -> LoginResult:
    """Accept or refuse a login, give up its place, and record it.

    Raises:
        AccountBusy: the login took so long that it lost its place. It gives no verdict, and nothing is recorded.
    """
    if started.is_unchecked and started.source is not None:
        # Imported here, as below: a login without an origin does not need it.
        from egec_cli.logins import sources

        sources.record_limited(context, started.source, LoginReason.ORIGIN_LIMITED)
        return LoginResult(LoginReason.ORIGIN_LIMITED)
    try:
        with context.database.atomic():
            return _settle(context, started, compared)
    except limits.AccountBusy:
        with context.database.atomic():
            _forget_for_network(started.source)
        raise


def _settle(context: Context, started: StartedLogin, compared: ComparedLogin) -> LoginResult:
    """Settle a login within a transaction."""
    key = _UNKNOWN_CLIENT.id if started.client is None else started.client.id
    limits.return_place(key, started.place)
    if started.client is None:
        ended = LoginResult(LoginReason.UNKNOWN_IDENTIFIER)
    elif started.blocked_until is not None:
        ended = LoginResult(_reason_for_wait(is_block=started.is_block), started.client, started.blocked_until)
    else:
        ended = LoginResult(_reason(context, started.client, started, compared), started.client)
    is_accepted = ended.reason is LoginReason.ACCEPTED
    if not is_accepted:
        limits.count_failure(context, _UNKNOWN_CLIENT.id if started.place is None else key)
    details = _arrived_mail(compared) if is_accepted else {}
    if started.source is not None:
        details["origin"] = started.source.hash
        if is_accepted:
            _forget_for_network(started.source)
    outcome = "accepted" if is_accepted else "refused"
    record_event(context, "login", outcome, client=started.client, reason=ended.reason, **details)
    return ended


# Imported in functions: a login without an origin loads nothing more.


def _count_for_network(context: Context, origin: str, *, is_empty: bool) -> "LoginSource":
    from egec_cli.logins import sources

    return sources.count_login(context, origin, is_empty=is_empty)


def _forget_for_network(source: "LoginSource | None") -> None:
    if source is not None:
        from egec_cli.logins import sources

        sources.forget_login(source)


def _is_exempt(context: Context, client: Client | None, source: "LoginSource") -> bool:
    from egec_cli.logins import sources

    return sources.is_exempt(context, client, source)


def _reason_for_wait(*, is_block: bool) -> LoginReason:
    return LoginReason.BLOCKED if is_block else LoginReason.WAITING


def _arrived_mail(compared: ComparedLogin) -> dict[str, Any]:
    """Return the sequence of a credential in doubt: this login proves that its mail arrived."""
    matching = compared.matching
    return {"arrived": matching.sequence} if matching is not None and matching.state in OPEN_STATES else {}


def _reason(context: Context, client: Client, started: StartedLogin, compared: ComparedLogin) -> LoginReason:
    matching = compared.matching
    if matching is None:
        return LoginReason.WRONG_PASSWORD if started.candidates else LoginReason.NO_PASSWORD
    now = validity.local_moment(context)
    if not states.accept_login(client, matching, now):
        return _reason_for_shut(Client.get_by_id(client.id), now) or LoginReason.WRONG_PASSWORD
    if compared.new_hash is not None:
        states.raise_refusal_cost([compared.new_hash])
        Credential.update(password_hash=compared.new_hash).where(
            (Credential.id == matching.id) & (Credential.password_hash == matching.password_hash)
        ).execute()
    return LoginReason.ACCEPTED


def _reason_for_shut(client: Client, now: LocalMoment) -> LoginReason | None:
    """Return why even the right password of a client is refused; None if it is accepted."""
    if client.disabled_at is not None:
        return LoginReason.DISABLED
    return None if now.is_within(client.valid_from, client.valid_until) else LoginReason.INACTIVE


def trim(text: str) -> str:
    """Remove white space around a text, including no-break and zero-width characters.

    Generated passwords have none, so nothing is lost (NIST SP 800-63B, 3.1.1.2, allows it).
    """
    before = None
    while text != before:
        before = text
        text = text.strip().strip(_INVISIBLE)
    return text
