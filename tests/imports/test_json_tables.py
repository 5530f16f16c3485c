"""JSON lists: read element by element however they are written, or refused at the line that is wrong."""

import json
import re
import tracemalloc
from io import BytesIO
from pathlib import Path

import pytest

from egec_cli.errors import InvalidInput
from egec_cli.imports import json_tables, tables
from egec_cli.imports.columns import FIELD_OF_COLUMN, Row
from egec_cli.imports.formats import TableKind, TableOptions
from egec_cli.imports.tables import Table

CLIENTS = [{"email": f"c{number}@example.org", "nom": f'Noël [{number}], \\ "é"'} for number in range(50)]


def table_of(content: bytes, kind: TableKind | None = None) -> Table:
    return tables.read_table(BytesIO(content), "clients.json", FIELD_OF_COLUMN, TableOptions(kind))


def rows_of(text: str, kind: TableKind | None = None) -> list[Row]:
    return list(table_of(text.encode(), kind))


def cells_of(rows: list[Row]) -> list[list[str]]:
    """Return the first two cells of each row: the e-mail and the name."""
    return [list(row.cells[:2]) for row in rows]


@pytest.mark.parametrize("kind", [None, TableKind.JSON])
@pytest.mark.parametrize("piece", [1, 7, 1 << 16])
@pytest.mark.parametrize(
    "text",
    [
        json.dumps(CLIENTS),
        json.dumps(CLIENTS, indent=2),
        json.dumps(CLIENTS, separators=(",", ":")),
        "\ufeff\n\n  " + json.dumps(CLIENTS, ensure_ascii=False, indent="\t").replace("\n", "\r\n") + "\n",
        "[\n" + ",\n".join(map(json.dumps, CLIENTS)) + "\n]\n",
    ],
    ids=["one line", "indented", "compact", "byte order mark and Windows lines", "an object on each line"],
)
def test_a_list_is_read_however_it_is_written(
    monkeypatch: pytest.MonkeyPatch, text: str, piece: int, kind: TableKind | None
) -> None:
    monkeypatch.setattr(json_tables, "_PIECE", piece)
    rows = rows_of(text, kind)
    assert cells_of(rows) == [list(client.values()) for client in CLIENTS]
    assert [row.fault for row in rows] == [""] * len(CLIENTS)


GOOD = '{"email": "a@x.fr"}'


@pytest.mark.parametrize("form", ["{}\n{}\n{}\n", "[{},{},{}]"], ids=["lines", "list"])
@pytest.mark.parametrize(
    ("written", "field"),
    [
        ('{"email": "b@x.fr", "email": "c@x.fr"}', "email"),
        ('{"email": "b@x.fr", "email": null}', "email"),
        ('{"email": "b@x.fr", "\\u0065mail": "b@x.fr"}', "email"),
        ('{"email": "b@x.fr", "reference": 1, "reference": 2}', "reference"),
        ('{"E-mail": "b@x.fr", "courriel": "c@x.fr"}', "email"),
    ],
)
def test_a_row_with_several_values_for_a_field_is_rejected(form: str, written: str, field: str) -> None:
    table = table_of(form.format(GOOD, written, GOOD).encode())
    rows = list(table)
    assert [row.fault for row in rows] == ["", f"it has several values for {field}", ""]
    rejected = json.loads(table.encode_rejected(rows[1].raw, "reason"))
    # No value is lost.
    assert all(text in json.dumps(rejected) for text in re.findall(r"\w@x.fr", written))


@pytest.mark.parametrize(
    "written",
    [
        '{"email": "b@x.fr", "nom": "a \\"quoted\\" name"}',
        '{"email": "b@x.fr", "other": 1, "other": 2}',
        '{"email": "b@x.fr", "other": {"email": "c@x.fr"}}',
    ],
)
def test_other_quotation_marks_and_unknown_keys_reject_no_row(written: str) -> None:
    assert [(row.fault, row.cells[0]) for row in rows_of(f"{GOOD}\n{written}\n")] == [("", "a@x.fr"), ("", "b@x.fr")]


def test_a_row_has_its_first_line_and_its_text() -> None:
    text = '[\n  {\n    "email": "a@x.fr"\n  },\n\n  {"email":\n "b@x.fr"}\n]'
    assert [(row.line, row.raw) for row in rows_of(text)] == [
        (2, '{\n    "email": "a@x.fr"\n  }'), (6, '{"email":\n "b@x.fr"}'),
    ]  # fmt: skip


def test_the_encoding_of_a_list_is_detected() -> None:
    text = json.dumps(CLIENTS, ensure_ascii=False)
    for encoding in ("utf-16", "utf-8-sig", "cp1252"):
        assert cells_of(list(table_of(text.encode(encoding)))) == [list(client.values()) for client in CLIENTS]


def test_an_element_that_is_no_client_is_rejected_and_the_others_are_read() -> None:
    rows = rows_of(
        '[{"email": "a@x.fr"},\n 12345, "x",\n {"email": ["x"]}, {"email": "b\ufffd@x.fr"}, {"email": "c@x.fr"}]'
    )
    assert [(row.line, row.raw, str(row.fault)) for row in rows if row.fault] == [
        (2, "12345", "it is not a JSON object"),
        (2, '"x"', "it is not a JSON object"),
        (3, '{"email": ["x"]}', "its email is neither text nor a number"),
        (3, '{"email": "b\ufffd@x.fr"}', "it contains \ufffd, which marks a character that another program lost"),
    ]
    assert [row.cells[0] for row in rows if not row.fault] == ["a@x.fr", "c@x.fr"]


@pytest.mark.parametrize(
    ("rest", "line"),
    [
        ("", 2),
        (",", 2),
        (", ]", 2),
        (",\n{]", 3),
        (' {"email": "b@x.fr"}]', 2),
        ("]\n\n[]", 4),
        ("] {}", 2),
        (',\n{"email": "b@x', 3),
        (',\n"' + "x" * 200_000, 3),
        (",\n" + "[" * 100_000, 3),
    ],
)
def test_a_broken_list_is_refused_at_its_line_rather_than_read_in_part(rest: str, line: int) -> None:
    with pytest.raises(InvalidInput) as refusal:
        rows_of(f'[\n{{"email": "a@x.fr"}}{rest}')
    assert refusal.value.message == f"clients.json:{line}: it is not valid JSON"


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("[]", None, "clients.json is an empty list"),
        ("[\n]", None, "clients.json is an empty list"),
        ("[] x", None, "clients.json:1: it is not valid JSON"),
        ("[1]", TableKind.JSON, "clients.json:1: it is not a JSON object"),
        ('[{"colour": "red"}]', None, "clients.json has no known column; its columns are: colour"),
        ('{"email": "a@x.fr"}', TableKind.JSON, "clients.json is not a JSON list"),
        ("email\na@x.fr\n", TableKind.JSON, "clients.json is not a JSON list"),
        ('[{"email": "a@x.fr"}]', TableKind.JSONL, "clients.json is a JSON list, not JSON Lines"),
    ],
)
def test_a_file_that_is_no_list_of_clients_is_refused(text: str, kind: TableKind | None, message: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        rows_of(text, kind)
    assert refusal.value.message == message


def test_a_large_list_on_one_line_is_read_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "clients.json"
    path.write_text(json.dumps([{"email": f"c{number}@example.org"} for number in range(100_000)]))
    with path.open("rb") as stream:
        table = tables.read_table(stream, path.name, FIELD_OF_COLUMN, TableOptions())
        tracemalloc.start()
        number = sum(row.cells[0].startswith("c") for row in table)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert number == 100_000
    assert peak < path.stat().st_size / 2
