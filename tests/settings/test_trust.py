"""Trusted files: owner, permissions and type."""

import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from egec_cli.settings import trust
from egec_cli.settings.trust import MOST_BYTES, UntrustedFile
from tests.conftest import Egec

STRANGER = 54321
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user: run as root")


def made(path: Path, *, owner: int | None = None, mode: int = 0o600, text: str = "content") -> Path:
    """Write a file and its parent folders for this owner."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    if owner is not None:
        os.chown(path, owner, owner)
    return path


def link(path: Path, target: Path | str, *, owner: int | None = None) -> Path:
    path.symlink_to(target)
    if owner is not None:
        os.lchown(path, owner, owner)
    return path


def folder(path: Path, mode: int, *, owner: int | None = None) -> Path:
    path.mkdir()
    path.chmod(mode)
    if owner is not None:
        os.chown(path, owner, owner)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o644, 0o755])
def test_an_own_file_that_no_other_user_can_change_is_read(tmp_path: Path, mode: int) -> None:
    content = trust.read(made(tmp_path / "file", mode=mode))
    assert content.data == b"content"
    assert content.status.st_mode & 0o777 == mode


@pytest.mark.parametrize("mode", [0o660, 0o602, 0o664, 0o666, 0o777])
def test_a_file_that_others_can_change_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = made(tmp_path / "a file", mode=mode)
    with pytest.raises(UntrustedFile) as refused:
        trust.read(path)
    assert refused.value.message == f"{path} can be changed by other users (mode {mode:04o}), so it is not trusted"
    assert refused.value.hint.endswith(f"type: chmod go-w '{path}'")


@as_root
def test_a_file_of_another_user_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = made(tmp_path / "file", owner=STRANGER)
    with pytest.raises(UntrustedFile, match=rf"^{path} belongs to {STRANGER}, not to root, so") as refused:
        trust.read(path)
    assert refused.value.hint.endswith(f"type: chown root {path}")


@as_root
def test_a_file_of_root_is_trusted_by_every_user(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    path = made(tmp_path / "file", mode=0o644)
    assert trust.read(path).data == b"content"
    place = Path("/tmp") / f"egec-root-{os.getpid()}"
    try:
        made(place, mode=0o644)
        os.seteuid(STRANGER)
        assert trust.read(place).data == b"content"
    finally:
        os.seteuid(0)
        place.unlink()


def test_write_permission_by_an_access_control_list_counts(tmp_path: Path) -> None:
    path = made(tmp_path / "file")
    # As linux/posix_acl_xattr.h says: owner rw, user STRANGER rw, group r, mask rw, others nothing.
    entries = [(0x01, 6, -1), (0x02, 6, STRANGER), (0x04, 4, -1), (0x10, 6, -1), (0x20, 0, -1)]
    access = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", access)
    except OSError as error:
        pytest.skip(f"this file system has no access control lists: {error}")
    with pytest.raises(UntrustedFile, match="can be changed by other users"):
        trust.read(path)


# Symbolic links.


def test_an_own_link_is_followed(tmp_path: Path) -> None:
    made(tmp_path / "there" / "file")
    link(tmp_path / "relative", "there/../there/file")
    link(tmp_path / "absolute", tmp_path / "relative")
    link(tmp_path / "folder", "there")
    for name in ("relative", "absolute", "folder/file"):
        assert trust.read(tmp_path / name).data == b"content"


@as_root
@pytest.mark.parametrize("name", ["link", "folder/file"])
def test_a_link_of_another_user_is_refused_anywhere_in_the_path(tmp_path: Path, name: str) -> None:
    made(tmp_path / "there" / "file")
    link(tmp_path / "link", "there/file", owner=STRANGER)
    link(tmp_path / "folder", "there", owner=STRANGER)
    with pytest.raises(UntrustedFile, match=rf"^the symbolic link {tmp_path}/\w+ belongs to {STRANGER}") as refused:
        trust.read(tmp_path / name)
    assert f"chown -h root {tmp_path}/" in refused.value.hint


@as_root
def test_an_own_link_to_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    made(tmp_path / "target", owner=STRANGER)
    with pytest.raises(UntrustedFile, match="belongs to"):
        trust.read(link(tmp_path / "link", "target"))


def test_a_link_to_a_file_that_others_can_change_is_refused(tmp_path: Path) -> None:
    made(tmp_path / "target", mode=0o666)
    with pytest.raises(UntrustedFile, match="can be changed by other users"):
        trust.read(link(tmp_path / "link", "target"))


def test_a_secret_that_kubernetes_mounts_is_read(tmp_path: Path) -> None:
    mount = folder(tmp_path / "secrets", 0o1777)
    made(mount / "..2026_11_28" / "mail_url", mode=0o644)
    link(mount / "..data", "..2026_11_28")
    link(mount / "mail_url", "..data/mail_url")
    assert trust.read(mount / "mail_url").data == b"content"


def test_forty_links_are_followed_as_the_system_does_and_no_more(tmp_path: Path) -> None:
    before = made(tmp_path / "file")
    for number in range(40):
        before = link(tmp_path / f"link{number}", before)
    assert trust.read(before).data == b"content"
    with pytest.raises(OSError, match="symbolic links"):
        trust.read(link(tmp_path / "one more", before))


def test_links_in_a_circle_are_an_error(tmp_path: Path) -> None:
    link(tmp_path / "one", "two")
    link(tmp_path / "two", "one")
    with pytest.raises(OSError, match="symbolic links"):
        trust.read(tmp_path / "one")


# The folder that holds the file.


@pytest.mark.parametrize(("mode", "trusted"), [(0o1777, True), (0o775, True), (0o700, True), (0o777, False)])
def test_a_folder_in_which_everybody_can_replace_the_file_is_refused(tmp_path: Path, mode: int, trusted: bool) -> None:
    path = made(folder(tmp_path / "open", mode) / "file")
    if trusted:
        assert trust.read(path).data == b"content"
        return
    with pytest.raises(UntrustedFile, match="in a folder that everybody can write to") as refused:
        trust.read(path)
    assert refused.value.hint.endswith(f"chmod o-w {path.parent}")


@as_root
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    path = made(folder(tmp_path / "theirs", 0o755, owner=STRANGER) / "file")
    with pytest.raises(UntrustedFile, match=rf"in a folder of {STRANGER}, who can replace it"):
        trust.read(path)


# What the file is.


def fifo(path: Path) -> None:
    os.mkfifo(path, 0o600)


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def huge(path: Path) -> None:
    made(path)
    os.truncate(path, 2**40)


@pytest.mark.parametrize("make", [fifo, bound_socket, device, huge])
def test_special_and_very_large_files_are_refused_immediately(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "x")
    with pytest.raises(UntrustedFile, match=r"is not a regular file|is larger than"):
        trust.read(tmp_path / "x")


def test_the_largest_file_that_is_read(tmp_path: Path) -> None:
    assert len(trust.read(made(tmp_path / "file", text="x" * MOST_BYTES)).data) == MOST_BYTES
    with pytest.raises(UntrustedFile, match=f"is larger than {MOST_BYTES} bytes"):
        trust.read(made(tmp_path / "file", text="x" * (MOST_BYTES + 1)))


def test_a_folder_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        trust.read(tmp_path)


# The same in the whole program.


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Return a settings file that sends mail by a program, which leaves a mark when it runs."""
    taker = made(tmp_path / "taker", mode=0o755, text=f"#!/bin/sh\ntouch {tmp_path}/mark\ncat > /dev/null\n")
    return made(tmp_path / "chosen.env", text=f"EGEC_MAIL_URL=sendmail:{taker}\n")


