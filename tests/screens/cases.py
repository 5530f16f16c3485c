"""The commands whose screens are kept, on a small database that is the same each time."""

import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
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
    "client-import-rejected": ("client", "import", "office.csv", "--dry-run"),
    "client-import-update": ("client", "import", "moved.csv", "--dry-run", "--on-conflict", "update"),
    "reissue-status-empty": ("reissue", "status"),
    "stats": ("stats",),
    "stats-help": ("stats", "--help"),
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
# Screens of a database with more in it.
BUSY_DATABASE = {"stats"}
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
        variables = variables | {"LANG": LANGUAGES[self.language], "LC_ALL": ""} | VARIABLES.get(self.name, {})
        if self.name in BUSY_DATABASE:
            variables["EGEC_DATABASE_URL"] = f"sqlite:///{variables['HOME']}/busy.db"
        more: AbstractContextManager[dict[str, str]] = (
            runs.copied(Path(variables["HOME"])) if self.name in WITH_RUNS else nullcontext({})
        )
        with more as added:
            return see(
                [*PROGRAM, *(one.replace("{folder}", variables["HOME"]) for one in COMMANDS[self.name])],
                columns=columns,
                lines=lines,
                variables=variables | added,
                folder=Path(variables["HOME"]),
                typed=TYPED.get(self.name, ""),
                prompt="/N]:" if self.name in TYPED else "",
            )


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
    (folder / "office.csv").write_text("\n".join(["email;civility;last_name;reference", *_FROM_AN_OFFICE]))
    (folder / "moved.csv").write_text("email,reference\nmarie@example.org,D-1\npaul@example.org,D-2\n")
    (folder / "names.txt").write_text("client1@example1.org\nnobody@example.org\n9999999999\n")
    subprocess.run(
        [*PROGRAM, "client", "import", str(table)], env={**_environment(), **variables}, check=True, capture_output=True
    )
    shutil.copy(folder / "egec.db", folder / "busy.db")
    _fill_busy_database(folder / "busy.db")
    runs.prepare(folder, variables)
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
