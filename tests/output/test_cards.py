"""Lines and cards fit the terminal; in a pipe they are whole and plain."""

import io
import re

import pytest

from egec_cli.output.cards import Line, Part, card_lines, count_rows, describe_duration, make_line, show_lines


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    return Terminal()


def shown(lines: list[Line], stream: io.StringIO) -> list[str]:
    show_lines(lines, stream)
    return stream.getvalue().splitlines()


LONG = "one two three four five six seven"


def test_a_long_line_is_wrapped_at_words_with_an_indent(terminal: Terminal) -> None:
    assert [line.rstrip() for line in shown([make_line(LONG, indent=4)], terminal)] == [
        "one two three four", "    five six seven",
    ]  # fmt: skip


def test_a_word_longer_than_the_terminal_is_broken(terminal: Terminal) -> None:
    assert all(len(line) <= 20 for line in shown([make_line("x" * 70, indent=4)], terminal))


def test_a_line_does_not_end_at_a_no_break_space(terminal: Terminal) -> None:
    text = "Cliquez donc sur \N{LEFT-POINTING DOUBLE ANGLE QUOTATION MARK}\N{NO-BREAK SPACE}oui"
    assert shown([make_line(text)], terminal) == [text[:16], text[17:]]


def test_each_part_keeps_its_style_on_every_line(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR")
    lines = shown([make_line("one ", Part("two three four five six", "bold"), " seven", indent=2)], terminal)
    assert lines == ["one \x1b[1mtwo three four\x1b[0m", "  \x1b[1mfive six\x1b[0m seven"]


def test_rows_of_the_screen_are_counted(terminal: Terminal) -> None:
    lines = [make_line(LONG), make_line(), make_line(LONG, is_whole=True)]
    assert count_rows(lines) == len(shown(lines, terminal)) == 4


def test_a_whole_line_is_cut(terminal: Terminal) -> None:
    assert shown([make_line(LONG, is_whole=True)], terminal) == ["one two three four …"]


def test_the_values_of_a_card_stand_below_each_other(terminal: Terminal) -> None:
    lines = card_lines([("Rate", "5"), ("Sender", "aaa bbb ccc ddd")])
    assert [re.sub(r"\x1b\[\d*m", "", line).rstrip() for line in shown(lines, terminal)] == [
        "  Rate    5", "  Sender  aaa bbb", "          ccc ddd",
    ]  # fmt: skip


def test_a_pipe_gets_whole_lines_without_styles() -> None:
    lines = [make_line(Part("Next: ", "dim"), Part(LONG, "bold"), is_whole=True), *card_lines([("Rate", "")])]
    assert shown(lines, io.StringIO()) == [f"Next: {LONG}", "  Rate"]


def test_a_line_cannot_control_the_terminal() -> None:
    assert shown([make_line("a\x1b[31mb\nc")], io.StringIO()) == ["a?[31mb?c"]


def test_colours_are_used_at_a_terminal_only(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown([make_line(Part("done", "green"))], terminal) == ["done"]
    monkeypatch.delenv("NO_COLOR")
    assert shown([make_line(Part("done", "green"))], Terminal()) == ["\x1b[38;5;28mdone\x1b[0m"]
    assert shown([make_line(Part("done", "green"))], io.StringIO()) == ["done"]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.4, "less than a second"), (59, "59 s"), (59.7, "1 min"), (3570, "1 h 0 min"), (11100, "3 h 5 min")],
)
def test_a_duration_in_words(seconds: float, expected: str) -> None:
    assert describe_duration(seconds) == expected
