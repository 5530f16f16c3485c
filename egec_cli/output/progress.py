"""Progress on stderr: a line at the bottom of a terminal that shows how far a command is.

A thread draws the line, so the work pays only for counting. What the command writes to the terminal meanwhile appears
above the line, unchanged: no line of the log is wrapped or cut.
"""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Event, RLock, Thread
from typing import Any, NamedTuple, Self, TextIO, TypeVar

from egec_cli.output.messages import is_quiet, note, to_text
from egec_cli.output.screen import cut_if_longer, text_width
from egec_cli.translation import Words, count_words, format_number, is_english, translate

# In seconds: short commands show nothing; the time between two drawings; the time over which a rate is measured.
PATIENCE = 1.0
_BETWEEN_DRAWINGS = 0.2
_WINDOW = 30.0
_LONGEST_BAR = 30
_SHORTEST_BAR = 8
_DONE, _LEFT = "━", "─"
_GAP = "  "
CLEAR = "\r\x1b[K"
# Below this rate, people want a decimal.
_SLOW = 10
_MEGABYTE = 10**6

_Record = TypeVar("_Record")


class _Sample(NamedTuple):
    time: float
    done: int
    fraction: float | None


class ProgressLine:
    """The progress of a command. Nothing is shown in a pipe, on a terminal of the type `dumb`, or with --quiet.

    Attributes:
        done: how much is done, which others may set.
        total: how much there is; None if that is unknown.
        detail: more words, such as `3 failed`.
        is_least: whether the time that is left is the least, as waits may come.
    """

    def __init__(
        self,
        name: str,
        unit: str = "",
        *,
        total: int | None = None,
        done: int = 0,
        fraction: Callable[[], float] | None = None,
        patience: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the line; it is shown within a `with` block.

        Args:
            name: what is being done.
            unit: what is counted, in the plural.
            total: how much there is, if that is known.
            done: how much earlier commands have done; it does not count for the rate.
            fraction: called for the part that is done, from 0 to 1, if the total is unknown.
            patience: how long to show nothing, in seconds (default: PATIENCE).
        """
        self.done = done
        self.total = total
        self.detail = ""
        self.is_least = False
        self._name = name
        self._unit = unit
        self._scale = 1
        self._estimate = fraction
        self._patience = PATIENCE if patience is None else patience
        self._clock = clock
        self._stop = Event()
        self._lock = RLock()
        self._is_drawn = self._was_drawn = self._is_suspended = False
        # Whether the cursor is at the start of a line, apart from the progress line.
        self._is_at_start = True
        self._thread: Thread | None = None
        self._stderr: TextIO = sys.stderr
        self._replaced: dict[str, Any] = {}
        self._start_measuring()

    def __enter__(self) -> Self:
        global _active
        self._start_measuring()
        if can_show_progress():
            self._stderr = sys.stderr
            for name in ("stdout", "stderr"):
                stream = getattr(sys, name)
                if stream.isatty():
                    self._replaced[name] = stream
                    setattr(sys, name, _StreamAbove(stream, self))
            _active = self
            self._thread = Thread(target=self._draw_until_stopped, name="progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        global _active
        if self._thread is None:
            return
        _active = None
        self._stop.set()
        self._thread.join()
        for name, stream in self._replaced.items():
            setattr(sys, name, stream)
        if self._was_drawn:
            self._draw(end="\n", is_over=error is None)

    def advance(self, number: int = 1) -> None:
        """Count more as done."""
        self.done += number

    def count(self, records: Iterable[_Record]) -> Iterator[_Record]:
        """Yield the records, and count each as done when the next one is wanted."""
        for record in records:
            yield record
            self.done += 1

    def set_total(self, total: int) -> None:
        """Set how much there is, once that is known."""
        self.total = total

    def show_bytes(self, name: str, done: int, total: int) -> None:
        """Show a part of the work in megabytes; `total` is 0 if only the time can be shown.

        Args:
            name: what is being done; with another name, another part begins.
            done: the number of bytes that are done.
            total: the number of all bytes.
        """
        with self._lock:
            if name != self._name:
                self._name = name
                self.done = 0
                self._start_measuring()
            self._unit, self._scale = Words("MB"), _MEGABYTE
            self.done, self.total = done, total or None

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Show nothing during the block, in which another program uses the terminal."""
        with self._lock:
            self._clear()
            self._is_suspended = True
        try:
            yield
        finally:
            self._is_suspended = False

    def write_above(self, stream: TextIO, text: str) -> int:
        """Write a text to a stream that shows on the same terminal, above this line."""
        with self._lock:
            self._clear()
            if text:
                self._is_at_start = text.endswith("\n")
            return stream.write(text)

    def _start_measuring(self) -> None:
        self._first = _Sample(self._clock(), self.done, 0.0)
        self._samples = deque([self._first])

    def _draw_until_stopped(self) -> None:
        pause = self._patience
        while not self._stop.wait(pause):
            self._draw()
            pause = _BETWEEN_DRAWINGS

    def _draw(self, end: str = "", *, is_over: bool = False) -> None:
        with self._lock:
            if self._is_suspended or not (self._is_at_start or end):
                return
            self._is_drawn = self._was_drawn = True
            line = self.describe(_count_columns(self._stderr) - 1, is_over=is_over)
            # A terminal that is gone must not stop the work.
            with suppress(OSError):
                self._stderr.write(f"{CLEAR}{line}{end}")
                self._stderr.flush()

    def _clear(self) -> None:
        if self._is_drawn:
            self._is_drawn = False
            with suppress(OSError):
                self._stderr.write(CLEAR)
                self._stderr.flush()

    def describe(self, columns: int, *, is_over: bool = False) -> str:
        """Return the line, no wider than this: the bar, the numbers, the rate and the time, as far as they are known.

        Args:
            is_over: the command ends: show the average rate and how long it took.
        """
        now = self._clock()
        done, total = self.done, self.total
        # A run that was paused is over for this command, but not done.
        fraction = 1.0 if is_over and self._estimate is not None and not total else self._fraction()
        since = self._first if is_over else self._measure(now, done, fraction)
        seconds = now - since.time
        rate = (done - since.done) / seconds if seconds > 0 else 0.0
        parts = {
            "percent": "" if fraction is None else f"{int(fraction * 100)}%",
            "count": self._describe_count(done, total),
            "detail": translate(self.detail),
            "rate": self._describe_rate(rate),
            "time": self._describe_time(now, self._remaining(since, fraction, seconds), is_over=is_over),
        }
        name = to_text(self._name)
        for left_out in ("", "percent", "rate", "detail"):
            parts.pop(left_out, None)
            rest = _GAP.join(part for part in parts.values() if part)
            room = columns - text_width(name) - len(rest) - 2 * len(_GAP)
            if room >= _SHORTEST_BAR or (fraction is None and room >= 0):
                break
        bar = "" if fraction is None or room < _SHORTEST_BAR else _bar(fraction, min(room, _LONGEST_BAR))
        line = _GAP.join(part for part in (name, bar, rest) if part)
        return cut_if_longer(line, columns)

    def _describe_time(self, now: float, remaining: float | None, *, is_over: bool) -> str:
        elapsed = _clock_time(now - self._first.time)
        if is_over:
            return translate(Words("in {time}", time=elapsed))
        if remaining is None:
            return translate(Words("for {time}", time=elapsed))
        time_left = _clock_time(remaining)
        return translate(Words("at least {time} left" if self.is_least else "{time} left", time=time_left))

    def _fraction(self) -> float | None:
        """Return the part that is done, from 0 to 1; None if that is unknown."""
        if self.total:
            return min(self.done / self.total, 1.0)
        return None if self._estimate is None else min(self._estimate(), 1.0)

    def _measure(self, now: float, done: int, fraction: float | None) -> _Sample:
        """Remember how much is done now, and return how much was at the start of the window."""
        self._samples.append(_Sample(now, done, fraction))
        while now - self._samples[0].time > _WINDOW and len(self._samples) > 2:
            self._samples.popleft()
        return self._samples[0]

    def _remaining(self, since: _Sample, fraction: float | None, seconds: float) -> float | None:
        """Return the seconds that are left at the speed since a sample; None if that is unknown."""
        if self.total and self.done > since.done:
            return max(self.total - self.done, 0) * seconds / (self.done - since.done)
        if self.total or fraction is None or since.fraction is None or fraction <= since.fraction:
            return None
        return (1 - fraction) * seconds / (fraction - since.fraction)

    def _describe_count(self, done: int, total: int | None) -> str:
        if not self._unit or not (done or total):
            return ""
        of_all = f"/{format_number(total // self._scale)}" if total else ""
        return f"{format_number(done // self._scale)}{of_all} {translate(self._unit)}"

    def _describe_rate(self, rate: float) -> str:
        rate /= self._scale
        if not self._unit or rate < 0.05:
            return ""
        return f"{_describe_number(rate)} {translate(self._unit)}/s"


def can_show_progress() -> bool:
    """Return whether a progress line would be shown: on a terminal that can clear a line, without --quiet."""
    return sys.stderr.isatty() and not is_quiet() and os.environ.get("TERM") != "dumb"


@contextmanager
def suspend_progress() -> Iterator[None]:
    """Hide the progress line, if there is one, during the block, in which another program uses the terminal."""
    if _active is None:
        yield
    else:
        with _active.suspended():
            yield


_active: ProgressLine | None = None


class _StreamAbove:
    """A stream to the terminal, which writes above the progress line."""

    def __init__(self, stream: TextIO, line: ProgressLine) -> None:
        self._stream = stream
        self._line = line

    def write(self, text: str) -> int:
        return self._line.write_above(self._stream, text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _clock_time(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _describe_number(number: float) -> str:
    if number >= _SLOW:
        return format_number(round(number))
    text = f"{number:.1f}"
    return text if is_english() else text.replace(".", ",")


def _bar(fraction: float, width: int) -> str:
    done = int(fraction * width)
    return _DONE * done + _LEFT * (width - done)


def _count_columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


_SECONDS_BETWEEN_LINES = 30.0
# One decimal would show less as 0.0.
_SLOWEST_PER_SECOND = 0.1


class Progress:
    """The progress of a command: a bar on a terminal, otherwise, with `has_lines`, a line every 30 seconds."""

    def __init__(self, name: str, total: int, done: int, failed: int, *, has_lines: bool) -> None:
        """Start from the numbers of earlier commands; `done` includes `failed`."""
        self._name = name
        self._total = total
        self._done = done
        self._failed = failed
        self._done_here = 0
        self._started = self._shown_at = time.monotonic()
        self._has_lines = has_lines and not is_quiet()
        self._bar: ProgressLine | None = None
        self._is_least = False

    def __enter__(self) -> Self:
        if can_show_progress():
            self._bar = ProgressLine(self._name, Words("clients"), total=self._total, done=self._done)
            self._bar.__enter__()
            self.correct(self._done, self._failed)
        return self

    def advance(self, *, failed: bool) -> None:
        """Count one more as done."""
        self._done_here += 1
        self.correct(self._done + 1, self._failed + failed)
        if self._has_lines and self._bar is None and time.monotonic() - self._shown_at >= _SECONDS_BETWEEN_LINES:
            self._show_line()

    def expect_waits(self) -> None:
        """Show the time that is left as a minimum from now on: further waits may come."""
        self._is_least = True
        if self._bar is not None:
            self._bar.is_least = True

    def correct(self, done: int, failed: int) -> None:
        """Show these numbers, which include the work of other processes."""
        self._done, self._failed = done, failed
        if self._bar is not None:
            self._bar.done, self._bar.detail = done, count_words("0 failed", "1 failed", "{number} failed", failed)

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self._bar is not None:
            self._bar.__exit__(error)
        elif self._has_lines and self._done_here:
            self._show_line()

    def _show_line(self) -> None:
        self._shown_at = time.monotonic()
        rate = self._done_here / max(self._shown_at - self._started, 0.001)
        remaining = self._total - self._done
        left: Words | str = ""
        if rate and remaining:
            time_left = timedelta(seconds=round(remaining / rate))
            left = Words(", at least {time} left" if self._is_least else ", about {time} left", time=time_left)
        note(
            "egec: {name}: {done} of {total} done, {failed} failed{pace}{left}",
            name=self._name,
            done=self._done,
            total=self._total,
            failed=self._failed,
            pace=_describe_pace(rate),
            left=left,
        )


def _describe_pace(rate: float) -> Words | str:
    """Return a number per second, or per minute if it is small; nothing for 0."""
    if rate >= _SLOWEST_PER_SECOND:
        return Words(", {rate:.1f}/s", rate=rate)
    return Words(", {rate:.2g}/min", rate=rate * 60) if rate else ""
