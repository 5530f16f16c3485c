"""Create the tables of this folder with a spreadsheet program, so that tests read what such programs write.

    python tests/spreadsheets/make.py

The files were saved by LibreOffice 7.4.7.2 (Debian's libreoffice-calc) from the sheet below, which it reads as an
OpenDocument file. It cannot write exactly what Excel does: the `excel-*` files are its own with Windows line ends
between rows (within cells Excel writes LF) and, for `excel-utf8.csv`, a byte order mark. The last three files are not
text; egec must refuse them.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

HERE = Path(__file__).resolve().parent
ODS = "application/vnd.oasis.opendocument.spreadsheet"
NAMESPACES = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:{version}"'
    for name, version in {"office": "1.0", "table": "1.0", "text": "1.0", "of": "1.2"}.items()
)

HEADER = ("Courriel", "Civilité", "Prénom", "Nom", "N° de dossier", "", "Langue", "Remarque")
ROWS = (
    ("zoe.lefevre@example.org", "Mme", "Zoé", "Lefèvre", "00042", "", "fr", "5 € dus"),
    ("contact@coeur.example.org", "", "", "Cœur de Forêt", "00043", "", "FR", "« reçu »; à revoir, dit-elle"),
    ("herouville@example.org", "M.", "François", "D\u2019Hérouville", "00044", "", "fr", ""),
    ("hote@example.org", "Monsieur", "Noël", "L'Hôte", "", "", "", 'dit "le Petit"'),
    ("compta@ete.example.org", "", "", "SARL Été\nService comptabilité", "A-7", "", "fr", "deux\nlignes"),
    ("formule@example.org", "Mlle", "Maëlle", "=1+1", "00045", "", "en", "+33 1 23 45 67 89"),
    ("cesar@example.org", "M", "César", "Müller-Nuñez", "00046", "", "fr", ""),
)
# Rows that look empty: formulas with an empty text.
EMPTY_ROWS = 3

SEMICOLON, COMMA, TAB = 59, 44, 9
UTF_8, WINDOWS_1252, UTF_16 = 76, 1, 65535


def sheet() -> str:
    """Return the sheet as a flat OpenDocument file; all cells are texts."""
    rows = [*map(texts, (HEADER, *ROWS)), *(empty_looking_row() for _ in range(EMPTY_ROWS))]
    body = "".join(f"<table:table-row>{''.join(row)}</table:table-row>" for row in rows)
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><office:document {NAMESPACES} office:version="1.2"'
        f' office:mimetype="{ODS}"><office:body><office:spreadsheet><table:table table:name="Clients">'
        f"{body}</table:table></office:spreadsheet></office:body></office:document>"
    )


def texts(row: Sequence[str]) -> Iterator[str]:
    """Yield the cells of a row; a line of a text is a paragraph."""
    for cell in row:
        lines = "".join(f"<text:p>{escape(line)}</text:p>" for line in cell.split("\n"))
        yield (
            f'<table:table-cell office:value-type="string">{lines}</table:table-cell>'
            if cell
            else ("<table:table-cell/>")
        )


def empty_looking_row() -> Iterator[str]:
    """Yield the cells of a row that looks empty."""
    for _ in HEADER:
        yield (
            '<table:table-cell table:formula="of:=&quot;&quot;" office:value-type="string" office:string-value="">'
            "</table:table-cell>"
        )


def saved(source: Path, kind: str, suffix: str) -> bytes:
    """Return a file as saved by the spreadsheet program with this filter."""
    profile = (source.parent / "profile").as_uri()
    subprocess.run(
        ["soffice", f"-env:UserInstallation={profile}", "--headless", "--convert-to", kind, "--outdir",
         str(source.parent / "made"), str(source)],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return (source.parent / "made" / source.with_suffix(suffix).name).read_bytes()


def saved_as_text(source: Path, delimiter: int, encoding: int) -> bytes:
    """Return the table as text, with quotes only if needed, and the results of formulas."""
    return saved(source, f"csv:Text - txt - csv (StarCalc):{delimiter},34,{encoding},1,,0,false,true,false", ".csv")


def with_ends_of_windows(text: str) -> str:
    """Return a table with CR and LF between rows, and LF alone within cells."""
    parts = text.split('"')
    return '"'.join(part.replace("\n", "\r\n") if place % 2 == 0 else part for place, part in enumerate(parts))


def main() -> None:
    """Create all files of this folder."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "clients.fods"
        source.write_text(sheet(), encoding="utf-8")
        utf_8 = saved_as_text(source, SEMICOLON, UTF_8)
        made = {
            "utf8-semicolon.csv": utf_8,
            "utf8-comma.csv": saved_as_text(source, COMMA, UTF_8),
            "windows1252-semicolon.csv": saved_as_text(source, SEMICOLON, WINDOWS_1252),
            "windows1252-tab.txt": saved_as_text(source, TAB, WINDOWS_1252),
            "utf16-tab.txt": saved_as_text(source, TAB, UTF_16),
            "excel-utf8.csv": with_ends_of_windows(utf_8.decode()).encode("utf-8-sig"),
            "excel-unicode.txt": with_ends_of_windows(saved_as_text(source, TAB, UTF_8).decode()).encode("utf-16"),
            "clients.xlsx": saved(source, "xlsx", ".xlsx"),
            "clients.ods": saved(source, "ods", ".ods"),
            "clients.xls": saved(source, "xls:MS Excel 97", ".xls"),
        }
    for name, content in made.items():
        (HERE / name).write_bytes(content)
        sys.stdout.write(f"{name}: {len(content)} bytes\n")


if __name__ == "__main__":
    main()
