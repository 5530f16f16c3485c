"""Messages from files, mboxes, Maildirs and streams, and the delivery reports among them, also hostile ones."""

import io
import mailbox
import os
import time
import tracemalloc
from collections.abc import Iterator
from email import policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egec_cli.errors import InvalidInput
from egec_cli.mail import bounces
from egec_cli.mail.bounces import DeliveryStatus, Incoming, Report
from egec_cli.mail.compose.headers import Mark
from egec_cli.password import Alphabet, generate_password

FROM = "From MAILER-DAEMON  Wed Nov 25 04:49:17 2026\n"
ONE = "Subject: one\n\nFrom here on, text.\n"
TWO = "Subject: two\n\ntext\n\nFrom here, too.\n"


def in_text(tmp_path: Path, text: str) -> list[Incoming]:
    (tmp_path / "file").write_text(text, newline="")
    return list(bounces.read_file(tmp_path / "file"))


def test_a_file_is_one_message(tmp_path: Path) -> None:
    assert in_text(tmp_path, TWO) == [Incoming(str(tmp_path / "file"), 1, TWO.encode())]


def test_an_mbox_is_as_many_messages_as_it_has_and_each_is_known_by_its_line(tmp_path: Path) -> None:
    messages = in_text(tmp_path, f"{FROM}{ONE}\n{FROM}{TWO}\n")
    assert [(one.line, one.content.decode().rstrip()) for one in messages] == [(1, ONE.rstrip()), (6, TWO.rstrip())]


def test_an_mbox_of_the_standard_library_is_read(tmp_path: Path) -> None:
    box = mailbox.mbox(tmp_path / "box")
    for text in (ONE, TWO):
        box.add(text)
    box.close()
    assert [one.content.split(b"\n")[0] for one in bounces.read_file(tmp_path / "box")] == [
        b"Subject: one", b"Subject: two",
    ]  # fmt: skip


def test_a_stream_is_one_message_whatever_it_holds_and_the_line_before_it_is_left_out() -> None:
    for text in (ONE, f"{FROM}{ONE}"):
        (message,) = bounces.read_stream("-", io.BytesIO(f"{text}\n{FROM}{TWO}".encode()))
        assert message.content.decode() == f"{ONE}\n{FROM}{TWO}"


def test_line_ends_of_windows_are_those_of_unix(tmp_path: Path) -> None:
    assert in_text(tmp_path, TWO.replace("\n", "\r\n"))[0].content == TWO.encode()


@pytest.mark.parametrize("text", ["", "\n\n", FROM])
def test_empty_input_has_no_message(tmp_path: Path, text: str) -> None:
    assert in_text(tmp_path, text) == []


