"""Tables as spreadsheets and other programs write them, valid and broken: imported, or rejected with a reason."""

import json
import random
import tracemalloc
from io import BytesIO
from pathlib import Path

import pytest

from egec_cli.context import Context
from egec_cli.errors import InvalidInput
from egec_cli.imports import formats, tables
from egec_cli.imports.columns import FIELD_OF_COLUMN, Row
from egec_cli.imports.formats import TableOptions
from egec_cli.imports.run import ImportResult, RejectedRow, import_clients
from egec_cli.imports.tables import Table
from egec_cli.store.models import Client

# Made by tests/spreadsheets/make.py.
SPREADSHEETS = Path(__file__).parents[1] / "spreadsheets"
TEXTS = (
    "utf8-semicolon.csv", "utf8-comma.csv", "windows1252-semicolon.csv", "windows1252-tab.txt", "utf16-tab.txt",
    "excel-utf8.csv", "excel-unicode.txt",
)  # fmt: skip
# What all of them say, in the order of their columns.
CLIENTS = [
    ("zoe.lefevre@example.org", "Mme", "Zoé", "Lefèvre", "00042", "fr"),
    ("contact@coeur.example.org", "", "", "Cœur de Forêt", "00043", "FR"),
    ("herouville@example.org", "M.", "François", "D\u2019Hérouville", "00044", "fr"),
    ("hote@example.org", "Monsieur", "Noël", "L'Hôte", "", ""),
    ("compta@ete.example.org", "", "", "SARL Été Service comptabilité", "A-7", "fr"),
    ("formule@example.org", "Mlle", "Maëlle", "=1+1", "00045", "en"),
    ("cesar@example.org", "M", "César", "Müller-Nuñez", "00046", "fr"),
]
COLUMNS = ["email", "civility", "first_name", "last_name", "reference", "language"]
SAVE_AS = "Open it in the spreadsheet program, choose “Save as” and then “CSV UTF-8” (or “Text CSV”)."
EXPORT = "Export the clients as CSV from the program that keeps them; a spreadsheet saves them as “CSV UTF-8”."
HEADER_FIRST = "It must begin with a header, such as email;identifier;reference;civility."
TOO_LONG = "the line is longer than 131,072 characters; only its beginning is kept"
OPEN_QUOTE = "a quote is not closed"


def table_of(content: bytes, given: TableOptions | None = None) -> Table:
    """Return the table in a file of this content."""
    return tables.read_table(BytesIO(content), "clients.csv", FIELD_OF_COLUMN, given or TableOptions())


def rows_of(content: str | bytes, given: TableOptions | None = None) -> list[Row]:
    return list(table_of(content.encode() if isinstance(content, str) else content, given))


def read(content: str | bytes) -> list[tuple[int, tuple[str, ...] | str]]:
    """Return the line of each row, with its cells or its fault."""
    return [(row.line, row.fault or tuple(row.cells)) for row in rows_of(content)]


def refused(content: bytes, given: TableOptions | None = None) -> tuple[str, str]:
    """Return the message and the hint for a file that is not a table."""
    with pytest.raises(InvalidInput) as refusal:
        table_of(content, given)
    return refusal.value.message, refusal.value.hint


def imported(egec: Context, content: bytes) -> tuple[ImportResult, list[tuple[int, str, str]]]:
    """Import a file; return the result, and the line, field and reason of each rejected row."""
    rejected: list[RejectedRow] = []
    counts = import_clients(egec, table_of(content), rejected.append)
    return counts, [(one.line, one.field, one.reason) for one in rejected]


# Files that a spreadsheet program made.


@pytest.mark.parametrize(
    ("name", "described"),
    [
        ("utf8-semicolon.csv", "CSV with semicolons, in utf-8"),
        ("utf8-comma.csv", "CSV with commas, in utf-8"),
        ("windows1252-semicolon.csv", "CSV with semicolons, in cp1252"),
        ("windows1252-tab.txt", "CSV with tabs, in cp1252"),
        ("utf16-tab.txt", "CSV with tabs, in utf-16-le"),
        ("excel-utf8.csv", "CSV with semicolons, in utf-8"),
        ("excel-unicode.txt", "CSV with tabs, in utf-16-le"),
    ],
)
def test_every_text_format_of_a_spreadsheet_has_the_same_cells(name: str, described: str) -> None:
    table = table_of((SPREADSHEETS / name).read_bytes())
    assert table.described == described
    assert (table.fields, table.unused) == (COLUMNS, ["Remarque"])
    rows = list(table)
    assert [tuple(row.cells) for row in rows] == CLIENTS
    assert [row.line for row in rows] == [2, 3, 4, 5, 6, 9, 10]
    assert not any(row.fault for row in rows)


