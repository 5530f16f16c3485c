"""Where requests and logins come from: networks of addresses, their keyed hashes, and limits on their acts.

The database and the audit log hold no addresses, only hashes. Their key is made at first use and kept in the table
`installation`. Without it, no one can find the address behind a hash in a log or an export by trying all addresses.
Someone who has the whole database has the key too.

A limit is for instance 10 requests an hour from one network, or 5 a day for one client. The times of the acts that
count are kept in one row for each subject, so a limit holds for any period of its length. An act is counted before it
begins, in a transaction of its own that locks the row: however many processes count at once, no more acts are allowed
than the limit says. Acts beyond the limit do not count, so they do not prolong anything.

`count_act` waits for the row of its subject while it holds no other lock. `forget_act` may hold the row of the client
or, for a request, that of the network; those are always locked first. So no two transactions wait for each other.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from egec_cli.clock import TOLERANCE
from egec_cli.context import Context
from egec_cli.errors import InvalidInput
from egec_cli.settings.types import Limit
from egec_cli.store.models import Installation, RateCount
from egec_cli.store.sql import brief_transaction, delete_ended, fetch_tuples, lock_rows

# Providers give a household or a firm at least such a network, so a single address would be easy to change.
_IPV4_PREFIX, _IPV6_PREFIX = 24, 64
_KEY_NAME = "origin_key"
_KEY_BYTES = 32
_HASH_BYTES = 6
# Much longer than any address or host name.
_LONGEST_NAME = 255
# The rows without effect that each count deletes: more than it can add, so their number shrinks.
_PRUNED_PER_COUNT = 20
_PRUNED_AT_ONCE = 1000
_MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_network(text: str) -> str:
    """Return the network of an IP address, such as `192.0.2.0/24` or `2001:db8::/64`.

    An IPv4 address in IPv6 form (`::ffff:192.0.2.7`) counts as IPv4.

    Raises:
        InvalidInput: the text is not an IP address.
    """
    # Imported here: a login without an origin does not need it.
    import ipaddress

    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise InvalidInput(
            "the origin is not an IP address",
            "Pass the address of the client alone, such as 192.0.2.7 or 2001:db8::7, without a port or a name.",
            code="invalid_origin",
        ) from None
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        if mapped is None:
            # By number: an address may have a zone (fe80::1%eth0), a network may not.
            return str(ipaddress.ip_network((int(address), _IPV6_PREFIX), strict=False))
        address = mapped
    return str(ipaddress.ip_network((int(address), _IPV4_PREFIX), strict=False))


def parse_network_or_name(text: str) -> str:
    """Return the network of an IP address; another text, such as the host name that PAM may have, counts as it is."""
    try:
        return parse_network(text)
    except InvalidInput:
        return text[:_LONGEST_NAME].casefold()


def hash_text(context: Context, text: str) -> str:
    """Return the keyed hash of a network or another text, as 12 hexadecimal digits."""
    # Imported here: a login without an origin does not need it.
    from hashlib import blake2b

    data = text.encode(errors="replace")
    return blake2b(data, key=_load_key(context), digest_size=_HASH_BYTES).hexdigest()


def _load_key(context: Context) -> bytes:
    found = _find_key()
    if found is None:
        with context.database.atomic():
            made = os.urandom(_KEY_BYTES).hex()
            # Another process may do the same at this moment; the first key stays.
            Installation.insert(name=_KEY_NAME, value=made).on_conflict_ignore().execute()
        found = _find_key()
    return bytes.fromhex(found or "")


def _find_key() -> str | None:
    query = Installation.select(Installation.value).where(Installation.name == _KEY_NAME)
    return next((value for (value,) in fetch_tuples(query)), None)


class Counted(NamedTuple):
    """An act that was counted.

    Attributes:
        subject: what it was counted for.
        is_within: whether the limits allow it.
        time: when it was counted, in milliseconds since 1970.
        beyond: how many acts were beyond the limits since the last one within them, this one included.
    """

    subject: str
    is_within: bool
    time: int
    beyond: int

    @property
    def is_recorded(self) -> bool:
        """Whether a log should record it: all acts within the limits, then the 1st, 10th, 100th and so on beyond."""
        return self.is_within or str(self.beyond).rstrip("0") == "1"


def count_act(context: Context, subject: str, limits: Sequence[Limit]) -> Counted:
    """Count an act of a subject and return whether the limits allow it.

    Args:
        subject: a word and a number or a hash; never an address.
        limits: at least one.
    """
    # A crash of the machine may undo it, as it ends the act too.
    with brief_transaction(context.database):
        ends_at = context.clock()
        # It locks the row, whether it is new or not.
        RateCount.insert(subject=subject, times="", beyond=0, ends_at=ends_at).on_conflict(
            conflict_target=[RateCount.subject], update={RateCount.beyond: RateCount.beyond}
        ).execute()
        query = RateCount.select(RateCount.times, RateCount.beyond).where(RateCount.subject == subject)
        stored, beyond = next(fetch_tuples(query))
        # Read the clock while the row is locked, so that the times are in order.
        now = context.clock()
        longest = timedelta(seconds=max(limit.seconds for limit in limits))
        # A time ahead was counted before the clock was set back.
        times = [time for time in _parse(stored) if now - longest < _to_moment(time) <= now + TOLERANCE]
        is_within = all(_count_since(times, now, limit) < limit.number for limit in limits)
        time = _to_milliseconds(now)
        if is_within:
            times.append(time)
        beyond = 0 if is_within else beyond + 1
        ends_at = _to_moment(times[-1]) + longest if times else now
        _store(subject, times, beyond, ends_at)
        delete_ended(RateCount, now, most=_PRUNED_PER_COUNT)
        return Counted(subject, is_within, time, beyond)


def forget_act(counted: Counted) -> None:
    """Take back an act that was counted, within a transaction: it came to nothing, or need not be limited."""
    rows = RateCount.select(RateCount.times, RateCount.beyond, RateCount.ends_at)
    found = next(fetch_tuples(lock_rows(rows.where(RateCount.subject == counted.subject))), None)
    if found is not None:
        stored, beyond, ends_at = found
        times = _parse(stored)
        if counted.time in times:
            times.remove(counted.time)
            _store(counted.subject, times, beyond, ends_at)


def prune_counts(context: Context) -> None:
    """Delete the rows that have no more effect."""
    now = context.clock()
    deleted = _PRUNED_AT_ONCE
    while deleted == _PRUNED_AT_ONCE:
        with brief_transaction(context.database):
            deleted = delete_ended(RateCount, now, most=_PRUNED_AT_ONCE)


def _store(subject: str, times: Sequence[int], beyond: int, ends_at: datetime) -> None:
    values = {RateCount.times: " ".join(map(str, times)), RateCount.beyond: beyond, RateCount.ends_at: ends_at}
    RateCount.update(values).where(RateCount.subject == subject).execute()


def _count_since(times: Sequence[int], now: datetime, limit: Limit) -> int:
    begin = now - timedelta(seconds=limit.seconds)
    return sum(_to_moment(time) > begin for time in times)


def _parse(stored: str) -> list[int]:
    return [int(time) for time in stored.split()]


def _to_milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND


def _to_moment(milliseconds: int) -> datetime:
    return _EPOCH + milliseconds * _MILLISECOND
