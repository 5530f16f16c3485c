"""The highest bcrypt cost of any stored hash: a refused login takes the time of one comparison at this cost.

The table `installation` keeps it. It rises in the transaction that stores a hash, and never falls.
"""

from collections.abc import Iterable

from egec_cli.context import Context
from egec_cli.store import peewee
from egec_cli.store.models import Credential, Installation
from egec_cli.store.sql import fetch_tuples

_NAME = "highest_hash_cost"
# The costs that bcrypt supports; a malformed hash may contain others.
_COSTS = range(4, 32)


def get_refusal_cost(context: Context) -> int:
    """Return the cost at which refused logins are compared: that of new hashes or the highest stored one."""
    recorded = _load_recorded()
    if recorded is None:
        with context.database.atomic():
            _record(_highest_stored())
        recorded = _load_recorded()
    return max(recorded or 0, context.settings.bcrypt_cost)


def raise_refusal_cost(hashes: Iterable[str]) -> None:
    """Raise the recorded cost to that of hashes being stored; call it within the transaction that stores them."""
    # Imported here: commands that only read clients do not need bcrypt.
    from egec_cli import hashing

    highest = max(map(hashing.hash_cost, hashes), default=0)
    recorded = _load_recorded()
    if recorded is None:
        _record(max(highest, _highest_stored()))
    elif highest > recorded:
        _record(highest)


def _load_recorded() -> int | None:
    query = Installation.select(Installation.value).where(Installation.name == _NAME)
    value = next((value for (value,) in fetch_tuples(query)), None)
    return None if value is None else int(value)


def _record(cost: int) -> None:
    """Record a cost unless a higher one is recorded, also when two processes do so at once."""
    is_higher = peewee.EXCLUDED.value.cast("INTEGER") > Installation.value.cast("INTEGER")
    Installation.insert(name=_NAME, value=str(cost)).on_conflict(
        conflict_target=[Installation.name], update={Installation.value: peewee.EXCLUDED.value}, where=is_higher
    ).execute()


def _highest_stored() -> int:
    """Return the highest cost among all stored hashes; this scan happens once in the life of a database."""
    # The two digits after the version, as in $2b$12$…
    costs = Credential.select(peewee.fn.SUBSTR(Credential.password_hash, 5, 2)).where(
        Credential.password_hash.is_null(False)
    )
    found = {int(cost) for (cost,) in fetch_tuples(costs.distinct()) if cost.isascii() and cost.isdecimal()}
    return max(found.intersection(_COSTS), default=0)
