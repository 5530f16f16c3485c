"""The highest bcrypt cost of any stored hash: refused logins take the time of one comparison at this cost.

The fact is kept in the table `installation`, and rises in the transaction that stores a hash. It never falls: a hash of
this cost may still be stored somewhere.
"""

from collections.abc import Iterable

from egec_cli.context import Context
from egec_cli.store import peewee
from egec_cli.store.models import Credential, Installation
from egec_cli.store.sql import fetch_tuples

_NAME = "highest_hash_cost"
# bcrypt takes no other; a malformed hash may say anything.
_COSTS = range(4, 32)


def of_refusals(context: Context) -> int:
    """Return the cost of the comparisons that a refused login takes: that of new hashes, or the highest stored one."""
    known = _known()
    if known is None:
        with context.database.atomic():
            _raise(_highest_stored())
        known = _known()
    return max(known or 0, context.settings.bcrypt_cost)


def note(hashes: Iterable[str]) -> None:
    """Take note of the costs of hashes that are being stored, within the transaction that stores them."""
    # Imported here: commands that only read clients do without bcrypt.
    from egec_cli import hashing

    highest = max(map(hashing.hash_cost, hashes), default=0)
    known = _known()
    if known is None:
        _raise(max(highest, _highest_stored()))
    elif highest > known:
        _raise(highest)


def _known() -> int | None:
    value = next((value for (value,) in fetch_tuples(Installation.select(Installation.value).where(_IS_IT))), None)
    return None if value is None else int(value)


_IS_IT = Installation.name == _NAME


def _raise(cost: int) -> None:
    """Record a cost unless a higher one is recorded; of two processes at once, the higher cost stays."""
    is_higher = peewee.EXCLUDED.value.cast("INTEGER") > Installation.value.cast("INTEGER")
    Installation.insert(name=_NAME, value=str(cost)).on_conflict(
        conflict_target=[Installation.name], update={Installation.value: peewee.EXCLUDED.value}, where=is_higher
    ).execute()


def _highest_stored() -> int:
    """Return the highest cost of the stored hashes; it reads all of them, once in the life of a database."""
    # As in $2b$12$…: the cost has two digits.
    costs = Credential.select(peewee.fn.SUBSTR(Credential.password_hash, 5, 2)).where(
        Credential.password_hash.is_null(False)
    )
    found = {int(cost) for (cost,) in fetch_tuples(costs.distinct()) if cost.isascii() and cost.isdecimal()}
    return max(found.intersection(_COSTS), default=0)
