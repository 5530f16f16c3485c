"""New files: complete or not there at all."""

import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from egec_cli import files
from egec_cli.errors import AlreadyExists, StorageError


def test_a_file_gets_its_name_when_it_is_complete_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    with files.atomic_write(path) as stream:
        stream.write("é\n")
        assert not path.exists()
        [unfinished] = tmp_path.iterdir()
        assert stat.S_IMODE(unfinished.stat().st_mode) == 0o600
    assert path.read_bytes() == "é\n".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), files.atomic_write(tmp_path / "new.csv"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text("old")
    with pytest.raises(AlreadyExists), files.atomic_write(path):
        pass
    assert path.read_text() == "old"
    with files.atomic_write(path, force=True) as stream:
        stream.write("new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_another_process_creates_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    with pytest.raises(AlreadyExists), files.atomic_write(path):
        path.write_text("of another")
    assert path.read_text() == "of another"
    assert list(tmp_path.iterdir()) == [path]


def _make_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 7))
    except PermissionError:
        pytest.skip("only root can create a device")


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        os.mkdir,
        _make_device,
        partial(os.symlink, "elsewhere"),
        partial(os.symlink, "target"),
    ],
    ids=["FIFO", "folder", "device", "dangling link", "link"],
)
def test_only_a_regular_file_is_replaced(tmp_path: Path, make: Callable[[Path], None], *, force: bool) -> None:
    (tmp_path / "target").write_text("old")
    path = tmp_path / "new.csv"
    make(path)
    before = path.lstat()
    with pytest.raises(StorageError) as failed, files.atomic_write(path, force=force):
        raise AssertionError("it must fail before the content is written")
    assert failed.value.message == f"{path} is not a regular file"
    assert "--force" not in failed.value.hint
    assert os.path.samestat(path.lstat(), before)
    assert (tmp_path / "target").read_text() == "old"
    assert {one.name for one in tmp_path.iterdir()} == {"new.csv", "target"}


def test_a_link_that_another_process_creates_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    with pytest.raises(StorageError), files.atomic_write(path, force=True):
        path.symlink_to("elsewhere")
    assert path.is_symlink()
    assert list(tmp_path.iterdir()) == [path]


def test_the_error_for_a_missing_folder_has_the_given_name(tmp_path: Path) -> None:
    wanted = tmp_path / "nowhere" / "new.csv"
    with pytest.raises(StorageError) as failed, files.atomic_write(wanted):
        pass
    assert failed.value.message.startswith(f"{wanted} cannot be created")
