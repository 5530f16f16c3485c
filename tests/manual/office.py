"""The surroundings of the README's examples: an office with a few clients, files and a mail server."""

import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from egec_cli import context, hashing
from egec_cli.clients import fields, records
from egec_cli.credentials import issue
from egec_cli.settings import env_file, load
from tests.manual.blocks import CHECKOUT

# Who is there, as the examples name them; all but the last have a password.
CLIENTS = (
    ("jeanne@example.org", "Mme", "Jeanne", "Dupont", "D-1", "7130279332"),
    ("marc@example.org", "M.", "Marc", "PETIT", "D-2047", "5079512743"),
    ("paul@example.org", "M.", "Paul", "Martin", "D-3", "2938475610"),
    ("elodie@example.org", "Mme", "Élodie", "Élouard", "D-4", "8347561029"),
)
MARC = "5079512743"
PAUL = "2938475610"
PAULS_EMAIL = "paul@example.org"
COLUMNS = "courriel;civilité;prénom;nom;n° de dossier\n"


class Office(NamedTuple):
    """A folder in which the examples are typed, and the variables that they use.

    Attributes:
        folder: the user's home, in which everything is.
        variables: what the environment has beside that of the tests.
        answers: what is typed, by the end of the question that it answers.
        passwords: what is typed as the password of a client, by the identifier.
    """

    folder: Path
    variables: dict[str, str]
    answers: dict[str, str]
    passwords: dict[str, str]


def program(path: Path, lines: str) -> None:
    """Write a program for the shell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)


def bare(folder: Path) -> Office:
    """Make a folder like a checkout, with `egec` on the path and nothing else."""
    shutil.copy(CHECKOUT / ".env.example", folder)
    shutil.copytree(CHECKOUT / "templates", folder / "templates")
    program(folder / "bin/egec", f'exec {sys.executable} -m egec_cli "$@"')
    return Office(folder, {"PATH": f"{folder}/bin:{os.environ['PATH']}"}, {"[y/N]:": "y"}, {})


def furnished(folder: Path, mail_url: str) -> Office:
    """Make an office with clients, and with a mail server in the user's own file of settings.

    Args:
        folder: the user's home, in which everything is.
        mail_url: the mail server.
    """
    office = bare(folder)
    own_settings = env_file.user_env_file()
    own_settings.parent.mkdir(parents=True)
    own_settings.touch(mode=0o600)
    own_settings.write_text(f"EGEC_MAIL_URL={mail_url}\n")
    passwords = _clients_with_passwords()
    office.variables.update(
        IDENTIFIER=MARC, PASSWORD=passwords[MARC], EMAIL="new@example.org", NAME="Nouveau", FILE_NUMBER="D-5000"
    )
    # Paul has Caps Lock on; Élodie, who has no password, types something.
    office.passwords.update(passwords)
    office.passwords[PAUL] = passwords[PAUL].swapcase()
    office.answers["Password:"] = passwords[MARC]
    for name, text in _files(passwords).items():
        (folder / name).write_text(text, encoding="utf-8")
    program(folder / "bin/other-system", """printf '%s\\n' '{"email": "marc@example.org", "last_name": "Petit"}'""")
    return office


def _clients_with_passwords() -> dict[str, str]:
    """Create the clients; return their passwords, if any, by identifier."""
    passwords = {}
    found = load.load_settings()
    context.create_database(found)
    with context.open_context(found) as opened:
        for email, civility, first_name, last_name, reference, identifier in CLIENTS:
            given = fields.parse_fields(
                email,
                civility=civility,
                first_name=first_name,
                last_name=last_name,
                reference=reference,
                given_identifier=identifier,
            )
            client = records.create_client(opened, given)
            if email != CLIENTS[-1][0]:
                made = hashing.start_hash(opened.settings)
                issue.issue_to_operator(opened, client, lambda _: None, hashing=made)
                passwords[identifier] = made.password.reveal()
    return passwords


def _files(passwords: dict[str, str]) -> dict[str, str]:
    newcomer = "nadia@example.org;Mme;Nadia;Nouvelle;D-5\n"
    known = "".join(
        f"{email};{civility};{first};{last};{reference}\n"
        for email, civility, first, last, reference, _ in CLIENTS
    )  # fmt: skip
    return {
        "clients.csv": COLUMNS + known + newcomer,
        "letter.csv": COLUMNS + known,
        "left.csv": "courriel\npaul@example.org\n",
        "logins.csv": "".join(f"{identifier};{password}\n" for identifier, password in passwords.items()),
        "password.txt": passwords[MARC],
    }
