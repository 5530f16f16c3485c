"""The command: `python -m tests.mutation --help`."""

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from queue import Queue
from types import FrameType

from tests.mutation.learned import Known, Learned, in_order, with_postgresql
from tests.mutation.mutants import Mutant, mutants_of
from tests.mutation.results import Results, difference, equivalents, report
from tests.mutation.targets import PACKAGE, ROOT, TARGETS
from tests.mutation.trial import Copy, FailsWithoutMutant, copies


def main() -> int:
    """Run the command, and return its exit code."""
    signal.signal(signal.SIGTERM, _end)
    # A shell lets what runs in the background ignore it, and so would the tests, which are ended by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    arguments = _arguments()
    mutants = chosen(arguments.only, arguments.sample, arguments.seed)
    if not mutants:
        sys.exit("no mutant is meant: see --list")
    if arguments.list:
        for mutant in mutants:
            print(f"\n{mutant.kind} in {mutant.function or 'the module'}, key {mutant.key[:8]}")
            print("\n".join(difference(mutant)))
        print(f"\n{len(mutants)} mutants")
        return 0
    results = Results(arguments.folder, fresh=arguments.fresh)
    if not arguments.report:
        listed = equivalents()
        waiting = [one for one in mutants if results.of(one) is None and not any(e.is_of(one) for e in listed)]
        if waiting:
            try:
                _try_all(waiting, results, Learned(arguments.folder), arguments.jobs)
            except FailsWithoutMutant as failure:
                sys.exit(str(failure))
    return 0 if report(results, mutants) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description="Break the program; see who notices.")
    parser.add_argument(
        "--sample", type=int, metavar="N", help="number of mutants to try, chosen at random (default: all)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="which sample (default: 1)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="TEXT", help="those whose path, function or key has this text"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="mutants tried at the same time (default: 1)")
    parser.add_argument("--list", action="store_true", help="show the mutants and run nothing")
    parser.add_argument("--report", action="store_true", help="show what earlier runs found and run nothing")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs found")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / ".mutation", help="where results are kept (default: .mutation)"
    )
    return parser.parse_args()


def chosen(only: Sequence[str], sample: int | None, seed: int) -> list[Mutant]:
    """Return the mutants that are meant, module by module.

    Args:
        only: texts, all of which the path, the function or the key of a mutant must have.
        sample: the maximum number, chosen at random.
        seed: of the choice; it stays the same for mutants that have not changed, whatever changes around them.
    """
    found = [
        mutant
        for path in TARGETS
        for mutant in mutants_of(path, (PACKAGE / path).read_bytes())
        if all(text in f"{path} {mutant.function} {mutant.key}" for text in only)
    ]
    if sample is None:
        return found
    by_chance = sorted(found, key=lambda one: sha256(f"{seed} {one.key}".encode()).digest())
    drawn = frozenset(by_chance[:sample])
    return [mutant for mutant in found if mutant in drawn]


def _try_all(mutants: Sequence[Mutant], results: Results, learned: Learned, jobs: int) -> None:
    files = [file for file in _files(mutants) if learned.of(file) is None]
    jobs = min(max(1, jobs), len(mutants))
    with copies(jobs) as made, ThreadPoolExecutor(jobs) as pool:
        free: Queue[Copy] = Queue()
        for copy in made:
            free.put(copy)

        confirmed: dict[str, bool] = {}

        def learn(file: str) -> str:
            with _taken(free) as copy:
                learned.add(file, copy.learn(file))
            return f"learned what the tests of {file} run"

        def try_one(mutant: Mutant) -> str:
            tests: dict[str, Known] = {}
            for file in TARGETS[mutant.path]:
                tests |= learned.of(file) or {}
            all_tests = with_postgresql(tests)
            order = in_order(mutant, all_tests, results.killers(mutant))
            with _taken(free) as copy:
                trial = copy.try_with(mutant, {name: all_tests[name].seconds for name in order})
                if trial.by and trial.by not in tests | confirmed:
                    copy.require_pass(trial.by)
                    confirmed[trial.by] = True
            results.add(mutant, trial)
            return (
                f"{trial.outcome} in {trial.seconds:.0f} s: "
                f"{mutant.path}:{mutant.line} {mutant.before} -> {mutant.after}"
            )

        try:
            for work in ([(learn, file) for file in files], [(try_one, mutant) for mutant in mutants]):
                for number, future in enumerate(as_completed([pool.submit(*one) for one in work]), 1):
                    print(f"[{number}/{len(work)}] {future.result()}", file=sys.stderr, flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for copy in made:
                copy.stop()
            raise


def _files(mutants: Sequence[Mutant]) -> list[str]:
    """Return the files of the tests of these mutants."""
    return list(dict.fromkeys(file for mutant in mutants for file in TARGETS[mutant.path]))


@contextmanager
def _taken(free: Queue[Copy]) -> Iterator[Copy]:
    copy = free.get()
    try:
        yield copy
    finally:
        free.put(copy)


def _end(number: int, _frame: FrameType | None) -> None:
    """Clean up before the process ends."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
