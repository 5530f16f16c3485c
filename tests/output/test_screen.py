"""Texts for a terminal: wrapped at words with commands whole, or cut, and never longer than the width."""

import io
from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import example, given
from wcwidth import wcswidth

from egec_cli.output import screen
from egec_cli.output.screen import wrap, wrap_for

MIXED = st.text(st.sampled_from("abc ßœé\u0301\u0323\u0e31\ufe0f山田ニ🙂…"), max_size=60).map("x{}x".format)


@given(text=st.text(st.sampled_from("ab \u00a0é山\u0301"), max_size=60), width=st.integers(2, 20))
@example(text="a" * 50, width=7)
@example(text="", width=5)
def test_a_wrapped_text_keeps_its_characters_and_fits(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert lines
    assert all(screen.text_width(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@given(words=st.lists(st.text("abc", min_size=1, max_size=8), min_size=1, max_size=12), width=st.integers(8, 30))
def test_a_word_that_fits_is_not_broken_and_lines_are_as_full_as_possible(words: list[str], width: int) -> None:
    lines = wrap(" ".join(words), width)
    assert [word for line in lines for word in line.split(" ")] == words
    for line, following in pairwise(lines):
        assert len(line) + 1 + len(following.split(" ")[0]) > width


WORDS = st.text(st.characters(codec="ascii", exclude_characters=" `", exclude_categories=["Cc"]), min_size=1)


@given(words=st.lists(WORDS, min_size=1, max_size=30), width=st.integers(10, 60))
def test_lines_hold_all_words_behind_what_they_begin_with(words: list[str], width: int) -> None:
    lines = wrap(" ".join(words), width, "[!] ")
    assert "".join(line[4:] for line in lines).replace(" ", "") == "".join(words)
    assert [line[:4] for line in lines] == ["[!] ", *["    "] * (len(lines) - 1)]
    assert all(len(line) <= width for line in lines)


@given(words=st.lists(st.text("abc", min_size=1, max_size=6), min_size=1, max_size=30), width=st.integers(10, 60))
def test_words_that_fit_behind_the_beginning_are_whole(words: list[str], width: int) -> None:
    assert " ".join(line[4:] for line in wrap(" ".join(words), width, "[!] ")) == " ".join(words)


@given(width=st.integers(5, 100))
def test_a_command_stays_on_one_line(width: int) -> None:
    lines = wrap("Type `egec client list --search PART`, or give another address.", width)
    assert sum("`egec client list --search PART`," in line for line in lines) == 1


def test_a_no_break_space_does_not_end_a_line() -> None:
    assert wrap("La base\N{NO-BREAK SPACE}: rien", 8) == ["La", "base\N{NO-BREAK SPACE}:", "rien"]


def test_wide_characters_count_twice() -> None:
    assert wrap("山田 山田 山田", 10) == ["山田 山田", "山田"]


def test_blanks_before_the_first_word_are_an_indent() -> None:
    assert wrap("  a bb ccc", 6) == ["  a bb", "ccc"]


def test_a_word_longer_than_a_line_is_cut_behind_the_beginning() -> None:
    assert wrap("aaaaaaaaa bb", 6, "- ") == ["- aaaa", "  aaaa", "  a bb"]


def test_a_text_that_no_terminal_shows_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    text = "one two three four five six seven"
    assert wrap_for(io.StringIO(), text, "- ") == [f"- {text}"]


# --- cutting ---


@given(MIXED, st.integers(1, 70))
@example("e\u0301" * 9, 5)
@example("山田", 2)
@example("山", 1)
def test_a_cut_text_has_exactly_the_width_and_a_mark(text: str, width: int) -> None:
    cut = screen.cut(text, width)
    assert wcswidth(cut) == width
    kept = cut.rstrip(" ").removesuffix("…")
    assert text.startswith(kept)
    assert "…" in cut


def test_marks_stay_with_their_letter() -> None:
    assert screen.cut("e\u0301e\u0301e\u0301e\u0301", 3) == "e\u0301e\u0301…"
    assert screen.cut("山田山田", 4) == "山… "
    assert screen.cut("กั" * 9, 3) == "กักั…"


@given(st.text(st.characters(codec="utf-8", categories=["L", "M", "N", "P", "Zs"])))
def test_a_text_is_never_wider_than_its_measured_width(text: str) -> None:
    assert screen.text_width(text) >= wcswidth(text)
