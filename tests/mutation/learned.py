"""What is known of the tests without a mutant: how long each takes, and what of the program it runs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.mutation.mutants import Mutant
from tests.mutation.results import digest
from tests.mutation.targets import PACKAGE, TARGETS, TESTS


class Known(NamedTuple):
    """A test.

    Attributes:
        seconds: how long it takes.
        functions: what it calls, by module.
        lines: the numbers of the lines that it runs, by module.
    """

    seconds: float
    functions: Mapping[str, Sequence[str]]
    lines: Mapping[str, Sequence[int]]

    def distance(self, mutant: Mutant) -> int:
        """Return 0 if it runs the line of a mutant; more, the further it stays away."""
        functions = self.functions.get(mutant.path, ())
        near = (mutant.line in self.lines.get(mutant.path, ()), mutant.function in functions, bool(functions), True)
        return near.index(True)


# What the start of a PostgreSQL server adds to a test, in seconds.
_START = 10.0


class Learned:
    """What is known of the tests, one file per file of tests; valid until those tests or their modules change."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "learned"
        self._folder.mkdir(parents=True, exist_ok=True)

    def of(self, file: str) -> dict[str, Known] | None:
        """Return what is known of the tests of a file, by test."""
        try:
            kept = json.loads(self._kept(file).read_text())
        except FileNotFoundError:
            return None
        return {name: Known(**one) for name, one in kept["tests"].items()} if kept["state"] == _state(file) else None

    def add(self, file: str, tests: object) -> None:
        """Keep what was learned of the tests of a file, as the plugin has written it."""
        self._kept(file).write_text(json.dumps({"state": _state(file), "tests": tests}))

    def _kept(self, file: str) -> Path:
        return self._folder / f"{file.replace('/', '.')}.json"


def _state(file: str) -> str:
    modules = [PACKAGE / path for path, files in TARGETS.items() if file in files]
    return digest([TESTS / file, *modules])


def with_postgresql(tests: Mapping[str, Known]) -> dict[str, Known]:
    """Add to tests on SQLite the same tests on PostgreSQL, most of which exist."""
    others = {
        name.replace("sqlite", "postgresql"): known._replace(seconds=known.seconds + _START)
        for name, known in tests.items()
    }
    return others | dict(tests)


def in_order(mutant: Mutant, tests: Mapping[str, Known], killers: Sequence[str]) -> list[str]:
    """Return the tests of the module of a mutant, first those that are most likely to notice it soonest.

    Args:
        mutant: the change.
        tests: all tests of its module.
        killers: the tests that noticed others in the same function.
    """

    def rank(name: str) -> tuple[bool, int, bool, float]:
        known = tests[name]
        return name not in killers, known.distance(mutant), "postgresql" in name, known.seconds

    return sorted(tests, key=rank)
