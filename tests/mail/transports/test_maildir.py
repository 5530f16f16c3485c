"""Mail saved to a Maildir: complete and private, or not at all."""

import errno
import mailbox
import os
import resource
import stat
import threading
from binascii import b2a_qp
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from html import escape
from pathlib import Path

import pytest

from egec_cli.errors import ExitCode
from egec_cli.mail.compose.message import MailForm
from egec_cli.mail.compose.sample import sample_mail
from egec_cli.mail.compose.template import Kind
from egec_cli.mail.transports.interface import DeliveryRefused, DeliveryUnknown
from egec_cli.mail.transports.maildir import to_8bit
from egec_cli.password import DEFAULT_SPECIALS, generate_password
from egec_cli.settings import load
from tests.mail.conftest import CONTENT, End, TransportOf, end_of_delivery, mail_to

NOBODY = 65534
ENVELOPE = b"Return-Path: <ne-pas-repondre@egec.pro>\r\n"
LAID_DOWN = ENVELOPE + CONTENT


def mode(path: Path) -> int:
    """Return the permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def without_privileges() -> Iterator[None]:
    """Drop root's exemption from permissions."""
    own = os.geteuid()
    if own == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(own)


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Make writes fail as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    """Return the path of a Maildir to create."""
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
    with pytest.raises(DeliveryRefused, match=str(maildir)) as refusal:
        transport_of(f"maildir:{maildir}").deliver(mail_to())
    assert refusal.value.error.exit_code == ExitCode.FILE_SYSTEM
    assert maildir.read_text() == "no folder"


def test_a_folder_that_may_not_be_written_is_a_refusal(maildir: Path, transport_of: TransportOf) -> None:
    maildir.mkdir()
    maildir.chmod(0o500)
    transport = transport_of(f"maildir:{maildir}")
    with without_privileges(), pytest.raises(DeliveryRefused, match=f"{maildir}.* cannot be written") as refusal:
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
    with pytest.raises(DeliveryUnknown, match="may not survive a power cut"):
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


@pytest.mark.parametrize("specials", [DEFAULT_SPECIALS, "=&<>\"'.%"])
def test_a_person_can_read_password_and_accents_in_the_file(
    specials: str, maildir: Path, transport_of: TransportOf
) -> None:
    ours = load.load_settings({"EGEC_PASSWORD_SPECIALS": specials})
    form = MailForm(ours, "fr")
    transport = transport_of(f"maildir:{maildir}")
    for number in range(300):
        secret = generate_password(ours.alphabet)
        mail = form.fill(
            recipient="jeanne@example.org", name="Mme Élouard", identifier="1234567890", password=secret,
            issued_at=datetime.now(UTC), message_id=form.new_message_id(number),
        )  # fmt: skip
        saved = Path(transport.deliver(mail).text).read_bytes()
        lines = saved.split(b"\r\n")
        assert secret.reveal().encode() in lines
        assert f">{escape(secret.reveal())}</code>".encode() in saved
        assert "Mme Élouard, bonjour,".encode() in lines
        assert max(map(len, lines)) <= 998
        assert parts_of(saved.partition(b"\r\n")[2]) == parts_of(mail.content)


def parts_of(content: bytes) -> list[object]:
    """Return the headers of a mail, except the encoding, and its texts."""
    message = message_from_bytes(content, policy=policy.default)
    texts = [message.get_body((kind,)) for kind in ("plain", "html")]
    return [message.items(), *(text.get_content() for text in texts if text is not None)]


def test_a_text_that_8bit_does_not_allow_stays_as_it_was() -> None:
    for text in ("é" * 600, "before\rafter", "before\0after"):
        message = EmailMessage(policy=policy.SMTP)
        message.set_content("short", cte="quoted-printable")
        message.set_payload(b2a_qp(text.encode(), istext=False).decode())
        assert to_8bit(message.as_bytes()) == message.as_bytes()
    assert to_8bit(CONTENT) == CONTENT


def test_a_mail_beyond_ascii_in_its_headers_keeps_them(maildir: Path, transport_of: TransportOf) -> None:
    mail = sample_mail(
        load.load_settings({}), Kind.CREDENTIALS, "fr", at=datetime.now(UTC), recipient="jérôme@example.org"
    )
    saved = Path(transport_of(f"maildir:{maildir}").deliver(mail).text).read_bytes()
    assert "\r\nTo: jérôme@example.org\r\n".encode() in saved
    assert b"quoted-printable" not in saved
