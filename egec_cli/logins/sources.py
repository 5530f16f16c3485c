"""Where logins come from: a limit on the failures of one network over all accounts.

A login counts before its password is compared, and no longer once it is accepted. While a network is beyond its limit,
its logins are refused unchecked, so that guessing costs no time either. Accounts that signed in from the same network
in the last days are checked nevertheless: a firm behind one address is not locked out by one of its machines.
"""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple

from egec_cli import networks
from egec_cli.audit.events import record_event
from egec_cli.context import Context
from egec_cli.networks import Counted
from egec_cli.store import peewee
from egec_cli.store.models import Client, Event
from egec_cli.store.sql import fetch_tuples

# How long an accepted login exempts its account from the limit of its network.
TRUST = timedelta(days=30)
# The events of an account that are looked at for its networks, the latest first.
_MOST_EVENTS = 1000


class LoginSource(NamedTuple):
    """The network of a login.

    Attributes:
        hash: the keyed hash of the network.
        counted: the login as counted for the limit; None without a limit.
    """

    hash: str
    counted: Counted | None

    @property
    def is_limited(self) -> bool:
        """Whether the network is beyond its limit."""
        return self.counted is not None and not self.counted.is_within


def count_login(context: Context, origin: str, *, is_empty: bool = False) -> LoginSource:
    """Count a login from an address, or from a host name if no address is known.

    Args:
        is_empty: the login names no identifier. It guesses at no account, so it is counted separately, with the same
            limits.
    """
    found = networks.hash_text(context, networks.parse_network_or_name(origin))
    limits = context.settings.failures_per_origin
    act = "empty login" if is_empty else "login"
    return LoginSource(found, networks.count_act(context, f"{act} {found}", limits) if limits else None)


def forget_login(source: LoginSource) -> None:
    """Take back the count of a login that was accepted or not checked, within a transaction."""
    if source.counted is not None and source.counted.is_within:
        networks.forget_act(source.counted)


def is_exempt(context: Context, client: Client | None, source: LoginSource) -> bool:
    """Return whether the account is checked although its network is beyond the limit."""
    if client is None:
        return False
    now = context.clock()
    if client.blocked_until is not None and client.blocked_until > now:
        # Its refusal would cost a comparison, and tell no one anything.
        return False
    accepted = _logins(client, "accepted").where((Event.at > now - TRUST) & Event.details.contains(_detail(source)))
    return bool(accepted.exists())


def record_limited(context: Context, source: LoginSource, reason: str) -> None:
    """Record a login that was refused unchecked: the first one, then the 10th, 100th and so on."""
    if source.counted is not None and source.counted.is_recorded:
        with context.database.atomic():
            record_event(context, "login", "refused", reason=reason, origin=source.hash, number=source.counted.beyond)


def count_networks(client: Client) -> int:
    """Return from how many known networks logins to the account were refused since the last accepted one."""
    return len(set(_networks_of_failures(client)))


def _networks_of_failures(client: Client) -> Iterator[str]:
    last = _logins(client, "accepted").select(peewee.fn.MAX(Event.id)).scalar() or 0
    rows = _logins(client, "refused").where(Event.id > last).order_by(Event.id.desc()).limit(_MOST_EVENTS)
    for (details,) in fetch_tuples(rows):
        if origin := json.loads(details).get("origin"):
            yield origin


def _logins(client: Client, outcome: str) -> Any:
    is_login = (Event.client == client) & (Event.action == "login") & (Event.outcome == outcome)
    return Event.select(Event.details).where(is_login)


def _detail(source: LoginSource) -> str:
    return f'"origin": "{source.hash}"'
