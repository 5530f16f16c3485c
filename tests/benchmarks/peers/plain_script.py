"""Re-issue all passwords as a good engineer's script of one afternoon does.

python plain_script.py DATABASE PORT COST TEMPLATES

A thread for each core hashes; the main one mails over one connection and stores what was sent, with a commit for every
hundred clients. It does not retry, and after a crash it is unknown who has received which password.
"""

import os
import secrets
import smtplib
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from functools import partial
from pathlib import Path
from string import Template, ascii_letters, digits
from typing import NamedTuple

import bcrypt

ALPHABET = ascii_letters + digits + "#%+=?*-!"
BATCH = 100


class Client(NamedTuple):
    """A row of the table."""

    id: int
    identifier: str
    email: str
    civility: str
    last_name: str


def hashed(client: Client, cost: int) -> tuple[Client, str, str]:
    """Return the client with a new password and its hash."""
    password = "".join(secrets.choice(ALPHABET) for _ in range(9))
    return client, password, bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()


def letter(client: Client, password: str, text: Template, html: Template) -> EmailMessage:
    """Return the mail to a client."""
    moment = datetime.now(UTC)
    values = {
        "app_name": "eGEC",
        "app_url": "www.egec.pro",
        "greeting": f"Bonjour {client.civility} {client.last_name},",
        "identifier": client.identifier,
        "password": password,
        "issued_at": f"{moment:%d/%m/%Y à %H:%M:%S} (UTC)",
        "expiry": "",
        # The run of egec has none either.
        "sentence": "",
        "support": "Service IT",
    }
    subject, _, body = text.substitute(values).partition("\n\n")
    message = EmailMessage()
    message["From"] = "eGEC <ne-pas-repondre@egec.pro>"
    message["To"] = client.email
    message["Subject"] = subject.removeprefix("Subject: ")
    message["Date"] = format_datetime(moment)
    message["Message-ID"] = make_msgid(domain="egec.pro")
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(body)
    message.add_alternative(html.substitute(values), subtype="html")
    return message


def main() -> None:
    """Hash, mail and store."""
    database, port, cost, templates = sys.argv[1:]
    text, html = (
        Template(Path(templates, f"credentials.fr.{kind}").read_text(encoding="utf-8")) for kind in ("txt", "html")
    )
    with (
        closing(sqlite3.connect(database)) as store,
        smtplib.SMTP("127.0.0.1", int(port), "localhost") as smtp,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        rows = store.execute("SELECT id, identifier, email, civility, last_name FROM client ORDER BY id").fetchall()
        clients = [Client(*row) for row in rows]
        for done, (client, password, hash_) in enumerate(pool.map(partial(hashed, cost=int(cost)), clients), 1):
            smtp.send_message(letter(client, password, text, html))
            store.execute(
                "UPDATE client SET password_hash = ?, issued_at = ? WHERE id = ?",
                (hash_, datetime.now(UTC).isoformat(), client.id),
            )
            if done % BATCH == 0:
                store.commit()
        store.commit()


if __name__ == "__main__":
    main()
