"""The commands whose screens are kept, on a small database that is the same each time."""

import os
import subprocess
from collections.abc import Iterator
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
    "client-import-rejected": ("client", "import", "office.csv", "--dry-run"),
    "client-import-update": ("client", "import", "moved.csv", "--dry-run", "--on-conflict", "update"),
    "reissue-status-empty": ("reissue", "status"),
    "help": ("--help",),
    "client-help": ("client", "--help"),
    "client-list-help": ("client", "list", "--help"),
    "reissue-start-help": ("reissue", "start", "--help"),
}


# A table of which most rows are rejected, for each kind of reason.
_FROM_AN_OFFICE = (
    "new@example.org;Mme;Petit;P-1",
    "client1@example1.org;Mme;Petit;D-1",
    "client2@example2.org;M.;Petit;D-2",
    "client3@example0.org;Mme;Dupont-Beaurepaire;D-4",
    "moved@example.org;Mme;Dupont-Beaurepaire;D-5",
    "twice@example.org;M.;Grand;P-1",
    *(f"wrong{number}@@example.org;M.;Grand;" for number in range(8)),
    *(f"right{number}@example.org;Sir;Grand;" for number in range(4)),
)


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
        return see(
            [*PROGRAM, *COMMANDS[self.name]],
            columns=columns,
            lines=lines,
            variables=variables | language,
            folder=Path(variables["HOME"]),
        )


def cases() -> Iterator[Case]:
    """Yield every case: both languages at 80x24, English at 140x50."""
    for name in COMMANDS:
        for language in LANGUAGES:
            yield Case(name, language, "80x24")
        yield Case(name, "en", "140x50")


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
    (folder / "office.csv").write_text("\n".join(["email;civility;last_name;reference", *_FROM_AN_OFFICE]))
    (folder / "moved.csv").write_text("email,reference\nmarie@example.org,D-1\npaul@example.org,D-2\n")
    subprocess.run(
        [*PROGRAM, "client", "import", str(table)], env={**_environment(), **variables}, check=True, capture_output=True
    )
    return variables


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("EGEC_")}