def ways(path: Path) -> list[tuple[tuple[str, ...], dict[str, str]]]:
    """Return the arguments and environment that name a settings file."""
    return [(("--env-file", str(path)), {}), ((), {"EGEC_ENV_FILE": str(path)})]


def activate(egec_process: Egec, arguments: tuple[str, ...], environment: dict[str, str]) -> tuple[int, str]:
    ended = egec_process(*arguments, "activate", "jeanne@example.org", env=environment)
    return ended.code, ended.err


@pytest.mark.parametrize("where", ["named by an option", "named by a variable", "of the folder", "of the user"])
@pytest.mark.parametrize("who", ["everybody", pytest.param("another user", marks=as_root), "the user"])
def test_a_settings_file_that_others_can_change_ends_a_command_with_78_before_it_chooses_a_program(
    egec_process: Egec, program: Path, tmp_path: Path, where: str, who: str
) -> None:
    egec_process("client", "create", "jeanne@example.org")
    places = {"of the folder": tmp_path / ".env", "of the user": tmp_path / "config" / "egec" / "egec.env"}
    path = places.get(where, program)
    path.parent.mkdir(parents=True, exist_ok=True)
    program.rename(path)
    if who == "everybody":
        path.chmod(0o666)
    elif who == "another user":
        os.chown(path, STRANGER, STRANGER)
    how = ways(path)[where == "named by a variable"] if where.startswith("named") else ((), {})
    code, err = activate(egec_process, *how)
    if who == "the user":
        assert (code, (tmp_path / "mark").exists()) == (0, True), err
        return
    assert (code, (tmp_path / "mark").exists()) == (78, False)
    assert str(path) in err
    assert {"everybody": "chmod go-w", "another user": "chown"}[who] in err


