"""Tables for people: what fits a screen and what is left out, times, and colours that can be read."""

import ast
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.color import Color
from wcwidth import wcswidth

import egec_cli
from egec_cli import clock
from egec_cli.output import pager, screen, terminal
from egec_cli.output.terminal import _Table, show_table, text_for_people

NUMBERS = st.integers(0, 10**12).map(str)
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2099, 1, 1)).map(lambda at: f"{at:%Y-%m-%d %H:%M}")
# Letters, accents of their own, letters of two columns, and marks that are drawn over a letter.
TEXTS = st.text(st.sampled_from("abc ßœé\u0301\u0323\u0e31\ufe0f山田ニ🙂…"), max_size=60).map("x{}x".format)
KINDS = {"number": NUMBERS, "time": TIMES, "text": TEXTS}


def lines_of(table: _Table, rows: Sequence[Sequence[str]]) -> list[str]:
    return ["  ".join(table.cells(row)) for row in [table.names, *rows]]


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[str], list[list[str]]]:
    """Return kinds of columns, their unique names, and rows."""
    kinds = draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=7))
    names = [f"{kind}_{number}{'_' * draw(st.integers(0, 20))}" for number, kind in enumerate(kinds)]
    row = st.tuples(*(st.one_of(st.just(""), KINDS[kind]) for kind in kinds)).map(list)
    return kinds, names, draw(st.lists(row, max_size=12))


@given(tables(), st.integers(4, 160), st.integers(0, 12), st.data())
def test_no_line_is_longer_than_the_screen(
    drawn: tuple[list[str], list[str], list[list[str]]], width: int, first: int, data: st.DataObject
) -> None:
    _, names, rows = drawn
    optional = data.draw(st.lists(st.sampled_from(names), unique=True))
    table = _Table(names, rows[:first])
    table.fit(width, optional)
    lines = lines_of(table, rows)
    assert [line for line in lines if wcswidth(line) > width] == []
    assert [line for line in lines if line != line.rstrip()] == []


@given(tables(), st.integers(4, 160), st.integers(0, 12))
def test_numbers_and_times_are_shown_whole_or_not_at_all_and_in_order(
    drawn: tuple[list[str], list[str], list[list[str]]], width: int, first: int
) -> None:
    kinds, names, rows = drawn
    table = _Table(names, rows[:first])
    table.fit(width, [])
    table.cells(names)
    for row in rows:
        cells = [cell.rstrip() for cell in table.cells(row)]
        assert table.shown == [*range(len(table.shown))], (
            "the last columns are left out, and the others keep their order"
        )
        shown = cells[:-1] if table.is_cut else cells
        is_alone = len(table.shown) == 1
        for place, cell in enumerate(shown):
            kept = cell.removesuffix("…")
            assert row[place].startswith(kept)
            if kinds[place] != "text" and not is_alone:
                assert cell == row[place]
        assert not any(row[len(shown) : len(table.shown)]), "only empty cells may be missing at the end of a line"


@given(tables(), st.integers(4, 160))
def test_a_table_that_fits_is_shown_as_it_is(drawn: tuple[list[str], list[str], list[list[str]]], width: int) -> None:
    _, names, rows = drawn
    plain = lines_of(_Table(names, rows), rows)
    table = _Table(names, rows)
    is_wide_enough = sum(table.widths) + 2 * (len(names) - 1) <= width
    table.fit(width, names)
    if is_wide_enough:
        assert lines_of(table, rows) == plain
    assert is_wide_enough is (len(table.shown) == len(names) and lines_of(table, rows) == plain) or not rows


@given(tables(), st.integers(20, 160))
def test_the_first_rows_are_aligned_with_the_names(
    drawn: tuple[list[str], list[str], list[list[str]]], width: int
) -> None:
    _, names, rows = drawn
    table = _Table(names, rows)
    table.fit(width, [])
    widths = list(table.widths)
    for line in [names, *rows]:
        for cell, place in zip(table.cells(line)[:-1], table.shown, strict=False):
            assert wcswidth(cell) == widths[place]
    assert table.widths == widths


def test_optional_columns_are_left_out_first_and_in_the_given_order() -> None:
    names, rows = ["identifier", "name", "note", "email"], [["1234567890", "x" * 20, "y" * 20, "z" * 20]]
    shown = {}
    for width in (100, 75, 55, 30):
        table = _Table(names, rows)
        table.fit(width, ["note", "name"])
        shown[width] = [names[place] for place in table.shown]
        assert not table.is_cut
    assert shown == {100: names, 75: ["identifier", "name", "email"], 55: ["identifier", "name", "email"],
                     30: ["identifier", "email"]}  # fmt: skip


def test_the_longest_texts_are_cut_first() -> None:
    table = _Table(["number", "one", "other"], [["12345678", "a" * 40, "b" * 12]])
    table.fit(40, [])
    assert lines_of(table, table.rows) == [
        "number    one               other",
        f"12345678  {'a' * 15}…  {'b' * 12}",
    ]


def test_a_screen_that_is_too_narrow_for_numbers_leaves_out_the_last_ones_and_says_so() -> None:
    table = _Table(["a", "b", "c"], [["1234567890", "2026-11-25 05:30", "1234567890"]])
    table.fit(36, [])
    assert lines_of(table, table.rows) == ["a           b                 …", "1234567890  2026-11-25 05:30  …"]


