"""The commands whose screens are kept, on a small database that is the same each time."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.screens.emulator import PROGRAM, Seen, see

FOLDER = Path(__file__).parent / "kept"
SIZES = {"80x24": (80, 24), "140x50": (140, 50)}
LANGUAGES = {"en": "C.UTF-8", "fr": "fr_FR.UTF-8"}

# The name of each screen, and the arguments of its command.
COMMANDS: dict[str, tuple[str, ...]] = {
    "client-list": ("client", "list"),
    "client-list-empty": ("client", "list", "--status", "disabled"),
    "client-list-limited": ("client", "list", "--limit", "3"),
    "client-list-fields": ("client", "list", "--fields", "identifier,created_at,email,reference,last_name"),
    "reissue-status-empty": ("reissue", "status"),
    "help": ("--help",),
    "client-help": ("client", "--help"),
    "client-list-help": ("client", "list", "--help"),
    "reissue-start-help": ("reissue", "start", "--help"),
    "doctor-good": ("doctor",),
    "doctor-warning": ("doctor",),
    "doctor-errors": ("doctor",),
    "doctor-help": ("doctor", "--help"),
    "mail-check-good": ("mail", "check"),
    "mail-check-verbose": ("mail", "check", "--verbose"),
    "mail-check-warning": ("mail", "check"),
    "error-client": ("client", "show", "nobody@example.org"),
    "error-database": ("client", "list"),
    "error-lines": ("client", "list", "--from", "{folder}/names.txt"),
    "error-settings": ("client", "list"),
    "error-usage": ("client", "list", "--form", "json"),
}
_GOOD = {"EGEC_BCRYPT_COST": "12", "EGEC_MAIL_URL": "sendmail:/bin/true"}
_FAULTY = {"EGEC_MAIL_TIMEOUT": "soon", "EGEC_LANGUAGE": "de"}
# What the environment of a screen has beside that of `prepare`.
VARIABLES: dict[str, dict[str, str]] = {
    "doctor-good": _GOOD,
    "doctor-warning": {"EGEC_BCRYPT_COST": "12"},
    "doctor-errors": _GOOD | _FAULTY | {"EGEC_MAIL_RTE": "3"},
    "mail-check-good": _GOOD,
    "mail-check-verbose": _GOOD,
    "error-database": {"EGEC_DATABASE_URL": "sqlite:////srv/egec/the-database-of-the-portal/egec.db"},
    "error-settings": _FAULTY,
}


class Case(NamedTuple):
    """A screen: a command, in a language, on a terminal of this size."""

    name: str
    language: str
    size: str

    def __str__(self) -> str:
        return f"{self.name}.{self.language}.{self.size}"

    @property
    def file(self) -> Path:
        """Where the screen is kept."""
        return FOLDER / f"{self}.txt"

    def see(self, variables: dict[str, str]) -> Seen:
        """Run the command and return what it shows."""
        columns, lines = SIZES[self.size]
        language = {"LANG": LANGUAGES[self.language], "LC_ALL": ""}
        arguments = [one.replace("{folder}", variables["HOME"]) for one in COMMANDS[self.name]]
        more = language | VARIABLES.get(self.name, {})
        return see([*PROGRAM, *arguments], columns=columns, lines=lines, variables=variables | more)


def cases() -> Iterator[Case]:
    """Yield every case: both languages at 80x24, English at 140x50."""
    for name in COMMANDS:
        for language in LANGUAGES:
            yield Case(name, language, "80x24")
        yield Case(name, "en", "140x50")


@contextmanager
def screens_folder() -> Iterator[Path]:
    """Create a folder for the block. Screens show its name, which has the same width each time."""
    with tempfile.TemporaryDirectory(prefix="egec-", dir="/tmp") as folder:
        yield Path(folder)


def prepare(folder: Path) -> dict[str, str]:
    """Fill a database in a folder, and return the variables with which commands find it."""
    variables = {
        "EGEC_DATABASE_URL": f"sqlite:///{folder}/egec.db",
        "EGEC_MAIL_URL": f"maildir:{folder}/mail",
        "EGEC_BCRYPT_COST": "4",
        "TZ": "Europe/Paris",
        "HOME": str(folder),
    }
    rows = [
        f"{10**9 + number},client{number}@example{number % 3}.org,Mme,Marie-Christine,Dupont-Beaurepaire,D-{number}"
        for number in range(40)
    ]
    table = folder / "clients.csv"
    table.write_text("\n".join(["identifier,email,civility,first_name,last_name,reference", *rows]))
    (folder / "names.txt").write_text("client1@example1.org\nnobody@example.org\n9999999999\n")
    subprocess.run(
        [*PROGRAM, "client", "import", str(table)], env={**_environment(), **variables}, check=True, capture_output=True
    )
    return variables


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("EGEC_")}
