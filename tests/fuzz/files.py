"""The files that a case finds in its folder: tables, lists, mails, settings, damaged databases, pipes and devices."""

import json
import os
import stat
from pathlib import Path
from random import Random

from tests.fuzz.values import CLIENTS, EMAILS, IDENTIFIERS, NASTY, nasty

HEADINGS = (
    "email", "courriel", "nom", "prénom", "civilité", "référence", "identifier", "identifiant", "language",
    "last_name", "first_name",
    "valid_from", "valid_until", "password_hash", "status", "x", "", "EMAIL", "e-mail",
)  # fmt: skip
SEPARATORS = (";", ",", "\t", "|", "")
ENCODINGS = ("utf-8", "utf-8-sig", "cp1252", "utf-16", "latin-1", "utf-16-le", "utf-32")
BOUNCE = """From: MAILER-DAEMON@example.org
To: ne-pas-repondre+1.0f1e2d3c4b5a69788796a5b4@egec.pro
Subject: Undelivered
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; example.org

Final-Recipient: rfc822; jeanne@example.org
Action: failed
Status: 5.1.1
--b--
"""


def _in_bytes(random: Random, text: str) -> bytes:
    encoding = "utf-8" if random.random() < 0.6 else random.choice(ENCODINGS)
    return text.encode(encoding, errors="surrogateescape" if encoding.startswith("utf-8") else "replace")


def damaged(random: Random, content: bytes) -> bytes:
    """Return the content, sometimes truncated, changed or with insertions."""
    kind = random.random()
    if kind < 0.6 or not content:
        return content
    place = random.randrange(len(content))
    if kind < 0.7:
        return content[:place]
    put_in = random.choice([b"\0", b"\xff", b'"', b"\r", b"\x1a", b"\n\n\n", b"x" * 200_000, b"\xc3", b"'"])
    if kind < 0.9:
        return content[:place] + put_in + content[place:]
    changed = bytearray(content)
    for _ in range(random.randrange(1, 30)):
        changed[random.randrange(len(changed))] = random.randrange(256)
    return bytes(changed)


def _cell(random: Random) -> str:
    if random.random() < 0.6:
        return random.choice(
            [*EMAILS, *IDENTIFIERS, "Dupont", "Jeanne", "Mme", "D-1", "fr", f"c{random.randrange(50)}@example.org"]
        )
    return nasty(random)[:3_000].encode(errors="surrogateescape").decode(errors="surrogateescape")


def table(random: Random) -> bytes:
    """Return a table of clients."""
    separator = random.choice(SEPARATORS)
    columns = random.sample(HEADINGS, random.randrange(1, 6))
    if random.random() < 0.8 and "email" not in columns:
        columns.insert(0, "email")
    rows = [columns, *([_cell(random) for _ in columns[random.random() < 0.1 :]] for _ in range(random.randrange(8)))]
    return damaged(random, _in_bytes(random, "".join(separator.join(row) + "\n" for row in rows)))


def objects(random: Random) -> bytes:
    """Return objects of JSON, one a line."""
    lines = []
    for _ in range(random.randrange(1, 6)):
        one: object = {
            key: random.choice([_cell(random), None, 1, 1e400, True, [], {}]) for key in random.sample(HEADINGS, 3)
        }
        lines.append(
            json.dumps(one, ensure_ascii=random.random() < 0.5) if random.random() < 0.9 else nasty(random)[:1_000]
        )
    return damaged(random, _in_bytes(random, "\n".join(lines)))


def logins(random: Random) -> bytes:
    """Return identifiers with passwords."""
    separator = random.choice([",", ";", "\t", "\n", "\0", " "])
    lines = [
        f"{random.choice([*IDENTIFIERS, nasty(random)[:500]])}{separator}{_cell(random)[:500]}"
        for _ in range(random.randrange(4))
    ]
    return damaged(random, _in_bytes(random, "\n".join(lines)))


def names(random: Random) -> bytes:
    """Return a list of clients."""
    return damaged(
        random, _in_bytes(random, "\n".join(random.choice([*CLIENTS, nasty(random)[:500]]) for _ in range(5)))
    )


def settings_file(random: Random, settings: dict[str, str]) -> bytes:
    """Return a file with these settings, and with what else people type into one."""
    lines = [
        f"{name}={random.choice(['{}', repr('{}'), chr(34) + '{}' + chr(34)]).replace('{}', value)}"
        for name, value in settings.items()
    ]
    for _ in range(random.randrange(3)):
        lines.append(
            random.choice(
                [
                    "# é",
                    "export EGEC_LOG=json",
                    "EGEC_LOG",
                    "=x",
                    "EGEC_MAIL_RAT=1",
                    "X='",
                    "A B=C",
                    nasty(random)[:2_000],
                ]
            )
        )
    return damaged(random, "\n".join(lines).encode(errors="surrogateescape"))


def lay_out(folder: Path, random: Random, database: bytes) -> None:
    """Write all that a command line may name."""
    (folder / "clients.csv").write_bytes(table(random))
    (folder / "clients.jsonl").write_bytes(objects(random))
    (folder / "logins.csv").write_bytes(logins(random))
    (folder / "list.txt").write_bytes(names(random))
    (folder / "mail.eml").write_bytes(damaged(random, BOUNCE.encode()))
    (folder / "copy.db").write_bytes(damaged(random, database))
    (folder / "empty").touch()
    (folder / "noise").write_bytes(random.randbytes(random.choice([1, 100, 5_000])))
    for name in ("folder", "maildir/new", "maildir/cur", "maildir/tmp"):
        (folder / name).mkdir(parents=True)
    (folder / "maildir/new/1").write_bytes(damaged(random, BOUNCE.encode()))
    (folder / "program").write_text(
        "#!/bin/sh\ncat > /dev/null\n" + random.choice(["", "exit 75\n", "exit 1\n", "kill -9 $$\n"])
    )
    (folder / "program").chmod(0o700)
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    if random.random() < 0.1:
        (folder / "huge.csv").write_bytes(b"email;nom\n" + b"".join(b"h%d@example.org;x\n" % n for n in range(2_000)))
    for name, minor in (("null", 3), ("full", 7)):
        # Devices of the case's own: what a command does to them stays in its folder.
        if os.geteuid() == 0:
            os.mknod(folder / name, stat.S_IFCHR | 0o666, os.makedev(1, minor))


def templates(folder: Path, random: Random) -> None:
    """Write a folder of templates, some of them unusable."""
    folder.mkdir()
    for name in (
        "sent.fr.txt",
        "credentials.fr.txt",
        "credentials.fr.html",
        "reissue.fr.txt",
        "refused.fr.txt",
        "greeting.en.txt",
    ):
        kind = random.random()
        if kind < 0.1:
            os.mkfifo(folder / name)
        elif kind < 0.2:
            (folder / name).mkdir()
        elif kind < 0.7:
            text = random.choice(
                [
                    "Subject: $app_name\n\n$greeting $identifier $password\n",
                    "$nom",
                    "$",
                    "",
                    "Bonjour",
                    random.choice(NASTY),
                ]
            )
            (folder / name).write_bytes(damaged(random, text.encode(errors="surrogateescape")))
