"""The commands whose screens are kept, on a small database that is the same each time."""

import os
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.screens.clients import add_states
from tests.screens.emulator import PROGRAM, Seen, see
from tests.smtp_server import MailServer

FOLDER = Path(__file__).parent / "kept"
SIZES = {"80x24": (80, 24), "140x50": (140, 50)}
LANGUAGES = {"en": "C.UTF-8", "fr": "fr_FR.UTF-8"}

# The name of each screen, and the arguments of its command.
COMMANDS: dict[str, tuple[str, ...]] = {
    "client-list": ("client", "list"),
    "client-list-empty": ("client", "list", "--search", "nobody"),
    "client-list-limited": ("client", "list", "--limit", "3"),
    "client-list-fields": ("client", "list", "--fields", "identifier,created_at,email,reference,last_name"),
    "reissue-status-empty": ("reissue", "status"),
    "client-show-waiting": ("client", "show", "1000000030"),
    "client-show-blocked": ("client", "show", "D-31"),
    "client-show-expired": ("client", "show", "ref:D-32"),
    "client-show-bounced": ("client", "show", "1000000033"),
    "client-show-disabled": ("client", "show", "1000000034"),
    "client-show-used": ("client", "show", "1000000035"),
    "client-show-in-doubt": ("client", "show", "1000000036"),
    "client-show-ambiguous": ("client", "show", "petit"),
    "activate": ("activate", "1000000035"),
    "activate-relay": ("activate", "1000000035", "--relay"),
    "activate-part": ("activate", "lepetit"),
    "client-update": ("client", "update", "D-31", "--email", "new@example.org", "--first-name", "", "--no-mail"),
    "client-create": ("client", "create", "anne@example.org", "--last-name", "Durand", "--identifier", "2000000000"),
    "client-create-activate": ("client", "create", "anne@example.org", "--activate", "--identifier", "2000000000"),
    "client-disable-part": ("client", "disable", "lepetit", "--reason", "left"),
    "client-erase": ("client", "erase", "lepetit"),
    "verify-explain-no-count": ("verify", "petit-durand", "--explain", "--no-count"),
    "verify-waiting": ("verify", "client30@example0.org", "--explain", "--no-count"),
    "help": ("--help",),
    "client-help": ("client", "--help"),
    "client-list-help": ("client", "list", "--help"),
    "reissue-start-help": ("reissue", "start", "--help"),
}

# What is typed at the questions of a command.
TYPED = {
    "activate-part": "y\n",
    "client-disable-part": "y\n",
    "client-erase": "y\n",
    "verify-explain-no-count": "fG69a*6jH\n",
    "verify-waiting": "fG69a*6jH\n",
}
# The commands that change the database; each case has a copy of its own. They mail to a server.
CHANGING = {
    "activate", "activate-relay", "activate-part", "client-update", "client-create", "client-create-activate",
    "client-disable-part", "client-erase", "verify-explain-no-count", "verify-waiting",
}  # fmt: skip


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
        command = [*PROGRAM, *COMMANDS[self.name]]
        with ExitStack() as opened:
            if self.name in CHANGING:
                variables = variables | opened.enter_context(self._copy(variables))
            return see(
                command,
                columns=columns,
                lines=lines,
                variables=variables | language,
                typed=TYPED.get(self.name, "").replace("y", "o" if self.language == "fr" else "y"),
            )

    @contextmanager
    def _copy(self, variables: dict[str, str]) -> Iterator[dict[str, str]]:
        """Copy the database and start a mail server; yield the variables with which a command finds them."""
        original = variables["EGEC_DATABASE_URL"].removeprefix("sqlite:///")
        with tempfile.TemporaryDirectory() as folder, MailServer() as server:
            with closing(sqlite3.connect(original)) as source, closing(sqlite3.connect(f"{folder}/egec.db")) as copy:
                source.backup(copy)
            yield {"EGEC_DATABASE_URL": f"sqlite:///{folder}/egec.db", "EGEC_MAIL_URL": server.url}


def cases() -> Iterator[Case]:
    """Yield every case: both languages at 80x24; English at 140x50, unless a command shows little."""
    for name in COMMANDS:
        for language in LANGUAGES:
            yield Case(name, language, "80x24")
        if name not in CHANGING:
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
    subprocess.run(
        [*PROGRAM, "client", "import", str(table)], env={**_environment(), **variables}, check=True, capture_output=True
    )
    add_states(folder / "egec.db")
    return variables


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("EGEC_")}
