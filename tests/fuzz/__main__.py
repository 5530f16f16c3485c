"""The command line of the fuzz: see the package."""

import argparse
import multiprocessing
import os
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.fuzz import cases, execution, servers, worlds
from tests.fuzz.cases import Case
from tests.fuzz.execution import Ended, Ground

DEADLINE = 60.0
SLOW = 5.0


class Result(NamedTuple):
    """A case that has run."""

    case: Case
    ended: Ended
    faults: list[str]


def run_one(number: int, *, seed: int, ports: tuple[int, ...], ground: Ground) -> Result:
    """Make, run and judge a case."""
    case = cases.make(seed, number, ports)
    ended = execution.run(case, ground)
    return Result(case, ended, execution.faults(case, ended))


def run(numbers: Sequence[int], seed: int, jobs: int, deadline: float = DEADLINE) -> Iterator[Result]:
    """Run the cases of these numbers; yield each as it ends."""
    execution.import_all()
    with _ground(deadline) as ground, servers.running() as ports:
        context = multiprocessing.get_context("fork")
        with context.Pool(jobs, initializer=_begin, initargs=(ground,)) as pool:
            yield from pool.imap_unordered(partial(_run_protected, seed=seed, ports=ports), numbers, chunksize=10)


_GROUND: list[Ground] = []


def _begin(ground: Ground) -> None:
    execution.import_all()
    _GROUND.append(ground._replace(is_protected=execution.protect(ground.folder)))


def _run_protected(number: int, *, seed: int, ports: tuple[int, ...]) -> Result:
    return run_one(number, seed=seed, ports=ports, ground=_GROUND[0])


@contextmanager
def _ground(deadline: float) -> Iterator[Ground]:
    memory = Path("/dev/shm")
    where = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="egec-fuzz-", dir=where) as name:
        folder = Path(name)
        yield Ground(folder, worlds.usual(folder), deadline, is_protected=False)


def report(result: Result, *, whole: bool = False) -> str:
    """Describe a case and how to run it again."""
    case, ended = result.case, result.ended
    verdict = ", ".join(result.faults) or f"ends with {ended.code}, as it may"
    lines = [
        f"case {case.number}: {verdict} ({ended.seconds:.1f} s)",
        f"  again: python -m tests.fuzz --seed {case.seed} --only {case.number}",
        f"  egec {shlex.join(case.arguments)[:2_000]!r}",
        f"  database: {case.database}; streams: {' '.join(case.streams)}",
    ]
    if whole:
        lines += [f"  {name}={value[:500]!r}" for name, value in case.environment.items()]
        for name, content in case.settings_files.items():
            lines.append(f"  file {name}: {'a pipe' if content is None else repr(content[:2_000])}")
        lines += [f"  typed: {case.typed[:2_000]!r}", f"  answers: {case.answers}", f"  stdout: {ended.out[:5_000]!r}"]
    tail = ended.err[-2_500:] if whole else ended.err[-1_200:]
    return "\n".join([*lines, *(f"  | {line!s}" for line in tail.decode(errors="backslashreplace").splitlines())])


def main() -> int:
    """Run the cases, print those that fail, and return 1 if there are any."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description="Generated command lines, settings and files."
    )
    parser.add_argument("--cases", type=int, default=20_000, help="number of cases (default: 20000)")
    parser.add_argument("--seed", type=int, default=1, help="what the cases are made from (default: 1)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case (default: 0)")
    parser.add_argument("--only", type=int, help="run this case alone and print all about it")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="cases at the same time (default: one per core)"
    )
    parser.add_argument(
        "--deadline", type=float, default=DEADLINE, help=f"seconds a case may take (default: {DEADLINE:.0f})"
    )
    asked = parser.parse_args()
    numbers = [asked.only] if asked.only is not None else range(asked.first, asked.first + asked.cases)
    codes: Counter[str] = Counter()
    failed: list[int] = []
    slow: list[tuple[float, int]] = []
    began = time.monotonic()
    for done, result in enumerate(run(numbers, asked.seed, asked.jobs, asked.deadline), 1):
        codes[str(result.ended.code)] += 1
        if result.ended.seconds > SLOW:
            slow.append((round(result.ended.seconds, 1), result.case.number))
        if result.faults:
            failed.append(result.case.number)
        if result.faults or asked.only is not None:
            print(report(result, whole=asked.only is not None), flush=True)
        if done % 1_000 == 0:
            print(f"{done} cases, {len(failed)} failed, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(f"seed {asked.seed}: {sum(codes.values())} cases in {time.monotonic() - began:.0f} s")
    print(f"exit codes: {dict(codes.most_common())}")
    if slow:
        print(f"slowest: {sorted(slow, reverse=True)[:10]}")
    print(f"failed: {len(failed)} {sorted(failed)[:100]}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
