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
from tests.screens.clients import add_states
from tests.screens.emulator import PROGRAM, Seen, see
from tests.smtp_server import MailServer

FOLDER = Path(__file__).parent / "kept"
_BAR = "━━"
SIZES = {"80x24": (80, 24), "140x50": (140, 50)}
LANGUAGES = {"en": "C.UTF-8", "fr": "fr_FR.UTF-8"}

# The name of each screen, and the arguments of its command.
COMMANDS: dict[str, tuple[str, ...]] = {
    "client-list": ("client", "list"),
    "client-list-empty": ("client", "list", "--search", "nobody"),
    "client-list-limited": ("client", "list", "--limit", "3"),
    "client-list-fields": ("client", "list", "--fields", "identifier,created_at,email,reference,last_name"),
    "client-import-rejected": ("client", "import", "office.csv", "--dry-run"),
    "client-import-update": ("client", "import", "moved.csv", "--dry-run", "--on-conflict", "update"),
    "reissue-status-empty": ("reissue", "status"),
    "init": ("init",),
    "db-status": ("db", "status"),
    "mail-preview": ("mail", "preview", "--text"),
    "audit-prune": ("audit", "prune", "--dry-run"),
    "audit-list": ("audit", "list", "--client", "1000000035", "--limit", "4"),
    "stats": ("stats",),
    "stats-help": ("stats", "--help"),
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
    "reissue-status-deferred": ("reissue", "status", "weekly-2026-50"),
    "reissue-status-blocked": ("reissue", "status", "weekly-2026-51"),
    "reissue-status-slowed": ("reissue", "status", "weekly-2026-52"),
    "reissue-status-failed": ("reissue", "status", "weekly-2026-48", "--failed"),
    # With a rate, as the machine would set the duration otherwise.
    "reissue-dry-run": ("reissue", "start", "spring-2026", "--all", "--rate", "5", "--dry-run"),
    "reissue-dry-run-list": ("reissue", "retry", "weekly-2026-48", "--rate", "1", "--dry-run", "--list"),
    "reissue-question": ("reissue", "start", "spring-2026", "--all", "--rate", "5"),
    "reissue-deferred": ("reissue", "start", "new-2026", "--all", "--limit", "12", "--wait", "0", "--yes"),
    "reissue-blocked": ("reissue", "start", "new-2026", "--all", "--limit", "12", "--wait", "0", "--yes"),
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

# What is typed at the questions of a command.
TYPED = {
    "reissue-question": "n\n",
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
        variables = variables | {"LANG": LANGUAGES[self.language], "LC_ALL": ""} | VARIABLES.get(self.name, {})
        if self.name in BUSY_DATABASE:
            variables["EGEC_DATABASE_URL"] = f"sqlite:///{variables['HOME']}/busy.db"
        more: AbstractContextManager[dict[str, str]] = nullcontext({})
        if self.name in WITH_RUNS:
            more = runs.copied(Path(variables["HOME"]), is_blocked=self.name == "reissue-blocked")
        elif self.name in CHANGING:
            more = self._copy(variables)
        with more as added:
            seen = see(
                [*PROGRAM, *(one.replace("{folder}", variables["HOME"]) for one in COMMANDS[self.name])],
                columns=columns,
                lines=lines,
                variables=variables | added,
                folder=Path(variables["HOME"]),
                typed=TYPED.get(self.name, "").replace("y", "o" if self.language == "fr" else "y"),
            )
        # Only a slow machine shows a bar, which stays on the screen when an error ends the command.
        return seen._replace(lines=[line for line in seen.lines if _BAR not in line])

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
    for command in (("init",), ("client", "import", str(table))):
        subprocess.run([*PROGRAM, *command], env={**_environment(), **variables}, check=True, capture_output=True)
    shutil.copy(folder / "egec.db", folder / "busy.db")
    _fill_busy_database(folder / "busy.db")
    runs.prepare(folder, variables)
    add_states(folder / "egec.db")
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
            "INSERT INTO reissue_run (id, name, selection, state, options, pauses, created_at) "
            f"VALUES (?, ?, '{{}}', ?, '{{}}', 0, {now})",
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
