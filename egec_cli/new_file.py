"""A new file that is there whole or not at all, for its owner alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from egec_cli.errors import AlreadyExists, FileSystemFailed
from egec_cli.translation import of_system


@contextmanager
def written(path: Path, *, force: bool = False) -> Iterator[TextIO]:
    """Open a file to be written in UTF-8 within the block; it gets its name once the block has ended well.

    Args:
        path: its name.
        force: take the place of a file of that name.

    Raises:
        AlreadyExists: there is a file of that name.
        FileSystemFailed: it cannot be made there.
        OSError: it cannot be written.
    """
    if not force and os.path.lexists(path):
        raise _exists(path)
    unfinished = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    try:
        descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except OSError as error:
        raise FileSystemFailed(
            "{path} cannot be made: {reason}",
            "Name a file in a folder that is there and yours.",
            path=path,
            reason=of_system(error),
        ) from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as stream:
            yield stream
            stream.flush()
            os.fsync(descriptor)
        _name(unfinished, path, force=force)
    finally:
        unfinished.unlink(missing_ok=True)


def _name(unfinished: Path, path: Path, *, force: bool) -> None:
    if force:
        os.replace(unfinished, path)
    else:
        try:
            os.link(unfinished, path)
        except FileExistsError:
            raise _exists(path) from None
    # The name is to be as durable as the file; not every file system can do that.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(folder)
    finally:
        os.close(folder)


def _exists(path: Path) -> AlreadyExists:
    return AlreadyExists("{path} is there already", "Name another file, or add --force to replace it.", path=path)
