"""Progress of long commands, on stderr, for people."""

import sys
import time
from datetime import timedelta
from typing import Any, Self

from egec_cli.output.formats import OutputFormat
from egec_cli.output.messages import is_quiet, note, to_text
from egec_cli.translation import Words, translate

_SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """How far a long command has come, on stderr, for people: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, name: str, total: int, done: int, failed: int, output: OutputFormat) -> None:
        """Begin with what earlier commands have done.

        Args:
            name: what is worked on.
            total: how many there are of what is worked on.
            done: how many of them were dealt with before, failed ones included.
            failed: how many of them failed before.
            output: the format of the results.
        """
        self._name = name
        self._total = total
        self._done = done
        self._failed = failed
        self._done_here = 0
        self._began = self._told = time.monotonic()
        self._is_told = output is OutputFormat.TABLE and not is_quiet()
        self._bar: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and not is_quiet():
            self._bar = _progress_bar()
            self._task = self._bar.add_task(
                to_text(self._name), total=self._total, completed=self._done, failed=self._failed
            )
            self._bar.start()
        return self

    def advance(self, *, failed: bool) -> None:
        """Count one more that is done."""
        self._done_here += 1
        self.correct(self._done + 1, self._failed + failed)
        if self._is_told and self._bar is None and time.monotonic() - self._told >= _SECONDS_BETWEEN_LINES:
            self._tell()

    def correct(self, done: int, failed: int) -> None:
        """Show these numbers, which also count what other processes have done."""
        self._done, self._failed = done, failed
        if self._bar is not None:
            self._bar.update(self._task, completed=done, failed=failed)

    def __exit__(self, *_error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._is_told:
            self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        rate = self._done_here / max(self._told - self._began, 0.001)
        remaining = self._total - self._done
        is_known = rate and remaining
        left = Words(", about {time} left", time=timedelta(seconds=round(remaining / rate))) if is_known else ""
        note(
            "egec: {name}: {done} of {total} done, {failed} failed, {rate:.1f}/s{left}",
            name=self._name,
            done=self._done,
            total=self._total,
            failed=self._failed,
            rate=rate,
            left=left,
        )


def _progress_bar() -> Any:
    # Costs as much as all the rest of a command: only for people at a terminal.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(translate(Words("{number} failed", number="{task.fields[failed]}"))),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
