"""Run `egec` thousands of times, each as a process of its own: forked from one that has loaded it already."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import IO, NamedTuple

from tests import children
from tests.processes import command_of

# Each worker loads egec first, which takes half a second.
_WORTH_A_WORKER = 100


class Forked(NamedTuple):
    """How one of the processes ended, and after how many seconds; its standard error is cut at 2,000 characters."""

    code: int
    out: str
    err: str
    seconds: float


def run_all(
    arguments: Sequence[str],
    make_input: Callable[[int], bytes],
    number: int,
    environ: Mapping[str, str],
    *,
    workers: int = 0,
) -> list[Forked]:
    """Run `egec` with these arguments as often as `number` says; return how each ended.

    Args:
        make_input: returns the standard input of one of them, by its number. The workers call it: if they held all
            inputs in memory, each fork would be slow.
        workers: how many processes are at work at a time; by default two, or one for few.
    """
    workers = workers or min(2, 1 + number // _WORTH_A_WORKER)
    running = []
    for first in range(workers):
        numbers = range(first, number, workers)
        command = command_of(partial(children.run_each_forked, list(arguments), make_input, numbers))
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, env=dict(environ)))
    found: list[list[Forked]] = []
    for process in running:
        output, _ = process.communicate()
        assert process.returncode == 0
        found.append([Forked(*json.loads(line)) for line in output.splitlines()])
    return [found[one % workers][one // workers] for one in range(number)]


def fork_and_run(arguments: Sequence[str], data: bytes) -> Forked:
    """Run `egec` in a fork of this process, which must have one thread and no database open."""
    from tempfile import TemporaryFile

    with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as err:
        given.write(data)
        given.seek(0)
        begin = time.perf_counter()
        child = os.fork()
        if child == 0:
            try:
                os._exit(_run(arguments, given, out, err))
            finally:
                os._exit(99)
        _, status = os.waitpid(child, 0)
        seconds = time.perf_counter() - begin
        out.seek(0)
        err.seek(0)
        texts = (stream.read().decode(errors="replace") for stream in (out, err))
        return Forked(os.waitstatus_to_exitcode(status), next(texts), next(texts)[:2000], seconds)


def _run(arguments: Sequence[str], given: IO[bytes], out: IO[bytes], err: IO[bytes]) -> int:
    for number, stream in enumerate((given, out, err)):
        os.dup2(stream.fileno(), number)
    # Of the new files; they stay open until the process ends.
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    from egec_cli.main import run

    code = run(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    return code
