"""Mail laid down in a Maildir: whole, private, or not at all."""

import errno
import mailbox
import os
import resource
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from egec_cli.errors import ExitCode
from egec_cli.mail.delivery import AnswerLost, Refused
from tests.mail.conftest import CONTENT, End, TransportOf, end_of_delivery, mail_to

NOBODY = 65534
ENVELOPE = b"Return-Path: <ne-pas-repondre@egec.pro>\r\n"
LAID_DOWN = ENVELOPE + CONTENT


def mode(path: Path) -> int:
    """Return the permissions of a file or a folder."""
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def without_privileges() -> Iterator[None]:
    """Be subject to permissions, which root is not."""
    own = os.geteuid()
    if own == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(own)


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Let the system refuse to write more to any file, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    """Return where a Maildir may be made."""
    return tmp_path / "mail"


def test_a_mail_is_whole_in_new_and_leaves_nothing_in_tmp(maildir: Path, transport_of: TransportOf) -> None:
    reply = transport_of(f"maildir:{maildir}").deliver(mail_to())
    (file,) = (maildir / "new").iterdir()
    assert reply.text == str(file)
    assert file.read_bytes() == LAID_DOWN
    assert list((maildir / "tmp").iterdir()) == []


def test_only_the_user_can_read_what_is_laid_down(maildir: Path, transport_of: TransportOf) -> None:
    umask = os.umask(0)
    try:
        transport_of(f"maildir:{maildir}").deliver(mail_to())
    finally:
        os.umask(umask)
    (file,) = (maildir / "new").iterdir()
    assert mode(file) == 0o600
    for folder in (maildir, maildir / "tmp", maildir / "new", maildir / "cur"):
        assert mode(folder) == 0o700


def test_mail_programs_find_the_mail(maildir: Path, transport_of: TransportOf) -> None:
    transport_of(f"maildir:{maildir}").deliver(mail_to())
    (message,) = mailbox.Maildir(maildir, create=False)
    assert message["Subject"] == "Votre compte"


def test_mails_that_are_laid_down_at_the_same_time_are_all_there(maildir: Path, transport_of: TransportOf) -> None:
    transports = [transport_of(f"maildir:{maildir}") for _ in range(4)]
    contents = {number: CONTENT + f"{number}\r\n".encode() for number in range(40)}

    def deliver(first: int) -> None:
        for number in range(first, 40, 4):
            transports[first].deliver(mail_to(content=contents[number]))

    threads = [threading.Thread(target=deliver, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(file.read_bytes() for file in (maildir / "new").iterdir()) == sorted(
        map(ENVELOPE.__add__, contents.values())
    )


def test_a_relative_maildir_starts_at_the_folder_of_the_first_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport_of: TransportOf
) -> None:
    transport = transport_of("maildir:here")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    transport.deliver(mail_to())
    assert len(list((tmp_path / "here" / "new").iterdir())) == 1
    assert list(elsewhere.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_a_refusal(maildir: Path, transport_of: TransportOf) -> None:
    maildir.write_text("no folder")
    with pytest.raises(Refused, match=str(maildir)) as refusal:
        transport_of(f"maildir:{maildir}").deliver(mail_to())
    assert refusal.value.error.exit_code == ExitCode.FILE_SYSTEM
    assert maildir.read_text() == "no folder"


def test_a_folder_that_may_not_be_written_is_a_refusal(maildir: Path, transport_of: TransportOf) -> None:
    maildir.mkdir()
    maildir.chmod(0o500)
    transport = transport_of(f"maildir:{maildir}")
    with without_privileges(), pytest.raises(Refused, match=f"{maildir}.* cannot be written") as refusal:
        transport.deliver(mail_to())
    assert refusal.value.error.exit_code == ExitCode.NOT_PERMITTED
    assert list(maildir.iterdir()) == []


def test_a_mail_that_is_there_but_perhaps_not_for_good_is_in_doubt(
    maildir: Path, transport_of: TransportOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_for_the_folder(descriptor: int) -> None:
        if os.path.samestat(os.fstat(descriptor), (maildir / "new").stat()):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail_for_the_folder)
    with pytest.raises(AnswerLost, match="perhaps not for good"):
        transport_of(f"maildir:{maildir}").deliver(mail_to())
    assert len(list((maildir / "new").iterdir())) == 1


def test_a_disk_that_takes_no_more_is_a_refusal_and_leaves_nothing_behind(
    maildir: Path, transport_of: TransportOf
) -> None:
    transport = transport_of(f"maildir:{maildir}")
    with files_no_larger_than(50):
        end = end_of_delivery(transport, mail_to())
    assert end == ExitCode.FILE_SYSTEM
    assert [path for path in maildir.rglob("*") if path.is_file()] == []
    assert end_of_delivery(transport, mail_to()) == End.ACCEPTED
