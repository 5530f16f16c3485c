"""The columns of a table, the fields that they stand for, and the rows below them."""

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from egec_cli.errors import InvalidInput
from egec_cli.imports.formats import LONGEST_LINE
from egec_cli.translation import Words

BYTE_ORDER_MARK = "\ufeff"
BLANKS = f" \t\r\n\xa0{BYTE_ORDER_MARK}"
# Written by programs in place of a character that they could not read or write.
LOST = "\ufffd"
HAS_LOST = Words("it contains \ufffd, which marks a character that another program lost")
TOO_LONG = Words("the line is longer than {most:,} characters; only its beginning is kept", most=LONGEST_LINE)
_NAMES_OF_COLUMNS: Mapping[str, Sequence[str]] = {
    "email": ("email", "mail", "courriel", "mél", "adresse e-mail", "adresse mail", "adresse électronique",
              "e-mail address", "email address", "courrier électronique"),
    "identifier": ("identifier", "identifiant", "identifiant client", "client id", "id client", "login"),
    "reference": ("reference", "référence", "ref", "réf", "numéro de dossier", "n° de dossier", "dossier",
                  "numéro client", "n° client", "code client", "customer number", "file number"),
    "civility": ("civility", "civilité", "titre", "title", "civ", "m./mme"),
    "first_name": ("first name", "prénom", "given name", "firstname", "prénoms"),
    "last_name": ("last name", "nom", "nom de famille", "surname", "family name", "lastname", "raison sociale", "name",
                  "société", "company"),
    "language": ("language", "langue", "lang", "locale"),
    "password_hash": ("password hash", "hash", "empreinte"),
    "disabled_at": ("disabled at",),
    "created_at": ("created at",),
    "valid_from": ("valid from", "valable du", "valable à partir du", "valide du", "valide à partir du",
                   "début de validité"),
    "valid_until": ("valid until", "valid to", "valable jusqu'au", "valide jusqu'au", "fin de validité"),
}  # fmt: skip


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        line: the number of its first line; the first line of the file is 1.
        cells: the texts of the fields, in the order of `Table.fields`.
        raw: the original text, with its line end.
        fault: why it cannot be read; empty if it can.
        absent: the known fields for which it has no cell; an empty cell is not absent.
    """

    line: int
    cells: Sequence[str]
    raw: str
    fault: str = ""
    absent: Collection[str] = ()


def fold_header(name: str) -> str:
    """Return the name of a column for comparison: without case, accents, blanks and punctuation."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    return "".join(c for c in plain if c.isalnum())


# By folded column name. `reason` is the column of a file of rejected rows.
FIELD_OF_COLUMN = {fold_header(name): field for field, names in _NAMES_OF_COLUMNS.items() for name in names}
IGNORED_COLUMNS = {"reason", "status", "last_sequence", "last_login_at"}


def require_mapped(name: str, names: Sequence[str], mapped: Collection[str]) -> None:
    """Require that each column which the operator has mapped to a field is one of the columns (`names`)."""
    folded = {fold_header(column) for column in names}
    missing = next((column for column in mapped if fold_header(column) not in folded), None)
    if missing is not None:
        raise InvalidInput(
            "{name} has no column {column!r}; its columns are: {columns}",
            "Correct --map, or the first line of the file.",
            name=name,
            column=missing,
            columns=", ".join(names)[:300],
        )


def name_example(fields: Mapping[str, str]) -> str:
    """Return a header as an example."""
    return ";".join(list(dict.fromkeys(fields.values()))[:4])


def require_columns(
    name: str, names: Sequence[str], found: Sequence[tuple[str, str]], known: Mapping[str, str]
) -> None:
    """Raise unless some columns stand for fields (`found`: column and field), and no two for the same field."""
    for _, field in found:
        same = [repr(column) for column, other in found if other == field]
        if len(same) > 1:
            raise InvalidInput(
                "{name} has {number} columns for {field}: {columns}",
                "Keep one of them, and remove or rename the others.",
                name=name,
                number=len(same),
                field=field,
                columns=" and ".join(same),
            )
    if not found and any("@" in column for column in names):
        raise InvalidInput(
            "the first line of {name} is not a header: it contains an e-mail",
            "Add a first line with the names of the columns, such as {example}.",
            name=name,
            example=name_example(known),
        )
    if not found:
        raise InvalidInput(
            "{name} has no known column; its columns are: {columns}",
            "Name the columns as in {example}, or map them: --map 'COLUMN=email'.",
            name=name,
            columns=", ".join(names)[:300],
            example=name_example(known),
        )
