"""The tables, as peewee models. `migrations/` creates them; a test compares the two."""

from datetime import datetime
from enum import StrEnum
from typing import Any

import peewee

from egec_cli import clock

database = peewee.DatabaseProxy()


class CredentialState(StrEnum):
    """The state of a credential and its mail."""

    SENDING = "sending"
    IN_DOUBT = "in_doubt"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    SUPERSEDED = "superseded"
    REVOKED = "revoked"


OPEN_STATES = (CredentialState.SENDING, CredentialState.IN_DOUBT)


class RunState(StrEnum):
    """The state of a run."""

    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    DONE = "done"


class ItemState(StrEnum):
    """The state of a client in a run.

    `sent`: the server accepted the mail, but it is not settled yet. `skipped`: the client has got a newer password
    since the start of the run, and needs no mail of it.
    """

    WAITING = "waiting"
    WORKING = "working"
    SENT = "sent"
    ACCEPTED = "accepted"
    FAILED = "failed"
    SKIPPED = "skipped"


class TimeField(peewee.Field):
    """An aware moment in UTC: `TIMESTAMPTZ` on PostgreSQL, RFC 3339 text on SQLite."""

    field_type = "TIMESTAMPTZ"

    def db_value(self, value: datetime | None) -> str | None:
        """Return the moment as both engines accept it."""
        return None if value is None else clock.to_rfc3339(value)

    def python_value(self, value: Any) -> datetime | None:
        """Return the moment that an engine returned."""
        return clock.parse_time(value) if isinstance(value, str) else value


class Table(peewee.Model):
    """The base of all tables: the database, which is chosen when the program runs."""

    class Meta:
        database = database
        legacy_table_names = False


class Client(Table):
    """A client record.

    `email_bounced_at` is when a mail to the current e-mail last bounced, unless a login shows that a later one arrived.
    It is the same for all clients with that e-mail, also for those who got the e-mail after the bounce.
    `email_share` tells records with the same e-mail apart: 0 for the first, then 1, 2, and so on. `valid_from` and
    `valid_until` are days, such as `2026-01-31`, in EGEC_TIMEZONE. `closing_notified_at` is when the client was last
    told by mail that the account will be closed.
    """

    id = peewee.AutoField()
    identifier = peewee.CharField(max_length=10, unique=True)
    email = peewee.TextField(null=True)
    email_key = peewee.TextField(null=True)
    email_share = peewee.IntegerField(default=0)
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
    valid_from = peewee.TextField(null=True)
    valid_until = peewee.TextField(null=True)
    closing_notified_at = TimeField(null=True)

    # For pages of a sorted list, however many clients there are; the other orders use a unique index.
    class Meta:
        indexes = (
            (("email_key", "email_share"), True),
            *(((column, "id"), False) for column in ("last_name", "created_at", "last_login_at")),
        )


# For the question whether any e-mail is shared.
Client.add_index(Client.email_share, Client.id, where=Client.email_share > peewee.SQL("0"), name="client_sharing")
# For the few clients who may be blocked.
Client.add_index(Client.blocked_until, Client.id, where=Client.blocked_until.is_null(False), name="client_blocked")


class ReissueRun(Table):
    """A named run that issues credentials for many clients; its workers renew `worked_until` before that moment.

    After a pause, the run tries again at `paused_until`; `pauses` counts those since the last accepted mail. `throttle`
    is the slower rate that the mail server asked for, as JSON.
    """

    id = peewee.AutoField()
    name = peewee.TextField(unique=True)
    selection = peewee.TextField()
    state = peewee.TextField()
    options = peewee.TextField()
    created_at = TimeField()
    worked_until = TimeField(null=True)
    finished_at = TimeField(null=True)
    paused_until = TimeField(null=True)
    pauses = peewee.IntegerField(default=0)
    throttle = peewee.TextField(null=True)


class Credential(Table):
    """One password made for one client, with the state of its mail.

    `bounced_at` and `bounce` are the time and the reason of a delivery report that came after the server had
    accepted the mail. They never change the state: anyone can forge a delivery report.
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


# Literals: a partial index is used only if the query visibly asks for nothing else.
MAIL_HAS_FAILED = (Credential.state == peewee.SQL(f"'{CredentialState.REFUSED}'")) | Credential.bounced_at.is_null(
    False
)
# For the few clients with an undeliverable address.
Credential.add_index(Credential.client, where=MAIL_HAS_FAILED, name="credential_failed")


class ReissueItem(Table):
    """One client of a run.

    `attempts` counts those that failed, the first of them at `tried_since`; `line` is that of the client in a file.
    """

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
    tried_since = TimeField(null=True)

    class Meta:
        indexes = ((("run", "client"), True),)


# Literals, as above.
IS_WAITING = ReissueItem.state == peewee.SQL(f"'{ItemState.WAITING}'")
IS_HELD = ReissueItem.state.in_(peewee.SQL(f"('{ItemState.WORKING}', '{ItemState.SENT}')"))
# For the next work of a run, whatever its size and however many of its mails were deferred.
ReissueItem.add_index(ReissueItem.run, ReissueItem.not_before, ReissueItem.id, where=IS_WAITING, name="item_waiting")
ReissueItem.add_index(ReissueItem.run, where=IS_HELD, name="item_held")


class MailPace(Table):
    """When the last mail of runs with a limited rate left, or leaves; at most one row."""

    id = peewee.AutoField()
    last_at = TimeField()


class MailCount(Table):
    """Mails that count towards the quotas: they reached the mail server, or still may, before `ends_at`.

    `owner` is the issuer that still sends them, in the format of a lease; None once they were answered.
    """

    id = peewee.AutoField()
    ends_at = TimeField()
    mails = peewee.IntegerField()
    owner = peewee.TextField(null=True)

    # Both columns, so that the mails in a window are summed from the index alone.
    class Meta:
        indexes = ((("ends_at", "mails"), False),)


class Event(Table):
    """An audit entry. Entries are only added, except that those of an erased client lose their details."""

    id = peewee.AutoField()
    at = TimeField()
    actor = peewee.TextField()
    host = peewee.TextField()
    action = peewee.TextField()
    client = peewee.ForeignKeyField(Client, null=True, index=False)
    run = peewee.ForeignKeyField(ReissueRun, null=True)
    outcome = peewee.TextField()
    details = peewee.TextField(default="{}")

    # For the last entries of a client.
    class Meta:
        indexes = ((("client", "id"), False),)


class LoginPlace(Table):
    """A login whose password is being compared: it counts towards the limits until it ends or expires."""

    id = peewee.AutoField()
    client = peewee.ForeignKeyField(Client)
    expires_at = TimeField()


class RateCount(Table):
    """The recent acts of one subject, such as the requests from a network, for limits on their number.

    `subject` holds no address: a network is a keyed hash. `times` are those of the acts that count, in milliseconds
    since 1970, separated by blanks, the oldest first. `beyond` counts the acts since the last of them. From `ends_at`
    on, the row has no effect.
    """

    id = peewee.AutoField()
    subject = peewee.TextField(unique=True)
    times = peewee.TextField(default="")
    beyond = peewee.IntegerField(default=0)
    ends_at = TimeField(index=True)


class Installation(Table):
    """A fact about this installation, by name, such as whether it has ever had a mail server."""

    id = peewee.AutoField()
    name = peewee.TextField(unique=True)
    value = peewee.TextField()


TABLES = (Client, ReissueRun, Credential, ReissueItem, Event, MailPace, MailCount, LoginPlace, RateCount, Installation)