def test_a_later_row_with_a_longer_number_takes_the_room_of_a_text() -> None:
    table = _Table(["id", "note"], [["1", "x" * 40]])
    table.fit(20, [])
    later = ["  ".join(table.cells([number, "x" * 40])) for number in ("99", "100", "12345", "2")]
    assert later == [f"99  {'x' * 15}…", f"100  {'x' * 14}…", f"12345  {'x' * 12}…", f"2      {'x' * 12}…"]


def test_a_later_row_is_the_first_with_a_text() -> None:
    table = _Table(["id", "failure"], [["1", ""]])
    table.fit(30, [])
    assert "  ".join(table.cells(["2", "550 5.1.1 User unknown"])) == "2   550 5.1.1 User unknown"
    assert "  ".join(table.cells(["3", "x" * 40])) == f"3   {'x' * 25}…"


def test_without_a_terminal_nothing_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(iter([["x" * 300, "2026-11-25T04:30:00.000Z"]]), ["text", "at"], optional=["at"], empty="Nothing.")
    assert capsys.readouterr().out.splitlines()[1] == f"{'x' * 300}  2026-11-25T04:30:00.000Z"


# --- times ---


@pytest.fixture
def new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(clock, "_local_zone", "")
        clock.show_times_in("America/New_York")
        yield


@pytest.mark.usefixtures("new_york")
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("2026-11-25T04:30:00.000Z", "2026-11-24 23:30"),
        ("2026-07-25T04:30:59Z", "2026-07-25 00:30"),
        ("2026-11-25T04:30:00", "2026-11-25T04:30:00"),
        ("at 2026-11-25T04:30:00Z", "at 2026-11-25T04:30:00Z"),
        ("2026-13-45T99:99:99Z", "2026-13-45T99:99:99Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("\u0662\u0660\u0662\u0666-11-25T04:30:00Z", "\u0662\u0660\u0662\u0666-11-25T04:30:00Z"),
        (None, ""),
        (12, "12"),
        ("a\x1b[31m\u202eb", "a?[31m?b"),
    ],
    ids=ascii,
)
def test_a_value_for_people_has_local_times(value: object, shown: str) -> None:
    assert text_for_people(value) == shown


@given(st.from_regex(r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z\Z"))
def test_a_text_like_a_time_is_shown_whatever_it_is(text: str) -> None:
    shown = text_for_people(text)
    assert shown == text or re.fullmatch(r"[0-9]{1,4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}", shown)


@given(st.datetimes(datetime(2000, 1, 1), datetime(2099, 1, 1), timezones=st.just(UTC)))
def test_a_time_for_people_is_never_cut(at: datetime) -> None:
    shown = text_for_people(at.isoformat(timespec="milliseconds").replace("+00:00", "Z"))
    assert shown == clock.to_local_text(at)
    table = _Table(["name", "at"], [["x" * 60, shown]])
    table.fit(40, [])
    assert table.cells(table.rows[0])[1] == shown


# --- colours ---

SOURCES = sorted(Path(egec_cli.__file__).parent.rglob("*.py"))
COLOUR_NAMES = {"black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"}


def luminance(colour: Color) -> float:
    parts = [part / 255 for part in colour.get_truecolor()]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("name", [*screen.READABLE.values(), pager.READABLE_CYAN])
def test_a_colour_can_be_read_on_white_and_on_black(name: str) -> None:
    # WCAG 2.1, 1.4.11 asks for a contrast of 3 : 1.
    own = luminance(Color.parse(name))
    assert 1.05 / (own + 0.05) >= 3.8
    assert (own + 0.05) / 0.05 >= 3.8


def test_states_have_colours_that_can_be_read() -> None:
    assert set(terminal._COLOUR_OF.values()) == set(screen.READABLE)


def test_every_console_has_the_colours_that_can_be_read() -> None:
    console = screen.open_console()
    for name, colour in screen.READABLE.items():
        assert console.get_style(name).color == Color.parse(colour)
        assert console.get_style(f"bold {name}").color == Color.parse(colour)
        assert console.get_style(f"bold {name}").bold


def test_no_style_has_a_colour_that_cannot_be_read() -> None:
    """Styles are texts, so every text of the modules of output is looked at."""
    unreadable = COLOUR_NAMES - set(screen.READABLE)
    for path in SOURCES:
        if path.parent.name != "output":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 30:
                words = set(re.findall(r"[a-z]+", node.value.replace("bright_", "bright ")))
                assert not words & unreadable, f"{path.name}:{node.lineno}: {node.value}"


def test_every_console_is_opened_with_these_colours() -> None:
    """The pages of `egec help` have a theme of their own, whose colours the test above looks at."""
    opened = {
        f"{path.name}:{function.name}"
        for path in SOURCES
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Console"
    }
    assert opened <= {"screen.py:open_console", "pager.py:_render", "terminal.py:_progress_bar"}


def test_lists_and_answers_are_words_for_people() -> None:
    assert text_for_people(["0001_initial", "0002_bounces"]) == "0001_initial, 0002_bounces"
    assert text_for_people([]) == ""
    assert (text_for_people(True), text_for_people(False), text_for_people(0)) == ("yes", "no", "0")
