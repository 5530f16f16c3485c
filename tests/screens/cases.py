"""The commands whose screens are kept, on a small database that is the same each time."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
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
    "stats": ("stats",),
    "stats-help": ("stats", "--help"),
    "help": ("--help",),
    "client-help": ("client", "--help"),
    "client-list-help": ("client", "list", "--help"),
    "reissue-start-help": ("reissue", "start", "--help"),
}


# Screens of a database with more in it.
BUSY_DATABASE = {"stats"}


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
        if self.name in BUSY_DATABASE:
            variables = variables | {"EGEC_DATABASE_URL": f"sqlite:///{variables['HOME']}/busy.db"}
        return see([*PROGRAM, *COMMANDS[self.name]], columns=columns, lines=lines, variables=variables | language)


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
    shutil.copy(folder / "egec.db", folder / "busy.db")
    _fill_busy_database(folder / "busy.db")
    return variables


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("EGEC_")}


def _fill_busy_database(file: Path) -> None:
    """Add logins, mails, bounces and runs to a database of forty clients."""
    now = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-1 hour')"
    events = [
        *[("login", "accepted", "accepted")] * 1234,
        *[("login", "refused", "wrong_password")] * 210,
        *[("login", "refused", "unknown_identifier")] * 31,
        *[("login", "refused", "blocked")] * 2,
        *[("credential.issue", "accepted", "")] * 39,
        *[("credential.issue", "refused", "")] * 3,
        *[("mail.bounce", "marked", "")] * 14,
    ]
    with closing(sqlite3.connect(file)) as connection:
        connection.executemany(
            "INSERT INTO event (at, actor, host, action, outcome, details) "
            f"VALUES ({now}, 'egec', 'host', ?, ?, json_object('reason', ?))",
            events,
        )
        connection.execute(f"UPDATE client SET email_bounced_at = {now} WHERE id <= 14")
        connection.execute("UPDATE client SET active_sequence = 1, last_sequence = 1 WHERE id <= 30")
        connection.execute(f"UPDATE client SET disabled_at = {now} WHERE id = 40")
        connection.executemany(
            "INSERT INTO reissue_run (id, name, selection, state, options, created_at) "
            f"VALUES (?, ?, '{{}}', ?, '{{}}', {now})",
            [
                (1, "spring-2026", "done"),
                (2, "weekly-2026-48", "paused"),
                (3, "a run with a very long name indeed " * 3, "paused"),
            ],
        )
        connection.execute(
            "INSERT INTO reissue_item (run_id, client_id, state, attempts, not_before) "
            f"SELECT 1 + id % 3, id, 'waiting', 0, {now} FROM client WHERE id % 3 > 0"
        )
        connection.commit()
