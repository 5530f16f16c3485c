"""The people of a week, and the import files that contain them."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from random import Random
from typing import NamedTuple

import bcrypt

from egec_cli.password import Alphabet, generate_password

_FIRST_NAMES = ("Zoé", "Éloïse", "Jean-François", "Anaïs", "Maël", "Chloé", "Noël", "Agnès", "Benoît", "Inès")
_LAST_NAMES = ("Lefèvre", "d'Alembert", "Müller", "Dupont", "Garçon", "de la Tour", "Œuvrard", "Nuñez", "Le Goff")
_COST = 4


class Person(NamedTuple):
    """One client, known to other programs by the reference."""

    reference: str
    email: str
    civility: str
    first_name: str
    last_name: str
    language: str


def crowd(number: int, chance: Random) -> list[Person]:
    """Generate people: all civilities, both languages, a few with non-ASCII addresses."""
    return [_person(one, chance) for one in range(number)]


def _person(number: int, chance: Random) -> Person:
    first_name = chance.choice(_FIRST_NAMES)
    local_part = f"client{number}" if chance.randrange(20) else f"{first_name.lower()}.{number}"
    domain = "example.org" if chance.randrange(20) else "Société.Example"
    return Person(
        f"W-{number:06}",
        f"{local_part}@{domain}",
        chance.choice(("M.", "Mme", "")),
        first_name,
        chance.choice(_LAST_NAMES),
        chance.choice(("fr", "fr", "fr", "en")),
    )


def password(chance: Random) -> str:
    """Return a password like those of the program, the same for each seed."""
    return generate_password(Alphabet.create(), chance.choice).reveal()


def hashed(clear: str) -> str:
    """Return the hash of a password as another program has stored it."""
    return bcrypt.hashpw(clear.encode(), bcrypt.gensalt(_COST)).decode()


def spreadsheet(people: Iterable[Person]) -> bytes:
    """Return people as a French spreadsheet writes them."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";")
    writer.writerow(["N° de dossier", "Courriel", "Civilité", "Prénom", "Nom", "Langue"])
    writer.writerows(people)
    return text.getvalue().encode("windows-1252")


def export(people: Iterable[Person], passwords: Mapping[str, str]) -> bytes:
    """Return people as another program exports them, with their password hashes by reference."""
    hashes = {reference: hashed(clear).replace("$2b$", "$2y$") for reference, clear in passwords.items()}
    rows = [one._asdict() | {"password_hash": hashes.get(one.reference, "")} for one in people]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