@pytest.mark.parametrize("make", [fifo, bound_socket, device, huge])
def test_no_file_of_any_kind_hangs_a_command(egec_process: Egec, tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / "own").mkdir()
    for path in (tmp_path / "x", tmp_path / "own" / "credentials.fr.txt"):
        make(path)
    for environment in (
        {"EGEC_ENV_FILE": str(tmp_path / "x")},
        {"EGEC_MAIL_URL_FILE": str(tmp_path / "x")},
        {"EGEC_TEMPLATES": str(tmp_path / "own")},
    ):
        ended = egec_process("mail", "preview", env=environment)
        assert ended.code == 78, ended
        assert "is not a regular file" in ended.err or "is larger than" in ended.err


@pytest.mark.parametrize(("of_folder", "of_file"), [(0o777, 0o600), (0o1777, 0o600), (0o775, 0o600), (0o700, 0o660)])
def test_templates_that_others_can_change_end_a_command_with_78(
    egec_process: Egec, tmp_path: Path, of_folder: int, of_file: int
) -> None:
    own = tmp_path / "own"
    made(own / "greeting.fr.txt", text="$name, bonjour,\n", mode=of_file)
    assert egec_process("mail", "preview", env={"EGEC_TEMPLATES": str(own)}).code == (0 if of_file == 0o600 else 78)
    own.chmod(of_folder)
    ended = egec_process("mail", "preview", env={"EGEC_TEMPLATES": str(own)})
    assert ended.code == 78
    assert "chmod go-w" in ended.err


@as_root
def test_a_template_that_links_to_another_users_file_is_refused(egec_process: Egec, tmp_path: Path) -> None:
    (own := tmp_path / "own").mkdir()
    secret = made(tmp_path / "secret", owner=STRANGER, text="$name TOP SECRET")
    link(own / "greeting.fr.txt", secret)
    ended = egec_process("mail", "preview", env={"EGEC_TEMPLATES": str(own)})
    assert (ended.code, "TOP SECRET" in ended.out + ended.err) == (78, False)


def test_a_folder_named_env_is_not_a_settings_file(egec_process: Egec, tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert egec_process("init").code == 0
    (tmp_path / ".env").rmdir()
    link(tmp_path / ".env", "nowhere")
    ended = egec_process("init")
    assert ended.code == 78
    assert "a symbolic link to a file that does not exist" in ended.err
