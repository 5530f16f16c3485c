"""The books of a week: what was counted day by day, what is to be on record, and which promises were broken."""

from collections import Counter
from threading import Lock


class Books:
    """What a week counts. Threads may share it.

    Attributes:
        violations: what should not have been, in words, in the order in which it was found.
        events: how many events of each action and outcome are to be on record by now.
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
        """Note that so many events are to be on record."""
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