def test_every_text_format_of_a_spreadsheet_creates_the_same_clients(opened: Context) -> None:
    counts = [imported(opened, (SPREADSHEETS / name).read_bytes()) for name in TEXTS]
    assert counts == [(ImportResult(7, 0, 0, 0, []), []), *[(ImportResult(0, 0, 7, 0, []), [])] * 6]
    found = [
        (c.email, c.civility, c.first_name, c.last_name, c.reference or "", c.language)
        for c in Client.select().order_by(Client.id)
    ]
    assert found == [
        (email, {"M": "M.", "Monsieur": "M."}.get(civility, civility), first, last, reference, language.lower())
        for email, civility, first, last, reference, language in CLIENTS
    ]


@pytest.mark.parametrize("name", TEXTS)
def test_a_rejected_row_keeps_the_format_of_the_spreadsheet(name: str) -> None:
    content = (SPREADSHEETS / name).read_bytes()
    table = table_of(content)
    rejects = table.encode_rejected(table.header, "reason")
    rejects += b"".join(table.encode_rejected(row.raw, f'n° {row.line}: not "taken"') for row in table)
    again = tables.read_table(
        BytesIO(rejects), "rejects.csv", FIELD_OF_COLUMN, TableOptions(columns={"reason": "identifier"})
    )
    assert again.described == table.described
    assert [tuple(row.cells) for row in again] == [
        (*cells, f'n° {line}: not "taken"') for cells, line in zip(CLIENTS, (2, 3, 4, 5, 6, 9, 10), strict=True)
    ]
    # The mark that Excel knows a file by is there once, if it was there.
    mark = next((mark for mark in (b"\xef\xbb\xbf", b"\xff\xfe") if content.startswith(mark)), None)
    assert mark is None or (rejects.startswith(mark) and rejects.count(mark) == 1)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("clients.xlsx", "a spreadsheet file such as .xlsx or .ods (or a ZIP archive)"),
        ("clients.ods", "a spreadsheet file such as .xlsx or .ods (or a ZIP archive)"),
        ("clients.xls", "an old Excel file such as .xls, or one with a password"),
    ],
)
def test_a_spreadsheet_in_its_own_format_is_refused_with_what_to_do(name: str, kind: str) -> None:
    with (SPREADSHEETS / name).open("rb") as file, pytest.raises(InvalidInput) as refusal:
        tables.read_table(file, name, FIELD_OF_COLUMN, TableOptions())
    assert refusal.value.message == f"{name} is {kind}, which egec does not read"
    assert refusal.value.hint == SAVE_AS


# Files that are not tables.


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b"", "clients.csv is empty", HEADER_FIRST),
        (b"\xef\xbb\xbf", "clients.csv is empty", HEADER_FIRST),
        (b"\r\n \r\n;;;\r\n", "clients.csv is empty", HEADER_FIRST),
        (b"sep=;\r\n", "clients.csv is empty", HEADER_FIRST),
        (bytes(range(256)) * 50, "clients.csv is not a text file", EXPORT),
        (b"<html><table>", "clients.csv is a web page or XML, which egec does not read", SAVE_AS),
        (b"{\\rtf1", "clients.csv is a document with formatting (RTF), which egec does not read", SAVE_AS),
        (b"%PDF-1.7", "clients.csv is a PDF, which egec does not read", EXPORT),
        (b"\x1f\x8b\x08", "clients.csv is a gzip archive, which egec does not read", "Unpack it first."),
        (
            b"jean@example.org;Petit\n",
            "the first line of clients.csv is not a header: it contains an e-mail",
            "Add a first line with the names of the columns, such as email;identifier;reference;civility.",
        ),
        (
            b"Couleur;Taille\nrouge;42\n",
            "clients.csv has no known column; its columns are: Couleur, Taille",
            "Name the columns as in email;identifier;reference;civility, or map them: --map 'COLUMN=email'.",
        ),
        (
            "Courriel;Nom;Société\n".encode(),
            "clients.csv has 2 columns for last_name: 'Nom' and 'Société'",
            "Keep one of them, and remove or rename the others.",
        ),
        (
            b'"Courriel;Nom\na@example.org;Petit\n',
            "invalid header in clients.csv: a quote is not closed",
            SAVE_AS,
        ),
        (
            b"email;" * 100_000,
            "the first line of clients.csv is longer than 131,072 characters",
            "The first line must name the columns, such as email;identifier;reference;civility; "
            "write each client on its own line below.",
        ),
    ],
)  # fmt: skip
def test_a_file_that_is_not_a_table_is_refused_with_what_to_do(content: bytes, message: str, hint: str) -> None:
    assert refused(content) == (message, hint)


