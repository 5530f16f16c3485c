"""The text of a file of clients: its encoding and its lines."""

from io import BytesIO

import pytest

from egec_cli.imports import formats
from egec_cli.imports.formats import LONGEST_LINE, Lines, LineTooLong


def lines_of(content: bytes) -> Lines:
    return Lines(formats.open_text(BytesIO(content), "utf-8"), "clients.csv")


def test_lines_end_with_a_line_feed_and_keep_the_other_ends_within_them() -> None:
    assert list(lines_of(b'a;"x\ry"\r\nb\n')) == ['a;"x\ry"\r\n', "b\n"]


def test_the_line_after_one_that_is_a_character_too_long_is_read() -> None:
    lines = lines_of(b"x" * LONGEST_LINE + b"\nnext\n")
    with pytest.raises(LineTooLong):
        next(lines)
    assert next(lines) == "next\n"


def test_a_row_of_several_lines_is_reported_by_its_first_one() -> None:
    lines = lines_of(b'a;"x\ny"\n')
    assert [next(lines), next(lines)] == ['a;"x\n', 'y"\n']
    assert lines.raw_line() == 'a;"x\n'


def test_signs_at_the_edge_of_a_word_tell_the_encoding() -> None:
    text = "email;nom\na@example.org;«Chez Paul»\n"
    for encoding in ("cp1252", "mac_roman"):
        assert formats.detect_encoding(BytesIO(text.encode(encoding)), "clients.csv") == encoding
