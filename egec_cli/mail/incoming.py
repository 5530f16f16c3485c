"""Messages that came in, one at a time: from a file, an mbox, a Maildir or a stream, each cut to a size.

What is behind the cut is read past and never kept, so a message of any size costs no more memory than another.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from egec_cli.errors import BadInput

# A delivery report says all that it has to say long before; what it returns may be of any size.
MOST_BYTES = 500_000
# RFC 5322 has 998 at most; behind that, only the work of those who search the line would grow.
LONGEST_LINE = 1000

# As mail programs write the line before a message of an mbox: a sender, and a date as of asctime(3).
_FROM_LINE = re.compile(rb"From .*[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}")
_FLAGS = ":2,"


class Incoming(NamedTuple):
    """A message: the file and the line where it begins, and its bytes, with line ends of Unix."""

    file: str
    line: int
    content: bytes


def in_file(path: Path) -> Iterator[Incoming]:
    """Yield the messages of a file: those of an mbox, or the one that it is; none where it is empty."""
    with path.open("rb") as stream:
        yield from _messages(str(path), stream, is_mbox=stream.peek(5)[:5] == b"From ")


def in_stream(name: str, stream: BinaryIO) -> Iterator[Incoming]:
    """Yield the one message of a stream, as a mail server pipes it: a `From ` line may come before it."""
    yield from _messages(name, stream, is_mbox=False)


def is_maildir(folder: Path) -> bool:
    """Tell whether a folder is a Maildir."""
    return (folder / "new").is_dir() and (folder / "cur").is_dir()


def in_maildir(folder: Path, *, move: bool = False) -> Iterator[Incoming]:
    """Yield the messages of a Maildir, the new ones first.

    Args:
        folder: the Maildir.
        move: only the new ones, each of which is moved to `cur`, as seen, when the next one is asked for.

    Raises:
        BadInput: the folder is no Maildir.
    """
    if not is_maildir(folder):
        raise BadInput(
            "{folder} is no Maildir: it has no new and cur", "Name a Maildir, an mbox or a message.", folder=folder
        )
    for part in ("new",) if move else ("new", "cur"):
        for name in sorted(os.listdir(folder / part)):
            path = folder / part / name
            if name.startswith(".") or not path.is_file() or path.is_symlink():
                continue
            # Another program may have moved or deleted it meanwhile.
            with suppress(FileNotFoundError), path.open("rb") as stream:
                yield from _messages(str(path), stream, is_mbox=False)
            if move:
                with suppress(FileNotFoundError):
                    path.rename(folder / "cur" / (name if _FLAGS in name else f"{name}{_FLAGS}S"))


def _messages(name: str, stream: BinaryIO, *, is_mbox: bool) -> Iterator[Incoming]:
    kept: list[bytes] = []
    first, size = 1, 0
    after_empty_line = True
    for number, line in _lines(stream):
        if after_empty_line and line.startswith(b"From ") and (number == 1 or (is_mbox and _FROM_LINE.match(line))):
            if size:
                yield Incoming(name, first, b"".join(kept))
            first, kept, size = number, [], 0
        elif size < MOST_BYTES and (size or line.strip()):
            kept.append(line)
            size += len(line)
        after_empty_line = line == b"\n"
    if size:
        yield Incoming(name, first, b"".join(kept))


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield the lines with their numbers, each cut to a length."""
    number, is_rest = 0, False
    while piece := stream.readline(LONGEST_LINE):
        is_end = piece.endswith(b"\n")
        if not is_rest:
            number += 1
            yield number, piece.rstrip(b"\r\n") + b"\n"
        is_rest = not is_end
