"""Work done ahead on a thread of its own, while the caller's waits for the database."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TypeVar

_Piece = TypeVar("_Piece")

# How long a thread that computes keeps the interpreter from the others, in seconds; Python's own is ten times as long.
_TURN = 0.0005
_DEPTH = 1
_LOOK = 0.1


class _End:
    """The pieces came to their end, or to an error."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


@contextmanager
def made_ahead(pieces: Iterator[_Piece]) -> Iterator[Iterator[_Piece]]:
    """Let pieces be made on another thread while the block uses those before them; at most a few are waiting.

    What making one raises is raised where it would have been used. After the block, no more are made.
    """
    waiting: Queue[_Piece | _End] = Queue(_DEPTH)
    stop = Event()

    def put(piece: _Piece | _End) -> None:
        while not stop.is_set():
            try:
                waiting.put(piece, timeout=_LOOK)
            except Full:
                continue
            return

    def make() -> None:
        try:
            for piece in pieces:
                put(piece)
                if stop.is_set():
                    return
            put(_End())
        except BaseException as error:  # noqa: BLE001 - it is raised again where the piece is used
            put(_End(error))

    def used() -> Iterator[_Piece]:
        while True:
            try:
                # Not for ever, so that a signal is heeded.
                piece = waiting.get(timeout=_LOOK)
            except Empty:
                continue
            if isinstance(piece, _End):
                if piece.error is not None:
                    raise piece.error
                return
            yield piece

    former = sys.getswitchinterval()
    sys.setswitchinterval(_TURN)
    maker = Thread(target=make, name="ahead", daemon=True)
    maker.start()
    try:
        yield used()
    finally:
        stop.set()
        maker.join()
        sys.setswitchinterval(former)
