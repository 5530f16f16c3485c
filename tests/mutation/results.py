"""The results of the mutants: kept in a file, so that an interrupted run continues, and reported."""

import ast
import difflib
import json
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from tests.mutation.mutants import Mutant
from tests.mutation.targets import PACKAGE, ROOT, TARGETS, TESTS
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
        # Read now, as they may be edited while mutants are tried.
        for file in {*TARGETS, *(test for tests in TARGETS.values() for test in tests)}:
            _content((PACKAGE if file in TARGETS else TESTS) / file)
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        self._known: dict[str, dict[str, Any]] = {one["key"]: one for one in map(json.loads, lines)}

    def add(self, mutant: Mutant, trial: Trial) -> None:
        """Keep what became of a mutant."""
        entry: dict[str, Any] = {
            "key": _key(mutant),
            "path": mutant.path,
            "function": mutant.function,
            "before": mutant.before,
            "after": mutant.after,
            "outcome": trial.outcome,
            "by": trial.by,
            "seconds": round(trial.seconds, 1),
            "module": digest([PACKAGE / mutant.path]),
            "tests": _tests(mutant, trial.by),
        }
        with self._lock:
            self._known[entry["key"]] = entry
            with self._file.open("a") as file:
                print(json.dumps(entry), file=file)

    def of(self, mutant: Mutant) -> dict[str, Any] | None:
        """Return what became of a mutant, unless its module or the tests that decided have changed since.

        Those of a survivor are all tests of its module; that of a killed one is the function that failed, without the
        fixtures and helpers that it uses. So a new test makes the survivors run again, and leaves the others alone.
        """
        entry = self._known.get(_key(mutant))
        if entry is None or entry["module"] != digest([PACKAGE / mutant.path]):
            return None
        return entry if entry["tests"] == _tests(mutant, entry["by"]) else None

    def killers(self, mutant: Mutant) -> list[str]:
        """Return the tests that noticed mutants in the same function."""
        same = (one for one in self._known.values() if (one["path"], one["function"]) == (mutant.path, mutant.function))
        return [one["by"] for one in same if one["outcome"] == Outcome.KILLED]


def _key(mutant: Mutant) -> str:
    # Two modules may have functions and lines that are alike.
    return f"{mutant.path} {mutant.key}"


def digest(files: Sequence[Path]) -> str:
    """Return the first digits of the hash of all that these files contain."""
    return sha256(b"".join(map(_content, files))).hexdigest()[:16]


def _tests(mutant: Mutant, by: str) -> str:
    """Return the digest of what decided: the function of a test that failed, or else all tests of the module."""
    file, _, name = by.partition("::")
    function = name.partition("[")[0].split("::")[-1]
    path = ROOT / file
    if function and path.is_file():
        text = _content(path).decode()
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.FunctionDef) and node.name == function:
                return sha256((ast.get_source_segment(text, node) or "").encode()).hexdigest()[:16]
    return digest([TESTS / test for test in TARGETS[mutant.path]])


@cache
def _content(file: Path) -> bytes:
    return file.read_bytes()


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(_content(file))


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
