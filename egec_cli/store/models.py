"""The tables, as peewee models. `migrations/` makes them; the two are held against each other by a test."""

from datetime import datetime
from enum import StrEnum
from typing import Any

import peewee

from egec_cli import clock

database = peewee.DatabaseProxy()


class CredentialState(StrEnum):
    """What became of the mail of a credential."""

    SENDING = "sending"
    IN_DOUBT = "in_doubt"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    SUPERSEDED = "superseded"
    REVOKED = "revoked"


OPEN_STATES = (CredentialState.SENDING, CredentialState.IN_DOUBT)


class RunState(StrEnum):
    """How a re-issue run stands."""

    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    DONE = "done"


class ItemState(StrEnum):
    """How a client of a re-issue run stands; `sent` has been accepted by the server, and is to be settled yet."""

    WAITING = "waiting"
    WORKING = "working"
    SENT = "sent"
    ACCEPTED = "accepted"
    FAILED = "failed"


class TimeField(peewee.Field):
    """An aware moment in UTC: `TIMESTAMPTZ` on PostgreSQL, RFC 3339 text on SQLite."""

    field_type = "TIMESTAMPTZ"

    def db_value(self, value: datetime | None) -> str | None:
        """Return the moment as both databases take it."""
        return None if value is None else clock.to_rfc3339(value)

    def python_value(self, value: Any) -> datetime | None:
        """Return the moment of what a database gave."""
        return clock.parse_time(value) if isinstance(value, str) else value


class Table(peewee.Model):
    """What all tables share: the database, which is chosen when the program runs."""

    class Meta:
        database = database
        legacy_table_names = False


class Client(Table):
    """A client's file.

    `email_bounced_at` is when a mail to the present e-mail last came back, unless a login has shown that one arrived.
    """

    id = peewee.AutoField()
    identifier = peewee.CharField(max_length=10, unique=True)
    email = peewee.TextField(null=True)
    email_key = peewee.TextField(null=True, unique=True)
    reference = peewee.TextField(null=True, unique=True)
    civility = peewee.TextField(default="")
    first_name = peewee.TextField(default="")
    last_name = peewee.TextField(default="")
    language = peewee.TextField(default="")
    disabled_at = TimeField(null=True)
    created_at = TimeField()
    updated_at = TimeField()
    active_sequence = peewee.IntegerField(default=0)
    revoked_below = peewee.IntegerField(default=0)
    last_sequence = peewee.IntegerField(default=0)
    failed_logins = peewee.IntegerField(default=0)
    blocked_until = TimeField(null=True)
    last_login_at = TimeField(null=True)
    lease_owner = peewee.TextField(null=True)
    lease_until = TimeField(null=True)
    email_changed_at = TimeField(null=True)
    email_bounced_at = TimeField(null=True)

    # A page of a sorted list is found at once, however many files there are; the other sorts have their unique index.
    class Meta:
        indexes = tuple(((column, "id"), False) for column in ("last_name", "created_at", "last_login_at"))


class ReissueRun(Table):
    """A named run that issues credentials for many clients; by `worked_until` its workers will be heard of again."""

    id = peewee.AutoField()
    name = peewee.TextField(unique=True)
    selection = peewee.TextField()
    state = peewee.TextField()
    options = peewee.TextField()
    created_at = TimeField()
    worked_until = TimeField(null=True)
    finished_at = TimeField(null=True)


class Credential(Table):
    """One password made for one client, and what became of its mail.

    `bounced_at` is when its mail was told to have come back after the server had accepted it, and `bounce` why. The two
    stand beside the state, which they never change: anybody may write a delivery report.
    """

    id = peewee.AutoField()
    client = peewee.ForeignKeyField(Client, backref="credentials")
    sequence = peewee.IntegerField()
    state = peewee.TextField()
    password_hash = peewee.TextField(null=True)
    run = peewee.ForeignKeyField(ReissueRun, null=True)
    message_id = peewee.TextField(null=True)
    server_reply = peewee.TextField(null=True)
    failure = peewee.TextField(null=True)
    created_at = TimeField()
    settled_at = TimeField(null=True)
    expires_at = TimeField(null=True)
    first_used_at = TimeField(null=True)
    issued_by = peewee.TextField()
    bounced_at = TimeField(null=True)
    bounce = peewee.TextField(null=True)

    class Meta:
        indexes = ((("client", "sequence"), True),)


class ReissueItem(Table):
    """One client of a re-issue run; `attempts` are those that failed, `line` is where a file named the client."""

    id = peewee.AutoField()
    run = peewee.ForeignKeyField(ReissueRun, backref="items")
    client = peewee.ForeignKeyField(Client)
    state = peewee.TextField()
    attempts = peewee.IntegerField(default=0)
    lease_owner = peewee.TextField(null=True)
    lease_until = TimeField(null=True)
    not_before = TimeField()
    failure = peewee.TextField(null=True)
    details = peewee.TextField(null=True)
    line = peewee.IntegerField(null=True)

    class Meta:
        indexes = ((("run", "client"), True),)


# As literals, for a database uses a partial index only where it can see that the query asks for no more.
IS_WAITING = ReissueItem.state == peewee.SQL(f"'{ItemState.WAITING}'")
IS_HELD = ReissueItem.state.in_(peewee.SQL(f"('{ItemState.WORKING}', '{ItemState.SENT}')"))
# Whatever the size of a run, and however many of its mails were put off, what is to be done next is found at once.
ReissueItem.add_index(ReissueItem.run, ReissueItem.not_before, ReissueItem.id, where=IS_WAITING, name="item_waiting")
ReissueItem.add_index(ReissueItem.run, where=IS_HELD, name="item_held")


class MailPace(Table):
    """When the next mail of any re-issue run may leave, where their rate is limited: at most one row."""

    id = peewee.AutoField()
    next_at = TimeField()


class Event(Table):
    """Something that happened; rows are added, never changed, but that an erased client's lose their details."""

    id = peewee.AutoField()
    at = TimeField()
    actor = peewee.TextField()
    host = peewee.TextField()
    action = peewee.TextField()
    client = peewee.ForeignKeyField(Client, null=True, index=False)
    run = peewee.ForeignKeyField(ReissueRun, null=True)
    outcome = peewee.TextField()
    details = peewee.TextField(default="{}")

    # The last of a client are found at once, however many there are.
    class Meta:
        indexes = ((("client", "id"), False),)


class LoginPlace(Table):
    """A login whose password is being compared: it counts towards the limits until it gives a verdict or expires."""

    id = peewee.AutoField()
    client = peewee.ForeignKeyField(Client)
    expires_at = TimeField()


class Installation(Table):
    """A fact about this installation, by name, such as whether it has ever had a mail server."""

    id = peewee.AutoField()
    name = peewee.TextField(unique=True)
    value = peewee.TextField()


TABLES = (Client, ReissueRun, Credential, ReissueItem, Event, MailPace, LoginPlace, Installation)