def test_an_object_on_several_lines_is_refused_with_what_to_do() -> None:
    message, hint = refused(b'{\n  "email": "a@example.org"\n}\n')
    assert message == "clients.csv has a JSON object on several lines, which egec does not read"
    assert "Write each object on its own line" in hint


def test_text_in_another_encoding_than_the_given_one_is_refused() -> None:
    message, hint = refused("email;nom\na@example.org;Zoé\n".encode(), TableOptions(encoding="idna"))
    assert message == "clients.csv is not text in idna"
    assert hint == "Name its encoding, as in --encoding utf-8."


# Headers.


def test_a_header_may_be_in_capitals_with_odd_blanks() -> None:
    table = table_of("  E-MAIL ; NOM\u00a0DE   FAMILLE ;PRÉNOM;N°\u202fDE DOSSIER\na@example.org;B;C;D\n".encode())
    assert table.fields == ["email", "last_name", "first_name", "reference"]
    assert [tuple(row.cells) for row in table] == [("a@example.org", "B", "C", "D")]


def test_empty_lines_above_the_header_are_skipped() -> None:
    assert read("\ufeff\r\n;;\r\nemail;nom;\r\na@example.org;Petit;\r\n") == [(4, ("a@example.org", "Petit"))]


@pytest.mark.parametrize("first", ["sep=,\r\n", '"sep=,"\r\n', "\ufeffSEP=,\r\n"])
def test_a_first_line_with_the_separator_sets_the_delimiter(first: str) -> None:
    assert read(f"{first}email,nom;x\r\na@example.org,Petit\r\n") == [(3, ("a@example.org",))]


@pytest.mark.parametrize("content", ["email;nom\n", "email;nom", "email;nom\r\n;\r\n\r\n"])
def test_a_file_with_only_a_header_has_no_rows(content: str) -> None:
    assert read(content) == []


def test_a_table_may_have_three_hundred_columns() -> None:
    others = ";".join(f"c{number}" for number in range(298))
    table = table_of(f"{others};Nom;Courriel\n{others};Petit;a@example.org\n".encode())
    assert [tuple(row.cells) for row in table] == [("Petit", "a@example.org")]
    assert len(table.unused) == 298


# Lines and cells.


def test_lines_may_end_as_on_an_old_mac() -> None:
    content = 'email;nom\ra@example.org;Petit\rb@example.org;"SARL\rDurand"\rc@example.org;Noël\r'.encode("mac_roman")
    assert read(content) == [
        (2, ("a@example.org", "Petit")),
        (3, ("b@example.org", "SARL Durand")),
        (5, ("c@example.org", "Noël")),
    ]


def test_the_last_line_needs_no_end() -> None:
    assert read("email;nom\na@example.org;Petit\nb@example.org;Durand")[-1] == (3, ("b@example.org", "Durand"))


def test_a_line_break_within_a_cell_becomes_a_space() -> None:
    text = 'email;nom;note\na@example.org;"SARL \r\n Durand";"one\ntwo; three\n"\n'
    assert read(text) == [(2, ("a@example.org", "SARL Durand"))]


def test_missing_cells_are_empty_and_too_many_cells_are_a_fault() -> None:
    text = "email;nom;note\na@example.org\nb@example.org;B;x;y\nc@example.org;C;;;;\n;;total\n;;\n  \n"
    assert read(text) == [
        (2, ("a@example.org", "")),
        (3, "it has 4 cells, but the header has 3 columns (put a cell that contains ';' in quotes)"),
        (4, ("c@example.org", "C")),
        # It is not empty, so it is not skipped, but rejected later without an e-mail.
        (5, ("", "")),
    ]


