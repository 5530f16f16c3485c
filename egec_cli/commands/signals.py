"""SIGINT and SIGTERM for commands that come to an orderly end by themselves."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType
from typing import Any

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def orderly_stop() -> Iterator[Event]:
    """Let the first signal in the block set the event; a second one ends the program at once, as it always does.

    A command that has come to its end in this way is ended by the signal after all, for the exit code to tell.
    """
    stop = Event()
    received: list[int] = []
    former: dict[int, Any] = {}

    def heed(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        stop.set()
        restore()

    def restore() -> None:
        for number in _NUMBERS:
            signal.signal(number, former[number])

    former |= {number: signal.signal(number, heed) for number in _NUMBERS}
    try:
        yield stop
    finally:
        restore()
    if received:
        signal.raise_signal(received[0])
