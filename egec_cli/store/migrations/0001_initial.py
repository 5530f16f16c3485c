"""The first tables: client, reissue_run, credential, reissue_item, event, mail_pace.

The models are frozen copies: what this script makes must not change with the program.
"""

import peewee


class _Time(peewee.Field):
    field_type = "TIMESTAMPTZ"


class Client(peewee.Model):
    identifier = peewee.CharField(max_length=10, unique=True)
    email = peewee.TextField(null=True)
    email_key = peewee.TextField(null=True, unique=True)
    reference = peewee.TextField(null=True, unique=True)
    civility = peewee.TextField()
    first_name = peewee.TextField()
    last_name = peewee.TextField()
    language = peewee.TextField()
    disabled_at = _Time(null=True)
    created_at = _Time()
    updated_at = _Time()
    active_sequence = peewee.IntegerField()
    revoked_below = peewee.IntegerField()
    last_sequence = peewee.IntegerField()
    failed_logins = peewee.IntegerField()
    blocked_until = _Time(null=True)
    last_login_at = _Time(null=True)
    lease_owner = peewee.TextField(null=True)
    lease_until = _Time(null=True)

    class Meta:
        table_name = "client"
        indexes = tuple(((column, "id"), False) for column in ("last_name", "created_at", "last_login_at"))


class ReissueRun(peewee.Model):
    name = peewee.TextField(unique=True)
    selection = peewee.TextField()
    state = peewee.TextField()
    options = peewee.TextField()
    created_at = _Time()
    worked_until = _Time(null=True)
    finished_at = _Time(null=True)

    class Meta:
        table_name = "reissue_run"


class Credential(peewee.Model):
    client = peewee.ForeignKeyField(Client)
    sequence = peewee.IntegerField()
    state = peewee.TextField()
    password_hash = peewee.TextField(null=True)
    run = peewee.ForeignKeyField(ReissueRun, null=True)
    message_id = peewee.TextField(null=True)
    server_reply = peewee.TextField(null=True)
    failure = peewee.TextField(null=True)
    created_at = _Time()
    settled_at = _Time(null=True)
    expires_at = _Time(null=True)
    first_used_at = _Time(null=True)
    issued_by = peewee.TextField()

    class Meta:
        table_name = "credential"
        indexes = ((("client", "sequence"), True),)


class ReissueItem(peewee.Model):
    run = peewee.ForeignKeyField(ReissueRun)
    client = peewee.ForeignKeyField(Client)
    state = peewee.TextField()
    attempts = peewee.IntegerField()
    lease_owner = peewee.TextField(null=True)
    lease_until = _Time(null=True)
    not_before = _Time()
    failure = peewee.TextField(null=True)
    details = peewee.TextField(null=True)
    line = peewee.IntegerField(null=True)

    class Meta:
        table_name = "reissue_item"
        indexes = ((("run", "client"), True),)


ReissueItem.add_index(
    ReissueItem.run,
    ReissueItem.not_before,
    ReissueItem.id,
    where=ReissueItem.state == peewee.SQL("'waiting'"),
    name="item_waiting",
)
ReissueItem.add_index(ReissueItem.run, where=ReissueItem.state.in_(peewee.SQL("('working', 'sent')")), name="item_held")


class Event(peewee.Model):
    at = _Time()
    actor = peewee.TextField()
    host = peewee.TextField()
    action = peewee.TextField()
    client = peewee.ForeignKeyField(Client, null=True, index=False)
    run = peewee.ForeignKeyField(ReissueRun, null=True)
    outcome = peewee.TextField()
    details = peewee.TextField()

    class Meta:
        table_name = "event"
        indexes = ((("client", "id"), False),)


class MailPace(peewee.Model):
    next_at = _Time()

    class Meta:
        table_name = "mail_pace"


def up(migrator, db):
    """Make the tables."""
    tables = (Client, ReissueRun, Credential, ReissueItem, Event, MailPace)
    db.bind(tables, bind_refs=False, bind_backrefs=False)
    db.create_tables(tables, safe=False)
