"""The commands whose screens are kept, on a small database that is the same each time."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.screens import runs
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
    "reissue-status": ("reissue", "status"),
    "reissue-status-done": ("reissue", "status", "weekly-2026-48"),
    "reissue-status-paused": ("reissue", "status", "weekly-2026-49"),
    "reissue-status-failed": ("reissue", "status", "weekly-2026-48", "--failed"),
    # With a rate, as the machine would set the duration otherwise.
    "reissue-dry-run": ("reissue", "start", "spring-2026", "--all", "--rate", "5", "--dry-run"),
    "reissue-dry-run-list": ("reissue", "retry", "weekly-2026-48", "--rate", "1", "--dry-run", "--list"),
    "reissue-question": ("reissue", "start", "spring-2026", "--all", "--rate", "5"),
    "reissue-retry": ("reissue", "retry", "weekly-2026-48"),
}
# The screens that show a database with runs; each command gets a copy of it.
WITH_RUNS = {name for name in COMMANDS if name.startswith("reissue-") and not name.endswith(("-empty", "-help"))}
# What is typed at the question of a command.
TYPED = {"reissue-question": "n\n"}


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
        variables = variables | {"LANG": LANGUAGES[self.language], "LC_ALL": ""}
        command = [*PROGRAM, *COMMANDS[self.name]]
        if self.name not in WITH_RUNS:
            return see(command, columns=columns, lines=lines, variables=variables)
        with runs.copied(Path(variables["HOME"])) as with_runs:
            return see(
                command,
                columns=columns,
                lines=lines,
                variables=variables | with_runs,
                typed=TYPED.get(self.name, ""),
                prompt="/N]:" if self.name in TYPED else "",
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
    subprocess.run(
        [*PROGRAM, "client", "import", str(table)], env={**_environment(), **variables}, check=True, capture_output=True
    )
    runs.prepare(folder, variables)
    return variables


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("EGEC_")}
