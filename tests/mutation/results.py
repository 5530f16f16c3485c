"""The results of the mutants: kept in a file, so that an interrupted run continues, and reported."""

import difflib
import json
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from tests.mutation.mutants import Mutant
from tests.mutation.targets import PACKAGE, TARGETS, TESTS
from tests.mutation.trial import Outcome, Trial

EQUIVALENT = Path(__file__).with_name("equivalent.toml")
WANTED = 0.95


class Equivalent(NamedTuple):
    """A mutant that no test can notice, and why; see `Mutant` for the first three. `before` has no line number."""

    function: str
    before: str
    after: str
    reason: str

    def is_of(self, mutant: Mutant) -> bool:
        """Tell whether it means this mutant."""
        return (self.function, self.before, self.after) == (mutant.function, mutant.before, mutant.after)


def equivalents() -> list[Equivalent]:
    """Return the mutants that `equivalent.toml` lists."""
    return [Equivalent(**entry) for entry in tomllib.loads(EQUIVALENT.read_text()).get("mutant", [])]


class Results:
    """The results of all runs; a later one replaces an earlier one of the same mutant."""

    def __init__(self, folder: Path, *, fresh: bool) -> None:
        folder.mkdir(exist_ok=True)
        self._file = folder / "results.jsonl"
        self._lock = Lock()
        if fresh:
            self._file.unlink(missing_ok=True)
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        self._known: dict[str, dict[str, Any]] = {one["key"]: one for one in map(json.loads, lines)}

    def seconds_without(self, path: str, stage: str) -> float | None:
        """Return how long a stage of the tests of a module took without a mutant, if they passed as they are now."""
        entry = self._known.get(f"{path} {stage}")
        return entry["seconds"] if entry is not None and entry["module"] == _state(path) else None

    def add_without(self, path: str, stage: str, seconds: float) -> None:
        """Keep how long a stage of the tests of a module took without a mutant."""
        self._add({"key": f"{path} {stage}", "seconds": seconds, "module": _state(path)})

    def add(self, mutant: Mutant, trial: Trial) -> None:
        """Keep what became of a mutant."""
        entry = {
            "key": _key(mutant),
            "path": mutant.path,
            "function": mutant.function,
            "before": mutant.before,
            "after": mutant.after,
            "outcome": trial.outcome,
            "by": trial.by,
            "seconds": round(trial.seconds, 1),
            "module": _digest([PACKAGE / mutant.path]),
            "tests": _digest([TESTS / test for test in TARGETS[mutant.path]]),
        }
        self._add(entry)

    def _add(self, entry: dict[str, Any]) -> None:
        with self._lock:
            self._known[entry["key"]] = entry
            with self._file.open("a") as file:
                print(json.dumps(entry), file=file)

    def of(self, mutant: Mutant) -> dict[str, Any] | None:
        """Return what became of a mutant, unless its module has changed since; or, if it survived, its tests."""
        entry = self._known.get(_key(mutant))
        if entry is None or entry["module"] != _digest([PACKAGE / mutant.path]):
            return None
        tests = _digest([TESTS / test for test in TARGETS[mutant.path]])
        return None if entry["outcome"] == Outcome.SURVIVED and entry["tests"] != tests else entry


def _key(mutant: Mutant) -> str:
    # Two modules may have functions and lines that are alike.
    return f"{mutant.path} {mutant.key}"


def _digest(files: Sequence[Path]) -> str:
    return sha256(b"".join(map(_content, files))).hexdigest()[:16]


def _state(path: str) -> str:
    return _digest([PACKAGE / path, *(TESTS / test for test in TARGETS[path])])


@lru_cache
def _content(file: Path) -> bytes:
    return file.read_bytes()


def report(results: Results, mutants: Sequence[Mutant]) -> bool:
    """Print what became of the mutants, with the change of each survivor. Return whether enough were killed."""
    listed = equivalents()
    outcomes: Counter[str] = Counter()
    for mutant in mutants:
        reason = next((one.reason for one in listed if one.is_of(mutant)), None)
        entry = results.of(mutant)
        if reason is not None:
            outcomes["equivalent"] += 1
        elif entry is None:
            outcomes["not tried"] += 1
        else:
            outcomes[entry["outcome"]] += 1
            if entry["outcome"] not in {Outcome.KILLED, Outcome.TIMED_OUT}:
                print(f"\n{entry['outcome']}: {mutant.kind} in {mutant.function or 'the module'}, key {mutant.key[:8]}")
                print("\n".join(difference(mutant)))
            elif entry["outcome"] == Outcome.TIMED_OUT:
                print(f"\ntimed out: {mutant.path}:{mutant.line} in {entry['by']}\n- {mutant.before}\n+ {mutant.after}")
    killed = outcomes[Outcome.KILLED] + outcomes[Outcome.TIMED_OUT]
    tried = killed + outcomes[Outcome.SURVIVED]
    print()
    print(", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items())))
    if tried:
        print(f"{killed} of {tried} killed: {killed / tried:.1%} (wanted: {WANTED:.0%})")
    return killed >= WANTED * tried


def difference(mutant: Mutant) -> Iterator[str]:
    """Return the change as a unified diff."""
    source = (PACKAGE / mutant.path).read_bytes()
    before, after = (text.decode().splitlines() for text in (source, mutant.applied(source)))
    file = f"{PACKAGE.name}/{mutant.path}"
    return difflib.unified_diff(before, after, f"a/{file}", f"b/{file}", n=2, lineterm="")