@pytest.mark.parametrize(
    "broken",
    [
        'a@example.org;"A;1\nb@example.org;B;2\nc@example.org;C;3\n',
        'a@example.org;"A;1\nb@example.org;B;2\nc@example.org;"C";3\n',
        'a@example.org;"A;1\nb@example.org;B;2\nc@example.org;C;"3"\n',
        'a@example.org;A;"1\nb@example.org;B;2\nc@example.org;C;"3"\n',
        'a@example.org;A;"1\nb@example.org;B;2\nc@example.org;C;3\n' + "d@example.org;D;4\n" * 20_000,
    ],
)
def test_rows_below_an_unclosed_quote_are_still_read(broken: str) -> None:
    rows = read(f"email;nom;note\nz@example.org;Z;0\n{broken}")
    assert rows[:4] == [
        (2, ("z@example.org", "Z")),
        (3, OPEN_QUOTE),
        (4, ("b@example.org", "B")),
        (5, ("c@example.org", "C")),
    ]
    assert len(rows) == 3 + broken.count("\n") - 2


def test_a_quote_that_closes_by_chance_swallows_no_rows() -> None:
    text = 'email;nom;note\na@example.org;"A;1\nb@example.org;B;2\nc@example.org;C";3\nd@example.org;D;4\n'
    assert read(text) == [
        (2, OPEN_QUOTE),
        (3, ("b@example.org", "B")),
        (4, ("c@example.org", 'C"')),
        (5, ("d@example.org", "D")),
    ]


def test_a_quote_that_closes_within_a_cell_is_a_fault_and_one_in_its_middle_is_text() -> None:
    assert read('email;nom\na@example.org;"Le" Petit\nb@example.org;Jean "Le" Petit\n') == [
        (2, "a quote is closed in the middle of a cell (double each quote within a quoted cell)"),
        (3, ("b@example.org", 'Jean "Le" Petit')),
    ]


