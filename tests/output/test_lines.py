"""Lines for a terminal: wrapped at words, never longer than the width."""

from itertools import pairwise

import hypothesis.strategies as st
from hypothesis import example, given

from egec_cli.output import columns
from egec_cli.output.terminal import wrap


@given(text=st.text(st.sampled_from("ab \u00a0é山\u0301"), max_size=60), width=st.integers(2, 20))
@example(text="a" * 50, width=7)
@example(text="", width=5)
def test_a_wrapped_text_keeps_its_characters_and_fits(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert lines
    assert all(columns.width(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@given(words=st.lists(st.text("abc", min_size=1, max_size=8), min_size=1, max_size=12), width=st.integers(8, 30))
def test_a_word_that_fits_is_not_broken_and_lines_are_as_full_as_possible(words: list[str], width: int) -> None:
    lines = wrap(" ".join(words), width)
    assert [word for line in lines for word in line.split(" ")] == words
    for line, following in pairwise(lines):
        assert len(line) + 1 + len(following.split(" ")[0]) > width
