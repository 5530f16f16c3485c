"""Add the places of logins that are being compared, and facts about the installation; rename stored codes."""

from functools import reduce
from operator import or_

import peewee

# Error codes, and the outcomes of events.
_CODES = {
    "bad_input": "invalid_input",
    "begun": "started",
    "defect": "internal_error",
    "digit_wrong": "wrong_digit",
    "former_password": "earlier_password",
    "identifier_malformed": "invalid_identifier",
    "lookalikes_exchanged": "lookalikes_confused",
    "no_such_client": "unknown_client",
    "no_such_run": "unknown_run",
    "not_now": "temporary_failure",
    "pasted_along": "extra_characters",
}
# The reasons of refused logins.
_REASONS = {"nothing_opens": "no_password", "wrong": "wrong_password"}


class _Time(peewee.Field):
    field_type = "TIMESTAMPTZ"


def up(migrator, db):
    """Create both tables, empty; replace older codes."""

    class Client(peewee.Model):
        id = peewee.AutoField()

        class Meta:
            database = db

    class LoginPlace(peewee.Model):
        id = peewee.AutoField()
        client = peewee.ForeignKeyField(Client)
        expires_at = _Time()

        class Meta:
            database = db
            table_name = "login_place"

    class Installation(peewee.Model):
        id = peewee.AutoField()
        name = peewee.TextField(unique=True)
        value = peewee.TextField()

        class Meta:
            database = db
            table_name = "installation"

    db.create_tables([LoginPlace, Installation], safe=False)
    _rename_codes(db)


def _rename_codes(db):
    for table, column in (("credential", "failure"), ("reissue_item", "failure"), ("event", "outcome")):
        rows = peewee.Table(table, (column,)).bind(db)
        stored = getattr(rows, column)
        codes = peewee.Case(stored, list(_CODES.items()), stored)
        rows.update({stored: codes}).where(stored.in_(list(_CODES))).execute()
    events = peewee.Table("event", ("action", "details")).bind(db)
    for key, actions, codes in (
        ("reason", ["login"], _REASONS),
        ("failure", ["client.notice", "mail.test"], _CODES),
    ):
        renamed = [(f'"{key}": "{old}"', f'"{key}": "{new}"') for old, new in codes.items()]
        is_old = reduce(or_, [events.details.contains(old) for old, _ in renamed])
        details = reduce(lambda text, words: peewee.fn.REPLACE(text, *words), renamed, events.details)
        events.update({events.details: details}).where(events.action.in_(actions) & is_old).execute()
