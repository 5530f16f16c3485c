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
    """The progress of a command on stderr: a bar on a terminal, otherwise a line every 30 seconds."""

    def __init__(self, name: str, total: int, done: int, failed: int, output: OutputFormat) -> None:
        """Start from the numbers of earlier commands; `done` includes `failed`."""
        self._name = name
        self._total = total
        self._done = done
        self._failed = failed
        self._done_here = 0
        self._started = self._shown_at = time.monotonic()
        self._has_lines = output is OutputFormat.TABLE and not is_quiet()
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
        """Count one more as done."""
        self._done_here += 1
        self.correct(self._done + 1, self._failed + failed)
        if self._has_lines and self._bar is None and time.monotonic() - self._shown_at >= _SECONDS_BETWEEN_LINES:
            self._show_line()

    def correct(self, done: int, failed: int) -> None:
        """Show these numbers, which include the work of other processes."""
        self._done, self._failed = done, failed
        if self._bar is not None:
            self._bar.update(self._task, completed=done, failed=failed)

    def __exit__(self, *_error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._has_lines:
            self._show_line()

    def _show_line(self) -> None:
        self._shown_at = time.monotonic()
        rate = self._done_here / max(self._shown_at - self._started, 0.001)
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
    # Imported here, for terminals only: it takes as long as the rest of a command.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(translate(Words("{number} failed", number="{task.fields[failed]}"))),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        # rich prints redirected output to the console of the bar, which is stderr: in a pipe the data would be lost.
        redirect_stdout=sys.stdout.isatty(),
    )
