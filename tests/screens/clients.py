"""Clients in every state for the screens of single clients, written into the database of the screens."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from egec_cli import hashing
from egec_cli.clock import to_rfc3339
from egec_cli.password import Password

OPERATOR, PORTAL = "egec (marie)", "www-data"
# The last password of each client below.
PASSWORD = "fG69a*6jH"
FOR_GOOD = "9999-01-01T00:00:00.000Z"


class _Writer:
    """Writes events and mails of one client, an hour apart, the first one some days ago."""

    def __init__(self, connection: sqlite3.Connection, number: int) -> None:
        self._connection = connection
        self._number = number
        [(self.key,)] = connection.execute("SELECT id FROM client WHERE identifier = ?", (str(10**9 + number),))
        self._moment = datetime.now(UTC) - timedelta(days=9)
        self.change(created_at=to_rfc3339(self._moment))

    def event(self, action: str, outcome: str, actor: str = OPERATOR, **details: object) -> None:
        self._moment += timedelta(hours=1)
        values = (to_rfc3339(self._moment), actor, "host", action, self.key, outcome, json.dumps(details))
        self._connection.execute(
            "INSERT INTO event (at, actor, host, action, client_id, outcome, details) VALUES (?, ?, ?, ?, ?, ?, ?)",
            values,
        )

    def mail(self, sequence: int, state: str, **columns: object) -> None:
        issued = to_rfc3339(self._moment)
        values: dict[str, object] = {
            "client_id": self.key,
            "sequence": sequence,
            "state": state,
            "password_hash": None if state in {"refused", "revoked"} else hashing.hash_password(Password(PASSWORD), 4),
            "message_id": f"<{self._number}.{sequence}@egec.pro>",
            "server_reply": f"250 2.0.0 Ok: queued as 4F1A2B9C{sequence}",
            "created_at": issued,
            "settled_at": issued,
            "expires_at": to_rfc3339(self._moment + timedelta(days=30)),
            "issued_by": OPERATOR,
        } | columns
        names = ", ".join(values)
        marks = ", ".join("?" * len(values))
        self._connection.execute(f"INSERT INTO credential ({names}) VALUES ({marks})", tuple(values.values()))
        self.event("credential.issue", state, sequence=sequence)
        active = sequence if state == "accepted" else 0
        self._connection.execute(
            "UPDATE client SET last_sequence = ?, active_sequence = max(active_sequence, ?) WHERE id = ?",
            (sequence, active, self.key),
        )

    def change(self, **columns: object) -> None:
        for name, value in columns.items():
            self._connection.execute(f"UPDATE client SET {name} = ? WHERE id = ?", (value, self.key))


def add_states(file: Path) -> None:
    """Give the clients 30 to 38 of the screens a history each."""
    now = datetime.now(UTC)
    with closing(sqlite3.connect(file)) as connection, connection:
        waiting = _Writer(connection, 30)
        waiting.event("client.create", "created")
        waiting.mail(1, "superseded")
        for _ in range(3):
            waiting.event("login", "accepted", PORTAL, reason="accepted")
        waiting.event("client.update", "updated", fields=["email", "last_name"])
        waiting.event("client.notice", "accepted")
        waiting.mail(2, "refused", failure="mail_refused", server_reply="550 5.1.1 User unknown")
        waiting.mail(3, "accepted", first_used_at=to_rfc3339(now))
        waiting.event("login", "accepted", PORTAL, reason="accepted", arrived=3)
        for _ in range(5):
            waiting.event("login", "refused", PORTAL, reason="wrong_password")
        for _ in range(12):
            waiting.event("login", "refused", PORTAL, reason="waiting")
        waiting.event("login", "refused", reason="wrong_password")
        waiting.event("login.explain", "capitals_swapped")
        waiting.event("login.explain", "capitals_swapped", counted=False)
        waiting.change(
            failed_logins=5, blocked_until=to_rfc3339(now + timedelta(minutes=59)), last_login_at=to_rfc3339(now)
        )

        blocked = _Writer(connection, 31)
        blocked.mail(1, "accepted")
        for _ in range(10):
            blocked.event("login", "refused", PORTAL, reason="wrong_password")
        blocked.change(failed_logins=10, blocked_until=FOR_GOOD)

        expired = _Writer(connection, 32)
        expired.mail(1, "accepted", created_at=to_rfc3339(now - timedelta(days=31)),
                     expires_at=to_rfc3339(now - timedelta(days=1)))  # fmt: skip

        bounced = _Writer(connection, 33)
        bounced.mail(1, "accepted", bounced_at=to_rfc3339(now), bounce=(
            "550 5.7.1 Message rejected due to content restrictions; see https://mail.example.org/policy for the rules"
        ))  # fmt: skip
        bounced.event("mail.bounce", "marked", sequence=1, status="5.7.1")
        bounced.change(email_bounced_at=to_rfc3339(now))

        disabled = _Writer(connection, 34)
        disabled.mail(1, "accepted", message_id=None, server_reply="shown to the operator")
        disabled.event("client.disable", "disabled", reason="password leaked, ticket 4711")
        disabled.change(disabled_at=to_rfc3339(now))

        used = _Writer(connection, 35)
        used.event("client.create", "created")
        # More than a screen.
        for number in range(1, 30):
            used.mail(number, "superseded")
            used.event("login", "accepted", PORTAL, reason="accepted")
        used.mail(30, "accepted", first_used_at=to_rfc3339(now))
        used.change(last_login_at=to_rfc3339(now))

        in_doubt = _Writer(connection, 36)
        in_doubt.mail(1, "in_doubt", failure="in_doubt", server_reply=None)

        for number, name in ((36, "Petit"), (37, "Petit-Durand"), (38, "Lepetit")):
            _Writer(connection, number).change(last_name=name)
