"""The books of a week: daily counts, expected audit events, and broken promises."""

from collections import Counter
from threading import Lock


class Books:
    """The counts of a week. Threads may share them.

    Attributes:
        violations: descriptions of what went wrong, in order of discovery.
        events: the expected number of recorded events by action and outcome.
    """

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.events: Counter[tuple[str, str]] = Counter()
        self._counts: Counter[str] = Counter()
        self._day = ""
        self._lock = Lock()

    def begin(self, day: str) -> None:
        """Count for this day from now on."""
        self._day = day
        self._counts = Counter()

    def count(self, what: str, number: int = 1) -> None:
        """Count something that was done."""
        with self._lock:
            self._counts[what] += number

    def expect(self, action: str, outcome: str, number: int = 1) -> None:
        """Expect further events on record."""
        with self._lock:
            self.events[action, outcome] += number

    def require(self, holds: object, words: str) -> None:
        """Note that something should not be as it is, unless it holds."""
        if not holds:
            with self._lock:
                self.violations.append(f"{self._day}: {words}")

    def page(self) -> str:
        """Return what was counted on the day: its name, and a line for each thing."""
        return "\n".join([self._day, *(f"  {number:>9,}  {what}" for what, number in self._counts.items()), ""])
