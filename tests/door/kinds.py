"""Requests of known, unknown, disabled and limited clients, for the benchmark of undisclosed answers.

Not in the benchmark itself: workers import it by its name.
"""

from collections.abc import Sequence

KINDS = ("known", "unknown", "disabled", "limited")
LIMITED_ORIGIN = "10.255.255.1"


def make_nth(order: Sequence[tuple[str, int]], number: int) -> bytes:
    """Return the input of one request of a series of kinds."""
    kind, one = order[number]
    if kind == "limited":
        return f"known{one}@example.org\n{LIMITED_ORIGIN}".encode() if one % 2 else b"jeanne@example.org"
    return f"{kind}{one}@example.org".encode()


def make_limiting(_number: int) -> bytes:
    """Return the input that uses up the limits of Jeanne and of a network."""
    return f"jeanne@example.org\n{LIMITED_ORIGIN}".encode()
