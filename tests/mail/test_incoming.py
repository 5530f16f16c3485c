"""Messages read from files, mboxes, Maildirs and streams."""

import io
import mailbox
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from egec_cli.errors import InvalidInput
from egec_cli.mail import bounces
from egec_cli.mail.bounces import Incoming

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
def test_nothing_is_no_message(tmp_path: Path, text: str) -> None:
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


def test_what_is_no_file_is_not_read(maildir: Path) -> None:
    os.mkfifo(maildir / "new" / "0.pipe")
    (maildir / "new" / "1.folder").mkdir()
    (maildir / "new" / "2.link").symlink_to("/etc/passwd")
    (maildir / "new" / ".hidden").write_text(ONE)
    assert len(list(bounces.read_maildir(maildir))) == 2


def test_a_message_that_another_program_takes_away_meanwhile_is_left_out(maildir: Path) -> None:
    (maildir / "new" / "zz").write_text(TWO)
    messages = bounces.read_maildir(maildir, move=True)
    next(messages)
    for path in (maildir / "new").iterdir():
        path.unlink()
    assert list(messages) == []


def test_another_folder_is_no_maildir(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is not a Maildir"):
        list(bounces.read_maildir(tmp_path))
