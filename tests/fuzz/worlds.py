"""The databases that cases find: one with clients, passwords, logins and a run, and ones that are broken somehow."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from random import Random

from tests.fuzz.values import EMAILS, IDENTIFIERS

CHECKOUT = Path(__file__).parent.parent.parent


def usual(folder: Path) -> bytes:
    """Return a database file with clients, three of them with a password, and a run."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("EGEC_")},
        "HOME": str(folder), "PYTHONPATH": str(CHECKOUT), "EGEC_DATABASE_URL": "sqlite:///usual.db",
        "EGEC_MAIL_URL": "maildir:usual", "EGEC_BCRYPT_COST": "4",
    }  # fmt: skip

    def egec(*arguments: str) -> None:
        command = [sys.executable, "-P", "-m", "egec_cli", *arguments]
        subprocess.run(command, env=environment, cwd=folder, capture_output=True, check=True, timeout=60)

    egec("init")
    for number, (email, identifier) in enumerate(zip(EMAILS, IDENTIFIERS, strict=True), 1):
        egec(
            "client",
            "create",
            email,
            "--last-name",
            f"Nom {number}",
            "--reference",
            f"D-{number}",
            "--identifier",
            identifier,
        )
    egec("reissue", "start", "spring", "--all", "--limit", "3", "--yes")
    with closing(sqlite3.connect(folder / "usual.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return (folder / "usual.db").read_bytes()


def lay_down(path: Path, kind: str, content: bytes, random: Random) -> None:
    """Write the database of a case.

    Args:
        path: the file.
        kind: one of `cases.DATABASES`.
        content: that of the usual one.
        random: decides what is broken.
    """
    if kind == "none":
        return
    if kind == "noise":
        content = random.randbytes(5_000)
    elif kind == "cut off":
        content = content[: random.randrange(len(content))]
    elif kind == "damaged":
        changed = bytearray(content)
        for _ in range(random.randrange(1, 200)):
            changed[random.randrange(len(changed))] = random.randrange(256)
        content = bytes(changed)
    path.write_bytes(b"" if kind == "empty" else content)
    if kind == "no table":
        with closing(sqlite3.connect(path)) as connection:
            tables = [
                name
                for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
            ]
            table = random.choice([name for name in tables if not name.startswith("sqlite_")])
            connection.execute(f'DROP TABLE "{table}"')
            connection.commit()
    path.chmod(0o400 if kind == "read-only" else 0o600)
