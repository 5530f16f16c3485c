"""CSV: no spreadsheet finds a formula at any delimiter, and import reads the original text."""

import csv
import io
import re
import sys
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from egec_cli.imports import tables
from egec_cli.imports.formats import TableOptions
from egec_cli.output import formats
from egec_cli.output.formats import DELIMITERS, FORMULA_STARTS, OutputFormat, guarded, remove_guard

FIELDS = {"a": "email", "b": "last_name"}
# Texts with hidden formulas, and any others that a text file can hold.
HIDING = st.text(st.sampled_from(f"{FORMULA_STARTS.replace(chr(0), '')};,|\"'\n a"), max_size=12)
ANYTHING = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff\ufffd"), max_size=12)
TEXTS = st.one_of(HIDING, ANYTHING)


class Pair(NamedTuple):
    a: str
    b: str


def written(capsys: pytest.CaptureFixture[str], pairs: list[Pair]) -> str:
    """Return the CSV that egec writes."""
    capsys.readouterr()
    formats.render_all(pairs, Pair, OutputFormat.CSV)
    return capsys.readouterr().out


def cells_of_a_spreadsheet(text: str, delimiter: str) -> list[str]:
    """Return the cells that programs may find, with and without respect for quotes."""
    naive = [cell for line in re.split(r"[\r\n]", text) for cell in line.split(delimiter)]
    stripped = [cell.strip('"') for cell in naive]
    quoted = [cell for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) for cell in row]
    return [*naive, *stripped, *quoted]


@given(st.lists(st.builds(Pair, TEXTS, TEXTS), min_size=1, max_size=3))
@example([Pair("Dupont;=cmd|'/C calc'!A0;x", "x")])
@example([Pair("a\rb", '";=x')])
def test_no_spreadsheet_finds_a_formula_at_any_delimiter(pairs: list[Pair]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream := io.StringIO())
        formats.render_all(pairs, Pair, OutputFormat.CSV)
    text = stream.getvalue()
    for delimiter in DELIMITERS:
        found = [cell for cell in cells_of_a_spreadsheet(text, delimiter) if cell.startswith(tuple(FORMULA_STARTS))]
        assert found == []


@given(st.lists(st.builds(Pair, TEXTS, TEXTS), min_size=1, max_size=3))
def test_a_table_is_read_as_it_was_written(pairs: list[Pair]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream := io.StringIO())
        formats.render_all(pairs, Pair, OutputFormat.CSV)
    rows = csv.reader(io.StringIO(stream.getvalue(), newline=""))
    assert [list(map(remove_guard, row)) for row in rows] == [["a", "b"], *map(list, pairs)]


@given(TEXTS)
def test_only_guards_are_removed(text: str) -> None:
    assert remove_guard(guarded(text)) == text


def in_one_line(text: str) -> str:
    """Return a text as import reads it: it makes a blank of a line break in a cell."""
    return re.sub(r"\s*[\r\n]+\s*", " ", text)


@given(TEXTS)
@example("a\n'=b")
def test_import_removes_the_guards_of_a_cell_of_several_lines(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream := io.StringIO())
        formats.render_all([Pair("a@example.org", text)], Pair, OutputFormat.CSV)
    table = tables.read_table(io.BytesIO(stream.getvalue().encode()), "x.csv", FIELDS, TableOptions(encoding="utf-8"))
    [row] = table
    expected = in_one_line(text) if "\n" in text else text
    assert (row.fault, row.cells[1]) == ("", expected)


@pytest.mark.parametrize("delimiter", [";", ",", "\t", "|", ":"])
@given(cells=st.lists(HIDING.map(in_one_line), min_size=1, max_size=3))
def test_a_rejected_row_is_guarded_and_read_as_before(delimiter: str, cells: list[str]) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\r\n")
    writer.writerow(["a", "b"])
    writer.writerows(["a@example.org", cell] for cell in cells)
    given_table = TableOptions(encoding="utf-8", delimiter=delimiter)
    first = tables.read_table(io.BytesIO(stream.getvalue().encode()), "x.csv", FIELDS, given_table)
    before = list(first)
    rejects = first.encode_rejected(first.header, "reason") + b"".join(
        first.encode_rejected(row.raw, "=no") for row in before
    )
    again = list(tables.read_table(io.BytesIO(rejects), "x.csv", FIELDS, given_table))
    assert [row.cells for row in again] == [row.cells for row in before]
    for other in {delimiter, *DELIMITERS} - {"\t"}:
        starts = tuple(FORMULA_STARTS.replace("\t", "") if delimiter == "\t" else FORMULA_STARTS)
        found = [cell for cell in cells_of_a_spreadsheet(rejects.decode(), other) if cell.startswith(starts)]
        assert found == []
