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

    When the block is done, the signal ends the command after all, so that the exit code tells. A signal that was
    ignored when the program started (nohup, a background job of a script) stays ignored.
    """
    stop = Event()
    received: list[int] = []
    former: dict[int, Any] = {}

    def heed(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        stop.set()
        restore()

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    heeded = [number for number in _NUMBERS if signal.getsignal(number) is not signal.SIG_IGN]
    former |= {number: signal.signal(number, heed) for number in heeded}
    try:
        yield stop
    finally:
        restore()
    if received:
        signal.raise_signal(received[0])