class Endless(io.RawIOBase):
    """A stream of `size` bytes, in lines or a single one."""

    def __init__(self, size: int, piece: bytes) -> None:
        self._left = size
        self._piece = piece * (65_536 // len(piece))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._piece[: min(len(buffer), self._left)]
        buffer[: len(piece)] = piece
        self._left -= len(piece)
        return len(piece)


@pytest.mark.parametrize("piece", [b"x" * 63 + b"\n", b"\0"])
def test_a_message_of_a_hundred_megabytes_takes_no_memory(piece: bytes) -> None:
    stream = io.BufferedReader(Endless(100_000_000, piece))
    tracemalloc.start()
    (message,) = bounces.read_stream("-", stream)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(message.content) <= bounces.MOST_BYTES + bounces.LONGEST_LINE
    assert peak < 5_000_000


@pytest.fixture
def maildir(tmp_path: Path) -> Iterator[Path]:
    box = mailbox.Maildir(tmp_path / "box")
    box.add(ONE)
    seen = mailbox.MaildirMessage(TWO)
    seen.set_subdir("cur")
    box.add(seen)
    yield tmp_path / "box"
    box.close()


def names(folder: Path) -> dict[str, list[str]]:
    return {part: sorted(os.listdir(folder / part)) for part in ("tmp", "new", "cur")}


def test_a_maildir_is_read_whole_and_left_as_it_is(maildir: Path) -> None:
    before = names(maildir)
    assert [one.content for one in bounces.read_maildir(maildir)] == [ONE.encode(), TWO.encode()]
    assert names(maildir) == before


def test_what_is_new_is_moved_once_it_has_been_dealt_with(maildir: Path) -> None:
    (name,) = names(maildir)["new"]
    messages = bounces.read_maildir(maildir, move=True)
    assert next(messages).content == ONE.encode()
    assert names(maildir)["new"] == [name]
    assert list(messages) == []
    assert names(maildir)["new"] == []
    assert f"{name}:2,S" in names(maildir)["cur"]
    assert len(mailbox.Maildir(maildir, create=False)) == 2


def test_only_regular_files_are_read(maildir: Path) -> None:
    os.mkfifo(maildir / "new" / "0.pipe")
    (maildir / "new" / "1.folder").mkdir()
    (maildir / "new" / "2.link").symlink_to("/etc/passwd")
    (maildir / "new" / ".hidden").write_text(ONE)
    assert len(list(bounces.read_maildir(maildir))) == 2


def test_a_message_that_another_program_removes_meanwhile_is_skipped(maildir: Path) -> None:
    (maildir / "new" / "zz").write_text(TWO)
    messages = bounces.read_maildir(maildir, move=True)
    next(messages)
    for path in (maildir / "new").iterdir():
        path.unlink()
    assert list(messages) == []


def test_another_folder_is_not_a_maildir(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is not a Maildir"):
        list(bounces.read_maildir(tmp_path))


# --- reports ---

REPORTS = Path(__file__).parent / "reports"
MARK = Mark(1, "1.0123456789abcdef01234567")
# Long enough for a busy machine; without the limits it takes many times as long.
PATIENCE = 10.0


def sample(name: str) -> Report:
    (message,) = bounces.read_file(REPORTS / f"{name}.eml")
    return bounces.read_report(message.content)


FAILED = {
    "postfix": ("jeanne@example.org", "5.1.1", "550 5.1.1 <jeanne@example.org>: no mailbox of this name"),
    "postfix-expired": (
        "jeanne@example.org", "4.4.1", "connect to mail.example.org[192.0.2.7]:25: Connection timed out",
    ),
    "exim-informal": ("jeanne@example.org", "5.7.1", "550 5.7.1 relaying denied for jeanne@example.org"),
    "exchange": (
        "jeanne@contoso.example", "5.1.10",
        "550 5.1.10 RESOLVER.ADR.RecipientNotFound; not found by SMTP address lookup",
    ),
    "gmail": (
        "jeanne@gmail.example", "5.2.2",
        "552-5.2.2 The recipient's inbox is out of storage space. "
        "552 5.2.2 https://support.google.example/mail/?p=OverQuotaPerm a640c23a-gsmtp",
    ),
    "qmail": ("jeanne@example.org", "5.1.1", "Remote host said: 550 5.1.1 no such user here"),
    "orange": ("jeanne@orange.example", "5.0.0", "550 5.2.0 Mail rejete. Boite ferm\ufffde. ofr_416 [416]"),
    "ovh": ("noël@été.example", "5.2.1", "550 5.2.1 boîte désactivée"),
    "sendmail": ("jeanne@example.org", "5.3.0", "553 5.3.0 <jeanne@example.org>... unknown"),
    "opensmtpd": ("jeanne@example.org", "5.0.0", ""),
    "forwarded-by-an-operator": ("jeanne@example.org", "5.4.4", "Host or domain name not found"),
}  # fmt: skip
OTHERS = {
    "postfix-delayed": DeliveryStatus.DELAYED,
    "delivered": DeliveryStatus.NO_FAILURE,
    "out-of-office": DeliveryStatus.NO_FAILURE,
    "answer-of-a-client": DeliveryStatus.NO_FAILURE,
}


@pytest.mark.parametrize("name", FAILED)
def test_a_report_of_a_failure_is_understood(name: str) -> None:
    address, status, words = FAILED[name]
    assert sample(name) == Report(DeliveryStatus.FAILED, address, status, words, [MARK])


@pytest.mark.parametrize("name", OTHERS)
def test_a_message_about_no_failure_is_not_a_failure(name: str) -> None:
    assert sample(name).delivery is OTHERS[name]


def test_every_sample_is_tried() -> None:
    assert {path.stem for path in REPORTS.iterdir()} == {*FAILED, *OTHERS}


def test_a_report_of_several_recipients_names_one_who_got_nothing() -> None:
    first, block, rest = (REPORTS / "postfix.eml").read_bytes().partition(b"Final-Recipient: rfc822; jeanne")
    delayed = b"Final-Recipient: rfc822; a@x.fr\nAction: delayed\nStatus: 4.0.0\n\n"
    report = bounces.read_report(first + delayed + block + rest)
    assert (report.delivery, report.address) == (DeliveryStatus.FAILED, "jeanne@example.org")


def dsn(*fields: bytes, more: bytes = b"") -> bytes:
    head = b'Content-Type: multipart/report; report-type=delivery-status; boundary="x"\n\n--x\n'
    status = b"Content-Type: message/delivery-status\n\nReporting-MTA: dns; x\n\n" + b"\n".join(fields)
    return head + status + b"\n\n--x\nContent-Type: text/rfc822-headers\n\n" + more + b"\n--x--\n"


@pytest.mark.parametrize(
    ("fields", "delivery"),
    [
        ([b"Final-Recipient: rfc822; a@x.fr", b"Status: 5.1.1"], DeliveryStatus.FAILED),
        ([b"Final-Recipient: rfc822; a@x.fr", b"Status: 4.2.2"], DeliveryStatus.DELAYED),
        ([b"Final-Recipient: rfc822; a@x.fr", b"Status: 2.0.0"], DeliveryStatus.NO_FAILURE),
        ([b"Final-Recipient: a@x.fr", b"ACTION:FAILED"], DeliveryStatus.FAILED),
        ([b"Final-Recipient: rfc822; a@x.fr", b"Action: expanded", b"Status: 5.0.0"], DeliveryStatus.NO_FAILURE),
        ([b"Status: 5.1.1"], DeliveryStatus.NO_FAILURE),
        ([b"Action: failed", b"Status: nonsense 15.1.1.9"], DeliveryStatus.FAILED),
    ],
)
def test_the_action_counts_and_without_one_the_status(fields: list[bytes], delivery: DeliveryStatus) -> None:
    assert bounces.read_report(dsn(*fields)).delivery is delivery


def test_what_comes_out_is_one_line_of_harmless_characters_and_of_bounded_length() -> None:
    evil = b"smtp; 550 \x1b[31m\x00\x07\xe2\x80\xaeevil\r\n\tagain " + b"x" * 5000
    report = bounces.read_report(dsn(b"Final-Recipient: rfc822; \x1b]0;a@x.fr", b"Action: failed", evil[:0] + b"A: b",
                                    b"Diagnostic-Code: " + evil))  # fmt: skip
    assert report.words.startswith("550 [31m evil again xxx")
    assert report.words.isprintable()
    assert report.address.isprintable()
    assert len(report.words) <= 500


def nested(depth: int) -> bytes:
    return b"".join(f'Content-Type: multipart/mixed; boundary="b{n}"\n\n--b{n}\n'.encode() for n in range(depth))


HOSTILE = {
    "empty": b"",
    "nul": b"\0" * 500_000,
    "binary": bytes(range(256)) * 2000,
    "nested": nested(200) + b"x\n" * 200_000,
    "deeply nested": nested(10_000),
    "messages in messages": b"Content-Type: message/rfc822\n\n" * 15_000,
    "parts": b'Content-Type: multipart/mixed; boundary="x"\n\n' + b"--x\n\n" * 90_000,
    "recipients": dsn(*[b"Final-Recipient: rfc822; a@b.fr\nAction: delayed\nStatus: 4.1.1\n"] * 7000),
    "marks": b"Subject: x\n\n" + b"<1.0123456789abcdef01234567@x>\n" * 15_000,
    "angles": b"Subject: x\n\nThis is the machine generated message from mail service.\n" + (b"<" * 990 + b"\n") * 500,
    "headers": b"".join(b"X-%d: y\n" % n for n in range(40_000)),
    "charset": b'Content-Type: text/plain; charset="nonsense\x00"\nContent-Transfer-Encoding: base64\n\n!!!!====\n',
    "charset of a report": dsn(b"Action: failed", b"Diagnostic-Code: =?nonsense?b?////?="),
    "parameters": b"Content-Type: text/plain" + b"".join(b"; a*%d*=x'y'%%zz\n " % n for n in range(9000)) + b"\n\nx",
    "no sender": b"To: a@x.fr\n\nHi. This is the qmail-send program\n\n<a@x.fr>:\nno\n",
    "encoded words": b"From: =?utf-8?q?=?=\nSubject: =?x?y?z?=\nContent-Type: =?utf-8?q?multipart/report?=\n\nx",
    "no boundary": b"Content-Type: multipart/report; report-type=delivery-status\n\nx",
    "returned to itself": b"Content-Type: multipart/report; boundary=x\n\n--x\nContent-Type: message/delivery-status\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input_is_read_in_time_and_says_nothing(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    began = time.process_time()
    report = bounces.read_report(HOSTILE[name])
    assert time.process_time() - began < PATIENCE
    assert len(report.marks) <= 10
    assert capfd.readouterr() == ("", "")


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode(errors="replace")))
def test_whatever_the_bytes_are_they_are_a_report_or_none(some: bytes) -> None:
    for content in (some, dsn(b"Final-Recipient: " + some, b"Action: failed", more=some), dsn(some)):
        report = bounces.read_report(content)
        assert report.words.isprintable()
        assert report.address.isprintable()
        assert report.status.isascii()


@given(st.data())
def test_a_password_in_the_words_is_hidden_and_the_words_around_it_stay(data: st.DataObject) -> None:
    alphabet = data.draw(st.sampled_from([Alphabet.create(), Alphabet.create("#%+=?*-!@._<&", lookalikes=True)]))
    clear = generate_password(alphabet).reveal()
    quoted = data.draw(st.sampled_from([clear, clear.replace("=", "=3D"), f"={clear}", f"«{clear}»", f"{clear}-x"]))
    words = bounces.mask_passwords(f"550 refused: {quoted} is spam", alphabet)
    assert clear not in words.replace("=3D", "=")
    assert words.startswith("550 refused: ")
    assert words.endswith(" is spam")


@pytest.mark.parametrize("name", FAILED)
def test_texts_of_mail_servers_are_not_masked_as_passwords(name: str) -> None:
    words = sample(name).words
    assert bounces.mask_passwords(words, Alphabet.create()) == words


def test_a_message_of_the_standard_library_is_read_as_one() -> None:
    message = EmailMessage(policy=policy.SMTP)
    message["From"] = "a@x.fr"
    message.set_content("Bonjour")
    assert bounces.read_report(message.as_bytes()) == Report(DeliveryStatus.NO_FAILURE)
