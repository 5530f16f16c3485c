"""Identifiers: ten ASCII digits, the first not 0."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egec_cli import identifier
from egec_cli.errors import InvalidInput

NOT_IDENTIFIERS = [
    "", "123456789", "12345678901", "0123456789", "+123456789", "-123456789", "1_34567890", "1234 56789", "12345678.0",
    "12345e6789", "abcdefghij", "123456789O", "١٢٣٤٥٦٧٨٩٠",
    "\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19\uff10", "123456789²", "1234567890\x00",
    "\u200b1234567890", "1234567890\ud800", "1234567890\n1234567890",
]  # fmt: skip


def test_generated_identifiers_have_ten_digits_and_do_not_repeat() -> None:
    generated = [identifier.generate_identifier() for _ in range(2000)]
    assert all(re.fullmatch(r"[1-9][0-9]{9}", one, re.ASCII) for one in generated)
    assert len(set(generated)) > 1990


def test_generated_identifiers_use_the_whole_range() -> None:
    generated = [identifier.generate_identifier() for _ in range(2000)]
    assert {one[0] for one in generated} == set("123456789")
    assert all({one[place] for one in generated} == set("0123456789") for place in range(1, 10))


@given(st.from_regex(r"[1-9][0-9]{9}", fullmatch=True), st.text(" \t\r\n\u00a0\u202f\u3000"), st.text(" \n\u00a0"))
def test_white_space_around_an_identifier_is_removed(number: str, before: str, behind: str) -> None:
    assert identifier.parse_identifier(before + number + behind) == number
    assert identifier.is_identifier(number)
    assert identifier.is_identifier(before + number + behind) is not bool(before + behind)


@pytest.mark.parametrize("text", NOT_IDENTIFIERS)
def test_any_other_text_is_refused_with_the_form_of_an_identifier(text: str) -> None:
    assert not identifier.is_identifier(text)
    with pytest.raises(InvalidInput, match=r"^invalid identifier: ") as refused:
        identifier.parse_identifier(text)
    assert "10 digits" in refused.value.hint
    assert refused.value.message.isprintable()


@given(st.text() | st.from_regex(r"\d{10}\s?", fullmatch=True))
def test_only_ten_ascii_digits_are_an_identifier(text: str) -> None:
    is_one = len(text) == 10 and set(text) <= set("0123456789") and text[0] != "0"
    assert identifier.is_identifier(text) is is_one
