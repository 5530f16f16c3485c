"""New private files: they get their name only when they are complete, and are durable then.

Until then a file is hidden and locked (flock). The kernel drops the lock when the process ends, so a hidden file
without a lock is a leftover: the next command that writes to the folder removes it.
"""

import fcntl
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TextIO

from egec_cli.errors import AlreadyExists, PermissionDenied, StorageError
from egec_cli.translation import Words, system_message

# The second group is the suffix of SQLite's additional files.
_HIDDEN_NAME = re.compile(r"(\.egec-[0-9a-f]{16}\.unfinished)(-wal|-shm|-journal)?")
_BESIDE = ("-wal", "-shm", "-journal")
_IF_TAKEN = Words("Name another file, or move this one away.")
_IF_TAKEN_UNFORCED = Words("Name another file, or add --force to replace it.")
_IF_SPECIAL = Words("Name another file; for a symbolic link, name its target.")


class HiddenFile(NamedTuple):
    """A file without its final name.

    Attributes:
        path: its current name.
        descriptor: open for reading and writing; keeps the file locked.
        folder: a descriptor of its folder.
    """

    path: Path
    descriptor: int
    folder: int

    def move_to(self, name: str, *, force: bool = False) -> None:
        """Make the content durable, rename the file within its folder, and make the name durable.

        Args:
            force: replace a regular file.

        Raises:
            FileExistsError: the name is taken.
            StorageError: the name is that of a folder, a device, a FIFO or a symbolic link.
            OSError: the file could not be written.
        """
        os.fsync(self.descriptor)
        if force:
            require_free(self.path.with_name(name), force=True)
            os.rename(self.path.name, name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
        else:
            os.link(self.path.name, name, src_dir_fd=self.folder, dst_dir_fd=self.folder, follow_symlinks=False)
            os.unlink(self.path.name, dir_fd=self.folder)
        _sync(self.folder)


@contextmanager
def create_hidden_file(folder: Path) -> Iterator[HiddenFile]:
    """Create a hidden file for the block; afterwards it is removed, unless it was renamed. Remove leftovers too.

    The folder is opened once: if another folder replaces it meanwhile, the file is renamed in the original.

    Raises:
        OSError: the file cannot be created.
    """
    with _opened(folder) as descriptor:
        for leftover in _leftovers(descriptor, owner=os.geteuid()):
            _remove(descriptor, [leftover])
        name, file = _create(descriptor)
        try:
            yield HiddenFile(folder / name, file, descriptor)
        finally:
            # The file itself last: without it, its additional files count as leftovers.
            _remove(descriptor, [*(f"{name}{suffix}" for suffix in _BESIDE), name])
            os.close(file)


@contextmanager
def create_file(target: Path, *, force: bool = False, if_taken: str = _IF_TAKEN) -> Iterator[HiddenFile]:
    """Create a file that gets its name after the block, unless the block raises.

    Args:
        force: replace a regular file.
        if_taken: the hint if the name is taken.

    Raises:
        AlreadyExists: the name is taken.
        PermissionDenied, StorageError: it cannot be created there, or the name is not that of a regular file.
        OSError: it cannot be written.
    """
    require_free(target, if_taken, force=force)
    with _hidden_beside(target) as file:
        yield file
        try:
            file.move_to(target.name, force=force)
        except FileExistsError:
            raise _exists(target, if_taken) from None


def require_creatable(target: Path) -> None:
    """Require that a new file can be created.

    Raises:
        AlreadyExists, PermissionDenied, StorageError: as `create_file` does.
    """
    require_free(target)
    with _hidden_beside(target):
        pass


@contextmanager
def _hidden_beside(target: Path) -> Iterator[HiddenFile]:
    with ExitStack() as stack:
        try:
            file = stack.enter_context(create_hidden_file(target.parent))
        except PermissionError:
            raise PermissionDenied(
                "{target} cannot be written", "Name a file in a folder that is yours.", target=target
            ) from None
        except OSError as error:
            raise StorageError(
                "{target} cannot be created: {reason}",
                "Name a file in an existing folder that can be written.",
                target=target,
                reason=system_message(error),
            ) from None
        yield file


@contextmanager
def atomic_write(path: Path, *, force: bool = False) -> Iterator[TextIO]:
    """Open a new UTF-8 file; it gets its name after the block, unless the block raises.

    Raises:
        AlreadyExists: the name is taken.
        PermissionDenied, StorageError: it cannot be created there.
        OSError: it cannot be written.
    """
    with (
        create_file(path, force=force, if_taken=_IF_TAKEN_UNFORCED) as file,
        os.fdopen(os.dup(file.descriptor), "w", encoding="utf-8", errors="backslashreplace", newline="\n") as stream,
    ):
        yield stream


def require_free(path: Path, if_taken: str = _IF_TAKEN, *, force: bool = False) -> None:
    """Require that the path does not exist; with `force`, a regular file may.

    Raises:
        AlreadyExists: a regular file exists; `if_taken` is the hint.
        StorageError: a folder, a device, a FIFO or a symbolic link exists, which is never replaced.
    """
    if not os.path.lexists(path):
        return
    if not stat.S_ISREG(path.lstat().st_mode):
        raise StorageError("{path} is not a regular file", _IF_SPECIAL, path=path)
    if not force:
        raise _exists(path, if_taken)


def make_folders(path: Path) -> None:
    """Create a private folder and its missing parents, and make them durable.

    Raises:
        OSError: a folder cannot be created, or is not a folder.
    """
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not path.is_dir():
            raise
        return
    except FileNotFoundError:
        if path.parent == path:
            raise
        make_folders(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable, if the file system supports it."""
    with _opened(path) as descriptor:
        _sync(descriptor)


def find_leftovers(folder: Path) -> list[Path]:
    """Return the hidden files of killed processes: those of this user, or of all users for root.

    Raises:
        OSError: the folder cannot be read.
    """
    with _opened(folder) as descriptor:
        return sorted(folder / name for name in _leftovers(descriptor, owner=os.geteuid() or None))


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        # It may be writable without being readable.
        descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _create(folder: int) -> tuple[str, int]:
    while True:
        name = f".egec-{os.urandom(8).hex()}.unfinished"
        file = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=folder)
        # Before the lock, another process may remove it as a leftover.
        if _is_locked_by_us(file) and os.fstat(file).st_nlink:
            return name, file
        _remove(folder, [name])
        os.close(file)


def _is_locked_by_us(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # A file system without locks: other processes cannot lock the file either, so they do not remove it.
        return True
    return True


def _leftovers(folder: int, *, owner: int | None) -> Iterator[str]:
    """Yield the names of files whose process has ended, each while this process holds its lock."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        found = _HIDDEN_NAME.fullmatch(name)
        if found is None:
            continue
        with suppress(OSError), ExitStack() as stack:
            state = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISREG(state.st_mode) or owner not in {None, state.st_uid}:
                continue
            if _is_abandoned(found[1], folder, stack):
                yield name


def _is_abandoned(name: str, folder: int, stack: ExitStack) -> bool:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        return True
    stack.callback(os.close, file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove(folder: int, names: Iterable[str]) -> None:
    for name in names:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)


def _sync(folder: int) -> None:
    # Not every file system supports it.
    with suppress(OSError):
        os.fsync(folder)


def _exists(path: Path, hint: str) -> AlreadyExists:
    return AlreadyExists("{path} already exists", hint, path=path)