@pytest.mark.parametrize("quote", ["", '"'])
def test_a_cell_of_ten_megabytes_is_a_fault_and_not_kept(quote: str) -> None:
    text = f"email;nom\na@example.org;{quote}{'x' * 10_000_000}{quote}\nb@example.org;Petit\n".encode()
    tracemalloc.start()
    try:
        rows = rows_of(text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [(row.line, row.fault) for row in rows] == [(2, TOO_LONG), (3, "")]
    assert len(rows[0].raw) == 200
    # What reading a file of any size takes.
    assert peak < 8_000_000


def test_each_line_of_a_megabyte_is_a_fault() -> None:
    long = "y" * 1_000_000
    text = f'email;nom\n{long}\na@example.org;"{long}\nb@example.org;{long}\nz@example.org;Petit\n'
    assert read(text) == [(2, TOO_LONG), (3, TOO_LONG), (4, TOO_LONG), (5, ("z@example.org", "Petit"))]
    objects = "".join(f"{json.dumps({'email': one})}\n" for one in ("a@example.org", long, "z@example.org"))
    found = [(row.line, row.fault or row.cells[0]) for row in rows_of(objects)]
    assert found == [(1, "a@example.org"), (2, TOO_LONG), (3, "z@example.org")]


def test_a_long_line_below_an_open_quote_is_read_as_its_own_line() -> None:
    text = f'email;nom\na@example.org;"A\n{"y" * 1_000_000}\nz@example.org;Petit\n'
    assert read(text) == [(2, OPEN_QUOTE), (3, TOO_LONG), (4, ("z@example.org", "Petit"))]


# Invalid bytes and lost characters.


def test_rows_in_another_encoding_than_the_file_are_rejected_by_their_numbers(opened: Context) -> None:
    lines = [f"c{number}@example.org;Zoé Lefèvre\n".encode() for number in range(6)]
    lines[2] = "c2@example.org;Noël\n".encode("cp1252")
    lines[4] = "c4@example.org;Béranger;\n".encode("cp1252")
    stray = "it contains bytes that are invalid in the encoding of the file"
    assert imported(opened, b"email;nom\n" + b"".join(lines)) == (
        ImportResult(4, 0, 0, 2, []), [(4, "", stray), (6, "", stray)]
    )  # fmt: skip


def test_a_nul_byte_in_a_cell_rejects_its_row_alone(opened: Context) -> None:
    counts, rejected = imported(opened, b"email;nom\na@example.org;Du\0pont\n\0b@example.org;B\nc@example.org;C\n")
    assert counts == ImportResult(1, 0, 0, 2, [])
    assert [(line, field) for line, field, _ in rejected] == [(2, "last_name"), (3, "email")]
    assert "U+0000" in rejected[0][2]


def test_a_character_that_was_lost_before_rejects_its_row() -> None:
    lost = "it contains \ufffd, which marks a character that another program lost"
    assert read("email;nom\na@example.org;No\ufffdl\nb@example.org;Noël\n") == [
        (2, lost), (3, ("b@example.org", "Noël"))
    ]  # fmt: skip
    # Half a character at the end of a truncated file.
    assert read("email;nom\na@example.org;Noël\nb@example.org;Petit".encode("utf-16")[:-1])[-1] == (3, lost)
    assert read('{"email": "a@example.org"}\n{"email": "\ufffd@example.org"}\n')[-1] == (2, lost)


@pytest.mark.parametrize("encoding", ["cp850", "mac_roman", "utf-16-be", "utf-8", "cp1252"])
def test_a_reason_with_characters_that_the_encoding_lacks_is_still_written(encoding: str) -> None:
    table = table_of("email;nom\na@example.org;Zoé\n".encode(encoding), TableOptions(encoding=encoding))
    [row] = table
    written = table.encode_rejected(row.raw, "Ж…").decode(encoding)
    assert written.startswith('a@example.org;Zoé;"')
    assert written.endswith('"\n')


# Encodings.

WORDS = (
    "Zoé", "Éric", "Hélène", "Noël", "Gaël", "Anaïs", "Loïc", "François", "Benoît", "Jérôme", "Chloé", "André", "Côme",
    "Lefèvre", "Bœuf", "L\u2019Hôte", "Châtelain", "Prévôt", "Forêt", "Besançon", "Müller", "Nuñez", "Mégret",
    "Café de l\u2019Œuvre", "Épicerie « Chez Zoé »", "Société Générale", "Où ça ?", "Dupont", "Martin", "Durand",
)  # fmt: skip


def short_file(number: int, encoding: str) -> bytes:
    """Return a short table of French names, the same for the same number."""
    chance = random.Random(number)
    header = chance.choice(("email;nom", "Courriel;Nom", "E-mail;Société", "Adresse électronique;Prénom"))
    as_written = chance.choice((str, str.upper, str.title))
    names = [as_written(chance.choice(WORDS)) for _ in range(chance.randint(3, 50))]
    # At least one small accented letter: with capitals alone, several encodings are plausible.
    rows = "".join(f"c{place}@example.org;{name}\r\n" for place, name in enumerate([*names, "Amélie"]))
    return f"{header}\r\n{rows}".encode(encoding, errors="replace")


@pytest.mark.parametrize("encoding", ["cp1252", "cp850", "mac_roman"])
def test_the_encoding_of_short_french_files_is_detected_by_their_letters(encoding: str) -> None:
    contents = [short_file(number, encoding) for number in range(300)]
    found = [formats.detect_encoding(BytesIO(content), "clients.csv") for content in contents]
    wrong = [
        number
        for number, (content, other) in enumerate(zip(contents, found, strict=True))
        if content.decode(other, errors="replace") != content.decode(encoding)
    ]
    assert wrong == []


def test_one_accent_in_a_file_of_windows_is_enough() -> None:
    for word in WORDS:
        content = f"email;nom\na@example.org;{word}\nb@example.org;Petit\n".encode("cp1252")
        assert read(content)[0] == (2, ("a@example.org", word))


def test_the_euro_and_the_ligature_of_latin_9_are_detected() -> None:
    content = "email;nom;note\na@example.org;Bœuf;5 €\nb@example.org;Sœur Émilie;\n".encode("iso8859-15")
    assert read(content) == [(2, ("a@example.org", "Bœuf")), (3, ("b@example.org", "Sœur Émilie"))]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16", "utf-8-sig", "utf-8"])
@pytest.mark.parametrize("is_given", [True, False])
def test_unicode_is_detected_with_and_without_its_mark(encoding: str, is_given: bool) -> None:
    content = "email;nom\na@example.org;Bœuf\n".encode(encoding)
    assert read(content) == [(2, ("a@example.org", "Bœuf"))]
    given = TableOptions(encoding=encoding if is_given else "")
    assert [tuple(row.cells) for row in rows_of(content, given)] == [("a@example.org", "Bœuf")]
