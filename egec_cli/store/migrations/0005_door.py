"""Add the counts for limits on activation requests and on failed logins from one network."""

import peewee


class _Time(peewee.Field):
    field_type = "TIMESTAMPTZ"


def up(migrator, db):
    """Create the table, empty."""

    class RateCount(peewee.Model):
        id = peewee.AutoField()
        subject = peewee.TextField(unique=True)
        times = peewee.TextField()
        beyond = peewee.IntegerField()
        ends_at = _Time(index=True)

        class Meta:
            database = db
            table_name = "rate_count"

    db.create_tables([RateCount], safe=False)
